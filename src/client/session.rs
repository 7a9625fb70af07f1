//! One socket's life: frames out, frames in, signs of life, goodbye.
//!
//! Everything happens in one poll function, so that a turn handles whatever is there: all that is to be sent goes out
//! in few gathered writes, all that has come is dispatched, and tasks are woken once.

use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep, timeout};

use super::convert::shared_text;
use super::core::Core;
use super::dispatch::Next;
use super::error::CloseReason;
use super::publisher::PublisherShared;
use super::state::Outgoing;
use super::write_queue::WriteQueue;
use crate::model::{Refusal, ReplyCode, in_words};
use crate::wire::{self, Side, WireError, pb};

/// Bytes read at once: grows from the first to the second while reads fill the space.
const READ_BYTES_MIN: usize = 16 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;

/// Bytes taken from one publisher before others have their turn.
const PUBLISHER_BUDGET_BYTES: usize = 256 * 1024;

/// Ranges in one `Settle` frame; each takes 24 bytes at most.
const SETTLE_RANGES_MAX: usize = 1000;

/// Rounds of writing and reading before other tasks have their turn.
const ROUNDS_MAX: usize = 16;

/// How long the other end may take for its part of the goodbye, from the last progress on.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// How long telling the server about its mistake may take.
const LAST_WORD: Duration = Duration::from_secs(1);

pub(super) struct Session<S> {
    core: Arc<Core>,
    socket: S,
    /// Counts connections.
    epoch: u64,
    frame_bytes_max: usize,
    incoming: BytesMut,
    read_bytes: usize,
    outgoing: WriteQueue,
    heartbeat: Option<Heartbeat>,
    goodbye: Option<Goodbye>,
}

struct Heartbeat {
    seconds: u32,
    /// Twice an interval.
    ticks: Interval,
    has_written: bool,
    /// Ticks since anything came.
    silent_ticks: u32,
}

struct Goodbye {
    deadline: Pin<Box<Sleep>>,
    is_sent: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// A session over a socket on which the handshake is done; `incoming` is what was read beyond it.
    pub(super) fn new(core: Arc<Core>, socket: S, incoming: BytesMut) -> Self {
        let (epoch, offer) = {
            let state = core.state();
            (state.epoch, state.offer.clone())
        };
        Self {
            core,
            socket,
            epoch,
            frame_bytes_max: offer.frame_bytes_max as usize,
            incoming,
            read_bytes: READ_BYTES_MIN,
            outgoing: WriteQueue::default(),
            heartbeat: Heartbeat::new(offer.heartbeat_seconds),
            goodbye: None,
        }
    }

    /// Runs until the connection ends; why it did.
    pub(super) async fn run(mut self) -> CloseReason {
        let reason = poll_fn(|context| self.poll(context)).await;
        if let CloseReason::Protocol(text) = &reason {
            self.complain(text).await;
        }
        reason
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<CloseReason> {
        match self.poll_rounds(context) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                // Others first; then on.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Err(reason) => Poll::Ready(reason),
        }
    }

