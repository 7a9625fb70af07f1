//! Consumers of a channel that share a bound, on queues of several shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::driver::*;
use crate::model::{QueueId, ShardId};
use crate::shard::task::ShardHandle;
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

/// Where each queue is.
const QUEUES: [(QueueId, usize); 3] = [(QueueId(1), 0), (QueueId(2), 0), (QueueId(3), 1)];

/// The queue of each consumer: a place in that list. The first has none of its number.
const CONSUMERS: [usize; 6] = [0, 0, 1, 2, 0, 2];
/// One that does not share the bound.
const APART: u32 = 5;

/// A shard, and what is on its way to it.
struct Place {
    driver: Driver,
    mailbox: Arc<Mailbox<Command>>,
    home: ShardHandle,
}

struct World {
    places: Vec<Place>,
    prefetch: Arc<ChannelPrefetch>,
    limit: u64,
    /// Consumers that are there, and whether they were cancelled.
    consumers: BTreeMap<u32, bool>,
    held: Vec<Seen>,
    published: u64,
    done: BTreeSet<u64>,
}

impl World {
    fn new(logged: bool) -> Self {
        let place = |shard: usize| {
            let queues: Vec<QueueId> =
                QUEUES.iter().filter(|(_, at)| *at == shard).map(|(queue, _)| *queue).collect();
            let driver = match logged {
                true => Driver::open(&MemoryDisk::new(), usize::MAX, &queues),
                false => Driver::in_memory(&queues),
            };
            let mailbox = Arc::new(Mailbox::default());
            let home = ShardHandle::new(ShardId(shard as u16), Arc::clone(&mailbox));
            Place { driver, mailbox, home }
        };
        Self {
            places: (0..2).map(place).collect(),
            prefetch: ChannelPrefetch::new(),
            limit: 0,
            consumers: BTreeMap::new(),
            held: Vec::new(),
            published: 0,
            done: BTreeSet::new(),
        }
    }

    fn set(&mut self, prefetch: u32) {
        self.limit = if prefetch == 0 { u64::MAX } else { prefetch.into() };
        self.prefetch.set(prefetch);
    }

    /// Messages that consumers have which share the bound.
    fn out(&mut self) -> u64 {
        let mut out = 0;
        for (queue, shard) in QUEUES {
            let Some(slot) = self.places[shard].driver.shard.queues.get_mut(&queue) else { continue };
            out += slot.queue.shares().values().map(|share| share.unsettled).sum::<u64>();
        }
        out
    }

    /// A shard does something, and perhaps what was on its way to it before: whether there was any of that.
    fn turn(&mut self, shard: usize, command: Option<Command>, takes_mail: bool) -> bool {
        let before = self.out();
        let place = &mut self.places[shard];
        let mut commands = Vec::new();
        if takes_mail {
            place.mailbox.take_more(&mut commands);
        }
        let had_mail = !commands.is_empty();
        commands.extend(command);
        let events = place.driver.turn(commands);
        self.note(&events, before);
        had_mail
    }

    fn step(&mut self, shard: usize) {
        let before = self.out();
        let events = self.places[shard].driver.step();
        self.note(&events, before);
    }

    fn note(&mut self, events: &[Event], before: u64) {
        self.held.extend(seen(events));
        let out = self.out();
        assert!(out <= before.max(self.limit), "{out} are out, {before} were, of {}", self.limit);
        assert!(out <= self.prefetch.out(), "{out} are out, and {} count", self.prefetch.out());
    }

    fn attach(&mut self, handle: u32) {
        let (queue, shard) = QUEUES[CONSUMERS[handle as usize]];
        let (prefetch, home) = (Arc::clone(&self.prefetch), self.places[shard].home.clone());
        let shared = (handle != APART).then_some(SharedPrefetch { prefetch, home });
        let limits = ConsumerLimits { prefetch: if handle == 4 { 2 } else { 0 }, ..UNLIMITED };
        let limits = ConsumerLimits { prefetch: if handle == APART { 1 } else { limits.prefetch }, ..limits };
        let outlet = Arc::clone(&self.places[shard].driver.outlet);
        self.turn(
            shard,
            Some(Command::Attach { queue, taker: taker(handle), limits, shared, outlet }),
            false,
        );
        self.consumers.insert(handle, false);
    }

