//! What of a queue can be other than it was declared, while it is there.

use std::sync::Arc;

use super::catalog::Catalog;
use super::decide_subscriptions::check_own_queue;
use super::entry::Entry;
use super::queue_checks::{NONE, QUEUE_TYPE, check_owner, check_queue_arguments, described};
use super::request::{QueueAlteration, QueueDeclaration};
use crate::auth::Access;
use crate::broker::access::check_dead_letters;
use crate::broker::dead_letters::DEAD_LETTER_ARGUMENTS;
use crate::broker::limits::LIMIT_ARGUMENTS;
use crate::broker::retention::RETENTION_ARGUMENTS;
use crate::broker::vhost::QueueDefinition;
use crate::model::{
    ConnectionId, Difference, Entity, FieldTable, MAX_PRIORITY, Refusal, ReplyCode, SINGLE_ACTIVE_CONSUMER,
    VhostName, nearest,
};
use crate::routing::no_such_queue;

/// Arguments that a request may name.
const NAMED_MAX: usize = 64;

/// A queue as it is to be, and what of it is other than it was.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::broker) struct AlteredQueue {
    pub(in crate::broker) definition: QueueDefinition,
    /// By name; none: it is so already.
    pub(in crate::broker) changes: Vec<Difference>,
}

impl Catalog {
    /// Its messages, bindings and consumers stay.
    pub(super) fn decide_alter_queue(
        &self,
        vhost: &VhostName,
        connection: ConnectionId,
        access: &Access,
        alteration: &QueueAlteration,
    ) -> Result<Vec<Entry>, Refusal> {
        let name = &alteration.name;
        let current =
            self.vhost(vhost)?.queues.get(name.as_str()).ok_or_else(|| no_such_queue(name, vhost))?;
        check_owner(current, connection, vhost)?;
        let AlteredQueue { definition, changes } = altered_queue(current, alteration, access, vhost)?;
        match changes.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(vec![Entry::PutQueue(vhost.clone(), Arc::new(definition))]),
        }
    }
}

/// Arguments of a queue that can be altered, in the order in which their differences are told.
pub(super) fn alterable() -> impl Iterator<Item = &'static str> {
    RETENTION_ARGUMENTS
        .into_iter()
        .chain(LIMIT_ARGUMENTS)
        .chain(DEAD_LETTER_ARGUMENTS)
        .filter(|name| *name != MAX_PRIORITY)
}

/// The queue as this makes it.
///
/// # Errors
/// 406 with everything that cannot be altered, or for arguments that make no sense; 403 for an exchange of dead letters that may not be
/// written to.
pub(in crate::broker) fn altered_queue(
    current: &QueueDefinition,
    alteration: &QueueAlteration,
    access: &Access,
    vhost: &VhostName,
) -> Result<AlteredQueue, Refusal> {
    let QueueAlteration { set, remove, .. } = alteration;
    check_own_queue(current, "alone alters it: change what its queues retain with the subscription")?;
    let named = set.iter().count() + remove.len();
    if named > NAMED_MAX {
        let text = format!("more arguments of queue '{}' are to be altered than there are", current.name);
        return Err(Refusal::new(ReplyCode::PreconditionFailed, text)
            .about(Entity::Queue, current.name.as_str())
            .field("arguments", format!("{NAMED_MAX} at most"), named.to_string()));
    }
    let unalterable = unalterable(current, alteration);
    if !unalterable.is_empty() {
        return Err(cannot_be_altered(current, unalterable, vhost));
    }
    let mut arguments = current.arguments.clone();
    for name in remove {
        arguments.0.remove(name);
    }
    for (name, value) in set.iter() {
        arguments.0.insert(name.to_owned(), value.clone());
    }
    let declaration = QueueDeclaration {
        name: current.name.clone(),
        durable: current.durable,
        exclusive: current.owner.is_some(),
        auto_delete: current.auto_delete,
        arguments,
    };
    check_queue_arguments(&declaration, vhost)?;
    let changes = argument_differences(&current.arguments, &declaration.arguments);
    if changes.iter().any(|change| DEAD_LETTER_ARGUMENTS.contains(&change.field.as_str())) {
        check_dead_letters(access, &current.name, &declaration.arguments)?;
    }
    let definition = QueueDefinition { arguments: declaration.arguments, ..current.clone() };
    Ok(AlteredQueue { definition, changes })
}

