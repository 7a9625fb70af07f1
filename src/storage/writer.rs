//! The thread that writes a log.
//!
//! A log blocks its writer for as long as the disk takes, so each log on a disk has one thread of its own. This file
//! is the named exception to the rule that storage knows neither threads nor clocks.

use std::{
    io,
    sync::{Arc, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Batch, LogFailure, LogRoom,
    appender::Appender,
    handover::{Committed, Handover},
};

/// A running writer. It ends when the handover is closed and everything in it is durable, or when the log fails.
pub(super) struct Writer(JoinHandle<()>);

impl Writer {
    pub(super) fn start(appender: Appender, handover: Arc<Handover>, quiet: Duration) -> io::Result<Self> {
        let name = format!("log {}", appender.directory.file_name().unwrap_or_default().to_string_lossy());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let guard = StoppedUnasked(&handover);
            // A failure is in the handover already, where the owner finds it.
            let _ = run(appender, &handover, quiet);
            std::mem::forget(guard);
        })?;
        Ok(Self(thread))
    }

    /// Waits until the writer has ended.
    pub(super) fn join(self) {
        // A panic of the thread was reported as a failure by its guard.
        let _ = self.0.join();
    }
}

/// Reports a writer that unwinds, so that its owner does not wait for ever.
struct StoppedUnasked<'a>(&'a Handover);

impl Drop for StoppedUnasked<'_> {
    fn drop(&mut self) {
        self.0.fail(LogFailure::WriterStopped);
    }
}

/// Group commit: take everything there is, make it durable, look again. No timer decides how large a group is; while
/// the disk works, the next group piles up.
fn run(mut appender: Appender, handover: &Handover, quiet: Duration) -> Result<(), LogFailure> {
    let mut group = Vec::new();
    let mut looked_for_room = Instant::now();
    let mut rolled = (appender.first_index, Instant::now());
    loop {
        let keeps_spares = appender.spares.are_wanted();
        let patience = match (appender.mark_is_due(), appender.reserve.is_held()) {
            (true, _) => Some(quiet),
            (false, false) => Some(LOOK_FOR_ROOM),
            (false, true) => keeps_spares.then_some(KEEP_SPARES),
        };
        match next(handover, &mut group, patience) {
            Next::Commit => {
                while handover.commit(&mut appender, &mut group)? == Committed::Waits {
                    let closing = wait_for_room(handover);
                    if closing {
                        return give_up(&mut appender, handover, &mut group);
                    }
                }
            }
            Next::Quiet => appender.mark().map_err(|error| handover.fail(error.into()))?,
            Next::End => break,
        }
        if rolled.0 != appender.first_index {
            rolled = (appender.first_index, Instant::now());
        } else if keeps_spares && rolled.1.elapsed() >= KEEP_SPARES {
            appender.spares.give_up();
        }
        // Also while there is always something to write: settlements come all the time, and others wait for this.
        if !appender.reserve.is_held() && looked_for_room.elapsed() >= LOOK_FOR_ROOM {
            looked_for_room = Instant::now();
            appender.reserve.renew();
            handover.set_room(appender.room());
        }
    }
    appender.spares.give_up();
    appender.mark_durably().map_err(|error| handover.fail(error.into()))
}

/// How long spare segments are kept after the last one was begun: a log that fills one in less time has use for them.
const KEEP_SPARES: Duration = Duration::from_secs(5);

/// How often a log looks whether a disk that was full has room again.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);

/// Sleeps until it is time to look again, or the log is to be closed; then `true`.
fn wait_for_room(handover: &Handover) -> bool {
    let mut waiting = handover.lock();
    let until = Instant::now() + LOOK_FOR_ROOM;
    while !waiting.closing {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        waiting.writer_sleeps = true;
        (waiting, _) = handover.wake.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
        waiting.writer_sleeps = false;
    }
    waiting.closing
}

/// The last try of a log that is closed while the disk is full: there will be nobody to wait for room.
fn give_up(appender: &mut Appender, handover: &Handover, group: &mut Vec<Batch>) -> Result<(), LogFailure> {
    loop {
        if handover.commit(appender, group)? == Committed::Waits {
            return match handover.progress().room {
                LogRoom::None(error) => Err(handover.fail(LogFailure::DiskFull(error))),
                LogRoom::Enough | LogRoom::ReserveInUse => Err(handover.fail(LogFailure::WriterStopped)),
            };
        }
        std::mem::swap(&mut handover.lock().batches, group);
        if group.is_empty() {
            return appender.mark_durably().map_err(|error| handover.fail(error.into()));
        }
    }
}

enum Next {
    /// There are batches, now in the group.
    Commit,
    /// Nothing came for a while.
    Quiet,
    /// Nothing will come.
    End,
}

/// Sleeps until there is something to do; if `quiet` is given, no longer than that.
fn next(handover: &Handover, group: &mut Vec<Batch>, quiet: Option<Duration>) -> Next {
    let mut waiting = handover.lock();
    loop {
        if !waiting.batches.is_empty() {
            std::mem::swap(&mut waiting.batches, group);
            return Next::Commit;
        }
        if waiting.closing {
            return Next::End;
        }
        waiting.writer_sleeps = true;
        let timed_out;
        (waiting, timed_out) = match quiet {
            Some(quiet) => {
                let woken = handover.wake.wait_timeout(waiting, quiet);
                let (waiting, result) = woken.unwrap_or_else(PoisonError::into_inner);
                (waiting, result.timed_out())
            }
            None => (handover.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner), false),
        };
        waiting.writer_sleeps = false;
        if timed_out && waiting.batches.is_empty() && !waiting.closing {
            return Next::Quiet;
        }
    }
}
