//! Queues with limits: what leaves is counted by reason, receipts tell it, and it does not come back.

use std::time::Duration;

use leveret::client::{
    Channel, Get, JourneyRule, JourneyScope, Message, Properties, Queue, QueueEntry, ReceiptState, ReplyCode,
    RequestError,
};

use super::{connect, soon};
use crate::support::Broker;

async fn publish(channel: &Channel, queue: &str, ids: &[&str]) {
    let publisher = soon(channel.publisher("", queue).open()).await.unwrap();
    for id in ids {
        let properties = Properties { message_id: (*id).to_owned(), ..Properties::default() };
        soon(publisher.send(Message::new((*id).to_owned()).with_properties(properties))).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn entry(channel: &Channel, queue: &str) -> QueueEntry {
    soon(channel.find_queue(queue)).await.unwrap().unwrap()
}

async fn state(channel: &Channel, id: &str) -> ReceiptState {
    soon(channel.receipts(id)).await.unwrap().journeys[0].receipts[0].state
}

async fn taken(channel: &Channel, queue: &str) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(message) = soon(channel.get(queue, Get { no_ack: true })).await.unwrap() {
        taken.push(String::from_utf8_lossy(message.delivery.body()).into_owned());
    }
    taken
}

#[tokio::test]
async fn the_oldest_make_room_and_their_receipts_say_so() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    let prices = || Queue::new("prices").max_length(2).max_length_bytes(10_000);
    channel.declare_queue(prices()).await.unwrap();
    publish(&channel, "prices", &["a", "b", "c"]).await;
    let told = entry(&channel, "prices").await;
    assert_eq!((told.messages_ready, told.max_length_total, told.expired_total), (2, 1, 0));
    assert_eq!(state(&channel, "a").await, ReceiptState::MaxLength);
    assert_eq!(state(&channel, "c").await, ReceiptState::Pending);
    let other = channel.declare_queue(Queue::new("prices").max_length(3)).await;
    assert!(
        matches!(&other, Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::PreconditionFailed),
        "{other:?}"
    );

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    publish(&channel, "prices", &["d"]).await;
    assert_eq!(taken(&channel, "prices").await, ["c", "d"], "the limit holds after a restart");
    channel.declare_queue(prices()).await.unwrap();
}

#[tokio::test]
async fn what_nobody_takes_in_time_is_gone_also_for_those_who_come_after_a_restart() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    channel.declare_queue(Queue::new("quotes").message_ttl(Duration::from_millis(50))).await.unwrap();
    channel.declare_queue(Queue::new("days").message_ttl(Duration::from_secs(86_400))).await.unwrap();
    publish(&channel, "quotes", &["a", "b"]).await;
    publish(&channel, "days", &["long"]).await;
    let told = soon(async {
        loop {
            let told = entry(&channel, "quotes").await;
            if told.messages_ready == 0 {
                break told;
            }
        }
    });
    assert_eq!(told.await.expired_total, 2);
    assert_eq!(state(&channel, "b").await, ReceiptState::Expired);
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(taken(&channel, "quotes").await, [""; 0]);
    assert_eq!(taken(&channel, "days").await, ["long"]);
}

/// The broker looks once a second.
#[tokio::test]
async fn a_queue_goes_without_consumers_and_stays_with_one() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let brief = |name: &str| Queue::new(name).expires(Duration::from_millis(1));
    for name in ["unused", "consumed", "long"] {
        let queue =
            if name == "long" { Queue::new(name).expires(Duration::from_secs(600)) } else { brief(name) };
        // The first two may be gone again by the time that this is answered.
        match soon(channel.declare_queue(queue)).await {
            Ok(_) => {}
            Err(error) => assert_ne!(name, "long", "{error}"),
        }
    }
    let _consumer = loop {
        soon(channel.declare_queue(brief("consumed"))).await.unwrap();
        if let Ok(consumer) = soon(channel.consume("consumed").start()).await {
            break consumer;
        }
    };
    publish(&channel, "long", &["stays"]).await;
    let is_there = async |name: &str| soon(channel.find_queue(name)).await.unwrap().is_some();
    soon(async { while is_there("unused").await {} }).await;
    // It has been looked for those since that were there before.
    soon(channel.declare_queue(brief("later"))).await.unwrap();
    soon(async { while is_there("later").await {} }).await;
    assert!(is_there("consumed").await && is_there("long").await);
    assert_eq!(taken(&channel, "long").await, ["stays"]);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let refused = async |queue: Queue| match channel.declare_queue(queue).await {
        Err(RequestError::Refused(refusal)) => (refusal.code, refusal.field.clone()),
        other => panic!("{other:?}"),
    };
    let q = || Queue::new("q");
    let wrong = ReplyCode::PreconditionFailed;
    for (queue, code, field) in [
        (q().argument("x-max-length", -1i64), wrong, "x-max-length"),
        (q().argument("x-max-length-bytes", "many"), wrong, "x-max-length-bytes"),
        (q().argument("x-message-ttl", 315_360_000_001i64), wrong, "x-message-ttl"),
        (q().argument("x-expires", 0i64), wrong, "x-expires"),
        (q().argument("x-overflow", "spill"), wrong, "x-overflow"),
        (q().argument("x-overflow", 1i64), wrong, "x-overflow"),
    ] {
        assert_eq!(refused(queue).await, (code, field.to_owned()));
    }
}
