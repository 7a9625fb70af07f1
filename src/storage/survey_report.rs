//! What a survey of a log finds, and who goes along with it.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    CheckpointFault, Cut, Damage, DiskError, LogIndex, NodeId, OwnerFault, RecoveredBatch,
    recovery::Identity, segment::Chain,
};
use crate::model::BodySequence;

/// Whoever goes along with a survey. What it does not care about it leaves out.
pub trait Surveyor {
    /// The state of the newest checkpoint that can be used, before any frame.
    ///
    /// # Errors
    /// Why it makes no sense of it: the survey ends.
    fn restore(&mut self, _state: Bytes) -> Result<(), OwnerFault> {
        Ok(())
    }

    /// The next frame that is whole.
    ///
    /// # Errors
    /// Why it makes no sense of it: the survey ends.
    fn frame(&mut self, _frame: &SurveyedFrame<'_>) -> Result<(), OwnerFault> {
        Ok(())
    }

    /// So many bytes of segments have been read.
    fn progress(&mut self, _bytes: u64) {}

    /// Whether it has seen enough.
    fn is_done(&self) -> bool {
        false
    }
}

/// A frame that is whole.
#[derive(Debug)]
pub struct SurveyedFrame<'a> {
    /// The segment.
    pub file: &'a Path,
    /// Where it begins in it.
    pub offset: u64,
    /// Its length on the disk.
    pub bytes: u64,
    /// What it is.
    pub what: Logged,
    /// How many operations it says that it holds.
    pub operations: u32,
    /// Its place, its time, and its body. What is no batch has no bodies.
    pub batch: RecoveredBatch,
    /// A start would apply it: it lies behind the newest checkpoint.
    pub is_replayed: bool,
}

/// Kinds of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    /// What the owner recorded.
    Batch,
    /// Which node this log's node voted for.
    Vote(NodeId),
    /// Who votes.
    Membership(Vec<NodeId>),
    /// All before is durable.
    Mark,
    /// The end of a merged segment.
    End,
}

/// What a survey found.
#[derive(Debug)]
pub struct Survey {
    /// The log's folder.
    pub directory: PathBuf,
    /// The log's id; `None` if no segment tells it.
    pub log_id: Option<u64>,
    /// In order.
    pub segments: Vec<SurveyedSegment>,
    /// In order.
    pub checkpoints: Vec<SurveyedCheckpoint>,
    /// What is gone or is not what was written, in order.
    pub losses: Vec<Loss>,
    /// What a start would cut off the end.
    pub torn: Option<Cut>,
    /// Files that a start would remove: a crash left them, and nothing is in them.
    pub leftovers: usize,
    /// The index behind the last entry.
    pub end: LogIndex,
    /// Where in the last segment the first entry begins that no later frame calls durable.
    pub(super) unproven_from: Option<u64>,
    /// From where on the last segment's file holds only what it held as an older segment.
    pub(super) older_from: Option<u64>,
    pub(super) chain: Chain,
    pub(super) identity: Identity,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedSegment {
    /// The file.
    pub path: PathBuf,
    /// Index of its first entry.
    pub first_index: LogIndex,
    /// Index behind its last one.
    pub end_index: LogIndex,
    /// Lowest sequence that a body in it may have.
    pub first_body: BodySequence,
    /// Lowest sequence behind its bodies.
    pub bodies_end: BodySequence,
    /// Where its last whole frame ends.
    pub bytes: u64,
    /// Where its last entry ends.
    pub(super) entries_end: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Entries in it that are whole.
    pub entries: u64,
    /// Bodies in these.
    pub bodies: u64,
    /// It was made of others.
    pub is_merged: bool,
    /// Its header is whole: where it is not, no log with it opens.
    pub is_sound: bool,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedCheckpoint {
    /// The file.
    pub path: PathBuf,
    /// The last entry in it.
    pub index: LogIndex,
    /// Why it cannot be used.
    pub fault: Option<CheckpointFault>,
}

/// A part of a log that is gone, or is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The file in which it is, or before which it is missing.
    pub file: PathBuf,
    /// Where it begins there.
    pub offset: u64,
    /// How many bytes of the file it is.
    pub bytes: u64,
    /// The entries that nobody can read.
    pub entries: Range<u64>,
    /// The sequences that the bodies in them may have. Not each of them need have been given.
    pub bodies: Range<u64>,
    /// What is wrong.
    pub cause: LossCause,
    /// A start would have to apply it, so the log does not open. What lies before the newest checkpoint is missed only by
    /// who needs one of the bodies.
    pub is_replayed: bool,
}

/// Why something is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LossCause {
    /// It is not what was written.
    Damage(Damage),
    /// It is not there.
    Missing,
    /// No checkpoint can be used, and one stood for it.
    NoCheckpoint,
    /// The disk does not give it.
    Disk(DiskError),
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(damage) => damage.fmt(f),
            Self::Missing => f.write_str("the file is missing"),
            Self::NoCheckpoint => f.write_str("no checkpoint can be used, and one stood for it"),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl Survey {
    /// Whether all that a start needs is there, as far as the log itself can tell.
    pub fn is_whole(&self) -> bool {
        self.losses.is_empty()
    }

    /// Whether all checkpoints can be used.
    pub fn checkpoints_are_good(&self) -> bool {
        self.checkpoints.iter().all(|checkpoint| checkpoint.fault.is_none())
    }
}
