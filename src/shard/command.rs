//! What goes into a shard and what comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::channel_prefetch::SharedPrefetch;
use super::close_failure::CloseFailure;
use super::job::Done;
use super::mailbox::Mailbox;
use super::refusing::Excess;
use crate::journey::{Party, Taker, Tracked};
use crate::message::{Delay, Expiration, MessageRun};
use crate::model::{DeliveryTag, Durability, ExchangeName, QueueId, Refusal, RoutingKey, Timestamp};
use crate::queue::{
    ConsumerKey, ConsumerLimits, ConsumerState, Departure, Outcome, Outlook, QueueCounts, QueueOptions,
    SequenceRuns, TagRange, Tags,
};
use crate::storage::KnownLog;

/// Where a connection takes its events.
pub type Outlet = Arc<Mailbox<Event>>;

/// What messages of one publish have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The exchange they were published to.
    pub exchange: ExchangeName,
    /// Routing key of those that carry none of their own.
    pub routing_key: RoutingKey,
}

impl Origin {
    pub(super) fn is(&self, exchange: &str, routing_key: &str) -> bool {
        self.exchange.as_str() == exchange && self.routing_key.as_str() == routing_key
    }
}

/// Messages of one frame that go to queues of this shard.
#[derive(Debug)]
pub struct PublishBatch {
    /// Their exchange and key.
    pub origin: Arc<Origin>,
    /// All messages of the frame.
    pub run: MessageRun,
    /// Which of them go where, in order, without overlap.
    pub segments: Vec<Segment>,
    /// When those of the run expire that say so themselves, in order.
    pub expirations: Vec<Expiration>,
    /// Until when those of the run wait that say so themselves, in order.
    pub delays: Vec<Delay>,
    /// The connection's number for the frame; told in [`Event::Published`].
    pub ticket: u64,
    /// Those whose journeys are kept; `None`: none of them.
    pub tracked: Option<Tracked>,
    /// Whom to tell.
    pub outlet: Outlet,
    /// Tell only when the disk has them.
    pub wait_durable: bool,
    /// Wake the connection when they are taken, since it may wait for that; if not, it learns of it with what follows.
    pub wake_when_taken: bool,
}

/// Messages that are stored, whoever published them.
#[derive(Debug)]
pub struct StoreBatch {
    /// Their exchange and key.
    pub origin: Arc<Origin>,
    /// The messages.
    pub run: MessageRun,
    /// Which of them go where, in order, without overlap.
    pub segments: Vec<Segment>,
    /// The answer, when they are as safe as this shard can make them, or why they were not taken.
    pub reply: oneshot::Sender<Result<(), Box<Refusal>>>,
}

/// Neighbouring messages of a run with the same queues.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Index of the first message in the run.
    pub first: u32,
    /// Index after the last.
    pub end: u32,
    /// Queues of this shard, each once, at least one.
    pub queues: Arc<[QueueId]>,
}

