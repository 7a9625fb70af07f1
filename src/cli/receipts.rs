//! `leveret receipts`: who has had a message, and who has it.

use clap::Args;
use serde_json::{Value, json};

use super::clock;
use super::failure::{Failure, field_at_fault};
use super::output;
use super::session::{Target, once};
use super::table::Table;
use super::terminal::{Terminal, printable};
use crate::client::{Journey, Journeys, Receipt, ReceiptState, Taker};
use crate::model::{Refusal, is_reply_address};

/// What was typed after `receipts`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The id that the publisher gave the message, or the one that the broker made
    id: String,
    /// Print all that is known as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let told = once(&arguments.target, async |channel| Ok(channel.receipts(&arguments.id).await?))?;
    check_found(&told, &arguments.id)?;
    if arguments.json {
        let journeys = told.journeys.iter().map(journey_to_json);
        return output::json_line(&Value::Array(journeys.collect()));
    }
    let terminal = Terminal::of_stdout();
    let mut out = String::new();
    for journey in &told.journeys {
        out.push_str(&head(journey));
        if !journey.receipts.is_empty() {
            out.push_str(&table(&journey.receipts).render(terminal));
        }
    }
    if told.more {
        out.push_str("there are more messages with this id\n");
    }
    output::text(&out)
}

/// Fails with the reason if nothing is kept of an id.
pub(super) fn check_found(told: &Journeys, id: &str) -> Result<(), Failure> {
    if !told.journeys.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(format!("nothing is kept of message '{id}'"));
    let since = told.since.map(|since| clock::in_words(since.0));
    Err(match (told.has_gone, told.is_off, since) {
        (true, _, Some(since)) => failure.detail(format!(
            "it has given way to newer ones, or the broker was restarted: what is kept begins at {since}"
        )),
        (true, _, None) => failure.detail("the broker was restarted since, and nothing is kept yet"),
        (false, true, _) => failure
            .detail("journeys of no messages are kept in this vhost")
            .hint("`leveret journeys on --exchange NAME` keeps those of what is published from then on"),
        (false, false, None) => failure.detail("nothing is kept yet"),
        (false, false, Some(since)) => {
            let lost = match told.lost {
                0 => String::new(),
                lost => format!("; {lost} older publications have given way"),
            };
            failure.detail(format!("what is kept begins at {since}{lost}")).hint(
                "`leveret journeys list` shows of which messages journeys are kept: maybe not of this one",
            )
        }
    })
}

/// A line about a message itself.
pub(super) fn head(journey: &Journey) -> String {
    let id = journey.message_id.as_ref().map_or(&journey.id, |id| id);
    let mut line = format!(
        "message '{}': exchange '{}', key '{}', {}",
        printable(id),
        printable(&journey.exchange),
        printable(&journey.routing_key),
        clock::in_words(journey.published_at.0)
    );
    if let Some(refusal) = &journey.refusal {
        line.push_str(&format!("\nrefused: {}", printable(&refusal.text)));
        for words in [field_at_fault(refusal), refusal_hint(refusal)].into_iter().flatten() {
            line.push_str(&format!("\n  {}", printable(&words)));
        }
    } else if journey.receipts.is_empty() {
        line.push_str(match journey.mandatory {
            _ if is_reply(journey) => "\nit is a reply: replies wait in no queue",
            true => "\nreached no queue, and went back to its publisher",
            false => "\nreached no queue",
        });
    }
    line.push('\n');
    line
}

fn is_reply(journey: &Journey) -> bool {
    journey.exchange.is_empty() && is_reply_address(&journey.routing_key)
}

fn refusal_hint(refusal: &Refusal) -> Option<String> {
    Some(format!("hint: {}", refusal.hint)).filter(|_| !refusal.hint.is_empty())
}

pub(super) fn table(receipts: &[Receipt]) -> Table {
    let mut table =
        Table::new().text("FOR").text("STATE").number("SENT").number("BACK").text("TO").text("AT");
    for receipt in receipts {
        let at = receipt.since.map(|since| time_of_day(since.0)).unwrap_or_default();
        let to = receipt.last_delivery.as_ref().map(|(_, taker)| taker_words(taker)).unwrap_or_default();
        table.row([
            owner(receipt),
            state(receipt),
            receipt.deliveries.to_string(),
            receipt.returns.to_string(),
            to,
            at,
        ]);
    }
    table
}

/// The subscription, with its member, or the queue.
pub(super) fn owner(receipt: &Receipt) -> String {
    match (&receipt.subscription, &receipt.member) {
        (Some(subscription), Some(member)) => format!("{subscription}:{member}"),
        (Some(subscription), None) => subscription.clone(),
        (None, _) => format!("queue {}", receipt.queue),
    }
}

pub(super) fn state(receipt: &Receipt) -> String {
    match (receipt.state, receipt.dark_since) {
        (ReceiptState::Pending, Some(_)) => "pending, dark".to_owned(),
        (state, _) => state.as_str().to_owned(),
    }
}

/// Who it is, in few words.
pub(super) fn taker_words(taker: &Taker) -> String {
    let name = if taker.tag.is_empty() { "a single request" } else { &taker.tag };
    match taker.party.user.as_str() {
        "" => format!("{name} (connection {})", taker.party.connection_id),
        user => format!("{name} ({user}, connection {})", taker.party.connection_id),
    }
}

/// For instance "09:30:00.125".
pub(super) fn time_of_day(ms: u64) -> String {
    let words = clock::in_words(ms);
    words.split_once('T').map_or(words.as_str(), |(_, time)| time.trim_end_matches('Z')).to_owned()
}

pub(super) fn journey_to_json(journey: &Journey) -> Value {
    json!({
        "id": journey.id,
        "message_id": journey.message_id,
        "published_at_ms": journey.published_at.0,
        "publisher": party_to_json(&journey.publisher),
        "channel": journey.channel,
        "exchange": journey.exchange,
        "routing_key": journey.routing_key,
        "mandatory": journey.mandatory,
        "refusal": journey.refusal.as_ref().map(refusal_to_json),
        "receipts": journey.receipts.iter().map(receipt_to_json).collect::<Vec<_>>(),
    })
}

fn receipt_to_json(receipt: &Receipt) -> Value {
    let delivered = receipt.last_delivery.as_ref();
    json!({
        "queue": receipt.queue,
        "subscription": receipt.subscription,
        "member": receipt.member,
        "state": receipt.state.as_str(),
        "since_ms": receipt.since.map(|since| since.0),
        "deliveries": receipt.deliveries,
        "returns": receipt.returns,
        "delivered_at_ms": delivered.map(|(at, _)| at.0),
        "delivered_to": delivered.map(|(_, taker)| taker_to_json(taker)),
        "refusal": receipt.refusal.as_ref().map(refusal_to_json),
        "dark_since_ms": receipt.dark_since.map(|since| since.0),
    })
}

pub(super) fn refusal_to_json(refusal: &Refusal) -> Value {
    json!({
        "code": refusal.code.number(),
        "text": refusal.text,
        "field": refusal.field,
        "expected": refusal.expected,
        "got": refusal.got,
        "hint": refusal.hint,
    })
}

pub(super) fn taker_to_json(taker: &Taker) -> Value {
    json!({
        "tag": taker.tag,
        "channel": taker.channel,
        "consumer": taker.consumer,
        "connection": party_to_json(&taker.party),
    })
}

fn party_to_json(party: &crate::client::Party) -> Value {
    json!({
        "connection_id": party.connection_id,
        "connection_name": party.connection_name,
        "user": party.user,
        "peer": party.peer,
    })
}
