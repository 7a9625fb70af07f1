//! What a broker stands on and does not make itself.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::{Clock, Timestamp};
use crate::shard::{RuntimeWorkers, Workers};
use crate::storage::{
    DirectLog, DirectLogOptions, Disk, Machine, OnProgress, OpenFailure, RealDisk, ShardLog,
};

/// Fills bytes with random ones.
pub type Randomness = Arc<dyn Fn(&mut [u8]) -> Result<(), NoRandomness> + Send + Sync>;

/// There are no random bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRandomness {
    /// Why, in the words of who should give them.
    pub cause: String,
}

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operating system gives no random bytes: {}", self.cause)
    }
}

impl Error for NoRandomness {}

/// A log that was opened.
pub struct OpenedLog {
    /// The log.
    pub log: Box<dyn ShardLog>,
    /// What a crash cost, if anything: a sentence each.
    pub told: Vec<String>,
}

/// Opens a log on a disk in a folder. What was recorded goes to the owner before this returns.
pub type OpenLog = Arc<
    dyn Fn(
            Arc<dyn Disk>,
            &Path,
            DirectLogOptions,
            OnProgress,
            &mut dyn Machine,
        ) -> Result<OpenedLog, OpenFailure>
        + Send
        + Sync,
>;

/// Disk, clock, randomness and workers, handed in so that a whole broker runs in a test that decides about all of them.
/// Passwords are salted from the randomness: one that can be guessed is for tests alone.
#[derive(Clone)]
pub struct Platform {
    /// Where logs are, if the broker keeps any. Salts of logs come from it, too.
    pub disk: Arc<dyn Disk>,
    /// The time that is recorded with what happens. It may go back.
    pub clock: Clock,
    /// Salts, keys, and parts of names that the broker gives.
    pub randomness: Randomness,
    /// What would block a task, and the passing of time.
    pub workers: Arc<dyn Workers>,
    /// Logs, and with them who writes them.
    pub open_log: OpenLog,
}

impl Platform {
    /// That of the operating system.
    pub fn of_system() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            clock: Arc::new(system_time),
            randomness: Arc::new(system_randomness),
            workers: Arc::new(RuntimeWorkers),
            open_log: Arc::new(open_direct_log),
        }
    }

    /// That of the operating system with another disk.
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..Self::of_system() }
    }

    pub(super) fn random<const BYTES: usize>(&self) -> Result<[u8; BYTES], NoRandomness> {
        let mut bytes = [0; BYTES];
        (self.randomness)(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Platform")
    }
}

/// A log with a thread of its own that writes it.
fn open_direct_log(
    disk: Arc<dyn Disk>,
    directory: &Path,
    options: DirectLogOptions,
    on_progress: OnProgress,
    owner: &mut dyn Machine,
) -> Result<OpenedLog, OpenFailure> {
    let log = DirectLog::open(disk, directory, options, on_progress, owner)?;
    let told = log.recovery().told();
    Ok(OpenedLog { log: Box::new(log), told })
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

fn system_randomness(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(bytes).map_err(|error| NoRandomness { cause: error.to_string() })
}
