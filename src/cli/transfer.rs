//! `leveret copy` and `leveret move`: what lies in a queue, to another place.
//!
//! Messages are published at the destination first, and those that are confirmed there leave their queue, if they are to. Whatever
//! happens in between leaves a message in both places, never in neither.

use std::io::IsTerminal;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::browse::{Wanted, all_of};
use super::failure::Failure;
use super::output;
use super::session::{Target, once};
use super::terminal::printable;
use crate::client::{Browse, BrowsedMessage, BrowsedPage, Channel, Message, Publisher};
use crate::model::CC;

/// What was typed after `copy` or `move`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// The queue that they go to
    #[arg(conflicts_with = "exchange")]
    destination: Option<String>,
    /// They are published to this exchange, with the routing keys that they had
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// Only tell how many there are
    #[arg(long)]
    dry_run: bool,
    /// Print the numbers as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

const NO_DESTINATION: &str = "name the queue that they go to, or an exchange with --exchange";

/// What becomes of messages in the queue that they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    Leave,
}

/// How far it is.
#[derive(Debug, Default)]
struct Tally {
    /// Looked at and wanted.
    found: u64,
    /// Confirmed at the destination.
    published: u64,
    /// Of these, gone from the queue that they came from.
    moved: u64,
    /// Of these, taken by consumers of that queue before they could leave it.
    taken: u64,
}

pub(super) fn copy(arguments: &Arguments) -> Result<(), Failure> {
    run(arguments, Then::Stay)
}

pub(super) fn move_on(arguments: &Arguments) -> Result<(), Failure> {
    run(arguments, Then::Leave)
}

fn run(arguments: &Arguments, then: Then) -> Result<(), Failure> {
    let queue = &arguments.wanted.queue;
    if arguments.destination.as_ref() == Some(queue) {
        return Err(Failure::usage("the messages are in this queue already: name another one"));
    }
    if arguments.destination.is_none() && arguments.exchange.is_none() {
        return Err(Failure::usage(NO_DESTINATION));
    }
    if then == Then::Leave && arguments.wanted.retained {
        return Err(Failure::usage(
            "what is retained has left the queue already: `leveret copy` publishes it anew",
        ));
    }
    if then == Then::Leave && arguments.wanted.delayed {
        return Err(Failure::usage(
            "what is held back cannot be moved: `leveret copy` publishes it anew, and `leveret cancel` takes it out",
        ));
    }
    let bar = bar(if then == Then::Leave { "moving" } else { "copying" });
    let mut tally = Tally::default();
    let result =
        once(&arguments.target, async |channel| transfer(arguments, then, channel, &bar, &mut tally).await);
    bar.finish_and_clear();
    if let Err(failure) = result {
        return Err(match tally.published {
            0 => failure,
            published => failure.detail(format!(
                "before that, published there: {published}, and gone from queue '{}': {}",
                printable(queue),
                tally.moved
            )),
        });
    }
    match arguments.json {
        true => output::json_line(&to_json(&tally, then))?,
        false => output::line(&format!(
            "from queue '{}' to {}: {}",
            printable(queue),
            destination(arguments),
            if arguments.dry_run {
                format!("found: {}, and nothing done", tally.found)
            } else {
                words(&tally, then)
            }
        ))?,
    }
    match then {
        Then::Leave if tally.taken > 0 => Err(Failure::new(format!(
            "not moved: {}: consumers took them while they were published at the destination, which has them, too",
            tally.taken
        ))),
        _ => Ok(()),
    }
}

async fn transfer(
    arguments: &Arguments,
    then: Then,
    channel: &Channel,
    bar: &ProgressBar,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let publisher = publisher(arguments, channel).await?;
    let request = Browse { without_bodies: arguments.dry_run, ..arguments.wanted.request() };
    let limit = arguments.wanted.limit.unwrap_or(u64::MAX);
    let mut browser = channel.browse(request);
    let (mut examined, mut total) = (0, 0);
    while tally.found < limit
        && let Some(mut page) = browser.next_page().await?
    {
        page.messages.truncate(usize::try_from(limit - tally.found).unwrap_or(usize::MAX));
        if examined == 0 {
            // Later less is ready, if messages leave.
            total = all_of(&arguments.wanted, &page).min(limit);
        }
        examined += page.examined;
        tally.found += page.messages.len() as u64;
        if !arguments.dry_run {
            hand_on(arguments, then, channel, &publisher, page, tally).await?;
        }
        bar.set_length(total.max(examined));
        bar.set_position(examined);
    }
    Ok(())
}

