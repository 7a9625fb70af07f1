//! Looking into queues: what is there is shown, and nobody else notices.

use leveret::client::{
    Browse, BrowsedMessage, Channel, Consumer, DeleteQueue, Delivery, Exchange, ExchangeKind, Get, Message,
    Queue, ReplyCode, RequestError,
};

use super::{connect, soon};
use crate::support::Broker;

async fn browse(channel: &Channel, what: Browse) -> Vec<BrowsedMessage> {
    let mut browser = channel.browse(what);
    let mut messages = Vec::new();
    while let Some(page) = soon(browser.next_page()).await.unwrap() {
        messages.extend(page.messages);
    }
    messages
}

fn bodies(messages: &[BrowsedMessage]) -> Vec<&str> {
    messages.iter().map(|message| std::str::from_utf8(&message.body).unwrap()).collect()
}

async fn publish(channel: &Channel, queue: &str, bodies: impl IntoIterator<Item = String>) {
    let publisher = soon(channel.publisher("", queue).open()).await.unwrap();
    for body in bodies {
        soon(publisher.send(Message::new(body))).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

/// One consumer holds some, gave others back and goes on while somebody browses: what is seen is what waits, and the queue is
/// as if nobody had looked.
#[tokio::test(flavor = "multi_thread")]
async fn browsing_shows_what_waits_and_changes_nothing() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    publish(&channel, "q", (1..=10).map(|number| number.to_string())).await;

    let (consumer_connection, theirs) = connect(&broker).await;
    let mut consumer = soon(theirs.consume("q").prefetch(4).start()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(next(&mut consumer).await);
    }
    let shown = browse(&channel, Browse::new("q")).await;
    assert_eq!(bodies(&shown), ["5", "6", "7", "8", "9", "10"]);
    assert!(shown.iter().all(|message| !message.redelivered && message.delivery_count == 0));
    assert!(shown.is_sorted_by_key(|message| message.sequence));

    // Those that come back are shown at their places with what is remarkable about them.
    drop((held, consumer));
    soon(consumer_connection.close()).await.unwrap();
    let wait_for_all = async {
        while broker.messages("q") != (10, 0) {
            tokio::task::yield_now().await;
        }
    };
    soon(wait_for_all).await;
    for _ in 0..3 {
        let small = Browse { page_size: 3, ..Browse::new("q") };
        let shown = browse(&channel, small).await;
        assert_eq!(bodies(&shown), ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
        let flags: Vec<_> =
            shown.iter().map(|message| (message.redelivered, message.delivery_count)).collect();
        assert_eq!(flags[..5], [(true, 1), (true, 1), (true, 1), (true, 1), (false, 0)]);
    }
    let queue = soon(channel.find_queue("q")).await.unwrap().unwrap();
    assert_eq!((queue.messages_ready, queue.messages_unacknowledged), (10, 0));
    assert_eq!(queue.delivered_total, 4, "looking is no delivery");
    for number in 1..=10 {
        let got = soon(channel.get("q", Get { no_ack: true })).await.unwrap().unwrap();
        assert_eq!(got.delivery.body(), number.to_string().as_bytes());
        assert_eq!(got.delivery.delivery_count(), u32::from(number <= 4), "looking does not count");
    }
}

#[tokio::test]
async fn filters_take_what_fits_and_bodies_are_shown_if_wanted() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_exchange(Exchange::new("x", ExchangeKind::Fanout)).await.unwrap();
    channel.declare_queue(Queue::new("q")).await.unwrap();
    channel.bind(leveret::client::Binding::to_queue("x", "q", "")).await.unwrap();
    let publisher = channel.publisher("x", "").open().await.unwrap();
    for (key, colour) in [("eu.paid", "red"), ("us.paid", "red"), ("eu.late", "blue"), ("eu", "red")] {
        let message = Message::new(format!("{key} in {colour}")).routing_key(key).header("colour", colour);
        soon(publisher.send(message)).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();

    let key = Some("eu.#".to_owned());
    let header = Some(("colour".to_owned(), "red".to_owned()));
    for (routing_key, header, expected) in [
        (None, None, vec!["eu.paid", "us.paid", "eu.late", "eu"]),
        (key.clone(), None, vec!["eu.paid", "eu.late", "eu"]),
        (None, header.clone(), vec!["eu.paid", "us.paid", "eu"]),
        (key, header, vec!["eu.paid", "eu"]),
        (Some("*.*.*".to_owned()), None, vec![]),
        (None, Some(("shape".to_owned(), "red".to_owned())), vec![]),
    ] {
        for page_size in [0, 1] {
            let what = Browse {
                routing_key: routing_key.clone(),
                header: header.clone(),
                page_size,
                ..Browse::new("q")
            };
            let shown = browse(&channel, what).await;
            let keys: Vec<&str> = shown.iter().map(|message| message.routing_key.as_str()).collect();
            assert_eq!(keys, expected, "{routing_key:?}, {header:?}");
        }
    }
    let without = browse(&channel, Browse { without_bodies: true, ..Browse::new("q") }).await;
    assert!(without.iter().all(|message| message.body.is_empty()));
    let bytes: Vec<u64> = without.iter().map(|message| message.body_bytes).collect();
    assert_eq!(bytes, [14, 14, 15, 9]);
    assert_eq!(without[0].exchange, "x");
    assert_eq!(without[0].properties.headers.value("colour"), Some(&"red".into()));
}

/// A page is as long as a frame has room for, and no longer; a message that is long has one to itself.
#[tokio::test]
async fn pages_are_bounded_by_bytes_and_by_number() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    let long = 700 * 1024;
    let sizes = [long, long, 10, 12 * 1024 * 1024, 10, 10];
    let publisher = channel.publisher("", "q").open().await.unwrap();
    for size in sizes {
        soon(publisher.send(Message::new(vec![7; size]))).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
    let mut browser = channel.browse(Browse::new("q"));
    let mut pages = Vec::new();
    while let Some(page) = soon(browser.next_page()).await.unwrap() {
        assert_eq!(page.examined, page.messages.len() as u64);
        pages.push(page.messages.iter().map(|message| message.body.len()).collect::<Vec<_>>());
    }
    assert_eq!(pages.concat(), sizes);
    assert_eq!(pages, [vec![long, long, 10], vec![12 * 1024 * 1024], vec![10, 10]]);

    channel.declare_queue(Queue::new("many")).await.unwrap();
    publish(&channel, "many", (0..10_000).map(|number| number.to_string())).await;
    let mut browser = channel.browse(Browse { page_size: u32::MAX, ..Browse::new("many") });
    let first = soon(browser.next_page()).await.unwrap().unwrap();
    assert!(first.messages.len() <= 4096, "{}", first.messages.len());
    assert_eq!(first.messages_ready, 10_000);
}

/// The backlog of a broker that was killed: it comes from the disk.
#[tokio::test]
async fn what_is_on_disk_alone_is_shown_and_stays_there() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    publish(&channel, "q", (0..5_000).map(|number| format!("{number:01000}"))).await;
    broker.kill_and_restart();
    let shown = browse(&channel, Browse::new("q")).await;
    let numbers: Vec<u64> = bodies(&shown).iter().map(|body| body.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..5_000), "{} are shown", numbers.len());
    assert_eq!(broker.messages("q"), (5_000, 0));
}

