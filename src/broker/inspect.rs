//! Lists for people and programs: a page at a time, in order of name or number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::broker::{Broker, ConnectionDescription, KnownConsumer};
use super::login::Identity;
use super::policy::ExchangePolicy;
use super::vhost::QueueDefinition;
use crate::auth::{User, VhostLimits, may_open};
use crate::model::{ConnectionId, QueueId, QueueName, Refusal, ReplyCode, ShardId, VhostName};
use crate::routing::{Binding, BindingPosition, ExchangeDefinition, HistoryCounts, SchemaKind};
use crate::shard::{Command, ConsumerKey, ConsumerLimits, Oldest, QueueCounts, QueueState};

/// Queues whose consumers are asked for at a time.
const QUEUES_AT_ONCE: usize = 256;

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Token for the next page; `None`: this was the last.
    pub next: Option<String>,
}

/// An exchange with its numbers.
#[derive(Debug, Clone)]
pub struct ExchangeListing {
    /// As it was declared.
    pub definition: Arc<ExchangeDefinition>,
    /// Number of bindings with it as their source.
    pub bindings: usize,
    /// Messages refused for their keys since it was declared or the broker was started.
    pub refused: u64,
    /// Messages refused since then that did not fit their schemas.
    pub unfit: u64,
    /// The same by schema, in order: its pattern, its kind, and how many did not fit it.
    pub schemas: Vec<(String, SchemaKind, u64)>,
    /// Messages refused since then of which its quarantine queue, which does not exist, has no copy.
    pub unkept: u64,
    /// Messages that were published to it and taken, since it was declared or the broker was started.
    pub published: u64,
    /// The policies that hold for it, and where messages go that no binding matches, whoever says it.
    pub policy: ExchangePolicy,
    /// What it keeps for what is bound later; zeros if it keeps nothing.
    pub history: HistoryCounts,
}

/// A queue with its numbers.
#[derive(Debug, Clone)]
pub struct QueueListing {
    /// As it was declared.
    pub definition: Arc<QueueDefinition>,
    /// Its numbers; zeros if its shard could not be started.
    pub counts: QueueCounts,
    /// When its oldest messages came.
    pub oldest: Oldest,
    /// Why its shard does not work, or why it hands out nothing, if that is so.
    pub fault: Option<Arc<str>>,
}

/// A consumer with its numbers.
#[derive(Debug, Clone)]
pub struct ConsumerListing {
    /// The queue it consumes.
    pub queue: QueueName,
    /// Its name.
    pub tag: Arc<str>,
    /// Where it lives.
    pub key: ConsumerKey,
    /// Its limits.
    pub limits: ConsumerLimits,
    /// Messages that it has not settled.
    pub unsettled: u64,
    /// Messages that went to it.
    pub delivered: u64,
    /// Of a queue with a single active consumer: whether it is this one.
    pub active: Option<bool>,
}

/// A vhost, for lists.
#[derive(Debug, Clone)]
pub struct VhostListing {
    /// Its name.
    pub name: VhostName,
    /// Queues in it.
    pub queues: usize,
    /// Exchanges in it.
    pub exchanges: usize,
    /// How much it may have.
    pub limits: VhostLimits,
    /// The queue that keeps what its exchanges refuse and that name none of their own.
    pub quarantine_queue: Option<QueueName>,
    /// Messages refused, since that was said or the broker was started, of which it, which does not exist, has no copy.
    pub unkept: u64,
    /// Replies that were dropped, since their requesters did not read or gave no credit.
    pub replies_dropped: u64,
}

impl Broker {
    /// Exchanges.
    pub fn list_exchanges(
        &self,
        who: &Identity,
        name: &str,
        token: &str,
        size: usize,
    ) -> Page<ExchangeListing> {
        let (table, policies) = (who.vhost.routing(), who.vhost.policies());
        let entry = |entry: &crate::routing::ExchangeEntry| ExchangeListing {
            definition: Arc::clone(entry.definition()),
            bindings: entry.bindings_count(),
            refused: entry.allowed_keys().map_or(0, |allowed| allowed.refused()),
            unfit: entry.schemas().map_or(0, |schemas| schemas.refused()),
            schemas: entry
                .schemas()
                .into_iter()
                .flat_map(|schemas| schemas.rules())
                .map(|rule| (rule.pattern().to_owned(), rule.kind(), rule.refused()))
                .collect(),
            unkept: entry.quarantine().map_or(0, |quarantine| quarantine.homeless()),
            published: entry.published().load(Ordering::Relaxed),
            history: entry.history().map(|history| history.counts()).unwrap_or_default(),
            policy: ExchangePolicy {
                alternate: entry.alternate_exchange().cloned(),
                ..policies.of_exchange(&entry.definition().name)
            },
        };
        if !name.is_empty() {
            return Page { entries: table.exchange(name).map(entry).into_iter().collect(), next: None };
        }
        // The default exchange has the empty name, so "after nothing" and "after it" need two tokens.
        let after = token.strip_prefix('>');
        let entries: Vec<_> = table.exchanges(after).take(size + 1).map(entry).collect();
        page(entries, size, |listing| format!(">{}", listing.definition.name))
    }

