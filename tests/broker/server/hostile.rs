//! Strangers, garbage and dawdlers: answered or dropped, and everybody else is served.

use bytes::BytesMut;
use leveret::wire::pb::frame::Body as Cold;
use leveret::wire::{encode_frame, pb};
use proptest::prelude::*;

use super::support::{Client, Served, Settings, connect};

/// What the server says to these bytes until it hangs up, and that it still serves others.
fn answer_to(bytes: &[u8]) -> Vec<u8> {
    let served = Served::start();
    let mut stranger = served.connect();
    stranger.send_bytes(bytes);
    let answer = stranger.rest();
    served.client().is_served();
    answer
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    frame
}

#[test]
fn an_http_request_is_told_what_this_is() {
    let answer = answer_to(b"GET / HTTP/1.1\r\nHost: localhost:7672\r\n\r\n");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("Leveret"), "{answer}");
}

#[test]
fn a_tls_hello_gets_a_tls_alert() {
    assert_eq!(answer_to(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), b"\x15\x03\x01\x00\x02\x02\x28");
}

#[test]
fn an_amqp_client_reads_a_version_mismatch() {
    let answer = answer_to(b"AMQP\x00\x00\x09\x01");
    assert!(answer.starts_with(b"AMQP\0\0\0\0"), "{answer:?}");
}

#[test]
fn a_first_length_beyond_the_limit_is_refused_before_anything_follows() {
    let served = Served::start();
    for length in [8193u32, 1 << 20, u32::MAX] {
        let mut client = served.connect();
        client.send_bytes(&length.to_be_bytes());
        assert_eq!(client.closed().unwrap().code, 501);
    }
    served.client().is_served();
}

#[test]
fn a_length_beyond_the_agreed_limit_ends_the_connection() {
    let served = Served::start();
    let mut client = served.client();
    client.send_bytes(&(2u32 << 20).to_be_bytes());
    let error = client.closed().unwrap();
    assert_eq!((error.code, error.field.as_str()), (501, "length"));
    served.client().is_served();
}

#[test]
fn a_frame_without_messages_may_not_be_as_large_as_one_with() {
    let served = Served::start();
    let mut client = served.client();
    let name = "x".repeat(1024 * 1024);
    client.tell(1, Cold::DeclareQueue(pb::DeclareQueue { name, ..Default::default() }));
    assert_eq!(client.closed().unwrap().code, 501);
}

#[test]
fn frames_that_are_none_end_the_connection_with_a_reason() {
    let served = Served::start();
    for garbage in [&b""[..], b"\x08", b"\xff\xff\xff\xff", b"\x08\x01", b"\x1a\x05\x00", b"\x07\x07\x07"] {
        let mut client = served.client();
        client.send_bytes(&framed(garbage));
        assert_eq!(client.closed().unwrap().code, 501, "{garbage:?}");
    }
    served.client().is_served();
}

#[test]
fn a_frame_of_the_server_from_a_client_ends_the_connection() {
    let served = Served::start();
    let mut client = served.client();
    client.tell(1, Cold::Done(pb::Done {}));
    assert_eq!(client.closed().unwrap().code, 503);
}

#[test]
fn an_unknown_kind_of_frame_is_answered_and_the_connection_goes_on() {
    let served = Served::start();
    let mut client = served.client();
    // Channel 1, request 9, and a body with number 99.
    client.send_bytes(&framed(&[0x08, 0x01, 0x10, 0x09, 0x9a, 0x06, 0x00]));
    assert!(matches!(client.answer(1, 9), Cold::Error(pb::Error { code: 540, .. })));
    client.is_served();
}

#[test]
fn half_a_frame_and_then_nothing_harms_nobody() {
    let served = Served::start();
    let mut half = served.client();
    half.send_bytes(&[0, 0, 1, 0, 0x08]);
    let mut other = served.client();
    other.is_served();
    drop(half);
    other.is_served();
}

#[test]
fn who_does_not_log_in_is_dropped() {
    let served = Served::start_with(Settings { handshake_ms: 200, ..Settings::default() });
    let mut silent = served.connect();
    let mut slow = served.connect();
    let mut login = BytesMut::new();
    encode_frame(0, 1, &Cold::Connect(connect()), &mut login);
    slow.send_bytes(&login[..login.len() / 2]);
    for dawdler in [&mut silent, &mut slow] {
        assert_eq!(dawdler.closed().unwrap().code, 320);
    }
    served.client().is_served();
}

#[test]
fn a_login_that_comes_byte_by_byte_is_a_login() {
    let served = Served::start();
    let mut client = served.connect();
    let mut login = BytesMut::new();
    encode_frame(0, 1, &Cold::Connect(connect()), &mut login);
    login.iter().for_each(|byte| client.send_bytes(&[*byte]));
    assert!(matches!(client.answer(0, 1), Cold::Connected(_)));
}

