//! One stream of words: what a front end hands in, and what it is told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::super::broker::{Broker, ConnectionDescription, ConnectionMeter};
use super::super::hand_over::{Place, displaced};
use super::super::login::Identity;
use super::super::requesters::Requester;
use super::consuming::Consumer;
use super::gets::Gets;
use super::leases::Lapse;
use super::publishing::Publishing;
use super::settling::Settling;
use super::tickets::Tickets;
use super::word::{FrontEnd, Word};
use super::writing::Writer;
use crate::journey::Party;
use crate::model::Refusal;
use crate::shard::{ChannelPrefetch, ConsumerKey, Event, Mailbox, Outlet};

/// One connection that is logged in, as a front end has it.
///
/// The front end hands in what its client wants, one thing at a time and only while [`Session::takes_more`]. It polls
/// [`Session::poll_words`], and takes the words with [`Session::next_word`] until there is none, then and after each thing that
/// it handed in: the order in which they come is the order in which the client is to hear them. It calls
/// [`Session::close`] in the end.
#[derive(Debug)]
pub struct Session<F: FrontEnd> {
    pub(super) broker: Broker,
    pub(super) who: Identity,
    pub(super) outlet: Outlet,
    pub(super) description: Arc<ConnectionDescription>,
    /// The same for stories of messages, which outlive it.
    pub(super) party: Arc<Party>,
    /// Somebody wants the client to go; `None`: that was told.
    dismissed: Option<oneshot::Receiver<Refusal>>,
    /// What its client's next connection waits for.
    place: Option<Place>,
    /// A newer connection was there; that was told.
    is_displaced: bool,
    pub(super) publishing: Publishing<F>,
    pub(super) consumers: HashMap<(u32, u32), Consumer, foldhash::fast::RandomState>,
    /// Consumers of replies, by channel.
    pub(super) requesters: HashMap<u32, Arc<Requester>>,
    /// Bounds of channels, on what their consumers have together.
    pub(super) prefetches: HashMap<u32, Arc<ChannelPrefetch>>,
    pub(super) gets: HashMap<u32, Gets>,
    /// Requests to settle that are to be answered.
    pub(super) settling: Tickets<Settling>,
    pub(super) waiting: Option<Waiting<F>>,
    /// Words that come before what the events tell.
    pub(super) said: VecDeque<Word<F>>,
    /// What shards have told and nobody has heard yet.
    events: VecDeque<Event>,
    /// It declared a queue for itself alone.
    has_exclusive_queues: bool,
    /// It consumed from a queue that goes with its last consumer.
    pub(super) has_auto_delete_queues: bool,
}

/// What a client says of itself, for lists.
#[derive(Debug)]
pub struct Introduction {
    /// Its name for the connection.
    pub name: String,
    /// Its address.
    pub peer: SocketAddr,
    /// Its properties.
    pub client: BTreeMap<String, String>,
    /// When it came, in milliseconds since 1970.
    pub connected_at_ms: u64,
}

/// The one request that is under way. Nothing more is taken until it is answered, so that requests are carried out one
/// after another.
pub(super) enum Waiting<F: FrontEnd> {
    Started {
        key: ConsumerKey,
        request: u64,
        tag: Arc<str>,
    },
    Cancelled {
        key: ConsumerKey,
        request: u64,
    },
    Got {
        channel: u32,
        request: u64,
    },
    /// So many consumers have not told what they have.
    Limited {
        channel: u32,
        request: u64,
        prefetch: u32,
        consumers: usize,
    },
    Answer {
        channel: u32,
        request: u64,
        answer: Carrying<F>,
    },
}

/// A request to the catalog that is being carried out.
type Carrying<F> = Pin<Box<dyn Future<Output = Result<<F as FrontEnd>::Answer, Refusal>> + Send>>;

impl<F: FrontEnd> std::fmt::Debug for Waiting<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self {
            Self::Started { .. } => "Started",
            Self::Cancelled { .. } => "Cancelled",
            Self::Got { .. } => "Got",
            Self::Limited { .. } => "Limited",
            Self::Answer { .. } => "Answer",
        };
        formatter.write_str(what)
    }
}

