//! The routing state of one virtual host.

use std::sync::Arc;

use crate::model::{ExchangeName, QueueName, VhostName};

use super::{
    Binding, BindingPosition, Destination, ExchangeDefinition, Explanation, MessageHeaders, QueueTarget,
    RouteError, Routed,
};
use crate::model::FieldTable;

/// Exchanges with their bindings, and the queues they lead to, of one virtual host.
///
/// A value: clones are cheap (O(1)) and share structure, a later change to one does not show in the other. So the
/// owner changes its copy and publishes a clone, and readers route on it without locks. A change costs O(log n).
///
/// Changes are deterministic and cannot fail: the owner asks the `check_*` functions first.
#[derive(Debug, Clone)]
pub struct RoutingTable {
    vhost: VhostName,
}

/// An exchange in the table.
#[derive(Debug, Clone)]
pub struct ExchangeEntry {
    definition: Arc<ExchangeDefinition>,
    bindings: usize,
}

impl ExchangeEntry {
    /// As it was declared.
    pub fn definition(&self) -> &Arc<ExchangeDefinition> {
        &self.definition
    }

    /// Number of bindings with this exchange as their source.
    pub fn bindings_count(&self) -> usize {
        self.bindings
    }
}

/// What became of a binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The binding is new.
    Added,
    /// An equal one was there; nothing changed.
    AlreadyThere,
    /// There is no such source exchange; nothing changed.
    NoSource,
    /// There is no such destination; nothing changed.
    NoDestination,
}

/// What a removal took with it.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// The bindings that are gone.
    pub bindings: Vec<Arc<Binding>>,
    /// Auto-delete exchanges that lost their last binding as a source, in order of name. They are still there:
    /// the caller removes them, which may name further ones.
    pub unused_exchanges: Vec<ExchangeName>,
}

impl RoutingTable {
    /// A table with the default exchange and the predeclared ones: amq.direct, amq.fanout, amq.headers, amq.match
    /// and amq.topic.
    pub fn new(vhost: VhostName) -> Self {
        Self { vhost }
    }

    /// The virtual host it belongs to.
    pub fn vhost(&self) -> &VhostName {
        &self.vhost
    }

    /// Adds an exchange. False, and nothing changed, if there is one of that name.
    pub fn insert_exchange(&mut self, _definition: ExchangeDefinition) -> bool {
        todo!()
    }

    /// Removes an exchange and its bindings on both sides. `None` if there is none, or if it is the default exchange.
    pub fn remove_exchange(&mut self, _name: &str) -> Option<Removed> {
        todo!()
    }

    /// Adds a queue, or moves it to another target; its bindings then lead there.
    pub fn insert_queue(&mut self, _name: QueueName, _target: QueueTarget) {
        todo!()
    }

    /// Removes a queue and its bindings. `None` if there is none.
    pub fn remove_queue(&mut self, _name: &str) -> Option<Removed> {
        todo!()
    }

    /// Adds a binding.
    pub fn bind(&mut self, _binding: Binding) -> Bound {
        todo!()
    }

    /// Removes a binding. `None` if there is none.
    pub fn unbind(&mut self, _binding: &Binding) -> Option<Removed> {
        todo!()
    }

    /// Finds the queues for a message published by a client. `out` is overwritten, also on error.
    ///
    /// # Errors
    /// See [`RouteError`]; reaching no queue is none.
    pub fn route(
        &self,
        _exchange: &str,
        _key: &str,
        _headers: &mut dyn MessageHeaders,
        _out: &mut Routed,
    ) -> Result<(), RouteError> {
        todo!()
    }

    /// Tells the way of a message, without any effect. Costs time in proportion to the bindings of the exchanges
    /// on the way, so it does not belong on a hot path. Also explains internal exchanges.
    ///
    /// # Errors
    /// [`RouteError::NoSuchExchange`], [`RouteError::KeyTooLong`].
    pub fn explain(
        &self,
        _exchange: &str,
        _key: &str,
        _headers: Option<&FieldTable>,
    ) -> Result<Explanation, RouteError> {
        todo!()
    }

    /// An exchange.
    pub fn exchange(&self, _name: &str) -> Option<&ExchangeEntry> {
        todo!()
    }

    /// Exchanges in order of name, from the first one after `after`.
    pub fn exchanges(&self, _after: Option<&str>) -> impl Iterator<Item = &ExchangeEntry> {
        std::iter::empty()
    }

    /// Number of exchanges, the default exchange and the predeclared ones included.
    pub fn exchanges_count(&self) -> usize {
        todo!()
    }

    /// Where a queue lives.
    pub fn queue(&self, _name: &str) -> Option<QueueTarget> {
        todo!()
    }

    /// Number of queues.
    pub fn queues_count(&self) -> usize {
        todo!()
    }

    /// Bindings in order of their positions, from the first one after `after`. The default exchange has none: that
    /// it leads to each queue under the queue's name is not written down.
    pub fn bindings(&self, _after: Option<&BindingPosition>) -> impl Iterator<Item = &Arc<Binding>> {
        std::iter::empty()
    }

    /// Bindings with this exchange as their source, in order.
    pub fn bindings_from(&self, _source: &str) -> impl Iterator<Item = &Arc<Binding>> {
        std::iter::empty()
    }

    /// Bindings that lead to this queue or exchange, in order.
    pub fn bindings_to(&self, _destination: &Destination) -> impl Iterator<Item = &Arc<Binding>> {
        std::iter::empty()
    }

    /// Whether this very binding is there.
    pub fn has_binding(&self, _binding: &Binding) -> bool {
        todo!()
    }

    /// Number of bindings.
    pub fn bindings_count(&self) -> usize {
        todo!()
    }
}
