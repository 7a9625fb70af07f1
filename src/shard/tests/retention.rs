//! Queues that retain what consumers are done with.

use super::checkpoints::disk_bytes;
use super::driver::*;
use crate::model::QueueId;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

fn retaining(retention: Retention) -> [(QueueId, QueueOptions); 2] {
    let plain = QueueOptions { logged: true, auto_delete: false, ..QueueOptions::default() };
    [(Q, QueueOptions { retention: Some(retention), ..plain }), (OTHER, plain)]
}

fn look_at_retained(newest: Option<u64>) -> Look {
    Look {
        queue: Q,
        from: 0,
        end: 0,
        came: Came::default(),
        which: Which::Retained,
        newest,
        count_max: 1_000,
        bytes_max: usize::MAX,
    }
}

/// What a look at them shows.
fn retained(driver: &mut Driver, newest: Option<u64>) -> Vec<u64> {
    let mut look = look_at_retained(newest);
    let mut ids = Vec::new();
    loop {
        let (mut answer, events) = driver.look(look);
        assert!(seen(&events).is_empty(), "a look gives nobody anything");
        let looked = answer.try_recv().unwrap().unwrap();
        ids.extend(looked.messages.iter().flat_map(|message| ids_in(&message.bytes)));
        let Some(next) = looked.next else { return ids };
        look = Look { from: next, end: looked.end, ..look };
    }
}

fn accept_all(driver: &mut Driver, queue: QueueId) {
    driver.settle(queue, 1, TagRange { first: 0, last: 0 }, Outcome::Accepted, None);
    driver.settle_down();
}

#[test]
fn what_consumers_are_done_with_is_seen_again_also_after_a_restart() {
    let disk = MemoryDisk::new();
    let queues = retaining(Retention { messages: Some(4), ..Retention::default() });
    let mut driver = Driver::open_as(&disk, 0, &queues);
    driver.publish(&[1, 2, 3, 4, 5, 6, 7, 8], 100, &[Q]);
    driver.consume(Q, 1, ConsumerLimits { prefetch: 7, ..UNLIMITED });
    driver.command(Command::Cancel { queue: Q, key: key(1) });
    let settle = |driver: &mut Driver, tag, outcome| {
        driver.settle(Q, 1, TagRange { first: tag, last: tag }, outcome, None);
        driver.settle_down();
    };
    for (tag, outcome) in [(2, Outcome::Accepted), (1, Outcome::Accepted), (3, Outcome::Rejected)] {
        settle(&mut driver, tag, outcome);
    }
    assert_eq!(retained(&mut driver, None), [1, 2], "in the order of publishing; a rejected one is not");
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.retained, counts.unsettled, counts.ready), (2, 4, 1));
    assert!(counts.retained_bytes > 200, "{counts:?}");
    for tag in 4..=7 {
        settle(&mut driver, tag, Outcome::Accepted);
    }
    assert_eq!(retained(&mut driver, None), [4, 5, 6, 7], "the oldest go");
    assert_eq!((retained(&mut driver, Some(2)), retained(&mut driver, Some(9)).len()), (vec![6, 7], 4));
    let (_, events) = driver.publish(&[9], 100, &[Q]);
    assert_eq!(confirmed(&events), [0; 0]);
    driver.settle_down();
    driver.get(Q, true);
    driver.settle_down();
    assert_eq!(retained(&mut driver, None), [5, 6, 7, 8], "delivered without acknowledgements");
    assert_eq!(driver.purge(Q).0, Some(1));
    driver.settle_down();
    assert_eq!(retained(&mut driver, None), [5, 6, 7, 8], "what was emptied out was in no consumer's hands");

    let digest = driver.digest();
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!((retained(&mut driver, None), driver.digest()), (vec![5, 6, 7, 8], digest), "from the log");
    driver.stop();
    let digest = driver.digest();
    drop(driver);
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!(
        (retained(&mut driver, None), driver.digest()),
        (vec![5, 6, 7, 8], digest),
        "from a checkpoint"
    );
    assert!(seen(&driver.consume(Q, 2, UNLIMITED)).is_empty(), "none of them waits");
    driver.delete(Q);
    driver.settle_down();
    assert_eq!(driver.shard.bodies.live, 0, "they go with their queue");
}

