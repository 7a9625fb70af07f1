//! Looking at the messages of a queue without taking them.

use bytes::Bytes;

use super::channel::{Channel, check_names, unexpected};
use super::convert::{properties_from_wire, told};
use super::error::RequestError;
use super::message::Properties;
use super::request::OnBreak;
use crate::message::ItemFault;
use crate::model::Timestamp;
use crate::wire::pb::{self, frame::Body};

/// Which messages of a queue are to be seen: all that are ready, unless it is told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browse {
    /// The queue.
    pub queue: String,
    /// Only messages whose routing key matches this pattern, as in a binding of a topic exchange.
    pub routing_key: Option<String>,
    /// Only messages with a header of this name that has this value, as it is written as text.
    pub header: Option<(String, String)>,
    /// Only messages that came at this time or later, to the second: some that came within the second before are shown, too.
    pub came_since: Option<Timestamp>,
    /// Only messages that came before this time, to the second: some that came within the second before are not shown.
    pub came_before: Option<Timestamp>,
    /// Instead of those that are ready, those that consumers are done with and that the queue retains.
    pub retained: bool,
    /// Instead of those that are ready, those that the queue holds back until a later time.
    pub delayed: bool,
    /// Of those that are retained only the newest so many.
    pub newest: Option<u64>,
    /// Only those behind the message with this sequence.
    pub after: Option<u64>,
    /// Without their bodies, of which only the lengths are told.
    pub without_bodies: bool,
    /// Messages that the server looks at for a page, 1 to 4,096; 0: as many as it likes.
    pub page_size: u32,
}

impl Browse {
    /// All ready messages of a queue.
    pub fn new(queue: impl Into<String>) -> Self {
        Self {
            queue: queue.into(),
            routing_key: None,
            header: None,
            came_since: None,
            came_before: None,
            retained: false,
            delayed: false,
            newest: None,
            after: None,
            without_bodies: false,
            page_size: 0,
        }
    }
}

/// A snapshot that is read page by page. No flag, order or count of the queue changes by it, and other consumers do not notice.
///
/// It ends with the newest message that the queue had at the first page. A message that is with a consumer when its page is
/// made is not in it.
#[derive(Debug)]
pub struct Browser {
    channel: Channel,
    next: Option<pb::Browse>,
}

/// Messages in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct BrowsedPage {
    /// Those that were wanted; there may be none though further pages have some.
    pub messages: Vec<BrowsedMessage>,
    /// Messages that were looked at for the page.
    pub examined: u64,
    /// Messages ready in the queue when it was made.
    pub messages_ready: u64,
    /// Messages with consumers then, which are not shown.
    pub messages_unacknowledged: u64,
    /// Messages that the queue retained then.
    pub messages_retained: u64,
    /// Messages that it held back then.
    pub messages_delayed: u64,
    /// The queue's number, which no other one has.
    pub queue_id: u64,
}

/// A message as it lies in its queue.
#[derive(Debug, Clone, PartialEq)]
pub struct BrowsedMessage {
    /// Its place: it rises from message to message, and stays when the broker is started again.
    pub sequence: u64,
    /// Exchange it was published to.
    pub exchange: String,
    /// Routing key it was published with.
    pub routing_key: String,
    /// Its properties.
    pub properties: Properties,
    /// The payload; empty if it was asked for without.
    pub body: Bytes,
    /// Length of the payload.
    pub body_bytes: u64,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How often it came back to the queue.
    pub delivery_count: u32,
    /// Its publisher sent it more than once.
    pub resent: bool,
    /// A consumer was done with it, and it is seen again.
    pub replayed: bool,
    /// When it came, to the second; `None`: while a version ran that did not note it.
    pub came_at: Option<Timestamp>,
    /// Until when it is held back, if it is.
    pub delayed_until: Option<Timestamp>,
}

impl Channel {
    /// Looks at the ready messages of a queue, which stay as they are.
    pub fn browse(&self, what: Browse) -> Browser {
        let (header, header_value) = what.header.unwrap_or_default();
        let first = pb::Browse {
            queue: what.queue,
            page_size: what.page_size,
            routing_key: what.routing_key,
            header,
            header_value,
            came_since_ms: what.came_since.map_or(0, |time| time.0),
            came_before_ms: what.came_before.map_or(0, |time| time.0),
            retained: what.retained,
            delayed: what.delayed,
            newest: what.newest.unwrap_or(0),
            from: what.after.map_or(0, |sequence| sequence.saturating_add(1)),
            without_bodies: what.without_bodies,
            ..pb::Browse::default()
        };
        Browser { channel: self.clone(), next: Some(first) }
    }
}

