//! A broker with its server on a disk in memory, and a client, all in one runtime that can end as a process does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leveret::broker::{Broker, BrokerOptions, CloseFailure, OpenFailure, Password, Platform, open_on};
use leveret::client::{Channel, ConnectOptions, Connection};
use leveret::model::{Timestamp, UserName};
use leveret::protocol::Limits;
use leveret::server::{Server, ServerOptions};
use leveret::storage::testing::MemoryDisk;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A run that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

pub(super) struct World {
    runtime: Runtime,
    disk: MemoryDisk,
    broker: Broker,
    server: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    url: String,
}

impl World {
    pub(super) fn open(disk: &MemoryDisk) -> Result<Self, OpenFailure> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let guard = runtime.enter();
        let broker = open_on(options(), platform(disk))?;
        drop(guard);
        let (stop, stopped) = oneshot::channel();
        let limits = Limits {
            frame_bytes_max: MESSAGE_BYTES_MAX as u32 + 64 * 1024,
            channel_max: 100,
            heartbeat_seconds: 0,
            message_bytes_max: MESSAGE_BYTES_MAX as u64,
            stored_body_bytes_max: 0,
        };
        let options = ServerOptions { limits, handshake_ms: 10_000, connections_max: 100 };
        let bound = Server::bind(([127, 0, 0, 1], 0).into(), broker.clone(), options);
        let server = runtime.block_on(bound).unwrap();
        let url = format!("leveret://guest:guest@{}/", server.local_address().unwrap());
        let server = runtime.spawn(server.run(async {
            // A world that ends stops its server, too.
            let _ = stopped.await;
        }));
        Ok(Self { runtime, disk: disk.clone(), broker, server, stop, url })
    }

    /// Lets a client do something.
    pub(super) fn run(self, work: impl AsyncFnOnce(&Channel)) -> Self {
        self.runtime.block_on(async {
            let options: ConnectOptions = self.url.parse().unwrap();
            let connection = Connection::connect(options.no_reconnect()).await.unwrap();
            let channel = connection.channel().await.unwrap();
            tokio::time::timeout(DEADLINE, work(&channel)).await.expect("it takes too long");
            // The broker may be in trouble.
            let _ = connection.close().await;
        });
        self
    }

    /// Stops as asked.
    pub(super) fn close(self) -> Result<(), Vec<CloseFailure>> {
        let Self { runtime, broker, server, stop, .. } = self;
        drop(stop);
        runtime.block_on(async {
            server.await.unwrap();
            broker.close().await
        })
    }

    /// Loses power.
    pub(super) fn crash(self) {
        self.disk.cut_power();
        drop(self.runtime);
    }
}

/// Nothing of it is the machine's: the clock goes back with each look, and what is random never is.
fn platform(disk: &MemoryDisk) -> Platform {
    let looks = AtomicU64::new(0);
    let clock = move || Timestamp(1_000_000_000 - looks.fetch_add(1, Ordering::Relaxed));
    let randomness = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    Platform {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock),
        randomness: Arc::new(randomness),
        ..Platform::of_system()
    }
}

fn options() -> BrokerOptions {
    BrokerOptions {
        data: Some(PathBuf::from("/data")),
        shards: 2,
        shards_are_chosen: true,
        segment_bytes: 64 * 1024,
        checkpoint_bytes: 1024 * 1024,
        lease_millis: None,
        disk_free_bytes_min: 0,
        resident_bytes_max: 1024 * 1024,
        message_bytes_max: MESSAGE_BYTES_MAX,
        publish_bytes_max: 1024 * 1024,
        memory_bytes_max: 1 << 30,
        deliver_bytes_max: 1024 * 1024,
        journey_bytes_max: 8 * 1024 * 1024,
        journey_disk_bytes_max: None,
        first_user: Some((UserName::new("guest").unwrap(), Password::new("guest").unwrap())),
    }
}
