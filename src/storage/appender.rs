//! Writing frames: one group of batches, one gathered write, one sync.
//!
//! The appender works in the caller's thread and blocks on the disk; `writer.rs` gives it a thread of its own.
//! After an error it must not be used again, since what the disk holds is known only after recovery; but for one that
//! says that the disk is full, before any sync: then the same batches may be tried again.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Access, Batch, Disk, DiskAction, DiskError, DiskFile, LogIndex, LogRoom, Term,
    disk::write_all_at,
    frame::{
        EncodedHeader, FRAME_HEADER_BYTES, FrameHeader, FrameKind, PADDING, body_crc, frame_bytes,
        padding_bytes,
    },
    reserve::Reserve,
    segment::{Chain, SEGMENT_HEADER_BYTES, SegmentHeader, segment_path, unfinished_path},
    segment_table::{SegmentTable, Written},
    spares::Spares,
};
use crate::model::{BodySequence, Bug, Timestamp, planted};

/// Where frames are written: the end of the last segment.
pub(super) struct Appender {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: PathBuf,
    pub(super) table: Arc<SegmentTable>,
    pub(super) segment_bytes: u64,
    pub(super) zero_ahead_bytes: u64,
    pub(super) log_id: u64,
    /// The last segment.
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
    /// Index of the segment's first entry.
    pub(super) first_index: LogIndex,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// Up to here the file exists; past `end` it is zero, or what it was as an older segment.
    pub(super) exists_to: u64,
    pub(super) chain: Chain,
    /// Every entry below this is durable.
    pub(super) durable_end: LogIndex,
    /// What is given up when the disk is full.
    pub(super) reserve: Reserve,
    /// Old segments to go on in.
    pub(super) spares: Arc<Spares>,
    /// The disk had no room for a mark; none is tried again before something else was written.
    pub(super) mark_given_up: bool,
}

impl Appender {
    /// Writes and syncs `batches`, which get the next indices in order. Calls `durable` with the end of what is
    /// durable after each sync: once, unless the group spans segments.
    pub(super) fn append(
        &mut self,
        batches: &[Batch],
        durable: &mut dyn FnMut(LogIndex),
    ) -> Result<(), DiskError> {
        let mut rest = batches;
        while !rest.is_empty() {
            let fitting = self.count_fitting(rest);
            if fitting == 0 {
                self.roll()?;
                continue;
            }
            let (group, later) = rest.split_at(fitting);
            self.write(group)?;
            self.sync()?;
            durable(self.durable_end);
            rest = later;
        }
        Ok(())
    }

    /// Whether there is more room than what is kept for a full disk.
    pub(super) fn room(&self) -> LogRoom {
        if self.reserve.is_held() { LogRoom::Enough } else { LogRoom::ReserveInUse }
    }

    /// Gives up the room that is kept without need, or else what is kept for a full disk; `false` if there is none.
    pub(super) fn give_room(&mut self) -> bool {
        self.spares.give_up() || self.reserve.release()
    }

    /// Whether [`mark`](Self::mark) has something to say.
    pub(super) fn mark_is_due(&self) -> bool {
        self.chain.stated_durable_end < self.durable_end && !self.mark_given_up
    }

    /// Writes down that everything so far is durable, unless the last frame says so already. Not synced: the word is
    /// true whether or not it survives, and if it does, recovery can tell damage in the last batches from a torn
    /// write.
    ///
    /// A full disk is no error here: nothing depends on the mark, and whatever of it was written lies where the next
    /// frame goes.
    pub(super) fn mark(&mut self) -> Result<(), DiskError> {
        if !self.mark_is_due() {
            return Ok(());
        }
        let mut frames = Frames::new(self.chain, self.end, self.durable_end);
        frames.push_own(FrameKind::Mark, self.chain.term, &[]);
        let mut slices: Vec<_> = frames.headers.iter().map(|header| IoSlice::new(header)).collect();
        match self.write_frames(&frames, &mut slices, 0) {
            Err(error) if error.is_full() => self.mark_given_up = true,
            other => other?,
        }
        Ok(())
    }

    /// As [`mark`](Self::mark), and waits until the disk has it.
    pub(super) fn mark_durably(&mut self) -> Result<(), DiskError> {
        if !self.mark_is_due() {
            return Ok(());
        }
        self.mark()?;
        if self.mark_given_up { Ok(()) } else { self.sync() }
    }

    /// How many of `batches` go into the segment at hand. At least one if it is empty, since a batch that is larger
    /// than a segment gets one of its own.
    fn count_fitting(&self, batches: &[Batch]) -> usize {
        let mut end = self.end;
        let mut fitting = 0;
        let empty = self.chain.next_index == self.first_index;
        for batch in batches {
            end += frame_bytes(batch.payload_bytes());
            if end > self.segment_bytes && !(empty && fitting == 0) {
                break;
            }
            fitting += 1;
        }
        fitting
    }

