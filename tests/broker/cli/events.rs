//! Events about what left queues without a consumer having wanted it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Broker;

/// A broker that tells of departures in queue `log`.
fn telling() -> Broker {
    let broker = Broker::start();
    broker.run(&["declare", "exchange", "leveret.events", "--type", "topic"]).ok();
    broker.queue("log");
    broker.run(&["bind", "leveret.events", "log", "--key", "message.#"]).ok();
    broker
}

/// Publishes so many messages to a queue that is there.
#[track_caller]
fn publish(broker: &Broker, queue: &str, messages: u64) {
    let lines = "line\n".repeat(messages as usize);
    broker.run_with_input(&["publish", "--key", queue, "--lines"], lines.as_bytes()).ok();
}

/// The next events that tell of so many messages together: how many by queue and routing key.
#[track_caller]
fn told(broker: &Broker, messages: u64) -> BTreeMap<(String, String), u64> {
    let mut told = BTreeMap::new();
    let mut sum = 0;
    while sum < messages {
        let event = next_event(broker);
        let count = event["headers"]["messages"].as_u64().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        *told.entry((text(&event["headers"]["queue"]), text(&event["routing_key"]))).or_insert(0) += count;
        sum += count;
    }
    assert_eq!(sum, messages, "{told:?}");
    told
}

#[track_caller]
fn next_event(broker: &Broker) -> Value {
    let line = broker.run(&["consume", "log", "--count", "1", "--json"]).ok();
    serde_json::from_str(&line).unwrap()
}

fn expected<const N: usize>(all: [(&str, &str, u64); N]) -> BTreeMap<(String, String), u64> {
    all.into_iter().map(|(queue, key, count)| ((queue.to_owned(), key.to_owned()), count)).collect()
}

#[test]
fn each_reason_for_which_messages_leave_is_told() {
    let broker = telling();
    let declare = |arguments: &[&str]| broker.run(&[&["declare", "queue"], arguments].concat()).ok();
    declare(&["fleeting", "--message-ttl", "0ms"]);
    declare(&["short", "--max-length", "1"]);
    declare(&["plain"]);
    declare(&["other"]);
    declare(&["dying", "--max-length", "1", "--dead-letter-exchange", "", "--dead-letter-key", "other"]);

    publish(&broker, "fleeting", 2);
    assert_eq!(told(&broker, 2), expected([("fleeting", "message.expired", 2)]));

    publish(&broker, "short", 3);
    assert_eq!(told(&broker, 2), expected([("short", "message.max_length", 2)]));

    broker.queue_of("plain", &["a", "b", "c"]);
    broker.run(&["purge", "plain"]).ok();
    let event = next_event(&broker);
    assert_eq!(event["routing_key"], "message.purged");
    let headers = &event["headers"];
    for (name, value) in [("vhost", "/"), ("queue", "plain"), ("reason", "purged")] {
        assert_eq!(headers[name], value);
    }
    assert_eq!((&headers["messages"], &headers["dead_letters"]), (&3.into(), &0.into()));
    let number = |name: &str| headers[name].as_u64().unwrap();
    assert_eq!(number("last_number") - number("first_number"), 2);

    broker.queue_of("plain", &["a"]);
    broker.run(&["move", "plain", "other"]).ok();
    assert_eq!(told(&broker, 1), expected([("plain", "message.moved", 1)]));

    // Where they go when they die they are stored, which is told, too.
    publish(&broker, "dying", 2);
    let all = [("dying", "message.max_length", 1), ("dying", "message.dead_lettered", 1)];
    assert_eq!(told(&broker, 2), expected(all));
    assert_eq!(broker.messages("other"), (2, 0));

    // What consumers accept is no event.
    broker.run(&["consume", "other", "--count", "2"]).ok();
    broker.run(&["purge", "short"]).ok();
    assert_eq!(told(&broker, 1), expected([("short", "message.purged", 1)]));
    assert_eq!(broker.messages("log"), (0, 0));
}

#[test]
fn events_about_queues_that_hold_events_are_none() {
    let broker = telling();
    let dead = ["--max-length", "1", "--dead-letter-exchange", "", "--dead-letter-key", "late"];
    broker.run(&[&["declare", "queue", "short"], &dead[..]].concat()).ok();
    broker.run(&["declare", "queue", "late", "--max-length", "1"]).ok();
    broker.run(&["bind", "leveret.events", "short", "--key", "message.*"]).ok();
    broker.queue("plain");
    for messages in 1..6 {
        publish(&broker, "plain", messages);
        broker.run(&["purge", "plain"]).ok();
        // Each makes the one before leave `short`, which makes one leave `late`: that would be told before the next one is.
        assert_eq!(told(&broker, messages), expected([("plain", "message.purged", messages)]));
    }
    assert_eq!(broker.messages("short"), (1, 0));
    assert_eq!(broker.messages("late"), (1, 0));
}

#[test]
fn nothing_is_told_to_nobody() {
    let broker = telling();
    broker.run(&["unbind", "leveret.events", "log", "--key", "message.#"]).ok();
    broker.queue_of("plain", &["a"]);
    broker.run(&["purge", "plain"]).ok();
    broker.run(&["bind", "leveret.events", "log", "--key", "message.#"]).ok();
    broker.queue_of("plain", &["b", "c"]);
    broker.run(&["purge", "plain"]).ok();
    assert_eq!(told(&broker, 2), expected([("plain", "message.purged", 2)]));
    let exchanges = broker.run(&["list", "exchanges", "--json"]).json();
    let events = exchanges.as_array().unwrap().iter().find(|exchange| exchange["name"] == "leveret.events");
    assert!(events.is_some());
}
