//! `leveret perf`: how fast is this broker, and does it lose anything?
//!
//! Owns a load generator that checks itself: every message carries its number and its time, so that what is lost, comes
//! twice or comes out of order is told with the speed. Must never use anything of the broker but [`crate::client`], and
//! never spend on a message what can be spent on a batch. Start reading at [`Arguments`], then `plan.rs` (what was typed,
//! checked), `run.rs` (the course of a run), `producer.rs` and `consumer.rs`.

mod confirm_times;
mod consumer;
mod meter;
mod pace;
mod plan;
mod producer;
mod report;
mod run;
mod scoreboard;
mod sequence_runs;
mod stamp;
mod tally;
mod topology;

use clap::{ArgGroup, Args};

use self::plan::{Ack, Exchange, Plan};
use super::failure::Failure;
use super::number;
use super::output;
use super::session::Target;
use super::terminal::Terminal;

/// What was typed after `perf`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("durability"))]
pub(super) struct Arguments {
    /// Producers; 0: only consume, from --queue
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::whole::<usize>(0, 1_000))]
    producers: usize,
    /// Consumers of all queues together, with --fanout of each queue; 0: only publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::whole::<usize>(0, 10_000))]
    consumers: usize,
    /// Queues; each has a producer and a consumer, as far as there are any
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::whole::<usize>(1, 65_535), conflicts_with = "fanout")]
    queues: usize,
    /// Bytes of each message's body, 16 at least: that is what its number and its time take
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = number::whole::<usize>(0, 1 << 30))]
    size: usize,
    /// How long to measure, 0.1 to 86400; 10 if nothing is said
    #[arg(long, value_name = "S", value_parser = seconds::<1, 864_000>)]
    seconds: Option<f64>,
    /// How long to run before measuring, 0 to 3600; 1 if nothing is said
    #[arg(long, value_name = "S", value_parser = seconds::<0, 36_000>)]
    warmup: Option<f64>,
    /// End after N messages instead: published or, without producers, consumed
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(1, 1_000_000_000_000))]
    count: Option<u64>,
    /// Publish at this pace, all producers together, and measure latency from the time at which each message was due
    #[arg(long, value_name = "MSGS_PER_SECOND", value_parser = number::whole::<u64>(1, 100_000_000))]
    rate: Option<u64>,
    /// Queues and messages that do not survive a restart of the broker
    #[arg(long, group = "durability")]
    transient: bool,
    /// Queues and messages that survive a restart of the broker; so it is if nothing is said
    #[arg(long, group = "durability")]
    durable: bool,
    /// Ask for confirms, with up to WINDOW unconfirmed messages for each producer; without, publishing is fire and forget
    #[arg(long, value_name = "WINDOW", value_parser = number::whole::<u64>(1, 10_000_000))]
    confirm: Option<u64>,
    /// Whether deliveries are accepted by the broker as it sends them (auto), or by the consumer (manual)
    #[arg(long, value_enum, default_value_t = Ack::Manual)]
    ack: Ack,
    /// Deliveries that each consumer may hold without having accepted them; 0: as many as fit into its buffer. Without
    /// effect with --ack auto
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = number::whole::<u32>(0, u64::from(u32::MAX)))]
    prefetch: u32,
    /// Publish through an exchange of this type, instead of the default exchange
    #[arg(long, value_enum, value_name = "TYPE")]
    exchange: Option<Exchange>,
    /// The exchange takes only keys of this pattern, and of others that are given, too
    #[arg(long, value_name = "PATTERN")]
    allow: Vec<String>,
    /// N queues behind one fanout exchange, each with consumers of its own
    #[arg(long, value_name = "N", value_parser = number::whole::<usize>(1, 65_535))]
    fanout: Option<usize>,
    /// N further bindings of a topic exchange with all kinds of patterns, none of which matches
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::whole::<usize>(0, 1_000_000))]
    topic_bindings: usize,
    /// Messages of the first producer have priority 0, those of the next 1, and so on: N priorities, in turn
    #[arg(long, value_name = "N", value_parser = number::whole::<u16>(2, 256), conflicts_with = "exchange")]
    priorities: Option<u16>,
    /// Leave queues and exchange, with what is in them, when it ends
    #[arg(long)]
    keep: bool,
    /// Name of the queue. One that is there is used as it is, and stays
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Connections of producers, and as many of consumers, at most; those beyond share
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = number::whole::<usize>(1, 10_000))]
    connections: usize,
    /// Threads of the generator; half of the machine's cores if nothing is said
    #[arg(long, value_name = "N", value_parser = number::whole::<usize>(1, 256))]
    threads: Option<usize>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = Plan::new(arguments)?;
    let results = run::run(&plan, &arguments.target)?;
    if arguments.json {
        output::json_line(&results.to_json())?;
    } else {
        output::text(&results.to_text(Terminal::of_stdout()))?;
    }
    results.verdict()
}

/// Seconds with a fraction, within bounds given in tenths.
fn seconds<const MIN_TENTHS: u32, const MAX_TENTHS: u32>(typed: &str) -> Result<f64, String> {
    let (min, max) = (f64::from(MIN_TENTHS) / 10.0, f64::from(MAX_TENTHS) / 10.0);
    match typed.parse::<f64>() {
        Ok(seconds) if (min..=max).contains(&seconds) => Ok(seconds),
        _ => Err(format!("expected a number of seconds, {min} to {max}")),
    }
}
