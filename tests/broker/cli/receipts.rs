//! Receipts and journeys over the command line.

use std::path::Path;

use crate::support::{Broker, leveret, run};

/// As docs/RECEIPTS.md has it: two subscriptions, one of them dark.
#[test]
fn the_story_of_an_order_is_told_to_whoever_asks() {
    let broker = Broker::start();
    broker.run(&["declare", "exchange", "orders", "--type", "topic"]).ok();
    let on = broker.run(&["journeys", "on", "--exchange", "orders"]).ok();
    assert_eq!(on, "journeys are kept: exchange 'orders', all messages\n");
    for (name, key) in [("billing", "*.paid"), ("app", "eu.#"), ("visits", "visit.*")] {
        broker.run(&["subscribe", name, "--exchange", "orders", "--key", key, "--declare-only"]).ok();
    }
    let publish = ["publish", "--exchange", "orders", "--key", "eu.paid"];
    broker.run(&[&publish[..], &["--message-id", "order-7", "shoes"]].concat()).ok();
    broker.run(&["subscribe", "billing", "--durable", "--raw", "--count", "1"]).ok();

    let receipts = broker.run(&["receipts", "order-7"]).ok();
    let lines: Vec<&str> = receipts.lines().collect();
    assert!(lines[0].starts_with("message 'order-7': exchange 'orders', key 'eu.paid', 20"), "{receipts}");
    assert!(lines[1].starts_with("FOR "), "{receipts}");
    let mut rows: Vec<Vec<&str>> = lines[2..].iter().map(|line| line.split_whitespace().collect()).collect();
    rows.sort();
    assert_eq!(rows[0][..5], ["app", "pending,", "dark", "0", "0"], "{receipts}");
    assert_eq!(rows[1][..4], ["billing", "accepted", "1", "0"], "{receipts}");
    assert_eq!(rows.len(), 2, "{receipts}");
    let json = broker.run(&["receipts", "order-7", "--json"]).json();
    assert_eq!(json[0]["receipts"].as_array().unwrap().len(), 2);
    let made = json[0]["id"].as_str().unwrap();
    assert!(broker.run(&["receipts", made]).ok().contains("billing"), "by the id that the broker made");

    let journey = broker.run(&["journey", "order-7"]).ok();
    for words in [
        "published with key 'eu.paid' by guest",
        "✓ binding '*.paid'",
        "✗ binding 'visit.*'",
        "delivered",
        "✓ accepted",
    ] {
        assert!(journey.contains(words), "'{words}' is not in: {journey}");
    }
    let json = broker.run(&["journey", "order-7", "--json"]).json();
    let whats: Vec<&str> =
        json[0]["events"].as_array().unwrap().iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(whats.iter().filter(|what| **what == "accepted").count(), 1, "{whats:?}");
    assert_eq!(whats.first(), Some(&"taken"));

    let folder = tempfile::tempdir().unwrap();
    let (svg, mermaid) = (folder.path().join("a.svg"), folder.path().join("a.mmd"));
    let files = ["--svg", svg.to_str().unwrap(), "--mermaid", mermaid.to_str().unwrap()];
    assert_eq!(broker.run(&[&["journey", "order-7"][..], &files].concat()).ok(), "");
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert!(
        drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>") && drawn.contains("queue sub:app")
    );
    let drawn = std::fs::read_to_string(mermaid).unwrap();
    assert!(drawn.starts_with("sequenceDiagram\n") && drawn.contains("accepted"), "{drawn}");
    broker.run(&["journey", "order-7", "--svg", "/nowhere/a.svg"]).fails(1, &["/nowhere/a.svg"]);

    broker.run(&["receipts", "order-8"]).fails(1, &["nothing is kept of message 'order-8'", "journeys list"]);
    let gone = ["nothing is kept of message 'j-0000000000000001'", "given way to newer ones"];
    broker.run(&["receipts", "j-0000000000000001"]).fails(1, &gone);
    let off = broker.run(&["journeys", "off", "--exchange", "orders"]).ok();
    assert_eq!(off, "no journeys begin any more: exchange 'orders'\n");
    broker.run(&["receipts", "order-8"]).fails(1, &["journeys of no messages are kept", "journeys on"]);
    assert!(broker.run(&["receipts", "order-7"]).ok().contains("billing"), "what was kept stays");
}

#[test]
fn which_journeys_are_kept_is_said_as_it_is_typed() {
    let broker = Broker::start();
    broker.queue("q");
    let sampled = ["--sample", "1%", "--key", "order.#", "--header", "colour=red"];
    let on = broker.run(&[&["journeys", "on", "--queue", "q"][..], &sampled].concat()).ok();
    assert_eq!(
        on,
        "journeys are kept: queue 'q', 1 % of the messages with key order.# with header colour=red\n"
    );
    broker.run(&["journeys", "on"]).ok();
    let list = broker.run(&["journeys", "list"]).ok();
    assert!(list.contains("the whole vhost") && list.contains("queue 'q'"), "{list}");
    let json = broker.run(&["journeys", "list", "--json"]).json();
    assert_eq!((&json[1]["scope"], &json[1]["per_million"]), (&"queue".into(), &10_000.into()));
    let off = broker.run(&["journeys", "off"]).ok();
    assert_eq!(off, "no journeys begin any more: the whole vhost, 1 other rule stays\n");
    broker.run(&["journeys", "on", "--exchange", "nowhere"]).fails(1, &["404", "nowhere"]);
    broker.run(&["journeys", "on", "--sample", "some"]).fails(2, &["expected \"all\""]);
    broker.run(&["journeys", "on", "--queue", "q", "--exchange", "x"]).fails(2, &["cannot be used with"]);
}

