//! What became of single messages: receipts, journeys, and the rules that say of which they are kept.

use super::admin::Explanation;
use super::channel::{Channel, check_names, done, unexpected};
use super::connection::Connection;
use super::convert::{explanation_from_wire, refusal_from_wire};
use super::error::RequestError;
use super::request::OnBreak;
use super::topology::Destination;
use crate::message::ItemFault;
pub use crate::model::JourneyNumber;
use crate::model::{Refusal, Timestamp, is_reply_address};
use crate::wire::pb::{self, frame::Body};

/// Messages with the same id that are told of at most.
const JOURNEYS_MAX: usize = 1_000;

/// Which messages a rule for journeys is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JourneyScope {
    /// All that is published in the vhost.
    Vhost,
    /// What is published to an exchange.
    Exchange(String),
    /// What reaches a queue.
    Queue(String),
}

/// Of which messages journeys are kept: of all in its scope, unless it is told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JourneyRule {
    /// Where.
    pub scope: JourneyScope,
    /// So many of a million, evenly; 1 to 1,000,000.
    pub per_million: u32,
    /// Only those whose routing key matches this pattern, as in a binding of a topic exchange.
    pub routing_key: Option<String>,
    /// Only those with a header of this name that has this value, as it is written as text.
    pub header: Option<(String, String)>,
}

impl JourneyRule {
    /// Of all messages of a scope.
    pub fn new(scope: JourneyScope) -> Self {
        Self { scope, per_million: 1_000_000, routing_key: None, header: None }
    }
}

/// What is kept of an id.
#[derive(Debug, Clone, PartialEq)]
pub struct Journeys {
    /// Messages that had it, the newest first, 1,000 at most: ids that publishers give need not be different.
    pub journeys: Vec<Journey>,
    /// There are more.
    pub more: bool,
    /// When the oldest happened that is kept; `None`: nothing is kept.
    pub since: Option<Timestamp>,
    /// Publications that have given way to newer ones since the broker was started.
    pub lost: u64,
    /// The id is one that a broker made, and nothing is kept of its message any more.
    pub has_gone: bool,
    /// The vhost has no rule: journeys of no messages begin.
    pub is_off: bool,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Journey {
    /// The id that the broker made.
    pub id: String,
    /// The id that its publisher gave it.
    pub message_id: Option<String>,
    /// When it was published.
    pub published_at: Timestamp,
    /// By whom.
    pub publisher: Party,
    /// The channel that it came on; 0: one that was closed by then.
    pub channel: u32,
    /// The exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// It goes back to its publisher if it reaches no queue.
    pub mandatory: bool,
    /// Why it was refused, if it was.
    pub refusal: Option<Refusal>,
    /// Its way through the exchanges; `None`: only receipts were asked for, or it was refused before.
    pub explanation: Option<Explanation>,
    /// One for each queue that it was for.
    pub receipts: Vec<Receipt>,
    /// What happened, in order; empty if only receipts were asked for.
    pub events: Vec<JourneyEvent>,
    /// Further events in the middle.
    pub events_omitted: u64,
}

impl Journey {
    /// Whether it was a reply and went straight to whoever waited for it; false if only receipts were asked for.
    pub fn was_taken_as_reply(&self) -> bool {
        let exchanges = self.explanation.iter().flat_map(|explanation| &explanation.exchanges);
        exchanges.flat_map(|exchange| &exchange.bindings).any(|explained| {
            match &explained.binding.destination {
                Destination::Queue(name) => explained.matched && is_reply_address(name),
                Destination::Exchange(_) => false,
            }
        })
    }
}

/// A connection, which may be gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Party {
    /// Its number.
    pub connection_id: u64,
    /// The name that it gave itself; "" if this user may not see the connection.
    pub connection_name: String,
    /// Who was logged in; "" likewise.
    pub user: String,
    /// Address and port; "" likewise.
    pub peer: String,
}

/// A consumer, or whoever took a single message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taker {
    /// Its connection.
    pub party: Party,
    /// Its channel.
    pub channel: u32,
    /// Its number there; 0: it took a single message.
    pub consumer: u32,
    /// Its name; "" for single messages.
    pub tag: String,
}

