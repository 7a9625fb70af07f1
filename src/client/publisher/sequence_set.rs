//! A set of sequences that fills up from below, in any order.

use std::collections::VecDeque;

/// Sequences from 1 on: all up to a watermark, and disjoint runs beyond it. Memory grows with the number of gaps only.
#[derive(Debug, Default)]
pub(super) struct SequenceSet {
    through: u64,
    /// First and last of each run; sorted, disjoint, not adjacent, all beyond `through + 1`.
    beyond: VecDeque<(u64, u64)>,
}

/// A sequence was added twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Twice;

impl SequenceSet {
    /// Every sequence up to this one is in the set.
    pub(super) fn through(&self) -> u64 {
        self.through
    }

    /// Adds `first..=last`; nothing changes if one of them is there already.
    pub(super) fn insert(&mut self, first: u64, last: u64) -> Result<(), Twice> {
        debug_assert!(first >= 1 && first <= last, "a run has a first and a last sequence");
        if first <= self.through {
            return Err(Twice);
        }
        let at = self.beyond.partition_point(|&(_, run_last)| run_last < first);
        if self.beyond.get(at).is_some_and(|&(run_first, _)| run_first <= last) {
            return Err(Twice);
        }
        if first == self.through + 1 {
            self.through = last;
            while let Some(&(_, run_last)) =
                self.beyond.front().filter(|&&(run_first, _)| run_first == self.through + 1)
            {
                self.through = run_last;
                self.beyond.pop_front();
            }
            return Ok(());
        }
        let joins_before = at > 0 && self.beyond[at - 1].1 + 1 == first;
        let joins_after = self.beyond.get(at).is_some_and(|&(run_first, _)| run_first == last + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                self.beyond[at - 1].1 = self.beyond[at].1;
                self.beyond.remove(at);
            }
            (true, false) => self.beyond[at - 1].1 = last,
            (false, true) => self.beyond[at].0 = first,
            (false, false) => self.beyond.insert(at, (first, last)),
        }
        Ok(())
    }

    /// Whether a sequence is in the set.
    pub(super) fn contains(&self, sequence: u64) -> bool {
        let at = self.beyond.partition_point(|&(_, last)| last < sequence);
        sequence <= self.through || self.beyond.get(at).is_some_and(|&(first, _)| first <= sequence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(runs in prop::collection::vec((1u64..60, 0u64..6), 0..60)) {
            let mut set = SequenceSet::default();
            let mut plain = BTreeSet::new();
            for (first, more) in runs {
                let last = first + more;
                let twice = (first..=last).any(|sequence| plain.contains(&sequence));
                prop_assert_eq!(set.insert(first, last).is_err(), twice);
                if !twice {
                    plain.extend(first..=last);
                }
                let through = (1u64..).take_while(|sequence| plain.contains(sequence)).last().unwrap_or(0);
                prop_assert_eq!(set.through(), through);
                for sequence in 1..70 {
                    prop_assert_eq!(set.contains(sequence), plain.contains(&sequence));
                }
                let runs: Vec<_> = set.beyond.iter().copied().collect();
                prop_assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "runs are apart: {:?}", runs);
            }
        }
    }
}
