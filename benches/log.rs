//! What the log costs: batches made durable, one at a time and in groups, and read back at start.
//!
//! `cargo bench --bench log`; a whole run takes about a minute and, for a while, some GiB of the temporary folder.
//! Disks with neighbours or a budget of bursts give another answer each time: repeat, and compare within one run only.
//! Where the folder is in memory (`findmnt -T /tmp`), syncs cost nothing and the numbers mean little: point `TMPDIR` at a disk.
#![allow(missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret::model::{BodySequence, Timestamp};
use leveret::storage::{
    Batch, DirectLog, DirectLogOptions, LogIndex, MemoryLog, RealDisk, RecoveredBatch, ShardLog,
};

const BATCH_BYTES: [usize; 3] = [4 * 1024, 64 * 1024, 1024 * 1024];
/// What may be on its way to the disk. A shard stops at twice as much.
const IN_FLIGHT_BYTES: usize = 8 * 1024 * 1024;
const REPLAYED_BYTES: usize = 128 * 1024 * 1024;

fn batch(payload_bytes: usize) -> Batch {
    let payload = Bytes::from_iter((0..payload_bytes).map(|at| at as u8));
    Batch {
        first_body: BodySequence(0),
        bodies: 0,
        operations: 1,
        recorded_at: Timestamp(1_700_000_000_000),
        payload: vec![payload],
    }
}

/// A log that wakes this thread when something became durable.
fn open(directory: &Path, replayed: &mut dyn FnMut(RecoveredBatch)) -> DirectLog {
    let waiter = thread::current();
    let on_progress = Arc::new(move || waiter.unpark());
    let options = DirectLogOptions::default();
    DirectLog::open(Arc::new(RealDisk), directory, options, on_progress, &mut |batch| {
        replayed(batch);
        Ok(())
    })
    .expect("the temporary folder holds a log")
}

fn wait_for(log: &dyn ShardLog, index: LogIndex) {
    loop {
        let progress = log.progress();
        assert_eq!(progress.failed, None);
        if progress.durable >= index {
            return;
        }
        thread::park();
    }
}

/// Appends so many batches, with at most `in_flight` of them not durable yet, and waits for the last one.
fn append(log: &mut dyn ShardLog, batch: &Batch, batches: u64, in_flight: u64) {
    let mut last = LogIndex(0);
    for _ in 0..batches {
        last = log.propose(batch.clone()).expect("less waits than may");
        wait_for(log, LogIndex(last.0.saturating_sub(in_flight)));
    }
    wait_for(log, last);
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// One batch after the other, each waiting for the one before: bounded by what one write and one `fdatasync` take, for
/// small batches the same whatever their size. The most that one publisher sees who waits for each confirm.
fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append alone");
    for payload_bytes in BATCH_BYTES {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut log = open(folder.path(), &mut |_| ());
        let batch = batch(payload_bytes);
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        group.bench_function(BenchmarkId::new("disk", payload_bytes), |bencher| {
            bencher.iter_custom(|batches| timed(|| append(&mut log, &batch, batches, 0)));
        });
    }
    group.finish();
}

/// As many batches under way as 8 MiB hold, so that each sync takes many of them.
///
/// Memory: bounded by the bookkeeping of a batch; nothing looks at its bytes, so bytes per second only mirror the size
/// of a batch. Disk: bounded by the disk's bandwidth for every size, since a group of megabytes keeps it busy far longer
/// than a sync takes on its own. Were the writer's work for each batch the bound (header, checksum, copy into the page
/// cache), small batches would be slower per byte than large ones.
fn grouped(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append grouped");
    for payload_bytes in BATCH_BYTES {
        let in_flight = (IN_FLIGHT_BYTES / payload_bytes) as u64;
        let batch = batch(payload_bytes);
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        let mut log = MemoryLog::new();
        group.bench_function(BenchmarkId::new("memory", payload_bytes), |bencher| {
            bencher.iter_custom(|batches| timed(|| append(&mut log, &batch, batches, in_flight)));
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut log = open(folder.path(), &mut |_| ());
        group.bench_function(BenchmarkId::new("disk", payload_bytes), |bencher| {
            bencher.iter_custom(|batches| timed(|| append(&mut log, &batch, batches, in_flight)));
        });
    }
    group.finish();
}

/// Opening a log that was closed: read, check, hand over. The files were just written and come from the page cache, so
/// this is bounded by one core: two copies (out of the cache, out of the window) and one checksum of each byte. After a
/// restart of the machine the disk's bandwidth is the bound if it is lower.
fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Bytes(REPLAYED_BYTES as u64));
    for payload_bytes in BATCH_BYTES {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let batches = (REPLAYED_BYTES / payload_bytes) as u64;
        let mut log = open(folder.path(), &mut |_| ());
        append(&mut log, &batch(payload_bytes), batches, (IN_FLIGHT_BYTES / payload_bytes) as u64);
        log.close().expect("everything was durable");
        group.bench_function(BenchmarkId::new("disk", payload_bytes), |bencher| {
            // The log is dropped, and its writer ended, outside of what is measured.
            bencher.iter_batched(
                || (),
                |()| {
                    let mut bytes = 0;
                    let log = open(folder.path(), &mut |batch| bytes += batch.payload.len());
                    assert_eq!(bytes, REPLAYED_BYTES);
                    log
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .without_plots()
}

criterion_group! {
    name = log;
    config = quick();
    targets = alone, grouped, replay
}
criterion_main!(log);
