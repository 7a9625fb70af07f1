//! How fast work goes that can wait.
//!
//! A merge reads and writes beside a log that confirms depend on, with the same disk and the same processors. So it rests
//! after each step, unless somebody waits for it: then it is done as fast as it can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::disk_gauge::DiskGauge;

/// What decides whether a shard's work may rest.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    disk: Arc<DiskGauge>,
    haste: Arc<Haste>,
}

/// What is known of a shard's haste.
#[derive(Debug, Default)]
pub(super) struct Haste {
    /// Bytes that went into the log since it was opened.
    written_bytes: AtomicU64,
    /// The shard is to stop, and waits.
    is_stopping: AtomicBool,
}

impl Haste {
    pub(super) fn note_written(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn note_stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

impl Pace {
    pub(super) fn new(disk: &Arc<DiskGauge>, haste: &Arc<Haste>) -> Self {
        Self { disk: Arc::clone(disk), haste: Arc::clone(haste) }
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.haste.written_bytes.load(Ordering::Relaxed)
    }

    /// Whether work that began when so many bytes had gone into the log, and has read so many since, may rest: the disk has
    /// room, the shard is not about to stop, and the log has not grown faster than that.
    pub(super) fn may_rest(&self, written_bytes_then: u64, read_bytes: u64) -> bool {
        let grown_bytes = self.written_bytes() - written_bytes_then;
        grown_bytes <= read_bytes && !self.disk.is_short() && !self.haste.is_stopping.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_while_nobody_waits_for_it() {
        let (disk, haste) = (Arc::new(DiskGauge::default()), Arc::new(Haste::default()));
        let pace = Pace::new(&disk, &haste);
        haste.note_written(1000);
        assert!(pace.may_rest(1000, 0));
        haste.note_written(500);
        assert!(pace.may_rest(1000, 500) && !pace.may_rest(1000, 499), "the log grows faster");
        disk.note_free(Some("little is free".to_owned()));
        assert!(!pace.may_rest(1000, 500), "publishers wait for room");
        disk.note_free(None);
        assert!(pace.may_rest(1000, 500));
        haste.note_stopping();
        assert!(!pace.may_rest(1000, 500), "whoever stops the shard waits");
    }
}
