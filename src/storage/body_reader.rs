//! Reading back batches that are written.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};

use super::{
    Access, BodyRead, Damage, Disk, DiskAction, DiskError, DiskFile, KeepFailure, LogIndex, ReadFailure,
    RecoveredBatch,
    disk::read_exact_at,
    frame::{FRAME_HEADER_BYTES, FrameFault, FrameHeader, FrameKind, body_crc},
    scan::Scan,
    segment::{SEGMENT_HEADER_BYTES, SegmentHeader},
    segment_table::{Lookup, Place, Places, STRIDE_BYTES, SegmentTable, Unlisted},
};

/// Most segment files that one reader keeps open besides those that are being read.
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
        let mut open = self.lock();
        if let Some(at) = open.iter().position(|(candidate, _)| candidate == path) {
            if let Some(found) = open.remove(at) {
                open.push_front(found);
            }
        } else {
            let file = self
                .disk
                .open(path, Access::Read)
                .map_err(|error| ReadFailure::Disk(DiskError::new(DiskAction::Open, path, &error)))?;
            // One that is being read stays in the list, so that it can be known.
            let unread = |(_, file): &(PathBuf, Arc<dyn DiskFile>)| Arc::strong_count(file) == 1;
            while open.len() >= OPEN_FILES_MAX
                && let Some(last) = open.iter().rposition(unread)
            {
                open.remove(last);
            }
            open.push_front((path.to_path_buf(), file));
        }
        Ok(Arc::clone(&open[0].1))
    }
}

impl BodyReader {
    /// Reads on from a place, to the end of its segment at most; returns how far.
    fn read_in(
        &self,
        place: &Place,
        next: LogIndex,
        end: LogIndex,
        batches: &mut Vec<RecoveredBatch>,
    ) -> Result<LogIndex, ReadFailure> {
        let until = self.table.reaches(place, end);
        let file = self.file(&place.path)?;
        Stretch { file: &*file, place, until, start: place.offset, bytes: Bytes::new() }
            .read(next, end, batches)
    }

    /// The header of a segment.
    pub(super) fn header_of(&self, path: &Path) -> Result<SegmentHeader, KeepFailure> {
        let file = self.file(path).map_err(KeepFailure::Read)?;
        let header = Scan::new(file, path)?.segment_header()?;
        header.map_err(|fault| {
            KeepFailure::Read(ReadFailure::Damaged {
                path: path.to_path_buf(),
                offset: 0,
                why: Damage::Segment(fault),
            })
        })
    }

    /// Up to where to read at once, from this entry on, to have about so many bytes in memory.
    pub(super) fn stretch_end(&self, index: LogIndex, bytes: u64) -> Result<LogIndex, ReadFailure> {
        self.place(index)?;
        Ok(self.table.stretch_end(index, bytes))
    }

    /// Closes a file that is to be removed, or written over: an open file keeps its room on the disk. Tells whether nobody
    /// is reading it. The table must not know it any more; who found it there before and opens it only now finds that the
    /// name has gone, or another salt.
    pub(super) fn forget(&self, path: &Path) -> bool {
        let mut open = self.lock();
        let Some(at) = open.iter().position(|(candidate, _)| candidate == path) else { return true };
        open.remove(at).is_none_or(|(_, file)| Arc::strong_count(&file) == 1)
    }

