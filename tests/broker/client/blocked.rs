//! A broker that takes no messages for now: everything else goes on, over the same connection.

use leveret::client::{Event, Queue};

use super::{connect, soon};
use crate::support::Broker;

/// Bytes of a message's body.
const BODY: usize = 512 * 1024;

#[tokio::test]
async fn requests_and_consumers_go_on_while_messages_wait() {
    let broker = Broker::start_with(&["--memory-bytes-max", "16MiB"]);
    let (connection, channel) = connect(&broker).await;
    let mut events = connection.events();
    channel.declare_queue(Queue::new("full").transient()).await.unwrap();
    let publisher = channel.publisher("", "full").window_bytes(64 << 20).open().await.unwrap();
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Event::Blocked(_)) => break,
                other => panic!("{other:?}"),
            },
            sent_one = publisher.send(vec![0; BODY]) => {
                sent_one.unwrap();
                sent += 1;
            }
        }
    }
    // A channel, requests on both, another publisher, and the consumer that makes room.
    let second = soon(connection.channel()).await.unwrap();
    soon(second.declare_queue(Queue::new("other").transient())).await.unwrap();
    soon(channel.check_queue("other")).await.unwrap();
    let other = soon(second.publisher("", "other").open()).await.unwrap();
    let waiting = soon(other.publish("after the others")).await.unwrap();
    let mut consumer = soon(second.consume("full").prefetch(4).start()).await.unwrap();
    for _ in 0..sent {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        delivery.accept().unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().queues, 1);
    soon(async { while !matches!(events.next().await, Some(Event::Unblocked)) {} }).await;
    assert!(connection.blocked().is_none());
}
