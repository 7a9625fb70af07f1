//! A queue against a model that is too simple to be wrong: sets of sequences, and the rules as they are written down.
//!
//! Where it knows priorities, each sequence has one of its own.
//!
//! The harness does what a shard does: it logs and applies what the queue asks for, says when the log is durable, and
//! after a crash builds the queue again from a beginning of the log.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use leveret::model::{BodySequence, ConnectionId, Overflow};
use leveret::queue::{
    AttachRefusal, ConsumerKey, ConsumerLimits, CountRun, Departure, Effect, Effects, Full, Limits, Outcome,
    Queue, QueueCommand, QueueCounts, QueueOptions, Retention, SequenceRuns, TagRange, Taking,
};
use proptest::prelude::*;

/// Slots for consumers; the two after them are readers of single messages.
const CONSUMERS: u32 = 4;

#[derive(Debug, Clone)]
enum Step {
    /// `gap`: sequences that other queues of the shard took in between.
    Enqueue {
        gap: u64,
        count: u64,
    },
    Attach {
        slot: u32,
        limits: ConsumerLimits,
    },
    Cancel(u32),
    Detach(u32),
    Credit(u32, u32),
    Written(u32),
    /// The two numbers choose tags among those ever given out, 0 and some that were not.
    Settle {
        slot: u32,
        first: u64,
        last: u64,
        outcome: Outcome,
    },
    Get {
        no_ack: bool,
    },
    Deliver,
    Purge,
    /// One in so many of the messages there were, and some that there were not.
    Move(u64),
    /// What is retained is kept within its bounds, and so much of it is too old.
    Forget(u64),
    Limit(u64),
    /// One in so many of the dead letters is stored elsewhere.
    Dismiss(u64),
    /// One in so many of the messages there are is held back, if it waits.
    Hold(u64),
    /// One in so many of them waits again, if it is held back.
    Release(u64),
    /// The log is durable up to here.
    Sync,
    /// What is not durable survives up to a point that the number chooses.
    Crash(usize),
    CleanStop,
    Delete,
}

#[derive(Debug, Clone)]
enum Logged {
    Enqueue { first: u64, count: u64 },
    Command(QueueCommand),
}

fn size_of(sequence: u64) -> u32 {
    if sequence.is_multiple_of(97) { 40_000 + sequence as u32 } else { (sequence % 50) as u32 + 2 }
}

/// A window is charged exactly below 16 KiB and in steps of it above.
fn charged_size(sequence: u64) -> u64 {
    let size = u64::from(size_of(sequence));
    if size < 16_384 { size } else { size & !16_383 }
}

#[derive(Debug)]
struct ModelConsumer {
    /// How many had come before.
    number: u64,
    limits: ConsumerLimits,
    cancelled: bool,
    in_flight: u64,
    next_tag: u64,
    unsettled: BTreeMap<u64, u64>,
}

impl ModelConsumer {
    fn has_room(&self) -> bool {
        self.room() > 0
    }

    fn room(&self) -> u64 {
        let by_credit = self.limits.credit.map_or(u64::MAX, u64::from);
        match u64::from(self.limits.prefetch) {
            _ if self.cancelled || self.in_flight >= self.limits.window_bytes => 0,
            _ if self.limits.no_ack => by_credit,
            0 => by_credit,
            prefetch => by_credit.min(prefetch.saturating_sub(self.unsettled.len() as u64)),
        }
    }
}

/// A message as it stands among those that wait: by priority, the highest first, and then by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Reverse<u8>,
    sequence: u64,
}

/// The priority that a message is published with: mostly of a few, now and then of any.
fn priority_of(sequence: u64) -> u8 {
    let mixed = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    match mixed {
        0..200 => [0, 0, 1, 2, 2, 9][(mixed % 6) as usize],
        mixed => mixed as u8,
    }
}

#[derive(Debug)]
struct Harness {
    options: QueueOptions,
    queue: Queue,
    log: Vec<Logged>,
    /// Length of the part of the log that is durable.
    durable: usize,
    next: u64,
    /// Highest mark whose record is durable in this life; nothing at or above may be delivered.
    mark: u64,
    /// Messages below it were there before the last crash.
    old_below: u64,
    /// Messages of the queue and how often they came back.
    held: BTreeMap<u64, u32>,
    /// What waits, in the order in which it goes out.
    ready: BTreeSet<Place>,
    /// What is held back, of messages of the queue.
    later: BTreeSet<u64>,
    /// Something was held back, so that younger messages went out first.
    ever_later: bool,
    /// What consumers are done with and the queue retains.
    retained: BTreeSet<u64>,
    /// What is to be stored elsewhere, and why.
    dead: BTreeMap<u64, Departure>,
    /// Delivered in any life.
    delivered: BTreeSet<u64>,
    consumers: BTreeMap<u32, ModelConsumer>,
    /// How many have come.
    came: u64,
    counts: QueueCounts,
}

fn slot_of(key: ConsumerKey) -> u32 {
    match key.taking {
        Taking::Consuming => key.handle,
        Taking::OneByOne => CONSUMERS,
        Taking::OneByOneNoAck => CONSUMERS + 1,
    }
}

fn key(slot: u32) -> ConsumerKey {
    match slot {
        0..CONSUMERS => ConsumerKey::consumer(ConnectionId(1), 1, slot),
        slot => ConsumerKey::one_by_one(ConnectionId(1), 1, slot > CONSUMERS),
    }
}

