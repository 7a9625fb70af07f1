//! What a shard promises, one promise a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::driver::*;
use crate::model::{Durability, QueueId, Timestamp};
use crate::shard::recounts::RECORD_AFTER_MILLIS;
use crate::shard::*;
use crate::storage::testing::{Fault, MemoryDisk, PowerLoss};

const Q: QueueId = QueueId(7);
const OTHER: QueueId = QueueId(8);

fn ids(events: &[Event]) -> Vec<u64> {
    seen(events).iter().map(|seen| seen.id).collect()
}

fn range(first: u64, last: u64) -> TagRange {
    TagRange { first, last }
}

/// A power cut that leaves what was synced, and a shard on that.
fn after_power_cut(disk: &MemoryDisk, driver: Driver, queues: &[QueueId]) -> Driver {
    disk.cut_power();
    drop(driver);
    disk.restore_power(PowerLoss::LosesAll, 1);
    Driver::open(disk, usize::MAX, queues)
}

#[test]
fn memory_confirms_at_once_and_says_so() {
    let mut driver = Driver::in_memory(&[Q]);
    let (_, events) = driver.publish(&[1, 2], 0, &[Q]);
    assert!(
        matches!(events[..], [Event::Published { ticket: 1, durability: Durability::Memory, .. }]),
        "{events:?}"
    );
    let events = driver.attach(Q, 1, UNLIMITED);
    assert!(matches!(events[0], Event::Attached { result: Ok(()), .. }));
    assert_eq!(ids(&events), [1, 2]);
    assert!(seen(&events).iter().all(|seen| !seen.redelivered));
    driver.settle(Q, 1, range(1, 2), Outcome::Accepted, None);
    assert_eq!(driver.inspect(Q).counts.bytes, 0);
}

#[test]
fn a_confirm_waits_for_the_disk_and_no_longer() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    let (first, events) = driver.publish(&[1], 0, &[Q]);
    assert!(confirmed(&events).is_empty(), "the disk has nothing yet");
    let (second, events) = driver.publish(&[2], 0, &[Q]);
    assert!(confirmed(&events).is_empty());
    assert_eq!(confirmed(&driver.step()), [first, second], "both were on their way");
    let (third, events) = driver.publish(&[3], 0, &[Q]);
    assert!(confirmed(&events).is_empty(), "the disk has only those before");
    assert_eq!(confirmed(&driver.step()), [third]);
    let mut driver = after_power_cut(&disk, driver, &[Q]);
    assert_eq!(ids(&driver.consume(Q, 1, UNLIMITED)), [1, 2, 3]);
}

#[test]
fn messages_handed_out_before_a_crash_come_back_marked_and_new_ones_are_new() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    driver.publish(&[1, 2, 3], 0, &[Q]);
    driver.settle_down();
    let events = driver.consume(Q, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED });
    assert_eq!(ids(&events), [1, 2]);
    assert!(seen(&events).iter().all(|seen| !seen.redelivered));
    driver.settle(Q, 1, range(2, 2), Outcome::Requeued, None);
    driver.wake_after(RECORD_AFTER_MILLIS);
    driver.settle_down();
    let mut driver = after_power_cut(&disk, driver, &[Q]);
    driver.publish(&[4], 0, &[Q]);
    let seen = seen(&driver.consume(Q, 1, UNLIMITED));
    let of = |id: u64| *seen.iter().find(|seen| seen.id == id).unwrap();
    assert_eq!(seen.iter().map(|seen| seen.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(of(1).redelivered && of(2).redelivered, "they had been out");
    assert!(!of(4).redelivered, "it came after the crash");
    assert_eq!([of(1).delivery_count, of(2).delivery_count], [0, 1]);
}

#[test]
fn a_clean_stop_knows_exactly_what_was_delivered() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    driver.publish(&[1, 2, 3], 0, &[Q]);
    assert_eq!(ids(&driver.consume(Q, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED })), [1]);
    driver.shard.prepare_stop(crate::model::Timestamp(2));
    // Somebody comes when it is too late.
    let late = driver.attach(Q, 2, ConsumerLimits { prefetch: 2, ..UNLIMITED });
    assert!(ids(&late).iter().all(|id| *id == 1), "only what counts as delivered already");
    let events = driver.settle_down();
    let taken = [ids(&late), ids(&events)].concat();
    let mut driver = after_power_cut(&disk, driver, &[Q]);
    for seen in seen(&driver.consume(Q, 1, UNLIMITED)) {
        assert!(seen.redelivered || !(seen.id == 1 || taken.contains(&seen.id)), "{seen:?}");
    }
}

