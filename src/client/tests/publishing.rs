//! Publishing and confirms.

use std::task::Poll;

use super::server::{Peer, Server, error, range, soon};
use crate::client::{
    Channel, ConfirmError, Confirmed, Message, MessageBatch, PublishError, Publisher, PublisherBuilder,
};
use crate::model::{Durability, FieldTable, FieldValue, ReplyCode};
use crate::wire::pb::{self, frame::Body};

const CONFIRMED: Confirmed = Confirmed { level: Durability::Synced, queues: 1, journey: None };

async fn open(peer: &mut Peer, builder: PublisherBuilder) -> Publisher {
    let (publisher, _) = tokio::join!(soon(builder.open()), peer.done("OpenPublisher"));
    publisher.unwrap()
}

async fn publisher(peer: &mut Peer, channel: &Channel) -> Publisher {
    open(peer, channel.publisher("x", "k")).await
}

/// Polls once.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending()))
        .await
}

#[tokio::test]
async fn what_reaches_no_queue_comes_back_unless_somebody_wants_it_otherwise() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = || channel.publisher("x", "k");
    let mut open = Vec::new();
    for (builder, expect) in
        [(publisher(), true), (publisher().not_mandatory(), false), (publisher().without_confirms(), false)]
    {
        let (publisher, asked) = tokio::join!(soon(builder.open()), peer.done("OpenPublisher"));
        open.push(publisher);
        let Body::OpenPublisher(asked) = asked else { panic!("checked by the peer") };
        assert_eq!(asked.target.unwrap().mandatory, expect);
    }
}

#[tokio::test]
async fn the_target_is_named_once() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let builder = channel.publisher("x", "k").transient();
    let (publisher, asked) = tokio::join!(soon(builder.open()), peer.done("OpenPublisher"));
    let Body::OpenPublisher(asked) = asked else { panic!("checked by the peer") };
    let target = pb::PublishTarget {
        exchange: "x".to_owned(),
        routing_key: "k".to_owned(),
        mandatory: true,
        transient: true,
    };
    assert_eq!(asked, pb::OpenPublisher { publisher: 1, target: Some(target) });
    soon(publisher.unwrap().send("m")).await.unwrap();
    let published = peer.published().await;
    assert_eq!((published.publisher, published.first_sequence, published.resent), (1, 1, false));
}

#[tokio::test]
async fn a_burst_becomes_one_frame() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    let mut confirms = Vec::new();
    for number in 0..500 {
        confirms.push(soon(publisher.publish(format!("m{number}"))).await.unwrap());
    }
    let published = peer.published().await;
    assert_eq!((published.first_sequence, published.bodies.len()), (1, 500));
    assert_eq!(published.bodies[499], "m499");
    peer.confirm(1, 1, &[range(1, 500)]).await;
    for confirm in confirms {
        assert_eq!(soon(confirm).await.unwrap(), CONFIRMED);
    }
}

#[tokio::test]
async fn large_bursts_are_cut_into_frames_of_a_limited_size() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    let mut batch = MessageBatch::new();
    for number in 0..300 {
        batch.push_body(format!("{number:01000}").as_bytes());
    }
    soon(publisher.send_batch(&mut batch)).await.unwrap();
    assert!(batch.is_empty() && batch.size_bytes() == 0);
    for _ in 0..100 {
        soon(publisher.send("y".repeat(1000))).await.unwrap();
    }
    soon(publisher.send("z".repeat(200_000))).await.unwrap();
    let mut sequence = 1;
    while sequence <= 401 {
        let published = peer.published().await;
        assert_eq!(published.first_sequence, sequence, "in order, without gaps");
        let bytes: usize = published.bodies.iter().map(String::len).sum();
        assert!(bytes <= 64 * 1024 || published.bodies.len() == 1, "{bytes} bytes in one frame");
        for body in &published.bodies {
            let expected = match sequence {
                ..=300 => format!("{:01000}", sequence - 1),
                301..=400 => "y".repeat(1000),
                _ => "z".repeat(200_000),
            };
            assert!(*body == expected, "message {sequence}");
            sequence += 1;
        }
    }
}

