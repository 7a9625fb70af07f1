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

#[cfg(test)]
mod tests {
    use crate::model::FieldTable;
    use crate::routing::ExchangeKind;
    use crate::routing::kind::testing::consider;

    #[track_caller]
    fn check(wanted: &str, key: &str, matched: bool, reason: &str) {
        let verdict = consider(ExchangeKind::Direct, wanted, FieldTable::default(), key, None);
        assert_eq!(verdict, (matched, reason.to_owned()));
    }

    #[test]
    fn keys_are_equal_or_not() {
        let same = "the routing key is the binding key";
        check("", "", true, same);
        check("a.b", "a.b", true, same);
        check("ä", "ä", true, same);
        let long = "k".repeat(255);
        check(&long, &long, true, same);
        check("a", "A", false, "the routing key is `A`, the binding wants `a`");
        check("a", "", false, "the routing key is ``, the binding wants `a`");
        check("", "a", false, "the routing key is `a`, the binding wants ``");
        check("a ", "a", false, "the routing key is `a`, the binding wants `a `");
    }

    #[test]
    fn wildcards_mean_nothing() {
        check("#", "a", false, "the routing key is `a`, the binding wants `#`");
        check("*", "a", false, "the routing key is `a`, the binding wants `*`");
    }

    #[test]
    fn a_long_key_is_shown_by_its_beginning() {
        let reason = format!("the routing key is `{}…`, the binding wants `a`", "ä".repeat(64));
        check("a", &"ä".repeat(100), false, &reason);
    }
}
