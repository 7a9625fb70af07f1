//! Files that are not what was written: torn ends, rot, missing and foreign files, other formats.

use std::path::{Path, PathBuf};

use leveret::storage::{
    Damage, DirectLogOptions, Disk as _, FrameFault, LogIndex, OpenFailure, OwnerFault, SegmentFault,
    ShardLog as _,
    testing::{MemoryDisk, PowerLoss, Seeded},
};
use proptest::prelude::*;

use super::support::{DIRECTORY, Rig, options, refusal};

const SEGMENT_HEADER_BYTES: usize = 64;
const FRAME_HEADER_BYTES: usize = 88;

fn segment(first_index: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{first_index:020}.log"))
}

/// Changes a segment's bytes behind the log's back.
fn change(rig: &Rig, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = rig.disk.content(path).unwrap();
    change(&mut content);
    rig.disk.put(path, &content).unwrap();
}

/// Makes the checksum of the header at `start` right again: whoever wrote it meant it.
fn reseal(content: &mut [u8], start: usize, crc_at: usize) {
    let crc = crc32c::crc32c(&content[start..start + crc_at]);
    content[start + crc_at..start + crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The log must not open, and must not change anything.
fn check_refused(rig: &mut Rig, expect: impl FnOnce(&OpenFailure) -> bool) -> String {
    rig.stop();
    let before = rig.files();
    let failure = refusal(&rig.disk, &rig.options);
    assert!(expect(&failure), "{failure:?}");
    assert!(before == rig.files(), "a log that is refused is left as it is");
    failure.to_string()
}

#[test]
fn an_end_that_is_cut_off_anywhere_is_cut_reported_and_appended_to() {
    for zero_ahead_bytes in [0, 2000] {
        let mut rig = Rig::started(options(1 << 20, zero_ahead_bytes));
        rig.append(100);
        rig.append(21);
        let (path, start) = rig.last_segment();
        rig.append(61);
        let (_, end) = rig.last_segment();
        let content = rig.disk.content(&path).unwrap();
        for len in start..end {
            rig.stop();
            rig.disk.put(&path, &content[..len as usize]).unwrap();
            let (log, replayed) = super::support::open(&rig.disk, &rig.options).unwrap();
            assert_eq!(replayed.batches.len(), 2);
            match &log.recovery().cut {
                None => assert_eq!(len, start, "nothing of the frame is left"),
                Some(cut) => {
                    assert_eq!((&cut.file, cut.offset, cut.bytes), (&path, start, len - start));
                    assert_eq!((cut.first_lost, cut.frames_behind), (LogIndex(3), 0));
                    assert!(cut.to_string().contains("from batch 3 on"), "{cut}");
                }
            }
            drop(log);
            assert_eq!(rig.disk.content(&path).unwrap(), content[..start as usize]);
        }
        rig.disk.put(&path, &content[..end as usize]).unwrap();
        assert_eq!(rig.start().unwrap().cut, None);
        assert_eq!(rig.durable(), 3);
        rig.append(100);
        rig.start().unwrap();
        assert_eq!(rig.durable(), 4);
    }
}

/// What a log holds, and up to where later words of the log prove that it was durable.
struct Proven {
    rig: Rig,
    last: PathBuf,
    proven_bytes: usize,
    /// Batches that a later word proves.
    proven_batches: usize,
}

/// A log of some segments, made of `groups` of payload lengths, whose last group a mark may prove.
fn proven(options: DirectLogOptions, groups: &[Vec<usize>], marked: bool) -> Proven {
    let mut rig = Rig::started(options);
    let mut before = rig.last_segment();
    for group in groups {
        before = rig.last_segment();
        for payload_bytes in group {
            rig.propose(*payload_bytes).unwrap();
        }
        rig.step().unwrap();
    }
    let (last, end) = rig.last_segment();
    let segment = rig.log().segments().pop().unwrap();
    let proven_bytes = match marked {
        true => end as usize,
        // Of a segment that the last group began, or of the very first, only the header was durable before.
        false if before.0 != last || before.1 == end => SEGMENT_HEADER_BYTES,
        false => before.1 as usize,
    };
    let mut proven_batches = rig.durable();
    if marked {
        rig.log().rest().unwrap();
    } else {
        // At most the last group, and of that only what is in the last segment.
        let in_last = segment.end_index.0 - segment.first_index.0.max(1);
        proven_batches -= groups.last().map_or(0, Vec::len).min(in_last as usize);
    }
    rig.stop();
    Proven { rig, last, proven_bytes, proven_batches }
}

/// Flips bits of one byte and opens the log: damage where it was proven durable, a reported cut elsewhere.
fn check_rot(proven: &mut Proven, path: &Path, offset: usize, mask: u8) {
    let Proven { rig, last, proven_bytes, proven_batches } = proven;
    let before = rig.files();
    rig.disk.rot(path, offset, mask).unwrap();
    if path != last || offset < *proven_bytes {
        let failure = refusal(&rig.disk, &rig.options);
        let found = matches!(&failure, OpenFailure::Damaged { file, offset: at, .. }
            if file == path && *at <= offset as u64);
        assert!(found, "byte {offset} of {}: {failure:?}", path.display());
        rig.disk.rot(path, offset, mask).unwrap();
        assert!(before == rig.files(), "a damaged log is left as it is");
        return;
    }
    let (log, replayed) = super::support::open(&rig.disk, &rig.options).unwrap();
    let cut = log.recovery().cut.as_ref().expect("rot in the end is cut, and that is reported");
    assert!(cut.offset <= offset as u64 && cut.file == path);
    assert!(
        replayed.batches.len() >= *proven_batches,
        "{} of {proven_batches} batches",
        replayed.batches.len()
    );
    drop(log);
    for (path, content) in before {
        rig.disk.put(&path, &content).unwrap();
    }
}

#[test]
fn rot_of_any_byte_is_noticed() {
    let groups = [vec![100], vec![300, 40], vec![900], vec![10, 10, 10], vec![20, 300]];
    for marked in [true, false] {
        let mut proven = proven(options(1200, 300), &groups, marked);
        let files = proven.rig.files();
        assert!(files.len() >= 3, "{} segments", files.len());
        for (path, content) in files {
            for offset in 0..content.len() {
                check_rot(&mut proven, &path, offset, 1 << (offset % 8));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rot_in_the_middle_is_damage_and_never_cut(
        segment_bytes in 1024..5000u64,
        zero_ahead_bytes in prop_oneof![Just(0u64), Just(1000)],
        groups in proptest::collection::vec(proptest::collection::vec(0..900usize, 1..5), 1..12),
        marked in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut proven = proven(options(segment_bytes, zero_ahead_bytes), &groups, marked);
        let mut random = Seeded::new(seed);
        for _ in 0..20 {
            let files = proven.rig.files();
            let (path, content) = &files[random.below(files.len() as u64) as usize];
            let offset = random.below(content.len() as u64) as usize;
            check_rot(&mut proven, path, offset, 1 + random.below(255) as u8);
        }
    }
}

/// A group of three whose first frame was lost on the way to the disk: the others prove nothing by being there.
#[test]
fn whole_frames_behind_a_torn_one_of_their_group_do_not_make_it_damage() {
    let mut rig = Rig::started(options(1 << 20, 0));
    rig.append(100);
    let (path, start) = rig.last_segment();
    for payload_bytes in [50, 60, 70] {
        rig.propose(payload_bytes).unwrap();
    }
    rig.step().unwrap();
    rig.stop();
    change(&rig, &path, |content| content[start as usize..][..FRAME_HEADER_BYTES].fill(0));
    let (log, replayed) = super::support::open(&rig.disk, &rig.options).unwrap();
    assert_eq!(replayed.batches.len(), 1);
    assert_eq!(log.recovery().cut.as_ref().map(|cut| (cut.offset, cut.frames_behind)), Some((start, 2)));
}

#[test]
fn a_mark_makes_damage_of_what_a_crash_could_not_have_left() {
    let mut rig = Rig::started(options(1 << 20, 0));
    let (path, start) = rig.last_segment();
    rig.append(50);
    rig.log().rest().unwrap();
    rig.stop();
    rig.disk.rot(&path, start as usize + 100, 1).unwrap();
    let message = check_refused(&mut rig, |failure| {
        matches!(failure, OpenFailure::Damaged { why: Damage::Frame(FrameFault::BodyChecksum), .. })
    });
    assert!(message.contains("damaged at byte 264, where batch 1 belongs"), "{message}");
    assert!(message.contains("no file was changed"), "{message}");
}

#[test]
fn formats_of_later_versions_are_refused_and_said_to_be_newer() {
    let is_unknown = |found| move |failure: &OpenFailure| matches!(failure, OpenFailure::UnknownVersion { found: it, .. } if *it == found);
    let frame = SEGMENT_HEADER_BYTES;
    for (at, value, start, crc_at, found) in [
        (8, 3, 0, 60, 3),
        (12, 2, 0, 60, 1),
        (frame + 4, 2, frame, 84, 2),
        (frame + 5, 9, frame, 84, 1),
        (frame + 7, 1, frame, 84, 1),
    ] {
        let mut rig = Rig::started(options(1 << 20, 0));
        rig.append(10);
        change(&rig, &segment(0), |content| {
            content[at] = value;
            reseal(content, start, crc_at);
        });
        let message = check_refused(&mut rig, is_unknown(found));
        assert!(message.contains("written by a newer version"), "{message}");
    }
}

/// An older program must not cut what a newer one wrote, just because it cannot read the word that it was durable.
#[test]
fn an_end_with_frames_of_a_later_version_behind_it_is_not_cut() {
    let mut rig = Rig::started(options(1 << 20, 0));
    let (path, torn) = rig.last_segment();
    rig.append(10);
    let (_, newer) = rig.last_segment();
    rig.append(10);
    change(&rig, &path, |content| {
        content[torn as usize] ^= 1;
        content[newer as usize + 4] = 2;
        reseal(content, newer as usize, 84);
    });
    check_refused(&mut rig, |failure| matches!(failure, OpenFailure::UnknownVersion { found: 2, .. }));

    // The same bytes with another salt are what somebody sent as a message.
    change(&rig, &path, |content| {
        content[newer as usize + 16] ^= 1;
        reseal(content, newer as usize, 84);
        content.truncate(newer as usize + FRAME_HEADER_BYTES);
        content[torn as usize + 8..torn as usize + 16].fill(0);
    });
    assert!(super::support::open(&rig.disk, &rig.options).unwrap().0.recovery().cut.is_some());
}

#[test]
fn a_file_that_is_no_segment_is_damage() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, SegmentFault); 5] = [
        (|content| content.clear(), SegmentFault::EndsEarly),
        (|content| content.truncate(63), SegmentFault::EndsEarly),
        (|content| content[..8].copy_from_slice(b"RIFFWAVE"), SegmentFault::NoMagic),
        (|content| content[20] ^= 1, SegmentFault::HeaderChecksum),
        (
            |content| {
                content[16] ^= 1;
                reseal(content, 0, 60);
            },
            SegmentFault::OtherLog,
        ),
    ];
    for (spoil, fault) in cases {
        let mut rig = Rig::started(options(1024, 0));
        rig.append(900);
        rig.append(900);
        let (path, _) = rig.last_segment();
        change(&rig, &path, spoil);
        check_refused(&mut rig, |failure| {
            matches!(failure, OpenFailure::Damaged { file, offset: 0, why: Damage::Segment(why), .. }
                if *file == path && *why == fault)
        });
    }
}

#[test]
fn the_first_segment_cannot_be_without_its_first_frames() {
    let mut rig = Rig::started(options(1024, 0));
    for len in SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + 200 {
        change(&rig, &segment(0), |content| content.resize(len, 0));
        check_refused(
            &mut rig,
            |failure| matches!(failure, OpenFailure::Damaged { file, .. } if *file == segment(0)),
        );
    }
}

/// Indices 1 and 2 fill a segment each, and 3 is in the last one.
fn three_segments() -> Rig {
    let mut rig = Rig::started(options(1024, 0));
    (0..3).for_each(|_| rig.append(900));
    assert_eq!(rig.files().len(), 4);
    rig.stop();
    rig
}

#[test]
fn missing_segments_are_named() {
    for (removed, first, end) in [(0, 0, 1), (1, 1, 2), (2, 2, 3)] {
        let mut rig = three_segments();
        rig.disk.remove(&segment(removed)).unwrap();
        let message = check_refused(&mut rig, |failure| {
            *failure
                == OpenFailure::MissingBatches {
                    first: LogIndex(first),
                    end: LogIndex(end),
                    file: segment(end),
                }
        });
        assert!(message.contains(&format!("batches {first} to {}", end - 1)), "{message}");
    }
}

#[test]
fn segments_that_changed_names_are_damage() {
    let mut rig = three_segments();
    let (first, second) = (rig.disk.content(&segment(1)).unwrap(), rig.disk.content(&segment(2)).unwrap());
    rig.disk.put(&segment(1), &second).unwrap();
    rig.disk.put(&segment(2), &first).unwrap();
    check_refused(&mut rig, |failure| {
        matches!(failure, OpenFailure::Damaged { why: Damage::Segment(SegmentFault::OtherName { .. }), .. })
    });
}

/// Every checksum is right, and yet it is not what comes next.
#[test]
fn a_frame_that_does_not_follow_is_not_taken() {
    for (at, value, fault) in [
        (16, 0xff, FrameFault::OtherSegment),
        (24, 0, FrameFault::Contradiction),
        (32, 3, FrameFault::WrongIndex { got: LogIndex(3), expected: LogIndex(2) }),
        (48, 0, FrameFault::Contradiction),
        (64, 3, FrameFault::Contradiction),
        (72, 3, FrameFault::Contradiction),
        (80, 0xff, FrameFault::OtherHistory),
        (11, 0xff, FrameFault::TooLong { bytes: 0xff00_0000 + 24 }),
    ] {
        let mut rig = Rig::started(options(1 << 20, 0));
        rig.append(10);
        let (path, start) = rig.last_segment();
        rig.append(24);
        rig.stop();
        change(&rig, &path, |content| {
            assert_ne!(content[start as usize + at], value);
            content[start as usize + at] = value;
            reseal(content, start as usize, 84);
        });
        let (log, replayed) = super::support::open(&rig.disk, &rig.options).unwrap();
        assert_eq!(replayed.batches.len(), 1);
        assert_eq!(log.recovery().cut.as_ref().map(|cut| (cut.offset, cut.why)), Some((start, fault)));
    }
}

/// A segment may have the right number and be of another history, as when a backup was mixed with what came after it.
#[test]
fn a_segment_that_does_not_follow_is_damage() {
    // First body, term, checksum of the frame before.
    for at in [40, 48, 56] {
        let mut rig = three_segments();
        change(&rig, &segment(3), |content| {
            content[at] ^= 0x40;
            reseal(content, 0, 60);
        });
        check_refused(&mut rig, |failure| {
            matches!(failure, OpenFailure::Damaged { file, why: Damage::Segment(SegmentFault::OtherHistory), .. }
                if *file == segment(3))
        });
    }
}

/// The end of a segment that is followed by another one was durable before the other began.
#[test]
fn only_the_last_segment_can_be_torn() {
    let mut rig = three_segments();
    change(&rig, &segment(1), |content| content.truncate(content.len() - 1));
    check_refused(&mut rig, |failure| {
        matches!(failure, OpenFailure::Damaged { file, why: Damage::Frame(FrameFault::EndsEarly), .. }
            if *file == segment(1))
    });
    // Without its last frame it ends like a segment that is whole; then the next one does not follow.
    change(&rig, &segment(1), |content| content.truncate(SEGMENT_HEADER_BYTES));
    check_refused(&mut rig, |failure| {
        matches!(failure, OpenFailure::MissingBatches { first: LogIndex(1), .. })
    });
}

#[test]
fn what_is_not_of_a_log_is_refused() {
    for name in ["notes.txt", "1.log", "00000000000000000001.log.bak", "99999999999999999999.log"] {
        let mut rig = three_segments();
        let path = Path::new(DIRECTORY).join(name);
        rig.disk.put(&path, b"mine").unwrap();
        let message =
            check_refused(&mut rig, |failure| *failure == OpenFailure::ForeignFile { path: path.clone() });
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn a_segment_that_was_never_finished_is_removed_unless_it_holds_data() {
    let mut rig = three_segments();
    let unfinished = segment(4).with_extension("log.new");
    rig.disk.put(&unfinished, b"LVTSEGM").unwrap();
    let report = rig.start().unwrap();
    assert_eq!(report.leftovers_removed, 1);
    rig.stop();
    assert!(rig.disk.content(&unfinished).is_err());

    // A segment in use whose name went back, for instance by a directory that was restored from elsewhere.
    let content = rig.disk.content(&segment(3)).unwrap();
    rig.disk.put(&segment(3).with_extension("log.new"), &content).unwrap();
    rig.disk.remove(&segment(3)).unwrap();
    let message = check_refused(&mut rig, |failure| {
        matches!(failure, OpenFailure::Damaged { why: Damage::Segment(SegmentFault::NameLost), .. })
    });
    assert!(message.contains("rename"), "{message}");
}

#[test]
fn a_batch_that_its_owner_refuses_stops_the_opening_and_changes_nothing() {
    let what_is_this = || OwnerFault::from(std::io::Error::other("what is this?"));
    let mut rig = Rig::started(options(1 << 20, 0));
    rig.append(10);
    rig.append(20);
    rig.stop();
    let before = rig.files();
    let disk = std::sync::Arc::new(rig.disk.clone());
    let failure = leveret::storage::testing::SteppedLog::open(
        disk,
        Path::new(DIRECTORY),
        &rig.options,
        &mut |batch: leveret::storage::RecoveredBatch| {
            if batch.index == LogIndex(2) { Err(what_is_this()) } else { Ok(()) }
        },
    );
    let failure = failure.err().unwrap();
    let cause = std::error::Error::source(&failure).expect("the owner's error is kept as it is");
    assert!(cause.is::<std::io::Error>());
    assert_eq!(failure, OpenFailure::Replay { index: LogIndex(2), why: what_is_this() });
    assert!(before == rig.files());
}

#[test]
fn reading_notices_what_rotted_since_the_start() {
    let mut rig = Rig::started(options(1 << 20, 0));
    let (path, start) = rig.last_segment();
    rig.append(100);
    let reader = rig.log().reader();
    let read = |first, end| reader.read(LogIndex(first), LogIndex(end));
    assert_eq!(read(1, 2).unwrap().len(), 1);
    assert!(read(0, 1).unwrap().is_empty(), "the log's own entry");
    assert!(read(2, 3).is_err() && read(1, 3).is_err(), "not written yet");
    rig.disk.rot(&path, start as usize + FRAME_HEADER_BYTES + 50, 4).unwrap();
    assert!(read(1, 2).unwrap_err().to_string().contains("checksum of the frame body"));
    rig.disk.rot(&path, start as usize + 40, 4).unwrap();
    assert!(read(1, 2).unwrap_err().to_string().contains("checksum of the frame header"));
}

/// Whatever lies in the directory: an answer, and no panic.
#[test]
fn arbitrary_bytes_are_refused_or_cut() {
    for seed in 0..300 {
        let mut random = Seeded::new(seed);
        let rig = three_segments();
        let path = segment([0, 1, 2, 3][random.below(4) as usize]);
        change(&rig, &path, |content| {
            let from = random.below(content.len() as u64) as usize;
            let len = 1 + random.below(200) as usize;
            let garbage = std::iter::repeat_with(|| random.number() as u8).take(len);
            content.splice(from..(from + len).min(content.len()), garbage.collect::<Vec<_>>());
        });
        match super::support::open(&rig.disk, &rig.options) {
            Ok((log, replayed)) => {
                assert!(
                    log.recovery().cut.is_some() && replayed.batches.len() == 2
                        || replayed.batches.len() == 3
                )
            }
            Err(failure) => assert!(failure.to_string().contains("damaged"), "{failure}"),
        }
        rig.disk.restore_power(PowerLoss::KeepsAll, 0);
    }
    let nothing = MemoryDisk::new();
    assert!(super::support::open(&nothing, &options(1024, 0)).unwrap().1.batches.is_empty());
}
