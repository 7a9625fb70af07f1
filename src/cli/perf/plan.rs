//! From what was typed to what will be done: every combination is checked here, before anything is touched.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Arguments;
use super::stamp::STAMP_BYTES;
use crate::cli::failure::Failure;
use crate::client::ExchangeKind;

/// Consumers in all; in a fan-out every queue has its own.
const CONSUMERS_MAX: usize = 10_000;

/// Bytes of messages that are handed to the client at once: half of one of its frames, so that it takes them as they are.
const BATCH_BYTES: usize = 32 * 1024;

/// What a message's envelope takes on the wire, about.
const ENVELOPE_BYTES: usize = 9;

/// How long a run takes without `--seconds` and `--count`.
const SECONDS_DEFAULT: f64 = 10.0;

/// Warm-up without `--warmup`, in runs that end by the clock.
const WARMUP_SECONDS_DEFAULT: f64 = 1.0;

/// What becomes of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Ack {
    /// They count as accepted when the broker sends them
    Auto,
    /// They are accepted when they have been looked at
    Manual,
}

/// How the exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Exchange {
    /// By the queue's name as the key
    Direct,
    /// To all queues
    Fanout,
    /// By a pattern
    Topic,
    /// By a header
    Headers,
}

impl Exchange {
    pub(super) fn kind(self) -> ExchangeKind {
        match self {
            Self::Direct => ExchangeKind::Direct,
            Self::Fanout => ExchangeKind::Fanout,
            Self::Topic => ExchangeKind::Topic,
            Self::Headers => ExchangeKind::Headers,
        }
    }
}

/// A run that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) producers: usize,
    /// Of each queue in a fan-out, in all otherwise.
    pub(super) consumers: usize,
    pub(super) queues: usize,
    pub(super) size_bytes: usize,
    pub(super) end: End,
    /// Messages a second of all producers together.
    pub(super) rate: Option<u64>,
    pub(super) is_transient: bool,
    /// Unconfirmed messages of each producer at most; `None`: no confirms.
    pub(super) confirm_window: Option<u64>,
    pub(super) ack: Ack,
    pub(super) prefetch: u32,
    /// `None`: the default exchange.
    pub(super) exchange: Option<Exchange>,
    /// Patterns of keys that the exchange takes; none: all keys.
    pub(super) allowed: Vec<String>,
    pub(super) topic_bindings: usize,
    /// How many priorities messages have, a producer each in turn.
    pub(super) priorities: Option<u16>,
    pub(super) keeps: bool,
    pub(super) queue_name: Option<String>,
    /// Of producers, and as many of consumers, at most.
    pub(super) connections: usize,
    pub(super) threads: usize,
}

/// When a run is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    /// After a warm-up and the time that counts.
    Time { warmup: Duration, measured: Duration },
    /// After so many messages: published or, without producers, consumed.
    Count(u64),
}

/// A consumer's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) consumer: usize,
    pub(super) queue: usize,
}

impl Plan {
    /// # Errors
    /// If the arguments contradict each other or ask for what is out of bounds.
    pub(super) fn new(typed: &Arguments) -> Result<Self, Failure> {
        check_combinations(typed)?;
        let exchange = match (typed.fanout, typed.topic_bindings) {
            (Some(_), _) => Some(Exchange::Fanout),
            (None, 1..) => Some(Exchange::Topic),
            (None, 0) => typed.exchange,
        };
        let plan = Self {
            producers: typed.producers,
            consumers: typed.consumers,
            queues: typed.fanout.unwrap_or(typed.queues),
            size_bytes: typed.size,
            end: end(typed)?,
            rate: typed.rate,
            is_transient: typed.transient,
            confirm_window: typed.confirm,
            ack: typed.ack,
            prefetch: typed.prefetch,
            exchange,
            allowed: typed.allow.clone(),
            topic_bindings: typed.topic_bindings,
            priorities: typed.priorities,
            keeps: typed.keep,
            queue_name: typed.queue.clone(),
            connections: typed.connections,
            threads: typed.threads.unwrap_or_else(threads_default),
        };
        plan.check_bounds()?;
        Ok(plan)
    }

    fn check_bounds(&self) -> Result<(), Failure> {
        let consumers = self.consumers_in_all();
        if consumers > CONSUMERS_MAX {
            return Err(Failure::usage(format!(
                "{consumers} consumers are more than the {CONSUMERS_MAX} that one command runs"
            ))
            .hint("in a fan-out every queue has --consumers of its own"));
        }
        Ok(())
    }

