//! Of which messages journeys may be kept.

use std::sync::Arc;

use super::catalog::Catalog;
use super::entry::Entry;
use crate::journey::{Rule, SAMPLE_ALL, Scope};
use crate::model::{Entity, NAME_BYTES_MAX, Refusal, ReplyCode, VhostName};
use crate::routing::{no_such_exchange, no_such_queue};

/// Rules of a vhost.
const RULES_MAX: usize = 1_000;

impl Catalog {
    /// One rule for each scope: another one takes its place.
    pub(super) fn decide_put_journey_rule(
        &self,
        vhost: &VhostName,
        rule: &Rule,
    ) -> Result<Vec<Entry>, Refusal> {
        let state = self.vhost(vhost)?;
        match &rule.scope {
            Scope::Vhost => {}
            // What is published to the default exchange is, too.
            Scope::Exchange(name) => {
                state.table.exchange(name).ok_or_else(|| no_such_exchange(name, vhost))?;
            }
            Scope::Queue(name) => {
                state.queues.get(name).ok_or_else(|| no_such_queue(name, vhost))?;
            }
        }
        if !(1..=SAMPLE_ALL).contains(&rule.per_million) {
            let text = "a sample has a part of the messages, or all of them";
            return Err(Refusal::new(ReplyCode::PreconditionFailed, text).field(
                "per_million",
                format!("1 to {SAMPLE_ALL}"),
                rule.per_million.to_string(),
            ));
        }
        if let Some((name, value)) = &rule.filter.header
            && (name.is_empty() || name.len() > NAME_BYTES_MAX || value.len() > NAME_BYTES_MAX)
        {
            let text = "no message has a header of this name, or its value is too long to be compared";
            return Err(Refusal::new(ReplyCode::PreconditionFailed, text).field(
                "header",
                format!("a name of 1 to {NAME_BYTES_MAX} bytes, and a value of {NAME_BYTES_MAX} at most"),
                format!("{} and {} bytes", name.len(), value.len()),
            ));
        }
        let current = state.journeys.get(&rule.scope);
        if current.is_some_and(|current| **current == *rule) {
            return Ok(Vec::new());
        }
        if current.is_none() && state.journeys.len() >= RULES_MAX {
            let text = format!("vhost '{vhost}' has as many rules for journeys as it may");
            return Err(Refusal::new(ReplyCode::PreconditionFailed, text)
                .about(Entity::Vhost, vhost.as_str())
                .field("scope", format!("{RULES_MAX} at most"), "one more")
                .hint("take some away, or keep journeys of the whole vhost"));
        }
        Ok(vec![Entry::PutJourneyRule(vhost.clone(), Arc::new(rule.clone()))])
    }

    /// What was kept stays until it gives way.
    pub(super) fn decide_delete_journey_rule(
        &self,
        vhost: &VhostName,
        scope: &Scope,
    ) -> Result<Vec<Entry>, Refusal> {
        let is_there = self.vhost(vhost)?.journeys.contains_key(scope);
        Ok(if is_there { vec![Entry::DeleteJourneyRule(vhost.clone(), scope.clone())] } else { Vec::new() })
    }
}
