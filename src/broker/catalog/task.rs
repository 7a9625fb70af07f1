//! The catalog's owner: decides upon requests in order, makes their entries durable together, then applies and shows them.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use prost::Message;
use tokio::sync::{Notify, oneshot};

use super::catalog::{Catalog, Changed};
use super::checkpoint::CatalogKeeper;
use super::decide_queues::{Declarer, Surroundings};
use super::deletion::Sealings;
use super::entry::Entry;
use super::record::{Record, Records};
use super::request::{Answer, Request};
use crate::broker::broker::Shared;
use crate::broker::events::wants_events;
use crate::broker::histories::{HandedHistory, hand_over, watch};
use crate::broker::vhost::{QueueDefinition, Vhost};
use crate::model::{
    BodySequence, Bug, QueueId, QueueName, Refusal, ReplyCode, ShardId, Timestamp, VhostName, planted,
};
use crate::routing::Destination;
use crate::shard::{Command, Mailbox, Notice};
use crate::storage::{Batch, DiskError, KnownLog, LogRoom, Machine, ShardLog, Snapshot};

/// A request and where its answer goes; nobody waits for requests that the broker makes itself.
#[derive(Debug)]
pub(in crate::broker) struct CatalogCommand {
    pub(in crate::broker) request: Request,
    pub(in crate::broker) reply: Option<Reply>,
}

pub(super) type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// Requests whose entries are made durable together, at most.
const REQUESTS_PER_BATCH_MAX: usize = 4096;

pub(in crate::broker) struct CatalogTask {
    /// What the log has made durable, and what needs no log: this is shown.
    pub(in crate::broker) applied: Catalog,
    /// The same with the entries that are on their way: this is decided by. Between batches both are equal.
    pub(in crate::broker) decided: Catalog,
    pub(in crate::broker) surroundings: Surroundings,
    pub(in crate::broker) sealings: Sealings,
    pub(in crate::broker) log: Box<dyn ShardLog>,
    /// Why nothing can be recorded any more.
    pub(in crate::broker) failed: Option<Refusal>,
    /// What there is after a restart if the last records, of which nobody knows, are on the disk after all.
    pub(in crate::broker) in_doubt: Option<Catalog>,
    pub(in crate::broker) progress: Arc<Notify>,
    pub(in crate::broker) commands: Arc<Mailbox<CatalogCommand>>,
    pub(in crate::broker) notices: Arc<Mailbox<Notice>>,
    pub(in crate::broker) shared: Arc<Shared>,
    pub(in crate::broker) keeper: CatalogKeeper,
    pub(in crate::broker) stop: oneshot::Receiver<oneshot::Sender<Stopped>>,
    /// What came from `stop`, if it came while the task waited for the disk.
    pub(in crate::broker) stopping: Option<Asked>,
}

/// Who gets what is left of the task, unless all are gone that could ask.
type Asked = Result<oneshot::Sender<Stopped>, oneshot::error::RecvError>;

/// A catalog that takes no more requests.
pub(in crate::broker) struct Stopped(CatalogTask);

/// What became of a request, before its entries are durable.
enum Outcome {
    Done,
    Queue(QueueName),
    /// These queues go.
    Deleted(Vec<QueueId>),
}

type Decision = Result<Outcome, Refusal>;

