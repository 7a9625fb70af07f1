//! Random work, and power cuts at any moment: what is confirmed stays, what is settled stays away.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::driver::*;
use crate::model::QueueId;
use crate::shard::recounts::RECORD_AFTER_MILLIS;
use crate::shard::*;
use crate::storage::testing::{MemoryDisk, PowerLoss};
use proptest::prelude::*;

const QUEUES: usize = 2;
/// Consumers of each queue.
const HANDLES: u32 = 2;

#[derive(Debug, Clone)]
enum Step {
    /// To the queues in the mask, or to both.
    Publish {
        mask: usize,
        count: usize,
        pad: usize,
    },
    Attach {
        queue: usize,
        handle: u32,
        prefetch: u32,
        no_ack: bool,
    },
    Detach {
        queue: usize,
        handle: u32,
    },
    /// The oldest or the newest of what the consumer holds, up to so many.
    Settle {
        queue: usize,
        handle: u32,
        count: usize,
        newest: bool,
        outcome: Outcome,
    },
    Get {
        queue: usize,
        no_ack: bool,
    },
    Purge(usize),
    /// Delete, and make one with another number.
    Replace(usize),
    /// The disk takes what it was given.
    Disk,
    /// Everything that is under way comes to its end.
    Quiet,
    /// The power goes after so many changes of the disk.
    CutAfter(u64),
    Crash(PowerLoss, u64),
}

/// The queue that retains what consumers are done with, and how many messages.
const RETAINING: usize = 1;
const RETAINED_MAX: u64 = 5;

/// The highest priority of both queues, in a world in which they know any.
const HIGHEST: u8 = 3;

/// The priority that a message is published with.
fn priority_of(id: u64) -> u8 {
    [0, 2, 1, 7, 2][(id % 5) as usize]
}

fn with_options(ids: &[QueueId; QUEUES], max_priority: Option<u8>) -> [(QueueId, QueueOptions); QUEUES] {
    let retention = Some(Retention { messages: Some(RETAINED_MAX), ..Retention::default() });
    let plain = QueueOptions { logged: true, auto_delete: false, max_priority, ..QueueOptions::default() };
    [(ids[0], plain), (ids[RETAINING], QueueOptions { retention, ..plain })]
}

/// What the oracle knows of a message in a queue.
#[derive(Debug, Clone, Default)]
struct Message {
    ticket: u64,
    confirmed: bool,
    held: Option<(u32, u64)>,
    delivered: bool,
    /// How often it came back; the lowest and the highest number that it may say, which differ only after a crash.
    count: (u32, u32),
    count_durable: u32,
    /// Settled, purged or delivered without acks.
    gone: bool,
    /// It was published before the last crash.
    old: bool,
}

struct World {
    disk: MemoryDisk,
    driver: Driver,
    ids: [QueueId; QUEUES],
    max_priority: Option<u8>,
    next_queue: u64,
    next_message: u64,
    queues: [BTreeMap<u64, Message>; QUEUES],
    consumers: BTreeMap<(usize, u32), ConsumerLimits>,
}

impl World {
    fn new(max_priority: Option<u8>) -> Self {
        let disk = MemoryDisk::new();
        let ids = [QueueId(1), QueueId(2)];
        let driver = Driver::open_as(&disk, RESIDENT_BYTES, &with_options(&ids, max_priority));
        let queues = Default::default();
        let consumers = BTreeMap::new();
        Self { disk, driver, ids, max_priority, next_queue: 3, next_message: 1, queues, consumers }
    }

    fn run(&mut self, step: Step) {
        let events = match step {
            Step::Publish { mask, count, pad } => self.publish(mask, count, pad),
            Step::Attach { queue, handle, prefetch, no_ack } => {
                if self.consumers.contains_key(&(queue, handle)) {
                    return;
                }
                let limits = ConsumerLimits { prefetch, no_ack, ..UNLIMITED };
                self.consumers.insert((queue, handle), limits);
                self.driver.attach(self.ids[queue], handle, limits)
            }
            Step::Detach { queue, handle } => {
                self.consumers.remove(&(queue, handle));
                self.bring_back(queue, |message| message.held.is_some_and(|(holder, _)| holder == handle));
                self.driver.command(Command::Detach { queue: self.ids[queue], key: key(handle) })
            }
            Step::Settle { queue, handle, count, newest, outcome } => {
                self.settle(queue, handle, count, newest, outcome)
            }
            Step::Get { queue, no_ack } => self.driver.get(self.ids[queue], no_ack),
            Step::Purge(queue) => {
                let (purged, events) = self.driver.purge(self.ids[queue]);
                match purged {
                    Some(purged) => {
                        let messages = self.queues[queue].values_mut();
                        let ready = messages.filter(|message| !message.gone && message.held.is_none());
                        let ready = ready.map(|message| message.gone = true).count() as u64;
                        // What cannot be read back counts as handed out and was not.
                        let unread = self.disk.is_powered_off();
                        assert!(purged == ready || unread && purged < ready, "{purged} of {ready}");
                    }
                    None => assert!(self.driver.shard.failure().is_some()),
                }
                events
            }
            Step::Replace(queue) => self.replace(queue),
            Step::Disk => self.driver.step(),
            Step::Quiet => return self.quiet(),
            Step::CutAfter(changes) => return self.disk.cut_power_at(self.disk.changes() + changes),
            Step::Crash(loss, seed) => return self.crash(loss, seed),
        };
        self.note(&events);
        self.check();
    }

