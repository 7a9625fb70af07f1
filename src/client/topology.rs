//! Exchanges, queues and bindings as an application asks for them.

use std::fmt;
use std::time::Duration;

use super::retention::Retention;
use super::retry::Retry;
use super::schema::MessageSchema;
use crate::model::{
    ALLOWED_KEYS, CONSUMER_TIMEOUT, DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY, DELIVERY_LIMIT, EXPIRES,
    FieldTable, FieldValue, HASH_HEADER, HASH_PROPERTY, MAX_LENGTH, MAX_LENGTH_BYTES, MAX_PRIORITY,
    MESSAGE_TTL, OVERFLOW, Overflow, QUARANTINE_QUEUE, RECENT_HISTORY_LENGTH, SCHEMAS,
    SINGLE_ACTIVE_CONSUMER,
};

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// To bindings whose key equals the routing key.
    Direct,
    /// To every binding.
    Fanout,
    /// To bindings whose pattern matches the words of the routing key (`*` one word, `#` any number).
    Topic,
    /// To bindings whose arguments match the message's headers.
    Headers,
    /// To one destination, chosen by a hash of the routing key, of a header or of a property; the key of a binding is its weight.
    ConsistentHash,
    /// To one binding, chosen by the hash of the routing key modulo the number of bindings.
    ModulusHash,
    /// To one binding, chosen by chance for each message.
    Random,
    /// To every binding; what is bound later is given the newest messages.
    RecentHistory,
}

impl ExchangeKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::RecentHistory => "x-recent-history",
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An exchange to declare: durable, not auto-delete, not internal, unless changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Its name, 1 to 255 bytes.
    pub name: String,
    /// How it routes, as the word on the wire: [`ExchangeKind::as_str`], or what a newer server knows besides.
    pub kind: String,
    /// Survives a restart of the broker.
    pub durable: bool,
    /// Goes when its last binding as a source goes.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// Further arguments, for instance "alternate-exchange".
    pub arguments: FieldTable,
}

impl Exchange {
    /// A durable exchange.
    pub fn new(name: impl Into<String>, kind: ExchangeKind) -> Self {
        Self {
            name: name.into(),
            kind: kind.as_str().to_owned(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
        }
    }

    /// Gone after a restart of the broker.
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Goes when its last binding as a source goes.
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Takes messages from other exchanges only.
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Where messages go that no binding matches.
    pub fn alternate_exchange(self, name: &str) -> Self {
        self.argument("alternate-exchange", name)
    }

    /// Of kind [`ConsistentHash`](ExchangeKind::ConsistentHash): the header of this name is hashed, not the routing key.
    pub fn hash_header(self, name: &str) -> Self {
        self.argument(HASH_HEADER, name)
    }

    /// Of kind [`ConsistentHash`](ExchangeKind::ConsistentHash): this property is hashed, not the routing key:
    /// "message_id", "correlation_id" or "timestamp".
    pub fn hash_property(self, name: &str) -> Self {
        self.argument(HASH_PROPERTY, name)
    }

    /// Of kind [`RecentHistory`](ExchangeKind::RecentHistory): so many messages are kept for what is bound later, 1 to 10,000; without
    /// this 20.
    pub fn history_length(self, messages: u32) -> Self {
        self.argument(RECENT_HISTORY_LENGTH, i64::from(messages))
    }

    /// Takes messages under keys of this pattern (`*` is one word, `#` any number of words) and of those allowed
    /// already. An exchange for which nothing is allowed takes every key.
    pub fn allow(mut self, pattern: &str) -> Self {
        let allowed = self.arguments.0.entry(ALLOWED_KEYS.to_owned());
        match allowed.or_insert_with(|| FieldValue::List(Vec::new())) {
            FieldValue::List(patterns) => patterns.push(pattern.into()),
            // Somebody gave another value as an argument: the later word counts.
            other => *other = FieldValue::List(vec![pattern.into()]),
        }
        self
    }

    /// Messages under keys of this pattern have to fit this schema. Of schemas whose patterns match a key, the one that was
    /// given first holds; keys that none matches take any body.
    pub fn schema(mut self, pattern: &str, schema: MessageSchema) -> Self {
        let schemas = self.arguments.0.entry(SCHEMAS.to_owned());
        let entry = FieldValue::Table(schema.entry(pattern));
        match schemas.or_insert_with(|| FieldValue::List(Vec::new())) {
            FieldValue::List(entries) => entries.push(entry),
            // Somebody gave another value as an argument: the later word counts.
            other => *other = FieldValue::List(vec![entry]),
        }
        self
    }

    /// The queue that is given what the list of keys and the schemas refuse, with the reason in its headers.
    pub fn quarantine_queue(self, name: &str) -> Self {
        self.argument(QUARANTINE_QUEUE, name)
    }

    /// Adds an argument, or replaces the one of that name.
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        self.arguments.0.insert(name.into(), value.into());
        self
    }
}

/// A queue to declare: durable, for everybody, unless changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its name; "": the server makes one.
    pub name: String,
    /// Survives a restart of the broker, with its messages.
    pub durable: bool,
    /// For this connection alone; goes with it.
    pub exclusive: bool,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// Further arguments, for instance "x-queue-type".
    pub arguments: FieldTable,
}

impl Queue {
    /// It retains messages that consumers are done with, so that they can be [seen again](super::Replay). It has to be durable.
    pub fn retain(mut self, retention: Retention) -> Self {
        retention.put_into(&mut self.arguments);
        self
    }

