//! Work of a shard that blocks on the disk: done beside its loop, by whoever runs it, and told with a command.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::bodies::{ColdExtent, HeldBack};
use super::command::Command;
use super::housekeeping::{CheckpointJob, Kept};
use super::read_back::{Loaded, NotRead, read_back};
use crate::storage::{BodyRead, LogKeeper, ShardLog};

/// What is to be done. A shard has at most one checkpoint and a few reads under way.
#[derive(Debug)]
pub struct Job(pub(super) Work);

#[derive(Debug)]
pub(super) enum Work {
    ReadBack(Vec<ColdExtent>, HeldBack),
    Checkpoint(CheckpointJob),
}

/// What came of a job.
#[derive(Debug)]
pub struct Done(pub(super) Outcome);

#[derive(Debug)]
pub(super) enum Outcome {
    ReadBack(Vec<Loaded>),
    Checkpoint(Box<Kept>),
}

/// The parts of a log that jobs work with.
#[derive(Clone)]
pub struct LogAccess {
    pub(super) reader: Arc<dyn BodyRead>,
    keeper: Option<Arc<dyn LogKeeper>>,
}

impl LogAccess {
    /// Those of this log.
    pub fn of(log: &dyn ShardLog) -> Self {
        Self { reader: log.reader(), keeper: log.keeper() }
    }
}

impl fmt::Debug for LogAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogAccess").field("keeper", &self.keeper.is_some()).finish_non_exhaustive()
    }
}

/// A job panicked; the panic itself has been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JobPanicked;

impl fmt::Display for JobPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the program failed over it")
    }
}

impl Error for JobPanicked {}

impl Job {
    #[cfg(test)]
    pub(super) fn reads_back(&self) -> bool {
        matches!(self.0, Work::ReadBack(..))
    }

    /// Does it. Blocks. The shard must be given the command, whatever came of the job.
    pub fn run(self, log: &LogAccess) -> Command {
        let lost = self.lost();
        // A shard that is never told waits for ever, and cannot stop.
        let done = catch_unwind(AssertUnwindSafe(|| match self.0 {
            Work::ReadBack(extents, held) => Outcome::ReadBack(read_back(&*log.reader, &extents, &held)),
            Work::Checkpoint(job) => Outcome::Checkpoint(Box::new(job.run(log.keeper.as_deref()))),
        }));
        Command::Done(Done(done.unwrap_or(lost)))
    }

    /// What is told if it does not come to its end.
    fn lost(&self) -> Outcome {
        match &self.0 {
            Work::ReadBack(extents, _) => Outcome::ReadBack(
                extents
                    .iter()
                    .map(|extent| Loaded { extent: *extent, groups: Err(NotRead::Panicked(JobPanicked)) })
                    .collect(),
            ),
            Work::Checkpoint(job) => Outcome::Checkpoint(Box::new(job.lost(JobPanicked))),
        }
    }
}
