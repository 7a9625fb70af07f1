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
    force: bool,
    dry_run: bool,
}

/// What became of an alteration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    /// The exchange is as it was to be; false: it was a dry run.
    pub altered: bool,
    /// Messages that wait and were published to it, and were held against the new schemas; 0 if there are none.
    pub looked_at: u64,
    /// Those of them that do not fit.
    pub misfits: u64,
    /// The first of them, 20 at most.
    pub first: Vec<WaitingMisfit>,
    /// Why there may be more that were not looked at, in a sentence; `None`: all were.
    pub not_all: Option<String>,
}

/// A message that waits in a queue and does not fit a new schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMisfit {
    /// The queue.
    pub queue: String,
    /// Its place there, as browsing tells it.
    pub sequence: u64,
    /// Its key.
    pub routing_key: String,
    /// Where in the message, such as `body.price`.
    pub field: String,
    /// What would fit there.
    pub expected: String,
    /// What is there.
    pub got: String,
}

impl From<pb::ExchangeAltered> for Altered {
    fn from(altered: pb::ExchangeAltered) -> Self {
        let pb::ExchangeAltered { altered, looked_at, misfits, first, not_all } = altered;
        let misfit = |misfit| {
            let pb::WaitingMisfit { queue, sequence, routing_key, field, expected, got } = misfit;
            WaitingMisfit { queue, sequence, routing_key, field, expected, got }
        };
        let first = first.into_iter().map(misfit).collect();
        Self { altered, looked_at, misfits, first, not_all: Some(not_all).filter(|why| !why.is_empty()) }
    }
}

impl Default for Alteration {
    fn default() -> Self {
        Self::new()
    }
}

impl Alteration {
    /// One that changes nothing yet.
    pub fn new() -> Self {
        let exchange = Exchange::new("", ExchangeKind::Direct);
        Self { exchange, remove: Vec::new(), force: false, dry_run: false }
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

    /// It is made though messages that wait do not fit the new schemas. They stay where they are.
    pub fn force(self) -> Self {
        Self { force: true, ..self }
    }

    /// Nothing is changed; what became of it says which messages would not fit.
    pub fn dry_run(self) -> Self {
        Self { dry_run: true, ..self }
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
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
            force: self.force,
            dry_run: self.dry_run,
        }
    }
}
