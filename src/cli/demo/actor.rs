//! Somebody who takes part: a client with a connection of its own, that does what its play says about what it hears.

use std::collections::BTreeMap;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use super::play::{Actor, Event, Heard, Place, Play, Step};
use crate::cli::did_you_mean;
use crate::cli::failure::{Failure, field_at_fault};
use crate::client::{
    Channel, ConfirmError, ConnectOptions, Connection, Consumer, Delivery, Entity, Exchange, ExchangeKind,
    Message, Publisher, ReplyCode, RequestError, SettleError, Subscription,
};
use crate::model::FieldTable;

/// A line that somebody said, or why nothing more is to be heard.
pub(super) struct Said {
    pub(super) actor: &'static str,
    pub(super) line: Result<String, Failure>,
}

/// Asks an actor to accept what it has in hand.
struct SettleAll;

/// An actor that has come.
pub(super) struct Player {
    connection: Connection,
    pub(super) mouth: Mouth,
    orders: Sender<SettleAll>,
    task: JoinHandle<()>,
}

impl Player {
    /// Comes: makes what is not there yet of what the play needs, and listens. So it does not matter who comes first.
    pub(super) async fn start(
        play: &Play,
        actor: &Actor,
        options: ConnectOptions,
        said: Sender<Said>,
    ) -> Result<Self, Failure> {
        let connection = Connection::connect(options.connection_name(actor.name)).await?;
        let channel = connection.channel().await?;
        lay(play, &channel).await?;
        let consumer = match actor.listens {
            None => None,
            Some((name, member)) => {
                let subscription = match member {
                    Some(member) => Subscription::new(name).member(member),
                    None => Subscription::new(name),
                };
                Some(channel.subscribe(subscription).prefetch(1).tag(actor.name).start().await?)
            }
        };
        let (orders, ordered) = self::channel(1);
        let mouth = Mouth { channel: channel.clone(), publishers: BTreeMap::new() };
        let ear = Ear {
            actor: actor.name,
            react: play.react,
            mouth: Mouth { channel, publishers: BTreeMap::new() },
            said,
            held: Vec::new(),
        };
        let task = tokio::spawn(ear.run(consumer, ordered));
        Ok(Self { connection, mouth, orders, task })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Accepts what it has in hand.
    pub(super) async fn settle(&self) -> Result<(), Failure> {
        self.orders.send(SettleAll).await.map_err(|_| Failure::new("the actor is gone"))
    }

    /// Goes. What it had in hand goes back to where it came from.
    pub(super) async fn leave(self) -> Result<(), Failure> {
        self.task.abort();
        // It was told to stop: how far it came does not matter.
        let _ = self.task.await;
        drop(self.mouth);
        Ok(self.connection.close().await?)
    }
}

/// Makes the exchanges and subscriptions of a play that are not there. Those that are there stay as they are, whoever has
/// changed them.
async fn lay(play: &Play, channel: &Channel) -> Result<(), RequestError> {
    for plan in &play.exchanges {
        let exchange = Exchange::new(plan.name, ExchangeKind::Topic);
        let exchange = plan.allow.iter().fold(exchange, |exchange, pattern| exchange.allow(pattern));
        channel.declare_exchange(exchange).await?;
    }
    for plan in &play.subscriptions {
        if !channel.find_subscription(plan.name).await?.is_empty() {
            continue;
        }
        let subscription = listening(Subscription::new(plan.name), plan.listens);
        if plan.members.is_empty() {
            channel.declare_subscription(subscription.clone()).await?;
        }
        for member in plan.members {
            channel.declare_subscription(subscription.clone().member(*member)).await?;
        }
    }
    Ok(())
}

/// A subscription that listens to these places.
pub(super) fn listening(subscription: Subscription, places: &[Place]) -> Subscription {
    places.iter().fold(subscription, |subscription, (exchange, key)| subscription.listen(*exchange, *key))
}

/// What publishes for an actor.
pub(super) struct Mouth {
    pub(super) channel: Channel,
    publishers: BTreeMap<&'static str, Publisher>,
}

/// What became of an event.
pub(super) enum Outcome {
    /// It is in so many queues.
    Confirmed(u32),
    /// Nobody listens.
    Returned,
    /// It is not taken, for this reason.
    Refused(String),
}

impl Mouth {
    pub(super) async fn publish(&mut self, event: &Event) -> Result<Outcome, Failure> {
        let publisher = match self.publishers.get(event.exchange) {
            Some(publisher) => publisher.clone(),
            None => {
                let publisher = self.channel.publisher(event.exchange, "").open().await?;
                self.publishers.insert(event.exchange, publisher.clone());
                publisher
            }
        };
        let message = Message::new(event.body.clone()).routing_key(&event.key).message_id(&event.id);
        match publisher.publish(message).await?.await {
            Ok(confirmed) => Ok(Outcome::Confirmed(confirmed.queues)),
            Err(ConfirmError::Returned(_)) => Ok(Outcome::Returned),
            Err(ConfirmError::Refused(refusal)) if refusal.code == ReplyCode::NotFound => {
                let failure = Failure::new(format!("there is no exchange '{}'", event.exchange))
                    .for_lack_of(Entity::Exchange, event.exchange);
                Ok(Outcome::Refused(did_you_mean::suggest(&self.channel, failure).await.text()))
            }
            Err(ConfirmError::Refused(refusal)) => {
                let fault = field_at_fault(&refusal).unwrap_or_else(|| refusal.text.clone());
                let hint = Some(format!("; {}", refusal.hint)).filter(|_| !refusal.hint.is_empty());
                Ok(Outcome::Refused(fault + &hint.unwrap_or_default()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an exchange takes events with a key, in words.
    async fn ask(&self, (exchange, key): Place) -> Result<String, Failure> {
        let explained = self.channel.explain(exchange, key, &FieldTable::default()).await?;
        let refused = explained.exchanges.first().and_then(|exchange| exchange.refused.as_deref());
        Ok(match refused {
            Some(reason) => format!("cannot listen to {exchange}/{key}: {reason}"),
            None => format!("listens to {exchange}/{key}"),
        })
    }
}

/// What listens for an actor, and does what it does.
struct Ear {
    actor: &'static str,
    react: fn(&str, &Heard) -> Vec<Step>,
    mouth: Mouth,
    said: Sender<Said>,
    held: Vec<(String, Delivery)>,
}

impl Ear {
    async fn run(mut self, consumer: Option<Consumer>, orders: Receiver<SettleAll>) {
        if let Err(failure) = self.listen(consumer, orders).await {
            self.tell(Err(failure)).await;
        }
    }

    async fn tell(&self, line: Result<String, Failure>) {
        // The stage is gone if a demo has failed already: it has told why.
        let _ = self.said.send(Said { actor: self.actor, line }).await;
    }

    async fn listen(
        &mut self,
        consumer: Option<Consumer>,
        mut orders: Receiver<SettleAll>,
    ) -> Result<(), Failure> {
        let (_, lines) = self.react(&Heard::Start).await?;
        self.tell_all(lines).await;
        let Some(mut consumer) = consumer else { return Ok(()) };
        loop {
            tokio::select! {
                delivery = consumer.next() => match delivery {
                    Some(delivery) => self.take(delivery?).await?,
                    None => return Ok(()),
                },
                order = orders.recv() => match order {
                    Some(SettleAll) => self.settle_all().await?,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn take(&mut self, delivery: Delivery) -> Result<(), Failure> {
        let id = delivery.properties()?.message_id;
        let heard = Heard::Event {
            key: delivery.routing_key().to_owned(),
            id: id.clone(),
            body: String::from_utf8_lossy(delivery.body()).into_owned(),
            again: delivery.redelivered(),
        };
        let (holds, lines) = self.react(&heard).await?;
        match holds {
            true => self.held.push((id, delivery)),
            false => self.accept(delivery).await?,
        }
        self.tell_all(lines).await;
        Ok(())
    }

    /// Accepts; if the broker was gone before it took note of that, the event comes again.
    async fn accept(&self, delivery: Delivery) -> Result<(), Failure> {
        match delivery.accept_stored().await {
            Err(SettleError::Stale | SettleError::Unknown(_)) => {
                self.tell(Ok("the broker was gone before I was done".to_owned())).await;
                Ok(())
            }
            settled => Ok(settled?),
        }
    }

    async fn settle_all(&mut self) -> Result<(), Failure> {
        for (id, delivery) in std::mem::take(&mut self.held) {
            self.accept(delivery).await?;
            let (_, lines) = self.react(&Heard::Settled { id }).await?;
            self.tell_all(lines).await;
        }
        Ok(())
    }

    /// Does what is to be done; whether the event stays in hand, and what is to be said.
    async fn react(&mut self, heard: &Heard) -> Result<(bool, Vec<String>), Failure> {
        let (mut holds, mut lines) = (false, Vec::new());
        for step in (self.react)(self.actor, heard) {
            match step {
                Step::Say(line) => lines.push(line),
                Step::Hold => holds = true,
                Step::Ask(place) => lines.push(self.mouth.ask(place).await?),
                Step::Publish(event) => match self.mouth.publish(&event).await? {
                    Outcome::Confirmed(_) => {}
                    Outcome::Returned => {
                        lines.push(format!("nobody listens to {}/{}", event.exchange, event.key))
                    }
                    Outcome::Refused(reason) => lines.push(format!("refused: {reason}")),
                },
            }
        }
        Ok((holds, lines))
    }

    async fn tell_all(&self, lines: Vec<String>) {
        for line in lines {
            self.tell(Ok(line)).await;
        }
    }
}
