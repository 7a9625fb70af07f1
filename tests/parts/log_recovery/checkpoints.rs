//! Checkpoints: what they save, what they must not cost, and what becomes of damaged ones.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use leveret::storage::{
    CheckpointFault, Disk as _, FrameFault, KeepFailure, LogIndex, OpenFailure, ShardLog as _,
    testing::{Fault, PowerLoss},
};

use super::support::{DIRECTORY, Rig, is_kept, options, refusal};

const HEADER_BYTES: usize = 128;

fn checkpoint(index: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{index:020}.checkpoint"))
}

fn names(rig: &Rig, ending: &str) -> Vec<PathBuf> {
    let names = rig.files().into_iter().map(|(path, _)| path);
    names.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

/// Ten batches with a checkpoint behind the third, the sixth and the ninth; several segments.
fn with_checkpoints() -> Rig {
    let mut rig = Rig::started(options(1500, 0));
    for number in 1..=10 {
        rig.append(500);
        if number % 3 == 0 {
            rig.checkpoint().unwrap();
        }
    }
    rig
}

#[test]
fn a_start_reads_what_is_behind_the_newest_of_two() {
    let mut rig = with_checkpoints();
    assert_eq!(names(&rig, ".checkpoint"), [checkpoint(6), checkpoint(9)]);
    let report = rig.start().unwrap();
    assert_eq!((report.checkpoint, report.batches), (Some(LogIndex(9)), 1));
    assert!(report.bytes < 1500, "{} bytes were read", report.bytes);
    rig.append(500);
    assert_eq!(rig.start().unwrap().batches, 2);
}

#[test]
fn segments_go_when_no_checkpoint_needs_them() {
    let mut rig = Rig::started(options(1500, 0));
    (0..6).for_each(|_| rig.append(500));
    assert_eq!(rig.keeper().removable_below(), None);
    rig.checkpoint().unwrap();
    assert_eq!(rig.trim().unwrap(), 0, "with one checkpoint everything may be needed");
    let first = rig.keeper().segments()[0].first_index;
    assert_eq!(rig.keeper().purge(&[first]), Err(KeepFailure::Needed { first_index: first }));
    (0..6).for_each(|_| rig.append(500));
    rig.checkpoint().unwrap();
    let before = names(&rig, ".log").len();
    assert!(rig.trim().unwrap() > 2000);
    assert!(names(&rig, ".log").len() < before);
    let last = rig.keeper().segments().pop().unwrap().first_index;
    assert_eq!(rig.keeper().purge(&[last]), Err(KeepFailure::Needed { first_index: last }));
    rig.append(500);
    // What is gone stays gone, and what is needed is there, whatever becomes of the names.
    for loss in [PowerLoss::KeepsAll, PowerLoss::LosesAll] {
        rig.disk.restore_power(loss, 0);
        let report = rig.start().unwrap();
        assert_eq!((report.checkpoint, report.batches), (Some(LogIndex(12)), 1));
    }
}

#[test]
fn a_checkpoint_waits_for_the_disk_and_is_never_the_same_twice() {
    let mut rig = Rig::started(options(1500, 0));
    rig.propose(100).unwrap();
    assert_eq!(rig.checkpoint(), Err(KeepFailure::NotDurable { index: LogIndex(1) }));
    rig.step().unwrap();
    rig.checkpoint().unwrap();
    assert_eq!(rig.checkpoint(), Err(KeepFailure::NotNewer { newest: LogIndex(1) }));
}

#[test]
fn a_damaged_checkpoint_costs_time_and_no_data() {
    let length = with_checkpoints().disk.content(&checkpoint(9)).unwrap().len();
    for offset in 0..length {
        let mut rig = with_checkpoints();
        rig.disk.rot(&checkpoint(9), offset, 0x10).unwrap();
        let report = rig.start().unwrap();
        assert_eq!((report.checkpoint, report.batches), (Some(LogIndex(6)), 4), "byte {offset}");
        assert_eq!(report.unusable_checkpoints.len(), 1);
        assert_eq!(report.unusable_checkpoints[0].file, checkpoint(9));
    }
    let mut rig = with_checkpoints();
    rig.disk.rot(&checkpoint(9), 40, 1).unwrap();
    rig.disk.rot(&checkpoint(6), HEADER_BYTES + 20, 1).unwrap();
    let report = rig.start().unwrap();
    assert_eq!((report.checkpoint, report.batches), (None, 10), "all segments are there");
    assert_eq!(report.unusable_checkpoints.len(), 2);
    // A checkpoint that is written again takes the place of the damaged one.
    rig.append(10);
    rig.checkpoint().unwrap();
    assert_eq!(rig.start().unwrap().checkpoint, Some(LogIndex(11)));
}

#[test]
fn without_a_checkpoint_a_log_whose_beginning_is_gone_does_not_open() {
    let mut rig = with_checkpoints();
    rig.trim().unwrap();
    rig.stop();
    rig.disk.rot(&checkpoint(9), HEADER_BYTES, 1).unwrap();
    rig.disk.rot(&checkpoint(6), 0, 1).unwrap();
    let before = rig.files();
    match refusal(&rig.disk, &rig.options) {
        OpenFailure::NoCheckpoint { file, why: CheckpointFault::NoMagic, first } => {
            assert_eq!(file, checkpoint(6));
            assert!(first > LogIndex(0) && first <= LogIndex(7));
        }
        other => panic!("{other}"),
    }
    assert_eq!(rig.files(), before, "no file was touched");
    rig.disk.remove(&checkpoint(9)).unwrap();
    rig.disk.remove(&checkpoint(6)).unwrap();
    assert!(matches!(
        refusal(&rig.disk, &rig.options),
        OpenFailure::MissingBatches { first: LogIndex(0), .. }
    ));
}

#[test]
fn a_checkpoint_of_another_format_or_name_or_log_is_told_from_damage() {
    let mut rig = with_checkpoints();
    rig.stop();
    let original = rig.disk.content(&checkpoint(9)).unwrap();
    let altered = |at: usize, byte: u8| {
        let mut bytes = original.clone();
        bytes[at] = byte;
        let crc = crc32c::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    rig.disk.put(&checkpoint(9), &altered(8, 2)).unwrap();
    match refusal(&rig.disk, &rig.options) {
        OpenFailure::UnknownVersion { file, found: 2, known: 1 } => assert_eq!(file, checkpoint(9)),
        other => panic!("{other}"),
    }
    let cases = [
        (altered(24, 8), CheckpointFault::OtherName { header: LogIndex(8) }),
        (altered(16, original[16] ^ 1), CheckpointFault::OtherLog),
        (altered(64, original[64] ^ 1), CheckpointFault::OtherSegments),
        (original[..HEADER_BYTES + 3].to_vec(), CheckpointFault::EndsEarly),
        (original[..5].to_vec(), CheckpointFault::EndsEarly),
        ([&original[..], b"more"].concat(), CheckpointFault::EndsEarly),
    ];
    for (bytes, fault) in cases {
        rig.disk.put(&checkpoint(9), &bytes).unwrap();
        let report = rig.start().unwrap();
        assert_eq!(report.unusable_checkpoints[0].why, fault);
        assert_eq!(report.checkpoint, Some(LogIndex(6)));
        rig.stop();
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_changes_nothing() {
    // Creation, write, sync, rename, the directory's sync; the removal of the oldest.
    for change in 0..6 {
        for fault in [Fault::Io, Fault::Full] {
            let mut rig = with_checkpoints();
            rig.append(10);
            rig.disk.fail_at(rig.disk.changes() + change, fault);
            assert!(matches!(rig.checkpoint(), Err(KeepFailure::Disk(_))), "change {change}");
            rig.append(20);
            assert_eq!(names(&rig, ".new"), Vec::<PathBuf>::new());
            rig.disk.restore_power(PowerLoss::LosesAll, 0);
            rig.start().unwrap();
            assert_eq!(rig.durable(), 12);
            rig.checkpoint().unwrap();
            assert_eq!(rig.start().unwrap().batches, 0);
        }
    }
}

#[test]
fn what_an_interrupted_checkpoint_left_is_removed() {
    let mut rig = with_checkpoints();
    rig.stop();
    let unfinished = Path::new(DIRECTORY).join(format!("{:020}.checkpoint.new", 10));
    rig.disk.put(&unfinished, b"half of a checkpoint").unwrap();
    rig.start().unwrap();
    assert_eq!(names(&rig, ".new"), Vec::<PathBuf>::new());
}

#[test]
fn segments_that_a_checkpoint_stands_behind_must_be_as_long_as_it_says() {
    let mut rig = with_checkpoints();
    let (path, _) = rig.last_segment();
    rig.stop();
    let mut bytes = rig.disk.content(&path).unwrap();
    bytes.truncate(70);
    rig.disk.put(&path, &bytes).unwrap();
    match refusal(&rig.disk, &rig.options) {
        OpenFailure::Damaged { file, offset: 70, index: LogIndex(10), why } => {
            assert_eq!(file, path);
            assert_eq!(why, leveret::storage::Damage::Frame(FrameFault::EndsEarly));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn what_was_never_read_at_the_start_can_be_read_back() {
    let mut rig = Rig::started(options(20_000, 0));
    (0..300).for_each(|number| rig.append(number * 7 % 900));
    rig.checkpoint().unwrap();
    // The rig reads every batch, in order, when it starts; here in another one.
    assert_eq!(rig.start().unwrap().batches, 0);
    let reader = rig.log().reader();
    for index in [300, 1, 150, 299, 2, 77] {
        assert!(reader.read(LogIndex(index), LogIndex(index + 1)).is_ok(), "{index}");
    }
    assert!(reader.read(LogIndex(301), LogIndex(302)).is_err());
}

#[test]
fn whoever_reads_while_segments_are_merged_finds_what_stays() {
    let mut rig = Rig::started(options(1024, 0));
    for _ in 0..20 {
        rig.append(300);
    }
    let reader = rig.log().reader();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let kept: Vec<LogIndex> = (1..20).filter(|index| is_kept(*index)).map(LogIndex).collect();
            while !stop.load(Ordering::Relaxed) {
                for index in &kept {
                    let batches = reader.read(*index, index.next()).unwrap();
                    assert_eq!(batches.iter().map(|batch| batch.index).collect::<Vec<_>>(), [*index]);
                }
            }
        });
        for _ in 0..200 {
            // More than a reader keeps open, so that it has to open the first again and again.
            (0..20).for_each(|_| rig.append(900));
            rig.checkpoint().unwrap();
            rig.merge().unwrap();
            if reading.is_finished() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
