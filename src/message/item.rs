//! One message inside a frame: the field `items` of Publish and Deliver.
//!
//! ```text
//! 2a <length>                      items
//!    0a <length>                   1 message
//!       0a <length> <properties>     1 properties, may be absent
//!       12 <length> <body>           2 body, absent if empty
//!       ...                          fields of later versions
//!    12 <length> <routing key>     2 routing_key, may be absent
//!    18 01                         3 resent
//!    20 01                         4 redelivered      } only on the way out
//!    28 <count>                    5 delivery_count   }
//! ```
//!
//! This is the regular form: fields in order, each at most once, one-byte keys. Every encoder we know writes it, and
//! messages are stored in no other; `regular.rs` brings others into it.

use std::ops::Range;
use std::str;

use super::items::KeySpan;
use super::properties::{self, Heeded};
use super::reader::{LENGTH, Reader};
use crate::model::NAME_BYTES_MAX;

pub(crate) const ITEMS: u8 = 0x2a;
pub(crate) const MESSAGE: u8 = 0x0a;
pub(crate) const ROUTING_KEY: u8 = 0x12;
pub(crate) const RESENT: u8 = 0x18;
pub(crate) const REDELIVERED: u8 = 0x20;
pub(crate) const DELIVERY_COUNT: u8 = 0x28;
pub(crate) const PROPERTIES: u8 = 0x0a;
pub(crate) const BODY: u8 = 0x12;

/// Where the parts of a regular item lie.
#[derive(Debug, Clone)]
pub(crate) struct ItemParts {
    /// First byte after the item's key and length.
    pub(crate) content: usize,
    /// The message, without its key and length.
    pub(crate) message: Range<usize>,
    pub(crate) properties: Option<Range<usize>>,
    /// Empty if absent.
    pub(crate) body: Range<usize>,
    pub(crate) routing_key: KeySpan,
    /// Where `resent` is or would be.
    pub(crate) flags: usize,
    pub(crate) resent: bool,
    /// Where `redelivered` is or would be.
    pub(crate) delivery: usize,
    /// First byte after the item.
    pub(crate) end: usize,
}

/// Reads an item that is a body of 1 to 16,383 bytes and nothing else, as most are. Gives the end of the item and the
/// length of the body.
#[inline]
pub(crate) fn scan_plain(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let item = scan_short(bytes, start, ITEMS)?;
    let message = scan_short(bytes, item.start, MESSAGE)?;
    let body = scan_short(bytes, message.start, BODY)?;
    let is_all = message.end == item.end && body.end == item.end && item.end <= bytes.len();
    is_all.then_some((item.end, body.len()))
}

/// Where the value of a field lies, if it has this key and a length of one or two bytes. The end is not checked.
#[inline]
fn scan_short(bytes: &[u8], start: usize, key: u8) -> Option<Range<usize>> {
    match *bytes.get(start..)? {
        [first, length, ..] if first == key && length < 0x80 => {
            Some(start + 2..start + 2 + usize::from(length))
        }
        [first, low, high, ..] if first == key && high < 0x80 => {
            Some(start + 3..start + 3 + (usize::from(high) << 7 | usize::from(low & 0x7f)))
        }
        _ => None,
    }
}

/// Reads the item that starts at `start`, as far as a publisher may fill it, and checks what is in its message.
/// Returns what is heeded of its properties, too. `None`: it is faulty or not regular, see `regular.rs`.
#[inline]
pub(crate) fn scan_published(bytes: &[u8], start: usize) -> Option<(ItemParts, Heeded)> {
    let parts = scan(bytes, start)?;
    if parts.delivery != parts.end {
        return None;
    }
    let heeded = match &parts.properties {
        Some(properties) => properties::check(bytes, properties.clone()).ok()?,
        None => Heeded::default(),
    };
    Some((parts, heeded))
}

/// Reads the regular item that starts at `start` up to the fields for deliveries, which are left to the caller. Does
/// not look into properties.
#[inline]
pub(crate) fn scan(bytes: &[u8], start: usize) -> Option<ItemParts> {
    let mut reader = Reader::within(bytes, start..bytes.len());
    if !reader.take(ITEMS) {
        return None;
    }
    let item = reader.range().ok()?;
    let mut reader = Reader::within(bytes, item.clone());
    if !reader.take(MESSAGE) {
        return None;
    }
    let message = reader.range().ok()?;
    let (properties, body) = scan_message(bytes, message.clone())?;
    let mut routing_key = KeySpan::ABSENT;
    if reader.take(ROUTING_KEY) {
        let key = reader.range().ok()?;
        if key.len() > NAME_BYTES_MAX {
            return None;
        }
        str::from_utf8(&bytes[key.clone()]).ok()?;
        routing_key = KeySpan { start: key.start as u32, end: key.end as u32 };
    }
    let flags = reader.position();
    let resent = reader.take(RESENT) && reader.varint().ok()? != 0;
    Some(ItemParts {
        content: item.start,
        message,
        properties,
        body,
        routing_key,
        flags,
        resent,
        delivery: reader.position(),
        end: item.end,
    })
}

#[inline]
fn scan_message(bytes: &[u8], message: Range<usize>) -> Option<(Option<Range<usize>>, Range<usize>)> {
    let end = message.end;
    let mut reader = Reader::within(bytes, message);
    let properties = if reader.take(PROPERTIES) { Some(reader.range().ok()?) } else { None };
    let body = if reader.take(BODY) { reader.range().ok()? } else { end..end };
    if !reader.is_done() {
        scan_later_fields(reader)?;
    }
    Some((properties, body))
}

/// Fields that later versions may add to a message are kept, but not a second body or properties.
#[cold]
fn scan_later_fields(mut reader: Reader<'_>) -> Option<()> {
    while !reader.is_done() {
        let key = reader.key().ok()?;
        if key >> 3 <= 2 {
            return None;
        }
        reader.skip(key).ok()?;
    }
    Some(())
}

const _: () = assert!(ITEMS as u32 == super::reader::key(5, LENGTH));
