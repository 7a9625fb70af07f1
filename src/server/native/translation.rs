//! Between a client that is logged in and its session: what frames ask for, and words to frames.

use super::super::socket::Outbox;
use super::confirms::Confirms;
use super::deliveries::{put_delivery, put_got};
use super::requests::carry_out;
use super::returns::{RETURNS_BYTES_MAX, put_returned};
use crate::broker::{
    Address, ConsumeRequest, ExtendRequest, Fetched, FrontEnd, Outcome, Publish, Session, SettleRequest,
    Settlement, Shortage, TagRange, Word,
};
use crate::message::{ItemFault, Items};
use crate::model::Refusal;
use crate::protocol::{self, Action, PublishTo, put_done, put_error};
use crate::wire::pb::frame::Body;
use crate::wire::{encode_frame, pb};

/// The front end that this is.
#[derive(Debug)]
pub(super) struct Native;

impl FrontEnd for Native {
    type Messages = Items;
    type Answer = Body;
}

/// What comes out of a word that is no frame.
#[derive(Debug)]
pub(super) enum Departure {
    /// The client has to go when what is under way is finished.
    Dismissed(Refusal),
    /// The client has to go at once.
    Displaced(Refusal),
}

/// A client that is logged in and its session.
pub(super) struct Translation {
    session: Session<Native>,
    confirms: Confirms,
    /// The client can be told that what it publishes waits.
    hears_blocked: bool,
    /// The longest answer that fits into a frame, in bytes.
    answer_bytes_max: usize,
}

impl Translation {
    pub(super) fn new(session: Session<Native>, hears_blocked: bool, answer_bytes_max: usize) -> Self {
        Self { session, confirms: Confirms::default(), hears_blocked, answer_bytes_max }
    }

    pub(super) fn session(&self) -> &Session<Native> {
        &self.session
    }

    pub(super) fn session_mut(&mut self) -> &mut Session<Native> {
        &mut self.session
    }

    /// The connection is gone.
    pub(super) fn end(self) {
        self.session.close();
    }

    /// Hands in what a frame asks for.
    pub(super) fn act(&mut self, action: Action) {
        let session = &mut self.session;
        match action {
            Action::Nothing | Action::LogIn(_) => {}
            Action::Publish { channel, publisher, first_sequence, target, items } => {
                let address = target.map(address);
                session.publish(Publish { channel, publisher, first_sequence, address, messages: items });
            }
            Action::Settle { channel, request, consumer, ranges } => {
                let settlements = ranges.into_iter().map(settlement).collect();
                let request = (request != 0).then_some(request);
                session.settle(SettleRequest { channel, consumer, settlements, request });
            }
            Action::Extend { channel, request, consumer, ranges } => {
                let ranges = ranges.iter().map(|range| TagRange { first: range.first, last: range.last });
                let request = (request != 0).then_some(request);
                session.extend(ExtendRequest { channel, consumer, ranges: ranges.collect(), request });
            }
            Action::OpenPublisher { channel, publisher, target } => {
                session.open_publisher(channel, publisher, address(target));
            }
            Action::ClosePublisher { channel, publisher } => session.close_publisher(channel, publisher),
            Action::Credit { channel, consumer, add } => session.credit(channel, consumer, add),
            Action::Consume { channel, request, consume } => session.consume(ConsumeRequest {
                queue: consume.queue,
                channel,
                consumer: consume.consumer,
                tag: consume.tag,
                prefetch: consume.prefetch,
                no_ack: consume.no_ack,
                exclusive: consume.exclusive,
                credit: consume.credit,
                priority: consume.priority,
                request,
            }),
            Action::Cancel { channel, request, consumer } => session.cancel(channel, consumer, request),
            Action::LimitPrefetch { channel, request, prefetch } => {
                session.limit_prefetch(channel, prefetch, request);
            }
            Action::Get { channel, request, get } => session.get(channel, &get.queue, get.no_ack, request),
            Action::CloseChannel { channel } => {
                session.close_channel(channel);
                self.confirms.forget_channel(channel);
            }
            Action::Request { channel, request, body } => self.request(channel, request, *body),
        }
    }

    fn request(&mut self, channel: u32, request: u64, body: Body) {
        if matches!(&body, Body::DeclareQueue(declare) if declare.exclusive && !declare.passive) {
            self.session.note_exclusive_queue();
        }
        let (broker, who) = (self.session.broker().clone(), self.session.identity().clone());
        let bytes_max = self.answer_bytes_max;
        let answer = async move { carry_out(&broker, &who, body, bytes_max).await };
        self.session.carry_out(channel, request, answer);
    }

