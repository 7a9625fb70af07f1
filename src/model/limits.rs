//! Bounds that both ends of a connection and all layers agree on. Configuration may lower most of them.

/// Longest name of an exchange, queue, vhost, user, and longest routing key, in bytes (AMQP 0-9-1 short string).
pub const NAME_BYTES_MAX: usize = 255;

/// Largest message body in bytes, unless configured (RabbitMQ 4 has the same default).
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Largest frame in bytes after its length prefix: the largest message and 64 KiB for what surrounds it.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 64 * 1024;

/// Largest frame before a client has proved who it is, in bytes after the length prefix.
pub const FRAME_BYTES_MAX_BEFORE_LOGIN: usize = 8 * 1024;

/// Milliseconds from accept to a complete `Connect` (RabbitMQ's handshake_timeout).
pub const HANDSHAKE_MS: u64 = 10_000;

/// Heartbeat that the server offers, in seconds (RabbitMQ's default).
pub const HEARTBEAT_SECONDS: u32 = 60;

/// Highest channel number (RabbitMQ's channel_max).
pub const CHANNEL_MAX: u32 = 2047;

/// Bytes that surround a message's body in a frame at most: names, properties, lengths.
const FRAME_BYTES_AROUND: u64 = 64 * 1024;

/// Milliseconds for which whoever has a message may keep it without settling it, unless configured (RabbitMQ's consumer_timeout).
pub const CONSUMER_TIMEOUT_MS: u64 = 1_800_000;

/// The shortest such time, in milliseconds: it is looked a few times a second whose is over.
pub const CONSUMER_TIMEOUT_MS_MIN: u64 = 1_000;

/// What a frame has room for in any case, in bytes, however small the messages are: many of them, pages of lists,
/// explanations.
const FRAME_CONTENT_BYTES_MIN: u64 = 1024 * 1024;

/// The least that the largest frame of a connection must be, in bytes, for message bodies of so many bytes.
pub fn frame_bytes_needed(body_bytes_max: u64) -> u64 {
    body_bytes_max.max(FRAME_CONTENT_BYTES_MIN).saturating_add(FRAME_BYTES_AROUND)
}

/// Longest time that a queue or a message can ask for, in milliseconds: ten years, as in RabbitMQ.
pub const MILLIS_MAX: u64 = 315_360_000_000;
