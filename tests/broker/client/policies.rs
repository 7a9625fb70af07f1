//! Policies: what they say holds at once for what is there and for what comes, also after a crash.

use leveret::client::{
    Channel, ConnectOptions, Connection, DeletePolicy, Exchange, ExchangeEntry, ExchangeKind, FieldTable,
    FieldValue, Get, NewUser, Policy, Queue, QueueAlteration, QueueEntry, Refusal, ReplyCode, RequestError,
};

use super::{connect, soon};
use crate::support::Broker;

fn policy(name: &str, pattern: &str, definition: &[(&str, FieldValue)]) -> Policy {
    let fields = definition.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    Policy {
        name: name.to_owned(),
        operator: false,
        pattern: pattern.to_owned(),
        applies_to: "all".to_owned(),
        priority: 0,
        definition: FieldTable(fields.collect()),
    }
}

fn length(name: &str, pattern: &str, most: i64) -> Policy {
    policy(name, pattern, &[("max-length", most.into())])
}

async fn publish(channel: &Channel, exchange: &str, key: &str, bodies: &[&str]) {
    let publisher = soon(channel.publisher(exchange, key).open()).await.unwrap();
    for body in bodies {
        soon(publisher.send((*body).to_owned())).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn entry(channel: &Channel, queue: &str) -> QueueEntry {
    soon(channel.find_queue(queue)).await.unwrap().unwrap()
}

/// The numbers of a queue as soon as they are these.
async fn entry_when(channel: &Channel, queue: &str, is_so: impl Fn(&QueueEntry) -> bool) -> QueueEntry {
    soon(async {
        loop {
            let entry = entry(channel, queue).await;
            if is_so(&entry) {
                return entry;
            }
        }
    })
    .await
}

async fn exchange(channel: &Channel, name: &str) -> ExchangeEntry {
    let exchanges = soon(channel.list_exchanges()).await.unwrap();
    exchanges.into_iter().find(|one| one.name == name).unwrap()
}

async fn taken(channel: &Channel, queue: &str) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(message) = soon(channel.get(queue, Get { no_ack: true })).await.unwrap() {
        taken.push(String::from_utf8_lossy(message.delivery.body()).into_owned());
    }
    taken
}

/// Which policies hold, and the length that comes of it.
fn holding(entry: &QueueEntry) -> (Option<&str>, Option<&str>, Option<&FieldValue>) {
    let QueueEntry { policy, operator_policy, effective, .. } = entry;
    (policy.as_deref(), operator_policy.as_deref(), effective.value("x-max-length"))
}

fn refused<T: std::fmt::Debug>(answer: Result<T, RequestError>) -> Refusal {
    match answer {
        Err(RequestError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_policy_says_holds_for_what_waits_for_what_comes_and_after_a_crash() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for queue in ["orders", "bills"] {
        soon(channel.declare_queue(Queue::new(queue))).await.unwrap();
        publish(&channel, "", queue, &["a", "b", "c"]).await;
    }
    soon(channel.put_policy(length("short", "^orders", 2))).await.unwrap();
    let orders = entry_when(&channel, "orders", |told| told.messages_ready == 2).await;
    assert_eq!((orders.max_length_total, orders.arguments.is_empty()), (1, true));
    assert_eq!(holding(&orders), (Some("short"), None, Some(&2i64.into())));
    assert_eq!(holding(&entry(&channel, "bills").await), (None, None, None));
    soon(channel.declare_queue(Queue::new("orders"))).await.expect("it is as it was declared");
    soon(channel.declare_queue(Queue::new("orders.eu"))).await.unwrap();
    publish(&channel, "", "orders.eu", &["a", "b", "c"]).await;
    assert_eq!(taken(&channel, "orders.eu").await, ["b", "c"]);

    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(soon(channel.list_policies()).await.unwrap(), [length("short", "^orders", 2)]);
    assert_eq!(holding(&entry(&channel, "orders").await).0, Some("short"));
    publish(&channel, "", "orders", &["d"]).await;
    assert_eq!(taken(&channel, "orders").await, ["c", "d"]);
    soon(channel.put_policy(length("short", "^bills", 1))).await.unwrap();
    entry_when(&channel, "bills", |told| told.messages_ready == 1).await;
    assert_eq!(holding(&entry(&channel, "orders").await), (None, None, None));
    soon(channel.delete_policy("short", DeletePolicy { operator: true }))
        .await
        .expect("there is none of operators");
    assert_eq!(holding(&entry(&channel, "bills").await).0, Some("short"));
    soon(channel.delete_policy("short", DeletePolicy::default())).await.unwrap();
    publish(&channel, "", "bills", &["d", "e"]).await;
    assert_eq!(taken(&channel, "bills").await, ["c", "d", "e"]);

    broker.stop();
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(soon(channel.list_policies()).await.unwrap(), []);
}

#[tokio::test]
async fn one_policy_and_one_of_operators_hold_and_the_least_number_of_all() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let declared = Queue::new("q").max_length(5);
    soon(channel.declare_queue(declared.clone())).await.unwrap();
    let holds = async |policy: Option<&str>, operator: Option<&str>, most: i64| {
        let entry = entry(&channel, "q").await;
        assert_eq!(holding(&entry), (policy, operator, Some(&most.into())));
    };
    soon(channel.put_policy(length("a", ".*", 3))).await.unwrap();
    holds(Some("a"), None, 3).await;
    soon(channel.put_policy(Policy { priority: 1, ..length("b", "q", 8) })).await.unwrap();
    holds(Some("b"), None, 5).await;
    soon(channel.put_policy(Policy { operator: true, ..length("cap", "", 1) })).await.unwrap();
    holds(Some("b"), None, 5).await;
    soon(channel.put_policy(Policy { operator: true, ..length("cap", "^q$", 4) })).await.unwrap();
    holds(Some("b"), Some("cap"), 4).await;
    let more = QueueAlteration::new().like(Queue::new("").max_length(2));
    soon(channel.alter_queue("q", more)).await.unwrap();
    holds(Some("b"), Some("cap"), 2).await;
    let none = QueueAlteration::new().without("x-max-length");
    soon(channel.alter_queue("q", none)).await.unwrap();
    holds(Some("b"), Some("cap"), 4).await;
    for name in ["exchanges alone", "b"] {
        let exchanges = Policy { priority: 9, applies_to: "exchanges".to_owned(), ..length(name, "q", 1) };
        soon(channel.put_policy(exchanges)).await.unwrap();
    }
    holds(Some("a"), Some("cap"), 3).await;
}

#[tokio::test]
async fn times_letters_and_refusals_come_and_go_with_a_policy() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for queue in ["q", "dead"] {
        soon(channel.declare_queue(Queue::new(queue))).await.unwrap();
    }
    publish(&channel, "", "q", &["a"]).await;
    let says = [
        ("message-ttl", FieldValue::from(1i64)),
        ("dead-letter-exchange", "".into()),
        ("dead-letter-routing-key", "dead".into()),
    ];
    soon(channel.put_policy(policy("p", "^q$", &says))).await.unwrap();
    entry_when(&channel, "dead", |told| told.messages_ready == 1).await;
    entry_when(&channel, "q", |told| told.dead_lettered_total == 1).await;
    let says = [("max-length", FieldValue::from(1i64)), ("overflow", "reject-publish".into())];
    soon(channel.put_policy(policy("p", "^q$", &says))).await.unwrap();
    publish(&channel, "", "q", &["b"]).await;
    let publisher = soon(channel.publisher("", "q").open()).await.unwrap();
    soon(publisher.publish("c".to_owned()).await.unwrap()).await.unwrap_err();
    soon(channel.delete_policy("p", DeletePolicy::default())).await.unwrap();
    soon(publisher.publish("d".to_owned()).await.unwrap()).await.unwrap();
    assert_eq!(taken(&channel, "q").await, ["b", "d"]);
    soon(channel.put_policy(policy("p", "^q$", &[("expires", 1i64.into())]))).await.unwrap();
    soon(async { while channel.find_queue("q").await.unwrap().is_some() {} }).await;
    assert!(soon(channel.find_queue("dead")).await.unwrap().is_some());
}

#[tokio::test]
async fn an_alternate_exchange_of_a_policy_takes_what_nothing_matches() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for (name, alternate) in [("plain", None), ("own", Some("amq.direct"))] {
        let mut declared = Exchange::new(name, ExchangeKind::Topic);
        if let Some(alternate) = alternate {
            declared = declared.alternate_exchange(alternate);
        }
        soon(channel.declare_exchange(declared)).await.unwrap();
    }
    soon(channel.declare_queue(Queue::new("rest"))).await.unwrap();
    let to_default = policy("rest", ".*", &[("alternate-exchange", "amq.fanout".into())]);
    soon(channel.bind(leveret::client::Binding::to_queue("amq.fanout", "rest", ""))).await.unwrap();
    soon(channel.put_policy(to_default)).await.unwrap();
    publish(&channel, "plain", "k", &["a"]).await;
    entry_when(&channel, "rest", |told| told.messages_ready == 1).await;
    let shown = async |channel: &Channel, name: &str| {
        let entry = exchange(channel, name).await;
        (entry.policy, entry.alternate_exchange)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(shown(&channel, "plain").await, (some("rest"), some("amq.fanout")));
    assert_eq!(shown(&channel, "own").await, (some("rest"), some("amq.direct")));
    assert_eq!(shown(&channel, "").await, (None, None));
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(shown(&channel, "plain").await, (some("rest"), some("amq.fanout")));
    soon(channel.declare_exchange(Exchange::new("later", ExchangeKind::Direct))).await.unwrap();
    assert_eq!(shown(&channel, "later").await, (some("rest"), some("amq.fanout")));
    soon(channel.delete_policy("rest", DeletePolicy::default())).await.unwrap();
    assert_eq!(shown(&channel, "plain").await, (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_alone_put_policies_that_make_sense() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    let (name, password) = ("ada".to_owned(), "s3cret".to_owned());
    soon(guest.put_user(NewUser { name, password, administrator: false, vhosts: vec!["/".to_owned()] }))
        .await
        .unwrap();
    let options: ConnectOptions = broker.url_as("ada:s3cret", "").parse().unwrap();
    let connection = soon(Connection::connect(options.no_reconnect())).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    assert_eq!(refused(soon(channel.put_policy(length("p", "", 1))).await).code, ReplyCode::AccessRefused);
    assert_eq!(
        refused(soon(channel.delete_policy("p", DeletePolicy::default())).await).code,
        ReplyCode::AccessRefused
    );

    let wrong = [
        (length("", "", 1), "name"),
        (length("p", "(", 1), "pattern"),
        (length("p", "", -1), "max-length"),
        (policy("p", "", &[("max-lenght", 1i64.into())]), "definition"),
        (policy("p", "", &[]), "definition"),
        (policy("p", "", &[("alternate-exchange", 1i64.into())]), "alternate-exchange"),
        (Policy { applies_to: "streams".to_owned(), ..length("p", "", 1) }, "applies_to"),
        (Policy { operator: true, ..policy("p", "", &[("overflow", "drop-head".into())]) }, "definition"),
    ];
    for (policy, field) in wrong {
        let refusal = refused(soon(guest.put_policy(policy)).await);
        assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, field), "{refusal}");
    }
    assert_eq!(soon(guest.list_policies()).await.unwrap(), []);
}
