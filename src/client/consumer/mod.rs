//! Consuming and settling.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use super::error::{ConsumeError, RequestError, SettleError};
use super::message::Properties;
use crate::model::{DeliveryTag, FieldTable};

/// How to start a [`Consumer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct ConsumerBuilder {}

impl ConsumerBuilder {
    /// Unsettled deliveries at most; 0: no limit but the buffer. Default 250.
    pub fn prefetch(self, _prefetch: u32) -> Self {
        todo!()
    }

    /// Deliveries count as accepted when the broker sends them: fastest, and lost if this program dies.
    pub fn no_ack(self) -> Self {
        todo!()
    }

    /// The only consumer of its queue.
    pub fn exclusive(self) -> Self {
        todo!()
    }

    /// A name for people who look at lists of consumers. At most 255 bytes.
    pub fn tag(self, _tag: impl Into<String>) -> Self {
        todo!()
    }

    /// Bytes of deliveries that may wait here for the application. Default 8 MiB.
    pub fn buffer_bytes(self, _bytes: usize) -> Self {
        todo!()
    }

    /// Further arguments.
    pub fn arguments(self, _arguments: FieldTable) -> Self {
        todo!()
    }

    /// Starts the consumer.
    pub async fn start(self) -> Result<Consumer, RequestError> {
        todo!()
    }
}

/// A stream of deliveries from one queue. Dropping it ends it; deliveries it had not handed out go back to the queue.
#[derive(Debug)]
pub struct Consumer {}

impl Consumer {
    /// The next delivery; `None` after it was cancelled here or ended with an error.
    pub async fn next(&mut self) -> Option<Result<Delivery, ConsumeError>> {
        todo!()
    }

    /// All deliveries that came in one frame; much cheaper per message.
    pub async fn next_batch(&mut self) -> Option<Result<Batch, ConsumeError>> {
        todo!()
    }

    /// Its name, as the server lists it.
    pub fn tag(&self) -> &str {
        todo!()
    }

    /// The queue it takes from.
    pub fn queue(&self) -> String {
        todo!()
    }

    /// Ends it. Deliveries that were not handed out go back to the queue; those handed out can still be settled.
    pub async fn cancel(self) -> Result<(), RequestError> {
        todo!()
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        todo!()
    }
}

/// The deliveries of one frame.
#[derive(Debug)]
pub struct Batch {}

impl Batch {
    /// Number of deliveries left in it.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at the deliveries without taking them.
    pub fn iter(&self) -> impl Iterator<Item = DeliveryView<'_>> {
        std::iter::empty()
    }

    /// Accepts all that are left in it.
    pub fn accept(self) -> Result<(), SettleError> {
        todo!()
    }

    /// Puts all that are left in it back into the queue.
    pub fn requeue(self) -> Result<(), SettleError> {
        todo!()
    }

    /// Rejects all that are left in it.
    pub fn reject(self) -> Result<(), SettleError> {
        todo!()
    }
}

impl Iterator for Batch {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        todo!()
    }
}

/// A delivery within a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct DeliveryView<'a> {
    /// Its number within its consumer.
    pub tag: DeliveryTag,
    /// The payload.
    pub body: &'a [u8],
    /// Exchange it was published to.
    pub exchange: &'a str,
    /// Routing key it was published with.
    pub routing_key: &'a str,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How many times it came back to the queue.
    pub delivery_count: u32,
    /// Its publisher sent it more than once.
    pub resent: bool,
}

/// One message for a consumer. Settle it with [`accept`](Self::accept), [`requeue`](Self::requeue) or
/// [`reject`](Self::reject); dropped without, it stays unsettled until its channel closes.
#[derive(Debug)]
pub struct Delivery {}

impl Delivery {
    /// Its number within its consumer, counted from 1 for each connection.
    pub fn tag(&self) -> DeliveryTag {
        todo!()
    }

    /// The payload.
    pub fn body(&self) -> &Bytes {
        todo!()
    }

    /// Exchange it was published to; "" is the default exchange.
    pub fn exchange(&self) -> &str {
        todo!()
    }

    /// Routing key it was published with.
    pub fn routing_key(&self) -> &str {
        todo!()
    }

    /// It may have been delivered before. False means: certainly not.
    pub fn redelivered(&self) -> bool {
        todo!()
    }

    /// How many times it came back to the queue.
    pub fn delivery_count(&self) -> u32 {
        todo!()
    }

    /// Its publisher sent it more than once: an equal message may have come before.
    pub fn resent(&self) -> bool {
        todo!()
    }

    /// Its properties, decoded now.
    pub fn properties(&self) -> Result<Properties, ConsumeError> {
        todo!()
    }

    /// Done: the queue forgets it. Sent with others in one frame, at the next turn of the connection.
    pub fn accept(self) -> Result<(), SettleError> {
        todo!()
    }

    /// As [`accept`](Self::accept), and waits until the broker has stored that.
    pub async fn accept_stored(self) -> Result<(), SettleError> {
        todo!()
    }

    /// Back to its place in the queue, for anybody.
    pub fn requeue(self) -> Result<(), SettleError> {
        todo!()
    }

    /// Not wanted: the queue drops it or gives it to its dead letter exchange.
    pub fn reject(self) -> Result<(), SettleError> {
        todo!()
    }
}

/// A message from [`Channel::get`](super::Channel::get).
#[derive(Debug)]
pub struct Got {
    /// The message.
    pub delivery: Delivery,
    /// Ready messages left in the queue.
    pub messages_ready: u64,
}
