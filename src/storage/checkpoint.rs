//! A checkpoint: what the owner of a log had made of it up to an entry, so that a start need not read what came before.
//!
//! ```text
//!  0 magic "LVTCHKP\n"                 8 version            12 flags
//! 16 log id                           24 index
//! 32 term                             40 voted for
//! 48 first index of the segment that holds the entry        56 offset behind the entry
//! 64 salt of that segment             72 bodies end
//! 80 durable end                      88 crc of the frame   92 crc of all behind the header
//! 96 membership bytes                104 state bytes
//! 112 number of segments             116 zeros              124 header crc32c
//! ```
//!
//! Behind the header stand the membership, which a segment that is deleted would take with it; then, for each segment
//! before that one which is still there, its first index, the index behind its last entry, its first body, the one
//! behind its last body, and its bytes, 8 bytes each; then the state, which only the owner understands.

use std::{
    fmt,
    io::IoSlice,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Access, Disk, DiskAction, DiskError, DiskFile, LogIndex, NodeId, Term,
    disk::{read_exact_at, write_all_at},
    frame::{read_u32, read_u64},
    log_directory::SegmentFile,
    segment::{Chain, checkpoint_path, segment_path, unfinished_path},
    segment_table::Segment,
};
use crate::model::BodySequence;

const HEADER_BYTES: usize = 128;
const MAGIC: [u8; 8] = *b"LVTCHKP\n";
/// The version of checkpoints that this program writes and reads.
pub const CHECKPOINT_VERSION: u32 = 1;

/// Longest state of an owner, in bytes; no reader ever allocates more on the word of a file.
pub const STATE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes that a segment takes in the list.
const SEGMENT_BYTES: u64 = 40;
/// Longest membership, in bytes.
const MEMBERSHIP_BYTES_MAX: u64 = 64 * 1024;

/// How many checkpoints are kept: if the newest cannot be read the one before it costs time, and no data.
pub(super) const KEPT: usize = 2;

/// A checkpoint as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) log_id: u64,
    /// The last entry whose effect is in the state.
    pub(super) index: LogIndex,
    /// The node that the log's node voted for in the term of the chain.
    pub(super) voted_for: NodeId,
    /// The segment that holds the entry.
    pub(super) segment: LogIndex,
    /// End of the entry's frame in it.
    pub(super) offset: u64,
    /// What the frame behind the entry must agree with.
    pub(super) chain: Chain,
    /// The body of the last membership entry.
    pub(super) membership: Bytes,
    /// The segments before that one.
    pub(super) segments: Vec<Segment>,
    pub(super) state: Vec<Bytes>,
}

/// Why a file is no checkpoint that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointFault {
    /// The file is shorter than it says, or than a header.
    EndsEarly,
    /// The file is no checkpoint.
    NoMagic,
    /// A checksum does not match.
    Checksum,
    /// The header is whole but of a version that this program does not know.
    Unsupported {
        /// The checkpoint's version.
        version: u32,
    },
    /// The checkpoint is of another log.
    OtherLog,
    /// The file's name and its header disagree about the index.
    OtherName {
        /// The index according to the header.
        header: LogIndex,
    },
    /// The segment from which the log goes on is not there, or is another one.
    OtherSegments,
}

impl fmt::Display for CheckpointFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndsEarly => f.write_str("the file ends too early"),
            Self::NoMagic => f.write_str("the file does not begin like a checkpoint"),
            Self::Checksum => f.write_str("a checksum does not match"),
            Self::Unsupported { version } => write!(
                f,
                "it has format version {version}, and this program knows version {CHECKPOINT_VERSION}"
            ),
            Self::OtherLog => f.write_str("it belongs to another log"),
            Self::OtherName { header } => {
                write!(f, "it is of index {header} by its header, and of another one by its name")
            }
            Self::OtherSegments => f.write_str("the segment from which the log goes on is not there"),
        }
    }
}

