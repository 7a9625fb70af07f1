//! Where a message would go, for the wire.

use prost::Message as _;

use super::lists::binding_entry;
use super::requests::arguments;
use crate::broker::{
    Broker, Enquiry, ExplainedBinding, ExplainedExchange, Explanation, Identity, OutlookKind, Payload,
    QueueOutlook, ReachedBy,
};
use crate::message::item_len;
use crate::model::{Entity, Refusal, ReplyCode};
use crate::wire::pb;

/// An answer is not longer, in bytes.
const EXPLANATION_BYTES: usize = 8 * 1024 * 1024;
/// What surrounds an entry in an answer at most, in bytes: field numbers and lengths.
const ENTRY_BYTES_AROUND: usize = 16;

/// What is kept of the room in an answer for what queues would do, as a part of it.
const OUTLOOKS_PART: usize = 4;

/// Explains a route and what is at its end, in `bytes_max` at most.
pub(super) async fn explain(
    broker: &Broker,
    who: &Identity,
    request: pb::Explain,
    bytes_max: usize,
) -> Result<pb::Explanation, Refusal> {
    let enquiry = enquiry(&request)?;
    let headers = match request.headers {
        Some(headers) => Some(arguments(Some(headers))?),
        None => None,
    };
    let content_encoding = &*request.content_encoding;
    let payload = request.body.as_deref().map(|body| Payload { body, content_encoding });
    let explanation =
        broker.explain(who, &request.exchange, &request.routing_key, headers.as_ref(), payload)?;
    let bytes_max = bytes_max.min(EXPLANATION_BYTES);
    let outlooks = broker.outlook(who, &explanation.queues, &enquiry).await?;
    let mut room = Room(bytes_max / OUTLOOKS_PART);
    let outlooks = outlooks.iter().map(outlook_entry).take_while(|entry| room.takes(entry.encoded_len()));
    let outlooks: Vec<pb::QueueOutlook> = outlooks.collect();
    let answer = explained(explanation, bytes_max - bytes_max / OUTLOOKS_PART);
    Ok(pb::Explanation { outlooks, ..answer })
}

/// The message as it would come, if it was published with a key that its target has.
fn enquiry(request: &pb::Explain) -> Result<Enquiry, Refusal> {
    let pb::Explain { expiration_ms, delay_ms, deliver_at_ms, .. } = *request;
    let priority = u8::try_from(request.priority).map_err(|_| {
        Refusal::new(ReplyCode::PreconditionFailed, "a message has no such priority")
            .about(Entity::Message, "")
            .field("priority", "0 to 255", request.priority.to_string())
    })?;
    let properties = pb::Properties {
        content_encoding: request.content_encoding.clone(),
        headers: request.headers.clone(),
        priority: request.priority,
        expiration_ms,
        delay_ms,
        deliver_at_ms,
        ..pb::Properties::default()
    };
    let body = request.body.as_deref();
    let bytes = item_len(&properties.encode_to_vec(), body.unwrap_or_default(), None, false);
    // It came in a frame, which is shorter than that.
    let size_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let body_is_known = body.is_some();
    Ok(Enquiry { size_bytes, body_is_known, priority, expiration_ms, delay_ms, deliver_at_ms })
}

fn outlook_entry(outlook: &QueueOutlook) -> pb::QueueOutlook {
    let kind = match outlook.kind() {
        OutlookKind::Taken => pb::OutlookKind::Taken,
        OutlookKind::Waits => pb::OutlookKind::Waits,
        OutlookKind::HeldBack => pb::OutlookKind::HeldBack,
        OutlookKind::Refused => pb::OutlookKind::Refused,
        OutlookKind::Dropped => pb::OutlookKind::Dropped,
        OutlookKind::Expires => pb::OutlookKind::Expires,
    };
    let (exchange, routing_key) = outlook.dead_letters().unzip();
    pb::QueueOutlook {
        queue: outlook.queue().to_string(),
        kind: kind.into(),
        reason: outlook.to_string(),
        held_until_ms: outlook.held_until().map(|at| at.0),
        drops: outlook.drops(),
        dead_letter_exchange: exchange.map(str::to_owned),
        dead_letter_routing_key: routing_key.flatten().map(str::to_owned),
    }
}

/// The queues are the answer, and so come first; then all exchanges on the way, and what room is left is for bindings.
pub(super) fn explained(explanation: Explanation, bytes_max: usize) -> pb::Explanation {
    let mut room = Room(bytes_max / 2);
    let queues = explanation.queues.iter().take_while(|queue| room.takes(queue.len()));
    let queues: Vec<String> = queues.map(ToString::to_string).collect();
    let queues_omitted = (explanation.queues.len() - queues.len()) as u64;

    let mut left = room.0 + bytes_max / 4;
    let mut room = Room(bytes_max / 4);
    let mut answer = pb::Explanation { queues, queues_omitted, ..pb::Explanation::default() };
    answer.bindings_omitted = explanation.bindings_omitted;
    let mut bindings = Vec::with_capacity(explanation.exchanges.len());
    for exchange in explanation.exchanges {
        let (entry, of_entry) = exchange_entry(exchange);
        if room.takes(entry.encoded_len()) {
            answer.exchanges.push(entry);
            bindings.push(of_entry);
        } else {
            answer.exchanges_omitted += 1;
            answer.bindings_omitted += of_entry.len() as u64;
        }
    }
    left += room.0;
    let mut room = Room(left);
    for (exchange, bindings) in answer.exchanges.iter_mut().zip(bindings) {
        for explained in bindings {
            let binding = pb::ExplainedBinding {
                binding: Some(binding_entry(&explained.binding)),
                matched: explained.matched,
                reason: explained.reason,
            };
            match room.takes(binding.encoded_len()) {
                true => exchange.bindings.push(binding),
                false => answer.bindings_omitted += 1,
            }
        }
    }
    answer
}

/// An exchange without its bindings, and these.
fn exchange_entry(exchange: ExplainedExchange) -> (pb::ExplainedExchange, Vec<ExplainedBinding>) {
    let (reached_from, as_alternate) = match exchange.reached_by {
        ReachedBy::Publish => (String::new(), false),
        ReachedBy::Binding(from) => (from.to_string(), false),
        ReachedBy::Alternate(from) => (from.to_string(), true),
    };
    let entry = pb::ExplainedExchange {
        name: exchange.name.to_string(),
        r#type: exchange.kind.as_str().to_owned(),
        reached_from,
        as_alternate,
        bindings: Vec::new(),
        alternate_exchange: exchange.alternate_exchange.map(|name| name.to_string()).unwrap_or_default(),
        alternate_note: exchange.alternate_note,
        refused: exchange.refused.unwrap_or_default(),
        schema: exchange.schema.unwrap_or_default(),
    };
    (entry, exchange.bindings)
}

/// Room in an answer, in bytes.
struct Room(usize);

impl Room {
    /// Whether an entry of so many bytes still fits; from the first one on that does not, none does.
    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes + ENTRY_BYTES_AROUND);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}
