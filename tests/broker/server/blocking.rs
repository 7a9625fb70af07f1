//! What a server does with publishes while memory is full, and what it tells.

use std::time::Duration;

use leveret::wire::{Body, pb};

use super::support::{Client, Served, Settings, connect, item, target};

/// Bytes of a message's body.
const BODY: usize = 20 * 1024;

fn served() -> Served {
    let publish_bytes_max = 200 * 1024;
    Served::start_with(Settings { memory_bytes_max: 64 * 1024, publish_bytes_max, ..Settings::default() })
}

fn client(served: &Served, capabilities: &[&str]) -> Client {
    let mut client = served.connect();
    let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
    client.ask(0, pb::frame::Body::Connect(pb::Connect { capabilities, ..connect() }));
    client.ask(1, pb::frame::Body::OpenChannel(pb::OpenChannel {}));
    client
}

fn publish(client: &mut Client, sequence: u64, queue: &str, bytes: usize) {
    client.publish_items(0, sequence, Some(&target("", queue)), &[item(&vec![1; bytes])]);
}

/// The next frame, which is about the connection as a whole.
#[track_caller]
fn told(client: &mut Client) -> pb::frame::Body {
    let frame = client.next();
    assert_eq!((frame.channel, frame.request), (0, 0), "{frame:?}");
    match frame.body {
        Body::Other(body) => *body,
        body => panic!("{body:?}"),
    }
}

/// Takes and accepts so many messages.
fn drain(consumer: &mut Client, messages: u64) {
    consumer.consume("full", 1, 1);
    for tag in 1..=messages {
        consumer.delivery();
        consumer.settle(1, tag, 0, pb::Outcome::Accepted);
    }
}

fn fill(served: &Served) -> Client {
    let mut filler = served.client();
    filler.declare_queue("full");
    // The bound is reached with the fourth.
    for sequence in 1..=4 {
        publish(&mut filler, sequence, "full", BODY);
    }
    filler.confirmed_through(4);
    filler
}

#[test]
fn publishers_are_told_that_they_wait_and_that_they_go_on() {
    let served = served();
    let mut consumer = fill(&served);
    let mut publisher = client(&served, &["something else", "blocked"]);
    publish(&mut publisher, 1, "full", BODY);
    let pb::frame::Body::Blocked(blocked) = told(&mut publisher) else { panic!("it is not told") };
    assert_eq!(blocked.shortage(), pb::Shortage::Memory);
    assert!(blocked.reason.contains("of memory"), "{}", blocked.reason);
    let listed = |consumer: &mut Client| {
        let list = pb::List { kind: pb::ListKind::Connections.into(), ..Default::default() };
        let pb::frame::Body::Listing(listing) = consumer.ask(1, pb::frame::Body::List(list)) else {
            panic!()
        };
        listing.connections.into_iter().map(|connection| connection.blocked).collect::<Vec<_>>()
    };
    assert_eq!(listed(&mut consumer), ["", &blocked.reason]);
    // It is told once, however much it publishes.
    for sequence in 2..=5 {
        publish(&mut publisher, sequence, "full", 10);
    }

    drain(&mut consumer, 4);
    let unblocked = told(&mut publisher);
    assert!(matches!(unblocked, pb::frame::Body::Unblocked(_)), "{unblocked:?}");
    publisher.confirmed_through(5);
    drop(consumer);
    assert_eq!(listed(&mut served.client()).last().unwrap(), "");
}

#[test]
fn a_client_that_does_not_know_the_frame_only_waits() {
    let served = served();
    let mut consumer = fill(&served);
    let mut publisher = client(&served, &[]);
    publish(&mut publisher, 1, "full", BODY);
    drain(&mut consumer, 4);
    publisher.confirmed_through(1);
}

#[test]
fn settlements_pass_messages_that_wait() {
    let served = served();
    let mut both = fill(&served);
    both.declare_queue("other");
    both.consume("full", 1, 4);
    let mut taken = 0;
    while taken < 4 {
        taken += both.delivery().bodies.len();
    }
    // On one connection: messages that wait, and then what makes room for them.
    for sequence in 5..=7 {
        publish(&mut both, sequence, "other", BODY);
    }
    for tag in 1..=4 {
        both.settle(1, tag, 0, pb::Outcome::Accepted);
    }
    both.confirmed_through(7);
}

#[test]
fn requests_are_answered_while_messages_wait() {
    let served = served();
    let filler = fill(&served);
    let mut client = client(&served, &["blocked"]);
    client.declare_queue("other");
    publish(&mut client, 1, "other", BODY);
    assert!(matches!(told(&mut client), pb::frame::Body::Blocked(_)));
    // On its channel and on another one: whatever does not publish.
    client.declare_queue("new");
    client.open_publisher(7, "", "new");
    client.done(2, pb::frame::Body::OpenChannel(pb::OpenChannel {}));
    client.is_served();
    let get = pb::frame::Body::Get(pb::Get { queue: "full".to_owned(), no_ack: true });
    assert!(matches!(client.ask(1, get), pb::frame::Body::Got(got) if got.item.is_some()));
    drop(filler);
    // A consumer that starts meanwhile makes the room.
    client.consume("full", 1, 3);
    let mut taken = 0;
    while taken < 3 {
        taken += client.delivery().bodies.len();
    }
    for tag in 1..=3 {
        client.settle(1, tag, 0, pb::Outcome::Accepted);
    }
    assert!(matches!(told(&mut client), pb::frame::Body::Unblocked(_)));
    client.confirmed_through(1);
}

