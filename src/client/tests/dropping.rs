//! Futures that are dropped before they are ready: nothing is lost, doubled or left open by that.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::timeout;

use super::server::{Peer, Server, error, range, soon};
use crate::client::convert::kind_name;
use crate::client::{
    Channel, CloseReason, ConfirmError, Connection, Event, Get, MessageBatch, Publisher, Queue, Status,
};
use crate::wire::pb::{self, frame::Body};

/// Polls once, and stops waiting.
async fn give_up<T>(future: impl Future<Output = T>) {
    assert!(timeout(Duration::ZERO, future).await.is_err(), "it should wait");
}

/// A request on a channel is the next that comes: nothing else was on its way.
async fn nothing_else_comes(channel: &Channel, peer: &mut Peer) {
    let declared = Body::QueueDeclared(pb::QueueDeclared { name: "q".to_owned(), ..Default::default() });
    let (checked, _) = tokio::join!(soon(channel.check_queue("q")), peer.answer("DeclareQueue", declared));
    checked.unwrap();
}

/// The client comes back over a new connection, with its channel 1.
async fn back(server: &Server) -> Peer {
    let (mut peer, _) = server.login().await;
    peer.done("OpenChannel").await;
    peer
}

async fn publisher(channel: &Channel, peer: &mut Peer, window: u64) -> Publisher {
    let opening = channel.publisher("x", "k").window_messages(window).open();
    let (publisher, _) = tokio::join!(soon(opening), peer.done("OpenPublisher"));
    publisher.unwrap()
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_opened_again_when_the_connection_breaks() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    // Each is given up when its request is on its way; then the connection breaks before the answer.
    for kind in ["OpenChannel", "OpenPublisher", "Consume"] {
        match kind {
            "OpenChannel" => give_up(connection.channel()).await,
            "OpenPublisher" => give_up(channel.publisher("x", "k").open()).await,
            _ => give_up(channel.consume("q").start()).await,
        }
        for expected in [kind, kind.replace("Open", "Close").replace("Consume", "CancelConsumer").as_str()] {
            let (_, _, body) = peer.expect().await;
            assert_eq!(kind_name(&body), expected);
        }
        drop(peer);
        peer = back(&server).await;
        nothing_else_comes(&channel, &mut peer).await;
    }
}

#[tokio::test]
async fn what_is_given_up_while_there_is_no_connection_is_not_opened() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let mut events = connection.events();
    for kind in ["OpenChannel", "OpenPublisher", "Consume"] {
        drop(peer);
        while !matches!(soon(events.next()).await, Some(Event::Disconnected(_))) {}
        match kind {
            "OpenChannel" => give_up(connection.channel()).await,
            "OpenPublisher" => give_up(channel.publisher("x", "k").open()).await,
            _ => give_up(channel.consume("q").start()).await,
        }
        peer = back(&server).await;
        nothing_else_comes(&channel, &mut peer).await;
    }
}

#[tokio::test]
async fn requests_of_a_channel_that_was_closed_are_not_asked_again() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    give_up(channel.declare_queue(Queue::new("q"))).await;
    drop(channel);
    for expected in ["DeclareQueue", "CloseChannel"] {
        let (_, _, body) = peer.expect().await;
        assert_eq!(kind_name(&body), expected);
    }
    drop(peer);
    let (mut peer, _) = server.login().await;
    let channel = peer.open_channel(&connection).await;
    nothing_else_comes(&channel, &mut peer).await;
}

#[tokio::test]
async fn a_declaration_that_nobody_waits_for_is_restored() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    give_up(channel.declare_queue(Queue::new("mine"))).await;
    let declared = Body::QueueDeclared(pb::QueueDeclared { name: "mine".to_owned(), ..Default::default() });
    peer.answer("DeclareQueue", declared.clone()).await;
    nothing_else_comes(&channel, &mut peer).await;
    drop(peer);
    let mut peer = back(&server).await;
    let again = peer.answer("DeclareQueue", declared).await;
    assert!(matches!(again, Body::DeclareQueue(queue) if queue.name == "mine"));
}

