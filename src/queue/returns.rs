//! Messages that come back: they wait in their places again, and how often they came back is recorded later.

use super::departure::{Departure, Return};
use super::queue::{CountRun, Effect, Effects, Queue, QueueCommand};
use super::sequence_runs::{SequenceRun, SequenceRuns};
use crate::model::BodySequence;

/// Among fewer runs of messages that came back no doubles are looked for.
pub(super) const UNCOUNTED_RUNS_MIN: usize = 1024;

impl Queue {
    pub(super) fn apply_counts(&mut self, counts: &[CountRun]) {
        for CountRun { run, count } in counts {
            for sequence in run.sequences() {
                if self.lines.holds(sequence) {
                    self.delivery_counts.insert(sequence, *count);
                }
            }
        }
    }

    /// Counts that changed since they were last asked for, to be recorded.
    pub fn counts_to_record(&mut self) -> Option<QueueCommand> {
        let mut counts: Vec<CountRun> = Vec::new();
        self.uncounted.normalize();
        self.uncounted_runs_max = UNCOUNTED_RUNS_MIN;
        for sequence in std::mem::take(&mut self.uncounted).sequences() {
            let Some(count) = self.delivery_counts.get(&sequence).copied() else { continue };
            match counts.last_mut() {
                Some(last) if last.count == count && last.run.first.0 + last.run.count == sequence => {
                    last.run.count += 1;
                }
                _ => {
                    let run = SequenceRun { first: BodySequence(sequence), count: 1 };
                    counts.push(CountRun { run, count });
                }
            }
        }
        (!counts.is_empty()).then_some(QueueCommand::Counts(counts))
    }

    /// Unsettled messages are waiting in their places again. That they are waiting needs no record, since after a crash
    /// they would be; how often they came back is recorded with what comes next.
    pub(super) fn come_back(
        &mut self,
        why: Return,
        runs: SequenceRuns,
        after_millis: Option<u64>,
        effects: &mut Effects,
    ) {
        self.put_back(&runs);
        runs.runs().iter().for_each(|run| self.uncounted.push_run(*run));
        // Those that come back over and over are there once, as long as nothing can be recorded, too.
        if self.uncounted.runs().len() > self.uncounted_runs_max {
            self.uncounted.normalize();
            self.uncounted_runs_max = UNCOUNTED_RUNS_MIN.max(2 * self.uncounted.runs().len());
        }
        let beyond = self.beyond_delivery_limit(&runs);
        effects.push(Effect::CameBack(why, runs, after_millis));
        self.leave(Departure::DeliveryLimit, beyond, effects);
    }

    /// For how many milliseconds each of these messages that came back is to be held back; those are left out that are to leave.
    pub fn delays_of(&self, why: Return, runs: &SequenceRuns, after_millis: Option<u64>) -> Vec<(u64, u64)> {
        if after_millis == Some(0) || after_millis.is_none() && self.options.retry.is_none() {
            return Vec::new();
        }
        let mut delays = Vec::new();
        for sequence in runs.sequences() {
            let count = self.delivery_counts.get(&sequence).copied().unwrap_or(0);
            let retry = || self.options.retry.and_then(|retry| retry.delay_millis(why, count, sequence));
            if let Some(millis) = after_millis
                .or_else(retry)
                .filter(|_| self.options.delivery_limit.is_none_or(|limit| count <= limit))
            {
                delays.push((sequence, millis));
            }
        }
        delays.sort_unstable();
        delays
    }

    /// Those of these messages that came back more often than they may.
    fn beyond_delivery_limit(&self, came_back: &SequenceRuns) -> SequenceRuns {
        let mut runs = SequenceRuns::default();
        let Some(limit) = self.options.delivery_limit else { return runs };
        let is_beyond =
            |sequence: &u64| self.delivery_counts.get(sequence).is_some_and(|count| *count > limit);
        came_back.sequences().filter(is_beyond).for_each(|sequence| runs.push(BodySequence(sequence)));
        runs
    }

    pub(super) fn put_back(&mut self, runs: &SequenceRuns) {
        for sequence in runs.sequences() {
            let Some(was_outstanding) = self.lines.put_back(sequence) else { continue };
            let count = self.delivery_counts.entry(sequence).or_insert(0);
            *count = count.saturating_add(1);
            self.outstanding -= u64::from(was_outstanding);
        }
    }
}
