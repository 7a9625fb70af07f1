//! Recovery: the batches of the log, applied one after another, make the shard what it was.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use super::apply::Part;
use super::batch::BatchBuilder;
use super::fault::BatchFault;
use super::housekeeping::{Housekeeping, check_needed};
use super::moments::Moment;
use super::operation::{self, KeptRun, Operation};
use super::read_back::{origin, publish_end};
use super::shard::Shard;
use super::slot::Slot;
use crate::message::message_ends;
use crate::model::{BodySequence, Bug, Overflow, QueueId, planted};
use crate::queue::{
    CountRun, Effect, Limits, Queue, QueueCommand, QueueOptions, SEQUENCE_MAX, SequenceRun, SequenceRuns,
};
use crate::storage::{LogIndex, OpenFailure, RecoveredBatch, ShardLog};

impl Shard {
    /// Applies one recovered batch, or says what is wrong with it; then the shard must not be used.
    pub(super) fn replay_batch(&mut self, batch: &RecoveredBatch) -> Result<(), BatchFault> {
        self.replay_batch_with(batch, Before::Whole)
    }

    /// As [`replay_batch`](Self::replay_batch), of a log in which entries before this one may be missing.
    pub(super) fn replay_batch_with(
        &mut self,
        batch: &RecoveredBatch,
        before: Before,
    ) -> Result<(), BatchFault> {
        let (messages, mut operations) = operation::split_payload(&batch.payload)?;
        let mut sequence = self.commits.batch.next_body().0;
        if batch.bodies > 0 {
            let end = batch.first_body.0.checked_add(u64::from(batch.bodies));
            if batch.first_body.0 < sequence || end.is_none_or(|end| end > SEQUENCE_MAX) {
                return Err(BatchFault::FirstSequence(batch.first_body));
            }
            sequence = batch.first_body.0;
        }
        let first = sequence;
        if batch.bodies > 0 {
            self.times.note(first, batch.recorded_at, || self.bodies.needed_from());
        }
        let mut offset = 0usize;
        while let Some(operation) = operations.next()? {
            match operation {
                Operation::Publish { exchange, routing_key, bytes, segments } => {
                    let end = publish_end(offset, bytes, messages)?;
                    // Names that cannot be would keep the messages from being read back later.
                    origin(exchange, routing_key)?;
                    let ends = message_ends(&messages[offset..end]).ok_or(BatchFault::NoMessages)?;
                    let (holds, says) = (sequence - first + ends.len() as u64, u64::from(batch.bodies));
                    if holds > says {
                        return Err(BatchFault::BatchMessages { holds, says });
                    }
                    self.replay_publish(sequence, batch.index, &messages[offset..end], &ends, &segments)?;
                    sequence += ends.len() as u64;
                    offset = end;
                }
                Operation::Queue { queue, command } => {
                    let command = match before {
                        Before::Whole => command,
                        Before::MayLack => known_part(command, sequence),
                    };
                    check_sequences(&command, sequence)?;
                    self.expect_queue(queue);
                    self.apply_command(queue, &command);
                    self.release_effects();
                }
                Operation::Declare { queue, options } => {
                    self.apply_declare(queue, options);
                    self.release_effects();
                }
                Operation::Delete { queue } => self.apply_delete(queue),
                Operation::Expire { .. } if planted(Bug::ExpirationForgotten) => {}
                Operation::Expire { queues, mut expires } => {
                    check_moments(&mut expires, sequence, before)?;
                    self.apply_expirations(&queues, &expires);
                }
                Operation::Delay { .. } if planted(Bug::DelayForgotten) => {}
                Operation::Delay { queues, mut until } => {
                    check_moments(&mut until, sequence, before)?;
                    self.apply_delays(&queues, &until);
                }
                Operation::Kept { exchange, routing_key, bytes, runs } if before == Before::MayLack => {
                    let end = publish_end(offset, bytes, messages)?;
                    origin(exchange, routing_key)?;
                    let ends = message_ends(&messages[offset..end]).ok_or(BatchFault::NoMessages)?;
                    self.replay_kept(batch, &messages[offset..end], &runs, &ends)?;
                    offset = end;
                    // A merge leaves out messages, and the batch says how many there were.
                    sequence = first + u64::from(batch.bodies);
                }
                // Merged segments lie behind every checkpoint, and are not replayed.
                Operation::Kept { .. } => return Err(BatchFault::LeftFromMerge),
            }
        }
        let (holds, says) = (sequence - first, u64::from(batch.bodies));
        if holds != says {
            return Err(BatchFault::BatchMessages { holds, says });
        }
        self.commits.batch = BatchBuilder::new(true, sequence).follows(batch.recorded_at);
        Ok(())
    }

