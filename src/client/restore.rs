//! Bringing a connection back to what it was: channels with their bounds, topology, publishers, consumers, in this order.
//!
//! Up to the publishers everything is asked for and answered before the driver takes over; then `resume` puts the
//! consumers and all that waits into the list of what is to be sent.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::connection::{Event, ServerOffer};
use super::consumer::ConsumerShared;
use super::convert::{kind_name, refusal_from_wire};
use super::core::Core;
use super::error::{CloseReason, ConnectError, RequestError};
use super::handshake::Link;
use super::publisher::PublisherShared;
use super::request::{Effect, OnBreak};
use super::state::{Outgoing, Stage};
use crate::model::{Refusal, ReplyCode};
use crate::wire::{self, pb};

/// Requests under way at a time: enough to fill the time a round trip takes, few enough for any socket buffer.
const PIPELINED_MAX: usize = 64;

/// Channel for declaring things when the application has none open.
const SPARE_CHANNEL: u32 = 1;

/// What there is to restore before the driver takes over.
struct Plan {
    channels: Vec<u32>,
    /// Channels with a bound for all their consumers.
    prefetches: Vec<(u32, u32)>,
    exchanges: Vec<pb::DeclareExchange>,
    queues: Vec<(String, pb::DeclareQueue)>,
    bindings: Vec<pb::Binding>,
    subscriptions: Vec<pb::Subscribe>,
    publishers: Vec<Arc<PublisherShared>>,
}

/// What came of it.
#[derive(Default)]
struct Restored {
    /// Queues that the server named anew: old name, new name.
    renamed: BTreeMap<String, String>,
    /// Queues that were asked for, by their old names, and the channel it was done on.
    declared: Vec<String>,
    channel: u32,
    /// Queues that another connection has for itself.
    locked: BTreeMap<String, Vec<Arc<ConsumerShared>>>,
    refused_publishers: Vec<(Arc<PublisherShared>, Refusal)>,
}

/// Restores over a new link what the connection had. How many messages are to be sent again.
///
/// # Errors
/// If the link breaks or the server refuses channels. Nothing has changed here then.
pub(super) async fn restore(core: &Arc<Core>, link: &mut Link) -> Result<u64, ConnectError> {
    let plan = Plan::of(core);
    let mut restored = Restored::default();
    let mut requests = Requests { core, link, patience: core.options.connect_timeout };
    let opens =
        plan.channels.iter().map(|&number| (number, pb::frame::Body::OpenChannel(pb::OpenChannel {})));
    for answer in requests.ask(opens.collect()).await? {
        answer.map_err(ConnectError::Refused)?;
    }
    let limits = plan
        .prefetches
        .iter()
        .map(|&(number, prefetch)| (number, pb::frame::Body::LimitPrefetch(pb::LimitPrefetch { prefetch })));
    for answer in requests.ask(limits.collect()).await? {
        answer.map_err(ConnectError::Refused)?;
    }
    let nothing = plan.exchanges.is_empty() && plan.queues.is_empty() && plan.bindings.is_empty();
    if !(nothing && plan.subscriptions.is_empty()) {
        requests.declare(&plan, &mut restored).await?;
    }
    let opens = plan
        .publishers
        .iter()
        .map(|publisher| (publisher.channel(), pb::frame::Body::OpenPublisher(publisher.open_request())));
    let answers = requests.ask(opens.collect()).await?;
    for (publisher, answer) in plan.publishers.into_iter().zip(answers) {
        if let Err(refusal) = answer {
            restored.refused_publishers.push((publisher, refusal));
        }
    }
    Ok(core.resume(link.offer.clone(), restored))
}

