//! One connection to a broker, for the time of a command.

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use indicatif::ProgressBar;
use tokio::runtime::{Builder, Runtime};

use super::failure::Failure;
use crate::client::{Channel, ConnectOptions, Connection, Event};

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
    runtime()?.block_on(async {
        let session = Session::open(options).await?;
        let result = work(&session.channel).await?;
        // All that was asked is answered. What the command did may be what ends its own connection.
        let _ = session.close().await;
        Ok(result)
    })
}

/// Connects and does work that goes on when the connection breaks and comes back; each time is told on standard error,
/// above the progress bar.
pub(crate) fn lasting<T>(
    target: &Target,
    bar: &ProgressBar,
    work: impl AsyncFnOnce(Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let options = target.options()?;
    runtime()?.block_on(async {
        let session = Session::open(options).await?;
        let mut events = session.connection.events();
        let bar = bar.clone();
        let teller = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                bar.suspend(|| tell(&event));
            }
        });
        let result = work(session).await;
        teller.abort();
        result
    })
}

impl Session {
    async fn open(options: ConnectOptions) -> Result<Self, Failure> {
        let connection = Connection::connect(options).await?;
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
        .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))
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
    let _ = std::io::stderr().write_all(format!("leveret: {text}\n").as_bytes());
}
