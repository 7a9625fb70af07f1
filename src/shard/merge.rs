//! Which segments are worth merging, and what is kept of them.
//!
//! A message that stays keeps its whole segment. So segments of which little is needed are rewritten with just that. What
//! is needed is what queues hold at the checkpoint that is made together with it: the older of the two that are kept
//! then stands before everything that made the rest unnecessary, all of it durable.

use std::cmp::Reverse;
use std::error::Error;
use std::fmt;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::fault::BatchFault;
use super::housekeeping::{Housekeeping, Weight};
use super::operation::{self, KeptRun, Operation};
use super::read_back::{messages_of, publish_end};
use super::shard::Shard;
use super::slot::Slot;
use super::usage::Usage;
use crate::message::message_ends;
use crate::model::{Bug, QueueId, planted};
use crate::queue::Effect;
use crate::storage::{
    KeepFailure, Kept, LogIndex, LogKeeper, MergeSteps, OwnerFault, RecoveredBatch, Segment, Selection,
};

/// Most bytes of segments that one merge reads.
const READ_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most bytes that it keeps, by estimate.
const KEPT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most messages times queues that it keeps: what has to be known of them is in memory while it works.
const KEPT_MESSAGES_MAX: u64 = 1 << 18;
/// Segments of which one look at all of them finds out exactly how much is needed. They have [`KEPT_MESSAGES_MAX`] at most, too.
const WEIGHED_MAX: usize = 64;
/// A segment that is no more than this above twice of what is needed in it stays as it is.
const SLACK_BYTES: u64 = 4 * 1024;
/// Segments that are this part of a full one, or less, are merged with others once there are [`SMALL_SEGMENTS_MIN`] of them
/// in a row.
const SMALL_PART: u64 = 16;
const SMALL_SEGMENTS_MIN: usize = 8;

/// Segments to be merged, and what to keep.
#[derive(Debug)]
pub(super) struct MergePlan {
    /// Their first indices.
    segments: Vec<LogIndex>,
    /// What is needed, in order.
    needed: Vec<NeededMessage>,
    /// Bytes of these messages.
    bytes: u64,
}

impl MergePlan {
    /// Begins to do it.
    pub(super) fn begin(self, keeper: &dyn LogKeeper) -> Result<Box<dyn MergeSteps>, KeepFailure> {
        keeper.merge_segments(&self.segments, Box::new(Needed { messages: self.needed, passed: 0 }))
    }

    /// The segment that it leaves, and how much is needed of that.
    pub(super) fn left(&self) -> Option<(LogIndex, Weight)> {
        let (bytes, messages) = (self.bytes, self.needed.len() as u64);
        let weight = Weight { bytes, messages, merged: Some(bytes) };
        self.segments.first().map(|first| (*first, weight))
    }
}

/// What is needed, in order.
struct Needed {
    messages: Vec<NeededMessage>,
    /// How many of them a batch has held so far.
    passed: usize,
}

impl Selection for Needed {
    fn keep(&mut self, batch: &RecoveredBatch) -> Result<Option<Kept>, OwnerFault> {
        let mut rest = &self.messages[self.passed..];
        let kept = keep(batch, &mut rest)?;
        self.passed = self.messages.len() - rest.len();
        Ok(kept)
    }

    fn end(&mut self) -> Result<(), OwnerFault> {
        match self.messages.get(self.passed) {
            None => Ok(()),
            Some(NeededMessage { sequence, queue, .. }) => {
                Err(MessageGone { sequence: *sequence, queue: *queue }.into())
            }
        }
    }
}

/// No batch holds a message that a queue needs.
#[derive(Debug)]
struct MessageGone {
    sequence: u64,
    queue: QueueId,
}

impl fmt::Display for MessageGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no batch holds message {}, which queue {} needs", self.sequence, self.queue)
    }
}

impl Error for MessageGone {}

