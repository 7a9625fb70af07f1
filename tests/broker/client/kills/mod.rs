//! The real broker, killed without warning over and over while clients publish, consume, settle, declare and delete:
//! what it confirmed it has, what was settled is gone, what may come twice says so.
//!
//! `LEVERET_KILL_ROUNDS` and `LEVERET_KILL_SEED` make it longer, or choose how the load differs from round to round;
//! when exactly a kill strikes no seed can say.

mod load;
mod oracle;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use leveret::client::{
    Binding, Channel, ConnectOptions, Connection, DeleteQueue, Exchange, ExchangeKind, Queue,
};
use tokio::task::JoinSet;

use self::oracle::Oracle;
use super::soon;
use crate::support::Broker;

/// Kills, unless the environment says more.
const ROUNDS: u64 = 24;
/// Files and checkpoints so small that each round has many of them.
const FLAGS: [&str; 8] =
    ["--shards", "2", "--segment-bytes", "1MiB", "--checkpoint-bytes", "1MiB", "--cache-bytes-max", "1MiB"];
const QUEUES: [&str; 3] = ["a", "b", "c"];
/// Where publishers publish.
static ROUTES: [Route; 3] = [
    Route { publisher: 0, exchange: "every", key: "", queues: &["a", "b", "c"] },
    Route { publisher: 1, exchange: "", key: "a", queues: &["a"] },
    Route { publisher: 2, exchange: "some", key: "two.of.them", queues: &["b", "c"] },
];

struct Route {
    publisher: u32,
    exchange: &'static str,
    key: &'static str,
    queues: &'static [&'static str],
}

/// Numbers that look random, the same for the same seed.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, and is '{text}'")))
}

/// A connection that stays broken when it breaks, and a channel.
async fn connect(broker: &Broker) -> (Connection, Channel) {
    let options: ConnectOptions = broker.url().parse().unwrap();
    let connection = soon(Connection::connect(options.no_reconnect())).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    (connection, channel)
}

async fn declare(broker: &Broker) {
    let (_connection, channel) = connect(broker).await;
    for queue in QUEUES {
        channel.declare_queue(Queue::new(queue)).await.unwrap();
    }
    channel.declare_exchange(Exchange::new("every", ExchangeKind::Fanout)).await.unwrap();
    channel.declare_exchange(Exchange::new("some", ExchangeKind::Topic)).await.unwrap();
    for queue in QUEUES {
        channel.bind(Binding::to_queue("every", queue, "")).await.unwrap();
    }
    for queue in ["b", "c"] {
        channel.bind(Binding::to_queue("some", queue, "two.#")).await.unwrap();
    }
}

/// Starts the clients of one round.
async fn start_load(
    broker: &Broker,
    oracle: &Arc<Oracle>,
    numbers: &Arc<AtomicU64>,
    random: &mut Random,
) -> JoinSet<()> {
    let mut load = JoinSet::new();
    // There is always a publisher, or the round would end when the queues are empty.
    let busy = random.below(ROUTES.len() as u64) as usize;
    for (number, route) in ROUTES.iter().enumerate() {
        if number == busy || random.below(2) == 0 {
            let (connection, channel) = connect(broker).await;
            let publish = load::publish(Arc::clone(oracle), channel, route, Arc::clone(numbers));
            load.spawn(async move {
                publish.await;
                drop(connection);
            });
        }
    }
    for queue in QUEUES {
        // Sometimes two share a queue, sometimes it grows.
        for _ in 0..random.below(3) {
            let (connection, channel) = connect(broker).await;
            let consume = load::consume(Arc::clone(oracle), channel, queue, random.fork());
            load.spawn(async move {
                consume.await;
                drop(connection);
            });
        }
    }
    load
}

/// One queue comes and another goes in each round.
async fn change_topology(broker: &Broker, round: u64) {
    let (_connection, channel) = connect(broker).await;
    channel.declare_queue(Queue::new(format!("round {round}"))).await.unwrap();
    if let Some(before) = round.checked_sub(1) {
        channel.delete_queue(&format!("round {before}"), DeleteQueue::default()).await.unwrap();
    }
}

async fn check_restarted(broker: &Broker, oracle: &Oracle, round: u64) {
    let (_connection, channel) = connect(broker).await;
    let queues = soon(channel.list_queues()).await.unwrap();
    let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", &format!("round {round}")]);
    for queue in QUEUES {
        let entry = queues.iter().find(|entry| entry.name == queue).unwrap();
        let (least, most) = oracle.bounds(queue);
        assert_eq!(entry.messages_unacknowledged, 0);
        if !(least..=most).contains(&entry.messages_ready) {
            let ready = entry.messages_ready;
            oracle.violated(format!("queue {queue} has {ready} messages, not {least} to {most}"));
        }
    }
}

#[track_caller]
fn judge(oracle: &Oracle, round: u64, seed: u64) {
    let verdict = oracle.verdict();
    assert!(verdict.is_empty(), "round {round}, LEVERET_KILL_SEED={seed}:\n{}", verdict.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_and_nothing_settled_returns_when_the_broker_is_killed() {
    let rounds = from_environment("LEVERET_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = from_environment("LEVERET_KILL_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    let mut random = Random(seed);
    let oracle = Arc::new(Oracle::new(&QUEUES));
    let numbers = Arc::new(AtomicU64::new(0));
    let mut broker = Broker::start_with(&FLAGS);
    declare(&broker).await;
    for round in 0..rounds {
        let mut load = start_load(&broker, &oracle, &numbers, &mut random).await;
        let mut events = oracle.events();
        let until = *events.borrow() + 200 + random.below(4_000);
        soon(change_topology(&broker, round)).await;
        soon(events.wait_for(|count| *count >= until)).await.unwrap();
        let starts = random.below(3);
        let mut delays = random.fork();
        let killed = tokio::task::spawn_blocking(move || {
            broker.kill();
            for _ in 0..starts {
                broker.kill_while_starting(Duration::from_micros(delays.below(60_000)));
            }
            broker.restart();
            broker
        });
        broker = killed.await.unwrap();
        while let Some(ended) = soon(load.join_next()).await {
            ended.unwrap();
        }
        check_restarted(&broker, &oracle, round).await;
        judge(&oracle, round, seed);
    }

    let mut drains = JoinSet::new();
    for queue in QUEUES {
        let (connection, _) = connect(&broker).await;
        drains.spawn(load::drain(Arc::clone(&oracle), connection, queue));
    }
    while let Some(drained) = soon(drains.join_next()).await {
        drained.unwrap();
    }
    oracle.drained();
    judge(&oracle, rounds, seed);
    broker.kill_and_restart();
    for queue in QUEUES {
        assert_eq!(broker.messages(queue), (0, 0));
    }
    println!("{rounds} kills, LEVERET_KILL_SEED={seed}: {:?}", oracle.counts());
}
