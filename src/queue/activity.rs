//! Single active consumer: one of the consumers is served, the others wait for it to go.
//!
//! ```text
//!   waiting ── the first in line, and nobody before it holds messages ──▶ active
//!      ▲                                                                    │
//!      │                                           one of a higher priority comes
//!      │                                                                    ▼
//!      └────────────── has settled or returned all it held ────────── handing over
//! ```
//!
//! First in line is the consumer of the highest priority, and among those of one priority the one that came first. Whoever is not
//! gets nothing, also while it hands over or was cancelled: two consumers never hold messages at the same time, so what comes back
//! comes before what is behind it.

use super::consumer::{Consumer, ConsumerKey};
use super::queue::{Effects, Queue};

impl Queue {
    /// Hands out what the active consumer has room for, if it is first in line.
    pub(super) fn deliver_to_active(&mut self, effects: &mut Effects) {
        // If it waits for room of its channel alone it is to find the mark there.
        let Some(index) = self.served().filter(|index| self.consumers[*index].room() > 0) else { return };
        self.serve(index, u64::MAX, effects);
        self.advance_mark(effects);
    }

    /// Whether somebody takes a message as soon as there is one, if the bound of its channel has room.
    pub(super) fn has_room(&self) -> bool {
        match self.options.single_active {
            false => self.consumers.iter().any(|consumer| consumer.room() > 0),
            true => self.served().is_some_and(|index| self.consumers[index].room() > 0),
        }
    }

    /// To be called when consumers have come or gone, or hold less. Without a single active consumer it does nothing.
    pub(super) fn choose_active(&mut self) {
        if !self.options.single_active {
            return;
        }
        let first = self.first_in_line().map(|index| self.consumers[index].key);
        if self.active != first && !self.active.is_some_and(|active| self.holds_messages(active)) {
            self.active = first;
        }
    }

    /// Of a queue with a single active consumer: whether it is this one. It is until it has handed over.
    pub(super) fn is_active(&self, key: ConsumerKey) -> Option<bool> {
        self.options.single_active.then(|| self.active == Some(key))
    }

    pub(super) fn served(&self) -> Option<usize> {
        self.first_in_line().filter(|index| self.active == Some(self.consumers[*index].key))
    }

    /// The consumers are in this order.
    fn first_in_line(&self) -> Option<usize> {
        self.consumers.iter().position(Consumer::is_consuming)
    }

    fn holds_messages(&self, key: ConsumerKey) -> bool {
        self.position(key).is_some_and(|index| self.consumers[index].unsettled_count() > 0)
    }
}
