//! What queues retain is kept within their bounds: what is beyond goes with an entry of the log, so that it is gone after a
//! restart, too.

use std::collections::BTreeSet;

use super::shard::Shard;
use crate::model::{QueueId, Timestamp};
use crate::queue::Retention;

/// From one look for messages that have become too old to the next, in milliseconds.
const LOOK_MILLIS: u64 = 1_000;

/// Queues that retain what consumers are done with.
#[derive(Debug, Default)]
pub(super) struct Retaining {
    queues: BTreeSet<QueueId>,
    /// Those in which something was settled since the last look at them.
    touched: BTreeSet<QueueId>,
    /// When all of them were looked at last.
    looked_at: Timestamp,
    /// Something of theirs grows old.
    is_aging: bool,
}

impl Retaining {
    /// A queue is this.
    pub(super) fn note(&mut self, queue: QueueId, retention: Option<Retention>) {
        match retention {
            Some(_) => {
                self.queues.insert(queue);
                self.touched.insert(queue);
            }
            None => self.forget(queue),
        }
    }

    /// A queue is gone.
    pub(super) fn forget(&mut self, queue: QueueId) {
        self.queues.remove(&queue);
        self.touched.remove(&queue);
    }

    /// Messages of a queue were settled.
    pub(super) fn touch(&mut self, queue: QueueId) {
        if !self.queues.is_empty() && self.queues.contains(&queue) {
            self.touched.insert(queue);
        }
    }

    /// Those to be looked at.
    fn due(&mut self, now: Timestamp) -> BTreeSet<QueueId> {
        if self.is_aging && now.0 >= self.looked_at.0.saturating_add(LOOK_MILLIS) {
            (self.looked_at, self.is_aging) = (now, false);
            self.touched.clear();
            return self.queues.clone();
        }
        std::mem::take(&mut self.touched)
    }

    /// In how many milliseconds there is something to do even if nothing happens.
    pub(super) fn wakes_in(&self, now: Timestamp) -> Option<u64> {
        let at = self.looked_at.0.saturating_add(LOOK_MILLIS);
        self.is_aging.then(|| at.saturating_sub(now.0))
    }
}

impl Shard {
    /// To be called at the end of a turn: forgets what queues retain beyond their bounds.
    pub(super) fn retain_within_bounds(&mut self) {
        if self.commits.failure().is_some() {
            return;
        }
        for id in self.retaining.due(self.now) {
            let Some(slot) = self.queues.get_mut(&id) else { continue };
            let age = slot.queue.options().retention.and_then(|retention| retention.age_millis);
            let oldest_at = age.and_then(|age| self.now.0.checked_sub(age)).map(Timestamp);
            let too_old = oldest_at.map_or(0, |time| self.times.first_since(time));
            slot.queue.retain_within_bounds(too_old, &mut self.effects);
            self.run_effects(id);
            let left = self.queues.get(&id).is_some_and(|slot| slot.queue.oldest_retained().is_some());
            self.retaining.is_aging |= left && age.is_some();
        }
    }
}
