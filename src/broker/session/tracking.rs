//! Which of the messages that are published have their journeys kept, and the beginning of their stories.

use std::collections::HashMap;
use std::mem::size_of;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::super::vhost::{QueueDefinition, Vhost};
use super::target::{Fate, Publication};
use crate::journey::{Journeys, Party, Publication as Published, QueueLabel, Tracked, Wanted, Way};
use crate::model::{ExchangeName, QueueId, QueueName, Refusal, RoutingKey, Timestamp, further_keys};
use crate::routing::{ExplainedBinding, ExplainedBody, ExplainedMessage, Explanation};
use crate::shard::Origin;

/// Keys whose ways are remembered for messages that are tracked.
const WAYS_MAX: usize = 1_024;
/// Bindings that a story tells of at most; those that matched come before others.
const BINDINGS_TOLD_MAX: usize = 100;

/// What a session remembers about messages that are tracked.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    /// Version of what it belongs to.
    version: u64,
    /// By routing key: exchanges and ways.
    known: HashMap<Box<str>, Vec<Arc<Observed>>, foldhash::fast::RandomState>,
    ways: usize,
}

/// Messages of one exchange and key that have the same fate.
#[derive(Debug)]
struct Observed {
    exchange: ExchangeName,
    mandatory: bool,
    wanted: Wanted,
    /// Looked for when the first of them is wanted: it takes much longer than routing.
    way: OnceLock<Arc<Way>>,
}

/// Messages of a frame that follow each other and have the same fate.
struct Neighbours<'a> {
    observed: &'a Observed,
    fate: &'a Fate,
    places: Range<u32>,
}

/// A frame of messages, as they are looked at.
pub(super) struct Frame<'a, P> {
    pub(super) vhost: &'a Vhost,
    pub(super) origin: &'a Origin,
    pub(super) mandatory: bool,
    pub(super) messages: &'a P,
    pub(super) publisher: &'a Arc<Party>,
    pub(super) channel: u32,
    pub(super) now: Timestamp,
}

impl Tracking {
    /// Begins the stories of those messages of a frame that the rules of its vhost want; `None`: of none of them.
    pub(super) fn begin<P: Publication>(
        &mut self,
        frame: &Frame<'_, P>,
        fates: &[(u32, Fate)],
        journeys: &Journeys,
    ) -> Option<Tracked> {
        let version = frame.vhost.version();
        if version != self.version {
            *self = Self { version, ..Self::default() };
        }
        let count = frame.messages.run().len();
        let first_number = journeys.numbers(count as u64);
        let mut stories: Vec<Published> = Vec::new();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut place = 0;
        for (count, fate) in fates {
            let end = place + count;
            if frame.messages.has_keys() || !fate.is_of_key() {
                while place < end {
                    let observed = self.observe(frame, place, fate);
                    let of_fate = Neighbours { observed: &observed, fate, places: place..place + 1 };
                    frame.tell(of_fate, first_number, &mut stories, &mut runs);
                    place += 1;
                }
            } else {
                let observed = self.observe(frame, place, fate);
                let of_fate = Neighbours { observed: &observed, fate, places: place..end };
                frame.tell(of_fate, first_number, &mut stories, &mut runs);
                place = end;
            }
        }
        if runs.is_empty() {
            return None;
        }
        journeys.publish(stories);
        Some(Tracked { first_number, runs: Arc::from(runs) })
    }

    fn observe<P: Publication>(&mut self, frame: &Frame<'_, P>, place: u32, fate: &Fate) -> Arc<Observed> {
        let key = frame.messages.key(place as usize).unwrap_or(&frame.origin.routing_key);
        let is_same = |observed: &&Arc<Observed>| {
            observed.exchange == frame.origin.exchange && observed.mandatory == frame.mandatory
        };
        if fate.is_of_key()
            && let Some(known) = self.known.get(key).and_then(|known| known.iter().find(is_same))
        {
            return Arc::clone(known);
        }
        let observed = Arc::new(frame.look_at(key, fate));
        if fate.is_of_key() {
            if self.ways >= WAYS_MAX {
                (self.known, self.ways) = Default::default();
            }
            self.known.entry(Box::from(key)).or_default().push(Arc::clone(&observed));
            self.ways += 1;
        }
        observed
    }
}