    fn detach(&mut self, handle: u32) {
        let (queue, shard) = QUEUES[CONSUMERS[handle as usize]];
        self.held.retain(|held| held.handle != handle);
        self.consumers.remove(&handle);
        self.turn(shard, Some(Command::Detach { queue, key: key(handle) }), false);
    }

    fn settle(&mut self, index: usize, outcome: Outcome, takes_mail: bool) {
        let Seen { queue, handle, tag, id, .. } = self.held.swap_remove(index);
        let (_, shard) = QUEUES[CONSUMERS[handle as usize]];
        if matches!(outcome, Outcome::Accepted | Outcome::Rejected) {
            assert!(self.done.insert(id), "{id} was delivered after it was settled");
        }
        let settlements = vec![Settlement { range: TagRange { first: tag, last: tag }, outcome }];
        let settle = Command::Settle { queue, key: key(handle), settlements, reply: None };
        self.turn(shard, Some(settle), takes_mail);
    }

    fn publish(&mut self, place: usize, count: u64) {
        let (queue, shard) = QUEUES[place];
        let ids: Vec<u64> = (self.published + 1..=self.published + count).collect();
        self.published += count;
        let command = self.places[shard].driver.publish_command(&ids, 10, &[queue]);
        self.turn(shard, Some(command), false);
    }

    /// Lets everything happen that is under way; nobody waits for room then while there is some.
    fn settle_down(&mut self) {
        let mut has_mail = true;
        while std::mem::take(&mut has_mail) {
            for shard in 0..self.places.len() {
                has_mail |= self.turn(shard, None, true);
                while !self.places[shard].driver.shard.is_settled() {
                    self.step(shard);
                }
            }
        }
        let out = self.out();
        assert_eq!(self.prefetch.out(), out, "what counts is what they have");
        for (queue, shard) in QUEUES {
            let queue = &mut self.places[shard].driver.shard.queues.get_mut(&queue).unwrap().queue;
            let wanted: u64 = queue.shares().values().map(|share| share.wanted).sum();
            assert!(wanted == 0 || out >= self.limit, "{out} of {} are out, and {wanted} wait", self.limit);
        }
    }

    /// Whatever was, in the end everything is delivered to those who settle what they get.
    fn finish(&mut self) {
        let there: Vec<u32> = self.consumers.keys().copied().collect();
        there.into_iter().for_each(|handle| self.detach(handle));
        self.settle_down();
        assert_eq!((self.prefetch.out(), self.held.len()), (0, 0));
        (1..=4).for_each(|handle| self.attach(handle));
        let mut rounds = 0;
        while self.done.len() < self.published as usize {
            self.settle_down();
            assert!(!self.held.is_empty(), "nobody gets the rest");
            while !self.held.is_empty() {
                self.settle(0, Outcome::Accepted, false);
            }
            rounds += 1;
            assert!(rounds <= self.published, "messages go around");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(usize, u64),
    Settle(usize, Outcome, bool),
    Limit(u32),
    Attach(u32),
    Cancel(u32),
    Detach(u32),
    Mail(usize),
    Disk(usize),
    SettleDown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Accepted),
        1 => Just(Outcome::Requeued),
        1 => Just(Outcome::Rejected),
    ];
    let handle = 1..CONSUMERS.len() as u32;
    let step = prop_oneof![
        3 => (0..QUEUES.len(), 1..6u64).prop_map(|(place, count)| Step::Publish(place, count)),
        6 => (any::<usize>(), outcome, any::<bool>()).prop_map(|(index, outcome, mail)| Step::Settle(index, outcome, mail)),
        1 => (0..5u32).prop_map(Step::Limit),
        4 => handle.clone().prop_map(Step::Attach),
        1 => handle.clone().prop_map(Step::Cancel),
        1 => handle.prop_map(Step::Detach),
        4 => (0..2usize).prop_map(Step::Mail),
        2 => (0..2usize).prop_map(Step::Disk),
        1 => Just(Step::SettleDown),
    ];
    proptest::collection::vec(step, 0..80)
}

