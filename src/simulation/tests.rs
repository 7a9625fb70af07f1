//! Runs of a few seeds.

use std::sync::Arc;

use super::world::{World, fresh_disk};
use super::*;
use crate::broker::Workers as _;
use crate::model::{Bug, plant};

fn options(seed: u64, steps: u64) -> SimulationOptions {
    SimulationOptions { seed, steps, faults: true, trace_lines: 60 }
}

#[test]
fn a_broker_is_what_its_clients_know_and_everything_was_tried() {
    let mut all = Counters::default();
    for seed in 100..140 {
        let outcome = simulate(options(seed, 2000));
        assert_eq!(outcome.failure, None, "seed {seed}");
        all.add(&outcome.counters);
    }
    let serde_json::Value::Object(counts) = serde_json::to_value(&all).unwrap() else { panic!("{all:?}") };
    for (what, count) in counts {
        assert!(count.as_u64() > Some(0), "{what} never happened: {all:?}");
    }
}

/// Work that waits holds logs, and those hold who is to do it.
#[test]
fn nothing_is_left_of_a_broker_that_is_gone() {
    let world = World::open(&fresh_disk(), 1).unwrap();
    let held = Arc::clone(&world.workers);
    world.workers.run(Box::new(move || drop(held)));
    let workers = Arc::downgrade(&world.workers);
    drop(world);
    assert!(workers.upgrade().is_none());
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..5 {
        assert_eq!(simulate(options(seed, 1000)), simulate(options(seed, 1000)));
    }
}

#[test]
fn without_faults_there_are_none() {
    let outcome = simulate(SimulationOptions { faults: false, ..options(3, 3000) });
    assert_eq!(outcome.failure, None);
    assert_eq!((outcome.counters.crashes, outcome.counters.faults, outcome.counters.full_disks), (0, 0, 0));
}

/// Bugs that are made on purpose.
const BUGS: [Bug; 18] = [
    Bug::SyncLeftOut,
    Bug::NameNotSynced,
    Bug::FullNotCut,
    Bug::ChecksumIgnored,
    Bug::SettlementNotRecorded,
    Bug::CheckpointForgets,
    Bug::MergeForgets,
    Bug::MergeForgetsRetained,
    Bug::NeighbourRead,
    Bug::MarkIgnored,
    Bug::MoveTakesMore,
    Bug::RequeuedLast,
    Bug::UnbindNotRecorded,
    Bug::ShownBeforeDurable,
    Bug::DeadLettersLetGo,
    Bug::PriorityIgnored,
    Bug::ExpirationForgotten,
    Bug::DelayForgotten,
];

/// Seeds of 3,000 steps within which a bug is found.
fn seeds(bug: Bug) -> std::ops::Range<u64> {
    match bug {
        // A log must write over a segment, fill it and be killed before its next checkpoint: about one seed of sixty does.
        Bug::FullNotCut => 20..40,
        _ => 0..10,
    }
}

#[test]
fn bugs_that_are_made_are_found() {
    for bug in BUGS {
        plant(Some(bug));
        let seeds = seeds(bug);
        let found = seeds
            .clone()
            .find_map(|seed| simulate(options(seed, 3000)).failure.map(|failure| (seed, failure)));
        plant(None);
        let (seed, failure) = found.unwrap_or_else(|| panic!("{bug:?} is not found within seeds {seeds:?}"));
        println!("{bug:?}: seed {seed}, step {}: {}", failure.step, failure.what);
    }
}
