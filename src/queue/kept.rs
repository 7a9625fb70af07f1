//! Messages that a queue has done with and keeps for a while: those that may be seen again, and those that are to go elsewhere.
//!
//! They lie in the order of their sequences, in chunks, of which those are packed that nobody touches: consumers settle about in
//! order, so what comes goes to the end, and what is forgotten was at the front.

use std::collections::VecDeque;
use std::ops::Range;

use prost::encoding::encode_varint;

use super::chunk::{CHUNK_MESSAGES, Chunk, Messages, OpenMessages, live_in};
use super::fault::{QueueFault, number};
use super::message_ref::MessageRef;
use super::packed::Packed;
use super::sequence_runs::SequenceRun;
use crate::model::BodySequence;

/// Chunks that are not packed; the first and the last one aside.
const OPEN_CHUNKS_MAX: usize = 16;

/// A message, and what its reference does not tell of its size.
pub(super) type Kept = (MessageRef, u16);

#[derive(Debug, Default)]
pub(super) struct KeptMessages {
    chunks: VecDeque<Chunk>,
    open: usize,
    count: u64,
    bytes: u64,
}

impl KeptMessages {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The oldest one.
    pub(super) fn first(&self) -> Option<u64> {
        self.chunks.front().map(Chunk::first_sequence)
    }

    /// Takes a message that is not here.
    pub(super) fn keep(&mut self, (message, remainder): Kept) {
        let sequence = message.sequence();
        self.count += 1;
        self.bytes += message.size_bytes() + u64::from(remainder);
        let at_end = self.chunks.back().is_none_or(|last| last.last_sequence() < sequence);
        if at_end && !self.chunks.back().is_some_and(Chunk::has_room) {
            self.pack_some(self.chunks.len());
            self.chunks.push_back(Chunk::with_capacity(4));
            self.open += 1;
        }
        let index = match at_end {
            true => self.chunks.len() - 1,
            false => self.chunks.partition_point(|chunk| chunk.last_sequence() < sequence),
        };
        self.unpack(index);
        if self.chunks[index].open().len() == CHUNK_MESSAGES {
            self.split(index);
            // The same message again, into one half.
            self.count -= 1;
            self.bytes -= message.size_bytes() + u64::from(remainder);
            return self.keep((message, remainder));
        }
        let chunk = &mut self.chunks[index];
        chunk.live += 1;
        if let Some(messages) = chunk.open_mut() {
            let at = messages.refs().partition_point(|there| there.sequence() < sequence);
            messages.insert(at, message, remainder);
        }
    }

    /// Forgets all before this sequence, and tells of each run of them that follow each other.
    pub(super) fn forget_before(&mut self, sequence: u64, forgotten: impl FnMut(SequenceRun)) {
        self.forget(0..sequence, forgotten);
    }

    /// Forgets those with these sequences, and tells of each run of them that follow each other.
    pub(super) fn forget(&mut self, sequences: Range<u64>, mut forgotten: impl FnMut(SequenceRun)) {
        let mut index = self.chunks.partition_point(|chunk| chunk.last_sequence() < sequences.start);
        while self.chunks.get(index).is_some_and(|chunk| chunk.first_sequence() < sequences.end) {
            self.unpack(index);
            let (mut count, mut bytes) = (0, 0);
            let mut run = SequenceRun { first: BodySequence(0), count: 0 };
            let chunk = &mut self.chunks[index];
            let Some(messages) = chunk.open_mut() else { return };
            let place = |end: u64| messages.refs().partition_point(|message| message.sequence() < end);
            let going = place(sequences.start)..place(sequences.end);
            for (message, remainder) in messages.take(going) {
                count += 1;
                bytes += message.size_bytes() + u64::from(remainder);
                if run.first.0 + run.count != message.sequence() {
                    if run.count > 0 {
                        forgotten(run);
                    }
                    run = SequenceRun { first: BodySequence(message.sequence()), count: 0 };
                }
                run.count += 1;
            }
            if run.count > 0 {
                forgotten(run);
            }
            self.count -= count;
            self.bytes -= bytes;
            chunk.live -= count as u32;
            if chunk.live == 0 {
                self.chunks.remove(index);
                self.open -= 1;
            } else {
                index += 1;
            }
        }
    }

