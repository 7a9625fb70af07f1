//! From what is kept in memory to what is written: what many entries share is written once a file.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::event::{Event, Party, Publication, QueueLabel, Taker, Way, What};
use super::super::store::{Chunk, Entry};
use super::record::*;
use crate::pb;
use crate::queue::{Return, Taking};
use crate::routing::{Destination, ExplainedBinding, ExplainedExchange, Explanation, ReachedBy};

/// Connections, consumers and ways that a file is known to have: so many of each. Beyond, all are written again.
const WRITTEN_MAX: usize = 4_096;

/// What was written to a file and is called by a number there.
#[derive(Debug, Default)]
pub(super) struct Written {
    last_id: u32,
    parties: Named<Party>,
    takers: Named<Taker>,
    ways: Named<Way>,
}

/// By address: what is held here lives, so that no other has its address.
#[derive(Debug)]
struct Named<T>(HashMap<usize, (Arc<T>, u32)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Named<T> {
    fn id(&self, what: &Arc<T>) -> Option<u32> {
        self.0.get(&(Arc::as_ptr(what) as usize)).map(|(_, id)| *id)
    }

    fn insert(&mut self, what: &Arc<T>, id: u32) {
        self.0.insert(Arc::as_ptr(what) as usize, (Arc::clone(what), id));
    }
}

impl Written {
    /// Nothing is known of what is in a file, but that numbers up to this one are taken.
    pub(super) fn after(last_id: u32) -> Self {
        Self { last_id, ..Self::default() }
    }

    /// Whether it is time for another file: numbers are few.
    pub(super) fn is_exhausted(&self) -> bool {
        self.last_id > u32::MAX / 2
    }

    pub(super) fn encode(&mut self, chunk: &Chunk) -> StoredChunk {
        let of = [self.parties.0.len(), self.takers.0.len(), self.ways.0.len()];
        if of.iter().any(|known| *known > WRITTEN_MAX) {
            *self = Self::after(self.last_id);
        }
        let mut stored = StoredChunk { index: chunk.index, ..StoredChunk::default() };
        for entry in &chunk.entries {
            let kind = match entry {
                Entry::Publication(publication) => {
                    StoredKind::Publication(self.publication(publication, &mut stored))
                }
                Entry::Event(event) => StoredKind::Event(self.event(event, &mut stored)),
            };
            stored.entries.push(StoredEntry { kind: Some(kind) });
        }
        stored
    }

    fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    fn publication(&mut self, publication: &Publication, stored: &mut StoredChunk) -> StoredPublication {
        let ids = publication.message_ids.iter().flatten();
        StoredPublication {
            first: publication.first,
            count: publication.count,
            at: publication.at.0,
            vhost: publication.vhost.to_string(),
            publisher: self.party(&publication.publisher, stored),
            channel: publication.channel,
            way: self.way(&publication.way, stored),
            message_ids: ids.map(|id| id.to_string()).collect(),
        }
    }

    fn event(&mut self, event: &Event, stored: &mut StoredChunk) -> StoredEvent {
        let numbers = |queues: &[crate::model::QueueId]| queues.iter().map(|queue| queue.0).collect();
        let what = match &event.what {
            What::Taken { shard, queues, sequence } => StoredWhat::Taken(StoredTaken {
                shard: shard.0.into(),
                queues: numbers(queues),
                sequence: sequence.0,
            }),
            What::NotTaken(not_taken) => StoredWhat::NotTaken(Box::new(StoredNotTaken {
                shard: not_taken.shard.0.into(),
                queues: numbers(&not_taken.queues),
                refusal: Some(pb::Error::from(&not_taken.refusal)),
            })),
            What::Delivered { queue, taker, redelivered, delivery_count } => {
                StoredWhat::Delivered(StoredDelivered {
                    queue: queue.0,
                    taker: self.taker(taker, stored),
                    redelivered: *redelivered,
                    delivery_count: *delivery_count,
                })
            }
            What::CameBack { queue, why: Return::Requeued } => StoredWhat::Requeued(queue.0),
            What::CameBack { queue, why: Return::ConsumerGone } => StoredWhat::ConsumerGone(queue.0),
            What::Left { queue, departure } => {
                StoredWhat::Left(StoredLeft { queue: queue.0, departure: departure.code().into() })
            }
            What::QueueDeleted { queue } => StoredWhat::QueueDeleted(queue.0),
            What::Missed { queue } => StoredWhat::Unknown(StoredUnknown { queue: Some(queue.0) }),
            What::Unwatched => StoredWhat::Unknown(StoredUnknown { queue: None }),
        };
        StoredEvent { first: event.first, count: event.count, at: event.at.0, what: Some(what) }
    }

    fn party(&mut self, party: &Arc<Party>, stored: &mut StoredChunk) -> u32 {
        if let Some(id) = self.parties.id(party) {
            return id;
        }
        let id = self.next_id();
        self.parties.insert(party, id);
        stored.parties.push(StoredParty {
            id,
            connection: party.connection.0,
            name: party.name.clone(),
            user: party.user.to_string(),
            peer: party.peer.to_string(),
        });
        id
    }

    fn taker(&mut self, taker: &Arc<Taker>, stored: &mut StoredChunk) -> u32 {
        if let Some(id) = self.takers.id(taker) {
            return id;
        }
        let party = self.party(&taker.party, stored);
        let id = self.next_id();
        self.takers.insert(taker, id);
        stored.takers.push(StoredTaker {
            id,
            party,
            connection: taker.key.connection.0,
            channel: taker.key.channel,
            taking: match taker.key.taking {
                Taking::Consuming => 0,
                Taking::OneByOne => 1,
                Taking::OneByOneNoAck => 2,
            },
            handle: taker.key.handle,
            tag: taker.tag.to_string(),
        });
        id
    }

    fn way(&mut self, way: &Arc<Way>, stored: &mut StoredChunk) -> u32 {
        if let Some(id) = self.ways.id(way) {
            return id;
        }
        let id = self.next_id();
        self.ways.insert(way, id);
        stored.ways.push(StoredWay {
            id,
            exchange: way.exchange.to_string(),
            routing_key: way.routing_key.to_string(),
            queues: way.queues.iter().map(label).collect(),
            explanation: way.explanation.as_ref().map(explanation),
            refused: way.refused.as_ref().map(pb::Error::from),
            mandatory: way.mandatory,
            bytes: way.bytes as u64,
        });
        id
    }
}

fn label(label: &QueueLabel) -> StoredLabel {
    StoredLabel {
        id: label.id.0,
        name: label.name.to_string(),
        subscription: label.subscription.as_ref().map(ToString::to_string),
        member: label.member.to_string(),
    }
}

fn explanation(explanation: &Explanation) -> StoredExplanation {
    StoredExplanation {
        exchanges: explanation.exchanges.iter().map(exchange).collect(),
        queues: explanation.queues.iter().map(ToString::to_string).collect(),
        bindings_omitted: explanation.bindings_omitted,
    }
}

fn exchange(exchange: &ExplainedExchange) -> StoredExchange {
    let (by_binding_of, as_alternate_of) = match &exchange.reached_by {
        ReachedBy::Publish => (None, None),
        ReachedBy::Binding(of) => (Some(of.to_string()), None),
        ReachedBy::Alternate(of) => (None, Some(of.to_string())),
    };
    StoredExchange {
        name: exchange.name.to_string(),
        kind: exchange.kind.as_str().to_owned(),
        by_binding_of,
        as_alternate_of,
        bindings: exchange.bindings.iter().map(binding).collect(),
        alternate_exchange: exchange.alternate_exchange.as_ref().map(ToString::to_string),
        alternate_note: exchange.alternate_note.clone(),
        refused: exchange.refused.clone(),
        schema: exchange.schema.clone(),
    }
}

fn binding(ExplainedBinding { binding, matched, reason }: &ExplainedBinding) -> StoredBinding {
    StoredBinding {
        source: binding.source.to_string(),
        destination: binding.destination.name().to_owned(),
        to_exchange: matches!(binding.destination, Destination::Exchange(_)),
        key: binding.key.to_string(),
        arguments: Some(pb::FieldTable::from(&binding.arguments)),
        matched: *matched,
        reason: reason.clone(),
    }
}
