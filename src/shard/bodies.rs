//! Where the messages of a shard are: which bytes, in memory or in which batches of the log.
//!
//! Messages that came in together with the same exchange and key form a group, and the groups of some batches an extent.
//! An extent lives until every queue is done with every message of it. The newest extents are in memory; of older ones
//! only is known which batches they are, if the log can give them back. So what is in memory for a message far back is
//! a small part of a byte, however the messages came in.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::blocks::{Block, Blocks};
use super::command::Origin;
use super::read_back::NotRead;
use super::reading::LEFT_ALONE_MILLIS;
use super::recent::{Freed, Recent};
use crate::model::{QueueId, Timestamp};
use crate::queue::SequenceRun;
use crate::storage::LogIndex;

/// Most messages in a group.
const GROUP_MESSAGES_MAX: usize = 4096;
/// Most bytes in a group that several publishes share.
const GROUP_BYTES_MAX: usize = 256 * 1024;
/// Fewer bytes than this are copied out of their block before they go out.
const COPIED_BELOW_BYTES: usize = 16 * 1024;
/// And so are those whose block is more than so many times as long. What waits for a slow socket keeps its block in memory,
/// which nobody counts once its messages are settled.
const KEPT_TIMES_MAX: usize = 16;
/// An extent that has so many bytes takes no more batches. It is read back as a whole, and leaves memory as a whole.
const EXTENT_BYTES_MIN: u64 = 256 * 1024;
/// So many batches without messages may lie between two of an extent: they are read back with it, for nothing.
const EMPTY_BATCHES_MAX: u64 = 4;
/// What a queue holds of a message.
const MESSAGE_REF_BYTES: usize = size_of::<u64>();
/// Dead extents that may stand between live ones before they are cleared away.
const DEAD_EXTENTS_MIN: usize = 1024;

/// Neighbouring messages of one batch with one origin, in memory.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Sequence of the first one; the others follow.
    pub(super) first: u64,
    pub(super) origin: Arc<Origin>,
    pub(super) bytes: Bytes,
    /// Where each message ends in the bytes.
    pub(super) ends: Vec<u32>,
}

impl Group {
    pub(super) fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }
}

/// A group of this turn, whose bytes are still being gathered.
#[derive(Debug)]
struct Fresh {
    group: Group,
    batch: LogIndex,
    /// Where its bytes are in the batch's payload.
    offset: u32,
    len: u32,
    live: u64,
}

/// Whole batches that follow each other.
#[derive(Debug)]
pub(super) struct Extent {
    /// Sequence of the first message, and the one after the last.
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) batches: Batches,
    /// Bytes of all messages.
    pub(super) bytes: u64,
    /// Queues times messages that needed it at first, and that still need it.
    pub(super) all: u64,
    pub(super) live: u64,
    pub(super) held: Held,
}

/// Which batches of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batches {
    pub(super) first: LogIndex,
    pub(super) last: LogIndex,
}

/// What of an extent is in memory.
#[derive(Debug)]
pub(super) enum Held {
    /// Nothing: it has to be read back.
    Nothing,
    /// What came in.
    Recent(Recent),
    /// It was in the log alone and came back for a consumer that is far behind.
    ReadBack(Back),
}

/// What was read back of an extent.
#[derive(Debug)]
pub(super) struct Back {
    groups: Vec<Group>,
    /// Queues whose deliveries are somewhere in it.
    readers: BTreeSet<QueueId>,
    /// Somebody was in it.
    used: bool,
    /// When it came, or a message was last taken.
    touched: Timestamp,
}

impl Back {
    /// Those who wanted it have gone on, or leave it alone.
    fn is_done(&self, now: Timestamp) -> bool {
        self.used && self.readers.is_empty() || now.0 >= self.touched.0 + LEFT_ALONE_MILLIS
    }
}

/// Bytes that were read back and are still held by anybody: the shard, or a delivery on its way to a socket.
pub(super) type HeldBack = Arc<AtomicUsize>;

/// An extent to be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColdExtent {
    /// Sequence of its first message, and the one after the last.
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) batches: Batches,
    /// Bytes of all messages.
    pub(super) bytes: u64,
}

