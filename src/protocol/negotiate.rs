//! Limits: what the server offers, what the client wants, what both will keep to.

use crate::model::{Entity, Refusal, ReplyCode};
use crate::wire::pb;

/// Bytes that surround a message's body in a frame at most: names, properties, lengths.
const FRAME_BYTES_AROUND_MESSAGE: u32 = 64 * 1024;

/// Limits of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame, in bytes after its length prefix.
    pub frame_bytes_max: u32,
    /// Highest channel number.
    pub channel_max: u32,
    /// Seconds between signs of life; 0: none.
    pub heartbeat_seconds: u32,
    /// Largest message body, in bytes.
    pub message_bytes_max: u64,
}

/// What both sides can do.
///
/// Refuses with 530 a client that takes no frame large enough for the largest message: some message would never reach
/// it.
pub(super) fn agree(offered: &Limits, connect: &pb::Connect) -> Result<Limits, Refusal> {
    let needed = offered.message_bytes_max.saturating_add(FRAME_BYTES_AROUND_MESSAGE.into());
    let needed = u32::try_from(needed).unwrap_or(u32::MAX).min(offered.frame_bytes_max);
    if connect.frame_max != 0 && connect.frame_max < needed {
        let text = "the client takes no frame that holds the largest message of this broker";
        return Err(Refusal::new(ReplyCode::NotAllowed, text)
            .about(Entity::Connection, "")
            .field("frame_max", format!("0, or at least {needed}"), connect.frame_max.to_string())
            .hint("raise the client's frame_max, or lower message_bytes_max in the broker's configuration"));
    }
    Ok(Limits {
        frame_bytes_max: smaller_wish(offered.frame_bytes_max, connect.frame_max),
        channel_max: smaller_wish(offered.channel_max, connect.channel_max),
        heartbeat_seconds: smaller_wish(offered.heartbeat_seconds, connect.heartbeat_seconds),
        message_bytes_max: offered.message_bytes_max,
    })
}

/// 0 is no wish.
fn smaller_wish(offered: u32, wanted: u32) -> u32 {
    match (offered, wanted) {
        (0, wish) | (wish, 0) => wish,
        (offered, wanted) => offered.min(wanted),
    }
}
