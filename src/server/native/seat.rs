//! What a client that is logged in does, and what the broker tells it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::super::socket::{Outbox, Receipt};
use super::confirms::Confirms;
use super::deliveries::{put_delivery, put_got};
use super::requests::carry_out;
use super::returns::Returning;
use crate::broker::{
    ConnectionDescription, ConsumeRequest, ConsumerKey, Delivery, Event, Outcome, Outlet, PublishFailed,
    Session, SettleAnswer, SettleRequest, Settlement, Shortage, TagRange, Target,
};
use crate::model::{Entity, Refusal, ReplyCode};
use crate::protocol::{self, Action, PublishTo, put_done, put_error, put_refused};
use crate::wire::pb::frame::Body;
use crate::wire::{ItemFault, Items, encode_frame, pb};

/// Publishers of one connection at most.
const PUBLISHERS_MAX: usize = 65_535;

/// Everything that belongs to a client that is logged in.
pub(super) struct Seat {
    session: Session,
    outlet: Outlet,
    description: Arc<ConnectionDescription>,
    disconnect: oneshot::Receiver<Refusal>,
    /// Targets of publishers, by channel and number.
    targets: HashMap<(u32, u32), Target, foldhash::fast::RandomState>,
    /// The target that was last given in a publish itself.
    given: Option<Target>,
    waiting: Option<Waiting>,
    parked: Parked,
    /// The client can be told that they do.
    hears_blocked: bool,
    /// The longest answer that fits into a frame, in bytes.
    answer_bytes_max: usize,
    events: Vec<Event>,
    confirms: Confirms,
    /// Messages that are going back.
    returning: Option<Returning>,
}

/// The messages of a frame, and where they go.
struct Publishing {
    channel: u32,
    publisher: u32,
    first_sequence: u64,
    /// Where they go, if not to the target of their publisher.
    target: Option<PublishTo>,
    items: Items,
}

impl Publishing {
    /// What it counts for while it waits: its messages, and about what it takes itself.
    fn held_bytes(&self) -> usize {
        self.items.run.bytes().len() + 4 * self.items.len() + 512
    }
}

/// Messages that wait until there is room for them, in order.
#[derive(Default)]
struct Parked {
    publishings: VecDeque<Publishing>,
    bytes: usize,
    /// What they wait for.
    shortage: Option<Shortage>,
}

/// The one request that is under way. Later frames are taken when it is answered, so that requests are carried out
/// one after another.
enum Waiting {
    Answer { channel: u32, request: u64, answer: Pin<Box<dyn Future<Output = Result<Body, Refusal>> + Send>> },
    Started { key: ConsumerKey, request: u64, tag: Arc<str> },
    Cancelled { key: ConsumerKey, request: u64 },
    Got { channel: u32, request: u64 },
}

impl Seat {
    pub(super) fn new(
        session: Session,
        outlet: Outlet,
        description: Arc<ConnectionDescription>,
        disconnect: oneshot::Receiver<Refusal>,
        hears_blocked: bool,
        answer_bytes_max: usize,
    ) -> Self {
        Self {
            session,
            outlet,
            description,
            disconnect,
            targets: HashMap::default(),
            given: None,
            waiting: None,
            parked: Parked::default(),
            hears_blocked,
            answer_bytes_max,
            events: Vec::new(),
            confirms: Confirms::default(),
            returning: None,
        }
    }

    /// Whether another frame may be taken now.
    pub(super) fn takes_frames(&self) -> bool {
        let room_to_park = self.session.broker().publish_bytes_max();
        self.waiting.is_none()
            && self.returning.is_none()
            && self.session.may_publish()
            && self.parked.bytes < room_to_park
    }

    /// Whether messages wait for room. Nothing that the client sends after them may overtake them, but for what is about
    /// messages that it got.
    pub(super) fn is_parked(&self) -> bool {
        !self.parked.publishings.is_empty()
    }

