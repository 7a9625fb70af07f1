//! Changes of what exists: queues and bindings come and go.

use super::access::{AccessChange, carry_out};
use super::activity;
use super::books::{Certainty, Finding, Link, QueueNumber, Stage};
use super::client::{Answer, CHANNEL, Pending};
use super::dying;
use super::limits::Limits;
use super::order;
use super::retained::Bounds;
use super::run::{EXCHANGES, EXCLUSIVE, FLEETING, PATTERNS, Run};
use super::subscribing::Joining;
use crate::broker::{Binding, Destination, QueueDeclaration, SealConditions};
use crate::model::{ExchangeName, FieldTable, QueueName, Refusal, RoutingKey};

/// A change of what exists, which somebody asked for.
#[derive(Debug, Clone)]
pub(super) enum Topology {
    Declare(QueueNumber),
    Delete(QueueNumber),
    Bind(Link),
    Unbind(Link),
    Subscribe(Joining),
    /// One of those who take part leaves, and its queue goes.
    Leave {
        subscription: usize,
        member: &'static str,
        queue: QueueNumber,
    },
    /// All of it goes, with its queues.
    Unsubscribe(usize),
    Access(AccessChange),
}

impl Run {
    pub(super) fn change_topology(&mut self) -> Result<(), Finding> {
        if self.is_topology_orphaned && !self.is_troubled && !self.is_full {
            return self.look();
        }
        if self.topology.is_some() {
            return Ok(());
        }
        if self.books.has_orphans() && !self.is_troubled && !self.is_full {
            return self.look();
        }
        let is_fading = self.books.queues.iter().any(|queue| queue.stage == Stage::Fading);
        if is_fading && !self.is_troubled && !self.is_full && self.random.one_in(3) {
            return self.wait_for_fading();
        }
        let Some(index) = self.some_client().filter(|index| self.clients[*index].session.takes_more()) else {
            return Ok(());
        };
        if self.random.one_in(8) {
            if let Some(change) = self.change_access() {
                self.topology = Some(change.clone());
                self.ask(index, change);
            }
            return Ok(());
        }
        if self.random.one_in(3) {
            if let Some(change) = self.change_subscription() {
                self.topology = Some(change.clone());
                self.ask(index, change);
            }
            return Ok(());
        }
        let name = self.some_name();
        let change = match self.books.queue_named(name) {
            None => {
                let queue = self.books.add_queue(name);
                if name == EXCLUSIVE {
                    self.books.queues[queue].owner = Some(self.clients[index].number);
                    self.clients[index].session.note_exclusive_queue();
                }
                Topology::Declare(queue)
            }
            Some(queue) if !self.books.queues[queue].stage.is_there() || !self.may_use(index, queue) => {
                return Ok(());
            }
            Some(queue) if self.random.one_in(8) => {
                // What was refused before stays refused.
                if self.books.queues[queue].stage == Stage::Staying {
                    return Ok(());
                }
                self.books.queues[queue].stage = Stage::Going;
                Topology::Delete(queue)
            }
            Some(queue) => {
                let link = Link {
                    exchange: EXCHANGES[self.random.below(3)],
                    key: PATTERNS[self.random.below(PATTERNS.len())],
                    queue,
                };
                let was_there = self.books.bindings.insert(link.clone(), Certainty::Maybe);
                match was_there {
                    Some(_) => Topology::Unbind(link),
                    None => Topology::Bind(link),
                }
            }
        };
        self.topology = Some(change.clone());
        self.ask(index, change);
        Ok(())
    }

    fn may_use(&self, index: usize, queue: QueueNumber) -> bool {
        self.books.queues[queue].owner.is_none_or(|owner| owner == self.clients[index].number)
    }

