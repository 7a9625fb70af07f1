//! A small set of numbers from 0 to 256: places between the words of a key.

use super::trie::WORDS_MAX;

const LIMBS: usize = WORDS_MAX / 64 + 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places([u64; LIMBS]);

impl Places {
    pub(super) fn none() -> Self {
        Self([0; LIMBS])
    }

    /// All from `first` to `last`, both included.
    pub(super) fn range(first: usize, last: usize) -> Self {
        debug_assert!(first <= last && last <= WORDS_MAX);
        let mut limbs = [0; LIMBS];
        for (index, limb) in limbs.iter_mut().enumerate() {
            let base = index * 64;
            if first < base + 64 && last >= base {
                let from = u64::MAX << first.saturating_sub(base);
                let to = u64::MAX >> (63 - (last - base).min(63));
                *limb = from & to;
            }
        }
        Self(limbs)
    }

    pub(super) fn first(self) -> Option<usize> {
        let index = self.0.iter().position(|limb| *limb != 0)?;
        Some(index * 64 + self.0[index].trailing_zeros() as usize)
    }

    pub(super) fn contains(self, place: usize) -> bool {
        self.0[place / 64] & bit(place) != 0
    }

    pub(super) fn with(mut self, place: usize) -> Self {
        self.0[place / 64] |= bit(place);
        self
    }

    pub(super) fn without(mut self, place: usize) -> Self {
        self.0[place / 64] &= !bit(place);
        self
    }

    pub(super) fn minus(mut self, other: Self) -> Self {
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            *limb &= !other;
        }
        self
    }

    /// Those for which `keep` says yes.
    pub(super) fn filter(self, keep: impl Fn(usize) -> bool) -> Self {
        let mut kept = self;
        for (index, limb) in self.0.into_iter().enumerate() {
            let mut left = limb;
            while left != 0 {
                let place = index * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                if !keep(place) {
                    kept = kept.without(place);
                }
            }
        }
        kept
    }

    /// Each place moved on by one. The set must not contain the last possible place.
    pub(super) fn next(self) -> Self {
        debug_assert!(!self.contains(WORDS_MAX));
        let mut limbs = [0; LIMBS];
        let mut carry = 0;
        for (moved, limb) in limbs.iter_mut().zip(self.0) {
            *moved = limb << 1 | carry;
            carry = limb >> 63;
        }
        Self(limbs)
    }
}

fn bit(place: usize) -> u64 {
    1 << (place % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn collect(places: Places) -> BTreeSet<usize> {
        (0..=WORDS_MAX).filter(|place| places.contains(*place)).collect()
    }

    fn places(numbers: &BTreeSet<usize>) -> Places {
        numbers.iter().fold(Places::none(), |places, number| places.with(*number))
    }

    proptest! {
        #[test]
        fn is_a_set_of_numbers(
            left in prop::collection::btree_set(0..WORDS_MAX, 0..40),
            right in prop::collection::btree_set(0..WORDS_MAX, 0..40),
            one in 0..WORDS_MAX,
        ) {
            let set = places(&left);
            prop_assert_eq!(collect(set), left.clone());
            prop_assert_eq!(set.first(), left.first().copied());
            prop_assert_eq!(collect(set.minus(places(&right))), left.difference(&right).copied().collect());
            prop_assert_eq!(collect(set.next()), left.iter().map(|place| place + 1).collect());
            prop_assert_eq!(
                collect(set.filter(|place| place % 3 == 0)),
                left.iter().copied().filter(|place| place % 3 == 0).collect()
            );
            prop_assert!(!set.with(one).without(one).contains(one));
        }

        #[test]
        fn has_ranges(first in 0..=WORDS_MAX, more in 0..=WORDS_MAX) {
            let last = (first + more).min(WORDS_MAX);
            prop_assert_eq!(collect(Places::range(first, last)), (first..=last).collect());
        }
    }
}
