//! The live line: each second, what happened in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::plan::Plan;
use super::report::grouped;
use super::scoreboard::{Scoreboard, Snapshot};
use super::stamp::Clock;
use crate::cli::session::note;

const EVERY: Duration = Duration::from_secs(1);

/// What a run is about at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    Measuring,
    /// Nothing is published any more; what is under way arrives.
    Finishing,
}

/// Prints a line each second until it is dropped.
#[derive(Debug)]
pub(super) struct Meter(JoinHandle<()>);

impl Meter {
    pub(super) fn start(
        plan: &Plan,
        board: Arc<Scoreboard>,
        clock: Clock,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let columns = Columns {
            publishes: plan.producers > 0,
            confirms: plan.confirm_window.is_some(),
            consumes: plan.consumers > 0,
        };
        Self(tokio::spawn(async move {
            let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let started_ns = clock.now_ns();
            let mut before = board.snapshot(started_ns);
            loop {
                ticks.tick().await;
                let now = board.snapshot(clock.now_ns());
                note(&columns.line(started_ns, before, now, *phase.borrow()));
                before = now;
            }
        }))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What there is to tell.
#[derive(Debug, Clone, Copy)]
struct Columns {
    publishes: bool,
    confirms: bool,
    consumes: bool,
}

impl Columns {
    fn line(self, started_ns: u64, before: Snapshot, now: Snapshot, phase: Phase) -> String {
        let rate = |count: fn(&Snapshot) -> u64| grouped(now.rate_since(&before, count));
        let mut line = format!("{:5.0} s", now.seconds_since_ns(started_ns));
        if self.publishes {
            line.push_str(&format!("   published {:>11}/s", rate(|snapshot| snapshot.published)));
        }
        if self.confirms {
            line.push_str(&format!("   confirmed {:>11}/s", rate(|snapshot| snapshot.confirmed)));
        }
        if self.consumes {
            line.push_str(&format!("   consumed {:>11}/s", rate(|snapshot| snapshot.consumed)));
        }
        match phase {
            Phase::WarmUp => line.push_str("   (warm-up)"),
            Phase::Measuring => {}
            Phase::Finishing => line.push_str("   (finishing)"),
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rates_of_its_second() {
        let columns = Columns { publishes: true, confirms: false, consumes: true };
        let before =
            Snapshot { at_ns: 5_000_000_000, published: 1_000, consumed: 500, ..Snapshot::default() };
        let now =
            Snapshot { at_ns: 7_000_000_000, published: 2_469_134, consumed: 500, ..Snapshot::default() };
        assert_eq!(
            columns.line(4_000_000_000, before, now, Phase::WarmUp),
            "    3 s   published   1,234,067/s   consumed           0/s   (warm-up)"
        );
    }
}
