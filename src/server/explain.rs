//! Where a message would go, for the wire.

use prost::Message as _;

use super::lists::binding_entry;
use super::requests::arguments;
use crate::broker::{Broker, Explanation, Identity, ReachedBy};
use crate::model::Refusal;
use crate::wire::pb;

/// Bindings are left out of an answer from this size on.
const EXPLANATION_BYTES: usize = 8 * 1024 * 1024;

/// Explains a route.
pub(super) fn explain(
    broker: &Broker,
    who: &Identity,
    request: pb::Explain,
) -> Result<pb::Explanation, Refusal> {
    let headers = match request.headers {
        Some(headers) => Some(arguments(Some(headers))?),
        None => None,
    };
    let explanation = broker.explain(who, &request.exchange, &request.routing_key, headers.as_ref())?;
    Ok(explained(explanation))
}

fn explained(explanation: Explanation) -> pb::Explanation {
    let mut omitted = explanation.bindings_omitted;
    let mut bytes = 0;
    let mut exchanges = Vec::with_capacity(explanation.exchanges.len());
    for exchange in explanation.exchanges {
        let mut bindings = Vec::new();
        for explained in exchange.bindings {
            if bytes > EXPLANATION_BYTES {
                omitted += 1;
                continue;
            }
            let entry = pb::ExplainedBinding {
                binding: Some(binding_entry(&explained.binding)),
                matched: explained.matched,
                reason: explained.reason,
            };
            bytes += entry.encoded_len();
            bindings.push(entry);
        }
        let (reached_from, as_alternate) = match exchange.reached_by {
            ReachedBy::Publish => (String::new(), false),
            ReachedBy::Binding(from) => (from.to_string(), false),
            ReachedBy::Alternate(from) => (from.to_string(), true),
        };
        exchanges.push(pb::ExplainedExchange {
            name: exchange.name.to_string(),
            r#type: exchange.kind.as_str().to_owned(),
            reached_from,
            as_alternate,
            bindings,
            alternate_exchange: exchange.alternate_exchange.map(|name| name.to_string()).unwrap_or_default(),
            alternate_note: exchange.alternate_note,
        });
    }
    let queues = explanation.queues.iter().map(ToString::to_string).collect();
    pb::Explanation { exchanges, queues, bindings_omitted: omitted }
}
