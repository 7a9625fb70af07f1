//! What a broker tells a client, and what the books make of it.

use super::books::{Finding, Way};
use super::client::{Answer, Pending, Simulated, number_of};
use super::delays::delay_of;
use super::looking::Reading;
use super::run::Run;
use crate::broker::{Delivery, Fetched, Word};
use crate::message::{DeliveredView, message_ends};
use crate::model::Durability;

/// In the place of a consumer's number: what was got one by one.
const GETS: u32 = 0;

impl Run {
    /// A client hears something. `false`: it has to go.
    pub(super) fn hear(&mut self, index: usize, word: Word<Simulated>) -> Result<bool, Finding> {
        let client = &mut self.clients[index];
        let number = client.number;
        match word {
            Word::Delivered(delivery) => self.delivered(index, &delivery)?,
            Word::Confirmed(confirmation) => {
                for run in confirmation.runs {
                    let queues = run.queues;
                    self.trace.note(format_args!(
                        "client {number} hears of {}-{}: {} {queues} {}",
                        run.first,
                        run.last,
                        run.durability,
                        run.refusal.is_some()
                    ));
                    for sequence in run.first..=run.last {
                        let Some(id) = self.clients[index].sent.remove(&sequence) else {
                            return Err(format!("sequence {sequence} was confirmed, and is not open"));
                        };
                        let is_safe =
                            run.refusal.is_none() && run.durability >= Durability::Synced && queues > 0;
                        self.copy_told(index, sequence, is_safe);
                        if run.refusal.is_none() {
                            self.counters.confirmed += 1;
                            self.books.confirmed(id, queues, run.durability)?;
                        } else {
                            self.counters.refused += 1;
                            self.books.refused(id);
                        }
                    }
                }
            }
            Word::Returned(_) => return Err("a message came back that was not mandatory".to_owned()),
            Word::Consuming { request, .. } => drop(client.pending.remove(&request)),
            Word::ConsumeRefused { request, refusal, .. } => {
                self.trace.note(format_args!("client {number} may not consume: {refusal}"));
                if let Some(Pending::Consume { consumer }) = client.pending.remove(&request) {
                    self.consumer_ended(index, consumer);
                }
            }
            Word::Cancelled { consumer, request, .. } => {
                client.pending.remove(&request);
                self.consumer_ended(index, consumer);
            }
            Word::Ended { consumer, reason, .. } => {
                self.trace.note(format_args!("client {number}: consumer {consumer} ended: {reason}"));
                self.consumer_ended(index, consumer);
            }
            Word::Got { request, message, .. } => {
                let Some(Pending::Get { queue, no_ack }) = client.pending.remove(&request) else {
                    return Err("an answer came to no request for a message".to_owned());
                };
                if let Some(Fetched { tag, delivery }) = message {
                    let id = self.came(&delivery, queue)?[0];
                    self.trace.note(format_args!("client {number} got {id} as {tag}"));
                    match no_ack {
                        true => self.books.leaving(id, queue, Way::Done),
                        false => drop(self.clients[index].held.insert((GETS, tag), (id, queue))),
                    }
                }
            }
            Word::PrefetchLimited { request, .. } => {
                return Err(format!("{request} is answered that nobody asked for"));
            }
            Word::Settled { request, .. } => {
                self.trace.note(format_args!("client {number} hears that {request} is settled"));
                if let Some(Pending::Settle { messages }) = client.pending.remove(&request) {
                    self.counters.settled += messages.len() as u64;
                    messages.into_iter().for_each(|(id, queue)| self.books.left(id, queue));
                }
            }
            Word::Answered { request, answer, .. } => match (client.pending.remove(&request), answer) {
                (Some(Pending::Read(reading)), Answer::Browsed(page)) => {
                    self.page_came(index, reading, &page)?;
                }
                (Some(Pending::MovePage { from, to }), Answer::Browsed(page)) => {
                    self.move_page_came(index, from, to, &page)?;
                }
                (Some(Pending::Remove { from, messages }), Answer::Removed(others)) => {
                    self.trace.note(format_args!("client {number} hears that {others:?} stay"));
                    self.taken_out(from, messages, &others);
                }
                (pending, answer) => {
                    self.trace.note(format_args!("client {number} hears {answer:?}"));
                    match pending {
                        Some(Pending::Topology) => self.topology_answered(Ok(answer))?,
                        Some(_) => self.counters.purged += 1,
                        None => return Err("an answer came to no request".to_owned()),
                    }
                }
            },
            Word::Refused { request, refusal, .. } => {
                self.trace.note(format_args!("client {number} hears a refusal of {request}: {refusal}"));
                match client.pending.remove(&request) {
                    Some(Pending::Topology) => self.topology_answered(Err(*refusal))?,
                    Some(Pending::Read(Reading { queue, .. }) | Pending::MovePage { from: queue, .. }) => {
                        self.check_excuse(queue, &refusal)?;
                    }
                    Some(Pending::Remove { from, messages }) => {
                        self.perhaps_taken_out(from, &messages);
                        self.check_excuse(from, &refusal)?;
                    }
                    _ => {}
                }
            }
            Word::Blocked { .. } | Word::Unblocked => {}
            Word::Dismissed(reason) => return Err(format!("client {number} is to go: {reason}")),
            Word::Displaced(_) => return Err(format!("client {number} has to make room for nobody")),
        }
        Ok(true)
    }

