//! The folder that holds all of a broker's data, and the mark that says so.

use std::{
    error::Error,
    fmt,
    io::IoSlice,
    path::{Path, PathBuf},
};

use super::{
    Access, DirectoryLock, Disk, DiskAction, DiskError, KnownLog, LockRefused, LogIndex, RealDisk,
    disk::{read_exact_at, write_all_at},
    lock::LOCK_FILE,
};

/// The version of the folder's layout that this program writes and reads.
const FORMAT_VERSION: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_FILE_UNFINISHED: &str = "FORMAT.new";
const FORMAT_FIRST_LINE: &str = "leveret data directory";
/// Far more than a format file ever needs.
const FORMAT_FILE_BYTES_MAX: u64 = 4096;

/// A broker's data folder, locked for this process until this is dropped.
///
/// Its file `FORMAT` holds the lines `leveret data directory` and `format 1`, and a third one since there is a catalog:
/// `catalog 0123456789abcdef 17`, the id of its log and the index behind the last entry that was durable when the broker
/// last stopped. It is written first and durably, so a folder without it holds nothing of ours.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    catalog: Option<KnownLog>,
    _lock: DirectoryLock,
}

impl DataDirectory {
    /// Opens the folder, or makes one of an empty or missing folder.
    ///
    /// # Errors
    /// See [`DataDirectoryFailure`]; a folder that is refused is left as it was, but for the lock's file.
    pub fn open(path: &Path) -> Result<Self, DataDirectoryFailure> {
        Self::open_on(&RealDisk, path)
    }

