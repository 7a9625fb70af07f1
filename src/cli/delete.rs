//! `leveret delete` and `leveret purge`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::if_exists::IfExists;
use super::output;
use super::session::{Target, once};
use super::set::InVhost;
use crate::client::{DeleteExchange, DeletePolicy, DeleteQueue, Entity, RequestError};
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
    /// Take a virtual host from a user
    ///
    /// The user may not open it any more. An administrator may do everything in it again.
    Permissions {
        /// Name of the user
        user: String,
        #[command(flatten)]
        vhost: InVhost,
        #[command(flatten)]
        if_exists: IfExists,
    },
    /// Delete a policy: what held by it holds no more
    Policy {
        /// Its name
        name: String,
        /// It is one of operators
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        if_exists: IfExists,
    },
    /// Let a user use every routing key of topic exchanges again
    TopicPermissions {
        /// Name of the user
        user: String,
        /// The exchange; all of the virtual host if none is named
        exchange: Option<String>,
        #[command(flatten)]
        vhost: InVhost,
        #[command(flatten)]
        if_exists: IfExists,
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
        What::Permissions { user, vhost, if_exists } => {
            let vhost = vhost.named(&arguments.target)?;
            let what = format!("permissions of user '{user}' in vhost '{vhost}'");
            once(&arguments.target, async |channel| {
                let permissions = channel.list_permissions().await?;
                let is_there = permissions.iter().any(|of| of.user == user && of.vhost == vhost);
                if_exists.check(is_there, &what, "list permissions")?;
                Ok(channel.delete_permissions(&user, &vhost).await?)
            })?;
            output::line(&format!("there are no {what} any more"))
        }
        What::Policy { name, operator, if_exists } => {
            let what =
                if operator { format!("operator policy '{name}'") } else { format!("policy '{name}'") };
            once(&arguments.target, async |channel| {
                let policies = channel.list_policies().await?;
                let is_there = policies.iter().any(|one| one.name == name && one.operator == operator);
                if_exists.check(is_there, &what, "list policies")?;
                Ok(channel.delete_policy(&name, DeletePolicy { operator }).await?)
            })?;
            output::line(&format!("there is no {what} any more"))
        }
        What::TopicPermissions { user, exchange, vhost, if_exists } => {
            let vhost = vhost.named(&arguments.target)?;
            let of = exchange.as_ref().map(|exchange| format!(" for exchange '{exchange}'"));
            let what = format!(
                "topic permissions of user '{user}' in vhost '{vhost}'{}",
                of.as_deref().unwrap_or_default()
            );
            once(&arguments.target, async |channel| {
                let permissions = channel.list_topic_permissions().await?;
                let is_there = permissions.iter().any(|of| {
                    let is_of = exchange.as_ref().is_none_or(|exchange| of.exchange == *exchange);
                    is_of && of.user == user && of.vhost == vhost
                });
                if_exists.check(is_there, &what, "list topic-permissions")?;
                let exchange = exchange.as_deref().unwrap_or_default();
                Ok(channel.delete_topic_permissions(&user, &vhost, exchange).await?)
            })?;
            output::line(&format!("there are no {what} any more"))
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