impl Harness {
    fn new(options: QueueOptions) -> Self {
        Self {
            options,
            queue: Queue::new(options),
            log: Vec::new(),
            durable: 0,
            next: 1,
            mark: if options.logged { 0 } else { u64::MAX },
            old_below: 0,
            held: BTreeMap::new(),
            ready: BTreeSet::new(),
            later: BTreeSet::new(),
            ever_later: false,
            retained: BTreeSet::new(),
            dead: BTreeMap::new(),
            delivered: BTreeSet::new(),
            consumers: BTreeMap::new(),
            came: 0,
            counts: QueueCounts::default(),
        }
    }

    fn place(&self, sequence: u64) -> Place {
        let priority = self.options.max_priority.map_or(0, |highest| priority_of(sequence).min(highest));
        Place { priority: Reverse(priority), sequence }
    }

    fn waits(&self, sequence: u64) -> bool {
        self.ready.contains(&self.place(sequence))
    }

    /// What waits, in the order in which it goes out.
    fn in_turn(&self) -> Vec<u64> {
        self.ready.iter().map(|place| place.sequence).collect()
    }

    /// What waits, oldest first.
    fn oldest_first(&self) -> Vec<u64> {
        let mut ready = self.in_turn();
        ready.sort_unstable();
        ready
    }

    /// Messages come to the queue as they come to a shard's: each run of one priority by itself.
    fn enqueue_in_queue(queue: &mut Queue, first: u64, end: u64) {
        if queue.options().max_priority.is_none() {
            return queue.enqueue(BodySequence(first), (first..end).map(size_of));
        }
        let all: Vec<u64> = (first..end).collect();
        for same in all.chunk_by(|one, other| priority_of(*one) == priority_of(*other)) {
            let sizes = same.iter().map(|sequence| size_of(*sequence));
            queue.enqueue_prior(priority_of(same[0]), BodySequence(same[0]), sizes);
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Enqueue { gap, count } => self.enqueue(gap, count),
            Step::Attach { slot, limits } => self.attach(slot, limits),
            Step::Cancel(slot) => self.leave(slot, Queue::cancel, true),
            Step::Detach(slot) => self.leave(slot, Queue::detach, false),
            Step::Credit(slot, add) => {
                self.queue.add_credit(key(slot), add);
                if let Some(consumer) = self.consumers.get_mut(&slot) {
                    consumer.limits.credit = Some(consumer.limits.credit.unwrap_or(0) + add);
                }
            }
            Step::Written(slot) => {
                if let Some(consumer) = self.consumers.get_mut(&slot) {
                    self.queue.written(key(slot), consumer.in_flight);
                    consumer.in_flight = 0;
                }
            }
            Step::Settle { slot, first, last, outcome } => self.settle(slot, first, last, outcome),
            Step::Get { no_ack } => self.get_one(no_ack),
            Step::Deliver => self.deliver(),
            Step::Purge => self.purge(),
            Step::Move(each) => self.take_out(each),
            Step::Forget(part) => self.forget(part),
            Step::Limit(part) => self.limit(part),
            Step::Dismiss(each) => self.dismiss(each),
            Step::Hold(each) => self.hold(each),
            Step::Release(each) => self.release(each),
            Step::Sync => self.sync(),
            Step::Crash(kept) => {
                let lost = self.log.len() - self.durable;
                self.restart(self.durable + kept % (lost + 1));
            }
            Step::CleanStop => self.clean_stop(),
            Step::Delete => {
                let held: Vec<u64> = self.held.keys().copied().collect();
                assert_eq!(self.queue.contents().sequences().collect::<Vec<_>>(), held);
                let given_up = self.queue.give_up_retained();
                assert!(given_up.iter().flat_map(|run| run.sequences()).eq(self.retained.iter().copied()));
                let letters: BTreeSet<u64> = self.queue.give_up_dead_letters().sequences().collect();
                assert!(letters.iter().eq(self.dead.keys()));
                *self = Self { next: self.next, ..Self::new(self.options) };
            }
        }
        self.check();
    }

    fn enqueue(&mut self, gap: u64, count: u64) {
        let first = self.next + gap;
        let admitted = self.admitted(first, count);
        assert_eq!(self.queue.room(0).is_some(), self.options.limits.refuse_what_comes());
        if let Some(mut room) = self.queue.room(0) {
            let takes = |sequence| room.take(u64::from(size_of(sequence)));
            let told: Vec<Result<(), Full>> = (first..first + count).map(takes).collect();
            assert_eq!(told, admitted);
        }
        let refused = admitted.iter().filter(|admitted| admitted.is_err()).count() as u64;
        self.queue.count_refused(refused);
        self.counts.refused += refused;
        // What is refused by all queues of a shard is given no sequence.
        self.take_in(first, count - refused);
    }