#[tokio::test]
async fn confirms_may_come_in_any_order_and_each_message_gets_its_own() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    let mut confirms = Vec::new();
    for number in 1..=10 {
        confirms.push(soon(publisher.publish(format!("{number}"))).await.unwrap());
    }
    peer.published().await;
    let full = pb::ConfirmRange { refusal: Some(error(506, "disk full")), ..range(7, 8) };
    let two_queues = pb::ConfirmRange { queues: 2, ..range(9, 0) };
    peer.confirm(1, 1, &[range(4, 6), two_queues]).await;
    peer.confirm(1, 1, &[full]).await;
    peer.confirm(1, 1, &[range(1, 3), range(10, 10)]).await;
    for confirm in confirms {
        let sequence = confirm.sequence();
        match (sequence, soon(confirm).await) {
            (7 | 8, Err(ConfirmError::Refused(refusal))) => {
                assert_eq!(refusal.code, ReplyCode::ResourceError)
            }
            (9, Ok(confirmed)) => assert_eq!(confirmed, Confirmed { queues: 2, ..CONFIRMED }),
            (_, Ok(confirmed)) => assert_eq!(confirmed, CONFIRMED),
            (_, other) => panic!("message {sequence}: {other:?}"),
        }
    }
    let progress = publisher.progress();
    assert_eq!((progress.published, progress.settled, progress.refused), (10, 10, 2));
    assert_eq!((progress.settled_through, progress.level), (10, Some(Durability::Synced)));
    soon(publisher.wait_for_all()).await.expect("both refusals were told to those who waited");
}

#[tokio::test]
async fn a_full_window_holds_publishers_back() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = open(&mut peer, channel.publisher("x", "k").window_messages(3)).await;
    for number in 1..=3 {
        soon(publisher.send(format!("{number}"))).await.unwrap();
    }
    let mut fourth = Box::pin(publisher.send("4"));
    assert!(is_pending(&mut fourth).await, "three are without a confirm");
    assert_eq!(peer.published().await.bodies.len(), 3);
    assert!(is_pending(&mut fourth).await);
    peer.confirm(1, 1, &[range(2, 2)]).await;
    soon(fourth).await.unwrap();
    assert_eq!(peer.published().await.first_sequence, 4);

    let mut batch = MessageBatch::new();
    (0..5).for_each(|_| batch.push_body(b"b"));
    let mut larger_than_the_window = Box::pin(publisher.send_batch(&mut batch));
    peer.confirm(1, 1, &[range(1, 1), range(3, 3)]).await;
    soon(publisher.settled_beyond(2)).await.unwrap();
    assert!(is_pending(&mut larger_than_the_window).await, "one is without a confirm");
    peer.confirm(1, 1, &[range(4, 4)]).await;
    soon(larger_than_the_window).await.unwrap();
    assert_eq!(peer.published().await.bodies.len(), 5);
}

#[tokio::test]
async fn a_window_of_bytes_holds_publishers_back_but_lets_one_large_message_go() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = open(&mut peer, channel.publisher("x", "k").window_bytes(1000)).await;
    soon(publisher.send("a".repeat(5000))).await.unwrap();
    let mut second = Box::pin(publisher.send("b"));
    assert!(is_pending(&mut second).await);
    peer.published().await;
    peer.confirm(1, 1, &[range(1, 1)]).await;
    soon(second).await.unwrap();
}

#[tokio::test]
async fn what_the_socket_does_not_take_holds_publishers_back_even_without_confirms() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = open(&mut peer, channel.publisher("x", "k").without_confirms()).await;
    let body = "c".repeat(100_000);
    let mut sent = 0u64;
    // The peer does not read: sooner or later all buffers between are full.
    while let Ok(result) =
        tokio::time::timeout(std::time::Duration::from_millis(200), publisher.send(body.clone())).await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 1000, "100 MB are in nobody's buffers");
    }
    let mut arrived = 0;
    while arrived < sent {
        let published = peer.published().await;
        assert_eq!(published.first_sequence, 0, "no confirms wanted");
        arrived += published.bodies.len() as u64;
    }
    let progress = publisher.progress();
    assert_eq!((progress.published, progress.settled), (sent, 0));
    soon(publisher.wait_for_all()).await.unwrap();
    assert!(matches!(publisher.publish("d").await, Err(PublishError::ConfirmsOff)));
}

