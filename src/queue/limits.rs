//! What waits in a queue at most, and for how long. What is beyond leaves, the oldest first, and the log says why.

use std::collections::BTreeSet;

use super::consumer::Consumer;
use super::departure::Departure;
use super::queue::{Effect, Effects, Queue};
use super::room::Full;
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

    /// How much is too much of so many messages that wait, and so many bytes of them.
    pub(super) fn excess(&self, messages: u64, bytes: u64) -> Excess {
        let beyond = |there: u64, most: Option<u64>| most.map_or(0, |most| there.saturating_sub(most));
        Excess { messages: beyond(messages, self.messages), bytes: beyond(bytes, self.bytes) }
    }
}

/// What waits beyond the bounds, as the first of it leave one by one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Excess {
    messages: u64,
    bytes: u64,
}

impl Excess {
    /// Whether there is any.
    pub(super) fn is_some(self) -> bool {
        self.messages > 0 || self.bytes > 0
    }

    /// One message of so many bytes leaves.
    pub(super) fn less(&mut self, size_bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size_bytes);
    }

    /// The bound beyond which it is.
    pub(super) fn by(self, limits: Limits) -> Option<Full> {
        let messages = limits.messages.filter(|_| self.messages > 0).map(Full::Messages);
        messages.or(limits.bytes.filter(|_| self.bytes > 0).map(Full::Bytes))
    }
}

impl Queue {
    /// Asks to drop what waits beyond the bounds on number and bytes, unless what comes is refused then. The size of messages of 16 KiB
    /// and more is known to 16 KiB.
    pub fn drop_excess(&mut self, effects: &mut Effects) {
        let limits = self.options.limits;
        if limits.refuse_what_comes() {
            return;
        }
        let waiting_bytes = limits.bytes.map_or(0, |_| self.waiting_bytes());
        let mut excess = limits.excess(self.ready(), waiting_bytes);
        if !excess.is_some() {
            return;
        }
        let mut runs = SequenceRuns::default();
        for message in self.lines.in_turn() {
            if !excess.is_some() {
                break;
            }
            excess.less(message.size_bytes());
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