/// What a shard is asked to do. Commands for queues that it does not have are answered as far as they want an
/// answer, and else ignored: the queue was deleted while the command was on its way.
#[derive(Debug)]
pub enum Command {
    /// Take messages in.
    Publish(PublishBatch),
    /// Make a queue; nothing happens if it is there.
    CreateQueue {
        /// Its number.
        queue: QueueId,
        /// What it is.
        options: QueueOptions,
    },
    /// Take no more consumers for a queue, if these conditions hold: it is about to be deleted, when that is recorded.
    Seal {
        /// Its number.
        queue: QueueId,
        /// What must hold.
        conditions: SealConditions,
        /// The asker's number for it; told in [`Notice::Sealed`](super::Notice::Sealed).
        number: u64,
    },
    /// The queue is not deleted after all.
    Unseal {
        /// Its number.
        queue: QueueId,
    },
    /// Delete a queue with its messages; answers with the number of ready messages.
    DeleteQueue {
        /// Its number.
        queue: QueueId,
        /// The answer.
        reply: oneshot::Sender<u64>,
    },
    /// Drop ready messages; answers with their number when the disk has it.
    Purge {
        /// Which queue.
        queue: QueueId,
        /// The answer; a refusal if the shard cannot do it.
        reply: oneshot::Sender<Result<u64, Box<Refusal>>>,
    },
    /// A consumer comes; answered by [`Event::Attached`] before its first delivery.
    Attach {
        /// Which queue.
        queue: QueueId,
        /// Who.
        taker: Arc<Taker>,
        /// How much it takes.
        limits: ConsumerLimits,
        /// The bound that it shares, if its channel has one.
        shared: Option<SharedPrefetch>,
        /// Where its deliveries go.
        outlet: Outlet,
    },
    /// A consumer shares the bound of its channel from now on, and what it has counts; answered by [`Event::Shares`].
    Share {
        /// Which queue.
        queue: QueueId,
        /// Who.
        key: ConsumerKey,
        /// The bound.
        shared: SharedPrefetch,
        /// Where the answer goes, even if the queue is gone.
        outlet: Outlet,
    },
    /// There is room for consumers of a queue that share a bound.
    LookAgain {
        /// Which queue.
        queue: QueueId,
    },
    /// A consumer wants no more; answered by [`Event::Cancelled`] after its last delivery.
    Cancel {
        /// Which queue.
        queue: QueueId,
        /// Who.
        key: ConsumerKey,
    },
    /// A consumer is gone; what it held goes back.
    Detach {
        /// Which queue.
        queue: QueueId,
        /// Who.
        key: ConsumerKey,
    },
    /// A consumer settles deliveries.
    Settle {
        /// Which queue.
        queue: QueueId,
        /// Who.
        key: ConsumerKey,
        /// Which deliveries, and what became of them.
        settlements: Vec<Settlement>,
        /// Somebody wants an answer.
        reply: Option<SettleReply>,
    },
    /// A consumer is still at work on deliveries: their leases begin anew. Answered, if an answer is wanted, as a settlement is,
    /// but at once.
    Extend {
        /// Which queue.
        queue: QueueId,
        /// Who.
        key: ConsumerKey,
        /// Which deliveries.
        ranges: Vec<TagRange>,
        /// Somebody wants an answer.
        reply: Option<SettleReply>,
    },
    /// A consumer may have more deliveries.
    Credit {
        /// Which queue.
        queue: QueueId,
        /// Who.
        key: ConsumerKey,
        /// How many more.
        add: u32,
    },
    /// Deliveries of so many bytes reached a consumer's socket.
    Written {
        /// Which queue.
        queue: QueueId,
        /// Who.
        key: ConsumerKey,
        /// Sum of their [`Delivery::window_bytes`].
        bytes: u64,
    },
    /// Fetch one message; answered by [`Event::Got`].
    Get {
        /// Which queue.
        queue: QueueId,
        /// Who asks: [`ConsumerKey::one_by_one`].
        key: ConsumerKey,
        /// Its connection.
        party: Arc<Party>,
        /// Where the answer goes.
        outlet: Outlet,
    },
    /// Show ready messages, and change nothing by it.
    Browse {
        /// What is wanted.
        look: Look,
        /// The answer; a refusal if they cannot be read back.
        reply: oneshot::Sender<Result<Looked, Box<Refusal>>>,
    },
    /// Take messages out of a queue; answers when the disk has it, with those of them that were not to be taken.
    TakeOut {
        /// Which queue.
        queue: QueueId,
        /// Which messages.
        sequences: BTreeSet<u64>,
        /// Why they leave.
        why: TakenOut,
        /// The answer; a refusal if the shard cannot do it.
        reply: oneshot::Sender<Result<Vec<u64>, Box<Refusal>>>,
    },
    /// Take messages in that were dead letters elsewhere, and have no expiration any more.
    Store(StoreBatch),
    /// Dead letters leave for good; those that are none are left out.
    DismissDeadLetters {
        /// Which queue.
        queue: QueueId,
        /// What became of them.
        why: Departure,
        /// Which.
        letters: SequenceRuns,
    },
    /// Tell about queues; those that are not there are left out.
    Inspect {
        /// Which queues.
        queues: Vec<QueueId>,
        /// The answer.
        reply: oneshot::Sender<Vec<QueueState>>,
    },
    /// Tell what queues would do with a message that came now, and change nothing by it; those that are not there are left out.
    Foresee {
        /// Which queues.
        queues: Vec<QueueId>,
        /// The message.
        message: WouldBe,
        /// The answer; a refusal if the shard takes no message.
        reply: oneshot::Sender<Result<Vec<Foreseen>, Box<Refusal>>>,
    },
    /// Put what happened to tracked messages where it is kept; answers when all is there that happened before.
    TellJourneys {
        /// The answer.
        reply: oneshot::Sender<()>,
    },
    /// A job was done.
    Done(Done),
    /// The log has moved on.
    LogProgress,
    /// Put everything on disk and stop; answers when that is done, with how far the log reaches, or what went wrong.
    Close {
        /// The answer.
        reply: oneshot::Sender<Result<Option<KnownLog>, CloseFailure>>,
    },
}

