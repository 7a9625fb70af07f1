//! The broker as front ends hold it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Semaphore, oneshot};

use super::altering::LOOKERS_MAX;
use super::catalog::{
    AlteredQueue, Answer, CatalogCommand, DeclaredQueue, FIRST_VOLATILE_SHARD, QueueAlteration,
    QueueDeclaration, Request, Stopped, altered_queue, check_owner, no_such_vhost,
};
use super::close_failure::CloseFailure;
use super::hand_over::Places;
use super::histories::all_arrived;
use super::login::Identity;
use super::options::BrokerOptions;
use super::platform::Platform;
use super::presence::Presence;
use super::published::Published;
use super::requesters::check_no_requester;
use super::seats::Seats;
use super::vhost::{QueueDefinition, Vhost};
use crate::auth::{LoginCache, Permission, User};
use crate::journey::Journeys;
use crate::model::{
    BCC, ConnectionId, Difference, Durability, Entity, FieldTable, Refusal, ReplyCode, ShardId, UserName,
    VhostName, further_keys,
};
use crate::routing::{
    Binding, ExchangeDefinition, ExplainedBody, ExplainedMessage, Explanation, HistoryRoom, Payload,
    RouteError, no_such_queue,
};
use crate::shard::{
    Command, ConsumerKey, DepartureBoard, DiskGauge, Mailbox, MemoryGauge, QueueCounts, QueueState,
    SealConditions, ShardHandle, out_of_service, run_blocking,
};
use crate::storage::{DataDirectory, KnownLog};

/// How often a queue is declared that is deleted again before that is answered. One that goes with its last consumer takes three.
pub(super) const DECLARE_ATTEMPTS_MAX: u32 = 100;

/// Those who look at journeys at a time: with those on disk each takes a thread and a file's length of memory.
const JOURNEY_READERS_MAX: usize = 2;

/// A broker. Cheap to clone; lives as long as any clone.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(super) shared: Arc<Shared>,
}

/// What shards tell all others: whether there is room for messages, and what becomes of some.
#[derive(Debug)]
pub(super) struct Gauges {
    /// What volatile shards hold.
    pub(super) memory: Arc<MemoryGauge>,
    /// Whether the disk has room.
    pub(super) disk: Arc<DiskGauge>,
    /// Journeys of messages.
    pub(super) journeys: Arc<Journeys>,
    /// What left queues and somebody is to be told of.
    pub(super) departures: Arc<DepartureBoard>,
    /// What exchanges keep for what is bound to them later.
    pub(super) histories: Arc<HistoryRoom>,
}

/// What all parts of the broker share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: BrokerOptions,
    pub(super) shards: BTreeMap<ShardId, ShardHandle>,
    pub(super) gauges: Gauges,
    pub(super) catalog: Arc<Mailbox<CatalogCommand>>,
    /// Dropped or sent to: the catalog stops. What it is sent hears when it has.
    pub(super) stop_catalog: Mutex<Option<oneshot::Sender<oneshot::Sender<Stopped>>>>,
    vhosts: RwLock<BTreeMap<VhostName, Arc<Vhost>>>,
    pub(super) users: RwLock<BTreeMap<UserName, Arc<User>>>,
    pub(super) logins: Mutex<LoginCache>,
    /// Who looks at journeys on disk: each reads all that is there.
    pub(super) journey_permits: Arc<Semaphore>,
    /// Who looks whether what waits fits new schemas: each takes a thread and a page of messages.
    pub(super) look_permits: Arc<Semaphore>,
    /// Password checks at a time: each takes 19 MiB and tens of milliseconds.
    pub(super) login_permits: Arc<Semaphore>,
    connections: Mutex<BTreeMap<ConnectionId, Arc<ConnectionDescription>>>,
    pub(super) places: Places,
    pub(super) seats: Seats,
    pub(super) presence: Arc<Presence>,
    next_connection: AtomicU64,
    consumers: Mutex<HashMap<ConsumerKey, KnownConsumer>>,
    /// The largest body that was ever allowed here, in bytes.
    pub(super) stored_body_bytes_max: u64,
    /// Shards that do not work, and why.
    faults: Mutex<BTreeMap<ShardId, Arc<str>>>,
    /// Where the broker keeps everything; locked as long as the broker lives.
    pub(super) directory: Option<DataDirectory>,
    pub(super) platform: Platform,
}

