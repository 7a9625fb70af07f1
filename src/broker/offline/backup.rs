//! Copying a data directory, whether or not a broker runs on it.
//!
//! Journeys are copied first: what they tell and the shards do not know is as if a broker had ended before it was written.
//! Shards are copied before the catalog: then each queue whose messages are there is known to it, or was deleted since. Who
//! was told before the copy began that something is durable finds it in the copy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::{CheckFailure, DataCheck, DataReport, shard_directory, shard_numbers};
use crate::broker::catalog::CATALOG_DIRECTORY;
use crate::broker::journey_keeping::JOURNEYS_DIRECTORY;
use crate::journey::Folder;
use crate::storage::{
    DataDirectory, DataDirectoryFailure, DirectoryLock, Disk, DiskAction, DiskError, LogCopy, OpenFailure,
};

/// Why no copy was made. What was written of it has no mark, and no broker takes it for a data directory.
#[derive(Debug)]
pub enum CopyFailure {
    /// The one to be copied cannot be looked at.
    Source(CheckFailure),
    /// There is something where the copy should be.
    NotEmpty(PathBuf),
    /// There is less room than the copy needs.
    NoRoom {
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A log cannot be copied.
    Log(OpenFailure),
    /// The copy cannot be written.
    Disk(DiskError),
    /// The copy was made, and a broker would not find everything in it: what is copied is damaged, or a broker stopped
    /// meanwhile.
    Unsound(Box<DataReport>),
}

impl fmt::Display for CopyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(failure) => failure.fmt(f),
            Self::NotEmpty(path) => write!(f, "{} is not empty", path.display()),
            Self::NoRoom { needed, free } => {
                write!(f, "the copy needs {needed} bytes, and {free} are free where it is to be")
            }
            Self::Log(failure) => failure.fmt(f),
            Self::Disk(error) => error.fmt(f),
            Self::Unsound(report) => {
                let hurt = report.logs.iter().filter(|log| !log.is_sound());
                let told = hurt.map(|log| match &log.refused {
                    Some(why) => format!("{}: {why}", log.name),
                    None => format!("{}: messages cannot be read", log.name),
                });
                write!(f, "the copy is not sound: {}", told.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

impl std::error::Error for CopyFailure {}

impl From<DiskError> for CopyFailure {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Copies a data directory into a folder that is empty or not there, and checks the copy. `in_use`: a broker may be running
/// on the one that is copied; else it is locked meanwhile. `tell` hears how many bytes of how many were copied.
///
/// # Errors
/// See [`CopyFailure`].
pub fn copy(
    disk: &Arc<dyn Disk>,
    from: &Path,
    to: &Path,
    in_use: bool,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<DataReport, CopyFailure> {
    let source = |failure| CopyFailure::Source(failure);
    let known =
        DataDirectory::look(&**disk, from).map_err(|failure| source(CheckFailure::Directory(failure)))?;
    let _lock = match in_use {
        true => None,
        false => Some(
            DirectoryLock::acquire_for_reading(&**disk, from).map_err(|refused| source(refused.into()))?,
        ),
    };
    disk.create_directory(to).map_err(|error| DiskError::new(DiskAction::Create, to, &error))?;
    let there = disk.list(to).map_err(|error| DiskError::new(DiskAction::List, to, &error))?;
    if there.iter().any(|entry| entry.name != "lost+found") {
        return Err(CopyFailure::NotEmpty(to.to_path_buf()));
    }
    let mut logs: Vec<PathBuf> =
        shard_numbers(&**disk, from).into_iter().map(|shard| shard_directory(from, shard)).collect();
    logs.push(from.join(CATALOG_DIRECTORY));
    let sizes = logs.iter().map(|log| LogCopy::open(&**disk, log).map(|copy| copy.bytes()));
    let total = sizes.sum::<Result<u64, _>>().map_err(CopyFailure::Log)?;
    // Before the shards: what is told of messages is then no newer than they are.
    let journeys = from.join(JOURNEYS_DIRECTORY);
    let total = total + Folder::bytes_in(&**disk, &journeys);
    let free = disk.room(to).map_err(|error| DiskError::new(DiskAction::Read, to, &error))?.free_bytes;
    if free < total {
        return Err(CopyFailure::NoRoom { needed: total, free });
    }
    let mut done = 0;
    let copied = Folder::copy(&**disk, &journeys, &to.join(JOURNEYS_DIRECTORY), &mut |bytes| {
        done += bytes;
        tell(done, total.max(done));
    });
    copied?;
    for log in &logs {
        let copy = LogCopy::open(&**disk, log).map_err(CopyFailure::Log)?;
        let target = to.join(log.file_name().unwrap_or_default());
        let written = copy.write(&**disk, &target, &mut |bytes| {
            done += bytes;
            tell(done, total.max(done));
        });
        written.map_err(CopyFailure::Log)?;
    }
    let report = DataCheck::of(disk, to, known, &mut |_, _| {}).report;
    if !report.is_sound() {
        return Err(CopyFailure::Unsound(Box::new(report)));
    }
    // Last: without it nobody takes the folder for a data directory.
    DataDirectory::mark(&**disk, to, known).map_err(|failure| match failure {
        DataDirectoryFailure::Disk(error) => CopyFailure::Disk(error),
        failure => source(CheckFailure::Directory(failure)),
    })?;
    Ok(report)
}