/// Messages of one group, in memory.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) origin: Arc<Origin>,
    pub(super) bytes: Bytes,
    pub(super) count: u64,
    /// Where the extent begins, if it was read back.
    pub(super) read_back: Option<u64>,
    /// It lies in a block of memory that is so much longer than it is that a copy should be kept instead.
    pub(super) is_small_part: bool,
}

#[derive(Debug, Default)]
pub(super) struct Bodies {
    pub(super) extents: VecDeque<Extent>,
    fresh: Vec<Fresh>,
    dead: usize,
    /// Extent and group where the last lookup ended.
    pub(super) hint: (usize, usize),
    /// What the messages that came in lie in, and the memory of what stands around them.
    pub(super) blocks: Blocks,
    around_bytes: usize,
    /// Queues times messages that need them.
    pub(super) live: u64,
    /// What lies before this sequence was looked at for what should be copied out.
    pub(super) swept_below: u64,
    /// Extents that begin before this sequence take no batch that does not follow at once: segments between may go.
    pub(super) closed_below: u64,
    /// Extents that were read back, in that order; some may be gone.
    read_back: VecDeque<u64>,
    held_back: HeldBack,
    now: Timestamp,
    /// Extents before this sequence were made to leave memory.
    pub(super) evicted_below: u64,
}

impl Bodies {
    /// Notes messages that were just copied behind those noted before, at `offset` of the payload of `batch`. Their
    /// bytes come with [`Bodies::freeze`]. `live` 0: all their queues were deleted in the meantime, and nobody will ask
    /// for them.
    pub(super) fn note(
        &mut self,
        first: u64,
        origin: &Arc<Origin>,
        batch: LogIndex,
        offset: u32,
        ends: Vec<u32>,
        live: u64,
    ) {
        let len = ends.last().copied().unwrap_or(0);
        if live == 0 {
            return;
        }
        if let Some(last) = self.fresh.last_mut()
            && (Arc::ptr_eq(&last.group.origin, origin) || last.group.origin == *origin)
            && last.batch == batch
            && last.offset + last.len == offset
            && last.group.ends.len() + ends.len() <= GROUP_MESSAGES_MAX
            && (last.len + len) as usize <= GROUP_BYTES_MAX
        {
            last.group.ends.extend(ends.into_iter().map(|end| end + last.len));
            last.len += len;
            last.live += live;
            return;
        }
        let group = Group { first, origin: Arc::clone(origin), bytes: Bytes::new(), ends };
        self.fresh.push(Fresh { group, batch, offset, len, live });
    }

    /// Gives the noted groups their bytes: `chunk` lies in `block` and begins at `offset` of the batch's payload.
    pub(super) fn freeze(&mut self, chunk: &Bytes, block: Block, offset: u32) {
        for fresh in std::mem::take(&mut self.fresh) {
            let Fresh { mut group, batch, offset: at, len, live } = fresh;
            let start = (at - offset) as usize;
            group.bytes = chunk.slice(start..start + len as usize);
            self.blocks.fill(block, group.bytes.len());
            let (first, end) = (group.first, group.end());
            let extent = self.extent_for(first, end, batch, u64::from(len), live, true);
            if let Held::Recent(recent) = &mut extent.held {
                let before = recent.bytes();
                recent.push(group, live, block.at);
                let more = recent.bytes() - before;
                self.around_bytes += more;
            }
        }
    }

    /// Notes messages found in the log at recovery.
    pub(super) fn recover(&mut self, first: u64, count: u64, batch: LogIndex, bytes: u64, live: u64) {
        if live > 0 {
            self.extent_for(first, first + count, batch, bytes, live, false);
        }
        self.evicted_below = first + count;
    }

