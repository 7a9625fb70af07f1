//! Effects of queues carried out: messages go to connections, or wait until they are read back.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::bodies::{ColdExtent, Missing};
use super::command::{Delivery, Event, Outlet, Piece};
use super::commit_queue::Waiting;
use super::halt::Halt;
use super::job::{Job, Work};
use super::notice::Notice;
use super::read_back::{Loaded, NotRead};
use super::reading::{Step, Waiter};
use super::shard::Shard;
use crate::model::{BodySequence, QueueId};
use crate::queue::{ConsumerKey, Departure, Effect, QueueCommand, SequenceRun};

impl Shard {
    pub(super) fn deliver(&mut self) {
        self.freeze();
        let dirty = std::mem::take(&mut self.dirty);
        for queue in dirty {
            let is_limited = self.limiting.touch(queue);
            if is_limited || self.has_expiring(queue) {
                self.expire_before_delivery(queue);
            }
            let Some(slot) = self.queues.get_mut(&queue) else { continue };
            slot.dirty = false;
            if !slot.attached.gets.is_empty() {
                self.serve_gets(queue);
            }
            let Some(slot) = self.queues.get_mut(&queue) else { continue };
            slot.borrow_room();
            if slot.attached.stalled.is_empty() {
                slot.queue.deliver(&mut self.effects);
                slot.return_room();
                let begins_leases = slot.queue.is_held() && !slot.attached.has_leases;
                self.run_effects(queue);
                if begins_leases {
                    self.note_leases(queue);
                }
            }
        }
    }

    pub(super) fn freeze(&mut self) {
        if let Some((chunk, block, offset)) = self.commits.batch.freeze() {
            self.bodies.freeze(&chunk, block, offset);
        }
    }

    /// Carries out what a queue wants done, in order.
    pub(super) fn run_effects(&mut self, queue: QueueId) {
        let mut effects = VecDeque::from(std::mem::take(&mut self.effects));
        while let Some(effect) = effects.pop_front() {
            match effect {
                // Messages are not settled by being delivered before they are.
                Effect::Append(QueueCommand::Settle(Departure::NoAck, _)) => self.run_or_stall(queue, effect),
                Effect::Append(command) => self.append(queue, &command),
                Effect::CameBack(why, runs, after_millis) => {
                    self.observe_return(queue, why, &runs);
                    self.mark_dirty(queue);
                    self.recounts.note(queue, self.now);
                    self.hold_back(queue, why, &runs, after_millis);
                }
                Effect::Unused => {
                    if let Some(slot) = self.queues.get_mut(&queue) {
                        slot.attached.unused = true;
                    }
                    // The broker is gone only when the process ends.
                    let _ = self.notices.push(Notice::QueueUnused { queue });
                }
                Effect::Deliver { .. } | Effect::Release(_) => self.run_or_stall(queue, effect),
            }
            for effect in self.effects.drain(..).rev() {
                effects.push_front(effect);
            }
        }
        self.effects = Vec::from(effects);
    }

    pub(super) fn append(&mut self, queue: QueueId, command: &QueueCommand) {
        self.commits.batch.begin(self.now);
        self.commits.batch.command(queue, command);
        if let QueueCommand::DeliveryMark(mark) = command {
            self.commits.wait(Waiting::Mark { queue, mark: *mark });
        }
        if matches!(command, QueueCommand::Settle(..)) {
            self.retaining.touch(queue);
        }
        self.apply_command(queue, command);
        self.observe_command(queue, command);
        self.note_departure(queue, command);
        if matches!(command, QueueCommand::DeadLetter(..)) {
            self.tell_of_dead_letters(queue);
        }
    }

    pub(super) fn run_or_stall(&mut self, queue: QueueId, effect: Effect) {
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        let rest = if slot.attached.stalled.is_empty() { self.try_run(queue, effect) } else { Some(effect) };
        if let (Some(rest), Some(slot)) = (rest, self.queues.get_mut(&queue)) {
            slot.attached.stalled.push_back(rest);
        }
    }

    /// Delivers or releases; returns what must wait for bodies to be read back, which is then under way. What is in
    /// memory goes out at once: memory need not have room for all of a long run at the same time.
    pub(super) fn try_run(&mut self, queue: QueueId, effect: Effect) -> Option<Effect> {
        let (consumer, mut run, mut first_tag, redelivered, delivery_count, mut window_bytes) = match effect {
            Effect::Release(run) => {
                self.bodies.release(run);
                return None;
            }
            Effect::Deliver { consumer, run, first_tag, redelivered, delivery_count, window_bytes } => {
                (consumer, run, first_tag, redelivered, delivery_count, window_bytes)
            }
            Effect::Append(command) => {
                self.append(queue, &command);
                self.release_effects();
                return None;
            }
            Effect::CameBack(..) | Effect::Unused => unreachable!("carried out where they arise"),
        };
        let outlet = self.outlet(queue, consumer)?;
        while run.count > 0 {
            let found = match self.bodies.look_up(run) {
                Ok(found) => found,
                Err(Missing::Cold) => {
                    self.wait_for(queue, run.first);
                    return Some(Effect::Deliver {
                        consumer,
                        run,
                        first_tag,
                        redelivered,
                        delivery_count,
                        window_bytes,
                    });
                }
                Err(Missing::Unknown) => {
                    self.halts.push((queue, Halt::Damaged(NotRead::Lost(run.first))));
                    return Some(Effect::Deliver {
                        consumer,
                        run,
                        first_tag,
                        redelivered,
                        delivery_count,
                        window_bytes,
                    });
                }
            };
            self.note_reader(queue, found.read_back);
            let bytes = if found.is_small_part { Bytes::copy_from_slice(&found.bytes) } else { found.bytes };
            let delivery = Delivery {
                queue,
                consumer,
                first_tag,
                count: found.count,
                origin: found.origin,
                pieces: vec![Piece { bytes, count: found.count }],
                redelivered,
                delivery_count,
                window_bytes: std::mem::take(&mut window_bytes),
            };
            let handed = SequenceRun { first: run.first, count: found.count };
            self.observe_delivery(queue, consumer, handed, redelivered, delivery_count);
            first_tag.0 += found.count;
            run = SequenceRun {
                first: BodySequence(run.first.0 + found.count),
                count: run.count - found.count,
            };
            self.send_delivery(&outlet, delivery);
        }
        None
    }

