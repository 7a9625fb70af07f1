//! Publishing with confirms.
//!
//! Owns what happens to a message between `publish` and its confirm: encoding, the window, what is kept for sending
//! again. Must never touch the socket; the driver of the connection takes frames from the outbox and brings confirms
//! back. Start reading at [`Publisher`], then `outbox.rs` and `ledger.rs`.

mod batch;
mod handle_bits;
mod ledger;
mod outbox;
mod pending;
mod sequence_set;
mod waiters;

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

pub use batch::{MessageBatch, PreparedProperties};
pub(super) use outbox::{OutFrame, SizeLimits};
pub use pending::{PendingBatch, PendingConfirm};

use self::ledger::{Fate, Implausible};
use self::outbox::{Outbox, Window};
use self::waiters::Waiters;
use super::channel::ChannelHandle;
use super::convert::{refusal_from_wire, returned_from_wire, shared_text};
use super::core::{Core, lock, wake_all};
use super::error::{CloseReason, ConfirmError, PublishError, RequestError};
use super::message::Message;
use super::state::Outgoing;
use crate::model::{Durability, JourneyNumber, NAME_BYTES_MAX, NameTooLong, Refusal};
use crate::wire::pb;

/// Default of [`PublisherBuilder::window_messages`].
const WINDOW_MESSAGES: u64 = 10_000;

/// Default of [`PublisherBuilder::window_bytes`].
const WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// How to open a [`Publisher`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `open`"]
pub struct PublisherBuilder {
    channel: Arc<ChannelHandle>,
    target: pb::PublishTarget,
    confirms: bool,
    window: Window,
}

impl PublisherBuilder {
    pub(super) fn new(channel: Arc<ChannelHandle>, exchange: &str, routing_key: &str) -> Self {
        let target = pb::PublishTarget {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            mandatory: true,
            ..Default::default()
        };
        let window = Window { messages: WINDOW_MESSAGES, bytes: WINDOW_BYTES };
        Self { channel, target, confirms: true, window }
    }

    /// What reaches no queue is confirmed, with [`Confirmed::queues`] 0, and gone; otherwise it comes back, as
    /// [`ConfirmError::Returned`]. For news that somebody may want or not.
    pub fn not_mandatory(mut self) -> Self {
        self.target.mandatory = false;
        self
    }

    /// The messages need not survive a restart of the broker: their confirms do not wait for the disk.
    pub fn transient(mut self) -> Self {
        self.target.transient = true;
        self
    }

    /// Fire and forget: no confirms, what is under way when the connection breaks is lost, and what reaches no queue is gone
    /// ([`not_mandatory`](Self::not_mandatory)), since a message comes back with its confirm.
    pub fn without_confirms(mut self) -> Self {
        self.confirms = false;
        self.not_mandatory()
    }

    /// Messages without a confirm at most, 1 at least; publishing waits beyond. Default 10,000.
    pub fn window_messages(mut self, messages: u64) -> Self {
        self.window.messages = messages.max(1);
        self
    }

    /// Bytes of messages without a confirm at most (a single message may exceed it); publishing waits beyond.
    /// Default 16 MiB.
    pub fn window_bytes(mut self, bytes: u64) -> Self {
        self.window.bytes = bytes;
        self
    }

    /// Opens the publisher. It is restored after a reconnect.
    ///
    /// # Errors
    /// If the server refuses.
    ///
    /// # Cancel safety
    /// The publisher is closed again when the server has opened it.
    pub async fn open(self) -> Result<Publisher, RequestError> {
        for name in [&self.target.exchange, &self.target.routing_key] {
            if name.len() > NAME_BYTES_MAX {
                return Err(NameTooLong { bytes: name.len() }.into());
            }
        }
        let core = self.channel.core().clone();
        let sizes = core.size_limits();
        let outbox = Outbox::new(self.confirms, self.window, sizes);
        let (shared, answer) = core.open_publisher(self.channel.number(), self.target, |id, target| {
            Arc::new(PublisherShared {
                core: core.clone(),
                channel: self.channel.number(),
                id,
                target,
                outbox: Mutex::new(outbox),
            })
        })?;
        // Made before the answer is here: dropping it, on refusal or when the caller stops waiting, cleans up.
        let publisher = Publisher(Arc::new(PublisherHandle { shared, channel: self.channel }));
        answer.done().await?;
        Ok(publisher)
    }
}

/// Sends messages to one exchange, in order. Clones share it, its order and its window; the last one to go closes it.
///
/// Between two publishers, or a publisher and requests that are under way at the same time, there is no order.
#[derive(Clone)]
pub struct Publisher(Arc<PublisherHandle>);

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// How safe it is.
    pub level: Durability,
    /// How many queues it reached; 0 ([`PublisherBuilder::not_mandatory`] only): no binding matched, it is gone.
    pub queues: u32,
    /// The id under which [`Connection::receipts`](crate::client::Connection::receipts) tells of it; `None`: journeys of none of
    /// the messages that were sent with it are kept.
    pub journey: Option<JourneyNumber>,
}

