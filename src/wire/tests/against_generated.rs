//! What is read and written by hand is what generated code reads and writes.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use super::super::*;
use super::{encoded, generated, scrambled, with_prefix};
use crate::message::*;

/// Reads a frame both ways. The hand-written reader may refuse more, but only for the rules that protobuf does not
/// know; what both accept must be equal.
#[track_caller]
pub(super) fn check_reading(bytes: Bytes) {
    let by_generated = pb::Frame::decode(bytes.clone());
    let by_hand = decode_frame(bytes.clone());
    match (&by_hand, by_generated) {
        (Ok(frame), Ok(expected)) => match generated(frame) {
            Ok(frame) => assert_eq!(encoded(&frame), encoded(&expected)),
            Err(fault) => assert!(is_rule_of_ours(fault), "{fault:?} in a frame that generated code takes"),
        },
        // A consumer looks at messages one by one; the fault must show there.
        (Ok(frame), Err(_)) if !has_overridden_body(&bytes) => {
            assert!(generated(frame).is_err(), "{:02x?} is refused by generated code", &bytes[..]);
        }
        (Err(WireError::BadItem { why, items, index, .. }), Ok(expected)) => {
            assert!(is_rule_of_ours(*why), "{why:?} in a frame that generated code takes");
            let Some(pb::frame::Body::Publish(publish)) = expected.body else { panic!("not a Publish") };
            assert_eq!(publish.items.len(), *items as usize);
            assert!(index < items);
        }
        (Err(WireError::Empty | WireError::UnknownFrame { .. }), Ok(expected)) => {
            assert_eq!(expected.body, None);
        }
        (Err(error), Ok(_)) => panic!("{error:?} in a frame that generated code takes"),
        (_, Err(_)) => {}
    }
}

/// Of several bodies the last one counts, and a reader by hand does not look into the others.
fn has_overridden_body(frame: &[u8]) -> bool {
    let mut reader = Reader::new(frame);
    let mut numbers = Vec::new();
    while !reader.is_done() {
        let key = reader.key().unwrap();
        reader.skip(key).unwrap();
        numbers.extend(kinds::kind(key >> 3).map(|_| key >> 3));
    }
    numbers.dedup();
    numbers.len() > 1
}

fn is_rule_of_ours(fault: ItemFault) -> bool {
    matches!(
        fault,
        ItemFault::TooLong { .. }
            | ItemFault::OutOfRange { .. }
            | ItemFault::TooDeep { .. }
            | ItemFault::NoMessage
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_form_of_a_frame_is_read_alike(bytes in scrambled::frame()) {
        check_reading(bytes.into());
    }

    #[test]
    fn what_was_stored_is_read_alike_once_more(bytes in scrambled::frame()) {
        if let Ok(WireFrame { body: Body::Publish(publish), .. }) = decode_frame(bytes.into()) {
            let mut again = BytesMut::new();
            let run = publish.items.run.bytes();
            encode_publish_head(1, 2, 3, None, run.len(), &mut again);
            again.extend_from_slice(run);
            let frame = split_frame(&mut again, usize::MAX).unwrap().unwrap();
            let Body::Publish(second) = decode_frame(frame).unwrap().body else { panic!("another kind") };
            prop_assert_eq!(second.items.run.bytes(), run);
            prop_assert_eq!(second.items.run.ends(), publish.items.run.ends());
        }
    }
}

fn properties() -> impl Strategy<Value = Option<pb::Properties>> {
    let headers = option::of(("[a-z]{0,5}", any::<i64>()));
    let properties = ("[a-z/]{0,10}", 0u32..=255, option::of(any::<u64>()), headers).prop_map(
        |(content_type, priority, expiration_ms, header)| pb::Properties {
            content_type,
            priority,
            expiration_ms,
            headers: header.map(|(name, value)| pb::FieldTable {
                fields: [(name, pb::FieldValue { kind: Some(pb::field_value::Kind::Integer(value)) })].into(),
            }),
            ..Default::default()
        },
    );
    // Properties that are all default encode to nothing and come back as absent.
    option::of(properties).prop_map(|properties| properties.filter(|properties| properties.encoded_len() > 0))
}

fn item() -> impl Strategy<Value = pb::PublishItem> {
    let body = vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    (properties(), body, option::of("[a-zé.]{0,100}"), any::<bool>()).prop_map(
        |(properties, body, routing_key, resent)| pb::PublishItem {
            message: Some(pb::Message { properties, body }),
            routing_key,
            resent,
        },
    )
}

fn publish() -> impl Strategy<Value = pb::Publish> {
    let target = ("[a-z]{0,200}", "[a-z]{0,200}", any::<bool>(), any::<bool>()).prop_map(
        |(exchange, routing_key, mandatory, transient)| pb::PublishTarget {
            exchange,
            routing_key,
            mandatory,
            transient,
        },
    );
    (any::<u32>(), any::<u64>(), option::of(target), vec(item(), 0..6)).prop_map(
        |(publisher, first_sequence, target, items)| pb::Publish { publisher, first_sequence, target, items },
    )
}

/// Small numbers and the largest, where lengths of varints change.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..300, any::<u64>(), (0u32..64).prop_map(|bit| 1 << bit), Just(u64::MAX)]
}

