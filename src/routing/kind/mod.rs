//! How each kind of exchange chooses among its bindings: an index for routing, and a verdict for explaining.
//!
//! Owns the meaning of binding keys and arguments. Must never follow a message from one exchange to the next; that is
//! the table's. Start reading at the kind in question. The index and the verdict of a kind are written independently
//! of each other, and tests hold them against each other.

mod consistent_hash;
mod direct;
mod fanout;
mod hash;
mod headers;
mod modulus_hash;
mod one_of;
mod random;
mod recent_history;
mod topic;

use std::fmt;
use std::sync::Arc;

use crate::model::{FieldTable, Refusal};

use super::outcome::HashedProperties;
use super::target::Target;
use super::values::ShownText;
use super::{Binding, ExchangeDefinition, ExchangeKind, History, Keys, MessageHeaders, Routed};

pub(super) use consistent_hash::{Hashed, HashedFault, check_weight};
pub(super) use hash::mix;
pub(super) use headers::check_arguments;
pub(super) use topic::check_key;
pub use topic::pattern_matches;

/// The bindings of one exchange, arranged for routing.
#[derive(Debug, Clone)]
pub(super) enum Index {
    Direct(direct::Index),
    Fanout(fanout::Index),
    Topic(topic::Index),
    Headers(headers::Index),
    ConsistentHash(consistent_hash::Index),
    ModulusHash(modulus_hash::Index),
    Random(random::Index),
    RecentHistory(recent_history::Index),
}

impl Index {
    pub(super) fn new(exchange: &ExchangeDefinition) -> Self {
        match exchange.kind {
            ExchangeKind::Direct => Self::Direct(direct::Index::default()),
            ExchangeKind::Fanout => Self::Fanout(fanout::Index::default()),
            ExchangeKind::Topic => Self::Topic(topic::Index::default()),
            ExchangeKind::Headers => Self::Headers(headers::Index::default()),
            ExchangeKind::ConsistentHash => {
                Self::ConsistentHash(consistent_hash::Index::new(&exchange.arguments))
            }
            ExchangeKind::ModulusHash => Self::ModulusHash(modulus_hash::Index::default()),
            ExchangeKind::Random => Self::Random(random::Index::new(&exchange.name)),
            ExchangeKind::RecentHistory => {
                Self::RecentHistory(recent_history::Index::new(&exchange.arguments))
            }
        }
    }

    /// Adds a binding that is not there yet.
    pub(super) fn insert(&mut self, binding: &Arc<Binding>, target: Target) {
        match self {
            Self::Direct(index) => index.insert(&binding.key, target),
            Self::Fanout(index) => index.insert(target),
            Self::Topic(index) => index.insert(&binding.key, target),
            Self::Headers(index) => index.insert(binding, target),
            Self::ConsistentHash(index) => index.insert(binding, target),
            Self::ModulusHash(index) => index.insert(binding, target),
            Self::Random(index) => index.insert(binding, target),
            Self::RecentHistory(index) => index.insert(target),
        }
    }

    /// Removes a binding that is there.
    pub(super) fn remove(&mut self, binding: &Arc<Binding>, target: &Target) {
        match self {
            Self::Direct(index) => index.remove(&binding.key, target),
            Self::Fanout(index) => index.remove(target),
            Self::Topic(index) => index.remove(&binding.key, target),
            Self::Headers(index) => index.remove(binding, target),
            Self::ConsistentHash(index) => index.remove(binding),
            Self::ModulusHash(index) => index.remove(binding),
            Self::Random(index) => index.remove(binding),
            Self::RecentHistory(index) => index.remove(target),
        }
    }

    /// Hands every target of a matching binding to `out`, some perhaps more than once.
    pub(super) fn route(
        &self,
        keys: Keys<'_>,
        headers: &mut dyn MessageHeaders,
        out: &mut Routed,
    ) -> Result<(), Box<Refusal>> {
        match self {
            Self::Direct(index) => out.for_each_key(keys, |key, out| index.route(key, out)),
            Self::Fanout(index) => index.route(out),
            Self::Topic(index) => out.for_each_key(keys, |key, out| index.route(key, out)),
            Self::Headers(index) => {
                out.looked_beyond_the_key();
                index.route(headers.headers()?, out);
            }
            Self::ConsistentHash(index) => index.route(keys.first, headers, out)?,
            Self::ModulusHash(index) => index.route(keys.first, out),
            Self::Random(index) => {
                out.looked_beyond_the_key();
                index.route(out);
            }
            Self::RecentHistory(index) => index.route(out),
        }
        Ok(())
    }

