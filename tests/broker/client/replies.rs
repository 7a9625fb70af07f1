//! Direct reply-to: replies that wait in no queue.

use std::time::Duration;

use leveret::client::{
    AskError, Channel, ConfirmError, Durability, FieldTable, JourneyRule, JourneyScope, Message, Properties,
    Queue, ReplyCode, RequestError, Requester,
};

use super::{connect, soon};
use crate::support::Broker;

const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers what comes to a queue until its connection goes; "silence" is not answered.
async fn serve(channel: Channel, queue: &'static str) {
    let mut requests = soon(channel.consume(queue).start()).await.unwrap();
    let replies = soon(channel.publisher("", "").open()).await.unwrap();
    tokio::spawn(async move {
        while let Some(Ok(request)) = requests.next().await {
            let text = String::from_utf8_lossy(request.body()).into_owned();
            if text != "silence" {
                let reply = Message::reply(format!("re: {text}"), &request.properties().unwrap()).unwrap();
                // Whoever asked may be gone.
                if let Ok(confirm) = replies.publish(reply).await {
                    let _ = confirm.await;
                }
            }
            if request.accept().is_err() {
                return;
            }
        }
    });
}

async fn ask(requester: &Requester, text: &str) -> Result<String, AskError> {
    let reply = soon(requester.request(Message::new(text.to_owned()), PATIENCE)).await?;
    Ok(String::from_utf8_lossy(reply.body()).into_owned())
}

/// The address of a consumer of replies on this channel, as a request carries it.
async fn address(channel: &Channel) -> String {
    soon(channel.declare_queue(Queue::new("addresses"))).await.unwrap();
    let publisher = soon(channel.publisher("", "addresses").open()).await.unwrap();
    soon(publisher.publish(Message::new("").reply_to(REPLY_TO)).await.unwrap()).await.unwrap();
    let got = soon(channel.get("addresses", leveret::client::Get { no_ack: true })).await.unwrap();
    let Properties { reply_to, .. } = got.unwrap().delivery.properties().unwrap();
    reply_to
}

