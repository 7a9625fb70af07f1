//! Emptying the broker to the last message, and what is left then.

use super::books::{Finding, MessageId, QueueNumber, Stage, Way};
use super::client::{CHANNEL, Pending};
use super::dying::COLLECTOR;
use super::run::Run;
use super::world::SEGMENT_BYTES;
use crate::broker::{ConsumeRequest, Outcome, SettleRequest, Settlement, TagRange};

/// Rounds after which a queue that is consumed is taken to give nothing more.
const ROUNDS_MAX: usize = 5_000;
/// Segments that the logs of a broker without messages hold at most, all together.
const IDLE_SEGMENTS_MAX: u64 = 24;
/// Bytes of messages in memory that a broker without any is said to hold at most.
const IDLE_MEMORY_BYTES_MAX: u64 = 0;
/// From one look at a broker that is left alone to the next, in milliseconds.
const ROUND_MS: u64 = 10_000;
/// So many times nothing was forgotten, and housekeeping is done.
const QUIET_ROUNDS: u64 = 20;
/// More looks than it takes for all that is retained to grow old.
const REST_ROUNDS_MAX: u64 = 1_000;

impl Run {
    /// Empties all queues, holds what came against the books, and looks whether the broker is as one that is empty.
    pub(super) fn audit(&mut self) -> Result<(), Finding> {
        self.trace.note(format_args!("everything is held against the books"));
        self.listen()?;
        while !self.clients.is_empty() {
            self.leave(0);
        }
        self.look()?;
        for queue in self.books.for_all() {
            self.await_due(queue)?;
            self.fade();
            if self.books.queues[queue].stage != Stage::There {
                continue;
            }
            self.empty(queue)?;
            self.look_into(queue)?;
        }
        self.make_peace()?;
        self.check_empty()?;
        self.check_ages()
    }

    fn empty(&mut self, queue: QueueNumber) -> Result<(), Finding> {
        let name = self.books.queues[queue].name;
        let index = self.arrive();
        let client = &mut self.clients[index];
        let consumer = client.new_consumer(queue, false);
        let request = client.request(Pending::Consume { consumer });
        client.session.consume(ConsumeRequest {
            queue: name.to_owned(),
            channel: CHANNEL,
            consumer,
            tag: String::new(),
            prefetch: 0,
            no_ack: false,
            exclusive: false,
            priority: 0,
            credit: None,
            request,
        });
        let (ready, unsettled) = self.counts(queue, |ready, _| ready == 0)?;
        debug_assert_eq!(ready, 0);
        self.make_peace()?;
        let client = &mut self.clients[index];
        let came: Vec<(MessageId, QueueNumber)> = client.held.values().copied().collect();
        let ids: Vec<MessageId> = came.iter().map(|(id, _)| *id).collect();
        if unsettled != ids.len() as u64 {
            return Err(format!(
                "queue '{name}' says that {unsettled} messages are with clients, and {} are",
                ids.len()
            ));
        }
        self.books.emptied(queue, &ids)?;
        self.counters.overtakers += self.books.overtakers(queue, &ids);
        self.books.queues[queue].emptied_ms = self.books.latest_ms;
        let owed = self.books.owed_somewhere(queue);
        self.check_dead(queue, &owed, &ids)?;
        self.counters.audits += 1;
        let client = &mut self.clients[index];
        client.held.clear();
        came.iter().for_each(|(id, queue)| self.books.leaving(*id, *queue, Way::Done));
        let request = client.request(Pending::Settle { messages: came });
        let settlements =
            vec![Settlement { range: TagRange { first: 0, last: 0 }, outcome: Outcome::Accepted }];
        let session = &mut client.session;
        let settle = SettleRequest { channel: CHANNEL, consumer, settlements, request: Some(request) };
        self.world.enter(|| session.settle(settle));
        self.counts(queue, |ready, unsettled| ready + unsettled == 0)?;
        self.make_peace()?;
        if self.clients[index].pending.contains_key(&request) {
            return Err(format!("a settlement of queue '{name}' is not answered"));
        }
        self.leave(index);
        Ok(())
    }

