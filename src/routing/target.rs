//! Where bindings lead, and sets of such targets.

use crate::model::ExchangeName;

use super::QueueTarget;
use super::sorted::SortedMap;

/// A binding's destination as routing needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Queue(QueueTarget),
    Exchange(ExchangeName),
}

/// Targets, each with the number of bindings that lead to it: bindings with different arguments may share all else.
/// Never empty where it is stored.
#[derive(Debug, Clone)]
pub(super) enum TargetSet {
    /// Nearly every key has one target: no further allocation for it.
    One(Target, u32),
    Many(SortedMap<Target, u32>),
}

impl TargetSet {
    /// Counts one binding more.
    pub(super) fn add(set: &mut Option<Self>, target: Target) {
        match set {
            None => *set = Some(Self::One(target, 1)),
            Some(Self::One(only, count)) if *only == target => *count += 1,
            Some(Self::One(only, count)) => {
                let mut targets = SortedMap::default();
                targets.insert(only.clone(), *count);
                targets.insert(target, 1);
                *set = Some(Self::Many(targets));
            }
            Some(Self::Many(targets)) => count_up(targets, target),
        }
    }

    /// Counts one binding less; leaves `None` when it was the last.
    pub(super) fn remove(set: &mut Option<Self>, target: &Target) {
        match set {
            Some(Self::One(only, count)) if only == target => {
                *count -= 1;
                if *count == 0 {
                    *set = None;
                }
            }
            Some(Self::Many(targets)) => {
                count_down(targets, target);
                if targets.is_empty() {
                    *set = None;
                }
            }
            Some(Self::One(..)) | None => {}
        }
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Target)) {
        match self {
            Self::One(target, _) => visit(target),
            Self::Many(targets) => targets.for_each(|target, _| visit(target)),
        }
    }
}

/// Counts one more under a key.
pub(super) fn count_up<K: Ord + Clone>(counts: &mut SortedMap<K, u32>, key: K) {
    // Nearly always the key is new, and this one insertion is all.
    let Some(count) = counts.insert(key.clone(), 1) else { return };
    counts.insert(key, count + 1);
}

/// Counts one less under a key, and forgets the key at zero.
pub(super) fn count_down<K: Ord + Clone>(counts: &mut SortedMap<K, u32>, key: &K) {
    let Some((_, count)) = counts.find_mut(|stored| stored.cmp(key)) else { return };
    *count -= 1;
    if *count == 0 {
        counts.remove(|stored| stored.cmp(key));
    }
}
