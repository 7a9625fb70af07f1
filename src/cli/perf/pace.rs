//! When each message of a paced run is due, and a metronome that wakes a producer when its next one is.
//!
//! The timers of the asynchronous runtime count in milliseconds, which is longer than a message takes. On Linux an alarm
//! is a timer of the kernel that the runtime polls as it polls sockets, so that it rings in the very thread that sends,
//! to within some ten microseconds. What it rings late counts as latency, since messages are stamped with the time at
//! which they were due. One alarm serves all producers: a timer for each would cost more than what many small clients send.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Notify;

use super::plan::Plan;
use super::scoreboard::{lock, new_histogram};
use super::stamp::Clock;

/// Nanoseconds for which an alarm is set, at least: at higher rates several messages are due together.
const PAUSE_NS_MIN: u64 = 50_000;

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

/// By how many nanoseconds alarms rang late.
#[derive(Debug, Clone)]
pub(super) struct Lateness(Arc<Mutex<Histogram<u64>>>);

impl Lateness {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(new_histogram())))
    }

    pub(super) fn histogram(&self) -> Histogram<u64> {
        lock(&self.0).clone()
    }
}

/// Wakes producers whose messages are due.
#[derive(Debug)]
pub(super) struct Metronome {
    schedule: Schedule,
    clock: Clock,
    alarm: Alarm,
    /// One for each producer.
    beats: Vec<Arc<Notify>>,
}

impl Metronome {
    pub(super) fn new(schedule: Schedule, clock: Clock, lateness: Lateness) -> io::Result<Self> {
        let beats = (0..schedule.producers).map(|_| Arc::default()).collect();
        Ok(Self { schedule, clock, alarm: Alarm::new(clock, lateness)?, beats })
    }

    /// What tells a producer that something of its is due since it looked last.
    pub(super) fn beat(&self, producer: usize) -> Arc<Notify> {
        Arc::clone(&self.beats[producer])
    }

    /// Beats until it is dropped, or a timer fails.
    pub(super) async fn run(mut self) -> io::Error {
        let producers = self.schedule.producers;
        let mut told = 0;
        loop {
            let due = self.schedule.due_count(self.clock.now_ns()).max(told);
            // However late it is, it tells each once.
            for message in told.max(due.saturating_sub(producers))..due {
                self.beats[(message % producers) as usize].notify_one();
            }
            told = due;
            let next_ns = self.schedule.due_ns((due % producers) as usize, due / producers);
            if let Err(error) = self.alarm.sleep_until(next_ns).await {
                return error;
            }
        }
    }
}

/// Rings when a message is due.
#[derive(Debug)]
struct Alarm {
    timer: Timer,
    clock: Clock,
    lateness: Lateness,
}

impl Alarm {
    fn new(clock: Clock, lateness: Lateness) -> io::Result<Self> {
        Ok(Self { timer: Timer::new()?, clock, lateness })
    }

    /// Returns at `due_ns`, or [`PAUSE_NS_MIN`] from now if that is later. It may be dropped before.
    async fn sleep_until(&mut self, due_ns: u64) -> io::Result<()> {
        let mut now_ns = self.clock.now_ns();
        let ring_ns = due_ns.max(now_ns + PAUSE_NS_MIN);
        while now_ns < ring_ns {
            self.timer.sleep(Duration::from_nanos(ring_ns - now_ns)).await?;
            now_ns = self.clock.now_ns();
        }
        lock(&self.lateness.0).saturating_record(now_ns - ring_ns);
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe: it wants the promise that a descriptor stays open, as an owned one does"
        )]
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
        }

        /// Returns after `pause`, which is not 0, or early.
        pub(super) async fn sleep(&mut self, pause: Duration) -> io::Result<()> {
            let once = Timespec { tv_sec: 0, tv_nsec: 0 };
            let pause = Timespec::try_from(pause).map_err(io::Error::other)?;
            let setting = Itimerspec { it_interval: once, it_value: pause };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &setting)?;
            // Nothing is read: setting the timer again takes back that it has rung.
            self.0.readable().await?.clear_ready();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::io;
    use std::time::Duration;

    #[derive(Debug)]
    pub(super) struct Timer;

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Returns after `pause`, rounded up to whole milliseconds.
        pub(super) async fn sleep(&mut self, pause: Duration) -> io::Result<()> {
            tokio::time::sleep(pause).await;
            Ok(())
        }
    }
}

use timer::Timer;

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
    async fn a_metronome_beats_for_each_producer_when_its_message_is_due_and_not_before() {
        let clock = Clock::start();
        let schedule = Schedule { start_ns: clock.now_ns(), rate: 1_000, producers: 3 };
        let metronome = Metronome::new(schedule, clock, Lateness::new()).expect("a timer");
        let beats: Vec<_> = (0..3).map(|producer| metronome.beat(producer)).collect();
        let beating = tokio::spawn(metronome.run());
        for message in 0..10 {
            let producer = message % 3;
            while schedule.due_count_of(producer, clock.now_ns()) as usize <= message / 3 {
                beats[producer].notified().await;
            }
            assert!(clock.now_ns() >= schedule.due_ns(producer, message as u64 / 3));
        }
        beating.abort();
    }

    #[tokio::test]
    async fn an_alarm_rings_when_it_should_and_can_be_set_again() {
        let clock = Clock::start();
        let lateness = Lateness::new();
        let mut alarm = Alarm::new(clock, lateness.clone()).expect("a timer");
        for pause_ns in [200_000, 1, 3_000_000, 0] {
            let due_ns = clock.now_ns() + pause_ns;
            // What is given up must not ring later.
            tokio::select! {
                biased;
                _ = alarm.sleep_until(due_ns) => panic!("it rings early"),
                () = std::future::ready(()) => {}
            }
            alarm.sleep_until(due_ns).await.expect("it rings");
            assert!(clock.now_ns() >= due_ns);
        }
        assert_eq!(lateness.histogram().len(), 4);
    }
}
