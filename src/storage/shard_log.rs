//! What the owner of a log may ask of it.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Batch, Damage, KnownLog, LogIndex, LogKeeper, LogPosition, RecoveredBatch};
use crate::model::{BodySequence, Durability, in_words};

/// An append-only log with one owner, who proposes batches and asks how far they are safe.
///
/// Order of calls: [`propose`](Self::propose) any number of batches; each time the log reports progress (through the
/// callback it was opened with), look at [`progress`](Self::progress) and act on what became durable. Batches become
/// durable in the order they were proposed.
pub trait ShardLog: Send {
    /// The index that the next proposed batch will get.
    fn next_index(&self) -> LogIndex;

    /// Hands a batch over and returns the index it got. Never waits for a disk.
    ///
    /// # Errors
    /// On any error the batch was not taken and the log did not change. [`LogFailure::is_final`] tells whether the
    /// log refuses everything from now on.
    fn propose(&mut self, batch: Batch) -> Result<LogIndex, LogFailure>;

    /// How far the log is durable, and whether it failed.
    fn progress(&self) -> Progress;

    /// Whether everything handed over is durable. What an owner proposes while this does not hold becomes durable
    /// together with all else that waits, so a few batches ahead cost little and many let work pile up better.
    fn idle(&self) -> bool;

    /// Bytes handed over that are not durable yet: payload, and what each batch and each piece of it costs beside.
    fn pending_bytes(&self) -> usize;

    /// A reader of this log's batches, for any thread.
    fn reader(&self) -> Arc<dyn BodyRead>;

    /// The place behind the batch that was proposed last: what the owner knows now, if it knows of nothing that it
    /// has not proposed, is what a checkpoint at this place may say.
    fn position(&self) -> LogPosition;

    /// Which log this is, and how far it is durable; `None` if it is in memory.
    fn known(&self) -> Option<KnownLog>;

    /// What keeps this log small, for any thread; `None` if it keeps nothing.
    fn keeper(&self) -> Option<Arc<dyn LogKeeper>>;
}

/// How far a log has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Every batch up to this one, this one included, is durable; 0 while none is.
    pub durable: LogIndex,
    /// How safe these batches are.
    pub durability: Durability,
    /// Why nothing more will become durable, if so.
    pub failed: Option<LogFailure>,
    /// Whether the disk has room for more.
    pub room: LogRoom,
}

/// Whether a log's disk has room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogRoom {
    /// It has.
    #[default]
    Enough,
    /// What is written now takes what was kept for a full disk.
    ReserveInUse,
    /// It has none, or no file can be opened. What was handed over waits, and is written as soon as there is room: the log looks for it twice a
    /// second.
    None(DiskError),
}

impl LogRoom {
    /// Whether more than what cannot wait may be written.
    pub fn is_enough(&self) -> bool {
        *self == Self::Enough
    }
}

/// Reads batches back. Calls block on the disk: use a pool of threads that may block.
pub trait BodyRead: Send + Sync {
    /// Reads the batches from `first` to before `end`, which must be written already. All checksums are checked. Ask
    /// for about as much as you want in memory at once: neighbours share the memory that they were read into.
    ///
    /// # Errors
    /// See [`ReadFailure`]; reading never changes the log.
    fn read(&self, first: LogIndex, end: LogIndex) -> Result<Vec<RecoveredBatch>, ReadFailure>;
}

/// What was asked of the disk when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAction {
    /// Create a file or directory.
    Create,
    /// Open a file.
    Open,
    /// List a directory.
    List,
    /// Read from a file.
    Read,
    /// Write to a file.
    Write,
    /// Make a file or directory durable.
    Sync,
    /// Cut a file.
    Truncate,
    /// Rename a file.
    Rename,
    /// Remove a file.
    Remove,
    /// Lock a directory.
    Lock,
}

impl DiskAction {
    /// The verb, for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Truncate => "truncate",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Lock => "lock",
        }
    }
}

/// A disk call that failed: what, where and why. Cheap to clone, so that it can be told to everyone it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskError {
    /// What was asked.
    pub action: DiskAction,
    /// Of which file or directory.
    pub path: PathBuf,
    /// The kind of the operating system's answer.
    pub kind: io::ErrorKind,
    /// Its number, if it has one.
    pub code: Option<i32>,
    /// The operating system's words.
    pub cause: String,
}

