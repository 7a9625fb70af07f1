//! Queues that can hand out nothing: a message that is next cannot be read, or the log takes no marks any more.
//!
//! Such a queue ends its consumers and says why; what they hold they can still settle. What they were to get and did not
//! goes back to its place as if it had never been on its way. Messages are taken in and kept as before, and other queues
//! do not notice.

use super::command::{Event, Outlet};
use super::progress::log_failed;
use super::read_back::NotRead;
use super::shard::Shard;
use crate::model::{Entity, QueueId, Refusal, ReplyCode};
use crate::queue::{ConsumerKey, Effect};
use crate::storage::{DiskError, LogFailure};

/// Why a queue hands out nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// The disk did not give back what is next. The next consumer has it tried again.
    Unread(DiskError),
    /// What the disk has in place of what is next is not what was written.
    Damaged(NotRead),
    /// The shard's log failed.
    LogFailed(LogFailure),
}

impl Shard {
    /// Ends the consumers of queues that turned out to be unable to go on.
    pub(super) fn carry_out_halts(&mut self) {
        for (queue, halt) in std::mem::take(&mut self.halts) {
            self.halt(queue, halt);
        }
    }

    /// What a consumer is told that comes to a queue which hands out nothing; `None` if it does, or may.
    pub(super) fn refuses_consumers(&mut self, queue: QueueId) -> Option<Refusal> {
        let halted = &mut self.queues.get_mut(&queue)?.attached.halted;
        if matches!(halted, Some(Halt::Unread(_))) {
            *halted = None;
        }
        let refusal = self.queues.get(&queue)?.attached.halted.as_ref().map(|halt| self.why(halt));
        refusal.or_else(|| self.commits.failure().map(|failure| log_failed(self.options.id, failure)))
    }

    fn halt(&mut self, queue: QueueId, halt: Halt) {
        let refusal = self.why(&halt);
        self.note_reader(queue, None);
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        slot.attached.loading = false;
        slot.attached.halted = Some(halt);
        let readers = slot.take_back(None);
        // What is left does not wait for messages.
        self.effects.extend(slot.attached.stalled.drain(..));
        self.run_effects(queue);
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        let cancelled = std::mem::take(&mut slot.attached.cancelled);
        let ended = slot.end_consumers(&mut self.effects);
        let is_sharing = slot.is_sharing();
        // It was ended, not left: a queue that goes with its last consumer keeps what it holds.
        self.effects.retain(|effect| *effect != Effect::Unused);
        let ready = slot.queue.counts().ready;
        let mut gets: Vec<(ConsumerKey, Outlet)> = Vec::new();
        for key in readers {
            gets.extend(slot.attached.outlets.iter().find(|(other, _)| *other == key).cloned());
        }
        gets.extend(slot.attached.gets.drain(..));
        for (key, outlet) in gets {
            let message = Err(Box::new(refusal.clone()));
            self.outlets.send(&outlet, Event::Got { key, message, ready });
        }
        for (key, outlet) in ended {
            self.outlets.send(&outlet, Event::ConsumerEnded { queue, key, reason: refusal.text.clone() });
        }
        for (key, outlet) in cancelled {
            self.outlets.send(&outlet, Event::Cancelled { key });
        }
        if is_sharing {
            // What was taken back makes room for others.
            self.mark_dirty(queue);
        }
    }

    pub(super) fn why(&self, halt: &Halt) -> Refusal {
        let shard = self.options.id;
        match halt {
            Halt::LogFailed(failure) => log_failed(shard, failure),
            Halt::Unread(error) => Refusal::new(
                ReplyCode::ResourceError,
                format!(
                    "a message of the queue could not be read back from the log of shard {shard}: {error}"
                ),
            )
            .about(Entity::Queue, "")
            .hint("try again; if it stays so, the operator must look at the broker's disk")
            .retryable(),
            Halt::Damaged(why) => Refusal::new(
                ReplyCode::ResourceError,
                format!("a message of the queue is damaged in the log of shard {shard}: {why}"),
            )
            .about(Entity::Queue, "")
            .hint("purge or delete the queue to give up what it holds; other queues work"),
        }
    }
}
