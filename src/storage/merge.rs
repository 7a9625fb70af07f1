//! Several segments made one, which holds only what their owner still needs of them.
//!
//! The new segment has the name of the first one and stands for the indices of all. It is complete and durable under a
//! name of its own before it takes that of the first, in one step; the others go after that. So at any moment the
//! directory holds either all of the old ones, or the new one and perhaps some that it stands for.
//!
//! Its header has a flag, entries may be missing in it, and a last frame says where it ends and how much it holds.

use std::{io::IoSlice, path::Path, sync::Arc};

use bytes::Bytes;

use super::{
    Access, Batch, BodyRead, Damage, Disk, DiskAction, DiskError, DiskFile, FrameFault, KeepFailure,
    LogIndex, OpenFailure, OwnerFault, RecoveredBatch, Segment,
    appender::{Frames, fresh_salt},
    body_reader::BodyReader,
    disk::{read_exact_at, write_all_at},
    frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, PADDING, body_crc, padding_bytes, read_u64},
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
pub trait Selection {
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

/// Body of the last frame: index behind the last entry, body behind the last one, number of entries.
const END_BYTES: usize = 24;
/// The last frame.
const END_FRAME_BYTES: u64 = (FRAME_HEADER_BYTES + END_BYTES) as u64;
/// How much is read, and about how much is written and synced, at once.
const STRETCH_BYTES: u64 = 1024 * 1024;

/// Merges `segments`, which follow each other and are all before every checkpoint's place.
pub(super) fn merge(
    disk: &dyn Disk,
    directory: &Path,
    segments: &[Segment],
    table: &SegmentTable,
    reader: &Arc<BodyReader>,
    selection: &mut dyn Selection,
) -> Result<Merged, KeepFailure> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(Merged::default()) };
    let bytes_before = segments.iter().map(|segment| segment.bytes).sum();
    let header = SegmentHeader {
        salt: fresh_salt(disk, directory)?,
        merged: true,
        reused: false,
        ..reader.header_of(&first.path)?
    };
    let unfinished = merging_path(&first.path);
    let made = Merge::begin(disk, &unfinished, &header).and_then(|mut merge| {
        merge.copy(segments, reader, selection)?;
        let written = merge.finish(last)?;
        let merged = Segment {
            path: first.path.clone(),
            first_index: first.first_index,
            end_index: last.end_index,
            first_body: first.first_body,
            bodies_end: last.bodies_end,
            bytes: written.end,
        };
        let paths: Vec<&Path> = segments.iter().map(|segment| &*segment.path).collect();
        reader.while_names_change(&paths, || {
            disk.rename(&unfinished, &first.path)
                .map_err(|error| DiskError::new(DiskAction::Rename, &unfinished, &error))?;
            // From here on the name stands for the new file, durable or not.
            table.replace(&merged, header.salt, &written.frames);
            Ok(merged)
        })
    });
    let merged = match made {
        Ok(merged) => merged,
        Err(failure) => {
            // What could not be written may not be removable either; a start removes it.
            let _ = disk.remove(&unfinished);
            return Err(failure);
        }
    };
    let sync = || {
        disk.sync_directory(directory).map_err(|error| DiskError::new(DiskAction::Sync, directory, &error))
    };
    sync()?;
    for segment in &segments[1..] {
        disk.remove(&segment.path)
            .map_err(|error| DiskError::new(DiskAction::Remove, &segment.path, &error))?;
    }
    sync()?;
    Ok(Merged { bytes_before, bytes_after: merged.bytes })
}

/// A merged segment under construction.
struct Merge<'a> {
    path: &'a Path,
    file: Arc<dyn DiskFile>,
    durable_end: LogIndex,
    chain: Chain,
    end: u64,
    entries: u64,
    written: Vec<Written>,
    waiting: Vec<Bytes>,
    waiting_bytes: u64,
}

/// What a merged segment holds.
struct Finished {
    end: u64,
    frames: Vec<Written>,
}

impl<'a> Merge<'a> {
    fn begin(disk: &dyn Disk, path: &'a Path, header: &SegmentHeader) -> Result<Self, KeepFailure> {
        let file = disk.create(path).map_err(|error| DiskError::new(DiskAction::Create, path, &error))?;
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

    fn copy(
        &mut self,
        segments: &[Segment],
        reader: &BodyReader,
        selection: &mut dyn Selection,
    ) -> Result<(), KeepFailure> {
        for segment in segments {
            let mut next = segment.first_index;
            while next < segment.end_index {
                let end = reader.stretch_end(next, STRETCH_BYTES).map_err(KeepFailure::Read)?;
                let end = end.min(segment.end_index);
                for batch in reader.read(next, end).map_err(KeepFailure::Read)? {
                    let kept = selection.keep(&batch);
                    if let Some(kept) = kept.map_err(|why| KeepFailure::Owner { index: batch.index, why })? {
                        self.push(&batch, kept)?;
                    }
                }
                next = end;
            }
        }
        let index = segments.last().map_or(LogIndex(0), |last| last.end_index);
        selection.end().map_err(|why| KeepFailure::Owner { index, why })
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
            .map_err(|error| DiskError::new(DiskAction::Write, self.path, &error))?;
        self.end += self.waiting_bytes;
        self.waiting.clear();
        self.waiting_bytes = 0;
        // All at once in the end would keep the disk from the log's own writes for as long as that takes.
        self.file.sync_data().map_err(|error| DiskError::new(DiskAction::Sync, self.path, &error).into())
    }

    fn finish(mut self, last: &Segment) -> Result<Finished, KeepFailure> {
        let body = [last.end_index.0, last.bodies_end.0, self.entries].map(u64::to_le_bytes).concat();
        self.chain.next_index = last.end_index;
        let mut frames = self.frames();
        frames.push_own(FrameKind::End, self.chain.term, &body);
        self.add(frames, vec![body.into()])?;
        self.write()?;
        Ok(Finished { end: self.end, frames: self.written })
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
