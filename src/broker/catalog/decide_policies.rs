//! Which policies there may be.

use std::sync::Arc;

use super::catalog::Catalog;
use super::entry::Entry;
use crate::broker::policy::{DefinitionFault, POLICIES_MAX, Policy, PolicyKind};
use crate::model::{Entity, NAME_BYTES_MAX, Refusal, ReplyCode, VhostName};

impl Catalog {
    /// One of its name takes the place of the one before.
    pub(super) fn decide_put_policy(
        &self,
        vhost: &VhostName,
        policy: &Policy,
    ) -> Result<Vec<Entry>, Refusal> {
        let policies = &self.vhost(vhost)?.policies;
        let what = policy.kind.as_str();
        let refuse = |text: String| {
            Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Vhost, vhost.as_str())
        };
        if policy.name.is_empty() || policy.name.len() > NAME_BYTES_MAX {
            let (expected, got) =
                (format!("1 to {NAME_BYTES_MAX} bytes"), format!("{} bytes", policy.name.len()));
            return Err(refuse(format!("{what} of vhost '{vhost}' has no name, or one that is too long"))
                .field("name", expected, got));
        }
        if let Err(fault) = policy.check() {
            let text = format!("definition of {what} '{}' in vhost '{vhost}': {fault}", policy.name);
            let DefinitionFault { field, expected, got } = fault;
            return Err(refuse(text).field(field, expected, got));
        }
        let current = policies.get(policy.kind, &policy.name);
        if current.is_some_and(|current| **current == *policy) {
            return Ok(Vec::new());
        }
        if current.is_none() && policies.count(policy.kind) >= POLICIES_MAX {
            let text = format!("vhost '{vhost}' has as many of these as it may: {what}");
            return Err(refuse(text)
                .field("name", format!("{POLICIES_MAX} at most"), "one more")
                .hint("delete some, or say in one what holds for more names"));
        }
        Ok(vec![Entry::PutPolicy(vhost.clone(), Arc::new(policy.clone()))])
    }

    /// What held by it holds no more.
    pub(super) fn decide_delete_policy(
        &self,
        vhost: &VhostName,
        kind: PolicyKind,
        name: &str,
    ) -> Result<Vec<Entry>, Refusal> {
        let is_there = self.vhost(vhost)?.policies.get(kind, name).is_some();
        Ok(if is_there {
            vec![Entry::DeletePolicy(vhost.clone(), kind, Arc::from(name))]
        } else {
            Vec::new()
        })
    }
}
