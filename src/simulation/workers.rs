//! What runs beside the tasks of a broker, done when the simulation says so.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::counters::Counters;
use super::logs::{Housekeeping, SharedLog};
use super::random::Random;
use crate::broker::Workers;
use crate::model::Timestamp;
use crate::storage::ShardLog as _;
use crate::storage::testing::SteppedLog;

/// Work, time and logs that wait until they are told to go on.
#[derive(Default)]
pub(super) struct SteppedWorkers(Mutex<State>);

#[derive(Default)]
struct State {
    now_ms: u64,
    work: Vec<Box<dyn FnOnce() + Send>>,
    /// Work that rests, and until when.
    resting: Vec<(u64, Box<dyn FnOnce() + Send>)>,
    /// Who sleeps, and until when.
    sleepers: Vec<(u64, oneshot::Sender<()>)>,
    logs: Vec<SharedLog>,
    counts: Housekeeping,
}

impl SteppedWorkers {
    /// Workers whose time begins at `now_ms`.
    pub(super) fn at(now_ms: u64) -> Self {
        Self(Mutex::new(State { now_ms, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what waits: work holds logs, and logs hold these workers.
    pub(super) fn end(&self) {
        let mut state = self.state();
        let now_ms = state.now_ms;
        let waiting = std::mem::replace(&mut *state, State { now_ms, ..State::default() });
        drop(state);
        drop(waiting);
    }

    pub(super) fn add_log(&self, log: SharedLog) {
        self.state().logs.push(log);
    }

    pub(super) fn count<T>(&self, note: impl FnOnce(&mut Housekeeping) -> T) -> T {
        note(&mut self.state().counts)
    }

    /// What was asked of the logs since this was last asked.
    pub(super) fn take_counts(&self) -> Housekeeping {
        std::mem::take(&mut self.state().counts)
    }

    /// Adds them up.
    pub(super) fn take_counts_into(&self, counters: &mut Counters) {
        counters.note(self.take_counts());
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.state().now_ms)
    }

    /// Lets time pass and wakes who has slept long enough.
    pub(super) fn advance(&self, millis: u64) {
        let mut state = self.state();
        state.now_ms += millis;
        let now_ms = state.now_ms;
        let (due, rest) =
            std::mem::take(&mut state.sleepers).into_iter().partition(|(until, _)| *until <= now_ms);
        state.sleepers = rest;
        state.sleepers.retain(|(_, sleeper)| !sleeper.is_closed());
        let rested = state.resting.extract_if(.., |(until, _)| *until <= now_ms);
        let rested: Vec<_> = rested.map(|(_, work)| work).collect();
        state.work.extend(rested);
        drop(state);
        // Who was to be woken may have been woken by something else.
        let due: Vec<(u64, oneshot::Sender<()>)> = due;
        for (_, sleeper) in due {
            let _ = sleeper.send(());
        }
    }

    /// Milliseconds until the next one who sleeps is to be woken, or work has rested.
    pub(super) fn next_in(&self) -> Option<u64> {
        let state = self.state();
        let awake = state.sleepers.iter().filter(|(_, sleeper)| !sleeper.is_closed());
        let resting = state.resting.iter().map(|(until, _)| until);
        awake.map(|(until, _)| until).chain(resting).min().map(|until| until.saturating_sub(state.now_ms))
    }

    /// Does one piece of the work that waits; `false`: there is none.
    pub(super) fn work(&self, random: &mut Random) -> bool {
        let mut state = self.state();
        if state.work.is_empty() {
            return false;
        }
        let index = random.below(state.work.len());
        let work = state.work.remove(index);
        drop(state);
        work();
        true
    }

    /// Has one log write what waits in it, or rest if nothing does. `true`: it wrote something.
    pub(super) fn step_log(&self, random: &mut Random) -> bool {
        let logs = self.state().logs.clone();
        if logs.is_empty() {
            return false;
        }
        let log = &logs[random.below(logs.len())];
        step(&mut log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether work waits to be done, or to have rested.
    pub(super) fn has_work(&self) -> bool {
        let state = self.state();
        !state.work.is_empty() || !state.resting.is_empty()
    }

    /// Whether something that is half done rests.
    pub(super) fn is_resting(&self) -> bool {
        !self.state().resting.is_empty()
    }

    /// Whether something waits to be written.
    pub(super) fn is_writing(&self) -> bool {
        let logs = self.state().logs.clone();
        logs.iter().any(|log| !log.lock().unwrap_or_else(PoisonError::into_inner).idle())
    }

    /// Bytes of the segments of each log.
    pub(super) fn segments_bytes(&self) -> Vec<Vec<u64>> {
        let logs = self.state().logs.clone();
        let bytes = |log: &SharedLog| {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.segments().iter().map(|segment| segment.bytes).collect()
        };
        logs.iter().map(bytes).collect()
    }

    /// Has all logs write what waits in them. `true`: there was something.
    pub(super) fn step_logs(&self) -> bool {
        let logs = self.state().logs.clone();
        let stepped = logs.iter().map(|log| step(&mut log.lock().unwrap_or_else(PoisonError::into_inner)));
        stepped.fold(false, |any, did| any | did)
    }
}

/// A failure is in the log, where its owner finds it.
fn step(log: &mut SteppedLog) -> bool {
    let is_idle = log.idle();
    let stepped = if is_idle { log.rest() } else { log.step() };
    !is_idle && stepped.is_ok() && log.idle()
}

impl Workers for SteppedWorkers {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        self.state().work.push(work);
    }

    fn run_later(&self, pause: Duration, work: Box<dyn FnOnce() + Send>) {
        let mut state = self.state();
        let until = state.now_ms + pause.as_millis() as u64;
        state.resting.push((until, work));
    }

    fn sleep(&self, pause: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (sleeper, woken) = oneshot::channel();
        let mut state = self.state();
        let until = state.now_ms + pause.as_millis() as u64;
        state.sleepers.push((until, sleeper));
        Box::pin(async move {
            // With the broker that it sleeps for.
            let _ = woken.await;
        })
    }
}
