//! Keeping the log small: when a checkpoint is made, and which segments go with it. Which are merged stands in `merge.rs`.
//!
//! ```text
//!   messages leave ──▶ a segment is dead at checkpoint K ──▶ checkpoint K+1 is durable ──▶ the segment is removed
//! ```
//!
//! Two checkpoints are kept, and a start may have to begin at the older one. So a segment goes only when nobody needed
//! anything in it at the older one, too.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::bodies::Batches;
use super::job::{Job, JobPanicked, Went, Work};
use super::merge::MergePlan;
use super::pace::{Haste, Pace};
use super::shard::Shard;
use crate::model::Timestamp;
use crate::storage::{
    KeepFailure, LogIndex, LogKeeper, LogPosition, Machine, MergeStep, MergeSteps, Merged, OpenFailure,
    Segment, Snapshot,
};

/// A segment that nobody needs is worth a checkpoint after so long, in milliseconds; and so often the shard looks.
const LOOK_MILLIS: u64 = 10_000;
/// The same while the disk is short of room: whoever publishes waits for it.
const LOOK_MILLIS_WITHOUT_ROOM: u64 = 500;
/// A checkpoint that failed is tried again after so long, in milliseconds.
const RETRY_MILLIS: u64 = 60_000;
/// The same if there was no room for it: there may be soon.
const RETRY_MILLIS_WITHOUT_ROOM: u64 = 1000;

/// What a shard knows about its checkpoints.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    /// The newest one.
    newest: LogIndex,
    /// Bytes that went into the log since.
    bytes_since: u64,
    /// When it was last looked whether there are segments that nobody needs, and whether that was done since something was
    /// written.
    looked_at: Timestamp,
    looked: bool,
    /// After a failure.
    not_before: Timestamp,
    /// Segments that nobody needed when it was made.
    dead: Vec<LogIndex>,
    /// Segments of which it was looked up how much is needed.
    pub(super) weighed: HashMap<LogIndex, Weight>,
    /// The last of them.
    pub(super) weighed_last: LogIndex,
    /// One that is made when its last batch is durable.
    waiting: Option<CheckpointJob>,
    /// One is waiting or being made, or segments are merged behind it.
    under_way: bool,
    pub(super) haste: Arc<Haste>,
}

/// A checkpoint to be made.
#[derive(Debug)]
pub(super) struct CheckpointJob {
    snapshot: Snapshot,
    /// Segments that nobody needs at this checkpoint.
    dead: Vec<LogIndex>,
    /// Segments that nobody needed at the one before: they go when this one is durable.
    remove: Vec<LogIndex>,
    /// Segments that are made smaller when this one is durable.
    merge: Option<MergePlan>,
    pace: Pace,
}

/// Segments that are made smaller, behind a checkpoint that was made.
#[derive(Debug)]
pub(super) struct MergeJob {
    steps: Box<dyn MergeSteps>,
    kept: Kept,
    pace: Pace,
    /// Bytes that had gone into the log when it began, and bytes that it has read since.
    written_bytes_then: u64,
    read_bytes: u64,
}

/// What came of a checkpoint.
#[derive(Debug)]
pub(super) struct Kept {
    position: LogPosition,
    dead: Vec<LogIndex>,
    written: Result<(), KeepFailure>,
    /// Bytes that the removal of segments freed.
    freed: Result<u64, KeepFailure>,
    merged: Result<Merged, KeepFailure>,
    /// The segment that was left by the merge, and how much is needed of it.
    left: Option<(LogIndex, Weight)>,
}

/// How much of a segment is needed, exactly, at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// Bytes of messages.
    pub(super) bytes: u64,
    /// Queues times messages.
    pub(super) messages: u64,
    /// If it was written by a merge: bytes of messages that were needed then. All the rest of it is what it takes to keep those.
    pub(super) merged: Option<u64>,
}

impl Weight {
    /// Bytes that are needed of a segment that has so many.
    pub(super) fn of(&self, segment_bytes: u64) -> u64 {
        match self.merged {
            None => self.bytes,
            Some(0) => segment_bytes,
            Some(merged) => (u128::from(segment_bytes) * u128::from(self.bytes) / u128::from(merged)) as u64,
        }
    }
}

