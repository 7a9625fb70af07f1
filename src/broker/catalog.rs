//! What exists: vhosts, users, exchanges, bindings, queues and where they live.
//!
//! A state machine: requests are checked and carried out here, and what has to outlive the process comes out as
//! records. Recovery applies the records again. The task around it (`catalog_task.rs`) makes records durable before
//! anybody sees the change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::queue_checks::{check_owner, check_queue_arguments, check_same_queue};
use super::record::{
    self, Change, Record, StoredBinding, StoredExchange, StoredName, StoredQueue, StoredTable, StoredUser,
};
use super::request::QueueDeclaration;
use super::vhost::QueueDefinition;
use crate::auth::{PasswordHash, User};
use crate::model::{
    ConnectionId, Entity, ExchangeName, QueueId, QueueName, Refusal, ReplyCode, ShardId, UserName, VhostName,
};
use crate::routing::{
    Binding, Destination, ExchangeDefinition, QueueTarget, Removed, RoutingTable, check_binding,
    check_declare, check_delete, check_equivalent, exchange_in_use, no_such_exchange, no_such_queue,
};

/// Prefix of names that only the server gives.
const RESERVED_PREFIX: &str = "amq.";
/// Volatile shards are counted from here, so that their numbers never meet those of durable ones.
pub(super) const FIRST_VOLATILE_SHARD: u16 = 1024;

/// Everything that exists.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Part of all names that the server gives to queues; random, so that they never repeat after a restart.
    pub(super) name_key: u64,
    pub(super) vhosts: BTreeMap<VhostName, VhostState>,
    pub(super) users: BTreeMap<UserName, Arc<User>>,
    pub(super) next_queue: u64,
    /// How many durable shards the data directory has; 0: not known yet.
    pub(super) durable_shards: u16,
    /// Queues per shard, to place new ones.
    load: BTreeMap<ShardId, u64>,
    /// Shards that take no new queues, and why: their logs failed, or cannot be opened.
    pub(super) failed_shards: BTreeMap<ShardId, String>,
}

/// One vhost.
#[derive(Debug)]
pub(super) struct VhostState {
    pub(super) table: RoutingTable,
    pub(super) queues: BTreeMap<QueueName, Arc<QueueDefinition>>,
}

/// What a change leaves to be done.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// To be made durable first.
    pub(super) records: Vec<Record>,
    pub(super) created: Vec<(VhostName, Arc<QueueDefinition>)>,
    pub(super) removed: Vec<(VhostName, Arc<QueueDefinition>)>,
    /// Vhosts whose routing table changed.
    pub(super) routed: BTreeSet<VhostName>,
    /// Users were made, changed or deleted.
    pub(super) users: bool,
}

impl Catalog {
    /// Applies what an earlier process recorded.
    pub(super) fn replay(&mut self, record: Record) -> Result<(), String> {
        let Some(change) = record.change else {
            return Err("a record of a kind that this version does not know".to_owned());
        };
        match change {
            Change::PutVhost(stored) => self.insert_vhost(&vhost_name(&stored.name)?),
            Change::DeleteVhost(stored) => {
                self.vhosts.remove(&*stored.name);
            }
            Change::PutUser(stored) => self.replay_user(stored)?,
            Change::DeleteUser(stored) => {
                self.users.remove(&*stored.name);
            }
            Change::PutExchange(stored) => {
                let vhost = stored.vhost.clone();
                let definition = stored.definition()?;
                self.replayed_vhost(&vhost)?.table.insert_exchange(definition);
            }
            Change::DeleteExchange(stored) => {
                self.replayed_vhost(&stored.vhost)?.table.remove_exchange(&stored.name);
            }
            Change::PutQueue(stored) => self.replay_queue(stored)?,
            Change::DeleteQueue(stored) => {
                let state = self.replayed_vhost(&stored.vhost)?;
                state.table.remove_queue(&stored.name);
                state.queues.remove(&*stored.name);
            }
            Change::Bind(stored) => {
                let vhost = stored.vhost.clone();
                let binding = stored.binding()?;
                self.replayed_vhost(&vhost)?.table.bind(binding);
            }
            Change::Unbind(stored) => {
                let vhost = stored.vhost.clone();
                let binding = stored.binding()?;
                self.replayed_vhost(&vhost)?.table.unbind(&binding);
            }
            Change::NextQueue(number) => self.next_queue = self.next_queue.max(number),
            Change::Shards(shards) => {
                self.durable_shards = u16::try_from(shards).map_err(|_| format!("{shards} shards"))?;
            }
        }
        Ok(())
    }

