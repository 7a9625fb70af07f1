//! `leveret subscriptions` and `leveret unsubscribe`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::clock::{self, ago};
use super::failure::Failure;
use super::field;
use super::if_exists::IfExists;
use super::output;
use super::session::{Target, once};
use super::table::Table;
use super::terminal::Terminal;
use crate::client::{
    Channel, Entity, Sharing, Subscriber, SubscriptionBinding, SubscriptionEntry, SubscriptionFilter,
};
use crate::model::Timestamp;

/// What was typed after `subscriptions`.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Only this one
    name: Option<String>,
    /// Only those with this text in their name, member, an annotation (NAME=VALUE), an exchange or a key that they listen to; given more
    /// than once, all of them
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    find: Vec<String>,
    /// Only those with this annotation; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,
    /// Only those that listen to this exchange; with --key those that get what is published there
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// Only those that hear this: one of their keys or patterns matches it
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only those that nobody consumes from
    #[arg(long)]
    dark: bool,
    /// Only those that nobody has consumed from for so long: seconds, or a number with s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = ago)]
    dark_for: Option<Duration>,
    /// Look twice, a second apart, and show how many messages came in and went out in it
    #[arg(long)]
    rate: bool,
    /// Print a JSON array of objects, with everything that is known of each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

/// What was typed after `unsubscribe`.
#[derive(Debug, Args)]
pub(super) struct UnsubscribeArguments {
    /// The durable subscription, which goes with its queues and what waits in them
    name: String,
    /// Only this member goes, with its queue
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    #[command(flatten)]
    if_exists: IfExists,
    /// Print how many messages went with it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

/// Time between two looks.
const BETWEEN: Duration = Duration::from_secs(1);

/// A subscription's queue, and the messages that came in and went out between two looks.
struct Seen {
    entry: SubscriptionEntry,
    rate: Option<(u64, u64)>,
}

pub(super) fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let seen = once(&arguments.target, async |channel| look(channel, arguments).await)?;
    if arguments.json {
        return output::json_line(&Value::Array(seen.iter().map(to_json).collect()));
    }
    output::text(&table(&seen, arguments.rate, clock::now_ms()).render(Terminal::of_stdout()))
}

async fn look(channel: &Channel, arguments: &ListArguments) -> Result<Vec<Seen>, Failure> {
    let before = if arguments.rate { entries(channel, arguments).await? } else { Vec::new() };
    if arguments.rate {
        tokio::time::sleep(BETWEEN).await;
    }
    let now = entries(channel, arguments).await?;
    let seen = now.into_iter().map(|entry| {
        let former = before.iter().find(|former| former.queue.is_some() && former.queue == entry.queue);
        let rate = former.map(|former| {
            let grown = |now: u64, before: u64| now.saturating_sub(before);
            (
                grown(entry.published_total, former.published_total),
                grown(entry.delivered_total, former.delivered_total),
            )
        });
        Seen { entry, rate }
    });
    Ok(seen.collect())
}

async fn entries(channel: &Channel, arguments: &ListArguments) -> Result<Vec<SubscriptionEntry>, Failure> {
    let filter = filter(arguments);
    if filter != SubscriptionFilter::default() {
        let filter = SubscriptionFilter { name: arguments.name.clone().unwrap_or_default(), ..filter };
        return Ok(channel.find_subscriptions(filter).await?);
    }
    let Some(name) = &arguments.name else { return Ok(channel.list_subscriptions().await?) };
    let found = channel.find_subscription(name).await?;
    match found.is_empty() {
        true => Err(Failure::new(format!("there is no subscription '{name}'"))
            .for_lack_of(Entity::Subscription, name)
            .hint("`leveret subscriptions` shows what there is")),
        false => Ok(found),
    }
}

fn filter(arguments: &ListArguments) -> SubscriptionFilter {
    let ListArguments { find, annotation, exchange, key, dark, dark_for, .. } = arguments;
    SubscriptionFilter {
        name: String::new(),
        texts: find.clone(),
        annotations: annotation.iter().cloned().collect(),
        exchange: exchange.clone().unwrap_or_default(),
        routing_key: key.clone(),
        dark_for: dark_for.or(dark.then_some(Duration::ZERO)),
    }
}

