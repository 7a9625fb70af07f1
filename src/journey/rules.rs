//! Of which messages journeys are kept.

use std::ops::Range;

use crate::model::{ExchangeName, FieldValue, QueueName, RoutingKey};
use crate::routing::pattern_matches;

/// Every message is kept: so many of a million.
pub const SAMPLE_ALL: u32 = 1_000_000;

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All that is published in the vhost.
    Vhost,
    /// What is published to an exchange of this name.
    Exchange(ExchangeName),
    /// What reaches a queue of this name.
    Queue(QueueName),
}

/// Which messages of a scope a rule takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those whose routing key matches this pattern, as in a binding of a topic exchange.
    pub key: Option<RoutingKey>,
    /// Those with a header of this name that has this value, as it is written as text.
    pub header: Option<(String, String)>,
}

impl Filter {
    /// Whether it takes a message with this routing key. `header` gives the value of one.
    pub fn takes(&self, key: &str, header: impl Fn(&str) -> Option<FieldValue>) -> bool {
        let of_key = self.key.as_ref().is_none_or(|pattern| pattern_matches(pattern, key));
        let has = |(name, value): &(String, String)| header(name).is_some_and(|is| is_written(&is, value));
        of_key && self.header.as_ref().is_none_or(has)
    }
}

/// Journeys of these messages are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub scope: Scope,
    /// Which of these messages.
    pub filter: Filter,
    /// So many of a million of those, evenly; 1 to [`SAMPLE_ALL`].
    pub per_million: u32,
}

/// All rules of a vhost: one for each scope.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Rule>);

/// What the rules say about messages of one exchange and key that reach the same queues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of all of them so many of a million.
    per_million: u32,
    /// Of those with a header, more: name, value, so many of a million.
    by_header: Vec<(String, String, u32)>,
}

impl Rules {
    /// These.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// No journeys are kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they say about messages that are published to an exchange with this key, and reach those queues.
    pub fn wanted(&self, exchange: &str, key: &str, reaches: impl Fn(&QueueName) -> bool) -> Wanted {
        let mut wanted = Wanted::default();
        for Rule { scope, filter, per_million } in &self.0 {
            let is_about = match scope {
                Scope::Vhost => true,
                Scope::Exchange(name) => **name == *exchange,
                Scope::Queue(name) => reaches(name),
            };
            if !is_about || !filter.key.as_ref().is_none_or(|pattern| pattern_matches(pattern, key)) {
                continue;
            }
            match &filter.header {
                None => wanted.per_million = wanted.per_million.max(*per_million),
                Some((name, value)) => wanted.by_header.push((name.clone(), value.clone(), *per_million)),
            }
        }
        wanted
    }
}

impl Wanted {
    /// None of the messages.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// All of them.
    pub fn is_all(&self) -> bool {
        self.per_million >= SAMPLE_ALL
    }

    /// Which of the messages with these numbers, which came together, are to be kept if that is not up to their headers: as many as
    /// were wanted, and neighbours, since a run of messages costs no more than one. `None`: it is up to headers.
    pub fn run_of(&self, numbers: Range<u64>) -> Option<Range<u64>> {
        if !self.by_header.is_empty() {
            return None;
        }
        let count =
            sampled_before(numbers.end, self.per_million) - sampled_before(numbers.start, self.per_million);
        if count == 0 {
            return Some(numbers.start..numbers.start);
        }
        let is_first = |number: &u64| is_sampled(*number, self.per_million);
        let first = numbers.clone().find(is_first).unwrap_or(numbers.start).min(numbers.end - count);
        Some(first..first + count)
    }

    /// Whether the message with this number is to be kept. Numbers are given to all messages that are looked at, so that what
    /// is taken of those that follow each other is as much as was wanted, and evenly. `header` gives the value of one.
    pub fn takes(&self, number: u64, header: impl Fn(&str) -> Option<FieldValue>) -> bool {
        is_sampled(number, self.per_million)
            || self.by_header.iter().any(|(name, value, per_million)| {
                is_sampled(number, *per_million) && header(name).is_some_and(|is| is_written(&is, value))
            })
    }
}

fn is_sampled(number: u64, per_million: u32) -> bool {
    // The steps of a line that rises by so much in a million.
    let (number, all) = (number % u64::from(SAMPLE_ALL), u64::from(SAMPLE_ALL));
    number * u64::from(per_million) % all < u64::from(per_million)
}

/// How many of the numbers below this one are sampled.
fn sampled_before(number: u64, per_million: u32) -> u64 {
    let steps = |number: u64| u128::from(number) * u128::from(per_million) / u128::from(SAMPLE_ALL);
    match number {
        _ if per_million == 0 => 0,
        0 => 0,
        number => steps(number - 1) as u64 + 1,
    }
}

