//! A connection to a broker.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};

use super::backoff::Delays;
use super::channel::{Channel, ChannelHandle};
use super::core::Core;
use super::driver::{CutOff, drive, random_fraction};
use super::error::{CloseReason, ConnectError, RequestError};
use super::handshake::{self, ClientId, Link};
use super::options::ConnectOptions;
use super::publisher::SizeLimits;
use crate::model::{Durability, Refusal};

/// A connection. Clones share it; it closes when all clones, channels, publishers and consumers are gone, after what
/// was published has been sent, or when [`close`](Self::close) is called.
///
/// When it breaks it is made again (see [`ConnectOptions::reconnect`]): what was declared over it is declared again,
/// publishers and consumers go on, and messages without a confirm are sent again, in order and marked as resent.
#[derive(Clone)]
pub struct Connection(pub(super) Arc<ConnectionHandle>);

/// What applications hold, directly or through channels. The driver does not, so that its end is noticed.
pub(super) struct ConnectionHandle {
    pub(super) core: Arc<Core>,
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        self.core.begin_close();
    }
}

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

impl ServerOffer {
    pub(super) fn size_limits(&self) -> SizeLimits {
        SizeLimits::new(self.frame_bytes_max, self.message_bytes_max)
    }
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

/// The server takes no messages for now; see [`Connection::blocked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// What it runs short of; `None` for something that this version does not know.
    pub shortage: Option<Shortage>,
    /// Why, in a sentence.
    pub reason: String,
}

/// What a server may run short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortage {
    /// Memory for messages of queues that are nowhere else.
    Memory,
    /// Room on its disk; only messages that reach a durable queue wait.
    Disk,
}

/// Something happened to a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// It broke, and is to be made again; attempts follow.
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
    /// It is back: topology and publishers are restored, consumers and unconfirmed messages are on their way.
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
    /// Something could not be restored. A queue that another connection has for itself (405 RESOURCE_LOCKED), and a consumer whose
    /// queue is in exclusive use (403 ACCESS_REFUSED), are tried again from time to time; [`Event::Restored`] follows when it is
    /// there.
    NotRestored {
        /// For instance "queue 'orders'".
        what: String,
        /// Why not.
        refusal: Arc<Refusal>,
    },
    /// What another connection had for itself is there again: a queue with its bindings, whose consumers are on their way, or a
    /// consumer.
    Restored {
        /// For instance "queue 'orders'".
        what: String,
    },
    /// Something went wrong on a channel without a request asking for it, for instance a delivery settled twice.
    ChannelError {
        /// Number of the channel.
        channel: u32,
        /// What.
        refusal: Arc<Refusal>,
    },
    /// The server takes no messages for now: what was published waits, and publishing waits when its bounds are full.
    Blocked(Arc<Blocked>),
    /// The server takes messages again.
    Unblocked,
    /// Closed for good.
    Closed(CloseReason),
    /// The listener was slower than the events: so many were left out here.
    Missed(u64),
}

/// What happens to a connection, from [`Connection::events`].
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    is_over: bool,
}

impl Events {
    /// The next event; `None` after `Closed`.
    ///
    /// # Cancel safety
    /// An event that was not given out comes with the next call.
    pub async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        let event = match self.receiver.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(count)) => Event::Missed(count),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        self.is_over = matches!(event, Event::Closed(_));
        Some(event)
    }
}

impl Connection {
    /// Connects, for instance to `leveret://guest:guest@127.0.0.1:7672/`. Must be called within a tokio runtime with
    /// I/O and time, on which a task then drives the connection.
    ///
    /// # Errors
    /// If the URL is malformed, nothing answers, or the server refuses. The first connection is tried once only, unless
    /// [`ConnectOptions::retry_first`] says otherwise; then this is the error of the last attempt.
    ///
    /// # Cancel safety
    /// The attempt ends, and the socket is closed.
    pub async fn open(url: &str) -> Result<Self, ConnectError> {
        Self::connect(url.parse()?).await
    }

