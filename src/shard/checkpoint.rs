//! A shard as a checkpoint holds it: where its messages are and which queue holds which of them; never a message.
//!
//! ```text
//! state  = version (1 byte), next body sequence, extents n, n x extent, times, queues n,
//!          n x (queue, what it is, its state, which of its messages expire, which of them are held back until when)
//! extent = gap to the end of the extent before, messages, gap to the last batch of the extent before, batches - 1,
//!          bytes of messages, queues x messages that needed it at first
//! times  = marks n, n x (sequences since the mark before, milliseconds since it)
//! expire = messages n; unless that is 0: the earliest time, n x (gap to the sequence after the one before,
//!          milliseconds after that time); the same for those that are held back
//! ```
//!
//! All numbers are protobuf varints. How a queue's state is written stands in `src/queue`, and what it is as in the log
//! (`operation.rs`). Version 1 did not tell that; versions 1 and 2 told sizes of 16 KiB and more in steps of 16 KiB; versions
//! before 4 did not tell when messages came. Version 5 is written where messages expire that say so themselves, and version 6 where
//! messages are held back; versions before do not tell which.

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use super::batch::BatchBuilder;
use super::bodies::{Batches, Bodies, Extent, Held};
use super::delays::Delays;
use super::expirations::Expirations;
use super::fault::StateFault;
use super::moments::{decode_moments, encode_moments};
use super::operation::{decode_options, encode_options};
use super::recovery::RECOVERED;
use super::shard::Shard;
use super::slot::Slot;
use super::times::Times;
use crate::model::{Bug, QueueId, planted};
use crate::queue::{Queue, SEQUENCE_MAX};
use crate::storage::LogIndex;

const VERSION: u8 = 6;
/// The same where no message is held back: programs read it that know none.
const VERSION_WITHOUT_DELAYS: u8 = 5;
/// The same where besides no message expires that says so itself.
const VERSION_WITHOUT_EXPIRATIONS: u8 = 4;
/// The first one with times.
const VERSION_TIMED: u8 = 4;
/// The first one with what queues are.
const VERSION_DECLARED: u8 = 2;
/// The first one.
const VERSION_MIN: u8 = 1;

impl Shard {
    /// What the shard is, without its consumers. Everything it knows must have been handed to the log.
    pub(super) fn state(&self) -> Vec<Bytes> {
        let version = match (self.expirations.is_empty(), self.delays.is_empty()) {
            (_, false) => VERSION,
            (false, true) => VERSION_WITHOUT_DELAYS,
            (true, true) => VERSION_WITHOUT_EXPIRATIONS,
        };
        let mut out = vec![version];
        encode_varint(self.commits.batch.next_body().0, &mut out);
        self.bodies.encode(&mut out);
        self.times.encode(&mut out);
        let mut queues: Vec<QueueId> = self.queues.keys().copied().collect();
        queues.sort_unstable();
        if planted(Bug::CheckpointForgets) {
            queues.pop();
        }
        encode_varint(queues.len() as u64, &mut out);
        for id in queues {
            encode_varint(id.0, &mut out);
            let queue = &self.queues[&id].queue;
            encode_options(queue.options(), &mut out);
            queue.encode(&mut out);
            if version > VERSION_WITHOUT_EXPIRATIONS {
                encode_moments(&self.expirations.of(id), &mut out);
            }
            if version > VERSION_WITHOUT_DELAYS {
                encode_moments(&self.delays.of(id, queue), &mut out);
            }
        }
        vec![out.into()]
    }

