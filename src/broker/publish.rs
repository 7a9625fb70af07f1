//! The way of published messages: route, hand to shards, collect their answers into confirms.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::catalog::FIRST_VOLATILE_SHARD;
use super::session::{Session, UNTAKEN_BYTES_MAX};
use super::vhost::Vhost;
use crate::model::{
    Durability, Entity, ExchangeName, FieldTable, MessageRun, QueueId, Refusal, ReplyCode, RoutingKey,
    ShardId,
};
use crate::routing::{LazyHeaders, RouteError, Routed};
use crate::shard::{Command, Origin, PublishBatch, Segment};

/// Bytes that surround a body in its message at most: properties, headers, a routing key. With this a message fits
/// into every frame that carries it out, since a client takes frames of the largest body and 64 KiB.
const BYTES_AROUND_BODY_MAX: usize = 60 * 1024;

/// Routes that the targets of one connection remember by routing key, all together.
const CACHED_ROUTES_MAX: usize = 16_384;

/// Messages of one frame, as a front end has them.
pub trait Publication {
    /// The messages.
    fn run(&self) -> &MessageRun;
    /// Whether any message has a routing key of its own.
    fn has_keys(&self) -> bool;
    /// A message's own routing key.
    fn key(&self, index: usize) -> Option<&str>;
    /// A message's headers.
    ///
    /// # Errors
    /// The headers cannot be read.
    fn headers(&self, index: usize) -> Result<Option<FieldTable>, Box<Refusal>>;
    /// Size of the largest body in bytes.
    fn body_bytes_max(&self) -> usize;
    /// Size of a message's body in bytes.
    fn body_bytes(&self, index: usize) -> usize;
}

/// Where a publisher's messages go, with the routes found so far.
#[derive(Debug)]
pub struct Target {
    origin: Arc<Origin>,
    mandatory: bool,
    transient: bool,
    /// Version of the routing table that the routes below belong to.
    version: u64,
    route: Option<Arc<Route>>,
    by_key: HashMap<Box<str>, Arc<Route>, foldhash::fast::RandomState>,
}

/// Queues by shard.
#[derive(Debug)]
struct Route {
    shards: Vec<(ShardId, Arc<[QueueId]>)>,
    queues: u32,
}

/// What finding routes needs, and the number of routes by key that all targets of a connection remember.
#[derive(Debug, Default)]
pub(super) struct Router {
    routed: Routed,
    cached: usize,
}

/// What became of messages, as far as it is known at once.
#[derive(Debug, Default)]
pub struct PublishReport {
    /// Mandatory messages that reached no queue, by their index. To be told before the confirmation.
    pub returned: Vec<Range<u32>>,
    /// No shard has to be waited for.
    pub confirmation: Option<Confirmation>,
    /// Why messages were refused whose publisher wants no confirms.
    pub refused: Option<Refusal>,
}

/// What to tell about messages that a shard could not keep.
#[derive(Debug)]
pub struct PublishFailed {
    /// The fate of the frame's messages, if no other shard has to be waited for.
    pub confirmation: Option<Confirmation>,
    /// Channel to tell of it, if its messages have no confirms.
    pub unasked: Option<(u32, Refusal)>,
}

/// Word of what became of the messages of one frame.
#[derive(Debug)]
pub struct Confirmation {
    /// Channel they came on.
    pub channel: u32,
    /// Their publisher.
    pub publisher: u32,
    /// Their fates in order.
    pub runs: Vec<ConfirmedRun>,
}

/// Neighbouring messages with the same fate.
#[derive(Debug)]
pub struct ConfirmedRun {
    /// First sequence.
    pub first: u64,
    /// Last sequence, included.
    pub last: u64,
    /// How safe they are.
    pub durability: Durability,
    /// How many queues each of them reached.
    pub queues: u32,
    /// They were refused.
    pub refusal: Option<Refusal>,
}

/// Messages that shards have not answered for yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// `None`: the channel was closed, and nobody hears of it.
    channel: Option<u32>,
    publisher: u32,
    /// 0: no confirm wanted.
    first_sequence: u64,
    shards: usize,
    durability: Durability,
    fates: Vec<(u32, Fate)>,
    bytes: usize,
    refusal: Option<Refusal>,
}

#[derive(Debug, Clone)]
enum Fate {
    Routed(Arc<Route>),
    Refused(Box<Refusal>),
}

impl Fate {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Routed(one), Self::Routed(other)) => Arc::ptr_eq(one, other),
            (Self::Refused(one), Self::Refused(other)) => one == other,
            _ => false,
        }
    }
}

impl Target {
    /// A target without routes; they are found when messages come.
    pub fn new(exchange: ExchangeName, routing_key: RoutingKey, mandatory: bool, transient: bool) -> Self {
        Self {
            origin: Arc::new(Origin { exchange, routing_key }),
            mandatory,
            transient,
            version: 0,
            route: None,
            by_key: HashMap::default(),
        }
    }

