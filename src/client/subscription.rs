//! Durable named subscriptions: what a program asks for, and what is listed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::channel::{Channel, check_names, message_count, unexpected};
use super::consumer::ConsumerBuilder;
use super::convert::table_to_wire;
use super::error::RequestError;
use super::recorded::Change;
use super::request::{Effect, OnBreak};
use super::retention::Retention;
pub use crate::model::Sharing;
use crate::model::{FieldTable, Timestamp};
use crate::wire::pb::{self, frame::Body};

/// What a subscription listens to.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionBinding {
    /// Name of a durable exchange.
    pub exchange: String,
    /// Key or pattern. At most 255 bytes.
    pub routing_key: String,
    /// For headers exchanges: what to match, and "x-match".
    pub arguments: FieldTable,
}

/// A durable named subscription to make, to change, or to come back to: shared by all who consume under its name, unless
/// changed. What is not said stays as it is.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a subscription is made by `Channel::subscribe` or `Channel::declare_subscription`"]
pub struct Subscription {
    name: String,
    sharing: Option<Sharing>,
    member: String,
    bindings: Vec<SubscriptionBinding>,
    expires_after: Option<Duration>,
    annotations: BTreeMap<String, String>,
    retention: Option<Retention>,
}

impl Subscription {
    /// The subscription of this name: 1 to 120 bytes, without ":" and control characters. If that is all that is said it must
    /// be there already.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            sharing: None,
            member: String::new(),
            bindings: Vec::new(),
            expires_after: None,
            annotations: BTreeMap::new(),
            retention: None,
        }
    }

    /// Adds to what it listens to: messages of an exchange with this key, or whose keys match this pattern. All that is
    /// added together takes the place of what it listened to before.
    pub fn listen(self, exchange: impl Into<String>, key: impl Into<String>) -> Self {
        self.listen_for(SubscriptionBinding {
            exchange: exchange.into(),
            routing_key: key.into(),
            arguments: FieldTable::default(),
        })
    }

    /// As [`listen`](Self::listen), with arguments: for headers exchanges.
    pub fn listen_for(mut self, binding: SubscriptionBinding) -> Self {
        self.bindings.push(binding);
        self
    }

    /// Every member has its own queue and gets everything; this one takes part under a name that it comes back by.
    pub fn member(mut self, name: impl Into<String>) -> Self {
        self.member = name.into();
        self.each()
    }

    /// Every member has its own queue and gets everything; nobody joins yet.
    pub fn each(mut self) -> Self {
        self.sharing = Some(Sharing::Each);
        self
    }

    /// All who take part share one queue; what a new subscription does anyway.
    pub fn shared(mut self) -> Self {
        self.sharing = Some(Sharing::Shared);
        self
    }

    /// A queue of it for which nobody came so long goes, and the subscription with its last queue; zero: never. In whole
    /// milliseconds.
    pub fn expires_after(mut self, time: Duration) -> Self {
        self.expires_after = Some(time);
        self
    }

    /// Sets a note for people and programs; "" takes it away.
    pub fn annotate(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Its queues retain messages that consumers are done with, so that they can be [seen again](super::Replay).
    pub fn retain(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    pub(super) fn to_wire(&self) -> pb::Subscribe {
        let sharing = match self.sharing {
            None => pb::Sharing::Unspecified,
            Some(Sharing::Shared) => pb::Sharing::Shared,
            Some(Sharing::Each) => pb::Sharing::Each,
        };
        let bindings = self.bindings.iter().map(|binding| pb::SubscriptionBinding {
            exchange: binding.exchange.clone(),
            routing_key: binding.routing_key.clone(),
            arguments: table_to_wire(&binding.arguments),
        });
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        pb::Subscribe {
            name: self.name.clone(),
            sharing: sharing.into(),
            member: self.member.clone(),
            bindings: bindings.collect(),
            expires_after_ms: self.expires_after.map(millis),
            annotations: self.annotations.clone(),
            keep: false,
            retention: self.retention.map(Retention::to_wire),
        }
    }
}

/// What the server said of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// The queue to consume from; `None` if nobody has joined.
    pub queue: Option<String>,
    /// Messages that wait in it.
    pub messages: u64,
}

/// A subscription and one of its queues, as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionEntry {
    /// Its name.
    pub name: String,
    /// Who gets what.
    pub sharing: Sharing,
    /// What it listens to.
    pub bindings: Vec<SubscriptionBinding>,
    /// How long nobody may come for a queue of it; zero: for ever.
    pub expires_after: Duration,
    /// Notes for people and programs.
    pub annotations: BTreeMap<String, String>,
    /// Whose queue this is; "" if it is shared, or if there is none.
    pub member: String,
    /// The queue; `None`: nobody has joined.
    pub queue: Option<String>,
    /// Who consumes from it, 100 at most.
    pub subscribers: Vec<Subscriber>,
    /// How many do.
    pub consumers: u32,
    /// Since when nobody does, or since the start of the broker if that is later; `None`: somebody does, or there is no queue.
    pub dark_since: Option<Timestamp>,
    /// Messages that wait.
    pub messages_ready: u64,
    /// Messages that consumers have not settled.
    pub messages_unacknowledged: u64,
    /// Messages that came in since the broker started.
    pub published_total: u64,
    /// Messages that went out since the broker started.
    pub delivered_total: u64,
    /// Messages that consumers accepted since the broker started.
    pub accepted_total: u64,
    /// When the oldest message that waits came, to the second; `None`: none waits, or it came while a version ran that did not
    /// note it.
    pub oldest_ready: Option<Timestamp>,
    /// When the oldest message that a consumer has came; `None` likewise.
    pub oldest_unacknowledged: Option<Timestamp>,
    /// What its queues retain of what consumers are done with.
    pub retention: Retention,
    /// Messages that this queue retains.
    pub messages_retained: u64,
    /// Why its queue hands out nothing, if that is so.
    pub fault: Option<String>,
}