    /// The sequence before which all are beyond the bounds on their number and bytes; `None` if none is.
    pub(super) fn excess(&mut self, messages_max: u64, bytes_max: u64) -> Option<u64> {
        let (mut count, mut bytes) = (self.count, self.bytes);
        let mut before = None;
        for index in 0.. {
            if count <= messages_max && bytes <= bytes_max || index == self.chunks.len() {
                break;
            }
            self.unpack(index);
            let Some(messages) = self.chunks[index].open_mut() else { break };
            for (message, remainder) in messages.each() {
                if count <= messages_max && bytes <= bytes_max {
                    break;
                }
                count -= 1;
                bytes -= message.size_bytes() + u64::from(remainder);
                before = Some(message.sequence() + 1);
            }
        }
        before
    }

    /// Where the newest so many begin; 0 if there are no more than those.
    pub(super) fn newest(&self, count: u64) -> u64 {
        if count >= self.count {
            return 0;
        }
        let mut rest = count;
        for chunk in self.chunks.iter().rev() {
            if rest <= u64::from(chunk.live) {
                let skipped = (u64::from(chunk.live) - rest) as usize;
                return chunk.live_messages().nth(skipped).map_or(0, MessageRef::sequence);
            }
            rest -= u64::from(chunk.live);
        }
        0
    }

    /// Those with these sequences, oldest first.
    pub(super) fn within(&self, range: Range<u64>) -> impl Iterator<Item = MessageRef> {
        live_in(&self.chunks, range)
    }

    fn unpack(&mut self, index: usize) {
        if self.chunks.get_mut(index).is_some_and(Chunk::unpack) {
            self.open += 1;
            self.pack_some(index);
        }
    }

    /// Packs chunks but this one, if many are open: all but the first and the last one.
    fn pack_some(&mut self, index: usize) {
        if self.open <= OPEN_CHUNKS_MAX {
            return;
        }
        let last = self.chunks.len() - 1;
        for at in (1..last).filter(|at| *at != index) {
            self.open -= usize::from(self.chunks[at].pack());
        }
    }

    /// Makes two chunks of a full one.
    fn split(&mut self, index: usize) {
        let chunk = &mut self.chunks[index];
        let Some(messages) = chunk.open_mut() else { return };
        let mut front = OpenMessages::default();
        let half = messages.refs().len() / 2;
        messages.take(0..half).for_each(|(message, remainder)| front.push(message, remainder));
        chunk.live -= half as u32;
        self.chunks.insert(index, Chunk { messages: Messages::Open(front), live: half as u32 });
        self.open += 1;
    }

