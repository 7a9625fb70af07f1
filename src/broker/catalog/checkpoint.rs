//! The catalog's checkpoints: records that make everything that exists, and the removal of all segments before them.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::catalog::{Catalog, Changed, VhostState};
use super::entry::Entry;
use super::fault::RecordFault;
use super::record::Records;
use crate::auth::VhostLimits;
use crate::broker::presence::PresenceChange;
use crate::model::VhostName;
use crate::routing::{Binding, Destination, ExchangeDefinition, RoutingTable};
use crate::shard::{Workers, run_blocking};
use crate::storage::{KeepFailure, LogKeeper, Machine, OwnerFault, RecoveredBatch, Snapshot};

/// With less in its log a catalog does not need a checkpoint: a start reads this in no time.
const CHECKPOINT_BYTES_MIN: u64 = 1024 * 1024;

impl Catalog {
    /// Records that make a new catalog what this one will be after a restart.
    pub(super) fn records(&self) -> Records {
        let mut entries = vec![Entry::NextQueue(self.next_queue)];
        if self.body_bytes_max > 0 {
            entries.push(Entry::BodyBytesMax(self.body_bytes_max));
        }
        if self.durable_shards > 0 {
            entries.push(Entry::Shards(self.durable_shards));
        }
        entries.extend(self.shard_logs.iter().map(|(shard, log)| Entry::ShardLog(*shard, *log)));
        for (name, state) in &self.vhosts {
            entries.push(Entry::PutVhost(name.clone()));
            state.add_entries(name, &mut entries);
        }
        if !self.dark.is_empty() {
            entries.push(Entry::Presence(PresenceChange { dark: self.dark.clone(), back: Vec::new() }));
        }
        entries.extend(self.users.values().cloned().map(Entry::PutUser));
        Records { records: entries.iter().filter_map(Entry::record).collect() }
    }

    fn replay_records(&mut self, records: Bytes) -> Result<(), RecordFault> {
        let records = Records::decode(records).map_err(RecordFault::Malformed)?;
        let mut changed = Changed::default();
        for record in records.records {
            let entry = Entry::of(record)?;
            if let Some(vhost) = entry.needs_vhost().filter(|vhost| !self.vhosts.contains_key(*vhost)) {
                return Err(RecordFault::NoVhost(vhost.clone()));
            }
            self.apply(&entry, &mut changed);
        }
        Ok(())
    }
}

impl VhostState {
    fn add_entries(&self, vhost: &VhostName, entries: &mut Vec<Entry>) {
        let predeclared = RoutingTable::new(vhost.clone());
        let exchanges = self.table.exchanges(None).map(|entry| entry.definition());
        let declared = exchanges.filter(|definition| predeclared.exchange(&definition.name).is_none());
        entries.extend(
            declared
                .map(|definition| Entry::PutExchange(vhost.clone(), ExchangeDefinition::clone(definition))),
        );
        entries.extend(self.used.iter().map(|name| Entry::ExchangeUsed(vhost.clone(), name.clone())));
        let own_queues = self.queues.values().filter(|queue| queue.subscription.is_none());
        entries.extend(own_queues.map(|queue| Entry::PutQueue(vhost.clone(), Arc::clone(queue))));
        let bindings = self.table.bindings(None).filter(|binding| !self.is_of_subscription(binding));
        entries.extend(bindings.map(|binding| Entry::Bind {
            vhost: vhost.clone(),
            binding: Binding::clone(binding),
            durable: self.is_durable(binding),
        }));
        let subscriptions = self.subscriptions.values().cloned();
        entries.extend(subscriptions.map(|subscription| Entry::PutSubscription(vhost.clone(), subscription)));
        if self.limits != VhostLimits::default() {
            entries.push(Entry::LimitVhost(vhost.clone(), self.limits));
        }
        let policies = self.policies.iter().cloned();
        entries.extend(policies.map(|policy| Entry::PutPolicy(vhost.clone(), policy)));
        if self.quarantine.is_some() {
            entries.push(Entry::QuarantineOf(vhost.clone(), self.quarantine.clone()));
        }
        let rules = self.journeys.values().cloned();
        entries.extend(rules.map(|rule| Entry::PutJourneyRule(vhost.clone(), rule)));
    }

