//! Queues that refuse what comes when they are full: confirms name them, other queues have what they refuse, and it may be dead letters.

use leveret::client::{
    Binding, Channel, ConfirmError, Exchange, ExchangeKind, Get, JourneyRule, JourneyScope, Message,
    MessageBatch, Overflow, Publisher, Queue, QueueEntry, ReceiptState, Refusal, ReplyCode,
};
use std::sync::Arc;

use super::{connect, soon};
use crate::support::Broker;

async fn entry(channel: &Channel, queue: &str) -> QueueEntry {
    soon(channel.find_queue(queue)).await.unwrap().unwrap()
}

async fn taken(channel: &Channel, queue: &str) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(message) = soon(channel.get(queue, Get { no_ack: true })).await.unwrap() {
        taken.push(String::from_utf8_lossy(message.delivery.body()).into_owned());
    }
    taken
}

/// Publishes them in one go, so that they share frames; why those were refused that were.
async fn publish(publisher: &Publisher, ids: &[&str]) -> Vec<Option<Arc<Refusal>>> {
    let mut waiting = Vec::new();
    for id in ids {
        let message = Message::new((*id).to_owned()).message_id(*id);
        waiting.push(publisher.publish(message).await.unwrap());
    }
    let mut refusals = Vec::new();
    for confirm in waiting {
        refusals.push(match soon(confirm).await {
            Ok(_) => None,
            Err(ConfirmError::Refused(refusal)) => Some(refusal),
            Err(other) => panic!("{other}"),
        });
    }
    refusals
}

fn are_refused(refusals: &[Option<Arc<Refusal>>]) -> Vec<bool> {
    refusals.iter().map(Option::is_some).collect()
}

fn small(name: &str) -> Queue {
    Queue::new(name).max_length(2).overflow(Overflow::RejectPublish)
}

#[tokio::test]
async fn the_confirm_names_the_full_queue_and_the_others_have_the_message() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    soon(channel.declare_exchange(Exchange::new("all", ExchangeKind::Fanout))).await.unwrap();
    // Wherever they live: the shards answer apart.
    for queue in [
        small("small"),
        small("tiny").max_length(1),
        Queue::new("large"),
        Queue::new("transient").transient(),
    ] {
        let name = queue.name.clone();
        soon(channel.declare_queue(queue)).await.unwrap();
        if name != "tiny" {
            soon(channel.bind(Binding::to_queue("all", &name, ""))).await.unwrap();
        }
    }
    let publisher = soon(channel.publisher("all", "").open()).await.unwrap();
    let refusals = publish(&publisher, &["a", "b", "c", "d"]).await;
    assert_eq!(are_refused(&refusals), [false, false, true, true]);
    let refusal = refusals[3].as_ref().unwrap();
    assert_eq!((refusal.code, refusal.retryable), (ReplyCode::ResourceError, true));
    assert_eq!(refusal.text, "queue 'small' is full and refuses what comes");
    assert_eq!(
        (refusal.field.as_str(), refusal.expected.as_str(), refusal.got.as_str()),
        ("x-max-length", "at most 2 messages waiting", "one more")
    );
    let told = entry(&channel, "small").await;
    assert_eq!((told.messages_ready, told.refused_full_total, told.max_length_total), (2, 2, 0));
    let journeys = soon(channel.receipts("d")).await.unwrap().journeys;
    let mut states: Vec<_> =
        journeys[0].receipts.iter().map(|receipt| (receipt.queue.as_str(), receipt.state)).collect();
    states.sort_by_key(|(queue, _)| *queue);
    assert_eq!(
        states,
        [
            ("large", ReceiptState::Pending),
            ("small", ReceiptState::NotTaken),
            ("transient", ReceiptState::Pending)
        ]
    );
    assert_eq!(taken(&channel, "transient").await, ["a", "b", "c", "d"]);

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    let publisher = soon(channel.publisher("", "small").open()).await.unwrap();
    assert_eq!(are_refused(&publish(&publisher, &["e"]).await), [true], "after a restart, too");
    assert_eq!(taken(&channel, "large").await, ["a", "b", "c", "d"]);
    assert_eq!(taken(&channel, "small").await, ["a", "b"]);
    assert_eq!(are_refused(&publish(&publisher, &["f"]).await), [false]);
}

#[tokio::test]
async fn of_what_nobody_asks_to_be_confirmed_nobody_hears() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(small("small"))).await.unwrap();
    let publisher = soon(channel.publisher("", "small").without_confirms().open()).await.unwrap();
    let mut batch = MessageBatch::new();
    (0..100).for_each(|_| {
        batch.push_body(b"x");
    });
    soon(publisher.send_batch(&mut batch)).await.unwrap();
    let told = soon(async {
        loop {
            let told = entry(&channel, "small").await;
            if told.refused_full_total > 0 {
                break told;
            }
        }
    });
    let told = told.await;
    assert_eq!((told.messages_ready, told.refused_full_total), (2, 98));
    soon(publisher.send("y")).await.unwrap();
}

