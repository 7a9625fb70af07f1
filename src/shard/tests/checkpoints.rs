//! What checkpoints save a shard, and what comes back from them.

use std::path::Path;
use std::sync::Arc;

use super::driver::*;
use crate::model::QueueId;
use crate::shard::*;
use crate::storage::testing::{Fault, MemoryDisk, PowerLoss};
use crate::storage::{BodyRead, Disk, LogFailure, LogIndex, ReadFailure, RecoveredBatch, RecoveryReport};

const Q: QueueId = QueueId(7);
const OTHER: QueueId = QueueId(8);
const QUEUES: [QueueId; 2] = [Q, OTHER];

fn files(disk: &MemoryDisk, ending: &str) -> usize {
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    names.iter().filter(|entry| entry.name.to_str().unwrap().ends_with(ending)).count()
}

pub(super) fn disk_bytes(disk: &MemoryDisk) -> usize {
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    names.iter().map(|entry| disk.content(&Path::new(DIRECTORY).join(&entry.name)).unwrap().len()).sum()
}

fn report(driver: &Driver) -> RecoveryReport {
    driver.log.as_ref().unwrap().0.lock().unwrap().recovery().clone()
}

fn after_power_cut(disk: &MemoryDisk, driver: Driver) -> Driver {
    disk.cut_power();
    drop(driver);
    disk.restore_power(PowerLoss::LosesAll, 1);
    Driver::open(disk, 0, &QUEUES)
}

/// Some messages of 500 bytes to both queues, made durable.
fn publish(driver: &mut Driver, from: u64, count: u64) {
    publish_to(driver, from, count, &QUEUES);
}

fn publish_to(driver: &mut Driver, from: u64, count: u64, queues: &[QueueId]) {
    for first in (from..from + count).step_by(5) {
        let ids: Vec<u64> = (first..(first + 5).min(from + count)).collect();
        driver.publish(&ids, 500, queues);
        driver.settle_down();
    }
}

/// Time passes.
fn wait(driver: &mut Driver, turns: usize) {
    (0..turns).for_each(|_| drop(driver.settle_down()));
}

#[test]
fn a_start_reads_the_end_of_the_log_and_knows_all_of_it() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish(&mut driver, 1, 200);
    let taken = seen(&driver.consume(Q, 1, ConsumerLimits { prefetch: 50, ..UNLIMITED }));
    assert_eq!(taken.len(), 50);
    driver.settle(Q, 1, TagRange { first: 3, last: 20 }, Outcome::Accepted, None);
    driver.settle(Q, 1, TagRange { first: 21, last: 30 }, Outcome::Requeued, None);
    publish(&mut driver, 201, 100);
    assert_eq!(files(&disk, ".checkpoint"), 2);
    let mut driver = after_power_cut(&disk, driver);
    let report = report(&driver);
    assert!(report.checkpoint > Some(LogIndex(20)) && report.batches < 60, "{report:?}");
    let expected: Vec<u64> = (1..=300).filter(|id| !(3..=20).contains(id)).collect();
    assert_eq!(driver.peek(Q), expected);
    assert_eq!(driver.peek(OTHER), (1..=300).collect::<Vec<_>>());
    let seen = seen(&driver.consume(Q, 1, UNLIMITED));
    assert_eq!(seen.iter().map(|seen| seen.id).collect::<Vec<_>>(), expected);
    for seen in seen {
        assert_eq!(
            seen.delivery_count > 0,
            (21..=30).contains(&seen.id) || seen.delivery_count > 0 && seen.id <= 60
        );
        assert!(seen.redelivered || seen.id > 60, "{seen:?}");
    }
}

#[test]
fn space_comes_back_when_messages_have_left() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    driver.consume(Q, 1, ConsumerLimits { no_ack: true, ..UNLIMITED });
    driver.consume(OTHER, 1, ConsumerLimits { no_ack: true, ..UNLIMITED });
    publish(&mut driver, 1, 1000);
    let most = disk_bytes(&disk);
    assert!(most < 100_000, "500,000 bytes went through, {most} are there");
    wait(&mut driver, 50);
    // As long as segments that are to be written over are kept.
    (0..300).for_each(|_| driver.log.as_ref().unwrap().0.lock().unwrap().rest().unwrap());
    assert_eq!(
        (files(&disk, ".log"), files(&disk, ".checkpoint")),
        (1, 2),
        "nothing happens, and space comes back"
    );
    assert_eq!(files(&disk, ".spare"), 0);
    assert!(disk_bytes(&disk) < 12_000, "{}", disk_bytes(&disk));
    let quiet = disk.changes();
    wait(&mut driver, 50);
    assert_eq!(disk.changes(), quiet, "there is nothing left to do");
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(driver.peek(Q), [0u64; 0]);
    publish(&mut driver, 1001, 3);
    assert_eq!(driver.peek(Q), [1001, 1002, 1003]);
}

