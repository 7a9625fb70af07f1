//! Coming back after the connection broke.

use std::pin::pin;
use std::time::Duration;

use super::server::{Peer, Server, error, range, soon};
use crate::client::{
    Binding, CloseReason, ConfirmError, Connection, ConsumeError, DeleteExchange, Event, Events, Exchange,
    ExchangeKind, MessageBatch, PublishError, Queue, RequestError, SettleError, Status,
};
use crate::wire::pb::{self, Outcome, frame::Body};

/// Accepts the client again and opens its channel 1 again.
pub(super) async fn back_with_channel(server: &Server) -> Peer {
    let (mut peer, _) = server.login().await;
    peer.done("OpenChannel").await;
    peer
}

/// Accepts the client again, up to the request to declare its queue again, which is not answered: its numbers.
async fn back_up_to_queue(server: &Server) -> (Peer, u32, u64) {
    let mut peer = back_with_channel(server).await;
    peer.done("DeclareExchange").await;
    let (number, request, body) = peer.expect().await;
    assert!(matches!(body, Body::DeclareQueue(_)), "{body:?}");
    (peer, number, request)
}

async fn reconnected(events: &mut Events) -> u64 {
    loop {
        match soon(events.next()).await {
            Some(Event::Reconnected { resent_messages, .. }) => return resent_messages,
            Some(_) => {}
            None => panic!("the connection is closed"),
        }
    }
}

pub(super) fn declared(name: &str) -> Body {
    Body::QueueDeclared(pb::QueueDeclared { name: name.to_owned(), ..Default::default() })
}

#[tokio::test]
async fn unconfirmed_messages_are_sent_again_in_order_and_marked() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let (publisher, _) = tokio::join!(soon(channel.publisher("x", "k").open()), peer.done("OpenPublisher"));
    let publisher = publisher.unwrap();
    let mut confirms = Vec::new();
    for number in 1..=6 {
        confirms.push(soon(publisher.publish(format!("{number}"))).await.unwrap());
    }
    assert_eq!(peer.published().await.bodies.len(), 6);
    peer.confirm(1, 1, &[range(1, 2), range(4, 4)]).await;
    soon(publisher.settled_beyond(1)).await.unwrap();
    let mut events = connection.events();
    drop(peer);
    assert!(matches!(soon(events.next()).await, Some(Event::Disconnected(CloseReason::Io(_)))));
    assert!(matches!(connection.status(), Status::Reconnecting));
    // Publishing goes on meanwhile.
    confirms.push(soon(publisher.publish("7")).await.unwrap());

    let mut peer = back_with_channel(&server).await;
    let opened = peer.done("OpenPublisher").await;
    assert!(matches!(opened, Body::OpenPublisher(pb::OpenPublisher { publisher: 1, target: Some(_) })));
    assert_eq!(reconnected(&mut events).await, 3);
    let mut arrived = Vec::new();
    while arrived.len() < 4 {
        let published = peer.published().await;
        for (sequence, body) in (published.first_sequence..).zip(published.bodies) {
            arrived.push((sequence, body, published.resent));
        }
    }
    let expected = [(3, true), (5, true), (6, true), (7, false)];
    let expected = expected.map(|(sequence, resent)| (sequence, sequence.to_string(), resent));
    assert_eq!(arrived, expected);
    peer.confirm(1, 1, &[range(3, 3), range(5, 7)]).await;
    for confirm in confirms {
        soon(confirm).await.unwrap();
    }
    assert!(matches!(connection.status(), Status::Connected));
}

#[tokio::test]
async fn a_second_break_marks_what_the_first_had_marked_already() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let (publisher, _) = tokio::join!(soon(channel.publisher("x", "k").open()), peer.done("OpenPublisher"));
    let publisher = publisher.unwrap();
    let mut batch = MessageBatch::new();
    (0..200).for_each(|number| batch.push_body(format!("{number:01000}").as_bytes()));
    soon(publisher.send_batch(&mut batch)).await.unwrap();
    soon(publisher.flush()).await.unwrap();
    for _ in 0..2 {
        drop(peer);
        peer = back_with_channel(&server).await;
        peer.done("OpenPublisher").await;
        let mut sequence = 1;
        while sequence <= 200 {
            let published = peer.published().await;
            assert!(published.resent && published.first_sequence == sequence, "{published:?}");
            sequence += published.bodies.len() as u64;
        }
    }
    peer.confirm(1, 1, &[range(1, 200)]).await;
    soon(publisher.wait_for_all()).await.unwrap();
    soon(publisher.send("new")).await.unwrap();
    let published = peer.published().await;
    assert!(!published.resent && published.first_sequence == 201);
}

