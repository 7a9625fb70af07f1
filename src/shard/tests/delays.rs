//! Messages that are held back: published for later, or given back to be tried again later.

use super::driver::*;
use crate::model::{Overflow, QueueId, RetryOn};
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);
const PLAIN: QueueOptions = QueueOptions {
    logged: true,
    auto_delete: false,
    retention: None,
    limits: Limits { messages: None, bytes: None, ttl_millis: None, overflow: Overflow::DropHead },
    dead_letters: false,
    single_active: false,
    delivery_limit: None,
    max_priority: None,
    retry: None,
    lease_millis: None,
};
const DOUBLING: Retry = Retry {
    on: RetryOn::All,
    min_millis: 100,
    max_millis: Some(300),
    multiplier: Some(2),
    jitter_percent: 0,
};

fn open_as(disk: &MemoryDisk, options: QueueOptions) -> Driver {
    let mut driver = Driver::open_as(disk, usize::MAX, &[(Q, options), (OTHER, PLAIN)]);
    driver.be_quick();
    driver
}

fn open(disk: &MemoryDisk) -> Driver {
    open_as(disk, PLAIN)
}

fn ids(events: &[Event]) -> Vec<u64> {
    seen(events).iter().map(|seen| seen.id).collect()
}

fn counts(driver: &mut Driver, queue: QueueId) -> (u64, u64, u64) {
    let counts = driver.inspect(queue).counts;
    (counts.ready, counts.held_back, counts.unsettled)
}

#[test]
fn each_waits_from_its_time_on_and_in_its_place() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_delayed(&[(1, 300), (2, NEVER), (3, 100), (4, 305), (5, NEVER)], &[Q, OTHER]);
    driver.settle_down();
    assert_eq!((counts(&mut driver, Q), driver.ready(Q)), ((2, 3, 0), vec![2, 5]));
    assert_eq!(driver.shard.wakes_in(), Some(100), "it wakes by itself");
    driver.wake_after(99);
    assert_eq!(driver.ready(Q), [2, 5]);
    driver.wake_after(1);
    assert_eq!(driver.ready(Q), [2, 3, 5]);
    driver.wake_after(200);
    assert_eq!(driver.ready(Q), [1, 2, 3, 5]);
    assert_eq!(driver.shard.wakes_in(), Some(10), "not for each millisecond");
    driver.wake_after(10);
    assert_eq!((driver.ready(Q), driver.ready(OTHER)), (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]));
    assert!(driver.shard.delays.is_empty());
}

#[test]
fn consumers_get_what_is_due_and_nothing_before() {
    let mut driver = open(&MemoryDisk::new());
    driver.consume(Q, 1, UNLIMITED);
    let mut events = driver.publish_delayed(&[(1, 50), (2, NEVER), (3, 70), (4, NEVER)], &[Q]);
    events.extend(driver.settle_down());
    assert_eq!(ids(&events), [2, 4]);
    assert_eq!(ids(&driver.wake_after(50)), [1]);
    assert_eq!(counts(&mut driver, Q), (0, 1, 3));
    let events = driver.wake_after(20);
    assert_eq!(ids(&events), [3]);
    assert!(seen(&events).iter().all(|seen| !seen.redelivered), "nobody had it before");
    driver.settle(Q, 1, TagRange { first: 0, last: 0 }, Outcome::Accepted, None);
    assert_eq!(counts(&mut driver, Q), (0, 0, 0));
}

#[test]
fn a_restart_changes_no_time_and_what_became_due_meanwhile_is_there() {
    let disk = MemoryDisk::new();
    let mut driver = open(&disk);
    driver.publish_delayed(&[(1, NEVER), (2, 5_000), (3, 900), (4, 700)], &[Q, OTHER]);
    driver.settle_down();
    driver.wake_after(800);
    let delays = driver.delays();
    assert_eq!((driver.ready(Q), delays.len()), (vec![1, 4], 4));
    drop(driver);
    disk.kill_process();
    let mut driver = open(&disk);
    driver.wake_after(800);
    assert_eq!((driver.delays(), driver.ready(Q)), (delays.clone(), vec![1, 4]), "from the log");
    driver.stop();
    drop(driver);
    let mut driver = open(&disk);
    assert_eq!(driver.delays(), delays, "from a checkpoint");
    // The clock of this one begins at 0.
    driver.wake_after(900);
    assert_eq!((driver.ready(Q), driver.ready(OTHER)), (vec![1, 3, 4], vec![1, 3, 4]));
    drop(driver);
    disk.kill_process();
    let mut driver = open(&disk);
    driver.wake_after(60_000);
    assert_eq!(driver.ready(Q), [1, 2, 3, 4]);
}

