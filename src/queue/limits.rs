//! What waits in a queue at most, and for how long. What is beyond leaves, the oldest first, and the log says why.

use std::collections::BTreeSet;

use super::consumer::Consumer;
use super::departure::Departure;
use super::queue::{Effect, Effects, Queue};
use super::sequence_runs::SequenceRuns;
use crate::model::{BodySequence, Overflow};

/// Bounds on the messages that wait in a queue. Those that consumers have do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How many.
    pub messages: Option<u64>,
    /// Bytes of them.
    pub bytes: Option<u64>,
    /// Milliseconds for which one is delivered after it came.
    pub ttl_millis: Option<u64>,
    /// What is done with messages for which there is no room by the first two.
    pub overflow: Overflow,
}

impl Limits {
    /// Whether what comes is refused when the queue is full.
    pub fn refuse_what_comes(&self) -> bool {
        self.overflow != Overflow::DropHead && (self.messages.is_some() || self.bytes.is_some())
    }
}

impl Queue {
    /// Asks to drop what waits beyond the bounds on number and bytes, unless what comes is refused then. The size of messages of 16 KiB
    /// and more is known to 16 KiB.
    pub fn drop_excess(&mut self, effects: &mut Effects) {
        let Limits { messages, bytes, .. } = self.options.limits;
        if self.options.limits.refuse_what_comes() {
            return;
        }
        let mut count = messages.map_or(0, |most| self.ready().saturating_sub(most));
        let mut size = bytes.map_or(0, |most| self.waiting_bytes().saturating_sub(most));
        if count == 0 && size == 0 {
            return;
        }
        let mut runs = SequenceRuns::default();
        for message in self.lines.in_turn() {
            if count == 0 && size == 0 {
                break;
            }
            count = count.saturating_sub(1);
            size = size.saturating_sub(message.size_bytes());
            runs.push(BodySequence(message.sequence()));
        }
        self.leave(Departure::MaxLength, runs, effects);
    }

    /// Asks to drop the messages before this sequence that wait: they are too old.
    pub fn expire_before(&mut self, sequence: u64, effects: &mut Effects) {
        let runs = self.lines.waiting_before(sequence);
        self.leave(Departure::Expired, runs, effects);
    }

    /// Asks to drop those of these messages that wait, wherever they stand: their time is over. They are in order.
    pub fn expire_these(&mut self, sequences: &[u64], effects: &mut Effects) {
        let waiting = self.waiting_of(sequences.iter().copied());
        self.leave(Departure::Expired, waiting.0, effects);
    }

    /// The same for those of these messages that consumers had and that are back.
    pub fn expire_returned(&mut self, sequences: &BTreeSet<u64>, effects: &mut Effects) {
        let mut runs = SequenceRuns::default();
        for line in self.lines.iter() {
            line.returned_of(sequences, |sequence| runs.push(BodySequence(sequence)));
        }
        self.leave(Departure::Expired, runs, effects);
    }

    /// The oldest message that waits.
    pub fn oldest_waiting(&mut self) -> Option<BodySequence> {
        self.lines.oldest_waiting().map(BodySequence)
    }

    /// A consumer gets what waits as soon as the log has the mark.
    pub fn is_about_to_deliver(&mut self) -> bool {
        self.has_room() && self.waits_for_mark()
    }

    /// Bytes of what waits. Those of large messages that consumers have are known to 16 KiB each.
    fn waiting_bytes(&self) -> u64 {
        let all = self.lines.live_bytes() - self.lines.held_bytes();
        if self.outstanding == 0 || self.options.limits.bytes.is_none_or(|most| all <= most) {
            return all;
        }
        all.saturating_sub(self.consumers.iter().map(Consumer::unsettled_bytes).sum())
    }

    pub(super) fn leave(&self, why: Departure, runs: SequenceRuns, effects: &mut Effects) {
        if !runs.is_empty() {
            effects.push(Effect::Append(self.departure(why, runs)));
        }
    }
}
