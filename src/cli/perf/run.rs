//! The course of a run: make what is needed, start consumers, then producers, measure, let everything arrive, count,
//! tidy up.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::consumer::Taker;
use super::meter::{Meter, Phase};
use super::pace::{Lateness, Metronome, Schedule};
use super::plan::{End, Plan};
use super::producer::{Outcome, Pace, Producer, Shared};
use super::report::Results;
use super::scoreboard::{Scoreboard, Snapshot, lock};
use super::stamp::Clock;
use super::tally::{Faults, QueueTally};
use super::topology::Topology;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::open_files::allow_open_files;
use crate::cli::session::Target;
use crate::client::{Channel, ConnectOptions, Connection};

/// Files that a run has open besides its connections and the timers of its producers.
const FILES_BESIDE: u64 = 64;

/// When nothing has happened for so long, nothing more will come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time between two looks at a queue that is being filled.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs a plan to its end.
pub(super) fn run(plan: &Plan, target: &Target) -> Result<Results, Failure> {
    // If a connection breaks the run is over: what it would measure afterwards is something else.
    let options = target.options()?.no_reconnect();
    check_open_files(plan)?;
    let runtime = Builder::new_multi_thread().worker_threads(plan.threads).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start threads", &error))?;
    runtime.block_on(run_on_broker(plan, options))
}

/// Many systems allow 1,024 files unless a process asks for more, and every connection is one.
fn check_open_files(plan: &Plan) -> Result<(), Failure> {
    let needed = plan.connections_in_all() as u64 + FILES_BESIDE;
    let allowed = allow_open_files(needed)
        .map_err(|error| Failure::io("cannot raise the limit of open files", &error))?;
    if allowed < needed {
        return Err(Failure::new(format!(
            "this process may have {allowed} files open, and the run needs {needed}"
        ))
        .hint("give fewer --connections, or raise the limit with `ulimit -n`"));
    }
    Ok(())
}

async fn run_on_broker(plan: &Plan, options: ConnectOptions) -> Result<Results, Failure> {
    let interrupt = Interrupt::listen()?;
    let number = getrandom::u32().map_err(|error| Failure::new(format!("no random number: {error}")))?;
    let connection = Connection::connect(options.clone()).await?;
    let channel = connection.channel().await?;
    let offer = connection.server();
    if plan.producers > 0 && plan.size_bytes as u64 > offer.message_bytes_max {
        return Err(Failure::usage(format!(
            "--size {}: this broker takes messages of {} bytes at most",
            plan.size_bytes, offer.message_bytes_max
        ))
        .hint("message_bytes_max in the broker's configuration sets this"));
    }
    let topology = Topology::make(&channel, plan, &format!("{number:08x}"), offer.durability).await?;
    let course = Course { plan, options, topology: &topology, control: &channel, run: number as u16 };
    let results = course.run(interrupt).await;
    let tidied = if plan.keeps { Ok(()) } else { topology.delete(&channel).await };
    let mut results = results?;
    if let Err(failure) = tidied {
        results.errors.count += 1;
        results.errors.texts.push(format!("cannot tidy up: {}", failure.text()));
    }
    // Everything is told and counted already.
    let _ = connection.close().await;
    Ok(results)
}

/// A run whose queues are there.
struct Course<'a> {
    plan: &'a Plan,
    options: ConnectOptions,
    topology: &'a Topology,
    control: &'a Channel,
    run: u16,
}

/// Connections of producers or of consumers, and a channel for each of these.
#[derive(Default)]
struct Channels {
    connections: Vec<Connection>,
    channels: Vec<Channel>,
}

impl Channels {
    async fn close(&mut self) {
        self.channels.clear();
        for connection in self.connections.drain(..) {
            // One that broke has been told already.
            let _ = connection.close().await;
        }
    }
}

/// Where the measuring began and ended.
struct Measured {
    begin: Snapshot,
    end: Snapshot,
    is_interrupted: bool,
}

/// Producers that run, and what became of those that have ended.
#[derive(Default)]
struct Producing {
    running: JoinSet<Outcome>,
    ended: Vec<Outcome>,
}

impl Producing {
    /// Returns once all have ended. It may be asked again if it was not waited for.
    async fn all_ended(&mut self) {
        while let Some(outcome) = self.running.join_next().await {
            self.ended.push(outcome.expect("a producer does not panic"));
        }
    }
}

/// What came out of the queues, or stayed there.
#[derive(Debug, Default)]
struct Arrived {
    /// `None`: it cannot be known.
    lost: Option<u64>,
    faults: Faults,
    left_in_queues: Option<u64>,
}

/// The queues' tallies, in their order.
type Tallies = Vec<Arc<Mutex<QueueTally>>>;

