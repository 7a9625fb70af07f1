//! Reading a log to its end whatever is wrong with it, and changing nothing.
//!
//! Recovery stops at the first damage, since nobody may go on as if nothing had happened. A survey goes on behind it, with
//! the next frame that is whole, and says what lies between: for those who look, and for those who give something up.

use std::{collections::VecDeque, path::Path};

use bytes::Bytes;

use super::{
    Access, CheckpointFault, Cut, Damage, Disk, DiskError, FrameFault, KnownLog, LogIndex, Logged, Loss,
    LossCause, NodeId, OpenFailure, RecoveredBatch, SegmentFault, Survey, SurveyedCheckpoint, SurveyedFrame,
    SurveyedSegment, Surveyor,
    checkpoint::Checkpoint,
    frame::{FRAME_VERSION, FrameHeader, FrameKind, read_u64},
    log_directory::{Names, SegmentFile, open},
    merge::read_end_of,
    recovery::Identity,
    scan::{Found, Scan},
    segment::{
        Chain, SEGMENT_HEADER_BYTES, SegmentHeader, checkpoint_path, segment_path, version_known_beside,
    },
};
use crate::model::BodySequence;

/// Bytes of all segments of a log: how much a survey has to read.
///
/// # Errors
/// The disk's, or that there is something that no log puts there.
pub fn survey_bytes(disk: &dyn Disk, directory: &Path) -> Result<u64, OpenFailure> {
    let names = Names::list(disk, directory)?;
    let mut bytes = 0;
    for first in &names.segments {
        let path = segment_path(directory, *first);
        bytes += Scan::new(open(disk, &path, Access::Read)?, &path)?.bytes();
    }
    Ok(bytes)
}

/// Reads all of the log in `directory`, which nobody may be writing meanwhile. `known`: what others know about it.
///
/// # Errors
/// [`OpenFailure::Missing`] if there are no segments; [`OpenFailure::OtherLog`]; [`OpenFailure::UnknownVersion`];
/// [`OpenFailure::ForeignFile`]; [`OpenFailure::Replay`]: what the surveyor says. Damage is none.
pub fn survey(
    disk: &dyn Disk,
    directory: &Path,
    known: Option<KnownLog>,
    surveyor: &mut dyn Surveyor,
) -> Result<Survey, OpenFailure> {
    let names = Names::list(disk, directory)?;
    if names.segments.is_empty() && names.checkpoints.is_empty() {
        return Err(OpenFailure::Missing { directory: directory.to_path_buf() });
    }
    let Headers { files, mut leftovers } = read_headers(disk, directory, &names.segments)?;
    leftovers += names.unfinished_count();
    let log_id = files.iter().find(|file| file.fault.is_none()).map(|file| file.segment.header.log_id);
    if let (Some(known), Some(found)) = (known.filter(|known| Some(known.id) != log_id), log_id) {
        return Err(OpenFailure::OtherLog { directory: directory.to_path_buf(), known: known.id, found });
    }
    let (checkpoint, checkpoints) = read_checkpoints(disk, directory, &names.checkpoints, &files, log_id)?;
    let start = files.first().map_or(LogIndex(0), |file| file.segment.header.first_index);
    let mut walk = Walk {
        disk,
        surveyor,
        checkpoint: checkpoint.as_ref().map(|checkpoint| (checkpoint.index, checkpoint.segment)),
        read_bytes: 0,
        open_loss: None,
        unproven: VecDeque::new(),
        survey: Survey {
            directory: directory.to_path_buf(),
            log_id,
            segments: Vec::new(),
            checkpoints,
            losses: Vec::new(),
            torn: None,
            leftovers,
            unproven_from: None,
            older_from: None,
            end: start,
            chain: files
                .first()
                .map_or_else(|| Chain::at(&no_header(start)), |file| Chain::at(&file.segment.header)),
            identity: Identity { voted_for: NodeId(1), membership: Bytes::new() },
        },
    };
    walk.begin(directory, &files, checkpoint)?;
    for (number, file) in files.iter().enumerate() {
        if walk.surveyor.is_done() {
            break;
        }
        walk.enter(file);
        walk.segment(file, number + 1 == files.len())?;
    }
    walk.end(known);
    walk.survey.unproven_from = walk.unproven.front().map(|(_, offset)| *offset);
    Ok(walk.survey)
}

/// A segment's file, with a header that was guessed if its own is damaged.
struct Headed {
    segment: SegmentFile,
    fault: Option<Damage>,
}

struct Headers {
    files: Vec<Headed>,
    leftovers: usize,
}

