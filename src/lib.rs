//! Leveret: a message broker with RabbitMQ's model and a protocol of its own.
//!
//! For programs that talk to a broker, [`client`] is all that is needed, and the feature `client` builds nothing else.
//! Everything else is the broker, of the feature `broker`; its modules stand on each other in levels, and each imports
//! lower ones only:
//!
//! | Level | Module | Owns |
//! |---|---|---|
//! | 0 | [`model`] | names, ids, field tables, refusals, limits |
//! | 0 | [`pb`] | the protocol's messages, generated |
//! | 1 | [`message`] | a message as bytes: its layout, runs of messages, what is read of it |
//! | 1 | [`schema`] | whether what a message carries fits what was agreed about it |
//! | 2 | [`wire`] | bytes to frames and back |
//! | 2 | [`routing`] | exchanges and bindings: which queues get a message |
//! | 2 | [`queue`] | one queue as a state machine |
//! | 2 | [`auth`] | users, password hashes, who may open what |
//! | 2 | [`storage`] | logs: appending, group commit, recovery, reading back |
//! | 3 | [`protocol`] | one client's connection as a state machine |
//! | 4 | [`shard`] | one log, its queues, and the order of everything that happens to them |
//! | 5 | [`broker`] | what exists, where it lives, and the way of a message: what every front end calls |
//! | 6 | [`server`] | the protocol over TCP |
//! | 6 | [`client`] | the client library |
//! | 6 | [`simulation`] | a whole broker in one thread, driven by a seed and held against its clients' books |
//! | 7 | [`config`] | file, environment and flags to checked values |
//! | 8 | [`cli`] | the `leveret` command |
//!
//! Levels 0 to 3 touch no socket, file, clock or thread, but for a few named places. A published message goes from
//! [`server`] through [`protocol`], [`broker`] and [`shard`] to [`storage`], and comes back as deliveries and a confirm.
//! `docs/ARCHITECTURE.md` is the tour.

#[cfg(feature = "broker")]
pub mod auth;
#[cfg(feature = "broker")]
pub mod broker;
#[cfg(feature = "broker")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "broker")]
pub mod config;
#[cfg(feature = "broker")]
pub mod journey;
#[cfg(feature = "client")]
pub mod message;
#[cfg(feature = "client")]
pub mod model;
#[cfg(feature = "client")]
pub mod pb;
#[cfg(feature = "broker")]
pub mod protocol;
#[cfg(feature = "broker")]
pub mod queue;
#[cfg(feature = "broker")]
pub mod routing;
#[cfg(feature = "broker")]
pub mod schema;
#[cfg(feature = "broker")]
pub mod server;
#[cfg(feature = "broker")]
pub mod shard;
#[cfg(feature = "broker")]
pub mod simulation;
#[cfg(feature = "broker")]
pub mod storage;
#[cfg(feature = "client")]
pub mod wire;

/// The code on the first page, compiled with the tests of the documentation.
#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../README.md")]
struct Readme;