fn annotation(typed: &str) -> Result<(String, String), String> {
    match typed.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

fn table(seen: &[Seen], with_rate: bool, now_ms: u64) -> Table {
    let table = Table::new()
        .text("NAME")
        .text("MEMBER")
        .text("STATE")
        .number("LAG")
        .text("OLDEST")
        .number("UNACKED")
        .text("OLDEST");
    let table = if with_rate { table.number("IN/S").number("OUT/S") } else { table };
    let mut table = table.text("CLIENT").text("LISTENS TO");
    for Seen { entry, rate } in seen {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let head = [
            entry.name.clone(),
            member(entry),
            state(entry, now_ms),
            entry.messages_ready.to_string(),
            age(entry.oldest_ready, now_ms),
            entry.messages_unacknowledged.to_string(),
            age(entry.oldest_unacknowledged, now_ms),
        ];
        let rates = [number(rate.map(|(came, _)| came)), number(rate.map(|(_, went)| went))];
        let tail = [clients(&entry.subscribers, entry.consumers), listens(&entry.bindings)];
        let row = head.into_iter().chain(rates.into_iter().filter(|_| with_rate)).chain(tail);
        table.row_of(row.collect());
    }
    table
}

fn member(entry: &SubscriptionEntry) -> String {
    match (entry.sharing, entry.member.as_str()) {
        (Sharing::Shared, _) => "(shared)".to_owned(),
        (Sharing::Each, "") => "(nobody)".to_owned(),
        (Sharing::Each, member) => member.to_owned(),
    }
}

fn state(entry: &SubscriptionEntry, now_ms: u64) -> String {
    if entry.fault.is_some() {
        return "out of service".to_owned();
    }
    match entry.dark_since {
        Some(since) => format!("dark for {}", in_words(now_ms.saturating_sub(since.0))),
        None if entry.queue.is_none() => "-".to_owned(),
        None => "connected".to_owned(),
    }
}

/// How old the oldest message is; nothing if there is none, or nobody knows.
fn age(oldest: Option<Timestamp>, now_ms: u64) -> String {
    oldest.map(|came| in_words(now_ms.saturating_sub(came.0))).unwrap_or_default()
}

/// How long something lasts, in its largest unit.
fn in_words(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn clients(subscribers: &[Subscriber], consumers: u32) -> String {
    let Some(first) = subscribers.first() else { return String::new() };
    let whom = match first.peer.as_str() {
        "" => format!("connection {}", first.connection_id),
        peer => format!("{peer} (connection {})", first.connection_id),
    };
    match consumers {
        0 | 1 => whom,
        all => format!("{whom} and {} more", all - 1),
    }
}

fn listens(bindings: &[SubscriptionBinding]) -> String {
    let binding = |binding: &SubscriptionBinding| {
        let SubscriptionBinding { exchange, routing_key, arguments } = binding;
        match arguments.is_empty() {
            true => format!("{exchange} {routing_key}"),
            false => format!("{exchange} {routing_key} {}", field::notation(arguments)),
        }
    };
    bindings.iter().map(binding).collect::<Vec<_>>().join(", ")
}

fn to_json(seen: &Seen) -> Value {
    let Seen { entry, rate } = seen;
    let bindings = entry.bindings.iter().map(|binding| {
        json!({
            "exchange": binding.exchange,
            "routing_key": binding.routing_key,
            "arguments": field::table_to_json(&binding.arguments),
        })
    });
    let subscribers = entry.subscribers.iter().map(|subscriber| {
        json!({
            "connection_id": subscriber.connection_id,
            "connection_name": subscriber.connection_name,
            "user": subscriber.user,
            "peer": subscriber.peer,
            "channel": subscriber.channel,
            "tag": subscriber.tag,
            "messages_unacknowledged": subscriber.messages_unacknowledged,
        })
    });
    let mut value = json!({
        "name": entry.name,
        "sharing": entry.sharing.as_str(),
        "member": entry.member,
        "queue": entry.queue,
        "bindings": bindings.collect::<Vec<_>>(),
        "expires_after_ms": entry.expires_after.as_millis() as u64,
        "annotations": entry.annotations,
        "connected": entry.queue.is_some() && entry.dark_since.is_none(),
        "dark_since_ms": entry.dark_since.map(|since| since.0),
        "consumers": entry.consumers,
        "subscribers": subscribers.collect::<Vec<_>>(),
        "messages_ready": entry.messages_ready,
        "messages_unacknowledged": entry.messages_unacknowledged,
        "published_total": entry.published_total,
        "delivered_total": entry.delivered_total,
        "accepted_total": entry.accepted_total,
        "retention": {
            "ms": entry.retention.age.map(|age| age.as_millis() as u64),
            "messages": entry.retention.messages,
            "bytes": entry.retention.bytes,
        },
        "messages_retained": entry.messages_retained,
        "oldest_ready_ms": entry.oldest_ready.map(|at| at.0),
        "oldest_unacknowledged_ms": entry.oldest_unacknowledged.map(|at| at.0),
        "fault": entry.fault,
    });
    if let (Some((came, went)), Value::Object(fields)) = (rate, &mut value) {
        fields.insert("published_per_second".to_owned(), json!(came));
        fields.insert("delivered_per_second".to_owned(), json!(went));
    }
    value
}

pub(super) fn unsubscribe(arguments: &UnsubscribeArguments) -> Result<(), Failure> {
    let UnsubscribeArguments { name, member, if_exists, json, target } = arguments;
    let what = match member {
        None => format!("subscription '{name}'"),
        Some(member) => format!("member '{member}' of subscription '{name}'"),
    };
    let messages = once(target, async |channel| {
        let found = channel.find_subscription(name).await?;
        let is_there = match member {
            None => !found.is_empty(),
            Some(member) => found.iter().any(|entry| entry.queue.is_some() && entry.member == *member),
        };
        let check = if_exists.check(is_there, &what, "subscriptions");
        check.map_err(|failure| failure.for_lack_of(Entity::Subscription, name))?;
        Ok(match member {
            None => channel.unsubscribe(name).await?,
            Some(member) => channel.unsubscribe_member(name, member).await?,
        })
    })?;
    if *json {
        return output::json_line(&json!({ "name": name, "member": member, "messages_ready": messages }));
    }
    output::line(&format!("there is no {what} any more (ready messages gone with it: {messages})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_subscriber_is_dark_is_told_in_its_largest_unit() {
        let check = |millis, expect| assert_eq!(in_words(millis), expect);
        check(999, "0 s");
        check(59_999, "59 s");
        check(60_000, "1 min");
        check(3_599_999, "59 min");
        check(3_600_000, "1 h");
        check(86_399_999, "23 h");
        check(172_800_000, "2 d");
    }
}