    /// Whether each of so many messages has room, as they come one after the other.
    fn admitted(&self, first: u64, count: u64) -> Vec<Result<(), Full>> {
        let Limits { messages, bytes, .. } = self.options.limits;
        if !self.options.limits.refuse_what_comes() {
            return vec![Ok(()); count as usize];
        }
        let served = self.consumers.iter().filter(|(slot, _)| self.is_served(**slot));
        let mut takers = served.fold(0, |room: u64, (_, consumer)| room.saturating_add(consumer.room()));
        let mut waiting = self.in_turn();
        let taken = (waiting.len() as u64).min(takers);
        let all: u64 = self.held.keys().map(|sequence| u64::from(size_of(*sequence))).sum();
        let with_consumers = self.held.keys().filter(|sequence| !self.waits(**sequence));
        let about_to_go = waiting.drain(..taken as usize);
        let others: u64 = with_consumers.copied().chain(about_to_go).map(charged_size).sum();
        takers -= taken;
        let mut waiting_bytes = if waiting.is_empty() { 0 } else { all - others };
        let mut waiting = waiting.len() as u64;
        let mut take = |sequence| {
            let then = waiting_bytes + u64::from(size_of(sequence));
            if let Some(most) = messages.filter(|most| waiting >= *most) {
                return Err(Full::Messages(most));
            }
            if let Some(most) = bytes.filter(|most| then > *most) {
                return Err(Full::Bytes(most));
            }
            match takers {
                0 => (waiting, waiting_bytes) = (waiting + 1, then),
                _ => takers -= 1,
            }
            Ok(())
        };
        (first..first + count).map(&mut take).collect()
    }

    fn take_in(&mut self, first: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.next = first + count;
        Self::enqueue_in_queue(&mut self.queue, first, self.next);
        self.log.push(Logged::Enqueue { first, count });
        self.counts.published += count;
        for sequence in first..self.next {
            self.held.insert(sequence, 0);
            self.ready.insert(self.place(sequence));
        }
    }

    fn attach(&mut self, slot: u32, limits: ConsumerLimits) {
        let mut active =
            self.consumers.iter().filter(|(slot, consumer)| !consumer.cancelled && **slot < CONSUMERS);
        let expected = if self.consumers.contains_key(&slot) {
            Err(AttachRefusal::KeyInUse)
        } else if limits.exclusive && self.options.single_active {
            Err(AttachRefusal::SingleActive)
        } else if limits.exclusive && active.next().is_some() {
            Err(AttachRefusal::OthersPresent)
        } else if active.any(|(_, consumer)| consumer.limits.exclusive) {
            Err(AttachRefusal::ExclusiveInUse)
        } else {
            Ok(())
        };
        assert_eq!(self.queue.attach(key(slot), limits), expected);
        if expected.is_ok() {
            self.insert_consumer(slot, limits);
        }
    }

    fn insert_consumer(&mut self, slot: u32, limits: ConsumerLimits) {
        let consumer = ModelConsumer {
            number: self.came,
            limits,
            cancelled: false,
            in_flight: 0,
            next_tag: 1,
            unsettled: BTreeMap::new(),
        };
        self.came += 1;
        self.consumers.insert(slot, consumer);
    }

    fn leave(&mut self, slot: u32, how: fn(&mut Queue, ConsumerKey, &mut Effects), may_settle: bool) {
        let mut effects = Vec::new();
        how(&mut self.queue, key(slot), &mut effects);
        let was_active =
            self.consumers.get(&slot).is_some_and(|consumer| !consumer.cancelled && slot < CONSUMERS);
        let mut back: Vec<u64> = Vec::new();
        if let Some(consumer) = self.consumers.get_mut(&slot) {
            consumer.cancelled = true;
            if !may_settle || consumer.unsettled.is_empty() {
                back = self.consumers.remove(&slot).unwrap().unsettled.into_values().collect();
            }
        }
        let unused = self.options.auto_delete && was_active && self.active() == 0;
        assert_eq!(effects.iter().filter(|effect| **effect == Effect::Unused).count(), usize::from(unused));
        self.expect_back(&back);
        self.expect_beyond_limit(&back);
        self.carry_out(effects);
    }

    /// Those of what came back leave that did so too often.
    fn expect_beyond_limit(&mut self, back: &[u64]) -> Vec<u64> {
        let Some(limit) = self.options.delivery_limit else { return Vec::new() };
        let beyond: Vec<u64> = back.iter().copied().filter(|sequence| self.held[sequence] > limit).collect();
        self.expect_gone(&beyond, Departure::DeliveryLimit);
        beyond
    }

    fn active(&self) -> u32 {
        self.consumers.iter().filter(|(slot, consumer)| **slot < CONSUMERS && !consumer.cancelled).count()
            as u32
    }

