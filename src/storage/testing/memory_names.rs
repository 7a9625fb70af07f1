//! The names in a directory.

use std::{collections::BTreeMap, ffi::OsString};

use super::{PowerLoss, Seeded};

/// The names of a directory as shown and as stored, and what happened in between.
#[derive(Clone, Default)]
pub(super) struct Names {
    pub(super) shown: BTreeMap<OsString, usize>,
    pub(super) stored: BTreeMap<OsString, usize>,
    pub(super) unsynced: Vec<NameChange>,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Added(OsString, usize),
    Removed(OsString),
    Renamed(OsString, OsString, usize),
}

impl Names {
    pub(super) fn apply(names: &mut BTreeMap<OsString, usize>, change: NameChange) {
        match change {
            NameChange::Added(name, file) => {
                names.insert(name, file);
            }
            NameChange::Removed(name) => {
                names.remove(&name);
            }
            NameChange::Renamed(from, to, file) => {
                names.remove(&from);
                names.insert(to, file);
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.stored.clone_from(&self.shown);
    }

    pub(super) fn lose_power(&mut self, loss: PowerLoss, random: &mut Seeded) {
        for change in std::mem::take(&mut self.unsynced) {
            let kept = match loss {
                PowerLoss::KeepsAll => true,
                PowerLoss::LosesAll => false,
                PowerLoss::Tears => random.one_in(2),
            };
            if kept {
                Self::apply(&mut self.stored, change);
            }
        }
        self.shown.clone_from(&self.stored);
    }
}