fn encode_items(items: &[pb::PublishItem]) -> BytesMut {
    let mut run = BytesMut::new();
    for item in items {
        let message = item.message.as_ref().unwrap();
        let properties =
            message.properties.as_ref().map(|properties| properties.encode_to_vec()).unwrap_or_default();
        let before = run.len();
        encode_item(&properties, &message.body, item.routing_key.as_deref(), item.resent, &mut run);
        let expected = item_len(&properties, &message.body, item.routing_key.as_deref(), item.resent);
        assert_eq!(run.len() - before, expected);
    }
    run
}

proptest! {
    #[test]
    fn publish_is_written_alike(channel in any::<u32>(), publish in publish()) {
        let run = encode_items(&publish.items);
        let mut by_hand = BytesMut::new();
        let (publisher, first) = (publish.publisher, publish.first_sequence);
        encode_publish_head(channel, publisher, first, publish.target.as_ref(), run.len(), &mut by_hand);
        prop_assert!(by_hand.len() <= LENGTH_PREFIX_BYTES + PUBLISH_HEAD_BYTES_MAX);
        by_hand.extend_from_slice(&run);
        let frame = pb::Frame { channel, request: 0, body: Some(pb::frame::Body::Publish(publish)) };
        prop_assert_eq!(&by_hand, &with_prefix(&frame));
        check_reading(by_hand.freeze().slice(LENGTH_PREFIX_BYTES..));
    }

    #[test]
    fn deliver_is_written_alike(
        (channel, consumer) in any::<(u32, u32)>(),
        first_tag in number(),
        (exchange, routing_key) in ("[a-z]{0,255}", "[a-z]{0,255}"),
        items in vec((item(), any::<bool>(), prop_oneof![Just(0), any::<u32>()]), 0..5),
    ) {
        let mut run = BytesMut::new();
        let mut expected = Vec::new();
        for (item, redelivered, delivery_count) in items {
            let stored = encode_items(std::slice::from_ref(&item));
            let before = run.len();
            encode_redelivered_item(&stored, redelivered, delivery_count, &mut run).unwrap();
            prop_assert!(run.len() - before <= stored.len() + REDELIVERED_BYTES_MAX);
            let view = DeliveredView {
                body: item.message.as_ref().map_or(&[], |message| &message.body),
                routing_key: item.routing_key.as_deref(),
                resent: item.resent,
                redelivered,
                delivery_count,
            };
            prop_assert_eq!(DeliveredView::of(&run[before..]), Some(view));
            expected.push(pb::DeliverItem {
                message: item.message,
                routing_key: item.routing_key,
                resent: item.resent,
                redelivered,
                delivery_count,
            });
        }
        let mut by_hand = BytesMut::new();
        encode_deliver_head(channel, consumer, first_tag, &exchange, &routing_key, run.len(), &mut by_hand);
        prop_assert!(by_hand.len() <= LENGTH_PREFIX_BYTES + DELIVER_HEAD_BYTES_MAX);
        by_hand.extend_from_slice(&run);
        let deliver = pb::Deliver { consumer, first_tag, exchange, routing_key, items: expected };
        let frame = pb::Frame { channel, request: 0, body: Some(pb::frame::Body::Deliver(deliver)) };
        prop_assert_eq!(&by_hand, &with_prefix(&frame));
        check_reading(by_hand.freeze().slice(LENGTH_PREFIX_BYTES..));
    }

    #[test]
    fn confirm_is_written_alike(
        (channel, publisher) in any::<(u32, u32)>(),
        ranges in vec((number(), number(), any::<i32>(), any::<u32>(), option::of("[a-z]{0,200}"), number()), 0..4),
    ) {
        let ranges: Vec<_> = ranges.into_iter().map(|(first, last, level, queues, refusal, first_journey)| pb::ConfirmRange {
            first,
            last,
            level,
            queues,
            refusal: refusal.map(|text| pb::Error { code: 506, text, retryable: true, ..Default::default() }),
            first_journey,
        }).collect();
        let mut by_hand = BytesMut::new();
        encode_confirm(channel, publisher, &ranges, &mut by_hand);
        let body = pb::frame::Body::Confirm(pb::Confirm { publisher, ranges });
        let frame = pb::Frame { channel, request: 0, body: Some(body.clone()) };
        prop_assert_eq!(&by_hand, &with_prefix(&frame));
        let mut generic = BytesMut::new();
        encode_frame(channel, 0, &body, &mut generic);
        prop_assert_eq!(&by_hand, &generic);
        check_reading(by_hand.freeze().slice(LENGTH_PREFIX_BYTES..));
    }

    #[test]
    fn settle_is_written_alike(
        (channel, consumer) in any::<(u32, u32)>(),
        request in number(),
        ranges in vec((number(), number(), any::<i32>(), option::of(number())), 0..4),
    ) {
        let ranges: Vec<_> = ranges
            .into_iter()
            .map(|(first, last, outcome, delay_ms)| pb::SettleRange { first, last, outcome, delay_ms })
            .collect();
        let mut by_hand = BytesMut::new();
        encode_settle(channel, request, consumer, &ranges, &mut by_hand);
        let body = pb::frame::Body::Settle(pb::Settle { consumer, ranges });
        let frame = pb::Frame { channel, request, body: Some(body) };
        prop_assert_eq!(&by_hand, &with_prefix(&frame));
        check_reading(by_hand.freeze().slice(LENGTH_PREFIX_BYTES..));
    }

    #[test]
    fn return_and_got_are_written_alike(
        (channel, count) in any::<(u32, u32)>(),
        (request, number) in (number(), number()),
        (exchange, routing_key) in ("[a-z]{0,9}", "[a-z]{0,9}"),
        item in item(),
        is_redelivered in any::<bool>(),
    ) {
        let stored = encode_items(std::slice::from_ref(&item));
        let returned = pb::Return {
            publisher: count,
            sequence: number,
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            reason: Some(pb::Error { code: 312, ..Default::default() }),
            message: None,
        };
        let mut by_hand = BytesMut::new();
        encode_return(channel, returned.clone(), &stored, &mut by_hand).unwrap();
        let returned = pb::Return { message: item.message.clone(), ..returned };
        let body = Some(pb::frame::Body::Return(returned));
        prop_assert_eq!(by_hand, with_prefix(&pb::Frame { channel, request: 0, body }));

        let mut wrapped = BytesMut::new();
        encode_redelivered_item(&stored, is_redelivered, count, &mut wrapped).unwrap();
        let got = pb::Got { item: None, tag: number, exchange, routing_key, messages_ready: number };
        let mut by_hand = BytesMut::new();
        encode_got(channel, request, got.clone(), &wrapped, &mut by_hand).unwrap();
        let pb::PublishItem { message, routing_key, resent } = item;
        let redelivered = is_redelivered;
        let item = pb::DeliverItem { message, routing_key, resent, redelivered, delivery_count: count };
        let body = Some(pb::frame::Body::Got(pb::Got { item: Some(item), ..got }));
        prop_assert_eq!(by_hand, with_prefix(&pb::Frame { channel, request, body }));
    }

    #[test]
    fn an_item_sent_again_differs_in_that_alone(item in item()) {
        let stored = encode_items(std::slice::from_ref(&item));
        let mut resent = BytesMut::new();
        encode_resent_item(&stored, &mut resent).unwrap();
        let expected = pb::PublishItem { resent: true, ..item };
        prop_assert_eq!(resent, encode_items(&[expected]));
    }
}