#[test]
fn requests_are_answered_up_to_the_bound_and_those_beyond_it_when_there_is_room() {
    let served = served();
    let mut consumer = fill(&served);
    let mut client = client(&served, &["blocked"]);
    // Each of them counts for a little more than its body, and the bound is that of ten bodies.
    for sequence in 1..=9 {
        publish(&mut client, sequence, "full", BODY);
    }
    assert!(matches!(told(&mut client), pb::frame::Body::Blocked(_)));
    client.declare_queue("within");
    for sequence in 10..=11 {
        publish(&mut client, sequence, "full", BODY);
    }
    // Behind more than may wait: the answer comes when others have made room.
    let check = pb::DeclareQueue { name: "beyond".to_owned(), ..Default::default() };
    client.send(1, 77, pb::frame::Body::DeclareQueue(check));
    drain(&mut consumer, 4 + 11);
    let mut answered = false;
    let mut unblocked = false;
    while !(answered && unblocked) {
        let frame = client.next();
        match frame.body {
            Body::Other(body) if matches!(*body, pb::frame::Body::QueueDeclared(_)) => {
                assert_eq!(frame.request, 77);
                answered = true;
            }
            Body::Other(body) if matches!(*body, pb::frame::Body::Unblocked(_)) => unblocked = true,
            _ => {}
        }
    }
}

#[test]
fn what_waits_is_published_though_its_publisher_and_its_channel_are_closed() {
    let served = served();
    let mut consumer = fill(&served);
    consumer.declare_queue("other");
    let mut publisher = client(&served, &["blocked"]);
    publisher.done(2, pb::frame::Body::OpenChannel(pb::OpenChannel {}));
    publisher.open_publisher(7, "", "other");
    publisher.publish(7, 1, &[&[1; BODY]]);
    assert!(matches!(told(&mut publisher), pb::frame::Body::Blocked(_)));
    publisher.publish(7, 2, &[&[2; 10], &[3; 10]]);
    publisher.done(1, pb::frame::Body::ClosePublisher(pb::ClosePublisher { publisher: 7 }));
    // The number may be used again, for something else.
    publisher.open_publisher(7, "", "elsewhere");
    publisher.done(1, pb::frame::Body::CloseChannel(pb::CloseChannel {}));
    publisher.done(1, pb::frame::Body::OpenChannel(pb::OpenChannel {}));
    drain(&mut consumer, 4);
    assert!(matches!(told(&mut publisher), pb::frame::Body::Unblocked(_)));
    consumer.consume("other", 2, 0);
    let bodies: Vec<u8> = consumer.bodies(3).iter().map(|body| body[0]).collect();
    assert_eq!(bodies, [1, 2, 3]);
    // And nobody hears of them on a channel that is a new one.
    publisher.is_served();
}

#[test]
fn who_publishes_without_a_publisher_is_refused_at_once_while_others_wait() {
    let served = served();
    let _filler = fill(&served);
    let mut publisher = client(&served, &["blocked"]);
    publish(&mut publisher, 1, "full", BODY);
    assert!(matches!(told(&mut publisher), pb::frame::Body::Blocked(_)));
    publisher.publish(9, 1, &[b"to nobody"]);
    let ranges = publisher.confirm().ranges;
    assert_eq!(ranges[0].refusal.as_ref().map(|error| error.code), Some(404));
}

#[test]
fn a_goodbye_comes_after_what_waits() {
    let served = served();
    let mut consumer = fill(&served);
    let mut publisher = client(&served, &["blocked"]);
    publish(&mut publisher, 1, "full", BODY);
    assert!(matches!(told(&mut publisher), pb::frame::Body::Blocked(_)));
    publisher.tell(0, pb::frame::Body::Close(pb::Close { error: None }));
    drain(&mut consumer, 4);
    assert!(matches!(told(&mut publisher), pb::frame::Body::Unblocked(_)));
    assert_eq!(consumer.delivery().bodies[0].len(), BODY);
    publisher.rest();
}

#[test]
fn what_waits_on_a_connection_is_bounded() {
    let served = served();
    let mut consumer = fill(&served);
    let mut publisher = client(&served, &["blocked"]);
    let mut sequence = 0;
    // Beyond its bound the server does not read, and the sockets fill up.
    while publisher.publishes_within(
        Duration::from_millis(300),
        sequence + 1,
        &target("", "full"),
        &[item(&[1; BODY])],
    ) {
        sequence += 1;
        assert!(sequence < 10_000, "the server takes in {sequence} messages of a connection that waits");
    }
    drain(&mut consumer, 4);
}
