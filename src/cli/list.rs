//! `leveret list`: what a broker has.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::failure::Failure;
use super::field;
use super::output;
use super::session::{Target, once};
use super::table::Table;
use super::terminal::Terminal;
use crate::client::{
    Binding, Channel, ConnectionEntry, ConsumerEntry, Destination, ExchangeEntry, Permissions, Policy,
    Published, QueueEntry, SchemaEntry, TopicPermissions, UserEntry, UserLimits, VhostEntry, VhostLimits,
};
use crate::model::{FieldTable, FieldValue, QUARANTINE_QUEUE, SCHEMAS, schema_fields};

/// What was typed after `list`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to list
    what: What,
    /// Print a JSON array of objects, with everything that is known of each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Exchanges of the vhost
    Exchanges,
    /// Queues of the vhost
    Queues,
    /// Bindings of the vhost
    Bindings,
    /// Connections: of all vhosts for administrators, else the user's own
    Connections,
    /// Consumers of the vhost
    Consumers,
    /// Users; for administrators
    Users,
    /// Virtual hosts; for administrators
    Vhosts,
    /// What users may do in virtual hosts: of all users for administrators, else the user's own
    Permissions,
    /// Which routing keys users may use with topic exchanges, where that is not every one: likewise
    TopicPermissions,
    /// What holds for queues and exchanges by their names
    Policies,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let listing = once(&arguments.target, async |channel| listing(channel, arguments.what).await)?;
    if arguments.json {
        output::json_line(&Value::Array(listing.json))
    } else {
        let mut text = listing.table.render(Terminal::of_stdout());
        listing.notes.iter().for_each(|note| text.push_str(&format!("\n{note}\n")));
        output::text(&text)
    }
}

/// The same things for people and for programs.
struct Listing {
    table: Table,
    json: Vec<Value>,
    /// For people, below the table.
    notes: Vec<String>,
}

async fn listing(channel: &Channel, what: What) -> Result<Listing, Failure> {
    Ok(match what {
        What::Exchanges => exchanges(&channel.list_exchanges().await?),
        What::Queues => queues(&channel.list_queues().await?),
        What::Bindings => bindings(&channel.list_bindings().await?),
        What::Connections => connections(&channel.list_connections().await?),
        What::Consumers => consumers(&channel.list_consumers().await?),
        What::Users => users(&channel.list_users().await?),
        What::Vhosts => vhosts(&channel.list_vhosts().await?),
        What::Permissions => permissions(&channel.list_permissions().await?),
        What::Policies => policies(&channel.list_policies().await?),
        What::TopicPermissions => topic_permissions(&channel.list_topic_permissions().await?),
    })
}

fn exchanges(entries: &[ExchangeEntry]) -> Listing {
    let mut table = Table::new()
        .text("NAME")
        .text("TYPE")
        .number("BINDINGS")
        .number("REFUSED")
        .number("UNFIT")
        .text("FEATURES")
        .text("ARGUMENTS");
    for entry in entries {
        table.row([
            name_or(&entry.name, "(default)"),
            entry.kind.clone(),
            entry.bindings.to_string(),
            entry.refused_total.to_string(),
            entry.unfit_total.to_string(),
            features([
                (!entry.durable, "transient"),
                (entry.auto_delete, "auto-delete"),
                (entry.internal, "internal"),
            ]),
            field::notation(&shortened(&entry.arguments)),
        ]);
    }
    let json = |entry: &ExchangeEntry| {
        json!({
            "name": entry.name,
            "type": entry.kind,
            "durable": entry.durable,
            "auto_delete": entry.auto_delete,
            "internal": entry.internal,
            "arguments": field::table_to_json(&entry.arguments),
            "bindings": entry.bindings,
            "refused_total": entry.refused_total,
            "published_total": entry.published_total,
            "unfit_total": entry.unfit_total,
            "schemas": entry.schemas.iter().map(schema_to_json).collect::<Vec<_>>(),
            "unkept_total": entry.unkept_total,
            "policy": entry.policy,
            "operator_policy": entry.operator_policy,
            "alternate_exchange": entry.alternate_exchange,
            "history_messages": entry.history_messages,
            "history_bytes": entry.history_bytes,
            "history_left_out_total": entry.history_left_out_total,
        })
    };
    let notes = entries.iter().flat_map(|entry| [of_unfit(entry), of_unkept(entry)]).flatten().collect();
    Listing { table, json: entries.iter().map(json).collect(), notes }
}

fn schema_to_json(schema: &SchemaEntry) -> Value {
    let SchemaEntry { pattern, kind, unfit_total } = schema;
    json!({ "pattern": pattern, "kind": kind, "unfit_total": unfit_total })
}

