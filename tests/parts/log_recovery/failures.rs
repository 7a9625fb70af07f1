//! A disk that refuses: failed writes and syncs, no room.

use std::path::Path;

use leveret::storage::{
    BATCH_BYTES_MAX, DirectLogOptions, LogFailure, LogIndex, LogRoom, MemoryLog, OpenFailure, ShardLog,
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

#[test]
fn a_full_disk_takes_what_fits_and_the_rest_waits_for_room() {
    let mut rig = Rig::started(options(1 << 20, 4096));
    rig.append(100);
    rig.limit_room(Some(0));
    rig.append(500);
    assert_eq!(rig.room(), LogRoom::Enough, "the zeros written ahead had room for one more");
    rig.propose(5000).unwrap();
    rig.propose(10).unwrap();
    for _ in 0..3 {
        rig.step().unwrap();
        assert!(matches!(rig.room(), LogRoom::None(error) if error.is_full()));
        assert_eq!(rig.durable(), 2);
    }
    rig.propose(20).unwrap();
    rig.disk.set_capacity(None);
    rig.step().unwrap();
    assert_eq!((rig.durable(), rig.room()), (5, LogRoom::Enough));
    rig.disk.restore_power(PowerLoss::LosesAll, 0);
    assert_eq!(rig.start().unwrap().cut, None);
    assert_eq!(rig.durable(), 5);
}

#[test]
fn what_a_full_disk_took_of_a_batch_is_cut_without_any_room() {
    let mut rig = Rig::started(options(1 << 20, 4096));
    rig.append(100);
    rig.limit_room(Some(300));
    rig.propose(5000).unwrap();
    rig.step().unwrap();
    rig.stop();
    rig.disk.kill_process();
    assert!(rig.start().unwrap().cut.is_some());
    assert_eq!(rig.durable(), 1);
    rig.disk.set_capacity(None);
    rig.append(5000);
}

#[test]
fn a_segment_that_has_no_room_to_begin_waits_for_it() {
    for room in [0, 10, 64] {
        let mut rig = Rig::started(options(1024, 0));
        rig.append(700);
        rig.limit_room(Some(room));
        rig.propose(700).unwrap();
        rig.step().unwrap();
        assert!(matches!(rig.room(), LogRoom::None(_)));
        rig.disk.set_capacity(None);
        rig.step().unwrap();
        assert_eq!((rig.durable(), rig.log().segments().len()), (2, 3));
        assert!(rig.files().iter().all(|(path, _)| path.extension().unwrap() == "log"));
        rig.disk.restore_power(PowerLoss::LosesAll, 0);
        assert_eq!(rig.start().unwrap().leftovers_removed, 0);
    }
}

#[test]
fn the_reserve_has_room_for_what_cannot_wait() {
    let mut rig = Rig::new(DirectLogOptions { reserve_bytes: 4096, ..options(1 << 20, 0) });
    rig.start().unwrap();
    let reserve = Path::new(DIRECTORY).join("reserve");
    rig.append(100);
    rig.limit_room(Some(50));
    assert_eq!(rig.room(), LogRoom::Enough);
    for _ in 0..10 {
        rig.append(300);
        assert_eq!(rig.room(), LogRoom::ReserveInUse);
    }
    assert!(rig.disk.content(&reserve).is_err());
    rig.propose(2000).unwrap();
    rig.step().unwrap();
    assert!(matches!(rig.room(), LogRoom::None(_)));

    rig.limit_room(Some(2500));
    rig.step().unwrap();
    rig.log().rest().unwrap();
    assert_eq!(rig.room(), LogRoom::ReserveInUse, "there is not enough room for it and for more");
    rig.limit_room(Some(3 * 4096));
    rig.log().rest().unwrap();
    assert_eq!(rig.room(), LogRoom::Enough);
    assert_eq!(rig.disk.content(&reserve).unwrap().len(), 4096);
    rig.disk.restore_power(PowerLoss::KeepsAll, 0);
    rig.start().unwrap();
    assert_eq!((rig.durable(), rig.room()), (12, LogRoom::Enough));
}

#[test]
fn a_log_opens_without_a_byte_of_room() {
    for reserve_bytes in [0, 4096] {
        let mut rig = Rig::new(DirectLogOptions { reserve_bytes, ..options(2000, 600) });
        rig.start().unwrap();
        for payload_bytes in [10, 900, 400, 1700] {
            rig.append(payload_bytes);
        }
        rig.checkpoint().unwrap();
        rig.propose(300).unwrap();
        rig.limit_room(Some(0));
        for loss in [PowerLoss::LosesAll, PowerLoss::Tears, PowerLoss::KeepsAll] {
            rig.disk.restore_power(loss, 3);
            rig.start().unwrap();
            assert!(rig.durable() >= 4);
        }
        rig.propose(800).unwrap();
        rig.step().unwrap();
        assert_eq!(matches!(rig.room(), LogRoom::None(_)), reserve_bytes == 0);
    }
}

#[test]
fn room_may_be_missing_at_any_moment() {
    let mut full = 0;
    for change in 0.. {
        let mut rig = Rig::started(options(1500, 300));
        let before = rig.disk.changes();
        rig.disk.fail_at(before + change, Fault::Full);
        let mut failed = false;
        for payload_bytes in [100, 700, 300, 900, 40, 1300, 200] {
            failed |= rig.propose(payload_bytes).is_err() || rig.step().is_err();
            full += u32::from(matches!(rig.room(), LogRoom::None(_)));
        }
        let over = rig.disk.changes() - before <= change;
        // What a sync says about room is no better than any other error of a sync.
        if !failed {
            rig.step().unwrap();
            assert_eq!((rig.durable(), rig.room()), (7, LogRoom::Enough));
        }
        rig.disk.restore_power(PowerLoss::LosesAll, change);
        rig.start().unwrap();
        rig.append(100);
        if over {
            break;
        }
    }
    assert!(full > 10, "{full} calls that had no room are too few");
}

#[test]
fn a_file_that_cannot_be_opened_now_is_opened_later() {
    let mut waited = 0;
    for change in 0.. {
        let mut rig = Rig::started(options(1500, 300));
        let before = rig.disk.changes();
        rig.disk.fail_at(before + change, Fault::OutOfFiles);
        for payload_bytes in [100, 700, 300, 900, 40, 1300, 200] {
            // Nothing but opening a file is excused by this.
            if rig.propose(payload_bytes).is_err() || rig.step().is_err() {
                break;
            }
            if let LogRoom::None(error) = rig.room() {
                assert!(error.is_out_of_files() && error.shortage().contains("too many files"), "{error:?}");
                waited += 1;
                rig.step().unwrap();
                assert_eq!(rig.room(), LogRoom::Enough);
            }
        }
        let over = rig.disk.changes() - before <= change;
        rig.disk.restore_power(PowerLoss::LosesAll, change);
        rig.start().unwrap();
        if over {
            break;
        }
    }
    assert!(waited >= 2, "{waited} files that could not be opened are too few");
}

#[test]
fn a_directory_in_which_no_file_can_be_made_is_told_at_the_start() {
    let started = |fault| {
        let mut rig = Rig::started(options(1 << 20, 0));
        rig.append(100);
        rig.stop();
        rig.disk.kill_process();
        let refused = (0..4).any(|change| {
            rig.disk.fail_at(rig.disk.changes() + change, fault);
            let failure = rig.start().err();
            rig.stop();
            rig.disk.kill_process();
            matches!(failure, Some(OpenFailure::Disk(error)) if error.path.ends_with("probe"))
        });
        let opens_again = (0..8).any(|_| rig.start().is_ok());
        assert!(opens_again && rig.durable() == 1);
        refused
    };
    assert!(started(Fault::Io));
    // These pass, and the log waits until they have.
    assert!(!started(Fault::Full) && !started(Fault::OutOfFiles));
}

#[test]
fn no_room_for_a_mark_does_not_end_a_log() {
    let mut rig = Rig::started(options(1 << 20, 0));
    rig.append(100);
    rig.limit_room(Some(30));
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
