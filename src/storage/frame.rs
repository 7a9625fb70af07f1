//! The batch frame: how one batch lies on the disk.
//!
//! A frame is a header of 88 bytes, then the body, then zeros up to a multiple of 8. Numbers are little-endian.
//!
//! ```text
//!  0 magic "LVTF"      4 version 5 kind 6 flags      8 body bytes        12 body crc32c
//! 16 segment salt                                   24 term
//! 32 index                                          40 recorded at, ms
//! 48 first body                                     56 bodies            60 operations
//! 64 durable end                                    72 committed end
//! 80 crc of the frame before                        84 header crc32c
//! ```
//!
//! The header crc covers bytes 0 to 84, the body crc the body with its padding, so every byte is covered. Since the
//! header crc covers the crc of the frame before, each frame vouches for the whole segment up to it.
//!
//! Whatever a later version changes, magic, version, salt and header crc stay where they are, so that every program
//! can tell damage from a format it does not know.

use std::fmt;

use super::{LogIndex, Term};
use crate::model::{BodySequence, Timestamp};

pub(super) const FRAME_HEADER_BYTES: usize = 88;
const FRAME_ALIGNMENT: usize = 8;
pub(super) const FRAME_MAGIC: [u8; 4] = *b"LVTF";
pub(super) const FRAME_VERSION: u8 = 1;

/// Longest payload of one batch in bytes; no reader ever allocates more on the word of a file.
pub const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// A batch of operations: an entry of the log.
    Batch,
    /// Which node this log's node voted for in the frame's term. Not an entry: state that Raft keeps beside its log.
    Vote,
    /// The voters from here on: an entry of the log.
    Membership,
    /// Nothing but the word, in the header, that everything before is durable. Not an entry.
    Mark,
    /// The end of a segment that was made of others, and what it stands for. Not an entry.
    End,
}

impl FrameKind {
    const ALL: [Self; 5] = [Self::Batch, Self::Vote, Self::Membership, Self::Mark, Self::End];

    fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::Vote => 2,
            Self::Membership => 3,
            Self::Mark => 4,
            Self::End => 5,
        }
    }

    /// Whether a frame of this kind takes an index of its own.
    pub(super) fn is_entry(self) -> bool {
        matches!(self, Self::Batch | Self::Membership)
    }
}

/// The header of a frame, without magic, version and flags, which are constant, and its own checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    /// Length of the body without padding.
    pub(super) body_bytes: u32,
    /// Checksum of the body with its padding.
    pub(super) body_crc: u32,
    /// The salt of the segment, so that bytes from elsewhere are never taken for this segment's.
    pub(super) salt: u64,
    pub(super) term: Term,
    /// Index of this entry; for a frame that is no entry, the index that the next entry will get.
    pub(super) index: LogIndex,
    pub(super) recorded_at: Timestamp,
    pub(super) first_body: BodySequence,
    pub(super) bodies: u32,
    pub(super) operations: u32,
    /// Every entry below this index was durable when this frame was written.
    pub(super) durable_end: LogIndex,
    /// Every entry below this index was committed when this frame was written. With one voter: the durable ones.
    pub(super) committed_end: LogIndex,
    /// Header checksum of the frame before, in this segment or the one before; 0 for the first frame of a log.
    pub(super) previous_crc: u32,
}

/// A header as it lies on the disk, and its checksum.
pub(super) struct EncodedHeader {
    pub(super) bytes: [u8; FRAME_HEADER_BYTES],
    pub(super) crc: u32,
}

