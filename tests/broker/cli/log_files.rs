//! `leveret log`: what is in the files of a broker that does not run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Broker, leveret, run};

/// All files below a folder and what is in them.
pub(crate) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

/// Flips a bit of the first `text` in a log.
pub(crate) fn damage(broker: &Broker, log: &str, text: &str) {
    for (path, mut content) in files(&broker.data().join(log)) {
        if let Some(at) = content.windows(text.len()).position(|bytes| bytes == text.as_bytes()) {
            content[at] ^= 1;
            std::fs::write(path, content).unwrap();
            return;
        }
    }
    panic!("no file of {log} holds {text}");
}

fn check(directory: &Path) -> (i32, Value) {
    let outcome = run(leveret(&["log", "check", directory.to_str().unwrap(), "--json"]));
    (outcome.status, serde_json::from_str(&outcome.stdout).unwrap())
}

#[test]
fn a_check_finds_a_stopped_and_a_killed_broker_sound_and_changes_no_byte() {
    let mut broker = Broker::start_with(&["--shards", "2"]);
    broker.queue_of("orders", &["one", "two", "three"]);
    broker.queue_of("mails", &["four"]);
    broker.run(&["consume", "orders", "--count", "1"]).ok();
    broker.kill();
    for _ in 0..2 {
        let before = files(&broker.data());
        let (status, report) = check(&broker.data());
        assert_eq!((status, &report["sound"]), (0, &Value::Bool(true)), "{report}");
        let held: Vec<_> = report["logs"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|log| log["queues"].as_array().unwrap())
            .map(|queue| (queue["queue"]["name"].as_str().unwrap(), queue["messages"].as_u64().unwrap()))
            .collect();
        assert_eq!(held, [("orders", 2), ("mails", 1)]);
        assert_eq!(files(&broker.data()), before, "a check changes nothing");
        broker.restart();
        broker.stop();
    }
    let table = run(leveret(&["log", "check", broker.data().to_str().unwrap()])).ok();
    assert!(table.starts_with("LOG      STATE  SEGMENTS"), "{table}");
    assert_eq!(table.matches("sound").count(), 3, "{table}");
    let (status, one) = check(&broker.data().join("shard-0"));
    assert_eq!((status, one["logs"].as_array().unwrap().len()), (0, 1), "{one}");
}

#[test]
fn a_running_broker_is_told_and_left_alone() {
    let mut broker = Broker::start();
    broker.queue_of("orders", &["one"]);
    let data = broker.data();
    // The broker itself may write a mark meanwhile.
    let seen =
        || files(&data).into_iter().map(|(path, content)| (path.ends_with("LOCK").then_some(content), path));
    let before: Vec<_> = seen().collect();
    for what in ["check", "dump"] {
        let directory = if what == "dump" { data.join("catalog") } else { data.clone() };
        let outcome = run(leveret(&["log", what, directory.to_str().unwrap()]));
        outcome.fails(1, &["a broker runs on", "in use by pid"]);
    }
    assert_eq!(seen().collect::<Vec<_>>(), before);
    broker.stop();
    assert_eq!(check(&data).0, 0);
}

