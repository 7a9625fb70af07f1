//! The log: batches of bytes appended in order, made durable in groups, read back by place.
//!
//! Owns segment files, the batch frame, group commit, recovery and the lock on a data directory; shards and the
//! catalog both write through it. Must never know what a payload means: no queues, no messages, no protocol, and no
//! file system call outside `disk.rs`.
//! Start reading at [`ShardLog`], what an owner may ask of its log; the format is drawn in `docs/LOG.md`.

mod batch;
mod memory_log;
mod shard_log;

pub use batch::{Batch, LogIndex, RecoveredBatch, Term};
pub use memory_log::MemoryLog;
pub use shard_log::{BodyRead, DiskAction, DiskError, LogFailure, Progress, ReadFailure, ShardLog};
