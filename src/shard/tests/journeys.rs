//! Of messages whose journeys are kept a shard tells what becomes of them, and of others nothing.

use std::sync::Arc;

use super::driver::*;
use crate::journey::{Journeys, Publication, QueueLabel, Receipt, Resumed, State, Story, Tracked, Way, What};
use crate::model::{
    ExchangeName, JourneyNumber, MemberName, QueueId, QueueName, RoutingKey, Timestamp, VhostName,
};
use crate::queue::{Departure, Return};
use crate::shard::*;
use crate::storage::testing::{Fault, MemoryDisk};

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

/// A shard that tells, and where.
fn beginning(disk: &MemoryDisk) -> (Driver, Arc<Journeys>) {
    let mut driver = Driver::open(disk, usize::MAX, &[Q, OTHER]);
    let journeys = Arc::new(Journeys::new(1024 * 1024, JourneyNumber(100)));
    driver.shard.tell_journeys(Arc::clone(&journeys));
    (driver, journeys)
}

/// Publishes messages of which those at these places are tracked, as a session does.
fn publish(driver: &mut Driver, journeys: &Journeys, ids: &[u64], runs: &[(u32, u32)]) -> u64 {
    let label = |id: QueueId| QueueLabel {
        id,
        name: QueueName::new(&format!("q{id}")).unwrap(),
        subscription: None,
        member: MemberName::default(),
    };
    let way = Arc::new(Way {
        exchange: ExchangeName::default(),
        routing_key: RoutingKey::default(),
        queues: vec![label(Q), label(OTHER)],
        explanation: None,
        refused: None,
        mandatory: false,
        bytes: 0,
    });
    let first_number = journeys.numbers(ids.len() as u64);
    journeys.publish(runs.iter().map(|(place, count)| Publication {
        first: first_number + u64::from(*place),
        count: *count,
        at: Timestamp(1),
        vhost: VhostName::default(),
        publisher: party(),
        channel: 1,
        way: Arc::clone(&way),
        message_ids: None,
    }));
    let Command::Publish(publish) = driver.publish_command(ids, 10, &[Q, OTHER]) else { unreachable!() };
    let tracked = Some(Tracked { first_number, runs: Arc::from(runs) });
    driver.command(Command::Publish(PublishBatch { tracked, ..publish }));
    driver.settle_down();
    first_number
}

fn receipts(journeys: &Journeys, number: u64) -> Vec<Receipt> {
    story(journeys, number).receipts
}

fn story(journeys: &Journeys, number: u64) -> Story {
    let id = JourneyNumber(number).to_string();
    let mut stories = journeys.kept().stories(&VhostName::default(), &id, None, 2);
    assert_eq!(stories.len(), 1, "{id}");
    stories.remove(0)
}

#[test]
fn of_messages_that_nobody_asked_for_nothing_is_told() {
    let disk = MemoryDisk::new();
    let (mut driver, journeys) = beginning(&disk);
    driver.consume(Q, 1, UNLIMITED);
    driver.publish(&[1, 2, 3], 10, &[Q]);
    driver.settle_down();
    driver.settle(Q, 1, TagRange { first: 1, last: 1 }, Outcome::Requeued, None);
    driver.settle(Q, 1, TagRange { first: 0, last: 0 }, Outcome::Accepted, None);
    driver.settle_down();
    driver.delete(Q);
    assert!(driver.shard.watches.is_empty());
    assert_eq!(driver.shard.watches.events().capacity(), 0, "no event was ever made");
    assert_eq!(journeys.held(), (0, 0));
}

#[test]
fn of_those_that_are_tracked_it_is_told_until_no_queue_holds_them() {
    let disk = MemoryDisk::new();
    let (mut driver, journeys) = beginning(&disk);
    driver.consume(Q, 1, UNLIMITED);
    let first = publish(&mut driver, &journeys, &[1, 2, 3, 4], &[(1, 2)]);
    let state = |number: u64| {
        let receipts = receipts(&journeys, number);
        receipts.into_iter().map(|receipt| (receipt.state, receipt.deliveries)).collect::<Vec<_>>()
    };
    let ids = [first, first + 3].map(|number| JourneyNumber(number).to_string());
    for id in ids {
        assert!(
            journeys.kept().stories(&VhostName::default(), &id, None, 1).is_empty(),
            "{id} is not tracked"
        );
    }
    for number in [first + 1, first + 2] {
        assert!(matches!(state(number)[..], [(State::Delivered, 1), (State::Pending, 0)]), "{number}");
    }
    driver.settle(Q, 1, TagRange { first: 1, last: 2 }, Outcome::Accepted, None);
    driver.purge(OTHER);
    driver.settle_down();
    let both = state(first + 1);
    assert!(
        matches!(both[..], [(State::Left(Departure::Accepted), 1), (State::Left(Departure::Purged), 0)]),
        "{both:?}"
    );
    assert!(matches!(state(first + 2)[..], [(State::Delivered, 1), (State::Left(Departure::Purged), 0)]));
    assert!(!driver.shard.watches.is_empty(), "a queue holds one still");
    driver.delete(Q);
    assert!(matches!(state(first + 2)[..], [(State::QueueDeleted, 1), (State::Left(Departure::Purged), 0)]));
    assert!(driver.shard.watches.is_empty());
}

