//! A log on a disk whose writer runs when the test says so.

use std::{path::Path, sync::Arc};

use crate::storage::{
    Batch, BodyRead, DirectLogOptions, Disk, KnownLog, LogFailure, LogIndex, LogKeeper, LogPosition, Machine,
    OnProgress, OpenFailure, Progress, RecoveryReport, Segment, ShardLog, appender::Appender,
    direct_log::LogCore,
};

/// A [`DirectLog`](crate::storage::DirectLog) without its thread: batches pile up until [`step`](Self::step) makes
/// them durable in the caller's thread. Everything else is the same code.
pub struct SteppedLog {
    core: LogCore,
    appender: Appender,
    /// What the disk had no room for.
    group: Vec<Batch>,
    /// The last segment at the last rest, and how often it was.
    rested_in: (LogIndex, u32),
}

/// Rests in one segment after which spares go: the writer's time is counted in these.
const RESTS_WITH_SPARES: u32 = 256;

impl SteppedLog {
    /// As [`DirectLog::open`](crate::storage::DirectLog::open), without a callback.
    ///
    /// # Errors
    /// As there.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: &DirectLogOptions,
        machine: &mut dyn Machine,
    ) -> Result<Self, OpenFailure> {
        Self::open_telling(disk, directory, options, Arc::new(|| {}), machine)
    }

    /// As [`DirectLog::open`](crate::storage::DirectLog::open); `on_progress` is called by [`step`](Self::step).
    ///
    /// # Errors
    /// As there.
    pub fn open_telling(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: &DirectLogOptions,
        on_progress: OnProgress,
        machine: &mut dyn Machine,
    ) -> Result<Self, OpenFailure> {
        let (core, appender) = LogCore::open(disk, directory, options, on_progress, machine)?;
        Ok(Self { core, appender, group: Vec::new(), rested_in: (LogIndex(0), 0) })
    }

    /// One round of the writer: makes everything that was proposed durable, or as much as the disk has room for; then
    /// [`Progress::room`] says so, and the next step goes on.
    ///
    /// # Errors
    /// Why the log failed, in this step or an earlier one.
    pub fn step(&mut self) -> Result<(), LogFailure> {
        if let Some(failure) = self.core.handover.progress().failed {
            return Err(failure);
        }
        let waited = std::mem::take(&mut self.core.handover.lock().batches);
        self.group.extend(waited);
        self.core.handover.commit(&mut self.appender, &mut self.group).map(|_| ())
    }

    /// What the writer does when nothing came for a while: notes that everything is durable, and takes back the room
    /// that it gave away; sometimes it gives up spare segments.
    ///
    /// # Errors
    /// Why the log failed, in this step or an earlier one.
    pub fn rest(&mut self) -> Result<(), LogFailure> {
        if let Some(failure) = self.core.handover.progress().failed {
            return Err(failure);
        }
        self.appender.mark().map_err(|error| self.core.handover.fail(error.into()))?;
        let last = self.appender.first_index;
        self.rested_in = if self.rested_in.0 == last { (last, self.rested_in.1 + 1) } else { (last, 1) };
        if self.rested_in.1.is_multiple_of(RESTS_WITH_SPARES) {
            self.appender.spares.give_up();
        }
        self.appender.reserve.renew();
        self.core.handover.set_room(self.appender.room());
        Ok(())
    }

    /// What opening it found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.core.report
    }

    /// The segments, in order.
    pub fn segments(&self) -> Vec<Segment> {
        self.core.keeper.segments()
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

    fn position(&self) -> LogPosition {
        self.core.position()
    }

    fn known(&self) -> Option<KnownLog> {
        Some(self.core.known())
    }

    fn keeper(&self) -> Option<Arc<dyn LogKeeper>> {
        Some(Arc::clone(&self.core.keeper))
    }
}