    fn publish(&mut self, mask: usize, count: usize, pad: usize) -> Vec<Event> {
        let ids: Vec<u64> = (self.next_message..).take(count).collect();
        self.next_message += count as u64;
        let to: Vec<usize> = (0..QUEUES).filter(|queue| mask == 0 || mask & 1 << queue != 0).collect();
        let queues: Vec<QueueId> = to.iter().map(|queue| self.ids[*queue]).collect();
        let refused = self.driver.shard.failure().is_some();
        let command = self.driver.publish_command(&ids, pad, &queues);
        let Command::Publish(mut publish) = command else { unreachable!("it is a publish") };
        if self.max_priority.is_some() {
            let messages: Vec<(u64, u8)> = ids.iter().map(|id| (*id, priority_of(*id))).collect();
            publish.run = run_of_priorities(&messages, pad);
        }
        let ticket = publish.ticket;
        for queue in to.iter().filter(|_| !refused) {
            let message = Message { ticket, ..Message::default() };
            self.queues[*queue].extend(ids.iter().map(|id| (*id, message.clone())));
        }
        self.driver.command(Command::Publish(publish))
    }

    /// These are waiting again, with one count more.
    fn bring_back(&mut self, queue: usize, which: impl Fn(&Message) -> bool) {
        for message in self.queues[queue].values_mut().filter(|message| which(message)) {
            message.held = None;
            message.count = (message.count.0 + 1, message.count.1 + 1);
        }
    }

    fn settle(
        &mut self,
        queue: usize,
        handle: u32,
        count: usize,
        newest: bool,
        outcome: Outcome,
    ) -> Vec<Event> {
        let held_by =
            |message: &Message| message.held.filter(|(holder, _)| *holder == handle).map(|(_, tag)| tag);
        let mut tags: Vec<u64> = self.queues[queue].values().filter_map(held_by).collect();
        tags.sort_unstable();
        let Some(last) = tags.len().checked_sub(1) else { return Vec::new() };
        let count = count.min(tags.len());
        let range = match newest {
            // From the oldest up to one, and one alone.
            false => TagRange { first: 0, last: tags[count - 1] },
            true => TagRange { first: tags[last], last: 0 },
        };
        let settled = if newest { tags[last]..=tags[last] } else { 0..=tags[count - 1] };
        let which = |message: &Message| held_by(message).is_some_and(|tag| settled.contains(&tag));
        if outcome == Outcome::Requeued {
            self.bring_back(queue, which);
        } else {
            self.queues[queue].values_mut().filter(|message| which(message)).for_each(|message| {
                message.gone = true;
                message.held = None;
            });
        }
        self.driver.settle(self.ids[queue], handle, range, outcome, None)
    }

