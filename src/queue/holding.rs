//! Messages that are held back: published for later, or given back to be tried again later. When their time has come is told from
//! outside; then they wait in their places.

use super::queue::Queue;

impl Queue {
    /// Holds back those of these messages that wait. Returns how many.
    pub fn hold(&mut self, sequences: impl IntoIterator<Item = u64>) -> u64 {
        sequences.into_iter().map(|sequence| u64::from(self.lines.hold(sequence))).sum()
    }

    /// Those of these messages that are held back wait in their places. Returns how many there were.
    pub fn release(&mut self, sequences: impl IntoIterator<Item = u64>) -> u64 {
        sequences.into_iter().map(|sequence| u64::from(self.lines.release(sequence))).sum()
    }

    /// Whether a message is held back.
    pub fn holds_back(&self, sequence: u64) -> bool {
        self.lines.iter().any(|line| line.held().contains(sequence))
    }

    /// How many messages are held back.
    pub fn held_back(&self) -> u64 {
        self.lines.held()
    }

    /// Messages that wait for a consumer.
    pub(super) fn ready(&self) -> u64 {
        self.lines.live() - self.outstanding - self.lines.held()
    }
}