#[test]
fn a_check_says_what_damage_costs() {
    let mut broker = Broker::start_with(&["--shards", "2"]);
    broker.queue_of("sound", &["first", "second"]);
    broker.queue_of("rotten", &["rot begins here", "and not here"]);
    broker.queue_of("rotten", &["behind it"]);
    broker.kill();
    damage(&broker, "shard-1", "rot begins here");
    let before = files(&broker.data());
    let (status, report) = check(&broker.data());
    assert_eq!(status, 1, "{report}");
    let [catalog, sound, rotten] = &report["logs"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((&catalog["sound"], &sound["sound"]), (&Value::Bool(true), &Value::Bool(true)));
    assert!(rotten["refused"].as_str().unwrap().contains("is damaged at byte"), "{rotten}");
    let [loss] = &rotten["damage"].as_array().unwrap()[..] else { panic!("{rotten}") };
    let sequences = (loss["sequences"][0].as_u64().unwrap(), loss["sequences"][1].as_u64().unwrap());
    assert_eq!(sequences.1 - sequences.0, 2, "two messages were in that batch: {loss}");
    assert_eq!(loss["keeps_from_opening"], true);
    assert_eq!(rotten["queues"][0]["messages"], 1, "what is behind the damage is found: {rotten}");
    assert_eq!(files(&broker.data()), before);
    let told = run(leveret(&["log", "check", broker.data().to_str().unwrap()]));
    assert!(told.stdout.contains("with up to 2 messages"), "{told:?}");
    told.fails(1, &["damaged: shard-1", "copy the data directory"]);
}

#[test]
fn damage_before_the_newest_checkpoint_is_told_with_the_queue_that_misses_messages() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("orders", &["rot begins here", "and not here"]);
    broker.queue_of("orders", &["behind it"]);
    broker.stop();
    damage(&broker, "shard-0", "rot begins here");
    let (status, report) = check(&broker.data());
    let shard = &report["logs"][1];
    assert_eq!((status, &shard["opens"]), (1, &Value::Bool(true)), "{report}");
    assert_eq!(shard["lost"][0]["queue"]["name"], "orders");
    assert_eq!(shard["lost"][0]["messages"], 2);
}

#[test]
fn a_folder_that_is_no_data_directory_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    run(leveret(&["log", "check", path])).fails(1, &["is not a data directory"]);
    run(leveret(&["log", "check", &format!("{path}/nowhere")])).fails(1, &["nowhere"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left there");
}

#[test]
fn a_dump_tells_what_each_entry_records() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("orders", &["first", "danger\u{1b}[2J"]);
    broker.run(&["consume", "orders", "--count", "1"]).ok();
    broker.stop();
    let shard = broker.data().join("shard-0");
    let shard = shard.to_str().unwrap();
    let before = files(&broker.data());
    let text = run(leveret(&["log", "dump", shard, "--bodies"])).ok();
    for line in [
        "entry 0: the voters are 1",
        "is there",
        "publish to exchange '' with key 'orders'",
        "messages 1 to 2 to queues 1",
        "1: first",
        "2: danger\\u{1b}[2J",
        "queue 1: accepted 1",
        "all so far is durable",
    ] {
        assert!(text.contains(line), "'{line}' is not in: {text}");
    }
    assert!(!text.contains('\u{1b}'));
    let plain = run(leveret(&["log", "dump", shard])).ok();
    assert!(!plain.contains("first"), "bodies are shown on demand: {plain}");

    let lines = run(leveret(&["log", "dump", shard, "--json", "--from", "1", "--limit", "2"])).ok();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["index"].as_u64() >= Some(1)), "{lines:?}");
    let batch = lines.iter().find(|line| line["kind"] == "batch").unwrap();
    assert_eq!(batch["operations"][0]["operation"], "declare");

    let catalog = broker.data().join("catalog");
    let catalog = run(leveret(&["log", "dump", catalog.to_str().unwrap()])).ok();
    assert!(catalog.contains("declare queue 'orders' in vhost '/': number 1, shard 0"), "{catalog}");
    assert!(catalog.contains("put user 'guest'") && !catalog.contains("argon2"), "{catalog}");
    run(leveret(&["log", "dump", broker.data().to_str().unwrap()])).fails(2, &["shard-0", "one log"]);
    assert_eq!(files(&broker.data()), before);
}

/// Repairs, after looking at what a dry run says; gives back the report.
fn repair(broker: &Broker) -> Value {
    let data = broker.data();
    let before = files(&data);
    let dry = run(leveret(&["log", "repair", data.to_str().unwrap(), "--dry-run", "--json"])).json();
    assert_eq!(files(&data), before, "a dry run changes nothing");
    let done = run(leveret(&["log", "repair", data.to_str().unwrap(), "--yes", "--json"])).json();
    assert_eq!((&dry["repaired"], &dry["before"]), (&done["repaired"], &done["before"]));
    let after = files(&data);
    for (path, content) in before.iter().filter(|(path, _)| !path.ends_with("LOCK")) {
        let kept = after.values().any(|kept| kept == content);
        assert!(kept, "{} is neither there nor put aside", path.display());
    }
    assert_eq!(check(&data).0, 0);
    done
}

