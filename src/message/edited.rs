//! Messages with something in their properties that is not as they were published: without a header that nobody who gets them may see, or
//! with the address under which replies come.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::delivered::regular_parts;
use super::fault::ItemFault;
use super::item;
use super::items::Items;
use super::properties;
use super::reader::{LENGTH, Reader, key};
use super::run::MessageRunBuilder;
use super::run_scan::RunScan;
use super::varint::put_varint;

/// In `FieldTable`, an entry.
const ENTRY: u32 = key(1, LENGTH);
/// In an entry, its name.
const NAME: u32 = key(1, LENGTH);

impl Items {
    /// The same messages, of which these, in order, have no header of this name.
    ///
    /// # Errors
    /// A message is faulty, which none is that was checked.
    pub fn without_header(&self, name: &str, of: &[u32]) -> Result<Self, ItemFault> {
        self.edited(of, |item, properties, kept| {
            let mut reader = Reader::within(item, properties);
            while !reader.is_done() {
                let start = reader.position();
                match reader.key()? {
                    properties::HEADERS => {
                        let headers = headers_without(item, reader.range()?, name)?;
                        put_field(properties::HEADERS, &headers, kept);
                    }
                    key => {
                        reader.skip(key)?;
                        kept.put_slice(&item[start..reader.position()]);
                    }
                }
            }
            Ok(())
        })
    }

    /// The same messages, of which these, in order, have another `reply_to`.
    ///
    /// # Errors
    /// A message is faulty, which none is that was checked.
    pub fn with_reply_to(&self, address: &str, of: &[u32]) -> Result<Self, ItemFault> {
        self.edited(of, |item, properties, kept| {
            let mut reader = Reader::within(item, properties);
            while !reader.is_done() {
                let start = reader.position();
                match reader.key()? {
                    key @ properties::REPLY_TO_KEY => reader.skip(key)?,
                    key => {
                        reader.skip(key)?;
                        kept.put_slice(&item[start..reader.position()]);
                    }
                }
            }
            put_field(properties::REPLY_TO_KEY, address.as_bytes(), kept);
            Ok(())
        })
    }

    /// The same messages, of which these have other properties.
    fn edited(
        &self,
        of: &[u32],
        edit: impl Fn(&[u8], Range<usize>, &mut BytesMut) -> Result<(), ItemFault>,
    ) -> Result<Self, ItemFault> {
        let mut builder = MessageRunBuilder::default();
        let mut left = of.iter().copied().peekable();
        let mut item = BytesMut::new();
        for index in 0..self.len() {
            if left.next_if_eq(&(index as u32)).is_none() {
                builder.push(self.run.item(index));
                continue;
            }
            item.clear();
            append_edited(self.run.item(index), &edit, &mut item)?;
            builder.push(&item);
        }
        let bytes = builder.finish().bytes().clone();
        let mut scan = RunScan::default();
        match scan.scan(&bytes, 0) {
            true => Ok(scan.finish(bytes)),
            false => Err(ItemFault::Malformed { what: "no regular form", offset: scan.end() }),
        }
    }
}

/// Appends a stored item with other properties; all else stays as it is, byte for byte.
fn append_edited(
    item: &[u8],
    edit: impl Fn(&[u8], Range<usize>, &mut BytesMut) -> Result<(), ItemFault>,
    out: &mut BytesMut,
) -> Result<(), ItemFault> {
    let parts = regular_parts(item)?;
    let Some(properties) = parts.properties else {
        out.put_slice(item);
        return Ok(());
    };
    let mut kept = BytesMut::with_capacity(properties.len());
    edit(item, properties.clone(), &mut kept)?;
    let mut message = BytesMut::with_capacity(parts.message.len());
    put_field(item::PROPERTIES.into(), &kept, &mut message);
    message.put_slice(&item[properties.end..parts.message.end]);
    let mut content = BytesMut::with_capacity(item.len());
    put_field(item::MESSAGE.into(), &message, &mut content);
    content.put_slice(&item[parts.message.end..parts.end]);
    put_field(item::ITEMS.into(), &content, out);
    Ok(())
}

fn headers_without(bytes: &[u8], table: Range<usize>, name: &str) -> Result<BytesMut, ItemFault> {
    let mut kept = BytesMut::with_capacity(table.len());
    let mut reader = Reader::within(bytes, table);
    while !reader.is_done() {
        let start = reader.position();
        let key = reader.key()?;
        let is_named = match key {
            ENTRY => name_of(bytes, reader.range()?)? == name.as_bytes(),
            key => {
                reader.skip(key)?;
                false
            }
        };
        if !is_named {
            kept.put_slice(&bytes[start..reader.position()]);
        }
    }
    Ok(kept)
}

/// The name of an entry: the last one that it has, as decoders see it.
fn name_of(bytes: &[u8], entry: Range<usize>) -> Result<&[u8], ItemFault> {
    let mut name = &bytes[..0];
    let mut reader = Reader::within(bytes, entry);
    while !reader.is_done() {
        match reader.key()? {
            NAME => name = &bytes[reader.range()?],
            key => reader.skip(key)?,
        }
    }
    Ok(name)
}

