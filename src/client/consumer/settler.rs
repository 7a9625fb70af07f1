//! What became of deliveries, on its way to the broker: single outcomes in, few ranges out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::convert::millis;
use crate::client::core::{Core, lock};
use crate::client::error::{CloseReason, RequestError, SettleError};
use crate::client::state::Outgoing;
use crate::wire::{self, pb};

/// Among fewer runs of deliveries to be extended none are looked for that say the same.
const EXTENDED_MIN: usize = 1_000;

/// Collects the outcomes of one consumer's deliveries (number 0: of those that came by Get) until the driver comes for
/// them. Holds at most as many runs as there are unsettled deliveries.
#[derive(Debug)]
pub(in crate::client) struct Settler {
    core: Arc<Core>,
    channel: u32,
    consumer: u32,
    outbox: Mutex<Outbox>,
}

#[derive(Debug)]
struct Outbox {
    /// The connection whose deliveries can be settled now; 0 while there is none.
    epoch: u64,
    runs: Vec<Run>,
    /// Deliveries whose leases begin anew; at most [`EXTENDED_MIN`], or twice as many runs as there are unsettled ones.
    extended: Vec<pb::TagRange>,
    /// Runs of these before those are looked for that say the same.
    extended_max: usize,
    is_queued: bool,
    closed: Option<CloseReason>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct Settled {
    outcome: pb::Outcome,
    /// Of one that is requeued: for how long it is held back, if that is not the queue's to say.
    delay_ms: Option<u64>,
}

impl Settled {
    /// It goes back, and is held back for so long.
    pub(super) fn deferred(delay: Duration) -> Self {
        Self { outcome: pb::Outcome::Requeued, delay_ms: Some(millis(delay)) }
    }
}

impl From<pb::Outcome> for Settled {
    fn from(outcome: pb::Outcome) -> Self {
        Self { outcome, delay_ms: None }
    }
}

/// Deliveries of which the same became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    last: u64,
    settled: Settled,
}

impl Settler {
    pub(in crate::client) fn new(core: Arc<Core>, channel: u32, consumer: u32, epoch: u64) -> Self {
        let outbox = Outbox {
            epoch,
            runs: Vec::new(),
            extended: Vec::new(),
            extended_max: EXTENDED_MIN,
            is_queued: false,
            closed: None,
        };
        Self { core, channel, consumer, outbox: Mutex::new(outbox) }
    }

    pub(in crate::client) fn channel(&self) -> u32 {
        self.channel
    }

    pub(in crate::client) fn consumer(&self) -> u32 {
        self.consumer
    }

    /// Notes the outcome of deliveries `first..=last` that came over the connection counted `epoch`.
    pub(in crate::client) fn settle(
        self: &Arc<Self>,
        epoch: u64,
        first: u64,
        last: u64,
        settled: impl Into<Settled>,
    ) -> Result<(), SettleError> {
        let settled = settled.into();
        let mut outbox = lock(&self.outbox);
        outbox.check(epoch)?;
        push_run(&mut outbox.runs, Run { first, last, settled });
        if !std::mem::replace(&mut outbox.is_queued, true) {
            drop(outbox);
            self.core.enqueue(Outgoing::Settler(self.clone()));
        }
        Ok(())
    }

    /// The leases of deliveries `first..=last` that came over the connection counted `epoch` begin anew; both 0: of all that are
    /// unsettled.
    pub(super) fn extend(self: &Arc<Self>, epoch: u64, first: u64, last: u64) -> Result<(), SettleError> {
        let mut outbox = lock(&self.outbox);
        outbox.check(epoch)?;
        outbox.extend(first, last);
        if !std::mem::replace(&mut outbox.is_queued, true) {
            drop(outbox);
            self.core.enqueue(Outgoing::Settler(self.clone()));
        }
        Ok(())
    }

    /// As [`extend`](Self::extend) of all deliveries of the connection of now; if there is none there is nothing to extend.
    pub(super) fn extend_all(self: &Arc<Self>) -> Result<(), SettleError> {
        let epoch = lock(&self.outbox).epoch;
        if epoch == 0 { Ok(()) } else { self.extend(epoch, 0, 0) }
    }

    /// Gives the driver the deliveries whose leases begin anew, to be sent before what is settled.
    pub(in crate::client) fn take_extended(&self) -> Vec<pb::TagRange> {
        std::mem::take(&mut lock(&self.outbox).extended)
    }

    /// Puts a message that came by Get back into its queue; `tag` 0: it is not to be settled.
    pub(in crate::client) fn give_back(self: &Arc<Self>, epoch: u64, tag: u64) {
        if tag != 0 {
            // If it cannot be settled any more, the broker has put it back already.
            let _ = self.settle(epoch, tag, tag, pb::Outcome::Requeued);
        }
    }

    /// Settles one delivery and waits until the broker has stored that.
    pub(super) async fn settle_stored(
        &self,
        epoch: u64,
        tag: u64,
        outcome: pb::Outcome,
    ) -> Result<(), SettleError> {
        lock(&self.outbox).check(epoch)?;
        let range = pb::SettleRange { first: tag, last: 0, outcome: outcome.into(), delay_ms: None };
        let answer = self.core.request_encoded(self.channel, epoch, |request, out| {
            wire::encode_settle(self.channel, request, self.consumer, &[range], out);
        });
        let answer = match answer {
            Ok(answer) => answer.done().await,
            Err(None) => return Err(SettleError::Stale),
            Err(Some(error)) => Err(error),
        };
        answer.map_err(|error| match error {
            RequestError::Refused(refusal) => SettleError::Refused(refusal),
            RequestError::Closed(reason) => SettleError::Closed(reason),
            RequestError::Disconnected(reason) => SettleError::Unknown(reason),
            RequestError::Invalid(_) | RequestError::UnexpectedAnswer { .. } => {
                SettleError::Unanswered(error.to_string())
            }
        })
    }

