//! The log: batches of bytes appended in order, made durable in groups, read back by place.
//!
//! Owns segment files, the batch frame, group commit, recovery and the lock on a data directory; shards and the
//! catalog both write through it. Must never know what a payload means: no queues, no messages, no protocol; and it
//! makes no file system call outside `disk.rs`, starts no thread outside `writer.rs`.
//! Start reading at [`ShardLog`], what an owner may ask of its log, and [`Machine`], what a log asks of it; then `appender.rs` for the way in, `recovery.rs`
//! for the way back. The format is drawn in `docs/LOG.md`.
//!
//! [`LogKeeper`] keeps it small.
//!
//! Deliberately absent: a cache of recent batches (the owner still holds what it handed over), and
//! any retry of a failed write.

mod appender;
mod batch;
mod bodies_end;
mod body_reader;
mod checkpoint;
mod copy;
mod data_directory;
mod direct_log;
mod disk;
mod frame;
mod handover;
mod ids;
mod keeper;
mod lock;
mod log_directory;
mod machine;
mod memory_log;
mod merge;
mod open_failure;
mod owner_fault;
mod recovery;
mod repair;
mod reserve;
mod scan;
mod scratch_disk;
mod segment;
mod segment_table;
mod shard_log;
mod spares;
mod survey;
mod survey_report;
pub mod testing;
mod writer;

pub use batch::{Batch, RecoveredBatch};
pub use checkpoint::{CHECKPOINT_VERSION, CheckpointFault, STATE_BYTES_MAX};
pub use copy::LogCopy;
pub use data_directory::{DataDirectory, DataDirectoryFailure};
pub use direct_log::{DirectLog, DirectLogOptions};
pub use disk::{Access, DirectoryEntry, Disk, DiskFile, DiskRoom, LockAttempt, PIECES_MAX, RealDisk};
pub(crate) use disk::{read_exact_at, write_all_at};
pub use frame::{BATCH_BYTES_MAX, FrameFault};
pub use handover::OnProgress;
pub use ids::{KnownLog, LogIndex, NodeId, RaftState, Term};
pub use keeper::{KeepFailure, LogKeeper, LogPosition};
pub use lock::{DirectoryLock, LockRefused};
pub use machine::{Machine, Snapshot};
pub use memory_log::MemoryLog;
pub use merge::{Kept, MergeStep, MergeSteps, Merged, Selection};
pub use open_failure::{Cut, Damage, OpenFailure, RecoveryReport, UnusableCheckpoint};
pub use owner_fault::OwnerFault;
pub use repair::{Salvaged, repair};
pub use scratch_disk::ScratchDisk;
pub use segment::{SEGMENT_VERSION, SegmentFault};
pub use segment_table::Segment;
pub use shard_log::{BodyRead, DiskAction, DiskError, LogFailure, LogRoom, Progress, ReadFailure, ShardLog};
pub use survey::{survey, survey_bytes};
pub use survey_report::{
    Logged, Loss, LossCause, Survey, SurveyedCheckpoint, SurveyedFrame, SurveyedSegment, Surveyor,
};
