//! Fanout exchanges: every binding, whatever the key.

use crate::routing::Routed;
use crate::routing::sorted::SortedMap;
use crate::routing::target::{Target, count_down, count_up};

/// Number of bindings by target.
#[derive(Debug, Clone, Default)]
pub(in crate::routing) struct Index(SortedMap<Target, u32>);

impl Index {
    pub(super) fn insert(&mut self, target: Target) {
        count_up(&mut self.0, target);
    }

    pub(super) fn remove(&mut self, target: &Target) {
        count_down(&mut self.0, target);
    }

    pub(super) fn route(&self, out: &mut Routed) {
        self.0.for_each(|target, _| out.take(target));
    }
}
