//! Consumers: how they start, what they are given, how they end.

use std::sync::Arc;

use super::super::broker::KnownConsumer;
use super::super::presence::Attending;
use super::super::requesters::cannot_wait;
use super::session::{Session, Waiting};
use super::word::{FrontEnd, Word};
use crate::journey::Taker;
use crate::model::{Entity, QueueId, REPLY_TO, Refusal, ReplyCode};
use crate::shard::{Command, ConsumerKey, ConsumerLimits, Delivery, ShardHandle};

/// Smallest window of a consumer, in bytes of deliveries on their way to its socket.
const WINDOW_BYTES_MIN: u64 = 16 * 1024;

/// Why a consumer ended that nobody asked to end.
const NO_MORE_READING: &str = "its user may not read from its queue any more";

/// A consumer under its number, from its start to the end of its channel.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) queue: QueueId,
    pub(super) shard: ShardHandle,
    stage: Stage,
    /// The queue is a subscription's, which is not dark as long as this is here.
    attending: Option<Attending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The queue has not answered. What arrives under this number is for an earlier consumer.
    Starting,
    /// Deliveries come.
    Live,
    /// None will come, but what came may be settled.
    Ended,
}

impl Consumer {
    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.attending = None;
    }
}

/// A consumer to be started.
#[derive(Debug, Clone)]
pub struct ConsumeRequest {
    /// The queue.
    pub queue: String,
    /// Its channel.
    pub channel: u32,
    /// Its number there, 1 to 65,535.
    pub consumer: u32,
    /// Its name, for people; "": one is made.
    pub tag: String,
    /// Unsettled messages at most; 0: no limit.
    pub prefetch: u32,
    /// Deliveries count as accepted at once.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Deliveries at first; `None`: not counted.
    pub credit: Option<u32>,
    /// While one of a higher priority may take messages, those of a lower get none.
    pub priority: i32,
    /// The front end's number for the request.
    pub request: u64,
}

impl<F: FrontEnd> Session<F> {
    /// Starts a consumer: [`Word::Consuming`] follows, or [`Word::ConsumeRefused`] with 404 for a queue that does not exist, 405
    /// for one of another connection, and what the queue has against it.
    ///
    /// Numbers are given out by the front end, and it bounds how many. If it gives one again, the earlier consumer's end has
    /// come: what that one had not settled goes back to its queue.
    pub fn consume(&mut self, wanted: ConsumeRequest) {
        let ConsumeRequest { channel, consumer, request, .. } = wanted;
        if let Err(refusal) = self.start(wanted) {
            let refusal = Box::new(refusal);
            self.said.push_back(Word::ConsumeRefused { channel, consumer, request, refusal });
        }
    }

    fn start(&mut self, wanted: ConsumeRequest) -> Result<(), Refusal> {
        if wanted.queue == REPLY_TO {
            return self.wait_for_replies(wanted);
        }
        if self.who.vhost.requesters.find(&wanted.queue).is_some() {
            return Err(cannot_wait(
                "only the creator of an address consumes from it",
                "who replies publishes to the default exchange with the address as the routing key",
            ));
        }
        let queue = self.broker.queue_to_read(&self.who, &wanted.queue)?;
        let shard = self.broker.shard(&queue)?.clone();
        let place = (wanted.channel, wanted.consumer);
        if self.consumers.contains_key(&place) {
            self.drop_consumer(place);
        }
        if self.requester(wanted.channel, wanted.consumer).is_some() {
            self.stop_waiting(wanted.channel);
        }
        self.has_auto_delete_queues |= queue.auto_delete;
        let key = self.key(wanted.channel, wanted.consumer);
        let tag: Arc<str> = match wanted.tag.as_str() {
            "" => Arc::from(format!("ctag-{}-{}-{}", key.connection, key.channel, key.handle)),
            tag => Arc::from(tag),
        };
        let share = self.broker.shared.options.deliver_bytes_max as u64 / (self.consumers.len() as u64 + 1);
        let limits = ConsumerLimits {
            prefetch: wanted.prefetch,
            no_ack: wanted.no_ack,
            exclusive: wanted.exclusive,
            credit: wanted.credit,
            window_bytes: share.max(WINDOW_BYTES_MIN),
            priority: wanted.priority,
        };
        let known = KnownConsumer { tag: Arc::clone(&tag), queue: Arc::clone(&queue) };
        self.broker.shared.consumers().insert(key, known);
        let attending = Some(self.broker.shared.presence.attend(queue.id));
        let consumer = Consumer { queue: queue.id, shard: shard.clone(), stage: Stage::Starting, attending };
        self.consumers.insert(place, consumer);
        let taker = Arc::new(Taker { key, tag: Arc::clone(&tag), party: Arc::clone(&self.party) });
        let shared = self.shared_prefetch(wanted.channel, &shard);
        shard.send(Command::Attach {
            queue: queue.id,
            taker,
            limits,
            shared,
            outlet: Arc::clone(&self.outlet),
        });
        // Whoever changes permissions from here on finds it and ends it; what was changed before is seen here.
        if self.broker.queue_to_read(&self.who, &queue.name).is_err() {
            shard.send(Command::Cancel { queue: queue.id, key });
        }
        self.waiting = Some(Waiting::Started { key, request: wanted.request, tag });
        Ok(())
    }

