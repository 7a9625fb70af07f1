//! Messages that left memory, read back from the log. Blocks on the disk.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::bodies::{Batches, ColdExtent, Group, HeldBack};
use super::command::Origin;
use super::fault::BatchFault;
use super::job::JobPanicked;
use super::operation::{self, KeptRun, Operation};
use crate::message::message_ends;
use crate::model::{BodySequence, Bug, ExchangeName, RoutingKey, planted};
use crate::storage::{BodyRead, DiskError, LogIndex, ReadFailure, RecoveredBatch};

/// An extent with what was found of it, or what went wrong.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) extent: ColdExtent,
    pub(super) groups: Result<Vec<Group>, NotRead>,
}

/// Why messages could not be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotRead {
    /// The disk did not do it. It may do it later.
    Disk(DiskError),
    /// What it gave is not what was written, or is not there.
    Log(ReadFailure),
    /// What it gave was written, and is no batch of a shard.
    Batch {
        index: LogIndex,
        fault: BatchFault,
    },
    /// Batches hold messages in another order than theirs.
    OutOfOrder(Batches),
    /// The batch that a message came with does not hold it.
    Lost(BodySequence),
    Panicked(JobPanicked),
}

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Log(failure) => failure.fmt(f),
            Self::Batch { index, fault } => write!(f, "batch {index}: {fault}"),
            Self::OutOfOrder(Batches { first, last }) => {
                write!(f, "batches {first} to {last} hold messages in another order than theirs")
            }
            Self::Lost(sequence) => {
                write!(f, "message {sequence} is not in the batch that it came with")
            }
            Self::Panicked(panicked) => panicked.fmt(f),
        }
    }
}

impl From<ReadFailure> for NotRead {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Disk(error) => Self::Disk(error),
            failure => Self::Log(failure),
        }
    }
}

/// Reads extents back.
pub(super) fn read_back(reader: &dyn BodyRead, extents: &[ColdExtent], held: &HeldBack) -> Vec<Loaded> {
    extents
        .iter()
        .map(|extent| Loaded { extent: *extent, groups: read_extent(reader, extent, held) })
        .collect()
}

/// Bytes of a batch, which are counted as held as long as anything of its extent is: batches that were read together
/// share their memory.
struct Counted {
    bytes: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Charge {
    bytes: usize,
    held: HeldBack,
}

impl Charge {
    fn new(bytes: usize, held: &HeldBack) -> Self {
        held.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, held: Arc::clone(held) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn read_extent(reader: &dyn BodyRead, extent: &ColdExtent, held: &HeldBack) -> Result<Vec<Group>, NotRead> {
    let batches = reader.read(extent.batches.first, extent.batches.last.next())?;
    let bytes = batches.iter().map(|batch| batch.payload.len()).sum();
    let charge = Arc::new(Charge::new(bytes, held));
    let mut groups = Vec::new();
    for mut batch in batches {
        batch.payload = Bytes::from_owner(Counted { bytes: batch.payload, _charge: Arc::clone(&charge) });
        add_groups(&batch, &mut groups).map_err(|fault| NotRead::Batch { index: batch.index, fault })?;
    }
    Ok(groups)
}

/// Adds the messages that came in with a batch, a group for each publish.
fn add_groups(batch: &RecoveredBatch, groups: &mut Vec<Group>) -> Result<(), BatchFault> {
    let (messages, mut operations) = operation::split_payload(&batch.payload)?;
    let (mut first, mut offset) = (batch.first_body.0, 0);
    while let Some(operation) = operations.next()? {
        let (exchange, routing_key, bytes, runs) = match operation {
            Operation::Publish { exchange, routing_key, bytes, .. } => (exchange, routing_key, bytes, None),
            Operation::Kept { exchange, routing_key, bytes, runs } => {
                (exchange, routing_key, bytes, Some(runs))
            }
            Operation::Queue { .. }
            | Operation::Declare { .. }
            | Operation::Delete { .. }
            | Operation::Expire { .. }
            | Operation::Delay { .. } => continue,
        };
        let end = publish_end(offset, bytes, messages)?;
        let ends = message_ends(&messages[offset..end]).ok_or(BatchFault::NoMessages)?;
        let origin = match groups.last() {
            Some(last) if last.origin.is(exchange, routing_key) => Arc::clone(&last.origin),
            _ => Arc::new(origin(exchange, routing_key)?),
        };
        let bytes = batch.payload.slice(offset..end);
        offset = end;
        if let Some(runs) = runs {
            add_kept(batch.first_body.0, &runs, &origin, &bytes, &ends, groups)?;
            continue;
        }
        let count = ends.len() as u64;
        let first_read = if planted(Bug::NeighbourRead) { first.saturating_sub(1) } else { first };
        groups.push(Group { first: first_read, origin, bytes, ends });
        first += count;
    }
    Ok(())
}

/// Adds what a merge left of a publish, a group for each run.
fn add_kept(
    first_body: u64,
    runs: &[KeptRun],
    origin: &Arc<Origin>,
    bytes: &Bytes,
    ends: &[u32],
    groups: &mut Vec<Group>,
) -> Result<(), BatchFault> {
    let (holds, says) = (ends.len() as u64, messages_of(runs));
    if holds != says {
        return Err(BatchFault::PublishMessages { holds, says });
    }
    let (mut number, mut start) = (0usize, 0);
    for run in runs {
        let first = first_body.checked_add(run.first);
        let here =
            usize::try_from(run.count).ok().and_then(|count| ends.get(number..number.checked_add(count)?));
        let (Some(first), Some(here)) = (first, here.filter(|here| !here.is_empty())) else {
            return Err(BatchFault::KeptRun);
        };
        let end = here[here.len() - 1];
        groups.push(Group {
            first,
            origin: Arc::clone(origin),
            bytes: bytes.slice(start as usize..end as usize),
            ends: here.iter().map(|end| end - start).collect(),
        });
        (number, start) = (number + here.len(), end);
    }
    Ok(())
}

/// Where the bytes of a publish end that begin at `offset` of a batch's messages.
pub(super) fn publish_end(offset: usize, bytes: usize, messages: &[u8]) -> Result<usize, BatchFault> {
    let end = offset.checked_add(bytes).filter(|end| *end <= messages.len());
    end.ok_or(BatchFault::PublishCutOff)
}

/// The origin that a publish was written with.
pub(super) fn origin(exchange: &str, routing_key: &str) -> Result<Origin, BatchFault> {
    Ok(Origin {
        exchange: ExchangeName::new(exchange).map_err(BatchFault::Name)?,
        routing_key: RoutingKey::new(routing_key).map_err(BatchFault::Name)?,
    })
}

/// How many messages runs say that they are.
pub(super) fn messages_of(runs: &[KeptRun]) -> u64 {
    runs.iter().fold(0, |sum, run| sum.saturating_add(run.count))
}
