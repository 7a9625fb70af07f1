//! One bit a sequence: which of the unsettled messages have somebody who may ask for their fate.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

const BITS: u64 = u64::BITS as u64;

/// A bitmap over a window of sequences that moves upwards. Setting a bit costs a few instructions and no allocation
/// once the window has had its full size.
#[derive(Debug, Default)]
pub(super) struct HandleBits {
    /// Number of the first word: it holds the bits of `64 * first_word` and the next 63 sequences.
    first_word: u64,
    words: VecDeque<u64>,
}

impl HandleBits {
    /// Sets the bit of a sequence at or above all that were dropped by [`Self::drop_through`].
    pub(super) fn set(&mut self, sequence: u64) {
        let word = sequence / BITS;
        if self.words.is_empty() {
            self.first_word = word;
        }
        debug_assert!(word >= self.first_word, "bits are set above the window's lower end");
        let index = (word - self.first_word) as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        self.words[index] |= 1 << (sequence % BITS);
    }

    /// Clears the bit of a sequence.
    pub(super) fn clear(&mut self, sequence: u64) {
        if let Some(word) = self.word_mut(sequence / BITS) {
            *word &= !(1 << (sequence % BITS));
        }
    }

    /// Clears all bits of a range; how many were set.
    pub(super) fn take(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = (*range.start(), *range.end());
        let lowest = (first / BITS).max(self.first_word);
        let highest = (last / BITS).min((self.first_word + self.words.len() as u64).saturating_sub(1));
        let mut taken = 0;
        for word in lowest..=highest {
            let from = if word == first / BITS { first % BITS } else { 0 };
            let to = if word == last / BITS { last % BITS } else { BITS - 1 };
            let mask = (u64::MAX << from) & (u64::MAX >> (BITS - 1 - to));
            if let Some(bits) = self.word_mut(word) {
                taken += u64::from((*bits & mask).count_ones());
                *bits &= !mask;
            }
        }
        taken
    }

    /// Gives up the space of sequences up to this one, whose bits are all clear.
    pub(super) fn drop_through(&mut self, sequence: u64) {
        let keep_from = (sequence + 1) / BITS;
        while self.first_word < keep_from && self.words.pop_front().is_some() {
            self.first_word += 1;
        }
    }

    fn word_mut(&mut self, word: u64) -> Option<&mut u64> {
        let index = word.checked_sub(self.first_word)?;
        self.words.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            start in 1u64..200,
            steps in prop::collection::vec((0u8..4, 0u64..200, 0u64..150), 0..80),
        ) {
            let mut bits = HandleBits::default();
            let mut plain = BTreeSet::new();
            let mut low = start;
            for (kind, offset, length) in steps {
                let first = low + offset;
                match kind {
                    0 => { bits.set(first); plain.insert(first); }
                    1 => { bits.clear(first); plain.remove(&first); }
                    2 => {
                        let expected = plain.range(first..=first + length).count() as u64;
                        prop_assert_eq!(bits.take(first..=first + length), expected);
                        plain.retain(|sequence| !(first..=first + length).contains(sequence));
                    }
                    _ => {
                        bits.take(0..=first);
                        plain = plain.split_off(&(first + 1));
                        bits.drop_through(first);
                        low = first + 1;
                    }
                }
            }
            prop_assert_eq!(bits.take(0..=low + 1000), plain.len() as u64);
        }
    }
}
