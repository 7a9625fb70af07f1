//! Between the owner of a log and its writer: batches one way, progress the other.

use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use super::{Batch, DiskAction, DiskError, LogFailure, LogIndex, LogRoom, Progress, appender::Appender};
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
    /// Looked at before `room`, which is nearly always [`LogRoom::Enough`].
    has_room: AtomicBool,
    room: Mutex<LogRoom>,
    on_progress: OnProgress,
}

/// What became of a group of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    /// All of it is durable.
    All,
    /// The disk has no room for what is left of it.
    Waits,
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
            has_room: AtomicBool::new(true),
            room: Mutex::default(),
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
        Progress { durable, durability: Durability::Synced, failed, room: self.room() }
    }

    fn room(&self) -> LogRoom {
        match self.has_room.load(Ordering::Acquire) {
            true => LogRoom::Enough,
            false => self.room.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The writer's side.
    pub(super) fn set_room(&self, room: LogRoom) {
        let enough = room.is_enough();
        if enough && self.has_room.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *state != room;
        *state = room;
        self.has_room.store(enough, Ordering::Release);
        drop(state);
        if changed {
            (self.on_progress)();
        }
    }

    /// The writer's side.
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's side: makes one group of batches durable. What the disk has no room for stays in the group, to be
    /// tried again, if need be with the log's reserve. After an error the log has failed.
    pub(super) fn commit(
        &self,
        appender: &mut Appender,
        group: &mut Vec<Batch>,
    ) -> Result<Committed, LogFailure> {
        loop {
            let start = appender.durable_end.0;
            let mut done = 0;
            let result = appender.append(group, &mut |durable_end| {
                let done_before = std::mem::replace(&mut done, (durable_end.0 - start) as usize);
                let bytes = group[done_before..done].iter().map(Batch::waiting_bytes).sum();
                self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.durable_end.store(durable_end.0, Ordering::Release);
                (self.on_progress)();
            });
            group.drain(..done);
            match result {
                Ok(()) => {
                    self.set_room(appender.room());
                    return Ok(Committed::All);
                }
                Err(error) if can_wait(&error) && error.is_full() && appender.give_room() => {}
                Err(error) if can_wait(&error) => {
                    self.set_room(LogRoom::None(error));
                    return Ok(Committed::Waits);
                }
                Err(error) => return Err(self.fail(error.into())),
            }
        }
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

/// Whether nothing but a lack of room, or of an open file, keeps a group from being written. After a sync, whatever its
/// answer, nobody knows what the disk has.
fn can_wait(error: &DiskError) -> bool {
    match error.action {
        DiskAction::Sync => false,
        DiskAction::Create | DiskAction::Open => error.is_full() || error.is_out_of_files(),
        _ => error.is_full(),
    }
}