impl Plan {
    fn of(core: &Core) -> Self {
        let state = core.state();
        let entries = state.channels.iter().filter(|(_, entry)| entry.stage != Stage::Opening);
        let publishers = entries.clone().flat_map(|(_, entry)| entry.publishers.values());
        let publishers = publishers.filter(|(stage, _)| *stage != Stage::Opening);
        let consumers = entries.clone().flat_map(|(_, entry)| entry.consumers.values());
        let consumed: HashSet<String> = consumers.map(|(_, consumer)| consumer.queue()).collect();
        Self {
            prefetches: entries
                .clone()
                .filter(|(_, entry)| entry.prefetch > 0)
                .map(|(&number, entry)| (number, entry.prefetch))
                .collect(),
            channels: entries.map(|(&number, _)| number).collect(),
            exchanges: state.recorded.exchanges().cloned().collect(),
            queues: state.recorded.queues().map(|(name, queue)| (name.to_owned(), queue.clone())).collect(),
            bindings: state.recorded.bindings().cloned().collect(),
            // The others are there, or somebody has taken them away.
            subscriptions: state
                .recorded
                .subscriptions()
                .filter(|(queue, _)| consumed.contains(*queue))
                .map(|(_, subscribe)| subscribe.clone())
                .collect(),
            publishers: publishers.map(|(_, publisher)| publisher.clone()).collect(),
        }
    }
}

/// Requests over a link that no driver reads yet.
struct Requests<'a> {
    core: &'a Core,
    link: &'a mut Link,
    /// How long an answer may take.
    patience: Duration,
}

