//! Requests about subscriptions, and their entries in lists.

use std::collections::BTreeMap;

use prost::Message as _;

use super::requests::{ARGUMENTS_BYTES_MAX, arguments, named};
use crate::broker::{
    Broker, ConnectionDescription, Identity, Retention, Sharing, SubscriberListing, SubscriptionBinding,
    SubscriptionDeclaration, SubscriptionListing, retention_arguments,
};
use crate::model::{Entity, ExchangeName, MemberName, Refusal, ReplyCode, RoutingKey, SubscriptionName};
use crate::wire::pb;
use crate::wire::pb::frame::Body;

pub(super) async fn subscribe(
    broker: &Broker,
    who: &Identity,
    subscribe: pb::Subscribe,
) -> Result<Body, Refusal> {
    let declared = broker.subscribe(who, declaration(subscribe)?).await?;
    Ok(Body::Subscribed(pb::Subscribed {
        queue: declared.as_ref().map(|queue| queue.name.to_string()).unwrap_or_default(),
        message_count: declared.map_or(0, |queue| queue.messages_ready),
    }))
}

fn declaration(subscribe: pb::Subscribe) -> Result<SubscriptionDeclaration, Refusal> {
    let bytes = subscribe.encoded_len();
    if bytes > ARGUMENTS_BYTES_MAX {
        return Err(Refusal::new(ReplyCode::PreconditionFailed, "the subscription is too large")
            .about(Entity::Frame, "Subscribe")
            .field("bindings", format!("{ARGUMENTS_BYTES_MAX} bytes at most in all"), bytes.to_string()));
    }
    let sharing = match pb::Sharing::try_from(subscribe.sharing) {
        Ok(pb::Sharing::Unspecified) => None,
        Ok(pb::Sharing::Shared) => Some(Sharing::Shared),
        Ok(pb::Sharing::Each) => Some(Sharing::Each),
        Err(_) => {
            return Err(Refusal::new(ReplyCode::SyntaxError, "there is no such way to share a subscription")
                .about(Entity::Frame, "Subscribe")
                .field("sharing", "one of Sharing", subscribe.sharing.to_string()));
        }
    };
    let bindings = subscribe.bindings.into_iter().map(|binding| {
        Ok(SubscriptionBinding {
            exchange: named("exchange", ExchangeName::new, &binding.exchange)?,
            key: named("routing_key", RoutingKey::new, &binding.routing_key)?,
            arguments: arguments(binding.arguments)?,
        })
    });
    Ok(SubscriptionDeclaration {
        name: named("name", SubscriptionName::new, &subscribe.name)?,
        sharing,
        member: named("member", MemberName::new, &subscribe.member)?,
        bindings: bindings.collect::<Result<_, Refusal>>()?,
        expires_after_ms: subscribe.expires_after_ms,
        annotations: subscribe.annotations,
        queue_arguments: subscribe.retention.map(|retention| retention_arguments(retention_from(retention))),
        keep: subscribe.keep,
    })
}

fn retention_from(retention: pb::Retention) -> Retention {
    let bound = |bound: u64| (bound > 0).then_some(bound);
    Retention {
        age_millis: bound(retention.age_ms),
        messages: bound(retention.messages),
        bytes: bound(retention.bytes),
    }
}

fn retention_to(retention: Retention) -> pb::Retention {
    pb::Retention {
        age_ms: retention.age_millis.unwrap_or(0),
        messages: retention.messages.unwrap_or(0),
        bytes: retention.bytes.unwrap_or(0),
    }
}

pub(super) fn subscription_entry(listing: &SubscriptionListing) -> pb::SubscriptionEntry {
    let SubscriptionListing { subscription, member, queue, counts, oldest, fault, subscribers, dark_since } =
        listing;
    let bindings = subscription.bindings.iter().map(|binding| pb::SubscriptionBinding {
        exchange: binding.exchange.to_string(),
        routing_key: binding.key.to_string(),
        arguments: Some((&binding.arguments).into()),
    });
    let sharing = match subscription.sharing {
        Sharing::Shared => pb::Sharing::Shared,
        Sharing::Each => pb::Sharing::Each,
    };
    pb::SubscriptionEntry {
        name: subscription.name.to_string(),
        sharing: sharing.into(),
        bindings: bindings.collect(),
        expires_after_ms: subscription.expires_after_ms,
        annotations: BTreeMap::clone(&subscription.annotations),
        member: member.to_string(),
        queue: queue.as_ref().map(|queue| queue.name.to_string()).unwrap_or_default(),
        subscribers: subscribers.iter().map(subscriber_entry).collect(),
        consumers: counts.consumers,
        dark_since_ms: dark_since.map_or(0, |since| since.0),
        messages_ready: counts.ready,
        messages_unacknowledged: counts.unsettled,
        published_total: counts.published,
        delivered_total: counts.delivered,
        accepted_total: counts.departures.accepted,
        oldest_ready_ms: oldest.ready.map_or(0, |at| at.0),
        oldest_unacknowledged_ms: oldest.unsettled.map_or(0, |at| at.0),
        retention: Some(retention_to(subscription.retention().unwrap_or_default())),
        messages_retained: counts.retained,
        fault: fault.as_deref().unwrap_or_default().to_owned(),
    }
}

fn subscriber_entry(subscriber: &SubscriberListing) -> pb::Subscriber {
    let connection = subscriber.connection.as_deref();
    let told = |what: fn(&ConnectionDescription) -> String| connection.map(what).unwrap_or_default();
    pb::Subscriber {
        connection_id: subscriber.key.connection.0,
        channel: subscriber.key.channel,
        tag: subscriber.tag.to_string(),
        messages_unacknowledged: subscriber.unsettled,
        connection_name: told(|connection| connection.name.clone()),
        user: told(|connection| connection.user.to_string()),
        peer: told(|connection| connection.peer.to_string()),
    }
}
