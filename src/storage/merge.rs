//! Several segments made one, which holds only what their owner still needs of them.
//!
//! The new segment has the name of the first one and stands for the indices of all. It is complete and durable under a
//! name of its own before it takes that of the first, in one step; the others go after that. So at any moment the
//! directory holds either all of the old ones, or the new one and perhaps some that it stands for.
//!
//! Its header has a flag, entries may be missing in it, and a last frame says where it ends and how much it holds.

use std::{
    fmt,
    io::IoSlice,
    mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Access, Batch, BodyRead, Damage, Disk, DiskAction, DiskError, DiskFile, FrameFault, KeepFailure,
    LogIndex, OpenFailure, OwnerFault, RecoveredBatch, Segment,
    appender::{Frames, fresh_salt},
    body_reader::BodyReader,
    disk::{read_exact_at, write_all_at},
    frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, PADDING, body_crc, padding_bytes, read_u64},
    keeper::DirectKeeper,
    segment::{Chain, SEGMENT_HEADER_BYTES, SegmentHeader, merging_path},
    segment_table::{SegmentTable, Written},
};
use crate::model::BodySequence;

/// What an owner keeps of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// In the owner's own form, in one or more pieces.
    pub payload: Vec<Bytes>,
    /// How many operations that holds, for whoever looks at the log.
    pub operations: u32,
}

/// Decides what stays when segments are merged.
pub trait Selection: Send {
    /// What to keep of the next batch; they come in order, those without operations too.
    ///
    /// # Errors
    /// Why it cannot make sense of the batch; nothing is merged then.
    fn keep(&mut self, batch: &RecoveredBatch) -> Result<Option<Kept>, OwnerFault>;

    /// There are no more.
    ///
    /// # Errors
    /// What it misses; nothing is merged then.
    fn end(&mut self) -> Result<(), OwnerFault>;
}

/// What a merge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// Bytes of the segments before.
    pub bytes_before: u64,
    /// Bytes of the one that took their place.
    pub bytes_after: u64,
}

/// A merge under way. It is done step by step, each of them short, so that whoever does it can rest in between: the log has the
/// same disk, and the same processors. One that is not done to its end has changed nothing, or left segments that another one
/// stands for; a start removes those, and what is unfinished.
pub trait MergeSteps: Send {
    /// Does the next step: reads 128 KiB and writes what is kept of that, or removes a file. It blocks.
    ///
    /// # Errors
    /// Those of [`merge_segments`](super::LogKeeper::merge_segments). The merge is over then.
    fn step(&mut self) -> Result<MergeStep, KeepFailure>;
}

/// How far a merge is after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeStep {
    /// There are more.
    Taken {
        /// Bytes of batches that were read.
        read_bytes: u64,
    },
    /// That was the last one.
    Done(Merged),
}

impl fmt::Debug for dyn MergeSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MergeSteps")
    }
}

/// Body of the last frame: index behind the last entry, body behind the last one, number of entries.
const END_BYTES: usize = 24;
/// The last frame.
const END_FRAME_BYTES: u64 = (FRAME_HEADER_BYTES + END_BYTES) as u64;
/// How much is read at once, and about how much is written and synced at once.
const STRETCH_BYTES: u64 = 128 * 1024;

/// A merge in a directory.
pub(super) struct DirectMerge {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    table: Arc<SegmentTable>,
    reader: Arc<BodyReader>,
    selection: Box<dyn Selection>,
    /// They follow each other, and are all before every checkpoint's place.
    segments: Vec<Segment>,
    header: SegmentHeader,
    /// The next batch to be read.
    next: LogIndex,
    stage: Stage,
}

enum Stage {
    Copying(Merge),
    /// The new segment stands for all. Those before this one are removed.
    Removing(Merged, usize),
    /// It is done, or failed.
    Over,
}

impl DirectMerge {
    /// Begins to merge segments, of which there is at least one.
    pub(super) fn begin(
        keeper: &DirectKeeper,
        segments: &[Segment],
        selection: Box<dyn Selection>,
    ) -> Result<Self, KeepFailure> {
        let DirectKeeper { disk, directory, table, reader, .. } = keeper;
        let first = segments.first().ok_or(KeepFailure::NotNeighbours)?;
        let header = SegmentHeader {
            salt: fresh_salt(&**disk, directory)?,
            merged: true,
            reused: false,
            ..reader.header_of(&first.path)?
        };
        let merge = Merge::begin(&**disk, merging_path(&first.path), &header)?;
        Ok(Self {
            disk: Arc::clone(disk),
            directory: directory.clone(),
            table: Arc::clone(table),
            reader: Arc::clone(reader),
            selection,
            segments: segments.to_vec(),
            next: header.first_index,
            header,
            stage: Stage::Copying(merge),
        })
    }

