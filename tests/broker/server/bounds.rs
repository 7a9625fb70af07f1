//! Nobody takes more than a share: publishers wait for shards, consumers that do not read hold back only themselves.

use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;
use prost::Message as _;

use super::support::{Client, MESSAGE_BYTES_MAX, Served, Settings, item, target};

#[test]
fn a_consumer_that_does_not_read_holds_back_nobody() {
    let served = Served::start_with(Settings { deliver_bytes_max: 64 * 1024, ..Settings::default() });
    let mut stuck = served.client();
    stuck.declare_queue("q");
    stuck.consume("q", 1, 0);
    let mut publisher = served.client();
    publisher.declare_queue("other");
    let body = vec![1u8; 32 * 1024];
    let messages = 2_000u64;
    for sequence in 1..=messages {
        publisher.publish_items(0, sequence, Some(&target("", "q")), &[item(&body)]);
        publisher.confirmed_through(sequence);
    }
    let list = pb::List { kind: pb::ListKind::Queues.into(), name: "q".to_owned(), ..Default::default() };
    let pb::frame::Body::Listing(listing) = publisher.ask(1, pb::frame::Body::List(list)) else { panic!() };
    let queue = &listing.queues[0];
    // What left the queue is in the kernel's buffers or within the window; the rest never left.
    assert!(queue.messages_ready > messages / 2, "{queue:?}");
    let mut received = 0;
    while received < messages {
        let delivered = stuck.delivery();
        received += delivered.bodies.len() as u64;
        stuck.settle(1, 0, received, pb::Outcome::Accepted);
    }
}

#[test]
fn a_publisher_that_does_not_read_confirms_is_stopped_and_goes_on_later() {
    let served = Served::start_with(Settings { publish_bytes_max: 64 * 1024, ..Settings::default() });
    let mut client = served.client();
    client.declare_queue("q");
    client.open_publisher(1, "", "q");
    let mut writer = served.client();
    writer.open_publisher(1, "", "q");
    let messages = 20_000u64;
    let items: Vec<_> = (0..100).map(|_| item(&[0; 100])).collect();
    for batch in 0..messages / 100 {
        writer.publish_items(1, batch * 100 + 1, None, &items);
    }
    writer.confirmed_through(messages);
    client.is_served();
}

#[test]
fn publishers_wait_while_memory_is_full_and_consumers_make_room() {
    let served = Served::start_with(Settings { memory_bytes_max: 64 * 1024, ..Settings::default() });
    let mut consumer = served.client();
    consumer.declare_queue("q");
    let messages = 100u64;
    let mut publisher = served.client();
    let writer = std::thread::spawn(move || {
        let body = vec![1u8; 20 * 1024];
        for sequence in 1..=messages {
            publisher.publish_items(0, sequence, Some(&target("", "q")), &[item(&body)]);
        }
        publisher.confirmed_through(messages);
    });
    let list = pb::List { kind: pb::ListKind::Queues.into(), name: "q".to_owned(), ..Default::default() };
    let mut seen = 0;
    for _ in 0..200 {
        let pb::frame::Body::Listing(listing) = consumer.ask(1, pb::frame::Body::List(list.clone())) else {
            panic!()
        };
        seen = listing.queues[0].messages_ready;
        // The bound, what was on its way to the shard when it was reached, and one message more.
        assert!(seen <= 8, "{seen} messages are in memory");
    }
    assert!(seen > 0, "nothing was taken at all");
    consumer.consume("q", 1, 1);
    for number in 1..=messages {
        assert_eq!(consumer.delivery().first_tag, number);
        consumer.settle(1, number, 0, pb::Outcome::Accepted);
    }
    writer.join().unwrap();
}

#[test]
fn messages_that_come_back_wait_for_the_client_and_come_before_their_confirm() {
    const MESSAGES: u64 = 60_000;
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    client.open_publisher_with(1, pb::PublishTarget { mandatory: true, ..target("", "q") });
    client.open_publisher_with(2, pb::PublishTarget { mandatory: true, ..target("amq.topic", "nowhere") });
    let items: Vec<_> = (0..MESSAGES).map(|_| item(b"tiny")).collect();
    client.publish_items(2, 1, None, &items);
    // It reaches a queue at once, and is told of after those that came before it.
    client.publish(1, 1, &[b"kept"]);
    for sequence in 1..=MESSAGES {
        let pb::frame::Body::Return(returned) = client.answer(1, 0) else {
            panic!("{sequence} did not come back")
        };
        assert_eq!((returned.publisher, returned.sequence), (2, sequence));
    }
    client.confirmed_through(MESSAGES);
    client.confirmed_through(1);
}

