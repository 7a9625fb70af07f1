//! Between the wire's types and the client's own.

use std::sync::Arc;
use std::time::Duration;

use super::admin::{
    ConnectionEntry, ConsumerEntry, ExchangeEntry, ExplainedBinding, ExplainedExchange, Explanation,
    OutlookKind, Permissions, Policy, Published, QueueEntry, QueueOutlook, SchemaEntry, TopicPermissions,
    UserEntry, UserLimits, VhostEntry, VhostLimits,
};
use super::connection::Shortage;
use super::error::Returned;
use super::journey::{JourneyRule, rule_from_wire};
use super::message::{Message, Properties};
use super::retention::Retention;
use super::subscription::{Sharing, Subscriber, SubscriptionBinding, SubscriptionEntry};
use super::topology::{Binding, Destination, Exchange, Queue, QueueDeclared};
use crate::message::ItemFault;
use crate::model::{Difference, FieldTable, Refusal, ReplyCode, Timestamp};
use crate::wire::pb;

/// A refusal as the server told it. A reply code of a newer server stays readable in the text.
pub(super) fn refusal_from_wire(error: pb::Error) -> Refusal {
    match Refusal::try_from(error) {
        Ok(refusal) => refusal,
        Err(unknown) => {
            let error = unknown.0;
            Refusal {
                code: ReplyCode::InternalError,
                text: format!(
                    "{} {} (a reply code this client does not know): {}",
                    error.code, error.name, error.text
                ),
                entity: None,
                field: error.field,
                expected: error.expected,
                got: error.got,
                retryable: error.retryable,
                hint: error.hint,
                differences: error.differences.into_iter().map(Difference::from).collect(),
            }
        }
    }
}

/// Whole milliseconds of a time, as they go over the wire.
pub(in crate::client) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn properties_to_wire(properties: &Properties) -> pb::Properties {
    let headers = &properties.headers;
    pb::Properties {
        content_type: properties.content_type.clone(),
        content_encoding: properties.content_encoding.clone(),
        headers: if headers.is_empty() { None } else { Some(headers.into()) },
        priority: properties.priority.into(),
        correlation_id: properties.correlation_id.clone(),
        reply_to: properties.reply_to.clone(),
        expiration_ms: properties.expiration_ms,
        message_id: properties.message_id.clone(),
        timestamp_ms: properties.timestamp_ms,
        r#type: properties.kind.clone(),
        user_id: properties.user_id.clone(),
        app_id: properties.app_id.clone(),
        delivery_mode: properties.delivery_mode.into(),
        delay_ms: properties.delay_ms,
        deliver_at_ms: properties.deliver_at_ms,
    }
}

pub(super) fn properties_from_wire(properties: pb::Properties) -> Result<Properties, ItemFault> {
    let small = |field, value: u32| {
        u8::try_from(value).map_err(|_| ItemFault::OutOfRange {
            field,
            value: value.into(),
            max: u8::MAX.into(),
        })
    };
    Ok(Properties {
        priority: small("priority", properties.priority)?,
        delivery_mode: small("delivery_mode", properties.delivery_mode)?,
        headers: table_from_wire(properties.headers)?,
        content_type: properties.content_type,
        content_encoding: properties.content_encoding,
        correlation_id: properties.correlation_id,
        reply_to: properties.reply_to,
        expiration_ms: properties.expiration_ms,
        delay_ms: properties.delay_ms,
        deliver_at_ms: properties.deliver_at_ms,
        message_id: properties.message_id,
        timestamp_ms: properties.timestamp_ms,
        kind: properties.r#type,
        user_id: properties.user_id,
        app_id: properties.app_id,
    })
}

pub(super) fn returned_from_wire(returned: pb::Return) -> Result<Returned, ItemFault> {
    let message = returned.message.unwrap_or_default();
    let mut rebuilt = Message::new(message.body);
    if let Some(properties) = message.properties {
        rebuilt = rebuilt.with_properties(properties_from_wire(properties)?);
    }
    Ok(Returned {
        exchange: returned.exchange,
        routing_key: returned.routing_key,
        reason: refusal_from_wire(returned.reason.unwrap_or_default()),
        message: rebuilt,
    })
}

fn table_from_wire(table: Option<pb::FieldTable>) -> Result<FieldTable, ItemFault> {
    table.map_or_else(|| Ok(FieldTable::default()), FieldTable::try_from)
}

