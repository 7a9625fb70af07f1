//! What a run needs on the broker: made before, deleted after, except what was there.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::plan::{Exchange, Plan};
use crate::cli::failure::Failure;
use crate::client::{
    Binding, Channel, DeleteExchange, DeleteQueue, PreparedProperties, Properties, Queue, RequestError,
};
use crate::model::{Durability, FieldTable, ReplyCode};

/// Requests under way at once.
const REQUESTS_MAX: usize = 256;

/// Header by which a headers exchange finds the queue.
const QUEUE_HEADER: &str = "perf-queue";

/// Queues and exchange of a run.
#[derive(Debug)]
pub(super) struct Topology {
    queues: Vec<String>,
    exchange: Option<(Exchange, String)>,
    /// Where the bindings lead that are only there to be many; nothing must ever arrive in it.
    bystander: Option<String>,
    /// Made by this run, so it may delete them.
    made_queues: Vec<String>,
    /// Ready messages that were in the queues before.
    pub(super) messages_before: u64,
    /// Others consume from the queue.
    pub(super) is_shared: bool,
    /// What a message in these queues gets at most.
    pub(super) durability: Durability,
}

/// How a message finds its queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Route {
    pub(super) routing_key: String,
    pub(super) properties: PreparedProperties,
}

impl Topology {
    /// Makes what the plan needs. `run` is part of all names.
    pub(super) async fn make(
        channel: &Channel,
        plan: &Plan,
        run: &str,
        offered: Durability,
    ) -> Result<Self, Failure> {
        let queues = match &plan.queue_name {
            Some(name) => vec![name.clone()],
            None => (0..plan.queues).map(|index| format!("perf-{run}-{index}")).collect(),
        };
        let mut topology = Self {
            queues,
            exchange: plan.exchange.map(|exchange| (exchange, format!("perf-{run}"))),
            bystander: (plan.topic_bindings > 0).then(|| format!("perf-{run}-bystander")),
            made_queues: Vec::new(),
            messages_before: 0,
            is_shared: false,
            durability: if plan.is_transient { Durability::Memory } else { offered },
        };
        let made = topology.make_all(channel, plan, offered).await;
        if made.is_err() {
            // What went wrong first is what people need to know.
            let _ = topology.delete(channel).await;
        }
        made.map(|()| topology)
    }

    async fn make_all(&mut self, channel: &Channel, plan: &Plan, offered: Durability) -> Result<(), Failure> {
        if plan.queue_name.is_some() && self.find_queue(channel, offered).await? {
            // It is somebody's: used as it is, and never deleted.
        } else if plan.is_drain() {
            let name = self.queue(0);
            return Err(Failure::new(format!("there is no queue '{name}' to drain"))
                .hint("`leveret perf --consumers 0 --keep --queue NAME` makes one and fills it"));
        } else {
            self.made_queues.clone_from(&self.queues);
            self.made_queues.extend(self.bystander.clone());
            let declare = |name: &String| {
                let queue = Queue { durable: !plan.is_transient, ..Queue::new(name) };
                (channel.clone(), queue)
            };
            let queues = self.made_queues.iter().map(declare);
            all(queues.map(|(channel, queue)| async move { channel.declare_queue(queue).await.map(drop) }))
                .await?;
        }
        let Some((kind, exchange)) = &self.exchange else { return Ok(()) };
        let declared = crate::client::Exchange::new(exchange, kind.kind());
        let declared = plan.allowed.iter().fold(declared, |declared, pattern| declared.allow(pattern));
        channel.declare_exchange(declared).await?;
        all(self.bindings(plan).into_iter().map(|binding| {
            let channel = channel.clone();
            async move { channel.bind(binding).await }
        }))
        .await
    }