    /// Messages that a merge kept, to the queues that needed them then.
    fn replay_kept(
        &mut self,
        batch: &RecoveredBatch,
        messages: &[u8],
        runs: &[KeptRun],
        ends: &[u32],
    ) -> Result<(), BatchFault> {
        let mut done = 0usize;
        for run in runs {
            let first = batch.first_body.0.checked_add(run.first).ok_or(BatchFault::KeptRun)?;
            let count = usize::try_from(run.count).map_err(|_| BatchFault::KeptRun)?;
            let here = done.checked_add(count).and_then(|end| ends.get(done..end));
            let here = here.filter(|here| !here.is_empty()).ok_or(BatchFault::KeptRun)?;
            let start = if done == 0 { 0 } else { ends[done - 1] };
            let ends: Vec<u32> = here.iter().map(|end| end - start).collect();
            let here = &messages[start as usize..];
            self.replay_publish(first, batch.index, here, &ends, &[(run.count, run.queues.clone())])?;
            done += count;
        }
        Ok(())
    }

    pub(super) fn replay_publish(
        &mut self,
        first: u64,
        batch: LogIndex,
        messages: &[u8],
        ends: &[u32],
        segments: &[(u64, Vec<QueueId>)],
    ) -> Result<(), BatchFault> {
        let says = segments.iter().fold(0u64, |sum, (messages, _)| sum.saturating_add(*messages));
        let holds = ends.len() as u64;
        if holds != says {
            return Err(BatchFault::PublishMessages { holds, says });
        }
        let mut parts = Vec::with_capacity(segments.len());
        let mut done = 0usize;
        for (messages, queues) in segments {
            let here = &ends[done..done + *messages as usize];
            let start = if done == 0 { 0 } else { ends[done - 1] };
            let sequence = BodySequence(first + done as u64);
            let mut twice = double_of(queues);
            for id in queues {
                let is_old = self.expect_queue(*id).queue.last_sequence() >= sequence;
                twice = twice.or(is_old.then_some(*id));
            }
            if let Some(queue) = twice {
                return Err(BatchFault::SentTwice { sequence, queue });
            }
            parts.push(Part { start, ends: here, queues });
            done += here.len();
        }
        let live = self.apply_publish(first, messages, parts.into_iter());
        let bytes = ends.last().copied().unwrap_or(0);
        self.bodies.recover(first, ends.len() as u64, batch, u64::from(bytes), live);
        Ok(())
    }

    /// The queue of an entry. Versions before did not record what queues are: one that is not there comes with the first
    /// entry that speaks of it, and the catalog says what it is.
    fn expect_queue(&mut self, queue: QueueId) -> &mut Slot {
        self.queues.entry(queue).or_insert_with(|| Slot::undeclared(Queue::new(RECOVERED)))
    }

    /// Takes the opened log and the queues that should be here. Others are dropped: they were deleted a moment before the
    /// broker stopped, or while this shard was out of service. `last_numbered` is the highest number of all queues that
    /// there ever were.
    ///
    /// # Errors
    /// [`OpenFailure::MissingBatches`]: a queue holds messages of batches that the log does not have.
    /// [`OpenFailure::Replay`]: it holds messages of a queue that never was, so something of the data directory is older than
    /// the rest.
    pub fn start(
        &mut self,
        log: Box<dyn ShardLog>,
        queues: &[(QueueId, QueueOptions)],
        last_numbered: QueueId,
    ) -> Result<(), OpenFailure> {
        self.keeper = log.keeper();
        self.housekeeping = Housekeeping::new(self.keeper.as_deref());
        self.commits.start(log);
        let known: HashMap<QueueId, QueueOptions> = queues.iter().copied().collect();
        let orphans: Vec<QueueId> =
            self.queues.keys().filter(|id| !known.contains_key(id)).copied().collect();
        for queue in orphans {
            let counts = self.queues.get(&queue).map(|slot| slot.queue.counts()).unwrap_or_default();
            let messages = counts.ready + counts.held_back;
            if messages > 0 && queue > last_numbered {
                let why = NeverMade { queue, messages, last_numbered }.into();
                return Err(OpenFailure::Replay { index: self.commits.durable(), why });
            }
            if messages > 0 {
                tracing::warn!(
                    shard = %self.options.id, %queue, messages,
                    "dropping the messages of a queue that was deleted before the broker stopped"
                );
            }
            self.commits.batch.delete(queue);
            self.apply_delete(queue);
        }
        for (queue, options) in queues {
            self.create(*queue, *options);
            self.retaining.note(*queue, options.retention);
            self.limiting.note(*queue, options.limits);
        }
        let next = self.commits.batch.next_body();
        self.queues.values_mut().for_each(|slot| slot.queue.recovered(next));
        let segments = self.keeper.as_ref().map(|keeper| keeper.segments());
        segments.map_or(Ok(()), |segments| check_needed(&segments, self.bodies.needed()))
    }

