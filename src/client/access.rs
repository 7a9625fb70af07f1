//! What users may do, how much users and vhosts may have, and policies.

use super::admin::{Permissions, Policy, TopicPermissions, UserLimitsChange, VhostLimitsChange};
use super::channel::{Channel, done};
use super::convert::table_to_wire;
use super::error::RequestError;
use super::request::OnBreak;
use crate::wire::pb;
use crate::wire::pb::frame::Body;

/// Which policy of a name is to go: one of users, unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletePolicy {
    /// That of operators.
    pub operator: bool,
}

impl Channel {
    /// What users may do in vhosts: of all users for administrators, of the own one otherwise.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_permissions(&self) -> Result<Vec<Permissions>, RequestError> {
        self.list("").await
    }

    /// Which routing keys users may use with topic exchanges, where that is not every one: of all users for administrators, of
    /// the own one otherwise.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_topic_permissions(&self) -> Result<Vec<TopicPermissions>, RequestError> {
        self.list("").await
    }

    /// Says what a user may do in a vhost, which it may open from then on. It counts at once, also for connections that are
    /// there. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn put_permissions(&self, permissions: Permissions) -> Result<(), RequestError> {
        let Permissions { user, vhost, configure, write, read } = permissions;
        let permissions = Some(pb::Permissions { user, vhost, configure, write, read });
        let put = pb::PutPermissions { permissions };
        self.ask(Body::PutPermissions(put), OnBreak::Repeat).await.and_then(done)
    }

    /// The user may not open the vhost ("": the connection's) any more; an administrator may do everything in it again. Also fine
    /// if there are no permissions. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn delete_permissions(&self, user: &str, vhost: &str) -> Result<(), RequestError> {
        let delete = pb::DeletePermissions { user: user.to_owned(), vhost: vhost.to_owned() };
        self.ask(Body::DeletePermissions(delete), OnBreak::Repeat).await.and_then(done)
    }

    /// Says which routing keys a user may use with a topic exchange. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn put_topic_permissions(&self, permissions: TopicPermissions) -> Result<(), RequestError> {
        let TopicPermissions { user, vhost, exchange, write, read } = permissions;
        let permissions = Some(pb::TopicPermissions { user, vhost, exchange, write, read });
        let put = pb::PutTopicPermissions { permissions };
        self.ask(Body::PutTopicPermissions(put), OnBreak::Repeat).await.and_then(done)
    }

    /// The user may use every routing key of an exchange again; "": of all exchanges of the vhost ("": the connection's). Also
    /// fine if there are no permissions. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn delete_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
    ) -> Result<(), RequestError> {
        let (user, vhost, exchange) = (user.to_owned(), vhost.to_owned(), exchange.to_owned());
        let delete = pb::DeleteTopicPermissions { user, vhost, exchange };
        self.ask(Body::DeleteTopicPermissions(delete), OnBreak::Repeat).await.and_then(done)
    }

    /// The policies of the connection's vhost, by name, and then those of operators.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_policies(&self) -> Result<Vec<Policy>, RequestError> {
        self.list("").await
    }

    /// Puts a policy in the connection's vhost, in the place of the one of its name. It holds at once for what is there. Administrators
    /// only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn put_policy(&self, policy: Policy) -> Result<(), RequestError> {
        let Policy { name, operator, pattern, applies_to, priority, definition } = policy;
        let definition = table_to_wire(&definition);
        let policy = Some(pb::Policy { name, operator, pattern, applies_to, priority, definition });
        self.ask(Body::PutPolicy(pb::PutPolicy { policy }), OnBreak::Repeat).await.and_then(done)
    }

    /// Deletes a policy of the connection's vhost, or one of operators; also fine if there is none. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn delete_policy(&self, name: &str, which: DeletePolicy) -> Result<(), RequestError> {
        let DeletePolicy { operator } = which;
        let delete = pb::DeletePolicy { name: name.to_owned(), operator };
        self.ask(Body::DeletePolicy(delete), OnBreak::Repeat).await.and_then(done)
    }

    /// Limits what a user may have; what is there beyond it stays. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn limit_user(&self, user: &str, change: UserLimitsChange) -> Result<(), RequestError> {
        let limits = Some(pb::UserLimits {
            user: user.to_owned(),
            max_connections: change.max_connections.map(limit_to_wire),
            max_channels: change.max_channels.map(limit_to_wire),
        });
        self.ask(Body::PutUserLimits(pb::PutUserLimits { limits }), OnBreak::Repeat).await.and_then(done)
    }

    /// Limits what a vhost may have; what is there beyond it stays. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn limit_vhost(&self, vhost: &str, change: VhostLimitsChange) -> Result<(), RequestError> {
        let limits = Some(pb::VhostLimits {
            vhost: vhost.to_owned(),
            max_connections: change.max_connections.map(limit_to_wire),
            max_queues: change.max_queues.map(limit_to_wire),
            max_bytes: change.max_bytes.map(limit_to_wire),
        });
        self.ask(Body::PutVhostLimits(pb::PutVhostLimits { limits }), OnBreak::Repeat).await.and_then(done)
    }
}

/// -1 says that there is none.
fn limit_to_wire(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}
