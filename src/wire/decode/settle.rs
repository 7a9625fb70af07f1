//! Settle: what became of deliveries.

use std::ops::Range;

use crate::message::{LENGTH, Reader, VARINT, key};
use crate::wire::error::WireError;
use crate::wire::pb;

pub(super) fn decode_settle(frame: &[u8], range: Range<usize>) -> Result<pb::Settle, WireError> {
    const CONSUMER: u32 = key(1, VARINT);
    const RANGES: u32 = key(2, LENGTH);

    let mut settle = pb::Settle::default();
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            CONSUMER => settle.consumer = reader.varint()? as u32,
            RANGES => settle.ranges.push(decode_settle_range(frame, reader.range()?)?),
            key if matches!(key >> 3, 1 | 2) => {
                return Err(reader.broken("a Settle with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(settle)
}

#[inline]
fn decode_settle_range(frame: &[u8], range: Range<usize>) -> Result<pb::SettleRange, WireError> {
    const FIRST: u32 = key(1, VARINT);
    const LAST: u32 = key(2, VARINT);
    const OUTCOME: u32 = key(3, VARINT);
    const DELAY: u32 = key(4, VARINT);

    let mut settled = pb::SettleRange::default();
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            FIRST => settled.first = reader.varint()?,
            LAST => settled.last = reader.varint()?,
            OUTCOME => settled.outcome = reader.varint()? as i32,
            DELAY => settled.delay_ms = Some(reader.varint()?),
            key if matches!(key >> 3, 1..=4) => {
                return Err(reader.broken("a SettleRange with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(settled)
}
