//! The client against a server that follows a script, frame by frame.

#![allow(clippy::unwrap_used)]

mod consuming;
mod dropping;
mod garbage;
mod lifecycle;
mod publishing;
mod reconnecting;
mod requests;
mod server;
mod taken;
