//! Whether somebody may do something, as things are at one moment.

use std::sync::Arc;

use crate::model::{Entity, ExchangeName, Refusal, ReplyCode, VhostName};

use super::permissions::{Permission, TopicPermissions};
use super::user::User;

/// One user in one vhost, as it was when this was made. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access {
    user: Arc<User>,
    vhost: VhostName,
}

/// What permissions call the default exchange.
const DEFAULT_EXCHANGE: &str = "amq.default";

impl Access {
    /// What this user may do in this vhost. Whether the user may be there at all is [`may_open`](super::may_open)'s to say.
    pub fn new(user: Arc<User>, vhost: VhostName) -> Self {
        Self { user, vhost }
    }

    /// Somebody who may do everything.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(crate) fn unrestricted() -> Self {
        use super::password::{Password, SALT_BYTES, hash_password};

        let user = User {
            name: crate::model::UserName::new("somebody").unwrap(),
            password: hash_password(&Password::new("p").unwrap(), &[0; SALT_BYTES]).unwrap(),
            administrator: true,
            vhosts: Default::default(),
            permissions: Default::default(),
            topic_permissions: Default::default(),
            limits: Default::default(),
        };
        Self::new(Arc::new(user), VhostName::default())
    }

    /// Whether the user may do this with the exchange or queue of this name, be there one or not.
    ///
    /// # Errors
    /// 403, with which permission, which pattern and which name.
    pub fn check(&self, permission: Permission, entity: Entity, name: &str) -> Result<(), Refusal> {
        // Who is held to nothing has no entry.
        let Some(permissions) = self.user.permissions.get(&self.vhost) else { return Ok(()) };
        let known_as = match (entity, name) {
            (Entity::Exchange, "") => DEFAULT_EXCHANGE,
            _ => name,
        };
        let pattern = permissions.pattern(permission);
        if pattern.matches(known_as) {
            return Ok(());
        }
        let (user, vhost) = (&self.user.name, &self.vhost);
        let text = format!(
            "{permission} access to {} '{known_as}' in vhost '{vhost}' refused for user '{user}'",
            entity.as_str()
        );
        Err(Refusal::new(ReplyCode::AccessRefused, text)
            .about(entity, name)
            .field(permission.as_str(), told(pattern.as_str()), known_as)
            .hint("an administrator can allow it with `leveret set permissions`"))
    }

    /// Whether the user may do anything at all with the exchange or queue of this name: then it may be seen that it is there.
    ///
    /// # Errors
    /// As for [`check`](Self::check), of the permission to configure it.
    pub fn check_any(&self, entity: Entity, name: &str) -> Result<(), Refusal> {
        let any = [Permission::Write, Permission::Read];
        match any.into_iter().any(|permission| self.check(permission, entity, name).is_ok()) {
            true => Ok(()),
            false => self.check(Permission::Configure, entity, name),
        }
    }

    /// The user's permissions for routing keys of this exchange, if there are any and it is one they count for.
    pub fn topic(&self, exchange: &ExchangeName, is_topic: bool) -> Option<&TopicPermissions> {
        if !is_topic || self.user.topic_permissions.is_empty() {
            return None;
        }
        self.user.topic_permissions.get(&(self.vhost.clone(), exchange.clone()))
    }

    /// Whether the user may write or read with this key of this exchange, which is a topic exchange or not.
    ///
    /// # Errors
    /// 403, with which permission, which pattern and which key.
    pub fn check_topic(
        &self,
        permission: Permission,
        exchange: &ExchangeName,
        is_topic: bool,
        key: &str,
    ) -> Result<(), Refusal> {
        let Some(permissions) = self.topic(exchange, is_topic) else { return Ok(()) };
        let pattern = match permission {
            Permission::Write => &permissions.write,
            // There is no third one: whoever configures is held to nothing here.
            Permission::Configure => return Ok(()),
            Permission::Read => &permissions.read,
        };
        if pattern.matches(key) {
            return Ok(());
        }
        let (user, vhost) = (&self.user.name, &self.vhost);
        let text = format!(
            "{permission} access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'"
        );
        Err(Refusal::new(ReplyCode::AccessRefused, text)
            .about(Entity::Exchange, exchange.as_str())
            .field(permission.as_str(), told(pattern.as_str()), key)
            .hint("an administrator can allow it with `leveret set topic-permissions`"))
    }
}

