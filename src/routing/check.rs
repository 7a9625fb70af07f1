//! What may be declared, deleted and bound: pure checks that answer in RabbitMQ's words.

use crate::model::{
    ALLOWED_KEYS, Entity, FieldTable, FieldValue, HASH_HEADER, HASH_PROPERTY, NAME_BYTES_MAX,
    QUARANTINE_QUEUE, QueueName, RECENT_HISTORY_LENGTH, Refusal, ReplyCode, SCHEMAS, VhostName,
};

use super::history::{HISTORY_MESSAGES_MAX, LengthFault, length_of};
use super::kind::{Hashed, HashedFault};
use super::values::{self, ShownText};
use super::{
    ALTERNATE_EXCHANGE, AllowedKeys, Binding, ExchangeDefinition, ExchangeKind, Schemas, kind, schemas,
};

/// Names that begin with this belong to the server.
const RESERVED_PREFIX: &str = "amq.";

/// Whether an exchange that does not exist yet may be made: not the default exchange (403), not a reserved name
/// `amq.*` (403), `alternate-exchange` is the name of an exchange, whether or not there is one (406), `x-allowed-keys`
/// is a list of patterns, `x-schemas` one of schemas that compile, and clients may publish to the exchange that has them (406).
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
    check_alternate(definition, vhost)?;
    check_allowed_keys(definition, vhost)?;
    check_schemas(definition, vhost)?;
    check_quarantine(definition, vhost)?;
    check_hashed(definition, vhost)?;
    check_history_length(definition, vhost)
}

/// How many messages an exchange keeps that keeps a history; on all others the argument means nothing.
fn check_history_length(definition: &ExchangeDefinition, vhost: &VhostName) -> Result<(), Refusal> {
    if definition.kind != ExchangeKind::RecentHistory {
        return Ok(());
    }
    let Err(LengthFault { got }) = length_of(&definition.arguments) else { return Ok(()) };
    let exchange = named(&definition.name, vhost);
    let text = format!(
        "invalid argument '{RECENT_HISTORY_LENGTH}' of {exchange}: it must be a positive integer, {HISTORY_MESSAGES_MAX} at most"
    );
    Err(Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Exchange, &*definition.name).field(
        RECENT_HISTORY_LENGTH,
        format!("1 to {HISTORY_MESSAGES_MAX}"),
        got,
    ))
}

/// What an exchange hashes that chooses by a hash; on all others these arguments mean nothing.
fn check_hashed(definition: &ExchangeDefinition, vhost: &VhostName) -> Result<(), Refusal> {
    if definition.kind != ExchangeKind::ConsistentHash {
        return Ok(());
    }
    let Err(HashedFault { field, text, expected, got }) = Hashed::of(&definition.arguments) else {
        return Ok(());
    };
    let text = format!("{text} in {}", named(&definition.name, vhost));
    Err(Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Exchange, &*definition.name)
        .field(field, expected, got)
        .hint("without hash-header and hash-property it hashes the routing key"))
}

/// The name of a queue, whether or not there is one yet.
fn check_quarantine(definition: &ExchangeDefinition, vhost: &VhostName) -> Result<(), Refusal> {
    let got = match definition.arguments.value(QUARANTINE_QUEUE) {
        None => return Ok(()),
        Some(FieldValue::Text(name)) if (1..=NAME_BYTES_MAX).contains(&name.len()) => return Ok(()),
        Some(FieldValue::Text(name)) => format!("{} bytes", name.len()),
        Some(value) => values::type_name(value).to_owned(),
    };
    let exchange = named(&definition.name, vhost);
    let text = format!("invalid arg '{QUARANTINE_QUEUE}' for {exchange}: it is no name of a queue");
    Err(Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Exchange, &*definition.name).field(
        QUARANTINE_QUEUE,
        format!("the name of a queue, 1 to {NAME_BYTES_MAX} bytes"),
        got,
    ))
}

/// Arguments of an exchange that can be replaced.
const ALTERABLE: [&str; 3] = [ALLOWED_KEYS, SCHEMAS, QUARANTINE_QUEUE];

/// An exchange with other arguments of those that say what it takes: 406 for one that says something else.
pub fn altered(
    current: &ExchangeDefinition,
    set: &FieldTable,
    remove: &[String],
    vhost: &VhostName,
) -> Result<ExchangeDefinition, Refusal> {
    check_not_default(&current.name)?;
    let mut named_ones = set.iter().map(|(name, _)| name).chain(remove.iter().map(String::as_str));
    if let Some(other) = named_ones.find(|name| !ALTERABLE.contains(name)) {
        let text = format!("arg '{}' of {} cannot be altered", ShownText(other), named(&current.name, vhost));
        return Err(Refusal::new(ReplyCode::PreconditionFailed, text)
            .about(Entity::Exchange, &*current.name)
            .field("arguments", ALTERABLE.join(", "), ShownText(other).to_string())
            .hint("delete the exchange, and declare it as it should be"));
    }
    let mut definition = current.clone();
    for name in remove {
        definition.arguments.0.remove(name);
    }
    for (name, value) in set.iter() {
        definition.arguments.0.insert(name.to_owned(), value.clone());
    }
    Ok(definition)
}

