//! The shard: commands in, events out, everything in log order.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::batch::BatchBuilder;
use super::bodies::{Bodies, BodyPlace, ColdGroup, Missing};
use super::command::{
    Command, DeleteRefusal, Delivery, Event, GET_HANDLE, GET_NO_ACK_HANDLE, Notice, Origin, Outlet, Piece,
    PublishBatch, QueueState, SettleReply, Settlement,
};
use super::mailbox::Mailbox;
use super::memory::MemoryGauge;
use super::operation::{self, Operation};
use crate::model::{
    BodySequence, DeliveryTag, Durability, Entity, ExchangeName, QueueId, Refusal, ReplyCode, RoutingKey,
    ShardId, Timestamp, message_ends,
};
use crate::queue::{
    AttachRefusal, ConsumerKey, ConsumerLimits, Effect, Effects, Queue, QueueCommand, QueueOptions,
    SEQUENCE_MAX, SequenceRun, UnknownTag,
};
use crate::storage::{LogIndex, RecoveredBatch, ShardLog};

/// A batch of this size is handed to the log even while the log is busy.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Messages that need not be durable wait for the disk after all while so much is on its way to it.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A large batch waits for the log to be idle all the same if more than this would be on its way to the disk.
const HANDED_OVER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// No publish is taken that would make the batch under construction larger: the disk has fallen too far behind.
const GATHERED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What a shard needs to know.
#[derive(Debug, Clone, Copy)]
pub struct ShardOptions {
    /// Its number.
    pub id: ShardId,
    /// Bytes of messages kept in memory if the log can give them back; newest first.
    pub resident_bytes_max: usize,
}

/// Owner of one log and its queues.
pub struct Shard {
    options: ShardOptions,
    log: Option<Box<dyn ShardLog>>,
    /// The log keeps what it is given: operations are written, messages can be read back.
    logged: bool,
    pub(super) queues: HashMap<QueueId, Slot, foldhash::fast::RandomState>,
    pub(super) bodies: Bodies,
    batch: BatchBuilder,
    /// Where it tells how much it holds, and what it told last.
    gauge: Option<(Arc<MemoryGauge>, usize)>,
    /// Who waits for the batch under construction, and for those handed over.
    waiting: Vec<Waiting>,
    handed_over: VecDeque<(LogIndex, Vec<Waiting>)>,
    durable: LogIndex,
    failed: Option<String>,
    /// Queues that may have something to deliver.
    dirty: Vec<QueueId>,
    /// Connections with new events, to be woken when the turn ends.
    touched: Vec<Outlet>,
    effects: Effects,
    now: Timestamp,
    /// Bodies that `task.rs` is to read back.
    to_load: Vec<ColdGroup>,
    notices: Arc<Mailbox<Notice>>,
}

pub(super) struct Slot {
    pub(super) queue: Queue,
    dirty: bool,
    outlets: Vec<(ConsumerKey, Outlet)>,
    /// Effects that wait, in order, for bodies to be read back.
    stalled: VecDeque<Effect>,
    loading: bool,
    /// Single requests that are not answered yet, in order: there are messages, but they wait for bodies or for the
    /// delivery mark.
    gets: VecDeque<(ConsumerKey, Outlet)>,
    /// Consumers whose last deliveries are among the stalled ones.
    cancelled: Vec<(ConsumerKey, Outlet)>,
}

/// Somebody who wants to know when a batch is durable.
enum Waiting {
    Publish { outlet: Outlet, ticket: u64 },
    Settle { outlet: Outlet, key: ConsumerKey, request: u64 },
    Mark { queue: QueueId, mark: u64 },
}

/// The log holds something that this shard cannot make sense of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryFailure {
    /// In which batch.
    pub index: LogIndex,
    /// What, in a sentence.
    pub what: String,
}

impl fmt::Display for RecoveryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {}: {}", self.index, self.what)
    }
}

impl std::error::Error for RecoveryFailure {}

impl Shard {
    /// A shard without queues whose log is not open yet: next come [`Shard::replay`] for each batch of the log, then
    /// [`Shard::start`].
    pub fn new(options: ShardOptions, notices: Arc<Mailbox<Notice>>) -> Self {
        Self {
            options,
            log: None,
            logged: true,
            queues: HashMap::default(),
            bodies: Bodies::default(),
            gauge: None,
            batch: BatchBuilder::new(true, 1),
            waiting: Vec::new(),
            handed_over: VecDeque::new(),
            durable: LogIndex(0),
            failed: None,
            dirty: Vec::new(),
            touched: Vec::new(),
            effects: Vec::new(),
            now: Timestamp::default(),
            to_load: Vec::new(),
            notices,
        }
    }

    /// Tells from now on how many bytes of messages it holds in memory.
    pub fn count_in(&mut self, gauge: Arc<MemoryGauge>) {
        self.gauge = Some((gauge, 0));
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.options.id
    }

