//! A network that breaks over and over: a subscription that stood is there again each time, and the books balance.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leveret::client::{
    Backoff, Binding, Channel, ConnectOptions, Connection, Consumer, Exchange, ExchangeKind, Publisher, Queue,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::soon;
use crate::support::Broker;

/// Bytes of the handshake in each direction, and more: what follows is cut at every byte, too.
const HANDSHAKE_BYTES: usize = 220;
/// All cuts of the test, those of the handshake included.
const CUTS: usize = 1_000;
/// Bytes between the login and a random cut.
const FLOW_BYTES: u64 = 3_000;
/// Sockets of the broker's that stay open after a cut: it does not hear of the cut.
const DEAF_MAX: usize = 64;
/// Messages without a confirm at a time.
const PUBLISHED_TOGETHER: usize = 10;
/// The end of a test's messages.
const LAST: u64 = u64::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    ToBroker,
    ToClient,
}

/// Where a connection breaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) way: Way,
    pub(super) after: usize,
    /// The broker's socket stays open.
    pub(super) deaf: bool,
}

/// Stands between client and broker, and cuts each connection as planned.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    /// Cuts that were made.
    pub(super) made: watch::Receiver<usize>,
}

impl Proxy {
    pub(super) async fn start(broker: SocketAddr, plan: Vec<Option<Cut>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, made) = watch::channel(0);
        tokio::spawn(async move {
            let mut plan = VecDeque::from(plan);
            let deaf = Arc::new(Mutex::new(VecDeque::new()));
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(broker).await.unwrap();
                let planned = plan.pop_front().flatten();
                tokio::spawn(pass(client, server, planned, deaf.clone(), cut.clone()));
            }
        });
        Self { address, made }
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    cut: Option<Cut>,
    deaf: Arc<Mutex<VecDeque<TcpStream>>>,
    made: watch::Sender<usize>,
) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let mut pair = (client, server);
    {
        let (mut from_client, mut to_client) = pair.0.split();
        let (mut from_server, mut to_server) = pair.1.split();
        let (up, down) = match cut {
            Some(Cut { way: Way::ToBroker, after, .. }) => (Some(after), None),
            Some(Cut { way: Way::ToClient, after, .. }) => (None, Some(after)),
            None => (None, None),
        };
        tokio::select! {
            () = copy(&mut from_client, &mut to_server, up) => {}
            () = copy(&mut from_server, &mut to_client, down) => {}
        }
    }
    if let Some(cut) = cut {
        if cut.deaf {
            let mut deaf = deaf.lock().unwrap();
            deaf.push_back(pair.1);
            if deaf.len() > DEAF_MAX {
                deaf.pop_front();
            }
        }
        made.send_modify(|count| *count += 1);
    }
}

/// Copies until either end is gone, or so many bytes have passed.
async fn copy(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    bytes_max: Option<usize>,
) {
    let mut left = bytes_max.unwrap_or(usize::MAX);
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let room = left.min(buffer.len());
        let Ok(read @ 1..) = from.read(&mut buffer[..room]).await else { return };
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        left -= read;
    }
}

/// Numbers that look random, the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Each byte of the handshake both ways, then random places; the first connection is not cut until it has made everything.
fn plan() -> Vec<Option<Cut>> {
    let mut numbers = Numbers(7);
    let mut cuts = vec![Cut { way: Way::ToBroker, after: 20_000, deaf: true }];
    for after in 0..HANDSHAKE_BYTES {
        for way in [Way::ToBroker, Way::ToClient] {
            cuts.push(Cut { way, after, deaf: after % 2 == 0 });
        }
        // A client that comes back to nothing but the broken handshake leaves nothing behind: so it gets further now and then.
        if after % 8 == 0 {
            cuts.push(Cut { way: Way::ToBroker, after: 3_000, deaf: after % 16 == 0 });
        }
    }
    while cuts.len() < CUTS {
        let way = if numbers.next().is_multiple_of(2) { Way::ToBroker } else { Way::ToClient };
        let after = HANDSHAKE_BYTES + (numbers.next() % FLOW_BYTES) as usize;
        cuts.push(Cut { way, after, deaf: numbers.next().is_multiple_of(2) });
    }
    cuts.into_iter().map(Some).collect()
}

