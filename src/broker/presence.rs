//! Who is there: since when the queues of subscriptions have no consumer.
//!
//! It lives as long as the process, and begins anew with it: what was dark before a restart counts from the restart on.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Clock, QueueId, Timestamp};

/// Whoever has asked for a subscription has so long to consume from its queue, however soon that expires.
const EXPECTED_MILLIS: u64 = 10_000;

/// Since when queues are dark.
pub(super) struct Presence {
    clock: Clock,
    since_start: Timestamp,
    queues: Mutex<HashMap<QueueId, Attendance>>,
}

#[derive(Debug, Clone, Copy)]
struct Attendance {
    consumers: u32,
    /// When the last one left, somebody last said that one would come, or took a single message.
    left: Timestamp,
    /// Until then somebody is expected, and it does not expire.
    expected_until: Timestamp,
}

impl Presence {
    pub(super) fn new(clock: Clock) -> Self {
        Self { since_start: clock(), clock, queues: Mutex::default() }
    }

    /// A consumer comes; it leaves when what this returns is dropped.
    pub(super) fn attend(self: &Arc<Self>, queue: QueueId) -> Attending {
        self.change(queue, |attendance| {
            attendance.consumers += 1;
            attendance.expected_until = Timestamp(0);
        });
        Attending { presence: Arc::clone(self), queue }
    }

    /// Somebody takes a single message: until now it was not forgotten.
    pub(super) fn note_use(&self, queue: QueueId) {
        self.change(queue, |_| ());
    }

    /// A consumer is about to come.
    pub(super) fn expect(&self, queue: QueueId) {
        let until = Timestamp((self.clock)().0.saturating_add(EXPECTED_MILLIS));
        self.change(queue, |attendance| attendance.expected_until = until);
    }

    /// Since when it has no consumer; `None`: it has one.
    pub(super) fn dark_since(&self, queue: QueueId) -> Option<Timestamp> {
        match self.queues().get(&queue) {
            Some(attendance) if attendance.consumers > 0 => None,
            Some(attendance) => Some(attendance.left),
            None => Some(self.since_start),
        }
    }

    /// Whether it has had no consumer for so long.
    pub(super) fn is_expired(&self, queue: QueueId, after_ms: u64) -> bool {
        let now = (self.clock)();
        if self.queues().get(&queue).is_some_and(|attendance| now < attendance.expected_until) {
            return false;
        }
        // A clock that goes back expires nothing.
        let dark = self.dark_since(queue).map(|since| now.0.saturating_sub(since.0));
        after_ms > 0 && dark.is_some_and(|dark| dark >= after_ms)
    }

    /// Forgets queues that are not there any more.
    pub(super) fn retain(&self, there: &BTreeSet<QueueId>) {
        self.queues().retain(|queue, attendance| attendance.consumers > 0 || there.contains(queue));
    }

    fn change(&self, queue: QueueId, change: impl FnOnce(&mut Attendance)) {
        let now = (self.clock)();
        let mut queues = self.queues();
        let new = Attendance { consumers: 0, left: now, expected_until: Timestamp(0) };
        let attendance = queues.entry(queue).or_insert(new);
        attendance.left = now;
        change(attendance);
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<QueueId, Attendance>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.queues().fmt(f)
    }
}

/// A consumer of a subscription's queue, as long as it is there.
#[derive(Debug)]
pub(super) struct Attending {
    presence: Arc<Presence>,
    queue: QueueId,
}

impl Drop for Attending {
    fn drop(&mut self) {
        self.presence
            .change(self.queue, |attendance| attendance.consumers = attendance.consumers.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_queue_is_dark_from_when_its_last_consumer_left() {
        let time = Arc::new(AtomicU64::new(100));
        let read = Arc::clone(&time);
        let presence = Arc::new(Presence::new(Arc::new(move || Timestamp(read.load(Ordering::Relaxed)))));
        let at = |now| time.store(now, Ordering::Relaxed);
        let queue = QueueId(7);
        at(150);
        assert_eq!(presence.dark_since(queue), Some(Timestamp(100)), "nobody since the start");
        let (first, second) = (presence.attend(queue), presence.attend(queue));
        at(200);
        drop(first);
        at(1000);
        assert_eq!(presence.dark_since(queue), None, "one is left");
        assert!(!presence.is_expired(queue, 10));
        drop(second);
        at(1049);
        assert_eq!(presence.dark_since(queue), Some(Timestamp(1000)));
        assert!(!presence.is_expired(queue, 50));
        at(1050);
        assert!(presence.is_expired(queue, 50));
        assert!(!presence.is_expired(queue, 0), "0 is never");
        presence.expect(queue);
        at(1050 + EXPECTED_MILLIS - 1);
        assert!(!presence.is_expired(queue, 50), "somebody is about to come");
        at(1050 + EXPECTED_MILLIS);
        assert!(presence.is_expired(queue, 50), "nobody came");
        at(900);
        assert!(!presence.is_expired(queue, 50), "a clock that goes back expires nothing");
        at(20_000);
        presence.note_use(queue);
        assert!(!presence.is_expired(queue, 50), "a single message was taken");
        presence.retain(&BTreeSet::new());
        assert_eq!(presence.dark_since(queue), Some(Timestamp(100)));
    }
}
