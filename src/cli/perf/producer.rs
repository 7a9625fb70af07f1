//! Publishing as fast as it goes, or as fast as it should.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    has_confirms: bool,
    books: Arc<Books>,
}

/// Batches that wait for their confirms.
#[derive(Debug, Default)]
struct Books {
    open: Mutex<OpenBooks>,
}

#[derive(Debug, Default)]
struct OpenBooks {
    sent: VecDeque<Sent>,
    /// No batch will follow.
    closed: bool,
}

#[derive(Debug)]
struct Sent {
    /// Sequence of its last message.
    last: u64,
    messages: u64,
    /// When it was sent, or its first message was due.
    sent_us: u64,
}

/// A connection that publishes.
pub(super) struct Producer {
    plan: Arc<Plan>,
    counters: Arc<Counters>,
    streams: Vec<Stream>,
    connection: Connection,
    /// Messages to publish.
    count: u64,
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
            streams.push(Self {
                number,
                publisher: builder.open().await?,
                headers,
                published: 0,
                has_confirms: plan.confirm.is_some(),
                books: Arc::default(),
            });
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

    /// Sends a full batch, for which there is room.
    async fn send(&mut self, batch: &mut MessageBatch, messages: u64, sent_us: u64) -> Result<(), Failure> {
        if self.has_confirms {
            self.books.note(Sent { last: self.published, messages, sent_us });
        }
        Ok(self.publisher.send_batch(batch).await?)
    }
}

impl Producer {
    pub(super) fn new(
        plan: Arc<Plan>,
        counters: Arc<Counters>,
        streams: Vec<Stream>,
        connection: Connection,
        count: u64,
    ) -> Self {
        Self { plan, counters, streams, connection, count }
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
        match self.plan.rate {
            None => self.publish_freely().await?,
            Some(rate) => {
                // Timers of the runtime are too coarse for a rate: a thread of its own sleeps more exactly.
                let handle = tokio::runtime::Handle::current();
                let rate = rate / self.plan.producers as f64;
                let mut producer = Self { streams: std::mem::take(&mut self.streams), ..self.share() };
                let paced = tokio::task::spawn_blocking(move || {
                    let result = producer.publish_paced(rate, &handle);
                    (producer.streams, result)
                });
                let (streams, result) =
                    paced.await.map_err(|error| Failure::new(format!("a producer failed: {error}")))?;
                self.streams = streams;
                result?;
            }
        }
        let mut produced = self.settle().await?;
        for stream in &self.streams {
            stream.books.close();
        }
        while let Some(latency) = watchers.join_next().await {
            let latency = latency.map_err(|error| Failure::new(format!("a producer failed: {error}")))?;
            produced.confirm_latency.add(latency).map_err(|error| Failure::new(error.to_string()))?;
        }
        self.streams.clear();
        self.connection.close().await?;
        Ok(produced)
    }

    fn share(&self) -> Self {
        Self {
            plan: Arc::clone(&self.plan),
            counters: Arc::clone(&self.counters),
            streams: Vec::new(),
            connection: self.connection.clone(),
            count: self.count,
        }
    }

    /// Waits until the fate of everything is known.
    async fn settle(&self) -> Result<Produced, Failure> {
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
                return Err(Failure::new(
                    "the broker confirmed nothing for 30 seconds after the last message",
                ));
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
        Ok(produced)
    }

    async fn publish_freely(&mut self) -> Result<(), Failure> {
        let mut body = vec![b'x'; self.plan.size];
        let mut batch = MessageBatch::new();
        let batch_messages = self.plan.batch_messages();
        let mut left = self.count;
        let mut turn = 0;
        while left > 0 && self.counters.is_producing() {
            let messages = batch_messages.min(left);
            let bytes = messages * (self.plan.size as u64 + BYTES_AROUND_BODY);
            let streams = self.streams.len();
            let stream = &mut self.streams[turn % streams];
            let waiting = Instant::now();
            stream.publisher.wait_for_room(messages, bytes).await?;
            self.counters.add_producer_wait(waiting.elapsed());
            let now = self.counters.now_us();
            stream.fill(&mut batch, &mut body, messages, || now)?;
            stream.send(&mut batch, messages, now).await?;
            self.counters.add_published(messages);
            left -= messages;
            turn += 1;
            // Consumers in this process shall not starve.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Sends each message when it is due. A message that is late keeps the time at which it was due.
    fn publish_paced(&mut self, rate: f64, runtime: &tokio::runtime::Handle) -> Result<(), Failure> {
        let mut body = vec![b'x'; self.plan.size];
        let mut batch = MessageBatch::new();
        let batch_messages = self.plan.batch_messages();
        let start = Instant::now();
        let start_us = self.counters.now_us();
        let mut sent = 0u64;
        let mut turn = 0;
        while sent < self.count && self.counters.is_producing() {
            let due = (start.elapsed().as_secs_f64() * rate) as u64 + 1;
            let messages = due.saturating_sub(sent).min(batch_messages).min(self.count - sent);
            if messages == 0 {
                let next = Duration::from_secs_f64(sent as f64 / rate);
                std::thread::sleep(next.saturating_sub(start.elapsed()));
                continue;
            }
            let bytes = messages * (self.plan.size as u64 + BYTES_AROUND_BODY);
            let streams = self.streams.len();
            let stream = &mut self.streams[turn % streams];
            let waiting = Instant::now();
            runtime.block_on(stream.publisher.wait_for_room(messages, bytes))?;
            self.counters.add_producer_wait(waiting.elapsed());
            let due_us = |number: u64| start_us + (number as f64 / rate * 1e6) as u64;
            let first_us = due_us(sent);
            let mut number = sent;
            stream.fill(&mut batch, &mut body, messages, || {
                number += 1;
                due_us(number - 1)
            })?;
            runtime.block_on(stream.send(&mut batch, messages, first_us))?;
            self.counters.add_published(messages);
            sent += messages;
            turn += 1;
        }
        Ok(())
    }
}

impl Books {
    fn note(&self, batch: Sent) {
        self.lock().sent.push_back(batch);
    }

    fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, OpenBooks> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts confirms and how long they took, until all are there.
async fn watch_confirms(publisher: Publisher, books: Arc<Books>, counters: Arc<Counters>) -> Histogram<u64> {
    let mut latency = histogram();
    let mut seen = 0;
    // An error is the end of the connection, which the producer notices, too.
    while let Ok(progress) = publisher.settled_beyond(seen).await {
        counters.add_confirmed(progress.settled_through - seen);
        seen = progress.settled_through;
        let now = counters.now_us();
        let mut books = books.lock();
        while books.sent.front().is_some_and(|batch| batch.last <= seen)
            && let Some(batch) = books.sent.pop_front()
        {
            if counters.is_measuring() {
                latency.saturating_record_n(now.saturating_sub(batch.sent_us), batch.messages);
            }
        }
        if books.closed && books.sent.is_empty() {
            break;
        }
    }
    latency
}

/// Microseconds with three digits, up to an hour.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order")
}
