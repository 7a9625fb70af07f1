//! And back: what is read may come from a disk that rots, or from a later version.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::event::{Event, NotTaken, Party, Publication, QueueLabel, Taker, Way, What};
use super::super::store::{Chunk, Entry};
use super::record::*;
use crate::model::{
    BodySequence, ConnectionId, ExchangeName, FieldTable, MemberName, QueueId, QueueName, Refusal,
    RoutingKey, ShardId, SubscriptionName, Timestamp, UserName, VhostName,
};
use crate::pb;
use crate::queue::{ConsumerKey, Departure, Return, Taking};
use crate::routing::{
    Binding, Destination, ExchangeKind, ExplainedBinding, ExplainedExchange, Explanation, ReachedBy,
};

/// What a file has told so far, by the numbers that it gave.
#[derive(Debug, Default)]
pub(super) struct Read {
    parties: HashMap<u32, Arc<Party>>,
    takers: HashMap<u32, Arc<Taker>>,
    ways: HashMap<u32, Arc<Way>>,
    last_id: u32,
}

/// A record says what cannot be, though its checksum is right.
#[derive(Debug)]
pub(super) struct Nonsense;

impl Read {
    /// The highest number that the file gave to anything.
    pub(super) fn last_id(&self) -> u32 {
        self.last_id
    }

    pub(super) fn decode(&mut self, stored: StoredChunk) -> Result<Chunk, Nonsense> {
        let StoredChunk { index, parties, takers, ways, entries } = stored;
        for stored in parties {
            self.last_id = self.last_id.max(stored.id);
            self.parties.insert(stored.id, Arc::new(party(stored)?));
        }
        for stored in takers {
            self.last_id = self.last_id.max(stored.id);
            let party = self.parties.get(&stored.party).ok_or(Nonsense)?;
            self.takers.insert(stored.id, Arc::new(taker(&stored, party)?));
        }
        for stored in ways {
            self.last_id = self.last_id.max(stored.id);
            self.ways.insert(stored.id, Arc::new(way(stored)?));
        }
        let mut chunk = Chunk::default();
        chunk.index = index;
        for StoredEntry { kind } in entries {
            let entry = match kind {
                // Of a later version.
                None => continue,
                Some(StoredKind::Publication(stored)) => {
                    Entry::Publication(Arc::new(self.publication(stored)?))
                }
                Some(StoredKind::Event(stored)) => match self.event(stored)? {
                    Some(event) => Entry::Event(event),
                    None => continue,
                },
            };
            chunk.entries.push(entry);
        }
        Ok(chunk)
    }

    fn publication(&self, stored: StoredPublication) -> Result<Publication, Nonsense> {
        let StoredPublication { first, count, at, vhost, publisher, channel, way, message_ids } = stored;
        check_numbers(first, count)?;
        let message_ids = match message_ids.len() {
            0 => None,
            ids if ids == count as usize => {
                Some(message_ids.into_iter().map(String::into_boxed_str).collect())
            }
            _ => return Err(Nonsense),
        };
        Ok(Publication {
            first,
            count,
            at: Timestamp(at),
            vhost: VhostName::new(&vhost).map_err(|_| Nonsense)?,
            publisher: self.parties.get(&publisher).cloned().ok_or(Nonsense)?,
            channel,
            way: self.ways.get(&way).cloned().ok_or(Nonsense)?,
            message_ids,
        })
    }

    /// `None`: something that only a later version knows.
    fn event(&self, stored: StoredEvent) -> Result<Option<Event>, Nonsense> {
        let StoredEvent { first, count, at, what } = stored;
        check_numbers(first, count)?;
        let what = match what {
            None => return Ok(None),
            Some(StoredWhat::Taken(taken)) => What::Taken {
                shard: shard(taken.shard)?,
                queues: queues(taken.queues),
                sequence: BodySequence(taken.sequence),
            },
            Some(StoredWhat::NotTaken(stored)) => What::NotTaken(Arc::new(NotTaken {
                shard: shard(stored.shard)?,
                queues: queues(stored.queues),
                refusal: refusal(stored.refusal.ok_or(Nonsense)?)?,
            })),
            Some(StoredWhat::Delivered(stored)) => What::Delivered {
                queue: QueueId(stored.queue),
                taker: self.takers.get(&stored.taker).cloned().ok_or(Nonsense)?,
                redelivered: stored.redelivered,
                delivery_count: stored.delivery_count,
            },
            Some(StoredWhat::Requeued(queue)) => {
                What::CameBack { queue: QueueId(queue), why: Return::Requeued }
            }
            Some(StoredWhat::ConsumerGone(queue)) => {
                What::CameBack { queue: QueueId(queue), why: Return::ConsumerGone }
            }
            Some(StoredWhat::Left(StoredLeft { queue, departure })) => {
                let departure = u8::try_from(departure).ok().and_then(Departure::of_code);
                match departure {
                    Some(departure) => What::Left { queue: QueueId(queue), departure },
                    // It left for a reason that only a later version knows.
                    None => What::Missed { queue: QueueId(queue) },
                }
            }
            Some(StoredWhat::QueueDeleted(queue)) => What::QueueDeleted { queue: QueueId(queue) },
            Some(StoredWhat::Unknown(StoredUnknown { queue: Some(queue) })) => {
                What::Missed { queue: QueueId(queue) }
            }
            Some(StoredWhat::Unknown(StoredUnknown { queue: None })) => What::Unwatched,
        };
        Ok(Some(Event { first, count, at: Timestamp(at), what }))
    }
}