    fn ask(&mut self, index: usize, change: Topology) {
        let client = &mut self.clients[index];
        let request = client.request(Pending::Topology);
        self.trace.note(format_args!("client {} asks for {change:?}", client.number));
        let (broker, who) = (self.world.broker.clone(), client.session.identity().clone());
        let name = match &change {
            Topology::Declare(queue) | Topology::Delete(queue) => self.books.queues[*queue].name,
            Topology::Bind(link) | Topology::Unbind(link) => self.books.queues[link.queue].name,
            Topology::Subscribe(Joining { subscription, .. })
            | Topology::Leave { subscription, .. }
            | Topology::Unsubscribe(subscription) => self.books.subscriptions[*subscription].name,
            Topology::Access(_) => "",
        };
        let declaration_of = match &change {
            Topology::Subscribe(joining) => {
                Some(joining.declaration(&self.books.subscriptions[joining.subscription]))
            }
            _ => None,
        };
        client.session.carry_out(CHANNEL, request, async move {
            if let Some(declaration) = declaration_of {
                return broker.subscribe(&who, declaration).await.map(|_| Answer::Declared);
            }
            match change {
                Topology::Subscribe(_) => Ok(Answer::Declared),
                Topology::Access(change) => carry_out(&broker, &who, change).await.map(|()| Answer::Declared),
                Topology::Leave { member, .. } => broker
                    .unsubscribe(&who, name.to_owned(), member.to_owned())
                    .await
                    .map(|_| Answer::Deleted),
                Topology::Unsubscribe(_) => {
                    broker.unsubscribe(&who, name.to_owned(), String::new()).await.map(|_| Answer::Deleted)
                }
                Topology::Declare(_) => {
                    broker.declare_queue(&who, declaration(name)).await.map(|_| Answer::Declared)
                }
                Topology::Delete(_) => {
                    let conditions = SealConditions { if_unused: false, if_empty: false };
                    broker.delete_queue(&who, name.to_owned(), conditions).await.map(|_| Answer::Deleted)
                }
                Topology::Bind(link) => broker.bind(&who, binding(&link, name)).await.map(|()| Answer::Bound),
                Topology::Unbind(link) => {
                    broker.unbind(&who, binding(&link, name)).await.map(|()| Answer::Unbound)
                }
            }
        });
    }

    /// A request to change what exists was answered.
    pub(super) fn topology_answered(&mut self, answer: Result<Answer, Refusal>) -> Result<(), Finding> {
        let Some(change) = self.topology.take() else { return Ok(()) };
        let is_done = answer.is_ok();
        if let Err(refusal) = answer
            && !self.is_troubled
            && !self.is_full
            && !self.disk.is_powered_off()
            && !matches!(&change, Topology::Subscribe(joining) if self.may_be_missing(joining))
        {
            return Err(format!("{change:?} was refused without need: {refusal}"));
        }
        match change {
            Topology::Declare(queue) => {
                self.books.queues[queue].stage = if is_done { Stage::There } else { Stage::Refused }
            }
            Topology::Delete(queue) if is_done => self.books.queue_gone(queue),
            Topology::Delete(queue) => self.books.queues[queue].stage = Stage::Staying,
            Topology::Bind(link) if is_done => drop(self.books.bindings.insert(link, Certainty::Sure)),
            Topology::Unbind(link) if is_done => drop(self.books.bindings.remove(&link)),
            // It may be there after a restart.
            Topology::Bind(_) | Topology::Unbind(_) => {}
            Topology::Subscribe(joining) => self.subscribed(joining, is_done),
            Topology::Access(change) => {
                self.books.access.answered(is_done);
                self.count_access(&change, is_done);
            }
            Topology::Leave { queue, .. } => self.left_subscription(queue, is_done),
            Topology::Unsubscribe(subscription) => self.unsubscribed(subscription, is_done),
        }
        self.counters.topology += u64::from(is_done);
        Ok(())
    }
}

fn declaration(name: &str) -> QueueDeclaration {
    let mut arguments = Bounds::of(name).map(|bounds| bounds.arguments()).unwrap_or_default();
    Limits::of(name).put_into(&mut arguments);
    activity::put_into(name, &mut arguments);
    dying::put_into(name, &mut arguments);
    order::put_into(name, &mut arguments);
    QueueDeclaration {
        name: QueueName::new(name).expect("a name of the simulation's"),
        durable: !FLEETING.contains(&name),
        exclusive: name == EXCLUSIVE,
        auto_delete: false,
        arguments,
    }
}

fn binding(link: &Link, queue: &str) -> Binding {
    Binding {
        source: ExchangeName::new(link.exchange).expect("a name of the simulation's"),
        destination: Destination::Queue(QueueName::new(queue).expect("a name of the simulation's")),
        key: RoutingKey::new(link.key).expect("a key of the simulation's"),
        arguments: FieldTable::default(),
    }
}
