//! Logs that are written when the simulation says so, and that count what is asked of them.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::workers::SteppedWorkers;
use crate::broker::{OpenLog, OpenedLog};
use crate::storage::testing::SteppedLog;
use crate::storage::{
    Batch, BodyRead, DirectLogOptions, Disk, KeepFailure, KnownLog, LogFailure, LogIndex, LogKeeper,
    LogPosition, Machine, MergeStep, MergeSteps, OnProgress, OpenFailure, Progress, ReadFailure,
    RecoveredBatch, Segment, Selection, ShardLog, Snapshot,
};

/// What was asked of logs beside writing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Housekeeping {
    /// Checkpoints that were written, and those that were not.
    pub(super) checkpoints: Tries,
    /// Merges of segments.
    pub(super) merges: Tries,
    /// Times that segments were removed.
    pub(super) purges: Tries,
    /// Reads of messages that were not in memory.
    pub(super) reads: Tries,
    /// Those that met a segment which came of a merge.
    pub(super) merged_reads: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    pub(super) done: u64,
    pub(super) failed: u64,
}

impl Tries {
    fn note<T, E>(&mut self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) => self.done += 1,
            Err(_) => self.failed += 1,
        }
        result
    }
}

/// Parts of a log that were merged while this broker lives.
type Merges = Arc<Mutex<Vec<Range<LogIndex>>>>;

pub(super) type SharedLog = Arc<Mutex<SteppedLog>>;

/// Opens logs that `workers` step.
pub(super) fn open_log(workers: &Arc<SteppedWorkers>) -> OpenLog {
    let workers = Arc::clone(workers);
    Arc::new(
        move |disk: Arc<dyn Disk>,
              directory: &Path,
              options: DirectLogOptions,
              on_progress: OnProgress,
              machine: &mut dyn Machine|
              -> Result<OpenedLog, OpenFailure> {
            let log = SteppedLog::open_telling(disk, directory, &options, on_progress, machine)?;
            let told = log.recovery().told();
            let log = Arc::new(Mutex::new(log));
            workers.add_log(Arc::clone(&log));
            Ok(OpenedLog {
                log: Box::new(Owned { log, workers: Arc::clone(&workers), merged: Merges::default() }),
                told,
            })
        },
    )
}

/// The owner's hold on a log that is stepped by somebody else.
struct Owned {
    log: SharedLog,
    workers: Arc<SteppedWorkers>,
    merged: Merges,
}

impl Owned {
    fn log(&self) -> MutexGuard<'_, SteppedLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShardLog for Owned {
    fn next_index(&self) -> LogIndex {
        self.log().next_index()
    }

    fn propose(&mut self, batch: Batch) -> Result<LogIndex, LogFailure> {
        self.log().propose(batch)
    }

    fn progress(&self) -> Progress {
        self.log().progress()
    }

    fn idle(&self) -> bool {
        self.log().idle()
    }

    fn pending_bytes(&self) -> usize {
        self.log().pending_bytes()
    }

    fn reader(&self) -> Arc<dyn BodyRead> {
        let merged = Arc::clone(&self.merged);
        Arc::new(CountedReader { reader: self.log().reader(), workers: Arc::clone(&self.workers), merged })
    }

    fn position(&self) -> LogPosition {
        self.log().position()
    }

    fn known(&self) -> Option<KnownLog> {
        self.log().known()
    }

    fn keeper(&self) -> Option<Arc<dyn LogKeeper>> {
        let keeper = self.log().keeper()?;
        let merged = Arc::clone(&self.merged);
        Some(Arc::new(CountedKeeper { keeper, workers: Arc::clone(&self.workers), merged }))
    }
}

struct CountedReader {
    reader: Arc<dyn BodyRead>,
    workers: Arc<SteppedWorkers>,
    merged: Merges,
}

impl BodyRead for CountedReader {
    fn read(&self, first: LogIndex, end: LogIndex) -> Result<Vec<RecoveredBatch>, ReadFailure> {
        let read = self.reader.read(first, end);
        let merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_merged = read.is_ok() && merged.iter().any(|part| part.start < end && first < part.end);
        drop(merged);
        self.workers.count(|counts| {
            counts.merged_reads += u64::from(is_merged);
            counts.reads.note(read)
        })
    }
}

struct CountedKeeper {
    keeper: Arc<dyn LogKeeper>,
    workers: Arc<SteppedWorkers>,
    merged: Merges,
}

impl LogKeeper for CountedKeeper {
    fn checkpoint(&self, snapshot: Snapshot) -> Result<(), KeepFailure> {
        let written = self.keeper.checkpoint(snapshot);
        self.workers.count(|counts| counts.checkpoints.note(written))
    }

    fn newest_checkpoint(&self) -> Option<LogIndex> {
        self.keeper.newest_checkpoint()
    }

    fn segments(&self) -> Vec<Segment> {
        self.keeper.segments()
    }

    fn removable_below(&self) -> Option<LogIndex> {
        self.keeper.removable_below()
    }

    fn purge(&self, first_indices: &[LogIndex]) -> Result<u64, KeepFailure> {
        let removed = self.keeper.purge(first_indices);
        self.workers.count(|counts| counts.purges.note(removed))
    }

    fn merge_segments(
        &self,
        first_indices: &[LogIndex],
        selection: Box<dyn Selection>,
    ) -> Result<Box<dyn MergeSteps>, KeepFailure> {
        let segments = self.keeper.segments();
        let mut taken = segments.iter().filter(|segment| first_indices.contains(&segment.first_index));
        let first = taken.next();
        let range =
            first.zip(taken.next_back().or(first)).map(|(first, end)| first.first_index..end.end_index);
        let begun = self.keeper.merge_segments(first_indices, selection);
        let (workers, merged) = (Arc::clone(&self.workers), Arc::clone(&self.merged));
        match begun {
            Ok(steps) => Ok(Box::new(CountedMerge { steps, range, workers, merged })),
            Err(failure) => self.workers.count(|counts| counts.merges.note(Err(failure))),
        }
    }
}

struct CountedMerge {
    steps: Box<dyn MergeSteps>,
    range: Option<Range<LogIndex>>,
    workers: Arc<SteppedWorkers>,
    merged: Merges,
}

impl MergeSteps for CountedMerge {
    fn step(&mut self) -> Result<MergeStep, KeepFailure> {
        match self.steps.step() {
            Ok(MergeStep::Taken { read_bytes }) => Ok(MergeStep::Taken { read_bytes }),
            over => {
                if over.is_ok() {
                    self.merged.lock().unwrap_or_else(PoisonError::into_inner).extend(self.range.take());
                }
                self.workers.count(|counts| counts.merges.note(over))
            }
        }
    }
}