impl Shard {
    /// The segments that one merge should take, of those that end at or before `below`.
    pub(super) fn merge_run<'a>(&self, segments: &'a [Segment], below: LogIndex) -> &'a [Segment] {
        let usage = self.bodies.usage(segments);
        let small = self.options.segment_bytes / SMALL_PART;
        let needed_of = |at: usize| {
            let (Segment { first_index, bytes, .. }, usage) = (&segments[at], usage[at]);
            match self.housekeeping.weighed.get(first_index) {
                Some(then) if is_sparse(*bytes, then.of(*bytes)) => Some(usage.bytes.min(then.of(*bytes))),
                // Most of it was needed, and still is.
                Some(then) if usage.messages > then.messages / 2 => None,
                _ => Some(usage.bytes),
            }
        };
        let mut start = 0;
        while start < segments.len() {
            let (mut end, mut total) = (start, Total::default());
            while let Some(Segment { end_index, bytes, .. }) = segments.get(end)
                && usage[end].messages > 0
                && *end_index <= below
                && let Some(needed) = needed_of(end)
                && (is_sparse(*bytes, needed) || *bytes <= small)
                && total.add(*bytes, Usage { bytes: needed, ..usage[end] })
            {
                end += 1;
            }
            if is_sparse(total.bytes, total.needed) || end - start >= SMALL_SEGMENTS_MIN {
                return &segments[start..end];
            }
            start = end.max(start + 1);
        }
        &[]
    }

    /// Looks up how much is needed of segments for which that is only estimated, of those that end at or before `below`: some
    /// of those that messages have left since they were weighed, and others the next time. `false`: there are none.
    pub(super) fn weigh_some(&mut self, segments: &[Segment], below: LogIndex) -> bool {
        let usage = self.bodies.usage(segments);
        let Housekeeping { weighed, weighed_last, .. } = &self.housekeeping;
        let is_doubtful = |(segment, usage): &(&Segment, Usage)| {
            let Usage { messages, gone, .. } = *usage;
            let is_known = weighed.get(&segment.first_index).is_some_and(|then| then.messages == messages);
            messages > 0
                && gone > 0
                && messages <= KEPT_MESSAGES_MAX
                && segment.end_index <= below
                && segment.bytes > SLACK_BYTES
                && !is_known
        };
        let doubtful: Vec<(&Segment, Usage)> = segments.iter().zip(usage).filter(is_doubtful).collect();
        let next = doubtful.partition_point(|(segment, _)| segment.first_index <= *weighed_last);
        let mut messages = 0;
        for (segment, usage) in doubtful.iter().cycle().skip(next).take(doubtful.len().min(WEIGHED_MAX)) {
            messages += usage.messages;
            if messages > KEPT_MESSAGES_MAX {
                break;
            }
            let needed = self.needed_in(segment.first_body.0..segment.bodies_end.0, usage.messages);
            self.weigh(segment, *usage, &needed);
            self.housekeeping.weighed_last = segment.first_index;
        }
        !doubtful.is_empty()
    }

    fn weigh(&mut self, segment: &Segment, usage: Usage, needed: &[NeededMessage]) {
        let weighed = &mut self.housekeeping.weighed;
        let merged = weighed.get(&segment.first_index).and_then(|weight| weight.merged);
        let weight = Weight { bytes: bytes_of(needed), messages: usage.messages, merged };
        weighed.insert(segment.first_index, weight);
    }

    /// What to keep of them; `None` if it is most of it after all.
    pub(super) fn plan_merge(&mut self, run: &[Segment]) -> Option<MergePlan> {
        let (first, last) = (run.first()?, run.last()?);
        let usage = self.bodies.usage(run);
        let about = usage.iter().map(|usage| usage.messages).sum();
        let mut needed = self.needed_in(first.first_body.0..last.bodies_end.0, about);
        let bytes = bytes_of(&needed);
        let total = run.iter().map(|segment| segment.bytes).sum();
        if !is_sparse(total, bytes) && run.len() < SMALL_SEGMENTS_MIN {
            // Messages that are needed by few of their queues look like few messages.
            for (segment, usage) in run.iter().zip(usage) {
                let behind = |sequence: u64| needed.partition_point(|needed| needed.sequence < sequence);
                let here = behind(segment.first_body.0)..behind(segment.bodies_end.0);
                self.weigh(segment, usage, &needed[here]);
            }
            return None;
        }
        if planted(Bug::MergeForgets) {
            needed.pop();
        }
        let segments = run.iter().map(|segment| segment.first_index).collect();
        Some(MergePlan { segments, needed, bytes })
    }

    /// Messages of a range that queues need, about so many, in order.
    fn needed_in(&self, range: Range<u64>, about: u64) -> Vec<NeededMessage> {
        // All at once: growing would touch more new pages on the way.
        let mut needed = Vec::with_capacity(about.min(KEPT_MESSAGES_MAX) as usize);
        for (id, slot) in &self.queues {
            let message = |sequence, bytes: u64| {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                NeededMessage { sequence, queue: *id, bytes }
            };
            needed
                .extend(slot.queue.live_in(range.clone()).map(|(sequence, bytes)| message(sequence, bytes)));
            let retained = slot.queue.retained_in(range.clone());
            let retained = retained.filter(|_| !planted(Bug::MergeForgetsRetained));
            needed.extend(retained.map(|retained| message(retained.sequence, retained.size_bytes)));
            for why in slot.queue.dead_letter_reasons() {
                let letters = slot.queue.dead_letters_in(why, range.clone());
                needed.extend(letters.map(|letter| message(letter.sequence, letter.size_bytes)));
            }
            // Without acknowledgements they have left the queue, and wait here to be read back.
            needed.extend(on_their_way(slot, &range).map(|sequence| message(sequence, 0)));
        }
        // Where both are, the one with its size comes first.
        needed.sort_unstable_by_key(|needed| (needed.sequence, needed.queue, Reverse(needed.bytes)));
        needed.dedup_by_key(|needed| (needed.sequence, needed.queue));
        needed
    }
}

