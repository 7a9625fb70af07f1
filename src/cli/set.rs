//! `leveret set`: what users may do, how much they and virtual hosts may have, and what holds for queues and exchanges by their names.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::failure::Failure;
use super::output;
use super::session::{Target, once};
use crate::client::{
    FieldTable, FieldValue, Permissions, Policy, TopicPermissions, UserLimitsChange, VhostLimitsChange,
};

/// What was typed after `set`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what a user may do in a virtual host, to exchanges and queues by their names
    ///
    /// Each pattern is a regular expression that is looked for anywhere in a name: ^ and $ tie it to the ends, '.*' is every
    /// name and '' none. It replaces what the user may do in this virtual host, and counts at once, also for connections
    /// that are there. The user may open the virtual host afterwards.
    Permissions {
        /// Name of the user
        user: String,
        #[command(flatten)]
        vhost: InVhost,
        /// Names of what the user may make and delete
        #[arg(long, value_name = "PATTERN")]
        configure: String,
        /// Names of where the user may put messages in, or lead them to
        #[arg(long, value_name = "PATTERN")]
        write: String,
        /// Names of where the user may take messages out, or lead them on from
        #[arg(long, value_name = "PATTERN")]
        read: String,
    },
    /// Say which routing keys a user may use with a topic exchange
    ///
    /// The patterns are as in `leveret set permissions`, which have to allow the exchange besides. In them {username} and
    /// {vhost} stand for the names.
    TopicPermissions {
        /// Name of the user
        user: String,
        /// The exchange, which need not be there
        exchange: String,
        #[command(flatten)]
        vhost: InVhost,
        /// Keys to publish under
        #[arg(long, value_name = "PATTERN")]
        write: String,
        /// Keys to bind with
        #[arg(long, value_name = "PATTERN")]
        read: String,
    },
    /// Say what holds for queues and exchanges whose names match, beside what they were declared with
    ///
    /// The pattern is a regular expression that is looked for anywhere in a name. It replaces the policy of this name, and holds at once
    /// for what is there. Of those that match a queue or exchange the one of the highest priority holds.
    Policy {
        /// Name of the policy
        name: String,
        /// The names it is for
        pattern: String,
        /// What is to hold, such as '{"max-length": 1000}'
        #[arg(long, value_name = "JSON", value_parser = definition)]
        definition: FieldTable,
        /// Those of a higher priority go first
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = priority)]
        priority: i32,
        /// What it is for
        #[arg(long, value_name = "WHAT", default_value = "all", value_parser = ["queues", "classic_queues", "exchanges", "all"])]
        apply_to: String,
        /// It is one of operators: it bounds what declarations and other policies say
        #[arg(long)]
        operator: bool,
    },
    /// Limit how much a user may have, of all its connections together
    ///
    /// What is not named stays as it is, and what is there beyond a limit stays, too.
    #[command(group(clap::ArgGroup::new("limit_of_user").required(true).multiple(true)))]
    UserLimits {
        /// Name of the user
        user: String,
        /// Connections at most, or none for no limit
        #[arg(long, value_name = "LIMIT", value_parser = limit, group = "limit_of_user")]
        max_connections: Option<Limit>,
        /// Channels at most, or none for no limit
        #[arg(long, value_name = "LIMIT", value_parser = limit, group = "limit_of_user")]
        max_channels: Option<Limit>,
    },
    /// Limit how much a virtual host may have
    ///
    /// What is not named stays as it is, and what is there beyond a limit stays, too.
    #[command(group(clap::ArgGroup::new("limit_of_vhost").required(true).multiple(true)))]
    VhostLimits {
        /// Name of the virtual host
        vhost: String,
        /// Connections at most, or none for no limit
        #[arg(long, value_name = "LIMIT", value_parser = limit, group = "limit_of_vhost")]
        max_connections: Option<Limit>,
        /// Queues at most, or none for no limit
        #[arg(long, value_name = "LIMIT", value_parser = limit, group = "limit_of_vhost")]
        max_queues: Option<Limit>,
        /// Bytes of messages in its queues at most, or none for no limit
        #[arg(long, value_name = "LIMIT", value_parser = limit, group = "limit_of_vhost")]
        max_bytes: Option<Limit>,
    },
}

