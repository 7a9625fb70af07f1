//! Clients of Leveret, by its own client library.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leveret::client::{
    Binding, Channel, ConfirmError, ConnectError, ConnectOptions, Connection, ConsumeError, Consumer,
    DeleteExchange, DeletePolicy, DeleteQueue, Delivery, Destination, Exchange, FieldTable, FieldValue, Get,
    Message, NewUser, Permissions, Policy, Properties, PublishError, Queue, ReplyCode, RequestError,
    SettleError, TopicPermissions, UserLimitsChange, VhostLimitsChange,
};
use tokio::time::timeout;
use toml::{Table, Value};

use super::play::{
    self, Action, Allow, AllowTopic, Closed, Consume, Fate, Fault, LimitUser, LimitVhost, Outcome, Peer,
    Publish, Received, Seen, Settle, Side, Step, user_of,
};
use crate::support::Broker;

/// That of users that scenarios make.
const PASSWORD: &str = "s3cret";

/// What takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// The clients of one scenario.
pub(super) struct Clients {
    options: ConnectOptions,
    connections: BTreeMap<String, Connection>,
    channels: BTreeMap<String, Channel>,
    consumers: BTreeMap<String, Consuming>,
    held: Vec<Held>,
    /// Those that the scenario made.
    users: BTreeSet<String>,
}

struct Consuming {
    client: String,
    consumer: Consumer,
}

/// A delivery that is not settled yet.
struct Held {
    client: String,
    /// `None`: it came by get.
    consumer: Option<String>,
    queue: String,
    body: String,
    delivery: Delivery,
}

impl Peer for Clients {
    const SIDE: Side = Side::Leveret;