    /// Waits until the numbers of a queue are as they should become: ready and unsettled messages.
    fn counts(&mut self, queue: QueueNumber, done: impl Fn(u64, u64) -> bool) -> Result<(u64, u64), Finding> {
        let name = self.books.queues[queue].name;
        let mut last = (0, 0);
        for _ in 0..ROUNDS_MAX {
            self.world.round(&mut self.random);
            self.listen()?;
            let who = self.world.log_in();
            let listed = self.world.listed(&who, &mut self.random)?;
            let Some(found) = listed.into_iter().find(|listing| listing.definition.name.as_str() == name)
            else {
                return Err(format!("queue '{name}' is there and is not listed"));
            };
            if let Some(fault) = found.fault {
                return Err(format!("queue '{name}' is out of order without need: {fault}"));
            }
            last = (found.counts.ready, found.counts.unsettled);
            if done(last.0, last.1) {
                return Ok(last);
            }
        }
        Err(format!("queue '{name}' stays at {} ready and {} unsettled messages", last.0, last.1))
    }

    /// A broker without messages counts none, and its logs shrink to what it takes to begin.
    fn check_empty(&mut self) -> Result<(), Finding> {
        let kept = self.rest()?;
        // Who had queues of his own is gone, and the others in memory are empty.
        let memory = self.world.broker.memory_bytes();
        if memory > IDLE_MEMORY_BYTES_MAX {
            return Err(format!(
                "a broker whose queues in memory are empty holds {memory} bytes of messages"
            ));
        }
        let logs = self.world.workers.segments_bytes();
        let segments = logs.iter().flatten().sum::<u64>() / SEGMENT_BYTES;
        // Of a segment no less than half is needed.
        if segments > IDLE_SEGMENTS_MAX + 2 * kept / SEGMENT_BYTES {
            return Err(format!(
                "a broker that holds nothing but {kept} bytes that it retains keeps {segments} segments: {logs:?}"
            ));
        }
        Ok(())
    }

    /// Waits until nothing has grown old for so long that housekeeping is done. Returns what is kept then.
    fn rest(&mut self) -> Result<u64, Finding> {
        let (mut kept, mut quiet_rounds) = (self.kept_bytes()?, 0);
        for _ in 0..REST_ROUNDS_MAX {
            if quiet_rounds == QUIET_ROUNDS {
                return Ok(kept);
            }
            self.world.workers.advance(ROUND_MS);
            self.make_peace()?;
            let before = std::mem::replace(&mut kept, self.kept_bytes()?);
            quiet_rounds = if kept == before { quiet_rounds + 1 } else { 0 };
        }
        Err(format!(
            "after {} s a broker that nobody uses still forgets messages",
            REST_ROUNDS_MAX * ROUND_MS / 1000
        ))
    }

    /// Bytes of what queues retain, and of what is in those that nobody emptied. The others are empty.
    fn kept_bytes(&mut self) -> Result<u64, Finding> {
        self.fade();
        let who = self.world.log_in();
        let mut kept = 0;
        for listing in self.world.listed(&who, &mut self.random)? {
            let (counts, name) = (listing.counts, &listing.definition.name);
            kept += counts.retained_bytes;
            if name.as_str() == COLLECTOR {
                kept += counts.bytes;
                continue;
            }
            let stage = self.books.queue_named(name).map(|queue| self.books.queues[queue].stage);
            if stage == Some(Stage::Fading) {
                // It may go at any time.
                kept += counts.bytes;
            } else if (counts.ready, counts.unsettled, counts.bytes) != (0, 0, 0) {
                return Err(format!("queue '{name}' is empty and counts {counts:?}"));
            }
        }
        Ok(kept)
    }
}
