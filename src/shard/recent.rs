//! The groups of an extent that came in and are in memory, and who still needs each of them.

use std::sync::Arc;

use bytes::Bytes;

use super::bodies::Group;
use super::command::Origin;

/// What the allocator keeps beside each piece of memory, and what a handle on bytes needs: an estimate from above.
const ALLOCATION_BYTES: usize = 32;
/// So many groups are worth clearing away.
const DEAD_GROUPS_MIN: usize = 16;

/// Who needs a group, and the address of the block that its bytes lie in.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// Queues times messages.
    live: u64,
    block: usize,
}

#[derive(Debug, Default)]
pub(super) struct Recent {
    /// In order. One that nobody needs any more is empty.
    groups: Vec<Group>,
    /// One for each group.
    needs: Vec<Need>,
    dead: usize,
    /// Memory of all this, without what the messages lie in.
    bytes: usize,
}

/// Bytes of messages that are not needed any more, and the address of the block that they lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) block: usize,
    pub(super) bytes: usize,
}

impl Recent {
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Address of the block of one of them, by its number.
    pub(super) fn block(&self, at: usize) -> usize {
        self.needs[at].block
    }

    /// Memory of what stands around the messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a group at the end.
    pub(super) fn push(&mut self, mut group: Group, live: u64, block: usize) {
        match self.groups.last() {
            Some(last) if Arc::ptr_eq(&last.origin, &group.origin) => {}
            Some(last) if last.origin == group.origin => group.origin = Arc::clone(&last.origin),
            _ => self.bytes += origin_bytes(&group.origin),
        }
        if group.ends.capacity() > group.ends.len() + group.ends.len() / 8 {
            group.ends.shrink_to_fit();
        }
        self.bytes += ends_bytes(&group);
        let room = self.room_bytes();
        self.groups.push(group);
        self.needs.push(Need { live, block });
        self.bytes += self.room_bytes() - room;
    }

    /// A queue is done with the messages of these sequences. What nobody needs any more is told to `freed`. `near` is the
    /// number of the first group, if the guess is right.
    pub(super) fn release(&mut self, (first, end): (u64, u64), near: usize, mut freed: impl FnMut(Freed)) {
        let holds = |group: &Group| group.first <= first && first < group.end();
        let mut at = match self.groups.get(near).is_some_and(holds) {
            true => near,
            false => self.groups.partition_point(|group| group.end() <= first),
        };
        while let Some(group) = self.groups.get_mut(at).filter(|group| group.first < end) {
            let (from, to) = (group.first.max(first), group.end().min(end));
            let need = &mut self.needs[at];
            at += 1;
            if group.ends.is_empty() {
                continue;
            }
            need.live -= to - from;
            if need.live == 0 {
                self.bytes -= ends_bytes(group);
                freed(Freed { block: need.block, bytes: group.bytes.len() });
                group.bytes = Bytes::new();
                group.ends = Vec::new();
                self.dead += 1;
            }
        }
    }

    /// Clears away what nobody needs, if it is most of it; whether it did.
    pub(super) fn tidy(&mut self) -> bool {
        if self.dead < DEAD_GROUPS_MIN || self.dead <= self.groups.len() / 2 {
            return false;
        }
        let groups = std::mem::take(&mut self.groups);
        let needs = std::mem::take(&mut self.needs);
        let left = groups.len() - self.dead;
        (self.bytes, self.dead) = (0, 0);
        self.groups.reserve_exact(left);
        self.needs.reserve_exact(left);
        self.bytes = self.room_bytes();
        for (group, need) in groups.into_iter().zip(needs) {
            if !group.ends.is_empty() {
                self.push(group, need.live, need.block);
            }
        }
        true
    }

    /// What all of it frees.
    pub(super) fn freed(&self) -> impl Iterator<Item = Freed> {
        let live = self.groups.iter().zip(&self.needs).filter(|(group, _)| !group.ends.is_empty());
        live.map(|(group, need)| Freed { block: need.block, bytes: group.bytes.len() })
    }

    /// Each group that somebody needs, with the block that it lies in, to be given another place.
    pub(super) fn places(&mut self) -> impl Iterator<Item = (&mut Bytes, &mut usize)> {
        let live = self.groups.iter_mut().zip(&mut self.needs).filter(|(group, _)| !group.ends.is_empty());
        live.map(|(group, need)| (&mut group.bytes, &mut need.block))
    }

    /// Address of the block of each group that somebody needs.
    #[cfg(test)]
    pub(super) fn blocks(&self) -> impl Iterator<Item = (&Group, usize)> {
        let live = self.groups.iter().zip(&self.needs).filter(|(group, _)| !group.ends.is_empty());
        live.map(|(group, need)| (group, need.block))
    }

    fn room_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Group>() + self.needs.capacity() * size_of::<Need>()
    }
}

fn ends_bytes(group: &Group) -> usize {
    group.ends.capacity() * size_of::<u32>() + 2 * ALLOCATION_BYTES
}

fn origin_bytes(origin: &Origin) -> usize {
    let text = origin.exchange.as_str().len() + origin.routing_key.as_str().len();
    size_of::<Origin>() + text + 3 * ALLOCATION_BYTES
}
