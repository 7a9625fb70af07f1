//! Which queues a shard has: how they come, are looked at, and go with all that they hold.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::command::{DeleteRefusal, Event, Oldest, QueueState, SealConditions, TakenOut};
use super::commit_queue::Waiting;
use super::progress::log_failed;
use super::shard::Shard;
use super::slot::Slot;
use crate::model::{BodySequence, Bug, Entity, QueueId, Refusal, ReplyCode, planted};
use crate::queue::{ConsumerKey, Effect, QueueOptions};

impl Shard {
    /// Nothing is recorded of a queue that is there and is this already.
    pub(super) fn create(&mut self, queue: QueueId, options: QueueOptions) {
        let options = QueueOptions { logged: self.commits.is_logged(), ..options };
        if let Some(slot) = self.queues.get_mut(&queue) {
            let is_other_lease = slot.queue.options().lease_millis != options.lease_millis;
            slot.queue.set_lease(options.lease_millis);
            if is_other_lease {
                self.lease_anew(queue);
            }
        }
        if self.queues.get(&queue).is_some_and(|slot| slot.declared && slot.queue.options() == options) {
            return;
        }
        self.commits.batch.begin(self.now);
        self.commits.batch.declare(queue, options);
        self.apply_declare(queue, options);
        self.release_effects();
        self.retaining.note(queue, options.retention);
        self.limiting.note(queue, options.limits);
    }

    /// Answered when it is durable: what was said to be gone does not come back.
    pub(super) fn purge(&mut self, queue: QueueId, reply: oneshot::Sender<Result<u64, Box<Refusal>>>) {
        if let Some(failure) = self.commits.failure() {
            // Whoever asked may be gone.
            let _ = reply.send(Err(Box::new(log_failed(self.options.id, failure))));
            return;
        }
        let count = match self.queues.get_mut(&queue) {
            Some(slot) => {
                // What could not be handed out leaves with the rest.
                slot.attached.halted = None;
                slot.queue.purge(&mut self.effects)
            }
            None => 0,
        };
        self.run_effects(queue);
        self.commits.wait(Waiting::Purge { reply, count });
    }

    /// Answered when it is durable: whoever moves messages is done with them then.
    pub(super) fn take_out(
        &mut self,
        queue: QueueId,
        mut sequences: BTreeSet<u64>,
        why: TakenOut,
        reply: oneshot::Sender<Result<Vec<u64>, Box<Refusal>>>,
    ) {
        let failure = self.commits.failure().map(|failure| log_failed(self.options.id, failure));
        let refusal = failure.or_else(|| (!self.queues.contains_key(&queue)).then(queue_deleted));
        let (None, Some(slot)) = (&refusal, self.queues.get_mut(&queue)) else {
            // Whoever asked may be gone.
            let _ = reply.send(Err(Box::new(refusal.unwrap_or_else(queue_deleted))));
            return;
        };
        if planted(Bug::MoveTakesMore) {
            sequences.extend(sequences.last().map(|last| last + 1));
        }
        let others = match why {
            TakenOut::Moved => slot.queue.take_out(sequences, &mut self.effects),
            TakenOut::Cancelled => slot.queue.cancel_held(sequences, &mut self.effects),
        };
        self.run_effects(queue);
        self.commits.wait(Waiting::TakeOut { reply, others });
    }

    /// A queue that is gone already can be deleted, too.
    pub(super) fn seal(&mut self, queue: QueueId, conditions: SealConditions) -> Result<(), DeleteRefusal> {
        let Some(slot) = self.queues.get_mut(&queue) else { return Ok(()) };
        let counts = slot.queue.counts();
        if conditions.if_unused && counts.consumers > 0 {
            return Err(DeleteRefusal::InUse);
        }
        // What is for later is in it, too.
        if conditions.if_empty && counts.ready + counts.held_back > 0 {
            return Err(DeleteRefusal::NotEmpty);
        }
        slot.attached.sealed = true;
        Ok(())
    }

    pub(super) fn unseal(&mut self, queue: QueueId) {
        if let Some(slot) = self.queues.get_mut(&queue) {
            (slot.attached.sealed, slot.attached.unused) = (false, false);
        }
    }

    pub(super) fn delete(&mut self, queue: QueueId) -> u64 {
        let Some(slot) = self.queues.get_mut(&queue) else { return 0 };
        let ready = slot.queue.counts().ready;
        let consumers: Vec<ConsumerKey> = slot.queue.consumers().collect();
        for key in consumers {
            if let Some(outlet) = self.outlet(queue, key)
                && key.is_consumer()
            {
                self.outlets.send(
                    &outlet,
                    Event::ConsumerEnded { queue, key, reason: "its queue was deleted".to_owned() },
                );
            }
        }
        self.commits.batch.begin(self.now);
        self.commits.batch.delete(queue);
        self.apply_delete(queue);
        ready
    }

    /// Drops a queue and all that it holds.
    pub(super) fn forget(&mut self, queue: QueueId) {
        let Some(mut slot) = self.queues.remove(&queue) else { return };
        self.bodies.move_reader(queue, slot.attached.reads_in, None);
        let contents = slot.queue.contents();
        self.observe_deletion(queue, &contents);
        for run in contents.runs() {
            self.bodies.release(*run);
        }
        let letters = slot.queue.give_up_dead_letters();
        self.observe_deletion(queue, &letters);
        letters.runs().iter().for_each(|run| self.bodies.release(*run));
        let retained = slot.queue.give_up_retained();
        retained.into_iter().for_each(|run| self.bodies.release(run));
        self.retaining.forget(queue);
        self.limiting.forget(queue);
        self.expirations.forget(queue);
        self.leases.forget(queue);
        self.delays.forget(queue);
        for effect in slot.attached.stalled {
            if let Effect::Release(run) = effect {
                self.bodies.release(run);
            }
        }
        for (key, outlet) in slot.attached.gets {
            self.outlets.send(&outlet, Event::Got { key, message: Err(Box::new(queue_deleted())), ready: 0 });
        }
        for (key, outlet) in slot.attached.cancelled {
            self.outlets.send(&outlet, Event::Cancelled { key });
        }
    }

    pub(super) fn inspect(&mut self, id: QueueId) -> Option<QueueState> {
        let Slot { queue, .. } = self.queues.get_mut(&id)?;
        let (ready, unsettled) = (queue.oldest_waiting(), queue.oldest_unsettled());
        let when = |oldest: Option<BodySequence>| oldest.and_then(|oldest| self.times.of(oldest.0));
        let oldest = Oldest { ready: when(ready), unsettled: when(unsettled) };
        let Slot { queue, attached, .. } = self.queues.get(&id)?;
        let consumers = queue
            .consumers()
            .filter(|key| key.is_consumer())
            .filter_map(|key| queue.consumer_state(key))
            .collect();
        let fault = attached.halted.as_ref().map(|halt| self.why(halt).text.into());
        Some(QueueState {
            queue: id,
            counts: queue.counts(),
            oldest,
            consumers,
            fault,
            is_going: attached.sealed || attached.unused,
        })
    }
}

pub(super) fn queue_deleted() -> Refusal {
    Refusal::new(ReplyCode::NotFound, "the queue was deleted a moment ago").about(Entity::Queue, "")
}
