//! Policies as front ends put and list them.

use std::sync::Arc;

use super::broker::Broker;
use super::catalog::Request;
use super::inspect::{Page, bad_token, page};
use super::login::Identity;
use super::policy::{Policy, PolicyKind};
use crate::model::Refusal;

impl Broker {
    /// Puts a policy in the user's vhost, or another one in its place. It holds at once for what is there. Administrators only.
    ///
    /// # Errors
    /// 403 for others, 406 for a definition that says nothing that can be done, or if there are too many.
    pub async fn put_policy(&self, who: &Identity, policy: Policy) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::PutPolicy { vhost: who.vhost_name(), policy }).await
    }

    /// Deletes a policy of the user's vhost; one that does not exist is fine. Administrators only.
    ///
    /// # Errors
    /// 403 for others.
    pub async fn delete_policy(&self, who: &Identity, kind: PolicyKind, name: String) -> Result<(), Refusal> {
        self.check_administrator(who)?;
        self.done(Request::DeletePolicy { vhost: who.vhost_name(), kind, name }).await
    }

    /// The policies of the user's vhost, by name, and then those of operators.
    ///
    /// # Errors
    /// 502 for a token that this call did not give.
    pub fn list_policies(
        &self,
        who: &Identity,
        token: &str,
        size: usize,
    ) -> Result<Page<Arc<Policy>>, Refusal> {
        let after: usize = match token {
            "" => 0,
            token => token.parse().map_err(|_| bad_token(token))?,
        };
        let policies = who.vhost.policies();
        let entries: Vec<_> = policies.iter().skip(after).take(size.saturating_add(1)).cloned().collect();
        Ok(page(entries, size, |_| after.saturating_add(size).to_string()))
    }
}
