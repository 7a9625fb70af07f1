//! Where a publisher's messages go: to which queues, on which shards, and what is remembered of it.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::catalog::FIRST_VOLATILE_SHARD;
use super::super::published::Published;
use super::super::vhost::Vhost;
use super::route::Route;
use super::sizes::{SizesMax, check_size};
use super::times::{are_out_of_range, check_times};
use super::writing::{MayWrite, Writer};
use crate::message::{
    Delay, Expiration, MessageRun, body_and_encoding_of, headers_of, message_id_of, properties_of,
};
use crate::model::{
    BCC, ExchangeName, FieldTable, QueueId, Refusal, RoutingKey, further_keys, is_reply_address,
};
use crate::routing::{
    HashedProperties, History, KeyNotAllowed, Keys, MessageHeaders, Payload, RouteError, Routed, Unfit,
};
use crate::shard::Origin;

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
    /// Size of the largest body in bytes.
    fn body_bytes_max(&self) -> usize;

    /// Expirations of those messages that have one, in order.
    fn expirations(&self) -> &[Expiration] {
        &[]
    }

    /// Delays of those messages that have one, in order.
    fn delays(&self) -> &[Delay] {
        &[]
    }

    /// Those of the messages that may name further routing keys in their headers, in order.
    fn with_further_keys(&self) -> &[u32] {
        &[]
    }

    /// Those of the messages that want replies to the channel that they are published on, in order.
    fn asking_for_replies(&self) -> &[u32] {
        &[]
    }

    /// Says where replies to some of the messages [`asking_for_replies`](Self::asking_for_replies) come, in order.
    fn set_reply_to(&mut self, address: &str, of: &[u32]) {
        let _ = (address, of);
    }

    /// Takes a header out of some of the messages [`with_further_keys`](Self::with_further_keys), in order.
    fn remove_header(&mut self, name: &str, of: &[u32]) {
        let _ = (name, of);
    }

    /// The id that a message's publisher gave it, if it is not "".
    fn message_id(&self, index: usize) -> Option<&str> {
        message_id_of(self.run().item(index))
    }

    /// A message's headers.
    ///
    /// # Errors
    /// The headers cannot be read.
    fn headers(&self, index: usize) -> Result<Option<FieldTable>, Box<Refusal>> {
        headers_of(self.run().item(index)).map_err(|fault| Box::new(fault.refusal()))
    }

    /// Those of a message's properties that exchanges look at.
    ///
    /// # Errors
    /// The properties cannot be read.
    fn hashed_properties(&self, index: usize) -> Result<HashedProperties, Box<Refusal>> {
        hashed_properties_of(self.run().item(index))
    }

    /// Size of a message's body in bytes.
    fn body_bytes(&self, index: usize) -> usize {
        // An item was checked when it came.
        body_and_encoding_of(self.run().item(index)).map_or(0, |(body, _)| body.len())
    }
}

/// Those of an encoded message's properties that exchanges look at.
///
/// # Errors
/// The properties cannot be read.
pub(in crate::broker) fn hashed_properties_of(item: &[u8]) -> Result<HashedProperties, Box<Refusal>> {
    let properties = properties_of(item).map_err(|fault| Box::new(fault.refusal()))?;
    let given = |text: String| (!text.is_empty()).then_some(text);
    Ok(HashedProperties {
        message_id: given(properties.message_id),
        correlation_id: given(properties.correlation_id),
        timestamp_ms: properties.timestamp_ms,
    })
}

/// Where messages are published to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The exchange.
    pub exchange: ExchangeName,
    /// Key of messages that have none of their own.
    pub routing_key: RoutingKey,
    /// Give back what reaches no queue.
    pub mandatory: bool,
    /// Confirm without waiting for the disk.
    pub transient: bool,
}

/// Where a publisher's messages go, with the routes found so far.
#[derive(Debug)]
pub(in crate::broker) struct Target {
    pub(in crate::broker) origin: Arc<Origin>,
    pub(super) mandatory: bool,
    pub(super) transient: bool,
    /// Version of the routing table, and of what users may do, that everything below belongs to.
    version: u64,
    /// Once it was asked for.
    may_write: Option<MayWrite>,
    route: Option<Arc<Route>>,
    by_key: HashMap<Box<str>, Arc<Route>, foldhash::fast::RandomState>,
    /// The last one, since words about a key take longer than its route.
    not_allowed: Option<Arc<KeyNotAllowed>>,
    /// Where the messages that are taken are counted: for the exchange, and for the connection.
    counters: Option<[Arc<AtomicU64>; 2]>,
}

