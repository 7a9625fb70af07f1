//! Cutting streams into frames, and who does not speak in frames at all.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use tokio_util::codec::{Decoder, Encoder};

use super::super::*;
use super::{generated, with_prefix};
use crate::model::FRAME_BYTES_MAX_BEFORE_LOGIN;

fn heartbeat(request: u64) -> pb::Frame {
    pb::Frame { channel: 0, request, body: Some(pb::frame::Body::Heartbeat(pb::Heartbeat {})) }
}

proptest! {
    #[test]
    fn frames_survive_any_cutting_of_the_stream(
        requests in vec(1u64..1 << 40, 1..8),
        cuts in vec(1usize..12, 1..60),
    ) {
        let mut stream = BytesMut::new();
        for &request in &requests {
            stream.extend_from_slice(&with_prefix(&heartbeat(request)));
        }
        let mut codec = FrameCodec { frame_bytes_max: 100, peer: Side::Client };
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        let mut cuts = cuts.into_iter().cycle();
        while !stream.is_empty() {
            let cut = cuts.next().unwrap().min(stream.len());
            buffer.extend_from_slice(&stream.split_to(cut));
            while let Some(frame) = codec.decode(&mut buffer).unwrap() {
                found.push(frame.request);
            }
        }
        prop_assert_eq!(found, requests);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn foreign_is_exactly_what_cannot_be_a_first_frame(first in any::<[u8; 4]>()) {
        let length = u32::from_be_bytes(first) as usize;
        prop_assert_eq!(Foreign::recognise(first).is_some(), length > FRAME_BYTES_MAX_BEFORE_LOGIN);
    }
}

#[test]
fn the_limit_is_the_last_length_taken() {
    let frame = with_prefix(&heartbeat(300));
    let length = frame.len() - LENGTH_PREFIX_BYTES;
    assert!(split_frame(&mut frame.clone(), length).unwrap().is_some());
    let error = split_frame(&mut frame.clone(), length - 1).unwrap_err();
    assert_eq!(error, WireError::TooLong { length, max: length - 1 });
    assert_eq!(split_frame(&mut BytesMut::from(&[0; 4][..]), 10), Err(WireError::Empty));
}

#[test]
fn the_codec_writes_what_it_reads_and_keeps_the_limit() {
    let mut codec = FrameCodec { frame_bytes_max: 20, peer: Side::Server };
    let mut buffer = BytesMut::new();
    codec.encode(heartbeat(5), &mut buffer).unwrap();
    assert_eq!(buffer, with_prefix(&heartbeat(5)));
    let read = codec.decode(&mut buffer).unwrap().unwrap();
    assert_eq!(generated(&read).unwrap(), heartbeat(5));

    let empty = pb::Frame::default();
    assert!(matches!(codec.encode(empty, &mut buffer), Err(CodecError::Wire(WireError::Empty))));
    let long = pb::PurgeQueue { name: "x".repeat(30) };
    let long = pb::Frame { channel: 1, request: 1, body: Some(pb::frame::Body::PurgeQueue(long)) };
    assert!(matches!(codec.encode(long, &mut buffer), Err(CodecError::Wire(WireError::TooLong { .. }))));
    assert!(buffer.is_empty());
}

#[track_caller]
fn check_foreign(first: &[u8; 4], name: &str, answer_begins: &[u8]) {
    let foreign = Foreign::recognise(*first).unwrap();
    assert_eq!(foreign.name(), name);
    let answer = foreign.answer();
    assert!(answer.starts_with(answer_begins), "{:?}", Bytes::from(answer));
}

#[test]
fn others_are_answered_in_their_own_language() {
    check_foreign(b"AMQP", "AMQP", b"AMQP\0\0\0\0This is Leveret");
    for method in [b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI "] {
        check_foreign(method, "HTTP", b"HTTP/1.1 400 Bad Request\r\n");
    }
    check_foreign(&[0x16, 0x03, 0x01, 0x02], "TLS", &[0x15, 0x03, 0x01, 0x00, 0x02, 0x02]);
    check_foreign(b"SSH-", "an unknown protocol", &[0, 0]);
    assert_eq!(Foreign::recognise([0, 0, 0x20, 0]), None);
    assert!(Foreign::recognise([0, 0, 0x20, 1]).is_some());
}

#[test]
fn an_http_answer_says_its_own_length() {
    let answer = String::from_utf8(Foreign::Http.answer()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(body.contains("docs/PROTOCOL.md"), "{body}");
}

#[test]
fn strangers_get_a_close_frame_within_the_first_limit() {
    let mut answer = BytesMut::from(&Foreign::recognise(*b"\x10\x2f\x00\x04").unwrap().answer()[..]);
    let frame = split_frame(&mut answer, FRAME_BYTES_MAX_BEFORE_LOGIN).unwrap().unwrap();
    let Some(pb::frame::Body::Close(close)) = pb::Frame::decode(frame).unwrap().body else {
        panic!("no Close")
    };
    let error = close.error.unwrap();
    assert_eq!((error.code, error.field.as_str(), error.got.as_str()), (501, "length", "271515652"));
    assert!(answer.is_empty());
}
