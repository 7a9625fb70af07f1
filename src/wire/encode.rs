//! Frames to bytes. Everything appends to a buffer of the caller.
//!
//! Hot kinds are written by hand, byte for byte as generated code would: fields in order of their numbers, defaults
//! left out. Messages come last in their frames, so a frame is a head from here and then runs of messages as they are.

use bytes::{BufMut, BytesMut};
use prost::Message as _;

use super::kinds;
use super::pb;
use crate::message::ItemFault;
use crate::message::regular_parts;
use crate::message::{LENGTH, key};
use crate::message::{
    bytes_field_len, number_field_len, put_bytes_field, put_number_field, put_varint, varint_len,
};
use crate::model::NAME_BYTES_MAX;

/// Bytes of the length before each frame.
pub const LENGTH_PREFIX_BYTES: usize = 4;

/// Most bytes of a `Deliver` frame before its first message, length prefix not counted, given names of at most 255
/// bytes. A run that fits into `frame_max - DELIVER_HEAD_BYTES_MAX` fits into the frame.
pub const DELIVER_HEAD_BYTES_MAX: usize =
    FRAME_FIELDS_BYTES_MAX + U32_FIELD_BYTES_MAX + U64_FIELD_BYTES_MAX + 2 * NAME_FIELD_BYTES_MAX;

/// Most bytes of a `Publish` frame before its first message, length prefix not counted, given names of at most 255
/// bytes.
pub const PUBLISH_HEAD_BYTES_MAX: usize =
    FRAME_FIELDS_BYTES_MAX + U32_FIELD_BYTES_MAX + U64_FIELD_BYTES_MAX + 3 + 2 * NAME_FIELD_BYTES_MAX + 4;

/// Most bytes that wrapping a stored item as redelivered adds to it.
pub const REDELIVERED_BYTES_MAX: usize = 2 + U32_FIELD_BYTES_MAX + 4;

/// Channel, and key and length of the body.
const FRAME_FIELDS_BYTES_MAX: usize = U32_FIELD_BYTES_MAX + 1 + 5;
const U32_FIELD_BYTES_MAX: usize = 1 + 5;
const U64_FIELD_BYTES_MAX: usize = 1 + 10;
const NAME_FIELD_BYTES_MAX: usize = 1 + 2 + NAME_BYTES_MAX;

// Keys of fields in the hot kinds; one byte each, since all numbers are below 16.
const CHANNEL: u8 = 0x08;
const REQUEST: u8 = 0x10;
const FIELD_1: u8 = 0x08;
const FIELD_1_LENGTH: u8 = 0x0a;
const FIELD_2: u8 = 0x10;
const FIELD_2_LENGTH: u8 = 0x12;
const FIELD_3: u8 = 0x18;
const FIELD_3_LENGTH: u8 = 0x1a;
const FIELD_4: u8 = 0x20;
const FIELD_4_LENGTH: u8 = 0x22;
const FIELD_5_LENGTH: u8 = 0x2a;
const FIELD_6: u8 = 0x30;
const FIELD_6_LENGTH: u8 = 0x32;

/// Appends a frame of any kind, length prefix included.
///
/// # Panics
/// Like all functions here, if the frame would exceed the 4 GiB that its length can say; frames are bounded by a
/// `frame_max` far below.
pub fn encode_frame(channel: u32, request: u64, body: &pb::frame::Body, out: &mut BytesMut) {
    let length = number_field_len(channel.into()) + number_field_len(request) + body.encoded_len();
    put_length_prefix(length, out);
    put_number_field(CHANNEL, channel.into(), out);
    put_number_field(REQUEST, request, out);
    body.encode(out);
}

/// Appends a `Publish` frame up to its first message; `items_len` bytes of items must follow.
pub fn encode_publish_head(
    channel: u32,
    publisher: u32,
    first_sequence: u64,
    target: Option<&pb::PublishTarget>,
    items_len: usize,
    out: &mut BytesMut,
) {
    let target_len = target.map(|target| target.encoded_len());
    let length = number_field_len(publisher.into())
        + number_field_len(first_sequence)
        + target_len.map_or(0, bytes_field_len)
        + items_len;
    put_frame_head(channel, 0, kinds::PUBLISH, length, out);
    put_number_field(FIELD_1, publisher.into(), out);
    put_number_field(FIELD_2, first_sequence, out);
    if let (Some(target), Some(target_len)) = (target, target_len) {
        out.put_u8(FIELD_3_LENGTH);
        put_varint(target_len as u64, out);
        target.encode_raw(out);
    }
}

/// Appends a `Deliver` frame up to its first message; `items_len` bytes of items must follow.
pub fn encode_deliver_head(
    channel: u32,
    consumer: u32,
    first_tag: u64,
    exchange: &str,
    routing_key: &str,
    items_len: usize,
    out: &mut BytesMut,
) {
    let length = number_field_len(consumer.into())
        + number_field_len(first_tag)
        + text_field_len(exchange)
        + text_field_len(routing_key)
        + items_len;
    put_frame_head(channel, 0, kinds::DELIVER, length, out);
    put_number_field(FIELD_1, consumer.into(), out);
    put_number_field(FIELD_2, first_tag, out);
    put_text_field(FIELD_3_LENGTH, exchange, out);
    put_text_field(FIELD_4_LENGTH, routing_key, out);
}