    /// A queue waits for a message that is not in memory.
    fn wait_for(&mut self, queue: QueueId, first: BodySequence) {
        self.note_reader(queue, None);
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        if !slot.attached.loading {
            slot.attached.loading = true;
            self.reading.wait(Waiter::Queue(queue), first.0);
        }
    }

    /// A queue's deliveries come from this extent that was read back now, or from none.
    pub(super) fn note_reader(&mut self, queue: QueueId, extent: Option<u64>) {
        if let Some(slot) = self.queues.get_mut(&queue)
            && slot.attached.reads_in != extent
        {
            let before = std::mem::replace(&mut slot.attached.reads_in, extent);
            self.bodies.move_reader(queue, before, extent);
        }
    }

    /// Has messages read back for queues that wait for them, as far as there is room.
    pub(super) fn begin_reads(&mut self) {
        while let Some(step) = self.reading.next_step(self.now, &mut self.bodies) {
            match step {
                Step::Resume(waiters) => self.go_on(waiters),
                Step::Read(extents) => {
                    let held = self.bodies.held_back_counter();
                    self.jobs.push(Job(Work::ReadBack(extents, held)));
                }
            }
        }
    }

    pub(super) fn loaded(&mut self, loaded: Vec<Loaded>) {
        self.reading.ended();
        for Loaded { extent, groups } in loaded {
            // If all were settled in the meantime, their batches may be gone from the log.
            if !self.bodies.is_cold(&extent) {
                let waited = self.reading.arrived(&extent);
                self.go_on(waited);
                continue;
            }
            let installed = groups.and_then(|groups| self.bodies.install(&extent, groups));
            if let Err(NotRead::Disk(error)) = &installed
                && self.reading.tries_again(&extent, error, self.now)
            {
                continue;
            }
            let waited = self.reading.arrived(&extent);
            match installed {
                Ok(()) => self.go_on(waited),
                Err(why) => self.halt_those_who_wait(&extent, waited, &why),
            }
        }
    }

    /// What they waited for is there, or nobody needs it any more.
    fn go_on(&mut self, waited: Vec<Waiter>) {
        for waiter in waited {
            match waiter {
                Waiter::Queue(queue) => self.resume(queue),
                Waiter::Browse(number) => self.browse_on(number),
            }
        }
    }

    fn halt_those_who_wait(&mut self, extent: &ColdExtent, waited: Vec<Waiter>, why: &NotRead) {
        let ColdExtent { first, end, .. } = extent;
        let halt = match why {
            NotRead::Disk(error) => Halt::Unread(error.clone()),
            why => Halt::Damaged(why.clone()),
        };
        let (mut queues, mut browsers) = (Vec::new(), Vec::new());
        for waiter in waited {
            match waiter {
                Waiter::Queue(queue) => queues.push(queue.0),
                Waiter::Browse(number) => browsers.push(number),
            }
        }
        browsers.iter().for_each(|number| self.refuse_browse(*number, &halt));
        if queues.is_empty() {
            tracing::warn!(shard = %self.options.id, first, end, %why, "cannot read messages back from the log to show them");
            return;
        }
        tracing::error!(
            shard = %self.options.id, first, end, ?queues, %why,
            "cannot read messages back from the log; the consumers of these queues are ended"
        );
        self.halts.extend(queues.into_iter().map(|queue| (QueueId(queue), halt.clone())));
    }

    pub(super) fn resume(&mut self, queue: QueueId) {
        if let Some(slot) = self.queues.get_mut(&queue) {
            slot.attached.loading = false;
        }
        while let Some(effect) =
            self.queues.get_mut(&queue).and_then(|slot| slot.attached.stalled.pop_front())
        {
            if let Some(rest) = self.try_run(queue, effect) {
                if let Some(slot) = self.queues.get_mut(&queue) {
                    slot.attached.stalled.push_front(rest);
                }
                return;
            }
        }
        let cancelled = self.queues.get_mut(&queue).map(|slot| std::mem::take(&mut slot.attached.cancelled));
        for (key, outlet) in cancelled.into_iter().flatten() {
            self.outlets.send(&outlet, Event::Cancelled { key });
        }
        self.mark_dirty(queue);
    }

    pub(super) fn send_delivery(&mut self, outlet: &Outlet, delivery: Delivery) {
        let key = delivery.consumer;
        if key.is_consumer() {
            return self.outlets.deliver(outlet, delivery);
        }
        let ready = self.queues.get(&delivery.queue).map_or(0, |slot| slot.queue.counts().ready);
        self.outlets.send(outlet, Event::Got { key, message: Ok(Some(delivery)), ready });
    }

    pub(super) fn outlet(&self, queue: QueueId, key: ConsumerKey) -> Option<Outlet> {
        let slot = self.queues.get(&queue)?;
        slot.attached.outlets.iter().find(|(other, _)| *other == key).map(|(_, outlet)| Arc::clone(outlet))
    }

    pub(super) fn mark_dirty(&mut self, queue: QueueId) {
        if let Some(slot) = self.queues.get_mut(&queue)
            && !slot.dirty
        {
            slot.dirty = true;
            self.dirty.push(queue);
        }
    }
}
