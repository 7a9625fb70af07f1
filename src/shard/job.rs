//! Work of a shard that blocks on the disk: done beside its loop, by whoever runs it, and told with a command.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::bodies::{ColdExtent, HeldBack};
use super::command::Command;
use super::housekeeping::{CheckpointJob, Kept, MergeJob};
use super::read_back::{Loaded, NotRead, read_back};
use crate::storage::{BodyRead, LogKeeper, ShardLog};

/// What is to be done. A shard has at most one checkpoint and a few reads under way.
#[derive(Debug)]
pub struct Job(pub(super) Work);

#[derive(Debug)]
pub(super) enum Work {
    ReadBack(Vec<ColdExtent>, HeldBack),
    Checkpoint(CheckpointJob),
    Merge(MergeJob),
}

/// How far work went.
#[derive(Debug)]
pub(super) enum Went {
    /// There is more of it.
    On { work: Box<Work>, may_rest: bool },
    /// It is done.
    Done(Outcome),
}

impl Went {
    pub(super) fn kept(kept: Kept) -> Self {
        Self::Done(Outcome::Checkpoint(Box::new(kept)))
    }
}

/// How far a job went.
#[derive(Debug)]
pub enum Ran {
    /// It is done. The shard must be given the command.
    Done(Command),
    /// There is more to do, at once if `may_rest` does not allow to let others go first.
    On {
        /// The rest of it.
        job: Job,
        /// Whether nobody waits for it.
        may_rest: bool,
    },
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

    /// Does it, or a part of it. Blocks. What is left of it must be run, too, and the shard be given the command in the end,
    /// whatever came of the job: it waits for that before it stops.
    pub fn run(self, log: &LogAccess) -> Ran {
        let went = match self.0 {
            Work::ReadBack(extents, held) => {
                let read = catch_unwind(AssertUnwindSafe(|| read_back(&*log.reader, &extents, &held)));
                Went::Done(Outcome::ReadBack(read.unwrap_or_else(|_| lost(&extents))))
            }
            Work::Checkpoint(job) => {
                let position = job.position();
                let kept = catch_unwind(AssertUnwindSafe(|| job.run(log.keeper.as_deref())));
                kept.unwrap_or_else(|_| Went::kept(CheckpointJob::lost(position, JobPanicked)))
            }
            Work::Merge(job) => job.run(),
        };
        match went {
            Went::Done(outcome) => Ran::Done(Command::Done(Done(outcome))),
            Went::On { work, may_rest } => Ran::On { job: Self(*work), may_rest },
        }
    }

    /// The same to its end.
    pub fn run_all(self, log: &LogAccess) -> Command {
        let mut job = self;
        loop {
            match job.run(log) {
                Ran::Done(command) => return command,
                Ran::On { job: rest, .. } => job = rest,
            }
        }
    }
}

/// What is told of messages that were not read back.
fn lost(extents: &[ColdExtent]) -> Vec<Loaded> {
    let lost = |extent: &ColdExtent| Loaded { extent: *extent, groups: Err(NotRead::Panicked(JobPanicked)) };
    extents.iter().map(lost).collect()
}
