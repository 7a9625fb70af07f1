//! The disk as the log sees it: a few calls, so that tests can run on one that crashes and lies.
//!
//! The only file of this module that touches the real file system, its locks and its randomness.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read as _, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

/// Directories and names. All calls may block; any thread may make them.
pub trait Disk: Send + Sync {
    /// Creates a directory and its missing parents; they are durable when this returns. Succeeds if it exists.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, in no particular order.
    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>>;

    /// Creates a file for reading and writing; refuses if the name is taken. The name is durable only after
    /// [`sync_directory`](Self::sync_directory).
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file within its directory, replacing what had the new name; durable only after
    /// [`sync_directory`](Self::sync_directory).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; durable only after [`sync_directory`](Self::sync_directory).
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock that the file `path` stands for, creating the file if needed, and writes `owner` into it.
    fn lock(&self, path: &Path, owner: &str) -> io::Result<LockAttempt>;

    /// As [`lock`](Self::lock), and changes no byte: a file that is not there is not made, and then there is nothing to
    /// take; what is in it stays.
    fn lock_as_it_is(&self, path: &Path) -> io::Result<LockAttempt>;

    /// A number that nobody can guess and that is not used twice.
    fn salt(&self) -> io::Result<u64>;

    /// How much room there is where a directory is.
    fn room(&self, directory: &Path) -> io::Result<DiskRoom>;
}

impl std::fmt::Debug for dyn Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

/// Room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Bytes that the disk has, used or not.
    pub total_bytes: u64,
}

/// One open file. All calls may block; any thread may make them.
pub trait DiskFile: Send + Sync {
    /// Writes `pieces` one after the other at `offset` and returns how many bytes were written, which may be fewer
    /// than there are. At most [`PIECES_MAX`] pieces a call.
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Reads at `offset` and returns how many bytes were read: 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes all content and the length durable. After an error nothing is known about what is.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Extends the file to so many bytes, zeros, and takes the room for them. After an error it may have any length.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Keeps the file from being [taken](Self::take_alone) by others until this handle goes; `false` if one has.
    fn hold(&self) -> io::Result<bool>;

    /// Whether nobody, of whatever process, [holds](Self::hold) the file by another handle; then nobody can until this
    /// handle goes.
    fn take_alone(&self) -> io::Result<bool>;

    /// Length of the file in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no content.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Most pieces that one gathered write takes (`IOV_MAX` on Linux and the BSDs).
pub const PIECES_MAX: usize = 1024;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// The name, without the directory.
    pub name: OsString,
    /// Whether it is a plain file.
    pub is_file: bool,
}

/// What came of trying to take a lock.
pub enum LockAttempt {
    /// It is taken until this is dropped.
    Taken(Box<dyn Send + Sync>),
    /// Somebody else has it: what they wrote as `owner`.
    HeldBy(String),
}

/// Writes all of `pieces` except the last `optional_bytes`, which are written only as far as the disk takes them on
/// the way. Returns how many bytes were written.
pub(crate) fn write_all_at(
    file: &dyn DiskFile,
    mut pieces: &mut [IoSlice<'_>],
    offset: u64,
    optional_bytes: u64,
) -> io::Result<u64> {
    let total: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    let needed = total.saturating_sub(optional_bytes);
    let mut written = 0;
    while written < needed {
        let count = pieces.len().min(PIECES_MAX);
        let bytes = file.write_vectored_at(&pieces[..count], offset + written)?;
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut pieces, bytes);
        written += bytes as u64;
    }
    Ok(written)
}

