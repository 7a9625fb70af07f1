//! Queues with a limit on how often messages come back: what comes back more often leaves, also across crashes of consumers.

use leveret::client::{
    Channel, Consumer, Delivery, Get, JourneyRule, JourneyScope, Message, Queue, QueueEntry, ReceiptState,
    ReplyCode, RequestError,
};

use super::{connect, soon};
use crate::support::Broker;

async fn entry_when(channel: &Channel, queue: &str, is_so: impl Fn(&QueueEntry) -> bool) -> QueueEntry {
    soon(async {
        loop {
            let entry = soon(channel.find_queue(queue)).await.unwrap().unwrap();
            if is_so(&entry) {
                return entry;
            }
        }
    })
    .await
}

async fn publish(channel: &Channel, queue: &str, id: &str) {
    let publisher = soon(channel.publisher("", queue).open()).await.unwrap();
    soon(publisher.send(Message::new(id.to_owned()).message_id(id))).await.unwrap();
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_comes_back_too_often_is_a_dead_letter() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    soon(channel.declare_queue(Queue::new("dead"))).await.unwrap();
    let tasks =
        Queue::new("tasks").delivery_limit(2).dead_letter_exchange("").dead_letter_routing_key("dead");
    soon(channel.declare_queue(tasks)).await.unwrap();
    publish(&channel, "tasks", "poison").await;
    let mut consumer = soon(channel.consume("tasks").start()).await.unwrap();
    for returns in 0..=2 {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.delivery_count(), delivery.redelivered()), (returns, returns > 0));
        delivery.requeue().unwrap();
    }
    let mut dead = soon(channel.consume("dead").start()).await.unwrap();
    let letter = next(&mut dead).await;
    let headers = letter.properties().unwrap().headers;
    assert_eq!(
        (&letter.body()[..], headers.text("x-first-death-reason")),
        (&b"poison"[..], Some("delivery_limit"))
    );
    letter.accept().unwrap();
    let told = entry_when(&channel, "tasks", |entry| entry.dead_lettered_total == 1).await;
    assert_eq!((told.delivery_limit_total, told.messages_ready, told.dead_letters), (1, 0, 0));
    let journeys = soon(channel.receipts("poison")).await.unwrap().journeys;
    assert_eq!(journeys[0].receipts[0].state, ReceiptState::DeadLettered);
}

/// A worker that goes with its message counts as one that gives it back.
#[tokio::test]
async fn without_a_place_for_dead_letters_it_is_dropped_and_counted() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    soon(channel.declare_queue(Queue::new("tasks").delivery_limit(1))).await.unwrap();
    publish(&channel, "tasks", "poison").await;
    for returns in 0..=1 {
        let (worker, worker_channel) = connect(&broker).await;
        let mut consumer = soon(worker_channel.consume("tasks").start()).await.unwrap();
        assert_eq!(next(&mut consumer).await.delivery_count(), returns);
        soon(worker.close()).await.unwrap();
        if returns == 0 {
            entry_when(&channel, "tasks", |entry| entry.messages_ready == 1).await;
        }
    }
    let told = entry_when(&channel, "tasks", |entry| entry.delivery_limit_total == 1).await;
    assert_eq!((told.messages_ready, told.messages_unacknowledged), (0, 0));
    let journeys = soon(channel.receipts("poison")).await.unwrap().journeys;
    assert_eq!(journeys[0].receipts[0].state, ReceiptState::DeliveryLimit);
    // What is recorded behind it makes it durable.
    publish(&channel, "tasks", "next").await;
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    let got = soon(channel.get("tasks", Get { no_ack: true })).await.unwrap().unwrap();
    assert_eq!(&got.delivery.body()[..], b"next", "it stays away");
}

#[tokio::test]
async fn a_limit_is_a_number_and_is_compared() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let refused = async |queue: Queue| match channel.declare_queue(queue).await {
        Err(RequestError::Refused(refusal)) => (refusal.code, refusal.field.clone()),
        other => panic!("{other:?}"),
    };
    let wrong = (ReplyCode::PreconditionFailed, "x-delivery-limit".to_owned());
    assert_eq!(refused(Queue::new("q").argument("x-delivery-limit", -1i64)).await, wrong);
    assert_eq!(refused(Queue::new("q").argument("x-delivery-limit", "often")).await, wrong);
    soon(channel.declare_queue(Queue::new("q").delivery_limit(1))).await.unwrap();
    assert_eq!(refused(Queue::new("q").delivery_limit(2)).await, wrong);
}
