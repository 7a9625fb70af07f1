//! Folders of a data directory that were exchanged, come from elsewhere, or have lost something: refused or told by
//! name, and all is well again when they are as they were.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use crate::support::Broker;

/// A broker with a message on each of two shards, stopped as asked.
fn stopped() -> Broker {
    let mut broker = Broker::start_with(&["--shards", "2"]);
    broker.queue_of("on 0", &["zero"]);
    broker.queue_of("on 1", &["one"]);
    broker.stop();
    broker
}

#[track_caller]
fn check_well(broker: &mut Broker) {
    broker.restart();
    assert_eq!((broker.messages("on 0"), broker.messages("on 1")), ((1, 0), (1, 0)));
}

fn exchange(one: &Path, other: &Path) {
    let between = one.with_extension("between");
    fs::rename(one, &between).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(between, other).unwrap();
}

/// The last segment of a log.
fn last_segment(log: &Path) -> PathBuf {
    let files = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "log")).max().unwrap()
}

fn cut(file: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

/// Removes what the log's checkpoints save reading, so that its segments are all there is.
fn remove_checkpoints(log: &Path) {
    for entry in fs::read_dir(log).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "checkpoint") {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn exchanged_shards_are_refused() {
    let mut broker = stopped();
    let [zero, one] = ["shard-0", "shard-1"].map(|name| broker.data().join(name));
    exchange(&zero, &one);
    broker.refuses_to_start(&["shard 0", zero.to_str().unwrap(), "exchanged with another shard's folder"]);
    exchange(&zero, &one);
    check_well(&mut broker);
}

#[test]
fn folders_of_another_broker_are_refused() {
    let (mut broker, other) = (stopped(), stopped());
    for name in ["shard-1", "catalog"] {
        let [own, foreign] = [&broker, &other].map(|broker| broker.data().join(name));
        exchange(&own, &foreign);
        broker.refuses_to_start(&[own.to_str().unwrap(), "belongs there", "another data directory"]);
        exchange(&own, &foreign);
    }
    check_well(&mut broker);
}

#[test]
fn a_log_that_lost_its_end_is_out_of_service() {
    let mut broker = stopped();
    let log = broker.data().join("shard-1");
    let file = last_segment(&log);
    let before = fs::read(&file).unwrap();
    // The message's frame is behind those that every new log begins with.
    let whole = before.len() as u64;
    remove_checkpoints(&log);
    cut(&file, 0x108);
    broker.restart();
    broker.run(&["get", "on 1"]).fails(1, &["shard 1 is out of service"]);
    let listed = broker.run(&["list", "queues"]).ok();
    assert!(
        listed.contains("the log ends with batch 0") && listed.contains(file.to_str().unwrap()),
        "{listed}"
    );
    assert_eq!(broker.messages("on 0"), (1, 0));
    broker.stop();
    assert_eq!(fs::metadata(&file).unwrap().len(), 0x108, "nothing was changed");
    fs::write(&file, before).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), whole);
    check_well(&mut broker);
}

#[test]
fn a_catalog_that_lost_its_end_is_refused() {
    let mut broker = stopped();
    let log = broker.data().join("catalog");
    let file = last_segment(&log);
    let before = fs::read(&file).unwrap();
    remove_checkpoints(&log);
    cut(&file, 0x108);
    broker.refuses_to_start(&["the catalog", "the log ends with batch 0", "restore what is missing"]);
    fs::write(&file, before).unwrap();
    check_well(&mut broker);
}

#[test]
fn missing_folders_are_refused_and_not_made_anew() {
    let mut broker = stopped();
    let away = broker.data().with_extension("away");
    fs::create_dir(&away).unwrap();
    for missing in
        [&["catalog"][..], &["shard-0"], &["catalog", "shard-0"], &["catalog", "shard-0", "shard-1"]]
    {
        for name in missing {
            fs::rename(broker.data().join(name), away.join(name)).unwrap();
        }
        broker.refuses_to_start(&["cannot be recovered", broker.data().join(missing[0]).to_str().unwrap()]);
        for name in missing {
            fs::rename(away.join(name), broker.data().join(name)).unwrap();
        }
    }
    check_well(&mut broker);
}
