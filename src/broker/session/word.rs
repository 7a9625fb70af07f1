//! What a session tells its front end.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use super::super::shortage::Shortage;
use super::confirmation::Confirmation;
use super::target::Publication;
use crate::model::Refusal;
use crate::shard::{Delivery, Origin};

/// What a front end has in a form of its own.
pub trait FrontEnd: Debug {
    /// The messages of one frame.
    type Messages: Publication + Debug;
    /// What it answers requests with that go to the catalog.
    type Answer: Debug;
}

/// What a session tells its front end, in the order in which the client is to hear it.
///
/// `channel`, `consumer`, `publisher` and `request` are the front end's own numbers, as it gave them.
#[derive(Debug)]
pub enum Word<F: FrontEnd> {
    /// Messages for a consumer. When they are written, [`super::Session::written`] is to be told.
    Delivered(Delivery),
    /// What became of published messages.
    Confirmed(Confirmation),
    /// Mandatory messages that reached no queue; comes before the confirmation of theirs.
    Returned(Returned<F::Messages>),
    /// What is published waits from now on.
    Blocked {
        /// For want of what.
        shortage: Shortage,
        /// Why, in a sentence.
        reason: String,
    },
    /// What was published waits no more.
    Unblocked,
    /// A consumer has started; its deliveries follow.
    Consuming {
        /// The channel.
        channel: u32,
        /// The consumer.
        consumer: u32,
        /// The request.
        request: u64,
        /// Its name.
        tag: Arc<str>,
    },
    /// A consumer did not start.
    ConsumeRefused {
        /// The channel.
        channel: u32,
        /// The consumer.
        consumer: u32,
        /// The request.
        request: u64,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// A consumer ended as it was asked to, or there was none. What it holds can still be settled.
    Cancelled {
        /// The channel.
        channel: u32,
        /// The consumer.
        consumer: u32,
        /// The request.
        request: u64,
    },
    /// The broker ended a consumer. What it holds can still be settled, unless its queue is gone.
    Ended {
        /// The channel.
        channel: u32,
        /// The consumer.
        consumer: u32,
        /// Why, in a sentence.
        reason: String,
        /// What it did that it must not, if that is why.
        refusal: Option<Box<Refusal>>,
    },
    /// The answer to a request for one message.
    Got {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
        /// `None`: none was ready.
        message: Option<Fetched>,
        /// Ready messages left.
        ready: u64,
    },
    /// The bound of a channel holds.
    PrefetchLimited {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
    },
    /// The disk has what was to be settled.
    Settled {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
    },
    /// A request to the catalog was carried out.
    Answered {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
        /// With what.
        answer: F::Answer,
    },
    /// A request was not carried out, or with request 0 something that nobody waits to hear of.
    Refused {
        /// The channel.
        channel: u32,
        /// The request.
        request: u64,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// Somebody wants the client to go when what is under way is finished ([`super::Session::is_quiet`]).
    Dismissed(Box<Refusal>),
    /// A newer connection of the same client wants this one to go. Nothing is to be finished first: the client is not at the
    /// other end any more.
    Displaced(Box<Refusal>),
}

/// A message that was asked for by itself.
#[derive(Debug)]
pub struct Fetched {
    /// Its tag on the channel; 0: it needs no settling.
    pub tag: u64,
    /// The message.
    pub delivery: Delivery,
}

/// Some neighbouring messages of a frame that go back.
#[derive(Debug)]
pub struct Returned<M> {
    /// The channel.
    pub channel: u32,
    /// Their publisher.
    pub publisher: u32,
    /// Sequence of the frame's first message; 0: no confirms wanted.
    pub first_sequence: u64,
    /// Where they were published to.
    pub origin: Arc<Origin>,
    /// All messages of the frame.
    pub messages: Arc<M>,
    /// Which of them go back, by their index.
    pub range: Range<u32>,
}
