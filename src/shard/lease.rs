//! How long one consumer has had its deliveries, at no cost for each of them.
//!
//! Tags rise with time, so a mark now and then tells how old all deliveries below it are at least. Those whose leases began anew stand
//! apart, in runs. Times are milliseconds of whoever asks, and never go back.

use std::collections::{BTreeMap, VecDeque};

use crate::queue::Tags;

/// Runs of deliveries with leases of their own, besides two for each that is held, before those are looked for that nobody holds.
const RUNS_MIN: u64 = 64;

/// Deliveries below this tag were there at this time.
#[derive(Debug, Clone, Copy)]
struct Mark {
    below: u64,
    at: u64,
}

/// Deliveries of a consumer by their age. As many marks as times are told in the length of a lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    marks: VecDeque<Mark>,
    /// Deliveries below this tag are older than a lease.
    over_below: u64,
    /// Runs whose leases began anew, by their first tag: the last one, and when.
    renewed: BTreeMap<u64, (u64, u64)>,
}

impl Lease {
    /// All deliveries below this tag were there at this time. To be told in the order of time.
    pub(super) fn note(&mut self, below: u64, at: u64) {
        if self.marks.back().map_or(self.over_below, |mark| mark.below) < below {
            self.marks.push_back(Mark { below, at });
        }
    }

    /// The leases of these begin anew at this time.
    pub(super) fn renew(&mut self, tags: Tags, at: u64) {
        let Tags { first, last } = tags;
        let overlapping = self.renewed.range(..=last).rev().take_while(|(_, (end, _))| *end >= first);
        let overlapping: Vec<u64> = overlapping.map(|(start, _)| *start).collect();
        for start in overlapping {
            let Some((end, since)) = self.renewed.remove(&start) else { continue };
            if start < first {
                self.renewed.insert(start, (first - 1, since));
            }
            if end > last {
                self.renewed.insert(last + 1, (end, since));
            }
        }
        // Whoever asks for one after the other makes one run of it.
        let before = self.renewed.range(..first).next_back().map(|(start, run)| (*start, *run));
        match before {
            Some((start, (end, since))) if end + 1 == first && since == at => {
                self.renewed.insert(start, (last, at));
            }
            _ => {
                self.renewed.insert(first, (last, at));
            }
        }
    }

    /// Whether there may be many runs that nobody holds, of whoever holds so many deliveries.
    pub(super) fn has_many_runs(&self, held: u64) -> bool {
        self.renewed.len() as u64 > held.saturating_mul(2).saturating_add(RUNS_MIN)
    }

    /// Forgets the runs of which nothing is held.
    pub(super) fn keep_runs(&mut self, is_held: impl Fn(Tags) -> bool) {
        self.renewed.retain(|first, (last, _)| is_held(Tags { first: *first, last: *last }));
    }