#[tokio::test]
async fn topology_comes_back_before_publishers_and_consumers() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let setup = async {
        channel.declare_exchange(Exchange::new("x", ExchangeKind::Fanout)).await?;
        channel.declare_exchange(Exchange::new("gone", ExchangeKind::Fanout)).await?;
        channel.declare_queue(Queue::new("q")).await?;
        let private = channel.declare_queue(Queue::private()).await?.name;
        channel.bind(Binding::to_queue("x", "q", "")).await?;
        channel.bind(Binding::to_queue("x", &private, "")).await?;
        channel.delete_exchange("gone", DeleteExchange::default()).await?;
        channel.consume(&private).start().await
    };
    let script = async {
        peer.done("DeclareExchange").await;
        peer.done("DeclareExchange").await;
        peer.answer("DeclareQueue", declared("q")).await;
        peer.answer("DeclareQueue", declared("amq.gen-1")).await;
        peer.done("Bind").await;
        peer.done("Bind").await;
        peer.done("DeleteExchange").await;
        peer.consuming().await;
    };
    let (consumer, ()) = tokio::join!(soon(setup), script);
    let mut consumer = consumer.unwrap();
    let mut events = connection.events();
    drop(peer);

    let mut peer = back_with_channel(&server).await;
    let exchange = peer.done("DeclareExchange").await;
    assert!(matches!(exchange, Body::DeclareExchange(exchange) if exchange.name == "x" && !exchange.passive));
    let mut queues = Vec::new();
    for _ in 0..2 {
        let (number, request, body) = peer.expect().await;
        let Body::DeclareQueue(queue) = body else { panic!("expected a DeclareQueue, got {body:?}") };
        let name = if queue.name.is_empty() { "amq.gen-2" } else { &queue.name };
        queues.push((queue.name.clone(), queue.exclusive));
        peer.send(number, request, declared(name)).await;
    }
    queues.sort();
    assert_eq!(queues, [(String::new(), true), ("q".to_owned(), false)]);
    let mut bound = Vec::new();
    for _ in 0..2 {
        let Body::Bind(bind) = peer.done("Bind").await else { panic!("checked by the peer") };
        bound.push(bind.binding.unwrap().destination);
    }
    bound.sort();
    assert_eq!(bound, ["amq.gen-2", "q"]);
    assert_eq!(peer.consuming().await.queue, "amq.gen-2");
    peer.deliver(1, 1, &["hello again"]).await;
    assert_eq!(soon(consumer.next()).await.unwrap().unwrap().body(), "hello again");
    assert_eq!(consumer.queue(), "amq.gen-2");
    let mut renamed = false;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        renamed |=
            matches!(event, Event::QueueRenamed { old, new } if old == "amq.gen-1" && new == "amq.gen-2");
    }
    assert!(renamed);
}

#[tokio::test]
async fn deliveries_of_the_old_connection_cannot_be_settled() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let (consumer, _) = tokio::join!(soon(channel.consume("q").start()), peer.consuming());
    let mut consumer = consumer.unwrap();
    peer.deliver(1, 1, &["a", "b"]).await;
    peer.deliver(1, 3, &["waits"]).await;
    let old = soon(consumer.next()).await.unwrap().unwrap();
    let second = soon(consumer.next()).await.unwrap().unwrap();
    let mut events = connection.events();
    drop(peer);
    soon(events.next()).await.unwrap();
    assert!(matches!(old.accept(), Err(SettleError::Stale)));

    let mut peer = back_with_channel(&server).await;
    assert_eq!(peer.consuming().await.consumer, 1);
    reconnected(&mut events).await;
    assert!(matches!(second.accept(), Err(SettleError::Stale)));
    peer.deliver(1, 1, &["a"]).await;
    let new = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!((new.tag().0, &new.body()[..]), (1, &b"a"[..]), "what waited is dropped: it comes again");
    new.accept().unwrap();
    assert_eq!(peer.settled().await.2, [(1, 0, Outcome::Accepted)]);
}

