//! Histories of exchanges: what comes is kept, and what is bound later is given it.
//!
//! A message is kept and routed by one version of the routing table, and the catalog hands a history over in the moment in which it
//! shows the binding: so what is bound gets each message once, the kept ones first.

use std::future::poll_fn;
use std::sync::{Arc, RwLockReadGuard};

use super::broker::Shared;
use super::session::{Fate, Publication, Route, Router, SizesMax, Target, hashed_properties_of};
use super::vhost::Vhost;
use crate::message::{Delay, Expiration, MessageRun, MessageRunBuilder, headers_of};
use crate::model::{BCC, Entity, FieldTable, Refusal, ShardId, VhostName, further_keys};
use crate::routing::{
    Binding, Destination, HashedProperties, HistoryRoom, Kept, Keys, MessageHeaders, Routed, RoutingTable,
    is_not_kept,
};
use crate::shard::{Command, Event, Mailbox, Origin, Outlet, PublishBatch, Segment};

/// Holds what is bound as it is, if any of these messages are to be kept. If it has changed since their fates were found, they are found
/// anew.
pub(super) fn hold<'v>(
    vhost: &'v Vhost,
    target: &mut Target,
    publication: &impl Publication,
    fates: Vec<(u32, Fate)>,
    (sizes_max, router): (SizesMax, &mut Router),
) -> (Option<Held<'v>>, Vec<(u32, Fate)>) {
    if fates.iter().all(|(_, fate)| fate.histories().is_empty()) {
        return (None, fates);
    }
    let held = Held(vhost.hold_histories());
    let fates = match target.is_outdated(vhost) {
        true => target.fates(vhost, publication, sizes_max, router),
        false => fates,
    };
    (Some(held), fates)
}

/// Nothing is bound that is given a history.
pub(super) struct Held<'v>(
    #[allow(dead_code, reason = "it holds as long as it is there")] RwLockReadGuard<'v, ()>,
);

impl Held<'_> {
    /// Keeps those messages that exchanges on their way keep, if they go; before they are handed to shards.
    pub(super) fn keep(
        self,
        room: &Arc<HistoryRoom>,
        origin: &Origin,
        publication: &impl Publication,
        fates: &[(u32, Fate)],
        goes: impl Fn(&Fate) -> bool,
    ) {
        let mut first = 0;
        for (count, fate) in fates {
            let places = first..first + *count as usize;
            first = places.end;
            if fate.histories().is_empty() || !goes(fate) {
                continue;
            }
            for index in places {
                // What is in a run was checked when its frame was decoded.
                let headers = publication.headers(index).ok().flatten();
                if headers.is_some_and(|headers| is_not_kept(&headers)) {
                    continue;
                }
                let kept = Arc::new(kept(publication, index, origin));
                fate.histories().iter().for_each(|history| history.push(Arc::clone(&kept), room));
            }
        }
    }
}

fn kept(publication: &impl Publication, index: usize, origin: &Origin) -> Kept {
    let place = index as u32;
    let expirations = publication.expirations();
    let expiration = expirations.binary_search_by_key(&place, |expiration| expiration.index).ok();
    let delays = publication.delays();
    let delay = delays.binary_search_by_key(&place, |delay| delay.index).ok().map(|found| delays[found]);
    Kept {
        exchange: origin.exchange.clone(),
        routing_key: origin.routing_key.clone(),
        own_key: publication.key(index).map(Box::from),
        // A copy, so that it does not hold the frame that it came in.
        item: bytes::Bytes::copy_from_slice(publication.run().item(index)),
        expiration_ms: expiration.map(|found| expirations[found].after_millis),
        delay_ms: delay.and_then(|delay| delay.after_millis),
        deliver_at_ms: delay.and_then(|delay| delay.at_millis),
    }
}

/// A history on its way to what was bound.
#[derive(Debug)]
pub(super) struct HandedHistory {
    pub(super) vhost: VhostName,
    pub(super) binding: Binding,
    messages: usize,
    /// Where shards answer.
    outlet: Outlet,
    /// How many answers are to come.
    awaited: usize,
    /// Nothing was handed to shards, for this reason.
    refusal: Option<Box<Refusal>>,
}

/// Hands what the source of a new binding keeps to what it leads to; `None`: there is nothing. Histories have to be closed, and the
/// binding shown.
pub(super) fn hand_over(shared: &Shared, vhost: &Vhost, binding: &Binding) -> Option<HandedHistory> {
    let table = vhost.routing();
    let messages = table.exchange(&binding.source)?.history()?.messages();
    if messages.is_empty() {
        return None;
    }
    let mut handed = HandedHistory {
        vhost: vhost.name.clone(),
        binding: binding.clone(),
        messages: messages.len(),
        outlet: Arc::new(Mailbox::default()),
        awaited: 0,
        refusal: vhost.full(),
    };
    if handed.refusal.is_some() {
        return Some(handed);
    }
    for same in messages
        .chunk_by(|one, other| (&one.exchange, &one.routing_key) == (&other.exchange, &other.routing_key))
    {
        let parcel = Parcel::of(same, &table, &binding.destination, &shared.gauges.histories);
        for (shard, segments) in parcel.shards {
            let Some(handle) = shared.shard(shard) else { continue };
            handed.awaited += 1;
            handle.send(Command::Publish(PublishBatch {
                origin: Arc::clone(&parcel.origin),
                run: parcel.run.clone(),
                segments,
                expirations: parcel.expirations.clone(),
                delays: parcel.delays.clone(),
                ticket: 0,
                // The story of a message is its own; that of its copy is none of it.
                tracked: None,
                outlet: Arc::clone(&handed.outlet),
                wait_durable: true,
                wake_when_taken: false,
            }));
        }
    }
    Some(handed)
}

