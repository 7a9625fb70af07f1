//! Queues with a single active consumer: one is served, the next one takes over where it left off.

use leveret::client::{Channel, Consumer, Delivery, Queue, ReplyCode, RequestError};

use super::{connect, soon};
use crate::support::Broker;

fn queue() -> Queue {
    Queue::new("q").single_active_consumer()
}

async fn publish(channel: &Channel, bodies: &[&str]) {
    let publisher = soon(channel.publisher("", "q").open()).await.unwrap();
    for body in bodies {
        soon(publisher.publish((*body).to_owned()).await.unwrap()).await.unwrap();
    }
}

async fn consumer(channel: &Channel, tag: &str, priority: i32) -> Consumer {
    soon(channel.consume("q").prefetch(2).tag(tag).priority(priority).start()).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

fn told(delivery: &Delivery) -> (&str, bool) {
    (std::str::from_utf8(delivery.body()).unwrap(), delivery.redelivered())
}

/// Who of the consumers is the active one, and how many have come.
async fn active(channel: &Channel) -> (Vec<String>, usize) {
    let listed = soon(channel.list_consumers()).await.unwrap();
    assert!(listed.iter().all(|entry| entry.active.is_some()), "{listed:?}");
    let count = listed.len();
    (listed.into_iter().filter(|entry| entry.active == Some(true)).map(|entry| entry.tag).collect(), count)
}

fn is_refused<T: std::fmt::Debug>(answer: Result<T, RequestError>, code: ReplyCode) {
    assert!(matches!(&answer, Err(RequestError::Refused(refusal)) if refusal.code == code), "{answer:?}");
}

#[tokio::test]
async fn the_next_one_takes_over_when_the_connection_of_the_active_one_ends_and_keeps_the_order() {
    let broker = Broker::start();
    let (_watching, channel) = connect(&broker).await;
    let (connection, first_channel) = connect(&broker).await;
    let (_second, second_channel) = connect(&broker).await;
    channel.declare_queue(queue()).await.unwrap();
    let mut first = consumer(&first_channel, "first", 0).await;
    let mut second = consumer(&second_channel, "second", 0).await;
    let mut third = consumer(&channel, "third", 0).await;
    publish(&channel, &["a", "b", "c", "d", "e"]).await;
    assert_eq!(told(&next(&mut first).await), ("a", false));
    assert_eq!(active(&channel).await, (vec!["first".to_owned()], 3));

    soon(connection.close()).await.unwrap();
    let [a, b] = [next(&mut second).await, next(&mut second).await];
    assert_eq!([told(&a), told(&b)], [("a", true), ("b", true)], "the oldest come first");
    assert_eq!(active(&channel).await, (vec!["second".to_owned()], 2));
    // What comes back comes to the active one, and before what is behind it.
    b.requeue().unwrap();
    let b = next(&mut second).await;
    assert_eq!(told(&b), ("b", true));
    // It is cancelled: the next one waits for what it has.
    soon(second.cancel()).await.unwrap();
    assert_eq!(
        active(&channel).await,
        (vec![String::new()], 2),
        "one that was cancelled has no name any more"
    );
    soon(a.accept_stored()).await.unwrap();
    b.requeue().unwrap();
    let [b, c] = [next(&mut third).await, next(&mut third).await];
    assert_eq!([told(&b), told(&c)], [("b", true), ("c", false)]);
    assert_eq!(active(&channel).await, (vec!["third".to_owned()], 1));
}

#[tokio::test]
async fn one_of_a_higher_priority_takes_over_once_the_active_one_holds_nothing() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let (_other, far) = connect(&broker).await;
    channel.declare_queue(queue()).await.unwrap();
    let mut low = consumer(&channel, "low", 0).await;
    publish(&channel, &["a", "b", "c", "d"]).await;
    let [a, b] = [next(&mut low).await, next(&mut low).await];
    let mut high = consumer(&far, "high", 1).await;
    assert_eq!(active(&channel).await.0, ["low"], "it hands over");
    soon(a.accept_stored()).await.unwrap();
    assert_eq!(active(&channel).await.0, ["low"]);
    b.requeue().unwrap();
    let [b, c] = [next(&mut high).await, next(&mut high).await];
    assert_eq!([told(&b), told(&c)], [("b", true), ("c", false)]);
    assert_eq!(active(&channel).await.0, ["high"]);
    // While it holds nothing, the first in line is the active one at once.
    soon(b.accept_stored()).await.unwrap();
    soon(c.accept_stored()).await.unwrap();
    let d = next(&mut high).await;
    assert_eq!(told(&d), ("d", false));
    soon(d.accept_stored()).await.unwrap();
    soon(high.cancel()).await.unwrap();
    assert_eq!(active(&channel).await.0, ["low"]);
}

#[tokio::test]
async fn what_does_not_go_with_it_is_refused_and_it_is_there_after_a_restart() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let wrong = Queue::new("q").argument("x-single-active-consumer", "yes");
    is_refused(channel.declare_queue(wrong).await, ReplyCode::PreconditionFailed);
    channel.declare_queue(queue()).await.unwrap();
    channel.declare_queue(queue()).await.unwrap();
    is_refused(channel.declare_queue(Queue::new("q")).await, ReplyCode::PreconditionFailed);
    let refused = channel.consume("q").exclusive().start().await;
    assert!(
        matches!(&refused, Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::AccessRefused && !refusal.retryable),
        "{refused:?}"
    );

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    is_refused(channel.declare_queue(Queue::new("q")).await, ReplyCode::PreconditionFailed);
    let _one = consumer(&channel, "one", 0).await;
    let _other = consumer(&channel, "other", 0).await;
    assert_eq!(active(&channel).await, (vec!["one".to_owned()], 2));
}
