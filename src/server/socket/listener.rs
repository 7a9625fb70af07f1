//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::native::Connection;
use crate::broker::Broker;
use crate::model::{Entity, Refusal, ReplyCode};
use crate::protocol::Limits;
use crate::wire::{encode_frame, pb};

/// Pause after a connection could not be accepted, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for connections to end when the server stops; longer than the longest goodbye.
const STOP: Duration = Duration::from_secs(20);

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// What clients are offered.
    pub limits: Limits,
    /// Milliseconds for a client to log in.
    pub handshake_ms: u64,
    /// Connections at a time, those included that are not logged in.
    pub connections_max: usize,
}

/// A listening socket and the broker behind it.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
pub(in crate::server) struct Shared {
    pub(in crate::server) broker: Broker,
    pub(in crate::server) options: ServerOptions,
    pub(in crate::server) stop: CancellationToken,
}

impl Server {
    /// Listens on an address.
    ///
    /// # Errors
    /// The address is in use, not one of this machine's, or not allowed.
    pub async fn bind(address: SocketAddr, broker: Broker, options: ServerOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let permits = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
        let shared = Arc::new(Shared { broker, options, stop: CancellationToken::new() });
        Ok(Self { listener, permits, shared })
    }

    /// The address, with the port that was given if none was asked for.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is done; then takes no more connections, lets those there are finish what is under way,
    /// and says goodbye to them. Takes 20 seconds more at most.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, permits, shared } = self;
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => admit(stream, peer, &permits, &shared, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => note_end(ended),
            }
        }
        drop(listener);
        shared.stop.cancel();
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                note_end(ended);
            }
        };
        if tokio::time::timeout(STOP, all_ended).await.is_err() {
            tracing::warn!(connections = connections.len(), "some connections did not end in time");
            connections.shutdown().await;
        }
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    permits: &Arc<Semaphore>,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
        tracing::warn!(%peer, max = shared.options.connections_max, "refusing a connection: there are too many");
        return turn_away(&stream, shared.options.connections_max);
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot have small frames sent at once");
    }
    connections.spawn(serve(stream, peer, Arc::clone(shared), permit));
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, _permit: OwnedSemaphorePermit) {
    Connection::new(stream, peer, shared).run().await;
}

/// Says why before hanging up, if the socket takes it at once.
fn turn_away(stream: &TcpStream, connections_max: usize) {
    let refusal = Refusal::new(
        ReplyCode::ResourceError,
        "this broker has as many connections as it may have",
    )
    .about(Entity::Connection, "")
    .field("connections_max", format!("{connections_max} at most"), "one more")
    .hint(
        "close connections that are not needed, or raise connections_max in the broker's configuration, and the number of \
         files that it may open",
    )
    .retryable();
    let mut out = BytesMut::new();
    let close = pb::Close { error: Some((&refusal).into()) };
    encode_frame(0, 0, &pb::frame::Body::Close(close), &mut out);
    // A client that does not hear why sees the connection end all the same.
    let _ = stream.try_write(&out);
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task failed; this is a bug in the broker");
    }
}
