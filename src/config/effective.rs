//! The configuration as the program uses it: plain values, grouped by who needs them.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::settings::Settings;
use super::value::Value;
use crate::auth::{DEFAULT_PASSWORD, DEFAULT_USER, Password};
use crate::model::UserName;

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listening.
    pub network: Network,
    /// What each connection may do.
    pub connection: ConnectionLimits,
    /// Keeping messages.
    pub storage: Storage,
    /// Telling what happens.
    pub log: LogOutput,
    /// Whom a broker without users begins with; `None`: nobody.
    pub first_user: Option<FirstUser>,
}

/// Listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Address and port; port 0: any free one.
    pub listen: SocketAddr,
    /// Client connections at a time, 1 to 1,000,000.
    pub connections_max: usize,
    /// Threads that serve connections and queues, 1 to 1,024.
    pub worker_threads: usize,
}

/// What each connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Channels, 1 to 65,535.
    pub channel_max: u32,
    /// Milliseconds to log in, 100 to 600,000.
    pub handshake_ms: u64,
    /// Seconds between signs of life, 0 (none) to 3,600.
    pub heartbeat_seconds: u32,
    /// Milliseconds for which a consumer may keep a message without settling it, a second to ten years; `None`: for ever.
    pub consumer_timeout_ms: Option<u64>,
    /// Largest message body in bytes, 1 KiB to 64 MiB.
    pub message_bytes_max: usize,
    /// Largest frame in bytes: 64 KiB more than the largest message, at least.
    pub frame_bytes_max: usize,
    /// Bytes of messages that came in and are not confirmed yet, 64 KiB to 1 GiB.
    pub publish_bytes_max: usize,
    /// Bytes of deliveries that wait to be sent, 64 KiB to 1 GiB.
    pub deliver_bytes_max: usize,
}

/// Keeping messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Where.
    pub place: Place,
    /// Logs that queues are spread over, 1 to 64.
    pub shards: u16,
    /// Whether that number was asked for.
    pub shards_are_chosen: bool,
    /// Length in bytes at which a shard's log begins a new file, 1 MiB to 128 MiB.
    pub segment_bytes: u64,
    /// Bytes that go into a shard's log between two checkpoints, 1 MiB to 16 GiB.
    pub checkpoint_bytes: u64,
    /// Bytes that are to stay free on the disk, 1 MiB to 1 TiB; 0: as few as there are.
    pub disk_free_bytes_min: u64,
    /// Bytes of recent bodies that each shard keeps in memory.
    pub cache_bytes_max: u64,
    /// Bytes of journeys of messages, of all connections together, 1 MiB to 64 GiB.
    pub journey_bytes_max: usize,
    /// Bytes of them on disk, 1 MiB to 64 GiB; `None`: they are in memory alone.
    pub journey_disk_bytes_max: Option<u64>,
    /// Bytes of bodies, of all shards together, that are nowhere but in memory.
    pub memory_bytes_max: u64,
}

/// Where messages are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere but in memory.
    Memory,
    /// In this directory.
    Directory(PathBuf),
}

/// Telling what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOutput {
    /// How much.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

/// How much to tell; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What may fail soon.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whom a broker without users begins with: an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstUser {
    /// Name.
    pub name: UserName,
    /// Password.
    pub password: Password,
}

impl FirstUser {
    /// Whether this is guest with the password guest.
    pub fn everybody_knows(&self) -> bool {
        self.name.as_str() == DEFAULT_USER && self.password.reveal() == DEFAULT_PASSWORD
    }
}

impl Config {
    pub(crate) fn of(settings: &Settings) -> Self {
        let read = Reader(settings);
        Self {
            network: Network {
                listen: read.address("listen"),
                connections_max: read.number("connections_max"),
                worker_threads: read.number("worker_threads"),
            },
            connection: ConnectionLimits {
                channel_max: read.number("channel_max"),
                handshake_ms: read.number("handshake_ms"),
                heartbeat_seconds: read.number("heartbeat_seconds"),
                consumer_timeout_ms: Some(read.number("consumer_timeout_ms")).filter(|millis| *millis > 0),
                message_bytes_max: read.number("message_bytes_max"),
                frame_bytes_max: read.number("frame_bytes_max"),
                publish_bytes_max: read.number("publish_bytes_max"),
                deliver_bytes_max: read.number("deliver_bytes_max"),
            },
            storage: Storage {
                place: read.place(),
                journey_bytes_max: read.number("journey_bytes_max"),
                journey_disk_bytes_max: read.journey_disk_bytes_max(),
                shards: read.number("shards"),
                shards_are_chosen: read.0.shards_are_chosen,
                segment_bytes: read.number("segment_bytes"),
                checkpoint_bytes: read.number("checkpoint_bytes"),
                disk_free_bytes_min: read.number("disk_free_bytes_min"),
                cache_bytes_max: read.number("cache_bytes_max"),
                memory_bytes_max: read.number("memory_bytes_max"),
            },
            log: LogOutput { level: read.log_level(), format: read.log_format() },
            first_user: read.first_user(),
        }
    }
}

/// Takes values out of settings. That each key has the type asked for here is fixed by its place in `KEYS`.
struct Reader<'a>(&'a Settings);

impl Reader<'_> {
    fn number<T: TryFrom<u64>>(&self, name: &'static str) -> T {
        let (Value::Count(number) | Value::Bytes(number)) = self.0.named(name).value else {
            unreachable!("{name} is a number")
        };
        let Ok(number) = T::try_from(number) else { unreachable!("the bounds of {name} fit its type") };
        number
    }

    fn address(&self, name: &'static str) -> SocketAddr {
        match self.0.named(name).value {
            Value::Address(address) => address,
            _ => unreachable!("{name} is an address"),
        }
    }

    fn word(&self, name: &'static str) -> &'static str {
        match self.0.named(name).value {
            Value::Choice(word) => word,
            _ => unreachable!("{name} is one of several words"),
        }
    }

    fn place(&self) -> Place {
        match (&self.0.named("memory").value, &self.0.named("data").value) {
            (Value::Switch(true), _) => Place::Memory,
            (Value::Switch(false), Value::Directory(path)) => Place::Directory(path.clone()),
            _ => unreachable!("memory is a switch and data a directory"),
        }
    }

    fn journey_disk_bytes_max(&self) -> Option<u64> {
        match self.word("journey_store") {
            "memory" => None,
            "disk" => Some(self.number("journey_disk_bytes_max")),
            other => unreachable!("journey_store has no word {other}"),
        }
    }

    fn log_level(&self) -> LogLevel {
        match self.word("log_level") {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            other => unreachable!("log_level has no word {other}"),
        }
    }

    fn log_format(&self) -> LogFormat {
        match self.word("log_format") {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => unreachable!("log_format has no word {other}"),
        }
    }

    fn first_user(&self) -> Option<FirstUser> {
        let (Value::Name(name), Value::Password(password)) =
            (&self.0.named("default_user").value, &self.0.named("default_password").value)
        else {
            unreachable!("default_user is a name and default_password a password")
        };
        if name.is_empty() {
            return None;
        }
        Some(FirstUser {
            name: UserName::new(name).expect("the length was checked"),
            password: password.clone(),
        })
    }
}
