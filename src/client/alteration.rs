//! What an exchange is to take from now on.

use super::convert::table_to_wire;
use super::schema::MessageSchema;
use super::topology::{Exchange, ExchangeKind};
use crate::model::{ALLOWED_KEYS, QUARANTINE_QUEUE, SCHEMAS};
use crate::wire::pb;

/// A change of what an exchange takes, for [`Channel::alter_exchange`](super::Channel::alter_exchange). What it does not name stays as
/// it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Alteration {
    /// Its arguments are those to be set.
    exchange: Exchange,
    remove: Vec<String>,
}

impl Default for Alteration {
    fn default() -> Self {
        Self::new()
    }
}

impl Alteration {
    /// One that changes nothing yet.
    pub fn new() -> Self {
        Self { exchange: Exchange::new("", ExchangeKind::Direct), remove: Vec::new() }
    }

    /// The list of keys has this pattern, and those given here already, and no others.
    pub fn allow(self, pattern: &str) -> Self {
        Self { exchange: self.exchange.allow(pattern), ..self }
    }

    /// The exchange has this schema, and those given here already, and no others.
    pub fn schema(self, pattern: &str, schema: MessageSchema) -> Self {
        Self { exchange: self.exchange.schema(pattern, schema), ..self }
    }

    /// The queue that is given what is refused.
    pub fn quarantine_queue(self, name: &str) -> Self {
        Self { exchange: self.exchange.quarantine_queue(name), ..self }
    }

    /// Every key is taken.
    pub fn without_allowed_keys(self) -> Self {
        self.without(ALLOWED_KEYS)
    }

    /// Every body is taken.
    pub fn without_schemas(self) -> Self {
        self.without(SCHEMAS)
    }

    /// Nothing is kept of what is refused.
    pub fn without_quarantine(self) -> Self {
        self.without(QUARANTINE_QUEUE)
    }

    fn without(mut self, argument: &str) -> Self {
        self.remove.push(argument.to_owned());
        self
    }

    pub(super) fn to_wire(&self, name: &str) -> pb::AlterExchange {
        pb::AlterExchange {
            name: name.to_owned(),
            arguments: table_to_wire(&self.exchange.arguments),
            remove: self.remove.clone(),
        }
    }
}
