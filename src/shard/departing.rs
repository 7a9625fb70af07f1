//! Departures that no consumer asked for, for whoever wants to be told: summed by queue and reason until somebody looks at them.
//!
//! Nothing is noted, and nothing but a flag is looked at, while nobody wants to know.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::Sender;

use super::shard::Shard;
use crate::model::{BodySequence, QueueId};
use crate::queue::{Departure, QueueCommand, SequenceRuns};

/// Messages that left a queue for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// How many.
    pub messages: u64,
    /// How many of them are dead letters, and stay until they are stored elsewhere.
    pub dead_letters: u64,
    /// The first of them by number.
    pub first: BodySequence,
    /// The last.
    pub last: BodySequence,
}

/// By queue and reason.
pub type DepartedByQueue = BTreeMap<(QueueId, Departure), Departed>;

/// Where shards note departures. It has one entry a queue and reason at most.
#[derive(Debug, Default)]
pub struct DepartureBoard {
    is_wanted: AtomicBool,
    noted: Mutex<DepartedByQueue>,
}

impl DepartureBoard {
    /// Whether somebody wants to know from now on.
    pub fn want(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
        if !is_wanted {
            self.take();
        }
    }

    /// All that was noted since the last time.
    pub fn take(&self) -> DepartedByQueue {
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, queue: QueueId, why: Departure, more: Departed) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let all = noted.entry((queue, why)).or_insert(Departed { messages: 0, dead_letters: 0, ..more });
        all.messages += more.messages;
        all.dead_letters += more.dead_letters;
        all.first = all.first.min(more.first);
        all.last = all.last.max(more.last);
    }
}

/// The board, and how whoever looks at it is woken.
#[derive(Debug, Clone)]
pub struct DepartureNotices {
    /// The board.
    pub board: Arc<DepartureBoard>,
    /// Full while there is something to look at.
    pub wake: Sender<()>,
}

impl Shard {
    /// Notes departures from now on, as long as somebody wants to know of them.
    pub fn note_departures(&mut self, notices: DepartureNotices) {
        self.departure_notices = Some(notices);
    }

    /// Something is recorded of messages of a queue.
    #[inline]
    pub(super) fn note_departure(&self, queue: QueueId, command: &QueueCommand) {
        let Some(DepartureNotices { board, wake }) = &self.departure_notices else { return };
        if !board.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let (why, runs, are_dead_letters) = match command {
            QueueCommand::Settle(why, runs) => (*why, runs, false),
            QueueCommand::DeadLetter(why, runs) => (*why, runs, true),
            _ => return,
        };
        let Some(departed) = departed(why, runs, are_dead_letters) else { return };
        board.note(queue, why, departed);
        // If it is full, whoever looks is woken already; if it is closed, the broker stops.
        let _ = wake.try_send(());
    }
}

/// `None`: consumers wanted that.
fn departed(why: Departure, runs: &SequenceRuns, are_dead_letters: bool) -> Option<Departed> {
    if matches!(why, Departure::Accepted | Departure::NoAck) {
        return None;
    }
    let (first, last) = (runs.runs().first()?, runs.runs().last()?);
    let messages = runs.runs().iter().map(|run| run.count).sum();
    Some(Departed {
        messages,
        dead_letters: if are_dead_letters { messages } else { 0 },
        first: first.first,
        last: BodySequence(last.sequences().end - 1),
    })
}
