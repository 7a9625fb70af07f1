//! Consumers: how they come, ask for single messages, settle, and go.

use std::sync::Arc;

use super::channel_prefetch::SharedPrefetch;
use super::command::{Event, Outlet, SettleReply, Settlement};
use super::commit_queue::Waiting;
use super::observing::single_taker;
use super::queues::queue_deleted;
use super::shard::Shard;
use crate::journey::{Party, Taker};
use crate::model::{DeliveryTag, Entity, QueueId, Refusal, ReplyCode};
use crate::queue::{AttachRefusal, ConsumerKey, ConsumerLimits, Taking, UnknownTag};

impl Shard {
    pub(super) fn attach(
        &mut self,
        queue: QueueId,
        taker: Arc<Taker>,
        limits: ConsumerLimits,
        shared: Option<SharedPrefetch>,
        outlet: Outlet,
    ) {
        let key = taker.key;
        let refusal = self.refuses_consumers(queue);
        let result = match self.queues.get_mut(&queue) {
            Some(_) if refusal.is_some() => Err(refusal.unwrap_or_else(queue_deleted)),
            Some(slot) if !slot.attached.sealed => slot.queue.attach(key, limits).map_err(attach_refusal),
            _ => Err(queue_deleted()),
        };
        if result.is_ok()
            && let Some(slot) = self.queues.get_mut(&queue)
        {
            slot.attached.outlets.retain(|(other, _)| *other != key);
            slot.attached.outlets.push((key, outlet.clone()));
            slot.attached.takers.retain(|other| other.key != key);
            slot.attached.takers.push(taker);
            slot.attached.unused = false;
            if let Some(shared) = shared {
                slot.share(queue, key, shared);
            }
            self.leases.forget_holder(queue, key);
            self.mark_dirty(queue);
        }
        self.outlets.send(&outlet, Event::Attached { key, result: result.map_err(Box::new) });
    }

    pub(super) fn settle(
        &mut self,
        queue: QueueId,
        key: ConsumerKey,
        settlements: &[Settlement],
        reply: Option<SettleReply>,
    ) {
        let mut unknown = None;
        // The messages of a queue that was deleted need no settling.
        if let Some(slot) = self.queues.get_mut(&queue) {
            for Settlement { range, outcome } in settlements {
                let settled = slot.queue.settle_tags(key, *range, *outcome, &mut self.effects);
                unknown = unknown.or(settled.err());
            }
            self.run_effects(queue);
            self.mark_dirty(queue);
        }
        let request = reply.as_ref().map(|reply| reply.request);
        let outlet = reply.map(|reply| reply.outlet).or_else(|| self.outlet(queue, key));
        match (unknown, outlet, request) {
            (Some(UnknownTag(tag)), Some(outlet), request) => {
                let refusal = Box::new(unknown_tag(tag, key));
                self.outlets.send(&outlet, Event::SettleRefused { key, request, refusal });
            }
            (None, Some(outlet), Some(request)) => {
                self.commits.wait(Waiting::Settle { outlet, key, request })
            }
            (_, None, _) | (None, _, None) => {}
        }
    }

    pub(super) fn get(&mut self, queue: QueueId, key: ConsumerKey, party: &Arc<Party>, outlet: Outlet) {
        let refusal = self.refuses_consumers(queue);
        let Some(slot) = self.queues.get_mut(&queue).filter(|_| refusal.is_none()) else {
            let message = Err(Box::new(refusal.unwrap_or_else(queue_deleted)));
            return self.outlets.send(&outlet, Event::Got { key, message, ready: 0 });
        };
        if !slot.attached.outlets.iter().any(|(other, _)| *other == key) {
            let limits = ConsumerLimits {
                prefetch: 0,
                no_ack: key.taking == Taking::OneByOneNoAck,
                exclusive: false,
                credit: Some(0),
                window_bytes: u64::MAX,
                priority: 0,
            };
            slot.queue.attach(key, limits).expect("single requests are never refused");
            slot.attached.outlets.push((key, outlet.clone()));
            slot.attached.takers.push(single_taker(key, party));
            self.leases.forget_holder(queue, key);
        }
        slot.attached.gets.push_back((key, outlet));
        self.expire_before_delivery(queue);
        self.serve_gets(queue);
        self.note_leases(queue);
    }

