//! A user, and what a user may open.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Entity, ExchangeName, Refusal, ReplyCode, UserName, VhostName};

use super::limits::UserLimits;
use super::password::PasswordHash;
use super::permissions::{Permissions, TopicPermissions};

/// Somebody who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Unique in the broker.
    pub name: UserName,
    /// What the password is checked against.
    pub password: PasswordHash,
    /// May open every vhost, and make and delete users and vhosts.
    pub administrator: bool,
    /// Vhosts this user may open; without effect for administrators.
    pub vhosts: BTreeSet<VhostName>,
    /// What this user may do in vhosts where that is not everything.
    pub permissions: BTreeMap<VhostName, Permissions>,
    /// Which keys this user may use with which topic exchanges; with all others every key.
    pub topic_permissions: BTreeMap<(VhostName, ExchangeName), TopicPermissions>,
    /// How much this user may have.
    pub limits: UserLimits,
}

/// Topic exchanges that one user may have permissions for, of all vhosts together.
pub const TOPIC_PERMISSIONS_MAX: usize = 1_000;

impl User {
    /// Whether this user is held to patterns or limits anywhere.
    pub fn is_restricted(&self) -> bool {
        let has_patterns = !self.permissions.is_empty() || !self.topic_permissions.is_empty();
        has_patterns || self.limits != UserLimits::default()
    }
}

/// Whether the user may work in the vhost. Whether there is such a vhost is the catalog's to say.
pub fn may_open(user: &User, vhost: &VhostName) -> Result<(), Refusal> {
    if user.administrator || user.vhosts.contains(vhost) {
        return Ok(());
    }
    Err(Refusal::new(
        ReplyCode::AccessRefused,
        format!("user '{}' may not open vhost '{vhost}'", user.name),
    )
    .about(Entity::Vhost, vhost.as_str())
    .hint("an administrator can allow it with `leveret user put`, naming all vhosts of the user with --vhost"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::password::{Password, SALT_BYTES, hash_password};
    use super::*;

    fn user(administrator: bool, vhosts: &[&str]) -> User {
        User {
            name: UserName::new("ada").unwrap(),
            password: hash_password(&Password::new("p").unwrap(), &[0; SALT_BYTES]).unwrap(),
            administrator,
            vhosts: vhosts.iter().map(|name| VhostName::new(name).unwrap()).collect(),
            permissions: BTreeMap::new(),
            topic_permissions: BTreeMap::new(),
            limits: UserLimits::default(),
        }
    }

    #[test]
    fn a_user_opens_what_is_listed_and_an_administrator_everything() {
        let check = |user: User, vhost: &str, allowed: bool| {
            assert_eq!(may_open(&user, &VhostName::new(vhost).unwrap()).is_ok(), allowed, "{vhost}");
        };
        check(user(false, &["/", "shop"]), "shop", true);
        check(user(false, &["/", "shop"]), "/", true);
        check(user(false, &["/", "shop"]), "sho", false);
        check(user(false, &["/", "shop"]), "shop2", false);
        check(user(false, &[]), "/", false);
        check(user(true, &[]), "anything", true);
    }

    #[test]
    fn a_refusal_says_who_what_and_how_to_mend_it() {
        let refusal = may_open(&user(false, &["/"]), &VhostName::new("shop").unwrap()).unwrap_err();
        assert_eq!(refusal.code, ReplyCode::AccessRefused);
        assert_eq!(refusal.entity, Some((Entity::Vhost, "shop".to_owned())));
        assert!(refusal.text.contains("ada") && refusal.text.contains("shop"));
        assert!(refusal.hint.contains("--vhost"));
    }
}
