//! Users and virtual hosts: made, changed and deleted by administrators, and what that means for those who are connected.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError};

use super::broker::{Broker, ConnectionDescription, KnownConsumer, Shared, UNFINISHED, stopping};
use super::catalog::{PermissionChange, Request, UserChange};
use super::inspect::{Page, bad_token, page};
use super::login::Identity;
use crate::auth::{
    Password, Permission, Permissions, SALT_BYTES, TopicPermissions, User, UserLimitsChange,
    VhostLimitsChange, hash_password, may_open,
};
use crate::model::{ConnectionId, Entity, ExchangeName, QueueName, Refusal, ReplyCode, UserName, VhostName};
use crate::shard::{Command, run_blocking};

/// What a user may do in a vhost, for lists.
#[derive(Debug, Clone)]
pub struct PermissionsListing {
    /// Who.
    pub user: UserName,
    /// Where.
    pub vhost: VhostName,
    /// What.
    pub permissions: Permissions,
}

/// Which routing keys a user may use with a topic exchange, for lists.
#[derive(Debug, Clone)]
pub struct TopicPermissionsListing {
    /// Who.
    pub user: UserName,
    /// Where.
    pub vhost: VhostName,
    /// The exchange, which need not be there.
    pub exchange: ExchangeName,
    /// What.
    pub permissions: TopicPermissions,
}

/// Something that a user has several of.
trait OfUser {
    fn user(&self) -> &UserName;
}

impl OfUser for PermissionsListing {
    fn user(&self) -> &UserName {
        &self.user
    }
}

impl OfUser for TopicPermissionsListing {
    fn user(&self) -> &UserName {
        &self.user
    }
}

impl Broker {
    /// Makes or changes a user. Administrators only.
    pub async fn put_user(&self, who: &Identity, change: UserChange) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        let UserChange { name, password, administrator, vhosts } = change;
        let password_hash = match password {
            None => None,
            Some(password) => Some(self.hash(password).await?),
        };
        // Hashing takes a while, and much may happen in it.
        self.check_administrator(who)?;
        self.done(Request::PutUser { name, password_hash, administrator, vhosts }).await
    }

    /// Deletes a user. Administrators only.
    pub async fn delete_user(&self, who: &Identity, name: UserName) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::DeleteUser { name }).await
    }

    /// Makes a vhost. Administrators only.
    pub async fn put_vhost(&self, who: &Identity, name: VhostName) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::PutVhost { name, quarantine: None }).await
    }

    /// Makes a vhost, if it is not there, and says which queue keeps what exchanges of it refuse by their lists and schemas and that
    /// name none of their own; `None`: none does. Administrators only.
    pub async fn put_vhost_quarantine(
        &self,
        who: &Identity,
        name: VhostName,
        queue: Option<QueueName>,
    ) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::PutVhost { name, quarantine: Some(queue) }).await
    }

    /// Deletes a vhost with all that is in it, and closes its connections. Administrators only.
    pub async fn delete_vhost(&self, who: &Identity, name: VhostName) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::DeleteVhost { name }).await
    }

    /// Changes what a user may do, for those of its connections that are there at once: what they publish is refused from then
    /// on, and consumers end whose queues it may not read any more. Administrators only.
    pub async fn change_permissions(
        &self,
        who: &Identity,
        user: UserName,
        change: PermissionChange,
    ) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::ChangePermissions { user, change }).await
    }

    /// What users may do in vhosts: all of it for administrators, else the own. By user, then by vhost.
    pub fn list_permissions(
        &self,
        who: &Identity,
        token: &str,
        size: usize,
    ) -> Result<Page<PermissionsListing>, Refusal> {
        let of = |user: &Arc<User>| {
            let vhosts: BTreeSet<&VhostName> = user.vhosts.iter().chain(user.permissions.keys()).collect();
            let listing = |vhost: &VhostName| PermissionsListing {
                user: user.name.clone(),
                vhost: vhost.clone(),
                permissions: user.permissions.get(vhost).cloned().unwrap_or_else(Permissions::everything),
            };
            vhosts.into_iter().map(listing).collect::<Vec<_>>()
        };
        self.list_of_users(who, token, size, of)
    }

    /// Which routing keys users may use, where that is not every one: all of it for administrators, else the own. By user, then
    /// by vhost, then by exchange.
    pub fn list_topic_permissions(
        &self,
        who: &Identity,
        token: &str,
        size: usize,
    ) -> Result<Page<TopicPermissionsListing>, Refusal> {
        let of = |user: &Arc<User>| {
            let listing =
                |((vhost, exchange), permissions): (&(VhostName, ExchangeName), &TopicPermissions)| {
                    TopicPermissionsListing {
                        user: user.name.clone(),
                        vhost: vhost.clone(),
                        exchange: exchange.clone(),
                        permissions: permissions.clone(),
                    }
                };
            user.topic_permissions.iter().map(listing).collect::<Vec<_>>()
        };
        self.list_of_users(who, token, size, of)
    }

    /// A page of what there are several of for each user. A token says how many of a user's came before, and whose.
    fn list_of_users<T: OfUser>(
        &self,
        who: &Identity,
        token: &str,
        size: usize,
        of: impl Fn(&Arc<User>) -> Vec<T>,
    ) -> Result<Page<T>, Refusal> {
        let (before, first) = match token {
            "" => (0, ""),
            token => {
                let (before, first) = token.split_once('>').ok_or_else(|| bad_token(token))?;
                (before.parse::<usize>().map_err(|_| bad_token(token))?, first)
            }
        };
        let sees_all = self.is_administrator(who);
        let users = self.shared.users();
        let mut entries: Vec<(usize, T)> = Vec::new();
        for (name, user) in users.range::<str, _>((Bound::Included(first), Bound::Unbounded)) {
            if !sees_all && *name != who.user.name {
                continue;
            }
            let skipped = if **name == *first { before } else { 0 };
            entries.extend((1..).zip(of(user)).skip(skipped));
            if entries.len() > size {
                break;
            }
        }
        let listed = page(entries, size, |(place, entry): &(usize, T)| format!("{place}>{}", entry.user()));
        Ok(Page { entries: listed.entries.into_iter().map(|(_, entry)| entry).collect(), next: listed.next })
    }

    /// Changes how much a user may have; what is there beyond it stays. Administrators only.
    pub async fn limit_user(
        &self,
        who: &Identity,
        name: UserName,
        change: UserLimitsChange,
    ) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::LimitUser { name, change }).await
    }

    /// Changes how much a vhost may have; what is there beyond it stays. Administrators only.
    pub async fn limit_vhost(
        &self,
        who: &Identity,
        name: VhostName,
        change: VhostLimitsChange,
    ) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::LimitVhost { name, change }).await
    }

    pub(super) async fn hash(&self, password: Password) -> Result<crate::auth::PasswordHash, Refusal> {
        let failed =
            |what: String| Refusal::new(ReplyCode::InternalError, format!("cannot hash a password: {what}"));
        let salt = self.shared.platform.random::<SALT_BYTES>().map_err(|error| failed(error.to_string()))?;
        let permit = Arc::clone(&self.shared.login_permits).acquire_owned().await.map_err(|_| stopping())?;
        let hashed = run_blocking(&self.shared.platform.workers, move || {
            let _permit = permit;
            hash_password(&password, &salt)
        });
        let hashed = hashed.await.ok_or_else(|| failed(UNFINISHED.to_owned()))?;
        hashed.map_err(|error| failed(error.to_string()))
    }
}