    async fn act(&mut self, step: &Step) -> Result<Seen, Fault> {
        let client = &step.client;
        let seen = timeout(DEADLINE, self.act_for(client, &step.action)).await;
        match seen {
            Ok(Err(Fault::Refused { code, .. })) => {
                Err(Fault::Refused { code, closed: self.what_is_closed(client).await })
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
    pub(super) async fn in_a_vhost_of_their_own(broker: &Broker, vhost: &str) -> Self {
        let options: ConnectOptions = broker.url().parse().unwrap();
        let administrator = Connection::connect(options.clone()).await.unwrap();
        administrator.channel().await.unwrap().put_vhost(vhost).await.unwrap();
        administrator.close().await.unwrap();
        Self {
            options: options.in_vhost(vhost).no_reconnect(),
            connections: BTreeMap::new(),
            channels: BTreeMap::new(),
            consumers: BTreeMap::new(),
            held: Vec::new(),
            users: BTreeSet::new(),
        }
    }

    async fn act_for(&mut self, client: &str, action: &Action) -> Result<Seen, Fault> {
        let channel = self.channel(client).await?;
        match action {
            Action::DeclareExchange(declare) => {
                let exchange = Exchange {
                    name: declare.name.clone(),
                    kind: declare.kind.clone(),
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments: fields(&declare.arguments),
                };
                done(channel.declare_exchange(exchange).await)
            }
            Action::CheckExchange(name) => done(channel.check_exchange(name).await),
            Action::DeleteExchange(delete) => {
                let conditions = DeleteExchange { if_unused: delete.if_unused };
                done(channel.delete_exchange(&delete.name, conditions).await)
            }
            Action::DeclareQueue(declare) => {
                let queue = Queue {
                    name: declare.name.clone(),
                    durable: declare.durable,
                    exclusive: declare.exclusive,
                    auto_delete: declare.auto_delete,
                    arguments: fields(&declare.arguments),
                };
                let declared = channel.declare_queue(queue).await?;
                Ok(Seen::Queue {
                    name: declared.name,
                    ready: declared.messages,
                    consumers: declared.consumers.into(),
                })
            }
            Action::CheckQueue(name) => {
                let found = channel.check_queue(name).await?;
                Ok(Seen::Queue { name: found.name, ready: found.messages, consumers: found.consumers.into() })
            }
            Action::DeleteQueue(delete) => {
                let conditions = DeleteQueue { if_unused: delete.if_unused, if_empty: delete.if_empty };
                Ok(Seen::Messages(channel.delete_queue(&delete.name, conditions).await?))
            }
            Action::Purge(queue) => Ok(Seen::Messages(channel.purge_queue(queue).await?)),
            Action::Bind(bind) => done(channel.bind(binding(bind)).await),
            Action::Unbind(bind) => done(channel.unbind(binding(bind)).await),
            Action::Publish(publish) => publish_all(&channel, publish).await,
            Action::Get(get) => self.get(client, &channel, &get.queue, get.no_ack).await,
            Action::Consume(consume) => self.consume(client, &channel, consume).await,
            Action::Receive { consumer, count } => self.receive(consumer, *count).await,
            Action::Silent(consumer) => match self.waiting(consumer).await? {
                None => Ok(Seen::Nothing),
                Some(received) => Ok(Seen::Received(vec![received])),
            },
            Action::Ended(consumer) => match self.consuming(consumer)?.consumer.next().await {
                Some(Err(ConsumeError::Cancelled { .. } | ConsumeError::Lapsed(_))) => {
                    self.consumers.remove(consumer);
                    Ok(Seen::Ended)
                }
                other => Err(broken(format!("it has not ended, but: {other:?}"))),
            },
            Action::Cancel(cancel) => {
                let consuming = self.consumers.remove(&cancel.consumer);
                let consuming = consuming.ok_or_else(|| broken("there is no such consumer"))?;
                done(consuming.consumer.cancel().await)
            }
            Action::Settle(settle) => self.settle(client, &channel, settle).await,
            Action::SettleTag(_) => Ok(Seen::CannotBeSaid),
            Action::CloseChannel => {
                self.forget(|of| of == client);
                self.channels.remove(client);
                done(channel.close().await)
            }
            Action::CloseConnection => {
                let connection = connection_of(client).to_owned();
                self.forget(|of| connection_of(of) == connection);
                self.channels.retain(|of, _| connection_of(of) != connection);
                let open = self.connections.remove(&connection).expect("the channel has one");
                open.close().await.map(|()| Seen::Done).map_err(broken)
            }
            Action::Gone(queue) => loop {
                match channel.check_queue(queue).await {
                    Err(RequestError::Refused(refusal)) if refusal.code.number() == 404 => {
                        return Ok(Seen::Done);
                    }
                    // Somebody else's until it goes.
                    Err(RequestError::Refused(refusal)) if refusal.code.number() == 405 => {}
                    Ok(_) => {}
                    Err(error) => return Err(error.into()),
                }
            },
            Action::Allow(allow) => {
                let Allow { user, configure, write, read } = allow.clone();
                if self.users.insert(user.clone()) {
                    // That of an earlier scenario may have limits.
                    channel.delete_user(&user).await?;
                    let (name, password) = (user.clone(), PASSWORD.to_owned());
                    let made = NewUser { name, password, administrator: false, vhosts: Vec::new() };
                    channel.put_user(made).await?;
                }
                let permissions = Permissions { user, vhost: String::new(), configure, write, read };
                done(channel.put_permissions(permissions).await)
            }
            Action::AllowTopic(allow) => {
                let AllowTopic { user, exchange, write, read } = allow.clone();
                let permissions = TopicPermissions { user, vhost: String::new(), exchange, write, read };
                done(channel.put_topic_permissions(permissions).await)
            }
            Action::LimitUser(LimitUser { user, limit, to }) => {
                let to = Some(Some(u64::from(*to)));
                let change = match limit.as_str() {
                    "max-connections" => UserLimitsChange { max_connections: to, ..Default::default() },
                    "max-channels" => UserLimitsChange { max_channels: to, ..Default::default() },
                    other => return Err(broken(format!("there is no limit '{other}' of a user"))),
                };
                done(channel.limit_user(user, change).await)
            }
            Action::LimitVhost(LimitVhost { limit, to }) => {
                let to = Some(Some(u64::from(*to)));
                let change = match limit.as_str() {
                    "max-connections" => VhostLimitsChange { max_connections: to, ..Default::default() },
                    "max-queues" => VhostLimitsChange { max_queues: to, ..Default::default() },
                    other => return Err(broken(format!("there is no limit '{other}' of a vhost"))),
                };
                done(channel.limit_vhost(self.options.vhost(), change).await)
            }
            Action::Policy(policy) => {
                let play::Policy { name, operator, pattern, priority, apply_to, definition } = policy.clone();
                let (applies_to, definition) = (apply_to, fields(&definition));
                done(
                    channel
                        .put_policy(Policy { name, operator, pattern, applies_to, priority, definition })
                        .await,
                )
            }
            Action::DeletePolicy(play::DeletePolicy { name, operator }) => {
                done(channel.delete_policy(name, DeletePolicy { operator: *operator }).await)
            }
            Action::LimitPrefetch(limit) => done(channel.limit_prefetch((*limit).into()).await),
            Action::Empty(queue) => loop {
                if channel.check_queue(queue).await?.messages == 0 {
                    return Ok(Seen::Done);
                }
            },
        }
    }

    async fn channel(&mut self, client: &str) -> Result<Channel, Fault> {
        if let Some(channel) = self.channels.get(client) {
            return Ok(channel.clone());
        }
        let connection = connection_of(client);
        if !self.connections.contains_key(connection) {
            let options = match self.users.contains(user_of(connection)) {
                true => self.options.clone().credentials(user_of(connection), PASSWORD),
                false => self.options.clone(),
            };
            let opened = Connection::connect(options).await.map_err(|error| match error {
                ConnectError::Refused(refusal) => {
                    Fault::Refused { code: refusal.code.number(), closed: Closed::Connection }
                }
                other => broken(other),
            })?;
            self.connections.insert(connection.to_owned(), opened);
        }
        let channel = self.connections[connection].channel().await?;
        self.channels.insert(client.to_owned(), channel.clone());
        Ok(channel)
    }

    /// After an error: whether the client can go on.
    async fn what_is_closed(&mut self, client: &str) -> Closed {
        let Some(channel) = self.channels.get(client) else { return Closed::Nothing };
        // Everybody may look who is there.
        if channel.find_queue("nobody").await.is_ok() {
            return Closed::Nothing;
        }
        match self.connections[connection_of(client)].channel().await {
            Ok(_) => Closed::Channel,
            Err(_) => Closed::Connection,
        }
    }

    /// What clients had that are gone.
    fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.consumers.retain(|_, consuming| !is_gone(&consuming.client));
        self.held.retain(|held| !is_gone(&held.client));
    }

    async fn get(
        &mut self,
        client: &str,
        channel: &Channel,
        queue: &str,
        no_ack: bool,
    ) -> Result<Seen, Fault> {
        let Some(got) = channel.get(queue, Get { no_ack }).await? else { return Ok(Seen::Nothing) };
        let mut received = received(&got.delivery)?;
        received.left = Some(got.messages_ready);
        if !no_ack {
            self.hold(client, None, queue, got.delivery);
        }
        Ok(Seen::Received(vec![received]))
    }

    async fn consume(&mut self, client: &str, channel: &Channel, consume: &Consume) -> Result<Seen, Fault> {
        let mut builder =
            channel.consume(&consume.queue).tag(&consume.consumer).prefetch(consume.prefetch.into());
        if let Some(priority) = consume.priority {
            builder = builder.priority(priority);
        }
        if consume.no_ack {
            builder = builder.no_ack();
        }
        if consume.exclusive {
            builder = builder.exclusive();
        }
        let consumer = builder.start().await?;
        let consuming = Consuming { client: client.to_owned(), consumer };
        self.consumers.insert(consume.consumer.clone(), consuming);
        Ok(Seen::Done)
    }

    async fn receive(&mut self, name: &str, count: usize) -> Result<Seen, Fault> {
        let mut messages = Vec::new();
        for _ in 0..count {
            let delivery = match self.consuming(name)?.consumer.next().await {
                Some(Ok(delivery)) => delivery,
                other => return Err(broken(format!("no delivery, but: {other:?}"))),
            };
            messages.push(received(&delivery)?);
            let Consuming { client, consumer } = self.consuming(name)?;
            let (client, queue) = (client.clone(), consumer.queue());
            self.hold(&client, Some(name), &queue, delivery);
        }
        Ok(Seen::Received(messages))
    }

    /// A delivery that has come or was on its way. What the queue had sent is there before the answers to requests that came
    /// after it.
    async fn waiting(&mut self, name: &str) -> Result<Option<Received>, Fault> {
        let Consuming { client, consumer } = self.consuming(name)?;
        let (client, queue) = (client.clone(), consumer.queue());
        let channel = self.channel(&client).await?;
        self.settle_down(&channel, &queue).await?;
        let mut next = std::pin::pin!(self.consuming(name)?.consumer.next());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match next.as_mut().poll(&mut context) {
            std::task::Poll::Pending | std::task::Poll::Ready(None | Some(Err(_))) => Ok(None),
            std::task::Poll::Ready(Some(Ok(delivery))) => Ok(Some(received(&delivery)?)),
        }
    }

    /// Asks the queue twice: the first answer comes after what the queue had still to do, the second after what that sent here.
    async fn settle_down(&self, channel: &Channel, queue: &str) -> Result<(), Fault> {
        for _ in 0..2 {
            channel.check_queue(queue).await?;
        }
        Ok(())
    }

    fn consuming(&mut self, name: &str) -> Result<&mut Consuming, Fault> {
        self.consumers.get_mut(name).ok_or_else(|| broken(format!("there is no consumer '{name}'")))
    }

    fn hold(&mut self, client: &str, consumer: Option<&str>, queue: &str, delivery: Delivery) {
        self.held.push(Held {
            client: client.to_owned(),
            consumer: consumer.map(str::to_owned),
            queue: queue.to_owned(),
            body: text_of(delivery.body()),
            delivery,
        });
    }

    async fn settle(&mut self, client: &str, channel: &Channel, settle: &Settle) -> Result<Seen, Fault> {
        let found = self.held.iter().rposition(|held| held.client == client && held.body == settle.body);
        // Settling takes the delivery: a second time is nothing that one could write.
        let Some(last) = found else { return Ok(Seen::CannotBeSaid) };
        let (consumer, queue) = (self.held[last].consumer.clone(), self.held[last].queue.clone());
        let mut settled: Vec<Held> = Vec::new();
        let mut kept = Vec::new();
        for (number, held) in std::mem::take(&mut self.held).into_iter().enumerate() {
            // "All before it" is all of one consumer.
            let is_before =
                settle.multiple && number < last && held.client == client && held.consumer == consumer;
            if number == last || is_before { settled.push(held) } else { kept.push(held) }
        }
        self.held = kept;
        for Held { delivery, .. } in settled {
            match settle.outcome {
                // That answers, so that a refusal is seen.
                Outcome::Ack if !settle.multiple => delivery.accept_stored().await,
                Outcome::Ack => delivery.accept(),
                Outcome::Nack { requeue: true } | Outcome::Reject { requeue: true } => delivery.requeue(),
                Outcome::Nack { .. } | Outcome::Reject { .. } => delivery.reject(),
            }?;
        }
        match self.settle_down(channel, &queue).await {
            // The queue may be gone, and with it what was to be settled.
            Err(Fault::Refused { code: 404, .. }) => Ok(Seen::Done),
            settled => settled.map(|()| Seen::Done),
        }
    }
}

fn connection_of(client: &str) -> &str {
    client.split('.').next().unwrap_or(client)
}

fn done(answer: Result<(), RequestError>) -> Result<Seen, Fault> {
    answer.map(|()| Seen::Done).map_err(Fault::from)
}

fn binding(bind: &super::play::Bind) -> Binding {
    let destination = match (&bind.queue, &bind.exchange) {
        (Some(queue), None) => Destination::Queue(queue.clone()),
        (None, Some(exchange)) => Destination::Exchange(exchange.clone()),
        _ => unreachable!("a binding has one destination"),
    };
    Binding {
        source: bind.from.clone(),
        destination,
        routing_key: bind.key.clone(),
        arguments: fields(&bind.arguments),
    }
}

/// All are sent before the first confirm is waited for.
async fn publish_all(channel: &Channel, publish: &Publish) -> Result<Seen, Fault> {
    let expiration = publish.properties.get("expiration").and_then(Value::as_str);
    if expiration.is_some_and(|text| text.parse::<u64>().is_err()) {
        // It is a number.
        return Ok(Seen::CannotBeSaid);
    }
    let mut builder = channel.publisher(&publish.to, &publish.key);
    if !publish.mandatory {
        builder = builder.not_mandatory();
    }
    let publisher = builder.open().await?;
    let mut confirms = Vec::new();
    for body in &publish.bodies {
        let properties = properties(&publish.properties, &publish.headers)?;
        let message = Message::new(body.clone()).with_properties(properties);
        confirms.push(publisher.publish(message).await?);
    }
    let mut fates = Vec::new();
    for confirm in confirms {
        fates.push(match confirm.await {
            Ok(_) => Fate::Confirmed,
            Err(ConfirmError::Returned(returned)) => {
                Fate::ReturnedThenConfirmed(returned.reason.code.number())
            }
            // What AMQP says with a negative confirm, without a reason.
            Err(ConfirmError::Refused(refusal)) if refusal.code == ReplyCode::ResourceError => Fate::Refused,
            Err(ConfirmError::Refused(refusal)) => {
                return Err(Fault::Refused { code: refusal.code.number(), closed: Closed::Nothing });
            }
            Err(error) => return Err(broken(error)),
        });
    }
    Ok(Seen::Fates(fates))
}

fn received(delivery: &Delivery) -> Result<Received, Fault> {
    let properties = delivery.properties().map_err(broken)?;
    let headers = properties.headers.iter().map(|(name, value)| (name.to_owned(), value_told(value)));
    Ok(Received {
        body: text_of(delivery.body()),
        redelivered: delivery.redelivered(),
        exchange: delivery.exchange().to_owned(),
        key: delivery.routing_key().to_owned(),
        headers: headers.collect(),
        properties: properties_told(&properties),
        left: None,
    })
}

fn properties(table: &Table, headers: &Table) -> Result<Properties, Fault> {
    let mut properties = Properties { headers: fields(headers), ..Properties::default() };
    for (name, value) in table {
        let text = || value.as_str().unwrap_or_default().to_owned();
        let number = || value.as_integer().unwrap_or_default();
        match name.as_str() {
            "content_type" => properties.content_type = text(),
            "content_encoding" => properties.content_encoding = text(),
            "correlation_id" => properties.correlation_id = text(),
            "reply_to" => properties.reply_to = text(),
            "message_id" => properties.message_id = text(),
            "type" => properties.kind = text(),
            "user_id" => properties.user_id = text(),
            "app_id" => properties.app_id = text(),
            "expiration" => properties.expiration_ms = text().parse().ok(),
            "priority" => properties.priority = number() as u8,
            "delivery_mode" => properties.delivery_mode = number() as u8,
            "timestamp" => properties.timestamp_ms = Some(number() as u64 * 1000),
            other => return Err(broken(format!("there is no property '{other}'"))),
        }
    }
    Ok(properties)
}

fn properties_told(properties: &Properties) -> BTreeMap<String, String> {
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("message_id", &properties.message_id),
        ("type", &properties.kind),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
    ];
    let numbers = [
        ("priority", u64::from(properties.priority)),
        ("delivery_mode", properties.delivery_mode.into()),
        ("timestamp", properties.timestamp_ms.unwrap_or_default() / 1000),
    ];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    let numbers = numbers.into_iter().filter(|(_, number)| *number != 0);
    let texts = texts.map(|(name, text)| (name.to_owned(), text.clone()));
    texts.chain(numbers.map(|(name, number)| (name.to_owned(), number.to_string()))).collect()
}

fn fields(table: &Table) -> FieldTable {
    FieldTable(table.iter().map(|(name, value)| (name.clone(), field(value))).collect())
}

fn field(value: &Value) -> FieldValue {
    match value {
        Value::String(text) => FieldValue::Text(text.clone()),
        Value::Integer(integer) => FieldValue::Integer(*integer),
        Value::Float(double) => FieldValue::Double(*double),
        Value::Boolean(boolean) => FieldValue::Boolean(*boolean),
        Value::Array(values) => FieldValue::List(values.iter().map(field).collect()),
        // TOML has no word for it.
        Value::Table(table) if table.contains_key("void") => FieldValue::Void,
        Value::Table(table) => FieldValue::Table(fields(table)),
        Value::Datetime(_) => panic!("times are not used in scenarios"),
    }
}

fn value_told(value: &FieldValue) -> String {
    match value {
        FieldValue::Void => "void".to_owned(),
        FieldValue::Text(text) => format!("'{text}'"),
        FieldValue::Integer(integer) => integer.to_string(),
        FieldValue::Double(double) => format!("{double:?}"),
        FieldValue::Boolean(boolean) => boolean.to_string(),
        FieldValue::List(values) => {
            format!("[{}]", values.iter().map(value_told).collect::<Vec<_>>().join(", "))
        }
        FieldValue::Table(table) => {
            let fields: Vec<_> =
                table.iter().map(|(name, value)| format!("{name}={}", value_told(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        // When it was depends on when that is asked.
        FieldValue::TimestampSeconds(_) => "a time".to_owned(),
        other => format!("{other:?}"),
    }
}

fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn broken(problem: impl ToString) -> Fault {
    Fault::Broken(problem.to_string())
}

fn refused(code: u16) -> Fault {
    // What it closed is looked at afterwards.
    Fault::Refused { code, closed: Closed::Nothing }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(refusal) => refused(refusal.code.number()),
            other => broken(other),
        }
    }
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        broken(error)
    }
}

impl From<SettleError> for Fault {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Refused(refusal) => refused(refusal.code.number()),
            other => broken(other),
        }
    }
}
