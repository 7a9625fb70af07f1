//! Making a data directory openable again that has lost something.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::check::{CheckFailure, DataCheck, DataReport, LogReport};
use crate::broker::catalog::CATALOG_DIRECTORY;
use crate::model::{BodySequence, ShardId, Timestamp};
use crate::shard::Shard;
use crate::storage::{
    DataDirectory, DirectoryLock, Disk, KnownLog, Machine, OpenFailure, Salvaged, ScratchDisk, Survey, repair,
};

/// A repair that was found to lead to a data directory that a broker opens. The directory is locked until this is dropped.
pub struct Repair {
    /// What there is.
    pub before: DataReport,
    /// What there will be.
    pub after: DataReport,
    /// The logs that are to be repaired, by their names. None: nothing is wrong.
    pub logs: Vec<String>,
    path: PathBuf,
    salvaged: Vec<(String, Salvaged)>,
    _lock: DirectoryLock,
}

/// Why a data directory cannot be repaired. Nothing was changed, unless it is [`Self::Disk`].
#[derive(Debug)]
pub enum RepairFailure {
    /// It cannot be looked at.
    Check(CheckFailure),
    /// What keeps a log from opening is no damage.
    NoDamage {
        /// The log.
        log: String,
        /// Why it does not open.
        why: OpenFailure,
    },
    /// A broker would still not open it, or messages would still be missing.
    NoUse(Box<DataReport>),
    /// The disk failed. The same repair may be done again.
    Disk(OpenFailure),
}

impl fmt::Display for RepairFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(failure) => failure.fmt(f),
            Self::NoDamage { log, why } => {
                write!(f, "what keeps {log} from opening is not that something in it is damaged: {why}")
            }
            Self::NoUse(report) => {
                let still =
                    report.logs.iter().find_map(|log| log.refused.as_ref().map(|why| (&log.name, why)));
                match still {
                    Some((log, why)) => write!(f, "a repair would not make {log} open: {why}"),
                    None => f.write_str("a repair would leave messages that cannot be read"),
                }
            }
            Self::Disk(failure) => write!(f, "the repair did not come to its end: {failure}"),
        }
    }
}

impl std::error::Error for RepairFailure {}

/// Reads all of a data directory, finds out what a repair would give up, and tries it where nothing reaches the disk.
///
/// `for_show`: it will not be carried out, and not even the lock's file changes.
///
/// # Errors
/// See [`RepairFailure`].
pub fn plan_repair(
    disk: &Arc<dyn Disk>,
    path: &Path,
    for_show: bool,
    now: Timestamp,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Repair, RepairFailure> {
    let known = DataDirectory::look(&**disk, path)
        .map_err(|failure| RepairFailure::Check(CheckFailure::Directory(failure)))?;
    let lock = match for_show {
        true => DirectoryLock::acquire_for_reading(&**disk, path),
        false => DirectoryLock::acquire_on(&**disk, path),
    };
    let lock = lock.map_err(|refused| RepairFailure::Check(refused.into()))?;
    let DataCheck { report: before, catalog, shards } = DataCheck::of(disk, path, known, tell);
    let mut salvaged = Vec::new();
    let mut logs = Vec::new();
    for report in before.logs.iter().filter(|log| !log.is_sound()) {
        if !is_damage(report) {
            continue;
        }
        logs.push(report.name.clone());
        let (state, bodies_end, nothing) = match shards.iter().find(|(id, _)| report.name == name_of(*id)) {
            Some((_, Some(shard))) => (shard.snapshot(), shard.next_sequence(), Shard::nothing()),
            Some((_, None)) => continue,
            None => (catalog.snapshot(), BodySequence(0), Bytes::new()),
        };
        let log_id = match shards.iter().find(|(id, _)| report.name == name_of(*id)) {
            Some((id, _)) => catalog.shard_logs.get(id).map(|log| log.id),
            None => known.map(|log: KnownLog| log.id),
        };
        let log_id = log_id.unwrap_or_default();
        salvaged.push((report.name.clone(), Salvaged { log_id, state, bodies_end, nothing, at: now }));
    }
    if let Some(log) = before.logs.iter().find(|log| log.refused.is_some() && !logs.contains(&log.name)) {
        // Names are told only of what is there.
        let why = before_failure(log);
        return Err(RepairFailure::NoDamage { log: log.name.clone(), why });
    }
    let scratch: Arc<dyn Disk> = Arc::new(ScratchDisk::over(Arc::clone(disk)));
    carry_out(&*scratch, path, &before, &salvaged).map_err(RepairFailure::Disk)?;
    let after = DataCheck::of(&scratch, path, known, tell).report;
    if !after.is_sound() {
        return Err(RepairFailure::NoUse(Box::new(after)));
    }
    Ok(Repair { before, after, logs, path: path.to_path_buf(), salvaged, _lock: lock })
}

fn before_failure(log: &LogReport) -> OpenFailure {
    log.refused.clone().unwrap_or(OpenFailure::BadOption { what: "nothing is wrong with it" })
}

/// Whether what is wrong with a log is that it lost something.
fn is_damage(log: &LogReport) -> bool {
    log.survey.as_ref().is_some_and(|survey| !survey.is_whole() || !survey.checkpoints_are_good())
}

fn name_of(shard: ShardId) -> String {
    format!("{}{shard}", crate::broker::open::SHARD_DIRECTORY_PREFIX)
}

/// Shards first: the catalog is not to know of queues of which they do not know.
fn carry_out(
    disk: &dyn Disk,
    path: &Path,
    report: &DataReport,
    salvaged: &[(String, Salvaged)],
) -> Result<Vec<PathBuf>, OpenFailure> {
    let mut aside = Vec::new();
    let (catalog, shards): (Vec<_>, Vec<_>) =
        salvaged.iter().partition(|(name, _)| name == CATALOG_DIRECTORY);
    for (name, salvaged) in shards.into_iter().chain(catalog) {
        let survey: Option<&Survey> =
            report.logs.iter().find(|log| log.name == *name).and_then(|log| log.survey.as_ref());
        let Some(survey) = survey else { continue };
        debug_assert_eq!(survey.directory, path.join(name));
        aside.extend(repair(disk, survey, salvaged.clone())?);
    }
    Ok(aside)
}

impl Repair {
    /// Does it. Returns the files that were put aside.
    ///
    /// # Errors
    /// [`RepairFailure::Disk`].
    pub fn carry_out(&self, disk: &dyn Disk) -> Result<Vec<PathBuf>, RepairFailure> {
        carry_out(disk, &self.path, &self.before, &self.salvaged).map_err(RepairFailure::Disk)
    }
}
