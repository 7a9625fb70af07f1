//! `leveret serve`: the one place that wires the parts of a broker together.

use std::io;
use std::net::SocketAddr;

use clap::Args;

use super::config_flags::ConfigFlags;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::log::Log;
use super::open_files::{allow_open_files, open_files_allowed};
use super::output;
use super::password;
use super::service_manager::{self, State};
use crate::broker::{Broker, BrokerOptions, Password, open};
use crate::config::{Config, Place};
use crate::model::{UserName, in_words};
use crate::protocol::Limits;
use crate::server::{Server, ServerOptions};

/// Files that a broker may have open besides its connections and its logs: sockets, locks, timers.
const FILES_BESIDE: u64 = 64;
/// Files that a log may have open: those it reads and writes, and those that are being made.
const FILES_PER_LOG: u64 = 32;
/// A broker with fewer connections is of no use.
const CONNECTIONS_MIN: u64 = 16;

/// What was typed after `serve`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: ConfigFlags,
    /// Make NAME an administrator before anybody can connect, with the first line of standard input as password
    ///
    /// The way back in when no administrator can log in any more. NAME may be a user that exists or a new one; nothing
    /// else changes.
    #[arg(long, value_name = "NAME")]
    recover_administrator: Option<String>,
}

/// Who is to be let in again.
type Recovered = Option<(UserName, Password)>;

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = arguments.flags.settings()?;
    let config = settings.config();
    let recovered = arguments.recovered()?;
    let log = Log::start(config.log)?;
    if let Some(file) = settings.file() {
        tracing::info!(file = %file.display(), "configuration read");
    }
    serve(config, recovered, &log)
}

impl Arguments {
    fn recovered(&self) -> Result<Recovered, Failure> {
        let Some(name) = &self.recover_administrator else { return Ok(None) };
        let name = UserName::new(name).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Some((name, password::from_stdin()?)))
    }
}

fn serve(config: Config, recovered: Recovered, log: &Log) -> Result<(), Failure> {
    let workers = config.network.worker_threads;
    // One worker is this thread: with a runtime for several there would be nobody to share with, and they would be woken for it.
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start threads", &error))?;
    runtime.spawn(log.tell_what_is_left_out());
    runtime.block_on(run_broker(config, recovered))
}

async fn run_broker(config: Config, recovered: Recovered) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let listen = config.network.listen;
    if let Some(user) = &config.first_user
        && user.everybody_knows()
        && !listen.ip().is_loopback()
    {
        tracing::warn!(%listen, "user 'guest' can log in from this machine only until its password is changed");
    }
    let connections_max = connections_allowed(config.network.connections_max, config.storage.shards)?;
    let mut server_options = ServerOptions { connections_max, ..server_options(&config) };
    let broker = open(broker_options(config)).map_err(|failure| Failure::new(failure.to_string()))?;
    server_options.limits.stored_body_bytes_max = broker.stored_body_bytes_max();
    server_options.limits = server_options.limits.with_room();
    if let Some((name, password)) = recovered {
        tokio::select! {
            recovered = recover_administrator(&broker, name, password) => recovered?,
            () = interrupt.requested() => return stop(&broker).await,
        }
    }
    let server = Server::bind(listen, broker.clone(), server_options)
        .await
        .map_err(|error| cannot_listen(listen, &error))?;
    let address = server.local_address().map_err(|error| cannot_listen(listen, &error))?;
    tracing::info!(%address, durability = ?broker.durability(), "ready");
    output::line(&format!("listening on {address}"))?;
    service_manager::tell(State::Ready);
    let stop_requested = async {
        interrupt.requested().await;
        service_manager::tell(State::Stopping);
    };
    server.run(stop_requested).await;
    stop(&broker).await
}

async fn recover_administrator(broker: &Broker, name: UserName, password: Password) -> Result<(), Failure> {
    let told = name.to_string();
    broker.recover_administrator(name, password).await.map_err(|refusal| Failure::from(&refusal))?;
    tracing::warn!(user = told, "made an administrator with a new password, as --recover-administrator asks");
    Ok(())
}

