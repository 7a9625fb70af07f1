//! What a run showed, for people and programs.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Window;
use super::consumer::Tapped;
use super::plan::Plan;
use super::producer::{Produced, histogram};
use super::tally::{Faults, Tally};
use crate::cli::failure::Failure;
use crate::model::Durability;

/// A part of the load that waits less than this share of its time is the limit itself.
const BUSY_SHARE: f64 = 0.1;

/// A run, summed up.
pub(super) struct Report {
    config: Value,
    guarantee: String,
    window: Window,
    published: u64,
    confirmed: u64,
    refused: u64,
    consumed: u64,
    redelivered: u64,
    faults: Faults,
    latency: Histogram<u64>,
    confirm_latency: Histogram<u64>,
    limit: Limit,
    interrupted: bool,
}

/// Who could have done more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// The broker was waited for.
    Broker,
    /// Producers had no time to wait: they were the limit.
    Producers,
    /// Consumers had no time to wait: they were the limit.
    Consumers,
    /// Messages came as often as asked for.
    Rate,
}

impl Limit {
    fn of(plan: &Plan, window: &Window) -> Self {
        let share =
            |waited: Duration, workers: usize| waited.as_secs_f64() / (window.seconds * workers as f64);
        if plan.rate.is_some() {
            return Self::Rate;
        }
        let consumers: usize =
            (0..plan.consumers).map(|consumer| plan.queues_of_consumer(consumer).len()).sum();
        if consumers > 0 && share(window.counts.consumers_waited, consumers) < BUSY_SHARE {
            return Self::Consumers;
        }
        if plan.producers > 0 && share(window.counts.producers_waited, plan.producers) < BUSY_SHARE {
            return Self::Producers;
        }
        Self::Broker
    }

    fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Producers => "producers",
            Self::Consumers => "consumers",
            Self::Rate => "rate",
        }
    }
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        window: Window,
        produced: Vec<Produced>,
        tapped: Vec<Tapped>,
        ended: bool,
    ) -> Self {
        let mut confirm_latency = histogram();
        let mut by_stream = HashMap::new();
        let (mut confirmed, mut refused, mut level) = (0, 0, None::<Durability>);
        for produced in produced {
            // The same digits, so nothing is out of range.
            let _ = confirm_latency.add(produced.confirm_latency);
            by_stream.extend(produced.published);
            confirmed += produced.confirmed;
            refused += produced.refused;
            level = level
                .map_or(produced.level, |level| Some(produced.level.map_or(level, |other| level.min(other))));
        }
        let published: u64 = by_stream.values().sum();
        let mut latency = histogram();
        let mut by_queue: HashMap<usize, Tally> = HashMap::new();
        for tapped in tapped {
            let _ = latency.add(tapped.latency);
            by_queue.entry(tapped.queue).or_default().merge(tapped.tally);
        }
        let (mut faults, mut redelivered, mut consumed) = (Faults::default(), 0, 0);
        for (queue, tally) in &by_queue {
            let expected = (plan.producers > 0 && ended).then(|| streams_of(plan, *queue, &by_stream));
            let found = tally.faults(expected.as_ref());
            faults.lost += found.lost;
            faults.duplicated += found.duplicated;
            faults.out_of_order += found.out_of_order;
            faults.foreign += found.foreign;
            redelivered += tally.redelivered;
            consumed += tally.count();
        }
        Self {
            config: plan.json(),
            guarantee: guarantee(plan, level),
            limit: Limit::of(plan, &window),
            window,
            published,
            confirmed,
            refused,
            consumed,
            redelivered,
            faults,
            latency,
            confirm_latency,
            interrupted: !ended,
        }
    }

    fn publish_rate(&self) -> f64 {
        self.window.counts.published as f64 / self.window.seconds
    }

    fn consume_rate(&self) -> f64 {
        self.window.counts.consumed as f64 / self.window.seconds
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "config": self.config,
            "guarantee": self.guarantee,
            "seconds": self.window.seconds,
            "published": self.published,
            "confirmed": self.confirmed,
            "consumed": self.consumed,
            "publish_rate": self.publish_rate(),
            "confirm_rate": self.window.counts.confirmed as f64 / self.window.seconds,
            "consume_rate": self.consume_rate(),
            "latency_us": latency_json(&self.latency),
            "confirm_latency_us": latency_json(&self.confirm_latency),
            "limited_by": self.limit.name(),
            "redelivered": self.redelivered,
            "errors": {
                "refused": self.refused,
                "lost": self.faults.lost,
                "duplicated": self.faults.duplicated,
                "out_of_order": self.faults.out_of_order,
                "foreign": self.faults.foreign,
            },
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<18} {value}");
        };
        line("guarantee", self.guarantee.clone());
        line("measured", format!("{:.2} s", self.window.seconds));
        line("published", format!("{} ({:.0}/s)", self.published, self.publish_rate()));
        if self.config["confirm"].is_number() {
            line("confirmed", format!("{}", self.confirmed));
        }
        line("consumed", format!("{} ({:.0}/s)", self.consumed, self.consume_rate()));
        for (name, latency) in [("latency", &self.latency), ("confirm latency", &self.confirm_latency)] {
            if !latency.is_empty() {
                line(name, latency_text(latency));
            }
        }
        let Faults { lost, duplicated, out_of_order, foreign } = self.faults;
        line("lost", lost.to_string());
        line("duplicated", duplicated.to_string());
        line("out of order", out_of_order.to_string());
        if foreign > 0 {
            line("of another load", foreign.to_string());
        }
        if self.refused > 0 {
            line("refused", self.refused.to_string());
        }
        let limit = match self.limit {
            Limit::Broker => "the broker (or what it shares with this tool)",
            Limit::Producers => "this tool's producers: the broker may take more",
            Limit::Consumers => "this tool's consumers: the broker may give more",
            Limit::Rate => "the rate that was asked for",
        };
        line("limited by", limit.to_owned());
        text
    }

    /// Whether the run is what it should be.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if self.interrupted {
            return Err(Failure::new("interrupted: what was counted is told, nothing was waited for"));
        }
        let Faults { lost, duplicated, out_of_order, foreign } = self.faults;
        let mut problems = Vec::new();
        for (count, what) in [
            (lost, "lost"),
            (duplicated, "duplicated"),
            (out_of_order, "out of order"),
            (foreign, "of another load"),
            (self.refused, "refused"),
        ] {
            if count > 0 {
                problems.push(format!("{count} {what}"));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("messages: {}", problems.join(", "))))
        }
    }
}

