//! One connection's side of the protocol.

use std::collections::{BTreeMap, HashSet};

use bytes::BytesMut;

use super::action::{Action, PublishTo};
use super::answer::{put_done, put_error, put_refused};
use super::login::{BLOCKED, CLIENT_ID, Login, PROTOCOL_VERSION};
use super::negotiate::Limits;
use crate::model::{
    Durability, Entity, ExchangeName, FRAME_BYTES_MAX_BEFORE_LOGIN, NAME_BYTES_MAX, NameTooLong, Refusal,
    ReplyCode, RoutingKey,
};
use crate::wire::pb::frame::Body as Cold;
use crate::wire::{Body, Publish, WireError, WireFrame, encode_frame, pb};

/// Highest number of a publisher or consumer.
const HANDLE_MAX: u32 = 65_535;

/// The server's state of one connection.
#[derive(Debug)]
pub struct Connection {
    stage: Stage,
    /// What the server offers, and once the client is in, what was agreed.
    limits: Limits,
    channels: HashSet<u32, foldhash::fast::RandomState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing came yet.
    Greeting,
    /// Somebody checks the login. No frame is taken meanwhile.
    LoggingIn,
    Open,
    /// A `Close` was sent; what comes is ignored but for the other one.
    Closing,
    Closed,
}

impl Connection {
    /// A connection to whose client these limits will be offered.
    pub fn new(offered: Limits) -> Self {
        Self { stage: Stage::Greeting, limits: offered, channels: HashSet::default() }
    }

    /// Largest frame that is taken now, in bytes after its length prefix.
    pub fn frame_bytes_max(&self) -> usize {
        match self.stage {
            Stage::Greeting | Stage::LoggingIn => FRAME_BYTES_MAX_BEFORE_LOGIN,
            Stage::Open | Stage::Closing | Stage::Closed => self.limits.frame_bytes_max as usize,
        }
    }

    /// The limits: those offered, and after [`Connection::accept`] those agreed on.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the client is logged in and nobody has said goodbye.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether a channel is open.
    pub fn has_channel(&self, channel: u32) -> bool {
        self.channels.contains(&channel)
    }

    /// Number of open channels.
    pub fn channels_count(&self) -> usize {
        self.channels.len()
    }

    /// Takes a frame, or what was wrong with one. Answers go to `out`.
    pub fn receive(&mut self, frame: Result<WireFrame, WireError>, out: &mut BytesMut) -> Action {
        match (self.stage, frame) {
            (Stage::Closed, _) => Action::HangUp,
            (Stage::Closing, frame) => self.receive_while_closing(frame),
            (Stage::Greeting, Ok(frame)) => self.receive_connect(frame, out),
            (_, Err(error)) => self.receive_fault(&error, out),
            (Stage::LoggingIn | Stage::Open, Ok(frame)) => self.receive_open(frame, out),
        }
    }

    /// Lets the client in.
    pub fn accept(&mut self, login: &Login, durability: Durability, connection: u64, out: &mut BytesMut) {
        self.stage = Stage::Open;
        self.limits = login.limits;
        let server = [("product", env!("CARGO_PKG_NAME")), ("version", env!("CARGO_PKG_VERSION"))];
        let connected = pb::Connected {
            protocol_version: PROTOCOL_VERSION,
            server: BTreeMap::from(server.map(|(key, value)| (key.to_owned(), value.to_owned()))),
            capabilities: vec![BLOCKED.to_owned(), CLIENT_ID.to_owned()],
            heartbeat_seconds: self.limits.heartbeat_seconds,
            frame_max: self.limits.frame_bytes_max,
            channel_max: self.limits.channel_max,
            message_size_max: self.limits.message_bytes_max,
            durability: pb::DurabilityLevel::from(durability).into(),
            connection_id: connection,
        };
        encode_frame(0, login.request, &Cold::Connected(connected), out);
    }

