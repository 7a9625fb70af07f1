//! `leveret journey`: the story of a message, as a time line, as a picture, or as data.

mod mermaid;
mod picture;
mod svg;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use self::picture::Picture;
use super::explain;
use super::failure::Failure;
use super::output;
use super::receipts::{check_found, head, journey_to_json, refusal_to_json, taker_to_json};
use super::session::{Target, once};
use super::table::Table;
use super::terminal::Terminal;
use crate::client::{Journey, JourneyEvent, JourneyStep};

/// What was typed after `journey`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The id that the publisher gave the message, or the one that the broker made
    id: String,
    /// Print all that is known as JSON
    #[arg(long)]
    json: bool,
    /// Write a picture of it into this file, as SVG; of several messages with the id, of the newest
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write it into this file as a sequence diagram for Mermaid; of several messages with the id, of the newest
    #[arg(long, value_name = "FILE")]
    mermaid: Option<PathBuf>,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let told = once(&arguments.target, async |channel| Ok(channel.journey(&arguments.id).await?))?;
    check_found(&told, &arguments.id)?;
    if let Some(newest) = told.journeys.first() {
        let picture = Picture::of(newest);
        if let Some(path) = &arguments.svg {
            write(path, &svg::drawn(&picture, &head(newest)))?;
        }
        if let Some(path) = &arguments.mermaid {
            write(path, &mermaid::drawn(&picture))?;
        }
    }
    if arguments.json {
        return output::json_line(&Value::Array(told.journeys.iter().map(to_json).collect()));
    }
    if arguments.svg.is_some() || arguments.mermaid.is_some() {
        return Ok(());
    }
    let terminal = Terminal::of_stdout();
    let mut out = String::new();
    for journey in &told.journeys {
        out.push_str(&head(journey));
        out.push_str(&time_line(&Picture::of(journey)).render(terminal));
    }
    if told.more {
        out.push_str("there are more messages with this id\n");
    }
    output::text(&out)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::io(&format!("cannot write {}", path.display()), &error))
}

fn time_line(picture: &Picture) -> Table {
    let mut table = Table::new().text("AFTER").text("WHERE").text("WHAT");
    let mut last = None;
    for step in &picture.steps {
        let after = if last == Some(step.after_ms) { String::new() } else { picture::after(step.after_ms) };
        last = Some(step.after_ms);
        table.row([after, picture.place(step).to_owned(), picture.line(step)]);
    }
    table
}

fn to_json(journey: &Journey) -> Value {
    let mut value = journey_to_json(journey);
    if let Value::Object(fields) = &mut value {
        let explanation = journey.explanation.as_ref().map(explain::to_json);
        fields.insert("explanation".to_owned(), json!(explanation));
        let events: Vec<Value> = journey.events.iter().map(event_to_json).collect();
        fields.insert("events".to_owned(), Value::Array(events));
        fields.insert("events_omitted".to_owned(), json!(journey.events_omitted));
    }
    value
}

fn event_to_json(event: &JourneyEvent) -> Value {
    let at = event.at.0;
    match &event.what {
        JourneyStep::Taken { shard, queues } => {
            json!({ "at_ms": at, "what": "taken", "shard": shard, "queues": queues })
        }
        JourneyStep::NotTaken { shard, refusal } => {
            let refusal = refusal.as_ref().map(refusal_to_json);
            json!({ "at_ms": at, "what": "not taken", "shard": shard, "refusal": refusal })
        }
        JourneyStep::Delivered { queue, taker, redelivered, delivery_count } => json!({
            "at_ms": at,
            "what": "delivered",
            "queue": queue,
            "to": taker.as_ref().map(taker_to_json),
            "redelivered": redelivered,
            "delivery_count": delivery_count,
        }),
        JourneyStep::Requeued(queue) => json!({ "at_ms": at, "what": "requeued", "queue": queue }),
        JourneyStep::ConsumerGone(queue) => json!({ "at_ms": at, "what": "consumer gone", "queue": queue }),
        JourneyStep::Left(queue, state) => json!({ "at_ms": at, "what": state.as_str(), "queue": queue }),
        JourneyStep::Missed(queue) => json!({ "at_ms": at, "what": "not known any more", "queue": queue }),
        JourneyStep::Unwatched => json!({ "at_ms": at, "what": "not looked after any more" }),
        JourneyStep::Unknown => json!({ "at_ms": at, "what": "unknown" }),
    }
}
