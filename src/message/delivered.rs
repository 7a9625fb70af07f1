//! A message as its consumer reads it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::fault::ItemFault;
use super::item::{self, ItemParts};
use super::properties;
use super::reader::Reader;
use super::regular::{WrittenBy, append_regular};
use super::text::Text;
use crate::model::FieldTable;
use crate::pb;

/// One message of a `Deliver`. Its parts share memory with the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredItem {
    /// The payload.
    pub body: Bytes,
    /// The encoded `Properties`; `None` if every property has its default.
    pub properties: Option<Bytes>,
    /// The message's own routing key; `None`: the frame's holds.
    pub routing_key: Option<Text>,
    /// Its publisher sent it more than once.
    pub resent: bool,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How many times it came back to the queue.
    pub delivery_count: u32,
}

/// One message of a `Deliver`, looked at where it lies: nothing is copied or counted, so that whoever only reads pays
/// only for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveredView<'a> {
    /// The payload.
    pub body: &'a [u8],
    /// The message's own routing key; `None`: the frame's holds.
    pub routing_key: Option<&'a str>,
    /// Its publisher sent it more than once.
    pub resent: bool,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How many times it came back to the queue.
    pub delivery_count: u32,
}

impl<'a> DeliveredView<'a> {
    /// Looks at one item, its field key and length included. `None`: it is faulty or not in regular form;
    /// [`DeliveredItem::decode`] tells.
    #[inline]
    pub fn of(item: &'a [u8]) -> Option<Self> {
        match item::scan_plain(item, 0) {
            Some((end, body_bytes)) if end == item.len() => Some(Self {
                body: &item[end - body_bytes..],
                routing_key: None,
                resent: false,
                redelivered: false,
                delivery_count: 0,
            }),
            _ => Self::of_parts(item),
        }
    }

    fn of_parts(item: &'a [u8]) -> Option<Self> {
        let (parts, redelivered, delivery_count) = delivered_parts(item, 0..item.len())?;
        let key = parts.routing_key;
        let routing_key = match key.is_present() {
            true => Some(std::str::from_utf8(&item[key.start as usize..key.end as usize]).ok()?),
            false => None,
        };
        let (body, resent) = (&item[parts.body], parts.resent);
        Some(Self { body, routing_key, resent, redelivered, delivery_count })
    }
}

/// The parts of a regular item with the fields for deliveries, all checked: parts, redelivered, delivery count.
fn delivered_parts(bytes: &[u8], range: Range<usize>) -> Option<(ItemParts, bool, u32)> {
    let parts = item::scan(&bytes[..range.end], range.start)?;
    let mut reader = Reader::within(bytes, parts.delivery..parts.end);
    let redelivered = reader.take(item::REDELIVERED) && reader.varint().ok()? != 0;
    let delivery_count = if reader.take(item::DELIVERY_COUNT) { reader.varint().ok()? as u32 } else { 0 };
    if !reader.is_done() || parts.end != range.end {
        return None;
    }
    if let Some(properties) = &parts.properties {
        properties::check(bytes, properties.clone()).ok()?;
    }
    Some((parts, redelivered, delivery_count))
}

impl DeliveredItem {
    /// Decodes one item, its field key and length included (what a [`MessageRun`](crate::message::MessageRun) holds).
    pub fn decode(item: &Bytes) -> Result<Self, ItemFault> {
        Self::decode_within(item, 0..item.len())
    }

    /// Decodes the item that fills `range` of `bytes`.
    #[inline]
    pub(crate) fn decode_within(bytes: &Bytes, range: Range<usize>) -> Result<Self, ItemFault> {
        match Self::decode_regular(bytes, range.clone()) {
            Some(item) => Ok(item),
            None => Self::decode_irregular(&bytes[range]),
        }
    }