/// Neighbouring messages of a history that were published alike, and where they go.
struct Parcel {
    origin: Arc<Origin>,
    run: MessageRun,
    expirations: Vec<Expiration>,
    delays: Vec<Delay>,
    shards: Vec<(ShardId, Vec<Segment>)>,
}

impl Parcel {
    fn of(same: &[Arc<Kept>], table: &RoutingTable, to: &Destination, room: &Arc<HistoryRoom>) -> Self {
        let mut run = MessageRunBuilder::default();
        let (mut expirations, mut delays, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        let mut routed = Routed::default();
        for (index, kept) in (0_u32..).zip(same) {
            run.push(&kept.item);
            let expiration = kept.expiration_ms.map(|after_millis| Expiration { index, after_millis });
            expirations.extend(expiration);
            let (after_millis, at_millis) = (kept.delay_ms, kept.deliver_at_ms);
            if after_millis.is_some() || at_millis.is_some() {
                delays.push(Delay { index, after_millis, at_millis });
            }
            let route = route(kept, table, to, &mut routed);
            route.add_segments(index, index + 1, &mut shards);
            // An exchange that is bound may keep a history of its own.
            route.histories.iter().for_each(|history| history.push(Arc::clone(kept), room));
        }
        let Kept { exchange, routing_key, .. } = &*same[0];
        let origin = Origin { exchange: exchange.clone(), routing_key: routing_key.clone() };
        Self { origin: Arc::new(origin), run: run.finish(), expirations, delays, shards }
    }
}

/// Where a kept message goes by a new binding. What its headers say is heeded as it was when it was published.
fn route(kept: &Kept, table: &RoutingTable, to: &Destination, routed: &mut Routed) -> Route {
    let exchange = match to {
        Destination::Queue(name) => {
            return table.queue(name).map_or_else(Route::default, Route::to_queue);
        }
        Destination::Exchange(name) => name,
    };
    // They were read when it was published.
    let mut headers = headers_of(&kept.item).ok().flatten();
    let further = headers.as_ref().and_then(|headers| further_keys(headers).ok()).unwrap_or_default();
    if let Some(headers) = &mut headers {
        headers.0.remove(BCC);
    }
    let keys = Keys { first: kept.key(), further: &further };
    let mut headers = OfKept { kept, headers };
    match table.route_on(exchange, keys, &mut headers, routed) {
        Ok(()) => Route::of(routed),
        // The binding was made in the same table, and headers that could be routed by once can be again.
        Err(_) => Route::default(),
    }
}

/// The headers and properties of a kept message.
struct OfKept<'a> {
    kept: &'a Kept,
    headers: Option<FieldTable>,
}

impl MessageHeaders for OfKept<'_> {
    fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>> {
        Ok(self.headers.as_ref())
    }

    fn properties(&mut self) -> Result<HashedProperties, Box<Refusal>> {
        hashed_properties_of(&self.kept.item)
    }
}

/// Waits until all of it is where it was to go.
///
/// # Errors
/// Some of it is not: the bindings stand.
pub(super) async fn all_arrived(handed: Vec<HandedHistory>) -> Result<(), Refusal> {
    let mut failed = None;
    for one in handed {
        if let Err(refusal) = one.arrived().await {
            failed.get_or_insert(refusal);
        }
    }
    failed.map_or(Ok(()), Err)
}

impl HandedHistory {
    async fn arrived(mut self) -> Result<(), Refusal> {
        let mut events = Vec::new();
        let (mut refused, mut failure) = (Vec::new(), self.refusal.take());
        let mut unanswered = self.awaited;
        while unanswered > 0 {
            poll_fn(|context| self.outlet.poll_take(context, &mut events)).await;
            for event in events.drain(..) {
                match event {
                    Event::Published { excess, .. } => {
                        unanswered -= 1;
                        refused.extend(excess);
                    }
                    Event::PublishFailed { refusal, .. } => {
                        unanswered -= 1;
                        failure.get_or_insert(refusal);
                    }
                    _ => {}
                }
            }
        }
        match (failure, refused.first()) {
            (Some(refusal), _) => Err(self.refusal_of(self.messages, *refusal)),
            (None, Some(first)) => {
                let of_first = refused.iter().filter(|excess| excess.queue == first.queue);
                let messages = of_first.map(|excess| excess.messages.len()).sum();
                let name = match &self.binding.destination {
                    Destination::Queue(name) => name.as_str(),
                    // One of those that the exchange leads to.
                    Destination::Exchange(_) => "",
                };
                Err(self.refusal_of(messages, first.refusal(name)))
            }
            (None, None) => Ok(()),
        }
    }

    fn refusal_of(&self, messages: usize, why: Refusal) -> Refusal {
        let Binding { source, destination, .. } = &self.binding;
        let (what, name) = match destination {
            Destination::Queue(name) => ("queue", name.as_str()),
            Destination::Exchange(name) => ("exchange", name.as_str()),
        };
        let text = format!(
            "{what} '{name}' is bound to exchange '{source}', and {messages} of the {} messages that it keeps did not arrive: {}",
            self.messages, why.text
        );
        Refusal { text, retryable: false, ..why }
            .about(Entity::Exchange, source.as_str())
            .hint("unbind it and bind it again when there is room: then it is given what the exchange keeps at that time")
    }
}

/// Tells the log of histories that did not arrive, of which nobody else hears.
pub(super) fn watch(handed: Vec<HandedHistory>) {
    for one in handed {
        tokio::spawn(async move {
            let (vhost, exchange) = (one.vhost.clone(), one.binding.source.clone());
            if let Err(why) = one.arrived().await {
                tracing::warn!(%vhost, %exchange, %why, "what an exchange keeps did not reach what was bound to it");
            }
        });
    }
}
