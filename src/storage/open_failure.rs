//! Why a log cannot be opened, and what recovery did when it could.

use std::{error::Error, fmt, path::PathBuf};

use super::{
    CheckpointFault, DiskAction, DiskError, FrameFault, LockRefused, LogIndex, OwnerFault, SegmentFault,
};

/// Why a log was not opened. Whatever the reason, no file was cut or overwritten unless it is [`Self::Disk`], and
/// then only bytes that were never confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenFailure {
    /// An option has a value that cannot work.
    BadOption {
        /// Which option, and what it may be.
        what: &'static str,
    },
    /// There is no log, and the options say not to create one.
    Missing {
        /// Where it should be.
        directory: PathBuf,
    },
    /// Somebody has the log open.
    Locked(LockRefused),
    /// A disk call failed.
    Disk(DiskError),
    /// Stored data is not what was written.
    Damaged {
        /// The segment file.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// The first batch that cannot be read.
        index: LogIndex,
        /// What is wrong there.
        why: Damage,
    },
    /// Batches are missing between two segments, or at the beginning.
    MissingBatches {
        /// The first one missing.
        first: LogIndex,
        /// The first one after them.
        end: LogIndex,
        /// The segment that begins after them.
        file: PathBuf,
    },
    /// It is not the log that was here.
    OtherLog {
        /// The log's directory.
        directory: PathBuf,
        /// The id of the log that belongs here.
        known: u64,
        /// The id of the one that is here.
        found: u64,
    },
    /// The log ends before entries that were durable.
    EndMissing {
        /// The last segment.
        file: PathBuf,
        /// Every entry below this index was durable.
        known: LogIndex,
        /// The first one that is not there.
        found: LogIndex,
    },
    /// No checkpoint can be read, and the batches before the first segment are gone because a checkpoint stood for
    /// them.
    NoCheckpoint {
        /// The oldest checkpoint.
        file: PathBuf,
        /// What is wrong with it.
        why: CheckpointFault,
        /// The first batch that is there.
        first: LogIndex,
    },
    /// The segment or checkpoint was written by a program with another format.
    UnknownVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The version this program knows.
        known: u32,
    },
    /// The directory holds something that no log puts there.
    ForeignFile {
        /// That file or directory.
        path: PathBuf,
    },
    /// The owner of the log refused one of its batches.
    Replay {
        /// The batch.
        index: LogIndex,
        /// The owner's reason.
        why: OwnerFault,
    },
}

/// What is wrong with stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A segment header.
    Segment(SegmentFault),
    /// A frame.
    Frame(FrameFault),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(fault) => fault.fmt(f),
            Self::Frame(fault) => fault.fmt(f),
        }
    }
}

impl From<DiskError> for OpenFailure {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadOption { what } => f.write_str(what),
            Self::Missing { directory } => write!(
                f,
                "there is no log in {}, and there should be one. Was the disk mounted? If the log is lost, restore \
                 the data directory from a backup",
                directory.display()
            ),
            Self::Locked(refused) => refused.fmt(f),
            Self::Disk(error) => write!(f, "the log cannot be opened: {error}"),
            Self::Damaged { file, offset, index, why } => write!(
                f,
                "{} is damaged at byte {offset}, where batch {index} belongs: {why}. This data was stored and \
                 confirmed, so nothing was cut and no file was changed. Copy the directory before doing anything \
                 else, check the disk, then restore the file from a backup",
                file.display()
            ),
            Self::MissingBatches { first, end, file } => write!(
                f,
                "batches {first} to {} are missing before {}. No file was changed. Bring back the segment files \
                 that were moved or deleted, or restore the directory from a backup",
                end.0.saturating_sub(1),
                file.display()
            ),
            Self::OtherLog { directory, known, found } => write!(
                f,
                "{} holds log {found:016x}, and log {known:016x} belongs there: it was exchanged with another shard's \
                 folder, or comes from another data directory. No file was changed. Put the right folder there, or \
                 restore the whole data directory from one backup",
                directory.display()
            ),
            Self::EndMissing { file, known, found } => write!(
                f,
                "the log ends with batch {} in {}, and batches up to {} were on the disk when the broker stopped: \
                 confirmed messages may have been among them. No file was changed. Copy the directory before doing \
                 anything else, check the disk, then restore what is missing from a backup",
                found.0.saturating_sub(1),
                file.display(),
                known.0.saturating_sub(1)
            ),
            Self::NoCheckpoint { file, why, first } => write!(
                f,
                "{} cannot be used: {why}. The batches before {first} were deleted because it stands for them, so \
                 without it nobody knows which messages are left. No file was changed. Copy the directory before \
                 doing anything else, check the disk, then restore the file from a backup",
                file.display()
            ),
            Self::UnknownVersion { file, found, known } => {
                // The same version with kinds or flags that are unknown here is from a newer program, too.
                let advice = if found < known {
                    "was written by an older version of leveret, whose format this one no longer reads: start one \
                     in between first"
                } else {
                    "was written by a newer version of leveret: start that version, or a newer one"
                };
                write!(
                    f,
                    "{} has format version {found} (this program knows {known}); it {advice}",
                    file.display()
                )
            }
            Self::ForeignFile { path } => write!(
                f,
                "{} does not belong to a log. The directory is leveret's alone: move the file away, or choose \
                 another directory",
                path.display()
            ),
            Self::Replay { index, why } => write!(
                f,
                "batch {index} is stored as it was written, but cannot be replayed: {why}. Was it written by a \
                 newer version of leveret?"
            ),
        }
    }
}

