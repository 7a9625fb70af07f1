//! One producer: fills batches with stamped messages and sends them, as fast as it can or as its schedule says.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::confirm_times::ConfirmTimes;
use super::pace::Schedule;
use super::plan::Plan;
use super::scoreboard::Scoreboard;
use super::stamp::{Clock, STAMP_BYTES, Stamp, StreamId};
use super::topology::{Route, Topology};
use crate::cli::failure::Failure;
use crate::client::{Channel, MessageBatch, PreparedProperties, Properties, Publisher};
use crate::model::Durability;

/// Bytes that confirm windows may take at least, whatever the size of messages.
const WINDOW_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Bytes of a message besides its body, at most: envelope, routing key, the header of a headers exchange.
const ENVELOPE_BYTES_MAX: u64 = 600;

/// Encoded bytes after which the connection has its turn, so that what is sent is still in the processor's cache.
const TURN_BYTES: usize = 64 * 1024;

/// How it is with a producer when it has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Messages the client took for sending.
    pub(super) published: u64,
    /// Of these, refused or returned by the broker.
    pub(super) failed: u64,
    /// The lowest level that a confirm stated.
    pub(super) level: Option<Durability>,
}

/// A producer that is ready to start.
#[derive(Debug)]
pub(super) struct Producer {
    publisher: Publisher,
    letters: Letters,
    batch: MessageBatch,
    batch_messages: u64,
    /// Encoded bytes of a full batch, at most.
    batch_bytes: u64,
    /// Messages it may send in all.
    quota: u64,
    /// There if it asks for confirms.
    confirms: Option<ConfirmTimes>,
    pace: Option<Pace>,
    clock: Clock,
    board: Arc<Scoreboard>,
    stop: watch::Receiver<bool>,
    /// Messages that the client has taken.
    published: u64,
}

/// When its messages are due.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) schedule: Schedule,
    /// Told when something is due.
    pub(super) beat: Arc<Notify>,
    pub(super) producer: usize,
}

/// What all tasks of a run share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) board: Arc<Scoreboard>,
    /// Turns true when no more is to be published.
    pub(super) stop: watch::Receiver<bool>,
    /// Part of all stamps.
    pub(super) run: u16,
}

impl Producer {
    pub(super) async fn open(
        channel: &Channel,
        plan: &Plan,
        topology: &Topology,
        producer: usize,
        quota: u64,
        shared: &Shared,
    ) -> Result<Self, Failure> {
        let letters = Letters::new(plan, topology, producer, shared.run)?;
        let mut builder = channel.publisher(topology.exchange(), letters.publishers_key());
        if plan.is_transient {
            builder = builder.transient();
        }
        builder = match plan.confirm_window {
            Some(window) => {
                let bytes = window.saturating_mul(plan.size_bytes as u64 + ENVELOPE_BYTES_MAX);
                builder.window_messages(window).window_bytes(bytes.max(WINDOW_BYTES_MIN))
            }
            None => builder.without_confirms(),
        };
        let batch_messages = plan.batch_messages();
        let publisher = builder.open().await?;
        let confirms = plan
            .confirm_window
            .map(|_| ConfirmTimes::new(publisher.clone(), shared.clock, shared.board.clone()));
        Ok(Self {
            publisher,
            letters,
            batch: MessageBatch::new(),
            batch_messages,
            batch_bytes: batch_messages * (plan.size_bytes as u64 + ENVELOPE_BYTES_MAX),
            quota,
            confirms,
            pace: None,
            clock: shared.clock,
            board: shared.board.clone(),
            stop: shared.stop.clone(),
            published: 0,
        })
    }

    /// Sends messages when they are due from now on, instead of as fast as possible.
    pub(super) fn pace(&mut self, pace: Pace) {
        self.pace = Some(pace);
    }

    /// Publishes until it is told to stop or has sent its share, then waits for what is under way. Errors are on the
    /// scoreboard.
    pub(super) async fn run(mut self) -> Outcome {
        if let Err(failure) = self.publish().await {
            self.board.add_fatal(failure.text());
        }
        let published = self.published;
        let settled = noting(&mut self.confirms, self.publisher.wait_for_all()).await;
        if let Some(confirms) = &mut self.confirms {
            confirms.catch_up();
        }
        let progress = self.publisher.progress();
        let failed = progress.refused + progress.returned;
        if let Err(error) = settled {
            self.board.add_errors(failed.max(1), Failure::from(error).text());
        }
        // What it could tell has been told.
        drop(self.publisher.close().await);
        Outcome { published, failed, level: progress.level }
    }