/// Which schemas messages did not fit, where there is more than one.
fn of_unfit(entry: &ExchangeEntry) -> Option<String> {
    if entry.unfit_total == 0 || entry.schemas.len() < 2 {
        return None;
    }
    let unfit = entry.schemas.iter().filter(|schema| schema.unfit_total > 0);
    let unfit = unfit.map(|schema| format!("'{}' ({}) {}", schema.pattern, schema.kind, schema.unfit_total));
    let unfit: Vec<String> = unfit.collect();
    Some(format!("exchange '{}': messages that did not fit the schema for {}", entry.name, unfit.join(", ")))
}

fn of_unkept(entry: &ExchangeEntry) -> Option<String> {
    let queue = entry.arguments.text(QUARANTINE_QUEUE).filter(|_| entry.unkept_total > 0)?;
    Some(format!(
        "exchange '{}': refused messages of which there is no copy, since there was no quarantine queue '{queue}': {}",
        entry.name, entry.unkept_total
    ))
}

/// Arguments of which schemas show their patterns alone: they are pages long.
fn shortened(arguments: &FieldTable) -> FieldTable {
    let mut arguments = arguments.clone();
    if let Some(FieldValue::List(schemas)) = arguments.0.get_mut(SCHEMAS) {
        for schema in schemas {
            let FieldValue::Table(fields) = schema else { continue };
            let word = |name: &str| fields.text(name).unwrap_or("?").to_owned();
            *schema =
                format!("{} ({})", word(schema_fields::PATTERN), word(schema_fields::KIND)).as_str().into();
        }
    }
    arguments
}

fn queues(entries: &[QueueEntry]) -> Listing {
    let mut table = Table::new()
        .text("NAME")
        .text("TYPE")
        .number("READY")
        .number("UNACKED")
        .number("CONSUMERS")
        .number("BYTES")
        .text("FEATURES")
        .text("ARGUMENTS");
    for entry in entries {
        table.row([
            entry.name.clone(),
            entry.kind.clone(),
            entry.messages_ready.to_string(),
            entry.messages_unacknowledged.to_string(),
            entry.consumers.to_string(),
            entry.message_bytes.to_string(),
            features([
                (!entry.durable, "transient"),
                (entry.exclusive, "exclusive"),
                (entry.auto_delete, "auto-delete"),
                (entry.fault.is_some(), "out-of-service"),
            ]),
            field::notation(&entry.arguments),
        ]);
    }
    let json = |entry: &QueueEntry| {
        json!({
            "name": entry.name,
            "type": entry.kind,
            "durable": entry.durable,
            "exclusive": entry.exclusive,
            "auto_delete": entry.auto_delete,
            "arguments": field::table_to_json(&entry.arguments),
            "messages_ready": entry.messages_ready,
            "messages_unacknowledged": entry.messages_unacknowledged,
            "consumers": entry.consumers,
            "messages_delayed": entry.messages_delayed,
            "message_bytes": entry.message_bytes,
            "shard": entry.shard,
            "published_total": entry.published_total,
            "delivered_total": entry.delivered_total,
            "accepted_total": entry.accepted_total,
            "rejected_total": entry.rejected_total,
            "purged_total": entry.purged_total,
            "no_ack_total": entry.no_ack_total,
            "moved_total": entry.moved_total,
            "expired_total": entry.expired_total,
            "max_length_total": entry.max_length_total,
            "refused_full_total": entry.refused_full_total,
            "delivery_limit_total": entry.delivery_limit_total,
            "dead_letters": entry.dead_letters,
            "dead_letters_bytes": entry.dead_letters_bytes,
            "dead_lettered_total": entry.dead_lettered_total,
            "cycled_total": entry.cycled_total,
            "oldest_ready_ms": entry.oldest_ready.map(|at| at.0),
            "oldest_unacknowledged_ms": entry.oldest_unacknowledged.map(|at| at.0),
            "messages_retained": entry.messages_retained,
            "retained_bytes": entry.retained_bytes,
            "fault": entry.fault,
            "policy": entry.policy,
            "operator_policy": entry.operator_policy,
            "effective": field::table_to_json(&entry.effective),
        })
    };
    let faults: BTreeMap<u32, &str> =
        entries.iter().filter_map(|entry| Some((entry.shard, entry.fault.as_deref()?))).collect();
    let notes = faults
        .into_iter()
        .map(|(shard, fault)| format!("Shard {shard} is out of service: {fault}"))
        .collect();
    Listing { table, json: entries.iter().map(json).collect(), notes }
}

