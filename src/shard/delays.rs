//! Messages that wait for a time of their own before they wait for a consumer: published for later, or given back to be tried
//! again later.
//!
//! Queues see no clock: they hold such messages back until they are told to release them. When that is stands in the log and in
//! checkpoints, and what is due is released by whoever looks at a clock next; so nothing need be written for it.
//!
//! ```text
//!   came, or came back ──▶ held back until its time ──▶ waits in its place
//! ```

use std::collections::{BTreeSet, HashMap};

use super::command::Segment;
use super::moments::Moment;
use super::shard::Shard;
use crate::message::Delay;
use crate::model::{QueueId, Timestamp};
use crate::queue::{Queue, Return, SequenceRuns, VisibleMessage};

/// The shard wakes for what is due at multiples of so many milliseconds, so that it waits this much too long at most when
/// nothing else happens.
const WAKE_MILLIS: u64 = 10;
/// Times of messages that left before they were due are not looked for among fewer than these.
const STALE_MIN: u64 = 1_024;

/// By queue, for those that hold such messages back.
#[derive(Debug, Default)]
pub(super) struct Delays {
    queues: HashMap<QueueId, OfQueue, foldhash::fast::FixedState>,
    /// When the next one of each is due.
    next: BTreeSet<(Timestamp, QueueId)>,
}

#[derive(Debug, Default)]
struct OfQueue {
    /// Some of these may have left the queue.
    due: BTreeSet<(Timestamp, u64)>,
    /// The only times that count of messages that have several: a log does not tell that one was due before it was held back anew.
    anew: HashMap<u64, Timestamp, foldhash::fast::FixedState>,
}

impl OfQueue {
    fn first(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    fn counts(&self, sequence: u64, at: Timestamp) -> bool {
        self.anew.is_empty() || self.anew.get(&sequence).is_none_or(|only| *only == at)
    }
}

impl Delays {
    /// A message is held back in a queue, maybe once more.
    pub(super) fn add(&mut self, id: QueueId, moment: Moment, anew: bool) {
        let Moment { sequence, at } = moment;
        let of_queue = self.queues.entry(id).or_default();
        let before = of_queue.first();
        of_queue.due.insert((at, sequence));
        if anew {
            of_queue.anew.insert(sequence, at);
        }
        self.next_is(id, before);
    }

    /// The first one of a queue may be another one.
    fn next_is(&mut self, id: QueueId, before: Option<Timestamp>) {
        let next = self.queues.get(&id).and_then(OfQueue::first);
        if next == before {
            return;
        }
        before.map(|before| self.next.remove(&(before, id)));
        match next {
            Some(next) => drop(self.next.insert((next, id))),
            None => drop(self.queues.remove(&id)),
        }
    }

    /// A queue of which some are due, and these, the earliest first.
    fn take_due(&mut self, now: Timestamp) -> Option<(QueueId, Vec<Moment>)> {
        let (at, id) = self.next.first().copied().filter(|(at, _)| *at <= now)?;
        let of_queue = self.queues.get_mut(&id)?;
        let mut taken = Vec::new();
        while let Some((at, sequence)) = of_queue.due.first().copied().filter(|(at, _)| *at <= now) {
            of_queue.due.pop_first();
            if of_queue.counts(sequence, at) {
                of_queue.anew.remove(&sequence);
                taken.push(Moment { sequence, at });
            }
        }
        self.next_is(id, Some(at));
        Some((id, taken))
    }

    /// Messages have left a queue, which may have been held back.
    pub(super) fn left(&mut self, id: QueueId, queue: &Queue) {
        let Some(of_queue) = self.queues.get_mut(&id) else { return };
        if of_queue.due.len() as u64 <= 2 * queue.held_back() + STALE_MIN {
            return;
        }
        let before = of_queue.first();
        of_queue.due.retain(|(_, sequence)| queue.holds_back(*sequence));
        of_queue.anew.retain(|sequence, _| queue.holds_back(*sequence));
        self.next_is(id, before);
    }

    /// A queue is gone.
    pub(super) fn forget(&mut self, id: QueueId) {
        let first = self.queues.remove(&id).and_then(|of_queue| of_queue.first());
        first.map(|first| self.next.remove(&(first, id)));
    }

