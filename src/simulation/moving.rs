//! Messages move from queue to queue: what was seen is published to the other one, and taken out once that is confirmed.

use std::collections::BTreeMap;

use super::books::{Finding, MessageId, QueueNumber, Stage, Way};
use super::client::{Answer, CHANNEL, Client, Messages, Pending, message_bytes, padding_of};
use super::run::Run;
use crate::broker::{Address, BrowseRequest, BrowsedPage, Publish, Which};
use crate::message::DeliveredView;
use crate::model::{ExchangeName, QueueId, RoutingKey};

/// Messages that a client moves at once.
const MOVED_MAX: usize = 8;

/// What is to be moved: it was seen, and nothing was published yet.
#[derive(Debug)]
pub(super) struct Seized {
    /// Whose move it is.
    client: u32,
    from: QueueNumber,
    to: QueueNumber,
    queue_id: QueueId,
    /// Places in the queue, messages, and what their bodies are padded to.
    messages: Vec<(u64, MessageId, usize)>,
}

/// Messages by their sequence in the queue that they are to leave.
pub(super) type Places = BTreeMap<u64, MessageId>;

/// A move that waits for confirms, or for the client to take out what is confirmed.
#[derive(Debug)]
pub(super) struct Move {
    from: QueueNumber,
    queue_id: QueueId,
    /// By confirm sequence: the message's place, and the message.
    open: BTreeMap<u64, (u64, MessageId)>,
    /// Those of which the other queue has a copy on disk.
    confirmed: Places,
}

impl Run {
    /// A client begins to move messages, or goes on.
    pub(super) fn move_messages(&mut self) {
        let ready = |client: &Client| client.moving.as_ref().is_some_and(|moving| moving.open.is_empty());
        if let Some(index) = (0..self.clients.len()).find(|index| ready(&self.clients[*index])) {
            return self.take_out(index);
        }
        let Some((index, from)) = self.some_use() else { return };
        let others: Vec<QueueNumber> =
            self.books.there().into_iter().filter(|queue| *queue != from).collect();
        let Some(to) = self.random.pick(others) else { return };
        if self.clients[index].moving.is_some() {
            return;
        }
        let request = BrowseRequest { count_max: MOVED_MAX, ..self.page_of(from, Which::Ready) };
        let client = &mut self.clients[index];
        self.trace.note(format_args!("client {} moves from {from} to {to}", client.number));
        let number = client.request(Pending::MovePage { from, to });
        let (broker, who) = (self.world.broker.clone(), client.session.identity().clone());
        client.session.carry_out(CHANNEL, number, async move {
            broker.browse(&who, request).await.map(|page| Answer::Browsed(Box::new(page)))
        });
    }

    /// What is to be moved is known. It is published once all clients were heard: what one of them has just asked for comes
    /// first.
    pub(super) fn move_page_came(
        &mut self,
        index: usize,
        from: QueueNumber,
        to: QueueNumber,
        page: &BrowsedPage,
    ) -> Result<(), Finding> {
        let seen = self.seen_in(from, page)?;
        if self.books.queues[from].stage != Stage::There {
            return Ok(());
        }
        let mut messages = Vec::new();
        for (seen, message) in seen.iter().zip(&page.messages) {
            self.note_seen(from, Which::Ready, *seen)?;
            let body = DeliveredView::of(&message.bytes).map(|item| item.body.len());
            messages.push((seen.sequence, seen.id, padding_of(body.unwrap_or_default())));
        }
        let client = self.clients[index].number;
        self.seized.push(Seized { client, from, to, queue_id: page.queue, messages });
        Ok(())
    }

    /// Publishes what is to be moved to the other queues.
    pub(super) fn publish_seized(&mut self) {
        for seized in std::mem::take(&mut self.seized) {
            if let Some(index) = self.clients.iter().position(|client| client.number == seized.client) {
                self.publish_copies(index, seized);
            }
        }
    }

