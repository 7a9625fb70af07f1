//! The shard: commands in, events out, everything in log order.

use std::collections::HashMap;
use std::sync::Arc;

use super::apply::Part;
use super::bodies::Bodies;
use super::browsing::Browsing;
use super::close_failure::CloseFailure;
use super::command::{Command, Event, Origin, PublishBatch, Segment};
use super::commit_queue::{BATCH_BYTES_MAX, CommitQueue, Waiting};
use super::dead_lettering::DeadLetterNotices;
use super::delays::Delays;
use super::departing::DepartureNotices;
use super::disk_gauge::DiskGauge;
use super::expirations::Expirations;
use super::flow::Flow;
use super::halt::Halt;
use super::housekeeping::Housekeeping;
use super::job::{Done, Job, Outcome as JobOutcome};
use super::leases::Leases;
use super::limiting::Limiting;
use super::mailbox::Mailbox;
use super::memory::MemoryGauge;
use super::notice::Notice;
use super::outlets::Outlets;
use super::progress::log_failed;
use super::reading::Reading;
use super::recounts::Recounts;
use super::retaining::Retaining;
use super::slot::Slot;
use super::times::Times;
use crate::journey::{Journeys, Tracked, Watches};
use crate::message::{Delay, Expiration, MessageRun};
use crate::model::{Durability, Entity, QueueId, Refusal, ReplyCode, ShardId, Timestamp};
use crate::queue::{ConsumerKey, Effect, Effects};
use crate::storage::{LogFailure, LogKeeper, LogRoom, ShardLog};

/// Messages that need not be durable wait for the disk after all while so much is on its way to it.
pub(super) const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A batch takes nothing more after so many milliseconds, however long the disk takes: after a start all messages of one are as
/// old as the first.
const BATCH_MILLIS_MAX: u64 = 1_000;

/// No publish is taken that would make what waits for the disk larger: it has fallen too far behind.
pub(super) const BEHIND_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The same while the disk has no room: settlements, which make room, are to pass. Few publishes come then, since their
/// connections are not read.
pub(super) const BEHIND_BYTES_MAX_WITHOUT_ROOM: usize = 1024 * 1024;

/// What a shard needs to know.
#[derive(Debug, Clone, Copy)]
pub struct ShardOptions {
    /// Its number.
    pub id: ShardId,
    /// Bytes of messages kept in memory if the log can give them back; newest first.
    pub resident_bytes_max: usize,
    /// Length in bytes at which its log begins a new file.
    pub segment_bytes: u64,
    /// A checkpoint is made when so many bytes went into the log since the last one: a start reads little more.
    pub checkpoint_bytes: u64,
    /// Who has a message for so many milliseconds without settling it loses it, where its queue does not say another time; `None`:
    /// nobody does.
    pub lease_millis: Option<u64>,
}

/// Owner of one log and its queues.
pub struct Shard {
    pub(super) options: ShardOptions,
    /// By numbers that the broker gives out, so that nobody chooses where they fall: what is done to all of them is done in
    /// the same order each time.
    pub(super) queues: HashMap<QueueId, Slot, foldhash::fast::FixedState>,
    pub(super) bodies: Bodies,
    /// When messages came.
    pub(super) times: Times,
    /// Which of them expire, and when.
    pub(super) expirations: Expirations,
    pub(super) delays: Delays,
    pub(super) reading: Reading,
    pub(super) browsing: Browsing,
    pub(super) commits: CommitQueue,
    /// Where it tells how much it holds, and what it told last.
    pub(super) gauge: Option<(Arc<MemoryGauge>, usize)>,
    /// Where it tells whether its log has room.
    pub(super) disk: Arc<DiskGauge>,
    pub(super) flow: Flow,
    /// Counts of messages that came back and are not recorded.
    pub(super) recounts: Recounts,
    pub(super) retaining: Retaining,
    pub(super) limiting: Limiting,
    pub(super) leases: Leases,
    /// Queues that turned out to be unable to hand out what is next.
    pub(super) halts: Vec<(QueueId, Halt)>,
    /// Queues that may have something to deliver.
    pub(super) dirty: Vec<QueueId>,
    pub(super) outlets: Outlets,
    pub(super) effects: Effects,
    /// Messages whose story is told, and where it is kept.
    pub(super) watches: Watches,
    pub(super) journeys: Option<Arc<Journeys>>,
    pub(super) now: Timestamp,
    /// Work that blocks, to be done elsewhere.
    pub(super) jobs: Vec<Job>,
    /// What keeps the log small, if it grows.
    pub(super) keeper: Option<Arc<dyn LogKeeper>>,
    pub(super) housekeeping: Housekeeping,
    pub(super) notices: Arc<Mailbox<Notice>>,
    /// Where it tells which queues have dead letters.
    pub(super) dead_letter_notices: Option<DeadLetterNotices>,
    /// Who is told what left queues.
    pub(super) departure_notices: Option<DepartureNotices>,
}