    /// Lets names stand for other files: nothing is opened meanwhile, so whoever opens one of them afterwards finds in the
    /// table what is in it. Closes these files.
    pub(super) fn while_names_change<T>(&self, paths: &[&Path], change: impl FnOnce() -> T) -> T {
        let mut open = self.lock();
        let changed = change();
        open.retain(|(candidate, _)| !paths.contains(&&**candidate));
        changed
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(PathBuf, Arc<dyn DiskFile>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frame of an entry: its place, where it begins, its header and that one's checksum.
    pub(super) fn frame(&self, index: LogIndex) -> Result<(u64, FrameHeader, u32, Place), ReadFailure> {
        let place = self.place(index)?;
        let file = self.file(&place.path)?;
        let (offset, header, crc) = Window::read(&*file, &place)?.find_frame(&place, index)?;
        Ok((offset, header, crc, place))
    }

    fn place(&self, index: LogIndex) -> Result<Place, ReadFailure> {
        // Places that were learned can be pushed out before they are used, if many segments are read at once.
        for _ in 0..LEARN_TRIES_MAX {
            match self.table.find(index) {
                Some(Lookup::Near(place)) => return Ok(place),
                Some(Lookup::In(segment)) => match self.places_of(&segment) {
                    Ok(places) => self.table.learn(&segment, places),
                    // It was merged a moment ago.
                    Err(_) if !self.table.has(segment.first_index, segment.salt) => {}
                    Err(failure) => return Err(failure),
                },
                None => break,
            }
        }
        Err(ReadFailure::NoSuchBatch { index })
    }

    /// Goes from header to header through a whole segment.
    fn places_of(&self, segment: &Unlisted) -> Result<Places, ReadFailure> {
        let file = self.file(&segment.path)?;
        let start = SEGMENT_HEADER_BYTES as u64;
        let mut place = Place {
            segment: segment.first_index,
            path: segment.path.clone(),
            salt: segment.salt,
            offset: start,
            end: segment.end,
            gaps_to: None,
        };
        let mut places = Places::default();
        let mut is_behind_damage = false;
        while place.offset < segment.end {
            let window = Window::read(&*file, &place)?;
            loop {
                let header = match window.header(&place, place.offset) {
                    Ok(Some((header, _))) => header,
                    Ok(None) => break,
                    // Whoever needs what is damaged meets it. Others need what is behind it.
                    Err(ReadFailure::Damaged { .. }) => {
                        let mut scan =
                            Scan::new(Arc::clone(&file), &segment.path).map_err(ReadFailure::Disk)?;
                        let behind = scan.next_header(place.offset + 8, place.salt, LogIndex(0));
                        place.offset =
                            behind.map_err(ReadFailure::Disk)?.map_or(segment.end, |(offset, _)| offset);
                        is_behind_damage = true;
                        break;
                    }
                    Err(failure) => return Err(failure),
                };
                if header.kind.is_entry() {
                    let index = header.index.0.saturating_sub(segment.first_index.0);
                    match std::mem::take(&mut is_behind_damage) {
                        true => places.note_behind_damage(index, place.offset),
                        false => places.note(index, place.offset),
                    }
                }
                place.offset += header.frame_bytes();
            }
        }
        Ok(places)
    }
}

/// How often a reader makes the places of a segment anew before it gives up.
const LEARN_TRIES_MAX: usize = 16;

impl BodyRead for BodyReader {
    fn read(&self, first: LogIndex, end: LogIndex) -> Result<Vec<RecoveredBatch>, ReadFailure> {
        let mut batches = Vec::new();
        let mut next = first;
        while next < end {
            let place = self.place(next)?;
            let before = batches.len();
            match self.read_in(&place, next, end, &mut batches) {
                Ok(read_to) if read_to == next => return Err(ReadFailure::NoSuchBatch { index: next }),
                Ok(read_to) => next = read_to,
                // The segment was merged with others a moment ago, and its name is that of another file now.
                Err(_) if !self.table.has(place.segment, place.salt) => batches.truncate(before),
                Err(failure) => return Err(failure),
            }
        }
        Ok(batches)
    }
}

/// Most bytes that are read at once, unless a frame is longer.
const STRETCH_BYTES_MAX: u64 = 1024 * 1024;

/// A part of a segment, read in large pieces.
struct Stretch<'a> {
    file: &'a dyn DiskFile,
    place: &'a Place,
    /// What is wanted ends before.
    until: u64,
    /// The piece at hand, and where it begins.
    start: u64,
    bytes: Bytes,
}

impl Stretch<'_> {
    /// Adds the batches from `next` to before `end` that are in this segment; returns the first that was not.
    fn read(
        &mut self,
        mut next: LogIndex,
        end: LogIndex,
        batches: &mut Vec<RecoveredBatch>,
    ) -> Result<LogIndex, ReadFailure> {
        let place = self.place;
        let mut offset = place.offset;
        while next < end && offset < place.end {
            let bytes = self.get(offset, FRAME_HEADER_BYTES as u64)?;
            let bytes = bytes[..].try_into().map_err(|_| damaged(place, offset, FrameFault::EndsEarly))?;
            let (header, _) = check_header(place, offset, bytes)?;
            if header.kind.is_entry() && header.index > next {
                if place.gaps_to.is_none() {
                    return Err(ReadFailure::NoSuchBatch { index: next });
                }
                next = header.index.min(end);
            }
            if header.kind.is_entry() && header.index == next && next < end {
                if header.kind != FrameKind::Batch {
                    // The log's own entry.
                    next = next.next();
                    offset += header.frame_bytes();
                    continue;
                }
                let body = self.get(offset, header.frame_bytes())?.slice(FRAME_HEADER_BYTES..);
                if body_crc([&body[..]].into_iter()) != header.body_crc {
                    return Err(damaged(place, offset, FrameFault::BodyChecksum));
                }
                batches.push(RecoveredBatch {
                    index: header.index,
                    first_body: header.first_body,
                    bodies: header.bodies,
                    recorded_at: header.recorded_at,
                    payload: body.slice(..header.body_bytes as usize),
                });
                next = next.next();
            }
            offset += header.frame_bytes();
        }
        Ok(place
            .gaps_to
            .map_or(next, |gaps_to| if offset >= place.end { next.max(gaps_to.min(end)) } else { next }))
    }

