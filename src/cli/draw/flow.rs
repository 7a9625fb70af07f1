//! How much went along each binding, as far as the counters of exchanges and queues tell.
//!
//! No counter tells what a single binding led on. What came into a queue is known, and so is what was published to each
//! exchange. Of what came into a queue no more can have come through the other exchanges than those were given: the rest came
//! this way.

use std::collections::{BTreeMap, BTreeSet};

use super::picture::Flow;

/// What each exchange may have passed on at most: what was published to it and to all exchanges that lead to it.
pub(super) fn passed_on<'a>(
    published: &BTreeMap<&'a str, u64>,
    between: &BTreeSet<(&'a str, &'a str)>,
) -> BTreeMap<&'a str, u64> {
    let mut upstream: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    between.iter().for_each(|(from, to)| upstream.entry(to).or_default().push(from));
    let passed = published.keys().map(|exchange| {
        let (mut seen, mut ahead, mut sum) = (BTreeSet::from([*exchange]), vec![*exchange], 0u64);
        while let Some(next) = ahead.pop() {
            sum = sum.saturating_add(published.get(next).copied().unwrap_or(0));
            let sources = upstream.get(next).into_iter().flatten();
            ahead.extend(sources.filter(|source| seen.insert(**source)));
        }
        (*exchange, sum)
    });
    passed.collect()
}

/// What went from one source to a queue, of all that came into it: `sources` passed on so much at most together, this one so
/// much of that.
pub(super) fn share(came: u64, from_this: u64, from_all: u64) -> Flow {
    let from_others = from_all.saturating_sub(from_this);
    Flow { least: came.saturating_sub(from_others).min(from_this), most: came.min(from_this) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_only_source_was_given_and_the_queue_got_went_between_them() {
        assert_eq!(share(7, 10, 10), Flow::exactly(7));
    }

    #[test]
    fn what_the_others_cannot_have_passed_on_came_this_way() {
        assert_eq!(share(7, 10, 12), Flow { least: 5, most: 7 });
        assert_eq!(share(7, 2, 12), Flow { least: 0, most: 2 });
        assert_eq!(share(0, 10, 20), Flow::exactly(0));
        // Some of it came in another way: by hand, or between the looks at both.
        assert_eq!(share(9, 2, 2), Flow::exactly(2));
    }

    #[test]
    fn exchanges_pass_on_what_others_lead_to_them_even_in_a_circle() {
        let published = BTreeMap::from([("a", 1), ("b", 10), ("c", 100), ("d", 1000)]);
        let between = BTreeSet::from([("a", "b"), ("b", "c"), ("c", "a")]);
        let passed = passed_on(&published, &between);
        assert_eq!(passed, BTreeMap::from([("a", 111), ("b", 111), ("c", 111), ("d", 1000)]));
    }
}