#[test]
fn an_undisturbed_stop_leaves_the_rest_new() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    driver.publish(&[1, 2, 3], 0, &[Q]);
    driver.attach(Q, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED });
    driver.settle_down();
    driver.shard.prepare_stop(crate::model::Timestamp(2));
    driver.settle_down();
    let mut driver = after_power_cut(&disk, driver, &[Q]);
    let flags: Vec<bool> =
        seen(&driver.consume(Q, 1, UNLIMITED)).iter().map(|seen| seen.redelivered).collect();
    assert_eq!(flags, [true, false, false]);
}

#[test]
fn settlements_survive_and_are_told_when_they_do() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    driver.publish(&[1, 2, 3, 4], 0, &[Q]);
    driver.attach(Q, 1, UNLIMITED);
    driver.settle_down();
    let events = driver.settle(Q, 1, range(2, 3), Outcome::Accepted, Some(9));
    assert!(events.is_empty(), "not on disk yet: {events:?}");
    assert!(matches!(driver.step()[..], [Event::Settled { request: 9, .. }]));
    let refused = driver.settle(Q, 1, range(1, 4), Outcome::Rejected, Some(10));
    assert!(
        matches!(&refused[..], [Event::SettleRefused { refusal, request: Some(10), .. }] if refusal.field == "ranges" && refusal.got == "2")
    );
    driver.settle_down();
    let mut driver = after_power_cut(&disk, driver, &[Q]);
    assert_eq!(driver.inspect(Q).counts.ready, 0);
}

#[test]
fn a_connection_is_woken_for_what_it_waits_for() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    for wake_when_taken in [false, true] {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut events = Vec::new();
        assert!(driver.outlet.poll_take(&mut Context::from_waker(&waker), &mut events).is_pending());
        let Command::Publish(publish) = driver.publish_command(&[1], 10, &[Q]) else { unreachable!() };
        let mut commands = vec![Command::Publish(PublishBatch { wake_when_taken, ..publish })];
        driver.shard.turn(Timestamp(1), &mut commands);
        assert_eq!(woken.0.load(Ordering::Relaxed), wake_when_taken, "the shard has taken it");
        driver.log.as_ref().unwrap().0.lock().unwrap().step().unwrap();
        driver.shard.turn(Timestamp(2), &mut commands);
        assert!(woken.0.load(Ordering::Relaxed), "the disk has it");
        driver.outlet.update(|waiting| events.append(waiting));
        assert!(matches!(events[..], [Event::Taken { .. }, Event::Published { .. }]), "{events:?}");
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_single_request_waits_for_the_mark_instead_of_being_told_empty() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    driver.publish(&[1], 0, &[Q]);
    assert!(driver.get(Q, false).is_empty(), "there is a message, and its mark is not on disk");
    assert!(driver.get(Q, false).is_empty(), "answers come in order");
    let events = driver.settle_down();
    let gots: Vec<bool> = events
        .iter()
        .filter_map(|event| {
            if let Event::Got { message, .. } = event { Some(matches!(message, Ok(Some(_)))) } else { None }
        })
        .collect();
    assert_eq!((gots, ids(&events)), (vec![true, false], vec![1]));
}

#[test]
fn what_waits_for_a_deleted_queue_is_answered() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q, OTHER]);
    driver.publish(&[1], 0, &[Q, OTHER]);
    assert!(driver.get(Q, false).is_empty());
    let (ready, events) = driver.delete(Q);
    assert_eq!(ready, 1);
    assert!(events.iter().any(|event| matches!(event, Event::Got { message: Err(_), .. })), "{events:?}");
    // A publish on its way to the deleted queue is kept for nobody, and confirmed all the same.
    let (late, _) = driver.publish(&[2], 0, &[Q]);
    assert!(confirmed(&driver.settle_down()).contains(&late));
    assert_eq!(ids(&driver.consume(OTHER, 1, UNLIMITED)), [1]);
    driver.settle(OTHER, 1, range(0, 0), Outcome::Accepted, None);
    driver.settle_down();
    let mut driver = after_power_cut(&disk, driver, &[OTHER]);
    assert_eq!(driver.inspect(OTHER).counts.ready, 0);
}