    /// Queues and their numbers.
    pub async fn list_queues(
        &self,
        who: &Identity,
        name: &str,
        token: &str,
        size: usize,
    ) -> Page<QueueListing> {
        let definitions = match name.is_empty() {
            true => who.vhost.queues_after(token, size + 1),
            false => who.vhost.queue(name).into_iter().collect(),
        };
        let mut states = self.states(&definitions).await;
        let entries = definitions
            .into_iter()
            .map(|definition| {
                let state = states.remove(&definition.id);
                let counts = state.as_ref().map(|state| state.counts).unwrap_or_default();
                let oldest = state.as_ref().map(|state| state.oldest).unwrap_or_default();
                let of_queue = || state.and_then(|state| state.fault);
                let fault = self.shared.fault(definition.shard).or_else(of_queue);
                QueueListing { definition, counts, oldest, fault }
            })
            .collect();
        page(entries, size, |queue: &QueueListing| queue.definition.name.to_string())
    }

    /// Bindings in order.
    ///
    /// # Errors
    /// 502 for a token that this call did not give.
    pub fn list_bindings(
        &self,
        who: &Identity,
        token: &str,
        size: usize,
    ) -> Result<Page<Arc<Binding>>, Refusal> {
        let after = match token {
            "" => None,
            token => Some(token.parse::<BindingPosition>().map_err(|_| bad_token(token))?),
        };
        let entries = who.vhost.routing().bindings(after.as_ref()).take(size + 1).cloned().collect();
        Ok(page(entries, size, |binding: &Arc<Binding>| binding.position().to_string()))
    }

    /// Consumers, by queue and then by connection, channel and number.
    ///
    /// # Errors
    /// 502 for a token that this call did not give.
    pub async fn list_consumers(
        &self,
        who: &Identity,
        token: &str,
        size: usize,
    ) -> Result<Page<ConsumerListing>, Refusal> {
        let (first, after) = match token {
            "" => ("", (0, 0, 0)),
            token => consumer_place(token).ok_or_else(|| bad_token(token))?,
        };
        let mut entries = Vec::new();
        let mut definitions: Vec<_> = who.vhost.queue(first).into_iter().collect();
        definitions.extend(who.vhost.queues_after(first, QUEUES_AT_ONCE));
        while let Some(last) = definitions.last().map(|queue| queue.name.clone()) {
            let mut states = self.states(&definitions).await;
            for definition in &definitions {
                let Some(mut state) = states.remove(&definition.id) else { continue };
                state.consumers.retain(|consumer| *definition.name != *first || place(&consumer.key) > after);
                state.consumers.sort_unstable_by_key(|consumer| place(&consumer.key));
                let known = self.shared.consumers();
                entries.extend(state.consumers.into_iter().map(|consumer| ConsumerListing {
                    queue: definition.name.clone(),
                    tag: tag_of(known.get(&consumer.key)),
                    key: consumer.key,
                    limits: consumer.limits,
                    unsettled: consumer.unsettled,
                    delivered: consumer.delivered,
                    active: consumer.active,
                }));
            }
            if entries.len() > size {
                break;
            }
            definitions = who.vhost.queues_after(&last, QUEUES_AT_ONCE);
        }
        Ok(page(entries, size, |consumer: &ConsumerListing| {
            let (connection, channel, handle) = place(&consumer.key);
            format!("{connection}.{channel}.{handle}>{}", consumer.queue)
        }))
    }

