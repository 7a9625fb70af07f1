//! In what order the messages of a queue come: that in which they were published, and by priority where a queue knows any.

use std::collections::BTreeMap;

use super::books::{Books, Finding, MessageId, QueueNumber};
use crate::model::{FieldTable, FieldValue, MAX_PRIORITY};

/// The queues of these names know priorities.
const PRIOR: [&str; 2] = ["cat", "jay"];
/// The highest of them: some messages have a higher one.
const HIGHEST: u8 = 3;

/// Puts it among the arguments of a declaration, if a queue of this name knows priorities.
pub(super) fn put_into(name: &str, arguments: &mut FieldTable) {
    if PRIOR.contains(&name) {
        arguments.0.insert(MAX_PRIORITY.to_owned(), FieldValue::Integer(HIGHEST.into()));
    }
}

/// The priority of a message, which follows from its number: none of some, and of some the highest that there is.
pub(super) fn priority_of(id: MessageId) -> u8 {
    [0, 1, 0, 3, 2, 255, 0][(id % 7) as usize]
}

impl Books {
    /// As what a queue takes the priority of a message.
    pub(super) fn rank(&self, queue: QueueNumber, id: MessageId) -> u8 {
        match PRIOR.contains(&self.queues[queue].name) {
            true => priority_of(id).min(HIGHEST),
            false => 0,
        }
    }

    /// All that waited came out, in this order: the highest priority first, and of each what a client published in its order.
    pub(super) fn in_turn(&self, queue: QueueNumber, came: &[MessageId]) -> Result<(), Finding> {
        let rises = |pair: &&[MessageId]| self.rank(queue, pair[0]) < self.rank(queue, pair[1]);
        if let Some(pair) = came.windows(2).find(rises) {
            return Err(format!(
                "queue '{}' gave message {} after {}, which is of a lower priority",
                self.queues[queue].name, pair[1], pair[0]
            ));
        }
        came.chunk_by(|one, other| self.rank(queue, *one) == self.rank(queue, *other))
            .try_for_each(|same| self.by_client(queue, same))
    }

    /// How many of these came right before an older one of a lower priority.
    pub(super) fn overtakers(&self, queue: QueueNumber, came: &[MessageId]) -> u64 {
        let is_one =
            |pair: &&[MessageId]| pair[0] > pair[1] && self.rank(queue, pair[0]) > self.rank(queue, pair[1]);
        came.windows(2).filter(is_one).count() as u64
    }

    /// Each client's messages come in the order in which it published them.
    pub(super) fn by_client(&self, queue: QueueNumber, came: &[MessageId]) -> Result<(), Finding> {
        let name = self.queues[queue].name;
        let mut newest: BTreeMap<u32, MessageId> = BTreeMap::new();
        for id in came {
            let client = self.client_of(*id).unwrap_or_default();
            if let Some(before) = newest.insert(client, *id).filter(|before| before > id) {
                return Err(format!(
                    "queue '{name}' gave message {id} after {before}, published in the other order"
                ));
            }
        }
        Ok(())
    }
}
