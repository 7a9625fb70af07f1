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

use super::super::socket::{Finding, Inbox, Life, Outbox, Pulse, Traffic};
use super::server::Shared;
use super::translation::{Departure, Translation, has_room};
use crate::broker::{Identity, Introduction, Place, Session, parse_plain};
use crate::model::{Entity, Refusal, ReplyCode};
use crate::protocol::{self, Action, Login, Stage, put_error};
use crate::wire::pb::frame::Body as Cold;
use crate::wire::{Body, Side, WireError, WireFrame, decode_frame_from, encode_frame, pb, split_frame};

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

/// Why clients have to go when the server stops.
const STOPPING: &str = "the broker is stopping";

/// One client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    protocol: protocol::Connection,
    inbox: Inbox,
    /// A goodbye that comes after messages that wait for room.
    held: Option<Result<WireFrame, WireError>>,
    outbox: Outbox,
    /// There while the protocol says that a login is checked.
    login: Option<LoginCheck>,
    /// There while the client is logged in.
    translation: Option<Box<Translation>>,
    /// The stage that the rest is fit for; see [`Connection::follow`].
    stage: Stage,
    /// Everything is written and the client sees the end of the stream.
    shut: bool,
    /// The server stops.
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    alarm: Pin<Box<Sleep>>,
    pulse: Pulse,
}

/// A login that is being checked.
struct LoginCheck {
    login: Login,
    check: Pin<Box<dyn Future<Output = Result<Entered, Refusal>> + Send>>,
}

/// Who has logged in, and the place of a client that has said who it is.
type Entered = (Identity, Option<Place>);

