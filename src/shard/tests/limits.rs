//! Queues with bounds on what waits in them.

use super::driver::*;
use crate::model::QueueId;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

fn limited(limits: Limits) -> [(QueueId, QueueOptions); 2] {
    let plain = QueueOptions { logged: true, ..QueueOptions::default() };
    [(Q, QueueOptions { limits, ..plain }), (OTHER, plain)]
}

fn settle_all(driver: &mut Driver, outcome: Outcome) {
    driver.settle(Q, 1, TagRange { first: 0, last: 0 }, outcome, None);
    driver.settle_down();
}

#[test]
fn the_oldest_make_room_and_what_consumers_have_does_not_count() {
    let disk = MemoryDisk::new();
    let queues = limited(Limits { messages: Some(3), ..Limits::default() });
    let mut driver = Driver::open_as(&disk, 0, &queues);
    driver.consume(Q, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED });
    for id in 1..=8 {
        driver.publish(&[id], 100, &[Q, OTHER]);
        driver.settle_down();
    }
    assert_eq!(driver.peek(Q), [1, 2, 6, 7, 8], "two of them are with a consumer");
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.ready, counts.unsettled, counts.departures.max_length), (3, 2, 3));
    assert_eq!(driver.peek(OTHER).len(), 8, "a queue without bounds keeps them");
    // What comes back is older than all of them.
    driver.command(Command::Cancel { queue: Q, key: key(1) });
    settle_all(&mut driver, Outcome::Requeued);
    assert_eq!(driver.peek(Q), [6, 7, 8]);

    let digest = driver.digest();
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!((driver.peek(Q), driver.digest()), (vec![6, 7, 8], digest), "from the log");
    driver.stop();
    let digest = driver.digest();
    drop(driver);
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!((driver.peek(Q), driver.digest()), (vec![6, 7, 8], digest), "from a checkpoint");
    driver.publish(&[9], 100, &[Q]);
    driver.settle_down();
    assert_eq!(driver.peek(Q), [7, 8, 9]);
}

#[test]
fn bytes_have_a_bound_too() {
    let mut driver =
        Driver::open_as(&MemoryDisk::new(), 0, &limited(Limits { bytes: Some(1_000), ..Limits::default() }));
    for id in 1..=6 {
        driver.publish(&[id], 300, &[Q]);
        driver.settle_down();
    }
    assert_eq!(driver.peek(Q), [4, 5, 6]);
    assert!(driver.inspect(Q).counts.bytes <= 1_000);
    driver.publish(&[7], 3_000, &[Q]);
    driver.settle_down();
    assert_eq!(driver.peek(Q), [0; 0], "one that is larger than all of the room has none");
}

/// A clock says what is too old, and an entry of the log that it went.
#[test]
fn what_waited_for_too_long_goes_while_nothing_else_happens_and_does_not_come_back() {
    let disk = MemoryDisk::new();
    let queues = limited(Limits { ttl_millis: Some(500), ..Limits::default() });
    let mut driver = Driver::open_as(&disk, usize::MAX, &queues);
    driver.be_quick();
    driver.publish(&[1], 10, &[Q, OTHER]);
    driver.settle_down();
    driver.wake_after(300);
    driver.publish(&[2], 10, &[Q]);
    driver.settle_down();
    assert!(
        driver.shard.wakes_in().is_some_and(|millis| (190..=220).contains(&millis)),
        "it wakes by itself"
    );
    driver.wake_after(190);
    assert_eq!(driver.peek(Q), [1, 2]);
    driver.wake_after(20);
    assert_eq!(driver.peek(Q), [2]);
    driver.wake_after(310);
    driver.settle_down();
    assert_eq!(driver.peek(Q), [0; 0]);
    assert_eq!((driver.inspect(Q).counts.departures.expired, driver.peek(OTHER)), (2, vec![1]));
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, usize::MAX, &queues);
    assert_eq!(driver.peek(Q), [0; 0], "it was recorded that they went");
}

#[test]
fn what_a_consumer_has_expires_when_it_comes_back() {
    let mut driver = Driver::open_as(
        &MemoryDisk::new(),
        usize::MAX,
        &limited(Limits { ttl_millis: Some(500), ..Limits::default() }),
    );
    driver.be_quick();
    driver.publish(&[1, 2], 10, &[Q]);
    driver.settle_down();
    driver.consume(Q, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED });
    driver.settle_down();
    driver.wake_after(2_000);
    driver.settle_down();
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.ready, counts.unsettled, counts.departures.expired), (0, 1, 1));
    let events = driver.settle(Q, 1, TagRange { first: 0, last: 0 }, Outcome::Requeued, None);
    assert_eq!(seen(&events).len(), 0, "nor does the consumer get it once more");
    driver.settle_down();
    assert_eq!(driver.inspect(Q).counts.departures.expired, 2);
}

#[test]
fn with_no_room_at_all_consumers_have_what_comes() {
    let queues = limited(Limits { messages: Some(0), ..Limits::default() });
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &queues);
    let mut got = seen(&driver.consume(Q, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED }));
    got.extend(seen(&driver.publish(&[1, 2, 3], 10, &[Q]).1));
    got.extend(seen(&driver.settle_down()));
    assert_eq!(got.iter().map(|seen| seen.id).collect::<Vec<_>>(), [1, 2], "when the mark is there");
    assert_eq!(driver.inspect(Q).counts.departures.max_length, 1);
}

#[test]
fn what_nobody_takes_at_once_goes_if_it_may_not_wait() {
    let mut driver = Driver::open_as(
        &MemoryDisk::new(),
        usize::MAX,
        &limited(Limits { ttl_millis: Some(0), ..Limits::default() }),
    );
    driver.publish(&[1], 10, &[Q]);
    driver.settle_down();
    assert_eq!(driver.peek(Q), [0; 0]);
    let mut got = seen(&driver.consume(Q, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED }));
    got.extend(seen(&driver.settle_down()));
    got.extend(seen(&driver.publish(&[2, 3, 4], 10, &[Q]).1));
    got.extend(seen(&driver.settle_down()));
    assert_eq!(
        got.iter().map(|seen| seen.id).collect::<Vec<_>>(),
        [2, 3],
        "also while the mark is on its way"
    );
    assert_eq!(driver.inspect(Q).counts.departures.expired, 2);
}
