//! `leveret config`: what is in effect and where it comes from; an example to begin with.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::config_flags::ConfigFlags;
use super::failure::Failure;
use super::output;
use super::table::Table;
use super::terminal::Terminal;
use crate::config::{GivenBy, Setting, Settings, example};

/// What was typed after `config`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print every setting in effect, and where its value comes from
    ///
    /// Takes the flags of `leveret serve`, and shows what a broker started with them here would do.
    Show {
        /// Print a JSON object: for each key its value (sizes in bytes) and origin
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: ConfigFlags,
    },
    /// Print a configuration file with every key, its meaning and its default
    Example,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.what {
        What::Show { json, flags } => {
            let settings = flags.settings()?;
            if *json { output::json_line(&to_json(&settings)) } else { output::text(&table(&settings)) }
        }
        What::Example => output::text(&example()),
    }
}

fn table(settings: &Settings) -> String {
    let mut table = Table::new().text("KEY").text("VALUE").text("ORIGIN");
    for setting in settings.iter() {
        table.row([setting.key.name.to_owned(), setting.value.to_string(), setting.origin.to_string()]);
    }
    table.render(Terminal::of_stdout())
}

fn to_json(settings: &Settings) -> Value {
    let entry = |setting: &Setting| {
        let layer = match setting.origin {
            GivenBy::Default => "default",
            GivenBy::File { .. } => "file",
            GivenBy::Environment { .. } => "environment",
            GivenBy::Flag { .. } => "flag",
        };
        let value =
            json!({ "value": setting.value.to_json(), "layer": layer, "origin": setting.origin.to_string() });
        (setting.key.name.to_owned(), value)
    };
    settings.iter().map(entry).collect()
}
