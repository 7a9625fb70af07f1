//! The catalog's owner: carries out requests in order, makes their records durable together, then shows the changes.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use tokio::sync::{Notify, oneshot};

use super::broker::Shared;
use super::catalog::{Catalog, Changes};
use super::catalog_checkpoint::CatalogKeeper;
use super::record::Records;
use super::request::{Answer, Request};
use super::vhost::{QueueDefinition, Vhost};
use crate::model::{BodySequence, ConnectionId, Entity, QueueId, Refusal, ReplyCode, Timestamp, VhostName};
use crate::shard::{Command, DeleteRefusal, Mailbox, Notice, QueueOptions, out_of_service};
use crate::storage::{Batch, DiskError, LogRoom, ShardLog};

/// A request and where its answer goes; nobody waits for requests that the broker makes itself.
#[derive(Debug)]
pub(super) struct CatalogCommand {
    pub(super) request: Request,
    pub(super) reply: Option<oneshot::Sender<Result<Answer, Refusal>>>,
}

/// Requests that are carried out before their records are made durable together.
const REQUESTS_PER_BATCH_MAX: usize = 4096;

pub(super) struct CatalogTask {
    pub(super) catalog: Catalog,
    pub(super) log: Box<dyn ShardLog>,
    pub(super) progress: Arc<Notify>,
    pub(super) commands: Arc<Mailbox<CatalogCommand>>,
    pub(super) notices: Arc<Mailbox<Notice>>,
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: CatalogKeeper,
    /// What comes here hears when the task has ended.
    pub(super) stop: oneshot::Receiver<oneshot::Sender<()>>,
    /// It came while the task waited for the disk.
    pub(super) stopped: Option<Stopped>,
}

/// Who hears when the task has ended, unless all are gone that could ask.
type Stopped = Result<oneshot::Sender<()>, oneshot::error::RecvError>;

/// An answer that waits for its records.
type Answered = (oneshot::Sender<Result<Answer, Refusal>>, Result<Answer, Refusal>);

