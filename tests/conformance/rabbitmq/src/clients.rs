//! Clients of RabbitMQ, by lapin.

mod management;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicPublishOptions, BasicQosOptions, BasicRejectOptions, ConfirmSelectOptions, ExchangeBindOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, ExchangeUnbindOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Confirmation, Connection, ConnectionProperties, Consumer, ErrorKind, ExchangeKind};
use tokio::time::timeout;

use crate::play::{
    Action, AllowTopic, Bind, Closed, Consume, DeclareExchange, DeclareQueue, DeletePolicy, Fate, Fault,
    LimitUser, LimitVhost, Outcome, Peer, Publish, Received, Seen, Settle, Side, Step, user_of,
};
use management::Management;
use values::{fields, properties, received};

/// What takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// The clients of one scenario.
pub(crate) struct Clients {
    url: String,
    connections: BTreeMap<String, Connection>,
    channels: BTreeMap<String, Channel>,
    consumers: BTreeMap<String, Consuming>,
    /// What was set for consumers that come, and for all of the channel, by client.
    prefetches: BTreeMap<String, (u16, Option<u16>)>,
    held: Vec<Held>,
    exchanges: BTreeSet<String>,
    queues: BTreeSet<String>,
    management: Management,
    /// Those that the scenario made.
    users: BTreeSet<String>,
    /// Limits of the vhost that the scenario set.
    limits: BTreeSet<String>,
    policies: BTreeSet<(String, bool)>,
}

struct Consuming {
    client: String,
    queue: String,
    no_ack: bool,
    consumer: Consumer,
}

/// A delivery with its tag, which stays known after it was settled.
struct Held {
    client: String,
    queue: String,
    body: String,
    tag: u64,
    is_settled: bool,
}

/// Who asks what the scenario's clients do not.
const WATCHER: &str = "(watcher)";

impl Peer for Clients {
    const SIDE: Side = Side::RabbitMq;

    async fn act(&mut self, step: &Step) -> Result<Seen, Fault> {
        let client = &step.client;
        let seen = timeout(DEADLINE, self.act_for(client, &step.action)).await;
        match seen {
            Ok(Err(Fault::Refused { code, .. })) => {
                Err(Fault::Refused { code, closed: self.what_is_closed(client) })
            }
            Ok(seen) => seen,
            Err(_) => Err(Fault::Broken(format!("no answer in {DEADLINE:?}"))),
        }
    }

    async fn unexpected(&mut self) -> Vec<Received> {
        let mut unexpected = Vec::new();
        let names: Vec<String> = self.consumers.keys().cloned().collect();
        for name in names {
            if let Ok(Some(received)) = self.waiting(&name).await {
                unexpected.push(received);
            }
        }
        unexpected
    }
}

