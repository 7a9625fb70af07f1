//! Consuming: every message once, in order, and back where it belongs.

use leveret::client::{
    Channel, ConsumeError, DeleteQueue, Event, Get, MessageBatch, PublishError, Queue, RequestError,
    SettleError,
};

use super::{connect, soon};
use crate::support::Broker;

/// A queue with numbered messages of some size.
async fn filled(channel: &Channel, queue: &str, count: u32, bytes: usize) {
    channel.declare_queue(Queue::new(queue)).await.unwrap();
    let publisher = channel.publisher("", queue).open().await.unwrap();
    let mut batch = MessageBatch::new();
    let mut body = vec![b'.'; bytes.max(4)];
    for number in 0..count {
        body[..4].copy_from_slice(&number.to_be_bytes());
        batch.push_body(&body);
        if batch.size_bytes() > 100_000 {
            publisher.send_batch(&mut batch).await.unwrap();
        }
    }
    publisher.send_batch(&mut batch).await.unwrap();
    soon(publisher.wait_for_all()).await.unwrap();
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(body[..4].try_into().unwrap())
}

#[tokio::test]
async fn messages_that_left_are_counted_by_their_reason() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    filled(&channel, "q", 10, 4).await;
    let mut consumer = channel.consume("q").prefetch(3).start().await.unwrap();
    soon(consumer.next()).await.unwrap().unwrap().accept_stored().await.unwrap();
    soon(consumer.next()).await.unwrap().unwrap().reject().unwrap();
    soon(consumer.next()).await.unwrap().unwrap().reject().unwrap();
    // The cancel is carried out after these, and what was not settled goes back with the channel.
    soon(consumer.cancel()).await.unwrap();
    for _ in 0..3 {
        assert!(soon(channel.get("q", Get { no_ack: true })).await.unwrap().is_some());
    }
    let purged = soon(channel.purge_queue("q")).await.unwrap();
    let queue = soon(channel.find_queue("q")).await.unwrap().unwrap();
    let left = (queue.accepted_total, queue.rejected_total, queue.no_ack_total, queue.purged_total);
    assert_eq!(left, (1, 2, 3, purged));
    let held = queue.messages_ready + queue.messages_unacknowledged;
    assert_eq!(queue.published_total, 1 + 2 + 3 + purged + held);
}

#[tokio::test]
async fn without_acks_a_slow_reader_stops_the_broker_and_loses_nothing() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    filled(&channel, "q", 3_000, 10_000).await;
    // 30 MB through a buffer of 100 kB: only credit keeps the memory of this program small.
    let mut consumer = channel.consume("q").no_ack().buffer_bytes(100_000).start().await.unwrap();
    let first = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(number(first.body()), 0);
    let (ready, _) = broker.messages("q");
    assert!(ready > 1_500, "the broker sent far more than there is room for: {ready} of 3000 are left");
    for expected in 1..3_000 {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        assert_eq!(number(delivery.body()), expected);
        assert!(matches!(delivery.accept(), Err(SettleError::NoAck)));
    }
    assert_eq!(broker.messages("q"), (0, 0));
}

#[tokio::test]
async fn a_prefetch_is_never_exceeded_and_never_starves() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    filled(&channel, "q", 500, 4).await;
    let mut consumer = channel.consume("q").prefetch(7).start().await.unwrap();
    let mut held = Vec::new();
    for expected in 0..500 {
        held.push(soon(consumer.next()).await.unwrap().unwrap());
        assert_eq!(number(held.last().unwrap().body()), expected);
        if held.len() == 7 {
            let queue = channel.find_queue("q").await.unwrap().unwrap();
            assert_eq!(queue.messages_unacknowledged, 7);
            held.drain(..).for_each(|delivery| delivery.accept().unwrap());
        }
    }
    held.drain(..).for_each(|delivery| delivery.accept().unwrap());
    soon(consumer.cancel()).await.unwrap();
    assert_eq!(broker.messages("q"), (0, 0));
}

#[tokio::test]
async fn what_a_consumer_did_not_hand_out_goes_back_to_its_place() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    filled(&channel, "q", 300, 4).await;
    let mut consumer = channel.consume("q").prefetch(100).start().await.unwrap();
    for _ in 0..10 {
        soon(consumer.next()).await.unwrap().unwrap().accept().unwrap();
    }
    let kept = soon(consumer.next()).await.unwrap().unwrap();
    soon(consumer.cancel()).await.unwrap();
    assert_eq!(broker.messages("q"), (289, 1), "one is in hand, and can still be settled");
    soon(kept.accept_stored()).await.unwrap();
    let mut rest = channel.consume("q").prefetch(0).start().await.unwrap();
    for expected in 11..300 {
        let delivery = soon(rest.next()).await.unwrap().unwrap();
        assert_eq!(number(delivery.body()), expected);
        delivery.accept().unwrap();
    }
    soon(rest.cancel()).await.unwrap();
    assert_eq!(broker.messages("q"), (0, 0));
}

