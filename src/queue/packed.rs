//! Message references that nobody looks at for now, in a small part of their room.
//!
//! Messages of a backlog mostly follow each other and mostly have one size, or sizes of a few bits. So a chunk is kept as
//! columns, the steps from sequence to sequence, the size classes, and, if any message is large, what those do not tell of
//! the sizes; each either as runs or as numbers of just as many bits as the largest needs. A checkpoint holds queues in the
//! same form.

use bytes::{Buf, BufMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::fault::{QueueFault, number};
use super::message_ref::{EXACT_BELOW, MessageRef, SEQUENCE_MAX};

/// Most references that are packed together.
pub(super) const PACKED_MAX: usize = 4096;

/// References in rising order, none of them dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    first: u64,
    last: u64,
    count: u32,
    /// The columns.
    bytes: Box<[u8]>,
}

/// How a column is written.
const RUNS: u8 = 0;
const BITS: u8 = 1;

impl Packed {
    /// Packs live references in rising order, at least one and [`PACKED_MAX`] at most, with what they do not tell of their
    /// sizes; no remainders at all if that is nothing.
    pub(super) fn pack(messages: &[MessageRef], remainders: &[u16]) -> Self {
        debug_assert!((1..=PACKED_MAX).contains(&messages.len()));
        debug_assert!(remainders.is_empty() || remainders.len() == messages.len());
        let (first, last) = (messages[0].sequence(), messages[messages.len() - 1].sequence());
        let mut bytes = Vec::new();
        if messages.windows(2).all(|pair| pair[1].follows(pair[0])) {
            // Nearly always, and then all of this takes less than a nanosecond a message.
            let count = messages.len() as u64;
            let columns = [(0, count - 1), (messages[0].class(), count)];
            for (number, repeats) in columns.into_iter().filter(|(_, repeats)| *repeats > 0) {
                bytes.push(RUNS);
                encode_varint(number, &mut bytes);
                encode_varint(repeats, &mut bytes);
            }
            if count == 1 {
                bytes.insert(0, RUNS);
            }
            write_remainders(remainders, &mut bytes);
            return Self { first, last, count: count as u32, bytes: bytes.into() };
        }
        let steps = messages.windows(2).map(|pair| pair[1].sequence() - pair[0].sequence() - 1);
        write_column(steps, &mut bytes);
        write_column(messages.iter().map(|message| message.class()), &mut bytes);
        write_remainders(remainders, &mut bytes);
        Self { first, last, count: messages.len() as u32, bytes: bytes.into() }
    }

    /// Memory of the columns.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The references, and what they do not tell of their sizes; no remainders at all if that is nothing.
    pub(super) fn unpack(&self) -> (Vec<MessageRef>, Vec<u16>) {
        let mut messages = Vec::with_capacity(self.count as usize);
        let mut remainders = Vec::new();
        let unpacked = self.each(|message, remainder| {
            if remainder != 0 || !remainders.is_empty() {
                remainders.resize(messages.len(), 0);
                remainders.push(remainder);
            }
            messages.push(message);
        });
        debug_assert!(unpacked.is_ok(), "it was packed here, or checked when it was read");
        (messages, remainders)
    }

    fn each(&self, mut take: impl FnMut(MessageRef, u16)) -> Result<(), QueueFault> {
        let mut rest = &self.bytes[..];
        let mut steps = Column::read(&mut rest, self.count as usize - 1)?;
        let mut classes = Column::read(&mut rest, self.count as usize)?;
        let mut remainders =
            if rest.is_empty() { Column::ZEROS } else { Column::read(&mut rest, self.count as usize)? };
        if !rest.is_empty() {
            return Err(QueueFault::Excess);
        }
        if let (Some(0) | None, Some(class), Some(remainder)) = (
            steps.only_number(self.count - 1),
            classes.only_number(self.count),
            remainders.only_number(self.count),
        ) && self.last - self.first == u64::from(self.count) - 1
        {
            let remainder = remainder_of(remainder)?;
            for sequence in self.first..=self.last {
                take(MessageRef::of_class(sequence, class)?, remainder);
            }
            return Ok(());
        }
        let mut sequence = self.first;
        for number in 0..self.count {
            if number > 0 {
                let next = sequence.checked_add(steps.next()?).and_then(|next| next.checked_add(1));
                sequence =
                    next.filter(|next| *next <= self.last).ok_or(QueueFault::OtherEnd { last: self.last })?;
            }
            let message = MessageRef::of_class(sequence, classes.next()?)?;
            take(message, remainder_of(remainders.next()?)?);
        }
        if sequence == self.last { Ok(()) } else { Err(QueueFault::OtherEnd { last: self.last }) }
    }

    /// How many.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The lowest sequence.
    pub(super) fn first_sequence(&self) -> u64 {
        self.first
    }

    /// The highest sequence.
    pub(super) fn last_sequence(&self) -> u64 {
        self.last
    }

