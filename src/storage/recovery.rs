//! Opening what an earlier life left: begin at the newest checkpoint, check everything behind it, replay, cut what was
//! never durable, and nothing else.
//!
//! Until the scan has passed no file is touched. The judgement on a bad frame is in [`Recovery::judge`].

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Access, CHECKPOINT_VERSION, CheckpointFault, Cut, Damage, DirectLogOptions, Disk, DiskAction, DiskError,
    DiskFile, FrameFault, LogIndex, Machine, NodeId, OpenFailure, RaftState, RecoveredBatch, RecoveryReport,
    SegmentFault, Term, UnusableCheckpoint,
    appender::Appender,
    checkpoint::Checkpoint,
    disk::write_all_at,
    frame::{FRAME_VERSION, FrameHeader, FrameKind, read_u64},
    log_directory::{
        MEMBERSHIP_BYTES, Names, SegmentFile, SegmentFiles, VOTE_BYTES, create_log, open, read_headers,
    },
    reserve::Reserve,
    scan::{Found, Scan},
    segment::{Chain, SEGMENT_HEADER_BYTES, SegmentHeader, checkpoint_path},
    segment_table::{SegmentTable, Written},
    spares::Spares,
};

/// What recovery makes of a directory.
pub(super) struct Recovered {
    pub(super) appender: Appender,
    pub(super) report: RecoveryReport,
    pub(super) identity: Identity,
    /// Indices of the checkpoints that can be used, rising.
    pub(super) checkpoints: Vec<LogIndex>,
}

/// What Raft keeps about the log's node beside the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) voted_for: NodeId,
    /// The body of the last membership entry.
    pub(super) membership: Bytes,
}

impl Identity {
    /// All of it, for a log whose last frame has this term.
    pub(super) fn raft_state(&self, term: Term) -> RaftState {
        let voters = self.membership.chunks_exact(8).skip(1);
        let voters = voters.map(|voter| NodeId(read_u64(voter, 0))).collect();
        RaftState { term, voted_for: self.voted_for, voters }
    }
}

/// Opens the log in `directory`, which exists and is locked, or creates one.
pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &DirectLogOptions,
    machine: &mut dyn Machine,
) -> Result<Recovered, OpenFailure> {
    let names = Names::list(&**disk, directory)?;
    names.check_unfinished(&**disk)?;
    let report = RecoveryReport { leftovers_removed: names.unfinished.len(), ..RecoveryReport::default() };
    if names.segments.is_empty() {
        if let Some(index) = names.checkpoints.last() {
            let file = checkpoint_path(directory, *index);
            return Err(OpenFailure::MissingBatches { first: *index, end: index.next(), file });
        }
        if !options.create_if_missing {
            return Err(OpenFailure::Missing { directory: directory.to_path_buf() });
        }
        names.remove_with_unfinished(&**disk, directory, &[])?;
        let (appender, identity) = create_log(disk, directory, options)?;
        let report = RecoveryReport { created: true, segments: 1, ..report };
        return Ok(Recovered { appender, report, identity, checkpoints: Vec::new() });
    }
    let SegmentFiles { segments, superseded } = read_headers(&**disk, directory, &names.segments)?;
    if let Some(known) = options.known.filter(|known| known.id != segments[0].header.log_id) {
        let (directory, found) = (directory.to_path_buf(), segments[0].header.log_id);
        return Err(OpenFailure::OtherLog { directory, known: known.id, found });
    }
    let chosen = choose_checkpoint(&**disk, directory, &names.checkpoints, &segments)?;
    let checkpoints = chosen.usable;
    let mut recovery = Recovery {
        disk: &**disk,
        chain: Chain::at(&segments[0].header),
        table: Arc::default(),
        report: RecoveryReport {
            segments: names.segments.len(),
            checkpoint: chosen.newest.as_ref().map(|checkpoint| checkpoint.index),
            unusable_checkpoints: chosen.unusable,
            ..report
        },
        machine,
        identity: Identity { voted_for: options.node, membership: Bytes::new() },
        removed: superseded,
        unproven: VecDeque::new(),
        proven: FrameEnd::of_header(&segments[0].header),
    };
    let (last, before) = segments.split_last().expect("there is a segment");
    let (first_scanned, mut from) = match chosen.newest {
        Some(checkpoint) => recovery.resume(checkpoint, &segments)?,
        None => (recovery.begin_at_the_beginning(&segments)?, None),
    };
    for segment in &before[first_scanned.min(before.len())..] {
        recovery.scan(segment, from.take(), false)?;
    }
    let tail = recovery.scan(last, from, true)?;
    if let Some(known) = options.known.filter(|known| recovery.chain.next_index < known.end) {
        let (file, found) = (last.path.clone(), recovery.chain.next_index);
        return Err(OpenFailure::EndMissing { file, known: known.end, found });
    }
    let file = recovery.settle(last, &tail)?;
    recovery.report.leftovers_removed += recovery.removed.len();
    recovery.report.segments -= recovery.removed.len();
    names.remove_with_unfinished(&**disk, directory, &recovery.removed)?;
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
        exists_to: tail.file_bytes,
        durable_end: recovery.chain.next_index,
        reserve: Reserve::open(disk, directory, options.reserve_bytes)?,
        spares: Arc::new(Spares::new(disk, directory, options.segment_bytes)),
        mark_given_up: false,
        chain: recovery.chain,
    };
    Ok(Recovered { appender, report: recovery.report, identity: recovery.identity, checkpoints })
}

