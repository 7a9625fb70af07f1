//! How often messages came back, on its way to the log.
//!
//! A message that comes back is waiting again, as it would be after a crash: nothing has to be recorded for that. Its count
//! is recorded with whatever is recorded next, and by itself after a while; so a message that comes back a thousand times a
//! second costs no more than one that does so now and then. A crash may take back the counts of that while.

use std::collections::BTreeSet;

use super::shard::Shard;
use crate::model::{QueueId, Timestamp};

/// Counts are recorded after so many milliseconds if nothing else is.
pub(super) const RECORD_AFTER_MILLIS: u64 = 5000;

/// Queues with counts that are not recorded.
#[derive(Debug, Default)]
pub(super) struct Recounts {
    queues: BTreeSet<QueueId>,
    due: Timestamp,
}

impl Recounts {
    /// Messages of a queue came back.
    pub(super) fn note(&mut self, queue: QueueId, now: Timestamp) {
        if self.queues.is_empty() {
            self.due = Timestamp(now.0 + RECORD_AFTER_MILLIS);
        }
        self.queues.insert(queue);
    }

    /// In how many milliseconds they are to be recorded.
    pub(super) fn due_in(&self, now: Timestamp) -> Option<u64> {
        // Once it is time they wait for the log, which tells when it has moved on.
        (!self.queues.is_empty() && self.due > now).then(|| self.due.0 - now.0)
    }

    /// They are to be recorded now.
    pub(super) fn hurry(&mut self) {
        self.due = Timestamp::default();
    }
}

impl Shard {
    /// Adds to the batch how often messages came back, if there is a batch or it is time for one.
    pub(super) fn record_counts(&mut self) {
        if self.recounts.queues.is_empty() || (self.commits.batch.is_empty() && self.now < self.recounts.due)
        {
            return;
        }
        for queue in std::mem::take(&mut self.recounts.queues) {
            if let Some(slot) = self.queues.get_mut(&queue)
                && let Some(counts) = slot.queue.counts_to_record()
            {
                self.commits.batch.begin(self.now);
                self.commits.batch.command(queue, &counts);
            }
        }
    }
}