#[tokio::test]
async fn what_comes_back_is_let_in_and_a_consumer_makes_room() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(small("small"))).await.unwrap();
    let mut consumer = soon(channel.consume("small").prefetch(2).start()).await.unwrap();
    let publisher = soon(channel.publisher("", "small").open()).await.unwrap();
    let refusals = publish(&publisher, &["a", "b", "c", "d", "e"]).await;
    assert_eq!(are_refused(&refusals), [false, false, false, false, true]);
    let first = soon(consumer.next()).await.unwrap().unwrap();
    let second = soon(consumer.next()).await.unwrap().unwrap();
    first.accept().unwrap();
    let third = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(are_refused(&publish(&publisher, &["f", "g"]).await), [false, true]);
    soon(consumer.cancel()).await.unwrap();
    second.requeue().unwrap();
    third.requeue().unwrap();
    assert_eq!(are_refused(&publish(&publisher, &["h"]).await), [true]);
    assert_eq!(taken(&channel, "small").await, ["b", "c", "d", "f"]);
}

#[tokio::test]
async fn refused_messages_may_be_dead_letters() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    soon(channel.declare_queue(Queue::new("dead"))).await.unwrap();
    let queue = Queue::new("small").max_length(1).overflow(Overflow::RejectPublishDlx);
    let queue = queue.dead_letter_exchange("").dead_letter_routing_key("dead");
    soon(channel.declare_queue(queue)).await.unwrap();
    let mut dead = soon(channel.consume("dead").start()).await.unwrap();
    let publisher = soon(channel.publisher("", "small").open()).await.unwrap();
    assert_eq!(are_refused(&publish(&publisher, &["a", "b", "c"]).await), [false, true, true]);
    for body in ["b", "c"] {
        let letter = soon(dead.next()).await.unwrap().unwrap();
        assert_eq!(letter.body(), body.as_bytes());
        let headers = letter.properties().unwrap().headers;
        assert_eq!(headers.text("x-first-death-reason"), Some("maxlen"));
        letter.accept().unwrap();
    }
    let told = soon(async {
        loop {
            let told = entry(&channel, "small").await;
            if told.dead_lettered_total == 2 {
                break told;
            }
        }
    });
    let told = told.await;
    assert_eq!((told.messages_ready, told.refused_full_total, told.max_length_total), (1, 2, 2));
    let journeys = soon(channel.receipts("b")).await.unwrap().journeys;
    assert_eq!(journeys[0].receipts[0].state, ReceiptState::DeadLettered);
    assert_eq!(taken(&channel, "small").await, ["a"]);
}

/// What was taken in once is not refused: it would be lost.
#[tokio::test]
async fn dead_letters_are_let_in() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(small("dead"))).await.unwrap();
    let short = Queue::new("short").max_length(0).dead_letter_exchange("").dead_letter_routing_key("dead");
    soon(channel.declare_queue(short)).await.unwrap();
    let publisher = soon(channel.publisher("", "short").open()).await.unwrap();
    assert_eq!(are_refused(&publish(&publisher, &["a", "b", "c"]).await), [false; 3]);
    soon(async { while entry(&channel, "dead").await.messages_ready < 3 {} }).await;
    let publisher = soon(channel.publisher("", "dead").open()).await.unwrap();
    assert_eq!(are_refused(&publish(&publisher, &["d"]).await), [true]);
    assert_eq!(taken(&channel, "dead").await, ["a", "b", "c"]);
}

/// A copy for which quarantine has no room is not kept, and the publisher is told so of exactly that message.
#[tokio::test]
async fn a_full_quarantine_queue_keeps_no_more() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(small("odd"))).await.unwrap();
    let events = Exchange::new("events", ExchangeKind::Topic).allow("order.*").quarantine_queue("odd");
    soon(channel.declare_exchange(events)).await.unwrap();
    let publisher = soon(channel.publisher("events", "nonsense").open()).await.unwrap();
    let refusals = publish(&publisher, &["a", "b", "c"]).await;
    let texts: Vec<&str> = refusals.iter().map(|refusal| refusal.as_ref().unwrap().text.as_str()).collect();
    let kept = |text: &str| text.ends_with("it is kept in queue 'odd'");
    assert!(kept(texts[0]) && kept(texts[1]), "{texts:?}");
    assert!(
        texts[2].ends_with("it is not kept in queue 'odd': queue 'odd' is full and refuses what comes"),
        "{texts:?}"
    );
}
