//! Which queues may be, and where.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::{Catalog, FIRST_VOLATILE_SHARD, VOLATILE_SHARDS, VhostState};
use super::decide_routes::with_unused;
use super::decide_subscriptions::check_own_queue;
use super::entry::Entry;
use super::queue_checks::{check_owner, check_queue_arguments, check_same_queue};
use super::request::QueueDeclaration;
use crate::auth::{Access, Permission};
use crate::broker::access::check_dead_letters;
use crate::broker::vhost::QueueDefinition;
use crate::model::{ConnectionId, Entity, QueueId, QueueName, Refusal, ReplyCode, ShardId, VhostName};

/// Prefix of names that only the server gives.
const RESERVED_PREFIX: &str = "amq.";

/// What a decision about queues needs to know beside what exists.
#[derive(Debug, Default)]
pub(in crate::broker) struct Surroundings {
    /// Part of all names that the server gives to queues; random, so that they never repeat after a restart.
    pub(in crate::broker) name_key: u64,
    /// Shards that take no new queues, and why: their logs failed, or cannot be opened.
    pub(in crate::broker) failed_shards: BTreeMap<ShardId, String>,
}

/// Who wants a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declarer<'a> {
    pub(super) connection: ConnectionId,
    /// What its user may do.
    pub(super) access: &'a Access,
}

impl VhostState {
    /// Whether the vhost may have one queue more.
    pub(super) fn check_room(&self, queue: &str, vhost: &VhostName) -> Result<(), Refusal> {
        let there = self.queues.len();
        let Some(max) = self.limits.max_queues.filter(|max| there >= *max as usize) else { return Ok(()) };
        let text =
            format!("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({max}) is reached");
        Err(Refusal::new(ReplyCode::PreconditionFailed, text)
            .about(Entity::Queue, queue)
            .field("max-queues", format!("{max} at most"), format!("{there} and one more"))
            .hint("delete queues, or have an administrator raise it with `leveret set vhost-limits`"))
    }
}

impl Catalog {
    /// A queue is to be made, unless the one there is equal; its name comes with the entries.
    pub(super) fn decide_declare_queue(
        &self,
        surroundings: &Surroundings,
        vhost: &VhostName,
        Declarer { connection, access }: Declarer<'_>,
        declaration: &QueueDeclaration,
    ) -> Result<(Vec<Entry>, QueueName), Refusal> {
        let id = QueueId(self.next_queue + 1);
        let name = match declaration.name.is_empty() {
            true => {
                let name = format!("amq.gen-{:016x}-{id}", surroundings.name_key);
                QueueName::new(&name).expect("the name is short")
            }
            false => declaration.name.clone(),
        };
        access.check(Permission::Configure, Entity::Queue, &name)?;
        check_queue_arguments(declaration, vhost)?;
        if let Some(current) = self.vhost(vhost)?.queues.get(&declaration.name) {
            check_owner(current, connection, vhost)?;
            check_same_queue(current, declaration, vhost)?;
            return Ok((Vec::new(), current.name.clone()));
        }
        if declaration.name.starts_with(RESERVED_PREFIX) {
            let text = format!("queue name '{}' contains reserved prefix 'amq.*'", declaration.name);
            return Err(Refusal::new(ReplyCode::AccessRefused, text)
                .about(Entity::Queue, declaration.name.as_str())
                .hint("choose a name that does not begin with 'amq.', or an empty one to have the server choose"));
        }
        self.vhost(vhost)?.check_room(&name, vhost)?;
        check_dead_letters(access, &name, &declaration.arguments)?;
        // An exclusive queue goes with its connection, so it can never outlive the process.
        let durable = declaration.durable && !declaration.exclusive;
        let definition = QueueDefinition {
            id,
            name: name.clone(),
            durable,
            owner: declaration.exclusive.then_some(connection),
            auto_delete: declaration.auto_delete,
            arguments: declaration.arguments.clone(),
            shard: self.place(durable, surroundings)?,
            subscription: None,
            governed: None,
        };
        Ok((vec![Entry::PutQueue(vhost.clone(), Arc::new(definition))], name))
    }

    /// The shard with the fewest queues, of those that work; of several the first.
    pub(super) fn place(&self, durable: bool, surroundings: &Surroundings) -> Result<ShardId, Refusal> {
        let durable = durable && self.durable_shards > 0;
        let first = if durable { 0 } else { FIRST_VOLATILE_SHARD };
        let count = if durable { self.durable_shards } else { VOLATILE_SHARDS };
        (first..first + count)
            .map(ShardId)
            .filter(|shard| !surroundings.failed_shards.contains_key(shard))
            .min_by_key(|shard| self.load.get(shard).copied().unwrap_or(0))
            .ok_or_else(|| {
                let text = "no new durable queue can be made: the logs of all shards have failed";
                Refusal::new(ReplyCode::ResourceError, text)
                    .hint("the operator must look at the broker's disk and restart it")
            })
    }

    /// The queue that a connection wants to delete; `None` if there is none.
    pub(super) fn queue_to_delete(
        &self,
        vhost: &VhostName,
        connection: ConnectionId,
        name: &str,
    ) -> Result<Option<Arc<QueueDefinition>>, Refusal> {
        let Some(queue) = self.vhost(vhost)?.queues.get(name) else { return Ok(None) };
        check_owner(queue, connection, vhost)?;
        check_own_queue(queue, "alone deletes it")?;
        Ok(Some(Arc::clone(queue)))
    }

    /// This very queue goes, if it is still there.
    pub(super) fn decide_delete_queue(&self, vhost: &VhostName, queue: &QueueDefinition) -> Vec<Entry> {
        let Some(state) = self.vhosts.get(vhost) else { return Vec::new() };
        if state.queues.get(&queue.name).is_none_or(|current| current.id != queue.id) {
            return Vec::new();
        }
        if let Some(subscription) = &queue.subscription {
            return self.decide_expire(vhost, subscription, queue.id);
        }
        let entry =
            Entry::DeleteQueue { vhost: vhost.clone(), name: queue.name.clone(), durable: queue.durable };
        with_unused(vhost, &state.table, entry, |table| table.remove_queue(&queue.name))
    }
}
