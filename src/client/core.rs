//! What the handles of one connection and its driver share, and what a handle can ask for.
//!
//! Locks: this one, one per publisher, two per consumer. Nobody holds two at a time, except that this one may be held
//! while another is taken; wakers are woken after all are released.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::BytesMut;
use tokio::sync::{Notify, broadcast, oneshot, watch};

use super::connection::{Event, ServerOffer, Status};
use super::consumer::{ConsumerShared, Settler};
use super::convert::{kind_name, refusal_from_wire};
use super::error::{CloseReason, RequestError};
use super::handshake::ClientId;
use super::options::ConnectOptions;
use super::publisher::{PublisherShared, SizeLimits};
use super::request::{Answer, Effect, OnBreak, Pending, Reply};
use super::state::{ChannelEntry, Outgoing, Stage, State};
use crate::wire::pb;

/// Events that wait for a slow listener.
const EVENTS_MAX: usize = 256;

/// Shared by handles and driver.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) options: ConnectOptions,
    pub(super) client_id: ClientId,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) status: watch::Sender<Status>,
    /// Told when the connection is to be closed, for those who wait for something else meanwhile.
    pub(super) closing: Notify,
    driver: Arc<DriverWaker>,
    /// Something could not be restored with the rest.
    is_to_mend: AtomicBool,
    /// Consumers whose inboxes are so full that the driver must not read.
    stalled: AtomicUsize,
    state: Mutex<State>,
}

/// Where the driver waits. Registering comes before looking, waking after changing, so that nothing is missed.
#[derive(Debug, Default)]
pub(super) struct DriverWaker(Mutex<Option<Waker>>);

impl DriverWaker {
    fn register(&self, waker: &Waker) {
        let mut known = lock(&self.0);
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }

    pub(super) fn wake(&self) {
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
    pub(super) fn new(options: ConnectOptions, client_id: ClientId, offer: ServerOffer) -> Arc<Self> {
        let driver = Arc::new(DriverWaker::default());
        Arc::new(Self {
            options,
            client_id,
            driver: driver.clone(),
            is_to_mend: AtomicBool::new(false),
            stalled: AtomicUsize::new(0),
            events: broadcast::Sender::new(EVENTS_MAX),
            status: watch::Sender::new(Status::Connected),
            closing: Notify::new(),
            state: Mutex::new(State::new(offer, driver)),
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

    /// Something could not be restored with the rest. To be called by the task that mends, which looks when it is polled.
    pub(super) fn note_mending(&self) {
        self.is_to_mend.store(true, Ordering::Release);
    }

    /// Whether something could not be restored with the rest; told once.
    pub(super) fn take_mending(&self) -> bool {
        self.is_to_mend.load(Ordering::Acquire) && self.is_to_mend.swap(false, Ordering::AcqRel)
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
        let getter = Arc::new(Settler::new(self.clone(), number, 0, state.epoch));
        state.channels.insert(number, ChannelEntry::new(getter));
        let body = pb::frame::Body::OpenChannel(pb::OpenChannel {});
        let answer = state.request(number, &body, OnBreak::Repeat, Effect::Channel(number), Vec::new())?;
        Ok((number, answer))
    }

    /// Closes a channel after its publishers' messages are sent. `None` if it is closed already.
    pub(super) fn close_channel(&self, number: u32) -> Option<Answer> {
        let mut state = self.state();
        let entry = state.channels.get_mut(&number).filter(|entry| entry.stage != Stage::Closing)?;
        if mem::replace(&mut entry.stage, Stage::Closing) == Stage::Opening && state.is_suspended {
            state.withdraw(|effect| matches!(effect, Effect::Channel(other) if *other == number));
            state.drop_channel(number);
            return None;
        }
        let entry = state.channels.get_mut(&number)?;
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
        let number = entry.next_publisher()?;
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
        if entry.stage == Stage::Closing {
            return;
        }
        match mem::replace(stage, Stage::Closing) {
            Stage::Closing => return,
            Stage::Opening if state.is_suspended => {
                state.withdraw(
                    |effect| matches!(effect, Effect::Publisher(other) if Arc::ptr_eq(other, publisher)),
                );
                return state.drop_publisher(publisher);
            }
            Stage::Opening | Stage::Open => {}
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
        let number = entry.next_consumer()?;
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
            state
                .withdraw(|effect| matches!(effect, Effect::Consumer(other) if Arc::ptr_eq(other, consumer)));
            state.consumer_left(consumer);
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
        let (locked, refused) = (mem::take(&mut state.locked), mem::take(&mut state.refused));
        drop(state);
        drop((outgoing, locked, refused));
        // Whoever is told finds that it is so.
        self.status.send_replace(Status::Closed(reason.clone()));
        for pending in pending.into_values() {
            pending.fail(RequestError::Closed(reason.clone()));
        }
        for entry in channels.into_values() {
            entry.close(reason);
        }
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
        let restores = matches!(effect, Effect::ConsumerRestored(_));
        let answer = match body {
            pb::frame::Body::Error(error) => Err(RequestError::Refused(refusal_from_wire(error))),
            body => Ok(Reply { epoch: state.epoch, body }),
        };
        match &answer {
            Ok(answer) => state.succeeded(effect, &answer.body),
            Err(error) => state.failed(effect, error),
        }
        let is_to_mend = restores && !state.refused.is_empty();
        drop(state);
        if is_to_mend {
            self.note_mending();
        }
        // Whoever asked may have stopped waiting. A message that came for nobody goes back.
        if let Err(Ok(Reply { epoch, body: pb::frame::Body::Got(got) })) = reply.send(answer)
            && let Ok(getter) = self.getter(channel)
        {
            getter.give_back(epoch, got.tag);
        }
        Ok(())
    }
}
