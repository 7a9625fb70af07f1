//! Dead letters: what a queue is rid of is stored where its exchange sends it, with its story, before it leaves; also across a crash.

use std::collections::BTreeSet;
use std::time::Duration;

use leveret::client::{
    Binding, Channel, Consumer, Delivery, Exchange, ExchangeKind, FieldTable, FieldValue, Get, JourneyRule,
    JourneyScope, Message, Properties, Queue, QueueEntry, ReceiptState, ReplyCode, RequestError,
};

use super::{connect, soon};
use crate::support::Broker;

async fn publish(channel: &Channel, queue: &str, bodies: &[&str]) {
    let publisher = soon(channel.publisher("", queue).open()).await.unwrap();
    for body in bodies {
        let properties = Properties { message_id: (*body).to_owned(), ..Properties::default() };
        soon(publisher.send(Message::new((*body).to_owned()).with_properties(properties))).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn entry(channel: &Channel, queue: &str) -> QueueEntry {
    soon(channel.find_queue(queue)).await.unwrap().unwrap()
}

/// The numbers of a queue as soon as they are these.
async fn entry_when(channel: &Channel, queue: &str, is_so: impl Fn(&QueueEntry) -> bool) -> QueueEntry {
    soon(async {
        loop {
            let entry = entry(channel, queue).await;
            if is_so(&entry) {
                return entry;
            }
        }
    })
    .await
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

async fn reject(channel: &Channel, queue: &str, count: usize) {
    let mut consumer = soon(channel.consume(queue).start()).await.unwrap();
    for _ in 0..count {
        next(&mut consumer).await.reject().unwrap();
    }
    soon(consumer.cancel()).await.unwrap();
}

fn deaths(delivery: &Delivery) -> Vec<FieldTable> {
    let headers = delivery.properties().unwrap().headers;
    let Some(FieldValue::List(listed)) = headers.value("x-death") else { panic!("{headers:?}") };
    let tables = listed.iter().map(|entry| match entry {
        FieldValue::Table(table) => table.clone(),
        other => panic!("{other:?}"),
    });
    tables.collect()
}

fn text<'a>(table: &'a FieldTable, name: &str) -> &'a str {
    table.text(name).unwrap_or_default()
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.body()).into_owned()
}

#[tokio::test]
async fn each_reason_brings_messages_to_the_exchange_with_their_story() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    soon(channel.declare_exchange(Exchange::new("dlx", ExchangeKind::Topic))).await.unwrap();
    soon(channel.declare_queue(Queue::new("dead"))).await.unwrap();
    soon(channel.bind(Binding::to_queue("dlx", "dead", "#"))).await.unwrap();
    let mut dead = soon(channel.consume("dead").start()).await.unwrap();
    for (queue, reason) in [
        (Queue::new("refusing"), "rejected"),
        (Queue::new("brief").message_ttl(Duration::from_millis(20)), "expired"),
        (Queue::new("short").max_length(0), "maxlen"),
    ] {
        let queue = queue.dead_letter_exchange("dlx");
        let name = queue.name.clone();
        soon(channel.declare_queue(queue)).await.unwrap();
        publish(&channel, &name, &[reason]).await;
        if reason == "rejected" {
            reject(&channel, &name, 1).await;
        }
        let letter = next(&mut dead).await;
        assert_eq!(
            (body(&letter).as_str(), letter.routing_key(), letter.exchange()),
            (reason, &*name, "dlx")
        );
        assert!(!letter.redelivered());
        let deaths = deaths(&letter);
        let [death] = &deaths[..] else { panic!("{deaths:?}") };
        assert_eq!(
            (text(death, "queue"), text(death, "reason"), text(death, "exchange")),
            (&*name, reason, "")
        );
        assert_eq!(death.value("count"), Some(&FieldValue::Integer(1)));
        assert_eq!(
            death.value("routing-keys"),
            Some(&FieldValue::List(vec![FieldValue::Text(name.clone())]))
        );
        assert!(matches!(death.value("time"), Some(FieldValue::TimestampSeconds(1_700_000_000..))));
        let headers = letter.properties().unwrap().headers;
        assert_eq!(
            (text(&headers, "x-first-death-queue"), text(&headers, "x-last-death-reason")),
            (&*name, reason)
        );
        letter.accept().unwrap();
        let told = entry_when(&channel, &name, |entry| entry.dead_lettered_total == 1).await;
        assert_eq!((told.messages_ready, told.messages_unacknowledged, told.dead_letters), (0, 0, 0));
        assert_eq!(told.rejected_total + told.expired_total + told.max_length_total, 1);
        let journeys = soon(channel.receipts(reason)).await.unwrap().journeys;
        let states: Vec<ReceiptState> = journeys[0].receipts.iter().map(|receipt| receipt.state).collect();
        assert_eq!(states, [ReceiptState::DeadLettered]);
    }
}

