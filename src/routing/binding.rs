//! What a binding is, its identity and its place in listings.

use std::fmt;
use std::str::FromStr;

use crate::model::{ExchangeName, FieldTable, QueueName, RoutingKey};

/// What a binding leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(QueueName),
    /// Another exchange.
    Exchange(ExchangeName),
}

/// A binding. Source, destination, key and arguments together are its identity.
///
/// Two bindings whose arguments differ only in how an integer is stored (signed or unsigned) are equal.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Name of the exchange it belongs to.
    pub source: ExchangeName,
    /// Where it leads.
    pub destination: Destination,
    /// Its key; what it means depends on the source's kind.
    pub key: RoutingKey,
    /// For headers exchanges what to match; kept, and part of the identity, for all others.
    pub arguments: FieldTable,
}

impl Binding {
    /// Its place in the order of listings.
    pub fn position(&self) -> BindingPosition {
        todo!()
    }
}

/// A place in the order of bindings (source, queues before exchanges, destination, key, arguments), for reading
/// them page by page. Its text form serves as a page token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingPosition {}

impl fmt::Display for BindingPosition {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl FromStr for BindingPosition {
    type Err = InvalidPosition;

    fn from_str(_text: &str) -> Result<Self, InvalidPosition> {
        todo!()
    }
}

/// The text is not one that [`BindingPosition`] ever wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPosition;

impl fmt::Display for InvalidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the page token of a list of bindings")
    }
}

impl std::error::Error for InvalidPosition {}
