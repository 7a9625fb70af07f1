//! Which users and vhosts may be.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::catalog::{Catalog, no_such_vhost};
use super::entry::Entry;
use super::request::PermissionChange;
use crate::auth::{PasswordHash, TOPIC_PERMISSIONS_MAX, User, UserLimitsChange, VhostLimitsChange};
use crate::model::{Entity, QueueName, Refusal, ReplyCode, UserName, VhostName};

impl Catalog {
    pub(super) fn decide_put_user(
        &self,
        name: &UserName,
        hash: Option<&PasswordHash>,
        administrator: bool,
        vhosts: &[VhostName],
    ) -> Result<Vec<Entry>, Refusal> {
        check_named(Entity::User, name)?;
        let password = hash.or_else(|| self.users.get(name).map(|user| &user.password));
        let Some(password) = password.cloned() else {
            return Err(Refusal::new(
                ReplyCode::PreconditionFailed,
                format!("user '{name}' is new and needs a password"),
            )
            .about(Entity::User, name.as_str())
            .field("password", "1 to 1,024 bytes", "none"));
        };
        if !administrator {
            self.check_not_last_administrator(name)?;
        }
        if let Some(vhost) = vhosts.iter().find(|vhost| !self.vhosts.contains_key(*vhost)) {
            return Err(no_such_vhost(vhost));
        }
        let vhosts: BTreeSet<VhostName> = vhosts.iter().cloned().collect();
        let current = self.users.get(name);
        let mut permissions = current.map(|user| user.permissions.clone()).unwrap_or_default();
        // Where it could work and can go on to, it is held to what it was held to.
        permissions.retain(|vhost, _| administrator || vhosts.contains(vhost));
        let topic_permissions = current.map(|user| user.topic_permissions.clone()).unwrap_or_default();
        let limits = current.map(|user| user.limits).unwrap_or_default();
        let name = name.clone();
        let user = User { name, password, administrator, vhosts, permissions, topic_permissions, limits };
        Ok(vec![Entry::PutUser(Arc::new(user))])
    }

    /// What a user may do, be it an administrator or not.
    pub(super) fn decide_change_permissions(
        &self,
        name: &UserName,
        change: &PermissionChange,
    ) -> Result<Vec<Entry>, Refusal> {
        let current = self.users.get(name).ok_or_else(|| no_such_user(name))?;
        let mut user = User::clone(current);
        match change {
            PermissionChange::Of { vhost, permissions } => {
                user.permissions.remove(vhost);
                match permissions {
                    Some(permissions) => {
                        self.vhost(vhost)?;
                        user.vhosts.insert(vhost.clone());
                        if !permissions.is_everything() {
                            user.permissions.insert(vhost.clone(), permissions.clone());
                        }
                    }
                    None => {
                        user.vhosts.remove(vhost);
                    }
                }
            }
            PermissionChange::OfTopic { vhost, exchange, permissions } => {
                let of = (vhost.clone(), exchange.clone());
                match permissions {
                    Some(permissions) => {
                        self.vhost(vhost)?;
                        user.topic_permissions.insert(of, permissions.clone());
                    }
                    None => {
                        user.topic_permissions.remove(&of);
                    }
                }
            }
            PermissionChange::OfNoTopic { vhost } => user.topic_permissions.retain(|(of, _), _| of != vhost),
        }
        let topics = user.topic_permissions.len();
        if topics > TOPIC_PERMISSIONS_MAX {
            let text = format!("user '{name}' has permissions for as many topic exchanges as it may");
            return Err(Refusal::new(ReplyCode::PreconditionFailed, text)
                .about(Entity::User, name.as_str())
                .field("exchange", format!("{TOPIC_PERMISSIONS_MAX} at most"), topics.to_string())
                .hint("delete some with `leveret delete topic-permissions`"));
        }
        Ok(if user == **current { Vec::new() } else { vec![Entry::PutUser(Arc::new(user))] })
    }