    fn replay_user(&mut self, stored: StoredUser) -> Result<(), String> {
        let name = UserName::new(&stored.name).map_err(record::too_long)?;
        let vhosts = stored.vhosts.iter().map(|name| vhost_name(name)).collect::<Result<_, _>>()?;
        let password = PasswordHash::parse(&stored.password_hash).map_err(|error| error.to_string())?;
        let user = User { name: name.clone(), password, administrator: stored.administrator, vhosts };
        self.users.insert(name, Arc::new(user));
        Ok(())
    }

    fn replay_queue(&mut self, stored: StoredQueue) -> Result<(), String> {
        let definition = Arc::new(QueueDefinition {
            id: QueueId(stored.id),
            name: QueueName::new(&stored.name).map_err(record::too_long)?,
            durable: true,
            owner: None,
            auto_delete: stored.auto_delete,
            arguments: stored.arguments.map(Into::into).unwrap_or_default(),
            shard: ShardId(u16::try_from(stored.shard).map_err(|_| format!("shard {}", stored.shard))?),
        });
        self.next_queue = self.next_queue.max(stored.id);
        self.insert_queue(&vhost_name(&stored.vhost)?, &definition)
    }

    fn replayed_vhost(&mut self, name: &str) -> Result<&mut VhostState, String> {
        self.vhosts.get_mut(name).ok_or_else(|| format!("a record for vhost '{name}', which does not exist"))
    }

    /// All recovered: counts what lives where.
    pub(super) fn recovered(&mut self) {
        for queue in self.vhosts.values().flat_map(|vhost| vhost.queues.values()) {
            *self.load.entry(queue.shard).or_default() += 1;
        }
    }

    pub(super) fn vhost(&self, name: &VhostName) -> Result<&VhostState, Refusal> {
        self.vhosts.get(name).ok_or_else(|| no_such_vhost(name))
    }

    fn vhost_mut(&mut self, name: &VhostName) -> Result<&mut VhostState, Refusal> {
        self.vhosts.get_mut(name).ok_or_else(|| no_such_vhost(name))
    }

    fn insert_vhost(&mut self, name: &VhostName) {
        self.vhosts.entry(name.clone()).or_insert_with(|| VhostState {
            table: RoutingTable::new(name.clone()),
            queues: BTreeMap::new(),
        });
    }

    fn insert_queue(&mut self, vhost: &VhostName, definition: &Arc<QueueDefinition>) -> Result<(), String> {
        let state = self.replayed_vhost(vhost)?;
        let target = QueueTarget { id: definition.id, shard: definition.shard };
        state.table.insert_queue(definition.name.clone(), target);
        state.queues.insert(definition.name.clone(), Arc::clone(definition));
        Ok(())
    }

    // Exchanges and bindings.

    pub(super) fn declare_exchange(
        &mut self,
        vhost: &VhostName,
        definition: ExchangeDefinition,
        changes: &mut Changes,
    ) -> Result<(), Refusal> {
        let state = self.vhost_mut(vhost)?;
        if let Some(current) = state.table.exchange(&definition.name) {
            return check_equivalent(current.definition(), &definition, vhost);
        }
        check_declare(&definition, vhost)?;
        if definition.durable {
            changes.records.push(Change::PutExchange(StoredExchange::new(vhost, &definition)).into());
        }
        state.table.insert_exchange(definition);
        changes.routed.insert(vhost.clone());
        Ok(())
    }

