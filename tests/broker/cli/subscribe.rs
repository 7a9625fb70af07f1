//! Listening in on an exchange, over a queue that nobody has declared.

use std::io::{BufRead, BufReader};
use std::process::Child;

use serde_json::{Value, json};

use crate::support::{Broker, finish, interrupt};

/// A subscription that is there: its bindings are.
#[track_caller]
fn subscribed(broker: &Broker, arguments: &[&str], bindings: usize) -> Child {
    let child = broker.leveret(&[&["subscribe"], arguments].concat()).spawn().unwrap();
    let exchange = arguments[0];
    let bound = || {
        let all = broker.run(&["list", "bindings", "--json"]).json();
        all.as_array().unwrap().iter().filter(|binding| binding["source"] == exchange).count()
    };
    while bound() != bindings {}
    child
}

#[test]
fn what_fits_a_pattern_is_printed_and_nothing_stays_behind() {
    let broker = Broker::start();
    broker.run(&["declare", "exchange", "orders", "--type", "topic"]).ok();
    broker.queue("all");
    broker.run(&["bind", "orders", "all", "--key", "#"]).ok();
    let child =
        subscribed(&broker, &["orders", "--key", "*.eu", "--key", "*.uk", "--count", "2", "--raw"], 3);
    for key in ["1.us", "2.eu", "3.us", "4.uk"] {
        broker.run(&["publish", "--exchange", "orders", "--key", key, key]).ok();
    }
    assert_eq!(finish(child).ok(), "2.eu\n4.uk\n");
    let queues = broker.run(&["list", "queues", "--json"]).json();
    assert_eq!(queues.as_array().unwrap().len(), 1, "its own queue is gone");
    assert_eq!(broker.messages("all"), (4, 0));
}

#[test]
fn without_a_key_a_topic_or_a_fanout_exchange_sends_everything() {
    let broker = Broker::start();
    for exchange in ["amq.topic", "amq.fanout"] {
        let child = subscribed(&broker, &[exchange, "--count", "1", "--raw"], 1);
        broker.run(&["publish", "--exchange", exchange, "--key", "a.b", exchange]).ok();
        assert_eq!(finish(child).ok(), format!("{exchange}\n"));
    }
    broker.run(&["subscribe", "amq.direct"]).fails(2, &["is direct", "--key"]);
}

#[test]
fn a_headers_exchange_matches_headers() {
    let broker = Broker::start();
    let child = subscribed(
        &broker,
        &["amq.headers", "--header", "x-match=any", "--header", "n:int=5", "--count", "1", "--raw"],
        1,
    );
    for n in ["n:int=4", "n:int=5"] {
        let publish = ["publish", "--exchange", "amq.headers", "--key", "", "--header", n, n];
        drop(broker.run(&publish));
    }
    assert_eq!(finish(child).ok(), "n:int=5\n");
}

#[test]
fn it_shares_the_flags_of_consume() {
    let broker = Broker::start();
    let child = subscribed(&broker, &["amq.topic", "--count", "1", "--json", "--name", "ears"], 1);
    // The queue is bound before it is consumed from.
    let consumer = loop {
        let consumers = broker.run(&["list", "consumers", "--json"]).json();
        if let Some(consumer) = consumers.as_array().unwrap().first() {
            break consumer.clone();
        }
    };
    assert_eq!(consumer["tag"], "ears");
    broker.run(&["publish", "--exchange", "amq.topic", "--key", "k", "--message-id", "m1", "x"]).ok();
    let message: Value = finish(child).json();
    assert_eq!((&message["body"], &message["properties"]), (&json!("x"), &json!({ "message_id": "m1" })));

    let mut child = subscribed(&broker, &["amq.topic", "--exec", "/bin/cat; echo"], 1);
    broker.run(&["publish", "--exchange", "amq.topic", "--key", "k", "for a command"]).ok();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "for a command");
    interrupt(&child);
    finish(child).ok();
}

#[test]
fn an_exchange_that_is_not_there_is_a_failure() {
    let broker = Broker::start();
    broker.run(&["subscribe", "nothing"]).fails(1, &["no exchange 'nothing'", "leveret list exchanges"]);
}