/// Asks, and checks that the answer fits into a frame.
fn fitting(client: &mut Client, body: Cold) -> Cold {
    client.send(1, 9, body);
    let frame = client.try_next_bytes().unwrap();
    assert!(frame.len() <= MESSAGE_BYTES_MAX + 64 * 1024, "a frame of {} bytes", frame.len());
    pb::Frame::decode(frame).unwrap().body.unwrap()
}

/// How many entries a list has, over all of its pages.
fn listed(client: &mut Client, kind: pb::ListKind) -> usize {
    let (mut entries, mut page_token) = (0, String::new());
    loop {
        let list = pb::List { kind: kind.into(), page_size: 10_000, page_token, ..Default::default() };
        let Cold::Listing(listing) = fitting(client, Cold::List(list)) else { panic!("no listing") };
        entries += listing.queues.len() + listing.bindings.len() + listing.consumers.len();
        page_token = listing.next_page_token;
        if page_token.is_empty() {
            return entries;
        }
    }
}

#[test]
fn no_answer_is_longer_than_a_frame_may_be() {
    const QUEUES: usize = 2_500;
    const CONSUMERS: u32 = 2_500;
    let served = Served::start();
    let mut client = served.client();
    let long = |prefix: &str, number: u32| format!("{prefix}{number:0>width$}", width = 255 - prefix.len());
    let text = pb::FieldValue { kind: Some(pb::field_value::Kind::Text("x".repeat(60 * 1024))) };
    let large = Some(pb::FieldTable { fields: [("x-note".to_owned(), text)].into() });
    let fanout =
        pb::DeclareExchange { name: "all".to_owned(), r#type: "fanout".to_owned(), ..Default::default() };
    client.done(1, Cold::DeclareExchange(fanout));
    for number in 0..QUEUES as u32 {
        let name = long("queue", number);
        let arguments = large.clone().filter(|_| number % 50 == 0);
        client.send(
            1,
            0,
            Cold::DeclareQueue(pb::DeclareQueue { name: name.clone(), arguments, ..Default::default() }),
        );
        let binding = pb::Binding {
            source: "all".to_owned(),
            destination: name,
            destination_kind: pb::DestinationKind::Queue.into(),
            ..Default::default()
        };
        client.done(1, Cold::Bind(pb::Bind { binding: Some(binding) }));
    }
    for number in 1..=CONSUMERS {
        let (queue, tag) = (long("queue", number % 2), long("tag", number));
        client.consume_with(pb::Consume { queue, tag, consumer: number, ..Default::default() });
    }
    assert_eq!(listed(&mut client, pb::ListKind::Queues), QUEUES);
    assert_eq!(listed(&mut client, pb::ListKind::Bindings), QUEUES);
    assert_eq!(listed(&mut client, pb::ListKind::Consumers), CONSUMERS as usize);

    let explain = Cold::Explain(pb::Explain { exchange: "all".to_owned(), ..Default::default() });
    let Cold::Explanation(explanation) = fitting(&mut client, explain) else { panic!("no explanation") };
    assert!(explanation.queues_omitted > 0, "there is more than fits");
    assert_eq!(explanation.queues.len() + explanation.queues_omitted as usize, QUEUES);
    let bindings: usize = explanation.exchanges.iter().map(|exchange| exchange.bindings.len()).sum();
    assert_eq!(bindings + explanation.bindings_omitted as usize, QUEUES);
}

#[test]
fn an_error_does_not_repeat_all_of_what_came() {
    let served = Served::start();
    let mut client = served.client();
    let name = "ü".repeat(400_000);
    for request in [
        Cold::PurgeQueue(pb::PurgeQueue { name: name.clone() }),
        Cold::Get(pb::Get { queue: name.clone(), no_ack: true }),
        Cold::Explain(pb::Explain { exchange: name.clone(), ..Default::default() }),
        Cold::List(pb::List {
            kind: pb::ListKind::Users.into(),
            page_size: 10_001,
            name: name.clone(),
            ..Default::default()
        }),
        Cold::List(pb::List { kind: pb::ListKind::Bindings.into(), page_token: name, ..Default::default() }),
    ] {
        let Cold::Error(error) = fitting(&mut client, request) else { panic!("not refused") };
        let pb::Error { text, entity, got, .. } = error;
        assert!([text, entity, got].iter().all(|text| text.len() <= 4096), "told at length");
    }
}
