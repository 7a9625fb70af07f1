//! The log store: openraft's calls on one side, [`DirectLog`] on the other.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use leveret::model::{BodySequence, Timestamp};
use leveret::storage::{
    Batch, BodyRead, DirectLog, DirectLogOptions, LogIndex, Machine as LogMachine, OwnerFault, RaftState,
    RealDisk, RecoveredBatch, ShardLog,
};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::vote::RaftVote;
use openraft::{EntryPayload, LogId, Membership, OptionalSend, StoredMembership};

use crate::{Config, Machine, Operations, unsupported};

/// The log in a directory.
#[derive(Clone)]
pub struct Store(Arc<Mutex<Opened>>);

struct Opened {
    /// Taken out when the store is closed.
    log: Option<DirectLog>,
    reader: Arc<dyn BodyRead>,
    raft: RaftState,
    /// The checkpoint that stands for everything up to it.
    purged: Option<LogIndex>,
    /// Appended, and perhaps not on the disk yet.
    tail: BTreeMap<u64, EntryOf<Config>>,
    /// Who waits for the disk.
    flushes: VecDeque<(LogIndex, IOFlushed<Config>)>,
}

/// Makes a [`Machine`] of what the log replays.
struct Replay<'a>(&'a mut Vec<Operations>);

impl LogMachine for Replay<'_> {
    fn restore(&mut self, _state: Bytes) -> Result<(), OwnerFault> {
        // What a checkpoint holds is the broker's own; the machine begins behind it.
        Ok(())
    }

    fn apply(&mut self, batch: RecoveredBatch) -> Result<(), OwnerFault> {
        if let EntryPayload::Normal(operations) = payload(batch) {
            self.0.push(operations);
        }
        Ok(())
    }

    /// What came before the checkpoint is not here, so no checkpoint can be made of it.
    fn snapshot(&self) -> Vec<Bytes> {
        unreachable!("this store makes no checkpoints")
    }
}

impl Store {
    /// Opens the log in a directory, and the state machine that its replay gives: with one voter, what is durable is
    /// committed, so all of it is applied.
    ///
    /// # Errors
    /// Those of [`DirectLog::open`].
    pub fn open(directory: &Path) -> Result<(Self, Machine), io::Error> {
        let store = Arc::new(OnceLock::<Weak<Mutex<Opened>>>::new());
        let waiting = Arc::clone(&store);
        let on_progress = Arc::new(move || {
            if let Some(opened) = waiting.get().and_then(Weak::upgrade) {
                lock(&opened).complete_flushes();
            }
        });
        let options = DirectLogOptions { create_if_missing: false, ..DirectLogOptions::default() };
        let mut operations = Vec::new();
        let log = DirectLog::open(
            Arc::new(RealDisk),
            directory,
            options,
            on_progress,
            &mut Replay(&mut operations),
        )
        .map_err(io::Error::other)?;
        let opened = Opened {
            reader: log.reader(),
            raft: log.raft_state(),
            purged: log.recovery().checkpoint,
            log: Some(log),
            tail: BTreeMap::new(),
            flushes: VecDeque::new(),
        };
        let machine = Machine {
            applied: Some(opened.last()?),
            membership: StoredMembership::new(Some(opened.id(LogIndex(0))), opened.members()),
            operations,
        };
        let opened = Arc::new(Mutex::new(opened));
        let _ = store.set(Arc::downgrade(&opened));
        Ok((Self(opened), machine))
    }

    /// Waits for the disk, and gives the directory back.
    ///
    /// # Errors
    /// Why the log failed, if it did.
    pub fn close(self) -> Result<(), io::Error> {
        let log = self.opened().log.take();
        log.map_or(Ok(()), DirectLog::close).map_err(io::Error::other)
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        lock(&self.0)
    }
}