    /// Copies the next stretch. `None`: there is none.
    fn copy_next(&mut self, merge: &mut Merge) -> Result<Option<u64>, KeepFailure> {
        let Some(segment) = self.segments.iter().find(|segment| self.next < segment.end_index) else {
            return Ok(None);
        };
        let first = self.next.max(segment.first_index);
        let end = self.reader.stretch_end(first, STRETCH_BYTES).map_err(KeepFailure::Read)?;
        let end = end.min(segment.end_index);
        let mut read_bytes = 0;
        for batch in self.reader.read(first, end).map_err(KeepFailure::Read)? {
            read_bytes += (FRAME_HEADER_BYTES + batch.payload.len()) as u64;
            let kept = self.selection.keep(&batch);
            if let Some(kept) = kept.map_err(|why| KeepFailure::Owner { index: batch.index, why })? {
                merge.push(&batch, kept)?;
            }
        }
        self.next = end;
        Ok(Some(read_bytes))
    }

    /// Puts the new segment, which holds everything, in the place of the first one.
    fn take_place(&mut self, merge: &mut Merge) -> Result<Merged, KeepFailure> {
        self.selection.end().map_err(|why| KeepFailure::Owner { index: self.next, why })?;
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else {
            return Err(KeepFailure::NotNeighbours);
        };
        merge.finish(last)?;
        let merged = Segment {
            path: first.path.clone(),
            first_index: first.first_index,
            end_index: last.end_index,
            first_body: first.first_body,
            bodies_end: last.bodies_end,
            bytes: merge.end,
        };
        let paths: Vec<&Path> = self.segments.iter().map(|segment| &*segment.path).collect();
        self.reader.while_names_change(&paths, || {
            self.disk
                .rename(&merge.path, &first.path)
                .map_err(|error| DiskError::new(DiskAction::Rename, &merge.path, &error))?;
            // From here on the name stands for the new file, durable or not.
            self.table.replace(&merged, self.header.salt, &merge.written);
            Ok::<_, DiskError>(())
        })?;
        let bytes_before = self.segments.iter().map(|segment| segment.bytes).sum();
        Ok(Merged { bytes_before, bytes_after: merged.bytes })
    }

    fn copy(&mut self, mut merge: Merge) -> Result<MergeStep, KeepFailure> {
        let copied = match self.copy_next(&mut merge) {
            Ok(Some(read_bytes)) => {
                self.stage = Stage::Copying(merge);
                return Ok(MergeStep::Taken { read_bytes });
            }
            Ok(None) => self.take_place(&mut merge),
            Err(failure) => Err(failure),
        };
        match copied {
            Ok(merged) => {
                self.stage = Stage::Removing(merged, 1);
                self.sync_directory()?;
                Ok(MergeStep::Taken { read_bytes: 0 })
            }
            Err(failure) => {
                // What could not be written may not be removable either; a start removes it.
                let _ = self.disk.remove(&merge.path);
                Err(failure)
            }
        }
    }

    fn remove(&mut self, merged: Merged, number: usize) -> Result<MergeStep, KeepFailure> {
        let Some(segment) = self.segments.get(number) else {
            self.sync_directory()?;
            return Ok(MergeStep::Done(merged));
        };
        self.disk
            .remove(&segment.path)
            .map_err(|error| DiskError::new(DiskAction::Remove, &segment.path, &error))?;
        self.stage = Stage::Removing(merged, number + 1);
        Ok(MergeStep::Taken { read_bytes: 0 })
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        let synced = self.disk.sync_directory(&self.directory);
        synced.map_err(|error| DiskError::new(DiskAction::Sync, &self.directory, &error))
    }
}

impl MergeSteps for DirectMerge {
    fn step(&mut self) -> Result<MergeStep, KeepFailure> {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Copying(merge) => self.copy(merge),
            Stage::Removing(merged, number) => self.remove(merged, number),
            Stage::Over => Ok(MergeStep::Done(Merged::default())),
        }
    }
}

/// A merged segment under construction.
struct Merge {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    durable_end: LogIndex,
    chain: Chain,
    end: u64,
    entries: u64,
    written: Vec<Written>,
    waiting: Vec<Bytes>,
    waiting_bytes: u64,
}

impl Merge {
    fn begin(disk: &dyn Disk, path: PathBuf, header: &SegmentHeader) -> Result<Self, DiskError> {
        let file = disk.create(&path).map_err(|error| DiskError::new(DiskAction::Create, &path, &error))?;
        Ok(Self {
            path,
            file,
            durable_end: header.first_index,
            chain: Chain::at(header),
            end: 0,
            entries: 0,
            written: Vec::new(),
            waiting: vec![Bytes::copy_from_slice(&header.encode())],
            waiting_bytes: SEGMENT_HEADER_BYTES as u64,
        })
    }

