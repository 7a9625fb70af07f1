//! Pages of lists.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prost::Message as _;

use super::journeys::rule_entry;
use super::limits;
use super::permissions;
use super::policies;
use super::subscriptions::subscription_entry;
use crate::broker::{
    Binding, Broker, ConnectionDescription, ConsumerListing, Destination, ExchangeListing, ExchangePolicy,
    Identity, QueueListing, SubscriptionFilter,
};
use crate::model::{Entity, NAME_BYTES_MAX, Refusal, ReplyCode};
use crate::wire::pb;

/// Entries of a page if the client names no number.
const PAGE_SIZE: usize = 1_000;
/// Entries of a page at most.
const PAGE_SIZE_MAX: usize = 10_000;
/// A page ends before it has more bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Entries that are fetched at a time, at most.
const STEP: usize = 100;
/// Times that entries are fetched for a page: a filter may find few, or none.
const PARTS_MAX: usize = 200;
/// Texts that a filter looks for, and annotations.
const FILTER_TERMS_MAX: usize = 16;

/// What to list.
struct Wanted<'a> {
    kind: pb::ListKind,
    name: &'a str,
    filter: &'a SubscriptionFilter,
}

/// One page, of `bytes_max` at most if a single entry is not larger.
pub(super) async fn list(
    broker: &Broker,
    who: &Identity,
    request: pb::List,
    bytes_max: usize,
) -> Result<pb::Listing, Refusal> {
    let bytes_max = bytes_max.min(PAGE_BYTES);
    let kind = request.kind();
    let size = match request.page_size as usize {
        0 => PAGE_SIZE,
        size if size > PAGE_SIZE_MAX => {
            return Err(Refusal::new(ReplyCode::SyntaxError, "the page is too large")
                .about(Entity::Frame, "List")
                .field("page_size", format!("{PAGE_SIZE_MAX} at most"), size.to_string()));
        }
        size => size,
    };
    let filter = subscription_filter(request.subscriptions.unwrap_or_default())?;
    let wanted = Wanted { kind, name: &request.name, filter: &filter };
    let mut page = pb::Listing { next_page_token: request.page_token, ..pb::Listing::default() };
    let (mut entries, mut parts) = (0, 0);
    let mut step_max = STEP;
    loop {
        let step = step_max.min(size - entries);
        let part = part(broker, who, &wanted, &page.next_page_token, step).await?;
        let before = page.encoded_len();
        if before + part.encoded_len() > bytes_max {
            match step {
                1 if entries > 0 => return Ok(page),
                1 => {}
                step => {
                    step_max = step / 2;
                    continue;
                }
            }
        }
        entries += count(&part);
        parts += 1;
        append(&mut page, part);
        // A filter may look at very many to find few: others run in between.
        tokio::task::yield_now().await;
        if page.next_page_token.is_empty() || entries >= size || parts == PARTS_MAX {
            return Ok(page);
        }
    }
}

async fn part(
    broker: &Broker,
    who: &Identity,
    wanted: &Wanted<'_>,
    token: &str,
    size: usize,
) -> Result<pb::Listing, Refusal> {
    let Wanted { kind, name, filter } = *wanted;
    let mut part = pb::Listing::default();
    let next = match kind {
        pb::ListKind::Exchanges => {
            let page = broker.list_exchanges(who, name, token, size);
            part.exchanges = page.entries.iter().map(exchange_entry).collect();
            page.next
        }
        pb::ListKind::Queues => {
            let page = broker.list_queues(who, name, token, size).await;
            part.queues = page.entries.iter().map(queue_entry).collect();
            page.next
        }
        pb::ListKind::Bindings => {
            let page = broker.list_bindings(who, token, size)?;
            part.bindings = page.entries.iter().map(|binding| binding_entry(binding)).collect();
            page.next
        }
        pb::ListKind::Connections => {
            let page = broker.list_connections(who, token, size)?;
            part.connections = page.entries.iter().map(|connection| connection_entry(connection)).collect();
            page.next
        }
        pb::ListKind::Consumers => {
            let page = broker.list_consumers(who, token, size).await?;
            part.consumers = page.entries.into_iter().map(consumer_entry).collect();
            page.next
        }
        pb::ListKind::Users => {
            let page = broker.list_users(who, name, token, size)?;
            let users = page.entries.iter().map(|user| pb::UserEntry {
                name: user.name.to_string(),
                administrator: user.administrator,
                vhosts: user.vhosts.iter().map(ToString::to_string).collect(),
                limits: Some(limits::of_user(user.limits)),
            });
            part.users = users.collect();
            page.next
        }
        pb::ListKind::Vhosts => {
            let page = broker.list_vhosts(who, name, token, size);
            let vhosts = page.entries.into_iter().map(|listing| pb::VhostEntry {
                name: listing.name.to_string(),
                queues: listing.queues as u64,
                exchanges: listing.exchanges as u64,
                limits: Some(limits::of_vhost(listing.limits)),
                quarantine_queue: listing.quarantine_queue.map(|queue| queue.to_string()).unwrap_or_default(),
                unkept_total: listing.unkept,
                replies_dropped_total: listing.replies_dropped,
            });
            part.vhosts = vhosts.collect();
            page.next
        }
        pb::ListKind::Subscriptions => {
            let page = broker.list_subscriptions(who, name, filter, token, size).await?;
            part.subscriptions = page.entries.iter().map(subscription_entry).collect();
            page.next
        }
        pb::ListKind::JourneyRules => {
            let page = broker.list_journey_rules(who, token, size)?;
            part.journey_rules = page.entries.iter().map(rule_entry).collect();
            page.next
        }
        pb::ListKind::Permissions => {
            let page = broker.list_permissions(who, token, size)?;
            part.permissions = page.entries.into_iter().map(permissions::entry).collect();
            page.next
        }
        pb::ListKind::TopicPermissions => {
            let page = broker.list_topic_permissions(who, token, size)?;
            part.topic_permissions = page.entries.into_iter().map(permissions::topic_entry).collect();
            page.next
        }
        pb::ListKind::Policies => {
            let page = broker.list_policies(who, token, size)?;
            part.policies = page.entries.iter().map(|policy| policies::entry(policy)).collect();
            page.next
        }
        pb::ListKind::Unspecified => {
            return Err(Refusal::new(ReplyCode::SyntaxError, "there is no such list")
                .about(Entity::Frame, "List")
                .field("kind", "one of ListKind", "none, or one not known here"));
        }
    };
    part.next_page_token = next.unwrap_or_default();
    Ok(part)
}

