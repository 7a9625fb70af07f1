//! What a log is the log of.

use std::{error::Error, fmt};

use bytes::Bytes;

use super::{LogPosition, OwnerFault, RecoveredBatch};

/// A state that the batches of a log make, one after the other: the other half of a log, whoever keeps that.
///
/// Order of calls: [`restore`](Self::restore) at most once, then [`apply`](Self::apply) for each batch behind it, in
/// order. [`snapshot`](Self::snapshot) at any time says what that came to, so that `restore` of it, and `apply` of what
/// came later, gives the same state. An owner that applies what it proposes as it proposes it does so with the code
/// that is behind `apply`; a log never calls `apply` for a batch that its owner proposed.
///
/// A closure that takes batches is one, of a log that never has a checkpoint.
pub trait Machine {
    /// Becomes what it was when it gave this snapshot; what was there before is void.
    ///
    /// # Errors
    /// Why it cannot make sense of the state. It must not be used then.
    fn restore(&mut self, state: Bytes) -> Result<(), OwnerFault>;

    /// Takes the next batch. What it says holds: it was durable, and in a group of several agreed upon.
    ///
    /// # Errors
    /// Why it cannot make sense of the batch. It must not be used then.
    fn apply(&mut self, batch: RecoveredBatch) -> Result<(), OwnerFault>;

    /// All that it knows, in pieces: what a checkpoint holds.
    fn snapshot(&self) -> Vec<Bytes>;
}

/// What a machine came to at a place of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The place: all batches before it made the state, and none behind it.
    pub position: LogPosition,
    /// The state, in pieces, as [`Machine::snapshot`] gives it.
    pub state: Vec<Bytes>,
}

impl<F: FnMut(RecoveredBatch) -> Result<(), OwnerFault>> Machine for F {
    fn restore(&mut self, _state: Bytes) -> Result<(), OwnerFault> {
        Err(NoCheckpoints.into())
    }

    fn apply(&mut self, batch: RecoveredBatch) -> Result<(), OwnerFault> {
        self(batch)
    }

    /// It keeps nothing that the log would have to know.
    fn snapshot(&self) -> Vec<Bytes> {
        Vec::new()
    }
}

/// What a machine without checkpoints has against one.
#[derive(Debug)]
struct NoCheckpoints;

impl fmt::Display for NoCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is a checkpoint, and nobody here writes any")
    }
}

impl Error for NoCheckpoints {}
