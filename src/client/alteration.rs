//! What an exchange is to take, and what a queue is to be, from now on.

use super::convert::table_to_wire;
use super::schema::MessageSchema;
use super::topology::{Exchange, ExchangeKind, Queue};
use crate::model::{ALLOWED_KEYS, Difference, FieldTable, FieldValue, QUARANTINE_QUEUE, SCHEMAS};
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

/// A change of arguments of a queue that is there, for [`Channel::alter_queue`](super::Channel::alter_queue). What it does not name stays
/// as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueAlteration {
    set: FieldTable,
    remove: Vec<String>,
    fixed: FixedAtDeclaration,
    dry_run: bool,
}

/// What a queue is from its declaration on; `None`: nothing is said of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FixedAtDeclaration {
    /// It survives a restart of the broker.
    pub durable: Option<bool>,
    /// It is for one connection alone.
    pub exclusive: Option<bool>,
    /// It goes when its last consumer goes.
    pub auto_delete: Option<bool>,
}

/// What became of an alteration of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueAltered {
    /// The queue is as it was to be; false: it was a dry run.
    pub altered: bool,
    /// What is other than it was, or would be, by name; none: it was so already.
    pub changes: Vec<Difference>,
}

impl Default for QueueAlteration {
    fn default() -> Self {
        Self::new()
    }
}

impl QueueAlteration {
    /// One that changes nothing yet.
    pub fn new() -> Self {
        Self {
            set: FieldTable::default(),
            remove: Vec::new(),
            fixed: FixedAtDeclaration::default(),
            dry_run: false,
        }
    }

    /// Its arguments are those of this queue, as far as it has any: `QueueAlteration::new().like(Queue::new("").max_length(1_000))`. The
    /// name, and whether it is durable, exclusive or goes by itself, do not count.
    pub fn like(mut self, queue: Queue) -> Self {
        self.set.0.extend(queue.arguments.0);
        self
    }

    /// It has this argument, of those that can be altered.
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        self.set.0.insert(name.into(), value.into());
        self
    }

    /// It has no argument of this name any more.
    pub fn without(mut self, argument: impl Into<String>) -> Self {
        self.remove.push(argument.into());
        self
    }

    /// It is this already: refused if it is other, since that cannot be altered.
    pub fn fixed(self, fixed: FixedAtDeclaration) -> Self {
        Self { fixed, ..self }
    }

    /// Nothing is changed; what became of it says what would be.
    pub fn dry_run(self) -> Self {
        Self { dry_run: true, ..self }
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) fn to_wire(&self, name: &str) -> pb::AlterQueue {
        pb::AlterQueue {
            name: name.to_owned(),
            arguments: table_to_wire(&self.set),
            remove: self.remove.clone(),
            dry_run: self.dry_run,
            durable: self.fixed.durable,
            exclusive: self.fixed.exclusive,
            auto_delete: self.fixed.auto_delete,
        }
    }
}

impl From<pb::QueueAltered> for QueueAltered {
    fn from(altered: pb::QueueAltered) -> Self {
        let pb::QueueAltered { altered, changes } = altered;
        Self { altered, changes: changes.into_iter().map(Difference::from).collect() }
    }
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
