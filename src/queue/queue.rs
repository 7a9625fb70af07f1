//! The queue state machine.
//!
//! ```text
//!              apply(Enqueue)            deliver             settle_tags + apply(Settle)
//!   publish ───────────────▶ waiting ─────────────▶ unsettled ─────────────────────▶ gone
//!                               ▲                      │
//!                               └──── returned ◀───────┘ settle_tags or detach
//! ```
//!
//! What waits may be held back for a time (`hold`), and waits in its place again after it (`release`).
//!
//! Only what changes *what the queue holds* is logged: enqueue, settle, how often messages came back, and the delivery
//! mark. Who has which message is not: after a restart every message that has not left is waiting again.
//!
//! The delivery mark is what makes `redelivered = false` mean "certainly never delivered" even across a crash. It is a
//! body sequence, logged ahead of the deliveries: nothing at or above the durable mark is handed out. What stands
//! below it after a crash is delivered with `redelivered = true`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::consumer::{Consumer, ConsumerKey, ConsumerLimits, ConsumerState};
use super::dead_letters::DeadLetters;
use super::departure::{Departure, Departures, Return};
use super::kept::KeptMessages;
use super::levels::Levels;
use super::limits::Limits;
use super::line::Line;
use super::lines::Lines;
use super::retaining::Retention;
use super::retry::Retry;
use super::returns::UNCOUNTED_RUNS_MIN;
use super::sequence_runs::{SequenceRun, SequenceRuns};
use super::sharing::ChannelKey;
use crate::model::{BodySequence, Bug, DeliveryTag, planted};

/// Room for delivery counts that is kept while there are none.
const IDLE_COUNTS_MAX: usize = 1024;

/// What a queue is, fixed at its declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueOptions {
    /// Its shard's log is kept: deliveries need a durable mark, and it is there after a restart.
    pub logged: bool,
    /// Ask to be deleted when the last consumer goes.
    pub auto_delete: bool,
    /// What is kept of what consumers are done with; `None`: nothing.
    pub retention: Option<Retention>,
    /// What may wait in it, and how long.
    pub limits: Limits,
    /// What is rejected, expires, has no room or comes back too often is kept until it is stored elsewhere.
    pub dead_letters: bool,
    /// One of its consumers is served, the others wait for it to go.
    pub single_active: bool,
    /// What came back more often leaves; `None`: it may come back for ever.
    pub delivery_limit: Option<u32>,
    /// Messages of a higher priority go out first, up to this one; `None`: it knows no priorities.
    pub max_priority: Option<u8>,
    /// Who has a message for so many milliseconds without settling it loses it; `None`: as long as its shard says. Not recorded.
    pub lease_millis: Option<u64>,
    /// For how long what comes back is held back; `None`: not at all.
    pub retry: Option<Retry>,
}

/// Logged input. The same commands in the same order give the same queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueCommand {
    /// Messages leave, for this reason.
    Settle(Departure, SequenceRuns),
    /// Messages leave what waits and what consumers have, for this reason, and are dead letters from now on.
    DeadLetter(Departure, SequenceRuns),
    /// Messages came back once more each. Of versions that recorded each return.
    Requeue(SequenceRuns),
    /// How often messages have come back.
    Counts(Vec<CountRun>),
    /// From now on messages below this sequence may have been delivered.
    DeliveryMark(u64),
    /// What was retained of messages below this sequence is forgotten.
    Forget(u64),
}

/// Messages that follow each other and came back equally often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountRun {
    /// Which messages.
    pub run: SequenceRun,
    /// How often each of them came back.
    pub count: u32,
}

/// Why a consumer could not be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachRefusal {
    /// Another consumer has the queue for itself.
    ExclusiveInUse,
    /// It asked for the queue for itself and there are others.
    OthersPresent,
    /// It asked for the queue for itself, which has a single active consumer anyway.
    SingleActive,
    /// A consumer with this key is there; perhaps it was cancelled and still holds messages.
    KeyInUse,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Log this, then `apply` it.
    Append(QueueCommand),
    /// Give a consumer `run.count` messages; the first gets `first_tag`, the others count up.
    Deliver {
        /// To whom.
        consumer: ConsumerKey,
        /// Which messages.
        run: SequenceRun,
        /// Tag of the first.
        first_tag: DeliveryTag,
        /// They may have been delivered before.
        redelivered: bool,
        /// How often they came back.
        delivery_count: u32,
        /// What the consumer's window was charged for them.
        window_bytes: u64,
    },
    /// These messages are no longer held by this queue.
    Release(SequenceRun),
    /// These messages came back, to be held back for so many milliseconds if that is told: there may be something to deliver, and
    /// [`Queue::counts_to_record`] has something.
    CameBack(Return, SequenceRuns, Option<u64>),
    /// The last consumer of an auto-delete queue has gone.
    Unused,
}

