//! The messages of a queue in their order, delivered or not, until they leave.
//!
//! Chunks of 4,096 references. A message that leaves is marked dead in place; a chunk goes when all of its messages
//! are dead, and one behind the oldest forgets its dead when three quarters of them are: a message that stays for long
//! pins its own 8 bytes, not those of its neighbours. A cursor stands before the first message that was never handed
//! out. Chunks far from it are packed, so that a long backlog takes a few bytes a chunk.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;

use prost::encoding::encode_varint;

use super::chunk::{CHUNK_MESSAGES, Chunk, Messages, live_in};
use super::fault::{QueueFault, number};
use super::message_ref::MessageRef;
use super::packed::Packed;
use super::sequence_runs::SequenceRun;
use crate::model::BodySequence;

/// A backlog of a handful of messages should not hold a whole chunk's memory.
const FIRST_CAPACITY: usize = 4;
/// An empty queue keeps at most this much room for the next messages.
const IDLE_CAPACITY_MAX: usize = 512;
/// Chunks of fewer messages are not worth making smaller.
const SHRINK_MESSAGES_MIN: usize = 64;
/// Most chunks of a queue that are not packed, a few at the cursor and the end aside: 2 MiB.
const OPEN_CHUNKS_MAX: usize = 64;

/// Where a message stands: chunk (counted since the queue began) and place in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    chunk: u64,
    offset: usize,
}

#[derive(Debug, Default)]
pub(super) struct Backlog {
    chunks: VecDeque<Chunk>,
    /// Number of `chunks[0]`.
    first_chunk: u64,
    cursor: Place,
    /// Chunks that are not packed.
    open: usize,
    /// Where the next removal will probably be: consumers settle in order.
    hint: Place,
    live: u64,
    live_bytes: u64,
    last_sequence: u64,
}

impl Backlog {
    /// Adds messages at the end: `first`, `first + 1`, … of these sizes; returns how many. `first` is higher than all before.
    pub(super) fn extend(&mut self, first: BodySequence, sizes_bytes: impl Iterator<Item = u32>) -> u64 {
        debug_assert!(self.last_sequence < first.0 || self.last_sequence == 0);
        let mut sizes_bytes = sizes_bytes.peekable();
        let mut next = first.0;
        while sizes_bytes.peek().is_some() {
            let chunk = self.chunk_with_room();
            let Some(messages) = chunk.open_mut() else { break };
            let before = messages.refs().len();
            let mut bytes = 0;
            for size_bytes in sizes_bytes.by_ref().take(CHUNK_MESSAGES - before) {
                let (message, remainder) = MessageRef::with_remainder(BodySequence(next), size_bytes);
                bytes += u64::from(size_bytes);
                messages.push(message, remainder);
                next += 1;
            }
            let added = messages.refs().len() - before;
            chunk.live += added as u32;
            self.live += added as u64;
            self.live_bytes += bytes;
        }
        let count = next - first.0;
        if count > 0 {
            self.last_sequence = next - 1;
        }
        count
    }

    /// The last chunk, if it takes more, or a new one. It is open.
    fn chunk_with_room(&mut self) -> &mut Chunk {
        if !self.chunks.back().is_some_and(Chunk::has_room) {
            let capacity = if self.chunks.is_empty() { FIRST_CAPACITY } else { CHUNK_MESSAGES };
            if !self.chunks.is_empty() {
                self.shrink(self.chunks.len() - 1);
            }
            self.pack_before_end();
            self.chunks.push_back(Chunk::with_capacity(capacity));
            self.open += 1;
        }
        self.chunks.back_mut().expect("a chunk was pushed above if there was none")
    }

