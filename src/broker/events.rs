//! Events for clients: what left a queue without a consumer having wanted it is told in messages, to whoever binds a queue to the
//! exchange for them.
//!
//! ```text
//!   shards: departures, summed ──▶ a message for each queue and reason ──▶ exchange leveret.events ──▶ queues
//! ```

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

use super::broker::Shared;
use super::dead_letters::address_of;
use super::histories;
use super::published::Published;
use super::session::{Address, Fate, Publication, Router, SizesMax, Target};
use super::vhost::{QueueDefinition, Vhost};
use crate::message::{MessageRun, MessageRunBuilder, encode_event_properties, encode_item};
use crate::model::{ExchangeName, FieldTable, FieldValue, QueueId, Refusal, RoutingKey, ShardId, Timestamp};
use crate::queue::Departure;
use crate::routing::RoutingTable;
use crate::shard::{Command, Departed, DepartureBoard, Segment, StoreBatch};

/// The exchange to which they are published in each virtual host that has it.
const EXCHANGE: &str = "leveret.events";
/// From one look at what there is to tell to the next: what comes meanwhile is summed.
const REST: Duration = Duration::from_millis(200);

/// Reasons, and the routing keys of the events about them.
const REASONS: [(Departure, &str, &str); 8] = [
    (Departure::Rejected, "rejected", "message.rejected"),
    (Departure::Purged, "purged", "message.purged"),
    (Departure::Moved, "moved", "message.moved"),
    (Departure::Expired, "expired", "message.expired"),
    (Departure::MaxLength, "max_length", "message.max_length"),
    (Departure::DeadLettered, "dead_lettered", "message.dead_lettered"),
    (Departure::Cycle, "cycle", "message.cycle"),
    (Departure::DeliveryLimit, "delivery_limit", "message.delivery_limit"),
];

/// Whether anybody is bound to the exchange for events.
pub(super) fn wants_events(table: &RoutingTable) -> bool {
    table.exchange(EXCHANGE).is_some_and(|exchange| exchange.bindings_count() > 0)
}

/// Publishes events as long as there are shards that tell of departures.
pub(super) async fn publish_events(
    shared: Weak<Shared>,
    board: Arc<DepartureBoard>,
    mut woken: Receiver<()>,
) {
    // Whether it was told that some could not be stored.
    let mut is_told = false;
    while woken.recv().await.is_some() {
        // Without room they wait, summed.
        while !store_events(&shared, &board, &mut is_told).await {
            let Some(rested) = rest(&shared) else { return };
            rested.await;
        }
        let Some(rested) = rest(&shared) else { return };
        rested.await;
    }
}

fn rest(shared: &Weak<Shared>) -> Option<impl Future<Output = ()> + use<>> {
    shared.upgrade().map(|shared| shared.platform.workers.sleep(REST))
}

/// Whether there was room for them. If the broker stops there is nothing more to do.
async fn store_events(shared: &Weak<Shared>, board: &DepartureBoard, is_told: &mut bool) -> bool {
    let Some(strong) = shared.upgrade() else { return true };
    if strong.gauges.memory.is_full() || strong.gauges.disk.is_short() {
        return false;
    }
    let of_vhosts = events(&strong, board).into_iter();
    let stored: Vec<_> = of_vhosts.map(|(vhost, events)| (publish(&strong, &vhost, events), vhost)).collect();
    // The broker may go while this waits for the disk.
    drop(strong);
    for (answers, vhost) in stored {
        for answer in answers {
            // A shard that stops answers nothing, and nobody is there any more to be told.
            let Ok(Err(why)) = answer.await else { continue };
            if !std::mem::replace(is_told, true) {
                tracing::warn!(vhost = %vhost.name, %why, "events could not be stored and are lost");
            }
        }
    }
    true
}

/// What is to be told in each virtual host.
fn events(shared: &Shared, board: &DepartureBoard) -> Vec<(Arc<Vhost>, Events)> {
    let noted = board.take();
    let vhosts: Vec<Arc<Vhost>> = shared.vhosts().values().cloned().collect();
    let now = (shared.platform.clock)();
    let mut all = Vec::new();
    for vhost in vhosts.into_iter().filter(|vhost| wants_events(&vhost.routing())) {
        let ids: BTreeSet<QueueId> = noted.keys().map(|(queue, _)| *queue).collect();
        let queues = vhost.queues_of_ids(&ids);
        let quiet = quiet_queues(&vhost);
        let mut events = EventsBuilder::default();
        for ((id, why), departed) in &noted {
            let Some(queue) = queues.get(id).filter(|_| !quiet.contains(id)) else { continue };
            events.add(&vhost, queue, *why, departed, now);
        }
        if !events.keys.is_empty() {
            all.push((vhost, events.finish()));
        }
    }
    all
}

