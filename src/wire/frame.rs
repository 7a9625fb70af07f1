//! Frames as the rest of the program sees them.

use std::str;

use super::delivered::DeliveredItem;
use super::error::ItemFault;
use super::pb;
use super::text::Text;
use crate::model::MessageRun;

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

/// Published messages, checked: every item holds a message and nothing but what a publisher may set.
#[derive(Debug, Clone, Default)]
pub struct Items {
    /// The messages' bytes and where each one ends.
    pub run: MessageRun,
    /// Where in the run each message's own routing key is; empty when no message has one.
    pub(super) keys: Vec<KeySpan>,
    /// Size of the largest body, in bytes.
    pub body_bytes_max: usize,
    /// Sizes of all bodies together, in bytes.
    pub body_bytes: usize,
}

/// Where a routing key lies in its run.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeySpan {
    pub(super) start: u32,
    /// Before `start` if the message has no key of its own.
    pub(super) end: u32,
}

impl KeySpan {
    pub(super) const ABSENT: Self = Self { start: 1, end: 0 };

    pub(super) fn is_present(self) -> bool {
        self.start <= self.end
    }

    /// The same place, counted from `origin`.
    pub(super) fn relative_to(self, origin: usize) -> Self {
        Self { start: self.start - origin as u32, end: self.end - origin as u32 }
    }
}

impl Items {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.run.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    /// Whether any message has a routing key of its own.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The message's own routing key, which overrides its target's. At most 255 bytes.
    pub fn key(&self, index: usize) -> Option<&str> {
        let span = self.keys.get(index)?;
        let key = self.run.bytes().get(span.start as usize..span.end as usize)?;
        Some(str::from_utf8(key).expect("checked when the frame was decoded, and bytes do not change"))
    }
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
