//! Journeys and receipts, for the wire.

use prost::Message as _;

use super::explain::explained;
use super::requests::named;
use crate::broker::{
    Broker, Departure, Event, Filter, Identity, Party, Receipt, ReceiptState, Return, Rule, Scope, Story,
    Taker, Told, What,
};
use crate::model::{Entity, ExchangeName, NAME_BYTES_MAX, QueueName, Refusal, ReplyCode, RoutingKey};
use crate::wire::pb;

/// Messages of a page if the client names no number.
const JOURNEYS_PAGE_SIZE: usize = 10;
/// Messages of a page at most.
const JOURNEYS_PAGE_SIZE_MAX: usize = 100;
/// A page ends before it has more bytes, if it has one message.
const JOURNEYS_BYTES: usize = 4 * 1024 * 1024;
/// The way of one message through the exchanges takes no more of it, in bytes.
const WAY_BYTES: usize = 256 * 1024;

pub(super) async fn keep(broker: &Broker, who: &Identity, request: pb::KeepJourneys) -> Result<(), Refusal> {
    let Some(rule) = request.rule else {
        return Err(Refusal::new(ReplyCode::SyntaxError, "the request names no rule")
            .about(Entity::Frame, "KeepJourneys")
            .field("rule", "present", "absent"));
    };
    let scope = scope(rule.scope, &rule.name, "KeepJourneys")?;
    let key = rule.routing_key.map(|key| named("routing_key", RoutingKey::new, &key)).transpose()?;
    let header = Some((rule.header, rule.header_value)).filter(|(name, _)| !name.is_empty());
    let rule = Rule { scope, filter: Filter { key, header }, per_million: rule.per_million };
    broker.keep_journeys(who, rule).await
}

pub(super) async fn keep_none(
    broker: &Broker,
    who: &Identity,
    request: pb::KeepNoJourneys,
) -> Result<(), Refusal> {
    broker.keep_no_journeys(who, scope(request.scope, &request.name, "KeepNoJourneys")?).await
}

fn scope(kind: i32, name: &str, frame: &str) -> Result<Scope, Refusal> {
    match pb::JourneyScope::try_from(kind) {
        Ok(pb::JourneyScope::Vhost) => Ok(Scope::Vhost),
        Ok(pb::JourneyScope::Exchange) => Ok(Scope::Exchange(named("name", ExchangeName::new, name)?)),
        Ok(pb::JourneyScope::Queue) => Ok(Scope::Queue(named("name", QueueName::new, name)?)),
        Ok(pb::JourneyScope::Unspecified) | Err(_) => {
            Err(Refusal::new(ReplyCode::SyntaxError, "journeys cannot be kept of something of this kind")
                .about(Entity::Frame, frame)
                .field("scope", "one of JourneyScope", kind.to_string()))
        }
    }
}

pub(super) fn rule_entry(rule: &Rule) -> pb::JourneyRule {
    let (scope, name) = match &rule.scope {
        Scope::Vhost => (pb::JourneyScope::Vhost, String::new()),
        Scope::Exchange(name) => (pb::JourneyScope::Exchange, name.to_string()),
        Scope::Queue(name) => (pb::JourneyScope::Queue, name.to_string()),
    };
    let (header, header_value) = rule.filter.header.clone().unwrap_or_default();
    pb::JourneyRule {
        scope: scope.into(),
        name,
        per_million: rule.per_million,
        routing_key: rule.filter.key.as_ref().map(ToString::to_string),
        header,
        header_value,
    }
}