/// A message that a queue needs.
#[derive(Debug, Clone, Copy)]
struct NeededMessage {
    sequence: u64,
    queue: QueueId,
    bytes: u32,
}

/// Bytes of messages that are in order, each once, however many queues need it.
fn bytes_of(needed: &[NeededMessage]) -> u64 {
    needed.chunk_by(|one, next| one.sequence == next.sequence).map(|same| u64::from(same[0].bytes)).sum()
}

/// Messages of a range that were handed out and have not gone out.
fn on_their_way(slot: &Slot, range: &Range<u64>) -> impl Iterator<Item = u64> {
    let runs = slot.attached.stalled.iter().filter_map(|effect| match effect {
        Effect::Deliver { run, .. } => Some(run.first.0..run.first.0 + run.count),
        Effect::Append(_) | Effect::Release(_) | Effect::CameBack(..) | Effect::Unused => None,
    });
    runs.flat_map(|run| run.start.max(range.start)..run.end.min(range.end))
}

fn is_sparse(bytes: u64, needed: u64) -> bool {
    bytes > 2 * needed + SLACK_BYTES
}

/// What a run of segments comes to.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    bytes: u64,
    needed: u64,
    messages: u64,
}

impl Total {
    /// Adds a segment, if there is room for it.
    fn add(&mut self, bytes: u64, usage: Usage) -> bool {
        let sum = Self {
            bytes: self.bytes + bytes,
            needed: self.needed + usage.bytes,
            messages: self.messages + usage.messages,
        };
        let first = self.bytes == 0;
        let fits = sum.bytes <= READ_BYTES_MAX || first;
        if !fits || sum.needed > KEPT_BYTES_MAX || sum.messages > KEPT_MESSAGES_MAX {
            return false;
        }
        *self = sum;
        true
    }
}