impl CheckpointJob {
    pub(super) fn run(self, keeper: Option<&dyn LogKeeper>) -> Went {
        let Self { snapshot, dead, remove, merge, pace } = self;
        let position = snapshot.position;
        let left = merge.as_ref().and_then(MergePlan::left);
        let (freed, merged) = (Ok(0), Ok(Merged::default()));
        let mut kept = Kept { position, dead, written: Ok(()), freed, merged, left };
        let Some(keeper) = keeper else { return Went::kept(kept) };
        kept.written = keeper.checkpoint(snapshot);
        if kept.written.is_err() {
            return Went::kept(kept);
        }
        if !remove.is_empty() {
            kept.freed = keeper.purge(&remove);
        }
        match merge.map(|plan| plan.begin(keeper)) {
            None => Went::kept(kept),
            Some(Ok(steps)) => {
                let written_bytes_then = pace.written_bytes();
                let job = MergeJob { steps, kept, pace, written_bytes_then, read_bytes: 0 };
                Went::On { work: Box::new(Work::Merge(job)), may_rest: false }
            }
            Some(Err(failure)) => Went::kept(Kept { merged: Err(failure), ..kept }),
        }
    }

    /// What is told if it ends unfinished.
    pub(super) fn lost(position: LogPosition, why: JobPanicked) -> Kept {
        let written = Err(KeepFailure::Owner { index: position.index, why: why.into() });
        let (freed, merged) = (Ok(0), Ok(Merged::default()));
        Kept { position, dead: Vec::new(), written, freed, merged, left: None }
    }

    pub(super) fn position(&self) -> LogPosition {
        self.snapshot.position
    }
}

impl MergeJob {
    pub(super) fn run(mut self) -> Went {
        // If it panics, what came of the checkpoint is told all the same.
        let step = catch_unwind(AssertUnwindSafe(|| self.steps.step()));
        let index = self.kept.position.index;
        match step.unwrap_or_else(|_| Err(KeepFailure::Owner { index, why: JobPanicked.into() })) {
            Ok(MergeStep::Taken { read_bytes }) => {
                self.read_bytes += read_bytes;
                let may_rest = self.pace.may_rest(self.written_bytes_then, self.read_bytes);
                Went::On { work: Box::new(Work::Merge(self)), may_rest }
            }
            Ok(MergeStep::Done(merged)) => Went::kept(Kept { merged: Ok(merged), ..self.kept }),
            Err(failure) => Went::kept(Kept { merged: Err(failure), ..self.kept }),
        }
    }
}

impl Housekeeping {
    pub(super) fn new(keeper: Option<&dyn LogKeeper>) -> Self {
        Self { newest: keeper.and_then(LogKeeper::newest_checkpoint).unwrap_or_default(), ..Self::default() }
    }

    /// So many bytes went into the log.
    pub(super) fn note_written(&mut self, bytes: usize) {
        self.bytes_since += bytes as u64;
        self.haste.note_written(bytes);
        self.looked = false;
    }

    /// Whether a job is under way, or will be.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way
    }
}

impl Shard {
    /// To be called at the end of a turn: makes a checkpoint if it is time for one.
    pub(super) fn keep_house(&mut self) {
        let Some(keeper) = self.keeper.clone() else { return };
        let look_millis = self.look_millis();
        let house = &mut self.housekeeping;
        if self.commits.failure().is_some() {
            house.under_way &= house.waiting.take().is_none();
            return;
        }
        if house.under_way || self.now < house.not_before {
            return self.start_waiting();
        }
        let much = house.bytes_since >= self.options.checkpoint_bytes;
        let removable = !house.dead.is_empty();
        if !much && (self.now.0 < house.looked_at.0 + look_millis || house.looked && !removable) {
            return;
        }
        house.looked_at = self.now;
        house.looked = true;
        if much || removable || self.can_shrink(&*keeper) {
            self.begin_checkpoint(&*keeper);
        }
    }

    /// Has the waiting checkpoint made, if all that it stands for is durable.
    fn start_waiting(&mut self) {
        if let Some(job) =
            self.housekeeping.waiting.take_if(|job| job.snapshot.position.index <= self.commits.durable())
        {
            tracing::debug!(shard = %self.options.id, index = %job.snapshot.position.index, "making a checkpoint");
            self.jobs.push(Job(Work::Checkpoint(job)));
        }
    }

    /// In how many milliseconds there is something to do here even if nothing happens.
    pub(super) fn keeps_house_in(&self) -> Option<u64> {
        let house = &self.housekeeping;
        let nothing = house.looked && house.dead.is_empty();
        if self.keeper.is_none() || self.commits.failure().is_some() || house.under_way || nothing {
            return None;
        }
        let look_at = house.looked_at.0 + self.look_millis();
        Some(look_at.max(house.not_before.0).saturating_sub(self.now.0))
    }

