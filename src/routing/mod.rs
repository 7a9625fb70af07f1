//! Which queues get this message: exchanges, bindings and the matching of keys and headers.
//!
//! Owns [`RoutingTable`], the routing state of one virtual host, as an immutable value with cheap clones. Must never
//! look at a message's body, decide about permissions, or touch a clock, socket, file or thread. Start reading at
//! [`RoutingTable::route`]; each exchange kind has its own file under `kind/`.

mod binding;
mod check;
mod exchange;
mod explain;
mod outcome;
mod table;

pub use binding::{Binding, BindingPosition, Destination, InvalidPosition};
pub use check::{
    check_binding, check_declare, check_delete, check_equivalent, no_such_exchange, no_such_queue,
};
pub use exchange::{ALTERNATE_EXCHANGE, ExchangeDefinition, ExchangeKind};
pub use explain::{EXPLAINED_BINDINGS_MAX, ExplainedBinding, ExplainedExchange, Explanation, ReachedBy};
pub use outcome::{LazyHeaders, MessageHeaders, QueueTarget, RouteError, Routed};
pub use table::{Bound, ExchangeEntry, Removed, RoutingTable};
