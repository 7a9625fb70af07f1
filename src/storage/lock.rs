//! One process at a time.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use super::{Disk, LockAttempt, RealDisk};
use crate::model::in_words;

/// Name of the file that stands for the lock. It stays when the lock is released: only holding it means anything.
pub(super) const LOCK_FILE: &str = "LOCK";

/// A directory that this process alone uses, until this is dropped or the process ends, however it ends.
pub struct DirectoryLock {
    path: PathBuf,
    _held: Box<dyn Send + Sync>,
}

impl DirectoryLock {
    /// Locks an existing directory of the operating system.
    ///
    /// # Errors
    /// [`LockRefused`]: another process, or another part of this one, has it, or the disk failed.
    pub fn acquire(directory: &Path) -> Result<Self, LockRefused> {
        Self::acquire_on(&RealDisk, directory)
    }

    /// Locks an existing directory of `disk`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_on(disk: &dyn Disk, directory: &Path) -> Result<Self, LockRefused> {
        let owner = format!("pid {}\n", std::process::id());
        Self::of(directory, |path| disk.lock(path, &owner))
    }

    /// Locks a directory for somebody who only reads in it: no byte is changed, not even the name of the holder. A
    /// directory that never was locked has nothing to lock.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_for_reading(disk: &dyn Disk, directory: &Path) -> Result<Self, LockRefused> {
        Self::of(directory, |path| disk.lock_as_it_is(path))
    }

    fn of(
        directory: &Path,
        lock: impl FnOnce(&Path) -> io::Result<LockAttempt>,
    ) -> Result<Self, LockRefused> {
        let path = directory.join(LOCK_FILE);
        match lock(&path) {
            Ok(LockAttempt::Taken(held)) => Ok(Self { path, _held: held }),
            Ok(LockAttempt::HeldBy(holder)) => Err(LockRefused::Held { path, holder }),
            Err(error) => {
                Err(LockRefused::Disk { path, kind: error.kind(), cause: in_words(&error).to_string() })
            }
        }
    }
}

impl fmt::Debug for DirectoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryLock").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a directory was not locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockRefused {
    /// Somebody has it.
    Held {
        /// The lock's file.
        path: PathBuf,
        /// What the holder wrote into it: `pid` and its process id.
        holder: String,
    },
    /// The lock's file cannot be used.
    Disk {
        /// The lock's file.
        path: PathBuf,
        /// The kind of the operating system's answer.
        kind: io::ErrorKind,
        /// The operating system's words.
        cause: String,
    },
}

impl fmt::Display for LockRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, holder } => {
                let holder = if holder.is_empty() { "another process" } else { holder };
                write!(
                    f,
                    "{} is in use by {holder}. Stop that process, or choose another data directory. Deleting the \
                     file {} does not help and would endanger the data",
                    path.parent().unwrap_or(path).display(),
                    path.display()
                )
            }
            Self::Disk { path, cause, .. } => write!(
                f,
                "cannot lock {}: {cause}. Does the directory exist, and may this user write to it?",
                path.display()
            ),
        }
    }
}

impl Error for LockRefused {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_refusal_says_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = DirectoryLock::acquire(folder.path()).unwrap();
        let refused = DirectoryLock::acquire(folder.path()).unwrap_err();
        let message = refused.to_string();
        assert!(message.contains(&format!("in use by pid {}.", std::process::id())), "{message}");
        drop(held);
        DirectoryLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn a_file_that_nobody_holds_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK_FILE), "pid 1\n").unwrap();
        DirectoryLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn a_directory_that_does_not_exist_is_refused() {
        let refused = DirectoryLock::acquire(Path::new("/nonexistent/leveret")).unwrap_err();
        assert!(matches!(refused, LockRefused::Disk { kind: io::ErrorKind::NotFound, .. }), "{refused}");
    }
}
