//! Opening a broker: lock and read the data directory, start shards and catalog.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc::{channel, unbounded_channel};
use tokio::sync::{Notify, oneshot};

use super::broker::{Broker, Gauges, Shared};
use super::catalog::{
    Catalog, CatalogKeeper, CatalogTask, FIRST_VOLATILE_SHARD, Incomplete, NewBroker, Sealings, Surroundings,
    VOLATILE_SHARDS, open_log,
};
use super::dead_letters::carry_dead_letters;
use super::events::{publish_events, wants_events};
use super::journey_keeping::{keep_journeys_on_disk, open_journeys, settle_strays};
use super::options::BrokerOptions;
use super::platform::{NoRandomness, OpenedLog, Platform};
use super::presence::Presence;
use super::shortage::watch_disk;
use super::subscribing::watch_subscriptions;
use super::vhost::Vhost;
use super::vhost_bytes::watch_vhost_bytes;
use crate::auth::{HashError, KEY_BYTES, LoginCache, SALT_BYTES, hash_password};
use crate::journey::Unfinished;
use crate::model::{QueueId, Refusal, ShardId};
use crate::shard::{
    Command, DeadLetterNotices, DepartureNotices, DiskGauge, Mailbox, MemoryGauge, Notice, QueueOptions,
    Shard, ShardHandle, ShardOptions, spawn, spawn_out_of_service,
};
use crate::storage::{
    DataDirectory, DataDirectoryFailure, DirectLogOptions, KnownLog, LogFailure, LogIndex, MemoryLog,
    OpenFailure as LogOpenFailure, ShardLog,
};

/// Successful logins that are remembered.
const LOGINS_MAX: usize = 10_000;
/// Beginning of the names of the shards' folders in the data directory.
pub(super) const SHARD_DIRECTORY_PREFIX: &str = "shard-";
/// Room that each durable shard's log keeps for when the disk is full: what is on its way then, and settlements.
const SHARD_RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// Why a broker did not start. Nothing was changed but what recovery mends: a torn end of a log is cut.
#[derive(Debug)]
pub enum OpenFailure {
    /// The data directory cannot be used: locked, of another format, unreadable.
    Directory(DataDirectoryFailure),
    /// The catalog's log cannot be opened.
    CatalogLog(LogOpenFailure),
    /// A shard's log cannot be opened.
    ShardLog {
        /// Which one's.
        shard: ShardId,
        /// Why.
        failure: LogOpenFailure,
    },
    /// A key or a salt could not be made.
    Randomness(NoRandomness),
    /// The first user's password cannot be hashed.
    Password(HashError),
    /// The first user cannot be made.
    FirstUser(Box<Refusal>),
    /// The catalog could not be written.
    Catalog(LogFailure),
}

impl fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(failure) => failure.fmt(f),
            Self::CatalogLog(failure) => write!(f, "the catalog cannot be recovered: {failure}"),
            Self::ShardLog { shard, failure } => write!(f, "shard {shard} cannot be recovered: {failure}"),
            Self::Randomness(failure) => failure.fmt(f),
            Self::Password(error) => error.fmt(f),
            Self::FirstUser(refusal) => refusal.fmt(f),
            Self::Catalog(failure) => write!(f, "the catalog cannot be written: {failure}"),
        }
    }
}

impl std::error::Error for OpenFailure {}

/// Opens a broker: recovers what is on disk and starts the shards on the current tokio runtime. Blocks while it reads.
///
/// # Errors
/// See [`OpenFailure`].
pub fn open(options: BrokerOptions) -> Result<Broker, OpenFailure> {
    open_on(options, Platform::of_system())
}

