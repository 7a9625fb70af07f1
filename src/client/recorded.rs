//! What was declared over a connection, to be declared again when the connection was made again.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use crate::wire::pb;

/// A change that the server has carried out.
#[derive(Debug)]
pub(super) enum Change {
    ExchangeDeclared(pb::DeclareExchange),
    ExchangeAltered(pb::AlterExchange),
    ExchangeDeleted(String),
    QueueDeclared(pb::DeclareQueue),
    QueueAltered(pb::AlterQueue),
    QueueDeleted(String),
    Bound(pb::Binding),
    Unbound(pb::Binding),
    Subscribed(pb::Subscribe),
    Unsubscribed(pb::Unsubscribe),
}

/// Exchanges, queues and bindings, as they were asked for. Grows with what the application declares and does not delete. What
/// the server deletes by itself is struck off as far as it can be told from here: an exchange that goes with its last binding,
/// by the bindings made here; a queue that goes with its last consumer, by [`Recorded::forget_queue`].
#[derive(Debug, Default)]
pub(super) struct Recorded {
    exchanges: BTreeMap<String, pb::DeclareExchange>,
    /// By the name they have, which is the server's where none was asked for.
    queues: BTreeMap<String, pb::DeclareQueue>,
    /// By their encoding: all fields together are a binding's identity.
    bindings: BTreeMap<Vec<u8>, pb::Binding>,
    /// By the queues that are consumed from.
    subscriptions: BTreeMap<String, pb::Subscribe>,
}

impl Recorded {
    /// Notes a change and the server's answer to it.
    pub(super) fn apply(&mut self, change: Change, answer: &pb::frame::Body) {
        match change {
            Change::ExchangeDeclared(exchange) => {
                self.exchanges.insert(exchange.name.clone(), exchange);
            }
            // One that was declared over this connection is declared again as it is now.
            Change::ExchangeAltered(pb::AlterExchange { name, arguments, remove, .. }) => {
                let Some(exchange) = self.exchanges.get_mut(&name) else { return };
                let fields = &mut exchange.arguments.get_or_insert_default().fields;
                fields.retain(|name, _| !remove.contains(name));
                fields.extend(arguments.unwrap_or_default().fields);
            }
            Change::ExchangeDeleted(name) => self.forget_exchange(&name),
            Change::QueueDeclared(queue) => {
                if let pb::frame::Body::QueueDeclared(declared) = answer {
                    self.queues.insert(declared.name.clone(), queue);
                }
            }
            // As above.
            Change::QueueAltered(pb::AlterQueue { name, arguments, remove, .. }) => {
                let Some(queue) = self.queues.get_mut(&name) else { return };
                let fields = &mut queue.arguments.get_or_insert_default().fields;
                fields.retain(|name, _| !remove.contains(name));
                fields.extend(arguments.unwrap_or_default().fields);
            }
            Change::QueueDeleted(name) => self.forget_queue(&name),
            Change::Bound(binding) => {
                self.bindings.insert(binding.encode_to_vec(), binding);
            }
            Change::Unbound(binding) => {
                self.bindings.remove(&binding.encode_to_vec());
                self.forget_if_unbound(&binding.source);
            }
            Change::Subscribed(subscribe) => {
                if let pb::frame::Body::Subscribed(subscribed) = answer
                    && !subscribed.queue.is_empty()
                {
                    // What others change in the meantime is not for this one to change back.
                    let again = pb::Subscribe { keep: true, ..subscribe };
                    self.subscriptions.insert(subscribed.queue.clone(), again);
                }
            }
            Change::Unsubscribed(pb::Unsubscribe { name, member }) => {
                let stays =
                    |one: &pb::Subscribe| one.name != name || !(member.is_empty() || one.member == member);
                self.subscriptions.retain(|_, one| stays(one));
            }
        }
    }

