//! Queues with a place for dead letters: what dies stays until it is stored elsewhere.

use tokio::sync::mpsc::unbounded_channel;

use super::checkpoints::disk_bytes;
use super::driver::*;
use crate::model::{BodySequence, QueueId};
use crate::shard::*;
use crate::storage::testing::{Fault, MemoryDisk};

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

fn dying() -> [(QueueId, QueueOptions); 2] {
    let plain = QueueOptions { logged: true, ..QueueOptions::default() };
    let limits = Limits { messages: Some(100), ..Limits::default() };
    [(Q, QueueOptions { limits, dead_letters: true, ..plain }), (OTHER, plain)]
}

fn look_at(why: Departure) -> Look {
    Look {
        queue: Q,
        from: 0,
        end: 0,
        came: Came::default(),
        which: Which::DeadLetters(why),
        newest: None,
        count_max: 1_000,
        bytes_max: usize::MAX,
    }
}

/// Sequences and numbers of dead letters.
fn letters(driver: &mut Driver, why: Departure) -> Vec<(u64, u64)> {
    let mut look = look_at(why);
    let mut letters = Vec::new();
    loop {
        let (mut answer, events) = driver.look(look);
        assert!(seen(&events).is_empty(), "a look gives nobody anything");
        driver.settle_down();
        let looked = answer.try_recv().unwrap().unwrap();
        letters.extend(looked.messages.iter().map(|message| (message.sequence, ids_in(&message.bytes)[0])));
        let Some(next) = looked.next else { return letters };
        look = Look { from: next, end: looked.end, ..look };
    }
}

fn ids_of(driver: &mut Driver, why: Departure) -> Vec<u64> {
    letters(driver, why).into_iter().map(|(_, id)| id).collect()
}

fn dismiss(driver: &mut Driver, sequences: &[u64]) {
    let mut letters = SequenceRuns::default();
    sequences.iter().for_each(|sequence| letters.push(BodySequence(*sequence)));
    driver.command(Command::DismissDeadLetters { queue: Q, why: Departure::DeadLettered, letters });
    driver.settle_down();
}

fn reject(driver: &mut Driver, handle: u32, tag: u64) {
    driver.settle(Q, handle, TagRange { first: tag, last: tag }, Outcome::Rejected, None);
    driver.settle_down();
}

#[test]
fn what_died_is_no_consumers_any_more_and_leaves_when_it_is_stored_elsewhere() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open_as(&disk, 0, &dying());
    driver.publish(&[1, 2, 3, 4], 100, &[Q, OTHER]);
    driver.consume(Q, 1, ConsumerLimits { prefetch: 3, ..UNLIMITED });
    [3, 1].into_iter().for_each(|tag| reject(&mut driver, 1, tag));
    assert_eq!(ids_of(&mut driver, Departure::Rejected), [1, 3]);
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.ready + counts.unsettled, counts.dead_letters, counts.departures.rejected), (2, 2, 2));
    assert!(counts.dead_letters_bytes > 200, "{counts:?}");
    let digest = driver.digest();
    drop(driver);
    disk.kill_process();

    let mut driver = Driver::open_as(&disk, 0, &dying());
    assert_eq!(
        (ids_of(&mut driver, Departure::Rejected), driver.digest()),
        (vec![1, 3], digest),
        "from the log"
    );
    driver.stop();
    drop(driver);
    let mut driver = Driver::open_as(&disk, 0, &dying());
    let there = letters(&mut driver, Departure::Rejected);
    assert_eq!(there.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [1, 3], "from a checkpoint");
    assert_eq!(driver.peek(Q), [2, 4], "none of them waits");
    assert_eq!(driver.purge(Q).0, Some(2));
    assert_eq!(ids_of(&mut driver, Departure::Rejected), [1, 3], "nor is any purged");
    dismiss(&mut driver, &[there[0].0, there[0].0 + 1]);
    assert_eq!(ids_of(&mut driver, Departure::Rejected), [3]);
    assert_eq!(driver.inspect(Q).counts.departures.dead_lettered, 1);
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, 0, &dying());
    assert_eq!(ids_of(&mut driver, Departure::Rejected), [3], "it was recorded that it left");
    driver.delete(Q);
    driver.purge(OTHER);
    driver.settle_down();
    assert_eq!(driver.shard.bodies.live, 0, "they go with their queue");
}

#[test]
fn it_is_told_once_until_somebody_looks_and_again_after_a_start() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open_as(&disk, 0, &dying());
    let (sender, mut told) = unbounded_channel();
    driver.shard.tell_dead_letters(sender);
    let ids: Vec<u64> = (1..=103).collect();
    driver.publish(&ids, 10, &[Q]);
    driver.settle_down();
    driver.publish(&[104], 10, &[Q]);
    driver.settle_down();
    let notice = DeadLetters { shard: driver.shard.id(), queue: Q };
    assert_eq!((told.try_recv().ok(), told.try_recv().ok()), (Some(notice), None));
    assert_eq!(ids_of(&mut driver, Departure::MaxLength), [1, 2, 3, 4]);
    driver.publish(&[105], 10, &[Q]);
    driver.settle_down();
    assert_eq!((told.try_recv().ok(), told.try_recv().ok()), (Some(notice), None));
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, 0, &dying());
    let (sender, mut told) = unbounded_channel();
    driver.shard.tell_dead_letters(sender);
    assert_eq!((told.try_recv().ok(), told.try_recv().ok()), (Some(notice), None));
}

/// They could not leave, and would be stored elsewhere over and over.
#[test]
fn a_shard_whose_log_failed_shows_none() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open_as(&disk, usize::MAX, &dying());
    driver.publish(&[1], 10, &[Q]);
    driver.consume(Q, 1, UNLIMITED);
    reject(&mut driver, 1, 1);
    assert_eq!(ids_of(&mut driver, Departure::Rejected), [1]);
    disk.fail_at(disk.changes(), Fault::Io);
    driver.publish(&[2], 10, &[OTHER]);
    driver.settle_down();
    let (mut answer, _) = driver.look(look_at(Departure::Rejected));
    let refusal = answer.try_recv().unwrap().unwrap_err();
    assert!(refusal.text.contains("the log of shard 0 failed"), "{refusal}");
}

/// Segments of which little is needed are merged.
#[test]
fn space_comes_back_and_dead_letters_survive_it() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open_as(&disk, 0, &dying());
    driver.consume(Q, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED });
    driver.consume(OTHER, 1, UNLIMITED);
    for round in 0..40u64 {
        driver.publish(&[1_000 + round], 400, &[Q]);
        driver.settle_down();
        reject(&mut driver, 1, round + 1);
        let ids: Vec<u64> = (0..40).map(|number| 10_000 + 40 * round + number).collect();
        driver.publish(&ids, 400, &[OTHER]);
        driver.settle_down();
        driver.settle(OTHER, 1, TagRange { first: 0, last: 0 }, Outcome::Accepted, None);
        driver.settle_down();
    }
    for _ in 0..6 {
        driver.wake_after(10_000);
        driver.settle_down();
    }
    let dead: Vec<u64> = (1_000..1_040).collect();
    assert_eq!(ids_of(&mut driver, Departure::Rejected), dead);
    let bytes = disk_bytes(&disk);
    assert!(bytes < 200 * 1024, "{bytes} bytes for 40 messages of 400");
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, 0, &dying());
    assert_eq!(ids_of(&mut driver, Departure::Rejected), dead);
}
