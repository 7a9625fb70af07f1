//! Who is there: since when the queues of subscriptions have no consumer.
//!
//! It lives as long as the process, and expiry counts in it alone: from the start on, so that nobody who came back just before a crash
//! is taken for away. What the catalog has recorded of earlier runs is shown, and decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Clock, QueueId, Timestamp};

/// Whoever has asked for a subscription has so long to consume from its queue, however soon that expires.
const EXPECTED_MILLIS: u64 = 10_000;

/// What is recorded is left as it is until it is so far from the truth, in milliseconds: somebody who comes for a moment, or takes single
/// messages one after the other, costs an entry a minute.
const RECORDED_APART_MILLIS: u64 = 60_000;
/// Queues of one entry about who is there; the others follow with the next.
const CHANGED_MAX: usize = 10_000;

/// Since when queues are dark.
pub(super) struct Presence {
    clock: Clock,
    since_start: Timestamp,
    /// As recorded before the start.
    before: BTreeMap<QueueId, Timestamp>,
    queues: Mutex<HashMap<QueueId, Attendance>>,
}

/// How who is there differs from what is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PresenceChange {
    /// Queues that nobody consumes from, and since when.
    pub(super) dark: BTreeMap<QueueId, Timestamp>,
    /// Queues that somebody consumes from again.
    pub(super) back: Vec<QueueId>,
}

impl PresenceChange {
    pub(super) fn is_empty(&self) -> bool {
        self.dark.is_empty() && self.back.is_empty()
    }

    /// Does to a record what the catalog does to its own.
    pub(super) fn apply_to(&self, recorded: &mut BTreeMap<QueueId, Timestamp>) {
        recorded.extend(&self.dark);
        for queue in &self.back {
            recorded.remove(queue);
        }
    }
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
    /// After a start; `before` is what is recorded of earlier runs.
    pub(super) fn new(clock: Clock, before: BTreeMap<QueueId, Timestamp>) -> Self {
        Self { since_start: clock(), clock, before, queues: Mutex::default() }
    }

    /// A consumer comes; it leaves when what this returns is dropped.
    pub(super) fn attend(self: &Arc<Self>, queue: QueueId) -> Attending {
        self.note(queue, |attendance| {
            attendance.consumers += 1;
            attendance.expected_until = Timestamp(0);
        });
        Attending { presence: Arc::clone(self), queue }
    }

    /// Somebody takes a single message: until now it was not forgotten.
    pub(super) fn note_use(&self, queue: QueueId) {
        self.note(queue, |_| ());
    }

    /// A consumer is about to come.
    pub(super) fn expect(&self, queue: QueueId) {
        let until = Timestamp((self.clock)().0.saturating_add(EXPECTED_MILLIS));
        self.note(queue, |attendance| attendance.expected_until = until);
    }

    /// Since when it has no consumer, also before the start if that is known; `None`: it has one.
    pub(super) fn dark_since(&self, queue: QueueId) -> Option<Timestamp> {
        self.shown(&self.queues(), queue)
    }

    fn shown(&self, queues: &HashMap<QueueId, Attendance>, queue: QueueId) -> Option<Timestamp> {
        match queues.get(&queue) {
            Some(attendance) => attendance.unattended_since(),
            // A clock that went back makes nobody dark in the future.
            None => {
                Some(self.before.get(&queue).map_or(self.since_start, |since| self.since_start.min(*since)))
            }
        }
    }

    /// How the queues that are there differ from what is recorded.
    pub(super) fn change(
        &self,
        there: &BTreeSet<QueueId>,
        recorded: &BTreeMap<QueueId, Timestamp>,
    ) -> PresenceChange {
        let queues = self.queues();
        let mut change = PresenceChange::default();
        for queue in there {
            if change.dark.len() + change.back.len() == CHANGED_MAX {
                break;
            }
            match (self.shown(&queues, *queue), recorded.get(queue)) {
                (None, Some(_)) => change.back.push(*queue),
                (Some(since), Some(known)) if since.0.abs_diff(known.0) < RECORDED_APART_MILLIS => {}
                (Some(since), _) => drop(change.dark.insert(*queue, since)),
                (None, None) => {}
            }
        }
        change
    }

