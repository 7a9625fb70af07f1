//! Queues that know priorities.

use super::driver::*;
use crate::model::QueueId;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

fn prior(options: QueueOptions) -> [(QueueId, QueueOptions); 2] {
    let plain = QueueOptions { logged: true, ..QueueOptions::default() };
    [(Q, QueueOptions { logged: true, max_priority: Some(5), ..options }), (OTHER, plain)]
}

fn ids(events: &[Event]) -> Vec<u64> {
    seen(events).iter().map(|seen| seen.id).collect()
}

/// All that waits, in the order in which it goes out.
fn drain(driver: &mut Driver, queue: QueueId) -> Vec<u64> {
    let mut events = driver.consume(queue, 9, ConsumerLimits { no_ack: true, ..UNLIMITED });
    events.extend(driver.settle_down());
    ids(&events)
}

#[test]
fn the_order_is_the_same_after_a_restart_from_the_log_and_from_a_checkpoint() {
    for checkpoint in [false, true] {
        let disk = MemoryDisk::new();
        let queues = prior(QueueOptions::default());
        let mut driver = Driver::open_as(&disk, 0, &queues);
        driver.publish_prior(&[(1, 0), (2, 3), (3, 3), (4, 200), (5, 5), (6, 0)], &[Q, OTHER]);
        driver.publish(&[7], 10, &[Q]);
        driver.publish_prior(&[(8, 1), (9, 5)], &[Q]);
        driver.settle_down();
        // One that is given back, and one that goes.
        driver.consume(Q, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED });
        driver.settle(Q, 1, TagRange { first: 2, last: 2 }, Outcome::Accepted, None);
        driver.command(Command::Detach { queue: Q, key: key(1) });
        driver.wake_after(10_000);
        driver.settle_down();
        if checkpoint {
            driver.stop();
        }
        let digest = driver.digest();
        drop(driver);
        if !checkpoint {
            disk.kill_process();
        }
        let mut driver = Driver::open_as(&disk, 0, &queues);
        assert_eq!(driver.digest(), digest, "checkpoint: {checkpoint}");
        assert_eq!(driver.peek(Q), [1, 2, 3, 4, 6, 7, 8, 9]);
        driver.publish_prior(&[(10, 4), (11, 5)], &[Q]);
        driver.settle_down();
        assert_eq!(drain(&mut driver, Q), [4, 9, 11, 10, 2, 3, 8, 1, 6, 7], "checkpoint: {checkpoint}");
        assert_eq!(drain(&mut driver, OTHER), [1, 2, 3, 4, 5, 6], "a queue without heeds none");
    }
}

#[test]
fn a_full_one_drops_what_would_go_out_next() {
    let disk = MemoryDisk::new();
    let limits = Limits { messages: Some(2), ..Limits::default() };
    let queues = prior(QueueOptions { limits, dead_letters: true, ..QueueOptions::default() });
    let mut driver = Driver::open_as(&disk, 0, &queues);
    for message in [(1, 1), (2, 3), (3, 2), (4, 5), (5, 1)] {
        driver.publish_prior(&[message], &[Q]);
        driver.settle_down();
    }
    assert_eq!(driver.peek(Q), [1, 5]);
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.ready, counts.departures.max_length, counts.dead_letters), (2, 3, 3));
    let digest = driver.digest();
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!((driver.digest(), driver.peek(Q)), (digest, vec![1, 5]));
}

#[test]
fn what_waited_for_too_long_goes_whatever_stands_before_it() {
    let limits = Limits { ttl_millis: Some(500), ..Limits::default() };
    let mut driver = Driver::open_as(
        &MemoryDisk::new(),
        usize::MAX,
        &prior(QueueOptions { limits, ..QueueOptions::default() }),
    );
    driver.be_quick();
    driver.publish_prior(&[(1, 0), (2, 4)], &[Q]);
    driver.settle_down();
    driver.wake_after(300);
    driver.publish_prior(&[(3, 5), (4, 0)], &[Q]);
    driver.settle_down();
    assert!(
        driver.shard.wakes_in().is_some_and(|millis| (190..=220).contains(&millis)),
        "it wakes for the oldest, which is not the next one"
    );
    driver.wake_after(220);
    assert_eq!(driver.peek(Q), [3, 4]);
    driver.wake_after(320);
    assert_eq!(driver.peek(Q), [0; 0]);
    assert_eq!(driver.inspect(Q).counts.departures.expired, 4);
}

#[test]
fn an_urgent_message_waits_for_no_mark_of_its_own() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open_as(&disk, usize::MAX, &prior(QueueOptions::default()));
    driver.consume(Q, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED });
    driver.settle_down();
    driver.publish_prior(&[(1, 0), (2, 0)], &[Q]);
    driver.settle_down();
    // The disk does nothing until the next step.
    driver.publish_prior(&[(3, 5)], &[Q]);
    let events = driver.settle(Q, 1, TagRange { first: 1, last: 1 }, Outcome::Accepted, None);
    assert_eq!(ids(&events), [3], "it goes out in the turn in which there is room");
}

#[test]
fn nobody_counts_as_served_of_whom_nothing_went_out_before_a_clean_stop() {
    let disk = MemoryDisk::new();
    let queues = prior(QueueOptions::default());
    let mut driver = Driver::open_as(&disk, 0, &queues);
    driver.publish_prior(&[(1, 0), (2, 5), (3, 2)], &[Q]);
    driver.settle_down();
    driver.stop();
    drop(driver);
    let mut driver = Driver::open_as(&disk, 0, &queues);
    let mut events = driver.consume(Q, 1, UNLIMITED);
    events.extend(driver.settle_down());
    let told: Vec<(u64, bool)> = seen(&events).iter().map(|seen| (seen.id, seen.redelivered)).collect();
    assert_eq!(told, [(2, false), (3, false), (1, false)]);
}

#[test]
fn what_is_retained_is_seen_in_the_order_in_which_it_came() {
    let disk = MemoryDisk::new();
    let retention = Some(Retention { messages: Some(3), ..Retention::default() });
    let queues = prior(QueueOptions { retention, ..QueueOptions::default() });
    let mut driver = Driver::open_as(&disk, 0, &queues);
    driver.publish_prior(&[(1, 0), (2, 5), (3, 2), (4, 5)], &[Q]);
    driver.settle_down();
    assert_eq!(drain(&mut driver, Q), [2, 4, 3, 1]);
    driver.settle_down();
    assert_eq!(driver.peek_retained(Q), [2, 3, 4], "the newest by the order in which they came");
    driver.stop();
    let digest = driver.digest();
    drop(driver);
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!((driver.digest(), driver.peek_retained(Q)), (digest, vec![2, 3, 4]));
}
