//! How long a client may have messages of a queue, and what becomes of what it has for longer.
//!
//! A client that is told so gives back what else it has of that consumer. What is demanded: nothing is taken back before the lease
//! is over that somebody was told had begun anew.

use super::books::{Finding, QueueNumber};
use super::client::{CHANNEL, Pending};
use super::run::Run;
use crate::broker::{ExtendRequest, Outcome as Settles, SettleRequest, Settlement, TagRange};
use crate::model::{CONSUMER_TIMEOUT, FieldTable, FieldValue, Refusal};

/// The queues of this name have leases.
const LEASED: &str = "ant";
/// Of so many milliseconds: a few of the steps in which time passes.
const LEASE_MS: u64 = 1_000;

/// Puts it among the arguments of a declaration, if a queue of this name is to have leases.
pub(super) fn put_into(name: &str, arguments: &mut FieldTable) {
    if name == LEASED {
        arguments.0.insert(CONSUMER_TIMEOUT.to_owned(), FieldValue::Integer(LEASE_MS as i64));
    }
}

impl Run {
    /// Whether what clients have of a queue may come back with time.
    pub(super) fn has_leases(&self, queue: QueueNumber) -> bool {
        self.books.queues[queue].name == LEASED
    }

    /// Some client asks for more time for what it has of a consumer.
    pub(super) fn extend(&mut self) {
        let holding = (0..self.clients.len()).filter(|index| !self.clients[*index].held.is_empty());
        let Some(index) = self.random.pick(holding) else { return };
        let client = &mut self.clients[index];
        let Some((consumer, tag)) = self.random.pick(client.held.keys().copied()) else { return };
        let range = match self.random.one_in(2) {
            true => TagRange { first: tag, last: 0 },
            false => TagRange { first: 0, last: 0 },
        };
        let named = client.held.range((consumer, 0)..=(consumer, u64::MAX)).map(|((_, tag), _)| *tag);
        let tags: Vec<u64> = named.filter(|other| range.first == 0 || *other == tag).collect();
        let asked_ms = self.world.workers.now().0;
        let request = client.request(Pending::Extend { consumer, tags, asked_ms });
        self.trace.note(format_args!("client {} extends {consumer} {range:?}", client.number));
        let session = &mut client.session;
        let extend =
            ExtendRequest { channel: CHANNEL, consumer, ranges: vec![range], request: Some(request) };
        self.world.enter(|| session.extend(extend));
    }

    /// Whoever has messages asks for more time for all of them, and wants no answer.
    pub(super) fn keep_all(&mut self) {
        for client in &mut self.clients {
            let mut consumers: Vec<u32> = client.held.keys().map(|(consumer, _)| *consumer).collect();
            consumers.dedup();
            for consumer in consumers {
                let ranges = vec![TagRange { first: 0, last: 0 }];
                let session = &mut client.session;
                let extend = ExtendRequest { channel: CHANNEL, consumer, ranges, request: None };
                self.world.enter(|| session.extend(extend));
            }
        }
    }

    /// A client hears that leases have begun anew: not before it asked.
    pub(super) fn extended(&mut self, index: usize, consumer: u32, tags: &[u64], asked_ms: u64) {
        let leases = &mut self.clients[index].leases;
        leases.extend(tags.iter().map(|tag| ((consumer, *tag), asked_ms)));
        self.counters.extended += tags.len() as u64;
    }

    /// A client hears that it had something of a consumer for too long.
    pub(super) fn lapsed(&mut self, index: usize, consumer: u32, refusal: &Refusal) -> Result<(), Finding> {
        let now_ms = self.world.workers.now().0;
        let client = &mut self.clients[index];
        let tag = refusal.got.split(' ').find_map(|word| word.parse().ok()).unwrap_or_default();
        if let Some(since_ms) = client.leases.get(&(consumer, tag))
            && now_ms < since_ms + LEASE_MS
        {
            return Err(format!(
                "delivery {tag} of consumer {consumer} was taken back {} ms after its lease had begun anew",
                now_ms - since_ms
            ));
        }
        self.counters.lapsed += 1;
        client.held.retain(|(of, _), _| *of != consumer);
        client.leases.retain(|(of, _), _| *of != consumer);
        // Up to a tag nothing is refused: what was to be settled may have come back before.
        for pending in client.pending.values_mut() {
            if let Pending::Settle { messages } = pending {
                messages.clear();
            }
        }
        let request = Some(client.request(Pending::Settle { messages: Vec::new() }));
        let range = TagRange { first: 0, last: 0 };
        let settlements = vec![Settlement { range, outcome: Settles::Requeued }];
        let session = &mut client.session;
        let settle = SettleRequest { channel: CHANNEL, consumer, settlements, request };
        self.world.enter(|| session.settle(settle));
        Ok(())
    }
}
