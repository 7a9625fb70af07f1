//! Opening a broker: lock and read the data directory, start shards and catalog.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use tokio::sync::{Notify, oneshot};

use super::broker::{Broker, BrokerOptions, Gauges, Shared};
use super::catalog::{Catalog, Changes, FIRST_VOLATILE_SHARD};
use super::catalog_checkpoint::CatalogKeeper;
use super::catalog_task::CatalogTask;
use super::record::{Change, Record, Records};
use super::shortage::watch_disk;
use super::vhost::Vhost;
use crate::auth::{KEY_BYTES, LoginCache, SALT_BYTES, hash_password};
use crate::model::{BodySequence, QueueId, ShardId, Timestamp, VhostName};
use crate::shard::{
    Command, DiskGauge, Mailbox, MemoryGauge, Notice, QueueOptions, Shard, ShardHandle, ShardOptions, spawn,
    spawn_out_of_service,
};
use crate::storage::{
    Batch, DataDirectory, DirectLog, DirectLogOptions, MemoryLog, OpenFailure as LogOpenFailure, RealDisk,
    ShardLog,
};

/// Successful logins that are remembered.
const LOGINS_MAX: usize = 10_000;
/// The catalog's folder in the data directory.
const CATALOG_DIRECTORY: &str = "catalog";
/// Room that each durable shard's log keeps for when the disk is full: what is on its way then, and settlements.
const SHARD_RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// The same for the catalog's log.
const CATALOG_RESERVE_BYTES: u64 = 1024 * 1024;
/// The vhost that every broker has.
const DEFAULT_VHOST: &str = "/";

/// Why a broker did not start. Nothing was changed but what recovery mends: a torn end of a log is cut.
#[derive(Debug)]
pub enum OpenFailure {
    /// The data directory cannot be used: locked, of another format, unreadable.
    Directory(String),
    /// A log cannot be opened.
    Log {
        /// "the catalog" or "shard 3".
        what: String,
        /// Why.
        failure: LogOpenFailure,
    },
    /// A password or a key could not be made.
    Security(String),
    /// The catalog could not be written.
    Catalog(String),
}

impl fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(what) | Self::Security(what) => f.write_str(what),
            Self::Log { what, failure } => write!(f, "{what} cannot be recovered: {failure}"),
            Self::Catalog(what) => write!(f, "the catalog cannot be written: {what}"),
        }
    }
}

impl std::error::Error for OpenFailure {}

/// Opens a broker: recovers what is on disk and starts the shards on the current tokio runtime. Blocks while it reads.
///
/// # Errors
/// See [`OpenFailure`].
pub fn open(options: BrokerOptions) -> Result<Broker, OpenFailure> {
    let directory = options.data.as_deref().map(DataDirectory::open).transpose();
    let directory = directory.map_err(|failure| OpenFailure::Directory(failure.to_string()))?;
    let progress = Arc::new(Notify::new());
    let mut catalog = Catalog::default();
    let mut log = open_catalog_log(options.data.as_deref(), &progress, &mut catalog)?;
    catalog.recovered();
    catalog.name_key = getrandom::u64().map_err(|error| no_randomness(&error))?;

    let notices = Arc::new(Mailbox::default());
    let disk = Arc::new(DiskGauge::default());
    let mut shards = match &options.data {
        Some(data) => start_durable_shards(data, &options, &mut catalog, &notices, &disk)?,
        None => BTreeMap::new(),
    };
    complete(&mut catalog, &options, &mut *log)?;
    let memory = Arc::new(MemoryGauge::new(options.memory_bytes_max));
    for number in 0..catalog.volatile_shards() {
        let handle = start_volatile_shard(
            ShardId(FIRST_VOLATILE_SHARD + number),
            &options,
            &catalog,
            &notices,
            &memory,
        );
        shards.insert(handle.id(), handle);
    }

    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| no_randomness(&error))?;
    let commands = Arc::new(Mailbox::default());
    let (stop_catalog, stop) = oneshot::channel();
    let logins = LoginCache::new(key, LOGINS_MAX);
    let shared = Arc::new(Shared::new(
        options,
        shards,
        Gauges { memory, disk: Arc::clone(&disk) },
        Arc::clone(&commands),
        stop_catalog,
        logins,
        directory,
    ));
    catalog.failed_shards.iter().for_each(|(shard, what)| shared.note_fault(*shard, what));
    publish_catalog(&shared, &catalog);
    let keeper = CatalogKeeper::new(log.keeper());
    let shared_too = Arc::clone(&shared);
    let task = CatalogTask {
        catalog,
        log,
        keeper,
        progress,
        commands,
        notices,
        shared: shared_too,
        stop,
        stopped: None,
    };
    tokio::spawn(task.run());
    if let (Some(data), bytes_min @ 1..) = (shared.options.data.clone(), shared.options.disk_free_bytes_min) {
        tokio::spawn(watch_disk(data, bytes_min, Arc::downgrade(&disk)));
    }
    Ok(Broker { shared })
}