    /// Tags from the oldest that is held on whose leases of this length are over at this time: in order, without overlap. Some of
    /// them may not be held.
    pub(super) fn over(&mut self, oldest: u64, at: u64, lease_millis: u64) -> Vec<Tags> {
        while let Some(mark) = self.marks.front().filter(|mark| mark.at.saturating_add(lease_millis) <= at) {
            self.over_below = mark.below;
            self.marks.pop_front();
        }
        // Marks below what is held tell nothing any more.
        while self.marks.front().is_some_and(|mark| mark.below <= oldest) {
            self.marks.pop_front();
        }
        let is_live = |last: u64, since: u64| last >= oldest && since.saturating_add(lease_millis) > at;
        self.renewed.retain(|_, (last, since)| is_live(*last, *since));
        let mut over = Vec::new();
        let mut next = oldest;
        for (first, (last, _)) in self.renewed.range(..self.over_below) {
            if *first > next {
                over.push(Tags { first: next, last: first - 1 });
            }
            next = next.max(last.saturating_add(1));
        }
        if next < self.over_below {
            over.push(Tags { first: next, last: self.over_below - 1 });
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: u64 = 1_000;

    fn over(lease: &mut Lease, oldest: u64, at: u64) -> Vec<(u64, u64)> {
        lease.over(oldest, at, LEASE).into_iter().map(|tags| (tags.first, tags.last)).collect()
    }

    #[test]
    fn deliveries_are_as_old_as_the_first_mark_above_them() {
        let mut lease = Lease::default();
        lease.note(5, 100);
        lease.note(5, 200);
        lease.note(9, 300);
        assert_eq!(over(&mut lease, 2, 1_099), []);
        assert_eq!(over(&mut lease, 2, 1_100), [(2, 4)]);
        assert_eq!(over(&mut lease, 3, 1_300), [(3, 8)]);
        assert_eq!(over(&mut lease, 9, 9_000), []);
    }

    #[test]
    fn what_is_renewed_has_another_lease_and_what_is_around_it_has_not() {
        let mut lease = Lease::default();
        lease.note(10, 0);
        lease.renew(Tags { first: 3, last: 4 }, 500);
        lease.renew(Tags { first: 7, last: 7 }, 600);
        assert_eq!(over(&mut lease, 1, 1_000), [(1, 2), (5, 6), (8, 9)]);
        assert_eq!(over(&mut lease, 3, 1_499), [(5, 6), (8, 9)]);
        assert_eq!(over(&mut lease, 3, 1_500), [(3, 6), (8, 9)]);
        lease.renew(Tags { first: 3, last: 9 }, 1_500);
        assert_eq!(over(&mut lease, 3, 2_499), []);
        assert_eq!(over(&mut lease, 3, 2_500), [(3, 9)]);
    }

    #[test]
    fn one_after_the_other_is_one_run() {
        let mut lease = Lease::default();
        (1..=1_000).for_each(|tag| lease.renew(Tags { first: tag, last: tag }, 5));
        assert_eq!(lease.renewed.len(), 1);
        (1..=1_000).for_each(|tag| lease.renew(Tags { first: 2 * tag, last: 2 * tag }, tag + 10));
        assert!(lease.has_many_runs(100));
        lease.keep_runs(|tags| (500..510).contains(&tags.first));
        assert_eq!(lease.renewed.len(), 10);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Deliver(u64),
        Renew(u64, u64),
        Settle(u64, u64),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..20u64).prop_map(Step::Deliver),
            (1..60u64, 0..20u64).prop_map(|(first, more)| Step::Renew(first, first + more)),
            (1..60u64, 0..10u64).prop_map(|(first, more)| Step::Settle(first, first + more)),
            (1..400u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// It is looked whenever time passes; a lease begins when it is looked the next time.
        #[test]
        fn it_is_what_each_delivery_by_itself_would_be(steps in prop::collection::vec(step(), 1..60)) {
            let (mut lease, mut next, mut now) = (Lease::default(), 1, 0);
            // By tag: when it was first looked, and when its lease began anew.
            let mut model = BTreeMap::<u64, (Option<u64>, u64)>::new();
            for step in steps {
                match step {
                    Step::Deliver(count) => {
                        model.extend((next..next + count).map(|tag| (tag, (None, 0))));
                        next += count;
                    }
                    Step::Renew(first, last) => {
                        let last = last.min(next - 1);
                        let is_named = |tag: &u64| (first..=last).contains(tag);
                        if model.keys().any(is_named) {
                            lease.renew(Tags { first, last }, now);
                        }
                        let named = model.iter_mut().filter(|(tag, _)| is_named(tag));
                        named.for_each(|(_, (_, renewed))| *renewed = now);
                    }
                    Step::Settle(first, last) => model.retain(|tag, _| !(first..=last).contains(tag)),
                    Step::Pass(millis) => {
                        now += millis;
                        let Some(oldest) = model.keys().next().copied() else { continue };
                        lease.note(next, now);
                        model.values_mut().for_each(|(looked, _)| { looked.get_or_insert(now); });
                        let over = lease.over(oldest, now, LEASE);
                        let is_over = |tag: &u64| over.iter().any(|tags| (tags.first..=tags.last).contains(tag));
                        let told: Vec<u64> = model.keys().copied().filter(is_over).collect();
                        let ends = |(looked, renewed): &(Option<u64>, u64)| looked.unwrap_or(now).max(*renewed) + LEASE;
                        let expected = model.iter().filter(|(_, times)| ends(times) <= now);
                        let expected: Vec<u64> = expected.map(|(tag, _)| *tag).collect();
                        prop_assert_eq!(&told, &expected);
                        model.retain(|tag, _| !told.contains(tag));
                    }
                }
            }
        }
    }
}
