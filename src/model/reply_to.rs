//! Where replies go that wait in no queue.

/// What whoever asks consumes from, and publishes as `reply_to`: it stands for the address under which replies come to that channel.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// What each such address begins with; what follows cannot be guessed.
pub const REPLY_ADDRESS_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Whether a routing key may be the address of somebody who waits for replies.
pub fn is_reply_address(key: &str) -> bool {
    key.starts_with(REPLY_ADDRESS_PREFIX)
}
