//! Further routing keys in the headers `CC` and `BCC` of a message.

use leveret::client::{
    Binding, Channel, ConfirmError, Exchange, ExchangeKind, FieldTable, FieldValue, Get, JourneyRule,
    JourneyScope, Message, MessageBatch, MessageSchema, Properties, Queue, Refusal, ReplyCode,
};

use super::{connect, soon};
use crate::support::Broker;

fn keys(keys: &[&str]) -> FieldValue {
    FieldValue::List(keys.iter().map(|key| FieldValue::from(*key)).collect())
}

async fn declare(channel: &Channel, queues: &[&str]) {
    for queue in queues {
        soon(channel.declare_queue(Queue::new(*queue))).await.unwrap();
    }
}

/// How many queues a message reaches, or why it is refused.
async fn publish(channel: &Channel, exchange: &str, key: &str, message: Message) -> Result<u32, Refusal> {
    let publisher = soon(channel.publisher(exchange, key).open()).await.unwrap();
    match soon(publisher.publish(message).await.unwrap()).await {
        Ok(confirmed) => Ok(confirmed.queues),
        Err(ConfirmError::Refused(refusal)) => Err((*refusal).clone()),
        Err(other) => panic!("{key}: {other}"),
    }
}

/// The next message of a queue: body, routing key, properties.
async fn get(channel: &Channel, queue: &str) -> Option<(String, String, Properties)> {
    let delivery = soon(channel.get(queue, Get { no_ack: true })).await.unwrap()?.delivery;
    let body = String::from_utf8_lossy(delivery.body()).into_owned();
    Some((body, delivery.routing_key().to_owned(), delivery.properties().unwrap()))
}

#[tokio::test]
async fn each_message_of_a_frame_goes_by_its_own_keys_and_keeps_all_but_the_blind_ones() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, &["one", "two", "three"]).await;
    let publisher = soon(channel.publisher("", "one").open()).await.unwrap();
    let mut batch = MessageBatch::new();
    let numbered = |number: usize| Message::new(number.to_string()).message_id(format!("id-{number}"));
    for number in 0..300 {
        let message = match number % 5 {
            0 => numbered(number),
            1 => numbered(number).header("CC", keys(&["two"])),
            2 => numbered(number).header("BCC", keys(&["three", "nobody"])).header("mine", number as i64),
            3 => numbered(number)
                .routing_key("two")
                .header("BCC", keys(&["three"]))
                .header("CC", keys(&["one"])),
            _ => numbered(number).routing_key("three").header("other", "x"),
        };
        batch.push(&message).unwrap();
    }
    let outcome = soon(publisher.publish_batch(&mut batch).await.unwrap()).await.unwrap();
    assert_eq!((outcome.confirmed, outcome.failed), (300, 0));
    assert_eq!(broker.messages("one"), (240, 0));

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    let expected = |kinds: &'static [usize]| (0..300).filter(move |number| kinds.contains(&(number % 5)));
    for (queue, kinds) in [("one", &[0, 1, 2, 3][..]), ("two", &[1, 3]), ("three", &[2, 3, 4])] {
        for number in expected(kinds) {
            let (body, key, properties) = get(&channel, queue).await.unwrap();
            assert_eq!((body, &*properties.message_id), (number.to_string(), &*format!("id-{number}")));
            let (own, headers) = match number % 5 {
                0 => ("one", FieldTable::default()),
                1 => ("one", FieldTable::from([("CC", keys(&["two"]))])),
                2 => ("one", FieldTable::from([("mine", FieldValue::Integer(number as i64))])),
                3 => ("two", FieldTable::from([("CC", keys(&["one"]))])),
                _ => ("three", FieldTable::from([("other", "x".into())])),
            };
            assert_eq!((&*key, properties.headers), (own, headers), "message {number} in queue {queue}");
        }
        assert_eq!(get(&channel, queue).await, None);
    }
}