    /// These are to be waiting again.
    fn expect_back(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            assert!(self.ready.insert(self.place(*sequence)));
            *self.held.get_mut(sequence).unwrap() += 1;
        }
    }

    fn settle(&mut self, slot: u32, first: u64, last: u64, outcome: Outcome) {
        let range_of =
            |next_tag: u64| TagRange { first: first % (next_tag + 2), last: last % (next_tag + 2) };
        let Some(consumer) = self.consumers.get_mut(&slot) else {
            let range = range_of(3);
            let unknown = if range.first == 0 { range.last } else { range.first };
            let mut effects = Vec::new();
            let settled = self.queue.settle_tags(key(slot), range, outcome, &mut effects);
            // All of nothing is done, a tag of nothing is unknown.
            let refused = settled.map_or_else(|tag| Some(tag.0.0), |()| None);
            assert_eq!((refused, effects.is_empty()), (Some(unknown).filter(|tag| *tag != 0), true));
            return;
        };
        let range = range_of(consumer.next_tag);
        let (from, to) = match (range.first, range.last) {
            (0, 0) => (1, consumer.next_tag - 1),
            (0, last) => (1, last),
            (first, 0) => (first, first),
            both => both,
        };
        let held = |tag: &u64| consumer.unsettled.contains_key(tag);
        let unknown = match range.first {
            0 => (to >= consumer.next_tag).then_some(consumer.next_tag),
            _ if to < from => Some(from),
            _ => (from..=to).find(|tag| !held(tag)),
        };
        let tags: Vec<u64> = (from..=to).filter(held).collect();
        let settled: Vec<u64> = tags.iter().map(|tag| consumer.unsettled.remove(tag).unwrap()).collect();
        if consumer.cancelled && consumer.unsettled.is_empty() {
            self.consumers.remove(&slot);
        }
        let mut beyond = Vec::new();
        match outcome {
            Outcome::Requeued | Outcome::Deferred(_) => {
                self.expect_back(&settled);
                beyond = self.expect_beyond_limit(&settled);
            }
            Outcome::Accepted => self.expect_gone(&settled, Departure::Accepted),
            Outcome::Rejected => self.expect_gone(&settled, Departure::Rejected),
        }
        let mut effects = Vec::new();
        let result = self.queue.settle_tags(key(slot), range, outcome, &mut effects);
        assert_eq!(result.err().map(|unknown| unknown.0.0), unknown, "{range:?}");
        let released = self.carry_out(effects);
        let stays = match outcome {
            Outcome::Requeued | Outcome::Deferred(_) => return assert_eq!(released, self.released(&beyond)),
            Outcome::Accepted => self.options.retention.is_some(),
            Outcome::Rejected => self.options.dead_letters,
        };
        assert_eq!(released, if stays { vec![] } else { sorted(settled) });
    }

    fn expect_gone(&mut self, sequences: &[u64], departure: Departure) {
        let departures = &mut self.counts.departures;
        let count = match departure {
            Departure::Accepted => &mut departures.accepted,
            Departure::Rejected => &mut departures.rejected,
            Departure::Purged => &mut departures.purged,
            Departure::NoAck => &mut departures.no_ack,
            Departure::Moved => &mut departures.moved,
            Departure::Expired => &mut departures.expired,
            Departure::MaxLength => &mut departures.max_length,
            Departure::DeliveryLimit => &mut departures.delivery_limit,
            Departure::DeadLettered | Departure::Cycle => unreachable!("they are gone already"),
        };
        *count += sequences.len() as u64;
        for sequence in sequences {
            assert!(self.held.remove(sequence).is_some());
            self.ready.remove(&self.place(*sequence));
            self.later.remove(sequence);
        }
        self.note_retained(departure, sequences);
        if self.options.dead_letters && makes_dead_letters(departure) {
            self.dead.extend(sequences.iter().map(|sequence| (*sequence, departure)));
        }
    }

    /// Consumers are done with these, or not.
    fn note_retained(&mut self, departure: Departure, sequences: &[u64]) {
        if self.options.retention.is_some() && matches!(departure, Departure::Accepted | Departure::NoAck) {
            self.retained.extend(sequences);
        }
    }

    fn purge(&mut self) {
        let ready = self.in_turn();
        let mut effects = Vec::new();
        assert_eq!(self.queue.purge(&mut effects), ready.len() as u64);
        self.expect_gone(&ready, Departure::Purged);
        assert_eq!(self.carry_out(effects), sorted(ready));
    }

    fn get_one(&mut self, no_ack: bool) {
        let slot = CONSUMERS + u32::from(no_ack);
        if !self.consumers.contains_key(&slot) {
            let limits = ConsumerLimits { no_ack, credit: Some(0), ..UNLIMITED };
            self.queue.attach(key(slot), limits).unwrap();
            self.insert_consumer(slot, limits);
        }
        let next = self.in_turn().first().copied();
        let consumer = self.consumers.get_mut(&slot).unwrap();
        let expected = next.filter(|next| *next < self.mark && !consumer.cancelled);
        if !consumer.cancelled {
            consumer.limits.credit = Some(1);
        }
        let mut effects = Vec::new();
        assert_eq!(self.queue.take_one(key(slot), &mut effects), expected.is_some());
        assert_eq!(
            self.queue.waits_for_mark(),
            self.ready_after(expected).is_some_and(|next| next >= self.mark)
        );
        self.carry_out(effects);
        self.consumers.get_mut(&slot).unwrap().limits.credit = Some(0);
    }

    fn ready_after(&self, taken: Option<u64>) -> Option<u64> {
        self.in_turn().into_iter().find(|sequence| Some(*sequence) != taken)
    }

    fn deliver(&mut self) {
        let mut effects = Vec::new();
        self.queue.deliver(&mut effects);
        self.carry_out(effects);
        let deliverable = self.ready.first().is_some_and(|next| next.sequence < self.mark);
        let room = self.consumers.iter().any(|(slot, consumer)| self.is_served(*slot) && consumer.has_room());
        assert!(!(deliverable && room), "a message waits although a consumer has room");
    }

    /// Does what a shard does with effects; returns what was released, in order.
    fn carry_out(&mut self, effects: Effects) -> Vec<u64> {
        let mut released = Vec::new();
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Append(command) => {
                    self.log.push(Logged::Command(command.clone()));
                    let mut more = Vec::new();
                    self.queue.apply(&command, &mut more);
                    more.into_iter().rev().for_each(|effect| effects.push_front(effect));
                }
                Effect::Deliver { consumer, run, first_tag, redelivered, delivery_count, window_bytes } => {
                    let sequences: Vec<u64> = (run.first.0..run.first.0 + run.count).collect();
                    assert_eq!(
                        window_bytes,
                        sequences.iter().map(|sequence| charged_size(*sequence)).sum::<u64>()
                    );
                    for (tag, sequence) in (first_tag.0..).zip(sequences) {
                        self.expect_delivery(slot_of(consumer), tag, sequence, redelivered, delivery_count);
                    }
                }
                Effect::Release(run) => released.extend(run.first.0..run.first.0 + run.count),
                Effect::CameBack(..) => {
                    effects.extend(self.queue.counts_to_record().map(Effect::Append));
                }
                Effect::Unused => {}
            }
        }
        released.sort_unstable();
        released
    }

    fn expect_delivery(&mut self, slot: u32, tag: u64, sequence: u64, redelivered: bool, count: u32) {
        let next = self.ready.pop_first().map(|next| next.sequence);
        assert_eq!(next, Some(sequence), "the oldest of the highest priority goes first");
        assert!(sequence < self.mark, "{sequence} went out before its mark was durable");
        assert_eq!(count, self.held[&sequence]);
        let first_time = self.delivered.insert(sequence);
        assert!(first_time || redelivered, "{sequence} had been delivered");
        assert!(!redelivered || !first_time || sequence < self.old_below, "{sequence} is new");
        self.counts.delivered += 1;
        assert!(slot >= CONSUMERS || self.is_served(slot), "{slot} is served and is not the active consumer");
        let priority = self.consumers[&slot].limits.priority;
        let mut passed_over = self.consumers.iter().filter(|(_, consumer)| consumer.has_room());
        assert!(
            slot >= CONSUMERS || passed_over.all(|(_, consumer)| consumer.limits.priority <= priority),
            "{slot} is served although one of a higher priority has room"
        );
        let consumer = self.consumers.get_mut(&slot).unwrap();
        assert!(consumer.has_room(), "{slot} has no room");
        assert_eq!(tag, consumer.next_tag);
        consumer.next_tag += 1;
        consumer.in_flight += charged_size(sequence);
        if let Some(credit) = &mut consumer.limits.credit {
            *credit -= 1;
        }
        if consumer.limits.no_ack {
            self.expect_gone(&[sequence], Departure::NoAck);
        } else {
            consumer.unsettled.insert(tag, sequence);
        }
    }

    fn sync(&mut self) {
        for logged in &self.log[self.durable..] {
            if let Logged::Command(QueueCommand::DeliveryMark(mark)) = logged {
                self.queue.mark_durable(*mark);
                self.mark = *mark;
            }
        }
        self.durable = self.log.len();
    }

    fn clean_stop(&mut self) {
        for slot in 0..CONSUMERS + 2 {
            self.leave(slot, Queue::detach, false);
        }
        if let Some(mark) = self.queue.closing_mark() {
            self.carry_out(vec![Effect::Append(mark)]);
            // What is delivered after all, before the end, must not be called new by the next process.
            self.attach(0, UNLIMITED);
            let mut effects = Vec::new();
            self.queue.deliver(&mut effects);
            self.carry_out(effects);
        }
        self.sync();
        let old_below = self.old_below;
        self.restart(self.log.len());
        if self.options.logged {
            // An exact mark: what counts as delivered was, unless an earlier crash left it in doubt. There is one for all
            // priorities, and for what was held back.
            let newest =
                self.delivered.last().filter(|_| self.options.max_priority.is_some() || self.ever_later);
            self.old_below = old_below.max(newest.map_or(0, |newest| newest + 1));
        }
    }

    /// A new process reads the first `kept` records.
    fn restart(&mut self, kept: usize) {
        if !self.options.logged {
            return;
        }
        self.log.truncate(kept);
        self.durable = kept;
        self.queue = Queue::new(self.options);
        self.consumers.clear();
        self.held.clear();
        // What is held back is the shard's to say after a restart.
        self.later.clear();
        self.retained.clear();
        self.dead.clear();
        self.mark = 0;
        self.next = 1;
        let log = std::mem::take(&mut self.log);
        for logged in &log {
            match logged {
                Logged::Enqueue { first, count } => {
                    self.next = first + count;
                    Self::enqueue_in_queue(&mut self.queue, *first, self.next);
                    self.held.extend((*first..self.next).map(|sequence| (sequence, 0)));
                }
                Logged::Command(command) => {
                    self.queue.apply(command, &mut Vec::new());
                    self.replay(command);
                }
            }
        }
        self.log = log;
        self.queue.recovered(BodySequence(self.next));
        self.ready = self.held.keys().map(|sequence| self.place(*sequence)).collect();
        // Sequences of lost messages are given out again.
        let _ = self.delivered.split_off(&self.next);
        self.old_below = self.next;
        self.counts = QueueCounts::default();
    }

    fn replay(&mut self, command: &QueueCommand) {
        let each = |runs: &SequenceRuns| runs.sequences().collect::<Vec<_>>();
        match command {
            QueueCommand::Settle(Departure::DeadLettered | Departure::Cycle, runs) => {
                each(runs).iter().for_each(|sequence| {
                    self.dead.remove(sequence);
                });
            }
            QueueCommand::DeadLetter(departure, runs) => {
                let left = each(runs).into_iter().filter(|sequence| self.held.remove(sequence).is_some());
                self.dead.extend(left.map(|sequence| (sequence, *departure)));
            }
            QueueCommand::Settle(departure, runs) => {
                let left: Vec<u64> =
                    each(runs).into_iter().filter(|sequence| self.held.remove(sequence).is_some()).collect();
                self.note_retained(*departure, &left);
            }
            QueueCommand::Forget(sequence) => self.retained = self.retained.split_off(sequence),
            QueueCommand::Requeue(runs) => each(runs).iter().for_each(|sequence| {
                self.held.entry(*sequence).and_modify(|count| *count += 1);
            }),
            QueueCommand::Counts(counts) => {
                for CountRun { run, count } in counts {
                    let counted = self.held.range_mut(run.first.0..run.first.0 + run.count);
                    counted.for_each(|(_, held)| *held = *count);
                }
            }
            QueueCommand::DeliveryMark(mark) => self.mark = *mark,
        }
    }

    fn check(&mut self) {
        self.look();
        let unsettled = self.consumers.values().map(|consumer| consumer.unsettled.len() as u64).sum();
        let expected = QueueCounts {
            ready: self.ready.len() as u64,
            held_back: self.later.len() as u64,
            unsettled,
            bytes: self.held.keys().map(|sequence| u64::from(size_of(*sequence))).sum(),
            consumers: self.active(),
            retained: self.retained.len() as u64,
            retained_bytes: bytes_of(&self.retained),
            dead_letters: self.dead.len() as u64,
            dead_letters_bytes: self.dead.keys().map(|sequence| u64::from(size_of(*sequence))).sum(),
            ..self.counts
        };
        assert_eq!(self.queue.counts(), expected);
        assert_eq!(
            expected.ready + expected.held_back + unsettled,
            self.held.len() as u64,
            "the model lost count"
        );
        assert!(
            self.held
                .keys()
                .all(|sequence| self.queue.holds_back(*sequence) == self.later.contains(sequence))
        );
        for (slot, consumer) in &self.consumers {
            let held = self.queue.consumer_state(key(*slot)).unwrap().unsettled;
            assert_eq!(held, consumer.unsettled.len() as u64);
            let active = self.options.single_active.then(|| self.active_slot() == Some(*slot));
            assert_eq!(self.queue.consumer_state(key(*slot)).unwrap().active, active, "consumer {slot}");
        }
        assert_eq!(self.queue.consumers().count(), self.consumers.len());
        let retained = self.queue.retained_in(0..u64::MAX).map(|message| message.sequence);
        assert!(retained.eq(self.retained.iter().copied()), "retained: {:?}", self.retained);
        let reasons: BTreeSet<Departure> = self.dead.values().copied().collect();
        assert!(self.queue.dead_letter_reasons().eq(reasons.iter().copied()));
        for why in reasons {
            let seen = self.queue.dead_letters_in(why, 0..u64::MAX).map(|letter| letter.sequence);
            let expected = self.dead.iter().filter(|(_, of)| **of == why).map(|(sequence, _)| *sequence);
            assert!(seen.eq(expected), "{why:?}: {:?}", self.dead);
        }
    }
}

