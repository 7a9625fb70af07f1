//! Confirms that go out together.

use bytes::BytesMut;

use crate::broker::{Confirmation, ConfirmedRun};
use crate::wire::{encode_confirm, pb};

/// Ranges of one frame at most.
const RANGES_MAX: usize = 1_000;

/// Words of what became of messages, collected until all shards that have something to say have said it. Runs that
/// follow each other with the same fate become one.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// By channel and publisher; few have news at the same time.
    ranges: Vec<((u32, u32), Vec<pb::ConfirmRange>)>,
}

impl Confirms {
    /// Adds the fates of one frame's messages.
    pub(super) fn add(&mut self, confirmation: Confirmation) {
        let place = (confirmation.channel, confirmation.publisher);
        let index = match self.ranges.iter().rposition(|(other, _)| *other == place) {
            Some(index) => index,
            None => {
                self.ranges.push((place, Vec::new()));
                self.ranges.len() - 1
            }
        };
        let ranges = &mut self.ranges[index].1;
        for run in confirmation.runs {
            let range = range(run);
            match ranges.last_mut() {
                Some(last) if continues(last, &range) => last.last = range.last,
                _ => ranges.push(range),
            }
        }
    }

    /// A channel was closed: whoever opens it again shall not hear of what was before.
    pub(super) fn forget_channel(&mut self, channel: u32) {
        self.ranges.retain(|((other, _), _)| *other != channel);
    }

    /// Appends the frames.
    pub(super) fn put(&mut self, out: &mut BytesMut) {
        for ((channel, publisher), ranges) in self.ranges.drain(..) {
            for ranges in ranges.chunks(RANGES_MAX) {
                encode_confirm(channel, publisher, ranges, out);
            }
        }
    }
}

/// A range that says its last sequence even if it is the first: it may grow.
fn range(run: ConfirmedRun) -> pb::ConfirmRange {
    pb::ConfirmRange {
        first: run.first,
        last: run.last,
        level: pb::DurabilityLevel::from(run.durability).into(),
        queues: run.queues,
        refusal: run.refusal.as_ref().map(Into::into),
        first_journey: run.first_journey.map_or(0, |number| number.0),
    }
}

fn continues(last: &pb::ConfirmRange, next: &pb::ConfirmRange) -> bool {
    last.last.checked_add(1) == Some(next.first)
        && (last.level, last.queues) == (next.level, next.queues)
        && last.refusal == next.refusal
        && match last.first_journey {
            0 => next.first_journey == 0,
            first => next.first_journey == first + (next.first - last.first),
        }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Durability, Refusal, ReplyCode};
    use crate::wire::{Body, Side, decode_frame_from, split_frame};

    fn confirmation(publisher: u32, runs: &[(u64, u64, u32, Option<&str>)]) -> Confirmation {
        let run = |(first, last, queues, refusal): &(u64, u64, u32, Option<&str>)| ConfirmedRun {
            first: *first,
            last: *last,
            durability: Durability::Synced,
            queues: *queues,
            refusal: refusal.map(|text| Refusal::new(ReplyCode::ResourceError, text)),
            first_journey: None,
        };
        Confirmation { channel: 1, publisher, runs: runs.iter().map(run).collect() }
    }

    /// Publisher, first and last of every range that goes out.
    fn put(confirmations: Vec<Confirmation>) -> Vec<(u32, u64, u64)> {
        let mut confirms = Confirms::default();
        confirmations.into_iter().for_each(|confirmation| confirms.add(confirmation));
        let mut out = BytesMut::new();
        confirms.forget_channel(2);
        confirms.put(&mut out);
        let mut ranges = Vec::new();
        while let Some(frame) = split_frame(&mut out, usize::MAX).unwrap() {
            let Body::Confirm(confirm) = decode_frame_from(Side::Server, frame).unwrap().body else {
                panic!()
            };
            assert!(confirm.ranges.len() <= RANGES_MAX);
            ranges.extend(confirm.ranges.iter().map(|range| (confirm.publisher, range.first, range.last)));
        }
        ranges
    }

    #[test]
    fn what_follows_with_the_same_fate_is_told_at_once() {
        let told = put(vec![
            confirmation(1, &[(1, 3, 1, None), (4, 4, 1, None)]),
            confirmation(2, &[(1, 1, 1, None)]),
            confirmation(1, &[(5, 5, 2, None), (6, 7, 2, None), (9, 9, 2, None)]),
        ]);
        assert_eq!(told, [(1, 1, 4), (1, 5, 7), (1, 9, 9), (2, 1, 1)]);
    }

    #[test]
    fn a_refusal_is_told_of_exactly_those_it_is_about() {
        let full = Some("the queue is full");
        let told =
            put(vec![confirmation(1, &[(1, 1, 1, None), (2, 3, 1, full), (4, 4, 1, full), (5, 5, 1, None)])]);
        assert_eq!(told, [(1, 1, 1), (1, 2, 4), (1, 5, 5)]);
    }

    #[test]
    fn a_channel_that_was_closed_hears_nothing() {
        assert_eq!(put(vec![Confirmation { channel: 2, ..confirmation(1, &[(1, 1, 1, None)]) }]), []);
    }

    #[test]
    fn many_ranges_are_spread_over_frames() {
        let runs: Vec<_> = (0..2_500).map(|number| (number * 2 + 1, number * 2 + 1, 1, None)).collect();
        assert_eq!(put(vec![confirmation(1, &runs)]).len(), 2_500);
    }

    #[test]
    fn ids_of_journeys_that_do_not_follow_each_other_are_not_joined() {
        let with_ids = |first: u64, last: u64, id: Option<u64>| {
            let mut confirmation = confirmation(1, &[(first, last, 1, None)]);
            confirmation.runs[0].first_journey = id.map(crate::model::JourneyNumber);
            confirmation
        };
        let ids = [(1, 2, Some(100)), (3, 4, Some(102)), (5, 5, Some(200)), (6, 6, None), (7, 8, None)];
        let told = put(ids.map(|(first, last, id)| with_ids(first, last, id)).into());
        assert_eq!(told, [(1, 1, 4), (1, 5, 5), (1, 6, 8)]);
    }
}