fn read_headers(disk: &dyn Disk, directory: &Path, firsts: &[LogIndex]) -> Result<Headers, OpenFailure> {
    let mut headers = Headers { files: Vec::new(), leftovers: 0 };
    for first in firsts {
        let path = segment_path(directory, *first);
        let mut scan = Scan::new(open(disk, &path, Access::Read)?, &path)?;
        let before = headers.files.iter().find(|file: &&Headed| file.fault.is_none());
        let log_id = before.map(|file| file.segment.header.log_id);
        let (mut header, mut fault) = match scan.segment_header()? {
            Err(SegmentFault::Unsupported { version: found }) => {
                let known = version_known_beside(found);
                return Err(OpenFailure::UnknownVersion { file: path, found, known });
            }
            Ok(header) if header.first_index != *first => {
                (header, Some(SegmentFault::OtherName { header: header.first_index }))
            }
            Ok(header) if log_id.is_some_and(|id| id != header.log_id) => {
                (header, Some(SegmentFault::OtherLog))
            }
            Ok(header) => (header, None),
            Err(fault) => (guessed_header(&mut scan, *first)?, Some(fault)),
        };
        header.first_index = *first;
        let last = headers.files.last().and_then(|last| last.segment.merged.as_ref());
        if last.is_some_and(|merged| *first < merged.end_index) {
            headers.leftovers += 1;
            continue;
        }
        let mut merged = None;
        let mut damage = fault.take().map(Damage::Segment);
        if header.merged && damage.is_none() {
            match read_end_of(disk, &path, &header) {
                Ok(end) => merged = Some(end),
                Err(OpenFailure::Damaged { why, .. }) => damage = Some(why),
                Err(failure) => return Err(failure),
            }
        }
        headers.files.push(Headed { segment: SegmentFile { path, header, merged }, fault: damage });
    }
    Ok(headers)
}

/// A header for a segment that has none that can be read, from its first frame: with its salt the others are found.
fn guessed_header(scan: &mut Scan<'_>, first: LogIndex) -> Result<SegmentHeader, DiskError> {
    let header = no_header(first);
    Ok(match scan.header_at(SEGMENT_HEADER_BYTES as u64)? {
        Some((frame, _)) => SegmentHeader {
            salt: frame.salt,
            first_body: frame.first_body,
            term: frame.term,
            previous_crc: frame.previous_crc,
            ..header
        },
        None => header,
    })
}

fn no_header(first_index: LogIndex) -> SegmentHeader {
    SegmentHeader {
        log_id: 0,
        salt: 0,
        first_index,
        first_body: BodySequence(0),
        term: super::Term(1),
        previous_crc: 0,
        merged: false,
        reused: false,
    }
}

/// Reads all checkpoints; returns the newest that can be used.
fn read_checkpoints(
    disk: &dyn Disk,
    directory: &Path,
    indices: &[LogIndex],
    files: &[Headed],
    log_id: Option<u64>,
) -> Result<(Option<Checkpoint>, Vec<SurveyedCheckpoint>), OpenFailure> {
    let mut newest = None;
    let mut surveyed = Vec::new();
    for index in indices {
        let path = checkpoint_path(directory, *index);
        let read = Checkpoint::read(disk, directory, *index)?;
        if let Err(CheckpointFault::Unsupported { version: found }) = read {
            let known = super::CHECKPOINT_VERSION;
            return Err(OpenFailure::UnknownVersion { file: path, found, known });
        }
        let checked = read.and_then(|checkpoint| {
            let goes_on = |file: &Headed| {
                let header = &file.segment.header;
                header.first_index == checkpoint.segment && header.salt == checkpoint.chain.salt
            };
            if log_id.is_some_and(|id| id != checkpoint.log_id) {
                Err(CheckpointFault::OtherLog)
            } else if files.iter().any(goes_on) {
                Ok(checkpoint)
            } else {
                Err(CheckpointFault::OtherSegments)
            }
        });
        let fault = checked.as_ref().err().copied();
        surveyed.push(SurveyedCheckpoint { path, index: *index, fault });
        newest = checked.ok().or(newest);
    }
    Ok((newest, surveyed))
}

struct Walk<'a> {
    disk: &'a dyn Disk,
    surveyor: &'a mut dyn Surveyor,
    /// The last entry in the newest checkpoint, and the segment that it is in.
    checkpoint: Option<(LogIndex, LogIndex)>,
    read_bytes: u64,
    /// The last loss, if it is not known yet how many bodies it cost.
    open_loss: Option<usize>,
    /// Entries of this segment that no later frame has called durable, and where they begin.
    unproven: VecDeque<(LogIndex, u64)>,
    survey: Survey,
}

