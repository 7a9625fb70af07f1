//! What may be declared, deleted and bound: pure checks that answer in RabbitMQ's words.

use crate::model::{Refusal, VhostName};

use super::{Binding, ExchangeDefinition, ExchangeKind};

/// Whether an exchange that does not exist yet may be made: not the default exchange (403), not a reserved name
/// `amq.*` (403), `alternate-exchange` is text (406).
pub fn check_declare(_definition: &ExchangeDefinition, _vhost: &VhostName) -> Result<(), Refusal> {
    todo!()
}

/// Whether a declare request agrees with the exchange that is there: type, durable, auto_delete, internal and the
/// argument `alternate-exchange`; the first difference is refused with 406. Also refuses the default exchange (403).
pub fn check_equivalent(
    _current: &ExchangeDefinition,
    _requested: &ExchangeDefinition,
    _vhost: &VhostName,
) -> Result<(), Refusal> {
    todo!()
}

/// Whether an exchange of this name may be deleted: not the default exchange, not `amq.*` (403).
pub fn check_delete(_name: &str, _vhost: &VhostName) -> Result<(), Refusal> {
    todo!()
}

/// Whether a binding may be made or removed, given its source's kind: neither end is the default exchange (403),
/// `x-match` is known (406), a topic key holds two `#` at most (406). That both ends exist is the caller's to check.
pub fn check_binding(_binding: &Binding, _source: ExchangeKind) -> Result<(), Refusal> {
    todo!()
}

/// 404 for an exchange.
pub fn no_such_exchange(_name: &str, _vhost: &VhostName) -> Refusal {
    todo!()
}

/// 404 for a queue.
pub fn no_such_queue(_name: &str, _vhost: &VhostName) -> Refusal {
    todo!()
}