/// What became of messages with an id, in `bytes_max` at most if a single one is not longer.
pub(super) async fn tell(
    broker: &Broker,
    who: &Identity,
    request: pb::TellJourneys,
    bytes_max: usize,
) -> Result<pb::Journeys, Refusal> {
    let pb::TellJourneys { id, page_size, page_token, receipts_only } = request;
    let refused = |field: &str, expected: String, got: String| {
        Err(Refusal::new(ReplyCode::SyntaxError, "no message can be asked for like this")
            .about(Entity::Frame, "TellJourneys")
            .field(field, expected, got))
    };
    if id.is_empty() || id.len() > NAME_BYTES_MAX {
        return refused("id", format!("1 to {NAME_BYTES_MAX} bytes"), id.len().to_string());
    }
    let size = match page_size as usize {
        0 => JOURNEYS_PAGE_SIZE,
        size if size > JOURNEYS_PAGE_SIZE_MAX => {
            return refused("page_size", format!("{JOURNEYS_PAGE_SIZE_MAX} at most"), size.to_string());
        }
        size => size,
    };
    let Told { stories, dark, since, lost, has_gone, is_off } =
        broker.journeys(who, &id, &page_token, size).await?;
    let mut answer = pb::Journeys {
        since_ms: since.map_or(0, |since| since.0),
        lost,
        has_gone,
        is_off,
        next_page_token: stories.next.unwrap_or_default(),
        ..pb::Journeys::default()
    };
    let teller = Teller { broker, who, dark: &dark };
    let bytes_max = bytes_max.min(JOURNEYS_BYTES);
    for story in stories.entries {
        let journey = teller.journey(&story, receipts_only, bytes_max);
        if !answer.journeys.is_empty() && answer.encoded_len() + journey.encoded_len() > bytes_max {
            answer.next_page_token =
                answer.journeys.last().map(|journey| journey.id.clone()).unwrap_or_default();
            break;
        }
        answer.journeys.push(journey);
    }
    Ok(answer)
}

struct Teller<'a> {
    broker: &'a Broker,
    who: &'a Identity,
    dark: &'a std::collections::BTreeMap<crate::model::QueueId, crate::model::Timestamp>,
}