impl Confirmed {
    /// What a message so many places behind was told, if this is of a run of messages.
    fn at(self, place: u64) -> Self {
        let journey = self.journey.map(|JourneyNumber(first)| JourneyNumber(first.saturating_add(place)));
        Self { journey, ..self }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Messages confirmed.
    pub confirmed: u64,
    /// The lowest level among them; `None` if there is none.
    pub level: Option<Durability>,
    /// Messages refused or returned.
    pub failed: u64,
    /// Why the first of them was.
    pub first_refusal: Option<Arc<Refusal>>,
}

/// How far a publisher has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages taken for sending.
    pub published: u64,
    /// Messages whose fate is known: confirmed, refused or returned. Always 0 without confirms.
    pub settled: u64,
    /// Of these, refused by the broker.
    pub refused: u64,
    /// Of these, returned because they reached no queue.
    pub returned: u64,
    /// Every message up to this one, counted from 1, has its fate known.
    pub settled_through: u64,
    /// The lowest durability level that a confirm has stated so far.
    pub level: Option<Durability>,
}

impl Publisher {
    /// Takes a message for sending, waiting while the window is full; the result is a future for its confirm.
    ///
    /// # Errors
    /// If the message cannot be sent at all; it was not taken then.
    ///
    /// # Cancel safety
    /// The message was not taken: it is when this is ready, and never before.
    pub async fn publish(&self, message: impl Into<Message>) -> Result<PendingConfirm, PublishError> {
        let message = message.into();
        if !self.0.shared.outbox().has_confirms() {
            return Err(PublishError::ConfirmsOff);
        }
        let mut place = self.0.shared.place_for_room();
        let push =
            |context: &mut Context<'_>| place.shared.poll_push(context, &mut place.ticket, &message, true);
        let sequence = poll_fn(push).await?;
        Ok(PendingConfirm::new(self.0.clone(), sequence))
    }

    /// Takes a message for sending, waiting while the window or the send buffer (1 MiB) is full. Its confirm, if the
    /// publisher has confirms, counts in [`Self::progress`], and [`Self::wait_for_all`] tells if it was refused.
    ///
    /// # Cancel safety
    /// The message was not taken: it is when this is ready, and never before.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), PublishError> {
        let message = message.into();
        let mut place = self.0.shared.place_for_room();
        poll_fn(|context| place.shared.poll_push(context, &mut place.ticket, &message, false)).await?;
        Ok(())
    }

    /// Takes a batch for sending, which is empty and can be filled again afterwards. Waits until the window has room for
    /// all of it; a batch larger than the window goes when nothing else is unconfirmed.
    ///
    /// # Errors
    /// If the batch cannot be sent; none of it was taken then, and it is as it was.
    ///
    /// # Cancel safety
    /// None of the batch was taken, and it is as it was: all of it is taken when this is ready, and nothing before.
    pub async fn send_batch(&self, batch: &mut MessageBatch) -> Result<(), PublishError> {
        let mut place = self.0.shared.place_for_room();
        poll_fn(|context| place.shared.poll_push_batch(context, &mut place.ticket, batch, false)).await?;
        Ok(())
    }

    /// Waits until a batch of `messages` messages and `bytes` encoded bytes would be taken without waiting, unless
    /// another clone takes the room first. For those who want to fill a batch as late as possible, for instance to stamp
    /// it with the time.
    ///
    /// # Errors
    /// If the publisher is closed.
    ///
    /// # Cancel safety
    /// Nothing has changed.
    pub async fn wait_for_room(&self, messages: u64, bytes: u64) -> Result<(), PublishError> {
        let mut place = self.0.shared.place_for_room();
        poll_fn(|context| place.shared.outbox().poll_space(context, &mut place.ticket, messages, bytes)).await
    }

    /// As [`Self::send_batch`]; the result is a future for the confirms of the whole batch.
    ///
    /// # Cancel safety
    /// None of the batch was taken, and it is as it was: all of it is taken when this is ready, and nothing before.
    pub async fn publish_batch(&self, batch: &mut MessageBatch) -> Result<PendingBatch, PublishError> {
        if !self.0.shared.outbox().has_confirms() {
            return Err(PublishError::ConfirmsOff);
        }
        let mut place = self.0.shared.place_for_room();
        let push =
            |context: &mut Context<'_>| place.shared.poll_push_batch(context, &mut place.ticket, batch, true);
        let first = poll_fn(push).await?;
        Ok(PendingBatch::new(self.0.clone(), first))
    }

    /// Waits until everything taken so far has been handed to the operating system.
    ///
    /// # Cancel safety
    /// Nothing has changed: what was taken is sent.
    pub async fn flush(&self) -> Result<(), PublishError> {
        let flushed = self.0.shared.core.flush(&self.0.shared);
        flushed.await.map_err(|_| PublishError::Closed(self.0.shared.core.close_reason()))
    }

    /// Waits until the fate of everything taken so far is known. Without confirms the same as [`Self::flush`].
    ///
    /// # Errors
    /// The first refusal or return since the last call that no [`PendingConfirm`] or [`PendingBatch`] was there to tell.
    ///
    /// # Cancel safety
    /// Nothing has changed: a failure that was not told is told by the next call.
    pub async fn wait_for_all(&self) -> Result<(), ConfirmError> {
        let shared = &self.0.shared;
        if !shared.outbox().has_confirms() {
            return self.flush().await.map_err(|_| ConfirmError::Closed(shared.core.close_reason()));
        }
        let last = shared.outbox().ledger.next_sequence() - 1;
        shared.settled_through(last).await?;
        match shared.outbox().ledger.take_unobserved_failure() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.0.shared.outbox().ledger.progress()
    }

    /// Waits until `settled_through` exceeds `seen`. For measuring: one waiting task sees all confirms.
    ///
    /// # Cancel safety
    /// Nothing has changed.
    pub async fn settled_beyond(&self, seen: u64) -> Result<Progress, ConfirmError> {
        self.0.shared.settled_through(seen.saturating_add(1)).await
    }

    /// Waits for all confirms, then closes the publisher for all its clones.
    ///
    /// # Errors
    /// As [`Self::wait_for_all`]; it is closed then, too.
    ///
    /// # Cancel safety
    /// It is not waited for confirms any more, and this clone goes: with the last one the publisher closes, after all that it has
    /// taken is sent.
    pub async fn close(self) -> Result<(), ConfirmError> {
        let result = self.wait_for_all().await;
        let shared = &self.0.shared;
        shared.core.close_publisher(shared);
        shared.close(CloseReason::ByClient);
        result
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.0.shared;
        f.debug_struct("Publisher").field("exchange", &shared.target.exchange).finish_non_exhaustive()
    }
}

