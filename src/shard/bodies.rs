//! Where the messages of a shard are: which bytes, in memory or in which batch of the log.
//!
//! Messages that came in together with the same exchange and key form a group. A group lives until every queue is
//! done with every message of it. The newest groups stay in memory; older ones leave it if the log can give them back.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::command::Origin;
use crate::model::message_ends;
use crate::queue::SequenceRun;
use crate::storage::LogIndex;

/// Most messages in a group.
const GROUP_MESSAGES_MAX: usize = 4096;
/// Most bytes in a group that several publishes share.
const GROUP_BYTES_MAX: usize = 256 * 1024;
/// Bytes that one read brings back.
const READ_AHEAD_BYTES: u64 = 1024 * 1024;
/// Bytes that were read back and not used up that are kept.
const READ_BACK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Dead groups that may stand between live ones before they are cleared away.
const DEAD_GROUPS_MIN: usize = 1024;

#[derive(Debug)]
struct Group {
    first: u64,
    count: u32,
    origin: Arc<Origin>,
    place: BodyPlace,
    /// Queues times messages that still need it.
    live: u64,
    resident: Option<Resident>,
}

#[derive(Debug)]
struct Resident {
    bytes: Bytes,
    ends: Vec<u32>,
    /// It was in the log alone and came back for a consumer that is far behind.
    read_back: bool,
}

/// Where a group's bytes are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BodyPlace {
    /// The batch.
    pub(super) index: LogIndex,
    /// First byte in its payload.
    pub(super) offset: u32,
    /// Number of bytes.
    pub(super) len: u32,
}

/// A group to be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColdGroup {
    pub(super) first: u64,
    pub(super) place: BodyPlace,
}

/// Messages of one group, in memory.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) origin: Arc<Origin>,
    pub(super) bytes: Bytes,
    pub(super) count: u64,
}

#[derive(Debug, Default)]
pub(super) struct Bodies {
    groups: VecDeque<Group>,
    /// Groups of this turn, whose bytes are still being gathered.
    fresh: Vec<Group>,
    dead: usize,
    /// Where the last lookup ended.
    hint: usize,
    resident_bytes: usize,
    /// Groups that were read back, in that order; some may be gone.
    read_back: VecDeque<u64>,
    read_back_bytes: usize,
    /// Groups before this sequence were made to leave memory.
    evicted_below: u64,
}

impl Bodies {
    /// Notes messages that were just copied behind those noted before. Their bytes come with [`Bodies::freeze`].
    /// `live` 0: all their queues were deleted in the meantime, and nobody will ask for them.
    pub(super) fn note(
        &mut self,
        first: u64,
        origin: &Arc<Origin>,
        place: BodyPlace,
        ends: Vec<u32>,
        live: u64,
    ) {
        if live == 0 {
            return;
        }
        let count = ends.len() as u32;
        if let Some(group) = self.fresh.last_mut()
            && (Arc::ptr_eq(&group.origin, origin) || group.origin == *origin)
            && group.place.offset + group.place.len == place.offset
            && group.count as usize + ends.len() <= GROUP_MESSAGES_MAX
            && (group.place.len + place.len) as usize <= GROUP_BYTES_MAX
        {
            let resident = group.resident.as_mut().expect("a fresh group is in memory");
            resident.ends.extend(ends.into_iter().map(|end| end + group.place.len));
            group.place.len += place.len;
            group.count += count;
            group.live += live;
            return;
        }
        let resident = Some(Resident { bytes: Bytes::new(), ends, read_back: false });
        self.fresh.push(Group { first, count, origin: Arc::clone(origin), place, live, resident });
    }

    /// Gives the noted groups their bytes: `chunk` begins at `offset` of the batch's payload.
    pub(super) fn freeze(&mut self, chunk: &Bytes, offset: u32) {
        for mut group in self.fresh.drain(..) {
            let start = (group.place.offset - offset) as usize;
            let resident = group.resident.as_mut().expect("a fresh group is in memory");
            resident.bytes = chunk.slice(start..start + group.place.len as usize);
            self.resident_bytes += resident.bytes.len();
            self.groups.push_back(group);
        }
    }

    /// Notes messages found in the log at recovery.
    pub(super) fn recover(
        &mut self,
        first: u64,
        count: u32,
        origin: Arc<Origin>,
        place: BodyPlace,
        live: u64,
    ) {
        if live > 0 {
            self.groups.push_back(Group { first, count, origin, place, live, resident: None });
        }
        self.evicted_below = first + u64::from(count);
    }

    /// Bytes in memory of messages that were not read back.
    pub(super) fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// A queue is done with these messages.
    pub(super) fn release(&mut self, run: SequenceRun) {
        let end = run.first.0 + run.count;
        let mut sequence = run.first.0;
        while sequence < end {
            let Some(index) = self.find(sequence) else { return };
            let group = &mut self.groups[index];
            let group_end = (group.first + u64::from(group.count)).min(end);
            group.live -= group_end - sequence;
            sequence = group_end;
            if group.live == 0 {
                self.dead += 1;
                let resident = group.resident.take();
                self.subtract(resident);
            }
        }
        self.clear_dead();
    }

