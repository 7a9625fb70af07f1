//! Where a message would go, and why.

use crate::support::Broker;

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
    assert!(tree.ends_with("reaches 2 queues: 'all', 'log'\n"), "{tree}");
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
    assert!(tree.ends_with("reaches 1 queue: 'eu'\n"), "{tree}");
    let tree = explain("region=us");
    assert!(tree.contains("✗ region=eu → queue 'eu'"), "{tree}");
    assert!(tree.contains("alternate exchange 'rest'"), "{tree}");
    assert!(tree.ends_with("reaches 1 queue: 'rest'\n"), "{tree}");
}

#[test]
fn the_default_exchange_leads_to_the_queue_of_that_name() {
    let broker = Broker::start();
    broker.queue("orders");
    let tree = broker.run(&["explain", "--key", "orders"]).ok();
    assert!(tree.contains("the default exchange") && tree.ends_with("reaches 1 queue: 'orders'\n"), "{tree}");
    let tree = broker.run(&["explain", "--key", "order"]).ok();
    assert!(tree.contains("reaches no queue"), "{tree}");
    broker.run(&["explain", "--exchange", "nothing", "--key", "k"]).fails(1, &["404", "nothing"]);
}
