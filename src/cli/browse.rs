//! `leveret browse`: what lies in a queue, which stays as it is.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::clock::{self, ago};
use super::failure::Failure;
use super::field;
use super::journeys::header;
use super::message_output::{came_back, properties_to_json, put_body, readable_body};
use super::number;
use super::output;
use super::properties;
use super::session::{Target, once};
use super::terminal::printable;
use super::transfer::bar_beside;
use crate::client::{Browse, BrowsedMessage, BrowsedPage};
use crate::model::Timestamp;

/// Which messages of a queue.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// The queue
    pub(super) queue: String,
    /// Only messages whose routing key matches this pattern, as in a binding of a topic exchange
    #[arg(long, value_name = "PATTERN")]
    pub(super) key: Option<String>,
    /// Only messages with this header
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    pub(super) header: Option<(String, String)>,
    /// Only messages that came so long ago or longer: seconds, or a number with s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub(super) older_than: Option<Duration>,
    /// Only messages that came within this time
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub(super) newer_than: Option<Duration>,
    /// Messages that consumers are done with and that the queue retains, in the place of those that wait
    #[arg(long)]
    pub(super) retained: bool,
    /// Messages that are held back until a later time, in the place of those that wait
    #[arg(long, conflicts_with = "retained")]
    pub(super) delayed: bool,
    /// Of the retained ones only the newest so many
    #[arg(long, value_name = "N", requires = "retained", value_parser = number::whole::<u64>(1, u64::MAX))]
    pub(super) last: Option<u64>,
    /// So many messages at most
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(1, u64::MAX))]
    pub(super) limit: Option<u64>,
}

/// What was typed after `browse`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Show the bodies, too, and not only how long they are
    #[arg(long)]
    bodies: bool,
    /// Show all properties of the messages, not only their headers
    #[arg(long)]
    properties: bool,
    /// Print a JSON object for each message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

impl Wanted {
    /// The request for them.
    pub(super) fn request(&self) -> Browse {
        let before_now = |ago: Duration| {
            Timestamp(clock::now_ms().saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
        };
        Browse {
            routing_key: self.key.clone(),
            header: self.header.clone(),
            came_since: self.newer_than.map(before_now),
            came_before: self.older_than.map(before_now),
            retained: self.retained,
            delayed: self.delayed,
            newest: self.last,
            ..Browse::new(&self.queue)
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Wanted { limit, .. } = arguments.wanted;
    let request = Browse { without_bodies: !arguments.bodies, ..arguments.wanted.request() };
    let bar = bar_beside("browsing");
    let result = once(&arguments.target, async |channel| {
        let mut browser = channel.browse(request);
        let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
        let mut examined = 0;
        let (mut shown, mut numbers) = (0, (0, 0));
        let limit = limit.unwrap_or(u64::MAX);
        while shown < limit
            && let Some(page) = browser.next_page().await?
        {
            numbers = (all_of(&arguments.wanted, &page), page.messages_unacknowledged);
            let rest = usize::try_from(limit - shown).unwrap_or(usize::MAX);
            for message in page.messages.iter().take(rest) {
                shown += 1;
                let line = match arguments.json {
                    true => output::json_text(&to_json(message, arguments.bodies)),
                    false => readable(message, arguments.bodies, arguments.properties),
                };
                writeln!(stdout, "{line}")?;
            }
            // What is there is seen before the next page is.
            stdout.flush()?;
            examined += page.examined;
            bar.set_length(numbers.0.max(examined));
            bar.set_position(examined);
        }
        if !arguments.json {
            let (all, unsettled) = numbers;
            let queue = printable(&arguments.wanted.queue);
            match (arguments.wanted.retained, arguments.wanted.delayed) {
                (true, _) => writeln!(stdout, "shown: {shown}, retained by queue '{queue}': {all}")?,
                (_, true) => writeln!(stdout, "shown: {shown}, held back by queue '{queue}': {all}")?,
                (false, false) => writeln!(
                    stdout,
                    "shown: {shown}, ready in queue '{queue}': {all}, with consumers and not shown: {unsettled}"
                )?,
            }
        }
        Ok(stdout.flush()?)
    });
    bar.finish_and_clear();
    result
}

/// How many messages the queue had of those that are wanted, before filters.
pub(super) fn all_of(wanted: &Wanted, page: &BrowsedPage) -> u64 {
    match (wanted.retained, wanted.delayed) {
        (true, _) => page.messages_retained,
        (_, true) => page.messages_delayed,
        (false, false) => page.messages_ready,
    }
}

/// Sequence, routing key, body or its length, and what is remarkable, on a line.
pub(super) fn readable(message: &BrowsedMessage, with_body: bool, with_properties: bool) -> String {
    let body = match with_body {
        true => readable_body(&message.body),
        false => format!("{} bytes", message.body_bytes),
    };
    let mut remarks = Vec::new();
    if !message.exchange.is_empty() {
        remarks.push(format!("exchange {}", printable(&message.exchange)));
    }
    if message.replayed {
        remarks.push("replayed".to_owned());
    } else if message.redelivered {
        remarks.push(came_back(message.delivery_count));
    }
    if let Some(until) = message.delayed_until {
        remarks.push(format!("until {}", clock::in_words(until.0)));
    }
    if message.resent {
        remarks.push("sent more than once".to_owned());
    }
    if with_properties {
        remarks.extend(message.came_at.map(|at| format!("came {}", clock::in_words(at.0))));
        remarks.extend(properties::in_words(&message.properties));
    }
    if !message.properties.headers.is_empty() {
        remarks.push(printable(&field::notation(&message.properties.headers)));
    }
    let remarks = match remarks.is_empty() {
        true => String::new(),
        false => format!("  ({})", remarks.join("; ")),
    };
    format!("{}  {}  {body}{remarks}", message.sequence, printable(&message.routing_key))
}

pub(super) fn to_json(message: &BrowsedMessage, with_body: bool) -> Value {
    let mut json = json!({
        "sequence": message.sequence,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "redelivered": message.redelivered,
        "delivery_count": message.delivery_count,
        "resent": message.resent,
        "replayed": message.replayed,
        "came_at_ms": message.came_at.map(|at| at.0),
        "delayed_until_ms": message.delayed_until.map(|at| at.0),
        "headers": field::table_to_json(&message.properties.headers),
        "properties": properties_to_json(&message.properties),
        "body_bytes": message.body_bytes,
    });
    if with_body {
        put_body(&message.body, &mut json);
    }
    json
}
