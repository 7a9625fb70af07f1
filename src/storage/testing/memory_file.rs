//! A file as the operating system shows it, and as the platter has it.

use std::collections::BTreeSet;

use super::{PowerLoss, Seeded};

/// What a disk writes whole or not at all; a torn sector is a worse disk than most.
const SECTOR_BYTES: usize = 512;

/// Content in the cache, content on the platter, and which sectors differ.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryFile {
    /// What readers see.
    pub(super) cached: Vec<u8>,
    /// What a crash leaves for certain.
    pub(super) stored: Vec<u8>,
    /// Sectors that were written and not synced.
    pub(super) dirty: BTreeSet<usize>,
    /// Other sectors differ, too: a sync failed.
    has_lost: bool,
}

impl MemoryFile {
    /// A file whose content is on the platter.
    pub(super) fn stored(content: &[u8]) -> Self {
        Self { cached: content.to_vec(), stored: content.to_vec(), dirty: BTreeSet::new(), has_lost: false }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
    }

    pub(super) fn set_len(&mut self, bytes: usize) {
        let shorter = bytes.min(self.cached.len());
        self.cached.resize(bytes, 0);
        // The sector of the new end changes too: what was behind the end is zero from now on.
        self.dirty.extend(shorter / SECTOR_BYTES..bytes.max(self.stored.len()).div_ceil(SECTOR_BYTES));
    }

    pub(super) fn sync(&mut self) {
        self.stored.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(&self.cached, &mut self.stored, sector, 0, SECTOR_BYTES);
        }
    }

    /// What Linux does when a sync fails: the pages count as clean, and the platter never gets them.
    pub(super) fn fail_sync(&mut self) {
        self.has_lost |= !self.dirty.is_empty() || self.cached.len() != self.stored.len();
        self.dirty.clear();
    }

    /// Nobody will open it again.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Damage that no call caused.
    pub(super) fn rot(&mut self, offset: usize, mask: u8) {
        for content in [&mut self.cached, &mut self.stored] {
            if let Some(byte) = content.get_mut(offset) {
                *byte ^= mask;
            }
        }
    }

    /// Decides what of the un-synced sectors reached the platter.
    pub(super) fn lose_power(&mut self, loss: PowerLoss, random: &mut Seeded) {
        let dirty = self.dirty.clone();
        match loss {
            PowerLoss::KeepsAll => self.sync(),
            PowerLoss::LosesAll => {}
            PowerLoss::Tears => self.tear(random),
        }
        self.dirty.clear();
        if std::mem::take(&mut self.has_lost) {
            self.cached.clone_from(&self.stored);
            return;
        }
        // What is not dirty is the same: a large file that nobody wrote to costs nothing.
        let common = self.cached.len().min(self.stored.len());
        self.cached.truncate(common);
        self.cached.extend_from_slice(&self.stored[common..]);
        dirty
            .into_iter()
            .for_each(|sector| copy_sector(&self.stored, &mut self.cached, sector, 0, SECTOR_BYTES));
    }

    /// Each un-synced sector is kept, lost or torn. A file grows at least to its last sector that was kept, at most
    /// to the length it had; a cut happens or does not.
    fn tear(&mut self, random: &mut Seeded) {
        let (old, new) = (self.stored.len(), self.cached.len());
        let len = match new {
            new if new > old => old + random.below((new - old) as u64 + 1) as usize,
            new if random.one_in(2) => new,
            _ => old,
        };
        self.stored.resize(len, 0);
        for sector in std::mem::take(&mut self.dirty) {
            let (from, to) = match random.below(4) {
                0 => continue,
                1 => (0, random.below(SECTOR_BYTES as u64) as usize),
                2 => (random.below(SECTOR_BYTES as u64) as usize, SECTOR_BYTES),
                _ => (0, SECTOR_BYTES),
            };
            let end = (sector * SECTOR_BYTES + to).min(self.cached.len());
            if new > old && self.stored.len() < end {
                self.stored.resize(end, 0);
            }
            copy_sector(&self.cached, &mut self.stored, sector, from, to);
        }
    }
}

/// Copies the bytes `from..to` of one sector, as far as both have them.
fn copy_sector(source: &[u8], target: &mut [u8], sector: usize, from: usize, to: usize) {
    let start = sector * SECTOR_BYTES + from;
    let end = (sector * SECTOR_BYTES + to).min(source.len()).min(target.len());
    if start < end {
        target[start..end].copy_from_slice(&source[start..end]);
    }
}