    fn consumer_ended(&mut self, index: usize, number: u32) {
        if let Some(consumer) = self.clients[index].consumers.get_mut(&number)
            && consumer.is_live
        {
            consumer.is_live = false;
            let queue = consumer.queue;
            self.note_use(queue);
        }
    }

    fn delivered(&mut self, index: usize, delivery: &Delivery) -> Result<(), Finding> {
        let handle = delivery.consumer.handle;
        let client = &mut self.clients[index];
        let Some(consumer) = client.consumers.get(&handle) else {
            return Err(format!("a delivery came for consumer {handle}, which does not exist"));
        };
        let (queue, no_ack) = (consumer.queue, consumer.no_ack);
        client.session.written(delivery.consumer.channel, handle, delivery.window_bytes);
        let ids = self.came(delivery, queue)?;
        self.check_single_active(index, handle, queue)?;
        let number = self.clients[index].number;
        self.trace.note(format_args!(
            "client {number} gets {ids:?} by {handle} as {}.. {}",
            delivery.first_tag.0, delivery.redelivered
        ));
        for (id, tag) in ids.into_iter().zip(delivery.first_tag.0..) {
            let publisher = self.books.client_of(id).unwrap_or_default();
            let rank = self.books.rank(queue, id);
            let client = &mut self.clients[index];
            if !delivery.redelivered
                && let Some(consumer) = client.consumers.get_mut(&handle)
                && consumer.is_alone
                && delay_of(id).is_none()
                && let Some(before) =
                    consumer.newest.insert((publisher, rank), id).filter(|before| *before > id)
            {
                return Err(format!(
                    "message {id} came after {before}, which the same client published later"
                ));
            }
            match no_ack {
                true => self.books.leaving(id, queue, Way::Done),
                false => drop(client.held.insert((handle, tag), (id, queue))),
            }
        }
        Ok(())
    }

    /// The numbers of messages that came from a queue.
    fn came(&mut self, delivery: &Delivery, queue: usize) -> Result<Vec<u64>, Finding> {
        let name = self.books.queues[queue].name;
        let mut ids = Vec::new();
        for piece in &delivery.pieces {
            let ends = message_ends(&piece.bytes)
                .ok_or_else(|| format!("queue '{name}' gave bytes that are no messages"))?;
            let mut start = 0;
            for end in ends {
                let item = DeliveredView::of(&piece.bytes[start..end as usize]);
                let id = item.and_then(|item| number_of(item.body));
                let id = id.ok_or_else(|| format!("queue '{name}' gave a message that nobody sent so"))?;
                self.books.delivered(id, queue, delivery.redelivered)?;
                self.books.check_due(queue, id)?;
                self.counters.delayed += u64::from(delay_of(id).is_some());
                ids.push(id);
                start = end as usize;
            }
        }
        if ids.len() as u64 != delivery.count {
            return Err(format!("a delivery of {} messages had {} in it", delivery.count, ids.len()));
        }
        self.counters.delivered += delivery.count;
        self.counters.redelivered += if delivery.redelivered { delivery.count } else { 0 };
        Ok(ids)
    }
}