#[tokio::test]
async fn a_returned_message_is_told_with_its_confirm() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = open(&mut peer, channel.publisher("x", "k")).await;
    let first = soon(publisher.publish("1")).await.unwrap();
    let second = soon(publisher.publish(Message::new("2").header("h", "v"))).await.unwrap();
    soon(publisher.send("3")).await.unwrap();
    peer.published().await;
    for (sequence, body) in [(2, "2"), (3, "3")] {
        let headers: pb::FieldTable = (&FieldTable::from([("h", FieldValue::from("v"))])).into();
        let returned = pb::Return {
            publisher: 1,
            sequence,
            exchange: "x".to_owned(),
            routing_key: "k".to_owned(),
            reason: Some(error(312, "no queue")),
            message: Some(pb::Message {
                properties: Some(pb::Properties { headers: Some(headers), ..Default::default() }),
                body: body.into(),
            }),
        };
        peer.send(1, 0, Body::Return(returned)).await;
    }
    peer.confirm(1, 1, &[pb::ConfirmRange { queues: 0, ..range(1, 3) }]).await;
    assert_eq!(soon(first).await.unwrap().queues, 0, "reached no queue, and was not asked to come back");
    match soon(second).await {
        Err(ConfirmError::Returned(returned)) => {
            assert_eq!(returned.reason.code, ReplyCode::NoRoute);
            assert_eq!(returned.message, Message::new("2").header("h", "v"));
        }
        other => panic!("expected it back, got {other:?}"),
    }
    let failure = soon(publisher.wait_for_all()).await;
    assert!(matches!(&failure, Err(ConfirmError::Returned(returned)) if returned.message.body() == "3"));
    soon(publisher.wait_for_all()).await.expect("a failure is told once");
    assert_eq!(publisher.progress().returned, 2);
}

#[tokio::test]
async fn a_batch_has_one_outcome() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    let mut batch = MessageBatch::new();
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        (0..10).for_each(|_| batch.push_body(b"b"));
        outcomes.push(soon(publisher.publish_batch(&mut batch)).await.unwrap());
        soon(publisher.send("between")).await.unwrap();
    }
    let empty = soon(publisher.publish_batch(&mut batch)).await.unwrap();
    assert_eq!(soon(empty).await.unwrap().confirmed, 0);
    peer.published().await;
    let memory = pb::ConfirmRange { level: pb::DurabilityLevel::Memory.into(), ..range(5, 15) };
    let refused = pb::ConfirmRange { refusal: Some(error(506, "full")), ..range(20, 21) };
    peer.confirm(1, 1, &[memory, range(22, 22), refused]).await;
    peer.confirm(1, 1, &[range(1, 4), range(16, 19)]).await;
    let mut outcomes = outcomes.into_iter();
    let first = soon(outcomes.next().unwrap()).await.unwrap();
    assert_eq!((first.confirmed, first.failed, first.level), (10, 0, Some(Durability::Memory)));
    let second = soon(outcomes.next().unwrap()).await.unwrap();
    assert_eq!((second.confirmed, second.failed), (8, 2));
    assert_eq!(second.first_refusal.unwrap().code, ReplyCode::ResourceError);
    soon(publisher.wait_for_all()).await.expect("the batch told its failures");
}

#[tokio::test]
async fn a_confirm_nobody_waits_for_costs_nothing_and_its_failure_is_not_lost() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    let dropped_early = soon(publisher.publish("1")).await.unwrap();
    drop(dropped_early);
    let dropped_late = soon(publisher.publish("2")).await.unwrap();
    soon(publisher.send("3")).await.unwrap();
    peer.published().await;
    let refused =
        |first| pb::ConfirmRange { refusal: Some(error(506, &format!("no {first}"))), ..range(first, 0) };
    peer.confirm(1, 1, &[range(1, 1), refused(2), range(3, 3)]).await;
    soon(publisher.settled_beyond(2)).await.unwrap();
    soon(publisher.wait_for_all()).await.expect("somebody can still ask for 2");
    drop(dropped_late);
    let failure = soon(publisher.wait_for_all()).await;
    assert!(matches!(&failure, Err(ConfirmError::Refused(refusal)) if refusal.text == "no 2"), "{failure:?}");
}

