//! Queues that are far behind: what is read for them, how often, and what is held meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::driver::*;
use crate::model::QueueId;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;
use crate::storage::{BodyRead, LogIndex, ReadFailure, RecoveredBatch};

const QUEUES: u64 = 80;
/// Messages of a queue, and bytes of each.
const MESSAGES: u64 = 64;
const PAD: usize = 8 * 1024;
/// What a consumer may have on its way: far less than is read at once.
const WINDOW: u64 = 16 * 1024;
/// Room for what is read back: not a third of the extents that the queues are in at the same time.
const ROOM: usize = 6 * 1024 * 1024;

/// Counts what it reads.
struct Counting {
    reader: Arc<dyn BodyRead>,
    bytes: AtomicU64,
}

impl BodyRead for Counting {
    fn read(&self, first: LogIndex, end: LogIndex) -> Result<Vec<RecoveredBatch>, ReadFailure> {
        let batches = self.reader.read(first, end)?;
        let bytes: usize = batches.iter().map(|batch| batch.payload.len()).sum();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(batches)
    }
}

fn queues() -> Vec<QueueId> {
    (1..=QUEUES).map(QueueId).collect()
}

/// A shard on a log with a backlog, nothing of which is in memory.
fn behind(publish: impl FnOnce(&mut Driver)) -> (Driver, Arc<Counting>) {
    let disk = MemoryDisk::new();
    let open = || Driver::try_open_with(&disk, 0, &queues(), 64 << 20).unwrap();
    let mut driver = open();
    publish(&mut driver);
    driver.settle_down();
    driver.stop();
    drop(driver);
    disk.kill_process();
    let mut driver = open();
    let counting = Arc::new(Counting { reader: driver.shard.log().reader(), bytes: AtomicU64::new(0) });
    driver.read_through(Arc::clone(&counting) as Arc<dyn BodyRead>);
    driver.shard.reading.set_bytes_max(ROOM);
    driver.be_quick();
    (driver, counting)
}

/// All queues get a consumer at once, each of which writes and settles what it gets; returns the messages of each queue and
/// the most bytes that were held.
fn drain(driver: &mut Driver, limits: ConsumerLimits) -> (HashMap<QueueId, Vec<u64>>, usize) {
    let attach = |queue: &QueueId| Command::Attach {
        queue: *queue,
        taker: taker(queue.0 as u32),
        limits,
        shared: None,
        outlet: Arc::clone(&driver.outlet),
    };
    let mut commands: Vec<Command> = queues().iter().map(attach).collect();
    let mut got: HashMap<QueueId, Vec<u64>> = HashMap::new();
    let mut held = 0;
    loop {
        let mut events = driver.turn(std::mem::take(&mut commands));
        events.extend(driver.settle_down());
        held = held.max(driver.shard.bodies.held_back());
        seen(&events).iter().for_each(|seen| got.entry(seen.queue).or_default().push(seen.id));
        for event in &events {
            let Event::Delivery(delivery) = event else { continue };
            let (queue, key, bytes) = (delivery.queue, delivery.consumer, delivery.window_bytes);
            commands.push(Command::Written { queue, key, bytes });
            if !limits.no_ack {
                let range =
                    TagRange { first: delivery.first_tag.0, last: delivery.first_tag.0 + delivery.count - 1 };
                let settlements = vec![Settlement { range, outcome: Outcome::Accepted }];
                commands.push(Command::Settle { queue, key, settlements, reply: None });
            }
        }
        drop(events);
        if commands.is_empty() {
            return (got, held);
        }
    }
}

fn check_read_once(limits: ConsumerLimits, publish: impl FnOnce(&mut Driver)) {
    let (mut driver, counting) = behind(publish);
    let (got, held) = drain(&mut driver, limits);
    let backlog = QUEUES * MESSAGES * PAD as u64;
    for (queue, ids) in &got {
        let expected: Vec<u64> = (0..MESSAGES).map(|n| queue.0 * MESSAGES + n).collect();
        assert_eq!(ids, &expected, "queue {queue}");
    }
    assert_eq!(got.len() as u64, QUEUES);
    let read = counting.bytes.load(Ordering::Relaxed);
    assert!(read <= 2 * backlog, "{read} bytes were read of a backlog of {backlog}");
    assert!(held <= ROOM, "{held} bytes were held");
    assert!(driver.shard.bodies.held_back() <= ROOM);
}

/// One queue was filled after another: each is in an extent of its own.
fn one_after_another(driver: &mut Driver) {
    for queue in queues() {
        for from in (0..MESSAGES).step_by(8) {
            let ids: Vec<u64> = (from..from + 8).map(|n| queue.0 * MESSAGES + n).collect();
            driver.publish(&ids, PAD, &[queue]);
        }
        driver.settle_down();
    }
}

/// All queues were filled together: all are in the same extents.
fn in_turn(driver: &mut Driver) {
    for n in 0..MESSAGES {
        for queue in queues() {
            driver.publish(&[queue.0 * MESSAGES + n], PAD, &[queue]);
        }
        driver.settle_down();
    }
}

const MANUAL: ConsumerLimits = ConsumerLimits { window_bytes: WINDOW, prefetch: 100, ..UNLIMITED };
const AUTOMATIC: ConsumerLimits = ConsumerLimits { no_ack: true, prefetch: 0, ..MANUAL };

#[test]
fn many_lagging_queues_read_each_block_about_once() {
    check_read_once(MANUAL, one_after_another);
    check_read_once(AUTOMATIC, one_after_another);
}

#[test]
fn lagging_queues_that_share_blocks_share_the_reads() {
    check_read_once(MANUAL, in_turn);
    check_read_once(AUTOMATIC, in_turn);
}
