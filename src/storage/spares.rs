//! Segments that nobody needs any more, kept for a moment to be written over.
//!
//! A new file costs its blocks, its pages in memory and a longer sync, and the old one costs its removal; a file that is
//! written over costs none of that. So while a log rolls from segment to segment, what [`purge`] takes out of it becomes
//! the next segment. A spare is part of no log: its name says so, durably, before anything in it changes, and a start
//! removes it.
//!
//! [`purge`]: super::LogKeeper::purge

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Access, Disk, Segment, segment::spare_path};

/// Most spares of one log: as many segments as it fills between two checkpoints that free them, by default.
const SPARES_MAX: usize = 4;

/// The spares of one log.
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
}

struct State {
    /// The log was opened, or a segment begun, a short time ago, so another one may be soon.
    wanted: bool,
    /// Under names that are durable.
    ready: Vec<PathBuf>,
}

impl Spares {
    /// None yet, but wanted, for a log with segments of so many bytes.
    pub(super) fn new(disk: &Arc<dyn Disk>, directory: &Path, segment_bytes: u64) -> Self {
        let disk = Arc::clone(disk);
        let state = Mutex::new(State { wanted: true, ready: Vec::new() });
        Self { disk, directory: directory.to_path_buf(), segment_bytes, state }
    }

    /// Makes spares of some of the segments given, the largest that are not too large, and leaves those in the list that are to be removed. The spares are
    /// to be [added](Self::add) when the directory is synced.
    pub(super) fn choose(&self, segments: &mut Vec<Segment>) -> Vec<PathBuf> {
        let mut chosen = Vec::new();
        let state = self.lock();
        if !state.wanted {
            return chosen;
        }
        let mut places = SPARES_MAX.saturating_sub(state.ready.len());
        drop(state);
        segments.sort_by_key(|segment| std::cmp::Reverse(segment.bytes));
        segments.retain(|segment| {
            if places == 0 || segment.bytes > self.segment_bytes {
                return true;
            }
            let spare = self.rename(segment);
            places -= usize::from(spare.is_some());
            let stays = spare.is_none();
            chosen.extend(spare);
            stays
        });
        chosen
    }

    /// Gives a segment the name of a spare, unless somebody has its file open to read it, as a copy of the log has.
    fn rename(&self, segment: &Segment) -> Option<PathBuf> {
        let spare = spare_path(&self.directory, segment.first_index);
        let file = self.disk.open(&segment.path, Access::ReadWrite).ok()?;
        // As long as the file is taken nobody can begin to read it, and afterwards it has another name.
        let renamed = file.take_alone().unwrap_or(false) && self.disk.rename(&segment.path, &spare).is_ok();
        renamed.then_some(spare)
    }

    /// Takes spares whose names are durable.
    pub(super) fn add(&self, chosen: Vec<PathBuf>) {
        let mut state = self.lock();
        if state.wanted {
            state.ready.extend(chosen);
        } else {
            drop(state);
            self.discard(&chosen);
        }
    }

    /// A spare to be written over, if there is one. From now on they are wanted.
    pub(super) fn take(&self) -> Option<PathBuf> {
        let mut state = self.lock();
        state.wanted = true;
        state.ready.pop()
    }

    /// Whether there are spares, or would be if a segment went now.
    pub(super) fn are_wanted(&self) -> bool {
        self.lock().wanted
    }

    /// Removes all spares and keeps none until the next one is asked for. Tells whether there were any.
    pub(super) fn give_up(&self) -> bool {
        let mut state = self.lock();
        state.wanted = false;
        let ready = std::mem::take(&mut state.ready);
        drop(state);
        self.discard(&ready);
        !ready.is_empty()
    }

    /// Removes spares. What cannot be removed now a start removes.
    pub(super) fn discard(&self, spares: &[PathBuf]) {
        for path in spares {
            let _ = self.disk.remove(path);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