    /// Applies one recovered batch.
    ///
    /// # Errors
    /// The batch is not one of a shard of this version; the shard must not be used.
    pub fn replay(&mut self, batch: &RecoveredBatch) -> Result<(), RecoveryFailure> {
        self.replay_payload(batch).map_err(|what| RecoveryFailure { index: batch.index, what })
    }

    fn replay_payload(&mut self, batch: &RecoveredBatch) -> Result<(), String> {
        let (messages, mut operations) = operation::split_payload(&batch.payload)?;
        let mut sequence = self.batch.next_body().0;
        if batch.bodies > 0 {
            let end = batch.first_body.0.checked_add(u64::from(batch.bodies));
            if batch.first_body.0 < sequence || end.is_none_or(|end| end > SEQUENCE_MAX) {
                return Err(format!("it numbers its messages from {}, which cannot be", batch.first_body));
            }
            sequence = batch.first_body.0;
        }
        let first = sequence;
        let mut offset = 0usize;
        while let Some(operation) = operation::decode(&mut operations)? {
            match operation {
                Operation::Publish { exchange, routing_key, bytes, segments } => {
                    let end = offset.checked_add(bytes).filter(|end| *end <= messages.len());
                    let end = end.ok_or("a publish has more bytes than its batch")?;
                    let run = &messages[offset..end];
                    let name = |_| "a name of more than 255 bytes";
                    let origin = Arc::new(Origin {
                        exchange: ExchangeName::new(exchange).map_err(name)?,
                        routing_key: RoutingKey::new(routing_key).map_err(name)?,
                    });
                    let ends = message_ends(run).ok_or("a publish holds bytes that are no messages")?;
                    if sequence - first + ends.len() as u64 > u64::from(batch.bodies) {
                        return Err(format!("it holds more than the {} messages that it says", batch.bodies));
                    }
                    let place = BodyPlace { index: batch.index, offset: offset as u32, len: bytes as u32 };
                    self.replay_publish(sequence, origin, place, &ends, &segments)?;
                    sequence += ends.len() as u64;
                    offset = end;
                }
                Operation::Queue { queue, command } => {
                    check_sequences(&command, sequence)?;
                    let slot = self.queues.entry(queue).or_insert_with(|| Slot::new(RECOVERED));
                    slot.queue.apply(&command, &mut self.effects);
                    self.release_effects();
                }
                Operation::Delete { queue } => self.forget(queue),
            }
        }
        if sequence - first != u64::from(batch.bodies) {
            return Err(format!("it holds {} messages and says {}", sequence - first, batch.bodies));
        }
        self.batch = BatchBuilder::new(true, sequence);
        Ok(())
    }

    fn replay_publish(
        &mut self,
        first: u64,
        origin: Arc<Origin>,
        place: BodyPlace,
        ends: &[u32],
        segments: &[(u64, Vec<QueueId>)],
    ) -> Result<(), String> {
        let mut live = 0;
        let mut done = 0usize;
        for (messages, queues) in segments {
            let end = done.checked_add(*messages as usize).filter(|end| *end <= ends.len());
            let part = &ends[done..end.ok_or("a publish has fewer messages than it says")?];
            let start = if done == 0 { 0 } else { ends[done - 1] };
            for id in queues {
                let slot = self.queues.entry(*id).or_insert_with(|| Slot::new(RECOVERED));
                let sequence = BodySequence(first + done as u64);
                if slot.queue.last_sequence() >= sequence {
                    return Err(format!("message {sequence} goes to queue {id} twice"));
                }
                slot.queue.enqueue(sequence, sizes(start, part));
            }
            live += messages * queues.len() as u64;
            done += *messages as usize;
        }
        if done != ends.len() {
            return Err(format!("a publish holds {} messages and says {done}", ends.len()));
        }
        self.bodies.recover(first, ends.len() as u32, origin, place, live);
        Ok(())
    }

    /// Takes the opened log and the queues that should be here. Queues that were never confirmed to their declarer
    /// may be in the log without being in the catalog: they are dropped, since nobody can have published to them.
    pub fn start(&mut self, log: Box<dyn ShardLog>, queues: &[(QueueId, QueueOptions)]) {
        self.logged = log.progress().durability != Durability::Memory;
        if !self.logged {
            self.batch = BatchBuilder::new(false, 1);
        }
        self.durable = log.progress().durable;
        self.log = Some(log);
        let known: HashMap<QueueId, QueueOptions> = queues.iter().copied().collect();
        let orphans: Vec<QueueId> =
            self.queues.keys().filter(|id| !known.contains_key(id)).copied().collect();
        for queue in orphans {
            tracing::info!(shard = %self.options.id, %queue, "dropping a queue whose declaration was never confirmed");
            self.forget(queue);
        }
        for (queue, options) in queues {
            self.create(*queue, *options);
        }
        let next = self.batch.next_body();
        self.queues.values_mut().for_each(|slot| slot.queue.recovered(next));
    }