/// A definition as it is typed: a JSON object of whole numbers and texts.
fn definition(typed: &str) -> Result<FieldTable, String> {
    let object: BTreeMap<String, Value> =
        serde_json::from_str(typed).map_err(|error| format!("expected a JSON object: {error}"))?;
    let fields = object.into_iter().map(|(key, value)| {
        let field = match &value {
            Value::String(text) => FieldValue::Text(text.clone()),
            Value::Number(number) => FieldValue::Integer(
                number.as_i64().ok_or_else(|| format!("{key}: expected a whole number, got {number}"))?,
            ),
            other => return Err(format!("{key}: expected a whole number or a text, got {other}")),
        };
        Ok((key, field))
    });
    fields.collect::<Result<_, _>>().map(FieldTable)
}

fn priority(typed: &str) -> Result<i32, String> {
    typed.parse().map_err(|_| format!("expected a whole number, {} to {}", i32::MIN, i32::MAX))
}

/// A limit as it is typed.
#[derive(Debug, Clone, Copy)]
struct Limit(Option<u64>);

fn limit(typed: &str) -> Result<Limit, String> {
    match typed {
        "none" => Ok(Limit(None)),
        typed => match typed.parse() {
            Ok(limit) => Ok(Limit(Some(limit))),
            Err(_) => Err("expected a number from 0 on, or none".to_owned()),
        },
    }
}

/// For people: what was named.
fn told<const N: usize>(limits: [(&str, Option<Option<u64>>); N]) -> String {
    let one = |(name, limit): (&str, Option<Option<u64>>)| {
        let limit = limit?.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        Some(format!("{name} {limit}"))
    };
    limits.into_iter().filter_map(one).collect::<Vec<_>>().join(", ")
}

/// The virtual host that something is about.
#[derive(Debug, Clone, Args)]
pub(super) struct InVhost {
    /// The virtual host, if not that of the connection
    #[arg(long, value_name = "VHOST")]
    vhost: Option<String>,
}

impl InVhost {
    /// Its name.
    pub(super) fn named(self, target: &Target) -> Result<String, Failure> {
        match self.vhost {
            Some(vhost) => Ok(vhost),
            None => Ok(target.options()?.vhost().to_owned()),
        }
    }
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let target = &arguments.target;
    match arguments.what {
        What::Permissions { user, vhost, configure, write, read } => {
            let vhost = vhost.named(target)?;
            let told = format!(
                "user '{user}' may in vhost '{vhost}': configure '{configure}', write '{write}', read '{read}'"
            );
            let permissions = Permissions { user, vhost, configure, write, read };
            once(target, async |channel| Ok(channel.put_permissions(permissions).await?))?;
            output::line(&told)
        }
        What::TopicPermissions { user, exchange, vhost, write, read } => {
            let vhost = vhost.named(target)?;
            let told = format!(
                "user '{user}' may with keys of exchange '{exchange}' in vhost '{vhost}': write '{write}', read '{read}'"
            );
            let permissions = TopicPermissions { user, vhost, exchange, write, read };
            once(target, async |channel| Ok(channel.put_topic_permissions(permissions).await?))?;
            output::line(&told)
        }
        What::Policy { name, pattern, definition, priority, apply_to: applies_to, operator } => {
            let what = if operator { "operator policy" } else { "policy" };
            let told = format!("{what} '{name}' holds for names that match '{pattern}' ({applies_to})");
            let policy = Policy { name, operator, pattern, applies_to, priority, definition };
            once(target, async |channel| Ok(channel.put_policy(policy).await?))?;
            output::line(&told)
        }
        What::UserLimits { user, max_connections, max_channels } => {
            let (max_connections, max_channels) =
                (max_connections.map(|Limit(limit)| limit), max_channels.map(|Limit(limit)| limit));
            let change = UserLimitsChange { max_connections, max_channels };
            once(target, async |channel| Ok(channel.limit_user(&user, change).await?))?;
            let limits = [("connections", max_connections), ("channels", max_channels)];
            output::line(&format!("user '{user}' may have at most: {}", told(limits)))
        }
        What::VhostLimits { vhost, max_connections, max_queues, max_bytes } => {
            let [max_connections, max_queues, max_bytes] =
                [max_connections, max_queues, max_bytes].map(|limit| limit.map(|Limit(limit)| limit));
            let change = VhostLimitsChange { max_connections, max_queues, max_bytes };
            once(target, async |channel| Ok(channel.limit_vhost(&vhost, change).await?))?;
            let limits = [("connections", max_connections), ("queues", max_queues), ("bytes", max_bytes)];
            output::line(&format!("vhost '{vhost}' may have at most: {}", told(limits)))
        }
    }
}
