//! Choices that a seed makes.

use crate::storage::testing::Seeded;

/// Whatever a run decides, it decides with this.
#[derive(Debug, Clone)]
pub(super) struct Random(Seeded);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds begin far from each other.
        Self(Seeded::new(Seeded::new(seed).number()))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.number()
    }

    /// Below `end`, which is at least 1.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    /// True once in `times`.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.0.one_in(times)
    }

    /// One of these; `None` if there is none.
    pub(super) fn pick<T>(&mut self, items: impl IntoIterator<Item = T>) -> Option<T> {
        let mut items: Vec<T> = items.into_iter().collect();
        if items.is_empty() { None } else { Some(items.swap_remove(self.below(items.len()))) }
    }
}