#[test]
fn a_shard_with_a_rotten_batch_is_repaired_without_it_and_with_what_is_behind() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("orders", &["first"]);
    broker.queue_of("orders", &["rot begins here", "and not here"]);
    broker.queue_of("orders", &["behind it", "and more"]);
    broker.kill();
    damage(&broker, "shard-0", "rot begins here");
    broker.refuses_to_start(&["is damaged at byte"]);
    run(leveret(&["log", "repair", broker.data().to_str().unwrap()])).fails(2, &["--dry-run", "--yes"]);
    let report = repair(&broker);
    assert_eq!(report["repaired"], serde_json::json!(["shard-0"]));
    broker.restart();
    assert_eq!(
        broker.run(&["consume", "orders", "--raw", "--count", "3"]).ok(),
        "first\nbehind it\nand more\n"
    );
    broker.queue_of("orders", &["new"]);
    broker.kill_and_restart();
    assert_eq!(broker.run(&["consume", "orders", "--raw", "--count", "1"]).ok(), "new\n");
}

#[test]
fn messages_that_no_longer_can_be_read_go_and_their_neighbours_stay() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("orders", &["first"]);
    broker.queue_of("orders", &["rot begins here"]);
    broker.queue_of("orders", &["behind it"]);
    broker.stop();
    damage(&broker, "shard-0", "rot begins here");
    let report = repair(&broker);
    assert_eq!(report["before"]["logs"][1]["lost"][0]["messages"], 1);
    broker.restart();
    assert_eq!(broker.run(&["consume", "orders", "--raw", "--count", "2"]).ok(), "first\nbehind it\n");
}

#[test]
fn a_damaged_header_of_a_batch_or_a_segment_costs_what_is_under_it_alone() {
    for (at, kept) in [("frame", "first\nbehind it\n"), ("segment", "")] {
        let mut broker = Broker::start_with(&["--shards", "1"]);
        broker.queue_of("orders", &["first"]);
        broker.queue_of("orders", &["rot begins here"]);
        // A restart leaves a mark between the batches, which is what the reader finds first behind the damage.
        broker.stop();
        broker.restart();
        broker.queue_of("orders", &["behind it"]);
        broker.stop();
        let log = broker.data().join("shard-0/00000000000000000000.log");
        let mut content = std::fs::read(&log).unwrap();
        let body = content.windows(4).position(|bytes| bytes == b"rot ").unwrap();
        let frame = content[..body].windows(4).rposition(|bytes| bytes == b"LVTF").unwrap();
        content[if at == "frame" { frame + 40 } else { 20 }] ^= 1;
        std::fs::write(log, content).unwrap();
        let report = repair(&broker);
        assert_eq!(report["put_aside"].as_array().unwrap().len(), usize::from(at == "segment"), "{report}");
        broker.restart();
        let count = kept.lines().count() as u64;
        assert_eq!(broker.messages("orders"), (count, 0), "{at}");
        if count > 0 {
            let count = count.to_string();
            assert_eq!(broker.run(&["consume", "orders", "--raw", "--count", &count]).ok(), kept);
        }
        broker.queue_of("orders", &["new"]);
        broker.kill_and_restart();
        assert_eq!(broker.messages("orders"), (1, 0));
    }
}

/// A log of several segments with numbered messages, and the paths of the segments in order.
fn segments(broker: &mut Broker, messages: usize) -> Vec<PathBuf> {
    broker.queue("orders");
    // Each is confirmed before the next is sent, so that none shares its batch with all.
    for part in (0..messages).collect::<Vec<_>>().chunks(20) {
        let lines: String =
            part.iter().map(|number| format!("{number:04} {}\n", "x".repeat(20_000))).collect();
        broker.run_with_input(&["publish", "--key", "orders", "--lines"], lines.as_bytes()).ok();
    }
    broker.kill();
    let all = files(&broker.data().join("shard-0"));
    let segments: Vec<PathBuf> =
        all.into_keys().filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect();
    assert!(segments.len() >= 4, "{segments:?}");
    segments
}

