//! The messages of a queue in their order, delivered or not, until they leave.
//!
//! Chunks of 4,096 references. A message that leaves is marked dead in place; a chunk goes when all of its messages
//! are dead, and one behind the oldest forgets its dead when three quarters of them are: a message that stays for long
//! pins its own 8 bytes, not those of its neighbours. A cursor stands before the first message that was never handed
//! out. Chunks far from it are packed, so that a long backlog takes a few bytes a chunk.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;

use prost::encoding::{decode_varint, encode_varint};

use super::message_ref::MessageRef;
use super::packed::{PACKED_MAX, Packed};

const CHUNK_MESSAGES: usize = PACKED_MAX;
/// A backlog of a handful of messages should not hold a whole chunk's memory.
const FIRST_CAPACITY: usize = 4;
/// An empty queue keeps at most this much room for the next messages.
const IDLE_CAPACITY_MAX: usize = 512;
/// Chunks of fewer messages are not worth making smaller.
const SHRINK_MESSAGES_MIN: usize = 64;
/// Most chunks of a queue that are not packed, a few at the cursor and the end aside: 2 MiB.
const OPEN_CHUNKS_MAX: usize = 64;

#[derive(Debug)]
struct Chunk {
    messages: Messages,
    live: u32,
}

#[derive(Debug)]
enum Messages {
    Open(Vec<MessageRef>),
    Packed(Packed),
}

impl Chunk {
    fn last_sequence(&self) -> u64 {
        match &self.messages {
            Messages::Open(messages) => messages.last().map_or(0, |message| message.sequence()),
            Messages::Packed(packed) => packed.last_sequence(),
        }
    }

    fn first_sequence(&self) -> u64 {
        match &self.messages {
            Messages::Open(messages) => messages.first().map_or(0, |message| message.sequence()),
            Messages::Packed(packed) => packed.first_sequence(),
        }
    }

    fn has_room(&self) -> bool {
        matches!(&self.messages, Messages::Open(messages) if messages.len() < CHUNK_MESSAGES)
    }

    /// The messages of an open chunk.
    fn open(&self) -> &[MessageRef] {
        match &self.messages {
            Messages::Open(messages) => messages,
            Messages::Packed(_) => &[],
        }
    }

    fn open_mut(&mut self) -> Option<&mut Vec<MessageRef>> {
        match &mut self.messages {
            Messages::Open(messages) => Some(messages),
            Messages::Packed(_) => None,
        }
    }

    /// All live messages.
    fn live_messages(&self) -> impl Iterator<Item = MessageRef> {
        let (open, unpacked) = match &self.messages {
            Messages::Open(messages) => (&messages[..], Vec::new()),
            Messages::Packed(packed) => (&[][..], packed.unpack()),
        };
        open.iter().copied().chain(unpacked).filter(|message| !message.is_dead())
    }

    fn pack(&mut self) -> bool {
        let Messages::Open(messages) = &mut self.messages else { return false };
        messages.retain(|message| !message.is_dead());
        if messages.is_empty() {
            return false;
        }
        self.messages = Messages::Packed(Packed::pack(messages));
        true
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
    /// Chunks that are not packed.
    open: usize,
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
        if !self.chunks.back().is_some_and(Chunk::has_room) {
            let capacity = if self.chunks.is_empty() { FIRST_CAPACITY } else { CHUNK_MESSAGES };
            if !self.chunks.is_empty() {
                self.shrink(self.chunks.len() - 1);
            }
            self.pack_before_end();
            let messages = Messages::Open(Vec::with_capacity(capacity));
            self.chunks.push_back(Chunk { messages, live: 0 });
            self.open += 1;
        }
        let chunk = self.chunks.back_mut().expect("a chunk was pushed above if there was none");
        chunk.live += 1;
        if let Some(messages) = chunk.open_mut() {
            messages.push(message);
        }
    }