/// Appends a `Confirm` frame.
pub fn encode_confirm(channel: u32, publisher: u32, ranges: &[pb::ConfirmRange], out: &mut BytesMut) {
    let length = number_field_len(publisher.into())
        + ranges.iter().map(|range| bytes_field_len(confirm_range_len(range))).sum::<usize>();
    put_frame_head(channel, 0, kinds::CONFIRM, length, out);
    put_number_field(FIELD_1, publisher.into(), out);
    for range in ranges {
        out.put_u8(FIELD_2_LENGTH);
        put_varint(confirm_range_len(range) as u64, out);
        put_number_field(FIELD_1, range.first, out);
        put_number_field(FIELD_2, range.last, out);
        put_number_field(FIELD_3, enumeration(range.level), out);
        put_number_field(FIELD_4, range.queues.into(), out);
        if let Some(refusal) = &range.refusal {
            out.put_u8(FIELD_5_LENGTH);
            put_varint(refusal.encoded_len() as u64, out);
            refusal.encode_raw(out);
        }
        put_number_field(FIELD_6, range.first_journey, out);
    }
}

fn confirm_range_len(range: &pb::ConfirmRange) -> usize {
    number_field_len(range.first)
        + number_field_len(range.last)
        + number_field_len(enumeration(range.level))
        + number_field_len(range.queues.into())
        + range.refusal.as_ref().map_or(0, |refusal| bytes_field_len(refusal.encoded_len()))
        + number_field_len(range.first_journey)
}

/// Appends a `Settle` frame. With a request id other than 0 it is answered.
pub fn encode_settle(
    channel: u32,
    request: u64,
    consumer: u32,
    ranges: &[pb::SettleRange],
    out: &mut BytesMut,
) {
    let length = number_field_len(consumer.into())
        + ranges.iter().map(|range| bytes_field_len(settle_range_len(range))).sum::<usize>();
    put_frame_head(channel, request, kinds::SETTLE, length, out);
    put_number_field(FIELD_1, consumer.into(), out);
    for range in ranges {
        out.put_u8(FIELD_2_LENGTH);
        put_varint(settle_range_len(range) as u64, out);
        put_number_field(FIELD_1, range.first, out);
        put_number_field(FIELD_2, range.last, out);
        put_number_field(FIELD_3, enumeration(range.outcome), out);
        if let Some(delay) = range.delay_ms {
            // Absent is another thing than 0.
            out.put_u8(FIELD_4);
            put_varint(delay, out);
        }
    }
}

fn settle_range_len(range: &pb::SettleRange) -> usize {
    number_field_len(range.first)
        + number_field_len(range.last)
        + number_field_len(enumeration(range.outcome))
        + range.delay_ms.map_or(0, |delay| 1 + varint_len(delay))
}

/// Appends a `Return` frame with the message of a stored item, as it is; `returned.message` is not looked at.
pub fn encode_return(
    channel: u32,
    returned: pb::Return,
    item: &[u8],
    out: &mut BytesMut,
) -> Result<(), ItemFault> {
    let returned = pb::Return { message: None, ..returned };
    let message = &item[regular_parts(item)?.message];
    let length = returned.encoded_len() + bytes_field_len(message.len());
    put_frame_head(channel, 0, kinds::RETURN, length, out);
    returned.encode_raw(out);
    put_bytes_field(FIELD_6_LENGTH, message, out);
    Ok(())
}

/// Appends a `Got` frame with an item, as it is: a stored one or one from [`encode_redelivered_item`](crate::message::encode_redelivered_item). `got.item` is
/// not looked at.
pub fn encode_got(
    channel: u32,
    request: u64,
    got: pb::Got,
    item: &[u8],
    out: &mut BytesMut,
) -> Result<(), ItemFault> {
    let got = pb::Got { item: None, ..got };
    let item = &item[regular_parts(item)?.content..];
    let length = bytes_field_len(item.len()) + got.encoded_len();
    put_frame_head(channel, request, kinds::GOT, length, out);
    put_bytes_field(FIELD_1_LENGTH, item, out);
    got.encode_raw(out);
    Ok(())
}

#[inline]
fn put_frame_head(channel: u32, request: u64, number: u32, body_len: usize, out: &mut BytesMut) {
    let body_key = u64::from(key(number, LENGTH));
    let body = varint_len(body_key) + varint_len(body_len as u64) + body_len;
    put_length_prefix(number_field_len(channel.into()) + number_field_len(request) + body, out);
    put_number_field(CHANNEL, channel.into(), out);
    put_number_field(REQUEST, request, out);
    put_varint(body_key, out);
    put_varint(body_len as u64, out);
}

fn put_length_prefix(length: usize, out: &mut BytesMut) {
    let length = u32::try_from(length).expect("frame_max is far below 4 GiB");
    out.put_u32(length);
}

/// Enumerations travel as signed numbers, widened.
fn enumeration(value: i32) -> u64 {
    i64::from(value) as u64
}

fn text_field_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { bytes_field_len(text.len()) }
}

fn put_text_field(key: u8, text: &str, out: &mut BytesMut) {
    if !text.is_empty() {
        put_bytes_field(key, text.as_bytes(), out);
    }
}
