//! The log of one node on its own disk.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    BATCH_BYTES_MAX, Batch, BodyRead, DirectoryLock, Disk, DiskAction, DiskError, KnownLog, LogFailure,
    LogIndex, LogKeeper, LogPosition, Machine, NodeId, OnProgress, OpenFailure, Progress, RaftState,
    RecoveryReport, Segment, ShardLog,
    appender::{Appender, ZERO_AHEAD_BYTES_MAX},
    bodies_end::BodiesEnd,
    body_reader::BodyReader,
    handover::Handover,
    keeper::DirectKeeper,
    log_directory::PROBE_FILE,
    recovery::{Recovered, recover},
    writer::Writer,
};

/// How a [`DirectLog`] uses its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectLogOptions {
    /// A segment that reached this length is followed by a new one. From 1 KiB to 4 GiB.
    pub segment_bytes: u64,
    /// How far a file is filled with zeros ahead of small writes, so that their syncs need not change its length;
    /// 0 switches this off. Up to 256 KiB.
    pub zero_ahead_bytes: u64,
    /// Most bytes that may wait for the disk; beyond it [`ShardLog::propose`] refuses.
    pub pending_bytes_max: usize,
    /// After so many milliseconds without work the log notes on the disk that everything is durable. The note lets
    /// recovery tell damage to the last batches from a write that a crash interrupted.
    pub mark_after_ms: u64,
    /// Room that is kept on the disk for when it is full, so that settlements can be written then; 0: none.
    pub reserve_bytes: u64,
    /// The node in whose name a new log is created. An existing log keeps its own.
    pub node: NodeId,
    /// Whether a log that does not exist is created; if not, [`OpenFailure::Missing`] is returned.
    pub create_if_missing: bool,
    /// What is known about a log that exists; another one is refused ([`OpenFailure::OtherLog`]), and one that ends
    /// earlier, too ([`OpenFailure::EndMissing`]).
    pub known: Option<KnownLog>,
}

impl Default for DirectLogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            zero_ahead_bytes: ZERO_AHEAD_BYTES_MAX as u64,
            pending_bytes_max: 2 * BATCH_BYTES_MAX,
            mark_after_ms: 50,
            reserve_bytes: 0,
            node: NodeId(1),
            create_if_missing: true,
            known: None,
        }
    }
}

impl DirectLogOptions {
    const SEGMENT_BYTES_MIN: u64 = 1024;
    const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

    fn check(&self) -> Result<(), OpenFailure> {
        if !(Self::SEGMENT_BYTES_MIN..=Self::SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(OpenFailure::BadOption { what: "segment_bytes must be from 1 KiB to 4 GiB" });
        }
        if self.zero_ahead_bytes > ZERO_AHEAD_BYTES_MAX as u64 {
            return Err(OpenFailure::BadOption { what: "zero_ahead_bytes must be at most 256 KiB" });
        }
        Ok(())
    }
}

/// A log that is durable on this node's disk: a batch counts once `fdatasync` has returned for it, at
/// [`Durability::Synced`](crate::model::Durability::Synced).
///
/// It is a valid Raft log of one voter, itself. Dropping it finishes what was handed over, like
/// [`close`](Self::close), but keeps silent about failures.
pub struct DirectLog {
    core: LogCore,
    writer: Option<Writer>,
}

impl DirectLog {
    /// Opens the log in `directory`, or creates it there. Hands `machine` the state of the newest checkpoint, if there is
    /// one, and then each batch behind it, in order, and returns when all of them are durable. `on_progress` is called from the log's own thread after each
    /// group of batches became durable, and when the log failed; it must return soon and must not panic.
    ///
    /// # Errors
    /// See [`OpenFailure`]. After an error the machine must not be used.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: DirectLogOptions,
        on_progress: OnProgress,
        machine: &mut dyn Machine,
    ) -> Result<Self, OpenFailure> {
        let quiet = Duration::from_millis(options.mark_after_ms);
        let (core, appender) = LogCore::open(disk, directory, &options, on_progress, machine)?;
        let writer = Writer::start(appender, Arc::clone(&core.handover), quiet)
            .map_err(|error| DiskError::new(DiskAction::Open, directory, &error))?;
        Ok(Self { core, writer: Some(writer) })
    }

    /// Waits until everything handed over is durable, or the log failed, and ends the writer.
    ///
    /// # Errors
    /// Why the log failed, if it did.
    pub fn close(mut self) -> Result<(), LogFailure> {
        self.finish();
        self.core.handover.progress().failed.map_or(Ok(()), Err)
    }

    /// What opening it found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.core.report
    }

    /// What Raft keeps of it beside its entries.
    pub fn raft_state(&self) -> RaftState {
        self.core.raft_state.clone()
    }

    /// The segments, in order.
    pub fn segments(&self) -> Vec<Segment> {
        self.core.keeper.segments()
    }

    fn finish(&mut self) {
        self.core.handover.close();
        if let Some(writer) = self.writer.take() {
            writer.join();
        }
    }
}