/// Effects in order.
pub type Effects = Vec<Effect>;

/// Numbers for lists and answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Waiting for a consumer.
    pub ready: u64,
    /// Held back until a later time.
    pub held_back: u64,
    /// With a consumer, not settled.
    pub unsettled: u64,
    /// Bytes of all three.
    pub bytes: u64,
    /// Consumers that are not cancelled.
    pub consumers: u32,
    /// Messages taken in since the broker started.
    pub published: u64,
    /// Deliveries since the broker started.
    pub delivered: u64,
    /// Messages that left since the broker started, by reason.
    pub departures: Departures,
    /// Messages that consumers are done with and that are retained.
    pub retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Dead letters that are not stored elsewhere yet.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letters_bytes: u64,
    /// Messages that it had no room for and refused, since the broker started.
    pub refused: u64,
}

/// How often messages came back, by sequence.
pub(super) type DeliveryCounts = HashMap<u64, u32, foldhash::fast::FixedState>;

/// One queue. See the module's picture.
#[derive(Debug)]
pub struct Queue {
    pub(super) options: QueueOptions,
    pub(super) lines: Lines,
    /// How often a message came back. Only for those that did.
    pub(super) delivery_counts: DeliveryCounts,
    /// Messages that came back since their counts were recorded; some may be there twice, or gone.
    pub(super) uncounted: SequenceRuns,
    /// Runs of these before doubles are looked for.
    pub(super) uncounted_runs_max: usize,
    /// Handed out and neither settled nor returned.
    pub(super) outstanding: u64,
    /// By priority, the highest first; those of one priority in the order in which they came.
    pub(super) consumers: Vec<Consumer>,
    /// Who of them are of one priority, and whose turn it is among these.
    pub(super) levels: Levels,
    /// What consumers may take that share a bound of their channel.
    pub(super) lent: BTreeMap<ChannelKey, u64>,
    /// The single active consumer, if there is to be one. It stays while it holds messages, whoever is first in line.
    pub(super) active: Option<ConsumerKey>,
    /// The logged mark.
    pub(super) mark: u64,
    /// A mark was asked for that `mark_durable` has not confirmed.
    pub(super) mark_pending: bool,
    /// Nothing at or above is handed out.
    pub(super) deliver_below: u64,
    /// What stood below the mark at recovery may have been delivered by the process before.
    pub(super) redelivered_below: u64,
    published: u64,
    pub(super) refused: u64,
    pub(super) delivered: u64,
    pub(super) departures: Departures,
    pub(super) retained: KeptMessages,
    pub(super) dead_letters: DeadLetters,
}

impl Queue {
    /// Recovery makes queues before it knows what they were declared as. A queue that retains nothing any more forgets what it
    /// retained, and one that has no place for dead letters any more forgets those.
    pub fn set_options(&mut self, options: QueueOptions, effects: &mut Effects) {
        // Who has messages of priorities has to know them.
        let known = self.options.max_priority.filter(|_| self.lines.know_priorities());
        let max_priority = options.max_priority.or(known);
        self.options = QueueOptions { logged: self.options.logged, max_priority, ..options };
        if options.retention.is_none() {
            self.forget_before(u64::MAX, effects);
        }
        if !options.dead_letters {
            self.dead_letters.forget(0..u64::MAX, |run| push_release(effects, run));
        }
        self.choose_active();
    }

    /// What it is.
    pub fn options(&self) -> QueueOptions {
        self.options
    }

