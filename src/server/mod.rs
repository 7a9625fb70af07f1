//! What clients talk to over TCP.
//!
//! Owns the listening socket, one task for each connection, and the translation between frames and the broker's calls.
//! Must never decide what a frame means (that is `protocol`) or what becomes of a message (that is `broker`). Start reading
//! at [`Server`]; `socket/` moves bytes for any protocol, `native/` speaks Leveret's own.

mod native;
mod socket;

pub use native::{Server, ServerOptions};