    #[inline]
    fn decode_regular(bytes: &Bytes, range: Range<usize>) -> Option<Self> {
        match item::scan_plain(&bytes[..range.end], range.start) {
            Some((end, body_bytes)) if end == range.end => Some(Self {
                body: bytes.slice(end - body_bytes..end),
                properties: None,
                routing_key: None,
                resent: false,
                redelivered: false,
                delivery_count: 0,
            }),
            _ => Self::decode_parts(bytes, range),
        }
    }

    fn decode_parts(bytes: &Bytes, range: Range<usize>) -> Option<Self> {
        let (parts, redelivered, delivery_count) = delivered_parts(bytes, range)?;
        let key = parts.routing_key;
        let routing_key = match key.is_present() {
            true => Some(Text::new(bytes.slice(key.start as usize..key.end as usize)).ok()?),
            false => None,
        };
        Some(Self {
            body: bytes.slice(parts.body),
            properties: parts.properties.map(|range| bytes.slice(range)),
            routing_key,
            resent: parts.resent,
            redelivered,
            delivery_count,
        })
    }

    #[cold]
    fn decode_irregular(item: &[u8]) -> Result<Self, ItemFault> {
        let mut regular = BytesMut::with_capacity(item.len());
        append_regular(item, contents(item)?, WrittenBy::Server, &mut regular)?;
        let regular = regular.freeze();
        Self::decode_parts(&regular, 0..regular.len())
            .ok_or(ItemFault::Malformed { what: "an item that has no regular form", offset: 0 })
    }

    /// The properties, decoded; all defaults if there are none.
    pub fn decode_properties(&self) -> Result<pb::Properties, ItemFault> {
        match &self.properties {
            Some(properties) => pb::Properties::decode(properties.clone()).map_err(|_| PROPERTIES_MALFORMED),
            None => Ok(pb::Properties::default()),
        }
    }

    /// The application headers; `None` if there are none.
    pub fn headers(&self) -> Result<Option<FieldTable>, ItemFault> {
        match &self.properties {
            Some(properties) => headers_in(properties),
            None => Ok(None),
        }
    }
}

const PROPERTIES_MALFORMED: ItemFault = ItemFault::Malformed { what: "properties", offset: 0 };

/// The application headers of a stored item, by which headers exchanges route; `None` if it has none.
pub fn headers_of(item: &[u8]) -> Result<Option<FieldTable>, ItemFault> {
    match regular_parts(item)?.properties {
        Some(properties) => headers_in(&item[properties]),
        None => Ok(None),
    }
}

/// The properties of a stored item, decoded; all defaults if it has none.
pub fn properties_of(item: &[u8]) -> Result<pb::Properties, ItemFault> {
    match regular_parts(item)?.properties {
        Some(properties) => pb::Properties::decode(&item[properties]).map_err(|_| PROPERTIES_MALFORMED),
        None => Ok(pb::Properties::default()),
    }
}

/// The body of a stored item, and how it is encoded; "" if the item does not say.
pub fn body_and_encoding_of(item: &[u8]) -> Result<(&[u8], &str), ItemFault> {
    let parts = regular_parts(item)?;
    let encoding = parts.properties.map_or(Ok(""), |properties| encoding_in(&item[properties]))?;
    Ok((&item[parts.body], encoding))
}

fn encoding_in(properties: &[u8]) -> Result<&str, ItemFault> {
    let mut encoding = "";
    let mut reader = Reader::new(properties);
    while !reader.is_done() {
        match reader.key()? {
            properties::CONTENT_ENCODING => {
                let field = "content_encoding";
                encoding = std::str::from_utf8(&properties[reader.range()?])
                    .map_err(|_| ItemFault::NotUtf8 { field })?;
            }
            key => reader.skip(key)?,
        }
    }
    Ok(encoding)
}

