//! Who has a message for longer than its queue lets it loses it.

use super::driver::*;
use crate::model::QueueId;
use crate::queue::Tags;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);
const LEASE: u64 = 1_000;
/// How often it is looked, at this length of a lease.
const LOOK: u64 = 250;
const PREFETCH: u32 = 3;

/// A queue with a lease and one without, on a shard without.
fn driver() -> Driver {
    let plain = QueueOptions { logged: true, ..QueueOptions::default() };
    let queues = [(Q, QueueOptions { lease_millis: Some(LEASE), ..plain }), (OTHER, plain)];
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &queues);
    driver.be_quick();
    driver
}

fn consume(driver: &mut Driver, queue: QueueId, handle: u32) -> Vec<Seen> {
    seen(&driver.consume(queue, handle, ConsumerLimits { prefetch: PREFETCH, ..UNLIMITED }))
}

fn publish(driver: &mut Driver, ids: &[u64]) -> Vec<Event> {
    let (_, mut events) = driver.publish(ids, 10, &[Q, OTHER]);
    events.extend(driver.settle_down());
    events
}

/// Time passes, and it is looked as often as it would be.
fn pass(driver: &mut Driver, millis: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut left = millis;
    while left > 0 {
        let now = left.min(LOOK / 5);
        events.extend(driver.wake_after(now));
        left -= now;
    }
    events
}

fn lapses(events: &[Event]) -> Vec<(u32, Vec<(u64, u64)>)> {
    let lapses = events.iter().filter_map(|event| match event {
        Event::Lapsed { key, lapsed, .. } => Some((key.handle, lapsed)),
        _ => None,
    });
    let pairs = |lapsed: &Vec<Tags>| lapsed.iter().map(|tags| (tags.first, tags.last)).collect();
    lapses.map(|(handle, lapsed)| (handle, pairs(lapsed))).collect()
}

fn extend(driver: &mut Driver, handle: u32, ranges: &[(u64, u64)], request: Option<u64>) -> Vec<Event> {
    let reply = request.map(|request| SettleReply { request, outlet: driver.outlet.clone() });
    let ranges = ranges.iter().map(|(first, last)| TagRange { first: *first, last: *last }).collect();
    driver.command(Command::Extend { queue: Q, key: key(handle), ranges, reply })
}

fn accept(driver: &mut Driver, handle: u32, first: u64, last: u64) -> Vec<Event> {
    let mut events = driver.settle(Q, handle, TagRange { first, last }, Outcome::Accepted, None);
    events.extend(driver.settle_down());
    events
}

#[test]
fn what_is_kept_for_too_long_comes_back_and_goes_to_another_one() {
    let mut driver = driver();
    consume(&mut driver, Q, 1);
    consume(&mut driver, OTHER, 2);
    let got = seen(&publish(&mut driver, &[1, 2]));
    assert_eq!(got.len(), 4);
    assert_eq!(lapses(&pass(&mut driver, LEASE)), [], "not before");
    let events = pass(&mut driver, 2 * LOOK);
    assert_eq!(lapses(&events), [(1, vec![(1, 2)])], "the other queue has no lease");
    assert_eq!(driver.inspect(Q).counts.ready, 2);
    assert_eq!(driver.inspect(Q).counts.consumers, 0, "it gets no more");
    let next = consume(&mut driver, Q, 3);
    let told: Vec<_> = next.iter().map(|seen| (seen.id, seen.redelivered, seen.delivery_count)).collect();
    assert_eq!(told, [(1, true, 1), (2, true, 1)]);
    let refused = accept(&mut driver, 1, 1, 1);
    assert!(matches!(refused[..], [Event::SettleRefused { .. }]), "{refused:?}");
    assert_eq!(lapses(&pass(&mut driver, 10 * LEASE)), [(3, vec![(1, 2)])]);
    assert_eq!(driver.inspect(OTHER).counts.unsettled, 2);
}

#[test]
fn what_is_settled_in_time_is_settled_and_the_consumer_goes_on() {
    let mut driver = driver();
    consume(&mut driver, Q, 1);
    for id in 1..20 {
        let got = seen(&publish(&mut driver, &[id]));
        assert_eq!(got.iter().filter(|seen| seen.queue == Q).map(|seen| seen.tag).collect::<Vec<_>>(), [id]);
        assert_eq!(lapses(&pass(&mut driver, LEASE * 9 / 10)), []);
        accept(&mut driver, 1, id, id);
    }
    assert_eq!(driver.inspect(Q).counts.ready, 0);
    assert_eq!(lapses(&pass(&mut driver, 10 * LEASE)), []);
    assert_eq!(driver.inspect(Q).counts.consumers, 1);
}

