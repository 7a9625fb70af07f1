//! Journeys: what the shard tells of messages whose story is kept. While there are none nothing is told: one look whether
//! there are, for each batch that comes in and each run that goes out.

use std::sync::Arc;

use super::command::Segment;
use super::shard::Shard;
use crate::journey::{Journeys, NotTaken, Party, Resumed, Taker, Tracked, What};
use crate::model::{BodySequence, QueueId, Refusal, Timestamp};
use crate::queue::{ConsumerKey, QueueCommand, Return, SequenceRun, SequenceRuns};

impl Shard {
    /// Tells from now on what becomes of messages that are tracked.
    pub fn tell_journeys(&mut self, journeys: Arc<Journeys>) {
        self.journeys = Some(journeys);
    }

    /// Goes on telling of messages whose stories began before the broker was started. What was not written before it ended, and can be
    /// seen now, is told at once.
    pub fn resume_journeys(&mut self, now: Timestamp, of_before: Vec<Resumed>) {
        self.now = now;
        for Resumed { number, count, sequence, queues } in of_before {
            let (start, end) = (sequence.0, sequence.0.saturating_add(count));
            let number_of = |sequence: u64| number + (sequence - start);
            let mut held = 0;
            for (queue, was_delivered) in queues {
                let Some(slot) = self.queues.get(&queue) else {
                    self.watches.note(number, count, now, What::QueueDeleted { queue });
                    continue;
                };
                let mut live = SequenceRuns::default();
                slot.queue.live_in(start..end).for_each(|(sequence, _)| live.push(BodySequence(sequence)));
                let mut next = start;
                for run in live.runs() {
                    let range = run.sequences();
                    if next < range.start {
                        self.watches.note(number_of(next), range.start - next, now, What::Missed { queue });
                    }
                    if was_delivered {
                        let what = What::CameBack { queue, why: Return::ConsumerGone };
                        self.watches.note(number_of(range.start), run.count, now, what);
                    }
                    held += run.count;
                    next = range.end;
                }
                if next < end {
                    self.watches.note(number_of(next), end - next, now, What::Missed { queue });
                }
            }
            if held > 0 {
                self.watches.resume(SequenceRun { first: sequence, count }, number, held);
            }
        }
        self.hand_on_journeys();
    }

    /// These messages were taken in, the first of them under this sequence.
    pub(super) fn observe_taken(&mut self, tracked: &Tracked, segments: &[Segment], first: u64) {
        let mut sequence = first;
        for Segment { first, end, queues } in segments {
            for (place, count) in tracked.within(*first, *end) {
                let number = tracked.first_number + u64::from(place);
                let from = sequence + u64::from(place - first);
                let run = SequenceRun { first: BodySequence(from), count: count.into() };
                self.watches.watch(run, number, queues.len() as u64, self.now);
                let (shard, queues) = (self.options.id, Arc::clone(queues));
                let what = What::Taken { shard, queues, sequence: BodySequence(from) };
                self.watches.note(number, count.into(), self.now, what);
            }
            sequence += u64::from(end - first);
        }
    }

    /// None of these messages was taken in.
    pub(super) fn observe_not_taken(&mut self, tracked: &Tracked, segments: &[Segment], refusal: &Refusal) {
        for Segment { first, end, queues } in segments {
            let not_taken =
                NotTaken { shard: self.options.id, queues: Arc::clone(queues), refusal: refusal.clone() };
            let what = What::NotTaken(Arc::new(not_taken));
            for (place, count) in tracked.within(*first, *end) {
                let number = tracked.first_number + u64::from(place);
                self.watches.note(number, count.into(), self.now, what.clone());
            }
        }
    }

    /// Messages went to a consumer.
    #[inline]
    pub(super) fn observe_delivery(
        &mut self,
        queue: QueueId,
        consumer: ConsumerKey,
        run: SequenceRun,
        redelivered: bool,
        delivery_count: u32,
    ) {
        if self.watches.is_empty() {
            return;
        }
        let Some(slot) = self.queues.get(&queue) else { return };
        let taker = slot.attached.takers.iter().find(|taker| taker.key == consumer);
        let Some(taker) = taker.map(Arc::clone) else { return };
        let what = || What::Delivered { queue, taker: Arc::clone(&taker), redelivered, delivery_count };
        self.watches.tell(run, self.now, what);
    }

    /// Something is recorded of messages of a queue.
    #[inline]
    pub(super) fn observe_command(&mut self, queue: QueueId, command: &QueueCommand) {
        if self.watches.is_empty() {
            return;
        }
        match command {
            QueueCommand::Settle(departure, runs) => runs.runs().iter().for_each(|run| {
                self.watches.tell_last(*run, self.now, || What::Left { queue, departure: *departure });
            }),
            // They are still here.
            QueueCommand::DeadLetter(departure, runs) => runs.runs().iter().for_each(|run| {
                self.watches.tell(*run, self.now, || What::Left { queue, departure: *departure });
            }),
            _ => {}
        }
    }

    /// Messages wait again.
    #[inline]
    pub(super) fn observe_return(&mut self, queue: QueueId, why: Return, runs: &SequenceRuns) {
        if self.watches.is_empty() {
            return;
        }
        for run in runs.runs() {
            self.watches.tell(*run, self.now, || What::CameBack { queue, why });
        }
    }

    /// Messages went with their queue.
    pub(super) fn observe_deletion(&mut self, queue: QueueId, contents: &SequenceRuns) {
        if self.watches.is_empty() {
            return;
        }
        for run in contents.runs() {
            self.watches.tell_last(*run, self.now, || What::QueueDeleted { queue });
        }
    }

    /// Puts what happened where it is kept, before anybody is woken by it.
    pub(super) fn hand_on_journeys(&mut self) {
        let events = self.watches.events();
        if events.is_empty() {
            return;
        }
        match &self.journeys {
            Some(journeys) => {
                journeys.tell(events);
                let oldest = journeys.oldest_number();
                self.watches.forget_below(oldest);
            }
            None => events.clear(),
        }
    }
}

/// Whoever takes single messages, as stories name it.
pub(super) fn single_taker(key: ConsumerKey, party: &Arc<Party>) -> Arc<Taker> {
    Arc::new(Taker { key, tag: Arc::from(""), party: Arc::clone(party) })
}
