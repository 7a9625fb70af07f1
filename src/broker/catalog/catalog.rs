//! What exists: vhosts, users, exchanges, bindings, queues and where they live.
//!
//! A state machine. [`Catalog::apply`] is the only way in which it changes, live and at recovery; what may be, the
//! files `decide_*.rs` say, which look and change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entry::Entry;
use crate::auth::{User, VhostLimits};
use crate::broker::policy::Policies;
use crate::broker::presence::PresenceChange;
use crate::broker::subscription::{Subscription, SubscriptionBinding};
use crate::broker::vhost::QueueDefinition;
use crate::journey::{Rule, Rules, Scope};
use crate::model::{
    ConnectionId, Entity, ExchangeName, QueueId, QueueName, Refusal, ReplyCode, ShardId, SubscriptionName,
    Timestamp, UserName, VhostName,
};
use crate::routing::{Binding, Bound, QueueTarget, RoutingTable};
use crate::storage::KnownLog;

/// Volatile shards are counted from here, so that their numbers never meet those of durable ones.
pub(in crate::broker) const FIRST_VOLATILE_SHARD: u16 = 1024;
/// What has no disk to wait for gains nothing from being split on a machine of few cores.
pub(in crate::broker) const VOLATILE_SHARDS: u16 = 1;

/// Everything that exists.
#[derive(Debug, Clone, Default)]
pub(in crate::broker) struct Catalog {
    pub(in crate::broker) vhosts: BTreeMap<VhostName, VhostState>,
    pub(in crate::broker) users: BTreeMap<UserName, Arc<User>>,
    /// The last number that was given to a queue; none is given twice.
    pub(super) next_queue: u64,
    /// The largest body that was ever allowed, in bytes; 0: not known.
    pub(in crate::broker) body_bytes_max: u64,
    /// How many durable shards the data directory has; 0: not known yet.
    pub(in crate::broker) durable_shards: u16,
    pub(in crate::broker) shard_logs: BTreeMap<ShardId, KnownLog>,
    /// Queues of subscriptions that nobody consumes from, and since when, as far as that is recorded.
    pub(in crate::broker) dark: BTreeMap<QueueId, Timestamp>,
    /// Queues per shard, to place new ones.
    pub(super) load: BTreeMap<ShardId, u64>,
}

/// One vhost.
#[derive(Debug, Clone)]
pub(in crate::broker) struct VhostState {
    pub(in crate::broker) table: RoutingTable,
    pub(in crate::broker) queues: BTreeMap<QueueName, Arc<QueueDefinition>>,
    /// Durable auto-delete exchanges that had bindings of which a restart would know nothing.
    pub(super) used: BTreeSet<ExchangeName>,
    /// Their queues are among `queues`, their bindings in `table`.
    pub(in crate::broker) subscriptions: BTreeMap<SubscriptionName, Arc<Subscription>>,
    /// Of which messages journeys are kept.
    pub(in crate::broker) journeys: BTreeMap<Scope, Arc<Rule>>,
    pub(in crate::broker) limits: VhostLimits,
    pub(in crate::broker) policies: Arc<Policies>,
    /// What keeps what exchanges refuse that name no queue of their own.
    pub(in crate::broker) quarantine: Option<QueueName>,
}

/// What entries changed, for those who look at it.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) created: Vec<(VhostName, Arc<QueueDefinition>)>,
    pub(super) removed: Vec<(VhostName, Arc<QueueDefinition>)>,
    /// Vhosts whose routing table changed.
    pub(super) routed: BTreeSet<VhostName>,
    /// Bindings that were made, of exchanges that keep a history.
    pub(super) bound: Vec<(VhostName, Binding)>,
    /// Subscriptions that were made, changed or deleted.
    pub(super) subscriptions: BTreeSet<(VhostName, SubscriptionName)>,
    /// Vhosts whose rules for journeys changed.
    pub(super) journeys: BTreeSet<VhostName>,
    /// Vhosts whose limits or quarantine queues changed.
    pub(super) limits: BTreeSet<VhostName>,
    /// Vhosts whose policies changed.
    pub(super) policies: BTreeSet<VhostName>,
    /// Users were made, changed or deleted.
    pub(super) users: bool,
    /// Those that were deleted, even if there are others of their names now.
    pub(super) deleted_users: BTreeSet<UserName>,
}

