//! What can happen to the catalog: the only input of [`Catalog::apply`](super::Catalog::apply), live and at recovery.

use std::sync::Arc;

use super::fault::RecordFault;
use super::record::{
    self, Change, Record, StoredBinding, StoredExchange, StoredLog, StoredName, StoredPresence,
};
use super::stored_policy::StoredPolicy;
use super::stored_rule::StoredRule;
use super::stored_subscription::{StoredMemberName, StoredSubscription};
use super::stored_user::{StoredUser, StoredVhostLimits};
use crate::auth::{User, VhostLimits};
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::presence::PresenceChange;
use crate::broker::subscription::Subscription;
use crate::broker::vhost::QueueDefinition;
use crate::journey::{Rule, Scope};
use crate::model::{
    Bug, ExchangeName, MemberName, QueueName, ShardId, SubscriptionName, UserName, VhostName, planted,
};
use crate::routing::{Binding, ExchangeDefinition};
use crate::storage::{KnownLog, LogIndex};

/// One change. What does not outlive the process has no record, and goes the same way otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    PutVhost(VhostName),
    /// With all that is in it.
    DeleteVhost(VhostName),
    PutUser(Arc<User>),
    DeleteUser(UserName),
    /// How much the vhost may have from now on.
    LimitVhost(VhostName, VhostLimits),
    /// What holds from now on for queues and exchanges that match it, in the place of what this policy said before.
    PutPolicy(VhostName, Arc<Policy>),
    DeletePolicy(VhostName, PolicyKind, Arc<str>),
    /// Which queue keeps what exchanges refuse that name none of their own; `None`: none does.
    QuarantineOf(VhostName, Option<QueueName>),
    PutExchange(VhostName, ExchangeDefinition),
    /// What the exchange of this name is from now on; its bindings stay.
    AlterExchange(VhostName, ExchangeDefinition),
    /// With its bindings.
    DeleteExchange {
        vhost: VhostName,
        name: ExchangeName,
        durable: bool,
    },
    PutQueue(VhostName, Arc<QueueDefinition>),
    /// With its bindings.
    DeleteQueue {
        vhost: VhostName,
        name: QueueName,
        durable: bool,
    },
    Bind {
        vhost: VhostName,
        binding: Binding,
        durable: bool,
    },
    Unbind {
        vhost: VhostName,
        binding: Binding,
        durable: bool,
    },
    /// What a subscription is from now on, with its bindings; its members are those that join, the others stay.
    PutSubscription(VhostName, Arc<Subscription>),
    /// With its queues.
    DeleteSubscription(VhostName, SubscriptionName),
    /// With its queue.
    DeleteMember {
        vhost: VhostName,
        subscription: SubscriptionName,
        member: MemberName,
    },
    /// Journeys of messages are kept as this says, in the place of what was said about the same scope.
    PutJourneyRule(VhostName, Arc<Rule>),
    DeleteJourneyRule(VhostName, Scope),
    /// Nobody consumes from some queues of subscriptions, or somebody does again.
    Presence(PresenceChange),
    /// A durable auto-delete exchange has got a binding that a restart forgets, so that it goes with that restart unless
    /// it has others.
    ExchangeUsed(VhostName, ExchangeName),
    /// Bodies of so many bytes are allowed from now on; lower limits that come later change nothing about what is there.
    BodyBytesMax(u64),
    /// How many durable shards there are; once.
    Shards(u16),
    /// Numbers of queues up to this one have been given.
    NextQueue(u64),
    /// Which log a shard has, and how far it reached when that was last known.
    ShardLog(ShardId, KnownLog),
}

