//! What was declared over a connection, to be declared again when the connection was made again.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::wire::pb;

/// A change that the server has carried out.
#[derive(Debug)]
pub(super) enum Change {
    ExchangeDeclared(pb::DeclareExchange),
    ExchangeDeleted(String),
    QueueDeclared(pb::DeclareQueue),
    QueueDeleted(String),
    Bound(pb::Binding),
    Unbound(pb::Binding),
}

/// Exchanges, queues and bindings, as they were asked for. Grows with what the application declares and does not delete.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    exchanges: BTreeMap<String, pb::DeclareExchange>,
    /// By the name they have, which is the server's where none was asked for.
    queues: BTreeMap<String, pb::DeclareQueue>,
    /// By their encoding: all fields together are a binding's identity.
    bindings: BTreeMap<Vec<u8>, pb::Binding>,
}

impl Recorded {
    /// Notes a change and the server's answer to it.
    pub(super) fn apply(&mut self, change: Change, answer: &pb::frame::Body) {
        match change {
            Change::ExchangeDeclared(exchange) => {
                self.exchanges.insert(exchange.name.clone(), exchange);
            }
            Change::ExchangeDeleted(name) => {
                self.exchanges.remove(&name);
                self.bindings.retain(|_, binding| {
                    let is_destination = is_to(binding, pb::DestinationKind::Exchange, &name);
                    binding.source != name && !is_destination
                });
            }
            Change::QueueDeclared(queue) => {
                if let pb::frame::Body::QueueDeclared(declared) = answer {
                    self.queues.insert(declared.name.clone(), queue);
                }
            }
            Change::QueueDeleted(name) => {
                self.queues.remove(&name);
                self.bindings.retain(|_, binding| !is_to(binding, pb::DestinationKind::Queue, &name));
            }
            Change::Bound(binding) => {
                self.bindings.insert(binding.encode_to_vec(), binding);
            }
            Change::Unbound(binding) => {
                self.bindings.remove(&binding.encode_to_vec());
            }
        }
    }

    pub(super) fn exchanges(&self) -> impl Iterator<Item = &pb::DeclareExchange> {
        self.exchanges.values()
    }

    /// Names and what was asked for.
    pub(super) fn queues(&self) -> impl Iterator<Item = (&str, &pb::DeclareQueue)> {
        self.queues.iter().map(|(name, queue)| (name.as_str(), queue))
    }

    pub(super) fn bindings(&self) -> impl Iterator<Item = &pb::Binding> {
        self.bindings.values()
    }

    /// A queue that the server names has another name now; its bindings follow.
    pub(super) fn rename_queue(&mut self, old: &str, new: &str) {
        if let Some(queue) = self.queues.remove(old) {
            self.queues.insert(new.to_owned(), queue);
        }
        let bindings = std::mem::take(&mut self.bindings).into_values().map(|mut binding| {
            if is_to(&binding, pb::DestinationKind::Queue, old) {
                binding.destination = new.to_owned();
            }
            (binding.encode_to_vec(), binding)
        });
        self.bindings = bindings.collect();
    }
}

fn is_to(binding: &pb::Binding, kind: pb::DestinationKind, name: &str) -> bool {
    binding.destination_kind() == kind && binding.destination == name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(name: &str) -> Change {
        Change::ExchangeDeclared(pb::DeclareExchange { name: name.to_owned(), ..Default::default() })
    }

    fn binding(source: &str, kind: pb::DestinationKind, destination: &str) -> pb::Binding {
        pb::Binding {
            source: source.to_owned(),
            destination: destination.to_owned(),
            destination_kind: kind.into(),
            ..Default::default()
        }
    }

    fn declare_queue(recorded: &mut Recorded, asked: &str, given: &str) {
        let queue = pb::DeclareQueue { name: asked.to_owned(), ..Default::default() };
        let answer = pb::QueueDeclared { name: given.to_owned(), ..Default::default() };
        recorded.apply(Change::QueueDeclared(queue), &pb::frame::Body::QueueDeclared(answer));
    }

    fn described(recorded: &Recorded) -> String {
        let exchanges: Vec<_> = recorded.exchanges().map(|exchange| exchange.name.clone()).collect();
        let queues: Vec<_> =
            recorded.queues().map(|(name, asked)| format!("{name}={}", asked.name)).collect();
        let bindings: Vec<_> = recorded
            .bindings()
            .map(|binding| format!("{}>{}", binding.source, binding.destination))
            .collect();
        format!("{} | {} | {}", exchanges.join(" "), queues.join(" "), bindings.join(" "))
    }

    #[test]
    fn follows_declarations_deletions_and_new_names() {
        let done = pb::frame::Body::Done(pb::Done {});
        let mut recorded = Recorded::default();
        for name in ["a", "b", "a"] {
            recorded.apply(exchange(name), &done);
        }
        declare_queue(&mut recorded, "q", "q");
        declare_queue(&mut recorded, "", "amq.gen-1");
        let to_queue = pb::DestinationKind::Queue;
        let bindings = [
            binding("a", to_queue, "q"),
            binding("a", to_queue, "amq.gen-1"),
            binding("b", pb::DestinationKind::Exchange, "a"),
            binding("b", to_queue, "q"),
            binding("b", to_queue, "a"),
        ];
        for bound in &bindings {
            recorded.apply(Change::Bound(bound.clone()), &done);
            recorded.apply(Change::Bound(bound.clone()), &done);
        }
        assert_eq!(described(&recorded), "a b | amq.gen-1= q=q | a>q b>a b>q a>amq.gen-1 b>a");
        recorded.rename_queue("amq.gen-1", "amq.gen-2");
        assert_eq!(described(&recorded), "a b | amq.gen-2= q=q | a>q b>a b>q a>amq.gen-2 b>a");
        recorded.apply(Change::Unbound(bindings[3].clone()), &done);
        recorded.apply(Change::ExchangeDeleted("a".to_owned()), &done);
        assert_eq!(
            described(&recorded),
            "b | amq.gen-2= q=q | b>a",
            "only the binding to the queue 'a' is left"
        );
        recorded.apply(Change::QueueDeleted("q".to_owned()), &done);
        assert_eq!(described(&recorded), "b | amq.gen-2= | b>a");
    }
}