    /// Bytes of the file: those at hand, or a new piece that begins with them.
    fn get(&mut self, offset: u64, len: u64) -> Result<Bytes, ReadFailure> {
        if offset + len > self.place.end {
            return Err(damaged(self.place, offset, FrameFault::EndsEarly));
        }
        if offset < self.start || offset + len > self.start + self.bytes.len() as u64 {
            let wanted = self.until.saturating_sub(offset).min(STRETCH_BYTES_MAX);
            let mut bytes = BytesMut::zeroed(wanted.max(len).min(self.place.end - offset) as usize);
            read_exact_at(self.file, &mut bytes, offset)
                .map_err(|error| read_failure(self.place, offset, &error))?;
            (self.start, self.bytes) = (offset, bytes.freeze());
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.slice(from..from + len as usize))
    }
}

/// The bytes from a known place on: enough to hold the header that is looked for, wherever it is before the next
/// known place.
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

    /// The frame header at `offset` and its checksum; `None` if it is not, or not wholly, in the window.
    fn header(&self, place: &Place, offset: u64) -> Result<Option<(FrameHeader, u32)>, ReadFailure> {
        let bytes = self.get(offset, FRAME_HEADER_BYTES).and_then(|bytes| bytes.try_into().ok());
        let Some(bytes) = bytes else {
            let cut = offset < place.end && place.end - offset < FRAME_HEADER_BYTES as u64;
            return if cut { Err(damaged(place, offset, FrameFault::EndsEarly)) } else { Ok(None) };
        };
        check_header(place, offset, bytes).map(Some)
    }

    /// Walks from header to header to the frame of `index`; returns where it begins.
    fn find_frame(&self, place: &Place, index: LogIndex) -> Result<(u64, FrameHeader, u32), ReadFailure> {
        let mut offset = self.start;
        loop {
            if offset >= place.end {
                return Err(ReadFailure::NoSuchBatch { index });
            }
            let found = self.header(place, offset)?;
            let (header, crc) = found.ok_or_else(|| damaged(place, offset, FrameFault::EndsEarly))?;
            if header.kind.is_entry() && header.index == index {
                return Ok((offset, header, crc));
            }
            if header.index > index {
                let fault = FrameFault::WrongIndex { got: header.index, expected: index };
                return Err(damaged(place, offset, fault));
            }
            offset += header.frame_bytes();
        }
    }
}

fn check_header(
    place: &Place,
    offset: u64,
    bytes: &[u8; FRAME_HEADER_BYTES],
) -> Result<(FrameHeader, u32), ReadFailure> {
    let (header, crc) = FrameHeader::decode(bytes).map_err(|fault| damaged(place, offset, fault))?;
    if header.salt != place.salt {
        return Err(damaged(place, offset, FrameFault::OtherSegment));
    }
    Ok((header, crc))
}

fn damaged(place: &Place, offset: u64, fault: FrameFault) -> ReadFailure {
    ReadFailure::Damaged { path: place.path.clone(), offset, why: Damage::Frame(fault) }
}

fn read_failure(place: &Place, offset: u64, error: &io::Error) -> ReadFailure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(place, offset, FrameFault::EndsEarly),
        _ => ReadFailure::Disk(DiskError::new(DiskAction::Read, &place.path, error)),
    }
}
