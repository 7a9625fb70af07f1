//! Direct reply-to: a consumer of `amq.rabbitmq.reply-to` waits for replies, and what is published with that `reply_to` asks for them.

use std::sync::Arc;

use super::super::requesters::{NotTaken, Requester, Waiting, cannot_wait};
use super::super::vhost::Vhost;
use super::consuming::ConsumeRequest;
use super::publishing::Publish;
use super::session::Session;
use super::target::{Fate, Publication};
use super::word::{FrontEnd, Word};
use crate::model::{Entity, REPLY_TO, Refusal, ReplyCode};
use crate::shard::{Delivery, Origin};

impl<F: FrontEnd> Session<F> {
    /// Starts a consumer of replies; a channel has one at most.
    pub(super) fn wait_for_replies(&mut self, wanted: ConsumeRequest) -> Result<(), Refusal> {
        let ConsumeRequest { channel, consumer, tag, no_ack, credit, request, .. } = wanted;
        if !no_ack {
            return Err(cannot_wait(
                "reply consumer cannot acknowledge",
                "consume without acknowledgements: replies are delivered at most once",
            )
            .field("no_ack", "true", "false"));
        }
        if self.requesters.contains_key(&channel) {
            return Err(cannot_wait(
                "reply consumer already set",
                "a channel has one consumer of replies: tell replies apart by correlation_id, or use another channel",
            ));
        }
        let place = (channel, consumer);
        if self.consumers.contains_key(&place) {
            self.drop_consumer(place);
        }
        let key = self.key(channel, consumer);
        let waiting = Waiting { key, credit, outlet: Arc::clone(&self.outlet) };
        let requesters = &self.who.vhost.requesters;
        let requester = requesters.add(&self.broker.shared.platform, waiting).map_err(|error| {
            Refusal::new(ReplyCode::InternalError, format!("no address can be made for replies: {error}"))
                .about(Entity::Queue, REPLY_TO)
        })?;
        self.requesters.insert(channel, requester);
        let tag: Arc<str> = match tag.as_str() {
            "" => Arc::from(format!("ctag-{}-{}-{}", key.connection, key.channel, key.handle)),
            tag => Arc::from(tag),
        };
        self.said.push_back(Word::Consuming { channel, consumer, request, tag });
        Ok(())
    }

    /// The requester that this consumer is, if it is one.
    pub(super) fn requester(&self, channel: u32, consumer: u32) -> Option<&Arc<Requester>> {
        self.requesters.get(&channel).filter(|requester| requester.key.handle == consumer)
    }

    /// Whether a delivery is a reply for a requester of now.
    pub(super) fn expects_reply(&self, delivery: &Delivery) -> bool {
        let requester = self.requester(delivery.consumer.channel, delivery.consumer.handle);
        requester.is_some_and(|requester| requester.queue == delivery.queue)
    }

    /// Nobody waits for replies on this channel any more.
    pub(super) fn stop_waiting(&mut self, channel: u32) {
        if let Some(requester) = self.requesters.remove(&channel) {
            self.who.vhost.requesters.remove(&requester);
        }
    }

    /// Nobody waits for replies on this connection any more.
    pub(super) fn stop_waiting_everywhere(&mut self) {
        let channels: Vec<u32> = self.requesters.keys().copied().collect();
        channels.into_iter().for_each(|channel| self.stop_waiting(channel));
    }

    /// Gives those messages the address of their channel that want replies to it. Where nobody waits for any they stay as they are.
    pub(super) fn give_addresses(&self, publish: &mut Publish<F::Messages>) {
        let Some(requester) = self.requesters.get(&publish.channel) else { return };
        let asking = publish.messages.asking_for_replies().to_vec();
        if !asking.is_empty() {
            publish.messages.set_reply_to(requester.address(), &asking);
        }
    }
}

/// Refuses these messages, whatever else would become of them; those that are refused stay so.
pub(super) fn refuse_unaddressed(fates: Vec<(u32, Fate)>, unaddressed: &[u32]) -> Vec<(u32, Fate)> {
    let refusal = Box::new(
        Refusal::new(ReplyCode::PreconditionFailed, "fast reply consumer does not exist")
            .about(Entity::Message, "")
            .field("reply_to", "the name of a queue, or a consumer of it on this channel", REPLY_TO)
            .hint(format!("consume from '{REPLY_TO}' on this channel first, without acknowledgements")),
    );
    let mut refused = Vec::with_capacity(fates.len() + 2 * unaddressed.len());
    let mut unaddressed = unaddressed.iter().copied().peekable();
    let mut first = 0;
    for (count, fate) in fates {
        let end = first + count;
        while let Some(place) = unaddressed.next_if(|place| *place < end) {
            if matches!(fate, Fate::Refused(_)) {
                continue;
            }
            if first < place {
                refused.push((place - first, fate.clone()));
            }
            refused.push((1, Fate::Refused(refusal.clone())));
            first = place + 1;
        }
        if first < end {
            refused.push((end - first, fate));
        }
        first = end;
    }
    refused
}

/// Hands replies to those who wait for them. One that nobody takes, and no queue, is refused.
pub(super) fn hand_to_requesters(
    vhost: &Vhost,
    origin: &Arc<Origin>,
    messages: &impl Publication,
    fates: &mut [(u32, Fate)],
) {
    let mut first = 0;
    for (count, fate) in fates {
        let places = first..first + *count as usize;
        first = places.end;
        let Fate::Routed(route) = &*fate else { continue };
        if route.requesters.is_empty() {
            continue;
        }
        // A route to requesters is found for each message anew, so this is one message.
        let mut dropped: Option<(NotTaken, &str)> = None;
        let mut taken = 0;
        for place in places {
            for requester in &route.requesters {
                match requester.offer(origin, messages.run().item(place)) {
                    Ok(()) => taken += 1,
                    Err(why) => {
                        vhost.requesters.note_dropped();
                        dropped = Some((why, requester.address()));
                    }
                }
            }
        }
        if let Some((why, address)) = dropped
            && taken == 0
            && route.queues == 0
        {
            *fate = Fate::Refused(Box::new(why.refusal(address)));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::route::Route;
    use super::*;

    /// The fates of messages in letters: `r` is routed, `x` refused before, `u` refused since replies could not come.
    fn letters(fates: &[(u32, Fate)]) -> String {
        let letter = |fate: &Fate| match fate {
            Fate::Refused(refusal) if refusal.text.contains("fast reply") => "u",
            Fate::Refused(_) => "x",
            _ => "r",
        };
        fates.iter().map(|(count, fate)| letter(fate).repeat(*count as usize)).collect()
    }

    #[test]
    fn those_that_nobody_can_reply_to_are_refused_and_no_others() {
        let routed = |count| (count, Fate::Routed(Arc::new(Route::default())));
        let before =
            |count| (count, Fate::Refused(Box::new(Refusal::new(ReplyCode::NotFound, "no exchange"))));
        let check = |fates: Vec<(u32, Fate)>, unaddressed: &[u32], expected: &str| {
            assert_eq!(letters(&refuse_unaddressed(fates, unaddressed)), expected);
        };
        check(vec![routed(3)], &[], "rrr");
        check(vec![routed(3)], &[0], "urr");
        check(vec![routed(3)], &[1], "rur");
        check(vec![routed(3)], &[0, 1, 2], "uuu");
        check(vec![routed(2), before(2), routed(2)], &[1, 2, 5], "ruxxru");
        check(vec![before(1), routed(1)], &[0, 1], "xu");
    }
}
