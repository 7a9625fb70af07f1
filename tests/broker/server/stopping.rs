//! The server stops: what is under way ends well.

use bytes::BytesMut;
use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;
use leveret::wire::{Body, encode_frame};

use super::support::{Client, Served, Settings, settle};

#[test]
fn clients_are_told_and_confirms_arrive_first() {
    let mut served = Served::start();
    // Connections are accepted in order, so this one is before the next is logged in.
    let mut idle = served.connect();
    let mut client = served.client();
    client.declare_queue("q");
    client.open_publisher(1, "", "q");
    client.publish(1, 1, &[b"a"]);
    client.confirmed_through(1);
    served.stop();
    let reason = client.closed().unwrap();
    assert_eq!((reason.code, reason.retryable), (320, true));
    assert_eq!(idle.closed().unwrap().code, 320);
    served.join();
}

/// Requests of the test below.
const SETTLE: u64 = 7;
const AFTER: u64 = 8;

/// Answers until the goodbye.
fn answers(client: &mut Client) -> Vec<u64> {
    let mut answered = Vec::new();
    loop {
        let frame = client.next();
        match frame.body {
            Body::Other(body) if matches!(*body, Cold::Close(_)) => return answered,
            Body::Other(body) if matches!(*body, Cold::Done(_)) => answered.push(frame.request),
            other => panic!("not expected now: {other:?}"),
        }
    }
}

#[test]
fn settlements_that_are_to_be_stored_are_answered_before_the_goodbye() {
    let data = tempfile::tempdir().unwrap();
    let settings = Settings { data: Some(data.path().join("data")), ..Settings::default() };
    let mut served = Served::start_with(settings);
    let mut clients: Vec<Client> = (0..40).map(|_| served.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let queue = format!("q{number}");
        client.declare_queue(&queue);
        client.fill(&queue, &[b"a"]);
        client.consume(&queue, 1, 1);
        client.delivery();
    }
    let mut frames = BytesMut::new();
    encode_frame(1, SETTLE, &settle(1, 1, 1, pb::Outcome::Accepted), &mut frames);
    encode_frame(2, AFTER, &Cold::OpenChannel(pb::OpenChannel {}), &mut frames);
    let mut answered: Vec<Vec<u64>> = Vec::new();
    for client in &mut clients {
        client.send_bytes(&frames);
        // When one of the two is answered the server has taken the first one at least.
        answered.push(vec![client.next().request]);
    }
    served.stop();
    for (client, mut answered) in clients.iter_mut().zip(answered) {
        answered.extend(answers(client));
        assert!(answered.contains(&SETTLE), "{answered:?}");
    }
    drop(clients);
    served.join();
}

#[test]
fn a_goodbye_is_answered_by_a_goodbye() {
    let served = Served::start();
    let mut client = served.client();
    client.tell(0, Cold::Close(pb::Close { error: None }));
    assert_eq!(client.closed(), None);
    served.client().is_served();
}
