//! `leveret alter`: replace what an exchange takes.

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output;
use super::schema::{self, SchemaFile};
use super::session::{Target, once};
use crate::client::Alteration;

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
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let What::Exchange(typed) = arguments.what;
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
    once(&arguments.target, async |channel| Ok(channel.alter_exchange(&typed.name, alteration).await?))?;
    output::line(&format!(
        "exchange '{}' is altered; messages that wait in queues were not looked at",
        typed.name
    ))
}
