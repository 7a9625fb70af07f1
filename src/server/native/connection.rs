//! The life of a connection: handshake, frames in, frames out, goodbye.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::socket::{Found, Inbox, Outbox, Shared};
use super::translation::{Departure, Translation, has_room};
use crate::broker::{Identity, Introduction, Place, Session, parse_plain};
use crate::model::{Entity, Refusal, ReplyCode};
use crate::protocol::{self, Action, Login};
use crate::wire::pb::frame::Body as Cold;
use crate::wire::{Body, WireError, WireFrame};

/// No frame is taken while so many bytes wait to be written.
const OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// Rounds of work before other tasks have their turn.
const ROUNDS_MAX: usize = 16;
/// Frames taken in one round.
const FRAMES_PER_ROUND_MAX: usize = 256;
/// Time for what was written last to arrive, and for the client to hang up.
const GOODBYE: Duration = Duration::from_secs(5);
/// Time for publishes and settlements under way to be answered before the goodbye.
const DRAIN: Duration = Duration::from_secs(10);
/// What surrounds an answer in its frame, in bytes, and then some.
const ANSWER_BYTES_AROUND: usize = 1024;
/// How often a connection without heartbeats looks whether it is idle.
const IDLE_TICK: Duration = Duration::from_secs(30);
/// Ticks, two to a heartbeat, after which a silent client counts as gone.
const SILENT_TICKS_MAX: u32 = 4;

/// Bytes in a tick that are no work: a few signs of life.
const QUIET_BYTES_MAX: u64 = 64;

/// Why clients have to go when the server stops.
const STOPPING: &str = "the broker is stopping";

/// One client's connection.
pub(in crate::server) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    protocol: protocol::Connection,
    inbox: Inbox,
    /// A frame that comes after messages that wait for room.
    held: Option<Result<WireFrame, WireError>>,
    outbox: Outbox,
    stage: Stage,
    /// The server stops.
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    alarm: Pin<Box<Sleep>>,
    pulse: Pulse,
}

enum Stage {
    /// Until the first frame: strangers are told from clients.
    Greeting,
    LoggingIn {
        login: Box<Login>,
        check: Pin<Box<dyn Future<Output = Result<Entered, Refusal>> + Send>>,
    },
    Seated(Box<Translation>),
    /// Somebody wants the client to go; what is under way is finished first.
    Draining {
        seat: Box<Translation>,
        /// What it is told in the end.
        goodbye: Refusal,
    },
    /// The last frame is on its way; what comes counts for nothing until the client hangs up.
    Leaving {
        /// Not even frames are looked for: it speaks another protocol.
        stranger: bool,
        /// Everything is written and the client sees the end of the stream.
        shut: bool,
    },
    /// The client has said goodbye or is gone: hang up when everything is written.
    HangingUp,
}

/// Who has logged in, and the place of a client that has said who it is.
type Entered = (Identity, Option<Place>);

/// What the last ticks have seen.
#[derive(Debug, Default)]
struct Pulse {
    read: u64,
    written: u64,
    ticks_without_read: u32,
    ticks_without_write: u32,
}

/// Whether the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Progress,
    Idle,
    Over,
}

impl Connection {
    pub(in crate::server) fn new(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) -> Self {
        let handshake = Duration::from_millis(shared.options.handshake_ms);
        Self {
            stream,
            peer,
            protocol: protocol::Connection::new(shared.options.limits),
            inbox: Inbox::default(),
            held: None,
            outbox: Outbox::default(),
            stage: Stage::Greeting,
            stop: Box::pin(shared.stop.clone().cancelled_owned()),
            alarm: Box::pin(tokio::time::sleep(handshake)),
            pulse: Pulse::default(),
            shared,
        }
    }

    /// Serves the client until the connection is over.
    pub(in crate::server) async fn run(mut self) {
        poll_fn(|context| self.poll_rounds(context)).await;
        self.leave_seat();
    }

