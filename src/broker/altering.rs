//! Altering an exchange: what waits is held against new schemas before they hold.
//!
//! It looks through the queues as [`Broker::browse`](super::Broker::browse) does, page by page, one queue after the other in turn, and
//! checks the pages on threads that may block, so nobody else waits for it. How much it looks at is bounded; what it came to says whether
//! that was all.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::broker::{Broker, UNFINISHED, stopping};
use super::browse::routing_key_of;
use super::catalog::{Alteration, Request};
use super::login::Identity;
use super::vhost::QueueDefinition;
use crate::message::{body_and_encoding_of, headers_of};
use crate::model::{
    Clock, Entity, ExchangeName, QueueName, Refusal, ReplyCode, SCHEMAS, Timestamp, VhostName, further_keys,
};
use crate::routing::{
    Destination, ExchangeDefinition, Keys, Payload, RoutingTable, Schemas, altered, check_declare,
    check_equivalent, compiled_schemas, no_such_exchange,
};
use crate::shard::{Came, Command, Look, LookedAt, Which, run_blocking};

/// Those who look at a time, in the whole broker; others wait for them.
pub(super) const LOOKERS_MAX: usize = 2;
/// Queues that are looked through.
const QUEUES_MAX: usize = 1_000;
/// Bindings that are followed to find them.
const BINDINGS_FOLLOWED_MAX: usize = 100_000;
/// Messages that are looked at, those of other exchanges in the same queues among them.
const MESSAGES_MAX: usize = 100_000;
/// Bytes of messages that are looked at.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// Milliseconds after which it looks no further.
const MILLIS_MAX: u64 = 10_000;
/// Messages of a page.
const PAGE_MESSAGES: usize = 1_000;
/// Bytes of a page, unless a single message has more.
const PAGE_BYTES: usize = 1024 * 1024;
/// Messages that do not fit and are named.
const MISFITS_TOLD_MAX: usize = 20;
/// Of those, how many a refusal names.
const MISFITS_REFUSED_WITH: usize = 3;

/// What becomes of an alteration if messages that wait do not fit new schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterMode {
    /// It is refused.
    IfAllFit,
    /// It is made.
    Force,
    /// It is not made in any case.
    DryRun,
}

/// What became of an alteration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Altered {
    /// The exchange is as it was to be; false: it was a dry run.
    pub altered: bool,
    /// Messages that wait and were published to it, and were held against the new schemas.
    pub looked_at: u64,
    /// Those of them that do not fit.
    pub misfits: u64,
    /// The first of them, 20 at most.
    pub first: Vec<WaitingMisfit>,
    /// Why there may be more that were not looked at, in a sentence; `None`: all were.
    pub not_all: Option<String>,
}

/// A message that waits and does not fit a new schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMisfit {
    /// Where it waits.
    pub queue: QueueName,
    /// Its place there.
    pub sequence: u64,
    /// Its key.
    pub routing_key: String,
    /// Where in the message.
    pub field: String,
    /// What would fit there.
    pub expected: String,
    /// What is there.
    pub got: String,
}

impl Broker {
    /// Replaces what an exchange takes: its list of keys, its schemas and its quarantine queue. If there are new schemas, messages that
    /// wait and were published to it are held against them first, in the queues that its bindings lead to, through exchanges, too. What is
    /// published meanwhile is not looked at.
    ///
    /// # Errors
    /// 404 for an exchange that does not exist, 403 for one that cannot be altered, 406 for arguments that make no sense, or for messages
    /// that do not fit. Nothing was changed then.
    pub async fn alter_exchange(
        &self,
        who: &Identity,
        alteration: Alteration,
        mode: AlterMode,
    ) -> Result<Altered, Refusal> {
        self.check_alteration(who, &alteration)?;
        let (vhost, name) = (&who.vhost.name, &alteration.name);
        let (current, definition) = {
            let table = who.vhost.routing();
            let current = table.exchange(name).ok_or_else(|| no_such_exchange(name, vhost))?.definition();
            (Arc::clone(current), altered(current, &alteration.set, &alteration.remove, vhost)?)
        };
        check_declare(&definition, vhost)?;
        let is_new = || check_equivalent(&current, &definition, vhost).is_err();
        let schemas = match alteration.set.value(SCHEMAS) {
            Some(_) if mode == AlterMode::DryRun || is_new() => compiled_schemas(&definition, vhost)?,
            _ => None,
        };
        let seen = match schemas {
            Some(schemas) => self.look_through(who, &current, &definition, schemas).await?,
            None => Altered::default(),
        };
        match mode {
            AlterMode::DryRun => return Ok(seen),
            AlterMode::IfAllFit if seen.misfits > 0 => {
                return Err(misfits_wait(&definition.name, vhost, &seen));
            }
            AlterMode::IfAllFit | AlterMode::Force => {}
        }
        self.done(Request::AlterExchange { vhost: who.vhost_name(), alteration }).await?;
        Ok(Altered { altered: true, ..seen })
    }

