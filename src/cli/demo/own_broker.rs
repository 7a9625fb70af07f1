//! A broker in memory for the time of a demo, within this process.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::broker::{Broker, BrokerOptions, Password, open};
use crate::cli::failure::Failure;
use crate::client::ConnectOptions;
use crate::model::{CONSUMER_TIMEOUT_MS, UserName};
use crate::protocol::Limits;
use crate::server::{Server, ServerOptions};

/// Largest body of a message: those of demos are a line.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes that wait in memory at most, of each kind.
const MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A broker on a free port of this machine.
pub(super) struct OwnBroker {
    broker: Broker,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl OwnBroker {
    pub(super) async fn start() -> Result<Self, Failure> {
        let broker = open(broker_options()?).map_err(|failure| Failure::new(failure.to_string()))?;
        let cannot = |error| Failure::io("cannot listen on a port of this machine", &error);
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(any_port, broker.clone(), server_options()).await.map_err(cannot)?;
        let address = server.local_address().map_err(cannot)?;
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server.run(async move {
            // Dropped is as good as sent: nobody needs the broker any more.
            let _ = stopped.await;
        }));
        Ok(Self { broker, address, stop, server })
    }

    pub(super) fn options(&self) -> ConnectOptions {
        ConnectOptions::default().host(self.address.ip().to_string()).port(self.address.port())
    }

    pub(super) async fn stop(self) -> Result<(), Failure> {
        // It may have ended by itself, which is told below.
        let _ = self.stop.send(());
        self.server.await.map_err(|_| Failure::new("the server failed: see above"))?;
        self.broker.close().await.map_err(|failures| {
            let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
            Failure::new("the broker did not stop as it should").detail(failures.join("; "))
        })
    }
}

fn broker_options() -> Result<BrokerOptions, Failure> {
    let guest = UserName::new("guest").map_err(|error| Failure::new(error.to_string()))?;
    let password = Password::new("guest").map_err(|error| Failure::new(error.to_string()))?;
    Ok(BrokerOptions {
        data: None,
        shards: 1,
        shards_are_chosen: false,
        segment_bytes: MEMORY_BYTES_MAX as u64,
        checkpoint_bytes: MEMORY_BYTES_MAX as u64,
        lease_millis: Some(CONSUMER_TIMEOUT_MS),
        resident_bytes_max: MEMORY_BYTES_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
        publish_bytes_max: MEMORY_BYTES_MAX,
        memory_bytes_max: MEMORY_BYTES_MAX as u64,
        disk_free_bytes_min: 0,
        deliver_bytes_max: MEMORY_BYTES_MAX,
        journey_bytes_max: MEMORY_BYTES_MAX,
        journey_disk_bytes_max: None,
        first_user: Some((guest, password)),
    })
}

fn server_options() -> ServerOptions {
    let limits = Limits {
        frame_bytes_max: 1024 * 1024,
        channel_max: 16,
        heartbeat_seconds: 60,
        message_bytes_max: MESSAGE_BYTES_MAX as u64,
        stored_body_bytes_max: MESSAGE_BYTES_MAX as u64,
    };
    ServerOptions { limits: limits.with_room(), handshake_ms: 10_000, connections_max: 64 }
}
