//! A shard as a checkpoint holds it: where its messages are and which queue holds which of them; never a message.
//!
//! ```text
//! state  = version (1 byte), next body sequence, extents n, n x extent, queues n, n x (queue, its state)
//! extent = gap to the end of the extent before, messages, gap to the last batch of the extent before, batches - 1,
//!          bytes of messages
//! ```
//!
//! All numbers are protobuf varints. How a queue's state is written stands in `src/queue`.

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use super::batch::BatchBuilder;
use super::bodies::Bodies;
use super::recovery::RECOVERED;
use super::shard::{Shard, Slot};
use crate::model::QueueId;
use crate::queue::{Queue, SEQUENCE_MAX};
use crate::storage::{LogOwner, RecoveredBatch};

const VERSION: u8 = 1;

impl Shard {
    /// What the shard is, without its consumers. Everything it knows must have been handed to the log.
    pub(super) fn state(&self) -> Vec<Bytes> {
        let mut out = vec![VERSION];
        encode_varint(self.batch.next_body().0, &mut out);
        self.bodies.encode(&mut out);
        let mut queues: Vec<QueueId> = self.queues.keys().copied().collect();
        queues.sort_unstable();
        encode_varint(queues.len() as u64, &mut out);
        for id in queues {
            encode_varint(id.0, &mut out);
            self.queues[&id].queue.encode(&mut out);
        }
        vec![out.into()]
    }

    fn read_state(&mut self, mut state: &[u8]) -> Result<(), String> {
        let rest = &mut state;
        match rest.split_off_first() {
            Some(&VERSION) => {}
            version => {
                return Err(format!(
                    "its state has version {version:?}, and this program knows version {VERSION}"
                ));
            }
        }
        let next_body = number(rest)?;
        if next_body > SEQUENCE_MAX {
            return Err(format!("its next message would be number {next_body}"));
        }
        let mut bodies = Bodies::decode(rest)?;
        if bodies.end() > next_body {
            return Err(format!("it holds message {}, and {next_body} is the next one", bodies.end() - 1));
        }
        let queues = number(rest)?;
        self.queues.clear();
        for _ in 0..queues {
            let id = QueueId(number(rest)?);
            let mut lost = None;
            let queue = Queue::decode(RECOVERED, rest, |sequence| {
                if !bodies.count(sequence) {
                    lost = lost.or(Some(sequence));
                }
            })?;
            if let Some(sequence) = lost {
                return Err(format!("queue {id} holds message {sequence}, and no batch does"));
            }
            if self.queues.insert(id, Slot::of(queue)).is_some() {
                return Err(format!("queue {id} is there twice"));
            }
        }
        if !rest.is_empty() {
            return Err("there is something behind its state".to_owned());
        }
        bodies.counted();
        self.bodies = bodies;
        self.batch = BatchBuilder::new(true, next_body);
        Ok(())
    }
}

pub(super) fn number(rest: &mut &[u8]) -> Result<u64, String> {
    decode_varint(rest).map_err(|error| format!("a number of its state: {error}"))
}

impl LogOwner for Shard {
    fn restore(&mut self, state: Bytes) -> Result<(), String> {
        self.read_state(&state)
    }

    fn replay(&mut self, batch: RecoveredBatch) -> Result<(), String> {
        self.replay_batch(&batch)
    }
}