    async fn look_through(
        &self,
        who: &Identity,
        current: &ExchangeDefinition,
        definition: &ExchangeDefinition,
        schemas: Schemas,
    ) -> Result<Altered, Refusal> {
        let permit = Arc::clone(&self.shared.look_permits).acquire_owned().await.map_err(|_| stopping())?;
        let clock = Arc::clone(&self.shared.platform.clock);
        let judge = Arc::new(Judge {
            schemas,
            exchange: definition.name.clone(),
            vhost: who.vhost_name(),
            until: Timestamp(clock().0.saturating_add(MILLIS_MAX)),
            clock,
            _permit: permit,
        });
        let Reached { queues, not_all } = reached(&who.vhost.routing(), &definition.name);
        // What they keep was refused, and nobody says that it fits.
        let of_vhost = who.vhost.quarantine().map(|quarantine| quarantine.queue().clone());
        let quarantines = [current.quarantine_queue(), definition.quarantine_queue(), of_vhost];
        let queues = queues.iter().filter(|queue| !quarantines.iter().flatten().any(|one| one == *queue));
        let mut looks: VecDeque<Place> = queues
            .filter_map(|name| who.vhost.queue(name))
            .map(|queue| Place { queue, from: 0, end: 0 })
            .collect();
        let mut seen = Altered { not_all, ..Altered::default() };
        let (mut messages, mut bytes) = (0, 0);
        while let Some(Place { queue, from, end }) = looks.pop_front() {
            if messages >= MESSAGES_MAX || bytes >= BYTES_MAX {
                seen.not_all =
                    Some(format!("only the first {messages} messages were looked at, {bytes} bytes"));
                break;
            }
            let count_max = PAGE_MESSAGES.min(MESSAGES_MAX - messages);
            let looked = match self.look(&queue, from, end, count_max).await {
                Ok(looked) => looked,
                // It is gone, and what waited in it.
                Err(refusal) if refusal.code == ReplyCode::NotFound => continue,
                Err(refusal) => {
                    seen.not_all =
                        Some(format!("queue '{}' cannot be looked into: {}", queue.name, refusal.text));
                    continue;
                }
            };
            messages += looked.messages.len();
            bytes += looked.messages.iter().map(|message| message.bytes.len()).sum::<usize>();
            if let Some(next) = looked.next {
                looks.push_back(Place { queue: Arc::clone(&queue), from: next, end: looked.end });
            }
            let (judge, name, room) =
                (Arc::clone(&judge), queue.name.clone(), MISFITS_TOLD_MAX - seen.first.len());
            let page = run_blocking(&self.shared.platform.workers, move || {
                judge.judge(&name, &looked.messages, room)
            });
            let page = page.await.ok_or_else(|| Refusal::new(ReplyCode::InternalError, UNFINISHED))?;
            seen.looked_at += page.looked_at;
            seen.misfits += page.misfits;
            seen.first.extend(page.first);
            if page.not_all.is_some() {
                seen.not_all = page.not_all;
                break;
            }
        }
        Ok(seen)
    }

    async fn look(
        &self,
        queue: &QueueDefinition,
        from: u64,
        end: u64,
        count_max: usize,
    ) -> Result<crate::shard::Looked, Refusal> {
        let look = Look {
            queue: queue.id,
            from,
            end,
            came: Came::default(),
            which: Which::Ready,
            newest: None,
            count_max,
            bytes_max: PAGE_BYTES,
        };
        let (reply, looked) = oneshot::channel();
        self.shard(queue)?.send(Command::Browse { look, reply });
        looked.await.map_err(|_| stopping())?.map_err(|refusal| *refusal)
    }
}