    /// Messages that waited in it for so long are not delivered any more. 0: what no consumer takes at once goes.
    pub fn message_ttl(self, time: Duration) -> Self {
        self.argument(MESSAGE_TTL, whole(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Without a consumer for so long it goes; declaring it again and asking for a single message begin that time anew.
    pub fn expires(self, time: Duration) -> Self {
        self.argument(EXPIRES, whole(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// So many messages wait in it at most; the oldest make room for newer ones, unless [`overflow`](Self::overflow) says otherwise.
    pub fn max_length(self, messages: u64) -> Self {
        self.argument(MAX_LENGTH, whole(messages))
    }

    /// So many bytes of messages wait in it at most, properties and body as they are encoded; the oldest make room for newer
    /// ones, unless [`overflow`](Self::overflow) says otherwise.
    pub fn max_length_bytes(self, bytes: u64) -> Self {
        self.argument(MAX_LENGTH_BYTES, whole(bytes))
    }

    /// What happens when it is full by [`max_length`](Self::max_length) or [`max_length_bytes`](Self::max_length_bytes). If it refuses,
    /// what it has no room for is not confirmed: its publisher gets [`ConfirmError::Refused`](super::ConfirmError::Refused).
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.argument(OVERFLOW, FieldValue::Text(overflow.as_str().to_owned()))
    }

    /// What came back more often leaves: it is dropped, or goes to the
    /// [dead-letter exchange](Self::dead_letter_exchange). 0: it is delivered once.
    pub fn delivery_limit(self, returns: u32) -> Self {
        self.argument(DELIVERY_LIMIT, FieldValue::Integer(returns.into()))
    }

    /// What comes back is held back for a time before it goes out once more. With a [`delivery_limit`](Self::delivery_limit) and a
    /// [dead-letter exchange](Self::dead_letter_exchange) what failed too often is put aside.
    pub fn retry(mut self, retry: Retry) -> Self {
        retry.put_into(&mut self.arguments);
        self
    }

    /// Messages of a higher [priority](super::Message::priority) go out first. It is the highest that there is: a message of a higher
    /// one goes with those of this one.
    pub fn max_priority(self, highest: u8) -> Self {
        self.argument(MAX_PRIORITY, FieldValue::Integer(highest.into()))
    }

    /// What is rejected, expires, has no room or comes back too often goes to this exchange, with the key it has, and leaves the queue only when it is
    /// stored where that sends it. `""` is the default exchange.
    pub fn dead_letter_exchange(self, exchange: impl Into<String>) -> Self {
        self.argument(DEAD_LETTER_EXCHANGE, FieldValue::Text(exchange.into()))
    }

    /// What goes to the dead-letter exchange goes there with this routing key.
    pub fn dead_letter_routing_key(self, routing_key: impl Into<String>) -> Self {
        self.argument(DEAD_LETTER_ROUTING_KEY, FieldValue::Text(routing_key.into()))
    }

    /// Who has a message of it for so long without settling it, or [asking for more time](super::Delivery::extend), loses it: the
    /// message is back in the queue, and its consumer ends with [`ConsumeError::Lapsed`](super::ConsumeError::Lapsed). A second at
    /// least; without it the broker's setting holds, half an hour if nobody changed it.
    pub fn consumer_timeout(self, time: Duration) -> Self {
        self.argument(CONSUMER_TIMEOUT, whole(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// One of its consumers gets messages, and the others wait for it to go: the first of those of the highest
    /// [priority](super::ConsumerBuilder::priority). Messages are done with in their order.
    pub fn single_active_consumer(self) -> Self {
        self.argument(SINGLE_ACTIVE_CONSUMER, FieldValue::Boolean(true))
    }

    /// A durable queue.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::default(),
        }
    }

    /// A queue that the server names, for this connection alone and gone with it: for answers, or for listening in.
    pub fn private() -> Self {
        Self { durable: false, exclusive: true, ..Self::new("") }
    }

    /// Gone after a restart of the broker.
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// For this connection alone; goes with it.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Goes when its last consumer goes.
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Adds an argument, or replaces the one of that name.
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        self.arguments.0.insert(name.into(), value.into());
        self
    }
}

/// What the server said of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDeclared {
    /// Its name: the server's, if none was given.
    pub name: String,
    /// Ready messages in it.
    pub messages: u64,
    /// Consumers it has.
    pub consumers: u32,
}

/// What a binding leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// The queue of this name.
    Queue(String),
    /// The exchange of this name.
    Exchange(String),
}

/// A binding: all its fields together are its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Name of the exchange that messages come from.
    pub source: String,
    /// Where they go.
    pub destination: Destination,
    /// Key or pattern. At most 255 bytes.
    pub routing_key: String,
    /// For headers exchanges: what to match, and "x-match".
    pub arguments: FieldTable,
}

impl Binding {
    /// From an exchange to a queue.
    pub fn to_queue(
        source: impl Into<String>,
        queue: impl Into<String>,
        routing_key: impl Into<String>,
    ) -> Self {
        Self {
            source: source.into(),
            destination: Destination::Queue(queue.into()),
            routing_key: routing_key.into(),
            arguments: FieldTable::default(),
        }
    }

    /// From an exchange to another one.
    pub fn to_exchange(
        source: impl Into<String>,
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
    ) -> Self {
        Self {
            destination: Destination::Exchange(exchange.into()),
            ..Self::to_queue(source, "", routing_key)
        }
    }

    /// Adds an argument, or replaces the one of that name.
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        self.arguments.0.insert(name.into(), value.into());
        self
    }
}

/// What is beyond an AMQP integer is the largest one.
fn whole(number: u64) -> FieldValue {
    FieldValue::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
