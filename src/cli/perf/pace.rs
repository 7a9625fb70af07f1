//! When each message of a paced run is due, and a thread that wakes producers when theirs are.
//!
//! The timers of the asynchronous runtime count in milliseconds, which is longer than a message takes. So a thread of
//! its own sleeps, to within some ten microseconds, and tells the producers; what it oversleeps counts as latency, since
//! messages are stamped with the time at which they were due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Notify;

use super::plan::Plan;
use super::scoreboard::{lock, new_histogram};
use super::stamp::Clock;

/// Nanoseconds from one waking of producers to the next, at least: at higher rates several messages are due together.
const PAUSE_NS_MIN: u64 = 50_000;

/// Nanoseconds after which the thread looks whether it is still wanted.
const PAUSE_NS_MAX: u64 = 100_000_000;

const SECOND_NS: u128 = 1_000_000_000;

/// Message `n` of all producers together, counted from 0, is due `n / rate` seconds after the start; the producers take
/// turns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) start_ns: u64,
    /// Messages a second, at least 1.
    pub(super) rate: u64,
    producers: u64,
}

impl Schedule {
    pub(super) fn new(plan: &Plan, rate: u64, start_ns: u64) -> Self {
        Self { start_ns, rate, producers: plan.producers as u64 }
    }

    /// When message `index` of a producer, counted from 0, is due.
    pub(super) fn due_ns(&self, producer: usize, index: u64) -> u64 {
        let message = u128::from(index) * u128::from(self.producers) + producer as u128;
        self.start_ns + (message * SECOND_NS / u128::from(self.rate)) as u64
    }

    /// Messages of all producers that are due by now.
    pub(super) fn due_count(&self, now_ns: u64) -> u64 {
        let Some(elapsed) = now_ns.checked_sub(self.start_ns) else { return 0 };
        ((u128::from(elapsed) * u128::from(self.rate)) / SECOND_NS) as u64 + 1
    }

    /// Messages of one producer that are due by now.
    pub(super) fn due_count_of(&self, producer: usize, now_ns: u64) -> u64 {
        (self.due_count(now_ns) + self.producers - 1 - producer as u64) / self.producers
    }
}

/// The thread that wakes producers. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Metronome {
    thread: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    late: Arc<Mutex<Histogram<u64>>>,
}

impl Metronome {
    /// Wakes the producer at each place in `producers` whenever a message of its is due.
    pub(super) fn start(
        clock: Clock,
        schedule: Schedule,
        producers: Vec<Arc<Notify>>,
    ) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let late = Arc::new(Mutex::new(new_histogram()));
        let beat = Beat { clock, schedule, producers, is_over: is_over.clone(), late: late.clone() };
        let thread = std::thread::Builder::new().name("metronome".into()).spawn(move || beat.run())?;
        Ok(Self { thread: Some(thread), is_over, late })
    }

    /// Nanoseconds by which it overslept.
    pub(super) fn late(&self) -> Histogram<u64> {
        lock(&self.late).clone()
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say but that it panicked, which the panic has said already.
            let _ = thread.join();
        }
    }
}

struct Beat {
    clock: Clock,
    schedule: Schedule,
    producers: Vec<Arc<Notify>>,
    is_over: Arc<AtomicBool>,
    late: Arc<Mutex<Histogram<u64>>>,
}

impl Beat {
    fn run(&self) {
        wake_punctually();
        let mut told = 0;
        while !self.is_over.load(Ordering::Acquire) {
            let now = self.clock.now_ns();
            let due = self.schedule.due_count(now);
            if due > told {
                self.wake(told, due);
                told = due;
            }
            let next = self.schedule.due_ns(0, 0).max(self.next_due_ns(told)).max(now + PAUSE_NS_MIN);
            self.sleep_until(next.min(now + PAUSE_NS_MAX));
        }
    }

    /// Wakes the producers of messages `told..due`.
    fn wake(&self, told: u64, due: u64) {
        let producers = self.producers.len() as u64;
        for message in told..due.min(told + producers) {
            self.producers[(message % producers) as usize].notify_one();
        }
    }

    /// When message `count` of all is due.
    fn next_due_ns(&self, count: u64) -> u64 {
        let producers = self.producers.len() as u64;
        self.schedule.due_ns((count % producers) as usize, count / producers)
    }

    fn sleep_until(&self, until_ns: u64) {
        loop {
            let now = self.clock.now_ns();
            if now >= until_ns {
                lock(&self.late).saturating_record(now - until_ns);
                return;
            }
            std::thread::park_timeout(Duration::from_nanos(until_ns - now));
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
        }
    }
}

/// The kernel may let timers of a thread come together to save power, by 50 µs as a rule.
#[cfg(target_os = "linux")]
fn wake_punctually() {
    // Where it is not allowed the lateness that is reported says so.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(not(target_os = "linux"))]
fn wake_punctually() {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_message_is_due_when_it_is_counted_as_due(
            rate in 1u64..10_000_000,
            producers in 1u64..50,
            message in 0u64..1_000_000,
        ) {
            let schedule = Schedule { start_ns: 5_000, rate, producers };
            let due = schedule.due_ns((message % producers) as usize, message / producers);
            // A message may be due a nanosecond before the count, which is rounded down, has it.
            prop_assert!(schedule.due_count(due + 1) > message);
            prop_assert!(due == 5_000 || schedule.due_count(due - 1) <= message);
        }
    }

    #[test]
    fn nothing_is_due_before_the_start() {
        let schedule = Schedule { start_ns: 1_000, rate: 1, producers: 2 };
        assert_eq!(schedule.due_count(999), 0);
        assert_eq!(schedule.due_count(1_000), 1);
        assert_eq!(schedule.due_count(1_000 + 999_999_999), 1);
        assert_eq!(schedule.due_count(1_000 + 1_000_000_000), 2);
        assert_eq!(schedule.due_ns(1, 0), 1_000_001_000);
        assert_eq!(schedule.due_ns(0, 1), 2_000_001_000);
    }

    #[tokio::test]
    async fn the_metronome_wakes_every_producer_in_turn() {
        let clock = Clock::start();
        let schedule = Schedule { start_ns: clock.now_ns(), rate: 1_000, producers: 3 };
        let producers: Vec<Arc<Notify>> = (0..3).map(|_| Arc::default()).collect();
        let metronome = Metronome::start(clock, schedule, producers.clone()).expect("a thread");
        for (index, producer) in producers.iter().enumerate().cycle().take(9) {
            producer.notified().await;
            assert!(clock.now_ns() >= schedule.due_ns(index, 0));
        }
        assert!(!metronome.late().is_empty());
    }
}