    fn look_millis(&self) -> u64 {
        if self.disk.is_short() { LOOK_MILLIS_WITHOUT_ROOM } else { LOOK_MILLIS }
    }

    fn begin_checkpoint(&mut self, keeper: &dyn LogKeeper) {
        self.hand_all_over();
        if self.commits.log().position().index <= self.housekeeping.newest {
            // Nothing happened since the last one, and segments wait for another.
            self.hand_over_batch();
        }
        if self.commits.failure().is_none() {
            let job = self.checkpoint(keeper);
            self.housekeeping.waiting = Some(job);
            self.housekeeping.under_way = true;
            self.start_waiting();
        }
    }

    /// The last checkpoint, so that the next start has nothing to read; none if not everything is durable.
    pub(super) fn closing_checkpoint(&mut self) -> Option<Job> {
        let whole = self.commits.failure().is_none() && self.is_settled() && !self.housekeeping.under_way;
        let keeper = self.keeper.clone().filter(|_| whole)?;
        if self.commits.log().position().index <= self.housekeeping.newest {
            return None;
        }
        self.housekeeping.under_way = true;
        Some(Job(Work::Checkpoint(self.checkpoint(&*keeper))))
    }

    fn checkpoint(&mut self, keeper: &dyn LogKeeper) -> CheckpointJob {
        let (mut segments, below) = self.full_segments(keeper);
        let dead = dead_among(&segments, &mut self.bodies.needed());
        self.bodies.close();
        let remove = std::mem::take(&mut self.housekeeping.dead);
        segments.retain(|segment| !remove.contains(&segment.first_index));
        self.housekeeping
            .weighed
            .retain(|first, _| segments.iter().any(|segment| segment.first_index == *first));
        let run = self.merge_run(&segments, below).to_vec();
        let merge = self.plan_merge(&run);
        // Others may be worth it.
        self.housekeeping.looked &= run.is_empty() || merge.is_some();
        self.housekeeping.bytes_since = 0;
        let snapshot = Snapshot { position: self.commits.log().position(), state: self.snapshot() };
        let pace = Pace::new(&self.disk, &self.housekeeping.haste);
        CheckpointJob { snapshot, dead, remove, merge, pace }
    }

    fn can_shrink(&mut self, keeper: &dyn LogKeeper) -> bool {
        let (segments, below) = self.full_segments(keeper);
        // What lies behind the newest checkpoint can be merged after the next one.
        let end = segments.last().map_or(below, |last| last.end_index);
        if !dead_among(&segments, &mut self.bodies.needed()).is_empty() {
            return true;
        }
        let mut can_merge = !self.merge_run(&segments, end).is_empty();
        if !can_merge {
            // The next look weighs others.
            let weighed = self.weigh_some(&segments, end);
            self.housekeeping.looked = !weighed;
            can_merge = weighed && !self.merge_run(&segments, end).is_empty();
        }
        if can_merge && self.merge_run(&segments, below).is_empty() {
            self.housekeeping.looked = false;
        }
        can_merge
    }

    /// All segments but the one that is being written, and before which of them segments may be merged once the next
    /// checkpoint is durable: the one from which a start at the newest one, which will be the older then, would go on.
    fn full_segments(&self, keeper: &dyn LogKeeper) -> (Vec<Segment>, LogIndex) {
        let mut segments = keeper.segments();
        let firsts = segments.iter().map(|segment| segment.first_index);
        let below = firsts.take_while(|first| *first <= self.housekeeping.newest).last().unwrap_or_default();
        segments.pop();
        (segments, below)
    }

    /// A checkpoint was made, or not.
    pub(super) fn kept(&mut self, kept: Kept) {
        let Kept { position, dead, written, freed, merged, left } = kept;
        let house = &mut self.housekeeping;
        house.under_way = false;
        match &written {
            Ok(()) => {
                house.newest = position.index;
                house.dead = dead;
            }
            Err(failure) => {
                // The log works without; it only grows.
                tracing::warn!(shard = %self.options.id, %failure, "a checkpoint could not be written");
                house.bytes_since = self.options.checkpoint_bytes;
                house.not_before = retry_at(self.now, failure);
            }
        }
        match freed {
            Ok(0) => {}
            Ok(bytes) => tracing::debug!(shard = %self.options.id, bytes, "removed segments nobody needs"),
            Err(failure) => {
                tracing::warn!(shard = %self.options.id, %failure, "segments that nobody needs could not be removed");
            }
        }
        let house = &mut self.housekeeping;
        match merged {
            Ok(Merged { bytes_before: 0, .. }) => {}
            Ok(Merged { bytes_before, bytes_after }) => {
                // It will not become smaller soon; others may.
                house.weighed.extend(left);
                house.looked = false;
                tracing::debug!(shard = %self.options.id, bytes_before, bytes_after, "merged segments");
            }
            Err(failure) => {
                house.not_before = retry_at(self.now, &failure);
                tracing::warn!(shard = %self.options.id, %failure, "segments could not be merged");
            }
        }
    }
}

