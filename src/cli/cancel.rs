//! `leveret cancel`: messages that a queue holds back until a later time are not wanted any more.

use clap::{ArgGroup, Args};
use serde_json::json;

use super::failure::Failure;
use super::journeys::header;
use super::number;
use super::output;
use super::session::{Target, once};
use super::terminal::printable;
use super::transfer::bar_beside;
use crate::client::{Browse, BrowsedMessage, Channel};

/// What was typed after `cancel`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["id", "key", "header", "all"]).required(true).multiple(true))]
pub(super) struct Arguments {
    /// The queue
    queue: String,
    /// Only the messages with this id
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    id: Option<String>,
    /// Only messages whose routing key matches this pattern, as in a binding of a topic exchange
    #[arg(long, value_name = "PATTERN", conflicts_with = "all")]
    key: Option<String>,
    /// Only messages with this header
    #[arg(long, value_name = "NAME=VALUE", value_parser = header, conflicts_with = "all")]
    header: Option<(String, String)>,
    /// All that the queue holds back
    #[arg(long)]
    all: bool,
    /// So many messages at most
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(1, u64::MAX))]
    limit: Option<u64>,
    /// Only tell how many there are
    #[arg(long)]
    dry_run: bool,
    /// Print the numbers as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

/// How far it is.
#[derive(Debug, Default)]
struct Tally {
    /// Held back and wanted.
    found: u64,
    /// Of these, gone.
    cancelled: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let bar = bar_beside("cancelling");
    let mut tally = Tally::default();
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let result = once(&arguments.target, async |channel| {
        let request = Browse {
            delayed: true,
            routing_key: arguments.key.clone(),
            header: arguments.header.clone(),
            without_bodies: true,
            ..Browse::new(&arguments.queue)
        };
        let mut browser = channel.browse(request);
        let mut examined = 0;
        while tally.found < limit
            && let Some(page) = browser.next_page().await?
        {
            examined += page.examined;
            bar.set_length(page.messages_delayed.max(examined));
            bar.set_position(examined);
            let rest = usize::try_from(limit - tally.found).unwrap_or(usize::MAX);
            let wanted = page.messages.iter().filter(|message| is_wanted(arguments, message));
            let wanted: Vec<u64> = wanted.map(|message| message.sequence).take(rest).collect();
            cancel(arguments, channel, page.queue_id, &wanted, &mut tally).await?;
        }
        Ok(())
    });
    bar.finish_and_clear();
    result?;
    let Tally { found, cancelled } = tally;
    match arguments.json {
        true => output::json_line(&json!({ "found": found, "cancelled": cancelled })),
        false if arguments.dry_run => output::line(&format!("found: {found}, and nothing done")),
        false => output::line(&format!("cancelled in queue '{}': {cancelled}", printable(&arguments.queue))),
    }
}

fn is_wanted(arguments: &Arguments, message: &BrowsedMessage) -> bool {
    arguments.id.as_ref().is_none_or(|id| *id == message.properties.message_id)
}

async fn cancel(
    arguments: &Arguments,
    channel: &Channel,
    queue_id: u64,
    wanted: &[u64],
    tally: &mut Tally,
) -> Result<(), Failure> {
    tally.found += wanted.len() as u64;
    if !arguments.dry_run && !wanted.is_empty() {
        // Those whose time came meanwhile are there for consumers.
        let others = channel.cancel_delayed(&arguments.queue, queue_id, wanted).await?;
        tally.cancelled += (wanted.len() - others.len()) as u64;
    }
    Ok(())
}