    /// Publishes what has waited, if there is room now; `true` if there is.
    pub(super) fn poll_relief(&mut self, context: &mut Context<'_>, outbox: &mut Outbox) -> bool {
        if !self.is_parked() || self.returning.is_some() || !self.session.may_publish() {
            return false;
        }
        if let Some(shortage) = self.parked.shortage {
            if self.session.poll_relief(shortage, context).is_pending() {
                return false;
            }
            self.parked.shortage = None;
        }
        while self.parked.shortage.is_none()
            && self.returning.is_none()
            && self.session.may_publish()
            && let Some(publishing) = self.parked.publishings.pop_front()
        {
            self.parked.bytes -= publishing.held_bytes();
            self.publish(publishing, outbox);
        }
        if !self.is_parked() {
            self.description.note_blocked(None);
            if self.hears_blocked {
                encode_frame(0, 0, &Body::Unblocked(pb::Unblocked {}), outbox.tail());
            }
        }
        true
    }

    /// The first of the messages that wait has to wait for this.
    fn park(&mut self, publishing: Publishing, shortage: Shortage, outbox: &mut Outbox) {
        self.parked.bytes += publishing.held_bytes();
        self.parked.publishings.push_front(publishing);
        self.parked.shortage = Some(shortage);
        let reason = self.session.shortage_reason(shortage);
        if self.hears_blocked {
            let shortage = match shortage {
                Shortage::Memory => pb::Shortage::Memory,
                Shortage::Disk => pb::Shortage::Disk,
            };
            let blocked = pb::Blocked { shortage: shortage.into(), reason: reason.clone() };
            encode_frame(0, 0, &Body::Blocked(blocked), outbox.tail());
        }
        self.description.note_blocked(Some(reason));
    }