    fn is_of_subscription(&self, binding: &Binding) -> bool {
        let Destination::Queue(name) = &binding.destination else { return false };
        self.queues.get(name).is_some_and(|queue| queue.subscription.is_some())
    }

    /// A binding outlives the process if both its ends do.
    fn is_durable(&self, binding: &Binding) -> bool {
        let exchange = |name: &str| self.table.exchange(name).is_some_and(|entry| entry.definition().durable);
        exchange(&binding.source)
            && match &binding.destination {
                Destination::Queue(name) => self.queues.get(name).is_some_and(|queue| queue.durable),
                Destination::Exchange(name) => exchange(name),
            }
    }
}

impl Machine for Catalog {
    fn restore(&mut self, state: Bytes) -> Result<(), OwnerFault> {
        *self = Self::default();
        Ok(self.replay_records(state)?)
    }

    fn apply(&mut self, batch: RecoveredBatch) -> Result<(), OwnerFault> {
        Ok(self.replay_records(batch.payload)?)
    }

    fn snapshot(&self) -> Vec<Bytes> {
        vec![self.records().encode_to_vec().into()]
    }
}

/// When the catalog's log gets a checkpoint.
pub(in crate::broker) struct CatalogKeeper {
    keeper: Option<Arc<dyn LogKeeper>>,
    /// Bytes that went into the log since the last checkpoint, and that one's size.
    bytes_since: u64,
    state_bytes: u64,
}

impl CatalogKeeper {
    pub(in crate::broker) fn new(keeper: Option<Arc<dyn LogKeeper>>) -> Self {
        Self { keeper, bytes_since: 0, state_bytes: 0 }
    }

    pub(super) fn note_written(&mut self, bytes: usize) {
        self.bytes_since += bytes as u64;
    }

    /// Writing all of it now costs no more than a part of what was written since the last time.
    pub(super) fn is_due(&self) -> bool {
        self.keeper.is_some() && self.bytes_since >= CHECKPOINT_BYTES_MIN.max(2 * self.state_bytes)
    }

    pub(super) fn has_news(&self) -> bool {
        self.keeper.is_some() && self.bytes_since > 0
    }

    /// Makes a checkpoint. A failure costs space and time at the
    /// next start, so it is only told.
    pub(super) async fn write(&mut self, snapshot: Snapshot, workers: &Arc<dyn Workers>) {
        let Some(keeper) = self.keeper.clone() else { return };
        let state_bytes = snapshot.state.iter().map(|piece| piece.len() as u64).sum();
        (self.bytes_since, self.state_bytes) = (0, state_bytes);
        let written = run_blocking(workers, move || write_and_trim(&*keeper, snapshot)).await;
        if let Some(Err(failure)) = written {
            tracing::warn!(%failure, "a checkpoint of the catalog could not be written");
        }
    }
}