    /// Tells the client all that the session has to say, as far as there is room for what goes back.
    ///
    /// Fails if what was stored is not what was published; the connection cannot go on.
    pub(super) fn put_words(
        &mut self,
        protocol: &mut protocol::Connection,
        outbox: &mut Outbox,
    ) -> Result<Option<Departure>, ItemFault> {
        while let Some(word) = self.session.next_word(has_room(outbox)) {
            if let Some(departure) = self.put(word, protocol, outbox)? {
                return Ok(Some(departure));
            }
        }
        Ok(None)
    }

    /// Appends the confirms that have come together.
    pub(super) fn put_confirms(&mut self, outbox: &mut Outbox) {
        self.confirms.put(outbox.tail());
    }

    fn put(
        &mut self,
        word: Word<Native>,
        protocol: &mut protocol::Connection,
        outbox: &mut Outbox,
    ) -> Result<Option<Departure>, ItemFault> {
        match word {
            Word::Delivered(delivery) => {
                put_delivery(&delivery, outbox)?;
                let to = (delivery.consumer.channel, delivery.consumer.handle);
                outbox.push_mark(to, delivery.window_bytes);
            }
            Word::Confirmed(confirmation) => self.confirms.add(confirmation),
            Word::Returned(returned) => put_returned(&returned, outbox.tail()),
            Word::Blocked { shortage, reason } if self.hears_blocked => {
                let shortage = match shortage {
                    Shortage::Memory => pb::Shortage::Memory,
                    Shortage::Disk => pb::Shortage::Disk,
                };
                put(0, 0, Body::Blocked(pb::Blocked { shortage: shortage.into(), reason }), outbox);
            }
            Word::Unblocked if self.hears_blocked => put(0, 0, Body::Unblocked(pb::Unblocked {}), outbox),
            Word::Blocked { .. } | Word::Unblocked => {}
            Word::Consuming { channel, consumer, request, tag } => {
                protocol.put_consuming(channel, consumer, request, &tag, outbox.tail());
            }
            Word::ConsumeRefused { channel, consumer, request, refusal } => {
                protocol.put_consume_refused(channel, consumer, request, &refusal, outbox.tail());
            }
            Word::Cancelled { channel, consumer, request } => {
                protocol.put_cancelled(channel, consumer, request, outbox.tail());
            }
            Word::Ended { channel, consumer, reason, refusal } => {
                protocol.put_consumer_ended(channel, consumer, reason, refusal.as_deref(), outbox.tail());
            }
            Word::Got { channel, request, message: Some(Fetched { tag, delivery }), ready } => {
                debug_assert_eq!(delivery.consumer.channel, channel);
                put_got(request, tag, &delivery, ready, outbox.tail())?;
            }
            Word::Got { channel, request, message: None, ready } => {
                let got = pb::Got { messages_ready: ready, ..pb::Got::default() };
                put(channel, request, Body::Got(got), outbox);
            }
            Word::Settled { channel, request } | Word::PrefetchLimited { channel, request } => {
                put_done(channel, request, outbox.tail());
            }
            Word::Answered { request: 0, .. } => {}
            Word::Answered { channel, request, answer } => put(channel, request, answer, outbox),
            Word::Refused { channel, request, refusal } => {
                put_error(channel, request, &refusal, outbox.tail());
            }
            Word::Dismissed(reason) => return Ok(Some(Departure::Dismissed(*reason))),
            Word::Displaced(reason) => return Ok(Some(Departure::Displaced(*reason))),
        }
        Ok(None)
    }
}

/// Whether messages may go back to the client.
pub(super) fn has_room(outbox: &Outbox) -> bool {
    outbox.len() < RETURNS_BYTES_MAX
}

fn put(channel: u32, request: u64, body: Body, outbox: &mut Outbox) {
    encode_frame(channel, request, &body, outbox.tail());
}

fn address(to: PublishTo) -> Address {
    let PublishTo { exchange, routing_key, mandatory, transient } = to;
    Address { exchange, routing_key, mandatory, transient }
}

fn settlement(range: pb::SettleRange) -> Settlement {
    let outcome = match range.outcome() {
        pb::Outcome::Requeued => range.delay_ms.map_or(Outcome::Requeued, Outcome::Deferred),
        pb::Outcome::Rejected => Outcome::Rejected,
        // The protocol lets no range without an outcome pass.
        pb::Outcome::Accepted | pb::Outcome::Unspecified => Outcome::Accepted,
    };
    Settlement { range: TagRange { first: range.first, last: range.last }, outcome }
}
