//! The messages of a queue in their order, delivered or not, until they leave.
//!
//! Chunks of 4,096 references. A message that leaves is marked dead in place; a chunk goes when all of its messages
//! are dead, and one behind the oldest is packed when three quarters of them are: a message that stays for long pins
//! its own 8 bytes, not those of its neighbours. A cursor stands before the first message that was never handed out.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::message_ref::MessageRef;

const CHUNK_MESSAGES: usize = 4096;
/// A backlog of a handful of messages should not hold a whole chunk's memory.
const FIRST_CAPACITY: usize = 4;
/// An empty queue keeps at most this much room for the next messages.
const IDLE_CAPACITY_MAX: usize = 512;
/// Chunks of fewer messages are not worth packing.
const PACK_MESSAGES_MIN: usize = 64;

#[derive(Debug)]
struct Chunk {
    messages: Vec<MessageRef>,
    live: u32,
}

impl Chunk {
    fn last_sequence(&self) -> u64 {
        self.messages.last().map_or(0, |message| message.sequence())
    }
}

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
    /// Where the next removal will probably be: consumers settle in order.
    hint: Place,
    live: u64,
    live_bytes: u64,
    last_sequence: u64,
}

impl Backlog {
    /// Adds a message at the end. Its sequence is higher than all before.
    pub(super) fn push(&mut self, message: MessageRef) {
        debug_assert!(self.last_sequence < message.sequence() || self.last_sequence == 0);
        self.last_sequence = message.sequence();
        self.live += 1;
        self.live_bytes += message.size_bytes();
        if self.chunks.back().is_none_or(|chunk| chunk.messages.len() == CHUNK_MESSAGES) {
            let capacity = if self.chunks.is_empty() { FIRST_CAPACITY } else { CHUNK_MESSAGES };
            if !self.chunks.is_empty() {
                self.shrink(self.chunks.len() - 1);
            }
            self.chunks.push_back(Chunk { messages: Vec::with_capacity(capacity), live: 0 });
        }
        let chunk = self.chunks.back_mut().expect("a chunk was pushed above if there was none");
        chunk.messages.push(message);
        chunk.live += 1;
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
            let chunk = self.chunks.get(index)?;
            match chunk.messages[self.cursor.offset..].iter().position(|message| !message.is_dead()) {
                Some(skipped) => {
                    self.cursor.offset += skipped;
                    return Some(chunk.messages[self.cursor.offset]);
                }
                None if index + 1 == self.chunks.len() => {
                    self.cursor.offset = chunk.messages.len();
                    return None;
                }
                None => self.cursor = Place { chunk: self.cursor.chunk + 1, offset: 0 },
            }
        }
    }

    /// Moves the cursor past the message that `peek` returned.
    pub(super) fn advance(&mut self) {
        self.cursor.offset += 1;
    }

    /// Whether the message with this sequence stands before the cursor. It must be live.
    pub(super) fn handed_out(&mut self, sequence: u64) -> bool {
        self.peek().is_none_or(|next| sequence < next.sequence())
    }

    /// Takes a message out; `None` if there is no such live message.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<MessageRef> {
        let place = self.find(sequence)?;
        let index = (place.chunk - self.first_chunk) as usize;
        let is_last = index + 1 == self.chunks.len();
        let chunk = &mut self.chunks[index];
        let message = chunk.messages[place.offset];
        if message.is_dead() {
            return None;
        }
        chunk.messages[place.offset] = message.dead();
        chunk.live -= 1;
        self.live -= 1;
        self.live_bytes -= message.size_bytes();
        self.hint = Place { chunk: place.chunk, offset: place.offset + 1 };
        if self.live == 0 {
            self.clear();
        } else if !is_last {
            self.shrink(index);
        }
        Some(message)
    }

    /// Live messages that were never handed out, oldest first.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = MessageRef> {
        self.peek();
        let first = (self.cursor.chunk - self.first_chunk) as usize;
        let offset = self.cursor.offset;
        self.chunks
            .iter()
            .skip(first)
            .enumerate()
            .flat_map(move |(index, chunk)| &chunk.messages[if index == 0 { offset } else { 0 }..])
            .copied()
            .filter(|message| !message.is_dead())
    }

    /// All live messages, handed out or not, oldest first.
    pub(super) fn live_messages(&self) -> impl Iterator<Item = MessageRef> {
        self.chunks.iter().flat_map(|chunk| &chunk.messages).copied().filter(|message| !message.is_dead())
    }

    /// The live message with this sequence.
    pub(super) fn get(&self, sequence: u64) -> Option<MessageRef> {
        let place = self.find(sequence)?;
        let message = self.chunks[(place.chunk - self.first_chunk) as usize].messages[place.offset];
        (!message.is_dead()).then_some(message)
    }

    fn find(&self, sequence: u64) -> Option<Place> {
        if let Some(chunk) = self.hint.chunk.checked_sub(self.first_chunk)
            && let Some(chunk) = self.chunks.get(chunk as usize)
            && chunk.messages.get(self.hint.offset).is_some_and(|message| message.sequence() == sequence)
        {
            return Some(self.hint);
        }
        let index = self.chunks.partition_point(|chunk| chunk.last_sequence() < sequence);
        let chunk = self.chunks.get(index)?;
        let offset = chunk.messages.binary_search_by_key(&sequence, |message| message.sequence()).ok()?;
        Some(Place { chunk: self.first_chunk + index as u64, offset })
    }

    /// Gives the memory of a chunk's dead back, if it is worth it. The chunk takes no more messages.
    fn shrink(&mut self, index: usize) {
        let chunk = &self.chunks[index];
        let (live, all) = (chunk.live as usize, chunk.messages.len());
        if live == 0 {
            self.drop_chunk(index);
        } else if index > 0 && all >= PACK_MESSAGES_MIN && live <= all / 4 {
            // Not the oldest: with consumers that settle in order it is about to go anyway.
            self.pack(index);
        }
    }

    /// Forgets a chunk whose messages are all dead. Those after it move down by one.
    fn drop_chunk(&mut self, index: usize) {
        self.chunks.remove(index);
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
    fn pack(&mut self, index: usize) {
        let chunk = &mut self.chunks[index];
        if self.cursor.chunk == self.first_chunk + index as u64 {
            let before = &chunk.messages[..self.cursor.offset];
            self.cursor.offset = before.iter().filter(|message| !message.is_dead()).count();
        }
        chunk.messages.retain(|message| !message.is_dead());
        chunk.messages.shrink_to_fit();
    }

    /// Nothing is live: forget the dead, so that an idle queue holds no memory worth mentioning.
    fn clear(&mut self) {
        if let Some(mut chunk) = self.chunks.pop_back() {
            self.first_chunk += self.chunks.len() as u64 + 1;
            self.chunks.clear();
            if chunk.messages.capacity() > IDLE_CAPACITY_MAX {
                chunk.messages = Vec::with_capacity(FIRST_CAPACITY);
            }
            chunk.messages.clear();
            self.chunks.push_back(chunk);
        }
        self.cursor = Place { chunk: self.first_chunk, offset: 0 };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::BodySequence;

    fn filled(count: u64) -> Backlog {
        let mut backlog = Backlog::default();
        (1..=count).for_each(|sequence| backlog.push(MessageRef::new(BodySequence(sequence), 10)));
        backlog
    }

    fn take(backlog: &mut Backlog) -> Option<u64> {
        let next = backlog.peek()?.sequence();
        backlog.advance();
        Some(next)
    }

    #[test]
    fn hands_out_in_order_across_chunks() {
        let mut backlog = filled(10_000);
        for sequence in 1..=10_000 {
            assert_eq!(take(&mut backlog), Some(sequence));
        }
        assert_eq!(take(&mut backlog), None);
        backlog.push(MessageRef::new(BodySequence(10_001), 10));
        assert_eq!(take(&mut backlog), Some(10_001));
    }

    #[test]
    fn removal_in_any_order_frees_whole_chunks() {
        let mut backlog = filled(3 * CHUNK_MESSAGES as u64);
        for sequence in (2..=3 * CHUNK_MESSAGES as u64).rev() {
            assert!(backlog.remove(sequence).is_some(), "{sequence}");
            assert!(backlog.remove(sequence).is_none(), "{sequence} twice");
        }
        assert_eq!((backlog.live(), backlog.live_bytes()), (1, 10));
        assert_eq!(take(&mut backlog), Some(1));
        assert!(!backlog.handed_out(2) || backlog.peek().is_none());
        assert!(backlog.remove(1).is_some());
        assert_eq!((backlog.live(), backlog.chunks.len()), (0, 1));
    }

    #[test]
    fn one_message_that_stays_does_not_pin_those_after_it() {
        let chunks = 40;
        let mut backlog = filled(chunks * CHUNK_MESSAGES as u64);
        (0..100).for_each(|_| assert!(take(&mut backlog).is_some()));
        for sequence in 2..=chunks * CHUNK_MESSAGES as u64 {
            // One in a thousand stays.
            if sequence % 1000 != 0 {
                backlog.remove(sequence).unwrap();
            }
        }
        let room: usize = backlog.chunks.iter().map(|chunk| chunk.messages.capacity()).sum();
        assert!(room <= 2 * CHUNK_MESSAGES + chunks as usize * PACK_MESSAGES_MIN, "{room}");
        assert_eq!(take(&mut backlog), Some(1000));
        for sequence in (2..=backlog.last_sequence / 1000).rev().map(|n| n * 1000) {
            backlog.remove(sequence).unwrap();
        }
        assert_eq!(backlog.chunks.len(), 2, "the first and the last");
        backlog.push(MessageRef::new(BodySequence(backlog.last_sequence + 1), 10));
        assert_eq!(take(&mut backlog), Some(backlog.last_sequence));
        backlog.remove(1).unwrap();
        assert_eq!(backlog.live_messages().count() as u64, backlog.live());
    }

    #[test]
    fn cursor_skips_what_left_before_it_was_handed_out() {
        let mut backlog = filled(6);
        for sequence in [1, 2, 4] {
            backlog.remove(sequence);
        }
        assert_eq!([take(&mut backlog), take(&mut backlog)], [Some(3), Some(5)]);
        assert_eq!(backlog.waiting().map(|message| message.sequence()).collect::<Vec<_>>(), [6]);
        assert!(backlog.handed_out(5) && !backlog.handed_out(6));
    }

    #[test]
    fn chunk_freed_behind_the_cursor_keeps_order() {
        let mut backlog = filled(CHUNK_MESSAGES as u64 + 2);
        for sequence in 1..=CHUNK_MESSAGES as u64 {
            assert_eq!(take(&mut backlog), Some(sequence));
            backlog.remove(sequence);
        }
        assert_eq!(take(&mut backlog), Some(CHUNK_MESSAGES as u64 + 1));
    }
}
