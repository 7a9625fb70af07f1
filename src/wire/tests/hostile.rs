//! Bytes that no honest peer sends.

use crate::message::*;
use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::against_generated::check_reading;
use super::scrambled;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_are_read_alike(bytes in vec(any::<u8>(), 0..200)) {
        check_reading(bytes.into());
    }

    #[test]
    fn random_contents_of_hot_frames_are_read_alike(
        key in prop_oneof![Just(0x1au8), Just(0x22), Just(0x32), Just(0x3a)],
        contents in vec(prop_oneof![0u8..0x40, any::<u8>()], 0..100),
    ) {
        let mut frame = BytesMut::new();
        frame.put_slice(&[key, contents.len() as u8]);
        frame.put_slice(&contents);
        check_reading(frame.freeze());
    }

    #[test]
    fn damaged_frames_are_read_alike(
        mut bytes in scrambled::frame(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>(), 0u8..3), 1..4),
    ) {
        for (place, byte, kind) in damage {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => bytes.truncate(place),
            }
        }
        check_reading(bytes.into());
    }

    #[test]
    fn random_bytes_as_an_item_never_panic(bytes in vec(any::<u8>(), 0..100)) {
        let item = Bytes::from(bytes);
        let decoded = DeliveredItem::decode(&item).inspect(|item| {
            let _ = (item.headers(), item.decode_properties());
        });
        if let Some(view) = DeliveredView::of(&item) {
            prop_assert_eq!(decoded.map(|item| item.body), Ok(Bytes::copy_from_slice(view.body)));
        }
        let _ = headers_of(&item);
        let _ = message_of(&item);
        let mut out = BytesMut::new();
        let _ = encode_redelivered_item(&item, true, 7, &mut out);
        let _ = encode_resent_item(&item, &mut out);
        let _ = encode_return(1, pb::Return::default(), &item, &mut out);
        let _ = encode_got(1, 1, pb::Got::default(), &item, &mut out);
    }

    #[test]
    fn any_stream_of_bytes_is_cut_without_panic(
        bytes in vec(any::<u8>(), 0..100),
        max in prop_oneof![Just(0usize), 0usize..100, Just(usize::MAX)],
    ) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = split_frame(&mut buffer, max) {
            prop_assert!(frame.len() <= max);
            let _ = decode_frame_from(Side::Client, frame.clone());
            let _ = decode_frame_from(Side::Server, frame);
        }
    }
}

#[test]
fn an_announced_frame_reserves_a_bounded_step_only() {
    let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3][..]);
    assert_eq!(split_frame(&mut buffer, usize::MAX), Ok(None));
    assert!(buffer.capacity() <= 256 * 1024, "{} bytes reserved for 7 that arrived", buffer.capacity());
}

#[test]
fn deep_groups_are_refused_and_do_not_exhaust_the_stack() {
    let opening = [0xab, 0x06].repeat(1_000_000);
    assert!(matches!(decode_frame(opening.into()), Err(WireError::Malformed { .. })));
}

#[test]
fn deep_tables_are_refused_and_do_not_exhaust_the_stack() {
    // Each level is a list in a value: `FieldValue.list` (9) holding `FieldList.values` (1).
    let mut value: Vec<u8> = Vec::new();
    for _ in 0..2000 {
        for key in [0x0a, 0x4a] {
            let mut outer = BytesMut::new();
            outer.put_u8(key);
            prost::encoding::encode_varint(value.len() as u64, &mut outer);
            outer.put_slice(&value);
            value = outer.to_vec();
        }
    }
    let message = wrap(0x0a, wrap(0x0a, wrap(0x1a, wrap(0x0a, wrap(0x12, value)))));
    let frame = wrap(0x1a, wrap(0x2a, message));
    let error = decode_frame(frame.into()).unwrap_err();
    assert!(matches!(error, WireError::BadItem { why: ItemFault::TooDeep { max: 16 }, .. }), "{error:?}");
}

fn wrap(key: u8, contents: Vec<u8>) -> Vec<u8> {
    let mut outer = BytesMut::new();
    outer.put_u8(key);
    prost::encoding::encode_varint(contents.len() as u64, &mut outer);
    outer.put_slice(&contents);
    outer.to_vec()
}
