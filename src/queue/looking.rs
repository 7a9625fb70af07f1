//! Ready messages as somebody sees them who does not take them, and may put them elsewhere.

use std::ops::Range;

use super::departure::Departure;
use super::message_ref::MessageRef;
use super::queue::{DeliveryCounts, Effect, Effects, Queue, QueueCommand};
use super::sequence_runs::SequenceRuns;
use crate::model::BodySequence;

/// Messages looked at for the oldest one that a consumer has.
const PASSED_OVER_MAX: usize = 65_536;

/// A message that somebody sees who does not take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisibleMessage {
    /// Its sequence.
    pub sequence: u64,
    /// About as many bytes as it has: of a large one to 16 KiB less.
    pub size_bytes: u64,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How often it came back.
    pub delivery_count: u32,
}

impl Queue {
    /// Messages in a range of sequences that wait for a consumer, oldest first: without priorities that is the order in which they go out.
    pub fn ready_in(&mut self, range: Range<u64>) -> impl Iterator<Item = VisibleMessage> {
        let (counts, old_below) = (&self.delivery_counts, self.redelivered_below);
        self.lines.waiting_in(range).map(move |message| visible(message, counts, old_below))
    }

    /// The oldest message that consumers have; `None` if they have none, or if 65,536 older ones came back.
    pub fn oldest_unsettled(&mut self) -> Option<BodySequence> {
        if self.outstanding == 0 {
            return None;
        }
        let oldest = self.lines.iter_mut().filter_map(|line| line.oldest_unsettled(PASSED_OVER_MAX));
        oldest.min().map(BodySequence)
    }

    /// Those of these messages that wait for a consumer leave: they were published elsewhere. Returns the others, which stay as
    /// they are, or are not there.
    pub fn take_out(&mut self, sequences: impl IntoIterator<Item = u64>, effects: &mut Effects) -> Vec<u64> {
        let (ready, others) = self.waiting_of(sequences);
        if !ready.is_empty() {
            effects.push(Effect::Append(QueueCommand::Settle(Departure::Moved, ready)));
        }
        others
    }

    /// Those of these messages that are held back leave: they are not wanted any more. Returns the others, which stay as they are, or
    /// are not there.
    pub fn cancel_held(
        &mut self,
        sequences: impl IntoIterator<Item = u64>,
        effects: &mut Effects,
    ) -> Vec<u64> {
        let (mut held, mut others) = (SequenceRuns::default(), Vec::new());
        for sequence in sequences {
            match self.holds_back(sequence) {
                true => held.push(BodySequence(sequence)),
                false => others.push(sequence),
            }
        }
        if !held.is_empty() {
            effects.push(Effect::Append(QueueCommand::Settle(Departure::Purged, held)));
        }
        others
    }

    /// Messages in a range of sequences that are held back, oldest first.
    pub fn held_in(&self, range: Range<u64>) -> impl Iterator<Item = VisibleMessage> {
        let held = self.lines.live_in(range).filter(|message| self.holds_back(message.sequence()));
        held.map(|message| visible(message, &self.delivery_counts, self.redelivered_below))
    }

    /// Those of these messages that wait for a consumer, and the others.
    pub(super) fn waiting_of(
        &mut self,
        sequences: impl IntoIterator<Item = u64>,
    ) -> (SequenceRuns, Vec<u64>) {
        let (mut ready, mut others) = (SequenceRuns::default(), Vec::new());
        for sequence in sequences {
            match self.lines.is_waiting(sequence) {
                true => ready.push(BodySequence(sequence)),
                false => others.push(sequence),
            }
        }
        (ready, others)
    }
}

fn visible(message: MessageRef, counts: &DeliveryCounts, redelivered_below: u64) -> VisibleMessage {
    let sequence = message.sequence();
    let delivery_count = counts.get(&sequence).copied().unwrap_or(0);
    let redelivered = delivery_count > 0 || sequence < redelivered_below;
    VisibleMessage { sequence, size_bytes: message.size_bytes(), redelivered, delivery_count }
}
