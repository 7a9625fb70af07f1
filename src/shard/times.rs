//! When messages came, at no cost for each of them.
//!
//! Sequences rise with time, so a mark now and then tells the time of all messages up to the next one. They are made a second
//! apart, and thinned out with age: a time is known to the second, and that of old messages to a thousandth of their age.

use std::collections::VecDeque;

use prost::encoding::{decode_varint, encode_varint};

use super::fault::StateFault;
use crate::model::Timestamp;

/// Marks kept, 16 bytes each. Those of any time, thinned out, are fewer.
const MARKS_MAX: usize = 32_768;
/// Milliseconds from mark to mark.
const STEP_MILLIS: u64 = 1_000;
/// The same where messages expire.
const FINE_STEP_MILLIS: u64 = 10;
/// A time is known to this part of its age, if that is more than a step.
const AGE_PART: u64 = 1_024;

/// From this message on, until the next mark, messages came at this time or a little after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    sequence: u64,
    at: Timestamp,
}

/// Marks in order.
#[derive(Debug, Default)]
pub(super) struct Times {
    marks: VecDeque<Mark>,
    /// From the mark with this sequence on they are made in fine steps; `None`: none are.
    fine_from: Option<u64>,
}

impl Times {
    /// From now on marks are made in fine steps: messages that come from now on expire. Those of a checkpoint were from where two of
    /// them are nearer than they would be otherwise.
    pub(super) fn be_fine(&mut self) {
        if self.fine_from.is_some() {
            return;
        }
        let is_near = |at: &usize| self.marks[*at].at.0.saturating_add(STEP_MILLIS) > self.marks[at + 1].at.0;
        let first_near = (0..self.marks.len().saturating_sub(1)).find(is_near);
        let next = self.marks.back().map_or(0, |last| last.sequence + 1);
        self.fine_from = Some(first_near.map_or(next, |at| self.marks[at].sequence));
    }

    /// How much later than a mark with this sequence its messages came at most.
    fn step_millis(&self, sequence: u64) -> u64 {
        match self.fine_from {
            Some(from) if sequence >= from => FINE_STEP_MILLIS,
            _ => STEP_MILLIS,
        }
    }

    /// Messages from this one on come at this time, which is not before that of those noted earlier. Nobody asks any more for
    /// messages before `needed_from`.
    pub(super) fn note(&mut self, sequence: u64, at: Timestamp, needed_from: impl FnOnce() -> Option<u64>) {
        let step_millis = self.step_millis(sequence);
        if self.marks.back().is_some_and(|last| at.0 < last.at.0.saturating_add(step_millis)) {
            return;
        }
        self.forget_before(needed_from().unwrap_or(sequence));
        self.marks.push_back(Mark { sequence, at });
        if self.marks.len() > MARKS_MAX {
            self.thin_out();
        }
    }

    /// When a message came, or a little before; `None` if it came before the first mark.
    pub(super) fn of(&self, sequence: u64) -> Option<Timestamp> {
        let after = self.marks.partition_point(|mark| mark.sequence <= sequence);
        Some(self.marks.get(after.checked_sub(1)?)?.at)
    }

    /// Messages before this one came before the time; those from it on came at it or later, or a little before. 0 if that is
    /// not known of any.
    pub(super) fn first_since(&self, time: Timestamp) -> u64 {
        let before = self.before(time);
        match (before, self.marks.get(before)) {
            (0, None) => 0,
            (_, None) => u64::MAX,
            (0, Some(first)) if time < first.at => 0,
            (_, Some(mark)) => mark.sequence,
        }
    }

    /// When it is certain that a message came this long ago.
    pub(super) fn over_after(&self, sequence: u64, millis: u64) -> Timestamp {
        let after = self.marks.partition_point(|mark| mark.sequence <= sequence);
        let until = match after.checked_sub(1) {
            Some(mark) => self.until(mark),
            // It came before the first one.
            None => self.marks.front().map_or(u64::MAX, |first| first.at.0),
        };
        Timestamp(until.saturating_add(millis))
    }

