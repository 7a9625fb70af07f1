//! A log that lost something is made openable again, whenever the power goes meanwhile.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use leveret::{
    model::{BodySequence, Timestamp},
    storage::{
        Disk, OwnerFault, RecoveredBatch, Salvaged, ShardLog, Snapshot, Survey, SurveyedFrame, Surveyor,
        repair, survey,
        testing::{MemoryDisk, PowerLoss},
    },
};

use super::support::{DIRECTORY, batch, open, options, refusal};

/// What can be read: the numbers of the batches, as their owner would remember them.
#[derive(Default)]
struct Readable(Vec<u8>);

impl Readable {
    fn take(&mut self, batch: &RecoveredBatch) {
        self.0.extend(batch.payload.slice(..8.min(batch.payload.len())));
    }
}

impl Surveyor for Readable {
    fn restore(&mut self, state: Bytes) -> Result<(), OwnerFault> {
        self.0 = state.to_vec();
        Ok(())
    }

    fn frame(&mut self, frame: &SurveyedFrame<'_>) -> Result<(), OwnerFault> {
        if frame.is_replayed && !frame.batch.payload.is_empty() {
            self.take(&frame.batch);
        }
        Ok(())
    }
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// A log of twelve batches in several segments, with a checkpoint after the fourth, whose bytes rotted in some of them.
fn rotten(rotten: &[u64]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, &options(1500, 0)).unwrap();
    for number in 1..=12 {
        log.propose(batch(number, 400, number * 10, 2)).unwrap();
        log.step().unwrap();
        if number == 4 {
            let snapshot = Snapshot { position: log.position(), state: vec![numbers(1..=4).into()] };
            log.keeper().unwrap().checkpoint(snapshot).unwrap();
        }
    }
    log.rest().unwrap();
    drop(log);
    for number in rotten {
        let name = number.to_le_bytes();
        let payload = batch(*number, 400, 0, 0).payload.concat();
        let files = disk.list(Path::new(DIRECTORY)).unwrap();
        let found = files.into_iter().find_map(|entry| {
            let path = Path::new(DIRECTORY).join(entry.name);
            let content = disk.content(&path).unwrap();
            let at = content.windows(payload.len()).position(|bytes| bytes == payload)?;
            Some((path, at))
        });
        let (path, at) = found.unwrap_or_else(|| panic!("batch {name:?} is nowhere"));
        disk.rot(&path, at + 100, 1).unwrap();
    }
    disk
}

/// Reads what can be read, and has the log repaired with it.
fn mend(disk: &MemoryDisk) -> Option<Survey> {
    let mut readable = Readable::default();
    let surveyed = survey(disk, Path::new(DIRECTORY), None, &mut readable).ok()?;
    let salvaged = Salvaged {
        log_id: 0,
        state: vec![readable.0.into()],
        bodies_end: BodySequence(0),
        nothing: Bytes::new(),
        at: Timestamp(5),
    };
    repair(disk, &surveyed, salvaged).ok().map(|_| surveyed)
}

/// The log opens as what could be read, and goes on.
fn check(disk: &MemoryDisk, kept: &[u8]) {
    for _ in 0..2 {
        let (mut log, replayed) = open(disk, &options(1500, 0)).unwrap();
        let state = replayed.state().cloned().unwrap_or_default();
        let mut all = Readable(state.to_vec());
        replayed.batches.iter().for_each(|batch| all.take(batch));
        assert_eq!(all.0[..kept.len()], *kept);
        log.propose(batch(99, 50, 1000 + all.0.len() as u64, 1)).unwrap();
        log.step().unwrap();
        disk.restore_power(PowerLoss::LosesAll, 0);
    }
}

#[test]
fn what_cannot_be_read_is_left_out_and_all_else_is_there() {
    let disk = rotten(&[6, 7, 10]);
    assert!(refusal(&disk, &options(1500, 0)).is_damage());
    let surveyed = mend(&disk).unwrap();
    let lost: Vec<_> =
        surveyed.losses.iter().map(|loss| (loss.entries.clone(), loss.bodies.clone())).collect();
    assert_eq!(lost, [(6..7, 60..62), (7..8, 70..72), (10..11, 100..102)]);
    let kept = numbers((1..=12).filter(|number| ![6, 7, 10].contains(number)));
    // What is behind damage can still be read back.
    let (log, _) = open(&disk, &options(1500, 0)).unwrap();
    for index in [5, 8, 9, 11, 12] {
        let (first, end) = (leveret::storage::LogIndex(index), leveret::storage::LogIndex(index + 1));
        assert_eq!(log.reader().read(first, end).unwrap().len(), 1, "batch {index}");
    }
    drop(log);
    check(&disk, &kept);
}

#[test]
fn damage_in_the_last_segment_is_repaired_too() {
    let disk = rotten(&[12]);
    mend(&disk).unwrap();
    check(&disk, &numbers(1..=11));
}

#[test]
fn a_repair_may_be_cut_short_anywhere_and_be_done_again() {
    let kept = numbers((1..=12).filter(|number| ![6, 10].contains(number)));
    let outages = [(PowerLoss::KeepsAll, 0), (PowerLoss::LosesAll, 0)];
    let outages = outages.into_iter().chain((0..4).map(|seed| (PowerLoss::Tears, seed)));
    let (mut cuts, mut repaired) = (0, 0);
    for (loss, seed) in outages {
        for change in 0.. {
            let disk = rotten(&[6, 10]);
            disk.restore_power(PowerLoss::KeepsAll, 0);
            disk.cut_power_at(disk.changes() + change);
            if mend(&disk).is_some() {
                break;
            }
            disk.restore_power(loss, seed);
            cuts += 1;
            let before = open(&disk.copy(), &options(1500, 0));
            match before {
                Ok(_) => repaired += 1,
                Err(failure) => {
                    assert!(failure.is_damage(), "{failure}");
                    mend(&disk).expect("the disk works again");
                }
            }
            check(&disk, &kept);
        }
    }
    assert!(cuts > 40 && repaired > 0, "{cuts} cuts, {repaired} of them behind the repair");
}

#[test]
fn a_survey_changes_nothing() {
    let disk = rotten(&[6]);
    let before = disk.changes();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    survey(&*shared, Path::new(DIRECTORY), None, &mut Readable::default()).unwrap();
    assert_eq!(disk.changes(), before);
}
