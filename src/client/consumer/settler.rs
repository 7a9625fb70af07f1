//! What became of deliveries, on its way to the broker: single outcomes in, few ranges out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::convert::millis;
use crate::client::core::{Core, lock};
use crate::client::error::{CloseReason, RequestError, SettleError};
use crate::client::state::Outgoing;
use crate::wire::{self, pb};

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
        let outbox = Outbox { epoch, runs: Vec::new(), is_queued: false, closed: None };
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
