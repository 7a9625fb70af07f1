//! Sets of body sequences, written as runs because consumers settle in runs.

use std::ops::Range;

use crate::model::BodySequence;

/// Consecutive body sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRun {
    /// The first of them.
    pub first: BodySequence,
    /// How many, at least 1.
    pub count: u64,
}

/// Body sequences in the order they were added, neighbours joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SequenceRuns(Vec<SequenceRun>);

impl SequenceRun {
    /// All of them.
    pub fn sequences(&self) -> Range<u64> {
        self.first.0..self.first.0 + self.count
    }
}

impl SequenceRuns {
    /// Adds one sequence; joins it to the last run if it is that run's successor.
    pub fn push(&mut self, sequence: BodySequence) {
        self.push_run(SequenceRun { first: sequence, count: 1 });
    }

    /// Adds a run.
    pub fn push_run(&mut self, run: SequenceRun) {
        if let Some(last) = self.0.last_mut()
            && last.first.0 + last.count == run.first.0
        {
            last.count += run.count;
            return;
        }
        self.0.push(run);
    }

    /// Brings the sequences into order, each once.
    pub fn normalize(&mut self) {
        self.0.sort_unstable_by_key(|run| run.first);
        self.0.dedup_by(|next, run| {
            let end = run.first.0 + run.count;
            let joins = next.first.0 <= end;
            if joins {
                run.count = run.count.max(next.first.0 + next.count - run.first.0);
            }
            joins
        });
    }

    /// The runs.
    pub fn runs(&self) -> &[SequenceRun] {
        &self.0
    }

    /// Every single sequence.
    pub fn sequences(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(SequenceRun::sequences)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_runs_are_in_order_and_hold_each_sequence_once() {
        let mut runs = SequenceRuns::default();
        for (first, count) in [(7, 3), (1, 2), (8, 1), (3, 1), (20, 1), (7, 5), (20, 1)] {
            runs.push_run(SequenceRun { first: BodySequence(first), count });
        }
        runs.normalize();
        let normal: Vec<(u64, u64)> = runs.runs().iter().map(|run| (run.first.0, run.count)).collect();
        assert_eq!(normal, [(1, 3), (7, 5), (20, 1)]);
    }
}
