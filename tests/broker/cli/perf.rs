//! Measuring: the figures add up, and what is made is tidied away.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Broker, interrupt, leveret, run};

/// Runs `leveret perf --json`; everything must have been right.
#[track_caller]
fn perf(broker: &Broker, arguments: &str) -> Value {
    let words: Vec<&str> = ["perf", "--json"].into_iter().chain(arguments.split_whitespace()).collect();
    let results = broker.run(&words).json();
    for name in ["errors", "lost", "duplicated", "out_of_order", "foreign"] {
        assert_eq!(results[name], 0, "{name} of: {arguments}: {results}");
    }
    results
}

#[track_caller]
fn queues(broker: &Broker) -> Vec<String> {
    let queues = broker.run(&["list", "queues", "--json"]).json();
    queues.as_array().unwrap().iter().map(|queue| queue["name"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_tidy(broker: &Broker) {
    assert_eq!(queues(broker), Vec::<String>::new());
    let exchanges = broker.run(&["list", "exchanges", "--json"]).json();
    let is_ours = |exchange: &&Value| exchange["name"].as_str().unwrap().starts_with("perf");
    assert_eq!(exchanges.as_array().unwrap().iter().find(is_ours), None);
}

#[test]
fn a_run_by_the_clock_measures_and_tidies_up() {
    let broker = Broker::start();
    let arguments =
        ["perf", "--seconds", "1.2", "--warmup", "0.3", "--confirm", "500", "--size", "100", "--json"];
    let outcome = broker.run(&arguments);
    assert!(
        outcome.stderr.contains("published") && outcome.stderr.contains("/s"),
        "a live line: {outcome:?}"
    );
    let results = outcome.json();
    assert_eq!(
        (&results["guarantee"], &results["errors"], &results["lost"]),
        (&json!("synced"), &json!(0), &json!(0))
    );
    let number = |name: &str| results[name].as_f64().unwrap();
    assert!((1.2..5.0).contains(&number("seconds")), "{results}");
    for (count, rate) in
        [("published", "publish_rate"), ("confirmed", "confirm_rate"), ("consumed", "consume_rate")]
    {
        assert!(number(count) > 0.0, "{results}");
        assert!((number(count) / number("seconds") - number(rate)).abs() < number(rate) / 100.0, "{results}");
    }
    for latency in ["latency_us", "confirm_latency_us"] {
        let quantile = |name: &str| results[latency][name].as_f64().unwrap();
        let rising = ["p50", "p95", "p99", "p999", "max"].map(quantile);
        assert!(rising[0] > 0.0 && rising.is_sorted(), "{latency}: {results}");
    }
    assert_eq!(results["total"]["published"], results["total"]["consumed"]);
    assert_tidy(&broker);
}

#[test]
fn a_count_is_published_and_consumed_exactly() {
    let broker = Broker::start();
    for arguments in [
        "--transient --ack auto --size 16",
        "--confirm 100 --prefetch 10",
        "--confirm 1 --size 16 --prefetch 0",
        "--producers 3 --consumers 2 --queues 2",
        "--producers 2 --consumers 3 --queues 1 --prefetch 7",
        "--producers 1 --consumers 2 --queues 5 --transient",
        "--exchange direct --queues 3",
        "--exchange headers --queues 3 --confirm 50",
        "--exchange topic --queues 2",
        "--topic-bindings 500 --size 64",
        "--rate 20000 --producers 2",
        "--size 100000 --confirm 10",
    ] {
        let results = perf(&broker, &format!("--count 2000 {arguments}"));
        assert_eq!(
            (&results["published"], &results["consumed"]),
            (&json!(2000), &json!(2000)),
            "{arguments}"
        );
        assert_eq!(results["total"]["consumed"], 2000, "{arguments}");
    }
    assert_tidy(&broker);
}

#[test]
fn producers_have_as_many_connections_as_they_are_given() {
    let broker = Broker::start();
    for (connections, expected) in [("", 131), ("--connections 140", 133), ("--connections 3", 6)] {
        let before = connections_made(&broker);
        let arguments =
            format!("--count 260 --producers 130 --consumers 3 --confirm 1 --size 16 {connections}");
        let results = perf(&broker, &arguments);
        assert_eq!(results["consumed"], 260, "{connections}");
        // One more makes the queues, and one asks.
        assert_eq!(connections_made(&broker) - before, expected + 2, "{connections}");
    }
}

/// The number of the newest connection, which is the one that asks.
#[track_caller]
fn connections_made(broker: &Broker) -> u64 {
    let connections = broker.run(&["list", "connections", "--json"]).json();
    connections.as_array().unwrap().iter().map(|entry| entry["id"].as_u64().unwrap()).max().unwrap()
}

#[test]
fn a_run_that_needs_more_files_than_it_may_have_says_so_first() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100 && exec \"$0\" perf --producers 40", env!("CARGO_BIN_EXE_leveret")]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    run(command).fails(1, &["may have 100 files open", "needs 105", "--connections"]);
}

#[test]
fn a_fan_out_delivers_every_message_to_every_queue() {
    let broker = Broker::start();
    let results = perf(&broker, "--count 1000 --fanout 5 --consumers 2 --producers 2 --size 50");
    assert_eq!((&results["published"], &results["consumed"]), (&json!(1000), &json!(5000)));
    assert_eq!(results["config"]["consumers"], 10);
    assert_tidy(&broker);
}

#[test]
fn a_queue_is_filled_kept_through_a_crash_and_drained() {
    let mut broker = Broker::start();
    let filled = perf(&broker, "--consumers 0 --keep --queue backlog --count 3000 --confirm 500 --size 50");
    assert_eq!((&filled["confirmed"], &filled["left_in_queues"]), (&json!(3000), &json!(3000)));
    broker.kill_and_restart();
    assert_eq!(broker.messages("backlog"), (3000, 0));
    let drained = perf(&broker, "--producers 0 --keep --queue backlog --count 1000 --prefetch 100");
    assert_eq!((&drained["consumed"], &drained["guarantee"]), (&json!(1000), &json!("synced")));
    assert_eq!(broker.messages("backlog"), (2000, 0), "no more than asked for");
    perf(&broker, "--producers 0 --keep --queue backlog --count 2000 --ack auto");
    assert_eq!(broker.messages("backlog"), (0, 0));
    assert_eq!(queues(&broker), ["backlog"]);
}

#[test]
fn a_queue_that_was_there_stays() {
    let broker = Broker::start();
    broker.queue_of("mine", &["not a message of this tool", "nor this one"]);
    let outcome = broker.run(&["perf", "--queue", "mine", "--count", "100", "--json"]).json();
    assert_eq!((&outcome["consumed"], &outcome["foreign"]), (&json!(100), &json!(2)));
    assert_eq!(queues(&broker), ["mine"]);
    broker.run(&["delete", "queue", "mine"]).ok();
    perf(&broker, "--queue mine --count 100");
    assert_tidy(&broker);
}

#[test]
fn a_drain_that_finds_too_little_is_a_failure() {
    let broker = Broker::start();
    broker
        .run(&["perf", "--producers", "0", "--queue", "nowhere"])
        .fails(1, &["no queue 'nowhere'", "--keep"]);
    perf(&broker, "--consumers 0 --keep --queue short --count 10 --confirm 10");
    let drain = ["perf", "--producers", "0", "--queue", "short", "--count", "11", "--json"];
    let mut drain = broker.leveret(&drain).spawn().unwrap();
    while broker.messages("short") != (0, 0) {
        assert!(drain.try_wait().unwrap().is_none(), "it waits for more");
    }
    interrupt(&drain);
    let outcome = crate::support::finish(drain).fails(1, &["interrupted after 10 of 11 messages"]);
    let results: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&results["consumed"], &results["interrupted"]), (&json!(10), &json!(true)));
}

