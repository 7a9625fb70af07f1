//! Bytes in and out, whatever they mean: nothing here knows a protocol.

mod inbox;
mod listener;
mod outbox;
mod pulse;

pub(super) use inbox::Inbox;
pub(super) use listener::{ConnectionHandler, Listener};
pub(super) use outbox::Outbox;
pub(super) use pulse::{Finding, Life, Pulse, Traffic};
