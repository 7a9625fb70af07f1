//! Who gets what next: turns of the consumers, order of the messages, and the mark that runs ahead of the deliveries.

use super::consumer::ConsumerKey;
use super::departure::Departure;
use super::lines::Next;
use super::message_ref::SEQUENCE_MAX;
use super::queue::{Effect, Effects, Queue, QueueCommand};
use super::sequence_runs::{SequenceRun, SequenceRuns};
use crate::model::{BodySequence, DeliveryTag};

/// How far the delivery mark runs ahead of the deliveries, in body sequences.
const MARK_STEP: u64 = 1 << 18;
/// Most messages a consumer gets in a row when there are several.
const TURN_MESSAGES_MAX: u64 = 64;

impl Queue {
    /// Hands out what the consumers have room for. To be called after input that may have made messages or room.
    pub fn deliver(&mut self, effects: &mut Effects) {
        if self.options.single_active {
            return self.deliver_to_active(effects);
        }
        let mut has_room = false;
        // Nobody gets room while messages are handed out: who had none at a higher level has none when a lower one is served.
        for level in 0..self.levels.count() {
            has_room |= self.serve_level(level, effects);
        }
        // Who waits for room of its channel alone is to find the mark there.
        if has_room || self.has_room() {
            self.advance_mark(effects);
        }
    }

    /// Hands out what the consumers of a priority have room for; whether one of them had any.
    fn serve_level(&mut self, level: usize, effects: &mut Effects) -> bool {
        let members = self.levels.members(level);
        let able = members.clone().filter(|index| self.room_of(*index) > 0).count() as u64;
        if able == 0 {
            return false;
        }
        let ready = self.ready();
        let turn_messages =
            if able == 1 { u64::MAX } else { (ready / (able * 8)).clamp(1, TURN_MESSAGES_MAX) };
        let mut idle_turns = 0;
        while idle_turns < members.len() && self.next_waiting().is_some() {
            let index = members.start + self.levels.next_turn(level);
            let taken = self.serve(index, turn_messages, effects);
            idle_turns = if taken == 0 { idle_turns + 1 } else { 0 };
        }
        true
    }

    pub(super) fn serve(&mut self, index: usize, messages_max: u64, effects: &mut Effects) -> u64 {
        let mut taken = 0;
        let mut accepted = SequenceRuns::default();
        while taken < messages_max && self.room_of(index) > 0 {
            let Some(next) = self.next_waiting() else { break };
            let handed = self.hand_out(index, next, messages_max - taken);
            taken += handed.run.count;
            if self.consumers[index].limits.no_ack {
                accepted.push_run(handed.run);
            }
            push_delivery(effects, self.consumers[index].key, handed);
        }
        if !accepted.is_empty() {
            effects.push(Effect::Append(QueueCommand::Settle(Departure::NoAck, accepted)));
        }
        taken
    }

    /// Gives a consumer with room the next message, and those behind it that follow it in every respect: `count_max` at
    /// most.
    fn hand_out(&mut self, index: usize, next: Next, count_max: u64) -> Handed {
        let Next { message, came_back, .. } = next;
        let first = message.sequence();
        let delivery_count = match came_back || !self.delivery_counts.is_empty() {
            true => self.delivery_counts.get(&first).copied().unwrap_or(0),
            false => 0,
        };
        let is_old = first < self.redelivered_below;
        let room = self.room_of(index);
        let consumer = &mut self.consumers[index];
        let (messages, window_bytes) = if came_back {
            self.lines.hand_out_again(next);
            (std::slice::from_ref(&message), message.size_bytes())
        } else {
            // While some came back each has a count of its own.
            let count_max = if self.delivery_counts.is_empty() { count_max.min(room) } else { 1 };
            let old_below = if is_old { self.redelivered_below } else { u64::MAX };
            let below = self.deliver_below.min(old_below);
            self.lines.hand_out(next, count_max, below, consumer.room_bytes())
        };
        let run = SequenceRun { first: BodySequence(first), count: messages.len() as u64 };
        let first_tag = consumer.take(messages, window_bytes);
        self.use_loan(index, run.count);
        self.outstanding += run.count;
        self.delivered += run.count;
        Handed { run, first_tag, redelivered: delivery_count > 0 || is_old, delivery_count, window_bytes }
    }

    /// Takes the next message for a single request; it counts as held by `key`, which must be attached with no room
    /// of its own (credit 0). If there is none, [`Queue::waits_for_mark`] tells whether there will be one.
    pub fn take_one(&mut self, key: ConsumerKey, effects: &mut Effects) -> bool {
        let Some(index) = self.position(key) else { return false };
        self.consumers[index].add_credit(1);
        let taken = self.serve(index, 1, effects);
        self.consumers[index].limits.credit = Some(0);
        self.advance_mark(effects);
        taken > 0
    }

    /// The message to go out next.
    fn next_waiting(&mut self) -> Option<Next> {
        self.lines.next().filter(|next| next.message.sequence() < self.deliver_below)
    }

    /// Whether messages wait only for the mark to become durable.
    pub fn waits_for_mark(&mut self) -> bool {
        self.lines.next().is_some_and(|next| next.message.sequence() >= self.deliver_below)
    }

    /// Asks for the next mark before the deliveries reach this one.
    pub(super) fn advance_mark(&mut self, effects: &mut Effects) {
        if !self.options.logged || self.mark_pending {
            return;
        }
        let position = self.lines.mark_position();
        if position + MARK_STEP / 2 >= self.mark {
            self.mark_pending = true;
            let mark = (position + MARK_STEP).min(SEQUENCE_MAX);
            effects.push(Effect::Append(QueueCommand::DeliveryMark(mark)));
        }
    }

    /// Messages that were handed out and never left the broker are back in their places, as if they had not been handed
    /// out. Those that the consumer has settled all the same stay settled.
    pub fn take_back(&mut self, key: ConsumerKey, first_tag: DeliveryTag, run: SequenceRun) {
        if let Some(index) = self.position(key) {
            let consumer = &mut self.consumers[index];
            if !consumer.limits.no_ack {
                consumer.settle(first_tag.0, first_tag.0 + run.count - 1, |_, _| {});
            }
            if consumer.cancelled && consumer.unsettled_count() == 0 {
                self.remove_consumer(index);
            }
            self.choose_active();
        }
        for sequence in run.sequences() {
            if self.lines.put_back(sequence) == Some(true) {
                self.outstanding -= 1;
                self.delivered -= 1;
            }
        }
    }
}

/// Messages that one consumer was given together.
struct Handed {
    run: SequenceRun,
    first_tag: DeliveryTag,
    redelivered: bool,
    delivery_count: u32,
    window_bytes: u64,
}

/// Adds messages to the last delivery if they continue it, else begins a new one.
fn push_delivery(effects: &mut Effects, to: ConsumerKey, handed: Handed) {
    let Handed { run: more, first_tag: tag, redelivered, delivery_count, window_bytes: more_bytes } = handed;
    if let Some(Effect::Deliver {
        consumer,
        run,
        first_tag,
        redelivered: old,
        delivery_count: count,
        window_bytes,
    }) = effects.last_mut()
        && *consumer == to
        && run.sequences().end == more.first.0
        && first_tag.0 + run.count == tag.0
        && (*old, *count) == (redelivered, delivery_count)
    {
        run.count += more.count;
        *window_bytes += more_bytes;
        return;
    }
    effects.push(Effect::Deliver {
        consumer: to,
        run: more,
        first_tag: tag,
        redelivered,
        delivery_count,
        window_bytes: more_bytes,
    });
}
