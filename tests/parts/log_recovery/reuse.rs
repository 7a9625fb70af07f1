//! Segments that are written over older ones: what is left of those, and who must not be disturbed.

use std::path::Path;
use std::sync::Arc;

use leveret::storage::{LogCopy, OpenFailure, testing::SteppedLog};

use super::support::{DIRECTORY, Replayed, Rig, open, options, refusal};

fn spares(rig: &Rig) -> usize {
    rig.files().iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "spare")).count()
}

/// A log in whose last segment, which was written over an older one, are a few batches; the length of that file.
fn reused() -> (Rig, usize) {
    let mut rig = Rig::started(options(4096, 0));
    for _ in 0..6 {
        rig.append(3000);
    }
    rig.checkpoint().unwrap();
    rig.append(3000);
    rig.checkpoint().unwrap();
    rig.trim().unwrap();
    assert_eq!(spares(&rig), 4, "four are kept and no more");
    rig.append(1500);
    rig.append(100);
    assert_eq!(rig.reused(), 1);
    let (path, end) = rig.last_segment();
    let file_bytes = rig.disk.content(&path).unwrap().len();
    assert!(file_bytes as u64 > end + 500, "what was there before is still behind the end");
    (rig, file_bytes)
}

#[test]
fn what_an_older_segment_left_behind_the_end_is_neither_torn_nor_damaged() {
    let (mut rig, _) = reused();
    let (path, end) = rig.last_segment();
    let report = rig.start().unwrap();
    assert_eq!((report.cut, report.leftovers_removed), (None, 0));
    assert_eq!(rig.disk.content(&path).unwrap().len() as u64, end);
    assert_eq!(spares(&rig), 0);
    rig.append(200);
    assert_eq!(rig.start().unwrap().cut, None);
}

#[test]
fn a_frame_that_is_torn_over_an_older_segment_is_cut_and_reported() {
    for kept in [40, 88, 120] {
        let (mut rig, _) = reused();
        let (path, start) = rig.last_segment();
        let before = rig.disk.content(&path).unwrap();
        rig.append(300);
        let mut torn = rig.disk.content(&path).unwrap();
        let from = start as usize + kept;
        torn[from..before.len()].copy_from_slice(&before[from..]);
        rig.stop();
        rig.disk.put(&path, &torn).unwrap();
        let (log, replayed) = open(&rig.disk, &rig.options).unwrap();
        assert_eq!(replayed.batches.len() + 7, rig.taken() - 1);
        assert!(log.recovery().cut.as_ref().is_some_and(|cut| cut.offset == start), "{kept} bytes kept");
    }
}

#[test]
fn damage_to_what_is_durable_is_told_from_what_an_older_segment_left() {
    let (mut rig, _) = reused();
    let (path, first) = rig.last_segment();
    rig.append(300);
    rig.append(10);
    for at in [first as usize + 3, first as usize + 20, first as usize + 100] {
        rig.stop();
        rig.disk.rot(&path, at, 4).unwrap();
        let failure = refusal(&rig.disk, &rig.options);
        assert!(matches!(&failure, OpenFailure::Damaged { offset, .. } if *offset == first), "{failure}");
        rig.disk.rot(&path, at, 4).unwrap();
    }
    rig.start().unwrap();
}

#[test]
fn a_segment_that_somebody_copies_is_not_written_over() {
    let mut rig = Rig::started(options(4096, 0));
    for _ in 0..4 {
        rig.append(3000);
    }
    rig.checkpoint().unwrap();
    let copy = LogCopy::open(&rig.disk, Path::new(DIRECTORY)).unwrap();
    rig.append(3000);
    rig.checkpoint().unwrap();
    rig.trim().unwrap();
    rig.append(3000);
    rig.append(3000);
    assert_eq!(rig.reused(), 0);
    copy.write(&rig.disk, Path::new("/copy"), &mut |_| {}).unwrap();
    let mut copied = Replayed::default();
    let disk = Arc::new(rig.disk.clone());
    SteppedLog::open(disk, Path::new("/copy"), &rig.options, &mut copied).unwrap();
}

#[test]
fn spares_go_when_the_log_begins_no_segment_for_a_while() {
    let (mut rig, _) = reused();
    assert_eq!(spares(&rig), 3);
    for _ in 0..256 {
        rig.log().rest().unwrap();
    }
    assert_eq!(spares(&rig), 0);
}