    /// The extent for messages at the end, which are counted in.
    fn extent_for(
        &mut self,
        first: u64,
        end: u64,
        batch: LogIndex,
        bytes: u64,
        live: u64,
        recent: bool,
    ) -> &mut Extent {
        let closed_below = self.closed_below;
        let fits = |last: &Extent| {
            let Batches { last: last_batch, .. } = last.batches;
            // No message lies between, so it was settlements alone.
            let is_near = last.end == first
                && last.first >= closed_below
                && batch.0 - last_batch.0 <= EMPTY_BATCHES_MAX + 1;
            last.live > 0
                && matches!(last.held, Held::Recent(_)) == recent
                && (last_batch == batch
                    || (last_batch.next() == batch || is_near) && last.bytes < EXTENT_BYTES_MIN)
        };
        if !self.extents.back().is_some_and(fits) {
            let held = if recent { Held::Recent(Recent::default()) } else { Held::Nothing };
            let batches = Batches { first: batch, last: batch };
            self.extents.push_back(Extent { first, end: first, batches, bytes: 0, all: 0, live: 0, held });
        }
        self.live += live;
        let extent = self.extents.back_mut().expect("there is one now");
        extent.end = end;
        extent.batches.last = batch;
        extent.bytes += bytes;
        extent.all += live;
        extent.live += live;
        extent
    }

    /// The sequence after the last message.
    pub(super) fn end(&self) -> u64 {
        self.extents.back().map_or(0, |extent| extent.end)
    }

    /// No message before this one is needed; `None`: none at all.
    pub(super) fn needed_from(&self) -> Option<u64> {
        self.extents.front().map(|extent| extent.first)
    }

    /// Segments that nobody needs now may be removed, whatever comes later.
    pub(super) fn close(&mut self) {
        self.closed_below = self.end();
    }

    /// Batches that hold messages which somebody still needs, in order.
    pub(super) fn needed(&self) -> impl Iterator<Item = Batches> {
        self.extents.iter().filter(|extent| extent.live > 0).map(|extent| extent.batches)
    }

    /// Memory that messages take which were not read back: the blocks that they lie in, and what stands around them.
    pub(super) fn recent_bytes(&self) -> usize {
        self.blocks.bytes() + self.around_bytes
    }

    /// The same with what is known of each message, in memory or not, here and in the queues.
    pub(super) fn memory_bytes(&self) -> usize {
        let queued = usize::try_from(self.live).unwrap_or(usize::MAX).saturating_mul(MESSAGE_REF_BYTES);
        self.recent_bytes().saturating_add(queued) + self.extents.len() * size_of::<Extent>()
    }

    /// A queue is done with these messages.
    pub(super) fn release(&mut self, run: SequenceRun) {
        let end = run.first.0 + run.count;
        let mut sequence = run.first.0;
        while sequence < end {
            let Some(index) = self.find(sequence) else { return };
            let extent = &mut self.extents[index];
            let extent_end = extent.end.min(end);
            extent.live -= extent_end - sequence;
            self.live -= extent_end - sequence;
            if extent.live == 0 {
                self.dead += 1;
                self.drop_held(index);
            } else if let Held::Recent(recent) = &mut extent.held {
                let before = recent.bytes();
                let blocks = &mut self.blocks;
                let freed = |Freed { block, bytes }| blocks.remove(block, bytes);
                recent.release((sequence, extent_end), self.hint.1, freed);
                if recent.tidy() {
                    self.hint.1 = 0;
                }
                self.around_bytes = self.around_bytes + recent.bytes() - before;
            }
            sequence = extent_end;
        }
        self.clear_dead();
    }

    fn clear_dead(&mut self) {
        while self.extents.front().is_some_and(|extent| extent.live == 0) {
            self.extents.pop_front();
            self.dead -= 1;
            self.hint.0 = self.hint.0.saturating_sub(1);
        }
        if self.dead > DEAD_EXTENTS_MIN && self.dead > self.extents.len() / 2 {
            self.extents.retain(|extent| extent.live > 0);
            self.dead = 0;
            self.hint = (0, 0);
        }
    }

