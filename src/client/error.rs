//! What can go wrong, one small enum per operation.

use std::fmt;
use std::sync::Arc;

use crate::model::{NameTooLong, Refusal};

/// Why a connection ended. Cheap to clone: everything that was waiting on the connection gets a copy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CloseReason {
    /// This program closed it.
    ByClient,
    /// The server closed it, and why if it said so.
    ByServer(Option<Arc<Refusal>>),
    /// The socket failed or the other end went away.
    Io(Arc<str>),
    /// Nothing came from the server for two heartbeat intervals of this many seconds.
    HeartbeatMissed {
        /// Negotiated interval in seconds.
        heartbeat_seconds: u32,
    },
    /// The server sent bytes that are no frame, or a frame that makes no sense at this place.
    Protocol(Arc<str>),
    /// All attempts to connect again failed; the last one because of this.
    GaveUp {
        /// Attempts made.
        attempts: u32,
        /// What the last attempt said.
        last: Arc<str>,
    },
    /// The connection came back, but something it had declared could not be restored.
    RestoreRefused {
        /// What was asked for again, for instance "queue orders".
        what: Arc<str>,
        /// Why not.
        refusal: Arc<Refusal>,
    },
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClient => f.write_str("the program closed the connection"),
            Self::ByServer(None) => f.write_str("the server closed the connection"),
            Self::ByServer(Some(refusal)) => write!(f, "the server closed the connection: {refusal}"),
            Self::Io(text) => write!(f, "the connection broke: {text}"),
            Self::HeartbeatMissed { heartbeat_seconds } => {
                write!(f, "nothing came from the server for {} s (two heartbeats)", 2 * heartbeat_seconds)
            }
            Self::Protocol(text) => write!(f, "the server broke the protocol: {text}"),
            Self::GaveUp { attempts, last } => {
                write!(f, "gave up connecting again after {attempts} attempts, the last one said: {last}")
            }
            Self::RestoreRefused { what, refusal } => {
                write!(f, "connected again, but {what} could not be restored: {refusal}")
            }
        }
    }
}

impl std::error::Error for CloseReason {}

/// A connection could not be opened. Nothing is left behind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL makes no sense.
    Url(super::UrlError),
    /// No TCP connection to this address.
    Unreachable {
        /// `host:port` as it was asked for.
        address: String,
        /// What the operating system said.
        error: Arc<str>,
    },
    /// Connecting or logging in took longer than the options allow.
    TimedOut {
        /// `host:port` as it was asked for.
        address: String,
        /// The time allowed, in milliseconds.
        timeout_ms: u64,
    },
    /// The server answered the login with a refusal: wrong password, unknown vhost, ...
    Refused(Refusal),
    /// Whatever listens there does not speak Leveret's protocol, or broke it.
    Protocol {
        /// `host:port` as it was asked for.
        address: String,
        /// What was wrong.
        error: Arc<str>,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(error) => error.fmt(f),
            Self::Unreachable { address, error } => {
                write!(
                    f,
                    "cannot connect to {address}: {error} (is the broker running? `leveret serve` starts one)"
                )
            }
            Self::TimedOut { address, timeout_ms } => {
                write!(f, "{address} did not answer within {timeout_ms} ms")
            }
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Protocol { address, error } => {
                write!(f, "what listens on {address} does not speak Leveret's protocol: {error}")
            }
        }
    }
}

