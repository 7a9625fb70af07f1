//! The same shard with the log's own writer thread.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::driver::*;
use crate::model::{QueueId, ShardId, Timestamp};
use crate::shard::*;
use crate::storage::testing::{MemoryDisk, PowerLoss};
use crate::storage::{DirectLog, DirectLogOptions};

const Q: QueueId = QueueId(3);
/// A shard that waits for what never comes fails the test instead of holding it up.
const PATIENCE: Duration = Duration::from_secs(30);

fn open(disk: &MemoryDisk) -> (Shard, mpsc::Receiver<()>) {
    let options = ShardOptions {
        id: ShardId(0),
        resident_bytes_max: 1024,
        segment_bytes: 8192,
        checkpoint_bytes: 1 << 20,
        lease_millis: None,
    };
    let mut shard = Shard::new(options, Arc::default());
    let (progress, made_progress) = mpsc::channel();
    let log = DirectLog::open(
        Arc::new(disk.clone()),
        Path::new(DIRECTORY),
        DirectLogOptions::default(),
        Arc::new(move || {
            // Nobody listens any more when the test is over.
            let _ = progress.send(());
        }),
        &mut shard,
    );
    shard.start(Box::new(log.unwrap()), &options_of(&[Q]), LAST_NUMBERED).unwrap();
    (shard, made_progress)
}

#[test]
fn what_its_writer_confirmed_survives_a_power_cut() {
    let disk = MemoryDisk::new();
    let (mut shard, progress) = open(&disk);
    let outlet = Outlet::default();
    disk.hold_syncs();
    let mut commands: Vec<Command> = (0..20)
        .map(|ticket| {
            Command::Publish(PublishBatch {
                origin: Arc::new(Origin {
                    exchange: crate::model::ExchangeName::new("logs").unwrap(),
                    routing_key: crate::model::RoutingKey::default(),
                }),
                run: run_of(&[2 * ticket, 2 * ticket + 1], 100),
                segments: vec![Segment { first: 0, end: 2, queues: Arc::from([Q]) }],
                expirations: Vec::new(),
                delays: Vec::new(),
                ticket,
                tracked: None,
                outlet: Arc::clone(&outlet),
                wait_durable: true,
                wake_when_taken: true,
            })
        })
        .collect();
    shard.turn(Timestamp(1), &mut commands);
    let mut events = Vec::new();
    outlet.update(|waiting| events.append(waiting));
    assert!(matches!(events[..], [Event::Taken { .. }]), "no sync has returned: {events:?}");
    disk.release_syncs();
    while confirmed(&events).len() < 20 {
        progress.recv_timeout(PATIENCE).expect("the log makes progress");
        shard.turn(Timestamp(1), &mut commands);
        outlet.update(|waiting| events.append(waiting));
    }
    disk.cut_power();
    drop(shard);
    disk.restore_power(PowerLoss::LosesAll, 5);
    let (mut shard, progress) = open(&disk);
    let state = |shard: &mut Shard| {
        let (reply, mut state) = tokio::sync::oneshot::channel();
        shard.turn(Timestamp(1), &mut vec![Command::Inspect { queues: vec![Q], reply }]);
        state.try_recv().unwrap().remove(0).counts
    };
    assert_eq!(state(&mut shard).ready, 40);
    let (reply, mut purged) = tokio::sync::oneshot::channel();
    shard.turn(Timestamp(1), &mut vec![Command::Purge { queue: Q, reply }]);
    while !shard.is_settled() {
        progress.recv_timeout(PATIENCE).expect("the log makes progress");
        shard.turn(Timestamp(1), &mut Vec::new());
    }
    assert_eq!(purged.try_recv(), Ok(Ok(40)));
    drop(shard);
    let (mut shard, _progress) = open(&disk);
    assert_eq!(state(&mut shard).ready, 0);
}