    /// Whether every queue gets every message.
    pub(super) fn is_fanout(&self) -> bool {
        self.exchange == Some(Exchange::Fanout)
    }

    /// Whether what is in a queue is taken out, and nothing put in.
    pub(super) fn is_drain(&self) -> bool {
        self.producers == 0
    }

    pub(super) fn consumers_in_all(&self) -> usize {
        if self.is_fanout() { self.consumers * self.queues } else { self.consumers }
    }

    /// Connections on which the producers sit, and those on which the consumers do.
    pub(super) fn connections_in_all(&self) -> usize {
        self.producers.min(self.connections) + self.consumers_in_all().min(self.connections)
    }

    /// Who consumes from which queue: every queue has a consumer and every consumer a queue.
    pub(super) fn subscriptions(&self) -> Vec<Subscription> {
        let consumers = self.consumers_in_all();
        let count = if consumers == 0 { 0 } else { consumers.max(self.queues) };
        let subscription = |index| Subscription { consumer: index % consumers, queue: index % self.queues };
        (0..count).map(subscription).collect()
    }

    /// The streams of a producer, each with the queue it leads to (in a fan-out: to all). A producer sends to them in
    /// turn, message by message.
    pub(super) fn streams_of(&self, producer: usize) -> Vec<(u16, usize)> {
        let count = if self.is_fanout() { self.producers } else { self.producers.max(self.queues) };
        let mine = (producer..count).step_by(self.producers.max(1));
        // There are at most 65,535 producers and at most 65,535 queues.
        mine.map(|stream| (stream as u16, stream % self.queues)).collect()
    }

    /// Of `total` messages, sent by the producers in turn, those of one producer.
    pub(super) fn share_of(&self, producer: usize, total: u64) -> u64 {
        let producers = self.producers as u64;
        (total + producers - 1 - producer as u64) / producers
    }

    /// Messages handed to the client at once. With confirms a quarter of the window, so that it never runs empty.
    pub(super) fn batch_messages(&self) -> u64 {
        let fitting = (BATCH_BYTES / (self.size_bytes + ENVELOPE_BYTES)).max(1) as u64;
        match self.confirm_window {
            Some(window) => fitting.min(window.div_ceil(4)),
            None => fitting,
        }
    }

    /// As it is printed with the results.
    pub(super) fn to_json(&self) -> Value {
        let (seconds, warmup, count) = match self.end {
            End::Time { warmup, measured } => (Some(measured), Some(warmup), None),
            End::Count(count) => (None, None, Some(count)),
        };
        json!({
            "producers": self.producers,
            "consumers": self.consumers_in_all(),
            "queues": self.queues,
            "size": self.size_bytes,
            "seconds": seconds.map(|seconds| seconds.as_secs_f64()),
            "warmup": warmup.map(|warmup| warmup.as_secs_f64()),
            "count": count,
            "rate": self.rate,
            "transient": self.is_transient,
            "confirm": self.confirm_window,
            "ack": match self.ack { Ack::Auto => "auto", Ack::Manual => "manual" },
            "prefetch": (self.ack == Ack::Manual).then_some(self.prefetch),
            "exchange": self.exchange.map_or("", |exchange| exchange.kind().as_str()),
            "fanout": self.is_fanout().then_some(self.queues),
            "topic_bindings": self.topic_bindings,
            "keep": self.keeps,
            "queue": self.queue_name,
            "connections": self.connections,
            "threads": self.threads,
        })
    }

