//! Stored data is damaged: the shard or the queue that it belongs to stops, and the others run.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::Broker;

/// Flips a bit of the first `text` in a log; gives back the file and what was in it.
fn damage(broker: &Broker, log: &str, text: &str) -> (PathBuf, Vec<u8>) {
    let directory = broker.data().join(log);
    for entry in std::fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        let before = std::fs::read(&file).unwrap();
        let Some(at) = before.windows(text.len()).position(|bytes| bytes == text.as_bytes()) else {
            continue;
        };
        let mut after = before.clone();
        after[at] ^= 1;
        std::fs::write(&file, after).unwrap();
        return (file, before);
    }
    panic!("no file of {log} holds {text}");
}

/// The bodies of the next messages of a queue, which are accepted.
#[track_caller]
fn consume(broker: &Broker, queue: &str, count: usize) -> Vec<String> {
    let lines = broker.run(&["consume", queue, "--count", &count.to_string(), "--json"]).ok();
    let messages = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    messages.map(|message| message["body"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_other_shards_run_while_one_is_damaged() {
    let mut broker = Broker::start_with(&["--shards", "2"]);
    // New queues go to the shard that has the fewest.
    broker.queue_of("sound", &["first", "second"]);
    broker.queue_of("rotten", &["rot begins here", "and not here"]);
    // Damage at the end of a log may be a write that a crash cut short. Behind this there is more.
    broker.queue_of("rotten", &["behind it"]);
    broker.kill();
    let (file, before) = damage(&broker, "shard-1", "rot begins here");
    broker.restart();

    assert_eq!(consume(&broker, "sound", 2), ["first", "second"]);
    let out_of_service = ["shard 1 is out of service", "repair the log"];
    broker.run(&["get", "rotten"]).fails(1, &out_of_service);
    broker.run(&["consume", "rotten", "--count", "1"]).fails(1, &out_of_service);
    broker.run(&["purge", "rotten"]).fails(1, &out_of_service);
    broker.run(&["declare", "queue", "rotten"]).fails(1, &out_of_service);
    broker.run(&["delete", "queue", "rotten", "--if-empty"]).fails(1, &out_of_service);
    broker.run_with_input(&["publish", "--key", "rotten", "--lines"], b"no\n").fails(1, &out_of_service);

    let explained = broker.run(&["explain", "--key", "rotten"]).ok();
    assert!(explained.contains("'rotten' does not take it: shard 1 is out of service"), "{explained}");

    let queues = broker.run(&["list", "queues", "--json"]).json();
    let fault = |name: &str| {
        let queue = queues.as_array().unwrap().iter().find(|queue| queue["name"] == name);
        queue.unwrap()["fault"].as_str().map(str::to_owned)
    };
    assert_eq!(fault("sound"), None);
    let told = fault("rotten").unwrap();
    assert!(told.contains(file.to_str().unwrap()) && told.contains("is damaged at byte"), "{told}");
    let table = broker.run(&["list", "queues"]).ok();
    assert!(table.contains("out-of-service") && table.contains(&told), "{table}");

    // New queues go to the shard that works, however many it has.
    for name in ["new", "newer"] {
        broker.queue_of(name, &["kept"]);
        assert_eq!(broker.messages(name), (1, 0));
    }

    // Nothing was cut: with the file as it was everything is there.
    broker.kill();
    std::fs::write(file, before).unwrap();
    broker.restart();
    assert_eq!(consume(&broker, "rotten", 3), ["rot begins here", "and not here", "behind it"]);
    assert_eq!(broker.messages("new"), (1, 0));
}

#[test]
fn a_queue_that_is_deleted_while_its_shard_is_out_of_service_does_not_come_back() {
    let mut broker = Broker::start_with(&["--shards", "2"]);
    broker.queue("sound");
    broker.queue_of("rotten", &["rot begins here"]);
    broker.queue_of("rotten", &["behind it"]);
    broker.kill();
    let (file, before) = damage(&broker, "shard-1", "rot begins here");
    broker.restart();
    broker.run(&["delete", "queue", "rotten"]).ok();
    broker.queue_of("rotten", &["another queue of that name"]);
    broker.kill();
    std::fs::write(file, before).unwrap();
    broker.restart();
    assert_eq!(consume(&broker, "rotten", 1), ["another queue of that name"]);
    assert_eq!(broker.messages("rotten"), (0, 0));
}

#[test]
fn a_broker_whose_only_shard_is_damaged_does_not_start() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("rotten", &["rot begins here"]);
    broker.queue_of("rotten", &["behind it"]);
    broker.kill();
    let (file, _) = damage(&broker, "shard-0", "rot begins here");
    broker.refuses_to_start(&["shard 0 cannot be recovered", file.to_str().unwrap(), "is damaged at byte"]);
}

#[test]
fn a_start_does_not_look_at_what_was_consumed_before_the_last_one() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("worn", &["rot begins here", "behind it"]);
    assert_eq!(consume(&broker, "worn", 2).len(), 2);
    broker.queue_of("worn", &["still there"]);
    broker.stop();
    damage(&broker, "shard-0", "rot begins here");
    broker.restart();
    assert_eq!(consume(&broker, "worn", 1), ["still there"]);
}

#[test]
fn rot_in_a_running_broker_stops_the_queue_that_needs_it_and_no_other() {
    let mut broker = Broker::start_with(&["--shards", "1"]);
    broker.queue_of("sound", &["first", "second"]);
    // Long enough not to be read back together with the others.
    broker.queue_of("rotten", &[&"x".repeat(300_000)]);
    broker.queue_of("rotten", &["rot begins here"]);
    // From now on no message is in memory.
    broker.stop();
    broker.restart();
    let (file, before) = damage(&broker, "shard-0", "rot begins here");

    let damaged = ["506", "is damaged", file.to_str().unwrap(), "purge or delete the queue"];
    assert_eq!(consume(&broker, "rotten", 1), ["x".repeat(300_000)]);
    broker.run(&["consume", "rotten", "--count", "1"]).fails(1, &damaged[1..3]);
    broker.run(&["get", "rotten"]).fails(1, &damaged);
    assert_eq!(consume(&broker, "sound", 2), ["first", "second"]);
    let queues = broker.run(&["list", "queues", "--json"]).json();
    let queue = queues.as_array().unwrap().iter().find(|queue| queue["name"] == "rotten").unwrap();
    assert!(queue["fault"].as_str().unwrap().contains(file.to_str().unwrap()), "{queue}");
    assert_eq!(broker.messages("rotten"), (1, 0));
    broker.queue_of("rotten", &["taken in"]);

    // Nothing is given up before somebody says so: with that bit as it was everything is there.
    broker.stop();
    let mut content = std::fs::read(&file).unwrap();
    let at = content.iter().zip(&before).position(|(now, then)| now != then).unwrap();
    content[at] = before[at];
    std::fs::write(&file, content).unwrap();
    broker.restart();
    assert_eq!(consume(&broker, "rotten", 2), ["rot begins here", "taken in"]);
}
