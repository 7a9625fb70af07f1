//! Which subscriptions somebody looks for.

use std::collections::{BTreeMap, HashSet};

use super::subscription::{Subscription, SubscriptionBinding};
use super::vhost::QueueDefinition;
use crate::model::{MemberName, QueueId, Timestamp};
use crate::routing::{ExchangeKind, LazyHeaders, Routed, RoutingTable, pattern_matches};

/// Subscriptions of which all of this is so; the default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Each is a part of the name, the member, an annotation as "name=value", or an exchange or key that it listens to. Upper and
    /// lower case are the same.
    pub texts: Vec<String>,
    /// It has these annotations.
    pub annotations: BTreeMap<String, String>,
    /// It listens to this exchange; with a key: a message that is published there without headers gets to it. Empty: any exchange.
    pub exchange: String,
    /// One of its keys or patterns matches this; with an exchange as there.
    pub routing_key: Option<String>,
    /// Nobody has consumed from it for so many milliseconds or longer.
    pub dark_for_ms: Option<u64>,
}

/// A filter, ready to be asked about many subscriptions of a moment.
pub(super) struct Sieve<'a> {
    filter: &'a SubscriptionFilter,
    texts: Vec<String>,
    table: &'a RoutingTable,
    /// The queues that a message with the key gets to from the exchange, if both are given.
    hear: Option<HashSet<QueueId, foldhash::fast::RandomState>>,
    now: Timestamp,
}

impl SubscriptionFilter {
    /// Whether it leaves nothing out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn sieve<'a>(&'a self, table: &'a RoutingTable, now: Timestamp) -> Sieve<'a> {
        let hear = match &self.routing_key {
            Some(key) if !self.exchange.is_empty() => Some(heard_by(table, &self.exchange, key)),
            _ => None,
        };
        let texts = self.texts.iter().map(|text| text.to_lowercase()).collect();
        Sieve { filter: self, texts, table, hear, now }
    }
}

/// Nobody hears what is refused. What chance may choose is heard by each that it may choose.
fn heard_by(
    table: &RoutingTable,
    exchange: &str,
    key: &str,
) -> HashSet<QueueId, foldhash::fast::RandomState> {
    let mut routed = Routed::for_any_chance();
    match table.route(exchange, key, &mut LazyHeaders::new(|| Ok(None)), &mut routed) {
        Ok(()) => routed.queues().iter().map(|queue| queue.id).collect(),
        Err(_) => HashSet::default(),
    }
}

impl Sieve<'_> {
    /// Whether a subscription's queue is looked for; `dark_since` tells since when nobody consumes from it.
    pub(super) fn lets_through(
        &self,
        subscription: &Subscription,
        member: &MemberName,
        queue: Option<&QueueDefinition>,
        dark_since: impl FnOnce() -> Option<Timestamp>,
    ) -> bool {
        let SubscriptionFilter { annotations, exchange, routing_key, dark_for_ms, .. } = self.filter;
        let has = |(name, value): (&String, &String)| subscription.annotations.get(name) == Some(value);
        if !annotations.iter().all(has) {
            return false;
        }
        let hears = match (&self.hear, routing_key) {
            (Some(hear), _) => queue.is_some_and(|queue| hear.contains(&queue.id)),
            (None, Some(key)) => subscription.bindings.iter().any(|binding| self.matches(binding, key)),
            (None, None) => {
                exchange.is_empty()
                    || subscription.bindings.iter().any(|binding| binding.exchange.as_str() == exchange)
            }
        };
        if !hears || !self.texts.iter().all(|text| mentions(subscription, member, text)) {
            return false;
        }
        dark_for_ms.is_none_or(|wanted| {
            let since = queue.and_then(|_| dark_since());
            since.is_some_and(|since| self.now.0.saturating_sub(since.0) >= wanted)
        })
    }

    /// Headers are not known here, so what a headers exchange does with a key alone is not either.
    fn matches(&self, binding: &SubscriptionBinding, key: &str) -> bool {
        let Some(exchange) = self.table.exchange(&binding.exchange) else { return false };
        match exchange.definition().kind {
            ExchangeKind::Topic => pattern_matches(&binding.key, key),
            ExchangeKind::Direct => binding.key.as_str() == key,
            ExchangeKind::Fanout | ExchangeKind::RecentHistory => true,
            // Some key's messages go to it, and other bindings decide which.
            ExchangeKind::ConsistentHash | ExchangeKind::ModulusHash | ExchangeKind::Random => true,
            ExchangeKind::Headers => false,
        }
    }
}

fn mentions(subscription: &Subscription, member: &MemberName, text: &str) -> bool {
    let has = |in_it: &str| in_it.to_lowercase().contains(text);
    let listens = |binding: &SubscriptionBinding| has(binding.exchange.as_str()) || has(binding.key.as_str());
    has(subscription.name.as_str())
        || has(member.as_str())
        || subscription.annotations.iter().any(|(name, value)| has(&format!("{name}={value}")))
        || subscription.bindings.iter().any(listens)
}