    /// Writes it for a checkpoint; sequences count from `base`, which is at most the first one.
    pub(super) fn encode(&self, base: u64, out: &mut Vec<u8>) {
        for number in [self.first - base, self.last - self.first, self.count.into(), self.bytes.len() as u64]
        {
            encode_varint(number, out);
        }
        out.put_slice(&self.bytes);
    }

    /// Reads what [`encode`](Self::encode) wrote, and gives each reference to `check`, with what it does not tell of its
    /// size.
    pub(super) fn decode(
        base: u64,
        rest: &mut &[u8],
        check: impl FnMut(MessageRef, u16),
    ) -> Result<Self, QueueFault> {
        let first = base.checked_add(number(rest)?);
        let last = first.zip(Some(number(rest)?)).and_then(|(first, more)| first.checked_add(more));
        let (first, last) =
            first.zip(last).filter(|(_, last)| *last <= SEQUENCE_MAX).ok_or(QueueFault::SequenceTooHigh)?;
        let count = number(rest)?;
        if !(1..=PACKED_MAX as u64).contains(&count) {
            return Err(QueueFault::ChunkLength { messages: count });
        }
        let length = number(rest)? as usize;
        let (bytes, after) = rest.split_at_checked(length).ok_or(QueueFault::CutOff)?;
        *rest = after;
        let packed = Self { first, last, count: count as u32, bytes: bytes.into() };
        packed.each(check)?;
        Ok(packed)
    }
}

fn remainder_of(number: u64) -> Result<u16, QueueFault> {
    let remainder = u16::try_from(number).ok().filter(|remainder| u32::from(*remainder) < EXACT_BELOW);
    remainder.ok_or(QueueFault::Remainder { bytes: number })
}

fn write_remainders(remainders: &[u16], out: &mut Vec<u8>) {
    if !remainders.is_empty() {
        write_column(remainders.iter().map(|remainder| u64::from(*remainder)), out);
    }
}

