//! A server that does what a test tells it, over real sockets.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::client::{Backoff, Channel, ConnectOptions, Connection};
use crate::message::DeliveredItem;
use crate::wire::pb::{self, frame::Body};
use crate::wire::{self, Side, WireFrame};

/// Nothing in these tests takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const FRAME_BYTES_MAX: u32 = 1024 * 1024;

pub(super) struct Server {
    listener: TcpListener,
}

/// The server's end of one connection.
pub(super) struct Peer {
    socket: TcpStream,
    incoming: BytesMut,
}

/// A published frame, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) publisher: u32,
    pub(super) first_sequence: u64,
    pub(super) bodies: Vec<String>,
    pub(super) resent: bool,
}

/// Fails a test that would hang.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("this should not take so long")
}

impl Server {
    pub(super) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// Options that lead here, with short delays.
    pub(super) fn options(&self) -> ConnectOptions {
        let backoff = Backoff {
            delay_first: Duration::from_millis(5),
            delay_max: Duration::from_millis(20),
            attempts_max: 50,
            give_up_after: Duration::from_secs(20),
        };
        let port = self.listener.local_addr().unwrap().port();
        ConnectOptions::default().port(port).reconnect(backoff)
    }

    pub(super) async fn accept(&self) -> Peer {
        let (socket, _) = soon(self.listener.accept()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Peer { socket, incoming: BytesMut::new() }
    }

    /// Accepts and logs in; what the client said.
    pub(super) async fn login(&self) -> (Peer, pb::Connect) {
        let mut peer = self.accept().await;
        let connect = match peer.expect().await {
            (0, 1, Body::Connect(connect)) => connect,
            other => panic!("a client connects first, this one sent {other:?}"),
        };
        peer.send(0, 1, Body::Connected(connected())).await;
        (peer, connect)
    }

    /// A connection that has logged in.
    pub(super) async fn connection(&self) -> (Connection, Peer) {
        self.connection_with(self.options()).await
    }

    pub(super) async fn connection_with(&self, options: ConnectOptions) -> (Connection, Peer) {
        let (connection, (peer, _)) = tokio::join!(soon(Connection::connect(options)), self.login());
        (connection.unwrap(), peer)
    }

    /// A connection with its first channel.
    pub(super) async fn channel(&self) -> (Connection, Channel, Peer) {
        let (connection, mut peer) = self.connection().await;
        let channel = peer.open_channel(&connection).await;
        (connection, channel, peer)
    }
}

pub(super) fn connected() -> pb::Connected {
    pb::Connected {
        protocol_version: 1,
        frame_max: FRAME_BYTES_MAX,
        channel_max: 7,
        message_size_max: 512 * 1024,
        durability: pb::DurabilityLevel::Synced.into(),
        connection_id: 42,
        ..Default::default()
    }
}

impl Peer {
    /// The next frame as it is.
    pub(super) async fn frame(&mut self) -> WireFrame {
        soon(self.try_frame()).await.expect("the client hung up")
    }

