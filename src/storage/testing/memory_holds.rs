//! Who keeps which file from being taken by others.

use std::collections::BTreeMap;

/// Files that are held, by their numbers.
#[derive(Default)]
pub(super) struct Holds(BTreeMap<usize, Holders>);

enum Holders {
    /// So many handles.
    Some(usize),
    /// One that wants no other.
    Alone,
}

impl Holds {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// One more holds the file, unless somebody has taken it.
    pub(super) fn hold(&mut self, file: usize) -> bool {
        match self.0.entry(file).or_insert(Holders::Some(0)) {
            Holders::Some(holders) => *holders += 1,
            Holders::Alone => return false,
        }
        true
    }

    /// Takes the file, unless somebody holds it.
    pub(super) fn take(&mut self, file: usize) -> bool {
        let is_free = !self.0.contains_key(&file);
        if is_free {
            self.0.insert(file, Holders::Alone);
        }
        is_free
    }

    /// One that held the file or took it has gone.
    pub(super) fn release(&mut self, file: usize) {
        match self.0.get_mut(&file) {
            Some(Holders::Some(holders)) if *holders > 1 => *holders -= 1,
            _ => _ = self.0.remove(&file),
        }
    }
}