impl CatalogTask {
    pub(super) async fn run(mut self) {
        let mut commands = Vec::new();
        let mut notices = Vec::new();
        let stopped = loop {
            let commands_mailbox = Arc::clone(&self.commands);
            let notices_mailbox = Arc::clone(&self.notices);
            let arrived = poll_fn(|context| {
                let first = commands_mailbox.poll_take(context, &mut commands);
                let second = notices_mailbox.poll_take(context, &mut notices);
                if first.is_ready() || second.is_ready() {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            });
            tokio::select! {
                () = arrived => {}
                stopped = &mut self.stop => break stopped,
            }
            for notice in notices.drain(..) {
                match notice {
                    Notice::QueueUnused { queue } => {
                        let request = Request::DeleteUnusedQueue { queue };
                        commands.push(CatalogCommand { request, reply: None });
                    }
                    Notice::LogFailed { shard, what } => {
                        self.shared.note_fault(shard, &what);
                        self.catalog.failed_shards.insert(shard, what);
                    }
                }
            }
            let mut rest = commands.drain(..).peekable();
            while rest.peek().is_some() {
                let some: Vec<CatalogCommand> = rest.by_ref().take(REQUESTS_PER_BATCH_MAX).collect();
                self.carry_out(some).await;
            }
            if let Some(stopped) = self.stopped.take() {
                break stopped;
            }
            if self.keeper.is_due() {
                self.write_checkpoint().await;
            }
        };
        if self.keeper.has_news() {
            self.write_checkpoint().await;
        }
        if let Ok(stopped) = stopped {
            // Who asked may be gone.
            let _ = stopped.send(());
        }
    }

    /// Between requests everything that the catalog knows is durable, unless its log failed or has no room.
    async fn write_checkpoint(&mut self) {
        if self.log.progress().failed.is_none() && self.log.idle() {
            self.keeper.write(self.log.position(), self.catalog.records()).await;
        }
    }

    async fn carry_out(&mut self, commands: Vec<CatalogCommand>) {
        let mut changes = Changes::default();
        let mut answers: Vec<Answered> = Vec::new();
        for CatalogCommand { request, reply } in commands {
            let answer = self.handle(request, &mut changes).await;
            if let Some(reply) = reply {
                answers.push((reply, answer));
            }
        }
        let durable = self.make_durable(&mut changes).await;
        if durable.is_ok() {
            self.show(&changes);
        }
        for (reply, answer) in answers {
            // Who asked may be gone.
            let _ = reply.send(durable.clone().and(answer));
        }
    }

    async fn handle(&mut self, request: Request, changes: &mut Changes) -> Result<Answer, Refusal> {
        let catalog = &mut self.catalog;
        match request {
            Request::DeclareExchange { vhost, definition } => {
                catalog.declare_exchange(&vhost, definition, changes).map(|()| Answer::Done)
            }
            Request::DeleteExchange { vhost, name, if_unused } => {
                catalog.delete_exchange(&vhost, &name, if_unused, changes).map(|()| Answer::Done)
            }
            Request::Bind { vhost, connection, binding } => {
                catalog.bind(&vhost, connection, binding, changes).map(|()| Answer::Done)
            }
            Request::Unbind { vhost, connection, binding } => {
                catalog.unbind(&vhost, connection, &binding, changes).map(|()| Answer::Done)
            }
            Request::DeclareQueue { vhost, connection, declaration } => {
                let queue = catalog.declare_queue(&vhost, connection, declaration, changes)?;
                self.create_on_shard(&queue);
                Ok(Answer::Queue(queue.name.clone()))
            }
            Request::DeleteQueue { vhost, connection, name, if_unused, if_empty } => {
                let Some(queue) = catalog.queue_to_delete(&vhost, Some(connection), &name)? else {
                    return Ok(Answer::MessageCount(0));
                };
                self.delete_queue(&vhost, &queue, if_unused, if_empty, changes)
                    .await
                    .map(Answer::MessageCount)
            }
            Request::DeleteUnusedQueue { queue } => self.delete_unused(queue, changes).await,
            Request::CloseConnection { vhost, connection } => {
                self.delete_exclusive(&vhost, connection, changes).await;
                Ok(Answer::Done)
            }
            Request::PutUser { name, password_hash, administrator, vhosts } => {
                catalog.put_user(name, password_hash, administrator, vhosts, changes).map(|()| Answer::Done)
            }
            Request::DeleteUser { name } => catalog.delete_user(&name, changes).map(|()| Answer::Done),
            Request::PutVhost { name } => {
                catalog.put_vhost(&name, changes);
                Ok(Answer::Done)
            }
            Request::DeleteVhost { name } => {
                self.catalog.delete_vhost(&name, changes);
                for (_, queue) in changes.removed.iter().filter(|(vhost, _)| *vhost == name) {
                    let _ = delete_on_shard(&self.shared, queue, false, false).await;
                }
                Ok(Answer::Done)
            }
        }
    }

    async fn delete_unused(&mut self, queue: QueueId, changes: &mut Changes) -> Result<Answer, Refusal> {
        let Some((vhost, queue)) = self.catalog.find_queue(queue) else { return Ok(Answer::Done) };
        // A consumer may have come in the meantime: then the queue stays, and will say again when it is unused.
        match self.delete_queue(&vhost, &queue, true, false, changes).await {
            Ok(count) => Ok(Answer::MessageCount(count)),
            Err(_) => Ok(Answer::Done),
        }
    }

    async fn delete_exclusive(&mut self, vhost: &VhostName, connection: ConnectionId, changes: &mut Changes) {
        for queue in self.catalog.queues_of(vhost, connection) {
            if let Err(refusal) = self.delete_queue(vhost, &queue, false, false, changes).await {
                tracing::error!(queue = %queue.name, %refusal, "an exclusive queue outlives its connection");
            }
        }
    }

    async fn delete_queue(
        &mut self,
        vhost: &VhostName,
        queue: &Arc<QueueDefinition>,
        if_unused: bool,
        if_empty: bool,
        changes: &mut Changes,
    ) -> Result<u64, Refusal> {
        let deleted = delete_on_shard(&self.shared, queue, if_unused, if_empty).await;
        let count = deleted.map_err(|refusal| {
            let why = match refusal {
                DeleteRefusal::InUse => "in use",
                DeleteRefusal::NotEmpty => "not empty",
                DeleteRefusal::OutOfService => return out_of_service(queue.shard),
            };
            Refusal::new(
                ReplyCode::PreconditionFailed,
                format!("queue '{}' in vhost '{vhost}' {why}", queue.name),
            )
            .about(Entity::Queue, queue.name.as_str())
        })?;
        self.catalog.remove_queue(vhost, queue, changes);
        Ok(count)
    }

    fn create_on_shard(&self, queue: &QueueDefinition) {
        if let Some(shard) = self.shared.shard(queue.shard) {
            let options = QueueOptions { recoverable: queue.durable, auto_delete: queue.auto_delete };
            shard.send(Command::CreateQueue { queue: queue.id, options });
        }
    }

    /// Waits for the disk, if need be until there is room on it.
    async fn make_durable(&mut self, changes: &mut Changes) -> Result<(), Refusal> {
        if changes.records.is_empty() {
            return Ok(());
        }
        let records = Records { records: std::mem::take(&mut changes.records) };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let batch = Batch {
            first_body: BodySequence(0),
            bodies: 0,
            operations: records.records.len() as u32,
            recorded_at: Timestamp(since.as_millis() as u64),
            payload: vec![Bytes::from(records.encode_to_vec())],
        };
        self.keeper.note_written(batch.payload_bytes());
        let index = self.log.propose(batch).map_err(|failure| failed(&failure.to_string()))?;
        loop {
            let notified = self.progress.notified();
            let progress = self.log.progress();
            if progress.durable >= index {
                return Ok(());
            }
            if let Some(failure) = progress.failed {
                return Err(failed(&failure.to_string()));
            }
            let LogRoom::None(error) = progress.room else {
                notified.await;
                continue;
            };
            // Whoever is to make room may want to stop the broker first.
            tokio::select! {
                () = notified => {}
                stopped = &mut self.stop, if self.stopped.is_none() => self.stopped = Some(stopped),
            }
            if self.stopped.is_some() {
                return Err(no_room(&error));
            }
        }
    }

    /// Lets connections see what is durable now.
    fn show(&self, changes: &Changes) {
        let mut vhosts = self.shared.vhosts_mut();
        for name in &changes.routed {
            match self.catalog.vhosts.get(name) {
                Some(state) => {
                    let vhost =
                        vhosts.entry(name.clone()).or_insert_with(|| Arc::new(Vhost::new(name.clone())));
                    vhost.publish_routing(state.table.clone());
                }
                None => {
                    if let Some(vhost) = vhosts.remove(name) {
                        vhost.mark_deleted();
                        self.shared.disconnect_vhost(name);
                    }
                }
            }
        }
        for (name, queue) in &changes.removed {
            if let Some(vhost) = vhosts.get(name) {
                vhost.remove_queue(&queue.name);
            }
        }
        for (name, queue) in &changes.created {
            let exists =
                self.catalog.vhosts.get(name).is_some_and(|state| state.queues.contains_key(&queue.name));
            if let Some(vhost) = vhosts.get(name)
                && exists
            {
                vhost.insert_queue(Arc::clone(queue));
            }
        }
        drop(vhosts);
        if changes.users {
            self.shared.replace_users(&self.catalog.users);
        }
    }
}

async fn delete_on_shard(
    shared: &Shared,
    queue: &QueueDefinition,
    if_unused: bool,
    if_empty: bool,
) -> Result<u64, DeleteRefusal> {
    let Some(shard) = shared.shard(queue.shard) else { return Ok(0) };
    let (reply, deleted) = oneshot::channel();
    shard.send(Command::DeleteQueue { queue: queue.id, if_unused, if_empty, reply });
    // A shard that has stopped holds no queue any more.
    deleted.await.unwrap_or(Ok(0))
}

fn no_room(error: &DiskError) -> Refusal {
    Refusal::new(ReplyCode::ResourceError, format!("the catalog cannot be written: {error}"))
        .hint("free space on the broker's disk")
        .retryable()
}

fn failed(what: &str) -> Refusal {
    Refusal::new(ReplyCode::ResourceError, format!("the catalog's log failed: {what}"))
        .hint("nothing can be declared or deleted until the operator has looked at the disk and restarted the broker")
}
