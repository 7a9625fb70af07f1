//! What was taken in and is not durable: the batch under construction, batches on their way to the disk, and who waits for which.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::batch::BatchBuilder;
use super::command::Outlet;
use super::refusing::Excess;
use crate::model::{Durability, QueueId, Refusal, Timestamp};
use crate::queue::ConsumerKey;
use crate::storage::{LogFailure, LogIndex, LogRoom, Progress, ShardLog};

/// While the log is busy, batches are handed over at the end of each turn as long as fewer than this are on their way.
/// The log's writer finds them when it comes back from the disk and goes on at once, without asking for more; beyond
/// this, larger batches cost less.
const BATCHES_AHEAD_MAX: usize = 16;

/// A batch of this size is handed to the log even if many are on their way.
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Somebody who wants to know when a batch is durable.
pub(super) enum Waiting {
    Publish { outlet: Outlet, ticket: u64, excess: Box<[Excess]> },
    Settle { outlet: Outlet, key: ConsumerKey, request: u64 },
    Purge { reply: oneshot::Sender<Result<u64, Box<Refusal>>>, count: u64 },
    TakeOut { reply: oneshot::Sender<Result<Vec<u64>, Box<Refusal>>>, others: Vec<u64> },
    Store { reply: oneshot::Sender<Result<(), Box<Refusal>>> },
    Mark { queue: QueueId, mark: u64 },
}

pub(super) struct CommitQueue {
    /// There from the start of the shard on.
    log: Option<Box<dyn ShardLog>>,
    /// The log keeps what it is given: operations are written, messages can be read back.
    is_logged: bool,
    pub(super) batch: BatchBuilder,
    /// Who waits for the batch under construction, and for those handed over.
    waiting: Vec<Waiting>,
    handed_over: VecDeque<(LogIndex, Vec<Waiting>)>,
    /// How far the log was durable, what room it had and whether it had failed when it was looked at last.
    durable: LogIndex,
    room: LogRoom,
    failed: Option<LogFailure>,
}

impl CommitQueue {
    /// Without a log: next comes what is recovered, and then [`CommitQueue::start`].
    pub(super) fn new() -> Self {
        Self {
            log: None,
            is_logged: true,
            batch: BatchBuilder::new(true, 1),
            waiting: Vec::new(),
            handed_over: VecDeque::new(),
            durable: LogIndex(0),
            room: LogRoom::Enough,
            failed: None,
        }
    }

    /// What is taken in from now on goes to this log.
    pub(super) fn start(&mut self, log: Box<dyn ShardLog>) {
        let progress = log.progress();
        self.is_logged = progress.durability != Durability::Memory;
        if !self.is_logged {
            self.batch = BatchBuilder::new(false, 1);
        }
        self.durable = progress.durable;
        self.log = Some(log);
    }

    pub(super) fn log(&self) -> &dyn ShardLog {
        self.log.as_deref().expect("the log was given at the start")
    }

    pub(super) fn is_logged(&self) -> bool {
        self.is_logged
    }

    /// Batches up to this one were durable when the log was looked at last.
    pub(super) fn durable(&self) -> LogIndex {
        self.durable
    }

    pub(super) fn room(&self) -> &LogRoom {
        &self.room
    }

    pub(super) fn failure(&self) -> Option<&LogFailure> {
        self.failed.as_ref()
    }

    /// Everything that was taken in is durable, or never will be.
    pub(super) fn is_settled(&self) -> bool {
        self.failed.is_some() || (self.batch.is_empty() && self.handed_over.is_empty() && self.log().idle())
    }

    /// Bytes that wait for the disk.
    pub(super) fn bytes_behind(&self) -> usize {
        self.log().pending_bytes() + self.batch.len()
    }

    /// Waits for the batch under construction.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Whether the batch is to be handed over now; if not, it grows while others are written.
    pub(super) fn is_worth_a_write(&self) -> bool {
        self.handed_over.len() < BATCHES_AHEAD_MAX
            || self.batch.len() >= BATCH_BYTES_MAX
            || self.failed.is_some()
            || self.log().idle()
    }

    /// Whether nothing was taken in since the last batch that anybody waits for.
    pub(super) fn has_nothing_new(&self) -> bool {
        self.batch.is_empty() && self.waiting.is_empty()
    }

    /// Hands the batch to the log, even if it is empty, with those who wait for it. How many bytes it has; or why the log takes nothing
    /// any more, which is to be told to [`CommitQueue::fail`].
    pub(super) fn propose(&mut self, now: Timestamp) -> Result<usize, LogFailure> {
        let batch = self.batch.finish(now);
        let bytes = batch.payload_bytes();
        let log = self.log.as_mut().expect("the log was given at the start");
        let index = log.propose(batch)?;
        self.handed_over.push_back((index, std::mem::take(&mut self.waiting)));
        Ok(bytes)
    }

    /// There is nothing to write for those who wait: all they wait for was handed over before.
    pub(super) fn wait_for_handed_over(&mut self) {
        let index = LogIndex(self.log().next_index().0 - 1);
        self.handed_over.push_back((index, std::mem::take(&mut self.waiting)));
    }

    /// Looks at the log.
    pub(super) fn look(&mut self) -> Progress {
        let progress = self.log().progress();
        self.durable = progress.durable;
        progress
    }

    /// Those who waited for the next batch that has become durable.
    pub(super) fn take_durable(&mut self) -> Option<Vec<Waiting>> {
        let (index, _) = self.handed_over.front()?;
        if *index > self.durable {
            return None;
        }
        self.handed_over.pop_front().map(|(_, waiting)| waiting)
    }

    /// Whether that is something new.
    pub(super) fn note_room(&mut self, room: &LogRoom) -> bool {
        let is_new = self.room != *room;
        if is_new {
            self.room = room.clone();
        }
        is_new
    }

    /// The log is of no use any more. Those who waited for it; `None` if that was known.
    pub(super) fn fail(&mut self, failure: &LogFailure) -> Option<Vec<Waiting>> {
        if self.failed.is_some() {
            return None;
        }
        self.failed = Some(failure.clone());
        // Nobody waits for room on a log that takes nothing any more.
        self.room = LogRoom::Enough;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend(self.handed_over.drain(..).flat_map(|(_, waiting)| waiting));
        Some(waiting)
    }

    /// Nobody will write what is in the batch: it goes. Those who waited for it.
    pub(super) fn drop_batch(&mut self, now: Timestamp) -> Vec<Waiting> {
        drop(self.batch.finish(now));
        std::mem::take(&mut self.waiting)
    }
}
