//! What the flags mean, checked before anything is sent.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use super::counters::Snapshot;
use super::stamp::{SEQUENCE_MAX, STAMP_BYTES};
use crate::cli::failure::Failure;
use crate::cli::session::Target;
use crate::client::{ConnectOptions, ExchangeKind, ServerOffer};

/// Streams that stamps can tell apart.
const STREAMS_MAX: usize = u16::MAX as usize;
/// Bytes of a batch about.
const BATCH_BYTES: usize = 64 * 1024;
/// Messages of a batch at most.
const BATCH_MESSAGES_MAX: u64 = 1024;

/// What was typed after `perf`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 1)]
    producers: usize,
    /// Connections that consume; by default one, or one for each queue of a fan-out
    #[arg(long, value_name = "N")]
    consumers: Option<usize>,
    /// Queues that messages are spread over
    #[arg(long, value_name = "N", default_value_t = 1)]
    queues: usize,
    /// Size of a body in bytes, 16 at least: each holds a number and a time
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
    /// Seconds to measure, after the warm-up; 10 unless --count ends the run
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Seconds under load before measuring
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds)]
    warmup: Duration,
    /// Messages to publish, all producers together, or without producers to consume
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Messages a second, all producers together; without it as fast as it goes
    #[arg(long, value_name = "MSGS_PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Queues and messages that need not survive a restart
    #[arg(long, conflicts_with = "durable")]
    transient: bool,
    /// Queues and messages that survive a restart (the default)
    #[arg(long)]
    durable: bool,
    /// Ask for confirms, and have so many messages of a producer without one at most
    #[arg(long, value_name = "WINDOW", value_parser = clap::value_parser!(u64).range(1..))]
    confirm: Option<u64>,
    /// Who accepts messages: the broker when it sends them, or the consumer
    #[arg(long, value_enum, default_value_t = Ack::Auto)]
    ack: Ack,
    /// Messages that a consumer may have without accepting them; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    prefetch: u32,
    /// Publish through an exchange of this type
    #[arg(long, value_enum, value_name = "TYPE")]
    exchange: Option<ExchangeType>,
    /// Publish to a fanout exchange with so many queues
    #[arg(long, value_name = "N", conflicts_with_all = ["queues", "exchange"])]
    fanout: Option<usize>,
    /// Further bindings of the topic exchange, which match nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    topic_bindings: usize,
    /// Leave queues and exchange behind, and use those that are there
    #[arg(long)]
    keep: bool,
    /// Name of the queue, or what the names of all queues begin with
    #[arg(long, value_name = "NAME", default_value = "perf")]
    queue: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Who accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ack {
    /// The broker, when it sends.
    Auto,
    /// The consumer.
    Manual,
}

/// Exchanges to publish through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ExchangeType {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl ExchangeType {
    pub(super) fn kind(self) -> ExchangeKind {
        match self {
            Self::Direct => ExchangeKind::Direct,
            Self::Fanout => ExchangeKind::Fanout,
            Self::Topic => ExchangeKind::Topic,
            Self::Headers => ExchangeKind::Headers,
        }
    }
}

/// A load that makes sense.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) options: ConnectOptions,
    pub(super) producers: usize,
    pub(super) consumers: usize,
    pub(super) queues: usize,
    pub(super) size: usize,
    pub(super) seconds: Option<Duration>,
    pub(super) warmup: Duration,
    pub(super) count: Option<u64>,
    pub(super) rate: Option<f64>,
    pub(super) transient: bool,
    pub(super) confirm: Option<u64>,
    pub(super) ack: Ack,
    pub(super) prefetch: u32,
    pub(super) exchange: Option<ExchangeType>,
    pub(super) topic_bindings: usize,
    pub(super) keep: bool,
    pub(super) queue: String,
}

