//! One consumer of a queue: what it may take and what it has.

use super::message_ref::MessageRef;
use super::unsettled::{Look, Unsettled};
use crate::model::{ConnectionId, DeliveryTag};

/// Names somebody who takes messages, within the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerKey {
    /// The connection it lives on.
    pub connection: ConnectionId,
    /// The channel of that connection.
    pub channel: u32,
    /// In which way it takes them.
    pub taking: Taking,
    /// The number the client gave it; 0 if it takes messages one at a time.
    pub handle: u32,
}

/// In which way somebody takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Taking {
    /// As a consumer, for as long as it lives.
    Consuming,
    /// One at a time, when it asks ([`super::Queue::take_one`]): all requests of a channel that want to settle together.
    OneByOne,
    /// The same for requests that do not settle.
    OneByOneNoAck,
}

impl ConsumerKey {
    /// A consumer, by the number that its client gave it.
    pub fn consumer(connection: ConnectionId, channel: u32, handle: u32) -> Self {
        Self { connection, channel, taking: Taking::Consuming, handle }
    }

    /// The single requests of a channel, with or without acknowledgements.
    pub fn one_by_one(connection: ConnectionId, channel: u32, no_ack: bool) -> Self {
        let taking = if no_ack { Taking::OneByOneNoAck } else { Taking::OneByOne };
        Self { connection, channel, taking, handle: 0 }
    }

    /// Whether it stands for a consumer, and not for single requests.
    pub fn is_consumer(&self) -> bool {
        self.taking == Taking::Consuming
    }
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
    /// While one of a higher priority may take messages, those of a lower get none.
    pub priority: i32,
}

/// What a consumer wants and has, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerState {
    /// Who it is.
    pub key: ConsumerKey,
    /// What it wants.
    pub limits: ConsumerLimits,
    /// Messages that it has not settled.
    pub unsettled: u64,
    /// Messages that went to it.
    pub delivered: u64,
    /// Of a queue with a single active consumer: whether it is this one.
    pub active: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) key: ConsumerKey,
    pub(super) limits: ConsumerLimits,
    /// No more deliveries; it can still settle.
    pub(super) cancelled: bool,
    /// It takes of what is lent to its channel, and no more.
    pub(super) shares: bool,
    /// Bytes on their way.
    in_flight_bytes: u64,
    unsettled: Unsettled,
    /// Bytes of those.
    unsettled_bytes: u64,
}

impl Consumer {
    pub(super) fn new(key: ConsumerKey, limits: ConsumerLimits) -> Self {
        let unsettled = Unsettled::default();
        Self {
            key,
            limits,
            cancelled: false,
            shares: false,
            in_flight_bytes: 0,
            unsettled,
            unsettled_bytes: 0,
        }
    }

    /// Whether it counts as a consumer of the queue.
    pub(super) fn is_consuming(&self) -> bool {
        !self.cancelled && self.key.is_consumer()
    }

    /// How many messages it may take now, as far as its channel has no bound of its own.
    pub(super) fn room(&self) -> u64 {
        if self.cancelled || self.in_flight_bytes >= self.limits.window_bytes {
            return 0;
        }
        let by_prefetch = if self.limits.no_ack || self.limits.prefetch == 0 {
            u64::MAX
        } else {
            u64::from(self.limits.prefetch).saturating_sub(self.unsettled.len())
        };
        by_prefetch.min(self.limits.credit.map_or(u64::MAX, u64::from))
    }

    /// Bytes after which it may take no more, if it may take any.
    pub(super) fn room_bytes(&self) -> u64 {
        self.limits.window_bytes.saturating_sub(self.in_flight_bytes)
    }

    /// Gives it messages of so many bytes together; returns the tag of the first.
    pub(super) fn take(&mut self, messages: &[MessageRef], bytes: u64) -> DeliveryTag {
        self.in_flight_bytes += bytes;
        if let Some(credit) = &mut self.limits.credit {
            *credit = credit.saturating_sub(messages.len() as u32);
        }
        DeliveryTag(match self.limits.no_ack {
            true => self.unsettled.skip(messages.len() as u64),
            false => {
                self.unsettled_bytes += bytes;
                self.unsettled.extend(messages)
            }
        })
    }

    /// So many bytes reached its socket.
    pub(super) fn written(&mut self, bytes: u64) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
    }

    pub(super) fn add_credit(&mut self, add: u32) {
        self.limits.credit = Some(self.limits.credit.unwrap_or(0).saturating_add(add));
    }

    /// Takes out what it has from `first` to `last`; returns the first of these tags that it does not have.
    pub(super) fn settle(
        &mut self,
        first: u64,
        last: u64,
        mut settled: impl FnMut(u64, MessageRef),
    ) -> Option<u64> {
        let bytes = &mut self.unsettled_bytes;
        self.unsettled.take(first, last, |tag, message| {
            *bytes -= message.size_bytes();
            settled(tag, message);
        })
    }

    /// What it has from `first` to `last`.
    pub(super) fn look(&self, first: u64, last: u64) -> Look {
        self.unsettled.look(first, last)
    }

    /// The tag of the oldest delivery that it has not settled.
    pub(super) fn oldest_tag(&self) -> Option<u64> {
        self.unsettled.oldest()
    }

    /// Bytes of what it has not settled, as [`MessageRef::size_bytes`] says them.
    pub(super) fn unsettled_bytes(&self) -> u64 {
        self.unsettled_bytes
    }

    /// The tag of its next delivery.
    pub(super) fn next_tag(&self) -> u64 {
        self.unsettled.next_tag()
    }

    pub(super) fn unsettled(&self) -> impl Iterator<Item = MessageRef> {
        self.unsettled.iter()
    }

    pub(super) fn state(&self, active: Option<bool>) -> ConsumerState {
        // Its tags count its deliveries, from 1.
        let delivered = self.next_tag().saturating_sub(1);
        ConsumerState {
            key: self.key,
            limits: self.limits,
            unsettled: self.unsettled_count(),
            delivered,
            active,
        }
    }

    pub(super) fn unsettled_count(&self) -> u64 {
        self.unsettled.len()
    }
}