    /// What it keeps for what is bound to it later.
    pub(super) fn history(&self) -> Option<&Arc<History>> {
        match self {
            Self::RecentHistory(index) => Some(index.history()),
            _ => None,
        }
    }
}

/// A message whose way is explained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Considered<'a> {
    pub(super) keys: Keys<'a>,
    pub(super) headers: &'a FieldTable,
    pub(super) properties: &'a HashedProperties,
    /// What chance said, if it was asked.
    pub(super) chance: Option<u64>,
}

/// What an exchange chose that looks at all of its bindings together, without any index.
#[derive(Debug)]
pub(super) enum Choice<'a> {
    /// It looks at each binding by itself.
    Each,
    Destination(consistent_hash::Choice<'a>),
    OneOf {
        choice: one_of::Choice,
        count: usize,
        by: &'static str,
    },
}

impl<'a> Choice<'a> {
    /// All bindings of the exchange have to be there, in the order of listings.
    pub(super) fn new(
        exchange: &ExchangeDefinition,
        bindings: impl Iterator<Item = &'a Arc<Binding>>,
        message: Considered<'_>,
    ) -> Self {
        let Considered { keys: Keys { first: key, .. }, headers, properties, chance } = message;
        match exchange.kind {
            ExchangeKind::Direct
            | ExchangeKind::Fanout
            | ExchangeKind::Topic
            | ExchangeKind::Headers
            | ExchangeKind::RecentHistory => Self::Each,
            ExchangeKind::ConsistentHash => {
                let arguments = &exchange.arguments;
                let choice = consistent_hash::Choice::new(arguments, bindings, key, headers, properties);
                Self::Destination(choice)
            }
            ExchangeKind::ModulusHash => {
                let count = bindings.count();
                let choice = modulus_hash::choose(key, count);
                Self::OneOf { choice, count, by: modulus_hash::CHOSEN_BY }
            }
            ExchangeKind::Random => {
                let count = bindings.count();
                let choice = random::choose(chance, &exchange.name, count);
                Self::OneOf { choice, count, by: random::CHOSEN_BY }
            }
        }
    }
}