#[test]
fn purging_leaves_them_and_deleting_does_not() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_delayed(&[(1, NEVER), (2, 500)], &[Q, OTHER]);
    driver.settle_down();
    assert_eq!(driver.purge(Q).0, Some(1));
    driver.delete(OTHER);
    assert_eq!((counts(&mut driver, Q), driver.delays().len()), ((0, 1, 0), 1));
    driver.wake_after(500);
    assert_eq!(driver.ready(Q), [2]);
    assert!(driver.shard.delays.is_empty());
}

/// It counts from when the message is there for somebody.
#[test]
fn what_expires_does_so_after_its_delay() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_timed(&[(1, 500, 100), (2, 500, 0), (3, NEVER, 100)], &[Q]);
    driver.settle_down();
    driver.wake_after(499);
    assert_eq!(counts(&mut driver, Q), (0, 2, 0));
    assert!(ids(&driver.consume(Q, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED })).is_empty());
    let events = driver.wake_after(1);
    assert_eq!(ids(&events), [1], "the other one is gone with nobody to take it at once");
    driver.settle_down();
    assert_eq!((counts(&mut driver, Q), driver.expirations().len()), ((0, 0, 1), 1));
}

/// Not only before it goes to somebody: nobody may come.
#[test]
fn what_expires_while_it_is_held_back_is_gone_when_it_would_be_due() {
    for restarts in [false, true] {
        let disk = MemoryDisk::new();
        let mut driver = open(&disk);
        driver.publish_expiring(&[(1, 1_000), (2, 9_000)], &[Q]);
        driver.consume(Q, 1, UNLIMITED);
        driver.settle_down();
        driver.settle(Q, 1, TagRange { first: 1, last: 2 }, Outcome::Deferred(5_000), None);
        driver.command(Command::Cancel { queue: Q, key: key(1) });
        driver.settle_down();
        if restarts {
            drop(driver);
            disk.kill_process();
            driver = open(&disk);
        }
        driver.wake_after(4_000);
        assert_eq!(counts(&mut driver, Q), (0, 2, 0), "restarts: {restarts}");
        driver.wake_after(1_500);
        assert_eq!((driver.ready(Q), driver.expirations().len()), (vec![2], 1), "restarts: {restarts}");
        driver.wake_after(4_000);
        assert_eq!(counts(&mut driver, Q), (0, 0, 0), "restarts: {restarts}");
    }
}

#[test]
fn what_is_given_back_for_later_goes_out_again_later() {
    let disk = MemoryDisk::new();
    let mut driver = open(&disk);
    driver.publish(&[1, 2, 3], 10, &[Q]);
    driver.consume(Q, 1, UNLIMITED);
    driver.settle_down();
    let range = TagRange { first: 1, last: 2 };
    assert!(ids(&driver.settle(Q, 1, range, Outcome::Deferred(400), None)).is_empty());
    driver.settle_down();
    assert_eq!(counts(&mut driver, Q), (0, 2, 1));
    assert!(ids(&driver.wake_after(399)).is_empty());
    let events = driver.wake_after(1);
    assert_eq!(ids(&events), [1, 2]);
    assert!(seen(&events).iter().all(|seen| seen.redelivered && seen.delivery_count == 1));
    let again = TagRange { first: 4, last: 4 };
    driver.settle(Q, 1, again, Outcome::Deferred(5_000), None);
    driver.settle_down();
    drop(driver);
    disk.kill_process();
    let mut driver = open(&disk);
    driver.wake_after(1_000);
    assert_eq!(driver.ready(Q), [2, 3], "of the times at which it was held back the last one counts");
    driver.wake_after(10_000);
    assert_eq!(driver.ready(Q), [1, 2, 3]);
}

