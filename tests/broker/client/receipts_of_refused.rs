//! Journeys of messages that an exchange does not take: why, and that what is kept in quarantine is no part of their story.

use leveret::client::{
    Binding, Channel, ConfirmError, Exchange, ExchangeKind, Get, Journey, JourneyRule, JourneyScope, Message,
    MessageSchema, Publisher, Queue,
};

use super::{connect, soon};
use crate::support::Broker;

const EVENTS: &str = "events";
const ORDER: &str =
    r#"{"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}"#;
const GOOD: &str = r#"{"price": 1}"#;
const ODD: &str = r#"{"price": "1"}"#;

/// An exchange with a list, a schema and a quarantine, and a queue that gets everything else.
async fn declare(channel: &Channel) {
    let events = Exchange::new(EVENTS, ExchangeKind::Topic)
        .allow("order.*")
        .schema("order.*", MessageSchema::json(ORDER))
        .quarantine_queue("odd");
    soon(channel.declare_exchange(events)).await.unwrap();
    for queue in ["all", "odd"] {
        soon(channel.declare_queue(Queue::new(queue))).await.unwrap();
    }
    soon(channel.bind(Binding::to_queue(EVENTS, "all", "#"))).await.unwrap();
}

async fn only(channel: &Channel, id: &str) -> Journey {
    let mut journeys = soon(channel.journey(id)).await.unwrap().journeys;
    assert_eq!(journeys.len(), 1, "of {id}: {journeys:?}");
    journeys.remove(0)
}

/// Publishes them in one go, so that they share frames; the ids that confirms name.
async fn publish_all(publisher: &Publisher, messages: &[(&str, &str, &str)]) -> Vec<Option<String>> {
    let mut waiting = Vec::new();
    for (id, key, body) in messages {
        let message = Message::new((*body).to_owned()).message_id(*id).routing_key(*key);
        waiting.push(publisher.publish(message).await.unwrap());
    }
    let mut ids = Vec::new();
    for confirm in waiting {
        ids.push(match soon(confirm).await {
            Ok(confirmed) => Some(confirmed.journey.expect("journeys are kept").to_string()),
            Err(ConfirmError::Refused(_)) => None,
            Err(other) => panic!("{other}"),
        });
    }
    ids
}

#[tokio::test]
async fn the_story_of_a_message_that_an_exchange_does_not_take_says_why() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    let publisher = soon(channel.publisher(EVENTS, "").open()).await.unwrap();
    // The same key with different fates, and neighbours that are refused apart from them.
    let messages = [
        ("good-1", "order.new", GOOD),
        ("odd-1", "order.new", ODD),
        ("good-2", "order.new", GOOD),
        ("misspelt", "odrer.new", GOOD),
        ("odd-2", "order.new", "{}"),
        ("good-3", "order.new", GOOD),
    ];
    let confirmed = publish_all(&publisher, &messages).await;

    for ((id, ..), confirmed) in messages.iter().zip(&confirmed) {
        let journey = only(&channel, id).await;
        assert_eq!(confirmed.is_some(), id.starts_with("good"), "{id}");
        let explained = &journey.explanation.as_ref().expect("its way is kept").exchanges[0];
        let Some(confirmed) = confirmed else {
            assert!(journey.refusal.is_some() && explained.refused.is_some(), "{id}: {journey:?}");
            assert!(journey.receipts.is_empty() && journey.events.is_empty(), "it went nowhere: {journey:?}");
            assert!(explained.bindings.is_empty(), "{id}: its bindings were not asked: {explained:?}");
            continue;
        };
        assert_eq!(&journey.id, confirmed, "{id} is what its confirm calls it");
        assert!(journey.refusal.is_none() && explained.refused.is_none(), "{id}: {journey:?}");
        assert!(
            explained.schema.as_deref().is_some_and(|schema| schema.starts_with("fits")),
            "{explained:?}"
        );
        let queues: Vec<&str> = journey.receipts.iter().map(|receipt| &*receipt.queue).collect();
        assert_eq!(queues, ["all"], "{id}");
    }
    let odd = only(&channel, "odd-1").await;
    let refusal = odd.refusal.unwrap();
    assert_eq!((&*refusal.field, &*refusal.expected, &*refusal.got), ("body.price", "a number", "\"1\""));
    let schema = odd.explanation.unwrap().exchanges.remove(0).schema.unwrap();
    assert!(schema.starts_with("does not fit"), "{schema}");
    let other = only(&channel, "odd-2").await.refusal.unwrap();
    assert_eq!((&*other.expected, &*other.got), ("present", "absent"), "each has its own reason");
    let misspelt = only(&channel, "misspelt").await.refusal.unwrap();
    assert_eq!((&*misspelt.field, &*misspelt.got), ("routing_key", "odrer.new"));
    assert!(misspelt.hint.contains("order.new"), "{misspelt}");
}

#[tokio::test]
async fn what_becomes_of_a_copy_in_quarantine_is_not_the_story_of_the_message() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel).await;
    for scope in [JourneyScope::Exchange(EVENTS.to_owned()), JourneyScope::Queue("odd".to_owned())] {
        soon(channel.keep_journeys(&JourneyRule::new(scope))).await.unwrap();
    }
    let publisher = soon(channel.publisher(EVENTS, "").open()).await.unwrap();
    let messages =
        [("odd-1", "order.new", ODD), ("good-1", "order.new", GOOD), ("misspelt", "odrer.new", GOOD)];
    publish_all(&publisher, &messages).await;
    assert_eq!((broker.messages("all"), broker.messages("odd")), ((1, 0), (2, 0)));

    // The copies are taken and settled under the ids that the messages have.
    for id in ["odd-1", "misspelt"] {
        let before = only(&channel, id).await;
        let copy = soon(channel.get("odd", Get::default())).await.unwrap().unwrap().delivery;
        assert_eq!(copy.properties().unwrap().message_id, id);
        soon(copy.accept_stored()).await.unwrap();
        let after = only(&channel, id).await;
        assert_eq!(after, before, "a copy that was accepted is not the message");
        assert!(after.refusal.is_some() && after.receipts.is_empty() && after.events.is_empty(), "{after:?}");
    }
    let good = only(&channel, "good-1").await;
    assert_eq!(good.receipts.len(), 1, "{good:?}");
    assert_eq!(good.receipts[0].deliveries, 0, "nobody has had it: {good:?}");
}