fn put_field(key: u32, value: &[u8], out: &mut BytesMut) {
    put_varint(key.into(), out);
    put_varint(value.len() as u64, out);
    out.put_slice(value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::message::{DeliveredItem, Expiration, Text, encode_headers, encode_item};
    use crate::model::{FieldTable, FieldValue};
    use crate::pb;

    fn items(run: BytesMut) -> Items {
        let mut scan = RunScan::default();
        assert!(scan.scan(&run, 0));
        scan.finish(run.freeze())
    }

    fn decoded(items: &Items, index: usize) -> DeliveredItem {
        DeliveredItem::decode(&Bytes::copy_from_slice(items.run.item(index))).unwrap()
    }

    #[test]
    fn the_header_goes_and_all_else_stays() {
        let headers = FieldTable::from([("BCC", "b".into()), ("mine", FieldValue::Integer(7))]);
        let properties = pb::Properties {
            content_type: "text/plain".to_owned(),
            headers: Some((&headers).into()),
            expiration_ms: Some(5),
            ..pb::Properties::default()
        };
        let only = encode_headers(&FieldTable::from([("BCC", FieldValue::Void)]));
        let mut run = BytesMut::new();
        encode_item(&only, b"one", None, false, &mut run);
        encode_item(&properties.encode_to_vec(), &[b'x'; 300], Some("key"), true, &mut run);
        encode_item(&only, b"three", Some("k"), false, &mut run);
        let before = items(run);
        let after = before.without_header("BCC", &[0, 1]).unwrap();

        assert_eq!(after.with_further_keys(), [2], "that one was not asked for");
        assert_eq!((after.key(0), after.key(1), after.key(2)), (None, Some("key"), Some("k")));
        assert_eq!(after.expirations(), [Expiration { index: 1, after_millis: 5 }]);
        assert_eq!((after.body_bytes_max, after.body_bytes), (300, 308));
        assert_eq!(decoded(&after, 0).headers().unwrap(), Some(FieldTable::default()));
        let kept = decoded(&after, 1);
        assert_eq!((kept.resent, kept.routing_key.as_ref().map(Text::as_str)), (true, Some("key")));
        assert_eq!(kept.headers().unwrap(), Some(FieldTable::from([("mine", FieldValue::Integer(7))])));
        assert_eq!(kept.decode_properties().unwrap().content_type, "text/plain");
        assert_eq!(after.run.item(2), before.run.item(2));
    }

    /// Headers may come in two pieces, and with fields of later versions; decoders merge the one and skip the other.
    #[test]
    fn it_goes_from_every_piece() {
        let piece = |name: &str| encode_headers(&FieldTable::from([(name, FieldValue::Void)]));
        let later = [0xa2, 1, 3, b'n', b'e', b'w'];
        let properties = [&piece("BCC")[..], &later, &piece("b"), &piece("BCC")].concat();
        let mut run = BytesMut::new();
        encode_item(&properties, b"", None, false, &mut run);
        let after = items(run).without_header("BCC", &[0]).unwrap();
        let kept = decoded(&after, 0).properties.unwrap();
        let expected = [&[0x1a, 0][..], &later, &piece("b"), &[0x1a, 0]].concat();
        assert_eq!(kept, expected);
    }

    #[test]
    fn replies_are_wanted_elsewhere_and_all_else_stays() {
        let asking = pb::Properties {
            reply_to: crate::model::REPLY_TO.to_owned(),
            message_id: "m".to_owned(),
            expiration_ms: Some(5),
            ..pb::Properties::default()
        };
        let other = pb::Properties { reply_to: "mine".to_owned(), ..pb::Properties::default() };
        let mut run = BytesMut::new();
        encode_item(&asking.encode_to_vec(), b"one", Some("key"), false, &mut run);
        encode_item(&other.encode_to_vec(), b"two", None, false, &mut run);
        // Of several the last one holds, as decoders see it.
        let both = [asking.encode_to_vec(), other.encode_to_vec()].concat();
        encode_item(&both, b"three", None, false, &mut run);
        let both = [other.encode_to_vec(), asking.encode_to_vec()].concat();
        encode_item(&both, b"four", None, false, &mut run);
        let before = items(run);
        assert_eq!(before.asking_for_replies(), [0, 3]);
        let after = before.with_reply_to("there", &[0, 3]).unwrap();
        assert_eq!(after.asking_for_replies(), [0_u32; 0]);
        let reply_to = |index| decoded(&after, index).decode_properties().unwrap().reply_to;
        assert_eq!([0, 1, 2, 3].map(reply_to), ["there", "mine", "mine", "there"]);
        assert_eq!(decoded(&after, 0).decode_properties().unwrap().message_id, "m");
        assert_eq!((after.key(0), after.expirations()[0].index), (Some("key"), 0));
        assert_eq!((after.run.item(1), after.run.item(2)), (before.run.item(1), before.run.item(2)));
    }
}
