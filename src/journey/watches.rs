//! Which messages of a shard have their story told.

use std::collections::BTreeMap;

use super::event::{Event, What};
use crate::model::Timestamp;
use crate::queue::SequenceRun;

/// Runs of messages that a shard looks after at most; of the oldest nothing more is told beyond.
const WATCHED_RUNS_MAX: usize = 262_144;

/// Messages that are looked after, by their sequence in the shard, and what happened to them since it was last handed on.
#[derive(Debug, Default)]
pub struct Watches {
    /// By the first sequence of a run.
    runs: BTreeMap<u64, Watch>,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Watch {
    count: u64,
    /// Number of the first.
    number: u64,
    /// Messages times queues that hold them.
    held: u64,
}

impl Watches {
    /// Whether nothing is looked after: then nothing need be told.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Messages that so many queues hold each are looked after from now on. They are newer than all before.
    pub fn watch(&mut self, run: SequenceRun, number: u64, queues: u64, now: Timestamp) {
        self.runs.insert(run.first.0, Watch { count: run.count, number, held: run.count * queues });
        if self.runs.len() > WATCHED_RUNS_MAX
            && let Some((_, lost)) = self.runs.pop_first()
        {
            self.note(lost.number, lost.count, now, What::Unwatched);
        }
    }

    /// Messages that queues hold since before the broker was started are looked after, too. `held`: messages times queues that hold
    /// them.
    pub fn resume(&mut self, run: SequenceRun, number: u64, held: u64) {
        self.runs.insert(run.first.0, Watch { count: run.count, number, held });
    }

    /// Something happens to messages: told of those that are looked after.
    pub fn tell(&mut self, run: SequenceRun, now: Timestamp, what: impl Fn() -> What) {
        let (start, end) = (run.first.0, run.first.0 + run.count);
        let Self { runs, events } = self;
        for (first, watch) in overlapping(runs, start, end) {
            let from = first.max(start);
            let count = (first + watch.count).min(end) - from;
            push(events, watch.number + (from - first), count, now, what());
        }
    }

    /// A queue is done with messages: told, too, and those that no queue holds any more are looked after no longer.
    pub fn tell_last(&mut self, run: SequenceRun, now: Timestamp, what: impl Fn() -> What) {
        let (start, end) = (run.first.0, run.first.0 + run.count);
        let Self { runs, events } = self;
        let mut done = Vec::new();
        for (first, watch) in overlapping(runs, start, end) {
            let from = first.max(start);
            let count = (first + watch.count).min(end) - from;
            push(events, watch.number + (from - first), count, now, what());
            watch.held = watch.held.saturating_sub(count);
            if watch.held == 0 {
                done.push(first);
            }
        }
        done.iter().for_each(|first| {
            self.runs.remove(first);
        });
    }

    /// Something happened to messages that are not, or not yet, looked after.
    pub fn note(&mut self, number: u64, count: u64, now: Timestamp, what: What) {
        push(&mut self.events, number, count, now, what);
    }

    /// Messages with lower numbers have left the store: of what nobody can read nothing is told.
    pub fn forget_below(&mut self, number: u64) {
        while let Some(oldest) = self.runs.first_entry()
            && oldest.get().number + oldest.get().count <= number
        {
            oldest.remove();
        }
    }

    /// What happened since it was last asked; empty if nothing did.
    pub fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }
}

/// Watched runs that have a sequence of `start..end`.
fn overlapping(
    runs: &mut BTreeMap<u64, Watch>,
    start: u64,
    end: u64,
) -> impl Iterator<Item = (u64, &mut Watch)> {
    let before = runs.range(..=start).next_back().filter(|(first, watch)| *first + watch.count > start);
    let from = before.map_or(start, |(first, _)| *first);
    runs.range_mut(from..end.max(from)).map(|(first, watch)| (*first, watch))
}

fn push(events: &mut Vec<Event>, first: u64, count: u64, at: Timestamp, what: What) {
    // A batch has fewer messages than that.
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    events.push(Event { first, count, at, what });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BodySequence, QueueId};
    use crate::queue::Departure;

    fn run(first: u64, count: u64) -> SequenceRun {
        SequenceRun { first: BodySequence(first), count }
    }

    fn told(watches: &mut Watches) -> Vec<(u64, u32)> {
        watches.events().drain(..).map(|event| (event.first, event.count)).collect()
    }

    fn left() -> What {
        What::Left { queue: QueueId(1), departure: Departure::Accepted }
    }

    #[test]
    fn only_what_is_watched_is_told_and_by_its_number() {
        let now = Timestamp(1);
        let mut watches = Watches::default();
        watches.watch(run(10, 5), 100, 2, now);
        watches.watch(run(20, 1), 200, 1, now);
        for (happens_to, expect) in [
            (run(0, 10), vec![]),
            (run(0, 11), vec![(100, 1)]),
            (run(12, 2), vec![(102, 2)]),
            (run(14, 6), vec![(104, 1)]),
            (run(0, 100), vec![(100, 5), (200, 1)]),
            (run(15, 5), vec![]),
            (run(21, 9), vec![]),
        ] {
            watches.tell(happens_to, now, left);
            assert_eq!(told(&mut watches), expect, "{happens_to:?}");
        }
    }

    #[test]
    fn what_no_queue_holds_any_more_is_watched_no_longer() {
        let now = Timestamp(1);
        let mut watches = Watches::default();
        watches.watch(run(10, 2), 100, 2, now);
        watches.tell_last(run(10, 2), now, left);
        watches.tell_last(run(11, 1), now, left);
        assert!(!watches.is_empty(), "one queue holds one message");
        watches.tell_last(run(10, 1), now, left);
        assert!(watches.is_empty());
        assert_eq!(told(&mut watches), [(100, 2), (101, 1), (100, 1)]);
    }

    #[test]
    fn what_the_store_has_lost_is_watched_no_longer() {
        let mut watches = Watches::default();
        watches.watch(run(10, 2), 100, 1, Timestamp(1));
        watches.watch(run(12, 2), 102, 1, Timestamp(1));
        watches.forget_below(102);
        watches.tell(run(10, 4), Timestamp(1), left);
        assert_eq!(told(&mut watches), [(102, 2)]);
        watches.forget_below(u64::MAX);
        assert!(watches.is_empty());
    }

    #[test]
    fn the_oldest_give_way_and_it_is_told() {
        let mut watches = Watches::default();
        for sequence in 0..=WATCHED_RUNS_MAX as u64 {
            watches.watch(run(2 * sequence, 1), sequence, 1, Timestamp(1));
        }
        assert_eq!(watches.runs.len(), WATCHED_RUNS_MAX);
        assert!(matches!(&watches.events()[..], [Event { first: 0, what: What::Unwatched, .. }]));
    }
}
