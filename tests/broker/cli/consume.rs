//! Consuming: what is printed, what is accepted, how it ends.

use std::io::{BufRead, BufReader, Read};

use serde_json::{Value, json};

use crate::support::{Broker, finish, interrupt};

#[test]
fn a_count_is_kept_and_the_rest_is_untouched() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b", "c", "d", "e"]);
    assert_eq!(broker.run(&["consume", "orders", "--count", "2", "--raw"]).ok(), "a\nb\n");
    assert_eq!(broker.messages("orders"), (3, 0));
    let rest = broker.run(&["consume", "orders", "--count", "3", "--json"]).ok();
    let rest: Vec<Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rest.iter().map(|message| &message["body"]).collect::<Vec<_>>(), ["c", "d", "e"]);
    assert!(rest.iter().all(|message| message["redelivered"] == false), "{rest:?}");
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn a_small_prefetch_does_not_get_in_the_way_of_a_count() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b", "c", "d", "e"]);
    assert_eq!(
        broker.run(&["consume", "orders", "--count", "4", "--prefetch", "1", "--raw"]).ok(),
        "a\nb\nc\nd\n"
    );
    let message = broker.run(&["get", "orders", "--json"]).json();
    assert_eq!((&message["body"], &message["redelivered"]), (&json!("e"), &json!(false)));
}

#[test]
fn it_ends_when_nothing_comes() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b"]);
    assert_eq!(broker.run(&["consume", "orders", "--raw", "--idle-exit", "0.3"]).ok(), "a\nb\n");
    assert_eq!(broker.messages("orders"), (0, 0));

    broker.queue_of("orders", &["c"]);
    let outcome = broker.run(&["consume", "orders", "--raw", "--idle-exit", "0.3", "--count", "3"]);
    let outcome = outcome.fails(1, &["only 1 of 3 messages"]);
    assert_eq!(outcome.stdout, "c\n");
    assert_eq!(broker.messages("orders"), (0, 0), "what was printed was accepted");
}

#[test]
fn people_read_lines_and_programs_json() {
    let broker = Broker::start();
    broker.run(&["declare", "exchange", "news", "--type", "fanout"]).ok();
    broker.queue("orders");
    broker.run(&["bind", "news", "orders"]).ok();
    let publish = ["publish", "--exchange", "news", "--key", "k.1", "--header", "n:int=5", "a\tb\u{1b}[31m"];
    broker.run(&publish).ok();
    broker.run(&publish).ok();
    assert_eq!(
        broker.run(&["consume", "orders", "--count", "1"]).ok(),
        "1  k.1  a\\tb\\u{1b}[31m  (exchange news; n:int=5)\n"
    );
    let mut message = broker.run(&["consume", "orders", "--count", "1", "--json"]).json();
    let received = message.as_object_mut().unwrap().remove("received_at_ms").unwrap();
    assert!(received.as_u64().unwrap() > 1_700_000_000_000, "{received}");
    assert_eq!(
        message,
        json!({
            "exchange": "news", "routing_key": "k.1", "body": "a\tb\u{1b}[31m", "headers": { "n": 5 },
            "properties": {}, "redelivered": false, "delivery_count": 0, "resent": false,
        })
    );
}

#[test]
fn a_body_that_is_no_text_stays_what_it_is() {
    let broker = Broker::start();
    broker.queue("orders");
    let publish = ["publish", "--key", "orders", "--file", "-"];
    broker.run_with_input(&publish, &[0xff, 0xfe, 0xfd]).ok();
    let message = broker.run(&["consume", "orders", "--count", "1", "--json"]).json();
    assert_eq!(message["body_base64"], "//79");
    assert!(message.get("body").is_none());
}

#[test]
fn ctrl_c_ends_it_clean() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b"]);
    let mut consume = broker.leveret(&["consume", "orders", "--raw"]).spawn().unwrap();
    let mut lines = BufReader::new(consume.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "a");
    assert_eq!(lines.next().unwrap().unwrap(), "b");
    interrupt(&consume);
    let outcome = finish(consume);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn ctrl_c_before_the_count_is_a_failure() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a"]);
    let mut consume = broker.leveret(&["consume", "orders", "--raw", "--count", "2"]).spawn().unwrap();
    let mut lines = BufReader::new(consume.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "a");
    interrupt(&consume);
    finish(consume).fails(1, &["interrupted after 1 of 2 messages"]);
    assert_eq!(broker.messages("orders"), (0, 0), "what was printed was accepted");
}

