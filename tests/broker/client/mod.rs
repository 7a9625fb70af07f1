//! The client library against a real broker: what a program sees, also when the broker dies under it.

mod access_limits;
mod allowed_keys;
mod altering;
mod altering_queues;
mod blocked;
mod browsing;
mod channel_prefetch;
mod consuming;
mod cuts;
mod dark;
mod dead_letters;
mod delays;
mod delivery_limit;
mod dropping;
mod exchange_kinds;
mod exclusive;
mod expiration;
mod further_keys;
mod kills;
mod leases;
mod limits;
mod message_priorities;
mod moving;
mod permissions;
mod policies;
mod priorities;
mod publishing;
mod receipts;
mod receipts_of_refused;
mod recent_history;
mod reconnecting;
mod refusing;
mod replies;
mod rights;
mod schemas;
mod single_active;
mod subscriptions;

use std::time::Duration;

use crate::support::Broker;
use leveret::client::{Backoff, Channel, ConnectOptions, Connection};

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