fn bindings(entries: &[Binding]) -> Listing {
    let mut table = Table::new().text("SOURCE").text("KEY").text("TO").text("DESTINATION").text("HEADERS");
    for entry in entries {
        let (kind, destination) = destination(&entry.destination);
        table.row([
            name_or(&entry.source, "(default)"),
            entry.routing_key.clone(),
            kind.to_owned(),
            destination.to_owned(),
            field::notation(&entry.arguments),
        ]);
    }
    Listing { table, json: entries.iter().map(binding_to_json).collect(), notes: Vec::new() }
}

/// A binding for programs.
pub(super) fn binding_to_json(binding: &Binding) -> Value {
    let (kind, name) = destination(&binding.destination);
    json!({
        "source": binding.source,
        "destination": name,
        "destination_type": kind,
        "routing_key": binding.routing_key,
        "arguments": field::table_to_json(&binding.arguments),
    })
}

fn connections(entries: &[ConnectionEntry]) -> Listing {
    let mut table = Table::new()
        .number("ID")
        .text("PEER")
        .text("USER")
        .text("VHOST")
        .number("CHANNELS")
        .number("RECEIVED")
        .number("SENT")
        .text("NAME");
    for entry in entries {
        table.row([
            entry.id.to_string(),
            entry.peer.clone(),
            entry.user.clone(),
            entry.vhost.clone(),
            entry.channels.to_string(),
            entry.received_bytes.to_string(),
            entry.sent_bytes.to_string(),
            entry.name.clone(),
        ]);
    }
    let json = |entry: &ConnectionEntry| {
        json!({
            "id": entry.id,
            "name": entry.name,
            "user": entry.user,
            "vhost": entry.vhost,
            "peer": entry.peer,
            "client": entry.client,
            "channels": entry.channels,
            "connected_at_ms": entry.connected_at.0,
            "received_bytes": entry.received_bytes,
            "sent_bytes": entry.sent_bytes,
            "blocked": entry.blocked,
            "published": entry.published.iter().map(published).collect::<Vec<_>>(),
            "published_elsewhere_total": entry.published_elsewhere_total,
        })
    };
    let blocked = entries.iter().filter_map(|entry| Some((entry.id, entry.blocked.as_deref()?)));
    let notes =
        blocked.map(|(id, why)| format!("What connection {id} publishes has to wait: {why}")).collect();
    Listing { table, json: entries.iter().map(json).collect(), notes }
}

fn published(published: &Published) -> Value {
    json!({ "exchange": published.exchange, "messages_total": published.messages_total })
}

fn consumers(entries: &[ConsumerEntry]) -> Listing {
    let mut table = Table::new()
        .text("QUEUE")
        .text("TAG")
        .number("CONNECTION")
        .number("CHANNEL")
        .number("UNACKED")
        .number("PREFETCH")
        .number("PRIORITY")
        .text("FEATURES");
    for entry in entries {
        table.row([
            entry.queue.clone(),
            entry.tag.clone(),
            entry.connection_id.to_string(),
            entry.channel.to_string(),
            entry.messages_unacknowledged.to_string(),
            entry.prefetch.to_string(),
            entry.priority.to_string(),
            features([
                (entry.no_ack, "no-ack"),
                (entry.exclusive, "exclusive"),
                (entry.active == Some(true), "active"),
                (entry.active == Some(false), "waiting"),
            ]),
        ]);
    }
    let json = |entry: &ConsumerEntry| {
        json!({
            "queue": entry.queue,
            "tag": entry.tag,
            "connection_id": entry.connection_id,
            "channel": entry.channel,
            "prefetch": entry.prefetch,
            "no_ack": entry.no_ack,
            "exclusive": entry.exclusive,
            "messages_unacknowledged": entry.messages_unacknowledged,
            "delivered_total": entry.delivered_total,
            "priority": entry.priority,
            "active": entry.active.unwrap_or(true),
        })
    };
    Listing { table, json: entries.iter().map(json).collect(), notes: Vec::new() }
}

fn users(entries: &[UserEntry]) -> Listing {
    let mut table = Table::new().text("NAME").text("ADMINISTRATOR").text("VHOSTS").text("LIMITS");
    for entry in entries {
        let vhosts = if entry.administrator { "(all)".to_owned() } else { entry.vhosts.join(" ") };
        let UserLimits { max_connections, max_channels } = entry.limits;
        let limits = limits([("connections", max_connections), ("channels", max_channels)]);
        table.row([entry.name.clone(), yes_or_no(entry.administrator), vhosts, limits]);
    }
    let json = |entry: &UserEntry| {
        json!({
            "name": entry.name,
            "administrator": entry.administrator,
            "vhosts": entry.vhosts,
            "max_connections": entry.limits.max_connections,
            "max_channels": entry.limits.max_channels,
        })
    };
    Listing { table, json: entries.iter().map(json).collect(), notes: Vec::new() }
}

