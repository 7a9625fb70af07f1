//! Which segments a log has and where in them each batch begins.
//!
//! The writer adds to the table, readers look things up in it. Memory: one entry of 8 bytes for every 4 KiB of
//! segment, however small the batches; from there a reader walks the few headers to the batch it wants. Only the
//! [`LISTED_MAX`] segments written or read most recently have these entries; those of another one are made again, from
//! its frame headers, when somebody reads from it.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    LogIndex,
    frame::FrameHeader,
    segment::{Chain, SEGMENT_HEADER_BYTES, SegmentHeader},
};
use crate::model::BodySequence;

/// Distance between two places that the table remembers, in bytes: how far a reader walks at most.
pub(super) const STRIDE_BYTES: u64 = 4096;

/// Segments before the last one whose places are in memory: 8 MiB at most with segments of 64 MiB.
const LISTED_MAX: usize = 64;

/// A segment as the rest of the broker may know it.
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
    /// First index of the segment.
    pub(super) segment: LogIndex,
    pub(super) path: PathBuf,
    pub(super) salt: u64,
    /// Where a frame begins, at most [`STRIDE_BYTES`] before the frame in question.
    pub(super) offset: u64,
    /// End of the last frame of the segment.
    pub(super) end: u64,
    /// Index behind the segment's last entry, if entries may be missing in it.
    pub(super) gaps_to: Option<LogIndex>,
}

/// Where an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Near this place.
    Near(Place),
    /// In this segment, if anywhere; its places have to be [learned](SegmentTable::learn) first.
    In(Unlisted),
}

/// A segment that is there without its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unlisted {
    pub(super) path: PathBuf,
    pub(super) salt: u64,
    pub(super) first_index: LogIndex,
    /// End of its last frame.
    pub(super) end: u64,
}

/// All segments of one log, in order.
#[derive(Debug, Default)]
pub(super) struct SegmentTable {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: Vec<Indexed>,
    /// Segments before the last one that have places, by their first index; the first in line loses its own first.
    listed: VecDeque<LogIndex>,
}

#[derive(Debug)]
struct Indexed {
    segment: Segment,
    salt: u64,
    merged: bool,
    places: Places,
    /// Entries before this one have no places.
    listed_from: LogIndex,
}

/// Where some entries of a segment begin: index relative to the first one of the segment, and offset in units of 8
/// bytes.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(u32, u32)>);

impl Places {
    /// Notes where an entry begins that cannot be found by walking on from the one before.
    pub(super) fn note_behind_damage(&mut self, relative_index: u64, offset: u64) {
        if self.0.last().is_none_or(|(index, _)| u64::from(*index) < relative_index) {
            self.0.push((relative_index as u32, (offset / 8) as u32));
        }
    }

    /// Notes where an entry begins, unless the last one noted is near. Entries come in order.
    pub(super) fn note(&mut self, relative_index: u64, offset: u64) {
        let last = self.0.last().map(|(_, place)| u64::from(*place) * 8);
        if last.is_none_or(|last| offset - last >= STRIDE_BYTES) {
            // Segments are bounded to 4 GiB and a frame has 88 bytes at least, so both numbers fit with room.
            self.0.push((relative_index as u32, (offset / 8) as u32));
        }
    }
}

/// A frame that was written, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) header: FrameHeader,
    pub(super) offset: u64,
}

impl SegmentTable {
    /// Adds a segment that follows all others and has no frames yet, or none that were read yet.
    pub(super) fn begin(&self, path: &Path, header: &SegmentHeader, bytes: u64) {
        self.push(path, header, header.first_index, header.first_body, bytes, header.first_index);
    }

    /// Adds a segment whose frames up to `offset` are not read, and `chain` stands behind them.
    pub(super) fn begin_behind(&self, path: &Path, header: &SegmentHeader, chain: &Chain, offset: u64) {
        self.push(path, header, chain.next_index, chain.bodies_end, offset, chain.next_index);
    }

