//! What the catalog writes into its log: one record per change, in protobuf, so that later versions can add fields.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

use super::fault::RecordFault;
use super::stored_policy::StoredPolicy;
use super::stored_rule::StoredRule;
use super::stored_subscription::{StoredMemberName, StoredSubscription};
use super::stored_user::{StoredUser, StoredVhostLimits};
use crate::broker::presence::PresenceChange;
use crate::broker::vhost::QueueDefinition;
use crate::model::{
    ExchangeName, FieldTable, FieldValue, QueueId, QueueName, RoutingKey, ShardId, Timestamp, VhostName,
};
use crate::routing::{Binding, Destination, ExchangeDefinition, ExchangeKind};

/// The changes of one batch.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Records {
    #[prost(message, repeated, tag = "1")]
    pub(super) records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(
        oneof = "Change",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28"
    )]
    pub(super) change: Option<Change>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Change {
    #[prost(message, tag = "1")]
    PutVhost(StoredName),
    #[prost(message, tag = "2")]
    DeleteVhost(StoredName),
    #[prost(message, tag = "3")]
    PutUser(StoredUser),
    #[prost(message, tag = "4")]
    DeleteUser(StoredName),
    #[prost(message, tag = "5")]
    PutExchange(StoredExchange),
    #[prost(message, tag = "6")]
    DeleteExchange(StoredName),
    #[prost(message, tag = "7")]
    PutQueue(StoredQueue),
    #[prost(message, tag = "8")]
    DeleteQueue(StoredName),
    #[prost(message, tag = "9")]
    Bind(StoredBinding),
    #[prost(message, tag = "10")]
    Unbind(StoredBinding),
    /// How many durable shards this data directory has; written once.
    #[prost(uint32, tag = "11")]
    Shards(u32),
    /// Numbers of queues up to this one have been given; a checkpoint says so, since the last ones may be deleted.
    #[prost(uint64, tag = "12")]
    NextQueue(u64),
    /// Which log a shard has, and how far it reached; written when it is made and at a clean stop.
    #[prost(message, tag = "13")]
    ShardLog(StoredLog),
    /// A durable exchange has, or had, a binding that no record tells of.
    #[prost(message, tag = "14")]
    ExchangeUsed(StoredName),
    /// Bodies of so many bytes have been allowed, so there may be messages of that size.
    #[prost(uint64, tag = "15")]
    BodyBytesMax(u64),
    /// With the queues of those who join, and all bindings.
    #[prost(message, tag = "16")]
    PutSubscription(StoredSubscription),
    /// With its queues.
    #[prost(message, tag = "17")]
    DeleteSubscription(StoredName),
    #[prost(message, tag = "18")]
    DeleteMember(StoredMemberName),
    /// What an exchange is from then on; its bindings stay.
    #[prost(message, tag = "19")]
    AlterExchange(StoredExchange),
    #[prost(message, tag = "21")]
    PutJourneyRule(StoredRule),
    #[prost(message, tag = "22")]
    DeleteJourneyRule(StoredRule),
    #[prost(message, tag = "23")]
    Presence(StoredPresence),
    /// A user who may not do everything, or have any number of everything: versions that know no permissions refuse it, instead of allowing all.
    #[prost(message, tag = "24")]
    PutRestrictedUser(StoredUser),
    #[prost(message, tag = "25")]
    LimitVhost(StoredVhostLimits),
    #[prost(message, tag = "26")]
    PutPolicy(StoredPolicy),
    #[prost(message, tag = "27")]
    DeletePolicy(StoredPolicy),
    /// The queue's name is "" if there is none any more.
    #[prost(message, tag = "28")]
    QuarantineOf(StoredName),
}

/// What has changed about who is there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPresence {
    #[prost(message, repeated, tag = "1")]
    pub(super) dark: Vec<StoredDark>,
    /// Numbers of queues that are not dark any more.
    #[prost(uint64, repeated, tag = "2")]
    pub(super) back: Vec<u64>,
}

/// A queue of a subscription that nobody consumes from.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDark {
    #[prost(uint64, tag = "1")]
    pub(super) queue: u64,
    /// Since when, in milliseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub(super) since_ms: u64,
}

impl StoredPresence {
    pub(super) fn new(change: &PresenceChange) -> Self {
        let dark = change.dark.iter().map(|(queue, since)| StoredDark { queue: queue.0, since_ms: since.0 });
        Self { dark: dark.collect(), back: change.back.iter().map(|queue| queue.0).collect() }
    }

