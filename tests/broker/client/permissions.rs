//! Permissions by pattern: who is held to them, from when on, and what is told.

use std::sync::Arc;

use leveret::client::{
    Alteration, Binding, Browse, Channel, ConfirmError, ConnectOptions, Connection, ConsumeError,
    DeleteQueue, Exchange, ExchangeKind, Get, Message, NewUser, PendingConfirm, Permissions, Queue, Refusal,
    ReplyCode, RequestError, Status, Subscription, TopicPermissions,
};

use super::{connect, soon};
use crate::support::Broker;

/// What ada may do, in the vhost "/".
fn may(configure: &str, write: &str, read: &str) -> Permissions {
    let [user, vhost, configure, write, read] = ["ada", "/", configure, write, read].map(str::to_owned);
    Permissions { user, vhost, configure, write, read }
}

fn may_topic(exchange: &str, write: &str, read: &str) -> TopicPermissions {
    let [user, vhost, exchange, write, read] = ["ada", "", exchange, write, read].map(str::to_owned);
    TopicPermissions { user, vhost, exchange, write, read }
}

async fn make_ada(guest: &Channel, administrator: bool, vhosts: &[&str]) {
    let vhosts = vhosts.iter().map(|vhost| (*vhost).to_owned()).collect();
    let ada = NewUser { name: "ada".to_owned(), password: "s3cret".to_owned(), administrator, vhosts };
    soon(guest.put_user(ada)).await.unwrap();
}

async fn as_ada(broker: &Broker) -> (Connection, Channel) {
    let options: ConnectOptions = broker.url_as("ada:s3cret", "").parse().unwrap();
    let connection = soon(Connection::connect(options.no_reconnect())).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    (connection, channel)
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, RequestError>) -> Refusal {
    match outcome {
        Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::AccessRefused => refusal,
        other => panic!("it is to be refused with 403, and is {other:?}"),
    }
}

