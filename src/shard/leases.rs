//! Leases: whoever has a message for longer than its queue lets it loses it, unless it asks for more time.
//!
//! Queues see no clock. A queue of which somebody has messages is looked at again and again, and what is held then is noted
//! (`lease.rs`); nothing is done for a message on its way.
//!
//! ```text
//!   handed out ──▶ looked at ──────── a lease later ──▶ back in its queue, and its consumer gets no more
//!                      ▲                    │
//!                      └── Extend ──────────┘
//! ```

use std::collections::{BTreeSet, HashMap};

use super::command::{Event, SettleReply};
use super::consumers::unknown_tag;
use super::lease::Lease;
use super::shard::Shard;
use crate::model::{QueueId, Timestamp};
use crate::queue::{ConsumerKey, Effect, Holder, TagRange, Tags};

/// So many times in the length of a lease a queue is looked at.
const LOOKS: u64 = 64;
/// But not before so many milliseconds have passed.
const LOOK_MILLIS_MIN: u64 = 250;

/// Queues of which somebody has messages.
#[derive(Debug, Default)]
pub(super) struct Leases {
    queues: HashMap<QueueId, OfQueue, foldhash::fast::FixedState>,
    /// When each is looked at.
    due: BTreeSet<(Timestamp, QueueId)>,
    /// When it was last asked which are to be.
    asked_at: Timestamp,
}

#[derive(Debug)]
struct OfQueue {
    lease_millis: u64,
    looked_at: Timestamp,
    next_look: Timestamp,
    /// The milliseconds that have passed for it. Those of a clock that jumps, or of a broker that was held up, do not count.
    passed: u64,
    /// Leases of those who have messages.
    holders: HashMap<ConsumerKey, Lease, foldhash::fast::FixedState>,
}

impl OfQueue {
    fn look_millis(&self) -> u64 {
        (self.lease_millis / LOOKS).max(LOOK_MILLIS_MIN)
    }

    /// What the time is for its leases.
    fn time(&self, now: Timestamp) -> u64 {
        self.passed + now.0.saturating_sub(self.looked_at.0).min(2 * self.look_millis())
    }
}

impl Leases {
    /// Somebody has messages of a queue.
    fn begin(&mut self, queue: QueueId, lease_millis: u64, now: Timestamp) {
        let mut of_queue =
            OfQueue { lease_millis, looked_at: now, next_look: now, passed: 0, holders: HashMap::default() };
        of_queue.next_look = Timestamp(now.0.saturating_add(of_queue.look_millis()));
        self.due.insert((of_queue.next_look, queue));
        self.queues.insert(queue, of_queue);
    }

    /// A queue is gone, or nobody has messages of it.
    pub(super) fn forget(&mut self, queue: QueueId) {
        if let Some(of_queue) = self.queues.remove(&queue) {
            self.due.remove(&(of_queue.next_look, queue));
        }
    }

    /// Whoever had this key before is gone.
    pub(super) fn forget_holder(&mut self, queue: QueueId, key: ConsumerKey) {
        if let Some(of_queue) = self.queues.get_mut(&queue) {
            of_queue.holders.remove(&key);
        }
    }

    /// A queue that is to be looked at now.
    fn next_due(&mut self, now: Timestamp) -> Option<QueueId> {
        if now < self.asked_at {
            // The clock went back: they are not to wait until it is there again.
            for of_queue in self.queues.values_mut() {
                of_queue.looked_at = now;
                of_queue.next_look = Timestamp(now.0.saturating_add(of_queue.look_millis()));
            }
            self.due = self.queues.iter().map(|(queue, of_queue)| (of_queue.next_look, *queue)).collect();
        }
        self.asked_at = now;
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, queue)| *queue)
    }

    /// Looks at those who have messages of a queue, one at least: what each of them has for longer than its lease, and how long that is.
    fn look(
        &mut self,
        queue: QueueId,
        holders: &[Holder],
        now: Timestamp,
    ) -> (Vec<(ConsumerKey, Vec<Tags>)>, u64) {
        let Some(of_queue) = self.queues.get_mut(&queue) else { return (Vec::new(), 0) };
        self.due.remove(&(of_queue.next_look, queue));
        of_queue.passed = of_queue.time(now);
        of_queue.looked_at = now;
        of_queue.next_look = Timestamp(now.0.saturating_add(of_queue.look_millis()));
        self.due.insert((of_queue.next_look, queue));
        let OfQueue { lease_millis, passed, .. } = *of_queue;
        let mut before = std::mem::take(&mut of_queue.holders);
        let mut over = Vec::new();
        for Holder { key, oldest, next, .. } in holders {
            let mut lease = before.remove(key).unwrap_or_default();
            lease.note(*next, passed);
            let tags = lease.over(*oldest, passed, lease_millis);
            of_queue.holders.insert(*key, lease);
            if !tags.is_empty() {
                over.push((*key, tags));
            }
        }
        (over, lease_millis)
    }

    /// In how many milliseconds there is something to do even if nothing happens.
    pub(super) fn wakes_in(&self, now: Timestamp) -> Option<u64> {
        self.due.first().map(|(at, _)| at.0.saturating_sub(now.0))
    }
}

