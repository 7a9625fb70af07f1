//! Messages on their way to the application, one by one or as they came.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::settler::{Settled, Settler};
use crate::client::convert::{properties_from_wire, shared_text};
use crate::client::error::{ConsumeError, SettleError};
use crate::client::message::Properties;
use crate::message::MessageRun;
use crate::message::{DeliveredItem, DeliveredView, Text};
use crate::model::DeliveryTag;
use crate::wire::{Deliver, pb};

/// What the deliveries of one frame share.
struct Head {
    settler: Arc<Settler>,
    /// The connection they came over.
    epoch: u64,
    no_ack: bool,
    exchange: Text,
    routing_key: Text,
}

impl Head {
    fn settle(&self, first: u64, last: u64, settled: impl Into<Settled>) -> Result<(), SettleError> {
        if self.no_ack {
            return Err(SettleError::NoAck);
        }
        self.settler.settle(self.epoch, first, last, settled)
    }

    fn extend(&self, first: u64, last: u64) -> Result<(), SettleError> {
        if self.no_ack {
            return Err(SettleError::NoAck);
        }
        self.settler.extend(self.epoch, first, last)
    }
}

/// The deliveries of one frame, in order. Take them out as an iterator, or look at them with [`iter`](Self::iter) and
/// settle them together.
pub struct Batch {
    head: Arc<Head>,
    first_tag: u64,
    items: MessageRun,
    /// Deliveries taken out.
    taken: usize,
}

impl Batch {
    pub(super) fn new(settler: &Arc<Settler>, epoch: u64, no_ack: bool, deliver: Deliver) -> Self {
        let Deliver { first_tag, exchange, routing_key, items, .. } = deliver;
        let head = Head { settler: settler.clone(), epoch, no_ack, exchange, routing_key };
        Self { head: Arc::new(head), first_tag, items, taken: 0 }
    }

    /// Number of deliveries left in it.
    pub fn len(&self) -> usize {
        self.items.len() - self.taken
    }

    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at the deliveries that are left without taking them: nothing is copied, a few nanoseconds each.
    pub fn iter(&self) -> impl Iterator<Item = Result<DeliveryView<'_>, ConsumeError>> {
        let exchange = self.head.exchange.as_str();
        let frame_routing_key = self.head.routing_key.as_str();
        (self.taken..self.items.len()).map(move |index| {
            let item = match DeliveredView::of(self.items.item(index)) {
                Some(view) => Viewed::InPlace(view),
                None => Viewed::Decoded(Box::new(self.decode(index)?)),
            };
            Ok(DeliveryView { tag: self.tag(index), exchange, frame_routing_key, item })
        })
    }

    /// Accepts all that are left in it.
    pub fn accept(self) -> Result<(), SettleError> {
        self.settle_rest(pb::Outcome::Accepted)
    }

    /// Puts all that are left in it back into the queue.
    pub fn requeue(self) -> Result<(), SettleError> {
        self.settle_rest(pb::Outcome::Requeued)
    }

    /// Puts all that are left in it back into the queue, which holds them back for so long: ten years at most.
    pub fn requeue_after(self, delay: Duration) -> Result<(), SettleError> {
        self.settle_rest(Settled::deferred(delay))
    }

    /// Rejects all that are left in it.
    pub fn reject(self) -> Result<(), SettleError> {
        self.settle_rest(pb::Outcome::Rejected)
    }

    fn settle_rest(self, settled: impl Into<Settled>) -> Result<(), SettleError> {
        if self.is_empty() {
            return Ok(());
        }
        let first = self.tag(self.taken).0;
        self.head.settle(first, first + self.len() as u64 - 1, settled)
    }

    /// Asks for more time for all that are left in it: their leases begin anew.
    ///
    /// # Errors
    /// As of [`Delivery::extend`].
    pub fn extend(&self) -> Result<(), SettleError> {
        if self.is_empty() {
            return Ok(());
        }
        let first = self.tag(self.taken).0;
        self.head.extend(first, first + self.len() as u64 - 1)
    }

    fn tag(&self, index: usize) -> DeliveryTag {
        DeliveryTag(self.first_tag + index as u64)
    }

    fn decode(&self, index: usize) -> Result<DeliveredItem, ConsumeError> {
        let range = self.items.start(index)..self.items.ends()[index] as usize;
        DeliveredItem::decode(&self.items.bytes().slice(range))
            .map_err(|fault| ConsumeError::Malformed(shared_text(fault)))
    }
}

impl Iterator for Batch {
    type Item = Result<Delivery, ConsumeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.taken;
        if index == self.items.len() {
            return None;
        }
        self.taken += 1;
        let tag = self.tag(index);
        Some(self.decode(index).map(|item| Delivery { head: self.head.clone(), tag, item }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("first_tag", &self.tag(self.taken).0).field("len", &self.len()).finish()
    }
}

/// A delivery that stays in its [`Batch`].
#[derive(Debug)]
pub struct DeliveryView<'a> {
    /// Its number within its consumer.
    pub tag: DeliveryTag,
    /// Exchange it was published to.
    pub exchange: &'a str,
    frame_routing_key: &'a str,
    item: Viewed<'a>,
}

/// Servers send items in the form that can be read in place; any other valid one is brought into it first.
#[derive(Debug)]
enum Viewed<'a> {
    InPlace(DeliveredView<'a>),
    Decoded(Box<DeliveredItem>),
}

