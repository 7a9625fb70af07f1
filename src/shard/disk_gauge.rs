//! Whether the disk has room for messages, and who waits until it has.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::model::ShardId;
use crate::storage::LogRoom;

/// What is known about the room on the disk: by shards whose logs ran out of it, and by whoever looks how much is free.
/// Publishers look at it before they hand over what has to be written.
#[derive(Debug, Default)]
pub struct DiskGauge {
    short: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Shards whose logs have no room, or only what was kept for this.
    logs: BTreeMap<ShardId, String>,
    /// Less is free than must be.
    low: Option<String>,
    waiting: Vec<Waker>,
}

impl DiskGauge {
    /// Whether there is too little room for more messages.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// Why there is too little room, in a sentence; `None` if there is enough.
    pub fn reason(&self) -> Option<String> {
        let state = self.state();
        state.logs.values().next().or(state.low.as_ref()).cloned()
    }

    /// Waits for room; the task is woken when there is.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_short() {
            return Poll::Ready(());
        }
        let mut state = self.state();
        // Again under the lock: whoever finds room from now on finds the waker.
        if !self.is_short() {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Less is free than must be, for this reason; or enough.
    pub fn note_free(&self, low: Option<String>) {
        self.change(|state| state.low = low);
    }

    /// A shard's log has room, or not.
    pub(super) fn note_log(&self, shard: ShardId, room: &LogRoom) {
        self.change(|state| match room {
            LogRoom::Enough => drop(state.logs.remove(&shard)),
            LogRoom::ReserveInUse => {
                let what = format!("the log of shard {shard} writes to what it keeps for a full disk");
                state.logs.insert(shard, what);
            }
            LogRoom::None(error) => drop(state.logs.insert(shard, error.shortage())),
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let short = !state.logs.is_empty() || state.low.is_some();
        let was_short = self.short.swap(short, Ordering::AcqRel);
        let waiting = if short { Vec::new() } else { std::mem::take(&mut state.waiting) };
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        match (was_short, short) {
            (false, true) => {
                let reason = self.reason().unwrap_or_default();
                tracing::warn!(reason, "publishers of durable messages wait until the disk has room");
            }
            (true, false) => tracing::info!("the disk has room again; publishers go on"),
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_when_nobody_misses_any() {
        let gauge = DiskGauge::default();
        let mut context = Context::from_waker(Waker::noop());
        assert!(gauge.poll_room(&mut context).is_ready());
        gauge.note_log(ShardId(1), &LogRoom::ReserveInUse);
        gauge.note_free(Some("little is free".to_owned()));
        assert!(gauge.poll_room(&mut context).is_pending());
        assert!(gauge.reason().is_some_and(|reason| reason.contains("shard 1")));
        gauge.note_log(ShardId(1), &LogRoom::Enough);
        assert_eq!(gauge.reason().as_deref(), Some("little is free"));
        assert!(gauge.poll_room(&mut context).is_pending());
        gauge.note_free(None);
        assert!(gauge.poll_room(&mut context).is_ready());
    }
}
