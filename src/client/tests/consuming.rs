//! Deliveries and their outcomes.

use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;

use super::server::{Peer, Server, error, soon};
use crate::client::{Channel, ConsumeError, Consumer, ConsumerBuilder, Get, SettleError};
use crate::model::ReplyCode;
use crate::wire::pb::{self, Outcome, frame::Body};

async fn start(peer: &mut Peer, builder: ConsumerBuilder) -> (Consumer, pb::Consume) {
    let (consumer, consume) = tokio::join!(soon(builder.start()), peer.consuming());
    (consumer.unwrap(), consume)
}

async fn consumer(peer: &mut Peer, channel: &Channel) -> Consumer {
    start(peer, channel.consume("q")).await.0
}

#[tokio::test]
async fn starting_says_what_the_builder_says() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let (first, consume) = start(&mut peer, channel.consume("q").prefetch(9).exclusive().tag("me")).await;
    assert_eq!((first.tag(), first.queue().as_str()), ("ctag", "q"));
    let expected = pb::Consume {
        queue: "q".to_owned(),
        consumer: 1,
        prefetch: 9,
        exclusive: true,
        tag: "me".to_owned(),
        ..Default::default()
    };
    assert_eq!(consume, expected, "and no credit, since the prefetch bounds what waits");
    let (_second, consume) = start(&mut peer, channel.consume("q").no_ack()).await;
    assert_eq!((consume.consumer, consume.no_ack), (2, true));
    assert!(consume.credit.is_some());
}

#[tokio::test]
async fn deliveries_come_one_by_one_with_all_they_carry() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let mut consumer = consumer(&mut peer, &channel).await;
    let properties = pb::Properties { message_id: "id".to_owned(), priority: 3, ..Default::default() };
    let item = pb::DeliverItem {
        message: Some(pb::Message { properties: Some(properties), body: "two".into() }),
        routing_key: Some("own".to_owned()),
        resent: true,
        redelivered: true,
        delivery_count: 4,
    };
    let plain = pb::DeliverItem {
        message: Some(pb::Message { properties: None, body: "one".into() }),
        ..Default::default()
    };
    let deliver = pb::Deliver {
        consumer: 1,
        first_tag: 7,
        exchange: "x".to_owned(),
        routing_key: "k".to_owned(),
        items: vec![plain, item],
    };
    peer.send(1, 0, Body::Deliver(deliver)).await;
    let one = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!((one.tag().0, &one.body()[..], one.exchange(), one.routing_key()), (7, &b"one"[..], "x", "k"));
    assert!(!one.redelivered() && !one.resent() && one.delivery_count() == 0);
    let two = soon(std::future::poll_fn(|context| Pin::new(&mut consumer).poll_next(context))).await;
    let two = two.unwrap().unwrap();
    assert_eq!((two.tag().0, two.routing_key(), two.delivery_count()), (8, "own", 4));
    assert!(two.redelivered() && two.resent());
    let properties = two.properties().unwrap();
    assert_eq!((properties.message_id.as_str(), properties.priority), ("id", 3));
}

#[tokio::test]
async fn outcomes_are_gathered_into_ranges() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let mut consumer = consumer(&mut peer, &channel).await;
    peer.deliver(1, 1, &["m"; 300]).await;
    let mut held = Vec::new();
    for tag in 1..=300 {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        match tag {
            100 => delivery.requeue().unwrap(),
            150 => held.push(delivery),
            200 => delivery.reject().unwrap(),
            _ => delivery.accept().unwrap(),
        }
    }
    let (request, number, ranges) = peer.settled().await;
    assert_eq!((request, number), (0, 1));
    let expected = [
        (1, 99, Outcome::Accepted),
        (100, 0, Outcome::Requeued),
        (101, 149, Outcome::Accepted),
        (151, 199, Outcome::Accepted),
        (200, 0, Outcome::Rejected),
        (201, 300, Outcome::Accepted),
    ];
    assert_eq!(ranges, expected);
    held.pop().unwrap().accept().unwrap();
    assert_eq!(peer.settled().await.2, [(150, 0, Outcome::Accepted)]);
}

