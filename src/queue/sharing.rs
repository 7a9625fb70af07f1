//! Consumers of a channel that has a bound on what all of them together have and have not settled. The bound reaches beyond one queue,
//! so somebody else keeps it, who lends the queue what it may hand out to them. What is lent is for all of them together.

use std::collections::BTreeMap;

use super::consumer::{Consumer, ConsumerKey};
use super::queue::Queue;
use crate::model::ConnectionId;

/// A channel whose consumers share a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelKey {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its number there.
    pub channel: u32,
}

impl From<ConsumerKey> for ChannelKey {
    fn from(key: ConsumerKey) -> Self {
        Self { connection: key.connection, channel: key.channel }
    }
}

/// What the consumers of a channel that share a bound have of a queue, and want of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Messages that they have not settled.
    pub unsettled: u64,
    /// Messages that wait and that they have room for, if their bound has it, too.
    pub wanted: u64,
}

impl Queue {
    /// From now on this consumer takes of what is lent to its channel, and no more; unless what it is given needs no settling.
    pub fn share(&mut self, key: ConsumerKey) {
        if let Some(index) = self.position(key) {
            let consumer = &mut self.consumers[index];
            consumer.shares = !consumer.limits.no_ack;
        }
    }

    /// Channels with consumers here that share a bound. Looks at all consumers of the queue.
    pub fn shares(&mut self) -> BTreeMap<ChannelKey, Share> {
        let mut shares: BTreeMap<ChannelKey, Share> = BTreeMap::new();
        let served = self.served();
        for (index, consumer) in self.consumers.iter().enumerate().filter(|(_, consumer)| consumer.shares) {
            let share = shares.entry(consumer.key.into()).or_default();
            share.unsettled += consumer.unsettled_count();
            if !self.options.single_active || served == Some(index) {
                share.wanted = share.wanted.saturating_add(consumer.room());
            }
        }
        let ready = self.ready();
        shares.values_mut().for_each(|share| share.wanted = share.wanted.min(ready));
        shares
    }

    /// The consumers of a channel that share a bound may take so many messages more, whatever was left before.
    pub fn lend(&mut self, channel: ChannelKey, messages: u64) {
        match messages {
            0 => self.lent.remove(&channel),
            _ => self.lent.insert(channel, messages),
        };
    }

    /// How many messages a consumer may take now.
    pub(super) fn room_of(&self, index: usize) -> u64 {
        let consumer = &self.consumers[index];
        match consumer.shares {
            false => consumer.room(),
            true => consumer.room().min(self.lent.get(&consumer.key.into()).copied().unwrap_or(0)),
        }
    }

    /// How many messages all consumers may take now.
    pub(super) fn room_of_all(&self) -> u64 {
        let room_of = |channel: Option<ChannelKey>| {
            let is_of =
                |consumer: &&Consumer| consumer.shares.then_some(ChannelKey::from(consumer.key)) == channel;
            self.consumers.iter().filter(is_of).map(Consumer::room).fold(0, u64::saturating_add)
        };
        let shared = self.lent.iter().map(|(channel, left)| room_of(Some(*channel)).min(*left));
        shared.fold(room_of(None), u64::saturating_add)
    }

    /// A consumer was given so many messages.
    pub(super) fn use_loan(&mut self, index: usize, messages: u64) {
        let consumer = &self.consumers[index];
        if consumer.shares {
            let channel = consumer.key.into();
            let left = self.lent.get(&channel).copied().unwrap_or(0);
            self.lend(channel, left.saturating_sub(messages));
        }
    }
}