    fn replace(&mut self, queue: usize) -> Vec<Event> {
        let ready =
            self.queues[queue].values().filter(|message| !message.gone && message.held.is_none()).count();
        let (deleted, mut events) = self.driver.delete(self.ids[queue]);
        assert!(deleted == ready as u64 || self.driver.shard.failure().is_some(), "{deleted} {ready}");
        self.note(&std::mem::take(&mut events));
        self.queues[queue].clear();
        self.consumers.retain(|(other, _), _| *other != queue);
        self.ids[queue] = QueueId(self.next_queue);
        self.next_queue += 1;
        let [_, (_, options)] = with_options(&self.ids, self.max_priority);
        let options = if queue == RETAINING { options } else { QueueOptions { retention: None, ..options } };
        events.extend(self.driver.command(Command::CreateQueue { queue: self.ids[queue], options }));
        events
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Published { ticket, .. } => {
                    let messages = self.queues.iter_mut().flat_map(|queue| queue.values_mut());
                    messages
                        .filter(|message| message.ticket == *ticket)
                        .for_each(|message| message.confirmed = true);
                }
                Event::Delivery(_) | Event::Got { message: Ok(Some(_)), .. } => {
                    seen(std::slice::from_ref(event)).iter().for_each(|seen| self.note_delivery(seen));
                }
                Event::ConsumerEnded { reason, .. } if reason == "its queue was deleted" => {}
                Event::ConsumerEnded { .. } | Event::Attached { result: Err(_), .. } => {
                    // What is to be read back while the power is off is not there, before anything has to be written.
                    let is_lost = self.driver.shard.failure().is_some() || self.disk.is_powered_off();
                    assert!(is_lost, "only a failed log ends consumers: {event:?}");
                    self.consumers.clear();
                }
                Event::SettleRefused { .. } => panic!("the tag was held: {event:?}"),
                _ => {}
            }
        }
    }

    fn note_delivery(&mut self, seen: &Seen) {
        let queue = self.ids.iter().position(|id| *id == seen.queue).expect("its queue is there");
        let waiting =
            self.queues[queue].iter_mut().filter(|(_, message)| !message.gone && message.held.is_none());
        let highest = self.max_priority.unwrap_or(0);
        let next = waiting.min_by_key(|(id, _)| (Reverse(priority_of(**id).min(highest)), **id));
        let (next, message) = next.expect("something waits");
        assert_eq!(*next, seen.id, "the oldest of the highest priority that waits goes first");
        assert!(seen.redelivered || !message.delivered, "{seen:?} had been delivered");
        assert!(!seen.redelivered || message.delivered || message.old, "{seen:?} is new");
        let (lowest, highest) = message.count;
        assert!((lowest..=highest).contains(&seen.delivery_count), "{seen:?} {message:?}");
        message.count = (seen.delivery_count, seen.delivery_count);
        message.delivered = true;
        let no_ack = self.consumers.get(&(queue, seen.handle)).is_some_and(|limits| limits.no_ack);
        if no_ack || seen.handle == GETS_NO_ACK {
            message.gone = true;
        } else {
            message.held = Some((seen.handle, seen.tag));
        }
    }

    fn quiet(&mut self) {
        let mut events = self.driver.wake_after(RECORD_AFTER_MILLIS);
        events.extend(self.driver.settle_down());
        self.note(&events);
        self.check();
        if self.driver.shard.failure().is_some() {
            return;
        }
        self.check_replay();
        self.check_retained();
        for (queue, messages) in self.queues.iter_mut().enumerate() {
            messages.retain(|_, message| !message.gone);
            for message in messages.values_mut() {
                assert!(message.confirmed, "nothing is under way, and a publish was not answered");
                message.count_durable = message.count.0;
            }
            // Without power what is not in memory is not read back.
            let ready =
                !self.disk.is_powered_off() && messages.values().any(|message| message.held.is_none());
            for ((_, handle), limits) in self.consumers.iter().filter(|((other, _), _)| *other == queue) {
                let holds = |message: &&Message| message.held.is_some_and(|(holder, _)| holder == *handle);
                let held = messages.values().filter(holds).count();
                let room = limits.no_ack || limits.prefetch == 0 || held < limits.prefetch as usize;
                assert!(!(ready && room), "consumer {handle} has room and gets nothing");
            }
        }
    }

    /// Another shard that reads what the disk has now is the same.
    fn check_replay(&self) {
        let disk = self.disk.copy();
        disk.cut_power();
        disk.restore_power(PowerLoss::LosesAll, 0);
        let replayed = Driver::open_as(&disk, RESIDENT_BYTES, &with_options(&self.ids, self.max_priority));
        assert_eq!(replayed.digest(), self.driver.digest(), "a restart makes another shard of it");
    }

    /// What is retained can be seen, is within its bound, and waits nowhere.
    fn check_retained(&mut self) {
        // It went at a read, so that no write has failed: nothing can be read back.
        if self.disk.is_powered_off() {
            return;
        }
        let counts = self.driver.inspect(self.ids[RETAINING]).counts;
        assert!(counts.retained <= RETAINED_MAX, "{counts:?}");
        let retained = self.driver.peek_retained(self.ids[RETAINING]);
        assert_eq!(retained.len() as u64, counts.retained);
        for id in retained {
            let waits = self.queues[RETAINING].get(&id).is_some_and(|message| !message.gone);
            assert!(!waits, "message {id} waits, and is retained");
        }
    }

    fn crash(&mut self, loss: PowerLoss, seed: u64) {
        self.disk.cut_power();
        self.disk.restore_power(loss, seed);
        self.driver =
            Driver::open_as(&self.disk, RESIDENT_BYTES, &with_options(&self.ids, self.max_priority));
        self.consumers.clear();
        for queue in 0..QUEUES {
            let there = self.look(queue);
            let mut lost = None;
            for (id, message) in &mut self.queues[queue] {
                let survived = there.contains(id);
                assert!(
                    survived || message.gone || !message.confirmed,
                    "message {id} was confirmed, and is lost"
                );
                if survived && lost.is_some_and(|lost| lost < *id) {
                    panic!("message {id} survived, and {lost:?} before it did not");
                }
                if !survived && !message.gone {
                    lost = Some(*id);
                }
                // What was settled may be back if the disk did not have the settlement yet.
                *message = Message {
                    gone: !survived,
                    held: None,
                    old: true,
                    // What the disk has is confirmed for the next crash.
                    confirmed: survived,
                    count: (message.count_durable, message.count.1),
                    ..message.clone()
                };
            }
            for id in &there {
                assert!(
                    self.queues[queue].contains_key(id),
                    "message {id} was settled for good, or never published"
                );
            }
            self.queues[queue].retain(|_, message| !message.gone);
        }
        self.check();
    }

    /// Numbers of a queue's messages after recovery, read from the log, without a trace in the queue.
    fn look(&mut self, queue: usize) -> Vec<u64> {
        self.driver.peek(self.ids[queue])
    }

    fn check(&mut self) {
        if self.driver.shard.failure().is_some() || self.disk.is_powered_off() {
            // What cannot be read back counts as handed out and was not.
            return;
        }
        for queue in 0..QUEUES {
            let live = self.queues[queue].values().filter(|message| !message.gone);
            let held = live.clone().filter(|message| message.held.is_some()).count() as u64;
            let all = live.count() as u64;
            let counts = self.driver.inspect(self.ids[queue]).counts;
            assert_eq!((counts.ready + counts.unsettled, counts.unsettled), (all, held));
        }
    }
}

