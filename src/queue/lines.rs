//! The messages of a queue, a line for each priority: the highest goes out first, and within one the oldest.
//!
//! Messages without a priority, which are all of a queue that knows none, stand in one line that is always there. Another comes
//! with the first message of its priority, and stays.

use std::iter::Peekable;
use std::ops::Range;

use prost::encoding::encode_varint;

use super::fault::{QueueFault, number};
use super::line::Line;
use super::message_ref::MessageRef;
use super::sequence_runs::SequenceRuns;
use crate::model::BodySequence;

#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Of priority 0.
    plain: Line,
    /// Of the others that ever came, the highest first.
    higher: Vec<(u8, Line)>,
    /// Nothing at or above was handed out.
    handed_out_below: u64,
}

/// The message that goes out next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub(super) message: MessageRef,
    /// It had been out before.
    pub(super) came_back: bool,
    /// Where it stands: from the highest on.
    line: usize,
}

impl Lines {
    /// Messages of a priority join the end of its line; returns how many.
    pub(super) fn extend(
        &mut self,
        priority: u8,
        first: BodySequence,
        sizes_bytes: impl Iterator<Item = u32>,
    ) -> u64 {
        self.of_priority(priority).extend(first, sizes_bytes)
    }

    fn of_priority(&mut self, priority: u8) -> &mut Line {
        if priority == 0 {
            return &mut self.plain;
        }
        let place = self.higher.partition_point(|(other, _)| *other > priority);
        if self.higher.get(place).is_none_or(|(other, _)| *other != priority) {
            self.higher.insert(place, (priority, Line::default()));
        }
        &mut self.higher[place].1
    }

    /// Whether there ever were messages with one.
    pub(super) fn know_priorities(&self) -> bool {
        !self.higher.is_empty()
    }

