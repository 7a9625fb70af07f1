//! Making a log openable again that has lost something.
//!
//! Nothing that was written becomes something else, and no file is removed. The log gets one more segment, from which it goes on, and a checkpoint behind
//! that one's first entry which stands for all that can still be read: what is damaged lies before it, where no start looks.
//! Files that would keep any log from opening are put aside under names of their own, last.
//!
//! So whenever the power goes, the log is either not openable, as before, and the same repair leads to the same end; or it is
//! repaired.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    Access, Batch, Disk, DiskAction, DiskError, OpenFailure, Segment, Survey,
    appender::{Frames, create_segment, fresh_salt},
    checkpoint::Checkpoint,
    disk::{read_exact_at, write_all_at},
    frame::padding_bytes,
    log_directory::Names,
    segment::{Chain, DAMAGED, SEGMENT_HEADER_BYTES, SegmentHeader},
};
use crate::model::{BodySequence, Timestamp};

/// What a log is to be after a repair.
#[derive(Debug, Clone)]
pub struct Salvaged {
    /// The log's id, if no segment tells it.
    pub log_id: u64,
    /// What its owner made of all that can be read, without what it gives up.
    pub state: Vec<Bytes>,
    /// Lowest sequence that the next body may have.
    pub bodies_end: BodySequence,
    /// A batch of the owner's in which nothing happens.
    pub nothing: Bytes,
    /// The time of that batch.
    pub at: Timestamp,
}

/// Makes of a log that was surveyed, and is locked and not open, one that opens as what its owner salvaged. Returns the
/// files that were put aside, with their new names.
///
/// # Errors
/// The disk's: the same repair may be done again.
pub fn repair(disk: &dyn Disk, survey: &Survey, salvaged: Salvaged) -> Result<Vec<PathBuf>, OpenFailure> {
    let directory = &*survey.directory;
    let names = Names::list(disk, directory)?;
    let mut aside = Vec::new();
    for (path, _) in names.check_unfinished(disk).err().map(|_| &names.unfinished).into_iter().flatten() {
        // Its name says that there is nothing in it, and there is.
        aside.push(put_aside(disk, path)?);
    }
    Names::list(disk, directory)?.remove_with_unfinished(disk, directory, &[])?;

    settle(disk, survey)?;
    let Salvaged { log_id, state, bodies_end, nothing, at } = salvaged;
    let log_id = survey.log_id.unwrap_or(log_id);
    let bodies_end = survey.chain.bodies_end.max(bodies_end);
    let header = SegmentHeader {
        log_id,
        salt: fresh_salt(disk, directory)?,
        first_index: survey.end,
        first_body: bodies_end,
        term: survey.chain.term.max(super::Term(1)),
        previous_crc: survey.chain.previous_crc,
        merged: false,
        reused: false,
    };
    let mut frames = Frames::new(Chain::at(&header), SEGMENT_HEADER_BYTES as u64, survey.end);
    let batch = Batch {
        first_body: BodySequence(0),
        bodies: 0,
        operations: 0,
        recorded_at: at,
        payload: vec![nothing.clone()],
    };
    frames.push_batch(&batch);
    let padding = vec![0; padding_bytes(nothing.len())];
    let content = [&frames.headers[0][..], &nothing, &padding].concat();
    create_segment(disk, directory, &header, &content)?;

    let kept = survey.segments.iter().filter(|segment| segment.is_sound).map(|segment| Segment {
        path: segment.path.clone(),
        first_index: segment.first_index,
        end_index: segment.end_index,
        first_body: segment.first_body,
        bodies_end: segment.bodies_end,
        // A mark behind it may not be on the disk.
        bytes: segment.entries_end,
    });
    let mut membership = survey.identity.membership.clone();
    if membership.is_empty() {
        // The log's own first entry is among what is lost, and says that this node is alone.
        membership = [1u64.to_le_bytes(), survey.identity.voted_for.0.to_le_bytes()].concat().into();
    }
    let checkpoint = Checkpoint {
        log_id,
        index: survey.end,
        voted_for: survey.identity.voted_for,
        segment: survey.end,
        offset: frames.end,
        chain: frames.chain,
        membership,
        segments: kept.collect(),
        state,
    };
    checkpoint.write(disk, directory)?;
    for segment in survey.segments.iter().filter(|segment| !segment.is_sound) {
        aside.push(put_aside(disk, &segment.path)?);
    }
    if !aside.is_empty() {
        disk.sync_directory(directory)
            .map_err(|error| DiskError::new(DiskAction::Sync, directory, &error))?;
    }
    Ok(aside)
}

/// Makes the end of the last segment durable: the checkpoint will speak of it. What no frame calls durable is written once
/// more, as recovery does.
fn settle(disk: &dyn Disk, survey: &Survey) -> Result<(), DiskError> {
    let Some(last) = survey.segments.last() else { return Ok(()) };
    let failed = |action| move |error: io::Error| DiskError::new(action, &last.path, &error);
    let file = disk.open(&last.path, Access::ReadWrite).map_err(failed(DiskAction::Open))?;
    if let Some(end) = survey.older_from {
        // The next segment says that this one is full, and a full one has nothing behind its frames.
        file.set_len(end).map_err(failed(DiskAction::Truncate))?;
    }
    let mut offset = survey.unproven_from.unwrap_or(last.entries_end);
    while offset < last.entries_end {
        let mut piece = vec![0; (last.entries_end - offset).min(PIECE_BYTES) as usize];
        read_exact_at(&*file, &mut piece, offset).map_err(failed(DiskAction::Read))?;
        write_all_at(&*file, &mut [io::IoSlice::new(&piece)], offset, 0)
            .map_err(failed(DiskAction::Write))?;
        offset += piece.len() as u64;
    }
    file.sync_data().map_err(failed(DiskAction::Sync))
}

/// How much is read and written at once.
const PIECE_BYTES: u64 = 1024 * 1024;

/// Gives a file a name under which no log looks at it.
fn put_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf, DiskError> {
    let mut aside = named(path, None);
    let mut number = 2;
    while disk.open(&aside, Access::Read).is_ok() {
        aside = named(path, Some(number));
        number += 1;
    }
    let failed = |error: io::Error| DiskError::new(DiskAction::Rename, path, &error);
    disk.rename(path, &aside).map_err(failed)?;
    Ok(aside)
}

fn named(path: &Path, number: Option<u32>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if let Some(number) = number {
        name.push(format!(".{number}"));
    }
    name.push(DAMAGED);
    name.into()
}
