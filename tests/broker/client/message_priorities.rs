//! Queues that know priorities of messages: what has a higher one goes out first, also after the broker was killed.

use leveret::client::{Channel, Get, Message, Queue, ReplyCode, RequestError};

use super::{connect, soon};
use crate::support::Broker;

async fn publish(channel: &Channel, queue: &str, messages: &[(&str, u8)]) {
    let publisher = soon(channel.publisher("", queue).open()).await.unwrap();
    for (body, priority) in messages {
        soon(publisher.send(Message::new((*body).to_owned()).priority(*priority))).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn get(channel: &Channel, queue: &str) -> Option<(String, u8)> {
    let got = soon(channel.get(queue, Get { no_ack: true })).await.unwrap()?;
    let priority = got.delivery.properties().unwrap().priority;
    Some((String::from_utf8(got.delivery.body().to_vec()).unwrap(), priority))
}

#[tokio::test]
async fn the_order_outlives_a_broker_that_is_killed_and_one_that_stops() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let calls = || Queue::new("calls").max_priority(5);
    soon(channel.declare_queue(calls())).await.unwrap();
    publish(&channel, "calls", &[("plain", 0), ("low", 1), ("urgent", 5), ("beyond", 99)]).await;
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(soon(channel.declare_queue(calls())).await.unwrap().messages, 4);
    publish(&channel, "calls", &[("urgent again", 5), ("low again", 1)]).await;
    for expected in [("urgent", 5), ("beyond", 99)] {
        assert_eq!(get(&channel, "calls").await, Some((expected.0.to_owned(), expected.1)));
    }
    broker.stop();
    broker.restart();
    let (_connection, channel) = connect(&broker).await;
    for expected in [("urgent again", 5), ("low", 1), ("low again", 1), ("plain", 0)] {
        assert_eq!(get(&channel, "calls").await, Some((expected.0.to_owned(), expected.1)));
    }
    assert_eq!(get(&channel, "calls").await, None);
}

#[tokio::test]
async fn the_highest_is_a_number_of_a_byte_and_is_compared() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let refused = async |queue: Queue| match channel.declare_queue(queue).await {
        Err(RequestError::Refused(refusal)) => (refusal.code, refusal.field.clone()),
        other => panic!("{other:?}"),
    };
    let wrong = (ReplyCode::PreconditionFailed, "x-max-priority".to_owned());
    assert_eq!(refused(Queue::new("q").argument("x-max-priority", 256i64)).await, wrong);
    assert_eq!(refused(Queue::new("q").argument("x-max-priority", -1i64)).await, wrong);
    assert_eq!(refused(Queue::new("q").argument("x-max-priority", "high")).await, wrong);
    soon(channel.declare_queue(Queue::new("q").max_priority(3))).await.unwrap();
    assert_eq!(refused(Queue::new("q").max_priority(4)).await, wrong);
    assert_eq!(refused(Queue::new("q")).await, wrong);
}
