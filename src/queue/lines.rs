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

    /// Messages that are held back.
    pub(super) fn held(&self) -> u64 {
        self.iter().map(|line| line.held().count()).sum()
    }

    /// Their bytes; of large messages to 16 KiB less each.
    pub(super) fn held_bytes(&self) -> u64 {
        self.iter().map(|line| line.held().bytes()).sum()
    }

    /// Holds back a message that waits; whether it does.
    pub(super) fn hold(&mut self, sequence: u64) -> bool {
        self.iter_mut().any(|line| line.hold(sequence))
    }

    /// A message that was held back waits in its place; whether it was.
    pub(super) fn release(&mut self, sequence: u64) -> bool {
        self.iter_mut().any(|line| line.release(sequence))
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

    /// How many wait that go out before a message of this priority that comes now.
    pub(super) fn waiting_before_priority(&mut self, priority: u8) -> u64 {
        let higher = self.higher.iter_mut().filter(|(other, _)| *other >= priority);
        let higher: u64 = higher.map(|(_, line)| line.waiting()).sum();
        higher + if priority == 0 { self.plain.waiting() } else { 0 }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lines(messages: &[(u8, u64)]) -> Lines {
        let mut lines = Lines::default();
        for (priority, sequence) in messages {
            assert_eq!(lines.extend(*priority, BodySequence(*sequence), [10].into_iter()), 1);
        }
        lines
    }

    fn encoded(lines: &Lines) -> Vec<u8> {
        let mut out = Vec::new();
        lines.encode_plain(&mut out);
        lines.encode_higher(&mut out);
        out
    }

    fn decoded(bytes: &[u8]) -> Result<(Lines, Vec<u64>), QueueFault> {
        let (mut rest, mut seen) = (bytes, Vec::new());
        let mut lines = Lines::decode_plain(&mut rest, |sequence| seen.push(sequence))?;
        lines.decode_higher(&mut rest, |sequence| seen.push(sequence))?;
        if rest.is_empty() { Ok((lines, seen)) } else { Err(QueueFault::Excess) }
    }

    #[test]
    fn what_is_written_is_read_again_and_anything_less_is_an_error() {
        let all = lines(&[(0, 3), (7, 4), (255, 5), (0, 6), (7, 9)]);
        let bytes = encoded(&all);
        let (again, seen) = decoded(&bytes).unwrap();
        assert_eq!(seen, [3, 6, 5, 4, 9], "the line without a priority, and then from the highest on");
        assert_eq!(again.by_priority(), all.by_priority());
        assert_eq!(again.by_priority(), [(255, 5), (7, 4), (7, 9), (0, 3), (0, 6)]);
        assert_eq!((again.live(), again.live_bytes(), again.last_sequence()), (5, 50, 9));
        for length in 0..bytes.len() {
            assert!(decoded(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn priorities_stand_in_their_order_each_once() {
        let plain = encoded(&lines(&[(0, 3)]));
        let line = |priority: u8| {
            let one = encoded(&lines(&[(0, 3), (priority, 4)]));
            one[plain.len()..].to_vec()
        };
        let with = |priorities: &[u8]| {
            let lines = priorities.iter().flat_map(|priority| line(*priority));
            [&plain[..plain.len() - 1], &[priorities.len() as u8], &lines.collect::<Vec<u8>>()].concat()
        };
        assert_eq!(decoded(&with(&[9, 8])).unwrap().0.by_priority(), [(9, 4), (8, 4), (0, 3)]);
        for (priorities, wrong) in [(&[8, 9][..], 9), (&[9, 9], 9)] {
            assert_eq!(decoded(&with(priorities)).unwrap_err(), QueueFault::Priority(wrong));
        }
        let mut none = with(&[9]);
        none[plain.len()] = 0;
        assert_eq!(decoded(&none).unwrap_err(), QueueFault::Priority(0));
    }

    #[test]
    fn what_goes_out_next_is_the_oldest_of_the_highest() {
        let mut all = lines(&[(0, 1), (4, 2), (1, 3), (4, 5)]);
        let turn: Vec<u64> = all.in_turn().map(MessageRef::sequence).collect();
        assert_eq!(turn, [2, 5, 3, 1]);
        let oldest: Vec<u64> = all.waiting_in(0..u64::MAX).map(MessageRef::sequence).collect();
        assert_eq!(oldest, [1, 2, 3, 5]);
        for sequence in turn {
            let next = all.next().unwrap();
            assert_eq!((next.message.sequence(), next.came_back), (sequence, false));
            assert_eq!(all.hand_out(next, 1, u64::MAX, u64::MAX).0.len(), 1);
        }
        assert!(all.next().is_none());
        // The oldest of the highest of those that come back is first again.
        assert_eq!([1, 5, 7].map(|sequence| all.put_back(sequence)), [Some(true), Some(true), None]);
        let next = all.next().unwrap();
        assert_eq!((next.message.sequence(), next.came_back), (5, true));
        all.hand_out_again(next);
        assert_eq!(all.next().unwrap().message.sequence(), 1);
        assert_eq!(all.handed_out_below(), 6);
    }
}
