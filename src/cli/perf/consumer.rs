//! Consuming, and checking what comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::counters::Counters;
use super::plan::{Ack, Plan};
use super::producer::histogram;
use super::tally::Tally;
use crate::cli::failure::Failure;
use crate::client::{Batch, Connection, Consumer};

/// How often a consumer without messages looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One consumer of one queue.
pub(super) struct Tap {
    queue: usize,
    consumer: Consumer,
}

/// What a consumer got.
pub(super) struct Tapped {
    pub(super) queue: usize,
    pub(super) tally: Tally,
    pub(super) latency: Histogram<u64>,
}

impl Tap {
    pub(super) async fn open(connection: &Connection, plan: &Plan, queue: usize) -> Result<Self, Failure> {
        let channel = connection.channel().await?;
        let builder = channel.consume(&plan.queue_name(queue)).prefetch(plan.prefetch);
        let builder = if plan.ack == Ack::Auto { builder.no_ack() } else { builder };
        Ok(Self { queue, consumer: builder.start().await? })
    }

    pub(super) async fn run(
        self,
        plan: Arc<Plan>,
        counters: Arc<Counters>,
        connection: Connection,
    ) -> Result<Tapped, Failure> {
        let result = self.consume(&plan, &counters).await;
        if result.is_err() {
            counters.fail();
        }
        // Taps share their consumer's connection; the last one to go closes it.
        drop(connection);
        result
    }

    async fn consume(self, plan: &Plan, counters: &Counters) -> Result<Tapped, Failure> {
        let Self { queue, mut consumer } = self;
        let mut tapped = Tapped { queue, tally: Tally::default(), latency: histogram() };
        let mut look = tokio::time::interval(LOOK_EVERY);
        // Without producers there is no run whose clock the stamps are of.
        let has_clock = plan.producers > 0;
        while counters.is_consuming() {
            let waiting = Instant::now();
            let batch = tokio::select! {
                biased;
                batch = consumer.next_batch() => batch,
                _ = look.tick() => continue,
            };
            counters.add_consumer_wait(waiting.elapsed());
            let Some(batch) = batch else {
                return Err(Failure::new(format!(
                    "the consumer of queue '{}' was ended",
                    plan.queue_name(queue)
                )));
            };
            let batch = batch?;
            let count = batch.len() as u64;
            tapped.check(&batch, has_clock.then_some(counters))?;
            if plan.ack == Ack::Manual {
                batch.accept()?;
            }
            let consumed = counters.add_consumed(count);
            if plan.producers == 0 && plan.count.is_some_and(|count| consumed >= count) {
                break;
            }
        }
        consumer.cancel().await?;
        Ok(tapped)
    }
}

impl Tapped {
    /// Looks at each message. Messages that came together with the same time are recorded together.
    fn check(&mut self, batch: &Batch, counters: Option<&Counters>) -> Result<(), Failure> {
        let now = counters.filter(|counters| counters.is_measuring()).map(Counters::now_us);
        let mut same = (0u64, 0u64);
        for delivery in batch.iter() {
            let delivery = delivery?;
            let stamp = self.tally.note(delivery.body(), delivery.redelivered() || delivery.resent());
            let (Some(now), Some(stamp)) = (now, stamp) else { continue };
            let latency = now.saturating_sub(stamp.sent_us);
            if latency != same.0 {
                self.record(same);
                same = (latency, 0);
            }
            same.1 += 1;
        }
        self.record(same);
        Ok(())
    }

    fn record(&mut self, (latency_us, messages): (u64, u64)) {
        if messages > 0 {
            self.latency.saturating_record_n(latency_us, messages);
        }
    }
}
