//! Brings an item of any valid form into the regular one that `item.rs` draws.
//!
//! Protobuf lets fields come in any order and more than once: the last number or text wins, messages are merged. Few
//! encoders make use of that, so this path is written for clarity.

use std::ops::Range;
use std::str;

use bytes::{BufMut, BytesMut};

use super::fault::ItemFault;
use super::item;
use super::properties;
use super::reader::{LENGTH, Reader, VARINT, key};
use super::varint::{put_varint, varint_len};
use crate::model::NAME_BYTES_MAX;

/// Which fields an item may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrittenBy {
    /// From a publisher: what only the server may say is left out.
    Publisher,
    /// From the server.
    Server,
}

/// An item taken apart. Pieces of a message or properties that came more than once are merged by joining them.
#[derive(Default)]
struct Pieces {
    has_message: bool,
    properties: Vec<Range<usize>>,
    body: Option<Range<usize>>,
    /// Fields of later versions in the message, keys included.
    later: Vec<Range<usize>>,
    routing_key: Option<Range<usize>>,
    resent: bool,
    redelivered: bool,
    delivery_count: u32,
}

/// Appends the item whose contents (without key and length) lie in `range` of `bytes`, in regular form.
pub(crate) fn append_regular(
    bytes: &[u8],
    range: Range<usize>,
    written_by: WrittenBy,
    out: &mut BytesMut,
) -> Result<(), ItemFault> {
    let pieces = take_apart(bytes, range, written_by)?;
    if !pieces.has_message {
        return Err(ItemFault::NoMessage);
    }
    for properties in &pieces.properties {
        properties::check(bytes, properties.clone())?;
    }
    if let Some(routing_key) = &pieces.routing_key {
        check_routing_key(&bytes[routing_key.clone()])?;
    }
    put_together(bytes, &pieces, out);
    Ok(())
}

fn check_routing_key(routing_key: &[u8]) -> Result<(), ItemFault> {
    let field = "routing_key";
    if routing_key.len() > NAME_BYTES_MAX {
        return Err(ItemFault::TooLong { field, bytes: routing_key.len() });
    }
    str::from_utf8(routing_key).map(drop).map_err(|_| ItemFault::NotUtf8 { field })
}

fn take_apart(bytes: &[u8], range: Range<usize>, written_by: WrittenBy) -> Result<Pieces, ItemFault> {
    const MESSAGE: u32 = key(1, LENGTH);
    const ROUTING_KEY: u32 = key(2, LENGTH);
    const RESENT: u32 = key(3, VARINT);
    const REDELIVERED: u32 = key(4, VARINT);
    const DELIVERY_COUNT: u32 = key(5, VARINT);

    // To a publisher's item the server's fields are unknown ones.
    let number_max = if written_by == WrittenBy::Server { 5 } else { 3 };
    let mut pieces = Pieces::default();
    let mut reader = Reader::within(bytes, range);
    while !reader.is_done() {
        match reader.key()? {
            MESSAGE => {
                pieces.has_message = true;
                take_message_apart(bytes, reader.range()?, &mut pieces)?;
            }
            ROUTING_KEY => {
                let range = reader.range()?;
                // A text that is overridden by a later one still has to be text.
                str::from_utf8(&bytes[range.clone()])
                    .map_err(|_| ItemFault::NotUtf8 { field: "routing_key" })?;
                pieces.routing_key = Some(range);
            }
            RESENT => pieces.resent = reader.varint()? != 0,
            REDELIVERED if written_by == WrittenBy::Server => pieces.redelivered = reader.varint()? != 0,
            DELIVERY_COUNT if written_by == WrittenBy::Server => {
                pieces.delivery_count = reader.varint()? as u32
            }
            key if key >> 3 <= number_max => {
                return Err(reader.broken("an item with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(pieces)
}

fn take_message_apart(bytes: &[u8], range: Range<usize>, pieces: &mut Pieces) -> Result<(), ItemFault> {
    const PROPERTIES: u32 = key(1, LENGTH);
    const BODY: u32 = key(2, LENGTH);

    let mut reader = Reader::within(bytes, range);
    while !reader.is_done() {
        let start = reader.position();
        match reader.key()? {
            PROPERTIES => pieces.properties.push(reader.range()?),
            BODY => pieces.body = Some(reader.range()?),
            key if key >> 3 <= 2 => return Err(reader.broken("a message with a wrong wire type").into()),
            key => {
                reader.skip(key)?;
                pieces.later.push(start..reader.position());
            }
        }
    }
    Ok(())
}

fn put_together(bytes: &[u8], pieces: &Pieces, out: &mut BytesMut) {
    let mut message = BytesMut::new();
    if !pieces.properties.is_empty() {
        message.put_u8(item::PROPERTIES);
        put_varint(pieces.properties.iter().map(ExactSizeIterator::len).sum::<usize>() as u64, &mut message);
        for properties in &pieces.properties {
            message.put_slice(&bytes[properties.clone()]);
        }
    }
    if let Some(body) = &pieces.body {
        put_field(item::BODY, &bytes[body.clone()], &mut message);
    }
    for later in &pieces.later {
        message.put_slice(&bytes[later.clone()]);
    }

    let mut tail = BytesMut::new();
    if let Some(routing_key) = &pieces.routing_key {
        put_field(item::ROUTING_KEY, &bytes[routing_key.clone()], &mut tail);
    }
    if pieces.resent {
        tail.put_slice(&[item::RESENT, 1]);
    }
    if pieces.redelivered {
        tail.put_slice(&[item::REDELIVERED, 1]);
    }
    if pieces.delivery_count != 0 {
        tail.put_u8(item::DELIVERY_COUNT);
        put_varint(pieces.delivery_count.into(), &mut tail);
    }

    let message_field = 1 + varint_len(message.len() as u64) + message.len();
    out.put_u8(item::ITEMS);
    put_varint((message_field + tail.len()) as u64, out);
    put_field(item::MESSAGE, &message, out);
    out.put_slice(&tail);
}

fn put_field(key: u8, value: &[u8], out: &mut BytesMut) {
    out.put_u8(key);
    put_varint(value.len() as u64, out);
    out.put_slice(value);
}
