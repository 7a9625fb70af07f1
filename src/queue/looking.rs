//! Ready messages as somebody sees them who does not take them, and may put them elsewhere.

use std::ops::Range;

use super::departure::Departure;
use super::message_ref::MessageRef;
use super::queue::{Effect, Effects, Queue, QueueCommand};
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
    /// Messages in a range of sequences that wait for a consumer, in the order in which they go out.
    pub fn ready_in(&mut self, range: Range<u64>) -> impl Iterator<Item = VisibleMessage> {
        let waiting_from = self.backlog.peek().map_or(u64::MAX, MessageRef::sequence);
        let waiting = range.start.max(waiting_from)..range.end;
        // What came back had been handed out, so it stands before all that was not.
        let returned = (range.start < range.end).then(|| self.returned.range(range)).into_iter().flatten();
        let fresh =
            (waiting.start < waiting.end).then(|| self.backlog.live_in(waiting)).into_iter().flatten();
        returned.map(|(_, message)| *message).chain(fresh).map(|message| {
            let sequence = message.sequence();
            let delivery_count = self.delivery_counts.get(&sequence).copied().unwrap_or(0);
            let redelivered = delivery_count > 0 || sequence < self.redelivered_below;
            VisibleMessage { sequence, size_bytes: message.size_bytes(), redelivered, delivery_count }
        })
    }

    /// The message that goes out next; `None`: none waits.
    pub fn oldest_ready(&mut self) -> Option<BodySequence> {
        let returned = self.returned.first_key_value().map(|(sequence, _)| *sequence);
        let waiting = self.backlog.peek().map(MessageRef::sequence);
        returned.or(waiting).map(BodySequence)
    }

    /// The oldest message that consumers have; `None` if they have none, or if 65,536 older ones came back.
    pub fn oldest_unsettled(&mut self) -> Option<BodySequence> {
        if self.outstanding == 0 {
            return None;
        }
        let waiting_from = self.backlog.peek().map_or(u64::MAX, MessageRef::sequence);
        let handed_out = self.backlog.live_messages().map(MessageRef::sequence).take(PASSED_OVER_MAX);
        let mut outstanding = handed_out
            .take_while(|sequence| *sequence < waiting_from)
            .filter(|sequence| !self.returned.contains_key(sequence));
        outstanding.next().map(BodySequence)
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

    /// Those of these messages that wait for a consumer, and the others.
    pub(super) fn waiting_of(
        &mut self,
        sequences: impl IntoIterator<Item = u64>,
    ) -> (SequenceRuns, Vec<u64>) {
        let waiting_from = self.backlog.peek().map_or(u64::MAX, MessageRef::sequence);
        let (mut ready, mut others) = (SequenceRuns::default(), Vec::new());
        for sequence in sequences {
            let is_ready = match sequence < waiting_from {
                true => self.returned.contains_key(&sequence),
                false => self.backlog.get(sequence).is_some(),
            };
            match is_ready {
                true => ready.push(BodySequence(sequence)),
                false => others.push(sequence),
            }
        }
        (ready, others)
    }
}
