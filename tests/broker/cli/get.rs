//! Taking one message.

use serde_json::json;

use crate::support::Broker;

#[test]
fn a_message_is_taken_and_accepted() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b"]);
    assert_eq!(broker.run(&["get", "orders"]).ok(), "1  orders  a\n");
    assert_eq!(broker.messages("orders"), (1, 0));
    assert_eq!(broker.run(&["get", "orders", "--no-ack", "--raw"]).ok(), "b\n");
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn looking_leaves_it_in_its_place() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b"]);
    assert_eq!(broker.run(&["get", "orders", "--requeue", "--raw"]).ok(), "a\n");
    assert_eq!(broker.messages("orders"), (2, 0));
    let message = broker.run(&["get", "orders", "--json"]).json();
    assert_eq!((&message["body"], &message["redelivered"]), (&json!("a"), &json!(true)));
}

#[test]
fn an_empty_queue_is_a_failure_and_so_is_none() {
    let broker = Broker::start();
    broker.queue("orders");
    broker.run(&["get", "orders"]).fails(1, &["queue 'orders' has no message ready"]);
    broker.run(&["get", "nowhere"]).fails(1, &["404", "nowhere"]);
    broker.run(&["get", "orders", "--requeue", "--no-ack"]).fails(2, &["cannot be used with"]);
}