/// A checkpoint holds all of the catalog, so no segment is needed that ends before the older of the two.
fn write_and_trim(keeper: &dyn LogKeeper, snapshot: Snapshot) -> Result<(), KeepFailure> {
    keeper.checkpoint(snapshot)?;
    let below = keeper.removable_below().unwrap_or_default();
    let mut segments = keeper.segments();
    segments.pop();
    segments.retain(|segment| segment.end_index <= below);
    let gone: Vec<_> = segments.iter().map(|segment| segment.first_index).collect();
    if gone.is_empty() { Ok(()) } else { keeper.purge(&gone).map(|_| ()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::record::Change;
    use super::*;
    use crate::auth::{
        Password, Pattern, Permissions, SALT_BYTES, TopicPermissions, User, UserLimits, hash_password,
        topic_pattern,
    };
    use crate::broker::policy::{AppliesTo, Policy, PolicyKind};
    use crate::broker::vhost::QueueDefinition;
    use crate::journey::{Filter, Rule, Scope};
    use crate::model::{
        ExchangeName, FieldTable, QueueId, QueueName, RoutingKey, ShardId, Timestamp, UserName,
    };
    use crate::routing::ExchangeKind;
    use crate::storage::{KnownLog, LogIndex};

    fn exchange(name: &str, durable: bool) -> ExchangeDefinition {
        ExchangeDefinition {
            name: ExchangeName::new(name).unwrap(),
            kind: ExchangeKind::Topic,
            durable,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::from([("alternate-exchange", "amq.fanout".into())]),
        }
    }

    fn queue(id: u64, name: &str, durable: bool) -> Arc<QueueDefinition> {
        Arc::new(QueueDefinition {
            id: QueueId(id),
            name: QueueName::new(name).unwrap(),
            durable,
            owner: None,
            auto_delete: false,
            arguments: FieldTable::default(),
            shard: ShardId(0),
            subscription: None,
            governed: None,
        })
    }

    fn binding(source: &str, destination: Destination) -> Binding {
        Binding {
            source: ExchangeName::new(source).unwrap(),
            destination,
            key: RoutingKey::new("a.#").unwrap(),
            arguments: FieldTable::default(),
        }
    }

    fn filled() -> Catalog {
        let vhost = VhostName::new("shop").unwrap();
        let known = KnownLog { id: 5, end: LogIndex(9) };
        let mut entries = vec![
            Entry::Shards(3),
            Entry::BodyBytesMax(5000),
            Entry::ShardLog(ShardId(1), known),
            Entry::PutVhost(vhost.clone()),
            Entry::PutExchange(vhost.clone(), exchange("stays", true)),
            Entry::PutExchange(vhost.clone(), exchange("goes", false)),
            Entry::ExchangeUsed(vhost.clone(), exchange("stays", true).name),
            Entry::PutQueue(vhost.clone(), queue(1, "stays", true)),
            Entry::PutQueue(vhost.clone(), queue(2, "goes", false)),
            Entry::PutQueue(vhost.clone(), queue(3, "deleted", true)),
        ];
        let name = QueueName::new("deleted").unwrap();
        entries.push(Entry::DeleteQueue { vhost: vhost.clone(), name, durable: true });
        let queue = |name| Destination::Queue(QueueName::new(name).unwrap());
        let stays = Destination::Exchange(ExchangeName::new("stays").unwrap());
        for (source, destination, durable) in [
            ("stays", queue("stays"), true),
            ("stays", queue("goes"), false),
            ("goes", queue("stays"), false),
            ("amq.topic", stays, true),
        ] {
            let binding = binding(source, destination);
            entries.push(Entry::Bind { vhost: vhost.clone(), binding, durable });
        }
        let rule = |scope, key: Option<&str>, header: Option<(&str, &str)>| Rule {
            scope,
            filter: Filter {
                key: key.map(|key| RoutingKey::new(key).unwrap()),
                header: header.map(|(name, value)| (name.to_owned(), value.to_owned())),
            },
            per_million: 10_000,
        };
        let of_queue = Scope::Queue(QueueName::new("stays").unwrap());
        for rule in [
            rule(Scope::Vhost, None, None),
            rule(Scope::Exchange(ExchangeName::default()), Some("a.#"), Some(("colour", "red"))),
            rule(of_queue.clone(), Some(""), None),
        ] {
            entries.push(Entry::PutJourneyRule(vhost.clone(), Arc::new(rule)));
        }
        entries.push(Entry::DeleteJourneyRule(vhost.clone(), Scope::Vhost));
        let dark = BTreeMap::from([(QueueId(1), Timestamp(70)), (QueueId(2), Timestamp(80))]);
        entries.push(Entry::Presence(PresenceChange { dark, back: Vec::new() }));
        entries.push(Entry::Presence(PresenceChange { dark: BTreeMap::new(), back: vec![QueueId(2)] }));
        let password = hash_password(&Password::new("secret").unwrap(), &[7; SALT_BYTES]).unwrap();
        let vhosts = BTreeSet::from([vhost.clone()]);
        let user = |name: &str| User {
            name: UserName::new(name).unwrap(),
            password: password.clone(),
            administrator: true,
            vhosts: vhosts.clone(),
            permissions: BTreeMap::new(),
            topic_permissions: BTreeMap::new(),
            limits: UserLimits::default(),
        };
        entries.push(Entry::PutUser(Arc::new(user("ann"))));
        let mut bob = user("bob");
        bob.limits = UserLimits { max_connections: Some(0), max_channels: Some(4) };
        let mut cy = user("cy");
        cy.limits.max_channels = Some(1);
        entries.push(Entry::PutUser(Arc::new(cy)));
        let limits = VhostLimits { max_connections: Some(3), max_queues: None, max_bytes: Some(1 << 40) };
        entries.push(Entry::LimitVhost(vhost.clone(), limits));
        entries.push(Entry::QuarantineOf(vhost.clone(), Some(QueueName::new("odd").unwrap())));
        let pattern = |text: &str| Pattern::new(text).unwrap();
        for (kind, name, applies_to) in [
            (PolicyKind::User, "short", AppliesTo::All),
            (PolicyKind::User, "goes", AppliesTo::Exchanges),
            (PolicyKind::Operator, "short", AppliesTo::Queues),
        ] {
            let policy = Policy {
                kind,
                name: name.into(),
                pattern: pattern("^st"),
                applies_to,
                priority: -7,
                definition: FieldTable::from([("max-length", 5i64.into())]),
            };
            entries.push(Entry::PutPolicy(vhost.clone(), Arc::new(policy)));
        }
        entries.push(Entry::DeletePolicy(vhost.clone(), PolicyKind::User, "goes".into()));
        let permissions =
            Permissions { configure: pattern(""), write: pattern("^orders$"), read: pattern(".*") };
        bob.permissions.insert(vhost.clone(), permissions);
        let topic = |text| topic_pattern(text, &bob.name, &vhost).unwrap();
        let topics = TopicPermissions { write: topic("^{username}\\."), read: topic("#") };
        bob.topic_permissions.insert((vhost, ExchangeName::new("events").unwrap()), topics);
        entries.push(Entry::PutUser(Arc::new(bob)));
        let mut catalog = Catalog::default();
        entries.iter().for_each(|entry| catalog.apply(entry, &mut Changed::default()));
        catalog
    }

    /// A version that knows no permissions must not read a user as one who may do everything.
    #[test]
    fn who_is_held_to_patterns_has_a_record_of_another_kind() {
        let kinds: Vec<_> = filled()
            .records()
            .records
            .into_iter()
            .filter_map(|record| match record.change {
                Some(Change::PutUser(user)) => Some((user.name, false)),
                Some(Change::PutRestrictedUser(user)) => Some((user.name, true)),
                _ => None,
            })
            .collect();
        let expected = [("ann", false), ("bob", true), ("cy", true)];
        assert_eq!(kinds, expected.map(|(name, is)| (name.to_owned(), is)));
    }

    #[test]
    fn what_outlives_the_process_comes_back_and_nothing_else() {
        let catalog = filled();
        let mut restored = filled();
        restored.restore(catalog.snapshot().concat().into()).unwrap();
        assert_eq!(restored.records(), catalog.records(), "what was there before is void");
        let state = restored.vhosts.values().next().unwrap();
        assert_eq!(state.queues.keys().map(|name| &**name).collect::<Vec<_>>(), ["stays"]);
        assert!(state.table.exchange("goes").is_none());
        assert_eq!(state.table.bindings_count(), 2);
        assert_eq!(restored.users, catalog.users);
        assert_eq!(restored.users.len(), 3);
        assert_eq!(state.limits.max_connections, Some(3));
        assert_eq!((restored.next_queue, restored.durable_shards), (3, 3));
        assert_eq!(restored.body_bytes_max, 5000);
        assert_eq!(state.used.iter().map(|name| &**name).collect::<Vec<_>>(), ["stays"]);
        assert_eq!(state.journeys, catalog.vhosts.values().next().unwrap().journeys);
        assert_eq!(state.journeys.len(), 2);
        assert_eq!(state.policies, catalog.vhosts.values().next().unwrap().policies);
        assert_eq!(state.policies.iter().count(), 2);
        let governed = state.queues["stays"].governed.as_ref().unwrap();
        assert_eq!(
            (governed.policy.as_deref(), governed.operator.as_deref()),
            (Some("short"), Some("short"))
        );
        assert_eq!(restored.dark, BTreeMap::from([(QueueId(1), Timestamp(70))]));
        assert_eq!(restored.shard_logs, catalog.shard_logs);
        assert!(Catalog::default().restore(Bytes::from_static(b"\x0a\x02\xff")).is_err());
    }
}
