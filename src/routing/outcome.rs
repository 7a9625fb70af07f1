//! What goes into routing a message beside its key, and what comes out.

use crate::model::{FieldTable, QueueId, Refusal, ShardId, VhostName};

/// A queue that gets a message, and the shard that owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueTarget {
    /// The queue.
    pub id: QueueId,
    /// Its owner.
    pub shard: ShardId,
}

/// The queues that get a message. Made once and reused: routing then allocates nothing.
#[derive(Debug, Default)]
pub struct Routed {
    queues: Vec<QueueTarget>,
    by_headers: bool,
}

impl Routed {
    /// The queues, each once, in order of their ids.
    pub fn queues(&self) -> &[QueueTarget] {
        &self.queues
    }

    /// Whether the result depends on exchange and key alone, so that it holds for every message published with
    /// them on the same table. False once a headers exchange was met.
    pub fn is_keyed(&self) -> bool {
        !self.by_headers
    }
}

/// A message's headers, decoded only when a headers exchange is met.
pub trait MessageHeaders {
    /// The headers, or none. Called once per routing at most.
    ///
    /// # Errors
    /// The bytes that should be headers are none; routing ends with [`RouteError::Headers`].
    fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>>;
}

impl MessageHeaders for Option<&FieldTable> {
    fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>> {
        Ok(*self)
    }
}

/// Headers that a closure decodes when they are asked for.
#[derive(Debug)]
pub struct LazyHeaders<F> {
    decode: F,
    decoded: Option<FieldTable>,
}

impl<F: FnMut() -> Result<Option<FieldTable>, Box<Refusal>>> LazyHeaders<F> {
    /// Wraps the decoder.
    pub fn new(decode: F) -> Self {
        Self { decode, decoded: None }
    }
}

impl<F: FnMut() -> Result<Option<FieldTable>, Box<Refusal>>> MessageHeaders for LazyHeaders<F> {
    fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>> {
        self.decoded = (self.decode)()?;
        Ok(self.decoded.as_ref())
    }
}

/// Why a message could not be routed at all. Reaching no queue is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// The exchange it was published to does not exist.
    NoSuchExchange,
    /// The exchange it was published to takes messages from other exchanges only.
    Internal,
    /// The routing key has more than 255 bytes.
    KeyTooLong,
    /// The message's headers cannot be read.
    Headers(Box<Refusal>),
}

impl RouteError {
    /// The same in RabbitMQ's words: 404, 403 or 502.
    pub fn refusal(self, _exchange: &str, _vhost: &VhostName) -> Refusal {
        todo!()
    }
}
