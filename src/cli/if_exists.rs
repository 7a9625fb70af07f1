//! Telling a deletion that was done from a name that was mistyped.

use clap::Args;

use super::failure::Failure;

/// What a command does that takes something away, if it is not there.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct IfExists {
    /// Do not fail if there is no such thing
    #[arg(long)]
    if_exists: bool,
}

impl IfExists {
    /// Fails if the thing is not there, unless that is fine. `what` names it, `list` is the command that shows those
    /// there are.
    pub(super) fn check(self, is_there: bool, what: &str, list: &str) -> Result<(), Failure> {
        if is_there || self.if_exists {
            return Ok(());
        }
        Err(Failure::new(format!("there is no {what}"))
            .hint(format!("`leveret {list}` shows what there is; with --if-exists this is no failure")))
    }
}
