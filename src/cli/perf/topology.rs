//! The queues and exchange of a load.

use super::plan::{ExchangeType, Plan};
use crate::cli::failure::Failure;
use crate::client::{Binding, Channel, DeleteQueue, Exchange, Queue};

/// Header that a headers exchange routes by.
pub(super) const HEADER: &str = "perf";

/// What was declared, to be deleted.
pub(super) struct Topology {
    queues: Vec<String>,
    exchange: Option<String>,
}

impl Topology {
    pub(super) async fn declare(channel: &Channel, plan: &Plan) -> Result<Self, Failure> {
        let mut topology = Self { queues: Vec::new(), exchange: None };
        for queue in 0..plan.queues {
            let name = plan.queue_name(queue);
            let queue = Queue::new(&name);
            channel.declare_queue(if plan.transient { queue.transient() } else { queue }).await?;
            topology.queues.push(name);
        }
        let Some(kind) = plan.exchange else { return Ok(topology) };
        let name = plan.exchange_name();
        let exchange = Exchange::new(&name, kind.kind());
        channel.declare_exchange(if plan.transient { exchange.transient() } else { exchange }).await?;
        for queue in 0..plan.queues {
            let binding = Binding::to_queue(&name, plan.queue_name(queue), plan.key(queue));
            let binding = match kind {
                ExchangeType::Headers => binding.argument(HEADER, plan.key(queue).as_str()),
                _ => binding,
            };
            channel.bind(binding).await?;
        }
        for number in 0..plan.topic_bindings {
            channel.bind(Binding::to_queue(&name, plan.queue_name(0), idle_pattern(number))).await?;
        }
        topology.exchange = Some(name);
        Ok(topology)
    }

    pub(super) async fn delete(self, channel: &Channel) -> Result<(), Failure> {
        if let Some(exchange) = self.exchange {
            channel.delete_exchange(&exchange, false).await?;
        }
        for queue in self.queues {
            channel.delete_queue(&queue, DeleteQueue::default()).await?;
        }
        Ok(())
    }
}

/// A pattern that no key of a load matches, of the kinds that are in use elsewhere: exact, one word open, any words
/// open in front or behind.
fn idle_pattern(number: usize) -> String {
    match number % 4 {
        0 => format!("idle.{number}.a"),
        1 => format!("idle.*.{number}"),
        2 => format!("#.idle.{number}"),
        _ => format!("idle.{number}.#"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_differ() {
        let patterns: std::collections::BTreeSet<String> = (0..1000).map(idle_pattern).collect();
        assert_eq!(patterns.len(), 1000);
    }
}
