//! Direct exchanges: the binding key equals the routing key.

use std::cmp::Ordering;
use std::fmt;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::routing::Routed;
use crate::routing::short::ShortBytes;
use crate::routing::sorted::SortedMap;
use crate::routing::target::{Target, count_down, count_up};
use crate::routing::values::ShownText;

/// Number of bindings by key and target.
#[derive(Debug, Clone, Default)]
pub(in crate::routing) struct Index(SortedMap<Entry, u32>);

/// Ordered by the key's hash first, because numbers compare faster than texts with common beginnings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: u64,
    key: ShortBytes,
    target: Target,
}

impl Index {
    pub(super) fn insert(&mut self, key: &str, target: Target) {
        count_up(&mut self.0, Entry::new(key, target));
    }

    pub(super) fn remove(&mut self, key: &str, target: &Target) {
        count_down(&mut self.0, &Entry::new(key, target.clone()));
    }

    pub(super) fn route(&self, key: &str, out: &mut Routed) {
        let hash = hash(key);
        let place = |entry: &Entry| -> Ordering {
            entry.hash.cmp(&hash).then_with(|| entry.key.as_bytes().cmp(key.as_bytes()))
        };
        self.0.for_each_equal(place, |entry, _| out.take(&entry.target));
    }
}

impl Entry {
    fn new(key: &str, target: Target) -> Self {
        Self { hash: hash(key), key: ShortBytes::new(key.as_bytes()), target }
    }
}

fn hash(key: &str) -> u64 {
    FixedState::with_seed(0).hash_one(key)
}

/// The two keys.
#[derive(Debug)]
pub(in crate::routing) struct Verdict<'a> {
    wanted: &'a str,
    key: &'a str,
}

impl<'a> Verdict<'a> {
    pub(super) fn new(wanted: &'a str, key: &'a str) -> Self {
        Self { wanted, key }
    }

    pub(super) fn matched(&self) -> bool {
        self.wanted == self.key
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.matched() {
            return f.write_str("the routing key is the binding key");
        }
        write!(
            f,
            "the routing key is `{}`, the binding wants `{}`",
            ShownText(self.key),
            ShownText(self.wanted)
        )
    }
}
