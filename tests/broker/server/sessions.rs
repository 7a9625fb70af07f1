//! Sessions as a front end has them, without a socket.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;

use leveret::broker::{
    Address, Broker, BrokerOptions, ConsumeRequest, FrontEnd, Identity, Introduction, Outcome, Platform,
    Publish, QueueDeclaration, Session, SettleRequest, Settlement, TagRange, Word, open_on, parse_plain,
};
use leveret::message::Items;
use leveret::model::{ExchangeName, FieldTable, QueueName, RoutingKey, VhostName};
use leveret::storage::testing::MemoryDisk;
use leveret::wire::{Body, Side, decode_frame_from};

use super::support::{Settings, broker, broker_options, item, publish_frame};

const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

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

/// Who logs in to a virtual host, which may do everything.
async fn log_in(broker: &Broker, vhost: &str) -> Identity {
    let (user, password) = parse_plain(b"\0guest\0guest").unwrap();
    broker.log_in(user, password, vhost, PEER.into()).await.unwrap()
}

/// A session in a virtual host, and a durable queue `q` there.
async fn session(broker: &Broker, vhost: &str) -> Session<Scripted> {
    let who = log_in(broker, vhost).await;
    broker.declare_queue(&who, declaration()).await.unwrap();
    open_session(broker, who)
}

fn open_session(broker: &Broker, who: Identity) -> Session<Scripted> {
    let introduction =
        Introduction { name: String::new(), peer: PEER.into(), client: BTreeMap::new(), connected_at_ms: 0 };
    Session::open(broker.clone(), who, None, introduction)
}

fn declaration() -> QueueDeclaration {
    QueueDeclaration {
        name: QueueName::new("q").unwrap(),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::default(),
    }
}

fn consume(session: &mut Session<Scripted>) {
    session.consume(ConsumeRequest {
        queue: "q".to_owned(),
        channel: 1,
        consumer: 1,
        tag: String::new(),
        prefetch: 0,
        no_ack: false,
        exclusive: false,
        priority: 0,
        credit: None,
        request: 1,
    });
}

/// One message.
fn publish(session: &mut Session<Scripted>, queue: &str) {
    let frame = publish_frame(1, 0, None, &[item(b"a")]).split_off(4).freeze();
    let Body::Publish(publish) = decode_frame_from(Side::Client, frame).unwrap().body else { panic!() };
    let address = Address {
        exchange: ExchangeName::new("").unwrap(),
        routing_key: RoutingKey::new(queue).unwrap(),
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
}

/// What a drain waits for.
#[tokio::test]
async fn a_session_is_not_quiet_while_a_settlement_is_being_stored() {
    let broker = broker(&Settings::default());
    let mut session = session(&broker, "/").await;
    publish(&mut session, "q");
    consume(&mut session);
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

/// Three queues on three shards have to answer: two cannot record anything any more, and one is in memory.
#[tokio::test]
async fn a_settlement_that_some_of_its_queues_refuse_is_refused_once() {
    let disk = MemoryDisk::new();
    let data = Some(PathBuf::from("/data"));
    let options = BrokerOptions { data, shards: 2, ..broker_options(&Settings::default()) };
    let broker = open_on(options, Platform::on(Arc::new(disk.clone()))).unwrap();
    let who = log_in(&broker, "/").await;
    let queues = [("one", true), ("two", true), ("three", false)];
    for (name, durable) in queues {
        let name = QueueName::new(name).unwrap();
        broker.declare_queue(&who, QueueDeclaration { name, durable, ..declaration() }).await.unwrap();
    }
    let mut session = open_session(&broker, who);
    for (queue, _) in queues {
        publish(&mut session, queue);
        session.get(1, queue, false, 1);
        let mut got = false;
        while !got {
            let came = words(&mut session).await;
            got = came.iter().any(|word| matches!(word, Word::Got { message: Some(_), .. }));
        }
    }

    disk.cut_power();
    let all = TagRange { first: 0, last: 0 };
    session.settle(SettleRequest {
        channel: 1,
        consumer: 0,
        settlements: vec![Settlement { range: all, outcome: Outcome::Accepted }],
        request: Some(9),
    });
    let mut answers = Vec::new();
    while !session.is_quiet() {
        answers.extend(words(&mut session).await.into_iter().filter_map(|word| match word {
            Word::Settled { request, .. } => Some((request, "stored".to_owned())),
            Word::Refused { request, refusal, .. } => Some((request, refusal.text)),
            _ => None,
        }));
    }
    let [(9, refusal)] = &answers[..] else { panic!("one answer, and not {answers:?}") };
    assert!(refusal.contains("the log of shard"), "{refusal}");
    session.close();
}

/// The deletion falls between two looks of one poll: after the session has looked whether it is to go, and before it looks
/// what its shards have told.
#[tokio::test(flavor = "multi_thread")]
async fn who_loses_a_virtual_host_hears_that_before_it_hears_of_its_queues() {
    let broker = broker(&Settings::default());
    let administrator = log_in(&broker, "/").await;
    let vhost = VhostName::new("doomed").unwrap();
    broker.put_vhost(&administrator, vhost.clone()).await.unwrap();
    let mut session = session(&broker, "doomed").await;
    consume(&mut session);
    let came = words(&mut session).await;
    assert!(matches!(came[..], [Word::Consuming { .. }]), "{came:?}");

    let (begin, told) = mpsc::channel::<()>();
    let (done, is_done) = mpsc::channel();
    let deletion = tokio::spawn(async move {
        tokio::task::block_in_place(|| told.recv()).unwrap();
        broker.delete_vhost(&administrator, vhost).await.unwrap();
        // The shard has answered for the queue's consumers too before it answers this.
        broker.declare_queue(&administrator, declaration()).await.unwrap();
        broker.check_queue(&administrator, "q").await.unwrap();
        done.send(()).unwrap();
    });
    session.carry_out(
        0,
        1,
        poll_fn(move |_| {
            begin.send(()).unwrap();
            is_done.recv().unwrap();
            Poll::Ready(Ok(()))
        }),
    );
    let came = words(&mut session).await;
    let told: Vec<&str> = came
        .iter()
        .map(|word| match word {
            Word::Answered { .. } => "answered",
            Word::Dismissed(_) => "dismissed",
            Word::Ended { .. } => "ended",
            other => panic!("not expected now: {other:?}"),
        })
        .collect();
    assert_eq!(told[..2], ["answered", "dismissed"], "{told:?}");
    deletion.await.unwrap();
    session.close();
}
