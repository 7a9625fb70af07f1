//! What docs/OPERATIONS.md says about backups: stop, copy, start; and back again.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::Broker;

#[test]
fn a_restored_copy_is_where_the_broker_was() {
    let mut broker = Broker::start();
    broker.queue_of("orders", &["one", "two", "three"]);
    let elsewhere = TempDir::new().unwrap();
    let backup = elsewhere.path().join("backup");
    broker.stop();
    copy(&broker.data(), &backup);
    broker.restart();

    assert_eq!(broker.run(&["consume", "orders", "--raw", "--count", "2"]).ok(), "one\ntwo\n");
    broker.queue_of("later", &["four"]);
    broker.stop();
    std::fs::remove_dir_all(broker.data()).unwrap();
    copy(&backup, &broker.data());
    broker.restart();

    assert_eq!(broker.run(&["consume", "orders", "--raw", "--count", "3"]).ok(), "one\ntwo\nthree\n");
    broker.run(&["delete", "queue", "later"]).fails(1, &["later"]);
    // It takes new messages like any other.
    broker.queue_of("orders", &["five"]);
    assert_eq!(broker.messages("orders"), (1, 0));
}

#[test]
fn a_shard_of_another_day_is_not_taken_for_the_one_that_was_there() {
    let mut broker = Broker::start_with(&["--shards", "2"]);
    let elsewhere = TempDir::new().unwrap();
    let backup = elsewhere.path().join("backup");
    broker.stop();
    copy(&broker.data().join("shard-0"), &backup);
    broker.restart();
    for queue in ["a", "b", "c", "d"] {
        broker.queue_of(queue, &["confirmed"]);
    }
    broker.stop();
    std::fs::remove_dir_all(broker.data().join("shard-0")).unwrap();
    copy(&backup, &broker.data().join("shard-0"));
    broker.restart();

    let queues = broker.run(&["list", "queues", "--json"]).json();
    let faults =
        queues.as_array().unwrap().iter().filter(|queue| !queue["fault"].as_str().unwrap_or("").is_empty());
    assert!(faults.count() > 0, "{queues}");
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("--archive").args([from, to]).status().unwrap().success());
}
