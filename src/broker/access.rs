//! What a user's permissions say about what its connections ask for.
//!
//! Which operation needs what is RabbitMQ's table; docs/PERMISSIONS.md has it. Publishing is asked about when a route is found
//! (`session/writing.rs`), everything else when it is asked for.

use std::sync::Arc;

use super::broker::{Broker, Shared};
use super::catalog::{Alteration, SubscriptionDeclaration};
use super::dead_letters::address_of;
use super::login::Identity;
use super::subscription::queue_name;
use super::users::user_deleted;
use super::vhost::{QueueDefinition, Vhost};
use crate::auth::{Access, Permission};
use crate::model::{Entity, ExchangeName, FieldTable, QUARANTINE_QUEUE, Refusal, UserName, VhostName};
use crate::routing::{Binding, Destination, ExchangeDefinition, ExchangeKind};

impl Shared {
    /// What a user may do in a vhost now.
    pub(super) fn access(&self, user: &UserName, vhost: &VhostName) -> Result<Access, Refusal> {
        let known = self.users().get(user).cloned().ok_or_else(|| user_deleted(user))?;
        Ok(Access::new(known, vhost.clone()))
    }
}

impl Broker {
    /// What this user may do here now, whatever it was at login.
    pub(super) fn access(&self, who: &Identity) -> Result<Access, Refusal> {
        self.shared.access(&who.user.name, &who.vhost.name)
    }

    /// The queue of this name, if this user may take messages from it and this connection may use it.
    pub(super) fn queue_to_read(&self, who: &Identity, name: &str) -> Result<Arc<QueueDefinition>, Refusal> {
        self.access(who)?.check(Permission::Read, Entity::Queue, name)?;
        self.queue(who, name)
    }

    /// A binding, to be made or taken away: it leads on from one and into the other.
    pub(super) fn check_binding(&self, who: &Identity, binding: &Binding) -> Result<(), Refusal> {
        let access = self.access(who)?;
        let Binding { source, destination, key, .. } = binding;
        let entity = match destination {
            Destination::Queue(_) => Entity::Queue,
            Destination::Exchange(_) => Entity::Exchange,
        };
        access.check(Permission::Write, entity, destination.name())?;
        check_listening(&access, &who.vhost, source, key)
    }

    /// An exchange, to be altered.
    pub(super) fn check_alteration(&self, who: &Identity, alteration: &Alteration) -> Result<(), Refusal> {
        let access = self.access(who)?;
        let Alteration { name, set, .. } = alteration;
        access.check(Permission::Configure, Entity::Exchange, name)?;
        check_quarantine(&access, name, set.text(QUARANTINE_QUEUE))
    }

    /// A subscription, to be made, changed or joined: its queue is made, bound, and listens to exchanges.
    pub(super) fn check_subscribing(
        &self,
        who: &Identity,
        declaration: &SubscriptionDeclaration,
    ) -> Result<(), Refusal> {
        let access = self.access(who)?;
        let queue = queue_name(&declaration.name, &declaration.member);
        access.check(Permission::Configure, Entity::Queue, &queue)?;
        if !declaration.bindings.is_empty() {
            access.check(Permission::Write, Entity::Queue, &queue)?;
        }
        for binding in &declaration.bindings {
            check_listening(&access, &who.vhost, &binding.exchange, &binding.key)?;
        }
        match &declaration.queue_arguments {
            Some(arguments) => check_dead_letters(&access, &queue, arguments),
            None => Ok(()),
        }
    }

    /// A subscription, to go, or a member of it.
    pub(super) fn check_unsubscribing(
        &self,
        who: &Identity,
        name: &str,
        member: &str,
    ) -> Result<(), Refusal> {
        let queue = queue_name(name, member);
        self.access(who)?.check(Permission::Configure, Entity::Queue, &queue)
    }
}

fn check_listening(access: &Access, vhost: &Vhost, source: &ExchangeName, key: &str) -> Result<(), Refusal> {
    access.check(Permission::Read, Entity::Exchange, source)?;
    access.check_topic(Permission::Read, source, is_topic(vhost, source), key)
}

/// Whether permissions for routing keys count for this exchange.
pub(super) fn is_topic(vhost: &Vhost, exchange: &str) -> bool {
    vhost.routing().exchange(exchange).is_some_and(|entry| entry.definition().kind == ExchangeKind::Topic)
}

/// An exchange that is not there yet hands on to others what it does not route or take.
pub(super) fn check_new_exchange(access: &Access, definition: &ExchangeDefinition) -> Result<(), Refusal> {
    let name = &definition.name;
    if let Some(alternate) = definition.alternate_exchange() {
        access.check(Permission::Read, Entity::Exchange, name)?;
        access.check(Permission::Write, Entity::Exchange, &alternate)?;
    }
    check_quarantine(access, name, definition.quarantine_queue().as_deref())
}

fn check_quarantine(access: &Access, exchange: &str, queue: Option<&str>) -> Result<(), Refusal> {
    let Some(queue) = queue.filter(|queue| !queue.is_empty()) else { return Ok(()) };
    access.check(Permission::Read, Entity::Exchange, exchange)?;
    access.check(Permission::Write, Entity::Queue, queue)
}

/// A queue that is not there yet hands on to an exchange what it is done with.
pub(super) fn check_dead_letters(
    access: &Access,
    queue: &str,
    arguments: &FieldTable,
) -> Result<(), Refusal> {
    // Arguments that say nothing are refused for that.
    let Some(address) = address_of(arguments).ok().flatten() else { return Ok(()) };
    access.check(Permission::Read, Entity::Queue, queue)?;
    access.check(Permission::Write, Entity::Exchange, address.exchange())
}
