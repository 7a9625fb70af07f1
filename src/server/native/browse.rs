//! Pages of what is in a queue, for the wire.

use std::collections::BTreeSet;

use super::requests::named;
use crate::broker::{
    Broker, BrowseRequest, BrowsedPage, Came, Filter, Identity, LookedAt, Which, routing_key_of,
};
use crate::message::{DeliveredView, ItemFault, message_of};
use crate::model::{Entity, QueueId, Refusal, ReplyCode, RoutingKey, Timestamp};
use crate::wire::pb;

/// Messages looked at for a page if the client names no number.
const BROWSE_PAGE_SIZE: usize = 1_024;
/// The same at most.
const BROWSE_PAGE_SIZE_MAX: usize = 4_096;
/// Messages that are taken out at a time, at most.
const REMOVED_MESSAGES_MAX: u64 = 4_096;
/// Bytes of messages looked at for a page, with those around each.
const BROWSE_BYTES: usize = 2 * 1024 * 1024;

/// A page, in `answer_bytes_max` at most.
pub(super) async fn browse(
    broker: &Broker,
    who: &Identity,
    request: pb::Browse,
    answer_bytes_max: usize,
) -> Result<pb::Browsed, Refusal> {
    let key = request.routing_key.map(|key| named("routing_key", RoutingKey::new, &key)).transpose()?;
    let header = Some((request.header, request.header_value)).filter(|(name, _)| !name.is_empty());
    let count_max = match request.page_size as usize {
        0 => BROWSE_PAGE_SIZE,
        wanted => wanted.min(BROWSE_PAGE_SIZE_MAX),
    };
    let without_bodies = request.without_bodies;
    let which = match (request.retained, request.delayed) {
        (true, true) => return Err(retained_and_delayed()),
        (true, false) => Which::Retained,
        (false, true) => Which::Delayed,
        (false, false) => Which::Ready,
    };
    let request = BrowseRequest {
        queue: request.queue,
        queue_id: (request.queue_id != 0).then_some(QueueId(request.queue_id)),
        from: request.from,
        end: request.end,
        came: Came { since: time(request.came_since_ms), before: time(request.came_before_ms) },
        which,
        newest: (request.newest != 0).then_some(request.newest),
        filter: Filter { key, header },
        count_max,
        bytes_max: BROWSE_BYTES.min(answer_bytes_max),
    };
    let page = broker.browse(who, request).await?;
    let BrowsedPage { queue, messages, examined, next, end, counts } = page;
    let messages = messages.iter().map(|message| entry(message, without_bodies, which));
    Ok(pb::Browsed {
        messages: messages.collect::<Result<_, _>>().map_err(|fault| stored_wrong(&fault))?,
        next: next.unwrap_or(0),
        end,
        queue_id: queue.0,
        examined: examined as u64,
        messages_ready: counts.ready,
        messages_unacknowledged: counts.unsettled,
        messages_retained: counts.retained,
        messages_delayed: counts.held_back,
    })
}

/// Takes out what was published elsewhere.
pub(super) async fn remove_moved(
    broker: &Broker,
    who: &Identity,
    request: pb::RemoveMoved,
) -> Result<pb::Removed, Refusal> {
    let pb::RemoveMoved { queue, queue_id, ranges } = request;
    let sequences = sequences("RemoveMoved", &ranges)?;
    let named = sequences.len();
    Ok(removed(named, &broker.remove_moved(who, &queue, QueueId(queue_id), sequences).await?))
}

/// Takes out what is held back and not wanted any more.
pub(super) async fn cancel_delayed(
    broker: &Broker,
    who: &Identity,
    request: pb::CancelDelayed,
) -> Result<pb::Removed, Refusal> {
    let pb::CancelDelayed { queue, queue_id, ranges } = request;
    let sequences = sequences("CancelDelayed", &ranges)?;
    let named = sequences.len();
    Ok(removed(named, &broker.cancel_delayed(who, &queue, QueueId(queue_id), sequences).await?))
}

fn removed(named: usize, others: &[u64]) -> pb::Removed {
    let mut not_removed: Vec<pb::SequenceRange> = Vec::new();
    for sequence in others {
        match not_removed.last_mut() {
            Some(last) if last.last + 1 == *sequence => last.last = *sequence,
            _ => not_removed.push(pb::SequenceRange { first: *sequence, last: *sequence }),
        }
    }
    pb::Removed { removed: (named - others.len()) as u64, not_removed }
}

/// A time, if one is named.
fn time(millis: u64) -> Option<Timestamp> {
    (millis != 0).then_some(Timestamp(millis))
}

fn sequences(frame: &str, ranges: &[pb::SequenceRange]) -> Result<BTreeSet<u64>, Refusal> {
    let bounds = |range: &pb::SequenceRange| match range.last {
        0 => range.first..=range.first,
        last => range.first..=last,
    };
    let refuse = |got: String| {
        let text = format!("a {frame} names no messages, or too many");
        Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Frame, frame).field(
            "ranges",
            format!("1 to {REMOVED_MESSAGES_MAX} messages, each range with its first before its last"),
            got,
        )
    };
    if let Some(empty) = ranges.iter().find(|range| bounds(range).is_empty()) {
        return Err(refuse(format!("{} to {}", empty.first, empty.last)));
    }
    let span = |range: &pb::SequenceRange| (bounds(range).end() - bounds(range).start()).saturating_add(1);
    let named = ranges.iter().map(span).fold(0u64, u64::saturating_add);
    match named {
        0 => Err(refuse("none".to_owned())),
        named if named > REMOVED_MESSAGES_MAX => Err(refuse(named.to_string())),
        _ => Ok(ranges.iter().flat_map(bounds).collect()),
    }
}

fn entry(looked_at: &LookedAt, without_bodies: bool, which: Which) -> Result<pb::BrowsedMessage, ItemFault> {
    let mut message = message_of(&looked_at.bytes)?;
    let body_bytes = message.body.len() as u64;
    if without_bodies {
        message.body.clear();
    }
    let item = pb::DeliverItem {
        message: Some(message),
        routing_key: None,
        resent: DeliveredView::of(&looked_at.bytes).is_some_and(|view| view.resent),
        redelivered: looked_at.redelivered,
        delivery_count: looked_at.delivery_count,
    };
    Ok(pb::BrowsedMessage {
        sequence: looked_at.sequence,
        exchange: looked_at.origin.exchange.to_string(),
        routing_key: routing_key_of(looked_at).to_owned(),
        item: Some(item),
        body_bytes,
        came_at_ms: looked_at.came_at.map_or(0, |at| at.0),
        replayed: which == Which::Retained,
        delayed_until_ms: looked_at.delayed_until.map_or(0, |at| at.0),
    })
}

fn retained_and_delayed() -> Refusal {
    Refusal::new(
        ReplyCode::PreconditionFailed,
        "a Browse asks for what is retained and for what is delayed at once",
    )
    .about(Entity::Frame, "Browse")
    .field("delayed", "false, or retained false", "true")
}

fn stored_wrong(fault: &ItemFault) -> Refusal {
    Refusal::new(ReplyCode::InternalError, format!("a stored message is not what was published: {fault}"))
        .about(Entity::Queue, "")
}
