//! What keeps a log small: checkpoints, and the removal of segments that they make unnecessary.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Disk, DiskAction, DiskError, LogIndex, OwnerFault, ReadFailure, Segment, Snapshot,
    body_reader::BodyReader,
    checkpoint::{Checkpoint, KEPT, STATE_BYTES_MAX},
    handover::Handover,
    merge::{DirectMerge, MergeSteps, Selection},
    recovery::Identity,
    segment::{Chain, checkpoint_path},
    segment_table::SegmentTable,
    spares::Spares,
};
use crate::model::BodySequence;

/// Most indices that a merged segment stands for: its places are kept in 32 bits.
const MERGED_INDICES_MAX: u64 = u32::MAX as u64;

/// A place between two entries of a log: what its owner knows there is what all entries up to it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// The last entry before.
    pub index: LogIndex,
    /// Lowest sequence that a body behind it may have.
    pub bodies_end: BodySequence,
}

/// Housekeeping of a log. Calls block on the disk; any thread may make them, one at a time.
///
/// Whatever fails here, the log goes on: it takes more room, and its next start takes longer.
pub trait LogKeeper: Send + Sync {
    /// Writes a checkpoint durably: from now on the log can be opened with this snapshot, without the entries before its
    /// place. The newest two are kept.
    ///
    /// # Errors
    /// See [`KeepFailure`]; what was there before is still there.
    fn checkpoint(&self, snapshot: Snapshot) -> Result<(), KeepFailure>;

    /// Up to which entry the newest checkpoint reaches.
    fn newest_checkpoint(&self) -> Option<LogIndex>;

    /// All segments, in order.
    fn segments(&self) -> Vec<Segment>;

    /// The segments that end at or before this index may be removed, if the owner needed nothing of them when the older
    /// of the two checkpoints was made, and merged. It is where the segment begins in which the log goes on behind that
    /// checkpoint. `None` as long as there are not two.
    fn removable_below(&self) -> Option<LogIndex>;

    /// Removes segments, given by their first indices. Returns how many bytes that freed. Some of the files may be kept for
    /// a moment, as room for the log's next segments.
    ///
    /// # Errors
    /// [`KeepFailure::Needed`] if one of them is not before [`removable_below`](Self::removable_below), and then none
    /// is removed; or the disk's error, and then some are.
    fn purge(&self, first_indices: &[LogIndex]) -> Result<u64, KeepFailure>;

    /// Makes one segment of some that follow each other, given by their first indices, with what `selection` leaves of
    /// each batch: at least what the owner needed when the newest checkpoint was made. It is begun here and done by its steps,
    /// and until it is over none of these segments may be removed or merged otherwise.
    ///
    /// # Errors
    /// [`KeepFailure::Needed`] if one of them is not before [`removable_below`](Self::removable_below);
    /// [`KeepFailure::NotNeighbours`]; [`KeepFailure::Owner`] if `selection` failed: in these cases all is as before. Or an
    /// error of the disk: then either all is as before, or the new segment is there and old ones may be, too.
    fn merge_segments(
        &self,
        first_indices: &[LogIndex],
        selection: Box<dyn Selection>,
    ) -> Result<Box<dyn MergeSteps>, KeepFailure>;
}

/// Why something was not done to keep a log small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepFailure {
    /// The checkpoint would stand for entries that are not durable.
    NotDurable {
        /// The last of them.
        index: LogIndex,
    },
    /// There is a checkpoint up to this index or a later one already.
    NotNewer {
        /// The newest one.
        newest: LogIndex,
    },
    /// The state is longer than [`STATE_BYTES_MAX`].
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// The segment is needed if the newest checkpoint cannot be read.
    Needed {
        /// First index of the segment.
        first_index: LogIndex,
    },
    /// The segments to be merged do not follow each other, or are too far apart.
    NotNeighbours,
    /// The owner cannot make sense of one of its batches.
    Owner {
        /// Which one.
        index: LogIndex,
        /// Why.
        why: OwnerFault,
    },
    /// A batch could not be read.
    Read(ReadFailure),
    /// The disk failed.
    Disk(DiskError),
}

impl fmt::Display for KeepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDurable { index } => write!(f, "batch {index} is not durable yet"),
            Self::NotNewer { newest } => write!(f, "there is a checkpoint up to batch {newest} already"),
            Self::TooLarge { bytes } => write!(
                f,
                "a checkpoint of {bytes} bytes is larger than the {STATE_BYTES_MAX} bytes that one may have"
            ),
            Self::Needed { first_index } => {
                write!(f, "the segment that begins at batch {first_index} may be needed by a start")
            }
            Self::NotNeighbours => f.write_str("the segments do not follow each other"),
            Self::Owner { index, why } => write!(f, "batch {index}: {why}"),
            Self::Read(failure) => failure.fmt(f),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl Error for KeepFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Owner { why, .. } => Some(why.error()),
            _ => None,
        }
    }
}