#[test]
fn one_connection_too_many_is_told_so() {
    let served = Served::start_with(Settings { connections_max: 2, ..Settings::default() });
    let mut first = served.client();
    let mut second = served.client();
    let mut third = served.connect();
    let error = third.closed().unwrap();
    assert_eq!((error.code, error.retryable), (506, true));
    first.is_served();
    second.is_served();
    drop(first);
    // The place is free as soon as the server has seen the end.
    loop {
        let mut next = served.connect();
        next.send(0, 1, Cold::Connect(connect()));
        match next.next().body {
            leveret::wire::Body::Other(body) if matches!(*body, Cold::Connected(_)) => break,
            _ => continue,
        }
    }
}

#[test]
fn who_sends_no_heartbeats_is_dropped_and_who_does_is_not() {
    let served = Served::start_with(Settings { heartbeat_seconds: 1, ..Settings::default() });
    let mut silent = served.client();
    let mut alive = served.client();
    let watcher = std::thread::spawn(move || {
        while let Some(frame) = silent.try_next() {
            assert!(is_heartbeat(&frame), "{frame:?}");
        }
    });
    while !watcher.is_finished() {
        // Each of the server's heartbeats is answered by one.
        let frame = alive.next();
        assert!(is_heartbeat(&frame), "{frame:?}");
        alive.tell(0, Cold::Heartbeat(pb::Heartbeat {}));
    }
    watcher.join().unwrap();
    alive.tell(0, Cold::Heartbeat(pb::Heartbeat {}));
    close(&mut alive);
}

/// Says goodbye, and reads heartbeats until the server says it, too.
fn close(client: &mut Client) {
    client.tell(0, Cold::Close(pb::Close { error: None }));
    while let Some(frame) = client.try_next() {
        if !is_heartbeat(&frame) {
            assert!(
                matches!(&frame.body, leveret::wire::Body::Other(body) if matches!(**body, Cold::Close(_)))
            );
        }
    }
}

fn is_heartbeat(frame: &leveret::wire::WireFrame) -> bool {
    matches!(&frame.body, leveret::wire::Body::Other(body) if matches!(**body, Cold::Heartbeat(_)))
}

#[test]
fn random_bytes_after_a_login_never_stop_the_server() {
    let served = Served::start();
    let mut witness = served.client();
    proptest!(ProptestConfig::with_cases(200), |(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..8))| {
        let mut client = served.client();
        for frame in &frames {
            client.send_bytes(&framed(frame));
        }
        client.tell(0, Cold::Close(pb::Close { error: None }));
        client.rest();
    });
    witness.is_served();
}

#[test]
fn valid_frames_in_any_order_never_stop_the_server() {
    let served = Served::start();
    let mut witness = served.client();
    let frame = prop_oneof![
        any::<u32>().prop_map(|consumer| Cold::Credit(pb::Credit { consumer, add: 1 })),
        any::<u32>().prop_map(|consumer| Cold::CancelConsumer(pb::CancelConsumer { consumer })),
        any::<u32>().prop_map(|publisher| Cold::ClosePublisher(pb::ClosePublisher { publisher })),
        any::<u32>().prop_map(|publisher| Cold::OpenPublisher(pb::OpenPublisher { publisher, target: None })),
        (any::<u32>(), any::<u64>(), any::<u64>(), any::<i32>()).prop_map(
            |(consumer, first, last, outcome)| {
                Cold::Settle(pb::Settle {
                    consumer,
                    ranges: vec![pb::SettleRange { first, last, outcome, delay_ms: None }],
                })
            }
        ),
        (0u32..4, 0u64..4, 0u64..4).prop_map(|(consumer, first, last)| {
            Cold::Settle(pb::Settle {
                consumer,
                ranges: vec![pb::SettleRange { first, last, outcome: 1, delay_ms: None }],
            })
        }),
        (0u32..3).prop_map(|consumer| Cold::Consume(pb::Consume {
            queue: "q".to_owned(),
            consumer,
            ..Default::default()
        })),
        any::<bool>().prop_map(|no_ack| Cold::Get(pb::Get { queue: "q".to_owned(), no_ack })),
        Just(Cold::CloseChannel(pb::CloseChannel {})),
        Just(Cold::OpenChannel(pb::OpenChannel {})),
        Just(Cold::DeclareQueue(pb::DeclareQueue { name: "q".to_owned(), ..Default::default() })),
        Just(Cold::DeleteQueue(pb::DeleteQueue { name: "q".to_owned(), ..Default::default() })),
        Just(Cold::Bind(pb::Bind { binding: None })),
        any::<i32>().prop_map(|kind| Cold::List(pb::List { kind, page_size: 3, ..Default::default() })),
    ];
    let sent = (0u32..3, 0u64..3, frame);
    proptest!(ProptestConfig::with_cases(200), |(frames in prop::collection::vec(sent, 1..30))| {
        let mut client = served.client();
        for (channel, request, body) in frames {
            client.send(channel, request, body);
        }
        client.tell(0, Cold::Close(pb::Close { error: None }));
        let mut last = None;
        while let Some(frame) = client.try_next() {
            last = Some(frame);
        }
        let last = last.unwrap();
        prop_assert!(matches!(&last.body, leveret::wire::Body::Other(body) if matches!(**body, Cold::Close(_))), "{:?}", last);
    });
    witness.is_served();
}
