//! What a queue retains of messages that consumers are done with, as others see it.

use std::ops::Range;

use super::looking::VisibleMessage;
use super::queue::{Effect, Effects, Queue, QueueCommand, push_release};
use super::sequence_runs::SequenceRun;
use crate::model::BodySequence;

/// What a queue keeps of what consumers are done with. A bound that is absent does not bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Retention {
    /// Milliseconds since a message came.
    pub age_millis: Option<u64>,
    /// Messages.
    pub messages: Option<u64>,
    /// Bytes of messages.
    pub bytes: Option<u64>,
}

impl Queue {
    /// Asks to forget what is beyond the bounds on what is retained: the oldest first. Messages before `too_old` are beyond the
    /// bound on their age.
    pub fn retain_within_bounds(&mut self, too_old: u64, effects: &mut Effects) {
        let Some(retention) = self.options.retention else { return };
        let (messages_max, bytes_max) =
            (retention.messages.unwrap_or(u64::MAX), retention.bytes.unwrap_or(u64::MAX));
        let excess = match self.retained.count() > messages_max || self.retained.bytes() > bytes_max {
            true => self.retained.excess(messages_max, bytes_max),
            false => None,
        };
        let before = excess.unwrap_or(0).max(too_old.min(self.lines.last_sequence() + 1));
        if self.retained.first().is_some_and(|first| first < before) {
            effects.push(Effect::Append(QueueCommand::Forget(before)));
        }
    }

    pub(super) fn forget_before(&mut self, sequence: u64, effects: &mut Effects) {
        self.retained.forget_before(sequence, |run| push_release(effects, run));
    }

    /// Everything that is retained: the queue is about to be deleted.
    pub fn give_up_retained(&mut self) -> Vec<SequenceRun> {
        let mut runs = Vec::new();
        self.retained.forget_before(u64::MAX, |run| runs.push(run));
        runs
    }

    /// Retained messages with these sequences, oldest first.
    pub fn retained_in(&self, range: Range<u64>) -> impl Iterator<Item = VisibleMessage> {
        self.retained.within(range).map(|message| VisibleMessage {
            sequence: message.sequence(),
            size_bytes: message.size_bytes(),
            redelivered: true,
            delivery_count: 0,
        })
    }

    /// Where the newest so many retained messages begin; 0 if there are no more than those.
    pub fn newest_retained(&self, count: u64) -> BodySequence {
        BodySequence(self.retained.newest(count))
    }

    /// The oldest retained message.
    pub fn oldest_retained(&self) -> Option<BodySequence> {
        self.retained.first().map(BodySequence)
    }
}
