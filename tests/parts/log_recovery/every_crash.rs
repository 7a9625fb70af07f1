//! One fixed run, with the power cut at every single change to the disk, and again at every change of the recovery.

use leveret::storage::testing::PowerLoss;

use std::error::Error;

use super::support::{Rig, options};

/// Appends, groups, a roll, a batch larger than a segment, a mark; checkpoints, and the segments that they made
/// unnecessary merged, merged again and removed.
fn script(rig: &mut Rig) -> Result<(), Box<dyn Error>> {
    for payload_bytes in [100, 700] {
        rig.propose(payload_bytes)?;
        rig.step()?;
    }
    for payload_bytes in [300, 20, 600, 40] {
        rig.propose(payload_bytes)?;
    }
    rig.step()?;
    rig.checkpoint()?;
    rig.log().rest()?;
    rig.propose(2500)?;
    rig.propose(10)?;
    rig.step()?;
    rig.checkpoint()?;
    rig.propose(900)?;
    rig.step()?;
    rig.checkpoint()?;
    let merged = rig.merge()?;
    assert!(merged.bytes_before > 3000 && merged.bytes_after < 1500, "{merged:?}");
    rig.propose(60)?;
    rig.step()?;
    rig.propose(1200)?;
    rig.step()?;
    rig.checkpoint()?;
    rig.merge()?;
    rig.propose(60)?;
    rig.step()?;
    rig.checkpoint()?;
    assert!(rig.trim()? > 1000, "the segments before the second checkpoint are gone");
    for _ in 0..3 {
        rig.propose(1400)?;
        rig.step()?;
    }
    rig.checkpoint()?;
    rig.propose(1400)?;
    rig.step()?;
    rig.checkpoint()?;
    rig.trim()?;
    for _ in 0..3 {
        rig.propose(700)?;
        rig.step()?;
    }
    Ok(())
}

fn outages() -> impl Iterator<Item = (PowerLoss, u64)> {
    let tears = (0..4).map(|seed| (PowerLoss::Tears, seed));
    [(PowerLoss::KeepsAll, 0), (PowerLoss::LosesAll, 0)].into_iter().chain(tears)
}

#[test]
fn the_run_writes_over_segments_that_nobody_needs() {
    let mut rig = Rig::started(options(1500, 1000));
    script(&mut rig).unwrap();
    assert!(rig.reused() > 0);
}

/// Runs until the power goes at `change`; `None` if the run is over before that.
fn crashed(zero_ahead_bytes: u64, change: u64) -> Option<Rig> {
    let mut rig = Rig::new(options(1500, zero_ahead_bytes));
    rig.disk.cut_power_at(change);
    let over = rig.start().is_ok() && script(&mut rig).is_ok();
    rig.stop();
    if over { None } else { Some(rig) }
}

#[test]
fn power_may_go_at_any_moment() {
    let mut crashes = 0;
    for zero_ahead_bytes in [0, 1000] {
        for change in 0.. {
            if crashed(zero_ahead_bytes, change).is_none() {
                break;
            }
            for (loss, seed) in outages() {
                let mut rig = crashed(zero_ahead_bytes, change).unwrap();
                rig.disk.restore_power(loss, seed);
                rig.start().unwrap();
                rig.append(50);
                rig.disk.restore_power(PowerLoss::LosesAll, 0);
                assert_eq!(rig.start().unwrap().cut, None, "what was cut stays cut");
                crashes += 1;
            }
        }
    }
    assert!(crashes > 200, "{crashes} crashes are too few for this run");
}

#[test]
fn power_may_go_again_at_any_moment_of_the_recovery() {
    let mut crashes = 0;
    for change in 0.. {
        if crashed(1000, change).is_none() {
            break;
        }
        for (loss, seed) in outages() {
            for second in 0.. {
                let mut rig = crashed(1000, change).unwrap();
                rig.disk.restore_power(loss, seed);
                rig.disk.cut_power_at(rig.disk.changes() + second);
                if rig.start().is_ok() {
                    break;
                }
                rig.disk.restore_power(loss, seed + second + 1);
                rig.start().unwrap();
                rig.append(50);
                rig.disk.restore_power(PowerLoss::LosesAll, 0);
                assert_eq!(rig.start().unwrap().cut, None);
                crashes += 1;
            }
        }
    }
    assert!(crashes > 300, "{crashes} crashes are too few for this run");
}
