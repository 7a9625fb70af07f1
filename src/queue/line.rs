//! The messages of one priority in their order: those that were never handed out, those that were, and which of these came back. Some may be held
//! back, and have no part in any of that until their time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::backlog::Backlog;
use super::fault::QueueFault;
use super::held::Held;
use super::message_ref::MessageRef;
use super::sequence_runs::{SequenceRun, SequenceRuns};
use crate::model::{BodySequence, Bug, planted};

#[derive(Debug, Default)]
pub(super) struct Line {
    backlog: Backlog,
    /// Messages that were handed out and came back.
    returned: BTreeMap<u64, MessageRef>,
    /// Messages that are held back, whether the cursor of the backlog has passed them or not.
    held: Held,
}

impl Line {
    /// Messages join the end: `first`, `first + 1`, … of these sizes; returns how many.
    pub(super) fn extend(&mut self, first: BodySequence, sizes_bytes: impl Iterator<Item = u32>) -> u64 {
        self.backlog.extend(first, sizes_bytes)
    }

    /// Messages that have not left, handed out or not.
    pub(super) fn live(&self) -> u64 {
        self.backlog.live()
    }

    /// Their bytes.
    pub(super) fn live_bytes(&self) -> u64 {
        self.backlog.live_bytes()
    }

    /// Messages that are held back.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// Holds back a message that waits; whether it does.
    pub(super) fn hold(&mut self, sequence: u64) -> bool {
        let Some(message) = self.backlog.get(sequence) else { return false };
        let waits = !self.backlog.handed_out(sequence) || self.returned.remove(&sequence).is_some();
        waits && self.held.insert(message)
    }

    /// A message that was held back waits in its place; whether it was.
    pub(super) fn release(&mut self, sequence: u64) -> bool {
        let Some(message) = self.backlog.get(sequence) else { return false };
        let was_held = self.held.remove(message);
        if was_held && self.backlog.handed_out(sequence) {
            self.returned.insert(sequence, message);
        }
        was_held
    }

    /// The first message that was never handed out and is not held back.
    fn fresh(&mut self) -> Option<MessageRef> {
        loop {
            let message = self.backlog.peek()?;
            match self.held.run_from(message.sequence()) {
                0 => return Some(message),
                held => drop(self.backlog.advance(held, u64::MAX, u64::MAX)),
            }
        }
    }

    /// Sequence of the newest message it ever took; 0 before the first.
    pub(super) fn last_sequence(&self) -> u64 {
        self.backlog.last_sequence()
    }

    /// The message to go out next, and whether it had been out before. What came back stands before what never left
    /// only if it is older, so order is that of publishing.
    pub(super) fn next(&mut self) -> Option<(MessageRef, bool)> {
        let fresh = self.fresh();
        match (self.returned.first_key_value(), fresh) {
            (Some((_, returned)), Some(fresh))
                if fresh.sequence() < returned.sequence() || planted(Bug::RequeuedLast) =>
            {
                Some((fresh, false))
            }
            (Some((_, returned)), _) => Some((*returned, true)),
            (None, fresh) => fresh.map(|fresh| (fresh, false)),
        }
    }

    /// Hands out what came back, and is next.
    pub(super) fn hand_out_again(&mut self, sequence: u64) {
        self.returned.remove(&sequence);
    }

    /// Hands out what is next and never was handed out, and those behind it that follow it and come before any that came back.
    /// The rest is as in [`Backlog::advance`].
    pub(super) fn hand_out(&mut self, count_max: u64, below: u64, bytes_max: u64) -> (&[MessageRef], u64) {
        let returned = self.returned.first_key_value().map_or(u64::MAX, |(sequence, _)| *sequence);
        let held = match self.held.is_empty() {
            true => None,
            false => self.backlog.peek().and_then(|next| self.held.next_after(next.sequence())),
        };
        self.backlog.advance(count_max, below.min(returned).min(held.unwrap_or(u64::MAX)), bytes_max)
    }

    /// The first message that was never handed out; without one, the newest message that ever was.
    pub(super) fn mark_position(&mut self) -> u64 {
        self.backlog.peek().map_or(self.backlog.last_sequence(), MessageRef::sequence)
    }

    fn waiting_from(&mut self) -> u64 {
        self.backlog.peek().map_or(u64::MAX, MessageRef::sequence)
    }

    /// Takes out those of these messages that it holds. Tells of each of them, with what its reference does not tell of its size, and of
    /// each run of them that follow each other, with how many of these consumers had.
    pub(super) fn remove(
        &mut self,
        runs: &SequenceRuns,
        mut each: impl FnMut(MessageRef, u16),
        mut removed: impl FnMut(SequenceRun, u64),
    ) {
        // What stands below was handed out; taking messages out does not change that.
        let waiting_from = self.waiting_from();
        let held_below = Cell::new(0);
        for run in runs.runs() {
            let (returned, held) = (&mut self.returned, &mut self.held);
            let mut each = |message: MessageRef, remainder| {
                if !held.is_empty() && held.remove(message) && message.sequence() < waiting_from {
                    held_below.set(held_below.get() + 1);
                }
                each(message, remainder);
            };
            self.backlog.remove(run.sequences(), &mut each, |run| {
                // What came back was handed out, and is not outstanding; nor is what is held back.
                let mut was_outstanding = run.sequences().end.min(waiting_from).saturating_sub(run.first.0);
                was_outstanding -= held_below.take();
                if !returned.is_empty() {
                    let came_back = run.sequences().filter(|sequence| returned.remove(sequence).is_some());
                    was_outstanding -= came_back.count() as u64;
                }
                removed(run, was_outstanding);
            });
        }
    }