    /// Whether nothing is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// In how many milliseconds there is something to do even if nothing happens.
    pub(super) fn wakes_in(&self, now: Timestamp) -> Option<u64> {
        let (at, _) = self.next.first()?;
        let at = at.0.checked_next_multiple_of(WAKE_MILLIS).unwrap_or(u64::MAX);
        Some(at.saturating_sub(now.0))
    }

    /// Until when these messages are held back, which are in order. All that the queue holds back are looked through.
    pub(super) fn times_of(&self, id: QueueId, messages: &[VisibleMessage]) -> HashMap<u64, Timestamp> {
        let (Some(of_queue), Some(first), Some(last)) =
            (self.queues.get(&id), messages.first(), messages.last())
        else {
            return HashMap::new();
        };
        let wanted = first.sequence..=last.sequence;
        let due = of_queue.due.iter().filter(|(_, sequence)| wanted.contains(sequence));
        let due = due.filter(|(at, sequence)| of_queue.counts(*sequence, *at));
        due.map(|(at, sequence)| (*sequence, *at)).collect()
    }

    /// Messages that a queue holds back, in order.
    pub(super) fn of(&self, id: QueueId, queue: &Queue) -> Vec<Moment> {
        let Some(of_queue) = self.queues.get(&id) else { return Vec::new() };
        let held = of_queue
            .due
            .iter()
            .filter(|(at, sequence)| of_queue.counts(*sequence, *at) && queue.holds_back(*sequence));
        let mut moments: Vec<Moment> =
            held.map(|(at, sequence)| Moment { sequence: *sequence, at: *at }).collect();
        moments.sort_unstable();
        moments
    }
}

/// Until when a message that comes now is held back; `None`: it is not.
pub(super) fn due_at(delay: &Delay, now: Timestamp) -> Option<Timestamp> {
    let after = delay.after_millis.map(|after| now.0.saturating_add(after));
    let at = Timestamp(after.or(delay.at_millis).unwrap_or(0));
    (at > now).then_some(at)
}

impl Shard {
    /// Messages that were just taken in, the first of them under this sequence, and of which some are for later: that is recorded.
    /// Returns those, in order, by their numbers in the run.
    pub(super) fn note_delays(
        &mut self,
        first: u64,
        segments: &[Segment],
        delays: &[Delay],
    ) -> Vec<(u32, Timestamp)> {
        let now = self.now;
        let until = |delay: &Delay| due_at(delay, now).map(|at| (delay.index, at));
        let later: Vec<(u32, Timestamp)> = delays.iter().filter_map(until).collect();
        let mut start = first;
        for Segment { first, end, queues } in segments {
            let from = later.partition_point(|(index, _)| index < first);
            let here = later[from..].iter().take_while(|(index, _)| index < end);
            let moments: Vec<Moment> = here
                .map(|(index, at)| Moment { sequence: start + u64::from(index - first), at: *at })
                .collect();
            if !moments.is_empty() {
                self.commits.batch.delay(queues, &moments);
                self.apply_delays(queues, &moments);
            }
            start += u64::from(end - first);
        }
        later
    }

    /// Messages came back to a queue: those that are to be tried again later only are held back until then.
    pub(super) fn hold_back(
        &mut self,
        id: QueueId,
        why: Return,
        runs: &SequenceRuns,
        after_millis: Option<u64>,
    ) {
        let Some(slot) = self.queues.get(&id).filter(|_| self.commits.failure().is_none()) else { return };
        let delays = slot.queue.delays_of(why, runs, after_millis);
        if delays.is_empty() {
            return;
        }
        let until = |millis: u64| Timestamp(self.now.0.saturating_add(millis));
        let moments: Vec<Moment> =
            delays.into_iter().map(|(sequence, millis)| Moment { sequence, at: until(millis) }).collect();
        self.commits.batch.begin(self.now);
        self.commits.batch.delay(&[id], &moments);
        self.apply_delays(&[id], &moments);
    }

    /// To be called before anything is delivered: what was held back until now waits.
    pub(super) fn release_those_due(&mut self) {
        while let Some((id, moments)) = self.delays.take_due(self.now) {
            let Some(slot) = self.queues.get_mut(&id) else { continue };
            if slot.queue.release(moments.iter().map(|moment| moment.sequence)) == 0 {
                continue;
            }
            moments.iter().for_each(|moment| self.expirations.be_fresh_at(id, *moment));
            self.expire_overdue(id, &moments);
            self.mark_dirty(id);
        }
    }
}
