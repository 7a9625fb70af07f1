//! `leveret publish`: one message, or one a line, and what became of each.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::json;

use super::failure::Failure;
use super::field::FIELD_HELP;
use super::interrupt::Interrupt;
use super::line_reader::{self, LineError, LineOptions};
use super::output;
use super::properties::{self, Template};
use super::session::{Link, Session, lasting};
use crate::client::{JourneyNumber, Message, PendingConfirm, Progress, Publisher};

/// What was typed after `publish`.
#[derive(Debug, Args)]
#[command(after_help = FIELD_HELP, group = clap::ArgGroup::new("content").required(true))]
pub(super) struct Arguments {
    /// Exchange to publish to; the default exchange, which leads to the queue named by the key, if none is named
    #[arg(long, value_name = "EXCHANGE", default_value = "", hide_default_value = true)]
    exchange: String,
    /// Routing key
    #[arg(
        long,
        value_name = "KEY",
        required_unless_present = "exchange",
        default_value = "",
        hide_default_value = true
    )]
    key: String,
    /// Publish each line of standard input, without its newline, as a message
    #[arg(long, group = "content")]
    lines: bool,
    /// Publish the content of a file as one message; "-" is standard input
    #[arg(long, value_name = "FILE", group = "content")]
    file: Option<PathBuf>,
    /// The message
    #[arg(group = "content")]
    body: Option<String>,
    /// Print what became of the messages as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    properties: properties::Typed,
    #[command(flatten)]
    pub(super) link: Link,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let properties = arguments.properties.template()?;
    let bar = progress_bar(arguments.lines);
    lasting(&arguments.link, &bar, async |session| publish(arguments, properties, session, &bar).await)
}

async fn publish(
    arguments: &Arguments,
    properties: Template,
    session: Session,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let bytes_max = session.connection.server().message_bytes_max;
    let publisher = session.channel.publisher(&arguments.exchange, &arguments.key).open().await?;

    let work = async {
        let sent = send(arguments, properties, &publisher, bytes_max, interrupt.clone()).await;
        let settled = settle(&publisher, interrupt).await;
        let only = sent?;
        settled?;
        match only {
            Some(only) => Ok(only.await?.journey),
            None => Ok(None),
        }
    };
    let outcome = showing_progress(bar, &publisher, work).await;
    let progress = publisher.progress();
    let made = outcome.as_ref().ok().copied().flatten();
    report(arguments, progress, made)?;
    verdict(progress, outcome.map(|_| ()))?;
    session.close().await
}

/// Sends all there is to send, or as much of it as goes. If that is one message, its confirm is what is returned.
async fn send(
    arguments: &Arguments,
    properties: Template,
    publisher: &Publisher,
    bytes_max: u64,
    mut interrupt: Interrupt,
) -> Result<Option<PendingConfirm>, Failure> {
    if !arguments.lines {
        let body = content(arguments, bytes_max)?;
        let message = Message::new(body);
        let message = match properties.properties() {
            Some(properties) => message.with_properties(properties),
            None => message,
        };
        return Ok(Some(publisher.publish(message).await?));
    }
    let mut batches =
        line_reader::batches(std::io::stdin(), LineOptions { line_bytes_max: bytes_max, properties });
    let send_all = async {
        while let Some(batch) = batches.recv().await {
            publisher.send_batch(&mut batch.map_err(|error| line_failure(&error, bytes_max))?).await?;
        }
        Ok(())
    };
    tokio::select! {
        result = send_all => result.map(|()| None),
        () = interrupt.requested() => Err(Failure::new("interrupted: further lines were not published")),
    }
}

/// Waits for the fate of what was sent; after an interrupt only for a moment.
async fn settle(publisher: &Publisher, mut interrupt: Interrupt) -> Result<(), Failure> {
    let patience = async {
        interrupt.requested().await;
        tokio::time::sleep(SETTLE_AFTER_INTERRUPT).await;
    };
    tokio::select! {
        result = publisher.wait_for_all() => Ok(result?),
        () = patience => Err(Failure::new("interrupted: not all messages were confirmed")),
    }
}