    /// Does what came in since the last turn.
    pub fn turn(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        self.now = now;
        for command in commands.drain(..) {
            self.execute(command);
        }
        self.deliver();
        self.hand_over();
        self.note_progress();
        // Marks that became durable may have freed deliveries, which may have to be logged in their turn.
        if !self.dirty.is_empty() {
            self.deliver();
            self.hand_over();
            self.note_progress();
        }
        if self.logged {
            self.bodies.evict(self.options.resident_bytes_max, self.durable);
        }
        if let Some((gauge, told)) = &mut self.gauge {
            let bytes = self.bodies.resident_bytes();
            gauge.change(std::mem::replace(told, bytes), bytes);
        }
        for outlet in self.touched.drain(..) {
            outlet.wake();
        }
    }

    /// Whether there is more to do at once.
    pub(super) fn has_work(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Bodies that have to be read back before deliveries go on.
    pub(super) fn take_loads(&mut self) -> Vec<ColdGroup> {
        std::mem::take(&mut self.to_load)
    }

    pub(super) fn log(&self) -> &dyn ShardLog {
        self.log.as_deref().expect("the log was given at the start")
    }

    /// Everything that was taken in is durable, or never will be.
    pub(super) fn is_settled(&self) -> bool {
        self.failed.is_some() || (self.batch.is_empty() && self.handed_over.is_empty() && self.log().idle())
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Ends all consumers and logs exactly what was delivered, so that the next start knows it.
    pub(super) fn prepare_stop(&mut self, now: Timestamp) {
        self.now = now;
        let queues: Vec<QueueId> = self.queues.keys().copied().collect();
        for id in queues {
            let Some(slot) = self.queues.get_mut(&id) else { continue };
            let consumers: Vec<ConsumerKey> = slot.queue.consumers().collect();
            consumers.into_iter().for_each(|key| slot.queue.detach(key, &mut self.effects));
            slot.outlets.clear();
            self.run_effects(id);
            if let Some(mark) = self.queues.get_mut(&id).and_then(|slot| slot.queue.closing_mark()) {
                self.effects.push(Effect::Append(mark));
                self.run_effects(id);
            }
        }
        self.hand_over();
    }

    fn execute(&mut self, command: Command) {
        if !matches!(command, Command::Publish(_)) {
            self.freeze();
        }
        match command {
            Command::Publish(publish) => self.publish(publish),
            Command::CreateQueue { queue, options } => self.create(queue, options),
            Command::DeleteQueue { queue, if_unused, if_empty, reply } => {
                // A dropped receiver means that the asker is gone; the queue is deleted all the same.
                let _ = reply.send(self.delete(queue, if_unused, if_empty));
            }
            Command::Purge { queue, reply } => {
                let count = match self.queues.get_mut(&queue) {
                    Some(slot) => slot.queue.purge(&mut self.effects),
                    None => 0,
                };
                self.run_effects(queue);
                let _ = reply.send(count);
            }
            Command::Attach { queue, key, limits, outlet } => self.attach(queue, key, limits, outlet),
            Command::Cancel { queue, key } => self.cancel(queue, key),
            Command::Detach { queue, key } => {
                if let Some(slot) = self.queues.get_mut(&queue) {
                    slot.queue.detach(key, &mut self.effects);
                    slot.outlets.retain(|(other, _)| *other != key);
                    slot.gets.retain(|(other, _)| *other != key);
                    slot.cancelled.retain(|(other, _)| *other != key);
                    self.run_effects(queue);
                    self.mark_dirty(queue);
                }
            }
            Command::Settle { queue, key, settlements, reply } => {
                self.settle(queue, key, &settlements, reply)
            }
            Command::Credit { queue, key, add } => {
                if let Some(slot) = self.queues.get_mut(&queue) {
                    slot.queue.add_credit(key, add);
                    self.mark_dirty(queue);
                }
            }
            Command::Written { queue, key, bytes } => {
                if let Some(slot) = self.queues.get_mut(&queue) {
                    slot.queue.written(key, bytes);
                    self.mark_dirty(queue);
                }
            }
            Command::Get { queue, key, outlet } => self.get(queue, key, outlet),
            Command::Inspect { queues, reply } => {
                let _ = reply.send(queues.iter().filter_map(|queue| self.inspect(*queue)).collect());
            }
            Command::Loaded { groups } => self.loaded(groups),
            // The turn looks at the log anyway.
            Command::LogProgress => {}
            Command::Close { .. } => unreachable!("the task keeps this one for itself"),
        }
    }

    fn publish(&mut self, publish: PublishBatch) {
        let PublishBatch { origin, run, segments, ticket, outlet, wait_durable } = publish;
        let taken_bytes = run.bytes().len();
        if let Some(what) = &self.failed {
            let refusal = Box::new(log_failed(self.options.id, what));
            return self.send(&outlet, Event::PublishFailed { ticket, taken_bytes, refusal });
        }
        if self.logged && self.batch.len() + run.bytes().len() > GATHERED_BYTES_MAX {
            let refusal = Box::new(too_far_behind(self.options.id));
            return self.send(&outlet, Event::PublishFailed { ticket, taken_bytes, refusal });
        }
        let (first, offset) = self.batch.publish(&origin, &run, &segments);
        let mut sequence = first;
        let mut live = 0;
        let mut ends = Vec::with_capacity(run.len());
        let mut written = 0;
        for segment in &segments {
            let part = &run.ends()[segment.first as usize..segment.end as usize];
            let start = run.start(segment.first as usize) as u32;
            for id in segment.queues.iter() {
                let Some(slot) = self.queues.get_mut(id) else { continue };
                slot.queue.enqueue(BodySequence(sequence), sizes(start, part));
                live += part.len() as u64;
                if !slot.dirty {
                    slot.dirty = true;
                    self.dirty.push(*id);
                }
            }
            ends.extend(part.iter().map(|end| end - start + written));
            written = ends.last().copied().unwrap_or(0);
            sequence += part.len() as u64;
        }
        let index = self.log().next_index();
        self.bodies.note(first, &origin, BodyPlace { index, offset, len: written }, ends, live);
        if self.logged && (wait_durable || self.log().pending_bytes() > PENDING_BYTES_MAX) {
            self.send_taken(&outlet, taken_bytes);
            self.waiting.push(Waiting::Publish { outlet, ticket });
        } else {
            let durability = if self.logged { Durability::Memory } else { self.log().progress().durability };
            self.send(&outlet, Event::Published { ticket, durability, taken_bytes });
        }
        if self.batch.len() >= BATCH_BYTES_MAX {
            self.hand_over();
        }
    }

    fn create(&mut self, queue: QueueId, options: QueueOptions) {
        let options = QueueOptions { recoverable: self.logged, ..options };
        let slot = self.queues.entry(queue).or_insert_with(|| Slot::new(options));
        slot.queue.set_auto_delete(options.auto_delete);
    }

    fn delete(&mut self, queue: QueueId, if_unused: bool, if_empty: bool) -> Result<u64, DeleteRefusal> {
        let Some(slot) = self.queues.get_mut(&queue) else { return Ok(0) };
        let counts = slot.queue.counts();
        if if_unused && counts.consumers > 0 {
            return Err(DeleteRefusal::InUse);
        }
        if if_empty && counts.ready > 0 {
            return Err(DeleteRefusal::NotEmpty);
        }
        let consumers: Vec<ConsumerKey> = slot.queue.consumers().collect();
        for key in consumers {
            if let Some(outlet) = self.outlet(queue, key)
                && ![GET_HANDLE, GET_NO_ACK_HANDLE].contains(&key.handle)
            {
                self.send(
                    &outlet,
                    Event::ConsumerEnded { queue, key, reason: "its queue was deleted".to_owned() },
                );
            }
        }
        self.batch.delete(queue);
        self.forget(queue);
        Ok(counts.ready)
    }

    /// Drops a queue and all that it holds.
    fn forget(&mut self, queue: QueueId) {
        let Some(mut slot) = self.queues.remove(&queue) else { return };
        for run in slot.queue.contents().runs() {
            self.bodies.release(*run);
        }
        for effect in slot.stalled {
            if let Effect::Release(run) = effect {
                self.bodies.release(run);
            }
        }
        for (key, outlet) in slot.gets {
            self.send(&outlet, Event::Got { key, message: Err(Box::new(queue_deleted())), ready: 0 });
        }
        for (key, outlet) in slot.cancelled {
            self.send(&outlet, Event::Cancelled { key });
        }
    }

    fn attach(&mut self, queue: QueueId, key: ConsumerKey, limits: ConsumerLimits, outlet: Outlet) {
        let result = match self.queues.get_mut(&queue) {
            Some(slot) => slot.queue.attach(key, limits).map_err(attach_refusal),
            None => Err(queue_deleted()),
        };
        if result.is_ok()
            && let Some(slot) = self.queues.get_mut(&queue)
        {
            slot.outlets.retain(|(other, _)| *other != key);
            slot.outlets.push((key, outlet.clone()));
            self.mark_dirty(queue);
        }
        self.send(&outlet, Event::Attached { key, result: result.map_err(Box::new) });
    }

    fn settle(
        &mut self,
        queue: QueueId,
        key: ConsumerKey,
        settlements: &[Settlement],
        reply: Option<SettleReply>,
    ) {
        let mut unknown = None;
        // The messages of a queue that was deleted need no settling.
        if let Some(slot) = self.queues.get_mut(&queue) {
            for Settlement { range, outcome } in settlements {
                let settled = slot.queue.settle_tags(key, *range, *outcome, &mut self.effects);
                unknown = unknown.or(settled.err());
            }
            self.run_effects(queue);
            self.mark_dirty(queue);
        }
        let request = reply.as_ref().map(|reply| reply.request);
        let outlet = reply.map(|reply| reply.outlet).or_else(|| self.outlet(queue, key));
        match (unknown, outlet, request) {
            (Some(UnknownTag(tag)), Some(outlet), request) => {
                let refusal = Box::new(unknown_tag(tag, key));
                self.send(&outlet, Event::SettleRefused { key, request, refusal });
            }
            (None, Some(outlet), Some(request)) => {
                self.waiting.push(Waiting::Settle { outlet, key, request })
            }
            (_, None, _) | (None, _, None) => {}
        }
    }

    fn get(&mut self, queue: QueueId, key: ConsumerKey, outlet: Outlet) {
        let Some(slot) = self.queues.get_mut(&queue) else {
            return self.send(&outlet, Event::Got { key, message: Err(Box::new(queue_deleted())), ready: 0 });
        };
        if !slot.outlets.iter().any(|(other, _)| *other == key) {
            let limits = ConsumerLimits {
                prefetch: 0,
                no_ack: key.handle == GET_NO_ACK_HANDLE,
                exclusive: false,
                credit: Some(0),
                window_bytes: u64::MAX,
                single: true,
            };
            slot.queue.attach(key, limits).expect("single requests are never refused");
            slot.outlets.push((key, outlet.clone()));
        }
        slot.gets.push_back((key, outlet));
        self.serve_gets(queue);
    }

    /// Answers single requests in order, as far as it can be said whether there is a message for them.
    fn serve_gets(&mut self, queue: QueueId) {
        while let Some(slot) = self.queues.get_mut(&queue)
            && let Some((key, outlet)) = slot.gets.pop_front()
        {
            let may_wait = self.failed.is_none();
            if may_wait && !slot.stalled.is_empty() {
                return slot.gets.push_front((key, outlet));
            }
            let taken = slot.stalled.is_empty() && slot.queue.take_one(key, &mut self.effects);
            let ready = slot.queue.counts().ready;
            if !taken && may_wait && slot.queue.waits_for_mark() {
                slot.gets.push_front((key, outlet));
                return self.run_effects(queue);
            }
            self.run_effects(queue);
            if !taken {
                // A broken log holds messages back for ever: that is not the same as having none.
                let message = match &self.failed {
                    Some(what) if ready > 0 => Err(Box::new(log_failed(self.options.id, what))),
                    _ => Ok(None),
                };
                self.send(&outlet, Event::Got { key, message, ready });
            }
        }
    }

    fn cancel(&mut self, queue: QueueId, key: ConsumerKey) {
        let Some(outlet) = self.outlet(queue, key) else { return };
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        slot.queue.cancel(key, &mut self.effects);
        let stalled = !slot.stalled.is_empty();
        if stalled {
            slot.cancelled.push((key, Arc::clone(&outlet)));
        }
        self.run_effects(queue);
        if !stalled {
            self.send(&outlet, Event::Cancelled { key });
        }
    }

    fn inspect(&self, id: QueueId) -> Option<QueueState> {
        let queue = &self.queues.get(&id)?.queue;
        let consumers = queue
            .consumers()
            .filter(|key| ![GET_HANDLE, GET_NO_ACK_HANDLE].contains(&key.handle))
            .filter_map(|key| queue.consumer_state(key).map(|(limits, unsettled)| (key, limits, unsettled)))
            .collect();
        Some(QueueState { queue: id, counts: queue.counts(), consumers })
    }

    fn deliver(&mut self) {
        self.freeze();
        let dirty = std::mem::take(&mut self.dirty);
        for queue in dirty {
            let Some(slot) = self.queues.get_mut(&queue) else { continue };
            slot.dirty = false;
            if !slot.gets.is_empty() {
                self.serve_gets(queue);
            }
            if let Some(slot) = self.queues.get_mut(&queue)
                && slot.stalled.is_empty()
            {
                slot.queue.deliver(&mut self.effects);
                self.run_effects(queue);
            }
        }
    }

    fn freeze(&mut self) {
        if let Some((chunk, offset)) = self.batch.freeze() {
            self.bodies.freeze(&chunk, offset);
        }
    }

    /// Carries out what a queue wants done, in order.
    fn run_effects(&mut self, queue: QueueId) {
        let mut effects = VecDeque::from(std::mem::take(&mut self.effects));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Append(command) => self.append(queue, &command),
                Effect::Unused => {
                    // The broker is gone only when the process ends.
                    let _ = self.notices.push(Notice::QueueUnused { queue });
                }
                Effect::Deliver { .. } | Effect::Release(_) => self.run_or_stall(queue, effect),
            }
            for effect in self.effects.drain(..).rev() {
                effects.push_front(effect);
            }
        }
        self.effects = Vec::from(effects);
    }

