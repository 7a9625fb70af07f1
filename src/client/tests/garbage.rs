//! A server that breaks the protocol gets told, and the application a typed error.

use proptest::prelude::*;

use super::server::{Server, connected, range, soon};
use crate::client::{CloseReason, ConnectError, Connection, Event};
use crate::wire::pb::{self, frame::Body};

/// Sends `bytes` on a connection with a channel, a publisher that has sent 3 messages, and a consumer; why it closed.
async fn closed_after(bytes: &[u8]) -> String {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let (publisher, _) = tokio::join!(soon(channel.publisher("x", "k").open()), peer.done("OpenPublisher"));
    let publisher = publisher.unwrap();
    let (consumer, _) = tokio::join!(soon(channel.consume("q").start()), peer.consuming());
    for _ in 0..3 {
        soon(publisher.send("m")).await.unwrap();
    }
    peer.published().await;
    let mut events = connection.events();
    peer.send_bytes(bytes).await;
    let reason = match soon(events.next()).await {
        Some(Event::Closed(reason)) => reason,
        other => panic!("expected the end, got {other:?}"),
    };
    assert!(matches!(reason, CloseReason::Protocol(_)), "{reason:?}");
    match peer.expect().await {
        (0, 0, Body::Close(pb::Close { error: Some(error) })) => assert_eq!(error.code, 501),
        other => panic!("the server is told, not {other:?}"),
    }
    peer.expect_hang_up().await;
    assert!(publisher.send("m").await.is_err());
    drop(consumer);
    reason.to_string()
}

fn frame(channel: u32, request: u64, body: Body) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    crate::wire::encode_frame(channel, request, &body, &mut bytes);
    bytes.to_vec()
}

fn confirm(ranges: Vec<pb::ConfirmRange>) -> Vec<u8> {
    frame(1, 0, Body::Confirm(pb::Confirm { publisher: 1, ranges }))
}

#[tokio::test]
async fn every_breach_closes_the_connection_with_a_reason() {
    let deliver = |first_tag| pb::Deliver {
        consumer: 1,
        first_tag,
        items: vec![pb::DeliverItem::default(); 2],
        ..Default::default()
    };
    let unstated = pb::ConfirmRange { level: 0, ..range(1, 1) };
    let returned = |sequence| pb::Return { publisher: 1, sequence, ..Default::default() };
    let cases = [
        (vec![0xff; 64], "longer than"),
        (vec![0, 0, 0, 0], "no body"),
        (vec![0, 0, 0, 3, 0xff, 0xff, 0xff], "malformed"),
        (frame(0, 0, Body::Connect(pb::Connect::default())), "must not come from this side"),
        (frame(0, 0, Body::Connected(connected())), "nothing asked for"),
        (frame(1, 0, Body::Done(pb::Done {})), "nothing asked for"),
        (frame(1, 77, Body::Done(pb::Done {})), "request 77"),
        (frame(9, 0, Body::Confirm(pb::Confirm { publisher: 1, ranges: vec![range(1, 1)] })), "channel 9"),
        (frame(1, 0, Body::Confirm(pb::Confirm { publisher: 5, ranges: vec![range(1, 1)] })), "never opened"),
        (confirm(vec![range(1, 4)]), "never sent"),
        (confirm(vec![range(3, 2)]), "never sent"),
        (confirm(vec![range(0, 0)]), "never sent"),
        (confirm(vec![range(1, u64::MAX)]), "never sent"),
        (confirm(vec![range(1, 2), range(2, 3)]), "told before"),
        (confirm(vec![unstated]), "durability level 0"),
        (frame(1, 0, Body::Return(returned(4))), "never sent"),
        (
            [frame(1, 0, Body::Return(returned(1))), frame(1, 0, Body::Return(returned(1)))].concat(),
            "told before",
        ),
        (frame(1, 0, Body::Deliver(deliver(0))), "tag 0"),
        (frame(1, 0, Body::Deliver(deliver(u64::MAX))), "tag 18446744073709551615"),
        (frame(1, 0, Body::Deliver(pb::Deliver { consumer: 9, ..deliver(1) })), "never started"),
        (frame(4, 0, Body::Deliver(deliver(1))), "channel 4"),
    ];
    for (bytes, needle) in cases {
        let reason = closed_after(&bytes).await;
        assert!(reason.contains(needle), "{bytes:?}: {reason} (expected: {needle})");
    }
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_is_an_error_of_its_own() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let (consumer, _) = tokio::join!(soon(channel.consume("q").start()), peer.consuming());
    let mut consumer = consumer.unwrap();
    // Two items: one without a message, one as it should be.
    peer.send_bytes(&[0, 0, 0, 23, 0x08, 1, 0x32, 19, 0x08, 1, 0x10, 1, 0x2a, 2, 0x12, 0, 0x2a, 9]).await;
    peer.send_bytes(&[0x0a, 7, 0x12, 5, b'h', b'e', b'l', b'l', b'o']).await;
    let first = soon(consumer.next()).await.unwrap();
    assert!(first.is_err(), "{first:?}");
    let second = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!((second.tag().0, &second.body()[..]), (2, &b"hello"[..]));
}

#[tokio::test]
async fn a_frame_of_a_newer_version_is_passed_over() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    // Body number 100, on channel 1.
    peer.send_bytes(&[0, 0, 0, 5, 0x08, 1, 0xa2, 0x06, 0]).await;
    let (purged, _) = tokio::join!(
        soon(channel.purge_queue("q")),
        peer.answer("PurgeQueue", Body::MessageCount(pb::MessageCount { count: 1 }))
    );
    assert_eq!(purged.unwrap(), 1);
}

#[tokio::test]
async fn something_else_that_listens_there_is_named() {
    let server = Server::start().await;
    for answer in [&b"AMQP\0\0\x09\x01"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"]
    {
        let script = async {
            let mut peer = server.accept().await;
            peer.expect().await;
            peer.send_bytes(answer).await;
            peer
        };
        let (connection, _peer) = tokio::join!(soon(Connection::connect(server.options())), script);
        let error = connection.unwrap_err();
        assert!(matches!(error, ConnectError::Protocol { .. }), "{error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_client_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start().await;
            let (connection, channel, mut peer) = server.channel().await;
            // A frame whose length is right, whatever is in it; then the end.
            let mut framed = (bytes.len() as u32).to_be_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            peer.send_bytes(&framed).await;
            drop(peer);
            drop(channel);
            let _ = soon(connection.close()).await;
        });
    }
}