    async fn try_frame(&mut self) -> Option<WireFrame> {
        loop {
            if let Some(frame) = wire::split_frame(&mut self.incoming, 20 << 20).unwrap() {
                return Some(wire::decode_frame_from(Side::Client, frame).unwrap());
            }
            if self.socket.read_buf(&mut self.incoming).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next frame, which is none of the four hot ones.
    pub(super) async fn expect(&mut self) -> (u32, u64, Body) {
        let frame = self.frame().await;
        match frame.body {
            wire::Body::Other(body) => (frame.channel, frame.request, *body),
            other => panic!("expected a request, got {other:?}"),
        }
    }

    /// The next frame, which carries messages.
    pub(super) async fn published(&mut self) -> Published {
        let frame = self.frame().await;
        let wire::Body::Publish(publish) = frame.body else { panic!("expected a Publish, got {frame:?}") };
        let items: Vec<_> = (0..publish.items.len())
            .map(|index| {
                DeliveredItem::decode(&Bytes::copy_from_slice(publish.items.run.item(index))).unwrap()
            })
            .collect();
        Published {
            publisher: publish.publisher,
            first_sequence: publish.first_sequence,
            resent: items.iter().any(|item| item.resent),
            bodies: items.iter().map(|item| String::from_utf8_lossy(&item.body).into_owned()).collect(),
        }
    }

    /// The next frame, which settles deliveries: request, consumer, ranges as (first, last, outcome).
    pub(super) async fn settled(&mut self) -> (u64, u32, Vec<(u64, u64, pb::Outcome)>) {
        let frame = self.frame().await;
        let wire::Body::Settle(settle) = frame.body else { panic!("expected a Settle, got {frame:?}") };
        let ranges = settle.ranges.iter().map(|range| (range.first, range.last, range.outcome()));
        (frame.request, settle.consumer, ranges.collect())
    }

    pub(super) async fn send(&mut self, channel: u32, request: u64, body: Body) {
        let mut bytes = BytesMut::new();
        wire::encode_frame(channel, request, &body, &mut bytes);
        self.send_bytes(&bytes).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        soon(self.socket.write_all(bytes)).await.unwrap();
    }

    /// Answers the next request, which `is_expected` must know, with `answer`.
    pub(super) async fn answer(&mut self, kind: &str, answer: Body) -> Body {
        let (channel, request, body) = self.expect().await;
        let got = crate::client::convert::kind_name(&body);
        assert_eq!(got, kind, "{body:?}");
        assert_ne!(request, 0, "{kind} wants an answer");
        self.send(channel, request, answer).await;
        body
    }

    pub(super) async fn done(&mut self, kind: &str) -> Body {
        self.answer(kind, Body::Done(pb::Done {})).await
    }

    pub(super) async fn open_channel(&mut self, connection: &Connection) -> Channel {
        let (channel, _) = tokio::join!(soon(connection.channel()), self.done("OpenChannel"));
        channel.unwrap()
    }

    pub(super) async fn consuming(&mut self) -> pb::Consume {
        let (channel, request, body) = self.expect().await;
        let Body::Consume(consume) = body else { panic!("expected a Consume, got {body:?}") };
        let consuming = pb::Consuming { consumer: consume.consumer, tag: "ctag".to_owned() };
        self.send(channel, request, Body::Consuming(consuming)).await;
        consume
    }

    pub(super) async fn confirm(&mut self, channel: u32, publisher: u32, ranges: &[pb::ConfirmRange]) {
        let confirm = pb::Confirm { publisher, ranges: ranges.to_vec() };
        self.send(channel, 0, Body::Confirm(confirm)).await;
    }

    /// Delivers bodies to a consumer of channel 1.
    pub(super) async fn deliver(&mut self, consumer: u32, first_tag: u64, bodies: &[&str]) {
        let items = bodies.iter().map(|body| pb::DeliverItem {
            message: Some(pb::Message { properties: None, body: Bytes::copy_from_slice(body.as_bytes()) }),
            ..Default::default()
        });
        let deliver = pb::Deliver {
            consumer,
            first_tag,
            exchange: "x".to_owned(),
            routing_key: "k".to_owned(),
            items: items.collect(),
        };
        self.send(1, 0, Body::Deliver(deliver)).await;
    }

    /// The client's goodbye, answered, and the end of the socket.
    pub(super) async fn goodbye(&mut self) {
        match self.expect().await {
            (0, 0, Body::Close(pb::Close { error: None })) => {}
            other => panic!("expected a Close, got {other:?}"),
        }
        self.send(0, 0, Body::Close(pb::Close { error: None })).await;
        assert!(soon(self.try_frame()).await.is_none(), "nothing follows a Close");
    }

    /// Nothing more comes, because the client closed the socket.
    pub(super) async fn expect_hang_up(&mut self) {
        assert!(soon(self.try_frame()).await.is_none(), "the client should hang up");
    }
}

pub(super) fn range(first: u64, last: u64) -> pb::ConfirmRange {
    pb::ConfirmRange {
        first,
        last,
        level: pb::DurabilityLevel::Synced.into(),
        queues: 1,
        refusal: None,
        first_journey: 0,
    }
}

pub(super) fn error(code: u32, text: &str) -> pb::Error {
    pb::Error { code, name: "TEST".to_owned(), text: text.to_owned(), ..Default::default() }
}