    fn append(&mut self, queue: QueueId, command: &QueueCommand) {
        self.batch.command(queue, command);
        if let QueueCommand::DeliveryMark(mark) = command {
            self.waiting.push(Waiting::Mark { queue, mark: *mark });
        }
        if let Some(slot) = self.queues.get_mut(&queue) {
            slot.queue.apply(command, &mut self.effects);
        }
        if matches!(command, QueueCommand::Requeue(_)) {
            self.mark_dirty(queue);
        }
    }

    fn run_or_stall(&mut self, queue: QueueId, effect: Effect) {
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        let rest = if slot.stalled.is_empty() { self.try_run(queue, effect) } else { Some(effect) };
        if let (Some(rest), Some(slot)) = (rest, self.queues.get_mut(&queue)) {
            slot.stalled.push_back(rest);
        }
    }

    /// Delivers or releases; returns what must wait for bodies to be read back, which is then under way. What is in
    /// memory goes out at once: memory need not have room for all of a long run at the same time.
    fn try_run(&mut self, queue: QueueId, effect: Effect) -> Option<Effect> {
        let (consumer, mut run, mut first_tag, redelivered, delivery_count, mut window_bytes) = match effect {
            Effect::Release(run) => {
                self.bodies.release(run);
                return None;
            }
            Effect::Deliver { consumer, run, first_tag, redelivered, delivery_count, window_bytes } => {
                (consumer, run, first_tag, redelivered, delivery_count, window_bytes)
            }
            Effect::Append(_) | Effect::Unused => unreachable!("carried out where they arise"),
        };
        let outlet = self.outlet(queue, consumer)?;
        while run.count > 0 {
            let found = match self.bodies.look_up(run) {
                Ok(found) => found,
                Err(Missing::Cold) => {
                    self.load(queue, run.first);
                    return Some(Effect::Deliver {
                        consumer,
                        run,
                        first_tag,
                        redelivered,
                        delivery_count,
                        window_bytes,
                    });
                }
                Err(Missing::Unknown) => {
                    tracing::error!(shard = %self.options.id, %queue, ?run, "messages without a body");
                    return None;
                }
            };
            let delivery = Delivery {
                queue,
                consumer,
                first_tag,
                count: found.count,
                origin: found.origin,
                pieces: vec![Piece { bytes: found.bytes, count: found.count }],
                redelivered,
                delivery_count,
                window_bytes: std::mem::take(&mut window_bytes),
            };
            first_tag.0 += found.count;
            run = SequenceRun {
                first: BodySequence(run.first.0 + found.count),
                count: run.count - found.count,
            };
            self.send_delivery(&outlet, delivery);
        }
        None
    }

