//! What a broker needs to know, and whoever starts it decides.

use std::path::PathBuf;

use crate::auth::Password;
use crate::model::UserName;

/// What a broker needs to know.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Where to keep everything; `None`: nowhere but in memory.
    pub data: Option<PathBuf>,
    /// Durable shards of a new data directory. One that exists keeps its number.
    pub shards: u16,
    /// Whether that number was asked for: then one is told where a data directory has another.
    pub shards_are_chosen: bool,
    /// Length in bytes at which a durable shard's log begins a new file.
    pub segment_bytes: u64,
    /// Bytes that go into a durable shard's log between two checkpoints: a start reads little more.
    pub checkpoint_bytes: u64,
    /// Who has a message for so many milliseconds without settling it loses it, where its queue does not say another time; `None`:
    /// nobody does.
    pub lease_millis: Option<u64>,
    /// Bytes of recent messages that each durable shard keeps in memory.
    pub resident_bytes_max: usize,
    /// Largest message body in bytes.
    pub message_bytes_max: usize,
    /// Bytes of messages that one connection may have under way, published and not yet taken by all their queues.
    pub publish_bytes_max: usize,
    /// Bytes of messages that are nowhere but in memory, of all connections together; publishers wait beyond.
    pub memory_bytes_max: u64,
    /// Bytes that are to stay free on the disk: with less, publishers of durable messages wait; 0: they wait only when the
    /// disk is full.
    pub disk_free_bytes_min: u64,
    /// Bytes of deliveries that may wait for one connection's socket.
    pub deliver_bytes_max: usize,
    /// Bytes that journeys of messages may take in memory.
    pub journey_bytes_max: usize,
    /// Bytes that they may take in the data directory, so that they survive a restart; `None`: they are in memory alone.
    pub journey_disk_bytes_max: Option<u64>,
    /// The administrator that a broker without users begins with.
    pub first_user: Option<(UserName, Password)>,
}