    /// `Ready` if there is more to do at once.
    fn poll_rounds(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, CloseReason> {
        if !self.incoming.is_empty() {
            self.dispatch_incoming()?;
        }
        for _ in 0..ROUNDS_MAX {
            self.core.register_driver(context.waker());
            let has_collected = self.collect();
            let has_written = self.write(context)?;
            let has_read = self.read(context)?;
            if !(has_collected || has_written || has_read) {
                self.poll_goodbye(context)?;
                return self.poll_heartbeat(context);
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Moves what is to be sent into the write queue. Whether there was anything.
    fn collect(&mut self) -> bool {
        if self.outgoing.is_full() {
            return false;
        }
        let (mut entries, is_blocked) = {
            let mut state = self.core.state();
            (mem::take(&mut state.outgoing), state.blocked.is_some())
        };
        if entries.is_empty() {
            return false;
        }
        let mut again = Vec::new();
        let mut is_progress = false;
        while !self.outgoing.is_full()
            && let Some(entry) = entries.pop_front()
        {
            if is_blocked && matches!(entry, Outgoing::Publisher(_)) {
                // Behind messages that the server does not take, all else would wait, too.
                again.push(entry);
                continue;
            }
            match self.send(entry) {
                Some(unfinished) => {
                    is_progress |= matches!(unfinished, Outgoing::Publisher(_));
                    again.push(unfinished);
                }
                None => is_progress = true,
            }
        }
        // In front what had no turn, then what came meanwhile, last what had a turn and is not finished.
        let mut state = self.core.state();
        entries.append(&mut state.outgoing);
        entries.extend(again);
        state.outgoing = entries;
        is_progress
    }

    /// Sends what an entry stands for. The entry comes back if it needs another turn.
    fn send(&mut self, entry: Outgoing) -> Option<Outgoing> {
        match entry {
            Outgoing::Frame { bytes, .. } => self.outgoing.push(bytes),
            Outgoing::Publisher(publisher) => {
                if self.send_messages(&publisher) {
                    return Some(Outgoing::Publisher(publisher));
                }
            }
            Outgoing::Settler(settler) => {
                let (channel, consumer) = (settler.channel(), settler.consumer());
                for ranges in settler.take_extended().chunks(SETTLE_RANGES_MAX) {
                    let body = pb::frame::Body::Extend(pb::Extend { consumer, ranges: ranges.to_vec() });
                    self.outgoing.encode(|out| wire::encode_frame(channel, 0, &body, out));
                }
                for ranges in settler.take().chunks(SETTLE_RANGES_MAX) {
                    self.outgoing.encode(|out| wire::encode_settle(channel, 0, consumer, ranges, out));
                }
            }
            Outgoing::Credit { consumer, add, epoch } => {
                if epoch == self.epoch {
                    let body = pb::frame::Body::Credit(pb::Credit { consumer: consumer.id(), add });
                    self.outgoing.encode(|out| wire::encode_frame(consumer.channel(), 0, &body, out));
                }
            }
            Outgoing::FrameAfter { drained, request, bytes } => {
                if !drained.iter().all(|publisher| publisher.is_drained()) {
                    return Some(Outgoing::FrameAfter { drained, request, bytes });
                }
                self.outgoing.push(bytes);
            }
            // Whoever waited does not any more.
            Outgoing::Flush { done, .. } if done.is_closed() => {}
            Outgoing::Flush { drained, done } => {
                if !drained.is_drained() {
                    return Some(Outgoing::Flush { drained, done });
                }
                self.outgoing.mark(done);
            }
        }
        None
    }

    /// Whether the publisher has more.
    fn send_messages(&mut self, publisher: &PublisherShared) -> bool {
        let mut frames = Vec::new();
        let is_more = publisher.take(PUBLISHER_BUDGET_BYTES, &mut frames);
        for frame in frames {
            let (channel, number, items_len) = (publisher.channel(), publisher.id(), frame.items.len());
            self.outgoing.encode(|out| {
                wire::encode_publish_head(channel, number, frame.first_sequence, None, items_len, out);
            });
            self.outgoing.push(frame.items);
        }
        is_more
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, CloseReason> {
        self.say_goodbye();
        let Poll::Ready(written) = self.outgoing.poll_write(context, &mut self.socket) else {
            return Ok(false);
        };
        let has_written = written.map_err(|error| self.broken(&error))?;
        if has_written {
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.has_written = true;
            }
            if let Some(goodbye) = &mut self.goodbye {
                goodbye.deadline.as_mut().reset(Instant::now() + GOODBYE);
            }
        }
        Ok(has_written)
    }

    fn read(&mut self, context: &mut Context<'_>) -> Result<bool, CloseReason> {
        if self.core.is_stalled() {
            return Ok(false);
        }
        if self.incoming.capacity() - self.incoming.len() < self.read_bytes / 4 {
            self.incoming.reserve(self.read_bytes);
        }
        let space = self.incoming.capacity() - self.incoming.len();
        let Poll::Ready(read) = pin!(self.socket.read_buf(&mut self.incoming)).poll(context) else {
            return Ok(false);
        };
        let read = read.map_err(|error| self.broken(&error))?;
        if read == 0 {
            return Err(self.broken(&io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up")));
        }
        if read == space {
            self.read_bytes = (2 * self.read_bytes).min(READ_BYTES_MAX);
        }
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.silent_ticks = 0;
        }
        self.dispatch_incoming()?;
        Ok(true)
    }

    fn dispatch_incoming(&mut self) -> Result<(), CloseReason> {
        let violation = |error: WireError| CloseReason::Protocol(shared_text(error));
        while let Some(frame) =
            wire::split_frame(&mut self.incoming, self.frame_bytes_max).map_err(violation)?
        {
            let frame = match wire::decode_frame_from(Side::Server, frame) {
                Ok(frame) => frame,
                Err(WireError::UnknownFrame { request, .. }) => {
                    self.core.answer_unknown(request);
                    continue;
                }
                Err(error) => return Err(violation(error)),
            };
            match self.core.dispatch(self.epoch, frame)? {
                Next::ReadOn => {}
                Next::Closed(_) if self.goodbye.as_ref().is_some_and(|goodbye| goodbye.is_sent) => {
                    return Err(CloseReason::ByClient);
                }
                Next::Closed(error) => return Err(self.closed_by_server(error.map(|error| *error))),
            }
        }
        Ok(())
    }

    /// The server said goodbye first: it gets one back, if the socket takes it at once.
    fn closed_by_server(&mut self, error: Option<pb::Error>) -> CloseReason {
        self.outgoing = WriteQueue::default();
        self.outgoing.encode(|out| encode_close(None, out));
        let mut context = Context::from_waker(std::task::Waker::noop());
        // The server closes the socket anyway.
        let _ = self.outgoing.poll_write(&mut context, &mut self.socket);
        CloseReason::ByServer(error.map(|error| Arc::new(super::convert::refusal_from_wire(error))))
    }

    /// Once the application has closed the connection and everything is written, the last frame.
    fn say_goodbye(&mut self) {
        let is_sent = self.goodbye.as_ref().is_some_and(|goodbye| goodbye.is_sent);
        if is_sent {
            return;
        }
        let (is_closing, is_all_taken) = {
            let state = self.core.state();
            (state.is_closing, state.outgoing.is_empty())
        };
        if !is_closing {
            return;
        }
        let goodbye = self
            .goodbye
            .get_or_insert_with(|| Goodbye { deadline: Box::pin(sleep(GOODBYE)), is_sent: false });
        if is_all_taken && self.outgoing.is_empty() {
            goodbye.is_sent = true;
            self.outgoing.encode(|out| encode_close(None, out));
        }
    }

    fn poll_goodbye(&mut self, context: &mut Context<'_>) -> Result<(), CloseReason> {
        let Some(goodbye) = &mut self.goodbye else { return Ok(()) };
        if goodbye.deadline.as_mut().poll(context).is_ready() { Err(CloseReason::ByClient) } else { Ok(()) }
    }

    fn poll_heartbeat(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, CloseReason> {
        let is_stalled = self.core.is_stalled();
        let Some(heartbeat) = &mut self.heartbeat else { return Ok(Poll::Pending) };
        if heartbeat.ticks.poll_tick(context).is_pending() {
            return Ok(Poll::Pending);
        }
        // While this side does not read, silence is not the server's.
        heartbeat.silent_ticks = if is_stalled { 0 } else { heartbeat.silent_ticks + 1 };
        if heartbeat.silent_ticks > 4 {
            return Err(CloseReason::HeartbeatMissed { heartbeat_seconds: heartbeat.seconds });
        }
        if !mem::take(&mut heartbeat.has_written) {
            let body = pb::frame::Body::Heartbeat(pb::Heartbeat {});
            self.outgoing.encode(|out| wire::encode_frame(0, 0, &body, out));
        }
        Ok(Poll::Ready(()))
    }

    fn broken(&self, error: &io::Error) -> CloseReason {
        match &self.goodbye {
            Some(goodbye) if goodbye.is_sent => CloseReason::ByClient,
            _ => CloseReason::Io(shared_text(in_words(error))),
        }
    }

    /// Tells the server what it did wrong, for its log.
    async fn complain(&mut self, text: &str) {
        let refusal = Refusal::new(ReplyCode::FrameError, text);
        let mut bytes = BytesMut::new();
        encode_close(Some(&refusal), &mut bytes);
        // The connection is over in any case.
        let _ = timeout(LAST_WORD, self.socket.write_all(&bytes)).await;
    }
}

impl Heartbeat {
    fn new(seconds: u32) -> Option<Self> {
        if seconds == 0 {
            return None;
        }
        let half = Duration::from_secs(seconds.into()) / 2;
        let mut ticks = interval_at(Instant::now() + half, half);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(Self { seconds, ticks, has_written: false, silent_ticks: 0 })
    }
}

fn encode_close(refusal: Option<&Refusal>, out: &mut BytesMut) {
    let close = pb::Close { error: refusal.map(pb::Error::from) };
    wire::encode_frame(0, 0, &pb::frame::Body::Close(close), out);
}