    fn clear_dead(&mut self) {
        while self.groups.front().is_some_and(|group| group.live == 0) {
            self.groups.pop_front();
            self.dead -= 1;
            self.hint = self.hint.saturating_sub(1);
        }
        if self.dead > DEAD_GROUPS_MIN && self.dead > self.groups.len() / 2 {
            self.groups.retain(|group| group.live > 0);
            self.dead = 0;
            self.hint = 0;
        }
    }

    /// The longest beginning of `run` that lies in one group; `Err` if that group is not in memory.
    pub(super) fn look_up(&mut self, run: SequenceRun) -> Result<Found, Missing> {
        let index = self.find(run.first.0).ok_or(Missing::Unknown)?;
        let group = &self.groups[index];
        let Some(resident) = &group.resident else { return Err(Missing::Cold) };
        let skipped = (run.first.0 - group.first) as usize;
        let count = run.count.min(u64::from(group.count) - skipped as u64);
        let start = if skipped == 0 { 0 } else { resident.ends[skipped - 1] as usize };
        let end = resident.ends[skipped + count as usize - 1] as usize;
        Ok(Found { origin: Arc::clone(&group.origin), bytes: resident.bytes.slice(start..end), count })
    }

    /// Groups from the one with this sequence on that should be read back together.
    pub(super) fn cold_from(&mut self, sequence: u64) -> Vec<ColdGroup> {
        let Some(index) = self.find(sequence) else { return Vec::new() };
        let mut bytes = 0u64;
        self.groups
            .range(index..)
            .filter(|group| group.live > 0)
            .take_while(|group| {
                let more = group.resident.is_none() && (bytes == 0 || bytes < READ_AHEAD_BYTES);
                bytes += u64::from(group.place.len);
                more
            })
            .map(|group| ColdGroup { first: group.first, place: group.place })
            .collect()
    }

    /// Takes bytes that were read back. Those of a group that has gone in the meantime are dropped.
    pub(super) fn install(&mut self, first: u64, bytes: Bytes) -> Result<(), String> {
        let Some(index) = self.find(first) else { return Ok(()) };
        let group = &mut self.groups[index];
        if group.live == 0 {
            return Ok(());
        }
        let ends = message_ends(&bytes).filter(|ends| ends.len() == group.count as usize);
        let ends = ends.ok_or_else(|| {
            format!(
                "batch {} holds other messages than {} at byte {}",
                group.place.index, first, group.place.offset
            )
        })?;
        let bytes_len = bytes.len();
        let former = group.resident.replace(Resident { bytes, ends, read_back: true });
        self.read_back.push_back(group.first);
        self.read_back_bytes += bytes_len;
        self.subtract(former);
        Ok(())
    }

    /// Makes the oldest groups leave memory until `bytes_max` is kept of what came in, and the rest of what was read
    /// back first until [`READ_BACK_BYTES_MAX`] is kept of that. The two do not compete: a consumer that is far
    /// behind needs the oldest messages, one that is not needs the newest. Only what is durable can be read back.
    pub(super) fn evict(&mut self, bytes_max: usize, durable: LogIndex) {
        self.evict_read_back();
        if self.resident_bytes <= bytes_max {
            return;
        }
        let mut index = self.groups.partition_point(|group| group.first < self.evicted_below);
        while self.resident_bytes > bytes_max && index < self.groups.len() {
            let group = &mut self.groups[index];
            if group.place.index > durable {
                break;
            }
            self.evicted_below = group.first + u64::from(group.count);
            let resident = group.resident.take_if(|resident| !resident.read_back);
            self.subtract(resident);
            index += 1;
        }
    }

    fn evict_read_back(&mut self) {
        while self.read_back_bytes > READ_BACK_BYTES_MAX
            && let Some(first) = self.read_back.pop_front()
        {
            let index = self.groups.partition_point(|group| group.first < first);
            if let Some(group) = self.groups.get_mut(index).filter(|group| group.first == first) {
                let resident = group.resident.take_if(|resident| resident.read_back);
                self.subtract(resident);
            }
        }
        if self.read_back.len() > 8 * DEAD_GROUPS_MIN {
            let groups = &self.groups;
            self.read_back.retain(|first| {
                let index = groups.partition_point(|group| group.first < *first);
                groups.get(index).is_some_and(|group| {
                    group.first == *first
                        && group.resident.as_ref().is_some_and(|resident| resident.read_back)
                })
            });
        }
    }

    fn subtract(&mut self, gone: Option<Resident>) {
        match gone {
            Some(Resident { bytes, read_back: true, .. }) => self.read_back_bytes -= bytes.len(),
            Some(Resident { bytes, read_back: false, .. }) => self.resident_bytes -= bytes.len(),
            None => {}
        }
    }