#[tokio::test]
async fn without_acknowledgements_what_waits_here_is_kept() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let (consumer, _) = tokio::join!(soon(channel.consume("q").no_ack().start()), peer.consuming());
    let mut consumer = consumer.unwrap();
    peer.deliver(1, 1, &["a", "b"]).await;
    assert_eq!(soon(consumer.next()).await.unwrap().unwrap().body(), "a");
    assert!(matches!(peer.expect().await, (1, 0, Body::Credit(_))));
    peer.deliver(1, 3, &["c"]).await;
    // Whatever was sent before the answer is here when the answer is.
    let (checked, _) =
        tokio::join!(soon(channel.check_queue("q")), peer.answer("DeclareQueue", declared("q")));
    checked.unwrap();
    let mut events = connection.events();
    drop(peer);
    let mut peer = back_with_channel(&server).await;
    peer.consuming().await;
    reconnected(&mut events).await;
    peer.deliver(1, 1, &["d"]).await;
    for body in ["b", "c", "d"] {
        assert_eq!(soon(consumer.next()).await.unwrap().unwrap().body(), body);
    }
}

#[tokio::test]
async fn requests_under_way_are_repeated_if_that_does_no_harm() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let script = async {
        for _ in 0..3 {
            peer.expect().await;
        }
        drop(peer);
        let mut peer = back_with_channel(&server).await;
        peer.answer("DeclareQueue", declared("q")).await;
        let (number, request, body) = peer.expect().await;
        assert!(matches!(body, Body::OpenPublisher(_)), "{body:?}");
        peer.send(number, request, Body::Done(pb::Done {})).await;
        peer
    };
    let (declared, purged, opened, _peer) = soon(async {
        tokio::join!(
            channel.declare_queue(Queue::new("q")),
            channel.purge_queue("q"),
            channel.publisher("x", "k").open(),
            script
        )
    })
    .await;
    assert_eq!(declared.unwrap().name, "q");
    assert!(matches!(purged, Err(RequestError::Disconnected(_))), "{purged:?}");
    opened.unwrap();
}

#[tokio::test]
async fn requests_made_while_reconnecting_wait() {
    let server = Server::start().await;
    let (connection, channel, peer) = server.channel().await;
    let mut events = connection.events();
    drop(peer);
    soon(events.next()).await.unwrap();
    let script = async {
        let mut peer = back_with_channel(&server).await;
        let answer = Body::MessageCount(pb::MessageCount { count: 4 });
        peer.answer("PurgeQueue", answer).await;
        peer
    };
    let (purged, _peer) = tokio::join!(soon(channel.purge_queue("q")), script);
    assert_eq!(purged.unwrap(), 4);
}

#[tokio::test]
async fn what_was_closed_while_the_connection_was_broken_stays_closed() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let second = peer.open_channel(&connection).await;
    let (publisher, _) = tokio::join!(soon(channel.publisher("x", "k").open()), peer.done("OpenPublisher"));
    let publisher = publisher.unwrap();
    let (consumer, _) = tokio::join!(soon(channel.consume("q").start()), peer.consuming());
    let mut events = connection.events();
    drop(peer);
    soon(events.next()).await.unwrap();
    soon(publisher.send("last")).await.unwrap();
    drop(publisher);
    soon(consumer.unwrap().cancel()).await.expect("it ended with the connection");
    drop(second);

    let (mut peer, _) = server.login().await;
    peer.done("OpenChannel").await;
    peer.done("OpenChannel").await;
    peer.done("OpenPublisher").await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let frame = peer.frame().await;
        match frame.body {
            crate::wire::Body::Publish(_) => seen.push("Publish"),
            crate::wire::Body::Other(body) => {
                seen.push(crate::client::convert::kind_name(&body));
                peer.send(frame.channel, frame.request, Body::Done(pb::Done {})).await;
            }
            other => panic!("{other:?}"),
        }
    }
    let at = |kind| {
        seen.iter().position(|seen| *seen == kind).unwrap_or_else(|| panic!("{kind} is missing: {seen:?}"))
    };
    assert!(at("Publish") < at("ClosePublisher"), "{seen:?}");
    assert!(at("CloseChannel") < 3);
}