    /// For people, for instance "1 producer, 1 queue, 1 consumer · 16 bytes · durable · confirm window 1000".
    pub(super) fn sentence(&self) -> String {
        let mut parts = vec![format!(
            "{}, {}, {}",
            counted(self.producers, "producer"),
            counted(self.queues, "queue"),
            counted(self.consumers_in_all(), "consumer")
        )];
        if self.producers > 0 {
            parts.push(format!("{} bytes", self.size_bytes));
            parts.push(if self.is_transient { "transient" } else { "durable" }.to_owned());
            parts.push(match self.confirm_window {
                Some(window) => format!("confirm window {window}"),
                None => "no confirms".to_owned(),
            });
        }
        if self.consumers > 0 {
            parts.push(match (self.ack, self.prefetch) {
                (Ack::Auto, _) => "automatic acks".to_owned(),
                (Ack::Manual, 0) => "manual acks, no prefetch limit".to_owned(),
                (Ack::Manual, prefetch) => format!("manual acks, prefetch {prefetch}"),
            });
        }
        if let Some(exchange) = self.exchange {
            parts.push(format!("{} exchange", exchange.kind()));
        }
        if self.topic_bindings > 0 {
            parts.push(format!("{} further bindings", self.topic_bindings));
        }
        if let Some(rate) = self.rate {
            parts.push(format!("paced at {rate}/s"));
        }
        parts.join(" · ")
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What one argument says of others.
fn check_combinations(typed: &Arguments) -> Result<(), Failure> {
    let no = |what: &str, hint: &str| Err(Failure::usage(what).hint(hint));
    if typed.producers == 0 && typed.consumers == 0 {
        return no("without producers and consumers there is nothing to do", "give one of them at least 1");
    }
    if typed.producers == 0 {
        if typed.queue.is_none() {
            return no(
                "without producers, --queue must name the queue to drain",
                "`leveret list queues` tells",
            );
        }
        let publishing = [
            ("--rate", typed.rate.is_some()),
            ("--confirm", typed.confirm.is_some()),
            ("--exchange", typed.exchange.is_some()),
            ("--fanout", typed.fanout.is_some()),
            ("--topic-bindings", typed.topic_bindings > 0),
        ];
        if let Some((flag, _)) = publishing.iter().find(|(_, is_given)| *is_given) {
            return no(&format!("{flag} is for publishing, and there are no producers"), "leave it out");
        }
    }
    if typed.producers > 0 && typed.size < STAMP_BYTES {
        return no(
            &format!(
                "a message of {} bytes has no room for its number and time, which take {STAMP_BYTES}",
                typed.size
            ),
            "give --size 16 or more",
        );
    }
    if typed.queue.as_deref() == Some("") {
        return no("--queue names no queue", "leave out --queue, or give a name");
    }
    if typed.queue.is_some() && typed.fanout.unwrap_or(typed.queues) != 1 {
        return no(
            "--queue names one queue, and there are to be several",
            "leave out --queue, or make it one",
        );
    }
    if !typed.allow.is_empty()
        && typed.exchange.is_none()
        && typed.topic_bindings == 0
        && typed.fanout.is_none()
    {
        return no("--allow needs an exchange", "say which with --exchange");
    }
    if typed.topic_bindings > 0 && !matches!(typed.exchange, None | Some(Exchange::Topic)) {
        return no("--topic-bindings needs a topic exchange", "leave out --exchange, or make it topic");
    }
    if typed.fanout.is_some() && !matches!(typed.exchange, None | Some(Exchange::Fanout)) {
        return no("--fanout needs a fanout exchange", "leave out --exchange, or make it fanout");
    }
    Ok(())
}

fn end(typed: &Arguments) -> Result<End, Failure> {
    let Some(count) = typed.count else {
        let warmup = Duration::from_secs_f64(typed.warmup.unwrap_or(WARMUP_SECONDS_DEFAULT));
        let measured = Duration::from_secs_f64(typed.seconds.unwrap_or(SECONDS_DEFAULT));
        return Ok(End::Time { warmup, measured });
    };
    if typed.seconds.is_some() || typed.warmup.is_some_and(|warmup| warmup > 0.0) {
        return Err(Failure::usage("a run ends after --count messages or after --seconds, not after both")
            .hint("a run by --count has no warm-up: all its messages count"));
    }
    Ok(End::Count(count))
}

/// Half of the cores: the broker is usually on the same machine, and wants the others.
fn threads_default() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, 16)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan(typed: &str) -> Result<Plan, Failure> {
        let words = std::iter::once("perf").chain(typed.split_whitespace());
        Plan::new(&Typed::try_parse_from(words).expect(typed).arguments)
    }

    #[track_caller]
    fn good(typed: &str) -> Plan {
        plan(typed).unwrap_or_else(|failure| panic!("{typed}: {failure}"))
    }

    #[track_caller]
    fn refused(typed: &str, needle: &str) {
        let failure = plan(typed).expect_err(typed).to_string();
        assert!(failure.contains(needle), "{typed}: {failure}");
    }