#[tokio::test]
async fn a_batch_is_settled_as_a_whole_or_what_is_left_of_it() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let mut consumer = consumer(&mut peer, &channel).await;
    peer.deliver(1, 1, &["a", "b", "c"]).await;
    peer.deliver(1, 4, &["d", "e", "f"]).await;
    let batch = soon(consumer.next_batch()).await.unwrap().unwrap();
    let seen: Vec<_> =
        batch.iter().map(|view| view.unwrap()).map(|view| (view.tag.0, view.body().to_vec())).collect();
    assert_eq!(seen, [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())]);
    assert_eq!(batch.len(), 3);
    batch.accept().unwrap();
    assert_eq!(peer.settled().await.2, [(1, 3, Outcome::Accepted)]);
    let first = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(first.body(), "d");
    let rest = soon(consumer.next_batch()).await.unwrap().unwrap();
    assert_eq!(rest.len(), 2, "what `next` has left of it");
    rest.reject().unwrap();
    first.accept().unwrap();
    assert_eq!(peer.settled().await.2, [(4, 0, Outcome::Accepted), (5, 6, Outcome::Rejected)]);
}

#[tokio::test]
async fn accepting_can_wait_until_it_is_stored() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let mut consumer = consumer(&mut peer, &channel).await;
    peer.deliver(1, 1, &["a", "b"]).await;
    for answer in [Body::Done(pb::Done {}), Body::Error(error(406, "unknown tag"))] {
        let is_good = matches!(answer, Body::Done(_));
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        let script = async {
            let (request, _, ranges) = peer.settled().await;
            assert_eq!(ranges.len(), 1);
            peer.send(1, request, answer).await;
        };
        let (stored, ()) = tokio::join!(soon(delivery.accept_stored()), script);
        match stored {
            Ok(()) => assert!(is_good),
            Err(SettleError::Refused(refusal)) => {
                assert!(!is_good && refusal.code == ReplyCode::PreconditionFailed);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn getting_takes_one_message_and_settles_it_under_number_0() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let item = pb::DeliverItem {
        message: Some(pb::Message { properties: None, body: "m".into() }),
        redelivered: true,
        ..Default::default()
    };
    let got = pb::Got {
        item: Some(item),
        tag: 5,
        exchange: "x".to_owned(),
        routing_key: "k".to_owned(),
        messages_ready: 2,
    };
    let (got, _) = tokio::join!(soon(channel.get("q", Get::default())), peer.answer("Get", Body::Got(got)));
    let got = got.unwrap().unwrap();
    assert_eq!((got.delivery.tag().0, got.messages_ready, got.delivery.routing_key()), (5, 2, "k"));
    assert!(got.delivery.redelivered());
    got.delivery.accept().unwrap();
    let (_, number, ranges) = peer.settled().await;
    assert_eq!((number, ranges.as_slice()), (0, &[(5, 0, Outcome::Accepted)][..]));
    let empty = Body::Got(pb::Got::default());
    let (got, _) = tokio::join!(soon(channel.get("q", Get { no_ack: true })), peer.answer("Get", empty));
    assert!(got.unwrap().is_none());
}

#[tokio::test]
async fn cancelling_gives_back_what_was_not_handed_out() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let mut consumer = consumer(&mut peer, &channel).await;
    peer.deliver(1, 1, &["a", "b", "c"]).await;
    peer.deliver(1, 4, &["d"]).await;
    let first = soon(consumer.next()).await.unwrap().unwrap();
    let script = async {
        let (channel, request, body) = loop {
            let frame = peer.frame().await;
            match frame.body {
                crate::wire::Body::Settle(settle) => {
                    assert!(settle.ranges.iter().all(|range| range.outcome() == Outcome::Requeued));
                }
                crate::wire::Body::Other(body) => break (frame.channel, frame.request, *body),
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(body, Body::CancelConsumer(_)), "{body:?}");
        // One more was under way.
        peer.deliver(1, 5, &["e"]).await;
        peer.send(channel, request, Body::Done(pb::Done {})).await;
        assert_eq!(peer.settled().await.2, [(5, 0, Outcome::Requeued)]);
    };
    let (cancelled, ()) = tokio::join!(soon(consumer.cancel()), script);
    cancelled.unwrap();
    first.accept().unwrap();
    assert_eq!(peer.settled().await.2, [(1, 0, Outcome::Accepted)], "what was handed out can be settled");
}

/// Whoever accepts and leaves has accepted: the driver had no turn in between.
#[tokio::test]
async fn what_was_accepted_is_sent_before_the_channel_closes() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let mut consumer = consumer(&mut peer, &channel).await;
    peer.deliver(1, 1, &["a", "b", "c"]).await;
    let batch = soon(consumer.next_batch()).await.unwrap().unwrap();
    batch.accept().unwrap();
    drop(consumer);
    drop(channel);
    assert_eq!(peer.settled().await.2, [(1, 3, Outcome::Accepted)]);
    assert!(matches!(peer.expect().await.2, Body::CancelConsumer(_)));
    assert!(matches!(peer.expect().await.2, Body::CloseChannel(_)));
}

#[tokio::test]
async fn a_consumer_that_the_server_ends_says_why_after_its_last_delivery() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let mut consumer = consumer(&mut peer, &channel).await;
    peer.deliver(1, 1, &["last"]).await;
    let cancelled =
        pb::ConsumerCancelled { consumer: 1, reason: "queue 'q' was deleted".to_owned(), error: None };
    peer.send(1, 0, Body::ConsumerCancelled(cancelled)).await;
    let last = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(last.body(), "last");
    match soon(consumer.next()).await {
        Some(Err(ConsumeError::Cancelled { reason })) => assert!(reason.contains("deleted")),
        other => panic!("expected the reason, got {other:?}"),
    }
    assert!(soon(consumer.next()).await.is_none());
    drop(consumer);
    // Nothing is cancelled twice; and a number that deliveries still hold on to is not given out again.
    drop(last);
    let (next, consume) = start(&mut peer, channel.consume("q")).await;
    assert_eq!(consume.consumer, 2);
    drop(next);
}

