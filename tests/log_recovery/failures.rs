//! A disk that refuses: failed writes and syncs, no room.

use std::path::Path;

use leveret::storage::{
    BATCH_BYTES_MAX, LogFailure, LogIndex, MemoryLog, OpenFailure, ShardLog,
    testing::{Fault, PowerLoss},
};

use super::support::{DIRECTORY, Rig, batch, options};

/// The number of changes that one append makes: a write and a sync.
const WRITE: u64 = 0;
const SYNC: u64 = 1;

fn poisoned(change: u64) -> (Rig, LogFailure) {
    let mut rig = Rig::started(options(1 << 20, 4096));
    rig.append(100);
    rig.propose(200).unwrap();
    rig.disk.fail_at(rig.disk.changes() + change, Fault::Io);
    let failure = rig.step().unwrap_err();
    (rig, failure)
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_taken_any_more() {
    for change in [WRITE, SYNC] {
        let (mut rig, failure) = poisoned(change);
        assert!(matches!(failure, LogFailure::Disk(_)) && failure.is_final(), "{failure}");
        // The disk works again, and that changes nothing: what it has is not known.
        let changes = rig.disk.changes();
        assert_eq!(rig.propose(10), Err(failure.clone()));
        assert_eq!(rig.step(), Err(failure.clone()));
        assert_eq!(rig.log().rest(), Err(failure));
        assert_eq!(rig.disk.changes(), changes, "the disk is left alone");
        assert_eq!((rig.durable(), rig.taken()), (1, 2));
    }
}

/// The system shows the pages of a failed sync as if they were clean. A recovery that syncs them without writing them
/// again would call durable what the disk never got.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again() {
    let (mut rig, _) = poisoned(SYNC);
    rig.stop();
    rig.disk.kill_process();
    rig.start().unwrap();
    assert_eq!(rig.durable(), 2, "the cache still showed it");
    rig.disk.restore_power(PowerLoss::LosesAll, 0);
    rig.start().unwrap();
    assert_eq!(rig.durable(), 2);
}

#[test]
fn a_failed_sync_during_recovery_fails_the_opening_and_the_next_one_does_all_again() {
    let (mut rig, _) = poisoned(SYNC);
    rig.stop();
    rig.disk.kill_process();
    // The second batch proves the first one and is itself unproven: one write, then the sync.
    rig.disk.fail_at(rig.disk.changes() + 1, Fault::Io);
    assert!(matches!(rig.start(), Err(OpenFailure::Disk(_))));
    rig.disk.kill_process();
    rig.start().unwrap();
    rig.disk.restore_power(PowerLoss::LosesAll, 0);
    rig.start().unwrap();
    assert_eq!(rig.durable(), 2);
}

fn room_left(rig: &Rig, bytes: usize) {
    let used: usize = rig.files().iter().map(|(_, content)| content.len()).sum();
    rig.disk.set_capacity(Some(used + bytes));
}

#[test]
fn a_full_disk_takes_what_fits_and_keeps_what_was_durable() {
    let mut rig = Rig::started(options(1 << 20, 4096));
    rig.append(100);
    room_left(&rig, 0);
    rig.append(500);
    rig.propose(5000).unwrap();
    let failure = rig.step().unwrap_err();
    assert!(matches!(failure, LogFailure::DiskFull(_)) && failure.is_final(), "{failure}");
    assert!(failure.to_string().contains("Free some space"), "{failure}");
    assert_eq!(rig.durable(), 2, "the zeros written ahead had room for one more");

    rig.stop();
    rig.disk.kill_process();
    let report = rig.start().unwrap();
    assert!(report.cut.is_some(), "half a batch is cut without any room");
    rig.disk.set_capacity(None);
    rig.append(5000);
}

#[test]
fn a_log_that_cannot_begin_a_segment_for_lack_of_room_opens_again() {
    for room in [0, 10, 64] {
        let mut rig = Rig::started(options(1024, 0));
        rig.append(700);
        room_left(&rig, room);
        rig.propose(700).unwrap();
        assert!(matches!(rig.step(), Err(LogFailure::DiskFull(_))));
        rig.stop();
        rig.disk.kill_process();
        let report = rig.start().unwrap();
        assert_eq!((report.cut, report.unfinished_removed), (None, usize::from(room < 64)));
        rig.disk.set_capacity(None);
        rig.append(700);
    }
}

#[test]
fn no_room_for_a_mark_does_not_end_a_log() {
    let mut rig = Rig::started(options(1 << 20, 0));
    rig.append(100);
    room_left(&rig, 30);
    rig.log().rest().unwrap();
    let changes = rig.disk.changes();
    rig.log().rest().unwrap();
    assert_eq!(rig.disk.changes(), changes, "it is not tried over and over");
    rig.disk.set_capacity(None);
    rig.append(100);
    rig.log().rest().unwrap();
    rig.disk.restore_power(PowerLoss::KeepsAll, 0);
    assert_eq!(rig.start().unwrap().cut, None);
}

#[test]
fn a_log_in_use_is_not_opened_twice() {
    let rig = Rig::started(options(4096, 0));
    let refused = super::support::refusal(&rig.disk, &rig.options);
    assert!(matches!(refused, OpenFailure::Locked(_)), "{refused}");
}

#[test]
fn a_missing_log_is_created_only_on_demand() {
    let mut options = options(4096, 0);
    options.create_if_missing = false;
    let rig = Rig::new(options.clone());
    assert!(matches!(
        super::support::refusal(&rig.disk, &options),
        OpenFailure::Disk(_) | OpenFailure::Locked(_)
    ));
    leveret::storage::Disk::create_directory(&rig.disk, Path::new(DIRECTORY)).unwrap();
    let refused = super::support::refusal(&rig.disk, &options);
    assert!(matches!(refused, OpenFailure::Missing { .. }), "{refused}");
}

#[test]
fn no_log_takes_a_batch_that_is_too_large() {
    let mut large = batch(1, 8, 0, 0);
    large.payload = vec![bytes::Bytes::from(vec![0; BATCH_BYTES_MAX / 4 + 1]); 4];
    let refused =
        LogFailure::BatchTooLarge { bytes: BATCH_BYTES_MAX as u64 + 4, bytes_max: BATCH_BYTES_MAX as u64 };
    let mut rig = Rig::started(options(4096, 0));
    assert_eq!(rig.log().propose(large.clone()), Err(refused.clone()));
    assert_eq!(rig.log().next_index(), LogIndex(1));
    assert_eq!(MemoryLog::new().propose(large), Err(refused.clone()));
    assert!(!refused.is_final());
}