impl Course<'_> {
    async fn run(&self, interrupt: Interrupt) -> Result<Results, Failure> {
        let (stop_sender, stop) = watch::channel(false);
        let shared =
            Shared { clock: Clock::start(), board: Arc::new(Scoreboard::new()), stop, run: self.run };
        let tallies: Tallies = (0..self.plan.queues).map(|_| Arc::default()).collect();
        let mut consuming = self.connect("consumer", self.plan.consumers_in_all()).await?;
        let empty = shared.board.snapshot(shared.clock.now_ns());
        let mut consumers = self.start_consumers(&consuming.channels, &tallies, &shared).await?;
        let mut publishing = self.connect("producer", self.plan.producers).await?;
        let mut producers = self.open_producers(&publishing.channels, &shared).await?;

        let (phase_sender, phase) = watch::channel(Phase::Measuring);
        let meter = Meter::start(self.plan, shared.board.clone(), shared.clock, phase);
        // Ends when it is dropped, after the producers.
        let mut pacing = JoinSet::new();
        let lateness = self.pace(&mut producers, &shared, &mut pacing)?;
        // What is drained comes as soon as there are consumers.
        let started = match self.plan.is_drain() {
            true => empty,
            false => shared.board.snapshot(shared.clock.now_ns()),
        };
        let mut producing = Producing::default();
        for producer in producers {
            producing.running.spawn(producer.run());
        }
        let mut measured = self.measure(started, &shared, &phase_sender, &mut producing, interrupt).await;
        let late = lateness.as_ref().map(Lateness::histogram);
        phase_sender.send_replace(Phase::Finishing);
        stop_sender.send_replace(true);

        let outcomes = finish_producers(producing, &shared.board).await;
        let arrived = self.finish_consumers(&outcomes, &tallies, &shared.board).await?;
        drop(meter);
        consumers.shutdown().await;
        publishing.close().await;
        consuming.close().await;
        if let End::Count(_) = self.plan.end {
            measured.end.at_ns = shared.board.last_ns().max(measured.begin.at_ns);
            measured.end = Snapshot {
                cpu_seconds: measured.end.cpu_seconds,
                ..shared.board.snapshot(measured.end.at_ns)
            };
        }
        Ok(self.results(measured, &shared, &outcomes, arrived, late))
    }

    async fn start_consumers(
        &self,
        channels: &[Channel],
        tallies: &Tallies,
        shared: &Shared,
    ) -> Result<JoinSet<()>, Failure> {
        let quota = match self.plan.end {
            End::Count(count) if self.plan.is_drain() => count,
            _ => u64::MAX,
        };
        let quota = Arc::new(AtomicU64::new(quota));
        let mut consumers = JoinSet::new();
        for subscription in self.plan.subscriptions() {
            let channel = &channels[subscription.consumer];
            let tally = tallies[subscription.queue].clone();
            let queue = self.topology.queue(subscription.queue);
            let taker = Taker::start(channel, self.plan, queue, tally, quota.clone(), shared).await?;
            consumers.spawn(taker.run());
        }
        Ok(consumers)
    }

    async fn open_producers(&self, channels: &[Channel], shared: &Shared) -> Result<Vec<Producer>, Failure> {
        let mut producers = Vec::with_capacity(channels.len());
        for (index, channel) in channels.iter().enumerate() {
            let quota = match self.plan.end {
                End::Count(count) => self.plan.share_of(index, count),
                End::Time { .. } => u64::MAX,
            };
            let producer = Producer::open(channel, self.plan, self.topology, index, quota, shared);
            producers.push(producer.await?);
        }
        Ok(producers)
    }

    /// A channel for each, on connections of their own as far as that goes.
    async fn connect(&self, what: &str, count: usize) -> Result<Channels, Failure> {
        let mut connected = Channels::default();
        for index in 0..count {
            if index < self.plan.connections {
                let options = self.options.clone().connection_name(format!("leveret perf {what} {index}"));
                connected.connections.push(Connection::connect(options).await?);
            }
            let connection = &connected.connections[index % self.plan.connections];
            connected.channels.push(connection.channel().await?);
        }
        Ok(connected)
    }

    /// Has producers send when their messages are due, told by a task among `tasks`.
    fn pace(
        &self,
        producers: &mut [Producer],
        shared: &Shared,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<Lateness>, Failure> {
        let Some(rate) = self.plan.rate else { return Ok(None) };
        let schedule = Schedule::new(self.plan, rate, shared.clock.now_ns());
        let lateness = Lateness::new();
        let metronome = Metronome::new(schedule, shared.clock, lateness.clone())
            .map_err(|error| Failure::io("cannot make a timer", &error))?;
        for (index, producer) in producers.iter_mut().enumerate() {
            producer.pace(Pace { schedule, beat: metronome.beat(index), producer: index });
        }
        let board = shared.board.clone();
        tasks.spawn(async move {
            let error = metronome.run().await;
            board.add_fatal(Failure::io("the timer failed", &error).text());
        });
        Ok(Some(lateness))
    }

    /// Lets it run until it has run long enough, has done enough, fails, or somebody wants it to stop.
    async fn measure(
        &self,
        started: Snapshot,
        shared: &Shared,
        phase: &watch::Sender<Phase>,
        producing: &mut Producing,
        mut interrupt: Interrupt,
    ) -> Measured {
        let Shared { clock, board, .. } = shared;
        let mut begin = started;
        let course = async {
            match self.plan.end {
                End::Time { warmup, measured } => {
                    phase.send_replace(Phase::WarmUp);
                    sleep(warmup).await;
                    phase.send_replace(Phase::Measuring);
                    begin = board.snapshot(clock.now_ns());
                    board.measure_from(begin.at_ns);
                    sleep(measured).await;
                }
                End::Count(count) => {
                    // In a drain, what was sent long ago counts, too.
                    board.measure_from(if self.plan.is_drain() { 0 } else { started.at_ns });
                    match self.plan.is_drain() {
                        true => while_something_happens(board, board.consumed(count)).await,
                        false => while_something_happens(board, producing.all_ended()).await,
                    };
                }
            }
        };
        let is_interrupted = tokio::select! {
            biased;
            () = interrupt.requested() => true,
            () = board.failed() => false,
            () = course => false,
        };
        Measured { begin, end: board.snapshot(clock.now_ns()), is_interrupted }
    }

    /// Waits until everything has arrived that can.
    async fn finish_consumers(
        &self,
        outcomes: &[Outcome],
        tallies: &Tallies,
        board: &Scoreboard,
    ) -> Result<Arrived, Failure> {
        if self.plan.is_drain() {
            return Ok(self.arrived(tallies, |tally| tally.gaps()));
        }
        let copies = if self.plan.is_fanout() { self.plan.queues as u64 } else { 1 };
        let wanted: u64 =
            copies * outcomes.iter().map(|outcome| outcome.published - outcome.failed).sum::<u64>();
        if self.plan.consumers == 0 {
            return self.look_into_queues(wanted, board).await;
        }
        tokio::select! {
            biased;
            _ = while_something_happens(board, board.consumed(wanted)) => {}
            () = board.failed() => {}
        }
        self.look_for_strays(board).await?;
        let mut arrived = self.arrived(tallies, |_| 0);
        let seen: u64 = tallies.iter().map(|tally| lock(tally).seen()).sum();
        arrived.lost = arrived.lost.map(|_| wanted.saturating_sub(seen));
        Ok(arrived)
    }

    fn arrived(&self, tallies: &Tallies, lost: impl Fn(&QueueTally) -> u64) -> Arrived {
        let mut faults = Faults::default();
        let mut sum = 0;
        for tally in tallies {
            let tally = lock(tally);
            faults += tally.faults();
            sum += lost(&tally);
        }
        Arrived { lost: (!self.topology.is_shared).then_some(sum), faults, left_in_queues: None }
    }

    /// Without consumers: what was published must be in the queues.
    async fn look_into_queues(&self, wanted: u64, board: &Scoreboard) -> Result<Arrived, Failure> {
        let wanted = self.topology.messages_before + wanted;
        let look = async {
            let mut before = None;
            loop {
                let ready = self.topology.ready(self.control).await?;
                // Without confirms the broker may still be at it.
                if ready >= wanted || before == Some(ready) && self.plan.confirm_window.is_some() {
                    return Ok::<u64, Failure>(ready);
                }
                before = Some(ready);
                sleep(LOOK_EVERY).await;
            }
        };
        let ready = match timeout(PATIENCE, look).await {
            Ok(ready) => ready?,
            Err(_) => self.topology.ready(self.control).await?,
        };
        self.look_for_strays(board).await?;
        let lost = (!self.topology.is_shared).then(|| wanted.saturating_sub(ready));
        Ok(Arrived { lost, left_in_queues: Some(ready), ..Arrived::default() })
    }

    async fn look_for_strays(&self, board: &Scoreboard) -> Result<(), Failure> {
        let strays = self.topology.strays(self.control).await?;
        if strays > 0 {
            board.add_errors(strays, format!("{strays} messages took bindings that do not match them"));
        }
        Ok(())
    }

    fn results(
        &self,
        measured: Measured,
        shared: &Shared,
        outcomes: &[Outcome],
        arrived: Arrived,
        late: Option<hdrhistogram::Histogram<u64>>,
    ) -> Results {
        let board = &shared.board;
        Results {
            plan: self.plan.clone(),
            begin: measured.begin,
            end: measured.end,
            total: board.snapshot(shared.clock.now_ns()),
            confirmed_level: outcomes.iter().filter_map(|outcome| outcome.level).min(),
            queue_durability: self.topology.durability,
            latency: board.latency(),
            confirm_latency: board.confirm_latency(),
            late,
            lost: arrived.lost,
            faults: arrived.faults,
            foreign: board.foreign(),
            left_in_queues: arrived.left_in_queues,
            errors: board.errors(),
            is_interrupted: measured.is_interrupted,
        }
    }
}

/// Waits for the fate of everything published.
async fn finish_producers(mut producing: Producing, board: &Scoreboard) -> Vec<Outcome> {
    if while_something_happens(board, producing.all_ended()).await.is_none() {
        let text = format!("nothing was confirmed or sent for {} s", PATIENCE.as_secs());
        board.add_errors(1, text);
    }
    producing.ended
}

/// Does something for as long as the scoreboard changes now and then; `None` if it stopped changing before.
async fn while_something_happens<T>(board: &Scoreboard, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        let before = board.last_ns();
        match timeout(PATIENCE, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if board.last_ns() == before => return None,
            Err(_) => {}
        }
    }
}