impl DeliveryView<'_> {
    /// The payload.
    #[inline]
    pub fn body(&self) -> &[u8] {
        match &self.item {
            Viewed::InPlace(item) => item.body,
            Viewed::Decoded(item) => &item.body,
        }
    }

    /// Routing key it was published with.
    pub fn routing_key(&self) -> &str {
        let own = match &self.item {
            Viewed::InPlace(item) => item.routing_key,
            Viewed::Decoded(item) => item.routing_key.as_ref().map(Text::as_str),
        };
        own.unwrap_or(self.frame_routing_key)
    }

    /// It may have been delivered before. False means: certainly not.
    #[inline]
    pub fn redelivered(&self) -> bool {
        match &self.item {
            Viewed::InPlace(item) => item.redelivered,
            Viewed::Decoded(item) => item.redelivered,
        }
    }

    /// Its publisher sent it more than once: an equal message may have come before.
    #[inline]
    pub fn resent(&self) -> bool {
        match &self.item {
            Viewed::InPlace(item) => item.resent,
            Viewed::Decoded(item) => item.resent,
        }
    }
}

/// One message for a consumer. Settle it with [`accept`](Self::accept), [`requeue`](Self::requeue) or
/// [`reject`](Self::reject); dropped without, it stays unsettled until its channel closes.
pub struct Delivery {
    head: Arc<Head>,
    tag: DeliveryTag,
    item: DeliveredItem,
}

impl Delivery {
    /// A message that came by Get.
    pub(super) fn from_got(
        settler: &Arc<Settler>,
        epoch: u64,
        no_ack: bool,
        got: pb::Got,
    ) -> Option<(Self, u64)> {
        let item = got.item?;
        let message = item.message.unwrap_or_default();
        let item = DeliveredItem {
            body: message.body,
            properties: message.properties.map(|properties| Bytes::from(properties.encode_to_vec())),
            routing_key: item.routing_key.and_then(|key| Text::new(Bytes::from(key)).ok()),
            resent: item.resent,
            redelivered: item.redelivered,
            delivery_count: item.delivery_count,
        };
        let text = |text: String| Text::new(Bytes::from(text)).unwrap_or_default();
        let (exchange, routing_key) = (text(got.exchange), text(got.routing_key));
        let head = Head { settler: settler.clone(), epoch, no_ack, exchange, routing_key };
        Some((Self { head: Arc::new(head), tag: DeliveryTag(got.tag), item }, got.messages_ready))
    }

    /// Its number within its consumer, counted from 1 for each connection.
    pub fn tag(&self) -> DeliveryTag {
        self.tag
    }

    /// The payload.
    pub fn body(&self) -> &Bytes {
        &self.item.body
    }

    /// Exchange it was published to; "" is the default exchange.
    pub fn exchange(&self) -> &str {
        self.head.exchange.as_str()
    }

    /// Routing key it was published with.
    pub fn routing_key(&self) -> &str {
        self.item.routing_key.as_ref().unwrap_or(&self.head.routing_key).as_str()
    }

    /// It may have been delivered before. False means: certainly not.
    pub fn redelivered(&self) -> bool {
        self.item.redelivered
    }

    /// How many times it came back to the queue.
    pub fn delivery_count(&self) -> u32 {
        self.item.delivery_count
    }

    /// Its publisher sent it more than once: an equal message may have come before.
    pub fn resent(&self) -> bool {
        self.item.resent
    }

    /// Its properties, decoded now.
    ///
    /// # Errors
    /// If they are not what the protocol allows, which a broker does not let through.
    pub fn properties(&self) -> Result<Properties, ConsumeError> {
        let properties = self.item.decode_properties().and_then(properties_from_wire);
        properties.map_err(|fault| ConsumeError::Malformed(shared_text(fault)))
    }

    /// Done: the queue forgets it. Sent together with others, at the next turn of the connection.
    pub fn accept(self) -> Result<(), SettleError> {
        self.head.settle(self.tag.0, self.tag.0, pb::Outcome::Accepted)
    }

    /// As [`accept`](Self::accept), and waits until the broker has stored that.
    ///
    /// # Cancel safety
    /// Once it was polled the accept is on its way and is carried out; before that the delivery stays unsettled, as one that is
    /// dropped.
    pub async fn accept_stored(self) -> Result<(), SettleError> {
        if self.head.no_ack {
            return Err(SettleError::NoAck);
        }
        self.head.settler.settle_stored(self.head.epoch, self.tag.0, pb::Outcome::Accepted).await
    }

    /// Asks for more time: its lease begins anew. Who keeps a delivery for longer than the lease of its queue
    /// ([`Queue::consumer_timeout`](crate::client::Queue::consumer_timeout)) loses it, and its consumer ends. Sent at the next turn of
    /// the connection; if the lease is over by then, [`Event::ChannelError`](crate::client::Event::ChannelError) says so.
    ///
    /// # Errors
    /// If it cannot be settled any more either.
    pub fn extend(&self) -> Result<(), SettleError> {
        self.head.extend(self.tag.0, self.tag.0)
    }

    /// Back to its place in the queue, for anybody.
    pub fn requeue(self) -> Result<(), SettleError> {
        self.head.settle(self.tag.0, self.tag.0, pb::Outcome::Requeued)
    }

    /// Back to its place in the queue, for anybody, but held back for so long: ten years at most.
    pub fn requeue_after(self, delay: Duration) -> Result<(), SettleError> {
        self.head.settle(self.tag.0, self.tag.0, Settled::deferred(delay))
    }

    /// Not wanted: the queue drops it or gives it to its dead letter exchange.
    pub fn reject(self) -> Result<(), SettleError> {
        self.head.settle(self.tag.0, self.tag.0, pb::Outcome::Rejected)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("tag", &self.tag.0)
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("body_bytes", &self.item.body.len())
            .finish_non_exhaustive()
    }
}
