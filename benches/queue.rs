//! What a queue costs for each message: taken in, handed out, settled; empty, and with 100,000 and 1,000,000 messages
//! waiting.
//!
//! `cargo bench --bench queue`; a name as an argument picks some, for instance `settle`.
//!
//! A queue touches 8 bytes for each message, so a backlog that fits no cache costs one miss every 8 messages; the
//! numbers should hardly depend on its length. What bounds each:
//!
//! - `enqueue`: one store to the end of the last chunk.
//! - `deliver`: the checks of the consumer's room, and one entry in its list of unsettled messages. Neighbours go out
//!   as one effect.
//! - `settle-range`: a mark in the consumer's list and one in the chunk, found without a search as long as messages
//!   are settled in order.
//! - `settle-single`: the same, and a command with a list of its own for each message: an allocation.
//! - `settle-shared`: two consumers hold every other turn of up to 64 messages and settle in long ranges, so that each
//!   settlement leaves gaps, and the next place must be searched wherever there is one.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret::model::{BodySequence, ConnectionId};
use leveret::queue::{
    ConsumerKey, ConsumerLimits, Effect, Effects, Outcome, Queue, QueueCommand, QueueOptions, TagRange,
};

const BACKLOGS: [u64; 3] = [0, 100_000, 1_000_000];

/// Messages of one round: as many as a consumer has open with a usual prefetch.
const ROUND: u64 = 1_000;

const MESSAGE_BYTES: u32 = 100;

/// A queue with consumers that take one round at a time, and one message in, one out.
struct Flow {
    queue: Queue,
    consumers: Vec<(ConsumerKey, u64)>,
    next: u64,
    effects: Effects,
}

impl Flow {
    fn new(backlog: u64, consumers: u32) -> Self {
        let mut queue = Queue::new(QueueOptions::default());
        let limits = ConsumerLimits {
            prefetch: 0,
            no_ack: false,
            exclusive: false,
            credit: Some(0),
            window_bytes: u64::MAX,
            priority: 0,
        };
        let keys = (1..=consumers).map(|handle| ConsumerKey::consumer(ConnectionId(1), 1, handle));
        let consumers: Vec<(ConsumerKey, u64)> = keys.map(|key| (key, 0)).collect();
        consumers.iter().for_each(|(key, _)| queue.attach(*key, limits).unwrap());
        let mut flow = Self { queue, consumers, next: 1, effects: Vec::new() };
        flow.enqueue(backlog);
        flow
    }

    fn enqueue(&mut self, count: u64) {
        self.queue.enqueue(BodySequence(self.next), (0..count).map(|_| MESSAGE_BYTES));
        self.next += count;
    }

    fn deliver(&mut self) {
        for (key, last_tag) in &mut self.consumers {
            let share = ROUND as u32 / 2;
            self.queue.add_credit(*key, share);
            *last_tag += u64::from(share);
        }
        self.queue.deliver(&mut self.effects);
        black_box(&self.effects);
        self.effects.clear();
    }

    fn settle(&mut self, consumer: usize, range: TagRange) {
        let key = self.consumers[consumer].0;
        self.queue.settle_tags(key, range, Outcome::Accepted, &mut self.effects).unwrap();
        let Some(Effect::Append(command @ QueueCommand::Settle(..))) = self.effects.pop() else {
            unreachable!("something was settled")
        };
        self.queue.apply(&command, &mut self.effects);
        black_box(&self.effects);
        self.effects.clear();
    }

    fn settle_ranges(&mut self) {
        for consumer in 0..self.consumers.len() {
            self.settle(consumer, TagRange { first: 0, last: self.consumers[consumer].1 });
        }
    }

    fn settle_one_by_one(&mut self) {
        let last = self.consumers[0].1;
        for tag in last - ROUND / 2 + 1..=last {
            self.settle(0, TagRange { first: tag, last: tag });
        }
    }
}

/// Runs rounds of in, out, settled and returns what one of the three took.
fn rounds(count: u64, flow: &mut Flow, timed: usize, settle: fn(&mut Flow)) -> Duration {
    let messages = ROUND / 2 * flow.consumers.len() as u64;
    let mut took = [Duration::ZERO; 3];
    for _ in 0..count {
        let start = Instant::now();
        flow.enqueue(messages);
        let taken_in = Instant::now();
        flow.deliver();
        let handed_out = Instant::now();
        settle(flow);
        took[0] += taken_in - start;
        took[1] += handed_out - taken_in;
        took[2] += handed_out.elapsed();
    }
    took[timed]
}

fn queue(criterion: &mut Criterion) {
    type Settle = fn(&mut Flow);
    let cases: [(&str, u32, usize, Settle); 5] = [
        ("enqueue", 1, 0, Flow::settle_ranges),
        ("deliver", 1, 1, Flow::settle_ranges),
        ("settle-single", 1, 2, Flow::settle_one_by_one),
        ("settle-range", 1, 2, Flow::settle_ranges),
        ("settle-shared", 2, 2, Flow::settle_ranges),
    ];
    for (name, consumers, timed, settle) in cases {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(ROUND / 2 * u64::from(consumers)));
        for backlog in BACKLOGS {
            let mut flow = Flow::new(backlog, consumers);
            group.bench_function(BenchmarkId::from_parameter(backlog), |bencher| {
                bencher.iter_custom(|count| rounds(count, &mut flow, timed, settle));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = queue
}
criterion_main!(benches);
