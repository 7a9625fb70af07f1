//! An exchange with a list of keys takes those, and tells publishers of others what they may have meant.

use leveret::client::{
    Binding, Channel, ConfirmError, DeleteExchange, Entity, Exchange, ExchangeKind, MessageBatch, Queue,
    Refusal, ReplyCode, RequestError,
};

use super::{connect, soon};
use crate::support::Broker;

fn events() -> Exchange {
    Exchange::new("events", ExchangeKind::Topic).allow("order.*").allow("chore.#")
}

/// The exchange, and a queue that would get everything.
async fn declare(channel: &Channel) {
    soon(channel.declare_exchange(events())).await.unwrap();
    soon(channel.declare_queue(Queue::new("all"))).await.unwrap();
    soon(channel.bind(Binding::to_queue("events", "all", "#"))).await.unwrap();
}

/// Why a message is refused; `None` if it is confirmed.
async fn refusal(channel: &Channel, key: &str) -> Option<Refusal> {
    let publisher = soon(channel.publisher("events", key).open()).await.unwrap();
    match soon(publisher.publish("x").await.unwrap()).await {
        Ok(_) => None,
        Err(ConfirmError::Refused(refusal)) => Some((*refusal).clone()),
        Err(other) => panic!("{key}: {other}"),
    }
}

async fn refused_total(channel: &Channel) -> u64 {
    let exchanges = soon(channel.list_exchanges()).await.unwrap();
    exchanges.into_iter().find(|exchange| exchange.name == "events").unwrap().refused_total
}

#[tokio::test]
async fn a_key_that_is_not_allowed_is_refused_with_the_one_that_was_meant() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel).await;
    assert_eq!(refusal(&channel, "order.created").await, None);
    assert_eq!(refusal(&channel, "chore").await, None);
    let refused = refusal(&channel, "ordr.created").await.unwrap();
    assert_eq!(refused.code, ReplyCode::PreconditionFailed);
    assert_eq!(refused.entity, Some((Entity::Exchange, "events".to_owned())));
    assert_eq!((&*refused.field, &*refused.got), ("routing_key", "ordr.created"));
    assert_eq!(refused.expected, "a key that matches 'chore.#' or 'order.*'");
    assert_eq!(refused.hint, "did you mean 'order.created', which 'order.*' allows?");
    assert_eq!(refused_total(&channel).await, 1);

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(refused_total(&channel).await, 0, "it counts from the start of the broker");
    assert!(refusal(&channel, "ordr.created").await.is_some(), "the list is still there");
    assert_eq!(refusal(&channel, "order.paid").await, None);
    assert_eq!(refused_total(&channel).await, 1);
    assert_eq!(broker.messages("all"), (3, 0));
}

#[tokio::test]
async fn fates_within_a_batch_are_told_apart_and_each_message_is_counted() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel).await;
    let publisher = channel.publisher("events", "").open().await.unwrap();
    let mut batch = MessageBatch::new();
    for number in 0..3000 {
        // Two mistakes in a row that are not the same, and the same one again and again.
        let key = ["order.created", "oder.created", "chores"][number % 3];
        batch.push_routed(key, None, b"x").unwrap();
    }
    let outcome = soon(publisher.publish_batch(&mut batch).await.unwrap()).await.unwrap();
    assert_eq!((outcome.confirmed, outcome.failed), (1000, 2000));
    assert_eq!(outcome.first_refusal.unwrap().got, "oder.created");
    assert_eq!(refused_total(&channel).await, 2000);
    assert_eq!(broker.messages("all"), (1000, 0));
}

#[tokio::test]
async fn without_confirms_they_are_dropped_and_counted() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel).await;
    let publisher = channel.publisher("events", "oder.created").without_confirms().open().await.unwrap();
    for _ in 0..10 {
        soon(publisher.send("x")).await.unwrap();
    }
    // What comes later on the channel is confirmed later.
    assert_eq!(refusal(&channel, "order.created").await, None);
    assert_eq!(refused_total(&channel).await, 10);
    assert_eq!(broker.messages("all"), (1, 0));
}

#[tokio::test]
async fn another_list_needs_another_exchange() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel).await;
    let again = Exchange::new("events", ExchangeKind::Topic).allow("chore.#").allow("order.*");
    soon(channel.declare_exchange(again)).await.unwrap();
    let other = || Exchange::new("events", ExchangeKind::Topic).allow("job.*");
    for different in [other(), Exchange::new("events", ExchangeKind::Topic)] {
        let Err(RequestError::Refused(refused)) = soon(channel.declare_exchange(different)).await else {
            panic!("it is another list")
        };
        assert_eq!((refused.code, &*refused.field), (ReplyCode::PreconditionFailed, "x-allowed-keys"));
    }
    // A publisher that stays open is asked by the new list, though it knew the way by the old one.
    let publisher = channel.publisher("events", "order.created").not_mandatory().open().await.unwrap();
    soon(publisher.publish("x").await.unwrap()).await.unwrap();
    assert!(refusal(&channel, "job.a").await.is_some());
    let later = channel.publisher("events", "job.a").not_mandatory().open().await.unwrap();
    assert!(soon(later.publish("x").await.unwrap()).await.is_err());
    soon(channel.delete_exchange("events", DeleteExchange::default())).await.unwrap();
    soon(channel.declare_exchange(other())).await.unwrap();
    let refused = soon(publisher.publish("x").await.unwrap()).await;
    assert!(matches!(refused, Err(ConfirmError::Refused(_))), "{refused:?}");
    soon(later.publish("x").await.unwrap()).await.expect("this one is allowed now");
}