async fn stop(broker: &Broker) -> Result<(), Failure> {
    tracing::info!("stopping");
    broker.close().await.map_err(|failures| {
        let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        Failure::new("the broker stopped without putting everything on disk").detail(failures.join("; "))
    })?;
    tracing::info!("stopped");
    Ok(())
}

fn server_options(config: &Config) -> ServerOptions {
    let limits = Limits {
        // Bounded by the configuration far below 4 GiB.
        frame_bytes_max: u32::try_from(config.connection.frame_bytes_max).unwrap_or(u32::MAX),
        channel_max: config.connection.channel_max,
        heartbeat_seconds: config.connection.heartbeat_seconds,
        message_bytes_max: config.connection.message_bytes_max as u64,
        // The broker knows it when it is open.
        stored_body_bytes_max: 0,
    };
    ServerOptions {
        limits,
        handshake_ms: config.connection.handshake_ms,
        connections_max: config.network.connections_max,
    }
}

fn broker_options(config: Config) -> BrokerOptions {
    BrokerOptions {
        data: match config.storage.place {
            Place::Memory => None,
            Place::Directory(directory) => Some(directory),
        },
        shards: config.storage.shards,
        shards_are_chosen: config.storage.shards_are_chosen,
        segment_bytes: config.storage.segment_bytes,
        checkpoint_bytes: config.storage.checkpoint_bytes,
        lease_millis: config.connection.consumer_timeout_ms,
        disk_free_bytes_min: config.storage.disk_free_bytes_min,
        resident_bytes_max: usize::try_from(config.storage.cache_bytes_max).unwrap_or(usize::MAX),
        message_bytes_max: config.connection.message_bytes_max,
        publish_bytes_max: config.connection.publish_bytes_max,
        memory_bytes_max: config.storage.memory_bytes_max,
        deliver_bytes_max: config.connection.deliver_bytes_max,
        journey_bytes_max: config.storage.journey_bytes_max,
        journey_disk_bytes_max: config.storage.journey_disk_bytes_max,
        first_user: config.first_user.map(|user| (user.name, user.password)),
    }
}

/// Every connection takes a file descriptor, and many systems allow 1,024 unless a process asks for more. How many
/// connections there may be so that the logs are never short of one.
fn connections_allowed(connections_max: usize, shards: u16) -> Result<usize, Failure> {
    // The catalog has a log, too.
    let beside = FILES_BESIDE + FILES_PER_LOG * (u64::from(shards) + 1);
    let needed = connections_max as u64 + beside;
    let allowed = allow_open_files(needed).unwrap_or_else(|error| {
        tracing::warn!(error = %in_words(&error), "cannot raise the limit of open files");
        open_files_allowed()
    });
    if allowed < beside + CONNECTIONS_MIN {
        let least = beside + CONNECTIONS_MIN;
        let text = format!(
            "this process may have {allowed} files open, and a broker with {shards} shards needs {least}"
        );
        return Err(
            Failure::new(text).hint("raise the limit with `ulimit -n`, or in the service's configuration")
        );
    }
    let connections = usize::try_from(allowed - beside).unwrap_or(usize::MAX).min(connections_max);
    if connections < connections_max {
        tracing::warn!(
            connections,
            connections_max,
            files = allowed,
            "the limit of open files allows fewer connections"
        );
    }
    Ok(connections)
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::io(&format!("cannot listen on {address}"), error);
    match error.kind() {
        io::ErrorKind::AddrInUse => failure
            .hint("another broker may be running there; stop it, or choose another address with --listen"),
        io::ErrorKind::AddrNotAvailable => failure.hint("the address must be one of this machine's"),
        io::ErrorKind::PermissionDenied => failure.hint("ports below 1024 are for the administrator"),
        _ => failure,
    }
}