/// Numbers that follow each other do not run over.
fn check_numbers(first: u64, count: u32) -> Result<(), Nonsense> {
    let fits = first.checked_add(count.into()).is_some();
    if fits && count > 0 { Ok(()) } else { Err(Nonsense) }
}

fn shard(number: u32) -> Result<ShardId, Nonsense> {
    u16::try_from(number).map(ShardId).map_err(|_| Nonsense)
}

fn queues(numbers: Vec<u64>) -> Arc<[QueueId]> {
    numbers.into_iter().map(QueueId).collect()
}

fn refusal(stored: pb::Error) -> Result<Refusal, Nonsense> {
    Refusal::try_from(stored).map_err(|_| Nonsense)
}

fn party(stored: StoredParty) -> Result<Party, Nonsense> {
    Ok(Party {
        connection: ConnectionId(stored.connection),
        name: stored.name,
        user: UserName::new(&stored.user).map_err(|_| Nonsense)?,
        peer: stored.peer.parse().map_err(|_| Nonsense)?,
    })
}

fn taker(stored: &StoredTaker, party: &Arc<Party>) -> Result<Taker, Nonsense> {
    let taking = match stored.taking {
        0 => Taking::Consuming,
        1 => Taking::OneByOne,
        2 => Taking::OneByOneNoAck,
        _ => return Err(Nonsense),
    };
    let connection = ConnectionId(stored.connection);
    Ok(Taker {
        key: ConsumerKey { connection, channel: stored.channel, taking, handle: stored.handle },
        tag: Arc::from(&*stored.tag),
        party: Arc::clone(party),
    })
}

fn exchange_name(name: &str) -> Result<ExchangeName, Nonsense> {
    ExchangeName::new(name).map_err(|_| Nonsense)
}

fn queue_name(name: &str) -> Result<QueueName, Nonsense> {
    QueueName::new(name).map_err(|_| Nonsense)
}

fn way(stored: StoredWay) -> Result<Way, Nonsense> {
    Ok(Way {
        exchange: exchange_name(&stored.exchange)?,
        routing_key: RoutingKey::new(&stored.routing_key).map_err(|_| Nonsense)?,
        queues: stored.queues.iter().map(label).collect::<Result<_, _>>()?,
        explanation: stored.explanation.map(explanation).transpose()?,
        refused: stored.refused.map(refusal).transpose()?,
        mandatory: stored.mandatory,
        bytes: usize::try_from(stored.bytes).map_err(|_| Nonsense)?,
    })
}

fn label(stored: &StoredLabel) -> Result<QueueLabel, Nonsense> {
    let subscription = stored.subscription.as_deref().map(SubscriptionName::new).transpose();
    Ok(QueueLabel {
        id: QueueId(stored.id),
        name: queue_name(&stored.name)?,
        subscription: subscription.map_err(|_| Nonsense)?,
        member: MemberName::new(&stored.member).map_err(|_| Nonsense)?,
    })
}

fn explanation(stored: StoredExplanation) -> Result<Explanation, Nonsense> {
    Ok(Explanation {
        exchanges: stored.exchanges.into_iter().map(exchange).collect::<Result<_, _>>()?,
        queues: stored.queues.iter().map(|name| queue_name(name)).collect::<Result<_, _>>()?,
        bindings_omitted: stored.bindings_omitted,
    })
}

fn exchange(stored: StoredExchange) -> Result<ExplainedExchange, Nonsense> {
    let reached_by = match (&stored.by_binding_of, &stored.as_alternate_of) {
        (None, None) => ReachedBy::Publish,
        (Some(of), None) => ReachedBy::Binding(exchange_name(of)?),
        (None, Some(of)) => ReachedBy::Alternate(exchange_name(of)?),
        (Some(_), Some(_)) => return Err(Nonsense),
    };
    Ok(ExplainedExchange {
        name: exchange_name(&stored.name)?,
        kind: ExchangeKind::parse(&stored.kind).map_err(|_| Nonsense)?,
        reached_by,
        bindings: stored.bindings.into_iter().map(binding).collect::<Result<_, _>>()?,
        alternate_exchange: stored.alternate_exchange.as_deref().map(exchange_name).transpose()?,
        alternate_note: stored.alternate_note,
        refused: stored.refused,
        schema: stored.schema,
    })
}

fn binding(stored: StoredBinding) -> Result<ExplainedBinding, Nonsense> {
    let destination = match stored.to_exchange {
        true => Destination::Exchange(exchange_name(&stored.destination)?),
        false => Destination::Queue(queue_name(&stored.destination)?),
    };
    let arguments = stored.arguments.map(FieldTable::try_from).transpose().map_err(|_| Nonsense)?;
    let binding = Binding {
        source: exchange_name(&stored.source)?,
        destination,
        key: RoutingKey::new(&stored.key).map_err(|_| Nonsense)?,
        arguments: arguments.unwrap_or_default(),
    };
    Ok(ExplainedBinding { binding: Arc::new(binding), matched: stored.matched, reason: stored.reason })
}
