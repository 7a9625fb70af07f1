//! Messages with an expiration of their own: each leaves when its time is over, wherever it stands.

use std::time::Duration;

use leveret::client::{
    Channel, FieldValue, Get, JourneyRule, JourneyScope, Message, MessageBatch, Queue, QueueEntry,
    ReceiptState, ReplyCode,
};

use super::{connect, soon};
use crate::support::Broker;

const DAY: u64 = 86_400_000;

async fn publish(channel: &Channel, queue: &str, messages: &[(&str, Option<u64>)]) {
    let publisher = soon(channel.publisher("", queue).open()).await.unwrap();
    let mut batch = MessageBatch::new();
    for (id, expiration_ms) in messages {
        let message = Message::new((*id).to_owned()).message_id(*id);
        let message = match expiration_ms {
            Some(expiration_ms) => message.expiration_ms(*expiration_ms),
            None => message,
        };
        batch.push(&message).unwrap();
    }
    soon(publisher.send_batch(&mut batch)).await.unwrap();
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn entry_when(channel: &Channel, queue: &str, is_so: impl Fn(&QueueEntry) -> bool) -> QueueEntry {
    soon(async {
        loop {
            let entry = channel.find_queue(queue).await.unwrap().unwrap();
            if is_so(&entry) {
                return entry;
            }
        }
    })
    .await
}

async fn taken(channel: &Channel, queue: &str) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(message) = soon(channel.get(queue, Get { no_ack: true })).await.unwrap() {
        taken.push(String::from_utf8_lossy(message.delivery.body()).into_owned());
    }
    taken
}

#[tokio::test]
async fn the_short_one_behind_the_long_one_leaves_first_and_a_restart_changes_nothing() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    soon(channel.declare_queue(Queue::new("mixed"))).await.unwrap();
    let messages = [("long", Some(DAY)), ("short", Some(30)), ("plain", None), ("brief", Some(1))];
    publish(&channel, "mixed", &messages).await;
    let told = entry_when(&channel, "mixed", |entry| entry.expired_total == 2).await;
    assert_eq!(told.messages_ready, 2);
    let journeys = soon(channel.receipts("short")).await.unwrap().journeys;
    assert_eq!(journeys[0].receipts[0].state, ReceiptState::Expired);

    publish(&channel, "mixed", &[("gone by then", Some(1)), ("last", Some(DAY))]).await;
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(taken(&channel, "mixed").await, ["long", "plain", "last"]);
}

#[tokio::test]
async fn the_queues_time_holds_as_well() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("brief").message_ttl(Duration::from_millis(30)))).await.unwrap();
    soon(channel.declare_queue(Queue::new("days").message_ttl(Duration::from_secs(86_400)))).await.unwrap();
    publish(&channel, "brief", &[("a", Some(DAY))]).await;
    publish(&channel, "days", &[("b", Some(DAY)), ("c", Some(30))]).await;
    entry_when(&channel, "brief", |entry| entry.expired_total == 1).await;
    entry_when(&channel, "days", |entry| entry.expired_total == 1).await;
    assert_eq!(taken(&channel, "days").await, ["b"]);
}

#[tokio::test]
async fn without_any_time_it_goes_to_those_who_are_there() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("now"))).await.unwrap();
    publish(&channel, "now", &[("nobody", Some(0)), ("waits", None)]).await;
    assert_eq!(taken(&channel, "now").await, ["waits"]);
    let mut consumer = soon(channel.consume("now").start()).await.unwrap();
    publish(&channel, "now", &[("there", Some(0))]).await;
    let there = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!((&there.body()[..], there.properties().unwrap().expiration_ms), (&b"there"[..], Some(0)));
    soon(there.accept_stored()).await.unwrap();
}

#[tokio::test]
async fn what_a_consumer_has_stays_with_it_and_leaves_when_it_comes_back() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    publish(&channel, "q", &[("a", Some(100)), ("b", Some(100)), ("c", Some(200))]).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        // A machine that is slow here has none of them any more.
        held.extend(soon(channel.get("q", Get::default())).await.unwrap());
    }
    let count = held.len() as u64;
    entry_when(&channel, "q", |entry| entry.expired_total == 3 - count).await;
    for got in held {
        got.delivery.requeue().unwrap();
    }
    entry_when(&channel, "q", |entry| entry.expired_total == 3).await;
    assert_eq!(taken(&channel, "q").await, [""; 0]);
}

#[tokio::test]
async fn it_is_a_dead_letter_that_expires_no_more() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("dead"))).await.unwrap();
    let queue = Queue::new("q").dead_letter_exchange("").dead_letter_routing_key("dead");
    soon(channel.declare_queue(queue)).await.unwrap();
    let mut dead = soon(channel.consume("dead").start()).await.unwrap();
    publish(&channel, "q", &[("stays", None), ("goes", Some(20))]).await;
    let letter = soon(dead.next()).await.unwrap().unwrap();
    assert_eq!(&letter.body()[..], b"goes");
    let properties = letter.properties().unwrap();
    assert_eq!(properties.expiration_ms, None);
    let Some(FieldValue::List(deaths)) = properties.headers.value("x-death") else {
        panic!("{properties:?}")
    };
    let [FieldValue::Table(death)] = &deaths[..] else { panic!("{deaths:?}") };
    assert_eq!((death.text("reason"), death.text("original-expiration")), (Some("expired"), Some("20")));
    assert_eq!(taken(&channel, "q").await, ["stays"]);
}

#[tokio::test]
async fn more_than_ten_years_are_refused_for_the_message_alone() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    let publisher = soon(channel.publisher("", "q").open()).await.unwrap();
    let mut batch = MessageBatch::new();
    for (body, expiration_ms) in [("most", 315_360_000_000), ("more", 315_360_000_001), ("all", u64::MAX)] {
        batch.push(&Message::new(body).expiration_ms(expiration_ms)).unwrap();
    }
    batch.push(&Message::new("none")).unwrap();
    let outcome = soon(soon(publisher.publish_batch(&mut batch)).await.unwrap()).await.unwrap();
    assert_eq!((outcome.confirmed, outcome.failed), (2, 2));
    let refusal = outcome.first_refusal.unwrap();
    assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
    assert_eq!((&*refusal.field, &*refusal.expected), ("expiration_ms", "0 to 315360000000"));
    assert_eq!(refusal.got, "315360000001");
    assert_eq!(taken(&channel, "q").await, ["most", "none"]);
}
