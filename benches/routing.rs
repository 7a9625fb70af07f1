//! How long a route and a bind take, for each kind of exchange and for 10, 1,000, 100,000 and a million bindings.
//!
//! `cargo bench --bench routing`; a name as an argument picks some, for instance `topic`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret::model::{
    ExchangeName, FieldTable, FieldValue, QueueId, QueueName, RoutingKey, ShardId, VhostName,
};
use leveret::routing::{Binding, Bound, Destination, QueueTarget, Routed, RoutingTable};

const SIZES: [usize; 4] = [10, 1_000, 100_000, 1_000_000];

/// Keys routed in turn, so that a route does not find its nodes in the nearest cache.
const KEYS: usize = 4_096;

/// Queues that the bindings lead to.
const QUEUES: usize = 1_000;

/// One kind of exchange with bindings of some shape, and keys that match about one of them.
struct Shape {
    name: &'static str,
    exchange: &'static str,
    binding_key: fn(usize) -> String,
    arguments: fn(usize) -> FieldTable,
    routing_key: fn(usize) -> String,
    headers: fn(usize) -> FieldTable,
}

fn none(_: usize) -> FieldTable {
    FieldTable::default()
}

fn shapes() -> [Shape; 6] {
    let plain = |name, exchange, binding_key, routing_key| Shape {
        name,
        exchange,
        binding_key,
        arguments: none,
        routing_key,
        headers: none,
    };
    [
        plain("direct", "amq.direct", |n| format!("orders.{n}"), |n| format!("orders.{n}")),
        plain("fanout", "amq.fanout", |n| n.to_string(), |_| String::new()),
        // Eight of ten patterns are literal, one has a star, one a hash.
        plain(
            "topic",
            "amq.topic",
            |n| match n % 10 {
                0 => format!("region{}.*.line{n}", n % 50),
                1 => format!("region{}.plant{}.line{n}.#", n % 50, n % 1_000),
                _ => format!("region{}.plant{}.line{n}", n % 50, n % 1_000),
            },
            |n| format!("region{}.plant{}.line{n}", n % 50, n % 1_000),
        ),
        // One node of the tree with all words below it.
        plain(
            "topic_siblings",
            "amq.topic",
            |n| format!("device.sensor-{n}.reading"),
            |n| format!("device.sensor-{n}.reading"),
        ),
        // Every pattern must be tried at every word.
        plain("topic_hashes", "amq.topic", |n| format!("#.tag-{n}.#"), |n| format!("a.b.c.d.tag-{n}.e.f.g")),
        Shape {
            name: "headers",
            exchange: "amq.headers",
            binding_key: |_| String::new(),
            arguments: |n| {
                FieldTable::from([
                    ("x-match", FieldValue::from("all")),
                    ("format", FieldValue::from(["pdf", "zip", "csv"][n % 3])),
                    ("customer", FieldValue::Integer(n as i64)),
                ])
            },
            routing_key: |_| String::new(),
            headers: |n| {
                FieldTable::from([
                    ("format", FieldValue::from(["pdf", "zip", "csv"][n % 3])),
                    ("customer", FieldValue::Integer(n as i64)),
                    ("source", FieldValue::from("scanner")),
                ])
            },
        },
    ]
}

impl Shape {
    fn binding(&self, number: usize) -> Binding {
        Binding {
            source: ExchangeName::new(self.exchange).unwrap(),
            destination: Destination::Queue(queue_name(number % QUEUES)),
            key: RoutingKey::new(&(self.binding_key)(number)).unwrap(),
            arguments: (self.arguments)(number),
        }
    }

    fn table(&self, bindings: usize) -> RoutingTable {
        let mut table = RoutingTable::new(VhostName::new("/").unwrap());
        for number in 0..QUEUES {
            let target = QueueTarget { id: QueueId(number as u64), shard: ShardId(0) };
            table.insert_queue(queue_name(number), target);
        }
        for number in 0..bindings {
            assert_eq!(table.bind(self.binding(number)), Bound::Added);
        }
        table
    }
}

fn queue_name(number: usize) -> QueueName {
    QueueName::new(&format!("queue-{number}")).unwrap()
}

/// Numbers below `end`, spread so that neighbours are far apart.
fn scattered(end: usize) -> impl Iterator<Item = usize> {
    (0..KEYS).map(move |step| step.wrapping_mul(2_654_435_761) % end)
}

fn route(c: &mut Criterion) {
    for shape in shapes() {
        let mut group = c.benchmark_group(format!("route/{}", shape.name));
        group.throughput(Throughput::Elements(1));
        for size in SIZES {
            let table = shape.table(size);
            let messages: Vec<_> =
                scattered(size).map(|n| ((shape.routing_key)(n), (shape.headers)(n))).collect();
            let mut routed = Routed::default();
            let mut next = messages.iter().cycle();
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    let (key, headers) = next.next().unwrap();
                    table.route(shape.exchange, key, &mut Some(headers), &mut routed).unwrap();
                    black_box(routed.queues().len())
                });
            });
        }
    }
}

/// One bind and one unbind in a table of 100,000 bindings, each followed by a clone that replaces the one before, as
/// a catalog publishes its changes.
fn bind_and_unbind(c: &mut Criterion) {
    let mut group = c.benchmark_group("bind_and_unbind");
    group.throughput(Throughput::Elements(2));
    let size = 100_000;
    for shape in shapes() {
        let mut table = shape.table(size);
        let bindings: Vec<_> = scattered(size).map(|n| shape.binding(n + size)).collect();
        let mut next = bindings.iter().cycle();
        let mut published = table.clone();
        group.bench_function(shape.name, |b| {
            b.iter(|| {
                let binding = next.next().unwrap();
                table.bind(binding.clone());
                published = table.clone();
                table.unbind(binding);
                published = table.clone();
            });
        });
        black_box(published);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = route, bind_and_unbind
}
criterion_main!(benches);
