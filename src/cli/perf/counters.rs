//! What all parts of the load count together.

use std::ops::Sub;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counters and the signals that start and stop the load.
#[derive(Debug)]
pub(super) struct Counters {
    published: AtomicU64,
    confirmed: AtomicU64,
    consumed: AtomicU64,
    /// Nanoseconds that producers waited for the broker, and consumers for messages.
    producers_waited: AtomicU64,
    consumers_waited: AtomicU64,
    /// What stamps in messages count from.
    epoch: Instant,
    started: Mutex<Instant>,
    measuring: AtomicBool,
    producing: AtomicBool,
    consuming: AtomicBool,
    failed: AtomicBool,
}

/// Counts of one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Snapshot {
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) consumed: u64,
    /// Time that producers waited for the broker, all together.
    pub(super) producers_waited: Duration,
    /// Time that consumers waited for messages, all together.
    pub(super) consumers_waited: Duration,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            producers_waited: AtomicU64::new(0),
            consumers_waited: AtomicU64::new(0),
            epoch: Instant::now(),
            started: Mutex::new(Instant::now()),
            measuring: AtomicBool::new(false),
            producing: AtomicBool::new(true),
            consuming: AtomicBool::new(true),
            failed: AtomicBool::new(false),
        }
    }

    /// Microseconds on the clock of this run.
    pub(super) fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    pub(super) fn start(&self) {
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// The warm-up is over.
    pub(super) fn measure(&self) {
        self.measuring.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }

    pub(super) fn stop_producing(&self) {
        self.producing.store(false, Ordering::Relaxed);
        self.measuring.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_producing(&self) -> bool {
        self.producing.load(Ordering::Relaxed)
    }

    pub(super) fn stop_consuming(&self) {
        self.consuming.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_consuming(&self) -> bool {
        self.consuming.load(Ordering::Relaxed)
    }

    /// A part of the load cannot go on: all shall end.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn add_published(&self, count: u64) {
        self.published.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn add_confirmed(&self, count: u64) {
        self.confirmed.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    pub(super) fn add_consumed(&self, count: u64) -> u64 {
        self.consumed.fetch_add(count, Ordering::Relaxed) + count
    }

    pub(super) fn add_producer_wait(&self, waited: Duration) {
        self.producers_waited.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn add_consumer_wait(&self, waited: Duration) {
        self.consumers_waited.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            published: self.published.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
            consumed: self.consumed.load(Ordering::Relaxed),
            producers_waited: Duration::from_nanos(self.producers_waited.load(Ordering::Relaxed)),
            consumers_waited: Duration::from_nanos(self.consumers_waited.load(Ordering::Relaxed)),
        }
    }
}

impl Sub for Snapshot {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            published: self.published - earlier.published,
            confirmed: self.confirmed - earlier.confirmed,
            consumed: self.consumed - earlier.consumed,
            producers_waited: self.producers_waited - earlier.producers_waited,
            consumers_waited: self.consumers_waited - earlier.consumers_waited,
        }
    }
}