/// How far a queue was looked through.
struct Place {
    queue: Arc<QueueDefinition>,
    from: u64,
    /// 0: nobody has looked yet.
    end: u64,
}

/// The queues that messages of an exchange may be in.
struct Reached {
    queues: BTreeSet<QueueName>,
    not_all: Option<String>,
}

/// Follows bindings, alternate exchanges, and bindings between exchanges.
fn reached(table: &RoutingTable, exchange: &ExchangeName) -> Reached {
    let mut queues = BTreeSet::new();
    let mut visited = BTreeSet::from([exchange.clone()]);
    let mut to_visit = vec![exchange.clone()];
    let mut followed = 0;
    while let Some(name) = to_visit.pop() {
        let alternate = table.exchange(&name).and_then(|entry| entry.alternate_exchange()).cloned();
        let bindings = table.bindings_from(&name).map(|binding| &binding.destination);
        for destination in bindings.cloned().chain(alternate.map(Destination::Exchange)) {
            followed += 1;
            let is_one_more =
                matches!(&destination, Destination::Queue(queue) if !queues.contains(queue.as_str()));
            if followed > BINDINGS_FOLLOWED_MAX || (is_one_more && queues.len() == QUEUES_MAX) {
                let not_all =
                    format!("only {} queues that its bindings lead to were looked into", queues.len());
                return Reached { queues, not_all: Some(not_all) };
            }
            match destination {
                Destination::Queue(queue) => drop(queues.insert(queue)),
                Destination::Exchange(next) if visited.insert(next.clone()) => to_visit.push(next),
                Destination::Exchange(_) => {}
            }
        }
    }
    Reached { queues, not_all: None }
}

/// What messages are held against.
struct Judge {
    schemas: Schemas,
    exchange: ExchangeName,
    vhost: VhostName,
    clock: Clock,
    until: Timestamp,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Judge {
    /// Holds a page against the schemas, and names `room` misfits at most.
    fn judge(&self, queue: &QueueName, messages: &[LookedAt], room: usize) -> Altered {
        let mut seen = Altered::default();
        for message in messages.iter().filter(|message| message.origin.exchange == self.exchange) {
            if (self.clock)() >= self.until {
                seen.not_all = Some(format!("it was looked for {} s, and not longer", MILLIS_MAX / 1000));
                break;
            }
            seen.looked_at += 1;
            let routing_key = routing_key_of(message);
            let refusal = match body_and_encoding_of(&message.bytes) {
                Err(fault) => fault.refusal(),
                Ok((body, content_encoding)) => {
                    let payload = Payload { body, content_encoding };
                    // What cannot be read names no keys.
                    let headers = headers_of(&message.bytes).ok().flatten().unwrap_or_default();
                    let further = further_keys(&headers).unwrap_or_default();
                    let keys = Keys { first: routing_key, further: &further };
                    match self.schemas.check(payload, keys, &self.exchange, &self.vhost) {
                        Ok(()) => continue,
                        Err(unfit) => unfit.refusal().clone(),
                    }
                }
            };
            seen.misfits += 1;
            if seen.first.len() < room {
                seen.first.push(WaitingMisfit {
                    queue: queue.clone(),
                    sequence: message.sequence,
                    routing_key: routing_key.to_owned(),
                    field: refusal.field,
                    expected: refusal.expected,
                    got: refusal.got,
                });
            }
        }
        seen
    }
}

fn misfits_wait(exchange: &ExchangeName, vhost: &VhostName, seen: &Altered) -> Refusal {
    let Altered { looked_at, misfits, first, not_all, .. } = seen;
    let named = first.iter().take(MISFITS_REFUSED_WITH).map(|misfit| {
        let WaitingMisfit { queue, sequence, field, expected, got, .. } = misfit;
        format!("message {sequence} in queue '{queue}', {field}: expected {expected}, got {got}")
    });
    let named: Vec<String> = named.collect();
    let rest = match *misfits as usize - named.len() {
        0 => String::new(),
        rest => format!("; and {rest} more"),
    };
    let not_all = not_all.as_ref().map(|why| format!("; not all were looked at: {why}")).unwrap_or_default();
    let text = format!(
        "of {looked_at} messages that wait and were published to exchange '{exchange}' in vhost '{vhost}', {misfits} would not fit, so nothing is changed: {}{rest}{not_all}",
        named.join("; ")
    );
    let refusal =
        Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Exchange, exchange.as_str());
    let refusal = match first.first() {
        Some(WaitingMisfit { field, expected, got, .. }) => refusal.field(field, expected, got),
        None => refusal,
    };
    refusal.hint("a dry run (--dry-run) tells more of them; force (--force) changes the exchange all the same, and they stay where they are")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{FieldTable, FieldValue, QueueId, RoutingKey, ShardId, schema_fields};
    use crate::routing::{Binding, ExchangeKind, QueueTarget};
    use crate::shard::Origin;

