//! Parts of the broker by themselves: the wire, routing, queues, logs, logins.
#![allow(clippy::unwrap_used, missing_docs)]

mod generated;
mod golden_frames;
mod log_recovery;
mod login_cost;
mod queue_model;
mod routing_model;
