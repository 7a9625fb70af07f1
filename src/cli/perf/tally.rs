//! Whether every message came once and in order.
//!
//! A [`QueueTally`] is shared by the consumers of a queue and knows which messages came; an [`OrderCheck`] belongs to
//! one consumer of one queue and knows which came last. Both look at runs of messages, not at single ones.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::sequence_runs::SequenceRuns;
use super::stamp::{Stamp, StreamId};

/// Messages of one stream with rising sequences without gaps, delivered one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeliveredRun {
    pub(super) stream: StreamId,
    pub(super) first: u64,
    pub(super) last: u64,
    /// The broker said that they may have been delivered before.
    pub(super) redelivered: bool,
}

impl DeliveredRun {
    pub(super) fn of(stamp: Stamp, redelivered: bool) -> Self {
        Self { stream: stamp.stream, first: stamp.sequence, last: stamp.sequence, redelivered }
    }

    /// Takes a message into the run, if it is the next one.
    #[inline]
    pub(super) fn extend(&mut self, stamp: Stamp, redelivered: bool) -> bool {
        let is_next =
            stamp.sequence == self.last + 1 && stamp.stream == self.stream && redelivered == self.redelivered;
        self.last += u64::from(is_next);
        is_next
    }
}

/// What was wrong, in messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Faults {
    /// Came again, though the broker had not said that they might.
    pub(super) duplicated: u64,
    /// Came after a later one of their stream, though the broker had not said that they were returned to the queue.
    pub(super) out_of_order: u64,
    /// Came with the broker's word that they might have been delivered before: no fault.
    pub(super) redelivered: u64,
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.redelivered += other.redelivered;
    }
}

/// The messages that came from one queue.
#[derive(Debug, Default)]
pub(super) struct QueueTally {
    streams: BTreeMap<StreamId, SequenceRuns>,
    faults: Faults,
    /// Different messages.
    seen: u64,
}

impl QueueTally {
    /// Takes messages into account; how many of them had not come before.
    pub(super) fn note(&mut self, run: DeliveredRun, order: &mut OrderCheck) -> u64 {
        let count = run.last - run.first + 1;
        let new = self.streams.entry(run.stream).or_default().insert(run.first, run.last);
        self.seen += new;
        let in_order = order.note(run);
        if run.redelivered {
            self.faults.redelivered += count;
        } else {
            self.faults.duplicated += count - new;
            self.faults.out_of_order += new.saturating_sub(in_order);
        }
        new
    }

    /// What was wrong so far.
    pub(super) fn faults(&self) -> Faults {
        self.faults
    }

    /// Different messages that came.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Messages missing between the first and the last of each stream, for who does not know how many were sent.
    pub(super) fn gaps(&self) -> u64 {
        self.streams.values().map(SequenceRuns::gaps).sum()
    }
}

/// The order in which messages come to one consumer from one queue.
#[derive(Debug, Default)]
pub(super) struct OrderCheck {
    last: BTreeMap<StreamId, u64>,
}

impl OrderCheck {
    /// How many messages of the run come after all before them.
    fn note(&mut self, run: DeliveredRun) -> u64 {
        let last = self.last.entry(run.stream).or_default();
        let in_order = run.last.saturating_sub((*last).max(run.first - 1));
        *last = run.last.max(*last);
        in_order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId { run: 7, number: 0 };
    const OTHER: StreamId = StreamId { run: 7, number: 1 };

    fn run(stream: StreamId, first: u64, last: u64) -> DeliveredRun {
        DeliveredRun { stream, first, last, redelivered: false }
    }

    fn again(stream: StreamId, first: u64, last: u64) -> DeliveredRun {
        DeliveredRun { redelivered: true, ..run(stream, first, last) }
    }

    #[track_caller]
    fn check(runs: &[DeliveredRun], seen: u64, faults: Faults, gaps: u64) {
        let (mut tally, mut order) = (QueueTally::default(), OrderCheck::default());
        let new: u64 = runs.iter().map(|run| tally.note(*run, &mut order)).sum();
        assert_eq!((new, tally.seen(), tally.faults(), tally.gaps()), (seen, seen, faults, gaps));
    }

    #[test]
    fn what_comes_once_and_in_order_is_fine() {
        check(&[run(STREAM, 1, 10), run(OTHER, 1, 5), run(STREAM, 11, 12)], 17, Faults::default(), 0);
        check(&[run(STREAM, 4000, 4010)], 11, Faults::default(), 0);
    }

    #[test]
    fn what_is_missing_is_a_gap() {
        check(&[run(STREAM, 1, 10), run(STREAM, 13, 20)], 18, Faults::default(), 2);
    }

    #[test]
    fn what_comes_twice_is_duplicated() {
        let faults = Faults { duplicated: 4, ..Faults::default() };
        check(&[run(STREAM, 1, 10), run(STREAM, 7, 12)], 12, faults, 0);
        check(&[run(STREAM, 1, 10), run(STREAM, 7, 10)], 10, faults, 0);
    }

    #[test]
    fn what_comes_late_is_out_of_order() {
        let faults = Faults { out_of_order: 2, ..Faults::default() };
        check(&[run(STREAM, 1, 3), run(STREAM, 6, 9), run(STREAM, 4, 5)], 9, faults, 0);
    }

    #[test]
    fn what_is_said_to_come_again_may_come_again_and_late() {
        let faults = Faults { redelivered: 5, ..Faults::default() };
        check(&[run(STREAM, 1, 10), again(STREAM, 4, 6), again(STREAM, 11, 12)], 12, faults, 0);
    }

    #[test]
    fn two_consumers_share_a_queue_but_not_an_order() {
        let (mut tally, mut one, mut two) =
            (QueueTally::default(), OrderCheck::default(), OrderCheck::default());
        tally.note(run(STREAM, 5, 8), &mut one);
        tally.note(run(STREAM, 1, 4), &mut two);
        tally.note(run(STREAM, 9, 9), &mut two);
        assert_eq!((tally.seen(), tally.faults(), tally.gaps()), (9, Faults::default(), 0));
    }

    #[test]
    fn messages_join_a_run_while_they_follow_each_other() {
        let stamp = |stream, sequence| Stamp::new(stream, sequence, 0);
        let mut run = DeliveredRun::of(stamp(STREAM, 4), false);
        assert!(run.extend(stamp(STREAM, 5), false));
        assert!(!run.extend(stamp(STREAM, 5), false), "twice");
        assert!(!run.extend(stamp(OTHER, 6), false), "another stream");
        assert!(!run.extend(stamp(STREAM, 6), true), "returned to the queue before");
        assert_eq!((run.first, run.last), (4, 5));
    }
}