impl Requests<'_> {
    async fn declare(&mut self, plan: &Plan, restored: &mut Restored) -> Result<(), ConnectError> {
        let channel = match plan.channels.first() {
            Some(&number) => number,
            None => {
                let open = pb::frame::Body::OpenChannel(pb::OpenChannel {});
                self.ask_one(SPARE_CHANNEL, open).await?.map_err(ConnectError::Refused)?;
                SPARE_CHANNEL
            }
        };
        restored.channel = channel;
        let exchanges = plan.exchanges.iter();
        let asked = exchanges.map(|exchange| (channel, pb::frame::Body::DeclareExchange(exchange.clone())));
        let answers = self.ask(asked.collect()).await?;
        for (exchange, answer) in plan.exchanges.iter().zip(answers) {
            self.note("exchange", &exchange.name, answer);
        }
        let queues = plan.queues.iter();
        let asked = queues.map(|(_, queue)| (channel, pb::frame::Body::DeclareQueue(queue.clone())));
        let answers = self.ask(asked.collect()).await?;
        for ((old, _), answer) in plan.queues.iter().zip(answers) {
            if matches!(&answer, Err(refusal) if refusal.code == ReplyCode::ResourceLocked) {
                restored.locked.insert(old.clone(), Vec::new());
            }
            if let Some(pb::frame::Body::QueueDeclared(declared)) = self.note("queue", old, answer) {
                restored.declared.push(old.clone());
                if declared.name != *old {
                    restored.renamed.insert(old.clone(), declared.name);
                }
            }
        }
        // Those to a queue of another connection's would be refused; they come with it.
        let bindings = plan.bindings.iter().filter(|binding| !is_to_any(binding, &restored.locked));
        let bindings: Vec<_> = bindings.map(|binding| follow(binding, &restored.renamed)).collect();
        let asked = bindings
            .iter()
            .map(|binding| (channel, pb::frame::Body::Bind(pb::Bind { binding: Some(binding.clone()) })));
        let answers = self.ask(asked.collect()).await?;
        for (binding, answer) in bindings.iter().zip(answers) {
            self.note("binding", &format!("{} -> {}", binding.source, binding.destination), answer);
        }
        let subscriptions = plan.subscriptions.iter();
        let asked = subscriptions.map(|one| (channel, pb::frame::Body::Subscribe(one.clone())));
        let answers = self.ask(asked.collect()).await?;
        for (subscription, answer) in plan.subscriptions.iter().zip(answers) {
            self.note("subscription", &subscription.name, answer);
        }
        if plan.channels.is_empty() {
            let close = pb::frame::Body::CloseChannel(pb::CloseChannel {});
            self.ask_one(SPARE_CHANNEL, close).await?.map_err(ConnectError::Refused)?;
        }
        Ok(())
    }

    /// What cannot be declared again is told; whoever needs it is refused in turn.
    fn note(
        &self,
        kind: &str,
        name: &str,
        answer: Result<pb::frame::Body, Refusal>,
    ) -> Option<pb::frame::Body> {
        match answer {
            Ok(body) => Some(body),
            Err(refusal) => {
                let what = format!("{kind} '{name}'");
                self.core.announce(Event::NotRestored { what, refusal: Arc::new(refusal) });
                None
            }
        }
    }

    async fn ask_one(
        &mut self,
        channel: u32,
        body: pb::frame::Body,
    ) -> Result<Result<pb::frame::Body, Refusal>, ConnectError> {
        let answers = self.ask(vec![(channel, body)]).await?;
        answers.into_iter().next().ok_or_else(|| self.link.protocol("a request got no answer"))
    }

    /// Asks for everything, pipelined; the answers in the same order.
    async fn ask(
        &mut self,
        asked: Vec<(u32, pb::frame::Body)>,
    ) -> Result<Vec<Result<pb::frame::Body, Refusal>>, ConnectError> {
        let mut answers = Vec::with_capacity(asked.len());
        for chunk in asked.chunks(PIPELINED_MAX) {
            let mut bytes = BytesMut::new();
            for (request, (channel, body)) in (1..).zip(chunk) {
                wire::encode_frame(*channel, request, body, &mut bytes);
            }
            self.link.write(&bytes).await?;
            answers.extend(self.collect(chunk.len()).await?);
        }
        Ok(answers)
    }

    async fn collect(&mut self, count: usize) -> Result<Vec<Result<pb::frame::Body, Refusal>>, ConnectError> {
        let mut answers = BTreeMap::new();
        while answers.len() < count {
            let Ok(received) = timeout(self.patience, self.link.receive()).await else {
                return Err(self.link.protocol("a request to restore the connection got no answer in time"));
            };
            let (channel, request, body) = received?;
            let answer = match body {
                pb::frame::Body::Close(close) => {
                    let error = close.error.map(refusal_from_wire);
                    return Err(match error {
                        Some(refusal) => ConnectError::Refused(refusal),
                        None => self.link.protocol("the server closed the connection again at once"),
                    });
                }
                pb::frame::Body::Error(error) if request == 0 => {
                    let refusal = Arc::new(refusal_from_wire(error));
                    self.core.announce(Event::ChannelError { channel, refusal });
                    continue;
                }
                pb::frame::Body::Error(error) => Err(refusal_from_wire(error)),
                body => Ok(body),
            };
            let is_expected = request >= 1 && request <= count as u64;
            if !is_expected || answers.contains_key(&request) {
                let got = answer.as_ref().map_or("Error", kind_name);
                return Err(self.link.protocol(&format!("a {got} frame came that nothing asked for")));
            }
            answers.insert(request, answer);
        }
        Ok(answers.into_values().collect())
    }
}

fn is_to_any(binding: &pb::Binding, queues: &BTreeMap<String, Vec<Arc<ConsumerShared>>>) -> bool {
    binding.destination_kind() == pb::DestinationKind::Queue && queues.contains_key(&binding.destination)
}

fn follow(binding: &pb::Binding, renamed: &BTreeMap<String, String>) -> pb::Binding {
    let mut binding = binding.clone();
    if binding.destination_kind() == pb::DestinationKind::Queue
        && let Some(new) = renamed.get(&binding.destination)
    {
        binding.destination = new.clone();
    }
    binding
}

