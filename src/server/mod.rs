//! The native protocol over TCP.
//!
//! Owns the listener, one task for each connection, and the translation between frames and the broker's calls. Must
//! never decide what a frame means (that is `protocol`) or what becomes of a message (that is `broker`). Start reading
//! at [`Server`]; `connection.rs` is the life of a connection, `seat.rs` what a client that is logged in does.

mod confirms;
mod connection;
mod deliveries;
mod explain;
mod inbox;
mod listener;
mod lists;
mod outbox;
mod publication;
mod requests;
mod returns;
mod seat;

pub use listener::{Server, ServerOptions};