/// A clock says what is too old, and an entry of the log what is forgotten.
#[test]
fn what_is_too_old_goes_while_nothing_else_happens_and_does_not_come_back() {
    let disk = MemoryDisk::new();
    let queues = retaining(Retention { age_millis: Some(60_000), ..Retention::default() });
    let mut driver = Driver::open_as(&disk, usize::MAX, &queues);
    driver.be_quick();
    driver.consume(Q, 1, UNLIMITED);
    driver.publish(&[1], 10, &[Q]);
    accept_all(&mut driver, Q);
    driver.wake_after(40_000);
    driver.publish(&[2], 10, &[Q]);
    accept_all(&mut driver, Q);
    assert_eq!(retained(&mut driver, None), [1, 2]);
    assert!(driver.shard.wakes_in().is_some(), "it does not wait for somebody to come");
    driver.wake_after(10_000);
    driver.settle_down();
    assert_eq!(retained(&mut driver, None), [1, 2]);
    driver.wake_after(15_000);
    driver.settle_down();
    assert_eq!(retained(&mut driver, None), [2]);
    driver.wake_after(40_000);
    driver.settle_down();
    assert_eq!(retained(&mut driver, None), [0; 0]);
    assert_eq!(driver.shard.bodies.live, 0);
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, usize::MAX, &queues);
    assert_eq!(retained(&mut driver, None), [0; 0], "it was recorded that they went");
}

/// Segments of which little is retained are merged, and those go of which nothing is.
#[test]
fn space_comes_back_and_what_is_retained_survives_it() {
    let disk = MemoryDisk::new();
    let queues = retaining(Retention { messages: Some(40), ..Retention::default() });
    let mut driver = Driver::open_as(&disk, 0, &queues);
    driver.consume(Q, 1, UNLIMITED);
    driver.consume(OTHER, 1, UNLIMITED);
    let mut next = 1;
    let mut publish = |driver: &mut Driver, queue, count: u64| {
        let ids: Vec<u64> = (next..next + count).collect();
        next += count;
        driver.publish(&ids, 400, &[queue]);
        driver.settle_down();
        accept_all(driver, queue);
        ids
    };
    let mut kept = Vec::new();
    for _ in 0..60 {
        kept.extend(publish(&mut driver, Q, 1));
        publish(&mut driver, OTHER, 40);
    }
    kept.drain(..20);
    for _ in 0..6 {
        driver.wake_after(10_000);
        driver.settle_down();
    }
    assert_eq!(retained(&mut driver, None), kept);
    let bytes = disk_bytes(&disk);
    assert!(bytes < 200 * 1024, "{bytes} bytes for 40 messages of 400, of {next} that there were");
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!(retained(&mut driver, None), kept);
}

#[test]
fn a_queue_that_is_to_retain_nothing_any_more_forgets() {
    let disk = MemoryDisk::new();
    let queues = retaining(Retention { bytes: Some(1 << 20), ..Retention::default() });
    let mut driver = Driver::open_as(&disk, 0, &queues);
    driver.consume(Q, 1, UNLIMITED);
    driver.publish(&[1, 2, 3], 100, &[Q]);
    accept_all(&mut driver, Q);
    assert_eq!(retained(&mut driver, None), [1, 2, 3]);
    let less = Some(Retention { messages: Some(2), ..Retention::default() });
    let [(_, options), _] = queues;
    driver.command(Command::CreateQueue { queue: Q, options: QueueOptions { retention: less, ..options } });
    assert_eq!(retained(&mut driver, None), [2, 3], "another bound holds at once");
    driver.command(Command::CreateQueue { queue: Q, options: QueueOptions { retention: None, ..options } });
    driver.settle_down();
    assert_eq!(retained(&mut driver, None), [0; 0]);
    assert_eq!(driver.shard.bodies.live, 0);
}
