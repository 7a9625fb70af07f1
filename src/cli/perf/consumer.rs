//! One consumer of one queue: checks every message, measures its age, accepts it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::plan::{Ack, Plan};
use super::producer::Shared;
use super::scoreboard::{Scoreboard, lock};
use super::stamp::{Clock, Stamp};
use super::tally::{DeliveredRun, OrderCheck, QueueTally};
use crate::cli::failure::Failure;
use crate::client::{Batch, Channel, Consumer};

/// Bytes of deliveries that wait for all consumers together, as far as the client bounds them.
const BUFFER_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that may wait for one consumer.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
const BUFFER_BYTES_MIN: usize = 64 * 1024;

/// A consumer that has been started on the broker.
#[derive(Debug)]
pub(super) struct Taker {
    consumer: Consumer,
    ack: Ack,
    examiner: Examiner,
    /// Messages that all consumers together may still take.
    quota: Arc<AtomicU64>,
    clock: Clock,
    board: Arc<Scoreboard>,
}

impl Taker {
    pub(super) async fn start(
        channel: &Channel,
        plan: &Plan,
        queue: &str,
        tally: Arc<Mutex<QueueTally>>,
        quota: Arc<AtomicU64>,
        shared: &Shared,
    ) -> Result<Self, Failure> {
        let each = BUFFER_BYTES / plan.subscriptions().len().max(1);
        let builder = channel.consume(queue).buffer_bytes(each.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX));
        let builder = match plan.ack {
            Ack::Auto => builder.no_ack(),
            Ack::Manual => builder.prefetch(plan.prefetch),
        };
        let expected_run = (!plan.is_drain()).then_some(shared.run);
        Ok(Self {
            consumer: builder.start().await?,
            ack: plan.ack,
            examiner: Examiner { expected_run, tally, order: OrderCheck::default(), latencies: Vec::new() },
            quota,
            clock: shared.clock,
            board: shared.board.clone(),
        })
    }

    /// Consumes until it is stopped from outside or the quota is used up. Errors are on the scoreboard.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.consumer.next_batch().await {
            match batch.map_err(Failure::from).and_then(|batch| self.take(batch)) {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) => return self.board.add_fatal(failure.text()),
            }
        }
    }

    /// Whether more is wanted.
    fn take(&mut self, mut batch: Batch) -> Result<bool, Failure> {
        let now_ns = self.clock.now_ns();
        let wanted = take_quota(&self.quota, batch.len() as u64);
        let examined = self.examiner.examine(&batch, wanted as usize, now_ns)?;
        self.board.add_foreign(examined.foreign);
        // Whoever drains a queue takes what is there, whoever sent it.
        let counted = if self.examiner.expected_run.is_none() { examined.foreign } else { 0 };
        self.board.add_consumed(now_ns, examined.new + counted, &self.examiner.latencies);
        let is_more = wanted == batch.len() as u64;
        // Of what is accepted when it is sent, nothing can be given back.
        match self.ack {
            Ack::Auto => {}
            Ack::Manual if is_more => batch.accept()?,
            Ack::Manual => {
                for delivery in batch.by_ref().take(wanted as usize) {
                    delivery?.accept()?;
                }
                batch.requeue()?;
            }
        }
        Ok(is_more)
    }
}

/// Takes up to `count` from a quota; how many.
fn take_quota(quota: &AtomicU64, count: u64) -> u64 {
    let take = |left: u64| Some(left.saturating_sub(count));
    let left = quota.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
    left.unwrap_or_default().min(count)
}

/// What a look at a batch has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Examined {
    /// Messages that had not come before.
    new: u64,
    /// Messages that this run did not send.
    foreign: u64,
}

#[derive(Debug)]
struct Examiner {
    /// `None`: whatever comes counts.
    expected_run: Option<u16>,
    tally: Arc<Mutex<QueueTally>>,
    order: OrderCheck,
    /// Of the last batch: nanoseconds, and how many messages one after the other had them.
    latencies: Vec<(u64, u64)>,
}

impl Examiner {
    fn examine(&mut self, batch: &Batch, wanted: usize, now_ns: u64) -> Result<Examined, Failure> {
        self.latencies.clear();
        let mut examined = Examined { new: 0, foreign: 0 };
        let mut tally = lock(&self.tally);
        let mut run: Option<DeliveredRun> = None;
        for delivery in batch.iter().take(wanted) {
            let delivery = delivery?;
            let stamp = Stamp::read(delivery.body());
            let Some(stamp) =
                stamp.filter(|stamp| self.expected_run.is_none_or(|run| run == stamp.stream.run))
            else {
                examined.foreign += 1;
                continue;
            };
            if let Some(age_ns) = stamp.age_ns(now_ns) {
                match self.latencies.last_mut() {
                    Some((same, count)) if *same == age_ns => *count += 1,
                    _ => self.latencies.push((age_ns, 1)),
                }
            }
            let redelivered = delivery.redelivered();
            if run.as_mut().is_some_and(|run| run.extend(stamp, redelivered)) {
                continue;
            }
            if let Some(run) = run.replace(DeliveredRun::of(stamp, redelivered)) {
                examined.new += tally.note(run, &mut self.order);
            }
        }
        if let Some(run) = run {
            examined.new += tally.note(run, &mut self.order);
        }
        Ok(examined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_shared_and_never_exceeded() {
        let quota = AtomicU64::new(25);
        let taken = [10, 10, 10, 10].map(|count| take_quota(&quota, count));
        assert_eq!(taken, [10, 10, 5, 0]);
    }
}
