//! `leveret journeys`: of which messages journeys are kept.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use super::session::{Target, once};
use super::table::Table;
use super::terminal::Terminal;
use crate::client::{JourneyRule, JourneyScope};

/// What was typed after `journeys`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Keep journeys of messages from now on, in the place of what was said before
    ///
    /// Of all that is published in the vhost, unless an exchange or a queue is named.
    On {
        #[command(flatten)]
        scope: Scope,
        /// How many of them: "1%", "1/100" or "all"
        #[arg(long, value_name = "PART", value_parser = sample, default_value = "all")]
        sample: u32,
        /// Only those whose routing key matches this pattern, as in a binding of a topic exchange
        #[arg(long, value_name = "PATTERN")]
        key: Option<String>,
        /// Only those with this header, its value as it is written as text
        #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
        header: Option<(String, String)>,
    },
    /// Begin no journeys any more; what is kept stays
    Off {
        #[command(flatten)]
        scope: Scope,
    },
    /// Show of which messages journeys are kept
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Scope {
    /// What is published to this exchange; "" is the default exchange
    #[arg(long, value_name = "EXCHANGE", conflicts_with = "queue")]
    exchange: Option<String>,
    /// What reaches this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
}

impl Scope {
    fn scope(self) -> JourneyScope {
        match (self.exchange, self.queue) {
            (Some(name), _) => JourneyScope::Exchange(name),
            (None, Some(name)) => JourneyScope::Queue(name),
            (None, None) => JourneyScope::Vhost,
        }
    }
}

/// A million.
const ALL: u32 = 1_000_000;

fn sample(typed: &str) -> Result<u32, String> {
    let expected =
        || "expected \"all\", a percentage such as 1% or 0.5%, or one of so many, such as 1/100".to_owned();
    let per_million = if typed == "all" {
        f64::from(ALL)
    } else if let Some(percent) = typed.strip_suffix('%') {
        percent.parse::<f64>().map_err(|_| expected())? * f64::from(ALL) / 100.0
    } else {
        let of = typed.strip_prefix("1/").ok_or_else(expected)?;
        f64::from(ALL) / f64::from(of.parse::<u32>().map_err(|_| expected())?)
    };
    let rounded = per_million.round();
    match (1.0..=f64::from(ALL)).contains(&rounded) {
        true => Ok(rounded as u32),
        false => {
            Err("expected a part of the messages: one of a million at least, all of them at most".to_owned())
        }
    }
}

pub(super) fn header(typed: &str) -> Result<(String, String), String> {
    let split = typed.split_once('=').filter(|(name, _)| !name.is_empty());
    split
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected NAME=VALUE".to_owned())
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let target = arguments.target;
    match arguments.what {
        What::On { scope, sample, key, header } => {
            let rule = JourneyRule { scope: scope.scope(), per_million: sample, routing_key: key, header };
            once(&target, async |channel| Ok(channel.keep_journeys(&rule).await?))?;
            output::line(&format!("journeys are kept: {}, {}", scope_words(&rule.scope), which(&rule)))
        }
        What::Off { scope } => {
            let scope = scope.scope();
            let rest = once(&target, async |channel| {
                channel.keep_no_journeys(&scope).await?;
                Ok(channel.list_journey_rules().await?.len())
            })?;
            let others = match rest {
                0 => String::new(),
                1 => ", 1 other rule stays".to_owned(),
                rest => format!(", {rest} other rules stay"),
            };
            output::line(&format!("no journeys begin any more: {}{others}", scope_words(&scope)))
        }
        What::List { json } => {
            let rules = once(&target, async |channel| Ok(channel.list_journey_rules().await?))?;
            if json {
                return output::json_line(&Value::Array(rules.iter().map(to_json).collect()));
            }
            let mut table = Table::new().text("OF").text("WHICH");
            rules.iter().for_each(|rule| table.row([scope_words(&rule.scope), which(rule)]));
            output::text(&table.render(Terminal::of_stdout()))
        }
    }
}

fn scope_words(scope: &JourneyScope) -> String {
    match scope {
        JourneyScope::Vhost => "the whole vhost".to_owned(),
        JourneyScope::Exchange(name) => format!("exchange '{name}'"),
        JourneyScope::Queue(name) => format!("queue '{name}'"),
    }
}

fn which(rule: &JourneyRule) -> String {
    let mut words = match rule.per_million {
        ALL => "all messages".to_owned(),
        per_million => format!("{} % of the messages", f64::from(per_million) / 10_000.0),
    };
    if let Some(key) = &rule.routing_key {
        words.push_str(&format!(" with key {key}"));
    }
    if let Some((name, value)) = &rule.header {
        words.push_str(&format!(" with header {name}={value}"));
    }
    words
}

fn to_json(rule: &JourneyRule) -> Value {
    let (scope, name) = match &rule.scope {
        JourneyScope::Vhost => ("vhost", None),
        JourneyScope::Exchange(name) => ("exchange", Some(name)),
        JourneyScope::Queue(name) => ("queue", Some(name)),
    };
    json!({
        "scope": scope,
        "name": name,
        "per_million": rule.per_million,
        "routing_key": rule.routing_key,
        "header": rule.header.as_ref().map(|(name, value)| json!({ "name": name, "value": value })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_part_of_the_messages() {
        for (typed, expect) in [("all", 1_000_000), ("100%", 1_000_000), ("1%", 10_000), ("0.5%", 5_000)] {
            assert_eq!(sample(typed), Ok(expect), "{typed}");
        }
        for (typed, expect) in [("1/1", 1_000_000), ("1/100", 10_000), ("1/3", 333_333), ("0.0001%", 1)] {
            assert_eq!(sample(typed), Ok(expect), "{typed}");
        }
        for typed in ["", "0%", "101%", "1/0", "2/3", "-1%", "NaN%", "inf%", "some", "1/10000000", "1"] {
            assert!(sample(typed).is_err_and(|told| told.contains("expected")), "{typed}");
        }
    }
}
