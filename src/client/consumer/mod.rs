//! Consuming and settling.
//!
//! Owns deliveries between the socket and the application, and their outcomes on the way back. Must never touch the
//! socket; the driver of the connection fills the inbox and empties the settler. Start reading at [`Consumer`], then
//! `inbox.rs` and `settler.rs`.

mod delivery;
mod inbox;
mod settler;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures_core::Stream;

pub use delivery::{Batch, Delivery, DeliveryView};
pub(super) use settler::Settler;

use self::inbox::{Inbox, Popped, Pushed};
use super::channel::{Channel, ChannelHandle};
use super::convert::{kind_name, table_to_wire};
use super::core::{Core, lock};
use super::error::{ConsumeError, RequestError, SettleError};
use super::state::Outgoing;
use super::subscription::Subscription;
use crate::model::{FieldTable, NAME_BYTES_MAX, NameTooLong};
use crate::wire::{Deliver, pb};

/// Default of [`ConsumerBuilder::prefetch`].
const PREFETCH: u32 = 250;

/// Default of [`ConsumerBuilder::buffer_bytes`].
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How to start a [`Consumer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct ConsumerBuilder {
    channel: Arc<ChannelHandle>,
    request: pb::Consume,
    buffer_bytes: usize,
    subscription: Option<Box<(Channel, Subscription)>>,
}

impl ConsumerBuilder {
    pub(super) fn new(channel: Arc<ChannelHandle>, queue: &str) -> Self {
        let request = pb::Consume { queue: queue.to_owned(), prefetch: PREFETCH, ..Default::default() };
        Self { channel, request, buffer_bytes: BUFFER_BYTES, subscription: None }
    }

    /// Consumes from a subscription, which is made or changed first.
    pub(super) fn of_subscription(mut self, channel: Channel, subscription: Subscription) -> Self {
        self.subscription = Some(Box::new((channel, subscription)));
        self
    }

    /// Unsettled deliveries at most; 0: no limit but the buffer. Default 250.
    pub fn prefetch(mut self, prefetch: u32) -> Self {
        self.request.prefetch = prefetch;
        self
    }

    /// Deliveries count as accepted when the broker sends them: fastest, and lost if this program dies.
    pub fn no_ack(mut self) -> Self {
        self.request.no_ack = true;
        self
    }

    /// The only consumer of its queue.
    pub fn exclusive(mut self) -> Self {
        self.request.exclusive = true;
        self
    }

    /// While a consumer of a higher priority may take messages, those of a lower get none; those of the same priority take turns.
    /// Default 0; it may be negative.
    pub fn priority(mut self, priority: i32) -> Self {
        self.request.priority = priority;
        self
    }

    /// A name for people who look at lists of consumers. At most 255 bytes.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.request.tag = tag.into();
        self
    }

    /// Bytes of deliveries that may wait here for the application, without acknowledgements or prefetch; otherwise the
    /// prefetch is the bound. Up to twice as many if messages suddenly become larger. Default 4 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Further arguments.
    pub fn arguments(mut self, arguments: &FieldTable) -> Self {
        self.request.arguments = table_to_wire(arguments);
        self
    }

    /// Starts the consumer. It is started again after a reconnect.
    ///
    /// # Cancel safety
    /// The consumer is ended again when the server has started it, and what it was sent goes back to the queue (without
    /// acknowledgements it is lost).
    pub async fn start(mut self) -> Result<Consumer, RequestError> {
        if let Some(subscription) = self.subscription.take() {
            let (channel, subscription) = *subscription;
            let subscribed = channel.declare_subscription(subscription).await?;
            let nobody = "a subscription of which each has a queue is consumed from as one of its members";
            self.request.queue = subscribed.queue.ok_or_else(|| RequestError::Invalid(nobody.to_owned()))?;
        }
        for name in [&self.request.queue, &self.request.tag] {
            if name.len() > NAME_BYTES_MAX {
                return Err(NameTooLong { bytes: name.len() }.into());
            }
        }
        let Self { channel, request, buffer_bytes, .. } = self;
        let core = channel.core().clone();
        let number = channel.number();
        let is_on_credit = request.no_ack || request.prefetch == 0;
        let (shared, answer) = core.start_consumer(number, |id, epoch| {
            Arc::new(ConsumerShared {
                core: core.clone(),
                settler: Arc::new(Settler::new(core.clone(), number, id, epoch)),
                no_ack: request.no_ack,
                request: Mutex::new(pb::Consume { consumer: id, ..request }),
                inbox: Mutex::new(Inbox::new(is_on_credit.then_some(buffer_bytes))),
            })
        })?;
        // Made before the answer is here: dropping it, on refusal or when the caller stops waiting, cleans up.
        let mut consumer = Consumer { shared, channel, tag: String::new(), batch: None };
        match answer.body().await? {
            pb::frame::Body::Consuming(consuming) => consumer.tag = consuming.tag,
            other => return Err(RequestError::UnexpectedAnswer { got: kind_name(&other) }),
        }
        Ok(consumer)
    }
}

/// A stream of deliveries from one queue. Dropping it ends it on the broker, too: deliveries it had not handed out go
/// back to the queue (without acknowledgements they are lost).
pub struct Consumer {
    shared: Arc<ConsumerShared>,
    /// Keeps the channel open.
    channel: Arc<ChannelHandle>,
    tag: String,
    batch: Option<Batch>,
}

impl Consumer {
    /// The next delivery; `None` once it has ended, after the error that says why.
    ///
    /// # Cancel safety
    /// A delivery that was not given out comes with the next call.
    pub async fn next(&mut self) -> Option<Result<Delivery, ConsumeError>> {
        poll_fn(|context| self.poll_delivery(context)).await
    }

    /// All deliveries that came in one frame (or what [`next`](Self::next) has left of them); much cheaper per message.
    ///
    /// # Cancel safety
    /// Deliveries that were not given out come with the next call.
    pub async fn next_batch(&mut self) -> Option<Result<Batch, ConsumeError>> {
        poll_fn(|context| self.poll_batch(context)).await
    }

    /// Asks for more time for all deliveries that it has, those included that were not handed out yet: their leases begin anew. To
    /// be called now and then while work goes on, more often than the lease of the queue lasts.
    ///
    /// # Errors
    /// If nothing can be settled any more.
    pub fn extend_all(&self) -> Result<(), SettleError> {
        if self.shared.no_ack {
            return Err(SettleError::NoAck);
        }
        self.shared.settler.extend_all()
    }

    /// Its name, as the server lists it.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The queue it takes from.
    pub fn queue(&self) -> String {
        self.shared.queue()
    }

    /// Ends it. Deliveries that were not handed out go back to the queue; those handed out can still be settled.
    ///
    /// # Errors
    /// If the server refuses, or the connection is closed for good; it has ended then, too.
    ///
    /// # Cancel safety
    /// It ends all the same.
    pub async fn cancel(mut self) -> Result<(), RequestError> {
        match self.give_back() {
            Some(answer) => answer.done().await,
            None => Ok(()),
        }
    }

    fn poll_delivery(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Delivery, ConsumeError>>> {
        loop {
            if let Some(delivery) = self.batch.as_mut().and_then(Batch::next) {
                return Poll::Ready(Some(delivery));
            }
            self.batch = None;
            match ready!(self.shared.poll_batch(context)) {
                Some(Ok(batch)) => self.batch = Some(batch),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Batch, ConsumeError>>> {
        match self.batch.take().filter(|batch| !batch.is_empty()) {
            Some(batch) => Poll::Ready(Some(Ok(batch))),
            None => self.shared.poll_batch(context),
        }
    }

    fn give_back(&mut self) -> Option<super::request::Answer> {
        if let Some(batch) = self.batch.take() {
            // Stale or without acknowledgements: nothing to give back.
            let _ = batch.requeue();
        }
        self.shared.refuse_more();
        self.shared.core.cancel_consumer(&self.shared)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Nobody waits for the answer.
        let _ = self.give_back();
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_delivery(context)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("tag", &self.tag).field("channel", &self.channel.number()).finish()
    }
}

/// What the application and the driver share of one consumer.
pub(super) struct ConsumerShared {
    core: Arc<Core>,
    settler: Arc<Settler>,
    no_ack: bool,
    /// What was asked for; the queue's name may change when the server makes it.
    request: Mutex<pb::Consume>,
    inbox: Mutex<Inbox>,
}

impl ConsumerShared {
    pub(super) fn channel(&self) -> u32 {
        self.settler.channel()
    }

    pub(super) fn id(&self) -> u32 {
        self.settler.consumer()
    }

    /// The queue it takes from.
    pub(super) fn queue(&self) -> String {
        lock(&self.request).queue.clone()
    }

    pub(super) fn settler(&self) -> &Arc<Settler> {
        &self.settler
    }

    /// The request that starts it, now or again; its queue's name as `renamed` says, if it does.
    pub(super) fn request(
        &self,
        renamed: Option<&std::collections::BTreeMap<String, String>>,
    ) -> pb::Consume {
        let request = {
            let mut request = lock(&self.request);
            if let Some(name) = renamed.and_then(|renamed| renamed.get(&request.queue)) {
                request.queue = name.clone();
            }
            request.clone()
        };
        pb::Consume { credit: lock(&self.inbox).credit_to_ask(), ..request }
    }

    /// Takes deliveries that came over the connection counted `epoch`.
    pub(super) fn deliver(&self, epoch: u64, deliver: Deliver) {
        let pushed = lock(&self.inbox).push(epoch, deliver);
        match pushed {
            Pushed::Kept { stalls, waker } => {
                if stalls {
                    self.core.stall();
                }
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Pushed::Unwanted(deliver) => self.give_back(epoch, &deliver),
        }
    }

    /// Nothing more will come, because of this if not because the application wished so.
    pub(super) fn end(&self, reason: Option<ConsumeError>) {
        let waker = lock(&self.inbox).end(reason);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection broke. What waits here comes again, unless it counts as accepted already.
    pub(super) fn suspend(&self) {
        self.settler.suspend();
        self.forget_waiting();
    }

    /// What waits here is not handed out any more; the broker has it back, unless it counts as accepted already. What
    /// became of deliveries that were handed out is still sent.
    pub(super) fn forget_waiting(&self) {
        if !self.no_ack {
            let unstalls = lock(&self.inbox).forget();
            if unstalls {
                self.core.unstall();
            }
        }
    }

    fn refuse_more(&self) {
        let mut back = Vec::new();
        let unstalls = lock(&self.inbox).refuse_more(&mut back);
        if unstalls {
            self.core.unstall();
        }
        for (epoch, deliver) in back {
            self.give_back(epoch, &deliver);
        }
    }

    fn give_back(&self, epoch: u64, deliver: &Deliver) {
        if let Some(more) = (deliver.items.len() as u64).checked_sub(1)
            && !self.no_ack
        {
            let (first, last) = (deliver.first_tag, deliver.first_tag + more);
            // If it cannot be settled any more, the broker has put it back already.
            let _ = self.settler.settle(epoch, first, last, pb::Outcome::Requeued);
        }
    }

    fn poll_batch(self: &Arc<Self>, context: &mut Context<'_>) -> Poll<Option<Result<Batch, ConsumeError>>> {
        let popped = ready!(lock(&self.inbox).poll_pop(context));
        Poll::Ready(popped.map(|popped| {
            let Popped { epoch, deliver, grant, unstalls } = popped?;
            if unstalls {
                self.core.unstall();
            }
            if let Some(add) = grant {
                self.core.enqueue(Outgoing::Credit { consumer: self.clone(), add, epoch });
            }
            Ok(Batch::new(&self.settler, epoch, self.no_ack, deliver))
        }))
    }
}

impl fmt::Debug for ConsumerShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerShared").field("channel", &self.channel()).field("id", &self.id()).finish()
    }
}

/// A message from [`Channel::get`](super::Channel::get).
#[derive(Debug)]
pub struct Got {
    /// The message.
    pub delivery: Delivery,
    /// Ready messages left in the queue.
    pub messages_ready: u64,
}

impl Got {
    pub(super) fn new(settler: &Arc<Settler>, epoch: u64, no_ack: bool, got: pb::Got) -> Option<Self> {
        let (delivery, messages_ready) = Delivery::from_got(settler, epoch, no_ack, got)?;
        Some(Self { delivery, messages_ready })
    }
}