async fn not_taken(confirm: PendingConfirm) -> Arc<Refusal> {
    match soon(confirm).await {
        Err(ConfirmError::Refused(refusal)) if refusal.code == ReplyCode::AccessRefused => refusal,
        other => panic!("it is to be refused with 403, and is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_which_permission_which_pattern_and_which_name() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest, false, &["/"]).await;
    soon(guest.declare_queue(Queue::new("q"))).await.unwrap();
    let (_ada, channel) = as_ada(&broker).await;
    soon(channel.declare_queue(Queue::new("before"))).await.unwrap();
    soon(guest.put_permissions(may("^ada-", r"^amq\.default$", ""))).await.unwrap();
    let refusal = refused(soon(channel.declare_queue(Queue::new("q"))).await);
    assert_eq!(refusal.text, "configure access to queue 'q' in vhost '/' refused for user 'ada'");
    assert_eq!(
        (&*refusal.field, &*refusal.expected, &*refusal.got),
        ("configure", "a name that matches ^ada-", "q")
    );
    let refusal = refused(soon(channel.get("q", Get::default())).await);
    assert_eq!(refusal.text, "read access to queue 'q' in vhost '/' refused for user 'ada'");
    assert_eq!((&*refusal.field, &*refusal.expected), ("read", "nothing"));
    let publisher = soon(channel.publisher("amq.fanout", "").not_mandatory().open()).await.unwrap();
    let refusal = not_taken(publisher.publish("m").await.unwrap()).await;
    assert_eq!(refusal.text, "write access to exchange 'amq.fanout' in vhost '/' refused for user 'ada'");
    assert!(refusal.hint.contains("leveret set permissions"), "{refusal}");
}

/// The channel stays open after each, so that all of it can be asked on one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_does_not_have_takes_permissions_too() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest, false, &["/"]).await;
    for queue in ["ada-q", "bob-q"] {
        soon(guest.declare_queue(Queue::new(queue))).await.unwrap();
    }
    for exchange in ["ada-e", "bob-e"] {
        soon(guest.declare_exchange(Exchange::new(exchange, ExchangeKind::Topic))).await.unwrap();
    }
    soon(guest.declare_subscription(Subscription::new("bob-s").listen("bob-e", "#"))).await.unwrap();
    soon(guest.put_permissions(may("ada-", "ada-", "ada-"))).await.unwrap();
    let (_ada, channel) = as_ada(&broker).await;

    soon(channel.browse(Browse::new("ada-q")).next_page()).await.unwrap();
    let refusal = refused(soon(channel.browse(Browse::new("bob-q")).next_page()).await);
    assert!(refusal.text.starts_with("read access to queue 'bob-q'"), "{refusal}");

    let alter = async |exchange: &str, queue: &str| {
        channel.alter_exchange(exchange, Alteration::new().quarantine_queue(queue)).await
    };
    soon(alter("ada-e", "ada-q")).await.unwrap();
    refused(soon(alter("bob-e", "ada-q")).await);
    let refusal = refused(soon(alter("ada-e", "bob-q")).await);
    assert!(refusal.text.starts_with("write access to queue 'bob-q'"), "{refusal}");
    let quarantining =
        |name: &str, queue: &str| Exchange::new(name, ExchangeKind::Topic).quarantine_queue(queue);
    soon(channel.declare_exchange(quarantining("ada-e2", "ada-q"))).await.unwrap();
    refused(soon(channel.declare_exchange(quarantining("ada-e3", "bob-q"))).await);

    let subscribe = async |name: &str, exchange: &str| {
        channel.declare_subscription(Subscription::new(name).listen(exchange, "#")).await
    };
    soon(subscribe("ada-s", "ada-e")).await.unwrap();
    let refusal = refused(soon(subscribe("ada-t", "bob-e")).await);
    assert!(refusal.text.starts_with("read access to exchange 'bob-e'"), "{refusal}");
    let refusal = refused(soon(subscribe("bob-s", "ada-e")).await);
    assert!(refusal.text.starts_with("configure access to queue 'sub:bob-s'"), "{refusal}");
    refused(soon(channel.unsubscribe("bob-s")).await);
    soon(channel.unsubscribe("ada-s")).await.unwrap();

    soon(guest.put_topic_permissions(may_topic("ada-e", "", r"^a\."))).await.unwrap();
    soon(channel.declare_subscription(Subscription::new("ada-s").listen("ada-e", "a.#"))).await.unwrap();
    let refusal = refused(soon(subscribe("ada-s", "ada-e")).await);
    assert!(refusal.text.starts_with("read access to topic '#' in exchange 'ada-e'"), "{refusal}");

    // Names are seen by whoever may be in the vhost.
    assert_eq!(soon(channel.list_queues()).await.unwrap().len(), 4);
    soon(channel.explain("bob-e", "k", &Default::default())).await.unwrap();
}

/// Publishers remember where messages go, and a message like the last one is not looked at again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_counts_for_publishers_that_are_there() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest, false, &["/"]).await;
    soon(guest.declare_queue(Queue::new("q"))).await.unwrap();
    soon(guest.bind(Binding::to_queue("amq.topic", "q", "#"))).await.unwrap();
    let (_ada, channel) = as_ada(&broker).await;
    let to_queue = soon(channel.publisher("", "q").open()).await.unwrap();
    let to_topic = soon(channel.publisher("amq.topic", "a.b").open()).await.unwrap();
    for round in 0..3 {
        for publisher in [&to_queue, &to_topic] {
            for _ in 0..2 {
                soon(publisher.publish("m").await.unwrap()).await.unwrap();
            }
        }
        match round {
            0 => soon(guest.put_permissions(may("", "^$", ""))).await.unwrap(),
            1 => soon(guest.put_permissions(may("", "^nothing$", ""))).await.unwrap(),
            _ => soon(guest.delete_user("ada")).await.unwrap(),
        }
        if round == 2 {
            break;
        }
        for publisher in [&to_queue, &to_topic] {
            for _ in 0..2 {
                not_taken(publisher.publish("m").await.unwrap()).await;
            }
        }
        soon(guest.put_permissions(may(".*", ".*", ".*"))).await.unwrap();
    }
    assert_eq!(soon(guest.find_queue("q")).await.unwrap().unwrap().messages_ready, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_keys_counts_for_publishers_that_are_there() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest, false, &["/"]).await;
    soon(guest.declare_queue(Queue::new("q"))).await.unwrap();
    soon(guest.bind(Binding::to_queue("amq.topic", "q", "#"))).await.unwrap();
    let (_ada, channel) = as_ada(&broker).await;
    let publisher = soon(channel.publisher("amq.topic", "a.b").open()).await.unwrap();
    let with_key = |key: &str| Message::new("m").routing_key(key);
    for key in ["a.b", "c.d", "c.d"] {
        soon(publisher.publish(with_key(key)).await.unwrap()).await.unwrap();
    }
    soon(guest.put_topic_permissions(may_topic("amq.topic", r"^c\.", ""))).await.unwrap();
    let refusal = not_taken(publisher.publish("m").await.unwrap()).await;
    assert_eq!(
        refusal.text,
        "write access to topic 'a.b' in exchange 'amq.topic' in vhost '/' refused for user 'ada'"
    );
    // Of one frame each message by itself.
    let mut confirms = Vec::new();
    for key in ["c.d", "a.b", "c.e", "a.b"] {
        confirms.push(publisher.publish(with_key(key)).await.unwrap());
    }
    let mut taken = Vec::new();
    for confirm in confirms {
        taken.push(soon(confirm).await.is_ok());
    }
    assert_eq!(taken, [true, false, true, false]);
    soon(guest.delete_topic_permissions("ada", "", "amq.topic")).await.unwrap();
    soon(publisher.publish("m").await.unwrap()).await.unwrap();
    assert_eq!(soon(guest.find_queue("q")).await.unwrap().unwrap().messages_ready, 6);
}

