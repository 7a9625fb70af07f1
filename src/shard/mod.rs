//! Shards: one log, the queues that live on it, and one owner for both.
//!
//! Owns the order of everything that happens to its queues: commands come in through a mailbox, go to the log and the
//! queues, and come out as events to connections. A confirm leaves only when the log says its batch is durable. Must
//! never know a protocol, a route or an exchange. Start reading at [`Shard::turn`]; `task.rs` is the loop around it.
//!
//! What a shard holds, by file: its queues, each with those who use it (`slot.rs`), and which there are (`queues.rs`);
//! where messages are (`bodies.rs`); what is on its way to the disk, and who waits for it (`batch.rs`, `commit_queue.rs`);
//! when messages came (`times.rs`), which of them expire (`expirations.rs`), and how long consumers have had theirs (`leases.rs`).
//! What of that outlives the process changes in `apply.rs` alone.

mod apply;
mod batch;
mod blocks;
mod bodies;
mod browsing;
mod channel_prefetch;
mod checkpoint;
mod close_failure;
mod command;
mod commit_queue;
mod compaction;
mod consumers;
mod dead_lettering;
mod delays;
mod departing;
mod disk_gauge;
mod dispatch;
mod expirations;
mod fault;
mod flow;
mod foreseeing;
mod halt;
mod housekeeping;
mod job;
mod lease;
mod leases;
mod limiting;
mod logged;
mod mailbox;
mod memory;
mod merge;
mod moments;
mod notice;
mod observing;
mod operation;
mod out_of_service;
mod outlets;
mod pace;
mod progress;
mod queues;
mod read_back;
mod reading;
mod recent;
mod recounts;
mod recovery;
mod refusing;
mod retaining;
mod salvage;
mod shard;
mod sharing;
mod slot;
mod task;
#[cfg(test)]
mod tests;
mod times;
mod usage;
mod workers;

pub use crate::queue::{
    ConsumerKey, ConsumerLimits, ConsumerState, Departure, Limits, Outcome, QueueCounts, QueueOptions,
    Retention, Retry, SequenceRuns, TagRange, Tags, Taking,
};
pub use channel_prefetch::{ChannelPrefetch, SharedPrefetch};
pub use close_failure::CloseFailure;
pub use command::{
    Came, Command, DeleteRefusal, Delivery, Event, Foreseen, Look, Looked, LookedAt, Oldest, Origin, Outlet,
    Piece, PublishBatch, QueueState, SealConditions, Segment, SettleReply, Settlement, StoreBatch, TakenOut,
    Which, WouldBe,
};
pub use dead_lettering::{DeadLetterNotices, DeadLetters};
pub use departing::{Departed, DepartedByQueue, DepartureBoard, DepartureNotices};
pub use disk_gauge::DiskGauge;
pub use job::{Done, Job, LogAccess, Ran};
pub use logged::{LoggedMessages, LoggedOperation, logged_operations};
pub use mailbox::Mailbox;
pub use memory::MemoryGauge;
pub use notice::Notice;
pub use out_of_service::{out_of_service, spawn_out_of_service};
pub use refusing::Excess;
pub use salvage::Held;
pub use shard::{Shard, ShardOptions};
pub use task::{ShardHandle, spawn};
pub use workers::{RuntimeWorkers, Workers, run_blocking};