    fn load(&mut self, queue: QueueId, first: BodySequence) {
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        if !slot.loading {
            slot.loading = true;
            self.to_load.extend(self.bodies.cold_from(first.0));
        }
    }

    fn loaded(&mut self, groups: Vec<(u64, Result<bytes::Bytes, String>)>) {
        for (first, result) in groups {
            if let Err(what) = result.and_then(|bytes| self.bodies.install(first, bytes)) {
                // Deliveries of this queue stay where they are: what cannot be read is not skipped.
                tracing::error!(shard = %self.options.id, first, what, "cannot read messages back from the log");
                self.fail(&what);
            }
        }
        if self.failed.is_some() {
            return;
        }
        let stalled: Vec<QueueId> =
            self.queues.iter().filter(|(_, slot)| slot.loading).map(|(queue, _)| *queue).collect();
        for queue in stalled {
            self.resume(queue);
        }
    }

    fn resume(&mut self, queue: QueueId) {
        if let Some(slot) = self.queues.get_mut(&queue) {
            slot.loading = false;
        }
        while let Some(effect) = self.queues.get_mut(&queue).and_then(|slot| slot.stalled.pop_front()) {
            if let Some(rest) = self.try_run(queue, effect) {
                if let Some(slot) = self.queues.get_mut(&queue) {
                    slot.stalled.push_front(rest);
                }
                return;
            }
        }
        let cancelled = self.queues.get_mut(&queue).map(|slot| std::mem::take(&mut slot.cancelled));
        for (key, outlet) in cancelled.into_iter().flatten() {
            self.send(&outlet, Event::Cancelled { key });
        }
        self.mark_dirty(queue);
    }

