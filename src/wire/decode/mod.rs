//! Bytes to frames.
//!
//! The four hot kinds are read by hand, everything else by generated code. Reading by hand obeys protobuf's rules all
//! the same: fields in any order, unknown ones skipped, repeated ones merged.

mod confirm;
mod deliver;
mod publish;
mod settle;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use self::confirm::decode_confirm;
use self::deliver::decode_deliver;
use self::publish::decode_publish;
use self::settle::decode_settle;
use super::error::WireError;
use super::frame::{Body, WireFrame};
use super::kinds::{self, Kind, Side};
use super::pb;
use crate::message::{Broken, LENGTH, Reader, VARINT, key};

/// Largest frame that a client may send if it carries no messages, in bytes. Generated code turns two bytes of an
/// empty submessage into dozens in memory; this bounds the product.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Decodes a frame that came from either side: the bytes after the length prefix. Messages are not copied.
pub fn decode_frame(frame: Bytes) -> Result<WireFrame, WireError> {
    let head = read_head(&frame)?;
    decode_body(frame, head)
}

/// Decodes a frame like [`decode_frame`], but without looking into one that `sender` must not send, or that is larger
/// than a frame of its kind may be.
pub fn decode_frame_from(sender: Side, frame: Bytes) -> Result<WireFrame, WireError> {
    let head = read_head(&frame)?;
    if !head.kind.may_come_from(sender) {
        return Err(WireError::WrongSide {
            kind: head.kind.name,
            channel: head.channel,
            request: head.request,
        });
    }
    if sender == Side::Client && head.number != kinds::PUBLISH && frame.len() > CONTROL_FRAME_BYTES_MAX {
        return Err(WireError::TooLong { length: frame.len(), max: CONTROL_FRAME_BYTES_MAX });
    }
    decode_body(frame, head)
}

/// What surrounds a frame's body.
struct Head {
    channel: u32,
    request: u64,
    number: u32,
    kind: Kind,
    body: Range<usize>,
    /// The body came in several pieces, of which `body` is the last.
    is_split: bool,
}

fn read_head(frame: &[u8]) -> Result<Head, WireError> {
    const CHANNEL: u32 = key(1, VARINT);
    const REQUEST: u32 = key(2, VARINT);

    // A length prefix cannot say more, and runs count on it.
    if frame.len() > u32::MAX as usize {
        return Err(WireError::TooLong { length: frame.len(), max: u32::MAX as usize });
    }
    let (mut channel, mut request) = (0, 0);
    let mut body: Option<(u32, Kind, Range<usize>, bool)> = None;
    let mut unknown = None;
    let mut reader = Reader::new(frame);
    while !reader.is_done() {
        let key = reader.key()?;
        match key {
            CHANNEL => channel = reader.varint()? as u32,
            REQUEST => request = reader.varint()?,
            _ => match kinds::kind(key >> 3) {
                Some(kind) if key & 7 == LENGTH => {
                    let number = key >> 3;
                    let is_split = matches!(body, Some((earlier, ..)) if earlier == number);
                    body = Some((number, kind, reader.range()?, is_split));
                }
                Some(_) => return Err(reader.broken("a frame's body that is no message").into()),
                None if key >> 3 <= 2 => {
                    return Err(reader.broken("a frame's head with a wrong wire type").into());
                }
                None => {
                    reader.skip(key)?;
                    unknown = Some(key >> 3);
                }
            },
        }
    }
    match (body, unknown) {
        (Some((number, kind, body, is_split)), _) => {
            Ok(Head { channel, request, number, kind, body, is_split })
        }
        (None, Some(field)) => Err(WireError::UnknownFrame { field, channel, request }),
        (None, None) => Err(WireError::Empty),
    }
}

fn decode_body(frame: Bytes, head: Head) -> Result<WireFrame, WireError> {
    let Head { channel, request, number, kind, .. } = head;
    let is_by_hand = matches!(number, kinds::PUBLISH | kinds::CONFIRM | kinds::DELIVER | kinds::SETTLE);
    if !is_by_hand {
        return decode_generated(frame, kind);
    }
    let (frame, range) = if head.is_split { join_body(&frame, number)? } else { (frame, head.body) };
    let body = match number {
        kinds::PUBLISH => Body::Publish(decode_publish(frame, range, channel)?),
        kinds::CONFIRM => Body::Confirm(decode_confirm(&frame, range)?),
        kinds::DELIVER => Body::Deliver(decode_deliver(&frame, range)?),
        _ => Body::Settle(decode_settle(&frame, range)?),
    };
    Ok(WireFrame { channel, request, body })
}

fn decode_generated(frame: Bytes, kind: Kind) -> Result<WireFrame, WireError> {
    let malformed = WireError::Malformed { what: kind.name, offset: 0 };
    let frame = pb::Frame::decode(frame).map_err(|_| malformed.clone())?;
    let body = frame.body.ok_or(malformed)?;
    Ok(WireFrame { channel: frame.channel, request: frame.request, body: Body::Other(Box::new(body)) })
}

/// A body in several pieces means the same as the pieces joined, beginning with the last one that does not follow
/// another kind's.
fn join_body(frame: &[u8], number: u32) -> Result<(Bytes, Range<usize>), WireError> {
    let mut joined = BytesMut::new();
    let mut reader = Reader::new(frame);
    while !reader.is_done() {
        let key = reader.key()?;
        if key >> 3 == number {
            let piece = reader.range()?;
            check_fields(frame, piece.clone())?;
            joined.extend_from_slice(&frame[piece]);
        } else {
            reader.skip(key)?;
            if kinds::kind(key >> 3).is_some() {
                joined.clear();
            }
        }
    }
    let end = joined.len();
    Ok((joined.freeze(), 0..end))
}

/// Checks that a message consists of whole fields.
fn check_fields(frame: &[u8], range: Range<usize>) -> Result<(), Broken> {
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        let key = reader.key()?;
        reader.skip(key)?;
    }
    Ok(())
}

/// Calls `take` with where the contents of each field `items` lie.
fn each_item(frame: &[u8], range: Range<usize>, mut take: impl FnMut(Range<usize>)) -> Result<(), Broken> {
    const ITEMS: u32 = key(5, LENGTH);

    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            ITEMS => take(reader.range()?),
            key => reader.skip(key)?,
        }
    }
    Ok(())
}
