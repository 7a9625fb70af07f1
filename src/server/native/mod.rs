//! Leveret's own protocol. `connection.rs` is the life of a connection, `translation.rs` stands between its client and
//! the broker's session: frames to calls, words to frames.

mod browse;
mod confirms;
mod connection;
mod deliveries;
mod explain;
mod journeys;
mod limits;
mod lists;
mod permissions;
mod policies;
mod publication;
mod requests;
mod returns;
mod server;
mod subscriptions;
mod translation;

pub use server::{Server, ServerOptions};
