//! Properties of messages on their way in and out.

use serde_json::json;

use crate::support::Broker;

const ALL: [&str; 20] = [
    "--message-id",
    "m1",
    "--correlation-id",
    "c1",
    "--reply-to",
    "answers",
    "--content-type",
    "text/plain",
    "--content-encoding",
    "identity",
    "--type",
    "order",
    "--app-id",
    "shop",
    "--priority",
    "7",
    "--expiration",
    "3600.5",
    "--timestamp",
    "1700000000.25",
];

#[test]
fn properties_arrive_as_they_were_given() {
    let broker = Broker::start();
    broker.queue("orders");
    broker.run(&[&["publish", "--key", "orders"], &ALL[..], &["x"]].concat()).ok();
    let message = broker.run(&["get", "orders", "--requeue", "--json"]).json();
    assert_eq!(
        message["properties"],
        json!({
            "message_id": "m1", "correlation_id": "c1", "reply_to": "answers", "content_type": "text/plain",
            "content_encoding": "identity", "type": "order", "app_id": "shop", "priority": 7,
            "expiration_ms": 3_600_500, "timestamp_ms": 1_700_000_000_250_u64,
        })
    );
    let line = broker.run(&["get", "orders", "--requeue", "--properties"]).ok();
    assert_eq!(
        line,
        "1  orders  x  (redelivered, came back once; message_id m1; correlation_id c1; reply_to answers; \
         type order; content_type text/plain; content_encoding identity; app_id shop; priority 7; \
         expires after 3600.5 s; timestamp 2023-11-14T22:13:20.250Z)\n"
    );
    let line = broker.run(&["consume", "orders", "--count", "1"]).ok();
    assert_eq!(line, "1  orders  x  (redelivered, came back 2 times)\n", "without being asked: as before");
}

#[test]
fn every_line_has_them_and_a_time_of_its_own() {
    let broker = Broker::start();
    broker.queue("orders");
    let flags = ["publish", "--key", "orders", "--lines", "--app-id", "shop", "--timestamp", "now"];
    broker.run_with_input(&flags, b"a\nb\n").ok();
    for body in ["a", "b"] {
        let message = broker.run(&["get", "orders", "--json"]).json();
        assert_eq!((&message["body"], &message["properties"]["app_id"]), (&json!(body), &json!("shop")));
        let (sent, came) = (&message["properties"]["timestamp_ms"], &message["received_at_ms"]);
        assert!(sent.as_u64().unwrap() <= came.as_u64().unwrap(), "{message}");
    }
    broker
        .run_with_input(&["publish", "--key", "orders", "--lines", "--message-id", "m1"], b"a\nb\n")
        .fails(2, &["cannot be used with"]);
}

#[test]
fn the_time_stands_before_a_message() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a"]);
    let line = broker.run(&["consume", "orders", "--count", "1", "--time"]).ok();
    let (time, rest) = line.split_once("  ").unwrap();
    assert_eq!((time.len(), rest), ("2026-11-28T09:30:00.125Z".len(), "1  orders  a\n"), "{line}");
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
}

#[test]
fn what_no_property_can_be_is_refused() {
    let broker = Broker::start();
    for (flag, value) in [
        ("--priority", "256"),
        ("--expiration", "-1"),
        ("--expiration", "soon"),
        ("--timestamp", "yesterday"),
        ("--message-id", ""),
        ("--app-id", &"n".repeat(256)),
    ] {
        broker.run(&["publish", "--key", "k", flag, value, "x"]).fails(2, &[flag]);
    }
}
