//! A virtual host as connections see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwap;

use super::activity::single_active_of;
use super::dead_letters::address_of;
use super::limits::{delivery_limit_of, expiry_of, lease_of, limits_of, max_priority_of, retry_of};
use super::policy::{Governed, Policies};
use super::requesters::Requesters;
use super::retention::retention_of;
use super::subscription::Subscription;
use crate::auth::VhostLimits;
use crate::journey::Rules;
use crate::model::{
    ConnectionId, FieldTable, QueueId, QueueName, Refusal, ShardId, SubscriptionName, VhostName,
};
use crate::routing::{Quarantine, RoutingTable};
use crate::shard::QueueOptions;

/// A queue as it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueDefinition {
    /// Never used twice.
    pub id: QueueId,
    /// Unique in its vhost.
    pub name: QueueName,
    /// Survives a restart.
    pub durable: bool,
    /// The only connection that may use it.
    pub owner: Option<ConnectionId>,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Arguments of its declaration.
    pub arguments: FieldTable,
    /// Where it lives.
    pub shard: ShardId,
    /// Whose it is, if it is a subscription's.
    pub subscription: Option<SubscriptionName>,
    /// What policies make of it; `None`: none holds for it. The catalog says it anew whenever it changes, and it is not recorded.
    pub governed: Option<Arc<Governed>>,
}

impl QueueDefinition {
    /// Its arguments as they hold: with those of the policies.
    pub fn effective(&self) -> &FieldTable {
        self.governed.as_ref().map_or(&self.arguments, |governed| &governed.arguments)
    }

    /// What its shard makes of it.
    pub(super) fn options(&self) -> QueueOptions {
        let arguments = self.effective();
        // What is no bound was refused when it was declared; of a version that took it as an application's own it binds nothing.
        let retention = retention_of(arguments).ok().flatten();
        let limits = limits_of(arguments).unwrap_or_default();
        let dead_letters = address_of(arguments).is_ok_and(|address| address.is_some());
        let single_active = single_active_of(arguments).unwrap_or_default();
        QueueOptions {
            logged: self.durable,
            auto_delete: self.auto_delete,
            retention,
            limits,
            dead_letters,
            single_active,
            delivery_limit: delivery_limit_of(arguments).unwrap_or_default(),
            max_priority: max_priority_of(arguments).unwrap_or_default(),
            lease_millis: lease_of(arguments).unwrap_or_default(),
            retry: retry_of(arguments).unwrap_or_default(),
        }
    }

    /// Milliseconds without a consumer after which it goes; `None`: it stays. A subscription says this of its own.
    pub(super) fn expires_after_ms(&self) -> Option<u64> {
        expiry_of(self.effective()).ok().flatten()
    }

    /// Whether it is kept who comes for it.
    pub(super) fn is_watched(&self) -> bool {
        self.subscription.is_some() || self.expires_after_ms().is_some()
    }
}

/// A virtual host: what publishing and consuming read without asking anybody. The catalog alone changes it.
#[derive(Debug)]
pub struct Vhost {
    /// Its name.
    pub name: VhostName,
    routing: ArcSwap<RoutingTable>,
    /// Counts changes of `routing` and of what users may do; caches of routes are as old as the version they were made with.
    version: AtomicU64,
    queues: Mutex<BTreeMap<QueueName, Arc<QueueDefinition>>>,
    subscriptions: Mutex<BTreeMap<SubscriptionName, Arc<Subscription>>>,
    deleted: AtomicBool,
    /// Whether there are any of the rules below: the one thing that publishing looks at while there are none.
    keeps_journeys: AtomicBool,
    journey_rules: ArcSwap<Rules>,
    limits: Mutex<VhostLimits>,
    policies: Mutex<Arc<Policies>>,
    quarantine: Mutex<Option<Arc<Quarantine>>>,
    /// Why its queues take nothing more, if they do not.
    full: Mutex<Option<Box<Refusal>>>,
    /// Held for reading by who keeps messages in histories, and for writing by the catalog while it shows bindings that are given them.
    histories: RwLock<()>,
    /// Who waits for replies that wait in no queue.
    pub(super) requesters: Requesters,
}

impl Vhost {
    pub(super) fn new(name: VhostName) -> Self {
        Self {
            routing: ArcSwap::from_pointee(RoutingTable::new(name.clone())),
            name,
            version: AtomicU64::new(1),
            queues: Mutex::default(),
            subscriptions: Mutex::default(),
            deleted: AtomicBool::new(false),
            keeps_journeys: AtomicBool::new(false),
            journey_rules: ArcSwap::default(),
            limits: Mutex::default(),
            policies: Mutex::default(),
            quarantine: Mutex::default(),
            full: Mutex::default(),
            histories: RwLock::default(),
            requesters: Requesters::default(),
        }
    }

    /// The routing table of this moment.
    pub fn routing(&self) -> arc_swap::Guard<Arc<RoutingTable>> {
        self.routing.load()
    }

