//! Consumers of one queue with priorities: those of a higher one come first, while they take more.

use leveret::client::{Channel, Consumer, Queue};

use super::{connect, soon};
use crate::support::Broker;

async fn publish(channel: &Channel, bodies: &[&str]) {
    let publisher = soon(channel.publisher("", "q").open()).await.unwrap();
    for body in bodies {
        soon(publisher.publish((*body).to_owned()).await.unwrap()).await.unwrap();
    }
}

async fn taken(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    for _ in 0..count {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        taken.push(String::from_utf8_lossy(delivery.body()).into_owned());
    }
    taken
}

#[tokio::test]
async fn a_higher_priority_is_served_first_and_a_lower_gets_what_is_beyond() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let (_other, far) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    let consume = |channel: &Channel, priority| channel.consume("q").prefetch(2).priority(priority);
    let mut low = soon(consume(&channel, -1).start()).await.unwrap();
    let mut middle = soon(channel.consume("q").prefetch(1).start()).await.unwrap();
    let mut high = soon(consume(&far, i32::MAX).start()).await.unwrap();
    publish(&channel, &["a", "b", "c", "d"]).await;
    assert_eq!(taken(&mut middle, 1).await, ["c"]);
    assert_eq!(taken(&mut low, 1).await, ["d"]);
    let first = soon(high.next()).await.unwrap().unwrap();
    assert_eq!((&first.body()[..], &taken(&mut high, 1).await[..]), (&b"a"[..], &["b".to_owned()][..]));

    // Whoever has room again is asked first again, though the others have some, too.
    soon(first.accept_stored()).await.unwrap();
    publish(&channel, &["e", "f"]).await;
    assert_eq!(taken(&mut high, 1).await, ["e"]);
    assert_eq!(taken(&mut low, 1).await, ["f"]);

    let mut listed = soon(channel.list_consumers()).await.unwrap();
    listed.sort_by_key(|entry| entry.priority);
    let told: Vec<_> = listed.iter().map(|entry| (entry.priority, entry.delivered_total)).collect();
    assert_eq!(told, [(-1, 2), (0, 1), (i32::MAX, 3)]);
    assert!(listed.iter().all(|entry| entry.active.is_none()));
}
