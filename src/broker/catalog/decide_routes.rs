//! Which exchanges and bindings may be.

use super::catalog::{Catalog, Changed, VhostState};
use super::decide_subscriptions::check_own_queue;
use super::entry::Entry;
use super::queue_checks::check_owner;
use super::request::Alteration;
use crate::auth::{Access, Permission};
use crate::broker::access::check_new_exchange;
use crate::model::{ConnectionId, Entity, Refusal, ReplyCode, VhostName};
use crate::routing::{
    Binding, Destination, ExchangeDefinition, Removed, RoutingTable, altered, check_binding, check_declare,
    check_delete, check_equivalent, exchange_in_use, no_such_exchange, no_such_queue,
};

impl Catalog {
    pub(super) fn decide_declare_exchange(
        &self,
        vhost: &VhostName,
        access: &Access,
        definition: &ExchangeDefinition,
    ) -> Result<Vec<Entry>, Refusal> {
        let state = self.vhost(vhost)?;
        access.check(Permission::Configure, Entity::Exchange, &definition.name)?;
        if let Some(current) = state.table.exchange(&definition.name) {
            return check_equivalent(current.definition(), definition, vhost).map(|()| Vec::new());
        }
        check_new_exchange(access, definition)?;
        check_declare(definition, vhost)?;
        Ok(vec![Entry::PutExchange(vhost.clone(), definition.clone())])
    }

    /// Its bindings and all that publishers and consumers have open stay; who publishes is asked by the new list and schemas.
    pub(super) fn decide_alter_exchange(
        &self,
        vhost: &VhostName,
        alteration: &Alteration,
    ) -> Result<Vec<Entry>, Refusal> {
        let Alteration { name, set, remove } = alteration;
        let state = self.vhost(vhost)?;
        let current = state.table.exchange(name).ok_or_else(|| no_such_exchange(name, vhost))?;
        let definition = altered(current.definition(), set, remove, vhost)?;
        check_declare(&definition, vhost)?;
        match check_equivalent(current.definition(), &definition, vhost) {
            Ok(()) => Ok(Vec::new()),
            Err(_) => Ok(vec![Entry::AlterExchange(vhost.clone(), definition)]),
        }
    }

    pub(super) fn decide_delete_exchange(
        &self,
        vhost: &VhostName,
        name: &str,
        if_unused: bool,
    ) -> Result<Vec<Entry>, Refusal> {
        check_delete(name, vhost)?;
        let table = &self.vhost(vhost)?.table;
        let Some(exchange) = table.exchange(name) else { return Ok(Vec::new()) };
        if if_unused && exchange.bindings_count() > 0 {
            return Err(exchange_in_use(name, vhost));
        }
        let definition = exchange.definition();
        let entry = Entry::DeleteExchange {
            vhost: vhost.clone(),
            name: definition.name.clone(),
            durable: definition.durable,
        };
        Ok(with_unused(vhost, table, entry, |table| table.remove_exchange(name)))
    }

    pub(super) fn decide_bind(
        &self,
        vhost: &VhostName,
        connection: ConnectionId,
        binding: &Binding,
    ) -> Result<Vec<Entry>, Refusal> {
        let state = self.vhost(vhost)?;
        let durable = state.check_ends(binding, connection, vhost)?;
        if state.table.has_binding(binding) {
            return Ok(Vec::new());
        }
        state.check_not_subscribed(binding)?;
        let bind = Entry::Bind { vhost: vhost.clone(), binding: binding.clone(), durable };
        let source = state.table.exchange(&binding.source).map(|exchange| exchange.definition());
        let goes_unused = source.is_some_and(|source| source.durable && source.auto_delete);
        if goes_unused && !durable && !state.used.contains(&binding.source) {
            return Ok(vec![Entry::ExchangeUsed(vhost.clone(), binding.source.clone()), bind]);
        }
        Ok(vec![bind])
    }

