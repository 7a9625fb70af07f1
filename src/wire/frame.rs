//! Frames as the rest of the program sees them.

use super::pb;
use crate::message::DeliveredItem;
use crate::message::ItemFault;
use crate::message::Text;
use crate::message::{Items, MessageRun};

/// One decoded frame. Messages in it are slices of the bytes that were decoded.
#[derive(Debug, Clone)]
pub struct WireFrame {
    /// 0 for the connection itself.
    pub channel: u32,
    /// Echoed in the answer; 0: no answer wanted.
    pub request: u64,
    /// What the frame says.
    pub body: Body,
}

/// What a frame says. The hot kinds have shapes of their own, in which messages stay encoded.
#[derive(Debug, Clone)]
pub enum Body {
    /// Messages on their way in.
    Publish(Publish),
    /// Word of what became of published messages.
    Confirm(pb::Confirm),
    /// Messages on their way out.
    Deliver(Deliver),
    /// What became of deliveries.
    Settle(pb::Settle),
    /// Every other kind of frame, as generated from the definitions. Never one of the four above. Boxed, because it is
    /// several times as large as they are.
    Other(Box<pb::frame::Body>),
}

/// Messages on their way in.
#[derive(Debug, Clone)]
pub struct Publish {
    /// A publisher opened on this channel; 0: `target` says where the messages go.
    pub publisher: u32,
    /// Sequence number of the first message; 0: no confirms wanted.
    pub first_sequence: u64,
    /// Only where `publisher` is 0. Lengths of its texts are not checked yet.
    pub target: Option<pb::PublishTarget>,
    /// The messages; there may be none.
    pub items: Items,
}

/// Messages on their way out.
#[derive(Debug, Clone)]
pub struct Deliver {
    /// The consumer they are for.
    pub consumer: u32,
    /// Delivery tag of the first message, the others count up by one.
    pub first_tag: u64,
    /// The exchange they were published to.
    pub exchange: Text,
    /// Routing key of every message that has none of its own.
    pub routing_key: Text,
    /// The messages' bytes and where each one ends. Their insides are checked when they are looked at.
    pub items: MessageRun,
}

impl Deliver {
    /// The messages, decoded one by one without copying bodies.
    pub fn messages(&self) -> impl Iterator<Item = Result<DeliveredItem, ItemFault>> {
        (0..self.items.len()).map(|index| {
            let range = self.items.start(index)..self.items.ends()[index] as usize;
            DeliveredItem::decode_within(self.items.bytes(), range)
        })
    }
}