#[tokio::test]
async fn a_queue_that_another_connection_has_is_tried_again_while_the_rest_goes_on() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let setup = async {
        channel.declare_queue(Queue::new("mine").exclusive()).await?;
        channel.declare_queue(Queue::new("ours")).await?;
        channel.bind(Binding::to_queue("x", "mine", "k")).await?;
        let mine = channel.consume("mine").start().await?;
        Ok::<_, RequestError>((mine, channel.consume("ours").start().await?))
    };
    let script = async {
        peer.answer("DeclareQueue", declared("mine")).await;
        peer.answer("DeclareQueue", declared("ours")).await;
        peer.done("Bind").await;
        peer.consuming().await;
        peer.consuming().await;
    };
    let (consumers, ()) = tokio::join!(soon(setup), script);
    let (mut mine, mut ours) = consumers.unwrap();
    let mut events = connection.events();
    drop(peer);
    let mut peer = back_with_channel(&server).await;
    peer.answer("DeclareQueue", Body::Error(error(405, "locked"))).await;
    peer.answer("DeclareQueue", declared("ours")).await;
    assert_eq!(peer.consuming().await.queue, "ours", "nothing waits for the other one, not even its binding");
    peer.deliver(2, 1, &["works"]).await;
    assert_eq!(soon(ours.next()).await.unwrap().unwrap().body(), "works");
    peer.answer("DeclareQueue", Body::Error(error(405, "locked"))).await;
    peer.answer("DeclareQueue", declared("mine")).await;
    peer.done("Bind").await;
    assert_eq!(peer.consuming().await.queue, "mine");
    peer.deliver(1, 1, &["mine again"]).await;
    assert_eq!(soon(mine.next()).await.unwrap().unwrap().body(), "mine again");
    let mut told = Vec::new();
    while told.len() < 3 {
        match soon(events.next()).await {
            Some(Event::NotRestored { what, refusal }) => {
                told.push(format!("no {what}: {}", refusal.code.number()))
            }
            Some(Event::Reconnected { attempts, .. }) => told.push(format!("back after {attempts}")),
            Some(Event::Restored { what }) => told.push(format!("here {what}")),
            Some(Event::Disconnected(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, ["no queue 'mine': 405", "back after 1", "here queue 'mine'"]);
}

#[tokio::test]
async fn a_queue_that_is_refused_when_it_is_free_ends_its_consumers() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let setup = async {
        channel.declare_queue(Queue::new("mine").exclusive()).await?;
        channel.consume("mine").start().await
    };
    let script = async {
        peer.answer("DeclareQueue", declared("mine")).await;
        peer.consuming().await;
    };
    let (consumer, ()) = tokio::join!(soon(setup), script);
    let mut consumer = consumer.unwrap();
    drop(peer);
    let mut peer = back_with_channel(&server).await;
    peer.answer("DeclareQueue", Body::Error(error(405, "locked"))).await;
    peer.answer("DeclareQueue", Body::Error(error(406, "it is durable now"))).await;
    let ended = soon(consumer.next()).await;
    assert!(matches!(ended, Some(Err(ConsumeError::NotRestored(_)))), "{ended:?}");
}

/// A connection with an auto-delete queue `q`, bound to an auto-delete exchange `x`, which is bound to `top`; and a consumer.
async fn subscribed(channel: &crate::client::Channel, peer: &mut Peer) -> crate::client::Consumer {
    let setup = async {
        channel.declare_exchange(Exchange::new("x", ExchangeKind::Fanout).auto_delete()).await?;
        channel.declare_queue(Queue::new("q").auto_delete()).await?;
        channel.bind(Binding::to_exchange("top", "x", "")).await?;
        channel.bind(Binding::to_queue("x", "q", "")).await?;
        channel.consume("q").start().await
    };
    let script = async {
        peer.done("DeclareExchange").await;
        peer.answer("DeclareQueue", declared("q")).await;
        peer.done("Bind").await;
        peer.done("Bind").await;
        peer.consuming().await;
    };
    let (consumer, ()) = tokio::join!(soon(setup), script);
    consumer.unwrap()
}

/// The next thing that the client wants is what is asked for here: nothing is made again before it.
async fn makes_nothing_again(server: &Server, channel: &crate::client::Channel) {
    let mut peer = back_with_channel(server).await;
    let answer = async { peer.answer("PurgeQueue", Body::MessageCount(pb::MessageCount { count: 0 })).await };
    let (purged, _) = tokio::join!(soon(channel.purge_queue("other")), answer);
    purged.unwrap();
}

#[tokio::test]
async fn what_went_with_its_last_consumer_is_not_made_again() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let consumer = subscribed(&channel, &mut peer).await;
    let (cancelled, _) = tokio::join!(soon(consumer.cancel()), peer.done("CancelConsumer"));
    cancelled.unwrap();
    let mut events = connection.events();
    drop(peer);
    soon(events.next()).await.unwrap();
    makes_nothing_again(&server, &channel).await;
}