impl Entry {
    /// What of it goes into the catalog's log; `None` if it goes with the process.
    pub(super) fn record(&self) -> Option<Record> {
        let change = match self {
            Self::Unbind { .. } if planted(Bug::UnbindNotRecorded) => return None,
            Self::PutVhost(name) => Change::PutVhost(StoredName::new("", name)),
            Self::DeleteVhost(name) => Change::DeleteVhost(StoredName::new("", name)),
            Self::PutUser(user) if user.is_restricted() => Change::PutRestrictedUser(StoredUser::new(user)),
            Self::PutUser(user) => Change::PutUser(StoredUser::new(user)),
            Self::DeleteUser(name) => Change::DeleteUser(StoredName::new("", name)),
            Self::QuarantineOf(vhost, queue) => {
                Change::QuarantineOf(StoredName::new(vhost, queue.as_deref().unwrap_or_default()))
            }
            Self::LimitVhost(vhost, limits) => Change::LimitVhost(StoredVhostLimits::new(vhost, *limits)),
            Self::PutPolicy(vhost, policy) => Change::PutPolicy(StoredPolicy::new(vhost, policy)),
            Self::DeletePolicy(vhost, kind, name) => {
                Change::DeletePolicy(StoredPolicy::of_name(vhost, *kind, name))
            }
            Self::PutExchange(vhost, definition) if definition.durable => {
                Change::PutExchange(StoredExchange::new(vhost, definition))
            }
            Self::AlterExchange(vhost, definition) if definition.durable => {
                Change::AlterExchange(StoredExchange::new(vhost, definition))
            }
            Self::DeleteExchange { vhost, name, durable: true } => {
                Change::DeleteExchange(StoredName::new(vhost, name))
            }
            Self::PutQueue(vhost, queue) if queue.durable => {
                Change::PutQueue(record::stored_queue(vhost, queue))
            }
            Self::DeleteQueue { vhost, name, durable: true } => {
                Change::DeleteQueue(StoredName::new(vhost, name))
            }
            Self::Bind { vhost, binding, durable: true } => Change::Bind(StoredBinding::new(vhost, binding)),
            Self::Unbind { vhost, binding, durable: true } => {
                Change::Unbind(StoredBinding::new(vhost, binding))
            }
            Self::PutSubscription(vhost, subscription) => {
                Change::PutSubscription(StoredSubscription::new(vhost, subscription))
            }
            Self::DeleteSubscription(vhost, name) => Change::DeleteSubscription(StoredName::new(vhost, name)),
            Self::DeleteMember { vhost, subscription, member } => Change::DeleteMember(StoredMemberName {
                vhost: vhost.to_string(),
                subscription: subscription.to_string(),
                member: member.to_string(),
            }),
            Self::PutJourneyRule(vhost, rule) => Change::PutJourneyRule(StoredRule::new(vhost, rule)),
            Self::DeleteJourneyRule(vhost, scope) => {
                Change::DeleteJourneyRule(StoredRule::of_scope(vhost, scope))
            }
            Self::Presence(change) => Change::Presence(StoredPresence::new(change)),
            Self::ExchangeUsed(vhost, name) => Change::ExchangeUsed(StoredName::new(vhost, name)),
            Self::BodyBytesMax(bytes) => Change::BodyBytesMax(*bytes),
            Self::Shards(count) => Change::Shards((*count).into()),
            Self::NextQueue(number) => Change::NextQueue(*number),
            Self::ShardLog(shard, log) => {
                Change::ShardLog(StoredLog { shard: shard.0.into(), log_id: log.id, end: log.end.0 })
            }
            Self::PutExchange(..)
            | Self::AlterExchange(..)
            | Self::PutQueue(..)
            | Self::DeleteExchange { .. }
            | Self::DeleteQueue { .. }
            | Self::Bind { .. }
            | Self::Unbind { .. } => return None,
        };
        Some(change.into())
    }

