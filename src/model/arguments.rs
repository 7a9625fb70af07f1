//! Arguments of queues and exchanges that mean something, here or in RabbitMQ.

/// What this broker does with an argument that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentUse {
    /// It does what it says.
    Heeded,
    /// It is kept, and there is nothing to do for it here.
    Kept,
    /// Not yet: a queue that is declared with it is refused, since programs would rely on what does not happen.
    ToCome,
}

/// Argument of an exchange: patterns of the routing keys that may be published to it, a list of texts.
pub const ALLOWED_KEYS: &str = "x-allowed-keys";

/// Argument of an exchange: schemas of the messages that may be published to it, by pattern of their keys; a list of tables.
pub const SCHEMAS: &str = "x-schemas";

/// Argument of an exchange: the queue that is given what its list and its schemas refuse, a text.
pub const QUARANTINE_QUEUE: &str = "x-quarantine-queue";

/// Argument of an exchange of type `x-consistent-hash`: the header whose hash chooses, a text.
pub const HASH_HEADER: &str = "hash-header";

/// Argument of an exchange of type `x-consistent-hash`: the property whose hash chooses, a text: "message_id",
/// "correlation_id" or "timestamp".
pub const HASH_PROPERTY: &str = "hash-property";

/// Argument of an exchange of type `x-recent-history`: so many messages it keeps for what is bound later, the newest.
pub const RECENT_HISTORY_LENGTH: &str = "x-recent-history-length";

/// Header of a message: one that is true keeps the message out of the histories of exchanges.
pub const RECENT_HISTORY_NO_STORE: &str = "x-recent-history-no-store";

/// Argument of a queue: for so many milliseconds after they came it retains messages that consumers are done with.
pub const RETAIN_MILLIS: &str = "x-retain-ms";

/// Argument of a queue: it retains so many messages that consumers are done with, the newest.
pub const RETAIN_MESSAGES: &str = "x-retain-messages";

/// Argument of a queue: it retains so many bytes of messages that consumers are done with, the newest.
pub const RETAIN_BYTES: &str = "x-retain-bytes";

/// Argument of a queue: messages that waited in it for so many milliseconds are not delivered any more.
pub const MESSAGE_TTL: &str = "x-message-ttl";

/// Argument of a queue: so many messages wait in it at most.
pub const MAX_LENGTH: &str = "x-max-length";

/// Argument of a queue: so many bytes of messages wait in it at most.
pub const MAX_LENGTH_BYTES: &str = "x-max-length-bytes";

/// Argument of a queue: what is done with messages for which there is no room, a text.
pub const OVERFLOW: &str = "x-overflow";

/// Argument of a queue: messages that came back more often leave.
pub const DELIVERY_LIMIT: &str = "x-delivery-limit";

/// Argument of a queue: for which returns messages are held back before they go out once more, a text.
pub const DELAYED_RETRY_TYPE: &str = "x-delayed-retry-type";

/// Argument of a queue: for so many milliseconds a message is held back that came back once.
pub const DELAYED_RETRY_MIN: &str = "x-delayed-retry-min";

/// Argument of a queue: for so many milliseconds a message is held back at most, however often it came back.
pub const DELAYED_RETRY_MAX: &str = "x-delayed-retry-max";

/// Argument of a queue: how many times as long a message is held back as the time before.
pub const DELAYED_RETRY_MULTIPLIER: &str = "x-delayed-retry-multiplier";

/// Argument of a queue: by so many percent a message is held back for a shorter time, by chance.
pub const DELAYED_RETRY_JITTER: &str = "x-delayed-retry-jitter";

/// Argument of a queue: without a consumer for so many milliseconds it goes.
pub const EXPIRES: &str = "x-expires";

/// Argument of a queue: the exchange that is given what is rejected, expires or has no room, a text.
pub const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

/// Argument of a queue: the routing key of its dead letters, if they are not to keep their own; a text.
pub const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";

/// Argument of a queue: whether one of its consumers is served, while the others wait for it to go.
pub const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";

/// Argument of a queue: messages of a higher priority go out first, up to this one.
pub const MAX_PRIORITY: &str = "x-max-priority";

/// Argument of a queue: who has a message of it for so many milliseconds without settling it, or asking for more time, loses it.
pub const CONSUMER_TIMEOUT: &str = "x-consumer-timeout";

/// Names of the fields of an entry of [`SCHEMAS`].
pub mod schema_fields {
    /// Which keys it is for: a pattern, a text.
    pub const PATTERN: &str = "pattern";
    /// Its language: "json" or "protobuf".
    pub const KIND: &str = "kind";
    /// The schema itself, a text or bytes.
    pub const SCHEMA: &str = "schema";
    /// Of a descriptor of protobuf: the full name of the message, a text.
    pub const MESSAGE: &str = "message";
}

/// All of them, by name. Arguments that are not here are applications' own.
pub const ARGUMENTS: [(&str, ArgumentUse); 35] = {
    use ArgumentUse::{Heeded, Kept, ToCome};
    [
        ("alternate-exchange", Heeded),
        (HASH_HEADER, Heeded),
        (HASH_PROPERTY, Heeded),
        (ALLOWED_KEYS, Heeded),
        (CONSUMER_TIMEOUT, Heeded),
        (DEAD_LETTER_EXCHANGE, Heeded),
        (DEAD_LETTER_ROUTING_KEY, Heeded),
        ("x-dead-letter-strategy", ToCome),
        (DELAYED_RETRY_JITTER, Heeded),
        (DELAYED_RETRY_MAX, Heeded),
        (DELAYED_RETRY_MIN, Heeded),
        (DELAYED_RETRY_MULTIPLIER, Heeded),
        (DELAYED_RETRY_TYPE, Heeded),
        (DELIVERY_LIMIT, Heeded),
        (EXPIRES, Heeded),
        ("x-initial-cluster-size", ToCome),
        ("x-max-age", ToCome),
        (MAX_LENGTH, Heeded),
        (MAX_LENGTH_BYTES, Heeded),
        (MAX_PRIORITY, Heeded),
        (MESSAGE_TTL, Heeded),
        (OVERFLOW, Heeded),
        (QUARANTINE_QUEUE, Heeded),
        ("x-queue-leader-locator", Kept),
        ("x-queue-mode", Kept),
        ("x-queue-type", Heeded),
        ("x-quorum-initial-group-size", ToCome),
        (RECENT_HISTORY_LENGTH, Heeded),
        (RETAIN_BYTES, Heeded),
        (RETAIN_MESSAGES, Heeded),
        (RETAIN_MILLIS, Heeded),
        (SCHEMAS, Heeded),
        (SINGLE_ACTIVE_CONSUMER, Heeded),
        ("x-stream-filter-size-bytes", ToCome),
        ("x-stream-max-segment-size-bytes", ToCome),
    ]
};
