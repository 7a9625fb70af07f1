//! Frames to bytes. Everything appends to a buffer of the caller.
//!
//! Hot kinds are written by hand, byte for byte as generated code would: fields in order of their numbers, defaults
//! left out. Messages come last in their frames, so a frame is a head from here and then runs of messages as they are.

use bytes::{BufMut, BytesMut};
use prost::Message as _;

use super::delivered::regular_parts;
use super::error::ItemFault;
use super::item;
use super::kinds::{CONFIRM_KEY, DELIVER_KEY, PUBLISH_KEY, SETTLE_KEY};
use super::pb;
use super::varint::{Scratch, put_varint, varint_len};
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
const FIELD_2: u8 = 0x10;
const FIELD_2_LENGTH: u8 = 0x12;
const FIELD_3: u8 = 0x18;
const FIELD_3_LENGTH: u8 = 0x1a;
const FIELD_4: u8 = 0x20;
const FIELD_4_LENGTH: u8 = 0x22;
const FIELD_5_LENGTH: u8 = 0x2a;

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
    put_frame_head(channel, 0, PUBLISH_KEY, length, out);
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
    put_frame_head(channel, 0, DELIVER_KEY, length, out);
    put_number_field(FIELD_1, consumer.into(), out);
    put_number_field(FIELD_2, first_tag, out);
    put_text_field(FIELD_3_LENGTH, exchange, out);
    put_text_field(FIELD_4_LENGTH, routing_key, out);
}

/// Appends a `Confirm` frame.
pub fn encode_confirm(channel: u32, publisher: u32, ranges: &[pb::ConfirmRange], out: &mut BytesMut) {
    let length = number_field_len(publisher.into())
        + ranges.iter().map(|range| bytes_field_len(confirm_range_len(range))).sum::<usize>();
    put_frame_head(channel, 0, CONFIRM_KEY, length, out);
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
    }
}

fn confirm_range_len(range: &pb::ConfirmRange) -> usize {
    number_field_len(range.first)
        + number_field_len(range.last)
        + number_field_len(enumeration(range.level))
        + number_field_len(range.queues.into())
        + range.refusal.as_ref().map_or(0, |refusal| bytes_field_len(refusal.encoded_len()))
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
    put_frame_head(channel, request, SETTLE_KEY, length, out);
    put_number_field(FIELD_1, consumer.into(), out);
    for range in ranges {
        out.put_u8(FIELD_2_LENGTH);
        put_varint(settle_range_len(range) as u64, out);
        put_number_field(FIELD_1, range.first, out);
        put_number_field(FIELD_2, range.last, out);
        put_number_field(FIELD_3, enumeration(range.outcome), out);
    }
}

fn settle_range_len(range: &pb::SettleRange) -> usize {
    number_field_len(range.first)
        + number_field_len(range.last)
        + number_field_len(enumeration(range.outcome))
}

/// Bytes that [`encode_item`] appends.
#[inline]
pub fn item_len(properties_encoded: &[u8], body: &[u8], routing_key: Option<&str>, resent: bool) -> usize {
    bytes_field_len(item_content_len(message_len(properties_encoded, body), routing_key, resent))
}

/// Appends one message of a `Publish`. Empty `properties_encoded` means that every property has its default.
#[inline]
pub fn encode_item(
    properties_encoded: &[u8],
    body: &[u8],
    routing_key: Option<&str>,
    resent: bool,
    out: &mut BytesMut,
) {
    let message = message_len(properties_encoded, body);
    let content = item_content_len(message, routing_key, resent);
    out.reserve(bytes_field_len(content));
    let mut head = Scratch::new();
    head.put(item::ITEMS, content);
    head.put(item::MESSAGE, message);
    if !properties_encoded.is_empty() {
        head.put(item::PROPERTIES, properties_encoded.len());
        out.put_slice(head.as_slice());
        out.put_slice(properties_encoded);
        head = Scratch::new();
    }
    if !body.is_empty() {
        head.put(item::BODY, body.len());
    }
    out.put_slice(head.as_slice());
    out.put_slice(body);
    if let Some(routing_key) = routing_key {
        put_bytes_field(item::ROUTING_KEY, routing_key.as_bytes(), out);
    }
    if resent {
        out.put_slice(&[item::RESENT, 1]);
    }
}

fn message_len(properties_encoded: &[u8], body: &[u8]) -> usize {
    let properties =
        if properties_encoded.is_empty() { 0 } else { bytes_field_len(properties_encoded.len()) };
    properties + if body.is_empty() { 0 } else { bytes_field_len(body.len()) }
}

fn item_content_len(message: usize, routing_key: Option<&str>, resent: bool) -> usize {
    let routing_key = routing_key.map_or(0, |routing_key| bytes_field_len(routing_key.len()));
    bytes_field_len(message) + routing_key + 2 * usize::from(resent)
}

/// Appends a stored item as one that comes to a consumer again. At most [`REDELIVERED_BYTES_MAX`] bytes longer than
/// what was stored.
pub fn encode_redelivered_item(
    stored_item: &[u8],
    redelivered: bool,
    delivery_count: u32,
    out: &mut BytesMut,
) -> Result<(), ItemFault> {
    let parts = regular_parts(stored_item)?;
    let kept = &stored_item[parts.content..parts.delivery];
    let added = 2 * usize::from(redelivered) + number_field_len(delivery_count.into());
    out.put_u8(item::ITEMS);
    put_varint((kept.len() + added) as u64, out);
    out.put_slice(kept);
    if redelivered {
        out.put_slice(&[item::REDELIVERED, 1]);
    }
    put_number_field(item::DELIVERY_COUNT, delivery_count.into(), out);
    Ok(())
}

/// Appends an item as one that its publisher sends again, having lost its confirm.
pub fn encode_resent_item(item: &[u8], out: &mut BytesMut) -> Result<(), ItemFault> {
    let parts = regular_parts(item)?;
    let kept = &item[parts.content..parts.flags];
    out.put_u8(item::ITEMS);
    put_varint((kept.len() + 2) as u64, out);
    out.put_slice(kept);
    out.put_slice(&[item::RESENT, 1]);
    Ok(())
}

fn put_frame_head(channel: u32, request: u64, body_key: u8, body_len: usize, out: &mut BytesMut) {
    let length = number_field_len(channel.into()) + number_field_len(request) + bytes_field_len(body_len);
    put_length_prefix(length, out);
    put_number_field(CHANNEL, channel.into(), out);
    put_number_field(REQUEST, request, out);
    out.put_u8(body_key);
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

#[inline]
fn number_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

#[inline]
fn put_number_field(key: u8, value: u64, out: &mut BytesMut) {
    if value != 0 {
        out.put_u8(key);
        put_varint(value, out);
    }
}

/// Bytes of a field that holds `len` bytes, key and length included.
#[inline]
fn bytes_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

#[inline]
fn put_bytes_field(key: u8, value: &[u8], out: &mut BytesMut) {
    out.put_u8(key);
    put_varint(value.len() as u64, out);
    out.put_slice(value);
}

fn text_field_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { bytes_field_len(text.len()) }
}

fn put_text_field(key: u8, text: &str, out: &mut BytesMut) {
    if !text.is_empty() {
        put_bytes_field(key, text.as_bytes(), out);
    }
}