    fn publish_copies(&mut self, index: usize, Seized { from, to, queue_id, messages, .. }: Seized) {
        let is_there = |queue: QueueNumber| self.books.queues[queue].stage == Stage::There;
        let session = &self.clients[index].session;
        let may = session.takes_more() && !session.is_blocked();
        if messages.is_empty() || !may || !is_there(from) || !is_there(to) {
            return;
        }
        let key = self.books.queues[to].name;
        let route = self.books.route("", key);
        let number = self.clients[index].number;
        let first_sequence = self.clients[index].next_sequence;
        let (mut open, mut copies) = (BTreeMap::new(), Vec::new());
        for (place, id, padding) in messages {
            let bytes = message_bytes(self.books.next_id(), padding);
            let copy = self.books.published(number, &route, bytes);
            open.insert(first_sequence + copies.len() as u64, (place, id));
            copies.push((copy, padding));
        }
        self.trace.note(format_args!("client {number} moves {open:?} to '{key}' as {copies:?}"));
        self.counters.published += copies.len() as u64;
        let client = &mut self.clients[index];
        client.sent.extend((first_sequence..).zip(copies.iter().map(|(copy, _)| *copy)));
        client.next_sequence += copies.len() as u64;
        client.moving = Some(Move { from, queue_id, open, confirmed: Places::new() });
        let publish = Publish {
            channel: CHANNEL,
            publisher: 0,
            first_sequence,
            address: Some(Address {
                exchange: ExchangeName::default(),
                routing_key: RoutingKey::new(key).expect("a name of the simulation's"),
                mandatory: false,
                transient: false,
            }),
            messages: Messages::numbered(copies.iter().copied()),
        };
        let session = &mut client.session;
        self.world.enter(|| session.publish(publish));
        if client.session.is_blocked() {
            copies.into_iter().for_each(|(copy, _)| self.books.waits(copy));
        }
    }

    /// A message that a client sent is on disk in a queue, or not.
    pub(super) fn copy_told(&mut self, index: usize, sequence: u64, is_safe: bool) {
        let Some(moving) = &mut self.clients[index].moving else { return };
        if let Some((place, id)) = moving.open.remove(&sequence)
            && is_safe
        {
            moving.confirmed.insert(place, id);
        }
    }

    /// What is confirmed at its new place is taken out of the old one.
    fn take_out(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if !client.session.takes_more() {
            return;
        }
        let Some(Move { from, queue_id, mut confirmed, .. }) = client.moving.take() else { return };
        if self.random.one_in(4) {
            // It leaves one where it is.
            confirmed.pop_last();
        }
        if confirmed.is_empty() || self.books.queues[from].stage != Stage::There {
            return;
        }
        self.trace.note(format_args!("client {} takes out {confirmed:?}", client.number));
        confirmed.values().for_each(|id| self.books.place_mut(*id, from).is_moving = true);
        let sequences = confirmed.keys().copied().collect();
        let number = client.request(Pending::Remove { from, messages: confirmed });
        let name = self.books.queues[from].name;
        let (broker, who) = (self.world.broker.clone(), client.session.identity().clone());
        client.session.carry_out(CHANNEL, number, async move {
            broker.remove_moved(&who, name, queue_id, sequences).await.map(Answer::Removed)
        });
    }

    /// The queue says which of them were not ready: those stay where they are.
    pub(super) fn taken_out(&mut self, from: QueueNumber, messages: Places, others: &[u64]) {
        for (sequence, id) in messages {
            self.books.place_mut(id, from).is_moving = false;
            match others.contains(&sequence) {
                true => self.counters.not_moved += 1,
                false => {
                    self.counters.moved += 1;
                    self.books.leaving(id, from, Way::Dropped);
                    self.books.left(id, from);
                }
            }
        }
    }

    /// Nobody hears whether they were taken out.
    pub(super) fn perhaps_taken_out(&mut self, from: QueueNumber, messages: &Places) {
        for id in messages.values() {
            self.books.place_mut(*id, from).is_moving = false;
            self.books.leaving(*id, from, Way::Dropped);
        }
    }

    /// Moves of clients that a crash cuts.
    pub(super) fn count_cut_moves(&mut self) {
        let is_cut = |client: &&Client| {
            let removes = client.pending.values().any(|pending| matches!(pending, Pending::Remove { .. }));
            removes || client.moving.is_some()
        };
        self.counters.moves_cut += self.clients.iter().filter(is_cut).count() as u64;
    }
}