    fn write(&mut self, batches: &[Batch]) -> Result<(), DiskError> {
        let mut frames = Frames::new(self.chain, self.end, self.durable_end);
        let mut pieces = 0;
        for batch in batches {
            frames.push_batch(batch);
            pieces += batch.payload.len() + 2;
        }
        let mut slices = Vec::with_capacity(pieces + 1);
        for (batch, header) in batches.iter().zip(&frames.headers) {
            slices.push(IoSlice::new(header));
            slices.extend(
                batch.payload.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)),
            );
            let padding = padding_bytes(batch.payload_bytes());
            if padding > 0 {
                slices.push(IoSlice::new(&PADDING[..padding]));
            }
        }
        let zeros = self.zeros_to_write(&frames);
        if zeros > 0 {
            slices.push(IoSlice::new(&ZEROS[..zeros]));
        }
        self.write_frames(&frames, &mut slices, zeros as u64)
    }

    /// How many zeros to write after `frames`. A sync that changes neither the length of a file nor its extents is
    /// about twice as fast, so a small group that reaches the end of the zeros brings new ones along; for a large
    /// group they would cost more than they save.
    fn zeros_to_write(&self, frames: &Frames) -> usize {
        let group_bytes = frames.end - self.end;
        if frames.end <= self.exists_to || group_bytes > self.zero_ahead_bytes / 2 {
            return 0;
        }
        self.segment_bytes.saturating_sub(frames.end).min(self.zero_ahead_bytes).min(ZEROS.len() as u64)
            as usize
    }

    /// Writes `slices`, the encoded `frames` and `zeros` bytes more, and takes them as written.
    fn write_frames(
        &mut self,
        frames: &Frames,
        slices: &mut [IoSlice<'_>],
        zeros: u64,
    ) -> Result<(), DiskError> {
        let written = write_all_at(&*self.file, slices, self.end, zeros)
            .map_err(|error| self.error(DiskAction::Write, &error))?;
        self.exists_to = self.exists_to.max(self.end + written);
        self.end = frames.end;
        self.chain = frames.chain;
        self.table.extend(&frames.written);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        if !planted(Bug::SyncLeftOut) {
            self.file.sync_data().map_err(|error| self.error(DiskAction::Sync, &error))?;
        }
        self.durable_end = self.chain.next_index;
        self.mark_given_up = false;
        Ok(())
    }

    /// Ends the segment and begins the next one. Everything written is durable before the next segment has a name,
    /// so its presence proves that the segments before it are complete.
    fn roll(&mut self) -> Result<(), DiskError> {
        if !planted(Bug::FullNotCut) {
            self.file.set_len(self.end).map_err(|error| self.error(DiskAction::Truncate, &error))?;
        }
        self.exists_to = self.end;
        self.sync()?;
        let spare = self.spares.take();
        let header = SegmentHeader {
            log_id: self.log_id,
            salt: fresh_salt(&*self.disk, &self.directory)?,
            first_index: self.chain.next_index,
            first_body: self.chain.bodies_end,
            term: self.chain.term,
            previous_crc: self.chain.previous_crc,
            merged: false,
            reused: spare.is_some(),
        };
        let created = match spare {
            Some(spare) => reuse_segment(&*self.disk, &self.directory, &header, &spare)?,
            None => create_segment(&*self.disk, &self.directory, &header, &[])?,
        };
        self.table.begin(&created.path, &header, SEGMENT_HEADER_BYTES as u64);
        self.file = created.file;
        self.path = created.path;
        self.first_index = header.first_index;
        self.end = created.end;
        self.exists_to = created.file_bytes;
        self.chain = Chain::at(&header);
        Ok(())
    }

    fn error(&self, action: DiskAction, error: &io::Error) -> DiskError {
        DiskError::new(action, &self.path, error)
    }
}

/// Most bytes of zeros that are written ahead of the frames at once.
pub(super) const ZERO_AHEAD_BYTES_MAX: usize = 256 * 1024;

static ZEROS: [u8; ZERO_AHEAD_BYTES_MAX] = [0; ZERO_AHEAD_BYTES_MAX];

/// Frames to be written one after the other.
pub(super) struct Frames {
    pub(super) headers: Vec<[u8; FRAME_HEADER_BYTES]>,
    pub(super) written: Vec<Written>,
    pub(super) chain: Chain,
    pub(super) end: u64,
    durable_end: LogIndex,
}

impl Frames {
    pub(super) fn new(chain: Chain, end: u64, durable_end: LogIndex) -> Self {
        Self { headers: Vec::new(), written: Vec::new(), chain, end, durable_end }
    }

