//! A log on a disk in memory, next to a list of what was given to it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use leveret::{
    model::{BodySequence, Timestamp},
    storage::{
        Batch, DirectLogOptions, Disk, DiskAction, DiskError, KeepFailure, Kept, LogFailure, LogIndex,
        LogKeeper, LogRoom, Machine, MergeStep, Merged, OpenFailure, OwnerFault, ReadFailure, RecoveredBatch,
        RecoveryReport, Segment, Selection, ShardLog, Snapshot,
        testing::{MemoryDisk, Seeded, SteppedLog},
    },
};

pub(crate) const DIRECTORY: &str = "/data/shard-0";

pub(crate) fn options(segment_bytes: u64, zero_ahead_bytes: u64) -> DirectLogOptions {
    DirectLogOptions { segment_bytes, zero_ahead_bytes, ..DirectLogOptions::default() }
}

/// What a log gave back.
#[derive(Default)]
pub(crate) struct Replayed {
    /// The state of the checkpoint.
    state: Option<Bytes>,
    /// The batches behind it.
    pub(crate) batches: Vec<RecoveredBatch>,
}

impl Replayed {
    pub(crate) fn state(&self) -> Option<&Bytes> {
        self.state.as_ref()
    }
}

impl Machine for Replayed {
    fn restore(&mut self, state: Bytes) -> Result<(), OwnerFault> {
        assert!(self.state.is_none() && self.batches.is_empty(), "the state comes once, and first");
        self.state = Some(state);
        Ok(())
    }

    fn apply(&mut self, batch: RecoveredBatch) -> Result<(), OwnerFault> {
        self.batches.push(batch);
        Ok(())
    }

    fn snapshot(&self) -> Vec<Bytes> {
        unreachable!("a log never asks for it by itself")
    }
}

/// Opens the log and returns it with everything that it replayed.
pub(crate) fn open(
    disk: &MemoryDisk,
    options: &DirectLogOptions,
) -> Result<(SteppedLog, Replayed), OpenFailure> {
    let mut replayed = Replayed::default();
    let log = SteppedLog::open(Arc::new(disk.clone()), Path::new(DIRECTORY), options, &mut replayed)?;
    Ok((log, replayed))
}

/// What an owner that took these batches has to remember: how many, and a checksum of each.
fn state_of(batches: &[Batch]) -> Bytes {
    batches.iter().flat_map(|batch| crc32c::crc32c(&batch.payload.concat()).to_le_bytes()).collect()
}

/// Opening must fail; returns how.
pub(crate) fn refusal(disk: &MemoryDisk, options: &DirectLogOptions) -> OpenFailure {
    open(disk, options).err().expect("the log must not open")
}

/// A batch that differs from every other one with another `number`, whatever their lengths.
pub(crate) fn batch(number: u64, payload_bytes: usize, first_body: u64, bodies: u32) -> Batch {
    let mut random = Seeded::new(number);
    let mut payload: Vec<u8> = number.to_le_bytes().to_vec();
    payload.extend(std::iter::repeat_with(|| random.number() as u8).take(payload_bytes.saturating_sub(8)));
    let payload = Bytes::from(payload);
    let middle = payload.len() / 3;
    Batch {
        first_body: BodySequence(first_body),
        bodies,
        operations: bodies,
        recorded_at: Timestamp(1_700_000_000_000 + number),
        payload: vec![payload.slice(..middle), Bytes::new(), payload.slice(middle..)],
    }
}

/// A log in use, and what it should hold.
pub(crate) struct Rig {
    pub(crate) disk: MemoryDisk,
    pub(crate) options: DirectLogOptions,
    /// Nothing while the machine is off.
    log: Option<SteppedLog>,
    /// What was taken, in order; the first one has index 1.
    taken: Vec<Batch>,
    /// So many of them were reported durable.
    durable: usize,
    /// Batches made so far, whatever became of them.
    made: u64,
    next_body: u64,
    /// Indices of batches that may be gone: they were removed, or merged away.
    may_be_gone: BTreeSet<u64>,
}

impl Rig {
    pub(crate) fn new(options: DirectLogOptions) -> Self {
        let disk = MemoryDisk::new();
        Self {
            disk,
            options,
            log: None,
            taken: Vec::new(),
            durable: 0,
            made: 0,
            next_body: 0,
            may_be_gone: BTreeSet::new(),
        }
    }

    pub(crate) fn started(options: DirectLogOptions) -> Self {
        let mut rig = Self::new(options);
        rig.start().unwrap();
        rig
    }

    pub(crate) fn log(&mut self) -> &mut SteppedLog {
        self.log.as_mut().expect("the log is open")
    }

    pub(crate) fn durable(&self) -> usize {
        self.durable
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.len()
    }

