//! Queues with consumers that share a bound of their channel: what they hand out to these is lent to them, each time.

use super::channel_prefetch::{SharedPrefetch, Sharing};
use super::command::{Event, Outlet};
use super::shard::Shard;
use super::slot::Slot;
use crate::model::QueueId;
use crate::queue::{ConsumerKey, Queue};

impl Shard {
    /// A consumer shares the bound of its channel from now on, with what it has.
    pub(super) fn share(
        &mut self,
        queue: QueueId,
        key: ConsumerKey,
        shared: SharedPrefetch,
        outlet: &Outlet,
    ) {
        if let Some(slot) = self.queues.get_mut(&queue) {
            slot.share(queue, key, shared);
            slot.count_unsettled();
            self.mark_dirty(queue);
        }
        self.outlets.send(outlet, Event::Shares { key });
    }
}

impl Slot {
    pub(super) fn share(&mut self, queue: QueueId, key: ConsumerKey, shared: SharedPrefetch) {
        self.queue.share(key);
        let channel = key.into();
        let is_there = self.attached.sharing.get(&channel).is_some_and(|sharing| sharing.is_of(&shared));
        if !is_there {
            // Those of an earlier channel under this number are gone, since they went before this one came.
            self.attached.sharing.insert(channel, Sharing::new(shared, queue));
        }
    }

    /// Whether any of its consumers share a bound.
    pub(super) fn is_sharing(&self) -> bool {
        !self.attached.sharing.is_empty()
    }

    /// To be called before the queue hands out: lends it what consumers want that share a bound, as far as that has room. What they
    /// have settled since makes room.
    pub(super) fn borrow_room(&mut self) {
        if !self.is_sharing() {
            return;
        }
        // What waits to be read goes first.
        let hands_out = self.attached.stalled.is_empty();
        let shares = self.queue.shares();
        let queue = &mut self.queue;
        self.attached.sharing.retain(|channel, sharing| {
            let Some(share) = shares.get(channel) else { return false };
            let wanted = if hands_out { share.wanted } else { 0 };
            queue.lend(*channel, sharing.exchange(share.unsettled, wanted));
            true
        });
    }

    /// To be called when the queue has handed out: what is left of what was lent goes back.
    pub(super) fn return_room(&mut self) {
        if self.is_sharing() {
            self.attached.sharing.keys().for_each(|channel| self.queue.lend(*channel, 0));
            self.count_unsettled();
        }
    }

    fn count_unsettled(&mut self) {
        let shares = self.queue.shares();
        for (channel, sharing) in &mut self.attached.sharing {
            let unsettled = shares.get(channel).map_or(0, |share| share.unsettled);
            sharing.settle_up(unsettled);
        }
    }

    /// Asks the queue something whose answer depends on what consumers have room for.
    pub(super) fn with_room_to_borrow<T>(&mut self, ask: impl FnOnce(&mut Queue) -> T) -> T {
        let sharing = &self.attached.sharing;
        sharing.iter().for_each(|(channel, sharing)| self.queue.lend(*channel, sharing.free()));
        let answer = ask(&mut self.queue);
        sharing.keys().for_each(|channel| self.queue.lend(*channel, 0));
        answer
    }
}