/// What finding routes needs, and the number of routes by key that all targets of a connection remember.
#[derive(Debug)]
pub(in crate::broker) struct Router {
    routed: Routed,
    cached: usize,
    /// Whose messages these are; `None`: the broker's own.
    writer: Option<Writer>,
}

impl Router {
    /// One for what somebody publishes, as far as they may.
    pub(super) fn of(writer: Writer) -> Self {
        Self { writer: Some(writer), ..Self::default() }
    }
}

impl Default for Router {
    fn default() -> Self {
        // Each connection has chances of its own.
        let seed = foldhash::fast::RandomState::default().hash_one(0_u64);
        Self { routed: Routed::with_chance(seed), cached: 0, writer: None }
    }
}

/// The headers and properties of one of the messages that are routed.
struct OfMessage<'a, P> {
    publication: &'a P,
    index: usize,
    /// Once they were decoded.
    headers: Option<Option<FieldTable>>,
}

impl<P: Publication> MessageHeaders for OfMessage<'_, P> {
    fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>> {
        if self.headers.is_none() {
            self.headers = Some(self.publication.headers(self.index)?);
        }
        Ok(self.headers.as_ref().and_then(Option::as_ref))
    }

    fn properties(&mut self) -> Result<HashedProperties, Box<Refusal>> {
        self.publication.hashed_properties(self.index)
    }
}

/// What becomes of neighbouring messages.
#[derive(Debug, Clone)]
pub(in crate::broker) enum Fate {
    Routed(Arc<Route>),
    Refused(Box<Refusal>),
    NotAllowed(Arc<KeyNotAllowed>),
    Unfit(Box<Unfit>),
}

impl Fate {
    /// Whether a message with it would be written to a log.
    pub(in crate::broker) fn reaches_disk(&self) -> bool {
        match self {
            Self::Routed(route) => route.shards.iter().any(|(shard, _)| shard.0 < FIRST_VOLATILE_SHARD),
            Self::Refused(_) | Self::NotAllowed(_) | Self::Unfit(_) => false,
        }
    }

    /// What chance said when its way was found.
    pub(super) fn chance(&self) -> Option<u64> {
        match self {
            Self::Routed(route) => route.chance,
            Self::Refused(_) | Self::NotAllowed(_) | Self::Unfit(_) => None,
        }
    }

    /// Why the exchange's list or schema does not let it through, if so.
    pub(super) fn barred(&self) -> Option<&Refusal> {
        match self {
            Self::NotAllowed(not_allowed) => Some(not_allowed.refusal()),
            Self::Unfit(unfit) => Some(unfit.refusal()),
            Self::Routed(_) | Self::Refused(_) => None,
        }
    }

    /// Whether all messages with the same exchange and key have it.
    pub(super) fn is_of_key(&self) -> bool {
        match self {
            Self::Routed(route) => route.is_keyed,
            Self::NotAllowed(not_allowed) => not_allowed.is_of_publication(),
            // What is in a message decides, not its key.
            Self::Refused(_) | Self::Unfit(_) => false,
        }
    }

    /// The further keys by which it goes.
    pub(super) fn further_keys(&self) -> &[String] {
        match self {
            Self::Routed(route) => &route.further_keys,
            Self::Refused(_) | Self::NotAllowed(_) | Self::Unfit(_) => &[],
        }
    }

    /// Where messages with it are kept for what is bound later.
    pub(in crate::broker) fn histories(&self) -> &[Arc<History>] {
        match self {
            Self::Routed(route) => &route.histories,
            Self::Refused(_) | Self::NotAllowed(_) | Self::Unfit(_) => &[],
        }
    }

