//! A shard on logs that do what the test says: turn by turn, without a runtime, a thread or a clock.

#![allow(clippy::unwrap_used)]

mod browsing;
mod channel_prefetch;
mod checkpoints;
mod crashes;
mod dead_letters;
mod delays;
mod driver;
mod expirations;
mod flow;
mod halts;
mod hostile_log;
mod journeys;
mod lagging;
mod leases;
mod limits;
mod memory_held;
mod priorities;
mod recounts;
mod refusing;
mod retention;
mod scenarios;
mod with_direct_log;
