//! Exchanges that give each message to one of their bindings: by a hash, or by chance.

use std::collections::BTreeMap;

use leveret::client::{
    Binding, Channel, Destination, Exchange, ExchangeKind, Get, JourneyRule, JourneyScope, Message, Queue,
    RequestError,
};
use leveret::model::{FieldTable, ReplyCode};

use super::{connect, soon};
use crate::support::Broker;

const MESSAGES: usize = 400;
const QUEUES: [&str; 4] = ["one", "two", "three", "four"];

async fn declare(channel: &Channel, exchange: Exchange, weights: &[&str]) {
    let name = exchange.name.clone();
    soon(channel.declare_exchange(exchange)).await.unwrap();
    for queue in QUEUES {
        soon(channel.declare_queue(Queue::new(queue))).await.unwrap();
    }
    for (queue, weight) in QUEUES.into_iter().zip(weights) {
        soon(channel.bind(Binding::to_queue(&name, queue, *weight))).await.unwrap();
    }
}

/// Publishes many messages, made from their numbers, and waits until all are confirmed by one queue each.
async fn publish(channel: &Channel, exchange: &str, message: impl Fn(usize) -> Message) {
    let publisher = soon(channel.publisher(exchange, "same").open()).await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..MESSAGES {
        waiting.push(publisher.publish(message(number)).await.unwrap());
    }
    for confirm in waiting {
        assert_eq!(soon(confirm).await.unwrap().queues, 1);
    }
}

fn keyed(number: usize) -> Message {
    Message::new(number.to_string()).routing_key(format!("order.{number}"))
}

/// Takes all messages that wait: the bodies of each queue.
async fn taken(channel: &Channel) -> BTreeMap<&'static str, Vec<String>> {
    let mut taken = BTreeMap::new();
    for queue in QUEUES {
        let mut bodies = Vec::new();
        while let Some(got) = soon(channel.get(queue, Get { no_ack: true })).await.unwrap() {
            bodies.push(String::from_utf8(got.delivery.body().to_vec()).unwrap());
        }
        taken.insert(queue, bodies);
    }
    assert_eq!(taken.values().map(Vec::len).sum::<usize>(), MESSAGES, "each message is in one queue");
    taken
}

async fn empty(channel: &Channel) {
    for queue in QUEUES {
        soon(channel.purge_queue(queue)).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_keeps_its_queue_over_a_restart_and_only_a_new_queue_takes_keys() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let exchange = || Exchange::new("orders", ExchangeKind::ConsistentHash);
    declare(&channel, exchange(), &["1", "1", "2"]).await;
    publish(&channel, "orders", keyed).await;
    let before = taken(&channel).await;
    let counts = before.values().map(Vec::len).collect::<Vec<_>>();
    assert!(before["three"].len() > before["one"].len().max(before["two"].len()), "{counts:?}");

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    // What was taken just before a crash may be there again.
    empty(&channel).await;
    publish(&channel, "orders", keyed).await;
    assert_eq!(taken(&channel).await, before);

    declare(&channel, exchange(), &["1", "1", "2", "1"]).await;
    publish(&channel, "orders", keyed).await;
    let mut after = taken(&channel).await;
    let moved = after.insert("four", Vec::new()).unwrap();
    assert!((MESSAGES / 10..MESSAGES * 3 / 10).contains(&moved.len()), "{} of {MESSAGES}", moved.len());
    for (queue, bodies) in after {
        let stayed: Vec<String> =
            before[queue].iter().filter(|body| !moved.contains(body)).cloned().collect();
        assert_eq!(bodies, stayed, "{queue}");
    }

    soon(channel.unbind(Binding::to_queue("orders", "four", "1"))).await.unwrap();
    publish(&channel, "orders", keyed).await;
    assert_eq!(taken(&channel).await, before, "what was taken is back");
}

#[tokio::test]
async fn what_is_hashed_may_be_a_header_or_a_property() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let by = |name: &str| Exchange::new(name, ExchangeKind::ConsistentHash);
    declare(&channel, by("keys"), &["1"; 4]).await;
    declare(&channel, by("headers").hash_header("user"), &["1"; 4]).await;
    declare(&channel, by("ids").hash_property("message_id"), &["1"; 4]).await;
    declare(&channel, by("correlations").hash_property("correlation_id"), &["1"; 4]).await;
    publish(&channel, "keys", keyed).await;
    let expected = taken(&channel).await;
    publish(&channel, "headers", |number| {
        Message::new(number.to_string()).header("user", &*format!("order.{number}"))
    })
    .await;
    assert_eq!(taken(&channel).await, expected);
    publish(&channel, "ids", |number| Message::new(number.to_string()).message_id(format!("order.{number}")))
        .await;
    assert_eq!(taken(&channel).await, expected);
    publish(&channel, "correlations", |number| {
        Message::new(number.to_string()).correlation_id(format!("order.{number}"))
    })
    .await;
    assert_eq!(taken(&channel).await, expected);
    // Those without it stay together.
    publish(&channel, "headers", keyed).await;
    assert_eq!(taken(&channel).await.values().filter(|bodies| !bodies.is_empty()).count(), 1);
}

