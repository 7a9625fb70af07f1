//! What front ends ask of the catalog, and its answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::auth::{
    Access, Password, PasswordHash, Permissions, TopicPermissions, UserLimitsChange, VhostLimitsChange,
};
use crate::broker::histories::HandedHistory;
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::presence::PresenceChange;
use crate::broker::subscription::{Sharing, SubscriptionBinding};
use crate::broker::vhost::QueueDefinition;
use crate::journey::{Rule, Scope};
use crate::model::{
    ConnectionId, ExchangeName, FieldTable, MemberName, QueueId, QueueName, SubscriptionName, UserName,
    VhostName,
};
use crate::routing::{Binding, ExchangeDefinition};
use crate::shard::SealConditions;

/// A queue to be made or checked.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueDeclaration {
    /// Empty: the broker makes a name.
    pub name: QueueName,
    /// Survives a restart.
    pub durable: bool,
    /// For the declaring connection alone.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Known: "x-queue-type" with "classic".
    pub arguments: FieldTable,
}

/// A queue that was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredQueue {
    /// Its name.
    pub name: QueueName,
    /// Ready messages.
    pub messages_ready: u64,
    /// Consumers.
    pub consumers: u32,
}

/// What an exchange is to take from now on. Of its arguments, those about that can be changed: the list of keys, the schemas, the
/// quarantine queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Alteration {
    /// The exchange.
    pub name: String,
    /// Arguments as they are to be; the others stay.
    pub set: FieldTable,
    /// Names of arguments that it is to have no more.
    pub remove: Vec<String>,
}

/// What a queue that is there is to be from now on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueAlteration {
    /// The queue.
    pub name: String,
    /// Arguments as they are to be, of those that can be altered; the others stay.
    pub set: FieldTable,
    /// Names of arguments that it is to have no more.
    pub remove: Vec<String>,
    /// What it is to be in this; refused if it is not that already.
    pub durable: Option<bool>,
    /// Likewise.
    pub exclusive: Option<bool>,
    /// Likewise.
    pub auto_delete: Option<bool>,
}

/// A subscription to be made or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionDeclaration {
    /// 1 to 120 bytes, without ":" and control characters.
    pub name: SubscriptionName,
    /// `None`: as it is; a new one is shared.
    pub sharing: Option<Sharing>,
    /// Who joins, if each has a queue; empty: nobody.
    pub member: MemberName,
    /// All that it is to listen to; none: what it listens to.
    pub bindings: Vec<SubscriptionBinding>,
    /// Milliseconds without a consumer after which a queue goes; 0: never. `None`: as it is.
    pub expires_after_ms: Option<u64>,
    /// Those to be set; an empty value takes one away.
    pub annotations: BTreeMap<String, String>,
    /// Arguments of its queues: what they retain. `None`: as it is.
    pub queue_arguments: Option<FieldTable>,
    /// One that is there stays as it is.
    pub keep: bool,
}

/// A user to be made or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserChange {
    /// Who.
    pub name: UserName,
    /// `None`: keep the password of a user that exists.
    pub password: Option<Password>,
    /// May do everything.
    pub administrator: bool,
    /// May open these.
    pub vhosts: Vec<VhostName>,
}

/// A change of what a user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermissionChange {
    /// What the user may do in a vhost from now on, which it may open from now on; `None`: it may not open it any more, and an
    /// administrator may do everything there.
    Of {
        /// Where.
        vhost: VhostName,
        /// What.
        permissions: Option<Permissions>,
    },
    /// Which keys of a topic exchange the user may use from now on; `None`: every one.
    OfTopic {
        /// Where.
        vhost: VhostName,
        /// The exchange, which need not be there.
        exchange: ExchangeName,
        /// What.
        permissions: Option<TopicPermissions>,
    },
    /// Every key of all topic exchanges of a vhost.
    OfNoTopic {
        /// Where.
        vhost: VhostName,
    },
}

/// A change of the catalog.
#[derive(Debug, Clone)]
pub(in crate::broker) enum Request {
    DeclareExchange {
        vhost: VhostName,
        access: Access,
        definition: ExchangeDefinition,
    },
    AlterExchange {
        vhost: VhostName,
        alteration: Alteration,
    },
    DeleteExchange {
        vhost: VhostName,
        name: String,
        if_unused: bool,
    },
    Bind {
        vhost: VhostName,
        connection: ConnectionId,
        binding: Binding,
    },
    Unbind {
        vhost: VhostName,
        connection: ConnectionId,
        binding: Binding,
    },
    DeclareQueue {
        vhost: VhostName,
        access: Access,
        connection: ConnectionId,
        declaration: QueueDeclaration,
    },
    AlterQueue {
        vhost: VhostName,
        access: Access,
        connection: ConnectionId,
        alteration: QueueAlteration,
    },
    DeleteQueue {
        vhost: VhostName,
        connection: ConnectionId,
        name: String,
        conditions: SealConditions,
    },
    /// Its shard has looked whether the conditions hold, and takes no more consumers for it.
    DeleteSealed {
        vhost: VhostName,
        queue: Arc<QueueDefinition>,
    },
    Subscribe {
        vhost: VhostName,
        declaration: SubscriptionDeclaration,
    },
    /// With the empty member all of it.
    Unsubscribe {
        vhost: VhostName,
        name: String,
        member: String,
    },
    PutPolicy {
        vhost: VhostName,
        policy: Policy,
    },
    DeletePolicy {
        vhost: VhostName,
        kind: PolicyKind,
        name: String,
    },
    PutJourneyRule {
        vhost: VhostName,
        rule: Rule,
    },
    DeleteJourneyRule {
        vhost: VhostName,
        scope: Scope,
    },
    /// The clock says that nobody came for this queue of a subscription for as long as it waits.
    Expire {
        queue: QueueId,
    },
    /// What has changed about who is there, to be told after a restart.
    NotePresence(PresenceChange),
    CloseConnection {
        vhost: VhostName,
        connection: ConnectionId,
    },
    PutUser {
        name: UserName,
        password_hash: Option<PasswordHash>,
        administrator: bool,
        vhosts: Vec<VhostName>,
    },
    LimitUser {
        name: UserName,
        change: UserLimitsChange,
    },
    LimitVhost {
        name: VhostName,
        change: VhostLimitsChange,
    },
    ChangePermissions {
        user: UserName,
        change: PermissionChange,
    },
    DeleteUser {
        name: UserName,
    },
    PutVhost {
        name: VhostName,
        /// Its quarantine queue, or that it has none; `None`: as it is.
        quarantine: Option<Option<QueueName>>,
    },
    DeleteVhost {
        name: VhostName,
    },
}

/// What the catalog answers to a request that it carried out.
#[derive(Debug)]
pub(in crate::broker) enum Answer {
    /// Done.
    Done,
    /// A binding is there, and these messages of its source are on their way to what is bound.
    Bound(Vec<HandedHistory>),
    /// A queue is there.
    Queue(QueueName),
    /// A subscription is there, with its queue, to which these messages are on their way.
    Subscribed(QueueName, Vec<HandedHistory>),
    /// Queues are gone; their shards tell how many ready messages went with each.
    Deleted(Vec<oneshot::Receiver<u64>>),
}
