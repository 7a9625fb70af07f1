//! What is open on a connection, which requests are under way, and what is to be sent.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::connection::{Blocked, ServerOffer};
use super::consumer::{ConsumerShared, Settler};
use super::convert::kind_name;
use super::core::DriverWaker;
use super::error::{CloseReason, ConsumeError, RequestError};
use super::mend::is_taken;
use super::publisher::PublisherShared;
use super::recorded::Recorded;
use super::request::{Answer, Effect, OnBreak, Pending, Reply};
use crate::model::Refusal;
use crate::wire::{self, pb};

/// Highest number of a publisher or consumer within its channel.
const NUMBER_MAX: u32 = 65_535;

#[derive(Debug)]
pub(super) struct State {
    pub(super) offer: Arc<ServerOffer>,
    /// Counts connections made; deliveries of an earlier one cannot be settled.
    pub(super) epoch: u64,
    /// The connection is broken, and to be made again.
    pub(super) is_suspended: bool,
    pub(super) is_closing: bool,
    /// The server takes no messages for now.
    pub(super) blocked: Option<Arc<Blocked>>,
    pub(super) closed: Option<CloseReason>,
    pub(super) outgoing: VecDeque<Outgoing>,
    pub(super) driver: Arc<DriverWaker>,
    pub(super) channels: BTreeMap<u32, ChannelEntry>,
    pub(super) recorded: Recorded,
    /// Queues that could not be restored because another connection has them for itself, and consumers that wait for them.
    pub(super) locked: BTreeMap<String, Vec<Arc<ConsumerShared>>>,
    /// Consumers that could not be restored because another one has their queue for itself, since it was last looked.
    pub(super) refused: Vec<(Arc<ConsumerShared>, Refusal)>,
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
    /// Bound on what its consumers have together; 0: none.
    pub(super) prefetch: u32,
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

impl State {
    pub(super) fn new(offer: ServerOffer, driver: Arc<DriverWaker>) -> Self {
        Self {
            offer: Arc::new(offer),
            epoch: 1,
            is_suspended: false,
            is_closing: false,
            blocked: None,
            closed: None,
            outgoing: VecDeque::new(),
            driver,
            channels: BTreeMap::new(),
            recorded: Recorded::default(),
            locked: BTreeMap::new(),
            refused: Vec::new(),
            pending: BTreeMap::new(),
            last_request: 0,
        }
    }

    pub(super) fn check_open(&self) -> Result<(), RequestError> {
        match &self.closed {
            Some(reason) => Err(RequestError::Closed(reason.clone())),
            None if self.is_closing => Err(RequestError::Closed(CloseReason::ByClient)),
            None => Ok(()),
        }
    }

    pub(super) fn check_channel(&self, number: u32) -> Result<(), RequestError> {
        self.check_open()?;
        match self.channels.get(&number) {
            Some(entry) if entry.stage != Stage::Closing => Ok(()),
            _ => Err(RequestError::Closed(CloseReason::ByClient)),
        }
    }

    pub(super) fn channel(&mut self, number: u32) -> Result<&mut ChannelEntry, RequestError> {
        self.channels.get_mut(&number).ok_or(RequestError::Closed(CloseReason::ByClient))
    }

