//! The list of everything that can be configured.

use std::fmt;

use super::value::readable_bytes;
use crate::model::{CONSUMER_TIMEOUT_MS_MIN, MILLIS_MAX};

/// Something that can be configured.
#[derive(Debug)]
pub struct Key {
    /// Its name in a file.
    pub name: &'static str,
    /// Its name in the environment.
    pub variable: &'static str,
    /// Its flag without the dashes; `None` for what must not stand on a command line, where everybody can read it.
    pub flag: Option<&'static str>,
    /// What belongs together in listings.
    pub group: Group,
    /// What it means, in sentences for people.
    pub meaning: &'static str,
    /// The default, as it would be typed.
    pub default: &'static str,
    /// Which values it takes.
    pub allowed: Allowed,
}

/// What belongs together in listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Listening and talking.
    Network,
    /// Keeping messages.
    Storage,
    /// Bounds that keep one client, or all of them, from taking all memory.
    Memory,
    /// Telling what happens.
    Log,
    /// Who may log in to a broker that knows nobody yet.
    FirstUser,
}

/// All groups in the order of listings.
pub const GROUPS: [Group; 5] = [Group::Network, Group::Storage, Group::Memory, Group::Log, Group::FirstUser];

impl Group {
    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Network => "Network",
            Self::Storage => "Storage",
            Self::Memory => "Memory",
            Self::Log => "Log",
            Self::FirstUser => "First user",
        }
    }
}

