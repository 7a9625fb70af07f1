//! The log's promise on a disk that crashes, lies, fills up and rots: what was reported durable comes back in order,
//! byte for byte; what was never appended does not; and damage is told from a write that a crash interrupted.

mod checkpoints;
mod damage;
mod every_crash;
mod failures;
mod format;
mod random_operations;
mod repair;
mod reuse;
mod support;
mod writer;