    /// Auto-delete exchanges that have lost their last binding in a restart go, and those that this makes unused in turn.
    pub(super) fn decide_unused(&self) -> Vec<Entry> {
        let mut rest = self.clone();
        let mut entries = Vec::new();
        for (vhost, state) in &self.vhosts {
            for name in &state.used {
                let Some(table) = rest.vhosts.get(vhost).map(|state| &state.table) else { continue };
                let Some(exchange) = table.exchange(name).filter(|exchange| exchange.bindings_count() == 0)
                else {
                    continue;
                };
                let durable = exchange.definition().durable;
                let entry = Entry::DeleteExchange { vhost: vhost.clone(), name: name.clone(), durable };
                let gone = with_unused(vhost, table, entry, |table| table.remove_exchange(name));
                gone.iter().for_each(|entry| rest.apply(entry, &mut Changed::default()));
                entries.extend(gone);
            }
        }
        entries
    }

    pub(super) fn decide_unbind(
        &self,
        vhost: &VhostName,
        connection: ConnectionId,
        binding: &Binding,
    ) -> Result<Vec<Entry>, Refusal> {
        let state = self.vhost(vhost)?;
        let durable = match state.check_ends(binding, connection, vhost) {
            // With one of its ends the binding is gone, too, and that is what was asked for.
            Err(refusal) if refusal.code == ReplyCode::NotFound => return Ok(Vec::new()),
            checked => checked?,
        };
        if !state.table.has_binding(binding) {
            return Ok(Vec::new());
        }
        state.check_not_subscribed(binding)?;
        let entry = Entry::Unbind { vhost: vhost.clone(), binding: binding.clone(), durable };
        Ok(with_unused(vhost, &state.table, entry, |table| table.unbind(binding)))
    }
}

impl VhostState {
    /// Refuses bindings of queues that only their subscriptions bind.
    fn check_not_subscribed(&self, binding: &Binding) -> Result<(), Refusal> {
        match &binding.destination {
            Destination::Queue(name) => {
                self.queues.get(name).map_or(Ok(()), |queue| check_own_queue(queue, "alone binds it"))
            }
            Destination::Exchange(_) => Ok(()),
        }
    }

    /// Checks both ends of a binding; tells whether it is durable: if both of them are.
    fn check_ends(
        &self,
        binding: &Binding,
        connection: ConnectionId,
        vhost: &VhostName,
    ) -> Result<bool, Refusal> {
        let source =
            self.table.exchange(&binding.source).ok_or_else(|| no_such_exchange(&binding.source, vhost))?;
        check_binding(binding, source.definition().kind)?;
        let destination_durable = match &binding.destination {
            Destination::Queue(name) => {
                let queue = self.queues.get(name).ok_or_else(|| no_such_queue(name, vhost))?;
                check_owner(queue, connection, vhost)?;
                queue.durable
            }
            Destination::Exchange(name) => {
                let exchange = self.table.exchange(name).ok_or_else(|| no_such_exchange(name, vhost))?;
                exchange.definition().durable
            }
        };
        Ok(source.definition().durable && destination_durable)
    }
}

/// The entry, and behind it the removal of auto-delete exchanges that thereby lose their last binding, and of those
/// that this makes unused in turn. Tried out on a copy of the table, which costs nothing.
pub(super) fn with_unused(
    vhost: &VhostName,
    table: &RoutingTable,
    entry: Entry,
    remove: impl FnOnce(&mut RoutingTable) -> Option<Removed>,
) -> Vec<Entry> {
    let mut entries = vec![entry];
    let mut table = table.clone();
    let mut unused = remove(&mut table).map(|removed| removed.unused_exchanges).unwrap_or_default();
    while let Some(name) = unused.pop() {
        let Some(exchange) = table.exchange(&name) else { continue };
        let durable = exchange.definition().durable;
        unused.extend(table.remove_exchange(&name).into_iter().flat_map(|removed| removed.unused_exchanges));
        entries.push(Entry::DeleteExchange { vhost: vhost.clone(), name, durable });
    }
    entries
}
