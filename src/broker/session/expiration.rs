//! How late messages may expire that say so themselves.

use super::super::limits::MILLIS_MAX;
use super::target::Publication;
use crate::message::Expiration;
use crate::model::{Entity, Refusal, ReplyCode};

/// Whether it is later than any message may expire.
pub(super) fn expires_too_late(expiration: &Expiration) -> bool {
    expiration.after_millis > MILLIS_MAX as u64
}

pub(super) fn check_expiration(publication: &impl Publication, index: usize) -> Result<(), Refusal> {
    let expirations = publication.expirations();
    let found = expirations.binary_search_by_key(&index, |expiration| expiration.index as usize);
    match found.ok().and_then(|at| expirations.get(at)).filter(|expiration| expires_too_late(expiration)) {
        None => Ok(()),
        Some(Expiration { after_millis, .. }) => {
            let text = format!("invalid expiration: {after_millis} ms are more than ten years");
            Err(Refusal::new(ReplyCode::PreconditionFailed, text)
                .about(Entity::Message, "")
                .field("expiration_ms", format!("0 to {MILLIS_MAX}"), after_millis.to_string())
                .hint("a message without an expiration stays until it is consumed"))
        }
    }
}
