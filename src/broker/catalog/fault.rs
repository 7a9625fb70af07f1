//! Why what the catalog's log gave back, as it was written, is nothing that a catalog writes.

use std::error::Error;
use std::fmt;

use crate::auth::{HashError, PatternRefused};
use crate::model::{NameTooLong, SubscriptionName, VhostName};

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordFault {
    /// It is no record at all.
    Malformed(prost::DecodeError),
    /// It tells of a change that is unknown here.
    UnknownChange,
    Name(NameTooLong),
    Password {
        user: String,
        fault: HashError,
    },
    /// What a user may do cannot be read.
    Pattern {
        user: String,
        fault: PatternRefused,
    },
    /// Which names a policy is for cannot be read.
    PolicyPattern {
        policy: String,
        fault: PatternRefused,
    },
    /// A policy can be for nothing of this kind.
    PolicyAppliesTo(u32),
    ExchangeKind {
        exchange: String,
        kind: String,
    },
    /// There can be no shard of this number.
    Shard(u32),
    /// There can be no so many shards.
    Shards(u32),
    /// It is about something in a vhost that does not exist.
    NoVhost(VhostName),
    /// A member of a subscription without a queue.
    NoQueue(SubscriptionName),
    /// Journeys can be kept of nothing of this kind.
    JourneyScope(u32),
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(fault) => write!(f, "it holds no records: {fault}"),
            Self::UnknownChange => f.write_str("a record of a kind that this version does not know"),
            Self::Name(fault) => fault.fmt(f),
            Self::Password { user, fault } => write!(f, "the password of user '{user}': {fault}"),
            Self::Pattern { user, fault } => write!(f, "the permissions of user '{user}': {fault}"),
            Self::PolicyPattern { policy, fault } => write!(f, "the pattern of policy '{policy}': {fault}"),
            Self::PolicyAppliesTo(kind) => {
                write!(f, "a policy is for something of kind {kind}, which this version does not know")
            }
            Self::ExchangeKind { exchange, kind } => {
                write!(f, "exchange '{exchange}' is of kind '{kind}', which this version does not know")
            }
            Self::Shard(number) => write!(f, "there is no shard {number}, and a record names it"),
            Self::Shards(count) => write!(f, "a record says that there are {count} shards"),
            Self::NoVhost(vhost) => write!(f, "a record for vhost '{vhost}', which does not exist"),
            Self::JourneyScope(kind) => {
                write!(
                    f,
                    "a rule for journeys is about something of kind {kind}, which this version does not know"
                )
            }
            Self::NoQueue(name) => write!(f, "a member of subscription '{name}' has no queue"),
        }
    }
}

impl Error for RecordFault {}

impl From<NameTooLong> for RecordFault {
    fn from(fault: NameTooLong) -> Self {
        Self::Name(fault)
    }
}
