//! Messages seen again from the command line.

use serde_json::{Value, json};

use crate::support::Broker;

fn publish(broker: &Broker, queue: &str, bodies: &[&str]) {
    let lines: String = bodies.iter().map(|body| format!("{body}\n")).collect();
    broker.run_with_input(&["publish", "--key", queue, "--lines"], lines.as_bytes()).ok();
}

fn consume(broker: &Broker, queue: &str, count: usize) {
    broker.run(&["consume", queue, "--count", &count.to_string(), "--raw"]).ok();
}

#[track_caller]
fn replayed(broker: &Broker, arguments: &[&str]) -> Vec<String> {
    let shown = broker.run(&[&["replay", "--raw"], arguments].concat()).ok();
    shown.lines().map(str::to_owned).collect()
}

fn retained(broker: &Broker, queue: &str) -> u64 {
    let queues = broker.run(&["list", "queues", "--json"]).json();
    let entry = queues.as_array().unwrap().iter().find(|entry| entry["name"] == queue).unwrap();
    entry["messages_retained"].as_u64().unwrap()
}

#[test]
fn what_was_consumed_is_seen_again_though_the_broker_was_killed() {
    let mut broker = Broker::start();
    broker.run(&["declare", "queue", "a", "--retain-messages", "4"]).ok();
    publish(&broker, "a", &["1", "2", "3", "4", "5", "6", "7"]);
    consume(&broker, "a", 6);
    assert_eq!(replayed(&broker, &["a"]), ["3", "4", "5", "6"]);
    broker.kill_and_restart();
    assert_eq!(replayed(&broker, &["a"]), ["3", "4", "5", "6"]);
    assert_eq!(replayed(&broker, &["a", "--last", "2"]), ["5", "6"]);
    assert_eq!(replayed(&broker, &["a", "--after", "4", "--count", "1"]), ["5"]);
    assert_eq!(replayed(&broker, &["a", "--from", "1h", "--until", "9999-01-01T00:00:00Z"]).len(), 4);
    assert_eq!(replayed(&broker, &["a", "--until", "2020-01-01T00:00:00Z"]), [""; 0]);
    assert_eq!(broker.messages("a"), (1, 0), "nothing of the queue changed");
    let line = broker.run(&["replay", "a", "--last", "1", "--json"]).ok();
    let message: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&message["body"], &message["replayed"]), (&json!("6"), &json!(true)));

    broker.queue("b");
    let told = broker.run(&["copy", "a", "b", "--retained"]).ok();
    assert_eq!(told, "from queue 'a' to queue 'b': copied: 4\n");
    let again = broker.run(&["consume", "b", "--count", "4", "--raw"]).ok();
    assert_eq!(again, "3\n4\n5\n6\n");
    broker.run(&["move", "a", "b", "--retained"]).fails(2, &["left the queue already"]);
    assert_eq!(replayed(&broker, &["b"]), [""; 0], "a queue that retains nothing");
}

#[test]
fn a_subscription_is_told_to_retain_and_not_to_retain_any_more() {
    let broker = Broker::start();
    let tills = ["subscribe", "tills", "--declare-only"];
    let declare = |arguments: &[&str]| broker.run(&[&tills[..], arguments].concat()).ok();
    declare(&["--exchange", "amq.topic", "--each"]);
    for member in ["1", "2"] {
        declare(&["--durable", "--each", "--member", member]);
    }
    broker.run(&["publish", "--exchange", "amq.topic", "--key", "k", "before"]).ok();
    consume(&broker, "sub:tills:1", 1);
    assert_eq!(retained(&broker, "sub:tills:1"), 0);
    declare(&["--durable", "--each", "--retain-age", "1h", "--retain-messages", "9"]);
    let entries = broker.run(&["subscriptions", "--json"]).json();
    for entry in entries.as_array().unwrap() {
        assert_eq!(entry["retention"], json!({ "ms": 3_600_000, "messages": 9, "bytes": null }));
    }
    broker.run(&["publish", "--exchange", "amq.topic", "--key", "k", "x"]).ok();
    for (member, count) in [("1", 1), ("2", 2)] {
        consume(&broker, &format!("sub:tills:{member}"), count);
    }
    assert_eq!(replayed(&broker, &["tills", "--member", "1"]), ["x"]);
    assert_eq!(replayed(&broker, &["tills", "--member", "2"]), ["before", "x"], "all that left since");
    broker.run(&["replay", "tills"]).fails(2, &["say whose", "--member 1, --member 2"]);
    broker.run(&["replay", "nothing"]).fails(1, &["no queue and no subscription 'nothing'"]);
    declare(&["--durable", "--each", "--retain-nothing"]);
    assert_eq!((retained(&broker, "sub:tills:1"), retained(&broker, "sub:tills:2")), (0, 0));
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let broker = Broker::start();
    let declare = |arguments: &[&str]| broker.run(&[&["declare", "queue", "q"], arguments].concat());
    declare(&["--retain-messages", "0"]).fails(2, &["a whole number"]);
    declare(&["--retain-age", "0"]).fails(2, &["one second or more"]);
    declare(&["--argument", "x-retain-ms:int=-1"]).fails(1, &["406", "a whole number, 1 or more"]);
    declare(&["--argument", "x-retain-bytes=much"]).fails(1, &["406", "a whole number, 1 or more"]);
    declare(&["--transient", "--retain-bytes", "5"]).fails(1, &["406", "declare it durable"]);
    declare(&["--retain-bytes", "5"]).ok();
    declare(&["--retain-bytes", "6"]).fails(1, &["406", "x-retain-bytes", "received 6 but current is 5"]);
    declare(&[]).fails(1, &["406", "received none but current is 5"]);
    declare(&["--retain-bytes", "5"]).ok();
    broker.run(&["subscribe", "amq.topic", "--retain-age", "5m"]).fails(2, &["durable subscription"]);
}