    pub(super) fn read_state(&mut self, mut state: &[u8]) -> Result<(), StateFault> {
        let rest = &mut state;
        let version = rest.split_off_first();
        let declared = version >= Some(&VERSION_DECLARED);
        let tells_expirations = version > Some(&VERSION_WITHOUT_EXPIRATIONS);
        let tells_delays = version > Some(&VERSION_WITHOUT_DELAYS);
        match version {
            Some(&(VERSION_MIN..=VERSION)) => {}
            version => {
                return Err(StateFault::Version { found: version.copied(), known: VERSION });
            }
        }
        let next_body = number(rest)?;
        if next_body > SEQUENCE_MAX {
            return Err(StateFault::NextSequence(next_body));
        }
        let mut bodies = Bodies::decode(rest)?;
        if bodies.end() > next_body {
            return Err(StateFault::Ahead { sequence: bodies.end() - 1, next: next_body });
        }
        let times = if version >= Some(&VERSION_TIMED) { Times::decode(rest)? } else { Times::default() };
        if times.last_sequence() > next_body {
            return Err(StateFault::TimeOutOfRange);
        }
        let queues = number(rest)?;
        self.queues.clear();
        self.expirations = Expirations::default();
        self.delays = Delays::default();
        for _ in 0..queues {
            let id = QueueId(number(rest)?);
            let mut lost = None;
            let options = if declared { decode_options(rest) } else { Ok(RECOVERED) };
            let options = options.map_err(|fault| StateFault::Options { queue: id, fault })?;
            let decoded = Queue::decode(options, rest, |sequence| {
                if !bodies.count(sequence) {
                    lost = lost.or(Some(sequence));
                }
            });
            let mut queue = decoded.map_err(|fault| StateFault::Queue { queue: id, fault })?;
            if let Some(sequence) = lost {
                return Err(StateFault::Lost { queue: id, sequence });
            }
            if tells_expirations {
                let expires = decode_moments(rest);
                let expires = expires.map_err(|fault| StateFault::Options { queue: id, fault })?;
                if self.expirations.add(id, &queue, &expires) < expires.len() {
                    return Err(StateFault::ExpiresElsewhere { queue: id });
                }
            }
            if tells_delays {
                let until = decode_moments(rest);
                let until = until.map_err(|fault| StateFault::Options { queue: id, fault })?;
                if queue.hold(until.iter().map(|moment| moment.sequence)) < until.len() as u64 {
                    return Err(StateFault::HeldElsewhere { queue: id });
                }
                until.into_iter().for_each(|moment| self.delays.add(id, moment, false));
            }
            let slot = if declared { Slot::of(queue) } else { Slot::undeclared(queue) };
            if self.queues.insert(id, slot).is_some() {
                return Err(StateFault::QueueTwice(id));
            }
        }
        if !rest.is_empty() {
            return Err(StateFault::Excess);
        }
        bodies.counted();
        self.bodies = bodies;
        self.times = times;
        if self.queues.values().any(|slot| slot.queue.options().limits.ttl_millis.is_some()) {
            self.times.be_fine();
        }
        self.commits.batch = BatchBuilder::new(true, next_body);
        Ok(())
    }
}

impl Bodies {
    /// Writes for a checkpoint where the messages are that somebody still needs.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let live = || self.extents.iter().filter(|extent| extent.live > 0);
        encode_varint(live().count() as u64, out);
        let (mut end, mut last) = (0, LogIndex(0));
        for extent in live() {
            let Batches { first: first_batch, last: last_batch } = extent.batches;
            let numbers = [
                extent.first - end,
                extent.end - extent.first,
                first_batch.0 - last.0,
                last_batch.0 - first_batch.0,
                extent.bytes,
                extent.all,
            ];
            numbers.into_iter().for_each(|number| encode_varint(number, out));
            (end, last) = (extent.end, last_batch);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote. Who needs the messages comes with [`count`](Self::count).
    pub(super) fn decode(rest: &mut &[u8]) -> Result<Self, StateFault> {
        let mut bodies = Self::default();
        let (mut end, mut last) = (0u64, 0u64);
        for _ in 0..number(rest)? {
            let [gap, messages, batch_gap, more_batches, bytes, all] =
                [number(rest)?, number(rest)?, number(rest)?, number(rest)?, number(rest)?, number(rest)?];
            let first = end.checked_add(gap);
            let batch = last.checked_add(batch_gap);
            let bounds = first.zip(batch).and_then(|(first, batch)| {
                Some((first, first.checked_add(messages)?, batch, batch.checked_add(more_batches)?))
            });
            let (first, messages_end, batch, last_batch) = bounds.ok_or(StateFault::PlaceOutOfRange)?;
            let batches = Batches { first: LogIndex(batch), last: LogIndex(last_batch) };
            bodies.extents.push_back(Extent {
                first,
                end: messages_end,
                batches,
                bytes,
                all,
                live: 0,
                held: Held::Nothing,
            });
            (end, last) = (messages_end, last_batch);
        }
        bodies.evicted_below = end;
        bodies.closed_below = end;
        Ok(bodies)
    }

    /// A queue needs this message; `false` if there is none.
    pub(super) fn count(&mut self, sequence: u64) -> bool {
        let found = self.find(sequence);
        if let Some(index) = found {
            self.extents[index].live += 1;
            self.live += 1;
        }
        found.is_some()
    }

    /// All queues have been counted.
    pub(super) fn counted(&mut self) {
        self.extents.retain(|extent| extent.live > 0);
        self.hint = (0, 0);
    }
}

fn number(rest: &mut &[u8]) -> Result<u64, StateFault> {
    decode_varint(rest).map_err(|_| StateFault::Number)
}