    /// As [`open`](Self::open), on any disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(disk: &dyn Disk, path: &Path) -> Result<Self, DataDirectoryFailure> {
        disk.create_directory(path).map_err(|error| DiskError::new(DiskAction::Create, path, &error))?;
        // Before the lock, so that a folder of somebody else is left without even that.
        let marked = is_marked(disk, path)?;
        let lock = DirectoryLock::acquire_on(disk, path).map_err(DataDirectoryFailure::Locked)?;
        // Whoever had the lock a moment ago may have written the mark since.
        let catalog = if marked || is_marked(disk, path)? {
            read_mark(disk, path)?
        } else {
            write_mark(disk, path, None)?;
            None
        };
        Ok(Self { path: path.to_path_buf(), catalog, _lock: lock })
    }

    /// What a data directory notes about the catalog's log, without locking the directory or making one; nothing is changed.
    ///
    /// # Errors
    /// [`DataDirectoryFailure::Unmarked`] if it is none; else as [`open`](Self::open).
    pub fn look(disk: &dyn Disk, path: &Path) -> Result<Option<KnownLog>, DataDirectoryFailure> {
        let entries = disk.list(path).map_err(|error| DiskError::new(DiskAction::List, path, &error))?;
        if !entries.iter().any(|entry| entry.name == FORMAT_FILE) {
            return Err(DataDirectoryFailure::Unmarked { path: path.to_path_buf() });
        }
        read_mark(disk, path)
    }

    /// Makes a data directory of a folder that holds the logs of one already, with what is known of the catalog's.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark(disk: &dyn Disk, path: &Path, catalog: Option<KnownLog>) -> Result<(), DataDirectoryFailure> {
        Ok(write_mark(disk, path, catalog)?)
    }

    /// What was noted about the catalog's log; `None` if there never was one, or only under a version that did not note it.
    pub fn catalog(&self) -> Option<KnownLog> {
        self.catalog
    }

    /// Notes which log the catalog has, and how far it is durable.
    ///
    /// # Errors
    /// The disk's; then what was noted before holds.
    pub fn note_catalog(&self, disk: &dyn Disk, catalog: KnownLog) -> Result<(), DiskError> {
        write_mark(disk, &self.path, Some(catalog))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it holds the folder of a log whose name begins so.
    ///
    /// # Errors
    /// The disk's.
    pub fn has_log(&self, disk: &dyn Disk, prefix: &str) -> Result<bool, DiskError> {
        let entries = disk.list(&self.path);
        let entries = entries.map_err(|error| DiskError::new(DiskAction::List, &self.path, &error))?;
        Ok(entries.iter().any(|entry| entry.name.to_string_lossy().starts_with(prefix)))
    }

    /// The folder of the log called `name`, which must be a plain file name; the log creates it.
    pub fn log_directory(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Whether the folder has our mark; refuses if it has something else instead.
fn is_marked(disk: &dyn Disk, path: &Path) -> Result<bool, DataDirectoryFailure> {
    let entries = disk.list(path).map_err(|error| DiskError::new(DiskAction::List, path, &error))?;
    if entries.iter().any(|entry| entry.name == FORMAT_FILE) {
        return Ok(true);
    }
    // A file system of its own has a folder for what its repair finds.
    let ours = [LOCK_FILE, FORMAT_FILE_UNFINISHED, "lost+found"];
    let foreign = entries.iter().find(|entry| !ours.iter().any(|name| entry.name == *name));
    match foreign {
        Some(entry) => Err(DataDirectoryFailure::Foreign { path: path.join(&entry.name) }),
        None => Ok(false),
    }
}

fn read_mark(disk: &dyn Disk, directory: &Path) -> Result<Option<KnownLog>, DataDirectoryFailure> {
    let path = directory.join(FORMAT_FILE);
    let read = || {
        let file = disk.open(&path, Access::Read)?;
        let mut bytes = vec![0; file.len()?.min(FORMAT_FILE_BYTES_MAX) as usize];
        read_exact_at(&*file, &mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| DiskError::new(DiskAction::Read, &path, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let version = match (lines.next(), lines.next()) {
        (Some(FORMAT_FIRST_LINE), Some(line)) => {
            line.strip_prefix("format ").and_then(|word| word.parse().ok())
        }
        _ => None,
    };
    match version {
        Some(FORMAT_VERSION) => match lines.next() {
            None => Ok(None),
            Some(line) => catalog_of(line).map(Some).ok_or(DataDirectoryFailure::Unreadable { path }),
        },
        Some(found) => Err(DataDirectoryFailure::OtherFormat {
            path: directory.to_path_buf(),
            found,
            known: FORMAT_VERSION,
        }),
        None => Err(DataDirectoryFailure::Unreadable { path }),
    }
}

fn catalog_of(line: &str) -> Option<KnownLog> {
    let (id, end) = line.strip_prefix("catalog ")?.split_once(' ')?;
    Some(KnownLog { id: u64::from_str_radix(id, 16).ok()?, end: LogIndex(end.parse().ok()?) })
}

/// Writes the mark so that it is there whole or not at all.
fn write_mark(disk: &dyn Disk, directory: &Path, catalog: Option<KnownLog>) -> Result<(), DiskError> {
    let unfinished = directory.join(FORMAT_FILE_UNFINISHED);
    let failed = |action| {
        let unfinished = &unfinished;
        move |error: std::io::Error| DiskError::new(action, unfinished, &error)
    };
    let left_over = disk.list(directory).map_err(failed(DiskAction::List))?;
    if left_over.iter().any(|entry| entry.name == FORMAT_FILE_UNFINISHED) {
        disk.remove(&unfinished).map_err(failed(DiskAction::Remove))?;
    }
    let mut text = format!("{FORMAT_FIRST_LINE}\nformat {FORMAT_VERSION}\n");
    if let Some(KnownLog { id, end }) = catalog {
        text += &format!("catalog {id:016x} {end}\n");
    }
    let file = disk.create(&unfinished).map_err(failed(DiskAction::Create))?;
    write_all_at(&*file, &mut [IoSlice::new(text.as_bytes())], 0, 0).map_err(failed(DiskAction::Write))?;
    file.sync_data().map_err(failed(DiskAction::Sync))?;
    disk.rename(&unfinished, &directory.join(FORMAT_FILE)).map_err(failed(DiskAction::Rename))?;
    disk.sync_directory(directory).map_err(failed(DiskAction::Sync))
}

/// Why a folder cannot hold a broker's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDirectoryFailure {
    /// A broker is running on it.
    Locked(LockRefused),
    /// It holds something else.
    Foreign {
        /// A file or folder in it that is not ours.
        path: PathBuf,
    },
    /// It is no data directory.
    Unmarked {
        /// The folder.
        path: PathBuf,
    },
    /// It was written in another format.
    OtherFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format this program knows.
        known: u32,
    },
    /// The file that names the format does not.
    Unreadable {
        /// That file.
        path: PathBuf,
    },
    /// A disk call failed.
    Disk(DiskError),
}

impl From<DiskError> for DataDirectoryFailure {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for DataDirectoryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(refused) => refused.fmt(f),
            Self::Foreign { path } => write!(
                f,
                "the folder is not a data directory of leveret, and not empty: it holds {}. Choose an empty folder",
                path.display()
            ),
            Self::Unmarked { path } => {
                write!(
                    f,
                    "{} is not a data directory of leveret: it has no file {FORMAT_FILE}",
                    path.display()
                )
            }
            Self::OtherFormat { path, found, known } if found > known => write!(
                f,
                "{} has data format {found}, and this version of leveret knows {known}: it was written by a newer \
                 version. Start that version, or a newer one",
                path.display()
            ),
            Self::OtherFormat { path, found, known } => write!(
                f,
                "{} has data format {found}, and this version of leveret knows {known}: it was written by an older \
                 version, and this one cannot convert it. Start a version in between first",
                path.display()
            ),
            Self::Unreadable { path } => write!(
                f,
                "{} should say `{FORMAT_FIRST_LINE}` and, on the second line, the format, and does not. Restore it \
                 from a backup; if nothing else in the folder is damaged, it may read `{FORMAT_FIRST_LINE}`, \
                 `format {FORMAT_VERSION}`, and no more",
                path.display()
            ),
            Self::Disk(error) => write!(f, "the data directory cannot be used: {error}"),
        }
    }
}

impl Error for DataDirectoryFailure {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn message(path: &Path) -> String {
        DataDirectory::open(path).unwrap_err().to_string()
    }

    #[test]
    fn a_new_folder_is_marked_and_opens_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/data");
        let data = DataDirectory::open(&path).unwrap();
        assert_eq!(data.log_directory("shard-0"), path.join("shard-0"));
        assert_eq!(
            std::fs::read_to_string(path.join("FORMAT")).unwrap(),
            "leveret data directory\nformat 1\n"
        );
        drop(data);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn what_is_noted_about_the_catalog_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(folder.path()).unwrap();
        assert_eq!(data.catalog(), None);
        let known = KnownLog { id: 0x12, end: LogIndex(7) };
        data.note_catalog(&RealDisk, known).unwrap();
        drop(data);
        assert_eq!(DataDirectory::open(folder.path()).unwrap().catalog(), Some(known));
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _data = DataDirectory::open(folder.path()).unwrap();
        assert!(message(folder.path()).contains("in use by pid"));
    }

    #[test]
    fn a_creation_that_was_interrupted_is_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("FORMAT.new"), "lev").unwrap();
        DataDirectory::open(folder.path()).unwrap();
        assert!(!folder.path().join("FORMAT.new").exists());
    }

    #[test]
    fn a_file_system_of_its_own_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lost+found")).unwrap();
        DataDirectory::open(folder.path()).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let refusal = message(folder.path());
        assert!(refusal.contains("thesis.tex") && refusal.contains("empty folder"), "{refusal}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "not even a lock is left");
    }

    #[test]
    fn other_formats_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let check = |content: &[u8], expected: &str| {
            std::fs::write(folder.path().join("FORMAT"), content).unwrap();
            let refusal = message(folder.path());
            assert!(refusal.contains(expected), "{refusal}");
        };
        check(b"leveret data directory\nformat 2\n", "newer version");
        check(b"leveret data directory\nformat 0\n", "older version");
        check(b"leveret data directory\n", "Restore it");
        check(b"leveret data directory\nformat 1 or so\n", "Restore it");
        check(b"leveret data directory\nformat 1\ncatalog 12\n", "Restore it");
        check(b"", "Restore it");
        check(&[0xff; 10_000], "Restore it");
    }
}