#[test]
fn a_long_backlog_is_read_back_through_little_memory() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 4096, &[Q]);
    let all: Vec<u64> = (1..=3000).collect();
    driver.consume(Q, 1, ConsumerLimits { credit: Some(0), ..UNLIMITED });
    for ids in all.chunks(50) {
        driver.publish(ids, 1000, &[Q]);
        driver.settle_down();
    }
    // The first delivery brings the mark; after it, one delivery is larger than what is read at once, and much larger
    // than what is kept.
    driver.command(Command::Credit { queue: Q, key: key(1), add: 1 });
    assert!(ids(&driver.settle_down()) == all[..1]);
    driver.settle(Q, 1, range(1, 1), Outcome::Accepted, None);
    // A cancel is answered behind deliveries that are being read back.
    let credit = Command::Credit { queue: Q, key: key(1), add: 100 };
    driver.shard.turn(crate::model::Timestamp(1), &mut vec![credit]);
    driver.shard.turn(crate::model::Timestamp(1), &mut vec![Command::Cancel { queue: Q, key: key(1) }]);
    let mut events = driver.command(Command::LogProgress);
    assert!(matches!(events.pop(), Some(Event::Cancelled { .. })));
    assert!(ids(&events) == all[1..101]);
    driver.settle(Q, 1, range(0, 0), Outcome::Requeued, None);
    let events = driver.attach(Q, 2, UNLIMITED);
    assert!(ids(&events) == all[1..], "all of them, once, in order");
    driver.settle(Q, 2, range(0, 0), Outcome::Accepted, None);
    driver.settle_down();
    assert_eq!(driver.inspect(Q).counts.bytes, 0);
}

#[test]
fn a_failed_disk_refuses_what_it_did_not_keep_and_nothing_else() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    let (kept, _) = driver.publish(&[1], 0, &[Q]);
    assert_eq!(confirmed(&driver.settle_down()), [kept]);
    let (lost, _) = driver.publish(&[2], 0, &[Q]);
    driver.get(Q, false);
    disk.fail_at(disk.changes(), Fault::Io);
    let events = driver.step();
    assert!(
        events.iter().any(|event| matches!(event, Event::PublishFailed { ticket, .. } if *ticket == lost))
    );
    assert!(events.iter().any(|event| matches!(event, Event::Got { message: Err(_), .. })), "{events:?}");
    let (refused, events) = driver.publish(&[3], 0, &[Q]);
    assert!(matches!(events[..], [Event::PublishFailed { ticket, .. }] if ticket == refused));
    let mut told = Vec::new();
    driver.notices.update(|notices| told.append(notices));
    assert!(matches!(told[..], [Notice::LogFailed { .. }]));
    let mut driver = after_power_cut(&disk, driver, &[Q]);
    assert_eq!(ids(&driver.consume(Q, 1, UNLIMITED)), [1]);
}

#[test]
fn more_than_the_disk_takes_is_refused_and_the_shard_lives_on() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[Q]);
    let mut sent = Vec::new();
    let mut refused = Vec::new();
    for id in 1..=20 {
        let (ticket, events) = driver.publish(&[id], 16 * 1024 * 1024, &[Q]);
        sent.push(ticket);
        refused.extend(events.iter().filter_map(|event| match event {
            Event::PublishFailed { ticket, refusal, .. } => Some((*ticket, refusal.retryable)),
            _ => None,
        }));
    }
    assert!(!refused.is_empty() && refused.iter().all(|(_, retryable)| *retryable), "{refused:?}");
    sent.retain(|ticket| !refused.iter().any(|(refused, _)| refused == ticket));
    assert_eq!(confirmed(&driver.settle_down()), sent);
    assert_eq!(driver.shard.failure(), None);
}

#[test]
fn nothing_of_a_consumer_that_went_reaches_the_next_one_under_its_number() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &[Q]);
    for id in 1..=4 {
        driver.publish(&[id], 100, &[Q]);
    }
    driver.settle_down();
    driver.hold_reads();
    driver.consume(Q, 1, ConsumerLimits { prefetch: 2, ..UNLIMITED });
    driver.command(Command::Detach { queue: Q, key: key(1) });
    let mut events = driver.consume(Q, 1, UNLIMITED);
    events.extend(driver.release_reads());
    events.extend(driver.settle_down());
    assert_eq!(ids(&events), [1, 2, 3, 4]);
    assert_eq!(seen(&events).iter().map(|seen| seen.tag).collect::<Vec<_>>(), [1, 2, 3, 4]);
}
