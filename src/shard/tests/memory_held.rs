//! What a shard holds in memory against what it counts.

use std::sync::Arc;

use super::driver::*;
use crate::model::QueueId;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const WAITS: QueueId = QueueId(1);
const DRAINED: QueueId = QueueId(2);
const MIB: usize = 1024 * 1024;
/// Room for all segments in one.
const SEGMENT_BYTES: u64 = 64 << 20;

impl Driver {
    /// Memory of messages, here and in the queues, piece by piece.
    fn walk(&self) -> usize {
        let queues = self.shard.queues.values().map(|slot| slot.queue.memory_bytes());
        self.shard.bodies.walk() + queues.sum::<usize>()
    }

    /// A small message that stays, then a block of others that are taken and settled at once. The settlements lie between in
    /// the log, so that the small one is alone in its extent.
    fn wait_beside_traffic(&mut self, id: u64) {
        self.publish(&[id], 4, &[WAITS]);
        self.settle_down();
        let (_, mut events) = self.publish(&[1; 17], 16 * 1024, &[DRAINED]);
        events.extend(self.settle_down());
        assert_eq!(ids(&events).len(), 17);
        self.settle(DRAINED, 1, range(0, 0), Outcome::Accepted, None);
        self.settle_down();
    }
}

fn ids(events: &[Event]) -> Vec<u64> {
    seen(events).iter().map(|seen| seen.id).collect()
}

fn range(first: u64, last: u64) -> TagRange {
    TagRange { first, last }
}

#[test]
fn small_messages_that_wait_do_not_keep_the_traffic_around_them_in_memory() {
    let (rounds, bound) = (100, 4 * MIB);
    let disk = MemoryDisk::new();
    let mut driver = Driver::try_open_with(&disk, bound, &[WAITS, DRAINED], SEGMENT_BYTES).unwrap();
    driver.consume(DRAINED, 1, UNLIMITED);
    for id in 0..rounds {
        driver.wait_beside_traffic(id);
    }
    let held = driver.shard.bodies.walk();
    assert!(held <= bound, "{held} bytes are held for {rounds} small messages");
    driver.hold_reads();
    let got = ids(&driver.consume(WAITS, 2, UNLIMITED));
    assert_eq!(got, (0..rounds).collect::<Vec<_>>(), "they are all in memory still");
}

#[test]
fn small_messages_that_wait_for_a_socket_do_not_keep_their_blocks() {
    let mut driver = Driver::in_memory(&[WAITS, DRAINED]);
    driver.consume(WAITS, 2, ConsumerLimits { no_ack: true, ..UNLIMITED });
    for id in 0..100 {
        let events = driver.publish(&[id], 4, &[WAITS]).1;
        let [Event::Published { .. }, Event::Delivery(delivery)] = &events[..] else { panic!("{events:?}") };
        assert!(delivery.pieces.iter().all(|piece| piece.bytes.is_unique()));
    }
}

#[test]
fn long_messages_that_wait_for_a_socket_keep_no_more_than_16_times_their_length() {
    let mut driver = Driver::in_memory(&[WAITS]);
    driver.consume(WAITS, 2, ConsumerLimits { prefetch: 1, ..UNLIMITED });
    let mut first_of = |messages: u64, pad| {
        let ids: Vec<u64> = (0..messages).collect();
        let events = driver.publish(&ids, pad, &[WAITS]).1;
        let delivery = events.iter().find_map(|event| match event {
            Event::Delivery(delivery) => Some(delivery),
            _ => None,
        });
        let is_alone = delivery.expect("there is room for one").pieces[0].bytes.is_unique();
        driver.purge(WAITS);
        driver.settle(WAITS, 2, range(0, 0), Outcome::Accepted, None);
        is_alone
    };
    // A publish of 2 MiB has a block of its own.
    assert!(first_of(100, 20 * 1024), "20 KiB keep 2 MiB");
    assert!(!first_of(10, 20 * 1024), "20 KiB are copied out of 256");
    assert!(!first_of(10, 200 * 1024), "200 KiB are copied out of 2 MiB");
}

#[test]
fn what_is_told_to_the_gauge_is_what_is_held() {
    let gauge = Arc::new(MemoryGauge::new(1 << 40));
    let mut driver = Driver::in_memory(&[WAITS, DRAINED]);
    driver.shard.count_in(Arc::clone(&gauge));
    driver.consume(DRAINED, 1, UNLIMITED);
    let check = |driver: &Driver| {
        let (held, told) = (driver.walk(), gauge.used_bytes() as usize);
        assert!(held <= told + told / 2 + 4096, "{held} bytes are held, and {told} are told");
        told
    };
    for id in 0..100 {
        driver.wait_beside_traffic(id);
        check(&driver);
    }
    let told = check(&driver);
    assert!(told <= 2 * MIB, "{told} bytes for 100 small messages: they should have been copied out");
    driver.delete(WAITS);
    driver.delete(DRAINED);
    assert_eq!(gauge.used_bytes(), 0);
}

#[test]
fn what_many_queues_hold_of_a_small_message_is_told_to_the_gauge() {
    let gauge = Arc::new(MemoryGauge::new(1 << 40));
    let queues: Vec<QueueId> = (1..=50).map(QueueId).collect();
    let mut driver = Driver::in_memory(&queues);
    driver.shard.count_in(Arc::clone(&gauge));
    let ids: Vec<u64> = (0..100).collect();
    for _ in 0..200 {
        driver.publish(&ids, 6, &queues);
        let (held, told) = (driver.walk(), gauge.used_bytes() as usize);
        // A queue takes room for a chunk of references at once.
        let begun = queues.len() * 4096 * 8;
        assert!(held <= told + told / 2 + begun, "{held} bytes are held, and {told} are told");
    }
    assert!(driver.walk() <= gauge.used_bytes() as usize * 3 / 2);
    for queue in queues {
        driver.purge(queue);
    }
    assert_eq!(gauge.used_bytes(), 0);
}

/// Memory of a message after a restart, for messages each of which came in a batch of its own.
fn bytes_a_message(messages: u64, between: impl Fn(&mut Driver)) -> usize {
    let disk = MemoryDisk::new();
    let open = || Driver::try_open_with(&disk, MIB, &[WAITS, DRAINED], SEGMENT_BYTES).unwrap();
    let mut driver = open();
    driver.be_quick();
    driver.consume(DRAINED, 1, UNLIMITED);
    for id in 0..messages {
        driver.publish(&[id], 4, &[WAITS]);
        driver.step();
        between(&mut driver);
    }
    driver.settle_down();
    drop(driver);
    disk.kill_process();
    let mut driver = open();
    assert_eq!(driver.inspect(WAITS).counts.ready, messages);
    driver.walk() / messages as usize
}

#[test]
fn after_a_restart_a_message_takes_few_bytes_however_it_came() {
    let bytes = bytes_a_message(100_000, |_| {});
    assert!(bytes < 16, "{bytes} bytes a message");
    // Settlements lie between in the log.
    let bytes = bytes_a_message(10_000, |driver| {
        driver.publish(&[1], 4, &[DRAINED]);
        driver.step();
        driver.settle(DRAINED, 1, range(0, 0), Outcome::Accepted, None);
        driver.step();
    });
    assert!(bytes < 16, "{bytes} bytes a message beside others that were settled");
}
