//! Messages that left memory and are wanted again: who waits for which, and what is read when.
//!
//! Queues that need the same extent wait for one read of it. What was read stays until the queues that are in it have
//! gone on, and only then is the room used for others. So of many queues that are far behind at once each byte is read
//! about once, in little memory: a queue that finds no room waits for its turn and does not push out what another one is
//! about to deliver.

use std::collections::{BTreeMap, VecDeque};

use super::bodies::{Bodies, ColdExtent};
use crate::model::{QueueId, Timestamp};
use crate::storage::DiskError;

/// Reads under way at the same time: while one waits for the disk, another one's messages are handed out.
const READS_MAX: usize = 2;
/// Bytes that one read brings back, unless a single extent has more.
const READ_AHEAD_BYTES: u64 = 1024 * 1024;
/// Bytes that were read back and are held, be it for queues or on their way to sockets.
const READ_BACK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A queue that has left what was read for it alone for so long, in milliseconds, makes room for others: its consumers are
/// slow.
pub(super) const LEFT_ALONE_MILLIS: u64 = 1000;
/// How often messages are read before it is given up, and how long it waits in between, in milliseconds.
const READ_TRIES_MAX: u32 = 5;
const RETRY_MILLIS: u64 = 100;
/// If no read began for so long, in milliseconds, because slow sockets hold all the room, one begins without: the other
/// queues are to go on. What the sockets hold is bounded by the windows of their consumers.
const PATIENCE_MILLIS: u64 = 100;

#[derive(Debug)]
pub(super) struct Reading {
    /// Who waits, by the message that each needs next.
    waiting: BTreeMap<u64, Vec<Waiter>>,
    /// These messages in the order in which they were asked for; some may be there by now.
    order: VecDeque<u64>,
    /// Extents that are being read: where each begins, and its bytes.
    under_way: BTreeMap<u64, u64>,
    reads: usize,
    /// When the last read began.
    began_at: Timestamp,
    /// No read begins for want of room.
    short_of_room: bool,
    /// Extents whose reads failed: where each begins, and how often in a row.
    failures: BTreeMap<u64, u32>,
    /// No read begins before, since one has failed.
    not_before: Timestamp,
    /// One is to begin then.
    is_to_retry: bool,
    bytes_max: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            under_way: BTreeMap::new(),
            reads: 0,
            began_at: Timestamp::default(),
            short_of_room: false,
            failures: BTreeMap::new(),
            not_before: Timestamp::default(),
            is_to_retry: false,
            bytes_max: READ_BACK_BYTES_MAX,
        }
    }
}

/// Who waits for a message that is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A queue that is about to deliver it.
    Queue(QueueId),
    /// Somebody who looks at it: the number of the look.
    Browse(u64),
}

/// What to do for those who wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These are in memory, or nobody needs them any more: they can go on.
    Resume(Vec<Waiter>),
    /// To be read.
    Read(Vec<ColdExtent>),
}

impl Reading {
    /// Somebody needs this message next, and waits for one message at a time.
    pub(super) fn wait(&mut self, who: Waiter, sequence: u64) {
        let waiters = self.waiting.entry(sequence).or_default();
        if waiters.is_empty() {
            self.order.push_back(sequence);
        }
        waiters.push(who);
    }

    /// What comes next; `None` until something changes, or until [`wakes_in`](Self::wakes_in).
    pub(super) fn next_step(&mut self, now: Timestamp, bodies: &mut Bodies) -> Option<Step> {
        self.short_of_room = false;
        self.is_to_retry = now < self.not_before && !self.order.is_empty();
        while self.reads < READS_MAX && !self.is_to_retry {
            let sequence = *self.order.front()?;
            let Some(waiters) = self.waiting.get(&sequence) else {
                self.order.pop_front();
                continue;
            };
            // Who browses asks for the next page when it likes; nothing is kept for it meanwhile.
            let is_queue = waiters.iter().any(|waiter| matches!(waiter, Waiter::Queue(_)));
            let ahead_bytes = if is_queue { self.ahead_bytes() } else { 0 };
            let mut extents = bodies.cold_from(sequence, ahead_bytes);
            let Some(first) = extents.first() else {
                self.order.pop_front();
                return self.waiting.remove(&sequence).map(Step::Resume);
            };
            if self.under_way.contains_key(&first.first) {
                // It is resumed when that read ends.
                self.order.pop_front();
                continue;
            }
            let fresh = extents.iter().take_while(|extent| !self.under_way.contains_key(&extent.first));
            extents.truncate(fresh.count());
            if !self.has_room(&mut extents, now, bodies) {
                self.short_of_room = true;
                return None;
            }
            self.order.pop_front();
            self.under_way.extend(extents.iter().map(|extent| (extent.first, extent.bytes)));
            self.reads += 1;
            self.began_at = now;
            return Some(Step::Read(extents));
        }
        None
    }

    /// Whether there is room for these, or for the first of them alone, which then is all that is left.
    fn has_room(&self, extents: &mut Vec<ColdExtent>, now: Timestamp, bodies: &mut Bodies) -> bool {
        let under_way = self.under_way.values().sum::<u64>() as usize;
        for wanted in [extents.len(), 1] {
            extents.truncate(wanted);
            let bytes = extents.iter().map(|extent| extent.bytes).sum::<u64>() as usize;
            if bodies.make_room((under_way + bytes, self.bytes_max), now) {
                return true;
            }
        }
        self.reads == 0 && (bodies.held_back() == 0 || now.0 >= self.began_at.0 + PATIENCE_MILLIS)
    }

    /// Many queues that are behind share the room: then each gets an extent at a time.
    fn ahead_bytes(&self) -> u64 {
        let share = self.bytes_max as u64 / 4 / self.waiting.len().max(1) as u64;
        share.min(READ_AHEAD_BYTES)
    }

    /// One read has ended; what it brought comes with [`arrived`](Self::arrived).
    pub(super) fn ended(&mut self) {
        self.reads = self.reads.saturating_sub(1);
    }

    /// The disk did not give an extent; whether it is read again, after a while. Without files to open that is for as long
    /// as it takes.
    pub(super) fn tries_again(&mut self, extent: &ColdExtent, error: &DiskError, now: Timestamp) -> bool {
        let failures = self.failures.entry(extent.first).or_default();
        *failures += 1;
        if *failures >= READ_TRIES_MAX && !error.is_out_of_files() {
            return false;
        }
        if *failures == 1 {
            tracing::warn!(first = extent.first, end = extent.end, %error, "a read of messages is tried again");
        }
        self.not_before = Timestamp(now.0 + RETRY_MILLIS);
        self.under_way.remove(&extent.first);
        let waiting = self.waiting.range(extent.first..extent.end).map(|(sequence, _)| *sequence);
        self.order.extend(waiting);
        true
    }

    /// An extent came, or will not; returns those who waited for messages of it, oldest message first.
    pub(super) fn arrived(&mut self, extent: &ColdExtent) -> Vec<Waiter> {
        self.under_way.remove(&extent.first);
        self.failures.remove(&extent.first);
        let sequences: Vec<u64> =
            self.waiting.range(extent.first..extent.end).map(|(sequence, _)| *sequence).collect();
        sequences.into_iter().filter_map(|sequence| self.waiting.remove(&sequence)).flatten().collect()
    }

    /// In how many milliseconds a read may begin even if nothing happens.
    pub(super) fn wakes_in(&self) -> Option<u64> {
        self.short_of_room.then_some(PATIENCE_MILLIS).or(self.is_to_retry.then_some(RETRY_MILLIS))
    }

    #[cfg(test)]
    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }
}