fn is_written(value: &FieldValue, text: &str) -> bool {
    match value {
        FieldValue::Text(value) => value == text,
        FieldValue::Boolean(value) => text.parse() == Ok(*value),
        FieldValue::Integer(value) => text.parse() == Ok(*value),
        FieldValue::Unsigned(value) => text.parse() == Ok(*value),
        FieldValue::Double(value) => text.parse() == Ok(*value),
        FieldValue::TimestampSeconds(value) => text.parse() == Ok(*value),
        FieldValue::Void
        | FieldValue::Bytes(_)
        | FieldValue::Table(_)
        | FieldValue::List(_)
        | FieldValue::Decimal { .. } => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rule(scope: Scope, key: Option<&str>, header: Option<(&str, &str)>, per_million: u32) -> Rule {
        let filter = Filter {
            key: key.map(|key| RoutingKey::new(key).unwrap()),
            header: header.map(|(name, value)| (name.to_owned(), value.to_owned())),
        };
        Rule { scope, filter, per_million }
    }

    #[test]
    fn a_sample_is_as_large_as_it_is_said_to_be_and_even() {
        let start = 1_700_000_000_123 << 20;
        for per_million in [1_000, 10_000, 30_000, 333_333, 1_000_000] {
            let taken: Vec<u64> =
                (start..start + 1_000_000).filter(|number| is_sampled(*number, per_million)).collect();
            assert_eq!(taken.len(), per_million as usize);
            let widest = taken.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(widest <= u64::from(1_000_000u32.div_ceil(per_million)), "{per_million}: {widest}");
        }
        assert!(!is_sampled(5, 0));
    }

    #[test]
    fn of_messages_that_came_together_neighbours_are_taken_and_as_many_as_were_wanted() {
        let start = 1_700_000_000_123 << 20;
        for (per_million, frame) in
            [(10_000, 1), (10_000, 7), (10_000, 650), (333_333, 10), (999_999, 64), (0, 9)]
        {
            let wanted = Wanted { per_million, by_header: Vec::new() };
            let (mut taken, mut frames) = (0, 0);
            for first in (start..start + 1_000_000).step_by(frame) {
                let numbers = first..first + frame as u64;
                let run = wanted.run_of(numbers.clone()).unwrap();
                assert!(run.start >= numbers.start && run.end <= numbers.end, "{run:?} of {numbers:?}");
                let one_by_one = numbers.filter(|number| is_sampled(*number, per_million)).count() as u64;
                assert_eq!(run.end - run.start, one_by_one);
                taken += one_by_one;
                frames += 1;
            }
            let all = frames * frame as u64;
            assert!((all * u64::from(per_million) / 1_000_000).abs_diff(taken) <= 1, "{taken} of {all}");
        }
        let by_header = vec![("a".to_owned(), "b".to_owned(), 1)];
        assert_eq!(Wanted { per_million: 5, by_header }.run_of(0..9), None, "each is looked at");
    }

    #[test]
    fn each_scope_takes_what_is_its_own() {
        let orders = Scope::Exchange(ExchangeName::new("orders").unwrap());
        let billing = Scope::Queue(QueueName::new("billing").unwrap());
        let takes = |rules: &[&Rule], exchange: &str, key: &str| {
            let rules = Rules::new(rules.iter().map(|rule| (*rule).clone()).collect());
            let wanted = rules.wanted(exchange, key, |queue| &**queue == "billing");
            let colour = |name: &str| (name == "colour").then(|| FieldValue::from("red"));
            (wanted.takes(1, |_| None), wanted.takes(1, colour))
        };
        let all = rule(Scope::Vhost, None, None, SAMPLE_ALL);
        let of_orders = rule(orders, Some("*.paid"), None, SAMPLE_ALL);
        let of_billing = rule(billing, None, Some(("colour", "red")), SAMPLE_ALL);
        assert_eq!(takes(&[], "orders", "eu.paid"), (false, false));
        assert_eq!(takes(&[&all], "x", ""), (true, true));
        assert_eq!(takes(&[&of_orders], "orders", "eu.paid"), (true, true));
        assert_eq!(takes(&[&of_orders], "orders", "eu.late"), (false, false));
        assert_eq!(takes(&[&of_orders], "others", "eu.paid"), (false, false));
        assert_eq!(takes(&[&of_billing], "others", "eu.paid"), (false, true));
        assert_eq!(takes(&[&of_orders, &of_billing], "orders", "eu.late"), (false, true));
        let elsewhere = rule(Scope::Queue(QueueName::new("else").unwrap()), None, None, SAMPLE_ALL);
        assert_eq!(takes(&[&elsewhere], "orders", "eu.paid"), (false, false));
    }

    #[test]
    fn values_of_headers_are_compared_as_they_are_written() {
        for (value, text, expect) in [
            (FieldValue::from("red"), "red", true),
            (FieldValue::from("red"), "Red", false),
            (FieldValue::Integer(-5), "-5", true),
            (FieldValue::Unsigned(7), "7", true),
            (FieldValue::Boolean(true), "true", true),
            (FieldValue::Double(0.5), "0.5", true),
            (FieldValue::Integer(5), "red", false),
            (FieldValue::Void, "", false),
        ] {
            assert_eq!(is_written(&value, text), expect, "{value:?} {text}");
        }
    }
}
