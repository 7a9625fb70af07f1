//! Whether who publishes may: asked when a target's first route is found, and again when what anybody may do has changed.

use std::sync::{Arc, Weak};

use super::super::access::is_topic;
use super::super::broker::{Broker, Shared, stopping};
use super::super::login::Identity;
use super::super::vhost::Vhost;
use crate::auth::{Access, Permission};
use crate::model::{Entity, ExchangeName, Refusal, UserName};

/// Who publishes over a connection.
#[derive(Debug)]
pub(in crate::broker) struct Writer {
    shared: Weak<Shared>,
    user: UserName,
}

/// What somebody may publish to one exchange, as long as the version of the vhost is the one that it was asked with.
#[derive(Debug, Clone)]
pub(super) enum MayWrite {
    Everything,
    /// Under keys that the user's permissions for this topic exchange allow.
    Keys(Access),
    Nothing(Box<Refusal>),
}

impl Writer {
    pub(super) fn new(broker: &Broker, who: &Identity) -> Self {
        Self { shared: Arc::downgrade(&broker.shared), user: who.user.name.clone() }
    }

    /// What its user may publish to an exchange. To be asked after the vhost's version was read.
    pub(super) fn may_write(&self, vhost: &Vhost, exchange: &ExchangeName) -> MayWrite {
        let access = match self.shared.upgrade() {
            Some(shared) => shared.access(&self.user, &vhost.name),
            None => Err(stopping()),
        };
        let checked = access.and_then(|access| {
            access.check(Permission::Write, Entity::Exchange, exchange)?;
            match vhost.full() {
                Some(refusal) => Err(*refusal),
                None => Ok(access),
            }
        });
        match checked {
            Ok(access) if access.topic(exchange, is_topic(vhost, exchange)).is_some() => {
                MayWrite::Keys(access)
            }
            Ok(_) => MayWrite::Everything,
            Err(refusal) => MayWrite::Nothing(Box::new(refusal)),
        }
    }
}

impl MayWrite {
    /// Whether there is anything that may be published.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Everything | Self::Keys(_) => Ok(()),
            Self::Nothing(refusal) => Err(Refusal::clone(refusal)),
        }
    }

    /// Whether this may be published under a key.
    pub(super) fn check_key(&self, exchange: &ExchangeName, key: &str) -> Result<(), Box<Refusal>> {
        match self {
            Self::Keys(access) => {
                access.check_topic(Permission::Write, exchange, true, key).map_err(Box::new)
            }
            Self::Everything | Self::Nothing(_) => Ok(()),
        }
    }
}