/// As [`open`], on any disk, with any clock and source of randomness.
///
/// # Errors
/// As [`open`].
pub fn open_on(options: BrokerOptions, platform: Platform) -> Result<Broker, OpenFailure> {
    let disk = Arc::clone(&platform.disk);
    let directory = options.data.as_deref().map(|data| DataDirectory::open_on(&*disk, data)).transpose();
    let directory = directory.map_err(OpenFailure::Directory)?;
    let progress = Arc::new(Notify::new());
    let mut catalog = Catalog::default();
    let has_shards = match &directory {
        None => false,
        Some(directory) => directory
            .has_log(&*disk, SHARD_DIRECTORY_PREFIX)
            .map_err(|error| OpenFailure::Directory(error.into()))?,
    };
    let opened = open_log(&platform, directory.as_ref(), has_shards, &progress, &mut catalog);
    let OpenedLog { mut log, told } = opened.map_err(OpenFailure::CatalogLog)?;
    tell("the catalog", &told);
    if let (Some(directory), Some(known)) = (&directory, log.known())
        && directory.catalog().is_none()
    {
        let known = KnownLog { end: LogIndex(0), ..known };
        directory.note_catalog(&*disk, known).map_err(|error| OpenFailure::Directory(error.into()))?;
    }

    let mut surroundings = Surroundings {
        name_key: u64::from_ne_bytes(platform.random().map_err(OpenFailure::Randomness)?),
        failed_shards: BTreeMap::new(),
    };
    let notices = Arc::new(Mailbox::default());
    let (dead_letter_notices, dead_letters) = unbounded_channel();
    let (journeys, unfinished) = open_journeys(&platform, &options, directory.as_ref());
    let gauges = Gauges {
        memory: Arc::new(MemoryGauge::new(options.memory_bytes_max)),
        disk: Arc::new(DiskGauge::default()),
        journeys: Arc::new(journeys),
        departures: Arc::default(),
        histories: Arc::default(),
    };
    let (wake, woken) = channel(1);
    let departure_notices = DepartureNotices { board: Arc::clone(&gauges.departures), wake };
    let unfinished = RefCell::new(unfinished);
    let world = World {
        options: &options,
        platform: &platform,
        notices: &notices,
        dead_letter_notices: &dead_letter_notices,
        departure_notices: &departure_notices,
        gauges: &gauges,
        unfinished: &unfinished,
    };
    let mut started = match &directory {
        Some(directory) => start_durable_shards(&world, directory, &catalog, &mut surroundings)?,
        None => StartedShards::default(),
    };
    complete(&mut catalog, &world, started.logs, &mut *log)?;
    settle_strays(&gauges.journeys, &unfinished.borrow(), &catalog, &surroundings, (platform.clock)());
    for number in 0..VOLATILE_SHARDS {
        let id = ShardId(FIRST_VOLATILE_SHARD + number);
        started.handles.insert(id, start_volatile_shard(&world, id));
    }

    let key = platform.random::<KEY_BYTES>().map_err(OpenFailure::Randomness)?;
    let commands = Arc::new(Mailbox::default());
    let (stop_catalog, stop) = oneshot::channel();
    let logins = LoginCache::new(key, LOGINS_MAX);
    let dark = catalog.dark.clone();
    let mut shared = Shared::new(
        options,
        started.handles,
        gauges,
        Arc::clone(&commands),
        stop_catalog,
        logins,
        platform.clone(),
    );
    shared.presence = Arc::new(Presence::new(Arc::clone(&platform.clock), dark.clone()));
    shared.directory = directory;
    shared.stored_body_bytes_max = catalog.body_bytes_max;
    let shared = Arc::new(shared);
    surroundings.failed_shards.iter().for_each(|(shard, what)| shared.note_fault(*shard, what));
    publish_catalog(&shared, &catalog);
    let keeper = CatalogKeeper::new(log.keeper());
    let task = CatalogTask {
        decided: catalog.clone(),
        applied: catalog,
        surroundings,
        sealings: Sealings::default(),
        log,
        failed: None,
        in_doubt: None,
        keeper,
        progress,
        commands,
        notices,
        shared: Arc::clone(&shared),
        stop,
        stopping: None,
    };
    tokio::spawn(task.run());
    if let (Some(data), bytes_min @ 1..) = (shared.options.data.clone(), shared.options.disk_free_bytes_min) {
        let gauge = Arc::downgrade(&shared.gauges.disk);
        tokio::spawn(watch_disk(platform, data, bytes_min, gauge));
    }
    if shared.directory.is_some() && shared.options.journey_disk_bytes_max.is_some() {
        let gauges = &shared.gauges;
        let (journeys, disk) = (Arc::downgrade(&gauges.journeys), Arc::downgrade(&gauges.disk));
        tokio::spawn(keep_journeys_on_disk(shared.platform.clone(), journeys, disk));
    }
    // Only the shards tell of them: with the last one both end.
    drop(dead_letter_notices);
    tokio::spawn(carry_dead_letters(Arc::downgrade(&shared), dead_letters));
    let DepartureNotices { board, .. } = departure_notices;
    tokio::spawn(publish_events(Arc::downgrade(&shared), board, woken));
    tokio::spawn(watch_subscriptions(Arc::downgrade(&shared), dark));
    tokio::spawn(watch_vhost_bytes(Arc::downgrade(&shared)));
    Ok(Broker { shared })
}