impl DiskError {
    /// Of a call that failed with `error`.
    pub fn new(action: DiskAction, path: &Path, error: &io::Error) -> Self {
        Self {
            action,
            path: path.to_path_buf(),
            kind: error.kind(),
            code: error.raw_os_error(),
            cause: in_words(error).to_string(),
        }
    }

    /// Whether the cause is that there is no room left.
    pub fn is_full(&self) -> bool {
        matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the cause is that too many files are open, in this process or on the machine.
    pub fn is_out_of_files(&self) -> bool {
        self.code.is_some_and(|code| OUT_OF_FILES.contains(&code))
    }

    /// What is missing for now, if it is room or an open file: in a sentence, with the error.
    pub fn shortage(&self) -> String {
        match self.is_out_of_files() {
            true => format!("too many files are open: {self}"),
            false => format!("the disk is full: {self}"),
        }
    }
}

/// `ENFILE` and `EMFILE`, the same on Linux and the BSDs.
const OUT_OF_FILES: [i32; 2] = [23, 24];

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.action.as_str(), self.path.display(), self.cause)
    }
}

impl Error for DiskError {}

/// Why a log did not take a batch, or takes none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFailure {
    /// The payload is larger than one batch may be. Only this batch is refused.
    BatchTooLarge {
        /// Length of the payload.
        bytes: u64,
        /// Longest payload allowed.
        bytes_max: u64,
    },
    /// More would be waiting for the disk than is allowed. Only this batch is refused; try again after progress.
    TooMuchPending {
        /// Bytes waiting, this batch included.
        bytes: u64,
        /// Most bytes that may wait.
        bytes_max: u64,
    },
    /// The batch counts its bodies from before the end of an earlier batch. Only this batch is refused.
    BodiesOutOfOrder {
        /// The lowest sequence that the first body may have.
        expected: BodySequence,
        /// The sequence it was given.
        got: BodySequence,
    },
    /// The disk had no room to the end. Final for this log until it is opened again.
    DiskFull(DiskError),
    /// A write or sync failed. Final: what the disk holds is known again only after a restart.
    Disk(DiskError),
    /// The writer ended without being asked to. Final.
    WriterStopped,
}

impl LogFailure {
    /// Whether the log takes no batch any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::DiskFull(_) | Self::Disk(_) | Self::WriterStopped)
    }
}

impl From<DiskError> for LogFailure {
    fn from(error: DiskError) -> Self {
        if error.is_full() { Self::DiskFull(error) } else { Self::Disk(error) }
    }
}

impl fmt::Display for LogFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BatchTooLarge { bytes, bytes_max } => {
                write!(
                    f,
                    "a batch of {bytes} bytes is larger than the {bytes_max} bytes that one batch may have"
                )
            }
            Self::TooMuchPending { bytes, bytes_max } => {
                write!(
                    f,
                    "{bytes} bytes would wait for the disk, and at most {bytes_max} may: wait for progress"
                )
            }
            Self::BodiesOutOfOrder { expected, got } => {
                write!(
                    f,
                    "a batch numbers its bodies from {got}, but bodies up to {expected} are taken already"
                )
            }
            Self::DiskFull(error) => write!(
                f,
                "the disk is full: {error}. Nothing confirmed is lost. Free some space and start the broker again"
            ),
            Self::Disk(error) => write!(
                f,
                "{error}. The log takes no more writes, since a failed write is never retried. Nothing confirmed \
                 is lost. Check the disk (dmesg, smartctl), then start the broker again"
            ),
            Self::WriterStopped => {
                f.write_str("the log's writer stopped unexpectedly: start the broker again")
            }
        }
    }
}

impl Error for LogFailure {}

/// Why a part of a batch could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFailure {
    /// This log keeps nothing to read back: its owner holds all bodies itself.
    NothingKept,
    /// The log has no such batch, or has not written it yet.
    NoSuchBatch {
        /// The batch asked for.
        index: LogIndex,
    },
    /// What is on the disk is not what was written.
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where in it the frame begins.
        offset: u64,
        /// What is wrong.
        why: Damage,
    },
    /// The disk failed.
    Disk(DiskError),
}

impl fmt::Display for ReadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingKept => f.write_str("a log in memory keeps nothing to read back"),
            Self::NoSuchBatch { index } => write!(f, "the log holds no batch {index}"),
            Self::Damaged { path, offset, why } => {
                write!(f, "{} is damaged at byte {offset}: {why}", path.display())
            }
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl Error for ReadFailure {}
