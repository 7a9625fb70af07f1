//! What is recorded of messages: in runs, since neighbours mostly share their fate.

use core::net::SocketAddr;
use std::sync::Arc;

use crate::model::{
    BodySequence, ConnectionId, ExchangeName, MemberName, QueueId, QueueName, Refusal, RoutingKey, ShardId,
    SubscriptionName, Timestamp, UserName, VhostName,
};
use crate::queue::{ConsumerKey, Departure, Return};
use crate::routing::Explanation;

/// A connection, as a story names it long after it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Its number.
    pub connection: ConnectionId,
    /// The name that its client gave it.
    pub name: String,
    /// Who was logged in.
    pub user: UserName,
    /// The client's address.
    pub peer: SocketAddr,
}

/// A consumer, or whoever takes single messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taker {
    /// Where it lived.
    pub key: ConsumerKey,
    /// Its name; "" for single messages.
    pub tag: Arc<str>,
    /// Its connection.
    pub party: Arc<Party>,
}

/// A queue that a message was for, as it was called then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLabel {
    /// Its number.
    pub id: QueueId,
    /// Its name.
    pub name: QueueName,
    /// Whose it is, if it is a subscription's.
    pub subscription: Option<SubscriptionName>,
    /// Whose of the subscription's members; "" if they share it.
    pub member: MemberName,
}

/// The way that a message takes from its exchange on: shared by all that take it.
#[derive(Debug)]
pub struct Way {
    /// The exchange.
    pub exchange: ExchangeName,
    /// Its routing key.
    pub routing_key: RoutingKey,
    /// The queues that it is for.
    pub queues: Vec<QueueLabel>,
    /// Each binding that was looked at, and why it matched or not; `None`: none was, since the message was refused before.
    pub explanation: Option<Explanation>,
    /// Why it goes nowhere.
    pub refused: Option<Refusal>,
    /// Its publisher gets it back if it reaches no queue.
    pub mandatory: bool,
    /// Bytes that all of this takes, about.
    pub bytes: usize,
}

/// Messages were published.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Number of the first one.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub vhost: VhostName,
    /// By whom.
    pub publisher: Arc<Party>,
    /// On which channel.
    pub channel: u32,
    /// Where they go.
    pub way: Arc<Way>,
    /// Ids that their publisher gave them, one for each; `None`: it gave none to any of them.
    pub message_ids: Option<Box<[Box<str>]>>,
}

/// Something happened to messages with numbers that follow each other.
#[derive(Debug, Clone)]
pub struct Event {
    /// Number of the first one.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// A shard could not take messages.
#[derive(Debug, Clone)]
pub struct NotTaken {
    /// Which shard.
    pub shard: ShardId,
    /// Its queues that they were for.
    pub queues: Arc<[QueueId]>,
    /// Why.
    pub refusal: Refusal,
}

/// What can happen to a message on its way.
#[derive(Debug, Clone)]
pub enum What {
    /// A shard has put it into these of its queues.
    Taken {
        /// Which shard.
        shard: ShardId,
        /// The queues: those that were gone are not among them.
        queues: Arc<[QueueId]>,
        /// The first message's on the shard.
        sequence: BodySequence,
    },
    /// A shard could not take it.
    NotTaken(Arc<NotTaken>),
    /// It went to a consumer.
    Delivered {
        /// Out of which queue.
        queue: QueueId,
        /// To whom.
        taker: Arc<Taker>,
        /// It may have been delivered before.
        redelivered: bool,
        /// How often it had come back.
        delivery_count: u32,
    },
    /// It is waiting again.
    CameBack {
        /// In which queue.
        queue: QueueId,
        /// Why.
        why: Return,
    },
    /// It is gone from a queue.
    Left {
        /// Which queue.
        queue: QueueId,
        /// Why.
        departure: Departure,
    },
    /// It went with its queue, which was deleted.
    QueueDeleted {
        /// Which queue.
        queue: QueueId,
    },
    /// Whether it is still in a queue, or how it left, is not known: the broker ended before that was written.
    Missed {
        /// Which queue.
        queue: QueueId,
    },
    /// There was no room to look after it any more: what became of it since is not known.
    Unwatched,
}

impl What {
    /// The queue that it happened in, if it was one.
    pub fn queue(&self) -> Option<QueueId> {
        match self {
            Self::Delivered { queue, .. }
            | Self::CameBack { queue, .. }
            | Self::Left { queue, .. }
            | Self::QueueDeleted { queue }
            | Self::Missed { queue } => Some(*queue),
            Self::Taken { .. } | Self::NotTaken(_) | Self::Unwatched => None,
        }
    }
}

/// Which messages of a publish are to be looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// Number of the first message of the publish, be it tracked or not; the others count up.
    pub first_number: u64,
    /// Places of those that are: of the first of neighbours, and how many. In order.
    pub runs: Arc<[(u32, u32)]>,
}

impl Tracked {
    /// Tracked messages in places `from..end`: place, and how many.
    pub fn within(&self, from: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
        let first = self.runs.partition_point(|(place, count)| place + count <= from);
        self.runs[first..].iter().take_while(move |(place, _)| *place < end).map(move |(place, count)| {
            let start = (*place).max(from);
            (start, (place + count).min(end) - start)
        })
    }
}
