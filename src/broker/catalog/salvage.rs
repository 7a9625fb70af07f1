//! A catalog made of a log that has lost something, and what such a log says, for people.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::catalog::{Catalog, Changed};
use super::entry::Entry;
use super::fault::RecordFault;
use super::record::Records;
use crate::auth::{Permissions, User, UserLimits, VhostLimits};
use crate::broker::policy::PolicyKind;
use crate::journey::Scope;
use crate::model::{QueueId, ShardId};
use crate::routing::{Binding, Destination};
use crate::storage::{KnownLog, OwnerFault};

/// A change of the catalog as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedChange {
    /// What happened, such as `declare queue`.
    pub what: &'static str,
    /// The vhost that it was in; empty if in none.
    pub vhost: String,
    /// What it happened to; empty if that has no name.
    pub name: String,
    /// The rest, as names and values.
    pub details: Vec<(&'static str, String)>,
}

/// The changes of a batch of the catalog's log, or of the state in a checkpoint. Hashes of passwords are not among them.
///
/// # Errors
/// What is wrong with it.
pub(in crate::broker) fn logged_changes(payload: Bytes) -> Result<Vec<LoggedChange>, OwnerFault> {
    let records = Records::decode(payload).map_err(RecordFault::Malformed)?;
    let entries = records.records.into_iter().map(Entry::of);
    let told: Result<Vec<_>, RecordFault> = entries.map(|entry| entry.map(|entry| told(&entry))).collect();
    Ok(told?)
}

fn told(entry: &Entry) -> LoggedChange {
    let change = |what, vhost: &str, name: &str, details| LoggedChange {
        what,
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        details,
    };
    match entry {
        Entry::PutVhost(name) => change("make vhost", "", name, Vec::new()),
        Entry::DeleteVhost(name) => change("delete vhost", "", name, Vec::new()),
        Entry::PutUser(user) => {
            let vhosts: Vec<&str> = user.vhosts.iter().map(|vhost| &**vhost).collect();
            let mut details =
                vec![("administrator", user.administrator.to_string()), ("vhosts", vhosts.join(", "))];
            details.extend(of_permissions(user));
            change("put user", "", &user.name, details)
        }
        Entry::LimitVhost(vhost, limits) => {
            let VhostLimits { max_connections, max_queues, max_bytes } = limits;
            let limits = [
                ("max_connections", max_connections.map(u64::from)),
                ("max_queues", max_queues.map(u64::from)),
                ("max_bytes", *max_bytes),
            ];
            change("limit vhost", "", vhost, limits.into_iter().map(of_limit).collect())
        }
        Entry::QuarantineOf(vhost, queue) => change(
            "name quarantine queue",
            "",
            vhost,
            vec![("queue", queue.as_deref().unwrap_or("none").to_owned())],
        ),
        Entry::DeleteUser(name) => change("delete user", "", name, Vec::new()),
        Entry::PutExchange(vhost, definition) => {
            let details = vec![
                ("kind", definition.kind.as_str().to_owned()),
                ("auto_delete", definition.auto_delete.to_string()),
                ("internal", definition.internal.to_string()),
            ];
            change("declare exchange", vhost, &definition.name, details)
        }
        Entry::AlterExchange(vhost, definition) => {
            let arguments: Vec<&str> = definition.arguments.iter().map(|(name, _)| name).collect();
            let details = vec![("arguments", arguments.join(", "))];
            change("alter exchange", vhost, &definition.name, details)
        }
        Entry::DeleteExchange { vhost, name, .. } => change("delete exchange", vhost, name, Vec::new()),
        Entry::PutQueue(vhost, queue) => {
            let details = vec![
                ("number", queue.id.to_string()),
                ("shard", queue.shard.to_string()),
                ("auto_delete", queue.auto_delete.to_string()),
            ];
            change("declare queue", vhost, &queue.name, details)
        }
        Entry::DeleteQueue { vhost, name, .. } => change("delete queue", vhost, name, Vec::new()),
        Entry::Bind { vhost, binding, .. } => change("bind", vhost, &binding.source, of_binding(binding)),
        Entry::Unbind { vhost, binding, .. } => change("unbind", vhost, &binding.source, of_binding(binding)),
        Entry::PutSubscription(vhost, subscription) => {
            let listens =
                subscription.bindings.iter().map(|binding| format!("{} {}", binding.exchange, binding.key));
            let details = vec![
                ("listens_to", listens.collect::<Vec<_>>().join(", ")),
                ("expires_after_ms", subscription.expires_after_ms.to_string()),
            ];
            change("put subscription", vhost, &subscription.name, details)
        }
        Entry::DeleteSubscription(vhost, name) => change("delete subscription", vhost, name, Vec::new()),
        Entry::DeleteMember { vhost, subscription, member } => {
            change("delete member", vhost, subscription, vec![("member", member.to_string())])
        }
        Entry::PutPolicy(vhost, policy) => {
            let keys: Vec<&str> = policy.definition.iter().map(|(key, _)| key).collect();
            let details = vec![
                ("pattern", policy.pattern.as_str().to_owned()),
                ("applies_to", policy.applies_to.as_str().to_owned()),
                ("priority", policy.priority.to_string()),
                ("definition", keys.join(", ")),
            ];
            let what = match policy.kind {
                PolicyKind::User => "put policy",
                PolicyKind::Operator => "put operator policy",
            };
            change(what, vhost, &policy.name, details)
        }
        Entry::DeletePolicy(vhost, kind, name) => {
            let what = match kind {
                PolicyKind::User => "delete policy",
                PolicyKind::Operator => "delete operator policy",
            };
            change(what, vhost, name, Vec::new())
        }
        Entry::PutJourneyRule(vhost, rule) => {
            let mut details = vec![("per_million", rule.per_million.to_string())];
            details.extend(rule.filter.key.as_ref().map(|key| ("key", key.to_string())));
            details.extend(
                rule.filter.header.as_ref().map(|(name, value)| ("header", format!("{name}={value}"))),
            );
            let (what, name) =
                of_scope("keep journeys", "keep journeys of exchange", "keep journeys of queue", &rule.scope);
            change(what, vhost, name, details)
        }
        Entry::DeleteJourneyRule(vhost, scope) => {
            let (what, name) = of_scope(
                "keep no journeys",
                "keep no journeys of exchange",
                "keep no journeys of queue",
                scope,
            );
            change(what, vhost, name, Vec::new())
        }
        Entry::Presence(presence) => {
            let dark = presence.dark.iter().map(|(queue, since)| format!("{queue} since {}", since.0));
            let back = presence.back.iter().map(ToString::to_string);
            let (dark, back): (Vec<_>, Vec<_>) = (dark.collect(), back.collect());
            let told =
                [("dark", dark), ("not_dark", back)].into_iter().filter(|(_, queues)| !queues.is_empty());
            change("who is there", "", "", told.map(|(what, queues)| (what, queues.join(", "))).collect())
        }
        Entry::ExchangeUsed(vhost, name) => change("exchange was used", vhost, name, Vec::new()),
        Entry::BodyBytesMax(bytes) => change("allow bodies", "", "", vec![("bytes", bytes.to_string())]),
        Entry::Shards(count) => change("shards", "", "", vec![("count", count.to_string())]),
        Entry::NextQueue(number) => change("queues numbered", "", "", vec![("up_to", number.to_string())]),
        Entry::ShardLog(shard, KnownLog { id, end }) => {
            let details =
                vec![("shard", shard.to_string()), ("id", format!("{id:016x}")), ("end", end.to_string())];
            change("log of a shard", "", "", details)
        }
    }
}

