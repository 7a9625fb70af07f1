//! The bindings of an exchange that gives each message to one of them, in the order of listings.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::routing::sorted::SortedMap;
use crate::routing::table::BySource;
use crate::routing::target::Target;
use crate::routing::{Binding, Routed};

/// Bindings by their order: it is the same after a restart, whenever each of them was made.
#[derive(Debug, Clone, Default)]
pub(super) struct OneOf(SortedMap<BySource, Target>);

impl OneOf {
    pub(super) fn insert(&mut self, binding: &Arc<Binding>, target: Target) {
        self.0.insert(BySource(Arc::clone(binding)), target);
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        self.0.remove(|stored| stored.0.compare(binding));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The message goes to the binding of this place, if there is one.
    pub(super) fn take(&self, place: usize, out: &mut Routed) {
        if let Some((_, target)) = self.0.iter_from(|_| Ordering::Greater).nth(place) {
            out.take(target);
        }
    }

    pub(super) fn take_all(&self, out: &mut Routed) {
        self.0.for_each(|_, target| out.take(target));
    }
}

/// Which of its bindings an exchange chose for a message.
#[derive(Debug, Clone, Copy)]
pub(in crate::routing) enum Choice {
    /// The one of this place.
    Place(usize),
    /// Any of them may be it.
    Any,
}

/// A binding, and the one that was chosen.
#[derive(Debug)]
pub(in crate::routing) struct Verdict {
    pub(super) choice: Choice,
    pub(super) place: usize,
    pub(super) count: usize,
    /// What chooses, in words.
    pub(super) by: &'static str,
}

impl Verdict {
    pub(super) fn matched(&self) -> bool {
        match self.choice {
            Choice::Place(chosen) => chosen == self.place,
            Choice::Any => true,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { choice, place, count, by } = self;
        match choice {
            Choice::Any => {
                write!(f, "each message goes to one of {count} bindings, chosen by {by}: it may be this one")
            }
            Choice::Place(chosen) if chosen == place => {
                write!(f, "{by} chooses binding {} of {count}: this one", chosen + 1)
            }
            Choice::Place(chosen) => {
                write!(f, "{by} chooses binding {} of {count}, this is binding {}", chosen + 1, place + 1)
            }
        }
    }
}