impl Shared {
    /// Lets everybody see who there is and what they may do; returns whose permissions are others than before.
    pub(super) fn replace_users(&self, users: &BTreeMap<UserName, Arc<User>>) -> BTreeSet<UserName> {
        let mut shown = self.users.write().unwrap_or_else(PoisonError::into_inner);
        let is_changed = |user: &&Arc<User>| {
            shown.get(&user.name).is_some_and(|former| {
                former.permissions != user.permissions || former.topic_permissions != user.topic_permissions
            })
        };
        let changed = users.values().filter(is_changed).map(|user| user.name.clone()).collect();
        *shown = users.clone();
        changed
    }

    /// Has connections of these users ask anew what they may do, and ends consumers that may not read any more. What
    /// `replace_users` shows must be there before.
    pub(super) fn note_changed_permissions(&self, changed: &BTreeSet<UserName>) {
        if changed.is_empty() {
            return;
        }
        // Publishers ask where messages go, and whether they may, when the table they know is not the current one.
        self.vhosts().values().for_each(|vhost| vhost.outdate_routes());
        let theirs: BTreeMap<ConnectionId, Arc<ConnectionDescription>> = {
            let connections = self.connections();
            let theirs = connections.iter().filter(|(_, connection)| changed.contains(&connection.user));
            theirs.map(|(id, connection)| (*id, Arc::clone(connection))).collect()
        };
        for (key, KnownConsumer { queue, .. }) in &*self.consumers() {
            let Some(connection) = theirs.get(&key.connection) else { continue };
            let access = self.access(&connection.user, &connection.vhost);
            let checked =
                access.and_then(|access| access.check(Permission::Read, Entity::Queue, &queue.name));
            if let (Err(_), Some(shard)) = (checked, self.shard(queue.shard)) {
                shard.send(Command::Cancel { queue: queue.id, key: *key });
            }
        }
    }

    /// Asks all connections to go whose users were deleted, or may not be where they are any more.
    pub(super) fn disconnect_users(&self, deleted: &BTreeSet<UserName>) {
        for connection in self.connections().values() {
            if deleted.contains(&connection.user) {
                connection.disconnect(user_deleted(&connection.user));
            } else {
                self.check_rights(connection);
            }
        }
    }

    /// Asks a connection to go whose user may not be where it is, or is none.
    pub(super) fn check_rights(&self, connection: &ConnectionDescription) {
        let reason = match self.users().get(&connection.user) {
            None => user_deleted(&connection.user),
            Some(user) => match may_open(user, &connection.vhost) {
                Ok(()) => return,
                Err(refusal) => refusal,
            },
        };
        connection.disconnect(reason);
    }
}

/// Nobody can log in again in this name, so a client need not try.
pub(super) fn user_deleted(user: &UserName) -> Refusal {
    Refusal::new(ReplyCode::AccessRefused, format!("user '{user}' was deleted"))
        .about(Entity::User, user.as_str())
}
