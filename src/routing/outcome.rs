//! What goes into routing a message beside its key, and what comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{
    Entity, ExchangeName, FieldTable, NAME_BYTES_MAX, QueueId, Refusal, ReplyCode, ShardId, VhostName,
};

use super::check::{named, no_such_exchange};
use super::kind::mix;
use super::target::Target;
use super::trie::KeyWords;
use super::{History, KeyNotAllowed, Keys, SchemaRule};

/// A queue that gets a message, and the shard that owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueTarget {
    /// The queue.
    pub id: QueueId,
    /// Its owner.
    pub shard: ShardId,
}

/// By how much the number that chance goes by grows with each message.
const CHANCE_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Queues that are taken for the keys of a message, besides twice as many as there are, before it is looked which of them are the same.
const QUEUES_TAKEN_TWICE_MAX: usize = 1_024;

/// The queues that get a message. Made once and reused: routing then allocates nothing unless it passes through
/// several exchanges.
#[derive(Debug, Default)]
pub struct Routed {
    queues: Vec<QueueTarget>,
    beyond_the_key: bool,
    chance: Chance,
    /// Each once.
    schemas: Vec<Arc<SchemaRule>>,
    /// Of the exchanges on the way that keep what comes; each once.
    histories: Vec<Arc<History>>,
    /// Whether the exchange at hand let the message through at all.
    matched: bool,
    /// Exchanges that the message reached, in turn, with repetitions; those before `next` are done.
    reached: Vec<ExchangeName>,
    next: usize,
    visited: BTreeSet<ExchangeName>,
    /// The words of the key, once a topic exchange was met.
    words: KeyWords,
    words_are_cut: bool,
}

/// What exchanges that choose by chance go by.
#[derive(Debug, Clone, Copy)]
enum Chance {
    /// The number before is this one; the numbers of SplitMix64.
    Drawn(u64),
    /// All that chance could choose is taken.
    Any,
}

impl Default for Chance {
    fn default() -> Self {
        Self::Drawn(0)
    }
}

impl Routed {
    /// One whose choices by chance begin at this number, so that they are others than those of other ones.
    pub fn with_chance(seed: u64) -> Self {
        Self { chance: Chance::Drawn(seed), ..Self::default() }
    }

    /// One that takes all queues which chance could choose.
    pub fn for_any_chance() -> Self {
        Self { chance: Chance::Any, ..Self::default() }
    }

    /// What chance said for the message that was routed last; `None`: nothing, all that it could choose was taken.
    pub fn chance(&self) -> Option<u64> {
        match self.chance {
            Chance::Drawn(number) => Some(mix(number)),
            Chance::Any => None,
        }
    }

    /// The queues, each once, in order of their ids.
    pub fn queues(&self) -> &[QueueTarget] {
        &self.queues
    }

    /// Whether the result depends on exchange and key alone, so that it holds for every message published with
    /// them on the same table. False once an exchange was met that looks at headers or properties, or chooses by chance.
    pub fn is_keyed(&self) -> bool {
        !self.beyond_the_key
    }

    /// What the message has to fit: all that the exchange it was published to says of its keys.
    pub fn schemas(&self) -> &[Arc<SchemaRule>] {
        &self.schemas
    }

    /// Where the message is to be kept for what is bound later.
    pub fn histories(&self) -> &[Arc<History>] {
        &self.histories
    }

    /// The exchange at hand keeps what comes. Each exchange is visited once, so none is taken twice.
    pub(super) fn take_history(&mut self, history: &Arc<History>) {
        self.histories.push(Arc::clone(history));
    }

    pub(super) fn take_schema(&mut self, schema: Option<&Arc<SchemaRule>>) {
        let is_new = |schema: &&Arc<SchemaRule>| !self.schemas.iter().any(|known| Arc::ptr_eq(known, schema));
        self.schemas.extend(schema.filter(is_new).cloned());
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.schemas.clear();
        self.histories.clear();
        self.beyond_the_key = false;
        if let Chance::Drawn(number) = &mut self.chance {
            *number = number.wrapping_add(CHANCE_STEP);
        }
        self.matched = false;
        self.reached.clear();
        self.next = 0;
        self.visited.clear();
        self.words_are_cut = false;
    }

    /// The message goes to this target of the exchange at hand.
    pub(super) fn take(&mut self, target: &Target) {
        self.matched = true;
        match target {
            Target::Queue(queue) => self.queues.push(*queue),
            Target::Exchange(name) => self.reached.push(name.clone()),
        }
    }

    /// Whether the exchange at hand let the message through at all.
    pub(super) fn has_matched(&self) -> bool {
        self.matched
    }

    #[cfg(test)]
    pub(super) fn room_for_queues(&self) -> usize {
        self.queues.capacity()
    }

    pub(super) fn take_queue(&mut self, queue: QueueTarget) {
        self.queues.push(queue);
    }

    /// The message goes on to the alternate of the exchange at hand.
    pub(super) fn take_alternate(&mut self, alternate: &ExchangeName) {
        self.reached.push(alternate.clone());
    }

    /// The exchange at hand went by more than the key.
    pub(super) fn looked_beyond_the_key(&mut self) {
        self.beyond_the_key = true;
    }

