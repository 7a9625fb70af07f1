//! Queues that cannot hand out what is next: who is told, what is kept, and who goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, path::PathBuf};

use super::driver::*;
use crate::model::QueueId;
use crate::shard::*;
use crate::storage::testing::{Fault, MemoryDisk};
use crate::storage::{BodyRead, DiskAction, DiskError, LogIndex, ReadFailure, RecoveredBatch};

const SICK: QueueId = QueueId(7);
const WELL: QueueId = QueueId(8);
const QUEUES: [QueueId; 2] = [SICK, WELL];

const NO_ACK: ConsumerLimits = ConsumerLimits { no_ack: true, ..UNLIMITED };

fn ids(events: &[Event]) -> Vec<u64> {
    seen(events).iter().map(|seen| seen.id).collect()
}

/// Why consumers were ended, by their handles.
fn ended(events: &[Event]) -> Vec<(u32, &str)> {
    let ended = events.iter().filter_map(|event| match event {
        Event::ConsumerEnded { key, reason, .. } => Some((key.handle, &reason[..])),
        _ => None,
    });
    ended.collect()
}

fn refused(events: &[Event]) -> Vec<&str> {
    let refused = events.iter().filter_map(|event| match event {
        Event::Attached { result: Err(refusal), .. } | Event::Got { message: Err(refusal), .. } => {
            Some(&refusal.text[..])
        }
        _ => None,
    });
    refused.collect()
}

/// A shard with messages 1 to 6 for the sick queue and 11 to 16 for the other, each of which the log alone has. One read
/// brings two.
fn behind(disk: &MemoryDisk) -> Driver {
    let mut driver = Driver::open(disk, 0, &QUEUES);
    for (first, queue) in [(1, SICK), (11, WELL)] {
        for at in (0..6).step_by(2) {
            driver.publish(&[first + at, first + at + 1], 200 * 1024, &[queue]);
            driver.settle_down();
        }
    }
    driver.stop();
    drop(driver);
    disk.kill_process();
    Driver::open(disk, 0, &QUEUES)
}

/// Changes a bit of this message on the disk, or changes it back.
fn rot(disk: &MemoryDisk, driver: &Driver, id: u64) {
    let pattern = [&id.to_be_bytes()[..], &[id as u8; 16]].concat();
    let log = driver.log.as_ref().unwrap().0.lock().unwrap();
    for segment in log.segments() {
        let content = disk.content(&segment.path).unwrap();
        if let Some(at) = content.windows(pattern.len()).position(|bytes| bytes == pattern) {
            return disk.rot(&segment.path, at + 100, 1).unwrap();
        }
    }
    panic!("message {id} is nowhere");
}

#[test]
fn rot_stops_the_queue_that_needs_it_and_no_other() {
    let disk = MemoryDisk::new();
    let mut driver = behind(&disk);
    rot(&disk, &driver, 3);
    let events = driver.consume(SICK, 1, UNLIMITED);
    assert_eq!(ids(&events), [1, 2], "what is whole goes out");
    let [(1, why)] = ended(&events)[..] else { panic!("{events:?}") };
    assert!(why.contains("damaged at byte") && why.contains(".log"), "{why}");
    assert_eq!(ids(&driver.consume(WELL, 2, UNLIMITED)), [11, 12, 13, 14, 15, 16]);

    // The one that was ended settles what it has; nobody else can come.
    let events = driver.settle(SICK, 1, TagRange { first: 1, last: 2 }, Outcome::Accepted, Some(9));
    assert!(refused(&events).is_empty());
    assert!(driver.settle_down().iter().any(|event| matches!(event, Event::Settled { request: 9, .. })));
    assert_eq!(refused(&driver.attach(SICK, 3, UNLIMITED)).len(), 1);
    assert_eq!(refused(&driver.get(SICK, false)).len(), 1);

    // It takes messages in, and all of them leave with a purge.
    let (ticket, _) = driver.publish(&[7], 0, &[SICK]);
    assert_eq!(confirmed(&driver.settle_down()), [ticket]);
    let counts = driver.inspect(SICK).counts;
    assert_eq!((counts.ready, counts.unsettled, counts.consumers), (5, 0, 0));
    assert_eq!(driver.purge(SICK).0, Some(5));
    driver.publish(&[8], 0, &[SICK]);
    assert_eq!(ids(&driver.consume(SICK, 3, UNLIMITED)), [8]);
}

#[test]
fn what_a_halted_queue_did_not_hand_out_was_never_out() {
    for limits in [UNLIMITED, NO_ACK] {
        let disk = MemoryDisk::new();
        let mut driver = behind(&disk);
        rot(&disk, &driver, 5);
        let events = driver.consume(SICK, 1, limits);
        assert_eq!(ids(&events), [1, 2, 3, 4]);
        let counts = driver.inspect(SICK).counts;
        let left = if limits.no_ack { (2, 0) } else { (2, 4) };
        assert_eq!((counts.ready, counts.unsettled), left);
        assert_eq!(counts.delivered, 4);
        assert_eq!(counts.departures.no_ack, if limits.no_ack { 4 } else { 0 });
        rot(&disk, &driver, 5);
        driver.stop();
        drop(driver);
        disk.kill_process();
        let seen = seen(&Driver::open(&disk, 0, &QUEUES).consume(SICK, 1, UNLIMITED));
        let counts: Vec<(u64, u32)> = seen.iter().map(|seen| (seen.id, seen.delivery_count)).collect();
        let came_back: &[(u64, u32)] = if limits.no_ack { &[] } else { &[(1, 1), (2, 1), (3, 1), (4, 1)] };
        assert_eq!(counts, [came_back, &[(5, 0), (6, 0)]].concat(), "{limits:?}");
    }
}

