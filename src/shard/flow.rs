//! Publishers that outrun the consumers of a queue which only memory holds.
//!
//! On a busy machine whoever only throws messages in gets more done than those who take them out, write them to a socket and
//! read them there; the queue grows by as much as memory has, for nothing. So once a queue is far ahead of consumers that
//! do take messages at a good pace, its publishers wait for them: their connections learn later that the broker has taken
//! what they sent, and are not read from until then. Consumers that are slow hold nobody up: for them a queue is there to
//! grow.

use std::collections::BTreeMap;

use super::command::{Outlet, Segment};
use super::shard::Shard;
use super::slot::Slot;
use crate::model::{QueueId, Timestamp};

/// A queue that has so much ready for its consumers lets its publishers wait, until it has half of that.
pub(super) const AHEAD_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What a message counts beside its own bytes.
const AROUND_BYTES: u64 = 24;
/// Publishers wait for consumers that take at least [`GOOD_PACE_BYTES`] in so many milliseconds.
pub(super) const PACE_MILLIS: u64 = 50;
const GOOD_PACE_BYTES: u64 = AHEAD_BYTES_MAX / 8;
/// For so many milliseconds nobody waits for consumers that turned out to be slower.
pub(super) const SLOW_MILLIS: u64 = 1000;

/// Who waits for consumers.
#[derive(Debug, Default)]
pub(super) struct Flow {
    waiting: BTreeMap<QueueId, Waiting>,
}

/// Publishers to one queue.
#[derive(Debug)]
struct Waiting {
    /// Their connections, and the bytes that they are not told of yet.
    publishers: Vec<(Outlet, usize)>,
    /// Deliveries of the queue when this pace began to be measured.
    delivered: u64,
    since: Timestamp,
}

impl Flow {
    /// In how many milliseconds it is to be looked at how fast consumers are.
    pub(super) fn wakes_in(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(PACE_MILLIS)
    }
}

impl Shard {
    /// Whether a publisher to these queues is to wait; then it is told later that its bytes were taken.
    pub(super) fn holds_up(&mut self, segments: &[Segment], outlet: &Outlet, bytes: usize) -> bool {
        let now = self.now;
        let mut queues = segments.iter().flat_map(|segment| segment.queues.iter());
        let ahead = queues.find_map(|queue| {
            let slot = self
                .queues
                .get(queue)
                .filter(|slot| slot.is_ahead(AHEAD_BYTES_MAX) && now >= slot.attached.slow_until)?;
            Some((*queue, slot.queue.counts().delivered))
        });
        let Some((queue, delivered)) = ahead else { return false };
        let fresh = || Waiting { publishers: Vec::new(), delivered, since: now };
        let publishers = &mut self.flow.waiting.entry(queue).or_insert_with(fresh).publishers;
        match publishers.iter_mut().find(|(other, _)| std::sync::Arc::ptr_eq(other, outlet)) {
            Some((_, held)) => *held += bytes,
            None => publishers.push((Outlet::clone(outlet), bytes)),
        }
        true
    }

    /// Lets publishers go on whose consumers have caught up, or are too slow to be waited for.
    pub(super) fn let_publishers_go_on(&mut self) {
        let now = self.now;
        let mut free = Vec::new();
        for (queue, waiting) in &mut self.flow.waiting {
            let goes_on = match self.queues.get_mut(queue) {
                Some(slot) if slot.is_ahead(AHEAD_BYTES_MAX / 2) => slot.is_slow(waiting, now),
                _ => true,
            };
            if goes_on {
                free.push(*queue);
            }
        }
        for queue in free {
            let publishers = self.flow.waiting.remove(&queue).map(|waiting| waiting.publishers);
            for (outlet, bytes) in publishers.into_iter().flatten() {
                self.outlets.tell_taken(&outlet, bytes, true);
            }
        }
    }
}

impl Slot {
    /// Whether it has consumers, and more than so many bytes ready for them.
    fn is_ahead(&self, bytes_max: u64) -> bool {
        self.queue.ready_bytes(AROUND_BYTES) > bytes_max && self.queue.live_consumers().next().is_some()
    }

    /// Whether the consumers have fallen behind the pace for which publishers wait.
    fn is_slow(&mut self, waiting: &mut Waiting, now: Timestamp) -> bool {
        if now.0 < waiting.since.0 + PACE_MILLIS {
            return false;
        }
        let counts = self.queue.counts();
        let message_bytes = self.queue.ready_bytes(AROUND_BYTES) / counts.ready.max(1);
        let taken = counts.delivered.saturating_sub(waiting.delivered) * message_bytes;
        (waiting.delivered, waiting.since) = (counts.delivered, now);
        let slow = taken < GOOD_PACE_BYTES;
        if slow {
            self.attached.slow_until = Timestamp(now.0 + SLOW_MILLIS);
        }
        slow
    }
}