/// Numbers of the messages that are there, which are taken.
fn numbers(broker: &Broker) -> Vec<usize> {
    let count = broker.messages("orders").0;
    let shown = broker.run(&["consume", "orders", "--raw", "--count", &count.to_string()]).ok();
    shown.lines().map(|line| line[..4].parse().unwrap()).collect()
}

#[test]
fn a_segment_that_is_missing_costs_its_messages_alone() {
    const MESSAGES: usize = 300;
    let mut broker = Broker::start_with(&["--shards", "1", "--segment-bytes", "1MiB"]);
    let segments = segments(&mut broker, MESSAGES);
    let missing = &segments[segments.len() / 2];
    let bytes = std::fs::metadata(missing).unwrap().len() as usize;
    std::fs::remove_file(missing).unwrap();
    broker.refuses_to_start(&["shard 0 cannot be recovered", "missing"]);
    repair(&broker);
    broker.restart();
    let left = numbers(&broker);
    let lost = MESSAGES - left.len();
    assert!(left.is_sorted() && left[0] == 0 && left.last() == Some(&(MESSAGES - 1)), "{left:?}");
    assert!(lost > 0 && lost * 20_000 <= bytes, "{lost} messages of {bytes} bytes");
    broker.queue_of("orders", &["9999 new"]);
    broker.kill_and_restart();
    assert_eq!(numbers(&broker), [9999]);
}

/// What a power cut leaves is cut off without a word; an end that was durable once is missed.
#[test]
fn a_log_that_lost_its_end_is_not_taken_for_one_that_a_crash_cut_short() {
    const MESSAGES: usize = 300;
    let mut broker = Broker::start_with(&["--shards", "1", "--segment-bytes", "1MiB"]);
    let all = segments(&mut broker, MESSAGES);
    broker.restart();
    broker.stop();
    for lost in &all[all.len() - 2..] {
        std::fs::remove_file(lost).unwrap();
    }
    broker.refuses_to_start(&["shard 0 cannot be recovered"]);
    repair(&broker);
    broker.restart();
    let left = numbers(&broker);
    assert!(!left.is_empty() && left.len() < MESSAGES, "{} left", left.len());
    assert!(left.iter().copied().eq(0..left.len()), "the beginning, in order: {left:?}");
    broker.queue_of("orders", &["9999 new"]);
    broker.kill_and_restart();
    assert_eq!(numbers(&broker), [9999]);
}

#[test]
fn a_catalog_that_lost_a_batch_is_repaired_and_numbers_no_queue_twice() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("stays", &["first"]);
    broker.queue_of("goes", &["second"]);
    broker.queue_of("late", &["third"]);
    broker.kill();
    damage(&broker, "catalog", "goes");
    broker.refuses_to_start(&["the catalog cannot be recovered"]);
    repair(&broker);
    broker.restart();
    assert_eq!(broker.messages("stays"), (1, 0));
    assert_eq!(broker.messages("late"), (1, 0));
    broker.run(&["get", "goes"]).fails(1, &["goes"]);
    broker.queue_of("goes", &["anew"]);
    assert_eq!(broker.messages("goes"), (1, 0));
}

#[test]
fn what_is_sound_is_not_repaired_and_what_is_no_damage_is_refused() {
    let mut broker = Broker::start_with(&["--shards", "2"]);
    broker.queue_of("orders", &["first"]);
    broker.stop();
    let data = broker.data();
    let before = files(&data);
    let told = run(leveret(&["log", "repair", data.to_str().unwrap(), "--yes"])).ok();
    assert!(told.contains("nothing is to be repaired"), "{told}");
    let locks = |all: BTreeMap<PathBuf, Vec<u8>>| {
        all.into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(locks(files(&data)), locks(before));
    std::fs::rename(data.join("shard-0"), data.join("away")).unwrap();
    std::fs::rename(data.join("shard-1"), data.join("shard-0")).unwrap();
    std::fs::rename(data.join("away"), data.join("shard-1")).unwrap();
    run(leveret(&["log", "repair", data.to_str().unwrap(), "--yes"]))
        .fails(1, &["exchanged", "nothing was changed"]);
}
