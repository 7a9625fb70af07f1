//! One connection to a broker, for the time of a command.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use tokio::runtime::{Builder, Runtime};

use super::did_you_mean;
use super::failure::Failure;
use super::terminal::printable;
use crate::client::{Channel, ConnectError, ConnectOptions, Connection, Event};
use crate::model::NAME_BYTES_MAX;

/// The variable that names a broker where no `--url` does.
pub(super) const URL_VARIABLE: &str = "LEVERET_URL";

/// Which broker.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Broker to talk to: leveret://USER:PASSWORD@HOST:PORT/VHOST; what is left out is guest:guest@127.0.0.1:7672/
    ///
    /// The variable LEVERET_URL is used if this is not given. User, password and vhost are percent-encoded; the vhost
    /// "/" is written as nothing or as a single slash.
    #[arg(long, value_name = "URL", global = true, help_heading = "Broker")]
    pub(crate) url: Option<String>,
}

impl Target {
    /// Where and as whom to connect: from `--url`, else from `LEVERET_URL`, else the defaults.
    pub(crate) fn options(&self) -> Result<ConnectOptions, Failure> {
        let url = match (&self.url, std::env::var_os(URL_VARIABLE)) {
            (Some(url), _) => Some(url.clone()),
            (None, Some(url)) if !url.is_empty() => Some(utf8(url)?),
            (None, _) => None,
        };
        let options = match url {
            Some(url) => url.parse().map_err(crate::client::ConnectError::from)?,
            None => ConnectOptions::default(),
        };
        Ok(options.connection_name(concat!("leveret command ", env!("CARGO_PKG_VERSION"))))
    }
}

fn utf8(url: OsString) -> Result<String, Failure> {
    url.into_string().map_err(|_| Failure::usage(format!("{URL_VARIABLE} is not UTF-8")))
}

/// A broker for a command that stays connected.
#[derive(Debug, Clone, Args)]
pub(crate) struct Link {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Name of the connection, and of the consumer, for people who look at lists
    #[arg(long = "name", id = "link_name", value_name = "NAME", value_parser = name, help_heading = "Broker")]
    pub(crate) name: Option<String>,
    /// How long to go on trying if the broker is not there yet, 0 to 3600; 0: try once
    #[arg(
        long, value_name = "SECONDS", default_value = "5", value_parser = wait, help_heading = "Broker"
    )]
    connect_wait: Duration,
}

fn name(typed: &str) -> Result<String, String> {
    match typed.len() {
        1..=NAME_BYTES_MAX => Ok(typed.to_owned()),
        bytes => Err(format!("expected 1 to {NAME_BYTES_MAX} bytes, got {bytes}")),
    }
}

fn wait(typed: &str) -> Result<Duration, String> {
    let seconds = typed.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| "expected 0 to 3600 seconds".to_owned())
}

/// Longest time to go on trying.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A connection and a channel.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

/// Connects, does the work, says goodbye. The connection is not made again if it breaks: asking once more is easy.
pub(crate) fn once<T>(
    target: &Target,
    work: impl AsyncFnOnce(&Channel) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let options = target.options()?.no_reconnect();
    block_on(async {
        let session = Session::open(options).await?;
        let result = match work(&session.channel).await {
            Ok(result) => result,
            Err(failure) => return Err(did_you_mean::suggest(&session.channel, failure).await),
        };
        // All that was asked is answered. What the command did may be what ends its own connection.
        let _ = session.close().await;
        Ok(result)
    })
}

