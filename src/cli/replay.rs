//! `leveret replay`: messages again that consumers are done with.

use std::io::{IsTerminal, Write};

use clap::Args;
use indicatif::ProgressBar;

use super::browse::{readable, to_json};
use super::clock::moment;
use super::failure::Failure;
use super::journeys::header;
use super::number;
use super::output;
use super::session::{Target, once};
use super::terminal::printable;
use super::transfer::bar_beside;
use crate::client::{BrowsedMessage, Channel, Entity, Replay};
use crate::model::Timestamp;

/// What was typed after `replay`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The queue, or the durable subscription
    what: String,
    /// With a subscription of which each member has a queue: whose
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// Only what came at this time or later: in UTC, as 2026-11-28T09:30:00Z, or how long ago, as 15m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Only what came before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only the newest so many that are retained
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(1, u64::MAX))]
    last: Option<u64>,
    /// Go on behind the message with this sequence, which an earlier replay showed last
    #[arg(long, value_name = "SEQUENCE", value_parser = number::whole::<u64>(0, u64::MAX - 1))]
    after: Option<u64>,
    /// Only messages whose routing key matches this pattern, as in a binding of a topic exchange
    #[arg(long, value_name = "PATTERN")]
    key: Option<String>,
    /// Only messages with this header
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Option<(String, String)>,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(1, u64::MAX))]
    count: Option<u64>,
    /// Write the bodies alone, each with a newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print a JSON object for each message
    #[arg(long)]
    json: bool,
    /// Show all properties of the messages, not only their headers
    #[arg(long)]
    properties: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let bar = bar_beside("replaying");
    let result = once(&arguments.target, async |channel| {
        let queue = queue_of(arguments, channel).await?;
        replay(arguments, channel, &queue, &bar).await
    });
    bar.finish_and_clear();
    result
}

async fn replay(
    arguments: &Arguments,
    channel: &Channel,
    queue: &str,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut replayer = channel.replay(wanted(arguments, queue));
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    let limit = arguments.count.unwrap_or(u64::MAX);
    let mut shown = 0;
    while shown < limit
        && let Some(message) = replayer.next().await
    {
        print(&mut stdout, arguments, &message?)?;
        shown += 1;
        bar.set_length(replayer.messages_retained().min(limit).max(shown));
        bar.set_position(shown);
    }
    if !arguments.raw && !arguments.json {
        let retained = replayer.messages_retained();
        let queue = printable(queue);
        writeln!(stdout, "replayed: {shown}, retained by queue '{queue}': {retained}")?;
    }
    Ok(stdout.flush()?)
}

fn wanted(arguments: &Arguments, queue: &str) -> Replay {
    let mut replay = Replay::of_queue(queue);
    if let Some(time) = arguments.from {
        replay = replay.since(time);
    }
    if let Some(time) = arguments.until {
        replay = replay.until(time);
    }
    if let Some(count) = arguments.last {
        replay = replay.last(count);
    }
    if let Some(sequence) = arguments.after {
        replay = replay.after(sequence);
    }
    if let Some(pattern) = &arguments.key {
        replay = replay.routing_key(pattern);
    }
    if let Some((name, value)) = &arguments.header {
        replay = replay.header(name, value);
    }
    replay
}

fn print(out: &mut impl Write, arguments: &Arguments, message: &BrowsedMessage) -> Result<(), Failure> {
    if arguments.raw && std::io::stdout().is_terminal() {
        for line in String::from_utf8_lossy(&message.body).split('\n') {
            writeln!(out, "{}", printable(line))?;
        }
    } else if arguments.raw {
        out.write_all(&message.body)?;
        out.write_all(b"\n")?;
    } else if arguments.json {
        writeln!(out, "{}", output::json_text(&to_json(message, true)))?;
    } else {
        writeln!(out, "{}", readable(message, true, arguments.properties))?;
    }
    Ok(())
}

/// The queue of that name, or that of the subscription of that name.
async fn queue_of(arguments: &Arguments, channel: &Channel) -> Result<String, Failure> {
    let Arguments { what, member, .. } = arguments;
    if member.is_none() && channel.find_queue(what).await?.is_some() {
        return Ok(what.clone());
    }
    let found = channel.find_subscription(what).await?;
    let named = |entry: &&crate::client::SubscriptionEntry| {
        entry.queue.is_some() && member.as_ref().is_none_or(|member| entry.member == *member)
    };
    let queues: Vec<_> = found.iter().filter(named).collect();
    match queues.as_slice() {
        [entry] => Ok(entry.queue.clone().unwrap_or_default()),
        [] if found.is_empty() => {
            Err(Failure::new(format!("there is no queue and no subscription '{what}'"))
                .for_lack_of(Entity::Queue, what)
                .hint("`leveret list queues` and `leveret subscriptions` show what there is"))
        }
        [] => Err(Failure::new(format!("nobody has joined subscription '{what}' under that name"))
            .hint("`leveret subscriptions` shows who has")),
        entries => {
            let members: Vec<&str> = entries.iter().map(|entry| entry.member.as_str()).collect();
            Err(Failure::usage(format!("each member of subscription '{what}' has a queue: say whose"))
                .hint(format!("--member {}", members.join(", --member "))))
        }
    }
}
