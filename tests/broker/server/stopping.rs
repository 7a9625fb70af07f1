//! The server stops: what is under way ends well.

use std::collections::BTreeMap;
use std::future::poll_fn;

use bytes::BytesMut;
use leveret::broker::{
    Address, ConsumeRequest, FrontEnd, Introduction, Outcome, Publish, QueueDeclaration, Session,
    SettleRequest, Settlement, TagRange, Word, parse_plain,
};
use leveret::model::{ExchangeName, FieldTable, QueueName, RoutingKey};
use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;

use leveret::message::Items;
use leveret::wire::{Body, Side, decode_frame_from, encode_frame};

use super::support::{Client, Served, Settings, broker, item, publish_frame, settle};

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

/// A front end that is this test.
#[derive(Debug)]
struct Scripted;

impl FrontEnd for Scripted {
    type Messages = Items;
    type Answer = ();
}

/// The words that come next; none, if what came is nothing to tell.
async fn words(session: &mut Session<Scripted>) -> Vec<Word<Scripted>> {
    poll_fn(|context| session.poll_words(context, true)).await;
    std::iter::from_fn(|| session.next_word(true)).collect()
}

/// What a drain waits for; that the answers then come is the test above.
#[tokio::test]
async fn a_session_is_not_quiet_while_a_settlement_is_being_stored() {
    let broker = broker(&Settings::default());
    let (user, password) = parse_plain(b"\0guest\0guest").unwrap();
    let peer = ([127, 0, 0, 1], 1).into();
    let who = broker.log_in(user, password, "/", peer).await.unwrap();
    let declaration = QueueDeclaration {
        name: QueueName::new("q").unwrap(),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::default(),
    };
    broker.declare_queue(&who, declaration).await.unwrap();
    let introduction =
        Introduction { name: String::new(), peer, client: BTreeMap::new(), connected_at_ms: 0 };
    let mut session: Session<Scripted> = Session::open(broker, who, None, introduction);
    let frame = publish_frame(1, 0, None, &[item(b"a")]).split_off(4).freeze();
    let Body::Publish(publish) = decode_frame_from(Side::Client, frame).unwrap().body else { panic!() };
    let address = Address {
        exchange: ExchangeName::new("").unwrap(),
        routing_key: RoutingKey::new("q").unwrap(),
        mandatory: false,
        transient: false,
    };
    session.publish(Publish {
        channel: 1,
        publisher: 0,
        first_sequence: 0,
        address: Some(address),
        messages: publish.items,
    });
    session.consume(ConsumeRequest {
        queue: "q".to_owned(),
        channel: 1,
        consumer: 1,
        tag: String::new(),
        prefetch: 0,
        no_ack: false,
        exclusive: false,
        credit: None,
        request: 1,
    });
    let mut delivered = 0;
    while delivered == 0 || !session.is_quiet() {
        let came = words(&mut session).await;
        delivered += came.iter().filter(|word| matches!(word, Word::Delivered(_))).count();
    }
    // The first is stored, the second is refused: it is settled already.
    for request in [1, 2] {
        let settlement = Settlement { range: TagRange { first: 1, last: 1 }, outcome: Outcome::Accepted };
        session.settle(SettleRequest {
            channel: 1,
            consumer: 1,
            settlements: vec![settlement],
            request: Some(request),
        });
    }
    let mut answers = Vec::new();
    while answers.len() < 2 {
        assert!(!session.is_quiet(), "{answers:?}");
        answers.extend(words(&mut session).await.into_iter().filter_map(|word| match word {
            Word::Settled { request, .. } => Some(("stored", request)),
            Word::Refused { request, .. } => Some(("refused", request)),
            _ => None,
        }));
    }
    answers.sort();
    assert_eq!(answers, [("refused", 2), ("stored", 1)]);
    assert!(session.is_quiet());
    session.close();
}

#[test]
fn a_goodbye_is_answered_by_a_goodbye() {
    let served = Served::start();
    let mut client = served.client();
    client.tell(0, Cold::Close(pb::Close { error: None }));
    assert_eq!(client.closed(), None);
    served.client().is_served();
}
