//! A segment file: its name, its header, and the order in which frames must follow each other in it.
//!
//! ```text
//!  0 magic "LVTSEGM\n"                 8 version            12 flags: 1 merged
//! 16 log id                           24 salt
//! 32 first index                      40 first body
//! 48 term                             56 crc of the frame before    60 header crc32c
//! ```
//!
//! Whatever a later version changes, magic, version and a crc32c at 60 over bytes 0 to 60 stay where they are, so that
//! every program can tell damage from a format it does not know.
//!
//! Version 2 is version 1 in a file that was a segment before: behind the last frame there may be what that one held.

use std::{ffi::OsStr, fmt, path::Path, path::PathBuf};

use super::{
    LogIndex, Term,
    frame::{FrameFault, FrameHeader, read_u32, read_u64},
};
use crate::model::BodySequence;

pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
const SEGMENT_MAGIC: [u8; 8] = *b"LVTSEGM\n";
/// The newest version of segments that this program writes and reads: that of one written over an older one.
pub const SEGMENT_VERSION: u32 = 2;
/// The version of a segment whose file was made for it.
const FRESH_VERSION: u32 = 1;
/// A segment under this ending is not part of the log yet: it gets its name when it is complete.
const UNFINISHED: &str = ".new";
/// A segment that is being made of others.
const MERGING: &str = ".merging";
/// A segment that nobody needs, to be written over.
const SPARE_ENDING: &str = ".spare";
/// A file that a repair has put aside.
pub(super) const DAMAGED: &str = ".damaged";
const SEGMENT_ENDING: &str = ".log";
const CHECKPOINT_ENDING: &str = ".checkpoint";

/// The version that this program knows, to be told beside a version `found` that it does not read: one that it knows by
/// number has something in it that it does not know.
pub(super) fn version_known_beside(found: u32) -> u32 {
    if (FRESH_VERSION..=SEGMENT_VERSION).contains(&found) { found } else { SEGMENT_VERSION }
}

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The same in all segments of one log and in no other.
    pub(super) log_id: u64,
    /// Repeated in every frame of this segment.
    pub(super) salt: u64,
    /// Index of the first entry.
    pub(super) first_index: LogIndex,
    /// Lowest sequence that the first body may have.
    pub(super) first_body: BodySequence,
    /// Term of the last entry before.
    pub(super) term: Term,
    /// Header checksum of the last frame before; 0 if there is none.
    pub(super) previous_crc: u32,
    /// It was made of others: entries may be missing in it.
    pub(super) merged: bool,
    /// It was written over an older one, parts of which may lie behind its last frame.
    pub(super) reused: bool,
}

const MERGED: u32 = 1;

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        let version = if self.reused { SEGMENT_VERSION } else { FRESH_VERSION };
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.merged).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_index.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_body.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.previous_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, SegmentFault> {
        if bytes[0..8] != SEGMENT_MAGIC {
            return Err(SegmentFault::NoMagic);
        }
        if crc32c::crc32c(&bytes[..60]) != read_u32(bytes, 60) {
            return Err(SegmentFault::HeaderChecksum);
        }
        let version = read_u32(bytes, 8);
        let flags = read_u32(bytes, 12);
        if !(FRESH_VERSION..=SEGMENT_VERSION).contains(&version) || flags & !MERGED != 0 {
            return Err(SegmentFault::Unsupported { version });
        }
        Ok(Self {
            log_id: read_u64(bytes, 16),
            salt: read_u64(bytes, 24),
            first_index: LogIndex(read_u64(bytes, 32)),
            first_body: BodySequence(read_u64(bytes, 40)),
            term: Term(read_u64(bytes, 48)),
            previous_crc: read_u32(bytes, 56),
            merged: flags & MERGED != 0,
            reused: version == SEGMENT_VERSION,
        })
    }
}

/// Why a segment's header is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentFault {
    /// The file is shorter than a header.
    EndsEarly,
    /// The file is no segment.
    NoMagic,
    /// The header is not what was written.
    HeaderChecksum,
    /// The header is whole but of a version that this program does not know.
    Unsupported {
        /// The segment's version.
        version: u32,
    },
    /// The file's name and its header disagree about the first index.
    OtherName {
        /// The first index according to the header.
        header: LogIndex,
    },
    /// The segment is part of another log.
    OtherLog,
    /// The segment does not follow the segment before it.
    OtherHistory,
    /// The file has the name of a segment that was never finished, but holds more than such a segment can.
    NameLost,
}

impl fmt::Display for SegmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndsEarly => f.write_str("the file is too short for a segment of a log"),
            Self::NoMagic => f.write_str("the file does not begin like a segment of a log"),
            Self::HeaderChecksum => f.write_str("the checksum of the segment header does not match"),
            Self::Unsupported { version } => write!(
                f,
                "the segment has format version {version}, and this program knows versions up to {SEGMENT_VERSION}"
            ),
            Self::OtherName { header } => {
                write!(f, "the segment header says that it begins at index {header}, its file name does not")
            }
            Self::OtherLog => f.write_str("the segment belongs to another log"),
            Self::OtherHistory => f.write_str("the segment does not follow the segment before it"),
            Self::NameLost => f.write_str(
                "the name says that the segment was never finished, and yet there is data in it; did somebody \
                 rename it?",
            ),
        }
    }
}

/// The path of the segment that begins at `first_index`.
pub(super) fn segment_path(directory: &Path, first_index: LogIndex) -> PathBuf {
    directory.join(format!("{:020}{SEGMENT_ENDING}", first_index.0))
}