/// A consumer, as all parts of the broker know it.
#[derive(Debug)]
pub(super) struct KnownConsumer {
    /// Its name, for people.
    pub(super) tag: Arc<str>,
    /// What it takes messages from.
    pub(super) queue: Arc<QueueDefinition>,
}

/// A connection as lists show it.
#[derive(Debug)]
pub struct ConnectionDescription {
    /// Its number.
    pub id: ConnectionId,
    /// The name its client gave it.
    pub name: String,
    /// Who is logged in.
    pub user: UserName,
    /// Where it works.
    pub vhost: VhostName,
    /// The client's address.
    pub peer: SocketAddr,
    /// What the client says of itself.
    pub client: BTreeMap<String, String>,
    /// When it logged in, in milliseconds since 1970.
    pub connected_at_ms: u64,
    /// Counters that the front end keeps.
    pub meter: ConnectionMeter,
    /// Why nothing that it publishes is taken now.
    pub(super) blocked: Mutex<Option<String>>,
    /// Wakes the connection to be closed; the text says why.
    pub(super) disconnect: Mutex<Option<oneshot::Sender<Refusal>>>,
}

/// Counters of one connection.
#[derive(Debug, Default)]
pub struct ConnectionMeter {
    /// Bytes that came in.
    pub received_bytes: AtomicU64,
    /// Bytes that went out.
    pub sent_bytes: AtomicU64,
    /// Channels that are open.
    pub channels: AtomicU64,
    /// Messages that it published, by exchange.
    pub published: Published,
}

impl ConnectionDescription {
    /// What it publishes waits for this reason, or does not any more.
    pub(super) fn note_blocked(&self, reason: Option<String>) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why nothing that it publishes is taken now, in a sentence; `None` if it is.
    pub fn blocked(&self) -> Option<String> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn disconnect(&self, reason: Refusal) {
        let sender = self.disconnect.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The connection may be on its way out already.
            let _ = sender.send(reason);
        }
    }
}

impl Shared {
    pub(super) fn new(
        options: BrokerOptions,
        shards: BTreeMap<ShardId, ShardHandle>,
        gauges: Gauges,
        catalog: Arc<Mailbox<CatalogCommand>>,
        stop_catalog: oneshot::Sender<oneshot::Sender<Stopped>>,
        logins: LoginCache,
        platform: Platform,
    ) -> Self {
        let login_permits = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        Self {
            options,
            shards,
            gauges,
            catalog,
            stop_catalog: Mutex::new(Some(stop_catalog)),
            vhosts: RwLock::default(),
            users: RwLock::default(),
            logins: Mutex::new(logins),
            journey_permits: Arc::new(Semaphore::new(JOURNEY_READERS_MAX)),
            look_permits: Arc::new(Semaphore::new(LOOKERS_MAX)),
            login_permits: Arc::new(Semaphore::new(login_permits)),
            connections: Mutex::default(),
            places: Places::default(),
            seats: Seats::default(),
            presence: Arc::new(Presence::new(Arc::clone(&platform.clock), BTreeMap::new())),
            next_connection: AtomicU64::new(1),
            consumers: Mutex::default(),
            stored_body_bytes_max: 0,
            faults: Mutex::default(),
            directory: None,
            platform,
        }
    }

    pub(super) fn shard(&self, id: ShardId) -> Option<&ShardHandle> {
        self.shards.get(&id)
    }

    pub(super) fn vhosts(&self) -> RwLockReadGuard<'_, BTreeMap<VhostName, Arc<Vhost>>> {
        self.vhosts.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn vhosts_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<VhostName, Arc<Vhost>>> {
        self.vhosts.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn users(&self) -> RwLockReadGuard<'_, BTreeMap<UserName, Arc<User>>> {
        self.users.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connections(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Arc<ConnectionDescription>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn consumers(&self) -> MutexGuard<'_, HashMap<ConsumerKey, KnownConsumer>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_fault(&self, shard: ShardId, what: &str) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, what.into());
    }

    /// Why a shard does not work, if it does not.
    pub(super) fn fault(&self, shard: ShardId) -> Option<Arc<str>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }

    pub(super) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks all connections of a vhost that was deleted to go.
    pub(super) fn disconnect_vhost(&self, vhost: &VhostName) {
        for connection in self.connections().values().filter(|connection| connection.vhost == *vhost) {
            let text = format!("vhost '{vhost}' was deleted");
            connection
                .disconnect(Refusal::new(ReplyCode::NotAllowed, text).about(Entity::Vhost, vhost.as_str()));
        }
    }
}