fn play(logged: bool, steps: Vec<Step>) {
    let mut world = World::new(logged);
    world.set(3);
    for step in steps {
        match step {
            Step::Publish(place, count) => world.publish(place, count),
            Step::Settle(index, outcome, takes_mail) if !world.held.is_empty() => {
                world.settle(index % world.held.len(), outcome, takes_mail);
            }
            Step::Limit(prefetch) => world.set(prefetch),
            Step::Attach(handle) if !world.consumers.contains_key(&handle) => world.attach(handle),
            Step::Cancel(handle) if world.consumers.get(&handle) == Some(&false) => {
                let (queue, shard) = QUEUES[CONSUMERS[handle as usize]];
                world.consumers.insert(handle, true);
                world.turn(shard, Some(Command::Cancel { queue, key: key(handle) }), false);
            }
            Step::Detach(handle) if world.consumers.contains_key(&handle) => world.detach(handle),
            Step::Mail(shard) => {
                world.turn(shard, None, true);
            }
            Step::Disk(shard) => world.step(shard),
            Step::SettleDown => world.settle_down(),
            Step::Settle(..) | Step::Attach(_) | Step::Cancel(_) | Step::Detach(_) => {}
        }
    }
    world.finish();
}

proptest! {
    /// However shards and their mail come between each other: no more is out than may be, nobody waits while there is room, and all
    /// is delivered in the end.
    #[test]
    fn the_bound_holds_and_nobody_is_forgotten(logged in any::<bool>(), steps in steps()) {
        play(logged, steps);
    }
}

#[test]
fn a_queue_that_is_never_empty_takes_no_more_than_the_others() {
    let mut world = World::new(false);
    world.set(2);
    (1..=3).for_each(|handle| world.attach(handle));
    (0..3).for_each(|place| world.publish(place, 100));
    let mut settled = [0; 3];
    for _ in 0..60 {
        world.settle_down();
        let oldest = world.held.remove(0);
        settled[CONSUMERS[oldest.handle as usize]] += 1;
        world.held.insert(0, oldest);
        world.settle(0, Outcome::Accepted, true);
    }
    assert!(settled.iter().all(|settled| (18..=22).contains(settled)), "{settled:?}");
}