/// Which values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// An IP address with a port.
    Address,
    /// A directory.
    Directory,
    /// True or false.
    Switch,
    /// A whole number.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// What 0 stands for, if it is allowed besides.
        zero: Option<&'static str>,
    },
    /// A number of bytes, perhaps with a unit.
    Bytes {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// What 0 stands for, if it is allowed besides.
        zero: Option<&'static str>,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A name.
    Name {
        /// What "" stands for.
        empty: &'static str,
    },
    /// A password.
    Password,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => {
                f.write_str("an IP address and a port, for instance 127.0.0.1:7672 or [::]:7672")
            }
            Self::Directory => f.write_str("the path of a directory"),
            Self::Switch => f.write_str("true or false"),
            Self::Count { min, max, zero } => {
                write!(f, "a number from {min} to {max}")?;
                zero.map_or(Ok(()), |zero| write!(f, ", or 0: {zero}"))
            }
            Self::Bytes { min, max, zero } => {
                write!(f, "a size from {} to {}", readable_bytes(*min), readable_bytes(*max))?;
                zero.map_or(Ok(()), |zero| write!(f, ", or 0: {zero}"))
            }
            Self::Choice(words) => f.write_str(&words.join(", ")),
            Self::Name { empty } => {
                write!(f, "a name of 255 bytes at most, without control characters, or \"\": {empty}")
            }
            Self::Password => f.write_str("a password of 1 to 1024 bytes without control characters"),
        }
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Everything that can be configured, in the order of listings.
pub static KEYS: [Key; 26] = [
    Key {
        name: "listen",
        variable: "LEVERET_LISTEN",
        flag: Some("listen"),
        group: Group::Network,
        meaning: "Address and port to listen on. Port 0 takes any free port; the ready line names it.",
        default: "127.0.0.1:7672",
        allowed: Allowed::Address,
    },
    Key {
        name: "connections_max",
        variable: "LEVERET_CONNECTIONS_MAX",
        flag: Some("connections-max"),
        group: Group::Network,
        meaning: "Client connections at a time. Further ones are refused with a reason.",
        default: "65536",
        allowed: Allowed::Count { min: 1, max: 1_000_000, zero: None },
    },
    Key {
        name: "channel_max",
        variable: "LEVERET_CHANNEL_MAX",
        flag: Some("channel-max"),
        group: Group::Network,
        meaning: "Channels of one connection.",
        default: "2047",
        allowed: Allowed::Count { min: 1, max: 65_535, zero: None },
    },
    Key {
        name: "handshake_ms",
        variable: "LEVERET_HANDSHAKE_MS",
        flag: Some("handshake-ms"),
        group: Group::Network,
        meaning: "Milliseconds a new connection has to log in.",
        default: "10000",
        allowed: Allowed::Count { min: 100, max: 600_000, zero: None },
    },
    Key {
        name: "heartbeat_seconds",
        variable: "LEVERET_HEARTBEAT_SECONDS",
        flag: Some("heartbeat-seconds"),
        group: Group::Network,
        meaning: "Seconds between signs of life on a connection; two missed ones end it. A client may ask for less.",
        default: "60",
        allowed: Allowed::Count { min: 1, max: 3600, zero: Some("no heartbeats") },
    },
    Key {
        name: "consumer_timeout_ms",
        variable: "LEVERET_CONSUMER_TIMEOUT_MS",
        flag: Some("consumer-timeout-ms"),
        group: Group::Network,
        meaning: "Milliseconds for which a consumer may keep a message without settling it or asking for more time, where \
                  the queue's x-consumer-timeout does not say otherwise.",
        default: "1800000",
        allowed: Allowed::Count {
            min: CONSUMER_TIMEOUT_MS_MIN,
            max: MILLIS_MAX,
            zero: Some("as long as it likes"),
        },
    },
    Key {
        name: "message_bytes_max",
        variable: "LEVERET_MESSAGE_BYTES_MAX",
        flag: Some("message-bytes-max"),
        group: Group::Network,
        meaning: "Largest message body. Larger ones are refused; those that are stored already are delivered.",
        default: "16 MiB",
        // A batch of a log has room for it, and for the batch that was begun before.
        allowed: Allowed::Bytes { min: KIB, max: 64 * MIB, zero: None },
    },
    Key {
        name: "frame_bytes_max",
        variable: "LEVERET_FRAME_BYTES_MAX",
        flag: Some("frame-bytes-max"),
        group: Group::Network,
        meaning: "Largest frame. A message with its properties must fit into one: at least 64 KiB more than \
                  message_bytes_max. It is larger where larger messages were allowed before.",
        default: "0",
        allowed: Allowed::Bytes { min: 1088 * KIB, max: GIB, zero: Some("message_bytes_max and 64 KiB") },
    },
    Key {
        name: "worker_threads",
        variable: "LEVERET_WORKER_THREADS",
        flag: Some("worker-threads"),
        group: Group::Network,
        meaning: "Threads that serve connections and queues. The logs have threads of their own besides.",
        default: "0",
        allowed: Allowed::Count {
            min: 1,
            max: 1024,
            zero: Some("one fewer than there are cores, and at least 1"),
        },
    },
    Key {
        name: "data",
        variable: "LEVERET_DATA",
        flag: Some("data"),
        group: Group::Storage,
        meaning: "Directory that holds messages, queues, exchanges and users. Made if it is not there.",
        default: "./leveret-data",
        allowed: Allowed::Directory,
    },
    Key {
        name: "memory",
        variable: "LEVERET_MEMORY",
        flag: Some("memory"),
        group: Group::Storage,
        meaning: "Keep everything in memory and nothing on disk: all is gone when the broker stops. Of memory and \
                  data the one set in the later layer counts; in the same layer memory = true does.",
        default: "false",
        allowed: Allowed::Switch,
    },
    Key {
        name: "shards",
        variable: "LEVERET_SHARDS",
        flag: Some("shards"),
        group: Group::Storage,
        meaning: "Logs that queues are spread over, each with a thread of its own.",
        default: "0",
        allowed: Allowed::Count { min: 1, max: 64, zero: Some("one a worker thread, 8 at most") },
    },
    Key {
        name: "segment_bytes",
        variable: "LEVERET_SEGMENT_BYTES",
        flag: Some("segment-bytes"),
        group: Group::Storage,
        meaning: "Length at which a shard's log begins a new file. Space comes back in whole files.",
        default: "64 MiB",
        allowed: Allowed::Bytes { min: MIB, max: 128 * MIB, zero: None },
    },
    Key {
        name: "checkpoint_bytes",
        variable: "LEVERET_CHECKPOINT_BYTES",
        flag: Some("checkpoint-bytes"),
        group: Group::Storage,
        meaning: "A shard makes a checkpoint each time that so much went into its log. A start after a crash reads \
                  little more than that.",
        default: "256 MiB",
        allowed: Allowed::Bytes { min: MIB, max: 16 * GIB, zero: None },
    },
    Key {
        name: "disk_free_bytes_min",
        variable: "LEVERET_DISK_FREE_BYTES_MIN",
        flag: Some("disk-free-bytes-min"),
        group: Group::Storage,
        meaning: "Publishers of durable messages wait while less than this is free where the data is, until a quarter more is.",
        default: "256 MiB",
        allowed: Allowed::Bytes {
            min: MIB,
            max: 1024 * GIB,
            zero: Some("they wait only when the disk is full"),
        },
    },
    Key {
        name: "journey_store",
        variable: "LEVERET_JOURNEY_STORE",
        flag: Some("journey-store"),
        group: Group::Storage,
        meaning: "Where journeys of messages are kept (`leveret journeys on`): in memory, where they are gone when the \
                  broker stops, or in the data directory, too. Nobody waits for that disk.",
        default: "memory",
        allowed: Allowed::Choice(&["memory", "disk"]),
    },
    Key {
        name: "journey_disk_bytes_max",
        variable: "LEVERET_JOURNEY_DISK_BYTES_MAX",
        flag: Some("journey-disk-bytes-max"),
        group: Group::Storage,
        meaning: "What journeys may take on disk. Beyond it the oldest go. A start reads all of them.",
        default: "256 MiB",
        allowed: Allowed::Bytes { min: MIB, max: 64 * GIB, zero: None },
    },
    Key {
        name: "cache_bytes_max",
        variable: "LEVERET_CACHE_BYTES_MAX",
        flag: Some("cache-bytes-max"),
        group: Group::Memory,
        meaning: "Recent message bodies that each shard keeps in memory, so that consumers that keep up need no disk.",
        default: "32 MiB",
        allowed: Allowed::Bytes { min: MIB, max: 64 * GIB, zero: None },
    },
    Key {
        name: "memory_bytes_max",
        variable: "LEVERET_MEMORY_BYTES_MAX",
        flag: Some("memory-bytes-max"),
        group: Group::Memory,
        meaning: "Message bodies that are nowhere but in memory (transient queues, or all of them with memory = true). \
                  Beyond it publishers wait.",
        default: "0",
        allowed: Allowed::Bytes {
            min: 16 * MIB,
            max: 16 * 1024 * GIB,
            zero: Some("40 % of the machine's memory"),
        },
    },
    Key {
        name: "publish_bytes_max",
        variable: "LEVERET_PUBLISH_BYTES_MAX",
        flag: Some("publish-bytes-max"),
        group: Group::Memory,
        meaning: "Messages of one connection that came in and are not confirmed yet. Beyond it the broker reads no \
                  further from that connection. One message may exceed it.",
        default: "16 MiB",
        allowed: Allowed::Bytes { min: 64 * KIB, max: GIB, zero: None },
    },
    Key {
        name: "deliver_bytes_max",
        variable: "LEVERET_DELIVER_BYTES_MAX",
        flag: Some("deliver-bytes-max"),
        group: Group::Memory,
        meaning: "Deliveries of one connection that wait to be sent. Beyond it its consumers get nothing more until \
                  the client has read. One message may exceed it.",
        default: "4 MiB",
        allowed: Allowed::Bytes { min: 64 * KIB, max: GIB, zero: None },
    },
    Key {
        name: "journey_bytes_max",
        variable: "LEVERET_JOURNEY_BYTES_MAX",
        flag: Some("journey-bytes-max"),
        group: Group::Memory,
        meaning: "What journeys of messages may take in memory (`leveret journeys on`). Beyond it the oldest go.",
        default: "64 MiB",
        allowed: Allowed::Bytes { min: MIB, max: 64 * GIB, zero: None },
    },
    Key {
        name: "log_level",
        variable: "LEVERET_LOG_LEVEL",
        flag: Some("log-level"),
        group: Group::Log,
        meaning: "How much to tell on standard error.",
        default: "info",
        allowed: Allowed::Choice(&["error", "warn", "info", "debug", "trace"]),
    },
    Key {
        name: "log_format",
        variable: "LEVERET_LOG_FORMAT",
        flag: Some("log-format"),
        group: Group::Log,
        meaning: "Lines for people, or one JSON object a line for programs.",
        default: "text",
        allowed: Allowed::Choice(&["text", "json"]),
    },
    Key {
        name: "default_user",
        variable: "LEVERET_DEFAULT_USER",
        flag: Some("default-user"),
        group: Group::FirstUser,
        meaning: "Administrator that a broker without users begins with. Has no effect once there are users.",
        default: "guest",
        allowed: Allowed::Name { empty: "none is made" },
    },
    Key {
        name: "default_password",
        variable: "LEVERET_DEFAULT_PASSWORD",
        flag: None,
        group: Group::FirstUser,
        meaning: "The password of default_user. The user guest with the password guest may log in from the broker's \
                  own machine only.",
        default: "guest",
        allowed: Allowed::Password,
    },
];

impl Key {
    /// The key of this name in a file.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The key of this environment variable.
    pub(crate) fn of_variable(variable: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.variable == variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_name_in_three_spellings() {
        for key in &KEYS {
            assert_eq!(key.variable, format!("LEVERET_{}", key.name.to_uppercase()));
            if let Some(flag) = key.flag {
                assert_eq!(flag, key.name.replace('_', "-"));
            }
            assert!(key.meaning.ends_with('.'), "{}", key.name);
        }
    }

    #[test]
    fn keys_of_a_group_stand_together_in_the_order_of_groups() {
        let groups: Vec<Group> = KEYS.iter().map(|key| key.group).collect();
        let mut seen = groups.clone();
        seen.dedup();
        assert_eq!(seen, GROUPS);
    }
}