impl Broker {
    /// What a confirm of a message in a durable queue means.
    pub fn durability(&self) -> Durability {
        if self.shared.options.data.is_some() { Durability::Synced } else { Durability::Memory }
    }

    /// Bytes of messages that one connection may have under way.
    pub fn publish_bytes_max(&self) -> usize {
        self.shared.options.publish_bytes_max
    }

    /// Largest message body in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.shared.options.message_bytes_max
    }

    /// Largest message body that may be in a queue, in bytes: what was taken under an earlier, higher limit is still
    /// there.
    pub fn stored_body_bytes_max(&self) -> u64 {
        self.shared.stored_body_bytes_max
    }

    /// Bytes of messages that are nowhere but in memory, with what stands around them.
    pub fn memory_bytes(&self) -> u64 {
        self.shared.gauges.memory.used_bytes() + self.shared.gauges.histories.used_bytes() as u64
    }

    /// Number of connections that are logged in.
    pub fn connections_count(&self) -> usize {
        self.shared.connections().len()
    }

    /// Makes an exchange, or checks that the one there is equal.
    pub async fn declare_exchange(
        &self,
        who: &Identity,
        definition: ExchangeDefinition,
    ) -> Result<(), Refusal> {
        let access = self.access(who)?;
        self.done(Request::DeclareExchange { vhost: who.vhost_name(), access, definition }).await
    }

    /// Checks that an exchange exists.
    pub fn check_exchange(&self, who: &Identity, name: &str) -> Result<(), Refusal> {
        self.access(who)?.check_any(Entity::Exchange, name)?;
        match who.vhost.routing().exchange(name) {
            Some(_) => Ok(()),
            None => Err(crate::routing::no_such_exchange(name, &who.vhost.name)),
        }
    }

    /// Deletes an exchange with its bindings; one that does not exist is fine.
    pub async fn delete_exchange(
        &self,
        who: &Identity,
        name: String,
        if_unused: bool,
    ) -> Result<(), Refusal> {
        self.access(who)?.check(Permission::Configure, Entity::Exchange, &name)?;
        self.done(Request::DeleteExchange { vhost: who.vhost_name(), name, if_unused }).await
    }

    /// Adds a binding. If its source keeps a history, this answers when what is bound has it.
    ///
    /// # Errors
    /// Nothing was bound; or, in its words, it was, and some of the history did not arrive.
    pub async fn bind(&self, who: &Identity, binding: Binding) -> Result<(), Refusal> {
        check_no_requester(&binding)?;
        self.check_binding(who, &binding)?;
        let request = Request::Bind { vhost: who.vhost_name(), connection: who.connection, binding };
        match self.ask(request).await? {
            Answer::Bound(handed) => all_arrived(handed).await,
            _ => Ok(()),
        }
    }

    /// Removes a binding.
    pub async fn unbind(&self, who: &Identity, binding: Binding) -> Result<(), Refusal> {
        check_no_requester(&binding)?;
        self.check_binding(who, &binding)?;
        self.done(Request::Unbind { vhost: who.vhost_name(), connection: who.connection, binding }).await
    }

    /// Makes a queue, or checks that the one there is equal. One whose last consumer has left, and that is about to go with it, is
    /// made anew: what is answered stands until somebody deletes it or leaves it later.
    pub async fn declare_queue(
        &self,
        who: &Identity,
        declaration: QueueDeclaration,
    ) -> Result<DeclaredQueue, Refusal> {
        if let Some(waited_for) = who.vhost.requesters.look(&declaration.name, &who.vhost.name) {
            return waited_for;
        }
        for _ in 0..DECLARE_ATTEMPTS_MAX {
            let (vhost, access, declaration) = (who.vhost_name(), self.access(who)?, declaration.clone());
            let request = Request::DeclareQueue { vhost, access, connection: who.connection, declaration };
            let name = match self.ask(request).await? {
                Answer::Queue(name) => name,
                other => unreachable!("the catalog answers a declaration with the queue, not {other:?}"),
            };
            // It may be gone again, or another one be there: then the catalog knows better now.
            let Ok(queue) = self.queue(who, &name) else { continue };
            match self.inspect(&queue).await {
                Some(state) if !state.is_going => {
                    if queue.is_watched() {
                        self.shared.presence.note_use(queue.id);
                    }
                    return Ok(declared(&queue, &state.counts));
                }
                None if self.shared.fault(queue.shard).is_some() => return Err(out_of_service(queue.shard)),
                _ => {}
            }
        }
        let text = format!("queue '{}' is deleted each time that it is there", declaration.name);
        Err(Refusal::new(ReplyCode::ResourceError, text)
            .about(Entity::Queue, declaration.name.as_str())
            .hint("look who deletes it, or declare it without auto_delete")
            .retryable())
    }

    /// Checks that a queue exists; tells its numbers.
    pub async fn check_queue(&self, who: &Identity, name: &str) -> Result<DeclaredQueue, Refusal> {
        if let Some(waited_for) = who.vhost.requesters.look(name, &who.vhost.name) {
            return waited_for;
        }
        self.access(who)?.check_any(Entity::Queue, name)?;
        let queue = self.queue(who, name)?;
        let counts = match self.inspect(&queue).await {
            Some(state) => state.counts,
            None if self.shared.fault(queue.shard).is_some() => return Err(out_of_service(queue.shard)),
            // It was deleted in the meantime.
            None => QueueCounts::default(),
        };
        Ok(declared(&queue, &counts))
    }

    /// Changes arguments of a queue that is there; its messages, bindings and consumers stay. Tells what is other than it was. With
    /// `is_dry_run` nothing is changed.
    ///
    /// # Errors
    /// 404 for a queue that does not exist, 403 for one that this user may not configure, 406 for what cannot be altered or makes no
    /// sense. Nothing was changed then.
    pub async fn alter_queue(
        &self,
        who: &Identity,
        alteration: QueueAlteration,
        is_dry_run: bool,
    ) -> Result<Vec<Difference>, Refusal> {
        let access = self.access(who)?;
        access.check(Permission::Configure, Entity::Queue, &alteration.name)?;
        let current = self.queue(who, &alteration.name)?;
        let AlteredQueue { changes, .. } = altered_queue(&current, &alteration, &access, &who.vhost.name)?;
        if !is_dry_run {
            let (vhost, connection) = (who.vhost_name(), who.connection);
            self.done(Request::AlterQueue { vhost, access, connection, alteration }).await?;
        }
        Ok(changes)
    }

    /// Deletes a queue with its messages; answers with the number of ready ones, 0 if there is no such queue.
    pub async fn delete_queue(
        &self,
        who: &Identity,
        name: String,
        conditions: SealConditions,
    ) -> Result<u64, Refusal> {
        self.access(who)?.check(Permission::Configure, Entity::Queue, &name)?;
        let vhost = who.vhost_name();
        let request = Request::DeleteQueue { vhost, connection: who.connection, name, conditions };
        Ok(self.ask(request).await?.message_count().await)
    }

    /// Drops the ready messages of a queue; answers with their number.
    pub async fn purge_queue(&self, who: &Identity, name: &str) -> Result<u64, Refusal> {
        let queue = self.queue_to_read(who, name)?;
        let (reply, purged) = oneshot::channel();
        self.shard(&queue)?.send(Command::Purge { queue: queue.id, reply });
        purged.await.map_err(|_| stopping())?.map_err(|refusal| *refusal)
    }

    /// Where a message would go, and why. Without a payload it is taken to fit its schema.
    pub fn explain(
        &self,
        who: &Identity,
        exchange: &str,
        key: &str,
        headers: Option<&FieldTable>,
        payload: Option<Payload<'_>>,
    ) -> Result<Explanation, Refusal> {
        let body = payload.map_or(ExplainedBody::Absent, ExplainedBody::Given);
        let further_keys = headers.map_or(Ok(Vec::new()), further_keys).map_err(|refusal| *refusal)?;
        // Exchanges do not see it.
        let headers = headers.map(|headers| headers.without(BCC));
        let (headers, further_keys) = (headers.as_ref(), &further_keys[..]);
        let message = ExplainedMessage { headers, further_keys, body, ..ExplainedMessage::default() };
        let explained = who.vhost.routing().explain(exchange, key, &message);
        let mut explained =
            explained.map_err(|error: RouteError| error.refusal(exchange, &who.vhost.name))?;
        if exchange.is_empty() {
            let keys = std::iter::once(key).chain(further_keys.iter().map(String::as_str));
            who.vhost.requesters.explain(keys, &mut explained);
        }
        Ok(explained)
    }

    /// Puts everything on disk and stops. Front ends have closed their connections before.
    ///
    /// # Errors
    /// All that could not be put on disk.
    pub async fn close(&self) -> Result<(), Vec<CloseFailure>> {
        let stop = self.shared.stop_catalog.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It takes no more requests, so that a shard that stops does not look like queues without consumers.
        let catalog = match stop {
            None => None,
            Some(stop) => {
                let (stopped, has_stopped) = oneshot::channel();
                // The catalog may have stopped by itself.
                let _ = stop.send(stopped);
                has_stopped.await.ok()
            }
        };
        let mut failures = Vec::new();
        let mut ends = Vec::new();
        for shard in self.shared.shards.values() {
            match shard.close().await {
                Ok(Some(log)) if shard.id().0 < FIRST_VOLATILE_SHARD => ends.push((shard.id(), log)),
                Ok(_) => {}
                Err(failure) => failures.push(CloseFailure::Shard { shard: shard.id(), failure }),
            }
        }
        if let Some(catalog) = catalog {
            match catalog.close(ends).await {
                Ok(Some(log)) => self.note_end(log).await,
                Ok(None) => {}
                Err(refusal) => failures.push(CloseFailure::Catalog(Box::new(refusal))),
            }
        }
        self.close_journeys().await;
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// What was stopped cleanly can be held to it at the next start. Without the note there is only less to hold it to.
    async fn note_end(&self, catalog: KnownLog) {
        let shared = Arc::clone(&self.shared);
        let noted = run_blocking(&self.shared.platform.workers, move || {
            let directory = shared.directory.as_ref();
            directory.map_or(Ok(()), |directory| directory.note_catalog(&*shared.platform.disk, catalog))
        });
        // It tells of a panic itself.
        if let Some(Err(failure)) = noted.await {
            tracing::warn!(%failure, "the end of the catalog's log could not be noted");
        }
    }

    /// The queue of this name, if this connection may use it.
    pub(super) fn queue(&self, who: &Identity, name: &str) -> Result<Arc<QueueDefinition>, Refusal> {
        let queue = who.vhost.queue(name).ok_or_else(|| no_such_queue(name, &who.vhost.name))?;
        check_owner(&queue, who.connection, &who.vhost.name)?;
        Ok(queue)
    }

    pub(super) fn shard(&self, queue: &QueueDefinition) -> Result<&ShardHandle, Refusal> {
        self.shared.shard(queue.shard).ok_or_else(|| {
            let text = format!("shard {} of queue '{}' is not running", queue.shard, queue.name);
            Refusal::new(ReplyCode::InternalError, text).about(Entity::Queue, queue.name.as_str())
        })
    }

    pub(super) async fn inspect(&self, queue: &QueueDefinition) -> Option<QueueState> {
        let (reply, states) = oneshot::channel();
        self.shared.shard(queue.shard)?.send(Command::Inspect { queues: vec![queue.id], reply });
        states.await.ok()?.pop()
    }

    pub(super) fn vhost(&self, name: &str) -> Result<Arc<Vhost>, Refusal> {
        self.shared.vhosts().get(name).cloned().ok_or_else(|| no_such_vhost(name))
    }

    pub(super) async fn ask(&self, request: Request) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        let command = CatalogCommand { request, reply: Some(reply) };
        self.shared.catalog.push(command).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    pub(super) async fn done(&self, request: Request) -> Result<(), Refusal> {
        self.ask(request).await.map(|_| ())
    }

    /// Has the catalog delete what only this connection may use. Nobody waits.
    pub(super) fn forget_connection(&self, vhost: VhostName, connection: ConnectionId) {
        let request = Request::CloseConnection { vhost, connection };
        // A broker that is stopping deletes what was exclusive by not keeping it.
        let _ = self.shared.catalog.push(CatalogCommand { request, reply: None });
    }
}

/// What is told of work that did not come to its end.
pub(super) const UNFINISHED: &str = "the broker failed over it, or stops";

pub(super) fn declared(queue: &QueueDefinition, counts: &QueueCounts) -> DeclaredQueue {
    DeclaredQueue { name: queue.name.clone(), messages_ready: counts.ready, consumers: counts.consumers }
}

pub(super) fn stopping() -> Refusal {
    Refusal::new(ReplyCode::ConnectionForced, "the broker is stopping").retryable()
}
