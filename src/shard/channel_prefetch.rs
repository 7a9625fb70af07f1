//! The bound that all consumers of a channel share, on however many shards their queues are.
//!
//! Shards ask it when they hand messages out, so what it has is known at that moment, and priorities and turns of a queue's
//! consumers are as exact as without it. It is the one thing that they share, under a lock that nobody holds for longer than it takes
//! to count, and that only those take who serve such a channel.
//!
//! ```text
//!            exchange: so many came back, so many are wanted
//!   queue ───────────────────────────────────────────────────▶ granted, up to the limit
//!     ▲                                                          │ not all
//!     │            there is room: the first is woken             ▼
//!     └───────────────────────────────────────────────────── the line
//! ```
//!
//! Room goes to those first who wait, in their order, and each gets its part of it: a queue that is never empty takes no more than
//! others. Whoever is woken and wants nothing any more leaves the line, and the next one is woken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::command::Command;
use super::task::ShardHandle;
use crate::model::QueueId;

/// A bound on what the consumers of a channel have and have not settled, all together. The line of those who wait for room holds
/// each queue once that its consumers consume.
#[derive(Debug, Default)]
pub struct ChannelPrefetch {
    room: Mutex<Room<ShardHandle>>,
}

impl ChannelPrefetch {
    /// A bound that lets nothing go out until it is set.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on it is this many messages; 0: no bound. What is out beyond it stays out.
    pub fn set(&self, prefetch: u32) {
        let limit = if prefetch == 0 { u64::MAX } else { u64::from(prefetch) };
        self.change(|room| {
            room.limit = limit;
            room.wake_first()
        });
    }

    /// What a queue would be granted now, if it wanted as much as there is.
    pub(super) fn free_for(&self, queue: QueueId) -> u64 {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).free_for(queue)
    }

    /// Messages that count.
    #[cfg(test)]
    pub(super) fn out(&self) -> u64 {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).out
    }

    fn exchange(&self, queue: QueueId, home: &ShardHandle, exchange: Exchange) -> u64 {
        let mut granted = 0;
        self.change(|room| {
            granted = room.exchange(queue, home, exchange);
            room.wake_first()
        });
        granted
    }

    fn change(&self, change: impl FnOnce(&mut Room<ShardHandle>) -> Option<(QueueId, ShardHandle)>) {
        // Counting does not panic, and leaves valid numbers behind.
        let woken = change(&mut self.room.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some((queue, home)) = woken {
            home.send(Command::LookAgain { queue });
        }
    }
}

/// The bound as consumers of one shard have it.
#[derive(Debug, Clone)]
pub struct SharedPrefetch {
    /// The bound.
    pub prefetch: Arc<ChannelPrefetch>,
    /// Their shard.
    pub home: ShardHandle,
}

/// What consumers of a channel have of one queue, and what of that the bound knows of. All of it is given back in the end.
#[derive(Debug)]
pub(super) struct Sharing {
    shared: SharedPrefetch,
    queue: QueueId,
    /// Messages that count.
    counted: u64,
    /// It is in the line.
    waits: bool,
}

impl Sharing {
    pub(super) fn new(shared: SharedPrefetch, queue: QueueId) -> Self {
        Self { shared, queue, counted: 0, waits: false }
    }

    pub(super) fn is_of(&self, shared: &SharedPrefetch) -> bool {
        Arc::ptr_eq(&self.shared.prefetch, &shared.prefetch)
    }

    /// Tells how many messages the consumers have, which is what counts from then on, and asks for so many more: how many of those
    /// it is granted.
    pub(super) fn exchange(&mut self, unsettled: u64, wanted: u64) -> u64 {
        if self.counted == unsettled && wanted == 0 && !self.waits {
            return 0;
        }
        let exchange = Exchange {
            back: self.counted.saturating_sub(unsettled),
            more: unsettled.saturating_sub(self.counted),
            wanted,
        };
        let granted = self.shared.prefetch.exchange(self.queue, &self.shared.home, exchange);
        self.counted = unsettled + granted;
        self.waits = granted < wanted;
        granted
    }

    /// What it would be granted now, if it wanted as much as there is.
    pub(super) fn free(&self) -> u64 {
        self.shared.prefetch.free_for(self.queue)
    }

