//! What a declaration of a queue must keep to, and who may use a queue.

use super::decide_alter_queue::{argument_differences, why_not};
use super::request::QueueDeclaration;
use crate::broker::activity::{NeitherWay, single_active_of};
use crate::broker::dead_letters::address_of;
use crate::broker::limits::{
    NoLimit, delivery_limit_of, expiry_of, lease_of, limits_of, max_priority_of, retry_of,
};
use crate::broker::retention::{NoBound, RETENTION_ARGUMENTS, retention_of};
use crate::broker::vhost::QueueDefinition;
use crate::model::{
    ARGUMENTS, ArgumentUse, ConnectionId, Difference, Entity, FieldTable, FieldValue, Refusal, ReplyCode,
    SINGLE_ACTIVE_CONSUMER, VhostName,
};

/// Argument of a queue: how it keeps what lies in it.
pub(super) const QUEUE_TYPE: &str = "x-queue-type";
/// What is said of an argument that is not there.
pub(super) const NONE: &str = "none";

/// An exclusive queue is seen by its connection alone (RabbitMQ: 405 RESOURCE_LOCKED).
pub(in crate::broker) fn check_owner(
    queue: &QueueDefinition,
    connection: ConnectionId,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    if queue.owner.is_none_or(|owner| owner == connection) {
        return Ok(());
    }
    let text = format!(
        "cannot obtain exclusive access to locked queue '{}' in vhost '{vhost}': it belongs to another connection",
        queue.name
    );
    Err(Refusal::new(ReplyCode::ResourceLocked, text).about(Entity::Queue, queue.name.as_str()))
}

/// Refuses arguments that would have no effect.
pub(super) fn check_queue_arguments(
    declaration: &QueueDeclaration,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    let mut to_come =
        ARGUMENTS.iter().filter(|(_, what)| *what == ArgumentUse::ToCome).map(|(name, _)| *name);
    if let Some(name) = to_come.find(|name| declaration.arguments.value(name).is_some()) {
        let text = format!(
            "argument '{name}' of queue '{}' in vhost '{vhost}' is not supported by this broker yet",
            declaration.name
        );
        return Err(Refusal::new(ReplyCode::NotImplemented, text)
            .about(Entity::Queue, declaration.name.as_str())
            .field(name, "absent", "present")
            .hint("declare the queue without it; docs/DIFFERENCES.md lists what is missing"));
    }
    check_retention(declaration, vhost)?;
    check_limits(declaration, vhost)?;
    check_single_active(declaration, vhost)?;
    match declaration.arguments.value(QUEUE_TYPE) {
        None => Ok(()),
        Some(FieldValue::Text(kind)) if kind == "classic" => Ok(()),
        Some(other) => {
            let got = match other {
                FieldValue::Text(kind) => kind.clone(),
                other => format!("{other:?}"),
            };
            let text = format!(
                "invalid arg '{QUEUE_TYPE}' for queue '{}' in vhost '{vhost}': {got}",
                declaration.name
            );
            Err(Refusal::new(ReplyCode::PreconditionFailed, text)
                .about(Entity::Queue, declaration.name.as_str())
                .field(QUEUE_TYPE, "classic", got))
        }
    }
}

/// What is retained has to have a bound, and a log to lie in.
fn check_retention(declaration: &QueueDeclaration, vhost: &VhostName) -> Result<(), Refusal> {
    let refuse = |field: &str, why: String| {
        let text =
            format!("invalid arg '{field}' for queue '{}' in vhost '{vhost}': {why}", declaration.name);
        Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Queue, declaration.name.as_str())
    };
    let retention = retention_of(&declaration.arguments).map_err(|NoBound { argument, got }| {
        refuse(argument, "it is no bound".to_owned()).field(
            argument,
            "a whole number, 1 or more",
            format!("{got:?}"),
        )
    })?;
    let survives = declaration.durable && !declaration.exclusive;
    let given = RETENTION_ARGUMENTS.into_iter().find(|name| declaration.arguments.value(name).is_some());
    match given.filter(|_| retention.is_some() && !survives) {
        None => Ok(()),
        Some(argument) => {
            let why = "a queue that does not survive a restart retains nothing".to_owned();
            Err(refuse(argument, why)
                .field(argument, "absent", "present")
                .hint("declare it durable and not exclusive"))
        }
    }
}