/// The others have leases of their own, and can be settled although their consumer has ended.
#[test]
fn only_what_is_too_old_comes_back() {
    let mut driver = driver();
    consume(&mut driver, Q, 1);
    publish(&mut driver, &[1]);
    pass(&mut driver, LEASE / 2);
    publish(&mut driver, &[2, 3, 4]);
    let events = pass(&mut driver, LEASE / 2 + 2 * LOOK);
    assert_eq!(lapses(&events), [(1, vec![(1, 1)])]);
    assert_eq!(seen(&events), [], "nothing goes to one that has ended");
    accept(&mut driver, 1, 2, 2);
    let counts = driver.inspect(Q).counts;
    assert_eq!((counts.ready, counts.unsettled), (2, 1));
    assert_eq!(lapses(&pass(&mut driver, LEASE)), [(1, vec![(3, 3)])]);
    assert_eq!(driver.peek(Q), [1, 3, 4]);
}

#[test]
fn who_asks_for_more_time_has_it() {
    let mut driver = driver();
    consume(&mut driver, Q, 1);
    publish(&mut driver, &[1, 2, 3]);
    for _ in 0..10 {
        assert_eq!(lapses(&pass(&mut driver, LEASE * 9 / 10)), []);
        let events = extend(&mut driver, 1, &[(0, 0)], Some(7));
        assert!(matches!(events[..], [Event::Settled { request: 7, .. }]), "{events:?}");
    }
    pass(&mut driver, LEASE / 2);
    assert!(extend(&mut driver, 1, &[(2, 0)], None).is_empty());
    assert_eq!(lapses(&pass(&mut driver, LEASE / 2 + LOOK)), [(1, vec![(1, 1), (3, 3)])]);
    assert_eq!(lapses(&pass(&mut driver, LEASE / 2 + LOOK)), [(1, vec![(2, 2)])]);
}

#[test]
fn what_somebody_does_not_have_is_not_extended_and_the_rest_is() {
    let mut driver = driver();
    consume(&mut driver, Q, 1);
    publish(&mut driver, &[1, 2, 3]);
    accept(&mut driver, 1, 2, 2);
    for (ranges, unknown) in [
        (&[(1, 3)][..], Some(2)),
        (&[(2, 0)], Some(2)),
        (&[(1, 0), (3, 4)], Some(4)),
        (&[(0, 9)], Some(4)),
        (&[(3, 1)], Some(3)),
        (&[(u64::MAX, 0)], Some(u64::MAX)),
        (&[(1, u64::MAX)], Some(4)),
        (&[(0, 3), (1, 0), (1, 1), (3, 3)], None),
    ] {
        let events = extend(&mut driver, 1, ranges, Some(9));
        match (&events[..], unknown) {
            ([Event::Settled { request: 9, .. }], None) => {}
            ([Event::SettleRefused { request: Some(9), refusal, .. }], Some(tag)) => {
                assert!(refusal.text.ends_with(&format!(" {tag}")), "{ranges:?}: {refusal:?}");
            }
            _ => panic!("{ranges:?}: {events:?}"),
        }
    }
    pass(&mut driver, LEASE / 2);
    extend(&mut driver, 1, &[(2, 3)], None);
    assert_eq!(lapses(&pass(&mut driver, LEASE / 2 + LOOK)), [(1, vec![(1, 1)])]);
    let nobody = extend(&mut driver, 5, &[(0, 0)], Some(1));
    assert!(matches!(nobody[..], [Event::Settled { .. }]), "all of nothing: {nobody:?}");
}

#[test]
fn single_messages_have_leases_too() {
    let mut driver = driver();
    publish(&mut driver, &[1, 2]);
    driver.get(Q, false);
    driver.settle_down();
    pass(&mut driver, LEASE / 2);
    driver.get(Q, false);
    assert_eq!(lapses(&pass(&mut driver, LEASE / 2 + 2 * LOOK)), [(GETS, vec![(1, 1)])]);
    let again = seen(&driver.get(Q, false));
    assert_eq!(
        again.iter().map(|seen| (seen.id, seen.tag, seen.redelivered)).collect::<Vec<_>>(),
        [(1, 3, true)]
    );
    assert!(extend(&mut driver, GETS, &[(3, 0)], None).is_empty());
    assert_eq!(lapses(&pass(&mut driver, LEASE / 2)), [(GETS, vec![(2, 2)])]);
}