impl Drop for DirectLog {
    fn drop(&mut self) {
        self.finish();
    }
}

impl ShardLog for DirectLog {
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

/// The owner's side of a log on a disk, whoever runs the writer's side.
pub(super) struct LogCore {
    pub(super) handover: Arc<Handover>,
    pub(super) next_index: LogIndex,
    log_id: u64,
    bodies_end: BodiesEnd,
    raft_state: RaftState,
    pending_bytes_max: usize,
    pub(super) reader: Arc<dyn BodyRead>,
    pub(super) keeper: Arc<dyn LogKeeper>,
    pub(super) report: RecoveryReport,
    _lock: DirectoryLock,
}

impl LogCore {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: &DirectLogOptions,
        on_progress: OnProgress,
        machine: &mut dyn Machine,
    ) -> Result<(Self, Appender), OpenFailure> {
        options.check()?;
        if options.create_if_missing {
            disk.create_directory(directory)
                .map_err(|error| DiskError::new(DiskAction::Create, directory, &error))?;
        }
        let lock = DirectoryLock::acquire_on(&*disk, directory).map_err(OpenFailure::Locked)?;
        check_writable(&*disk, directory)?;
        let Recovered { appender, report, identity, checkpoints } =
            recover(&disk, directory, options, machine)?;
        let raft_state = identity.raft_state(appender.chain.term);
        let handover = Arc::new(Handover::new(appender.durable_end, on_progress));
        handover.set_room(appender.room());
        let reader = Arc::new(BodyReader::new(Arc::clone(&disk), Arc::clone(&appender.table)));
        let keeper = DirectKeeper {
            disk,
            directory: directory.to_path_buf(),
            log_id: appender.log_id,
            identity,
            table: Arc::clone(&appender.table),
            reader: Arc::clone(&reader),
            handover: Arc::clone(&handover),
            spares: Arc::clone(&appender.spares),
            checkpoints: Mutex::new(checkpoints),
        };
        let core = Self {
            handover,
            next_index: appender.chain.next_index,
            log_id: appender.log_id,
            bodies_end: BodiesEnd::at(appender.chain.bodies_end),
            raft_state,
            pending_bytes_max: options.pending_bytes_max,
            reader,
            keeper: Arc::new(keeper),
            report,
            _lock: lock,
        };
        Ok((core, appender))
    }

    pub(super) fn propose(&mut self, batch: Batch) -> Result<LogIndex, LogFailure> {
        let bytes = batch.payload_bytes();
        if bytes > BATCH_BYTES_MAX {
            return Err(LogFailure::BatchTooLarge { bytes: bytes as u64, bytes_max: BATCH_BYTES_MAX as u64 });
        }
        let pending = self.handover.pending_bytes();
        let pending_with_it = pending + batch.waiting_bytes();
        // A batch always fits if nothing else waits, so that no limit can stop a log for good.
        if pending > 0 && pending_with_it > self.pending_bytes_max {
            let (bytes, bytes_max) = (pending_with_it as u64, self.pending_bytes_max as u64);
            return Err(LogFailure::TooMuchPending { bytes, bytes_max });
        }
        let bodies_end = self.bodies_end.after(batch.first_body, batch.bodies)?;
        self.handover.give(batch)?;
        self.bodies_end = bodies_end;
        let index = self.next_index;
        self.next_index = index.next();
        Ok(index)
    }

    pub(super) fn position(&self) -> LogPosition {
        LogPosition { index: LogIndex(self.next_index.0 - 1), bodies_end: self.bodies_end.end() }
    }

    pub(super) fn known(&self) -> KnownLog {
        KnownLog { id: self.log_id, end: self.handover.durable_end() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.handover.durable_end() == self.next_index
    }
}

/// A directory in which no file can be made would be noticed only when the first segment is full. That there is no room is no
/// reason not to start: there will be.
fn check_writable(disk: &dyn Disk, directory: &Path) -> Result<(), DiskError> {
    let path = directory.join(PROBE_FILE);
    // One may be left over from a start that was cut short; if it cannot be removed, none can be made.
    let _ = disk.remove(&path);
    let made = disk.create(&path).map_err(|error| DiskError::new(DiskAction::Create, &path, &error));
    let _ = disk.remove(&path);
    made.map(drop)
        .or_else(|error| if error.is_full() || error.is_out_of_files() { Ok(()) } else { Err(error) })
}