pub(super) fn table_to_wire(table: &FieldTable) -> Option<pb::FieldTable> {
    if table.is_empty() { None } else { Some(table.into()) }
}

pub(super) fn exchange_to_wire(exchange: &Exchange) -> pb::DeclareExchange {
    pb::DeclareExchange {
        name: exchange.name.clone(),
        r#type: exchange.kind.clone(),
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: table_to_wire(&exchange.arguments),
        passive: false,
    }
}

pub(super) fn queue_to_wire(queue: &Queue) -> pb::DeclareQueue {
    pb::DeclareQueue {
        name: queue.name.clone(),
        durable: queue.durable,
        exclusive: queue.exclusive,
        auto_delete: queue.auto_delete,
        arguments: table_to_wire(&queue.arguments),
        passive: false,
    }
}

pub(super) fn queue_declared_from_wire(declared: pb::QueueDeclared) -> QueueDeclared {
    QueueDeclared {
        name: declared.name,
        messages: declared.message_count,
        consumers: declared.consumer_count,
    }
}

pub(super) fn binding_to_wire(binding: &Binding) -> pb::Binding {
    let (destination, kind) = match &binding.destination {
        Destination::Queue(name) => (name, pb::DestinationKind::Queue),
        Destination::Exchange(name) => (name, pb::DestinationKind::Exchange),
    };
    pb::Binding {
        source: binding.source.clone(),
        destination: destination.clone(),
        destination_kind: kind.into(),
        routing_key: binding.routing_key.clone(),
        arguments: table_to_wire(&binding.arguments),
    }
}

fn binding_from_wire(binding: pb::Binding) -> Result<Binding, ItemFault> {
    let destination = match binding.destination_kind() {
        pb::DestinationKind::Exchange => Destination::Exchange(binding.destination),
        pb::DestinationKind::Queue | pb::DestinationKind::Unspecified => {
            Destination::Queue(binding.destination)
        }
    };
    Ok(Binding {
        source: binding.source,
        destination,
        routing_key: binding.routing_key,
        arguments: table_from_wire(binding.arguments)?,
    })
}

/// What a page of a listing holds, one kind at a time.
pub(super) trait Entry: Sized {
    const KIND: pb::ListKind;

    fn take(listing: &mut pb::Listing) -> Result<Vec<Self>, ItemFault>;
}

macro_rules! entry {
    ($entry:ty, $kind:ident, $field:ident, |$from:ident| $build:expr) => {
        impl Entry for $entry {
            const KIND: pb::ListKind = pb::ListKind::$kind;

            fn take(listing: &mut pb::Listing) -> Result<Vec<Self>, ItemFault> {
                std::mem::take(&mut listing.$field).into_iter().map(|$from| $build).collect()
            }
        }
    };
}

fn schema_entry(from: pb::SchemaEntry) -> SchemaEntry {
    let pb::SchemaEntry { pattern, kind, unfit_total } = from;
    SchemaEntry { pattern, kind, unfit_total }
}

entry!(ExchangeEntry, Exchanges, exchanges, |from| Ok(Self {
    name: from.name,
    kind: from.r#type,
    durable: from.durable,
    auto_delete: from.auto_delete,
    internal: from.internal,
    arguments: table_from_wire(from.arguments)?,
    bindings: from.bindings,
    refused_total: from.refused_total,
    unfit_total: from.unfit_total,
    schemas: from.schemas.into_iter().map(schema_entry).collect(),
    unkept_total: from.unkept_total,
    published_total: from.published_total,
    policy: named(from.policy),
    operator_policy: named(from.operator_policy),
    alternate_exchange: named(from.alternate_exchange),
    history_messages: from.history_messages,
    history_bytes: from.history_bytes,
    history_left_out_total: from.history_left_out_total,
}));

