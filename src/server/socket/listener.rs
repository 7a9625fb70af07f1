//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::model::in_words;

/// Pause after a connection could not be accepted, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for connections to end when the server stops; longer than the longest goodbye.
const STOP: Duration = Duration::from_secs(20);

/// What the listener does with the connections that it has accepted: a protocol's server.
pub(in crate::server) trait ConnectionHandler {
    /// Serves a client until it is gone, or until the handler stops.
    fn serve(&self, stream: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + Send + 'static;

    /// Tells a client that it is one too many, if its socket takes that at once.
    fn turn_away(&self, stream: &TcpStream, peer: SocketAddr);

    /// Lets all clients finish what is under way, and go.
    fn stop(&self);
}

/// A listening socket.
#[derive(Debug)]
pub(in crate::server) struct Listener {
    socket: TcpListener,
    permits: Arc<Semaphore>,
}

impl Listener {
    /// Listens on an address, for so many connections at a time.
    pub(in crate::server) async fn bind(address: SocketAddr, connections_max: usize) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Ok(Self { socket, permits })
    }

    pub(in crate::server) fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop` is done; then takes no more connections, and lets those there are end. Takes 20 seconds more at
    /// most.
    pub(in crate::server) async fn run(
        self,
        stop: impl Future<Output = ()>,
        handler: &impl ConnectionHandler,
    ) {
        let Self { socket, permits } = self;
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => admit(stream, peer, &permits, handler, &mut connections),
                    Err(error) => {
                        tracing::warn!(error = %in_words(&error), "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => note_end(ended),
            }
        }
        drop(socket);
        handler.stop();
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
    handler: &impl ConnectionHandler,
    connections: &mut JoinSet<()>,
) {
    let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
        return handler.turn_away(&stream, peer);
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, error = %in_words(&error), "cannot have small frames sent at once");
    }
    let served = handler.serve(stream, peer);
    connections.spawn(async move {
        served.await;
        drop(permit);
    });
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task failed; this is a bug in the broker");
    }
}