fn check_schemas(definition: &ExchangeDefinition, vhost: &VhostName) -> Result<(), Refusal> {
    compiled_schemas(definition, vhost).map(|_| ())
}

/// The schemas of an exchange that is declared or altered, compiled; `None` if it has none. 406 for those that make no sense.
pub fn compiled_schemas(
    definition: &ExchangeDefinition,
    vhost: &VhostName,
) -> Result<Option<Schemas>, Refusal> {
    let refusal = |text: &str| {
        let exchange = named(&definition.name, vhost);
        let text = format!("invalid arg '{SCHEMAS}' for {exchange}: {text}");
        Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Exchange, &*definition.name)
    };
    let fault = match Schemas::of(&definition.arguments) {
        Ok(None) => return Ok(None),
        Ok(Some(_)) if definition.internal => {
            let text = "no client publishes to an internal exchange, so the schemas would do nothing";
            return Err(refusal(text)
                .field(SCHEMAS, "absent", "present")
                .hint("give the schemas to the exchange that clients publish to"));
        }
        Ok(Some(schemas)) => match schemas.fault() {
            None => return Ok(Some(schemas)),
            Some(fault) => fault,
        },
        Err(fault) => fault,
    };
    Err(refusal(&format!("the list {}", fault.text))
        .field(SCHEMAS, fault.expected, fault.got)
        .hint("each entry is a table of pattern, kind (json or protobuf), schema, and for protobuf message"))
}

fn check_allowed_keys(definition: &ExchangeDefinition, vhost: &VhostName) -> Result<(), Refusal> {
    let refusal = |text: &str| {
        let exchange = named(&definition.name, vhost);
        let text = format!("invalid arg '{ALLOWED_KEYS}' for {exchange}: {text}");
        Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Exchange, &*definition.name)
    };
    match AllowedKeys::of(&definition.arguments) {
        Ok(None) => Ok(()),
        Ok(Some(_)) if definition.internal => {
            Err(refusal("no client publishes to an internal exchange, so the list would do nothing")
                .field(ALLOWED_KEYS, "absent", "present")
                .hint("give the list to the exchange that clients publish to"))
        }
        Ok(Some(_)) => Ok(()),
        Err(fault) => Err(refusal(&format!("the list {}", fault.text))
            .field(ALLOWED_KEYS, fault.expected, fault.got)
            .hint("patterns are words with dots between them; '*' stands for one word, '#' for any number of words")),
    }
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
/// arguments `alternate-exchange`, `x-allowed-keys` (in any order), `x-quarantine-queue` and `x-schemas`; the first difference is refused with 406. Also refuses the default exchange (403).
pub fn check_equivalent(
    current: &ExchangeDefinition,
    requested: &ExchangeDefinition,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    check_not_default(&current.name)?;
    let differs = |field: &str, is: &str, received: &str| {
        let (quoted_is, quoted) = (format!("'{is}'"), format!("'{received}'"));
        inequivalent(current, vhost, field, &quoted, &quoted_is).field(field, is, received)
    };
    let same = |field: &str, is: &str, received: &str| {
        if is == received { Ok(()) } else { Err(differs(field, is, received)) }
    };
    let boolean = |value: bool| if value { "true" } else { "false" };
    same("type", current.kind.as_str(), requested.kind.as_str())?;
    same("durable", boolean(current.durable), boolean(requested.durable))?;
    same("auto_delete", boolean(current.auto_delete), boolean(requested.auto_delete))?;
    same("internal", boolean(current.internal), boolean(requested.internal))?;
    let is = current.arguments.value(ALTERNATE_EXCHANGE);
    let received = requested.arguments.value(ALTERNATE_EXCHANGE);
    match (is, received) {
        (None, None) => Ok(()),
        (Some(is), Some(received)) if values::compare(is, received).is_eq() => Ok(()),
        (Some(FieldValue::Text(is)), Some(FieldValue::Text(received))) => {
            Err(differs(ALTERNATE_EXCHANGE, is, &ShownText(received).to_string()))
        }
        _ => {
            let (received, is) = (described(received), described(is));
            Err(inequivalent(current, vhost, ALTERNATE_EXCHANGE, &received, &is).field(
                ALTERNATE_EXCHANGE,
                is,
                received,
            ))
        }
    }?;
    let (is, received) = (AllowedKeys::of(&current.arguments), AllowedKeys::of(&requested.arguments));
    if is == received {
        return check_same_schemas(current, requested, vhost);
    }
    let words =
        |keys: &Result<Option<AllowedKeys>, _>, other: &Result<Option<AllowedKeys>, _>| match (keys, other) {
            (Ok(None), _) => "none".to_owned(),
            (Ok(Some(keys)), Ok(Some(other))) => keys.beside(other),
            (Ok(Some(keys)), _) => keys.to_string(),
            (Err(_), _) => "what is no list of patterns".to_owned(),
        };
    let (is, received) = (words(&is, &received), words(&received, &is));
    Err(inequivalent(current, vhost, ALLOWED_KEYS, &received, &is).field(ALLOWED_KEYS, is, received))
}