/// How it stands with a message in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiptState {
    /// The queue has not said that it has it: it is on its way, or the queue was gone.
    OnItsWay,
    /// It waits for a consumer.
    Pending,
    /// A consumer has it, and has not settled it.
    Delivered,
    /// A consumer has accepted it.
    Accepted,
    /// A consumer has rejected it.
    Rejected,
    /// Somebody emptied the queue.
    Purged,
    /// It left with its delivery, to a consumer that sends no acknowledgements.
    NoAck,
    /// It was published elsewhere and then taken out of the queue.
    Moved,
    /// It waited for longer than the queue lets it.
    Expired,
    /// Newer ones left it no room.
    MaxLength,
    /// It was rejected, expired or had no room, and is stored where dead letters of the queue go.
    DeadLettered,
    /// The same, but it would have gone round in a circle.
    Cycle,
    /// It came back more often than the queue lets it.
    DeliveryLimit,
    /// It went with its queue, which was deleted.
    QueueDeleted,
    /// The queue's shard could not take it.
    NotTaken,
    /// There was no room to look after it any more, or a newer server says something else.
    Unknown,
}

impl ReceiptState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnItsWay => "on its way",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Purged => "purged",
            Self::NoAck => "sent, no ack",
            Self::Moved => "moved",
            Self::Expired => "expired",
            Self::MaxLength => "dropped, no room",
            Self::DeadLettered => "dead-lettered",
            Self::Cycle => "dropped, a circle",
            Self::DeliveryLimit => "dropped, came back too often",
            Self::QueueDeleted => "queue deleted",
            Self::NotTaken => "not taken",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of a message in a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// The queue.
    pub queue: String,
    /// The subscription whose queue it is.
    pub subscription: Option<String>,
    /// Whose of its members; `None`: they share it, or there is no subscription.
    pub member: Option<String>,
    /// How it stands.
    pub state: ReceiptState,
    /// Since when; `None`: since it was published.
    pub since: Option<Timestamp>,
    /// How often it went to a consumer.
    pub deliveries: u32,
    /// How often it came back.
    pub returns: u32,
    /// The last delivery: when, and to whom.
    pub last_delivery: Option<(Timestamp, Taker)>,
    /// Why it was not taken.
    pub refusal: Option<Refusal>,
    /// Of a subscription: since when nobody consumes from the queue; `None`: somebody does.
    pub dark_since: Option<Timestamp>,
}

/// Something happened to a message.
#[derive(Debug, Clone, PartialEq)]
pub struct JourneyEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: JourneyStep,
}

/// What can happen to a message.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum JourneyStep {
    /// A shard has put it into these queues.
    Taken {
        /// The shard.
        shard: u32,
        /// The queues.
        queues: Vec<String>,
    },
    /// A shard could not take it.
    NotTaken {
        /// The shard.
        shard: u32,
        /// Why.
        refusal: Option<Refusal>,
    },
    /// It went to a consumer.
    Delivered {
        /// Out of this queue.
        queue: String,
        /// To whom.
        taker: Option<Taker>,
        /// It may have been delivered before.
        redelivered: bool,
        /// How often it had come back.
        delivery_count: u32,
    },
    /// A consumer gave it back to this queue.
    Requeued(String),
    /// The consumer that had it is gone: it is back in this queue.
    ConsumerGone(String),
    /// It left this queue, or there is nothing more to be known of it there.
    Left(String, ReceiptState),
    /// Whether it is still in this queue, or how it left, is not known: the broker ended before that was written.
    Missed(String),
    /// There was no room to look after it any more.
    Unwatched,
    /// Something that this version does not know.
    Unknown,
}

impl Connection {
    /// What became of messages with this id, queue by queue: the id that their publisher gave them ([`Properties::message_id`](super::Properties)),
    /// or the one that the broker made ([`Confirmed::journey`](super::Confirmed::journey)). On a channel of its own.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn receipts(&self, id: &str) -> Result<Journeys, RequestError> {
        let channel = self.channel().await?;
        let receipts = channel.receipts(id).await?;
        channel.close().await?;
        Ok(receipts)
    }

    /// As [`receipts`](Self::receipts), with the whole story.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn journey(&self, id: &str) -> Result<Journeys, RequestError> {
        let channel = self.channel().await?;
        let journeys = channel.journey(id).await?;
        channel.close().await?;
        Ok(journeys)
    }
}