    /// Looks at each of the keys, of which there is one for nearly all messages.
    #[inline]
    pub(super) fn for_each_key<'k>(&mut self, keys: Keys<'k>, mut look: impl FnMut(&'k str, &mut Self)) {
        if keys.further.is_empty() {
            return look(keys.first, self);
        }
        let mut room = QUEUES_TAKEN_TWICE_MAX;
        for key in keys.all() {
            self.words_are_cut = false;
            look(key, self);
            // Many keys may lead to the same queues.
            if self.queues.len() > room {
                self.finish();
                room = 2 * self.queues.len() + QUEUES_TAKEN_TWICE_MAX;
            }
        }
        self.words_are_cut = false;
    }

    /// Runs `match_words` with the words of the key at hand, which are cut once as long as it is the same.
    pub(super) fn with_words(&mut self, key: &str, match_words: impl FnOnce(&KeyWords, &mut Self)) {
        let mut words = std::mem::take(&mut self.words);
        if !self.words_are_cut {
            words.cut(key);
            self.words_are_cut = true;
        }
        match_words(&words, self);
        self.words = words;
    }

    /// The next exchange that was reached and not visited yet; `first` counts as visited.
    pub(super) fn next_exchange(&mut self, first: &ExchangeName) -> Option<ExchangeName> {
        self.matched = false;
        while let Some(name) = self.reached.get(self.next) {
            self.next += 1;
            if name != first && self.visited.insert(name.clone()) {
                return Some(name.clone());
            }
        }
        None
    }

    pub(super) fn finish(&mut self) {
        if self.queues.len() > 1 {
            self.queues.sort_unstable();
            self.queues.dedup();
        }
    }
}

/// Those properties of a message by which exchanges may choose, besides its headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HashedProperties {
    /// Its id.
    pub message_id: Option<String>,
    /// Its correlation id.
    pub correlation_id: Option<String>,
    /// Its timestamp, in milliseconds.
    pub timestamp_ms: Option<u64>,
}

/// A message's headers and properties, decoded only when an exchange is met that looks at them.
pub trait MessageHeaders {
    /// The headers, or none. Called for each such exchange on the way, so an implementation keeps what it decoded.
    ///
    /// # Errors
    /// The bytes that should be headers are none; routing ends with [`RouteError::Headers`].
    fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>>;

    /// Properties that can be hashed.
    ///
    /// # Errors
    /// The bytes that should be properties are none; routing ends with [`RouteError::Headers`].
    fn properties(&mut self) -> Result<HashedProperties, Box<Refusal>>;
}

impl MessageHeaders for Option<&FieldTable> {
    fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>> {
        Ok(*self)
    }

    fn properties(&mut self) -> Result<HashedProperties, Box<Refusal>> {
        Ok(HashedProperties::default())
    }
}

/// Headers that a closure decodes when they are first asked for, of a message without properties.
#[derive(Debug)]
pub struct LazyHeaders<F> {
    decode: Option<F>,
    decoded: Option<FieldTable>,
}

impl<F: FnOnce() -> Result<Option<FieldTable>, Box<Refusal>>> LazyHeaders<F> {
    /// Wraps the decoder. An error of it ends routing, so it is called once at most.
    pub fn new(decode: F) -> Self {
        Self { decode: Some(decode), decoded: None }
    }
}

impl<F: FnOnce() -> Result<Option<FieldTable>, Box<Refusal>>> MessageHeaders for LazyHeaders<F> {
    fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>> {
        if let Some(decode) = self.decode.take() {
            self.decoded = decode()?;
        }
        Ok(self.decoded.as_ref())
    }

    fn properties(&mut self) -> Result<HashedProperties, Box<Refusal>> {
        Ok(HashedProperties::default())
    }
}

/// Why a message could not be routed at all. Reaching no queue is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// The exchange it was published to does not exist.
    NoSuchExchange,
    /// The exchange it was published to takes messages from other exchanges only.
    Internal,
    /// The routing key has more than 255 bytes.
    KeyTooLong,
    /// The exchange has a list of keys, and this is none of them.
    KeyNotAllowed(Arc<KeyNotAllowed>),
    /// The message's headers cannot be read.
    Headers(Box<Refusal>),
    /// Who published it may not use the key.
    Refused(Box<Refusal>),
}

impl RouteError {
    /// The same in RabbitMQ's words: 404, 403, 406, 502 or the reason why the headers cannot be read.
    pub fn refusal(self, exchange: &str, vhost: &VhostName) -> Refusal {
        match self {
            Self::NoSuchExchange => no_such_exchange(exchange, vhost),
            Self::Internal => Refusal::new(
                ReplyCode::AccessRefused,
                format!("cannot publish to internal {}", named(exchange, vhost)),
            )
            .about(Entity::Exchange, exchange)
            .hint("publish to an exchange that leads to it"),
            Self::KeyTooLong => Refusal::new(
                ReplyCode::SyntaxError,
                format!("a routing key may have {NAME_BYTES_MAX} bytes at most"),
            )
            .about(Entity::Exchange, exchange)
            .field("routing_key", format!("{NAME_BYTES_MAX} bytes at most"), "more"),
            Self::KeyNotAllowed(not_allowed) => not_allowed.refusal().clone(),
            Self::Headers(refusal) | Self::Refused(refusal) => *refusal,
        }
    }
}
