//! Queues that refuse what comes when they are full.

use std::sync::Arc;

use super::driver::*;
use crate::model::{Overflow, QueueId};
use crate::queue::Full;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

fn refusing(messages: u64, overflow: Overflow) -> [(QueueId, QueueOptions); 2] {
    let plain = QueueOptions { logged: true, ..QueueOptions::default() };
    let limits = Limits { messages: Some(messages), overflow, ..Limits::default() };
    let dead_letters = overflow == Overflow::RejectPublishDlx;
    [(Q, QueueOptions { limits, dead_letters, ..plain }), (OTHER, plain)]
}

/// What publishers were told of messages without room: the ticket, and their places.
fn excess(events: &[Event]) -> Vec<(u64, u32, u32)> {
    let mut told = Vec::new();
    for event in events {
        let Event::Published { ticket, excess, .. } = event else { continue };
        told.extend(excess.iter().map(|excess| {
            assert_eq!(excess.queue, Q);
            (*ticket, excess.messages.start, excess.messages.end)
        }));
    }
    told
}

fn publish(driver: &mut Driver, ids: &[u64], queues: &[QueueId]) -> Vec<(u64, u32, u32)> {
    let (_, mut events) = driver.publish(ids, 10, queues);
    events.extend(driver.settle_down());
    assert_eq!(confirmed(&events).len(), 1, "told once");
    excess(&events)
}

#[test]
fn what_comes_is_refused_by_the_full_queue_alone_and_what_comes_back_is_not() {
    let disk = MemoryDisk::new();
    let queues = refusing(3, Overflow::RejectPublish);
    let mut driver = Driver::open_as(&disk, 0, &queues);
    driver.consume(Q, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED });
    assert_eq!(publish(&mut driver, &[1, 2, 3, 4], &[Q, OTHER]), []);
    assert_eq!(publish(&mut driver, &[5, 6, 7], &[Q, OTHER]), [(2, 1, 3)]);
    assert_eq!(publish(&mut driver, &[8], &[Q]), [(3, 0, 1)]);
    assert_eq!((driver.peek(Q), driver.peek(OTHER)), (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5, 6, 7]));
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.refused, counts.published, counts.departures.max_length), (3, 5, 0));
    assert_eq!(driver.inspect(OTHER).counts.refused, 0);

    driver.command(Command::Cancel { queue: Q, key: key(1) });
    driver.settle(Q, 1, TagRange { first: 0, last: 0 }, Outcome::Requeued, None);
    driver.settle_down();
    assert_eq!(driver.inspect(Q).counts.ready, 5, "they are beyond the bound, and all of them wait");
    assert_eq!(publish(&mut driver, &[9], &[Q]), [(4, 0, 1)]);

    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!(driver.peek(Q), [1, 2, 3, 4, 5], "from the log");
    driver.stop();
    let digest = driver.digest();
    drop(driver);
    let mut driver = Driver::open_as(&disk, 0, &queues);
    assert_eq!((driver.peek(Q), driver.digest()), (vec![1, 2, 3, 4, 5], digest), "from a checkpoint");
    assert_eq!(publish(&mut driver, &[10], &[Q]), [(1, 0, 1)]);
    driver.purge(Q);
    assert_eq!(publish(&mut driver, &[11], &[Q]), []);
}

/// Nothing is delivered before the log has the mark; whoever is about to have it has room all the same.
#[test]
fn what_consumers_are_about_to_have_does_not_wait() {
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &refusing(1, Overflow::RejectPublish));
    driver.attach(Q, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED });
    let frames: Vec<Command> =
        [[1, 2], [3, 4]].map(|ids| driver.publish_command(&ids, 10, &[Q])).into_iter().collect();
    let mut events = driver.turn(frames);
    assert_eq!(seen(&events).len(), 0, "the mark is not there");
    events.extend(driver.settle_down());
    assert_eq!(seen(&events).iter().map(|seen| seen.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((excess(&events), driver.peek(Q)), (vec![(2, 1, 2)], vec![1, 2, 3]));
    // Settling makes room in the same turn, since what waits goes out.
    let settlements = vec![Settlement { range: TagRange { first: 0, last: 0 }, outcome: Outcome::Accepted }];
    let settle = Command::Settle { queue: Q, key: key(1), settlements, reply: None };
    let publish = driver.publish_command(&[5, 6, 7], 10, &[Q]);
    let mut events = driver.turn(vec![settle, publish]);
    events.extend(driver.settle_down());
    assert_eq!((excess(&events), driver.peek(Q)), (vec![(3, 2, 3)], vec![3, 5, 6]));
}

#[test]
fn with_room_for_none_nothing_comes_in_whoever_is_there() {
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &refusing(0, Overflow::RejectPublish));
    driver.consume(Q, 1, UNLIMITED);
    assert_eq!(publish(&mut driver, &[1, 2], &[Q]), [(1, 0, 2)]);
    assert_eq!(driver.inspect(Q).counts.delivered, 0);
}

