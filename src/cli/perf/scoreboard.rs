//! What producers and consumers have done so far: written by them once a batch, read by the live line and the report.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// Significant digits of latencies.
const DIGITS: u8 = 3;

/// Longest latency that is told apart: an hour, in nanoseconds.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Latencies are told apart from 100 ns on.
const LATENCY_NS_MIN: u64 = 100;

/// Errors that are kept with their text; all are counted.
const ERROR_TEXTS_MAX: usize = 10;

/// Shared by all tasks of a run.
#[derive(Debug)]
pub(super) struct Scoreboard {
    published: AtomicU64,
    confirmed: AtomicU64,
    /// Different messages per queue.
    consumed: AtomicU64,
    foreign: AtomicU64,
    /// When something last happened.
    last_ns: AtomicU64,
    /// Latencies count for messages from this time on.
    measured_from_ns: AtomicU64,
    consumed_wanted: AtomicU64,
    consumed_enough: Notify,
    latency: Mutex<Histogram<u64>>,
    confirm_latency: Mutex<Histogram<u64>>,
    errors: Mutex<Errors>,
    has_failed: AtomicBool,
    failed: Notify,
}

/// What went wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// The first ones.
    pub(super) texts: Vec<String>,
}

/// Counts at a moment.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Snapshot {
    pub(super) at_ns: u64,
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) consumed: u64,
    /// CPU time of this process.
    pub(super) cpu_seconds: f64,
}

impl Snapshot {
    /// Seconds from a moment to this one.
    pub(super) fn seconds_since_ns(&self, ns: u64) -> f64 {
        self.at_ns.saturating_sub(ns) as f64 / 1e9
    }

    /// What was counted a second since an earlier moment; 0 if no time has passed.
    pub(super) fn rate_since(&self, earlier: &Self, count: fn(&Self) -> u64) -> f64 {
        let seconds = self.seconds_since_ns(earlier.at_ns);
        if seconds > 0.0 { (count(self) - count(earlier)) as f64 / seconds } else { 0.0 }
    }
}

/// Latencies of a batch: nanoseconds, and how many messages had it.
pub(super) type Latencies = [(u64, u64)];

impl Scoreboard {
    pub(super) fn new() -> Self {
        Self {
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            measured_from_ns: AtomicU64::new(u64::MAX),
            consumed_wanted: AtomicU64::new(u64::MAX),
            consumed_enough: Notify::new(),
            latency: Mutex::new(new_histogram()),
            confirm_latency: Mutex::new(new_histogram()),
            errors: Mutex::default(),
            has_failed: AtomicBool::new(false),
            failed: Notify::new(),
        }
    }

    pub(super) fn add_published(&self, now_ns: u64, messages: u64) {
        self.published.fetch_add(messages, Ordering::Relaxed);
        self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
    }

    pub(super) fn add_confirmed(&self, now_ns: u64, messages: u64, latencies: &Latencies) {
        self.confirmed.fetch_add(messages, Ordering::Relaxed);
        self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
        self.record(&self.confirm_latency, now_ns, latencies);
    }

    /// `messages` are those that had not come before.
    pub(super) fn add_consumed(&self, now_ns: u64, messages: u64, latencies: &Latencies) {
        self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
        self.record(&self.latency, now_ns, latencies);
        let before = self.consumed.fetch_add(messages, Ordering::SeqCst);
        if before + messages >= self.consumed_wanted.load(Ordering::SeqCst) {
            self.consumed_enough.notify_one();
        }
    }

    pub(super) fn add_foreign(&self, messages: u64) {
        self.foreign.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages that this run did not send.
    pub(super) fn foreign(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// A task cannot go on, so the run is over.
    pub(super) fn add_fatal(&self, text: String) {
        self.add_errors(1, text);
        self.has_failed.store(true, Ordering::Release);
        self.failed.notify_one();
    }

    /// Errors with a text for all of them.
    pub(super) fn add_errors(&self, count: u64, text: String) {
        let mut errors = lock(&self.errors);
        errors.count += count;
        if errors.texts.len() < ERROR_TEXTS_MAX {
            errors.texts.push(text);
        }
    }

    pub(super) fn errors(&self) -> Errors {
        lock(&self.errors).clone()
    }

    /// Returns once a task cannot go on.
    pub(super) async fn failed(&self) {
        while !self.has_failed.load(Ordering::Acquire) {
            self.failed.notified().await;
        }
        // For whoever asks next.
        self.failed.notify_one();
    }

    /// From now on messages that are sent or due count.
    pub(super) fn measure_from(&self, now_ns: u64) {
        self.measured_from_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Returns once `wanted` different messages have been consumed.
    pub(super) async fn consumed(&self, wanted: u64) {
        self.consumed_wanted.store(wanted, Ordering::SeqCst);
        while self.consumed.load(Ordering::SeqCst) < wanted {
            self.consumed_enough.notified().await;
        }
    }

    /// When something last happened.
    pub(super) fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Relaxed)
    }

    pub(super) fn snapshot(&self, at_ns: u64) -> Snapshot {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Snapshot {
            at_ns,
            published: self.published.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
            consumed: self.consumed.load(Ordering::Relaxed),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        }
    }

    /// From publishing to delivery, in nanoseconds.
    pub(super) fn latency(&self) -> Histogram<u64> {
        lock(&self.latency).clone()
    }

    /// From publishing to the confirm, in nanoseconds.
    pub(super) fn confirm_latency(&self) -> Histogram<u64> {
        lock(&self.confirm_latency).clone()
    }

    fn record(&self, histogram: &Mutex<Histogram<u64>>, now_ns: u64, latencies: &Latencies) {
        let measured_from = self.measured_from_ns.load(Ordering::Relaxed);
        // Messages older than this were sent before the measuring began, or belong to another run.
        let Some(longest) = now_ns.checked_sub(measured_from) else { return };
        let mut histogram = lock(histogram);
        for (latency, count) in latencies.iter().filter(|(latency, _)| *latency <= longest) {
            histogram.saturating_record_n(*latency, *count);
        }
    }
}

pub(super) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS).expect("the bounds are sensible")
}

/// Nobody panics while holding one of these locks in the middle of a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_count_from_the_time_on_that_is_measured() {
        let board = Scoreboard::new();
        board.add_consumed(1_000_000, 5, &[(1_000, 5)]);
        assert_eq!(board.latency().len(), 0, "nothing is measured yet");
        board.measure_from(2_000_000);
        board.add_consumed(2_500_000, 3, &[(400_000, 2), (600_000, 1)]);
        let latency = board.latency();
        assert_eq!((latency.len(), board.snapshot(0).consumed), (2, 8), "one was sent before");
        assert!(latency.max().abs_diff(400_000) < 1_000);
    }

    #[test]
    fn errors_are_counted_and_the_first_ones_kept() {
        let board = Scoreboard::new();
        (0..30).for_each(|number| board.add_errors(2, format!("error {number}")));
        let errors = board.errors();
        assert_eq!((errors.count, errors.texts.len()), (60, ERROR_TEXTS_MAX));
        assert_eq!(errors.texts[0], "error 0");
    }

    #[tokio::test]
    async fn waiting_ends_when_enough_was_consumed() {
        let board = Scoreboard::new();
        board.add_consumed(1, 4, &[]);
        board.consumed(4).await;
        let waiting = board.consumed(10);
        let consuming = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
                board.add_consumed(2, 2, &[]);
            }
        };
        tokio::join!(waiting, consuming);
        assert_eq!(board.snapshot(0).consumed, 10);
    }
}