impl Channel {
    /// What became of messages with this id, queue by queue: see [`Connection::receipts`]. All is in it that was done over this
    /// channel before.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn receipts(&self, id: &str) -> Result<Journeys, RequestError> {
        self.journeys(id, true).await
    }

    /// As [`receipts`](Self::receipts), with the whole story.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn journey(&self, id: &str) -> Result<Journeys, RequestError> {
        self.journeys(id, false).await
    }

    async fn journeys(&self, id: &str, receipts_only: bool) -> Result<Journeys, RequestError> {
        check_names([id])?;
        let mut all: Option<Journeys> = None;
        let mut page_token = String::new();
        loop {
            let tell = pb::TellJourneys { id: id.to_owned(), page_size: 100, page_token, receipts_only };
            let page = match self.ask(Body::TellJourneys(tell), OnBreak::Repeat).await? {
                Body::Journeys(page) => page,
                other => return Err(unexpected(&other)),
            };
            page_token = page.next_page_token;
            let journeys = page.journeys.into_iter().map(journey).collect::<Result<Vec<_>, _>>();
            let journeys =
                journeys.map_err(|fault| RequestError::Invalid(format!("the server's answer: {fault}")))?;
            let all = all.get_or_insert_with(|| Journeys {
                journeys: Vec::new(),
                more: false,
                since: time(page.since_ms),
                lost: page.lost,
                has_gone: page.has_gone,
                is_off: page.is_off,
            });
            let is_done = page_token.is_empty() || journeys.is_empty();
            all.journeys.extend(journeys);
            all.more = !page_token.is_empty();
            if is_done || all.journeys.len() >= JOURNEYS_MAX {
                return Ok(all.clone());
            }
        }
    }

    /// Keeps journeys of messages from now on, in the place of what was said about the same scope. It stays until
    /// [`keep_no_journeys`](Self::keep_no_journeys), also when the broker is started again.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn keep_journeys(&self, rule: &JourneyRule) -> Result<(), RequestError> {
        let (scope, name) = scope_to_wire(&rule.scope);
        check_names([name, rule.routing_key.as_deref().unwrap_or_default()])?;
        let (header, header_value) = rule.header.clone().unwrap_or_default();
        let rule = pb::JourneyRule {
            scope: scope.into(),
            name: name.to_owned(),
            per_million: rule.per_million,
            routing_key: rule.routing_key.clone(),
            header,
            header_value,
        };
        let keep = pb::KeepJourneys { rule: Some(rule) };
        self.ask(Body::KeepJourneys(keep), OnBreak::Repeat).await.and_then(done)
    }

    /// Begins no journeys any more for a scope. Also fine if there is no rule for it.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn keep_no_journeys(&self, scope: &JourneyScope) -> Result<(), RequestError> {
        let (scope, name) = scope_to_wire(scope);
        let keep = pb::KeepNoJourneys { scope: scope.into(), name: name.to_owned() };
        self.ask(Body::KeepNoJourneys(keep), OnBreak::Repeat).await.and_then(done)
    }

    /// Of which messages of the vhost journeys are kept.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_journey_rules(&self) -> Result<Vec<JourneyRule>, RequestError> {
        self.list("").await
    }
}

fn scope_to_wire(scope: &JourneyScope) -> (pb::JourneyScope, &str) {
    match scope {
        JourneyScope::Vhost => (pb::JourneyScope::Vhost, ""),
        JourneyScope::Exchange(name) => (pb::JourneyScope::Exchange, name),
        JourneyScope::Queue(name) => (pb::JourneyScope::Queue, name),
    }
}

/// `None`: a scope that this version does not know.
pub(super) fn rule_from_wire(rule: pb::JourneyRule) -> Option<JourneyRule> {
    let scope = match rule.scope() {
        pb::JourneyScope::Vhost => JourneyScope::Vhost,
        pb::JourneyScope::Exchange => JourneyScope::Exchange(rule.name),
        pb::JourneyScope::Queue => JourneyScope::Queue(rule.name),
        pb::JourneyScope::Unspecified => return None,
    };
    let header = Some((rule.header, rule.header_value)).filter(|(name, _)| !name.is_empty());
    Some(JourneyRule { scope, per_million: rule.per_million, routing_key: rule.routing_key, header })
}

fn journey(journey: pb::Journey) -> Result<Journey, ItemFault> {
    Ok(Journey {
        id: journey.id,
        message_id: some(journey.message_id),
        published_at: Timestamp(journey.published_at_ms),
        publisher: party(journey.publisher),
        channel: journey.channel,
        exchange: journey.exchange,
        routing_key: journey.routing_key,
        mandatory: journey.mandatory,
        refusal: journey.refusal.map(refusal_from_wire),
        explanation: journey.explanation.map(explanation_from_wire).transpose()?,
        receipts: journey.receipts.into_iter().map(receipt).collect(),
        events: journey.events.into_iter().map(event).collect(),
        events_omitted: journey.events_omitted,
    })
}