#[test]
fn a_queue_that_is_deleted_gives_its_part_back() {
    let mut world = World::new(true);
    world.set(1);
    (1..=3).for_each(|handle| world.attach(handle));
    world.publish(0, 2);
    world.settle_down();
    world.publish(2, 1);
    world.settle_down();
    assert_eq!(world.held.iter().map(|held| held.id).collect::<Vec<_>>(), [1]);
    world.places[0].driver.delete(QUEUES[0].0);
    world.turn(1, None, true);
    world.step(1);
    assert_eq!(world.held.iter().map(|held| held.id).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(world.prefetch.out(), 1);
}

/// What they had before counts, however much it is, and is known before the bound lets anything out.
#[test]
fn consumers_that_are_there_share_it_with_what_they_have() {
    let mut world = World::new(false);
    let driver = &mut world.places[0].driver;
    let (queue, _) = QUEUES[0];
    driver.attach(queue, 1, ConsumerLimits { prefetch: 3, ..UNLIMITED });
    driver.attach(queue, 2, ConsumerLimits { no_ack: true, prefetch: 0, priority: -1, ..UNLIMITED });
    let mut got = seen(&driver.publish(&[1, 2, 3], 10, &[queue]).1);
    assert_eq!(got.iter().map(|seen| seen.handle).collect::<Vec<_>>(), [1, 1, 1]);
    let (prefetch, home) = (Arc::clone(&world.prefetch), world.places[0].home.clone());
    for handle in [1, 2] {
        let shared = SharedPrefetch { prefetch: Arc::clone(&prefetch), home: home.clone() };
        let outlet = Arc::clone(&world.places[0].driver.outlet);
        let share = Command::Share { queue, key: key(handle), shared, outlet };
        let events = world.places[0].driver.command(share);
        assert!(matches!(events[..], [Event::Shares { key: of }] if of == key(handle)), "{events:?}");
    }
    assert_eq!(prefetch.out(), 3);
    world.set(2);
    let driver = &mut world.places[0].driver;
    got.extend(seen(&driver.publish(&[4, 5], 10, &[queue]).1));
    assert_eq!(got[3..].iter().map(|seen| seen.handle).collect::<Vec<_>>(), [2, 2], "it needs no room");
    driver.command(Command::Detach { queue, key: key(2) });
    driver.publish(&[6, 7], 10, &[queue]);
    let first = TagRange { first: 1, last: 1 };
    assert!(seen(&driver.settle(queue, 1, first, Outcome::Accepted, None)).is_empty(), "two are out");
    let second = TagRange { first: 2, last: 2 };
    let got = seen(&driver.settle(queue, 1, second, Outcome::Accepted, None));
    assert_eq!(got.iter().map(|seen| seen.id).collect::<Vec<_>>(), [6]);
}

/// A channel that is closed and opened again has another bound, though its number is the same.
#[test]
fn a_channel_of_the_same_number_has_a_bound_of_its_own() {
    let mut world = World::new(false);
    world.set(1);
    world.attach(1);
    world.publish(0, 3);
    assert_eq!((world.held.len(), world.prefetch.out()), (1, 1));
    let (queue, shard) = QUEUES[0];
    let old = std::mem::replace(&mut world.prefetch, ChannelPrefetch::new());
    let shared =
        SharedPrefetch { prefetch: Arc::clone(&world.prefetch), home: world.places[shard].home.clone() };
    world.prefetch.set(2);
    let driver = &mut world.places[shard].driver;
    let outlet = Arc::clone(&driver.outlet);
    let commands = vec![
        Command::Detach { queue, key: key(1) },
        Command::Attach { queue, taker: taker(1), limits: UNLIMITED, shared: Some(shared), outlet },
    ];
    assert_eq!(seen(&driver.turn(commands)).len(), 2);
    assert_eq!((old.out(), world.prefetch.out()), (0, 2));
}

/// What waits for room of a channel waits: it is held against the limits of its queue, also before that ever delivered.
#[test]
fn limits_of_a_queue_hold_while_there_is_no_room() {
    for (single_active, prefetch) in [(false, 0), (true, 0), (false, 3)] {
        let limits = Limits { messages: Some(2), ..Limits::default() };
        let options = QueueOptions { logged: true, limits, single_active, ..QueueOptions::default() };
        let (queue, disk) = (QUEUES[0].0, MemoryDisk::new());
        let mut driver = Driver::open_as(&disk, usize::MAX, &[(queue, options)]);
        let bound = ChannelPrefetch::new();
        let home = ShardHandle::new(ShardId(0), Arc::default());
        let shared = Some(SharedPrefetch { prefetch: Arc::clone(&bound), home });
        let limits = ConsumerLimits { prefetch, ..UNLIMITED };
        let outlet = Arc::clone(&driver.outlet);
        driver.command(Command::Attach { queue, taker: taker(1), limits, shared, outlet });
        driver.publish(&[1, 2, 3, 4, 5], 10, &[queue]);
        assert!(seen(&driver.settle_down()).is_empty());
        assert_eq!(driver.ready(queue), [4, 5]);
        bound.set(1);
        let got = seen(&driver.command(Command::LookAgain { queue }));
        assert_eq!(got.iter().map(|seen| seen.id).collect::<Vec<_>>(), [4]);
    }
}