#[test]
fn messages_that_wait_to_be_read_are_not_settled_by_a_consumer_that_goes() {
    for limits in [UNLIMITED, NO_ACK] {
        let disk = MemoryDisk::new();
        let mut driver = behind(&disk);
        driver.hold_reads();
        driver.consume(SICK, 1, limits);
        driver.command(Command::Detach { queue: SICK, key: key(1) });
        driver.release_reads();
        driver.settle_down();
        let seen = seen(&driver.consume(SICK, 2, UNLIMITED));
        assert_eq!(seen.iter().map(|seen| seen.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6], "{limits:?}");
        assert!(seen.iter().all(|seen| seen.delivery_count == 0), "none of them had been out");
    }
}

#[test]
fn a_clean_stop_keeps_what_waited_to_be_read() {
    let disk = MemoryDisk::new();
    let mut driver = behind(&disk);
    driver.hold_reads();
    driver.consume(SICK, 1, NO_ACK);
    driver.stop();
    drop(driver);
    disk.kill_process();
    assert_eq!(ids(&Driver::open(&disk, 0, &QUEUES).consume(SICK, 1, UNLIMITED)), [1, 2, 3, 4, 5, 6]);
}

/// Fails so many times as a disk does, then reads.
struct Failing {
    reader: Arc<dyn BodyRead>,
    times: AtomicU32,
    code: i32,
}

impl BodyRead for Failing {
    fn read(&self, first: LogIndex, end: LogIndex) -> Result<Vec<RecoveredBatch>, ReadFailure> {
        let failed =
            self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1));
        if failed.is_ok() {
            let error = io::Error::from_raw_os_error(self.code);
            return Err(ReadFailure::Disk(DiskError {
                action: DiskAction::Open,
                path: PathBuf::from("/shard/1.log"),
                kind: error.kind(),
                code: Some(self.code),
                cause: error.to_string(),
            }));
        }
        self.reader.read(first, end)
    }
}

fn failing(driver: &mut Driver, times: u32, code: i32) {
    let reader = driver.shard.log().reader();
    driver.read_through(Arc::new(Failing { reader, times: times.into(), code }));
}

/// Turns for as long as the shard wants to be woken.
fn wait(driver: &mut Driver) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(millis) = driver.shard.wakes_in().filter(|millis| *millis <= 100) {
        events.extend(driver.wake_after(millis));
    }
    events
}

#[test]
fn a_read_that_fails_is_tried_again_and_given_up_for_this_consumer_alone() {
    const EIO: i32 = 5;
    for (times, got, given_up) in [(3, 6, 0), (u32::MAX, 0, 1)] {
        let disk = MemoryDisk::new();
        let mut driver = behind(&disk);
        driver.be_quick();
        failing(&mut driver, times, EIO);
        let mut events = driver.consume(SICK, 1, UNLIMITED);
        assert!(ids(&events).is_empty() && ended(&events).is_empty(), "it waits");
        events.extend(wait(&mut driver));
        assert_eq!((ids(&events).len(), ended(&events).len()), (got, given_up));
        failing(&mut driver, 0, EIO);
        driver.command(Command::Detach { queue: SICK, key: key(1) });
        assert_eq!(ids(&driver.consume(SICK, 2, UNLIMITED)), [1, 2, 3, 4, 5, 6], "the disk works again");
    }
}

#[test]
fn without_files_to_open_a_queue_waits_for_as_long_as_it_takes() {
    const EMFILE: i32 = 24;
    let disk = MemoryDisk::new();
    let mut driver = behind(&disk);
    driver.be_quick();
    failing(&mut driver, 1000, EMFILE);
    let mut events = driver.consume(SICK, 1, UNLIMITED);
    events.extend(wait(&mut driver));
    assert_eq!((ids(&events), ended(&events)), (vec![1, 2, 3, 4, 5, 6], vec![]));
}

#[test]
fn a_failed_log_ends_consumers_with_the_reason() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &QUEUES);
    driver.publish(&[1, 2], 0, &[SICK]);
    driver.settle_down();
    assert_eq!(ids(&driver.consume(SICK, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED })), [1]);
    driver.attach(WELL, 2, UNLIMITED);
    disk.fail_at(disk.changes(), Fault::Io);
    driver.publish(&[3], 0, &[SICK]);
    let events = driver.settle_down();
    let mut ended = ended(&events);
    ended.sort_unstable();
    let [(1, one), (2, other)] = ended[..] else { panic!("{events:?}") };
    assert!(one.contains("the log of shard 0 failed") && other.contains("failed"), "{one}");
    for queue in QUEUES {
        assert!(refused(&driver.attach(queue, 3, UNLIMITED))[0].contains("failed"));
        assert!(refused(&driver.get(queue, false))[0].contains("failed"));
    }
    // A consumer that was ended is no reason to delete what it did not get.
    let mut notices = Vec::new();
    driver.notices.take_more(&mut notices);
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::QueueUnused { .. })));
    drop(driver);
    disk.kill_process();
    assert_eq!(ids(&Driver::open(&disk, 0, &QUEUES).consume(SICK, 1, UNLIMITED))[..2], [1, 2]);
}
