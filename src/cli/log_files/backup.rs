//! `leveret backup` and `leveret restore`: a data directory copied, and the copy checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::check::cannot_look;
use super::progress::{bytes_bar, show};
use super::words;
use crate::broker::offline::{CopyFailure, copy};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::storage::{Disk, RealDisk};

/// What was typed after `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// The data directory; a broker may be running on it
    data: PathBuf,
    /// Where the backup is to be: a folder that is empty or not there
    backup: PathBuf,
    /// Print what is in the backup as JSON
    #[arg(long)]
    json: bool,
}

/// What was typed after `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// The backup
    backup: PathBuf,
    /// Where the data directory is to be: a folder that is empty or not there
    data: PathBuf,
    /// Print what is in the data directory as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn backup(arguments: &BackupArguments) -> Result<(), Failure> {
    let BackupArguments { data, backup, json } = arguments;
    run(data, backup, true, *json)
}

pub(crate) fn restore(arguments: &RestoreArguments) -> Result<(), Failure> {
    let RestoreArguments { backup, data, json } = arguments;
    run(backup, data, false, *json)
}

fn run(from: &Path, to: &Path, in_use: bool, json: bool) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let bar = bytes_bar("copying");
    let copied = copy(&disk, from, to, in_use, &mut |bytes, total| show(&bar, bytes, total));
    bar.finish_and_clear();
    let report = copied.map_err(|failure| match &failure {
        CopyFailure::Source(check) => cannot_look(check),
        CopyFailure::NotEmpty(_) => Failure::new(failure.to_string()).hint("name a folder that is not there"),
        CopyFailure::NoRoom { .. } => {
            Failure::new(failure.to_string()).hint("make room, or name another disk")
        }
        CopyFailure::Unsound(_) if in_use => Failure::new(failure.to_string()).hint(
            "if the broker was stopped meanwhile, delete the copy and try again; else stop it and look with \
             `leveret log check`",
        ),
        _ => Failure::new(failure.to_string()).hint("delete what was written, and try again"),
    })?;
    if json {
        return output::json_line(&words::to_json(&report));
    }
    let messages: u64 = report.logs.iter().flat_map(|log| &log.queues).map(|queue| queue.messages).sum();
    let queues = report.logs.iter().map(|log| log.queues.len()).sum::<usize>();
    output::line(&format!(
        "{} holds {} of {}, checked",
        to.display(),
        words::counted(messages, "message"),
        words::counted(queues as u64, "queue")
    ))
}
