//! Words that every layer shares: names, ids, field tables, refusals, limits.
//!
//! Owns plain values without behaviour beyond validation. Must never read a clock, do I/O or know a protocol.
//! Start reading at [`Refusal`], what everybody is told whose request was not carried out.

mod arguments;
mod durability;
mod fields;
mod further_keys;
mod ids;
mod journey_number;
mod limits;
mod line_end;
mod names;
#[cfg(feature = "broker")]
mod nearest;
mod os_words;
mod overflow;
#[cfg(feature = "broker")]
mod planted;
mod refusal;
mod reply_to;
mod retry_on;
mod sharing;
mod timestamp;

pub use arguments::{
    ALLOWED_KEYS, ARGUMENTS, ArgumentUse, CONSUMER_TIMEOUT, DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY,
    DELAYED_RETRY_JITTER, DELAYED_RETRY_MAX, DELAYED_RETRY_MIN, DELAYED_RETRY_MULTIPLIER, DELAYED_RETRY_TYPE,
    DELIVERY_LIMIT, EXPIRES, HASH_HEADER, HASH_PROPERTY, MAX_LENGTH, MAX_LENGTH_BYTES, MAX_PRIORITY,
    MESSAGE_TTL, OVERFLOW, QUARANTINE_QUEUE, RECENT_HISTORY_LENGTH, RECENT_HISTORY_NO_STORE, RETAIN_BYTES,
    RETAIN_MESSAGES, RETAIN_MILLIS, SCHEMAS, SINGLE_ACTIVE_CONSUMER, schema_fields,
};
pub use durability::Durability;
pub use fields::{FieldTable, FieldValue};
pub use further_keys::{BCC, CC, further_keys};
pub use ids::{BodySequence, CLIENT_ID_BYTES, ClientId, ConnectionId, DeliveryTag, QueueId, ShardId};
pub use journey_number::{JourneyNumber, NoJourneyNumber};
pub use limits::{
    CHANNEL_MAX, CONSUMER_TIMEOUT_MS, CONSUMER_TIMEOUT_MS_MIN, FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN,
    HANDSHAKE_MS, HEARTBEAT_SECONDS, MESSAGE_BYTES_MAX, MILLIS_MAX, NAME_BYTES_MAX, frame_bytes_needed,
};
pub(crate) use line_end::without_line_end;
pub use names::{
    ExchangeName, MemberName, NameTooLong, QueueName, RoutingKey, SubscriptionName, UserName, VhostName,
};
#[cfg(feature = "broker")]
pub(crate) use nearest::nearest;
pub(crate) use os_words::in_words;
pub use overflow::Overflow;
#[cfg(test)]
pub(crate) use planted::plant;
#[cfg(feature = "broker")]
pub(crate) use planted::{Bug, planted};
pub use refusal::{Difference, Entity, Refusal, ReplyCode};
pub use reply_to::{REPLY_ADDRESS_PREFIX, REPLY_TO, is_reply_address};
pub use retry_on::RetryOn;
pub use sharing::Sharing;
pub use timestamp::{Clock, Timestamp};
