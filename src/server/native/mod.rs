//! Leveret's own protocol. `connection.rs` is the life of a connection, `seat.rs` what a client that is logged in does.

mod confirms;
mod connection;
mod deliveries;
mod explain;
mod lists;
mod publication;
mod requests;
mod returns;
mod translation;

pub(super) use connection::Connection;