    /// The longest beginning of `run` that lies in one group; `Err` if that group is not in memory.
    pub(super) fn look_up(&mut self, run: SequenceRun) -> Result<Found, Missing> {
        let sequence = run.first.0;
        let index = self.find(sequence).ok_or(Missing::Unknown)?;
        let extent = &mut self.extents[index];
        let (groups, read_back, recent) = match &mut extent.held {
            Held::Nothing => return Err(Missing::Cold),
            Held::Recent(recent) => (recent.groups(), None, Some(&*recent)),
            Held::ReadBack(back) => {
                back.touched = self.now;
                (&back.groups[..], Some(extent.first), None)
            }
        };
        let holds = |group: &Group| group.first <= sequence && sequence < group.end();
        let near = [self.hint.1, self.hint.1 + 1];
        let at = match near.into_iter().find(|at| groups.get(*at).is_some_and(holds)) {
            Some(at) => at,
            None => groups.partition_point(|group| group.end() <= sequence),
        };
        let group = groups.get(at).filter(|group| holds(group)).ok_or(Missing::Unknown)?;
        self.hint.1 = at;
        let skipped = (sequence - group.first) as usize;
        let count = run.count.min(group.end() - sequence);
        let start = if skipped == 0 { 0 } else { group.ends[skipped - 1] as usize };
        let end = group.ends[skipped + count as usize - 1] as usize;
        let bytes = group.bytes.slice(start..end);
        // What was read back is counted until nobody holds it.
        let is_small_part = bytes.len() < COPIED_BELOW_BYTES
            || recent.is_some_and(|recent| {
                self.blocks.length(recent.block(at)) > bytes.len().saturating_mul(KEPT_TIMES_MAX)
            });
        Ok(Found { origin: Arc::clone(&group.origin), bytes, count, read_back, is_small_part })
    }

    /// A queue's deliveries have come from one extent that was read back to another one, or to none.
    pub(super) fn move_reader(&mut self, queue: QueueId, from: Option<u64>, to: Option<u64>) {
        if let Some(back) = from.and_then(|first| self.back_at(first)) {
            back.readers.remove(&queue);
        }
        if let Some(back) = to.and_then(|first| self.back_at(first)) {
            back.readers.insert(queue);
            back.used = true;
        }
    }

    /// Who wanted what was read back with this message has had it: it makes room for others, unless a queue is in it.
    pub(super) fn mark_used(&mut self, sequence: u64) {
        if let Some(index) = self.find(sequence)
            && let Held::ReadBack(back) = &mut self.extents[index].held
        {
            back.used = true;
        }
    }

    /// Extents from the one with this sequence on that should be read back together; none if it is in memory, or not
    /// needed any more.
    pub(super) fn cold_from(&mut self, sequence: u64, ahead_bytes: u64) -> Vec<ColdExtent> {
        // One that nobody needs any more is not read, nor are others in its place: whoever waits for it is to hear.
        let Some(index) = self.find(sequence).filter(|index| self.extents[*index].live > 0) else {
            return Vec::new();
        };
        let mut bytes = 0u64;
        self.extents
            .range(index..)
            .filter(|extent| extent.live > 0)
            .take_while(|extent| {
                let more = matches!(extent.held, Held::Nothing)
                    && (bytes == 0 || bytes + extent.bytes <= ahead_bytes);
                bytes += extent.bytes;
                more
            })
            .map(|extent| ColdExtent {
                first: extent.first,
                end: extent.end,
                batches: extent.batches,
                bytes: extent.bytes,
            })
            .collect()
    }

    /// Whether somebody still needs what was to be read back.
    pub(super) fn is_cold(&mut self, cold: &ColdExtent) -> bool {
        self.find(cold.first).is_some_and(|index| {
            let extent = &self.extents[index];
            extent.live > 0 && extent.first == cold.first && matches!(extent.held, Held::Nothing)
        })
    }

    /// Takes the groups of an extent's batches, in order. Those that nobody needs any more are dropped, and those of a
    /// neighbour that shares a batch.
    pub(super) fn install(&mut self, cold: &ColdExtent, mut groups: Vec<Group>) -> Result<(), NotRead> {
        if !self.is_cold(cold) {
            return Ok(());
        }
        let index = self.find(cold.first).expect("it was found a moment ago");
        let extent = &mut self.extents[index];
        groups.retain(|group| extent.first <= group.first && group.end() <= extent.end);
        if !groups.is_sorted_by(|one, next| one.end() <= next.first) {
            return Err(NotRead::OutOfOrder(extent.batches));
        }
        self.clear_names();
        let index = self.find(cold.first).expect("it was found a moment ago");
        let extent = &mut self.extents[index];
        let (readers, touched) = (BTreeSet::new(), self.now);
        extent.held = Held::ReadBack(Back { groups, readers, used: false, touched });
        self.read_back.push_back(extent.first);
        Ok(())
    }

