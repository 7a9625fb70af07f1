//! Leveret: a message broker with RabbitMQ's model and a protocol of its own.

pub mod auth;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod queue;
pub mod routing;
pub mod server;
pub mod shard;
pub mod storage;
pub mod wire;
