//! What one connection has under way: publishes that wait for shards, consumers, messages it got one by one.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::broker::Broker;
use super::gets::{Gets, SettledGets, Source};
use super::hand_over::{Place, displaced};
use super::login::Identity;
use super::publish::{Pending, Router};
use crate::model::{Entity, QueueId, Refusal, ReplyCode};
use crate::shard::{
    Command, ConsumerKey, ConsumerLimits, Delivery, GET_HANDLE, GET_NO_ACK_HANDLE, Outlet, SettleReply,
    Settlement, ShardHandle,
};

/// Smallest window of a consumer, in bytes of deliveries on their way to its socket.
const WINDOW_BYTES_MIN: u64 = 16 * 1024;

/// Bytes of messages that wait in mailboxes of shards for one connection, about. Little: what waits there delays
/// everything behind it, and a shard that is busy gets no faster by it.
pub(super) const UNTAKEN_BYTES_MAX: usize = 64 * 1024;

/// Consumers of one connection at most, those included that were cancelled and hold unsettled deliveries.
pub const CONSUMERS_MAX: usize = 65_535;

/// The state of one connection that is logged in. Owned by the connection; call [`Session::close`] when it ends.
#[derive(Debug)]
pub struct Session {
    pub(super) broker: Broker,
    pub(super) who: Identity,
    pub(super) outlet: Outlet,
    pub(super) router: Router,
    pending: Vec<Option<Pending>>,
    free: Vec<usize>,
    publish_bytes: usize,
    /// Of these, bytes that still wait in the mailboxes of shards.
    pub(super) untaken_bytes: usize,
    consumers: HashMap<(u32, u32), Consumer, foldhash::fast::RandomState>,
    gets: HashMap<u32, Gets>,
    /// Requests to settle of which more than one queue has to tell, with the number of queues that have not.
    settling: HashMap<(u32, u64), usize>,
    /// Answers of queues to come, to requests to settle.
    settles_under_way: usize,
    /// It declared a queue for itself alone.
    has_exclusive_queues: bool,
    /// It consumed from a queue that goes with its last consumer.
    has_auto_delete_queues: bool,
    /// What its client's next connection waits for.
    place: Option<Place>,
}

/// A consumer under its number, from its start to the end of its channel.
#[derive(Debug)]
struct Consumer {
    queue: QueueId,
    shard: ShardHandle,
    stage: Stage,
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

/// A consumer to be started.
#[derive(Debug, Clone)]
pub struct ConsumeRequest {
    /// The queue.
    pub queue: String,
    /// Its channel.
    pub channel: u32,
    /// Its number there, 1 to 65,535.
    pub handle: u32,
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
}

/// Deliveries to be settled.
#[derive(Debug, Clone)]
pub struct SettleRequest {
    /// The channel.
    pub channel: u32,
    /// The consumer; 0: messages got one by one.
    pub handle: u32,
    /// Which deliveries, and what became of them.
    pub settlements: Vec<Settlement>,
    /// Answer when the disk has it.
    pub request: Option<u64>,
}

/// How an answer to a request to settle comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleAnswer {
    /// As an event, or none is wanted.
    Later,
    /// There was nothing to settle: it is done.
    Now,
}

impl Session {
    /// The session of a connection whose events go to `outlet`. It holds its client's `place`, if the client has said who
    /// it is.
    pub fn new(broker: Broker, who: Identity, place: Option<Place>, outlet: Outlet) -> Self {
        Self {
            broker,
            who,
            outlet,
            router: Router::default(),
            pending: Vec::new(),
            free: Vec::new(),
            publish_bytes: 0,
            untaken_bytes: 0,
            consumers: HashMap::default(),
            gets: HashMap::new(),
            settling: HashMap::new(),
            settles_under_way: 0,
            has_exclusive_queues: false,
            has_auto_delete_queues: false,
            place,
        }
    }

