//! Every fault by name, and what the peer is told.

use crate::message::*;
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::super::*;
use super::encoded;
use crate::model::ReplyCode;

/// A Publish of three messages, of which the second is `item`.
fn frame_with(item: pb::PublishItem) -> Bytes {
    let plain = || pb::PublishItem { message: Some(pb::Message::default()), ..Default::default() };
    publish_of(vec![plain(), item, plain()])
}

fn publish_of(items: Vec<pb::PublishItem>) -> Bytes {
    let publish = pb::Publish { publisher: 7, first_sequence: 40, target: None, items };
    encoded(&pb::Frame { channel: 2, request: 0, body: Some(pb::frame::Body::Publish(publish)) })
}

fn item_with(properties: pb::Properties) -> pb::PublishItem {
    let message = pb::Message { properties: Some(properties), body: Bytes::from_static(b"body") };
    pb::PublishItem { message: Some(message), ..Default::default() }
}

fn nested_lists(levels: usize) -> pb::FieldValue {
    (0..levels).fold(pb::FieldValue::default(), |inner, _| pb::FieldValue {
        kind: Some(pb::field_value::Kind::List(pb::FieldList { values: vec![inner] })),
    })
}

fn headers(name: &str, value: pb::FieldValue) -> pb::Properties {
    let table = pb::FieldTable { fields: [(name.to_owned(), value)].into() };
    pb::Properties { headers: Some(table), ..Default::default() }
}

#[track_caller]
fn check_item(item: pb::PublishItem, expected: Result<(), ItemFault>) {
    let expected = expected.map_err(|why| WireError::BadItem {
        channel: 2,
        publisher: 7,
        first_sequence: 40,
        items: 3,
        index: 1,
        why,
    });
    assert_eq!(decode_frame(frame_with(item)).map(drop), expected);
}

