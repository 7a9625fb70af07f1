//! What one connection has under way: publishes that wait for shards, consumers, messages it got one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::broker::Broker;
use super::login::Identity;
use super::publish::Pending;
use crate::model::{DeliveryTag, Entity, QueueId, Refusal, ReplyCode, ShardId};
use crate::routing::Routed;
use crate::shard::{
    Command, ConsumerKey, ConsumerLimits, Delivery, GET_HANDLE, GET_NO_ACK_HANDLE, Outcome, Outlet, ShardHandle,
    TagRange,
};

/// Smallest window of a consumer, in bytes of deliveries on their way to its socket.
const WINDOW_BYTES_MIN: u64 = 16 * 1024;

/// The state of one connection that is logged in. Owned by the connection; call [`Session::close`] when it ends.
#[derive(Debug)]
pub struct Session {
    pub(super) broker: Broker,
    pub(super) who: Identity,
    pub(super) outlet: Outlet,
    pub(super) routed: Routed,
    pending: Vec<Option<Pending>>,
    free: Vec<usize>,
    publish_bytes: usize,
    consumers: HashMap<(u32, u32), Attached>,
    gets: HashMap<u32, Gets>,
    /// It declared a queue for itself alone.
    has_exclusive_queues: bool,
}

#[derive(Debug, Clone)]
struct Attached {
    queue: QueueId,
    shard: ShardHandle,
}

/// Messages that a channel got one by one.
#[derive(Debug, Default)]
struct Gets {
    last_tag: u64,
    unsettled: BTreeMap<u64, (ShardId, QueueId, DeliveryTag)>,
    /// Queues it got messages from.
    readers: Vec<(ShardId, QueueId, u32)>,
}

