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