/// Also that what is refused goes to the same queue.
fn check_same_schemas(
    current: &ExchangeDefinition,
    requested: &ExchangeDefinition,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    let (is, received) = (current.quarantine_queue(), requested.quarantine_queue());
    if is != received {
        let words = |queue: Option<QueueName>| queue.map_or("none".to_owned(), |queue| format!("'{queue}'"));
        let (is, received) = (words(is), words(received));
        return Err(inequivalent(current, vhost, QUARANTINE_QUEUE, &received, &is).field(
            QUARANTINE_QUEUE,
            is,
            received,
        ));
    }
    if schemas::same(&current.arguments, &requested.arguments) {
        return check_same_hashed(current, requested, vhost);
    }
    let (is, received) = (schemas::described(&current.arguments), schemas::described(&requested.arguments));
    Err(inequivalent(current, vhost, SCHEMAS, &received, &is).field(SCHEMAS, is, received))
}

/// Also that an exchange which hashes takes the same of a message.
fn check_same_hashed(
    current: &ExchangeDefinition,
    requested: &ExchangeDefinition,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    if current.kind == ExchangeKind::RecentHistory {
        return check_same_history_length(current, requested, vhost);
    }
    if current.kind != ExchangeKind::ConsistentHash {
        return Ok(());
    }
    let (is, received) = (Hashed::of(&current.arguments), Hashed::of(&requested.arguments));
    if is == received {
        return Ok(());
    }
    let field = match &received {
        Err(fault) => fault.field,
        Ok(Hashed::Property(_)) => HASH_PROPERTY,
        Ok(Hashed::Header(_)) => HASH_HEADER,
        Ok(Hashed::RoutingKey) if current.arguments.value(HASH_PROPERTY).is_some() => HASH_PROPERTY,
        Ok(Hashed::RoutingKey) => HASH_HEADER,
    };
    let words = |hashed: Result<Hashed, HashedFault>| match hashed {
        Ok(hashed) => hashed.to_string(),
        Err(fault) => fault.got,
    };
    let (is, received) = (words(is), words(received));
    Err(inequivalent(current, vhost, field, &received, &is).field(field, is, received))
}

/// Also that one which keeps a history keeps as many messages.
fn check_same_history_length(
    current: &ExchangeDefinition,
    requested: &ExchangeDefinition,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    let words = |length: Result<usize, LengthFault>| match length {
        Ok(length) => length.to_string(),
        Err(fault) => fault.got,
    };
    let (is, received) = (length_of(&current.arguments), length_of(&requested.arguments));
    if is == received {
        return Ok(());
    }
    let (is, received) = (words(is), words(received));
    let refusal = inequivalent(current, vhost, RECENT_HISTORY_LENGTH, &received, &is);
    Err(refusal.field(RECENT_HISTORY_LENGTH, is, received))
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
/// `x-match` is known (406), a topic key holds two `#` at most (406), the key to an exchange that hashes is a weight (406). That both ends exist is the caller's to check.
pub fn check_binding(binding: &Binding, source: ExchangeKind) -> Result<(), Refusal> {
    check_not_default(&binding.source)?;
    if let super::Destination::Exchange(name) = &binding.destination {
        check_not_default(name)?;
    }
    match source {
        ExchangeKind::Topic => kind::check_key(&binding.key),
        ExchangeKind::Headers => kind::check_arguments(binding),
        ExchangeKind::ConsistentHash => kind::check_weight(binding),
        ExchangeKind::Direct
        | ExchangeKind::Fanout
        | ExchangeKind::ModulusHash
        | ExchangeKind::Random
        | ExchangeKind::RecentHistory => Ok(()),
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
    Refusal::new(ReplyCode::NotFound, format!("no {}", named(name, vhost)))
        .about(Entity::Exchange, name)
        .hint("declare it first, if the name and the vhost are right")
}

/// 404 for a queue.
pub fn no_such_queue(name: &str, vhost: &VhostName) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no queue '{name}' in vhost '{vhost}'"))
        .about(Entity::Queue, name)
        .hint("declare it first, if the name and the vhost are right")
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

#[cfg(test)]
mod tests;
