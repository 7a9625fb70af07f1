//! The batch under construction: what the shard took in since it last handed a batch to the log.

use bytes::{BufMut, Bytes, BytesMut};

use crate::message::MessageRun;
use crate::model::{BodySequence, Bug, QueueId, Timestamp, planted};
use crate::queue::{QueueCommand, QueueOptions};
use crate::storage::Batch;

use super::blocks::Block;
use super::command::{Origin, Segment};
use super::moments::Moment;
use super::operation;

/// Messages are copied into blocks of this size, or of their own if they are larger. A message that stays keeps its block
/// in memory, until it is copied out.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct BatchBuilder {
    /// Whether operations are written: a log without a disk is never read.
    logged: bool,
    /// The first body sequence of the batch and the next one to be given out.
    first_body: u64,
    next_body: u64,
    /// Messages of this turn, and the block that they are in.
    messages: BytesMut,
    block: Block,
    /// Messages of earlier turns, and their length.
    chunks: Vec<Bytes>,
    chunks_bytes: usize,
    operations: BytesMut,
    operations_count: u32,
    /// When it was begun; until it is, when the one before was.
    begun_at: Timestamp,
    is_begun: bool,
}

impl BatchBuilder {
    pub(super) fn new(logged: bool, next_body: u64) -> Self {
        Self {
            logged,
            first_body: next_body,
            next_body,
            messages: BytesMut::new(),
            block: Block::default(),
            chunks: Vec::new(),
            chunks_bytes: 0,
            operations: BytesMut::new(),
            operations_count: 0,
            begun_at: Timestamp::default(),
            is_begun: false,
        }
    }

    /// Something is about to be added. The first of it gives the batch its time, which is never before that of a batch
    /// that was written or replayed since the start.
    pub(super) fn begin(&mut self, now: Timestamp) {
        // What is not recorded leaves it as empty as it was.
        if !self.is_begun || self.is_empty() {
            (self.begun_at, self.is_begun) = (self.begun_at.max(now), true);
        }
    }

    /// Whether something is in it that came so many milliseconds ago. After a start all of it is as old as the first.
    pub(super) fn is_older_than(&self, millis: u64, now: Timestamp) -> bool {
        self.is_begun && !self.is_empty() && now.0 >= self.begun_at.0.saturating_add(millis)
    }

    /// The batch before was of this time.
    pub(super) fn follows(mut self, time: Timestamp) -> Self {
        self.begun_at = time;
        self
    }

    /// The sequence of the next message.
    pub(super) fn next_body(&self) -> BodySequence {
        BodySequence(self.next_body)
    }

    /// Bytes gathered so far.
    pub(super) fn len(&self) -> usize {
        self.chunks_bytes + self.messages.len() + self.operations.len()
    }

    /// Whether nothing was gathered.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the messages of all segments; returns the first one's sequence and where their bytes begin in the
    /// payload.
    pub(super) fn publish(&mut self, origin: &Origin, run: &MessageRun, segments: &[Segment]) -> (u64, u32) {
        let first = self.next_body;
        let bytes: usize = segments
            .iter()
            .map(|segment| run.range_bytes(segment.first as usize, segment.end as usize).len())
            .sum();
        if self.messages.capacity() - self.messages.len() < bytes {
            self.change_block(bytes);
        }
        let offset = (self.chunks_bytes + self.messages.len()) as u32;
        for segment in segments {
            self.messages.put_slice(run.range_bytes(segment.first as usize, segment.end as usize));
            self.next_body += u64::from(segment.end - segment.first);
        }
        if self.logged {
            let parts =
                segments.iter().map(|segment| (u64::from(segment.end - segment.first), &segment.queues[..]));
            operation::encode_publish(origin, bytes, parts, &mut self.operations);
            self.operations_count += 1;
        }
        (first, offset)
    }

    /// Takes a block with room for so many bytes more: the old one again, if nothing in it is needed any more. The turn's
    /// messages stay in one piece.
    fn change_block(&mut self, bytes: usize) {
        let length = self.messages.len();
        if length == 0
            && self.block.bytes == BLOCK_BYTES
            && bytes <= BLOCK_BYTES
            && self.messages.try_reclaim(BLOCK_BYTES)
        {
            return;
        }
        // Twice what there is, so that a long turn does not copy itself for each of its publishes.
        let room = (length + bytes).max(2 * length).max(BLOCK_BYTES);
        let mut messages = BytesMut::with_capacity(room);
        messages.extend_from_slice(&self.messages);
        self.block = Block { at: messages.as_ptr() as usize, bytes: messages.capacity() };
        self.messages = messages;
    }

    pub(super) fn command(&mut self, queue: QueueId, command: &QueueCommand) {
        let is_left_out = matches!(command, QueueCommand::Settle(..)) && planted(Bug::SettlementNotRecorded);
        if self.logged && !is_left_out {
            operation::encode_command(queue, command, &mut self.operations);
            self.operations_count += 1;
        }
    }

    pub(super) fn declare(&mut self, queue: QueueId, options: QueueOptions) {
        if self.logged {
            operation::encode_declare(queue, options, &mut self.operations);
            self.operations_count += 1;
        }
    }

    /// Messages of these queues expire.
    pub(super) fn expire(&mut self, queues: &[QueueId], expires: &[Moment]) {
        if self.logged {
            operation::encode_expire(queues, expires, &mut self.operations);
            self.operations_count += 1;
        }
    }

    /// Messages of these queues are held back.
    pub(super) fn delay(&mut self, queues: &[QueueId], until: &[Moment]) {
        if self.logged {
            operation::encode_delay(queues, until, &mut self.operations);
            self.operations_count += 1;
        }
    }

    pub(super) fn delete(&mut self, queue: QueueId) {
        if self.logged {
            operation::encode_delete(queue, &mut self.operations);
            self.operations_count += 1;
        }
    }

    /// Ends the turn's messages: returns them, the block that they are in, and where they begin in the payload.
    pub(super) fn freeze(&mut self) -> Option<(Bytes, Block, u32)> {
        if self.messages.is_empty() {
            return None;
        }
        let chunk = self.messages.split().freeze();
        let offset = self.chunks_bytes as u32;
        self.chunks_bytes += chunk.len();
        self.chunks.push(chunk.clone());
        Some((chunk, self.block, offset))
    }

    /// The batch; the builder begins the next one. `freeze` was called before.
    pub(super) fn finish(&mut self, now: Timestamp) -> Batch {
        self.begin(now);
        self.is_begun = false;
        debug_assert!(self.messages.is_empty(), "the turn's messages are frozen before the batch ends");
        let length = self.operations.len() as u32;
        let mut payload = std::mem::take(&mut self.chunks);
        if self.logged {
            self.operations.put_u32_le(length);
            payload.push(self.operations.split().freeze());
        }
        let batch = Batch {
            first_body: BodySequence(self.first_body),
            bodies: (self.next_body - self.first_body) as u32,
            operations: self.operations_count,
            recorded_at: self.begun_at,
            payload,
        };
        self.chunks_bytes = 0;
        self.operations_count = 0;
        self.first_body = self.next_body;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In memory a queue is made without a record; messages that come hours later are not as old as that.
    #[test]
    fn what_comes_to_an_empty_batch_gives_it_its_time() {
        let mut batch = BatchBuilder::new(false, 1);
        batch.begin(Timestamp(5));
        batch.begin(Timestamp(9));
        assert_eq!(batch.begun_at, Timestamp(9));
    }
}
