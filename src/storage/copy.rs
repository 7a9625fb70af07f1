//! Copying a log that somebody may be writing meanwhile.
//!
//! Segments that are full never change under their names but for one of two ways: they are removed, or one made of them takes
//! their place, and both only when no checkpoint that is kept needs what goes. So the files of a log belong together if they
//! were all open while the list of names stayed the same; what is removed afterwards can still be read, since the log
//! writes over no file that a copy holds. The last segment
//! grows: everything that was durable when its copy began is in it, and behind that there may be half a frame, which is cut.

use std::{
    io::IoSlice,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Access, Damage, Disk, DiskAction, DiskError, DiskFile, OpenFailure,
    disk::write_all_at,
    log_directory::{Names, open},
    scan::{Found, Scan},
    segment::{Chain, SEGMENT_HEADER_BYTES, checkpoint_path, segment_path},
};

/// How often the list of names may change before a copy is given up.
const TRIES_MAX: usize = 100;
/// How much is copied at once.
const PIECE_BYTES: u64 = 1024 * 1024;

/// The files of a log as they were at one moment, held open.
pub struct LogCopy {
    files: Vec<(PathBuf, Arc<dyn DiskFile>)>,
    /// The last segment, which may grow.
    last: Option<PathBuf>,
    bytes: u64,
}

impl LogCopy {
    /// Opens the files of the log in `directory`, which may be in use.
    ///
    /// # Errors
    /// The disk's, or that there is something that no log puts there.
    pub fn open(disk: &dyn Disk, directory: &Path) -> Result<Self, OpenFailure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_open(disk, directory) {
                Ok(Some(copy)) => return Ok(copy),
                Err(failure) if tries >= TRIES_MAX => return Err(failure),
                Err(OpenFailure::Disk(error)) if error.kind != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                Ok(None) if tries >= TRIES_MAX => {
                    return Err(OpenFailure::Missing { directory: directory.to_path_buf() });
                }
                // A file went a moment ago.
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn try_open(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, OpenFailure> {
        let names = Names::list(disk, directory)?;
        let segments = names.segments.iter().map(|first| segment_path(directory, *first));
        let checkpoints = names.checkpoints.iter().map(|index| checkpoint_path(directory, *index));
        let last = segments.clone().next_back();
        let mut files = Vec::new();
        let mut bytes = 0;
        for path in checkpoints.chain(segments) {
            let file = open(disk, &path, Access::Read)?;
            let held = file.hold().map_err(|error| DiskError::new(DiskAction::Open, &path, &error))?;
            if !held {
                // It is about to go.
                return Ok(None);
            }
            bytes += file.len().map_err(|error| DiskError::new(DiskAction::Read, &path, &error))?;
            files.push((path, file));
        }
        let after = Names::list(disk, directory)?;
        let is_same = names.segments == after.segments && names.checkpoints == after.checkpoints;
        Ok((is_same && last.is_some()).then_some(Self { files, last, bytes }))
    }

    /// How much there is to copy, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies all of it into `to`, which is made, durably. `tell` hears how many bytes more were copied.
    ///
    /// # Errors
    /// The disk's; [`OpenFailure::Damaged`] if the last segment is.
    pub fn write(self, disk: &dyn Disk, to: &Path, tell: &mut dyn FnMut(u64)) -> Result<(), OpenFailure> {
        disk.create_directory(to).map_err(|error| DiskError::new(DiskAction::Create, to, &error))?;
        for (path, file) in &self.files {
            let copy = to.join(path.file_name().unwrap_or_default());
            let failed = |action| {
                let copy = &copy;
                move |error: std::io::Error| DiskError::new(action, copy, &error)
            };
            let written = disk.create(&copy).map_err(failed(DiskAction::Create))?;
            let mut offset = 0;
            loop {
                let mut piece = vec![0; PIECE_BYTES as usize];
                let bytes = file
                    .read_at(&mut piece, offset)
                    .map_err(|error| DiskError::new(DiskAction::Read, path, &error))?;
                if bytes == 0 {
                    break;
                }
                write_all_at(&*written, &mut [IoSlice::new(&piece[..bytes])], offset, 0)
                    .map_err(failed(DiskAction::Write))?;
                offset += bytes as u64;
                tell(bytes as u64);
            }
            if self.last.as_ref() == Some(path) {
                let end = end_of(&copy, &written, path, file)?;
                written.set_len(end).map_err(failed(DiskAction::Truncate))?;
            }
            written.sync_data().map_err(failed(DiskAction::Sync))?;
        }
        Ok(disk.sync_directory(to).map_err(|error| DiskError::new(DiskAction::Sync, to, &error))?)
    }
}

/// Where the whole frames of a copy end. What is behind them was being written; what is whole in the original by now was.
fn end_of(
    copy: &Path,
    written: &Arc<dyn DiskFile>,
    path: &Path,
    original: &Arc<dyn DiskFile>,
) -> Result<u64, OpenFailure> {
    let mut scan = Scan::new(Arc::clone(written), copy)?;
    let damaged = |offset, index, why| OpenFailure::Damaged { file: path.to_path_buf(), offset, index, why };
    let header = scan.segment_header()?;
    let header = header.map_err(|fault| damaged(0, super::LogIndex(0), Damage::Segment(fault)))?;
    let mut chain = Chain::at(&header);
    let mut end = SEGMENT_HEADER_BYTES as u64;
    loop {
        match scan.frame(end, &chain)? {
            Found::Frame { header, crc } => {
                chain.advance(&header, crc);
                end += header.frame_bytes();
            }
            Found::End => return Ok(end),
            Found::Bad(_) => break,
        }
    }
    // The copy may have met it half written. Then it is whole in the original, or is being written.
    let mut scan = Scan::new(Arc::clone(original), path)?;
    match scan.frame(end, &chain)? {
        Found::Bad(fault) if scan.aftermath(end + 1, chain.salt)?.durable_end > chain.next_index => {
            Err(damaged(end, chain.next_index, Damage::Frame(fault)))
        }
        _ => Ok(end),
    }
}
