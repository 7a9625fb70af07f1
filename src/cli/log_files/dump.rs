//! `leveret log dump`: what the entries of a log say.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::check::cannot_look;
use crate::broker::LoggedChange;
use crate::broker::offline::{CheckFailure, DumpFailure, LoggedBatch, dump};
use crate::cli::clock;
use crate::cli::failure::Failure;
use crate::cli::number;
use crate::cli::output;
use crate::model::{Overflow, QueueId, Timestamp};
use crate::shard::{LoggedMessages, LoggedOperation, QueueOptions};
use crate::storage::{Disk, Logged, RealDisk};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder of one log: catalog, or a shard's
    directory: PathBuf,
    /// Begin with this entry
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::whole::<u64>(0, u64::MAX))]
    from: u64,
    /// Print so many entries at most
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(0, u64::MAX))]
    limit: Option<u64>,
    /// Print the bodies of messages, too
    #[arg(long)]
    bodies: bool,
    /// Print a JSON object for each entry
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (mut printed, mut failed) = (0, None);
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let survey = dump(&disk, &arguments.directory, &mut |logged| {
        if logged.frame.batch.index.0 < arguments.from {
            return true;
        }
        if printed >= limit {
            return false;
        }
        printed += 1;
        let done = match arguments.json {
            true => output::json_line(&to_json(logged, arguments.bodies)),
            false => print(logged, arguments.bodies),
        };
        failed = done.err();
        failed.is_none()
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    let survey = survey.map_err(|failure| match failure {
        DumpFailure::Locked(refused) => cannot_look(&CheckFailure::Locked(refused)),
        DumpFailure::NoLog(ref logs) => {
            let logs = logs.iter().map(|log| log.display().to_string());
            logs.fold(Failure::usage(failure.to_string()), Failure::detail).hint("name the folder of one log")
        }
        DumpFailure::Log(failure) => Failure::new(failure.to_string()),
    })?;
    // What was not read is not said to be damaged.
    match survey.losses.first().filter(|_| printed < limit) {
        None => Ok(()),
        Some(_) => {
            Err(survey.losses.iter().fold(Failure::new("parts of the log are damaged"), |failure, loss| {
                failure.detail(super::words::loss_in_words(loss))
            }))
        }
    }
}

fn print(logged: &LoggedBatch<'_>, bodies: bool) -> Result<(), Failure> {
    let frame = logged.frame;
    let batch = &frame.batch;
    let what = match &frame.what {
        Logged::Batch => {
            format!("batch {}  {}  {} bytes", batch.index, clock::in_words(batch.recorded_at.0), frame.bytes)
        }
        Logged::Vote(node) => format!("before entry {}: vote for node {node}", batch.index),
        Logged::Membership(nodes) => {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            format!("entry {}: the voters are {}", batch.index, nodes.join(", "))
        }
        Logged::Mark => format!("before entry {}: all so far is durable", batch.index),
        Logged::End => format!("before entry {}: end of a merged segment", batch.index),
    };
    output::line(&what)?;
    match &logged.operations {
        Some(Ok(operations)) => {
            operations.iter().try_for_each(|operation| print_operation(operation, bodies))?
        }
        Some(Err(fault)) => output::line(&format!("  cannot be told: {fault}"))?,
        None => {}
    }
    match &logged.changes {
        Some(Ok(changes)) => changes.iter().try_for_each(print_change),
        Some(Err(fault)) => output::line(&format!("  cannot be told: {fault}")),
        None => Ok(()),
    }
}

fn print_change(change: &LoggedChange) -> Result<(), Failure> {
    let mut line = format!("  {}", change.what);
    if !change.name.is_empty() || !change.vhost.is_empty() {
        line += &format!(" '{}'", change.name);
    }
    if !change.vhost.is_empty() {
        line += &format!(" in vhost '{}'", change.vhost);
    }
    let details: Vec<String> = change.details.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !details.is_empty() {
        line += &format!(": {}", details.join(", "));
    }
    output::line(&line)
}

fn print_operation(operation: &LoggedOperation, bodies: bool) -> Result<(), Failure> {
    let line = match operation {
        LoggedOperation::Publish { exchange, routing_key, runs, is_rest } => {
            let what = if *is_rest { "left of a publish" } else { "publish" };
            output::line(&format!("  {what} to exchange '{exchange}' with key '{routing_key}'"))?;
            return runs.iter().try_for_each(|run| print_messages(run, bodies));
        }
        LoggedOperation::Settle { queue, reason, runs } => {
            format!("  queue {queue}: {reason} {}", ranges(runs))
        }
        LoggedOperation::DeadLetter { queue, reason, runs } => {
            format!("  queue {queue}: {reason}, dead letters now {}", ranges(runs))
        }
        LoggedOperation::Requeue { queue, runs } => format!("  queue {queue}: came back {}", ranges(runs)),
        LoggedOperation::Counts { queue, runs } => {
            let runs =
                runs.iter().map(|(first, count, times)| format!("{} {times} times", range(*first, *count)));
            format!("  queue {queue}: came back {}", runs.collect::<Vec<_>>().join(", "))
        }
        LoggedOperation::Mark { queue, sequence } => {
            format!("  queue {queue}: messages below {sequence} may have been delivered")
        }
        LoggedOperation::Forget { queue, sequence } => {
            format!("  queue {queue}: nothing below {sequence} is retained any more")
        }
        LoggedOperation::Declare { queue, options } => {
            format!("  queue {queue} is there{}", in_words(options))
        }
        LoggedOperation::Expire { queues, times } => {
            format!("  queues {}: expire {}", joined(queues), at_times(times))
        }
        LoggedOperation::Delay { queues, times } => {
            format!("  queues {}: held back until {}", joined(queues), at_times(times))
        }
        LoggedOperation::Delete { queue } => format!("  queue {queue} is deleted"),
    };
    output::line(&line)
}

/// What a queue is, each with a comma before it.
fn in_words(options: &QueueOptions) -> String {
    let QueueOptions {
        logged: _,
        auto_delete,
        retention,
        limits,
        dead_letters,
        single_active,
        delivery_limit,
        max_priority,
        retry,
        // No log says it.
        lease_millis: _,
    } = options;
    let goes = if *auto_delete { ", and goes with its last consumer" } else { "" };
    let retains = if retention.is_some() { ", and retains what consumers are done with" } else { "" };
    let is_limited = [limits.messages, limits.bytes, limits.ttl_millis].iter().any(Option::is_some);
    let limited = match limits.overflow {
        _ if !is_limited => "",
        Overflow::DropHead => ", and drops what waits beyond its bounds",
        Overflow::RejectPublish | Overflow::RejectPublishDlx => {
            ", and refuses what would wait beyond its bounds"
        }
    };
    let place = if *dead_letters { ", and has a place for dead letters" } else { "" };
    let one = if *single_active { ", and has a single active consumer" } else { "" };
    let often = match delivery_limit {
        Some(limit) => format!(", and lets messages come back {limit} times"),
        None => String::new(),
    };
    let first = match max_priority {
        Some(highest) => format!(", and knows priorities up to {highest}"),
        None => String::new(),
    };
    let later = if retry.is_some() { ", and holds back what comes back" } else { "" };
    [goes, retains, limited, place, one, &often, &first, later].concat()
}

fn joined(queues: &[QueueId]) -> String {
    let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
    queues.join(", ")
}

fn at_times(times: &[(u64, Timestamp)]) -> String {
    let times = times.iter().map(|(sequence, at)| format!("{sequence} {}", clock::in_words(at.0)));
    times.collect::<Vec<_>>().join(", ")
}

fn print_messages(run: &LoggedMessages, bodies: bool) -> Result<(), Failure> {
    let bytes: u64 = run.messages.iter().map(|(bytes, _)| u64::from(*bytes)).sum();
    output::line(&format!(
        "    messages {} to queues {}: {bytes} bytes",
        range(run.first, run.messages.len() as u64),
        joined(&run.queues)
    ))?;
    if bodies {
        for (sequence, (_, body)) in (run.first..).zip(&run.messages) {
            output::line(&format!("      {sequence}: {}", String::from_utf8_lossy(body)))?;
        }
    }
    Ok(())
}

fn ranges(runs: &[(u64, u64)]) -> String {
    runs.iter().map(|(first, count)| range(*first, *count)).collect::<Vec<_>>().join(", ")
}

fn range(first: u64, count: u64) -> String {
    match count {
        0 => "none".to_owned(),
        1 => first.to_string(),
        _ => format!("{first} to {}", first.saturating_add(count - 1)),
    }
}

fn to_json(logged: &LoggedBatch<'_>, bodies: bool) -> Value {
    let frame = logged.frame;
    let batch = &frame.batch;
    let what = match &frame.what {
        Logged::Batch => json!({ "kind": "batch" }),
        Logged::Vote(node) => json!({ "kind": "vote", "node": node.0 }),
        Logged::Membership(nodes) => {
            json!({ "kind": "membership", "voters": nodes.iter().map(|node| node.0).collect::<Vec<_>>() })
        }
        Logged::Mark => json!({ "kind": "mark" }),
        Logged::End => json!({ "kind": "end" }),
    };
    let mut object = json!({
        "index": batch.index.0,
        "file": frame.file.to_string_lossy(),
        "offset": frame.offset,
        "bytes": frame.bytes,
        "is_replayed": frame.is_replayed,
    });
    merge(&mut object, what);
    if frame.what == Logged::Batch {
        merge(&mut object, json!({ "recorded_at": batch.recorded_at.0, "messages": batch.bodies }));
    }
    match &logged.operations {
        Some(Ok(operations)) => {
            let operations = operations.iter().map(|operation| operation_json(operation, bodies));
            merge(&mut object, json!({ "operations": operations.collect::<Vec<_>>() }));
        }
        Some(Err(fault)) => merge(&mut object, json!({ "fault": fault.to_string() })),
        None => {}
    }
    match &logged.changes {
        Some(Ok(changes)) => {
            let changes = changes.iter().map(|change| {
                let details: serde_json::Map<_, _> =
                    change.details.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
                json!({ "what": change.what, "vhost": change.vhost, "name": change.name, "details": details })
            });
            merge(&mut object, json!({ "changes": changes.collect::<Vec<_>>() }));
        }
        Some(Err(fault)) => merge(&mut object, json!({ "fault": fault.to_string() })),
        None => {}
    }
    object
}

fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn operation_json(operation: &LoggedOperation, bodies: bool) -> Value {
    match operation {
        LoggedOperation::Publish { exchange, routing_key, runs, is_rest } => {
            let runs = runs.iter().map(|run| {
                let sizes: Vec<u32> = run.messages.iter().map(|(bytes, _)| *bytes).collect();
                let queues: Vec<u64> = run.queues.iter().map(|queue| queue.0).collect();
                let mut told = json!({ "first": run.first, "queues": queues, "bytes": sizes });
                if bodies {
                    let texts = run.messages.iter().map(|(_, body)| String::from_utf8_lossy(body));
                    merge(&mut told, json!({ "bodies": texts.collect::<Vec<_>>() }));
                }
                told
            });
            json!({
                "operation": if *is_rest { "kept" } else { "publish" },
                "exchange": exchange,
                "routing_key": routing_key,
                "runs": runs.collect::<Vec<_>>(),
            })
        }
        LoggedOperation::Settle { queue, reason, runs } => {
            json!({ "operation": "settle", "queue": queue.0, "reason": reason, "runs": runs })
        }
        LoggedOperation::DeadLetter { queue, reason, runs } => {
            json!({ "operation": "dead_letter", "queue": queue.0, "reason": reason, "runs": runs })
        }
        LoggedOperation::Requeue { queue, runs } => {
            json!({ "operation": "requeue", "queue": queue.0, "runs": runs })
        }
        LoggedOperation::Counts { queue, runs } => {
            json!({ "operation": "counts", "queue": queue.0, "runs": runs })
        }
        LoggedOperation::Mark { queue, sequence } => {
            json!({ "operation": "mark", "queue": queue.0, "sequence": sequence })
        }
        LoggedOperation::Forget { queue, sequence } => {
            json!({ "operation": "forget", "queue": queue.0, "sequence": sequence })
        }
        LoggedOperation::Declare { queue, options } => {
            let QueueOptions { auto_delete, retention, limits, dead_letters, single_active, .. } = options;
            let retains = retention.map(|bounds| {
                json!({ "ms": bounds.age_millis, "messages": bounds.messages, "bytes": bounds.bytes })
            });
            let retries = options.retry.map(|retry| {
                json!({
                    "type": retry.on.as_str(),
                    "min_ms": retry.min_millis,
                    "max_ms": retry.max_millis,
                    "multiplier": retry.multiplier,
                    "jitter_percent": retry.jitter_percent,
                })
            });
            json!({
                "operation": "declare",
                "queue": queue.0,
                "auto_delete": auto_delete,
                "retains": retains,
                "single_active_consumer": single_active,
                "delivery_limit": options.delivery_limit,
                "max_priority": options.max_priority,
                "retries": retries,
                "limits": {
                    "ms": limits.ttl_millis,
                    "messages": limits.messages,
                    "bytes": limits.bytes,
                    "overflow": limits.overflow.as_str(),
                },
                "dead_letters": dead_letters,
            })
        }
        LoggedOperation::Expire { queues, times } => {
            json!({ "operation": "expire", "queues": numbers(queues), "expires": millis(times) })
        }
        LoggedOperation::Delay { queues, times } => {
            json!({ "operation": "delay", "queues": numbers(queues), "until": millis(times) })
        }
        LoggedOperation::Delete { queue } => json!({ "operation": "delete", "queue": queue.0 }),
    }
}

fn numbers(queues: &[QueueId]) -> Vec<u64> {
    queues.iter().map(|queue| queue.0).collect()
}

fn millis(times: &[(u64, Timestamp)]) -> Vec<(u64, u64)> {
    times.iter().map(|(sequence, at)| (*sequence, at.0)).collect()
}