#[test]
fn a_shard_that_is_woken_when_it_asks_for_it_needs_nothing_else() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish(&mut driver, 1, 100);
    for queue in QUEUES {
        driver.consume(queue, 1, ConsumerLimits { no_ack: true, ..UNLIMITED });
    }
    let mut turns = 0;
    while let Some(millis) = driver.shard.wakes_in() {
        driver.wake_after(millis);
        turns += 1;
        assert!(turns < 20, "it comes to an end");
    }
    assert_eq!((files(&disk, ".log"), files(&disk, ".checkpoint")), (1, 2), "{turns} turns");
}

#[test]
fn a_clean_stop_leaves_nothing_to_read() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish(&mut driver, 1, 12);
    driver.stop();
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(report(&driver).batches, 0);
    assert_eq!(driver.peek(Q), (1..=12).collect::<Vec<_>>());
    // Nothing happened: nothing is written, and nothing is lost.
    driver.stop();
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(driver.peek(OTHER), (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_that_fails_costs_space_and_nothing_else() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish(&mut driver, 1, 20);
    assert_eq!(files(&disk, ".checkpoint"), 0);
    let mut last = 20;
    while !driver.shard.is_keeping_house() {
        last += 1;
        driver.publish(&[last], 500, &QUEUES);
    }
    // The disk has the last batch, and the shard, which hears of it in its next turn, makes the checkpoint then.
    driver.log.as_ref().unwrap().0.lock().unwrap().step().unwrap();
    disk.fail_at(disk.changes(), Fault::Io);
    wait(&mut driver, 30);
    assert_eq!((files(&disk, ".checkpoint"), driver.shard.is_keeping_house()), (0, false), "it waits");
    wait(&mut driver, 40);
    assert_eq!(files(&disk, ".checkpoint"), 1, "it was tried again");
    assert!(driver.shard.failure().is_none());
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(driver.peek(Q), (1..=last).collect::<Vec<_>>());
}

#[test]
fn a_queue_that_was_deleted_is_not_in_a_checkpoint() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish(&mut driver, 1, 100);
    driver.delete(Q);
    publish(&mut driver, 101, 100);
    driver.stop();
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(driver.peek(Q), [0u64; 0], "it was made anew");
    assert_eq!(driver.peek(OTHER), (1..=200).collect::<Vec<_>>());
}

#[test]
fn segments_that_are_needed_and_gone_are_told() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish(&mut driver, 1, 100);
    driver.stop();
    let log = driver.log.take().unwrap();
    let second = log.0.lock().unwrap().segments()[1].clone();
    drop((log, driver));
    disk.remove(&second.path).unwrap();
    let failure = Driver::try_open(&disk, 0, &QUEUES).err().unwrap();
    assert!(failure.to_string().contains(&format!(
        "batches {} to {}",
        second.first_index,
        second.end_index.0 - 1
    )));
}

/// Most bytes of disk for a shard with these options beside twice what its queues hold: what went into the log between
/// two checkpoints, twice, the segment that is written, and what is waiting to be merged.
const BESIDE_BYTES: usize = 2 * 20 * 1024 + 8 * 1024 + 3 * 8 * 1024;

#[test]
fn a_message_that_stays_keeps_no_more_than_itself() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    driver.consume(OTHER, 1, ConsumerLimits { no_ack: true, ..UNLIMITED });
    let mut stuck = Vec::new();
    for round in 0..60 {
        // About one segment, in the middle of which is a message that nobody takes.
        publish_to(&mut driver, round * 20 + 1, 10, &[OTHER]);
        stuck.push(round * 20 + 11);
        publish_to(&mut driver, round * 20 + 11, 1, &[Q]);
        publish_to(&mut driver, round * 20 + 12, 9, &[OTHER]);
        wait(&mut driver, 3);
        let bytes = disk_bytes(&disk);
        assert!(bytes < BESIDE_BYTES + 2 * stuck.len() * 600, "round {round}: {bytes}");
    }
    wait(&mut driver, 100);
    let bytes = disk_bytes(&disk);
    assert!(bytes < 3 * 8 * 1024 + 2 * stuck.len() * 600, "{bytes}");
    assert_eq!(driver.peek(Q), stuck);
    let quiet = disk.changes();
    wait(&mut driver, 50);
    assert_eq!(disk.changes(), quiet, "there is nothing left to do");
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(driver.peek(Q), stuck);
    assert_eq!(driver.peek(OTHER), [0u64; 0]);
    let seen = seen(&driver.consume(Q, 1, UNLIMITED));
    assert_eq!(seen.iter().map(|seen| seen.id).collect::<Vec<_>>(), stuck);
    driver.settle(Q, 1, TagRange { first: 0, last: 0 }, Outcome::Accepted, None);
    wait(&mut driver, 60);
    assert_eq!(files(&disk, ".log"), 1);
}