impl<F: FrontEnd> Session<F> {
    /// The session of a client that has logged in; lists show it from now on. It holds its client's `place`, if the client has
    /// said who it is.
    pub fn open(broker: Broker, who: Identity, place: Option<Place>, introduction: Introduction) -> Self {
        let Introduction { name, peer, client, connected_at_ms } = introduction;
        let (description, dismissed) = broker.register(&who, name, peer, client, connected_at_ms);
        let party = Party {
            connection: who.connection,
            name: description.name.clone(),
            user: description.user.clone(),
            peer,
        };
        Self {
            publishing: Publishing::new(Writer::new(&broker, &who)),
            broker,
            who,
            outlet: Arc::new(Mailbox::default()),
            description,
            party: Arc::new(party),
            dismissed: Some(dismissed),
            place,
            is_displaced: false,
            consumers: HashMap::default(),
            requesters: HashMap::new(),
            prefetches: HashMap::new(),
            gets: HashMap::new(),
            settling: Tickets::default(),
            waiting: None,
            said: VecDeque::new(),
            events: VecDeque::new(),
            has_exclusive_queues: false,
            has_auto_delete_queues: false,
        }
    }

    /// Who and where.
    pub fn identity(&self) -> &Identity {
        &self.who
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Counters of the connection, for the front end to keep.
    pub fn meter(&self) -> &ConnectionMeter {
        &self.description.meter
    }

    /// To be called before a channel is opened, with how many there are: it counts for the user.
    ///
    /// # Errors
    /// 530 beyond the user's limit.
    pub fn open_channel(&self, channels: u32) -> Result<(), Refusal> {
        let Some(seat) = &self.who.seat else { return Ok(()) };
        seat.note_channels(channels);
        seat.open_channel()
    }

    /// So many channels are open.
    pub fn note_channels(&self, channels: u32) {
        self.description.meter.channels.store(channels.into(), Ordering::Relaxed);
        if let Some(seat) = &self.who.seat {
            seat.note_channels(channels);
        }
    }

    /// Whether the next thing that its client wants may be handed in: not while a request is under way, or too much that was
    /// published.
    pub fn takes_more(&self) -> bool {
        self.waiting.is_none() && self.may_publish()
    }

    /// Whether nothing is under way that the client will hear of: no request, nothing published that waits for its shards, no
    /// settlement that is to be answered, and no word that was not taken.
    pub fn is_quiet(&self) -> bool {
        let is_told = self.said.is_empty() && self.events.is_empty();
        is_told && self.waiting.is_none() && self.publishing.is_quiet() && self.settling.is_empty()
    }

    /// Carries out a request to the catalog: [`Word::Answered`] follows, or [`Word::Refused`].
    pub fn carry_out(
        &mut self,
        channel: u32,
        request: u64,
        answer: impl Future<Output = Result<F::Answer, Refusal>> + Send + 'static,
    ) {
        self.waiting = Some(Waiting::Answer { channel, request, answer: Box::pin(answer) });
    }

    /// To be called before an exclusive queue is declared: it goes when the session closes.
    pub fn note_exclusive_queue(&mut self) {
        self.has_exclusive_queues = true;
    }

    /// Waits for words; the task is woken once for all that come together. `Ready`: [`Session::next_word`] may have some.
    /// `has_room` as there: who has none polls again when it has.
    pub fn poll_words(&mut self, context: &mut Context<'_>, has_room: bool) -> Poll<()> {
        let mut any = self.poll_relief(context);
        any |= self.poll_answer(context);
        any |= self.poll_events(context);
        // After the events, and heard before them: who loses a virtual host is dismissed before its queues go.
        any |= self.poll_leave(context);
        any |= has_room && self.is_returning();
        if any || !self.said.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The next word. `has_room`: the client can be sent messages back; if not, they wait.
    pub fn next_word(&mut self, has_room: bool) -> Option<Word<F>> {
        loop {
            if let Some(word) = self.said.pop_front() {
                return Some(word);
            }
            if has_room && let Some(word) = self.next_returned() {
                return Some(word);
            }
            let event = self.events.pop_front()?;
            if let Some(word) = self.hear(event) {
                return Some(word);
            }
        }
    }

    fn poll_leave(&mut self, context: &mut Context<'_>) -> bool {
        let before = self.said.len();
        if let Some(dismissed) = &mut self.dismissed
            && let Poll::Ready(reason) = Pin::new(dismissed).poll(context)
        {
            self.dismissed = None;
            // The sender lives in the description, which lives here.
            self.said.extend(reason.map(|reason| Word::Dismissed(Box::new(reason))));
        }
        if !self.is_displaced
            && let Some(place) = &mut self.place
            && place.poll_displaced(context).is_ready()
        {
            self.is_displaced = true;
            self.said.push_back(Word::Displaced(Box::new(displaced())));
        }
        self.said.len() > before
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> bool {
        let Some(Waiting::Answer { channel, request, answer }) = &mut self.waiting else { return false };
        let Poll::Ready(answer) = answer.as_mut().poll(context) else { return false };
        let (channel, request) = (*channel, *request);
        self.waiting = None;
        self.said.push_back(match answer {
            Ok(answer) => Word::Answered { channel, request, answer },
            Err(refusal) => Word::Refused { channel, request, refusal: Box::new(refusal) },
        });
        true
    }

    fn poll_events(&mut self, context: &mut Context<'_>) -> bool {
        if !self.events.is_empty() {
            return true;
        }
        // The room goes back and forth between here and the outlet.
        let mut events = Vec::from(std::mem::take(&mut self.events));
        let came = self.outlet.poll_take(context, &mut events).is_ready();
        self.events = VecDeque::from(events);
        came
    }

    /// What a client is told of an event, if it is anything.
    fn hear(&mut self, event: Event) -> Option<Word<F>> {
        match event {
            Event::Delivery(delivery) => {
                return (self.expects(&delivery) || self.expects_reply(&delivery))
                    .then_some(Word::Delivered(delivery));
            }
            Event::Taken { bytes } => self.taken(bytes),
            Event::Published { ticket, durability, taken_bytes, excess } => {
                self.taken(taken_bytes);
                self.published(ticket, durability, &excess);
            }
            Event::PublishFailed { ticket, taken_bytes, refusal } => {
                self.taken(taken_bytes);
                self.publish_failed(ticket, refusal);
            }
            Event::Attached { key, result } => return self.attached(key, result),
            Event::Shares { key } => return self.shares(key),
            Event::Cancelled { key } => return self.cancelled(key),
            Event::ConsumerEnded { queue, key, reason } => return self.ended(queue, key, reason, None),
            Event::Lapsed { queue, key, lapsed, lease_millis } => {
                return self.lapsed(&Lapse { queue, key, lapsed, lease_millis });
            }
            Event::Settled { request, .. } => return self.settled(request),
            Event::SettleRefused { key, request, refusal } => {
                return self.settle_refused(key, request, refusal);
            }
            Event::Got { key, message, ready } => return self.got(key, message, ready),
        }
        None
    }

    /// Gives memory back that nothing has used for a while.
    pub fn relax(&mut self) {
        if self.events.is_empty() && self.said.is_empty() {
            (self.events, self.said) = Default::default();
        }
    }

    /// A channel closes: its publishers and consumers end, what they hold goes back, and nothing is told of it any more.
    pub fn close_channel(&mut self, channel: u32) {
        self.close_publishers(channel);
        for settling in self.settling.values_mut().filter(|settling| settling.channel == Some(channel)) {
            settling.channel = None;
        }
        let mut places: Vec<(u32, u32)> =
            self.consumers.keys().filter(|place| place.0 == channel).copied().collect();
        places.sort_unstable();
        places.into_iter().for_each(|place| self.drop_consumer(place));
        self.stop_waiting(channel);
        self.prefetches.remove(&channel);
        self.close_gets(channel);
    }

    /// The connection is gone: lists show it no more, everything it held goes back, queues that were its own are deleted.
    pub fn close(mut self) {
        self.broker.deregister(self.who.connection);
        self.stop_waiting_everywhere();
        // What is cleaned up later counts no more.
        self.who.seat = None;
        let mut places: Vec<(u32, u32)> = self.consumers.keys().copied().collect();
        places.sort_unstable();
        places.into_iter().for_each(|place| self.drop_consumer(place));
        let channels: Vec<u32> = self.gets.keys().copied().collect();
        channels.into_iter().for_each(|channel| self.close_gets(channel));
        if self.has_exclusive_queues {
            self.broker.forget_connection(self.who.vhost_name(), self.who.connection);
        }
        if let Some(place) = self.place.take() {
            let through_catalog = self.has_exclusive_queues || self.has_auto_delete_queues;
            place.give_up_when_cleaned(self.broker.clone(), self.who.clone(), through_catalog);
        }
        self.outlet.close();
    }

    pub(super) fn key(&self, channel: u32, handle: u32) -> ConsumerKey {
        ConsumerKey::consumer(self.who.connection, channel, handle)
    }

    pub(super) fn key_of_gets(&self, channel: u32, no_ack: bool) -> ConsumerKey {
        ConsumerKey::one_by_one(self.who.connection, channel, no_ack)
    }
}
