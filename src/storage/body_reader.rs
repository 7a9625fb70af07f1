//! Reading back parts of batches that are written.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};

use super::{
    Access, BodyRead, Disk, DiskAction, DiskError, DiskFile, LogIndex, ReadFailure,
    disk::read_exact_at,
    frame::{FRAME_HEADER_BYTES, FrameFault, FrameHeader, FrameKind, body_crc},
    segment_table::{Place, STRIDE_BYTES, SegmentTable},
};

/// Most segment files that one reader keeps open.
const OPEN_FILES_MAX: usize = 16;

/// The reader of a log on a disk.
pub(super) struct BodyReader {
    disk: Arc<dyn Disk>,
    table: Arc<SegmentTable>,
    /// The files read most recently, the latest first.
    open: Mutex<VecDeque<(PathBuf, Arc<dyn DiskFile>)>>,
}

impl BodyReader {
    pub(super) fn new(disk: Arc<dyn Disk>, table: Arc<SegmentTable>) -> Self {
        Self { disk, table, open: Mutex::default() }
    }

    fn file(&self, path: &Path) -> Result<Arc<dyn DiskFile>, ReadFailure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(candidate, _)| candidate == path) {
            if let Some(found) = open.remove(at) {
                open.push_front(found);
            }
        } else {
            let file = self
                .disk
                .open(path, Access::Read)
                .map_err(|error| ReadFailure::Disk(DiskError::new(DiskAction::Open, path, &error)))?;
            open.truncate(OPEN_FILES_MAX - 1);
            open.push_front((path.to_path_buf(), file));
        }
        Ok(Arc::clone(&open[0].1))
    }
}

impl BodyRead for BodyReader {
    fn read(&self, index: LogIndex, offset: u32, len: u32) -> Result<Bytes, ReadFailure> {
        let place = self.table.find(index).ok_or(ReadFailure::NoSuchBatch { index })?;
        let file = self.file(&place.path)?;
        let window = Window::read(&*file, &place)?;
        let (frame_offset, header) = window.find_frame(&place, index)?;
        if header.kind != FrameKind::Batch {
            return Err(ReadFailure::NoSuchBatch { index });
        }
        if u64::from(offset) + u64::from(len) > u64::from(header.body_bytes) {
            return Err(ReadFailure::OutOfRange { index, offset, len, payload_bytes: header.body_bytes });
        }
        let mut bytes = BytesMut::zeroed(len as usize);
        let from = frame_offset + (FRAME_HEADER_BYTES as u64) + u64::from(offset);
        match window.get(from, len as usize) {
            Some(found) => bytes.copy_from_slice(found),
            None => read_exact_at(&*file, &mut bytes, from)
                .map_err(|error| read_failure(&place, frame_offset, &error))?,
        }
        // The padding belongs to the checksum too; it is zero, or the scan at start would not have let it pass.
        if len == header.body_bytes && body_crc([&bytes[..]].into_iter()) != header.body_crc {
            return Err(damaged(&place, frame_offset, FrameFault::BodyChecksum));
        }
        Ok(bytes.freeze())
    }
}

/// The bytes from a known place on: enough to hold the header that is looked for, wherever it is before the next
/// known place, and all of a small batch.
struct Window {
    bytes: [u8; Window::BYTES],
    start: u64,
    filled: usize,
}

impl Window {
    const BYTES: usize = STRIDE_BYTES as usize + FRAME_HEADER_BYTES;

    fn read(file: &dyn DiskFile, place: &Place) -> Result<Self, ReadFailure> {
        let filled = place.end.saturating_sub(place.offset).min(Self::BYTES as u64) as usize;
        let mut window = Self { bytes: [0; Self::BYTES], start: place.offset, filled };
        read_exact_at(file, &mut window.bytes[..filled], place.offset)
            .map_err(|error| read_failure(place, place.offset, &error))?;
        Ok(window)
    }

    fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes[..self.filled].get(from..from.checked_add(len)?)
    }

    /// Walks from header to header to the frame of `index`; returns where it begins.
    fn find_frame(&self, place: &Place, index: LogIndex) -> Result<(u64, FrameHeader), ReadFailure> {
        let mut offset = self.start;
        loop {
            let bytes = self.get(offset, FRAME_HEADER_BYTES).and_then(|bytes| bytes.try_into().ok());
            let bytes = bytes.ok_or_else(|| damaged(place, offset, FrameFault::EndsEarly))?;
            let (header, _) = FrameHeader::decode(bytes).map_err(|fault| damaged(place, offset, fault))?;
            if header.salt != place.salt {
                return Err(damaged(place, offset, FrameFault::OtherSegment));
            }
            if header.kind.is_entry() && header.index == index {
                return Ok((offset, header));
            }
            if header.index > index {
                let fault = FrameFault::WrongIndex { got: header.index, expected: index };
                return Err(damaged(place, offset, fault));
            }
            offset += header.frame_bytes();
        }
    }
}

fn damaged(place: &Place, offset: u64, fault: FrameFault) -> ReadFailure {
    ReadFailure::Damaged { path: place.path.clone(), offset, why: fault.to_string() }
}

fn read_failure(place: &Place, offset: u64, error: &io::Error) -> ReadFailure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(place, offset, FrameFault::EndsEarly),
        _ => ReadFailure::Disk(DiskError::new(DiskAction::Read, &place.path, error)),
    }
}