impl<P: Publication> Frame<'_, P> {
    /// Adds those of neighbours with the same fate that are wanted.
    fn tell(
        &self,
        neighbours: Neighbours<'_>,
        first_number: u64,
        stories: &mut Vec<Published>,
        runs: &mut Vec<(u32, u32)>,
    ) {
        let Neighbours { observed, fate, places } = neighbours;
        let wanted = &observed.wanted;
        let way = || observed.way.get_or_init(|| Arc::new(self.way(places.start, fate)));
        if wanted.is_all() {
            return self.add(way(), first_number, places.start, places.end - places.start, stories, runs);
        }
        if wanted.is_none() {
            return;
        }
        let number_of = |place: u32| first_number + u64::from(place);
        if let Some(run) = wanted.run_of(number_of(places.start)..number_of(places.end)) {
            let count = (run.end - run.start) as u32;
            if count > 0 {
                self.add(way(), first_number, (run.start - first_number) as u32, count, stories, runs);
            }
            return;
        }
        for place in places.clone() {
            let number = number_of(place);
            // Headers that cannot be read are those of a message that was refused for it.
            let headers = || self.messages.headers(place as usize).ok().flatten();
            if wanted.takes(number, |name| headers()?.value(name).cloned()) {
                self.add(way(), first_number, place, 1, stories, runs);
            }
        }
    }

    fn add(
        &self,
        way: &Arc<Way>,
        first_number: u64,
        place: u32,
        count: u32,
        stories: &mut Vec<Published>,
        runs: &mut Vec<(u32, u32)>,
    ) {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == place => *length += count,
            _ => runs.push((place, count)),
        }
        let id = |place: u32| self.messages.message_id(place as usize);
        let message_ids = match (place..place + count).any(|place| id(place).is_some()) {
            true => Some((place..place + count).map(|place| Box::from(id(place).unwrap_or(""))).collect()),
            false => None,
        };
        stories.push(Published {
            first: first_number + u64::from(place),
            count,
            at: self.now,
            vhost: self.vhost.name.clone(),
            publisher: Arc::clone(self.publisher),
            channel: self.channel,
            way: Arc::clone(way),
            message_ids,
        });
    }

    fn look_at(&self, key: &str, fate: &Fate) -> Observed {
        let reaches = |name: &QueueName| {
            self.vhost.queue(name).is_some_and(|queue| fate.queues().any(|reached| reached == queue.id))
        };
        Observed {
            exchange: self.origin.exchange.clone(),
            mandatory: self.mandatory,
            wanted: self.vhost.journey_rules().wanted(&self.origin.exchange, key, reaches),
            way: OnceLock::new(),
        }
    }

    /// The way of a message with this fate.
    fn way(&self, place: u32, fate: &Fate) -> Way {
        let key = self.messages.key(place as usize).unwrap_or(&self.origin.routing_key);
        let explanation = self.explain(place, key, fate);
        let names = explanation.as_ref().map_or(&[][..], |explanation| &explanation.queues);
        let reached: Vec<QueueId> = fate.queues().collect();
        let queues = names.iter().filter_map(|name| self.vhost.queue(name));
        let queues: Vec<QueueLabel> = queues
            .filter(|queue| reached.contains(&queue.id))
            .map(|queue| label(self.vhost, &queue))
            .collect();
        let refused = fate.refusal().cloned();
        let explanation = explanation.map(shortened);
        Way {
            exchange: self.origin.exchange.clone(),
            // A key that is too long is that of a message that was refused.
            routing_key: RoutingKey::new(key).unwrap_or_default(),
            bytes: way_bytes(&queues, explanation.as_ref(), refused.as_ref()),
            queues,
            explanation,
            refused,
            mandatory: self.mandatory,
        }
    }

    /// `None`: it was refused before its way was looked for.
    fn explain(&self, place: u32, key: &str, fate: &Fate) -> Option<Explanation> {
        if !fate.is_routed() {
            return None;
        }
        let headers = self.messages.headers(place as usize).ok().flatten();
        let further_keys = match (fate, &headers) {
            (Fate::Routed(_), _) | (_, None) => fate.further_keys().to_vec(),
            (_, Some(headers)) => further_keys(headers).unwrap_or_default(),
        };
        let message = ExplainedMessage {
            headers: headers.as_ref(),
            further_keys: &further_keys,
            properties: self.messages.hashed_properties(place as usize).unwrap_or_default(),
            chance: fate.chance(),
            body: ExplainedBody::Checked(fate.barred()),
        };
        let mut explained = self.vhost.routing().explain(&self.origin.exchange, key, &message).ok()?;
        if self.origin.exchange.is_empty() {
            let keys = std::iter::once(key).chain(further_keys.iter().map(String::as_str));
            self.vhost.requesters.explain(keys, &mut explained);
        }
        Some(explained)
    }
}