#[test]
fn what_a_shard_cannot_take_is_told_with_the_reason() {
    let disk = MemoryDisk::new();
    let (mut driver, journeys) = beginning(&disk);
    disk.fail_at(disk.changes(), Fault::Io);
    publish(&mut driver, &journeys, &[1], &[(0, 1)]);
    assert!(driver.shard.failure().is_some(), "its log has failed");
    let number = publish(&mut driver, &journeys, &[2], &[(0, 1)]);
    for receipt in receipts(&journeys, number) {
        let State::NotTaken(not_taken) = receipt.state else { panic!("{receipt:?}") };
        assert!(not_taken.refusal.text.contains("shard 0"), "{}", not_taken.refusal.text);
    }
}

#[test]
fn a_queue_that_was_deleted_a_moment_before_never_says_that_it_has_it() {
    let disk = MemoryDisk::new();
    let (mut driver, journeys) = beginning(&disk);
    driver.delete(OTHER);
    let number = publish(&mut driver, &journeys, &[1], &[(0, 1)]);
    let receipts = receipts(&journeys, number);
    assert!(matches!(receipts[0].state, State::Pending) && matches!(receipts[1].state, State::OnItsWay));
}

#[test]
fn after_a_start_stories_go_on_and_what_was_not_written_is_told() {
    let disk = MemoryDisk::new();
    let (mut driver, journeys) = beginning(&disk);
    driver.consume(Q, 1, UNLIMITED);
    let first = publish(&mut driver, &journeys, &[1, 2, 3, 4], &[(0, 4)]);
    // Of this one nothing is written any more.
    driver.settle(Q, 1, TagRange { first: 2, last: 2 }, Outcome::Accepted, None);
    driver.settle_down();
    let taken = story(&journeys, first).events.into_iter().find_map(|event| match event.what {
        What::Taken { sequence, .. } => Some(sequence),
        _ => None,
    });
    drop(driver);

    let mut driver = Driver::open(&disk, usize::MAX, &[Q, OTHER]);
    driver.shard.tell_journeys(Arc::clone(&journeys));
    let gone = QueueId(9);
    let of_before = Resumed {
        number: first,
        count: 4,
        sequence: taken.unwrap(),
        queues: vec![(Q, true), (OTHER, false), (gone, false)],
    };
    driver.shard.resume_journeys(Timestamp(5_000), vec![of_before]);
    let since = |number: u64| {
        let events = story(&journeys, number).events.into_iter().filter(|event| event.at == Timestamp(5_000));
        events.map(|event| format!("{:?}", event.what)).collect::<Vec<_>>()
    };
    let came_back = format!("{:?}", What::CameBack { queue: Q, why: Return::ConsumerGone });
    let missed = format!("{:?}", What::Missed { queue: Q });
    let deleted = format!("{:?}", What::QueueDeleted { queue: gone });
    assert_eq!(since(first), [came_back, deleted.clone()]);
    assert_eq!(since(first + 1), [missed, deleted]);
    let state = |number: u64| {
        let receipts = receipts(&journeys, number);
        receipts.into_iter().map(|receipt| receipt.state).collect::<Vec<_>>()
    };
    assert!(matches!(state(first)[..], [State::Pending, State::Pending]));
    assert!(matches!(state(first + 1)[..], [State::Unknown, State::Pending]));
    driver.consume(Q, 2, UNLIMITED);
    driver.settle(Q, 2, TagRange { first: 0, last: 0 }, Outcome::Accepted, None);
    driver.purge(OTHER);
    driver.settle_down();
    let purged = State::Left(Departure::Purged);
    for number in [first, first + 2, first + 3] {
        let state = state(number);
        assert!(
            matches!(state[..], [State::Left(Departure::Accepted), State::Left(Departure::Purged)]),
            "{number}: {state:?}"
        );
    }
    assert_eq!(format!("{:?}", state(first + 1)[1]), format!("{purged:?}"));
    assert!(driver.shard.watches.is_empty(), "no queue has any of them");
}
