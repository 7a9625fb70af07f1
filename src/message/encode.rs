//! Writing one message, and what it is made of.

use bytes::{BufMut, BytesMut};
use prost::Message as _;

use super::delivered::regular_parts;
use super::fault::ItemFault;
use super::item;
use super::varint::{Scratch, put_varint, varint_len};
use crate::model::{FieldTable, Timestamp};
use crate::pb;

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

/// Appends a stored item as one that comes to a consumer again. At most `wire::REDELIVERED_BYTES_MAX` bytes longer than
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

/// Encoded properties that are these headers alone.
pub fn encode_headers(headers: &FieldTable) -> Vec<u8> {
    pb::Properties { headers: Some(headers.into()), ..pb::Properties::default() }.encode_to_vec()
}

/// Encoded properties of a message in which the broker itself tells something, of this kind.
pub fn encode_event_properties(kind: &str, at: Timestamp, headers: &FieldTable) -> Vec<u8> {
    let properties = pb::Properties {
        headers: Some(headers.into()),
        r#type: kind.to_owned(),
        timestamp_ms: Some(at.0),
        app_id: "leveret".to_owned(),
        ..pb::Properties::default()
    };
    properties.encode_to_vec()
}

/// Encoded properties that are this priority alone.
pub fn encode_priority(priority: u8) -> Vec<u8> {
    pb::Properties { priority: priority.into(), ..pb::Properties::default() }.encode_to_vec()
}

/// Appends a published item with further properties, encoded: headers of names that it has already are replaced, all others
/// stay.
pub fn encode_annotated_item(
    item: &[u8],
    properties_encoded: &[u8],
    out: &mut BytesMut,
) -> Result<(), ItemFault> {
    let parts = regular_parts(item)?;
    let own = parts.properties.clone().unwrap_or(parts.message.start..parts.message.start);
    let properties = own.len() + properties_encoded.len();
    let message = bytes_field_len(properties) + (parts.message.end - own.end);
    let around = &item[parts.message.end..parts.delivery];
    let mut head = Scratch::new();
    head.put(item::ITEMS, bytes_field_len(message) + around.len());
    head.put(item::MESSAGE, message);
    head.put(item::PROPERTIES, properties);
    out.put_slice(head.as_slice());
    out.put_slice(&item[own.clone()]);
    out.put_slice(properties_encoded);
    out.put_slice(&item[own.end..parts.message.end]);
    out.put_slice(around);
    Ok(())
}

#[inline]
pub(crate) fn number_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

#[inline]
pub(crate) fn put_number_field(key: u8, value: u64, out: &mut BytesMut) {
    if value != 0 {
        out.put_u8(key);
        put_varint(value, out);
    }
}

/// Bytes of a field that holds `len` bytes, key and length included.
#[inline]
pub(crate) fn bytes_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

#[inline]
pub(crate) fn put_bytes_field(key: u8, value: &[u8], out: &mut BytesMut) {
    out.put_u8(key);
    put_varint(value.len() as u64, out);
    out.put_slice(value);
}