    /// Adds a segment that is not read, as a checkpoint knows it.
    pub(super) fn begin_unread(&self, header: &SegmentHeader, known: &Segment) {
        self.push(&known.path, header, known.end_index, known.bodies_end, known.bytes, known.end_index);
    }

    fn push(
        &self,
        path: &Path,
        header: &SegmentHeader,
        end_index: LogIndex,
        bodies_end: BodySequence,
        bytes: u64,
        listed_from: LogIndex,
    ) {
        let segment = Segment {
            path: path.to_path_buf(),
            first_index: header.first_index,
            end_index,
            first_body: header.first_body,
            bodies_end,
            bytes,
        };
        let mut state = self.write();
        if let Some(last) = state.segments.last().filter(|last| !last.places.0.is_empty()) {
            let first_index = last.segment.first_index;
            state.note_listed(first_index);
        }
        state.segments.push(Indexed {
            segment,
            salt: header.salt,
            merged: header.merged,
            places: Places::default(),
            listed_from,
        });
    }

    /// Adds frames to the last segment. From now on readers find them.
    pub(super) fn extend(&self, frames: &[Written]) {
        let mut state = self.write();
        let Some(last) = state.segments.last_mut() else { return };
        frames.iter().for_each(|frame| last.add(frame));
    }

    /// Where to look for an entry, if the log has it.
    pub(super) fn find(&self, index: LogIndex) -> Option<Lookup> {
        let state = self.read();
        let at = state.position(index)?;
        state.segments[at].find(index)
    }

    /// Up to where in its segment one has to read to get all entries from `place` to before `end`.
    pub(super) fn reaches(&self, place: &Place, end: LogIndex) -> u64 {
        let state = self.read();
        let indexed = state.position(place.segment).map(|at| &state.segments[at]);
        let Some(indexed) = indexed.filter(|indexed| indexed.segment.first_index == place.segment) else {
            return place.end;
        };
        let relative = end.0 - place.segment.0;
        let at = indexed.places.0.partition_point(|(index, _)| u64::from(*index) < relative);
        indexed.places.0.get(at).map_or(place.end, |(_, offset)| u64::from(*offset) * 8)
    }

    /// Takes the places of all entries of a segment that had none of some. Nothing happens if it has gone.
    pub(super) fn learn(&self, segment: &Unlisted, mut places: Places) {
        let mut state = self.write();
        let Some(at) = state.position(segment.first_index) else { return };
        let is_last = at + 1 == state.segments.len();
        let indexed = &mut state.segments[at];
        if indexed.salt != segment.salt || indexed.listed_from == segment.first_index {
            return;
        }
        let known_from = (indexed.listed_from.0 - segment.first_index.0) as u32;
        places.0.retain(|(index, _)| *index < known_from);
        places.0.append(&mut indexed.places.0);
        indexed.places = places;
        indexed.listed_from = segment.first_index;
        if !is_last {
            state.note_listed(segment.first_index);
        }
    }

    /// Takes segments out, by their first indices. The last one stays.
    pub(super) fn remove(&self, first_indices: &[LogIndex]) {
        let mut state = self.write();
        let last = state.segments.last().map(|last| last.segment.first_index);
        let goes = |first: LogIndex| first_indices.contains(&first) && Some(first) != last;
        state.segments.retain(|indexed| !goes(indexed.segment.first_index));
        state.listed.retain(|first| !goes(*first));
    }

    /// Puts a merged segment in the place of those that it was made of.
    pub(super) fn replace(&self, merged: &Segment, salt: u64, frames: &[Written]) {
        let mut indexed = Indexed {
            segment: merged.clone(),
            salt,
            merged: true,
            places: Places::default(),
            listed_from: merged.first_index,
        };
        for Written { header, offset } in frames.iter().filter(|frame| frame.header.kind.is_entry()) {
            indexed.places.note(header.index.0 - merged.first_index.0, *offset);
        }
        let within = |first: LogIndex| (merged.first_index..merged.end_index).contains(&first);
        let mut state = self.write();
        state.listed.retain(|first| !within(*first));
        state.segments.retain(|indexed| !within(indexed.segment.first_index));
        let at = state.segments.partition_point(|other| other.segment.first_index < merged.first_index);
        state.segments.insert(at, indexed);
        state.note_listed(merged.first_index);
    }

