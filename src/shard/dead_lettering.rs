//! Dead letters: a shard tells which of its queues have some, and forgets what was stored elsewhere. Who carries them over is no
//! shard: where they go may be any queue of any shard.

use tokio::sync::mpsc::UnboundedSender;

use super::command::StoreBatch;
use super::commit_queue::{BATCH_BYTES_MAX, Waiting};
use super::shard::{Shard, TimesOf};
use crate::model::{QueueId, ShardId};
use crate::queue::{Departure, SequenceRuns};

/// A queue has dead letters. Told once, until somebody looks at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetters {
    /// Where it lives.
    pub shard: ShardId,
    /// Which.
    pub queue: QueueId,
}

/// Who carries them over.
pub type DeadLetterNotices = UnboundedSender<DeadLetters>;

impl Shard {
    /// Tells from now on which queues have dead letters: first those that have some already.
    pub fn tell_dead_letters(&mut self, dead_letter_notices: DeadLetterNotices) {
        self.dead_letter_notices = Some(dead_letter_notices);
        let mut queues: Vec<QueueId> = self.queues.keys().copied().collect();
        queues.sort_unstable();
        queues.into_iter().for_each(|queue| self.tell_of_dead_letters(queue));
    }

    /// A queue may have dead letters.
    pub(super) fn tell_of_dead_letters(&mut self, queue: QueueId) {
        let Some((dead_letter_notices, slot)) =
            self.dead_letter_notices.as_ref().zip(self.queues.get_mut(&queue))
        else {
            return;
        };
        if slot.queue.has_dead_letters() && !slot.attached.tells_of_dead_letters {
            slot.attached.tells_of_dead_letters = true;
            // It is gone only when the broker is.
            let _ = dead_letter_notices.send(DeadLetters { shard: self.options.id, queue });
        }
    }

    /// Takes messages in and answers when they are durable, as far as this shard makes anything durable.
    pub(super) fn store(&mut self, store: StoreBatch) {
        let StoreBatch { origin, run, segments, reply } = store;
        if let Some(refusal) = self.takes_no(run.bytes().len()) {
            // Whoever asked may be gone.
            let _ = reply.send(Err(Box::new(refusal)));
            return;
        }
        let segments = self.without_missing_queues(segments);
        if !segments.is_empty() {
            self.take_in(&origin, &run, &segments, TimesOf::default(), None);
        }
        match self.commits.is_logged() {
            true => self.commits.wait(Waiting::Store { reply }),
            false => drop(reply.send(Ok(()))),
        }
        if self.commits.batch.len() >= BATCH_BYTES_MAX {
            self.hand_over();
        }
    }

    pub(super) fn dismiss_dead_letters(&mut self, queue: QueueId, why: Departure, letters: SequenceRuns) {
        // After the next start they are dead letters again, and are stored once more.
        if self.commits.failure().is_some() {
            return;
        }
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        slot.queue.dismiss_dead_letters(why, letters, &mut self.effects);
        self.run_effects(queue);
    }
}