#[test]
fn what_is_refused_may_be_a_dead_letter() {
    let disk = MemoryDisk::new();
    let queues = refusing(2, Overflow::RejectPublishDlx);
    let mut driver = Driver::open_as(&disk, usize::MAX, &queues);
    assert_eq!(publish(&mut driver, &[1, 2, 3], &[Q, OTHER]), [(1, 2, 3)]);
    assert_eq!(publish(&mut driver, &[4, 5], &[Q]), [(2, 0, 2)]);
    let counts = driver.inspect(Q).counts;
    assert_eq!(
        (counts.ready, counts.dead_letters, counts.departures.max_length, counts.refused),
        (2, 3, 3, 3)
    );
    assert_eq!((driver.peek(Q), driver.peek(OTHER)), (vec![1, 2], vec![1, 2, 3]));
    let digest = driver.digest();
    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open_as(&disk, usize::MAX, &queues);
    assert_eq!((driver.inspect(Q).counts.dead_letters, driver.digest()), (3, digest));
}

/// Without a place for dead letters it is refused, and that is all.
#[test]
fn without_a_place_for_dead_letters_it_is_only_refused() {
    let [(_, options), other] = refusing(1, Overflow::RejectPublishDlx);
    let queues = [(Q, QueueOptions { dead_letters: false, ..options }), other];
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &queues);
    assert_eq!(publish(&mut driver, &[1, 2], &[Q]), [(1, 1, 2)]);
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.published, counts.dead_letters, counts.refused), (1, 0, 1));
}

/// A frame whose messages go to different queues is cut exactly.
#[test]
fn only_those_are_refused_that_the_queue_has_no_room_for() {
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &refusing(2, Overflow::RejectPublish));
    let Command::Publish(publish) = driver.publish_command(&[1, 2, 3, 4, 5, 6], 10, &[Q]) else {
        unreachable!()
    };
    let segment = |first, end, queues: &[QueueId]| Segment { first, end, queues: Arc::from(queues) };
    let segments = vec![
        segment(0, 1, &[OTHER]),
        segment(1, 4, &[OTHER, Q]),
        segment(4, 5, &[OTHER]),
        segment(5, 6, &[Q]),
    ];
    let mut events = driver.command(Command::Publish(PublishBatch { segments, ..publish }));
    events.extend(driver.settle_down());
    assert_eq!(excess(&events), [(1, 3, 4), (1, 5, 6)]);
    assert_eq!((driver.peek(Q), driver.peek(OTHER)), (vec![2, 3], vec![1, 2, 3, 4, 5]));
}

#[test]
fn bytes_have_a_bound_as_well() {
    let [(_, options), other] = refusing(9, Overflow::RejectPublish);
    let limits = Limits { bytes: Some(1_000), ..options.limits };
    let mut driver =
        Driver::open_as(&MemoryDisk::new(), usize::MAX, &[(Q, QueueOptions { limits, ..options }), other]);
    let (_, mut events) = driver.publish(&[1, 2, 3, 4], 300, &[Q]);
    events.extend(driver.settle_down());
    let [Event::Taken { .. }, Event::Published { excess: told, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((told[0].messages.clone(), told[0].full), (3..4, Full::Bytes(1_000)));
    let (_, mut events) = driver.publish(&[5], 20, &[Q]);
    events.extend(driver.settle_down());
    assert_eq!(excess(&events), [], "a smaller one has room");
}
