//! Copying and moving over the command line.

use std::collections::BTreeSet;
use std::io::{Read, Seek};
use std::process::Stdio;

use crate::support::{Broker, finish, interrupt};

/// What `leveret browse` shows of a queue.
fn bodies(broker: &Broker, queue: &str) -> Vec<String> {
    let shown = broker.run(&["browse", queue, "--bodies", "--json"]).ok();
    let body = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        message["body"].as_str().unwrap().to_owned()
    };
    shown.lines().map(body).collect()
}

#[test]
fn a_copy_leaves_everything_as_it_is() {
    let broker = Broker::start();
    broker.queue_of("a", &["1", "2", "3"]);
    broker.queue("b");
    let told = broker.run(&["copy", "a", "b", "--dry-run"]).ok();
    assert_eq!(told, "from queue 'a' to queue 'b': found: 3, and nothing done\n");
    assert_eq!(broker.messages("b"), (0, 0));
    let told = broker.run(&["copy", "a", "b", "--limit", "2"]).ok();
    assert_eq!(told, "from queue 'a' to queue 'b': copied: 2\n");
    assert_eq!((bodies(&broker, "a"), bodies(&broker, "b")), (texts(&["1", "2", "3"]), texts(&["1", "2"])));
    let found = |older: &str| broker.run(&["copy", "a", "b", "--dry-run", "--json", "--older-than", older]);
    assert_eq!(found("1h").json()["found"], 0, "nothing is so old");
    let younger = ["browse", "a", "--newer-than", "1h", "--json"];
    assert_eq!(broker.run(&younger).ok().lines().count(), 3);
    found("1 week").fails(2, &["500ms, 90s, 15m, 12h or 7d"]);
    broker.run(&["copy", "a", "a"]).fails(2, &["in this queue already"]);
    broker.run(&["copy", "a"]).fails(2, &["--exchange"]);
    broker.run(&["move", "a", "bb"]).fails(1, &["bb"]);
    broker.run(&["move", "nowhere", "b"]).fails(1, &["nowhere"]);
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// What fits is there, in order and with its properties, and stays there when the broker dies; the rest is where it was.
#[test]
fn what_is_moved_is_in_its_new_place_and_nowhere_else() {
    let mut broker = Broker::start();
    broker.run(&["declare", "exchange", "x", "--type", "topic"]).ok();
    for (queue, pattern) in [("all", "#"), ("eu", "eu.*"), ("late", "*.late")] {
        broker.queue(queue);
        if queue != "all" {
            broker.run(&["bind", "x", queue, "--key", pattern]).ok();
        }
    }
    broker.run(&["declare", "exchange", "first", "--type", "fanout"]).ok();
    broker.run(&["bind", "first", "all"]).ok();
    for (key, body) in
        [("eu.paid", "1"), ("eu.late", "2"), ("us.late", "3"), ("us.paid", "4"), ("eu.paid", "5")]
    {
        let publish = ["publish", "--exchange", "first", "--key", key, "--header", "shape=round", body];
        broker.run(&publish).ok();
    }
    let told = broker.run(&["move", "all", "--exchange", "x", "--key", "eu.*", "--json"]).json();
    assert_eq!((told["moved"].as_u64(), told["taken_meanwhile"].as_u64()), (Some(3), Some(0)));
    let check = |broker: &Broker| {
        assert_eq!(bodies(broker, "all"), texts(&["3", "4"]));
        assert_eq!(bodies(broker, "eu"), texts(&["1", "2", "5"]));
        assert_eq!(bodies(broker, "late"), texts(&["2"]));
    };
    check(&broker);
    let listed = broker.run(&["list", "queues", "--json"]).json();
    let all = listed.as_array().unwrap().iter().find(|queue| queue["name"] == "all").unwrap();
    assert_eq!((all["moved_total"].as_u64(), all["accepted_total"].as_u64()), (Some(3), Some(0)));
    broker.kill_and_restart();
    check(&broker);
    let shown = broker.run(&["browse", "eu", "--header", "shape=round"]).ok();
    assert!(shown.contains("eu.late") && shown.contains("shown: 3, "), "{shown}");

    // What reaches no queue stays: "4" is for nobody.
    broker.run(&["move", "all", "--exchange", "x"]).fails(1, &["led to no queue", "published there: 1"]);
    assert_eq!(bodies(&broker, "all"), texts(&["4"]));
    assert_eq!(bodies(&broker, "late"), texts(&["2", "3"]));
}

/// The broker dies in the middle of it: each message is in one of both places, or in both.
#[test]
fn a_move_that_is_cut_off_loses_nothing() {
    const MESSAGES: usize = 20_000;
    let mut broker = Broker::start();
    let numbers: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    broker.queue("a");
    broker.queue("b");
    broker.run_with_input(&["publish", "--key", "a", "--lines"], numbers.join("\n").as_bytes()).ok();
    let mut moving = broker.leveret(&["move", "a", "b"]);
    let moving = moving.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while broker.messages("b").0 == 0 {
        std::thread::yield_now();
    }
    broker.kill();
    finish(moving);
    broker.restart();
    let (left, there) = (bodies(&broker, "a"), bodies(&broker, "b"));
    let all: BTreeSet<&String> = left.iter().chain(&there).collect();
    assert_eq!(all.len(), MESSAGES, "in neither place: {}", MESSAGES - all.len());
    broker.run(&["move", "a", "b"]).ok();
    assert_eq!(broker.messages("a"), (0, 0));
    assert_eq!(bodies(&broker, "b").iter().collect::<BTreeSet<_>>().len(), MESSAGES);
}

/// A consumer takes messages while they are moved: each is in one of both hands at least, and the command tells how many are in both.
#[test]
fn what_consumers_take_while_it_is_moved_is_told() {
    const MESSAGES: usize = 20_000;
    let broker = Broker::start();
    let numbers: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    broker.queue("a");
    broker.queue("b");
    broker.run_with_input(&["publish", "--key", "a", "--lines"], numbers.join("\n").as_bytes()).ok();
    let mut consuming = broker.leveret(&["consume", "a", "--raw"]);
    // A pipe has no room for all of them.
    let mut shown = tempfile::tempfile().unwrap();
    let stdout = shown.try_clone().unwrap();
    let consuming = consuming.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let moved = broker.run(&["move", "a", "b", "--json"]);
    while broker.messages("a") != (0, 0) {
        std::thread::yield_now();
    }
    interrupt(&consuming);
    finish(consuming).ok();
    let mut consumed = String::new();
    shown.rewind().unwrap();
    shown.read_to_string(&mut consumed).unwrap();
    let consumed: BTreeSet<&str> = consumed.lines().collect();
    let there = bodies(&broker, "b");
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    assert_eq!(consumed.union(&there).count(), MESSAGES);
    let both = consumed.intersection(&there).count() as u64;
    let told: serde_json::Value = serde_json::from_str(moved.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(told["taken_meanwhile"].as_u64(), Some(both));
    assert_eq!(told["moved"].as_u64(), Some(there.len() as u64 - both));
    match both {
        0 => drop(moved.ok()),
        _ => drop(moved.fails(1, &["consumers took them while they were published"])),
    }
}

#[test]
fn a_receipt_tells_that_a_message_was_moved() {
    let broker = Broker::start();
    broker.queue("a");
    broker.queue("b");
    broker.run(&["journeys", "on", "--queue", "a"]).ok();
    broker.run(&["publish", "--key", "a", "--message-id", "m", "x"]).ok();
    broker.run(&["move", "a", "b"]).ok();
    assert!(broker.run(&["receipts", "m"]).ok().contains("moved"));
    let journey = broker.run(&["journey", "m"]).ok();
    assert!(journey.contains("✓ moved"), "{journey}");
}

/// To a queue it is for that one; to an exchange it goes as it was published.
#[test]
fn what_moves_to_a_queue_goes_to_no_other_one() {
    let broker = Broker::start();
    for queue in ["a", "b", "others"] {
        broker.run(&["declare", "queue", queue]).ok();
    }
    let cc = r#"CC:json=["others"]"#;
    broker.run(&["publish", "--key", "a", "--header", cc, "m"]).ok();
    assert_eq!(broker.messages("others"), (1, 0));
    broker.run(&["copy", "a", "--exchange", ""]).ok();
    assert_eq!((broker.messages("a"), broker.messages("others")), ((2, 0), (2, 0)));
    broker.run(&["move", "a", "b"]).ok();
    assert_eq!((broker.messages("b"), broker.messages("others")), ((2, 0), (2, 0)));
}