    pub(super) fn release_effects(&mut self) {
        for effect in self.effects.drain(..) {
            if let Effect::Release(run) = effect {
                self.bodies.release(run);
            }
        }
    }
}

/// Messages of a queue that never was, as far as the catalog knows.
#[derive(Debug)]
struct NeverMade {
    queue: QueueId,
    messages: u64,
    last_numbered: QueueId,
}

impl fmt::Display for NeverMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, messages, last_numbered } = self;
        write!(
            f,
            "it holds {messages} messages of queue {queue}, and the catalog has made {last_numbered} queues: the \
             catalog has lost its end, or is older than this log"
        )
    }
}

impl Error for NeverMade {}

/// What there is of a log before an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Everything.
    Whole,
    /// Entries may be missing.
    MayLack,
}

/// What of a command is about messages before `next`: others were in entries that are missing.
fn known_part(command: QueueCommand, next: u64) -> QueueCommand {
    let known = |run: SequenceRun| {
        let count = run.count.min(next.saturating_sub(run.first.0));
        (count > 0).then_some(SequenceRun { count, ..run })
    };
    let runs_of = |runs: SequenceRuns| {
        let mut kept = SequenceRuns::default();
        runs.runs().iter().filter_map(|run| known(*run)).for_each(|run| kept.push_run(run));
        kept
    };
    match command {
        QueueCommand::Settle(departure, runs) => QueueCommand::Settle(departure, runs_of(runs)),
        QueueCommand::DeadLetter(departure, runs) => QueueCommand::DeadLetter(departure, runs_of(runs)),
        QueueCommand::Requeue(runs) => QueueCommand::Requeue(runs_of(runs)),
        QueueCommand::Counts(counts) => QueueCommand::Counts(
            counts
                .into_iter()
                .filter_map(|counts| Some(CountRun { run: known(counts.run)?, ..counts }))
                .collect(),
        ),
        QueueCommand::DeliveryMark(mark) => QueueCommand::DeliveryMark(mark),
        QueueCommand::Forget(sequence) => QueueCommand::Forget(sequence.min(next)),
    }
}

/// What recovery makes a queue before the catalog says more.
pub(super) const RECOVERED: QueueOptions = QueueOptions {
    logged: true,
    auto_delete: false,
    retention: None,
    limits: Limits { messages: None, bytes: None, ttl_millis: None, overflow: Overflow::DropHead },
    dead_letters: false,
    single_active: false,
    delivery_limit: None,
    max_priority: None,
    lease_millis: None,
    retry: None,
};

/// A queue that is there twice.
fn double_of(queues: &[QueueId]) -> Option<QueueId> {
    if queues.len() < 2 {
        return None;
    }
    let mut sorted = queues.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// A command can only be about messages that were there before it.
pub(super) fn check_sequences(command: &QueueCommand, next: u64) -> Result<(), BatchFault> {
    let beyond = |run: &&SequenceRun| run.first.0 + run.count > next;
    let found = match command {
        QueueCommand::Settle(_, runs) | QueueCommand::DeadLetter(_, runs) | QueueCommand::Requeue(runs) => {
            runs.runs().iter().find(beyond)
        }
        QueueCommand::Counts(counts) => counts.iter().map(|counts| &counts.run).find(beyond),
        QueueCommand::DeliveryMark(_) | QueueCommand::Forget(_) => None,
    };
    match found {
        Some(run) => Err(BatchFault::AheadOfItself { run: *run, next }),
        None => Ok(()),
    }
}

/// Times are told of messages that came, or some of them may be lacking, and are left out.
fn check_moments(moments: &mut Vec<Moment>, next: u64, before: Before) -> Result<(), BatchFault> {
    if before == Before::MayLack {
        moments.retain(|moment| moment.sequence < next);
    }
    match moments.last().filter(|last| last.sequence >= next) {
        Some(ahead) => Err(BatchFault::TimeAhead { sequence: ahead.sequence, next }),
        None => Ok(()),
    }
}