#[test]
fn ctrl_c_ends_a_run_by_the_clock_with_its_results() {
    let broker = Broker::start();
    let mut command =
        broker.leveret(&["perf", "--seconds", "1000", "--warmup", "0", "--size", "16", "--confirm", "10"]);
    let child = command.spawn().unwrap();
    while queues(&broker).is_empty() || broker.run(&["list", "consumers", "--json"]).json() == json!([]) {
        std::thread::yield_now();
    }
    interrupt(&child);
    let text = crate::support::finish(child).ok();
    assert!(text.contains("interrupted before its time") && text.contains("lost 0"), "{text}");
    assert_tidy(&broker);
}

#[test]
fn a_broker_that_dies_is_an_error_and_not_a_hang() {
    let mut broker = Broker::start();
    let mut command = broker.leveret(&["perf", "--seconds", "1000", "--transient", "--json"]);
    let child = command.spawn().unwrap();
    while broker.run(&["list", "consumers", "--json"]).json() == json!([]) {
        std::thread::yield_now();
    }
    broker.kill_and_restart();
    crate::support::finish(child).fails(1, &["error: "]);
}

#[test]
fn people_get_a_summary() {
    let broker = Broker::start();
    let text = broker.run(&["perf", "--count", "1000", "--size", "16", "--confirm", "100"]).ok();
    for needle in
        ["confirm window 100", "guarantee  synced", "published", "latency", "lost 0, duplicated 0", "limit"]
    {
        assert!(text.contains(needle), "{needle}: {text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (arguments, needle) in [
        ("--size 15", "16"),
        ("--producers 0 --consumers 0", "nothing to do"),
        ("--transient --durable", "cannot be used with"),
        ("--fanout 2 --queues 2", "cannot be used with"),
        ("--ack maybe", "auto"),
        ("--exchange x", "fanout"),
        ("--seconds 0", "0.1 to 86400"),
        ("--rate 0", "--rate"),
        ("--confirm 0", "--confirm"),
    ] {
        let words: Vec<&str> = std::iter::once("perf").chain(arguments.split_whitespace()).collect();
        run(leveret(&words)).fails(2, &[needle]);
    }
    let broker = Broker::start_with(&["--message-bytes-max", "1 KiB"]);
    broker.run(&["perf", "--size", "1025", "--count", "1"]).fails(2, &["1024 bytes at most"]);
}