/// Gives a new broker its vhost, its first user and its shards.
fn complete(
    catalog: &mut Catalog,
    world: &World<'_>,
    shard_logs: BTreeMap<ShardId, KnownLog>,
    log: &mut dyn ShardLog,
) -> Result<(), OpenFailure> {
    let options = world.options;
    let has_another_number = ![0, options.shards].contains(&catalog.durable_shards);
    if options.data.is_some() && options.shards_are_chosen && has_another_number {
        tracing::warn!(
            configured = options.shards,
            used = catalog.durable_shards,
            "the number of shards of a data directory is fixed when it is made"
        );
    }
    let first_user = match &options.first_user {
        Some((name, password)) if catalog.users.is_empty() => {
            let salt = world.platform.random::<SALT_BYTES>().map_err(OpenFailure::Randomness)?;
            let hash = hash_password(password, &salt);
            Some((name.clone(), hash.map_err(OpenFailure::Password)?))
        }
        _ => None,
    };
    let new = NewBroker {
        durable_shards: options.data.is_some().then_some(options.shards.max(1)),
        shard_logs,
        body_bytes_max: options.message_bytes_max as u64,
        first_user,
    };
    new.complete(catalog, log, (world.platform.clock)()).map_err(|incomplete| match incomplete {
        Incomplete::Refused(refusal) => OpenFailure::FirstUser(Box::new(refusal)),
        Incomplete::Log(failure) => OpenFailure::Catalog(failure),
    })
}

/// What all shards have in common.
struct World<'a> {
    options: &'a BrokerOptions,
    platform: &'a Platform,
    notices: &'a Arc<Mailbox<Notice>>,
    dead_letter_notices: &'a DeadLetterNotices,
    departure_notices: &'a DepartureNotices,
    gauges: &'a Gauges,
    /// Journeys that go on.
    unfinished: &'a RefCell<Unfinished>,
}

impl World<'_> {
    fn spawn(&self, mut shard: Shard, mailbox: Arc<Mailbox<Command>>) -> ShardHandle {
        shard.tell_journeys(Arc::clone(&self.gauges.journeys));
        shard.tell_dead_letters(self.dead_letter_notices.clone());
        shard.note_departures(self.departure_notices.clone());
        let id = shard.id();
        if id.0 < FIRST_VOLATILE_SHARD {
            let of_before = self.unfinished.borrow_mut().take_of_shard(id);
            shard.resume_journeys((self.platform.clock)(), of_before);
        }
        spawn(shard, mailbox, Arc::clone(&self.platform.clock), Arc::clone(&self.platform.workers))
    }
}

#[derive(Default)]
struct StartedShards {
    handles: BTreeMap<ShardId, ShardHandle>,
    /// Which logs they have.
    logs: BTreeMap<ShardId, KnownLog>,
}

/// Starts the durable shards. One whose log is damaged stays out of service, with its fault told, as long as another
/// one works: the damage is in its queues alone.
fn start_durable_shards(
    world: &World<'_>,
    directory: &DataDirectory,
    catalog: &Catalog,
    surroundings: &mut Surroundings,
) -> Result<StartedShards, OpenFailure> {
    // The catalog tells the number of shards only once all of them are there: from then on one that is missing
    // is a loss, and before that it is a start that was interrupted.
    let is_new = catalog.durable_shards == 0;
    let count = if is_new { world.options.shards.max(1) } else { catalog.durable_shards };
    let mut started = StartedShards::default();
    for id in (0..count).map(ShardId) {
        let handle = match start_durable_shard(world, id, directory, is_new, catalog) {
            Err(OpenFailure::ShardLog { failure, .. })
                if failure.is_damage()
                    && !is_new
                    && surroundings.failed_shards.len() + 1 < usize::from(count) =>
            {
                tracing::error!(
                    shard = %id,
                    queues = queues_on(catalog, id).len(),
                    "shard {id} cannot be recovered and stays out of service with its queues; the other shards run: {failure}"
                );
                surroundings.failed_shards.insert(id, failure.to_string());
                spawn_out_of_service(id, Arc::clone(world.notices))
            }
            Err(failure) => return Err(failure),
            Ok((handle, log)) => {
                started.logs.insert(id, log);
                handle
            }
        };
        started.handles.insert(id, handle);
    }
    Ok(started)
}

