//! One consumer of a queue: what it may take and what it has.

use std::collections::VecDeque;

use super::message_ref::MessageRef;
use crate::model::{ConnectionId, DeliveryTag};

/// A consumer that holds nothing keeps at most this much room for the next messages.
const IDLE_CAPACITY_MAX: usize = 4096;

/// Names a consumer within the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerKey {
    /// The connection it lives on.
    pub connection: ConnectionId,
    /// The channel of that connection.
    pub channel: u32,
    /// The number the client gave it; 0 for messages fetched one at a time.
    pub handle: u32,
}

/// What bounds a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// Unsettled messages at most; 0: no limit.
    pub prefetch: u32,
    /// Deliveries count as accepted at once; `prefetch` has no effect.
    pub no_ack: bool,
    /// Nobody else may consume while this one lives.
    pub exclusive: bool,
    /// Deliveries left; `None`: not counted.
    pub credit: Option<u32>,
    /// Bytes that may be on their way to the consumer without being written to its socket.
    pub window_bytes: u64,
    /// It asks for messages one at a time ([`super::Queue::take_one`]) and is no consumer in any other sense.
    pub single: bool,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) key: ConsumerKey,
    pub(super) limits: ConsumerLimits,
    /// No more deliveries; it can still settle.
    pub(super) cancelled: bool,
    /// Bytes on their way.
    in_flight_bytes: u64,
    /// Unsettled messages in order of their tags; dead once settled.
    unsettled: VecDeque<MessageRef>,
    /// Tag of `unsettled[0]`.
    first_tag: u64,
    unsettled_count: u64,
}

impl Consumer {
    pub(super) fn new(key: ConsumerKey, limits: ConsumerLimits) -> Self {
        Self {
            key,
            limits,
            cancelled: false,
            in_flight_bytes: 0,
            unsettled: VecDeque::new(),
            first_tag: 1,
            unsettled_count: 0,
        }
    }

    /// Whether it counts as a consumer of the queue.
    pub(super) fn is_active(&self) -> bool {
        !self.cancelled && !self.limits.single
    }

    /// How many messages it may take now.
    pub(super) fn room(&self) -> u64 {
        if self.cancelled || self.in_flight_bytes >= self.limits.window_bytes {
            return 0;
        }
        let by_prefetch = if self.limits.no_ack || self.limits.prefetch == 0 {
            u64::MAX
        } else {
            u64::from(self.limits.prefetch).saturating_sub(self.unsettled_count)
        };
        by_prefetch.min(self.limits.credit.map_or(u64::MAX, u64::from))
    }

    /// Gives it a message; returns the tag.
    pub(super) fn take(&mut self, message: MessageRef) -> DeliveryTag {
        let tag = self.first_tag + self.unsettled.len() as u64;
        self.in_flight_bytes += message.size_bytes();
        if let Some(credit) = &mut self.limits.credit {
            *credit = credit.saturating_sub(1);
        }
        if self.limits.no_ack {
            self.first_tag += 1;
        } else {
            self.unsettled.push_back(message);
            self.unsettled_count += 1;
        }
        DeliveryTag(tag)
    }

    /// So many bytes reached its socket.
    pub(super) fn written(&mut self, bytes: u64) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
    }

    pub(super) fn add_credit(&mut self, add: u32) {
        self.limits.credit = Some(self.limits.credit.unwrap_or(0).saturating_add(add));
    }

    /// Takes an unsettled message out; `None` if the tag is unknown or settled.
    pub(super) fn settle(&mut self, tag: u64) -> Option<MessageRef> {
        let index = tag.checked_sub(self.first_tag)?;
        let place = self.unsettled.get_mut(usize::try_from(index).ok()?)?;
        let message = *place;
        if message.is_dead() {
            return None;
        }
        *place = message.dead();
        self.unsettled_count -= 1;
        while self.unsettled.front().is_some_and(|message| message.is_dead()) {
            self.unsettled.pop_front();
            self.first_tag += 1;
        }
        if self.unsettled.is_empty() && self.unsettled.capacity() > IDLE_CAPACITY_MAX {
            self.unsettled = VecDeque::new();
        }
        Some(message)
    }

    /// Tags that are unsettled lie in this range.
    pub(super) fn tags(&self) -> std::ops::Range<u64> {
        self.first_tag..self.first_tag + self.unsettled.len() as u64
    }

    pub(super) fn unsettled(&self) -> impl Iterator<Item = MessageRef> {
        self.unsettled.iter().copied().filter(|message| !message.is_dead())
    }

    pub(super) fn unsettled_count(&self) -> u64 {
        self.unsettled_count
    }
}