/// What is needed of a batch. `needed` is shortened to what comes behind it.
fn keep(batch: &RecoveredBatch, needed: &mut &[NeededMessage]) -> Result<Option<Kept>, BatchFault> {
    let behind = batch.first_body.0 + u64::from(batch.bodies);
    let count = needed.partition_point(|needed| needed.sequence < behind);
    let (here, after) = needed.split_at(count);
    if batch.bodies == 0 || here.is_empty() {
        return Ok(None);
    }
    *needed = after;
    let (messages, mut operations) = operation::split_payload(&batch.payload)?;
    let mut sieve = Sieve {
        needed: here,
        first_body: batch.first_body.0,
        messages: BytesMut::new(),
        operations: BytesMut::new(),
        count: 0,
    };
    let (mut sequence, mut offset) = (batch.first_body.0, 0);
    while let Some(operation) = operations.next()? {
        let (exchange, routing_key, bytes, runs) = match operation {
            Operation::Publish { exchange, routing_key, bytes, segments } => {
                let count = segments.iter().map(|(count, _)| count).sum();
                let run = KeptRun { first: sequence - batch.first_body.0, count, queues: Vec::new() };
                sequence += count;
                (exchange, routing_key, bytes, vec![run])
            }
            Operation::Kept { exchange, routing_key, bytes, runs } => (exchange, routing_key, bytes, runs),
            Operation::Queue { .. }
            | Operation::Declare { .. }
            | Operation::Delete { .. }
            | Operation::Expire { .. }
            | Operation::Delay { .. } => continue,
        };
        let end = publish_end(offset, bytes, messages)?;
        sieve.add(exchange, routing_key, &runs, &messages[offset..end])?;
        offset = end;
    }
    match sieve.needed.first() {
        None => Ok(Some(sieve.finish())),
        Some(NeededMessage { sequence, queue, .. }) => {
            Err(BatchFault::Lacks { sequence: *sequence, queue: *queue })
        }
    }
}

/// Lets through what is needed of a batch.
struct Sieve<'a> {
    needed: &'a [NeededMessage],
    first_body: u64,
    messages: BytesMut,
    operations: BytesMut,
    count: u32,
}

impl Sieve<'_> {
    fn add(
        &mut self,
        exchange: &str,
        routing_key: &str,
        runs: &[KeptRun],
        messages: &[u8],
    ) -> Result<(), BatchFault> {
        let ends = message_ends(messages).ok_or(BatchFault::NoMessages)?;
        let (holds, says) = (ends.len() as u64, messages_of(runs));
        if holds != says {
            return Err(BatchFault::PublishMessages { holds, says });
        }
        let mut kept: Vec<KeptRun> = Vec::new();
        let before = self.messages.len();
        let mut number = 0usize;
        for run in runs {
            for relative in run.first..run.first + run.count {
                let (start, end) = (number.checked_sub(1).map_or(0, |last: usize| ends[last]), ends[number]);
                number += 1;
                let queues = self.take(self.first_body + relative);
                if queues.is_empty() {
                    continue;
                }
                self.messages.put_slice(&messages[start as usize..end as usize]);
                match kept.last_mut() {
                    Some(last) if last.first + last.count == relative && last.queues == queues => {
                        last.count += 1
                    }
                    _ => kept.push(KeptRun { first: relative, count: 1, queues }),
                }
            }
        }
        if !kept.is_empty() {
            let bytes = self.messages.len() - before;
            operation::encode_kept(exchange, routing_key, bytes, &kept, &mut self.operations);
            self.count += 1;
        }
        Ok(())
    }

    /// The queues that need a message.
    fn take(&mut self, sequence: u64) -> Vec<QueueId> {
        let count = self.needed.iter().take_while(|needed| needed.sequence == sequence).count();
        let (here, after) = self.needed.split_at(count);
        self.needed = after;
        here.iter().map(|needed| needed.queue).collect()
    }

    fn finish(mut self) -> Kept {
        let length = self.operations.len() as u32;
        self.operations.put_u32_le(length);
        let payload: Vec<Bytes> = vec![self.messages.freeze(), self.operations.freeze()];
        Kept { payload, operations: self.count }
    }
}
