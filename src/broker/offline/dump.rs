//! What the entries of a log say, one after the other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::broker::catalog::{CATALOG_DIRECTORY, LoggedChange, logged_changes};
use crate::broker::journey_keeping::JOURNEYS_DIRECTORY;
use crate::shard::{LoggedOperation, logged_operations};
use crate::storage::{
    DirectoryLock, Disk, LockRefused, Logged, OpenFailure, OwnerFault, Survey, SurveyedFrame, Surveyor,
    survey,
};

/// A frame of a log, and what it says.
#[derive(Debug)]
pub struct LoggedBatch<'a> {
    /// Where and when.
    pub frame: &'a SurveyedFrame<'a>,
    /// What a shard recorded; `None` if it is not a batch of a shard.
    pub operations: Option<Result<Vec<LoggedOperation>, OwnerFault>>,
    /// What the catalog recorded; `None` if it is not a batch of the catalog.
    pub changes: Option<Result<Vec<LoggedChange>, OwnerFault>>,
}

/// Why a log could not be read.
#[derive(Debug)]
pub enum DumpFailure {
    /// Somebody has it.
    Locked(LockRefused),
    /// It cannot be read at all.
    Log(OpenFailure),
    /// It is no log's folder: these are, in it.
    NoLog(Vec<PathBuf>),
}

impl fmt::Display for DumpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(refused) => refused.fmt(f),
            Self::Log(failure) => failure.fmt(f),
            Self::NoLog(logs) if logs.is_empty() => f.write_str("there is no log in this folder"),
            Self::NoLog(_) => f.write_str("this is the folder of several logs"),
        }
    }
}

impl std::error::Error for DumpFailure {}

/// Reads the log in a folder, changing nothing, and shows each frame to `see`, until that has seen enough.
///
/// # Errors
/// See [`DumpFailure`]. Damage is none: what lies behind it is shown, and the survey says what is missing.
pub fn dump(
    disk: &Arc<dyn Disk>,
    path: &Path,
    see: &mut dyn FnMut(&LoggedBatch<'_>) -> bool,
) -> Result<Survey, DumpFailure> {
    let _lock = DirectoryLock::acquire_for_reading(&**disk, path).map_err(DumpFailure::Locked)?;
    let entries = disk.list(path).unwrap_or_default();
    if !entries.iter().any(|entry| entry.name.to_string_lossy().ends_with(".log")) {
        let is_log = |name: &std::ffi::OsString| name != JOURNEYS_DIRECTORY;
        let folders = entries.iter().filter(|entry| !entry.is_file && is_log(&entry.name));
        let folders = folders.map(|entry| path.join(&entry.name));
        let mut logs: Vec<PathBuf> = folders.collect();
        logs.sort();
        return Err(DumpFailure::NoLog(logs));
    }
    let is_catalog = path.file_name().is_some_and(|name| name == CATALOG_DIRECTORY);
    survey(&**disk, path, None, &mut Dump { is_catalog, see, done: false }).map_err(DumpFailure::Log)
}

struct Dump<'a> {
    is_catalog: bool,
    see: &'a mut dyn FnMut(&LoggedBatch<'_>) -> bool,
    done: bool,
}

impl Surveyor for Dump<'_> {
    fn frame(&mut self, frame: &SurveyedFrame<'_>) -> Result<(), OwnerFault> {
        if self.done {
            return Ok(());
        }
        let is_batch = frame.what == Logged::Batch;
        let operations = (is_batch && !self.is_catalog).then(|| logged_operations(&frame.batch));
        let changes = (is_batch && self.is_catalog).then(|| logged_changes(frame.batch.payload.clone()));
        self.done = !(self.see)(&LoggedBatch { frame, operations, changes });
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
