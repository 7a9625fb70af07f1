//! A connection to a broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::channel::Channel;
use super::error::{CloseReason, ConnectError, RequestError};
use super::options::ConnectOptions;
use crate::model::Durability;

/// A connection. Clones share it; it closes when all clones, channels, publishers and consumers are gone, after what
/// was published has been sent, or when [`close`](Self::close) is called.
#[derive(Debug, Clone)]
pub struct Connection {}

/// What the server stated when the connection was (last) opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOffer {
    /// Product, version.
    pub server: BTreeMap<String, String>,
    /// What it can do, by name.
    pub capabilities: Vec<String>,
    /// Negotiated heartbeat interval in seconds; 0: none.
    pub heartbeat_seconds: u32,
    /// Negotiated largest frame in bytes.
    pub frame_bytes_max: u32,
    /// Negotiated highest channel number.
    pub channel_max: u32,
    /// Largest message body in bytes.
    pub message_bytes_max: u64,
    /// What a confirm of a message in a durable queue means on this server.
    pub durability: Durability,
    /// Number of this connection in the server's lists.
    pub connection_id: u64,
}

/// How a connection is.
#[derive(Debug, Clone)]
pub enum Status {
    /// Connected and restored.
    Connected,
    /// Broken; connecting again.
    Reconnecting,
    /// Closed for good.
    Closed(CloseReason),
}

/// Something happened to a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// It broke. If it is to be made again, attempts follow.
    Disconnected(CloseReason),
    /// An attempt failed; the next one comes after `delay`.
    AttemptFailed {
        /// Counted from 1 since the connection broke.
        attempt: u32,
        /// Why it failed.
        error: ConnectError,
        /// Time to the next attempt.
        delay: Duration,
    },
    /// It is back, everything declared over it is restored, unconfirmed messages are on their way again.
    Reconnected {
        /// Attempts it took.
        attempts: u32,
        /// Messages sent again.
        resent_messages: u64,
    },
    /// A queue that the server names has another name after the connection came back.
    QueueRenamed {
        /// Before.
        old: String,
        /// Now.
        new: String,
    },
    /// Something went wrong on a channel without a request asking for it.
    ChannelError {
        /// Number of the channel.
        channel: u32,
        /// What.
        refusal: Arc<crate::model::Refusal>,
    },
    /// Closed for good.
    Closed(CloseReason),
    /// The listener was slower than the events: so many were left out here.
    Missed(u64),
}

/// What happens to a connection, from [`Connection::events`].
#[derive(Debug)]
pub struct Events {}

impl Events {
    /// The next event; `None` after `Closed`.
    pub async fn next(&mut self) -> Option<Event> {
        todo!()
    }
}

impl Connection {
    /// Connects, for instance to `leveret://guest:guest@127.0.0.1:7672/`. Must be called within a tokio runtime, on
    /// which a task then drives the connection.
    ///
    /// # Errors
    /// If the URL is malformed, nothing answers, or the server refuses. The first connection is tried once only.
    pub async fn open(url: &str) -> Result<Self, ConnectError> {
        Self::connect(url.parse()?).await
    }

    /// Connects with options.
    pub async fn connect(_options: ConnectOptions) -> Result<Self, ConnectError> {
        todo!()
    }

    /// Opens a channel.
    pub async fn channel(&self) -> Result<Channel, RequestError> {
        todo!()
    }

    /// What the server stated at the last handshake.
    pub fn server(&self) -> ServerOffer {
        todo!()
    }

    /// How the connection is now.
    pub fn status(&self) -> Status {
        todo!()
    }

    /// What happens from now on. At most 256 events wait for a slow listener.
    pub fn events(&self) -> Events {
        todo!()
    }

    /// Sends what is waiting, says goodbye, and closes. Everything on the connection ends with
    /// [`CloseReason::ByClient`].
    pub async fn close(&self) -> Result<(), CloseReason> {
        todo!()
    }
}