#[tokio::test]
async fn chance_spreads_messages_of_one_key_and_a_modulus_does_not() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, Exchange::new("any", ExchangeKind::Random), &[""; 4]).await;
    declare(&channel, Exchange::new("parts", ExchangeKind::ModulusHash), &[""; 4]).await;
    let plain = |number: usize| Message::new(number.to_string());
    publish(&channel, "any", plain).await;
    let by_chance = taken(&channel).await;
    assert!(by_chance.values().all(|bodies| bodies.len() > MESSAGES / 10), "{by_chance:?}");
    publish(&channel, "parts", plain).await;
    assert_eq!(taken(&channel).await.values().filter(|bodies| !bodies.is_empty()).count(), 1);
    publish(&channel, "parts", keyed).await;
    let by_key = taken(&channel).await;
    assert!(by_key.values().all(|bodies| bodies.len() > MESSAGES / 10), "{by_key:?}");

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    // What was taken just before a crash may be there again.
    empty(&channel).await;
    publish(&channel, "parts", keyed).await;
    assert_eq!(taken(&channel).await, by_key);
    publish(&channel, "any", plain).await;
    assert_ne!(taken(&channel).await, by_chance);
}

#[tokio::test]
async fn a_journey_names_the_queue_that_chance_chose() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, Exchange::new("any", ExchangeKind::Random), &[""; 4]).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    let publisher = soon(channel.publisher("any", "k").open()).await.unwrap();
    for number in 0..20 {
        let message = Message::new("m").message_id(format!("m{number}"));
        soon(publisher.publish(message).await.unwrap()).await.unwrap();
        let mut reached = Vec::new();
        for queue in QUEUES {
            if soon(channel.get(queue, Get { no_ack: true })).await.unwrap().is_some() {
                reached.push(queue.to_owned());
            }
        }
        let journeys = soon(channel.journey(&format!("m{number}"))).await.unwrap().journeys;
        let explanation = journeys[0].explanation.as_ref().unwrap();
        let matched = explanation.exchanges[0].bindings.iter().filter(|binding| binding.matched);
        let matched: Vec<String> = matched
            .map(|explained| match &explained.binding.destination {
                Destination::Queue(name) | Destination::Exchange(name) => name.clone(),
            })
            .collect();
        assert_eq!((matched, &explanation.queues), (reached.clone(), &reached));
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_changes() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let by = |name: &str| Exchange::new(name, ExchangeKind::ConsistentHash);
    declare(&channel, by("orders"), &["1"]).await;
    let refused = |result: Result<(), RequestError>| match result {
        Err(RequestError::Refused(refusal)) => {
            assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
            (refusal.field.clone(), refusal.hint.clone())
        }
        other => panic!("it should be refused: {other:?}"),
    };
    for weight in ["0", "-1", "", "half", "99999999999999999999"] {
        let bound = soon(channel.bind(Binding::to_queue("orders", "one", weight))).await;
        assert_eq!(refused(bound).0, "routing_key", "{weight}");
    }
    let both = by("both").hash_header("a").hash_property("message_id");
    assert_eq!(refused(soon(channel.declare_exchange(both)).await).0, "hash-property");
    let unknown = by("unknown").hash_property("app_id");
    assert_eq!(refused(soon(channel.declare_exchange(unknown)).await).0, "hash-property");
    let other = by("orders").hash_header("user");
    assert_eq!(refused(soon(channel.declare_exchange(other)).await).0, "hash-header");
    let misspelt = Exchange { kind: "x-consistent-hsh".to_owned(), ..by("misspelt") };
    let refusal = refused(soon(channel.declare_exchange(misspelt)).await);
    assert_eq!(refusal, ("type".to_owned(), "did you mean 'x-consistent-hash'?".to_owned()));
    let explained = soon(channel.explain("orders", "a", &FieldTable::default())).await.unwrap();
    let reasons: Vec<&str> =
        explained.exchanges[0].bindings.iter().map(|binding| binding.reason.as_str()).collect();
    assert_eq!(reasons, ["the hash of the routing key chooses queue `one`, with weight 1 of 1"]);
}
