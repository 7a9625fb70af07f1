//! `leveret alter`: replace what an exchange takes, or change arguments of a queue.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::alter_queue;
use super::failure::Failure;
use super::output;
use super::schema::{self, SchemaFile};
use super::session::{Target, once};
use super::table::Table;
use super::terminal::Terminal;
use crate::client::{Alteration, Altered, WaitingMisfit};

/// What was typed after `alter`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Replace the list of keys, the schemas or the quarantine queue of an exchange; what is not named stays
    Exchange(ExchangeArguments),
    /// Change arguments of a queue; what is not named stays, as do messages, bindings and consumers
    Queue(Box<alter_queue::Arguments>),
}

#[derive(Debug, Args)]
struct ExchangeArguments {
    /// Its name
    name: String,
    /// Pattern of keys that may be published to it, in place of those it has; may be given more than once
    #[arg(long = "allow", value_name = "PATTERN")]
    allowed: Vec<String>,
    /// Take every key
    #[arg(long, conflicts_with = "allowed")]
    no_allow: bool,
    /// What messages under keys of a pattern have to fit, in place of the schemas it has; may be given more than once
    #[arg(long = "schema", value_name = "PATTERN=FILE[:MESSAGE]", value_parser = schema::parse)]
    schemas: Vec<SchemaFile>,
    /// Take every body
    #[arg(long, conflicts_with = "schemas")]
    no_schema: bool,
    /// Queue that keeps what is refused
    #[arg(long, value_name = "QUEUE")]
    quarantine: Option<String>,
    /// Keep nothing of what is refused
    #[arg(long, conflicts_with = "quarantine")]
    no_quarantine: bool,
    /// Alter it though messages that wait in queues do not fit the new schemas
    #[arg(long, conflicts_with = "dry_run")]
    force: bool,
    /// Alter nothing, and tell which messages that wait would not fit
    #[arg(long)]
    dry_run: bool,
    /// Print what became of it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Exchange(typed) => alter_exchange(&arguments.target, &typed),
        What::Queue(typed) => alter_queue::run(&arguments.target, &typed),
    }
}

fn alter_exchange(target: &Target, typed: &ExchangeArguments) -> Result<(), Failure> {
    let nothing = Alteration::new();
    let mut alteration = nothing.clone();
    for pattern in &typed.allowed {
        alteration = alteration.allow(pattern);
    }
    for file in &typed.schemas {
        alteration = alteration.schema(&file.pattern, file.read()?);
    }
    if let Some(queue) = &typed.quarantine {
        alteration = alteration.quarantine_queue(queue);
    }
    if typed.no_allow {
        alteration = alteration.without_allowed_keys();
    }
    if typed.no_schema {
        alteration = alteration.without_schemas();
    }
    if typed.no_quarantine {
        alteration = alteration.without_quarantine();
    }
    if alteration == nothing {
        return Err(Failure::usage(
            "nothing to alter: give --allow, --schema, --quarantine, or --no-... of them".to_owned(),
        ));
    }
    if typed.force {
        alteration = alteration.force();
    }
    if typed.dry_run {
        alteration = alteration.dry_run();
    }
    let altered = once(target, async |channel| Ok(channel.alter_exchange(&typed.name, alteration).await?))?;
    match typed.json {
        true => output::json_line(&to_json(&altered)),
        false => output::text(&told(&typed.name, !typed.schemas.is_empty(), &altered)),
    }
}

fn told(name: &str, has_schemas: bool, altered: &Altered) -> String {
    let Altered { altered, looked_at, misfits, first, not_all } = altered;
    let done = match altered {
        true => format!("exchange '{name}' is altered"),
        false => format!("exchange '{name}' is not altered, this was a dry run"),
    };
    let mut text = match (has_schemas, misfits) {
        (false, _) => format!("{done}\n"),
        (true, 0) => format!("{done}; the messages that wait fit ({looked_at} looked at)\n"),
        (true, _) => {
            format!("{done}; of the messages that wait {misfits} do not fit ({looked_at} looked at)\n")
        }
    };
    if !first.is_empty() {
        let mut table = Table::new()
            .text("QUEUE")
            .number("NUMBER")
            .text("KEY")
            .text("FIELD")
            .text("EXPECTED")
            .text("GOT");
        for misfit in first {
            let WaitingMisfit { queue, sequence, routing_key, field, expected, got } = misfit;
            let sequence = sequence.to_string();
            table.row_of(vec![
                queue.clone(),
                sequence,
                routing_key.clone(),
                field.clone(),
                expected.clone(),
                got.clone(),
            ]);
        }
        text.push_str(&table.render(Terminal::of_stdout()));
    }
    if let Some(why) = not_all {
        text.push_str(&format!("not all were looked at: {why}\n"));
    }
    text
}

fn to_json(altered: &Altered) -> Value {
    let Altered { altered, looked_at, misfits, first, not_all } = altered;
    let misfit = |misfit: &WaitingMisfit| {
        let WaitingMisfit { queue, sequence, routing_key, field, expected, got } = misfit;
        json!({
            "queue": queue,
            "sequence": sequence,
            "routing_key": routing_key,
            "field": field,
            "expected": expected,
            "got": got,
        })
    };
    json!({
        "altered": altered,
        "looked_at": looked_at,
        "misfits": misfits,
        "first": first.iter().map(misfit).collect::<Vec<_>>(),
        "not_all": not_all,
    })
}
