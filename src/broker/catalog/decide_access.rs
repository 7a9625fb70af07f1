//! Which users and vhosts may be.

use std::sync::Arc;

use super::catalog::{Catalog, no_such_vhost};
use super::entry::Entry;
use crate::auth::{PasswordHash, User};
use crate::model::{Entity, Refusal, ReplyCode, UserName, VhostName};

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
        let vhosts = vhosts.iter().cloned().collect();
        Ok(vec![Entry::PutUser(Arc::new(User { name: name.clone(), password, administrator, vhosts }))])
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

    pub(super) fn decide_put_vhost(&self, name: &VhostName) -> Result<Vec<Entry>, Refusal> {
        check_named(Entity::Vhost, name)?;
        Ok(match self.vhosts.contains_key(name) {
            true => Vec::new(),
            false => vec![Entry::PutVhost(name.clone())],
        })
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