    /// An empty queue.
    pub fn new(options: QueueOptions) -> Self {
        Self {
            options,
            lines: Lines::default(),
            delivery_counts: HashMap::default(),
            uncounted: SequenceRuns::default(),
            uncounted_runs_max: UNCOUNTED_RUNS_MIN,
            outstanding: 0,
            consumers: Vec::new(),
            levels: Levels::default(),
            lent: BTreeMap::new(),
            active: None,
            mark: 0,
            mark_pending: false,
            deliver_below: if options.logged { 0 } else { u64::MAX },
            redelivered_below: 0,
            published: 0,
            refused: 0,
            delivered: 0,
            departures: Departures::default(),
            retained: KeptMessages::default(),
            dead_letters: DeadLetters::default(),
        }
    }

    /// Logged input: messages `first`, `first + 1`, … of these sizes join the end. They come after
    /// [`Queue::last_sequence`].
    pub fn enqueue(&mut self, first: BodySequence, sizes_bytes: impl Iterator<Item = u32>) {
        self.published += self.lines.extend(0, first, sizes_bytes);
    }

    /// The same for messages of a priority; of one above the highest they are of the highest.
    pub fn enqueue_prior(
        &mut self,
        priority: u8,
        first: BodySequence,
        sizes_bytes: impl Iterator<Item = u32>,
    ) {
        let priority = self.known_priority(priority);
        self.published += self.lines.extend(priority, first, sizes_bytes);
    }

    /// The priority that a message of this one has here.
    pub(super) fn known_priority(&self, priority: u8) -> u8 {
        let highest = self.options.max_priority.filter(|_| !planted(Bug::PriorityIgnored));
        priority.min(highest.unwrap_or(0))
    }

    /// Sequence of the newest message it ever took; 0 before the first.
    pub fn last_sequence(&self) -> BodySequence {
        BodySequence(self.lines.last_sequence())
    }

    /// Logged input. Sequences that the queue does not hold are ignored: they left before.
    pub fn apply(&mut self, command: &QueueCommand, effects: &mut Effects) {
        match command {
            QueueCommand::Settle(departure, runs) if departure.ends_dead_letters() => {
                self.apply_dismissal(*departure, runs, effects);
            }
            QueueCommand::Settle(departure, runs) => {
                let retains = self.options.retention.is_some() && departure.is_retained();
                let next = if retains { Next::Retained } else { Next::Gone };
                self.apply_departure(*departure, next, runs, effects);
            }
            QueueCommand::DeadLetter(departure, runs) => {
                self.apply_departure(*departure, Next::DeadLetter, runs, effects);
            }
            QueueCommand::Requeue(runs) => self.put_back(runs),
            QueueCommand::Counts(runs) => self.apply_counts(runs),
            QueueCommand::DeliveryMark(mark) => self.mark = *mark,
            QueueCommand::Forget(sequence) => self.forget_before(*sequence, effects),
        }
    }

    fn apply_departure(
        &mut self,
        departure: Departure,
        next: Next,
        runs: &SequenceRuns,
        effects: &mut Effects,
    ) {
        for line in self.lines.iter_mut() {
            let (retained, dead_letters) = (&mut self.retained, &mut self.dead_letters);
            let keep = |message, remainder| match next {
                Next::Gone => {}
                Next::Retained => retained.keep((message, remainder)),
                Next::DeadLetter => dead_letters.keep(departure, (message, remainder)),
            };
            line.remove(runs, keep, |run, was_outstanding| {
                if !self.delivery_counts.is_empty() {
                    run.sequences().for_each(|sequence| {
                        self.delivery_counts.remove(&sequence);
                    });
                }
                self.outstanding -= was_outstanding;
                self.departures.count(departure, run.count);
                if matches!(next, Next::Gone) {
                    push_release(effects, run);
                }
            });
        }
        if self.delivery_counts.is_empty() && self.delivery_counts.capacity() > IDLE_COUNTS_MAX {
            self.delivery_counts = HashMap::default();
        }
    }

    /// All logged input has been applied: messages below the mark may have been delivered by an earlier process. The
    /// mark runs ahead of the deliveries, so it says nothing about messages that are to come: those from `next` on.
    pub fn recovered(&mut self, next: BodySequence) {
        self.redelivered_below = if planted(Bug::MarkIgnored) { 0 } else { self.mark.min(next.0) };
        self.deliver_below = if self.options.logged { self.mark } else { u64::MAX };
        self.published = 0;
        self.departures = Departures::default();
    }

    /// A mark that was applied is on disk. If another one has been applied since, that one counts.
    pub fn mark_durable(&mut self, mark: u64) {
        if self.mark == mark {
            self.deliver_below = mark;
            self.mark_pending = false;
        }
    }

