//! Policies as the catalog's log has them.

use std::sync::Arc;

use prost::Message;

use super::fault::RecordFault;
use super::record::StoredTable;
use crate::auth::Pattern;
use crate::broker::policy::{AppliesTo, Policy, PolicyKind};
use crate::model::{FieldTable, VhostName};

const QUEUES: u32 = 0;
const EXCHANGES: u32 = 1;
const ALL: u32 = 2;

/// A policy, or with its name alone one that goes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPolicy {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(bool, tag = "3")]
    operator: bool,
    #[prost(string, tag = "4")]
    pattern: String,
    #[prost(uint32, tag = "5")]
    applies_to: u32,
    #[prost(sint32, tag = "6")]
    priority: i32,
    #[prost(message, optional, tag = "7")]
    definition: Option<StoredTable>,
}

impl StoredPolicy {
    pub(super) fn new(vhost: &VhostName, policy: &Policy) -> Self {
        Self {
            pattern: policy.pattern.as_str().to_owned(),
            applies_to: match policy.applies_to {
                AppliesTo::Queues => QUEUES,
                AppliesTo::Exchanges => EXCHANGES,
                AppliesTo::All => ALL,
            },
            priority: policy.priority,
            definition: Some(StoredTable::from(&policy.definition)),
            ..Self::of_name(vhost, policy.kind, &policy.name)
        }
    }

    pub(super) fn of_name(vhost: &VhostName, kind: PolicyKind, name: &str) -> Self {
        let operator = kind == PolicyKind::Operator;
        Self { vhost: vhost.to_string(), name: name.to_owned(), operator, ..Self::default() }
    }

    pub(super) fn kind(&self) -> PolicyKind {
        if self.operator { PolicyKind::Operator } else { PolicyKind::User }
    }

    pub(super) fn policy(self) -> Result<Policy, RecordFault> {
        let refused = |fault| RecordFault::PolicyPattern { policy: self.name.clone(), fault };
        Ok(Policy {
            kind: self.kind(),
            pattern: Pattern::new(&self.pattern).map_err(refused)?,
            applies_to: match self.applies_to {
                QUEUES => AppliesTo::Queues,
                EXCHANGES => AppliesTo::Exchanges,
                ALL => AppliesTo::All,
                other => return Err(RecordFault::PolicyAppliesTo(other)),
            },
            priority: self.priority,
            name: Arc::from(self.name),
            definition: self.definition.map(FieldTable::from).unwrap_or_default(),
        })
    }
}
