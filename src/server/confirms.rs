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

    /// Appends the frames.
    pub(super) fn put(&mut self, has_channel: impl Fn(u32) -> bool, out: &mut BytesMut) {
        for ((channel, publisher), ranges) in self.ranges.drain(..) {
            if !has_channel(channel) {
                continue;
            }
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
    }
}

fn continues(last: &pb::ConfirmRange, next: &pb::ConfirmRange) -> bool {
    last.last.checked_add(1) == Some(next.first)
        && (last.level, last.queues) == (next.level, next.queues)
        && last.refusal == next.refusal
}