#[tokio::test]
async fn what_is_remembered_of_a_key_is_not_for_a_message_with_further_ones() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, &["one", "two"]).await;
    let publisher = soon(channel.publisher("", "one").open()).await.unwrap();
    for message in [
        Message::new("a"),
        Message::new("b").header("CC", keys(&["two"])),
        Message::new("c"),
        Message::new("d").routing_key("one"),
        Message::new("e").routing_key("one").header("BCC", keys(&["two"])),
        Message::new("f").routing_key("one"),
    ] {
        soon(publisher.publish(message).await.unwrap()).await.unwrap();
    }
    for (queue, bodies) in [("one", &["a", "b", "c", "d", "e", "f"][..]), ("two", &["b", "e"])] {
        for body in bodies {
            assert_eq!(get(&channel, queue).await.unwrap().0, *body);
        }
        assert_eq!(get(&channel, queue).await, None);
    }
}

#[tokio::test]
async fn what_comes_back_has_no_blind_keys() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let publisher = soon(channel.publisher("", "nowhere").open()).await.unwrap();
    let message = Message::new("m").header("CC", keys(&["a"])).header("BCC", keys(&["b"]));
    let returned = soon(publisher.publish(message).await.unwrap()).await;
    let Err(ConfirmError::Returned(returned)) = returned else { panic!("{returned:?}") };
    assert_eq!(returned.routing_key, "nowhere");
    let headers = &returned.message.properties().unwrap().headers;
    assert_eq!(*headers, FieldTable::from([("CC", keys(&["a"]))]));
}

#[tokio::test]
async fn keys_that_are_none_are_refused_for_the_message_alone() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, &["q"]).await;
    for (header, value, words) in [
        ("CC", FieldValue::from("q"), "header CC is no list"),
        ("BCC", FieldValue::Void, "header BCC is no list"),
        ("BCC", keys(&[&"k".repeat(256)]), "header BCC has a key that is too long"),
        ("CC", keys(&["k"; 1_025]), "too many routing keys"),
    ] {
        let refused = publish(&channel, "", "q", Message::new("m").header(header, value)).await.unwrap_err();
        assert_eq!(refused.code, ReplyCode::PreconditionFailed, "{header}");
        assert!(refused.text.contains(words), "{}", refused.text);
    }
    let odd = Message::new("m").header("CC", "q");
    assert_eq!(publish(&channel, "absent", "q", odd).await.unwrap_err().code, ReplyCode::NotFound);
    assert_eq!(get(&channel, "q").await, None);
    assert_eq!(publish(&channel, "", "q", Message::new("m").header("CC", keys(&["k"; 1_024]))).await, Ok(1));
}

#[tokio::test]
async fn an_exchange_is_asked_about_each_key() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, &["all", "odd"]).await;
    let events = Exchange::new("events", ExchangeKind::Topic).allow("order.*").allow("chore.*");
    let schema = MessageSchema::json(r#"{"required": ["price"]}"#);
    let events = events.schema("order.*", schema).quarantine_queue("odd");
    soon(channel.declare_exchange(events)).await.unwrap();
    soon(channel.bind(Binding::to_queue("events", "all", "#"))).await.unwrap();

    let message = |body: &'static str, further: &[&str]| Message::new(body).header("BCC", keys(further));
    let no_price = || message("{}", &["order.paid"]);
    assert_eq!(publish(&channel, "events", "chore.done", message("{}", &["chore.new"])).await, Ok(1));
    let refused = publish(&channel, "events", "chore.done", no_price()).await.unwrap_err();
    assert_eq!((&*refused.field, &*refused.expected), ("body.price", "present"));
    let refused = publish(&channel, "events", "chore.done", message("{}", &["ordr.paid"])).await.unwrap_err();
    assert_eq!((&*refused.field, &*refused.got), ("routing_key", "ordr.paid"));
    assert_eq!(
        publish(&channel, "events", "chore.done", message("{}", &[])).await,
        Ok(1),
        "its own key is fine"
    );
    let priced = message(r#"{"price": 1}"#, &["order.paid"]);
    assert_eq!(publish(&channel, "events", "chore.done", priced).await, Ok(1));
    assert_eq!(broker.messages("all"), (3, 0));

    let (_, key, properties) = get(&channel, "odd").await.unwrap();
    assert_eq!((&*key, properties.headers.value("BCC")), ("chore.done", Some(&keys(&["order.paid"]))));
    let (_, _, properties) = get(&channel, "odd").await.unwrap();
    assert_eq!(properties.headers.text("x-refused-got"), Some("ordr.paid"));
    assert_eq!(get(&channel, "odd").await, None);
}

#[tokio::test]
async fn explanations_and_receipts_know_further_keys() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, &["one", "two", "three"]).await;
    let headers = FieldTable::from([("CC", keys(&["two"])), ("BCC", keys(&["three", "two"]))]);
    let explanation = soon(channel.explain("", "one", &headers)).await.unwrap();
    assert_eq!(explanation.queues, ["one", "three", "two"]);
    let odd = FieldTable::from([("CC", "two".into())]);
    assert!(soon(channel.explain("", "one", &odd)).await.is_err());

    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    // With a fate of its own beside others of the same key.
    for (id, headers) in
        [("plain", FieldTable::default()), ("copied", headers), ("again", FieldTable::default())]
    {
        publish(&channel, "", "one", Message::new("m").headers(headers).message_id(id)).await.unwrap();
    }
    for (id, queues) in [("plain", &["one"][..]), ("copied", &["one", "three", "two"]), ("again", &["one"])] {
        let told = soon(channel.receipts(id)).await.unwrap();
        let [journey] = &told.journeys[..] else { panic!("of {id}: {told:?}") };
        let receipts: Vec<&str> = journey.receipts.iter().map(|receipt| &*receipt.queue).collect();
        assert_eq!(receipts, queues, "{id}");
    }
}