/// Publishes a page at the destination, and then takes out what was confirmed there, also if not all of it was.
async fn hand_on(
    arguments: &Arguments,
    then: Then,
    channel: &Channel,
    publisher: &Publisher,
    page: BrowsedPage,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut failed = None;
    let mut pending = Vec::with_capacity(page.messages.len());
    for message in page.messages {
        let sequence = message.sequence;
        match publisher.publish(as_published(message, arguments.exchange.is_some())).await {
            Ok(confirm) => pending.push((sequence, confirm)),
            Err(error) => {
                failed = Some(Failure::from(error));
                break;
            }
        }
    }
    let mut confirmed = Vec::with_capacity(pending.len());
    for (sequence, confirm) in pending {
        match confirm.await {
            Ok(_) => confirmed.push(sequence),
            Err(error) => failed = failed.or(Some(Failure::from(error))),
        }
    }
    tally.published += confirmed.len() as u64;
    if then == Then::Leave && !confirmed.is_empty() {
        let left_behind = channel.remove_moved(&arguments.wanted.queue, page.queue_id, &confirmed).await?;
        tally.moved += (confirmed.len() - left_behind.len()) as u64;
        tally.taken += left_behind.len() as u64;
    }
    failed.map_or(Ok(()), Err)
}

async fn publisher(arguments: &Arguments, channel: &Channel) -> Result<Publisher, Failure> {
    let (exchange, key) = match (&arguments.exchange, &arguments.destination) {
        (Some(exchange), _) => {
            channel.check_exchange(exchange).await?;
            (exchange.as_str(), "")
        }
        (None, Some(queue)) => {
            channel.check_queue(queue).await?;
            ("", queue.as_str())
        }
        (None, None) => return Err(Failure::usage(NO_DESTINATION)),
    };
    Ok(channel.publisher(exchange, key).open().await?)
}

fn as_published(mut browsed: BrowsedMessage, keeps_key: bool) -> Message {
    if !keeps_key {
        // It is for one queue, and not for those that it was for besides.
        browsed.properties.headers.0.remove(CC);
    }
    let message = Message::new(browsed.body).with_properties(browsed.properties);
    if keeps_key { message.routing_key(browsed.routing_key) } else { message }
}

fn destination(arguments: &Arguments) -> String {
    match (&arguments.exchange, &arguments.destination) {
        (Some(exchange), _) => format!("exchange '{}'", printable(exchange)),
        (None, queue) => format!("queue '{}'", printable(queue.as_deref().unwrap_or_default())),
    }
}

fn words(tally: &Tally, then: Then) -> String {
    match then {
        Then::Stay => format!("copied: {}", tally.published),
        Then::Leave => format!("moved: {}, taken meanwhile: {}", tally.moved, tally.taken),
    }
}

fn to_json(tally: &Tally, then: Then) -> serde_json::Value {
    match then {
        Then::Stay => json!({ "found": tally.found, "copied": tally.published }),
        Then::Leave => json!({
            "found": tally.found,
            "moved": tally.moved,
            "taken_meanwhile": tally.taken,
        }),
    }
}

/// A bar beside messages that are printed; on a terminal they are what moves.
pub(super) fn bar_beside(what: &'static str) -> ProgressBar {
    if std::io::stdout().is_terminal() { ProgressBar::hidden() } else { bar(what) }
}

/// A bar of messages; hidden where nobody would see it.
fn bar(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{msg} [{bar:30}] {pos}/{len} messages  {per_sec}  {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10))
        .with_style(style.progress_chars("=> "))
        .with_message(what)
}