impl FrameHeader {
    pub(super) fn encode(&self) -> EncodedHeader {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4] = FRAME_VERSION;
        bytes[5] = self.kind.code();
        bytes[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.recorded_at.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first_body.0.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.bodies.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.operations.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.durable_end.0.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.committed_end.0.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.previous_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..84]);
        bytes[84..88].copy_from_slice(&crc.to_le_bytes());
        EncodedHeader { bytes, crc }
    }

    /// Reads a header and returns it with its checksum.
    pub(super) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<(Self, u32), FrameFault> {
        if bytes[0..4] != FRAME_MAGIC {
            return Err(FrameFault::NoMagic);
        }
        let crc = read_u32(bytes, 84);
        if crc32c::crc32c(&bytes[..84]) != crc {
            return Err(FrameFault::HeaderChecksum);
        }
        // From here on the bytes are what somebody wrote, so what we do not know is not damage but a later format.
        let kind = FrameKind::ALL.into_iter().find(|kind| kind.code() == bytes[5]);
        let (FRAME_VERSION, Some(kind), [0, 0]) = (bytes[4], kind, [bytes[6], bytes[7]]) else {
            return Err(FrameFault::Unsupported { version: bytes[4], kind: bytes[5] });
        };
        let header = Self {
            kind,
            body_bytes: read_u32(bytes, 8),
            body_crc: read_u32(bytes, 12),
            salt: read_u64(bytes, 16),
            term: Term(read_u64(bytes, 24)),
            index: LogIndex(read_u64(bytes, 32)),
            recorded_at: Timestamp(read_u64(bytes, 40)),
            first_body: BodySequence(read_u64(bytes, 48)),
            bodies: read_u32(bytes, 56),
            operations: read_u32(bytes, 60),
            durable_end: LogIndex(read_u64(bytes, 64)),
            committed_end: LogIndex(read_u64(bytes, 72)),
            previous_crc: read_u32(bytes, 80),
        };
        if header.body_bytes as usize > BATCH_BYTES_MAX {
            return Err(FrameFault::TooLong { bytes: header.body_bytes });
        }
        Ok((header, crc))
    }

    /// Length of the whole frame on the disk.
    pub(super) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.body_bytes as usize)
    }
}

/// Length on the disk of a frame with a body of `body_bytes`.
pub(super) fn frame_bytes(body_bytes: usize) -> u64 {
    (FRAME_HEADER_BYTES + body_bytes + padding_bytes(body_bytes)) as u64
}

/// Number of zeros after a body of `body_bytes`, so that the next frame begins on a multiple of 8.
pub(super) fn padding_bytes(body_bytes: usize) -> usize {
    body_bytes.next_multiple_of(FRAME_ALIGNMENT) - body_bytes
}

/// The zeros from which padding is taken.
pub(super) const PADDING: [u8; FRAME_ALIGNMENT] = [0; FRAME_ALIGNMENT];

/// Checksum of a body in pieces, with its padding.
pub(super) fn body_crc<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> u32 {
    let (crc, bytes) =
        pieces.fold((0, 0), |(crc, bytes), piece| (crc32c::crc32c_append(crc, piece), bytes + piece.len()));
    crc32c::crc32c_append(crc, &PADDING[..padding_bytes(bytes)])
}

/// Why bytes are not the frame that should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFault {
    /// The file ends within the frame.
    EndsEarly,
    /// No frame begins here.
    NoMagic,
    /// The header is not what was written.
    HeaderChecksum,
    /// The body is not what was written.
    BodyChecksum,
    /// The frame is whole, but its version, kind or flags are unknown to this program.
    Unsupported {
        /// The frame's version.
        version: u8,
        /// The frame's kind.
        kind: u8,
    },
    /// The frame claims a body longer than any batch may be.
    TooLong {
        /// The claimed length.
        bytes: u32,
    },
    /// The frame belongs to another segment.
    OtherSegment,
    /// The frame does not follow the frame before it.
    OtherHistory,
    /// The frame has the wrong index.
    WrongIndex {
        /// The index it has.
        got: LogIndex,
        /// The index it should have.
        expected: LogIndex,
    },
    /// The frame is whole but contradicts the frames before it.
    Contradiction,
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndsEarly => f.write_str("the file ends within a frame"),
            Self::NoMagic => f.write_str("no frame begins here"),
            Self::HeaderChecksum => f.write_str("the checksum of the frame header does not match"),
            Self::BodyChecksum => f.write_str("the checksum of the frame body does not match"),
            Self::Unsupported { version, kind } => {
                write!(f, "the frame has version {version} and kind {kind}, which this program does not know")
            }
            Self::TooLong { bytes } => {
                write!(f, "the frame claims a body of {bytes} bytes, and {BATCH_BYTES_MAX} are the most")
            }
            Self::OtherSegment => f.write_str("the frame was written for another segment"),
            Self::OtherHistory => f.write_str("the frame does not follow the frame before it"),
            Self::WrongIndex { got, expected } => {
                write!(f, "the frame has index {got}, and {expected} comes next")
            }
            Self::Contradiction => f.write_str("the frame contradicts the frames before it"),
        }
    }
}

/// The salt of a header of any version.
pub(super) fn salt_of(header: &[u8; FRAME_HEADER_BYTES]) -> u64 {
    read_u64(header, 16)
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

pub(super) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
