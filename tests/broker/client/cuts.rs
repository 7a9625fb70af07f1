//! A network that breaks over and over: a subscription that stood is there again each time, and the books balance.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leveret::client::{
    Backoff, Binding, Channel, ConnectOptions, Connection, Consumer, DeleteQueue, Event, Exchange,
    ExchangeKind, Publisher, Queue, RequestError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::soon;
use crate::support::Broker;

/// Cuts at random places, after those at each byte of a handshake.
const RANDOM_CUTS: usize = 500;
/// The least number of all of them together.
const CUTS_MIN: usize = 1_000;
/// Bytes by which a handshake may be longer another time: numbers in it grow.
const HANDSHAKE_GROWS: usize = 8;
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

/// Bytes that have passed over a connection.
#[derive(Debug, Default)]
struct Passed {
    to_broker: AtomicUsize,
    to_client: AtomicUsize,
}

impl Passed {
    fn both(&self) -> [(Way, usize); 2] {
        let bytes = |passed: &AtomicUsize| passed.load(Ordering::Relaxed);
        [(Way::ToBroker, bytes(&self.to_broker)), (Way::ToClient, bytes(&self.to_client))]
    }
}

/// Stands between client and broker, and cuts each connection as planned.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    /// Cuts that were made.
    pub(super) made: watch::Receiver<usize>,
    /// Of each connection, in the order in which they came.
    passed: Arc<Mutex<Vec<Arc<Passed>>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    /// Sockets that were kept open go with it.
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub(super) async fn start(broker: SocketAddr, plan: Vec<Option<Cut>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, made) = watch::channel(0);
        let passed = Arc::new(Mutex::new(Vec::new()));
        let all_passed = passed.clone();
        let accepting = tokio::spawn(async move {
            let mut plan = VecDeque::from(plan);
            let deaf = Arc::new(Mutex::new(VecDeque::new()));
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(broker).await.unwrap();
                let planned = plan.pop_front().flatten();
                let passed = Arc::new(Passed::default());
                all_passed.lock().unwrap().push(passed.clone());
                tokio::spawn(pass(client, server, planned, passed, deaf.clone(), cut.clone()));
            }
        });
        Self { address, made, passed, accepting }
    }

    /// Bytes that have passed over a connection, counted from 0.
    fn passed(&self, connection: usize) -> [(Way, usize); 2] {
        self.passed.lock().unwrap()[connection].both()
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    cut: Option<Cut>,
    passed: Arc<Passed>,
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
            () = copy(&mut from_client, &mut to_server, up, &passed.to_broker) => {}
            () = copy(&mut from_server, &mut to_client, down, &passed.to_client) => {}
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
    passed: &AtomicUsize,
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
        passed.fetch_add(read, Ordering::Relaxed);
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

/// The first connection is cut when it has made everything; those after it at each byte of the handshake with which it is made
/// again, both ways, then at random places.
fn plan(handshake: [(Way, usize); 2]) -> Vec<Option<Cut>> {
    let mut numbers = Numbers(7);
    let mut cuts = vec![Cut { way: Way::ToBroker, after: 20_000, deaf: true }];
    for (way, bytes) in handshake {
        for after in 0..bytes + HANDSHAKE_GROWS {
            cuts.push(Cut { way, after, deaf: after % 2 == 0 });
            // A client that comes back to nothing but the broken handshake leaves nothing behind: so it gets further now and then.
            if after % 16 == 0 {
                cuts.push(Cut { way: Way::ToBroker, after: 3_000, deaf: after % 32 == 0 });
            }
        }
    }
    for _ in 0..RANDOM_CUTS {
        let way = if numbers.next().is_multiple_of(2) { Way::ToBroker } else { Way::ToClient };
        let after = (numbers.next() % FLOW_BYTES) as usize;
        cuts.push(Cut { way, after, deaf: numbers.next().is_multiple_of(2) });
    }
    assert!(cuts.len() >= CUTS_MIN, "only {} cuts", cuts.len());
    cuts.into_iter().map(Some).collect()
}

fn address(broker: &Broker) -> SocketAddr {
    broker.url().parse::<ConnectOptions>().unwrap().address().parse().unwrap()
}

/// A way to the broker over a proxy, on which a client comes back at once.
fn over(proxy: &Proxy, broker: &Broker) -> ConnectOptions {
    let quick = Backoff {
        delay_first: Duration::from_millis(1),
        delay_max: Duration::from_millis(2),
        ..Backoff::default()
    };
    let options: ConnectOptions = broker.url().parse().unwrap();
    options.port(proxy.address.port()).retry_first(quick.clone()).reconnect(quick)
}

/// Bytes of the handshake with which a connection is made again, with all its declarations, bindings and consumers, and of a few
/// messages behind it.
async fn handshake_again(broker: &Broker) -> [(Way, usize); 2] {
    let proxy = Proxy::start(address(broker), Vec::new()).await;
    soon(subscribed(&over(&proxy, broker))).await;
    let [(_, first), _] = proxy.passed(0);
    // The same again, and cut by what is published then.
    let cut = Cut { way: Way::ToBroker, after: first + 100, deaf: false };
    let proxy = Proxy::start(address(broker), vec![Some(cut)]).await;
    let (connection, mut consumers, publisher) = soon(subscribed(&over(&proxy, broker))).await;
    let mut events = connection.events();
    let mut is_back = false;
    while !is_back {
        soon(publisher.publish("it").await.unwrap()).await.unwrap();
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
            is_back |= matches!(event, Event::Reconnected { .. });
        }
    }
    for consumer in &mut consumers {
        soon(consumer.next()).await.unwrap().unwrap().accept_stored().await.unwrap();
    }
    let passed = proxy.passed(1);
    soon(connection.close()).await.unwrap();
    passed
}

