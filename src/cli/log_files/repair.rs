//! `leveret log repair`: a data directory that lost something, made one that a broker opens.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::check::cannot_look;
use super::progress::{bytes_bar, show};
use super::words;
use crate::broker::offline::{Repair, RepairFailure, plan_repair};
use crate::cli::clock;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::model::Timestamp;
use crate::storage::{Disk, RealDisk};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A data directory
    directory: PathBuf,
    /// Only tell what would be given up
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { directory, dry_run, .. } = arguments;
    if !dry_run && !arguments.yes && !std::io::stdin().is_terminal() {
        return Err(Failure::usage("a repair gives things up, and nobody is there to be asked")
            .hint("look at what --dry-run says, then say --yes"));
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let bar = bytes_bar("reading");
    let now = Timestamp(clock::now_ms());
    let planned = plan_repair(&disk, directory, *dry_run, now, &mut |bytes, total| show(&bar, bytes, total));
    bar.finish_and_clear();
    let planned = planned.map_err(|failure| match &failure {
        RepairFailure::Check(check) => cannot_look(check),
        _ => Failure::new(failure.to_string()).hint("nothing was changed; restore a backup"),
    })?;
    if !arguments.json {
        tell(&planned)?;
    }
    let is_needed = !planned.logs.is_empty();
    let mut aside = Vec::new();
    if is_needed && !dry_run {
        if !arguments.yes {
            ask(directory)?;
        }
        aside = planned
            .carry_out(&*disk)
            .map_err(|failure| Failure::new(failure.to_string()).hint("the same repair may be done again"))?;
    }
    if arguments.json {
        return output::json_line(&json!({
            "repaired": planned.logs,
            "dry_run": dry_run,
            "before": words::to_json(&planned.before),
            "after": words::to_json(&planned.after),
            "put_aside": aside.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        }));
    }
    for path in aside {
        output::line(&format!("put aside: {}", path.display()))?;
    }
    match (is_needed, dry_run) {
        (false, _) => output::line("nothing is to be repaired"),
        (true, true) => output::line("nothing was changed"),
        (true, false) => output::line(&format!("repaired: {}", planned.logs.join(", "))),
    }
}

/// Exactly what is given up.
fn tell(planned: &Repair) -> Result<(), Failure> {
    if planned.logs.is_empty() {
        return Ok(());
    }
    words::print(&planned.before)?;
    output::line("What a repair gives up:")?;
    for log in planned.before.logs.iter().filter(|log| planned.logs.contains(&log.name)) {
        for loss in log.survey.iter().flat_map(|survey| &survey.losses).filter(|loss| loss.is_replayed) {
            let what = "whatever was recorded in it; what it settled comes again";
            output::line(&format!("  {}: {}: {what}", log.name, words::loss_in_words(loss)))?;
        }
        for lost in &log.given_up {
            let queue = words::queue_in_words(lost.id.0, &lost.name);
            output::line(&format!("  {}: messages of {queue}: {}", log.name, lost.messages))?;
        }
        for kept in log.queues.iter().filter(|queue| queue.name.is_some()) {
            let queue = words::queue_in_words(kept.id.0, &kept.name);
            output::line(&format!("  {}: {queue} keeps {} messages", log.name, kept.messages))?;
        }
    }
    // A start drops what belongs to no queue.
    for log in &planned.after.logs {
        for orphan in log.queues.iter().filter(|queue| queue.name.is_none() && queue.messages > 0) {
            output::line(&format!(
                "  {}: queue number {}, which the catalog does not know, with {} messages",
                log.name, orphan.id, orphan.messages
            ))?;
        }
    }
    Ok(())
}

fn ask(directory: &Path) -> Result<(), Failure> {
    let mut stderr = std::io::stderr();
    let failed = |error: std::io::Error| Failure::io("cannot ask", &error);
    let question = format!("Give that up and repair {}? Type yes: ", directory.display());
    stderr.write_all(crate::cli::terminal::printable(&question).as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new("nothing was changed")),
    }
}