/// Fills `buffer` from `offset`; an end of file before that is an error.
pub(crate) fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let bytes = file.read_at(buffer, offset)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[bytes..];
        offset += bytes as u64;
    }
    Ok(())
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if path.is_dir() {
            // Whoever created it may have ended before the sync below. Its own parents were durable before.
            return match self.sync_directory(parent) {
                Err(error) if not_ours_to_sync(error.kind()) => Ok(()),
                other => other,
            };
        }
        self.create_directory(parent)?;
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !path.is_dir() {
                    // A file in its place; that it exists would say nothing.
                    return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOTDIR.raw_os_error()));
                }
            }
            other => other?,
        }
        self.sync_directory(parent)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        std::fs::read_dir(directory)?
            .map(|entry| {
                let entry = entry?;
                Ok(DirectoryEntry { name: entry.file_name(), is_file: entry.file_type()?.is_file() })
            })
            .collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<LockAttempt> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        if let Some(holder) = holder_unless_taken(&file)? {
            return Ok(LockAttempt::HeldBy(holder));
        }
        // Over the old name and cut afterwards: that needs no new block, so a full disk does not keep us from starting.
        file.write_all(owner.as_bytes())?;
        file.set_len(owner.len() as u64)?;
        Ok(LockAttempt::Taken(Box::new(file)))
    }

    fn lock_as_it_is(&self, path: &Path) -> io::Result<LockAttempt> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(LockAttempt::Taken(Box::new(())));
            }
            Err(error) => return Err(error),
        };
        match holder_unless_taken(&file)? {
            Some(holder) => Ok(LockAttempt::HeldBy(holder)),
            None => Ok(LockAttempt::Taken(Box::new(file))),
        }
    }

    fn salt(&self) -> io::Result<u64> {
        getrandom::u64().map_err(io::Error::other)
    }

    fn room(&self, directory: &Path) -> io::Result<DiskRoom> {
        let disk = rustix::fs::statvfs(directory)?;
        Ok(DiskRoom {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

/// Whether a directory's names cannot be synced because it is somebody else's: where this process may not open or
/// sync a directory it did not create anything either, or that creation would have failed.
fn not_ours_to_sync(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(kind, PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported)
}

/// Logs hold what users sent: nobody but the owner and its group may read them.
const FILE_MODE: u32 = 0o640;

/// A holder's name is short; whatever else the file holds is not worth showing.
const LOCK_OWNER_BYTES_MAX: u64 = 256;

/// Takes the lock on an open file, or says who has it.
fn holder_unless_taken(file: &File) -> io::Result<Option<String>> {
    if lock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)? {
        return Ok(None);
    }
    let mut holder = Vec::new();
    file.take(LOCK_OWNER_BYTES_MAX).read_to_end(&mut holder)?;
    Ok(Some(String::from_utf8_lossy(&holder).trim().to_owned()))
}

/// Whether a lock on an open file could be had.
fn lock(file: &File, operation: rustix::fs::FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
    Ok(())
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::pwritev(&self.0, pieces, offset))?)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        // `fdatasync` on Linux, `F_FULLFSYNC` on Apple systems, where a plain fsync leaves data in the drive's cache.
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            // Some file systems only take room for what is written.
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&self.0, bytes),
            other => Ok(other?),
        }
    }

    fn hold(&self) -> io::Result<bool> {
        lock(&self.0, rustix::fs::FlockOperation::NonBlockingLockShared)
    }

    fn take_alone(&self) -> io::Result<bool> {
        lock(&self.0, rustix::fs::FlockOperation::NonBlockingLockExclusive)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn more_pieces_than_one_call_takes_are_all_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&folder.path().join("file")).unwrap();
        let words: Vec<String> = (0..3 * PIECES_MAX).map(|number| format!("{number},")).collect();
        let mut pieces: Vec<IoSlice<'_>> = words.iter().map(|word| IoSlice::new(word.as_bytes())).collect();
        let written = write_all_at(&*file, &mut pieces, 5, 0).unwrap();

        let expected = words.concat();
        assert_eq!(written, expected.len() as u64);
        assert_eq!(file.len().unwrap(), 5 + written);
        let mut back = vec![0; expected.len()];
        read_exact_at(&*file, &mut back, 5).unwrap();
        assert_eq!(back, expected.as_bytes());
        let past_end = read_exact_at(&*file, &mut back, 6).unwrap_err();
        assert_eq!(past_end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn room_that_is_taken_is_gone_before_it_is_written_to() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = RealDisk.create(&path).unwrap();
        file.allocate(1024 * 1024).unwrap();
        assert_eq!(file.len().unwrap(), 1024 * 1024);
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 1024 * 1024);
        let room = RealDisk.room(folder.path()).unwrap();
        assert!(room.free_bytes > 0 && room.free_bytes < room.total_bytes, "{room:?}");
    }

    #[test]
    fn directories_are_created_with_their_parents_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        RealDisk.create_directory(&deep).unwrap();
        RealDisk.create_directory(&deep).unwrap();
        RealDisk.create(&deep.join("file")).unwrap();
        RealDisk.create_directory(&deep.join("folder")).unwrap();
        let mut entries = RealDisk.list(&deep).unwrap();
        entries.sort();
        assert_eq!(
            entries,
            [
                DirectoryEntry { name: "file".into(), is_file: true },
                DirectoryEntry { name: "folder".into(), is_file: false }
            ]
        );
        let taken = RealDisk.create(&deep.join("file")).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_lock_names_its_holder_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOCK");
        let LockAttempt::Taken(held) = RealDisk.lock(&path, "the first").unwrap() else {
            panic!("a fresh lock is free")
        };
        match RealDisk.lock(&path, "the second").unwrap() {
            LockAttempt::HeldBy(holder) => assert_eq!(holder, "the first"),
            LockAttempt::Taken(_) => panic!("a lock has one holder"),
        }
        drop(held);
        assert!(matches!(RealDisk.lock(&path, "third").unwrap(), LockAttempt::Taken(_)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third", "nothing of a longer name is left");
    }
}