/// Whether one binding lets a message through, and why; `Display` is the reason as a sentence.
#[derive(Debug)]
pub(super) enum Verdict<'a> {
    Direct(direct::Verdict<'a>),
    Fanout,
    RecentHistory,
    Topic(topic::Verdict<'a>),
    Headers(headers::Verdict<'a>),
    ConsistentHash(consistent_hash::Verdict<'a>),
    OneOf(one_of::Verdict),
    /// Of several keys none matched, the first with this reason.
    NoneOf {
        keys: usize,
        first: Box<Self>,
    },
    /// The routing key did not match, and this further one did.
    Further {
        key: &'a str,
        verdict: Box<Self>,
    },
}

impl<'a> Verdict<'a> {
    /// Looks at this one binding, the one of this place among those of its exchange, without any index.
    pub(super) fn new(
        kind: ExchangeKind,
        choice: &'a Choice<'a>,
        (place, binding): (usize, &'a Binding),
        message: Considered<'a>,
    ) -> Self {
        match (choice, kind) {
            (Choice::Destination(choice), _) => {
                Self::ConsistentHash(consistent_hash::Verdict { choice, destination: &binding.destination })
            }
            (Choice::OneOf { choice, count, by }, _) => {
                Self::OneOf(one_of::Verdict { choice: *choice, place, count: *count, by })
            }
            (Choice::Each, ExchangeKind::Direct) => {
                let of_key = |key| Self::Direct(direct::Verdict::new(&binding.key, key));
                Self::of_keys(message.keys, of_key)
            }
            (Choice::Each, ExchangeKind::Topic) => {
                let of_key = |key| Self::Topic(topic::Verdict::new(&binding.key, key));
                Self::of_keys(message.keys, of_key)
            }
            (Choice::Each, ExchangeKind::Headers) => {
                Self::Headers(headers::Verdict::new(&binding.arguments, message.headers))
            }
            (Choice::Each, ExchangeKind::RecentHistory) => Self::RecentHistory,
            (Choice::Each, _) => Self::Fanout,
        }
    }

    /// The verdict on the first key that matches.
    fn of_keys(keys: Keys<'a>, of_key: impl Fn(&'a str) -> Self) -> Self {
        let first = of_key(keys.first);
        if keys.further.is_empty() || first.matched() {
            return first;
        }
        let mut others = keys.further.iter().map(|key| (key, of_key(key)));
        match others.find(|(_, verdict)| verdict.matched()) {
            Some((key, verdict)) => Self::Further { key, verdict: Box::new(verdict) },
            None => Self::NoneOf { keys: 1 + keys.further.len(), first: Box::new(first) },
        }
    }

    pub(super) fn matched(&self) -> bool {
        match self {
            Self::NoneOf { .. } => false,
            Self::Further { .. } => true,
            Self::Direct(verdict) => verdict.matched(),
            Self::Fanout | Self::RecentHistory => true,
            Self::Topic(verdict) => verdict.matched(),
            Self::Headers(verdict) => verdict.matched(),
            Self::ConsistentHash(verdict) => verdict.matched(),
            Self::OneOf(verdict) => verdict.matched(),
        }
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneOf { keys, first } => write!(f, "none of {keys} keys matches; of the first: {first}"),
            Self::Further { key, verdict } => {
                write!(f, "with `{}`, a further key of the message: {verdict}", ShownText(key))
            }
            Self::Direct(verdict) => verdict.fmt(f),
            Self::Fanout => f.write_str("a fanout exchange passes every message to every binding"),
            Self::RecentHistory => f.write_str(recent_history::VERDICT),
            Self::Topic(verdict) => verdict.fmt(f),
            Self::Headers(verdict) => verdict.fmt(f),
            Self::ConsistentHash(verdict) => verdict.fmt(f),
            Self::OneOf(verdict) => verdict.fmt(f),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing {
    use crate::model::{ExchangeName, QueueId, QueueName, RoutingKey, ShardId};
    use crate::routing::{Destination, QueueTarget};

    use super::*;

    /// Whether a binding lets a message through, and why; index and verdict must agree about it.
    pub(super) fn consider(
        kind: ExchangeKind,
        binding_key: &str,
        arguments: FieldTable,
        key: &str,
        headers: Option<&FieldTable>,
    ) -> (bool, String) {
        let binding = Arc::new(Binding {
            source: ExchangeName::new("source").unwrap(),
            destination: Destination::Queue(QueueName::new("queue").unwrap()),
            key: RoutingKey::new(binding_key).unwrap(),
            arguments,
        });
        let target = Target::Queue(QueueTarget { id: QueueId(1), shard: ShardId(0) });
        let exchange = ExchangeDefinition {
            name: ExchangeName::new("source").unwrap(),
            kind,
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
        };
        let mut index = Index::new(&exchange);
        index.insert(&binding, target.clone());
        let mut routed = Routed::default();
        index.route(key.into(), &mut headers.as_ref().copied(), &mut routed).unwrap();

        let no_headers = FieldTable::default();
        let message = Considered {
            keys: key.into(),
            headers: headers.unwrap_or(&no_headers),
            properties: &HashedProperties::default(),
            chance: routed.chance(),
        };
        let choice = Choice::new(&exchange, [&binding].into_iter(), message);
        let verdict = Verdict::new(kind, &choice, (0, &binding), message);
        assert_eq!(verdict.matched(), routed.has_matched(), "{binding_key} {key}: {verdict}");

        let mut routed = Routed::default();
        index.remove(&binding, &target);
        index.route(key.into(), &mut headers.as_ref().copied(), &mut routed).unwrap();
        assert!(!routed.has_matched(), "{binding_key} {key}: a removed binding matches");
        (verdict.matched(), verdict.to_string())
    }
}