    fn send_delivery(&mut self, outlet: &Outlet, delivery: Delivery) {
        let key = delivery.consumer;
        if [GET_HANDLE, GET_NO_ACK_HANDLE].contains(&key.handle) {
            let ready = self.queues.get(&delivery.queue).map_or(0, |slot| slot.queue.counts().ready);
            return self.send(outlet, Event::Got { key, message: Ok(Some(delivery)), ready });
        }
        outlet.update(|events| match events.last_mut() {
            Some(Event::Delivery(last)) if last.continues_with(&delivery) => last.join(delivery),
            _ => events.push(Event::Delivery(delivery)),
        });
        self.touch(outlet);
    }

    fn send_taken(&mut self, outlet: &Outlet, more: usize) {
        outlet.update(|events| match events.last_mut() {
            Some(Event::Taken { bytes }) => *bytes += more,
            _ => events.push(Event::Taken { bytes: more }),
        });
        self.touch(outlet);
    }

    fn send(&mut self, outlet: &Outlet, event: Event) {
        outlet.update(|events| events.push(event));
        self.touch(outlet);
    }

    fn touch(&mut self, outlet: &Outlet) {
        if !self.touched.last().is_some_and(|last| Arc::ptr_eq(last, outlet)) {
            self.touched.push(Arc::clone(outlet));
        }
    }

