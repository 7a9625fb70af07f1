//! `leveret delete` and `leveret purge`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::if_exists::IfExists;
use super::output;
use super::session::{Target, once};
use crate::client::{DeleteExchange, DeleteQueue, Entity, RequestError};
use crate::model::ReplyCode;

/// What was typed after `delete`.
#[derive(Debug, Args)]
pub(super) struct DeleteArguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Delete an exchange with its bindings
    Exchange {
        /// Its name
        name: String,
        /// Refuse if it has bindings as a source
        #[arg(long)]
        if_unused: bool,
        #[command(flatten)]
        if_exists: IfExists,
    },
    /// Delete a queue with its messages
    Queue {
        /// Its name
        name: String,
        /// Refuse if it has consumers
        #[arg(long)]
        if_unused: bool,
        /// Refuse if it has ready messages
        #[arg(long)]
        if_empty: bool,
        #[command(flatten)]
        if_exists: IfExists,
        /// Print how many messages went with it as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What was typed after `purge`.
#[derive(Debug, Args)]
pub(super) struct PurgeArguments {
    /// The queue. Messages that consumers have not settled stay
    queue: String,
    /// Print how many messages were dropped as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn delete(arguments: DeleteArguments) -> Result<(), Failure> {
    match arguments.what {
        What::Exchange { name, if_unused, if_exists } => {
            once(&arguments.target, async |channel| {
                let is_there = match channel.check_exchange(&name).await {
                    Ok(()) => true,
                    Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::NotFound => false,
                    Err(error) => return Err(error.into()),
                };
                if_exists
                    .check(is_there, &format!("exchange '{name}'"), "list exchanges")
                    .map_err(|failure| failure.for_lack_of(Entity::Exchange, &name))?;
                Ok(channel.delete_exchange(&name, DeleteExchange { if_unused }).await?)
            })?;
            output::line(&format!("there is no exchange '{name}' any more"))
        }
        What::Queue { name, if_unused, if_empty, if_exists, json } => {
            let conditions = DeleteQueue { if_unused, if_empty };
            let messages = once(&arguments.target, async |channel| {
                let is_there = channel.find_queue(&name).await?.is_some();
                if_exists
                    .check(is_there, &format!("queue '{name}'"), "list queues")
                    .map_err(|failure| failure.for_lack_of(Entity::Queue, &name))?;
                Ok(channel.delete_queue(&name, conditions).await?)
            })?;
            if json {
                return output::json_line(&json!({ "name": name, "messages_ready": messages }));
            }
            output::line(&format!(
                "there is no queue '{name}' any more (ready messages gone with it: {messages})"
            ))
        }
    }
}

pub(super) fn purge(arguments: &PurgeArguments) -> Result<(), Failure> {
    let messages =
        once(&arguments.target, async |channel| Ok(channel.purge_queue(&arguments.queue).await?))?;
    if arguments.json {
        return output::json_line(&json!({ "name": arguments.queue, "messages_dropped": messages }));
    }
    output::line(&format!("dropped from queue '{}': {messages}", arguments.queue))
}