    /// Sends the client away.
    pub fn refuse_login(&mut self, request: u64, refusal: &Refusal, out: &mut BytesMut) {
        put_error(0, request, refusal, out);
        self.close(None, out);
    }

    /// Says goodbye, with a reason unless all is well. Further calls have no effect.
    pub fn close(&mut self, reason: Option<&Refusal>, out: &mut BytesMut) {
        if matches!(self.stage, Stage::Closing | Stage::Closed) {
            return;
        }
        self.stage = Stage::Closing;
        self.channels.clear();
        encode_frame(0, 0, &Cold::Close(pb::Close { error: reason.map(Into::into) }), out);
    }

    fn receive_while_closing(&mut self, frame: Result<WireFrame, WireError>) -> Action {
        let closes =
            |frame: &WireFrame| matches!(&frame.body, Body::Other(body) if matches!(**body, Cold::Close(_)));
        match frame {
            Ok(frame) if !closes(&frame) => Action::Nothing,
            Err(error) if !error.is_fatal() => Action::Nothing,
            _ => {
                self.stage = Stage::Closed;
                Action::HangUp
            }
        }
    }

    fn receive_connect(&mut self, frame: WireFrame, out: &mut BytesMut) -> Action {
        let WireFrame { channel, request, body } = frame;
        let connect = match body {
            Body::Other(body) if channel == 0 && request != 0 => match *body {
                Cold::Connect(connect) => Some(connect),
                _ => None,
            },
            _ => None,
        };
        let Some(connect) = connect else {
            let text = "the first frame must be a Connect on channel 0 with a request id";
            self.close(Some(&Refusal::new(ReplyCode::CommandInvalid, text).about(Entity::Frame, "")), out);
            return Action::Nothing;
        };
        match Login::read(request, connect, &self.limits) {
            Ok(login) => {
                self.stage = Stage::LoggingIn;
                Action::LogIn(Box::new(login))
            }
            Err(refusal) => {
                self.refuse_login(request, &refusal, out);
                Action::Nothing
            }
        }
    }

    fn receive_fault(&mut self, error: &WireError, out: &mut BytesMut) -> Action {
        let refusal = error.refusal();
        match *error {
            WireError::UnknownFrame { channel, request, .. } if self.stage == Stage::Open => {
                put_error(channel, request, &refusal, out);
            }
            WireError::BadItem { channel, publisher, first_sequence, items, .. }
                if self.stage == Stage::Open =>
            {
                match self.check_channel(channel) {
                    Ok(()) => put_refused(channel, publisher, first_sequence, items.into(), &refusal, out),
                    Err(refusal) => put_error(channel, 0, &refusal, out),
                }
            }
            _ => self.close(Some(&refusal), out),
        }
        Action::Nothing
    }

    fn receive_open(&mut self, frame: WireFrame, out: &mut BytesMut) -> Action {
        let WireFrame { channel, request, body } = frame;
        let result = match body {
            Body::Publish(publish) => {
                return self.receive_publish(channel, publish, out);
            }
            Body::Settle(settle) => self.receive_settle(channel, request, settle),
            Body::Other(body) => match *body {
                Cold::Heartbeat(_) => Ok(Action::Nothing),
                Cold::Close(_) => {
                    self.close(None, out);
                    self.stage = Stage::Closed;
                    Ok(Action::HangUp)
                }
                Cold::Connect(_) => Err(again("Connect")),
                Cold::OpenChannel(_) => self.open_channel(channel, request, out),
                Cold::CloseChannel(_) => self.close_channel(channel, request, out),
                body => self.check_channel(channel).and_then(|()| receive_request(channel, request, body)),
            },
            Body::Confirm(_) => {
                return self.receive_fault(&WireError::WrongSide { kind: "Confirm", channel, request }, out);
            }
            Body::Deliver(_) => {
                return self.receive_fault(&WireError::WrongSide { kind: "Deliver", channel, request }, out);
            }
        };
        result.unwrap_or_else(|refusal| {
            put_error(channel, request, &refusal, out);
            Action::Nothing
        })
    }