/// What it has it may settle; what comes later goes to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_ends_whose_user_may_not_read_any_more() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest, false, &["/"]).await;
    for queue in ["ada-q", "bob-q"] {
        soon(guest.declare_queue(Queue::new(queue))).await.unwrap();
    }
    let (_ada, channel) = as_ada(&broker).await;
    let mut stays = soon(channel.consume("ada-q").start()).await.unwrap();
    let mut ends = soon(channel.consume("bob-q").start()).await.unwrap();
    let publisher = soon(guest.publisher("", "bob-q").open()).await.unwrap();
    soon(publisher.publish("first").await.unwrap()).await.unwrap();
    let first = soon(ends.next()).await.unwrap().unwrap();
    soon(guest.put_permissions(may("", "", "^ada-"))).await.unwrap();
    soon(publisher.publish("second").await.unwrap()).await.unwrap();
    match soon(ends.next()).await {
        Some(Err(ConsumeError::Cancelled { reason, .. })) => {
            assert!(reason.contains("may not read"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    soon(first.accept_stored()).await.unwrap();
    let queue = soon(guest.find_queue("bob-q")).await.unwrap().unwrap();
    assert_eq!((queue.messages_ready, queue.messages_unacknowledged, queue.consumers), (1, 0, 0));
    let publisher = soon(guest.publisher("", "ada-q").open()).await.unwrap();
    soon(publisher.publish("mine").await.unwrap()).await.unwrap();
    assert_eq!(soon(stays.next()).await.unwrap().unwrap().body(), "mine");
    assert_eq!(soon(guest.list_consumers()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_outlive_the_broker() {
    let mut broker = Broker::start();
    let held = may("^ada-", "", "^ada-");
    let topics = TopicPermissions { vhost: "/".to_owned(), ..may_topic("amq.topic", "^{username}", "") };
    {
        let (connection, guest) = connect(&broker).await;
        make_ada(&guest, false, &[]).await;
        soon(guest.put_permissions(held.clone())).await.unwrap();
        soon(guest.put_topic_permissions(topics.clone())).await.unwrap();
        soon(connection.close()).await.unwrap();
    }
    for is_stopped in [false, true] {
        match is_stopped {
            true => {
                broker.stop();
                broker.restart();
            }
            false => broker.kill_and_restart(),
        }
        let (connection, guest) = connect(&broker).await;
        let of_ada: Vec<_> = soon(guest.list_permissions()).await.unwrap();
        let of_ada: Vec<_> = of_ada.iter().filter(|of| of.user == "ada").collect();
        assert_eq!(of_ada, [&held]);
        let of_topics = soon(guest.list_topic_permissions()).await.unwrap();
        assert_eq!(of_topics.iter().collect::<Vec<_>>(), [&topics]);
        let (ada, channel) = as_ada(&broker).await;
        soon(channel.declare_queue(Queue::new("ada-q"))).await.unwrap();
        refused(soon(channel.declare_queue(Queue::new("bob-q"))).await);
        for connection in [connection, ada] {
            soon(connection.close()).await.unwrap();
        }
    }
}

/// A grant of a vhost is everything in it, until patterns are set; and patterns stay where the vhost does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_may_do_after_each_change_of_the_user() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    soon(guest.put_vhost("shop")).await.unwrap();
    let shown = async || {
        let of = soon(guest.list_permissions()).await.unwrap();
        let of_ada = of.into_iter().filter(|of| of.user == "ada");
        of_ada.map(|of| format!("{} {}|{}|{}", of.vhost, of.configure, of.write, of.read)).collect::<Vec<_>>()
    };
    make_ada(&guest, false, &["/"]).await;
    assert_eq!(shown().await, ["/ .*|.*|.*"]);
    soon(guest.put_permissions(may("a", "b", ""))).await.unwrap();
    assert_eq!(shown().await, ["/ a|b|"]);
    make_ada(&guest, false, &["/", "shop"]).await;
    assert_eq!(shown().await, ["/ a|b|", "shop .*|.*|.*"]);
    make_ada(&guest, true, &[]).await;
    assert_eq!(shown().await, ["/ a|b|"], "an administrator is held to patterns, too");
    let (ada, channel) = as_ada(&broker).await;
    refused(soon(channel.declare_queue(Queue::new("q"))).await);
    soon(guest.delete_permissions("ada", "/")).await.unwrap();
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    soon(channel.delete_queue("q", DeleteQueue::default())).await.unwrap();
    soon(ada.close()).await.unwrap();
    make_ada(&guest, false, &["shop"]).await;
    soon(guest.put_permissions(may(".*", ".*", ".*"))).await.unwrap();
    assert_eq!(shown().await, ["/ .*|.*|.*", "shop .*|.*|.*"], "who is given permissions may be there");
    make_ada(&guest, false, &[]).await;
    assert!(shown().await.is_empty());
    soon(guest.put_permissions(may("", "", ""))).await.unwrap();
    let (ada, channel) = as_ada(&broker).await;
    soon(guest.delete_permissions("ada", "/")).await.unwrap();
    assert!(shown().await.is_empty());
    soon(async { while channel.list_queues().await.is_ok() {} }).await;
    assert!(matches!(ada.status(), Status::Closed(_)), "{:?}", ada.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_change_and_see_permissions_and_what_is_refused() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest, false, &["/"]).await;
    soon(
        guest
            .put_topic_permissions(TopicPermissions { user: "guest".to_owned(), ..may_topic("e", ".*", "") }),
    )
    .await
    .unwrap();
    let (_ada, channel) = as_ada(&broker).await;
    refused(soon(channel.put_permissions(may(".*", ".*", ".*"))).await);
    refused(soon(channel.delete_permissions("guest", "")).await);
    refused(soon(channel.put_topic_permissions(may_topic("e", "", ""))).await);
    refused(soon(channel.delete_topic_permissions("guest", "", "")).await);
    assert_eq!(soon(channel.list_permissions()).await.unwrap(), [may(".*", ".*", ".*")]);
    assert!(soon(channel.list_topic_permissions()).await.unwrap().is_empty());
    assert_eq!(soon(guest.list_permissions()).await.unwrap().len(), 2);
    assert_eq!(soon(guest.list_topic_permissions()).await.unwrap().len(), 1);

    let code = async |outcome: Result<(), RequestError>| match outcome {
        Err(RequestError::Refused(refusal)) => (refusal.code.number(), refusal.text),
        other => panic!("{other:?}"),
    };
    let nobody = Permissions { user: "nobody".to_owned(), ..may("", "", "") };
    let (number, text) = code(soon(guest.put_permissions(nobody)).await).await;
    assert_eq!((number, &*text), (404, "user 'nobody' does not exist"));
    let nowhere = Permissions { vhost: "nowhere".to_owned(), ..may("", "", "") };
    assert_eq!(code(soon(guest.put_permissions(nowhere)).await).await.0, 530);
    for pattern in ["(", "a(?=b)", &"a".repeat(1025), r"\w{1000}"] {
        let (number, text) = code(soon(guest.put_permissions(may(pattern, "", ""))).await).await;
        assert_eq!(number, 406, "{text}");
        let (number, text) = code(soon(guest.put_topic_permissions(may_topic("e", "", pattern))).await).await;
        assert_eq!(number, 406, "{text}");
    }
    // What was refused has changed nothing; what is not there can be taken away.
    assert_eq!(soon(channel.list_permissions()).await.unwrap(), [may(".*", ".*", ".*")]);
    soon(guest.delete_topic_permissions("ada", "", "e")).await.unwrap();
    soon(guest.delete_topic_permissions("guest", "", "")).await.unwrap();
    assert!(soon(guest.list_topic_permissions()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_come_in_pages_and_have_an_end() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest, false, &["/"]).await;
    let exchange = |number: usize| format!("e{number:04}");
    for number in 0..1_000 {
        soon(guest.put_topic_permissions(may_topic(&exchange(number), "", ""))).await.unwrap();
    }
    let bob = NewUser {
        name: "bob".to_owned(),
        password: "p".to_owned(),
        administrator: false,
        vhosts: Vec::new(),
    };
    soon(guest.put_user(bob)).await.unwrap();
    for number in 0..3 {
        let of_bob = TopicPermissions { user: "bob".to_owned(), ..may_topic(&exchange(number), "", "") };
        soon(guest.put_topic_permissions(of_bob)).await.unwrap();
    }
    let listed = soon(guest.list_topic_permissions()).await.unwrap();
    let names: Vec<_> = listed.iter().map(|of| (of.user.clone(), of.exchange.clone())).collect();
    let mut expected: Vec<_> = (0..1_000).map(|number| ("ada".to_owned(), exchange(number))).collect();
    expected.extend((0..3).map(|number| ("bob".to_owned(), exchange(number))));
    assert_eq!(names, expected);
    match soon(guest.put_topic_permissions(may_topic("one more", "", ""))).await {
        Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::PreconditionFailed => {}
        other => panic!("{other:?}"),
    }
}