    pub(super) fn delete_exchange(
        &mut self,
        vhost: &VhostName,
        name: &str,
        if_unused: bool,
        changes: &mut Changes,
    ) -> Result<(), Refusal> {
        check_delete(name, vhost)?;
        let state = self.vhost_mut(vhost)?;
        let Some(entry) = state.table.exchange(name) else { return Ok(()) };
        if if_unused && entry.bindings_count() > 0 {
            return Err(exchange_in_use(name, vhost));
        }
        let durable = entry.definition().durable;
        if let Some(removed) = state.table.remove_exchange(name) {
            if durable {
                changes.records.push(Change::DeleteExchange(StoredName::new(vhost, name)).into());
            }
            remove_unused(state, vhost, removed, changes);
        }
        changes.routed.insert(vhost.clone());
        Ok(())
    }

    pub(super) fn bind(
        &mut self,
        vhost: &VhostName,
        connection: ConnectionId,
        binding: Binding,
        changes: &mut Changes,
    ) -> Result<(), Refusal> {
        let state = self.vhost_mut(vhost)?;
        let durable = state.check_ends(&binding, connection, vhost)?;
        if state.table.has_binding(&binding) {
            return Ok(());
        }
        if durable {
            changes.records.push(Change::Bind(StoredBinding::new(vhost, &binding)).into());
        }
        state.table.bind(binding);
        changes.routed.insert(vhost.clone());
        Ok(())
    }

    pub(super) fn unbind(
        &mut self,
        vhost: &VhostName,
        connection: ConnectionId,
        binding: &Binding,
        changes: &mut Changes,
    ) -> Result<(), Refusal> {
        let state = self.vhost_mut(vhost)?;
        let durable = state.check_ends(binding, connection, vhost)?;
        let Some(removed) = state.table.unbind(binding) else { return Ok(()) };
        if durable {
            changes.records.push(Change::Unbind(StoredBinding::new(vhost, binding)).into());
        }
        remove_unused(state, vhost, removed, changes);
        changes.routed.insert(vhost.clone());
        Ok(())
    }

    // Queues.

    /// Makes a queue or checks that the one there is equal; returns it.
    pub(super) fn declare_queue(
        &mut self,
        vhost: &VhostName,
        connection: ConnectionId,
        declaration: QueueDeclaration,
        changes: &mut Changes,
    ) -> Result<Arc<QueueDefinition>, Refusal> {
        check_queue_arguments(&declaration, vhost)?;
        let state = self.vhost(vhost)?;
        if let Some(current) = state.queues.get(&declaration.name) {
            let current = Arc::clone(current);
            check_owner(&current, connection, vhost)?;
            check_same_queue(&current, &declaration, vhost)?;
            return Ok(current);
        }
        if declaration.name.starts_with(RESERVED_PREFIX) {
            let text = format!("queue name '{}' contains reserved prefix 'amq.*'", declaration.name);
            return Err(Refusal::new(ReplyCode::AccessRefused, text)
                .about(Entity::Queue, declaration.name.as_str())
                .hint("choose a name that does not begin with 'amq.', or an empty one to have the server choose"));
        }
        self.next_queue += 1;
        let id = QueueId(self.next_queue);
        // An exclusive queue goes with its connection, so it can never outlive the process.
        let durable = declaration.durable && !declaration.exclusive;
        let name = match declaration.name.is_empty() {
            true => {
                let name = format!("amq.gen-{:016x}-{id}", self.name_key);
                QueueName::new(&name).expect("the name is short")
            }
            false => declaration.name,
        };
        let shard = self.place(durable)?;
        let definition = Arc::new(QueueDefinition {
            id,
            name,
            durable,
            owner: declaration.exclusive.then_some(connection),
            auto_delete: declaration.auto_delete,
            arguments: declaration.arguments,
            shard,
        });
        if durable {
            changes.records.push(Change::PutQueue(stored_queue(vhost, &definition)).into());
        }
        self.insert_queue(vhost, &definition).map_err(|text| Refusal::new(ReplyCode::NotFound, text))?;
        *self.load.entry(definition.shard).or_default() += 1;
        changes.created.push((vhost.clone(), Arc::clone(&definition)));
        changes.routed.insert(vhost.clone());
        Ok(definition)
    }

