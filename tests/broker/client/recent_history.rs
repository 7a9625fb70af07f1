//! Exchanges that give what is bound to them what they kept.

use std::time::Duration;

use leveret::client::{
    Binding, Channel, Exchange, ExchangeKind, FieldTable, FieldValue, Get, Message, MessageBatch, Overflow,
    Queue, ReplyCode, RequestError, Subscription,
};

use super::{connect, soon};
use crate::support::Broker;

async fn declare(channel: &Channel, length: u32) {
    let exchange = Exchange::new("news", ExchangeKind::RecentHistory).history_length(length);
    soon(channel.declare_exchange(exchange)).await.unwrap();
}

async fn publish(channel: &Channel, messages: impl IntoIterator<Item = Message>) {
    let publisher = soon(channel.publisher("news", "k").not_mandatory().open()).await.unwrap();
    let mut batch = MessageBatch::new();
    messages.into_iter().for_each(|message| batch.push(&message).unwrap());
    assert_eq!(soon(publisher.publish_batch(&mut batch).await.unwrap()).await.unwrap().failed, 0);
}

fn numbered(numbers: std::ops::Range<usize>) -> impl Iterator<Item = Message> {
    numbers.map(|number| Message::new(number.to_string()))
}

async fn bind(channel: &Channel, queue: &str) -> Result<(), RequestError> {
    soon(channel.bind(Binding::to_queue("news", queue, ""))).await
}

async fn taken(channel: &Channel, queue: &str) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(message) = soon(channel.get(queue, Get { no_ack: true })).await.unwrap() {
        taken.push(String::from_utf8_lossy(message.delivery.body()).into_owned());
    }
    taken
}

fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn who_comes_later_has_the_newest_and_a_queue_of_disk_has_them_after_a_crash() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, 5).await;
    soon(channel.declare_queue(Queue::new("early"))).await.unwrap();
    bind(&channel, "early").await.unwrap();
    let secret = Message::new("secret").header("x-recent-history-no-store", FieldValue::Boolean(true));
    publish(&channel, numbered(0..9).chain([secret]).chain(numbered(9..10))).await;
    let listed = soon(channel.list_exchanges()).await.unwrap();
    let news = listed.iter().find(|entry| entry.name == "news").unwrap();
    assert_eq!((news.history_messages, news.history_left_out_total), (5, 0));
    assert!(news.history_bytes > 5, "{}", news.history_bytes);
    soon(channel.declare_queue(Queue::new("late"))).await.unwrap();
    bind(&channel, "late").await.unwrap();
    // That the binding is answered for means that the disk has what was handed over.
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(taken(&channel, "late").await, texts(5..10));
    assert_eq!(taken(&channel, "early").await.len(), 11);
    // The exchange is there, and what it kept was in memory.
    soon(channel.declare_queue(Queue::new("last"))).await.unwrap();
    bind(&channel, "last").await.unwrap();
    assert_eq!(taken(&channel, "last").await, [] as [&str; 0]);
    broker.stop();
}

/// While a publisher goes on, queues are bound: each has every message from some point on, once and in order.
#[tokio::test]
async fn a_queue_that_is_bound_while_messages_come_has_each_once() {
    const MESSAGES: usize = 1_200;
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let (_other, other) = connect(&broker).await;
    declare(&channel, 50).await;
    let publishing = tokio::spawn(async move {
        for first in (0..MESSAGES).step_by(4) {
            publish(&other, numbered(first..first + 4)).await;
        }
    });
    let mut queues = Vec::new();
    while !publishing.is_finished() || queues.is_empty() {
        let queue = format!("q{}", queues.len());
        let kind = if queues.len() % 2 == 0 { Queue::new(&*queue) } else { Queue::new(&*queue).transient() };
        soon(channel.declare_queue(kind)).await.unwrap();
        bind(&channel, &queue).await.unwrap();
        queues.push(queue);
        if queues.len() == 40 {
            break;
        }
    }
    soon(publishing).await.unwrap();
    for queue in &queues {
        let taken = taken(&channel, queue).await;
        let first: usize = taken[0].parse().unwrap();
        assert_eq!(taken, texts(first..MESSAGES), "{queue}");
    }
    assert!(queues.len() > 5, "{} queues were bound meanwhile", queues.len());
    broker.stop();
}