fn told(pattern: &str) -> String {
    match pattern {
        "" => "nothing".to_owned(),
        pattern => format!("a name that matches {pattern}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::password::{Password, SALT_BYTES, hash_password};
    use super::super::pattern::Pattern;
    use super::super::permissions::Permissions;
    use super::*;
    use crate::model::UserName;

    fn access(vhost: &str) -> Access {
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let home = VhostName::new("home").unwrap();
        let events = ExchangeName::new("events").unwrap();
        let permissions = Permissions {
            configure: pattern("^ada-"),
            write: pattern("^(amq\\.default|q)$"),
            read: pattern(""),
        };
        let topics = TopicPermissions { write: pattern("^ada\\."), read: pattern("#") };
        let user = User {
            name: UserName::new("ada").unwrap(),
            password: hash_password(&Password::new("p").unwrap(), &[0; SALT_BYTES]).unwrap(),
            administrator: true,
            vhosts: BTreeSet::new(),
            permissions: BTreeMap::from([(home.clone(), permissions)]),
            topic_permissions: BTreeMap::from([((home, events), topics)]),
            limits: Default::default(),
        };
        Access::new(Arc::new(user), VhostName::new(vhost).unwrap())
    }

    #[test]
    fn each_operation_is_held_against_its_pattern() {
        use Permission::{Configure, Read, Write};
        let check = |vhost: &str, permission, entity, name: &str, allowed: bool| {
            let checked = access(vhost).check(permission, entity, name);
            assert_eq!(checked.is_ok(), allowed, "{vhost} {permission} {name}: {checked:?}");
        };
        check("home", Configure, Entity::Queue, "ada-1", true);
        check("home", Configure, Entity::Queue, "bob-1", false);
        check("home", Write, Entity::Exchange, "", true);
        check("home", Write, Entity::Queue, "q", true);
        check("home", Write, Entity::Queue, "", false);
        check("home", Read, Entity::Queue, "q", false);
        check("elsewhere", Read, Entity::Queue, "q", true);
    }

    #[test]
    fn any_permission_shows_whether_something_is_there() {
        let check = |entity, name: &str, allowed: bool| {
            let checked = access("home").check_any(entity, name);
            assert_eq!(checked.is_ok(), allowed, "{name}: {checked:?}");
        };
        check(Entity::Queue, "q", true);
        check(Entity::Queue, "ada-1", true);
        check(Entity::Queue, "bob-1", false);
        check(Entity::Exchange, "", true);
        let refusal = access("home").check_any(Entity::Queue, "bob-1").unwrap_err();
        assert!(refusal.text.starts_with("configure access to queue 'bob-1'"), "{refusal}");
    }

    #[test]
    fn a_refusal_says_which_permission_pattern_and_name() {
        let refusal = access("home").check(Permission::Configure, Entity::Queue, "q").unwrap_err();
        assert_eq!(refusal.code, ReplyCode::AccessRefused);
        assert_eq!(refusal.text, "configure access to queue 'q' in vhost 'home' refused for user 'ada'");
        assert_eq!(refusal.entity, Some((Entity::Queue, "q".to_owned())));
        assert_eq!((&*refusal.field, &*refusal.got), ("configure", "q"));
        assert_eq!(refusal.expected, "a name that matches ^ada-");
        let refusal = access("home").check(Permission::Read, Entity::Exchange, "").unwrap_err();
        assert_eq!(
            refusal.text,
            "read access to exchange 'amq.default' in vhost 'home' refused for user 'ada'"
        );
        assert_eq!(refusal.expected, "nothing");
    }

    #[test]
    fn keys_are_asked_of_topic_exchanges_with_permissions_alone() {
        let check = |exchange: &str, is_topic, permission, key: &str, allowed: bool| {
            let exchange = ExchangeName::new(exchange).unwrap();
            let checked = access("home").check_topic(permission, &exchange, is_topic, key);
            assert_eq!(checked.is_ok(), allowed, "{exchange} {permission} {key}: {checked:?}");
        };
        check("events", true, Permission::Write, "ada.x", true);
        check("events", true, Permission::Write, "bob.x", false);
        check("events", true, Permission::Read, "a.#", true);
        check("events", true, Permission::Read, "a.*", false);
        check("events", true, Permission::Configure, "a.*", true);
        check("events", false, Permission::Write, "bob.x", true);
        check("others", true, Permission::Write, "bob.x", true);
        let events = ExchangeName::new("events").unwrap();
        let refusal = access("home").check_topic(Permission::Write, &events, true, "k").unwrap_err();
        assert_eq!(
            refusal.text,
            "write access to topic 'k' in exchange 'events' in vhost 'home' refused for user 'ada'"
        );
    }
}
