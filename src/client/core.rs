//! What the handles of one connection and its driver share: tables of what is open, requests under way, and the list of
//! what is to be sent.
//!
//! Locks: this one, one per publisher, two per consumer. Nobody holds two at a time, except that this one may be held
//! while another is taken; wakers are woken after all are released.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, broadcast, oneshot, watch};

use super::connection::{Event, ServerOffer, Status};
use super::consumer::{ConsumerShared, Settler};
use super::convert::{kind_name, refusal_from_wire};
use super::error::{CloseReason, ConsumeError, RequestError};
use super::options::ConnectOptions;
use super::publisher::{PublisherShared, SizeLimits};
use super::recorded::{Change, Recorded};
use crate::wire::{self, pb};

/// Events that wait for a slow listener.
const EVENTS_MAX: usize = 256;

/// Highest number of a publisher or consumer within its channel.
const NUMBER_MAX: u32 = 65_535;

/// Shared by handles and driver.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) options: ConnectOptions,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) status: watch::Sender<Status>,
    /// Told when the connection is to be closed, for those who wait for something else meanwhile.
    pub(super) closing: Notify,
    driver: Arc<DriverWaker>,
    /// Consumers whose inboxes are so full that the driver must not read.
    stalled: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) offer: Arc<ServerOffer>,
    /// Counts connections made; deliveries of an earlier one cannot be settled.
    pub(super) epoch: u64,
    /// The connection is broken, and to be made again.
    pub(super) is_suspended: bool,
    pub(super) is_closing: bool,
    pub(super) closed: Option<CloseReason>,
    pub(super) outgoing: VecDeque<Outgoing>,
    driver: Arc<DriverWaker>,
    pub(super) channels: BTreeMap<u32, ChannelEntry>,
    pub(super) recorded: Recorded,
    pub(super) pending: BTreeMap<u64, Pending>,
    last_request: u64,
}

/// Something to send. An entry stands for whatever is there when its turn comes.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A frame as it is; `request` 0 if no answer is expected.
    Frame { request: u64, bytes: Bytes },
    /// Messages of a publisher.
    Publisher(Arc<PublisherShared>),
    /// What became of deliveries.
    Settler(Arc<Settler>),
    /// More deliveries for a consumer, of the connection counted `epoch` only.
    Credit { consumer: Arc<ConsumerShared>, add: u32, epoch: u64 },
    /// A frame that must not overtake the messages of these publishers.
    FrameAfter { drained: Vec<Arc<PublisherShared>>, request: u64, bytes: Bytes },
    /// Somebody waits until what was before this is written.
    Flush { drained: Arc<PublisherShared>, done: oneshot::Sender<()> },
}

/// What is open on a channel.
#[derive(Debug)]
pub(super) struct ChannelEntry {
    pub(super) stage: Stage,
    pub(super) publishers: HashMap<u32, (Stage, Arc<PublisherShared>)>,
    pub(super) consumers: HashMap<u32, (Stage, Arc<ConsumerShared>)>,
    /// Settles what came by Get.
    pub(super) getter: Arc<Settler>,
    /// Settlers of ended consumers, whose numbers must not be given out while deliveries hold on to them.
    retired: HashMap<u32, Arc<Settler>>,
    last_publisher: u32,
    last_consumer: u32,
    /// The highest numbers given out so far.
    publishers_max: u32,
    consumers_max: u32,
}

/// How far something on the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Asked for; if the connection breaks it is asked for again.
    Opening,
    /// There; restored when the connection breaks.
    Open,
    /// Asked to go; gone if the connection breaks.
    Closing,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Pending {
    channel: u32,
    reply: oneshot::Sender<Result<Reply, RequestError>>,
    bytes: Bytes,
    on_break: OnBreak,
    effect: Effect,
}

impl Pending {
    pub(super) fn fail(self, error: RequestError) {
        // Whoever asked may have stopped waiting.
        let _ = self.reply.send(Err(error));
    }
}

/// What becomes of a request that was sent and not answered when the connection breaks.
#[derive(Debug)]
pub(super) enum OnBreak {
    /// Whether it was carried out is unknown, and doing it twice is not the same as once.
    Fail,
    /// Doing it twice is the same as once: it is sent again.
    Repeat,
    /// What it asked for has come true by itself.
    Done,
    /// It has lost its sense, even if it was not sent.
    Void,
}

