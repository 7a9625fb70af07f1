//! Which numbers have been seen, as runs.

/// Runs kept; beyond, the lowest gap is given up as one that will not be filled.
const RUNS_MAX: usize = 65_536;

/// A set of numbers that mostly come in order.
#[derive(Debug, Default)]
pub(super) struct SequenceRuns {
    /// First and last, rising, with a gap between any two.
    runs: Vec<(u64, u64)>,
    /// Numbers in gaps that were given up.
    given_up: u64,
}

impl SequenceRuns {
    /// Adds `first..=last`; how many of them are new.
    pub(super) fn insert(&mut self, first: u64, last: u64) -> u64 {
        debug_assert!(first <= last);
        match self.runs.last_mut() {
            Some(run) if run.1 + 1 == first => {
                run.1 = last;
                return last - first + 1;
            }
            Some(run) if run.1 >= first => {}
            _ => {
                self.runs.push((first, last));
                self.give_up_gaps();
                return last - first + 1;
            }
        }
        self.merge(first, last)
    }

    /// Numbers missing between the lowest and the highest seen.
    pub(super) fn gaps(&self) -> u64 {
        let pairs = self.runs.windows(2);
        self.given_up + pairs.map(|pair| pair[1].0 - pair[0].1 - 1).sum::<u64>()
    }

    fn merge(&mut self, first: u64, last: u64) -> u64 {
        // The runs that overlap or touch the new one.
        let begin = self.runs.partition_point(|run| run.1 + 1 < first);
        let end = self.runs.partition_point(|run| run.0 <= last + 1);
        let overlapped = &self.runs[begin..end];
        let old = overlapped.iter().filter(|run| run.0 <= last && run.1 >= first);
        let known: u64 = old.map(|run| run.1.min(last) - run.0.max(first) + 1).sum();
        let merged = match (overlapped.first(), overlapped.last()) {
            (Some(lowest), Some(highest)) => (lowest.0.min(first), highest.1.max(last)),
            _ => (first, last),
        };
        self.runs.splice(begin..end, [merged]);
        self.give_up_gaps();
        last - first + 1 - known
    }

    fn give_up_gaps(&mut self) {
        if self.runs.len() > RUNS_MAX {
            let first = self.runs.remove(0);
            self.given_up += self.runs[0].0 - first.1 - 1;
            self.runs[0].0 = first.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_like_a_set(inserts in prop::collection::vec((1u64..200, 0u64..20), 1..60)) {
            let mut runs = SequenceRuns::default();
            let mut set = BTreeSet::new();
            for (first, more) in inserts {
                let before = set.len();
                set.extend(first..=first + more);
                prop_assert_eq!(runs.insert(first, first + more), (set.len() - before) as u64);
                let (lowest, highest) = (set.first().unwrap_or(&0), set.last().unwrap_or(&0));
                prop_assert_eq!(runs.gaps(), highest - lowest + 1 - set.len() as u64);
                for pair in runs.runs.windows(2) {
                    prop_assert!(pair[0].1 + 1 < pair[1].0, "{:?}", runs);
                }
            }
        }
    }

    #[test]
    fn gaps_without_end_do_not_take_memory_without_end() {
        let mut runs = SequenceRuns::default();
        let count = 2 * RUNS_MAX as u64;
        for index in 0..count {
            assert_eq!(runs.insert(2 * index + 1, 2 * index + 1), 1);
        }
        assert_eq!(runs.runs.len(), RUNS_MAX);
        assert_eq!(runs.gaps(), count - 1);
        assert_eq!(runs.insert(2, 2), 0, "given up, so it counts as seen");
    }
}