/// The 30 large messages of a queue leave, and their space comes back once and for all; then the power fails.
fn without_large_ones(disk: &MemoryDisk, mut driver: Driver) -> Driver {
    driver.consume(OTHER, 1, UNLIMITED);
    driver.settle(OTHER, 1, TagRange { first: 0, last: 0 }, Outcome::Accepted, None);
    wait(&mut driver, 200);
    let bytes = disk_bytes(disk);
    assert!(bytes < 30 * 6_000 / 4, "{bytes}");
    let quiet = disk.changes();
    wait(&mut driver, 50);
    assert_eq!(disk.changes(), quiet, "there is nothing left to do");
    after_power_cut(disk, driver)
}

#[test]
fn small_messages_that_stay_do_not_keep_the_large_ones_among_which_they_came() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    let mut stuck = Vec::new();
    for round in 0..30 {
        // Most messages stay, and hardly a byte of them.
        let first = round * 10 + 1;
        driver.publish(&(first..first + 9).collect::<Vec<_>>(), 3, &[Q]);
        driver.publish(&[first + 9], 6_000, &[OTHER]);
        stuck.extend(first..first + 9);
        driver.settle_down();
    }
    let mut driver = without_large_ones(&disk, driver);
    assert_eq!(driver.peek(Q), stuck);
    assert_eq!(driver.peek(OTHER), [0u64; 0]);
}

/// Each segment holds something that is needed, so none is dead, and little is written, so no checkpoint is due.
#[test]
fn what_came_since_the_newest_checkpoint_is_merged_as_well() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    driver.shard.options.checkpoint_bytes = u64::MAX;
    for id in (1..61).step_by(2) {
        driver.publish(&[id], 3, &[Q]);
        driver.publish(&[id + 1], 6_000, &[OTHER]);
        driver.settle_down();
    }
    let mut driver = without_large_ones(&disk, driver);
    assert_eq!(driver.peek(Q), (1..61).step_by(2).collect::<Vec<_>>());
}

#[test]
fn what_several_queues_need_stays_for_each_of_them() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish(&mut driver, 1, 400);
    for (queue, nth) in [(Q, 17), (OTHER, 23)] {
        let messages = seen(&driver.consume(queue, 1, UNLIMITED));
        assert_eq!(messages.len(), 400);
        for seen in messages.iter().filter(|seen| seen.id % nth != 0) {
            driver.settle(queue, 1, TagRange { first: seen.tag, last: 0 }, Outcome::Accepted, None);
        }
    }
    let before = disk_bytes(&disk);
    for number in 0..20 {
        publish_to(&mut driver, 1001 + number, 1, &QUEUES);
        wait(&mut driver, 20);
    }
    let bytes = disk_bytes(&disk);
    assert!(bytes < before / 2, "{before} {bytes}");
    let mut driver = after_power_cut(&disk, driver);
    for (queue, nth) in [(Q, 17), (OTHER, 23)] {
        let expected: Vec<u64> = (1..=400).filter(|id| id % nth == 0).chain(1001..1021).collect();
        assert_eq!(driver.peek(queue), expected);
    }
}

