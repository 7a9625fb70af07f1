//! What clients saw, and what a broker may do after that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A message: its publisher and its number, which is given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MessageId {
    pub(super) publisher: u32,
    pub(super) number: u64,
}

impl MessageId {
    /// Its body, which says which message it is; the length differs from one to the next.
    pub(super) fn body(self) -> Vec<u8> {
        let Self { publisher, number } = self;
        let mut body = format!("{publisher} {number} ").into_bytes();
        let fill = match number % 64 {
            0 => 40_000,
            other => other as usize * 8,
        };
        let start = body.len();
        body.resize(start + fill, number as u8);
        body
    }

    fn of(body: &[u8]) -> Option<Self> {
        let mut parts = body.splitn(3, |byte| *byte == b' ');
        let mut part = || std::str::from_utf8(parts.next()?).ok();
        Some(Self { publisher: part()?.parse().ok()?, number: part()?.parse().ok()? })
    }
}

/// What is known of a message in a queue.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The publisher knows that the disk has it.
    confirmed: bool,
    delivered: bool,
    /// A consumer has asked to settle it.
    accept_sent: bool,
    /// The consumer knows that the disk has that.
    accepted: bool,
}

/// All that clients saw in the life of a data directory.
pub(super) struct Oracle {
    queues: Mutex<BTreeMap<&'static str, BTreeMap<MessageId, Known>>>,
    violations: Mutex<Vec<String>>,
    /// Confirms and durable settlements so far.
    events: watch::Sender<u64>,
}

/// What a run has shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) published: usize,
    pub(super) confirmed: usize,
    pub(super) accepted: usize,
}

impl Oracle {
    pub(super) fn new(queues: &[&'static str]) -> Self {
        let queues = queues.iter().map(|queue| (*queue, BTreeMap::new())).collect();
        Self { queues: Mutex::new(queues), violations: Mutex::default(), events: watch::channel(0).0 }
    }

    /// A message is about to be published.
    pub(super) fn publishes(&self, id: MessageId, queues: &[&'static str]) {
        let mut known = self.queues();
        for queue in queues {
            known.entry(queue).or_default().insert(id, Known::default());
        }
    }

    pub(super) fn confirmed(&self, id: MessageId, queues: &[&'static str]) {
        let mut known = self.queues();
        for queue in queues {
            known.entry(queue).or_default().entry(id).or_default().confirmed = true;
        }
        drop(known);
        self.events.send_modify(|count| *count += 1);
    }

    /// `last` is what the same consumer got of each publisher for the first time.
    pub(super) fn delivered(
        &self,
        queue: &'static str,
        body: &[u8],
        redelivered: bool,
        last: &mut BTreeMap<u32, u64>,
    ) -> Option<MessageId> {
        let Some(id) = MessageId::of(body).filter(|id| id.body() == body) else {
            self.violated(format!("queue {queue} delivered {} bytes that nobody published", body.len()));
            return None;
        };
        let mut queues = self.queues();
        let Some(known) = queues.entry(queue).or_default().get_mut(&id) else {
            self.violated(format!("queue {queue} delivered {id:?}, which was not published to it"));
            return None;
        };
        if known.accepted {
            self.violated(format!("queue {queue} delivered {id:?} again, which was settled durably"));
        }
        if known.delivered && !redelivered {
            self.violated(format!("queue {queue} delivered {id:?} a second time without saying so"));
        }
        known.delivered = true;
        if !redelivered {
            let before = last.insert(id.publisher, id.number);
            if before.is_some_and(|before| before > id.number) {
                self.violated(format!("queue {queue} delivered {id:?} after {before:?}"));
            }
        }
        Some(id)
    }

    pub(super) fn accept_sent(&self, queue: &'static str, id: MessageId) {
        self.queues().entry(queue).or_default().entry(id).or_default().accept_sent = true;
    }

    pub(super) fn accepted(&self, queue: &'static str, id: MessageId) {
        self.queues().entry(queue).or_default().entry(id).or_default().accepted = true;
        self.events.send_modify(|count| *count += 1);
    }

    /// Fewest and most ready messages that a queue may have after a restart.
    pub(super) fn bounds(&self, queue: &'static str) -> (u64, u64) {
        let queues = self.queues();
        let count = |is: fn(&Known) -> bool| {
            queues.get(queue).map_or(0, |known| known.values().filter(|known| is(known)).count() as u64)
        };
        (count(|known| known.confirmed && !known.accept_sent), count(|known| !known.accepted))
    }

    /// All queues are empty, and everything that was in them came to a consumer.
    pub(super) fn drained(&self) {
        for (queue, known) in self.queues().iter() {
            for (id, known) in known {
                if known.confirmed && !known.accept_sent {
                    self.violated(format!("queue {queue} lost {id:?}, which was confirmed: {known:?}"));
                }
            }
        }
    }

    pub(super) fn violated(&self, what: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// What the broker did and must not do, at most the first ten; nothing if all is well.
    pub(super) fn verdict(&self) -> Vec<String> {
        let violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        violations.iter().take(10).cloned().collect()
    }

    pub(super) fn events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for known in self.queues().values().flat_map(BTreeMap::values) {
            counts.published += 1;
            counts.confirmed += usize::from(known.confirmed);
            counts.accepted += usize::from(known.accepted);
        }
        counts
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<&'static str, BTreeMap<MessageId, Known>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