    fn outlet(&self, queue: QueueId, key: ConsumerKey) -> Option<Outlet> {
        let slot = self.queues.get(&queue)?;
        slot.outlets.iter().find(|(other, _)| *other == key).map(|(_, outlet)| Arc::clone(outlet))
    }

    fn mark_dirty(&mut self, queue: QueueId) {
        if let Some(slot) = self.queues.get_mut(&queue)
            && !slot.dirty
        {
            slot.dirty = true;
            self.dirty.push(queue);
        }
    }

    /// Hands the batch to the log if the log has nothing else to do, or if the batch is large.
    fn hand_over(&mut self) {
        self.freeze();
        if self.failed.is_some() {
            // Consumers go on settling: what nobody will write must not pile up.
            drop(self.batch.finish(self.now));
            let waiting = std::mem::take(&mut self.waiting);
            return self.refuse(waiting);
        }
        let large = self.batch.len() >= BATCH_BYTES_MAX
            && self.log().pending_bytes() + self.batch.len() <= HANDED_OVER_BYTES_MAX;
        if (self.batch.is_empty() && self.waiting.is_empty()) || !(self.log().idle() || large) {
            return;
        }
        if self.logged && self.batch.is_empty() {
            // Nothing to write for those who wait: all they wait for was handed over before.
            let waiting = std::mem::take(&mut self.waiting);
            let index = LogIndex(self.log().next_index().0 - 1);
            self.handed_over.push_back((index, waiting));
            return;
        }
        let batch = self.batch.finish(self.now);
        let log = self.log.as_mut().expect("the log was given at the start");
        match log.propose(batch) {
            Ok(index) => self.handed_over.push_back((index, std::mem::take(&mut self.waiting))),
            Err(failure) => self.fail(&failure.to_string()),
        }
    }

    fn note_progress(&mut self) {
        let progress = self.log().progress();
        self.durable = progress.durable;
        while self.handed_over.front().is_some_and(|(index, _)| *index <= progress.durable) {
            let (_, waiting) = self.handed_over.pop_front().expect("there is a front");
            for waiting in waiting {
                match waiting {
                    Waiting::Publish { outlet, ticket } => {
                        self.send(
                            &outlet,
                            Event::Published { ticket, durability: progress.durability, taken_bytes: 0 },
                        );
                    }
                    Waiting::Settle { outlet, key, request } => {
                        self.send(&outlet, Event::Settled { key, request });
                    }
                    Waiting::Mark { queue, mark } => {
                        if let Some(slot) = self.queues.get_mut(&queue) {
                            slot.queue.mark_durable(mark);
                            self.mark_dirty(queue);
                        }
                    }
                }
            }
        }
        // What was durable before the failure is told as such.
        if let Some(failure) = &progress.failed {
            self.fail(&failure.to_string());
        }
    }

