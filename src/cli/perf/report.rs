//! What a run has shown: for people, for programs, and as an exit status.

use hdrhistogram::Histogram;
use serde::Serialize;
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

    /// Share of its threads' time that this command took. What little the others do that it has, such as the one that keeps
    /// the pace, may bring it above all there is.
    fn generator_share(&self) -> f64 {
        let seconds = self.seconds();
        let cpu = self.end.cpu_seconds - self.begin.cpu_seconds;
        if seconds > 0.0 { (cpu / seconds / self.plan.threads as f64).min(1.0) } else { 0.0 }
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

/// A histogram in microseconds, as programs read it.
#[derive(Debug, Serialize)]
struct LatencyUs {
    p50: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
    /// Messages that were measured.
    count: u64,
}

/// Nothing if nothing was measured.
fn quantiles(histogram: &Histogram<u64>) -> Option<LatencyUs> {
    let us = |nanoseconds: u64| rounded(nanoseconds as f64 / 1e3, 1);
    let at = |quantile: f64| us(histogram.value_at_quantile(quantile));
    (!histogram.is_empty()).then(|| LatencyUs {
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        p999: at(0.999),
        max: us(histogram.max()),
        count: histogram.len(),
    })
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Arguments;
    use super::super::scoreboard::new_histogram;
    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// Two seconds in which all went well.
    fn results(typed: &str) -> Results {
        let words = std::iter::once("perf").chain(typed.split_whitespace());
        let plan = Plan::new(&Typed::try_parse_from(words).expect(typed).arguments).expect(typed);
        let threads = plan.threads as f64;
        let snapshot = |at_s: u64, messages: u64, cpu_seconds: f64| Snapshot {
            at_ns: at_s * 1_000_000_000,
            published: messages,
            confirmed: messages,
            consumed: messages,
            cpu_seconds,
        };
        let mut latency = new_histogram();
        latency.saturating_record_n(100_000, 99);
        latency.saturating_record_n(5_000_000, 1);
        Results {
            plan,
            begin: snapshot(10, 500, 1.0),
            end: snapshot(12, 2_500_500, 1.0 + threads),
            total: snapshot(13, 2_600_000, 2.0 + threads),
            confirmed_level: None,
            queue_durability: Durability::Synced,
            latency,
            confirm_latency: new_histogram(),
            late: None,
            lost: Some(0),
            faults: Faults::default(),
            foreign: 0,
            left_in_queues: None,
            errors: Errors::default(),
            is_interrupted: false,
        }
    }

    #[track_caller]
    fn check_guarantee(typed: &str, confirmed: Option<Durability>, guarantee: &str) {
        let json = Results { confirmed_level: confirmed, ..results(typed) }.to_json();
        assert_eq!(json["guarantee"], guarantee, "{typed}");
    }

    #[track_caller]
    fn check_failure(results: Results, needle: &str) {
        let failure = results.verdict().expect_err(needle).to_string();
        assert!(failure.contains(needle), "{failure}");
    }

    #[test]
    fn the_guarantee_is_what_confirms_said_and_nothing_without_them() {
        check_guarantee("--confirm 10", Some(Durability::Synced), "synced");
        check_guarantee("--confirm 10 --transient", Some(Durability::Memory), "memory");
        check_guarantee("--confirm 10", None, "memory");
        check_guarantee("--durable", None, "memory");
        check_guarantee("--producers 0 --queue q", None, "synced");
    }

    #[test]
    fn programs_find_what_they_were_promised() {
        let json = results("--confirm 100 --size 16").to_json();
        assert_eq!((&json["config"]["confirm"], &json["config"]["size"]), (&json!(100), &json!(16)));
        assert_eq!((&json["seconds"], &json["published"]), (&json!(2.0), &json!(2_500_000)));
        assert_eq!(
            (&json["publish_rate"], &json["consume_rate"]),
            (&json!(1_250_000.0), &json!(1_250_000.0))
        );
        assert_eq!(json["total"]["consumed"], 2_600_000);
        assert_eq!(json["confirm_latency_us"], Value::Null, "nothing was measured");
        for (name, about) in
            [("p50", 100.0), ("p95", 100.0), ("p99", 100.0), ("p999", 5000.0), ("max", 5000.0)]
        {
            let value = json["latency_us"][name].as_f64().expect(name);
            assert!((value - about).abs() <= about / 500.0, "{name}: {value}");
        }
        for name in ["errors", "lost", "duplicated", "out_of_order"] {
            assert_eq!(json[name], 0, "{name}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_a_failure() {
        assert!(results("").verdict().is_ok());
        check_failure(Results { lost: Some(3), ..results("") }, "messages lost: 3");
        let faults = Faults { duplicated: 4, out_of_order: 5, redelivered: 6 };
        check_failure(Results { faults, ..results("") }, "messages duplicated: 4, messages out of order: 5");
        let errors = Errors { count: 7, texts: vec!["no".into()] };
        check_failure(Results { errors, ..results("") }, "errors: 7");
        check_failure(results("--count 3000000"), "stopped after 2600000 of 3000000 messages");
        check_failure(Results { is_interrupted: true, ..results("--count 3000000") }, "interrupted after");
        let drained = results("--producers 0 --queue q --count 2600000");
        assert!(drained.verdict().is_ok());
    }

    #[test]
    fn what_may_be_is_no_failure() {
        let faults = Faults { redelivered: 6, ..Faults::default() };
        assert!(Results { faults, lost: None, foreign: 9, ..results("") }.verdict().is_ok());
        assert!(Results { is_interrupted: true, ..results("") }.verdict().is_ok());
    }

    #[test]
    fn it_says_who_was_the_limit() {
        let busy = |share: f64, typed: &str| {
            let mut results = results(typed);
            results.end.cpu_seconds = 1.0 + 2.0 * share * results.plan.threads as f64;
            results
        };
        assert_eq!(busy(0.5, "").limit(), Limit::Broker);
        assert_eq!(busy(0.95, "").limit(), Limit::Generator);
        assert!(busy(0.95, "").to_text(Terminal::none()).contains("this command, not the broker"));
        assert!(busy(1.2, "").to_text(Terminal::none()).contains("used 100 % of"));
        assert_eq!(busy(0.5, "--rate 1250000").limit(), Limit::Rate);
        assert_eq!(busy(0.5, "--rate 2000000").limit(), Limit::Broker);
        let notes = busy(0.5, "--rate 2000000").notes();
        assert!(notes[0].contains("the rate was not reached"), "{notes:?}");
    }

    #[test]
    fn people_read_lines() {
        let results =
            Results { confirmed_level: Some(Durability::Synced), ..results("--confirm 1000 --threads 2") };
        let text = results.to_text(Terminal::none());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "1 producer, 1 queue, 1 consumer · 1024 bytes · durable · confirm window 1000 · manual acks, prefetch 1000",
                "  guarantee  synced (every confirm said synced or better)",
                "  published    1,250,000/s   (2,500,000 in 2.0 s)",
                "  confirmed    1,250,000/s   (2,500,000 in 2.0 s)",
                "  consumed     1,250,000/s   (2,500,000 in 2.0 s)",
            ]
        );
        assert!(
            lines[5].starts_with("  latency    p50 100 µs   p95 100 µs   p99 100 µs   p999 5.0 ms"),
            "{text}"
        );
        assert_eq!(lines[6], "  checked    lost 0, duplicated 0, out of order 0, errors 0");
    }

    #[test]
    fn numbers_are_easy_to_read() {
        let cases = [(0.0, "0"), (999.4, "999"), (999.6, "1,000"), (1_234_567.0, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(microseconds(1_234), "1 µs");
        assert_eq!(microseconds(1_234_567), "1.2 ms");
        assert_eq!(microseconds(1_234_567_890), "1.2 s");
    }
}
