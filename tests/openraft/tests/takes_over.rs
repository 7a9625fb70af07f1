//! A directory that the broker's log wrote, opened through openraft and back.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leveret::model::{BodySequence, Timestamp};
use leveret::storage::{
    Batch, DirectLog, DirectLogOptions, LogIndex, Machine as LogMachine, NodeId, OnProgress, OwnerFault,
    RealDisk, RecoveredBatch, ShardLog, Snapshot, Term,
};
use leveret_openraft::{Config, Machine, NoNetwork, Operations, Store};
use openraft::async_runtime::WatchReceiver;
use openraft::storage::RaftLogReader;
use openraft::type_config::alias::LogIdOf;
use openraft::{EntryPayload, LogId, Raft, ServerState};

const NODE: u64 = 7;
const BATCHES: u64 = 300;

/// Keeps what a log replays.
#[derive(Default)]
struct Replayed {
    state: Option<Bytes>,
    batches: Vec<RecoveredBatch>,
}

impl LogMachine for Replayed {
    fn restore(&mut self, state: Bytes) -> Result<(), OwnerFault> {
        self.state = Some(state);
        Ok(())
    }

    fn apply(&mut self, batch: RecoveredBatch) -> Result<(), OwnerFault> {
        self.batches.push(batch);
        Ok(())
    }

    fn snapshot(&self) -> Vec<Bytes> {
        self.state.iter().cloned().collect()
    }
}

fn open(directory: &Path) -> (DirectLog, Replayed) {
    open_with(directory, Arc::new(|| {}))
}

fn open_with(directory: &Path, on_progress: OnProgress) -> (DirectLog, Replayed) {
    let mut replayed = Replayed::default();
    // Many segments, so that entries are looked for in more than one file.
    let options =
        DirectLogOptions { node: NodeId(NODE), segment_bytes: 8 * 1024, ..DirectLogOptions::default() };
    let log = DirectLog::open(Arc::new(RealDisk), directory, options, on_progress, &mut replayed).unwrap();
    (log, replayed)
}

fn batch(number: u64) -> Batch {
    Batch {
        first_body: BodySequence(number),
        bodies: 1,
        operations: 1,
        recorded_at: Timestamp(1_000 + number),
        payload: vec![payload(number)],
    }
}

fn payload(number: u64) -> Bytes {
    Bytes::from(vec![number as u8; 1 + number as usize % 200])
}

fn operations(number: u64) -> Operations {
    let first_body = BodySequence(number);
    Operations { first_body, bodies: 1, recorded_at: Timestamp(1_000 + number), payload: payload(number) }
}

fn id(index: u64) -> LogIdOf<Config> {
    LogId::new_term_index(1, index)
}

async fn raft(store: &Store, machine: Machine) -> Raft<Config, Machine> {
    // Nobody would vote in an election: it leads because it led before, or not at all.
    let config = openraft::Config { enable_elect: false, ..openraft::Config::default() };
    let config = Arc::new(config.validate().unwrap());
    let raft = Raft::new(NODE, config, NoNetwork, store.clone(), machine).await.unwrap();
    raft.wait(Some(Duration::from_secs(60))).state(ServerState::Leader, "it led before").await.unwrap();
    raft
}

#[tokio::test]
async fn openraft_leads_at_once_reads_and_appends_and_the_broker_opens_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    for number in 1..=BATCHES {
        log.propose(batch(number)).unwrap();
    }
    log.close().unwrap();

    let (mut store, machine) = Store::open(folder.path()).unwrap();
    assert_eq!(machine.operations, (1..=BATCHES).map(operations).collect::<Vec<_>>());
    let raft = raft(&store, machine).await;
    let metrics = raft.metrics().borrow_watched().clone();
    assert_eq!((metrics.state, metrics.current_leader), (ServerState::Leader, Some(NODE)));
    assert_eq!(metrics.current_term, 1);
    assert_eq!(metrics.membership_config.voter_ids().collect::<Vec<_>>(), [NODE]);

    let entries = store.try_get_log_entries(..).await.unwrap();
    assert!(matches!(entries[0].payload, EntryPayload::Membership(_)));
    for (index, entry) in (0..).zip(&entries) {
        assert_eq!(entry.log_id, id(index));
        if index > 0 {
            assert!(matches!(&entry.payload, EntryPayload::Normal(given) if *given == operations(index)));
        }
    }
    let before = entries.len() as u64;
    assert_eq!(before, BATCHES + 1);

    let written = raft.client_write(operations(before)).await.unwrap();
    assert_eq!(*written.log_id(), id(before));
    raft.ensure_linearizable(openraft::raft::ReadPolicy::ReadIndex).await.unwrap();
    raft.shutdown().await.unwrap();
    store.close().unwrap();

    let (log, replayed) = open(folder.path());
    assert_eq!(log.next_index(), LogIndex(before + 1));
    assert_eq!((log.raft_state().term, log.raft_state().voters), (Term(1), vec![NodeId(NODE)]));
    let numbers: Vec<_> =
        replayed.batches.iter().map(|batch| (batch.index.0, batch.payload.clone())).collect();
    assert_eq!(numbers, (1..=before).map(|number| (number, payload(number))).collect::<Vec<_>>());
}

/// What a checkpoint stands for is what Raft calls purged.
#[tokio::test]
async fn a_log_that_begins_with_a_checkpoint_goes_on_behind_it() {
    const AT: u64 = 200;
    let folder = tempfile::tempdir().unwrap();
    let (progress, progressed) = std::sync::mpsc::channel();
    let (mut log, _) = open_with(folder.path(), Arc::new(move || progress.send(()).unwrap_or_default()));
    for number in 1..=AT {
        log.propose(batch(number)).unwrap();
    }
    let position = log.position();
    while log.progress().durable < position.index {
        progressed.recv().unwrap();
    }
    log.keeper()
        .unwrap()
        .checkpoint(Snapshot { position, state: vec![Bytes::from_static(b"state")] })
        .unwrap();
    for number in AT + 1..=BATCHES {
        log.propose(batch(number)).unwrap();
    }
    log.close().unwrap();

    let (mut store, machine) = Store::open(folder.path()).unwrap();
    let raft = raft(&store, machine).await;
    assert_eq!(raft.metrics().borrow_watched().current_leader, Some(NODE));
    let entries = store.try_get_log_entries(..).await.unwrap();
    let indices: Vec<u64> = entries.iter().map(|entry| entry.log_id.index()).collect();
    assert_eq!(indices, (AT + 1..=BATCHES).collect::<Vec<_>>());
    let written = raft.client_write(operations(BATCHES + 1)).await.unwrap();
    assert_eq!(*written.log_id(), id(BATCHES + 1));
    raft.shutdown().await.unwrap();
    store.close().unwrap();

    let (log, replayed) = open(folder.path());
    assert_eq!(log.recovery().checkpoint, Some(LogIndex(AT)));
    assert_eq!(replayed.state.as_deref(), Some(&b"state"[..]));
    assert_eq!(replayed.batches.len() as u64, BATCHES + 1 - AT);
}