    /// The queue has answered to a consumer's start.
    pub(super) fn attached(&mut self, key: ConsumerKey, result: Result<(), Box<Refusal>>) -> Option<Word<F>> {
        let awaited = |waiting: &mut Waiting<F>| matches!(waiting, Waiting::Started { key: other, .. } if *other == key);
        let Some(Waiting::Started { request, tag, .. }) = self.waiting.take_if(awaited) else { return None };
        let ConsumerKey { channel, handle: consumer, .. } = key;
        match (result, self.consumers.get_mut(&(channel, consumer))) {
            (Ok(()), Some(started)) => {
                started.stage = Stage::Live;
                Some(Word::Consuming { channel, consumer, request, tag })
            }
            (result, _) => {
                self.consumers.remove(&(channel, consumer));
                self.broker.shared.consumers().remove(&key);
                result.err().map(|refusal| Word::ConsumeRefused { channel, consumer, request, refusal })
            }
        }
    }

    /// Asks a consumer to end: [`Word::Cancelled`] follows, at once if there is none.
    pub fn cancel(&mut self, channel: u32, consumer: u32, request: u64) {
        let key = self.key(channel, consumer);
        if self.requester(channel, consumer).is_some() {
            self.stop_waiting(channel);
            return self.said.push_back(Word::Cancelled { channel, consumer, request });
        }
        match self.consumers.get(&(channel, consumer)) {
            Some(live) if live.stage != Stage::Ended => {
                live.shard.send(Command::Cancel { queue: live.queue, key });
                self.waiting = Some(Waiting::Cancelled { key, request });
            }
            _ => self.said.push_back(Word::Cancelled { channel, consumer, request }),
        }
    }

    /// A consumer ended as it was asked to; or its user may not read any more, and whoever changed that has asked for it.
    pub(super) fn cancelled(&mut self, key: ConsumerKey) -> Option<Word<F>> {
        let awaited = |waiting: &mut Waiting<F>| matches!(waiting, Waiting::Cancelled { key: other, .. } if *other == key);
        let Some(Waiting::Cancelled { request, .. }) = self.waiting.take_if(awaited) else {
            let consumer = self.consumers.get(&(key.channel, key.handle))?;
            return self.ended(consumer.queue, key, NO_MORE_READING.to_owned(), None);
        };
        if let Some(consumer) = self.consumers.get_mut(&(key.channel, key.handle)) {
            consumer.end();
        }
        self.broker.shared.consumers().remove(&key);
        Some(Word::Cancelled { channel: key.channel, consumer: key.handle, request })
    }

    /// The broker ended a consumer of a queue, unless it was an earlier one under the same number.
    pub(super) fn ended(
        &mut self,
        queue: QueueId,
        key: ConsumerKey,
        reason: String,
        refusal: Option<Box<Refusal>>,
    ) -> Option<Word<F>> {
        let consumer = self.consumers.get_mut(&(key.channel, key.handle))?;
        if consumer.queue != queue || consumer.stage != Stage::Live {
            return None;
        }
        consumer.end();
        self.broker.shared.consumers().remove(&key);
        // A cancel that was on its way has nothing left to end.
        let cancelled = self.cancelled(key);
        self.said.extend(cancelled);
        Some(Word::Ended { channel: key.channel, consumer: key.handle, reason, refusal })
    }

    /// Whether a delivery is for a consumer of now, not for an earlier one under the same number.
    pub(super) fn expects(&self, delivery: &Delivery) -> bool {
        let place = (delivery.consumer.channel, delivery.consumer.handle);
        let consumer = self.consumers.get(&place);
        consumer.is_some_and(|consumer| consumer.queue == delivery.queue && consumer.stage != Stage::Starting)
    }

    /// Adds to a consumer's credit. [`Word::Refused`] with 404 follows for one that does not exist.
    pub fn credit(&mut self, channel: u32, consumer: u32, add: u32) {
        if let Some(requester) = self.requester(channel, consumer) {
            return requester.add_credit(add);
        }
        let key = self.key(channel, consumer);
        match self.consumers.get(&(channel, consumer)) {
            Some(consumer) => consumer.shard.send(Command::Credit { queue: consumer.queue, key, add }),
            None => {
                let refusal = Box::new(no_such_consumer(consumer));
                self.said.push_back(Word::Refused { channel, request: 0, refusal });
            }
        }
    }

    /// Deliveries reached the socket: the sum of their [`Delivery::window_bytes`].
    pub fn written(&self, channel: u32, consumer: u32, bytes: u64) {
        if let Some(requester) = self.requester(channel, consumer) {
            return requester.written(bytes);
        }
        let key = self.key(channel, consumer);
        if let Some(consumer) = self.consumers.get(&(channel, consumer)) {
            consumer.shard.send(Command::Written { queue: consumer.queue, key, bytes });
        }
    }

    pub(super) fn drop_consumer(&mut self, place: (u32, u32)) {
        let key = self.key(place.0, place.1);
        if let Some(consumer) = self.consumers.remove(&place) {
            consumer.shard.send(Command::Detach { queue: consumer.queue, key });
        }
        self.broker.shared.consumers().remove(&key);
    }
}

pub(super) fn no_such_consumer(consumer: u32) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no consumer {consumer} on this channel"))
        .about(Entity::Consumer, consumer.to_string())
        .hint("start it with Consume first; what came by Get is settled with consumer 0")
}