    /// Tells how many messages the consumers have, if the bound does not know; then what was wanted is wanted no more.
    pub(super) fn settle_up(&mut self, unsettled: u64) {
        if self.counted != unsettled {
            self.exchange(unsettled, 0);
        }
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.exchange(0, 0);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Exchange {
    /// Messages that count no more.
    back: u64,
    /// Messages that count from now on, whatever the limit.
    more: u64,
    /// Messages that are wanted.
    wanted: u64,
}

/// How much is out, and who waits. Knows queues and where they are, and no message.
#[derive(Debug)]
struct Room<H> {
    limit: u64,
    out: u64,
    line: VecDeque<Waiter<H>>,
}

#[derive(Debug)]
struct Waiter<H> {
    queue: QueueId,
    home: H,
    /// It was told that there is room, and has not asked since.
    is_woken: bool,
}

impl<H> Default for Room<H> {
    fn default() -> Self {
        Self { limit: 0, out: 0, line: VecDeque::new() }
    }
}

impl<H: Clone> Room<H> {
    fn free(&self) -> u64 {
        self.limit.saturating_sub(self.out)
    }

    fn free_for(&self, queue: QueueId) -> u64 {
        match self.line.front() {
            Some(first) if first.queue != queue => 0,
            _ => self.free(),
        }
    }

    /// A queue says what has changed and what it wants; returns what it is granted. If that is less, it is in the line.
    fn exchange(&mut self, queue: QueueId, home: &H, exchange: Exchange) -> u64 {
        let Exchange { back, more, wanted } = exchange;
        self.out = (self.out + more).saturating_sub(back);
        let place = self.line.iter().position(|waiter| waiter.queue == queue);
        let waiter = || Waiter { queue, home: home.clone(), is_woken: false };
        match place {
            _ if wanted == 0 => {
                place.map(|place| self.line.remove(place));
                0
            }
            Some(1..) => 0,
            None if !self.line.is_empty() => {
                self.line.push_back(waiter());
                0
            }
            Some(0) | None => {
                self.line.pop_front();
                let part = self.free().div_ceil(self.line.len() as u64 + 1);
                let granted = wanted.min(part);
                self.out += granted;
                match granted {
                    0 => self.line.push_front(waiter()),
                    _ if granted < wanted => self.line.push_back(waiter()),
                    _ => {}
                }
                granted
            }
        }
    }

    /// The first in the line, if there is room for it and it does not know.
    fn wake_first(&mut self) -> Option<(QueueId, H)> {
        let has_room = self.free() > 0;
        let first = self.line.front_mut().filter(|first| has_room && !first.is_woken)?;
        first.is_woken = true;
        Some((first.queue, first.home.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: QueueId = QueueId(1);
    const TWO: QueueId = QueueId(2);
    const THREE: QueueId = QueueId(3);

    fn room(limit: u64) -> Room<()> {
        Room { limit, ..Room::default() }
    }

    impl Room<()> {
        fn wants(&mut self, queue: QueueId, wanted: u64) -> u64 {
            self.exchange(queue, &(), Exchange { wanted, ..Exchange::default() })
        }

        fn gives(&mut self, queue: QueueId, back: u64, wanted: u64) -> u64 {
            self.exchange(queue, &(), Exchange { back, wanted, more: 0 })
        }

        fn wakes(&mut self) -> Option<QueueId> {
            self.wake_first().map(|(queue, ())| queue)
        }
    }

    #[test]
    fn whoever_comes_first_may_have_all_of_it_and_then_the_line_counts() {
        let mut room = room(3);
        assert_eq!(room.wants(ONE, 9), 3);
        assert_eq!(room.wants(TWO, 9), 0);
        assert_eq!(room.wakes(), None, "there is no room");
        // The first in the line is the one that gives back: it is granted that at once, and goes behind the other.
        assert_eq!(room.gives(ONE, 1, 9), 1);
        assert_eq!(room.gives(ONE, 1, 9), 0);
        assert_eq!((room.wakes(), room.wakes()), (Some(TWO), None), "it is told once");
        assert_eq!(room.wants(TWO, 9), 1);
        assert_eq!(room.gives(TWO, 1, 9), 0);
        assert_eq!((room.wakes(), room.wants(ONE, 9)), (Some(ONE), 1));
    }

    #[test]
    fn those_who_wait_have_equal_parts() {
        let mut room = room(0);
        for queue in [ONE, TWO, THREE] {
            assert_eq!(room.wants(queue, 100), 0);
        }
        room.limit = 7;
        assert_eq!((room.wakes(), room.wants(ONE, 100)), (Some(ONE), 3));
        assert_eq!((room.wakes(), room.wants(TWO, 1)), (Some(TWO), 1), "it wants no more");
        assert_eq!((room.wakes(), room.wants(THREE, 100)), (Some(THREE), 2));
        assert_eq!((room.wakes(), room.wants(ONE, 100)), (Some(ONE), 1), "the rest goes around");
        assert_eq!((room.free(), room.line.len()), (0, 2));
    }

    #[test]
    fn whoever_wants_nothing_any_more_leaves_the_line_to_the_others() {
        let mut room = room(1);
        assert_eq!(room.wants(ONE, 1), 1);
        assert_eq!((room.wants(TWO, 1), room.wants(THREE, 1)), (0, 0));
        assert_eq!((room.gives(ONE, 1, 0), room.wakes()), (0, Some(TWO)));
        assert_eq!((room.wants(TWO, 0), room.wakes()), (0, Some(THREE)));
        assert_eq!((room.free_for(ONE), room.free_for(THREE)), (0, 1));
        assert_eq!((room.wants(THREE, 1), room.line.len()), (1, 0));
    }

    #[test]
    fn what_is_out_counts_beyond_the_limit_too() {
        let mut room = room(2);
        room.exchange(ONE, &(), Exchange { more: 5, ..Exchange::default() });
        assert_eq!((room.wants(TWO, 1), room.gives(ONE, 3, 1)), (0, 0));
        assert_eq!((room.gives(ONE, 1, 1), room.wakes()), (0, Some(TWO)));
        assert_eq!((room.wants(TWO, 1), room.out), (1, 2));
        room.limit = 1;
        assert_eq!((room.gives(TWO, 1, 1), room.free()), (0, 0), "it was lowered");
    }
}
