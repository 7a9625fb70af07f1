//! Opening what an earlier life left: check everything, replay, cut what was never durable, and nothing else.
//!
//! Until the scan has passed no file is touched. The judgement on a bad frame is in [`Recovery::judge`].

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Access, Cut, Damage, DirectLogOptions, Disk, DiskAction, DiskError, DiskFile, FrameFault, LogIndex,
    OpenFailure, RecoveredBatch, RecoveryReport, SegmentFault,
    appender::Appender,
    disk::write_all_at,
    frame::{FRAME_VERSION, FrameHeader, FrameKind, read_u64},
    log_directory::{MEMBERSHIP_BYTES, Names, SegmentFile, VOTE_BYTES, create_log, open, read_headers},
    scan::{Found, Scan},
    segment::{Chain, SEGMENT_HEADER_BYTES, SegmentHeader},
    segment_table::{SegmentTable, Written},
};

/// What the owner does with each batch that is still there.
pub type Replay<'a> = &'a mut dyn FnMut(RecoveredBatch) -> Result<(), String>;

/// Opens the log in `directory`, which exists and is locked, or creates one.
pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &DirectLogOptions,
    replay: Replay<'_>,
) -> Result<(Appender, RecoveryReport), OpenFailure> {
    let names = Names::list(&**disk, directory)?;
    names.check_unfinished(&**disk)?;
    let report = RecoveryReport { unfinished_removed: names.unfinished.len(), ..RecoveryReport::default() };
    if names.segments.is_empty() {
        if !options.create_if_missing {
            return Err(OpenFailure::Missing { directory: directory.to_path_buf() });
        }
        names.remove_unfinished(&**disk, directory)?;
        let appender = create_log(disk, directory, options)?;
        return Ok((appender, RecoveryReport { created: true, segments: 1, ..report }));
    }
    let segments = read_headers(&**disk, directory, &names.segments)?;
    let mut recovery = Recovery {
        disk: &**disk,
        chain: Chain::at(&segments[0].header),
        table: Arc::default(),
        report: RecoveryReport { segments: segments.len(), ..report },
        replay,
        unproven: VecDeque::new(),
        proven: FrameEnd::of_header(&segments[0].header),
    };
    let (last, before) = segments.split_last().expect("there is a segment");
    for segment in before {
        recovery.scan(segment, false)?;
    }
    let tail = recovery.scan(last, true)?;
    let file = recovery.settle(last, &tail)?;
    names.remove_unfinished(&**disk, directory)?;
    let appender = Appender {
        disk: Arc::clone(disk),
        directory: directory.to_path_buf(),
        table: recovery.table,
        segment_bytes: options.segment_bytes,
        zero_ahead_bytes: options.zero_ahead_bytes,
        log_id: last.header.log_id,
        file,
        path: last.path.clone(),
        first_index: last.header.first_index,
        end: tail.end,
        zeroed_to: tail.file_bytes,
        durable_end: recovery.chain.next_index,
        mark_given_up: false,
        chain: recovery.chain,
    };
    Ok((appender, recovery.report))
}

/// Where the frames of a segment end.
struct Tail {
    /// End of the last good frame.
    end: u64,
    /// Length of the file, after what is to be cut is cut. From `end` on there are only zeros.
    file_bytes: u64,
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    chain: Chain,
    table: Arc<SegmentTable>,
    report: RecoveryReport,
    replay: Replay<'a>,
    /// Entries of this segment that no later frame has called durable yet: what the last group commits wrote.
    unproven: VecDeque<(LogIndex, FrameEnd)>,
    /// The last frame in this segment that a later frame called durable.
    proven: FrameEnd,
}

/// Where a frame, or the header of a segment, ends, and what comes next there.
#[derive(Clone, Copy)]
struct FrameEnd {
    offset: u64,
    chain: Chain,
}

impl FrameEnd {
    fn of_header(header: &SegmentHeader) -> Self {
        Self { offset: SEGMENT_HEADER_BYTES as u64, chain: Chain::at(header) }
    }
}