#[tokio::test]
async fn a_binding_stands_though_its_queue_refuses_the_history_and_that_is_told() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, 5).await;
    publish(&channel, numbered(0..7)).await;
    let small = Queue::new("small").max_length(2).overflow(Overflow::RejectPublish);
    soon(channel.declare_queue(small)).await.unwrap();
    let RequestError::Refused(refusal) = bind(&channel, "small").await.unwrap_err() else {
        panic!("it is refused by the broker")
    };
    assert_eq!(refusal.code, ReplyCode::ResourceError);
    let expected = "queue 'small' is bound to exchange 'news', and 3 of the 5 messages that it keeps did not arrive: queue 'small' is full and refuses what comes";
    assert_eq!((&*refusal.text, refusal.retryable), (expected, false));
    assert_eq!(taken(&channel, "small").await, texts(2..4));
    publish(&channel, numbered(7..8)).await;
    assert_eq!(taken(&channel, "small").await, texts(7..8));
    broker.stop();
}

#[tokio::test]
async fn a_subscription_has_the_history_before_it_has_anything_else() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, 3).await;
    publish(&channel, numbered(0..5)).await;
    let subscription = Subscription::new("screen").listen("news", "");
    let subscribed = soon(channel.declare_subscription(subscription)).await.unwrap();
    publish(&channel, numbered(5..6)).await;
    let queue = subscribed.queue.unwrap();
    let mut consumer = soon(channel.consume(&queue).start()).await.unwrap();
    for number in 2..6 {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body(), number.to_string().as_bytes());
        delivery.accept().unwrap();
    }
    broker.stop();
}

#[tokio::test]
async fn an_exchange_that_is_bound_is_given_the_history_and_keeps_it_too() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, 10).await;
    let keyed = |text: &str, key: &str| Message::new(text.to_owned()).routing_key(key.to_owned());
    publish(&channel, [keyed("a", "yes"), keyed("b", "no"), keyed("c", "yes")]).await;
    let internal = Exchange::new("by-key", ExchangeKind::Direct).internal();
    soon(channel.declare_exchange(internal)).await.unwrap();
    let second = Exchange::new("second", ExchangeKind::RecentHistory);
    soon(channel.declare_exchange(second)).await.unwrap();
    soon(channel.bind(Binding::to_exchange("by-key", "second", "yes"))).await.unwrap();
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    soon(channel.bind(Binding::to_queue("second", "q", ""))).await.unwrap();
    soon(channel.bind(Binding::to_exchange("news", "by-key", ""))).await.unwrap();
    assert_eq!(taken(&channel, "q").await, ["a", "c"]);
    soon(channel.declare_queue(Queue::new("later"))).await.unwrap();
    soon(channel.bind(Binding::to_queue("second", "later", ""))).await.unwrap();
    assert_eq!(taken(&channel, "later").await, ["a", "c"]);
    broker.stop();
}

#[tokio::test]
async fn what_expires_waits_anew_in_a_queue_that_is_given_it() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, 10).await;
    publish(&channel, [Message::new("short").expiration_ms(1), Message::new("long").expiration_ms(600_000)])
        .await;
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    bind(&channel, "q").await.unwrap();
    let expired = async {
        loop {
            let entry = channel.find_queue("q").await.unwrap().unwrap();
            if entry.expired_total == 1 {
                return entry.messages_ready;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert_eq!(soon(expired).await, 1);
    assert_eq!(taken(&channel, "q").await, ["long"]);
    broker.stop();
}

#[tokio::test]
async fn an_explanation_says_that_a_message_is_kept() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, 4).await;
    let explained = soon(channel.explain("news", "k", &FieldTable::default())).await.unwrap();
    let note = &explained.exchanges[0].alternate_note;
    assert!(note.ends_with("it is kept for what is bound here later, as one of the newest 4"), "{note}");
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    bind(&channel, "q").await.unwrap();
    let explained = soon(channel.explain("news", "k", &FieldTable::default())).await.unwrap();
    let binding = &explained.exchanges[0].bindings[0];
    assert!(binding.matched);
    assert_eq!(binding.reason, "an x-recent-history exchange passes every message to every binding");
    broker.stop();
}