    pub(crate) fn propose(&mut self, payload_bytes: usize) -> Result<LogIndex, LogFailure> {
        self.made += 1;
        // Some batches have no bodies, and some sequences are skipped.
        let bodies = (self.made % 4) as u32;
        let first_body = self.next_body + self.made % 3;
        let batch = batch(self.made, payload_bytes, first_body, bodies);
        let taken = self.log().propose(batch.clone());
        if let Ok(index) = taken {
            self.taken.push(batch);
            if bodies > 0 {
                self.next_body = first_body + u64::from(bodies);
            }
            assert_eq!(index, LogIndex(self.taken.len() as u64));
        }
        taken
    }

    /// Makes what was taken durable, and holds the log to its report.
    pub(crate) fn step(&mut self) -> Result<(), LogFailure> {
        let result = self.log().step();
        let progress = self.log().progress();
        let durable = progress.durable.0 as usize;
        assert!(durable >= self.durable && durable <= self.taken.len(), "{durable} batches durable");
        self.durable = durable;
        assert_eq!(progress.failed.as_ref(), result.as_ref().err());
        if result.is_ok() && !matches!(progress.room, LogRoom::None(_)) {
            assert_eq!(durable, self.taken.len());
            assert!(self.log().idle());
            assert_eq!(self.log().pending_bytes(), 0);
        } else {
            assert_eq!(self.log().idle(), durable == self.taken.len());
        }
        result
    }

    pub(crate) fn room(&mut self) -> LogRoom {
        self.log().progress().room
    }

    pub(crate) fn append(&mut self, payload_bytes: usize) {
        self.propose(payload_bytes).unwrap();
        self.step().unwrap();
    }

    /// Writes a checkpoint that stands for everything taken so far.
    pub(crate) fn checkpoint(&mut self) -> Result<(), KeepFailure> {
        let state = state_of(&self.taken);
        let position = self.log().position();
        assert_eq!(position.index, LogIndex(self.taken.len() as u64));
        let (front, back) = (state.slice(..state.len() / 3), state.slice(state.len() / 3..));
        self.keeper().checkpoint(Snapshot { position, state: vec![front, Bytes::new(), back] })
    }

    /// The segments that may be removed or merged.
    fn removable(&mut self) -> Vec<Segment> {
        let keeper = self.keeper();
        let below = keeper.removable_below().unwrap_or_default();
        keeper.segments().into_iter().filter(|segment| segment.end_index <= below).collect()
    }

    fn may_go(&mut self, segments: &[Segment], keeps: impl Fn(u64) -> bool) {
        for segment in segments {
            let indices = (segment.first_index.0..segment.end_index.0).filter(|index| !keeps(*index));
            self.may_be_gone.extend(indices);
        }
    }

    /// Removes all segments that may be removed.
    pub(crate) fn trim(&mut self) -> Result<u64, KeepFailure> {
        let segments = self.removable();
        self.may_go(&segments, |_| false);
        self.keeper().purge(&first_indices(&segments))
    }

    /// Makes one of the segments that may be removed, with one in three batches left.
    pub(crate) fn merge(&mut self) -> Result<Merged, KeepFailure> {
        let segments = self.removable();
        self.may_go(&segments, is_kept);
        if segments.is_empty() {
            return Ok(Merged::default());
        }
        let mut steps = self.keeper().merge_segments(&first_indices(&segments), Box::new(OneInThree))?;
        loop {
            if let MergeStep::Done(merged) = steps.step()? {
                return Ok(merged);
            }
        }
    }

    pub(crate) fn keeper(&mut self) -> Arc<dyn LogKeeper> {
        self.log().keeper().expect("a log on a disk has a keeper")
    }

    /// Ends the process; what the disk makes of it is up to the caller.
    pub(crate) fn stop(&mut self) {
        self.log = None;
    }

    /// Opens the log and checks what it gives back against what was given to it.
    pub(crate) fn start(&mut self) -> Result<RecoveryReport, OpenFailure> {
        self.stop();
        let (mut log, replayed) = open(&self.disk, &self.options)?;
        if let Err(error) = self.disk.list(Path::new(DIRECTORY)) {
            // A log opens without its reserve, and this one lost power while it was made.
            let (action, path) = (DiskAction::List, Path::new(DIRECTORY).to_path_buf());
            let (kind, cause) = (error.kind(), error.to_string());
            return Err(OpenFailure::Disk(DiskError { action, path, kind, code: None, cause }));
        }
        let remembered = replayed.state.as_ref().map_or(0, |state| state.len() / 4);
        assert!(remembered <= self.durable, "a checkpoint stands for what was not durable");
        assert_eq!(replayed.state.unwrap_or_default(), state_of(&self.taken[..remembered]));
        let count = remembered + replayed.batches.len();
        assert!(count >= self.durable, "{} batches were durable, {count} came back", self.durable);
        assert!(count <= self.taken.len(), "{} batches were taken, {count} came back", self.taken.len());
        for (at, (got, given)) in replayed.batches.iter().zip(&self.taken[remembered..]).enumerate() {
            assert_same(got, given, (remembered + at) as u64 + 1);
        }
        let report = log.recovery().clone();
        assert_eq!(report.batches, replayed.batches.len() as u64);
        assert_eq!(report.checkpoint.map_or(0, |index| index.0), remembered as u64);
        if let Some(cut) = &report.cut {
            assert_eq!(cut.first_lost, LogIndex(count as u64 + 1));
            assert!(cut.bytes > 0);
        }
        assert_eq!(log.next_index(), LogIndex(count as u64 + 1));
        assert_eq!(log.progress().durable, LogIndex(count as u64), "what was replayed counts as durable");
        assert!(log.idle());
        self.taken.truncate(count);
        self.durable = count;
        self.next_body =
            self.taken.iter().filter(|batch| batch.bodies > 0).map(bodies_end).max().unwrap_or(0);
        self.check_segments(&mut log);
        self.check_reader(&log);
        self.log = Some(log);
        Ok(report)
    }

