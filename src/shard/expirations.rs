//! Messages that say themselves when they expire: in which queues they wait, and until when.
//!
//! Known only of those that have an expiration, and only as long as they wait or consumers have them. Queues see no clock:
//! they are asked to let these messages go that are due, wherever they stand.
//!
//! ```text
//!   came ──▶ waits for its time ──▶ due ─────────▶ gone, if it waits
//!     │ expires at once                ├─────────▶ late: a consumer has it ──▶ gone, if it comes back
//!     │                                └─────────▶ late: it is held back ────▶ gone, once it is not
//!     └─────▶ fresh until the end of the turn ───▶ the same
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::command::Segment;
use super::moments::Moment;
use super::shard::Shard;
use crate::message::Expiration;
use crate::model::{QueueId, Timestamp};
use crate::queue::{Queue, SequenceRuns};

/// The shard wakes for what is due at multiples of so many milliseconds, so that it leaves this much late at most when
/// nothing else happens.
const WAKE_MILLIS: u64 = 10;

/// By queue, for those that hold such messages.
#[derive(Debug, Default)]
pub(super) struct Expirations {
    queues: HashMap<QueueId, OfQueue, foldhash::fast::FixedState>,
    /// Those that wait for their time.
    due: BTreeSet<(Timestamp, QueueId, u64)>,
}

#[derive(Debug, Default)]
struct OfQueue {
    /// All of them, by sequence.
    times: BTreeMap<u64, Timestamp>,
    /// Those that expire at once, until the end of the turn in which consumers may have had them.
    fresh: BTreeSet<u64>,
    /// Those whose time came while consumers had them or they were held back.
    late: BTreeSet<u64>,
}

impl Expirations {
    /// Messages of a queue expire, which did not before. They are in order; those that it does not hold are left out.
    /// Returns how many it holds.
    pub(super) fn add(&mut self, id: QueueId, queue: &Queue, expires: &[Moment]) -> usize {
        let held = held(queue, expires);
        for Moment { sequence, at } in &held {
            let (sequence, at) = (*sequence, *at);
            let before = self.queues.entry(id).or_default().times.insert(sequence, at);
            before.map(|before| self.due.remove(&(before, id, sequence)));
            self.due.insert((at, id, sequence));
        }
        held.len()
    }

    /// One of them need not wait for its time, only for the end of the turn.
    fn be_fresh(&mut self, queue: QueueId, sequence: u64) {
        let Some(of_queue) = self.queues.get_mut(&queue) else { return };
        if let Some(at) = of_queue.times.get(&sequence) {
            self.due.remove(&(*at, queue, sequence));
            of_queue.fresh.insert(sequence);
        }
    }

    /// The same for one that was held back until now, and expires then.
    pub(super) fn be_fresh_at(&mut self, queue: QueueId, moment: Moment) {
        let times = self.queues.get(&queue).map(|of_queue| &of_queue.times);
        if times.and_then(|times| times.get(&moment.sequence)) == Some(&moment.at) {
            self.be_fresh(queue, moment.sequence);
        }
    }

    /// Messages have left a queue.
    pub(super) fn left(&mut self, queue: QueueId, runs: &SequenceRuns) {
        if self.queues.is_empty() {
            return;
        }
        let Some(of_queue) = self.queues.get_mut(&queue) else { return };
        for run in runs.runs() {
            while let Some((sequence, at)) = of_queue.times.range(run.sequences()).next() {
                let (sequence, at) = (*sequence, *at);
                of_queue.times.remove(&sequence);
                if !of_queue.fresh.remove(&sequence) && !of_queue.late.remove(&sequence) {
                    self.due.remove(&(at, queue, sequence));
                }
            }
        }
        if of_queue.times.is_empty() {
            self.queues.remove(&queue);
        }
    }

    /// A queue is gone.
    pub(super) fn forget(&mut self, queue: QueueId) {
        for (sequence, at) in self.queues.remove(&queue).into_iter().flat_map(|of_queue| of_queue.times) {
            self.due.remove(&(at, queue, sequence));
        }
    }

    /// Whether nothing expires.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// What is due, by queue; those that stay after all are late.
    fn take_due(&mut self, now: Timestamp) -> BTreeMap<QueueId, Vec<u64>> {
        let mut taken: BTreeMap<QueueId, Vec<u64>> = BTreeMap::new();
        while let Some((_, queue, sequence)) = self.due.first().copied().filter(|(at, _, _)| *at <= now) {
            self.due.pop_first();
            taken.entry(queue).or_default().push(sequence);
            if let Some(of_queue) = self.queues.get_mut(&queue) {
                of_queue.late.insert(sequence);
            }
        }
        taken.values_mut().for_each(|sequences| sequences.sort_unstable());
        taken
    }

    /// Messages of a queue that expire at once; those that stay after all are late.
    fn take_fresh(&mut self, queue: QueueId) -> Vec<u64> {
        let Some(of_queue) = self.queues.get_mut(&queue) else { return Vec::new() };
        let fresh: Vec<u64> = std::mem::take(&mut of_queue.fresh).into_iter().collect();
        of_queue.late.extend(&fresh);
        fresh
    }