impl Walk<'_> {
    /// Takes up the checkpoint, or says what there should be one for.
    fn begin(
        &mut self,
        directory: &Path,
        files: &[Headed],
        checkpoint: Option<Checkpoint>,
    ) -> Result<(), OpenFailure> {
        if let Some(checkpoint) = checkpoint {
            let Checkpoint { index, voted_for, membership, state, .. } = checkpoint;
            self.survey.identity = Identity { voted_for, membership };
            let state = state.into_iter().next().unwrap_or_default();
            return self.surveyor.restore(state).map_err(|why| OpenFailure::Replay { index, why });
        }
        let merged = files.iter().find_map(|file| file.segment.merged.as_ref());
        let first = files.first().map(|file| file.segment.header.first_index);
        if first == Some(LogIndex(0)) && merged.is_none() {
            return Ok(());
        }
        let end = merged.map_or(first.unwrap_or_default(), |merged| merged.end_index);
        let bodies_end = files.first().map_or(BodySequence(0), |file| file.segment.header.first_body);
        let (cause, file) = match self.survey.checkpoints.last() {
            Some(checkpoint) => (LossCause::NoCheckpoint, checkpoint.path.clone()),
            None => (LossCause::Missing, segment_path(directory, first.unwrap_or_default())),
        };
        let bodies = 0..bodies_end.0;
        self.note(Loss { file, offset: 0, bytes: 0, entries: 0..end.0, bodies, cause, is_replayed: true });
        Ok(())
    }

    /// Goes from one segment to the next.
    fn enter(&mut self, file: &Headed) {
        let SegmentFile { path, header, .. } = &file.segment;
        let chain = self.survey.chain;
        let begins_late = header.first_index > chain.next_index;
        // Below a checkpoint segments are removed that nobody needs.
        let is_expected = self.checkpoint.is_some_and(|(_, segment)| header.first_index <= segment);
        if begins_late && !is_expected && self.open_loss.is_none() && !self.survey.segments.is_empty() {
            self.note(Loss {
                file: path.clone(),
                offset: 0,
                bytes: 0,
                entries: chain.next_index.0..header.first_index.0,
                bodies: chain.bodies_end.0..header.first_body.0,
                cause: LossCause::Missing,
                is_replayed: true,
            });
        }
        if let Some(damage) = file.fault {
            self.note(Loss {
                file: path.clone(),
                offset: 0,
                bytes: SEGMENT_HEADER_BYTES as u64,
                entries: header.first_index.0..header.first_index.0,
                bodies: header.first_body.0..header.first_body.0,
                cause: LossCause::Damage(damage),
                is_replayed: true,
            });
        }
        if let Some(number) = self.open_loss {
            // It reached to the end of its segment.
            let loss = &mut self.survey.losses[number];
            loss.entries.end = loss.entries.end.max(header.first_index.0);
            loss.is_replayed |= self.checkpoint.is_none_or(|(newest, _)| loss.entries.end > newest.0 + 1);
            self.bodies_go_on_at(header.first_body);
        }
        self.unproven.clear();
        let gaps = header.merged;
        self.survey.chain = Chain { gaps, ..Chain::at(header) };
        self.survey.segments.push(SurveyedSegment {
            path: path.clone(),
            first_index: header.first_index,
            end_index: header.first_index,
            first_body: header.first_body,
            bodies_end: header.first_body,
            bytes: SEGMENT_HEADER_BYTES as u64,
            entries_end: SEGMENT_HEADER_BYTES as u64,
            file_bytes: 0,
            entries: 0,
            bodies: 0,
            is_merged: header.merged,
            is_sound: file.fault.is_none(),
        });
    }

    fn segment(&mut self, file: &Headed, is_last: bool) -> Result<(), OpenFailure> {
        let SegmentFile { path, merged, .. } = &file.segment;
        let read = open(self.disk, path, Access::Read).and_then(|opened| Scan::new(opened, path));
        let walked = read
            .map_err(OpenFailure::from)
            .and_then(|mut scan| self.frames(&mut scan, &file.segment, is_last));
        match walked {
            Ok(()) => {}
            // Sectors that cannot be read: what is behind them in this file is given up for lost.
            Err(OpenFailure::Disk(error)) => {
                let offset = self.last().bytes;
                self.lost_from(path, offset, 0, LossCause::Disk(error));
                self.open_loss = Some(self.survey.losses.len() - 1);
            }
            Err(failure) => return Err(failure),
        }
        if let Some(merged) = merged {
            self.survey.chain.next_index = self.survey.chain.next_index.max(merged.end_index);
            self.survey.chain.bodies_end = self.survey.chain.bodies_end.max(merged.bodies_end);
        }
        let chain = self.survey.chain;
        let bytes = self.last().file_bytes;
        self.read_bytes += bytes;
        self.surveyor.progress(self.read_bytes);
        let last = self.last();
        (last.end_index, last.bodies_end) = (chain.next_index, chain.bodies_end);
        if !last.is_sound {
            // Entries in it were applied, but no log with it opens, so nobody can read its bodies back.
            let (bodies, path) = (last.first_body.0..last.bodies_end.0, last.path.clone());
            let entries = last.first_index.0..last.end_index.0;
            let mut losses = self.survey.losses.iter_mut().rev();
            if let Some(loss) = losses.find(|loss| loss.file == path && loss.offset == 0) {
                (loss.bodies, loss.entries) = (bodies, entries);
            }
        }
        self.survey.end = chain.next_index;
        Ok(())
    }

    fn last(&mut self) -> &mut SurveyedSegment {
        self.survey.segments.last_mut().expect("a segment was entered")
    }

    fn frames(
        &mut self,
        scan: &mut Scan<'_>,
        segment: &SegmentFile,
        is_last: bool,
    ) -> Result<(), OpenFailure> {
        self.last().file_bytes = scan.bytes();
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        while offset <= scan.bytes() && !self.surveyor.is_done() {
            self.surveyor.progress(self.read_bytes + offset);
            match scan.frame(offset, &self.survey.chain)? {
                Found::Frame { header, crc } => {
                    self.take(scan, &segment.path, offset, &header)?;
                    self.survey.chain.advance(&header, crc);
                    offset += header.frame_bytes();
                    self.last().bytes = offset;
                }
                Found::End => break,
                Found::Bad(fault) => match self.pass_by(scan, segment, offset, fault, is_last)? {
                    Some(behind) => offset = behind,
                    None => break,
                },
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        scan: &mut Scan<'_>,
        path: &Path,
        offset: u64,
        header: &FrameHeader,
    ) -> Result<(), OpenFailure> {
        let body = Bytes::copy_from_slice(scan.body(offset, header)?);
        let nodes =
            |bytes: &[u8]| bytes.chunks_exact(8).map(|node| NodeId(read_u64(node, 0))).collect::<Vec<_>>();
        let what = match header.kind {
            FrameKind::Batch => Logged::Batch,
            FrameKind::Vote => {
                let voted_for = nodes(&body).first().copied().unwrap_or(NodeId(0));
                self.survey.identity.voted_for = voted_for;
                Logged::Vote(voted_for)
            }
            FrameKind::Membership => {
                self.survey.identity.membership = body.clone();
                Logged::Membership(nodes(&body).split_off(1.min(nodes(&body).len())))
            }
            FrameKind::Mark => Logged::Mark,
            FrameKind::End => Logged::End,
        };
        if header.bodies > 0 {
            self.bodies_go_on_at(header.first_body);
        }
        let is_batch = what == Logged::Batch;
        while self.unproven.front().is_some_and(|(index, _)| *index < header.durable_end) {
            self.unproven.pop_front();
        }
        if header.kind.is_entry() {
            self.unproven.push_back((header.index, offset));
            let last = self.last();
            last.entries_end = offset + header.frame_bytes();
            last.entries += 1;
            last.bodies += u64::from(header.bodies);
        }
        let frame = SurveyedFrame {
            file: path,
            offset,
            bytes: header.frame_bytes(),
            what,
            operations: header.operations,
            batch: RecoveredBatch {
                index: header.index,
                first_body: header.first_body,
                bodies: header.bodies,
                recorded_at: header.recorded_at,
                payload: body,
            },
            is_replayed: is_batch && self.is_replayed(header.index),
        };
        self.surveyor.frame(&frame).map_err(|why| OpenFailure::Replay { index: header.index, why })
    }

    /// Up to here went what is lost.
    fn bodies_go_on_at(&mut self, sequence: BodySequence) {
        if let Some(number) = self.open_loss.take() {
            let bodies = &mut self.survey.losses[number].bodies;
            bodies.end = sequence.0.max(bodies.start);
        }
    }

    fn is_replayed(&self, index: LogIndex) -> bool {
        self.checkpoint.is_none_or(|(newest, _)| index > newest)
    }

    /// Goes on behind a bad frame; `None` if there is nothing behind it. What recovery would cut is no loss.
    fn pass_by(
        &mut self,
        scan: &mut Scan<'_>,
        segment: &SegmentFile,
        offset: u64,
        fault: FrameFault,
        is_last: bool,
    ) -> Result<Option<u64>, OpenFailure> {
        let SegmentFile { path, header, .. } = segment;
        let chain = self.survey.chain;
        let aftermath = scan.aftermath(offset + 1, chain.salt)?;
        let unknown = match fault {
            FrameFault::Unsupported { version, .. } => Some(version),
            _ => aftermath.unknown_version,
        };
        if let Some(found) = unknown {
            let (found, known) = (u32::from(found), u32::from(FRAME_VERSION));
            return Err(OpenFailure::UnknownVersion { file: path.to_path_buf(), found, known });
        }
        if is_last && chain.next_index > LogIndex(0) && aftermath.durable_end <= chain.next_index {
            if scan.is_of_older_segment(offset, header, &aftermath)? {
                self.survey.older_from = Some(offset);
                return Ok(None);
            }
            self.survey.torn = Some(Cut {
                file: path.to_path_buf(),
                offset,
                bytes: scan.bytes() - offset,
                first_lost: chain.next_index,
                why: fault,
                frames_behind: aftermath.frames,
            });
            return Ok(None);
        }
        let cause = LossCause::Damage(Damage::Frame(fault));
        let whole = if fault == FrameFault::BodyChecksum { scan.header_at(offset)? } else { None };
        if let Some((header, crc)) = whole {
            self.survey.chain.advance(&header, crc);
            self.lost_from(path, offset, header.frame_bytes(), cause);
            if let Some(loss) = self.survey.losses.last_mut() {
                let index = header.index.0;
                loss.entries = index..index + u64::from(header.kind.is_entry());
                loss.bodies = header.first_body.0..header.first_body.0 + u64::from(header.bodies);
                loss.is_replayed =
                    header.kind.is_entry() && self.checkpoint.is_none_or(|(newest, _)| header.index > newest);
            }
            return Ok(Some(offset + header.frame_bytes()));
        }
        let Some((behind, header)) = scan.next_header(offset + 8, chain.salt, chain.next_index)? else {
            self.lost_from(path, offset, scan.bytes() - offset, cause);
            self.open_loss = Some(self.survey.losses.len() - 1);
            return Ok(None);
        };
        self.survey.chain = Chain {
            previous_crc: header.previous_crc,
            next_index: header.index,
            term: header.term,
            stated_durable_end: header.durable_end.min(header.index),
            ..chain
        };
        self.lost_from(path, offset, behind - offset, cause);
        if let Some(loss) = self.survey.losses.last_mut() {
            loss.entries = chain.next_index.0..header.index.0;
            let newest = self.checkpoint.map(|(newest, _)| newest.0);
            loss.is_replayed = newest.is_none_or(|newest| header.index.0 > newest + 1);
            self.open_loss = Some(self.survey.losses.len() - 1);
        }
        Ok(Some(behind))
    }

    fn lost_from(&mut self, path: &Path, offset: u64, bytes: u64, cause: LossCause) {
        let chain = self.survey.chain;
        self.note(Loss {
            file: path.to_path_buf(),
            offset,
            bytes,
            entries: chain.next_index.0..chain.next_index.0,
            bodies: chain.bodies_end.0..chain.bodies_end.0,
            cause,
            is_replayed: self.is_replayed(chain.next_index),
        });
    }

    fn note(&mut self, loss: Loss) {
        self.survey.losses.push(loss);
    }

    /// A log that ends before what others know of it has lost its end.
    fn end(&mut self, known: Option<KnownLog>) {
        let chain = self.survey.chain;
        if let Some(number) = self.open_loss.take() {
            // Nothing behind it says how many there were.
            self.survey.losses[number].bodies.end = u64::MAX;
        }
        let Some(known) = known.filter(|known| chain.next_index < known.end) else { return };
        let file = self.survey.segments.last().map(|segment| segment.path.clone());
        self.note(Loss {
            file: file.unwrap_or_else(|| self.survey.directory.clone()),
            offset: self.survey.segments.last().map_or(0, |segment| segment.bytes),
            bytes: 0,
            entries: chain.next_index.0..known.end.0,
            bodies: chain.bodies_end.0..u64::MAX,
            cause: LossCause::Missing,
            is_replayed: true,
        });
        self.survey.end = known.end;
    }
}
