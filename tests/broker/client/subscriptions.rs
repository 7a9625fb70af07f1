//! Durable named subscriptions: who is away misses nothing, and everybody can see who is there.

use std::time::Duration;

use leveret::client::{
    Binding, Channel, ConnectOptions, Connection, Consumer, Entity, Event, Exchange, ExchangeKind,
    FieldTable, NewUser, Queue, ReplyCode, RequestError, Sharing, Subscription, SubscriptionBinding,
    SubscriptionEntry, SubscriptionFilter,
};

use super::{connect, soon};
use crate::support::Broker;

const EVENTS: &str = "events";

/// A connection, a channel, and the exchange that everybody listens to.
async fn beginning(broker: &Broker) -> (Connection, Channel) {
    let (connection, channel) = connect(broker).await;
    soon(channel.declare_exchange(Exchange::new(EVENTS, ExchangeKind::Topic))).await.unwrap();
    (connection, channel)
}

/// Publishes a message for each number, under a key; all are on disk when it returns.
async fn publish(channel: &Channel, key: &str, numbers: std::ops::Range<u32>) {
    let publisher = soon(channel.publisher(EVENTS, key).not_mandatory().open()).await.unwrap();
    for number in numbers {
        soon(publisher.send(number.to_string())).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

/// The next so many messages, accepted for good.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut last = None;
    while numbers.len() < count {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        numbers.push(std::str::from_utf8(delivery.body()).unwrap().parse().unwrap());
        if let Some(former) = last.replace(delivery) {
            former.accept().unwrap();
        }
    }
    if let Some(last) = last {
        soon(last.accept_stored()).await.unwrap();
    }
    numbers
}

fn subscription(name: &str) -> Subscription {
    Subscription::new(name).listen(EVENTS, "order.#")
}

async fn listed(channel: &Channel, name: &str) -> Vec<SubscriptionEntry> {
    soon(channel.find_subscription(name)).await.unwrap()
}

async fn only(channel: &Channel, name: &str) -> SubscriptionEntry {
    let mut found = listed(channel, name).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Off the runtime's threads, on which the client works meanwhile.
async fn kill_and_restart(mut broker: Broker) -> Broker {
    let restarted = tokio::task::spawn_blocking(move || {
        broker.kill_and_restart();
        broker
    });
    restarted.await.unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, RequestError>, code: ReplyCode, what: &str) {
    match result {
        Err(RequestError::Refused(refusal)) if refusal.code == code => {
            assert!(refusal.to_string().contains(what), "'{what}' is not in: {refusal}");
        }
        other => panic!("{code:?} with '{what}' was expected: {other:?}"),
    }
}

/// `LEVERET_DARK_EVENTS=100000` lets more of them pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_went_dark_gets_all_it_missed_in_order_before_what_is_new() {
    let asked = std::env::var("LEVERET_DARK_EVENTS").ok().and_then(|count| count.parse().ok());
    let missed: u32 = asked.unwrap_or(10_000);
    let end = 100 + missed;
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    let mut here = soon(channel.subscribe(subscription("billing")).start()).await.unwrap();
    let mut there = soon(channel.subscribe(subscription("audit")).start()).await.unwrap();
    let (dark_connection, dark_channel) = connect(&broker).await;
    let mut dark = soon(dark_channel.subscribe(subscription("app")).prefetch(10).start()).await.unwrap();
    publish(&channel, "order.new", 0..100).await;
    assert_eq!(take(&mut here, 100).await, Vec::from_iter(0..100));
    assert_eq!(take(&mut there, 100).await, Vec::from_iter(0..100));
    assert_eq!(take(&mut dark, 30).await, Vec::from_iter(0..30));
    let entry = only(&channel, "app").await;
    assert_eq!((entry.dark_since, entry.consumers), (None, 1), "it is there");

    drop((dark, dark_channel));
    soon(dark_connection.close()).await.unwrap();
    publish(&channel, "order.new", 100..end).await;
    publish(&channel, "visit", 0..50).await;
    assert_eq!(take(&mut here, missed as usize).await, Vec::from_iter(100..end));
    let entry = only(&channel, "app").await;
    assert!(entry.dark_since.is_some() && entry.subscribers.is_empty(), "{entry:?}");
    assert_eq!(entry.messages_ready + entry.messages_unacknowledged, u64::from(missed) + 70, "its lag");

    let broker = kill_and_restart(broker).await;
    publish(&channel, "order.new", end..end + 10).await;
    let (_back, channel_back) = connect(&broker).await;
    let mut back = soon(channel_back.subscribe(Subscription::new("app")).start()).await.unwrap();
    publish(&channel, "order.new", end + 10..end + 20).await;
    assert_eq!(
        take(&mut back, missed as usize + 90).await,
        Vec::from_iter(30..end + 20),
        "what it missed, then what is new"
    );
    // Who was connected all the time came back by itself.
    assert_eq!(take(&mut here, 20).await, Vec::from_iter(end..end + 20));
    assert_eq!(take(&mut there, missed as usize + 20).await, Vec::from_iter(100..end + 20));
    for name in ["app", "audit", "billing"] {
        let entry = only(&channel, name).await;
        let waiting = entry.messages_ready + entry.messages_unacknowledged;
        assert_eq!((entry.dark_since, waiting), (None, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_patterns_change_what_comes_from_then_on_and_nothing_that_waits() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    let patterns = |keys: &[&str]| {
        keys.iter().fold(Subscription::new("app"), |subscription, key| subscription.listen(EVENTS, *key))
    };
    let declared = soon(channel.declare_subscription(patterns(&["a", "b"]))).await.unwrap();
    assert_eq!((declared.queue.as_deref(), declared.messages), (Some("sub:app"), 0));
    publish(&channel, "a", 0..3).await;
    let declared = soon(channel.declare_subscription(patterns(&["b", "c"]))).await.unwrap();
    assert_eq!(declared.messages, 3, "the backlog stays");
    for (key, numbers) in [("a", 3..4), ("b", 4..5), ("c", 5..6)] {
        publish(&channel, key, numbers).await;
    }
    let keys = |entry: &SubscriptionEntry| {
        entry.bindings.iter().map(|binding| binding.routing_key.clone()).collect::<Vec<_>>()
    };
    let broker = kill_and_restart(broker).await;
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(keys(&only(&channel, "app").await), ["b", "c"]);
    let bindings = soon(channel.list_bindings()).await.unwrap();
    assert_eq!(bindings.iter().map(|binding| &binding.routing_key).collect::<Vec<_>>(), ["b", "c"]);
    let mut consumer = soon(channel.subscribe(Subscription::new("app")).start()).await.unwrap();
    assert_eq!(take(&mut consumer, 5).await, [0, 1, 2, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_queue_or_have_one_each() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    let shared = subscription("workers");
    let mut first = soon(channel.subscribe(shared.clone()).prefetch(1).start()).await.unwrap();
    let mut second = soon(channel.subscribe(shared).prefetch(1).start()).await.unwrap();
    let each = subscription("tills");
    let mut ann = soon(channel.subscribe(each.clone().member("ann")).start()).await.unwrap();
    publish(&channel, "order.1", 0..1).await;
    // Who joins later gets what comes from then on.
    let mut bob = soon(channel.subscribe(each.clone().member("bob")).start()).await.unwrap();
    publish(&channel, "order.1", 1..2).await;
    let mut of_both = [take(&mut first, 1).await, take(&mut second, 1).await].concat();
    of_both.sort_unstable();
    assert_eq!(of_both, [0, 1], "of those who share each message goes to one");
    assert_eq!(take(&mut ann, 2).await, [0, 1]);
    assert_eq!(take(&mut bob, 1).await, [1]);

    drop(bob);
    publish(&channel, "order.1", 2..4).await;
    let mut bob = soon(channel.subscribe(Subscription::new("tills").member("bob")).start()).await.unwrap();
    assert_eq!(take(&mut bob, 2).await, [2, 3], "under his name he comes back to his queue");
    assert_eq!(take(&mut ann, 2).await, [2, 3]);
    let entries = listed(&channel, "tills").await;
    let members: Vec<_> =
        entries.iter().map(|entry| (entry.member.as_str(), entry.queue.as_deref())).collect();
    assert_eq!(members, [("ann", Some("sub:tills:ann")), ("bob", Some("sub:tills:bob"))]);
    assert!(entries.iter().all(|entry| entry.sharing == Sharing::Each && entry.consumers == 1));
    assert_eq!(only(&channel, "workers").await.subscribers.len(), 2);

    drop(bob);
    publish(&channel, "order.1", 4..5).await;
    assert_eq!(soon(channel.unsubscribe_member("tills", "bob")).await.unwrap(), 1);
    assert_eq!(soon(channel.unsubscribe_member("tills", "bob")).await.unwrap(), 0, "twice is once");
    assert_eq!(listed(&channel, "tills").await.len(), 1);
    assert!(soon(channel.find_queue("sub:tills:bob")).await.unwrap().is_none());
    soon(channel.unsubscribe("tills")).await.unwrap();
    while let Some(Ok(delivery)) = soon(ann.next()).await {
        delivery.accept().unwrap();
    }
    assert_eq!(listed(&channel, "tills").await, [], "it ended, and whoever consumed from it was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_nobody_comes_for_goes_and_a_subscriber_that_is_there_stays() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    let short = |name: &str| subscription(name).expires_after(Duration::from_millis(1));
    let mut stays = soon(channel.subscribe(short("connected")).start()).await.unwrap();
    soon(channel.declare_subscription(subscription("patient"))).await.unwrap();
    drop(soon(channel.subscribe(short("dark")).start()).await.unwrap());
    let member = |name: &str| short("members").member(name);
    let mut ann = soon(channel.subscribe(member("ann")).start()).await.unwrap();
    drop(soon(channel.subscribe(member("bob")).start()).await.unwrap());
    soon(async {
        let left = async |name| soon(channel.find_subscription(name)).await.unwrap().len();
        while left("dark").await > 0 || left("members").await > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(soon(channel.find_queue("sub:dark")).await.unwrap().is_none(), "its queue went with it");
    assert_eq!(only(&channel, "members").await.member, "ann");
    publish(&channel, "order.1", 0..1).await;
    assert_eq!(take(&mut stays, 1).await, [0]);
    assert_eq!(take(&mut ann, 1).await, [0]);
    assert_eq!(only(&channel, "patient").await.messages_ready, 1);

    drop(ann);
    soon(async {
        while !soon(channel.find_subscription("members")).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // What has expired does not come back with the broker, and can be made again.
    drop(stays);
    let broker = kill_and_restart(broker).await;
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(listed(&channel, "dark").await, []);
    let mut again = soon(channel.subscribe(short("dark")).start()).await.unwrap();
    publish(&channel, "order.1", 7..8).await;
    assert_eq!(take(&mut again, 1).await, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_changes_nothing_that_others_have_changed() {
    let broker = Broker::start();
    let (connection, channel) = beginning(&broker).await;
    let mut events = connection.events();
    let mut consumer = soon(channel.subscribe(subscription("app")).start()).await.unwrap();
    let (_other, operator) = connect(&broker).await;
    let change = Subscription::new("app").listen(EVENTS, "visit").annotate("owner", "ann");
    soon(operator.declare_subscription(change)).await.unwrap();
    soon(channel.declare_subscription(subscription("ended"))).await.unwrap();
    soon(operator.unsubscribe("ended")).await.unwrap();
    soon(channel.declare_subscription(subscription("taken away"))).await.unwrap();
    soon(channel.unsubscribe("taken away")).await.unwrap();
    let broker = kill_and_restart(broker).await;
    while !matches!(soon(events.next()).await.unwrap(), Event::Reconnected { .. }) {}
    let entry = only(&channel, "app").await;
    assert_eq!(entry.bindings[0].routing_key, "visit");
    assert_eq!(entry.annotations["owner"], "ann");
    publish(&channel, "visit", 1..2).await;
    assert_eq!(take(&mut consumer, 1).await, [1]);
    assert_eq!(listed(&channel, "taken away").await, []);
    assert_eq!(listed(&channel, "ended").await, [], "nobody here consumes from it");
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    let subscribe = async |wanted: Subscription| soon(channel.declare_subscription(wanted)).await;
    use ReplyCode::{AccessRefused, NotFound, PreconditionFailed, SyntaxError};
    refused(subscribe(Subscription::new("app")).await, NotFound, "no subscription 'app'");
    for name in ["", "a:b", "a\nb", &"x".repeat(121)] {
        refused(subscribe(subscription(name)).await, SyntaxError, "cannot be called");
    }
    refused(subscribe(subscription("app").member("a:b")).await, SyntaxError, "a member");
    let nowhere = Subscription::new("app").listen("nowhere", "#");
    refused(subscribe(nowhere).await, NotFound, "no exchange 'nowhere'");
    refused(subscribe(Subscription::new("app").listen("", "q")).await, AccessRefused, "default exchange");
    let passing = Exchange::new("passing", ExchangeKind::Topic).transient();
    soon(channel.declare_exchange(passing)).await.unwrap();
    let to_passing = Subscription::new("app").listen("passing", "#");
    refused(subscribe(to_passing).await, PreconditionFailed, "outlives a restart");
    soon(channel.declare_queue(Queue::new("sub:app"))).await.unwrap();
    refused(subscribe(subscription("app")).await, PreconditionFailed, "not its own");
    soon(channel.delete_queue("sub:app", Default::default())).await.unwrap();
    assert_eq!(soon(channel.list_subscriptions()).await.unwrap(), []);

    subscribe(subscription("app")).await.unwrap();
    subscribe(subscription("all").each()).await.unwrap();
    refused(subscribe(subscription("app").each()).await, PreconditionFailed, "cannot be changed");
    refused(subscribe(subscription("all").shared()).await, PreconditionFailed, "cannot be changed");
    let nobody = soon(channel.subscribe(Subscription::new("all")).start()).await;
    assert!(matches!(nobody, Err(RequestError::Invalid(_))), "{nobody:?}");
    let binding = Binding::to_queue(EVENTS, "sub:app", "order.#");
    refused(soon(channel.unbind(binding.clone())).await, PreconditionFailed, "subscription 'app'");
    let other = Binding { routing_key: "more".to_owned(), ..binding };
    refused(soon(channel.bind(other)).await, PreconditionFailed, "subscription 'app'");
    for conditions in [false, true] {
        let how = leveret::client::DeleteQueue { if_unused: conditions, if_empty: conditions };
        refused(soon(channel.delete_queue("sub:app", how)).await, PreconditionFailed, "subscription 'app'");
    }
    let entry = only(&channel, "app").await;
    assert_eq!((entry.bindings.len(), entry.queue.as_deref()), (1, Some("sub:app")));
    assert_eq!(soon(channel.unsubscribe("app")).await.unwrap(), 0);
    assert_eq!(soon(channel.unsubscribe("app")).await.unwrap(), 0, "twice is once");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_queue_is_a_queue_like_any_other() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    soon(channel.declare_subscription(subscription("app"))).await.unwrap();
    publish(&channel, "order.1", 0..3).await;
    let explained = soon(channel.explain(EVENTS, "order.1", &FieldTable::default())).await.unwrap();
    assert_eq!(explained.queues, ["sub:app"]);
    let got = soon(channel.get("sub:app", Default::default())).await.unwrap().unwrap();
    assert_eq!(got.delivery.body(), "0");
    assert_eq!(soon(channel.purge_queue("sub:app")).await.unwrap(), 2);
    let queue = soon(channel.find_queue("sub:app")).await.unwrap().unwrap();
    assert!(queue.durable && !queue.exclusive && !queue.auto_delete, "{queue:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_goes_takes_its_patterns_along() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    let fleeting = Exchange::new("fleeting", ExchangeKind::Headers).auto_delete();
    soon(channel.declare_exchange(fleeting)).await.unwrap();
    let matching = |color: &str| SubscriptionBinding {
        exchange: "fleeting".to_owned(),
        routing_key: String::new(),
        arguments: FieldTable::from([("color", color.into())]),
    };
    let with = |color: &str| subscription("app").listen_for(matching(color));
    soon(channel.declare_subscription(with("red"))).await.unwrap();
    soon(channel.declare_subscription(with("blue"))).await.unwrap();
    let exchanges = async || -> Vec<String> {
        let listed = soon(channel.list_exchanges()).await.unwrap();
        listed.into_iter().map(|exchange| exchange.name).filter(|name| !name.starts_with("amq.")).collect()
    };
    assert_eq!(exchanges().await, ["", EVENTS, "fleeting"], "it has had a binding all the time");
    soon(channel.declare_subscription(subscription("app"))).await.unwrap();
    assert_eq!(exchanges().await, ["", EVENTS], "it went with its last binding");
    soon(channel.delete_exchange(EVENTS, Default::default())).await.unwrap();
    assert_eq!(only(&channel, "app").await.bindings, [], "nothing is left to listen to");
    let broker = kill_and_restart(broker).await;
    let (_connection, channel) = beginning(&broker).await;
    assert_eq!(only(&channel, "app").await.bindings, [], "nor is it after a restart");
    soon(channel.declare_subscription(subscription("app"))).await.unwrap();
    assert_eq!(only(&channel, "app").await.bindings.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_is_told_as_far_as_connections_are() {
    let broker = Broker::start();
    let (_connection, guest) = beginning(&broker).await;
    let user = NewUser {
        name: "ada".to_owned(),
        password: "s3cret".to_owned(),
        administrator: false,
        vhosts: vec!["/".to_owned()],
    };
    soon(guest.put_user(user)).await.unwrap();
    let as_ada = async |name: &str| {
        let options: ConnectOptions = broker.url_as("ada:s3cret", "").parse().unwrap();
        let connection = soon(Connection::connect(options.connection_name(name))).await.unwrap();
        let channel = soon(connection.channel()).await.unwrap();
        (connection, channel)
    };
    let (_ada, of_ada) = as_ada("till 1").await;
    let _hers = soon(of_ada.subscribe(subscription("hers")).tag("t").start()).await.unwrap();
    let _theirs = soon(guest.subscribe(subscription("theirs")).start()).await.unwrap();
    let subscriber = async |channel: &Channel, name| only(channel, name).await.subscribers.remove(0);
    for channel in [&guest, &of_ada] {
        let hers = subscriber(channel, "hers").await;
        assert_eq!((hers.user.as_str(), hers.connection_name.as_str()), ("ada", "till 1"));
        assert!(hers.peer.starts_with("127.0.0.1:") && hers.tag == "t", "{hers:?}");
    }
    let theirs = subscriber(&of_ada, "theirs").await;
    assert_eq!((theirs.user, theirs.peer), (String::new(), String::new()), "not for her");
    assert!(theirs.connection_id > 0);
    assert_eq!(subscriber(&guest, "theirs").await.user, "guest");
    // In a vhost of its own nothing of it is seen.
    soon(guest.put_vhost("elsewhere")).await.unwrap();
    let options: ConnectOptions = broker.url_as("guest:guest", "elsewhere").parse().unwrap();
    let elsewhere = soon(Connection::connect(options)).await.unwrap();
    let elsewhere = soon(elsewhere.channel()).await.unwrap();
    assert_eq!(soon(elsewhere.list_subscriptions()).await.unwrap(), []);
    let missing = soon(elsewhere.declare_subscription(Subscription::new("hers"))).await;
    match missing {
        Err(RequestError::Refused(refusal)) => {
            assert_eq!(refusal.entity, Some((Entity::Subscription, "hers".to_owned())));
        }
        other => panic!("{other:?}"),
    }
}

/// Few of many, and more of them than one look of the broker and one page have.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_for_is_found_behind_any_number_of_others() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    let member = |number: u32| format!("m{number:04}");
    for number in 0..1_100 {
        soon(channel.declare_subscription(subscription("many").member(member(number)))).await.unwrap();
    }
    soon(channel.declare_subscription(subscription("zoe").annotate("owner", "zoe"))).await.unwrap();
    let find = async |filter: SubscriptionFilter| -> Vec<String> {
        let found = soon(channel.find_subscriptions(filter)).await.unwrap();
        found.into_iter().map(|entry| format!("{} {}", entry.name, entry.member)).collect()
    };
    let texts = |text: &str| SubscriptionFilter { texts: vec![text.to_owned()], ..Default::default() };
    assert_eq!(find(texts("m0007")).await, ["many m0007"]);
    assert_eq!(find(texts("m1099")).await, ["many m1099"]);
    assert_eq!(find(texts("owner=zoe")).await, ["zoe "]);
    let hear = SubscriptionFilter {
        exchange: EVENTS.to_owned(),
        routing_key: Some("order.1".to_owned()),
        ..Default::default()
    };
    let all = find(hear).await;
    assert_eq!((all.len(), &*all[1_100]), (1_101, "zoe "));
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order");
    let too_many = SubscriptionFilter { texts: vec![String::new(); 17], ..Default::default() };
    refused(soon(channel.find_subscriptions(too_many)).await, ReplyCode::SyntaxError, "too large");
}