    fn poll_rounds(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_MAX {
            match self.round(context) {
                Ok(Round::Progress) => {}
                Ok(Round::Idle) => return Poll::Pending,
                Ok(Round::Over) => return Poll::Ready(()),
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "connection lost");
                    return Poll::Ready(());
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn round(&mut self, context: &mut Context<'_>) -> io::Result<Round> {
        while self.alarm.as_mut().poll(context).is_ready() {
            if !self.ring() {
                return Ok(Round::Over);
            }
        }
        let mut progress = self.poll_stop(context) | self.poll_login(context);
        progress |= self.poll_seat(context);
        progress |= self.take_frames();
        if let Stage::Seated(seat) | Stage::Draining { seat, .. } = &mut self.stage {
            seat.put_confirms(&mut self.outbox);
        }
        let all_written = self.poll_write(context)?;
        if all_written && self.hang_up(context) {
            return Ok(Round::Over);
        }
        // With everything written nothing would wake the task.
        progress |= all_written
            && matches!(&self.stage, Stage::Seated(seat) | Stage::Draining { seat, .. } if seat.session().is_returning());
        progress |= self.poll_read(context)?;
        Ok(if progress { Round::Progress } else { Round::Idle })
    }

    /// Everything is written: ends the stream where nothing more follows. `true`: the connection is over.
    fn hang_up(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.stage {
            Stage::Leaving { shut: shut @ false, .. } => {
                *shut = true;
                // A client that cannot be told sees the end of the connection soon.
                let _ = Pin::new(&mut self.stream).poll_shutdown(context);
                false
            }
            Stage::HangingUp => true,
            _ => false,
        }
    }

    fn poll_stop(&mut self, context: &mut Context<'_>) -> bool {
        let runs = matches!(self.stage, Stage::Greeting | Stage::LoggingIn { .. } | Stage::Seated(_));
        if !runs || self.stop.as_mut().poll(context).is_pending() {
            return false;
        }
        match self.stage {
            Stage::Seated(_) => self.drain(forced(STOPPING.to_owned())),
            _ => self.say_goodbye(Some(&forced(STOPPING.to_owned()))),
        }
        true
    }

    /// The alarm went off; `false`: the connection is over.
    fn ring(&mut self) -> bool {
        match &self.stage {
            Stage::Greeting | Stage::LoggingIn { .. } => {
                let text = "the handshake took too long";
                tracing::info!(peer = %self.peer, text);
                self.say_goodbye(Some(&forced(text.to_owned())));
                true
            }
            Stage::Seated(_) => self.tick(),
            Stage::Draining { .. } => {
                self.finish_draining();
                true
            }
            Stage::Leaving { .. } | Stage::HangingUp => false,
        }
    }

    /// Half a heartbeat has passed.
    fn tick(&mut self) -> bool {
        self.set_alarm(self.tick_interval());
        let paused = !self.takes_frames();
        let (read, written) = (self.inbox.read(), self.outbox.written());
        let pulse = &mut self.pulse;
        let quiet = (read - pulse.read).max(written - pulse.written) <= QUIET_BYTES_MAX;
        let counted = |ticks: u32, silent: bool| if silent { ticks + 1 } else { 0 };
        // A client that we do not read from may have sent many signs of life.
        pulse.ticks_without_read = counted(pulse.ticks_without_read, read == pulse.read && !paused);
        pulse.ticks_without_write = counted(pulse.ticks_without_write, written == pulse.written);
        (pulse.read, pulse.written) = (read, written);
        if quiet {
            self.relax();
        }
        if self.protocol.limits().heartbeat_seconds == 0 {
            return true;
        }
        if self.outbox.is_empty() && self.pulse.ticks_without_write > 0 {
            let heartbeat = crate::wire::pb::frame::Body::Heartbeat(crate::wire::pb::Heartbeat {});
            crate::wire::encode_frame(0, 0, &heartbeat, self.outbox.tail());
            return true;
        }
        let stuck = !self.outbox.is_empty() && self.pulse.ticks_without_write >= SILENT_TICKS_MAX;
        if stuck || self.pulse.ticks_without_read >= SILENT_TICKS_MAX {
            let what = if stuck { "it reads nothing" } else { "it sends no heartbeats" };
            tracing::info!(peer = %self.peer, what, "dropping a client that seems to be gone");
            return false;
        }
        true
    }

    fn tick_interval(&self) -> Duration {
        match self.protocol.limits().heartbeat_seconds {
            0 => IDLE_TICK,
            seconds => Duration::from_millis(u64::from(seconds) * 500),
        }
    }

    fn relax(&mut self) {
        self.inbox.relax();
        self.outbox.relax();
        if let Stage::Seated(seat) = &mut self.stage {
            seat.session_mut().relax();
        }
    }

    fn poll_login(&mut self, context: &mut Context<'_>) -> bool {
        let Stage::LoggingIn { check, .. } = &mut self.stage else { return false };
        let Poll::Ready(checked) = check.as_mut().poll(context) else { return false };
        let Stage::LoggingIn { login, .. } = std::mem::replace(&mut self.stage, Stage::Greeting) else {
            unreachable!("it was this stage a line ago");
        };
        match checked {
            Ok(entered) => self.seat(*login, entered),
            Err(refusal) => {
                tracing::info!(peer = %self.peer, %refusal, "login refused");
                self.protocol.refuse_login(login.request, &refusal, self.outbox.tail());
                self.leave();
            }
        }
        true
    }

    fn seat(&mut self, login: Login, (who, place): Entered) {
        let broker = self.shared.broker.clone();
        self.protocol.accept(&login, broker.durability(), who.connection.0, self.outbox.tail());
        // A clock before 1970 is shown as 1970.
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        tracing::debug!(peer = %self.peer, connection = %who.connection, user = %who.user.name, "logged in");
        let introduction =
            Introduction { name: login.name, peer: self.peer, client: login.client, connected_at_ms: now_ms };
        let session = Session::open(broker, who, place, introduction);
        let frame_bytes_max = self.protocol.limits().frame_bytes_max as usize;
        let answer_bytes_max = frame_bytes_max.saturating_sub(ANSWER_BYTES_AROUND);
        let seat = Translation::new(session, login.hears_blocked, answer_bytes_max);
        self.stage = Stage::Seated(Box::new(seat));
        self.set_alarm(self.tick_interval());
    }

    /// Lets the broker speak.
    fn poll_seat(&mut self, context: &mut Context<'_>) -> bool {
        let (Stage::Seated(seat) | Stage::Draining { seat, .. }) = &mut self.stage else { return false };
        let mut progress = false;
        if seat.session_mut().poll_words(context, has_room(&self.outbox)).is_ready() {
            progress = true;
            self.put_words();
        }
        if matches!(&self.stage, Stage::Draining { seat, .. } if seat.session().is_quiet()) {
            self.finish_draining();
        }
        progress
    }

    /// Tells the client what its session has to say.
    fn put_words(&mut self) {
        let (Stage::Seated(seat) | Stage::Draining { seat, .. }) = &mut self.stage else { return };
        match seat.put_words(&mut self.protocol, &mut self.outbox) {
            Ok(None) => {}
            Ok(Some(Departure::Dismissed(reason))) => {
                if matches!(self.stage, Stage::Seated(_)) {
                    self.drain(reason);
                }
            }
            Ok(Some(Departure::Displaced(reason))) => {
                tracing::info!(peer = %self.peer, "its client has come back over a newer connection");
                self.say_goodbye(Some(&reason));
            }
            Err(fault) => {
                tracing::error!(peer = %self.peer, %fault, "stored messages are not what was published");
                let text = "a stored message cannot be read";
                self.say_goodbye(Some(
                    &Refusal::new(ReplyCode::InternalError, text).about(Entity::Message, ""),
                ));
            }
        }
    }

    fn drain(&mut self, goodbye: Refusal) {
        if let Some(seat) = self.take_seat() {
            self.stage = Stage::Draining { seat, goodbye };
            self.set_alarm(DRAIN);
        }
    }

    fn finish_draining(&mut self) {
        let Stage::Draining { seat, goodbye } = &mut self.stage else { return };
        seat.put_confirms(&mut self.outbox);
        let refusal = goodbye.clone();
        self.say_goodbye(Some(&refusal));
    }

    /// Whether a frame may be taken.
    fn takes_frames(&self) -> bool {
        if self.outbox.len() >= OUTBOX_BYTES_MAX {
            return false;
        }
        match &self.stage {
            Stage::Greeting | Stage::Leaving { .. } => true,
            Stage::Seated(seat) if seat.session().is_blocked() && self.held.is_some() => false,
            Stage::Seated(seat) => seat.session().takes_more(),
            Stage::LoggingIn { .. } | Stage::Draining { .. } | Stage::HangingUp => false,
        }
    }

    /// Takes frames that are there.
    fn take_frames(&mut self) -> bool {
        if matches!(self.stage, Stage::Greeting)
            && let Some(stranger) = self.inbox.foreign()
        {
            tracing::info!(peer = %self.peer, protocol = stranger.name(), "refusing a client of another protocol");
            self.outbox.tail().extend_from_slice(&stranger.answer());
            self.leave();
            self.stage = Stage::Leaving { stranger: true, shut: false };
            return true;
        }
        if let Stage::Leaving { stranger: true, .. } = self.stage {
            self.inbox.clear();
            return false;
        }
        for taken in 0..FRAMES_PER_ROUND_MAX {
            if !self.takes_frames() {
                return taken > 0;
            }
            let frame = match self.held.take() {
                Some(frame) => frame,
                None => match self.inbox.next(self.protocol.frame_bytes_max()) {
                    Found::Frame(frame) => frame,
                    _ => return taken > 0,
                },
            };
            if matches!(&self.stage, Stage::Seated(seat) if seat.session().is_blocked())
                && !may_come_meanwhile(&frame)
            {
                self.held = Some(frame);
                return taken > 0;
            }
            let action = self.protocol.receive(frame, self.outbox.tail());
            self.act(action);
        }
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::LogIn(login) => self.log_in(login),
            Action::HangUp => self.expect_no_more(),
            action => {
                if let Stage::Seated(seat) = &mut self.stage {
                    seat.act(action);
                    self.put_words();
                }
                let gone = !self.protocol.is_open();
                if gone && !matches!(self.stage, Stage::Leaving { .. } | Stage::HangingUp) {
                    self.leave();
                }
            }
        }
    }

    fn log_in(&mut self, login: Box<Login>) {
        match parse_plain(&login.response) {
            Ok((user, password)) => {
                let (broker, vhost, peer) = (self.shared.broker.clone(), login.vhost.clone(), self.peer);
                let client = login.client_id;
                let check = Box::pin(async move {
                    let who = broker.log_in(user, password, &vhost, peer).await?;
                    let place = match client {
                        Some(client) => Some(broker.take_place(&who, client).await?),
                        None => None,
                    };
                    Ok((who, place))
                });
                self.stage = Stage::LoggingIn { login, check };
            }
            Err(refusal) => {
                tracing::info!(peer = %self.peer, %refusal, "login refused");
                self.protocol.refuse_login(login.request, &refusal, self.outbox.tail());
                self.leave();
            }
        }
    }

    fn say_goodbye(&mut self, reason: Option<&Refusal>) {
        self.protocol.close(reason, self.outbox.tail());
        self.leave();
    }

    /// The last frame is in the outbox.
    fn leave(&mut self) {
        self.leave_seat();
        self.stage = Stage::Leaving { stranger: false, shut: false };
        self.set_alarm(GOODBYE);
    }

    /// The client has nothing more to say.
    fn expect_no_more(&mut self) {
        self.leave_seat();
        self.stage = Stage::HangingUp;
        self.set_alarm(GOODBYE);
    }

    fn set_alarm(&mut self, after: Duration) {
        self.alarm.as_mut().reset(Instant::now() + after);
    }

    fn leave_seat(&mut self) {
        if let Some(seat) = self.take_seat() {
            seat.end();
        }
    }

    fn take_seat(&mut self) -> Option<Box<Translation>> {
        match std::mem::replace(&mut self.stage, Stage::HangingUp) {
            Stage::Seated(seat) | Stage::Draining { seat, .. } => Some(seat),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Writes what waits; `true` if nothing does any more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let all = match self.outbox.poll_write(context, &mut self.stream) {
            Poll::Ready(result) => result.map(|()| true)?,
            Poll::Pending => false,
        };
        while let Some(mark) = self.outbox.pop_mark() {
            if let Stage::Seated(seat) | Stage::Draining { seat, .. } = &self.stage {
                let (channel, consumer) = mark.consumer;
                seat.session().written(channel, consumer, mark.window_bytes);
            }
        }
        Ok(all)
    }

    /// Reads more if frames may be taken; `true` if something came.
    fn poll_read(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if !self.takes_frames() {
            return Ok(false);
        }
        let filled = self.inbox.poll_fill(context, &mut self.stream, self.protocol.is_open());
        let Poll::Ready(bytes) = filled? else { return Ok(false) };
        if bytes == 0 {
            self.expect_no_more();
        }
        if let Stage::Seated(seat) = &self.stage {
            let meter = seat.session().meter();
            meter.channels.store(self.protocol.channels_count() as u64, Ordering::Relaxed);
            meter.received_bytes.store(self.inbox.read(), Ordering::Relaxed);
            meter.sent_bytes.store(self.outbox.written(), Ordering::Relaxed);
        }
        Ok(true)
    }
}

/// Whether a frame may be taken while messages that came earlier wait for room.
fn may_come_meanwhile(frame: &Result<WireFrame, WireError>) -> bool {
    let Ok(frame) = frame else { return false };
    match &frame.body {
        // A publish waits in line.
        Body::Settle(_) | Body::Publish(_) => true,
        Body::Other(body) => matches!(**body, Cold::Credit(_) | Cold::Heartbeat(_)),
        Body::Confirm(_) | Body::Deliver(_) => false,
    }
}

fn forced(text: String) -> Refusal {
    Refusal::new(ReplyCode::ConnectionForced, text).about(Entity::Connection, "").retryable()
}
