//! What the broker is told of a shard.

use super::command::DeleteRefusal;
use crate::model::{QueueId, ShardId};

/// What a shard tells the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A shard has looked at a queue that is to be deleted on a condition.
    Sealed {
        /// The asker's number for it.
        number: u64,
        /// Whether the conditions hold; then the queue takes no more consumers.
        result: Result<(), DeleteRefusal>,
    },
    /// The last consumer of an auto-delete queue has gone.
    QueueUnused {
        /// Which queue.
        queue: QueueId,
    },
    /// The shard's log failed: nothing more will be kept on it until the broker restarts.
    LogFailed {
        /// Which shard.
        shard: ShardId,
        /// What happened.
        what: String,
    },
}
