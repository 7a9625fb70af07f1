//! One look at a broker: all lists that a picture is made of.

use super::super::clock;
use super::super::failure::Failure;
use crate::client::{
    Binding, Channel, ConnectionEntry, ConsumerEntry, ExchangeEntry, QueueEntry, SubscriptionEntry,
};

/// What the lists of a virtual host said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// When it was, in milliseconds since 1970.
    pub(super) at_ms: u64,
    pub(super) exchanges: Vec<ExchangeEntry>,
    pub(super) queues: Vec<QueueEntry>,
    pub(super) bindings: Vec<Binding>,
    /// Of all virtual hosts.
    pub(super) connections: Vec<ConnectionEntry>,
    pub(super) consumers: Vec<ConsumerEntry>,
    pub(super) subscriptions: Vec<SubscriptionEntry>,
}

impl Look {
    /// Asks for the lists, one after the other, each a page at a time.
    pub(crate) async fn at(channel: &Channel) -> Result<Self, Failure> {
        Ok(Self {
            at_ms: clock::now_ms(),
            connections: channel.list_connections().await?,
            exchanges: channel.list_exchanges().await?,
            queues: channel.list_queues().await?,
            consumers: channel.list_consumers().await?,
            bindings: channel.list_bindings().await?,
            subscriptions: channel.list_subscriptions().await?,
        })
    }
}
