//! How often messages came back, and what the log has of it.

use super::driver::*;
use crate::model::QueueId;
use crate::shard::recounts::RECORD_AFTER_MILLIS;
use crate::shard::*;
use crate::storage::testing::{MemoryDisk, PowerLoss};

const Q: QueueId = QueueId(7);
const OTHER: QueueId = QueueId(8);
const QUEUES: [QueueId; 2] = [Q, OTHER];

/// The delivery count of the only message of the queue.
fn count(driver: &mut Driver) -> u32 {
    let [seen] = seen(&driver.consume(Q, 9, UNLIMITED))[..] else { panic!("one message waits") };
    seen.delivery_count
}

fn after_power_cut(disk: &MemoryDisk, driver: Driver) -> Driver {
    disk.cut_power();
    drop(driver);
    disk.restore_power(PowerLoss::LosesAll, 1);
    Driver::open(disk, usize::MAX, &QUEUES)
}

/// A shard with a message that has come back so often.
fn poisoned(disk: &MemoryDisk, times: u64) -> Driver {
    let mut driver = Driver::open(disk, usize::MAX, &QUEUES);
    driver.be_quick();
    driver.publish(&[1], 0, &[Q]);
    driver.settle_down();
    driver.consume(Q, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED });
    for tag in 1..=times {
        let events = driver.settle(Q, 1, TagRange { first: tag, last: 0 }, Outcome::Requeued, None);
        assert_eq!(seen(&events).len(), 1, "it comes again at once");
        driver.settle_down();
    }
    driver
}

#[test]
fn a_message_that_comes_back_over_and_over_writes_next_to_nothing() {
    let disk = MemoryDisk::new();
    let mut driver = poisoned(&disk, 1);
    let before = disk.writes();
    for tag in 2..=10_000 {
        driver.settle(Q, 1, TagRange { first: tag, last: 0 }, Outcome::Requeued, None);
        driver.settle_down();
    }
    assert_eq!(disk.writes(), before);
    driver.wake_after(RECORD_AFTER_MILLIS);
    driver.settle_down();
    assert!(disk.writes() > before);
    assert_eq!(count(&mut after_power_cut(&disk, driver)), 10_000);
}

#[test]
fn counts_are_recorded_with_whatever_is_recorded() {
    let disk = MemoryDisk::new();
    let mut driver = poisoned(&disk, 3);
    driver.publish(&[2], 0, &[OTHER]);
    driver.settle_down();
    assert_eq!(count(&mut after_power_cut(&disk, driver)), 3);
}

#[test]
fn a_clean_stop_keeps_counts() {
    let disk = MemoryDisk::new();
    let mut driver = poisoned(&disk, 3);
    driver.stop();
    // It was with its consumer, and came back once more.
    assert_eq!(count(&mut after_power_cut(&disk, driver)), 4);
}

#[test]
fn a_crash_takes_back_counts_and_no_message() {
    let disk = MemoryDisk::new();
    let driver = poisoned(&disk, 3);
    let mut driver = after_power_cut(&disk, driver);
    let [seen] = seen(&driver.consume(Q, 9, UNLIMITED))[..] else { panic!("one message waits") };
    assert_eq!((seen.delivery_count, seen.redelivered), (0, true));
}

#[test]
fn who_asks_is_told_that_a_message_is_back_without_waiting_for_its_count() {
    let disk = MemoryDisk::new();
    let mut driver = poisoned(&disk, 0);
    let events = driver.settle(Q, 1, TagRange { first: 1, last: 0 }, Outcome::Requeued, Some(5));
    assert!(events.iter().any(|event| matches!(event, Event::Settled { request: 5, .. })), "{events:?}");
}

#[test]
fn a_disk_without_room_does_not_make_counts_pile_up() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &QUEUES);
    driver.be_quick();
    driver.publish(&[1, 2, 3], 0, &[Q]);
    driver.settle_down();
    driver.consume(Q, 1, UNLIMITED);
    for last in (1..=9000).map(|round| round * 3) {
        driver.settle(Q, 1, TagRange { first: last - 2, last: last - 2 }, Outcome::Requeued, None);
        driver.settle(Q, 1, TagRange { first: last, last }, Outcome::Requeued, None);
        driver.settle(Q, 1, TagRange { first: last - 1, last: last - 1 }, Outcome::Requeued, None);
    }
    let queue = &mut driver.shard.queues.get_mut(&Q).unwrap().queue;
    assert!(queue.uncounted_runs() <= 1024, "{}", queue.uncounted_runs());
}
