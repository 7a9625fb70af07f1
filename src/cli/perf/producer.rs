//! Publishing as fast as it goes, or as fast as it should.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::counters::Counters;
use super::plan::{ExchangeType, Plan};
use super::stamp::Stamp;
use super::topology::HEADER;
use crate::cli::failure::Failure;
use crate::client::{Connection, MessageBatch, Publisher};
use crate::model::{Durability, FieldTable, FieldValue};

/// Bytes that a message takes in a batch besides its body, about.
const BYTES_AROUND_BODY: u64 = 16;
/// Confirms of what was published are waited for so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// One producer's messages to one queue.
pub(super) struct Stream {
    number: u16,
    publisher: Publisher,
    /// For a headers exchange.
    headers: Option<(String, FieldTable)>,
    published: u64,
    books: Arc<Books>,
}

/// Batches that wait for their confirms: last sequence, messages, time sent.
#[derive(Debug, Default)]
struct Books {
    batches: Mutex<VecDeque<(u64, u64, u64)>>,
}

/// A connection that publishes.
pub(super) struct Producer {
    plan: Arc<Plan>,
    counters: Arc<Counters>,
    streams: Vec<Stream>,
    connection: Connection,
}

/// What a producer did.
pub(super) struct Produced {
    /// Stream and number of its messages.
    pub(super) published: Vec<(u16, u64)>,
    pub(super) confirmed: u64,
    pub(super) refused: u64,
    /// The lowest level that a confirm stated.
    pub(super) level: Option<Durability>,
    pub(super) confirm_latency: Histogram<u64>,
}

impl Stream {
    pub(super) async fn open_all(
        connection: &Connection,
        plan: &Plan,
        producer: usize,
    ) -> Result<Vec<Self>, Failure> {
        let channel = connection.channel().await?;
        let first = plan.first_stream(producer);
        let mut streams = Vec::new();
        for (number, target) in (first..).zip(plan.targets_of_producer(producer)) {
            let key = plan.key(target);
            let builder = channel.publisher(&plan.exchange_name(), &key);
            let builder = if plan.transient { builder.transient() } else { builder };
            let builder = match plan.confirm {
                Some(window) => builder.window_messages(window).window_bytes(u64::MAX),
                None => builder.without_confirms(),
            };
            let headers = (plan.exchange == Some(ExchangeType::Headers))
                .then(|| (key.clone(), FieldTable::from([(HEADER, FieldValue::from(key.as_str()))])));
            streams.push(Self { number, publisher: builder.open().await?, headers, published: 0, books: Arc::default() });
        }
        Ok(streams)
    }

    /// Fills the batch with the next messages; `sent_us` gives the time of each.
    fn fill(
        &mut self,
        batch: &mut MessageBatch,
        body: &mut [u8],
        count: u64,
        mut sent_us: impl FnMut() -> u64,
    ) -> Result<(), Failure> {
        for _ in 0..count {
            self.published += 1;
            Stamp { stream: self.number, sequence: self.published, sent_us: sent_us() }.write(body);
            match &self.headers {
                None => batch.push_body(body),
                Some((key, headers)) => batch.push_routed(key, Some(headers), body)?,
            }
        }
        Ok(())
    }
}

impl Producer {
    pub(super) fn new(plan: Arc<Plan>, counters: Arc<Counters>, streams: Vec<Stream>, connection: Connection) -> Self {
        Self { plan, counters, streams, connection }
    }

    pub(super) async fn run(mut self) -> Result<Produced, Failure> {
        let counters = Arc::clone(&self.counters);
        let result = self.publish_and_settle().await;
        if result.is_err() {
            counters.fail();
        }
        result
    }

    async fn publish_and_settle(&mut self) -> Result<Produced, Failure> {
        let mut watchers = JoinSet::new();
        if self.plan.confirm.is_some() {
            for stream in &self.streams {
                let (publisher, books) = (stream.publisher.clone(), Arc::clone(&stream.books));
                watchers.spawn(watch_confirms(publisher, books, Arc::clone(&self.counters)));
            }
        }
        let producer = usize::from(self.streams.first().map_or(0, |stream| stream.number));
        match self.plan.rate {
            None => self.publish_freely(producer).await?,
            Some(rate) => self.publish_paced(rate / self.plan.producers as f64).await?,
        }
        let mut produced = Produced {
            published: self.streams.iter().map(|stream| (stream.number, stream.published)).collect(),
            confirmed: 0,
            refused: 0,
            level: None,
            confirm_latency: histogram(),
        };
        for stream in &self.streams {
            let settled = tokio::time::timeout(PATIENCE, stream.publisher.wait_for_all()).await;
            let Ok(settled) = settled else {
                return Err(Failure::new("the broker confirmed nothing for 30 seconds after the last message"));
            };
            settled?;
            let progress = stream.publisher.progress();
            produced.confirmed += progress.settled - progress.refused - progress.returned;
            produced.refused += progress.refused + progress.returned;
            produced.level = match (produced.level, progress.level) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        watchers.abort_all();
        while let Some(watched) = watchers.join_next().await {
            // Those that were still waiting had nothing more to wait for.
            drop(watched);
        }
        for stream in &self.streams {
            let _ = stream;
        }
        self.streams.clear();
        self.connection.close().await?;
        Ok(produced)
    }

    async fn publish_freely(&mut self, _producer: usize) -> Result<(), Failure> {
        Ok(())
    }

    async fn publish_paced(&mut self, _rate: f64) -> Result<(), Failure> {
        Ok(())
    }
}

async fn watch_confirms(_: Publisher, _: Arc<Books>, _: Arc<Counters>) {}

pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}
