//! The log of queues that need not survive: order and numbers, and nothing kept.

use std::sync::Arc;

use super::{
    BATCH_BYTES_MAX, Batch, BodyRead, KnownLog, LogFailure, LogIndex, LogKeeper, LogPosition, LogRoom,
    Progress, ReadFailure, RecoveredBatch, ShardLog, bodies_end::BodiesEnd,
};
use crate::model::{BodySequence, Durability};

/// A log without a disk: a batch counts as durable, at [`Durability::Memory`], the moment it is proposed.
///
/// Nothing is kept, so an owner on this log holds all bodies itself; its reader refuses with
/// [`ReadFailure::NothingKept`]. It never reports progress by itself: look at [`ShardLog::progress`] after proposing.
#[derive(Debug)]
pub struct MemoryLog {
    last: LogIndex,
    bodies_end: BodiesEnd,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self { last: LogIndex(0), bodies_end: BodiesEnd::at(BodySequence(0)) }
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl ShardLog for MemoryLog {
    fn next_index(&self) -> LogIndex {
        self.last.next()
    }

    fn propose(&mut self, batch: Batch) -> Result<LogIndex, LogFailure> {
        // It could take more, but an owner must not depend on which log it has.
        let bytes = batch.payload_bytes();
        if bytes > BATCH_BYTES_MAX {
            return Err(LogFailure::BatchTooLarge { bytes: bytes as u64, bytes_max: BATCH_BYTES_MAX as u64 });
        }
        self.bodies_end = self.bodies_end.after(batch.first_body, batch.bodies)?;
        self.last = self.last.next();
        Ok(self.last)
    }

    fn progress(&self) -> Progress {
        Progress { durable: self.last, durability: Durability::Memory, failed: None, room: LogRoom::Enough }
    }

    fn idle(&self) -> bool {
        true
    }

    fn pending_bytes(&self) -> usize {
        0
    }

    fn reader(&self) -> Arc<dyn BodyRead> {
        Arc::new(NothingToRead)
    }

    fn position(&self) -> LogPosition {
        LogPosition { index: self.last, bodies_end: self.bodies_end.end() }
    }

    fn known(&self) -> Option<KnownLog> {
        None
    }

    fn keeper(&self) -> Option<Arc<dyn LogKeeper>> {
        None
    }
}

struct NothingToRead;

impl BodyRead for NothingToRead {
    fn read(&self, _first: LogIndex, _end: LogIndex) -> Result<Vec<RecoveredBatch>, ReadFailure> {
        Err(ReadFailure::NothingKept)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::Timestamp;

    fn batch(first_body: u64, bodies: u32) -> Batch {
        let recorded_at = Timestamp::default();
        Batch {
            first_body: BodySequence(first_body),
            bodies,
            operations: bodies,
            recorded_at,
            payload: vec![],
        }
    }

    #[test]
    fn a_batch_is_durable_in_memory_at_once() {
        let mut log = MemoryLog::new();
        assert_eq!(log.progress().durable, LogIndex(0));
        assert_eq!(log.next_index(), LogIndex(1));
        assert_eq!(log.propose(batch(0, 3)), Ok(LogIndex(1)));
        assert_eq!(log.propose(batch(3, 1)), Ok(LogIndex(2)));
        assert_eq!(
            log.progress(),
            Progress {
                durable: LogIndex(2),
                durability: Durability::Memory,
                failed: None,
                room: LogRoom::Enough
            }
        );
        assert!(log.idle());
        assert_eq!(log.pending_bytes(), 0);
    }

    #[test]
    fn nothing_can_be_read_back() {
        let mut log = MemoryLog::new();
        let index = log.propose(batch(0, 1)).unwrap();
        assert_eq!(log.reader().read(index, index.next()).err(), Some(ReadFailure::NothingKept));
    }

    #[test]
    fn bodies_must_not_be_numbered_twice() {
        let mut log = MemoryLog::new();
        log.propose(batch(10, 5)).unwrap();
        assert_eq!(
            log.propose(batch(14, 1)),
            Err(LogFailure::BodiesOutOfOrder { expected: BodySequence(15), got: BodySequence(14) })
        );
        assert_eq!(log.next_index(), LogIndex(2), "a refused batch takes no index");
        assert_eq!(
            log.propose(batch(0, 0)),
            Ok(LogIndex(2)),
            "a batch without bodies has no sequence to check"
        );
    }
}
