//! Opening the catalog's log, and what a new broker begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::catalog::{Catalog, Changed};
use super::entry::Entry;
use super::task::batch;
use crate::auth::PasswordHash;
use crate::broker::platform::{OpenedLog, Platform};
use crate::model::{MESSAGE_BYTES_MAX, Refusal, ShardId, Timestamp, UserName, VhostName};
use crate::storage::{
    DataDirectory, DirectLogOptions, KnownLog, LogFailure, MemoryLog, OpenFailure, ShardLog,
};

/// The catalog's folder in the data directory.
pub(in crate::broker) const CATALOG_DIRECTORY: &str = "catalog";
/// Room that its log keeps for when the disk is full.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// The vhost that every broker has.
const DEFAULT_VHOST: &str = "/";

/// Opens the log and makes of `catalog` what it says. `has_shards`: the data directory is not a new one.
pub(in crate::broker) fn open_log(
    platform: &Platform,
    directory: Option<&DataDirectory>,
    has_shards: bool,
    progress: &Arc<Notify>,
    catalog: &mut Catalog,
) -> Result<OpenedLog, OpenFailure> {
    let Some(directory) = directory else {
        return Ok(OpenedLog { log: Box::new(MemoryLog::new()), told: Vec::new() });
    };
    let progress = Arc::clone(progress);
    let known = directory.catalog();
    (platform.open_log)(
        Arc::clone(&platform.disk),
        &directory.log_directory(CATALOG_DIRECTORY),
        DirectLogOptions {
            // Shards are made after the catalog: where there are shards, it must be there, too.
            create_if_missing: known.is_none() && !has_shards,
            reserve_bytes: RESERVE_BYTES,
            known,
            ..DirectLogOptions::default()
        },
        Arc::new(move || progress.notify_waiters()),
        catalog,
    )
}

/// What a broker is to have from its start.
pub(in crate::broker) struct NewBroker {
    /// How many durable shards it has; `None`: it has no disk.
    pub(in crate::broker) durable_shards: Option<u16>,
    /// Their logs.
    pub(in crate::broker) shard_logs: BTreeMap<ShardId, KnownLog>,
    /// The largest body that it takes, in bytes.
    pub(in crate::broker) body_bytes_max: u64,
    /// The administrator of a broker without users.
    pub(in crate::broker) first_user: Option<(UserName, PasswordHash)>,
}

/// Why a broker cannot begin.
pub(in crate::broker) enum Incomplete {
    Refused(Refusal),
    Log(LogFailure),
}

impl NewBroker {
    /// Gives the catalog what it lacks of this. Later batches follow in the same log, so whoever waits for one of them
    /// waits for this, too.
    pub(in crate::broker) fn complete(
        self,
        catalog: &mut Catalog,
        log: &mut dyn ShardLog,
        now: Timestamp,
    ) -> Result<(), Incomplete> {
        let mut entries = Vec::new();
        let is_new = catalog.durable_shards == 0;
        // Earlier versions did not note it; what they allowed unless somebody changed it is likely.
        let unknown = if catalog.body_bytes_max == 0 && !is_new { MESSAGE_BYTES_MAX as u64 } else { 0 };
        let body_bytes_max = self.body_bytes_max.max(unknown);
        if body_bytes_max > catalog.body_bytes_max {
            entries.push(Entry::BodyBytesMax(body_bytes_max));
        }
        if let Some(count) = self.durable_shards.filter(|_| catalog.durable_shards == 0) {
            entries.push(Entry::Shards(count));
        }
        for (shard, known) in self.shard_logs {
            if catalog.shard_logs.get(&shard).is_none_or(|stored| stored.id != known.id) {
                entries.push(Entry::ShardLog(shard, known));
            }
        }
        let vhost = VhostName::new(DEFAULT_VHOST).expect("the name is short");
        if catalog.vhosts.is_empty() {
            entries.push(Entry::PutVhost(vhost.clone()));
        }
        entries.extend(catalog.decide_unused());
        apply(catalog, &entries);
        if let Some((name, hash)) = self.first_user.filter(|_| catalog.users.is_empty()) {
            let vhosts = [vhost].into_iter().filter(|vhost| catalog.vhosts.contains_key(vhost));
            let vhosts: Vec<VhostName> = vhosts.collect();
            let user = catalog.decide_put_user(&name, Some(&hash), true, &vhosts);
            let user = user.map_err(Incomplete::Refused)?;
            apply(catalog, &user);
            entries.extend(user);
        }
        let records: Vec<_> = entries.iter().filter_map(Entry::record).collect();
        if records.is_empty() {
            return Ok(());
        }
        log.propose(batch(records, now)).map(drop).map_err(Incomplete::Log)
    }
}

fn apply(catalog: &mut Catalog, entries: &[Entry]) {
    entries.iter().for_each(|entry| catalog.apply(entry, &mut Changed::default()));
}