/// What a good answer changes here.
#[derive(Debug)]
pub(super) enum Effect {
    None,
    Channel(u32),
    ChannelGone(u32),
    Publisher(Arc<PublisherShared>),
    PublisherGone(Arc<PublisherShared>),
    Consumer(Arc<ConsumerShared>),
    ConsumerRestored(Arc<ConsumerShared>),
    ConsumerGone(Arc<ConsumerShared>),
    Record(Change),
}

/// The answer to a request, when it comes.
#[derive(Debug)]
#[must_use]
pub(super) struct Answer {
    reply: oneshot::Receiver<Result<Reply, RequestError>>,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// The connection it came over.
    pub(super) epoch: u64,
    pub(super) body: pb::frame::Body,
}

impl Answer {
    pub(super) async fn reply(self) -> Result<Reply, RequestError> {
        self.reply.await.unwrap_or(Err(RequestError::Closed(CloseReason::ByClient)))
    }

    pub(super) async fn body(self) -> Result<pb::frame::Body, RequestError> {
        Ok(self.reply().await?.body)
    }

    pub(super) async fn done(self) -> Result<(), RequestError> {
        match self.body().await? {
            pb::frame::Body::Done(_) => Ok(()),
            other => Err(RequestError::UnexpectedAnswer { got: kind_name(&other) }),
        }
    }
}

/// Where the driver waits. Registering comes before looking, waking after changing, so that nothing is missed.
#[derive(Debug, Default)]
struct DriverWaker(Mutex<Option<Waker>>);

impl DriverWaker {
    fn register(&self, waker: &Waker) {
        let mut known = lock(&self.0);
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        if let Some(waker) = lock(&self.0).take() {
            waker.wake();
        }
    }
}

/// Nobody panics while holding one of these locks in the middle of a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