    /// Messages of a queue whose time came while consumers had them.
    fn late(&self, queue: QueueId) -> Option<&BTreeSet<u64>> {
        self.queues.get(&queue).map(|of_queue| &of_queue.late).filter(|late| !late.is_empty())
    }

    /// In how many milliseconds there is something to do even if nothing happens.
    pub(super) fn wakes_in(&self, now: Timestamp) -> Option<u64> {
        let (at, _, _) = self.due.first()?;
        let at = at.0.checked_next_multiple_of(WAKE_MILLIS).unwrap_or(u64::MAX);
        Some(at.saturating_sub(now.0))
    }

    /// Messages of a queue that expire, in order.
    pub(super) fn of(&self, queue: QueueId) -> Vec<Moment> {
        let times = self.queues.get(&queue).map(|of_queue| &of_queue.times);
        times.into_iter().flatten().map(|(sequence, at)| Moment { sequence: *sequence, at: *at }).collect()
    }
}

/// Those of these messages that a queue holds.
fn held(queue: &Queue, expires: &[Moment]) -> Vec<Moment> {
    let (Some(first), Some(last)) = (expires.first(), expires.last()) else { return Vec::new() };
    let mut live = queue.live_in(first.sequence..last.sequence.saturating_add(1)).peekable();
    let is_held = |expires: &&Moment| {
        while live.next_if(|(sequence, _)| *sequence < expires.sequence).is_some() {}
        live.peek().is_some_and(|(sequence, _)| *sequence == expires.sequence)
    };
    expires.iter().filter(is_held).copied().collect()
}

impl Shard {
    /// Messages that were just taken in, the first of them under this sequence, and of which some expire: that is recorded. For those
    /// that are for later, in order, it counts from then.
    pub(super) fn note_expirations(
        &mut self,
        first: u64,
        segments: &[Segment],
        expirations: &[Expiration],
        later: &[(u32, Timestamp)],
    ) {
        let now = self.now;
        let comes_at = |index: u32| match later.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => later[at].1,
            Err(_) => now,
        };
        let mut start = first;
        for Segment { first, end, queues } in segments {
            let from = expirations.partition_point(|expiration| expiration.index < *first);
            let here = expirations[from..].iter().take_while(|expiration| expiration.index < *end);
            let sequence_of = |expiration: &Expiration| start + u64::from(expiration.index - first);
            let expires = here.clone().map(|expiration| Moment {
                sequence: sequence_of(expiration),
                at: Timestamp(comes_at(expiration.index).0.saturating_add(expiration.after_millis)),
            });
            let expires: Vec<Moment> = expires.collect();
            if !expires.is_empty() {
                self.commits.batch.expire(queues, &expires);
                self.apply_expirations(queues, &expires);
            }
            let at_once = here.filter(|it| it.after_millis == 0 && comes_at(it.index) == now);
            for expiration in at_once {
                queues.iter().for_each(|queue| self.expirations.be_fresh(*queue, sequence_of(expiration)));
            }
            start += u64::from(end - first);
        }
    }

    /// To be called before anything is delivered: those go whose time has come.
    pub(super) fn expire_those_due(&mut self) {
        if self.expirations.is_empty() {
            return;
        }
        for (id, sequences) in self.expirations.take_due(self.now) {
            self.expire_these(id, &sequences);
        }
    }

    /// Those that came back after their time go before the queue delivers them once more.
    pub(super) fn expire_late_ones(&mut self, id: QueueId) {
        let Some((slot, late)) = self.queues.get_mut(&id).zip(self.expirations.late(id)) else { return };
        slot.queue.expire_returned(late, &mut self.effects);
        self.run_effects(id);
    }

    /// Messages were held back until now: those go whose time came meanwhile.
    pub(super) fn expire_overdue(&mut self, id: QueueId, released: &[Moment]) {
        let Some(late) = self.expirations.late(id) else { return };
        let mut overdue: Vec<u64> = released
            .iter()
            .map(|moment| moment.sequence)
            .filter(|sequence| late.contains(sequence))
            .collect();
        overdue.sort_unstable();
        self.expire_these(id, &overdue);
    }

    /// Consumers had what they take: those go that expire at once.
    pub(super) fn expire_fresh_ones(&mut self, id: QueueId) {
        let fresh = self.expirations.take_fresh(id);
        if !fresh.is_empty() {
            self.expire_these(id, &fresh);
        }
    }

    fn expire_these(&mut self, id: QueueId, sequences: &[u64]) {
        let Some(slot) = self.queues.get_mut(&id) else { return };
        slot.queue.expire_these(sequences, &mut self.effects);
        self.run_effects(id);
    }

    /// Whether some of a queue's messages expire.
    pub(super) fn has_expiring(&self, id: QueueId) -> bool {
        !self.expirations.is_empty() && self.expirations.queues.contains_key(&id)
    }
}
