//! A broker in this process, and a client that sends what it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use leveret::broker::{Broker, BrokerOptions, Password, open};
use leveret::model::UserName;
use leveret::protocol::Limits;
use leveret::server::{Server, ServerOptions};
use leveret::wire::pb::frame::Body as Cold;
use leveret::wire::{
    Body, Side, WireFrame, decode_frame_from, encode_frame, encode_publish_head, pb, split_frame,
};
use tokio::sync::oneshot;

/// A test that waits longer for bytes has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Largest message of the brokers here.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// A broker in memory with its server, which ends with the test.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Options that tests change.
pub(crate) struct Settings {
    /// `None`: nowhere but in memory.
    pub(crate) data: Option<PathBuf>,
    pub(crate) handshake_ms: u64,
    pub(crate) connections_max: usize,
    pub(crate) heartbeat_seconds: u32,
    pub(crate) publish_bytes_max: usize,
    pub(crate) memory_bytes_max: u64,
    pub(crate) deliver_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: None,
            handshake_ms: 10_000,
            connections_max: 100,
            heartbeat_seconds: 0,
            publish_bytes_max: 1024 * 1024,
            memory_bytes_max: 1 << 30,
            deliver_bytes_max: 1024 * 1024,
        }
    }
}

impl Served {
    pub(crate) fn start() -> Self {
        Self::start_with(Settings::default())
    }

    pub(crate) fn start_with(settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let broker = broker(&settings);
                let server = Server::bind(([127, 0, 0, 1], 0).into(), broker.clone(), options(&settings))
                    .await
                    .unwrap();
                ready.send(server.local_address().unwrap()).unwrap();
                server
                    .run(async {
                        // A test that has ended stops its server, too.
                        let _ = stopped.await;
                    })
                    .await;
                broker.close().await.unwrap();
            });
        });
        let address = address.recv().unwrap();
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Asks the server to stop; returns at once.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the server has stopped.
    pub(crate) fn join(mut self) {
        self.stop();
        self.thread.take().unwrap().join().unwrap();
    }

    /// A connection on which nothing was sent.
    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: BytesMut::new(), request: 100 }
    }

    /// A connection that is logged in, with channel 1 open.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.connect();
        client.ask(0, Cold::Connect(connect()));
        client.ask(1, Cold::OpenChannel(pb::OpenChannel {}));
        client
    }
}

pub(crate) fn broker(settings: &Settings) -> Broker {
    open(broker_options(settings)).unwrap()
}

pub(crate) fn broker_options(settings: &Settings) -> BrokerOptions {
    BrokerOptions {
        data: settings.data.clone(),
        shards: 1,
        shards_are_chosen: true,
        segment_bytes: 64 * 1024 * 1024,
        checkpoint_bytes: 256 * 1024 * 1024,
        lease_millis: None,
        disk_free_bytes_min: 0,
        resident_bytes_max: 1024 * 1024,
        message_bytes_max: MESSAGE_BYTES_MAX,
        publish_bytes_max: settings.publish_bytes_max,
        memory_bytes_max: settings.memory_bytes_max,
        deliver_bytes_max: settings.deliver_bytes_max,
        journey_bytes_max: 8 * 1024 * 1024,
        journey_disk_bytes_max: None,
        first_user: Some((UserName::new("guest").unwrap(), Password::new("guest").unwrap())),
    }
}

fn options(settings: &Settings) -> ServerOptions {
    ServerOptions {
        limits: Limits {
            frame_bytes_max: MESSAGE_BYTES_MAX as u32 + 64 * 1024,
            channel_max: 100,
            heartbeat_seconds: settings.heartbeat_seconds,
            message_bytes_max: MESSAGE_BYTES_MAX as u64,
            stored_body_bytes_max: 0,
        },
        handshake_ms: settings.handshake_ms,
        connections_max: settings.connections_max,
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server failed");
        }
    }
}

/// What a client sends first, if nothing about it is special.
pub(crate) fn connect() -> pb::Connect {
    pb::Connect {
        protocol_version: 1,
        mechanism: "PLAIN".to_owned(),
        response: b"\0guest\0guest".to_vec().into(),
        ..pb::Connect::default()
    }
}

/// A client without a will of its own.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    request: u64,
}

impl Client {
    /// Sends bytes, whatever they are. The server may have hung up already.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a frame without a request id.
    pub(crate) fn tell(&mut self, channel: u32, body: Cold) {
        self.send(channel, 0, body);
    }

