//! A whole broker in one thread on a disk in memory, driven by a seed through crashes and troubles, and held against what its
//! clients know.
//!
//! Everything that a broker does not decide itself is decided by the seed: what clients do, which task, log and piece of
//! work goes on next, what the disk does, when the power goes. So a run can be made again exactly. Owns the books of what
//! must be so. Must never be used by a running broker, or judge one by more than its clients and its disk can tell. Start
//! reading at [`simulate`]; `books.rs` says what is demanded.

mod access;
mod activity;
mod audit;
mod books;
mod client;
mod counters;
mod delays;
mod dying;
mod limits;
mod logs;
mod looking;
mod moving;
mod order;
mod random;
mod retained;
mod rot;
mod run;
mod subscribing;
mod subscriptions;
mod timing;
mod topology;
mod trace;
mod troubles;
mod words;
mod workers;
mod world;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use counters::Counters;
pub use run::{Outcome, SimulationOptions, simulate};