/// A consumer to be started.
#[derive(Debug, Clone)]
pub struct ConsumeRequest {
    /// The queue.
    pub queue: String,
    /// Channel and number of the consumer; free, as the front end has checked.
    pub channel: u32,
    /// Its number there, 1 or more.
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
#[derive(Debug, Clone, Copy)]
pub struct SettleRequest {
    /// The channel.
    pub channel: u32,
    /// The consumer; 0: messages got one by one.
    pub handle: u32,
    /// Which deliveries.
    pub range: TagRange,
    /// What became of them.
    pub outcome: Outcome,
    /// Answer when the disk has it.
    pub request: Option<u64>,
}

impl Session {
    /// The session of a connection whose events go to `outlet`.
    pub fn new(broker: Broker, who: Identity, outlet: Outlet) -> Self {
        Self {
            broker,
            who,
            outlet,
            routed: Routed::default(),
            pending: Vec::new(),
            free: Vec::new(),
            publish_bytes: 0,
            consumers: HashMap::new(),
            gets: HashMap::new(),
            has_exclusive_queues: false,
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

    /// Whether more messages may be published: not while too many bytes wait for their shards.
    pub fn may_publish(&self) -> bool {
        self.publish_bytes < self.broker.shared.options.publish_bytes_max
    }

    /// To be called before an exclusive queue is declared: it goes when the session closes.
    pub fn note_exclusive_queue(&mut self) {
        self.has_exclusive_queues = true;
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

    /// Starts a consumer; answers with its tag. Whether the queue takes it comes as an event.
    pub fn consume(&mut self, request: ConsumeRequest) -> Result<Arc<str>, Refusal> {
        let queue = self.broker.queue(&self.who, &request.queue)?;
        let shard = self.broker.shard(&queue)?.clone();
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
        let attached = Attached { queue: queue.id, shard: shard.clone() };
        self.consumers.insert((request.channel, request.handle), attached);
        shard.send(Command::Attach { queue: queue.id, key, limits, outlet: Arc::clone(&self.outlet) });
        Ok(tag)
    }

    /// Asks a consumer to end; it has when [`crate::shard::Event::Cancelled`] comes.
    pub fn cancel(&mut self, channel: u32, handle: u32) -> Result<(), Refusal> {
        let attached = self.consumers.get(&(channel, handle)).ok_or_else(|| no_such_consumer(handle))?;
        attached.shard.send(Command::Cancel { queue: attached.queue, key: self.key(channel, handle) });
        Ok(())
    }

    /// A consumer has ended for good: it was refused, or its queue is gone.
    pub fn forget_consumer(&mut self, channel: u32, handle: u32) {
        self.consumers.remove(&(channel, handle));
        self.broker.shared.consumer_tags().remove(&self.key(channel, handle));
    }

    /// Adds to a consumer's credit.
    pub fn credit(&self, channel: u32, handle: u32, add: u32) -> Result<(), Refusal> {
        let attached = self.consumers.get(&(channel, handle)).ok_or_else(|| no_such_consumer(handle))?;
        attached.shard.send(Command::Credit { queue: attached.queue, key: self.key(channel, handle), add });
        Ok(())
    }

    /// Deliveries reached the socket.
    pub fn written(&self, channel: u32, handle: u32, bytes: u64) {
        if let Some(attached) = self.consumers.get(&(channel, handle)) {
            attached.shard.send(Command::Written { queue: attached.queue, key: self.key(channel, handle), bytes });
        }
    }

    /// Settles deliveries.
    ///
    /// # Errors
    /// 404 for a consumer that does not exist, 406 for a tag that was not given out or is settled. Tags of a
    /// consumer are checked by its queue, whose word comes as an event.
    pub fn settle(&mut self, settle: SettleRequest) -> Result<(), Refusal> {
        let SettleRequest { channel, handle, range, outcome, request } = settle;
        if handle == GET_HANDLE {
            return self.settle_gets(settle);
        }
        let attached = self.consumers.get(&(channel, handle)).ok_or_else(|| no_such_consumer(handle))?;
        let key = self.key(channel, handle);
        attached.shard.send(Command::Settle { queue: attached.queue, key, range, outcome, request });
        Ok(())
    }

    fn settle_gets(&mut self, settle: SettleRequest) -> Result<(), Refusal> {
        let TagRange { first, last } = settle.range;
        let key = self.key(settle.channel, GET_HANDLE);
        let gets = self.gets.entry(settle.channel).or_default();
        let (from, to) = match (first, last) {
            (0, 0) => (1, gets.last_tag),
            (0, last) => (1, last),
            (first, 0) => (first, first),
            both => both,
        };
        let tags: Vec<u64> = gets.unsettled.range(from..=to.max(from)).map(|(tag, _)| *tag).collect();
        for (position, tag) in tags.iter().enumerate() {
            let Some((shard, queue, shard_tag)) = gets.unsettled.remove(tag) else { continue };
            let range = TagRange { first: shard_tag.0, last: shard_tag.0 };
            let request = settle.request.filter(|_| position + 1 == tags.len());
            if let Some(shard) = self.broker.shared.shard(shard) {
                shard.send(Command::Settle { queue, key, range, outcome: settle.outcome, request });
            }
        }
        let all = to.saturating_sub(from) + 1;
        if to > gets.last_tag || (first != 0 && (tags.len() as u64) < all) || (tags.is_empty() && first != 0) {
            return Err(unknown_tag(from.max(gets.last_tag.min(to))));
        }
        Ok(())
    }

    /// Asks for one message; the answer comes as [`crate::shard::Event::Got`].
    pub fn get(&mut self, channel: u32, queue: &str, no_ack: bool) -> Result<(), Refusal> {
        let queue = self.broker.queue(&self.who, queue)?;
        let shard = self.broker.shard(&queue)?.clone();
        let handle = if no_ack { GET_NO_ACK_HANDLE } else { GET_HANDLE };
        let gets = self.gets.entry(channel).or_default();
        let reader = (queue.shard, queue.id, handle);
        if !gets.readers.contains(&reader) {
            gets.readers.push(reader);
        }
        shard.send(Command::Get { queue: queue.id, key: self.key(channel, handle), outlet: Arc::clone(&self.outlet) });
        Ok(())
    }

    /// A message came that was asked for; returns its tag on the channel, 0 if it needs no settling.
    pub fn got(&mut self, delivery: &Delivery, shard: Option<ShardId>) -> u64 {
        if delivery.consumer.handle == GET_NO_ACK_HANDLE {
            return 0;
        }
        let gets = self.gets.entry(delivery.consumer.channel).or_default();
        gets.last_tag += 1;
        let shard = shard.or_else(|| {
            gets.readers.iter().find(|(_, queue, _)| *queue == delivery.queue).map(|(shard, _, _)| *shard)
        });
        if let Some(shard) = shard {
            gets.unsettled.insert(gets.last_tag, (shard, delivery.queue, delivery.first_tag));
        }
        gets.last_tag
    }

    /// A channel closes: its consumers end and what they hold goes back.
    pub fn close_channel(&mut self, channel: u32) {
        let handles: Vec<u32> =
            self.consumers.keys().filter(|(other, _)| *other == channel).map(|(_, handle)| *handle).collect();
        for handle in handles {
            let key = self.key(channel, handle);
            if let Some(attached) = self.consumers.remove(&(channel, handle)) {
                attached.shard.send(Command::Detach { queue: attached.queue, key });
            }
            self.broker.shared.consumer_tags().remove(&key);
        }
        for (shard, queue, handle) in self.gets.remove(&channel).unwrap_or_default().readers {
            if let Some(shard) = self.broker.shared.shard(shard) {
                shard.send(Command::Detach { queue, key: self.key(channel, handle) });
            }
        }
    }

    /// The connection is gone: everything it held goes back, queues that were its own are deleted.
    pub fn close(mut self) {
        let channels: Vec<u32> =
            self.consumers.keys().map(|(channel, _)| *channel).chain(self.gets.keys().copied()).collect();
        for channel in channels {
            self.close_channel(channel);
        }
        if self.has_exclusive_queues {
            self.broker.forget_connection(self.who.vhost_name(), self.who.connection);
        }
        self.outlet.close();
    }

    fn key(&self, channel: u32, handle: u32) -> ConsumerKey {
        ConsumerKey { connection: self.who.connection, channel, handle }
    }
}

fn no_such_consumer(handle: u32) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no consumer {handle} on this channel"))
        .about(Entity::Consumer, handle.to_string())
}

fn unknown_tag(tag: u64) -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, format!("unknown delivery tag {tag}"))
        .about(Entity::Channel, "")
        .field("first", "a tag that was delivered and is not settled", tag.to_string())
}
