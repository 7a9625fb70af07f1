//! Room on the disk that a log keeps for the moment when there is no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, Disk, DiskAction, DiskError};

/// Name of the file that takes the room.
pub(super) const RESERVE_FILE: &str = "reserve";

/// A file of a log's directory that holds nothing. When the disk is full it is removed, and what must be written then
/// has its room: settlements above all, without which nothing would ever leave the disk.
pub(super) struct Reserve {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// The reserve of the log in `directory`; 0 bytes are none. If it is not there it is made, unless there is no room.
    ///
    /// # Errors
    /// If the file that is there cannot be looked at.
    pub(super) fn open(disk: &Arc<dyn Disk>, directory: &Path, bytes: u64) -> Result<Self, DiskError> {
        let path = directory.join(RESERVE_FILE);
        let held = match disk.open(&path, Access::Read) {
            Ok(file) => {
                let len = file.len().map_err(|error| DiskError::new(DiskAction::Read, &path, &error))?;
                if len != bytes {
                    // Of another size, or the machine stopped while it was made.
                    disk.remove(&path).map_err(|error| DiskError::new(DiskAction::Remove, &path, &error))?;
                }
                len == bytes
            }
            Err(_) => false,
        };
        let mut reserve = Self {
            disk: Arc::clone(disk),
            directory: directory.to_path_buf(),
            bytes,
            held: held || bytes == 0,
        };
        reserve.renew();
        Ok(reserve)
    }

    /// Whether the room is there.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Gives the room away; `false` if it was given away already, or cannot be.
    pub(super) fn release(&mut self) -> bool {
        if !self.held || self.bytes == 0 {
            return false;
        }
        self.held = false;
        self.disk.remove(&self.directory.join(RESERVE_FILE)).is_ok()
    }

    /// Takes the room again if as much is left besides.
    pub(super) fn renew(&mut self) {
        if !self.held && self.disk.room(&self.directory).is_ok_and(|room| room.free_bytes >= 2 * self.bytes) {
            let path = self.directory.join(RESERVE_FILE);
            self.held = self.disk.create(&path).and_then(|file| file.allocate(self.bytes)).is_ok();
            if !self.held {
                // There is not as much room as the disk said, or no way to take it: tried again later.
                let _ = self.disk.remove(&path);
            }
        }
    }
}
