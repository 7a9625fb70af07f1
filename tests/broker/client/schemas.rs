//! An exchange with schemas takes messages that fit them, and keeps the others in quarantine if it has one.

use leveret::client::{
    Alteration, Binding, Channel, ConfirmError, Durability, Entity, Event, Exchange, ExchangeKind,
    FieldValue, Get, Message, MessageBatch, MessageSchema, Properties, Queue, Refusal, ReplyCode,
    RequestError,
};
use prost::Message as _;

use super::{connect, soon};
use crate::support::Broker;

const ORDER: &str =
    r#"{"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}"#;
const CHORES: &str =
    "syntax = \"proto3\"; package demo.v1; message Chore { string title = 1; uint32 hours = 2; }";

fn descriptor() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("chores.proto"), CHORES).unwrap();
    protox::compile(["chores.proto"], [folder.path()]).unwrap().encode_to_vec()
}

fn events() -> Exchange {
    Exchange::new("events", ExchangeKind::Topic)
        .schema("order.*", MessageSchema::json(ORDER))
        .schema("chore.#", MessageSchema::protobuf(descriptor(), "demo.v1.Chore"))
}

/// The exchange, and a queue that would get everything.
async fn declare(channel: &Channel, events: Exchange) {
    soon(channel.declare_exchange(events)).await.unwrap();
    soon(channel.declare_queue(Queue::new("all"))).await.unwrap();
    soon(channel.bind(Binding::to_queue("events", "all", "#"))).await.unwrap();
}

/// Why a message is refused; `None` if it is confirmed.
async fn refusal(channel: &Channel, key: &str, message: impl Into<Message>) -> Option<Refusal> {
    let publisher = soon(channel.publisher("events", key).open()).await.unwrap();
    match soon(publisher.publish(message).await.unwrap()).await {
        Ok(_) => None,
        Err(ConfirmError::Refused(refusal)) => Some((*refusal).clone()),
        Err(other) => panic!("{key}: {other}"),
    }
}

/// Messages refused for their keys and for their bodies.
async fn counts(channel: &Channel) -> (u64, u64) {
    let exchanges = soon(channel.list_exchanges()).await.unwrap();
    let events = exchanges.into_iter().find(|exchange| exchange.name == "events").unwrap();
    (events.refused_total, events.unfit_total)
}

