//! Bytes in and out, whatever they mean.

mod inbox;
mod listener;
mod outbox;

pub(super) use inbox::{Found, Inbox};
pub(super) use listener::Shared;
pub use listener::{Server, ServerOptions};
pub(super) use outbox::Outbox;
