//! The whole broker: over sockets, with the client library, by the command line, and with the examples.
#![allow(clippy::unwrap_used)]

mod cli;
mod client;
mod conformance;
mod examples;
mod faults;
mod server;
mod support;