#[tokio::test]
async fn a_refused_consumer_is_an_error_and_nothing_stays() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let (refused, _) = tokio::join!(
        soon(channel.consume("q").start()),
        peer.answer("Consume", Body::Error(error(404, "no q")))
    );
    assert!(refused.is_err());
    let (_consumer, consume) = start(&mut peer, channel.consume("q")).await;
    assert_eq!(consume.consumer, 2, "no CancelConsumer came between");
}

#[tokio::test]
async fn credit_follows_the_size_of_messages_and_the_pace_of_the_application() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let builder = channel.consume("q").no_ack().buffer_bytes(100_000);
    let (mut consumer, consume) = start(&mut peer, builder).await;
    let first = consume.credit.unwrap();
    let body = "m".repeat(900);
    let mut tag = 1;
    let mut credit = first;
    let mut total = 0u64;
    while total < 2000 {
        assert!(credit > 0, "an application that keeps up is never starved");
        let count = credit.min(50);
        peer.deliver(1, tag, &vec![body.as_str(); count as usize]).await;
        tag += u64::from(count);
        credit -= count;
        total += u64::from(count);
        let batch = soon(consumer.next_batch()).await.unwrap().unwrap();
        assert_eq!(batch.len(), count as usize);
        assert!(matches!(batch.accept(), Err(SettleError::NoAck)));
        if credit == 0 {
            let (_, _, body) = peer.expect().await;
            let Body::Credit(added) = body else { panic!("expected a Credit, got {body:?}") };
            assert_eq!(added.consumer, 1);
            credit += added.add;
            assert!(
                (50..=111).contains(&added.add),
                "about 100 kB of messages of 900 bytes, not {}",
                added.add
            );
        }
    }
}

#[tokio::test]
async fn a_slow_application_stops_the_socket_when_messages_suddenly_are_large() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let builder = channel.consume("q").no_ack().buffer_bytes(100_000);
    let (mut consumer, _) = start(&mut peer, builder).await;
    let body = "l".repeat(500_000);
    let mut sent = 0u64;
    while tokio::time::timeout(Duration::from_millis(200), peer.deliver(1, sent + 1, &[&body])).await.is_ok()
    {
        sent += 1;
        assert!(sent < 100, "50 MB are in nobody's buffers");
    }
    let mut taken = 0;
    while taken < sent {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        taken += 1;
        assert_eq!((delivery.tag().0, delivery.body().len()), (taken, 500_000));
    }
}
