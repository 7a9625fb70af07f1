//! What a run has shown: for people, for programs, and as an exit status.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::plan::{End, Plan};
use super::scoreboard::{Errors, Snapshot};
use super::tally::Faults;
use crate::cli::failure::Failure;
use crate::cli::terminal::{Colour, Terminal};
use crate::model::Durability;

/// Share of its threads' time from which on the generator is taken for the limit.
const GENERATOR_BUSY: f64 = 0.9;

/// Share of the rate asked for that counts as having kept it.
const RATE_KEPT: f64 = 0.99;

/// Oversleeping (99th percentile, nanoseconds) that is worth a word.
const LATE_NS_TOLD: u64 = 500_000;

/// All that is known when a run is over.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) plan: Plan,
    /// Where the measuring began and ended.
    pub(super) begin: Snapshot,
    pub(super) end: Snapshot,
    /// Everything, with warm-up and what arrived afterwards.
    pub(super) total: Snapshot,
    /// The lowest level that confirms stated; `None` without confirms.
    pub(super) confirmed_level: Option<Durability>,
    /// What the queues' messages get at most.
    pub(super) queue_durability: Durability,
    /// Nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) confirm_latency: Histogram<u64>,
    /// By how much the pacing overslept.
    pub(super) late: Option<Histogram<u64>>,
    /// Messages that did not arrive; `None` if it cannot be known.
    pub(super) lost: Option<u64>,
    pub(super) faults: Faults,
    pub(super) foreign: u64,
    /// Ready messages in the queues at the end of a run without consumers.
    pub(super) left_in_queues: Option<u64>,
    pub(super) errors: Errors,
    pub(super) is_interrupted: bool,
}

/// What kept a run from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// It went as fast as it was asked to.
    Rate,
    /// This command had no time left.
    Generator,
    Broker,
}

impl Results {
    fn seconds(&self) -> f64 {
        self.end.seconds_since_ns(self.begin.at_ns)
    }

    fn measured(&self, count: fn(&Snapshot) -> u64) -> u64 {
        count(&self.end) - count(&self.begin)
    }

    fn rate(&self, count: fn(&Snapshot) -> u64) -> f64 {
        self.end.rate_since(&self.begin, count)
    }

    /// Share of its threads' time that this command took.
    fn generator_share(&self) -> f64 {
        let seconds = self.seconds();
        let cpu = self.end.cpu_seconds - self.begin.cpu_seconds;
        if seconds > 0.0 { cpu / seconds / self.plan.threads as f64 } else { 0.0 }
    }

    fn limit(&self) -> Limit {
        let is_kept = |rate: u64| self.rate(|snapshot| snapshot.published) >= RATE_KEPT * rate as f64;
        if self.plan.rate.is_some_and(is_kept) {
            Limit::Rate
        } else if self.generator_share() >= GENERATOR_BUSY {
            Limit::Generator
        } else {
            Limit::Broker
        }
    }

    /// What holds for a message when its publisher goes on.
    fn guarantee(&self) -> Durability {
        match self.confirmed_level {
            Some(level) => level,
            None if self.plan.is_drain() => self.queue_durability,
            None => Durability::Memory,
        }
    }