impl Checkpoint {
    fn header(&self, segments: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
        let numbers = [
            (16, self.log_id),
            (24, self.index.0),
            (32, self.chain.term.0),
            (40, self.voted_for.0),
            (48, self.segment.0),
            (56, self.offset),
            (64, self.chain.salt),
            (72, self.chain.bodies_end.0),
            (80, self.chain.stated_durable_end.0),
            (96, self.membership.len() as u64),
            (104, self.state_bytes()),
        ];
        for (at, number) in numbers {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[88..92].copy_from_slice(&self.chain.previous_crc.to_le_bytes());
        bytes[112..116].copy_from_slice(&(self.segments.len() as u32).to_le_bytes());
        let content =
            [&self.membership[..], segments].into_iter().chain(self.state.iter().map(|piece| &piece[..]));
        let crc = content.fold(0, crc32c::crc32c_append);
        bytes[92..96].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn state_bytes(&self) -> u64 {
        self.state.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Writes the checkpoint. It gets its name only when all of it is durable; an error leaves no file behind unless
    /// removing it fails, too, and then the next one takes its place.
    pub(super) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<PathBuf, DiskError> {
        let path = checkpoint_path(directory, self.index);
        let unfinished = unfinished_path(&path);
        let written = self.write_unfinished(disk, &unfinished).and_then(|()| {
            disk.rename(&unfinished, &path)
                .map_err(|error| DiskError::new(DiskAction::Rename, &unfinished, &error))
        });
        if let Err(error) = written {
            // What could not be written may not be removable either; a start removes it.
            let _ = disk.remove(&unfinished);
            return Err(error);
        }
        disk.sync_directory(directory)
            .map_err(|error| DiskError::new(DiskAction::Sync, directory, &error))?;
        Ok(path)
    }

    fn write_unfinished(&self, disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
        let failed = |action| move |error| DiskError::new(action, path, &error);
        let file = disk.create(path).map_err(failed(DiskAction::Create))?;
        let segments: Vec<u8> = self.segments.iter().flat_map(encode_segment).collect();
        let header = self.header(&segments);
        let mut pieces: Vec<_> = [&header[..], &self.membership[..], &segments[..]]
            .into_iter()
            .chain(self.state.iter().map(|piece| &piece[..]))
            .filter(|piece| !piece.is_empty())
            .map(IoSlice::new)
            .collect();
        write_all_at(&*file, &mut pieces, 0, 0).map_err(failed(DiskAction::Write))?;
        file.sync_data().map_err(failed(DiskAction::Sync))
    }

    /// Reads the checkpoint that bears the name of `index`.
    pub(super) fn read(
        disk: &dyn Disk,
        directory: &Path,
        index: LogIndex,
    ) -> Result<Result<Self, CheckpointFault>, DiskError> {
        let path = checkpoint_path(directory, index);
        let failed = |action| {
            let path = &path;
            move |error| DiskError::new(action, path, &error)
        };
        let file = disk.open(&path, Access::Read).map_err(failed(DiskAction::Open))?;
        let len = file.len().map_err(failed(DiskAction::Read))?;
        let read = |offset, bytes: u64| read_piece(&file, offset, bytes).map_err(failed(DiskAction::Read));
        if len < HEADER_BYTES as u64 {
            return Ok(Err(CheckpointFault::EndsEarly));
        }
        let header = read(0, HEADER_BYTES as u64)?;
        let (checkpoint, sizes) = match Self::decode(&header, index) {
            Ok(decoded) => decoded,
            Err(fault) => return Ok(Err(fault)),
        };
        let [membership_bytes, segments_bytes, state_bytes] = sizes;
        let content_bytes = membership_bytes + segments_bytes + state_bytes;
        if len != HEADER_BYTES as u64 + content_bytes {
            return Ok(Err(CheckpointFault::EndsEarly));
        }
        let mut content = read(HEADER_BYTES as u64, content_bytes)?;
        if crc32c::crc32c(&content) != read_u32(&header, 92) {
            return Ok(Err(CheckpointFault::Checksum));
        }
        let membership = content.split_to(membership_bytes as usize);
        let segments = content.split_to(segments_bytes as usize);
        let segments =
            segments.chunks_exact(SEGMENT_BYTES as usize).map(|bytes| decode_segment(directory, bytes));
        Ok(Ok(Self { membership, segments: segments.collect(), state: vec![content], ..checkpoint }))
    }

    /// Whether the log can go on behind this checkpoint.
    pub(super) fn check_segments(&self, segments: &[SegmentFile]) -> Result<(), CheckpointFault> {
        if segments.iter().any(|segment| segment.header.log_id != self.log_id) {
            return Err(CheckpointFault::OtherLog);
        }
        let goes_on = |segment: &SegmentFile| {
            segment.header.first_index == self.segment && segment.header.salt == self.chain.salt
        };
        if segments.iter().any(goes_on) { Ok(()) } else { Err(CheckpointFault::OtherSegments) }
    }

    /// A header without what stands behind it, and how long that is.
    fn decode(bytes: &[u8], named: LogIndex) -> Result<(Self, [u64; 3]), CheckpointFault> {
        if bytes[0..8] != MAGIC {
            return Err(CheckpointFault::NoMagic);
        }
        if crc32c::crc32c(&bytes[..124]) != read_u32(bytes, 124) {
            return Err(CheckpointFault::Checksum);
        }
        let version = read_u32(bytes, 8);
        if version != CHECKPOINT_VERSION || read_u32(bytes, 12) != 0 {
            return Err(CheckpointFault::Unsupported { version });
        }
        let index = LogIndex(read_u64(bytes, 24));
        if index != named {
            return Err(CheckpointFault::OtherName { header: index });
        }
        let segments_bytes = u64::from(read_u32(bytes, 112)) * SEGMENT_BYTES;
        let sizes = [read_u64(bytes, 96), segments_bytes, read_u64(bytes, 104)];
        if sizes[0] > MEMBERSHIP_BYTES_MAX || sizes[2] > STATE_BYTES_MAX {
            return Err(CheckpointFault::EndsEarly);
        }
        let chain = Chain {
            salt: read_u64(bytes, 64),
            previous_crc: read_u32(bytes, 88),
            next_index: index.next(),
            term: Term(read_u64(bytes, 32)),
            bodies_end: BodySequence(read_u64(bytes, 72)),
            stated_durable_end: LogIndex(read_u64(bytes, 80)),
            gaps: false,
        };
        let checkpoint = Self {
            log_id: read_u64(bytes, 16),
            index,
            voted_for: NodeId(read_u64(bytes, 40)),
            segment: LogIndex(read_u64(bytes, 48)),
            offset: read_u64(bytes, 56),
            chain,
            membership: Bytes::new(),
            segments: Vec::new(),
            state: Vec::new(),
        };
        Ok((checkpoint, sizes))
    }
}

fn encode_segment(segment: &Segment) -> [u8; SEGMENT_BYTES as usize] {
    let Segment { path: _, first_index, end_index, first_body, bodies_end, bytes } = segment;
    let numbers = [first_index.0, end_index.0, first_body.0, bodies_end.0, *bytes];
    let mut encoded = [0; SEGMENT_BYTES as usize];
    encoded
        .chunks_exact_mut(8)
        .zip(numbers)
        .for_each(|(at, number)| at.copy_from_slice(&number.to_le_bytes()));
    encoded
}

fn decode_segment(directory: &Path, bytes: &[u8]) -> Segment {
    let first_index = LogIndex(read_u64(bytes, 0));
    Segment {
        path: segment_path(directory, first_index),
        first_index,
        end_index: LogIndex(read_u64(bytes, 8)),
        first_body: BodySequence(read_u64(bytes, 16)),
        bodies_end: BodySequence(read_u64(bytes, 24)),
        bytes: read_u64(bytes, 32),
    }
}

fn read_piece(file: &Arc<dyn DiskFile>, offset: u64, bytes: u64) -> std::io::Result<Bytes> {
    let mut piece = vec![0; bytes as usize];
    read_exact_at(&**file, &mut piece, offset)?;
    Ok(piece.into())
}