    /// Whether its way was looked for, be it in vain.
    pub(super) fn is_routed(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// The queues that it goes to.
    pub(in crate::broker) fn queues(&self) -> impl Iterator<Item = QueueId> {
        let shards = match self {
            Self::Routed(route) => &route.shards[..],
            Self::Refused(_) | Self::NotAllowed(_) | Self::Unfit(_) => &[],
        };
        shards.iter().flat_map(|(_, queues)| queues.iter().copied())
    }

    /// Why it goes nowhere, if it was refused.
    pub(in crate::broker) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Routed(_) | Self::NotAllowed(_) | Self::Unfit(_) => self.barred(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Routed(one), Self::Routed(other)) => Arc::ptr_eq(one, other),
            (Self::Refused(one), Self::Refused(other)) => one == other,
            (Self::NotAllowed(one), Self::NotAllowed(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Target {
    /// A target without routes; they are found when messages come.
    pub(in crate::broker) fn new(address: Address) -> Self {
        let Address { exchange, routing_key, mandatory, transient } = address;
        Self {
            origin: Arc::new(Origin { exchange, routing_key }),
            mandatory,
            transient,
            version: 0,
            may_write: None,
            route: None,
            by_key: HashMap::default(),
            not_allowed: None,
            counters: None,
        }
    }

    /// Whether what was found last may not be true any more.
    pub(in crate::broker) fn is_outdated(&self, vhost: &Vhost) -> bool {
        self.version != vhost.version()
    }

    /// Whether it was made from this address.
    pub(super) fn address(&self) -> Address {
        let Origin { exchange, routing_key } = &*self.origin;
        Address {
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            mandatory: self.mandatory,
            transient: self.transient,
        }
    }

    pub(super) fn is(&self, address: &Address) -> bool {
        let Origin { exchange, routing_key } = &*self.origin;
        (exchange, routing_key) == (&address.exchange, &address.routing_key)
            && (self.mandatory, self.transient) == (address.mandatory, address.transient)
    }

    pub(in crate::broker) fn fates(
        &mut self,
        vhost: &Vhost,
        publication: &impl Publication,
        sizes_max: SizesMax,
        router: &mut Router,
    ) -> Vec<(u32, Fate)> {
        let version = vhost.version();
        if version != self.version {
            self.version = version;
            self.may_write = None;
            self.route = None;
            self.not_allowed = None;
            self.counters = None;
            self.forget_keys(router);
        }
        let count = publication.run().len();
        let small = publication.body_bytes_max().max(publication.run().bytes().len()) <= sizes_max.body;
        let times_out_of_range = are_out_of_range(publication);
        let mut with_further_keys = publication.with_further_keys().iter().copied().peekable();
        let plain =
            small && !publication.has_keys() && !times_out_of_range && with_further_keys.peek().is_none();
        if plain
            && let Some(route) = &self.route
            && route.schemas.is_empty()
        {
            return vec![(count as u32, Fate::Routed(Arc::clone(route)))];
        }
        let may_write = self.may_write(vhost, router);
        let mut fates: Vec<(u32, Fate)> = Vec::new();
        for index in 0..count {
            let checked = check_size(publication, index, sizes_max).and_then(|()| {
                may_write.check()?;
                match times_out_of_range {
                    true => check_times(publication, index),
                    false => Ok(()),
                }
            });
            let has_further_keys = with_further_keys.next_if_eq(&(index as u32)).is_some();
            let mut routed = |target: &mut Self| match has_further_keys {
                true => target.route_further(vhost, publication, index, router),
                false => target.route(vhost, publication, index, router),
            };
            let fate = match checked {
                Err(refusal) => Fate::Refused(Box::new(refusal)),
                Ok(()) => match routed(self) {
                    Ok(route) if !route.schemas.is_empty() => self.checked(vhost, publication, index, route),
                    Ok(route) => Fate::Routed(route),
                    Err(RouteError::KeyNotAllowed(not_allowed)) => Fate::NotAllowed(not_allowed),
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

    /// What may be published here, by whoever it is that the router works for; the broker itself may everything.
    fn may_write(&mut self, vhost: &Vhost, router: &Router) -> MayWrite {
        let exchange = &self.origin.exchange;
        let asked = || {
            router.writer.as_ref().map_or(MayWrite::Everything, |writer| writer.may_write(vhost, exchange))
        };
        self.may_write.get_or_insert_with(asked).clone()
    }

    /// Whether a key may be published under.
    fn check_key(&self, key: &str) -> Result<(), RouteError> {
        match &self.may_write {
            Some(may_write) => may_write.check_key(&self.origin.exchange, key).map_err(RouteError::Refused),
            None => Ok(()),
        }
    }

    /// Holds a message against the schemas of its route.
    fn checked(
        &self,
        vhost: &Vhost,
        publication: &impl Publication,
        index: usize,
        route: Arc<Route>,
    ) -> Fate {
        let (body, content_encoding) = match body_and_encoding_of(publication.run().item(index)) {
            Ok(read) => read,
            Err(fault) => return Fate::Refused(Box::new(fault.refusal())),
        };
        let key = publication.key(index).unwrap_or(&self.origin.routing_key);
        let payload = Payload { body, content_encoding };
        let mut schemas = route.schemas.iter();
        match schemas.try_for_each(|schema| schema.check(payload, key, &self.origin.exchange, &vhost.name)) {
            Ok(()) => Fate::Routed(route),
            Err(unfit) => Fate::Unfit(Box::new(unfit)),
        }
    }

    /// Counts what is taken of messages with these fates.
    pub(in crate::broker) fn count(&mut self, vhost: &Vhost, published: &Published, fates: &[(u32, Fate)]) {
        let taken: u64 = fates
            .iter()
            .filter(|(_, fate)| matches!(fate, Fate::Routed(_)))
            .map(|(count, _)| u64::from(*count))
            .sum();
        if taken == 0 {
            return;
        }
        let exchange = &self.origin.exchange;
        if self.counters.is_none()
            && let Some(entry) = vhost.routing().exchange(exchange)
        {
            self.counters = Some([Arc::clone(entry.published()), published.counter(exchange)]);
        }
        self.counters.iter().flatten().for_each(|counter| {
            counter.fetch_add(taken, Ordering::Relaxed);
        });
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
        if let Some(last) = self.not_allowed.as_ref().filter(|last| last.key() == key) {
            return Err(RouteError::KeyNotAllowed(Arc::clone(last)));
        }
        self.check_key(key)?;
        let mut headers = OfMessage { publication, index, headers: None };
        let routed = vhost.routing().route(&self.origin.exchange, key, &mut headers, &mut router.routed);
        if let Err(RouteError::KeyNotAllowed(not_allowed)) = &routed {
            self.not_allowed = Some(Arc::clone(not_allowed));
        }
        routed?;
        let mut route = Route::of(&router.routed);
        if self.origin.exchange.is_empty() && is_reply_address(key) {
            route.go_to_requesters(vhost, std::iter::once(key));
            return Ok(Arc::new(route));
        }
        let route = Arc::new(route);
        if router.routed.is_keyed() {
            match own_key {
                None => self.route = Some(Arc::clone(&route)),
                Some(key) => self.remember(key, Arc::clone(&route), router),
            }
        }
        Ok(route)
    }

    /// The route of a message with headers that may name further keys; nothing of it is remembered.
    fn route_further(
        &mut self,
        vhost: &Vhost,
        publication: &impl Publication,
        index: usize,
        router: &mut Router,
    ) -> Result<Arc<Route>, RouteError> {
        let mut headers = publication.headers(index).map_err(RouteError::Headers)?.unwrap_or_default();
        let further = match further_keys(&headers) {
            Ok(further) => further,
            Err(refusal) => {
                // That the exchange is not there is told first, as in RabbitMQ.
                self.route(vhost, publication, index, router)?;
                return Err(RouteError::Headers(refusal));
            }
        };
        if further.is_empty() && !headers.0.contains_key(BCC) {
            return self.route(vhost, publication, index, router);
        }
        // Exchanges do not see it.
        headers.0.remove(BCC);
        let keys =
            Keys { first: publication.key(index).unwrap_or(&self.origin.routing_key), further: &further };
        self.check_key(keys.first)?;
        keys.further.iter().try_for_each(|key| self.check_key(key))?;
        let mut headers = OfMessage { publication, index, headers: Some(Some(headers)) };
        vhost.routing().route(&self.origin.exchange, keys, &mut headers, &mut router.routed)?;
        let mut route = Route::of(&router.routed);
        if self.origin.exchange.is_empty() {
            route.go_to_requesters(vhost, keys.all());
        }
        Ok(Arc::new(Route { further_keys: further, is_keyed: false, ..route }))
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

    /// Gives up what is remembered: the target goes, or its routes are not true any more.
    pub(super) fn forget_keys(&mut self, router: &mut Router) {
        router.cached -= self.by_key.len();
        self.by_key.clear();
    }
}