    /// A queue is gone, and its bindings with it.
    pub(super) fn forget_queue(&mut self, name: &str) {
        self.queues.remove(name);
        self.subscriptions.remove(name);
        self.remove_bindings(|binding| is_to(binding, pb::DestinationKind::Queue, name));
    }

    fn forget_exchange(&mut self, name: &str) {
        self.exchanges.remove(name);
        self.remove_bindings(|binding| {
            binding.source == name || is_to(binding, pb::DestinationKind::Exchange, name)
        });
    }

    fn remove_bindings(&mut self, is_gone: impl Fn(&pb::Binding) -> bool) {
        let mut sources = BTreeSet::new();
        self.bindings.retain(|_, binding| {
            let gone = is_gone(binding);
            if gone {
                sources.insert(binding.source.clone());
            }
            !gone
        });
        for source in sources {
            self.forget_if_unbound(&source);
        }
    }

    /// An exchange that goes with its last binding is gone when it has none.
    fn forget_if_unbound(&mut self, exchange: &str) {
        let goes = self.exchanges.get(exchange).is_some_and(|exchange| exchange.auto_delete);
        if goes && !self.bindings.values().any(|binding| binding.source == exchange) {
            self.forget_exchange(exchange);
        }
    }

    /// What was asked for to make a queue of this name.
    pub(super) fn queue(&self, name: &str) -> Option<&pb::DeclareQueue> {
        self.queues.get(name)
    }

    /// Bindings to a queue.
    pub(super) fn bindings_to(&self, queue: &str) -> impl Iterator<Item = &pb::Binding> {
        self.bindings.values().filter(move |binding| is_to(binding, pb::DestinationKind::Queue, queue))
    }

    pub(super) fn exchanges(&self) -> impl Iterator<Item = &pb::DeclareExchange> {
        self.exchanges.values()
    }

    /// Names and what was asked for.
    pub(super) fn queues(&self) -> impl Iterator<Item = (&str, &pb::DeclareQueue)> {
        self.queues.iter().map(|(name, queue)| (name.as_str(), queue))
    }

    /// Their queues, and what was asked for.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = (&str, &pb::Subscribe)> {
        self.subscriptions.iter().map(|(queue, subscribe)| (queue.as_str(), subscribe))
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
        assert_eq!(described(&recorded), "a b | amq.gen-1= q=q | a>q a>amq.gen-1 b>a b>a b>q");
        recorded.rename_queue("amq.gen-1", "amq.gen-2");
        assert_eq!(described(&recorded), "a b | amq.gen-2= q=q | a>q a>amq.gen-2 b>a b>a b>q");
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

    #[test]
    fn exchanges_that_go_with_their_last_binding_are_forgotten_with_it() {
        let done = pb::frame::Body::Done(pb::Done {});
        let (to_queue, to_exchange) = (pb::DestinationKind::Queue, pb::DestinationKind::Exchange);
        let mut recorded = Recorded::default();
        for (name, auto_delete) in [("top", false), ("middle", true), ("last", true), ("unbound", true)] {
            let declared = pb::DeclareExchange { name: name.to_owned(), auto_delete, ..Default::default() };
            recorded.apply(Change::ExchangeDeclared(declared), &done);
        }
        declare_queue(&mut recorded, "q", "q");
        declare_queue(&mut recorded, "r", "r");
        let bindings = [
            binding("top", to_exchange, "middle"),
            binding("middle", to_exchange, "last"),
            binding("last", to_queue, "q"),
            binding("last", to_queue, "r"),
        ];
        for bound in &bindings {
            recorded.apply(Change::Bound(bound.clone()), &done);
        }
        recorded.apply(Change::Unbound(bindings[3].clone()), &done);
        assert_eq!(described(&recorded), "last middle top unbound | q=q r=r | top>middle last>q middle>last");
        recorded.forget_queue("q");
        assert_eq!(described(&recorded), "top unbound | r=r | ", "one goes with the other");
    }
}
