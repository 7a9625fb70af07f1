//! `leveret alter queue`: change arguments of a queue that is there.

use clap::{ArgAction, Args};
use serde_json::{Value, json};

use super::did_you_mean;
use super::failure::Failure;
use super::field;
use super::limits::Limits;
use super::output;
use super::retain::Retain;
use super::session::{Target, once};
use super::table::Table;
use super::terminal::Terminal;
use crate::client::{Difference, FixedAtDeclaration, Queue, QueueAlteration, QueueAltered};
use crate::model::FieldValue;

/// What the arguments of a queue begin with.
const PREFIX: &str = "x-";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Its name
    name: String,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    retain: Retain,
    /// Further argument; may be given more than once
    #[arg(long = "argument", value_name = "NAME[:TYPE]=VALUE", value_parser = field::parse)]
    arguments: Vec<(String, FieldValue)>,
    /// Argument that it is not to have any more, such as max-length; may be given more than once
    #[arg(long = "unset", value_name = "NAME")]
    unset: Vec<String>,
    /// Whether it survives a restart: it cannot be altered, and is refused if it is other
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    durable: Option<bool>,
    /// Whether it is for one connection: likewise
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    exclusive: Option<bool>,
    /// Whether it goes when its last consumer goes: likewise
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    auto_delete: Option<bool>,
    /// Alter nothing, and tell what would change
    #[arg(long)]
    dry_run: bool,
    /// Print what became of it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(target: &Target, typed: &Arguments) -> Result<(), Failure> {
    let alteration = alteration(typed)?;
    let altered = once(target, async |channel| Ok(channel.alter_queue(&typed.name, alteration).await?))?;
    match typed.json {
        true => output::json_line(&to_json(&altered)),
        false => output::text(&told(&typed.name, &altered)),
    }
}

fn alteration(typed: &Arguments) -> Result<QueueAlteration, Failure> {
    let arguments = field::table(&typed.arguments)?;
    did_you_mean::check_arguments(&arguments)?;
    let mut queue = typed.limits.put_on(Queue { arguments, ..Queue::new("") });
    if let Some(retention) = typed.retain.retention() {
        queue = queue.retain(retention);
    }
    let nothing = QueueAlteration::new();
    let mut alteration = nothing.clone();
    for name in &typed.unset {
        let name = match name.starts_with(PREFIX) {
            true => name.clone(),
            false => format!("{PREFIX}{name}"),
        };
        if queue.arguments.value(&name).is_some() {
            return Err(Failure::usage(format!("{name} is set and unset: which one counts?")));
        }
        alteration = alteration.without(name);
    }
    alteration = alteration.like(queue);
    alteration = alteration.fixed(FixedAtDeclaration {
        durable: typed.durable,
        exclusive: typed.exclusive,
        auto_delete: typed.auto_delete,
    });
    if alteration == nothing {
        return Err(Failure::usage(
            "nothing to alter: give --message-ttl, --max-length or another bound, --argument, or --unset"
                .to_owned(),
        ));
    }
    Ok(if typed.dry_run { alteration.dry_run() } else { alteration })
}

fn told(name: &str, altered: &QueueAltered) -> String {
    let QueueAltered { altered, changes } = altered;
    let mut text = match (altered, changes.is_empty()) {
        (_, true) => format!("queue '{name}' is so already\n"),
        (true, false) => format!("queue '{name}' is altered\n"),
        (false, false) => format!("queue '{name}' is not altered, this was a dry run\n"),
    };
    if !changes.is_empty() {
        let mut table = Table::new().text("ARGUMENT").text("WAS").text("IS");
        for Difference { field, declared, asked, .. } in changes {
            table.row_of(vec![field.clone(), declared.clone(), asked.clone()]);
        }
        text.push_str(&table.render(Terminal::of_stdout()));
    }
    text
}

fn to_json(altered: &QueueAltered) -> Value {
    let QueueAltered { altered, changes } = altered;
    let change =
        |change: &Difference| json!({"field": change.field, "was": change.declared, "is": change.asked});
    json!({"altered": altered, "changes": changes.iter().map(change).collect::<Vec<_>>()})
}
