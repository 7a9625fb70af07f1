//! `leveret log check`: whether a broker would find all that it left.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::progress::{bytes_bar, show};
use super::words;
use crate::broker::offline::{CheckFailure, check};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::storage::{Disk, LockRefused, RealDisk};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A data directory, or the folder of one log in it
    directory: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let bar = bytes_bar("checking");
    let report = check(&disk, &arguments.directory, &mut |bytes, total| show(&bar, bytes, total));
    bar.finish_and_clear();
    let report = report.map_err(|failure| cannot_look(&failure))?;
    match arguments.json {
        true => output::json_line(&words::to_json(&report))?,
        false => words::print(&report)?,
    }
    if report.is_sound() {
        return Ok(());
    }
    let hurt = report.logs.iter().filter(|log| !log.is_sound()).map(|log| log.name.clone());
    Err(Failure::new(format!("damaged: {}", hurt.collect::<Vec<_>>().join(", "))).hint(
        "copy the data directory before doing anything else, and look at the disk; what to do then stands in \
         docs/OPERATIONS.md",
    ))
}

/// Why a folder could not even be looked at.
pub(super) fn cannot_look(failure: &CheckFailure) -> Failure {
    match failure {
        CheckFailure::Locked(LockRefused::Held { path, holder }) => {
            let directory = path.parent().unwrap_or(path).display();
            let holder = if holder.is_empty() { "another process" } else { holder };
            Failure::new(format!("a broker runs on {directory}: it is in use by {holder}"))
                .hint("stop the broker first, or look at a copy")
        }
        _ => Failure::new(failure.to_string()),
    }
}