fn label(vhost: &Vhost, queue: &QueueDefinition) -> QueueLabel {
    let subscription = queue.subscription.as_ref().and_then(|name| vhost.subscription(name));
    let members = subscription.iter().flat_map(|subscription| subscription.members.iter());
    let member = members.clone().find(|(_, of_member)| of_member.id == queue.id);
    QueueLabel {
        id: queue.id,
        name: queue.name.clone(),
        subscription: queue.subscription.clone(),
        member: member.map(|(name, _)| name.clone()).unwrap_or_default(),
    }
}

/// With no more bindings than are told of.
fn shortened(mut explanation: Explanation) -> Explanation {
    let all: usize = explanation.exchanges.iter().map(|exchange| exchange.bindings.len()).sum();
    if all <= BINDINGS_TOLD_MAX {
        return explanation;
    }
    let bindings = explanation.exchanges.iter().flat_map(|exchange| &exchange.bindings);
    let matched = bindings.filter(|binding| binding.matched).count().min(BINDINGS_TOLD_MAX);
    let (mut of_matched, mut of_others) = (matched, BINDINGS_TOLD_MAX - matched);
    for exchange in &mut explanation.exchanges {
        exchange.bindings.retain(|binding: &ExplainedBinding| {
            let room = if binding.matched { &mut of_matched } else { &mut of_others };
            let has_room = *room > 0;
            *room = room.saturating_sub(1);
            has_room
        });
        exchange.bindings.shrink_to_fit();
    }
    explanation.bindings_omitted += (all - BINDINGS_TOLD_MAX) as u64;
    explanation
}

/// What a way takes of the room for journeys, about.
fn way_bytes(labels: &[QueueLabel], explanation: Option<&Explanation>, refused: Option<&Refusal>) -> usize {
    let of_explanation = explanation.map_or(0, |explanation| {
        let exchanges = explanation.exchanges.iter();
        let of_exchanges: usize = exchanges
            .map(|exchange| {
                let bindings = exchange.bindings.iter();
                let reasons: usize =
                    bindings.map(|binding| size_of::<ExplainedBinding>() + binding.reason.len()).sum();
                let words = [&exchange.refused, &exchange.schema].into_iter().flatten();
                let words: usize = words.map(String::len).sum();
                size_of_val(exchange) + exchange.alternate_note.len() + words + reasons
            })
            .sum();
        of_exchanges + explanation.queues.len() * size_of::<QueueId>()
    });
    let of_refusal = refused.map_or(0, |refusal| {
        let Refusal { text, hint, field, expected, got, .. } = refusal;
        [text, hint, field, expected, got].map(String::len).iter().sum()
    });
    size_of::<Way>() + size_of_val(labels) + of_explanation + of_refusal
}