impl Clients {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            connections: BTreeMap::new(),
            channels: BTreeMap::new(),
            consumers: BTreeMap::new(),
            prefetches: BTreeMap::new(),
            held: Vec::new(),
            exchanges: BTreeSet::new(),
            queues: BTreeSet::new(),
            management: Management::of(url),
            users: BTreeSet::new(),
            limits: BTreeSet::new(),
            policies: BTreeSet::new(),
        }
    }

    /// Closes all connections and deletes what was declared.
    pub(crate) async fn clean_up(mut self) -> Result<(), String> {
        self.consumers.clear();
        self.channels.clear();
        for (_, connection) in std::mem::take(&mut self.connections) {
            // It may be closed already.
            let _ = connection.close(200, "done".into()).await;
        }
        for limit in &self.limits {
            self.management.unlimit_vhost(limit).await?;
        }
        for (policy, operator) in &self.policies {
            self.management.delete_policy(policy, *operator).await?;
        }
        let (exchanges, queues) = (self.exchanges.clone(), self.queues.clone());
        let began = Instant::now();
        for queue in queues {
            while let Err(error) = self.delete_queue(&queue).await {
                // An exclusive queue goes a while after its connection has.
                if began.elapsed() > DEADLINE {
                    return Err(format!("queue '{queue}' cannot be deleted: {error:?}"));
                }
            }
        }
        for exchange in exchanges.into_iter().filter(|name| !name.is_empty() && !name.starts_with("amq.")) {
            let channel = self.channel("cleaner").await.map_err(|fault| format!("{fault:?}"))?;
            let deleted =
                channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await;
            deleted.map_err(|error| format!("exchange '{exchange}' cannot be deleted: {error}"))?;
        }
        for user in &self.users {
            self.management.delete_user(user).await?;
        }
        if let Some(connection) = self.connections.remove("cleaner") {
            connection.close(200, "done".into()).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn delete_queue(&mut self, queue: &str) -> Result<(), Fault> {
        let channel = self.channel("cleaner").await?;
        let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        if deleted.is_err() {
            self.what_is_closed("cleaner");
        }
        deleted.map(drop).map_err(Fault::from)
    }

    async fn act_for(&mut self, client: &str, action: &Action) -> Result<Seen, Fault> {
        let channel = self.channel(client).await?;
        match action {
            Action::DeclareExchange(declare) => self.declare_exchange(&channel, declare).await,
            Action::CheckExchange(name) => {
                let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
                done(
                    channel
                        .exchange_declare(name.as_str().into(), ExchangeKind::Direct, passive, none())
                        .await,
                )
            }
            Action::DeleteExchange(delete) => {
                let options = ExchangeDeleteOptions { if_unused: delete.if_unused, ..Default::default() };
                done(channel.exchange_delete(delete.name.as_str().into(), options).await)
            }
            Action::DeclareQueue(declare) => self.declare_queue(&channel, declare).await,
            Action::CheckQueue(name) => check_queue(&channel, name).await,
            Action::DeleteQueue(delete) => {
                let (if_unused, if_empty) = (delete.if_unused, delete.if_empty);
                let options = QueueDeleteOptions { if_unused, if_empty, ..Default::default() };
                let count = channel.queue_delete(delete.name.as_str().into(), options).await?;
                Ok(Seen::Messages(count.into()))
            }
            Action::Purge(queue) => {
                let purged = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
                Ok(Seen::Messages(purged.into()))
            }
            Action::Bind(binding) => bind(&channel, binding).await,
            Action::Unbind(binding) => unbind(&channel, binding).await,
            Action::Publish(publish) => publish_all(&channel, publish).await,
            Action::Get(get) => {
                let options = BasicGetOptions { no_ack: get.no_ack };
                let Some(got) = channel.basic_get(get.queue.as_str().into(), options).await? else {
                    return Ok(Seen::Nothing);
                };
                if !get.no_ack {
                    self.hold(client, &get.queue, &got.delivery);
                }
                let left = Some(got.message_count.into());
                Ok(Seen::Received(vec![Received { left, ..received(&got.delivery) }]))
            }
            Action::Consume(consume) => self.consume(client, &channel, consume).await,
            Action::LimitPrefetch(limit) => {
                self.prefetches.entry(client.to_owned()).or_default().1 = Some(*limit);
                done(channel.basic_qos(*limit, BasicQosOptions { global: true }).await)
            }
            Action::Receive { consumer, count } => self.receive(consumer, *count).await,
            Action::Silent(consumer) => match self.waiting(consumer).await? {
                None => Ok(Seen::Nothing),
                Some(received) => Ok(Seen::Received(vec![received])),
            },
            Action::Ended(consumer) => match self.consuming(consumer)?.consumer.next().await {
                None => {
                    self.consumers.remove(consumer);
                    Ok(Seen::Ended)
                }
                Some(other) => Err(broken(format!("it has not ended, but: {other:?}"))),
            },
            Action::Cancel(cancel) => {
                let consuming = self.consumers.remove(&cancel.consumer);
                if consuming.is_none() {
                    return Err(broken("there is no such consumer"));
                }
                done(
                    channel
                        .basic_cancel(cancel.consumer.as_str().into(), BasicCancelOptions::default())
                        .await,
                )
            }
            Action::Settle(settle) => self.settle(client, &channel, settle).await,
            Action::SettleTag(tag) => {
                let check = check_exchange(&channel);
                let (acked, answer) =
                    tokio::join!(channel.basic_ack(*tag, BasicAckOptions::default()), check);
                // What the broker says is in the answer; an ack has none.
                answer.and(done(acked))
            }
            Action::CloseChannel => {
                let returning = self.returning(|of| of == client).await?;
                let closed = done(channel.close(200, "done".into()).await);
                self.forget(|of| of == client);
                self.have_returned(returning).await?;
                closed
            }
            Action::CloseConnection => {
                let connection = connection_of(client).to_owned();
                let returning = self.returning(|of| connection_of(of) == connection).await?;
                self.forget(|of| connection_of(of) == connection);
                let open = self.connections.remove(&connection).ok_or_else(|| broken("it has none"))?;
                let closed = done(open.close(200, "done".into()).await);
                self.have_returned(returning).await?;
                closed
            }
            Action::Gone(queue) => loop {
                let channel = self.channel(client).await?;
                match check_queue(&channel, queue).await {
                    Err(Fault::Refused { code: 404, .. }) => {
                        self.what_is_closed(client);
                        return Ok(Seen::Done);
                    }
                    // Somebody else's until it goes.
                    Err(Fault::Refused { code: 405, .. }) => {
                        self.what_is_closed(client);
                    }
                    Ok(_) => {}
                    Err(fault) => return Err(fault),
                }
            },
            Action::Allow(allow) => {
                if self.users.insert(allow.user.clone()) {
                    self.management.put_user(&allow.user).await.map_err(broken)?;
                }
                let allowed = self.management.allow(&allow.user, &allow.configure, &allow.write, &allow.read);
                allowed.await.map(|()| Seen::Done).map_err(broken)
            }
            Action::AllowTopic(AllowTopic { user, exchange, write, read }) => {
                let allowed = self.management.allow_topic(user, exchange, write, read);
                allowed.await.map(|()| Seen::Done).map_err(broken)
            }
            Action::LimitUser(LimitUser { user, limit, to }) => {
                let limited = self.management.limit_user(user, limit, *to);
                limited.await.map(|()| Seen::Done).map_err(broken)
            }
            Action::LimitVhost(LimitVhost { limit, to }) => {
                self.limits.insert(limit.clone());
                let limited = self.management.limit_vhost(limit, *to);
                limited.await.map(|()| Seen::Done).map_err(broken)
            }
            Action::Policy(policy) => {
                self.policies.insert((policy.name.clone(), policy.operator));
                self.management.put_policy(policy).await.map(|()| Seen::Done).map_err(broken)
            }
            Action::DeletePolicy(DeletePolicy { name, operator }) => {
                self.policies.remove(&(name.clone(), *operator));
                self.management.delete_policy(name, *operator).await.map(|()| Seen::Done).map_err(broken)
            }
            Action::Empty(queue) => loop {
                let channel = self.channel(client).await?;
                if let Seen::Queue { ready: 0, .. } = check_queue(&channel, queue).await? {
                    return Ok(Seen::Done);
                }
            },
        }
    }

    /// A client's channel, with confirms.
    async fn channel(&mut self, client: &str) -> Result<Channel, Fault> {
        if let Some(channel) = self.channels.get(client) {
            return Ok(channel.clone());
        }
        let connection = connection_of(client);
        if !self.connections.contains_key(connection) {
            let url = match self.users.contains(user_of(connection)) {
                true => self.management.url_as(user_of(connection)),
                false => self.url.clone(),
            };
            let opened = Connection::connect(&url, ConnectionProperties::default()).await?;
            self.connections.insert(connection.to_owned(), opened);
        }
        let channel = self.connections[connection].create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        self.channels.insert(client.to_owned(), channel.clone());
        Ok(channel)
    }

    /// After an error: what the client has to open again.
    fn what_is_closed(&mut self, client: &str) -> Closed {
        let connection = connection_of(client).to_owned();
        if self.connections.get(&connection).is_none_or(|open| !open.status().connected()) {
            self.connections.remove(&connection);
            self.forget(|of| connection_of(of) == connection);
            return Closed::Connection;
        }
        if self.channels.get(client).is_some_and(|channel| !channel.status().connected()) {
            self.forget(|of| of == client);
            return Closed::Channel;
        }
        Closed::Nothing
    }

    /// What clients had that are gone.
    fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.channels.retain(|client, _| !is_gone(client));
        self.consumers.retain(|_, consuming| !is_gone(&consuming.client));
        self.prefetches.retain(|client, _| !is_gone(client));
        self.held.retain(|held| !is_gone(&held.client));
    }

    /// Queues to which unsettled deliveries will go back, each with the count of ready messages that it will have then.
    async fn returning(&mut self, is_gone: impl Fn(&str) -> bool) -> Result<BTreeMap<String, u64>, Fault> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for held in self.held.iter().filter(|held| is_gone(&held.client) && !held.is_settled) {
            *counts.entry(held.queue.clone()).or_default() += 1;
        }
        let mut returning = BTreeMap::new();
        for (queue, count) in counts {
            let channel = self.channel(WATCHER).await?;
            match check_queue(&channel, &queue).await {
                Ok(Seen::Queue { ready, .. }) => {
                    returning.insert(queue, ready + count);
                }
                // Gone, or somebody's alone: nobody will see them.
                _ => {
                    self.what_is_closed(WATCHER);
                }
            }
        }
        Ok(returning)
    }

    /// Waits for that. RabbitMQ returns what a channel got without a consumer a while after the channel has closed.
    async fn have_returned(&mut self, returning: BTreeMap<String, u64>) -> Result<(), Fault> {
        for (queue, expected) in returning {
            let channel = self.channel(WATCHER).await?;
            loop {
                match check_queue(&channel, &queue).await {
                    // A consumer takes them at once.
                    Ok(Seen::Queue { ready, consumers, .. }) if ready < expected && consumers == 0 => {}
                    Ok(_) => break,
                    // It went with its last consumer.
                    Err(_) => {
                        self.what_is_closed(WATCHER);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn declare_exchange(
        &mut self,
        channel: &Channel,
        declare: &DeclareExchange,
    ) -> Result<Seen, Fault> {
        let options = ExchangeDeclareOptions {
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            ..Default::default()
        };
        let kind = ExchangeKind::Custom(declare.kind.clone());
        let (name, arguments) = (declare.name.as_str().into(), fields(&declare.arguments));
        channel.exchange_declare(name, kind, options, arguments).await?;
        self.exchanges.insert(declare.name.clone());
        Ok(Seen::Done)
    }

    async fn declare_queue(&mut self, channel: &Channel, declare: &DeclareQueue) -> Result<Seen, Fault> {
        let options = QueueDeclareOptions {
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            ..Default::default()
        };
        let (name, mut arguments) = (declare.name.as_str().into(), fields(&declare.arguments));
        if declare.quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        let declared = channel.queue_declare(name, options, arguments).await?;
        self.queues.insert(declared.name().as_str().to_owned());
        Ok(queue_seen(&declared))
    }

    async fn consume(&mut self, client: &str, channel: &Channel, consume: &Consume) -> Result<Seen, Fault> {
        let (before, of_channel) = self.prefetches.entry(client.to_owned()).or_default();
        if std::mem::replace(before, consume.prefetch) != consume.prefetch {
            channel.basic_qos(consume.prefetch, BasicQosOptions::default()).await?;
            if let Some(bound) = *of_channel {
                // It went with this.
                channel.basic_qos(bound, BasicQosOptions { global: true }).await?;
            }
        }
        let options = BasicConsumeOptions {
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            ..Default::default()
        };
        let (queue, tag) = (consume.queue.as_str().into(), consume.consumer.as_str().into());
        let arguments = consume.priority.map(|priority| ("x-priority".into(), AMQPValue::LongInt(priority)));
        let arguments = arguments.into_iter().collect::<BTreeMap<_, _>>().into();
        let consumer = channel.basic_consume(queue, tag, options, arguments).await?;
        let (client, queue, no_ack) = (client.to_owned(), consume.queue.clone(), consume.no_ack);
        self.consumers.insert(consume.consumer.clone(), Consuming { client, queue, no_ack, consumer });
        Ok(Seen::Done)
    }

    async fn receive(&mut self, name: &str, count: usize) -> Result<Seen, Fault> {
        let mut messages = Vec::new();
        for _ in 0..count {
            let Consuming { client, queue, no_ack, consumer } = self.consuming(name)?;
            let (client, queue, no_ack) = (client.clone(), queue.clone(), *no_ack);
            let delivery = match consumer.next().await {
                Some(Ok(delivery)) => delivery,
                other => return Err(broken(format!("no delivery, but: {other:?}"))),
            };
            messages.push(received(&delivery));
            if !no_ack {
                self.hold(&client, &queue, &delivery);
            }
        }
        Ok(Seen::Received(messages))
    }

    /// A delivery that has come or was on its way. The queue is asked twice: the first answer comes after what the queue had still
    /// to do, so what it sent to the channel is there before the second question, and goes out before its answer.
    async fn waiting(&mut self, name: &str) -> Result<Option<Received>, Fault> {
        let Consuming { client, queue, .. } = self.consuming(name)?;
        let (client, queue) = (client.clone(), queue.clone());
        let channel = self.channel(&client).await?;
        for _ in 0..2 {
            check_queue(&channel, &queue).await?;
        }
        match self.consuming(name)?.consumer.next().now_or_never() {
            Some(Some(Ok(delivery))) => Ok(Some(received(&delivery))),
            _ => Ok(None),
        }
    }

    fn consuming(&mut self, name: &str) -> Result<&mut Consuming, Fault> {
        self.consumers.get_mut(name).ok_or_else(|| broken(format!("there is no consumer '{name}'")))
    }

    fn hold(&mut self, client: &str, queue: &str, delivery: &Delivery) {
        self.held.push(Held {
            client: client.to_owned(),
            queue: queue.to_owned(),
            body: String::from_utf8_lossy(&delivery.data).into_owned(),
            tag: delivery.delivery_tag,
            is_settled: false,
        });
    }

    async fn settle(&mut self, client: &str, channel: &Channel, settle: &Settle) -> Result<Seen, Fault> {
        let Settle { body, outcome, multiple } = settle;
        let held = self.held.iter().rfind(|held| held.client == client && held.body == *body);
        let Held { tag, queue, .. } = held.ok_or_else(|| broken(format!("'{body}' was not delivered")))?;
        let (tag, queue, multiple) = (*tag, queue.clone(), *multiple);
        for held in self.held.iter_mut().filter(|held| held.client == client) {
            held.is_settled |= held.tag == tag || multiple && held.tag < tag;
        }
        let settling = async {
            match *outcome {
                Outcome::Ack => channel.basic_ack(tag, BasicAckOptions { multiple }).await,
                Outcome::Nack { requeue } => {
                    channel.basic_nack(tag, BasicNackOptions { multiple, requeue }).await
                }
                Outcome::Reject { requeue } => {
                    channel.basic_reject(tag, BasicRejectOptions { requeue }).await
                }
            }
        };
        // Both are sent before anything can come back, so that an error ends the question, which has an answer.
        let (settled, answer) = tokio::join!(settling, check_queue(channel, &queue));
        match answer {
            // The queue may be gone, and with it what was to be settled.
            Err(Fault::Refused { code: 404, .. }) => {
                self.what_is_closed(client);
                Ok(Seen::Done)
            }
            Err(fault) => Err(fault),
            Ok(_) => done(settled),
        }
    }
}

async fn check_queue(channel: &Channel, name: &str) -> Result<Seen, Fault> {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(name.into(), passive, none()).await?;
    Ok(queue_seen(&found))
}

async fn check_exchange(channel: &Channel) -> Result<Seen, Fault> {
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    done(channel.exchange_declare("amq.direct".into(), ExchangeKind::Direct, passive, none()).await)
}

fn queue_seen(queue: &lapin::Queue) -> Seen {
    Seen::Queue {
        name: queue.name().as_str().to_owned(),
        ready: queue.message_count().into(),
        consumers: queue.consumer_count().into(),
    }
}

async fn bind(channel: &Channel, binding: &Bind) -> Result<Seen, Fault> {
    let Bind { queue, exchange, from, key, arguments } = binding;
    let (from, key, arguments) = (from.as_str().into(), key.as_str().into(), fields(arguments));
    match (queue, exchange) {
        (Some(queue), None) => {
            let options = QueueBindOptions::default();
            done(channel.queue_bind(queue.as_str().into(), from, key, options, arguments).await)
        }
        (None, Some(exchange)) => {
            let options = ExchangeBindOptions::default();
            done(channel.exchange_bind(exchange.as_str().into(), from, key, options, arguments).await)
        }
        _ => unreachable!("a binding has one destination"),
    }
}

async fn unbind(channel: &Channel, binding: &Bind) -> Result<Seen, Fault> {
    let Bind { queue, exchange, from, key, arguments } = binding;
    let (from, key, arguments) = (from.as_str().into(), key.as_str().into(), fields(arguments));
    match (queue, exchange) {
        (Some(queue), None) => done(channel.queue_unbind(queue.as_str().into(), from, key, arguments).await),
        (None, Some(exchange)) => {
            let options = ExchangeUnbindOptions::default();
            done(channel.exchange_unbind(exchange.as_str().into(), from, key, options, arguments).await)
        }
        _ => unreachable!("a binding has one destination"),
    }
}

/// All are sent before the first confirm is waited for.
async fn publish_all(channel: &Channel, publish: &Publish) -> Result<Seen, Fault> {
    let mut confirms = Vec::new();
    for body in &publish.bodies {
        let options = BasicPublishOptions { mandatory: publish.mandatory, immediate: false };
        let (to, key) = (publish.to.as_str().into(), publish.key.as_str().into());
        let properties = properties(&publish.properties, &publish.headers);
        confirms.push(channel.basic_publish(to, key, options, body.as_bytes(), properties).await?);
    }
    let mut fates = Vec::new();
    for confirm in confirms {
        // A return that comes after the confirm is not part of it.
        fates.push(match confirm.await? {
            Confirmation::Ack(None) => Fate::Confirmed,
            Confirmation::Ack(Some(returned)) => Fate::ReturnedThenConfirmed(returned.reply_code),
            Confirmation::Nack(_) => Fate::Refused,
            Confirmation::NotRequested => return Err(broken("the channel has no confirms")),
        });
    }
    Ok(Seen::Fates(fates))
}

fn connection_of(client: &str) -> &str {
    client.split('.').next().unwrap_or(client)
}

fn none() -> FieldTable {
    FieldTable::default()
}

fn done(answer: Result<(), lapin::Error>) -> Result<Seen, Fault> {
    answer.map(|()| Seen::Done).map_err(Fault::from)
}

fn broken(problem: impl ToString) -> Fault {
    Fault::Broken(problem.to_string())
}

impl From<lapin::Error> for Fault {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            // What it closed is looked at afterwards.
            ErrorKind::ProtocolError(error) => {
                Self::Refused { code: error.get_id(), closed: Closed::Nothing }
            }
            _ => broken(error),
        }
    }
}