#[tokio::test]
async fn who_may_not_take_may_not_look() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let code = async |queue: &str, by: &Channel| {
        let mut browser = by.browse(Browse::new(queue));
        match soon(browser.next_page()).await {
            Err(RequestError::Refused(refusal)) => Some(refusal.code),
            Ok(_) => None,
            other => panic!("{other:?}"),
        }
    };
    channel.declare_queue(Queue::new("mine").exclusive()).await.unwrap();
    let (_other, theirs) = connect(&broker).await;
    assert_eq!(code("mine", &channel).await, None);
    assert_eq!(code("mine", &theirs).await, Some(ReplyCode::ResourceLocked));
    assert_eq!(code("nowhere", &theirs).await, Some(ReplyCode::NotFound));

    channel.put_vhost("other").await.unwrap();
    let elsewhere =
        leveret::client::Connection::connect(broker.url_as("guest:guest", "other").parse().unwrap());
    let elsewhere = soon(elsewhere).await.unwrap().channel().await.unwrap();
    assert_eq!(code("mine", &elsewhere).await, Some(ReplyCode::NotFound), "it is another vhost's");
}

/// A queue that was deleted and made anew is another one: no page mixes the two.
#[tokio::test]
async fn a_snapshot_ends_with_its_queue() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    publish(&channel, "q", (0..10).map(|number| number.to_string())).await;
    let mut browser = channel.browse(Browse { page_size: 5, ..Browse::new("q") });
    assert_eq!(soon(browser.next_page()).await.unwrap().unwrap().messages.len(), 5);
    channel.delete_queue("q", DeleteQueue::default()).await.unwrap();
    channel.declare_queue(Queue::new("q")).await.unwrap();
    publish(&channel, "q", (0..10).map(|number| number.to_string())).await;
    let Err(RequestError::Refused(refusal)) = soon(browser.next_page()).await else { panic!("it is gone") };
    assert_eq!(refusal.code, ReplyCode::NotFound);
    assert!(refusal.hint.contains("made anew"), "{refusal:?}");
}