    /// The mark to log at a clean stop, when nothing is outstanding any more: exactly what was delivered. Should the
    /// queue deliver more after all, it asks for another mark first.
    pub fn closing_mark(&mut self) -> Option<QueueCommand> {
        if !self.options.logged || self.mark == 0 {
            return None;
        }
        let exact = self.lines.handed_out_below().max(self.redelivered_below);
        self.deliver_below = self.deliver_below.min(exact);
        self.mark_pending = true;
        Some(QueueCommand::DeliveryMark(exact))
    }

    /// A consumer comes. It gets messages at the next [`Queue::deliver`].
    ///
    /// # Errors
    /// See [`AttachRefusal`]; nothing changed.
    pub fn attach(&mut self, key: ConsumerKey, limits: ConsumerLimits) -> Result<(), AttachRefusal> {
        if self.position(key).is_some() {
            return Err(AttachRefusal::KeyInUse);
        }
        if limits.exclusive && self.options.single_active {
            return Err(AttachRefusal::SingleActive);
        }
        let mut others = self.consumers.iter().filter(|consumer| consumer.is_consuming()).peekable();
        if others.peek().is_some() && key.is_consumer() {
            if limits.exclusive {
                return Err(AttachRefusal::OthersPresent);
            }
            if others.any(|consumer| consumer.limits.exclusive) {
                return Err(AttachRefusal::ExclusiveInUse);
            }
        }
        let index = self.levels.insert(limits.priority);
        self.consumers.insert(index, Consumer::new(key, limits));
        self.choose_active();
        Ok(())
    }

    /// A consumer wants no more. What it holds it can still settle.
    pub fn cancel(&mut self, key: ConsumerKey, effects: &mut Effects) {
        let Some(index) = self.position(key) else { return };
        let consumer = &mut self.consumers[index];
        let was_consuming = consumer.is_consuming();
        consumer.cancelled = true;
        if consumer.unsettled_count() == 0 {
            self.remove_consumer(index);
        }
        self.choose_active();
        if was_consuming {
            self.note_unused(effects);
        }
    }

    /// A consumer is gone: what it held comes back.
    pub fn detach(&mut self, key: ConsumerKey, effects: &mut Effects) {
        let Some(index) = self.position(key) else { return };
        let consumer = self.remove_consumer(index);
        self.choose_active();
        let mut runs = SequenceRuns::default();
        for message in consumer.unsettled() {
            runs.push(BodySequence(message.sequence()));
        }
        if !runs.is_empty() {
            self.come_back(Return::ConsumerGone, runs, None, effects);
        }
        if consumer.is_consuming() {
            self.note_unused(effects);
        }
    }

    fn note_unused(&self, effects: &mut Effects) {
        if self.options.auto_delete && !self.consumers.iter().any(Consumer::is_consuming) {
            effects.push(Effect::Unused);
        }
    }

    /// So many bytes of deliveries reached the consumer's socket.
    pub fn written(&mut self, key: ConsumerKey, bytes: u64) {
        if let Some(consumer) = self.consumer(key) {
            consumer.written(bytes);
        }
    }

    /// The consumer may have so many deliveries more.
    pub fn add_credit(&mut self, key: ConsumerKey, add: u32) {
        if let Some(consumer) = self.consumer(key) {
            consumer.add_credit(add);
        }
    }

    /// Drops what is waiting; returns how many that were.
    pub fn purge(&mut self, effects: &mut Effects) -> u64 {
        let mut runs = SequenceRuns::default();
        let mut count = 0;
        self.lines.iter_mut().flat_map(Line::returned_first).for_each(|message| {
            runs.push(BodySequence(message.sequence()));
            count += 1;
        });
        if !runs.is_empty() {
            effects.push(Effect::Append(QueueCommand::Settle(Departure::Purged, runs)));
        }
        count
    }

    /// All messages, held by consumers or not: the queue is about to be deleted.
    pub fn contents(&mut self) -> SequenceRuns {
        let mut runs = SequenceRuns::default();
        self.lines.live_messages().for_each(|message| runs.push(BodySequence(message.sequence())));
        runs
    }

    /// Messages in a range of sequences, held by consumers or not: sequence and size.
    pub fn live_in(&self, range: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        self.lines.live_in(range).map(|message| (message.sequence(), message.size_bytes()))
    }

