//! Publishing, and what becomes of messages.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Broker, finish};

#[test]
fn a_message_is_confirmed_by_the_disk() {
    let broker = Broker::start();
    broker.queue("orders");
    assert_eq!(
        broker.run(&["publish", "--key", "orders", "hello"]).ok(),
        "confirmed: 1 (synced), returned: 0, refused: 0\n"
    );
    let outcome = broker.run(&["publish", "--key", "orders", "--json", "hello again"]).json();
    assert_eq!(
        outcome,
        json!({ "published": 1, "confirmed": 1, "durability": "synced", "returned": 0, "refused": 0, "unknown": 0, "id": null })
    );
    assert_eq!(broker.messages("orders"), (2, 0));
}

#[test]
fn each_line_is_a_message_without_its_newline() {
    let broker = Broker::start();
    broker.queue("orders");
    let published =
        broker.run_with_input(&["publish", "--key", "orders", "--lines"], b"one\n\n three \r\nlast");
    assert_eq!(published.ok(), "confirmed: 4 (synced), returned: 0, refused: 0\n");
    let consumed = broker.run(&["consume", "orders", "--count", "4", "--raw"]).ok();
    assert_eq!(consumed, "one\n\n three \r\nlast\n");
}

#[test]
fn no_line_at_all_is_fine() {
    let broker = Broker::start();
    broker.queue("orders");
    let published = broker.run_with_input(&["publish", "--key", "orders", "--lines"], b"");
    assert_eq!(published.ok(), "confirmed: 0, returned: 0, refused: 0\n");
}

#[test]
fn many_lines_keep_their_order() {
    let broker = Broker::start();
    broker.queue("orders");
    let lines: String = (0..20_000).map(|number| format!("message {number}\n")).collect();
    let published =
        broker.run_with_input(&["publish", "--key", "orders", "--lines", "--json"], lines.as_bytes());
    assert_eq!(published.json()["confirmed"], 20_000);
    let consumed = broker.run(&["consume", "orders", "--count", "20000", "--raw"]).ok();
    assert!(consumed == lines, "the same lines in the same order");
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn a_file_is_one_message() {
    let broker = Broker::start();
    broker.queue("orders");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "two\nlines").unwrap();
    broker.run(&["publish", "--key", "orders", "--file", file.path().to_str().unwrap()]).ok();
    broker.run_with_input(&["publish", "--key", "orders", "--file", "-"], b"from a pipe\n").ok();
    assert_eq!(broker.run(&["get", "orders", "--raw"]).ok(), "two\nlines\n");
    assert_eq!(broker.run(&["get", "orders", "--raw"]).ok(), "from a pipe\n\n");
    broker
        .run(&["publish", "--key", "orders", "--file", "/nonexistent"])
        .fails(1, &["cannot read /nonexistent"]);
}

#[test]
fn headers_arrive_with_their_types() {
    let broker = Broker::start();
    broker.queue("orders");
    let headers = ["--header", "region=eu", "--header", "n:int=5", "--header", "on:bool=true"];
    broker.run(&[&["publish", "--key", "orders", "x"], &headers[..]].concat()).ok();
    broker.run_with_input(&[&["publish", "--key", "orders", "--lines"], &headers[..]].concat(), b"y\n").ok();
    for body in ["x", "y"] {
        let message = broker.run(&["get", "orders", "--json"]).json();
        assert_eq!(message["body"], body);
        assert_eq!(message["headers"], json!({ "region": "eu", "n": 5, "on": true }));
    }
}

#[test]
fn what_reaches_no_queue_is_a_failure() {
    let broker = Broker::start();
    let outcome = broker.run(&["publish", "--key", "nowhere", "lost"]);
    let outcome = outcome.fails(1, &["error: ", "no queue", "nowhere", "leveret explain"]);
    assert!(outcome.stdout.contains("returned: 1"), "{outcome:?}");

    broker.run(&["declare", "exchange", "orders", "--type", "topic"]).ok();
    broker.queue("eu");
    broker.run(&["bind", "orders", "eu", "--key", "eu.*"]).ok();
    broker
        .run(&["publish", "--exchange", "orders", "--key", "us.1", "lost"])
        .fails(1, &["exchange 'orders'", "us.1"]);
    broker.run(&["publish", "--exchange", "orders", "--key", "eu.1", "found"]).ok();
    assert_eq!(broker.messages("eu"), (1, 0));
}

#[test]
fn an_exchange_that_is_not_there_is_a_failure() {
    let broker = Broker::start();
    broker.run(&["publish", "--exchange", "nothing", "--key", "k", "x"]).fails(1, &["404", "nothing"]);
}

#[test]
fn a_message_that_is_too_large_is_told_before_it_is_sent() {
    let broker = Broker::start_with(&["--message-bytes-max", "1 KiB"]);
    broker.queue("orders");
    let large = "x".repeat(1025);
    let lines = format!("fits\n{large}\nnever\n");
    let outcome = broker.run_with_input(&["publish", "--key", "orders", "--lines"], lines.as_bytes());
    let outcome = outcome.fails(1, &["line 2", "1024 bytes"]);
    assert!(outcome.stdout.contains("confirmed: 1 (synced)"), "{outcome:?}");
    broker
        .run_with_input(&["publish", "--key", "orders", "--file", "-"], large.as_bytes())
        .fails(1, &["1024 bytes"]);
    broker.run(&["publish", "--key", "orders", &large]).fails(1, &["1024 bytes"]);
    broker.run(&["publish", "--key", "orders", &large[1..]]).ok();
    assert_eq!(broker.messages("orders"), (2, 0));
}

#[test]
fn publishing_goes_on_when_the_broker_comes_back() {
    let mut broker = Broker::start();
    broker.queue("orders");
    let mut publish = broker.leveret(&["publish", "--key", "orders", "--lines", "--json"]);
    let mut publish = publish.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = publish.stdin.take().unwrap();
    for number in 0..500 {
        writeln!(stdin, "before {number}").unwrap();
    }
    while broker.messages("orders").0 == 0 {
        std::thread::yield_now();
    }
    broker.kill_and_restart();
    for number in 0..500 {
        writeln!(stdin, "after {number}").unwrap();
    }
    drop(stdin);
    let outcome = finish(publish);
    assert_eq!(outcome.json()["confirmed"], 1000);

    let consumed = broker.run(&["consume", "orders", "--raw", "--idle-exit", "1"]).ok();
    let mut bodies: Vec<&str> = consumed.lines().collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 1000, "every confirmed message is there at least once");
}
