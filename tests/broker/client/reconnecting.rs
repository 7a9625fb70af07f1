//! A broker that dies and comes back: nothing confirmed is lost, and programs go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use leveret::client::{Binding, Event, Events, Exchange, ExchangeKind, Queue};

use super::{connect, soon};
use crate::support::Broker;

async fn reconnected(events: &mut Events) {
    while !matches!(
        soon(events.next()).await.expect("the connection is not closed"),
        Event::Reconnected { .. }
    ) {}
}

/// Off the runtime's threads, on which the client works meanwhile.
async fn kill_and_restart(mut broker: Broker) -> Broker {
    let restarted = tokio::task::spawn_blocking(move || {
        broker.kill_and_restart();
        broker
    });
    restarted.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_survives_kills_with_every_confirmed_message_and_in_order() {
    let mut broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    let mut events = connection.events();
    channel.declare_queue(Queue::new("numbers")).await.unwrap();
    let publisher = channel.publisher("", "numbers").window_messages(200).open().await.unwrap();
    let mut consumer = channel.consume("numbers").prefetch(50).start().await.unwrap();

    let is_over = Arc::new(AtomicBool::new(false));
    let consumed = Arc::new(AtomicU32::new(0));
    let publishing = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            let mut count = 0u32;
            while !is_over.load(Ordering::Relaxed) {
                publisher.send(count.to_be_bytes().to_vec()).await.unwrap();
                count += 1;
            }
            publisher.wait_for_all().await.unwrap();
            (count, publisher.progress())
        }
    });
    let consuming = tokio::spawn({
        let consumed = consumed.clone();
        async move {
            // Number: how often it came without any mark, and with one.
            let mut seen: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
            while let Some(delivery) = consumer.next().await {
                let delivery = delivery.unwrap();
                let number = u32::from_be_bytes(delivery.body()[..].try_into().unwrap());
                if number == u32::MAX {
                    delivery.accept_stored().await.unwrap();
                    break;
                }
                let is_marked = delivery.redelivered() || delivery.resent();
                if !is_marked {
                    let last = seen.last_key_value().map(|(last, _)| *last);
                    assert!(last.is_none_or(|last| number > last), "{number} after {last:?}, unmarked");
                }
                let times = seen.entry(number).or_default();
                if is_marked {
                    times.1 += 1
                } else {
                    times.0 += 1
                };
                consumed.fetch_add(1, Ordering::Relaxed);
                // What came over a connection that is gone comes again.
                let _ = delivery.accept();
            }
            seen
        }
    });
    for _ in 0..3 {
        let before = consumed.load(Ordering::Relaxed);
        soon(async {
            while consumed.load(Ordering::Relaxed) < before + 2_000 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        broker = kill_and_restart(broker).await;
        reconnected(&mut events).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let (count, progress) = soon(publishing).await.unwrap();
    assert_eq!((progress.published, progress.settled), (u64::from(count), u64::from(count)));
    let last = channel.publisher("", "numbers").open().await.unwrap();
    soon(last.publish(u32::MAX.to_be_bytes().to_vec()).await.unwrap()).await.unwrap();
    let seen = soon(consuming).await.unwrap();
    assert!(seen.keys().copied().eq(0..count), "every message came: {} of {count}", seen.len());
    assert!(seen.values().all(|(unmarked, _)| *unmarked <= 1), "what comes again is marked");
    soon(async {
        while broker.messages("numbers") != (0, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_with_the_broker_is_made_again() {
    let broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    let mut events = connection.events();
    channel.declare_exchange(Exchange::new("news", ExchangeKind::Topic).transient()).await.unwrap();
    let private = channel.declare_queue(Queue::private()).await.unwrap().name;
    channel.bind(Binding::to_queue("news", &private, "a.#")).await.unwrap();
    let mut consumer = channel.consume(&private).start().await.unwrap();
    let publisher = channel.publisher("news", "a.b").open().await.unwrap();
    soon(publisher.publish("before").await.unwrap()).await.unwrap();
    let before = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(before.body(), "before");

    let _broker = kill_and_restart(broker).await;
    reconnected(&mut events).await;
    assert!(before.accept().is_err(), "its queue is gone");
    soon(publisher.publish("after").await.unwrap()).await.unwrap();
    let after = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!((after.body(), after.redelivered()), (&"after".into(), false));
    // The broker may give it the name it had or another one; the consumer knows which.
    let found = soon(channel.find_queue(&consumer.queue())).await.unwrap();
    assert!(found.is_some_and(|queue| queue.exclusive));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_asked_again() {
    let broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    let mut events = connection.events();
    let declaring = tokio::spawn({
        let channel = channel.clone();
        async move {
            for number in 0..200 {
                channel.declare_queue(Queue::new(format!("queue {number}"))).await.unwrap();
            }
        }
    });
    soon(async {
        while channel.list_queues().await.is_ok_and(|queues| queues.is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let _broker = kill_and_restart(broker).await;
    reconnected(&mut events).await;
    soon(declaring).await.unwrap();
    assert_eq!(soon(channel.list_queues()).await.unwrap().len(), 200);
}