    fn push(&mut self, batch: &RecoveredBatch, kept: Kept) -> Result<(), KeepFailure> {
        let batch_kept = Batch {
            first_body: batch.first_body,
            bodies: batch.bodies,
            operations: kept.operations,
            recorded_at: batch.recorded_at,
            payload: kept.payload,
        };
        self.chain.next_index = batch.index;
        let mut frames = self.frames();
        frames.push_batch(&batch_kept);
        self.entries += 1;
        self.add(frames, batch_kept.payload)
    }

    fn frames(&self) -> Frames {
        Frames::new(self.chain, self.end + self.waiting_bytes, self.durable_end)
    }

    fn add(&mut self, frames: Frames, body: Vec<Bytes>) -> Result<(), KeepFailure> {
        let padding = padding_bytes(body.iter().map(Bytes::len).sum());
        self.waiting.extend(frames.headers.iter().map(|header| Bytes::copy_from_slice(header)));
        self.waiting.extend(body.into_iter().filter(|piece| !piece.is_empty()));
        if padding > 0 {
            self.waiting.push(Bytes::from_static(&PADDING[..padding]));
        }
        self.chain = frames.chain;
        self.waiting_bytes = frames.end - self.end;
        self.written.extend(frames.written);
        if self.waiting_bytes >= STRETCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), KeepFailure> {
        let mut slices: Vec<_> = self.waiting.iter().map(|piece| IoSlice::new(piece)).collect();
        write_all_at(&*self.file, &mut slices, self.end, 0)
            .map_err(|error| DiskError::new(DiskAction::Write, &self.path, &error))?;
        self.end += self.waiting_bytes;
        self.waiting.clear();
        self.waiting_bytes = 0;
        // All at once in the end would keep the disk from the log's own writes for as long as that takes.
        self.file.sync_data().map_err(|error| DiskError::new(DiskAction::Sync, &self.path, &error).into())
    }

    fn finish(&mut self, last: &Segment) -> Result<(), KeepFailure> {
        let body = [last.end_index.0, last.bodies_end.0, self.entries].map(u64::to_le_bytes).concat();
        self.chain.next_index = last.end_index;
        let mut frames = self.frames();
        frames.push_own(FrameKind::End, self.chain.term, &body);
        self.add(frames, vec![body.into()])?;
        self.write()
    }
}

/// Reads from its last frame what a merged segment stands for.
pub(super) fn read_end(
    file: &dyn DiskFile,
    path: &Path,
    header: &SegmentHeader,
) -> Result<Segment, OpenFailure> {
    let read_failed = |error| DiskError::new(DiskAction::Read, path, &error);
    let bytes = file.len().map_err(read_failed)?;
    let damaged = |why| OpenFailure::Damaged {
        file: path.to_path_buf(),
        offset: bytes.saturating_sub(END_FRAME_BYTES),
        index: header.first_index,
        why: Damage::Frame(why),
    };
    let offset = bytes.checked_sub(END_FRAME_BYTES).ok_or_else(|| damaged(FrameFault::EndsEarly))?;
    let mut frame = [0; END_FRAME_BYTES as usize];
    read_exact_at(file, &mut frame, offset).map_err(read_failed)?;
    let (head, body) = frame.split_at(FRAME_HEADER_BYTES);
    let head = head.try_into().map_err(|_| damaged(FrameFault::EndsEarly))?;
    let (end, _) = FrameHeader::decode(head).map_err(damaged)?;
    if end.kind != FrameKind::End || end.salt != header.salt || end.body_bytes as usize != END_BYTES {
        return Err(damaged(FrameFault::EndsEarly));
    }
    if body_crc([body].into_iter()) != end.body_crc {
        return Err(damaged(FrameFault::BodyChecksum));
    }
    Ok(Segment {
        path: path.to_path_buf(),
        first_index: header.first_index,
        end_index: LogIndex(read_u64(body, 0)),
        first_body: header.first_body,
        bodies_end: BodySequence(read_u64(body, 8)),
        bytes,
    })
}

/// Opens a segment to read its end.
pub(super) fn read_end_of(
    disk: &dyn Disk,
    path: &Path,
    header: &SegmentHeader,
) -> Result<Segment, OpenFailure> {
    let file =
        disk.open(path, Access::Read).map_err(|error| DiskError::new(DiskAction::Open, path, &error))?;
    read_end(&*file, path, header)
}
