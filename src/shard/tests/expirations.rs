//! Messages that say themselves when they expire.

use super::driver::*;
use crate::model::QueueId;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

fn queues(limits: Limits) -> [(QueueId, QueueOptions); 2] {
    let plain = QueueOptions { logged: true, ..QueueOptions::default() };
    [(Q, QueueOptions { limits, ..plain }), (OTHER, plain)]
}

fn open(disk: &MemoryDisk) -> Driver {
    let mut driver = Driver::open_as(disk, usize::MAX, &queues(Limits::default()));
    driver.be_quick();
    driver
}

fn ids(events: &[Event]) -> Vec<u64> {
    seen(events).iter().map(|seen| seen.id).collect()
}

#[test]
fn each_leaves_when_its_time_is_over_wherever_it_stands() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_expiring(&[(1, 1_000), (2, NEVER), (3, 300), (4, 305), (5, 600)], &[Q, OTHER]);
    driver.settle_down();
    assert_eq!(driver.shard.wakes_in(), Some(300), "it wakes by itself");
    driver.wake_after(299);
    assert_eq!(driver.peek(Q), [1, 2, 3, 4, 5]);
    driver.wake_after(1);
    assert_eq!(driver.peek(Q), [1, 2, 4, 5]);
    assert_eq!(driver.shard.wakes_in(), Some(10), "not for each millisecond");
    driver.wake_after(400);
    assert_eq!((driver.peek(Q), driver.peek(OTHER)), (vec![1, 2], vec![1, 2]));
    assert_eq!(driver.inspect(Q).counts.departures.expired, 3);
    driver.wake_after(1_000_000);
    assert_eq!(
        (driver.peek(Q), driver.expirations()),
        (vec![2], Vec::new()),
        "nothing is known of what left"
    );
}

#[test]
fn a_restart_changes_no_time() {
    let disk = MemoryDisk::new();
    let mut driver = open(&disk);
    driver.publish_expiring(&[(1, NEVER), (2, 5_000), (3, 900), (4, 700)], &[Q, OTHER]);
    driver.publish_expiring(&[(5, 100_000)], &[Q]);
    driver.settle_down();
    driver.wake_after(800);
    driver.settle_down();
    let (digest, expirations) = (driver.digest(), driver.expirations());
    assert_eq!(expirations.len(), 5);
    drop(driver);
    disk.kill_process();
    let mut driver = open(&disk);
    assert_eq!((driver.digest(), driver.expirations()), (digest, expirations.clone()), "from the log");
    driver.stop();
    let digest = driver.digest();
    drop(driver);
    let mut driver = open(&disk);
    assert_eq!((driver.digest(), driver.expirations()), (digest, expirations), "from a checkpoint");
    // The clock of this one begins at 0.
    driver.wake_after(900);
    driver.settle_down();
    assert_eq!((driver.peek(Q), driver.peek(OTHER)), (vec![1, 2, 5], vec![1, 2]));
    driver.wake_after(200_000);
    driver.settle_down();
    drop(driver);
    disk.kill_process();
    let mut driver = open(&disk);
    assert_eq!((driver.peek(Q), driver.peek(OTHER)), (vec![1], vec![1]), "it was recorded that they went");
}

#[test]
fn what_expired_while_nobody_was_there_is_not_delivered() {
    let disk = MemoryDisk::new();
    let mut driver = open(&disk);
    driver.publish_expiring(&[(1, 500), (2, NEVER)], &[Q]);
    driver.settle_down();
    drop(driver);
    disk.kill_process();
    let mut driver = open(&disk);
    driver.wake_after(60_000);
    assert_eq!(ids(&driver.consume(Q, 1, UNLIMITED)), [2]);
}

#[test]
fn of_the_queues_time_and_its_own_the_one_counts_that_is_over_first() {
    let queues = queues(Limits { ttl_millis: Some(500), ..Limits::default() });
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &queues);
    driver.be_quick();
    driver.publish_expiring(&[(1, 10_000), (2, 200), (3, NEVER)], &[Q, OTHER]);
    driver.settle_down();
    driver.wake_after(200);
    assert_eq!(driver.peek(Q), [1, 3]);
    driver.wake_after(320);
    assert_eq!((driver.peek(Q), driver.peek(OTHER)), (vec![], vec![1, 3]));
    let left: Vec<QueueId> = driver.expirations().into_iter().map(|(queue, ..)| queue).collect();
    assert_eq!(left, [OTHER]);
}