fn retry_at(now: Timestamp, failure: &KeepFailure) -> Timestamp {
    let full = matches!(failure, KeepFailure::Disk(error) if error.is_full());
    Timestamp(now.0 + if full { RETRY_MILLIS_WITHOUT_ROOM } else { RETRY_MILLIS })
}

/// Segments that hold none of the needed batches. Both are in order.
fn dead_among(segments: &[Segment], needed: &mut dyn Iterator<Item = Batches>) -> Vec<LogIndex> {
    let mut needed = needed.peekable();
    let mut dead = Vec::new();
    for segment in segments {
        while needed.next_if(|batches| batches.last < segment.first_index).is_some() {}
        if needed.peek().is_none_or(|batches| batches.first >= segment.end_index) {
            dead.push(segment.first_index);
        }
    }
    dead
}

/// Whether all needed batches are in segments that are there, both in order.
pub(super) fn check_needed(
    segments: &[Segment],
    needed: impl Iterator<Item = Batches>,
) -> Result<(), OpenFailure> {
    let mut at = 0;
    for Batches { first, last } in needed {
        let mut next = first;
        while next <= last {
            while segments.get(at).is_some_and(|segment| segment.end_index <= next) {
                at += 1;
            }
            match segments.get(at) {
                Some(segment) if segment.first_index <= next => next = segment.end_index,
                Some(Segment { first_index: end, path, .. }) => {
                    return Err(OpenFailure::MissingBatches { first: next, end: *end, file: path.clone() });
                }
                None => {
                    let file = segments.last().map(|segment| segment.path.clone()).unwrap_or_default();
                    return Err(OpenFailure::MissingBatches { first: next, end: last.next(), file });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BodySequence;

    fn segments(ranges: &[(u64, u64)]) -> Vec<Segment> {
        let segment = |(first, end): &(u64, u64)| Segment {
            path: first.to_string().into(),
            first_index: LogIndex(*first),
            end_index: LogIndex(*end),
            first_body: BodySequence(0),
            bodies_end: BodySequence(0),
            bytes: 0,
        };
        ranges.iter().map(segment).collect()
    }

    fn needed(ranges: &[(u64, u64)]) -> impl Iterator<Item = Batches> {
        ranges.iter().map(|(first, last)| Batches { first: LogIndex(*first), last: LogIndex(*last) })
    }

    #[test]
    fn a_segment_is_dead_when_nobody_needs_a_batch_of_it() {
        let segments = segments(&[(0, 10), (10, 20), (20, 30), (40, 50)]);
        let dead = |ranges: &[(u64, u64)]| {
            dead_among(&segments, &mut needed(ranges)).into_iter().map(|index| index.0).collect::<Vec<_>>()
        };
        assert_eq!(dead(&[]), [0, 10, 20, 40]);
        assert_eq!(dead(&[(3, 3), (4, 9)]), [10, 20, 40]);
        assert_eq!(dead(&[(9, 10)]), [20, 40]);
        assert_eq!(dead(&[(9, 20), (20, 21), (60, 70)]), [40]);
        assert_eq!(dead(&[(29, 45)]), [0, 10]);
    }

    #[test]
    fn a_needed_batch_that_is_not_there_is_told() {
        let segments = segments(&[(0, 10), (10, 20), (40, 50)]);
        let missing = |ranges: &[(u64, u64)]| match check_needed(&segments, needed(ranges)) {
            Err(OpenFailure::MissingBatches { first, end, .. }) => Some((first.0, end.0)),
            result => {
                assert_eq!(result, Ok(()));
                None
            }
        };
        assert_eq!(missing(&[]), None);
        assert_eq!(missing(&[(0, 0), (5, 15), (15, 19), (40, 49)]), None);
        assert_eq!(missing(&[(5, 15), (15, 20)]), Some((20, 40)));
        assert_eq!(missing(&[(30, 31)]), Some((30, 40)));
    }
}