/// Little, so that most messages are read back from the log.
const RESIDENT_BYTES: usize = 3000;

fn step() -> impl Strategy<Value = Step> {
    let queue = || 0..QUEUES;
    let handle = || 1..=HANDLES;
    let outcome =
        prop_oneof![3 => Just(Outcome::Accepted), 2 => Just(Outcome::Requeued), 1 => Just(Outcome::Rejected)];
    let loss = prop_oneof![Just(PowerLoss::LosesAll), Just(PowerLoss::KeepsAll), Just(PowerLoss::Tears)];
    prop_oneof![
        12 => (0usize..4, 1usize..6, prop_oneof![3 => 0usize..50, 1 => 500usize..1500])
            .prop_map(|(mask, count, pad)| Step::Publish { mask, count, pad }),
        6 => (queue(), handle(), 0u32..5, prop::bool::weighted(0.15))
            .prop_map(|(queue, handle, prefetch, no_ack)| Step::Attach { queue, handle, prefetch, no_ack }),
        2 => (queue(), handle()).prop_map(|(queue, handle)| Step::Detach { queue, handle }),
        12 => (queue(), prop_oneof![4 => handle(), 1 => Just(GETS)], 1usize..5, any::<bool>(), outcome)
            .prop_map(|(queue, handle, count, newest, outcome)| Step::Settle { queue, handle, count, newest, outcome }),
        4 => (queue(), any::<bool>()).prop_map(|(queue, no_ack)| Step::Get { queue, no_ack }),
        1 => queue().prop_map(Step::Purge),
        1 => queue().prop_map(Step::Replace),
        12 => Just(Step::Disk),
        4 => Just(Step::Quiet),
        1 => (0u64..6).prop_map(Step::CutAfter),
        3 => (loss, any::<u64>()).prop_map(|(loss, seed)| Step::Crash(loss, seed)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_confirmed_is_lost_and_nothing_settled_returns(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::new(None);
        steps.into_iter().for_each(|step| world.run(step));
        world.crash(PowerLoss::LosesAll, 0);
        world.quiet();
    }

    #[test]
    fn the_same_of_queues_that_know_priorities(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::new(Some(HIGHEST));
        steps.into_iter().for_each(|step| world.run(step));
        world.crash(PowerLoss::LosesAll, 0);
        world.quiet();
    }
}
