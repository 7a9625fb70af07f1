//! One connection's side of the protocol.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::action::{Action, PublishTo};
use super::answer::{put_done, put_error, put_refused};
use super::channels::{Channels, check_handle};
use super::login::{
    BLOCKED, BROWSE, CHANNEL_PREFETCH, CLIENT_ID, DELAY, JOURNEYS, Login, PROTOCOL_VERSION, SUBSCRIPTIONS,
};
use super::negotiate::Limits;
use crate::model::{
    Durability, Entity, ExchangeName, FRAME_BYTES_MAX_BEFORE_LOGIN, MILLIS_MAX, NAME_BYTES_MAX, NameTooLong,
    Refusal, ReplyCode, RoutingKey,
};
use crate::wire::pb::frame::Body as Cold;
use crate::wire::{Body, Foreign, Publish, WireError, WireFrame, encode_frame, pb};

/// The server's state of one connection.
#[derive(Debug)]
pub struct Connection {
    stage: Stage,
    /// What the server offers, and once the client is in, what was agreed.
    limits: Limits,
    channels: Channels,
    /// What a client is told that has to go when what is under way is finished.
    goodbye: Option<Refusal>,
}

/// How far a connection is. It never goes back.
///
/// ```text
/// Greeting ──▶ LoggingIn ──▶ Open ──▶ Draining ──▶ Closing ──▶ Closed
///     └──▶ Foreign
/// ```
///
/// Each but `Draining` may also go to `Closing` when the server says goodbye, and to `Closed` when the client does or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing came yet.
    Greeting,
    /// Somebody checks the login. No frame is taken meanwhile.
    LoggingIn,
    /// The client is logged in.
    Open,
    /// The client has to go; what is under way is finished first, and no frame is taken.
    Draining,
    /// A `Close` was sent; what comes is ignored but for the other one.
    Closing,
    /// The client speaks another protocol and was told so. Nothing that it sends counts.
    Foreign,
    /// Nothing more is said or heard: hang up when everything is written.
    Closed,
}

impl Connection {
    /// A connection to whose client these limits will be offered.
    pub fn new(offered: Limits) -> Self {
        Self { stage: Stage::Greeting, limits: offered, channels: Channels::default(), goodbye: None }
    }

    /// Largest frame that is taken now, in bytes after its length prefix.
    pub fn frame_bytes_max(&self) -> usize {
        match self.stage {
            Stage::Greeting | Stage::LoggingIn | Stage::Foreign => FRAME_BYTES_MAX_BEFORE_LOGIN,
            Stage::Open | Stage::Draining | Stage::Closing | Stage::Closed => {
                self.limits.frame_bytes_max as usize
            }
        }
    }

    /// The limits: those offered, and after [`Connection::accept`] those agreed on.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether frames are taken.
    pub fn takes_frames(&self) -> bool {
        matches!(self.stage, Stage::Greeting | Stage::Open | Stage::Closing)
    }

    /// Whether somebody is at the other end whose requests are or will be answered.
    pub fn is_served(&self) -> bool {
        matches!(self.stage, Stage::Greeting | Stage::LoggingIn | Stage::Open)
    }

    /// Looks at the first bytes: a client that speaks another protocol is told so, in words of its own.
    pub fn recognise(&mut self, first: [u8; 4], out: &mut BytesMut) -> Option<Foreign> {
        let foreign = Foreign::recognise(first).filter(|_| self.stage == Stage::Greeting)?;
        self.stage = Stage::Foreign;
        out.extend_from_slice(&foreign.answer());
        Some(foreign)
    }

    /// Number of open channels.
    pub fn channels_count(&self) -> usize {
        self.channels.len()
    }