#[tokio::test]
async fn what_lost_its_last_consumer_while_the_connection_was_broken_is_not_made_again() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let consumer = subscribed(&channel, &mut peer).await;
    let mut events = connection.events();
    drop(peer);
    soon(events.next()).await.unwrap();
    drop(consumer);
    makes_nothing_again(&server, &channel).await;
}

#[tokio::test]
async fn a_queue_that_was_deleted_under_its_consumer_is_not_made_again() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let mut consumer = subscribed(&channel, &mut peer).await;
    let cancelled =
        pb::ConsumerCancelled { consumer: 1, reason: "its queue was deleted".to_owned(), error: None };
    peer.send(1, 0, Body::ConsumerCancelled(cancelled)).await;
    assert!(matches!(soon(consumer.next()).await, Some(Err(ConsumeError::Cancelled { .. }))));
    let mut events = connection.events();
    drop(peer);
    soon(events.next()).await.unwrap();
    makes_nothing_again(&server, &channel).await;
}

#[tokio::test]
async fn a_queue_whose_last_consumer_ends_while_it_is_made_again_is_deleted_again() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let consumer = subscribed(&channel, &mut peer).await;
    drop(peer);
    let (mut peer, number, request) = back_up_to_queue(&server).await;
    drop(consumer);
    peer.send(number, request, declared("q")).await;
    peer.done("Bind").await;
    peer.done("Bind").await;
    let count = Body::MessageCount(pb::MessageCount { count: 0 });
    let deleted = peer.answer("DeleteQueue", count).await;
    assert!(matches!(deleted, Body::DeleteQueue(queue) if queue.name == "q" && queue.if_unused));
}

#[tokio::test]
async fn a_queue_whose_consumer_is_refused_after_it_was_made_again_is_deleted_again() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let mut consumer = subscribed(&channel, &mut peer).await;
    drop(peer);
    let mut peer = back_with_channel(&server).await;
    peer.done("DeclareExchange").await;
    peer.answer("DeclareQueue", declared("q")).await;
    peer.done("Bind").await;
    peer.done("Bind").await;
    peer.answer("Consume", Body::Error(error(403, "somebody consumes exclusively"))).await;
    let deleted = peer.answer("DeleteQueue", Body::Error(error(406, "in use"))).await;
    assert!(matches!(deleted, Body::DeleteQueue(queue) if queue.name == "q" && queue.if_unused));
    assert!(matches!(soon(consumer.next()).await, Some(Err(ConsumeError::NotRestored(_)))));
}

#[tokio::test]
async fn what_cannot_be_restored_is_told_to_those_who_need_it() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let (queue, _) = tokio::join!(
        soon(channel.declare_queue(Queue::new("q"))),
        peer.answer("DeclareQueue", declared("q"))
    );
    queue.unwrap();
    let (publisher, _) = tokio::join!(soon(channel.publisher("x", "k").open()), peer.done("OpenPublisher"));
    let publisher = publisher.unwrap();
    let (consumer, _) = tokio::join!(soon(channel.consume("q").start()), peer.consuming());
    let mut consumer = consumer.unwrap();
    let confirm = soon(publisher.publish("m")).await.unwrap();
    peer.published().await;
    let mut events = connection.events();
    drop(peer);
    let mut peer = back_with_channel(&server).await;
    peer.answer("DeclareQueue", Body::Error(error(406, "no longer durable"))).await;
    peer.answer("OpenPublisher", Body::Error(error(404, "no exchange 'x'"))).await;
    peer.answer("Consume", Body::Error(error(404, "no queue 'q'"))).await;
    let ended = soon(consumer.next()).await;
    assert!(matches!(ended, Some(Err(ConsumeError::NotRestored(_)))), "{ended:?}");
    assert!(soon(consumer.next()).await.is_none());
    let confirm = soon(confirm).await;
    assert!(matches!(confirm, Err(ConfirmError::Closed(CloseReason::RestoreRefused { .. }))), "{confirm:?}");
    let sent = soon(publisher.send("m")).await;
    assert!(matches!(sent, Err(PublishError::Closed(CloseReason::RestoreRefused { .. }))), "{sent:?}");
    let mut what_was_not = None;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        if let Event::NotRestored { what, .. } = event {
            what_was_not = Some(what);
        }
    }
    assert_eq!(what_was_not.as_deref(), Some("queue 'q'"));
}