    /// Whether nothing is under way that the client waits for.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_none() && self.returning.is_none() && self.session.is_quiet()
    }

    /// Whether somebody wants the client to go, and why.
    pub(super) fn poll_disconnect(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        match Pin::new(&mut self.disconnect).poll(context) {
            Poll::Ready(Ok(reason)) => Poll::Ready(reason),
            // The sender lives in the description, which lives here.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether a newer connection of the same client wants this one to go, and why.
    pub(super) fn poll_displaced(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        self.session.poll_displaced(context)
    }

    /// Tells the lists how things stand.
    pub(super) fn note(&self, protocol: &protocol::Connection, received_bytes: u64, sent_bytes: u64) {
        let meter = &self.description.meter;
        meter.channels.store(protocol.channels_count() as u64, Ordering::Relaxed);
        meter.received_bytes.store(received_bytes, Ordering::Relaxed);
        meter.sent_bytes.store(sent_bytes, Ordering::Relaxed);
    }

    /// Gives memory back that nothing has used for a while.
    pub(super) fn relax(&mut self) {
        if self.events.is_empty() {
            self.events = Vec::new();
        }
    }

    /// Deliveries reached the socket.
    pub(super) fn written(&self, receipt: &Receipt) {
        self.session.written(receipt.channel, receipt.handle, receipt.window_bytes);
    }

    /// The connection is gone.
    pub(super) fn leave(self) {
        self.session.broker().deregister(self.session.identity().connection);
        self.session.close();
    }

    /// Does what a frame asks for.
    pub(super) fn act(&mut self, action: Action, outbox: &mut Outbox) {
        match action {
            Action::Nothing | Action::HangUp | Action::LogIn(_) => {}
            Action::Publish { channel, publisher, first_sequence, target, items } => {
                let publishing = Publishing { channel, publisher, first_sequence, target, items };
                if self.is_parked() {
                    self.parked.bytes += publishing.held_bytes();
                    self.parked.publishings.push_back(publishing);
                } else {
                    self.publish(publishing, outbox);
                }
            }
            Action::Settle { channel, request, consumer, ranges } => {
                self.settle(channel, request, consumer, ranges, outbox);
            }
            Action::OpenPublisher { channel, request, publisher, target } => {
                match self.open_publisher(channel, publisher, target) {
                    Ok(()) => put_done(channel, request, outbox.tail()),
                    Err(refusal) => put_error(channel, request, &refusal, outbox.tail()),
                }
            }
            Action::ClosePublisher { channel, request, publisher } => {
                if let Some(target) = self.targets.remove(&(channel, publisher)) {
                    self.session.forget_target(target);
                }
                put_done(channel, request, outbox.tail());
            }
            Action::Credit { channel, consumer, add } => {
                if let Err(refusal) = self.session.credit(channel, consumer, add) {
                    put_error(channel, 0, &refusal, outbox.tail());
                }
            }
            Action::Consume { channel, request, consume } => self.consume(channel, request, consume, outbox),
            Action::Cancel { channel, request, consumer } => {
                if self.session.cancel(channel, consumer) {
                    self.waiting = Some(Waiting::Cancelled { key: self.key(channel, consumer), request });
                } else {
                    put_done(channel, request, outbox.tail());
                }
            }
            Action::Get { channel, request, get } => {
                match self.session.get(channel, &get.queue, get.no_ack) {
                    Ok(()) => self.waiting = Some(Waiting::Got { channel, request }),
                    Err(refusal) => put_error(channel, request, &refusal, outbox.tail()),
                }
            }
            Action::CloseChannel { channel } => self.close_channel(channel),
            Action::Request { channel, request, body } => self.request(channel, request, *body),
        }
    }

    fn request(&mut self, channel: u32, request: u64, body: Body) {
        if matches!(&body, Body::DeclareQueue(declare) if declare.exclusive && !declare.passive) {
            self.session.note_exclusive_queue();
        }
        let (broker, who) = (self.session.broker().clone(), self.session.identity().clone());
        let answer_bytes_max = self.answer_bytes_max;
        let answer = Box::pin(async move { carry_out(&broker, &who, body, answer_bytes_max).await });
        self.waiting = Some(Waiting::Answer { channel, request, answer });
    }

    /// The target that a publish brought along, for as long as publishes bring the same.
    fn give_target(&mut self, to: &PublishTo) {
        let same = |target: &mut Target| target.is(&to.exchange, &to.routing_key, to.mandatory, to.transient);
        if let Some(other) = self.given.take_if(|target| !same(target)) {
            self.session.forget_target(other);
        }
        self.given.get_or_insert_with(|| target_of(to.clone()));
    }

    fn publish(&mut self, publishing: Publishing, outbox: &mut Outbox) {
        let Publishing { channel, publisher, first_sequence, target, items } = &publishing;
        let (channel, publisher, first_sequence) = (*channel, *publisher, *first_sequence);
        let target = match target {
            Some(to) => {
                self.give_target(to);
                self.given.as_mut()
            }
            None => self.targets.get_mut(&(channel, publisher)),
        };
        let Some(target) = target else {
            let refusal = no_such_publisher(publisher);
            let count = items.len() as u64;
            return put_refused(channel, publisher, first_sequence, count, &refusal, outbox.tail());
        };
        if let Some(shortage) = self.session.shortage(target, items) {
            return self.park(publishing, shortage, outbox);
        }
        let report = self.session.publish(channel, publisher, first_sequence, target, items);
        if !report.returned.is_empty() {
            let origin = Arc::clone(target.origin());
            self.returning = Some(Returning {
                channel,
                publisher,
                first_sequence,
                items: publishing.items,
                origin,
                rest: report.returned,
                refused: report.refused,
                confirmation: report.confirmation,
            });
            self.put_returns(outbox);
            return;
        }
        if let Some(refusal) = report.refused {
            put_error(channel, 0, &refusal, outbox.tail());
        }
        if let Some(confirmation) = report.confirmation {
            self.confirms.add(confirmation);
        }
    }

    /// Whether messages are going back.
    pub(super) fn is_returning(&self) -> bool {
        self.returning.is_some()
    }

    /// Sends messages back as far as there is room; `true` if there was any to be sent.
    pub(super) fn put_returns(&mut self, outbox: &mut Outbox) -> bool {
        let Some(returning) = &mut self.returning else { return false };
        let before = outbox.len();
        if returning.put(outbox) {
            let confirmation = self.returning.take().and_then(|returning| returning.confirmation);
            confirmation.into_iter().for_each(|confirmation| self.confirms.add(confirmation));
            return true;
        }
        outbox.len() > before
    }

    fn settle(
        &mut self,
        channel: u32,
        request: u64,
        consumer: u32,
        ranges: Vec<pb::SettleRange>,
        outbox: &mut Outbox,
    ) {
        let settlements = ranges.into_iter().map(settlement).collect();
        let wanted = (request != 0).then_some(request);
        let settle = SettleRequest { channel, handle: consumer, settlements, request: wanted };
        match self.session.settle(settle) {
            Ok(SettleAnswer::Later) => {}
            Ok(SettleAnswer::Now) => put_done(channel, request, outbox.tail()),
            Err(refusal) => put_error(channel, request, &refusal, outbox.tail()),
        }
    }

    fn open_publisher(&mut self, channel: u32, publisher: u32, to: PublishTo) -> Result<(), Refusal> {
        if self.targets.contains_key(&(channel, publisher)) {
            let text = format!("publisher {publisher} is open on this channel already");
            return Err(Refusal::new(ReplyCode::NotAllowed, text)
                .about(Entity::Publisher, publisher.to_string())
                .field(
                    "publisher",
                    "a number that no publisher of this channel has",
                    publisher.to_string(),
                ));
        }
        if self.targets.len() >= PUBLISHERS_MAX {
            let text = format!("a connection may have {PUBLISHERS_MAX} publishers at most");
            return Err(Refusal::new(ReplyCode::NotAllowed, text).about(Entity::Connection, ""));
        }
        self.targets.insert((channel, publisher), target_of(to));
        Ok(())
    }

    fn consume(&mut self, channel: u32, request: u64, consume: pb::Consume, outbox: &mut Outbox) {
        let key = self.key(channel, consume.consumer);
        let started = self.session.consume(ConsumeRequest {
            queue: consume.queue,
            channel,
            handle: consume.consumer,
            tag: consume.tag,
            prefetch: consume.prefetch,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            credit: consume.credit,
        });
        match started {
            Ok(tag) => self.waiting = Some(Waiting::Started { key, request, tag }),
            Err(refusal) => put_error(channel, request, &refusal, outbox.tail()),
        }
    }

    fn close_channel(&mut self, channel: u32) {
        self.session.close_channel(channel);
        self.confirms.forget_channel(channel);
        let publishers: Vec<(u32, u32)> =
            self.targets.keys().filter(|place| place.0 == channel).copied().collect();
        for place in publishers {
            if let Some(target) = self.targets.remove(&place) {
                self.session.forget_target(target);
            }
        }
    }

    fn key(&self, channel: u32, handle: u32) -> ConsumerKey {
        ConsumerKey { connection: self.session.identity().connection, channel, handle }
    }

    /// Answers the request under way if it is carried out; `true` if it was.
    pub(super) fn poll_answer(&mut self, context: &mut Context<'_>, outbox: &mut Outbox) -> bool {
        let Some(Waiting::Answer { channel, request, answer }) = &mut self.waiting else { return false };
        let Poll::Ready(answer) = answer.as_mut().poll(context) else { return false };
        let (channel, request) = (*channel, *request);
        self.waiting = None;
        match answer {
            Ok(body) if request != 0 => encode_frame(channel, request, &body, outbox.tail()),
            Ok(_) => {}
            Err(refusal) => put_error(channel, request, &refusal, outbox.tail()),
        }
        true
    }

    /// Tells the client what the broker has told; `true` if it was anything.
    ///
    /// Fails if what was stored is not what was published; the connection cannot go on.
    pub(super) fn poll_events(
        &mut self,
        context: &mut Context<'_>,
        protocol: &protocol::Connection,
        outbox: &mut Outbox,
    ) -> Result<bool, ItemFault> {
        if self.outlet.poll_take(context, &mut self.events).is_pending() {
            return Ok(false);
        }
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.tell(event, protocol, outbox)?;
        }
        self.events = events;
        Ok(true)
    }

    /// Appends the confirms that have come together, unless messages have to go back before.
    pub(super) fn put_confirms(&mut self, outbox: &mut Outbox) {
        if self.returning.is_some() {
            return;
        }
        self.confirms.put(outbox.tail());
    }

    fn tell(
        &mut self,
        event: Event,
        protocol: &protocol::Connection,
        outbox: &mut Outbox,
    ) -> Result<(), ItemFault> {
        match event {
            Event::Delivery(delivery) => self.deliver(&delivery, outbox)?,
            Event::Taken { bytes } => self.session.taken(bytes),
            Event::Published { ticket, durability, taken_bytes } => {
                self.session.taken(taken_bytes);
                if let Some(confirmation) = self.session.published(ticket, durability) {
                    self.confirms.add(confirmation);
                }
            }
            Event::PublishFailed { ticket, taken_bytes, refusal } => {
                self.session.taken(taken_bytes);
                let PublishFailed { confirmation, unasked } = self.session.publish_failed(ticket, *refusal);
                if let Some(confirmation) = confirmation {
                    self.confirms.add(confirmation);
                }
                if let Some((channel, refusal)) = unasked {
                    put_error(channel, 0, &refusal, outbox.tail());
                }
            }
            Event::Attached { key, result } => self.consumer_started(key, result, outbox),
            Event::Cancelled { key } => self.consumer_cancelled(key, outbox),
            Event::ConsumerEnded { queue, key, reason } => {
                if self.session.consumer_ended(queue, key) {
                    let ended = pb::ConsumerCancelled { consumer: key.handle, reason };
                    encode_frame(key.channel, 0, &Body::ConsumerCancelled(ended), outbox.tail());
                    // A cancel that was on its way has nothing left to end.
                    self.consumer_cancelled(key, outbox);
                }
            }
            Event::Settled { key, request } => {
                if self.session.settled(key.channel, request) && protocol.has_channel(key.channel) {
                    put_done(key.channel, request, outbox.tail());
                }
            }
            Event::SettleRefused { key, request, refusal } => {
                self.session.settle_refused(request.is_some());
                if protocol.has_channel(key.channel) {
                    put_error(key.channel, request.unwrap_or(0), &refusal, outbox.tail());
                }
            }
            Event::Got { key, message, ready } => self.got(key, message, ready, outbox)?,
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: &Delivery, outbox: &mut Outbox) -> Result<(), ItemFault> {
        if !self.session.expects(delivery) {
            return Ok(());
        }
        put_delivery(delivery, outbox)?;
        outbox.push_receipt(delivery.consumer.channel, delivery.consumer.handle, delivery.window_bytes);
        Ok(())
    }

    fn consumer_started(&mut self, key: ConsumerKey, result: Result<(), Box<Refusal>>, outbox: &mut Outbox) {
        let awaited =
            |waiting: &mut Waiting| matches!(waiting, Waiting::Started { key: other, .. } if *other == key);
        let Some(Waiting::Started { request, tag, .. }) = self.waiting.take_if(awaited) else { return };
        self.session.consumer_started(key, result.is_ok());
        match result {
            Ok(()) if request != 0 => {
                let consuming = pb::Consuming { consumer: key.handle, tag: tag.to_string() };
                encode_frame(key.channel, request, &Body::Consuming(consuming), outbox.tail());
            }
            Ok(()) => {}
            Err(refusal) => put_error(key.channel, request, &refusal, outbox.tail()),
        }
    }

    fn consumer_cancelled(&mut self, key: ConsumerKey, outbox: &mut Outbox) {
        let awaited =
            |waiting: &mut Waiting| matches!(waiting, Waiting::Cancelled { key: other, .. } if *other == key);
        if let Some(Waiting::Cancelled { request, .. }) = self.waiting.take_if(awaited) {
            self.session.consumer_cancelled(key);
            put_done(key.channel, request, outbox.tail());
        }
    }

    fn got(
        &mut self,
        key: ConsumerKey,
        message: Result<Option<Delivery>, Box<Refusal>>,
        ready: u64,
        outbox: &mut Outbox,
    ) -> Result<(), ItemFault> {
        let awaited = |waiting: &mut Waiting| matches!(waiting, Waiting::Got { channel, .. } if *channel == key.channel);
        let Some(Waiting::Got { channel, request }) = self.waiting.take_if(awaited) else { return Ok(()) };
        match message {
            Err(refusal) => {
                put_error(channel, request, &refusal, outbox.tail());
                Ok(())
            }
            Ok(Some(delivery)) => {
                let tag = self.session.got(&delivery);
                put_got(request, tag, &delivery, ready, outbox.tail())
            }
            Ok(None) => {
                let got = pb::Got { messages_ready: ready, ..pb::Got::default() };
                encode_frame(channel, request, &Body::Got(got), outbox.tail());
                Ok(())
            }
        }
    }
}

fn target_of(to: PublishTo) -> Target {
    Target::new(to.exchange, to.routing_key, to.mandatory, to.transient)
}

fn settlement(range: pb::SettleRange) -> Settlement {
    let outcome = match range.outcome() {
        pb::Outcome::Requeued => Outcome::Requeued,
        pb::Outcome::Rejected => Outcome::Rejected,
        // The protocol lets no range without an outcome pass.
        pb::Outcome::Accepted | pb::Outcome::Unspecified => Outcome::Accepted,
    };
    Settlement { range: TagRange { first: range.first, last: range.last }, outcome }
}

fn no_such_publisher(publisher: u32) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no publisher {publisher} on this channel"))
        .about(Entity::Publisher, publisher.to_string())
        .hint("open it with OpenPublisher first")
}