    /// The shard with the fewest queues, of those that work; of several the first.
    fn place(&self, durable: bool) -> Result<ShardId, Refusal> {
        let durable = durable && self.durable_shards > 0;
        let first = if durable { 0 } else { FIRST_VOLATILE_SHARD };
        let count = if durable { self.durable_shards } else { self.volatile_shards() };
        (first..first + count)
            .map(ShardId)
            .filter(|shard| !self.failed_shards.contains_key(shard))
            .min_by_key(|shard| self.load.get(shard).copied().unwrap_or(0))
            .ok_or_else(|| {
                let text = "no new durable queue can be made: the logs of all shards have failed";
                Refusal::new(ReplyCode::ResourceError, text)
                    .hint("the operator must look at the broker's disk and restart it")
            })
    }

    /// One: what has no disk to wait for gains nothing from being split on a machine of few cores.
    pub(super) fn volatile_shards(&self) -> u16 {
        1
    }

    /// The queue that a request to delete names; `None` if there is none.
    pub(super) fn queue_to_delete(
        &self,
        vhost: &VhostName,
        connection: Option<ConnectionId>,
        name: &str,
    ) -> Result<Option<Arc<QueueDefinition>>, Refusal> {
        let Some(queue) = self.vhost(vhost)?.queues.get(name) else { return Ok(None) };
        if let Some(connection) = connection {
            check_owner(queue, connection, vhost)?;
        }
        Ok(Some(Arc::clone(queue)))
    }

