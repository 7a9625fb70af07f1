//! A disk in memory that loses power, fails, fills up and writes less than asked, all on command.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Fault, Seeded,
    memory_file::MemoryFile,
    memory_holds::Holds,
    memory_names::{NameChange, Names},
};
use crate::storage::{Access, DirectoryEntry, Disk, DiskFile, DiskRoom, LockAttempt};

/// A disk in memory. Clones share it.
///
/// It keeps what the operating system would show apart from what the platter holds, and counts every call that could
/// change the platter, so that a test can cut the power at each of them in turn: [`cut_power_at`](Self::cut_power_at),
/// run until everything fails, then [`restore_power`](Self::restore_power) and open again. Directories themselves are
/// durable at once; the names in them are durable when their directory is synced.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when syncs are let through.
    syncs_released: Condvar,
}

#[derive(Default)]
struct State {
    files: Vec<MemoryFile>,
    directories: BTreeMap<PathBuf, Names>,
    locks: BTreeMap<PathBuf, String>,
    holds: Holds,
    /// Handles and locks of an earlier power-on period are dead.
    period: u64,
    powered_off: bool,
    changes: u64,
    cut_power_at: Option<u64>,
    fail_at: BTreeMap<u64, Fault>,
    /// Reads that fail from now on.
    failing_reads: u64,
    capacity_bytes: Option<usize>,
    short_writes: Option<Seeded>,
    syncs_held: bool,
    syncs: u64,
    writes: u64,
    salts: u64,
}

/// What becomes of un-synced writes and names when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// Everything had been written anyway.
    KeepsAll,
    /// Nothing had.
    LosesAll,
    /// The seed decides for each sector whether it was kept, lost or torn, and for each name whether it was kept.
    Tears,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another disk with the same content, stored and shown, and without this one's troubles and locks.
    pub fn copy(&self) -> Self {
        let from = self.state();
        let state = State {
            files: from.files.clone(),
            directories: from.directories.clone(),
            salts: from.salts,
            ..State::default()
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), syncs_released: Condvar::new() }) }
    }

    /// How many calls could have changed the platter so far: writes, syncs, creations, renames, removals, cuts.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// How many file syncs were done.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// How many gathered writes were done.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Cuts the power during change number `change`, counted from 0: a write has reached the cache then, but not
    /// the platter for certain. It and every call after it fail.
    pub fn cut_power_at(&self, change: u64) {
        self.state().cut_power_at = Some(change);
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.state().powered_off = true;
    }

    /// Whether the power is off.
    pub fn is_powered_off(&self) -> bool {
        self.state().powered_off
    }

    /// Switches the power off and on: un-synced writes and names go the way of `loss`, files and locks from before
    /// are dead, faults that were ordered are forgotten. A full disk stays full.
    pub fn restore_power(&self, loss: PowerLoss, seed: u64) {
        let mut state = self.state();
        let mut random = Seeded::new(seed);
        state.files.iter_mut().for_each(|file| file.lose_power(loss, &mut random));
        state.directories.values_mut().for_each(|names| names.lose_power(loss, &mut random));
        state.forget_nameless();
        state.locks.clear();
        state.holds.clear();
        state.period += 1;
        state.powered_off = false;
        state.cut_power_at = None;
        state.fail_at.clear();
        state.failing_reads = 0;
        state.syncs_held = false;
        self.shared.syncs_released.notify_all();
    }

    /// Ends a process without cutting the power: what it wrote stays visible and un-synced, its files and locks are
    /// dead.
    pub fn kill_process(&self) {
        let mut state = self.state();
        state.locks.clear();
        state.holds.clear();
        state.period += 1;
    }

    /// Forgets what was ordered and has not happened: faults, and that the power is to go.
    pub fn forget_orders(&self) {
        let mut state = self.state();
        state.cut_power_at = None;
        state.fail_at.clear();
        state.failing_reads = 0;
    }

    /// Lets the next so many reads of files fail.
    pub fn fail_reads(&self, calls: u64) {
        self.state().failing_reads = calls;
    }

    /// All files, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.state();
        let files = state.directories.iter().flat_map(|(directory, names)| {
            names.shown.iter().map(|(name, file)| (directory.join(name), state.files[*file].cached.len()))
        });
        files.collect()
    }

    /// Lets change number `change`, counted from 0, fail.
    pub fn fail_at(&self, change: u64, fault: Fault) {
        self.state().fail_at.insert(change, fault);
    }

    /// Gives the disk room for so many bytes of file content, or any number.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity_bytes = bytes;
    }

    /// From now on each write writes only a part, which the seed decides.
    pub fn write_short(&self, seed: u64) {
        self.state().short_writes = Some(Seeded::new(seed));
    }

    /// Lets file syncs wait until [`release_syncs`](Self::release_syncs).
    pub fn hold_syncs(&self) {
        self.state().syncs_held = true;
    }

    /// Lets waiting syncs, and later ones, through.
    pub fn release_syncs(&self) {
        self.state().syncs_held = false;
        self.shared.syncs_released.notify_all();
    }

    /// The content of a file as readers see it.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let file = state.find(path)?;
        Ok(state.files[file].cached.clone())
    }

    /// Replaces a file's content durably, creating the file if needed, in a directory that exists.
    ///
    /// # Errors
    /// If the directory does not exist.
    pub fn put(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let file = MemoryFile::stored(content);
        state.files.push(file);
        let number = state.files.len() - 1;
        let (names, name) = state.names(path)?;
        names.shown.insert(name.clone(), number);
        names.stored.insert(name, number);
        Ok(())
    }

    /// Flips the bits of `mask` in the byte at `offset`, in the cache and on the platter.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn rot(&self, path: &Path, offset: usize, mask: u8) -> io::Result<()> {
        let mut state = self.state();
        let file = state.find(path)?;
        state.files[file].rot(offset, mask);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, state: &State, file: usize, access: Access) -> Arc<dyn DiskFile> {
        let holds = AtomicBool::new(false);
        Arc::new(MemoryHandle { disk: self.clone(), file, period: state.period, access, holds })
    }
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.powered_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a call that may change the platter. Tells whether it may succeed, and what to do if not.
    fn change(&mut self) -> io::Result<Outcome> {
        self.check_power()?;
        let number = self.changes;
        self.changes += 1;
        if self.cut_power_at == Some(number) {
            self.powered_off = true;
            return Ok(Outcome::PowerGoes);
        }
        if self.fail_at.get(&number) == Some(&Fault::OutOfFiles) {
            return Ok(Outcome::Done);
        }
        Ok(self.fail_at.remove(&number).map_or(Outcome::Done, Outcome::Fails))
    }

    /// Files without a name go, once nobody has them open any more.
    fn forget_nameless(&mut self) {
        let named: BTreeSet<usize> =
            self.directories.values().flat_map(|names| names.shown.values()).copied().collect();
        let nameless = self.files.iter_mut().enumerate().filter(|(number, _)| !named.contains(number));
        nameless.for_each(|(_, file)| file.forget());
    }

    /// A file is created, for which too many may be open.
    fn spend_files(&mut self) -> io::Result<()> {
        let changes = self.changes;
        let ordered = self.fail_at.range(..changes).find(|(_, fault)| **fault == Fault::OutOfFiles);
        match ordered.map(|(number, _)| *number) {
            Some(number) => {
                self.fail_at.remove(&number);
                Err(Fault::OutOfFiles.error())
            }
            None => Ok(()),
        }
    }

    fn names(&mut self, path: &Path) -> io::Result<(&mut Names, OsString)> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let names = self.directories.get_mut(directory).ok_or(io::ErrorKind::NotFound)?;
        Ok((names, name.to_owned()))
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let names = path.parent().and_then(|directory| self.directories.get(directory));
        let file = names.and_then(|names| names.shown.get(path.file_name().unwrap_or(OsStr::new(""))));
        file.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Bytes that may still be added.
    fn room(&self) -> usize {
        let used: usize = self
            .directories
            .values()
            .flat_map(|names| names.shown.values())
            .map(|file| self.files[*file].cached.len())
            .sum();
        self.capacity_bytes.map_or(usize::MAX, |capacity| capacity.saturating_sub(used))
    }
}