    /// Whether it holds the message, handed out or not.
    pub(super) fn holds(&mut self, sequence: u64) -> bool {
        self.backlog.get(sequence).is_some()
    }

    /// A message came back, if it was handed out: whether a consumer had it. `None`: it is not here.
    pub(super) fn put_back(&mut self, sequence: u64) -> Option<bool> {
        let message = self.backlog.get(sequence)?;
        if self.held.contains(sequence) {
            return Some(false);
        }
        Some(self.backlog.handed_out(sequence) && self.returned.insert(sequence, message).is_none())
    }

    /// Whether the message waits for a consumer.
    pub(super) fn is_waiting(&mut self, sequence: u64) -> bool {
        match sequence < self.waiting_from() {
            true => self.returned.contains_key(&sequence),
            false => self.backlog.get(sequence).is_some() && !self.held.contains(sequence),
        }
    }

    /// How many wait.
    pub(super) fn waiting(&mut self) -> u64 {
        let waiting_from = self.waiting_from();
        let held = self.held.count_from(waiting_from);
        self.backlog.waiting_count() - held + self.returned.len() as u64
    }

    /// What waits, whether it was handed out before or not.
    pub(super) fn oldest_first(&mut self) -> impl Iterator<Item = MessageRef> {
        let mut returned = self.returned.values().copied().peekable();
        let held = &self.held;
        let mut fresh =
            self.backlog.waiting().filter(|message| !held.contains(message.sequence())).peekable();
        std::iter::from_fn(move || match (returned.peek(), fresh.peek()) {
            (Some(one), Some(other)) if other.sequence() < one.sequence() => fresh.next(),
            (Some(_), _) => returned.next(),
            (None, _) => fresh.next(),
        })
    }

    /// What waits, first what was handed out before.
    pub(super) fn returned_first(&mut self) -> impl Iterator<Item = MessageRef> {
        let held = &self.held;
        let fresh = self.backlog.waiting().filter(|message| !held.contains(message.sequence()));
        self.returned.values().copied().chain(fresh)
    }

    /// Messages in a range of sequences that wait, oldest first.
    pub(super) fn waiting_in(&mut self, range: Range<u64>) -> impl Iterator<Item = MessageRef> {
        let waiting = range.start.max(self.waiting_from())..range.end;
        // What came back had been handed out, so it stands before all that was not.
        let returned = (range.start < range.end).then(|| self.returned.range(range)).into_iter().flatten();
        let fresh =
            (waiting.start < waiting.end).then(|| self.backlog.live_in(waiting)).into_iter().flatten();
        let fresh = fresh.filter(|message| !self.held.contains(message.sequence()));
        returned.map(|(_, message)| *message).chain(fresh)
    }

    /// Those of these that came back and wait, in order.
    pub(super) fn returned_of(&self, sequences: &BTreeSet<u64>, mut found: impl FnMut(u64)) {
        // Either may be large while there is little of the other.
        if self.returned.len() < sequences.len() {
            let old = self.returned.keys().filter(|sequence| sequences.contains(sequence));
            old.for_each(|sequence| found(*sequence));
        } else {
            let old = sequences.iter().filter(|sequence| self.returned.contains_key(sequence));
            old.for_each(|sequence| found(*sequence));
        }
    }

    /// The oldest message that consumers have; `None` if they have none, or if so many older ones came back.
    pub(super) fn oldest_unsettled(&mut self, passed_over_max: usize) -> Option<u64> {
        let waiting_from = self.waiting_from();
        let handed_out = self.backlog.live_messages().map(MessageRef::sequence).take(passed_over_max);
        let mut outstanding = handed_out
            .take_while(|sequence| *sequence < waiting_from)
            .filter(|sequence| !self.returned.contains_key(sequence) && !self.held.contains(*sequence));
        outstanding.next()
    }

    /// All messages, handed out or not, oldest first.
    pub(super) fn live_messages(&self) -> impl Iterator<Item = MessageRef> {
        self.backlog.live_messages()
    }

    /// Messages in a range of sequences, handed out or not, oldest first.
    pub(super) fn live_in(&self, range: Range<u64>) -> impl Iterator<Item = MessageRef> {
        self.backlog.live_in(range)
    }

    /// Writes what it holds for a checkpoint: all of it waits there.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.backlog.encode(out);
    }

    /// Reads what [`encode`](Self::encode) wrote, and gives each message's sequence to `check`.
    pub(super) fn decode(rest: &mut &[u8], check: impl FnMut(u64)) -> Result<Self, QueueFault> {
        Ok(Self { backlog: Backlog::decode(rest, check)?, ..Self::default() })
    }

    /// Memory that its messages take.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.backlog.memory_bytes()
    }
}