#[test]
fn a_policy_says_how_long_what_comes_back_is_held_back() {
    let options = QueueOptions { retry: Some(DOUBLING), delivery_limit: Some(3), ..PLAIN };
    let disk = MemoryDisk::new();
    let mut driver = open_as(&disk, options);
    driver.publish(&[1], 10, &[Q]);
    driver.consume(Q, 1, UNLIMITED);
    driver.settle_down();
    for (tag, delay) in [(1, 100), (2, 200), (3, 300)] {
        let range = TagRange { first: tag, last: tag };
        assert!(ids(&driver.settle(Q, 1, range, Outcome::Requeued, None)).is_empty());
        driver.settle_down();
        assert!(ids(&driver.wake_after(delay - 1)).is_empty());
        assert_eq!(ids(&driver.wake_after(1)), [1]);
    }
    driver.settle(Q, 1, TagRange { first: 4, last: 4 }, Outcome::Requeued, None);
    driver.settle_down();
    let departures = driver.inspect(Q).counts.departures;
    assert_eq!((counts(&mut driver, Q), departures.delivery_limit), ((0, 0, 0), 1));
    assert!(driver.shard.delays.is_empty(), "nothing is held back that is to leave");
}

#[test]
fn a_policy_may_be_for_failures_alone_and_a_consumer_may_know_better() {
    let options = QueueOptions { retry: Some(Retry { on: RetryOn::Failed, ..DOUBLING }), ..PLAIN };
    let mut driver = open_as(&MemoryDisk::new(), options);
    driver.publish(&[1, 2, 3], 10, &[Q]);
    driver.consume(Q, 1, UNLIMITED);
    driver.settle_down();
    driver.settle(Q, 1, TagRange { first: 1, last: 1 }, Outcome::Requeued, None);
    let events = driver.settle(Q, 1, TagRange { first: 2, last: 2 }, Outcome::Deferred(0), None);
    assert_eq!(ids(&events), [2], "at once, whatever the queue says");
    driver.command(Command::Detach { queue: Q, key: key(1) });
    driver.settle_down();
    assert_eq!(counts(&mut driver, Q), (2, 1, 0));
}

#[test]
fn what_is_held_back_can_be_seen_and_cancelled() {
    let mut driver = open(&MemoryDisk::new());
    driver.publish_delayed(&[(1, 300), (2, NEVER), (3, 100), (4, 200)], &[Q]);
    driver.settle_down();
    let look = |from: u64| Look {
        queue: Q,
        from,
        end: 0,
        came: Came::default(),
        which: Which::Delayed,
        newest: None,
        count_max: 2,
        bytes_max: usize::MAX,
    };
    let began = driver.shard.now.0;
    let looked = driver.look(look(0)).0.try_recv().unwrap().unwrap();
    let seen: Vec<(u64, Option<u64>)> = looked
        .messages
        .iter()
        .map(|message| (ids_in(&message.bytes)[0], message.delayed_until.map(|at| at.0)))
        .collect();
    let came = driver.delays()[0].2 - 300;
    assert_eq!(seen, [(1, Some(came + 300)), (3, Some(came + 100))], "{began}");
    let looked = driver.look(look(looked.next.unwrap())).0.try_recv().unwrap().unwrap();
    assert_eq!((looked.messages.len(), looked.next), (1, None));
    let sequences: Vec<u64> = driver.delays().iter().map(|(_, sequence, _)| *sequence).collect();
    let (reply, mut others) = tokio::sync::oneshot::channel();
    let named = [sequences[0], sequences[1] - 1, sequences[1], 99].into();
    driver.command(Command::TakeOut { queue: Q, sequences: named, why: TakenOut::Cancelled, reply });
    driver.settle_down();
    assert_eq!(others.try_recv().unwrap().unwrap(), [sequences[1] - 1, 99], "what waits stays");
    assert_eq!((counts(&mut driver, Q), driver.inspect(Q).counts.departures.purged), ((1, 1, 0), 2));
    driver.wake_after(1_000);
    assert_eq!(driver.ready(Q), [2, 4]);
}

#[test]
fn many_are_held_back_and_come_in_parts() {
    let mut driver = open(&MemoryDisk::new());
    for first in (1..=100_000u64).step_by(1_000) {
        let messages: Vec<(u64, u64)> = (first..first + 1_000).map(|id| (id, 1_000 + id)).collect();
        driver.publish_delayed(&messages, &[Q]);
    }
    driver.settle_down();
    assert_eq!(counts(&mut driver, Q), (0, 100_000, 0));
    driver.purge(Q);
    driver.wake_after(51_000);
    assert_eq!(counts(&mut driver, Q), (50_000, 50_000, 0));
    driver.purge(Q);
    driver.wake_after(100_000);
    driver.settle_down();
    assert_eq!(counts(&mut driver, Q), (50_000, 0, 0));
}
