//! A queue in its shard, with those who use it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::channel_prefetch::Sharing;
use super::command::Outlet;
use super::halt::Halt;
use crate::journey::Taker;
use crate::model::{BodySequence, Timestamp};
use crate::queue::{
    ChannelKey, ConsumerKey, Departure, Effect, Queue, QueueCommand, QueueOptions, SequenceRun, SequenceRuns,
};

/// A queue, and those who use it.
pub(super) struct Slot {
    pub(super) queue: Queue,
    /// The log has what the queue is. Versions before did not tell it.
    pub(super) declared: bool,
    /// It is among the queues that may have something to deliver.
    pub(super) dirty: bool,
    pub(super) attached: Attached,
}

/// What there is around a queue only as long as somebody is connected, reads, or is about to delete it. No batch and no
/// checkpoint speaks of it, and after a restart there is nothing of it.
#[derive(Default)]
pub(super) struct Attached {
    /// The queue is about to be deleted and takes no more consumers.
    pub(super) sealed: bool,
    /// Its last consumer has left, and that was told: it is about to be deleted, unless another comes first.
    pub(super) unused: bool,
    /// Where its consumers' deliveries go.
    pub(super) outlets: Vec<(ConsumerKey, Outlet)>,
    /// Who they are, for stories of messages.
    pub(super) takers: Vec<Arc<Taker>>,
    /// Channels of its consumers that have a bound for all of theirs.
    pub(super) sharing: BTreeMap<ChannelKey, Sharing>,
    /// Effects that wait, in order, for bodies to be read back.
    pub(super) stalled: VecDeque<Effect>,
    /// It waits for one of them.
    pub(super) loading: bool,
    /// The extent that was read back from which it delivered last.
    pub(super) reads_in: Option<u64>,
    /// Single requests that are not answered yet, in order: there are messages, but they wait for bodies or for the
    /// delivery mark.
    pub(super) gets: VecDeque<(ConsumerKey, Outlet)>,
    /// Consumers whose last deliveries are among the stalled ones.
    pub(super) cancelled: Vec<(ConsumerKey, Outlet)>,
    /// Until then its consumers count as too slow to be waited for.
    pub(super) slow_until: Timestamp,
    /// It was told that it has dead letters, and nobody has looked at them since.
    pub(super) tells_of_dead_letters: bool,
    /// It is looked at for how long its consumers have had what they have.
    pub(super) has_leases: bool,
    /// Why it hands out nothing.
    pub(super) halted: Option<Halt>,
}

impl Slot {
    /// A queue of which the log does not say what it is.
    pub(super) fn undeclared(queue: Queue) -> Self {
        Self { declared: false, ..Self::of(queue) }
    }

    pub(super) fn new(options: QueueOptions) -> Self {
        Self::of(Queue::new(options))
    }

    pub(super) fn of(queue: Queue) -> Self {
        Self { queue, declared: true, dirty: false, attached: Attached::default() }
    }

    /// What waits to be read for one consumer, or for all, was never on its way. Returns the readers of single messages
    /// that are to be told, once for each message.
    pub(super) fn take_back(&mut self, of: Option<ConsumerKey>) -> Vec<ConsumerKey> {
        let (mut readers, mut taken) = (Vec::new(), Vec::new());
        let queue = &mut self.queue;
        self.attached.stalled.retain(|effect| match effect {
            Effect::Deliver { consumer, run, first_tag, .. } if of.is_none_or(|of| of == *consumer) => {
                queue.take_back(*consumer, *first_tag, *run);
                taken.push(*run);
                readers.extend((!consumer.is_consumer()).then_some(*consumer));
                false
            }
            _ => true,
        });
        taken.sort_unstable_by_key(|run| run.first);
        // Messages that need no acknowledgement are not settled by having been taken back.
        self.attached.stalled.retain_mut(|effect| match effect {
            Effect::Append(QueueCommand::Settle(Departure::NoAck, runs)) => {
                *runs = without(runs, &taken);
                !runs.is_empty()
            }
            _ => true,
        });
        readers
    }

    /// Ends all that are consumers in the full sense, and returns those that did not ask for it.
    pub(super) fn end_consumers(&mut self, effects: &mut Vec<Effect>) -> Vec<(ConsumerKey, Outlet)> {
        let keys: Vec<ConsumerKey> = self.queue.live_consumers().collect();
        keys.iter().for_each(|key| self.queue.cancel(*key, effects));
        self.attached.outlets.iter().filter(|(key, _)| keys.contains(key)).cloned().collect()
    }
}

/// The sequences that are in none of `taken`, which are sorted and do not overlap.
fn without(runs: &SequenceRuns, taken: &[SequenceRun]) -> SequenceRuns {
    let is_taken = |sequence: u64| {
        let next = taken.partition_point(|run| run.first.0 <= sequence);
        next.checked_sub(1).is_some_and(|at| sequence - taken[at].first.0 < taken[at].count)
    };
    let mut rest = SequenceRuns::default();
    runs.sequences()
        .filter(|sequence| !is_taken(*sequence))
        .for_each(|sequence| rest.push(BodySequence(sequence)));
    rest
}
