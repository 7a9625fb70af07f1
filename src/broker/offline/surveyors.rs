//! The owners of logs as they go along with a survey.

use bytes::Bytes;

use crate::broker::catalog::Catalog;
use crate::shard::Shard;
use crate::storage::{LogIndex, Machine, OwnerFault, SurveyedFrame, Surveyor};

/// The catalog.
pub(super) struct CatalogSurveyor<'a> {
    pub(super) catalog: Catalog,
    /// Hears how many bytes of the log were read.
    pub(super) progress: &'a mut dyn FnMut(u64),
}

impl Surveyor for CatalogSurveyor<'_> {
    fn restore(&mut self, state: Bytes) -> Result<(), OwnerFault> {
        self.catalog.restore(state)
    }

    fn frame(&mut self, frame: &SurveyedFrame<'_>) -> Result<(), OwnerFault> {
        if !frame.is_replayed {
            return Ok(());
        }
        self.catalog.salvage(frame.batch.payload.clone())
    }

    fn progress(&mut self, bytes: u64) {
        (self.progress)(bytes);
    }
}

/// A shard.
pub(super) struct ShardSurveyor<'a> {
    pub(super) shard: Shard,
    /// The last entry that it knows; what follows from a checkpoint is not known to follow.
    pub(super) last: LogIndex,
    /// Hears how many bytes of the log were read.
    pub(super) progress: &'a mut dyn FnMut(u64),
}

impl Surveyor for ShardSurveyor<'_> {
    fn restore(&mut self, state: Bytes) -> Result<(), OwnerFault> {
        self.shard.restore(state)
    }

    fn frame(&mut self, frame: &SurveyedFrame<'_>) -> Result<(), OwnerFault> {
        if !frame.is_replayed {
            return Ok(());
        }
        let index = frame.batch.index;
        if index != self.last.next() {
            self.shard.note_gap();
        }
        self.last = index;
        self.shard.salvage(&frame.batch)
    }

    fn progress(&mut self, bytes: u64) {
        (self.progress)(bytes);
    }
}