impl Plan {
    pub(super) fn new(arguments: Arguments) -> Result<Self, Failure> {
        let queues = arguments.fanout.unwrap_or(arguments.queues);
        let exchange = arguments.fanout.map(|_| ExchangeType::Fanout).or(arguments.exchange);
        let consumers = arguments.consumers.unwrap_or(if arguments.fanout.is_some() { queues } else { 1 });
        let usage = |what: String| Err(Failure::usage(what));
        if queues == 0 {
            return usage("without a queue there is nothing to measure".to_owned());
        }
        if arguments.producers == 0 && consumers == 0 {
            return usage("with neither producers nor consumers there is nothing to measure".to_owned());
        }
        if arguments.size < STAMP_BYTES {
            return usage(format!(
                "--size {} is too small: a message needs {STAMP_BYTES} bytes",
                arguments.size
            ));
        }
        if arguments.topic_bindings > 0 && exchange != Some(ExchangeType::Topic) {
            return usage("--topic-bindings goes with --exchange topic".to_owned());
        }
        if arguments.producers == 0 && (arguments.rate.is_some() || arguments.confirm.is_some()) {
            return usage("--rate and --confirm are for producers".to_owned());
        }
        let seconds = match (arguments.seconds, arguments.count) {
            (None, None) => Some(Duration::from_secs(10)),
            (seconds, _) => seconds,
        };
        let plan = Self {
            options: arguments.target.options()?.no_reconnect(),
            producers: arguments.producers,
            consumers,
            queues,
            size: arguments.size,
            seconds,
            warmup: arguments.warmup,
            count: arguments.count,
            rate: arguments.rate,
            transient: arguments.transient,
            confirm: arguments.confirm,
            ack: arguments.ack,
            prefetch: arguments.prefetch,
            exchange,
            topic_bindings: arguments.topic_bindings,
            keep: arguments.keep,
            queue: arguments.queue,
        };
        let streams: usize =
            (0..plan.producers).map(|producer| plan.targets_of_producer(producer).len()).sum();
        if streams > STREAMS_MAX {
            return usage(format!("{streams} pairs of producer and queue are more than {STREAMS_MAX}"));
        }
        if plan.count.is_some_and(|count| count > SEQUENCE_MAX) {
            return usage(format!("--count may be {SEQUENCE_MAX} at most"));
        }
        Ok(plan)
    }

    pub(super) fn check_against(&self, server: &ServerOffer) -> Result<(), Failure> {
        let bytes_max = server.message_bytes_max;
        if self.size as u64 > bytes_max {
            return Err(Failure::usage(format!("this broker takes messages of {bytes_max} bytes at most")));
        }
        Ok(())
    }

    pub(super) fn queue_name(&self, queue: usize) -> String {
        if self.queues == 1 { self.queue.clone() } else { format!("{}-{}", self.queue, queue + 1) }
    }

    /// Name of the exchange; "" is the default one.
    pub(super) fn exchange_name(&self) -> String {
        if self.exchange.is_some() { format!("{}-exchange", self.queue) } else { String::new() }
    }

    /// Routing key, and binding key, of a queue.
    pub(super) fn key(&self, queue: usize) -> String {
        match self.exchange {
            None => self.queue_name(queue),
            Some(_) => format!("perf.{queue}"),
        }
    }

    /// Every message goes to all queues.
    pub(super) fn is_fanout(&self) -> bool {
        self.exchange == Some(ExchangeType::Fanout)
    }

    /// The queues that a producer publishes to in turn; for a fan-out the one key that stands for all.
    pub(super) fn targets_of_producer(&self, producer: usize) -> Vec<usize> {
        if self.is_fanout() {
            return vec![0];
        }
        shares(self.queues, self.producers, producer)
    }

    pub(super) fn queues_of_consumer(&self, consumer: usize) -> Vec<usize> {
        shares(self.queues, self.consumers, consumer)
    }

    /// Number of the first stream of a producer; its others follow.
    pub(super) fn first_stream(&self, producer: usize) -> u16 {
        let before: usize = (0..producer).map(|producer| self.targets_of_producer(producer).len()).sum();
        before as u16
    }

    /// Deliveries that so many published messages make.
    pub(super) fn deliveries_of(&self, published: u64) -> u64 {
        if self.is_fanout() { published * self.queues as u64 } else { published }
    }

    /// Whether a run that ends by count is over.
    pub(super) fn is_done(&self, counts: Snapshot) -> bool {
        match self.count {
            Some(count) if self.producers == 0 => counts.consumed >= count,
            Some(count) => counts.published >= count && (self.confirm.is_none() || counts.confirmed >= count),
            None => false,
        }
    }