impl OpenFailure {
    /// Whether the log itself is at fault: stored data is gone or is not what was written. Everything else is about
    /// how the program was started, and goes away when it is started in another way.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Damaged { .. }
            | Self::MissingBatches { .. }
            | Self::EndMissing { .. }
            | Self::NoCheckpoint { .. }
            | Self::Replay { .. } => true,
            // Sectors that cannot be read.
            Self::Disk(error) => error.action == DiskAction::Read,
            Self::BadOption { .. }
            | Self::Locked(_)
            | Self::OtherLog { .. }
            | Self::UnknownVersion { .. }
            | Self::ForeignFile { .. } => false,
        }
    }
}

impl Error for OpenFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Replay { why, .. } => Some(why.error()),
            _ => None,
        }
    }
}

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the log was created.
    pub created: bool,
    /// Number of segments.
    pub segments: usize,
    /// Up to where a checkpoint made reading the log unnecessary.
    pub checkpoint: Option<LogIndex>,
    /// Checkpoints that were passed over, the newest first. They cost time, no data.
    pub unusable_checkpoints: Vec<UnusableCheckpoint>,
    /// Number of batches replayed.
    pub batches: u64,
    /// Bytes of segments read, zeros written ahead not counted.
    pub bytes: u64,
    /// What was cut off the end, if anything.
    pub cut: Option<Cut>,
    /// Number of files removed that a crash left behind: segments whose creation it interrupted, in which nothing was
    /// ever stored, and segments that nobody needed any more, whose removal it undid.
    pub leftovers_removed: usize,
}

impl RecoveryReport {
    /// What the operator should know of it, a sentence each: what a crash cost, if anything.
    pub fn told(&self) -> Vec<String> {
        let checkpoints = self.unusable_checkpoints.iter().map(ToString::to_string);
        checkpoints.chain(self.cut.as_ref().map(ToString::to_string)).collect()
    }
}

/// A checkpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableCheckpoint {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: CheckpointFault,
}

impl fmt::Display for UnusableCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used: {}; reading more of the log instead", self.file.display(), self.why)
    }
}

/// The end of a log that a crash left incomplete. No frame says that any of it was durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment file.
    pub file: PathBuf,
    /// Its new length.
    pub offset: u64,
    /// Bytes removed.
    pub bytes: u64,
    /// The first batch that did not make it.
    pub first_lost: LogIndex,
    /// What was wrong with it.
    pub why: FrameFault,
    /// Number of frames behind it that were whole, or at least began whole.
    pub frames_behind: u64,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: cut {} bytes at {}, from batch {} on ({}). They look like a write that a crash interrupted, of which \
             nothing was confirmed; if the broker was stopped and not killed, the file was damaged since",
            self.file.display(),
            self.bytes,
            self.offset,
            self.first_lost,
            self.why
        )
    }
}