    /// Writes them for a checkpoint.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_varint(self.chunks.len() as u64, out);
        let mut base = 0;
        for chunk in &self.chunks {
            let packed = chunk.to_packed();
            packed.encode(base, out);
            base = packed.last_sequence();
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, and gives each message's sequence to `check`.
    pub(super) fn decode(rest: &mut &[u8], mut check: impl FnMut(u64)) -> Result<Self, QueueFault> {
        let mut all = Self::default();
        let mut base = 0;
        for _ in 0..number(rest)? {
            let packed = Packed::decode(base, rest, |message, remainder| {
                all.bytes += message.size_bytes() + u64::from(remainder);
                check(message.sequence());
            })?;
            if packed.first_sequence() <= base {
                return Err(QueueFault::OutOfOrder);
            }
            base = packed.last_sequence();
            all.count += u64::from(packed.count());
            all.chunks.push_back(Chunk { live: packed.count(), messages: Messages::Packed(packed) });
        }
        Ok(all)
    }

    /// Memory that they take, chunk by chunk.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>()
            + self.chunks.iter().map(Chunk::memory_bytes).sum::<usize>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;

    use proptest::prelude::*;

    use super::*;

    fn kept(sequence: u64, bytes: u32) -> Kept {
        MessageRef::with_remainder(BodySequence(sequence), bytes)
    }

    /// What a map of sizes by sequence would do.
    #[derive(Debug, Default)]
    struct Model(BTreeMap<u64, u64>);

    impl Model {
        fn excess(&self, messages_max: u64, bytes_max: u64) -> Option<u64> {
            let (mut count, mut bytes) = (self.0.len() as u64, self.0.values().sum::<u64>());
            let mut before = None;
            for (sequence, size) in &self.0 {
                if count <= messages_max && bytes <= bytes_max {
                    break;
                }
                (count, bytes) = (count - 1, bytes - size);
                before = Some(sequence + 1);
            }
            before
        }
    }

    fn check(all: &KeptMessages, model: &Model) {
        let there: Vec<u64> = all.within(0..u64::MAX).map(MessageRef::sequence).collect();
        assert_eq!(there, model.0.keys().copied().collect::<Vec<_>>());
        assert_eq!((all.count(), all.bytes()), (there.len() as u64, model.0.values().sum()));
        assert_eq!(all.first(), there.first().copied());
        for count in [0, 1, there.len() / 2, there.len(), there.len() + 1] {
            let newest = there.len().checked_sub(count).filter(|at| *at > 0);
            let newest = newest.map_or(0, |at| there.get(at).copied().unwrap_or(u64::MAX));
            if count > 0 {
                assert_eq!(all.newest(count as u64), newest, "the newest {count}");
            }
        }
        let mut out = Vec::new();
        all.encode(&mut out);
        let mut again = Vec::new();
        let read = KeptMessages::decode(&mut &out[..], |sequence| again.push(sequence)).unwrap();
        assert_eq!((again, read.count, read.bytes), (there, all.count, all.bytes));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_a_map_from_sequences_to_sizes(
            blocks in proptest::collection::vec((0u64..40, 1u64..6_000, 1u64..4, 0u32..40_000), 1..12),
            holes in proptest::collection::vec((0u64..220_000, 0u64..30_000), 0..6),
            bounds in proptest::collection::vec((0u64..20_000, 0u64..200_000_000), 1..5),
        ) {
            let (mut all, mut model) = (KeptMessages::default(), Model::default());
            for (place, count, step, bytes) in blocks {
                for number in 0..count {
                    let sequence = 1 + place * 5_000 + number * step;
                    if let Entry::Vacant(place) = model.0.entry(sequence) {
                        all.keep(kept(sequence, bytes));
                        place.insert(u64::from(bytes));
                    }
                }
            }
            check(&all, &model);
            for (start, length) in holes {
                let mut gone = Vec::new();
                all.forget(start..start + length, |run| gone.extend(run.sequences()));
                let expected: Vec<u64> = model.0.range(start..start + length).map(|(sequence, _)| *sequence).collect();
                expected.iter().for_each(|sequence| { model.0.remove(sequence); });
                prop_assert_eq!(gone, expected);
                check(&all, &model);
            }
            for (messages_max, bytes_max) in bounds {
                let before = all.excess(messages_max, bytes_max);
                prop_assert_eq!(before, model.excess(messages_max, bytes_max));
                let mut gone = Vec::new();
                all.forget_before(before.unwrap_or(0), |run| gone.extend(run.sequences()));
                let rest = model.0.split_off(&before.unwrap_or(0));
                let left = std::mem::replace(&mut model.0, rest);
                prop_assert_eq!(gone, left.into_keys().collect::<Vec<_>>());
                check(&all, &model);
            }
        }
    }

    #[test]
    fn what_is_kept_in_order_takes_a_few_bytes_a_chunk() {
        let mut all = KeptMessages::default();
        (1..=1_000_000).for_each(|sequence| all.keep(kept(sequence, 100)));
        let bytes = all.memory_bytes();
        assert!(bytes < 1_000_000, "{bytes} bytes for a million messages");
    }

    /// A start begins a new chunk.
    #[test]
    fn the_newest_may_be_just_those_of_the_last_chunk() {
        let mut all = KeptMessages::default();
        (1..=5).for_each(|sequence| all.keep(kept(sequence, 100)));
        let mut out = Vec::new();
        all.encode(&mut out);
        let mut again = KeptMessages::decode(&mut &out[..], |_| ()).unwrap();
        (6..=8).for_each(|sequence| again.keep(kept(sequence, 100)));
        assert_eq!([2, 3, 4, 7, 8, 9].map(|count| again.newest(count)), [7, 6, 5, 2, 0, 0]);
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let mut all = KeptMessages::default();
        [5, 6, 9].into_iter().for_each(|sequence| all.keep(kept(sequence, 100)));
        let mut out = Vec::new();
        all.encode(&mut out);
        for length in 0..out.len() {
            assert!(KeptMessages::decode(&mut &out[..length], |_| ()).is_err(), "{length}");
        }
        let twice = [&[2][..], &out[1..], &out[1..]].concat();
        assert!(
            KeptMessages::decode(&mut &twice[..], |_| ()).is_ok(),
            "each chunk counts from the one before"
        );
    }
}
