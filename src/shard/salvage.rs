//! A shard made of a log that has lost something: what can be read, without what cannot.

use std::ops::Range;

use bytes::Bytes;

use super::recovery::Before;
use super::shard::Shard;
use crate::model::{BodySequence, QueueId};
use crate::queue::{Departure, QueueCommand, SEQUENCE_MAX, SequenceRuns};
use crate::storage::{OwnerFault, RecoveredBatch};

/// How much a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The queue.
    pub queue: QueueId,
    /// Its messages, delivered or not.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl Shard {
    /// As [`apply`](crate::storage::Machine::apply), where entries before this one may be missing: what it says about messages in them
    /// means nothing.
    ///
    /// # Errors
    /// As there.
    pub fn salvage(&mut self, batch: &RecoveredBatch) -> Result<(), OwnerFault> {
        Ok(self.replay_batch_with(batch, Before::MayLack)?)
    }

    /// Takes messages of these sequences out of all queues, since nobody can read them any more. Returns how many each of
    /// them had.
    pub fn give_up(&mut self, sequences: Range<u64>) -> Vec<(QueueId, u64)> {
        let sequences = sequences.start.min(SEQUENCE_MAX)..sequences.end.min(SEQUENCE_MAX);
        let mut given_up = Vec::new();
        let mut ids: Vec<QueueId> = self.queues.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let mut runs = SequenceRuns::default();
            let live = self.queues.get(&id).map(|slot| slot.queue.live_in(sequences.clone()));
            live.into_iter().flatten().for_each(|(sequence, _)| runs.push(BodySequence(sequence)));
            let messages: u64 = runs.runs().iter().map(|run| run.count).sum();
            if messages > 0 {
                self.apply_command(id, &QueueCommand::Settle(Departure::Purged, runs));
                self.release_effects();
                given_up.push((id, messages));
            }
        }
        given_up
    }

    /// Queues, in the order of their numbers, and what they hold.
    pub fn held(&self) -> Vec<Held> {
        let mut held: Vec<Held> = self
            .queues
            .iter()
            .map(|(queue, slot)| {
                let counts = slot.queue.counts();
                Held { queue: *queue, messages: counts.ready + counts.unsettled, bytes: counts.bytes }
            })
            .collect();
        held.sort_unstable_by_key(|held| held.queue);
        held
    }

    /// Lowest sequence that the next message may have.
    pub fn next_sequence(&self) -> BodySequence {
        self.batch.next_body()
    }

    /// A batch in which nothing happens.
    pub fn nothing() -> Bytes {
        // The length of its operations.
        Bytes::from_static(&[0; 4])
    }
}