fn open_catalog_log(
    data: Option<&Path>,
    progress: &Arc<Notify>,
    catalog: &mut Catalog,
) -> Result<Box<dyn ShardLog>, OpenFailure> {
    let Some(data) = data else { return Ok(Box::new(MemoryLog::new())) };
    let progress = Arc::clone(progress);
    // Shards are made after the catalog: where there are shards, it must be there, too.
    let has_shards = data.join(shard_directory(ShardId(0))).exists();
    let log = DirectLog::open(
        Arc::new(RealDisk),
        &data.join(CATALOG_DIRECTORY),
        DirectLogOptions {
            create_if_missing: !has_shards,
            reserve_bytes: CATALOG_RESERVE_BYTES,
            ..DirectLogOptions::default()
        },
        Arc::new(move || progress.notify_waiters()),
        catalog,
    );
    let log = log.map_err(|failure| OpenFailure::Log { what: "the catalog".to_owned(), failure })?;
    tell_recovery("the catalog", &log);
    Ok(Box::new(log))
}

/// Gives a new broker its vhost, its first user and its number of shards.
fn complete(
    catalog: &mut Catalog,
    options: &BrokerOptions,
    log: &mut dyn ShardLog,
) -> Result<(), OpenFailure> {
    let mut changes = Changes::default();
    if options.data.is_some() && catalog.durable_shards == 0 {
        catalog.durable_shards = options.shards.max(1);
        changes.records.push(Record::from(Change::Shards(catalog.durable_shards.into())));
    } else if options.data.is_some() && catalog.durable_shards != options.shards {
        tracing::warn!(
            configured = options.shards,
            used = catalog.durable_shards,
            "the number of shards of a data directory is fixed when it is made"
        );
    }
    let vhost = VhostName::new(DEFAULT_VHOST).expect("the name is short");
    if catalog.vhosts.is_empty() {
        catalog.put_vhost(&vhost, &mut changes);
    }
    if catalog.users.is_empty()
        && let Some((name, password)) = &options.first_user
    {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| no_randomness(&error))?;
        let hash =
            hash_password(password, &salt).map_err(|error| OpenFailure::Security(error.to_string()))?;
        catalog
            .put_user(name.clone(), Some(hash), true, vec![vhost], &mut changes)
            .map_err(|refusal| OpenFailure::Security(refusal.to_string()))?;
    }
    if changes.records.is_empty() {
        return Ok(());
    }
    let batch = Batch {
        first_body: BodySequence(0),
        bodies: 0,
        operations: changes.records.len() as u32,
        recorded_at: Timestamp::default(),
        payload: vec![Records { records: changes.records }.encode_to_vec().into()],
    };
    // Later batches follow in the same log, so whoever waits for one of them waits for this one too.
    log.propose(batch).map(|_| ()).map_err(|failure| OpenFailure::Catalog(failure.to_string()))
}

/// Starts the durable shards. One whose log is damaged stays out of service, with its fault told, as long as another
/// one works: the damage is in its queues alone.
fn start_durable_shards(
    data: &Path,
    options: &BrokerOptions,
    catalog: &mut Catalog,
    notices: &Arc<Mailbox<Notice>>,
    disk: &Arc<DiskGauge>,
) -> Result<BTreeMap<ShardId, ShardHandle>, OpenFailure> {
    // The catalog tells the number of shards only once all of them are there: from then on one that is missing
    // is a loss, and before that it is a start that was interrupted.
    let is_new = catalog.durable_shards == 0;
    let count = if is_new { options.shards.max(1) } else { catalog.durable_shards };
    let mut shards = BTreeMap::new();
    for id in (0..count).map(ShardId) {
        let handle = match start_durable_shard(id, data, is_new, options, catalog, notices, disk) {
            Err(OpenFailure::Log { what, failure })
                if failure.is_damage() && !is_new && catalog.failed_shards.len() + 1 < usize::from(count) =>
            {
                tracing::error!(
                    shard = %id,
                    queues = queues_on(catalog, id).len(),
                    "{what} cannot be recovered and stays out of service with its queues; the other shards run: {failure}"
                );
                catalog.failed_shards.insert(id, failure.to_string());
                spawn_out_of_service(id)
            }
            started => started?,
        };
        shards.insert(id, handle);
    }
    Ok(shards)
}