async fn subscribed(options: &ConnectOptions) -> (Connection, [Consumer; 2], Publisher) {
    let connection = Connection::connect(options.clone()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let (books, subscription) = subscribe(&channel).await;
    let publisher = channel.publisher("all", "").open().await.unwrap();
    (connection, [books, subscription], publisher)
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
    let plan = plan(handshake_again(&Broker::start()).await);
    let broker = Broker::start();
    let cuts = plan.len();
    let mut proxy = Proxy::start(address(&broker), plan).await;
    let (connection, [books, subscription], publisher) = soon(subscribed(&over(&proxy, &broker))).await;
    let channel = soon(connection.channel()).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let publishing = tokio::spawn(publish(publisher, stopped));
    let (books, subscription) = (tokio::spawn(consume(books)), tokio::spawn(consume(subscription)));

    let all_cut = proxy.made.wait_for(|made| *made >= cuts);
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

/// The first life of a program: it logs in, makes what it needs, publishes, takes what it has published, and ends. `made`: cuts
/// that its connection has had.
async fn live(options: ConnectOptions, name: &str, made: watch::Receiver<usize>) {
    let news = format!("{name} news");
    let connection = Connection::connect(options).await.unwrap();
    let channel = connection.channel().await.unwrap();
    channel.declare_queue(Queue::new(name)).await.unwrap();
    channel.declare_queue(Queue::new(&news).transient().auto_delete()).await.unwrap();
    channel
        .declare_exchange(Exchange::new(name, ExchangeKind::Topic).transient().auto_delete())
        .await
        .unwrap();
    channel.bind(Binding::to_queue(name, name, "a.#")).await.unwrap();
    channel.bind(Binding::to_queue(name, &news, "#")).await.unwrap();
    let mut books = channel.consume(name).prefetch(10).start().await.unwrap();
    let mut subscription = channel.consume(&news).prefetch(10).start().await.unwrap();
    let publisher = channel.publisher(name, "a.b").open().await.unwrap();
    loop {
        publisher.publish("booked").await.unwrap().await.unwrap();
        let delivery = books.next().await.expect("it stands").expect("it stands");
        assert_eq!(delivery.body(), "booked");
        // If that was cut off nobody knows whether it was stored, and so whether the message comes again: hence another one.
        if delivery.accept_stored().await.is_ok() {
            break;
        }
    }
    // News that were on a connection when it broke are gone. There is one cut: those after it come.
    if *made.borrow() > 0 {
        publisher.publish("new").await.unwrap().await.unwrap();
        while subscription.next().await.expect("it stands").expect("it stands").body() != "new" {}
    }
    while let Err(RequestError::Disconnected(_)) = channel.delete_queue(name, DeleteQueue::default()).await {}
    // One whose goodbye is cut off is gone, too.
    let _ = connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_life_is_lived_to_its_end_wherever_it_is_cut() {
    let broker = Broker::start();
    let proxy = Proxy::start(address(&broker), Vec::new()).await;
    soon(live(over(&proxy, &broker), "life-0000", proxy.made.clone())).await;
    let mut lives = 0;
    for (way, bytes) in proxy.passed(0) {
        assert!(bytes > 100, "{bytes} bytes are no life");
        for after in 0..bytes {
            lives += 1;
            let cut = Cut { way, after, deaf: after % 2 == 0 };
            let proxy = Proxy::start(address(&broker), vec![Some(cut)]).await;
            let name = format!("life-{lives:04}");
            let life = live(over(&proxy, &broker), &name, proxy.made.clone());
            let lived = tokio::time::timeout(Duration::from_secs(30), life).await;
            lived.unwrap_or_else(|_| panic!("cut {way:?} after {after} bytes it does not go on"));
        }
    }
    // Nothing is left of any of them: no connection, no queue and so no message in it, no exchange.
    let direct = soon(Connection::open(&broker.url())).await.unwrap();
    let channel = soon(direct.channel()).await.unwrap();
    let begun = Instant::now();
    loop {
        let queues = soon(channel.list_queues()).await.unwrap();
        let mut exchanges = soon(channel.list_exchanges()).await.unwrap();
        exchanges.retain(|exchange| exchange.name.starts_with("life-"));
        let connections = soon(channel.list_connections()).await.unwrap();
        if queues.is_empty() && exchanges.is_empty() && connections.len() == 1 {
            return;
        }
        let is_late = begun.elapsed() > Duration::from_secs(30);
        assert!(!is_late, "left: {queues:?}, {exchanges:?}, {connections:?}");
        tokio::task::yield_now().await;
    }
}