    pub(crate) fn send(&mut self, channel: u32, request: u64, body: Cold) {
        let mut out = BytesMut::new();
        encode_frame(channel, request, &body, &mut out);
        self.send_bytes(&out);
    }

    /// Sends a request and returns its answer, which must be the next frame.
    #[track_caller]
    pub(crate) fn ask(&mut self, channel: u32, body: Cold) -> Cold {
        self.request += 1;
        self.send(channel, self.request, body);
        self.answer(channel, self.request)
    }

    /// The next frame, which must be the answer to a request.
    #[track_caller]
    pub(crate) fn answer(&mut self, channel: u32, request: u64) -> Cold {
        let frame = self.next();
        assert_eq!((frame.channel, frame.request), (channel, request), "{frame:?}");
        other(frame)
    }

    /// Sends a request that must be refused.
    #[track_caller]
    pub(crate) fn refused(&mut self, channel: u32, body: Cold) -> pb::Error {
        match self.ask(channel, body) {
            Cold::Error(error) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Sends a request that must be answered by `Done`.
    #[track_caller]
    pub(crate) fn done(&mut self, channel: u32, body: Cold) {
        let answer = self.ask(channel, body);
        assert!(matches!(answer, Cold::Done(_)), "{answer:?}");
    }

    /// The next frame.
    #[track_caller]
    pub(crate) fn next(&mut self) -> WireFrame {
        self.try_next().expect("the server hung up")
    }

    /// The next frame, or `None` if the server hung up.
    #[track_caller]
    pub(crate) fn try_next(&mut self) -> Option<WireFrame> {
        self.try_next_bytes().map(|frame| decode_frame_from(Side::Server, frame).unwrap())
    }

    /// The next frame as it came, without its length; `None` if the server hung up.
    #[track_caller]
    pub(crate) fn try_next_bytes(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = split_frame(&mut self.buffer, usize::MAX).unwrap() {
                return Some(frame);
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(bytes) => self.buffer.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The next frame, which must be an error about no request in particular.
    #[track_caller]
    pub(crate) fn news(&mut self, channel: u32) -> pb::Error {
        match self.answer(channel, 0) {
            Cold::Error(error) => error,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// The next frame, which must be the server's last one.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> Option<pb::Error> {
        let Cold::Close(close) = self.answer(0, 0) else { panic!("not a goodbye") };
        assert!(self.try_next().is_none(), "something came after the goodbye");
        close.error
    }

    /// Everything until the server hangs up, as it is.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.buffer.split().to_vec();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        rest
    }

    /// Whether the server answers on this connection: it serves.
    #[track_caller]
    pub(crate) fn is_served(&mut self) {
        let listing =
            self.ask(1, Cold::List(pb::List { kind: pb::ListKind::Queues.into(), ..Default::default() }));
        assert!(matches!(listing, Cold::Listing(_)), "{listing:?}");
    }

    #[track_caller]
    pub(crate) fn declare_queue(&mut self, name: &str) {
        let declared =
            self.ask(1, Cold::DeclareQueue(pb::DeclareQueue { name: name.to_owned(), ..Default::default() }));
        assert!(matches!(declared, Cold::QueueDeclared(_)), "{declared:?}");
    }

    #[track_caller]
    pub(crate) fn open_publisher(&mut self, publisher: u32, exchange: &str, routing_key: &str) {
        self.open_publisher_with(publisher, target(exchange, routing_key));
    }

    #[track_caller]
    pub(crate) fn open_publisher_with(&mut self, publisher: u32, target: pb::PublishTarget) {
        self.done(1, Cold::OpenPublisher(pb::OpenPublisher { publisher, target: Some(target) }));
    }

    /// Publishes on channel 1.
    pub(crate) fn publish(&mut self, publisher: u32, first_sequence: u64, bodies: &[&[u8]]) {
        let items: Vec<_> = bodies.iter().map(|body| item(body)).collect();
        self.publish_items(publisher, first_sequence, None, &items);
    }

    pub(crate) fn publish_items(
        &mut self,
        publisher: u32,
        first_sequence: u64,
        target: Option<&pb::PublishTarget>,
        items: &[pb::PublishItem],
    ) {
        self.send_bytes(&publish_frame(publisher, first_sequence, target, items));
    }

    /// Publishes, unless the socket takes nothing for so long; then nothing more can be sent.
    pub(crate) fn publishes_within(
        &mut self,
        patience: Duration,
        first_sequence: u64,
        target: &pb::PublishTarget,
        items: &[pb::PublishItem],
    ) -> bool {
        self.stream.set_write_timeout(Some(patience)).unwrap();
        match self.stream.write_all(&publish_frame(0, first_sequence, Some(target), items)) {
            Ok(()) => true,
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next frame, which must be a confirm.
    #[track_caller]
    pub(crate) fn confirm(&mut self) -> pb::Confirm {
        match self.next().body {
            Body::Confirm(confirm) => confirm,
            other => panic!("not a confirm: {other:?}"),
        }
    }

    /// Reads confirms until the sequence is confirmed; each without refusal.
    #[track_caller]
    pub(crate) fn confirmed_through(&mut self, sequence: u64) {
        loop {
            let ranges = self.confirm().ranges;
            assert!(ranges.iter().all(|range| range.refusal.is_none()), "{ranges:?}");
            if ranges.iter().any(|range| range.last >= sequence) {
                return;
            }
        }
    }

    /// Publishes one message for each body and waits for the confirms.
    #[track_caller]
    pub(crate) fn fill(&mut self, queue: &str, bodies: &[&[u8]]) {
        let items: Vec<_> = bodies.iter().map(|body| item(body)).collect();
        self.publish_items(0, 1, Some(&target("", queue)), &items);
        self.confirmed_through(bodies.len() as u64);
    }

    #[track_caller]
    pub(crate) fn consume(&mut self, queue: &str, consumer: u32, prefetch: u32) {
        self.consume_with(pb::Consume { queue: queue.to_owned(), consumer, prefetch, ..Default::default() });
    }

    #[track_caller]
    pub(crate) fn consume_with(&mut self, consume: pb::Consume) {
        let answer = self.ask(1, Cold::Consume(consume));
        assert!(matches!(answer, Cold::Consuming(_)), "{answer:?}");
    }

    /// The next frame, which must hold deliveries: consumer, first tag, bodies, and whether all were out before.
    #[track_caller]
    pub(crate) fn delivery(&mut self) -> Delivered {
        match self.next().body {
            Body::Deliver(deliver) => {
                let items: Vec<_> = deliver.messages().map(Result::unwrap).collect();
                Delivered {
                    consumer: deliver.consumer,
                    first_tag: deliver.first_tag,
                    bodies: items.iter().map(|item| item.body.to_vec()).collect(),
                    again: items.iter().map(|item| (item.redelivered, item.delivery_count)).collect(),
                }
            }
            other => panic!("not a delivery: {other:?}"),
        }
    }

    /// Reads deliveries until there are so many messages.
    #[track_caller]
    pub(crate) fn bodies(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            bodies.extend(self.delivery().bodies);
        }
        assert_eq!(bodies.len(), count);
        bodies
    }

    pub(crate) fn settle(&mut self, consumer: u32, first: u64, last: u64, outcome: pb::Outcome) {
        self.tell(1, settle(consumer, first, last, outcome));
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) consumer: u32,
    pub(crate) first_tag: u64,
    pub(crate) bodies: Vec<Vec<u8>>,
    /// Redelivered flag and delivery count of each.
    pub(crate) again: Vec<(bool, u32)>,
}

pub(crate) fn publish_frame(
    publisher: u32,
    first_sequence: u64,
    target: Option<&pb::PublishTarget>,
    items: &[pb::PublishItem],
) -> BytesMut {
    let mut run = BytesMut::new();
    items.iter().for_each(|item| prost::encoding::message::encode(5, item, &mut run));
    let mut out = BytesMut::new();
    encode_publish_head(1, publisher, first_sequence, target, run.len(), &mut out);
    out.extend_from_slice(&run);
    out
}

pub(crate) fn settle(consumer: u32, first: u64, last: u64, outcome: pb::Outcome) -> Cold {
    let range = pb::SettleRange { first, last, outcome: outcome.into(), delay_ms: None };
    Cold::Settle(pb::Settle { consumer, ranges: vec![range] })
}

pub(crate) fn item(body: &[u8]) -> pb::PublishItem {
    let message = pb::Message { properties: None, body: body.to_vec().into() };
    pb::PublishItem { message: Some(message), ..pb::PublishItem::default() }
}

pub(crate) fn target(exchange: &str, routing_key: &str) -> pb::PublishTarget {
    pb::PublishTarget {
        exchange: exchange.to_owned(),
        routing_key: routing_key.to_owned(),
        ..pb::PublishTarget::default()
    }
}

#[track_caller]
fn other(frame: WireFrame) -> Cold {
    match frame.body {
        Body::Other(body) => *body,
        other => panic!("not expected now: {other:?}"),
    }
}
