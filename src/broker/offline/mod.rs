//! A data directory on which no broker runs: what is in it, whether a broker would open it, and what can be mended.
//!
//! A log of the catalog or of a shard is read with the code of its owner. What a broker would say is found out by opening
//! the log as a broker does, on a disk that keeps everything written to it in memory.

mod backup;
mod check;
mod dump;
mod repair;
mod surveyors;

pub use backup::{CopyFailure, copy};
pub use check::{CheckFailure, DataReport, GivenUp, HeldQueue, LogReport, check};
pub use dump::{DumpFailure, LoggedBatch, dump};
pub use repair::{Repair, RepairFailure, plan_repair};