    pub(super) fn next_request(&mut self) -> u64 {
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

    pub(super) fn add_request(
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

    /// Takes back the request to open something that is not wanted any more, while there is no connection: it is not there.
    pub(super) fn withdraw(&mut self, is_unwanted: impl Fn(&Effect) -> bool) {
        let mut pending = self.pending.iter();
        let Some(request) =
            pending.find(|(_, pending)| is_unwanted(&pending.effect)).map(|(&request, _)| request)
        else {
            return;
        };
        self.outgoing
            .retain(|entry| !matches!(entry, Outgoing::Frame { request: other, .. } if *other == request));
        if let Some(pending) = self.pending.remove(&request) {
            pending.fail(RequestError::Closed(CloseReason::ByClient));
        }
    }

    /// Whether a request is to open what was closed before it was answered. Sent again it would open what nobody closes.
    fn opens_unwanted(&self, effect: &Effect) -> bool {
        let is_unwanted = |stage: Option<Stage>| stage != Some(Stage::Opening);
        match effect {
            Effect::Channel(number) => is_unwanted(self.channels.get(number).map(|entry| entry.stage)),
            Effect::Publisher(publisher) => {
                let entry = self.channels.get(&publisher.channel());
                let there = entry.and_then(|entry| entry.publishers.get(&publisher.id()));
                is_unwanted(there.filter(|(_, there)| Arc::ptr_eq(there, publisher)).map(|(stage, _)| *stage))
            }
            Effect::Consumer(consumer) => {
                let entry = self.channels.get(&consumer.channel());
                let there = entry.and_then(|entry| entry.consumers.get(&consumer.id()));
                is_unwanted(there.filter(|(_, there)| Arc::ptr_eq(there, consumer)).map(|(stage, _)| *stage))
            }
            _ => false,
        }
    }

    /// The connection broke: deals with requests under way. Those to be sent again, in their order.
    pub(super) fn settle_pending(&mut self, unsent: &HashSet<u64>, reason: &CloseReason) -> Vec<Outgoing> {
        let mut repeated = self.settle_each_pending(unsent, reason);
        // What was asked for on channels that are gone with the connection can be asked for no more.
        let gone = self.pending.iter().filter(|(_, pending)| !self.channels.contains_key(&pending.channel));
        let gone: Vec<u64> = gone.map(|(&request, _)| request).collect();
        for pending in gone.iter().filter_map(|request| self.pending.remove(request)) {
            pending.fail(RequestError::Closed(CloseReason::ByClient));
        }
        repeated.retain(
            |entry| matches!(entry, Outgoing::Frame { request, .. } if self.pending.contains_key(request)),
        );
        repeated
    }

    fn settle_each_pending(&mut self, unsent: &HashSet<u64>, reason: &CloseReason) -> Vec<Outgoing> {
        let mut repeated = Vec::new();
        for (request, pending) in mem::take(&mut self.pending) {
            let is_unsent = unsent.contains(&request);
            if self.opens_unwanted(&pending.effect) {
                pending.fail(RequestError::Closed(CloseReason::ByClient));
                continue;
            }
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
            Effect::Prefetch { channel, prefetch } => {
                if let Some(entry) = self.channels.get_mut(&channel) {
                    entry.prefetch = prefetch;
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
            Effect::ConsumerGone(consumer) => self.consumer_left(&consumer),
            Effect::Record(change) => self.recorded.apply(change, body),
        }
    }

    /// Does what a refusal means: nothing there, nothing to restore.
    pub(super) fn failed(&mut self, effect: Effect, error: &RequestError) {
        match effect {
            Effect::None | Effect::Record(_) | Effect::Prefetch { .. } => {}
            Effect::Channel(number) | Effect::ChannelGone(number) => self.drop_channel(number),
            Effect::Publisher(publisher) | Effect::PublisherGone(publisher) => {
                self.drop_publisher(&publisher)
            }
            Effect::Consumer(consumer) | Effect::ConsumerGone(consumer) => self.drop_consumer(&consumer),
            Effect::ConsumerRestored(consumer) => match error {
                RequestError::Refused(refusal) if is_taken(refusal) => {
                    self.refused.push((consumer, refusal.clone()));
                }
                error => self.not_restored(&consumer, error),
            },
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

    pub(super) fn drop_channel(&mut self, number: u32) {
        if let Some(entry) = self.channels.remove(&number) {
            let queues: Vec<_> = entry.consumers.values().map(|(_, consumer)| consumer.queue()).collect();
            entry.close(&CloseReason::ByClient);
            for queue in queues {
                self.forget_if_unused(&queue);
            }
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

    /// A consumer has ended that was started: a queue that goes with its last consumer is gone.
    pub(super) fn consumer_left(&mut self, consumer: &Arc<ConsumerShared>) {
        self.drop_consumer(consumer);
        self.forget_if_unused(&consumer.queue());
    }

    /// A consumer could not be started again. A queue that was made again for it alone would fill up without it.
    pub(super) fn not_restored(&mut self, consumer: &Arc<ConsumerShared>, error: &RequestError) {
        let queue = consumer.queue();
        let was_recorded = self.recorded.queue(&queue).is_some();
        self.consumer_left(consumer);
        if was_recorded && self.recorded.queue(&queue).is_none() {
            self.abandon_queue(consumer.channel(), &queue);
        }
        consumer.end(Some(ConsumeError::NotRestored(error.clone())));
    }

    /// Forgets a queue that goes with its last consumer, if it has none of this connection's.
    fn forget_if_unused(&mut self, queue: &str) {
        let goes = self.recorded.queue(queue).is_some_and(|asked| asked.auto_delete);
        let mut consumers = self.channels.values().flat_map(|entry| entry.consumers.values());
        if goes && !consumers.any(|(_, consumer)| consumer.queue() == queue) {
            self.recorded.forget_queue(queue);
        }
    }

    /// Has the server delete a queue that was made again for nobody, unless somebody else uses it.
    pub(super) fn abandon_queue(&mut self, channel: u32, queue: &str) {
        let delete = pb::DeleteQueue { name: queue.to_owned(), if_unused: true, if_empty: false };
        let body = pb::frame::Body::DeleteQueue(delete);
        // Nobody waits for the answer. If the connection breaks the queue is not made again.
        let _ = self.request(channel, &body, OnBreak::Void, Effect::None, Vec::new());
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
    /// A channel that was asked for, with what settles what comes by Get.
    pub(super) fn new(getter: Arc<Settler>) -> Self {
        Self {
            stage: Stage::Opening,
            publishers: HashMap::new(),
            consumers: HashMap::new(),
            prefetch: 0,
            getter,
            retired: HashMap::new(),
            last_publisher: 0,
            last_consumer: 0,
            publishers_max: 0,
            consumers_max: 0,
        }
    }

    /// A number for a publisher.
    pub(super) fn next_publisher(&mut self) -> Result<u32, RequestError> {
        let number =
            next_number(self.last_publisher, "publishers", |number| self.publishers.contains_key(&number))?;
        self.last_publisher = number;
        self.publishers_max = self.publishers_max.max(number);
        Ok(number)
    }

    /// A number for a consumer.
    pub(super) fn next_consumer(&mut self) -> Result<u32, RequestError> {
        self.retired.retain(|_, settler| Arc::strong_count(settler) > 1);
        let number = next_number(self.last_consumer, "consumers", |number| {
            self.consumers.contains_key(&number) || self.retired.contains_key(&number)
        })?;
        self.last_consumer = number;
        self.consumers_max = self.consumers_max.max(number);
        Ok(number)
    }

    /// Whether a publisher of this number was there once: its confirms may come after its end.
    pub(super) fn knew_publisher(&self, number: u32) -> bool {
        number != 0 && number <= self.publishers_max
    }

    /// Whether a consumer of this number was there once: its deliveries may come after its end.
    pub(super) fn knew_consumer(&self, number: u32) -> bool {
        number != 0 && number <= self.consumers_max
    }

    pub(super) fn close(self, reason: &CloseReason) {
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
