//! Messages that queues had no room for: what their publisher is told, and which of a run they are.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::vhost::Vhost;
use crate::model::{QueueId, Refusal};
use crate::shard::Excess;

/// Queues whose names a session remembers at most.
const NAMES_MAX: usize = 1_024;

/// Names of queues that refused messages: a queue is looked for among all of them.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<QueueId, String, foldhash::fast::RandomState>);

impl Names {
    /// The refusals of messages that queues had no room for.
    pub(super) fn refusals(&mut self, vhost: &Vhost, excess: &[Excess], refused: &mut RefusedRuns) {
        let mut last: Option<(&Excess, Arc<Refusal>)> = None;
        for of_queue in excess {
            let refusal = match &last {
                Some((before, refusal)) if (before.queue, before.full) == (of_queue.queue, of_queue.full) => {
                    Arc::clone(refusal)
                }
                _ => Arc::new(of_queue.refusal(self.name(vhost, of_queue.queue))),
            };
            refused.0.push((of_queue.messages.clone(), Arc::clone(&refusal)));
            last = Some((of_queue, refusal));
        }
    }

    fn name(&mut self, vhost: &Vhost, queue: QueueId) -> &str {
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(&queue) {
            self.0.clear();
        }
        // It may have been deleted meanwhile.
        let name = || vhost.queue_of_id(queue).map_or_else(String::new, |queue| queue.name.to_string());
        self.0.entry(queue).or_insert_with(name)
    }
}

/// Places of messages of a frame that queues refused, and why. Those of different shards may overlap.
#[derive(Debug, Default)]
pub(super) struct RefusedRuns(Vec<(Range<u32>, Arc<Refusal>)>);

impl RefusedRuns {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// To be called before they are looked at.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|(places, _)| places.start);
    }

    /// Cuts places into those that were refused and those that were not, in order. Places of one call are behind those of the call before.
    pub(super) fn cut(&self, places: Range<u32>, next: &mut usize) -> Vec<(Range<u32>, Option<&Refusal>)> {
        while self.0.get(*next).is_some_and(|(refused, _)| refused.end <= places.start) {
            *next += 1;
        }
        let mut cut = Vec::new();
        let mut at = places.start;
        for (refused, why) in self.0[*next..].iter().take_while(|(refused, _)| refused.start < places.end) {
            let (start, end) = (refused.start.max(at), refused.end.min(places.end));
            if start >= end {
                continue;
            }
            if at < start {
                cut.push((at..start, None));
            }
            cut.push((start..end, Some(&**why)));
            at = end;
        }
        if at < places.end {
            cut.push((at..places.end, None));
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ReplyCode;

    #[test]
    fn places_are_cut_where_they_were_refused_by_whichever_shard() {
        let mut refused = RefusedRuns::default();
        for (first, end, why) in [(2, 4, "a"), (8, 9, "a"), (3, 6, "b"), (4, 5, "b")] {
            refused.0.push((first..end, Arc::new(Refusal::new(ReplyCode::ResourceError, why))));
        }
        refused.sort();
        let mut next = 0;
        let mut cut = |places| {
            let cut = refused.cut(places, &mut next).into_iter();
            let cut = cut.map(|(places, why)| (places.start, places.end, why.map(|why| why.text.clone())));
            cut.collect::<Vec<_>>()
        };
        let why = |text: &str| Some(text.to_owned());
        assert_eq!(cut(0..1), [(0, 1, None)]);
        assert_eq!(cut(1..5), [(1, 2, None), (2, 4, why("a")), (4, 5, why("b"))]);
        assert_eq!(cut(5..8), [(5, 6, why("b")), (6, 8, None)]);
        assert_eq!(cut(8..10), [(8, 9, why("a")), (9, 10, None)]);
        assert_eq!(cut(10..10), []);
    }
}
