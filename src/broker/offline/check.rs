//! Reading all of a data directory, and saying what is in it and what is wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::surveyors::{CatalogSurveyor, ShardSurveyor};
use crate::broker::catalog::{CATALOG_DIRECTORY, Catalog};
use crate::broker::open::{SHARD_DIRECTORY_PREFIX, queues_on};
use crate::model::{QueueId, ShardId};
use crate::shard::{Shard, ShardOptions};
use crate::storage::{
    DataDirectory, DataDirectoryFailure, DirectLog, DirectLogOptions, DirectoryLock, Disk, KnownLog,
    LockRefused, LogIndex, Machine, OpenFailure, ScratchDisk, ShardLog, Survey, survey, survey_bytes,
};

/// What a data directory holds.
#[derive(Debug)]
pub struct DataReport {
    /// The folder.
    pub path: PathBuf,
    /// Its logs: the catalog's first, unless it is one log's folder.
    pub logs: Vec<LogReport>,
}

/// What one log holds.
#[derive(Debug)]
pub struct LogReport {
    /// Name of its folder.
    pub name: String,
    /// What was read; `None` if nothing could be.
    pub survey: Option<Survey>,
    /// Why a broker would not open it.
    pub refused: Option<OpenFailure>,
    /// Queues in it, of a shard's.
    pub queues: Vec<HeldQueue>,
    /// Messages of these that nobody can read.
    pub given_up: Vec<GivenUp>,
}

/// A queue in a shard's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldQueue {
    /// Its number.
    pub id: QueueId,
    /// Its vhost and its name, if the catalog knows it.
    pub name: Option<(String, String)>,
    /// How many messages it has that can be read.
    pub messages: u64,
}

/// Messages that a queue has lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// The queue's number.
    pub id: QueueId,
    /// Its vhost and its name, if the catalog knows it.
    pub name: Option<(String, String)>,
    /// How many.
    pub messages: u64,
}

impl LogReport {
    /// Nothing is wrong that anybody would miss.
    pub fn is_sound(&self) -> bool {
        self.refused.is_none() && self.given_up.is_empty()
    }
}

impl DataReport {
    /// Nothing is wrong that anybody would miss.
    pub fn is_sound(&self) -> bool {
        self.logs.iter().all(LogReport::is_sound)
    }
}

/// Why nothing could be said about a folder.
#[derive(Debug)]
pub enum CheckFailure {
    /// It is no data directory, and no log's folder.
    Directory(DataDirectoryFailure),
    /// Somebody has it.
    Locked(LockRefused),
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(failure) => failure.fmt(f),
            Self::Locked(refused) => refused.fmt(f),
        }
    }
}

impl std::error::Error for CheckFailure {}

impl From<LockRefused> for CheckFailure {
    fn from(refused: LockRefused) -> Self {
        Self::Locked(refused)
    }
}

/// How far some reading is.
pub(super) struct Progress<'a> {
    tell: &'a mut dyn FnMut(u64, u64),
    before: u64,
    here: u64,
    total: u64,
}

impl<'a> Progress<'a> {
    pub(super) fn new(tell: &'a mut dyn FnMut(u64, u64)) -> Self {
        Self { tell, before: 0, here: 0, total: 0 }
    }

    pub(super) fn expect(&mut self, disk: &dyn Disk, logs: &[PathBuf]) {
        self.total = logs.iter().map(|log| survey_bytes(disk, log).unwrap_or(0)).sum();
    }

    pub(super) fn reach(&mut self, bytes: u64) {
        self.here = bytes;
        (self.tell)((self.before + self.here).min(self.total), self.total);
    }

    pub(super) fn next_log(&mut self) {
        self.before += std::mem::take(&mut self.here);
    }
}

