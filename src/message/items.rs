//! Messages of a publisher, checked.

use std::str;

use super::run::MessageRun;

/// Published messages, checked: every item holds a message and nothing but what a publisher may set.
#[derive(Debug, Clone, Default)]
pub struct Items {
    /// The messages' bytes and where each one ends.
    pub run: MessageRun,
    /// Where in the run each message's own routing key is; empty when no message has one.
    pub(crate) keys: Vec<KeySpan>,
    /// Expirations of those that have one, in order.
    pub(crate) expirations: Vec<Expiration>,
    /// Delays of those that have one, in order.
    pub(crate) delays: Vec<Delay>,
    /// Those with a header under whose name further routing keys stand, in order.
    pub(crate) with_further_keys: Vec<u32>,
    /// Those that want replies to whoever publishes, in order.
    pub(crate) asking_for_replies: Vec<u32>,
    /// Size of the largest body, in bytes.
    pub body_bytes_max: usize,
    /// Sizes of all bodies together, in bytes.
    pub body_bytes: usize,
}

/// When a message of a run expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiration {
    /// Which message of the run.
    pub index: u32,
    /// So many milliseconds after it came.
    pub after_millis: u64,
}

/// When a message of a run is to be delivered, if not at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delay {
    /// Which message of the run.
    pub index: u32,
    /// So many milliseconds after it came.
    pub after_millis: Option<u64>,
    /// At this time, in milliseconds since 1970-01-01T00:00:00Z.
    pub at_millis: Option<u64>,
}

/// Where a routing key lies in its run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeySpan {
    pub(crate) start: u32,
    /// Before `start` if the message has no key of its own.
    pub(crate) end: u32,
}

impl KeySpan {
    pub(crate) const ABSENT: Self = Self { start: 1, end: 0 };

    pub(crate) fn is_present(self) -> bool {
        self.start <= self.end
    }

    /// The same place, counted from `origin`.
    pub(crate) fn relative_to(self, origin: usize) -> Self {
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

    /// Expirations of those messages that have one, in order.
    pub fn expirations(&self) -> &[Expiration] {
        &self.expirations
    }

    /// Delays of those messages that have one, in order.
    pub fn delays(&self) -> &[Delay] {
        &self.delays
    }

    /// Those of the messages with a header [`CC`](crate::model::CC) or [`BCC`](crate::model::BCC), in order.
    pub fn with_further_keys(&self) -> &[u32] {
        &self.with_further_keys
    }

    /// Those of the messages whose `reply_to` is [`REPLY_TO`](crate::model::REPLY_TO), in order.
    pub fn asking_for_replies(&self) -> &[u32] {
        &self.asking_for_replies
    }

    /// The message's own routing key, which overrides its target's. At most 255 bytes.
    pub fn key(&self, index: usize) -> Option<&str> {
        let span = self.keys.get(index)?;
        let key = self.run.bytes().get(span.start as usize..span.end as usize)?;
        Some(str::from_utf8(key).expect("checked when the frame was decoded, and bytes do not change"))
    }
}
