//! The client library: connections, publishers with confirms, consumers with acknowledgements.
//!
//! Owns everything a program needs to talk to a broker over the native protocol, including coming back after the
//! connection broke. Must never know how a broker works inside; it speaks `proto/` and nothing else.
//! Start reading at [`Connection`], then [`Channel`], [`Publisher`] and [`Consumer`]; `docs/CLIENT.md` is a tour.

mod access;
mod admin;
mod alteration;
mod backoff;
mod browse;
mod channel;
mod connection;
mod consumer;
mod convert;
mod core;
mod dispatch;
mod driver;
mod error;
mod handshake;
mod journey;
mod mend;
mod message;
mod options;
mod publisher;
mod recorded;
mod replay;
mod request;
mod requester;
mod restore;
mod retention;
mod retry;
mod schema;
mod session;
mod state;
mod subscription;
#[cfg(test)]
mod tests;
mod topology;
mod write_queue;

pub use crate::model::{
    DeliveryTag, Difference, Durability, Entity, FieldTable, FieldValue, NameTooLong, Overflow, Refusal,
    ReplyCode, RetryOn, Timestamp,
};
pub use access::DeletePolicy;
pub use admin::{
    ConnectionEntry, ConsumerEntry, ExchangeEntry, ExplainedBinding, ExplainedExchange, Explanation, NewUser,
    OutlookKind, Permissions, Policy, Published, QueueEntry, QueueOutlook, SchemaEntry, TopicPermissions,
    UserEntry, UserLimits, UserLimitsChange, VhostEntry, VhostLimits, VhostLimitsChange,
};
pub use alteration::{Alteration, Altered, FixedAtDeclaration, QueueAlteration, QueueAltered, WaitingMisfit};
pub use browse::{Browse, BrowsedMessage, BrowsedPage, Browser};
pub use channel::{Channel, DeleteExchange, DeleteQueue, Get};
pub use connection::{Blocked, Connection, Event, Events, ServerOffer, Shortage, Status};
pub use consumer::{Batch, Consumer, ConsumerBuilder, Delivery, DeliveryView, Got};
pub use error::{
    CloseReason, ConfirmError, ConnectError, ConsumeError, PublishError, RequestError, Returned, SettleError,
};
pub use journey::{
    Journey, JourneyEvent, JourneyNumber, JourneyRule, JourneyScope, JourneyStep, Journeys, Party, Receipt,
    ReceiptState, Taker,
};
pub use message::{Message, Properties};
pub use options::{Backoff, ConnectOptions, PORT, UrlError};
pub use publisher::{
    BatchOutcome, Confirmed, MessageBatch, PendingBatch, PendingConfirm, PreparedProperties, Progress,
    Publisher, PublisherBuilder,
};
pub use replay::{Replay, Replayer};
pub use requester::{AskError, Requester};
pub use retention::Retention;
pub use retry::Retry;
pub use schema::MessageSchema;
pub use subscription::{
    Sharing, Subscribed, Subscriber, Subscription, SubscriptionBinding, SubscriptionEntry, SubscriptionFilter,
};
pub use topology::{Binding, Destination, Exchange, ExchangeKind, Queue, QueueDeclared};

/// The code in the tour, compiled with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../docs/CLIENT.md")]
struct Tour;

/// The same of docs/BROWSE.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/BROWSE.md")]
struct Browsing;

/// The same of docs/REPLY_TO.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/REPLY_TO.md")]
struct Replies;