impl Channel {
    /// Takes ready messages out of a queue that were published elsewhere before: they leave it as moved. Returns those that were
    /// not ready any more, because a consumer has them or has had them. Done when the disk has it.
    ///
    /// `queue_id` and the sequences are those of a [`BrowsedPage`] and its messages, 4,096 at most.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn remove_moved(
        &self,
        queue: &str,
        queue_id: u64,
        sequences: &[u64],
    ) -> Result<Vec<u64>, RequestError> {
        let ranges = ranges(sequences);
        let remove = pb::RemoveMoved { queue: queue.to_owned(), queue_id, ranges };
        self.removed(Body::RemoveMoved(remove), sequences).await
    }

    /// Takes messages out of a queue that it holds back: they are not wanted any more, and leave it as purged. Returns those that it does
    /// not hold back. Done when the disk has it.
    ///
    /// `queue_id` and the sequences are those of a [`BrowsedPage`] of [delayed](Browse::delayed) messages, 4,096 at most.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn cancel_delayed(
        &self,
        queue: &str,
        queue_id: u64,
        sequences: &[u64],
    ) -> Result<Vec<u64>, RequestError> {
        let cancel = pb::CancelDelayed { queue: queue.to_owned(), queue_id, ranges: ranges(sequences) };
        self.removed(Body::CancelDelayed(cancel), sequences).await
    }

    /// Those of these messages that were not taken out.
    async fn removed(&self, request: Body, sequences: &[u64]) -> Result<Vec<u64>, RequestError> {
        let removed = match self.ask(request, OnBreak::Fail).await? {
            Body::Removed(removed) => removed,
            other => return Err(unexpected(&other)),
        };
        let is_not_removed = |sequence: &u64| {
            removed.not_removed.iter().any(|range| (range.first..=range.last).contains(sequence))
        };
        Ok(sequences.iter().copied().filter(is_not_removed).collect())
    }
}

fn ranges(sequences: &[u64]) -> Vec<pb::SequenceRange> {
    let mut ranges: Vec<pb::SequenceRange> = Vec::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some(last) if last.last.checked_add(1) == Some(*sequence) => last.last = *sequence,
            _ => ranges.push(pb::SequenceRange { first: *sequence, last: *sequence }),
        }
    }
    ranges
}

impl Browser {
    /// The next page; `None`: that was all.
    ///
    /// # Errors
    /// If the server refuses; 404 if the queue is gone, or another one has its name. The same page can be asked for again.
    ///
    /// # Cancel safety
    /// The page is asked for again at the next call.
    pub async fn next_page(&mut self) -> Result<Option<BrowsedPage>, RequestError> {
        let Some(request) = &self.next else { return Ok(None) };
        check_names([request.routing_key.as_deref().unwrap_or_default()])?;
        let browsed = match self.channel.ask(Body::Browse(request.clone()), OnBreak::Repeat).await? {
            Body::Browsed(browsed) => browsed,
            other => return Err(unexpected(&other)),
        };
        let invalid = |what: String| RequestError::Invalid(format!("the server's answer: {what}"));
        if browsed.next != 0 && browsed.next <= request.from {
            return Err(invalid("the next page does not follow this one".to_owned()));
        }
        let messages = browsed.messages.into_iter().map(message).collect::<Result<Vec<_>, _>>();
        let messages = messages.map_err(|fault| invalid(fault.to_string()))?;
        let (next, end, queue_id) = (browsed.next, browsed.end, browsed.queue_id);
        let following = (next != 0).then(|| pb::Browse { from: next, end, queue_id, ..request.clone() });
        self.next = following;
        Ok(Some(BrowsedPage {
            messages,
            examined: browsed.examined,
            messages_ready: browsed.messages_ready,
            messages_unacknowledged: browsed.messages_unacknowledged,
            messages_retained: browsed.messages_retained,
            messages_delayed: browsed.messages_delayed,
            queue_id,
        }))
    }
}

fn message(browsed: pb::BrowsedMessage) -> Result<BrowsedMessage, ItemFault> {
    let item = browsed.item.unwrap_or_default();
    let message = item.message.unwrap_or_default();
    Ok(BrowsedMessage {
        sequence: browsed.sequence,
        exchange: browsed.exchange,
        routing_key: browsed.routing_key,
        properties: properties_from_wire(message.properties.unwrap_or_default())?,
        body: message.body,
        body_bytes: browsed.body_bytes,
        redelivered: item.redelivered,
        delivery_count: item.delivery_count,
        resent: item.resent,
        replayed: browsed.replayed,
        came_at: told(browsed.came_at_ms),
        delayed_until: told(browsed.delayed_until_ms),
    })
}