    /// Takes a frame, or what was wrong with one. Answers go to `out`.
    pub fn receive(&mut self, frame: Result<WireFrame, WireError>, out: &mut BytesMut) -> Action {
        match (self.stage, frame) {
            (Stage::Foreign | Stage::Closed, _) => Action::Nothing,
            (Stage::Closing, frame) => self.receive_while_closing(frame),
            (Stage::Greeting, Ok(frame)) => self.receive_connect(frame, out),
            (_, Err(error)) => self.receive_fault(&error, out),
            (Stage::LoggingIn | Stage::Open | Stage::Draining, Ok(frame)) => self.receive_open(frame, out),
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
            capabilities: [BLOCKED, CLIENT_ID, SUBSCRIPTIONS, JOURNEYS, BROWSE, DELAY, CHANNEL_PREFETCH]
                .map(str::to_owned)
                .to_vec(),
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

    /// The client has to go, for this reason. One that is logged in goes when what is under way is finished, which
    /// [`Connection::finish`] says; others go at once. Further calls have no effect.
    pub fn dismiss(&mut self, reason: Refusal, out: &mut BytesMut) {
        if self.stage == Stage::Open {
            self.stage = Stage::Draining;
            self.goodbye = Some(reason);
        } else if self.stage != Stage::Draining {
            self.close(Some(&reason), out);
        }
    }

    /// What was under way is finished: says goodbye to a client that was dismissed.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if self.stage == Stage::Draining {
            let reason = self.goodbye.take();
            self.close(reason.as_ref(), out);
        }
    }

    /// The client is gone.
    pub fn end(&mut self) {
        self.stage = Stage::Closed;
        self.channels.clear();
    }

    /// Says goodbye, with a reason unless all is well. Further calls have no effect.
    pub fn close(&mut self, reason: Option<&Refusal>, out: &mut BytesMut) {
        if matches!(self.stage, Stage::Closing | Stage::Foreign | Stage::Closed) {
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
            Ok(frame) if !closes(&frame) => {}
            Err(error) if !error.is_fatal() => {}
            _ => self.end(),
        }
        Action::Nothing
    }

    fn receive_connect(&mut self, frame: WireFrame, out: &mut BytesMut) -> Action {
        let WireFrame { channel, request, body } = frame;
        if let Body::Other(body) = &body
            && channel == 0
            && matches!(**body, Cold::Close(_))
        {
            // It only wanted to know whether somebody is there.
            self.close(None, out);
            self.end();
            return Action::Nothing;
        }
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
                match self.channels.check(channel) {
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
                    self.end();
                    Ok(Action::Nothing)
                }
                Cold::Connect(_) => Err(again("Connect")),
                Cold::OpenChannel(_) => self.open_channel(channel, request, out),
                Cold::CloseChannel(_) => self.close_channel(channel, request, out),
                body => self.receive_request(channel, request, body, out),
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
        self.channels.open(channel)?;
        put_done(channel, request, out);
        Ok(Action::Nothing)
    }

    fn close_channel(&mut self, channel: u32, request: u64, out: &mut BytesMut) -> Result<Action, Refusal> {
        self.channels.close(channel)?;
        put_done(channel, request, out);
        Ok(Action::CloseChannel { channel })
    }