    /// Answers single requests in order, as far as it can be said whether there is a message for them.
    pub(super) fn serve_gets(&mut self, queue: QueueId) {
        while let Some(slot) = self.queues.get_mut(&queue)
            && let Some((key, outlet)) = slot.attached.gets.pop_front()
        {
            if !slot.attached.stalled.is_empty() {
                return slot.attached.gets.push_front((key, outlet));
            }
            let taken = slot.queue.take_one(key, &mut self.effects);
            let ready = slot.queue.counts().ready;
            if !taken && slot.queue.waits_for_mark() {
                slot.attached.gets.push_front((key, outlet));
                return self.run_effects(queue);
            }
            self.run_effects(queue);
            if !taken {
                self.outlets.send(&outlet, Event::Got { key, message: Ok(None), ready });
            }
        }
    }

    pub(super) fn detach(&mut self, queue: QueueId, key: ConsumerKey) {
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        slot.attached.outlets.retain(|(other, _)| *other != key);
        slot.attached.takers.retain(|other| other.key != key);
        slot.attached.gets.retain(|(other, _)| *other != key);
        slot.attached.cancelled.retain(|(other, _)| *other != key);
        slot.take_back(Some(key));
        slot.queue.detach(key, &mut self.effects);
        self.run_effects(queue);
        self.mark_dirty(queue);
    }

    pub(super) fn cancel(&mut self, queue: QueueId, key: ConsumerKey) {
        let Some(outlet) = self.outlet(queue, key) else { return };
        let Some(slot) = self.queues.get_mut(&queue) else { return };
        slot.queue.cancel(key, &mut self.effects);
        // Somebody else may be served, and who waited for room may want none any more.
        let looks_again = slot.queue.options().single_active || slot.is_sharing();
        let stalled = !slot.attached.stalled.is_empty();
        if stalled {
            slot.attached.cancelled.push((key, Arc::clone(&outlet)));
        }
        self.run_effects(queue);
        if !stalled {
            self.outlets.send(&outlet, Event::Cancelled { key });
        }
        if looks_again {
            self.mark_dirty(queue);
        }
    }
}

pub(super) fn attach_refusal(refusal: AttachRefusal) -> Refusal {
    let text = match refusal {
        AttachRefusal::ExclusiveInUse => "another consumer has the queue in exclusive use",
        AttachRefusal::OthersPresent => "exclusive use was asked for, and the queue has consumers",
        AttachRefusal::SingleActive => {
            let text = "exclusive use was asked for, and the queue has a single active consumer";
            return Refusal::new(ReplyCode::AccessRefused, text).hint("consume without exclusive use");
        }
        AttachRefusal::KeyInUse => {
            let text = "a consumer with this number has messages of this queue that are not settled";
            return Refusal::new(ReplyCode::NotAllowed, text).hint("settle them, or take another number");
        }
    };
    Refusal::new(ReplyCode::AccessRefused, text).retryable()
}

pub(super) fn unknown_tag(tag: DeliveryTag, key: ConsumerKey) -> Refusal {
    let (entity, name) = match key.is_consumer() {
        true => (Entity::Consumer, key.handle),
        false => (Entity::Channel, key.channel),
    };
    Refusal::new(ReplyCode::PreconditionFailed, format!("unknown delivery tag {tag}"))
        .about(entity, name.to_string())
        .field("ranges", "an unsettled delivery tag", tag.to_string())
        .hint("tags are counted by consumer, for Get by channel, and each is settled once")
}
