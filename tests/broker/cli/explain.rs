//! Where a message would go, and why.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::support::{Broker, finish, interrupt};

#[test]
fn a_tree_shows_what_matches_and_what_does_not() {
    let broker = Broker::start();
    broker.queue("all");
    broker.queue("us");
    broker.queue("log");
    broker.run(&["declare", "exchange", "orders", "--type", "topic"]).ok();
    broker.run(&["declare", "exchange", "audit", "--type", "fanout"]).ok();
    broker.run(&["bind", "orders", "all", "--key", "#"]).ok();
    broker.run(&["bind", "orders", "us", "--key", "*.us"]).ok();
    broker.run(&["bind", "orders", "audit", "--key", "order.*", "--to-exchange"]).ok();
    broker.run(&["bind", "audit", "log"]).ok();

    let tree = broker.run(&["explain", "--exchange", "orders", "--key", "order.eu"]).ok();
    assert!(tree.starts_with("'order.eu' to exchange 'orders' (topic)\n"), "{tree}");
    assert!(tree.contains("✓ '#' → queue 'all'"), "{tree}");
    assert!(tree.contains("✗ '*.us' → queue 'us'"), "{tree}");
    assert!(tree.contains("✓ 'order.*' → exchange 'audit'"), "{tree}");
    assert!(tree.contains("✓ '' → queue 'log'"), "{tree}");
    assert!(tree.contains("\nreaches 2 queues: 'all', 'log'\n"), "{tree}");
    assert!(!tree.contains('\x1b'), "no colours where there is no terminal");

    let json = broker.run(&["explain", "--exchange", "orders", "--key", "order.eu", "--json"]).json();
    assert_eq!(json["queues"], serde_json::json!(["all", "log"]));
    assert_eq!(json["exchanges"][0]["bindings"].as_array().unwrap().len(), 3);
    assert_eq!(json["exchanges"][1]["reached_from"], "orders");
    assert_eq!(broker.messages("all"), (0, 0), "nothing was published");
}

#[test]
fn headers_and_alternate_exchanges_are_explained() {
    let broker = Broker::start();
    broker.queue("eu");
    broker.queue("rest");
    broker.run(&["declare", "exchange", "rest", "--type", "fanout"]).ok();
    broker.run(&["bind", "rest", "rest"]).ok();
    broker.run(&["declare", "exchange", "orders", "--type", "headers", "--alternate-exchange", "rest"]).ok();
    broker.run(&["bind", "orders", "eu", "--header", "region=eu"]).ok();
    let explain = |header: &str| broker.run(&["explain", "--exchange", "orders", "--header", header]).ok();
    let tree = explain("region=eu");
    assert!(tree.contains("\nreaches 1 queue: 'eu'\n"), "{tree}");
    let tree = explain("region=us");
    assert!(tree.contains("✗ region=eu → queue 'eu'"), "{tree}");
    assert!(tree.contains("alternate exchange 'rest'"), "{tree}");
    assert!(tree.contains("\nreaches 1 queue: 'rest'\n"), "{tree}");
}

#[test]
fn the_default_exchange_leads_to_the_queue_of_that_name() {
    let broker = Broker::start();
    broker.queue("orders");
    let tree = broker.run(&["explain", "--key", "orders"]).ok();
    assert!(
        tree.contains("the default exchange") && tree.contains("\nreaches 1 queue: 'orders'\n"),
        "{tree}"
    );
    let tree = broker.run(&["explain", "--key", "order"]).ok();
    assert!(tree.contains("reaches no queue"), "{tree}");
    broker.run(&["explain", "--exchange", "nothing", "--key", "k"]).fails(1, &["404", "nothing"]);
}

/// What a queue would do, as JSON.
#[track_caller]
fn outlook(broker: &Broker, queue: &str, arguments: &[&str]) -> Value {
    let json = broker.run(&[&["explain", "--key", queue, "--json"], arguments].concat()).json();
    let [outlook] = &json["outlooks"].as_array().unwrap()[..] else { panic!("not one: {json}") };
    assert_eq!(outlook["queue"], queue);
    outlook.clone()
}

