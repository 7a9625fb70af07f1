//! From an address to a connection that has logged in, and requests one after the other before the driver takes over.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::ServerOffer;
use super::convert::{kind_name, refusal_from_wire, shared_text};
use super::error::ConnectError;
use super::options::ConnectOptions;
use crate::model::{CHANNEL_MAX, CLIENT_ID_BYTES, Durability, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, in_words};
use crate::wire::{self, Body, CodecError, Side, pb};

/// The version of the protocol that this client speaks.
const PROTOCOL_VERSION: u32 = 1;

/// A socket on which frames are exchanged one at a time.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) socket: TcpStream,
    pub(super) incoming: BytesMut,
    pub(super) offer: ServerOffer,
    address: String,
}

/// What a connection calls itself each time it is made, so that the server finishes off what is left of the last time
/// first.
#[derive(Debug, Clone)]
pub(super) struct ClientId(Bytes);

impl ClientId {
    /// Without randomness it has none: then a server cannot tell that the connection is the same.
    pub(super) fn draw() -> Self {
        let mut bytes = [0; CLIENT_ID_BYTES];
        Self(match getrandom::fill(&mut bytes) {
            Ok(()) => Bytes::copy_from_slice(&bytes),
            Err(_) => Bytes::new(),
        })
    }
}

/// Connects and logs in, within the time that the options allow.
pub(super) async fn connect(options: &ConnectOptions, client_id: &ClientId) -> Result<Link, ConnectError> {
    let address = options.address();
    match timeout(options.connect_timeout, connect_and_login(options, client_id, &address)).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(options)),
    }
}

/// Finds out whether a broker is there, within the time that the options allow: whether it answers a goodbye with one.
pub(super) async fn probe(options: &ConnectOptions) -> Result<(), ConnectError> {
    let address = options.address();
    let probing = async {
        let mut link = reach(options, &address).await?;
        link.send(0, 0, &pb::frame::Body::Close(pb::Close { error: None })).await?;
        match link.receive().await? {
            (_, _, pb::frame::Body::Close(_)) => Ok(()),
            (_, _, other) => {
                let error = format!("it answered a goodbye with {}", kind_name(&other));
                Err(link.protocol(&error))
            }
        }
    };
    timeout(options.connect_timeout, probing).await.unwrap_or_else(|_| Err(timed_out(options)))
}

fn timed_out(options: &ConnectOptions) -> ConnectError {
    let timeout_ms = u64::try_from(options.connect_timeout.as_millis()).unwrap_or(u64::MAX);
    ConnectError::TimedOut { address: options.address(), timeout_ms }
}

/// A socket on which nothing was sent.
async fn reach(options: &ConnectOptions, address: &str) -> Result<Link, ConnectError> {
    let unreachable = |error| ConnectError::Unreachable {
        address: address.to_owned(),
        error: shared_text(in_words(&error)),
    };
    let socket = TcpStream::connect((options.host.as_str(), options.port)).await.map_err(unreachable)?;
    socket.set_nodelay(true).map_err(unreachable)?;
    let offer = ServerOffer::unknown();
    Ok(Link { socket, incoming: BytesMut::new(), offer, address: address.to_owned() })
}

async fn connect_and_login(
    options: &ConnectOptions,
    client_id: &ClientId,
    address: &str,
) -> Result<Link, ConnectError> {
    let mut link = reach(options, address).await?;
    link.send(0, 1, &pb::frame::Body::Connect(connect_request(options, client_id))).await?;
    match link.receive().await? {
        (_, _, pb::frame::Body::Connected(connected)) => link.offer = offer_from_wire(connected, address)?,
        (_, _, pb::frame::Body::Error(error) | pb::frame::Body::Close(pb::Close { error: Some(error) })) => {
            return Err(ConnectError::Refused(refusal_from_wire(error)));
        }
        (_, _, other) => {
            let error = shared_text(format_args!("it answered the login with {}", kind_name(&other)));
            return Err(ConnectError::Protocol { address: address.to_owned(), error });
        }
    }
    Ok(link)
}