    /// Keys of all consumers.
    pub fn consumers(&self) -> impl Iterator<Item = ConsumerKey> {
        self.consumers.iter().map(|consumer| consumer.key)
    }

    /// Keys of those that are consumers in the full sense: not cancelled, and not asking for messages one at a time.
    pub fn live_consumers(&self) -> impl Iterator<Item = ConsumerKey> {
        self.consumers.iter().filter(|consumer| consumer.is_consuming()).map(|consumer| consumer.key)
    }

    /// What a consumer wants and has.
    pub fn consumer_state(&self, key: ConsumerKey) -> Option<ConsumerState> {
        let consumer = self.consumers.iter().find(|consumer| consumer.key == key)?;
        Some(consumer.state(self.is_active(key)))
    }

    /// Runs of messages whose counts are not recorded.
    #[cfg(test)]
    pub(crate) fn uncounted_runs(&self) -> usize {
        self.uncounted.runs().len()
    }

    /// A number for all that it has to know after a crash.
    #[cfg(test)]
    pub(crate) fn digest(&self) -> u64 {
        use std::hash::BuildHasher;
        let counts: BTreeMap<_, _> = self.delivery_counts.iter().collect();
        let messages: Vec<_> = self.live_in(0..u64::MAX).collect();
        let QueueOptions {
            logged,
            auto_delete,
            retention,
            limits,
            dead_letters,
            single_active,
            delivery_limit,
            max_priority,
            // Nothing that is there after a crash.
            lease_millis: _,
            retry,
        } = self.options;
        let options = (logged, auto_delete, retention, limits, dead_letters, single_active, delivery_limit);
        let priorities = (max_priority, self.lines.by_priority(), retry);
        let mut letters = Vec::new();
        self.encode_dead_letters(&mut letters);
        let retained: Vec<_> = self.retained_in(0..u64::MAX).map(|message| message.sequence).collect();
        let backlog = (self.lines.last_sequence(), self.lines.live_bytes(), messages);
        let state =
            (options, priorities, self.mark, backlog, counts, retained, self.retained.bytes(), letters);
        foldhash::fast::FixedState::default().hash_one(state)
    }

    /// Memory that its messages take here, whether handed out or not.
    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.lines.memory_bytes()
    }

    /// Bytes of what waits, by the mean of all its messages, with so many added for each.
    pub fn ready_bytes(&self, around_bytes: u64) -> u64 {
        let (live, ready) = (self.lines.live(), self.ready());
        let bytes = u128::from(self.lines.live_bytes()) * u128::from(ready) / u128::from(live.max(1));
        bytes as u64 + ready * around_bytes
    }

    /// Numbers for lists and answers.
    pub fn counts(&self) -> QueueCounts {
        QueueCounts {
            ready: self.ready(),
            held_back: self.lines.held(),
            unsettled: self.outstanding,
            bytes: self.lines.live_bytes(),
            consumers: self.consumers.iter().filter(|consumer| consumer.is_consuming()).count() as u32,
            published: self.published,
            delivered: self.delivered,
            departures: self.departures,
            retained: self.retained.count(),
            retained_bytes: self.retained.bytes(),
            dead_letters: self.dead_letters.count(),
            dead_letters_bytes: self.dead_letters.bytes(),
            refused: self.refused,
        }
    }

    pub(super) fn position(&self, key: ConsumerKey) -> Option<usize> {
        self.consumers.iter().position(|consumer| consumer.key == key)
    }

    /// Whose turn it is stays the same.
    pub(super) fn remove_consumer(&mut self, index: usize) -> Consumer {
        self.levels.remove(index);
        self.consumers.remove(index)
    }

    fn consumer(&mut self, key: ConsumerKey) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.key == key)
    }
}

/// Where messages are that have left.
#[derive(Debug, Clone, Copy)]
enum Next {
    Gone,
    Retained,
    DeadLetter,
}

/// Adds messages to the last release if they continue it, else begins a new one.
pub(super) fn push_release(effects: &mut Effects, run: SequenceRun) {
    match effects.last_mut() {
        Some(Effect::Release(last)) if last.sequences().end == run.first.0 => last.count += run.count,
        _ => effects.push(Effect::Release(run)),
    }
}