#[test]
fn what_could_not_be_written_is_not_accepted() {
    let broker = Broker::start();
    let large = "x".repeat(100_000);
    broker.queue_of("orders", &[&large, &large, &large, &large, &large]);
    let mut consume = broker.leveret(&["consume", "orders", "--raw", "--prefetch", "1"]).spawn().unwrap();
    let mut stdout = consume.stdout.take().unwrap();
    let mut first = vec![0; large.len() + 1];
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let outcome = finish(consume);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "whoever reads may stop reading");
    let (ready, unacknowledged) = broker.messages("orders");
    assert_eq!((ready, unacknowledged), (4, 0));
}

#[test]
fn without_acknowledgements_nothing_more_than_the_count_is_lost() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b", "c"]);
    assert_eq!(broker.run(&["consume", "orders", "--no-ack", "--count", "1", "--raw"]).ok(), "a\n");
    assert_eq!(broker.messages("orders"), (2, 0));
    assert_eq!(broker.run(&["consume", "orders", "--no-ack", "--idle-exit", "0.3", "--raw"]).ok(), "b\nc\n");
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn consumers_are_listed_while_they_live() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a"]);
    let consume = broker.leveret(&["consume", "orders", "--raw", "--count", "2", "--prefetch", "7"]).spawn();
    let mut consume = consume.unwrap();
    let mut lines = BufReader::new(consume.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "a");
    let consumers = broker.run(&["list", "consumers", "--json"]).json();
    assert_eq!(consumers.as_array().unwrap().len(), 1);
    assert_eq!((&consumers[0]["queue"], &consumers[0]["no_ack"]), (&json!("orders"), &json!(false)));
    assert!(broker.run(&["list", "consumers"]).ok().contains("orders"));
    broker.run(&["delete", "queue", "orders", "--if-unused"]).fails(1, &["406"]);
    broker.run(&["delete", "queue", "orders"]).ok();
    finish(consume).fails(1, &["error: ", "ended the consumer"]);
}

#[test]
fn a_queue_that_is_not_there_is_a_failure() {
    let broker = Broker::start();
    broker.run(&["consume", "nowhere"]).fails(1, &["404", "nowhere"]);
}

#[test]
fn a_consumer_of_a_higher_priority_comes_first_and_lists_show_who_is_active() {
    let broker = Broker::start();
    broker.run(&["consume", "q", "--priority", "high"]).fails(2, &["expected a whole number"]);
    broker.run(&["declare", "queue", "q", "--single-active-consumer"]).ok();
    let mut children = Vec::new();
    for (name, priority) in [("low", "-1"), ("high", "10")] {
        let consume = ["consume", "q", "--raw", "--prefetch", "1", "--priority", priority, "--name", name];
        children.push(broker.leveret(&consume).spawn().unwrap());
        while consumers(&broker).len() < children.len() {}
    }
    let told: Vec<_> = consumers(&broker)
        .iter()
        .map(|entry| (entry["tag"].clone(), entry["priority"].clone(), entry["active"].clone()))
        .collect();
    assert!(told.contains(&(json!("high"), json!(10), json!(true))), "{told:?}");
    assert!(told.contains(&(json!("low"), json!(-1), json!(false))), "{told:?}");
    let table = broker.run(&["list", "consumers"]).ok();
    let features = |name: &str| {
        table.lines().find(|line| line.contains(name)).map(|line| line.trim_end().rsplit(' ').next().unwrap())
    };
    assert_eq!((features("high"), features("low")), (Some("active"), Some("waiting")), "{table}");
    broker.run(&["publish", "--key", "q", "m"]).ok();
    let mut line = String::new();
    BufReader::new(children[1].stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "m\n");
    for child in children {
        interrupt(&child);
        finish(child);
    }
}

fn consumers(broker: &Broker) -> Vec<Value> {
    let listed = broker.run(&["list", "consumers", "--json"]).json();
    listed.as_array().unwrap().clone()
}
