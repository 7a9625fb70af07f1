//! The server: a listening socket, a broker behind it, and this protocol between them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::super::socket::{ConnectionHandler, Listener};
use super::connection::Connection;
use crate::broker::Broker;
use crate::model::{Entity, Refusal, ReplyCode};
use crate::protocol::Limits;
use crate::wire::{encode_frame, pb};

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
    listener: Listener,
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) broker: Broker,
    pub(super) options: ServerOptions,
    pub(super) stop: CancellationToken,
}

impl Server {
    /// Listens on an address.
    ///
    /// # Errors
    /// The address is in use, not one of this machine's, or not allowed.
    pub async fn bind(address: SocketAddr, broker: Broker, options: ServerOptions) -> io::Result<Self> {
        let listener = Listener::bind(address, options.connections_max).await?;
        let shared = Arc::new(Shared { broker, options, stop: CancellationToken::new() });
        Ok(Self { listener, shared })
    }

    /// The address, with the port that was given if none was asked for.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_address()
    }

    /// Serves until `stop` is done; then takes no more connections, lets those there are finish what is under way,
    /// and says goodbye to them. Takes 20 seconds more at most.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        self.listener.run(stop, &Native(self.shared)).await;
    }
}

/// What the listener needs to know of this protocol.
struct Native(Arc<Shared>);

impl ConnectionHandler for Native {
    fn serve(&self, stream: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + Send + 'static {
        Connection::new(stream, peer, Arc::clone(&self.0)).run()
    }

    fn turn_away(&self, stream: &TcpStream, peer: SocketAddr) {
        let max = self.0.options.connections_max;
        tracing::warn!(%peer, max, "refusing a connection: there are too many");
        turn_away(stream, max);
    }

    fn stop(&self) {
        self.0.stop.cancel();
    }
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
