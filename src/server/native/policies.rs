//! Policies: from the wire to the broker and back.

use std::sync::Arc;

use super::requests::arguments;
use crate::broker::{AppliesTo, Broker, Identity, Pattern, PatternRefused, Policy, PolicyKind};
use crate::model::{Entity, Refusal, ReplyCode};
use crate::wire::pb;

pub(super) async fn put(broker: &Broker, who: &Identity, put: pb::PutPolicy) -> Result<(), Refusal> {
    let pb::Policy { name, operator, pattern, applies_to, priority, definition } =
        put.policy.unwrap_or_default();
    let refuse = |text: String| {
        Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Vhost, who.vhost.name.as_str())
    };
    let words = AppliesTo::EACH.map(AppliesTo::as_str).join(", ");
    let policy = Policy {
        kind: kind(operator),
        pattern: Pattern::new(&pattern).map_err(|refused| {
            let got = match &refused {
                PatternRefused::Length { bytes } => format!("{bytes} bytes"),
                PatternRefused::TooComplex | PatternRefused::Syntax(_) => "another pattern".to_owned(),
            };
            refuse(format!("policy '{name}': {refused}"))
                .field("pattern", "a regular expression of 1,024 bytes at most", got)
                .hint("there are no look-around and no back references; a special character is written with a backslash before it")
        })?,
        applies_to: AppliesTo::of_name(&applies_to).ok_or_else(|| {
            refuse(format!("policy '{name}' is for nothing that is known here: {applies_to}"))
                .field("applies_to", words, &applies_to)
                .hint("every queue here is a classic one")
        })?,
        priority,
        name: Arc::from(name),
        definition: arguments(definition)?,
    };
    broker.put_policy(who, policy).await
}

pub(super) async fn delete(broker: &Broker, who: &Identity, delete: pb::DeletePolicy) -> Result<(), Refusal> {
    broker.delete_policy(who, kind(delete.operator), delete.name).await
}

fn kind(operator: bool) -> PolicyKind {
    if operator { PolicyKind::Operator } else { PolicyKind::User }
}

pub(super) fn entry(policy: &Policy) -> pb::Policy {
    pb::Policy {
        name: policy.name.to_string(),
        operator: policy.kind == PolicyKind::Operator,
        pattern: policy.pattern.as_str().to_owned(),
        applies_to: policy.applies_to.as_str().to_owned(),
        priority: policy.priority,
        definition: Some((&policy.definition).into()),
    }
}
