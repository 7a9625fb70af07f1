//! Checks a message's properties without decoding them, so that no consumer gets what it cannot decode.

use std::ops::Range;
use std::str;

use super::fault::ItemFault;
use super::reader::{FIXED64, LENGTH, Reader, VARINT, key};
use crate::model::{BCC, CC, NAME_BYTES_MAX, REPLY_TO};

/// Deepest nesting of tables and lists; the headers themselves are the first level.
pub const FIELD_DEPTH_MAX: usize = 16;

/// What a field of `Properties` may hold.
#[derive(Clone, Copy)]
enum Rule {
    /// UTF-8 of at most 255 bytes.
    Name,
    /// The same; it is told whether it is the one that stands for whoever publishes.
    ReplyTo,
    /// A field table.
    Table,
    /// An unsigned 32-bit number with an upper bound.
    Number { max: u32 },
    /// Any unsigned 64-bit number.
    Milliseconds,
    /// The same; it is told.
    Expiration,
    /// The same; it is told.
    Delay,
    /// The same; it is told.
    DeliverAt,
}

/// The fields of `Properties` by number, as in `message.proto`.
const RULES: [Option<(&str, Rule)>; 16] = [
    None,
    Some(("content_type", Rule::Name)),
    Some(("content_encoding", Rule::Name)),
    Some(("headers", Rule::Table)),
    Some(("priority", Rule::Number { max: 255 })),
    Some(("correlation_id", Rule::Name)),
    Some(("reply_to", Rule::ReplyTo)),
    Some(("expiration_ms", Rule::Expiration)),
    Some(("message_id", Rule::Name)),
    Some(("timestamp_ms", Rule::Milliseconds)),
    Some(("type", Rule::Name)),
    Some(("user_id", Rule::Name)),
    Some(("app_id", Rule::Name)),
    Some(("delivery_mode", Rule::Number { max: 2 })),
    Some(("delay_ms", Rule::Delay)),
    Some(("deliver_at_ms", Rule::DeliverAt)),
];

pub(crate) const CONTENT_ENCODING: u32 = key(2, LENGTH);
pub(crate) const HEADERS: u32 = key(3, LENGTH);
pub(crate) const PRIORITY: u32 = key(4, VARINT);
pub(crate) const REPLY_TO_KEY: u32 = key(6, LENGTH);
pub(crate) const MESSAGE_ID: u32 = key(8, LENGTH);

/// What properties say that is heeded when a message comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heeded {
    /// The expiration, in milliseconds.
    pub(crate) expiration_ms: Option<u64>,
    /// The delay, in milliseconds.
    pub(crate) delay_ms: Option<u64>,
    /// When it is to be delivered, in milliseconds since 1970-01-01T00:00:00Z.
    pub(crate) deliver_at_ms: Option<u64>,
    /// Whether some header has a name under which further routing keys stand.
    pub(crate) has_further_keys: bool,
    /// Whether replies are wanted under [`REPLY_TO`].
    pub(crate) asks_for_replies: bool,
}

/// Checks the properties that lie in `range` of `bytes`. Unknown fields need only be well-formed.
pub(crate) fn check(bytes: &[u8], range: Range<usize>) -> Result<Heeded, ItemFault> {
    let mut heeded = Heeded::default();
    let mut reader = Reader::within(bytes, range);
    while !reader.is_done() {
        let key = reader.key()?;
        let Some((field, rule)) = RULES.get((key >> 3) as usize).copied().flatten() else {
            reader.skip(key)?;
            continue;
        };
        match (rule, key & 7) {
            (Rule::Name, LENGTH) => check_name(bytes, reader.range()?, field)?,
            (Rule::ReplyTo, LENGTH) => {
                let range = reader.range()?;
                heeded.asks_for_replies = bytes[range.clone()] == *REPLY_TO.as_bytes();
                check_name(bytes, range, field)?;
            }
            (Rule::Table, LENGTH) => heeded.has_further_keys |= check_headers(bytes, reader.range()?)?,
            (Rule::Number { max }, VARINT) => {
                // Decoders of 32-bit fields drop the upper half.
                let value = reader.varint()? as u32;
                if value > max {
                    return Err(ItemFault::OutOfRange { field, value: value.into(), max: max.into() });
                }
            }
            (Rule::Milliseconds, VARINT) => drop(reader.varint()?),
            (Rule::Expiration, VARINT) => heeded.expiration_ms = Some(reader.varint()?),
            (Rule::Delay, VARINT) => heeded.delay_ms = Some(reader.varint()?),
            (Rule::DeliverAt, VARINT) => heeded.deliver_at_ms = Some(reader.varint()?),
            _ => return Err(reader.broken("a property with another field's wire type").into()),
        }
    }
    Ok(heeded)
}

