//! Stories that were not at their end when the broker stopped, found again in what was written of them.

use std::collections::BTreeMap;

use super::event::{Event, Publication, What};
use super::store::Entry;
use crate::model::{BodySequence, QueueId, ShardId};

/// Runs of messages that are found again at most; of the oldest nothing more is told beyond.
const RESUMED_RUNS_MAX: usize = 262_144;

/// Messages that may still be in queues, as far as what was written tells.
#[derive(Debug)]
pub struct Unfinished {
    /// By the number of the first of a run.
    runs: BTreeMap<u64, Run>,
    runs_max: usize,
    /// Messages with lower numbers had to be left out; from the first of them on.
    left_out: Option<(u64, u64)>,
}

/// Messages with numbers that follow each other, and the same fate so far.
#[derive(Debug, Clone)]
struct Run {
    count: u64,
    /// Queues that may have them.
    places: Vec<(QueueId, Place)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The queue has not said that it has them.
    OnTheWay,
    /// It has.
    Held {
        shard: ShardId,
        /// Of the first of the run.
        sequence: u64,
        /// A consumer had them.
        delivered: bool,
    },
}

/// Messages that a queue of a shard had, the last that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Number of the first.
    pub number: u64,
    /// How many.
    pub count: u64,
    /// Sequence of the first on the shard.
    pub sequence: BodySequence,
    /// The queues of the shard that had them, and whether a consumer did.
    pub queues: Vec<(QueueId, bool)>,
}

/// Messages that a queue had or was to have, of whose shard nothing is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray {
    /// Number of the first.
    pub number: u64,
    /// How many.
    pub count: u64,
    /// The queue.
    pub queue: QueueId,
    /// The shard that had them, if one ever said so.
    pub shard: Option<ShardId>,
}

impl Default for Unfinished {
    fn default() -> Self {
        Self::of_at_most(RESUMED_RUNS_MAX)
    }
}

impl Unfinished {
    pub(super) fn of_at_most(runs_max: usize) -> Self {
        Self { runs: BTreeMap::new(), runs_max, left_out: None }
    }

    /// The next thing that happened.
    pub(super) fn note(&mut self, entry: &Entry) {
        match entry {
            Entry::Publication(publication) => self.note_publication(publication),
            Entry::Event(event) => self.note_event(event),
        }
        while self.runs.len() > self.runs_max {
            let Some((first, run)) = self.runs.pop_first() else { break };
            let from = self.left_out.map_or(first, |(from, _)| from);
            self.left_out = Some((from, first + run.count));
        }
    }

    fn note_publication(&mut self, publication: &Publication) {
        let queues = publication.way.queues.iter();
        let places: Vec<_> = queues.map(|label| (label.id, Place::OnTheWay)).collect();
        if !places.is_empty() {
            self.runs.insert(publication.first, Run { count: publication.count.into(), places });
        }
    }

    fn note_event(&mut self, event: &Event) {
        let end = event.first + u64::from(event.count);
        match &event.what {
            What::Taken { shard, queues, sequence } => {
                self.change(event.first, end, |first, places| {
                    let sequence = sequence.0 + (first - event.first);
                    let held = Place::Held { shard: *shard, sequence, delivered: false };
                    let taken = places.iter_mut().filter(|(queue, _)| queues.contains(queue));
                    taken.for_each(|(_, place)| *place = held);
                });
            }
            What::NotTaken(not_taken) => self.change(event.first, end, |_, places| {
                places.retain(|(queue, _)| !not_taken.queues.contains(queue));
            }),
            What::Delivered { queue, .. } => self.deliver(event.first, end, *queue, true),
            What::CameBack { queue, .. } => self.deliver(event.first, end, *queue, false),
            What::Left { queue, .. } | What::QueueDeleted { queue } | What::Missed { queue } => {
                self.change(event.first, end, |_, places| places.retain(|(other, _)| other != queue));
            }
            What::Unwatched => self.change(event.first, end, |_, places| places.clear()),
        }
    }

    fn deliver(&mut self, first: u64, end: u64, queue: QueueId, is: bool) {
        self.change(first, end, |_, places| {
            for (other, place) in places {
                if let Place::Held { delivered, .. } = place
                    && *other == queue
                {
                    *delivered = is;
                }
            }
        });
    }

    /// Changes what is known of messages with numbers `first..end`, and forgets those that are in no queue any more. `change` is
    /// given the number of the first of a run, and its places.
    fn change(&mut self, first: u64, end: u64, mut change: impl FnMut(u64, &mut Vec<(QueueId, Place)>)) {
        self.split_at(first);
        self.split_at(end);
        let mut done = Vec::new();
        for (number, run) in self.runs.range_mut(first..end) {
            change(*number, &mut run.places);
            if run.places.is_empty() {
                done.push(*number);
            }
        }
        done.iter().for_each(|number| {
            self.runs.remove(number);
        });
    }

    /// No run has messages on both sides of this number.
    fn split_at(&mut self, number: u64) {
        let Some((first, run)) = self.runs.range_mut(..number).next_back() else { return };
        let before = number - first;
        if run.count <= before {
            return;
        }
        let mut rest = run.clone();
        run.count = before;
        rest.count -= before;
        for (_, place) in &mut rest.places {
            if let Place::Held { sequence, .. } = place {
                *sequence += before;
            }
        }
        self.runs.insert(number, rest);
    }

