//! Shards: one log, the queues that live on it, and one owner for both.
//!
//! Owns the order of everything that happens to its queues: commands come in through a mailbox, go to the log and the
//! queues, and come out as events to connections. A confirm leaves only when the log says its batch is durable. Must
//! never know a protocol, a route or an exchange. Start reading at [`Shard::turn`]; `task.rs` is the loop around it.

mod batch;
mod bodies;
mod command;
mod consumers;
mod dispatch;
mod durability;
mod mailbox;
mod memory;
mod operation;
mod recovery;
mod shard;
mod task;
#[cfg(test)]
mod tests;

pub use crate::queue::{ConsumerKey, ConsumerLimits, Outcome, QueueCounts, QueueOptions, TagRange};
pub use command::{
    Command, DeleteRefusal, Delivery, Event, GET_HANDLE, GET_NO_ACK_HANDLE, Notice, Origin, Outlet, Piece,
    PublishBatch, QueueState, Segment, SettleReply, Settlement,
};
pub use mailbox::Mailbox;
pub use memory::MemoryGauge;
pub use recovery::RecoveryFailure;
pub use shard::{Shard, ShardOptions};
pub use task::{ShardHandle, spawn};