    /// Memory that it takes, chunk by chunk.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| match &chunk.messages {
            Messages::Open(messages) => messages.capacity() * size_of::<MessageRef>(),
            Messages::Packed(packed) => packed.memory_bytes(),
        });
        self.chunks.capacity() * size_of::<Chunk>() + chunks.sum::<usize>()
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
        let found = chunk.open_mut()?.get_mut(place.offset).filter(|message| !message.is_dead())?;
        let message = *found;
        *found = message.dead();
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
        let from = self.peek().map_or(u64::MAX, MessageRef::sequence);
        let first = (self.cursor.chunk - self.first_chunk) as usize;
        let chunks = self.chunks.range(first.min(self.chunks.len())..);
        chunks.flat_map(Chunk::live_messages).skip_while(move |message| message.sequence() < from)
    }

    /// All live messages, handed out or not, oldest first.
    pub(super) fn live_messages(&self) -> impl Iterator<Item = MessageRef> {
        self.chunks.iter().flat_map(Chunk::live_messages)
    }

    /// Live messages in a range of sequences, oldest first.
    pub(super) fn live_in(&self, range: Range<u64>) -> impl Iterator<Item = MessageRef> {
        let first = self.chunks.partition_point(|chunk| chunk.last_sequence() < range.start);
        let (start, end) = (range.start, range.end);
        self.chunks
            .range(first..)
            .take_while(move |chunk| chunk.first_sequence() < end)
            .flat_map(Chunk::live_messages)
            .filter(move |message| (start..end).contains(&message.sequence()))
    }

    /// The live message with this sequence.
    pub(super) fn get(&mut self, sequence: u64) -> Option<MessageRef> {
        let place = self.find(sequence)?;
        let message = self.chunks[(place.chunk - self.first_chunk) as usize].open()[place.offset];
        (!message.is_dead()).then_some(message)
    }

    /// Where the message with this sequence stands; its chunk is open then.
    fn find(&mut self, sequence: u64) -> Option<Place> {
        if let Some(chunk) = self.hint.chunk.checked_sub(self.first_chunk)
            && let Some(chunk) = self.chunks.get(chunk as usize)
            && chunk.open().get(self.hint.offset).is_some_and(|message| message.sequence() == sequence)
        {
            return Some(self.hint);
        }
        let index = self.chunks.partition_point(|chunk| chunk.last_sequence() < sequence);
        self.unpack(index)?;
        let messages = self.chunks[index].open();
        let offset = messages.binary_search_by_key(&sequence, |message| message.sequence()).ok()?;
        Some(Place { chunk: self.first_chunk + index as u64, offset })
    }

    /// Opens a chunk; `None` if there is none.
    fn unpack(&mut self, index: usize) -> Option<()> {
        let chunk = self.chunks.get_mut(index)?;
        if let Messages::Packed(packed) = &chunk.messages {
            chunk.messages = Messages::Open(packed.unpack());
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
            let before = &messages[..self.cursor.offset];
            self.cursor.offset = before.iter().filter(|message| !message.is_dead()).count();
        }
        messages.retain(|message| !message.is_dead());
        messages.shrink_to_fit();
    }

    /// Nothing is live: forget the dead, so that an idle queue holds no memory worth mentioning.
    fn clear(&mut self) {
        if let Some(chunk) = self.chunks.pop_back() {
            self.first_chunk += self.chunks.len() as u64 + 1;
            self.chunks.clear();
            let mut messages = match chunk.messages {
                Messages::Open(messages) if messages.capacity() <= IDLE_CAPACITY_MAX => messages,
                _ => Vec::with_capacity(FIRST_CAPACITY),
            };
            messages.clear();
            self.chunks.push_back(Chunk { messages: Messages::Open(messages), live: 0 });
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
            let packed = match &chunk.messages {
                Messages::Packed(packed) => Cow::Borrowed(packed),
                Messages::Open(_) => Cow::Owned(Packed::pack(&chunk.live_messages().collect::<Vec<_>>())),
            };
            packed.encode(base, out);
            base = packed.last_sequence();
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, and gives each message's sequence to `check`. None was handed out.
    pub(super) fn decode(rest: &mut &[u8], mut check: impl FnMut(u64)) -> Result<Self, String> {
        let number =
            |rest: &mut &[u8]| decode_varint(rest).map_err(|error| format!("a number of a queue: {error}"));
        let mut backlog = Self { last_sequence: number(rest)?, ..Self::default() };
        let mut base = 0;
        for _ in 0..number(rest)? {
            let mut highest = base;
            let packed = Packed::decode(base, rest, |message| {
                backlog.live_bytes += message.size_bytes();
                highest = message.sequence();
                check(highest);
            })?;
            if packed.first_sequence() <= base || highest > backlog.last_sequence {
                return Err("the messages of a queue are not in their order".to_owned());
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
        let room: usize = backlog.chunks.iter().map(|chunk| chunk.open().len()).sum();
        assert!(room <= 2 * CHUNK_MESSAGES + chunks as usize * SHRINK_MESSAGES_MIN, "{room}");
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

    /// More chunks than are kept open.
    const MANY: u64 = (OPEN_CHUNKS_MAX as u64 + 20) * CHUNK_MESSAGES as u64;

    fn check_open(backlog: &Backlog) {
        let open = backlog.chunks.iter().filter(|chunk| matches!(chunk.messages, Messages::Open(_))).count();
        assert_eq!(open, backlog.open);
        assert!(open <= OPEN_CHUNKS_MAX + 4, "{open} chunks are open");
    }

    #[test]
    fn a_long_backlog_is_packed_and_comes_back_in_order() {
        let mut backlog = filled(MANY);
        check_open(&backlog);
        assert_eq!(backlog.waiting().count() as u64, MANY);
        for sequence in 1..=MANY {
            assert_eq!(take(&mut backlog), Some(sequence));
            if sequence % 3 != 0 {
                backlog.remove(sequence).unwrap();
            }
        }
        check_open(&backlog);
        assert_eq!((backlog.live(), backlog.live_bytes()), (MANY / 3, MANY / 3 * 10));
        assert!(backlog.handed_out(MANY / 3 * 3));
        assert!(backlog.live_messages().map(MessageRef::sequence).eq((1..=MANY / 3).map(|n| n * 3)));
        // In an order that has every chunk opened again and again.
        for start in 1..=40 {
            for sequence in (start..=MANY).step_by(CHUNK_MESSAGES).filter(|sequence| sequence % 3 == 0) {
                assert!(backlog.get(sequence).is_some());
                assert!(backlog.remove(sequence).is_some());
                assert!(backlog.remove(sequence).is_none());
            }
            check_open(&backlog);
        }
        let rest: Vec<_> = backlog.live_messages().map(MessageRef::sequence).collect();
        rest.into_iter().for_each(|sequence| assert!(backlog.remove(sequence).is_some()));
        assert_eq!((backlog.live(), backlog.live_bytes()), (0, 0));
    }

    #[test]
    fn what_is_written_for_a_checkpoint_is_the_same_backlog() {
        let mut backlog = filled(MANY);
        (0..5000).for_each(|_| assert!(take(&mut backlog).is_some()));
        (1..=MANY).filter(|sequence| sequence % 5 == 1 || *sequence < 4200).for_each(|sequence| {
            backlog.remove(sequence).unwrap();
        });
        let mut bytes = Vec::new();
        backlog.encode(&mut bytes);
        let mut seen = Vec::new();
        let mut restored = Backlog::decode(&mut &bytes[..], |sequence| seen.push(sequence)).unwrap();
        assert!(backlog.live_messages().eq(restored.live_messages()));
        assert!(seen.into_iter().eq(restored.live_messages().map(MessageRef::sequence)));
        assert_eq!((restored.live(), restored.live_bytes()), (backlog.live(), backlog.live_bytes()));
        assert_eq!(restored.last_sequence(), MANY);
        assert_eq!(take(&mut restored), Some(4200), "nothing was handed out");
        restored.push(MessageRef::new(BodySequence(MANY + 1), 10));
        assert_eq!(restored.live_messages().last().unwrap().sequence(), MANY + 1);
        check_open(&restored);
        for length in 0..bytes.len().min(100) {
            assert!(Backlog::decode(&mut &bytes[..length], |_| ()).is_err());
        }
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