/// Publishes numbers from 1 on until `stop` says so, then the last one; how many.
async fn publish(publisher: Publisher, mut stop: watch::Receiver<bool>) -> u64 {
    let mut number = 0u64;
    while !*stop.borrow_and_update() {
        let mut confirms = Vec::new();
        for _ in 0..PUBLISHED_TOGETHER {
            number += 1;
            confirms.push(publisher.publish(number.to_be_bytes().to_vec()).await.unwrap());
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
    }
    publisher.publish(LAST.to_be_bytes().to_vec()).await.unwrap().await.unwrap();
    number
}

/// What came before the last one.
async fn consume(mut consumer: Consumer) -> (Consumer, BTreeSet<u64>) {
    let mut seen = BTreeSet::new();
    loop {
        let delivery =
            consumer.next().await.expect("the subscription stands").expect("the subscription stands");
        let number = u64::from_be_bytes(delivery.body()[..].try_into().unwrap());
        // What came over a connection that is gone comes again.
        let accepted = delivery.accept();
        if number != LAST {
            seen.insert(number);
        } else if accepted.is_ok() {
            return (consumer, seen);
        }
    }
}

async fn subscribe(channel: &Channel) -> (Consumer, Consumer) {
    channel.declare_queue(Queue::new("books")).await.unwrap();
    channel.declare_exchange(Exchange::new("all", ExchangeKind::Fanout)).await.unwrap();
    channel
        .declare_exchange(Exchange::new("news", ExchangeKind::Fanout).transient().auto_delete())
        .await
        .unwrap();
    channel.declare_queue(Queue::new("subscription").transient().auto_delete()).await.unwrap();
    channel.bind(Binding::to_queue("news", "subscription", "")).await.unwrap();
    channel.bind(Binding::to_exchange("all", "news", "")).await.unwrap();
    channel.bind(Binding::to_queue("all", "books", "")).await.unwrap();
    let books = channel.consume("books").prefetch(10).start().await.unwrap();
    let subscription = channel.consume("subscription").prefetch(10).start().await.unwrap();
    (books, subscription)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_survives_a_thousand_cuts_and_the_books_balance() {
    let broker = Broker::start();
    let options: ConnectOptions = broker.url().parse().unwrap();
    let target = options.address().parse().unwrap();
    let mut proxy = Proxy::start(target, plan()).await;
    let quick = Backoff {
        delay_first: Duration::from_millis(1),
        delay_max: Duration::from_millis(2),
        ..Backoff::default()
    };
    let options = options.port(proxy.address.port()).reconnect(quick);
    let connection = soon(Connection::connect(options)).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    let (books, subscription) = soon(subscribe(&channel)).await;
    let publisher = soon(channel.publisher("all", "").open()).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let publishing = tokio::spawn(publish(publisher, stopped));
    let (books, subscription) = (tokio::spawn(consume(books)), tokio::spawn(consume(subscription)));

    let all_cut = proxy.made.wait_for(|made| *made >= CUTS);
    tokio::time::timeout(Duration::from_secs(120), all_cut).await.expect("the client comes back").unwrap();
    stop.send(true).unwrap();
    let published = soon(publishing).await.unwrap();
    let (_books, seen) = soon(books).await.unwrap();
    let (_subscription, _) = soon(subscription).await.unwrap();
    assert!(
        seen.iter().copied().eq(1..=published),
        "every confirmed message came: {} of {published}",
        seen.len()
    );
    for queue in ["books", "subscription"] {
        soon(async {
            while broker.messages(queue) != (0, 0) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let entry = soon(channel.find_queue(queue)).await.unwrap().unwrap();
        assert_eq!(entry.consumers, 1, "{queue}");
    }
}
