//! Looking into stored and delivered messages.

use crate::message::*;
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::super::*;
use crate::model::{FieldTable, FieldValue};

fn stored(properties: &[u8], body: &[u8], routing_key: Option<&str>, resent: bool) -> Bytes {
    let mut item = BytesMut::new();
    encode_item(properties, body, routing_key, resent, &mut item);
    item.freeze()
}

fn with_headers() -> Vec<u8> {
    let table = FieldTable::from([("format", FieldValue::from("pdf")), ("pages", FieldValue::Integer(3))]);
    let headers = Some(pb::FieldTable::from(&table));
    pb::Properties { content_type: "text/plain".into(), headers, ..Default::default() }.encode_to_vec()
}

#[test]
fn a_delivered_item_shares_the_frames_memory() {
    let item = stored(&with_headers(), b"payload", Some("key"), false);
    let delivered = DeliveredItem::decode(&item).unwrap();
    let frame = item.as_ptr_range();
    for part in [&delivered.body, delivered.properties.as_ref().unwrap()] {
        assert!(frame.contains(&part.as_ptr()), "a part was copied");
    }
    assert_eq!(&delivered.body[..], b"payload");
    assert_eq!(delivered.routing_key.as_ref().map(Text::as_str), Some("key"));
    assert_eq!(delivered.decode_properties().unwrap().content_type, "text/plain");
}

#[test]
fn a_published_run_is_a_slice_of_its_frame() {
    let run = stored(&with_headers(), b"payload", None, false);
    let mut buffer = BytesMut::new();
    encode_publish_head(1, 1, 1, None, run.len(), &mut buffer);
    buffer.extend_from_slice(&run);
    let frame = split_frame(&mut buffer, usize::MAX).unwrap().unwrap();
    let memory = frame.as_ptr_range();
    let Body::Publish(publish) = decode_frame(frame).unwrap().body else { panic!("another kind") };
    assert_eq!(publish.items.run.bytes(), &run);
    assert!(memory.contains(&publish.items.run.bytes().as_ptr()), "the run was copied");
}

#[test]
fn headers_are_found_and_only_they() {
    let expected = FieldTable::from([("format", FieldValue::from("pdf")), ("pages", FieldValue::Integer(3))]);
    let item = stored(&with_headers(), b"", None, false);
    assert_eq!(headers_of(&item), Ok(Some(expected.clone())));
    assert_eq!(DeliveredItem::decode(&item).unwrap().headers(), Ok(Some(expected)));
    assert_eq!(headers_of(&stored(&[], b"body", None, false)), Ok(None));
    let without = pb::Properties { priority: 4, ..Default::default() }.encode_to_vec();
    assert_eq!(headers_of(&stored(&without, b"body", None, false)), Ok(None));
}

#[test]
fn a_stored_message_can_be_sent_back() {
    let item = stored(&with_headers(), b"body", Some("key"), true);
    let message = message_of(&item).unwrap();
    assert_eq!(&message.body[..], b"body");
    assert_eq!(message.properties.unwrap().encode_to_vec(), with_headers());
}

#[test]
fn wrapping_replaces_what_was_wrapped_before() {
    let item = stored(&[], b"body", Some("key"), true);
    let mut once = BytesMut::new();
    encode_redelivered_item(&item, true, 70_000, &mut once).unwrap();
    let mut twice = BytesMut::new();
    encode_redelivered_item(&once, false, 2, &mut twice).unwrap();
    let delivered = DeliveredItem::decode(&twice.freeze()).unwrap();
    assert_eq!((delivered.redelivered, delivered.delivery_count, delivered.resent), (false, 2, true));
    let mut plain = BytesMut::new();
    encode_redelivered_item(&once, false, 0, &mut plain).unwrap();
    assert_eq!(plain, item);
}

#[test]
fn later_fields_of_a_message_are_passed_on() {
    // Field 9 of Message, which no version has yet, behind the body.
    let item = Bytes::from_static(&[0x2a, 0x07, 0x0a, 0x05, 0x12, 0x01, b'x', 0x48, 0x01]);
    let mut buffer = BytesMut::new();
    encode_publish_head(1, 1, 1, None, item.len(), &mut buffer);
    buffer.extend_from_slice(&item);
    let frame = split_frame(&mut buffer, usize::MAX).unwrap().unwrap();
    let Body::Publish(publish) = decode_frame(frame).unwrap().body else { panic!("another kind") };
    assert_eq!(publish.items.run.bytes(), &item);
    assert_eq!(publish.items.body_bytes, 1);
}

#[test]
fn keys_belong_to_their_messages() {
    let items = [None, Some("a"), None, Some(""), Some("long.key"), None];
    let mut run = BytesMut::new();
    for key in items {
        encode_item(&[], b"x", key, false, &mut run);
    }
    let mut buffer = BytesMut::new();
    encode_publish_head(1, 1, 1, None, run.len(), &mut buffer);
    buffer.extend_from_slice(&run);
    let frame = split_frame(&mut buffer, usize::MAX).unwrap().unwrap();
    let Body::Publish(publish) = decode_frame(frame).unwrap().body else { panic!("another kind") };
    assert!(publish.items.has_keys());
    let found: Vec<_> = (0..items.len()).map(|index| publish.items.key(index)).collect();
    assert_eq!(found, items);
    assert_eq!(publish.items.key(items.len()), None);
}
