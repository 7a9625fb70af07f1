//! Batches on their way to the disk, and who waits for them.

use tokio::sync::oneshot;

use super::command::{Event, Notice, Outlet};
use super::halt::Halt;
use super::recounts::Recounts;
use super::shard::Shard;
use crate::model::{Entity, QueueId, Refusal, ReplyCode, ShardId};
use crate::queue::ConsumerKey;
use crate::storage::{LogFailure, LogIndex, LogRoom};

/// While the log is busy, batches are handed over at the end of each turn as long as fewer than this are on their way.
/// The log's writer finds them when it comes back from the disk and goes on at once, without asking for more; beyond
/// this, larger batches cost less.
const BATCHES_AHEAD_MAX: usize = 16;

/// A batch of this size is handed to the log even if many are on their way.
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Somebody who wants to know when a batch is durable.
pub(super) enum Waiting {
    Publish { outlet: Outlet, ticket: u64 },
    Settle { outlet: Outlet, key: ConsumerKey, request: u64 },
    Purge { reply: oneshot::Sender<Result<u64, Box<Refusal>>>, count: u64 },
    Mark { queue: QueueId, mark: u64 },
}

impl Shard {
    /// Hands the batch to the log, unless enough is on its way and the batch is not large.
    pub(super) fn hand_over(&mut self) {
        self.freeze();
        let worth_it = self.handed_over.len() < BATCHES_AHEAD_MAX || self.batch.len() >= BATCH_BYTES_MAX;
        if self.failed.is_some() || worth_it || self.log().idle() {
            self.hand_all_over();
        }
    }

    /// Hands the batch to the log, if there is anything to do for it.
    pub(super) fn hand_all_over(&mut self) {
        self.freeze();
        if self.failed.is_some() {
            // Consumers go on settling: what nobody will write must not pile up.
            drop(self.batch.finish(self.now));
            self.recounts = Recounts::default();
            let waiting = std::mem::take(&mut self.waiting);
            return self.refuse(waiting);
        }
        self.record_counts();
        if self.batch.is_empty() && self.waiting.is_empty() {
            return;
        }
        if self.logged && self.batch.is_empty() {
            // Nothing to write for those who wait: all they wait for was handed over before.
            let waiting = std::mem::take(&mut self.waiting);
            let index = LogIndex(self.log().next_index().0 - 1);
            self.handed_over.push_back((index, waiting));
            return;
        }
        self.hand_over_batch();
    }

    /// Hands the batch to the log, even if it is empty.
    pub(super) fn hand_over_batch(&mut self) {
        let batch = self.batch.finish(self.now);
        self.housekeeping.note_written(batch.payload_bytes());
        let log = self.log.as_mut().expect("the log was given at the start");
        match log.propose(batch) {
            Ok(index) => self.handed_over.push_back((index, std::mem::take(&mut self.waiting))),
            Err(failure) => self.fail(&failure),
        }
    }

    pub(super) fn note_progress(&mut self) {
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
                    // Whoever asked may be gone.
                    Waiting::Purge { reply, count } => drop(reply.send(Ok(count))),
                    Waiting::Mark { queue, mark } => {
                        if let Some(slot) = self.queues.get_mut(&queue) {
                            slot.queue.mark_durable(mark);
                            self.mark_dirty(queue);
                        }
                    }
                }
            }
        }
        if progress.room != self.room && self.failed.is_none() {
            self.disk.note_log(self.options.id, &progress.room);
            self.room = progress.room;
        }
        // What was durable before the failure is told as such.
        if let Some(failure) = &progress.failed {
            self.fail(failure);
        }
    }

    /// The log is of no use any more: everybody who waits is told, and nothing more is taken.
    pub(super) fn fail(&mut self, failure: &LogFailure) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(shard = %self.options.id, what = %failure, "the shard's log failed; publishes to it are refused from now on");
        self.failed = Some(failure.clone());
        // Nobody waits for room on a log that takes nothing any more.
        self.room = LogRoom::Enough;
        self.disk.note_log(self.options.id, &self.room);
        let _ = self.notices.push(Notice::LogFailed { shard: self.options.id, what: failure.to_string() });
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend(self.handed_over.drain(..).flat_map(|(_, waiting)| waiting));
        self.refuse(waiting);
        // Without marks nothing can be handed out that never was.
        self.halts = self.queues.keys().map(|queue| (*queue, Halt::LogFailed(failure.clone()))).collect();
    }

    pub(super) fn refuse(&mut self, waiting: Vec<Waiting>) {
        let Some(failure) = self.failed.clone() else { return };
        for waiting in waiting {
            let refusal = Box::new(log_failed(self.options.id, &failure));
            match waiting {
                Waiting::Publish { outlet, ticket } => {
                    self.send(&outlet, Event::PublishFailed { ticket, taken_bytes: 0, refusal });
                }
                Waiting::Settle { outlet, key, request } => {
                    self.send(&outlet, Event::SettleRefused { key, request: Some(request), refusal });
                }
                Waiting::Purge { reply, .. } => drop(reply.send(Err(refusal))),
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
