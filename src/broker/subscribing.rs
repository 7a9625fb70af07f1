//! Subscriptions as front ends ask for them and list them, and the look for those that nobody came for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::broker::{Broker, ConnectionDescription, DECLARE_ATTEMPTS_MAX, Shared, declared};
use super::catalog::{Answer, CatalogCommand, DeclaredQueue, Request, SubscriptionDeclaration};
use super::histories::all_arrived;
use super::inspect::{Page, bad_token, tag_of};
use super::login::Identity;
use super::subscription::{SEPARATOR, Subscription};
use super::subscription_filter::SubscriptionFilter;
use super::vhost::{QueueDefinition, Vhost};
use crate::model::{Entity, MemberName, QueueId, Refusal, ReplyCode, Timestamp};
use crate::shard::{ConsumerKey, ConsumerState, Oldest, QueueCounts, QueueState, out_of_service};

/// From one look for subscriptions that nobody came for to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Queues looked at before whoever changes the vhost may go on.
const EXPIRING_PAGE: usize = 1_000;
/// Queues that are looked at for a part of a filtered list.
const EXAMINED_MAX: usize = 1_000;
/// Consumers that are named of each queue.
const SUBSCRIBERS_LISTED_MAX: usize = 100;

/// A subscription and one of its queues, with its numbers.
#[derive(Debug, Clone)]
pub struct SubscriptionListing {
    /// What it is.
    pub subscription: Arc<Subscription>,
    /// Whose queue; empty if it is shared, or if there is none.
    pub member: MemberName,
    /// The queue; `None`: nobody has joined.
    pub queue: Option<Arc<QueueDefinition>>,
    /// Its numbers.
    pub counts: QueueCounts,
    /// When its oldest messages came.
    pub oldest: Oldest,
    /// Why it hands out nothing, if that is so.
    pub fault: Option<Arc<str>>,
    /// Who consumes from it, 100 at most; how many in all is among the numbers.
    pub subscribers: Vec<SubscriberListing>,
    /// Since when nobody does; `None`: somebody does.
    pub dark_since: Option<Timestamp>,
}

/// A consumer of a subscription's queue.
#[derive(Debug, Clone)]
pub struct SubscriberListing {
    /// Where it lives.
    pub key: ConsumerKey,
    /// Its name.
    pub tag: Arc<str>,
    /// Messages that it has not settled.
    pub unsettled: u64,
    /// Its connection, if whoever asks may see it.
    pub connection: Option<Arc<ConnectionDescription>>,
}

impl Broker {
    /// Makes a subscription or changes the one that is there; answers with the queue to consume from, if somebody joins. What comes from
    /// exchanges that keep a history has that then.
    pub async fn subscribe(
        &self,
        who: &Identity,
        declaration: SubscriptionDeclaration,
    ) -> Result<Option<DeclaredQueue>, Refusal> {
        for _ in 0..DECLARE_ATTEMPTS_MAX {
            self.check_subscribing(who, &declaration)?;
            let (vhost, declaration) = (who.vhost_name(), declaration.clone());
            let name = match self.ask(Request::Subscribe { vhost, declaration }).await? {
                Answer::Queue(name) => name,
                Answer::Subscribed(name, handed) => {
                    all_arrived(handed).await?;
                    name
                }
                other => unreachable!("the catalog answers a subscription with the queue, not {other:?}"),
            };
            if name.is_empty() {
                return Ok(None);
            }
            // It may have gone again: nobody had come for it for too long.
            let Ok(queue) = self.queue(who, &name) else { continue };
            self.shared.presence.expect(queue.id);
            match self.inspect(&queue).await {
                Some(state) if !state.is_going => return Ok(Some(declared(&queue, &state.counts))),
                None if self.shared.fault(queue.shard).is_some() => return Err(out_of_service(queue.shard)),
                _ => {}
            }
        }
        let text = format!("subscription '{}' is deleted each time that it is there", declaration.name);
        Err(Refusal::new(ReplyCode::ResourceError, text)
            .about(Entity::Subscription, declaration.name.as_str())
            .hint("look who unsubscribes it")
            .retryable())
    }