    fn find(&mut self, sequence: u64) -> Option<usize> {
        let holds =
            |group: &Group| group.first <= sequence && sequence < group.first + u64::from(group.count);
        for index in [self.hint, self.hint + 1] {
            if self.groups.get(index).is_some_and(holds) {
                self.hint = index;
                return Some(index);
            }
        }
        let index = self.groups.partition_point(|group| group.first + u64::from(group.count) <= sequence);
        self.groups.get(index).is_some_and(holds).then(|| {
            self.hint = index;
            index
        })
    }
}

/// Why a message's bytes are not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// They are in the log alone.
    Cold,
    /// No group holds this sequence.
    Unknown,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::BodySequence;

    fn run(first: u64, count: u64) -> SequenceRun {
        SequenceRun { first: BodySequence(first), count }
    }

    /// Messages of 4 bytes each: field 5, length 2, two bytes.
    fn bytes(count: usize) -> Bytes {
        (0..count).flat_map(|n| [0x2a, 2, n as u8, 0]).collect()
    }

    fn store(groups: &[(u64, usize)]) -> Bodies {
        let mut bodies = Bodies::default();
        let mut offset = 0;
        for (first, count) in groups {
            let origin = Arc::new(Origin {
                exchange: crate::model::ExchangeName::new(&first.to_string()).unwrap(),
                routing_key: crate::model::RoutingKey::default(),
            });
            let len = (count * 4) as u32;
            let ends = (1..=*count as u32).map(|n| n * 4).collect();
            bodies.note(*first, &origin, BodyPlace { index: LogIndex(1), offset, len }, ends, *count as u64);
            offset += len;
        }
        bodies.freeze(&bytes(offset as usize / 4), 0);
        bodies
    }

    #[test]
    fn a_run_over_two_groups_is_found_piece_by_piece() {
        let mut bodies = store(&[(1, 3), (4, 2)]);
        let found = bodies.look_up(run(2, 4)).unwrap();
        assert_eq!((found.count, found.bytes.len()), (2, 8));
        let found = bodies.look_up(run(4, 2)).unwrap();
        assert_eq!((found.count, found.bytes[2]), (2, 3));
        assert_eq!(bodies.look_up(run(6, 1)).unwrap_err(), Missing::Unknown);
    }

    #[test]
    fn memory_is_given_back_with_the_last_message_of_a_group() {
        let mut bodies = store(&[(1, 3), (4, 2)]);
        bodies.release(run(2, 3));
        assert_eq!(bodies.resident_bytes, 20);
        bodies.release(run(5, 1));
        assert_eq!(bodies.resident_bytes, 12);
        bodies.release(run(1, 1));
        assert_eq!((bodies.resident_bytes, bodies.groups.len()), (0, 0));
    }

    #[test]
    fn what_left_memory_comes_back_from_the_log() {
        let mut bodies = store(&[(1, 3), (4, 2)]);
        bodies.evict(8, LogIndex(1));
        assert_eq!(bodies.look_up(run(1, 1)).unwrap_err(), Missing::Cold);
        assert!(bodies.look_up(run(4, 1)).is_ok());
        let cold = bodies.cold_from(2);
        assert_eq!(
            cold,
            [ColdGroup { first: 1, place: BodyPlace { index: LogIndex(1), offset: 0, len: 12 } }]
        );
        assert!(bodies.install(1, bytes(2)).is_err(), "another number of messages");
        bodies.install(1, bytes(3)).unwrap();
        assert_eq!(bodies.look_up(run(2, 2)).unwrap().bytes, bytes(3).slice(4..));
    }

    #[test]
    fn messages_without_a_queue_are_not_kept() {
        let mut bodies = store(&[(1, 3)]);
        let origin = Arc::clone(&bodies.groups[0].origin);
        let place = BodyPlace { index: LogIndex(1), offset: 12, len: 4 };
        bodies.note(4, &origin, place, vec![4], 0);
        bodies.recover(5, 1, origin, place, 0);
        bodies.freeze(&bytes(1), 12);
        bodies.release(run(1, 3));
        assert_eq!((bodies.resident_bytes, bodies.groups.len(), bodies.dead), (0, 0, 0));
    }

    #[test]
    fn what_comes_back_too_late_is_dropped() {
        let mut bodies = store(&[(1, 3), (4, 2)]);
        bodies.evict(0, LogIndex(1));
        bodies.release(run(4, 2));
        bodies.install(4, bytes(2)).unwrap();
        assert_eq!(bodies.resident_bytes, 0);
    }

    #[test]
    fn what_is_not_durable_stays() {
        let mut bodies = store(&[(1, 3)]);
        bodies.evict(0, LogIndex(0));
        assert!(bodies.look_up(run(1, 3)).is_ok());
    }
}