fn sorted(mut sequences: Vec<u64>) -> Vec<u64> {
    sequences.sort_unstable();
    sequences
}

fn makes_dead_letters(departure: Departure) -> bool {
    matches!(
        departure,
        Departure::Rejected | Departure::Expired | Departure::MaxLength | Departure::DeliveryLimit
    )
}

/// Who is served.
impl Harness {
    /// With a single active consumer it is the first in line, while nobody else holds messages.
    fn is_served(&self, slot: u32) -> bool {
        let mut others = self.consumers.iter().filter(|(other, _)| **other != slot && **other < CONSUMERS);
        !self.options.single_active
            || self.first_in_line() == Some(slot) && others.all(|(_, other)| other.unsettled.is_empty())
    }

    fn first_in_line(&self) -> Option<u32> {
        let live = |(slot, consumer): &(&u32, &ModelConsumer)| **slot < CONSUMERS && !consumer.cancelled;
        let line = self.consumers.iter().filter(live);
        let first = line.max_by_key(|(_, consumer)| (consumer.limits.priority, Reverse(consumer.number)));
        first.map(|(slot, _)| *slot)
    }

    /// Who holds messages stays active.
    fn active_slot(&self) -> Option<u32> {
        let mut all = self.consumers.iter();
        let holder = all.find(|(slot, consumer)| **slot < CONSUMERS && !consumer.unsettled.is_empty());
        holder.map(|(slot, _)| *slot).or_else(|| self.first_in_line())
    }
}

