//! What docs/OPERATIONS.md says about backups: made while the broker works, or stop, copy, start; and back again.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::{Broker, finish, leveret, run};

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

/// A broker on a data directory that was restored.
fn restored(backup: &Path) -> Broker {
    let mut broker = Broker::start();
    broker.stop();
    std::fs::remove_dir_all(broker.data()).unwrap();
    let (from, to) = (backup.to_str().unwrap(), broker.data());
    let report = run(leveret(&["restore", from, to.to_str().unwrap(), "--json"])).json();
    assert_eq!(report["sound"], true);
    broker.restart();
    broker
}

#[test]
fn backups_that_are_made_under_load_hold_what_was_confirmed_and_nothing_that_was_settled() {
    let mut broker =
        Broker::start_with(&["--shards", "2", "--segment-bytes", "1MiB", "--checkpoint-bytes", "1MiB"]);
    broker.queue("busy");
    let steady: Vec<String> = (1..=200).map(|number| format!("steady {number}")).collect();
    broker.queue_of("steady", &steady.iter().map(String::as_str).collect::<Vec<_>>());
    broker.run(&["consume", "steady", "--raw", "--count", "50"]).ok();

    let lines: String = (1..=60_000).map(|number| format!("{number} {}\n", "x".repeat(300))).collect();
    let mut publisher =
        broker.leveret(&["publish", "--key", "busy", "--lines"]).stdin(Stdio::piped()).spawn().unwrap();
    let consumer = broker.leveret(&["consume", "busy", "--raw", "--count", "59000"]).spawn().unwrap();
    let mut stdin = publisher.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let consumer = std::thread::spawn(move || finish(consumer));
    let elsewhere = TempDir::new().unwrap();
    let data = broker.data();
    let mut backups = Vec::new();
    while !feeder.is_finished() || backups.is_empty() {
        let backup = elsewhere.path().join(format!("backup-{}", backups.len()));
        run(leveret(&["backup", data.to_str().unwrap(), backup.to_str().unwrap()])).ok();
        backups.push(backup);
    }
    feeder.join().unwrap().unwrap();
    finish(publisher).ok();
    consumer.join().unwrap().ok();
    let begins = |shard: &str| data.join(shard).join("00000000000000000000.log").exists();
    assert!(!begins("shard-0") || !begins("shard-1"), "segments were removed while backups were made");
    broker.stop();

    for backup in &backups[..backups.len().min(4)] {
        let there = restored(backup);
        let kept = there.run(&["consume", "steady", "--raw", "--count", "150"]).ok();
        assert_eq!(kept.lines().collect::<Vec<_>>(), steady[50..]);
        assert_eq!(there.messages("steady"), (0, 0), "what was settled does not come back");
        let (busy, _) = there.messages("busy");
        if busy > 0 {
            let numbers = there.run(&["consume", "busy", "--raw", "--count", &busy.to_string()]).ok();
            let numbers: Vec<u64> =
                numbers.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "in order and without gaps");
        }
    }
}

#[test]
fn a_backup_takes_no_folder_in_which_there_is_something_and_no_damaged_source() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("orders", &["rot begins here"]);
    broker.queue_of("orders", &["behind it"]);
    let elsewhere = TempDir::new().unwrap();
    let path = |name: &str| elsewhere.path().join(name).to_str().unwrap().to_owned();
    let data = broker.data();
    let data = data.to_str().unwrap();
    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full/thesis.tex"), "").unwrap();
    run(leveret(&["backup", data, &path("full")])).fails(1, &["is not empty"]);
    let told = run(leveret(&["backup", data, &path("first")])).ok();
    assert!(told.contains("2 messages of 1 queue, checked"), "{told}");
    run(leveret(&["restore", &path("first"), data])).fails(1, &["is not empty"]);
    run(leveret(&["restore", data, &path("second")])).fails(1, &["a broker runs on"]);
    broker.stop();
    super::log_files::damage(&broker, "shard-0", "rot begins here");
    run(leveret(&["backup", data, &path("third")])).fails(1, &["is damaged at byte", "shard-0"]);
    run(leveret(&["restore", &path("third"), &path("fourth")])).fails(1, &["is not a data directory"]);
}