    /// Deletes a subscription with its queues, or one member (not "") with its queue; answers with the number of ready
    /// messages that went with them.
    pub async fn unsubscribe(&self, who: &Identity, name: String, member: String) -> Result<u64, Refusal> {
        self.check_unsubscribing(who, &name, &member)?;
        let request = Request::Unsubscribe { vhost: who.vhost_name(), name, member };
        Ok(self.ask(request).await?.message_count().await)
    }

    /// Subscriptions with their queues, by name and then by member. A page that is filtered may have few entries, or none, and others
    /// follow.
    ///
    /// # Errors
    /// 502 for a token that this call did not give.
    pub async fn list_subscriptions(
        &self,
        who: &Identity,
        name: &str,
        filter: &SubscriptionFilter,
        token: &str,
        size: usize,
    ) -> Result<Page<SubscriptionListing>, Refusal> {
        let after = match token {
            "" => None,
            token => Some(token.split_once(SEPARATOR).ok_or_else(|| bad_token(token))?),
        };
        let examined_max = if filter.is_all() { size } else { EXAMINED_MAX };
        let mut found = queues_after(&who.vhost, name, after, examined_max + 1);
        let more = found.len() > examined_max;
        found.truncate(examined_max);
        let mut next = found.last().filter(|_| more).map(token_of);
        if !filter.is_all() {
            let table = who.vhost.routing();
            let sieve = filter.sieve(&table, (self.shared.platform.clock)());
            found.retain(|(subscription, member, queue)| {
                let dark_since =
                    || queue.as_ref().and_then(|queue| self.shared.presence.dark_since(queue.id));
                sieve.lets_through(subscription, member, queue.as_deref(), dark_since)
            });
        }
        if found.len() > size {
            found.truncate(size);
            next = found.last().map(token_of);
        }
        let queues: Vec<_> = found.iter().filter_map(|(_, _, queue)| queue.clone()).collect();
        let mut states = self.states(&queues).await;
        let sees_all = self.is_administrator(who);
        let entries = found
            .into_iter()
            .map(|(subscription, member, queue)| {
                let state = queue.as_ref().and_then(|queue| states.remove(&queue.id));
                let of_shard = queue.as_ref().and_then(|queue| self.shared.fault(queue.shard));
                let counts = state.as_ref().map(|state| state.counts).unwrap_or_default();
                let oldest = state.as_ref().map(|state| state.oldest).unwrap_or_default();
                let of_queue = state.as_ref().and_then(|state| state.fault.clone());
                SubscriptionListing {
                    member,
                    counts,
                    oldest,
                    fault: of_shard.or(of_queue),
                    subscribers: state
                        .map(|state| self.subscribers(who, sees_all, state))
                        .unwrap_or_default(),
                    dark_since: queue.as_ref().and_then(|queue| self.shared.presence.dark_since(queue.id)),
                    subscription,
                    queue,
                }
            })
            .collect();
        Ok(Page { entries, next })
    }

    fn subscribers(&self, who: &Identity, sees_all: bool, state: QueueState) -> Vec<SubscriberListing> {
        let mut consumers = state.consumers;
        consumers.sort_unstable_by_key(|ConsumerState { key, .. }| (key.connection, key.channel, key.handle));
        consumers.truncate(SUBSCRIBERS_LISTED_MAX);
        let (known, connections) = (self.shared.consumers(), self.shared.connections());
        let subscriber = |ConsumerState { key, unsettled, .. }: ConsumerState| SubscriberListing {
            key,
            tag: tag_of(known.get(&key)),
            unsettled,
            connection: connections
                .get(&key.connection)
                .filter(|connection| sees_all || connection.user == who.user.name)
                .cloned(),
        };
        consumers.into_iter().map(subscriber).collect()
    }
}

type Found = (Arc<Subscription>, MemberName, Option<Arc<QueueDefinition>>);

/// What the page after this one begins behind.
fn token_of((subscription, member, _): &Found) -> String {
    format!("{}{SEPARATOR}{member}", subscription.name)
}

