//! For tests: a disk in memory that crashes and fails on command, and a log without a thread.
//!
//! Owns nothing that a running broker uses. Everything here is exact and repeatable: the same calls with the same
//! seed end in the same bytes. Start reading at [`MemoryDisk`].

mod fault;
mod memory_disk;
mod memory_file;
mod memory_holds;
mod memory_names;
mod seeded;
mod stepped_log;

pub use fault::Fault;
pub use memory_disk::{MemoryDisk, PowerLoss};
pub use seeded::Seeded;
pub use stepped_log::SteppedLog;
