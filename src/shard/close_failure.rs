//! Why a shard could not put everything on disk before it stopped.

use std::error::Error;
use std::fmt;

use crate::storage::{DiskError, LogFailure};

/// Why not everything that a shard took in is on disk. What was confirmed is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseFailure {
    /// Its log failed.
    Log(LogFailure),
    /// The disk has no room, or no file can be opened.
    NoRoom {
        /// So many bytes wait for it, none of them confirmed.
        bytes: usize,
        /// What the disk said.
        error: DiskError,
    },
    /// The shard stopped by itself: the program failed.
    Stopped,
}

impl fmt::Display for CloseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(failure) => failure.fmt(f),
            Self::NoRoom { bytes, error } => {
                let shortage = error.shortage();
                write!(f, "{bytes} bytes could not be written, none of them confirmed: {shortage}")
            }
            Self::Stopped => f.write_str("it stopped by itself, which is a fault of the program"),
        }
    }
}

impl Error for CloseFailure {}
