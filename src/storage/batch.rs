//! What travels into a log and back out of it.

use bytes::Bytes;

use super::LogIndex;
use crate::model::{BodySequence, Timestamp};

/// Operations that are logged together: durable all at once or not at all.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Sequence of the first message body in this batch; without meaning when `bodies` is 0.
    pub first_body: BodySequence,
    /// Number of message bodies in this batch.
    pub bodies: u32,
    /// Number of operations in this batch.
    pub operations: u32,
    /// The time that every operation of this batch happened at, for every replay of it.
    pub recorded_at: Timestamp,
    /// The encoded operations in order, in as many pieces as the caller has them in. They are written gathered, so
    /// joining them first would only cost a copy.
    pub payload: Vec<Bytes>,
}

/// What a batch costs in memory while it waits, beside its payload: itself, its header and the note of its place.
const WAITING_BYTES_PER_BATCH: usize = 256;
/// What each piece of its payload costs beside its bytes: itself, and its place in the gathered write.
const WAITING_BYTES_PER_PIECE: usize = 48;

impl Batch {
    /// Length of the payload in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.payload.iter().map(Bytes::len).sum()
    }

    /// What it counts for while it waits for the disk, so that a limit in bytes also bounds how many may wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.payload_bytes() + WAITING_BYTES_PER_BATCH + self.payload.len() * WAITING_BYTES_PER_PIECE
    }
}

/// A batch as recovery hands it back.
#[derive(Debug, Clone)]
pub struct RecoveredBatch {
    /// Its place in the log.
    pub index: LogIndex,
    /// Sequence of its first message body.
    pub first_body: BodySequence,
    /// Number of message bodies.
    pub bodies: u32,
    /// The time stamped on it.
    pub recorded_at: Timestamp,
    /// The whole payload, checked against its checksum.
    pub payload: Bytes,
}
