//! A log on a disk whose writer runs when the test says so.

use std::{path::Path, sync::Arc};

use crate::storage::{
    Batch, BodyRead, DirectLogOptions, Disk, LogFailure, LogIndex, OpenFailure, Progress, RecoveryReport,
    Replay, Segment, ShardLog, appender::Appender, direct_log::LogCore,
};

/// A [`DirectLog`](crate::storage::DirectLog) without its thread: batches pile up until [`step`](Self::step) makes
/// them durable in the caller's thread. Everything else is the same code.
pub struct SteppedLog {
    core: LogCore,
    appender: Appender,
}

impl SteppedLog {
    /// As [`DirectLog::open`](crate::storage::DirectLog::open), without a callback.
    ///
    /// # Errors
    /// As there.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: &DirectLogOptions,
        replay: Replay<'_>,
    ) -> Result<Self, OpenFailure> {
        let (core, appender) = LogCore::open(disk, directory, options, Arc::new(|| {}), replay)?;
        Ok(Self { core, appender })
    }

    /// One round of the writer: makes everything that was proposed durable.
    ///
    /// # Errors
    /// Why the log failed, in this step or an earlier one.
    pub fn step(&mut self) -> Result<(), LogFailure> {
        if let Some(failure) = self.core.handover.progress().failed {
            return Err(failure);
        }
        let mut group = std::mem::take(&mut self.core.handover.lock().batches);
        self.core.handover.commit(&mut self.appender, &mut group)
    }

    /// What the writer does when nothing came for a while: notes that everything is durable.
    ///
    /// # Errors
    /// Why the log failed, in this step or an earlier one.
    pub fn rest(&mut self) -> Result<(), LogFailure> {
        if let Some(failure) = self.core.handover.progress().failed {
            return Err(failure);
        }
        self.appender.mark().map_err(|error| self.core.handover.fail(error.into()))
    }

    /// What opening it found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.core.report
    }

    /// The segments, in order.
    pub fn segments(&self) -> Vec<Segment> {
        self.core.table.list()
    }
}

impl ShardLog for SteppedLog {
    fn next_index(&self) -> LogIndex {
        self.core.next_index
    }

    fn propose(&mut self, batch: Batch) -> Result<LogIndex, LogFailure> {
        self.core.propose(batch)
    }

    fn progress(&self) -> Progress {
        self.core.handover.progress()
    }

    fn idle(&self) -> bool {
        self.core.is_idle()
    }

    fn pending_bytes(&self) -> usize {
        self.core.handover.pending_bytes()
    }

    fn reader(&self) -> Arc<dyn BodyRead> {
        Arc::clone(&self.core.reader)
    }
}
