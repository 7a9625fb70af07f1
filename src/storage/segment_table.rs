//! Which segments a log has and where in them each batch begins.
//!
//! The writer adds to the table, readers look things up in it. Memory: one entry of 8 bytes for every 4 KiB of
//! segment, however small the batches; from there a reader walks the few headers to the batch it wants.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use super::{LogIndex, frame::FrameHeader, segment::SegmentHeader};
use crate::model::BodySequence;

/// Distance between two places that the table remembers, in bytes: how far a reader walks at most.
pub(super) const STRIDE_BYTES: u64 = 4096;

/// A segment as the rest of the broker may know it. Checkpoints, deletion and merging of segments start from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The file.
    pub path: PathBuf,
    /// Index of its first entry.
    pub first_index: LogIndex,
    /// Index after its last entry; the first of the next segment.
    pub end_index: LogIndex,
    /// Lowest sequence that a body in it may have.
    pub first_body: BodySequence,
    /// Lowest sequence after its last body.
    pub bodies_end: BodySequence,
    /// Bytes from its beginning to the end of its last frame. The file may be longer, by zeros written ahead.
    pub bytes: u64,
}

/// Where to begin looking for a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) salt: u64,
    /// Where a frame begins, at most [`STRIDE_BYTES`] before the frame in question.
    pub(super) offset: u64,
    /// End of the last frame of the segment.
    pub(super) end: u64,
}

/// All segments of one log, in order.
#[derive(Debug, Default)]
pub(super) struct SegmentTable {
    segments: RwLock<Vec<Indexed>>,
}

#[derive(Debug)]
struct Indexed {
    segment: Segment,
    salt: u64,
    /// Where some entries begin: index relative to the first one of the segment, and offset in units of 8 bytes.
    places: Vec<(u32, u32)>,
}

/// A frame that was written, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) header: FrameHeader,
    pub(super) offset: u64,
}

impl SegmentTable {
    /// Adds a segment that follows all others.
    pub(super) fn begin(&self, path: &Path, header: &SegmentHeader, bytes: u64) {
        let segment = Segment {
            path: path.to_path_buf(),
            first_index: header.first_index,
            end_index: header.first_index,
            first_body: header.first_body,
            bodies_end: header.first_body,
            bytes,
        };
        self.write().push(Indexed { segment, salt: header.salt, places: Vec::new() });
    }

    /// Adds frames to the last segment. From now on readers find them.
    pub(super) fn extend(&self, frames: &[Written]) {
        let mut segments = self.write();
        let Some(last) = segments.last_mut() else { return };
        frames.iter().for_each(|frame| last.add(frame));
    }

    /// Where to look for an entry, if the log has it.
    pub(super) fn find(&self, index: LogIndex) -> Option<Place> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let at =
            segments.partition_point(|candidate| candidate.segment.first_index <= index).checked_sub(1)?;
        segments[at].find(index)
    }

    /// All segments in order.
    pub(super) fn list(&self) -> Vec<Segment> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.iter().map(|indexed| indexed.segment.clone()).collect()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Indexed>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Indexed {
    fn add(&mut self, frame: &Written) {
        let Written { header, offset } = frame;
        self.segment.bytes = offset + header.frame_bytes();
        if !header.kind.is_entry() {
            return;
        }
        let last_place = self.places.last().map(|(_, place)| u64::from(*place) * 8);
        if last_place.is_none_or(|last| offset - last >= STRIDE_BYTES) {
            // Segments are bounded to 4 GiB and a frame has 88 bytes at least, so both numbers fit with room.
            let relative = header.index.0 - self.segment.first_index.0;
            self.places.push((relative as u32, (offset / 8) as u32));
        }
        self.segment.end_index = header.index.next();
        if header.bodies > 0 {
            self.segment.bodies_end = BodySequence(header.first_body.0 + u64::from(header.bodies));
        }
    }

    fn find(&self, index: LogIndex) -> Option<Place> {
        if index >= self.segment.end_index {
            return None;
        }
        let relative = index.0 - self.segment.first_index.0;
        let at = self.places.partition_point(|(place, _)| u64::from(*place) <= relative).checked_sub(1)?;
        Some(Place {
            path: self.segment.path.clone(),
            salt: self.salt,
            offset: u64::from(self.places[at].1) * 8,
            end: self.segment.bytes,
        })
    }
}
