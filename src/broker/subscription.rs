//! A durable named subscription: what it listens to, and the queues that hold it for those who take part.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::retention::retention_of;
use super::vhost::QueueDefinition;
pub use crate::model::Sharing;
use crate::model::{ExchangeName, FieldTable, MemberName, QueueName, RoutingKey, SubscriptionName};
use crate::routing::{Binding, Destination};
use crate::shard::Retention;

/// What the names of all its queues begin with.
const QUEUE_PREFIX: &str = "sub";

/// Parts of a queue's name stand between these; no name of a subscription or of a member has one.
pub(super) const SEPARATOR: char = ':';

/// A binding of a subscription: it leads to all its queues.
#[derive(Debug, Clone)]
pub struct SubscriptionBinding {
    /// Name of the exchange.
    pub exchange: ExchangeName,
    /// Key or pattern.
    pub key: RoutingKey,
    /// For headers exchanges: what to match.
    pub arguments: FieldTable,
}

impl SubscriptionBinding {
    /// As one of its queues has it.
    pub(super) fn to_queue(&self, queue: &QueueName) -> Binding {
        Binding {
            source: self.exchange.clone(),
            destination: Destination::Queue(queue.clone()),
            key: self.key.clone(),
            arguments: self.arguments.clone(),
        }
    }
}

impl SubscriptionBinding {
    /// Their order: exchange, key, arguments, which are equal as those of bindings are.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let of_keys = self.exchange.cmp(&other.exchange).then_with(|| self.key.cmp(&other.key));
        of_keys.then_with(|| match self.arguments.is_empty() && other.arguments.is_empty() {
            true => Ordering::Equal,
            false => {
                let nowhere = QueueName::default();
                self.to_queue(&nowhere).compare(&other.to_queue(&nowhere))
            }
        })
    }
}

impl PartialEq for SubscriptionBinding {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other).is_eq()
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// Unique in its vhost.
    pub name: SubscriptionName,
    /// Who gets what.
    pub sharing: Sharing,
    /// What it listens to, in order; exactly the bindings of each of its queues.
    pub bindings: Vec<SubscriptionBinding>,
    /// Milliseconds without a consumer after which a queue of it goes; 0: never.
    pub expires_after_ms: u64,
    /// Notes for people and programs.
    pub annotations: BTreeMap<String, String>,
    /// Arguments of its queues: what they retain.
    pub queue_arguments: FieldTable,
    /// Its queues, by member; a shared one has one, under the empty name.
    pub members: BTreeMap<MemberName, Arc<QueueDefinition>>,
}

impl Subscription {
    /// What its queues retain of what consumers are done with; `None`: nothing.
    pub fn retention(&self) -> Option<Retention> {
        retention_of(&self.queue_arguments).ok().flatten()
    }

    /// Those of its bindings that `other` has not.
    pub(super) fn bindings_beyond(&self, other: &Self) -> Vec<&SubscriptionBinding> {
        if self.bindings == other.bindings {
            return Vec::new();
        }
        let is_beyond = |binding: &&SubscriptionBinding| {
            other.bindings.binary_search_by(|there| there.compare(binding)).is_err()
        };
        self.bindings.iter().filter(is_beyond).collect()
    }
}

/// The name of a subscription's queue: "sub:NAME", or "sub:NAME:MEMBER".
pub(super) fn queue_name(subscription: &str, member: &str) -> String {
    match member {
        "" => format!("{QUEUE_PREFIX}{SEPARATOR}{subscription}"),
        member => format!("{QUEUE_PREFIX}{SEPARATOR}{subscription}{SEPARATOR}{member}"),
    }
}
