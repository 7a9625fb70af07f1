//! Channels: opened, closed, and what belongs to them.

use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;

use super::support::{Served, target};

const OPEN: Cold = Cold::OpenChannel(pb::OpenChannel {});
const CLOSE: Cold = Cold::CloseChannel(pb::CloseChannel {});

#[test]
fn a_channel_opens_once_and_again_after_it_was_closed() {
    let served = Served::start();
    let mut client = served.client();
    assert_eq!(client.refused(1, OPEN).code, 504);
    client.done(1, CLOSE);
    assert_eq!(client.refused(1, CLOSE).code, 504);
    client.done(1, OPEN);
    client.is_served();
}

#[test]
fn numbers_have_a_limit() {
    let served = Served::start();
    let mut client = served.client();
    client.done(100, OPEN);
    let error = client.refused(101, OPEN);
    assert_eq!((error.code, error.expected.as_str()), (530, "1 to 100"));
    assert_eq!(client.refused(0, OPEN).code, 530);
}

#[test]
fn what_needs_a_channel_needs_an_open_one() {
    let served = Served::start();
    let mut client = served.client();
    for channel in [0, 2] {
        let error = client.refused(channel, Cold::PurgeQueue(pb::PurgeQueue { name: "q".to_owned() }));
        assert_eq!((error.code, error.entity_kind.as_str()), (504, "channel"));
    }
    client.is_served();
}

#[test]
fn publishers_end_with_their_channel() {
    let served = Served::start();
    let mut client = served.client();
    client.open_publisher(1, "", "q");
    let again = Cold::OpenPublisher(pb::OpenPublisher { publisher: 1, target: Some(target("", "q")) });
    assert_eq!(client.refused(1, again.clone()).code, 530);
    client.done(1, CLOSE);
    client.done(1, OPEN);
    client.done(1, again);
}

#[test]
fn what_a_channel_held_goes_back_when_it_closes() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    client.fill("q", &[b"a", b"b"]);
    client.consume("q", 1, 0);
    assert_eq!(client.bodies(2), [b"a", b"b"]);
    client.done(1, CLOSE);
    client.done(1, OPEN);
    client.consume("q", 1, 0);
    let delivered = client.delivery();
    assert_eq!((delivered.first_tag, delivered.bodies.len()), (1, 2));
    assert_eq!(delivered.again, [(true, 1), (true, 1)]);
}
