//! Recovery: the batches of the log, applied one after another, make the shard what it was.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::batch::BatchBuilder;
use super::bodies::BodyPlace;
use super::command::Origin;
use super::operation::{self, Operation};
use super::shard::{Shard, Slot, sizes};
use crate::model::{BodySequence, Durability, ExchangeName, QueueId, RoutingKey, message_ends};
use crate::queue::{Effect, QueueCommand, QueueOptions, SEQUENCE_MAX};
use crate::storage::{LogIndex, RecoveredBatch, ShardLog};

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
    /// Applies one recovered batch.
    ///
    /// # Errors
    /// The batch is not one of a shard of this version; the shard must not be used.
    pub fn replay(&mut self, batch: &RecoveredBatch) -> Result<(), RecoveryFailure> {
        self.replay_payload(batch).map_err(|what| RecoveryFailure { index: batch.index, what })
    }

    pub(super) fn replay_payload(&mut self, batch: &RecoveredBatch) -> Result<(), String> {
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

    pub(super) fn replay_publish(
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

    pub(super) fn release_effects(&mut self) {
        for effect in self.effects.drain(..) {
            if let Effect::Release(run) = effect {
                self.bodies.release(run);
            }
        }
    }
}

/// What recovery makes a queue before the catalog says more.
pub(super) const RECOVERED: QueueOptions = QueueOptions { recoverable: true, auto_delete: false };

/// A command can only be about messages that were there before it.
pub(super) fn check_sequences(command: &QueueCommand, next: u64) -> Result<(), String> {
    let (QueueCommand::Settle(runs) | QueueCommand::Requeue(runs)) = command else { return Ok(()) };
    match runs.runs().iter().find(|run| run.first.0 + run.count > next) {
        Some(run) => Err(format!(
            "it settles {} messages from {} on, and {next} is the next one",
            run.count, run.first
        )),
        None => Ok(()),
    }
}