#[test]
fn names_may_have_255_bytes() {
    let name = |bytes: usize| "é".repeat(bytes / 2) + if bytes % 2 == 1 { "x" } else { "" };
    type With = fn(String) -> pb::Properties;
    let properties: [(&str, With); 8] = [
        ("content_type", |content_type| pb::Properties { content_type, ..Default::default() }),
        ("content_encoding", |content_encoding| pb::Properties { content_encoding, ..Default::default() }),
        ("correlation_id", |correlation_id| pb::Properties { correlation_id, ..Default::default() }),
        ("reply_to", |reply_to| pb::Properties { reply_to, ..Default::default() }),
        ("message_id", |message_id| pb::Properties { message_id, ..Default::default() }),
        ("type", |r#type| pb::Properties { r#type, ..Default::default() }),
        ("user_id", |user_id| pb::Properties { user_id, ..Default::default() }),
        ("app_id", |app_id| pb::Properties { app_id, ..Default::default() }),
    ];
    for (field, with) in properties {
        check_item(item_with(with(name(255))), Ok(()));
        check_item(item_with(with(name(256))), Err(ItemFault::TooLong { field, bytes: 256 }));
    }
    check_item(item_with(headers(&name(255), pb::FieldValue::default())), Ok(()));
    check_item(
        item_with(headers(&name(256), pb::FieldValue::default())),
        Err(ItemFault::TooLong { field: "the name of a header", bytes: 256 }),
    );
    let keyed =
        |bytes| pb::PublishItem { routing_key: Some(name(bytes)), ..item_with(pb::Properties::default()) };
    check_item(keyed(255), Ok(()));
    check_item(keyed(256), Err(ItemFault::TooLong { field: "routing_key", bytes: 256 }));
}

#[test]
fn numbers_have_their_ranges() {
    let priority = |priority| item_with(pb::Properties { priority, ..Default::default() });
    check_item(priority(255), Ok(()));
    check_item(priority(256), Err(ItemFault::OutOfRange { field: "priority", value: 256, max: 255 }));
    let mode = |delivery_mode| item_with(pb::Properties { delivery_mode, ..Default::default() });
    check_item(mode(2), Ok(()));
    check_item(mode(3), Err(ItemFault::OutOfRange { field: "delivery_mode", value: 3, max: 2 }));
}

#[test]
fn tables_and_lists_nest_16_deep() {
    // The headers are the first level.
    check_item(item_with(headers("deep", nested_lists(15))), Ok(()));
    check_item(item_with(headers("deep", nested_lists(16))), Err(ItemFault::TooDeep { max: 16 }));
}

#[test]
fn an_item_needs_a_message() {
    check_item(pb::PublishItem::default(), Err(ItemFault::NoMessage));
    check_item(pb::PublishItem { message: Some(pb::Message::default()), ..Default::default() }, Ok(()));
}

/// Messages are encoded by hand here, since generated code cannot be made to write these.
#[track_caller]
fn check_bytes(item: &[u8], expected: Result<(), ItemFault>) {
    let frame = [&[0x1a, item.len() as u8 + 2, 0x2a, item.len() as u8], item].concat();
    let found = decode_frame(frame.into()).map(drop).map_err(|error| match error {
        WireError::BadItem { why, .. } => why,
        other => panic!("{other:?}"),
    });
    assert_eq!(found, expected);
}

#[test]
fn texts_are_utf_8() {
    check_bytes(
        &[0x0a, 0x05, 0x0a, 0x03, 0x0a, 0x01, 0xff],
        Err(ItemFault::NotUtf8 { field: "content_type" }),
    );
    check_bytes(&[0x0a, 0x00, 0x12, 0x01, 0xff], Err(ItemFault::NotUtf8 { field: "routing_key" }));
}

#[test]
fn messages_are_protobuf_throughout() {
    let wrong_type = "a property with another field's wire type";
    check_bytes(&[0x0a, 0x04, 0x0a, 0x02, 0x08, 0x01], Err(malformed(wrong_type, 9)));
    check_bytes(&[0x0a, 0x03, 0x12, 0x05, 0x00], Err(malformed("a length beyond the end", 8)));
    check_bytes(&[0x0a, 0x02, 0x08, 0x01], Err(malformed("a message with a wrong wire type", 7)));
    check_bytes(&[0x0a, 0x00, 0x1a, 0x00], Err(malformed("an item with a wrong wire type", 7)));
    check_bytes(&[0x0a, 0x02, 0x18, 0x01], Ok(()));
}

fn malformed(what: &'static str, offset: usize) -> ItemFault {
    ItemFault::Malformed { what, offset }
}

#[test]
fn what_only_the_server_may_say_does_not_pass() {
    let forged = pb::Deliver {
        items: vec![pb::DeliverItem {
            message: Some(pb::Message { properties: None, body: Bytes::from_static(b"x") }),
            routing_key: Some("key".into()),
            resent: true,
            redelivered: true,
            delivery_count: 9,
        }],
        ..Default::default()
    };
    // Publish and Deliver have the items under the same number.
    let contents = forged.encode_to_vec();
    let frame = [&[0x1a, contents.len() as u8], &contents[..]].concat();
    let Body::Publish(publish) = decode_frame(frame.into()).unwrap().body else { panic!("another kind") };
    let item = DeliveredItem::decode(&Bytes::copy_from_slice(publish.items.run.item(0))).unwrap();
    assert_eq!((item.resent, item.redelivered, item.delivery_count), (true, false, 0));
    assert_eq!((publish.items.key(0), &item.body[..]), (Some("key"), &b"x"[..]));
}

#[test]
fn frames_without_meaning() {
    assert_eq!(decode_frame(Bytes::new()).unwrap_err(), WireError::Empty);
    assert_eq!(decode_frame(Bytes::from_static(&[0x08, 1, 0x10, 2])).unwrap_err(), WireError::Empty);
    let unknown = Bytes::from_static(&[0x10, 77, 0xa2, 0x06, 0, 0x08, 5]);
    let error = decode_frame(unknown).unwrap_err();
    assert_eq!(error, WireError::UnknownFrame { field: 100, channel: 5, request: 77 });
    assert_eq!(error.refusal().code, ReplyCode::NotImplemented);
}

#[test]
fn a_side_may_send_its_own_kinds_only() {
    let frame = |body| encoded(&pb::Frame { channel: 3, request: 4, body: Some(body) });
    let deliver = frame(pb::frame::Body::Deliver(pb::Deliver::default()));
    let publish = frame(pb::frame::Body::Publish(pb::Publish::default()));
    let close = frame(pb::frame::Body::Close(pb::Close::default()));
    let wrong = |kind| Err(WireError::WrongSide { kind, channel: 3, request: 4 });
    for (bytes, sender, expected) in [
        (&deliver, Side::Server, Ok(())),
        (&deliver, Side::Client, wrong("Deliver")),
        (&publish, Side::Client, Ok(())),
        (&publish, Side::Server, wrong("Publish")),
        (&close, Side::Client, Ok(())),
        (&close, Side::Server, Ok(())),
    ] {
        assert_eq!(decode_frame_from(sender, bytes.clone()).map(drop), expected);
    }
}

#[test]
fn frames_without_messages_are_small() {
    let ranges = vec![pb::SettleRange::default(); CONTROL_FRAME_BYTES_MAX / 2];
    let mut settle = BytesMut::new();
    encode_settle(1, 1, 1, &ranges, &mut settle);
    let frame = split_frame(&mut settle, usize::MAX).unwrap().unwrap();
    let length = frame.len();
    assert_eq!(
        decode_frame_from(Side::Client, frame).map(drop),
        Err(WireError::TooLong { length, max: CONTROL_FRAME_BYTES_MAX })
    );
}

#[test]
fn every_body_number_is_known_by_name() {
    // Generated code and the table of kinds must know the same numbers.
    for number in 3..200u32 {
        let mut frame = BytesMut::new();
        prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut frame);
        frame.extend_from_slice(&[0]);
        let is_generated = pb::Frame::decode(frame.clone().freeze()).unwrap().body.is_some();
        assert_eq!(decode_frame(frame.freeze()).is_ok(), is_generated, "body {number}");
    }
}

#[test]
fn people_are_told_what_where_and_what_to_do() {
    let item = item_with(pb::Properties { priority: 300, ..Default::default() });
    let error = decode_frame(frame_with(item)).unwrap_err();
    assert_eq!(error.to_string(), "message 2 of 3 in the frame: priority may be 255 at most, not 300");
    let refusal = error.refusal();
    assert_eq!(refusal.code, ReplyCode::SyntaxError);
    assert_eq!(
        (refusal.field.as_str(), refusal.expected.as_str(), refusal.got.as_str()),
        ("priority", "0 to 255", "300")
    );

    let error = WireError::TooLong { length: 9000, max: 8192 };
    assert_eq!(error.to_string(), "a frame of 9000 bytes is longer than the 8192 allowed here");
    assert_eq!(error.refusal().code, ReplyCode::FrameError);
}