    /// Connects with options. Errors as [`open`](Self::open).
    ///
    /// # Cancel safety
    /// The attempt ends, and the socket is closed.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        let client_id = ClientId::draw();
        let link = connect_first(&options, &client_id).await?;
        let core = Core::new(options, client_id, link.offer.clone());
        tokio::spawn(drive(CutOff::new(core.clone()), link));
        Ok(Self(Arc::new(ConnectionHandle { core })))
    }

    /// Asks whether a broker is there, without logging in: what health checks need. The user, password and vhost of the options
    /// do not matter.
    ///
    /// # Errors
    /// If nothing answers in time, or what answers is no broker. It is tried once.
    ///
    /// # Cancel safety
    /// The socket is closed.
    pub async fn probe(options: &ConnectOptions) -> Result<(), ConnectError> {
        handshake::probe(options).await
    }

    /// Opens a channel.
    ///
    /// # Cancel safety
    /// The channel is closed again when the server has opened it.
    pub async fn channel(&self) -> Result<Channel, RequestError> {
        let (number, answer) = self.0.core.open_channel()?;
        // Made before the answer is here: dropping it, on refusal or when the caller stops waiting, cleans up.
        let channel = ChannelHandle::new(self.0.clone(), number);
        answer.done().await?;
        Ok(Channel::new(channel))
    }

    /// What the server stated at the last handshake.
    pub fn server(&self) -> ServerOffer {
        ServerOffer::clone(&self.0.core.state().offer)
    }

    /// How the connection is now.
    pub fn status(&self) -> Status {
        self.0.core.status.borrow().clone()
    }

    /// Why the server takes no messages now; `None` if it does. It tells so when something has been published. Until it takes
    /// them again messages wait here, so that settlements on the same connection are not held up behind them.
    pub fn blocked(&self) -> Option<Arc<Blocked>> {
        self.0.core.state().blocked.clone()
    }

    /// What happens from now on. At most 256 events wait for a slow listener.
    pub fn events(&self) -> Events {
        Events { receiver: self.0.core.events.subscribe(), is_over: false }
    }

    /// Sends what is waiting, says goodbye, and closes. Everything on the connection ends with
    /// [`CloseReason::ByClient`]; who wants confirms waits for them before.
    ///
    /// While the connection is broken there is nobody to say goodbye to, and it closes at once. Only if it is just being made
    /// again is that finished first, for at most 5 s, so that no queue stays whose consumer was still to come.
    ///
    /// # Errors
    /// If the connection was closed before for another reason.
    ///
    /// # Cancel safety
    /// Closing goes on once it was polled; another call waits for its end.
    pub async fn close(&self) -> Result<(), CloseReason> {
        self.0.core.begin_close();
        let mut status = self.0.core.status.subscribe();
        let closed = status.wait_for(|status| matches!(status, Status::Closed(_))).await;
        match closed.as_deref() {
            Ok(Status::Closed(CloseReason::ByClient)) | Err(_) => Ok(()),
            Ok(Status::Closed(reason)) => Err(reason.clone()),
            Ok(_) => Ok(()),
        }
    }
}

/// Connects for the first time, as often as the options want it.
async fn connect_first(options: &ConnectOptions, client_id: &ClientId) -> Result<Link, ConnectError> {
    let Some(backoff) = &options.retry_first else { return handshake::connect(options, client_id).await };
    let began = Instant::now();
    let mut delays = Delays::new(backoff);
    let mut attempts = 0;
    loop {
        let error = match handshake::connect(options, client_id).await {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        attempts += 1;
        let delay = delays.next(random_fraction());
        let is_over = attempts >= backoff.attempts_max || began.elapsed() + delay > backoff.give_up_after;
        if is_over || !error.is_worth_retrying() {
            return Err(error);
        }
        sleep(delay).await;
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(reason) => write!(f, "disconnected: {reason}"),
            Self::AttemptFailed { attempt, error, delay } => {
                write!(
                    f,
                    "attempt {attempt} to connect again failed: {error}; the next one in {} ms",
                    delay.as_millis()
                )
            }
            Self::Reconnected { attempts, resent_messages } => {
                write!(f, "connected again at attempt {attempts}; {resent_messages} messages are sent again")
            }
            Self::QueueRenamed { old, new } => write!(f, "queue '{old}' is called '{new}' now"),
            Self::NotRestored { what, refusal } => write!(f, "{what} is not restored: {refusal}"),
            Self::Restored { what } => write!(f, "{what} is restored"),
            Self::ChannelError { channel, refusal } => write!(f, "on channel {channel}: {refusal}"),
            Self::Blocked(blocked) => write!(f, "the server takes no messages for now: {}", blocked.reason),
            Self::Unblocked => f.write_str("the server takes messages again"),
            Self::Closed(reason) => write!(f, "closed: {reason}"),
            Self::Missed(count) => write!(f, "{count} events were missed"),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("options", &self.core.options).finish_non_exhaustive()
    }
}
