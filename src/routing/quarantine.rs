//! The queue that an exchange gives what it refuses, and how much of that had nowhere to go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::model::QueueName;

/// An exchange's quarantine queue, which may or may not be there.
#[derive(Debug)]
pub struct Quarantine {
    queue: QueueName,
    homeless: AtomicU64,
    /// Whether somebody was told that the queue is not there.
    told: AtomicBool,
}

impl Quarantine {
    /// One of which nothing is counted yet.
    pub fn new(queue: QueueName) -> Self {
        Self { queue, homeless: AtomicU64::new(0), told: AtomicBool::new(false) }
    }

    /// The queue's name.
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// Counts copies for which there was no queue. True the first time since there was one: then somebody is to be told.
    pub fn count_homeless(&self, copies: u64) -> bool {
        self.homeless.fetch_add(copies, Ordering::Relaxed);
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// The queue is there.
    pub fn note_found(&self) {
        self.told.store(false, Ordering::Relaxed);
    }

    /// Copies for which there was no queue, since the exchange was declared or altered or the broker was started.
    pub fn homeless(&self) -> u64 {
        self.homeless.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whoever_loses_a_quarantine_queue_again_is_told_again_and_only_then() {
        let quarantine = Quarantine::new(QueueName::new("odd").unwrap());
        assert!(quarantine.count_homeless(2));
        assert!(!quarantine.count_homeless(1));
        quarantine.note_found();
        assert!(quarantine.count_homeless(1));
        assert_eq!(quarantine.homeless(), 4);
    }
}
