//! The directory of a log: what may be in it, how it comes to be, and what its segments say about themselves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Access, Damage, DirectLogOptions, Disk, DiskAction, DiskError, DiskFile, LogIndex, OpenFailure,
    SegmentFault, Term,
    appender::{Appender, Frames, create_segment, fresh_salt},
    frame::{FRAME_HEADER_BYTES, FrameKind},
    lock::LOCK_FILE,
    merge::read_end_of,
    recovery::Identity,
    reserve::{RESERVE_FILE, Reserve},
    scan::Scan,
    segment::{Chain, NameOf, SEGMENT_HEADER_BYTES, SegmentHeader, segment_path, version_known_beside},
    segment_table::{Segment, SegmentTable},
    spares::Spares,
};
use crate::model::BodySequence;

/// Name of a file that is made and removed at each start.
pub(super) const PROBE_FILE: &str = "probe";

/// The names in a log's directory.
pub(super) struct Names {
    /// First indices of the segments, rising.
    pub(super) segments: Vec<LogIndex>,
    /// Segments whose creation was interrupted.
    pub(super) unfinished: Vec<(PathBuf, LogIndex)>,
    /// Indices of the checkpoints, rising.
    pub(super) checkpoints: Vec<LogIndex>,
    /// Checkpoints and merged segments whose writing was interrupted.
    unfinished_others: Vec<PathBuf>,
    /// Segments that nobody needs, kept to be written over.
    spares: Vec<PathBuf>,
}

impl Names {
    pub(super) fn list(disk: &dyn Disk, directory: &Path) -> Result<Self, OpenFailure> {
        let entries =
            disk.list(directory).map_err(|error| DiskError::new(DiskAction::List, directory, &error))?;
        let mut names = Self {
            segments: Vec::new(),
            unfinished: Vec::new(),
            checkpoints: Vec::new(),
            unfinished_others: Vec::new(),
            spares: Vec::new(),
        };
        for entry in entries {
            let path = directory.join(&entry.name);
            match NameOf::read(&entry.name) {
                NameOf::Segment(first) if entry.is_file => names.segments.push(first),
                NameOf::UnfinishedSegment(first) if entry.is_file => names.unfinished.push((path, first)),
                NameOf::Checkpoint(index) if entry.is_file => names.checkpoints.push(index),
                NameOf::UnfinishedCheckpoint | NameOf::UnfinishedMerge if entry.is_file => {
                    names.unfinished_others.push(path);
                }
                NameOf::Spare if entry.is_file => names.spares.push(path),
                NameOf::PutAside if entry.is_file => {}
                NameOf::Nothing
                    if entry.is_file
                        && [LOCK_FILE, RESERVE_FILE, PROBE_FILE].iter().any(|name| entry.name == *name) => {}
                _ => return Err(OpenFailure::ForeignFile { path }),
            }
        }
        names.segments.sort_unstable();
        names.checkpoints.sort_unstable();
        Ok(names)
    }

    /// How many files there are whose writing was interrupted.
    pub(super) fn unfinished_count(&self) -> usize {
        self.unfinished.len() + self.unfinished_others.len()
    }

    /// Refuses files that are to be removed and yet hold more than the creation of a segment puts into one.
    pub(super) fn check_unfinished(&self, disk: &dyn Disk) -> Result<(), OpenFailure> {
        for (path, first) in &self.unfinished {
            if Scan::new(open(disk, path, Access::Read)?, path)?.bytes() > CREATED_BYTES_MAX {
                return Err(OpenFailure::Damaged {
                    file: path.clone(),
                    offset: CREATED_BYTES_MAX,
                    index: *first,
                    why: Damage::Segment(SegmentFault::NameLost),
                });
            }
        }
        Ok(())
    }

    /// Removes what was never finished, what was to be written over, and `others`.
    pub(super) fn remove_with_unfinished(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        others: &[PathBuf],
    ) -> Result<(), DiskError> {
        let segments = self.unfinished.iter().map(|(path, _)| path);
        for path in segments.chain(&self.unfinished_others).chain(&self.spares).chain(others) {
            disk.remove(path).map_err(|error| DiskError::new(DiskAction::Remove, path, &error))?;
        }
        // Also makes durable what an earlier life renamed and did not live to sync.
        disk.sync_directory(directory).map_err(|error| DiskError::new(DiskAction::Sync, directory, &error))
    }
}

