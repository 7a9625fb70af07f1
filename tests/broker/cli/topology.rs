//! Declaring, binding, listing, deleting.

use serde_json::{Value, json};

use crate::support::Broker;

fn entry<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|entry| entry["name"] == name).expect(name)
}

#[test]
fn queues_are_declared_listed_and_deleted() {
    let broker = Broker::start();
    assert_eq!(
        broker.run(&["declare", "queue", "orders"]).ok(),
        "queue 'orders' is there (ready messages: 0, consumers: 0)\n"
    );
    broker.run(&["declare", "queue", "scratch", "--transient", "--auto-delete"]).ok();
    let declared = broker.run(&["declare", "queue", "orders", "--json"]).json();
    assert_eq!(declared, json!({ "name": "orders", "messages_ready": 0, "consumers": 0 }));

    let queues = broker.run(&["list", "queues", "--json"]).json();
    let orders = entry(&queues, "orders");
    assert_eq!(orders["type"], "classic");
    assert_eq!((&orders["durable"], &orders["auto_delete"]), (&json!(true), &json!(false)));
    assert_eq!((&orders["messages_ready"], &orders["consumers"]), (&json!(0), &json!(0)));
    let scratch = entry(&queues, "scratch");
    assert_eq!((&scratch["durable"], &scratch["auto_delete"]), (&json!(false), &json!(true)));

    let table = broker.run(&["list", "queues"]).ok();
    assert!(table.starts_with("NAME"), "{table}");
    assert!(
        table.lines().any(|line| line.starts_with("scratch") && line.contains("transient auto-delete")),
        "{table}"
    );

    assert_eq!(
        broker.run(&["delete", "queue", "orders"]).ok(),
        "there is no queue 'orders' any more (ready messages gone with it: 0)\n"
    );
    broker.run(&["delete", "queue", "orders", "--if-exists"]).ok();
    assert_eq!(broker.run(&["list", "queues", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn a_queue_that_is_there_and_differs_is_refused() {
    let broker = Broker::start();
    broker.queue("orders");
    let outcome = broker.run(&["declare", "queue", "orders", "--transient"]);
    outcome.fails(1, &["error: 406 PRECONDITION_FAILED", "orders", "durable", "expected", "got"]);
}

#[test]
fn the_broker_names_a_queue_without_a_name() {
    let broker = Broker::start();
    let declared = broker.run(&["declare", "queue", "", "--json"]).json();
    assert!(declared["name"].as_str().unwrap().starts_with("amq.gen-"), "{declared}");
}

#[test]
fn an_exclusive_queue_goes_with_the_command() {
    let broker = Broker::start();
    let outcome = broker.run(&["declare", "queue", "mine", "--exclusive"]);
    assert!(outcome.stderr.contains("gone again"), "{outcome:?}");
    outcome.ok();
    assert_eq!(broker.run(&["list", "queues", "--json"]).json(), json!([]));
}

#[test]
fn exchanges_are_declared_listed_and_deleted() {
    let broker = Broker::start();
    let declare = ["declare", "exchange", "orders", "--type", "topic", "--alternate-exchange", "rest"];
    assert_eq!(broker.run(&declare).ok(), "exchange 'orders' is there (topic)\n");
    broker.run(&["declare", "exchange", "rest", "--type", "fanout", "--durable", "false", "--internal"]).ok();

    let exchanges = broker.run(&["list", "exchanges", "--json"]).json();
    let orders = entry(&exchanges, "orders");
    assert_eq!((&orders["type"], &orders["durable"]), (&json!("topic"), &json!(true)));
    assert_eq!(orders["arguments"], json!({ "alternate-exchange": "rest" }));
    let rest = entry(&exchanges, "rest");
    assert_eq!((&rest["durable"], &rest["internal"]), (&json!(false), &json!(true)));
    assert_eq!(entry(&exchanges, "amq.topic")["type"], "topic");

    let table = broker.run(&["list", "exchanges"]).ok();
    assert!(table.contains("(default)") && table.contains("alternate-exchange=rest"), "{table}");

    broker
        .run(&["declare", "exchange", "orders", "--type", "direct"])
        .fails(1, &["406", "type", "topic", "direct"]);
    broker.run(&["declare", "exchange", "x", "--type", "topik"]).fails(2, &["'topik'", "'topic'"]);
    broker.run(&["declare", "exchange", "amq.mine", "--type", "topic"]).fails(1, &["403", "amq."]);
    broker.run(&["delete", "exchange", "orders"]).ok();
    let exchanges = broker.run(&["list", "exchanges", "--json"]).json();
    assert!(exchanges.as_array().unwrap().iter().all(|entry| entry["name"] != "orders"));
}

#[test]
fn bindings_are_made_listed_and_taken_away() {
    let broker = Broker::start();
    broker.queue("eu");
    broker.run(&["declare", "exchange", "orders", "--type", "topic"]).ok();
    broker.run(&["declare", "exchange", "audit", "--type", "headers"]).ok();
    assert_eq!(
        broker.run(&["bind", "orders", "eu", "--key", "*.eu"]).ok(),
        "bound: exchange 'orders' to queue 'eu' with key '*.eu'\n"
    );
    broker.run(&["bind", "orders", "audit", "--key", "#", "--to-exchange"]).ok();
    broker.run(&["bind", "audit", "eu", "--header", "x-match=any", "--header", "n:int=5"]).ok();

    let bindings = broker.run(&["list", "bindings", "--json"]).json();
    let has = |wanted: Value| bindings.as_array().unwrap().contains(&wanted);
    let binding = |source: &str, kind: &str, destination: &str, key: &str, arguments: Value| {
        json!({
            "source": source, "destination_type": kind, "destination": destination,
            "routing_key": key, "arguments": arguments,
        })
    };
    assert!(has(binding("orders", "queue", "eu", "*.eu", json!({}))), "{bindings}");
    assert!(has(binding("orders", "exchange", "audit", "#", json!({}))), "{bindings}");
    assert!(has(binding("audit", "queue", "eu", "", json!({ "x-match": "any", "n": 5 }))), "{bindings}");
    assert!(broker.run(&["list", "bindings"]).ok().contains("n:int=5 x-match=any"));

    broker.run(&["delete", "exchange", "orders", "--if-unused"]).fails(1, &["406"]);
    broker.run(&["unbind", "orders", "eu", "--key", "*.eu"]).ok();
    broker.run(&["unbind", "orders", "audit", "--key", "#", "--to-exchange"]).ok();
    broker.run(&["delete", "exchange", "orders", "--if-unused"]).ok();

    broker.run(&["bind", "audit", "nowhere"]).fails(1, &["404", "nowhere"]);
    broker.run(&["bind", "nothing", "eu"]).fails(1, &["404", "nothing"]);
}

#[test]
fn purging_and_conditions_of_deleting_look_at_messages() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b"]);
    broker.run(&["delete", "queue", "orders", "--if-empty"]).fails(1, &["406", "orders"]);
    assert_eq!(
        broker.run(&["purge", "orders", "--json"]).json(),
        json!({ "name": "orders", "messages_dropped": 2 })
    );
    assert_eq!(broker.run(&["purge", "orders"]).ok(), "dropped from queue 'orders': 0\n");
    let deleted = broker.run(&["delete", "queue", "orders", "--if-empty", "--if-unused", "--json"]).json();
    assert_eq!(deleted, json!({ "name": "orders", "messages_ready": 0 }));
    broker.run(&["purge", "orders"]).fails(1, &["404", "orders"]);
}

#[test]
fn connections_are_listed() {
    let broker = Broker::start();
    let connections = broker.run(&["list", "connections", "--json"]).json();
    let own = &connections.as_array().unwrap()[0];
    assert_eq!((&own["user"], &own["vhost"]), (&json!("guest"), &json!("/")));
    assert!(own["name"].as_str().unwrap().starts_with("leveret command"), "{own}");
    assert!(own["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{own}");
    assert!(broker.run(&["list", "connections"]).ok().contains("guest"));
}

#[test]
fn an_auto_delete_exchange_goes_with_a_restart_that_takes_its_last_binding() {
    let end: [fn(&mut Broker); 2] = [Broker::kill, Broker::stop];
    for end in end {
        let mut broker = Broker::start();
        let run = |command: &str| drop(broker.run(&command.split(' ').collect::<Vec<_>>()).ok());
        run("declare queue stays");
        run("declare queue goes --transient");
        for exchange in ["before", "last", "bound-otherwise", "never-bound"] {
            run(&format!("declare exchange {exchange} --type fanout --auto-delete"));
        }
        run("bind before last --to-exchange");
        run("bind last goes");
        run("bind bound-otherwise goes");
        run("bind bound-otherwise stays");
        end(&mut broker);
        // What was decided at the first start is there at the second.
        for _ in 0..2 {
            broker.restart();
            let exchanges = broker.run(&["list", "exchanges", "--json"]).json();
            let names = exchanges.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap());
            let ours: Vec<_> = names.filter(|name| !name.is_empty() && !name.starts_with("amq.")).collect();
            assert_eq!(ours, ["bound-otherwise", "never-bound"]);
            broker.kill();
        }
    }
}

#[test]
fn an_exchange_with_a_list_of_keys_refuses_others_and_says_what_was_meant() {
    let broker = Broker::start();
    let declare =
        ["declare", "exchange", "events", "--type", "topic", "--allow", "order.*", "--allow", "chore.#"];
    assert_eq!(broker.run(&declare).ok(), "exchange 'events' is there (topic)\n");
    broker.queue("all");
    broker.run(&["bind", "events", "all", "--key", "#"]).ok();
    broker.run(&["publish", "--exchange", "events", "--key", "order.created", "first"]).ok();
    broker.run(&["publish", "--exchange", "events", "--key", "ordr.created", "second"]).fails(
        1,
        &["406", "events", "ordr.created", "did you mean 'order.created', which 'order.*' allows?"],
    );
    assert_eq!(broker.messages("all"), (1, 0));

    let tree = broker.run(&["explain", "--exchange", "events", "--key", "ordr.created"]).ok();
    let expect = "'ordr.created' to exchange 'events' (topic)\n\
                  └── ✗ refused: key 'ordr.created' is not allowed, only a key that matches 'chore.#' or 'order.*'; \
                  did you mean 'order.created', which 'order.*' allows?\n\
                  reaches no queue: the publisher is told that it is refused\n";
    assert_eq!(tree, expect);
    let json = broker.run(&["explain", "--exchange", "events", "--key", "ordr.created", "--json"]).json();
    assert!(json["exchanges"][0]["refused"].as_str().unwrap().contains("did you mean"), "{json}");

    let table = broker.run(&["list", "exchanges"]).ok();
    let line = table.lines().find(|line| line.starts_with("events")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..4], ["events", "topic", "1", "1"], "{table}");
    assert!(line.ends_with(r#"x-allowed-keys:json=["order.*","chore.#"]"#), "{table}");
    let exchanges = broker.run(&["list", "exchanges", "--json"]).json();
    assert_eq!(entry(&exchanges, "events")["refused_total"], 1);
}

#[test]
fn lists_of_keys_that_make_no_sense_are_refused() {
    let broker = Broker::start();
    let declare =
        |more: &[&str]| broker.run(&[&["declare", "exchange", "events", "--type", "topic"], more].concat());
    declare(&["--allow", "#.#.#"]).fails(1, &["406", "x-allowed-keys", "'#.#.#'", "2 '#' at most"]);
    declare(&["--argument", "x-allowed-keys=order.*"]).fails(1, &["406", "is one value", "hint"]);
    declare(&["--argument", "x-allowed-keys:json=[]"]).fails(1, &["406", "would refuse every message"]);
    declare(&["--internal", "--allow", "a"]).fails(1, &["406", "internal exchange"]);
    declare(&["--argument", "x-alowed-keys:json=[]"]).fails(2, &["did you mean 'x-allowed-keys'?"]);
    let both = ["--allow", "a", "--argument", r#"x-allowed-keys:json=["b"]"#];
    declare(&both).fails(2, &["which one counts?"]);
    let exchanges = broker.run(&["list", "exchanges", "--json"]).json();
    assert!(exchanges.as_array().unwrap().iter().all(|exchange| exchange["name"] != "events"), "{exchanges}");
}