    pub(super) fn change(self) -> PresenceChange {
        let dark = self.dark.into_iter().map(|dark| (QueueId(dark.queue), Timestamp(dark.since_ms)));
        PresenceChange { dark: dark.collect(), back: self.back.into_iter().map(QueueId).collect() }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredLog {
    #[prost(uint32, tag = "1")]
    pub(super) shard: u32,
    #[prost(fixed64, tag = "2")]
    pub(super) log_id: u64,
    /// Index behind the last entry.
    #[prost(uint64, tag = "3")]
    pub(super) end: u64,
}

/// A name, within a vhost where it needs one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredName {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredExchange {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) kind: String,
    #[prost(bool, tag = "4")]
    pub(super) auto_delete: bool,
    #[prost(bool, tag = "5")]
    pub(super) internal: bool,
    #[prost(message, optional, tag = "6")]
    pub(super) arguments: Option<StoredTable>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredQueue {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(uint64, tag = "3")]
    pub(super) id: u64,
    #[prost(uint32, tag = "4")]
    pub(super) shard: u32,
    #[prost(bool, tag = "5")]
    pub(super) auto_delete: bool,
    #[prost(message, optional, tag = "6")]
    pub(super) arguments: Option<StoredTable>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredBinding {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) source: String,
    #[prost(string, tag = "3")]
    pub(super) destination: String,
    #[prost(bool, tag = "4")]
    pub(super) to_exchange: bool,
    #[prost(string, tag = "5")]
    pub(super) key: String,
    #[prost(message, optional, tag = "6")]
    pub(super) arguments: Option<StoredTable>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredTable {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, StoredValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredValue {
    #[prost(oneof = "StoredKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    kind: Option<StoredKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum StoredKind {
    #[prost(bool, tag = "1")]
    Boolean(bool),
    #[prost(sint64, tag = "2")]
    Integer(i64),
    #[prost(uint64, tag = "3")]
    Unsigned(u64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(string, tag = "5")]
    Text(String),
    #[prost(bytes, tag = "6")]
    Bytes(Vec<u8>),
    #[prost(sint64, tag = "7")]
    TimestampSeconds(i64),
    #[prost(message, tag = "8")]
    Table(StoredTable),
    #[prost(message, tag = "9")]
    List(StoredList),
    #[prost(message, tag = "10")]
    Decimal(StoredDecimal),
}

#[derive(Clone, PartialEq, Message)]
struct StoredList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<StoredValue>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredDecimal {
    #[prost(uint32, tag = "1")]
    scale: u32,
    #[prost(sint64, tag = "2")]
    value: i64,
}

impl From<Change> for Record {
    fn from(change: Change) -> Self {
        Self { change: Some(change) }
    }
}

impl StoredName {
    pub(super) fn new(vhost: &str, name: &str) -> Self {
        Self { vhost: vhost.to_owned(), name: name.to_owned() }
    }
}

impl StoredExchange {
    pub(super) fn new(vhost: &str, definition: &ExchangeDefinition) -> Self {
        Self {
            vhost: vhost.to_owned(),
            name: definition.name.to_string(),
            kind: definition.kind.as_str().to_owned(),
            auto_delete: definition.auto_delete,
            internal: definition.internal,
            arguments: Some(StoredTable::from(&definition.arguments)),
        }
    }

    pub(super) fn definition(self) -> Result<ExchangeDefinition, RecordFault> {
        let kind = ExchangeKind::parse(&self.kind);
        let Ok(kind) = kind else {
            return Err(RecordFault::ExchangeKind { exchange: self.name, kind: self.kind });
        };
        Ok(ExchangeDefinition {
            name: ExchangeName::new(&self.name)?,
            kind,
            durable: true,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: self.arguments.map(FieldTable::from).unwrap_or_default(),
        })
    }
}

impl StoredQueue {
    pub(super) fn definition(self) -> Result<QueueDefinition, RecordFault> {
        Ok(QueueDefinition {
            id: QueueId(self.id),
            name: QueueName::new(&self.name)?,
            durable: true,
            owner: None,
            auto_delete: self.auto_delete,
            arguments: self.arguments.map(FieldTable::from).unwrap_or_default(),
            shard: ShardId(u16::try_from(self.shard).map_err(|_| RecordFault::Shard(self.shard))?),
            subscription: None,
            governed: None,
        })
    }
}

impl StoredBinding {
    pub(super) fn new(vhost: &str, binding: &Binding) -> Self {
        Self {
            vhost: vhost.to_owned(),
            source: binding.source.to_string(),
            destination: binding.destination.name().to_owned(),
            to_exchange: matches!(binding.destination, Destination::Exchange(_)),
            key: binding.key.to_string(),
            arguments: Some(StoredTable::from(&binding.arguments)),
        }
    }

    pub(super) fn binding(self) -> Result<Binding, RecordFault> {
        Ok(Binding {
            source: ExchangeName::new(&self.source)?,
            destination: if self.to_exchange {
                Destination::Exchange(ExchangeName::new(&self.destination)?)
            } else {
                Destination::Queue(QueueName::new(&self.destination)?)
            },
            key: RoutingKey::new(&self.key)?,
            arguments: self.arguments.map(FieldTable::from).unwrap_or_default(),
        })
    }
}

pub(super) fn stored_queue(vhost: &VhostName, queue: &QueueDefinition) -> StoredQueue {
    StoredQueue {
        vhost: vhost.to_string(),
        name: queue.name.to_string(),
        id: queue.id.0,
        shard: queue.shard.0.into(),
        auto_delete: queue.auto_delete,
        arguments: Some(StoredTable::from(&queue.arguments)),
    }
}

impl From<&FieldTable> for StoredTable {
    fn from(table: &FieldTable) -> Self {
        Self { fields: table.iter().map(|(name, value)| (name.to_owned(), value.into())).collect() }
    }
}

impl From<StoredTable> for FieldTable {
    fn from(table: StoredTable) -> Self {
        Self(table.fields.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

impl From<&FieldValue> for StoredValue {
    fn from(value: &FieldValue) -> Self {
        let kind = match value {
            FieldValue::Void => return Self { kind: None },
            FieldValue::Boolean(value) => StoredKind::Boolean(*value),
            FieldValue::Integer(value) => StoredKind::Integer(*value),
            FieldValue::Unsigned(value) => StoredKind::Unsigned(*value),
            FieldValue::Double(value) => StoredKind::Double(*value),
            FieldValue::Text(value) => StoredKind::Text(value.clone()),
            FieldValue::Bytes(value) => StoredKind::Bytes(value.clone()),
            FieldValue::TimestampSeconds(value) => StoredKind::TimestampSeconds(*value),
            FieldValue::Table(value) => StoredKind::Table(value.into()),
            FieldValue::List(values) => {
                StoredKind::List(StoredList { values: values.iter().map(StoredValue::from).collect() })
            }
            FieldValue::Decimal { scale, value } => {
                StoredKind::Decimal(StoredDecimal { scale: *scale, value: *value })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl From<StoredValue> for FieldValue {
    fn from(value: StoredValue) -> Self {
        match value.kind {
            None => Self::Void,
            Some(StoredKind::Boolean(value)) => Self::Boolean(value),
            Some(StoredKind::Integer(value)) => Self::Integer(value),
            Some(StoredKind::Unsigned(value)) => Self::Unsigned(value),
            Some(StoredKind::Double(value)) => Self::Double(value),
            Some(StoredKind::Text(value)) => Self::Text(value),
            Some(StoredKind::Bytes(value)) => Self::Bytes(value),
            Some(StoredKind::TimestampSeconds(value)) => Self::TimestampSeconds(value),
            Some(StoredKind::Table(value)) => Self::Table(value.into()),
            Some(StoredKind::List(list)) => {
                Self::List(list.values.into_iter().map(FieldValue::from).collect())
            }
            Some(StoredKind::Decimal(decimal)) => {
                Self::Decimal { scale: decimal.scale, value: decimal.value }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_comes_back() {
        let table = FieldTable::from([
            ("void", FieldValue::Void),
            ("boolean", true.into()),
            ("integer", (-5).into()),
            ("unsigned", FieldValue::Unsigned(u64::MAX)),
            ("double", FieldValue::Double(0.5)),
            ("text", "text".into()),
            ("bytes", FieldValue::Bytes(vec![0, 255])),
            ("time", FieldValue::TimestampSeconds(7)),
            (
                "list",
                FieldValue::List(vec![1.into(), FieldValue::Table(FieldTable::from([("a", "b".into())]))]),
            ),
            ("decimal", FieldValue::Decimal { scale: 2, value: 314 }),
        ]);
        assert_eq!(FieldTable::from(StoredTable::from(&table)), table);
    }
}