/// A consumer of a subscription's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// Number of its connection.
    pub connection_id: u64,
    /// Its channel.
    pub channel: u32,
    /// Its name.
    pub tag: String,
    /// Messages that it has not settled.
    pub messages_unacknowledged: u64,
    /// The name that its connection gave itself; "" if this user may not see the connection.
    pub connection_name: String,
    /// Who logged in; "" likewise.
    pub user: String,
    /// Address and port; "" likewise.
    pub peer: String,
}

/// Which subscriptions, for [`Channel::find_subscriptions`]: those of which all of this is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Its whole name; "": any.
    pub name: String,
    /// Each is a part of its name, its member, an annotation as `name=value`, or an exchange or a key that it listens to. Upper and
    /// lower case are the same. 16 at most.
    pub texts: Vec<String>,
    /// It has these annotations, with these values. 16 at most.
    pub annotations: BTreeMap<String, String>,
    /// It listens to this exchange; with a key: a message that is published there, without headers, gets to it, also on its way through
    /// others. "": any.
    pub exchange: String,
    /// One of its keys or patterns matches this; with an exchange as there.
    pub routing_key: Option<String>,
    /// Nobody has consumed from it for so long or longer; in whole milliseconds.
    pub dark_for: Option<Duration>,
}

impl Channel {
    /// A consumer of a subscription, which is made, or changed to what is said here, when the consumer starts. It outlives the
    /// connection: who comes back under its name gets first what came in the meantime. After a reconnect it is made again if
    /// it is gone, as long as the consumer is there, and left as it is otherwise.
    pub fn subscribe(&self, subscription: Subscription) -> ConsumerBuilder {
        self.consume("").of_subscription(self.clone(), subscription)
    }

    /// Makes a subscription, or changes the one there is in one step, without consuming from it: what waits in its queues stays.
    /// After a reconnect it is made again if it is gone and this connection consumes from it.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn declare_subscription(&self, subscription: Subscription) -> Result<Subscribed, RequestError> {
        for binding in &subscription.bindings {
            check_names([&binding.exchange, &binding.routing_key])?;
        }
        let subscribe = subscription.to_wire();
        let effect = Effect::Record(Change::Subscribed(subscribe.clone()));
        match self.request(Body::Subscribe(subscribe), OnBreak::Repeat, effect).await? {
            Body::Subscribed(pb::Subscribed { queue, message_count }) => Ok(Subscribed {
                queue: Some(queue).filter(|queue| !queue.is_empty()),
                messages: message_count,
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes a subscription with its queues; how many ready messages went with them. Also fine if there is none.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn unsubscribe(&self, name: &str) -> Result<u64, RequestError> {
        self.unsubscribe_of(name, "").await
    }

    /// Takes a member of a subscription away, with its queue; how many ready messages went with it. Also fine if there is none.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn unsubscribe_member(&self, name: &str, member: &str) -> Result<u64, RequestError> {
        if member.is_empty() {
            return Err(RequestError::Invalid("a member of a subscription has a name".to_owned()));
        }
        self.unsubscribe_of(name, member).await
    }

    async fn unsubscribe_of(&self, name: &str, member: &str) -> Result<u64, RequestError> {
        let unsubscribe = pb::Unsubscribe { name: name.to_owned(), member: member.to_owned() };
        let effect = Effect::Record(Change::Unsubscribed(unsubscribe.clone()));
        message_count(self.request(Body::Unsubscribe(unsubscribe), OnBreak::Fail, effect).await?)
    }

    /// All subscriptions of the vhost with their queues, by name and then by member.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_subscriptions(&self) -> Result<Vec<SubscriptionEntry>, RequestError> {
        self.list("").await
    }

    /// Those of all subscriptions that this fits, by name and then by member. The server looks for them.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn find_subscriptions(
        &self,
        filter: SubscriptionFilter,
    ) -> Result<Vec<SubscriptionEntry>, RequestError> {
        let SubscriptionFilter { name, texts, annotations, exchange, routing_key, dark_for } = filter;
        let dark_for_ms = dark_for.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let filter = pb::SubscriptionFilter { texts, annotations, exchange, routing_key, dark_for_ms };
        self.list_those(pb::List { name, subscriptions: Some(filter), ..pb::List::default() }).await
    }

    /// One subscription with its queues; none if it does not exist.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn find_subscription(&self, name: &str) -> Result<Vec<SubscriptionEntry>, RequestError> {
        let found: Vec<SubscriptionEntry> = self.list(name).await?;
        Ok(found.into_iter().filter(|entry| entry.name == name).collect())
    }
}
