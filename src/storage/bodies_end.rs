//! Where the numbering of message bodies stands.

use super::LogFailure;
use crate::model::BodySequence;

/// The lowest sequence that the next body may have. Sequences may skip numbers, but never return to one, so that a
/// body's batch can be found by binary search.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodiesEnd(BodySequence);

impl BodiesEnd {
    pub(super) fn at(end: BodySequence) -> Self {
        Self(end)
    }

    /// The lowest sequence that the next body may have.
    pub(super) fn end(self) -> BodySequence {
        self.0
    }

    /// Where the numbering stands after a batch, if its bodies come after all bodies before.
    pub(super) fn after(self, first: BodySequence, bodies: u32) -> Result<Self, LogFailure> {
        if bodies == 0 {
            return Ok(self);
        }
        match first.0.checked_add(u64::from(bodies)) {
            Some(end) if first >= self.0 => Ok(Self(BodySequence(end))),
            _ => Err(LogFailure::BodiesOutOfOrder { expected: self.0, got: first }),
        }
    }
}