fn party(party: Option<pb::JourneyParty>) -> Party {
    let pb::JourneyParty { connection_id, connection_name, user, peer } = party.unwrap_or_default();
    Party { connection_id, connection_name, user, peer }
}

fn taker(taker: pb::JourneyTaker) -> Taker {
    Taker { party: party(taker.party), channel: taker.channel, consumer: taker.consumer, tag: taker.tag }
}

fn receipt(receipt: pb::Receipt) -> Receipt {
    let state = match receipt.state() {
        pb::ReceiptState::OnItsWay => ReceiptState::OnItsWay,
        pb::ReceiptState::Pending => ReceiptState::Pending,
        pb::ReceiptState::Delivered => ReceiptState::Delivered,
        pb::ReceiptState::Accepted => ReceiptState::Accepted,
        pb::ReceiptState::Rejected => ReceiptState::Rejected,
        pb::ReceiptState::Purged => ReceiptState::Purged,
        pb::ReceiptState::NoAck => ReceiptState::NoAck,
        pb::ReceiptState::Moved => ReceiptState::Moved,
        pb::ReceiptState::Expired => ReceiptState::Expired,
        pb::ReceiptState::MaxLength => ReceiptState::MaxLength,
        pb::ReceiptState::DeadLettered => ReceiptState::DeadLettered,
        pb::ReceiptState::Cycle => ReceiptState::Cycle,
        pb::ReceiptState::DeliveryLimit => ReceiptState::DeliveryLimit,
        pb::ReceiptState::QueueDeleted => ReceiptState::QueueDeleted,
        pb::ReceiptState::NotTaken => ReceiptState::NotTaken,
        pb::ReceiptState::Unknown | pb::ReceiptState::Unspecified => ReceiptState::Unknown,
    };
    Receipt {
        queue: receipt.queue,
        subscription: some(receipt.subscription),
        member: some(receipt.member),
        state,
        since: time(receipt.since_ms),
        deliveries: receipt.deliveries,
        returns: receipt.returns,
        last_delivery: receipt.taker.map(|by| (Timestamp(receipt.delivered_at_ms), taker(by))),
        refusal: receipt.refusal.map(refusal_from_wire),
        dark_since: time(receipt.dark_since_ms),
    }
}

fn event(event: pb::JourneyEvent) -> JourneyEvent {
    use pb::JourneyEventKind as Kind;
    let kind = event.kind();
    let shard = event.shard;
    let refusal = event.refusal.map(refusal_from_wire);
    let queue = event.queues.first().cloned().unwrap_or_default();
    let left = |state| JourneyStep::Left(queue.clone(), state);
    let what = match kind {
        Kind::Taken => JourneyStep::Taken { shard, queues: event.queues },
        Kind::NotTaken => JourneyStep::NotTaken { shard, refusal },
        Kind::Delivered => JourneyStep::Delivered {
            queue,
            taker: event.taker.map(taker),
            redelivered: event.redelivered,
            delivery_count: event.delivery_count,
        },
        Kind::Requeued => JourneyStep::Requeued(queue),
        Kind::ConsumerGone => JourneyStep::ConsumerGone(queue),
        Kind::Accepted => left(ReceiptState::Accepted),
        Kind::Rejected => left(ReceiptState::Rejected),
        Kind::Purged => left(ReceiptState::Purged),
        Kind::NoAck => left(ReceiptState::NoAck),
        Kind::Moved => left(ReceiptState::Moved),
        Kind::Expired => left(ReceiptState::Expired),
        Kind::MaxLength => left(ReceiptState::MaxLength),
        Kind::DeadLettered => left(ReceiptState::DeadLettered),
        Kind::Cycle => left(ReceiptState::Cycle),
        Kind::DeliveryLimit => left(ReceiptState::DeliveryLimit),
        Kind::QueueDeleted => left(ReceiptState::QueueDeleted),
        Kind::Missed => JourneyStep::Missed(queue),
        Kind::Unwatched => JourneyStep::Unwatched,
        Kind::Unspecified => JourneyStep::Unknown,
    };
    JourneyEvent { at: Timestamp(event.at_ms), what }
}

fn time(ms: u64) -> Option<Timestamp> {
    (ms > 0).then_some(Timestamp(ms))
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