fn subscription_filter(filter: pb::SubscriptionFilter) -> Result<SubscriptionFilter, Refusal> {
    let pb::SubscriptionFilter { texts, annotations, exchange, routing_key, dark_for_ms } = filter;
    let refuse =
        |field: &str, expected: String, got: usize| {
            Refusal::new(ReplyCode::SyntaxError, "the filter is too large")
                .about(Entity::Frame, "List")
                .field(format!("subscriptions.{field}"), expected, got.to_string())
        };
    for (field, terms) in [("texts", texts.len()), ("annotations", annotations.len())] {
        if terms > FILTER_TERMS_MAX {
            return Err(refuse(field, format!("{FILTER_TERMS_MAX} at most"), terms));
        }
    }
    if let Some(text) = texts.iter().find(|text| text.len() > NAME_BYTES_MAX) {
        return Err(refuse("texts", format!("texts of {NAME_BYTES_MAX} bytes at most"), text.len()));
    }
    Ok(SubscriptionFilter { texts, annotations, exchange, routing_key, dark_for_ms })
}

fn count(part: &pb::Listing) -> usize {
    let pb::Listing {
        exchanges,
        queues,
        bindings,
        connections,
        consumers,
        users,
        vhosts,
        subscriptions,
        journey_rules,
        permissions,
        topic_permissions,
        policies,
        ..
    } = part;
    exchanges.len()
        + queues.len()
        + bindings.len()
        + connections.len()
        + consumers.len()
        + users.len()
        + vhosts.len()
        + subscriptions.len()
        + journey_rules.len()
        + permissions.len()
        + topic_permissions.len()
        + policies.len()
}

fn append(page: &mut pb::Listing, part: pb::Listing) {
    page.exchanges.extend(part.exchanges);
    page.queues.extend(part.queues);
    page.bindings.extend(part.bindings);
    page.connections.extend(part.connections);
    page.consumers.extend(part.consumers);
    page.users.extend(part.users);
    page.vhosts.extend(part.vhosts);
    page.subscriptions.extend(part.subscriptions);
    page.journey_rules.extend(part.journey_rules);
    page.permissions.extend(part.permissions);
    page.topic_permissions.extend(part.topic_permissions);
    page.policies.extend(part.policies);
    page.next_page_token = part.next_page_token;
}

fn exchange_entry(listing: &ExchangeListing) -> pb::ExchangeEntry {
    let ExchangeListing {
        definition: exchange,
        bindings,
        refused,
        unfit,
        schemas,
        unkept,
        published,
        policy,
        history,
    } = listing;
    let ExchangePolicy { policy, operator, alternate } = policy;
    let schemas = schemas.iter().map(|(pattern, kind, unfit)| pb::SchemaEntry {
        pattern: pattern.clone(),
        kind: kind.to_string(),
        unfit_total: *unfit,
    });
    pb::ExchangeEntry {
        name: exchange.name.to_string(),
        r#type: exchange.kind.as_str().to_owned(),
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: Some((&exchange.arguments).into()),
        bindings: *bindings as u64,
        refused_total: *refused,
        unfit_total: *unfit,
        published_total: *published,
        schemas: schemas.collect(),
        unkept_total: *unkept,
        policy: named(policy),
        operator_policy: named(operator),
        alternate_exchange: alternate.as_ref().map(ToString::to_string).unwrap_or_default(),
        history_messages: history.messages,
        history_bytes: history.bytes,
        history_left_out_total: history.left_out,
    }
}