    fn open_channel(&mut self, channel: u32, request: u64, out: &mut BytesMut) -> Result<Action, Refusal> {
        if channel == 0 || channel > self.limits.channel_max {
            let expected = format!("1 to {}", self.limits.channel_max);
            return Err(Refusal::new(
                ReplyCode::NotAllowed,
                format!("no channel may have the number {channel}"),
            )
            .about(Entity::Channel, channel.to_string())
            .field("channel", expected, channel.to_string()));
        }
        if !self.channels.insert(channel) {
            return Err(Refusal::new(ReplyCode::ChannelError, format!("channel {channel} is open already"))
                .about(Entity::Channel, channel.to_string()));
        }
        put_done(channel, request, out);
        Ok(Action::Nothing)
    }

    fn close_channel(&mut self, channel: u32, request: u64, out: &mut BytesMut) -> Result<Action, Refusal> {
        self.check_channel(channel)?;
        self.channels.remove(&channel);
        if self.channels.is_empty() {
            // Channels that were many leave no memory behind.
            self.channels.shrink_to_fit();
        }
        put_done(channel, request, out);
        Ok(Action::CloseChannel { channel })
    }

    fn receive_publish(&mut self, channel: u32, publish: Publish, out: &mut BytesMut) -> Action {
        let Publish { publisher, first_sequence, target, items } = publish;
        if let Err(refusal) = self.check_channel(channel) {
            put_error(channel, 0, &refusal, out);
            return Action::Nothing;
        }
        match check_publish(publisher, first_sequence, target, items.len()) {
            Ok(target) => Action::Publish { channel, publisher, first_sequence, target, items },
            Err(refusal) => {
                put_refused(channel, publisher, first_sequence, items.len() as u64, &refusal, out);
                Action::Nothing
            }
        }
    }

    fn receive_settle(&mut self, channel: u32, request: u64, settle: pb::Settle) -> Result<Action, Refusal> {
        self.check_channel(channel)?;
        let pb::Settle { consumer, ranges } = settle;
        if consumer != 0 {
            check_handle("consumer", Entity::Consumer, consumer)?;
        }
        if ranges.is_empty() {
            return Err(Refusal::new(ReplyCode::SyntaxError, "a Settle without ranges settles nothing")
                .about(Entity::Frame, "Settle")
                .field("ranges", "at least one", "none"));
        }
        if let Some(range) = ranges.iter().find(|range| range.outcome() == pb::Outcome::Unspecified) {
            return Err(Refusal::new(
                ReplyCode::SyntaxError,
                "a range has no outcome, or one not known here",
            )
            .about(Entity::Frame, "Settle")
            .field("outcome", "accepted, requeued or rejected", range.outcome.to_string()));
        }
        Ok(Action::Settle { channel, request, consumer, ranges })
    }

    fn check_channel(&self, channel: u32) -> Result<(), Refusal> {
        if self.channels.contains(&channel) {
            return Ok(());
        }
        let (text, hint) = match channel {
            0 => {
                let hint = "open a channel with OpenChannel on a number from 1 on, and send it there";
                ("this frame belongs on a channel, not on channel 0".to_owned(), hint)
            }
            channel => (format!("channel {channel} is not open"), "open it with OpenChannel first"),
        };
        Err(Refusal::new(ReplyCode::ChannelError, text)
            .about(Entity::Channel, channel.to_string())
            .hint(hint))
    }
}