/// The classic ladder: a worker rejects, a queue without consumers lets wait, and its dead letters come back to the worker.
#[tokio::test]
async fn a_ladder_of_retries_counts_its_rounds() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let work = Queue::new("work").dead_letter_exchange("").dead_letter_routing_key("wait");
    let wait = Queue::new("wait").message_ttl(Duration::from_millis(10));
    soon(channel.declare_queue(work)).await.unwrap();
    soon(channel.declare_queue(wait.dead_letter_exchange("").dead_letter_routing_key("work"))).await.unwrap();
    publish(&channel, "work", &["job"]).await;
    let mut worker = soon(channel.consume("work").start()).await.unwrap();
    next(&mut worker).await.reject().unwrap();
    for round in 1..=5 {
        let job = next(&mut worker).await;
        let deaths = deaths(&job);
        let story: Vec<_> =
            deaths.iter().map(|death| (text(death, "queue"), text(death, "reason"))).collect();
        assert_eq!(story, [("wait", "expired"), ("work", "rejected")]);
        assert!(deaths.iter().all(|death| death.value("count") == Some(&FieldValue::Integer(round))));
        match round {
            5 => job.accept().unwrap(),
            _ => job.reject().unwrap(),
        }
    }
    entry_when(&channel, "work", |entry| entry.accepted_total == 1).await;
}

#[tokio::test]
async fn what_would_go_round_untouched_is_dropped_and_counted() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let round = Queue::new("round").message_ttl(Duration::from_millis(10)).dead_letter_exchange("");
    soon(channel.declare_queue(round)).await.unwrap();
    publish(&channel, "round", &["a", "b"]).await;
    let told = entry_when(&channel, "round", |entry| entry.cycled_total == 2).await;
    assert_eq!((told.messages_ready, told.dead_letters, told.dead_lettered_total), (0, 0, 0));
}

#[tokio::test]
async fn without_a_place_to_go_they_stay_until_there_is_one() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let queue = || Queue::new("q").dead_letter_exchange("later").dead_letter_routing_key("k");
    soon(channel.declare_queue(queue())).await.unwrap();
    publish(&channel, "q", &["a", "b", "c"]).await;
    reject(&channel, "q", 2).await;
    let told = entry_when(&channel, "q", |entry| entry.dead_letters == 2).await;
    assert_eq!((told.messages_ready, told.rejected_total), (1, 2));
    assert!(told.dead_letters_bytes > 0);
    assert_eq!(soon(channel.purge_queue("q")).await.unwrap(), 1, "those that wait");

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    let told = entry(&channel, "q").await;
    assert_eq!((told.messages_ready, told.dead_letters), (0, 2));
    soon(channel.declare_exchange(Exchange::new("later", ExchangeKind::Direct))).await.unwrap();
    soon(channel.declare_queue(Queue::new("dead"))).await.unwrap();
    soon(channel.bind(Binding::to_queue("later", "dead", "k"))).await.unwrap();
    let mut dead = soon(channel.consume("dead").start()).await.unwrap();
    for expected in ["a", "b"] {
        let letter = next(&mut dead).await;
        assert_eq!((body(&letter).as_str(), letter.routing_key()), (expected, "k"));
        letter.accept().unwrap();
    }
    entry_when(&channel, "q", |entry| entry.dead_letters == 0).await;
}

/// Each is where it was, or where it went, or in both places.
#[tokio::test]
async fn a_crash_on_the_way_loses_none() {
    const COUNT: usize = 3_000;
    let mut broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("q").dead_letter_exchange("").dead_letter_routing_key("dead")))
        .await
        .unwrap();
    soon(channel.declare_queue(Queue::new("dead"))).await.unwrap();
    let bodies: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let all: Vec<&str> = bodies.iter().map(String::as_str).collect();
    publish(&channel, "q", &all).await;
    let mut consumer = soon(channel.consume("q").start()).await.unwrap();
    for _ in 0..COUNT {
        next(&mut consumer).await.reject().unwrap();
    }
    entry_when(&channel, "dead", |entry| entry.messages_ready > 0).await;
    // None of them comes back.
    drop((consumer, channel, connection));
    broker.kill_and_restart();

    let (_connection, channel) = connect(&broker).await;
    let mut found = BTreeSet::new();
    let rejected = entry_when(&channel, "q", |entry| entry.dead_letters == 0).await;
    for (queue, count) in [("q", rejected.messages_ready), ("dead", u64::MAX)] {
        let mut left = count;
        while left > 0
            && let Some(message) = soon(channel.get(queue, Get { no_ack: true })).await.unwrap()
        {
            found.insert(String::from_utf8_lossy(message.delivery.body()).into_owned());
            left -= 1;
        }
    }
    assert_eq!(found, bodies.into_iter().collect());
}

#[tokio::test]
async fn arguments_that_lead_nowhere_are_refused() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for (queue, field) in [
        (Queue::new("q").dead_letter_routing_key("k"), "x-dead-letter-routing-key"),
        (Queue::new("q").argument("x-dead-letter-exchange", 1i64), "x-dead-letter-exchange"),
    ] {
        match soon(channel.declare_queue(queue)).await {
            Err(RequestError::Refused(refusal)) => {
                assert_eq!((refusal.code, refusal.field.as_str()), (ReplyCode::PreconditionFailed, field));
            }
            other => panic!("{other:?}"),
        }
    }
    soon(channel.declare_queue(Queue::new("q").dead_letter_exchange("dlx"))).await.unwrap();
    let other = soon(channel.declare_queue(Queue::new("q").dead_letter_exchange("other"))).await;
    assert!(
        matches!(&other, Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::PreconditionFailed),
        "{other:?}"
    );
}
