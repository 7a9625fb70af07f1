//! Consumers whose queue another connection has for itself when they come back.

use super::reconnecting::{back_with_channel, declared};
use super::server::{Peer, Server, error, soon};
use crate::client::{Channel, Connection, ConsumeError, Consumer, Event, Events, RequestError};
use crate::wire::pb::{self, frame::Body};

/// Two consumers, and the connection breaks; the first of them is refused when it comes back, since its queue is taken.
async fn taken(server: &Server) -> (Connection, Channel, Consumer, Consumer, Events, Peer) {
    let (connection, channel, mut peer) = server.channel().await;
    let setup = async {
        let mine = channel.consume("mine").exclusive().start().await?;
        Ok::<_, RequestError>((mine, channel.consume("ours").start().await?))
    };
    let script = async {
        peer.consuming().await;
        peer.consuming().await;
    };
    let (consumers, ()) = tokio::join!(soon(setup), script);
    let (mine, ours) = consumers.unwrap();
    let events = connection.events();
    drop(peer);
    let mut peer = back_with_channel(server).await;
    // Two are asked for at once, in an order of their own.
    for _ in 0..2 {
        let (number, request, body) = peer.expect().await;
        let Body::Consume(consume) = body else { panic!("expected a Consume, got {body:?}") };
        let answer = match consume.queue.as_str() {
            "mine" => Body::Error(in_use()),
            _ => Body::Consuming(pb::Consuming { consumer: consume.consumer, tag: "ctag".to_owned() }),
        };
        peer.send(number, request, answer).await;
    }
    (connection, channel, mine, ours, events, peer)
}

fn in_use() -> pb::Error {
    pb::Error { retryable: true, ..error(403, "another consumer has the queue in exclusive use") }
}

#[tokio::test]
async fn a_consumer_whose_queue_another_one_has_is_tried_again_while_the_rest_goes_on() {
    let server = Server::start().await;
    let (_connection, _channel, mut mine, mut ours, mut events, mut peer) = taken(&server).await;
    peer.deliver(2, 1, &["works"]).await;
    assert_eq!(soon(ours.next()).await.unwrap().unwrap().body(), "works");
    peer.answer("Consume", Body::Error(in_use())).await;
    assert_eq!(peer.consuming().await.queue, "mine");
    peer.deliver(1, 1, &["mine again"]).await;
    assert_eq!(soon(mine.next()).await.unwrap().unwrap().body(), "mine again");
    let mut told = Vec::new();
    while told.len() < 2 {
        match soon(events.next()).await {
            Some(Event::NotRestored { what, refusal }) => {
                told.push(format!("no {what}: {}", refusal.code.number()))
            }
            Some(Event::Restored { what }) => told.push(format!("here {what}")),
            Some(Event::Disconnected(_) | Event::Reconnected { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, ["no consumer of queue 'mine': 403", "here consumer of queue 'mine'"]);
}

#[tokio::test]
async fn a_consumer_that_waits_for_its_queue_ends_when_the_queue_is_gone_or_it_is_not_wanted() {
    let server = Server::start().await;
    let (_connection, _channel, mut mine, _ours, _events, mut peer) = taken(&server).await;
    peer.answer("Consume", Body::Error(error(404, "no queue 'mine'"))).await;
    let ended = soon(mine.next()).await;
    assert!(matches!(ended, Some(Err(ConsumeError::NotRestored(_)))), "{ended:?}");

    let (_connection, channel, mine, _ours, mut events, mut peer) = taken(&server).await;
    while !matches!(soon(events.next()).await, Some(Event::NotRestored { .. })) {}
    drop(mine);
    // It may have been asked for once more before.
    loop {
        let (number, request, body) = peer.expect().await;
        match body {
            Body::Consume(_) => peer.send(number, request, Body::Error(in_use())).await,
            Body::CancelConsumer(_) => break peer.send(number, request, Body::Done(pb::Done {})).await,
            other => panic!("{other:?}"),
        }
    }
    let (checked, _) =
        tokio::join!(soon(channel.check_queue("ours")), peer.answer("DeclareQueue", declared("ours")));
    checked.unwrap();
}
