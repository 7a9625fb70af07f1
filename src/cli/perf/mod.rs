//! `leveret perf`: how fast a broker is, measured by a client that checks what it gets.
//!
//! Owns the load, the clocks and the books; the broker is used as by any other client. Start reading at [`run`];
//! `plan.rs` says what the flags mean, `stamp.rs` what is in a message, `tally.rs` how loss and disorder are found.

mod consumer;
mod counters;
mod plan;
mod producer;
mod report;
mod stamp;
mod tally;
mod topology;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use self::consumer::{Tap, Tapped};
use self::counters::{Counters, Snapshot};
use self::plan::Plan;
use self::producer::{Produced, Producer, Stream};
use self::report::Report;
use self::topology::Topology;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output;
use super::session::note;
use crate::client::Connection;

pub(super) use self::plan::Arguments;

/// Consumers have lost what did not come for so long after everything was published.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let json = arguments.json;
    let plan = Plan::new(arguments)?;
    let report = runtime()?.block_on(measure(plan))?;
    match json {
        true => output::json_line(&report.json())?,
        false => output::text(&report.text())?,
    }
    report.verdict()
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(std::env::var("W").map_or(2, |w| w.parse().unwrap()))
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::new(format!("cannot start threads: {error}")))
}

async fn measure(plan: Plan) -> Result<Report, Failure> {
    let plan = Arc::new(plan);
    let connection = Connection::connect(plan.options.clone()).await?;
    plan.check_against(&connection.server())?;
    let channel = connection.channel().await?;
    let topology = Topology::declare(&channel, &plan).await?;
    let measured = load(&plan).await;
    let deleted = if plan.keep { Ok(()) } else { topology.delete(&channel).await };
    let report = measured?;
    deleted?;
    connection.close().await?;
    Ok(report)
}

/// Starts everything, waits for the end, collects the books.
async fn load(plan: &Arc<Plan>) -> Result<Report, Failure> {
    let counters = Arc::new(Counters::new());
    let mut interrupt = Interrupt::listen()?;
    let mut taps: JoinSet<Result<Tapped, Failure>> = JoinSet::new();
    for consumer in 0..plan.consumers {
        let connection = Connection::connect(plan.options.clone()).await?;
        for queue in plan.queues_of_consumer(consumer) {
            let tap = Tap::open(&connection, plan, queue).await?;
            taps.spawn(tap.run(Arc::clone(plan), Arc::clone(&counters), connection.clone()));
        }
    }
    let mut producers: JoinSet<Result<Produced, Failure>> = JoinSet::new();
    let mut waiting = Vec::new();
    for producer in 0..plan.producers {
        let connection = Connection::connect(plan.options.clone()).await?;
        let streams = Stream::open_all(&connection, plan, producer).await?;
        let count = plan.count_of_producer(producer);
        waiting.push(Producer::new(Arc::clone(plan), Arc::clone(&counters), streams, connection, count));
    }
    counters.start();
    for producer in waiting {
        producers.spawn(producer.run());
    }

    let (window, ended) = {
        let window = watch(plan, &counters, &mut producers, &mut taps);
        tokio::select! {
            window = window => (window?, true),
            () = interrupt.requested() => (Window::interrupted(&counters), false),
        }
    };
    counters.stop_producing();
    let produced = collect(&mut producers).await?;
    if ended {
        drain(plan, &counters, &mut taps).await?;
    }
    counters.stop_consuming();
    let tapped = collect(&mut taps).await?;
    Ok(Report::new(plan, window, produced, tapped, ended))
}

/// What was counted between the end of the warm-up and the end of the load.
struct Window {
    seconds: f64,
    counts: Snapshot,
}

impl Window {
    fn between(start: (Instant, Snapshot), end: (Instant, Snapshot)) -> Self {
        Self { seconds: (end.0 - start.0).as_secs_f64(), counts: end.1 - start.1 }
    }

    fn interrupted(counters: &Counters) -> Self {
        Self { seconds: counters.elapsed().as_secs_f64(), counts: counters.snapshot() }
    }
}

/// Tells each second how it goes, until the time is over or everything is done.
async fn watch(
    plan: &Plan,
    counters: &Counters,
    producers: &mut JoinSet<Result<Produced, Failure>>,
    taps: &mut JoinSet<Result<Tapped, Failure>>,
) -> Result<Window, Failure> {
    let begin = Instant::now();
    let warm = begin + plan.warmup;
    let end = plan.seconds.map(|seconds| warm + seconds);
    let mut start = if plan.warmup.is_zero() { Some((begin, counters.snapshot())) } else { None };
    if start.is_some() {
        counters.measure();
    }
    let mut line = (begin, counters.snapshot());
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let now = Instant::now();
        if start.is_none() && now >= warm {
            counters.measure();
            start = Some((now, counters.snapshot()));
        }
        if now - line.0 >= Duration::from_secs(1) {
            let counts = counters.snapshot();
            tell(&Window::between(line, (now, counts)), now - begin, start.is_none());
            line = (now, counts);
        }
        let counts = counters.snapshot();
        let is_over = end.is_some_and(|end| now >= end) || plan.is_done(counts) || counters.has_failed();
        if is_over || (producers.is_empty() && plan.producers > 0) || (taps.is_empty() && plan.consumers > 0)
        {
            return Ok(Window::between(start.unwrap_or((begin, Snapshot::default())), (now, counts)));
        }
    }
}

fn tell(window: &Window, since: Duration, is_warming: bool) {
    let rate = |count: u64| count as f64 / window.seconds;
    let warming = if is_warming { "  (warming up)" } else { "" };
    note(&format!(
        "{:>4.0} s  published {:>10.0}/s  confirmed {:>10.0}/s  consumed {:>10.0}/s{warming}",
        since.as_secs_f64(),
        rate(window.counts.published),
        rate(window.counts.confirmed),
        rate(window.counts.consumed),
    ));
}

/// Waits until the consumers have everything, or nothing comes any more.
async fn drain(
    plan: &Plan,
    counters: &Counters,
    taps: &mut JoinSet<Result<Tapped, Failure>>,
) -> Result<(), Failure> {
    if plan.consumers == 0 || plan.producers == 0 {
        return Ok(());
    }
    let mut seen = (Instant::now(), counters.snapshot().consumed);
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let counts = counters.snapshot();
        if counts.consumed >= plan.deliveries_of(counts.published) || taps.is_empty() || counters.has_failed()
        {
            return Ok(());
        }
        if counts.consumed != seen.1 {
            seen = (Instant::now(), counts.consumed);
        } else if seen.0.elapsed() > PATIENCE {
            return Ok(());
        }
    }
}

async fn collect<T: 'static>(tasks: &mut JoinSet<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    let mut results = Vec::new();
    while let Some(result) = tasks.join_next().await {
        let result = result.map_err(|error| Failure::new(format!("a part of the load failed: {error}")))?;
        results.push(result?);
    }
    Ok(results)
}
