//! Subscriptions as the catalog's log has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::fault::RecordFault;
use super::record::{StoredQueue, StoredTable, stored_queue};
use crate::broker::subscription::{Sharing, Subscription, SubscriptionBinding};
use crate::broker::vhost::QueueDefinition;
use crate::model::{ExchangeName, FieldTable, MemberName, RoutingKey, SubscriptionName, VhostName};

/// All that a subscription is from now on; of its members those that join or change, the others stay.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSubscription {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(bool, tag = "3")]
    each: bool,
    #[prost(message, repeated, tag = "4")]
    bindings: Vec<StoredSubscriptionBinding>,
    #[prost(uint64, tag = "5")]
    expires_after_ms: u64,
    #[prost(btree_map = "string, string", tag = "6")]
    annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "7")]
    members: Vec<StoredMember>,
    #[prost(message, optional, tag = "8")]
    queue_arguments: Option<StoredTable>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSubscriptionBinding {
    #[prost(string, tag = "1")]
    exchange: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(message, optional, tag = "3")]
    arguments: Option<StoredTable>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMember {
    #[prost(string, tag = "1")]
    member: String,
    #[prost(message, optional, tag = "2")]
    queue: Option<StoredQueue>,
}

/// A member that leaves, with its queue.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredMemberName {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) subscription: String,
    #[prost(string, tag = "3")]
    pub(super) member: String,
}

impl StoredSubscription {
    pub(super) fn new(vhost: &VhostName, subscription: &Subscription) -> Self {
        let Subscription { name, sharing, bindings, expires_after_ms, annotations, queue_arguments, members } =
            subscription;
        let bindings = bindings.iter().map(|binding| StoredSubscriptionBinding {
            exchange: binding.exchange.to_string(),
            key: binding.key.to_string(),
            arguments: Some(StoredTable::from(&binding.arguments)),
        });
        let members = members.iter().map(|(member, queue)| StoredMember {
            member: member.to_string(),
            queue: Some(stored_queue(vhost, queue)),
        });
        Self {
            vhost: vhost.to_string(),
            name: name.to_string(),
            each: *sharing == Sharing::Each,
            bindings: bindings.collect(),
            expires_after_ms: *expires_after_ms,
            annotations: annotations.clone(),
            members: members.collect(),
            queue_arguments: (!queue_arguments.is_empty()).then(|| StoredTable::from(queue_arguments)),
        }
    }

    pub(super) fn subscription(self) -> Result<Subscription, RecordFault> {
        let name = SubscriptionName::new(&self.name)?;
        let bindings = self.bindings.into_iter().map(|stored| {
            Ok::<_, RecordFault>(SubscriptionBinding {
                exchange: ExchangeName::new(&stored.exchange)?,
                key: RoutingKey::new(&stored.key)?,
                arguments: stored.arguments.map(FieldTable::from).unwrap_or_default(),
            })
        });
        let members = self.members.into_iter().map(|stored| {
            let queue = stored.queue.ok_or(RecordFault::NoQueue(name.clone()))?.definition()?;
            let queue = QueueDefinition { subscription: Some(name.clone()), ..queue };
            Ok::<_, RecordFault>((MemberName::new(&stored.member)?, Arc::new(queue)))
        });
        Ok(Subscription {
            sharing: if self.each { Sharing::Each } else { Sharing::Shared },
            bindings: bindings.collect::<Result<_, _>>()?,
            expires_after_ms: self.expires_after_ms,
            annotations: self.annotations,
            queue_arguments: self.queue_arguments.map(FieldTable::from).unwrap_or_default(),
            members: members.collect::<Result<_, _>>()?,
            name,
        })
    }
}