/// What follows a subscription and a member, of all or of the one with this name.
fn queues_after(vhost: &Vhost, name: &str, after: Option<(&str, &str)>, count: usize) -> Vec<Found> {
    let mut found = Vec::new();
    let first = after.map_or("", |(subscription, _)| subscription);
    let subscriptions = match name {
        // The first one may have nothing more to show.
        "" => vhost.subscriptions_from(first, count + 1),
        name => vhost.subscription(name).into_iter().collect(),
    };
    for subscription in subscriptions {
        let is_later = |member: &str| after.is_none_or(|after| (&*subscription.name, member) > after);
        if subscription.members.is_empty() && is_later("") {
            found.push((Arc::clone(&subscription), MemberName::default(), None));
        }
        let members = subscription.members.iter().filter(|(member, _)| is_later(member));
        let rest = count.saturating_sub(found.len());
        found.extend(
            members
                .take(rest)
                .map(|(member, queue)| (Arc::clone(&subscription), member.clone(), Some(Arc::clone(queue)))),
        );
    }
    found.truncate(count);
    found
}

/// Looks from time to time for queues of subscriptions that nobody came for in time, as long as the broker is there. The
/// clock only proposes: what becomes of it the catalog decides.
///
/// Who is dark since when it has recorded, in one entry for all of whom that changed; `recorded` is what the catalog had of it at the start.
pub(super) async fn watch_subscriptions(shared: Weak<Shared>, mut recorded: BTreeMap<QueueId, Timestamp>) {
    loop {
        let Some(workers) = shared.upgrade().map(|shared| Arc::clone(&shared.platform.workers)) else {
            return;
        };
        workers.sleep(LOOK).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut there = BTreeSet::new();
        let vhosts: Vec<Arc<Vhost>> = shared.vhosts().values().cloned().collect();
        for vhost in vhosts {
            for subscription in vhost.subscriptions_from("", usize::MAX) {
                there.extend(subscription.members.values().map(|queue| queue.id));
                for queue in expired(&shared, &subscription) {
                    let request = Request::Expire { queue };
                    if shared.catalog.push(CatalogCommand { request, reply: None }).is_err() {
                        return;
                    }
                }
            }
        }
        let expiring = expiring(&shared);
        for (queue, after_ms) in &expiring {
            if shared.presence.is_expired(*queue, *after_ms) {
                let request = Request::Expire { queue: *queue };
                if shared.catalog.push(CatalogCommand { request, reply: None }).is_err() {
                    return;
                }
            }
        }
        shared.presence.retain(|queue| there.contains(&queue) || expiring.contains_key(&queue));
        recorded.retain(|queue, _| there.contains(queue));
        // Nothing that can wait is written to a disk without room.
        if shared.directory.is_none() || shared.gauges.disk.is_short() {
            continue;
        }
        let change = shared.presence.change(&there, &recorded);
        if change.is_empty() {
            continue;
        }
        let (reply, answer) = oneshot::channel();
        let request = Request::NotePresence(change.clone());
        if shared.catalog.push(CatalogCommand { request, reply: Some(reply) }).is_err() {
            return;
        }
        // The broker may go while this waits for the disk.
        drop(shared);
        if let Ok(Ok(_)) = answer.await {
            change.apply_to(&mut recorded);
        }
    }
}

/// Queues that go without a consumer, and after how many milliseconds.
fn expiring(shared: &Shared) -> HashMap<QueueId, u64> {
    let vhosts: Vec<Arc<Vhost>> = shared.vhosts().values().cloned().collect();
    let mut expiring = HashMap::new();
    for vhost in vhosts {
        let mut after = String::new();
        loop {
            let page = vhost.queues_after(&after, EXPIRING_PAGE);
            expiring.extend(page.iter().filter_map(|queue| Some((queue.id, queue.expires_after_ms()?))));
            match page.last() {
                Some(last) => after = last.name.to_string(),
                None => break,
            }
        }
    }
    expiring
}

fn expired(shared: &Shared, subscription: &Subscription) -> Vec<QueueId> {
    let after_ms = subscription.expires_after_ms;
    let queues = subscription.members.values().map(|queue| queue.id);
    queues.filter(|queue| shared.presence.is_expired(*queue, after_ms)).collect()
}
