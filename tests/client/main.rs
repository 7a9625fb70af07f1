//! The client library against a real broker: what a program sees, also when the broker dies under it.
#![allow(clippy::unwrap_used)]

mod consuming;
mod cuts;
mod kills;
mod publishing;
mod reconnecting;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the command")]
mod support;

use std::time::Duration;

use leveret::client::{Backoff, Channel, ConnectOptions, Connection};
use support::Broker;

/// What takes longer is broken.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it takes too long")
}

/// A connection that comes back quickly, and a channel.
async fn connect(broker: &Broker) -> (Connection, Channel) {
    let options: ConnectOptions = broker.url().parse().unwrap();
    let quick = Backoff { delay_max: Duration::from_millis(100), ..Backoff::default() };
    let connection = soon(Connection::connect(options.reconnect(quick))).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    (connection, channel)
}