fn bytes_of(sequences: &BTreeSet<u64>) -> u64 {
    sequences.iter().map(|sequence| u64::from(size_of(*sequence))).sum()
}

/// Looks, and what follows from them.
impl Harness {
    fn take_out(&mut self, each: u64) {
        let held = self.held.keys().copied().filter(|sequence| sequence.is_multiple_of(each));
        let gone = self.delivered.iter().copied().find(|sequence| !self.held.contains_key(sequence));
        let named: BTreeSet<u64> = held.chain(gone).chain([0, self.next + 3, u64::MAX]).collect();
        let (ready, others): (Vec<u64>, Vec<u64>) = named.iter().partition(|sequence| self.waits(**sequence));
        let mut effects = Vec::new();
        assert_eq!(self.queue.take_out(named, &mut effects), others);
        self.expect_gone(&ready, Departure::Moved);
        assert_eq!(self.carry_out(effects), ready);
    }

    fn hold(&mut self, each: u64) {
        let named: Vec<u64> =
            self.held.keys().copied().filter(|sequence| sequence.is_multiple_of(each)).collect();
        let waiting: Vec<u64> = named.iter().copied().filter(|sequence| self.waits(*sequence)).collect();
        assert_eq!(self.queue.hold(named.into_iter().chain([0, self.next + 3])), waiting.len() as u64);
        self.ever_later |= !waiting.is_empty();
        for sequence in waiting {
            self.ready.remove(&self.place(sequence));
            self.later.insert(sequence);
        }
    }