/// Connects and does work that goes on when the connection breaks and comes back; each time is told on standard error,
/// above the progress bar.
pub(crate) fn lasting<T>(
    link: &Link,
    bar: &ProgressBar,
    work: impl AsyncFnOnce(Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut options = link.target.options()?;
    if let Some(name) = &link.name {
        options = options.connection_name(name);
    }
    block_on(async {
        let connection = connect_patiently(options, link.connect_wait).await?;
        let channel = connection.channel().await?;
        let session = Session { connection: connection.clone(), channel };
        let mut events = session.connection.events();
        let bar = bar.clone();
        let teller = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                bar.suspend(|| tell(&event));
            }
        });
        let result = work(session).await;
        teller.abort();
        let failure = match result {
            Ok(result) => return Ok(result),
            Err(failure) => failure,
        };
        Err(did_you_mean::suggest_over(&connection, failure).await)
    })
}

/// Connects, and goes on trying for a while if the broker is not there, perhaps because it starts just now.
async fn connect_patiently(options: ConnectOptions, wait: Duration) -> Result<Connection, Failure> {
    let began = Instant::now();
    let mut delay = TRY_AGAIN_FIRST;
    let mut is_told = false;
    loop {
        let error = match Connection::connect(options.clone()).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let is_away = match &error {
            ConnectError::Unreachable { .. } | ConnectError::TimedOut { .. } => true,
            ConnectError::Refused(refusal) => refusal.retryable,
            _ => false,
        };
        let left = wait.saturating_sub(began.elapsed());
        let failure = Failure::from(error);
        if !is_away || left.is_zero() {
            return Err(did_you_mean::suggest_vhost(&options, failure).await);
        }
        if !is_told {
            note(&format!("{}; trying for {} s", failure.text(), wait.as_secs_f64()));
            is_told = true;
        }
        tokio::time::sleep(delay.min(left)).await;
        delay = TRY_AGAIN_MAX.min(2 * delay);
    }
}

/// Time before the second attempt to connect for the first time; doubled each time.
const TRY_AGAIN_FIRST: Duration = Duration::from_millis(50);

/// Longest time between two such attempts.
const TRY_AGAIN_MAX: Duration = Duration::from_secs(1);

/// Runs what a command does on a broker.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime()?.block_on(work)
}

impl Session {
    pub(crate) async fn open(options: ConnectOptions) -> Result<Self, Failure> {
        let connection = match Connection::connect(options.clone()).await {
            Ok(connection) => connection,
            Err(error) => return Err(did_you_mean::suggest_vhost(&options, error.into()).await),
        };
        let channel = connection.channel().await?;
        Ok(Self { connection, channel })
    }

    /// Sends what is waiting and says goodbye.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.connection.close().await.map_err(Failure::from)
    }
}

/// One thread beside the command's own drives the connection, so that heartbeats go on while output waits for whoever
/// reads it.
fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start a thread", &error))
}

fn tell(event: &Event) {
    let text = match event {
        Event::Disconnected(reason) => format!("{reason}; connecting again"),
        // The first ones are over in a moment, and the last ones come every few seconds.
        Event::AttemptFailed { attempt, error, .. } if *attempt >= 4 && attempt.is_power_of_two() => {
            format!("still connecting (attempt {attempt}): {error}")
        }
        Event::Reconnected { resent_messages: 0, .. } => "connected again".to_owned(),
        Event::Reconnected { resent_messages, .. } => {
            format!("connected again; unconfirmed messages sent again: {resent_messages}")
        }
        Event::QueueRenamed { old, new } => format!("queue '{old}' is called '{new}' now"),
        Event::ChannelError { refusal, .. } => refusal.to_string(),
        Event::Blocked(blocked) => format!("the broker takes no messages for now: {}", blocked.reason),
        Event::Unblocked => "the broker takes messages again".to_owned(),
        _ => return,
    };
    note(&text);
}

/// Tells people something on standard error, in one piece. Where that is gone there is nobody left to tell.
pub(crate) fn note(text: &str) {
    let _ = std::io::stderr().write_all(format!("leveret: {}\n", printable(text)).as_bytes());
}

/// Tells people who look on that nothing has to happen now.
pub(crate) fn note_waiting() {
    if std::io::stderr().is_terminal() {
        note("waiting for messages; Ctrl-C ends");
    }
}