    /// Reads what [`record`](Self::record) made.
    ///
    /// # Errors
    /// Why it is no change of this version.
    pub(super) fn of(record: Record) -> Result<Self, RecordFault> {
        let Some(change) = record.change else {
            return Err(RecordFault::UnknownChange);
        };
        Ok(match change {
            Change::PutVhost(stored) => Self::PutVhost(VhostName::new(&stored.name)?),
            Change::DeleteVhost(stored) => Self::DeleteVhost(VhostName::new(&stored.name)?),
            Change::PutUser(stored) | Change::PutRestrictedUser(stored) => {
                Self::PutUser(Arc::new(stored.user()?))
            }
            Change::QuarantineOf(stored) => {
                let queue = Some(&*stored.name).filter(|name| !name.is_empty());
                Self::QuarantineOf(VhostName::new(&stored.vhost)?, queue.map(QueueName::new).transpose()?)
            }
            Change::LimitVhost(stored) => Self::LimitVhost(VhostName::new(&stored.vhost)?, stored.limits()),
            Change::PutPolicy(stored) => {
                Self::PutPolicy(VhostName::new(&stored.vhost)?, Arc::new(stored.policy()?))
            }
            Change::DeletePolicy(stored) => {
                Self::DeletePolicy(VhostName::new(&stored.vhost)?, stored.kind(), Arc::from(stored.name))
            }
            Change::DeleteUser(stored) => Self::DeleteUser(UserName::new(&stored.name)?),
            Change::PutExchange(stored) => {
                Self::PutExchange(VhostName::new(&stored.vhost)?, stored.definition()?)
            }
            Change::AlterExchange(stored) => {
                Self::AlterExchange(VhostName::new(&stored.vhost)?, stored.definition()?)
            }
            Change::DeleteExchange(stored) => Self::DeleteExchange {
                vhost: VhostName::new(&stored.vhost)?,
                name: ExchangeName::new(&stored.name)?,
                durable: true,
            },
            Change::PutQueue(stored) => {
                let vhost = VhostName::new(&stored.vhost)?;
                Self::PutQueue(vhost, Arc::new(stored.definition()?))
            }
            Change::DeleteQueue(stored) => Self::DeleteQueue {
                vhost: VhostName::new(&stored.vhost)?,
                name: QueueName::new(&stored.name)?,
                durable: true,
            },
            Change::Bind(stored) => {
                let vhost = VhostName::new(&stored.vhost)?;
                Self::Bind { vhost, binding: stored.binding()?, durable: true }
            }
            Change::Unbind(stored) => {
                let vhost = VhostName::new(&stored.vhost)?;
                Self::Unbind { vhost, binding: stored.binding()?, durable: true }
            }
            Change::PutSubscription(stored) => {
                let vhost = VhostName::new(&stored.vhost)?;
                Self::PutSubscription(vhost, Arc::new(stored.subscription()?))
            }
            Change::DeleteSubscription(stored) => {
                let name = SubscriptionName::new(&stored.name)?;
                Self::DeleteSubscription(VhostName::new(&stored.vhost)?, name)
            }
            Change::DeleteMember(stored) => Self::DeleteMember {
                vhost: VhostName::new(&stored.vhost)?,
                subscription: SubscriptionName::new(&stored.subscription)?,
                member: MemberName::new(&stored.member)?,
            },
            Change::PutJourneyRule(stored) => {
                Self::PutJourneyRule(VhostName::new(&stored.vhost)?, Arc::new(stored.rule()?))
            }
            Change::DeleteJourneyRule(stored) => {
                Self::DeleteJourneyRule(VhostName::new(&stored.vhost)?, stored.scope()?)
            }
            Change::Presence(stored) => Self::Presence(stored.change()),
            Change::ExchangeUsed(stored) => {
                Self::ExchangeUsed(VhostName::new(&stored.vhost)?, ExchangeName::new(&stored.name)?)
            }
            Change::BodyBytesMax(bytes) => Self::BodyBytesMax(bytes),
            Change::Shards(count) => {
                Self::Shards(u16::try_from(count).map_err(|_| RecordFault::Shards(count))?)
            }
            Change::NextQueue(number) => Self::NextQueue(number),
            Change::ShardLog(StoredLog { shard, log_id, end }) => {
                let shard = u16::try_from(shard).map_err(|_| RecordFault::Shard(shard))?;
                Self::ShardLog(ShardId(shard), KnownLog { id: log_id, end: LogIndex(end) })
            }
        })
    }

    /// The vhost that must be there for it.
    pub(super) fn needs_vhost(&self) -> Option<&VhostName> {
        match self {
            Self::LimitVhost(vhost, _)
            | Self::PutPolicy(vhost, _)
            | Self::DeletePolicy(vhost, _, _)
            | Self::QuarantineOf(vhost, _)
            | Self::PutExchange(vhost, _)
            | Self::AlterExchange(vhost, _)
            | Self::DeleteExchange { vhost, .. }
            | Self::PutQueue(vhost, _)
            | Self::DeleteQueue { vhost, .. }
            | Self::Bind { vhost, .. }
            | Self::Unbind { vhost, .. }
            | Self::PutSubscription(vhost, _)
            | Self::DeleteSubscription(vhost, _)
            | Self::DeleteMember { vhost, .. }
            | Self::PutJourneyRule(vhost, _)
            | Self::DeleteJourneyRule(vhost, _)
            | Self::ExchangeUsed(vhost, _) => Some(vhost),
            Self::PutVhost(_)
            | Self::DeleteVhost(_)
            | Self::PutUser(_)
            | Self::DeleteUser(_)
            | Self::Presence(_)
            | Self::BodyBytesMax(_)
            | Self::Shards(_)
            | Self::NextQueue(_)
            | Self::ShardLog(..) => None,
        }
    }
}