/// A clock that is set, or a computer that slept, ends nobody's lease.
#[test]
fn a_clock_that_jumps_takes_nothing_from_anybody() {
    let mut driver = driver();
    consume(&mut driver, Q, 1);
    publish(&mut driver, &[1]);
    assert_eq!(lapses(&driver.wake_after(1_000 * LEASE)), []);
    assert_eq!(lapses(&pass(&mut driver, LEASE / 2)), []);
    driver.turn_back(500 * LEASE);
    assert_eq!(lapses(&pass(&mut driver, LEASE / 4)), []);
    assert_eq!(lapses(&pass(&mut driver, LEASE)), [(1, vec![(1, 1)])]);
}

/// What a consumer never got, since it has to be read back first, it did not keep.
#[test]
fn what_is_read_back_is_with_nobody() {
    let plain = QueueOptions { logged: true, ..QueueOptions::default() };
    let queues = [(Q, QueueOptions { lease_millis: Some(LEASE), ..plain }), (OTHER, plain)];
    let mut driver = Driver::open_as(&MemoryDisk::new(), 0, &queues);
    driver.be_quick();
    publish(&mut driver, &[1, 2]);
    driver.hold_reads();
    assert_eq!(consume(&mut driver, Q, 1), []);
    assert_eq!(lapses(&pass(&mut driver, 3 * LEASE)), [], "it is not told of what it did not get");
    let got = seen(&driver.release_reads());
    assert_eq!(got.iter().map(|seen| (seen.id, seen.delivery_count)).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
}

/// A number that is given again is another consumer's, whose tags begin anew.
#[test]
fn the_next_one_under_the_same_number_has_its_own_leases() {
    let mut driver = driver();
    consume(&mut driver, Q, 1);
    publish(&mut driver, &[1, 2, 3]);
    pass(&mut driver, LEASE / 2);
    driver.turn(vec![Command::Detach { queue: Q, key: key(1) }]);
    consume(&mut driver, Q, 1);
    assert_eq!(lapses(&pass(&mut driver, LEASE * 9 / 10)), []);
    assert_eq!(lapses(&pass(&mut driver, 2 * LOOK)), [(1, vec![(1, 3)])]);
}

#[test]
fn who_comes_next_to_a_single_active_consumer_that_ended_is_served() {
    let single = QueueOptions {
        logged: true,
        single_active: true,
        lease_millis: Some(LEASE),
        ..QueueOptions::default()
    };
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &[(Q, single), (OTHER, single)]);
    driver.be_quick();
    consume(&mut driver, Q, 1);
    consume(&mut driver, Q, 2);
    publish(&mut driver, &[1, 2]);
    let events = pass(&mut driver, LEASE + 2 * LOOK);
    assert_eq!(lapses(&events), [(1, vec![(1, 2)])]);
    let got: Vec<_> = seen(&events).iter().map(|seen| (seen.handle, seen.id)).collect();
    assert_eq!(got, [(2, 1), (2, 2)]);
}

#[test]
fn a_queue_that_goes_with_its_last_consumer_stays_with_what_came_back() {
    let options = QueueOptions { auto_delete: true, lease_millis: Some(LEASE), ..QueueOptions::default() };
    let mut driver = Driver::open_as(&MemoryDisk::new(), usize::MAX, &[(Q, options), (OTHER, options)]);
    driver.be_quick();
    consume(&mut driver, Q, 1);
    publish(&mut driver, &[1]);
    assert_eq!(lapses(&pass(&mut driver, LEASE + 2 * LOOK)), [(1, vec![(1, 1)])]);
    let mut told = Vec::new();
    driver.notices.update(|notices| told.append(notices));
    assert_eq!(told, []);
    assert_eq!(driver.inspect(Q).counts.ready, 1);
}

/// A shard that says nothing of leases has none, and is not woken for them.
#[test]
fn without_a_lease_nothing_is_looked_at() {
    let mut driver = driver();
    consume(&mut driver, OTHER, 1);
    publish(&mut driver, &[1]);
    assert_eq!(driver.shard.leases.wakes_in(driver.shard.now), None);
    consume(&mut driver, Q, 2);
    assert_eq!(driver.shard.leases.wakes_in(driver.shard.now), Some(LOOK));
    accept(&mut driver, 2, 1, 1);
    pass(&mut driver, 2 * LOOK);
    assert_eq!(driver.shard.leases.wakes_in(driver.shard.now), None, "nobody has anything");
}
