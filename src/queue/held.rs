//! Messages that are held back until a later time: they do not wait, and no consumer has them.

use std::collections::BTreeMap;

use super::message_ref::MessageRef;

/// Those of a line. Messages that follow each other take no more room than one.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// First sequence of each run, and the one behind its last.
    runs: BTreeMap<u64, u64>,
    count: u64,
    bytes: u64,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Their bytes; of large messages to 16 KiB less each.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The run that a message is in: its first sequence, and the one behind its last.
    fn run_of(&self, sequence: u64) -> Option<(u64, u64)> {
        let (first, end) = self.runs.range(..=sequence).next_back()?;
        (sequence < *end).then_some((*first, *end))
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        !self.is_empty() && self.run_of(sequence).is_some()
    }

    /// How many that follow each other are held from this one on.
    pub(super) fn run_from(&self, sequence: u64) -> u64 {
        self.run_of(sequence).map_or(0, |(_, end)| end - sequence)
    }

    /// How many there are from this sequence on.
    pub(super) fn count_from(&self, sequence: u64) -> u64 {
        let behind: u64 = self.runs.range(sequence..).map(|(first, end)| end - first).sum();
        let within = self.runs.range(..sequence).next_back();
        behind + within.map_or(0, |(_, end)| end.saturating_sub(sequence))
    }

    /// The first one at or behind this sequence, at which none is held.
    pub(super) fn next_after(&self, sequence: u64) -> Option<u64> {
        self.runs.range(sequence..).next().map(|(first, _)| *first)
    }

    /// Whether it was not held before.
    pub(super) fn insert(&mut self, message: MessageRef) -> bool {
        let sequence = message.sequence();
        if self.contains(sequence) {
            return false;
        }
        let end = self.runs.remove(&(sequence + 1)).unwrap_or(sequence + 1);
        match self.runs.range_mut(..sequence).next_back().filter(|(_, end)| **end == sequence) {
            Some((_, before)) => *before = end,
            None => drop(self.runs.insert(sequence, end)),
        }
        self.count += 1;
        self.bytes += message.size_bytes();
        true
    }

    /// Whether it was held.
    pub(super) fn remove(&mut self, message: MessageRef) -> bool {
        let sequence = message.sequence();
        let Some((first, end)) = self.run_of(sequence) else { return false };
        match first == sequence {
            true => drop(self.runs.remove(&first)),
            false => drop(self.runs.insert(first, sequence)),
        }
        if sequence + 1 < end {
            self.runs.insert(sequence + 1, end);
        }
        self.count -= 1;
        self.bytes -= message.size_bytes();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::BodySequence;

    fn message(sequence: u64) -> MessageRef {
        MessageRef::with_remainder(BodySequence(sequence), 10).0
    }

    #[test]
    fn neighbours_are_one_run_and_part_again() {
        let mut held = Held::default();
        for sequence in [5, 7, 6, 1, 9] {
            assert!(held.insert(message(sequence)));
        }
        assert!(!held.insert(message(6)), "it is held");
        assert_eq!(held.runs, BTreeMap::from([(1, 2), (5, 8), (9, 10)]));
        assert_eq!((held.count(), held.bytes()), (5, 50));
        assert_eq!((held.run_from(6), held.run_from(8), held.next_after(8)), (2, 0, Some(9)));
        assert!(held.remove(message(6)) && !held.remove(message(6)) && held.remove(message(1)));
        assert_eq!(held.runs, BTreeMap::from([(5, 6), (7, 8), (9, 10)]));
        assert_eq!((held.count(), held.bytes()), (3, 30));
    }

    proptest::proptest! {
        #[test]
        fn it_holds_what_a_set_holds(steps in proptest::collection::vec((0..20u64, proptest::bool::ANY), 0..200)) {
            let (mut held, mut set) = (Held::default(), BTreeSet::new());
            for (sequence, add) in steps {
                match add {
                    true => assert_eq!(held.insert(message(sequence)), set.insert(sequence)),
                    false => assert_eq!(held.remove(message(sequence)), set.remove(&sequence)),
                }
                let sequences: Vec<u64> = (0..20).filter(|sequence| held.contains(*sequence)).collect();
                assert_eq!(sequences, Vec::from_iter(set.iter().copied()));
                assert_eq!((held.count(), held.bytes()), (set.len() as u64, 10 * set.len() as u64));
                for from in 0..21 {
                    assert_eq!(held.count_from(from), set.range(from..).count() as u64);
                }
                let ends: Vec<u64> = held.runs.values().copied().collect();
                let starts: Vec<u64> = held.runs.keys().skip(1).copied().collect();
                assert!(ends.iter().zip(starts).all(|(end, start)| *end < start), "no two that touch");
            }
        }
    }
}