    /// How many marks speak of times before this one alone.
    fn before(&self, time: Timestamp) -> usize {
        let (mut low, mut high) = (0, self.marks.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.until(middle) <= time.0 {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// Before this time came the last message of a mark.
    fn until(&self, mark: usize) -> u64 {
        let reach = self.reach(self.marks[mark]);
        self.marks.get(mark + 1).map_or(reach, |next| next.at.0.min(reach))
    }

    /// The same if nothing is known of the next one.
    fn reach(&self, mark: Mark) -> u64 {
        let age = self.newest().0 - mark.at.0;
        mark.at.0.saturating_add(self.step_millis(mark.sequence).max(age / AGE_PART))
    }

    /// The message with the last mark; 0 if there is none.
    pub(super) fn last_sequence(&self) -> u64 {
        self.marks.back().map_or(0, |mark| mark.sequence)
    }

    fn newest(&self) -> Timestamp {
        self.marks.back().map_or(Timestamp(0), |mark| mark.at)
    }

    fn forget_before(&mut self, sequence: u64) {
        let first = self.marks.partition_point(|mark| mark.sequence <= sequence).saturating_sub(1);
        self.marks.drain(..first);
    }

    fn thin_out(&mut self) {
        let mut kept: VecDeque<Mark> = VecDeque::new();
        for (at, mark) in self.marks.iter().enumerate() {
            // The mark before can speak for its messages if they all came soon enough after it, which the next one tells.
            let spoken_for = kept.back().is_some_and(|before| {
                self.marks.get(at + 1).is_some_and(|next| next.at.0 <= self.reach(*before))
            });
            if !spoken_for {
                kept.push_back(*mark);
            }
        }
        // Clocks that jump by ages.
        kept.drain(..kept.len().saturating_sub(MARKS_MAX));
        self.marks = kept;
    }

    /// Writes them for a checkpoint.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_varint(self.marks.len() as u64, out);
        let mut before = Mark { sequence: 0, at: Timestamp(0) };
        for mark in &self.marks {
            encode_varint(mark.sequence - before.sequence, out);
            encode_varint(mark.at.0 - before.at.0, out);
            before = *mark;
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(rest: &mut &[u8]) -> Result<Self, StateFault> {
        let mut number = || decode_varint(rest).map_err(|_| StateFault::Number);
        let mut marks = VecDeque::new();
        let (mut sequence, mut at) = (0u64, 0u64);
        for _ in 0..number()? {
            let next = sequence.checked_add(number()?).zip(at.checked_add(number()?));
            (sequence, at) = next.ok_or(StateFault::TimeOutOfRange)?;
            if marks.len() > MARKS_MAX {
                return Err(StateFault::TimeOutOfRange);
            }
            marks.push_back(Mark { sequence, at: Timestamp(at) });
        }
        Ok(Self { marks, fine_from: None })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn a_message_is_as_old_as_the_mark_before_it() {
        let mut times = Times::default();
        let mut note = |sequence, millis| times.note(sequence, Timestamp(millis), || Some(0));
        note(10, 5_000);
        note(20, 5_999);
        note(30, 6_000);
        note(40, 9_000);
        let of = |sequence| times.of(sequence).map(|time| time.0);
        assert_eq!([of(9), of(10), of(29)], [None, Some(5_000), Some(5_000)]);
        assert_eq!([of(30), of(39), of(40), of(1 << 40)], [6_000, 6_000, 9_000, 9_000].map(Some));
        let since = |millis| times.first_since(Timestamp(millis));
        assert_eq!([since(0), since(4_999), since(5_000), since(5_999)], [0, 0, 10, 10]);
        assert_eq!([since(6_000), since(6_999), since(7_000), since(9_000)], [30, 30, 40, 40]);
        assert_eq!([since(9_999), since(10_000), since(u64::MAX)], [40, u64::MAX, u64::MAX]);
        assert_eq!(Times::default().first_since(Timestamp(5)), 0, "nothing is known");
    }

    #[test]
    fn where_messages_expire_it_is_known_to_ten_milliseconds_when_they_came() {
        let mut times = Times::default();
        times.be_fine();
        (0..10_000u64).for_each(|number| times.note(number, Timestamp(1_000 + number), || Some(0)));
        for number in (0..9_000).step_by(7) {
            let over = times.over_after(number, 500).0 - 1_000 - number;
            assert!((500..=510).contains(&over), "{number}: {over}");
            assert!(times.first_since(Timestamp(1_000 + number)) <= number);
            assert!(times.first_since(Timestamp(1_010 + number)) > number);
        }
    }

    /// The last mark of before speaks of messages that came up to a second after it.
    #[test]
    fn steps_that_become_fine_make_nothing_older_than_it_is() {
        let mut times = Times::default();
        let note = |times: &mut Times, sequence, millis| times.note(sequence, Timestamp(millis), || Some(0));
        note(&mut times, 10, 1_000);
        note(&mut times, 20, 1_900);
        times.be_fine();
        assert_eq!(times.first_since(Timestamp(1_500)), 10, "20 came at 1,900");
        assert_eq!(times.over_after(20, 500), Timestamp(2_500));
        for (sequence, millis) in [(30, 1_905), (40, 1_920)] {
            note(&mut times, sequence, millis);
        }
        assert_eq!((times.over_after(30, 500).0, times.over_after(40, 500).0), (2_415, 2_430));
        let mut out = Vec::new();
        times.encode(&mut out);
        let mut read = Times::decode(&mut &out[..]).unwrap();
        read.be_fine();
        assert_eq!(read.over_after(40, 500).0, 2_430, "also after a start");
    }

    #[test]
    fn what_came_before_all_marks_is_over_with_them() {
        let mut times = Times::default();
        times.be_fine();
        assert_eq!(times.over_after(5, 500), Timestamp(u64::MAX), "nothing is known");
        times.note(10, Timestamp(1_000), || Some(0));
        let over = times.over_after(5, 500);
        assert_eq!(over, Timestamp(1_500));
        assert!(
            times.first_since(Timestamp(over.0 - 500)) > 5,
            "it expires then, and is not looked for again"
        );
    }

    #[test]
    fn what_nobody_needs_goes() {
        let mut times = Times::default();
        (0..10).for_each(|second| times.note(second * 100, at(second), || Some(550)));
        assert_eq!((times.of(499), times.of(500), times.of(900)), (None, Some(at(5)), Some(at(9))));
        times.note(1_000, at(10), || None);
        assert_eq!((times.of(899), times.of(1_000)), (None, Some(at(10))), "no message is left");
    }

    /// Marks come at random distances, for years, and one message stays for all of it.
    #[test]
    fn years_take_no_more_room_than_hours_and_are_told_to_a_thousandth() {
        let mut times = Times::default();
        let mut noted = Vec::new();
        let mut now = 1_800_000_000_000u64;
        for number in 0..20 * MARKS_MAX as u64 {
            now += 700 + number * 2_654_435_761 % 1_800 + if number % 50_000 == 0 { 86_400_000 } else { 0 };
            times.note(number, Timestamp(now), || Some(0));
            noted.push(now);
            assert!(times.marks.len() <= MARKS_MAX);
        }
        for (number, came) in noted.iter().enumerate().step_by(997) {
            let exact = STEP_MILLIS.max((now - came) / 1_000);
            let told = times.of(number as u64).unwrap().0;
            assert!(told <= *came && came - told <= exact, "{number}: {told} of {came}");
            assert!(times.first_since(Timestamp(*came)) <= number as u64);
            let later = Timestamp(came + exact + 1);
            assert!(times.first_since(later) > number as u64, "{number} came before");
        }
    }

    #[test]
    fn a_checkpoint_gives_back_the_same() {
        let mut times = Times::default();
        (0..50).for_each(|second| times.note(second * 7 + 1, at(second * second), || Some(0)));
        let mut out = Vec::new();
        times.encode(&mut out);
        let read = Times::decode(&mut &out[..]).unwrap();
        assert_eq!(read.marks, times.marks);
        for length in 0..out.len() {
            assert!(Times::decode(&mut &out[..length]).is_err(), "{length}");
        }
    }
}
