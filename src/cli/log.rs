//! The broker's own log: lines on standard error, which never hold up the work.
//!
//! A thread writes them. What it cannot write in time, and what one place in the program says too often, is left out, and
//! how much that was is told.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::OptionalWriter;

use super::failure::Failure;
use super::terminal;
use crate::config::{LogFormat, LogLevel, LogOutput};

/// Lines that wait for standard error at most; further ones are left out.
const LINES_WAITING_MAX: usize = 8192;
/// Lines that one place in the program may say in a second; further ones are left out.
const LINES_PER_SECOND_MAX: u32 = 50;
/// How often it is told how many were left out.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The log that was started. Dropped, it writes what waits, for a second at most.
pub(super) struct Log {
    limiter: Arc<Limiter>,
    unwritten: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Logs go to standard error; standard output is for the ready line alone.
    pub(super) fn start(output: LogOutput) -> Result<Self, Failure> {
        let level = match output.level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let (lines, writer) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_WAITING_MAX)
            .thread_name("log lines")
            .finish(io::stderr());
        let limiter = Arc::<Limiter>::default();
        let unwritten = lines.error_counter();
        let limited = Limited { lines, limiter: Arc::clone(&limiter) };
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(limited).with_target(false);
        let started = match output.format {
            LogFormat::Text => log.with_ansi(terminal::stderr_takes_colour()).try_init(),
            LogFormat::Json => log.json().flatten_event(true).try_init(),
        };
        started.map_err(|error| Failure::new(format!("cannot start the log: {error}")))?;
        Ok(Self { limiter, unwritten, _writer: writer })
    }

    /// Tells how many lines were left out, again and again.
    pub(super) fn tell_what_is_left_out(&self) -> impl Future<Output = ()> + use<> {
        let (limiter, unwritten) = (Arc::clone(&self.limiter), self.unwritten.clone());
        async move {
            let mut told = (0, 0);
            loop {
                tokio::time::sleep(TOLD_EVERY).await;
                let now = (limiter.left_out.load(Ordering::Relaxed), unwritten.dropped_lines());
                if now != told {
                    tracing::warn!(
                        repeated = now.0 - told.0,
                        unread = now.1 - told.1,
                        "lines were left out of this log"
                    );
                    told = now;
                }
            }
        }
    }
}

/// Hands lines to the thread that writes them, unless their place in the program has said enough.
struct Limited {
    lines: NonBlocking,
    limiter: Arc<Limiter>,
}

impl<'a> MakeWriter<'a> for Limited {
    type Writer = OptionalWriter<NonBlocking>;

    fn make_writer(&'a self) -> Self::Writer {
        OptionalWriter::some(self.lines.clone())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        if self.limiter.admits(metadata.callsite(), Instant::now()) {
            OptionalWriter::some(self.lines.clone())
        } else {
            OptionalWriter::none()
        }
    }
}

/// Counts lines by their place in the program, of which there is a fixed number.
#[derive(Default)]
struct Limiter {
    seconds: Mutex<HashMap<Identifier, Second>>,
    left_out: AtomicU64,
}

struct Second {
    began: Instant,
    lines: u32,
}

impl Limiter {
    fn admits(&self, place: Identifier, now: Instant) -> bool {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let second = seconds.entry(place).or_insert(Second { began: now, lines: 0 });
        if now.saturating_duration_since(second.began) >= Duration::from_secs(1) {
            *second = Second { began: now, lines: 0 };
        }
        second.lines = second.lines.saturating_add(1);
        let admitted = second.lines <= LINES_PER_SECOND_MAX;
        if !admitted {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;
    use tracing::{Metadata, subscriber::Interest};

    use super::*;

    struct Place;

    impl Callsite for Place {
        fn set_interest(&self, _interest: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("only its address counts")
        }
    }

    #[test]
    fn who_repeats_itself_is_not_heard_until_the_next_second() {
        // Of a size, so that each has an address of its own.
        static PLACES: [(Place, u8); 2] = [(Place, 0), (Place, 1)];
        let [one, other] = [&PLACES[0], &PLACES[1]].map(|(place, _)| Identifier(place));
        let limiter = Limiter::default();
        let now = Instant::now();
        let admitted = (0..1000).filter(|_| limiter.admits(one.clone(), now)).count();
        assert_eq!(admitted, LINES_PER_SECOND_MAX as usize);
        assert!(limiter.admits(other, now), "others are heard");
        assert_eq!(limiter.left_out.load(Ordering::Relaxed), 1000 - admitted as u64);
        assert!(!limiter.admits(one.clone(), now + Duration::from_millis(999)));
        assert!(limiter.admits(one, now + Duration::from_secs(1)));
    }
}