/// The path of the checkpoint up to `index`.
pub(super) fn checkpoint_path(directory: &Path, index: LogIndex) -> PathBuf {
    directory.join(format!("{:020}{CHECKPOINT_ENDING}", index.0))
}

/// The path of a segment or checkpoint while it is being created.
pub(super) fn unfinished_path(finished: &Path) -> PathBuf {
    let mut path = finished.as_os_str().to_owned();
    path.push(UNFINISHED);
    path.into()
}

/// The path of a segment while it is made of others, the first of which is at `first`.
pub(super) fn merging_path(first: &Path) -> PathBuf {
    let mut path = first.as_os_str().to_owned();
    path.push(MERGING);
    path.into()
}

/// The path of a segment while it waits to be written over.
pub(super) fn spare_path(directory: &Path, first_index: LogIndex) -> PathBuf {
    directory.join(format!("{:020}{SPARE_ENDING}", first_index.0))
}

/// What a name in a log's directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameOf {
    Segment(LogIndex),
    UnfinishedSegment(LogIndex),
    UnfinishedMerge,
    Checkpoint(LogIndex),
    UnfinishedCheckpoint,
    Spare,
    /// No log looks at it.
    PutAside,
    Nothing,
}

impl NameOf {
    pub(super) fn read(name: &OsStr) -> Self {
        let Some(name) = name.to_str() else { return Self::Nothing };
        if name.ends_with(DAMAGED) {
            return Self::PutAside;
        }
        if let Some(name) = name.strip_suffix(MERGING) {
            let is_segment = matches!(Self::read(name.as_ref()), Self::Segment(_));
            return if is_segment { Self::UnfinishedMerge } else { Self::Nothing };
        }
        if let Some(digits) = name.strip_suffix(SPARE_ENDING) {
            return if are_an_index(digits) { Self::Spare } else { Self::Nothing };
        }
        let (name, unfinished) = match name.strip_suffix(UNFINISHED) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (digits, is_segment) =
            match (name.strip_suffix(SEGMENT_ENDING), name.strip_suffix(CHECKPOINT_ENDING)) {
                (Some(digits), _) => (digits, true),
                (_, Some(digits)) => (digits, false),
                _ => return Self::Nothing,
            };
        if !are_an_index(digits) {
            return Self::Nothing;
        }
        match (digits.parse().map(LogIndex), is_segment, unfinished) {
            (Ok(first), true, false) => Self::Segment(first),
            (Ok(first), true, true) => Self::UnfinishedSegment(first),
            (Ok(index), false, false) => Self::Checkpoint(index),
            (Ok(_), false, true) => Self::UnfinishedCheckpoint,
            (Err(_), ..) => Self::Nothing,
        }
    }
}

/// Whether a name has the digits of an index, as names of files have them.
fn are_an_index(digits: &str) -> bool {
    digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// No log gets so far in earnest; a file that says so shall not make the numbers after it overflow.
const INDEX_END: u64 = 1 << 63;

/// What the next frame must agree with. Writer and recovery keep the same one, so they cannot disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Salt of the segment at hand.
    pub(super) salt: u64,
    /// Header checksum of the last frame.
    pub(super) previous_crc: u32,
    /// Index of the next entry.
    pub(super) next_index: LogIndex,
    /// Term of the last frame.
    pub(super) term: Term,
    /// Lowest sequence that the next body may have.
    pub(super) bodies_end: BodySequence,
    /// Every entry below this is durable, by the word of the last frame.
    pub(super) stated_durable_end: LogIndex,
    /// Entries may be missing.
    pub(super) gaps: bool,
}

impl Chain {
    /// The chain at the start of a segment.
    pub(super) fn at(header: &SegmentHeader) -> Self {
        Self {
            salt: header.salt,
            previous_crc: header.previous_crc,
            next_index: header.first_index,
            term: header.term,
            bodies_end: header.first_body,
            stated_durable_end: header.first_index,
            gaps: header.merged,
        }
    }

    /// Whether a frame may come next.
    pub(super) fn check(&self, frame: &FrameHeader) -> Result<(), FrameFault> {
        if frame.salt != self.salt {
            return Err(FrameFault::OtherSegment);
        }
        if frame.previous_crc != self.previous_crc {
            return Err(FrameFault::OtherHistory);
        }
        if frame.index < self.next_index || frame.index > self.next_index && !self.gaps {
            return Err(FrameFault::WrongIndex { got: frame.index, expected: self.next_index });
        }
        let bodies_fit = frame.bodies == 0
            || (frame.first_body >= self.bodies_end
                && frame.first_body.0.checked_add(u64::from(frame.bodies)).is_some());
        let index_fits = frame.index.0 < INDEX_END;
        let durable_fits = (self.stated_durable_end..=self.next_index).contains(&frame.durable_end)
            && frame.committed_end <= frame.durable_end;
        if frame.term < self.term || !bodies_fit || !index_fits || !durable_fits {
            return Err(FrameFault::Contradiction);
        }
        Ok(())
    }

    /// Takes a frame that passed [`check`](Self::check) as the last one.
    pub(super) fn advance(&mut self, frame: &FrameHeader, crc: u32) {
        self.previous_crc = crc;
        self.term = frame.term;
        self.stated_durable_end = frame.durable_end;
        if frame.kind.is_entry() {
            self.next_index = frame.index.next();
        }
        if frame.bodies > 0 {
            self.bodies_end = BodySequence(frame.first_body.0 + u64::from(frame.bodies));
        }
    }
}