#[test]
fn what_a_consumer_has_expires_when_it_comes_back() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_expiring(&[(1, 500), (2, 500), (3, 5_000), (4, 600)], &[Q]);
    driver.consume(Q, 1, ConsumerLimits { prefetch: 3, ..UNLIMITED });
    driver.wake_after(1_000);
    driver.settle_down();
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.ready, counts.unsettled, counts.departures.expired), (0, 3, 1));
    driver.settle(Q, 1, TagRange { first: 1, last: 1 }, Outcome::Accepted, None);
    let events = driver.settle(Q, 1, TagRange { first: 0, last: 0 }, Outcome::Requeued, None);
    assert_eq!(ids(&events), [3], "the others do not go out once more");
    driver.settle_down();
    let counts = driver.inspect(Q).counts;
    assert_eq!(
        (counts.departures.expired, counts.departures.accepted, driver.expirations().len()),
        (2, 1, 1)
    );
}

/// Whoever asks right behind the one that gave it back.
#[test]
fn what_came_back_too_late_is_not_there_for_single_requests() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_expiring(&[(1, 500)], &[Q]);
    driver.consume(Q, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED });
    driver.command(Command::Cancel { queue: Q, key: key(1) });
    driver.wake_after(1_000);
    let settlements = vec![Settlement { range: TagRange { first: 0, last: 0 }, outcome: Outcome::Requeued }];
    let outlet = std::sync::Arc::clone(&driver.outlet);
    let events = driver.turn(vec![
        Command::Settle { queue: Q, key: key(1), settlements, reply: None },
        Command::Get { queue: Q, key: key(GETS), party: party(), outlet },
    ]);
    assert_eq!(ids(&events), [0; 0]);
    assert!(events.iter().any(|event| matches!(event, Event::Got { message: Ok(None), .. })), "{events:?}");
}

#[test]
fn what_expires_at_once_goes_to_those_who_are_there() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_expiring(&[(1, 0), (2, NEVER)], &[Q]);
    driver.settle_down();
    assert_eq!(driver.peek(Q), [2]);
    let mut got = driver.consume(Q, 1, ConsumerLimits { prefetch: 3, ..UNLIMITED });
    got.extend(driver.settle_down());
    got.extend(driver.publish_expiring(&[(3, 0), (4, 0), (5, 0), (6, NEVER)], &[Q]));
    got.extend(driver.settle_down());
    assert_eq!(ids(&got), [2, 3, 4], "also while the mark is on its way");
    assert_eq!(driver.peek(Q), [2, 3, 4, 6]);
    driver.command(Command::Cancel { queue: Q, key: key(1) });
    driver.settle(Q, 1, TagRange { first: 0, last: 0 }, Outcome::Requeued, None);
    driver.settle_down();
    assert_eq!((driver.peek(Q), driver.expirations()), (vec![2, 6], Vec::new()), "no second time");
}

#[test]
fn what_left_for_another_reason_or_with_its_queue_is_forgotten() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_expiring(&[(1, 500), (2, 0), (3, 900)], &[Q, OTHER]);
    driver.settle_down();
    driver.purge(Q);
    let left: Vec<QueueId> = driver.expirations().into_iter().map(|(queue, ..)| queue).collect();
    assert_eq!(left, [OTHER, OTHER]);
    driver.delete(OTHER);
    assert!(driver.shard.expirations.is_empty());
    assert_eq!(driver.shard.expirations.wakes_in(crate::model::Timestamp(0)), None);
}

/// As in memory, nothing is recorded.
#[test]
fn queues_in_memory_do_the_same() {
    let mut driver = Driver::in_memory(&[Q]);
    driver.be_quick();
    driver.publish_expiring(&[(1, 1_000), (2, 300), (3, 0)], &[Q]);
    assert_eq!(driver.peek(Q), [1, 2]);
    driver.wake_after(300);
    assert_eq!(driver.peek(Q), [1]);
}

/// Messages of one frame that go to different queues keep their own times.
#[test]
fn times_go_with_their_messages_whatever_way_a_frame_is_split() {
    let disk = MemoryDisk::new();
    let mut driver = open(&disk);
    let Command::Publish(publish) = driver.publish_command(&[1, 2, 3, 4], 10, &[Q]) else { unreachable!() };
    let queues = |queues: &[QueueId]| std::sync::Arc::from(queues);
    let segments = vec![
        Segment { first: 1, end: 2, queues: queues(&[Q, OTHER]) },
        Segment { first: 2, end: 3, queues: queues(&[QueueId(99)]) },
        Segment { first: 3, end: 4, queues: queues(&[OTHER, QueueId(99)]) },
    ];
    let expirations =
        (0..4).map(|index| crate::message::Expiration { index, after_millis: 100 * (u64::from(index) + 1) });
    let expirations = expirations.collect();
    driver.command(Command::Publish(PublishBatch { segments, expirations, ..publish }));
    driver.settle_down();
    let expected = vec![(Q, 1, 200), (OTHER, 1, 200), (OTHER, 2, 400)];
    assert_eq!(driver.expirations(), expected);
    drop(driver);
    disk.kill_process();
    assert_eq!(open(&disk).expirations(), expected);
}
