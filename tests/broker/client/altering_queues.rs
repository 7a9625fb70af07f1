//! Queues that are altered while they are there: it holds at once, also for what waits, and after a crash.

use std::time::Duration;

use leveret::client::{
    Binding, Channel, ConnectOptions, Connection, Exchange, ExchangeKind, FieldTable, FixedAtDeclaration,
    Get, NewUser, Overflow, Permissions, Publisher, Queue, QueueAlteration, QueueEntry, Refusal, ReplyCode,
    RequestError, Subscription,
};

use super::{connect, soon};
use crate::support::Broker;

async fn publisher(channel: &Channel, queue: &str) -> Publisher {
    soon(channel.publisher("", queue).open()).await.unwrap()
}

async fn publish(channel: &Channel, queue: &str, bodies: &[&str]) {
    let publisher = publisher(channel, queue).await;
    for body in bodies {
        soon(publisher.send((*body).to_owned())).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

/// The numbers of a queue as soon as they are these.
async fn entry_when(channel: &Channel, queue: &str, is_so: impl Fn(&QueueEntry) -> bool) -> QueueEntry {
    soon(async {
        loop {
            let entry = channel.find_queue(queue).await.unwrap().unwrap();
            if is_so(&entry) {
                return entry;
            }
        }
    })
    .await
}

async fn taken(channel: &Channel, queue: &str) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(message) = soon(channel.get(queue, Get { no_ack: true })).await.unwrap() {
        taken.push(String::from_utf8_lossy(message.delivery.body()).into_owned());
    }
    taken
}

/// What is other than it was, each as "field: declared > asked".
async fn alter(channel: &Channel, queue: &str, alteration: QueueAlteration) -> Vec<String> {
    let altered = soon(channel.alter_queue(queue, alteration)).await.unwrap();
    altered.changes.iter().map(|one| format!("{}: {} > {}", one.field, one.declared, one.asked)).collect()
}

fn to(queue: Queue) -> QueueAlteration {
    QueueAlteration::new().like(queue)
}

fn q() -> Queue {
    Queue::new("q")
}

fn refused<T: std::fmt::Debug>(answer: Result<T, RequestError>) -> Refusal {
    match answer {
        Err(RequestError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn fields(refusal: &Refusal) -> Vec<(&str, &str, &str)> {
    let differences = refusal.differences.iter();
    differences.map(|one| (one.field.as_str(), one.declared.as_str(), one.asked.as_str())).collect()
}

#[tokio::test]
async fn what_waits_beyond_a_shorter_length_goes_at_once_and_a_restart_keeps_it() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(q().max_length(10))).await.unwrap();
    publish(&channel, "q", &["a", "b", "c", "d"]).await;
    let shorter = || to(q().max_length(2));
    let seen = soon(channel.alter_queue("q", shorter().dry_run())).await.unwrap();
    assert!(!seen.altered);
    assert_eq!(seen.changes.len(), 1);
    assert_eq!(entry_when(&channel, "q", |_| true).await.messages_ready, 4, "it was a dry run");
    assert_eq!(alter(&channel, "q", shorter()).await, ["x-max-length: 10 > 2"]);
    assert_eq!(entry_when(&channel, "q", |told| told.messages_ready == 2).await.max_length_total, 2);
    assert_eq!(alter(&channel, "q", shorter()).await, [""; 0], "it is so already");

    let refusal = refused(channel.declare_queue(q().max_length(10)).await);
    assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
    assert_eq!(fields(&refusal), [("x-max-length", "2", "10")]);

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    publish(&channel, "q", &["e"]).await;
    assert_eq!(taken(&channel, "q").await, ["d", "e"]);
    soon(channel.declare_queue(q().max_length(2))).await.unwrap();
    assert_eq!(
        alter(&channel, "q", QueueAlteration::new().without("x-max-length")).await,
        ["x-max-length: 2 > none"]
    );
    publish(&channel, "q", &["f", "g", "h"]).await;
    assert_eq!(taken(&channel, "q").await, ["f", "g", "h"]);
}

#[tokio::test]
async fn a_time_to_live_that_comes_later_holds_for_what_waits_already() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(q())).await.unwrap();
    soon(channel.declare_queue(Queue::new("volatile").transient())).await.unwrap();
    for queue in ["q", "volatile"] {
        publish(&channel, queue, &["a", "b"]).await;
        alter(&channel, queue, to(q().message_ttl(Duration::from_secs(86_400)))).await;
        assert_eq!(entry_when(&channel, queue, |_| true).await.messages_ready, 2);
        alter(&channel, queue, to(q().message_ttl(Duration::from_millis(20)))).await;
        assert_eq!(entry_when(&channel, queue, |told| told.messages_ready == 0).await.expired_total, 2);
        let none = QueueAlteration::new().without("x-message-ttl");
        assert_eq!(alter(&channel, queue, none).await, ["x-message-ttl: 20 > none"]);
        publish(&channel, queue, &["c"]).await;
        assert_eq!(taken(&channel, queue).await, ["c"]);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_as_soon_as_it_is_to() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(q())).await.unwrap();
    publish(&channel, "q", &["a", "b", "c"]).await;
    let publisher = publisher(&channel, "q").await;
    let bounded = to(q().max_length(2).overflow(Overflow::RejectPublish));
    assert_eq!(alter(&channel, "q", bounded).await.len(), 2);
    soon(publisher.publish("d".to_owned()).await.unwrap()).await.unwrap_err();
    assert_eq!(taken(&channel, "q").await, ["a", "b", "c"], "nothing goes for it that was confirmed");
    soon(publisher.publish("e".to_owned()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn dead_letters_go_where_the_queue_says_now() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_exchange(Exchange::new("dlx", ExchangeKind::Topic))).await.unwrap();
    for queue in ["q", "first", "second"] {
        soon(channel.declare_queue(Queue::new(queue))).await.unwrap();
    }
    for queue in ["first", "second"] {
        soon(channel.bind(Binding::to_queue("dlx", queue, queue))).await.unwrap();
    }
    let mut letters = q().dead_letter_exchange("dlx").dead_letter_routing_key("nowhere");
    letters = letters.message_ttl(Duration::ZERO);
    alter(&channel, "q", to(letters)).await;
    publish(&channel, "q", &["a"]).await;
    entry_when(&channel, "q", |told| told.dead_letters == 1 && told.messages_ready == 0).await;
    alter(&channel, "q", to(q().dead_letter_routing_key("first"))).await;
    entry_when(&channel, "first", |told| told.messages_ready == 1).await;
    entry_when(&channel, "q", |told| told.dead_letters == 0).await;
    // That it has gone is on the disk with what comes to the shard's log after it: from then on it does not go again.
    publish(&channel, "first", &["later"]).await;
    alter(&channel, "q", to(q().dead_letter_routing_key("second"))).await;
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    publish(&channel, "q", &["b"]).await;
    entry_when(&channel, "second", |told| told.messages_ready == 1).await;
    assert_eq!(taken(&channel, "first").await, ["a", "later"]);
    assert_eq!(taken(&channel, "second").await, ["b"]);
}

#[tokio::test]
async fn what_comes_back_too_often_is_known_from_the_next_return_on() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(q())).await.unwrap();
    publish(&channel, "q", &["a"]).await;
    let mut consumer = soon(channel.consume("q").prefetch(1).start()).await.unwrap();
    for _ in 0..3 {
        soon(consumer.next()).await.unwrap().unwrap().requeue().unwrap();
    }
    let held = soon(consumer.next()).await.unwrap().unwrap();
    alter(&channel, "q", to(q().delivery_limit(1))).await;
    held.requeue().unwrap();
    entry_when(&channel, "q", |told| told.delivery_limit_total == 1).await;
}

