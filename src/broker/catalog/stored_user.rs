//! A user, and limits of a virtual host, as the catalog's log has them.

use prost::Message;

use super::fault::RecordFault;
use crate::auth::{
    PasswordHash, Pattern, PatternRefused, Permissions, TopicPermissions, User, UserLimits, VhostLimits,
    topic_pattern,
};
use crate::model::{ExchangeName, UserName, VhostName};

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredUser {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) password_hash: String,
    #[prost(bool, tag = "3")]
    pub(super) administrator: bool,
    #[prost(string, repeated, tag = "4")]
    pub(super) vhosts: Vec<String>,
    /// Those that are not all `.*`.
    #[prost(message, repeated, tag = "5")]
    pub(super) permissions: Vec<StoredPermissions>,
    #[prost(message, repeated, tag = "6")]
    pub(super) topic_permissions: Vec<StoredTopicPermissions>,
    #[prost(uint32, optional, tag = "7")]
    pub(super) max_connections: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    pub(super) max_channels: Option<u32>,
}

/// Patterns for names in a vhost.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPermissions {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) configure: String,
    #[prost(string, tag = "3")]
    pub(super) write: String,
    #[prost(string, tag = "4")]
    pub(super) read: String,
}

/// Patterns for routing keys of a topic exchange.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredTopicPermissions {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) exchange: String,
    #[prost(string, tag = "3")]
    pub(super) write: String,
    #[prost(string, tag = "4")]
    pub(super) read: String,
}

impl StoredUser {
    pub(super) fn new(user: &User) -> Self {
        let permissions = user.permissions.iter().map(|(vhost, permissions)| StoredPermissions {
            vhost: vhost.to_string(),
            configure: permissions.configure.to_string(),
            write: permissions.write.to_string(),
            read: permissions.read.to_string(),
        });
        let topics = user.topic_permissions.iter().map(|((vhost, exchange), topic)| StoredTopicPermissions {
            vhost: vhost.to_string(),
            exchange: exchange.to_string(),
            write: topic.write.to_string(),
            read: topic.read.to_string(),
        });
        Self {
            name: user.name.to_string(),
            password_hash: user.password.to_string(),
            administrator: user.administrator,
            vhosts: user.vhosts.iter().map(ToString::to_string).collect(),
            permissions: permissions.collect(),
            topic_permissions: topics.collect(),
            max_connections: user.limits.max_connections,
            max_channels: user.limits.max_channels,
        }
    }

    pub(super) fn user(&self) -> Result<User, RecordFault> {
        let password = PasswordHash::parse(&self.password_hash);
        let name = UserName::new(&self.name)?;
        let refused = |fault| RecordFault::Pattern { user: self.name.clone(), fault };
        let mut user = User {
            password: password.map_err(|fault| RecordFault::Password { user: self.name.clone(), fault })?,
            administrator: self.administrator,
            vhosts: self.vhosts.iter().map(|name| VhostName::new(name)).collect::<Result<_, _>>()?,
            permissions: Default::default(),
            topic_permissions: Default::default(),
            limits: UserLimits { max_connections: self.max_connections, max_channels: self.max_channels },
            name,
        };
        for stored in &self.permissions {
            let permissions = stored.permissions().map_err(refused)?;
            user.permissions.insert(VhostName::new(&stored.vhost)?, permissions);
        }
        for stored in &self.topic_permissions {
            let (vhost, exchange) = (VhostName::new(&stored.vhost)?, ExchangeName::new(&stored.exchange)?);
            let topic = stored.permissions(&user.name, &vhost).map_err(refused)?;
            user.topic_permissions.insert((vhost, exchange), topic);
        }
        Ok(user)
    }
}

impl StoredPermissions {
    fn permissions(&self) -> Result<Permissions, PatternRefused> {
        Ok(Permissions {
            configure: Pattern::new(&self.configure)?,
            write: Pattern::new(&self.write)?,
            read: Pattern::new(&self.read)?,
        })
    }
}

impl StoredTopicPermissions {
    fn permissions(&self, user: &UserName, vhost: &VhostName) -> Result<TopicPermissions, PatternRefused> {
        Ok(TopicPermissions {
            write: topic_pattern(&self.write, user, vhost)?,
            read: topic_pattern(&self.read, user, vhost)?,
        })
    }
}

/// How much a virtual host may have.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredVhostLimits {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(uint32, optional, tag = "2")]
    max_connections: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    max_queues: Option<u32>,
    #[prost(uint64, optional, tag = "4")]
    max_bytes: Option<u64>,
}

impl StoredVhostLimits {
    pub(super) fn new(vhost: &str, limits: VhostLimits) -> Self {
        let VhostLimits { max_connections, max_queues, max_bytes } = limits;
        Self { vhost: vhost.to_owned(), max_connections, max_queues, max_bytes }
    }

    pub(super) fn limits(&self) -> VhostLimits {
        let Self { max_connections, max_queues, max_bytes, .. } = *self;
        VhostLimits { max_connections, max_queues, max_bytes }
    }
}
