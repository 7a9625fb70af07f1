//! A log on a disk in memory, next to a list of what was given to it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use leveret::{
    model::{BodySequence, Timestamp},
    storage::{
        Batch, DirectLogOptions, Disk, LogFailure, LogIndex, OpenFailure, RecoveredBatch, RecoveryReport,
        ShardLog,
        testing::{MemoryDisk, Seeded, SteppedLog},
    },
};

pub(crate) const DIRECTORY: &str = "/data/shard-0";

pub(crate) fn options(segment_bytes: u64, zero_ahead_bytes: u64) -> DirectLogOptions {
    DirectLogOptions { segment_bytes, zero_ahead_bytes, ..DirectLogOptions::default() }
}

/// Opens the log and returns it with everything that it replayed.
pub(crate) fn open(
    disk: &MemoryDisk,
    options: &DirectLogOptions,
) -> Result<(SteppedLog, Vec<RecoveredBatch>), OpenFailure> {
    let mut replayed = Vec::new();
    let log = SteppedLog::open(Arc::new(disk.clone()), Path::new(DIRECTORY), options, &mut |batch| {
        replayed.push(batch);
        Ok(())
    })?;
    Ok((log, replayed))
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
}

impl Rig {
    pub(crate) fn new(options: DirectLogOptions) -> Self {
        let disk = MemoryDisk::new();
        Self { disk, options, log: None, taken: Vec::new(), durable: 0, made: 0, next_body: 0 }
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
        if result.is_ok() {
            assert_eq!(durable, self.taken.len());
            assert!(self.log().idle());
            assert_eq!(self.log().pending_bytes(), 0);
        }
        result
    }

    pub(crate) fn append(&mut self, payload_bytes: usize) {
        self.propose(payload_bytes).unwrap();
        self.step().unwrap();
    }

    /// Ends the process; what the disk makes of it is up to the caller.
    pub(crate) fn stop(&mut self) {
        self.log = None;
    }

    /// Opens the log and checks what it gives back against what was given to it.
    pub(crate) fn start(&mut self) -> Result<RecoveryReport, OpenFailure> {
        self.stop();
        let (mut log, replayed) = open(&self.disk, &self.options)?;
        let count = replayed.len();
        assert!(count >= self.durable, "{} batches were durable, {count} came back", self.durable);
        assert!(count <= self.taken.len(), "{} batches were taken, {count} came back", self.taken.len());
        for (at, (got, given)) in replayed.iter().zip(&self.taken).enumerate() {
            assert_same(got, given, at as u64 + 1);
        }
        let report = log.recovery().clone();
        assert_eq!(report.batches, count as u64);
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
        assert_eq!(segments[0].first_index, LogIndex(0));
        for pair in segments.windows(2) {
            assert_eq!(pair[0].end_index, pair[1].first_index);
            assert_eq!(pair[0].bodies_end, pair[1].first_body);
            let file_bytes = self.disk.content(&pair[0].path).unwrap().len() as u64;
            assert_eq!(file_bytes, pair[0].bytes, "a segment that is full has no zeros left");
        }
        assert_eq!(segments.last().unwrap().end_index, log.next_index());
    }

    /// Everything that is there can be read by its place, whole and in parts.
    fn check_reader(&self, log: &SteppedLog) {
        let reader = log.reader();
        for (at, given) in self.taken.iter().enumerate() {
            let index = LogIndex(at as u64 + 1);
            let payload = given.payload.concat();
            assert_eq!(reader.read(index, 0, payload.len() as u32).unwrap(), payload);
            let from = payload.len() / 2;
            let part = reader.read(index, from as u32, (payload.len() - from) as u32).unwrap();
            assert_eq!(part, payload[from..]);
        }
    }

    pub(crate) fn last_segment(&mut self) -> (PathBuf, u64) {
        let segment = self.log().segments().pop().unwrap();
        (segment.path, segment.bytes)
    }

    /// Paths and content of all files of the log.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = self.disk.list(Path::new(DIRECTORY)).unwrap();
        let paths = entries.into_iter().map(|entry| Path::new(DIRECTORY).join(entry.name));
        paths.map(|path| (path.clone(), self.disk.content(&path).unwrap())).collect()
    }
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
