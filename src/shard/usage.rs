//! How much of each segment of the log is needed, as far as that is known without looking at each message.

use super::bodies::{Batches, Bodies, Extent};
use crate::storage::Segment;

/// How much of a segment is needed, by estimate: as if all messages of an extent were of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of messages.
    pub(super) bytes: u64,
    /// Queues times messages.
    pub(super) messages: u64,
    /// The same of those that needed them at first and need them no more.
    pub(super) gone: u64,
}

impl Usage {
    /// Adds what is needed of an extent that begins or ends in a segment, or both: the part of it that its messages there are.
    fn add(&mut self, extent: &Extent, segment: &Segment) {
        let Extent { first, end, batches, bytes, all, live, .. } = extent;
        let is_within = segment.first_index <= batches.first && batches.last < segment.end_index;
        let (here, messages) = if is_within {
            (1, 1)
        } else {
            let here = segment.bodies_end.0.min(*end).saturating_sub(segment.first_body.0.max(*first));
            (here, end - first)
        };
        let part = |of: u128| (of * u128::from(here)).div_ceil(u128::from(messages.max(1))) as u64;
        self.bytes += part(u128::from(*bytes) * u128::from(*live) / u128::from(*all.max(live)));
        // Its batches are needed with it, even if no message is in them.
        self.messages += part(u128::from(*live)).max(1);
        self.gone += part(u128::from(all.saturating_sub(*live)));
    }
}

impl Bodies {
    /// How much of each segment is needed. Both are in order.
    pub(super) fn usage(&self, segments: &[Segment]) -> Vec<Usage> {
        let mut usage = vec![Usage::default(); segments.len()];
        let mut from = 0;
        for extent in self.extents.iter().filter(|extent| extent.live > 0) {
            let Batches { first, last } = extent.batches;
            while segments.get(from).is_some_and(|segment| segment.end_index <= first) {
                from += 1;
            }
            let within = segments[from..].iter().take_while(|segment| segment.first_index <= last);
            for (segment, usage) in within.zip(&mut usage[from..]) {
                usage.add(extent, segment);
            }
        }
        usage
    }
}
