//! Exchanges, queues, bindings and lists over the wire.

use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;

use super::support::{Client, Served, connect};

fn queue(name: &str) -> pb::DeclareQueue {
    pb::DeclareQueue { name: name.to_owned(), ..Default::default() }
}

fn declared(client: &mut Client, declare: pb::DeclareQueue) -> pb::QueueDeclared {
    match client.ask(1, Cold::DeclareQueue(declare)) {
        Cold::QueueDeclared(declared) => declared,
        other => panic!("{other:?}"),
    }
}

fn list(client: &mut Client, kind: pb::ListKind, size: u32, token: &str) -> pb::Listing {
    let list =
        pb::List { kind: kind.into(), page_size: size, page_token: token.to_owned(), ..Default::default() };
    match client.ask(1, Cold::List(list)) {
        Cold::Listing(listing) => listing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_server_names_a_queue_that_has_no_name() {
    let served = Served::start();
    let mut client = served.client();
    let one = declared(&mut client, queue("")).name;
    let other = declared(&mut client, queue("")).name;
    assert!(one.starts_with("amq.gen-") && other.starts_with("amq.gen-") && one != other, "{one} {other}");
}

#[test]
fn declaring_again_must_say_the_same() {
    let served = Served::start();
    let mut client = served.client();
    declared(&mut client, queue("q"));
    declared(&mut client, queue("q"));
    let error = client.refused(1, Cold::DeclareQueue(pb::DeclareQueue { auto_delete: true, ..queue("q") }));
    assert_eq!((error.code, error.entity.as_str()), (406, "q"));
    assert_ne!((error.expected.as_str(), error.got.as_str()), ("", ""));
    let passive = pb::DeclareQueue { auto_delete: true, passive: true, ..queue("q") };
    assert_eq!(declared(&mut client, passive).name, "q");
    let error = client.refused(1, Cold::DeclareQueue(pb::DeclareQueue { passive: true, ..queue("nothing") }));
    assert_eq!(error.code, 404);
}

#[test]
fn arguments_that_would_have_no_effect_are_refused() {
    let served = Served::start();
    let mut client = served.client();
    let with = |name: &str| {
        let one = pb::FieldValue { kind: Some(pb::field_value::Kind::Integer(1)) };
        let arguments = Some(pb::FieldTable { fields: [(name.to_owned(), one)].into() });
        pb::DeclareQueue { arguments, ..queue(name) }
    };
    for name in ["x-max-age", "x-dead-letter-strategy", "x-initial-cluster-size"] {
        let error = client.refused(1, Cold::DeclareQueue(with(name)));
        assert_eq!((error.code, error.field.as_str(), error.entity.as_str()), (540, name, name));
        let passive = pb::DeclareQueue { passive: true, ..queue(name) };
        assert_eq!(client.refused(1, Cold::DeclareQueue(passive)).code, 404, "nothing was made");
    }
    assert_eq!(declared(&mut client, with("x-my-own")).name, "x-my-own");
}

#[test]
fn an_exclusive_queue_is_for_its_connection_and_goes_with_it() {
    let served = Served::start();
    let mut owner = served.client();
    let mut other = served.client();
    declared(&mut owner, pb::DeclareQueue { exclusive: true, ..queue("mine") });
    assert_eq!(other.refused(1, Cold::PurgeQueue(pb::PurgeQueue { name: "mine".to_owned() })).code, 405);
    assert_eq!(other.refused(1, Cold::Get(pb::Get { queue: "mine".to_owned(), no_ack: true })).code, 405);
    owner.tell(0, Cold::Close(pb::Close { error: None }));
    assert_eq!(owner.closed(), None);
    // It goes soon after its owner.
    while list(&mut other, pb::ListKind::Queues, 0, "").queues.iter().any(|queue| queue.name == "mine") {}
}

#[test]
fn deleting_tells_how_many_messages_went() {
    let served = Served::start();
    let mut client = served.client();
    declared(&mut client, queue("q"));
    client.fill("q", &[b"a", b"b"]);
    let delete = |if_unused, if_empty| {
        Cold::DeleteQueue(pb::DeleteQueue { name: "q".to_owned(), if_unused, if_empty })
    };
    assert_eq!(client.refused(1, delete(false, true)).code, 406);
    let Cold::MessageCount(purged) = client.ask(1, Cold::PurgeQueue(pb::PurgeQueue { name: "q".to_owned() }))
    else {
        panic!("not purged")
    };
    assert_eq!(purged.count, 2);
    client.consume("q", 1, 0);
    assert_eq!(client.refused(1, delete(true, false)).code, 406);
    client.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
    for _ in 0..2 {
        let Cold::MessageCount(deleted) = client.ask(1, delete(true, true)) else { panic!("not deleted") };
        assert_eq!(deleted.count, 0);
    }
}

#[test]
fn lists_come_in_pages() {
    let served = Served::start();
    let mut client = served.client();
    let names: Vec<String> = (0..250).map(|number| format!("q{number:03}")).collect();
    names.iter().for_each(|name| {
        declared(&mut client, queue(name));
    });
    let (mut token, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let page = list(&mut client, pb::ListKind::Queues, 120, &token);
        assert!(page.queues.len() <= 120);
        seen.extend(page.queues.into_iter().map(|queue| queue.name));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages), (names, 3));
    let exchanges = list(&mut client, pb::ListKind::Exchanges, 0, "").exchanges;
    let names: Vec<&str> = exchanges.iter().map(|exchange| exchange.name.as_str()).collect();
    assert_eq!(names, ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic"]);
    let error = client.refused(1, Cold::List(pb::List { kind: 0, ..Default::default() }));
    assert_eq!((error.code, error.field.as_str()), (502, "kind"));
}

#[test]
fn a_connection_and_its_consumers_are_listed() {
    let served = Served::start();
    let mut client = served.connect();
    let name = pb::Connect { connection_name: "the one".to_owned(), ..connect() };
    client.ask(0, Cold::Connect(name));
    client.done(1, Cold::OpenChannel(pb::OpenChannel {}));
    client.declare_queue("q");
    client.consume_with(pb::Consume {
        queue: "q".to_owned(),
        consumer: 4,
        tag: "me".to_owned(),
        ..Default::default()
    });
    let connections = list(&mut client, pb::ListKind::Connections, 0, "").connections;
    assert_eq!(
        (connections.len(), connections[0].name.as_str(), connections[0].user.as_str()),
        (1, "the one", "guest")
    );
    let consumers = list(&mut client, pb::ListKind::Consumers, 0, "").consumers;
    assert_eq!((consumers.len(), consumers[0].tag.as_str(), consumers[0].queue.as_str()), (1, "me", "q"));
    client.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 4 }));
    assert_eq!(list(&mut client, pb::ListKind::Consumers, 0, "").consumers, []);
}