/// Arguments that mean something and in which two tables differ.
pub(super) fn argument_differences(declared: &FieldTable, asked: &FieldTable) -> Vec<Difference> {
    let further = [MAX_PRIORITY, SINGLE_ACTIVE_CONSUMER];
    let differs = |name: &'static str| {
        let (declared, asked) = (described(declared, name), described(asked, name));
        let reason = if further.contains(&name) { why_not(name).unwrap_or_default() } else { "" };
        (declared != asked).then(|| Difference {
            field: name.to_owned(),
            declared,
            asked,
            reason: reason.to_owned(),
        })
    };
    alterable().chain(further).filter_map(differs).collect()
}

/// Why this of a queue cannot be altered, if that is known.
pub(super) fn why_not(name: &str) -> Option<&'static str> {
    Some(match name {
        "durable" => {
            "what lies in it is in a log that is kept, or in one that is not, from the first message on"
        }
        "exclusive" => {
            "it belongs to the connection that declared it, or to none, for as long as it is there"
        }
        "auto_delete" => "its consumers came relying on when it goes",
        MAX_PRIORITY => "the messages in it stand in lines by the priorities that it had when they came",
        SINGLE_ACTIVE_CONSUMER => {
            "consumers that hold messages of it now would hold them beside the one that is to be active"
        }
        QUEUE_TYPE => "what lies in it is kept in the way of its type",
        _ => return None,
    })
}

fn unalterable(current: &QueueDefinition, alteration: &QueueAlteration) -> Vec<Difference> {
    let QueueAlteration { set, remove, durable, exclusive, auto_delete, .. } = alteration;
    let mut all = Vec::new();
    for (field, is, asked) in [
        ("durable", current.durable, *durable),
        ("exclusive", current.owner.is_some(), *exclusive),
        ("auto_delete", current.auto_delete, *auto_delete),
    ] {
        if let Some(asked) = asked.filter(|asked| *asked != is) {
            all.push((field.to_owned(), is.to_string(), asked.to_string()));
        }
    }
    let is_alterable = |name: &str| alterable().any(|one| one == name);
    for (name, _) in set.iter().filter(|(name, _)| !is_alterable(name)) {
        let (is, asked) = (described(&current.arguments, name), described(set, name));
        if is != asked {
            all.push((name.to_owned(), is, asked));
        }
    }
    for name in remove.iter().filter(|name| !is_alterable(name)) {
        // What is not known is more likely mistyped than meant to be gone.
        let is = described(&current.arguments, name);
        if is != NONE || why_not(name).is_none() {
            all.push((name.clone(), is, NONE.to_owned()));
        }
    }
    let differences = all.into_iter().map(|(field, declared, asked)| {
        let reason = match why_not(&field) {
            Some(reason) => reason.to_owned(),
            None => format!("it is none of the arguments that this broker can alter{}", perhaps(&field)),
        };
        Difference { field, declared, asked, reason }
    });
    differences.collect()
}

fn perhaps(name: &str) -> String {
    nearest(name, alterable()).map_or(String::new(), |near| format!("; do you mean '{near}'?"))
}

fn cannot_be_altered(current: &QueueDefinition, differences: Vec<Difference>, vhost: &VhostName) -> Refusal {
    let named: Vec<String> =
        differences.iter().map(|one| format!("'{}': {}", one.field, one.reason)).collect();
    let text =
        format!("queue '{}' in vhost '{vhost}' cannot be altered in {}", current.name, named.join("; "));
    let names: Vec<&str> = alterable().collect();
    let hint = match differences.iter().any(|one| why_not(&one.field).is_some()) {
        true => "declare another queue as it should be, and move the messages with `leveret move`".to_owned(),
        false => format!("these can be altered: {}", names.join(", ")),
    };
    Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Queue, current.name.as_str())
        .differing(differences)
        .hint(hint)
}