#[test]
fn it_is_told_what_each_queue_would_do() {
    let broker = Broker::start();
    let declare = |arguments: &[&str]| broker.run(&[&["declare", "queue"], arguments].concat()).ok();
    declare(&["plain"]);
    declare(&["two", "--max-length", "2", "--dead-letter-exchange", "", "--dead-letter-key", "dead"]);
    declare(&["full", "--max-length", "1", "--overflow", "reject-publish"]);
    declare(&["fleeting", "--message-ttl", "0ms"]);
    declare(&["none", "--max-length", "0"]);
    declare(&["small", "--max-length-bytes", "100", "--overflow", "reject-publish"]);
    for (queue, kind) in [("plain", "waits"), ("two", "waits"), ("fleeting", "expires"), ("none", "dropped")]
    {
        let told = outlook(&broker, queue, &[]);
        assert_eq!((&told["kind"], &told["drops"]), (&kind.into(), &0.into()), "{told}");
        broker.run(&["publish", "--key", queue, "first"]).ok();
    }
    assert_eq!(broker.messages("fleeting"), (0, 0), "as foreseen");
    assert_eq!(broker.messages("none"), (0, 0), "as foreseen");

    broker.run(&["publish", "--key", "two", "second"]).ok();
    let told = outlook(&broker, "two", &[]);
    assert_eq!(
        told["reason"],
        "keeps it behind 1 that waits; 1 that waits leaves to make room (x-max-length: at most 2 messages \
         waiting); what leaves goes to the default exchange with key 'dead' as a dead letter"
    );
    assert_eq!((&told["drops"], &told["dead_letter_exchange"]), (&1.into(), &"".into()));
    assert_eq!(told["dead_letter_routing_key"], "dead");

    assert_eq!(outlook(&broker, "full", &[])["kind"], "waits");
    broker.run(&["publish", "--key", "full", "first"]).ok();
    let told = outlook(&broker, "full", &[]);
    assert_eq!(told["kind"], "refused");
    assert_eq!(told["reason"], "refuses it, since it is full (x-max-length: at most 1 messages waiting)");
    broker.run(&["publish", "--key", "full", "second"]).fails(1, &["is full"]);

    let told = outlook(&broker, "small", &[]);
    assert_eq!(told["reason"], "keeps it, as the next one; its body was taken to be empty");
    let body = |length: usize| {
        let arguments = ["explain", "--key", "small", "--json", "--body", "-"];
        broker.run_with_input(&arguments, "x".repeat(length).as_bytes()).json()["outlooks"][0].clone()
    };
    assert_eq!(body(100)["kind"], "refused");
    assert_eq!(body(50)["reason"], "keeps it, as the next one");

    let told = outlook(&broker, "plain", &["--delay", "60"]);
    assert_eq!(told["kind"], "held_back");
    assert!(told["held_until_ms"].as_u64().unwrap() > 1_700_000_000_000, "{told}");
    assert_eq!(outlook(&broker, "plain", &["--expiration", "0"])["kind"], "expires");
    let told = outlook(&broker, "plain", &["--expiration", "1.5"]);
    assert_eq!(told["reason"], "keeps it behind 1 that waits, for 1500 ms at most");
    let tree = broker.run(&["explain", "--key", "plain", "--deliver-at", "4102444800"]).ok();
    assert!(tree.ends_with("\n  'plain' holds it back until 2100-01-01T00:00:00.000Z\n"), "{tree}");
    assert_eq!(broker.messages("plain"), (1, 0), "nothing was published");
    broker.run(&["explain", "--key", "plain", "--expiration", "1e12"]).fails(1, &["406", "ten years"]);

    let mut consume = broker.leveret(&["consume", "plain", "--raw"]).spawn().unwrap();
    let mut lines = BufReader::new(consume.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    assert_eq!(outlook(&broker, "plain", &[])["reason"], "gives it to a consumer at once");
    interrupt(&consume);
    finish(consume);
}