impl Catalog {
    /// Lets one thing happen. An entry about a vhost that is not there changes nothing.
    pub(super) fn apply(&mut self, entry: &Entry, changed: &mut Changed) {
        match entry {
            Entry::PutVhost(name) => {
                self.vhosts.entry(name.clone()).or_insert_with(|| VhostState::new(name));
                changed.routed.insert(name.clone());
            }
            Entry::DeleteVhost(name) => {
                let Some(state) = self.vhosts.remove(name) else { return };
                for queue in state.queues.into_values() {
                    self.unload(&queue);
                    changed.removed.push((name.clone(), queue));
                }
                changed.routed.insert(name.clone());
            }
            Entry::PutUser(user) => {
                self.users.insert(user.name.clone(), Arc::clone(user));
                changed.users = true;
            }
            Entry::DeleteUser(name) => {
                self.users.remove(name);
                changed.users = true;
                changed.deleted_users.insert(name.clone());
            }
            Entry::QuarantineOf(vhost, queue) => {
                let Some(state) = self.vhosts.get_mut(vhost) else { return };
                state.quarantine = queue.clone();
                changed.limits.insert(vhost.clone());
            }
            Entry::LimitVhost(vhost, limits) => {
                let Some(state) = self.vhosts.get_mut(vhost) else { return };
                state.limits = *limits;
                changed.limits.insert(vhost.clone());
            }
            Entry::PutPolicy(vhost, policy) => {
                self.change_policies(vhost, changed, |policies| policies.put(Arc::clone(policy)));
            }
            Entry::DeletePolicy(vhost, kind, name) => {
                self.change_policies(vhost, changed, |policies| policies.remove(*kind, name));
            }
            Entry::PutQueue(vhost, queue) => self.put_queue(vhost, queue, changed),
            Entry::DeleteQueue { vhost, name, .. } => self.delete_queue(vhost, name, changed),
            Entry::PutExchange(vhost, definition) => {
                let Some(table) = self.changed_table(vhost, changed) else { return };
                table.insert_exchange(definition.clone());
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state.govern_exchange(&definition.name);
                }
            }
            Entry::AlterExchange(vhost, definition) => {
                let Some(table) = self.changed_table(vhost, changed) else { return };
                table.alter_exchange(definition.clone());
            }
            // What becomes unused by this is removed by entries of its own.
            Entry::DeleteExchange { vhost, name, .. } => {
                let Some(table) = self.changed_table(vhost, changed) else { return };
                table.remove_exchange(name);
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state.used.remove(name);
                    state.end_listening(vhost, name, changed);
                }
            }
            Entry::Bind { vhost, binding, .. } => {
                let Some(state) = self.vhosts.get_mut(vhost) else { return };
                bind(&mut state.table, binding.clone(), changed);
                changed.routed.insert(vhost.clone());
            }
            Entry::Unbind { vhost, binding, .. } => {
                let Some(table) = self.changed_table(vhost, changed) else { return };
                table.unbind(binding);
            }
            Entry::PutSubscription(vhost, subscription) => {
                self.put_subscription(vhost, subscription, changed);
            }
            Entry::DeleteSubscription(vhost, name) => {
                let Some(state) = self.vhosts.get_mut(vhost) else { return };
                let Some(subscription) = state.subscriptions.remove(name) else { return };
                changed.subscriptions.insert((vhost.clone(), name.clone()));
                let queues = subscription.members.values();
                queues.for_each(|queue| self.delete_queue(vhost, &queue.name, changed));
            }
            Entry::DeleteMember { vhost, subscription, member } => {
                let Some(state) = self.vhosts.get_mut(vhost) else { return };
                let Some(shown) = state.subscriptions.get_mut(subscription) else { return };
                let Some(queue) = Arc::make_mut(shown).members.remove(member) else { return };
                changed.subscriptions.insert((vhost.clone(), subscription.clone()));
                self.delete_queue(vhost, &queue.name, changed);
            }
            Entry::PutJourneyRule(vhost, rule) => {
                let Some(state) = self.vhosts.get_mut(vhost) else { return };
                state.journeys.insert(rule.scope.clone(), Arc::clone(rule));
                changed.journeys.insert(vhost.clone());
            }
            Entry::DeleteJourneyRule(vhost, scope) => {
                let Some(state) = self.vhosts.get_mut(vhost) else { return };
                state.journeys.remove(scope);
                changed.journeys.insert(vhost.clone());
            }
            Entry::Presence(PresenceChange { dark, back }) => {
                self.dark.extend(dark);
                for queue in back {
                    self.dark.remove(queue);
                }
            }
            Entry::ExchangeUsed(vhost, name) => {
                let Some(state) = self.vhosts.get_mut(vhost) else { return };
                state.used.insert(name.clone());
            }
            Entry::BodyBytesMax(bytes) => self.body_bytes_max = self.body_bytes_max.max(*bytes),
            Entry::Shards(count) => self.durable_shards = *count,
            Entry::NextQueue(number) => self.next_queue = self.next_queue.max(*number),
            Entry::ShardLog(shard, log) => {
                self.shard_logs.insert(*shard, *log);
            }
        }
    }

    fn put_queue(&mut self, vhost: &VhostName, queue: &Arc<QueueDefinition>, changed: &mut Changed) {
        self.next_queue = self.next_queue.max(queue.id.0);
        let Some(state) = self.vhosts.get_mut(vhost) else { return };
        let target = QueueTarget { id: queue.id, shard: queue.shard };
        state.table.insert_queue(queue.name.clone(), target);
        let queue = &state.governed(queue);
        let former = state.queues.insert(queue.name.clone(), Arc::clone(queue));
        *self.load.entry(queue.shard).or_default() += 1;
        if let Some(former) = former {
            self.unload(&former);
        }
        changed.created.push((vhost.clone(), Arc::clone(queue)));
        changed.routed.insert(vhost.clone());
    }

    /// Policies change, and with them what holds for queues and exchanges that are there.
    fn change_policies(
        &mut self,
        vhost: &VhostName,
        changed: &mut Changed,
        change: impl FnOnce(&mut Policies),
    ) {
        let Some(state) = self.vhosts.get_mut(vhost) else { return };
        change(Arc::make_mut(&mut state.policies));
        changed.policies.insert(vhost.clone());
        let policies = Arc::clone(&state.policies);
        for queue in state.queues.values_mut() {
            let governed = policies.govern(&queue.name, &queue.arguments);
            if governed != queue.governed {
                Arc::make_mut(queue).governed = governed;
                changed.created.push((vhost.clone(), Arc::clone(queue)));
            }
        }
        let exchanges: Vec<ExchangeName> =
            state.table.exchanges(None).map(|entry| entry.definition().name.clone()).collect();
        for exchange in exchanges {
            if state.govern_exchange(&exchange) {
                changed.routed.insert(vhost.clone());
            }
        }
    }

    fn put_subscription(&mut self, vhost: &VhostName, put: &Arc<Subscription>, changed: &mut Changed) {
        let Some(former) = self.vhosts.get(vhost).map(|state| state.subscriptions.get(&put.name).cloned())
        else {
            return;
        };
        for queue in put.members.values() {
            self.put_queue(vhost, queue, changed);
        }
        let Some(state) = self.vhosts.get_mut(vhost) else { return };
        for (queue, binding) in pairs(put, put.bindings.iter()) {
            bind(&mut state.table, binding.to_queue(&queue.name), changed);
        }
        let mut subscription = Arc::clone(put);
        if let Some(former) = former {
            for (queue, binding) in pairs(&former, put.bindings_beyond(&former).into_iter()) {
                bind(&mut state.table, binding.to_queue(&queue.name), changed);
            }
            for (queue, binding) in pairs(&former, former.bindings_beyond(put).into_iter()) {
                state.table.unbind(&binding.to_queue(&queue.name));
            }
            let members = &mut Arc::make_mut(&mut subscription).members;
            for (member, queue) in &former.members {
                members.entry(member.clone()).or_insert_with(|| Arc::clone(queue));
            }
        }
        state.subscriptions.insert(put.name.clone(), subscription);
        changed.routed.insert(vhost.clone());
        changed.subscriptions.insert((vhost.clone(), put.name.clone()));
    }

    fn delete_queue(&mut self, vhost: &VhostName, name: &QueueName, changed: &mut Changed) {
        let Some(state) = self.vhosts.get_mut(vhost) else { return };
        state.table.remove_queue(name);
        let Some(queue) = state.queues.remove(name) else { return };
        self.unload(&queue);
        changed.removed.push((vhost.clone(), queue));
        changed.routed.insert(vhost.clone());
    }

    fn changed_table(&mut self, vhost: &VhostName, changed: &mut Changed) -> Option<&mut RoutingTable> {
        let state = self.vhosts.get_mut(vhost)?;
        changed.routed.insert(vhost.clone());
        Some(&mut state.table)
    }

    /// A queue is gone.
    fn unload(&mut self, queue: &QueueDefinition) {
        self.dark.remove(&queue.id);
        if let Some(count) = self.load.get_mut(&queue.shard) {
            *count = count.saturating_sub(1);
        }
    }

    /// The queues of all subscriptions.
    pub(super) fn subscribed_queues(&self) -> BTreeSet<QueueId> {
        let subscriptions = self.vhosts.values().flat_map(|state| state.subscriptions.values());
        subscriptions.flat_map(|subscription| subscription.members.values().map(|queue| queue.id)).collect()
    }

    /// Numbers that were given stay given, also those of a catalog that came to nothing.
    pub(super) fn never_again(&mut self, other: &Self) {
        self.next_queue = self.next_queue.max(other.next_queue);
    }

    /// The highest number that a queue ever had.
    pub(in crate::broker) fn last_numbered(&self) -> QueueId {
        QueueId(self.next_queue)
    }

    pub(super) fn vhost(&self, name: &VhostName) -> Result<&VhostState, Refusal> {
        self.vhosts.get(name).ok_or_else(|| no_such_vhost(name))
    }

    /// The queue with this number.
    pub(super) fn find_queue(&self, id: QueueId) -> Option<(VhostName, Arc<QueueDefinition>)> {
        self.vhosts.iter().find_map(|(vhost, state)| {
            let queue = state.queues.values().find(|queue| queue.id == id)?;
            Some((vhost.clone(), Arc::clone(queue)))
        })
    }

    /// Queues that only this connection may use.
    pub(super) fn queues_of(&self, vhost: &VhostName, connection: ConnectionId) -> Vec<Arc<QueueDefinition>> {
        let queues = self.vhosts.get(vhost).into_iter().flat_map(|state| state.queues.values());
        queues.filter(|queue| queue.owner == Some(connection)).cloned().collect()
    }
}