    fn release(&mut self, each: u64) {
        let named: Vec<u64> =
            self.held.keys().copied().filter(|sequence| sequence.is_multiple_of(each)).collect();
        let back: Vec<u64> = named.iter().copied().filter(|sequence| self.later.remove(sequence)).collect();
        assert_eq!(self.queue.release(named.into_iter().chain([0, self.next + 3])), back.len() as u64);
        for sequence in back {
            assert!(self.ready.insert(self.place(sequence)));
        }
    }

    /// The oldest go until all bounds hold, and the others stay.
    fn forget(&mut self, part: u64) {
        let too_old = self.retained.iter().nth(self.retained.len() * part as usize / 8).copied().unwrap_or(0);
        let mut effects = Vec::new();
        self.queue.retain_within_bounds(too_old, &mut effects);
        let Retention { messages, bytes, .. } = self.options.retention.unwrap_or_default();
        let mut expected = Vec::new();
        while let Some(oldest) = self.retained.first().copied()
            && (oldest < too_old
                || messages.is_some_and(|max| self.retained.len() as u64 > max)
                || bytes.is_some_and(|max| bytes_of(&self.retained) > max))
        {
            expected.push(oldest);
            self.retained.pop_first();
        }
        assert_eq!(self.carry_out(effects), expected);
    }

    /// The oldest that wait go until the bounds hold, and then those that are too old.
    fn limit(&mut self, part: u64) {
        let limits = self.options.limits;
        let limits = if limits.refuse_what_comes() { Limits::default() } else { limits };
        let Limits { messages, bytes, .. } = limits;
        let all: u64 = self.held.keys().map(|sequence| u64::from(size_of(*sequence))).sum();
        let with_consumers = self.held.keys().filter(|sequence| !self.waits(**sequence));
        let waiting = all - with_consumers.map(|sequence| charged_size(*sequence)).sum::<u64>();
        let mut count = messages.map_or(0, |most| (self.ready.len() as u64).saturating_sub(most));
        let mut size = bytes.filter(|most| all > *most).map_or(0, |most| waiting.saturating_sub(most));
        let mut expected = Vec::new();
        for sequence in &self.in_turn() {
            if count == 0 && size == 0 {
                break;
            }
            count = count.saturating_sub(1);
            size = size.saturating_sub(charged_size(*sequence));
            expected.push(*sequence);
        }
        let mut effects = Vec::new();
        self.queue.drop_excess(&mut effects);
        self.expect_gone(&expected, Departure::MaxLength);
        assert_eq!(self.carry_out(effects), self.released(&expected));

        let oldest = self.queue.oldest_waiting().map(|oldest| oldest.0);
        assert_eq!(oldest, self.oldest_first().first().copied());
        let young = self.oldest_first().get(self.ready.len() * part as usize / 8).copied().unwrap_or(0);
        let expected: Vec<u64> = self.in_turn().into_iter().filter(|sequence| *sequence < young).collect();
        let mut effects = Vec::new();
        self.queue.expire_before(young, &mut effects);
        self.expect_gone(&expected, Departure::Expired);
        assert_eq!(self.carry_out(effects), self.released(&expected));
    }

    /// What goes for good of messages that have no room or are too old.
    fn released(&self, gone: &[u64]) -> Vec<u64> {
        if self.options.dead_letters { Vec::new() } else { sorted(gone.to_vec()) }
    }

    /// Some dead letters are stored elsewhere; others than these are not touched.
    fn dismiss(&mut self, each: u64) {
        let stored: Vec<u64> = self.dead.keys().copied().filter(|sequence| sequence % each == 0).collect();
        let held = self.held.keys().copied().next();
        let mut named = SequenceRuns::default();
        let all: BTreeSet<u64> = stored.iter().copied().chain(held).collect();
        all.into_iter().for_each(|sequence| named.push(BodySequence(sequence)));
        let mut effects = Vec::new();
        let why = if each.is_multiple_of(2) { Departure::DeadLettered } else { Departure::Cycle };
        self.queue.dismiss_dead_letters(why, named, &mut effects);
        let departures = &mut self.counts.departures;
        *match why {
            Departure::Cycle => &mut departures.cycled,
            _ => &mut departures.dead_lettered,
        } += stored.len() as u64;
        stored.iter().for_each(|sequence| {
            self.dead.remove(sequence);
        });
        let released: BTreeSet<u64> = self.carry_out(effects).into_iter().collect();
        assert!(released.into_iter().eq(stored));
    }

    /// What is ready is seen in its order, from anywhere to anywhere.
    fn look(&mut self) {
        let ready = self.oldest_first();
        let middle = ready.get(ready.len() / 2).copied().unwrap_or(1);
        let ranges = [0..u64::MAX, middle..u64::MAX, 0..middle, middle..0];
        let range = ranges[self.log.len() % ranges.len()].clone();
        let seen: Vec<_> = self.queue.ready_in(range.clone()).collect();
        let expected = ready.iter().copied().filter(|sequence| range.contains(sequence));
        assert!(seen.iter().map(|message| message.sequence).eq(expected), "{range:?}: {seen:?}");
        for message in seen {
            assert_eq!(message.delivery_count, self.held[&message.sequence]);
            assert_eq!(message.size_bytes, charged_size(message.sequence));
            assert!(message.redelivered || !self.delivered.contains(&message.sequence), "{message:?}");
        }
    }
}