impl From<DiskError> for KeepFailure {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// The keeper of a log on a disk.
pub(super) struct DirectKeeper {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: PathBuf,
    pub(super) log_id: u64,
    pub(super) identity: Identity,
    pub(super) table: Arc<SegmentTable>,
    pub(super) reader: Arc<BodyReader>,
    pub(super) handover: Arc<Handover>,
    pub(super) spares: Arc<Spares>,
    /// Indices of the checkpoints that are there, rising.
    pub(super) checkpoints: Mutex<Vec<LogIndex>>,
}

impl DirectKeeper {
    /// Removes all checkpoints but the newest that are kept. What cannot be removed now is tried again next time.
    fn prune(&self, checkpoints: &mut Vec<LogIndex>) -> Result<(), DiskError> {
        while checkpoints.len() > KEPT {
            let path = checkpoint_path(&self.directory, checkpoints[0]);
            self.remove(&path)?;
            checkpoints.remove(0);
        }
        Ok(())
    }

    fn check_removable(&self, segments: &[Segment]) -> Result<(), KeepFailure> {
        let below = self.removable_below().unwrap_or_default();
        match segments.iter().find(|segment| segment.end_index > below) {
            Some(needed) => Err(KeepFailure::Needed { first_index: needed.first_index }),
            None => Ok(()),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove(path).map_err(|error| DiskError::new(DiskAction::Remove, path, &error))
    }
}

fn before(mut segments: Vec<Segment>, first_index: LogIndex) -> Vec<Segment> {
    segments.retain(|segment| segment.first_index < first_index);
    segments
}

impl LogKeeper for DirectKeeper {
    fn checkpoint(&self, snapshot: Snapshot) -> Result<(), KeepFailure> {
        let Snapshot { position: LogPosition { index, bodies_end }, state } = snapshot;
        let mut checkpoints = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if self.handover.durable_end() <= index {
            return Err(KeepFailure::NotDurable { index });
        }
        if let Some(newest) = checkpoints.last().filter(|newest| **newest >= index) {
            return Err(KeepFailure::NotNewer { newest: *newest });
        }
        let bytes = state.iter().map(|piece| piece.len() as u64).sum();
        if bytes > STATE_BYTES_MAX {
            return Err(KeepFailure::TooLarge { bytes });
        }
        let (offset, header, crc, place) = self.reader.frame(index).map_err(KeepFailure::Read)?;
        let checkpoint = Checkpoint {
            log_id: self.log_id,
            index,
            voted_for: self.identity.voted_for,
            segment: place.segment,
            offset: offset + header.frame_bytes(),
            chain: Chain {
                salt: header.salt,
                previous_crc: crc,
                next_index: index.next(),
                term: header.term,
                bodies_end,
                stated_durable_end: header.durable_end,
                gaps: false,
            },
            membership: self.identity.membership.clone(),
            segments: before(self.table.list(), place.segment),
            state,
        };
        checkpoint.write(&*self.disk, &self.directory)?;
        checkpoints.push(index);
        self.prune(&mut checkpoints)?;
        Ok(())
    }

    fn newest_checkpoint(&self) -> Option<LogIndex> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    fn segments(&self) -> Vec<Segment> {
        self.table.list()
    }

    fn removable_below(&self) -> Option<LogIndex> {
        let checkpoints = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let older = checkpoints.len().checked_sub(KEPT)?;
        let index = checkpoints[older];
        self.table.list().iter().map(|segment| segment.first_index).take_while(|first| *first <= index).last()
    }

    fn merge_segments(
        &self,
        first_indices: &[LogIndex],
        selection: Box<dyn Selection>,
    ) -> Result<Box<dyn MergeSteps>, KeepFailure> {
        let all = self.table.list();
        let is_first = |segment: &Segment| first_indices.first() == Some(&segment.first_index);
        let start = all.iter().position(is_first).unwrap_or(all.len());
        let segments = &all[start..(start + first_indices.len()).min(all.len())];
        if !segments.iter().map(|segment| segment.first_index).eq(first_indices.iter().copied()) {
            return Err(KeepFailure::NotNeighbours);
        }
        self.check_removable(segments)?;
        let range = segments.first().zip(segments.last());
        if range.is_some_and(|(first, last)| last.end_index.0 - first.first_index.0 > MERGED_INDICES_MAX) {
            return Err(KeepFailure::NotNeighbours);
        }
        Ok(Box::new(DirectMerge::begin(self, segments, selection)?))
    }

    fn purge(&self, first_indices: &[LogIndex]) -> Result<u64, KeepFailure> {
        let mut gone = self.table.list();
        gone.retain(|segment| first_indices.contains(&segment.first_index));
        self.check_removable(&gone)?;
        self.table.remove(first_indices);
        let bytes = gone.iter().map(|segment| segment.bytes).sum();
        let (mut free, read): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|segment| self.reader.forget(&segment.path));
        let spares = self.spares.choose(&mut free);
        let sync = || {
            self.disk
                .sync_directory(&self.directory)
                .map_err(|error| DiskError::new(DiskAction::Sync, &self.directory, &error))
        };
        match free
            .iter()
            .chain(&read)
            .try_for_each(|segment| self.remove(&segment.path))
            .and_then(|()| sync())
        {
            Ok(()) => self.spares.add(spares),
            Err(error) => {
                self.spares.discard(&spares);
                return Err(error.into());
            }
        }
        Ok(bytes)
    }
}
