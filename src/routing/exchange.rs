//! What an exchange is, apart from its bindings.

use std::fmt;

use crate::model::{
    ExchangeName, FieldTable, FieldValue, QUARANTINE_QUEUE, QueueName, Refusal, ReplyCode, nearest,
};

use super::values::ShownText;

/// An exchange argument: where a message goes that this exchange sends nowhere.
pub const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// How an exchange chooses among its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// The binding key equals the routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// The binding key is a pattern of words: `*` is one word, `#` any number of words.
    Topic,
    /// The binding's arguments are compared with the message's headers.
    Headers,
    /// One destination, chosen by a hash; the binding key is its weight.
    ConsistentHash,
    /// One binding, chosen by the hash of the routing key modulo their number.
    ModulusHash,
    /// One binding, chosen by chance.
    Random,
    /// Every binding; what is bound later is given the newest messages.
    RecentHistory,
}

impl ExchangeKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::ModulusHash,
        Self::Random,
        Self::RecentHistory,
    ];

    /// Reads the type of a declare request; any unknown one is refused with 406.
    pub fn parse(kind: &str) -> Result<Self, Refusal> {
        Self::ALL.into_iter().find(|known| known.as_str() == kind).ok_or_else(|| unknown_kind(kind))
    }

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

fn unknown_kind(kind: &str) -> Refusal {
    let known = ExchangeKind::ALL.map(ExchangeKind::as_str);
    let text = format!("unknown exchange type '{}'", ShownText(kind));
    let [first @ .., last] = known;
    let refusal = Refusal::new(ReplyCode::PreconditionFailed, text).field(
        "type",
        format!("{} or {last}", first.join(", ")),
        ShownText(kind).to_string(),
    );
    match nearest(kind, known) {
        Some(meant) => refusal.hint(format!("did you mean '{meant}'?")),
        None => refusal,
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An exchange as it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeDefinition {
    /// Its name; "" is the default exchange.
    pub name: ExchangeName,
    /// How it chooses among its bindings.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when its last binding as a source goes; stays as long as it never had one.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// Known: [`ALTERNATE_EXCHANGE`] (text), [`ALLOWED_KEYS`](crate::model::ALLOWED_KEYS) (list of texts),
    /// [`SCHEMAS`](crate::model::SCHEMAS) (list of tables) and [`QUARANTINE_QUEUE`] (text), and of an exchange of type
    /// `x-consistent-hash` [`HASH_HEADER`](crate::model::HASH_HEADER) and [`HASH_PROPERTY`](crate::model::HASH_PROPERTY)
    /// (text), of one of type `x-recent-history` [`RECENT_HISTORY_LENGTH`](crate::model::RECENT_HISTORY_LENGTH) (1 to 10,000). Others are kept and have no effect.
    pub arguments: FieldTable,
}

impl ExchangeDefinition {
    /// Where a message goes that matches none of this exchange's bindings. The empty name is none: the default
    /// exchange is nobody's alternate.
    pub fn alternate_exchange(&self) -> Option<ExchangeName> {
        match self.arguments.value(ALTERNATE_EXCHANGE) {
            // A name that is too long names no exchange; check_declare refuses it.
            Some(FieldValue::Text(name)) if !name.is_empty() => ExchangeName::new(name).ok(),
            _ => None,
        }
    }

    /// The queue that keeps what the list of keys and the schemas refuse, whether or not there is one.
    pub fn quarantine_queue(&self) -> Option<QueueName> {
        match self.arguments.value(QUARANTINE_QUEUE) {
            // A name that is too long names no queue; check_declare refuses it.
            Some(FieldValue::Text(name)) if !name.is_empty() => QueueName::new(name).ok(),
            _ => None,
        }
    }
}