/// A name that is there.
fn named(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

entry!(QueueEntry, Queues, queues, |from| Ok(Self {
    effective: table_from_wire(from.effective.or_else(|| from.arguments.clone()))?,
    policy: named(from.policy),
    operator_policy: named(from.operator_policy),
    name: from.name,
    kind: from.r#type,
    durable: from.durable,
    exclusive: from.exclusive,
    auto_delete: from.auto_delete,
    arguments: table_from_wire(from.arguments)?,
    messages_ready: from.messages_ready,
    messages_unacknowledged: from.messages_unacknowledged,
    consumers: from.consumers,
    messages_delayed: from.messages_delayed,
    message_bytes: from.message_bytes,
    shard: from.shard,
    published_total: from.published_total,
    delivered_total: from.delivered_total,
    accepted_total: from.accepted_total,
    rejected_total: from.rejected_total,
    purged_total: from.purged_total,
    no_ack_total: from.no_ack_total,
    moved_total: from.moved_total,
    expired_total: from.expired_total,
    max_length_total: from.max_length_total,
    refused_full_total: from.refused_full_total,
    delivery_limit_total: from.delivery_limit_total,
    dead_letters: from.dead_letters,
    dead_letters_bytes: from.dead_letters_bytes,
    dead_lettered_total: from.dead_lettered_total,
    cycled_total: from.cycled_total,
    oldest_ready: told(from.oldest_ready_ms),
    oldest_unacknowledged: told(from.oldest_unacknowledged_ms),
    messages_retained: from.messages_retained,
    retained_bytes: from.retained_bytes,
    fault: Some(from.fault).filter(|fault| !fault.is_empty()),
}));

entry!(Binding, Bindings, bindings, |from| binding_from_wire(from));

entry!(ConnectionEntry, Connections, connections, |from| Ok(Self {
    id: from.id,
    name: from.name,
    user: from.user,
    vhost: from.vhost,
    peer: from.peer,
    client: from.client,
    channels: from.channels,
    connected_at: Timestamp(from.connected_at_ms),
    received_bytes: from.received_bytes,
    sent_bytes: from.sent_bytes,
    blocked: Some(from.blocked).filter(|blocked| !blocked.is_empty()),
    published: from.published.into_iter().map(published).collect(),
    published_elsewhere_total: from.published_elsewhere_total,
}));

fn published(published: pb::Published) -> Published {
    Published { exchange: published.exchange, messages_total: published.messages_total }
}

entry!(ConsumerEntry, Consumers, consumers, |from| Ok(Self {
    queue: from.queue,
    tag: from.tag,
    connection_id: from.connection_id,
    channel: from.channel,
    prefetch: from.prefetch,
    no_ack: from.no_ack,
    exclusive: from.exclusive,
    messages_unacknowledged: from.messages_unacknowledged,
    delivered_total: from.delivered_total,
    priority: from.priority,
    active: from.active,
}));

entry!(UserEntry, Users, users, |from| Ok(Self {
    name: from.name,
    administrator: from.administrator,
    vhosts: from.vhosts,
    limits: user_limits(from.limits.unwrap_or_default()),
}));

fn user_limits(limits: pb::UserLimits) -> UserLimits {
    let pb::UserLimits { max_connections, max_channels, .. } = limits;
    UserLimits { max_connections: limit(max_connections), max_channels: limit(max_channels) }
}

fn vhost_limits(limits: pb::VhostLimits) -> VhostLimits {
    let pb::VhostLimits { max_connections, max_queues, max_bytes, .. } = limits;
    VhostLimits {
        max_connections: limit(max_connections),
        max_queues: limit(max_queues),
        max_bytes: limit(max_bytes),
    }
}

/// As listed: absent or negative is none.
fn limit(limit: Option<i64>) -> Option<u64> {
    limit.and_then(|limit| u64::try_from(limit).ok())
}

entry!(Permissions, Permissions, permissions, |from| Ok(Self {
    user: from.user,
    vhost: from.vhost,
    configure: from.configure,
    write: from.write,
    read: from.read,
}));

entry!(TopicPermissions, TopicPermissions, topic_permissions, |from| Ok(Self {
    user: from.user,
    vhost: from.vhost,
    exchange: from.exchange,
    write: from.write,
    read: from.read,
}));

entry!(Policy, Policies, policies, |from| Ok(Self {
    name: from.name,
    operator: from.operator,
    pattern: from.pattern,
    applies_to: from.applies_to,
    priority: from.priority,
    definition: table_from_wire(from.definition)?,
}));

entry!(VhostEntry, Vhosts, vhosts, |from| Ok(Self {
    name: from.name,
    queues: from.queues,
    exchanges: from.exchanges,
    limits: vhost_limits(from.limits.unwrap_or_default()),
    quarantine_queue: Some(from.quarantine_queue).filter(|queue| !queue.is_empty()),
    unkept_total: from.unkept_total,
    replies_dropped_total: from.replies_dropped_total,
}));

entry!(JourneyRule, JourneyRules, journey_rules, |from| {
    let unknown = ItemFault::Malformed { what: "a rule for journeys of an unknown scope", offset: 0 };
    rule_from_wire(from).ok_or(unknown)
});

entry!(SubscriptionEntry, Subscriptions, subscriptions, |from| Ok(Self {
    sharing: match from.sharing() {
        pb::Sharing::Each => Sharing::Each,
        pb::Sharing::Shared | pb::Sharing::Unspecified => Sharing::Shared,
    },
    bindings: from.bindings.into_iter().map(subscription_binding).collect::<Result<_, _>>()?,
    name: from.name,
    expires_after: Duration::from_millis(from.expires_after_ms),
    annotations: from.annotations,
    member: from.member,
    queue: Some(from.queue).filter(|queue| !queue.is_empty()),
    subscribers: from.subscribers.into_iter().map(subscriber).collect(),
    consumers: from.consumers,
    dark_since: told(from.dark_since_ms),
    messages_ready: from.messages_ready,
    messages_unacknowledged: from.messages_unacknowledged,
    published_total: from.published_total,
    delivered_total: from.delivered_total,
    accepted_total: from.accepted_total,
    oldest_ready: told(from.oldest_ready_ms),
    oldest_unacknowledged: told(from.oldest_unacknowledged_ms),
    retention: Retention::from_wire(from.retention.unwrap_or_default()),
    messages_retained: from.messages_retained,
    fault: Some(from.fault).filter(|fault| !fault.is_empty()),
}));

/// A time, if one is told.
pub(super) fn told(millis: u64) -> Option<Timestamp> {
    (millis != 0).then_some(Timestamp(millis))
}

fn subscription_binding(binding: pb::SubscriptionBinding) -> Result<SubscriptionBinding, ItemFault> {
    Ok(SubscriptionBinding {
        exchange: binding.exchange,
        routing_key: binding.routing_key,
        arguments: table_from_wire(binding.arguments)?,
    })
}

fn subscriber(subscriber: pb::Subscriber) -> Subscriber {
    Subscriber {
        connection_id: subscriber.connection_id,
        channel: subscriber.channel,
        tag: subscriber.tag,
        messages_unacknowledged: subscriber.messages_unacknowledged,
        connection_name: subscriber.connection_name,
        user: subscriber.user,
        peer: subscriber.peer,
    }
}

pub(super) fn explanation_from_wire(explanation: pb::Explanation) -> Result<Explanation, ItemFault> {
    let exchanges = explanation.exchanges.into_iter().map(explained_exchange);
    Ok(Explanation {
        exchanges: exchanges.collect::<Result<_, _>>()?,
        queues: explanation.queues,
        bindings_omitted: explanation.bindings_omitted,
        queues_omitted: explanation.queues_omitted,
        exchanges_omitted: explanation.exchanges_omitted,
        outlooks: explanation.outlooks.into_iter().map(outlook).collect(),
    })
}

fn outlook(outlook: pb::QueueOutlook) -> QueueOutlook {
    let kind = match outlook.kind() {
        pb::OutlookKind::Unspecified => None,
        pb::OutlookKind::Taken => Some(OutlookKind::Taken),
        pb::OutlookKind::Waits => Some(OutlookKind::Waits),
        pb::OutlookKind::HeldBack => Some(OutlookKind::HeldBack),
        pb::OutlookKind::Refused => Some(OutlookKind::Refused),
        pb::OutlookKind::Dropped => Some(OutlookKind::Dropped),
        pb::OutlookKind::Expires => Some(OutlookKind::Expires),
    };
    QueueOutlook {
        queue: outlook.queue,
        kind,
        reason: outlook.reason,
        held_until: outlook.held_until_ms.map(Timestamp),
        drops: outlook.drops,
        dead_letter_exchange: outlook.dead_letter_exchange,
        dead_letter_routing_key: outlook.dead_letter_routing_key,
    }
}

fn explained_exchange(explained: pb::ExplainedExchange) -> Result<ExplainedExchange, ItemFault> {
    let name = |text: String| Some(text).filter(|text| !text.is_empty());
    let bindings = explained.bindings.into_iter().map(|explained| {
        Ok::<_, ItemFault>(ExplainedBinding {
            binding: binding_from_wire(explained.binding.unwrap_or_default())?,
            matched: explained.matched,
            reason: explained.reason,
        })
    });
    Ok(ExplainedExchange {
        name: explained.name,
        kind: explained.r#type,
        reached_from: name(explained.reached_from),
        as_alternate: explained.as_alternate,
        bindings: bindings.collect::<Result<_, _>>()?,
        alternate_exchange: name(explained.alternate_exchange),
        alternate_note: explained.alternate_note,
        refused: name(explained.refused),
        schema: name(explained.schema),
    })
}

/// What the server runs short of; `None` for something that this version does not know.
pub(super) fn shortage_from_wire(shortage: pb::Shortage) -> Option<Shortage> {
    match shortage {
        pb::Shortage::Unspecified => None,
        pb::Shortage::Memory => Some(Shortage::Memory),
        pb::Shortage::Disk => Some(Shortage::Disk),
    }
}

/// The name of a frame's kind, for messages to people.
pub(super) fn kind_name(body: &pb::frame::Body) -> &'static str {
    use pb::frame::Body::*;
    match body {
        Publish(_) => "Publish",
        Confirm(_) => "Confirm",
        Return(_) => "Return",
        Deliver(_) => "Deliver",
        Settle(_) => "Settle",
        Credit(_) => "Credit",
        Extend(_) => "Extend",
        Heartbeat(_) => "Heartbeat",
        Connect(_) => "Connect",
        Connected(_) => "Connected",
        Close(_) => "Close",
        OpenChannel(_) => "OpenChannel",
        CloseChannel(_) => "CloseChannel",
        Done(_) => "Done",
        Error(_) => "Error",
        LimitPrefetch(_) => "LimitPrefetch",
        OpenPublisher(_) => "OpenPublisher",
        ClosePublisher(_) => "ClosePublisher",
        Consume(_) => "Consume",
        Consuming(_) => "Consuming",
        CancelConsumer(_) => "CancelConsumer",
        ConsumerCancelled(_) => "ConsumerCancelled",
        Get(_) => "Get",
        Got(_) => "Got",
        DeclareExchange(_) => "DeclareExchange",
        DeleteExchange(_) => "DeleteExchange",
        Bind(_) => "Bind",
        Unbind(_) => "Unbind",
        DeclareQueue(_) => "DeclareQueue",
        QueueDeclared(_) => "QueueDeclared",
        DeleteQueue(_) => "DeleteQueue",
        PurgeQueue(_) => "PurgeQueue",
        MessageCount(_) => "MessageCount",
        Subscribe(_) => "Subscribe",
        Subscribed(_) => "Subscribed",
        Unsubscribe(_) => "Unsubscribe",
        AlterExchange(_) => "AlterExchange",
        ExchangeAltered(_) => "ExchangeAltered",
        AlterQueue(_) => "AlterQueue",
        QueueAltered(_) => "QueueAltered",
        List(_) => "List",
        Listing(_) => "Listing",
        Explain(_) => "Explain",
        Explanation(_) => "Explanation",
        PutUser(_) => "PutUser",
        DeleteUser(_) => "DeleteUser",
        PutVhost(_) => "PutVhost",
        DeleteVhost(_) => "DeleteVhost",
        Blocked(_) => "Blocked",
        Unblocked(_) => "Unblocked",
        PutPermissions(_) => "PutPermissions",
        DeletePermissions(_) => "DeletePermissions",
        PutTopicPermissions(_) => "PutTopicPermissions",
        DeleteTopicPermissions(_) => "DeleteTopicPermissions",
        PutUserLimits(_) => "PutUserLimits",
        PutVhostLimits(_) => "PutVhostLimits",
        KeepJourneys(_) => "KeepJourneys",
        KeepNoJourneys(_) => "KeepNoJourneys",
        TellJourneys(_) => "TellJourneys",
        Browse(_) => "Browse",
        Browsed(_) => "Browsed",
        RemoveMoved(_) => "RemoveMoved",
        CancelDelayed(_) => "CancelDelayed",
        PutPolicy(_) => "PutPolicy",
        DeletePolicy(_) => "DeletePolicy",
        Removed(_) => "Removed",
        Journeys(_) => "Journeys",
    }
}

/// Text that errors share.
pub(super) fn shared_text(error: impl std::fmt::Display) -> Arc<str> {
    Arc::from(error.to_string())
}