fn encoded(body: &str, content_encoding: &str) -> Message {
    Message::new(body.to_owned()).content_encoding(content_encoding)
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused_with_the_field() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events()).await;
    assert_eq!(refusal(&channel, "order.created", r#"{"price": 5}"#).await, None);
    assert_eq!(refusal(&channel, "chore.added", "\x0a\x01a\x10\x05").await, None);
    assert_eq!(refusal(&channel, "else", "anything").await, None, "no schema is for this key");
    let refused = refusal(&channel, "order.created", r#"{"price": "5"}"#).await.unwrap();
    assert_eq!(refused.code, ReplyCode::PreconditionFailed);
    assert_eq!(refused.entity, Some((Entity::Exchange, "events".to_owned())));
    assert_eq!((&*refused.field, &*refused.expected, &*refused.got), ("body.price", "a number", "\"5\""));
    assert_eq!(
        refused.text,
        "a message with routing key 'order.created' does not fit the schema for 'order.*' (json) on exchange 'events' in vhost '/'"
    );
    assert!(refused.hint.contains("/properties/price/type"), "{}", refused.hint);
    let refused = refusal(&channel, "chore.added", "\x0a\x01a\x12\x01b").await.unwrap();
    assert_eq!(
        (&*refused.field, &*refused.expected, &*refused.got),
        ("body.hours", "uint32", "bytes with their length")
    );
    assert_eq!(counts(&channel).await, (0, 2));

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert!(refusal(&channel, "order.created", "{}").await.is_some(), "the schema is still there");
    assert!(refusal(&channel, "chore", "\x0a").await.is_some());
    assert_eq!(refusal(&channel, "order.paid", r#"{"price": 1}"#).await, None);
    assert_eq!(counts(&channel).await, (0, 2));
    assert_eq!(broker.messages("all"), (4, 0));
}

#[tokio::test]
async fn other_messages_of_a_batch_are_not_touched() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events().allow("order.*")).await;
    let publisher = soon(channel.publisher("events", "order.created").open()).await.unwrap();
    let mut batch = MessageBatch::new();
    for number in 0..1000 {
        let body = if number % 10 == 3 { "{}" } else { r#"{"price": 1}"# };
        let key = if number % 10 == 7 { "ordr.created" } else { "order.created" };
        batch.push(&Message::new(body).routing_key(key)).unwrap();
    }
    let outcome = soon(publisher.publish_batch(&mut batch).await.unwrap()).await.unwrap();
    assert_eq!((outcome.confirmed, outcome.failed), (800, 200));
    assert_eq!(outcome.first_refusal.unwrap().field, "body.price");
    assert_eq!(counts(&channel).await, (100, 100));
    assert_eq!(broker.messages("all"), (800, 0));
}

#[tokio::test]
async fn a_body_in_another_encoding_is_refused() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events()).await;
    for plain in ["identity", "UTF-8", "binary"] {
        assert_eq!(
            refusal(&channel, "order.created", encoded(r#"{"price": 1}"#, plain)).await,
            None,
            "{plain}"
        );
    }
    let refused = refusal(&channel, "order.created", encoded(r#"{"price": 1}"#, "gzip")).await.unwrap();
    assert_eq!((&*refused.field, &*refused.got), ("content_encoding", "gzip"));
    assert_eq!(refusal(&channel, "else", encoded("x", "gzip")).await, None, "no schema is for this key");
}

#[tokio::test]
async fn the_first_schema_that_matches_holds() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let number = MessageSchema::json(r#"{"type": "number"}"#);
    let any = MessageSchema::json("true");
    let first =
        Exchange::new("events", ExchangeKind::Topic).schema("a.*", number.clone()).schema("#", any.clone());
    declare(&channel, first.clone()).await;
    assert!(refusal(&channel, "a.b", "\"x\"").await.is_some());
    assert_eq!(refusal(&channel, "b", "\"x\"").await, None);
    soon(channel.declare_exchange(first)).await.unwrap();
    let other = Exchange::new("events", ExchangeKind::Topic).schema("#", any).schema("a.*", number);
    let Err(RequestError::Refused(refused)) = soon(channel.declare_exchange(other)).await else {
        panic!("the order of schemas counts")
    };
    assert_eq!((refused.code, &*refused.field), (ReplyCode::PreconditionFailed, "x-schemas"));
    assert_eq!(refused.expected, "'a.*' (json, 18 bytes), '#' (json, 4 bytes)");
}

#[tokio::test]
async fn a_schema_that_does_not_compile_is_refused_with_the_place() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for (schema, words) in [
        (
            MessageSchema::json(r#"{"properties": {"a": {"type": "strng"}}}"#),
            "'#' (json) that does not compile (at /properties/a/type)",
        ),
        (MessageSchema::json(r#"{"$ref": "https://example.org/a"}"#), "refers to something outside"),
        (MessageSchema::protobuf(descriptor(), "demo.v1.Chor"), "has no message of that name (at message)"),
    ] {
        let exchange = Exchange::new("events", ExchangeKind::Topic).schema("#", schema);
        let Err(RequestError::Refused(refused)) = soon(channel.declare_exchange(exchange)).await else {
            panic!("{words}")
        };
        assert_eq!((refused.code, &*refused.field), (ReplyCode::PreconditionFailed, "x-schemas"));
        assert!(refused.text.contains(words), "{}", refused.text);
    }
}

#[tokio::test]
async fn what_is_refused_is_kept_in_quarantine_with_the_reason() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events().allow("order.*").quarantine_queue("odd")).await;
    let refused = refusal(&channel, "ordr.created", "first").await.unwrap();
    assert!(refused.text.ends_with("it is not kept, since there is no queue 'odd'"), "{}", refused.text);

    soon(channel.declare_queue(Queue::new("odd"))).await.unwrap();
    let message = Message::new("{}").message_id("m-1").header("mine", 7).header("x-refused-key", "old");
    let refused = refusal(&channel, "order.created", message).await.unwrap();
    assert!(refused.text.ends_with("it is kept in queue 'odd'"), "{}", refused.text);
    assert!(
        refusal(&channel, "ordr.paid", "second").await.unwrap().text.ends_with("it is kept in queue 'odd'")
    );
    assert_eq!(refusal(&channel, "order.paid", r#"{"price": 1}"#).await, None);
    assert_eq!(broker.messages("all"), (1, 0));

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(broker.messages("odd"), (2, 0), "what publishers were told is kept survives a kill");
    let first = soon(channel.get("odd", Get::default())).await.unwrap().unwrap().delivery;
    assert_eq!(
        (&**first.body(), first.exchange(), first.routing_key()),
        (&b"{}"[..], "events", "order.created")
    );
    let Properties { message_id, headers, .. } = first.properties().unwrap();
    assert_eq!(message_id, "m-1");
    let text = |name: &str| headers.text(name).unwrap().to_owned();
    assert_eq!(headers.value("mine"), Some(&FieldValue::from(7)));
    assert!(text("x-refused-reason").contains("does not fit the schema for 'order.*'"));
    assert_eq!(text("x-refused-exchange"), "events");
    assert_eq!(text("x-refused-key"), "order.created", "that of an earlier refusal is replaced");
    assert_eq!(text("x-refused-field"), "body.price");
    assert_eq!(
        (text("x-refused-expected"), text("x-refused-got")),
        ("present".to_owned(), "absent".to_owned())
    );
    let second = soon(channel.get("odd", Get::default())).await.unwrap().unwrap().delivery;
    assert_eq!((&**second.body(), second.routing_key()), (&b"second"[..], "ordr.paid"));
}

#[tokio::test]
async fn a_quarantine_in_memory_takes_nothing_from_what_is_on_disk() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events().quarantine_queue("odd")).await;
    soon(channel.declare_queue(Queue::new("odd").transient())).await.unwrap();
    let publisher = soon(channel.publisher("events", "order.created").open()).await.unwrap();
    let good = publisher.publish(r#"{"price": 1}"#).await.unwrap();
    let odd = publisher.publish("{}").await.unwrap();
    assert_eq!(soon(good).await.unwrap().level, Durability::Synced);
    assert!(soon(odd).await.is_err());
    assert_eq!((broker.messages("all"), broker.messages("odd")), ((1, 0), (1, 0)));
}

#[tokio::test]
async fn what_an_exchange_takes_is_replaced_in_one_step_and_its_bindings_stay() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events().allow("order.*").quarantine_queue("odd")).await;
    soon(channel.declare_queue(Queue::new("odd"))).await.unwrap();
    let open = soon(channel.publisher("events", "order.created").open()).await.unwrap();
    assert!(soon(open.publish("{}").await.unwrap()).await.is_err());
    let any = Alteration::new().schema("order.*", MessageSchema::json("true")).without_quarantine();
    soon(channel.alter_exchange("events", any)).await.unwrap();
    assert!(soon(open.publish("{}").await.unwrap()).await.is_ok(), "who is open is asked by the new schema");
    let refused = refusal(&channel, "ordr.created", "{}").await.unwrap();
    assert!(!refused.text.contains("kept"), "the list stays, the quarantine is gone: {}", refused.text);

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(refusal(&channel, "order.created", "{}").await, None, "the new schema is still there");
    soon(channel.alter_exchange("events", Alteration::new().without_allowed_keys())).await.unwrap();
    assert_eq!(refusal(&channel, "ordr.created", "x").await, None);
    assert_eq!((broker.messages("all"), broker.messages("odd")), ((3, 0), (1, 0)));
}

#[tokio::test]
async fn an_alteration_that_makes_no_sense_changes_nothing() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events()).await;
    let none = MessageSchema::json("{");
    for (exchange, alteration, code) in [
        ("absent", Alteration::new().allow("a"), ReplyCode::NotFound),
        ("", Alteration::new().allow("a"), ReplyCode::AccessRefused),
        ("amq.topic", Alteration::new().allow("a"), ReplyCode::AccessRefused),
        (
            "events",
            Alteration::new().schema("order.*", none).without_allowed_keys(),
            ReplyCode::PreconditionFailed,
        ),
    ] {
        let Err(RequestError::Refused(refused)) = soon(channel.alter_exchange(exchange, alteration)).await
        else {
            panic!("{exchange}: not refused")
        };
        assert_eq!(refused.code, code, "{exchange}: {}", refused.text);
    }
    assert!(refusal(&channel, "order.created", "{}").await.is_some(), "the old schema holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_altered_what_it_declared_declares_it_again_as_it_is() {
    let mut broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    let mut told = connection.events();
    declare(&channel, events().allow("order.*")).await;
    let alteration = Alteration::new().without_schemas().allow("#");
    soon(channel.alter_exchange("events", alteration)).await.unwrap();
    broker.kill_and_restart();
    loop {
        match soon(told.next()).await.unwrap() {
            Event::NotRestored { what, refusal } => panic!("{what}: {refusal}"),
            Event::Reconnected { .. } => break,
            _ => {}
        }
    }
    assert_eq!(refusal(&channel, "else", "{}").await, None);
}

#[tokio::test]
async fn what_does_not_fit_is_counted_by_schema() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events().schema("order.#", MessageSchema::json("false"))).await;
    for (key, body) in [("order.created", "{}"), ("order.paid", "x"), ("chore.added", "\x0a\x01a\x12\x01b")] {
        assert!(refusal(&channel, key, body).await.is_some());
    }
    assert!(refusal(&channel, "order.paid.late", "true").await.is_some(), "the third is for more keys");
    let exchanges = soon(channel.list_exchanges()).await.unwrap();
    let entry = exchanges.into_iter().find(|exchange| exchange.name == "events").unwrap();
    let schemas = entry.schemas.iter().map(|schema| (&*schema.pattern, &*schema.kind, schema.unfit_total));
    assert_eq!(
        schemas.collect::<Vec<_>>(),
        [("order.*", "json", 2), ("chore.#", "protobuf", 1), ("order.#", "json", 1)]
    );
    assert_eq!(entry.unfit_total, 4);
    let shown = broker.run(&["list", "exchanges"]).ok();
    let note = "exchange 'events': messages that did not fit the schema for 'order.*' (json) 2, 'chore.#' (protobuf) 1, 'order.#' (json) 1\n";
    assert!(shown.ends_with(note), "{shown}");
    let json = broker.run(&["list", "exchanges", "--json"]).json();
    let listed = json.as_array().unwrap().iter().find(|exchange| exchange["name"] == "events").unwrap();
    assert_eq!(listed["schemas"][1]["unfit_total"], 1);
}

#[tokio::test]
async fn copies_for_which_there_is_no_quarantine_queue_are_counted_and_told() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, events().allow("order.*").quarantine_queue("odd")).await;
    let unkept = async || {
        let exchanges = soon(channel.list_exchanges()).await.unwrap();
        exchanges.into_iter().find(|exchange| exchange.name == "events").unwrap().unkept_total
    };
    for (key, body) in [("order.created", "{}"), ("ordr.created", "{}")] {
        assert!(refusal(&channel, key, body).await.unwrap().text.contains("there is no queue 'odd'"));
    }
    assert_eq!(unkept().await, 2);
    let shown = broker.run(&["list", "exchanges"]).ok();
    let note = "there is no copy, since there was no quarantine queue 'odd': 2\n";
    assert!(shown.ends_with(note), "{shown}");
    soon(channel.declare_queue(Queue::new("odd"))).await.unwrap();
    assert!(refusal(&channel, "ordr.created", "{}").await.unwrap().text.contains("kept in queue 'odd'"));
    assert_eq!((unkept().await, broker.messages("odd")), (2, (1, 0)));
}