    /// Forgets a queue that its shard has deleted.
    pub(super) fn remove_queue(
        &mut self,
        vhost: &VhostName,
        queue: &Arc<QueueDefinition>,
        changes: &mut Changes,
    ) {
        let Some(state) = self.vhosts.get_mut(vhost) else { return };
        if state.queues.remove(&queue.name).is_none() {
            return;
        }
        if let Some(count) = self.load.get_mut(&queue.shard) {
            *count = count.saturating_sub(1);
        }
        if queue.durable {
            changes.records.push(Change::DeleteQueue(StoredName::new(vhost, &queue.name)).into());
        }
        if let Some(removed) = state.table.remove_queue(&queue.name) {
            remove_unused(state, vhost, removed, changes);
        }
        changes.removed.push((vhost.clone(), Arc::clone(queue)));
        changes.routed.insert(vhost.clone());
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

    // Users and vhosts.

    pub(super) fn put_user(
        &mut self,
        name: UserName,
        hash: Option<PasswordHash>,
        administrator: bool,
        vhosts: Vec<VhostName>,
        changes: &mut Changes,
    ) -> Result<(), Refusal> {
        let Some(password) = hash.or_else(|| self.users.get(&name).map(|user| user.password.clone())) else {
            return Err(Refusal::new(
                ReplyCode::PreconditionFailed,
                format!("user '{name}' is new and needs a password"),
            )
            .about(Entity::User, name.as_str())
            .field("password", "1 to 1,024 bytes", "none"));
        };
        if let Some(vhost) = vhosts.iter().find(|vhost| !self.vhosts.contains_key(*vhost)) {
            return Err(no_such_vhost(vhost));
        }
        let user = User { name: name.clone(), password, administrator, vhosts: vhosts.into_iter().collect() };
        changes.records.push(Change::PutUser(StoredUser::new(&user)).into());
        self.users.insert(name, Arc::new(user));
        changes.users = true;
        Ok(())
    }

    pub(super) fn delete_user(&mut self, name: &UserName, changes: &mut Changes) -> Result<(), Refusal> {
        let last_administrator =
            self.users.values().filter(|user| user.administrator).all(|user| user.name == *name);
        if !self.users.contains_key(name) {
            return Ok(());
        }
        if last_administrator {
            let text = format!("user '{name}' is the last administrator");
            return Err(Refusal::new(ReplyCode::PreconditionFailed, text)
                .about(Entity::User, name.as_str())
                .hint("make another administrator first"));
        }
        self.users.remove(name);
        changes.users = true;
        changes.records.push(Change::DeleteUser(StoredName::new("", name)).into());
        Ok(())
    }

    pub(super) fn put_vhost(&mut self, name: &VhostName, changes: &mut Changes) {
        if !self.vhosts.contains_key(name) {
            self.insert_vhost(name);
            changes.records.push(Change::PutVhost(StoredName::new("", name)).into());
            changes.routed.insert(name.clone());
        }
    }

    pub(super) fn delete_vhost(&mut self, name: &VhostName, changes: &mut Changes) {
        let Some(state) = self.vhosts.remove(name) else { return };
        for queue in state.queues.into_values() {
            if let Some(count) = self.load.get_mut(&queue.shard) {
                *count = count.saturating_sub(1);
            }
            changes.removed.push((name.clone(), queue));
        }
        changes.records.push(Change::DeleteVhost(StoredName::new("", name)).into());
        changes.routed.insert(name.clone());
    }
}

impl VhostState {
    /// Checks both ends of a binding; tells whether it is durable: if both of them are.
    fn check_ends(
        &self,
        binding: &Binding,
        connection: ConnectionId,
        vhost: &VhostName,
    ) -> Result<bool, Refusal> {
        let source =
            self.table.exchange(&binding.source).ok_or_else(|| no_such_exchange(&binding.source, vhost))?;
        check_binding(binding, source.definition().kind)?;
        let destination_durable = match &binding.destination {
            Destination::Queue(name) => {
                let queue = self.queues.get(name).ok_or_else(|| no_such_queue(name, vhost))?;
                check_owner(queue, connection, vhost)?;
                queue.durable
            }
            Destination::Exchange(name) => {
                let exchange = self.table.exchange(name).ok_or_else(|| no_such_exchange(name, vhost))?;
                exchange.definition().durable
            }
        };
        Ok(source.definition().durable && destination_durable)
    }
}

/// Deletes auto-delete exchanges that lost their last binding, and those that this makes unused in turn.
fn remove_unused(state: &mut VhostState, vhost: &VhostName, removed: Removed, changes: &mut Changes) {
    let mut unused: Vec<ExchangeName> = removed.unused_exchanges;
    while let Some(name) = unused.pop() {
        let durable = state.table.exchange(&name).is_some_and(|entry| entry.definition().durable);
        let Some(removed) = state.table.remove_exchange(&name) else { continue };
        if durable {
            changes.records.push(Change::DeleteExchange(StoredName::new(vhost, &name)).into());
        }
        unused.extend(removed.unused_exchanges);
    }
}

pub(super) fn stored_queue(vhost: &VhostName, queue: &QueueDefinition) -> StoredQueue {
    StoredQueue {
        vhost: vhost.to_string(),
        name: queue.name.to_string(),
        id: queue.id.0,
        shard: queue.shard.0.into(),
        auto_delete: queue.auto_delete,
        arguments: Some(StoredTable::from(&queue.arguments)),
    }
}

pub(super) fn no_such_vhost(name: &str) -> Refusal {
    Refusal::new(ReplyCode::NotAllowed, format!("vhost '{name}' does not exist")).about(Entity::Vhost, name)
}

fn vhost_name(name: &str) -> Result<VhostName, String> {
    VhostName::new(name).map_err(record::too_long)
}