    fn guarantee_note(&self) -> String {
        match self.confirmed_level {
            Some(level) => format!("every confirm said {level} or better"),
            None if self.plan.is_drain() => "what the queue gives its messages; nothing was published".into(),
            None if self.plan.confirm_window.is_some() => "no confirm came".into(),
            None => format!(
                "no confirms: nothing was promised to the producers (the queues' messages become {})",
                self.queue_durability
            ),
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match self.limit() {
            Limit::Generator => notes.push(format!(
                "this command used {:.0} % of its threads' time: it was the limit, not the broker (see --threads)",
                100.0 * self.generator_share()
            )),
            Limit::Broker if self.plan.rate.is_some() => {
                notes.push("the rate was not reached: the broker took no more".into());
            }
            Limit::Broker | Limit::Rate => {}
        }
        let late_ns = self.late.as_ref().map_or(0, |late| late.value_at_quantile(0.99));
        if late_ns > LATE_NS_TOLD {
            notes.push(format!(
                "the machine woke this command late (p99 {}): part of the latencies is its own",
                microseconds(late_ns)
            ));
        }
        if self.foreign > 0 {
            notes.push(format!("{} messages came that this run had not sent", grouped(self.foreign as f64)));
        }
        if self.lost.is_none() {
            notes.push("others consume from the queue: whether messages were lost cannot be told".into());
        }
        if self.is_interrupted {
            notes.push("interrupted before its time".into());
        }
        notes
    }

    /// One object; names do not change without notice.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "config": self.plan.to_json(),
            "guarantee": self.guarantee().as_str(),
            "guarantee_note": self.guarantee_note(),
            "seconds": rounded(self.seconds(), 3),
            "published": self.measured(|snapshot| snapshot.published),
            "confirmed": self.measured(|snapshot| snapshot.confirmed),
            "consumed": self.measured(|snapshot| snapshot.consumed),
            "publish_rate": rounded(self.rate(|snapshot| snapshot.published), 1),
            "confirm_rate": rounded(self.rate(|snapshot| snapshot.confirmed), 1),
            "consume_rate": rounded(self.rate(|snapshot| snapshot.consumed), 1),
            "latency_us": quantiles(&self.latency),
            "confirm_latency_us": quantiles(&self.confirm_latency),
            "lost": self.lost,
            "duplicated": self.faults.duplicated,
            "out_of_order": self.faults.out_of_order,
            "redelivered": self.faults.redelivered,
            "foreign": self.foreign,
            "left_in_queues": self.left_in_queues,
            "errors": self.errors.count,
            "error_texts": self.errors.texts,
            "total": {
                "published": self.total.published,
                "confirmed": self.total.confirmed,
                "consumed": self.total.consumed,
            },
            "limited_by": match self.limit() {
                Limit::Rate => "rate",
                Limit::Generator => "generator",
                Limit::Broker => "broker",
            },
            "generator_cpu_share": rounded(self.generator_share(), 3),
            "pacing_late_us": self.late.as_ref().and_then(quantiles),
            "interrupted": self.is_interrupted,
            "notes": self.notes(),
        })
    }

    pub(super) fn to_text(&self, terminal: Terminal) -> String {
        let mut lines = vec![terminal.paint(Colour::Bold, &self.plan.sentence())];
        let mut line = |what: &str, text: String| lines.push(format!("  {what:<10} {text}"));
        line("guarantee", format!("{} ({})", self.guarantee(), self.guarantee_note()));
        let speed = |count: fn(&Snapshot) -> u64| {
            let messages = grouped(self.measured(count) as f64);
            format!("{:>11}/s   ({messages} in {:.1} s)", grouped(self.rate(count)), self.seconds())
        };
        if self.plan.producers > 0 {
            line("published", speed(|snapshot| snapshot.published));
        }
        if self.plan.confirm_window.is_some() {
            line("confirmed", speed(|snapshot| snapshot.confirmed));
        }
        if self.plan.consumers > 0 {
            line("consumed", speed(|snapshot| snapshot.consumed));
        }
        for (what, histogram) in [("latency", &self.latency), ("confirms", &self.confirm_latency)] {
            if !histogram.is_empty() {
                line(what, quantiles_text(histogram));
            }
        }
        let lost = self.lost.map_or("?".to_owned(), |lost| grouped(lost as f64));
        let Faults { duplicated, out_of_order, redelivered } = self.faults;
        let mut checked = format!("lost {lost}, duplicated {duplicated}, out of order {out_of_order}");
        if redelivered > 0 {
            checked.push_str(&format!(", redelivered {redelivered}"));
        }
        line("checked", format!("{checked}, errors {}", self.errors.count));
        if let Some(left) = self.left_in_queues {
            line("in queues", format!("{} messages", grouped(left as f64)));
        }
        let limit = match self.limit() {
            Limit::Rate => "the rate asked for",
            Limit::Generator => "this command, not the broker",
            Limit::Broker if self.plan.confirm_window.is_some() => "the broker (or the confirm window)",
            Limit::Broker => "the broker",
        };
        let share = 100.0 * self.generator_share();
        line("limit", format!("{limit}; the generator used {share:.0} % of its threads' time"));
        self.notes().into_iter().for_each(|note| line("note", note));
        self.errors.texts.iter().for_each(|error| line("error", error.clone()));
        lines.join("\n") + "\n"
    }

    /// Whether everything was as it should be.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let Faults { duplicated, out_of_order, .. } = self.faults;
        let mut faults = Vec::new();
        for (count, what) in [
            (self.errors.count, "errors"),
            (self.lost.unwrap_or(0), "messages lost"),
            (duplicated, "messages duplicated"),
            (out_of_order, "messages out of order"),
        ] {
            if count > 0 {
                faults.push(format!("{what}: {count}"));
            }
        }
        if let End::Count(wanted) = self.plan.end {
            let done = if self.plan.is_drain() { self.total.consumed } else { self.total.published };
            if done < wanted {
                let how = if self.is_interrupted { "interrupted after" } else { "stopped after" };
                faults.push(format!("{how} {done} of {wanted} messages"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Failure::new(faults.join(", "))) }
    }
}

/// Quantiles and their names.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// Microseconds; nothing if nothing was measured.
fn quantiles(histogram: &Histogram<u64>) -> Option<Value> {
    if histogram.is_empty() {
        return None;
    }
    let mut object = serde_json::Map::new();
    for (name, quantile) in QUANTILES {
        object.insert(name.to_owned(), json!(rounded(histogram.value_at_quantile(quantile) as f64 / 1e3, 1)));
    }
    object.insert("max".to_owned(), json!(rounded(histogram.max() as f64 / 1e3, 1)));
    object.insert("count".to_owned(), json!(histogram.len()));
    Some(Value::Object(object))
}

fn quantiles_text(histogram: &Histogram<u64>) -> String {
    let one = |(name, quantile): (&str, f64)| {
        format!("{name} {}", microseconds(histogram.value_at_quantile(quantile)))
    };
    let mut parts: Vec<String> = QUANTILES.into_iter().map(one).collect();
    parts.push(format!("max {}", microseconds(histogram.max())));
    parts.join("   ")
}

/// For instance "123 µs", "4.5 ms", "1.2 s".
fn microseconds(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// A whole number with its digits in groups of three.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}