/// The checkpoints of a directory.
struct Chosen {
    newest: Option<Checkpoint>,
    usable: Vec<LogIndex>,
    unusable: Vec<UnusableCheckpoint>,
}

/// Reads checkpoints, the newest first, until one can be used; those before it are only looked at when they are needed.
fn choose_checkpoint(
    disk: &dyn Disk,
    directory: &Path,
    indices: &[LogIndex],
    segments: &[SegmentFile],
) -> Result<Chosen, OpenFailure> {
    let mut chosen = Chosen { newest: None, usable: indices.to_vec(), unusable: Vec::new() };
    while let Some(index) = chosen.usable.last() {
        let fault = match Checkpoint::read(disk, directory, *index)? {
            Ok(checkpoint) => match checkpoint.check_segments(segments) {
                Ok(()) => {
                    chosen.newest = Some(checkpoint);
                    break;
                }
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        let file = checkpoint_path(directory, *index);
        if let CheckpointFault::Unsupported { version } = fault {
            return Err(OpenFailure::UnknownVersion { file, found: version, known: CHECKPOINT_VERSION });
        }
        chosen.unusable.push(UnusableCheckpoint { file, why: fault });
        chosen.usable.pop();
    }
    Ok(chosen)
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
    machine: &'a mut dyn Machine,
    identity: Identity,
    /// Segments that a checkpoint says were removed.
    removed: Vec<PathBuf>,
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
    /// Without a checkpoint all segments must be there, and all are read: begins with the first.
    fn begin_at_the_beginning(&self, segments: &[SegmentFile]) -> Result<usize, OpenFailure> {
        let merged = segments.iter().find_map(|segment| segment.merged.as_ref());
        let SegmentFile { path, header, .. } = &segments[0];
        if header.first_index == LogIndex(0) && merged.is_none() {
            return Ok(0);
        }
        Err(match self.report.unusable_checkpoints.last() {
            Some(UnusableCheckpoint { file, why }) => {
                OpenFailure::NoCheckpoint { file: file.clone(), why: *why, first: header.first_index }
            }
            None => OpenFailure::MissingBatches {
                first: LogIndex(0),
                end: merged.map_or(header.first_index, |merged| merged.end_index),
                file: path.clone(),
            },
        })
    }

    /// Gives the machine the checkpoint's state. Returns which segment goes on behind it, and where.
    fn resume(
        &mut self,
        checkpoint: Checkpoint,
        segments: &[SegmentFile],
    ) -> Result<(usize, Option<FrameEnd>), OpenFailure> {
        let at = segments.partition_point(|segment| segment.header.first_index < checkpoint.segment);
        for SegmentFile { path, header, merged } in &segments[..at] {
            if let Some(merged) = merged {
                self.table.begin_unread(header, merged);
                continue;
            }
            let known = checkpoint.segments.iter().find(|known| known.first_index == header.first_index);
            let Some(known) = known else {
                // It was removed before the checkpoint was made, and its name came back in a crash.
                self.removed.push(path.clone());
                continue;
            };
            let bytes = Scan::new(open(self.disk, path, Access::Read)?, path)?.bytes();
            if bytes < known.bytes {
                return Err(self.damaged(path, bytes, FrameFault::EndsEarly));
            }
            self.table.begin_unread(header, known);
        }
        let state = checkpoint.state.into_iter().next().unwrap_or_default();
        self.machine.restore(state).map_err(|why| OpenFailure::Replay { index: checkpoint.index, why })?;
        self.identity = Identity { voted_for: checkpoint.voted_for, membership: checkpoint.membership };
        Ok((at, Some(FrameEnd { offset: checkpoint.offset, chain: checkpoint.chain })))
    }

    /// Checks and replays one segment, or what is behind `from`, which a checkpoint vouches for.
    fn scan(
        &mut self,
        segment: &SegmentFile,
        from: Option<FrameEnd>,
        is_last: bool,
    ) -> Result<Tail, OpenFailure> {
        let path = &segment.path;
        let mut scan = Scan::new(open(self.disk, path, Access::Read)?, path)?;
        let start = match from {
            Some(from) => {
                self.enter_at(segment, from);
                from.offset
            }
            None => {
                self.enter(segment)?;
                SEGMENT_HEADER_BYTES as u64
            }
        };
        if scan.bytes() < start {
            return Err(self.damaged(path, scan.bytes(), FrameFault::EndsEarly));
        }
        let mut end = start;
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
                    self.report.cut = self.judge(&mut scan, segment, end, fault, is_last)?;
                    file_bytes = end;
                    break;
                }
            }
        }
        if self.chain.next_index == LogIndex(0) {
            // Vote and membership were durable before the first segment had its name.
            return Err(self.damaged(path, end, FrameFault::EndsEarly));
        }
        self.report.bytes += end - start;
        Ok(Tail { end, file_bytes })
    }

    /// Whether a segment follows the one before.
    fn enter(&mut self, segment: &SegmentFile) -> Result<(), OpenFailure> {
        let SegmentFile { path, header, .. } = segment;
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

    /// Enters a segment behind a checkpoint. What is before was durable when the checkpoint was made.
    fn enter_at(&mut self, segment: &SegmentFile, from: FrameEnd) {
        self.chain = from.chain;
        self.unproven.clear();
        self.proven = from;
        self.table.begin_behind(&segment.path, &segment.header, &from.chain, from.offset);
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
            // What was merged is behind every checkpoint, and is not replayed.
            FrameKind::End => false,
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
            self.machine.apply(batch).map_err(|why| OpenFailure::Replay { index: header.index, why })?;
            self.report.batches += 1;
        }
        match header.kind {
            FrameKind::Vote => self.identity.voted_for = NodeId(read_u64(body, 0)),
            FrameKind::Membership => self.identity.membership = Bytes::copy_from_slice(body),
            FrameKind::Batch | FrameKind::Mark | FrameKind::End => {}
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

    /// Decides about a place where the next frame should be and is not: torn writing, which may be cut, or damage; or
    /// nothing, if the file was another segment before and this is what is left of that.
    ///
    /// A crash can leave a group of frames that was never reported durable in any state: the first one broken and the
    /// second one whole, since the disk need not write in order. So a whole frame later on proves nothing by being
    /// there. What proves that the bad frame was durable is a later header that says so, since headers name what was
    /// durable before they were written; or a later segment, since one begins only after the one before is durable.
    fn judge(
        &self,
        scan: &mut Scan<'_>,
        segment: &SegmentFile,
        offset: u64,
        fault: FrameFault,
        is_last: bool,
    ) -> Result<Option<Cut>, OpenFailure> {
        let SegmentFile { path, header, .. } = segment;
        let first_lost = self.chain.next_index;
        let aftermath = scan.aftermath(offset + 1, self.chain.salt)?;
        let unknown_version = match fault {
            FrameFault::Unsupported { version, .. } => Some(version),
            _ => aftermath.unknown_version,
        };
        if let Some(version) = unknown_version {
            return Err(OpenFailure::UnknownVersion {
                file: path.clone(),
                found: u32::from(version),
                known: u32::from(FRAME_VERSION),
            });
        }
        if !is_last || first_lost == LogIndex(0) || aftermath.durable_end > first_lost {
            return Err(self.damaged(path, offset, fault));
        }
        if scan.is_of_older_segment(offset, header, &aftermath)? {
            return Ok(None);
        }
        Ok(Some(Cut {
            file: path.clone(),
            offset,
            bytes: scan.bytes() - offset,
            first_lost,
            why: fault,
            frames_behind: aftermath.frames,
        }))
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
        if scan.bytes() > tail.file_bytes {
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
