//! Publishing: every message has its fate, and the right one.

use leveret::client::{
    ConfirmError, DeleteQueue, Get, Message, MessageBatch, PublishError, Queue, RequestError,
};
use leveret::model::{Durability, ReplyCode};

use super::{connect, soon};
use crate::support::Broker;

#[tokio::test]
async fn a_confirm_says_how_safe_the_message_is() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("durable")).await.unwrap();
    channel.declare_queue(Queue::new("transient").transient()).await.unwrap();
    for (queue, is_transient, level) in [
        ("durable", false, Durability::Synced),
        ("durable", true, Durability::Memory),
        ("transient", false, Durability::Memory),
    ] {
        let builder = channel.publisher("", queue);
        let builder = if is_transient { builder.transient() } else { builder };
        let publisher = builder.open().await.unwrap();
        let confirmed = soon(publisher.publish("x").await.unwrap()).await.unwrap();
        assert_eq!((confirmed.level, confirmed.queues), (level, 1), "{queue}, transient: {is_transient}");
    }
}

#[tokio::test]
async fn fates_of_a_mixed_batch_are_told_apart() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("there")).await.unwrap();
    let publisher = channel.publisher("", "there").open().await.unwrap();
    let mut batch = MessageBatch::new();
    for number in 0..3000 {
        let key = if number % 3 == 0 { "nowhere" } else { "there" };
        batch.push_routed(key, None, b"x").unwrap();
    }
    let outcome = soon(publisher.publish_batch(&mut batch).await.unwrap()).await.unwrap();
    assert_eq!((outcome.confirmed, outcome.failed), (2000, 1000));
    assert_eq!(outcome.first_refusal.unwrap().code, ReplyCode::NoRoute);

    let pending = publisher.publish(Message::new("come back").routing_key("nowhere")).await.unwrap();
    let Err(ConfirmError::Returned(returned)) = soon(pending).await else { panic!("it came back") };
    assert_eq!((returned.routing_key.as_str(), &returned.message.body()[..]), ("nowhere", &b"come back"[..]));
    assert_eq!(publisher.progress().returned, 1001);
    assert_eq!(broker.messages("there"), (2000, 0));
}

#[tokio::test]
async fn publishers_of_a_channel_do_not_mix_up_their_confirms() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let mut publishers = Vec::new();
    for number in 0..10 {
        let queue = format!("queue {number}");
        channel.declare_queue(Queue::new(&queue)).await.unwrap();
        publishers.push((channel.publisher("", &queue).window_messages(50).open().await.unwrap(), queue));
    }
    let mut sending = tokio::task::JoinSet::new();
    for (number, (publisher, _)) in publishers.iter().enumerate() {
        let publisher = publisher.clone();
        sending.spawn(async move {
            for _ in 0..100 * (number + 1) {
                publisher.send("x").await.unwrap();
            }
            publisher.wait_for_all().await.unwrap();
        });
    }
    soon(async { while sending.join_next().await.transpose().unwrap().is_some() {} }).await;
    for (number, (publisher, queue)) in publishers.iter().enumerate() {
        let count = 100 * (number as u64 + 1);
        let progress = publisher.progress();
        assert_eq!((progress.settled, progress.settled_through), (count, count));
        assert_eq!(channel.check_queue(queue).await.unwrap().messages, count);
    }
}

#[tokio::test]
async fn large_messages_pass_whole_and_too_large_ones_not_at_all() {
    let broker = Broker::start_with(&["--message-bytes-max", "4 MiB"]);
    let (connection, channel) = connect(&broker).await;
    let bytes_max = connection.server().message_bytes_max as usize;
    channel.declare_queue(Queue::new("large")).await.unwrap();
    let publisher = channel.publisher("", "large").open().await.unwrap();
    let body: Vec<u8> = (0..bytes_max).map(|index| (index % 251) as u8).collect();
    soon(publisher.publish(body.clone()).await.unwrap()).await.unwrap();
    let refused = publisher.publish(vec![0; bytes_max + 1]).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
    let got = soon(channel.get("large", Get { no_ack: true })).await.unwrap().unwrap();
    assert!(got.delivery.body() == &body, "the body is another one");
}

#[tokio::test]
async fn closing_sends_what_was_taken() {
    let broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    let publisher = channel.publisher("", "q").without_confirms().open().await.unwrap();
    let mut batch = MessageBatch::new();
    for _ in 0..50_000 {
        batch.push_body(b"0123456789");
    }
    publisher.send_batch(&mut batch).await.unwrap();
    soon(connection.close()).await.unwrap();
    assert!(matches!(publisher.send("x").await, Err(PublishError::Closed(_))));
    assert_eq!(broker.messages("q"), (50_000, 0));
}

#[tokio::test]
async fn a_message_for_an_exchange_that_is_not_there_is_refused() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let publisher = channel.publisher("nowhere", "").open().await.unwrap();
    let Err(ConfirmError::Refused(refusal)) = soon(publisher.publish("x").await.unwrap()).await else {
        panic!("there is no such exchange");
    };
    assert_eq!(refusal.code, ReplyCode::NotFound);
    assert!(refusal.text.contains("'nowhere'"), "{refusal}");
    assert_eq!(publisher.progress().refused, 1);
}

#[tokio::test]
async fn a_refused_request_leaves_the_channel_as_it_was() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    let publisher = channel.publisher("", "q").open().await.unwrap();
    let other = channel.declare_queue(Queue::new("q").transient()).await;
    let Err(RequestError::Refused(refusal)) = other else { panic!("{other:?}") };
    assert_eq!((refusal.code, refusal.field.as_str()), (ReplyCode::PreconditionFailed, "durable"));
    let missing = channel.consume("no such queue").start().await;
    assert!(matches!(missing, Err(RequestError::Refused(_))), "{missing:?}");
    soon(publisher.publish("x").await.unwrap()).await.unwrap();
    let conditions = DeleteQueue { if_empty: true, ..DeleteQueue::default() };
    let full = channel.delete_queue("q", conditions).await;
    assert!(matches!(full, Err(RequestError::Refused(_))), "{full:?}");
    assert_eq!(channel.delete_queue("q", DeleteQueue::default()).await.unwrap(), 1);
}
