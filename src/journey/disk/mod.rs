//! Journeys on a disk: files of records, the oldest of which give way.
//!
//! Owns the folder and what is in it. Nothing that a client waits for waits for it: what it cannot write stays in memory alone.
//! Start reading at [`Folder::open`] and [`Folder::append`]; `segment.rs` draws the bytes, `record.rs` says what they mean.

mod decode;
mod encode;
mod folder;
mod record;
mod segment;
#[cfg(test)]
mod tests;

pub(super) use folder::Part;
pub use folder::{Folder, Found};