/// How many were reached, or why it was refused; `None`: it came back.
async fn reply(channel: &Channel, key: &str, body: Vec<u8>) -> Option<Result<u32, ReplyCode>> {
    let publisher = soon(channel.publisher("", key).open()).await.unwrap();
    match soon(publisher.publish(Message::new(body)).await.unwrap()).await {
        Ok(confirmed) => {
            assert_eq!(confirmed.level, Durability::Memory, "nothing is stored");
            Some(Ok(confirmed.queues))
        }
        Err(ConfirmError::Refused(refusal)) => Some(Err(refusal.code)),
        Err(ConfirmError::Returned(_)) => None,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn many_ask_at_once_and_each_has_its_own_answer() {
    let mut broker = Broker::start();
    let (_server, serving) = connect(&broker).await;
    soon(serving.declare_queue(Queue::new("work"))).await.unwrap();
    serve(serving, "work").await;
    let (_one, one) = connect(&broker).await;
    let (_two, two) = connect(&broker).await;
    let first = soon(one.requester("", "work")).await.unwrap();
    let second = soon(two.requester("", "work")).await.unwrap();
    for number in 0..50 {
        let (a, b) = (format!("a{number}"), format!("b{number}"));
        let answers = tokio::join!(ask(&first, &a), ask(&first, &b), ask(&second, &a));
        let expected = [a.clone(), b, a].map(|text| format!("re: {text}"));
        assert_eq!([answers.0, answers.1, answers.2].map(Result::unwrap), expected);
    }
    broker.stop();
}

#[tokio::test]
async fn a_request_ends_in_time_and_when_nobody_can_answer() {
    let mut broker = Broker::start();
    let (_server, serving) = connect(&broker).await;
    soon(serving.declare_queue(Queue::new("work"))).await.unwrap();
    serve(serving, "work").await;
    let (connection, channel) = connect(&broker).await;
    let requester = soon(channel.requester("", "work")).await.unwrap();
    let silence = soon(requester.request(Message::new("silence"), Duration::from_millis(50))).await;
    assert!(matches!(silence, Err(AskError::TimedOut { timeout_ms: 50 })), "{silence:?}");
    assert_eq!(ask(&requester, "still there?").await.unwrap(), "re: still there?");
    let nowhere = Message::new("m").routing_key("nowhere");
    let returned = soon(requester.request(nowhere, PATIENCE)).await;
    assert!(matches!(returned, Err(AskError::NotTaken(ConfirmError::Returned(_)))), "{returned:?}");

    let second = soon(channel.requester("", "work")).await.unwrap_err();
    let RequestError::Refused(refusal) = second else { panic!("{second}") };
    assert_eq!((refusal.code, &*refusal.text), (ReplyCode::PreconditionFailed, "reply consumer already set"));

    let waiting = tokio::spawn(async move { requester.request(Message::new("silence"), PATIENCE).await });
    soon(connection.close()).await.unwrap();
    let ended = soon(waiting).await.unwrap();
    assert!(!matches!(ended, Ok(_) | Err(AskError::TimedOut { .. })), "{ended:?}");
    broker.stop();
}

#[tokio::test]
async fn addresses_differ_and_go_with_their_consumers() {
    let mut broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    let (_other, other) = connect(&broker).await;
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let consumer = soon(channel.consume(REPLY_TO).no_ack().start()).await.unwrap();
        let address = address(&channel).await;
        let token = address.strip_prefix("amq.rabbitmq.reply-to.").unwrap();
        assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
        assert_eq!(soon(other.check_queue(&address)).await.unwrap().consumers, 1);
        assert_eq!(reply(&other, &address, b"r".to_vec()).await, Some(Ok(1)));
        soon(consumer.cancel()).await.unwrap();
        assert_eq!(reply(&other, &address, b"r".to_vec()).await, None);
        addresses.push(address);
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);

    let _consumer = soon(channel.consume(REPLY_TO).no_ack().start()).await.unwrap();
    let address = address(&channel).await;
    soon(connection.close()).await.unwrap();
    let gone = async {
        while other.check_queue(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
    assert_eq!(reply(&other, &address, b"r".to_vec()).await, None);
    broker.stop();
}

#[tokio::test]
async fn an_address_leads_nowhere_from_another_vhost() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.put_vhost("other")).await.unwrap();
    let elsewhere = broker.url_as("guest:guest", "other");
    let there = soon(leveret::client::Connection::connect(elsewhere.parse().unwrap())).await.unwrap();
    let there = soon(there.channel()).await.unwrap();
    let mut consumer = soon(channel.consume(REPLY_TO).no_ack().start()).await.unwrap();
    let address = address(&channel).await;
    assert_eq!(reply(&there, &address, b"from there".to_vec()).await, None);
    assert!(soon(there.check_queue(&address)).await.is_err());
    assert_eq!(reply(&channel, &address, b"from here".to_vec()).await, Some(Ok(1)));
    assert_eq!(soon(consumer.next()).await.unwrap().unwrap().body(), &b"from here"[..]);
    broker.stop();
}

/// A requester that does not read costs the broker little: what it does not take is dropped, and whoever replies is told.
#[tokio::test]
async fn replies_to_who_does_not_read_are_refused_and_come_again_when_it_does() {
    const REPLY_BYTES: usize = 256 * 1024;
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let (_other, other) = connect(&broker).await;
    // It has room for a few, and gives credit for more when they are taken.
    let consumer = channel.consume(REPLY_TO).no_ack().buffer_bytes(1);
    let mut consumer = soon(consumer.start()).await.unwrap();
    let address = address(&channel).await;
    let mut sent = 0;
    let refused = loop {
        match reply(&other, &address, vec![b'x'; REPLY_BYTES]).await {
            Some(Ok(1)) => sent += 1,
            other => break other,
        }
        assert!(sent < 10_000, "it takes them all");
    };
    assert_eq!(refused, Some(Err(ReplyCode::ResourceError)));
    assert_eq!(soon(other.list_vhosts()).await.unwrap()[0].replies_dropped_total, 1);
    for _ in 0..sent {
        assert_eq!(soon(consumer.next()).await.unwrap().unwrap().body().len(), REPLY_BYTES);
    }
    let again = async {
        while reply(&other, &address, b"last".to_vec()).await != Some(Ok(1)) {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
    assert_eq!(soon(consumer.next()).await.unwrap().unwrap().body(), &b"last"[..]);
    broker.stop();
}

#[tokio::test]
async fn an_explanation_tells_whether_somebody_waits() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let consumer = soon(channel.consume(REPLY_TO).no_ack().start()).await.unwrap();
    let address = address(&channel).await;
    let explained = soon(channel.explain("", &address, &FieldTable::default())).await.unwrap();
    let [binding] = &explained.exchanges[0].bindings[..] else { panic!("{explained:?}") };
    assert!(binding.matched && binding.reason.contains("it goes straight there"), "{binding:?}");
    assert_eq!(explained.queues, [] as [&str; 0]);
    soon(consumer.cancel()).await.unwrap();
    let explained = soon(channel.explain("", &address, &FieldTable::default())).await.unwrap();
    let [binding] = &explained.exchanges[0].bindings[..] else { panic!("{explained:?}") };
    assert!(!binding.matched && binding.reason.contains("nobody waits"), "{binding:?}");
    broker.stop();
}

/// Only those messages of a frame are refused that want replies where none can come.
#[tokio::test]
async fn of_a_frame_those_alone_are_refused_that_want_replies_in_vain() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("work"))).await.unwrap();
    let publisher = soon(channel.publisher("", "work").open()).await.unwrap();
    let messages =
        [Message::new("a"), Message::new("b").reply_to(REPLY_TO), Message::new("c").reply_to("queue")];
    let mut waiting = Vec::new();
    for message in messages {
        waiting.push(publisher.publish(message).await.unwrap());
    }
    let mut codes = Vec::new();
    for confirm in waiting {
        codes.push(match soon(confirm).await {
            Ok(_) => None,
            Err(ConfirmError::Refused(refusal)) => Some(refusal.code),
            Err(other) => panic!("{other}"),
        });
    }
    assert_eq!(codes, [None, Some(ReplyCode::PreconditionFailed), None]);
    assert_eq!(broker.messages("work").0, 2);
    broker.stop();
}

#[tokio::test]
async fn a_journey_tells_that_somebody_waited_for_it() {
    let mut broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    soon(channel.keep_journeys(&JourneyRule::new(JourneyScope::Vhost))).await.unwrap();
    let mut consumer = soon(channel.consume(REPLY_TO).no_ack().start()).await.unwrap();
    let address = address(&channel).await;
    let publisher = soon(channel.publisher("", &address).open()).await.unwrap();
    for (id, is_taken) in [("first", true), ("second", false)] {
        let reply = Message::new("r").message_id(id);
        let confirmed = soon(publisher.publish(reply).await.unwrap()).await;
        assert_eq!(confirmed.is_ok(), is_taken);
        let told = soon(channel.journey(id)).await.unwrap();
        let [journey] = &told.journeys[..] else { panic!("{told:?}") };
        assert_eq!(journey.was_taken_as_reply(), is_taken);
        assert!(journey.receipts.is_empty());
        if is_taken {
            assert_eq!(soon(consumer.next()).await.unwrap().unwrap().body(), &b"r"[..]);
            soon(consumer.cancel()).await.unwrap();
            consumer = soon(channel.consume("addresses").start()).await.unwrap();
        }
    }
    drop((consumer, connection));
    broker.stop();
}