impl ConnectError {
    /// Whether another attempt may end better with the same options.
    pub(super) fn is_worth_retrying(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused(refusal) => refusal.retryable,
            Self::Url(_) | Self::Protocol { .. } => false,
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<super::UrlError> for ConnectError {
    fn from(error: super::UrlError) -> Self {
        Self::Url(error)
    }
}

/// A request was not answered as hoped. The channel stays open.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RequestError {
    /// The server said no; nothing changed.
    Refused(Refusal),
    /// The connection broke before the answer came: whether the request was carried out is unknown. The connection
    /// is being made again; asking again is fine.
    Disconnected(CloseReason),
    /// The connection or channel is closed for good; the request was not sent.
    Closed(CloseReason),
    /// The request cannot be put into a frame; it was not sent.
    Invalid(String),
    /// The server answered with something else than this kind of request has as an answer.
    UnexpectedAnswer {
        /// Name of the frame that came.
        got: &'static str,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Disconnected(reason) => {
                write!(f, "{reason}; whether the request was carried out is unknown, ask again")
            }
            Self::Closed(reason) => reason.fmt(f),
            Self::Invalid(text) => f.write_str(text),
            Self::UnexpectedAnswer { got } => write!(f, "the server answered the request with {got}"),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<NameTooLong> for RequestError {
    fn from(error: NameTooLong) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// A message was not taken for sending.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PublishError {
    /// The connection, channel or publisher is closed for good.
    Closed(CloseReason),
    /// The message is larger than the server takes.
    TooLarge {
        /// Encoded size, or size of the body, in bytes.
        bytes: u64,
        /// The most that the server takes.
        bytes_max: u64,
    },
    /// The routing key is longer than 255 bytes.
    RoutingKey(NameTooLong),
    /// A property holds what it must not.
    Property {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The publisher was opened without confirms, so there is none to wait for. Use `send`.
    ConfirmsOff,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => reason.fmt(f),
            Self::TooLarge { bytes, bytes_max } => {
                write!(
                    f,
                    "a message of {bytes} bytes is larger than the {bytes_max} bytes that the server takes"
                )
            }
            Self::RoutingKey(error) => write!(f, "routing key: {error}"),
            Self::Property { field, problem } => write!(f, "property {field}: {problem}"),
            Self::ConfirmsOff => f.write_str("this publisher was opened without confirms; use `send`"),
        }
    }
}

impl std::error::Error for PublishError {}

/// A message was sent, and not confirmed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConfirmError {
    /// The broker refused it. It is in no queue; but if a queue was [full](super::Queue::overflow), it is in the others that it was for.
    Refused(Arc<Refusal>),
    /// It reached no queue; here it is. Publishers that are [not mandatory](super::PublisherBuilder::not_mandatory) never get this.
    Returned(Arc<Returned>),
    /// The connection ended for good before the confirm: the message may be in its queues or not.
    Closed(CloseReason),
}

impl fmt::Display for ConfirmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Returned(returned) => write!(
                f,
                "returned: exchange '{}' led to no queue with routing key '{}'",
                returned.exchange, returned.routing_key
            ),
            Self::Closed(reason) => write!(f, "{reason}; the message may have arrived or not"),
        }
    }
}

impl std::error::Error for ConfirmError {}

/// A mandatory message that reached no queue.
#[derive(Debug, Clone)]
pub struct Returned {
    /// Exchange it was published to.
    pub exchange: String,
    /// Routing key it was published with.
    pub routing_key: String,
    /// Why it came back.
    pub reason: Refusal,
    /// The message itself.
    pub message: super::Message,
}

/// A consumer ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The server ended it, for instance because its queue was deleted.
    Cancelled {
        /// Why, in a sentence.
        reason: String,
    },
    /// The server ended it since it kept a delivery for longer than its lease, neither settled nor
    /// [extended](super::Delivery::extend): that is back in its queue. What else it has can still be settled.
    Lapsed(Refusal),
    /// The connection ended for good.
    Closed(CloseReason),
    /// After the connection came back the consumer could not be started again.
    NotRestored(RequestError),
    /// The server sent a delivery that cannot be read.
    Malformed(Arc<str>),
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled { reason } => write!(f, "the server ended the consumer: {reason}"),
            Self::Lapsed(refusal) => write!(f, "the server ended the consumer: {refusal}"),
            Self::Closed(reason) => reason.fmt(f),
            Self::NotRestored(error) => write!(f, "the consumer could not be started again: {error}"),
            Self::Malformed(text) => write!(f, "the server sent a delivery that cannot be read: {text}"),
        }
    }
}

impl std::error::Error for ConsumeError {}

/// A delivery could not be settled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SettleError {
    /// It came over a connection that has broken since: the broker has put it back into its queue already.
    Stale,
    /// Its consumer takes deliveries without acknowledging them: there is nothing to settle.
    NoAck,
    /// The connection or channel is closed for good: the broker has put it back into its queue.
    Closed(CloseReason),
    /// The server refused.
    Refused(Refusal),
    /// The connection broke before the answer came: the delivery is settled or back in its queue.
    Unknown(CloseReason),
    /// The server answered with something that is no answer to this.
    Unanswered(String),
}

impl fmt::Display for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => f.write_str(
                "the delivery came over a connection that broke; it is back in its queue and will be delivered again",
            ),
            Self::NoAck => f.write_str("this consumer takes deliveries without acknowledging them"),
            Self::Closed(reason) => write!(f, "{reason}; the delivery is back in its queue"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unknown(reason) => write!(f, "{reason}; the delivery is settled, or back in its queue"),
            Self::Unanswered(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for SettleError {}