fn lock(opened: &Mutex<Opened>) -> MutexGuard<'_, Opened> {
    opened.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Opened {
    fn log(&mut self) -> Result<&mut DirectLog, io::Error> {
        self.log.as_mut().ok_or_else(|| io::Error::other("the log is closed"))
    }

    fn id(&self, index: LogIndex) -> LogIdOf<Config> {
        LogId::new_term_index(self.raft.term.0, index.0)
    }

    fn last(&self) -> Result<LogIdOf<Config>, io::Error> {
        let log = self.log.as_ref().ok_or_else(|| io::Error::other("the log is closed"))?;
        Ok(self.id(log.position().index))
    }

    fn members(&self) -> Membership<u64, openraft::EmptyNode> {
        let voters = self.raft.voters.iter().map(|voter| voter.0).collect();
        Membership::new_with_defaults(vec![voters], [])
    }

    /// The vote of a group of one: its voter leads since it voted for itself.
    fn vote(&self) -> VoteOf<Config> {
        let leads = self.raft.voters == [self.raft.voted_for];
        let leader = openraft::vote::RaftLeaderId::new(self.raft.term.0, self.raft.voted_for.0);
        VoteOf::<Config>::from_leader_id(leader, leads)
    }

    fn append(&mut self, entry: EntryOf<Config>) -> Result<LogIndex, io::Error> {
        let batch = match &entry.payload {
            EntryPayload::Blank => Batch {
                first_body: BodySequence(0),
                bodies: 0,
                operations: 0,
                recorded_at: now(),
                payload: Vec::new(),
            },
            EntryPayload::Normal(given) => Batch {
                first_body: given.first_body,
                bodies: given.bodies,
                operations: 1,
                recorded_at: given.recorded_at,
                payload: vec![given.payload.clone()],
            },
            EntryPayload::Membership(_) => return Err(unsupported("a new membership")),
        };
        let next = self.log()?.next_index();
        if entry.log_id() != self.id(next) {
            return Err(io::Error::other(format!("entry {} does not follow {next}", entry.log_id())));
        }
        let index = self.log()?.propose(batch).map_err(io::Error::other)?;
        self.tail.insert(index.0, entry);
        Ok(index)
    }

    fn complete_flushes(&mut self) {
        let Some(progress) = self.log.as_ref().map(DirectLog::progress) else { return };
        self.tail = self.tail.split_off(&progress.durable.next().0);
        while self.flushes.front().is_some_and(|(index, _)| *index <= progress.durable) {
            if let Some((_, flushed)) = self.flushes.pop_front() {
                flushed.io_completed(Ok(()));
            }
        }
        if let Some(failure) = progress.failed {
            for (_, flushed) in self.flushes.drain(..) {
                flushed.io_completed(Err(io::Error::other(failure.clone())));
            }
        }
    }

    fn read(&mut self, first: LogIndex, end: LogIndex) -> Result<Vec<EntryOf<Config>>, io::Error> {
        let held_from = self.purged.map_or(LogIndex(0), LogIndex::next);
        let (first, end) = (first.max(held_from), end.min(self.log()?.next_index()));
        let mut entries = Vec::new();
        if first >= end {
            return Ok(entries);
        }
        if first == LogIndex(0) {
            entries.push(EntryOf::<Config>::new_membership(self.id(first), self.members()));
        }
        let on_disk = self.tail.keys().next().map_or(end, |first| end.min(LogIndex(*first)));
        let batches = self.reader.read(first.max(LogIndex(1)), on_disk).map_err(io::Error::other)?;
        for batch in batches {
            entries.push(EntryOf::<Config>::new(self.id(batch.index), payload(batch)));
        }
        entries.extend(self.tail.range(first.0.min(end.0)..end.0).map(|(_, entry)| entry.clone()));
        Ok(entries)
    }
}

fn now() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A batch of no operations is what a leader appends to have appended something.
fn payload(batch: RecoveredBatch) -> EntryPayload<Operations, u64, openraft::EmptyNode> {
    if batch.payload.is_empty() {
        return EntryPayload::Blank;
    }
    let RecoveredBatch { first_body, bodies, recorded_at, payload, .. } = batch;
    EntryPayload::Normal(Operations { first_body, bodies, recorded_at, payload })
}

impl RaftLogReader<Config> for Store {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<EntryOf<Config>>, io::Error> {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.opened().read(LogIndex(first), LogIndex(end))
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Config>>, io::Error> {
        Ok(Some(self.opened().vote()))
    }
}

impl RaftLogStorage<Config> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Config>, io::Error> {
        let opened = self.opened();
        let last_purged_log_id = opened.purged.map(|index| opened.id(index));
        Ok(LogState { last_purged_log_id, last_log_id: Some(opened.last()?) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Config>) -> Result<(), io::Error> {
        // The vote that is on the disk is durable already.
        if *vote == self.opened().vote() { Ok(()) } else { Err(unsupported("another vote")) }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Config>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<Config>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut opened = self.opened();
        for entry in entries {
            opened.append(entry)?;
        }
        let last = LogIndex(opened.last()?.index());
        opened.flushes.push_back((last, callback));
        // The disk may have been faster than this.
        opened.complete_flushes();
        Ok(())
    }

    async fn truncate_after(&mut self, _last: Option<LogIdOf<Config>>) -> Result<(), io::Error> {
        Err(unsupported("removing entries that another leader replaces"))
    }

    async fn purge(&mut self, _upto: LogIdOf<Config>) -> Result<(), io::Error> {
        // A checkpoint says what may go, and the broker removes it.
        Ok(())
    }
}
