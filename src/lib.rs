//! Leveret: a message broker with RabbitMQ's model and a protocol of its own.
//!
//! For programs that talk to a broker, [`client`] is all that is needed. Everything else is the broker; its modules stand
//! on each other in levels, and each imports lower ones only:
//!
//! | Level | Module | Owns |
//! |---|---|---|
//! | 0 | [`model`] | names, ids, field tables, runs of messages, refusals, limits |
//! | 1 | [`wire`] | bytes to frames and back |
//! | 1 | [`routing`] | exchanges and bindings: which queues get a message |
//! | 1 | [`queue`] | one queue as a state machine |
//! | 1 | [`auth`] | users, password hashes, who may open what |
//! | 1 | [`storage`] | logs: appending, group commit, recovery, reading back |
//! | 2 | [`protocol`] | one client's connection as a state machine |
//! | 3 | [`shard`] | one log, its queues, and the order of everything that happens to them |
//! | 4 | [`broker`] | what exists, where it lives, and the way of a message: what every front end calls |
//! | 5 | [`server`] | the protocol over TCP |
//! | 5 | [`client`] | the client library |
//! | 6 | [`config`] | file, environment and flags to checked values |
//! | 7 | [`cli`] | the `leveret` command |
//!
//! Levels 0 to 2 touch no socket, file, clock or thread, but for a few named places. A published message goes from
//! [`server`] through [`protocol`], [`broker`] and [`shard`] to [`storage`], and comes back as deliveries and a confirm.
//! `docs/ARCHITECTURE.md` is the tour.

pub mod auth;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod model;
pub mod protocol;
pub mod queue;
pub mod routing;
pub mod server;
pub mod shard;
pub mod storage;
pub mod wire;