    /// The highest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Line> {
        self.higher.iter().map(|(_, line)| line).chain([&self.plain])
    }

    /// The highest first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Line> {
        self.higher.iter_mut().map(|(_, line)| line).chain([&mut self.plain])
    }

    /// Messages that have not left, handed out or not.
    pub(super) fn live(&self) -> u64 {
        self.iter().map(Line::live).sum()
    }

    /// Their bytes.
    pub(super) fn live_bytes(&self) -> u64 {
        self.iter().map(Line::live_bytes).sum()
    }

    /// Sequence of the newest message that ever came; 0 before the first.
    pub(super) fn last_sequence(&self) -> u64 {
        self.highest(Line::last_sequence)
    }

    fn highest(&self, of: impl Fn(&Line) -> u64) -> u64 {
        self.iter().map(of).fold(0, u64::max)
    }

    /// What the delivery mark has to be ahead of.
    pub(super) fn mark_position(&mut self) -> u64 {
        self.iter_mut().map(Line::mark_position).fold(0, u64::max)
    }

    /// Nothing at or above was handed out.
    pub(super) fn handed_out_below(&self) -> u64 {
        self.handed_out_below
    }

    /// Hands out what is next and was never handed out, as [`Line::hand_out`] does.
    pub(super) fn hand_out(
        &mut self,
        Next { line, .. }: Next,
        count_max: u64,
        below: u64,
        bytes_max: u64,
    ) -> (&[MessageRef], u64) {
        let line = match self.higher.get_mut(line) {
            Some((_, line)) => line,
            None => &mut self.plain,
        };
        let (messages, bytes) = line.hand_out(count_max, below, bytes_max);
        let end = messages.last().map_or(0, |last| last.sequence() + 1);
        self.handed_out_below = self.handed_out_below.max(end);
        (messages, bytes)
    }

    /// Hands out what is next and came back.
    pub(super) fn hand_out_again(&mut self, Next { message, line, .. }: Next) {
        match self.higher.get_mut(line) {
            Some((_, line)) => line.hand_out_again(message.sequence()),
            None => self.plain.hand_out_again(message.sequence()),
        }
    }

    /// The message that goes out next.
    pub(super) fn next(&mut self) -> Option<Next> {
        self.iter_mut().enumerate().find_map(|(line, of_priority)| {
            let (message, came_back) = of_priority.next()?;
            Some(Next { message, came_back, line })
        })
    }

    /// What waits, in the order in which it goes out.
    pub(super) fn in_turn(&mut self) -> impl Iterator<Item = MessageRef> {
        self.iter_mut().flat_map(Line::oldest_first)
    }

    /// The oldest message that waits.
    pub(super) fn oldest_waiting(&mut self) -> Option<u64> {
        self.iter_mut().filter_map(|line| line.oldest_first().next()).map(MessageRef::sequence).min()
    }

    /// What waits of messages before this sequence.
    pub(super) fn waiting_before(&mut self, sequence: u64) -> SequenceRuns {
        let mut runs = SequenceRuns::default();
        for line in self.iter_mut() {
            let old = line.oldest_first().take_while(|message| message.sequence() < sequence);
            old.for_each(|message| runs.push(BodySequence(message.sequence())));
        }
        runs
    }

    /// Messages in a range of sequences that wait, oldest first.
    pub(super) fn waiting_in(&mut self, range: Range<u64>) -> impl Iterator<Item = MessageRef> {
        let Self { plain, higher, .. } = self;
        let plain = plain.waiting_in(range.clone());
        let higher = higher.iter_mut().map(|(_, line)| line.waiting_in(range.clone()).peekable()).collect();
        OldestFirst { plain: plain.peekable(), higher }
    }

    /// Messages in a range of sequences, handed out or not, oldest first.
    pub(super) fn live_in(&self, range: Range<u64>) -> impl Iterator<Item = MessageRef> {
        let higher = self.higher.iter().map(|(_, line)| line.live_in(range.clone()).peekable()).collect();
        OldestFirst { plain: self.plain.live_in(range).peekable(), higher }
    }

    /// All messages, handed out or not, oldest first.
    pub(super) fn live_messages(&self) -> impl Iterator<Item = MessageRef> {
        let higher = self.higher.iter().map(|(_, line)| line.live_messages().peekable()).collect();
        OldestFirst { plain: self.plain.live_messages().peekable(), higher }
    }

    /// Whether the message is here, handed out or not.
    pub(super) fn holds(&mut self, sequence: u64) -> bool {
        self.iter_mut().any(|line| line.holds(sequence))
    }

    /// As [`Line::put_back`].
    pub(super) fn put_back(&mut self, sequence: u64) -> Option<bool> {
        self.iter_mut().find_map(|line| line.put_back(sequence))
    }

    /// Whether the message waits for a consumer.
    pub(super) fn is_waiting(&mut self, sequence: u64) -> bool {
        self.iter_mut().any(|line| line.is_waiting(sequence))
    }

    /// Writes the line of messages without a priority for a checkpoint.
    pub(super) fn encode_plain(&self, out: &mut Vec<u8>) {
        self.plain.encode(out);
    }

    /// Reads what [`encode_plain`](Self::encode_plain) wrote, and gives each message's sequence to `check`.
    pub(super) fn decode_plain(rest: &mut &[u8], check: impl FnMut(u64)) -> Result<Self, QueueFault> {
        Ok(Self { plain: Line::decode(rest, check)?, ..Self::default() })
    }

    /// Writes the other ones: how many there are, and each priority with its messages.
    pub(super) fn encode_higher(&self, out: &mut Vec<u8>) {
        encode_varint(self.higher.len() as u64, out);
        for (priority, line) in &self.higher {
            out.push(*priority);
            line.encode(out);
        }
    }

    /// Reads what [`encode_higher`](Self::encode_higher) wrote, and gives each message's sequence to `check`.
    pub(super) fn decode_higher(
        &mut self,
        rest: &mut &[u8],
        mut check: impl FnMut(u64),
    ) -> Result<(), QueueFault> {
        let mut above = None;
        for _ in 0..number(rest)? {
            let priority = *rest.split_off_first().ok_or(QueueFault::Number)?;
            if priority == 0 || above.is_some_and(|above| above <= priority) {
                return Err(QueueFault::Priority(priority));
            }
            above = Some(priority);
            self.higher.push((priority, Line::decode(rest, &mut check)?));
        }
        Ok(())
    }

    /// Each message with its priority, for comparing.
    #[cfg(test)]
    pub(super) fn by_priority(&self) -> Vec<(u8, u64)> {
        let priorities = self.higher.iter().map(|(priority, _)| *priority).chain([0]);
        let each = priorities.zip(self.iter()).flat_map(|(priority, line)| {
            line.live_messages().map(move |message| (priority, message.sequence()))
        });
        each.collect()
    }

    /// Memory that its messages take.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.iter().map(Line::memory_bytes).sum()
    }
}

/// Messages of all lines in the order of their sequences.
struct OldestFirst<P: Iterator, H: Iterator> {
    plain: Peekable<P>,
    higher: Vec<Peekable<H>>,
}

impl<P: Iterator<Item = MessageRef>, H: Iterator<Item = MessageRef>> Iterator for OldestFirst<P, H> {
    type Item = MessageRef;

    fn next(&mut self) -> Option<MessageRef> {
        if self.higher.is_empty() {
            return self.plain.next();
        }
        let heads = self.higher.iter_mut().enumerate();
        let heads = heads.filter_map(|(at, line)| Some((line.peek()?.sequence(), at)));
        match (heads.min(), self.plain.peek()) {
            (Some((sequence, _)), Some(plain)) if plain.sequence() < sequence => self.plain.next(),
            (Some((_, at)), _) => self.higher[at].next(),
            (None, _) => self.plain.next(),
        }
    }
}