/// A message that was not published, of which somebody asks what would become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WouldBe {
    /// Bytes of it, as it is encoded.
    pub size_bytes: u32,
    /// Its priority.
    pub priority: u8,
    /// Milliseconds after which it expires by itself.
    pub expiration_ms: Option<u64>,
    /// Until when it waits.
    pub delay: Delay,
}

/// What a queue would do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// Which queue.
    pub queue: QueueId,
    /// What it would do.
    pub outlook: Outlook,
    /// Until when the message would be held back.
    pub held_until: Option<Timestamp>,
    /// Why it hands out nothing, if a message of it could not be read back.
    pub fault: Option<Arc<str>>,
}

/// Which ready messages somebody wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Of which queue.
    pub queue: QueueId,
    /// From this sequence on.
    pub from: u64,
    /// None from this sequence on; 0: all that the queue has now.
    pub end: u64,
    /// When they came.
    pub came: Came,
    /// Those that wait, or those that are retained.
    pub which: Which,
    /// Only the newest so many of those that are retained.
    pub newest: Option<u64>,
    /// Messages at most.
    pub count_max: usize,
    /// None is added to those that have so many bytes.
    pub bytes_max: usize,
}

/// Ready messages as somebody sees them.
#[derive(Debug)]
pub struct Looked {
    /// The messages, in order. There may be fewer than were asked for, but none only if that was all.
    pub messages: Vec<LookedAt>,
    /// Where to look on; `None`: that was all.
    pub next: Option<u64>,
    /// Where the look ends.
    pub end: u64,
    /// The queue's numbers.
    pub counts: QueueCounts,
}

/// A ready message.
#[derive(Debug)]
pub struct LookedAt {
    /// Its sequence.
    pub sequence: u64,
    /// Its exchange and key.
    pub origin: Arc<Origin>,
    /// The message, encoded.
    pub bytes: Bytes,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How often it came back to the queue.
    pub delivery_count: u32,
    /// When it came, to the second; `None`: while a version ran that did not note it.
    pub came_at: Option<Timestamp>,
    /// Until when it is held back, if it is.
    pub delayed_until: Option<Timestamp>,
}

/// A run of deliveries with the same outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// Which deliveries.
    pub range: TagRange,
    /// What became of them.
    pub outcome: Outcome,
}

/// Who gets [`Event::Settled`] when the disk has a settlement, or [`Event::SettleRefused`].
#[derive(Debug, Clone)]
pub struct SettleReply {
    /// The request.
    pub request: u64,
    /// Where the answer goes, even if the queue is gone.
    pub outlet: Outlet,
}

/// On what a queue is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SealConditions {
    /// Only if it has no consumers.
    pub if_unused: bool,
    /// Only if it has no ready messages.
    pub if_empty: bool,
}

/// Why a queue was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteRefusal {
    /// It has consumers.
    InUse,
    /// It has ready messages.
    NotEmpty,
    /// Nobody can tell whether it is empty: its shard is out of service.
    OutOfService,
}

/// A queue as lists show it.
#[derive(Debug, Clone)]
pub struct QueueState {
    /// Which queue.
    pub queue: QueueId,
    /// Its numbers.
    pub counts: QueueCounts,
    /// When its oldest messages came.
    pub oldest: Oldest,
    /// Its consumers.
    pub consumers: Vec<ConsumerState>,
    /// Why it hands out nothing, if a message of it could not be read back.
    pub fault: Option<Arc<str>>,
    /// It is about to be deleted.
    pub is_going: bool,
}

/// When the oldest messages of a queue came, to the second; `None`: there are none, or they came while a version ran that did not
/// note it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oldest {
    /// Of those that wait.
    pub ready: Option<Timestamp>,
    /// Of those that consumers have.
    pub unsettled: Option<Timestamp>,
}