impl Recovery<'_> {
    /// Checks and replays one segment.
    fn scan(&mut self, segment: &SegmentFile, is_last: bool) -> Result<Tail, OpenFailure> {
        self.enter(segment)?;
        let path = &segment.path;
        let mut scan = Scan::new(open(self.disk, path, Access::Read)?, path)?;
        let mut end = SEGMENT_HEADER_BYTES as u64;
        let mut file_bytes = scan.bytes();
        loop {
            match scan.frame(end, &self.chain)? {
                Found::Frame { header, crc } => {
                    self.take(&mut scan, path, end, &header)?;
                    self.chain.advance(&header, crc);
                    end += header.frame_bytes();
                    self.note_proof(&header, end);
                }
                Found::End => break,
                Found::Bad(fault) => {
                    let cut = self.judge(&mut scan, path, end, fault, is_last)?;
                    self.report.cut = Some(cut);
                    file_bytes = end;
                    break;
                }
            }
        }
        if self.chain.next_index == LogIndex(0) {
            // Vote and membership were durable before the first segment had its name.
            return Err(self.damaged(path, end, FrameFault::EndsEarly));
        }
        self.report.bytes += end;
        Ok(Tail { end, file_bytes })
    }

    /// Whether a segment follows the one before.
    fn enter(&mut self, segment: &SegmentFile) -> Result<(), OpenFailure> {
        let SegmentFile { path, header } = segment;
        let chain = &self.chain;
        if header.first_index > chain.next_index {
            let (first, end) = (chain.next_index, header.first_index);
            return Err(OpenFailure::MissingBatches { first, end, file: path.clone() });
        }
        let follows = header.first_index == chain.next_index
            && header.previous_crc == chain.previous_crc
            && header.first_body == chain.bodies_end
            && header.term == chain.term;
        if !follows {
            return Err(OpenFailure::Damaged {
                file: path.clone(),
                offset: 0,
                index: chain.next_index,
                why: Damage::Segment(SegmentFault::OtherHistory),
            });
        }
        self.chain = Chain::at(header);
        self.unproven.clear();
        self.proven = FrameEnd::of_header(header);
        self.table.begin(path, header, SEGMENT_HEADER_BYTES as u64);
        Ok(())
    }

    /// Takes a good frame: replays it if it is a batch.
    fn take(
        &mut self,
        scan: &mut Scan<'_>,
        path: &Path,
        offset: u64,
        header: &FrameHeader,
    ) -> Result<(), OpenFailure> {
        let body = scan.body(offset, header)?;
        let in_place = match header.kind {
            FrameKind::Batch => header.index > LogIndex(0),
            FrameKind::Vote => body.len() == VOTE_BYTES,
            FrameKind::Membership => body.len() == MEMBERSHIP_BYTES && read_u64(body, 0) == 1,
            FrameKind::Mark => body.is_empty(),
        };
        if !in_place {
            return Err(self.damaged(path, offset, FrameFault::Contradiction));
        }
        if header.kind == FrameKind::Batch {
            let batch = RecoveredBatch {
                index: header.index,
                first_body: header.first_body,
                bodies: header.bodies,
                recorded_at: header.recorded_at,
                payload: Bytes::copy_from_slice(body),
            };
            (self.replay)(batch).map_err(|why| OpenFailure::Replay { index: header.index, why })?;
            self.report.batches += 1;
        }
        self.table.extend(&[Written { header: *header, offset }]);
        Ok(())
    }

    /// Notes what a frame that ends at `end` proves about those before it.
    fn note_proof(&mut self, header: &FrameHeader, end: u64) {
        while let Some(&(index, end)) = self.unproven.front()
            && index < header.durable_end
        {
            self.proven = end;
            self.unproven.pop_front();
        }
        if header.kind.is_entry() {
            self.unproven.push_back((header.index, FrameEnd { offset: end, chain: self.chain }));
        }
    }

    /// Decides about a place where the next frame should be and is not: torn writing, which may be cut, or damage.
    ///
    /// A crash can leave a group of frames that was never reported durable in any state: the first one broken and the
    /// second one whole, since the disk need not write in order. So a whole frame later on proves nothing by being
    /// there. What proves that the bad frame was durable is a later header that says so, since headers name what was
    /// durable before they were written; or a later segment, since one begins only after the one before is durable.
    fn judge(
        &self,
        scan: &mut Scan<'_>,
        path: &Path,
        offset: u64,
        fault: FrameFault,
        is_last: bool,
    ) -> Result<Cut, OpenFailure> {
        let first_lost = self.chain.next_index;
        let aftermath = scan.aftermath(offset + 1, self.chain.salt)?;
        let unknown_version = match fault {
            FrameFault::Unsupported { version, .. } => Some(version),
            _ => aftermath.unknown_version,
        };
        if let Some(version) = unknown_version {
            return Err(OpenFailure::UnknownVersion {
                file: path.to_path_buf(),
                found: u32::from(version),
                known: u32::from(FRAME_VERSION),
            });
        }
        if !is_last || first_lost == LogIndex(0) || aftermath.durable_end > first_lost {
            return Err(self.damaged(path, offset, fault));
        }
        Ok(Cut {
            file: path.to_path_buf(),
            offset,
            bytes: scan.bytes() - offset,
            first_lost,
            why: fault,
            frames_behind: aftermath.frames,
        })
    }

    /// Makes the end of the log what it was judged to be, durably, and returns the file to go on writing to.
    ///
    /// What no frame calls durable is written once more before it is synced. After a kill these bytes may be only in
    /// the operating system's cache, where a sync is enough; but after a failed sync the system may hold them for
    /// clean although the disk never got them, and then a sync alone would succeed and do nothing. For the same reason
    /// they are checked once more on the way: the system may have dropped them since the scan, and what it reads then
    /// is not what was replayed.
    fn settle(&mut self, last: &SegmentFile, tail: &Tail) -> Result<Arc<dyn DiskFile>, OpenFailure> {
        let path = &last.path;
        let file = open(self.disk, path, Access::ReadWrite)?;
        let mut scan = Scan::new(Arc::clone(&file), path)?;
        let FrameEnd { mut offset, mut chain } = self.proven;
        while offset < tail.end {
            let Found::Frame { header, crc } = scan.frame(offset, &chain)? else {
                let changed =
                    io::Error::new(io::ErrorKind::InvalidData, "it reads differently the second time");
                return Err(DiskError::new(DiskAction::Read, path, &changed).into());
            };
            let frame = scan.whole_frame(offset, &header)?;
            write_all_at(&*file, &mut [IoSlice::new(frame)], offset, 0)
                .map_err(|error| DiskError::new(DiskAction::Write, path, &error))?;
            chain.advance(&header, crc);
            offset += header.frame_bytes();
        }
        if self.report.cut.is_some() {
            file.set_len(tail.end).map_err(|error| DiskError::new(DiskAction::Truncate, path, &error))?;
        }
        file.sync_data().map_err(|error| DiskError::new(DiskAction::Sync, path, &error))?;
        Ok(file)
    }

    fn damaged(&self, path: &Path, offset: u64, fault: FrameFault) -> OpenFailure {
        let index = self.chain.next_index;
        OpenFailure::Damaged { file: path.to_path_buf(), offset, index, why: Damage::Frame(fault) }
    }
}