#[test]
fn bindings_lead_where_they_say_until_they_are_gone() {
    let served = Served::start();
    let mut client = served.client();
    declared(&mut client, queue("q"));
    let binding = pb::Binding {
        source: "amq.topic".to_owned(),
        destination: "q".to_owned(),
        destination_kind: pb::DestinationKind::Queue.into(),
        routing_key: "a.*".to_owned(),
        arguments: None,
    };
    client.open_publisher(1, "amq.topic", "a.b");
    for (sequence, bind, queues) in [(1, None, 0), (2, Some(true), 1), (3, Some(false), 0)] {
        match bind {
            Some(true) => client.done(1, Cold::Bind(pb::Bind { binding: Some(binding.clone()) })),
            Some(false) => client.done(1, Cold::Unbind(pb::Unbind { binding: Some(binding.clone()) })),
            None => {}
        }
        client.publish(1, sequence, &[b"x"]);
        assert_eq!(client.confirm().ranges[0].queues, queues, "message {sequence}");
    }
    let missing = pb::Binding { destination: "nothing".to_owned(), ..binding };
    assert_eq!(client.refused(1, Cold::Bind(pb::Bind { binding: Some(missing) })).code, 404);
    assert_eq!(client.refused(1, Cold::Bind(pb::Bind { binding: None })).code, 502);
}

fn goes() -> Cold {
    let declare = pb::DeclareQueue { name: "goes".to_owned(), auto_delete: true, ..Default::default() };
    Cold::DeclareQueue(declare)
}

#[test]
fn a_queue_is_declared_however_close_its_last_consumer_leaves() {
    let served = Served::start();
    let (mut leaves, mut declares) = (served.client(), served.client());
    for round in 0..300 {
        leaves.ask(1, goes());
        let consuming = leaves.ask(1, consume_goes());
        assert!(matches!(consuming, Cold::Consuming(_)), "round {round}: {consuming:?}");
        leaves.send(1, 7, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
        declares.send(1, 8, goes());
        let declared = declares.answer(1, 8);
        assert!(matches!(declared, Cold::QueueDeclared(_)), "round {round}: {declared:?}");
        leaves.answer(1, 7);
    }
}

#[test]
fn a_queue_that_is_declared_after_its_last_consumer_has_left_stands() {
    let served = Served::start();
    let (mut one, mut other) = (served.client(), served.client());
    for round in 0..300 {
        let declared = one.ask(1, goes());
        assert!(matches!(declared, Cold::QueueDeclared(_)), "round {round}: {declared:?}");
        let consuming = one.ask(1, consume_goes());
        assert!(matches!(consuming, Cold::Consuming(_)), "round {round}: {consuming:?}");
        one.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
        std::mem::swap(&mut one, &mut other);
    }
}

fn consume_goes() -> Cold {
    Cold::Consume(pb::Consume { queue: "goes".to_owned(), consumer: 1, ..Default::default() })
}