/// What a user may do where that is not everything, and have where that is bounded.
fn of_permissions(user: &User) -> Vec<(&'static str, String)> {
    let permissions = user.permissions.iter().map(|(vhost, permissions)| {
        let Permissions { configure, write, read } = permissions;
        ("permissions", format!("{vhost} configure={configure} write={write} read={read}"))
    });
    let topics = user.topic_permissions.iter().map(|((vhost, exchange), topic)| {
        ("topic_permissions", format!("{vhost} {exchange} write={} read={}", topic.write, topic.read))
    });
    let UserLimits { max_connections, max_channels } = user.limits;
    let limits = [("max_connections", max_connections), ("max_channels", max_channels)];
    let limits = limits.into_iter().filter(|(_, limit)| limit.is_some());
    let limits = limits.map(|(name, limit)| of_limit((name, limit.map(u64::from))));
    permissions.chain(topics).chain(limits).collect()
}

fn of_limit((name, limit): (&'static str, Option<u64>)) -> (&'static str, String) {
    (name, limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string()))
}

fn of_scope<'a>(
    vhost: &'static str,
    exchange: &'static str,
    queue: &'static str,
    scope: &'a Scope,
) -> (&'static str, &'a str) {
    match scope {
        Scope::Vhost => (vhost, ""),
        Scope::Exchange(name) => (exchange, name),
        Scope::Queue(name) => (queue, name),
    }
}

fn of_binding(binding: &Binding) -> Vec<(&'static str, String)> {
    let to = match &binding.destination {
        Destination::Queue(_) => "queue",
        Destination::Exchange(_) => "exchange",
    };
    vec![(to, binding.destination.name().to_owned()), ("key", binding.key.to_string())]
}

impl Catalog {
    /// Takes the records of a batch, where batches before it may be missing: what they say about a vhost of which nobody
    /// told means nothing.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(in crate::broker) fn salvage(&mut self, records: Bytes) -> Result<(), OwnerFault> {
        let records = Records::decode(records).map_err(RecordFault::Malformed)?;
        for record in records.records {
            self.apply(&Entry::of(record)?, &mut Changed::default());
        }
        Ok(())
    }

    /// Learns from the shards what its own log has lost: how many there are, their logs, and the highest number of a queue.
    pub(in crate::broker) fn learn(&mut self, logs: &BTreeMap<ShardId, KnownLog>, highest: QueueId) {
        if self.durable_shards == 0 {
            self.durable_shards = logs.len() as u16;
        }
        for (shard, log) in logs {
            self.shard_logs.entry(*shard).or_insert(*log);
        }
        self.next_queue = self.next_queue.max(highest.0);
    }
}
