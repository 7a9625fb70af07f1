//! What has to be done about a frame.

use super::login::Login;
use crate::message::Items;
use crate::model::{ExchangeName, RoutingKey};
use crate::wire::pb;

/// What has to be done about a frame, which was checked as far as it can be by itself: its channel is open, and
/// numbers and names are within their bounds. What is answered already needs nothing.
#[derive(Debug)]
pub enum Action {
    /// Nothing more.
    Nothing,
    /// Check who is there, then [`super::Connection::accept`] or [`super::Connection::refuse_login`].
    LogIn(Box<Login>),
    /// Keep a publisher's target. It is answered already.
    OpenPublisher {
        /// Its channel.
        channel: u32,
        /// Its number.
        publisher: u32,
        /// Where its messages go.
        target: PublishTo,
    },
    /// Forget a publisher. It is answered already.
    ClosePublisher {
        /// Its channel.
        channel: u32,
        /// Its number.
        publisher: u32,
    },
    /// Take messages in.
    Publish {
        /// The channel.
        channel: u32,
        /// The publisher; 0 if `target` is given.
        publisher: u32,
        /// Sequence of the first message; 0: no confirms.
        first_sequence: u64,
        /// Where the messages go if no publisher says it.
        target: Option<PublishTo>,
        /// The messages; at least one.
        items: Items,
    },
    /// Settle deliveries.
    Settle {
        /// The channel.
        channel: u32,
        /// The request; 0: no answer wanted.
        request: u64,
        /// The consumer; 0: messages got one by one.
        consumer: u32,
        /// At least one, each with an outcome.
        ranges: Vec<pb::SettleRange>,
    },
    /// Begin the leases of deliveries anew.
    Extend {
        /// The channel.
        channel: u32,
        /// The request; 0: no answer wanted.
        request: u64,
        /// The consumer; 0: messages got one by one.
        consumer: u32,
        /// At least one.
        ranges: Vec<pb::TagRange>,
    },
    /// Add to a consumer's credit.
    Credit {
        /// The channel.
        channel: u32,
        /// The consumer.
        consumer: u32,
        /// How much.
        add: u32,
    },
    /// Start a consumer, in the place of an earlier one under its number that has ended; answer with
    /// [`super::Connection::put_consuming`] or [`super::Connection::put_consume_refused`].
    Consume {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
        /// The consumer; its number and tag are within bounds.
        consume: pb::Consume,
    },
    /// End a consumer, if there is one; answer with [`super::Connection::put_cancelled`].
    Cancel {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
        /// The consumer.
        consumer: u32,
    },
    /// Bound what all consumers of a channel have not settled.
    LimitPrefetch {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
        /// Unsettled messages at most; 0: no limit.
        prefetch: u32,
    },
    /// Fetch one message.
    Get {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
        /// From where.
        get: pb::Get,
    },
    /// A channel was closed: forget what belongs to it. It is answered already.
    CloseChannel {
        /// Which.
        channel: u32,
    },
    /// Something about topology, lists or administration.
    Request {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
        /// What.
        body: Box<pb::frame::Body>,
    },
}

/// Where messages go, with names of the right length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishTo {
    /// The exchange.
    pub exchange: ExchangeName,
    /// Key of messages that have none of their own.
    pub routing_key: RoutingKey,
    /// Send back what reaches no queue.
    pub mandatory: bool,
    /// Confirm without waiting for the disk.
    pub transient: bool,
}
