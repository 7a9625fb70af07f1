//! Limits: what the server offers, what the client wants, what both will keep to.

use crate::model::{Entity, Refusal, ReplyCode, frame_bytes_needed};
use crate::wire::pb;

/// Limits of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame, in bytes after its length prefix.
    pub frame_bytes_max: u32,
    /// Highest channel number.
    pub channel_max: u32,
    /// Seconds between signs of life; 0: none.
    pub heartbeat_seconds: u32,
    /// Largest message body that is taken, in bytes.
    pub message_bytes_max: u64,
    /// Largest message body that may be delivered, in bytes: some may have been stored under a higher limit.
    pub stored_body_bytes_max: u64,
}

impl Limits {
    /// The same with room in a frame for each message that may be delivered.
    pub fn with_room(self) -> Self {
        Self { frame_bytes_max: self.frame_bytes_max.max(self.frame_bytes_needed()), ..self }
    }

    /// A frame for the largest message, and for whatever else the server says, in bytes.
    fn frame_bytes_needed(&self) -> u32 {
        let body = self.message_bytes_max.max(self.stored_body_bytes_max);
        u32::try_from(frame_bytes_needed(body)).unwrap_or(u32::MAX)
    }
}

/// What both sides can do.
///
/// Refuses with 530 a client that takes no frame large enough for the largest message: some message would never reach
/// it.
pub(super) fn agree(offered: &Limits, connect: &pb::Connect) -> Result<Limits, Refusal> {
    let needed = offered.frame_bytes_needed().min(offered.frame_bytes_max);
    if connect.frame_max != 0 && connect.frame_max < needed {
        let text = "the client takes no frame that holds the largest message of this broker";
        return Err(Refusal::new(ReplyCode::NotAllowed, text)
            .about(Entity::Connection, "")
            .field("frame_max", format!("0, or at least {needed}"), connect.frame_max.to_string())
            .hint("leave the client's frame_max at 0: it then takes what the broker offers"));
    }
    Ok(Limits {
        frame_bytes_max: smaller_wish(offered.frame_bytes_max, connect.frame_max),
        channel_max: smaller_wish(offered.channel_max, connect.channel_max),
        heartbeat_seconds: smaller_wish(offered.heartbeat_seconds, connect.heartbeat_seconds),
        message_bytes_max: offered.message_bytes_max,
        stored_body_bytes_max: offered.stored_body_bytes_max,
    })
}

/// 0 is no wish.
fn smaller_wish(offered: u32, wanted: u32) -> u32 {
    match (offered, wanted) {
        (0, wish) | (wish, 0) => wish,
        (offered, wanted) => offered.min(wanted),
    }
}