/// A new log: one segment that holds the vote for this node and the membership of this node alone.
pub(super) fn create_log(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &DirectLogOptions,
) -> Result<(Appender, Identity), DiskError> {
    let header = SegmentHeader {
        log_id: fresh_salt(&**disk, directory)?,
        salt: fresh_salt(&**disk, directory)?,
        first_index: LogIndex(0),
        first_body: BodySequence(0),
        term: Term(0),
        previous_crc: 0,
        merged: false,
        reused: false,
    };
    let mut frames = Frames::new(Chain::at(&header), SEGMENT_HEADER_BYTES as u64, LogIndex(0));
    let vote: [u8; VOTE_BYTES] = options.node.0.to_le_bytes();
    let mut membership = [0; MEMBERSHIP_BYTES];
    membership[..8].copy_from_slice(&1u64.to_le_bytes());
    membership[8..].copy_from_slice(&options.node.0.to_le_bytes());
    frames.push_own(FrameKind::Vote, FIRST_TERM, &vote);
    frames.push_own(FrameKind::Membership, FIRST_TERM, &membership);
    // Both bodies are multiples of 8 bytes, so there is no padding.
    let content = [&frames.headers[0][..], &vote, &frames.headers[1], &membership].concat();
    let created = create_segment(&**disk, directory, &header, &content)?;

    let table = Arc::<SegmentTable>::default();
    table.begin(&created.path, &header, SEGMENT_HEADER_BYTES as u64);
    table.extend(&frames.written);
    let appender = Appender {
        disk: Arc::clone(disk),
        directory: directory.to_path_buf(),
        table,
        segment_bytes: options.segment_bytes,
        zero_ahead_bytes: options.zero_ahead_bytes,
        log_id: header.log_id,
        file: created.file,
        path: created.path,
        first_index: header.first_index,
        end: frames.end,
        exists_to: frames.end,
        durable_end: frames.chain.next_index,
        reserve: Reserve::open(disk, directory, options.reserve_bytes)?,
        spares: Arc::new(Spares::new(disk, directory, options.segment_bytes)),
        mark_given_up: false,
        chain: frames.chain,
    };
    let identity = Identity { voted_for: options.node, membership: Bytes::copy_from_slice(&membership) };
    Ok((appender, identity))
}

/// Body of a vote: the node.
pub(super) const VOTE_BYTES: usize = 8;
/// Body of a membership of one: the number of voters, then the voter.
pub(super) const MEMBERSHIP_BYTES: usize = 16;
/// The most that [`create_segment`] is given to write: the first segment of a log.
const CREATED_BYTES_MAX: u64 =
    (SEGMENT_HEADER_BYTES + 2 * FRAME_HEADER_BYTES + VOTE_BYTES + MEMBERSHIP_BYTES) as u64;

/// The term in which a log of one voter is created, and stays.
const FIRST_TERM: Term = Term(1);

/// A segment whose header is whole.
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    /// What it stands for, if it was made of others.
    pub(super) merged: Option<Segment>,
}

/// The segments of a directory, and the paths of those in whose place is a merged one.
pub(super) struct SegmentFiles {
    pub(super) segments: Vec<SegmentFile>,
    pub(super) superseded: Vec<PathBuf>,
}

/// Reads all segment headers, so that a file of another format or another log is found before anything is replayed.
pub(super) fn read_headers(
    disk: &dyn Disk,
    directory: &Path,
    firsts: &[LogIndex],
) -> Result<SegmentFiles, OpenFailure> {
    let mut segments: Vec<SegmentFile> = Vec::with_capacity(firsts.len());
    let mut superseded = Vec::new();
    for first in firsts {
        let path = segment_path(directory, *first);
        let header = Scan::new(open(disk, &path, Access::Read)?, &path)?.segment_header()?;
        let header = header.and_then(|header| {
            let of_this_log = segments.first().is_none_or(|one| one.header.log_id == header.log_id);
            if header.first_index != *first {
                Err(SegmentFault::OtherName { header: header.first_index })
            } else if !of_this_log {
                Err(SegmentFault::OtherLog)
            } else {
                Ok(header)
            }
        });
        match header {
            Ok(header) => {
                let last = segments.last().and_then(|last| last.merged.as_ref());
                if last.is_some_and(|merged| header.first_index < merged.end_index) {
                    superseded.push(path);
                    continue;
                }
                let merged = header.merged.then(|| read_end_of(disk, &path, &header)).transpose()?;
                segments.push(SegmentFile { path, header, merged });
            }
            Err(SegmentFault::Unsupported { version }) => {
                return Err(OpenFailure::UnknownVersion {
                    file: path,
                    found: version,
                    known: version_known_beside(version),
                });
            }
            Err(fault) => {
                let why = Damage::Segment(fault);
                return Err(OpenFailure::Damaged { file: path, offset: 0, index: *first, why });
            }
        }
    }
    Ok(SegmentFiles { segments, superseded })
}

pub(super) fn open(disk: &dyn Disk, path: &Path, access: Access) -> Result<Arc<dyn DiskFile>, DiskError> {
    disk.open(path, access).map_err(|error| DiskError::new(DiskAction::Open, path, &error))
}