    /// Memory that it takes, chunk by chunk.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>()
            + self.chunks.iter().map(Chunk::memory_bytes).sum::<usize>()
    }

    /// Messages that have not left.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// Their bytes.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Sequence of the newest message ever pushed; 0 before the first.
    pub(super) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// The first message that was never handed out.
    pub(super) fn peek(&mut self) -> Option<MessageRef> {
        loop {
            let index = (self.cursor.chunk - self.first_chunk) as usize;
            self.unpack(index)?;
            let messages = self.chunks[index].open();
            match messages[self.cursor.offset..].iter().position(|message| !message.is_dead()) {
                Some(skipped) => {
                    self.cursor.offset += skipped;
                    return Some(messages[self.cursor.offset]);
                }
                None if index + 1 == self.chunks.len() => {
                    self.cursor.offset = messages.len();
                    return None;
                }
                None => self.cursor = Place { chunk: self.cursor.chunk + 1, offset: 0 },
            }
        }
    }

    /// Moves the cursor past the message that `peek` returned and those right behind it whose sequences follow: `count_max`
    /// messages at most, all of them below `below`, and none once `bytes_max` are reached, but for the first. Returns them and
    /// their bytes.
    pub(super) fn advance(&mut self, count_max: u64, below: u64, bytes_max: u64) -> (&[MessageRef], u64) {
        let index = (self.cursor.chunk - self.first_chunk) as usize;
        let waiting = self
            .chunks
            .get(index)
            .map_or(&[][..], |chunk| chunk.open().get(self.cursor.offset..).unwrap_or(&[]));
        let Some(first) = waiting.first() else { return (&[], 0) };
        let count_max = count_max.min(below.saturating_sub(first.sequence())) as usize;
        let mut bytes = first.size_bytes();
        let mut count = 1;
        for message in waiting.iter().take(count_max).skip(1) {
            // The dead have another number.
            if bytes >= bytes_max || message.is_dead() || message.sequence() != first.sequence() + count {
                break;
            }
            bytes += message.size_bytes();
            count += 1;
        }
        self.cursor.offset += count as usize;
        (&waiting[..count as usize], bytes)
    }

    /// Whether the message with this sequence stands before the cursor. It must be live.
    pub(super) fn handed_out(&mut self, sequence: u64) -> bool {
        self.peek().is_none_or(|next| sequence < next.sequence())
    }

    /// Takes the live messages with these sequences out; tells of each of them, with what its reference does not tell of its
    /// size, and of each run of them that follow each other.
    pub(super) fn remove(
        &mut self,
        sequences: Range<u64>,
        mut each: impl FnMut(MessageRef, u16),
        mut removed: impl FnMut(SequenceRun),
    ) {
        let mut start = sequences.start;
        while start < sequences.end
            && let Some(place) = self.seek(start)
        {
            let index = (place.chunk - self.first_chunk) as usize;
            let is_last = index + 1 == self.chunks.len();
            let chunk = &mut self.chunks[index];
            let Some(messages) = chunk.open_mut() else { return };
            let (messages, remainders) = messages.parts_mut();
            let mut offset = place.offset;
            let mut run = SequenceRun { first: BodySequence(start), count: 0 };
            let (mut count, mut bytes) = (0, 0);
            while let Some(message) = messages.get_mut(offset)
                && message.sequence() < sequences.end
            {
                let remainder = remainders.get(offset).copied().unwrap_or(0);
                offset += 1;
                if message.is_dead() {
                    continue;
                }
                if run.first.0 + run.count != message.sequence() {
                    if run.count > 0 {
                        removed(run);
                    }
                    run = SequenceRun { first: BodySequence(message.sequence()), count: 0 };
                }
                run.count += 1;
                count += 1;
                bytes += message.size_bytes() + u64::from(remainder);
                each(*message, remainder);
                *message = message.dead();
            }
            // What is at the end of this chunk is not beyond.
            start = if offset == messages.len() { chunk.last_sequence() + 1 } else { sequences.end };
            if run.count > 0 {
                removed(run);
            }
            chunk.live -= count;
            self.live -= u64::from(count);
            self.live_bytes -= bytes;
            self.hint = Place { chunk: place.chunk, offset };
            if count > 0 && self.live == 0 {
                self.clear();
            } else if count > 0 && !is_last {
                self.shrink(index);
            }
        }
    }

    /// Live messages that were never handed out, oldest first.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = MessageRef> {
        let from = self.peek().map_or(u64::MAX, MessageRef::sequence);
        let first = (self.cursor.chunk - self.first_chunk) as usize;
        let chunks = self.chunks.range(first.min(self.chunks.len())..);
        chunks.flat_map(Chunk::live_messages).skip_while(move |message| message.sequence() < from)
    }

    /// How many live messages were never handed out.
    pub(super) fn waiting_count(&mut self) -> u64 {
        let Some(next) = self.peek() else { return 0 };
        // The chunk at the cursor is looked through, of those behind it all are.
        let at = (self.cursor.chunk - self.first_chunk) as usize;
        let here = self.chunks[at].live_messages().filter(|message| message.sequence() >= next.sequence());
        let behind: u64 = self.chunks.range(at + 1..).map(|chunk| u64::from(chunk.live)).sum();
        here.count() as u64 + behind
    }

    /// All live messages, handed out or not, oldest first.
    pub(super) fn live_messages(&self) -> impl Iterator<Item = MessageRef> {
        self.chunks.iter().flat_map(Chunk::live_messages)
    }

    /// Live messages in a range of sequences, oldest first.
    pub(super) fn live_in(&self, range: Range<u64>) -> impl Iterator<Item = MessageRef> {
        live_in(&self.chunks, range)
    }

    /// The live message with this sequence.
    pub(super) fn get(&mut self, sequence: u64) -> Option<MessageRef> {
        let place = self.seek(sequence)?;
        let chunk = self.chunks.get((place.chunk - self.first_chunk) as usize)?;
        // An empty one has nothing at any place.
        let message = *chunk.open().get(place.offset)?;
        (!message.is_dead() && message.sequence() == sequence).then_some(message)
    }

    /// Where the first message with at least this sequence stands; its chunk is open then.
    fn seek(&mut self, sequence: u64) -> Option<Place> {
        if let Some(chunk) = self.hint.chunk.checked_sub(self.first_chunk)
            && let Some(chunk) = self.chunks.get(chunk as usize)
            && chunk.open().get(self.hint.offset).is_some_and(|message| message.sequence() == sequence)
        {
            return Some(self.hint);
        }
        let index = self.chunks.partition_point(|chunk| chunk.last_sequence() < sequence);
        self.unpack(index)?;
        let offset = self.chunks[index].open().partition_point(|message| message.sequence() < sequence);
        Some(Place { chunk: self.first_chunk + index as u64, offset })
    }

    /// Opens a chunk; `None` if there is none.
    fn unpack(&mut self, index: usize) -> Option<()> {
        if self.chunks.get_mut(index)?.unpack() {
            self.open += 1;
            if self.open > OPEN_CHUNKS_MAX {
                self.pack_all_but(index);
            }
        }
        Some(())
    }

    /// Packs the chunk before the last one, if many are open and the cursor is far from it.
    fn pack_before_end(&mut self) {
        if self.open < OPEN_CHUNKS_MAX {
            return;
        }
        let cursor = (self.cursor.chunk - self.first_chunk) as usize;
        if let Some(index) = self.chunks.len().checked_sub(2).filter(|index| *index > cursor + 1)
            && self.chunks[index].pack()
        {
            self.open -= 1;
        }
    }

    /// Packs all chunks but this one, those at the cursor and the last one.
    fn pack_all_but(&mut self, index: usize) {
        let cursor = (self.cursor.chunk - self.first_chunk) as usize;
        let last = self.chunks.len() - 1;
        let far = |at: usize| at != index && at != last && !(cursor..=cursor + 1).contains(&at);
        let chunks = self.chunks.iter_mut().enumerate().filter(|(at, _)| far(*at));
        self.open -= chunks.map(|(_, chunk)| usize::from(chunk.pack())).sum::<usize>();
    }

    /// Gives the memory of a chunk's dead back, if it is worth it. The chunk takes no more messages.
    fn shrink(&mut self, index: usize) {
        let chunk = &self.chunks[index];
        let (live, all) = (chunk.live as usize, chunk.open().len());
        if live == 0 {
            self.drop_chunk(index);
        } else if index > 0 && all >= SHRINK_MESSAGES_MIN && live <= all / 4 {
            // Not the oldest: with consumers that settle in order it is about to go anyway.
            self.forget_dead(index);
        }
    }

    /// Forgets a chunk whose messages are all dead. Those after it move down by one.
    fn drop_chunk(&mut self, index: usize) {
        if let Some(Chunk { messages: Messages::Open(_), .. }) = self.chunks.remove(index) {
            self.open -= 1;
        }
        if index == 0 {
            self.first_chunk += 1;
            if self.cursor.chunk < self.first_chunk {
                self.cursor = Place { chunk: self.first_chunk, offset: 0 };
            }
            return;
        }
        let number = self.first_chunk + index as u64;
        match self.cursor.chunk.cmp(&number) {
            Ordering::Less => {}
            Ordering::Equal => self.cursor.offset = 0,
            Ordering::Greater => self.cursor.chunk -= 1,
        }
        self.hint = Place { chunk: number, offset: 0 };
    }

    /// Forgets the dead of a chunk.
    fn forget_dead(&mut self, index: usize) {
        let Some(messages) = self.chunks[index].open_mut() else { return };
        if self.cursor.chunk == self.first_chunk + index as u64 {
            let before = &messages.refs()[..self.cursor.offset];
            self.cursor.offset = before.iter().filter(|message| !message.is_dead()).count();
        }
        messages.retain_live();
        messages.shrink_to_fit();
    }

    /// Nothing is live: forget the dead, so that an idle queue holds no memory worth mentioning.
    fn clear(&mut self) {
        if let Some(chunk) = self.chunks.pop_back() {
            self.first_chunk += self.chunks.len() as u64 + 1;
            self.chunks.clear();
            let chunk = match chunk.messages {
                Messages::Open(mut messages) if messages.capacity() <= IDLE_CAPACITY_MAX => {
                    messages.clear();
                    Chunk { messages: Messages::Open(messages), live: 0 }
                }
                _ => Chunk::with_capacity(FIRST_CAPACITY),
            };
            self.chunks.push_back(chunk);
            self.open = 1;
        }
        self.cursor = Place { chunk: self.first_chunk, offset: 0 };
    }

    /// Writes all live messages for a checkpoint.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_varint(self.last_sequence, out);
        encode_varint(self.chunks.iter().filter(|chunk| chunk.live > 0).count() as u64, out);
        let mut base = 0;
        for chunk in self.chunks.iter().filter(|chunk| chunk.live > 0) {
            let packed = chunk.to_packed();
            packed.encode(base, out);
            base = packed.last_sequence();
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, and gives each message's sequence to `check`. None was handed out.
    pub(super) fn decode(rest: &mut &[u8], mut check: impl FnMut(u64)) -> Result<Self, QueueFault> {
        let mut backlog = Self { last_sequence: number(rest)?, ..Self::default() };
        let mut base = 0;
        for _ in 0..number(rest)? {
            let mut highest = base;
            let packed = Packed::decode(base, rest, |message, remainder| {
                backlog.live_bytes += message.size_bytes() + u64::from(remainder);
                highest = message.sequence();
                check(highest);
            })?;
            if packed.first_sequence() <= base || highest > backlog.last_sequence {
                return Err(QueueFault::OutOfOrder);
            }
            base = highest;
            backlog.live += u64::from(packed.count());
            backlog.chunks.push_back(Chunk { live: packed.count(), messages: Messages::Packed(packed) });
        }
        Ok(backlog)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