    /// Messages that a producer publishes in all.
    pub(super) fn count_of_producer(&self, producer: usize) -> u64 {
        let Some(count) = self.count else { return u64::MAX };
        let producers = self.producers as u64;
        count / producers + u64::from((producer as u64) < count % producers)
    }

    /// Messages of a batch at most: enough to keep the socket busy, and a fraction of the window, so that confirms
    /// and messages overlap.
    pub(super) fn batch_messages(&self) -> u64 {
        let by_bytes = (BATCH_BYTES / self.size).max(1) as u64;
        let by_window = self.confirm.map_or(u64::MAX, |window| window.div_ceil(4));
        by_bytes.min(by_window).min(BATCH_MESSAGES_MAX)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "producers": self.producers,
            "consumers": self.consumers,
            "queues": self.queues,
            "size": self.size,
            "seconds": self.seconds.map(|seconds| seconds.as_secs_f64()),
            "warmup": self.warmup.as_secs_f64(),
            "count": self.count,
            "rate": self.rate,
            "durable": !self.transient,
            "confirm": self.confirm,
            "ack": self.ack,
            "prefetch": self.prefetch,
            "exchange": self.exchange,
            "topic_bindings": self.topic_bindings,
            "keep": self.keep,
            "queue": self.queue,
        })
    }
}

/// The part of `all` things that falls to one of `workers`: each thing has a worker, and each worker a thing.
fn shares(all: usize, workers: usize, worker: usize) -> Vec<usize> {
    if workers >= all {
        return vec![worker % all];
    }
    (worker..all).step_by(workers).collect()
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("expected 0 to 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.001..=1e9).contains(&rate) { Ok(rate) } else { Err("expected 0.001 to 1000000000".to_owned()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan(typed: &str) -> Result<Plan, Failure> {
        let typed = std::iter::once("perf").chain(typed.split_whitespace());
        Plan::new(Typed::try_parse_from(typed).unwrap().arguments)
    }

    #[test]
    fn every_queue_has_a_producer_and_every_producer_a_queue() {
        assert_eq!(shares(5, 2, 0), [0, 2, 4]);
        assert_eq!(shares(5, 2, 1), [1, 3]);
        assert_eq!(shares(2, 3, 2), [0]);
        let plan = plan("--producers 2 --queues 5").unwrap();
        assert_eq!((plan.first_stream(0), plan.first_stream(1)), (0, 3));
    }

    #[test]
    fn a_run_lasts_ten_seconds_unless_a_count_ends_it() {
        assert_eq!(plan("").unwrap().seconds, Some(Duration::from_secs(10)));
        assert_eq!(plan("--count 5").unwrap().seconds, None);
        assert_eq!(plan("--count 5 --seconds 2.5").unwrap().seconds, Some(Duration::from_millis(2500)));
    }

    #[test]
    fn a_fanout_has_a_consumer_for_each_queue() {
        let plan = plan("--fanout 3").unwrap();
        assert_eq!((plan.queues, plan.consumers, plan.deliveries_of(5)), (3, 3, 15));
        assert_eq!(plan.targets_of_producer(0), [0]);
    }

    #[test]
    fn a_count_is_divided_without_remainder() {
        let plan = plan("--producers 3 --count 11").unwrap();
        assert_eq!([0, 1, 2].map(|producer| plan.count_of_producer(producer)), [4, 4, 3]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for typed in [
            "--size 15",
            "--queues 0",
            "--producers 0 --consumers 0",
            "--topic-bindings 5",
            "--producers 0 --rate 5",
        ] {
            assert!(plan(typed).is_err(), "{typed}");
        }
        for typed in
            ["--transient --durable", "--fanout 2 --queues 2", "--count 0", "--confirm 0", "--rate -1"]
        {
            let typed: Vec<&str> = std::iter::once("perf").chain(typed.split_whitespace()).collect();
            assert!(Typed::try_parse_from(&typed).is_err(), "{typed:?}");
        }
    }

    #[test]
    fn batches_leave_room_in_the_window() {
        assert_eq!(plan("--size 16").unwrap().batch_messages(), 1024);
        assert_eq!(plan("--size 16 --confirm 1000").unwrap().batch_messages(), 250);
        assert_eq!(plan("--size 16 --confirm 1").unwrap().batch_messages(), 1);
        assert_eq!(plan("--size 1000000").unwrap().batch_messages(), 1);
    }
}
