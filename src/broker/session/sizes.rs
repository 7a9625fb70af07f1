//! How large messages may be.

use super::target::Publication;
use crate::model::{Entity, Refusal, ReplyCode};

/// Bytes that surround a body in its message at most: properties, headers, a routing key. With this a message fits
/// into every frame that carries it out, since a client takes frames of the largest body and 64 KiB.
const BYTES_AROUND_BODY_MAX: usize = 60 * 1024;

/// How large messages may be, in bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct SizesMax {
    pub(super) body: usize,
    /// All but the body.
    around: usize,
}

impl SizesMax {
    /// No bound: it was kept to when they were published.
    pub(in crate::broker) const NONE: Self = Self { body: usize::MAX, around: usize::MAX };

    /// Those of a publisher, whose bodies may be so large.
    pub(super) fn of_publisher(body: usize) -> Self {
        Self { body, around: BYTES_AROUND_BODY_MAX }
    }
}

/// Refuses a message that is too large.
pub(super) fn check_size(
    publication: &impl Publication,
    index: usize,
    sizes_max: SizesMax,
) -> Result<(), Refusal> {
    let SizesMax { body: message_bytes_max, around: around_bytes_max } = sizes_max;
    let body = publication.body_bytes(index);
    let around = publication.run().item(index).len() - body;
    let refusal = |text: String| Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Message, "");
    if body > message_bytes_max {
        let text = format!("message size {body} is larger than configured max size {message_bytes_max}");
        return Err(refusal(text)
            .field("body", format!("{message_bytes_max} bytes at most"), body.to_string())
            .hint("send it in parts, or raise message_bytes_max in the broker's configuration"));
    }
    if around > around_bytes_max {
        return Err(refusal("the message's properties are too large".to_owned())
            .field("properties", format!("{around_bytes_max} bytes at most"), around.to_string())
            .hint("carry what is large in the body"));
    }
    Ok(())
}