/// How long confirms are waited for when somebody wants the command to stop.
const SETTLE_AFTER_INTERRUPT: Duration = Duration::from_secs(2);

/// The one message that was typed or is in a file.
fn content(arguments: &Arguments, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let Some(path) = &arguments.file else {
        return Ok(arguments.body.clone().unwrap_or_default().into_bytes());
    };
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let cannot = |error| Failure::io(&format!("cannot read {name}"), &error);
    let bytes = if is_stdin {
        read_at_most(std::io::stdin().lock(), bytes_max)
    } else {
        std::fs::File::open(path).and_then(|file| read_at_most(file, bytes_max))
    };
    let bytes = bytes.map_err(cannot)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Failure::new(format!(
            "{name} is larger than the {bytes_max} bytes that this broker takes in a message"
        ))
        .hint("message_bytes_max in the broker's configuration sets this"));
    }
    Ok(bytes)
}

/// One byte more than allowed is enough to know that there is too much.
fn read_at_most(input: impl Read, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn line_failure(error: &LineError, bytes_max: u64) -> Failure {
    match error {
        LineError::TooLong { line } => Failure::new(format!(
            "line {line} is longer than the {bytes_max} bytes that this broker takes in a message"
        ))
        .hint("the lines before it were published, this one and those after it were not"),
        LineError::Message { line, error } => {
            Failure::new(format!("line {line} cannot be published: {error}"))
                .hint("the lines before it were published, this one and those after it were not")
        }
        LineError::Io(error) => Failure::io("cannot read standard input", error),
    }
}

fn progress_bar(wanted: bool) -> ProgressBar {
    if !wanted || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} confirmed  {rate}  {elapsed}")
        .expect("the template is well-formed")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.0}/s", state.per_sec());
        });
    ProgressBar::new_spinner().with_style(style)
}

/// Times between two looks at the progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

async fn showing_progress<T>(bar: &ProgressBar, publisher: &Publisher, work: impl Future<Output = T>) -> T {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let mut work = std::pin::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            _ = ticks.tick(), if !bar.is_hidden() => bar.set_position(confirmed(publisher.progress())),
        }
    };
    bar.finish_and_clear();
    result
}

fn confirmed(progress: Progress) -> u64 {
    progress.settled - progress.refused - progress.returned
}

/// `made`: the id that the broker made for the only message, if its journey is kept.
fn report(arguments: &Arguments, progress: Progress, made: Option<JourneyNumber>) -> Result<(), Failure> {
    let (published, confirmed) = (progress.published, confirmed(progress));
    let unknown = published - progress.settled;
    let level = progress.level.filter(|_| confirmed > 0);
    if arguments.json {
        return output::json_line(&json!({
            "published": published,
            "confirmed": confirmed,
            "durability": level.map(|level| level.as_str()),
            "returned": progress.returned,
            "refused": progress.refused,
            "unknown": unknown,
            "id": made.map(|id| id.to_string()),
        }));
    }
    let level = level.map_or(String::new(), |level| format!(" ({level})"));
    let mut text = format!(
        "confirmed: {confirmed}{level}, returned: {}, refused: {}",
        progress.returned, progress.refused
    );
    if unknown > 0 {
        text.push_str(&format!(", unknown: {unknown}"));
    }
    // Who has named a message asks by that name.
    if let Some(id) = made.filter(|_| !arguments.properties.has_message_id()) {
        text.push_str(&format!(", id: {id}"));
    }
    output::line(&text)
}

/// Whether all that was asked was done.
fn verdict(progress: Progress, outcome: Result<(), Failure>) -> Result<(), Failure> {
    outcome?;
    let (published, confirmed) = (progress.published, confirmed(progress));
    if confirmed < published {
        return Err(Failure::new(format!(
            "{} of {published} messages were not confirmed",
            published - confirmed
        )));
    }
    Ok(())
}