#[tokio::test]
async fn properties_arrive_as_they_were_set() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    let message = Message::new("body")
        .content_type("text/plain")
        .content_encoding("gzip")
        .priority(7)
        .correlation_id("c")
        .reply_to("r")
        .expiration_ms(0)
        .message_id("m")
        .timestamp_ms(5)
        .kind("t")
        .user_id("u")
        .app_id("a")
        .header("n", 1)
        .routing_key("own");
    soon(publisher.send(message.clone())).await.unwrap();
    let frame = peer.frame().await;
    let crate::wire::Body::Publish(publish) = frame.body else { panic!("expected a Publish, got {frame:?}") };
    assert_eq!(publish.items.key(0), Some("own"));
    let item = bytes::Bytes::copy_from_slice(publish.items.run.item(0));
    let properties = crate::message::message_of(&item).unwrap().properties.unwrap();
    let expected = crate::client::convert::properties_to_wire(message.properties().unwrap());
    assert_eq!(properties, expected);
    assert_eq!((properties.expiration_ms, properties.timestamp_ms), (Some(0), Some(5)));
}

#[tokio::test]
async fn what_the_server_would_not_take_is_refused_here_and_spoils_no_frame() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    let long = "l".repeat(256);
    let mut nested = FieldTable::default();
    for _ in 0..16 {
        nested = FieldTable::from([("deeper", FieldValue::Table(nested))]);
    }
    soon(publisher.send("before")).await.unwrap();
    let refused = [
        Message::new(vec![0; 512 * 1024 + 1]),
        Message::new("").routing_key(&long),
        Message::new("").app_id(&long),
        Message::new("").header(&long, 1),
        Message::new("").headers(nested.clone()),
        Message::new("").header("fits not into a frame", "v".repeat(1 << 20).as_str()),
    ];
    for message in refused {
        let result = soon(publisher.send(message.clone())).await;
        let is_large = matches!(result, Err(PublishError::TooLarge { .. }));
        let is_refused = matches!(result, Err(PublishError::RoutingKey(_) | PublishError::Property { .. }));
        assert!(is_large || is_refused, "{result:?}");
        let mut batch = MessageBatch::new();
        let pushed = batch.push(&message);
        let sent = soon(publisher.send_batch(&mut batch)).await;
        assert!(if is_large { sent.is_err() } else { pushed.is_err() && batch.is_empty() });
    }
    soon(publisher.send("after")).await.unwrap();
    let published = peer.published().await;
    assert_eq!(published.bodies, ["before", "after"]);
}

#[tokio::test]
async fn flushing_and_closing_wait_for_what_they_promise() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    let clone = publisher.clone();
    soon(publisher.send("1")).await.unwrap();
    soon(publisher.flush()).await.unwrap();
    soon(publisher.send("2")).await.unwrap();
    let script = async {
        assert_eq!(peer.published().await.bodies, ["1"], "flushed by itself");
        assert_eq!(peer.published().await.bodies, ["2"]);
        peer.confirm(1, 1, &[range(1, 2)]).await;
        peer.done("ClosePublisher").await;
    };
    let (closed, ()) = tokio::join!(soon(publisher.close()), script);
    closed.unwrap();
    assert!(matches!(clone.send("3").await, Err(PublishError::Closed(_))));
    drop(clone);
    drop((channel, connection));
    peer.done("CloseChannel").await;
    peer.goodbye().await;
}

#[tokio::test]
async fn a_publisher_that_goes_sends_what_it_has_taken() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&mut peer, &channel).await;
    for number in 0..300 {
        soon(publisher.send(format!("{number:02000}"))).await.unwrap();
    }
    drop((publisher, channel, connection));
    let mut arrived = 0;
    while arrived < 300 {
        arrived += peer.published().await.bodies.len();
    }
    let (channel, request, body) = peer.expect().await;
    assert!(matches!(body, Body::ClosePublisher(_)), "{body:?}");
    peer.send(channel, request, Body::Done(pb::Done {})).await;
    // Its confirms are on their way when the publisher is gone; nobody minds.
    peer.confirm(1, 1, &[range(1, 300)]).await;
    peer.done("CloseChannel").await;
    peer.goodbye().await;
}