    /// Whether a segment, by its first index and its salt, is still the one that was found.
    pub(super) fn has(&self, first_index: LogIndex, salt: u64) -> bool {
        let state = self.read();
        state.position(first_index).is_some_and(|at| state.segments[at].salt == salt)
    }

    /// Behind the last of the entries from `index` on that lie within so many bytes; at least one.
    pub(super) fn stretch_end(&self, index: LogIndex, bytes: u64) -> LogIndex {
        let state = self.read();
        let Some(at) = state.position(index) else { return index.next() };
        let Indexed { segment, places, .. } = &state.segments[at];
        let relative = index.0.saturating_sub(segment.first_index.0);
        let behind = places.0.partition_point(|(place, _)| u64::from(*place) <= relative);
        let Some((_, start)) = places.0.get(behind) else { return segment.end_index };
        let limit = u64::from(*start) * 8 + bytes;
        let end = places.0[behind..].iter().find(|(_, offset)| u64::from(*offset) * 8 > limit);
        end.map_or(segment.end_index, |(place, _)| LogIndex(segment.first_index.0 + u64::from(*place)))
    }

    /// All segments in order.
    pub(super) fn list(&self) -> Vec<Segment> {
        self.read().segments.iter().map(|indexed| indexed.segment.clone()).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Where the segment is that holds an entry, if any does.
    fn position(&self, index: LogIndex) -> Option<usize> {
        self.segments.partition_point(|candidate| candidate.segment.first_index <= index).checked_sub(1)
    }

    /// A segment before the last one has places now.
    fn note_listed(&mut self, first_index: LogIndex) {
        self.listed.retain(|listed| *listed != first_index);
        self.listed.push_back(first_index);
        if self.listed.len() > LISTED_MAX
            && let Some(first) = self.listed.pop_front()
            && let Some(at) = self.position(first)
        {
            let indexed = &mut self.segments[at];
            indexed.places = Places::default();
            indexed.listed_from = indexed.segment.end_index;
        }
    }
}

impl Indexed {
    fn add(&mut self, frame: &Written) {
        let Written { header, offset } = frame;
        self.segment.bytes = offset + header.frame_bytes();
        if !header.kind.is_entry() {
            return;
        }
        self.places.note(header.index.0 - self.segment.first_index.0, *offset);
        self.segment.end_index = header.index.next();
        if header.bodies > 0 {
            self.segment.bodies_end = BodySequence(header.first_body.0 + u64::from(header.bodies));
        }
    }

    fn find(&self, index: LogIndex) -> Option<Lookup> {
        if index >= self.segment.end_index {
            return None;
        }
        if index < self.listed_from {
            return Some(Lookup::In(Unlisted {
                path: self.segment.path.clone(),
                salt: self.salt,
                first_index: self.segment.first_index,
                end: self.segment.bytes,
            }));
        }
        let relative = index.0 - self.segment.first_index.0;
        let places = &self.places.0;
        let at = places.partition_point(|(place, _)| u64::from(*place) <= relative).checked_sub(1);
        let offset = match at {
            Some(at) => u64::from(places[at].1) * 8,
            // What was merged may begin with a later entry.
            None if self.merged => SEGMENT_HEADER_BYTES as u64,
            None => return None,
        };
        Some(Lookup::Near(Place {
            segment: self.segment.first_index,
            path: self.segment.path.clone(),
            salt: self.salt,
            offset,
            end: self.segment.bytes,
            gaps_to: self.merged.then_some(self.segment.end_index),
        }))
    }
}