#[tokio::test]
async fn a_shorter_lease_holds_for_what_somebody_has() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(q())).await.unwrap();
    publish(&channel, "q", &["a"]).await;
    let mut consumer = soon(channel.consume("q").prefetch(1).start()).await.unwrap();
    let _held = soon(consumer.next()).await.unwrap().unwrap();
    alter(&channel, "q", to(q().consumer_timeout(Duration::from_secs(1)))).await;
    entry_when(&channel, "q", |told| told.messages_unacknowledged == 0).await;
}

/// The broker looks once a second. Somebody who was there before it was to expire counts.
#[tokio::test]
async fn a_queue_that_is_to_expire_later_stays_with_its_consumer() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for name in ["consumed", "unused", "later"] {
        soon(channel.declare_queue(Queue::new(name))).await.unwrap();
    }
    let consumer = soon(channel.consume("consumed").start()).await.unwrap();
    let is_there = async |name: &str| soon(channel.find_queue(name)).await.unwrap().is_some();
    for name in ["consumed", "unused"] {
        alter(&channel, name, to(q().expires(Duration::from_millis(1)))).await;
    }
    soon(async { while is_there("unused").await {} }).await;
    alter(&channel, "later", to(q().expires(Duration::from_millis(1)))).await;
    soon(async { while is_there("later").await {} }).await;
    assert!(is_there("consumed").await);
    soon(consumer.cancel()).await.unwrap();
    soon(async { while is_there("consumed").await {} }).await;
}

