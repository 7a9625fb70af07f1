//! Messages and the times at which something is to become of them, as log and checkpoint hold them.

use prost::encoding::encode_varint;

use super::fault::OperationFault;
use super::operation::number;
use crate::model::Timestamp;

/// A message and a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Moment {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
}

/// ```text
/// messages n; unless that is 0: the earliest time, n x (gap to the sequence after the one before, milliseconds after that time)
/// ```
pub(super) fn encode_moments(expires: &[Moment], out: &mut impl bytes::BufMut) {
    encode_varint(expires.len() as u64, out);
    let Some(earliest) = expires.iter().map(|expires| expires.at.0).min() else { return };
    encode_varint(earliest, out);
    let mut next = 0;
    for Moment { sequence, at } in expires {
        encode_varint(sequence - next, out);
        encode_varint(at.0 - earliest, out);
        next = sequence + 1;
    }
}

/// Reads what [`encode_moments`] wrote. Sequences rise.
pub(super) fn decode_moments(rest: &mut &[u8]) -> Result<Vec<Moment>, OperationFault> {
    let count = number(rest)?;
    let earliest = if count > 0 { number(rest)? } else { 0 };
    let mut expires = Vec::new();
    let mut next = 0u64;
    for _ in 0..count {
        let sequence = next.checked_add(number(rest)?);
        let after = sequence.and_then(|sequence| sequence.checked_add(1));
        let (sequence, after) = sequence.zip(after).ok_or(OperationFault::RunOutOfRange)?;
        let at = earliest.checked_add(number(rest)?).ok_or(OperationFault::TimeOutOfRange)?;
        expires.push(Moment { sequence, at: Timestamp(at) });
        next = after;
    }
    Ok(expires)
}