const UNLIMITED: ConsumerLimits = ConsumerLimits {
    prefetch: 0,
    no_ack: false,
    exclusive: false,
    credit: None,
    window_bytes: u64::MAX,
    priority: 0,
};

fn limits() -> impl Strategy<Value = ConsumerLimits> {
    let credit = prop_oneof![3 => Just(None), 1 => (0u32..6).prop_map(Some)];
    let window_bytes = prop_oneof![2 => Just(u64::MAX), 1 => 1u64..200];
    let priority = prop_oneof![2 => Just(0), 1 => Just(i32::MIN), 1 => Just(7)];
    (0u32..8, prop::bool::weighted(0.2), prop::bool::weighted(0.1), credit, window_bytes, priority).prop_map(
        |(prefetch, no_ack, exclusive, credit, window_bytes, priority)| ConsumerLimits {
            prefetch,
            no_ack,
            exclusive,
            credit,
            window_bytes,
            priority,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![8 => Just(0u64), 4 => 1u64..9, 1 => Just(200_000u64)];
    let count = prop_oneof![60 => 1u64..9, 2 => 200u64..400, 1 => 4000u64..5000];
    let outcome = prop_oneof![
        3 => Just(Outcome::Accepted),
        2 => Just(Outcome::Requeued),
        1 => Just(Outcome::Deferred(5)),
        1 => Just(Outcome::Rejected)
    ];
    let slot = || 0..CONSUMERS;
    let any_slot = 0..CONSUMERS + 2;
    let tag = || prop_oneof![1 => Just(0u64), 3 => any::<u64>(), 2 => 0u64..20];
    prop_oneof![
        12 => (gap, count).prop_map(|(gap, count)| Step::Enqueue { gap, count }),
        8 => (slot(), limits()).prop_map(|(slot, limits)| Step::Attach { slot, limits }),
        2 => slot().prop_map(Step::Cancel),
        2 => (0..CONSUMERS + 2).prop_map(Step::Detach),
        4 => (slot(), 0u32..5).prop_map(|(slot, add)| Step::Credit(slot, add)),
        6 => slot().prop_map(Step::Written),
        24 => (any_slot, tag(), tag(), outcome)
            .prop_map(|(slot, first, last, outcome)| Step::Settle { slot, first, last, outcome }),
        4 => any::<bool>().prop_map(|no_ack| Step::Get { no_ack }),
        20 => Just(Step::Deliver),
        1 => Just(Step::Purge),
        3 => (1u64..6).prop_map(Step::Move),
        3 => (0u64..8).prop_map(Step::Forget),
        4 => (0u64..8).prop_map(Step::Limit),
        3 => (1u64..5).prop_map(Step::Dismiss),
        3 => (1u64..6).prop_map(Step::Hold),
        3 => (1u64..4).prop_map(Step::Release),
        8 => Just(Step::Sync),
        2 => any::<usize>().prop_map(Step::Crash),
        1 => Just(Step::CleanStop),
        1 => Just(Step::Delete),
    ]
}

fn retention() -> impl Strategy<Value = Option<Retention>> {
    let bound = |max| prop_oneof![1 => Just(None), 2 => (1u64..max).prop_map(Some)];
    let some = (bound(100), bound(20_000))
        .prop_map(|(messages, bytes)| Some(Retention { age_millis: Some(1_000), messages, bytes }));
    prop_oneof![1 => Just(None), 1 => some]
}

fn delivery_limit() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![2 => Just(None), 1 => (0u32..3).prop_map(Some)]
}

fn max_priority() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![3 => Just(None), 2 => (0u8..6).prop_map(Some), 1 => Just(Some(255))]
}

fn bounds() -> impl Strategy<Value = Limits> {
    let bound = |max| prop_oneof![1 => Just(None), 1 => (0u64..max).prop_map(Some)];
    let overflow = prop_oneof![2 => Just(Overflow::DropHead), 1 => Just(Overflow::RejectPublish)];
    (bound(100), bound(20_000), overflow).prop_map(|(messages, bytes, overflow)| Limits {
        messages,
        bytes,
        ttl_millis: None,
        overflow,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_that_survives_crashes(
        auto_delete: bool,
        retention in retention(),
        limits in bounds(),
        dead_letters: bool,
        single_active in prop::bool::weighted(0.3),
        delivery_limit in delivery_limit(),
        max_priority in max_priority(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut harness = Harness::new(QueueOptions { logged: true, auto_delete, retention, limits, dead_letters, single_active, delivery_limit, max_priority, retry: None, lease_millis: None });
        steps.into_iter().for_each(|step| harness.run(step));
    }

    #[test]
    fn a_queue_in_memory(
        auto_delete: bool,
        retention in retention(),
        limits in bounds(),
        dead_letters: bool,
        single_active in prop::bool::weighted(0.3),
        delivery_limit in delivery_limit(),
        max_priority in max_priority(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut harness = Harness::new(QueueOptions { logged: false, auto_delete, retention, limits, dead_letters, single_active, delivery_limit, max_priority, retry: None, lease_millis: None });
        steps.into_iter().for_each(|step| harness.run(step));
    }
}