#[tokio::test]
async fn a_message_that_has_come_for_a_get_that_is_dropped_goes_back() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    {
        let mut getting = pin!(channel.get("q", Get::default()));
        let polled = getting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        let got = pb::Got { tag: 5, item: Some(pb::DeliverItem::default()), ..Default::default() };
        peer.answer("Get", Body::Got(got)).await;
        // Its answer is here, and it has not looked.
        nothing_else_comes(&channel, &mut peer).await;
    }
    assert_eq!(soon(peer.settled()).await, (0, 0, vec![(5, 0, pb::Outcome::Requeued)]));
}

#[tokio::test]
async fn a_message_that_waited_for_room_was_not_taken() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&channel, &mut peer, 1).await;
    let first = publisher.publish("first").await.unwrap();
    assert_eq!(peer.published().await.bodies, ["first"]);
    let mut batch = MessageBatch::new();
    batch.push_body(b"in a batch");
    give_up(publisher.publish("dropped")).await;
    give_up(publisher.send("dropped")).await;
    give_up(publisher.send_batch(&mut batch)).await;
    give_up(publisher.publish_batch(&mut batch)).await;
    give_up(publisher.wait_for_room(1, 1)).await;
    give_up(publisher.wait_for_all()).await;
    give_up(publisher.settled_beyond(0)).await;
    assert_eq!(batch.len(), 1, "the batch is as it was");
    peer.confirm(1, 1, &[range(1, 1)]).await;
    soon(first).await.unwrap();
    let second = publisher.publish_batch(&mut batch).await.unwrap();
    let published = peer.published().await;
    assert_eq!((published.first_sequence, published.bodies), (2, vec!["in a batch".to_owned()]));
    peer.confirm(1, 1, &[range(2, 2)]).await;
    assert_eq!(soon(second).await.unwrap().confirmed, 1);
    soon(publisher.wait_for_all()).await.unwrap();
}

#[tokio::test]
async fn nobody_who_stopped_waiting_is_kept() {
    struct Asleep;
    impl std::task::Wake for Asleep {
        fn wake(self: Arc<Self>) {}
    }
    fn poll_once<T>(future: impl Future<Output = T>, waker: &Waker) {
        let mut future = pin!(future);
        assert!(future.as_mut().poll(&mut Context::from_waker(waker)).is_pending(), "it should wait");
    }
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&channel, &mut peer, 1).await;
    let first = publisher.publish("first").await.unwrap();
    let asleep = Arc::new(Asleep);
    let waker = Waker::from(asleep.clone());
    let mut batch = MessageBatch::new();
    batch.push_body(b"in a batch");
    poll_once(publisher.publish("dropped"), &waker);
    poll_once(publisher.send("dropped"), &waker);
    poll_once(publisher.send_batch(&mut batch), &waker);
    poll_once(publisher.publish_batch(&mut batch), &waker);
    poll_once(publisher.wait_for_room(1, 1), &waker);
    poll_once(publisher.wait_for_all(), &waker);
    poll_once(publisher.settled_beyond(0), &waker);
    poll_once(first, &waker);
    drop(waker);
    assert_eq!(Arc::strong_count(&asleep), 1, "a waker is kept for nobody");
}

#[tokio::test]
async fn a_refusal_that_nobody_waits_for_is_told_by_the_next_who_waits_for_all() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&channel, &mut peer, 100).await;
    for sequence in 1..=4u64 {
        let mut batch = MessageBatch::new();
        batch.push_body(b"refused");
        let refused = pb::ConfirmRange { refusal: Some(error(506, "full")), ..range(sequence, sequence) };
        // The future goes before its answer comes, or after that, unasked.
        let is_early = sequence % 2 == 0;
        let confirm: Box<dyn std::any::Any> = match sequence {
            1 | 2 => Box::new(publisher.publish("refused").await.unwrap()),
            _ => Box::new(publisher.publish_batch(&mut batch).await.unwrap()),
        };
        let late = (!is_early).then_some(confirm);
        peer.published().await;
        peer.confirm(1, 1, &[refused]).await;
        soon(publisher.settled_beyond(sequence - 1)).await.unwrap();
        drop(late);
        let told = soon(publisher.wait_for_all()).await;
        assert!(matches!(told, Err(ConfirmError::Refused(_))), "message {sequence}: {told:?}");
        soon(publisher.wait_for_all()).await.unwrap();
    }
}