#[tokio::test]
async fn outcomes_do_what_they_say() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    filled(&channel, "q", 9, 4).await;
    let mut consumer = channel.consume("q").start().await.unwrap();
    let mut accepted = Vec::new();
    for _ in 0..12 {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        let number = number(delivery.body());
        match (number % 3, delivery.redelivered()) {
            (0, false) => delivery.requeue().unwrap(),
            (1, _) => delivery.reject().unwrap(),
            (_, was_there) => {
                assert_eq!(u32::from(was_there), delivery.delivery_count(), "message {number}");
                accepted.push(number);
                delivery.accept_stored().await.unwrap();
            }
        }
    }
    accepted.sort_unstable();
    assert_eq!(accepted, [0, 2, 3, 5, 6, 8]);
    soon(consumer.cancel()).await.unwrap();
    assert_eq!(broker.messages("q"), (0, 0));
}

#[tokio::test]
async fn the_end_of_its_queue_is_the_end_of_a_consumer() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    filled(&channel, "q", 1, 4).await;
    let exclusive = channel.consume("q").exclusive().tag("mine").start().await.unwrap();
    assert_eq!(exclusive.tag(), "mine");
    let second = channel.consume("q").start().await;
    assert!(matches!(second, Err(RequestError::Refused(_))), "{second:?}");
    let mut exclusive = exclusive;
    soon(exclusive.next()).await.unwrap().unwrap().accept().unwrap();
    channel.delete_queue("q", DeleteQueue::default()).await.unwrap();
    let end = soon(exclusive.next()).await;
    assert!(matches!(end, Some(Err(ConsumeError::Cancelled { .. }))), "{end:?}");
    assert!(soon(exclusive.next()).await.is_none());
}

#[tokio::test]
async fn two_consumers_share_a_queue_fairly() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    filled(&channel, "q", 1_000, 4).await;
    let mut one = channel.consume("q").prefetch(10).start().await.unwrap();
    let mut two = channel.consume("q").prefetch(10).start().await.unwrap();
    let mut seen = vec![false; 1_000];
    let mut counts = [0; 2];
    for _ in 0..1_000 {
        let (delivery, consumer) = soon(async {
            tokio::select! {
                delivery = one.next() => (delivery, 0),
                delivery = two.next() => (delivery, 1),
            }
        })
        .await;
        let delivery = delivery.unwrap().unwrap();
        let number = number(delivery.body()) as usize;
        assert!(!std::mem::replace(&mut seen[number], true), "{number} came twice");
        delivery.accept().unwrap();
        counts[consumer] += 1;
    }
    assert!(counts.iter().all(|count| *count > 200), "{counts:?}");
}

#[tokio::test]
async fn listening_to_events_ends_with_the_connection() {
    let broker = Broker::start();
    let (connection, _channel) = connect(&broker).await;
    let mut events = connection.events();
    soon(connection.close()).await.unwrap();
    assert!(matches!(soon(events.next()).await, Some(Event::Closed(_))));
    assert!(soon(events.next()).await.is_none());
}

#[tokio::test]
async fn what_was_stored_under_a_higher_limit_is_delivered() {
    let mut broker = Broker::start_with(&["--message-bytes-max", "4 MiB"]);
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("large")).await.unwrap();
    let publisher = channel.publisher("", "large").open().await.unwrap();
    let body = vec![7; 4 << 20];
    soon(publisher.publish(body.clone()).await.unwrap()).await.unwrap();
    broker.kill();
    for _ in 0..2 {
        broker.restart_with(&["--message-bytes-max", "1 MiB"]);
        let (connection, channel) = connect(&broker).await;
        assert_eq!(connection.server().message_bytes_max, 1 << 20, "of what is published");
        let publisher = channel.publisher("", "large").open().await.unwrap();
        let refused = publisher.publish(vec![0; (1 << 20) + 1]).await;
        assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
        let mut consumer = channel.consume("large").start().await.unwrap();
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        assert!(delivery.body() == &body, "the body is another one");
        // A clean stop has the catalog write a checkpoint.
        broker.stop();
    }
}