/// Which messages of a queue are seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Which {
    /// Those that wait for a consumer.
    #[default]
    Ready,
    /// Those that consumers are done with and that the queue retains.
    Retained,
    /// Those that are held back until a later time.
    Delayed,
    /// Dead letters for this reason.
    DeadLetters(Departure),
}

/// Why messages are taken out of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenOut {
    /// They are ready, and were published elsewhere.
    Moved,
    /// They are held back, and are not wanted any more.
    Cancelled,
}

/// Bounds for when messages came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Came {
    /// At this time or later, or within the second before.
    pub since: Option<Timestamp>,
    /// Before this time; some that came within the second before are left out.
    pub before: Option<Timestamp>,
}

/// What a shard tells a connection.
#[derive(Debug)]
pub enum Event {
    /// Messages for a consumer.
    Delivery(Delivery),
    /// A shard has taken messages out of its mailbox; their fate follows.
    Taken {
        /// Sum of the sizes of their runs.
        bytes: usize,
    },
    /// A shard has the messages of a frame, but those that it had no room for, as safely as was asked for.
    Published {
        /// The connection's number for the frame.
        ticket: u64,
        /// How safely.
        durability: Durability,
        /// As in [`Event::Taken`]; 0 if that was told before.
        taken_bytes: usize,
        /// Those that queues had no room for, in order.
        excess: Box<[Excess]>,
    },
    /// A shard could not keep the messages of a frame.
    PublishFailed {
        /// The connection's number for the frame.
        ticket: u64,
        /// As in [`Event::Taken`]; 0 if that was told before.
        taken_bytes: usize,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// A consumer was attached, or not.
    Attached {
        /// Which.
        key: ConsumerKey,
        /// Why not.
        result: Result<(), Box<Refusal>>,
    },
    /// What a consumer has counts for the bound of its channel.
    Shares {
        /// Which.
        key: ConsumerKey,
    },
    /// A consumer was cancelled as it had asked.
    Cancelled {
        /// Which.
        key: ConsumerKey,
    },
    /// A consumer was ended by the broker.
    ConsumerEnded {
        /// The queue it consumed.
        queue: QueueId,
        /// Which.
        key: ConsumerKey,
        /// Why, in a sentence.
        reason: String,
    },
    /// Somebody had messages for longer than a lease. They are back in their queue, and a consumer gets no more.
    Lapsed {
        /// The queue.
        queue: QueueId,
        /// Who.
        key: ConsumerKey,
        /// Which deliveries, in order; one at least.
        lapsed: Vec<Tags>,
        /// How long a lease is.
        lease_millis: u64,
    },
    /// A settlement that was not carried out, or not whole.
    SettleRefused {
        /// Who.
        key: ConsumerKey,
        /// The request, if it wanted an answer.
        request: Option<u64>,
        /// Why: a tag that the consumer does not hold (the others were settled), or a log that failed.
        refusal: Box<Refusal>,
    },
    /// A settlement is on disk.
    Settled {
        /// Who settled.
        key: ConsumerKey,
        /// Which request.
        request: u64,
    },
    /// The answer to a single request.
    Got {
        /// The reader.
        key: ConsumerKey,
        /// The message, or `None` if there is none ready; why not, if the queue cannot be asked.
        message: Result<Option<Delivery>, Box<Refusal>>,
        /// Ready messages left.
        ready: u64,
    },
}

/// Messages for one consumer, in order.
#[derive(Debug)]
pub struct Delivery {
    /// The queue they come from.
    pub queue: QueueId,
    /// For whom.
    pub consumer: ConsumerKey,
    /// Tag of the first, the others count up.
    pub first_tag: DeliveryTag,
    /// How many.
    pub count: u64,
    /// Their exchange and key.
    pub origin: Arc<Origin>,
    /// The messages.
    pub pieces: Vec<Piece>,
    /// They may have been delivered before.
    pub redelivered: bool,
    /// How often they came back to the queue.
    pub delivery_count: u32,
    /// To be reported with [`Command::Written`] once they are written.
    pub window_bytes: u64,
}

/// Whole messages, encoded, back to back.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The messages.
    pub bytes: Bytes,
    /// How many.
    pub count: u64,
}
