//! Durable subscriptions from the command line.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{Broker, finish, interrupt, leveret, run};

fn broker() -> Broker {
    let broker = Broker::start();
    broker.run(&["declare", "exchange", "orders", "--type", "topic"]).ok();
    broker
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[track_caller]
fn listed(broker: &Broker, name: &str) -> Value {
    broker.run(&["subscriptions", name, "--json"]).json()[0].take()
}

#[test]
fn a_till_that_was_dark_gets_what_it_missed_though_the_broker_was_killed() {
    let mut broker = broker();
    let before_ms = now_ms();
    let told =
        broker.run(&["subscribe", "billing", "--exchange", "orders", "--key", "*.paid", "--declare-only"]);
    assert_eq!(told.ok(), "subscription 'billing': queue 'sub:billing', messages that wait: 0\n");
    broker.run(&["publish", "--exchange", "orders", "--key", "eu.paid", "first"]).ok();
    let come = ["subscribe", "billing", "--durable", "--raw", "--name", "till 3"];
    let mut child = broker.leveret(&come).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    let there = listed(&broker, "billing");
    assert_eq!((&there["connected"], &there["dark_since_ms"]), (&json!(true), &Value::Null));
    assert_eq!(there["subscribers"][0]["connection_name"], "till 3");
    let table = broker.run(&["subscriptions"]).ok();
    assert!(table.contains("connected") && table.contains("127.0.0.1:"), "{table}");
    interrupt(&child);
    finish(child).ok();

    for body in ["second", "third"] {
        broker.run(&["publish", "--exchange", "orders", "--key", "us.paid", body]).ok();
    }
    broker.kill_and_restart();
    let dark = listed(&broker, "billing");
    assert_eq!((&dark["connected"], &dark["messages_ready"]), (&json!(false), &json!(2)), "{dark}");
    assert!(dark["dark_since_ms"].as_u64().is_some_and(|since| since > 0), "{dark}");
    let table = broker.run(&["subscriptions"]).ok();
    let heading = "NAME     MEMBER    STATE         LAG  OLDEST  UNACKED  OLDEST  CLIENT  LISTENS TO\n";
    assert!(table.starts_with(heading) && table.contains("dark for "), "{table}");
    let came = dark["oldest_ready_ms"].as_u64().unwrap();
    assert!(came >= before_ms && came <= now_ms(), "{dark}");
    assert_eq!(dark["oldest_unacknowledged_ms"], Value::Null);
    assert!(table.ends_with("orders *.paid\n"), "{table}");
    let back = broker.run(&["subscribe", "billing", "--durable", "--raw", "--count", "2"]);
    assert_eq!(back.ok(), "second\nthird\n");
    let told = broker.run(&["unsubscribe", "billing", "--json"]).json();
    assert_eq!(told, json!({ "name": "billing", "member": null, "messages_ready": 0 }));
    assert_eq!(broker.run(&["list", "queues", "--json"]).json(), json!([]));
}

#[test]
fn patterns_notes_and_members_are_changed_by_saying_them_again() {
    let broker = broker();
    let declare = |arguments: &[&str]| {
        broker.run(&[&["subscribe", "tills", "--declare-only"], arguments].concat()).ok()
    };
    let first = ["--exchange", "orders", "--each", "--expires-after", "60.5", "--annotate", "owner=ann"];
    assert_eq!(declare(&first), "subscription 'tills': nobody has joined\n");
    let empty = listed(&broker, "tills");
    assert_eq!((&empty["queue"], &empty["bindings"][0]["routing_key"]), (&Value::Null, &json!("#")));
    assert!(broker.run(&["subscriptions"]).ok().contains("(nobody)"));
    for member in ["1", "2"] {
        declare(&["--durable", "--each", "--member", member]);
    }
    broker.run(&["publish", "--exchange", "orders", "--key", "a", "x"]).ok();
    declare(&[
        "--exchange",
        "orders",
        "--exchange",
        "amq.topic",
        "--key",
        "a",
        "--key",
        "b",
        "--annotate",
        "owner=",
    ]);
    let all = broker.run(&["subscriptions", "--json"]).json();
    let seen = |entry: &Value| (entry["member"].clone(), entry["messages_ready"].clone());
    assert_eq!(
        all.as_array().unwrap().iter().map(seen).collect::<Vec<_>>(),
        [(json!("1"), json!(1)), (json!("2"), json!(1))]
    );
    assert_eq!(all[0]["bindings"].as_array().unwrap().len(), 4);
    assert_eq!((&all[0]["expires_after_ms"], &all[0]["annotations"]), (&json!(60500), &json!({})));
    let rates = broker.run(&["subscriptions", "tills", "--rate", "--json"]).json();
    assert_eq!(
        (&rates[0]["published_per_second"], &rates[1]["delivered_per_second"]),
        (&json!(0), &json!(0))
    );
    broker.run(&["unsubscribe", "tills", "--member", "1"]).ok();
    assert_eq!(broker.run(&["subscriptions", "--json"]).json()[0]["member"], "2");
    let told = broker.run(&["unsubscribe", "tills"]).ok();
    assert_eq!(told, "there is no subscription 'tills' any more (ready messages gone with it: 1)\n");
}

#[test]
fn what_is_mistyped_is_told() {
    let broker = broker();
    broker.run(&["subscribe", "billing", "--exchange", "orders", "--declare-only"]).ok();
    broker.run(&["subscribe", "billing"]).fails(1, &["no exchange 'billing'", "--durable comes back to it"]);
    broker.run(&["subscribe", "biling", "--durable"]).fails(1, &["404", "did you mean 'billing'?"]);
    broker.run(&["subscriptions", "biling"]).fails(1, &["did you mean 'billing'?"]);
    broker.run(&["unsubscribe", "biling"]).fails(1, &["no subscription 'biling'", "did you mean 'billing'?"]);
    broker.run(&["unsubscribe", "biling", "--if-exists"]).ok();
    broker.run(&["unsubscribe", "billing", "--member", "x"]).fails(1, &["no member 'x' of subscription"]);
    broker.run(&["subscribe", "x", "--exchange", "oders"]).fails(1, &["did you mean 'orders'?"]);
    broker.run(&["subscribe", "x", "--exchange", "amq.direct"]).fails(2, &["needs a --key"]);
    broker.run(&["subscribe", "billing", "--durable", "--key", "a"]).fails(2, &["need an --exchange"]);
    broker.run(&["subscribe", "billing", "--durable", "--each"]).fails(2, &["--member NAME"]);
    broker.run(&["subscribe", "orders", "--each"]).fails(2, &["--exchange"]);
    broker.run(&["subscribe", "orders", "--expires-after", "5"]).fails(2, &["--exchange"]);
    broker.run(&["subscribe", "x", "--durable", "--annotate", "note"]).fails(2, &["expected KEY=VALUE"]);
    broker.run(&["subscribe", "a:b", "--exchange", "orders"]).fails(1, &["cannot be called 'a:b'"]);
    broker
        .run(&["delete", "queue", "sub:billing"])
        .fails(1, &["belongs to subscription 'billing'", "unsubscribe"]);
    assert_eq!(broker.run(&["subscriptions", "--json"]).json().as_array().unwrap().len(), 1);
}

/// The script of the README, with fewer events.
/// Waits until the catalog's log has something about who is there, and the last of it says this.
#[track_caller]
fn recorded(broker: &Broker, wanted: &str) {
    for _ in 0..1000 {
        let elsewhere = tempfile::TempDir::new().unwrap();
        let backup = elsewhere.path().join("backup");
        let (data, backup) = (broker.data(), backup.to_str().unwrap().to_owned());
        run(leveret(&["backup", data.to_str().unwrap(), &backup])).ok();
        let dump = run(leveret(&["log", "dump", &format!("{backup}/catalog")])).ok();
        if dump.lines().rfind(|line| line.contains("who is there")).is_some_and(|line| line.contains(wanted))
        {
            return;
        }
    }
    panic!("it was never recorded: {wanted}");
}

fn dark_since(broker: &Broker, name: &str) -> Option<u64> {
    listed(broker, name)["dark_since_ms"].as_u64()
}

#[test]
fn since_when_somebody_is_dark_is_known_after_a_crash() {
    let mut broker = broker();
    broker.run(&["subscribe", "billing", "--exchange", "orders", "--key", "#", "--declare-only"]).ok();
    broker.run(&["publish", "--exchange", "orders", "--key", "eu", "first"]).ok();
    broker.run(&["subscribe", "billing", "--durable", "--raw", "--count", "1"]).ok();
    let went = dark_since(&broker, "billing").unwrap();
    recorded(&broker, &format!("since {went}"));
    broker.kill_and_restart();
    assert_eq!(dark_since(&broker, "billing"), Some(went));

    let mut child = broker.leveret(&["subscribe", "billing", "--durable", "--raw"]).spawn().unwrap();
    broker.run(&["publish", "--exchange", "orders", "--key", "eu", "second"]).ok();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    recorded(&broker, "not_dark 1");
    broker.kill();
    let killed = now_ms();
    child.kill().unwrap();
    finish(child);
    broker.restart();
    let since = dark_since(&broker, "billing").unwrap();
    assert!(since >= killed, "it was there until the crash, and counts from the start: {since}, {killed}");
}

#[test]
fn whoever_was_there_until_the_broker_was_stopped_is_dark_since_then() {
    let mut broker = broker();
    broker.run(&["subscribe", "billing", "--exchange", "orders", "--key", "#", "--declare-only"]).ok();
    broker.run(&["publish", "--exchange", "orders", "--key", "eu", "first"]).ok();
    let mut child = broker.leveret(&["subscribe", "billing", "--durable", "--raw"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    let stopping = now_ms();
    broker.stop();
    let stopped = now_ms();
    child.kill().unwrap();
    finish(child);
    broker.restart();
    let since = dark_since(&broker, "billing").unwrap();
    assert!((stopping..=stopped).contains(&since), "{stopping} to {stopped}: {since}");
}

/// What is listed, by name and member.
#[track_caller]
fn found(broker: &Broker, wanted: &[&str]) -> Vec<String> {
    let arguments = [&["subscriptions", "--json"], wanted].concat();
    let listed = broker.run(&arguments).json();
    let name = |entry: &Value| match entry["member"].as_str().unwrap() {
        "" => entry["name"].as_str().unwrap().to_owned(),
        member => format!("{}:{member}", entry["name"].as_str().unwrap()),
    };
    listed.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn who_hears_what_and_who_is_dark_is_found_among_many() {
    let broker = broker();
    broker.run(&["declare", "exchange", "hop", "--type", "direct", "--internal"]).ok();
    broker.run(&["bind", "orders", "hop", "--to-exchange", "--key", "eu.*"]).ok();
    let make = |name: &str, exchange: &str, key: &str, more: &[&str]| {
        let mut arguments = vec!["subscribe", name, "--exchange", exchange, "--key", key, "--declare-only"];
        arguments.extend(more);
        broker.run(&arguments).ok();
    };
    make("billing", "orders", "*.paid", &["--annotate", "owner=ann"]);
    make("audit", "orders", "#", &["--annotate", "owner=Anna"]);
    make("hopper", "hop", "eu.paid", &[]);
    make("tills", "orders", "us.#", &["--each", "--member", "one"]);
    make("tills", "orders", "us.#", &["--each", "--member", "two"]);

    assert_eq!(found(&broker, &["--find", "ill"]), ["billing", "tills:one", "tills:two"]);
    assert_eq!(found(&broker, &["--find", "TWO"]), ["tills:two"]);
    assert_eq!(found(&broker, &["--find", "owner=ann"]), ["audit", "billing"]);
    assert_eq!(found(&broker, &["--annotation", "owner=ann"]), ["billing"]);
    assert_eq!(found(&broker, &["--find", "us.", "two"]), ["tills:two"], "both are so");
    assert_eq!(found(&broker, &["--exchange", "hop"]), ["hopper"]);
    assert_eq!(found(&broker, &["--key", "eu.paid"]), ["audit", "billing", "hopper"]);
    assert_eq!(found(&broker, &["--key", "us.paid"]), ["audit", "billing", "tills:one", "tills:two"]);
    let through = found(&broker, &["--exchange", "orders", "--key", "eu.paid"]);
    assert_eq!(through, ["audit", "billing", "hopper"], "it gets to the last one through another exchange");
    assert_eq!(
        found(&broker, &["--exchange", "orders", "--key", "us.new"]),
        ["audit", "tills:one", "tills:two"]
    );
    assert_eq!(found(&broker, &["tills", "--find", "one"]), ["tills:one"]);
    assert_eq!(found(&broker, &["--find", "nobody"]), [""; 0]);

    broker.run(&["publish", "--exchange", "orders", "--key", "eu.paid", "first"]).ok();
    let mut child = broker.leveret(&["subscribe", "audit", "--durable", "--raw"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    assert_eq!(found(&broker, &["--dark"]), ["billing", "hopper", "tills:one", "tills:two"]);
    assert_eq!(found(&broker, &["--dark", "--key", "eu.paid"]), ["billing", "hopper"]);
    assert_eq!(found(&broker, &["--dark-for", "1h"]), [""; 0]);
    let table = broker.run(&["subscriptions", "--find", "hopper"]).ok();
    assert_eq!(table.lines().count(), 2, "{table}");
    interrupt(&child);
    finish(child).ok();
    broker.run(&["subscriptions", "--annotation", "owner"]).fails(2, &["expected NAME=VALUE"]);
}

#[test]
fn a_dark_client_gets_all_it_missed_as_the_script_tells() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/dark-client");
    let told =
        Command::new(script).arg("2000").env("LEVERET", env!("CARGO_BIN_EXE_leveret")).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{text}{errors}");
    for name in ["app", "billing", "reports"] {
        assert!(text.contains(&format!("{name}: all 2000 events, in order\n")), "{text}");
    }
    assert!(text.contains("reports  pending, dark"), "{text}");
}