fn queue_entry(queue: &QueueListing) -> pb::QueueEntry {
    let QueueListing { definition, counts, oldest, fault } = queue;
    let governed = definition.governed.as_deref();
    pb::QueueEntry {
        name: definition.name.to_string(),
        r#type: "classic".to_owned(),
        durable: definition.durable,
        exclusive: definition.owner.is_some(),
        auto_delete: definition.auto_delete,
        arguments: Some((&definition.arguments).into()),
        messages_ready: counts.ready,
        messages_unacknowledged: counts.unsettled,
        consumers: counts.consumers,
        messages_delayed: counts.held_back,
        message_bytes: counts.bytes,
        shard: definition.shard.0.into(),
        published_total: counts.published,
        delivered_total: counts.delivered,
        accepted_total: counts.departures.accepted,
        rejected_total: counts.departures.rejected,
        purged_total: counts.departures.purged,
        no_ack_total: counts.departures.no_ack,
        moved_total: counts.departures.moved,
        expired_total: counts.departures.expired,
        max_length_total: counts.departures.max_length,
        refused_full_total: counts.refused,
        delivery_limit_total: counts.departures.delivery_limit,
        dead_letters: counts.dead_letters,
        dead_letters_bytes: counts.dead_letters_bytes,
        dead_lettered_total: counts.departures.dead_lettered,
        cycled_total: counts.departures.cycled,
        oldest_ready_ms: oldest.ready.map_or(0, |at| at.0),
        oldest_unacknowledged_ms: oldest.unsettled.map_or(0, |at| at.0),
        messages_retained: counts.retained,
        retained_bytes: counts.retained_bytes,
        fault: fault.as_deref().unwrap_or_default().to_owned(),
        policy: governed.map(|governed| named(&governed.policy)).unwrap_or_default(),
        operator_policy: governed.map(|governed| named(&governed.operator)).unwrap_or_default(),
        effective: governed.map(|governed| (&governed.arguments).into()),
    }
}

fn named(policy: &Option<Arc<str>>) -> String {
    policy.as_deref().unwrap_or_default().to_owned()
}

/// A binding as the wire has it.
pub(super) fn binding_entry(binding: &Binding) -> pb::Binding {
    let kind = match &binding.destination {
        Destination::Queue(_) => pb::DestinationKind::Queue,
        Destination::Exchange(_) => pb::DestinationKind::Exchange,
    };
    pb::Binding {
        source: binding.source.to_string(),
        destination: binding.destination.name().to_owned(),
        destination_kind: kind.into(),
        routing_key: binding.key.to_string(),
        arguments: Some((&binding.arguments).into()),
    }
}

fn connection_entry(connection: &ConnectionDescription) -> pb::ConnectionEntry {
    let meter = &connection.meter;
    let (published, published_elsewhere_total) = meter.published.counts();
    let published = published
        .into_iter()
        .map(|(exchange, messages_total)| pb::Published { exchange: exchange.to_string(), messages_total });
    pb::ConnectionEntry {
        id: connection.id.0,
        name: connection.name.clone(),
        user: connection.user.to_string(),
        vhost: connection.vhost.to_string(),
        peer: connection.peer.to_string(),
        client: connection.client.clone(),
        channels: meter.channels.load(Ordering::Relaxed) as u32,
        connected_at_ms: connection.connected_at_ms,
        received_bytes: meter.received_bytes.load(Ordering::Relaxed),
        sent_bytes: meter.sent_bytes.load(Ordering::Relaxed),
        blocked: connection.blocked().unwrap_or_default(),
        published: published.collect(),
        published_elsewhere_total,
    }
}

fn consumer_entry(consumer: ConsumerListing) -> pb::ConsumerEntry {
    pb::ConsumerEntry {
        queue: consumer.queue.to_string(),
        tag: consumer.tag.to_string(),
        connection_id: consumer.key.connection.0,
        channel: consumer.key.channel,
        prefetch: consumer.limits.prefetch,
        no_ack: consumer.limits.no_ack,
        exclusive: consumer.limits.exclusive,
        messages_unacknowledged: consumer.unsettled,
        delivered_total: consumer.delivered,
        priority: consumer.limits.priority,
        active: consumer.active,
    }
}