#[test]
fn the_story_of_what_was_refused_says_what_was_wrong_where() {
    let broker = Broker::start();
    broker.queue("odd");
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("order.schema.json");
    std::fs::write(&schema, r#"{"properties": {"price": {"type": "number"}}}"#).unwrap();
    let schema = format!("*.paid={}", schema.display());
    let declare = ["declare", "exchange", "orders", "--type", "topic", "--schema", &schema];
    broker.run(&[&declare[..], &["--allow", "*.paid", "--quarantine", "odd"]].concat()).ok();
    broker.run(&["journeys", "on"]).ok();
    for (id, key, body) in [("order-8", "eu.paid", r#"{"price": "12"}"#), ("misspelt", "eu.piad", "{}")] {
        let publish = ["publish", "--exchange", "orders", "--key", key, "--message-id", id, body];
        broker.run(&publish).fails(1, &["it is kept in queue 'odd'"]);
    }
    let story = broker.run(&["journey", "order-8"]).ok();
    for words in [
        "refused: a message with routing key 'eu.paid' does not fit the schema for '*.paid'",
        "\n  body.price: expected a number, got \"12\"\n  hint: the schema says so at",
        "✗ refused to guest",
        "(body.price: expected a number, got \"12\")",
    ] {
        assert!(story.contains(words), "'{words}' is not in: {story}");
    }
    let receipts = broker.run(&["receipts", "order-8"]).ok();
    assert!(receipts.contains("body.price") && !receipts.contains("FOR"), "no queue had it: {receipts}");
    let json = broker.run(&["receipts", "order-8", "--json"]).json();
    assert_eq!(json[0]["refusal"]["field"], "body.price");
    let story = broker.run(&["journey", "misspelt"]).ok();
    for words in ["✗ refused", "did you mean 'eu.paid'"] {
        assert!(story.contains(words), "'{words}' is not in: {story}");
    }
}

#[test]
fn whoever_publishes_a_message_without_an_id_is_told_the_one_that_the_broker_made() {
    let broker = Broker::start();
    broker.queue("q");
    let publish = |more: &[&str]| broker.run(&[&["publish", "--key", "q"][..], more].concat());
    let nothing = "confirmed: 1 (synced), returned: 0, refused: 0\n";
    assert_eq!(publish(&["body"]).ok(), nothing, "journeys are kept of nothing");
    assert_eq!(publish(&["body", "--json"]).json()["id"], serde_json::Value::Null);
    broker.run(&["journeys", "on", "--queue", "q", "--key", "q"]).ok();
    let told = publish(&["body"]).ok();
    let id = told.trim_end().strip_prefix("confirmed: 1 (synced), returned: 0, refused: 0, id: ").unwrap();
    assert_eq!(broker.run(&["receipts", id, "--json"]).json()[0]["id"], id);
    let json = publish(&["body", "--json"]).json();
    let other = json["id"].as_str().unwrap();
    assert!(other > id, "{other} is newer than {id}");
    assert_eq!(state(&broker, other), ("pending".to_owned(), 0));
    // One that has a name is asked for by it; programs are told both.
    assert_eq!(publish(&["body", "--message-id", "mine"]).ok(), nothing);
    let json = publish(&["body", "--message-id", "yours", "--json"]).json();
    assert_eq!(broker.run(&["receipts", "yours", "--json"]).json()[0]["id"], json["id"]);
    // Lines may be many, and have no names of their own.
    let lines = broker.run_with_input(&["publish", "--key", "q", "--lines"], b"a\nb\n").ok();
    assert_eq!(lines, nothing.replace('1', "2"));
}

/// State of a message in its only queue, and how often it was sent.
fn state(broker: &Broker, id: &str) -> (String, u64) {
    let json = broker.run(&["receipts", id, "--json"]).json();
    let receipt = &json[0]["receipts"][0];
    (receipt["state"].as_str().unwrap().to_owned(), receipt["deliveries"].as_u64().unwrap())
}

fn publish(broker: &Broker, queue: &str, id: &str) {
    broker.run(&["publish", "--key", queue, "--message-id", id, "body"]).ok();
}

fn files(journeys: &Path) -> Vec<Vec<u8>> {
    let entries = journeys.read_dir().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    entries.into_iter().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// Waits until the broker has written a story to its disk, and with it all that was told before.
fn await_written(journeys: &Path, id: &str) {
    let is_written = |bytes: &Vec<u8>| bytes.windows(id.len()).any(|word| word == id.as_bytes());
    while !files(journeys).iter().any(is_written) {
        std::thread::yield_now();
    }
}

#[test]
fn stories_on_disk_go_on_after_the_broker_was_killed() {
    let mut broker = Broker::start_with(&["--journey-store", "disk"]);
    let journeys = broker.data().join("journeys");
    broker.queue("q");
    broker.run(&["journeys", "on"]).ok();
    publish(&broker, "q", "first");
    assert_eq!(broker.run(&["consume", "q", "--raw", "--count", "1"]).ok(), "body\n");
    publish(&broker, "q", "second");
    assert_eq!(state(&broker, "first"), ("accepted".to_owned(), 1));
    publish(&broker, "q", "marker");
    await_written(&journeys, "marker");
    broker.kill_and_restart();
    assert_eq!(state(&broker, "first"), ("accepted".to_owned(), 1));
    assert_eq!(state(&broker, "second"), ("pending".to_owned(), 0));

    broker.run(&["consume", "q", "--raw", "--count", "1"]).ok();
    assert_eq!(state(&broker, "second"), ("accepted".to_owned(), 1));
    let before = broker.run(&["journey", "second", "--json"]).json();
    // A clean stop has all of it.
    broker.stop();
    broker.restart();
    assert_eq!(broker.run(&["journey", "second", "--json"]).json(), before);
    assert!(!broker.run(&["journey", "first"]).ok().contains("not known"), "nothing was missed");

    broker.stop();
    let kept = files(&journeys);
    broker.restart_with(&["--journey-store", "memory"]);
    broker.run(&["receipts", "second"]).fails(1, &["nothing is kept of message 'second'"]);
    broker.stop();
    assert_eq!(files(&journeys), kept, "what is there is left alone");
    broker.restart_with(&["--journey-store", "disk"]);
    assert_eq!(state(&broker, "second"), ("accepted".to_owned(), 1));
    // What went unseen meanwhile is not made up.
    broker.stop();
    broker.restart_with(&["--journey-store", "memory"]);
    broker.run(&["consume", "q", "--raw", "--count", "1"]).ok();
    broker.stop();
    broker.restart_with(&["--journey-store", "disk"]);
    assert_eq!(state(&broker, "marker").0, "unknown");
    assert!(broker.run(&["journey", "marker"]).ok().contains("not known any more"));
}

#[test]
fn queues_that_end_with_the_broker_take_their_messages_with_them_and_it_is_told() {
    let mut broker = Broker::start_with(&["--journey-store", "disk"]);
    broker.run(&["declare", "queue", "passing", "--transient"]).ok();
    broker.run(&["journeys", "on"]).ok();
    publish(&broker, "passing", "lost");
    broker.stop();
    broker.restart();
    assert_eq!(state(&broker, "lost"), ("queue deleted".to_owned(), 0));
}

#[test]
fn journeys_that_are_damaged_are_told_and_keep_nobody_from_starting() {
    let mut broker = Broker::start_with(&["--journey-store", "disk"]);
    broker.queue("q");
    broker.run(&["journeys", "on"]).ok();
    publish(&broker, "q", "old");
    broker.stop();
    let file = broker.data().join("journeys/0000000001.journeys");
    std::fs::write(&file, b"nothing that a broker has written").unwrap();
    broker.restart();
    broker.run(&["receipts", "old"]).fails(1, &["nothing is kept"]);
    publish(&broker, "q", "new");
    assert_eq!(state(&broker, "new"), ("pending".to_owned(), 0));
    assert_eq!(broker.messages("q"), (2, 0));
    broker.stop();
    broker.restart();
    assert_eq!(state(&broker, "new"), ("pending".to_owned(), 0));
}

#[test]
fn a_backup_has_the_stories_that_were_on_disk() {
    let mut broker = Broker::start_with(&["--journey-store", "disk"]);
    broker.queue("q");
    broker.run(&["journeys", "on"]).ok();
    publish(&broker, "q", "waiting");
    publish(&broker, "q", "marker");
    await_written(&broker.data().join("journeys"), "marker");
    let elsewhere = tempfile::tempdir().unwrap();
    let (data, backup) = (broker.data(), elsewhere.path().join("backup"));
    let (data, backup) = (data.to_str().unwrap(), backup.to_str().unwrap());
    run(leveret(&["backup", data, backup])).ok();
    // This is not in it.
    broker.run(&["consume", "q", "--raw", "--count", "1"]).ok();
    broker.stop();
    run(leveret(&["log", "check", data])).ok();
    let dump = run(leveret(&["log", "dump", data])).fails(2, &["catalog"]);
    assert!(!dump.stderr.contains("journeys"), "{}", dump.stderr);
    std::fs::remove_dir_all(data).unwrap();
    run(leveret(&["restore", backup, data])).ok();
    broker.restart();
    assert_eq!(state(&broker, "waiting"), ("pending".to_owned(), 0));
    broker.run(&["consume", "q", "--raw", "--count", "1"]).ok();
    assert_eq!(state(&broker, "waiting"), ("accepted".to_owned(), 1));
}