    async fn publish(&mut self) -> Result<(), Failure> {
        let mut turn_bytes = 0;
        while self.letters.written < self.quota && !*self.stop.borrow() {
            let wanted = match self.wanted().await? {
                Some(wanted) => wanted,
                None => return Ok(()),
            };
            if !self.room_for(wanted).await? {
                return Ok(());
            }
            let now_ns = self.clock.now_ns();
            self.fill(wanted, now_ns)?;
            turn_bytes += self.batch.size_bytes();
            self.publisher.send_batch(&mut self.batch).await?;
            self.published += wanted;
            self.board.add_published(now_ns, wanted);
            if turn_bytes >= TURN_BYTES {
                turn_bytes = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits until there is something to send: how many messages at most. `None`: it is over.
    async fn wanted(&mut self) -> Result<Option<u64>, Failure> {
        let written = self.letters.written;
        let left = self.quota - written;
        let Some(pace) = &mut self.pace else { return Ok(Some(left.min(self.batch_messages))) };
        loop {
            let due = pace.due_count(self.clock.now_ns()).saturating_sub(written);
            if due > 0 {
                return Ok(Some(due.min(left).min(self.batch_messages)));
            }
            let beat = async {
                tokio::select! {
                    biased;
                    _ = self.stop.wait_for(|stop| *stop) => false,
                    () = pace.beat.notified() => true,
                }
            };
            if !noting(&mut self.confirms, beat).await {
                return Ok(None);
            }
        }
    }

    /// Waits until the client takes so many messages at once; `false` if it is over before. Only then is the batch
    /// filled, so that its stamps are those of the sending.
    async fn room_for(&mut self, messages: u64) -> Result<bool, Failure> {
        let bytes = self.batch_bytes / self.batch_messages * messages;
        let room = async {
            tokio::select! {
                biased;
                room = self.publisher.wait_for_room(messages, bytes) => room.map(|()| true).map_err(Failure::from),
                _ = self.stop.wait_for(|stop| *stop) => Ok(false),
            }
        };
        noting(&mut self.confirms, room).await
    }

    fn fill(&mut self, messages: u64, now_ns: u64) -> Result<(), Failure> {
        let first = self.letters.written;
        for index in first..first + messages {
            let at_ns = self.pace.as_ref().map_or(now_ns, |pace| pace.due_ns(index));
            self.letters.write(at_ns, &mut self.batch)?;
            if let Some(confirms) = self.confirms.as_mut().filter(|_| self.pace.is_some()) {
                confirms.push(index + 1, at_ns);
            }
        }
        if let Some(confirms) = self.confirms.as_mut().filter(|_| self.pace.is_none()) {
            confirms.push(self.letters.written, now_ns);
        }
        Ok(())
    }
}

/// Waits for something, and notes the confirms that come meanwhile. One task does both, so that a confirm that makes room for the
/// next message wakes one task.
async fn noting<T>(confirms: &mut Option<ConfirmTimes>, wanted: impl Future<Output = T>) -> T {
    let mut wanted = pin!(wanted);
    while let Some(times) = confirms {
        let has_more = tokio::select! {
            biased;
            has_more = times.note_next() => has_more,
            there = &mut wanted => return there,
        };
        if !has_more {
            *confirms = None;
        }
    }
    wanted.await
}

impl Pace {
    fn due_ns(&self, index: u64) -> u64 {
        self.schedule.due_ns(self.producer, index)
    }

    /// Messages of this producer that are due by now.
    fn due_count(&self, now_ns: u64) -> u64 {
        self.schedule.due_count_of(self.producer, now_ns)
    }
}

/// Writes a producer's messages: to its streams in turn, numbered and stamped.
#[derive(Debug)]
struct Letters {
    streams: Vec<(StreamId, Route)>,
    /// In place of those of a route.
    properties: Option<PreparedProperties>,
    /// Reused; only the stamp changes.
    body: Vec<u8>,
    /// Messages written.
    written: u64,
}

impl Letters {
    fn new(plan: &Plan, topology: &Topology, producer: usize, run: u16) -> Result<Self, Failure> {
        let streams = plan.streams_of(producer).into_iter().map(|(number, queue)| {
            let queue = if plan.is_fanout() { 0 } else { queue };
            Ok((StreamId { run, number }, topology.route(queue)?))
        });
        let body = vec![b'.'; plan.size_bytes];
        let prior = plan.priorities.map(|priorities| {
            let priority = (producer % usize::from(priorities)) as u8;
            PreparedProperties::new(&Properties { priority, ..Properties::default() })
        });
        let streams = streams.collect::<Result<_, Failure>>()?;
        Ok(Self { streams, properties: prior.transpose()?, body, written: 0 })
    }

    /// The routing key that goes with the publisher, so that messages need none; "" if it changes from one to the next.
    fn publishers_key(&self) -> &str {
        match &self.streams[..] {
            [(_, route)] => &route.routing_key,
            _ => "",
        }
    }

    #[inline]
    fn write(&mut self, at_ns: u64, batch: &mut MessageBatch) -> Result<(), Failure> {
        let streams = self.streams.len() as u64;
        let (index, sequence) = match streams {
            1 => (0, self.written + 1),
            streams => ((self.written % streams) as usize, self.written / streams + 1),
        };
        let (stream, route) = &self.streams[index];
        let place = self.body.first_chunk_mut::<STAMP_BYTES>().expect("the plan has room for the stamp");
        Stamp::new(*stream, sequence, at_ns).write(place);
        let own_key = (streams > 1).then_some(route.routing_key.as_str());
        let properties = self.properties.as_ref().unwrap_or(&route.properties);
        batch.push_prepared(own_key, properties, &self.body)?;
        self.written += 1;
        Ok(())
    }
}