    /// The log is of no use any more: everybody who waits is told, and nothing more is taken.
    fn fail(&mut self, what: &str) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(shard = %self.options.id, what, "the shard's log failed; publishes to it are refused from now on");
        self.failed = Some(what.to_owned());
        let _ = self.notices.push(Notice::LogFailed { shard: self.options.id, what: what.to_owned() });
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend(self.handed_over.drain(..).flat_map(|(_, waiting)| waiting));
        self.refuse(waiting);
        // The marks and bodies that these waited for will not come any more.
        let mut cancelled = Vec::new();
        for (queue, slot) in &mut self.queues {
            cancelled.append(&mut slot.cancelled);
            if !slot.gets.is_empty() && !slot.dirty {
                slot.dirty = true;
                self.dirty.push(*queue);
            }
        }
        cancelled.into_iter().for_each(|(key, outlet)| self.send(&outlet, Event::Cancelled { key }));
    }

    fn refuse(&mut self, waiting: Vec<Waiting>) {
        let Some(what) = self.failed.clone() else { return };
        for waiting in waiting {
            let refusal = Box::new(log_failed(self.options.id, &what));
            match waiting {
                Waiting::Publish { outlet, ticket } => {
                    self.send(&outlet, Event::PublishFailed { ticket, taken_bytes: 0, refusal });
                }
                Waiting::Settle { outlet, key, request } => {
                    self.send(&outlet, Event::SettleRefused { key, request: Some(request), refusal });
                }
                // Without a mark the queue gives no message out that it has not given out before.
                Waiting::Mark { .. } => {}
            }
        }
    }

    fn release_effects(&mut self) {
        for effect in self.effects.drain(..) {
            if let Effect::Release(run) = effect {
                self.bodies.release(run);
            }
        }
    }
}

/// What recovery makes a queue before the catalog says more.
const RECOVERED: QueueOptions = QueueOptions { recoverable: true, auto_delete: false };

impl Slot {
    fn new(options: QueueOptions) -> Self {
        Self {
            queue: Queue::new(options),
            dirty: false,
            outlets: Vec::new(),
            stalled: VecDeque::new(),
            loading: false,
            gets: VecDeque::new(),
            cancelled: Vec::new(),
        }
    }
}

impl Delivery {
    fn continues_with(&self, next: &Self) -> bool {
        self.consumer == next.consumer
            && self.queue == next.queue
            && self.first_tag.0 + self.count == next.first_tag.0
            && (self.redelivered, self.delivery_count) == (next.redelivered, next.delivery_count)
            && (Arc::ptr_eq(&self.origin, &next.origin) || self.origin == next.origin)
    }

    fn join(&mut self, next: Self) {
        self.count += next.count;
        self.window_bytes += next.window_bytes;
        self.pieces.extend(next.pieces);
    }
}

/// A command can only be about messages that were there before it.
fn check_sequences(command: &QueueCommand, next: u64) -> Result<(), String> {
    let (QueueCommand::Settle(runs) | QueueCommand::Requeue(runs)) = command else { return Ok(()) };
    match runs.runs().iter().find(|run| run.first.0 + run.count > next) {
        Some(run) => Err(format!(
            "it settles {} messages from {} on, and {next} is the next one",
            run.count, run.first
        )),
        None => Ok(()),
    }
}

/// Sizes of messages that end at `ends`, the first of which begins at `start`.
fn sizes(start: u32, ends: &[u32]) -> impl Iterator<Item = u32> {
    ends.iter().scan(start, |start, end| {
        let size = end - *start;
        *start = *end;
        Some(size)
    })
}

fn attach_refusal(refusal: AttachRefusal) -> Refusal {
    let text = match refusal {
        AttachRefusal::ExclusiveInUse => "another consumer has the queue in exclusive use",
        AttachRefusal::OthersPresent => "exclusive use was asked for, and the queue has consumers",
        AttachRefusal::KeyInUse => {
            let text = "a consumer with this number has messages of this queue that are not settled";
            return Refusal::new(ReplyCode::NotAllowed, text).hint("settle them, or take another number");
        }
    };
    Refusal::new(ReplyCode::AccessRefused, text).retryable()
}

fn queue_deleted() -> Refusal {
    Refusal::new(ReplyCode::NotFound, "the queue was deleted a moment ago").about(Entity::Queue, "")
}

fn unknown_tag(tag: DeliveryTag, key: ConsumerKey) -> Refusal {
    let entity = if key.handle == GET_HANDLE { Entity::Channel } else { Entity::Consumer };
    let name = if key.handle == GET_HANDLE { key.channel } else { key.handle };
    Refusal::new(ReplyCode::PreconditionFailed, format!("unknown delivery tag {tag}"))
        .about(entity, name.to_string())
        .field("ranges", "an unsettled delivery tag", tag.to_string())
}

fn log_failed(shard: ShardId, what: &str) -> Refusal {
    Refusal::new(ReplyCode::ResourceError, format!("the log of shard {shard} failed: {what}"))
        .about(Entity::Queue, "")
        .hint("the operator must look at the broker's disk and restart it")
}

fn too_far_behind(shard: ShardId) -> Refusal {
    Refusal::new(
        ReplyCode::ResourceError,
        format!("the disk of shard {shard} does not keep up with what is published"),
    )
    .about(Entity::Queue, "")
    .hint("wait for confirms before publishing more, or use fewer publishers")
    .retryable()
}
