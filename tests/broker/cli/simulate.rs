//! `leveret simulate`: seeds, what it tells of them, and that it can be made again.

use serde_json::Value;

use crate::support::{leveret, run};

/// The objects that it prints: one for each seed in any order, then the one for all.
fn simulated(arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["simulate", "--json"], arguments].concat();
    let printed = run(leveret(&arguments)).ok();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    let arguments = ["--seed", "7", "--seeds", "4", "--steps", "800"];
    let mut first = simulated(&arguments);
    let mut second = simulated(&[&arguments[..], &["--jobs", "1"]].concat());
    let (all, _) = (first.pop().unwrap(), second.pop());
    first.sort_by_key(|object| object["seed"].as_u64());
    assert_eq!(first, second, "one job takes the seeds in order");
    assert_eq!(
        first.iter().map(|object| object["seed"].as_u64().unwrap()).collect::<Vec<_>>(),
        [7, 8, 9, 10]
    );
    assert_eq!((&all["seeds"], &all["failed_seed"]), (&Value::from(4), &Value::Null));
    assert_eq!(all["counters"]["steps"], 3200);
    assert_ne!(first[0]["trace"], first[1]["trace"]);
}

#[test]
fn without_faults_brokers_stop_only_as_they_are_asked() {
    let all = simulated(&["--seeds", "2", "--steps", "3000", "--faults", "none"]).pop().unwrap();
    let counters = &all["counters"];
    assert_eq!((&counters["crashes"], &counters["faults"]), (&Value::from(0), &Value::from(0)));
    assert!(counters["stops"].as_u64() > Some(0), "{counters}");
}

#[test]
fn people_read_a_table() {
    let printed = run(leveret(&["simulate", "--steps", "500"])).ok();
    assert!(printed.starts_with("1 seeds in "), "{printed}");
    assert!(printed.contains("500  steps"), "{printed}");
}