    fn exchange(name: &str, arguments: FieldTable) -> ExchangeDefinition {
        ExchangeDefinition {
            name: ExchangeName::new(name).unwrap(),
            kind: ExchangeKind::Topic,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments,
        }
    }

    /// A table with an exchange that so many queues are bound to, behind another one.
    fn table(queues: usize) -> RoutingTable {
        let mut table = RoutingTable::new(VhostName::new("/").unwrap());
        let alternate = FieldTable::from([("alternate-exchange", FieldValue::from("behind"))]);
        table.insert_exchange(exchange("events", alternate));
        table.insert_exchange(exchange("behind", FieldTable::default()));
        for number in 0..queues {
            let name = QueueName::new(&format!("q{number}")).unwrap();
            table.insert_queue(
                name.clone(),
                QueueTarget { id: QueueId(number as u64 + 1), shard: ShardId(0) },
            );
            // Two bindings lead to each, and it is one.
            for key in ["a", "b"] {
                table.bind(Binding {
                    source: ExchangeName::new("behind").unwrap(),
                    destination: Destination::Queue(name.clone()),
                    key: RoutingKey::new(key).unwrap(),
                    arguments: FieldTable::default(),
                });
            }
        }
        table
    }

    #[test]
    fn so_many_queues_are_looked_into_and_no_more() {
        let reach = |queues| reached(&table(queues), &ExchangeName::new("events").unwrap());
        let Reached { queues, not_all } = reach(QUEUES_MAX);
        assert_eq!((queues.len(), not_all), (QUEUES_MAX, None));
        let Reached { queues, not_all } = reach(QUEUES_MAX + 1);
        assert_eq!(queues.len(), QUEUES_MAX);
        assert!(not_all.unwrap().contains("only 1000 queues"));
    }

    #[test]
    fn a_look_that_takes_too_long_ends_and_says_so() {
        let schema = FieldTable::from([
            (schema_fields::PATTERN, FieldValue::from("#")),
            (schema_fields::KIND, FieldValue::from("json")),
            (schema_fields::SCHEMA, FieldValue::from("true")),
        ]);
        let list = FieldValue::List(vec![FieldValue::Table(schema)]);
        let vhost = VhostName::new("/").unwrap();
        let definition = exchange("events", FieldTable::from([(SCHEMAS, list)]));
        let schemas = compiled_schemas(&definition, &vhost).unwrap().unwrap();
        // A clock that goes on by a millisecond each time that somebody looks at it.
        let time = std::sync::atomic::AtomicU64::new(0);
        let clock: Clock =
            Arc::new(move || Timestamp(time.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        let permit = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let judge = Judge {
            schemas,
            exchange: definition.name.clone(),
            vhost,
            clock,
            until: Timestamp(3),
            _permit: permit,
        };
        let origin =
            Arc::new(Origin { exchange: definition.name, routing_key: RoutingKey::new("a").unwrap() });
        let mut item = bytes::BytesMut::new();
        crate::message::encode_item(b"", b"no JSON", None, false, &mut item);
        let message = |sequence| LookedAt {
            delayed_until: None,
            sequence,
            origin: Arc::clone(&origin),
            bytes: item.clone().freeze(),
            redelivered: false,
            delivery_count: 0,
            came_at: None,
        };
        let messages: Vec<LookedAt> = (1..=10).map(message).collect();
        let seen = judge.judge(&QueueName::new("q").unwrap(), &messages, MISFITS_TOLD_MAX);
        assert_eq!((seen.looked_at, seen.misfits), (3, 3), "what is no JSON fits no JSON Schema");
        assert!(seen.not_all.unwrap().contains("10 s"));
    }
}
