//! Consumers of one channel with a bound on what all of them have, on queues of several shards.

use std::collections::BTreeMap;

use leveret::client::{Channel, Consumer, DeleteQueue, Delivery, Get, Queue};

use super::{connect, soon};
use crate::support::Broker;

async fn queue(channel: &Channel, name: &str, bodies: std::ops::Range<u32>) {
    soon(channel.declare_queue(Queue::new(name))).await.unwrap();
    publish(channel, name, bodies).await;
}

async fn publish(channel: &Channel, name: &str, bodies: std::ops::Range<u32>) {
    let publisher = soon(channel.publisher("", name).open()).await.unwrap();
    for body in bodies {
        soon(publisher.send(format!("{name}{body}"))).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn consume(channel: &Channel, name: &str) -> Consumer {
    soon(channel.consume(name).prefetch(0).start()).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.body()).into_owned()
}

/// Messages of these queues that consumers have and have not settled.
async fn unsettled(channel: &Channel) -> BTreeMap<String, u64> {
    let queues = soon(channel.list_queues()).await.unwrap();
    queues.into_iter().map(|entry| (entry.name, entry.messages_unacknowledged)).collect()
}

#[tokio::test]
async fn many_queues_on_several_shards_share_it_and_none_is_left_out() {
    let broker = Broker::start_with(&["--shards", "3"]);
    let (_connection, channel) = connect(&broker).await;
    let (_other, watching) = connect(&broker).await;
    soon(channel.limit_prefetch(4)).await.unwrap();
    let names: Vec<String> = (0..6).map(|number| format!("q{number}-")).collect();
    let mut consumers = Vec::new();
    for name in &names {
        queue(&watching, name, 0..50).await;
        consumers.push(consume(&channel, name).await);
    }
    let mut got: BTreeMap<String, u32> = BTreeMap::new();
    let (deliveries, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let tasks = consumers.into_iter().zip(names.clone()).map(|(mut consumer, name)| {
        let deliveries = deliveries.clone();
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                deliveries.send((name.clone(), delivery)).unwrap();
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut held = Vec::new();
    for _ in 0..300 {
        let (name, delivery) = soon(arrived.recv()).await.unwrap();
        let number = got.entry(name.clone()).or_default();
        assert_eq!(text(&delivery), format!("{name}{number}"), "in order");
        *number += 1;
        held.push(delivery);
        if held.len() == 4 {
            let out: u64 = unsettled(&watching).await.values().sum();
            assert_eq!(out, 4);
            assert!(arrived.try_recv().is_err(), "there is no room for more");
            held.drain(..).for_each(|delivery| delivery.accept().unwrap());
        }
        let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
        assert!(got.len() < 6 || most - least <= 8, "in turns: {got:?}");
    }
    assert!(got.values().all(|number| *number == 50), "{got:?}");
    held.into_iter().for_each(|delivery| delivery.accept().unwrap());
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn it_is_set_and_changed_while_consumers_are_at_work() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let (_other, far) = connect(&broker).await;
    queue(&far, "a", 0..3).await;
    queue(&far, "b", 0..0).await;
    let mut one = consume(&channel, "a").await;
    let mut two = consume(&channel, "b").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut one).await);
    }
    soon(channel.limit_prefetch(2)).await.unwrap();
    publish(&far, "b", 0..3).await;
    assert_eq!(unsettled(&far).await["b"], 0, "three are out of two");
    soon(held.remove(0).accept_stored()).await.unwrap();
    assert_eq!(unsettled(&far).await["b"], 0);
    held.remove(0).requeue().unwrap();
    // The other queue waited before the message came back.
    let mut taken = vec![next(&mut two).await];
    soon(held.remove(0).accept_stored()).await.unwrap();
    taken.push(next(&mut one).await);
    assert!(taken[1].redelivered());
    soon(channel.limit_prefetch(0)).await.unwrap();
    taken.push(next(&mut two).await);
    taken.push(next(&mut two).await);
    let texts: Vec<String> = taken.iter().map(text).collect();
    assert_eq!(texts, ["b0", "a1", "b1", "b2"]);
}

#[tokio::test]
async fn its_own_prefetch_counts_besides_and_gets_do_not() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let (_other, far) = connect(&broker).await;
    soon(channel.limit_prefetch(3)).await.unwrap();
    queue(&far, "a", 0..4).await;
    queue(&far, "b", 0..4).await;
    let mut one = soon(channel.consume("a").prefetch(1).start()).await.unwrap();
    let first = next(&mut one).await;
    let mut two = consume(&channel, "b").await;
    let mut held = vec![next(&mut two).await, next(&mut two).await];
    assert_eq!(unsettled(&far).await.into_values().collect::<Vec<_>>(), [1, 2]);
    let got = soon(channel.get("a", Get::default())).await.unwrap().unwrap();
    assert_eq!(text(&got.delivery), "a1");
    first.accept().unwrap();
    // The other one waited while this one had no room of its own.
    held.push(next(&mut two).await);
    held.remove(0).accept().unwrap();
    held.push(next(&mut one).await);
    let texts: Vec<String> = held.iter().map(text).collect();
    assert_eq!(texts, ["b1", "b2", "a2"], "what was got takes no room");
}

#[tokio::test]
async fn what_is_gone_takes_no_room() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let (_other, far) = connect(&broker).await;
    soon(channel.limit_prefetch(1)).await.unwrap();
    for name in ["a", "b", "c"] {
        queue(&far, name, 0..1).await;
    }
    let mut one = consume(&channel, "a").await;
    let of_one = next(&mut one).await;
    let mut two = consume(&channel, "b").await;
    let mut three = consume(&channel, "c").await;
    // The queue of one is deleted; another consumer is dropped with what it has.
    soon(far.delete_queue("a", DeleteQueue::default())).await.unwrap();
    let of_two = next(&mut two).await;
    assert_eq!(unsettled(&far).await.into_values().collect::<Vec<_>>(), [1, 0]);
    drop(of_one);
    of_two.requeue().unwrap();
    let of_three = next(&mut three).await;
    assert_eq!(text(&of_three), "c0", "it waited before the other came back");
    soon(two.cancel()).await.unwrap();
    soon(of_three.accept_stored()).await.unwrap();
    // The bound is there after a reconnect, and consumers share it anew.
    broker.kill_and_restart();
    publish(&far, "c", 1..4).await;
    let delivery = next(&mut three).await;
    assert_eq!(unsettled(&far).await["c"], 1);
    delivery.accept().unwrap();
    next(&mut three).await;
}