fn vhosts(entries: &[VhostEntry]) -> Listing {
    let mut table = Table::new().text("NAME").number("QUEUES").number("EXCHANGES").text("LIMITS");
    for entry in entries {
        let VhostLimits { max_connections, max_queues, max_bytes } = entry.limits;
        let limits = limits([("connections", max_connections), ("queues", max_queues), ("bytes", max_bytes)]);
        table.row([entry.name.clone(), entry.queues.to_string(), entry.exchanges.to_string(), limits]);
    }
    let json = |entry: &VhostEntry| {
        json!({
            "name": entry.name,
            "queues": entry.queues,
            "exchanges": entry.exchanges,
            "max_connections": entry.limits.max_connections,
            "max_queues": entry.limits.max_queues,
            "max_bytes": entry.limits.max_bytes,
            "quarantine_queue": entry.quarantine_queue,
            "unkept_total": entry.unkept_total,
            "replies_dropped_total": entry.replies_dropped_total,
        })
    };
    let notes = entries.iter().filter_map(quarantine_of_vhost).collect();
    Listing { table, json: entries.iter().map(json).collect(), notes }
}

fn quarantine_of_vhost(entry: &VhostEntry) -> Option<String> {
    let (name, queue) = (&entry.name, entry.quarantine_queue.as_deref()?);
    Some(match entry.unkept_total {
        0 => format!("vhost '{name}': what its exchanges refuse is kept in queue '{queue}'"),
        unkept => format!(
            "vhost '{name}': refused messages of which there is no copy, since there was no quarantine queue '{queue}': {unkept}"
        ),
    })
}

/// Those there are.
fn limits<const N: usize>(limits: [(&str, Option<u64>); N]) -> String {
    let there = limits.into_iter().filter_map(|(name, limit)| Some(format!("{name}={}", limit?)));
    there.collect::<Vec<_>>().join(" ")
}

fn permissions(entries: &[Permissions]) -> Listing {
    let mut table = Table::new().text("USER").text("VHOST").text("CONFIGURE").text("WRITE").text("READ");
    for entry in entries {
        let Permissions { user, vhost, configure, write, read } = entry.clone();
        table.row([user, vhost, configure, write, read]);
    }
    let json = |entry: &Permissions| {
        json!({
            "user": entry.user,
            "vhost": entry.vhost,
            "configure": entry.configure,
            "write": entry.write,
            "read": entry.read,
        })
    };
    Listing { table, json: entries.iter().map(json).collect(), notes: Vec::new() }
}

fn policies(entries: &[Policy]) -> Listing {
    let mut table = Table::new()
        .text("NAME")
        .text("OF")
        .text("PATTERN")
        .text("APPLIES TO")
        .number("PRIORITY")
        .text("DEFINITION");
    for entry in entries {
        let Policy { name, operator, pattern, applies_to, priority, definition } = entry;
        let of = if *operator { "operators" } else { "users" };
        table.row([
            name.clone(),
            of.to_owned(),
            pattern.clone(),
            applies_to.clone(),
            priority.to_string(),
            field::notation(definition),
        ]);
    }
    let json = |entry: &Policy| {
        json!({
            "name": entry.name,
            "operator": entry.operator,
            "pattern": entry.pattern,
            "applies_to": entry.applies_to,
            "priority": entry.priority,
            "definition": field::table_to_json(&entry.definition),
        })
    };
    Listing { table, json: entries.iter().map(json).collect(), notes: Vec::new() }
}

fn topic_permissions(entries: &[TopicPermissions]) -> Listing {
    let mut table = Table::new().text("USER").text("VHOST").text("EXCHANGE").text("WRITE").text("READ");
    for entry in entries {
        let TopicPermissions { user, vhost, exchange, write, read } = entry.clone();
        table.row([user, vhost, exchange, write, read]);
    }
    let json = |entry: &TopicPermissions| {
        json!({
            "user": entry.user,
            "vhost": entry.vhost,
            "exchange": entry.exchange,
            "write": entry.write,
            "read": entry.read,
        })
    };
    Listing { table, json: entries.iter().map(json).collect(), notes: Vec::new() }
}

fn destination(destination: &Destination) -> (&'static str, &str) {
    match destination {
        Destination::Queue(name) => ("queue", name),
        Destination::Exchange(name) => ("exchange", name),
    }
}

fn name_or(name: &str, instead: &str) -> String {
    if name.is_empty() { instead.to_owned() } else { name.to_owned() }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// The words that apply, separated by spaces.
fn features<const N: usize>(words: [(bool, &str); N]) -> String {
    let apply: Vec<&str> = words.into_iter().filter(|(applies, _)| *applies).map(|(_, word)| word).collect();
    apply.join(" ")
}