/// Whether the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Progress,
    Idle,
    Over,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) -> Self {
        let handshake = Duration::from_millis(shared.options.handshake_ms);
        Self {
            stream,
            peer,
            protocol: protocol::Connection::new(shared.options.limits),
            inbox: Inbox::default(),
            held: None,
            outbox: Outbox::default(),
            login: None,
            translation: None,
            stage: Stage::Greeting,
            shut: false,
            stop: Box::pin(shared.stop.clone().cancelled_owned()),
            alarm: Box::pin(tokio::time::sleep(handshake)),
            pulse: Pulse::default(),
            shared,
        }
    }

    /// Serves the client until the connection is over.
    pub(super) async fn run(mut self) {
        poll_fn(|context| self.poll_rounds(context)).await;
        self.end_session();
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
        progress |= self.poll_session(context);
        progress |= self.take_frames();
        if let Some(translation) = &mut self.translation {
            translation.put_confirms(&mut self.outbox);
        }
        let all_written = self.poll_write(context)?;
        if all_written && self.hang_up(context) {
            return Ok(Round::Over);
        }
        // With everything written nothing would wake the task.
        progress |=
            all_written && self.translation.as_ref().is_some_and(|client| client.session().is_returning());
        progress |= self.poll_read(context)?;
        Ok(if progress { Round::Progress } else { Round::Idle })
    }

    /// Everything is written: ends the stream where nothing more follows. `true`: the connection is over.
    fn hang_up(&mut self, context: &mut Context<'_>) -> bool {
        if matches!(self.stage, Stage::Closing | Stage::Foreign) && !self.shut {
            self.shut = true;
            // A client that cannot be told sees the end of the connection soon.
            let _ = Pin::new(&mut self.stream).poll_shutdown(context);
        }
        self.stage == Stage::Closed
    }

    fn poll_stop(&mut self, context: &mut Context<'_>) -> bool {
        if !self.protocol.is_served() || self.stop.as_mut().poll(context).is_pending() {
            return false;
        }
        self.protocol.dismiss(forced(STOPPING.to_owned()), self.outbox.tail());
        self.follow();
        true
    }

    /// The alarm went off; `false`: the connection is over.
    fn ring(&mut self) -> bool {
        match self.stage {
            Stage::Greeting | Stage::LoggingIn => {
                let text = "the handshake took too long";
                tracing::info!(peer = %self.peer, text);
                self.protocol.close(Some(&forced(text.to_owned())), self.outbox.tail());
                self.follow();
                true
            }
            Stage::Open => self.tick(),
            Stage::Draining => {
                self.finish_draining();
                true
            }
            Stage::Closing | Stage::Foreign | Stage::Closed => false,
        }
    }

    /// Makes everything fit for the stage that the protocol has come to.
    fn follow(&mut self) {
        if self.stage == self.protocol.stage() {
            return;
        }
        self.stage = self.protocol.stage();
        if self.stage != Stage::LoggingIn {
            self.login = None;
        }
        if !matches!(self.stage, Stage::Open | Stage::Draining) {
            self.end_session();
        }
        match self.stage {
            // The handshake as a whole has its time.
            Stage::Greeting | Stage::LoggingIn => {}
            Stage::Open => {
                self.pulse = Pulse::new(self.protocol.limits().heartbeat_seconds);
                self.set_alarm(self.pulse.interval());
            }
            Stage::Draining => self.set_alarm(DRAIN),
            Stage::Closing | Stage::Foreign | Stage::Closed => self.set_alarm(GOODBYE),
        }
    }

    /// Half a heartbeat has passed; `false`: the client is gone.
    fn tick(&mut self) -> bool {
        self.set_alarm(self.pulse.interval());
        let Finding { is_quiet, life } = self.pulse.tick(Traffic {
            read: self.inbox.read(),
            written: self.outbox.written(),
            is_paused: !self.takes_frames(),
            has_to_write: !self.outbox.is_empty(),
        });
        if is_quiet {
            self.relax();
        }
        match life {
            Life::Well => true,
            Life::NeedsSign => {
                encode_frame(0, 0, &Cold::Heartbeat(pb::Heartbeat {}), self.outbox.tail());
                true
            }
            Life::Gone(what) => {
                tracing::info!(peer = %self.peer, what, "dropping a client that seems to be gone");
                false
            }
        }
    }

    fn relax(&mut self) {
        self.inbox.relax();
        self.outbox.relax();
        if let Some(translation) = &mut self.translation {
            translation.session_mut().relax();
        }
    }

    fn poll_login(&mut self, context: &mut Context<'_>) -> bool {
        let Some(LoginCheck { check, .. }) = &mut self.login else { return false };
        let Poll::Ready(checked) = check.as_mut().poll(context) else { return false };
        let Some(LoginCheck { login, .. }) = self.login.take() else { return false };
        match checked {
            Ok(entered) => self.enter(login, entered),
            Err(refusal) => self.refuse_login(&login, &refusal),
        }
        true
    }

    fn enter(&mut self, login: Login, (who, place): Entered) {
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
        let translation = Translation::new(session, login.hears_blocked, answer_bytes_max);
        self.translation = Some(Box::new(translation));
        self.follow();
    }

    fn refuse_login(&mut self, login: &Login, refusal: &Refusal) {
        tracing::info!(peer = %self.peer, %refusal, "login refused");
        self.protocol.refuse_login(login.request, refusal, self.outbox.tail());
        self.follow();
    }

    /// Lets the broker speak.
    fn poll_session(&mut self, context: &mut Context<'_>) -> bool {
        let Some(translation) = &mut self.translation else { return false };
        let has_words = translation.session_mut().poll_words(context, has_room(&self.outbox)).is_ready();
        if has_words {
            self.put_words();
        }
        let is_quiet = self.translation.as_ref().is_some_and(|client| client.session().is_quiet());
        if self.stage == Stage::Draining && is_quiet {
            self.finish_draining();
        }
        has_words
    }

    /// Tells the client what its session has to say.
    fn put_words(&mut self) {
        let Some(translation) = &mut self.translation else { return };
        match translation.put_words(&mut self.protocol, &mut self.outbox) {
            Ok(None) => {}
            Ok(Some(Departure::Dismissed(reason))) => self.protocol.dismiss(reason, self.outbox.tail()),
            Ok(Some(Departure::Displaced(reason))) => {
                tracing::info!(peer = %self.peer, "its client has come back over a newer connection");
                self.protocol.close(Some(&reason), self.outbox.tail());
            }
            Err(fault) => {
                tracing::error!(peer = %self.peer, %fault, "stored messages are not what was published");
                let text = "a stored message cannot be read";
                let refusal = Refusal::new(ReplyCode::InternalError, text).about(Entity::Message, "");
                self.protocol.close(Some(&refusal), self.outbox.tail());
            }
        }
        self.follow();
    }

    fn finish_draining(&mut self) {
        if let Some(translation) = &mut self.translation {
            translation.put_confirms(&mut self.outbox);
        }
        self.protocol.finish(self.outbox.tail());
        self.follow();
    }

    /// Whether a frame may be taken.
    fn takes_frames(&self) -> bool {
        if self.outbox.len() >= OUTBOX_BYTES_MAX {
            return false;
        }
        let session = self.translation.as_ref().map(|client| client.session());
        let is_ready = session
            .is_none_or(|session| session.takes_more() && !(session.is_blocked() && self.held.is_some()));
        self.protocol.takes_frames() && is_ready
    }

    /// Takes frames that are there.
    fn take_frames(&mut self) -> bool {
        if let Some(first) = self.inbox.first().filter(|_| self.stage == Stage::Greeting)
            && let Some(stranger) = self.protocol.recognise(first, self.outbox.tail())
        {
            tracing::info!(peer = %self.peer, protocol = stranger.name(), "refusing a client of another protocol");
            self.follow();
            return true;
        }
        if self.stage == Stage::Foreign {
            self.inbox.clear();
            return false;
        }
        for taken in 0..FRAMES_PER_ROUND_MAX {
            if !self.takes_frames() {
                return taken > 0;
            }
            let frame = match self.held.take() {
                Some(frame) => frame,
                None => match next_frame(&mut self.inbox, self.protocol.frame_bytes_max()) {
                    Some(frame) => frame,
                    None => return taken > 0,
                },
            };
            let is_blocked = self.translation.as_ref().is_some_and(|client| client.session().is_blocked());
            if is_blocked && is_goodbye(&frame) {
                self.held = Some(frame);
                return taken > 0;
            }
            if let Some((channel, request, refusal)) = self.refused_channel(&frame) {
                put_error(channel, request, &refusal, self.outbox.tail());
                continue;
            }
            let action = self.protocol.receive(frame, self.outbox.tail());
            let is_less = matches!(action, Action::CloseChannel { .. });
            self.act(action);
            if is_less && let Some(translation) = &self.translation {
                translation.session().note_channels(self.protocol.channels_count() as u32);
            }
        }
        true
    }

    /// Why a channel may not be opened that a frame asks for: its user has as many as it may.
    fn refused_channel(&self, frame: &Result<WireFrame, WireError>) -> Option<(u32, u64, Refusal)> {
        let Ok(WireFrame { channel, request, body: Body::Other(body) }) = frame else { return None };
        let asks = matches!(**body, Cold::OpenChannel(_)) && self.stage == Stage::Open;
        let session = self.translation.as_ref().filter(|_| asks)?.session();
        let refusal = session.open_channel(self.protocol.channels_count() as u32).err()?;
        Some((*channel, *request, refusal))
    }

    fn act(&mut self, action: Action) {
        if let Action::LogIn(login) = action {
            self.log_in(*login);
        } else if let Some(translation) = &mut self.translation {
            translation.act(action);
            self.put_words();
        }
        self.follow();
    }

    fn log_in(&mut self, login: Login) {
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
                    Ok((broker.take_seat(who)?, place))
                });
                self.login = Some(LoginCheck { login, check });
            }
            Err(refusal) => self.refuse_login(&login, &refusal),
        }
    }

    fn set_alarm(&mut self, after: Duration) {
        self.alarm.as_mut().reset(Instant::now() + after);
    }

    fn end_session(&mut self) {
        if let Some(translation) = self.translation.take() {
            translation.end();
        }
    }

    /// Writes what waits; `true` if nothing does any more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let all = match self.outbox.poll_write(context, &mut self.stream) {
            Poll::Ready(result) => result.map(|()| true)?,
            Poll::Pending => false,
        };
        while let Some(mark) = self.outbox.pop_mark() {
            if let Some(translation) = &self.translation {
                let (channel, consumer) = mark.consumer;
                translation.session().written(channel, consumer, mark.window_bytes);
            }
        }
        Ok(all)
    }

    /// Reads more if frames may be taken; `true` if something came.
    fn poll_read(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        // What a stranger sends is read to see it hang up.
        if !self.takes_frames() && self.stage != Stage::Foreign {
            return Ok(false);
        }
        let filled = self.inbox.poll_fill(context, &mut self.stream, self.stage == Stage::Open);
        let Poll::Ready(bytes) = filled? else { return Ok(false) };
        if bytes == 0 {
            self.protocol.end();
            self.follow();
        }
        if let Some(translation) = &self.translation {
            translation.session().note_channels(self.protocol.channels_count() as u32);
            let meter = translation.session().meter();
            meter.received_bytes.store(self.inbox.read(), Ordering::Relaxed);
            meter.sent_bytes.store(self.outbox.written(), Ordering::Relaxed);
        }
        Ok(true)
    }
}

/// The next whole frame, or what is wrong with it; `None`: more bytes are needed.
fn next_frame(inbox: &mut Inbox, frame_bytes_max: usize) -> Option<Result<WireFrame, WireError>> {
    match split_frame(inbox.buffer(), frame_bytes_max) {
        Ok(frame) => frame.map(|frame| decode_frame_from(Side::Client, frame)),
        Err(error) => Some(Err(error)),
    }
}

/// Whether a client is about to go. Messages that wait for room go first.
fn is_goodbye(frame: &Result<WireFrame, WireError>) -> bool {
    let Ok(WireFrame { body: Body::Other(body), .. }) = frame else { return false };
    matches!(**body, Cold::Close(_))
}

fn forced(text: String) -> Refusal {
    Refusal::new(ReplyCode::ConnectionForced, text).about(Entity::Connection, "").retryable()
}