impl Teller<'_> {
    fn journey(&self, story: &Story, receipts_only: bool, bytes_max: usize) -> pb::Journey {
        let publication = &*story.publication;
        let way = &*publication.way;
        let explanation = way.explanation.as_ref().filter(|_| !receipts_only);
        let mut journey = pb::Journey {
            id: story.number.to_string(),
            message_id: story.message_id.as_deref().unwrap_or_default().to_owned(),
            published_at_ms: publication.at.0,
            publisher: Some(self.party(&publication.publisher)),
            channel: publication.channel,
            exchange: way.exchange.to_string(),
            routing_key: way.routing_key.to_string(),
            mandatory: way.mandatory,
            refusal: way.refused.as_ref().map(Into::into),
            explanation: explanation.map(|explanation| explained(explanation.clone(), WAY_BYTES)),
            receipts: story.receipts.iter().map(|receipt| self.receipt(receipt)).collect(),
            events: Vec::new(),
            events_omitted: 0,
        };
        if receipts_only {
            return journey;
        }
        journey.events_omitted = story.events_omitted;
        let mut bytes = journey.encoded_len();
        for event in &story.events {
            let event = self.event(event, story);
            bytes += event.encoded_len() + 8;
            if bytes > bytes_max {
                journey.events_omitted += 1;
            } else {
                journey.events.push(event);
            }
        }
        journey
    }

    fn party(&self, party: &Party) -> pb::JourneyParty {
        if !self.broker.may_see(self.who, party) {
            return pb::JourneyParty { connection_id: party.connection.0, ..pb::JourneyParty::default() };
        }
        pb::JourneyParty {
            connection_id: party.connection.0,
            connection_name: party.name.clone(),
            user: party.user.to_string(),
            peer: party.peer.to_string(),
        }
    }

    fn taker(&self, taker: &Taker) -> pb::JourneyTaker {
        pb::JourneyTaker {
            party: Some(self.party(&taker.party)),
            channel: taker.key.channel,
            consumer: taker.key.handle,
            tag: taker.tag.to_string(),
        }
    }

    fn receipt(&self, receipt: &Receipt) -> pb::Receipt {
        let Receipt { queue, state, since, deliveries, returns, last_delivery } = receipt;
        let refusal = match state {
            ReceiptState::NotTaken(not_taken) => Some((&not_taken.refusal).into()),
            _ => None,
        };
        let state = match state {
            ReceiptState::OnItsWay => pb::ReceiptState::OnItsWay,
            ReceiptState::Pending => pb::ReceiptState::Pending,
            ReceiptState::Delivered => pb::ReceiptState::Delivered,
            ReceiptState::Left(Departure::Accepted) => pb::ReceiptState::Accepted,
            ReceiptState::Left(Departure::Rejected) => pb::ReceiptState::Rejected,
            ReceiptState::Left(Departure::Purged) => pb::ReceiptState::Purged,
            ReceiptState::Left(Departure::NoAck) => pb::ReceiptState::NoAck,
            ReceiptState::Left(Departure::Moved) => pb::ReceiptState::Moved,
            ReceiptState::Left(Departure::Expired) => pb::ReceiptState::Expired,
            ReceiptState::Left(Departure::MaxLength) => pb::ReceiptState::MaxLength,
            ReceiptState::Left(Departure::DeadLettered) => pb::ReceiptState::DeadLettered,
            ReceiptState::Left(Departure::Cycle) => pb::ReceiptState::Cycle,
            ReceiptState::Left(Departure::DeliveryLimit) => pb::ReceiptState::DeliveryLimit,
            ReceiptState::QueueDeleted => pb::ReceiptState::QueueDeleted,
            ReceiptState::NotTaken(_) => pb::ReceiptState::NotTaken,
            ReceiptState::Unknown => pb::ReceiptState::Unknown,
        };
        pb::Receipt {
            queue: queue.name.to_string(),
            subscription: queue.subscription.as_deref().unwrap_or_default().to_owned(),
            member: queue.member.to_string(),
            state: state.into(),
            since_ms: since.map_or(0, |since| since.0),
            deliveries: *deliveries,
            returns: *returns,
            delivered_at_ms: last_delivery.as_ref().map_or(0, |(at, _)| at.0),
            taker: last_delivery.as_ref().map(|(_, taker)| self.taker(taker)),
            refusal,
            dark_since_ms: self.dark.get(&queue.id).map_or(0, |since| since.0),
        }
    }

    fn event(&self, event: &Event, story: &Story) -> pb::JourneyEvent {
        use pb::JourneyEventKind as Kind;
        let name = |id| {
            let mut labels = story.publication.way.queues.iter();
            labels.find(|label| label.id == id).map(|label| label.name.to_string())
        };
        let mut told = pb::JourneyEvent { at_ms: event.at.0, ..pb::JourneyEvent::default() };
        told.queues.extend(event.what.queue().and_then(name));
        let kind = match &event.what {
            What::Taken { shard, queues, .. } => {
                told.shard = shard.0.into();
                told.queues.extend(queues.iter().filter_map(|queue| name(*queue)));
                Kind::Taken
            }
            What::NotTaken(not_taken) => {
                told.shard = not_taken.shard.0.into();
                told.queues.extend(not_taken.queues.iter().filter_map(|queue| name(*queue)));
                told.refusal = Some((&not_taken.refusal).into());
                Kind::NotTaken
            }
            What::Delivered { taker, redelivered, delivery_count, .. } => {
                told.taker = Some(self.taker(taker));
                (told.redelivered, told.delivery_count) = (*redelivered, *delivery_count);
                Kind::Delivered
            }
            What::CameBack { why: Return::Requeued, .. } => Kind::Requeued,
            What::CameBack { why: Return::ConsumerGone, .. } => Kind::ConsumerGone,
            What::Left { departure: Departure::Accepted, .. } => Kind::Accepted,
            What::Left { departure: Departure::Rejected, .. } => Kind::Rejected,
            What::Left { departure: Departure::Purged, .. } => Kind::Purged,
            What::Left { departure: Departure::NoAck, .. } => Kind::NoAck,
            What::Left { departure: Departure::Moved, .. } => Kind::Moved,
            What::Left { departure: Departure::Expired, .. } => Kind::Expired,
            What::Left { departure: Departure::MaxLength, .. } => Kind::MaxLength,
            What::Left { departure: Departure::DeadLettered, .. } => Kind::DeadLettered,
            What::Left { departure: Departure::Cycle, .. } => Kind::Cycle,
            What::Left { departure: Departure::DeliveryLimit, .. } => Kind::DeliveryLimit,
            What::QueueDeleted { .. } => Kind::QueueDeleted,
            What::Missed { .. } => Kind::Missed,
            What::Unwatched => Kind::Unwatched,
        };
        told.kind = kind.into();
        told
    }
}
