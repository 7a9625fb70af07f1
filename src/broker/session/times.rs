//! When messages may expire, and until when they may be delayed, that say so themselves.

use super::target::Publication;
use crate::message::{Delay, Expiration};
use crate::model::{Entity, MILLIS_MAX, Refusal, ReplyCode};

/// The last millisecond of the year 9999: what is later was not meant as milliseconds.
const DELIVER_AT_MILLIS_MAX: u64 = 253_402_300_799_999;

/// Whether a time of some message is later than any may be.
pub(super) fn are_out_of_range(publication: &impl Publication) -> bool {
    publication.expirations().iter().any(expires_too_late)
        || publication.delays().iter().any(|delay| check_delay(delay).is_err())
}

pub(super) fn check_times(publication: &impl Publication, index: usize) -> Result<(), Refusal> {
    let (expirations, delays) = (publication.expirations(), publication.delays());
    let expiration = expirations.binary_search_by_key(&index, |expiration| expiration.index as usize);
    if let Some(expiration) =
        expiration.ok().and_then(|at| expirations.get(at)).filter(|it| expires_too_late(it))
    {
        return check_expiration(expiration);
    }
    let delay = delays.binary_search_by_key(&index, |delay| delay.index as usize);
    delay.ok().and_then(|at| delays.get(at)).map_or(Ok(()), check_delay)
}

/// Whether a message may expire then.
pub(in crate::broker) fn check_expiration(expiration: &Expiration) -> Result<(), Refusal> {
    if !expires_too_late(expiration) {
        return Ok(());
    }
    let after_millis = expiration.after_millis;
    Err(refused(format!("invalid expiration: {after_millis} ms are more than ten years"))
        .field("expiration_ms", format!("0 to {MILLIS_MAX}"), after_millis.to_string())
        .hint("a message without an expiration stays until it is consumed"))
}

fn expires_too_late(expiration: &Expiration) -> bool {
    expiration.after_millis > MILLIS_MAX
}

/// Whether a message may be delayed until then.
pub(in crate::broker) fn check_delay(delay: &Delay) -> Result<(), Refusal> {
    match *delay {
        Delay { after_millis: Some(after), at_millis: Some(at), .. } => {
            let text = "invalid delay: it is told twice, as a time to wait and as a time to deliver at";
            Err(refused(text.to_owned())
                .field("deliver_at_ms", "none beside delay_ms".to_owned(), at.to_string())
                .hint(format!("leave one of them out: delay_ms is {after}")))
        }
        Delay { after_millis: Some(after), .. } if after > MILLIS_MAX => {
            Err(refused(format!("invalid delay: {after} ms are more than ten years"))
                .field("delay_ms", format!("0 to {MILLIS_MAX}"), after.to_string())
                .hint("a message without a delay is delivered as soon as a consumer takes it"))
        }
        Delay { at_millis: Some(at), .. } if at > DELIVER_AT_MILLIS_MAX => {
            Err(refused(format!("invalid time to deliver at: {at} is after the year 9999"))
                .field("deliver_at_ms", format!("0 to {DELIVER_AT_MILLIS_MAX}"), at.to_string())
                .hint("the time is in milliseconds since 1970, not in microseconds"))
        }
        Delay { .. } => Ok(()),
    }
}

fn refused(text: String) -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Message, "")
}