    fn receive_publish(&mut self, channel: u32, publish: Publish, out: &mut BytesMut) -> Action {
        let Publish { publisher, first_sequence, target, items } = publish;
        if let Err(refusal) = self.channels.check(channel) {
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
        self.channels.check(channel)?;
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
        ranges.iter().try_for_each(check_delay)?;
        Ok(Action::Settle { channel, request, consumer, ranges })
    }

    fn receive_request(
        &mut self,
        channel: u32,
        request: u64,
        body: Cold,
        out: &mut BytesMut,
    ) -> Result<Action, Refusal> {
        self.channels.check(channel)?;
        Ok(match body {
            Cold::OpenPublisher(pb::OpenPublisher { publisher, target }) => {
                check_handle("publisher", Entity::Publisher, publisher)?;
                let target = check_target(target.unwrap_or_default())?;
                self.channels.open_publisher(channel, publisher)?;
                put_done(channel, request, out);
                Action::OpenPublisher { channel, publisher, target }
            }
            Cold::ClosePublisher(pb::ClosePublisher { publisher }) => {
                self.channels.close_publisher(channel, publisher)?;
                put_done(channel, request, out);
                Action::ClosePublisher { channel, publisher }
            }
            Cold::Consume(consume) => {
                check_handle("consumer", Entity::Consumer, consume.consumer)?;
                check_text("tag", Entity::Consumer, &consume.tag)?;
                self.channels.start_consumer(channel, consume.consumer)?;
                Action::Consume { channel, request, consume }
            }
            Cold::LimitPrefetch(pb::LimitPrefetch { prefetch }) => {
                Action::LimitPrefetch { channel, request, prefetch }
            }
            Cold::CancelConsumer(pb::CancelConsumer { consumer }) => {
                check_handle("consumer", Entity::Consumer, consumer)?;
                Action::Cancel { channel, request, consumer }
            }
            Cold::Extend(pb::Extend { consumer, ranges }) => {
                if consumer != 0 {
                    check_handle("consumer", Entity::Consumer, consumer)?;
                }
                if ranges.is_empty() {
                    return Err(Refusal::new(
                        ReplyCode::SyntaxError,
                        "an Extend without ranges extends nothing",
                    )
                    .about(Entity::Frame, "Extend")
                    .field("ranges", "at least one", "none"));
                }
                Action::Extend { channel, request, consumer, ranges }
            }
            Cold::Get(get) => Action::Get { channel, request, get },
            Cold::Credit(pb::Credit { consumer, add }) => {
                check_handle("consumer", Entity::Consumer, consumer)?;
                Action::Credit { channel, consumer, add }
            }
            body => Action::Request { channel, request, body: Box::new(body) },
        })
    }

    /// A consumer has started: answers [`Action::Consume`].
    pub fn put_consuming(
        &mut self,
        channel: u32,
        consumer: u32,
        request: u64,
        tag: &str,
        out: &mut BytesMut,
    ) {
        self.channels.consumer_started(channel, consumer, true);
        if request != 0 {
            let consuming = pb::Consuming { consumer, tag: tag.to_owned() };
            encode_frame(channel, request, &Cold::Consuming(consuming), out);
        }
    }

    /// A consumer did not start: answers [`Action::Consume`].
    pub fn put_consume_refused(
        &mut self,
        channel: u32,
        consumer: u32,
        request: u64,
        refusal: &Refusal,
        out: &mut BytesMut,
    ) {
        self.channels.consumer_started(channel, consumer, false);
        put_error(channel, request, refusal, out);
    }

    /// A consumer ended as it was asked to, or there was none: answers [`Action::Cancel`].
    pub fn put_cancelled(&mut self, channel: u32, consumer: u32, request: u64, out: &mut BytesMut) {
        self.channels.consumer_ended(channel, consumer);
        put_done(channel, request, out);
    }

    /// The broker ended a consumer.
    pub fn put_consumer_ended(
        &mut self,
        channel: u32,
        consumer: u32,
        reason: String,
        refusal: Option<&Refusal>,
        out: &mut BytesMut,
    ) {
        self.channels.consumer_ended(channel, consumer);
        let ended = pb::ConsumerCancelled { consumer, reason, error: refusal.map(pb::Error::from) };
        encode_frame(channel, 0, &Cold::ConsumerCancelled(ended), out);
    }
}

fn check_delay(range: &pb::SettleRange) -> Result<(), Refusal> {
    let Some(delay) = range.delay_ms else { return Ok(()) };
    let (expected, hint) = match range.outcome() {
        pb::Outcome::Requeued if delay <= MILLIS_MAX => return Ok(()),
        pb::Outcome::Requeued => {
            (format!("0 to {MILLIS_MAX}"), "nothing is held back for more than ten years")
        }
        _ => ("none".to_owned(), "only what is requeued can be held back"),
    };
    let text = format!("invalid delay of deliveries: {delay} ms");
    Err(Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Frame, "Settle")
        .field("delay_ms", expected, delay.to_string())
        .hint(hint))
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

fn again(kind: &str) -> Refusal {
    Refusal::new(ReplyCode::CommandInvalid, format!("{kind} came a second time")).about(Entity::Frame, kind)
}