    /// Exchange and default key.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Whether it was made from these.
    pub fn is(&self, exchange: &str, routing_key: &str, mandatory: bool, transient: bool) -> bool {
        *self.origin.exchange == *exchange
            && *self.origin.routing_key == *routing_key
            && (self.mandatory, self.transient) == (mandatory, transient)
    }

    fn fates(
        &mut self,
        vhost: &Vhost,
        publication: &impl Publication,
        message_bytes_max: usize,
        router: &mut Router,
    ) -> Vec<(u32, Fate)> {
        let version = vhost.version();
        if version != self.version {
            self.version = version;
            self.route = None;
            self.forget_keys(router);
        }
        let count = publication.run().len();
        let small = publication.body_bytes_max().max(publication.run().bytes().len()) <= message_bytes_max;
        let plain = small && !publication.has_keys();
        if plain && let Some(route) = &self.route {
            return vec![(count as u32, Fate::Routed(Arc::clone(route)))];
        }
        let mut fates: Vec<(u32, Fate)> = Vec::new();
        for index in 0..count {
            let fate = match check_size(publication, index, message_bytes_max) {
                Err(refusal) => Fate::Refused(Box::new(refusal)),
                Ok(()) => match self.route(vhost, publication, index, router) {
                    Ok(route) => Fate::Routed(route),
                    Err(error) => Fate::Refused(Box::new(error.refusal(&self.origin.exchange, &vhost.name))),
                },
            };
            match fates.last_mut() {
                Some((same, last)) if last.is(&fate) => *same += 1,
                _ => fates.push((1, fate)),
            }
        }
        fates
    }

    fn route(
        &mut self,
        vhost: &Vhost,
        publication: &impl Publication,
        index: usize,
        router: &mut Router,
    ) -> Result<Arc<Route>, RouteError> {
        let own_key = publication.key(index);
        let cached = match own_key {
            None => self.route.as_ref(),
            Some(key) => self.by_key.get(key),
        };
        if let Some(route) = cached {
            return Ok(Arc::clone(route));
        }
        let key = own_key.unwrap_or(&self.origin.routing_key);
        let mut headers = LazyHeaders::new(|| publication.headers(index));
        vhost.routing().route(&self.origin.exchange, key, &mut headers, &mut router.routed)?;
        let route = Arc::new(Route::of(&router.routed));
        if router.routed.is_keyed() {
            match own_key {
                None => self.route = Some(Arc::clone(&route)),
                Some(key) => self.remember(key, Arc::clone(&route), router),
            }
        }
        Ok(route)
    }

    fn remember(&mut self, key: &str, route: Arc<Route>, router: &mut Router) {
        if router.cached >= CACHED_ROUTES_MAX {
            self.forget_keys(router);
        }
        // Other targets may hold all the room there is: then this one does without.
        if router.cached < CACHED_ROUTES_MAX && self.by_key.insert(Box::from(key), route).is_none() {
            router.cached += 1;
        }
    }

    fn forget_keys(&mut self, router: &mut Router) {
        router.cached -= self.by_key.len();
        self.by_key.clear();
    }
}

impl Route {
    fn of(routed: &Routed) -> Self {
        let mut shards: Vec<(ShardId, Vec<QueueId>)> = Vec::new();
        for queue in routed.queues() {
            match shards.iter_mut().find(|(shard, _)| *shard == queue.shard) {
                Some((_, queues)) => queues.push(queue.id),
                None => shards.push((queue.shard, vec![queue.id])),
            }
        }
        Self {
            shards: shards.into_iter().map(|(shard, queues)| (shard, Arc::from(queues))).collect(),
            queues: routed.queues().len() as u32,
        }
    }
}

impl Session {
    /// Takes the messages of a frame in. `first_sequence` 0: no confirms wanted.
    pub fn publish(
        &mut self,
        channel: u32,
        publisher: u32,
        first_sequence: u64,
        target: &mut Target,
        publication: &impl Publication,
    ) -> PublishReport {
        let message_bytes_max = self.broker.message_bytes_max();
        let fates = target.fates(&self.who.vhost, publication, message_bytes_max, &mut self.router);
        let mut report = PublishReport::default();
        let mut shards: Vec<(ShardId, Vec<Segment>)> = Vec::new();
        let mut first = 0u32;
        for (count, fate) in &fates {
            match fate {
                Fate::Routed(route) => {
                    if route.queues == 0 && target.mandatory {
                        report.returned.push(first..first + count);
                    }
                    route.add_segments(first, first + count, &mut shards);
                }
                Fate::Refused(refusal) if first_sequence == 0 => {
                    report.refused = Some(Refusal::clone(refusal))
                }
                Fate::Refused(_) => {}
            }
            first += count;
        }
        let bytes = publication.run().bytes().len();
        let durability = self.broker.durability();
        let pending = Pending {
            channel: Some(channel),
            publisher,
            first_sequence,
            shards: shards.len(),
            durability,
            fates,
            bytes,
            refusal: None,
        };
        if shards.is_empty() {
            report.confirmation = pending.confirmation();
            return report;
        }
        let ticket = self.insert_pending(pending);
        for (shard, segments) in shards {
            let Some(handle) = self.broker.shared.shard(shard) else { continue };
            self.untaken_bytes += bytes;
            handle.send(Command::Publish(PublishBatch {
                origin: Arc::clone(&target.origin),
                run: publication.run().clone(),
                segments,
                ticket,
                outlet: Arc::clone(&self.outlet),
                wait_durable: !target.transient,
                wake_when_taken: self.untaken_bytes >= UNTAKEN_BYTES_MAX / 2,
            }));
        }
        report
    }

