//! Rules for journeys as the catalog's log has them.

use prost::Message;

use super::fault::RecordFault;
use crate::journey::{Filter, Rule, Scope};
use crate::model::{ExchangeName, QueueName, RoutingKey, VhostName};

const VHOST: u32 = 0;
const EXCHANGE: u32 = 1;
const QUEUE: u32 = 2;

/// A rule, or with its scope alone one that goes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRule {
    #[prost(string, tag = "1")]
    pub(super) vhost: String,
    #[prost(uint32, tag = "2")]
    scope: u32,
    /// Name of the exchange or queue.
    #[prost(string, tag = "3")]
    name: String,
    #[prost(uint32, tag = "4")]
    per_million: u32,
    #[prost(string, optional, tag = "5")]
    key: Option<String>,
    #[prost(string, optional, tag = "6")]
    header: Option<String>,
    #[prost(string, tag = "7")]
    header_value: String,
}

impl StoredRule {
    pub(super) fn new(vhost: &VhostName, rule: &Rule) -> Self {
        let header = rule.filter.header.clone();
        Self {
            per_million: rule.per_million,
            key: rule.filter.key.as_ref().map(ToString::to_string),
            header: header.as_ref().map(|(name, _)| name.clone()),
            header_value: header.map(|(_, value)| value).unwrap_or_default(),
            ..Self::of_scope(vhost, &rule.scope)
        }
    }

    pub(super) fn of_scope(vhost: &VhostName, scope: &Scope) -> Self {
        let (scope, name) = match scope {
            Scope::Vhost => (VHOST, String::new()),
            Scope::Exchange(name) => (EXCHANGE, name.to_string()),
            Scope::Queue(name) => (QUEUE, name.to_string()),
        };
        Self { vhost: vhost.to_string(), scope, name, ..Self::default() }
    }

    pub(super) fn scope(&self) -> Result<Scope, RecordFault> {
        Ok(match self.scope {
            VHOST => Scope::Vhost,
            EXCHANGE => Scope::Exchange(ExchangeName::new(&self.name)?),
            QUEUE => Scope::Queue(QueueName::new(&self.name)?),
            other => return Err(RecordFault::JourneyScope(other)),
        })
    }

    pub(super) fn rule(self) -> Result<Rule, RecordFault> {
        let scope = self.scope()?;
        let key = self.key.map(|key| RoutingKey::new(&key)).transpose()?;
        let header = self.header.map(|name| (name, self.header_value));
        Ok(Rule { scope, filter: Filter { key, header }, per_million: self.per_million })
    }
}