enum Outcome {
    Done,
    Fails(Fault),
    /// The call is under way when the power goes.
    PowerGoes,
}

impl Outcome {
    /// For calls that either happen or do not.
    fn all_or_nothing(self) -> io::Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Fails(fault) => Err(fault.error()),
            Self::PowerGoes => Err(io::Error::other("the power went off")),
        }
    }
}

impl Disk for MemoryDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        for directory in path.ancestors() {
            state.directories.entry(directory.to_path_buf()).or_default();
        }
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let state = self.state();
        state.check_power()?;
        let names = state.directories.get(directory).ok_or(io::ErrorKind::NotFound)?;
        let files = names.shown.keys().map(|name| DirectoryEntry { name: name.clone(), is_file: true });
        let below = state.directories.keys().filter(|path| path.parent() == Some(directory));
        let below = below.filter_map(|path| path.file_name());
        Ok(files.chain(below.map(|name| DirectoryEntry { name: name.to_owned(), is_file: false })).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.change()?.all_or_nothing()?;
        state.spend_files()?;
        let number = state.files.len();
        let (names, name) = state.names(path)?;
        if names.shown.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.shown.insert(name.clone(), number);
        names.unsynced.push(NameChange::Added(name, number));
        state.files.push(MemoryFile::default());
        Ok(self.handle(&state, number, Access::ReadWrite))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.check_power()?;
        let file = state.find(path)?;
        Ok(self.handle(&state, file, access))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        // A rename under way when the power goes may have happened: it is one of the un-synced changes.
        let outcome = state.change()?;
        if let Outcome::Fails(fault) = outcome {
            return Err(fault.error());
        }
        let file = state.find(from)?;
        let (names, from) = state.names(from)?;
        let to = to.file_name().unwrap_or_default().to_owned();
        Names::apply(&mut names.shown, NameChange::Renamed(from.clone(), to.clone(), file));
        names.unsynced.push(NameChange::Renamed(from, to, file));
        outcome.all_or_nothing()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let outcome = state.change()?;
        if let Outcome::Fails(fault) = outcome {
            return Err(fault.error());
        }
        state.find(path)?;
        let (names, name) = state.names(path)?;
        names.shown.remove(&name);
        names.unsynced.push(NameChange::Removed(name));
        outcome.all_or_nothing()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?.all_or_nothing()?;
        state.directories.get_mut(path).ok_or(io::ErrorKind::NotFound)?.sync();
        Ok(())
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<LockAttempt> {
        let mut state = self.state();
        state.check_power()?;
        state.names(path)?;
        if let Some(holder) = state.locks.get(path) {
            return Ok(LockAttempt::HeldBy(holder.trim().to_owned()));
        }
        state.locks.insert(path.to_path_buf(), owner.to_owned());
        let (disk, path, period) = (self.clone(), path.to_path_buf(), state.period);
        Ok(LockAttempt::Taken(Box::new(MemoryLock { disk, path, period })))
    }

    fn lock_as_it_is(&self, path: &Path) -> io::Result<LockAttempt> {
        self.lock(path, "a reader\n")
    }

    fn salt(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.check_power()?;
        state.salts += 1;
        Ok(Seeded::new(state.salts).number())
    }

    fn room(&self, _directory: &Path) -> io::Result<DiskRoom> {
        let state = self.state();
        state.check_power()?;
        let total_bytes = state.capacity_bytes.map_or(u64::MAX, |bytes| bytes as u64);
        Ok(DiskRoom { free_bytes: state.room() as u64, total_bytes })
    }
}

struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
    period: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.period == self.period {
            state.locks.remove(&self.path);
        }
    }
}

struct MemoryHandle {
    disk: MemoryDisk,
    file: usize,
    period: u64,
    access: Access,
    /// It is among those that hold the file.
    holds: AtomicBool,
}

impl Drop for MemoryHandle {
    fn drop(&mut self) {
        if !self.holds.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.disk.state();
        if state.period == self.period {
            state.holds.release(self.file);
        }
    }
}

impl MemoryHandle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.check_power()?;
        if state.period != self.period {
            return Err(io::Error::other("the file was opened before the last stop"));
        }
        Ok(state)
    }

    fn state_to_change(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.access != Access::ReadWrite {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.state()
    }
}

impl DiskFile for MemoryHandle {
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.state_to_change()?;
        let outcome = state.change()?;
        if let Outcome::Fails(fault) = outcome {
            return Err(fault.error());
        }
        state.writes += 1;
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        if let Some(random) = &mut state.short_writes {
            let kept = 1 + random.below(bytes.len() as u64) as usize;
            bytes.truncate(kept);
        }
        let offset = offset as usize;
        let fits = (state.files[self.file].cached.len().max(offset) - offset).saturating_add(state.room());
        if fits == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        bytes.truncate(fits);
        state.files[self.file].write(offset, &bytes);
        outcome.all_or_nothing()?;
        Ok(bytes.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            return Err(Fault::Io.error());
        }
        let content = &state.files[self.file].cached;
        let from = content.len().min(offset as usize);
        let len = buffer.len().min(content.len() - from);
        buffer[..len].copy_from_slice(&content[from..from + len]);
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state_to_change()?;
        while state.syncs_held {
            state = self.disk.shared.syncs_released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let outcome = state.change()?;
        state.syncs += 1;
        match outcome {
            Outcome::Done => state.files[self.file].sync(),
            Outcome::Fails(Fault::Io) => state.files[self.file].fail_sync(),
            Outcome::Fails(Fault::Full | Fault::OutOfFiles) | Outcome::PowerGoes => {}
        }
        outcome.all_or_nothing()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state_to_change()?;
        let outcome = state.change()?;
        if let Outcome::Fails(fault) = outcome {
            return Err(fault.error());
        }
        state.files[self.file].set_len(bytes as usize);
        outcome.all_or_nothing()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state_to_change()?;
        state.change()?.all_or_nothing()?;
        let bytes = bytes as usize;
        if bytes > state.files[self.file].cached.len().saturating_add(state.room()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.files[self.file].set_len(bytes);
        Ok(())
    }

    fn hold(&self) -> io::Result<bool> {
        let mut state = self.state()?;
        let held = self.holds.load(Ordering::Relaxed) || state.holds.hold(self.file);
        self.holds.store(held, Ordering::Relaxed);
        Ok(held)
    }

    fn take_alone(&self) -> io::Result<bool> {
        let mut state = self.state()?;
        let taken = state.holds.take(self.file);
        self.holds.fetch_or(taken, Ordering::Relaxed);
        Ok(taken)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.file].cached.len() as u64)
    }
}
