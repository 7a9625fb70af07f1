//! Reports of data directories, for people and for programs.

use serde_json::{Value, json};

use crate::broker::offline::{DataReport, LogReport};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::storage::Loss;

/// All of a report as JSON.
pub(crate) fn to_json(report: &DataReport) -> Value {
    json!({
        "path": report.path.to_string_lossy(),
        "sound": report.is_sound(),
        "logs": report.logs.iter().map(log_to_json).collect::<Vec<_>>(),
    })
}

fn log_to_json(log: &LogReport) -> Value {
    let name_of = |name: &Option<(String, String)>| match name {
        Some((vhost, name)) => json!({ "vhost": vhost, "name": name }),
        None => Value::Null,
    };
    let queues = log.queues.iter().map(
        |queue| json!({ "number": queue.id.0, "queue": name_of(&queue.name), "messages": queue.messages }),
    );
    let lost = log
        .given_up
        .iter()
        .map(|lost| json!({ "number": lost.id.0, "queue": name_of(&lost.name), "messages": lost.messages }));
    let survey = log.survey.as_ref();
    let sums = Sums::of(log);
    let losses = survey.map(|survey| survey.losses.iter().map(loss_to_json).collect::<Vec<_>>());
    let torn = survey.and_then(|survey| survey.torn.as_ref()).map(|cut| {
        json!({ "file": cut.file.to_string_lossy(), "offset": cut.offset, "bytes": cut.bytes, "from": cut.first_lost.0 })
    });
    let checkpoints = survey.map(|survey| {
        let checkpoints = survey.checkpoints.iter().map(|checkpoint| {
            json!({
                "file": checkpoint.path.to_string_lossy(),
                "index": checkpoint.index.0,
                "fault": checkpoint.fault.map(|fault| fault.to_string()),
            })
        });
        checkpoints.collect::<Vec<_>>()
    });
    json!({
        "log": log.name,
        "sound": log.is_sound(),
        "opens": log.refused.is_none(),
        "refused": log.refused.as_ref().map(ToString::to_string),
        "id": survey.and_then(|survey| survey.log_id).map(|id| format!("{id:016x}")),
        "segments": sums.segments,
        "entries": sums.entries,
        "messages_written": sums.bodies,
        "bytes": sums.bytes,
        "end": survey.map(|survey| survey.end.0),
        "checkpoints": checkpoints,
        "torn": torn,
        "damage": losses,
        "leftovers": survey.map(|survey| survey.leftovers),
        "queues": queues.collect::<Vec<_>>(),
        "lost": lost.collect::<Vec<_>>(),
    })
}

fn loss_to_json(loss: &Loss) -> Value {
    json!({
        "file": loss.file.to_string_lossy(),
        "offset": loss.offset,
        "bytes": loss.bytes,
        "entries": [loss.entries.start, loss.entries.end],
        // Nothing behind it says where it ends.
        "sequences": [loss.bodies.start, (loss.bodies.end != u64::MAX).then_some(loss.bodies.end)],
        "why": loss.cause.to_string(),
        "keeps_from_opening": loss.is_replayed,
    })
}

#[derive(Default)]
struct Sums {
    segments: usize,
    entries: u64,
    bodies: u64,
    bytes: u64,
}

impl Sums {
    fn of(log: &LogReport) -> Self {
        let Some(survey) = &log.survey else { return Self::default() };
        let segments = survey.segments.iter();
        segments.fold(Self::default(), |sums, segment| Self {
            segments: sums.segments + 1,
            entries: sums.entries + segment.entries,
            bodies: sums.bodies + segment.bodies,
            bytes: sums.bytes + segment.bytes,
        })
    }
}