    /// A number that grows with each change of the routing table, and of what anybody may do. Read it before the table: then a cache may be
    /// marked older than it is, never newer.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The queue of this name.
    pub fn queue(&self, name: &str) -> Option<Arc<QueueDefinition>> {
        self.queues().get(name).cloned()
    }

    /// The queue with this number. It is looked for among all of them.
    pub(super) fn queue_of_id(&self, id: QueueId) -> Option<Arc<QueueDefinition>> {
        self.queues().values().find(|queue| queue.id == id).cloned()
    }

    /// The queues with these numbers, which are looked for among all of them.
    pub(super) fn queues_of_ids(&self, ids: &BTreeSet<QueueId>) -> BTreeMap<QueueId, Arc<QueueDefinition>> {
        let queues = self.queues();
        let wanted = queues.values().filter(|queue| ids.contains(&queue.id));
        wanted.map(|queue| (queue.id, Arc::clone(queue))).collect()
    }

    /// Queues in order of their names, after the given one.
    pub fn queues_after(&self, after: &str, count: usize) -> Vec<Arc<QueueDefinition>> {
        use std::ops::Bound;
        self.queues()
            .range::<str, _>((Bound::Excluded(after), Bound::Unbounded))
            .take(count)
            .map(|(_, queue)| Arc::clone(queue))
            .collect()
    }

    /// Number of queues.
    pub fn queues_count(&self) -> usize {
        self.queues().len()
    }

    /// Whether the vhost was deleted; its connections are about to be closed.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    pub(super) fn publish_routing(&self, table: RoutingTable) {
        self.routing.store(Arc::new(table));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// What is remembered of routes is not true any more, though the table is.
    pub(super) fn outdate_routes(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn insert_queue(&self, queue: Arc<QueueDefinition>) {
        self.queues().insert(queue.name.clone(), queue);
    }

    pub(super) fn remove_queue(&self, name: &str) {
        self.queues().remove(name);
    }

    /// Whether journeys of any messages are kept.
    pub(super) fn keeps_journeys(&self) -> bool {
        self.keeps_journeys.load(Ordering::Relaxed)
    }

    /// Of which messages journeys are kept.
    pub(super) fn journey_rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.journey_rules.load()
    }

    pub(super) fn put_journey_rules(&self, rules: Rules) {
        let is_any = !rules.is_empty();
        self.journey_rules.store(Arc::new(rules));
        // What is remembered of them goes, too.
        self.outdate_routes();
        self.keeps_journeys.store(is_any, Ordering::Relaxed);
    }

    /// How much it may have.
    pub fn limits(&self) -> VhostLimits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put_limits(&self, limits: VhostLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Its policies, and those of operators.
    pub(super) fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn put_policies(&self, policies: Arc<Policies>) {
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    /// What keeps what exchanges refuse that name no queue of their own.
    pub(super) fn quarantine(&self) -> Option<Arc<Quarantine>> {
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn put_quarantine(&self, queue: Option<&QueueName>) {
        let mut shown = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().map(|quarantine| quarantine.queue()) != queue {
            *shown = queue.map(|queue| Arc::new(Quarantine::new(queue.clone())));
        }
    }

    /// Why its queues take nothing more, if they do not.
    pub(super) fn full(&self) -> Option<Box<Refusal>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishers ask anew when it fills up, and when there is room again.
    pub(super) fn put_full(&self, full: Option<Refusal>) {
        let mut shown = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = shown.as_deref() != full.as_ref();
        *shown = full.map(Box::new);
        drop(shown);
        if is_other {
            self.outdate_routes();
        }
    }

    /// As long as this is held nothing is bound that is given a history.
    pub(super) fn hold_histories(&self) -> RwLockReadGuard<'_, ()> {
        self.histories.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As long as this is held nothing is kept in a history.
    pub(super) fn close_histories(&self) -> RwLockWriteGuard<'_, ()> {
        self.histories.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subscription of this name.
    pub fn subscription(&self, name: &str) -> Option<Arc<Subscription>> {
        self.subscriptions().get(name).cloned()
    }

    /// Subscriptions in order of their names, from the given one on.
    pub fn subscriptions_from(&self, first: &str, count: usize) -> Vec<Arc<Subscription>> {
        use std::ops::Bound;
        let range = (Bound::Included(first), Bound::Unbounded);
        self.subscriptions().range::<str, _>(range).take(count).map(|(_, one)| Arc::clone(one)).collect()
    }

    pub(super) fn put_subscription(&self, name: &SubscriptionName, subscription: Option<Arc<Subscription>>) {
        match subscription {
            Some(subscription) => self.subscriptions().insert(name.clone(), subscription),
            None => self.subscriptions().remove(name),
        };
    }

    fn subscriptions(&self) -> MutexGuard<'_, BTreeMap<SubscriptionName, Arc<Subscription>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<QueueName, Arc<QueueDefinition>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