impl Core {
    pub(super) fn new(options: ConnectOptions, offer: ServerOffer) -> Arc<Self> {
        let driver = Arc::new(DriverWaker::default());
        Arc::new(Self {
            options,
            driver: driver.clone(),
            stalled: AtomicUsize::new(0),
            events: broadcast::Sender::new(EVENTS_MAX),
            status: watch::Sender::new(Status::Connected),
            closing: Notify::new(),
            state: Mutex::new(State {
                offer: Arc::new(offer),
                epoch: 1,
                is_suspended: false,
                is_closing: false,
                closed: None,
                outgoing: VecDeque::new(),
                driver,
                channels: BTreeMap::new(),
                recorded: Recorded::default(),
                pending: BTreeMap::new(),
                last_request: 0,
            }),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Tells whoever listens.
    pub(super) fn announce(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    pub(super) fn size_limits(&self) -> SizeLimits {
        self.state().offer.size_limits()
    }

    /// Why the connection is closed, or is about to be.
    pub(super) fn close_reason(&self) -> CloseReason {
        self.state().closed.clone().unwrap_or(CloseReason::ByClient)
    }

    /// The driver wants to be woken when something is added to send or a flag changes; it looks after this call.
    pub(super) fn register_driver(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    /// Whether the driver may read.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire) > 0
    }

    /// An inbox is so full that the driver must not read.
    pub(super) fn stall(&self) {
        self.stalled.fetch_add(1, Ordering::AcqRel);
    }

    /// That inbox has room again.
    pub(super) fn unstall(&self) {
        if self.stalled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.driver.wake();
        }
    }

    /// Adds something to send.
    pub(super) fn enqueue(&self, outgoing: Outgoing) {
        self.state().outgoing.push_back(outgoing);
        self.driver.wake();
    }

    /// Sends a request on an open channel.
    pub(super) fn request(
        &self,
        channel: u32,
        body: &pb::frame::Body,
        on_break: OnBreak,
        effect: Effect,
    ) -> Result<Answer, RequestError> {
        let mut state = self.state();
        state.check_channel(channel)?;
        state.request(channel, body, on_break, effect, Vec::new())
    }

    /// Sends a frame that settles single deliveries and asks for an answer.
    pub(super) fn request_encoded(
        &self,
        channel: u32,
        epoch: u64,
        encode: impl FnOnce(u64, &mut BytesMut),
    ) -> Result<Answer, Option<RequestError>> {
        let mut state = self.state();
        if state.epoch != epoch {
            return Err(None);
        }
        state.check_channel(channel).map_err(Some)?;
        let request = state.next_request();
        let mut bytes = BytesMut::new();
        encode(request, &mut bytes);
        Ok(state.add_request(channel, request, bytes.freeze(), OnBreak::Void, Effect::None, Vec::new()))
    }

    /// What settles deliveries that come by Get on a channel.
    pub(super) fn getter(&self, channel: u32) -> Result<Arc<Settler>, RequestError> {
        let mut state = self.state();
        state.check_channel(channel)?;
        Ok(state.channel(channel)?.getter.clone())
    }

    /// Opens a channel with the lowest free number.
    pub(super) fn open_channel(self: &Arc<Self>) -> Result<(u32, Answer), RequestError> {
        let mut state = self.state();
        state.check_open()?;
        let channel_max = state.offer.channel_max;
        let Some(number) = (1..=channel_max).find(|number| !state.channels.contains_key(number)) else {
            let text = format!("all {channel_max} channels of this connection are in use");
            return Err(RequestError::Invalid(text));
        };
        let entry = ChannelEntry {
            stage: Stage::Opening,
            publishers: HashMap::new(),
            consumers: HashMap::new(),
            getter: Arc::new(Settler::new(self.clone(), number, 0, state.epoch)),
            retired: HashMap::new(),
            last_publisher: 0,
            last_consumer: 0,
            publishers_max: 0,
            consumers_max: 0,
        };
        state.channels.insert(number, entry);
        let body = pb::frame::Body::OpenChannel(pb::OpenChannel {});
        let answer = state.request(number, &body, OnBreak::Repeat, Effect::Channel(number), Vec::new())?;
        Ok((number, answer))
    }

    /// Closes a channel after its publishers' messages are sent. `None` if it is closed already.
    pub(super) fn close_channel(&self, number: u32) -> Option<Answer> {
        let mut state = self.state();
        let entry = state.channels.get_mut(&number).filter(|entry| entry.stage != Stage::Closing)?;
        entry.stage = Stage::Closing;
        let drained = entry.publishers.values().map(|(_, publisher)| publisher.clone()).collect();
        let consumers: Vec<_> = entry.consumers.values().map(|(_, consumer)| consumer.clone()).collect();
        entry.getter.close(&CloseReason::ByClient);
        let body = pb::frame::Body::CloseChannel(pb::CloseChannel {});
        let answer = state.request(number, &body, OnBreak::Done, Effect::ChannelGone(number), drained).ok();
        drop(state);
        for consumer in consumers {
            consumer.forget_waiting();
            consumer.end(None);
            consumer.settler().close(&CloseReason::ByClient);
        }
        answer
    }

    /// Opens a publisher, made by `make` from its number.
    pub(super) fn open_publisher(
        &self,
        channel: u32,
        target: pb::PublishTarget,
        make: impl FnOnce(u32, pb::PublishTarget) -> Arc<PublisherShared>,
    ) -> Result<(Arc<PublisherShared>, Answer), RequestError> {
        let mut state = self.state();
        state.check_channel(channel)?;
        let entry = state.channel(channel)?;
        let number =
            next_number(entry.last_publisher, "publishers", |number| entry.publishers.contains_key(&number))?;
        entry.last_publisher = number;
        entry.publishers_max = entry.publishers_max.max(number);
        let publisher = make(number, target);
        entry.publishers.insert(number, (Stage::Opening, publisher.clone()));
        let body = pb::frame::Body::OpenPublisher(publisher.open_request());
        let effect = Effect::Publisher(publisher.clone());
        let answer = state.request(channel, &body, OnBreak::Repeat, effect, Vec::new());
        let answer = answer.inspect_err(|_| state.drop_publisher(&publisher))?;
        Ok((publisher, answer))
    }

    /// Closes a publisher after its messages are sent. Nothing happens if it is closed already.
    pub(super) fn close_publisher(&self, publisher: &Arc<PublisherShared>) {
        let mut state = self.state();
        let Some(entry) = state.channels.get_mut(&publisher.channel()) else { return };
        let Some((stage, _)) =
            entry.publishers.get_mut(&publisher.id()).filter(|(_, there)| Arc::ptr_eq(there, publisher))
        else {
            return;
        };
        if entry.stage == Stage::Closing || mem::replace(stage, Stage::Closing) == Stage::Closing {
            return;
        }
        let body = pb::frame::Body::ClosePublisher(pb::ClosePublisher { publisher: publisher.id() });
        let effect = Effect::PublisherGone(publisher.clone());
        // Closed for good: there is nothing to close any more.
        let _ = state.request(publisher.channel(), &body, OnBreak::Done, effect, vec![publisher.clone()]);
    }

    /// Starts a consumer, made by `make` from its number and the connection's count.
    pub(super) fn start_consumer(
        &self,
        channel: u32,
        make: impl FnOnce(u32, u64) -> Arc<ConsumerShared>,
    ) -> Result<(Arc<ConsumerShared>, Answer), RequestError> {
        let mut state = self.state();
        state.check_channel(channel)?;
        let epoch = state.epoch;
        let entry = state.channel(channel)?;
        entry.retired.retain(|_, settler| Arc::strong_count(settler) > 1);
        let number = next_number(entry.last_consumer, "consumers", |number| {
            entry.consumers.contains_key(&number) || entry.retired.contains_key(&number)
        })?;
        entry.last_consumer = number;
        entry.consumers_max = entry.consumers_max.max(number);
        let consumer = make(number, epoch);
        entry.consumers.insert(number, (Stage::Opening, consumer.clone()));
        let body = pb::frame::Body::Consume(consumer.request(None));
        let effect = Effect::Consumer(consumer.clone());
        let answer = state.request(channel, &body, OnBreak::Repeat, effect, Vec::new());
        let answer = answer.inspect_err(|_| state.drop_consumer(&consumer))?;
        Ok((consumer, answer))
    }

    /// Ends a consumer on the server. `None` if it has ended already.
    pub(super) fn cancel_consumer(&self, consumer: &Arc<ConsumerShared>) -> Option<Answer> {
        let mut state = self.state();
        let entry = state.channels.get_mut(&consumer.channel())?;
        let (stage, there) = entry.consumers.get_mut(&consumer.id())?;
        if !Arc::ptr_eq(there, consumer)
            || entry.stage == Stage::Closing
            || mem::replace(stage, Stage::Closing) == Stage::Closing
        {
            return None;
        }
        if state.is_suspended {
            // It ended with the connection, and is not started again.
            state.drop_consumer(consumer);
            return None;
        }
        let body = pb::frame::Body::CancelConsumer(pb::CancelConsumer { consumer: consumer.id() });
        let effect = Effect::ConsumerGone(consumer.clone());
        state.request(consumer.channel(), &body, OnBreak::Done, effect, Vec::new()).ok()
    }

    /// Resolves once everything that a publisher has taken is written to the socket; fails if the connection closes.
    pub(super) fn flush(&self, publisher: &Arc<PublisherShared>) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        let mut state = self.state();
        if state.closed.is_none() {
            state.outgoing.push_back(Outgoing::Flush { drained: publisher.clone(), done });
            state.driver.wake();
        }
        flushed
    }

    /// Lets the driver say goodbye once everything is sent.
    pub(super) fn begin_close(&self) {
        let mut state = self.state();
        if !mem::replace(&mut state.is_closing, true) {
            state.driver.wake();
            self.closing.notify_one();
        }
    }

    /// The end: everybody who waits for anything learns why.
    pub(super) fn close_for_good(&self, reason: &CloseReason) {
        let mut state = self.state();
        state.closed = Some(reason.clone());
        let pending = mem::take(&mut state.pending);
        let channels = mem::take(&mut state.channels);
        let outgoing = mem::take(&mut state.outgoing);
        drop(state);
        drop(outgoing);
        for pending in pending.into_values() {
            pending.fail(RequestError::Closed(reason.clone()));
        }
        for entry in channels.into_values() {
            entry.close(reason);
        }
        self.status.send_replace(Status::Closed(reason.clone()));
        self.announce(Event::Closed(reason.clone()));
    }

    /// Takes the answer to a request.
    pub(super) fn answer(&self, channel: u32, request: u64, body: pb::frame::Body) -> Result<(), String> {
        let mut state = self.state();
        let Some(pending) = state.pending.remove(&request) else {
            return Err(format!(
                "it answered request {request}, which is not under way, with {}",
                kind_name(&body)
            ));
        };
        if pending.channel != channel {
            return Err(format!(
                "it answered request {request} of channel {} on channel {channel}",
                pending.channel
            ));
        }
        let Pending { reply, effect, .. } = pending;
        let answer = match body {
            pb::frame::Body::Error(error) => Err(RequestError::Refused(refusal_from_wire(error))),
            body => Ok(Reply { epoch: state.epoch, body }),
        };
        match &answer {
            Ok(answer) => state.succeeded(effect, &answer.body),
            Err(error) => state.failed(effect, error),
        }
        drop(state);
        // Whoever asked may have stopped waiting.
        let _ = reply.send(answer);
        Ok(())
    }
}

impl State {
    fn check_open(&self) -> Result<(), RequestError> {
        match &self.closed {
            Some(reason) => Err(RequestError::Closed(reason.clone())),
            None if self.is_closing => Err(RequestError::Closed(CloseReason::ByClient)),
            None => Ok(()),
        }
    }

    fn check_channel(&self, number: u32) -> Result<(), RequestError> {
        self.check_open()?;
        match self.channels.get(&number) {
            Some(entry) if entry.stage != Stage::Closing => Ok(()),
            _ => Err(RequestError::Closed(CloseReason::ByClient)),
        }
    }

    fn channel(&mut self, number: u32) -> Result<&mut ChannelEntry, RequestError> {
        self.channels.get_mut(&number).ok_or(RequestError::Closed(CloseReason::ByClient))
    }

    fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    pub(super) fn request(
        &mut self,
        channel: u32,
        body: &pb::frame::Body,
        on_break: OnBreak,
        effect: Effect,
        drained: Vec<Arc<PublisherShared>>,
    ) -> Result<Answer, RequestError> {
        if let Some(reason) = &self.closed {
            return Err(RequestError::Closed(reason.clone()));
        }
        let request = self.next_request();
        let mut bytes = BytesMut::new();
        wire::encode_frame(channel, request, body, &mut bytes);
        let bytes_max = wire::CONTROL_FRAME_BYTES_MAX.min(self.offer.frame_bytes_max as usize);
        if bytes.len() > bytes_max {
            let (kind, bytes) = (kind_name(body), bytes.len());
            let text = format!("{kind} takes {bytes} bytes, more than the {bytes_max} that the server takes");
            return Err(RequestError::Invalid(text));
        }
        Ok(self.add_request(channel, request, bytes.freeze(), on_break, effect, drained))
    }

    fn add_request(
        &mut self,
        channel: u32,
        request: u64,
        bytes: Bytes,
        on_break: OnBreak,
        effect: Effect,
        drained: Vec<Arc<PublisherShared>>,
    ) -> Answer {
        let (reply, receiver) = oneshot::channel();
        self.pending.insert(request, Pending { channel, reply, bytes: bytes.clone(), on_break, effect });
        self.outgoing.push_back(match drained.is_empty() {
            true => Outgoing::Frame { request, bytes },
            false => Outgoing::FrameAfter { drained, request, bytes },
        });
        self.driver.wake();
        Answer { reply: receiver }
    }

    /// The connection broke: deals with requests under way. Those to be sent again, in their order.
    pub(super) fn settle_pending(&mut self, unsent: &HashSet<u64>, reason: &CloseReason) -> Vec<Outgoing> {
        let mut repeated = Vec::new();
        for (request, pending) in mem::take(&mut self.pending) {
            let is_unsent = unsent.contains(&request);
            match (&pending.on_break, &pending.effect) {
                (OnBreak::Done, Effect::ConsumerGone(_) | Effect::ConsumerRestored(_)) => {
                    self.complete(pending)
                }
                (OnBreak::Done, _) if !is_unsent => self.complete(pending),
                (OnBreak::Void, _) => pending.fail(RequestError::Disconnected(reason.clone())),
                (OnBreak::Fail, _) if !is_unsent => pending.fail(RequestError::Disconnected(reason.clone())),
                (OnBreak::Repeat, _) if !is_unsent => {
                    repeated.push(Outgoing::Frame { request, bytes: pending.bytes.clone() });
                    self.pending.insert(request, pending);
                }
                _ => {
                    self.pending.insert(request, pending);
                }
            }
        }
        repeated
    }

    /// What a request asked for has come true by itself.
    fn complete(&mut self, pending: Pending) {
        let done = pb::frame::Body::Done(pb::Done {});
        self.succeeded(pending.effect, &done);
        // Whoever asked may have stopped waiting.
        let _ = pending.reply.send(Ok(Reply { epoch: self.epoch, body: done }));
    }

    /// Does what a good answer means.
    pub(super) fn succeeded(&mut self, effect: Effect, body: &pb::frame::Body) {
        match effect {
            Effect::None | Effect::ConsumerRestored(_) => {}
            Effect::Channel(number) => {
                if let Some(entry) = self.channels.get_mut(&number) {
                    entry.stage.opened();
                }
            }
            Effect::Publisher(publisher) => {
                if let Some((stage, _)) = self.publisher_entry(&publisher) {
                    stage.opened();
                }
            }
            Effect::Consumer(consumer) => {
                if let Some((stage, _)) = self.consumer_entry(&consumer) {
                    stage.opened();
                }
            }
            Effect::ChannelGone(number) => self.drop_channel(number),
            Effect::PublisherGone(publisher) => self.drop_publisher(&publisher),
            Effect::ConsumerGone(consumer) => self.drop_consumer(&consumer),
            Effect::Record(change) => self.recorded.apply(change, body),
        }
    }

    /// Does what a refusal means: nothing there, nothing to restore.
    fn failed(&mut self, effect: Effect, error: &RequestError) {
        match effect {
            Effect::None | Effect::Record(_) => {}
            Effect::Channel(number) | Effect::ChannelGone(number) => self.drop_channel(number),
            Effect::Publisher(publisher) | Effect::PublisherGone(publisher) => {
                self.drop_publisher(&publisher)
            }
            Effect::Consumer(consumer) | Effect::ConsumerGone(consumer) => self.drop_consumer(&consumer),
            Effect::ConsumerRestored(consumer) => {
                self.drop_consumer(&consumer);
                consumer.end(Some(ConsumeError::NotRestored(error.clone())));
            }
        }
    }

    fn publisher_entry(
        &mut self,
        publisher: &Arc<PublisherShared>,
    ) -> Option<&mut (Stage, Arc<PublisherShared>)> {
        let entry = self.channels.get_mut(&publisher.channel())?;
        entry.publishers.get_mut(&publisher.id()).filter(|(_, there)| Arc::ptr_eq(there, publisher))
    }

    fn consumer_entry(
        &mut self,
        consumer: &Arc<ConsumerShared>,
    ) -> Option<&mut (Stage, Arc<ConsumerShared>)> {
        let entry = self.channels.get_mut(&consumer.channel())?;
        entry.consumers.get_mut(&consumer.id()).filter(|(_, there)| Arc::ptr_eq(there, consumer))
    }

    fn drop_channel(&mut self, number: u32) {
        if let Some(entry) = self.channels.remove(&number) {
            entry.close(&CloseReason::ByClient);
        }
    }

    pub(super) fn drop_publisher(&mut self, publisher: &Arc<PublisherShared>) {
        if self.publisher_entry(publisher).is_some()
            && let Some(entry) = self.channels.get_mut(&publisher.channel())
        {
            entry.publishers.remove(&publisher.id());
            publisher.close(CloseReason::ByClient);
        }
    }

    pub(super) fn drop_consumer(&mut self, consumer: &Arc<ConsumerShared>) {
        if self.consumer_entry(consumer).is_some()
            && let Some(entry) = self.channels.get_mut(&consumer.channel())
        {
            entry.consumers.remove(&consumer.id());
            entry.retired.insert(consumer.id(), consumer.settler().clone());
        }
    }
}

impl Stage {
    fn opened(&mut self) {
        if *self == Self::Opening {
            *self = Self::Open;
        }
    }
}

impl ChannelEntry {
    /// Whether a publisher of this number was there once: its confirms may come after its end.
    pub(super) fn knew_publisher(&self, number: u32) -> bool {
        number != 0 && number <= self.publishers_max
    }

    /// Whether a consumer of this number was there once: its deliveries may come after its end.
    pub(super) fn knew_consumer(&self, number: u32) -> bool {
        number != 0 && number <= self.consumers_max
    }

    fn close(self, reason: &CloseReason) {
        self.getter.close(reason);
        for (_, publisher) in self.publishers.into_values() {
            publisher.close(reason.clone());
        }
        for (_, consumer) in self.consumers.into_values() {
            consumer.suspend();
            consumer.end(match reason {
                CloseReason::ByClient => None,
                reason => Some(ConsumeError::Closed(reason.clone())),
            });
            consumer.settler().close(reason);
        }
        for settler in self.retired.into_values() {
            settler.close(reason);
        }
    }
}

/// The next number that is free, going round: a number just given back is the last to be used again.
fn next_number(last: u32, what: &str, is_used: impl Fn(u32) -> bool) -> Result<u32, RequestError> {
    let following = (last + 1..=NUMBER_MAX).chain(1..=last);
    following.into_iter().find(|&number| !is_used(number)).ok_or_else(|| {
        RequestError::Invalid(format!("all {NUMBER_MAX} numbers of {what} of this channel are in use"))
    })
}
