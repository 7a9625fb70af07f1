//! How each kind of exchange chooses among its bindings: an index for routing, and a verdict for explaining.
//!
//! Owns the meaning of binding keys and arguments. Must never follow a message from one exchange to the next; that is
//! the table's. Start reading at the kind in question. The index and the verdict of a kind are written independently
//! of each other, and tests hold them against each other.

mod direct;
mod fanout;
mod headers;
mod topic;

use std::fmt;
use std::sync::Arc;

use crate::model::{FieldTable, Refusal};

use super::target::Target;
use super::{Binding, ExchangeKind, MessageHeaders, Routed};

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
}

impl Index {
    pub(super) fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(direct::Index::default()),
            ExchangeKind::Fanout => Self::Fanout(fanout::Index::default()),
            ExchangeKind::Topic => Self::Topic(topic::Index::default()),
            ExchangeKind::Headers => Self::Headers(headers::Index::default()),
        }
    }

    /// Adds a binding that is not there yet.
    pub(super) fn insert(&mut self, binding: &Arc<Binding>, target: Target) {
        match self {
            Self::Direct(index) => index.insert(&binding.key, target),
            Self::Fanout(index) => index.insert(target),
            Self::Topic(index) => index.insert(&binding.key, target),
            Self::Headers(index) => index.insert(binding, target),
        }
    }

    /// Removes a binding that is there.
    pub(super) fn remove(&mut self, binding: &Arc<Binding>, target: &Target) {
        match self {
            Self::Direct(index) => index.remove(&binding.key, target),
            Self::Fanout(index) => index.remove(target),
            Self::Topic(index) => index.remove(&binding.key, target),
            Self::Headers(index) => index.remove(binding, target),
        }
    }

    /// Hands every target of a matching binding to `out`, some perhaps more than once.
    pub(super) fn route(
        &self,
        key: &str,
        headers: &mut dyn MessageHeaders,
        out: &mut Routed,
    ) -> Result<(), Box<Refusal>> {
        match self {
            Self::Direct(index) => index.route(key, out),
            Self::Fanout(index) => index.route(out),
            Self::Topic(index) => index.route(key, out),
            Self::Headers(index) => {
                out.met_headers_exchange();
                index.route(headers.headers()?, out);
            }
        }
        Ok(())
    }
}

/// Whether one binding lets a message through, and why; `Display` is the reason as a sentence.
#[derive(Debug)]
pub(super) enum Verdict<'a> {
    Direct(direct::Verdict<'a>),
    Fanout,
    Topic(topic::Verdict<'a>),
    Headers(headers::Verdict<'a>),
}

impl<'a> Verdict<'a> {
    /// Looks at this one binding, without any index.
    pub(super) fn new(
        kind: ExchangeKind,
        binding: &'a Binding,
        key: &'a str,
        headers: &'a FieldTable,
    ) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(direct::Verdict::new(&binding.key, key)),
            ExchangeKind::Fanout => Self::Fanout,
            ExchangeKind::Topic => Self::Topic(topic::Verdict::new(&binding.key, key)),
            ExchangeKind::Headers => Self::Headers(headers::Verdict::new(&binding.arguments, headers)),
        }
    }

    pub(super) fn matched(&self) -> bool {
        match self {
            Self::Direct(verdict) => verdict.matched(),
            Self::Fanout => true,
            Self::Topic(verdict) => verdict.matched(),
            Self::Headers(verdict) => verdict.matched(),
        }
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(verdict) => verdict.fmt(f),
            Self::Fanout => f.write_str("a fanout exchange passes every message to every binding"),
            Self::Topic(verdict) => verdict.fmt(f),
            Self::Headers(verdict) => verdict.fmt(f),
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
        let mut index = Index::new(kind);
        index.insert(&binding, target.clone());
        let mut routed = Routed::default();
        index.route(key, &mut headers.as_ref().copied(), &mut routed).unwrap();

        let no_headers = FieldTable::default();
        let verdict = Verdict::new(kind, &binding, key, headers.unwrap_or(&no_headers));
        assert_eq!(verdict.matched(), routed.has_matched(), "{binding_key} {key}: {verdict}");

        let mut routed = Routed::default();
        index.remove(&binding, &target);
        index.route(key, &mut headers.as_ref().copied(), &mut routed).unwrap();
        assert!(!routed.has_matched(), "{binding_key} {key}: a removed binding matches");
        (verdict.matched(), verdict.to_string())
    }
}