fn connect_request(options: &ConnectOptions, client_id: &ClientId) -> pb::Connect {
    let mut response = Vec::with_capacity(options.user.len() + options.password.len() + 2);
    for part in [&options.user, &options.password] {
        response.push(0);
        response.extend_from_slice(part.as_bytes());
    }
    let client = [
        ("product", "leveret client for Rust"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", std::env::consts::OS),
    ];
    pb::Connect {
        protocol_version: PROTOCOL_VERSION,
        client: client.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        capabilities: vec!["blocked".to_owned()],
        mechanism: "PLAIN".to_owned(),
        response: Bytes::from(response),
        vhost: options.vhost.clone(),
        heartbeat_seconds: options.heartbeat_seconds,
        frame_max: options.frame_bytes_max,
        channel_max: options.channel_max,
        connection_name: options.connection_name.clone(),
        client_id: client_id.0.clone(),
    }
}

fn offer_from_wire(connected: pb::Connected, address: &str) -> Result<ServerOffer, ConnectError> {
    let protocol = |error| ConnectError::Protocol { address: address.to_owned(), error };
    if connected.protocol_version != PROTOCOL_VERSION {
        let text = format_args!("it speaks version {} of it, not 1", connected.protocol_version).to_string();
        return Err(protocol(text.into()));
    }
    let durability =
        Durability::try_from(connected.durability()).map_err(|error| protocol(shared_text(error)))?;
    let or = |value, default: usize| if value == 0 { default as u32 } else { value };
    Ok(ServerOffer {
        server: connected.server,
        capabilities: connected.capabilities,
        heartbeat_seconds: connected.heartbeat_seconds,
        frame_bytes_max: or(connected.frame_max, FRAME_BYTES_MAX),
        channel_max: or(connected.channel_max, CHANNEL_MAX as usize),
        message_bytes_max: match connected.message_size_max {
            0 => MESSAGE_BYTES_MAX as u64,
            bytes => bytes,
        },
        durability,
        connection_id: connected.connection_id,
    })
}

impl ServerOffer {
    /// Before the server has said anything.
    fn unknown() -> Self {
        Self {
            server: BTreeMap::new(),
            capabilities: Vec::new(),
            heartbeat_seconds: 0,
            frame_bytes_max: FRAME_BYTES_MAX as u32,
            channel_max: 0,
            message_bytes_max: 0,
            durability: Durability::Memory,
            connection_id: 0,
        }
    }
}

impl Link {
    /// Sends a frame.
    pub(super) async fn send(
        &mut self,
        channel: u32,
        request: u64,
        body: &pb::frame::Body,
    ) -> Result<(), ConnectError> {
        let mut bytes = BytesMut::new();
        wire::encode_frame(channel, request, body, &mut bytes);
        self.write(&bytes).await
    }

    /// Writes encoded frames.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectError> {
        self.socket.write_all(bytes).await.map_err(|error| self.lost(shared_text(in_words(&error))))
    }

    /// Waits for a frame that is no sign of life: channel, request, body.
    pub(super) async fn receive(&mut self) -> Result<(u32, u64, pb::frame::Body), ConnectError> {
        loop {
            let frame_bytes_max = self.offer.frame_bytes_max as usize;
            while let Some(frame) = wire::split_frame(&mut self.incoming, frame_bytes_max)
                .map_err(|error| self.violated(error.into()))?
            {
                let frame = wire::decode_frame_from(Side::Server, frame)
                    .map_err(|error| self.violated(error.into()))?;
                match frame.body {
                    Body::Other(body) if matches!(*body, pb::frame::Body::Heartbeat(_)) => {}
                    Body::Other(body) => return Ok((frame.channel, frame.request, *body)),
                    _ => return Err(self.protocol("messages came before anything was opened")),
                }
            }
            let read = self.socket.read_buf(&mut self.incoming).await;
            if read.map_err(|error| self.lost(shared_text(in_words(&error))))? == 0 {
                return Err(self.lost("the server hung up".into()));
            }
        }
    }

    /// The server broke the protocol.
    pub(super) fn protocol(&self, text: &str) -> ConnectError {
        ConnectError::Protocol { address: self.address.clone(), error: text.into() }
    }

    fn violated(&self, error: CodecError) -> ConnectError {
        ConnectError::Protocol { address: self.address.clone(), error: shared_text(error) }
    }

    fn lost(&self, error: Arc<str>) -> ConnectError {
        ConnectError::Unreachable { address: self.address.clone(), error }
    }
}
