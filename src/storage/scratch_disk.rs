//! A disk that shows what another one holds, and keeps to itself what is written to it.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Access, DirectoryEntry, Disk, DiskFile, DiskRoom, LockAttempt};

/// Unit in which changes are kept, in bytes.
const BLOCK_BYTES: u64 = 4096;

/// What is done to it happens in memory alone, and goes with it: so that a log can be opened, or mended, for a look at what
/// comes of that, and not a byte of it is changed. Blocks that are written stay in memory.
///
/// Locks are taken without asking anybody: whoever needs the directory for himself locks it on the disk below.
pub struct ScratchDisk {
    below: Arc<dyn Disk>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What has become of names: another file, or `None` for those that are gone.
    names: BTreeMap<PathBuf, Option<Arc<ScratchFile>>>,
    directories: Vec<PathBuf>,
}

impl ScratchDisk {
    /// One that shows what `below` holds.
    pub fn over(below: Arc<dyn Disk>) -> Self {
        Self { below, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a name, which from now on is this disk's own.
    fn file(&self, path: &Path) -> io::Result<Arc<ScratchFile>> {
        let mut state = self.state();
        match state.names.get(path) {
            Some(Some(file)) => return Ok(Arc::clone(file)),
            Some(None) => return Err(io::ErrorKind::NotFound.into()),
            None => {}
        }
        let below = self.below.open(path, Access::Read)?;
        let content = Content { bytes: below.len()?, below_bytes: below.len()?, blocks: BTreeMap::new() };
        let file = Arc::new(ScratchFile { below: Some(below), content: Mutex::new(content) });
        state.names.insert(path.to_path_buf(), Some(Arc::clone(&file)));
        Ok(file)
    }
}

impl Disk for ScratchDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.state().directories.push(path.to_path_buf());
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let state = self.state();
        let below = match self.below.list(directory) {
            Err(_) if state.directories.iter().any(|made| made == directory) => Vec::new(),
            listed => listed?,
        };
        let mut entries: Vec<_> = below
            .into_iter()
            .filter(|entry| !state.names.contains_key(&directory.join(&entry.name)))
            .collect();
        let own =
            state.names.iter().filter(|(path, file)| file.is_some() && path.parent() == Some(directory));
        entries.extend(own.filter_map(|(path, _)| {
            Some(DirectoryEntry { name: path.file_name()?.to_owned(), is_file: true })
        }));
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.file(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(ScratchFile { below: None, content: Mutex::default() });
        self.state().names.insert(path.to_path_buf(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file: Arc<dyn DiskFile> = self.file(path)?;
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        let mut state = self.state();
        state.names.insert(from.to_path_buf(), None);
        state.names.insert(to.to_path_buf(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.state().names.insert(path.to_path_buf(), None);
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path, _owner: &str) -> io::Result<LockAttempt> {
        Ok(LockAttempt::Taken(Box::new(())))
    }

    fn lock_as_it_is(&self, _path: &Path) -> io::Result<LockAttempt> {
        Ok(LockAttempt::Taken(Box::new(())))
    }

    fn salt(&self) -> io::Result<u64> {
        self.below.salt()
    }

    fn room(&self, directory: &Path) -> io::Result<DiskRoom> {
        self.below.room(directory)
    }
}

struct ScratchFile {
    below: Option<Arc<dyn DiskFile>>,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    bytes: u64,
    /// So many bytes of the file below show through, where there is no block.
    below_bytes: u64,
    /// Blocks that were written to, by number.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl ScratchFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as it would be read.
    fn block(&self, content: &Content, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(block) = content.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK_BYTES as usize].into_boxed_slice();
        let start = number * BLOCK_BYTES;
        let shown = content.below_bytes.saturating_sub(start).min(BLOCK_BYTES) as usize;
        if let Some(below) = &self.below {
            read_up_to(&**below, &mut block[..shown], start)?;
        }
        Ok(block)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_up_to(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    Ok(())
}

impl DiskFile for ScratchFile {
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut content = self.content();
        let mut at = offset;
        for mut piece in pieces.iter().map(|piece| &piece[..]) {
            while !piece.is_empty() {
                let (number, within) = (at / BLOCK_BYTES, (at % BLOCK_BYTES) as usize);
                let taken = piece.len().min(BLOCK_BYTES as usize - within);
                let mut block = self.block(&content, number)?;
                block[within..within + taken].copy_from_slice(&piece[..taken]);
                content.blocks.insert(number, block);
                piece = &piece[taken..];
                at += taken as u64;
            }
        }
        content.bytes = content.bytes.max(at);
        Ok((at - offset) as usize)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content();
        let wanted = content.bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let end = offset + wanted as u64;
        if let Some(below) = &self.below
            && end <= content.below_bytes
            && content.blocks.range(offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).next().is_none()
        {
            return below.read_at(&mut buffer[..wanted], offset);
        }
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let within = (at % BLOCK_BYTES) as usize;
            let taken = (wanted - done).min(BLOCK_BYTES as usize - within);
            let block = self.block(&content, at / BLOCK_BYTES)?;
            buffer[done..done + taken].copy_from_slice(&block[within..within + taken]);
            done += taken;
        }
        Ok(done)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn hold(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn take_alone(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut content = self.content();
        if bytes < content.bytes {
            // What is cut off does not come back when the file grows again.
            let number = bytes / BLOCK_BYTES;
            let mut block = self.block(&content, number)?;
            block[(bytes % BLOCK_BYTES) as usize..].fill(0);
            content.blocks.split_off(&number);
            content.blocks.insert(number, block);
            content.below_bytes = content.below_bytes.min(bytes);
        }
        content.bytes = bytes;
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut content = self.content();
        content.bytes = content.bytes.max(bytes);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content().bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::storage::{disk::read_exact_at, testing::MemoryDisk};

    fn content(disk: &dyn Disk, path: &Path) -> Vec<u8> {
        let file = disk.open(path, Access::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_exact_at(&*file, &mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_stays_above_and_what_is_below_shows_through() {
        let below = MemoryDisk::new();
        let path = Path::new("/data/file");
        below.create_directory(Path::new("/data")).unwrap();
        below.put(path, &[7; 10_000]).unwrap();
        let changes = below.changes();
        let scratch = ScratchDisk::over(Arc::new(below.clone()));
        let file = scratch.open(path, Access::ReadWrite).unwrap();
        file.write_vectored_at(&[IoSlice::new(&[1; 3]), IoSlice::new(&[2; 5000])], 4000).unwrap();
        let mut expected = vec![7; 10_000];
        expected[4000..4003].fill(1);
        expected[4003..9003].fill(2);
        assert_eq!(content(&scratch, path), expected);
        file.set_len(5000).unwrap();
        file.set_len(6000).unwrap();
        expected.truncate(5000);
        expected.resize(6000, 0);
        assert_eq!(content(&scratch, path), expected);

        let renamed = Path::new("/data/renamed");
        scratch.rename(path, renamed).unwrap();
        assert_eq!(content(&scratch, renamed), expected);
        assert!(scratch.open(path, Access::Read).is_err());
        scratch.create(&Path::new("/data").join("new")).unwrap();
        scratch.remove(renamed).unwrap();
        let names: Vec<_> =
            scratch.list(Path::new("/data")).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["new"]);
        assert_eq!((below.content(path).unwrap(), below.changes()), (vec![7; 10_000], changes));
    }
}
