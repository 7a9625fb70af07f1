//! Which messages came, and how: lost, twice, in disorder.

use std::collections::HashMap;

use super::stamp::Stamp;

/// Sequences of one page.
const PAGE_BITS: u64 = 64 * 1024;

/// What one consumer got.
#[derive(Debug, Default)]
pub(super) struct Tally {
    streams: HashMap<u16, StreamTally>,
    /// Messages without a stamp.
    pub(super) foreign: u64,
    /// Messages that say they may have come before.
    pub(super) redelivered: u64,
    /// All messages.
    count: u64,
}

#[derive(Debug, Default)]
struct StreamTally {
    seen: SequenceSet,
    /// The highest sequence so far.
    highest: u64,
    duplicated: u64,
    out_of_order: u64,
}

/// What is wrong with what came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Never came.
    pub(super) lost: u64,
    /// Came again without saying that they may have come before.
    pub(super) duplicated: u64,
    /// Came after a later one of the same stream, without saying so.
    pub(super) out_of_order: u64,
    /// Are not of this kind of load.
    pub(super) foreign: u64,
}

impl Tally {
    /// Number of messages, whatever they are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Notes a message.
    pub(super) fn note(&mut self, body: &[u8], redelivered: bool) -> Option<Stamp> {
        self.count += 1;
        let Some(stamp) = Stamp::read(body) else {
            self.foreign += 1;
            return None;
        };
        self.redelivered += u64::from(redelivered);
        let stream = self.streams.entry(stamp.stream).or_default();
        let is_new = stream.seen.insert(stamp.sequence);
        if !redelivered {
            stream.duplicated += u64::from(!is_new);
            stream.out_of_order += u64::from(is_new && stamp.sequence < stream.highest);
        }
        stream.highest = stream.highest.max(stamp.sequence);
        Some(stamp)
    }

    /// Adds what another consumer of the same queue got. Order is every consumer's own; what both got came twice.
    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.foreign += other.foreign;
        self.redelivered += other.redelivered;
        for (number, other) in other.streams {
            let stream = self.streams.entry(number).or_default();
            stream.duplicated += other.duplicated + stream.seen.merge(&other.seen);
            stream.out_of_order += other.out_of_order;
            stream.highest = stream.highest.max(other.highest);
        }
    }

    /// Compares with what was published, by stream. Without that nothing is known to be lost but what is missing
    /// before the highest sequence of its stream.
    pub(super) fn faults(&self, published: Option<&HashMap<u16, u64>>) -> Faults {
        let mut faults = Faults { foreign: self.foreign, ..Faults::default() };
        for stream in self.streams.values() {
            faults.duplicated += stream.duplicated;
            faults.out_of_order += stream.out_of_order;
        }
        // What was redelivered across consumers counts as duplicated there; it said so.
        faults.duplicated = faults.duplicated.saturating_sub(self.redelivered);
        if let Some(published) = published {
            for (number, published) in published {
                let seen = self.streams.get(number).map_or(0, |stream| stream.seen.len());
                faults.lost += published.saturating_sub(seen);
            }
        }
        faults
    }
}

/// A set of sequences that grows with what is in it, whatever is claimed.
#[derive(Debug, Default)]
struct SequenceSet {
    pages: HashMap<u64, Box<[u64]>>,
    /// The page in use, out of the map.
    current: Option<(u64, Box<[u64]>)>,
    len: u64,
}

impl SequenceSet {
    fn insert(&mut self, sequence: u64) -> bool {
        let (number, bit) = (sequence / PAGE_BITS, sequence % PAGE_BITS);
        if self.current.as_ref().is_none_or(|(current, _)| *current != number) {
            let page = self.pages.remove(&number).unwrap_or_else(|| vec![0; PAGE_BITS as usize / 64].into());
            if let Some((former, page)) = self.current.replace((number, page)) {
                self.pages.insert(former, page);
            }
        }
        let Some((_, page)) = &mut self.current else { return false };
        let word = &mut page[bit as usize / 64];
        let is_new = *word & 1 << (bit % 64) == 0;
        *word |= 1 << (bit % 64);
        self.len += u64::from(is_new);
        is_new
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn iter_pages(&self) -> impl Iterator<Item = (u64, &[u64])> {
        let current = self.current.iter().map(|(number, page)| (*number, &**page));
        self.pages.iter().map(|(number, page)| (*number, &**page)).chain(current)
    }

    /// Adds all of another set; how many were in both.
    fn merge(&mut self, other: &Self) -> u64 {
        if let Some((number, page)) = self.current.take() {
            self.pages.insert(number, page);
        }
        let mut both = 0;
        for (number, theirs) in other.iter_pages() {
            let ours = self.pages.entry(number).or_insert_with(|| vec![0; PAGE_BITS as usize / 64].into());
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                both += u64::from((*ours & theirs).count_ones());
                self.len += u64::from((theirs & !*ours).count_ones());
                *ours |= theirs;
            }
        }
        both
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tally(messages: &[(u16, u64, bool)]) -> Tally {
        let mut tally = Tally::default();
        for (stream, sequence, redelivered) in messages {
            let mut body = [0; 16];
            Stamp { stream: *stream, sequence: *sequence, sent_us: 5 }.write(&mut body);
            assert!(tally.note(&body, *redelivered).is_some());
        }
        tally
    }

    fn faults(lost: u64, duplicated: u64, out_of_order: u64) -> Faults {
        Faults { lost, duplicated, out_of_order, foreign: 0 }
    }

    #[test]
    fn all_in_order_is_no_fault() {
        let tally = tally(&[(1, 1, false), (2, 1, false), (1, 2, false)]);
        assert_eq!(tally.faults(Some(&HashMap::from([(1, 2), (2, 1)]))), faults(0, 0, 0));
    }

    #[test]
    fn what_is_missing_is_lost() {
        let tally = tally(&[(1, 1, false), (1, 3, false)]);
        assert_eq!(tally.faults(Some(&HashMap::from([(1, 4), (2, 5)]))), faults(7, 0, 0));
        assert_eq!(tally.faults(None), faults(0, 0, 0));
    }

    #[test]
    fn what_comes_again_or_late_must_say_so() {
        let published = HashMap::from([(1, 3)]);
        let silent = tally(&[(1, 1, false), (1, 3, false), (1, 2, false), (1, 1, false)]);
        assert_eq!(silent.faults(Some(&published)), faults(0, 1, 1));
        let told = tally(&[(1, 1, false), (1, 3, false), (1, 2, true), (1, 1, true)]);
        assert_eq!(told.faults(Some(&published)), faults(0, 0, 0));
    }

    #[test]
    fn consumers_of_one_queue_are_counted_together() {
        let mut one = tally(&[(1, 1, false), (1, 3, false)]);
        one.merge(tally(&[(1, 2, false), (1, 200_000, false)]));
        assert_eq!(one.faults(Some(&HashMap::from([(1, 4)]))), faults(0, 0, 0));
        one.merge(tally(&[(1, 3, false)]));
        assert_eq!(one.faults(Some(&HashMap::from([(1, 4)]))), faults(0, 1, 0));
    }

    #[test]
    fn a_stranger_is_counted_and_costs_little() {
        let mut tally = Tally::default();
        assert_eq!(tally.note(b"hello", false), None);
        assert_eq!(tally.faults(None).foreign, 1);
    }
}
