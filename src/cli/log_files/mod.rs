//! `leveret log`: what is in the files of a broker that does not run.

mod backup;
mod check;
mod dump;
mod progress;
mod repair;
mod words;

use clap::{Args, Subcommand};

use super::failure::Failure;
pub(super) use backup::{BackupArguments, RestoreArguments, backup, restore};

/// What was typed after `log`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Read all of a data directory and tell what is in it and what is damaged
    ///
    /// Changes no byte. The exit status is 0 if a broker opens all of it and no queue lacks a message, else 1.
    Check(check::Arguments),
    /// Print what the entries of a log say
    ///
    /// Changes no byte.
    Dump(dump::Arguments),
    /// Make a data directory that lost something one that a broker opens
    ///
    /// Tells exactly what is given up, and asks. No file is removed.
    Repair(repair::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.what {
        What::Check(arguments) => check::run(arguments),
        What::Dump(arguments) => dump::run(arguments),
        What::Repair(arguments) => repair::run(arguments),
    }
}
