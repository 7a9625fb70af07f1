//! The shard and its log: when batches are handed over, and what those are told who wait for them.

use super::command::Event;
use super::commit_queue::Waiting;
use super::halt::Halt;
use super::notice::Notice;
use super::recounts::Recounts;
use super::shard::Shard;
use crate::model::{Durability, Entity, Refusal, ReplyCode, ShardId};
use crate::storage::LogFailure;

impl Shard {
    /// Hands the batch to the log, unless enough is on its way and the batch is not large.
    pub(super) fn hand_over(&mut self) {
        self.freeze();
        if self.commits.is_worth_a_write() {
            self.hand_all_over();
        }
    }

    /// Hands the batch to the log, if there is anything to do for it.
    pub(super) fn hand_all_over(&mut self) {
        self.freeze();
        if self.commits.failure().is_some() {
            // Consumers go on settling: what nobody will write must not pile up.
            let waiting = self.commits.drop_batch(self.now);
            self.recounts = Recounts::default();
            return self.refuse(waiting);
        }
        self.record_counts();
        if self.commits.has_nothing_new() {
            return;
        }
        if self.commits.is_logged() && self.commits.batch.is_empty() {
            self.commits.wait_for_handed_over();
            return;
        }
        self.hand_over_batch();
    }

    /// Hands the batch to the log, even if it is empty.
    pub(super) fn hand_over_batch(&mut self) {
        match self.commits.propose(self.now) {
            Ok(bytes) => self.housekeeping.note_written(bytes),
            Err(failure) => self.fail(&failure),
        }
    }

    pub(super) fn note_progress(&mut self) {
        let progress = self.commits.look();
        while let Some(waiting) = self.commits.take_durable() {
            for waiting in waiting {
                self.tell_durable(waiting, progress.durability);
            }
        }
        if self.commits.failure().is_none() && self.commits.note_room(&progress.room) {
            self.disk.note_log(self.options.id, &progress.room);
        }
        // What was durable before the failure is told as such.
        if let Some(failure) = &progress.failed {
            self.fail(failure);
        }
    }

    fn tell_durable(&mut self, waiting: Waiting, durability: Durability) {
        match waiting {
            Waiting::Publish { outlet, ticket, excess } => {
                self.outlets.send(&outlet, Event::Published { ticket, durability, taken_bytes: 0, excess });
            }
            Waiting::Settle { outlet, key, request } => {
                self.outlets.send(&outlet, Event::Settled { key, request });
            }
            // Whoever asked may be gone.
            Waiting::Purge { reply, count } => drop(reply.send(Ok(count))),
            Waiting::TakeOut { reply, others } => drop(reply.send(Ok(others))),
            Waiting::Store { reply } => drop(reply.send(Ok(()))),
            Waiting::Mark { queue, mark } => {
                if let Some(slot) = self.queues.get_mut(&queue) {
                    slot.queue.mark_durable(mark);
                    self.mark_dirty(queue);
                }
            }
        }
    }

    /// The log is of no use any more: everybody who waits is told, and nothing more is taken.
    pub(super) fn fail(&mut self, failure: &LogFailure) {
        let Some(waiting) = self.commits.fail(failure) else { return };
        tracing::error!(shard = %self.options.id, what = %failure, "the shard's log failed; publishes to it are refused from now on");
        self.disk.note_log(self.options.id, self.commits.room());
        let _ = self.notices.push(Notice::LogFailed { shard: self.options.id, what: failure.to_string() });
        self.refuse(waiting);
        // Without marks nothing can be handed out that never was.
        self.halts = self.queues.keys().map(|queue| (*queue, Halt::LogFailed(failure.clone()))).collect();
    }

    fn refuse(&mut self, waiting: Vec<Waiting>) {
        let Some(failure) = self.commits.failure().cloned() else { return };
        for waiting in waiting {
            let refusal = Box::new(log_failed(self.options.id, &failure));
            match waiting {
                Waiting::Publish { outlet, ticket, .. } => {
                    self.outlets.send(&outlet, Event::PublishFailed { ticket, taken_bytes: 0, refusal });
                }
                Waiting::Settle { outlet, key, request } => {
                    let request = Some(request);
                    self.outlets.send(&outlet, Event::SettleRefused { key, request, refusal });
                }
                Waiting::Purge { reply, .. } => drop(reply.send(Err(refusal))),
                Waiting::TakeOut { reply, .. } => drop(reply.send(Err(refusal))),
                Waiting::Store { reply } => drop(reply.send(Err(refusal))),
                // Its queue ends its consumers.
                Waiting::Mark { .. } => {}
            }
        }
    }
}

pub(super) fn log_failed(shard: ShardId, failure: &LogFailure) -> Refusal {
    Refusal::new(ReplyCode::ResourceError, format!("the log of shard {shard} failed: {failure}"))
        .about(Entity::Queue, "")
        .hint("the operator must look at the broker's disk and restart it")
}