    /// Those that a shard has said it has; they are in its hands from now on.
    pub fn take_of_shard(&mut self, shard: ShardId) -> Vec<Resumed> {
        let mut found: Vec<Resumed> = Vec::new();
        for (number, run) in &mut self.runs {
            let mut first = None;
            let mut queues = Vec::new();
            run.places.retain(|(queue, place)| match place {
                // A message has one sequence on a shard.
                Place::Held { shard: of, sequence, delivered }
                    if *of == shard && first.is_none_or(|first| first == *sequence) =>
                {
                    first = Some(*sequence);
                    queues.push((*queue, *delivered));
                    false
                }
                _ => true,
            });
            if let Some(sequence) = first {
                let sequence = BodySequence(sequence);
                found.push(Resumed { number: *number, count: run.count, sequence, queues });
            }
        }
        self.runs.retain(|_, run| !run.places.is_empty());
        found.sort_unstable_by_key(|resumed| resumed.sequence);
        found
    }

    /// The others.
    pub fn strays(&self) -> impl Iterator<Item = Stray> {
        self.runs.iter().flat_map(|(number, run)| {
            run.places.iter().map(|(queue, place)| Stray {
                number: *number,
                count: run.count,
                queue: *queue,
                shard: match place {
                    Place::OnTheWay => None,
                    Place::Held { shard, .. } => Some(*shard),
                },
            })
        })
    }

    /// Those for which there was no room, by their numbers: of the first, and behind the last. Stories between that are at their
    /// end stay as they are.
    pub fn left_out(&self) -> Option<(u64, u64)> {
        self.left_out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journey::testing::{publication, way_to};
    use crate::model::Timestamp;
    use crate::queue::{Departure, Return};

    const A: QueueId = QueueId(1);
    const B: QueueId = QueueId(2);
    const ON_OTHER: QueueId = QueueId(3);

    fn noted(events: &[(u64, u32, What)]) -> Unfinished {
        let mut unfinished = Unfinished::default();
        let way = way_to(&[A, B, ON_OTHER]);
        unfinished.note(&Entry::Publication(Arc::new(publication(100, 10, None, &way))));
        for (first, count, what) in events {
            let event = Event { first: *first, count: *count, at: Timestamp(1), what: what.clone() };
            unfinished.note(&Entry::Event(event));
        }
        unfinished
    }

    fn taken(shard: u16, queues: &[QueueId], sequence: u64) -> What {
        What::Taken { shard: ShardId(shard), queues: Arc::from(queues), sequence: BodySequence(sequence) }
    }

    fn left(queue: QueueId) -> What {
        What::Left { queue, departure: Departure::Accepted }
    }

    #[test]
    fn messages_are_found_in_the_queues_that_have_them_with_their_sequences() {
        let mut unfinished = noted(&[
            (100, 10, taken(0, &[A, B], 50)),
            (102, 3, left(A)),
            (100, 10, What::CameBack { queue: B, why: Return::Requeued }),
            (107, 3, left(A)),
            (109, 1, left(B)),
        ]);
        let of_shard: Vec<_> = unfinished
            .take_of_shard(ShardId(0))
            .into_iter()
            .map(|run| (run.number, run.count, run.sequence.0, run.queues))
            .collect();
        assert_eq!(
            of_shard,
            [
                (100, 2, 50, vec![(A, false), (B, false)]),
                (102, 3, 52, vec![(B, false)]),
                (105, 2, 55, vec![(A, false), (B, false)]),
                (107, 2, 57, vec![(B, false)]),
            ]
        );
        assert_eq!(unfinished.take_of_shard(ShardId(0)), []);
        let strays: Vec<_> = unfinished.strays().collect();
        assert_eq!(strays.iter().map(|stray| stray.count).sum::<u64>(), 10);
        assert!(strays.iter().all(|stray| (stray.queue, stray.shard) == (ON_OTHER, None)), "{strays:?}");
    }

    #[test]
    fn what_nobody_has_any_more_is_not_found() {
        for what in [left(A), What::QueueDeleted { queue: A }, What::Missed { queue: A }, What::Unwatched] {
            let mut unfinished =
                noted(&[(100, 10, What::Unwatched), (100, 10, taken(0, &[A], 50)), (100, 10, what.clone())]);
            assert_eq!(unfinished.take_of_shard(ShardId(0)), [], "{what:?}");
        }
    }

    #[test]
    fn the_oldest_are_left_out_and_it_is_said_which() {
        let mut unfinished = Unfinished::of_at_most(2);
        let way = way_to(&[A]);
        for first in [10, 20, 30, 40] {
            unfinished.note(&Entry::Publication(Arc::new(publication(first, 2, None, &way))));
        }
        assert_eq!(unfinished.left_out(), Some((10, 22)));
        assert_eq!(unfinished.strays().map(|stray| stray.number).collect::<Vec<_>>(), [30, 40]);
    }
}