/// Reads all of a data directory, or of one log's folder, and changes nothing. `tell` hears how many bytes were read of how
/// many.
///
/// # Errors
/// See [`CheckFailure`]. What is damaged is none.
pub fn check(
    disk: &Arc<dyn Disk>,
    path: &Path,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<DataReport, CheckFailure> {
    let _lock = DirectoryLock::acquire_for_reading(&**disk, path)?;
    let known = match DataDirectory::look(&**disk, path) {
        Ok(known) => known,
        Err(DataDirectoryFailure::Unmarked { .. })
            if survey_bytes(&**disk, path).is_ok_and(|bytes| bytes > 0) =>
        {
            return Ok(check_one(disk, path, tell));
        }
        Err(failure) => return Err(CheckFailure::Directory(failure)),
    };
    Ok(DataCheck::of(disk, path, known, tell).report)
}

/// What is known of a data directory after all of it was read.
pub(super) struct DataCheck {
    pub(super) report: DataReport,
    pub(super) catalog: Catalog,
    pub(super) shards: Vec<(ShardId, Option<Shard>)>,
}

impl DataCheck {
    pub(super) fn of(
        disk: &Arc<dyn Disk>,
        path: &Path,
        known: Option<KnownLog>,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Self {
        let mut progress = Progress::new(tell);
        let directory = path.join(CATALOG_DIRECTORY);
        let mut folders = vec![directory.clone()];
        folders.extend(shard_numbers(&**disk, path).into_iter().map(|shard| shard_directory(path, shard)));
        progress.expect(&**disk, &folders);

        let mut reach = |bytes| progress.reach(bytes);
        let mut surveyor = CatalogSurveyor { catalog: Catalog::default(), progress: &mut reach };
        let surveyed = survey(&**disk, &directory, known, &mut surveyor);
        let mut catalog = surveyor.catalog;
        progress.next_log();
        let refused = opens(disk, &directory, known, &mut Catalog::default()).err();
        let (survey_of, refused) = told(surveyed, refused);
        let mut logs = vec![LogReport {
            name: CATALOG_DIRECTORY.to_owned(),
            survey: survey_of,
            refused,
            queues: Vec::new(),
            given_up: Vec::new(),
        }];
        let mut numbers = shard_numbers(&**disk, path);
        numbers.extend((0..catalog.durable_shards).map(ShardId));
        numbers.sort_unstable();
        numbers.dedup();
        let catalog_is_whole = logs[0].refused.is_none();
        let mut shards = Vec::new();
        let mut found = BTreeMap::new();
        let mut highest = QueueId(0);
        for id in numbers {
            let (report, shard) = check_shard(disk, path, id, &catalog, catalog_is_whole, &mut progress);
            if let Some(log) = report.survey.as_ref().and_then(|survey| survey.log_id) {
                let end = report.survey.as_ref().map(|survey| survey.end).unwrap_or_default();
                found.insert(id, KnownLog { id: log, end });
            }
            highest = highest.max(report.queues.last().map_or(QueueId(0), |queue| queue.id));
            logs.push(report);
            shards.push((id, shard));
        }
        if !catalog_is_whole {
            catalog.learn(&found, highest);
        }
        Self { report: DataReport { path: path.to_path_buf(), logs }, catalog, shards }
    }
}

fn told(
    surveyed: Result<Survey, OpenFailure>,
    refused: Option<OpenFailure>,
) -> (Option<Survey>, Option<OpenFailure>) {
    match surveyed {
        Ok(survey) => (Some(survey), refused),
        Err(failure) => (None, Some(refused.unwrap_or(failure))),
    }
}

pub(super) fn shard_directory(path: &Path, shard: ShardId) -> PathBuf {
    path.join(format!("{SHARD_DIRECTORY_PREFIX}{shard}"))
}

/// The shards that have a folder.
pub(super) fn shard_numbers(disk: &dyn Disk, path: &Path) -> Vec<ShardId> {
    let entries = disk.list(path).unwrap_or_default();
    let numbers = entries.iter().filter(|entry| !entry.is_file).filter_map(|entry| {
        entry.name.to_str()?.strip_prefix(SHARD_DIRECTORY_PREFIX)?.parse().ok().map(ShardId)
    });
    let mut numbers: Vec<ShardId> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

fn check_shard(
    disk: &Arc<dyn Disk>,
    path: &Path,
    id: ShardId,
    catalog: &Catalog,
    catalog_is_whole: bool,
    progress: &mut Progress<'_>,
) -> (LogReport, Option<Shard>) {
    let directory = shard_directory(path, id);
    let known = catalog.shard_logs.get(&id).copied();
    let (mut report, shard) = survey_shard(disk, &directory, id, known, progress);
    let names = names_of(catalog);
    for queue in &mut report.queues {
        queue.name = names.get(&queue.id).cloned();
    }
    for given_up in &mut report.given_up {
        given_up.name = names.get(&given_up.id).cloned();
    }
    if report.refused.is_none() {
        // What a catalog that lost something says about the shards' queues says nothing about the shard.
        let queues = catalog_is_whole.then(|| (queues_on(catalog, id), catalog.last_numbered()));
        report.refused = shard_opens(disk, &directory, id, known, queues).err();
    }
    (report, shard)
}

fn survey_shard(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    id: ShardId,
    known: Option<KnownLog>,
    progress: &mut Progress<'_>,
) -> (LogReport, Option<Shard>) {
    let mut reach = |bytes| progress.reach(bytes);
    let mut surveyor = ShardSurveyor { shard: new_shard(id), last: LogIndex(0), progress: &mut reach };
    let surveyed = survey(&**disk, directory, known, &mut surveyor);
    let mut shard = surveyor.shard;
    progress.next_log();
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let refused = |failure| {
        let (name, queues, given_up) = (name.clone(), Vec::new(), Vec::new());
        (LogReport { name, survey: None, refused: Some(failure), queues, given_up }, None)
    };
    let survey = match surveyed {
        Ok(survey) => survey,
        Err(failure) => return refused(failure),
    };
    let mut lost: BTreeMap<QueueId, u64> = BTreeMap::new();
    for loss in &survey.losses {
        let given_up = match shard.give_up(loss.bodies.clone(), loss.entries.clone()) {
            Ok(given_up) => given_up,
            Err(why) => return refused(OpenFailure::Replay { index: survey.end, why }),
        };
        given_up.into_iter().for_each(|(queue, messages)| *lost.entry(queue).or_default() += messages);
    }
    let held = shard.held();
    let queues = held.iter().map(|held| HeldQueue { id: held.queue, name: None, messages: held.messages });
    let given_up = lost.into_iter().map(|(id, messages)| GivenUp { id, name: None, messages });
    let (queues, given_up) = (queues.collect(), given_up.collect());
    (LogReport { name, survey: Some(survey), refused: None, queues, given_up }, Some(shard))
}

/// A log's folder alone: nobody knows whose queues these are.
fn check_one(disk: &Arc<dyn Disk>, path: &Path, tell: &mut dyn FnMut(u64, u64)) -> DataReport {
    let mut progress = Progress::new(tell);
    progress.expect(&**disk, &[path.to_path_buf()]);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let report = if name == CATALOG_DIRECTORY {
        let mut reach = |bytes| progress.reach(bytes);
        let mut surveyor = CatalogSurveyor { catalog: Catalog::default(), progress: &mut reach };
        let surveyed = survey(&**disk, path, None, &mut surveyor);
        let refused = opens(disk, path, None, &mut Catalog::default()).err();
        let (survey, refused) = told(surveyed, refused);
        LogReport { name, survey, refused, queues: Vec::new(), given_up: Vec::new() }
    } else {
        let number = name.strip_prefix(SHARD_DIRECTORY_PREFIX).and_then(|number| number.parse().ok());
        let id = ShardId(number.unwrap_or(0));
        let (mut report, _) = survey_shard(disk, path, id, None, &mut progress);
        if report.refused.is_none() {
            report.refused = shard_opens(disk, path, id, None, None).err();
        }
        report
    };
    DataReport { path: path.to_path_buf(), logs: vec![report] }
}

fn names_of(catalog: &Catalog) -> HashMap<QueueId, (String, String)> {
    let vhosts = catalog.vhosts.iter();
    let queues = vhosts.flat_map(|(vhost, state)| state.queues.values().map(move |queue| (vhost, queue)));
    queues.map(|(vhost, queue)| (queue.id, (vhost.to_string(), queue.name.to_string()))).collect()
}

pub(super) fn new_shard(id: ShardId) -> Shard {
    let options = ShardOptions {
        id,
        resident_bytes_max: 0,
        segment_bytes: DirectLogOptions::default().segment_bytes,
        checkpoint_bytes: u64::MAX,
        lease_millis: None,
    };
    Shard::new(options, Arc::default())
}

/// Opens a log as a broker does, where nothing of that reaches the disk.
fn opens(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    known: Option<KnownLog>,
    owner: &mut dyn Machine,
) -> Result<DirectLog, OpenFailure> {
    let scratch = Arc::new(ScratchDisk::over(Arc::clone(disk)));
    let options = DirectLogOptions { create_if_missing: false, known, ..DirectLogOptions::default() };
    DirectLog::open(scratch, directory, options, Arc::new(|| {}), owner)
}

fn shard_opens(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    id: ShardId,
    known: Option<KnownLog>,
    queues: Option<(Vec<(QueueId, crate::shard::QueueOptions)>, QueueId)>,
) -> Result<(), OpenFailure> {
    let mut shard = new_shard(id);
    let log: Box<dyn ShardLog> = Box::new(opens(disk, directory, known, &mut shard)?);
    let (queues, last) = match queues {
        Some(queues) => queues,
        None => {
            let held = shard.held();
            let last = held.last().map_or(QueueId(0), |held| held.queue);
            let options =
                crate::shard::QueueOptions { logged: true, ..crate::shard::QueueOptions::default() };
            (held.iter().map(|held| (held.queue, options)).collect(), last)
        }
    };
    shard.start(log, &queues, last)
}