impl Shard {
    /// A shard without queues whose log is not open yet: next comes the log that makes it what it was ([`Machine`](crate::storage::Machine)), then
    /// [`Shard::start`].
    pub fn new(options: ShardOptions, notices: Arc<Mailbox<Notice>>) -> Self {
        Self {
            options,
            queues: HashMap::default(),
            bodies: Bodies::default(),
            times: Times::default(),
            expirations: Expirations::default(),
            delays: Delays::default(),
            reading: Reading::default(),
            browsing: Browsing::default(),
            commits: CommitQueue::new(),
            gauge: None,
            disk: Arc::default(),
            flow: Flow::default(),
            recounts: Recounts::default(),
            retaining: Retaining::default(),
            limiting: Limiting::default(),
            leases: Leases::default(),
            halts: Vec::new(),
            dirty: Vec::new(),
            outlets: Outlets::default(),
            effects: Vec::new(),
            watches: Watches::default(),
            journeys: None,
            now: Timestamp::default(),
            jobs: Vec::new(),
            keeper: None,
            housekeeping: Housekeeping::default(),
            notices,
            dead_letter_notices: None,
            departure_notices: None,
        }
    }

    /// Tells from now on how many bytes of messages it holds in memory.
    pub fn count_in(&mut self, gauge: Arc<MemoryGauge>) {
        self.gauge = Some((gauge, 0));
    }

    /// Tells from now on whether its log has room.
    pub fn watch_disk(&mut self, disk: Arc<DiskGauge>) {
        self.disk = disk;
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.options.id
    }

    /// Does what came in since the last turn.
    pub fn turn(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        self.now = now;
        self.bodies.tick(now);
        if self.commits.batch.is_older_than(BATCH_MILLIS_MAX, now) {
            self.hand_all_over();
        }
        self.expire();
        for command in commands.drain(..) {
            self.execute(command);
        }
        self.end_leases();
        self.deliver();
        self.carry_out_halts();
        self.retain_within_bounds();
        self.keep_within_limits();
        self.hand_over();
        self.note_progress();
        // Marks that became durable may have freed deliveries, which may have to be logged in their turn.
        if self.has_work() {
            self.deliver();
            self.carry_out_halts();
            self.keep_within_limits();
            self.hand_over();
            self.note_progress();
        }
        self.let_publishers_go_on();
        self.begin_reads();
        self.bodies.compact();
        if self.commits.is_logged() {
            self.bodies.evict(self.options.resident_bytes_max, self.commits.durable());
            self.keep_house();
        }
        if let Some((gauge, told)) = &mut self.gauge {
            let bytes = self.bodies.memory_bytes();
            gauge.change(std::mem::replace(told, bytes), bytes);
        }
        self.hand_on_journeys();
        self.outlets.wake();
    }

