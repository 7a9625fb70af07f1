//! Between the owner of a log and its writer: batches one way, progress the other.

use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::{Batch, LogFailure, LogIndex, Progress, appender::Appender};
use crate::model::Durability;

/// Called after each change of a log's progress, in the thread that writes: wake somebody and return.
pub type OnProgress = Arc<dyn Fn() + Send + Sync>;

/// What owner and writer share.
pub(super) struct Handover {
    waiting: Mutex<Waiting>,
    /// Signalled when `waiting` changes while the writer sleeps.
    pub(super) wake: Condvar,
    /// Every batch below this is durable.
    durable_end: AtomicU64,
    /// [`Batch::waiting_bytes`] of what was handed over and is not durable yet.
    pending_bytes: AtomicUsize,
    failure: OnceLock<LogFailure>,
    on_progress: OnProgress,
}

/// What the writer has not taken yet.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) batches: Vec<Batch>,
    /// The owner hands over nothing more.
    pub(super) closing: bool,
    /// The writer waits for `wake`; signals are system calls, so none is sent while it does not.
    pub(super) writer_sleeps: bool,
}

impl Handover {
    pub(super) fn new(durable_end: LogIndex, on_progress: OnProgress) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            durable_end: AtomicU64::new(durable_end.0),
            pending_bytes: AtomicUsize::new(0),
            failure: OnceLock::new(),
            on_progress,
        }
    }

    /// The owner's side: hands a batch over.
    pub(super) fn give(&self, batch: Batch) -> Result<(), LogFailure> {
        let bytes = batch.waiting_bytes();
        let mut waiting = self.lock();
        // Looked at under the lock, so that nothing is given to a writer that has failed and emptied the list.
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        waiting.batches.push(batch);
        self.wake_writer(waiting);
        Ok(())
    }

    /// The owner's side: nothing more will come.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closing = true;
        self.wake_writer(waiting);
    }

    fn wake_writer(&self, waiting: MutexGuard<'_, Waiting>) {
        let sleeps = waiting.writer_sleeps;
        drop(waiting);
        if sleeps {
            self.wake.notify_one();
        }
    }

    /// The owner's side: every batch below this is durable.
    pub(super) fn durable_end(&self) -> LogIndex {
        LogIndex(self.durable_end.load(Ordering::Acquire))
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn progress(&self) -> Progress {
        // The failure is read first: what was durable when the log failed stays so.
        let failed = self.failure.get().cloned();
        // A log is created with entry 0, its membership, so there is one below the end.
        let durable = LogIndex(self.durable_end().0.saturating_sub(1));
        Progress { durable, durability: Durability::Synced, failed }
    }

    /// The writer's side.
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's side: makes one group of batches durable. After an error the log has failed.
    pub(super) fn commit(&self, appender: &mut Appender, group: &mut Vec<Batch>) -> Result<(), LogFailure> {
        let bytes: usize = group.iter().map(Batch::waiting_bytes).sum();
        let count = group.len() as u64;
        let end = appender.durable_end.0 + count;
        let result = appender.append(group, &mut |durable_end| {
            if durable_end.0 == end {
                self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            self.durable_end.store(durable_end.0, Ordering::Release);
            (self.on_progress)();
        });
        group.clear();
        result.map_err(|error| self.fail(error.into()))
    }

    /// The writer's side: nothing will become durable any more. Returns the reason, which is that of the first call.
    pub(super) fn fail(&self, failure: LogFailure) -> LogFailure {
        let failure = self.failure.get_or_init(|| failure).clone();
        self.lock().batches = Vec::new();
        self.pending_bytes.store(0, Ordering::Relaxed);
        (self.on_progress)();
        failure
    }
}