#[tokio::test]
async fn giving_up_ends_everything_with_the_last_error() {
    let server = Server::start().await;
    let options = server.options();
    let backoff = crate::client::Backoff { attempts_max: 3, ..options.reconnect.clone().unwrap() };
    let (connection, mut peer) = server.connection_with(options.reconnect(backoff)).await;
    let channel = peer.open_channel(&connection).await;
    let (publisher, _) = tokio::join!(soon(channel.publisher("x", "k").open()), peer.done("OpenPublisher"));
    let publisher = publisher.unwrap();
    let confirm = soon(publisher.publish("m")).await.unwrap();
    peer.published().await;
    drop(server);
    drop(peer);
    let confirm = soon(confirm).await;
    assert!(
        matches!(confirm, Err(ConfirmError::Closed(CloseReason::GaveUp { attempts: 3, .. }))),
        "{confirm:?}"
    );
    let closed = soon(connection.close()).await;
    assert!(matches!(closed, Err(CloseReason::GaveUp { .. })), "{closed:?}");
}

#[tokio::test]
async fn without_reconnecting_the_first_break_is_the_end() {
    let server = Server::start().await;
    let (connection, mut peer) = server.connection_with(server.options().no_reconnect()).await;
    let channel = peer.open_channel(&connection).await;
    drop(peer);
    let mut events = connection.events();
    assert!(matches!(soon(events.next()).await, Some(Event::Closed(CloseReason::Io(_)))));
    let refused = channel.check_queue("q").await;
    assert!(matches!(refused, Err(RequestError::Closed(CloseReason::Io(_)))), "{refused:?}");
}

#[tokio::test]
async fn closing_stops_reconnecting() {
    let server = Server::start().await;
    let options = server.options();
    let backoff = crate::client::Backoff {
        delay_first: Duration::from_secs(3600),
        delay_max: Duration::from_secs(3600),
        give_up_after: Duration::from_secs(7200),
        ..options.reconnect.clone().unwrap()
    };
    let (connection, peer) = server.connection_with(options.reconnect(backoff)).await;
    let mut events = connection.events();
    drop((server, peer));
    while !matches!(soon(events.next()).await, Some(Event::AttemptFailed { .. })) {}
    soon(connection.close()).await.unwrap();
}

#[tokio::test]
async fn closing_while_the_connection_is_made_again_leaves_no_queue_without_its_consumer() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let _consumer = subscribed(&channel, &mut peer).await;
    drop(peer);
    let (mut peer, number, request) = back_up_to_queue(&server).await;
    let mut closing = pin!(connection.close());
    assert!(tokio::time::timeout(Duration::ZERO, &mut closing).await.is_err(), "it is made again first");
    peer.send(number, request, declared("q")).await;
    peer.done("Bind").await;
    peer.done("Bind").await;
    let (_, _, body) = peer.expect().await;
    assert!(matches!(body, Body::Consume(_)), "{body:?}");
    let (closed, ()) = tokio::join!(soon(closing), peer.goodbye());
    closed.unwrap();
}

#[test]
fn a_runtime_that_ends_ends_the_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (connection, _peer): (Connection, Peer) = runtime.block_on(async {
        let server = Server::start().await;
        server.connection().await
    });
    drop(runtime);
    assert!(matches!(connection.status(), Status::Closed(CloseReason::Io(_))));
}