impl VhostState {
    fn new(name: &VhostName) -> Self {
        Self {
            table: RoutingTable::new(name.clone()),
            queues: BTreeMap::new(),
            used: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            journeys: BTreeMap::new(),
            limits: VhostLimits::default(),
            policies: Arc::default(),
            quarantine: None,
        }
    }

    /// A queue as policies make it.
    fn governed(&self, queue: &Arc<QueueDefinition>) -> Arc<QueueDefinition> {
        let governed = self.policies.govern(&queue.name, &queue.arguments);
        if governed == queue.governed {
            return Arc::clone(queue);
        }
        Arc::new(QueueDefinition { governed, ..QueueDefinition::clone(queue) })
    }

    /// Whether an exchange is other than it was by its policies.
    fn govern_exchange(&mut self, exchange: &str) -> bool {
        let alternate = self.policies.of_exchange(exchange).alternate;
        self.table.set_alternate_of_policy(exchange, alternate.as_ref())
    }

    /// The same for those who publish.
    pub(in crate::broker) fn journey_rules(&self) -> Rules {
        Rules::new(self.journeys.values().map(|rule| Rule::clone(rule)).collect())
    }

    /// An exchange is gone, and with it the bindings that subscriptions had to it.
    fn end_listening(&mut self, vhost: &VhostName, exchange: &ExchangeName, changed: &mut Changed) {
        for (name, subscription) in &mut self.subscriptions {
            if subscription.bindings.iter().any(|binding| binding.exchange == *exchange) {
                Arc::make_mut(subscription).bindings.retain(|binding| binding.exchange != *exchange);
                changed.subscriptions.insert((vhost.clone(), name.clone()));
            }
        }
    }
}

/// Every queue of a subscription with every binding.
fn pairs<'a>(
    subscription: &'a Subscription,
    bindings: impl Iterator<Item = &'a SubscriptionBinding> + Clone,
) -> impl Iterator<Item = (&'a Arc<QueueDefinition>, &'a SubscriptionBinding)> {
    let queues = subscription.members.values();
    queues.flat_map(move |queue| bindings.clone().map(move |binding| (queue, binding)))
}

/// Adds a binding, and notes it if what is bound is to be given a history.
fn bind(table: &mut RoutingTable, binding: Binding, changed: &mut Changed) {
    let keeps = table.exchange(&binding.source).is_some_and(|source| source.history().is_some());
    if !keeps {
        table.bind(binding);
    } else if table.bind(binding.clone()) == Bound::Added {
        changed.bound.push((table.vhost().clone(), binding));
    }
}

pub(in crate::broker) fn no_such_vhost(name: &str) -> Refusal {
    Refusal::new(ReplyCode::NotAllowed, format!("vhost '{name}' does not exist")).about(Entity::Vhost, name)
}