    /// Whether there is more to do at once.
    pub(super) fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.halts.is_empty()
    }

    /// In how many milliseconds there is something to do even if nothing happens.
    pub(super) fn wakes_in(&self) -> Option<u64> {
        let counts_in = self.recounts.due_in(self.now);
        self.keeps_house_in()
            .into_iter()
            .chain(self.reading.wakes_in())
            .chain(counts_in)
            .chain(self.flow.wakes_in())
            .chain(self.grows_old_in())
            .min()
    }

    /// In how many milliseconds messages are too old, or are for now; a log that failed takes no word of it.
    fn grows_old_in(&self) -> Option<u64> {
        let waits = [
            self.retaining.wakes_in(self.now),
            self.limiting.wakes_in(self.now),
            self.expirations.wakes_in(self.now),
            self.leases.wakes_in(self.now),
            self.delays.wakes_in(self.now),
        ];
        waits.into_iter().flatten().min().filter(|_| self.commits.failure().is_none())
    }

    /// Work that has come up. Whoever runs the shard has it done, anywhere, and gives the shard what comes of it.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    pub(super) fn log(&self) -> &dyn ShardLog {
        self.commits.log()
    }

    /// Everything that was taken in is durable, or never will be.
    pub(super) fn is_settled(&self) -> bool {
        self.commits.is_settled()
    }

    /// A checkpoint is to be made, or being made.
    pub(super) fn is_keeping_house(&self) -> bool {
        self.housekeeping.is_busy()
    }

    pub(super) fn failure(&self) -> Option<&LogFailure> {
        self.commits.failure()
    }

    /// What it cannot put on a disk that is full; `None` if nothing waits for room.
    pub(super) fn stuck(&self) -> Option<CloseFailure> {
        let LogRoom::None(error) = self.commits.room() else { return None };
        Some(CloseFailure::NoRoom { bytes: self.commits.log().pending_bytes(), error: error.clone() })
    }

    /// Ends all consumers and logs exactly what was delivered, so that the next start knows it.
    pub(super) fn prepare_stop(&mut self, now: Timestamp) {
        self.now = now;
        self.housekeeping.haste.note_stopping();
        let queues: Vec<QueueId> = self.queues.keys().copied().collect();
        for id in queues {
            let Some(slot) = self.queues.get_mut(&id) else { continue };
            slot.take_back(None);
            self.effects.extend(slot.attached.stalled.drain(..));
            let consumers: Vec<ConsumerKey> = slot.queue.consumers().collect();
            consumers.into_iter().for_each(|key| slot.queue.detach(key, &mut self.effects));
            slot.attached.outlets.clear();
            self.run_effects(id);
            if let Some(mark) = self.queues.get_mut(&id).and_then(|slot| slot.queue.closing_mark()) {
                self.effects.push(Effect::Append(mark));
                self.run_effects(id);
            }
        }
        self.recounts.hurry();
        self.hand_over();
    }

    pub(super) fn execute(&mut self, command: Command) {
        if !matches!(command, Command::Publish(_)) {
            self.freeze();
        }
        match command {
            Command::Publish(publish) => self.publish(publish),
            Command::CreateQueue { queue, options } => self.create(queue, options),
            Command::Seal { queue, conditions, number } => {
                let result = self.seal(queue, conditions);
                // Without a catalog nothing is deleted.
                let _ = self.notices.push(Notice::Sealed { number, result });
            }
            Command::Unseal { queue } => self.unseal(queue),
            Command::DeleteQueue { queue, reply } => {
                // A dropped receiver means that the asker is gone; the queue is deleted all the same.
                let _ = reply.send(self.delete(queue));
            }
            Command::Purge { queue, reply } => self.purge(queue, reply),
            Command::Attach { queue, taker, limits, shared, outlet } => {
                self.attach(queue, taker, limits, shared, outlet);
            }
            Command::Share { queue, key, shared, outlet } => self.share(queue, key, shared, &outlet),
            Command::LookAgain { queue } => self.mark_dirty(queue),
            Command::Cancel { queue, key } => self.cancel(queue, key),
            Command::Detach { queue, key } => self.detach(queue, key),
            Command::Settle { queue, key, settlements, reply } => {
                self.settle(queue, key, &settlements, reply)
            }
            Command::Extend { queue, key, ranges, reply } => self.extend(queue, key, &ranges, reply),
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
            Command::Get { queue, key, party, outlet } => self.get(queue, key, &party, outlet),
            Command::Browse { look, reply } => self.browse(look, reply),
            Command::TakeOut { queue, sequences, why, reply } => {
                self.take_out(queue, sequences, why, reply);
            }
            Command::Store(store) => self.store(store),
            Command::DismissDeadLetters { queue, why, letters } => {
                self.dismiss_dead_letters(queue, why, letters);
            }
            Command::Inspect { queues, reply } => {
                let _ = reply.send(queues.iter().filter_map(|queue| self.inspect(*queue)).collect());
            }
            Command::Foresee { queues, message, reply } => {
                // Who asked may be gone.
                let _ = reply.send(self.foresee(&queues, &message));
            }
            Command::TellJourneys { reply } => {
                self.hand_on_journeys();
                // Who asked may be gone.
                let _ = reply.send(());
            }
            Command::Done(Done(JobOutcome::ReadBack(loaded))) => self.loaded(loaded),
            Command::Done(Done(JobOutcome::Checkpoint(kept))) => self.kept(*kept),
            // The turn looks at the log anyway.
            Command::LogProgress => {}
            Command::Close { .. } => unreachable!("the task keeps this one for itself"),
        }
    }

    pub(super) fn publish(&mut self, publish: PublishBatch) {
        let PublishBatch {
            origin,
            run,
            segments,
            expirations,
            delays,
            ticket,
            tracked,
            outlet,
            wait_durable,
            wake_when_taken,
        } = publish;
        let taken_bytes = run.bytes().len();
        if let Some(refusal) = self.takes_no(taken_bytes).map(Box::new) {
            if let Some(tracked) = &tracked {
                self.observe_not_taken(tracked, &segments, &refusal);
            }
            return self.outlets.send(&outlet, Event::PublishFailed { ticket, taken_bytes, refusal });
        }
        let segments = self.without_missing_queues(segments);
        let (segments, refused) = self.admit(&run, segments);
        let first = self.commits.batch.next_body();
        if !segments.is_empty() {
            let times = TimesOf { expirations: &expirations, delays: &delays };
            self.take_in(&origin, &run, &segments, times, tracked.as_ref());
        }
        let excess = self.tell_refused(refused, first, tracked.as_ref());
        if self.commits.is_logged()
            && (wait_durable || self.commits.log().pending_bytes() > PENDING_BYTES_MAX)
        {
            self.outlets.tell_taken(&outlet, taken_bytes, wake_when_taken);
            self.commits.wait(Waiting::Publish { outlet, ticket, excess });
        } else {
            let durability = if self.commits.is_logged() {
                Durability::Memory
            } else {
                self.commits.log().progress().durability
            };
            let is_held_up = !self.commits.is_logged() && self.holds_up(&segments, &outlet, taken_bytes);
            let taken_bytes = if is_held_up { 0 } else { taken_bytes };
            self.outlets.send(&outlet, Event::Published { ticket, durability, taken_bytes, excess });
        }
        if self.commits.batch.len() >= BATCH_BYTES_MAX {
            self.hand_over();
        }
    }

    /// Why so many bytes of messages are not taken in, if so.
    pub(super) fn takes_no(&self, bytes: usize) -> Option<Refusal> {
        if let Some(failure) = self.commits.failure() {
            return Some(log_failed(self.options.id, failure));
        }
        let has_room = self.commits.room().is_enough();
        let behind_max = if has_room { BEHIND_BYTES_MAX } else { BEHIND_BYTES_MAX_WITHOUT_ROOM };
        if !self.commits.is_logged() || self.commits.bytes_behind() + bytes <= behind_max {
            return None;
        }
        Some(match has_room {
            true => too_far_behind(self.options.id),
            false => no_room(self.options.id, &self.disk),
        })
    }

    pub(super) fn take_in(
        &mut self,
        origin: &Arc<Origin>,
        run: &MessageRun,
        segments: &[Segment],
        times: TimesOf<'_>,
        tracked: Option<&Tracked>,
    ) {
        let parts = segments.iter().map(|segment| Part {
            start: run.start(segment.first as usize) as u32,
            ends: &run.ends()[segment.first as usize..segment.end as usize],
            queues: &segment.queues,
        });
        self.commits.batch.begin(self.now);
        let (first, offset) = self.commits.batch.publish(origin, run, segments);
        self.times.note(first, self.now, || self.bodies.needed_from());
        let live = self.apply_publish(first, run.bytes(), parts.clone());
        let TimesOf { expirations, delays } = times;
        let later = if delays.is_empty() { Vec::new() } else { self.note_delays(first, segments, delays) };
        if !expirations.is_empty() {
            self.note_expirations(first, segments, expirations, &later);
        }
        if let Some(tracked) = tracked {
            self.observe_taken(tracked, segments, first);
        }
        let index = self.commits.log().next_index();
        self.bodies.note(first, origin, index, offset, ends_of(parts), live);
    }

    /// Queues may have been deleted while messages for them were on their way.
    pub(super) fn without_missing_queues(&self, mut segments: Vec<Segment>) -> Vec<Segment> {
        let is_there = |queue: &QueueId| self.queues.contains_key(queue);
        if segments.iter().all(|segment| segment.queues.iter().all(is_there)) {
            return segments;
        }
        for segment in &mut segments {
            segment.queues = segment.queues.iter().copied().filter(is_there).collect();
        }
        segments.retain(|segment| !segment.queues.is_empty());
        segments
    }
}

/// What messages of a run say of times, in order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TimesOf<'a> {
    pub(super) expirations: &'a [Expiration],
    pub(super) delays: &'a [Delay],
}

/// Where messages end that are copied one behind the other.
fn ends_of<'a>(parts: impl Iterator<Item = Part<'a>>) -> Vec<u32> {
    let mut ends = Vec::new();
    let mut written = 0;
    for Part { start, ends: here, .. } in parts {
        ends.extend(here.iter().map(|end| end - start + written));
        written = ends.last().copied().unwrap_or(0);
    }
    ends
}

pub(super) fn no_room(shard: ShardId, disk: &DiskGauge) -> Refusal {
    let reason = disk.reason().unwrap_or_else(|| "the disk is full".to_owned());
    Refusal::new(ReplyCode::ResourceError, format!("shard {shard} has no room for more messages: {reason}"))
        .about(Entity::Queue, "")
        .hint("consume what is there, or free space on the broker's disk")
        .retryable()
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