    /// Whether the named queue is there; looks at what is in it.
    async fn find_queue(&mut self, channel: &Channel, offered: Durability) -> Result<bool, Failure> {
        let declared = match channel.check_queue(self.queue(0)).await {
            Ok(declared) => declared,
            Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.messages_before = declared.messages;
        self.is_shared = declared.consumers > 0;
        let entry = channel.find_queue(self.queue(0)).await?;
        let is_durable = entry.is_some_and(|entry| entry.durable);
        self.durability = if is_durable { offered } else { Durability::Memory };
        Ok(true)
    }

    fn bindings(&self, plan: &Plan) -> Vec<Binding> {
        let Some((kind, exchange)) = &self.exchange else { return Vec::new() };
        let to_queue = |(index, queue): (usize, &String)| {
            let binding = Binding::to_queue(exchange, queue, self.routing_key(index));
            match kind {
                Exchange::Headers => binding.argument(QUEUE_HEADER, index as i64).argument("x-match", "all"),
                Exchange::Direct | Exchange::Fanout | Exchange::Topic => binding,
            }
        };
        let mut bindings: Vec<Binding> = self.queues.iter().enumerate().map(to_queue).collect();
        if let Some(bystander) = &self.bystander {
            let patterns = (0..plan.topic_bindings).map(bystander_pattern);
            bindings.extend(patterns.map(|pattern| Binding::to_queue(exchange, bystander, pattern)));
        }
        bindings
    }

    pub(super) fn queue(&self, index: usize) -> &str {
        &self.queues[index]
    }

    /// Where producers publish; "" is the default exchange.
    pub(super) fn exchange(&self) -> &str {
        self.exchange.as_ref().map_or("", |(_, name)| name)
    }

    /// What leads a message to a queue.
    pub(super) fn route(&self, queue: usize) -> Result<Route, Failure> {
        let properties = match &self.exchange {
            Some((Exchange::Headers, _)) => {
                let headers = FieldTable::from([(QUEUE_HEADER, (queue as i64).into())]);
                PreparedProperties::new(&Properties { headers, ..Properties::default() })?
            }
            _ => PreparedProperties::default(),
        };
        Ok(Route { routing_key: self.routing_key(queue), properties })
    }

    fn routing_key(&self, queue: usize) -> String {
        match &self.exchange {
            None | Some((Exchange::Direct, _)) => self.queues[queue].clone(),
            Some((Exchange::Topic, _)) => format!("perf.queue.{queue}"),
            Some((Exchange::Fanout | Exchange::Headers, _)) => String::new(),
        }
    }

    /// Ready messages in the queues now.
    pub(super) async fn ready(&self, channel: &Channel) -> Result<u64, Failure> {
        let mut ready = 0;
        for queue in &self.queues {
            ready += channel.check_queue(queue).await?.messages;
        }
        Ok(ready)
    }

    /// Messages where none must be.
    pub(super) async fn strays(&self, channel: &Channel) -> Result<u64, Failure> {
        match &self.bystander {
            Some(queue) => Ok(channel.check_queue(queue).await?.messages),
            None => Ok(0),
        }
    }

    /// Deletes what this run has made.
    pub(super) async fn delete(&self, channel: &Channel) -> Result<(), Failure> {
        if let Some((_, exchange)) = &self.exchange {
            channel.delete_exchange(exchange, DeleteExchange::default()).await?;
        }
        let queues = self.made_queues.iter().map(|name| (channel.clone(), name.clone()));
        all(queues.map(|(channel, name)| async move {
            channel.delete_queue(&name, DeleteQueue::default()).await.map(drop)
        }))
        .await
    }
}

/// Patterns as applications have them, none of which matches a key that is published here.
fn bystander_pattern(index: usize) -> String {
    match index % 5 {
        0 => format!("stock.{index}.eu"),
        1 => format!("order.*.{index}"),
        2 => format!("sensor.{index}.#"),
        3 => format!("#.alarm.{index}"),
        _ => format!("*.region.{index}.*"),
    }
}

/// Makes requests, some at a time. The first failure ends it.
async fn all<R>(requests: impl Iterator<Item = R>) -> Result<(), Failure>
where
    R: Future<Output = Result<(), RequestError>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut under_way = JoinSet::new();
    for request in requests {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        under_way.spawn(async move {
            let result = request.await;
            drop(permit);
            result
        });
        while let Some(done) = under_way.try_join_next() {
            done.expect("a request does not panic")?;
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.expect("a request does not panic")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn patterns_differ_and_lead_away() {
        let patterns: BTreeSet<String> = (0..1000).map(bystander_pattern).collect();
        assert_eq!(patterns.len(), 1000);
        for pattern in patterns {
            let words: BTreeSet<&str> = pattern.split('.').collect();
            let literal = ["stock", "order", "sensor", "alarm", "region"];
            assert!(literal.iter().any(|word| words.contains(word)), "{pattern} might match perf.queue.N");
        }
    }
}