    fn pairs(plan: &Plan) -> Vec<(usize, usize)> {
        plan.subscriptions().iter().map(|subscription| (subscription.consumer, subscription.queue)).collect()
    }

    #[test]
    fn without_anything_it_is_the_safe_and_simple_case() {
        let plan = good("");
        assert_eq!((plan.producers, plan.consumers, plan.queues), (1, 1, 1));
        assert_eq!((plan.is_transient, plan.confirm_window, plan.ack), (false, None, Ack::Manual));
        let (warmup, measured) = (Duration::from_secs(1), Duration::from_secs(10));
        assert_eq!(plan.end, End::Time { warmup, measured });
        assert_eq!(plan.exchange, None);
    }

    #[test]
    fn contradictions_are_refused_before_anything_is_touched() {
        refused("--producers 0 --consumers 0", "nothing to do");
        refused("--producers 0", "--queue must name");
        refused("--producers 0 --queue q --rate 5", "--rate is for publishing");
        refused("--producers 0 --queue q --confirm 5", "--confirm is for publishing");
        refused("--size 15", "take 16");
        refused("--queue q --queues 2", "names one queue");
        refused("--queue=", "names no queue");
        refused("--queue q --fanout 2", "names one queue");
        refused("--topic-bindings 5 --exchange direct", "topic exchange");
        refused("--fanout 5 --exchange topic", "fanout exchange");
        refused("--allow a.#", "needs an exchange");
        refused("--count 5 --seconds 1", "not after both");
        refused("--count 5 --warmup 1", "no warm-up");
        refused("--fanout 200 --consumers 100", "20000 consumers");
    }

    #[test]
    fn what_others_imply_need_not_be_typed() {
        assert_eq!(good("--fanout 3").exchange, Some(Exchange::Fanout));
        assert_eq!(good("--topic-bindings 3").exchange, Some(Exchange::Topic));
        assert_eq!(good("--count 5 --warmup 0").end, End::Count(5));
        assert_eq!(good("--producers 0 --queue q --size 1 --count 1").producers, 0);
    }

    #[test]
    fn every_queue_has_a_consumer_and_every_consumer_a_queue() {
        assert_eq!(pairs(&good("--consumers 2 --queues 1")), [(0, 0), (1, 0)]);
        assert_eq!(pairs(&good("--consumers 1 --queues 3")), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(pairs(&good("--consumers 2 --queues 3")), [(0, 0), (1, 1), (0, 2)]);
        assert_eq!(pairs(&good("--consumers 0 --queues 3")), []);
        assert_eq!(pairs(&good("--consumers 2 --fanout 2")), [(0, 0), (1, 1), (2, 0), (3, 1)]);
    }

    #[test]
    fn every_queue_has_a_producer_and_every_producer_a_queue() {
        assert_eq!(good("--producers 1 --queues 3").streams_of(0), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(good("--producers 2 --queues 3").streams_of(0), [(0, 0), (2, 2)]);
        assert_eq!(good("--producers 2 --queues 3").streams_of(1), [(1, 1)]);
        assert_eq!(good("--producers 3 --queues 1").streams_of(2), [(2, 0)]);
        assert_eq!(good("--producers 2 --fanout 9").streams_of(1), [(1, 1)]);
    }

    #[test]
    fn who_has_no_connection_of_its_own_shares_one() {
        assert_eq!(good("").connections_in_all(), 2);
        assert_eq!(good("--producers 500 --consumers 10").connections_in_all(), 138);
        assert_eq!(good("--producers 500 --consumers 10 --connections 500").connections_in_all(), 510);
        assert_eq!(good("--producers 500 --fanout 9 --connections 5").connections_in_all(), 10);
    }

    #[test]
    fn the_producers_share_all_there_is() {
        for (producers, total) in [(1, 10), (3, 10), (4, 3), (7, 0)] {
            let plan = good(&format!("--producers {producers}"));
            let shares: u64 = (0..producers).map(|producer| plan.share_of(producer, total)).sum();
            assert_eq!(shares, total, "{producers} producers");
        }
    }

    #[test]
    fn batches_fit_the_frame_and_the_window() {
        assert_eq!(good("--size 16").batch_messages(), 1310);
        assert_eq!(good("--size 16 --confirm 1000").batch_messages(), 250);
        assert_eq!(good("--size 16 --confirm 1").batch_messages(), 1);
        assert_eq!(good("--size 1000000").batch_messages(), 1);
    }
}