#[tokio::test]
async fn what_cannot_be_altered_is_told_whole_and_nothing_changes() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(q().max_priority(3))).await.unwrap();
    let wish = to(q()
        .max_length(5)
        .max_priority(9)
        .single_active_consumer()
        .argument("x-queue-type", "quorum"))
    .fixed(FixedAtDeclaration { durable: Some(false), exclusive: Some(true), auto_delete: Some(true) })
    .argument("x-max-lenght", 7i64)
    .without("mine");
    let refusal = refused(soon(channel.alter_queue("q", wish)).await);
    assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
    assert_eq!(
        fields(&refusal),
        [
            ("durable", "true", "false"),
            ("exclusive", "false", "true"),
            ("auto_delete", "false", "true"),
            ("x-max-lenght", "none", "7"),
            ("x-max-priority", "3", "9"),
            ("x-queue-type", "none", "quorum"),
            ("x-single-active-consumer", "none", "true"),
            ("mine", "none", "none"),
        ]
    );
    assert!(refusal.differences.iter().all(|one| !one.reason.is_empty()), "{refusal:?}");
    assert!(refusal.text.contains("do you mean 'x-max-length'?"), "{refusal}");
    assert_eq!((&*refusal.field, &*refusal.expected, &*refusal.got), ("durable", "true", "false"));
    // What it is already may be said.
    let same = to(q().max_priority(3).max_length(5)).fixed(FixedAtDeclaration {
        durable: Some(true),
        exclusive: Some(false),
        auto_delete: Some(false),
    });
    assert_eq!(alter(&channel, "q", same).await, ["x-max-length: none > 5"]);

    let wrong = refused(soon(channel.alter_queue("q", to(q().argument("x-max-length", -1i64)))).await);
    assert_eq!((wrong.code, &*wrong.field), (ReplyCode::PreconditionFailed, "x-max-length"));
    let alone = refused(soon(channel.alter_queue("q", to(q().dead_letter_routing_key("k")))).await);
    assert_eq!(alone.field, "x-dead-letter-routing-key");
    let none = refused(soon(channel.alter_queue("none", to(q().max_length(5)))).await);
    assert_eq!(none.code, ReplyCode::NotFound);
    soon(channel.declare_subscription(Subscription::new("s").listen("amq.topic", "#"))).await.unwrap();
    let own = refused(soon(channel.alter_queue("sub:s", to(q().max_length(5)))).await);
    assert!(own.text.contains("belongs to subscription 's'"), "{own}");
    assert_eq!(
        soon(channel.find_queue("q")).await.unwrap().unwrap().arguments,
        FieldTable::from([("x-max-length", 5i64.into()), ("x-max-priority", 3i64.into()),])
    );
}

#[tokio::test]
async fn declaring_otherwise_tells_all_that_differs() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(q().max_length(5).message_ttl(Duration::from_secs(1)))).await.unwrap();
    let other = q().transient().auto_delete().max_length(6).dead_letter_exchange("dlx").max_priority(1);
    let refusal = refused(channel.declare_queue(other).await);
    assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, "durable"));
    assert_eq!(
        fields(&refusal),
        [
            ("durable", "true", "false"),
            ("auto_delete", "false", "true"),
            ("x-max-length", "5", "6"),
            ("x-message-ttl", "1000", "none"),
            ("x-dead-letter-exchange", "none", "dlx"),
            ("x-max-priority", "none", "1"),
        ]
    );
    let refusal = refused(channel.declare_queue(q().exclusive().max_length(6)).await);
    assert_eq!((refusal.code, &*refusal.field), (ReplyCode::ResourceLocked, "exclusive"));
    let refusal = refused(channel.declare_queue(q()).await);
    assert!(refusal.hint.contains("leveret alter queue"), "all of it can be altered: {refusal}");
    assert!(refusal.differences.iter().all(|one| one.reason.is_empty()));
}

#[tokio::test]
async fn whoever_declared_it_declares_it_again_as_it_is() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(q().max_length(5).transient())).await.unwrap();
    alter(&channel, "q", to(q().max_length(2)).without("x-message-ttl")).await;
    broker.kill_and_restart();
    publish(&channel, "q", &["a", "b", "c"]).await;
    assert_eq!(taken(&channel, "q").await, ["b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_the_right_to_configure_the_queue_and_to_write_where_its_letters_go() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    let (name, password) = ("ada".to_owned(), "s3cret".to_owned());
    let ada = NewUser { name, password, administrator: false, vhosts: vec!["/".to_owned()] };
    soon(guest.put_user(ada)).await.unwrap();
    soon(guest.put_permissions(Permissions {
        user: "ada".to_owned(),
        vhost: "/".to_owned(),
        configure: "^ada-".to_owned(),
        write: "^ada-".to_owned(),
        read: "^ada-".to_owned(),
    }))
    .await
    .unwrap();
    for queue in ["ada-q", "bob-q"] {
        soon(guest.declare_queue(Queue::new(queue))).await.unwrap();
    }
    let options: ConnectOptions = broker.url_as("ada:s3cret", "").parse().unwrap();
    let connection = soon(Connection::connect(options.no_reconnect())).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    let refusal = refused(soon(channel.alter_queue("bob-q", to(q().max_length(1)))).await);
    assert!(refusal.text.starts_with("configure access to queue 'bob-q'"), "{refusal}");
    let refusal = refused(soon(channel.alter_queue("ada-q", to(q().dead_letter_exchange("bob-e")))).await);
    assert!(refusal.text.starts_with("write access to exchange 'bob-e'"), "{refusal}");
    assert_eq!(alter(&channel, "ada-q", to(q().dead_letter_exchange("ada-e"))).await.len(), 1);
}
