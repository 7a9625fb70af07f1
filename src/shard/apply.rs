//! What changes what a shard holds. The same code whether an entry was made a moment ago or is read from the log, so a shard
//! after a restart is what it was before by construction.
//!
//! Entries speak of queues that are there: the shard makes no others, and recovery refuses the rest. Who consumes, what is on
//! its way, and what is in memory of a message is no part of it.

use bytes::Bytes;

use super::moments::Moment;
use super::shard::Shard;
use super::slot::Slot;
use crate::message::priority_of;
use crate::model::{BodySequence, QueueId};
use crate::queue::{Queue, QueueCommand, QueueOptions};
use crate::storage::{Machine, OwnerFault, RecoveredBatch};

/// What a shard is to its log. A batch that is read back is checked and taken apart (`recovery.rs`), and then goes the way
/// that one goes which is being made: through what follows below.
impl Machine for Shard {
    fn restore(&mut self, state: Bytes) -> Result<(), OwnerFault> {
        Ok(self.read_state(&state)?)
    }

    fn apply(&mut self, batch: RecoveredBatch) -> Result<(), OwnerFault> {
        Ok(self.replay_batch(&batch)?)
    }

    /// Everything that it knows must have been handed to the log.
    fn snapshot(&self) -> Vec<Bytes> {
        debug_assert!(self.commits.batch.is_empty(), "what no batch says is in no snapshot");
        self.state()
    }
}

/// Messages of a publish that follow each other and go to the same queues.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    /// Where the first one begins, and where each one ends, by the same count.
    pub(super) start: u32,
    pub(super) ends: &'a [u32],
    pub(super) queues: &'a [QueueId],
}

impl Shard {
    /// Messages come, the first of which gets this sequence; their bytes are counted as in the parts. Returns queues times
    /// messages.
    pub(super) fn apply_publish<'a>(
        &mut self,
        first: u64,
        messages: &[u8],
        parts: impl Iterator<Item = Part<'a>>,
    ) -> u64 {
        let mut sequence = first;
        let mut live = 0;
        for Part { start, ends, queues } in parts {
            for id in queues {
                let slot = self.queues.get_mut(id).expect("entries speak of queues that are there");
                match slot.queue.options().max_priority {
                    None => slot.queue.enqueue(BodySequence(sequence), sizes(start, ends)),
                    Some(_) => enqueue_by_priority(&mut slot.queue, sequence, messages, start, ends),
                }
                live += ends.len() as u64;
                if !slot.dirty {
                    slot.dirty = true;
                    self.dirty.push(*id);
                }
            }
            sequence += ends.len() as u64;
        }
        live
    }

    /// Something becomes of messages of a queue; what follows from it is added to the effects.
    pub(super) fn apply_command(&mut self, queue: QueueId, command: &QueueCommand) {
        if let Some(slot) = self.queues.get_mut(&queue) {
            slot.queue.apply(command, &mut self.effects);
        }
        if let QueueCommand::Settle(_, runs) | QueueCommand::DeadLetter(_, runs) = command {
            self.expirations.left(queue, runs);
            if let Some(slot) = self.queues.get(&queue).filter(|_| !self.delays.is_empty()) {
                self.delays.left(queue, &slot.queue);
            }
        }
    }

    /// Messages of these queues expire; those that a queue does not hold are left out.
    pub(super) fn apply_expirations(&mut self, queues: &[QueueId], expires: &[Moment]) {
        for queue in queues {
            if let Some(slot) = self.queues.get(queue) {
                self.expirations.add(*queue, &slot.queue, expires);
            }
        }
    }

    /// Those of these messages that wait in these queues are held back.
    pub(super) fn apply_delays(&mut self, queues: &[QueueId], until: &[Moment]) {
        for queue in queues {
            let Some(slot) = self.queues.get_mut(queue) else { continue };
            for moment in until {
                let anew = slot.queue.holds_back(moment.sequence);
                if anew || slot.queue.hold([moment.sequence]) > 0 {
                    self.delays.add(*queue, *moment, anew);
                }
            }
        }
    }

    /// A queue is there, and is this.
    pub(super) fn apply_declare(&mut self, queue: QueueId, options: QueueOptions) {
        let slot = self.queues.entry(queue).or_insert_with(|| Slot::new(options));
        slot.queue.set_options(options, &mut self.effects);
        if options.limits.ttl_millis.is_some() {
            self.times.be_fine();
        }
        slot.declared = true;
    }

    /// A queue goes, with all that it holds.
    pub(super) fn apply_delete(&mut self, queue: QueueId) {
        self.forget(queue);
    }
}

/// Messages join a queue that knows priorities, which are theirs.
fn enqueue_by_priority(queue: &mut Queue, first: u64, messages: &[u8], start: u32, ends: &[u32]) {
    let starts = std::iter::once(start).chain(ends.iter().copied());
    let priorities =
        starts.zip(ends).map(|(start, end)| priority_of(&messages[start as usize..*end as usize]));
    let priorities: Vec<u8> = priorities.collect();
    let (mut start, mut done) = (start, 0);
    for same in priorities.chunk_by(u8::eq) {
        let ends = &ends[done..done + same.len()];
        queue.enqueue_prior(same[0], BodySequence(first + done as u64), sizes(start, ends));
        done += same.len();
        start = ends[same.len() - 1];
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