    /// Who and where.
    pub fn identity(&self) -> &Identity {
        &self.who
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Whether more messages may be published: not while too many bytes wait for shards to take them, or for the disk.
    pub fn may_publish(&self) -> bool {
        self.untaken_bytes < UNTAKEN_BYTES_MAX
            && self.publish_bytes < self.broker.shared.options.publish_bytes_max
    }

    /// A shard has taken messages out of its mailbox.
    pub fn taken(&mut self, bytes: usize) {
        self.untaken_bytes -= bytes;
    }

    /// To be called before an exclusive queue is declared: it goes when the session closes.
    pub fn note_exclusive_queue(&mut self) {
        self.has_exclusive_queues = true;
    }

    /// Whether a newer connection of the same client wants this one to go, and the reason to give. Nothing is to be finished
    /// first: the client is not at the other end any more. Not to be asked again once it does.
    pub fn poll_displaced(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        match &mut self.place {
            Some(place) => place.poll_displaced(context).map(|()| displaced()),
            None => Poll::Pending,
        }
    }

    pub(super) fn insert_pending(&mut self, pending: Pending) -> u64 {
        self.publish_bytes += pending.bytes();
        let index = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            self.pending.len() - 1
        });
        self.pending[index] = Some(pending);
        index as u64
    }

    pub(super) fn pending(&mut self, ticket: u64) -> Option<&mut Pending> {
        self.pending.get_mut(ticket as usize)?.as_mut()
    }

    pub(super) fn remove_pending(&mut self, ticket: u64) -> Option<Pending> {
        let pending = self.pending.get_mut(ticket as usize)?.take()?;
        self.free.push(ticket as usize);
        self.publish_bytes -= pending.bytes();
        if self.free.len() == self.pending.len() {
            // Nothing is under way: an idle connection keeps no memory for it.
            self.pending = Vec::new();
            self.free = Vec::new();
        }
        Some(pending)
    }

    /// Whether nothing is under way that the client will hear of: nothing published waits for its shards, and no settlement
    /// that is to be answered for the disk.
    pub fn is_quiet(&self) -> bool {
        self.publish_bytes == 0 && self.pending.is_empty() && self.settles_under_way == 0
    }

    /// Starts a consumer; answers with its tag. Whether the queue takes it comes as an event. A number whose consumer
    /// has ended may be used again: what that one had not settled goes back to its queue.
    ///
    /// # Errors
    /// 404 for a queue that does not exist, 405 for one of another connection, 530 for a number in use, or too many
    /// consumers.
    pub fn consume(&mut self, request: ConsumeRequest) -> Result<Arc<str>, Refusal> {
        let queue = self.broker.queue(&self.who, &request.queue)?;
        let shard = self.broker.shard(&queue)?.clone();
        self.has_auto_delete_queues |= queue.auto_delete;
        let place = (request.channel, request.handle);
        match self.consumers.get(&place) {
            Some(consumer) if consumer.stage != Stage::Ended => return Err(number_in_use(request.handle)),
            Some(_) => self.drop_consumer(place),
            None if self.consumers.len() >= CONSUMERS_MAX => return Err(too_many_consumers()),
            None => {}
        }
        let key = self.key(request.channel, request.handle);
        let tag: Arc<str> = match request.tag.as_str() {
            "" => Arc::from(format!("ctag-{}-{}-{}", key.connection, key.channel, key.handle)),
            tag => Arc::from(tag),
        };
        let share = self.broker.shared.options.deliver_bytes_max as u64 / (self.consumers.len() as u64 + 1);
        let limits = ConsumerLimits {
            prefetch: request.prefetch,
            no_ack: request.no_ack,
            exclusive: request.exclusive,
            credit: request.credit,
            window_bytes: share.max(WINDOW_BYTES_MIN),
            single: false,
        };
        self.broker.shared.consumer_tags().insert(key, Arc::clone(&tag));
        self.consumers
            .insert(place, Consumer { queue: queue.id, shard: shard.clone(), stage: Stage::Starting });
        shard.send(Command::Attach { queue: queue.id, key, limits, outlet: Arc::clone(&self.outlet) });
        Ok(tag)
    }

    /// The queue has answered to a consumer's start.
    pub fn consumer_started(&mut self, key: ConsumerKey, taken: bool) {
        let place = (key.channel, key.handle);
        match self.consumers.get_mut(&place) {
            Some(consumer) if taken => consumer.stage = Stage::Live,
            _ => {
                self.consumers.remove(&place);
                self.broker.shared.consumer_tags().remove(&key);
            }
        }
    }

    /// Asks a consumer to end; it has when [`crate::shard::Event::Cancelled`] comes. `false`: there is none.
    pub fn cancel(&mut self, channel: u32, handle: u32) -> bool {
        let key = self.key(channel, handle);
        match self.consumers.get(&(channel, handle)) {
            Some(consumer) if consumer.stage != Stage::Ended => {
                consumer.shard.send(Command::Cancel { queue: consumer.queue, key });
                true
            }
            _ => false,
        }
    }

    /// A consumer ended as it was asked to. What it holds can still be settled.
    pub fn consumer_cancelled(&mut self, key: ConsumerKey) {
        if let Some(consumer) = self.consumers.get_mut(&(key.channel, key.handle)) {
            consumer.stage = Stage::Ended;
        }
        self.broker.shared.consumer_tags().remove(&key);
    }

    /// The broker ended a consumer of a queue; `false` if it was an earlier one under the same number.
    pub fn consumer_ended(&mut self, queue: QueueId, key: ConsumerKey) -> bool {
        match self.consumers.get_mut(&(key.channel, key.handle)) {
            Some(consumer) if consumer.queue == queue && consumer.stage == Stage::Live => {
                consumer.stage = Stage::Ended;
                self.broker.shared.consumer_tags().remove(&key);
                true
            }
            _ => false,
        }
    }

    /// Whether a delivery is for a consumer of now, not for an earlier one under the same number.
    pub fn expects(&self, delivery: &Delivery) -> bool {
        let place = (delivery.consumer.channel, delivery.consumer.handle);
        let consumer = self.consumers.get(&place);
        consumer.is_some_and(|consumer| consumer.queue == delivery.queue && consumer.stage != Stage::Starting)
    }

    /// Adds to a consumer's credit.
    ///
    /// # Errors
    /// 404 for a consumer that does not exist.
    pub fn credit(&self, channel: u32, handle: u32, add: u32) -> Result<(), Refusal> {
        let consumer = self.consumers.get(&(channel, handle)).ok_or_else(|| no_such_consumer(handle))?;
        consumer.shard.send(Command::Credit { queue: consumer.queue, key: self.key(channel, handle), add });
        Ok(())
    }

    /// Deliveries reached the socket.
    pub fn written(&self, channel: u32, handle: u32, bytes: u64) {
        if let Some(consumer) = self.consumers.get(&(channel, handle)) {
            consumer.shard.send(Command::Written {
                queue: consumer.queue,
                key: self.key(channel, handle),
                bytes,
            });
        }
    }

    /// Settles deliveries. Tags of a consumer are checked by its queue, whose word comes as an event.
    ///
    /// # Errors
    /// 404 for a consumer that does not exist, 406 for tags of messages got one by one that were not given out or are
    /// settled; the others are settled then.
    pub fn settle(&mut self, settle: SettleRequest) -> Result<SettleAnswer, Refusal> {
        let SettleRequest { channel, handle, settlements, request } = settle;
        if handle == GET_HANDLE {
            return self.settle_gets(channel, &settlements, request);
        }
        let consumer = self.consumers.get(&(channel, handle)).ok_or_else(|| no_such_consumer(handle))?;
        let reply = request.map(|request| self.reply(request));
        let key = self.key(channel, handle);
        self.settles_under_way += usize::from(reply.is_some());
        consumer.shard.send(Command::Settle { queue: consumer.queue, key, settlements, reply });
        Ok(SettleAnswer::Later)
    }

    fn settle_gets(
        &mut self,
        channel: u32,
        settlements: &[Settlement],
        request: Option<u64>,
    ) -> Result<SettleAnswer, Refusal> {
        let SettledGets { by_queue, refusal } = self.gets.entry(channel).or_default().settle(settlements);
        // What is refused is answered by the refusal, and by nothing else.
        let request = request.filter(|_| refusal.is_none());
        let queues = by_queue.len();
        if let Some(request) = request.filter(|_| queues > 1) {
            self.settling.insert((channel, request), queues);
        }
        for (source, settlements) in by_queue {
            let Some(shard) = self.broker.shared.shard(source.shard) else { continue };
            let reply = request.map(|request| self.reply(request));
            let key = self.key(channel, GET_HANDLE);
            self.settles_under_way += usize::from(reply.is_some());
            shard.send(Command::Settle { queue: source.queue, key, settlements, reply });
        }
        match refusal {
            Some(refusal) => Err(refusal),
            None if queues == 0 => Ok(SettleAnswer::Now),
            None => Ok(SettleAnswer::Later),
        }
    }

    /// A queue has settled what a request asked for; `true` if all queues concerned have.
    pub fn settled(&mut self, channel: u32, request: u64) -> bool {
        self.settles_under_way -= 1;
        let Some(queues) = self.settling.get_mut(&(channel, request)) else { return true };
        *queues -= 1;
        let all = *queues == 0;
        if all {
            self.settling.remove(&(channel, request));
        }
        all
    }

    /// A queue has refused what was to be settled; `asked` if a request wanted it.
    pub fn settle_refused(&mut self, asked: bool) {
        self.settles_under_way -= usize::from(asked);
    }

    /// Asks for one message; the answer comes as [`crate::shard::Event::Got`].
    ///
    /// # Errors
    /// 404 for a queue that does not exist, 405 for one of another connection.
    pub fn get(&mut self, channel: u32, queue: &str, no_ack: bool) -> Result<(), Refusal> {
        let queue = self.broker.queue(&self.who, queue)?;
        let shard = self.broker.shard(&queue)?.clone();
        let handle = if no_ack { GET_NO_ACK_HANDLE } else { GET_HANDLE };
        self.gets.entry(channel).or_default().ask(Source { shard: queue.shard, queue: queue.id }, handle);
        shard.send(Command::Get {
            queue: queue.id,
            key: self.key(channel, handle),
            outlet: Arc::clone(&self.outlet),
        });
        Ok(())
    }

    /// A message came that was asked for; returns its tag on the channel, 0 if it needs no settling.
    pub fn got(&mut self, delivery: &Delivery) -> u64 {
        let ConsumerKey { channel, handle, .. } = delivery.consumer;
        if handle == GET_NO_ACK_HANDLE {
            return 0;
        }
        let gets = self.gets.entry(channel).or_default();
        gets.take(delivery.queue, handle, delivery.first_tag).unwrap_or(0)
    }

    /// A channel closes: its consumers end and what they hold goes back, and nothing is told any more of what was
    /// published on it.
    pub fn close_channel(&mut self, channel: u32) {
        self.pending.iter_mut().flatten().for_each(|pending| pending.forget_channel(channel));
        let places: Vec<(u32, u32)> =
            self.consumers.keys().filter(|place| place.0 == channel).copied().collect();
        for place in places {
            self.drop_consumer(place);
        }
        for (source, handle) in self.gets.remove(&channel).unwrap_or_default().readers() {
            if let Some(shard) = self.broker.shared.shard(source.shard) {
                shard.send(Command::Detach { queue: source.queue, key: self.key(channel, handle) });
            }
        }
    }

    /// The connection is gone: everything it held goes back, queues that were its own are deleted.
    pub fn close(mut self) {
        let places: Vec<(u32, u32)> = self.consumers.keys().copied().collect();
        for place in places {
            self.drop_consumer(place);
        }
        let channels: Vec<u32> = self.gets.keys().copied().collect();
        for channel in channels {
            self.close_channel(channel);
        }
        if self.has_exclusive_queues {
            self.broker.forget_connection(self.who.vhost_name(), self.who.connection);
        }
        if let Some(place) = self.place.take() {
            let through_catalog = self.has_exclusive_queues || self.has_auto_delete_queues;
            place.give_up_when_cleaned(self.broker.clone(), self.who.clone(), through_catalog);
        }
        self.outlet.close();
    }

    fn drop_consumer(&mut self, place: (u32, u32)) {
        let key = self.key(place.0, place.1);
        if let Some(consumer) = self.consumers.remove(&place) {
            consumer.shard.send(Command::Detach { queue: consumer.queue, key });
        }
        self.broker.shared.consumer_tags().remove(&key);
    }

    fn reply(&self, request: u64) -> SettleReply {
        SettleReply { request, outlet: Arc::clone(&self.outlet) }
    }

    fn key(&self, channel: u32, handle: u32) -> ConsumerKey {
        ConsumerKey { connection: self.who.connection, channel, handle }
    }
}

fn no_such_consumer(handle: u32) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no consumer {handle} on this channel"))
        .about(Entity::Consumer, handle.to_string())
        .hint("start it with Consume first; what came by Get is settled with consumer 0")
}

fn number_in_use(handle: u32) -> Refusal {
    Refusal::new(ReplyCode::NotAllowed, format!("consumer {handle} is in use on this channel"))
        .about(Entity::Consumer, handle.to_string())
        .field("consumer", "a number that no consumer of this channel has", handle.to_string())
}

fn too_many_consumers() -> Refusal {
    Refusal::new(ReplyCode::NotAllowed, format!("a connection may have {CONSUMERS_MAX} consumers at most"))
        .about(Entity::Connection, "")
}