/// Everything that needs no state of the connection.
fn receive_request(channel: u32, request: u64, body: Cold) -> Result<Action, Refusal> {
    Ok(match body {
        Cold::OpenPublisher(pb::OpenPublisher { publisher, target }) => {
            check_handle("publisher", Entity::Publisher, publisher)?;
            let target = check_target(target.unwrap_or_default())?;
            Action::OpenPublisher { channel, request, publisher, target }
        }
        Cold::ClosePublisher(pb::ClosePublisher { publisher }) => {
            check_handle("publisher", Entity::Publisher, publisher)?;
            Action::ClosePublisher { channel, request, publisher }
        }
        Cold::Consume(consume) => {
            check_handle("consumer", Entity::Consumer, consume.consumer)?;
            check_text("tag", Entity::Consumer, &consume.tag)?;
            Action::Consume { channel, request, consume }
        }
        Cold::CancelConsumer(pb::CancelConsumer { consumer }) => {
            check_handle("consumer", Entity::Consumer, consumer)?;
            Action::Cancel { channel, request, consumer }
        }
        Cold::Get(get) => Action::Get { channel, request, get },
        Cold::Credit(pb::Credit { consumer, add }) => {
            check_handle("consumer", Entity::Consumer, consumer)?;
            Action::Credit { channel, consumer, add }
        }
        body => Action::Request { channel, request, body: Box::new(body) },
    })
}

fn check_publish(
    publisher: u32,
    first_sequence: u64,
    target: Option<pb::PublishTarget>,
    count: usize,
) -> Result<Option<PublishTo>, Refusal> {
    if count == 0 {
        return Err(Refusal::new(ReplyCode::SyntaxError, "a Publish without messages publishes nothing")
            .about(Entity::Frame, "Publish")
            .field("items", "at least one", "none"));
    }
    if first_sequence.checked_add(count as u64).is_none() {
        return Err(Refusal::new(ReplyCode::SyntaxError, "sequence numbers end before the messages do")
            .about(Entity::Frame, "Publish")
            .field(
                "first_sequence",
                "a number that leaves room for the others",
                first_sequence.to_string(),
            ));
    }
    match (publisher, target) {
        (0, Some(target)) => check_target(target).map(Some),
        (0, None) => Err(Refusal::new(
            ReplyCode::SyntaxError,
            "a Publish says with neither publisher nor target where to",
        )
        .about(Entity::Frame, "Publish")
        .field("target", "present, if publisher is 0", "absent")),
        (publisher, _) => check_handle("publisher", Entity::Publisher, publisher).map(|()| None),
    }
}

fn check_target(target: pb::PublishTarget) -> Result<PublishTo, Refusal> {
    let refuse = |field| move |error: NameTooLong| too_long(field, Entity::Publisher, error.bytes);
    Ok(PublishTo {
        exchange: ExchangeName::new(&target.exchange).map_err(refuse("exchange"))?,
        routing_key: RoutingKey::new(&target.routing_key).map_err(refuse("routing_key"))?,
        mandatory: target.mandatory,
        transient: target.transient,
    })
}

fn check_text(field: &str, entity: Entity, text: &str) -> Result<(), Refusal> {
    if text.len() > NAME_BYTES_MAX { Err(too_long(field, entity, text.len())) } else { Ok(()) }
}

fn too_long(field: &str, entity: Entity, bytes: usize) -> Refusal {
    Refusal::new(ReplyCode::SyntaxError, format!("{field} is too long")).about(entity, "").field(
        field,
        format!("{NAME_BYTES_MAX} bytes at most"),
        format!("{bytes} bytes"),
    )
}

fn check_handle(field: &str, entity: Entity, handle: u32) -> Result<(), Refusal> {
    if (1..=HANDLE_MAX).contains(&handle) {
        return Ok(());
    }
    Err(Refusal::new(ReplyCode::SyntaxError, format!("no {field} may have the number {handle}"))
        .about(entity, handle.to_string())
        .field(field, format!("1 to {HANDLE_MAX}"), handle.to_string()))
}

fn again(kind: &str) -> Refusal {
    Refusal::new(ReplyCode::CommandInvalid, format!("{kind} came a second time")).about(Entity::Frame, kind)
}
