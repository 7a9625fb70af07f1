//! `leveret simulate`: brokers in memory, driven by seeds through crashes and troubles, and held against their clients' books.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use crate::simulation::{Counters, Outcome, SimulationOptions, simulate};

/// What was typed after `simulate`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The first seed: it decides everything that happens, so that a run can be made again
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to try, one after the other from the first
    #[arg(long, default_value_t = 1, conflicts_with = "until_failure")]
    seeds: u64,
    /// Try seed after seed until one finds a fault
    #[arg(long)]
    until_failure: bool,
    /// Steps of each seed: something that a client, a task, a log or the disk does
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// Which troubles there are
    #[arg(long, value_enum, default_value_t = Faults::All)]
    faults: Faults,
    /// How many of the last things that happened are told of a seed that failed
    #[arg(long, default_value_t = 60)]
    trace: usize,
    /// Seeds that are tried at the same time; as many as there are processors if not given
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// Print an object for each seed, and one for all, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Faults {
    /// The power goes, processes are killed, calls of the disk fail, and it is full
    All,
    /// None: brokers only stop as they are asked to
    None,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let began = Instant::now();
    let seeds = if arguments.until_failure { u64::MAX } else { arguments.seeds };
    let tried = Tried::new(arguments, seeds);
    let processors = available_parallelism().map_or(1, NonZero::get);
    let jobs =
        arguments.jobs.map_or(processors, NonZero::get).min(usize::try_from(seeds).unwrap_or(usize::MAX));
    scope(|scope| {
        let runners: Vec<_> = (0..jobs).map(|_| scope.spawn(|| tried.work())).collect();
        let panicked = |_| Err(Failure::new("the simulation failed over a seed: see above"));
        runners.into_iter().try_for_each(|runner| runner.join().unwrap_or_else(panicked))
    })?;
    tried.report(began)
}

/// Runs that are made, and what came of them.
struct Tried<'a> {
    arguments: &'a Arguments,
    seeds: u64,
    next: AtomicU64,
    failed: AtomicBool,
    found: Mutex<Found>,
    progress: ProgressBar,
}

#[derive(Default)]
struct Found {
    seeds: u64,
    counters: Counters,
    /// The seed that failed, and what came of it.
    failure: Option<(u64, Outcome)>,
}

impl<'a> Tried<'a> {
    fn new(arguments: &'a Arguments, seeds: u64) -> Self {
        Self {
            arguments,
            seeds,
            next: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            found: Mutex::default(),
            progress: if arguments.until_failure {
                ProgressBar::new_spinner()
            } else {
                ProgressBar::new(seeds)
            },
        }
    }

    fn work(&self) -> Result<(), Failure> {
        while !self.failed.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.seeds {
                break;
            }
            let seed = self.arguments.seed.wrapping_add(number);
            let options = SimulationOptions {
                seed,
                steps: self.arguments.steps,
                faults: self.arguments.faults == Faults::All,
                trace_lines: self.arguments.trace,
            };
            if self.note(seed, simulate(options))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn note(&self, seed: u64, outcome: Outcome) -> Result<ControlFlow<()>, Failure> {
        if self.arguments.json {
            output::json_line(&of_seed(seed, &outcome))?;
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.seeds += 1;
        found.counters.add(&outcome.counters);
        self.progress.inc(1);
        if outcome.failure.is_none() {
            return Ok(ControlFlow::Continue(()));
        }
        self.failed.store(true, Ordering::Relaxed);
        // Of several the lowest is told, whichever ended first.
        if found.failure.as_ref().is_none_or(|(other, _)| seed < *other) {
            found.failure = Some((seed, outcome));
        }
        Ok(ControlFlow::Break(()))
    }

    fn report(self, began: Instant) -> Result<(), Failure> {
        self.progress.finish_and_clear();
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let seconds = began.elapsed().as_secs_f64();
        if self.arguments.json {
            let failed = found.failure.as_ref().map(|(seed, _)| seed);
            output::json_line(&json!({
                "seeds": found.seeds,
                "seconds": (seconds * 1000.0).round() / 1000.0,
                "failed_seed": failed,
                "counters": found.counters,
            }))?;
        } else {
            output::text(&table(&found.counters, found.seeds, seconds))?;
        }
        match found.failure {
            None => Ok(()),
            Some((seed, outcome)) => Err(failure(self.arguments, seed, &outcome)),
        }
    }
}

fn of_seed(seed: u64, outcome: &Outcome) -> Value {
    json!({
        "seed": seed,
        "trace": format!("{:016x}", outcome.trace),
        "steps": outcome.counters.steps,
        "failure": outcome.failure.as_ref().map(|failure| json!({ "step": failure.step, "what": failure.what })),
    })
}

/// What happened, how often: a line each.
fn table(counters: &Counters, seeds: u64, seconds: f64) -> String {
    let mut text = format!("{seeds} seeds in {seconds:.1} s\n");
    if let Ok(Value::Object(counts)) = serde_json::to_value(counters) {
        for (name, count) in counts {
            text.push_str(&format!("{count:>14}  {}\n", name.replace('_', " ")));
        }
    }
    text
}

fn failure(arguments: &Arguments, seed: u64, outcome: &Outcome) -> Failure {
    let Some(found) = &outcome.failure else { return Failure::new(format!("seed {seed} failed")) };
    let told = found
        .trace
        .iter()
        .fold(Failure::new(format!("seed {seed}, step {}: {}", found.step, found.what)), |told, line| {
            told.detail(line)
        });
    let faults = if arguments.faults == Faults::None { " --faults none" } else { "" };
    told.hint(format!("leveret simulate --seed {seed} --steps {}{faults}", arguments.steps))
}
