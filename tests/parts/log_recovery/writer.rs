//! The log with its thread: handing over, grouping, reporting, ending.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use leveret::storage::{
    DirectLog, DirectLogOptions, LogFailure, LogIndex, LogRoom, RealDisk, RecoveredBatch, ShardLog,
    testing::{Fault, MemoryDisk},
};

use super::support::{DIRECTORY, assert_same, batch, options};

/// No timer plays a part in these tests: the log does not rest before an hour is over.
fn patient() -> DirectLogOptions {
    DirectLogOptions { mark_after_ms: 3_600_000, ..options(1 << 20, 4096) }
}

fn open(disk: &MemoryDisk, options: DirectLogOptions) -> (DirectLog, mpsc::Receiver<()>) {
    let (report, reports) = mpsc::channel();
    // Nobody listens any more once the test is done with the log.
    let on_progress = Arc::new(move || _ = report.send(()));
    let disk = Arc::new(disk.clone());
    let log = DirectLog::open(disk, Path::new(DIRECTORY), options, on_progress, &mut |_| Ok(())).unwrap();
    (log, reports)
}

#[test]
fn while_the_disk_works_batches_pile_up_and_share_one_sync() {
    let disk = MemoryDisk::new();
    let (mut log, _reports) = open(&disk, patient());
    let before = disk.syncs();
    disk.hold_syncs();
    for number in 0..100 {
        log.propose(batch(number, 100, number, 1)).unwrap();
    }
    let held = (log.idle(), log.progress().durable);
    // Before anything is asserted: a log is not dropped while its disk does not answer.
    disk.release_syncs();
    log.close().unwrap();
    assert_eq!(held, (false, LogIndex(0)), "nothing is durable without its sync");
    let syncs = disk.syncs() - before;
    assert!(
        syncs <= 3,
        "one sync for what was first, one for the rest, one for the closing mark; not {syncs}"
    );
}

#[test]
fn progress_is_reported_until_everything_is_durable() {
    let disk = MemoryDisk::new();
    let (mut log, reports) = open(&disk, patient());
    for number in 0..50 {
        let index = log.propose(batch(number, 1000, 0, 0)).unwrap();
        while log.progress().durable < index {
            reports.recv().unwrap();
        }
        assert!(log.idle());
        assert_eq!(log.pending_bytes(), 0);
    }
}

#[test]
fn a_failure_is_reported_and_final() {
    let disk = MemoryDisk::new();
    let (mut log, reports) = open(&disk, patient());
    disk.fail_at(disk.changes() + 1, Fault::Io);
    log.propose(batch(1, 100, 0, 1)).unwrap();
    reports.recv().unwrap();
    let failure = log.progress().failed.expect("the first report is that of the failure");
    assert!(matches!(failure, LogFailure::Disk(_)), "{failure}");
    assert_eq!(log.propose(batch(2, 100, 1, 1)), Err(failure.clone()));
    assert_eq!(log.progress().durable, LogIndex(0));
    assert_eq!(log.close(), Err(failure));
}

/// The callback must not panic; if it does all the same, nobody waits for ever.
#[test]
fn a_writer_that_ends_unasked_is_reported() {
    let panicked = AtomicBool::new(false);
    let on_progress = Arc::new(move || {
        assert!(panicked.swap(true, Ordering::SeqCst), "this panic belongs to the test");
    });
    let disk = Arc::new(MemoryDisk::new());
    let mut log =
        DirectLog::open(disk, Path::new(DIRECTORY), patient(), on_progress, &mut |_| Ok(())).unwrap();
    log.propose(batch(1, 100, 0, 1)).unwrap();
    assert_eq!(log.close(), Err(LogFailure::WriterStopped));
}

#[test]
fn what_waits_is_bounded_even_without_payload() {
    let disk = MemoryDisk::new();
    let bytes_max = 64 * 1024;
    let (mut log, _reports) = open(&disk, DirectLogOptions { pending_bytes_max: bytes_max, ..patient() });
    disk.hold_syncs();
    let empty = leveret::storage::Batch { payload: Vec::new(), ..batch(1, 8, 0, 0) };
    let taken = (0..bytes_max).take_while(|_| log.propose(empty.clone()).is_ok()).count();
    let refused = log.propose(empty);
    disk.release_syncs();
    log.close().unwrap();
    assert!(taken > 10 && taken < 1000, "{taken} empty batches wait");
    assert!(matches!(&refused, Err(failure @ LogFailure::TooMuchPending { .. }) if !failure.is_final()));
}

#[test]
fn on_a_real_disk_everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("deep/shard-0");
    let options = DirectLogOptions { segment_bytes: 100_000, ..patient() };
    let open = |replayed: &mut Vec<RecoveredBatch>| {
        DirectLog::open(Arc::new(RealDisk), &directory, options.clone(), Arc::new(|| {}), &mut |batch| {
            replayed.push(batch);
            Ok(())
        })
        .unwrap()
    };
    let batches: Vec<_> = (0..200).map(|number| batch(number, 37 * number as usize, number, 1)).collect();
    let mut log = open(&mut Vec::new());
    for batch in &batches {
        log.propose(batch.clone()).unwrap();
    }
    log.close().unwrap();

    let mut replayed = Vec::new();
    let log = open(&mut replayed);
    assert_eq!(replayed.len(), batches.len());
    assert!(log.recovery().segments > 5 && log.recovery().cut.is_none());
    let reader = log.reader();
    for (index, (got, given)) in (1..).zip(replayed.iter().zip(&batches)) {
        assert_same(got, given, index);
        assert_same(&reader.read(LogIndex(index), LogIndex(index + 1)).unwrap()[0], given, index);
    }
}

fn fill(disk: &MemoryDisk) {
    disk.set_capacity(Some(0));
}

#[test]
fn what_a_full_disk_has_no_room_for_is_written_as_soon_as_there_is() {
    let disk = MemoryDisk::new();
    let (mut log, reports) = open(&disk, DirectLogOptions { zero_ahead_bytes: 0, ..patient() });
    fill(&disk);
    for number in 1..=3 {
        log.propose(batch(number, 100, number, 1)).unwrap();
    }
    while log.progress().room.is_enough() {
        reports.recv().unwrap();
    }
    assert!(matches!(log.progress().room, LogRoom::None(_)));
    assert!(log.propose(batch(4, 100, 4, 1)).is_ok(), "it waits with the others");
    disk.set_capacity(None);
    while log.progress().durable < LogIndex(4) || !log.progress().room.is_enough() {
        reports.recv().unwrap();
    }
    assert_eq!((log.pending_bytes(), log.close()), (0, Ok(())));
}

#[test]
fn a_log_that_is_closed_while_the_disk_is_full_says_so() {
    let disk = MemoryDisk::new();
    let (mut log, reports) = open(&disk, DirectLogOptions { zero_ahead_bytes: 0, ..patient() });
    fill(&disk);
    log.propose(batch(1, 100, 1, 1)).unwrap();
    while log.progress().room.is_enough() {
        reports.recv().unwrap();
    }
    let failure = log.close().unwrap_err();
    assert!(matches!(failure, LogFailure::DiskFull(_)) && failure.is_final(), "{failure}");
    assert!(failure.to_string().contains("Free some space"), "{failure}");
}