    /// Gives the driver what is to be sent.
    pub(in crate::client) fn take(&self) -> Vec<pb::SettleRange> {
        let mut outbox = lock(&self.outbox);
        outbox.is_queued = false;
        let mut runs = std::mem::take(&mut outbox.runs);
        drop(outbox);
        merge_runs(&mut runs);
        let range = |run: Run| pb::SettleRange {
            first: run.first,
            last: if run.last == run.first { 0 } else { run.last },
            outcome: run.settled.outcome.into(),
            delay_ms: run.settled.delay_ms,
        };
        runs.into_iter().map(range).collect()
    }

    /// The connection broke: nothing that came over it can be settled any more.
    pub(in crate::client) fn suspend(&self) {
        let mut outbox = lock(&self.outbox);
        outbox.epoch = 0;
        outbox.is_queued = false;
        outbox.runs.clear();
        outbox.extended.clear();
    }

    /// Deliveries of the connection counted `epoch` can be settled from now on.
    pub(in crate::client) fn resume(&self, epoch: u64) {
        lock(&self.outbox).epoch = epoch;
    }

    /// Nothing can be settled from now on.
    pub(in crate::client) fn close(&self, reason: &CloseReason) {
        lock(&self.outbox).closed.get_or_insert_with(|| reason.clone());
    }
}

impl Outbox {
    /// All of them is all that is to be said.
    fn extend(&mut self, first: u64, last: u64) {
        let is_all = |range: &pb::TagRange| range.last == 0;
        match self.extended.last_mut() {
            Some(before) if is_all(before) => {}
            Some(before) if first > 0 && before.last + 1 == first => before.last = last,
            // A program that says so over and over while nothing is sent.
            Some(before) if first > 0 && before.first <= first && last <= before.last => {}
            _ if last == 0 => self.extended = vec![pb::TagRange { first: 0, last: 0 }],
            _ => self.extended.push(pb::TagRange { first, last }),
        }
        if self.extended.len() > self.extended_max {
            merge_ranges(&mut self.extended);
            self.extended_max = EXTENDED_MIN.max(2 * self.extended.len());
        }
    }

    fn check(&self, epoch: u64) -> Result<(), SettleError> {
        match &self.closed {
            Some(reason) => Err(SettleError::Closed(reason.clone())),
            None if self.epoch != epoch => Err(SettleError::Stale),
            None => Ok(()),
        }
    }
}

/// Most applications settle in order, or in reverse: then one run is all there ever is.
fn push_run(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(before) if before.settled == run.settled && before.last + 1 == run.first => {
            before.last = run.last
        }
        Some(before) if before.settled == run.settled && run.last + 1 == before.first => {
            before.first = run.first
        }
        _ => runs.push(run),
    }
}

fn merge_ranges(ranges: &mut Vec<pb::TagRange>) {
    ranges.sort_unstable_by_key(|range| range.first);
    ranges.dedup_by(|range, before| {
        let is_joined = range.first <= before.last + 1;
        if is_joined {
            before.last = before.last.max(range.last);
        }
        is_joined
    });
}

fn merge_runs(runs: &mut Vec<Run>) {
    runs.sort_unstable_by_key(|run| run.first);
    runs.dedup_by(|run, before| {
        let is_adjacent = before.settled == run.settled && before.last + 1 == run.first;
        if is_adjacent {
            before.last = run.last;
        }
        is_adjacent
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extended(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut outbox = Outbox {
            epoch: 1,
            runs: Vec::new(),
            extended: Vec::new(),
            extended_max: 3,
            is_queued: false,
            closed: None,
        };
        ranges.iter().for_each(|(first, last)| outbox.extend(*first, *last));
        outbox.extended.iter().map(|range| (range.first, range.last)).collect()
    }

    #[test]
    fn what_is_extended_is_said_once() {
        assert_eq!(extended(&[(1, 1), (2, 2), (3, 9), (4, 4)]), [(1, 9)]);
        assert_eq!(extended(&[(1, 1), (5, 6), (0, 0), (2, 2)]), [(0, 0)], "all is all");
        assert_eq!(extended(&[(5, 5), (1, 1), (5, 5), (1, 1)]), [(1, 1), (5, 5)]);
        assert_eq!(extended(&[(9, 9), (1, 1), (5, 5), (7, 8)]), [(1, 1), (5, 5), (7, 9)]);
    }

    proptest! {
        #[test]
        fn runs_say_what_single_outcomes_said(
            tags in Just((1u64..80).collect::<Vec<_>>()).prop_shuffle(),
            outcomes in prop::collection::vec(0u8..4, 80),
        ) {
            let outcome_of = |tag: u64| match outcomes[tag as usize] {
                0 | 1 => Some(pb::Outcome::Accepted),
                2 => Some(pb::Outcome::Requeued),
                _ => None,
            };
            let mut runs = Vec::new();
            for tag in tags {
                if let Some(outcome) = outcome_of(tag) {
                    push_run(&mut runs, Run { first: tag, last: tag, settled: outcome.into() });
                }
            }
            merge_runs(&mut runs);
            for tag in 1..80 {
                let said: Vec<_> = runs.iter().filter(|run| run.first <= tag && tag <= run.last).collect();
                prop_assert_eq!(said.first().map(|run| run.settled.outcome), outcome_of(tag));
                prop_assert!(said.len() <= 1, "each delivery is settled once");
            }
            for pair in runs.windows(2) {
                let could_merge = pair[0].last + 1 == pair[1].first && pair[0].settled == pair[1].settled;
                prop_assert!(!could_merge, "runs are as long as they can be");
            }
        }
    }
}