    /// Whether it has had no consumer for so long, in this run of the broker.
    pub(super) fn is_expired(&self, queue: QueueId, after_ms: u64) -> bool {
        let now = (self.clock)();
        let attendance = self.queues().get(&queue).copied();
        if attendance.is_some_and(|attendance| now < attendance.expected_until) {
            return false;
        }
        let since = attendance.map_or(Some(self.since_start), |attendance| attendance.unattended_since());
        // A clock that goes back expires nothing.
        let dark = since.map(|since| now.0.saturating_sub(since.0));
        after_ms > 0 && dark.is_some_and(|dark| dark >= after_ms)
    }

    /// Forgets queues that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(QueueId) -> bool) {
        self.queues().retain(|queue, attendance| attendance.consumers > 0 || is_there(*queue));
    }

    fn note(&self, queue: QueueId, change: impl FnOnce(&mut Attendance)) {
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

impl Attendance {
    fn unattended_since(&self) -> Option<Timestamp> {
        (self.consumers == 0).then_some(self.left)
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
            .note(self.queue, |attendance| attendance.consumers = attendance.consumers.saturating_sub(1));
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
        let clock: Clock = Arc::new(move || Timestamp(read.load(Ordering::Relaxed)));
        let presence = Arc::new(Presence::new(clock, BTreeMap::new()));
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
        presence.retain(|_| false);
        assert_eq!(presence.dark_since(queue), Some(Timestamp(100)));
    }

    #[test]
    fn what_was_recorded_before_a_start_is_shown_and_expires_nothing() {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let read = Arc::clone(&time);
        let clock: Clock = Arc::new(move || Timestamp(read.load(Ordering::Relaxed)));
        let [dark, came, new, ahead] = [1, 2, 3, 4].map(QueueId);
        let before =
            BTreeMap::from([(dark, Timestamp(5)), (came, Timestamp(6)), (ahead, Timestamp(u64::MAX))]);
        let presence = Arc::new(Presence::new(clock, before.clone()));
        let there = BTreeSet::from([dark, came, new, ahead]);
        assert_eq!(presence.dark_since(dark), Some(Timestamp(5)));
        assert_eq!(presence.dark_since(new), Some(Timestamp(1_000_000)), "of it nothing is recorded");
        assert_eq!(presence.dark_since(ahead), Some(Timestamp(1_000_000)), "the clock went back");
        time.store(1_000_099, Ordering::Relaxed);
        assert!(!presence.is_expired(dark, 100), "whether it was there just before the crash nobody knows");
        time.store(1_000_100, Ordering::Relaxed);
        assert!(presence.is_expired(dark, 100));
        let attending = presence.attend(came);
        let change = presence.change(&there, &before);
        let start = Timestamp(1_000_000);
        assert_eq!(change.dark, BTreeMap::from([(new, start), (ahead, start)]));
        assert_eq!(change.back, [came]);
        let mut recorded = before;
        change.apply_to(&mut recorded);
        assert!(presence.change(&there, &recorded).is_empty(), "{recorded:?}");
        drop(attending);
        assert_eq!(presence.change(&there, &recorded).dark, BTreeMap::from([(came, Timestamp(1_000_100))]));
    }

    #[test]
    fn whoever_comes_for_a_moment_again_and_again_is_recorded_once_a_minute() {
        let time = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&time);
        let clock: Clock = Arc::new(move || Timestamp(read.load(Ordering::Relaxed)));
        let presence = Arc::new(Presence::new(clock, BTreeMap::new()));
        let (queue, mut recorded, mut entries) = (QueueId(1), BTreeMap::new(), 0);
        for second in 0..600 {
            time.store(second * 1000, Ordering::Relaxed);
            drop(presence.attend(queue));
            let change = presence.change(&BTreeSet::from([queue]), &recorded);
            entries += u32::from(!change.is_empty());
            change.apply_to(&mut recorded);
        }
        assert_eq!(entries, 10);
    }

    #[test]
    fn an_entry_has_so_many_queues_and_the_others_follow() {
        let presence = Presence::new(Arc::new(|| Timestamp(7)), BTreeMap::new());
        let there: BTreeSet<QueueId> = (1..=CHANGED_MAX as u64 + 1).map(QueueId).collect();
        let mut recorded = BTreeMap::new();
        for expected in [CHANGED_MAX, 1, 0] {
            let change = presence.change(&there, &recorded);
            assert_eq!(change.dark.len(), expected);
            change.apply_to(&mut recorded);
        }
    }
}
