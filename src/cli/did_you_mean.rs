//! What somebody may have meant who named something that is not there.

use std::time::Duration;

use tokio::time::timeout;

use super::failure::Failure;
use super::session::note;
use crate::client::{Channel, ConnectOptions, Connection, Entity};
use crate::model::{ARGUMENTS, FieldTable, nearest};

/// Refuses arguments that look like slips of the finger, and tells of those that nobody knows: a broker keeps them, and they
/// do nothing.
pub(super) fn check_arguments(arguments: &FieldTable) -> Result<(), Failure> {
    let known = || ARGUMENTS.iter().map(|(name, _)| *name);
    for (name, _) in arguments.iter().filter(|(name, _)| !known().any(|known| known == *name)) {
        if let Some(meant) = nearest(name, known()) {
            return Err(Failure::usage(format!("there is no argument '{name}'; did you mean '{meant}'?")));
        }
        if name.starts_with("x-") {
            note(&format!("nobody knows the argument '{name}': it is kept, and does nothing"));
        }
    }
    Ok(())
}

/// Longest time to look for what may have been meant.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Adds what may have been meant to a failure about something that is not there. Nothing is added where that cannot be
/// found out soon: the failure matters more.
pub(super) async fn suggest(channel: &Channel, failure: Failure) -> Failure {
    let meant = timeout(LOOK_MAX, meant(channel, &failure)).await.ok().flatten();
    match meant {
        Some(meant) => failure.detail(format!("did you mean '{meant}'?")),
        None => failure,
    }
}

/// As [`suggest`], over a channel of its own.
pub(super) async fn suggest_over(connection: &Connection, failure: Failure) -> Failure {
    if failure.missing().is_none() {
        return failure;
    }
    match timeout(LOOK_MAX, connection.channel()).await {
        Ok(Ok(channel)) => suggest(&channel, failure).await,
        _ => failure,
    }
}

async fn meant(channel: &Channel, failure: &Failure) -> Option<String> {
    let (entity, missing) = failure.missing()?;
    let names: Vec<String> = match entity {
        Entity::Queue => channel.list_queues().await.ok()?.into_iter().map(|entry| entry.name).collect(),
        Entity::Exchange => {
            channel.list_exchanges().await.ok()?.into_iter().map(|entry| entry.name).collect()
        }
        Entity::Subscription => {
            channel.list_subscriptions().await.ok()?.into_iter().map(|entry| entry.name).collect()
        }
        Entity::Vhost => channel.list_vhosts().await.ok()?.into_iter().map(|entry| entry.name).collect(),
        _ => return None,
    };
    // One that is there was refused for another reason.
    if names.iter().any(|name| name == missing) {
        return None;
    }
    let others = names.iter().map(String::as_str).filter(|name| !name.is_empty());
    nearest(missing, others).map(str::to_owned)
}

/// As [`suggest`], for a vhost that could not be opened: what others there are is asked in the default one.
pub(super) async fn suggest_vhost(options: &ConnectOptions, failure: Failure) -> Failure {
    if !matches!(failure.missing(), Some((Entity::Vhost, _))) {
        return failure;
    }
    let options = options.clone().in_vhost("/").no_reconnect();
    // The connection goes when it is dropped.
    match timeout(LOOK_MAX, Connection::connect(options)).await {
        Ok(Ok(connection)) => suggest_over(&connection, failure).await,
        _ => failure,
    }
}