impl Shard {
    /// To be called when messages of a queue were handed out.
    pub(super) fn note_leases(&mut self, queue: QueueId) {
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        if slot.attached.has_leases || !slot.queue.is_held() {
            return;
        }
        if let Some(lease_millis) = slot.queue.options().lease_millis.or(self.options.lease_millis) {
            slot.attached.has_leases = true;
            self.leases.begin(queue, lease_millis, self.now);
        }
    }

    /// Leases of a queue are of another length: those of what somebody has begin now.
    pub(super) fn lease_anew(&mut self, queue: QueueId) {
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        slot.attached.has_leases = false;
        self.leases.forget(queue);
        self.note_leases(queue);
    }

    /// To be called when all is done that was asked for: takes back what somebody has for longer than a lease.
    pub(super) fn end_leases(&mut self) {
        if self.commits.failure().is_some() {
            return;
        }
        while let Some(queue) = self.leases.next_due(self.now) {
            let Some(slot) = self.queues.get_mut(&queue) else {
                self.leases.forget(queue);
                continue;
            };
            let holders: Vec<Holder> = slot.queue.holders().collect();
            if holders.is_empty() {
                slot.attached.has_leases = false;
                self.leases.forget(queue);
                continue;
            }
            let (over, lease_millis) = self.leases.look(queue, &holders, self.now);
            for (key, tags) in over {
                self.lapse(queue, key, tags, lease_millis);
            }
        }
    }

    fn lapse(&mut self, queue: QueueId, key: ConsumerKey, tags: Vec<Tags>, lease_millis: u64) {
        let outlet = self.outlet(queue, key);
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        // What never left the broker, since it has to be read back first, was not kept by anybody.
        let stalled = slot.attached.stalled.iter().filter_map(|effect| match effect {
            Effect::Deliver { consumer, first_tag, .. } if *consumer == key => Some(first_tag.0),
            _ => None,
        });
        let left_below = stalled.min().unwrap_or(u64::MAX);
        let left = tags.into_iter().filter(|tags| tags.first < left_below);
        let left = left.map(|tags| Tags { last: tags.last.min(left_below - 1), ..tags });
        let kept: Vec<Tags> = left.filter(|tags| slot.queue.holds_any(key, *tags)).collect();
        if kept.is_empty() {
            return;
        }
        if key.is_consumer() {
            slot.take_back(Some(key));
        }
        let lapsed = slot.queue.lapse(key, &kept, &mut self.effects);
        let messages: u64 = lapsed.iter().map(|tags| tags.last - tags.first + 1).sum();
        tracing::warn!(
            shard = %self.options.id, %queue, connection = %key.connection, channel = key.channel, consumer = key.handle,
            messages, lease_millis, "a consumer kept messages for longer than it may; they are back in their queue"
        );
        self.run_effects(queue);
        self.mark_dirty(queue);
        if let Some(outlet) = outlet {
            self.outlets.send(&outlet, Event::Lapsed { queue, key, lapsed, lease_millis });
        }
    }

    /// The leases of these deliveries begin anew.
    pub(super) fn extend(
        &mut self,
        queue: QueueId,
        key: ConsumerKey,
        ranges: &[TagRange],
        reply: Option<SettleReply>,
    ) {
        let mut unknown = None;
        // Of a queue that was deleted nobody has anything.
        if let Some(slot) = self.queues.get(&queue) {
            let (held, known) = slot.queue.held_among(key, ranges);
            unknown = known.err();
            if let Some(of_queue) = self.leases.queues.get_mut(&queue)
                && !held.is_empty()
            {
                let time = of_queue.time(self.now);
                let lease = of_queue.holders.entry(key).or_default();
                held.into_iter().for_each(|tags| lease.renew(tags, time));
                let count = slot.queue.counts().unsettled;
                if lease.has_many_runs(count) {
                    lease.keep_runs(|tags| slot.queue.holds_any(key, tags));
                }
            }
        }
        let request = reply.as_ref().map(|reply| reply.request);
        let Some(outlet) = reply.map(|reply| reply.outlet).or_else(|| self.outlet(queue, key)) else {
            return;
        };
        match (unknown, request) {
            (Some(unknown), request) => {
                let refusal = Box::new(unknown_tag(unknown.0, key));
                self.outlets.send(&outlet, Event::SettleRefused { key, request, refusal });
            }
            (None, Some(request)) => self.outlets.send(&outlet, Event::Settled { key, request }),
            (None, None) => {}
        }
    }
}
