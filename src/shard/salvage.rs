//! A shard made of a log that has lost something: what can be read, without what cannot.

use std::ops::Range;

use bytes::Bytes;

use super::bodies::{Batches, Bodies, Extent, Held as HeldBytes};
use super::recovery::Before;
use super::shard::Shard;
use crate::model::{BodySequence, QueueId};
use crate::queue::{Departure, QueueCommand, SEQUENCE_MAX, SequenceRuns};
use crate::storage::{LogIndex, OwnerFault, RecoveredBatch};

/// How much a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The queue.
    pub queue: QueueId,
    /// Its messages, delivered or not, and its dead letters.
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

    /// Entries are missing before the next one: what comes is not read back together with what was there.
    pub fn note_gap(&mut self) {
        self.bodies.close();
    }

    /// Takes messages of these sequences, which were in these entries, out of all queues, since nobody can read them any
    /// more. Returns how many each of the queues had.
    ///
    /// # Errors
    /// If the state does not fit together then; it must not be used.
    pub fn give_up(
        &mut self,
        sequences: Range<u64>,
        entries: Range<u64>,
    ) -> Result<Vec<(QueueId, u64)>, OwnerFault> {
        let sequences = sequences.start.min(SEQUENCE_MAX)..sequences.end.min(SEQUENCE_MAX);
        let mut given_up = Vec::new();
        let mut ids: Vec<QueueId> = self.queues.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let mut runs = SequenceRuns::default();
            let live = self.queues.get(&id).map(|slot| slot.queue.live_in(sequences.clone()));
            live.into_iter().flatten().for_each(|(sequence, _)| runs.push(BodySequence(sequence)));
            let mut letters = SequenceRuns::default();
            if let Some(slot) = self.queues.get(&id) {
                for why in slot.queue.dead_letter_reasons() {
                    let lost = slot.queue.dead_letters_in(why, sequences.clone());
                    lost.for_each(|letter| letters.push(BodySequence(letter.sequence)));
                }
            }
            let count = |runs: &SequenceRuns| runs.runs().iter().map(|run| run.count).sum::<u64>();
            let messages = count(&runs) + count(&letters);
            if messages > 0 {
                self.apply_command(id, &QueueCommand::Settle(Departure::Purged, runs));
                self.apply_command(id, &QueueCommand::Settle(Departure::DeadLettered, letters));
                self.release_effects();
                given_up.push((id, messages));
            }
        }
        self.bodies.cut_out(sequences, entries);
        // Who needs what is counted anew.
        let state = self.state().concat();
        self.read_state(&state)?;
        Ok(given_up)
    }

    /// Queues, in the order of their numbers, and what they hold.
    pub fn held(&self) -> Vec<Held> {
        let mut held: Vec<Held> = self
            .queues
            .iter()
            .map(|(queue, slot)| {
                let counts = slot.queue.counts();
                Held {
                    queue: *queue,
                    messages: counts.ready + counts.held_back + counts.unsettled + counts.dead_letters,
                    bytes: counts.bytes + counts.dead_letters_bytes,
                }
            })
            .collect();
        held.sort_unstable_by_key(|held| held.queue);
        held
    }

    /// Lowest sequence that the next message may have.
    pub fn next_sequence(&self) -> BodySequence {
        self.commits.batch.next_body()
    }

    /// A batch in which nothing happens.
    pub fn nothing() -> Bytes {
        // The length of its operations.
        Bytes::from_static(&[0; 4])
    }
}

impl Bodies {
    /// Messages are read back with others of their extent. Those on both sides of what cannot be read get extents of their
    /// own. How many need them must be counted anew.
    fn cut_out(&mut self, sequences: Range<u64>, entries: Range<u64>) {
        let hurt = |extent: &Extent| {
            extent.live > 0 && extent.batches.first.0 < entries.end && extent.batches.last.0 >= entries.start
        };
        let mut whole = std::collections::VecDeque::with_capacity(self.extents.len());
        for extent in self.extents.drain(..) {
            if entries.is_empty() || !hurt(&extent) {
                whole.push_back(extent);
                continue;
            }
            let Extent { first, end, batches, bytes, all, .. } = extent;
            let mut push = |first: u64, end: u64, batches: Batches| {
                if first < end && batches.first <= batches.last {
                    whole.push_back(Extent {
                        first,
                        end,
                        batches,
                        bytes,
                        all,
                        live: 1,
                        held: HeldBytes::Nothing,
                    });
                }
            };
            if batches.first.0 < entries.start {
                let last = LogIndex(entries.start - 1);
                push(first, end.min(sequences.start), Batches { first: batches.first, last });
            }
            let next = LogIndex(entries.end);
            push(
                first.max(sequences.end),
                end,
                Batches { first: next.max(batches.first), last: batches.last },
            );
        }
        self.extents = whole;
    }
}