/// What was published to a queue, by stream.
fn streams_of(plan: &Plan, queue: usize, published: &HashMap<u16, u64>) -> HashMap<u16, u64> {
    let mut streams = HashMap::new();
    for producer in 0..plan.producers {
        for (number, target) in (plan.first_stream(producer)..).zip(plan.targets_of_producer(producer)) {
            if (plan.is_fanout() || target == queue)
                && let Some(count) = published.get(&number)
            {
                streams.insert(number, *count);
            }
        }
    }
    streams
}

/// What a confirm meant; without confirms, what nothing promised.
fn guarantee(plan: &Plan, level: Option<Durability>) -> String {
    match level {
        Some(level) => level.as_str().to_owned(),
        None if plan.producers == 0 => "none asked for: nothing was published".to_owned(),
        None => "memory".to_owned(),
    }
}

fn latency_json(latency: &Histogram<u64>) -> Value {
    if latency.is_empty() {
        return Value::Null;
    }
    json!({
        "p50": latency.value_at_quantile(0.5),
        "p95": latency.value_at_quantile(0.95),
        "p99": latency.value_at_quantile(0.99),
        "p999": latency.value_at_quantile(0.999),
        "max": latency.max(),
    })
}

fn latency_text(latency: &Histogram<u64>) -> String {
    let quantile = |quantile: f64| duration(latency.value_at_quantile(quantile));
    format!(
        "p50 {}  p95 {}  p99 {}  p99.9 {}  max {}",
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
        quantile(0.999),
        duration(latency.max())
    )
}

fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(999), "999 µs");
        assert_eq!(duration(1_500), "1.50 ms");
        assert_eq!(duration(2_340_000), "2.34 s");
    }

    #[test]
    fn latencies_have_the_names_that_were_promised() {
        let mut latency = histogram();
        assert_eq!(latency_json(&latency), Value::Null);
        latency.saturating_record_n(100, 99);
        latency.saturating_record_n(5_000, 1);
        let json = latency_json(&latency);
        assert_eq!((&json["p50"], &json["p95"], &json["max"]), (&json!(100), &json!(100), &json!(5003)));
        assert!(json["p99"].is_u64() && json["p999"].is_u64());
    }
}