/// The id that its publisher gave the message in a stored item; `None` if it has none.
pub fn message_id_of(item: &[u8]) -> Option<&str> {
    if item::scan_plain(item, 0).is_some() {
        return None;
    }
    let range = regular_parts(item).ok()?.properties?;
    let properties = &item[range];
    let mut id = None;
    let mut reader = Reader::new(properties);
    while !reader.is_done() {
        match reader.key().ok()? {
            properties::MESSAGE_ID => id = Some(reader.range().ok()?),
            key => reader.skip(key).ok()?,
        }
    }
    // Properties are checked when they come.
    std::str::from_utf8(&properties[id?]).ok().filter(|id| !id.is_empty())
}

/// The priority of the message in a stored item; 0 if it has none.
pub fn priority_of(item: &[u8]) -> u8 {
    // Properties are checked when they come.
    if item::scan_plain(item, 0).is_some() { 0 } else { stated_priority(item).unwrap_or(0) }
}

fn stated_priority(item: &[u8]) -> Option<u8> {
    let range = regular_parts(item).ok()?.properties?;
    let mut priority = 0;
    let mut reader = Reader::within(item, range);
    while !reader.is_done() {
        match reader.key().ok()? {
            // As when they were checked: decoders of 32-bit fields drop the upper half.
            properties::PRIORITY => priority = reader.varint().ok()? as u32,
            key => reader.skip(key).ok()?,
        }
    }
    Some(u8::try_from(priority).unwrap_or(u8::MAX))
}

/// The message in a stored item, decoded. Its body shares the item's memory.
pub fn message_of(item: &Bytes) -> Result<pb::Message, ItemFault> {
    let message = regular_parts(item)?.message;
    pb::Message::decode(item.slice(message))
        .map_err(|_| ItemFault::Malformed { what: "a message", offset: 0 })
}

/// The parts of an item that was stored, which is always regular.
pub(crate) fn regular_parts(item: &[u8]) -> Result<ItemParts, ItemFault> {
    item::scan(item, 0)
        .filter(|parts| parts.end == item.len())
        .ok_or(ItemFault::Malformed { what: "an item that was stored in another form", offset: 0 })
}

fn headers_in(properties: &[u8]) -> Result<Option<FieldTable>, ItemFault> {
    let mut headers: Option<pb::FieldTable> = None;
    let mut reader = Reader::new(properties);
    while !reader.is_done() {
        match reader.key()? {
            properties::HEADERS => {
                let range = reader.range()?;
                headers
                    .get_or_insert_default()
                    .merge(&properties[range])
                    .map_err(|_| ItemFault::Malformed { what: "headers", offset: reader.position() })?;
            }
            key => reader.skip(key)?,
        }
    }
    headers.map(FieldTable::try_from).transpose()
}

/// Where an item's contents lie behind its field key and length.
fn contents(item: &[u8]) -> Result<Range<usize>, ItemFault> {
    let mut reader = Reader::new(item);
    reader.key()?;
    let range = reader.range()?;
    if reader.is_done() { Ok(range) } else { Err(reader.broken("more than one item").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{encode_item, encode_priority};

    fn item_with(properties: &[u8]) -> BytesMut {
        let mut item = BytesMut::new();
        encode_item(properties, b"body", Some("key"), false, &mut item);
        item
    }

    #[test]
    fn a_priority_is_the_last_that_is_said_or_none() {
        for priority in [0, 1, 127, 128, 255] {
            assert_eq!(priority_of(&item_with(&encode_priority(priority))), priority);
        }
        let twice = [encode_priority(3), encode_priority(200)].concat();
        assert_eq!(priority_of(&item_with(&twice)), 200);
        let among_others = pb::Properties {
            content_type: "text/plain".to_owned(),
            priority: 7,
            message_id: "\u{20}\u{9}".to_owned(),
            ..pb::Properties::default()
        };
        assert_eq!(priority_of(&item_with(&among_others.encode_to_vec())), 7);
        let mut plain = BytesMut::new();
        encode_item(&[], b"\x20\x09", None, false, &mut plain);
        assert_eq!([priority_of(&plain), priority_of(&item_with(&[]))], [0, 0]);
        assert_eq!(priority_of(b"no item"), 0);
    }
}
