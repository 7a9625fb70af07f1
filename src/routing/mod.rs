//! Which queues get this message: exchanges, bindings and the matching of keys and headers.
//!
//! Owns [`RoutingTable`], the routing state of one virtual host, as an immutable value with cheap clones. Must never
//! decide about permissions, or touch a clock, socket, file or thread. Start reading at
//! [`RoutingTable::route`]; each exchange kind has its own file under `kind/`, and `sorted.rs` and `trie.rs` are the
//! two data structures underneath.

mod allowed;
mod binding;
mod check;
mod exchange;
mod explain;
mod history;
mod keys;
mod kind;
mod outcome;
mod places;
mod quarantine;
mod route;
mod schemas;
mod short;
mod sorted;
mod table;
mod target;
mod trie;
mod values;

#[cfg(test)]
mod tests;

pub use crate::schema::SchemaKind;
pub use allowed::{AllowedKeys, KeyNotAllowed};
pub use binding::{Binding, BindingPosition, Destination, InvalidPosition};
pub use check::{
    altered, check_binding, check_declare, check_delete, check_equivalent, check_not_default,
    compiled_schemas, exchange_in_use, no_such_exchange, no_such_queue,
};
pub use exchange::{ALTERNATE_EXCHANGE, ExchangeDefinition, ExchangeKind};
pub use explain::{
    EXPLAINED_BINDINGS_MAX, ExplainedBinding, ExplainedBody, ExplainedExchange, ExplainedMessage,
    Explanation, ReachedBy,
};
pub use history::{
    HISTORIES_BYTES_MAX, HISTORY_BYTES_MAX, HISTORY_MESSAGES_DEFAULT, HISTORY_MESSAGES_MAX, History,
    HistoryCounts, HistoryRoom, Kept, is_not_kept,
};
pub use keys::Keys;
pub use kind::pattern_matches;
pub use outcome::{HashedProperties, LazyHeaders, MessageHeaders, QueueTarget, RouteError, Routed};
pub use quarantine::Quarantine;
pub use schemas::{Payload, SchemaRule, Schemas, Unfit};
pub use table::{Bound, ExchangeEntry, Removed, RoutingTable};