    /// Time goes on.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Makes the oldest extents leave memory until `bytes_max` is kept of what came in. What was read back is not counted
    /// here: a consumer that is far behind needs the oldest messages, one that is not needs the newest. Only what is durable
    /// can be read back.
    pub(super) fn evict(&mut self, bytes_max: usize, durable: LogIndex) {
        if self.recent_bytes() <= bytes_max {
            return;
        }
        let mut index = self.extents.partition_point(|extent| extent.first < self.evicted_below);
        while self.recent_bytes() > bytes_max && index < self.extents.len() {
            let extent = &self.extents[index];
            if extent.batches.last > durable {
                break;
            }
            self.evicted_below = extent.end;
            if matches!(extent.held, Held::Recent(_)) {
                self.drop_held(index);
            }
            index += 1;
        }
    }

    /// Bytes that were read back and are still held by anybody.
    pub(super) fn held_back(&self) -> usize {
        self.held_back.load(Ordering::Relaxed)
    }

    /// Where those are counted.
    pub(super) fn held_back_counter(&self) -> HeldBack {
        Arc::clone(&self.held_back)
    }

    /// Drops what was read back and is done with, oldest first, until there is room for so many bytes within a bound;
    /// `false` if there is none.
    pub(super) fn make_room(&mut self, (bytes, bytes_max): (usize, usize), now: Timestamp) -> bool {
        let mut at = 0;
        while self.held_back() + bytes > bytes_max
            && let Some(first) = self.read_back.get(at).copied()
        {
            let index = self.index_of(first);
            match index.map(|index| &self.extents[index].held) {
                Some(Held::ReadBack(back)) if !back.is_done(now) => {
                    at += 1;
                    continue;
                }
                Some(Held::ReadBack(_)) => index.into_iter().for_each(|index| self.drop_held(index)),
                _ => {}
            }
            self.read_back.remove(at);
        }
        self.held_back() + bytes <= bytes_max
    }

    /// What names extents that were read back must not grow without them.
    fn clear_names(&mut self) {
        if self.read_back.len() > 8 * DEAD_EXTENTS_MIN {
            let mut read_back = std::mem::take(&mut self.read_back);
            read_back.retain(|first| self.back_at(*first).is_some());
            self.read_back = read_back;
        }
    }

    fn index_of(&self, first: u64) -> Option<usize> {
        let index = self.extents.partition_point(|extent| extent.first < first);
        self.extents.get(index).filter(|extent| extent.first == first).map(|_| index)
    }

    fn back_at(&mut self, first: u64) -> Option<&mut Back> {
        let index = self.index_of(first)?;
        match &mut self.extents[index].held {
            Held::ReadBack(back) => Some(back),
            _ => None,
        }
    }

    fn drop_held(&mut self, index: usize) {
        match std::mem::replace(&mut self.extents[index].held, Held::Nothing) {
            Held::Nothing => {}
            Held::Recent(recent) => {
                self.around_bytes -= recent.bytes();
                recent.freed().for_each(|Freed { block, bytes }| self.blocks.remove(block, bytes));
            }
            // It is counted until the last delivery of it was written.
            Held::ReadBack(_) => {}
        }
    }

    pub(super) fn find(&mut self, sequence: u64) -> Option<usize> {
        let holds = |extent: &Extent| extent.first <= sequence && sequence < extent.end;
        let near = [self.hint.0, self.hint.0 + 1];
        let index = match near.into_iter().find(|index| self.extents.get(*index).is_some_and(holds)) {
            Some(index) => index,
            None => self.extents.partition_point(|extent| extent.end <= sequence),
        };
        if !self.extents.get(index).is_some_and(holds) {
            return None;
        }
        if self.hint.0 != index {
            self.hint = (index, 0);
        }
        Some(index)
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
mod tests;