impl Core {
    /// The connection broke. Requests that were sent are failed, repeated or done, each after its kind; deliveries of the
    /// old connection can no longer be settled.
    pub(super) fn suspend(&self, reason: &CloseReason) {
        let mut state = self.state();
        state.is_suspended = true;
        state.blocked = None;
        state.refused.clear();
        for entry in state.channels.values() {
            entry.getter.suspend();
            for (_, consumer) in entry.consumers.values() {
                consumer.suspend();
            }
        }
        let kept: Vec<_> = mem::take(&mut state.outgoing)
            .into_iter()
            .filter(|entry| match entry {
                Outgoing::Frame { request, .. } => *request != 0,
                Outgoing::FrameAfter { .. } | Outgoing::Flush { .. } => true,
                Outgoing::Publisher(_) | Outgoing::Settler(_) | Outgoing::Credit { .. } => false,
            })
            .collect();
        let unsent: HashSet<u64> = kept
            .iter()
            .filter_map(|entry| match entry {
                Outgoing::Frame { request, .. } | Outgoing::FrameAfter { request, .. } => Some(*request),
                _ => None,
            })
            .collect();
        let repeated = state.settle_pending(&unsent, reason);
        // What was cancelled before it was sent is not under way any more.
        let is_wanted = |entry: &Outgoing| match entry {
            Outgoing::Frame { request, .. } | Outgoing::FrameAfter { request, .. } => {
                state.pending.contains_key(request)
            }
            _ => true,
        };
        let kept: Vec<_> = kept.into_iter().filter(is_wanted).collect();
        state.outgoing = repeated.into_iter().chain(kept).collect();
    }

    /// The connection is back: the driver can go on with what this puts before it. How many messages are sent again.
    fn resume(&self, offer: ServerOffer, restored: Restored) -> u64 {
        let Restored { renamed, declared, channel, mut locked, refused_publishers } = restored;
        let mut state = self.state();
        state.is_suspended = false;
        state.epoch += 1;
        state.offer = Arc::new(offer);
        for (publisher, refusal) in refused_publishers {
            let what = format!("publisher for exchange '{}'", publisher.exchange()).into();
            publisher.close(CloseReason::RestoreRefused { what, refusal: Arc::new(refusal) });
            state.drop_publisher(&publisher);
        }
        // Their last consumers ended while they were restored.
        let unwanted = declared.iter().filter(|name| state.recorded.queue(name).is_none());
        let unwanted: Vec<_> = unwanted.map(|name| renamed.get(name).unwrap_or(name).clone()).collect();
        for (old, new) in &renamed {
            state.recorded.rename_queue(old, new);
        }
        let epoch = state.epoch;
        let sizes = state.offer.size_limits();
        let waiting = mem::take(&mut state.outgoing);
        let (mut consumers, mut publishers) = (Vec::new(), Vec::new());
        for entry in state.channels.values() {
            entry.getter.resume(epoch);
            for (stage, consumer) in entry.consumers.values() {
                consumer.settler().resume(epoch);
                if *stage == Stage::Open {
                    let ready = locked.get_mut(&consumer.queue()).unwrap_or(&mut consumers);
                    ready.push(consumer.clone());
                }
            }
            publishers.extend(entry.publishers.values().map(|(_, publisher)| publisher.clone()));
        }
        for queue in unwanted {
            state.abandon_queue(channel, &queue);
        }
        if !locked.is_empty() {
            self.note_mending();
        }
        state.locked = locked;
        for consumer in consumers {
            let body = pb::frame::Body::Consume(consumer.request(Some(&renamed)));
            let effect = Effect::ConsumerRestored(consumer.clone());
            let asked = state.request(consumer.channel(), &body, OnBreak::Done, effect, Vec::new());
            if let Err(error) = asked {
                state.not_restored(&consumer, &error);
            }
        }
        let mut resent_messages = 0;
        for publisher in publishers {
            let (resent, has_more) = publisher.rewind(sizes);
            resent_messages += resent;
            if has_more {
                state.outgoing.push_back(Outgoing::Publisher(publisher));
            }
        }
        state.outgoing.extend(waiting);
        drop(state);
        for (old, new) in renamed {
            self.announce(Event::QueueRenamed { old, new });
        }
        resent_messages
    }

    /// An answer of a kind that this version does not know.
    pub(super) fn answer_unknown(&self, request: u64) {
        let pending = self.state().pending.remove(&request);
        if let Some(pending) = pending {
            pending.fail(RequestError::UnexpectedAnswer { got: "a frame that this client does not know" });
        }
    }
}
