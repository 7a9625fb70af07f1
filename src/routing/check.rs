//! What may be declared, deleted and bound: pure checks that answer in RabbitMQ's words.

use crate::model::{Entity, FieldValue, NAME_BYTES_MAX, Refusal, ReplyCode, VhostName};

use super::values;
use super::{ALTERNATE_EXCHANGE, Binding, ExchangeDefinition, ExchangeKind, kind};

/// Names that begin with this belong to the server.
const RESERVED_PREFIX: &str = "amq.";

/// Whether an exchange that does not exist yet may be made: not the default exchange (403), not a reserved name
/// `amq.*` (403), `alternate-exchange` is the name of an exchange (406), whether or not there is one.
pub fn check_declare(definition: &ExchangeDefinition, vhost: &VhostName) -> Result<(), Refusal> {
    check_not_default(&definition.name)?;
    if definition.name.starts_with(RESERVED_PREFIX) {
        return Err(Refusal::new(
            ReplyCode::AccessRefused,
            format!("exchange name '{}' contains reserved prefix 'amq.*'", definition.name),
        )
        .about(Entity::Exchange, &*definition.name)
        .field("name", "a name that does not begin with \"amq.\"", &*definition.name));
    }
    check_alternate(definition, vhost)
}

fn check_alternate(definition: &ExchangeDefinition, vhost: &VhostName) -> Result<(), Refusal> {
    let (text, got) = match definition.arguments.value(ALTERNATE_EXCHANGE) {
        None => return Ok(()),
        Some(FieldValue::Text(name)) if name.len() <= NAME_BYTES_MAX => return Ok(()),
        Some(FieldValue::Text(name)) => (
            format!(
                "invalid arg '{ALTERNATE_EXCHANGE}' for {}: the name is too long",
                named(&definition.name, vhost)
            ),
            format!("{} bytes", name.len()),
        ),
        Some(value) => (
            format!(
                "invalid type '{}' for arg '{ALTERNATE_EXCHANGE}' in {}",
                values::type_name(value),
                named(&definition.name, vhost)
            ),
            values::type_name(value).to_owned(),
        ),
    };
    Err(Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Exchange, &*definition.name).field(
        ALTERNATE_EXCHANGE,
        format!("the name of an exchange, {NAME_BYTES_MAX} bytes at most"),
        got,
    ))
}

/// Whether a declare request agrees with the exchange that is there: type, durable, auto_delete, internal and the
/// argument `alternate-exchange`; the first difference is refused with 406. Also refuses the default exchange (403).
pub fn check_equivalent(
    current: &ExchangeDefinition,
    requested: &ExchangeDefinition,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    check_not_default(&current.name)?;
    let same = |field: &str, current_value: &str, requested_value: &str| {
        if current_value == requested_value {
            return Ok(());
        }
        let (got, expected) = (format!("'{requested_value}'"), format!("'{current_value}'"));
        Err(inequivalent(current, vhost, field, &got, &expected).field(field, current_value, requested_value))
    };
    let boolean = |value: bool| if value { "true" } else { "false" };
    same("type", current.kind.as_str(), requested.kind.as_str())?;
    same("durable", boolean(current.durable), boolean(requested.durable))?;
    same("auto_delete", boolean(current.auto_delete), boolean(requested.auto_delete))?;
    same("internal", boolean(current.internal), boolean(requested.internal))?;
    let alternates =
        (current.arguments.value(ALTERNATE_EXCHANGE), requested.arguments.value(ALTERNATE_EXCHANGE));
    match alternates {
        (None, None) => Ok(()),
        (Some(is), Some(wanted)) if values::compare(is, wanted).is_eq() => Ok(()),
        (is, wanted) => {
            let (got, expected) = (described(wanted), described(is));
            Err(inequivalent(current, vhost, ALTERNATE_EXCHANGE, &got, &expected).field(
                ALTERNATE_EXCHANGE,
                expected,
                got,
            ))
        }
    }
}

fn inequivalent(
    current: &ExchangeDefinition,
    vhost: &VhostName,
    field: &str,
    received: &str,
    is: &str,
) -> Refusal {
    let exchange = named(&current.name, vhost);
    Refusal::new(
        ReplyCode::PreconditionFailed,
        format!("inequivalent arg '{field}' for {exchange}: received {received} but current is {is}"),
    )
    .about(Entity::Exchange, &*current.name)
    .hint("declare it as it is, or delete it first")
}

/// An argument as RabbitMQ describes it.
fn described(value: Option<&FieldValue>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!("the value '{}' of type '{}'", values::plain(value), values::type_name(value)),
    }
}

/// Whether an exchange of this name may be deleted: not the default exchange, not `amq.*` (403).
pub fn check_delete(name: &str, vhost: &VhostName) -> Result<(), Refusal> {
    check_not_default(name)?;
    if name.starts_with(RESERVED_PREFIX) {
        return Err(Refusal::new(
            ReplyCode::AccessRefused,
            format!("deletion of system {} not allowed", named(name, vhost)),
        )
        .about(Entity::Exchange, name));
    }
    Ok(())
}

/// Whether a binding may be made or removed, given its source's kind: neither end is the default exchange (403),
/// `x-match` is known (406), a topic key holds two `#` at most (406). That both ends exist is the caller's to check.
pub fn check_binding(binding: &Binding, source: ExchangeKind) -> Result<(), Refusal> {
    check_not_default(&binding.source)?;
    if let super::Destination::Exchange(name) = &binding.destination {
        check_not_default(name)?;
    }
    match source {
        ExchangeKind::Topic => kind::check_key(&binding.key),
        ExchangeKind::Headers => kind::check_arguments(binding),
        ExchangeKind::Direct | ExchangeKind::Fanout => Ok(()),
    }
}

/// Refuses the default exchange for anything but publishing: 403.
pub fn check_not_default(exchange: &str) -> Result<(), Refusal> {
    if !exchange.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(ReplyCode::AccessRefused, "operation not permitted on the default exchange")
        .about(Entity::Exchange, exchange)
        .hint("it leads to every queue under the queue's name, always"))
}

/// 404 for an exchange.
pub fn no_such_exchange(name: &str, vhost: &VhostName) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no {}", named(name, vhost))).about(Entity::Exchange, name)
}

/// 404 for a queue.
pub fn no_such_queue(name: &str, vhost: &VhostName) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no queue '{name}' in vhost '{vhost}'"))
        .about(Entity::Queue, name)
}

/// 406 for an exchange that has bindings as a source and should be deleted only if it has none.
pub fn exchange_in_use(name: &str, vhost: &VhostName) -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, format!("{} in use", named(name, vhost)))
        .about(Entity::Exchange, name)
        .hint("remove its bindings first, or delete it without if_unused")
}

/// An exchange as RabbitMQ names it.
pub(super) fn named(exchange: &str, vhost: &VhostName) -> String {
    format!("exchange '{exchange}' in vhost '{vhost}'")
}