/// What died once dies again by the same keys, over a restart, too; what has a key of its queue goes by that alone.
#[tokio::test]
async fn dead_letters_keep_their_further_keys_over_a_restart() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    declare(&channel, &["far", "dead"]).await;
    soon(channel.declare_exchange(Exchange::new("dlx", ExchangeKind::Direct))).await.unwrap();
    soon(channel.declare_queue(Queue::new("later").dead_letter_exchange("dlx"))).await.unwrap();
    let work = Queue::new("work").dead_letter_exchange("").dead_letter_routing_key("dead");
    soon(channel.declare_queue(work)).await.unwrap();
    for (queue, key) in [("dead", "later"), ("far", "cc")] {
        soon(channel.bind(Binding::to_queue("dlx", queue, key))).await.unwrap();
    }
    let message = || Message::new("m").header("CC", keys(&["work", "cc"])).header("BCC", keys(&["blind"]));
    assert_eq!(publish(&channel, "", "later", message()).await, Ok(2));

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    for queue in ["later", "work"] {
        soon(channel.get(queue, Get::default())).await.unwrap().unwrap().delivery.reject().unwrap();
    }
    let mut far = soon(channel.consume("far").start()).await.unwrap();
    let letter = soon(far.next()).await.unwrap().unwrap();
    assert_eq!((letter.routing_key(), letter.exchange()), ("later", "dlx"));
    assert_eq!(letter.properties().unwrap().headers.value("CC"), Some(&keys(&["work", "cc"])));

    let mut dead = soon(channel.consume("dead").start()).await.unwrap();
    let mut kept: Vec<(String, Option<FieldValue>, FieldValue)> = Vec::new();
    for _ in 0..2 {
        let letter = soon(dead.next()).await.unwrap().unwrap();
        let headers = letter.properties().unwrap().headers;
        let Some(FieldValue::List(deaths)) = headers.value("x-death") else { panic!("{headers:?}") };
        let [FieldValue::Table(death)] = &deaths[..] else { panic!("{headers:?}") };
        let listed = death.value("routing-keys").unwrap().clone();
        kept.push((letter.routing_key().to_owned(), headers.value("CC").cloned(), listed));
    }
    kept.sort_by(|one, other| one.0.cmp(&other.0));
    let all = keys(&["later", "work", "cc"]);
    let expected =
        [("dead".to_owned(), None, all.clone()), ("later".to_owned(), Some(keys(&["work", "cc"])), all)];
    assert_eq!(kept, expected);
}
