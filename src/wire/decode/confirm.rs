//! Confirm: what became of published messages.

use std::ops::Range;

use prost::Message as _;

use crate::message::{LENGTH, Reader, VARINT, key};
use crate::wire::error::WireError;
use crate::wire::pb;

pub(super) fn decode_confirm(frame: &[u8], range: Range<usize>) -> Result<pb::Confirm, WireError> {
    const PUBLISHER: u32 = key(1, VARINT);
    const RANGES: u32 = key(2, LENGTH);

    let mut confirm = pb::Confirm::default();
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            PUBLISHER => confirm.publisher = reader.varint()? as u32,
            RANGES => confirm.ranges.push(decode_confirm_range(frame, reader.range()?)?),
            key if matches!(key >> 3, 1 | 2) => {
                return Err(reader.broken("a Confirm with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(confirm)
}

#[inline]
fn decode_confirm_range(frame: &[u8], range: Range<usize>) -> Result<pb::ConfirmRange, WireError> {
    const FIRST: u32 = key(1, VARINT);
    const LAST: u32 = key(2, VARINT);
    const LEVEL: u32 = key(3, VARINT);
    const QUEUES: u32 = key(4, VARINT);
    const REFUSAL: u32 = key(5, LENGTH);
    const FIRST_JOURNEY: u32 = key(6, VARINT);

    let mut confirmed = pb::ConfirmRange::default();
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            FIRST => confirmed.first = reader.varint()?,
            LAST => confirmed.last = reader.varint()?,
            LEVEL => confirmed.level = reader.varint()? as i32,
            QUEUES => confirmed.queues = reader.varint()? as u32,
            REFUSAL => {
                let offset = reader.position();
                let refusal = &frame[reader.range()?];
                confirmed
                    .refusal
                    .get_or_insert_default()
                    .merge(refusal)
                    .map_err(|_| WireError::Malformed { what: "a refusal", offset })?;
            }
            FIRST_JOURNEY => confirmed.first_journey = reader.varint()?,
            key if matches!(key >> 3, 1..=6) => {
                return Err(reader.broken("a ConfirmRange with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(confirmed)
}
