//! How long confirms of one producer take.

use std::collections::VecDeque;
use std::sync::Arc;

use super::scoreboard::Scoreboard;
use super::stamp::Clock;
use crate::cli::failure::Failure;
use crate::client::{CloseReason, ConfirmError, Progress, Publisher};

/// What was sent when, and what is confirmed of it.
#[derive(Debug)]
pub(super) struct ConfirmTimes {
    publisher: Publisher,
    clock: Clock,
    board: Arc<Scoreboard>,
    sent: SentTimes,
    /// Messages up to this one have their fate.
    seen: u64,
    /// Of these, messages that are neither refused nor returned.
    confirmed: u64,
    /// Ages and counts of what a confirm brought; kept for its room.
    ages: Vec<(u64, u64)>,
}

impl ConfirmTimes {
    pub(super) fn new(publisher: Publisher, clock: Clock, board: Arc<Scoreboard>) -> Self {
        let sent = SentTimes::default();
        Self { publisher, clock, board, sent, seen: 0, confirmed: 0, ages: Vec::new() }
    }

    /// Messages up to `last` that were not told of are sent, or due, at this time.
    pub(super) fn push(&mut self, last: u64, at_ns: u64) {
        self.sent.push(last, at_ns);
    }

    /// Waits for one more confirm and notes it; nothing is lost if it is not waited for until the end. `false`: there will be none
    /// any more.
    pub(super) async fn note_next(&mut self) -> bool {
        match self.publisher.settled_beyond(self.seen).await {
            Ok(progress) => {
                self.note(progress);
                true
            }
            Err(ConfirmError::Closed(CloseReason::ByClient)) => false,
            Err(error) => {
                self.board.add_fatal(Failure::from(error).text());
                false
            }
        }
    }

    /// Notes what has come meanwhile.
    pub(super) fn catch_up(&mut self) {
        self.note(self.publisher.progress());
    }

    fn note(&mut self, progress: Progress) {
        let now_ns = self.clock.now_ns();
        self.ages.clear();
        self.sent.take(self.seen, progress.settled_through, now_ns, &mut self.ages);
        let good = progress.settled - progress.refused - progress.returned;
        self.board.add_confirmed(now_ns, good - self.confirmed, &self.ages);
        (self.seen, self.confirmed) = (progress.settled_through, good);
    }
}

/// When messages without a confirm were sent: entries of the last message with a time, and the time.
#[derive(Debug, Default)]
struct SentTimes(VecDeque<(u64, u64)>);

impl SentTimes {
    fn push(&mut self, last: u64, at_ns: u64) {
        self.0.push_back((last, at_ns));
    }

    /// Takes messages `seen + 1 ..= through` out, as ages at `now_ns` and how many had them.
    fn take(&mut self, seen: u64, through: u64, now_ns: u64, out: &mut Vec<(u64, u64)>) {
        let mut from = seen;
        while from < through
            && let Some(&(last, at_ns)) = self.0.front()
        {
            let to = last.min(through);
            out.push((now_ns.saturating_sub(at_ns), to - from));
            from = to;
            if last == to {
                self.0.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_the_batches_that_were_confirmed() {
        let mut sent = SentTimes::default();
        sent.push(10, 100);
        sent.push(30, 200);
        let mut ages = Vec::new();
        sent.take(0, 4, 1_000, &mut ages);
        assert_eq!(ages, [(900, 4)]);
        ages.clear();
        sent.take(4, 25, 1_000, &mut ages);
        assert_eq!(ages, [(900, 6), (800, 15)]);
        ages.clear();
        sent.take(25, 30, 1_200, &mut ages);
        assert_eq!(ages, [(1_000, 5)]);
        assert!(sent.0.is_empty());
    }
}