/// What applications hold. The connection's tables hold only [`PublisherShared`], so that this one's end is noticed.
pub(super) struct PublisherHandle {
    shared: Arc<PublisherShared>,
    /// Keeps the channel open.
    #[expect(dead_code, reason = "held for its Drop")]
    channel: Arc<ChannelHandle>,
}

impl Drop for PublisherHandle {
    fn drop(&mut self) {
        self.shared.core.close_publisher(&self.shared);
    }
}

/// What the application and the driver share of one publisher.
pub(super) struct PublisherShared {
    core: Arc<Core>,
    channel: u32,
    id: u32,
    target: pb::PublishTarget,
    outbox: Mutex<Outbox>,
}

impl PublisherShared {
    pub(super) fn channel(&self) -> u32 {
        self.channel
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn exchange(&self) -> &str {
        &self.target.exchange
    }

    pub(super) fn open_request(&self) -> pb::OpenPublisher {
        pb::OpenPublisher { publisher: self.id, target: Some(self.target.clone()) }
    }

    /// Whether everything taken has been given to the driver.
    pub(super) fn is_drained(&self) -> bool {
        self.outbox().is_drained()
    }

    /// Gives the driver frames to send; whether more is left.
    pub(super) fn take(&self, budget: usize, out: &mut Vec<OutFrame>) -> bool {
        let mut wake = Vec::new();
        let is_more = self.outbox().take(budget, out, &mut wake);
        wake_all(wake);
        is_more
    }

    /// Takes a `Confirm` frame's ranges.
    pub(super) fn confirm(&self, ranges: Vec<pb::ConfirmRange>) -> Result<(), CloseReason> {
        let mut wake = Vec::new();
        let mut outbox = self.outbox();
        let sent_through = outbox.sent_through();
        for range in ranges {
            let level = range.level();
            let last = if range.last == 0 { range.first } else { range.last };
            let fate = match range.refusal {
                Some(error) => Fate::Refused(Arc::new(refusal_from_wire(error))),
                None => Fate::Confirmed(Confirmed {
                    level: Durability::try_from(level)
                        .map_err(|error| CloseReason::Protocol(shared_text(error)))?,
                    queues: range.queues,
                    journey: (range.first_journey > 0).then_some(JourneyNumber(range.first_journey)),
                }),
            };
            if last > sent_through {
                return Err(self.implausible(Implausible::NeverSent, range.first, last));
            }
            outbox
                .ledger
                .settle(range.first, last, &fate, &mut wake)
                .map_err(|error| self.implausible(error, range.first, last))?;
        }
        outbox.release_settled(&mut wake);
        drop(outbox);
        wake_all(wake);
        Ok(())
    }

    /// Takes a `Return` frame.
    pub(super) fn note_return(&self, returned: pb::Return) -> Result<(), CloseReason> {
        let sequence = returned.sequence;
        let returned =
            returned_from_wire(returned).map_err(|error| CloseReason::Protocol(shared_text(error)))?;
        let noted = self.outbox().ledger.note_return(sequence, returned);
        noted.map_err(|error| self.implausible(error, sequence, sequence))
    }

    /// The connection was made again: what was sent without a fate is to be sent again. How many messages, and whether
    /// the driver has to come for anything.
    pub(super) fn rewind(&self, sizes: SizeLimits) -> (u64, bool) {
        let mut outbox = self.outbox();
        (outbox.rewind(sizes), outbox.is_queued())
    }

    /// Ends it for everybody who waits.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut wake = Vec::new();
        self.outbox().close(reason, &mut wake);
        wake_all(wake);
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }

    fn poll_push(
        self: &Arc<Self>,
        context: &mut Context<'_>,
        ticket: &mut Option<u64>,
        message: &Message,
        watch: bool,
    ) -> Poll<Result<u64, PublishError>> {
        let mut outbox = self.outbox();
        ready!(outbox.poll_space(context, ticket, 1, message.body().len() as u64))?;
        let sequence = outbox.push(message)?;
        if watch {
            outbox.ledger.watch(sequence);
        }
        self.announce(outbox);
        Poll::Ready(Ok(sequence))
    }

    /// The first sequence; 0 if the batch was empty.
    fn poll_push_batch(
        self: &Arc<Self>,
        context: &mut Context<'_>,
        ticket: &mut Option<u64>,
        batch: &mut MessageBatch,
        watch: bool,
    ) -> Poll<Result<u64, PublishError>> {
        if batch.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = batch.len() as u64;
        let mut outbox = self.outbox();
        ready!(outbox.poll_space(context, ticket, count, batch.size_bytes() as u64))?;
        let first = outbox.push_batch(batch)?;
        if watch {
            outbox.ledger.watch_batch(first, first + count - 1);
        }
        self.announce(outbox);
        Poll::Ready(Ok(first))
    }

    fn announce(self: &Arc<Self>, mut outbox: MutexGuard<'_, Outbox>) {
        if outbox.queue_up() {
            drop(outbox);
            self.core.enqueue(Outgoing::Publisher(self.clone()));
        }
    }

    fn place_for_room(self: &Arc<Self>) -> Place<'_> {
        Place { shared: self, waiters: |outbox| &mut outbox.waiting, ticket: None }
    }

    /// Waits until the fate of all messages up to this one is known.
    async fn settled_through(self: &Arc<Self>, sequence: u64) -> Result<Progress, ConfirmError> {
        let mut place = Place { shared: self, waiters: |outbox| &mut outbox.ledger.watermark, ticket: None };
        poll_fn(|context| self.poll_settled_through(context, &mut place.ticket, sequence)).await
    }

    fn poll_settled_through(
        &self,
        context: &mut Context<'_>,
        ticket: &mut Option<u64>,
        sequence: u64,
    ) -> Poll<Result<Progress, ConfirmError>> {
        let mut outbox = self.outbox();
        let progress = outbox.ledger.progress();
        if progress.settled_through >= sequence {
            return Poll::Ready(Ok(progress));
        }
        if let Some(reason) = outbox.closed() {
            return Poll::Ready(Err(ConfirmError::Closed(reason.clone())));
        }
        outbox.ledger.watermark.wait(ticket, context.waker());
        Poll::Pending
    }

    fn implausible(&self, error: Implausible, first: u64, last: u64) -> CloseReason {
        let what = match error {
            Implausible::NeverSent => "that were never sent",
            Implausible::Twice => "whose fate it had told before",
        };
        let publisher = self.id;
        CloseReason::Protocol(shared_text(format_args!(
            "it told the fate of messages {first} to {last} of publisher {publisher}, {what}"
        )))
    }
}

/// Somebody's place among those who wait for something of a publisher.
struct Place<'a> {
    shared: &'a Arc<PublisherShared>,
    waiters: fn(&mut Outbox) -> &mut Waiters,
    /// `None`: it has never had to wait.
    ticket: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            (self.waiters)(&mut self.shared.outbox()).leave(ticket);
        }
    }
}

impl fmt::Debug for PublisherShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherShared").field("channel", &self.channel).field("id", &self.id).finish()
    }
}

impl fmt::Debug for PublisherHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
