//! Reading a segment from front to back, believing nothing.

use std::{path::Path, sync::Arc};

use super::{
    DiskAction, DiskError, DiskFile, LogIndex,
    disk::read_exact_at,
    frame::{FRAME_HEADER_BYTES, FRAME_MAGIC, FrameFault, FrameHeader, salt_of},
    segment::{Chain, SEGMENT_HEADER_BYTES, SegmentFault, SegmentHeader},
};
use crate::model::{Bug, planted};

/// How much is read at once.
const WINDOW_BYTES: u64 = 1024 * 1024;

/// A reader that goes through one segment frame by frame. It never changes the file.
pub(super) struct Scan<'a> {
    file: Arc<dyn DiskFile>,
    path: &'a Path,
    /// Length of the file.
    bytes: u64,
    /// What was read last, and where it begins in the file.
    window: Vec<u8>,
    window_start: u64,
}

/// What lies at a place of a segment.
#[derive(Debug)]
pub(super) enum Found {
    /// A frame that fits.
    Frame { header: FrameHeader, crc: u32 },
    /// The end: from here the file has nothing, or nothing but zeros.
    End,
    /// Something else.
    Bad(FrameFault),
}

/// What the bytes after a bad frame say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Aftermath {
    /// Frame headers of this segment that are whole.
    pub(super) frames: u64,
    /// Every entry below this was durable, by the word of one of them.
    pub(super) durable_end: LogIndex,
    /// The version of one that is whole but unknown, if there is one: what it says cannot be judged.
    pub(super) unknown_version: Option<u8>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(file: Arc<dyn DiskFile>, path: &'a Path) -> Result<Self, DiskError> {
        let bytes = file.len().map_err(|error| DiskError::new(DiskAction::Read, path, &error))?;
        Ok(Self { file, path, bytes, window: Vec::new(), window_start: 0 })
    }

    /// Length of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn segment_header(&mut self) -> Result<Result<SegmentHeader, SegmentFault>, DiskError> {
        if self.bytes < SEGMENT_HEADER_BYTES as u64 {
            return Ok(Err(SegmentFault::EndsEarly));
        }
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes.copy_from_slice(self.get(0, SEGMENT_HEADER_BYTES as u64)?);
        Ok(SegmentHeader::decode(&bytes))
    }

    /// What lies at `offset`, where the frame after `chain` should be.
    pub(super) fn frame(&mut self, offset: u64, chain: &Chain) -> Result<Found, DiskError> {
        let left = self.bytes - offset;
        if left < FRAME_HEADER_BYTES as u64 {
            return self.end_or(offset, FrameFault::EndsEarly);
        }
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes.copy_from_slice(self.get(offset, FRAME_HEADER_BYTES as u64)?);
        let (header, crc) = match FrameHeader::decode(&bytes) {
            Ok(decoded) => decoded,
            // Whatever it is, it is not this segment's.
            Err(FrameFault::Unsupported { .. }) if salt_of(&bytes) != chain.salt => {
                return Ok(Found::Bad(FrameFault::OtherSegment));
            }
            Err(fault) => return self.end_or(offset, fault),
        };
        if let Err(fault) = chain.check(&header) {
            return Ok(Found::Bad(fault));
        }
        if header.frame_bytes() > left {
            return Ok(Found::Bad(FrameFault::EndsEarly));
        }
        let frame = self.whole_frame(offset, &header)?;
        let is_whole = crc32c::crc32c(&frame[FRAME_HEADER_BYTES..]) == header.body_crc;
        if !is_whole && !planted(Bug::ChecksumIgnored) {
            return Ok(Found::Bad(FrameFault::BodyChecksum));
        }
        Ok(Found::Frame { header, crc })
    }

    /// The body of a frame that was found at `offset`.
    pub(super) fn body(&mut self, offset: u64, header: &FrameHeader) -> Result<&[u8], DiskError> {
        self.get(offset + FRAME_HEADER_BYTES as u64, u64::from(header.body_bytes))
    }

    /// All bytes of a frame that was found at `offset`: right after it was found, the very ones that were checked.
    pub(super) fn whole_frame(&mut self, offset: u64, header: &FrameHeader) -> Result<&[u8], DiskError> {
        self.get(offset, header.frame_bytes())
    }

    /// Looks through everything after a bad frame at `offset` for headers of this segment.
    ///
    /// Their bodies are not checked: a header that is whole was written by this log after everything that it calls
    /// durable was, whatever happened to its body since.
    pub(super) fn aftermath(&mut self, offset: u64, salt: u64) -> Result<Aftermath, DiskError> {
        let mut aftermath = Aftermath::default();
        let mut at = offset.next_multiple_of(8);
        while at + FRAME_HEADER_BYTES as u64 <= self.bytes {
            let len = WINDOW_BYTES.min(self.bytes - at);
            let bytes = self.get(at, len)?;
            let last = bytes.len() - FRAME_HEADER_BYTES;
            for start in (0..=last).step_by(8) {
                if bytes[start..start + 4] != FRAME_MAGIC {
                    continue;
                }
                let mut header = [0; FRAME_HEADER_BYTES];
                header.copy_from_slice(&bytes[start..start + FRAME_HEADER_BYTES]);
                match FrameHeader::decode(&header) {
                    Ok((header, _)) if header.salt == salt => {
                        aftermath.frames += 1;
                        aftermath.durable_end = aftermath.durable_end.max(header.durable_end);
                    }
                    // Messages may hold anything, but nobody who sends one can know the salt.
                    Err(FrameFault::Unsupported { version, .. }) if salt_of(&header) == salt => {
                        aftermath.unknown_version = Some(version);
                    }
                    _ => {}
                }
            }
            at += (last as u64 / 8 + 1) * 8;
        }
        Ok(aftermath)
    }

    /// Whether what lies at `offset`, which is not the next frame, is nothing but what the file held when it was another
    /// segment. What has this segment's salt is not, nor is what has frames of it behind.
    pub(super) fn is_of_older_segment(
        &mut self,
        offset: u64,
        header: &SegmentHeader,
        behind: &Aftermath,
    ) -> Result<bool, DiskError> {
        if !header.reused || behind.frames > 0 || behind.unknown_version.is_some() {
            return Ok(false);
        }
        if offset + FRAME_HEADER_BYTES as u64 > self.bytes {
            return Ok(true);
        }
        let bytes = self.get(offset, FRAME_HEADER_BYTES as u64)?.first_chunk();
        Ok(bytes.is_none_or(|bytes| salt_of(bytes) != header.salt))
    }

    /// Where the next header of this segment is, from `offset` on, that is whole and of an entry from `index` on.
    pub(super) fn next_header(
        &mut self,
        offset: u64,
        salt: u64,
        index: LogIndex,
    ) -> Result<Option<(u64, FrameHeader)>, DiskError> {
        let mut at = offset.next_multiple_of(8);
        while at + FRAME_HEADER_BYTES as u64 <= self.bytes {
            let len = WINDOW_BYTES.min(self.bytes - at);
            let bytes = self.get(at, len)?;
            let last = bytes.len() - FRAME_HEADER_BYTES;
            for start in (0..=last).step_by(8) {
                let header = bytes[start..start + FRAME_HEADER_BYTES].first_chunk();
                let Some(Ok((header, _))) = header.map(FrameHeader::decode) else { continue };
                if header.salt == salt && header.index >= index {
                    return Ok(Some((at + start as u64, header)));
                }
            }
            at += (last as u64 / 8 + 1) * 8;
        }
        Ok(None)
    }

    /// The header at `offset` and its checksum, if it is whole.
    pub(super) fn header_at(&mut self, offset: u64) -> Result<Option<(FrameHeader, u32)>, DiskError> {
        if offset + FRAME_HEADER_BYTES as u64 > self.bytes {
            return Ok(None);
        }
        let bytes = self.get(offset, FRAME_HEADER_BYTES as u64)?.first_chunk();
        Ok(bytes.and_then(|bytes| FrameHeader::decode(bytes).ok()))
    }

    /// [`Found::End`] if there are only zeros from `offset` on, else the fault.
    fn end_or(&mut self, offset: u64, fault: FrameFault) -> Result<Found, DiskError> {
        let mut at = offset;
        while at < self.bytes {
            let len = WINDOW_BYTES.min(self.bytes - at);
            if self.get(at, len)?.iter().any(|byte| *byte != 0) {
                return Ok(Found::Bad(fault));
            }
            at += len;
        }
        Ok(Found::End)
    }

    /// Bytes of the file, which must be within it. What the window holds already is not read again.
    fn get(&mut self, offset: u64, len: u64) -> Result<&[u8], DiskError> {
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || offset + len > window_end {
            let kept = match offset.checked_sub(self.window_start) {
                Some(skip) if offset < window_end => {
                    self.window.drain(..skip as usize);
                    window_end - offset
                }
                _ => {
                    self.window.clear();
                    0
                }
            };
            self.window_start = offset;
            let wanted = len.max(WINDOW_BYTES).min(self.bytes - offset);
            self.window.resize(wanted as usize, 0);
            let fresh = &mut self.window[kept as usize..];
            if let Err(error) = read_exact_at(&*self.file, fresh, offset + kept) {
                self.window.clear();
                return Err(DiskError::new(DiskAction::Read, self.path, &error));
            }
        }
        let from = (offset - self.window_start) as usize;
        Ok(&self.window[from..from + len as usize])
    }
}