fn check_limits(declaration: &QueueDeclaration, vhost: &VhostName) -> Result<(), Refusal> {
    let arguments = &declaration.arguments;
    let read = limits_of(arguments)
        .and_then(|_| delivery_limit_of(arguments))
        .and_then(|_| expiry_of(arguments))
        .and_then(|_| max_priority_of(arguments))
        .and_then(|_| lease_of(arguments))
        .and_then(|_| retry_of(arguments))
        .and_then(|_| address_of(arguments));
    let Err(NoLimit { argument, expected, got }) = read else { return Ok(()) };
    let got = match got {
        FieldValue::Text(text) => text,
        FieldValue::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let text = format!("invalid arg '{argument}' for queue '{}' in vhost '{vhost}': {got}", declaration.name);
    Err(Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Queue, declaration.name.as_str())
        .field(argument, expected, got))
}

fn check_single_active(declaration: &QueueDeclaration, vhost: &VhostName) -> Result<(), Refusal> {
    let Err(NeitherWay(got)) = single_active_of(&declaration.arguments) else { return Ok(()) };
    let text = format!(
        "invalid arg '{SINGLE_ACTIVE_CONSUMER}' for queue '{}' in vhost '{vhost}': {got:?}",
        declaration.name
    );
    Err(Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Queue, declaration.name.as_str())
        .field(SINGLE_ACTIVE_CONSUMER, "true or false", format!("{got:?}")))
}

/// Redeclaring must say what is there. What differs is told of all that does.
pub(super) fn check_same_queue(
    current: &QueueDefinition,
    asked: &QueueDeclaration,
    vhost: &VhostName,
) -> Result<(), Refusal> {
    let exclusive = current.owner.is_some();
    // Declared durable, an exclusive queue is transient all the same.
    let durable = asked.durable && !asked.exclusive;
    // Whose a queue is comes first and has a code of its own, as in RabbitMQ.
    let of_its_own = [
        ("exclusive", exclusive, asked.exclusive),
        ("durable", current.durable, durable),
        ("auto_delete", current.auto_delete, asked.auto_delete),
    ];
    let of_its_own = of_its_own.into_iter().filter(|(_, is, wanted)| is != wanted);
    let mut differences: Vec<Difference> = of_its_own
        .map(|(field, is, wanted)| Difference {
            field: field.to_owned(),
            declared: is.to_string(),
            asked: wanted.to_string(),
            reason: why_not(field).unwrap_or_default().to_owned(),
        })
        .collect();
    differences.extend(argument_differences(&current.arguments, &asked.arguments));
    let Some(Difference { field, declared, asked, .. }) = differences.first() else { return Ok(()) };
    let code = match field == "exclusive" {
        true => ReplyCode::ResourceLocked,
        false => ReplyCode::PreconditionFailed,
    };
    let mut text = format!(
        "inequivalent arg '{field}' for queue '{}' in vhost '{vhost}': received {asked} but current is {declared}",
        current.name
    );
    let others = &differences[1..];
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|one| format!("'{}'", one.field)).collect();
        text.push_str(&format!("; also different: {}", names.join(", ")));
    }
    let hint = match differences.iter().all(|one| one.reason.is_empty()) {
        true => "declare it as it is, or change it with `leveret alter queue`",
        false => "declare it as it is, or delete it first",
    };
    Err(Refusal::new(code, text)
        .about(Entity::Queue, current.name.as_str())
        .differing(differences)
        .hint(hint))
}

/// What an argument says, in words that are the same for the same.
pub(super) fn described(arguments: &FieldTable, name: &str) -> String {
    match arguments.value(name) {
        Some(FieldValue::Integer(bound)) => bound.to_string(),
        Some(FieldValue::Text(text)) => text.clone(),
        Some(FieldValue::Boolean(is_so)) => is_so.to_string(),
        Some(other) => format!("{other:?}"),
        None => NONE.to_owned(),
    }
}