    /// What is there beyond a limit stays.
    pub(super) fn decide_limit_user(
        &self,
        name: &UserName,
        change: UserLimitsChange,
    ) -> Result<Vec<Entry>, Refusal> {
        let current = self.users.get(name).ok_or_else(|| no_such_user(name))?;
        let limits = change.applied_to(current.limits);
        Ok(match limits == current.limits {
            true => Vec::new(),
            false => vec![Entry::PutUser(Arc::new(User { limits, ..User::clone(current) }))],
        })
    }

    /// What is there beyond a limit stays.
    pub(super) fn decide_limit_vhost(
        &self,
        name: &VhostName,
        change: VhostLimitsChange,
    ) -> Result<Vec<Entry>, Refusal> {
        let current = self.vhost(name)?.limits;
        let limits = change.applied_to(current);
        Ok(if limits == current { Vec::new() } else { vec![Entry::LimitVhost(name.clone(), limits)] })
    }

    pub(super) fn decide_delete_user(&self, name: &UserName) -> Result<Vec<Entry>, Refusal> {
        if !self.users.contains_key(name) {
            return Ok(Vec::new());
        }
        self.check_not_last_administrator(name)?;
        Ok(vec![Entry::DeleteUser(name.clone())])
    }

    /// Somebody must be left who can make users.
    fn check_not_last_administrator(&self, name: &UserName) -> Result<(), Refusal> {
        // In the name of nobody nobody can log in.
        let mut administrators =
            self.users.values().filter(|user| user.administrator && !user.name.is_empty());
        let is_administrator = self.users.get(name).is_some_and(|user| user.administrator);
        if !is_administrator || administrators.any(|user| user.name != *name) {
            return Ok(());
        }
        let text = format!("user '{name}' is the last administrator");
        Err(Refusal::new(ReplyCode::PreconditionFailed, text)
            .about(Entity::User, name.as_str())
            .hint("make another administrator first"))
    }

    /// Its quarantine queue, or that it has none, if that is to be said.
    pub(super) fn decide_put_vhost(
        &self,
        name: &VhostName,
        quarantine: Option<&Option<QueueName>>,
    ) -> Result<Vec<Entry>, Refusal> {
        check_named(Entity::Vhost, name)?;
        let there = self.vhosts.get(name);
        let mut entries = Vec::new();
        if there.is_none() {
            entries.push(Entry::PutVhost(name.clone()));
        }
        let current = there.and_then(|vhost| vhost.quarantine.as_ref());
        if let Some(queue) = quarantine.filter(|queue| queue.as_ref() != current) {
            entries.push(Entry::QuarantineOf(name.clone(), queue.clone()));
        }
        Ok(entries)
    }

    pub(super) fn decide_delete_vhost(&self, name: &VhostName) -> Result<Vec<Entry>, Refusal> {
        if !self.vhosts.contains_key(name) {
            return Ok(Vec::new());
        }
        // A connection is always in a vhost: without one nobody could make another.
        if self.vhosts.len() == 1 {
            let text = format!("vhost '{name}' is the last one");
            return Err(Refusal::new(ReplyCode::PreconditionFailed, text)
                .about(Entity::Vhost, name.as_str())
                .hint("make another vhost first"));
        }
        Ok(vec![Entry::DeleteVhost(name.clone())])
    }
}

fn no_such_user(name: &UserName) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("user '{name}' does not exist"))
        .about(Entity::User, name.as_str())
        .hint("`leveret list users` shows those there are, `leveret user put` makes one")
}

/// An empty name is an unset variable of somebody's script, and a control character the line end of somebody's file.
fn check_named(entity: Entity, name: &str) -> Result<(), Refusal> {
    let (what, got) = match name {
        "" => ("is empty", "none"),
        name if name.contains(char::is_control) => ("has a control character", "others"),
        _ => return Ok(()),
    };
    let text = format!("the name of the {} {what}", entity.as_str());
    Err(Refusal::new(ReplyCode::PreconditionFailed, text).about(entity, name).field(
        "name",
        "1 to 255 bytes without control characters",
        got,
    ))
}