    fn check_segments(&self, log: &mut SteppedLog) {
        let segments = log.segments();
        assert_eq!(segments.len(), log.recovery().segments);
        let first = segments[0].first_index;
        assert!(first == LogIndex(0) || log.recovery().checkpoint.is_some_and(|index| first <= index));
        for pair in segments.windows(2) {
            // Removals need not reach the disk in their order.
            let gap = pair[0].end_index.0..pair[1].first_index.0;
            assert!(gap.start <= gap.end && gap.clone().all(|index| self.may_be_gone.contains(&index)));
            if gap.is_empty() {
                assert_eq!(pair[0].bodies_end, pair[1].first_body);
            }
            let file_bytes = self.disk.content(&pair[0].path).unwrap().len() as u64;
            assert_eq!(file_bytes, pair[0].bytes, "a segment that is full has no zeros left");
        }
        assert_eq!(segments.last().unwrap().end_index, log.next_index());
    }

    /// Everything that is there can be read back, one by one and many at once.
    fn check_reader(&self, log: &SteppedLog) {
        let reader = log.reader();
        for index in 1..=self.taken.len() as u64 {
            for end in [index + 1, (index + 5).min(self.taken.len() as u64 + 1)] {
                let gone = (index..end).filter(|index| self.may_be_gone.contains(index)).count() as u64;
                let got = match reader.read(LogIndex(index), LogIndex(end)) {
                    Ok(got) => got,
                    Err(ReadFailure::NoSuchBatch { index }) if self.may_be_gone.contains(&index.0) => {
                        continue;
                    }
                    Err(failure) => panic!("batches {index} to {end}: {failure}"),
                };
                assert!((end - index - gone..=end - index).contains(&(got.len() as u64)), "{index} to {end}");
                assert!(got.is_sorted_by_key(|batch| batch.index));
                for batch in &got {
                    assert!((index..end).contains(&batch.index.0));
                    assert_same(batch, &self.taken[batch.index.0 as usize - 1], batch.index.0);
                }
            }
        }
    }

    /// How many segments are there that were written over older ones.
    pub(crate) fn reused(&self) -> usize {
        let is_segment = |path: &Path| path.extension().is_some_and(|end| end == "log");
        self.files().iter().filter(|(path, content)| is_segment(path) && content[8] == 2).count()
    }

    pub(crate) fn last_segment(&mut self) -> (PathBuf, u64) {
        let segment = self.log().segments().pop().unwrap();
        (segment.path, segment.bytes)
    }

    /// Paths and content of all files of the log.
    /// The disk has room for so many bytes more, or for any number.
    pub(crate) fn limit_room(&self, bytes: Option<usize>) {
        let used: usize = self.files().iter().map(|(_, content)| content.len()).sum();
        self.disk.set_capacity(bytes.map(|bytes| used + bytes));
    }

    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = self.disk.list(Path::new(DIRECTORY)).unwrap();
        let paths = entries.into_iter().map(|entry| Path::new(DIRECTORY).join(entry.name));
        paths.map(|path| (path.clone(), self.disk.content(&path).unwrap())).collect()
    }
}

struct OneInThree;

impl Selection for OneInThree {
    fn keep(&mut self, batch: &RecoveredBatch) -> Result<Option<Kept>, OwnerFault> {
        let kept = Kept { payload: vec![batch.payload.clone()], operations: batch.bodies };
        Ok(is_kept(batch.index.0).then_some(kept))
    }

    fn end(&mut self) -> Result<(), OwnerFault> {
        Ok(())
    }
}

pub(crate) fn is_kept(index: u64) -> bool {
    index.is_multiple_of(3)
}

fn first_indices(segments: &[Segment]) -> Vec<LogIndex> {
    segments.iter().map(|segment| segment.first_index).collect()
}

fn bodies_end(batch: &Batch) -> u64 {
    batch.first_body.0 + u64::from(batch.bodies)
}

pub(crate) fn assert_same(got: &RecoveredBatch, given: &Batch, index: u64) {
    assert_eq!(got.index, LogIndex(index));
    assert_eq!(got.first_body, given.first_body);
    assert_eq!(got.bodies, given.bodies);
    assert_eq!(got.recorded_at, given.recorded_at);
    assert_eq!(got.payload, given.payload.concat(), "payload of batch {index}");
}