    /// Whether any of the messages would be written to a log.
    pub(super) fn reaches_disk(&mut self, target: &mut Target, publication: &impl Publication) -> bool {
        let message_bytes_max = self.broker.message_bytes_max();
        let fates = target.fates(&self.who.vhost, publication, message_bytes_max, &mut self.router);
        fates.iter().any(|(_, fate)| match fate {
            Fate::Routed(route) => route.shards.iter().any(|(shard, _)| shard.0 < FIRST_VOLATILE_SHARD),
            Fate::Refused(_) => false,
        })
    }

    /// A publisher is gone: gives up what was remembered for its target.
    pub fn forget_target(&mut self, mut target: Target) {
        target.forget_keys(&mut self.router);
    }

    /// A shard has the messages of a frame; tells their fate if it was the last one.
    pub fn published(&mut self, ticket: u64, durability: Durability) -> Option<Confirmation> {
        self.answered(ticket, |pending| pending.durability = pending.durability.min(durability))
    }

    /// A shard could not keep the messages of a frame; tells their fate if it was the last one. If nobody asked for
    /// confirms, the channel is told in the other way.
    pub fn publish_failed(&mut self, ticket: u64, refusal: Refusal) -> PublishFailed {
        let mut unasked = None;
        let confirmation = self.answered(ticket, |pending| {
            if pending.first_sequence == 0 {
                unasked = pending.channel.map(|channel| (channel, refusal.clone()));
            }
            pending.refusal = Some(refusal);
        });
        PublishFailed { confirmation, unasked }
    }

    fn answered(&mut self, ticket: u64, note: impl FnOnce(&mut Pending)) -> Option<Confirmation> {
        let pending = self.pending(ticket)?;
        note(pending);
        pending.shards -= 1;
        if pending.shards > 0 {
            return None;
        }
        self.remove_pending(ticket)?.confirmation()
    }
}

impl Route {
    fn add_segments(&self, first: u32, end: u32, shards: &mut Vec<(ShardId, Vec<Segment>)>) {
        for (shard, queues) in &self.shards {
            let segment = Segment { first, end, queues: Arc::clone(queues) };
            match shards.iter_mut().find(|(other, _)| other == shard) {
                Some((_, segments)) => segments.push(segment),
                None => shards.push((*shard, vec![segment])),
            }
        }
    }
}

impl Pending {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells nothing if it came on this channel.
    pub(super) fn forget_channel(&mut self, channel: u32) {
        if self.channel == Some(channel) {
            self.channel = None;
        }
    }

    fn confirmation(self) -> Option<Confirmation> {
        let channel = self.channel.filter(|_| self.first_sequence != 0)?;
        let mut first = self.first_sequence;
        let runs = self.fates.into_iter().map(|(count, fate)| {
            let last = first + u64::from(count) - 1;
            let run = match fate {
                Fate::Routed(route) => ConfirmedRun {
                    first,
                    last,
                    durability: if route.queues == 0 { Durability::Memory } else { self.durability },
                    queues: route.queues,
                    refusal: self.refusal.clone().filter(|_| route.queues > 0),
                },
                Fate::Refused(refusal) => ConfirmedRun {
                    first,
                    last,
                    durability: Durability::Memory,
                    queues: 0,
                    refusal: Some(*refusal),
                },
            };
            first = last + 1;
            run
        });
        Some(Confirmation { channel, publisher: self.publisher, runs: runs.collect() })
    }
}

fn check_size(publication: &impl Publication, index: usize, message_bytes_max: usize) -> Result<(), Refusal> {
    let body = publication.body_bytes(index);
    let around = publication.run().item(index).len() - body;
    let refusal = |text: String| Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Message, "");
    if body > message_bytes_max {
        let text = format!("message size {body} is larger than configured max size {message_bytes_max}");
        return Err(refusal(text)
            .field("body", format!("{message_bytes_max} bytes at most"), body.to_string())
            .hint("send it in parts, or raise message_bytes_max in the broker's configuration"));
    }
    if around > BYTES_AROUND_BODY_MAX {
        return Err(refusal("the message's properties are too large".to_owned())
            .field("properties", format!("{BYTES_AROUND_BODY_MAX} bytes at most"), around.to_string())
            .hint("carry what is large in the body"));
    }
    Ok(())
}