fn write_column(numbers: impl Iterator<Item = u64> + Clone, out: &mut Vec<u8>) {
    let (mut count, mut largest, mut runs_bytes) = (0, 0, 0);
    for (number, repeats) in runs(numbers.clone()) {
        count += repeats;
        largest = largest.max(number);
        runs_bytes += encoded_len_varint(number) + encoded_len_varint(repeats);
    }
    let width = 64 - largest.leading_zeros();
    if runs_bytes as u64 <= (count * u64::from(width)).div_ceil(8) + 1 {
        out.push(RUNS);
        for (number, repeats) in runs(numbers) {
            encode_varint(number, out);
            encode_varint(repeats, out);
        }
        return;
    }
    out.push(BITS);
    out.push(width as u8);
    let (mut waiting, mut bits) = (0u128, 0);
    for number in numbers {
        waiting |= u128::from(number) << bits;
        bits += width;
        while bits >= 8 {
            out.push(waiting as u8);
            waiting >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(waiting as u8);
    }
}

/// Equal neighbours, and how many there are.
fn runs(numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = (u64, u64)> {
    let mut numbers = numbers.peekable();
    std::iter::from_fn(move || {
        let number = numbers.next()?;
        let mut repeats = 1;
        while numbers.next_if_eq(&number).is_some() {
            repeats += 1;
        }
        Some((number, repeats))
    })
}

/// A column that is read number by number.
enum Column<'a> {
    Runs { rest: &'a [u8], number: u64, repeats: u64 },
    Bits { rest: &'a [u8], width: u32, waiting: u128, bits: u32 },
}

impl<'a> Column<'a> {
    /// A column that is not written: any number of zeros.
    const ZEROS: Self = Self::Bits { rest: &[], width: 0, waiting: 0, bits: 0 };

    /// Takes a column of `count` numbers off the front.
    fn read(rest: &mut &'a [u8], count: usize) -> Result<Self, QueueFault> {
        let start = *rest;
        if rest.is_empty() {
            return Err(QueueFault::CutOff);
        }
        match rest.get_u8() {
            RUNS => {
                let mut covered = 0;
                while covered < count as u64 {
                    number(rest)?;
                    covered = covered.saturating_add(number(rest)?.max(1));
                }
                let column = &start[1..start.len() - rest.len()];
                Ok(Self::Runs { rest: column, number: 0, repeats: 0 })
            }
            BITS if rest.is_empty() => Err(QueueFault::CutOff),
            BITS => {
                let width = u32::from(rest.get_u8());
                let length = (count * width as usize).div_ceil(8);
                let column = rest.split_at_checked(length).filter(|_| width <= 64);
                let (column, after) = column.ok_or(QueueFault::CutOff)?;
                *rest = after;
                Ok(Self::Bits { rest: column, width, waiting: 0, bits: 0 })
            }
            kind => Err(QueueFault::UnknownColumn { kind }),
        }
    }

    /// The number that `count` numbers are, if the column says so in one run.
    fn only_number(&self, count: u32) -> Option<u64> {
        let mut rest = match *self {
            Self::Bits { width: 0, .. } => return Some(0),
            Self::Bits { .. } => return None,
            Self::Runs { rest, .. } => rest,
        };
        let (only, repeats) = (number(&mut rest).ok()?, number(&mut rest).ok()?);
        (repeats >= u64::from(count)).then_some(only)
    }

    fn next(&mut self) -> Result<u64, QueueFault> {
        match self {
            Self::Runs { rest, number: value, repeats } => {
                if *repeats == 0 {
                    (*value, *repeats) = (number(rest)?, number(rest)?.max(1));
                }
                *repeats -= 1;
                Ok(*value)
            }
            Self::Bits { rest, width, waiting, bits } => {
                while *bits < *width {
                    let byte = rest.split_off_first().ok_or(QueueFault::CutOff)?;
                    *waiting |= u128::from(*byte) << *bits;
                    *bits += 8;
                }
                let number = *waiting & ((1 << *width) - 1);
                *waiting >>= *width;
                *bits -= *width;
                Ok(number as u64)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::BodySequence;

    fn messages(items: &[(u64, u32)]) -> (Vec<MessageRef>, Vec<u16>) {
        let mut sequence = 0;
        let message = |(step, size): &(u64, u32)| {
            sequence += step;
            MessageRef::with_remainder(BodySequence(sequence), *size)
        };
        let (messages, mut remainders): (Vec<_>, Vec<_>) = items.iter().map(message).unzip();
        if remainders.iter().all(|remainder| *remainder == 0) {
            remainders.clear();
        }
        (messages, remainders)
    }

    fn packed_bytes(items: &[(u64, u32)]) -> usize {
        let (messages, remainders) = messages(items);
        let packed = Packed::pack(&messages, &remainders);
        assert_eq!(packed.unpack(), (messages, remainders));
        packed.bytes.len()
    }

    #[test]
    fn a_chunk_of_like_messages_takes_a_few_bytes() {
        assert!(packed_bytes(&vec![(1, 100); PACKED_MAX]) <= 10);
        assert!(packed_bytes(&vec![(3, 100); PACKED_MAX]) <= 12);
        assert!(packed_bytes(&vec![(1, 1_000_001); PACKED_MAX]) <= 20);
    }

    #[test]
    fn different_messages_take_the_bits_that_they_need() {
        let items: Vec<_> =
            (0..PACKED_MAX as u64).map(|n| (1 + n * n % 7 % 4, (n * 37 % 1000) as u32)).collect();
        // 2 bits for the steps, 10 for the sizes.
        assert!(packed_bytes(&items) <= PACKED_MAX * 12 / 8 + 8);
        assert_eq!(packed_bytes(&[(SEQUENCE_MAX, u32::MAX)]), 1 + 1 + 3 + 1 + 1 + 2 + 1);
    }

    #[test]
    fn what_an_earlier_version_wrote_has_sizes_in_steps() {
        // Message 1 of 16 KiB and more (size class 16,385), and message 2 of 100 bytes: two columns.
        let bytes = [1, 1, 2, 10, RUNS, 0, 1, RUNS, 0x81, 0x80, 1, 1, 100, 1];
        let mut seen = Vec::new();
        let packed = Packed::decode(0, &mut &bytes[..], |message, remainder| {
            seen.push((message.sequence(), message.size_bytes() + u64::from(remainder)));
        });
        assert_eq!(packed.unwrap().unpack().1, [0u16; 0]);
        assert_eq!(seen, [(1, 16_384), (2, 100)]);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            items in prop::collection::vec((prop_oneof![1..3u64, 1..1u64 << 33], prop_oneof![0..20u32, any::<u32>()]), 1..300),
            base in 0..5u64,
        ) {
            let (messages, remainders) = messages(&items);
            let packed = Packed::pack(&messages, &remainders);
            prop_assert_eq!(packed.unpack(), (messages.clone(), remainders.clone()));
            let mut bytes = Vec::new();
            packed.encode(base.min(items[0].0), &mut bytes);
            bytes.push(77);
            let mut rest = &bytes[..];
            let mut seen = Vec::new();
            let decoded = Packed::decode(base.min(items[0].0), &mut rest, |message, remainder| {
                seen.push((message, remainder));
            }).unwrap();
            let remainders = remainders.into_iter().chain(std::iter::repeat(0));
            let expected: Vec<_> = messages.into_iter().zip(remainders).collect();
            prop_assert_eq!((decoded, seen, rest), (packed, expected, &[77u8][..]));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut count = 0;
            if let Ok(packed) = Packed::decode(1, &mut &bytes[..], |_, _| count += 1) {
                prop_assert_eq!(packed.unpack().0.len(), count);
                prop_assert_eq!(packed.count() as usize, count);
            }
        }
    }
}
