//! What the broker may run short of, and publishes that have to wait for it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::broker::Broker;
use super::platform::Platform;
use crate::shard::{DiskGauge, run_blocking};
use crate::storage::DiskRoom;

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Memory for messages of queues that are nowhere else. All publishes wait.
    Memory,
    /// Room on the disk. Publishes that reach a durable queue wait.
    Disk,
}

impl Broker {
    /// Waits until there is enough again; the task is woken then.
    pub(super) fn poll_relief(&self, shortage: Shortage, context: &mut Context<'_>) -> Poll<()> {
        match shortage {
            Shortage::Memory => self.shared.gauges.memory.poll_room(context),
            Shortage::Disk => self.shared.gauges.disk.poll_room(context),
        }
    }

    /// Why there is too little, in a sentence.
    pub(super) fn shortage_reason(&self, shortage: Shortage) -> String {
        let gauges = &self.shared.gauges;
        match shortage {
            Shortage::Memory => format!(
                "messages of queues that are not on disk take {} of memory, and {} are the most",
                mebibytes(gauges.memory.used_bytes()),
                mebibytes(gauges.memory.bytes_max())
            ),
            Shortage::Disk => {
                gauges.disk.reason().unwrap_or_else(|| "the disk was full until now".to_owned())
            }
        }
    }
}

/// How often it is looked how much of the disk is free, when that is far from too little.
const LOOK: Duration = Duration::from_secs(1);
/// And when it is not: little time to fill what is left.
const LOOK_CLOSELY: Duration = Duration::from_millis(200);

/// Tells the gauge how much is free where the data is, as long as there is a broker.
pub(super) async fn watch_disk(
    platform: Platform,
    data: PathBuf,
    free_bytes_min: u64,
    gauge: Weak<DiskGauge>,
) {
    let mut low = false;
    loop {
        let (disk, place) = (Arc::clone(&platform.disk), data.clone());
        let looked = run_blocking(&platform.workers, move || disk.room(&place)).await;
        let Some(gauge) = gauge.upgrade() else { return };
        let mut pause = LOOK;
        match looked {
            Some(Ok(room)) => {
                low = is_low(room, free_bytes_min, low);
                gauge.note_free(low.then(|| reason(room, free_bytes_min)));
                if room.free_bytes < free_bytes_min.saturating_mul(4) {
                    pause = LOOK_CLOSELY;
                }
            }
            // The logs find out for themselves when the disk is full.
            Some(Err(error)) => tracing::debug!(%error, "cannot look how much of the disk is free"),
            None => return,
        }
        drop(gauge);
        platform.workers.sleep(pause).await;
    }
}

/// Below the bound there is too little; once there is, until a quarter more than the bound is free.
fn is_low(room: DiskRoom, free_bytes_min: u64, was_low: bool) -> bool {
    let bound = if was_low { free_bytes_min.saturating_add(free_bytes_min / 4) } else { free_bytes_min };
    room.free_bytes < bound
}

fn reason(room: DiskRoom, free_bytes_min: u64) -> String {
    format!(
        "{} of the disk are free, and disk_free_bytes_min is {}",
        mebibytes(room.free_bytes),
        mebibytes(free_bytes_min)
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_stays_little_until_clearly_more_is_free() {
        let low = |free_bytes, was_low| is_low(DiskRoom { free_bytes, total_bytes: 10_000 }, 1000, was_low);
        assert!(!low(1000, false));
        assert!(low(999, false));
        assert!(low(1249, true));
        assert!(!low(1250, true));
        assert!(!is_low(DiskRoom { free_bytes: 0, total_bytes: 0 }, 0, false), "0 switches it off");
        assert!(is_low(DiskRoom { free_bytes: 5, total_bytes: 0 }, u64::MAX, true));
    }
}