/// Queues about which nothing is told: they hold events, or dead letters of such queues. An event about them would make the next one.
fn quiet_queues(vhost: &Vhost) -> BTreeSet<QueueId> {
    let keys: Vec<RoutingKey> = REASONS.iter().filter_map(|(_, _, key)| RoutingKey::new(key).ok()).collect();
    let mut quiet = BTreeSet::new();
    let Ok(exchange) = ExchangeName::new(EXCHANGE) else { return quiet };
    let mut next = reached(vhost, exchange, &keys);
    while !next.is_empty() {
        let new: BTreeSet<QueueId> = next.into_iter().filter(|queue| quiet.insert(*queue)).collect();
        next = Vec::new();
        for queue in vhost.queues_of_ids(&new).values() {
            if let Some(address) = address_of(queue.effective()).ok().flatten() {
                let of_address = address.routing_key.map(|key| vec![key]);
                next.extend(reached(vhost, address.exchange, of_address.as_ref().unwrap_or(&keys)));
            }
        }
    }
    quiet
}

/// The queues to which messages with these keys go.
fn reached(vhost: &Vhost, exchange: ExchangeName, keys: &[RoutingKey]) -> Vec<QueueId> {
    let mut builder = EventsBuilder::default();
    keys.iter().for_each(|key| builder.push(&[], key.as_str()));
    let fates = target(exchange).fates(vhost, &builder.finish(), SizesMax::NONE, &mut Router::default());
    fates.iter().flat_map(|(_, fate)| fate.queues()).collect()
}

fn target(exchange: ExchangeName) -> Target {
    let routing_key = RoutingKey::default();
    Target::new(Address { exchange, routing_key, mandatory: false, transient: false })
}

/// Gives events to the shards of their queues; each answers when it has stored them.
fn publish(
    shared: &Shared,
    vhost: &Vhost,
    events: Events,
) -> Vec<oneshot::Receiver<Result<(), Box<Refusal>>>> {
    let Ok(exchange) = ExchangeName::new(EXCHANGE) else { return Vec::new() };
    let mut target = target(exchange);
    let mut router = Router::default();
    let fates = target.fates(vhost, &events, SizesMax::NONE, &mut router);
    let (held, fates) = histories::hold(vhost, &mut target, &events, fates, (SizesMax::NONE, &mut router));
    if let Some(held) = held {
        held.keep(&shared.gauges.histories, &target.origin, &events, &fates, |_| true);
    }
    target.count(vhost, &Published::default(), &fates);
    let mut shards: Vec<(ShardId, Vec<Segment>)> = Vec::new();
    let mut first = 0;
    for (count, fate) in &fates {
        if let Fate::Routed(route) = fate {
            route.add_segments(first, first + count, &mut shards);
        }
        first += count;
    }
    let mut answers = Vec::new();
    for (shard, segments) in shards {
        let Some(handle) = shared.shard(shard) else { continue };
        let (reply, answer) = oneshot::channel();
        let (origin, run) = (Arc::clone(&target.origin), events.run.clone());
        handle.send(Command::Store(StoreBatch { origin, run, segments, reply }));
        answers.push(answer);
    }
    answers
}

/// Events, as messages.
#[derive(Debug)]
struct Events {
    run: MessageRun,
    keys: Vec<String>,
}

#[derive(Default)]
struct EventsBuilder {
    builder: MessageRunBuilder,
    keys: Vec<String>,
}

impl EventsBuilder {
    fn add(
        &mut self,
        vhost: &Vhost,
        queue: &QueueDefinition,
        why: Departure,
        departed: &Departed,
        now: Timestamp,
    ) {
        let Some((_, reason, key)) = REASONS.iter().find(|(departure, _, _)| *departure == why) else {
            return;
        };
        let number = |value: u64| FieldValue::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let text = |value: &str| FieldValue::Text(value.to_owned());
        let headers = FieldTable::from([
            ("vhost", text(vhost.name.as_str())),
            ("queue", text(queue.name.as_str())),
            ("reason", text(reason)),
            ("messages", number(departed.messages)),
            ("dead_letters", number(departed.dead_letters)),
            ("first_number", number(departed.first.0)),
            ("last_number", number(departed.last.0)),
        ]);
        self.push(&encode_event_properties(key, now, &headers), key);
    }

    fn push(&mut self, properties_encoded: &[u8], key: &str) {
        let mut item = BytesMut::new();
        encode_item(properties_encoded, &[], Some(key), false, &mut item);
        self.builder.push(&item);
        self.keys.push(key.to_owned());
    }

    fn finish(self) -> Events {
        Events { run: self.builder.finish(), keys: self.keys }
    }
}

impl Publication for Events {
    fn run(&self) -> &MessageRun {
        &self.run
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn key(&self, index: usize) -> Option<&str> {
        self.keys.get(index).map(String::as_str)
    }

    fn body_bytes_max(&self) -> usize {
        0
    }
}