impl CatalogTask {
    pub(in crate::broker) async fn run(mut self) {
        let mut commands = Vec::new();
        let mut notices = Vec::new();
        let asked = loop {
            let commands_mailbox = Arc::clone(&self.commands);
            let notices_mailbox = Arc::clone(&self.notices);
            let arrived = poll_fn(|context| {
                let first = commands_mailbox.poll_take(context, &mut commands);
                let second = notices_mailbox.poll_take(context, &mut notices);
                if first.is_ready() || second.is_ready() { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::select! {
                biased;
                asked = &mut self.stop => break asked,
                () = arrived => {}
            }
            // What shards have looked at was asked for before.
            let looked_at = notices.drain(..).filter_map(|notice| self.hear(notice)).collect::<Vec<_>>();
            let mut rest = looked_at.into_iter().chain(commands.drain(..)).peekable();
            while rest.peek().is_some() {
                let some: Vec<CatalogCommand> = rest.by_ref().take(REQUESTS_PER_BATCH_MAX).collect();
                self.carry_out(some).await;
            }
            drop(rest);
            if let Some(asked) = self.stopping.take() {
                break asked;
            }
            if self.keeper.is_due() {
                self.write_checkpoint().await;
            }
        };
        match asked {
            // Who asked may be gone.
            Ok(asked) => drop(asked.send(Stopped(self))),
            Err(_) if self.keeper.has_news() => self.write_checkpoint().await,
            Err(_) => {}
        }
    }

    fn hear(&mut self, notice: Notice) -> Option<CatalogCommand> {
        match notice {
            Notice::Sealed { number, result } => return self.sealed(number, result),
            Notice::QueueUnused { queue } => self.delete_if_unused(queue),
            Notice::LogFailed { shard, what } => {
                self.shared.note_fault(shard, &what);
                self.surroundings.failed_shards.insert(shard, what);
            }
        }
        None
    }

    /// Between batches everything that the catalog knows is durable, unless its log failed or has no room.
    async fn write_checkpoint(&mut self) {
        if self.failed.is_none() && self.log.progress().failed.is_none() && self.log.idle() {
            let snapshot = Snapshot { position: self.log.position(), state: self.applied.snapshot() };
            self.keeper.write(snapshot, &self.shared.platform.workers).await;
        }
    }

    async fn carry_out(&mut self, commands: Vec<CatalogCommand>) {
        let commands: Vec<_> =
            commands.into_iter().filter_map(|command| self.without_condition(command)).collect();
        let (mut entries, mut decisions) = self.decide_all(&commands, self.failed.clone().as_ref());
        let records = entries.iter().filter_map(Entry::record).collect();
        if let Err(refusal) = self.make_durable(records).await {
            let mut in_doubt = self.applied.clone();
            let recorded = entries.iter().filter(|entry| entry.record().is_some());
            recorded.for_each(|entry| in_doubt.apply(entry, &mut Changed::default()));
            self.in_doubt = Some(in_doubt);
            let came_to_nothing = std::mem::replace(&mut self.decided, self.applied.clone());
            self.decided.never_again(&came_to_nothing);
            // What needs no record is done all the same.
            (entries, decisions) = self.decide_all(&commands, Some(&refusal));
        }
        let mut changed = Changed::default();
        entries.iter().for_each(|entry| self.applied.apply(entry, &mut changed));
        self.create_on_shards(&changed);
        let mut handed = self.show(&changed);
        let mut deleted = self.delete_on_shards(&changed);
        for (CatalogCommand { request, reply }, decision) in commands.into_iter().zip(decisions) {
            if let (Request::DeleteSealed { queue, .. }, Err(_)) = (&request, &decision) {
                self.unseal(queue);
            }
            let Some(reply) = reply else { continue };
            let answer = decision.map(|outcome| match outcome {
                Outcome::Done => match handed_by(&request, None, &mut handed) {
                    handed if handed.is_empty() => Answer::Done,
                    handed => Answer::Bound(handed),
                },
                Outcome::Queue(name) => match handed_by(&request, Some(&name), &mut handed) {
                    handed if handed.is_empty() => Answer::Queue(name),
                    handed => Answer::Subscribed(name, handed),
                },
                Outcome::Deleted(queues) => {
                    Answer::Deleted(queues.iter().filter_map(|queue| deleted.remove(queue)).collect())
                }
            });
            // Who asked may be gone.
            let _ = reply.send(answer);
        }
        watch(handed);
    }

    /// Decides upon requests one after the other, each in view of those before it. If nothing can be recorded, those
    /// that need it are refused.
    fn decide_all(
        &mut self,
        commands: &[CatalogCommand],
        unrecordable: Option<&Refusal>,
    ) -> (Vec<Entry>, Vec<Decision>) {
        let mut entries = Vec::new();
        let mut decisions = Vec::with_capacity(commands.len());
        for CatalogCommand { request, .. } in commands {
            let decision =
                self.decide(&self.decided, request).and_then(|(made, outcome)| match unrecordable {
                    Some(refusal) if is_recorded(&made) || self.is_in_doubt(request) => Err(refusal.clone()),
                    _ => {
                        self.expect(&made);
                        entries.extend(made);
                        Ok(outcome)
                    }
                });
            decisions.push(decision);
            if let Request::CloseConnection { vhost, connection } = request {
                for queue in self.decided.queues_of(vhost, *connection) {
                    let mut made = self.decided.decide_delete_queue(vhost, &queue);
                    // An auto-delete exchange whose removal cannot be recorded stays, without bindings.
                    made.retain(|entry| unrecordable.is_none() || entry.record().is_none());
                    self.expect(&made);
                    entries.extend(made);
                }
            }
        }
        (entries, decisions)
    }

    fn expect(&mut self, made: &[Entry]) {
        for catalog in std::iter::once(&mut self.decided).chain(&mut self.in_doubt) {
            made.iter().for_each(|entry| catalog.apply(entry, &mut Changed::default()));
        }
    }

    /// Whether what a request asks for is so, and perhaps not after a restart.
    fn is_in_doubt(&self, request: &Request) -> bool {
        let Some(in_doubt) = &self.in_doubt else { return false };
        match self.decide(in_doubt, request) {
            Ok((made, _)) => is_recorded(&made),
            Err(_) => true,
        }
    }

    fn decide(&self, catalog: &Catalog, request: &Request) -> Result<(Vec<Entry>, Outcome), Refusal> {
        let entries = match request {
            Request::DeclareExchange { vhost, access, definition } => {
                catalog.decide_declare_exchange(vhost, access, definition)?
            }
            Request::AlterExchange { vhost, alteration } => {
                catalog.decide_alter_exchange(vhost, alteration)?
            }
            Request::DeleteExchange { vhost, name, if_unused } => {
                catalog.decide_delete_exchange(vhost, name, *if_unused)?
            }
            Request::Bind { vhost, connection, binding } => {
                catalog.decide_bind(vhost, *connection, binding)?
            }
            Request::Unbind { vhost, connection, binding } => {
                catalog.decide_unbind(vhost, *connection, binding)?
            }
            Request::DeclareQueue { vhost, access, connection, declaration } => {
                let declarer = Declarer { connection: *connection, access };
                let (entries, name) =
                    catalog.decide_declare_queue(&self.surroundings, vhost, declarer, declaration)?;
                return Ok((entries, Outcome::Queue(name)));
            }
            Request::AlterQueue { vhost, access, connection, alteration } => {
                catalog.decide_alter_queue(vhost, *connection, access, alteration)?
            }
            Request::DeleteQueue { vhost, connection, name, .. } => {
                let queue = catalog.queue_to_delete(vhost, *connection, name)?;
                let entries =
                    queue.as_ref().map_or(Vec::new(), |queue| catalog.decide_delete_queue(vhost, queue));
                return Ok((entries, Outcome::Deleted(queue.iter().map(|queue| queue.id).collect())));
            }
            Request::DeleteSealed { vhost, queue } => {
                return Ok((catalog.decide_delete_queue(vhost, queue), Outcome::Deleted(vec![queue.id])));
            }
            Request::Subscribe { vhost, declaration } => {
                let (entries, queue) = catalog.decide_subscribe(&self.surroundings, vhost, declaration)?;
                return Ok((entries, Outcome::Queue(queue)));
            }
            Request::Unsubscribe { vhost, name, member } => {
                let (entries, queues) = catalog.decide_unsubscribe(vhost, name, member)?;
                return Ok((entries, Outcome::Deleted(queues)));
            }
            Request::PutPolicy { vhost, policy } => catalog.decide_put_policy(vhost, policy)?,
            Request::DeletePolicy { vhost, kind, name } => {
                catalog.decide_delete_policy(vhost, *kind, name)?
            }
            Request::PutJourneyRule { vhost, rule } => catalog.decide_put_journey_rule(vhost, rule)?,
            Request::DeleteJourneyRule { vhost, scope } => {
                catalog.decide_delete_journey_rule(vhost, scope)?
            }
            // The queue's shard is asked first; what it has looked at comes as a deletion.
            Request::Expire { .. } => Vec::new(),
            Request::NotePresence(change) => catalog.decide_note_presence(change),
            // One queue after the other, above.
            Request::CloseConnection { .. } => Vec::new(),
            Request::PutUser { name, password_hash, administrator, vhosts } => {
                catalog.decide_put_user(name, password_hash.as_ref(), *administrator, vhosts)?
            }
            Request::LimitUser { name, change } => catalog.decide_limit_user(name, *change)?,
            Request::LimitVhost { name, change } => catalog.decide_limit_vhost(name, *change)?,
            Request::ChangePermissions { user, change } => catalog.decide_change_permissions(user, change)?,
            Request::DeleteUser { name } => catalog.decide_delete_user(name)?,
            Request::PutVhost { name, quarantine } => catalog.decide_put_vhost(name, quarantine.as_ref())?,
            Request::DeleteVhost { name } => catalog.decide_delete_vhost(name)?,
        };
        Ok((entries, Outcome::Done))
    }

    /// Waits for the disk, if need be until there is room on it.
    async fn make_durable(&mut self, records: Vec<Record>) -> Result<(), Refusal> {
        if records.is_empty() {
            return Ok(());
        }
        let batch = batch(records, (self.shared.platform.clock)());
        self.keeper.note_written(batch.payload_bytes());
        let index = match self.log.propose(batch) {
            Ok(index) => index,
            Err(failure) if failure.is_final() => return Err(self.fail(&failure.to_string())),
            Err(failure) => return Err(unrecorded(&failure.to_string()).retryable()),
        };
        if planted(Bug::ShownBeforeDurable) {
            return Ok(());
        }
        loop {
            let progress = Arc::clone(&self.progress);
            let notified = progress.notified();
            let progress = self.log.progress();
            if progress.durable >= index {
                self.in_doubt = None;
                return Ok(());
            }
            if let Some(failure) = progress.failed {
                return Err(self.fail(&failure.to_string()));
            }
            let LogRoom::None(error) = progress.room else {
                notified.await;
                continue;
            };
            if self.stop.is_terminated() {
                return Err(no_room(&error));
            }
            // Whoever is to make room may want to stop the broker first.
            tokio::select! {
                biased;
                () = notified => {}
                asked = &mut self.stop => {
                    self.stopping = Some(asked);
                    return Err(no_room(&error));
                }
            }
        }
    }

    fn fail(&mut self, what: &str) -> Refusal {
        let refusal = unrecorded(what).hint(
            "nothing can be declared or deleted until the operator has looked at the disk and restarted the broker",
        );
        self.failed = Some(refusal.clone());
        refusal
    }

    /// Before anybody can publish to them.
    fn create_on_shards(&self, changed: &Changed) {
        for (vhost, queue) in &changed.created {
            let vhost = self.shared.vhosts().get(vhost).cloned();
            let former = vhost.as_ref().and_then(|vhost| vhost.queue(&queue.name));
            let is_new = former.is_none_or(|former| former.id != queue.id);
            if let Some(vhost) = vhost.filter(|_| !is_new) {
                // Where its dead letters go is known before the shard can have any.
                vhost.insert_queue(Arc::clone(queue));
            }
            if let Some(shard) = self.shared.shard(queue.shard) {
                shard.send(Command::CreateQueue { queue: queue.id, options: queue.options() });
            }
            // Whoever asked for it may be gone before they hear of it.
            if is_new && queue.subscription.is_some() {
                self.shared.presence.expect(queue.id);
            } else if queue.is_watched() {
                self.shared.presence.note_use(queue.id);
            }
        }
    }

    /// After nobody finds them any more. The shards tell how many ready messages went with each queue.
    fn delete_on_shards(&self, changed: &Changed) -> HashMap<QueueId, oneshot::Receiver<u64>> {
        let mut deleted = HashMap::new();
        for (_, queue) in &changed.removed {
            if let Some(shard) = self.shared.shard(queue.shard) {
                let (reply, count) = oneshot::channel();
                shard.send(Command::DeleteQueue { queue: queue.id, reply });
                deleted.insert(queue.id, count);
            }
        }
        deleted
    }

    /// Lets connections see what was applied. What is bound to exchanges that keep a history is given that first.
    fn show(&self, changed: &Changed) -> Vec<HandedHistory> {
        let mut handed = Vec::new();
        let mut vhosts = self.shared.vhosts_mut();
        for name in &changed.routed {
            match self.applied.vhosts.get(name) {
                Some(state) => {
                    let vhost =
                        vhosts.entry(name.clone()).or_insert_with(|| Arc::new(Vhost::new(name.clone())));
                    let bound = changed.bound.iter().filter(|(vhost, _)| vhost == name);
                    let mut bound = bound.map(|(_, binding)| binding).peekable();
                    // What is kept before this went to the bindings of before; what is kept later goes to the new ones, too.
                    let closed = bound.peek().is_some().then(|| vhost.close_histories());
                    vhost.publish_routing(state.table.clone());
                    handed.extend(bound.filter_map(|binding| hand_over(&self.shared, vhost, binding)));
                    drop(closed);
                }
                None => {
                    if let Some(vhost) = vhosts.remove(name) {
                        vhost.mark_deleted();
                        self.shared.disconnect_vhost(name);
                    }
                }
            }
        }
        if !changed.routed.is_empty() {
            let is_wanted = vhosts.values().any(|vhost| wants_events(&vhost.routing()));
            self.shared.gauges.departures.want(is_wanted);
        }
        for (name, queue) in &changed.removed {
            if let Some(vhost) = vhosts.get(name) {
                vhost.remove_queue(&queue.name);
            }
        }
        for (name, queue) in &changed.created {
            if let Some(vhost) = vhosts.get(name)
                && self.is_applied(name, queue)
            {
                vhost.insert_queue(Arc::clone(queue));
            }
        }
        for (vhost, name) in &changed.subscriptions {
            if let Some(shown) = vhosts.get(vhost) {
                let state = self.applied.vhosts.get(vhost);
                shown.put_subscription(name, state.and_then(|state| state.subscriptions.get(name)).cloned());
            }
        }
        for name in &changed.journeys {
            if let (Some(shown), Some(state)) = (vhosts.get(name), self.applied.vhosts.get(name)) {
                shown.put_journey_rules(state.journey_rules());
            }
        }
        for name in &changed.policies {
            if let (Some(shown), Some(state)) = (vhosts.get(name), self.applied.vhosts.get(name)) {
                shown.put_policies(Arc::clone(&state.policies));
            }
        }
        for name in &changed.limits {
            if let (Some(shown), Some(state)) = (vhosts.get(name), self.applied.vhosts.get(name)) {
                shown.put_limits(state.limits);
                shown.put_quarantine(state.quarantine.as_ref());
            }
        }
        drop(vhosts);
        if changed.users {
            let others = self.shared.replace_users(&self.applied.users);
            self.shared.disconnect_users(&changed.deleted_users);
            self.shared.note_changed_permissions(&others);
        }
        handed
    }

    fn is_applied(&self, vhost: &VhostName, queue: &QueueDefinition) -> bool {
        let state = self.applied.vhosts.get(vhost);
        state.and_then(|state| state.queues.get(&queue.name)).is_some_and(|current| current.id == queue.id)
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stopped").field(&self.0.log.known()).finish()
    }
}

impl Stopped {
    /// Records how far the shards' logs reach, and stops for good. Returns how far the catalog's own log reaches;
    /// `None` if it is in memory.
    ///
    /// # Errors
    /// Why not all of it could be put on disk.
    pub(in crate::broker) async fn close(
        self,
        shards: Vec<(ShardId, KnownLog)>,
    ) -> Result<Option<KnownLog>, Refusal> {
        let Self(mut task) = self;
        if let Some(refusal) = task.failed {
            return Err(refusal);
        }
        if task.log.known().is_none() {
            return Ok(None);
        }
        let presence = &task.shared.presence;
        let change = presence.change(&task.applied.subscribed_queues(), &task.applied.dark);
        let entries: Vec<Entry> = shards
            .into_iter()
            .filter(|(shard, log)| task.applied.shard_logs.get(shard) != Some(log))
            .map(|(shard, log)| Entry::ShardLog(shard, log))
            .chain(task.applied.decide_note_presence(&change))
            .collect();
        let records = entries.iter().filter_map(Entry::record).collect();
        task.make_durable(records).await?;
        entries.iter().for_each(|entry| task.applied.apply(entry, &mut Changed::default()));
        if task.keeper.has_news() {
            task.write_checkpoint().await;
        }
        Ok(task.log.known())
    }
}

/// What was handed over for this request: the queue of a subscription that was made or changed is `subscribed`.
fn handed_by(
    request: &Request,
    subscribed: Option<&QueueName>,
    handed: &mut Vec<HandedHistory>,
) -> Vec<HandedHistory> {
    let is_of_request = |one: &mut HandedHistory| match (request, subscribed, &one.binding.destination) {
        (Request::Bind { vhost, binding, .. }, ..) => {
            one.vhost == *vhost && one.binding.compare(binding).is_eq()
        }
        (Request::Subscribe { vhost, .. }, Some(name), Destination::Queue(queue)) => {
            one.vhost == *vhost && queue == name
        }
        _ => false,
    };
    handed.extract_if(.., is_of_request).collect()
}

pub(super) fn batch(records: Vec<Record>, recorded_at: Timestamp) -> Batch {
    let records = Records { records };
    Batch {
        first_body: BodySequence(0),
        bodies: 0,
        operations: records.records.len() as u32,
        recorded_at,
        payload: vec![Bytes::from(records.encode_to_vec())],
    }
}

/// Whether any of it needs a record.
fn is_recorded(made: &[Entry]) -> bool {
    made.iter().any(|entry| entry.record().is_some())
}

fn no_room(error: &DiskError) -> Refusal {
    Refusal::new(ReplyCode::ResourceError, format!("the catalog cannot be written: {error}"))
        .hint("free space on the broker's disk")
        .retryable()
}

fn unrecorded(what: &str) -> Refusal {
    Refusal::new(ReplyCode::ResourceError, format!("the catalog cannot record this: {what}"))
}