fn check_name(bytes: &[u8], range: Range<usize>, field: &'static str) -> Result<(), ItemFault> {
    if range.len() > NAME_BYTES_MAX {
        return Err(ItemFault::TooLong { field, bytes: range.len() });
    }
    check_text(bytes, range, field)
}

fn check_text(bytes: &[u8], range: Range<usize>, field: &'static str) -> Result<(), ItemFault> {
    match str::from_utf8(&bytes[range]) {
        Ok(_) => Ok(()),
        Err(_) => Err(ItemFault::NotUtf8 { field }),
    }
}

/// Whether one of them has a name under which further routing keys stand.
fn check_headers(bytes: &[u8], range: Range<usize>) -> Result<bool, ItemFault> {
    let mut names_keys = false;
    check_table(bytes, range, 1, &mut |name| names_keys |= name == CC.as_bytes() || name == BCC.as_bytes())?;
    Ok(names_keys)
}

/// `FieldTable { map<string, FieldValue> fields = 1 }`: a map is repeated entries of key 1 and value 2. Tells the names that it has itself.
fn check_table(
    bytes: &[u8],
    range: Range<usize>,
    depth: usize,
    tell_name: &mut impl FnMut(&[u8]),
) -> Result<(), ItemFault> {
    check_depth(depth)?;
    check_fields(bytes, range, |reader, key| match key >> 3 {
        1 => check_entry(bytes, expect_range(reader, key)?, depth, tell_name),
        _ => Ok(reader.skip(key)?),
    })
}

fn check_entry(
    bytes: &[u8],
    range: Range<usize>,
    depth: usize,
    tell_name: &mut impl FnMut(&[u8]),
) -> Result<(), ItemFault> {
    check_fields(bytes, range, |reader, key| match key >> 3 {
        1 => {
            let name = expect_range(reader, key)?;
            tell_name(&bytes[name.clone()]);
            check_name(bytes, name, "the name of a header")
        }
        2 => check_value(bytes, expect_range(reader, key)?, depth),
        _ => Ok(reader.skip(key)?),
    })
}

/// `FieldList { repeated FieldValue values = 1 }`
fn check_list(bytes: &[u8], range: Range<usize>, depth: usize) -> Result<(), ItemFault> {
    check_depth(depth)?;
    check_fields(bytes, range, |reader, key| match key >> 3 {
        1 => check_value(bytes, expect_range(reader, key)?, depth),
        _ => Ok(reader.skip(key)?),
    })
}

fn check_value(bytes: &[u8], range: Range<usize>, depth: usize) -> Result<(), ItemFault> {
    check_fields(bytes, range, |reader, field_key| match field_key >> 3 {
        1 | 2 | 3 | 7 => expect_wire_type(reader, field_key, VARINT),
        4 => expect_wire_type(reader, field_key, FIXED64),
        5 => check_text(bytes, expect_range(reader, field_key)?, "a text in headers"),
        6 => expect_wire_type(reader, field_key, LENGTH),
        8 => check_table(bytes, expect_range(reader, field_key)?, depth + 1, &mut |_| {}),
        9 => check_list(bytes, expect_range(reader, field_key)?, depth + 1),
        10 => check_decimal(bytes, expect_range(reader, field_key)?),
        _ => Ok(reader.skip(field_key)?),
    })
}

/// `Decimal { uint32 scale = 1; sint64 value = 2 }`
fn check_decimal(bytes: &[u8], range: Range<usize>) -> Result<(), ItemFault> {
    check_fields(bytes, range, |reader, key| match key >> 3 {
        1 | 2 => expect_wire_type(reader, key, VARINT),
        _ => Ok(reader.skip(key)?),
    })
}

fn check_fields(
    bytes: &[u8],
    range: Range<usize>,
    mut check: impl FnMut(&mut Reader<'_>, u32) -> Result<(), ItemFault>,
) -> Result<(), ItemFault> {
    let mut reader = Reader::within(bytes, range);
    while !reader.is_done() {
        let key = reader.key()?;
        check(&mut reader, key)?;
    }
    Ok(())
}

fn check_depth(depth: usize) -> Result<(), ItemFault> {
    if depth > FIELD_DEPTH_MAX { Err(ItemFault::TooDeep { max: FIELD_DEPTH_MAX }) } else { Ok(()) }
}

fn expect_range(reader: &mut Reader<'_>, key: u32) -> Result<Range<usize>, ItemFault> {
    if key & 7 != LENGTH {
        return Err(reader.broken("a header with another field's wire type").into());
    }
    Ok(reader.range()?)
}

fn expect_wire_type(reader: &mut Reader<'_>, key: u32, wire_type: u32) -> Result<(), ItemFault> {
    if key & 7 != wire_type {
        return Err(reader.broken("a header with another field's wire type").into());
    }
    Ok(reader.skip(key)?)
}
