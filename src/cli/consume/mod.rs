//! `leveret consume`: messages as they come.
//!
//! Owns what is done with deliveries: `print.rs` writes them out, `work.rs` runs a command for each. Must never accept a
//! message before that is done. Start reading at `Taking`, which `subscribe` shares.

mod environment;
mod job;
mod print;
mod retry;
mod settling;
mod work;

use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use self::work::Exec;
use super::failure::Failure;
use super::number;
use super::session::{Link, Session, lasting};

/// What was typed after `consume`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The queue
    queue: String,
    #[command(flatten)]
    taking: Taking,
    #[command(flatten)]
    pub(super) link: Link,
}

/// How messages are taken, and what becomes of them.
#[derive(Debug, Args)]
pub(super) struct Taking {
    /// Stop after so many messages; the exit status is 0 only if so many came
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(1, u64::MAX))]
    count: Option<u64>,
    /// Stop when nothing came for so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_exit: Option<Duration>,
    /// Messages count as accepted when the broker sends them: what is under way is lost if this command is stopped
    ///
    /// With --count they are accepted once they are written, all the same: the broker would otherwise send, and lose,
    /// more of them than were asked for.
    #[arg(long)]
    no_ack: bool,
    /// Write bodies alone, each with a newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print each message as JSON, one a line
    #[arg(long)]
    json: bool,
    /// Show all properties of messages, not only their headers
    #[arg(long)]
    properties: bool,
    /// Show when each message came here
    #[arg(long)]
    time: bool,
    /// Messages that may be under way and not accepted; 0: as many as fit into the buffer [default: 250, with --exec
    /// as many as there are jobs]
    #[arg(long, value_name = "N", value_parser = number::whole::<u32>(0, u64::from(u32::MAX)))]
    prefetch: Option<u32>,
    /// Come before consumers of a lower priority: they get messages while those of a higher have as many as they take
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::signed)]
    priority: i32,
    #[command(flatten)]
    exec: Exec,
}

fn seconds(typed: &str) -> Result<Duration, String> {
    let seconds: f64 = typed.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| (Duration::from_millis(1)..=IDLE_MAX).contains(time))
        .ok_or_else(|| "expected 0.001 to 86400 seconds".to_owned())
}

/// Longest time to wait for a message, when there is a limit.
const IDLE_MAX: Duration = Duration::from_secs(86_400);

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { queue, taking, link } = arguments;
    lasting(link, &ProgressBar::hidden(), async |session| take(taking, link, session, queue).await)
}

/// Takes messages of a queue until something ends it.
pub(super) async fn take(taking: &Taking, link: &Link, session: Session, queue: &str) -> Result<(), Failure> {
    match taking.exec.command() {
        Some(command) => work::work(taking, command, link, session, queue).await,
        None => print::print(taking, link.name.as_deref(), session, queue).await,
    }
}