#[tokio::test]
async fn a_consumer_gives_out_each_delivery_once_however_often_its_reader_stops() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let (consumer, _) = tokio::join!(soon(channel.consume("q").start()), peer.consuming());
    let mut consumer = consumer.unwrap();
    let mut expected = Vec::new();
    let mut came = Vec::new();
    for round in 0..20u64 {
        give_up(consumer.next()).await;
        give_up(consumer.next_batch()).await;
        let bodies = [format!("{round} a"), format!("{round} b"), format!("{round} c")];
        peer.deliver(1, 3 * round + 1, &[&bodies[0], &bodies[1], &bodies[2]]).await;
        let first = soon(consumer.next()).await.unwrap().unwrap();
        came.push(first.body().clone());
        first.accept().unwrap();
        let rest = soon(consumer.next_batch()).await.unwrap().unwrap();
        for delivery in rest {
            let delivery = delivery.unwrap();
            came.push(delivery.body().clone());
            // It is on its way once it was polled.
            give_up(delivery.accept_stored()).await;
        }
        expected.extend(bodies);
        let mut accepted = 0;
        while accepted < 3 {
            let (request, _, ranges) = peer.settled().await;
            if request != 0 {
                peer.send(1, request, Body::Done(pb::Done {})).await;
            }
            accepted += ranges.iter().map(|&(first, last, _)| last.max(first) - first + 1).sum::<u64>();
        }
        assert_eq!(accepted, 3);
    }
    assert_eq!(came, expected);
    give_up(consumer.cancel()).await;
    peer.done("CancelConsumer").await;
    nothing_else_comes(&channel, &mut peer).await;
}

#[tokio::test]
async fn a_close_goes_on_though_nobody_waits_for_it() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let publisher = publisher(&channel, &mut peer, 1).await;
    publisher.send("one").await.unwrap();
    // What closing waits for is not given up with it: the message is sent first.
    give_up(publisher.close()).await;
    peer.published().await;
    peer.done("ClosePublisher").await;
    let other = peer.open_channel(&connection).await;
    give_up(other.close()).await;
    peer.done("CloseChannel").await;
    give_up(connection.close()).await;
    peer.goodbye().await;
    soon(connection.close()).await.unwrap();
    assert!(matches!(connection.status(), Status::Closed(CloseReason::ByClient)));
}

#[tokio::test]
async fn a_flush_that_is_dropped_is_forgotten() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let mut events = connection.events();
    let publisher = publisher(&channel, &mut peer, 100).await;
    let blocked = pb::Blocked { shortage: pb::Shortage::Disk.into(), reason: "full".to_owned() };
    peer.send(0, 0, Body::Blocked(blocked)).await;
    assert!(matches!(soon(events.next()).await, Some(Event::Blocked(_))));
    publisher.send("waits").await.unwrap();
    for _ in 0..100 {
        give_up(publisher.flush()).await;
    }
    nothing_else_comes(&channel, &mut peer).await;
    let waiting = connection.0.core.state().outgoing.len();
    assert!(waiting <= 2, "the publisher and the last flush, and not {waiting}");
    peer.send(0, 0, Body::Unblocked(pb::Unblocked {})).await;
    soon(publisher.flush()).await.unwrap();
    assert_eq!(peer.published().await.bodies, ["waits"]);
}

#[tokio::test]
async fn a_first_connection_that_nobody_waits_for_is_not_made() {
    let server = Server::start().await;
    let mut peer = {
        let mut connecting = pin!(Connection::connect(server.options()));
        let hello = async {
            let mut peer = server.accept().await;
            peer.expect().await;
            peer
        };
        tokio::select! {
            made = &mut connecting => panic!("nobody answered: {made:?}"),
            peer = hello => peer,
        }
    };
    peer.expect_hang_up().await;
}