/// Prints a report for people.
pub(crate) fn print(report: &DataReport) -> Result<(), Failure> {
    let mut table = Table::new()
        .text("LOG")
        .text("STATE")
        .number("SEGMENTS")
        .number("ENTRIES")
        .number("MESSAGES")
        .number("BYTES")
        .number("END")
        .number("CHECKPOINTS");
    for log in &report.logs {
        let sums = Sums::of(log);
        let state = match (&log.refused, log.given_up.is_empty()) {
            (Some(_), _) => "does not open",
            (None, false) => "lacks messages",
            (None, true) => "sound",
        };
        let held: u64 = log.queues.iter().map(|queue| queue.messages).sum();
        let checkpoints = log.survey.as_ref().map(|survey| {
            let good = survey.checkpoints.iter().filter(|checkpoint| checkpoint.fault.is_none()).count();
            match survey.checkpoints.len() - good {
                0 => good.to_string(),
                bad => format!("{good}, {bad} bad"),
            }
        });
        table.row([
            log.name.clone(),
            state.to_owned(),
            sums.segments.to_string(),
            sums.entries.to_string(),
            held.to_string(),
            sums.bytes.to_string(),
            log.survey.as_ref().map_or(0, |survey| survey.end.0).to_string(),
            checkpoints.unwrap_or_default(),
        ]);
    }
    output::text(&table.render(Terminal::of_stdout()))?;
    report.logs.iter().try_for_each(print_details)
}

fn print_details(log: &LogReport) -> Result<(), Failure> {
    let name = &log.name;
    if let Some(survey) = &log.survey {
        for checkpoint in &survey.checkpoints {
            if let Some(fault) = checkpoint.fault {
                let file = checkpoint.path.display();
                output::line(&format!("{name}: the checkpoint {file} cannot be used: {fault}"))?;
            }
        }
        if let Some(cut) = &survey.torn {
            output::line(&format!(
                "{name}: a start will cut {} bytes at byte {} of {}, from batch {} on ({}): nothing says that they \
                 were confirmed",
                cut.bytes,
                cut.offset,
                cut.file.display(),
                cut.first_lost,
                cut.why
            ))?;
        }
        for loss in &survey.losses {
            output::line(&format!("{name}: {}", loss_in_words(loss)))?;
        }
    }
    for lost in &log.given_up {
        let messages = lost.messages;
        output::line(&format!(
            "{name}: {} lacks {messages} {}",
            queue_in_words(lost.id.0, &lost.name),
            if messages == 1 { "message" } else { "messages" }
        ))?;
    }
    if let Some(refused) = &log.refused {
        output::line(&format!("{name}: a broker does not open it: {refused}"))?;
    }
    Ok(())
}

/// How many of something.
pub(crate) fn counted(count: u64, of: &str) -> String {
    if count == 1 { format!("1 {of}") } else { format!("{count} {of}s") }
}

pub(crate) fn queue_in_words(number: u64, name: &Option<(String, String)>) -> String {
    match name {
        Some((vhost, name)) => format!("queue '{name}' in vhost '{vhost}'"),
        None => format!("queue number {number}"),
    }
}

/// What is lost, where, and what it may have held.
pub(crate) fn loss_in_words(loss: &Loss) -> String {
    let batches = match loss.entries.end.saturating_sub(loss.entries.start) {
        0 => format!("at batch {}", loss.entries.start),
        1 => format!("batch {}", loss.entries.start),
        _ => format!("batches {} to {}", loss.entries.start, loss.entries.end - 1),
    };
    let bodies = match loss.bodies.end.saturating_sub(loss.bodies.start) {
        _ if loss.bodies.end == u64::MAX => ", and nobody knows how many messages".to_owned(),
        0 => String::new(),
        1 => ", with 1 message".to_owned(),
        bodies => format!(", with up to {bodies} messages"),
    };
    let whose = if loss.is_replayed { "" } else { "; it lies before the newest checkpoint" };
    format!(
        "{} at byte {}, {} bytes: {}: {batches}{bodies}{whose}",
        loss.file.display(),
        loss.offset,
        loss.bytes,
        loss.cause
    )
}
