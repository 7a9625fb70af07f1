//! Queues with bounds on what waits in them: what is beyond leaves with an entry of the log that says why, so that nothing depends
//! on the clock once it is written.
//!
//! Times are those of `times.rs`, in finer steps as long as a queue of the shard has messages that expire.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::shard::Shard;
use crate::model::{BodySequence, QueueId, Timestamp};
use crate::queue::Limits;

/// Queues that have bounds.
#[derive(Debug, Default)]
pub(super) struct Limiting {
    queues: HashMap<QueueId, Limits, foldhash::fast::FixedState>,
    /// Those of them that refuse what comes when they are full.
    refusing: HashSet<QueueId, foldhash::fast::FixedState>,
    /// Those in which messages came to wait since the last look at them.
    touched: BTreeSet<QueueId>,
    /// When the oldest message of each expires that expires.
    due: BTreeSet<(Timestamp, QueueId)>,
    due_at: HashMap<QueueId, Timestamp, foldhash::fast::FixedState>,
}

impl Limiting {
    /// A queue is this.
    pub(super) fn note(&mut self, queue: QueueId, limits: Limits) {
        if limits == Limits::default() {
            return self.forget(queue);
        }
        self.queues.insert(queue, limits);
        if limits.ttl_millis.is_none() {
            self.set_due(queue, None);
        }
        match limits.refuse_what_comes() {
            true => self.refusing.insert(queue),
            false => self.refusing.remove(&queue),
        };
        self.touched.insert(queue);
    }

    /// A queue is gone.
    pub(super) fn forget(&mut self, queue: QueueId) {
        self.queues.remove(&queue);
        self.refusing.remove(&queue);
        self.touched.remove(&queue);
        self.set_due(queue, None);
    }

    /// Whether any queue refuses what comes when it is full.
    pub(super) fn any_refuse(&self) -> bool {
        !self.refusing.is_empty()
    }

    /// Whether this one does.
    pub(super) fn refuses(&self, queue: QueueId) -> bool {
        self.refusing.contains(&queue)
    }

    /// Messages came to wait in a queue, new ones or others. Returns whether it has bounds.
    pub(super) fn touch(&mut self, queue: QueueId) -> bool {
        let has_bounds = !self.queues.is_empty() && self.queues.contains_key(&queue);
        if has_bounds {
            self.touched.insert(queue);
        }
        has_bounds
    }

    fn set_due(&mut self, queue: QueueId, at: Option<Timestamp>) {
        if let Some(before) = self.due_at.remove(&queue) {
            self.due.remove(&(before, queue));
        }
        if let Some(at) = at {
            self.due_at.insert(queue, at);
            self.due.insert((at, queue));
        }
    }

    /// A queue in which something expires now.
    fn take_due(&mut self, now: Timestamp) -> Option<(QueueId, u64)> {
        let (at, queue) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.set_due(queue, None);
        let ttl = self.queues.get(&queue).and_then(|limits| limits.ttl_millis);
        ttl.map(|ttl| (queue, ttl))
    }

    /// In how many milliseconds there is something to do even if nothing happens.
    pub(super) fn wakes_in(&self, now: Timestamp) -> Option<u64> {
        self.due.first().map(|(at, _)| at.0.saturating_sub(now.0))
    }
}

impl Shard {
    /// To be called before anything is delivered: drops what has become too old. Whose time comes now is there first.
    pub(super) fn expire(&mut self) {
        if self.commits.failure().is_some() {
            return;
        }
        self.release_those_due();
        while let Some((id, ttl)) = self.limiting.take_due(self.now) {
            self.expire_in(id, ttl);
            self.limiting.touched.insert(id);
        }
        self.expire_those_due();
    }

    /// What came back may have become too old meanwhile.
    pub(super) fn expire_before_delivery(&mut self, id: QueueId) {
        if self.commits.failure().is_some() {
            return;
        }
        let ttl = self.queues.get(&id).and_then(|slot| slot.queue.options().limits.ttl_millis);
        if let Some(ttl) = ttl.filter(|ttl| *ttl > 0) {
            self.expire_in(id, ttl);
        }
        if self.has_expiring(id) {
            self.expire_late_ones(id);
            // Those that expire at once do it when consumers have had what they take.
            self.limiting.touched.insert(id);
        }
    }

    fn expire_in(&mut self, id: QueueId, ttl: u64) {
        let Some(slot) = self.queues.get_mut(&id) else { return };
        let first_young = match ttl {
            0 => u64::MAX,
            ttl => self.now.0.checked_sub(ttl).map_or(0, |time| self.times.first_since(Timestamp(time))),
        };
        slot.queue.expire_before(first_young, &mut self.effects);
        self.run_effects(id);
    }

    /// To be called when everything was delivered that can be: drops what waits beyond the bounds.
    pub(super) fn keep_within_limits(&mut self) {
        if self.commits.failure().is_some() {
            return;
        }
        for id in std::mem::take(&mut self.limiting.touched) {
            let Some(slot) = self.queues.get_mut(&id) else { continue };
            let ttl = slot.queue.options().limits.ttl_millis;
            // Whoever is there has it first. It is looked at again when the mark is there.
            if !slot.queue.is_about_to_deliver() {
                slot.queue.drop_excess(&mut self.effects);
                self.run_effects(id);
                if ttl == Some(0) {
                    self.expire_in(id, 0);
                }
                self.expire_fresh_ones(id);
            }
            if let Some(ttl) = ttl.filter(|ttl| *ttl > 0) {
                let oldest = self.queues.get_mut(&id).and_then(|slot| slot.queue.oldest_waiting());
                let due = oldest.map(|BodySequence(oldest)| self.times.over_after(oldest, ttl));
                self.limiting.set_due(id, due);
            }
        }
    }
}