    pub(super) fn push_batch(&mut self, batch: &Batch) {
        let body = FrameHeader {
            // `propose` lets no batch pass that is longer than BATCH_BYTES_MAX.
            body_bytes: batch.payload_bytes() as u32,
            body_crc: body_crc(batch.payload.iter().map(|piece| &piece[..])),
            recorded_at: batch.recorded_at,
            first_body: batch.first_body,
            bodies: batch.bodies,
            operations: batch.operations,
            ..self.blank(FrameKind::Batch, self.chain.term)
        };
        self.push(&body);
    }

    /// Adds a frame that the log writes on its own account.
    pub(super) fn push_own(&mut self, kind: FrameKind, term: Term, body: &[u8]) {
        let header = FrameHeader {
            body_bytes: body.len() as u32,
            body_crc: body_crc([body].into_iter()),
            ..self.blank(kind, term)
        };
        self.push(&header);
    }

    fn blank(&self, kind: FrameKind, term: Term) -> FrameHeader {
        FrameHeader {
            kind,
            body_bytes: 0,
            body_crc: 0,
            salt: self.chain.salt,
            term,
            index: self.chain.next_index,
            recorded_at: Timestamp(0),
            first_body: BodySequence(0),
            bodies: 0,
            operations: 0,
            durable_end: self.durable_end,
            committed_end: self.durable_end,
            previous_crc: self.chain.previous_crc,
        }
    }

    fn push(&mut self, header: &FrameHeader) {
        let EncodedHeader { bytes, crc } = header.encode();
        self.written.push(Written { header: *header, offset: self.end });
        self.headers.push(bytes);
        self.chain.advance(header, crc);
        self.end += header.frame_bytes();
    }
}

/// A segment that exists durably, with all of its first content.
pub(super) struct CreatedSegment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) end: u64,
    pub(super) file_bytes: u64,
}

/// Creates a segment that holds `content` after its header. It gets its name only when all of it is durable, so a
/// crash leaves either the whole segment or a file that recovery removes.
pub(super) fn create_segment(
    disk: &dyn Disk,
    directory: &Path,
    header: &SegmentHeader,
    content: &[u8],
) -> Result<CreatedSegment, DiskError> {
    let path = segment_path(directory, header.first_index);
    let unfinished = unfinished_path(&path);
    let failed = |action| {
        let unfinished = &unfinished;
        move |error: io::Error| DiskError::new(action, unfinished, &error)
    };
    let header = header.encode();
    let create = || {
        let file = disk.create(&unfinished).map_err(failed(DiskAction::Create))?;
        let mut pieces = [IoSlice::new(&header), IoSlice::new(content)];
        let end = write_all_at(&*file, &mut pieces, 0, 0).map_err(failed(DiskAction::Write))?;
        file.sync_data().map_err(failed(DiskAction::Sync))?;
        disk.rename(&unfinished, &path).map_err(failed(DiskAction::Rename))?;
        Ok((file, end))
    };
    let (file, end) = create().inspect_err(|_| {
        // It may be tried again. What is not removed now a start removes.
        let _ = disk.remove(&unfinished);
    })?;
    sync_name(disk, directory)?;
    Ok(CreatedSegment { path, file, end, file_bytes: end })
}

/// Makes a segment of a spare. It gets its name when its header is durable, so a crash leaves either the whole segment or
/// a spare, which recovery removes. Since the header comes before all else, who has the file open from its earlier life
/// can tell.
fn reuse_segment(
    disk: &dyn Disk,
    directory: &Path,
    header: &SegmentHeader,
    spare: &Path,
) -> Result<CreatedSegment, DiskError> {
    let path = segment_path(directory, header.first_index);
    let failed = |action| move |error: io::Error| DiskError::new(action, spare, &error);
    let reuse = || {
        let file = disk.open(spare, Access::ReadWrite).map_err(failed(DiskAction::Open))?;
        let end = write_all_at(&*file, &mut [IoSlice::new(&header.encode())], 0, 0)
            .map_err(failed(DiskAction::Write))?;
        file.sync_data().map_err(failed(DiskAction::Sync))?;
        let file_bytes = file.len().map_err(failed(DiskAction::Read))?;
        disk.rename(spare, &path).map_err(failed(DiskAction::Rename))?;
        Ok((file, end, file_bytes))
    };
    let (file, end, file_bytes) = reuse().inspect_err(|_| {
        // The next try makes a new file. What is not removed now a start removes.
        let _ = disk.remove(spare);
    })?;
    sync_name(disk, directory)?;
    Ok(CreatedSegment { path, file, end, file_bytes })
}

/// Makes the name of a new segment durable.
fn sync_name(disk: &dyn Disk, directory: &Path) -> Result<(), DiskError> {
    if planted(Bug::NameNotSynced) {
        return Ok(());
    }
    disk.sync_directory(directory).map_err(|error| DiskError::new(DiskAction::Sync, directory, &error))
}

pub(super) fn fresh_salt(disk: &dyn Disk, directory: &Path) -> Result<u64, DiskError> {
    disk.salt().map_err(|error| DiskError::new(DiskAction::Create, directory, &error))
}
