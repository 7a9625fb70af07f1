//! What consumers say became of their deliveries.

use super::consumer::ConsumerKey;
use super::departure::{Departure, Return};
use super::queue::{Effect, Effects, Queue};
use super::sequence_runs::SequenceRuns;
use crate::model::{BodySequence, DeliveryTag};

/// What a consumer says became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done with.
    Accepted,
    /// Back to its place, as the queue's policy for retries says.
    Requeued,
    /// Back to its place in so many milliseconds.
    Deferred(u64),
    /// Not wanted.
    Rejected,
}

/// Delivery tags, both ends included. `first` 0 means: from the oldest; `last` 0 means: the same as `first`, or with
/// `first` 0 up to the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagRange {
    /// First tag.
    pub first: u64,
    /// Last tag.
    pub last: u64,
}

impl TagRange {
    /// The first and the last of its tags, of a consumer whose next delivery has the tag `next`.
    pub(super) fn ends(self, next: u64) -> (u64, u64) {
        match (self.first, self.last) {
            (0, 0) => (1, next - 1),
            (0, last) => (1, last),
            (first, 0) => (first, first),
            both => both,
        }
    }
}

/// A delivery tag that the consumer does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTag(pub DeliveryTag);

impl Queue {
    /// A consumer settles deliveries. Tags of a range that it does not hold are skipped; the first of them is
    /// returned after all others have been settled.
    pub fn settle_tags(
        &mut self,
        key: ConsumerKey,
        range: TagRange,
        outcome: Outcome,
        effects: &mut Effects,
    ) -> Result<(), UnknownTag> {
        let up_to = range.first == 0;
        let Some(index) = self.position(key) else {
            // 0: all, which is nothing.
            let tag = if up_to { range.last } else { range.first };
            return if tag == 0 { Ok(()) } else { Err(UnknownTag(DeliveryTag(tag))) };
        };
        let consumer = &mut self.consumers[index];
        let next = consumer.next_tag();
        let (first, last) = range.ends(next);
        let mut runs = SequenceRuns::default();
        let missing = consumer.settle(first, last, |_, message| runs.push(BodySequence(message.sequence())));
        let unknown = match missing {
            // What was settled before is settled; what was never delivered cannot be.
            _ if up_to => (last >= next).then_some(next),
            None if last < first => Some(first),
            missing => missing,
        };
        if consumer.cancelled && consumer.unsettled_count() == 0 {
            self.remove_consumer(index);
        }
        self.choose_active();
        if !runs.is_empty() {
            let departure = match outcome {
                Outcome::Requeued | Outcome::Deferred(_) => None,
                Outcome::Accepted => Some(Departure::Accepted),
                Outcome::Rejected => Some(Departure::Rejected),
            };
            match departure {
                Some(departure) => effects.push(Effect::Append(self.departure(departure, runs))),
                None => {
                    let after_millis = match outcome {
                        Outcome::Deferred(millis) => Some(millis),
                        Outcome::Accepted | Outcome::Requeued | Outcome::Rejected => None,
                    };
                    self.come_back(Return::Requeued, runs, after_millis, effects);
                }
            }
        }
        unknown.map_or(Ok(()), |tag| Err(UnknownTag(DeliveryTag(tag))))
    }
}