    /// Connections: all of them for administrators, their own for others.
    ///
    /// # Errors
    /// 502 for a token that this call did not give.
    pub fn list_connections(
        &self,
        who: &Identity,
        token: &str,
        size: usize,
    ) -> Result<Page<Arc<ConnectionDescription>>, Refusal> {
        let after = match token {
            "" => ConnectionId(0),
            token => ConnectionId(token.parse().map_err(|_| bad_token(token))?),
        };
        let sees_all = self.is_administrator(who);
        let connections = self.shared.connections();
        let visible = |connection: &Arc<ConnectionDescription>| sees_all || connection.user == who.user.name;
        let later = connections.range(ConnectionId(after.0 + 1)..).map(|(_, connection)| connection);
        let entries = later.filter(|connection| visible(connection)).take(size + 1).cloned().collect();
        Ok(page(entries, size, |connection: &Arc<ConnectionDescription>| connection.id.to_string()))
    }

    /// Users. Administrators only.
    pub fn list_users(
        &self,
        who: &Identity,
        name: &str,
        token: &str,
        size: usize,
    ) -> Result<Page<Arc<User>>, Refusal> {
        self.check_administrator(who)?;
        let users = self.shared.users();
        let entries = users
            .values()
            .filter(|user| if name.is_empty() { *user.name > *token } else { *user.name == *name })
            .take(size + 1)
            .cloned()
            .collect();
        Ok(page(entries, size, |user: &Arc<User>| user.name.to_string()))
    }

    /// Vhosts that the user may open, with the numbers of their queues and exchanges.
    pub fn list_vhosts(&self, who: &Identity, name: &str, token: &str, size: usize) -> Page<VhostListing> {
        let user = self.shared.users().get(&who.user.name).cloned();
        let may_open = |vhost: &VhostName| user.as_ref().is_some_and(|user| may_open(user, vhost).is_ok());
        let vhosts = self.shared.vhosts();
        let entries = vhosts
            .values()
            .filter(|vhost| if name.is_empty() { *vhost.name > *token } else { *vhost.name == *name })
            .filter(|vhost| may_open(&vhost.name))
            .take(size + 1)
            .map(|vhost| {
                let quarantine = vhost.quarantine();
                VhostListing {
                    name: vhost.name.clone(),
                    queues: vhost.queues_count(),
                    exchanges: vhost.routing().exchanges_count(),
                    limits: vhost.limits(),
                    quarantine_queue: quarantine.as_ref().map(|quarantine| quarantine.queue().clone()),
                    unkept: quarantine.map_or(0, |quarantine| quarantine.homeless()),
                    replies_dropped: vhost.requesters.dropped(),
                }
            })
            .collect();
        page(entries, size, |listing: &VhostListing| listing.name.to_string())
    }

    pub(super) async fn states(&self, queues: &[Arc<QueueDefinition>]) -> HashMap<QueueId, QueueState> {
        let mut by_shard: BTreeMap<ShardId, Vec<QueueId>> = BTreeMap::new();
        queues.iter().for_each(|queue| by_shard.entry(queue.shard).or_default().push(queue.id));
        let mut states = HashMap::new();
        for (shard, queues) in by_shard {
            let Some(shard) = self.shared.shard(shard) else { continue };
            let (reply, answer) = oneshot::channel();
            shard.send(Command::Inspect { queues, reply });
            // A shard that has stopped knows nothing more.
            states.extend(answer.await.unwrap_or_default().into_iter().map(|state| (state.queue, state)));
        }
        states
    }
}

/// Cuts a list that was read one entry too far into a page.
/// A consumer's name; "" of one that is about to go.
pub(super) fn tag_of(known: Option<&KnownConsumer>) -> Arc<str> {
    known.map_or_else(|| Arc::from(""), |known| Arc::clone(&known.tag))
}

pub(super) fn page<T>(mut entries: Vec<T>, size: usize, token: impl Fn(&T) -> String) -> Page<T> {
    let more = entries.len() > size;
    entries.truncate(size);
    let next = if more { entries.last().map(token) } else { None };
    Page { entries, next }
}

/// A consumer's place among those of its queue.
fn place(key: &ConsumerKey) -> (u64, u32, u32) {
    (key.connection.0, key.channel, key.handle)
}

/// The queue and the place in it that a token names.
fn consumer_place(token: &str) -> Option<(&str, (u64, u32, u32))> {
    let (place, queue) = token.split_once('>')?;
    let mut numbers = place.split('.');
    let mut next = || numbers.next();
    let place = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
    numbers.next().is_none().then_some((queue, place))
}

pub(super) fn bad_token(token: &str) -> Refusal {
    Refusal::new(ReplyCode::SyntaxError, "the page token is not one of this list").field(
        "page_token",
        "the token of the page before",
        token,
    )
}