fn start_durable_shard(
    world: &World<'_>,
    id: ShardId,
    directory: &DataDirectory,
    is_new: bool,
    catalog: &Catalog,
) -> Result<(ShardHandle, KnownLog), OpenFailure> {
    let mailbox = Arc::new(Mailbox::default());
    let mut shard = Shard::new(shard_options(id, world.options), Arc::clone(world.notices));
    let wake = Arc::clone(&mailbox);
    let opened = (world.platform.open_log)(
        Arc::clone(&world.platform.disk),
        &directory.log_directory(&format!("{SHARD_DIRECTORY_PREFIX}{id}")),
        DirectLogOptions {
            create_if_missing: is_new,
            segment_bytes: world.options.segment_bytes,
            reserve_bytes: SHARD_RESERVE_BYTES,
            known: catalog.shard_logs.get(&id).copied(),
            ..DirectLogOptions::default()
        },
        Arc::new(move || {
            // A shard that has stopped needs no progress.
            let _ = wake.push(Command::LogProgress);
        }),
        &mut shard,
    );
    let failed = |failure| OpenFailure::ShardLog { shard: id, failure };
    let OpenedLog { log, told } = opened.map_err(failed)?;
    tell(&format!("shard {id}"), &told);
    let known = log.known();
    shard.watch_disk(Arc::clone(&world.gauges.disk));
    shard.start(log, &queues_on(catalog, id), catalog.last_numbered()).map_err(failed)?;
    let known = known.expect("a log on a disk has an id");
    Ok((world.spawn(shard, mailbox), known))
}

fn start_volatile_shard(world: &World<'_>, id: ShardId) -> ShardHandle {
    let mut shard = Shard::new(shard_options(id, world.options), Arc::clone(world.notices));
    shard.count_in(Arc::clone(&world.gauges.memory));
    let started = shard.start(Box::new(MemoryLog::new()), &[], QueueId(0));
    debug_assert!(started.is_ok(), "a log in memory misses nothing");
    world.spawn(shard, Arc::new(Mailbox::default()))
}

fn shard_options(id: ShardId, options: &BrokerOptions) -> ShardOptions {
    let BrokerOptions { resident_bytes_max, segment_bytes, checkpoint_bytes, lease_millis, .. } = *options;
    ShardOptions { id, resident_bytes_max, segment_bytes, checkpoint_bytes, lease_millis }
}

/// What a crash cost, if anything.
fn tell(log: &str, told: &[String]) {
    told.iter().for_each(|what| tracing::warn!(log, "{what}"));
}

pub(super) fn queues_on(catalog: &Catalog, shard: ShardId) -> Vec<(QueueId, QueueOptions)> {
    let queues = catalog.vhosts.values().flat_map(|vhost| vhost.queues.values());
    queues
        .filter(|queue| queue.shard == shard)
        .map(|queue| (queue.id, QueueOptions { logged: true, ..queue.options() }))
        .collect()
}

fn publish_catalog(shared: &Shared, catalog: &Catalog) {
    let mut vhosts = shared.vhosts_mut();
    for (name, state) in &catalog.vhosts {
        let vhost = Vhost::new(name.clone());
        vhost.publish_routing(state.table.clone());
        state.queues.values().for_each(|queue| vhost.insert_queue(Arc::clone(queue)));
        for (name, subscription) in &state.subscriptions {
            vhost.put_subscription(name, Some(Arc::clone(subscription)));
        }
        vhost.put_journey_rules(state.journey_rules());
        vhost.put_limits(state.limits);
        vhost.put_policies(Arc::clone(&state.policies));
        vhost.put_quarantine(state.quarantine.as_ref());
        vhosts.insert(name.clone(), Arc::new(vhost));
    }
    shared.gauges.departures.want(vhosts.values().any(|vhost| wants_events(&vhost.routing())));
    shared.replace_users(&catalog.users);
}
