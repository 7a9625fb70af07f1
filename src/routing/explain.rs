//! Why a message goes where it goes.

use std::sync::Arc;

use crate::model::{ExchangeName, QueueName};

use super::{Binding, ExchangeKind};

/// Bindings that one explanation shows at most; matching ones come before others.
pub const EXPLAINED_BINDINGS_MAX: usize = 10_000;

/// The whole way of a message through the exchanges.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// In the order in which routing visits them; the first is the one asked for.
    pub exchanges: Vec<ExplainedExchange>,
    /// The queues the message would reach, each once, in order of their names. Always complete.
    pub queues: Vec<QueueName>,
    /// Further bindings were considered but left out.
    pub bindings_omitted: u64,
}

/// How routing came to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachedBy {
    /// It is the one the message was published to.
    Publish,
    /// A binding of this exchange leads to it.
    Binding(ExchangeName),
    /// It is the alternate exchange of this one, which matched nothing.
    Alternate(ExchangeName),
}

/// One exchange on the way.
#[derive(Debug, Clone)]
pub struct ExplainedExchange {
    /// Its name.
    pub name: ExchangeName,
    /// Its kind.
    pub kind: ExchangeKind,
    /// What led here.
    pub reached_by: ReachedBy,
    /// Its bindings in order.
    pub bindings: Vec<ExplainedBinding>,
    /// Where it sends what nothing matches.
    pub alternate_exchange: Option<ExchangeName>,
    /// Whether the alternate exchange was used, or why not, in a sentence.
    pub alternate_note: String,
}

/// One binding that was considered.
#[derive(Debug, Clone)]
pub struct ExplainedBinding {
    /// The binding.
    pub binding: Arc<Binding>,
    /// Whether it lets the message through.
    pub matched: bool,
    /// Why, in a sentence that names the word or header that decided.
    pub reason: String,
}