fn start_durable_shard(
    id: ShardId,
    data: &Path,
    is_new: bool,
    options: &BrokerOptions,
    catalog: &Catalog,
    notices: &Arc<Mailbox<Notice>>,
    disk: &Arc<DiskGauge>,
) -> Result<ShardHandle, OpenFailure> {
    let mailbox = Arc::new(Mailbox::default());
    let shard_options = shard_options(id, options);
    let mut shard = Shard::new(shard_options, Arc::clone(notices));
    let wake = Arc::clone(&mailbox);
    let log = DirectLog::open(
        Arc::new(RealDisk),
        &data.join(shard_directory(id)),
        DirectLogOptions {
            create_if_missing: is_new,
            segment_bytes: options.segment_bytes,
            reserve_bytes: SHARD_RESERVE_BYTES,
            ..DirectLogOptions::default()
        },
        Arc::new(move || {
            // A shard that has stopped needs no progress.
            let _ = wake.push(Command::LogProgress);
        }),
        &mut shard,
    );
    let what = format!("shard {id}");
    let failed = |failure| OpenFailure::Log { what: what.clone(), failure };
    let log = log.map_err(failed)?;
    tell_recovery(&what, &log);
    shard.watch_disk(Arc::clone(disk));
    shard.start(Box::new(log), &queues_on(catalog, id)).map_err(failed)?;
    Ok(spawn(shard, mailbox))
}

fn start_volatile_shard(
    id: ShardId,
    options: &BrokerOptions,
    catalog: &Catalog,
    notices: &Arc<Mailbox<Notice>>,
    memory: &Arc<MemoryGauge>,
) -> ShardHandle {
    let shard_options = shard_options(id, options);
    let mut shard = Shard::new(shard_options, Arc::clone(notices));
    shard.count_in(Arc::clone(memory));
    let started = shard.start(Box::new(MemoryLog::new()), &queues_on(catalog, id));
    debug_assert!(started.is_ok(), "a log in memory misses nothing");
    spawn(shard, Arc::new(Mailbox::default()))
}

fn shard_options(id: ShardId, options: &BrokerOptions) -> ShardOptions {
    let BrokerOptions { resident_bytes_max, segment_bytes, checkpoint_bytes, .. } = *options;
    ShardOptions { id, resident_bytes_max, segment_bytes, checkpoint_bytes }
}

fn shard_directory(id: ShardId) -> String {
    format!("shard-{id}")
}

/// What a crash cost, if anything; never something that was confirmed.
fn tell_recovery(what: &str, log: &DirectLog) {
    let report = log.recovery();
    tracing::debug!(log = what, batches = report.batches, bytes = report.bytes, "recovered");
    if let Some(cut) = &report.cut {
        tracing::warn!(log = what, %cut, "recovered from a crash");
    }
}

fn queues_on(catalog: &Catalog, shard: ShardId) -> Vec<(QueueId, QueueOptions)> {
    let queues = catalog.vhosts.values().flat_map(|vhost| vhost.queues.values());
    queues
        .filter(|queue| queue.shard == shard)
        .map(|queue| (queue.id, QueueOptions { recoverable: true, auto_delete: queue.auto_delete }))
        .collect()
}

fn publish_catalog(shared: &Shared, catalog: &Catalog) {
    let mut vhosts = shared.vhosts_mut();
    for (name, state) in &catalog.vhosts {
        let vhost = Vhost::new(name.clone());
        vhost.publish_routing(state.table.clone());
        state.queues.values().for_each(|queue| vhost.insert_queue(Arc::clone(queue)));
        vhosts.insert(name.clone(), Arc::new(vhost));
    }
    shared.replace_users(&catalog.users);
}

fn no_randomness(error: &getrandom::Error) -> OpenFailure {
    OpenFailure::Security(format!("the operating system gives no random bytes: {error}"))
}