#[test]
fn bytes_of_large_messages_are_exact_live_and_after_any_restart() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    // Around the steps that a reference has room for, and among small ones.
    let pads = [0, 16_371, 16_372, 16_373, 20_001, 3, 40_000, 100_003];
    let size = |id: u64| run_of(&[id], pads[id as usize % pads.len()]).bytes().len() as u64;
    let bytes = |ids: &mut dyn Iterator<Item = u64>| ids.map(size).sum::<u64>();
    let publish = |driver: &mut Driver, ids: std::ops::Range<u64>| {
        for id in ids {
            driver.publish(&[id], pads[id as usize % pads.len()], &QUEUES);
            driver.settle_down();
        }
    };
    publish(&mut driver, 1..41);
    assert_eq!(driver.inspect(Q).counts.bytes, bytes(&mut (1..41)));
    driver.consume(Q, 1, UNLIMITED);
    driver.settle(Q, 1, TagRange { first: 4, last: 11 }, Outcome::Accepted, None);
    driver.settle_down();
    let left = || (1..41).filter(|id| !(4..=11).contains(id));
    assert_eq!(driver.inspect(Q).counts.bytes, bytes(&mut left()));
    // From the log alone, then from a checkpoint with a little log behind it, then from a checkpoint alone.
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(driver.inspect(Q).counts.bytes, bytes(&mut left()));
    wait(&mut driver, 50);
    publish(&mut driver, 41..44);
    let mut driver = after_power_cut(&disk, driver);
    assert!(report(&driver).checkpoint.is_some() && report(&driver).batches > 0, "{:?}", report(&driver));
    assert_eq!(driver.inspect(Q).counts.bytes, bytes(&mut left().chain(41..44)));
    driver.stop();
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(report(&driver).batches, 0);
    assert_eq!(driver.inspect(OTHER).counts.bytes, bytes(&mut (1..44)));
    driver.consume(OTHER, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED });
    driver.purge(OTHER);
    assert_eq!(driver.inspect(OTHER).counts.bytes, bytes(&mut (1..3)), "what a consumer has stays");
}

#[test]
fn a_purge_is_answered_when_the_disk_has_it() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish(&mut driver, 1, 5);
    let ask = |driver: &mut Driver| {
        let (reply, answer) = tokio::sync::oneshot::channel();
        driver.command(Command::Purge { queue: Q, reply });
        answer
    };
    let mut answer = ask(&mut driver);
    assert!(answer.try_recv().is_err(), "it is not on the disk");
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(driver.peek(Q), [1, 2, 3, 4, 5], "nobody was told that they are gone");
    let mut answer = ask(&mut driver);
    driver.settle_down();
    assert_eq!(answer.try_recv(), Ok(Ok(5)));
    let mut again = ask(&mut driver);
    driver.settle_down();
    assert_eq!(again.try_recv(), Ok(Ok(0)), "of nothing, too");
    let mut driver = after_power_cut(&disk, driver);
    assert_eq!(driver.peek(Q), [0u64; 0]);
    // One under way when the log fails is refused.
    publish(&mut driver, 6, 1);
    let mut answer = ask(&mut driver);
    driver.shard.fail(&LogFailure::WriterStopped);
    assert!(answer.try_recv().unwrap().is_err());
}

#[test]
fn what_is_on_its_way_to_a_consumer_is_not_merged_away() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish_to(&mut driver, 1, 400, &[Q]);
    let messages = seen(&driver.consume(Q, 1, UNLIMITED));
    let settled = messages.iter().filter(|seen| seen.id % 20 != 0);
    let settlements = settled
        .map(|seen| Settlement { range: TagRange { first: seen.tag, last: 0 }, outcome: Outcome::Accepted })
        .collect();
    driver.command(Command::Settle { queue: Q, key: key(1), settlements, reply: None });
    driver.settle_down();
    let mut driver = after_power_cut(&disk, driver);
    let before = disk_bytes(&disk);

    // Without acknowledgements a message has left its queue when it is handed out; these wait for the disk.
    driver.hold_reads();
    assert_eq!(seen(&driver.consume(Q, 2, ConsumerLimits { no_ack: true, ..UNLIMITED })), []);
    for number in 0..20 {
        publish_to(&mut driver, 1001 + number, 1, &[OTHER]);
        wait(&mut driver, 20);
    }
    let after = disk_bytes(&disk);
    assert!(after < before / 2, "{before} {after}");
    let seen = seen(&driver.release_reads());
    let expected: Vec<u64> = (1..=400).filter(|id| id % 20 == 0).collect();
    assert_eq!(seen.iter().map(|seen| seen.id).collect::<Vec<_>>(), expected);
}

#[test]
fn a_job_that_panics_is_told_like_any_other_failure() {
    /// A log that cannot be read for a reason that nobody thought of.
    struct Panics;
    impl BodyRead for Panics {
        fn read(&self, first: LogIndex, _end: LogIndex) -> Result<Vec<RecoveredBatch>, ReadFailure> {
            panic!("nobody thought of batch {first}")
        }
    }
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &QUEUES);
    publish_to(&mut driver, 1, 1, &[Q]);
    let mut driver = after_power_cut(&disk, driver);
    driver.hold_reads();
    driver.consume(Q, 1, UNLIMITED);
    driver.read_through(Arc::new(Panics));
    let events = driver.release_reads();
    let [Event::ConsumerEnded { reason, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(reason.contains("the program failed over it"), "{reason}");
}
