//! Messages that a channel got one by one: from many queues, under one count of tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::session::{Session, Waiting};
use super::word::{Fetched, FrontEnd, Word};
use crate::model::{DeliveryTag, Entity, QueueId, Refusal, ReplyCode, ShardId};
use crate::shard::{Command, ConsumerKey, Delivery, Settlement, TagRange, Tags, Taking};

/// What one channel got and has not settled.
#[derive(Debug, Default)]
pub(super) struct Gets {
    last_tag: u64,
    unsettled: BTreeMap<u64, Place>,
    /// Queues that were asked, and whether without acknowledgements.
    asked: Vec<(Source, bool)>,
}

/// A queue and its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    pub(super) shard: ShardId,
    pub(super) queue: QueueId,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    source: Source,
    /// The tag under which the queue gave it out.
    tag: DeliveryTag,
}

/// What is asked of each queue concerned, and a refusal if there were tags that are not unsettled.
#[derive(Debug)]
pub(super) struct AskedOfGets<T> {
    pub(super) by_queue: BTreeMap<Source, Vec<T>>,
    pub(super) refusal: Option<Refusal>,
}

impl<T> Default for AskedOfGets<T> {
    fn default() -> Self {
        Self { by_queue: BTreeMap::new(), refusal: None }
    }
}

impl Gets {
    /// Notes that a queue is asked.
    pub(super) fn ask(&mut self, source: Source, no_ack: bool) {
        if !self.asked.contains(&(source, no_ack)) {
            self.asked.push((source, no_ack));
        }
    }

    /// A message came that has to be settled; returns its tag on the channel. `None`: the channel never asked for it,
    /// it was closed and opened again since.
    pub(super) fn take(&mut self, queue: QueueId, tag: DeliveryTag) -> Option<u64> {
        let asked = |(source, no_ack): &&(Source, bool)| source.queue == queue && !no_ack;
        let (source, _) = *self.asked.iter().find(asked)?;
        self.last_tag += 1;
        self.unsettled.insert(self.last_tag, Place { source, tag });
        Some(self.last_tag)
    }

    /// Settles by the tags of the channel.
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> AskedOfGets<Settlement> {
        let mut settled = AskedOfGets::default();
        for Settlement { range, outcome } in settlements {
            let (from, to) = match (range.first, range.last) {
                (0, 0) => (1, self.last_tag),
                (0, last) => (1, last),
                (first, 0) => (first, first),
                both => both,
            };
            if to < from {
                // "All" of a channel that got nothing asks for nothing; an explicit range like this is a mistake.
                if range.first != 0 {
                    settled.refusal.get_or_insert_with(|| self.unknown_tag(from, to));
                }
                continue;
            }
            let tags: Vec<u64> = self.unsettled.range(from..=to).map(|(tag, _)| *tag).collect();
            let holes = range.first != 0 && tags.len() as u64 != (to - from).saturating_add(1);
            if to > self.last_tag || holes {
                settled.refusal.get_or_insert_with(|| self.unknown_tag(from, to));
            }
            for tag in tags {
                let Some(Place { source, tag }) = self.unsettled.remove(&tag) else { continue };
                let range = TagRange { first: tag.0, last: tag.0 };
                settled.by_queue.entry(source).or_default().push(Settlement { range, outcome: *outcome });
            }
        }
        settled
    }

    /// Looks up what is extended by the tags of the channel; each queue concerned has to be asked.
    pub(super) fn extend(&self, ranges: &[TagRange]) -> AskedOfGets<TagRange> {
        let mut extended = AskedOfGets::default();
        let mut wanted = Vec::new();
        for range in ranges {
            let (first, last) = match (range.first, range.last) {
                (0, 0) => (1, self.last_tag),
                (0, last) => (1, last),
                (first, 0) => (first, first),
                both => both,
            };
            let is_known = range.first == 0 || first <= last;
            if last > self.last_tag || !is_known {
                extended.refusal.get_or_insert_with(|| self.unknown_tag(first, last));
            }
            // Of those up to a tag some may be settled.
            let oldest = self.unsettled.keys().next().copied().unwrap_or(u64::MAX);
            let first = if range.first == 0 { first.max(oldest) } else { first };
            if first <= last.min(self.last_tag) {
                wanted.push((range.first == 0, Tags { first, last: last.min(self.last_tag) }));
            }
        }
        let (up_to, explicit): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(is_up_to, _)| *is_up_to);
        let [up_to, explicit] =
            [up_to, explicit].map(|wanted| Tags::joined(wanted.into_iter().map(|(_, tags)| tags).collect()));
        for Tags { first, last } in explicit.iter().copied() {
            if self.unsettled.range(first..=last).count() as u64 != last - first + 1 {
                extended.refusal.get_or_insert_with(|| self.unknown_tag(first, last));
            }
        }
        for Tags { first, last } in Tags::joined(up_to.into_iter().chain(explicit).collect()) {
            for Place { source, tag } in self.unsettled.range(first..=last).map(|(_, place)| *place) {
                let range = TagRange { first: tag.0, last: tag.0 };
                extended.by_queue.entry(source).or_default().push(range);
            }
        }
        extended
    }

    /// A queue has these back; returns the tag of the channel of one of them that was not settled.
    pub(super) fn lose(&mut self, queue: QueueId, lapsed: &[Tags]) -> Option<u64> {
        let is_lost = |place: &Place| {
            let at = lapsed.partition_point(|tags| tags.last < place.tag.0);
            place.source.queue == queue && lapsed.get(at).is_some_and(|tags| tags.first <= place.tag.0)
        };
        let first = self.unsettled.iter().find(|(_, place)| is_lost(place)).map(|(tag, _)| *tag);
        self.unsettled.retain(|_, place| !is_lost(place));
        first
    }

    fn unknown_tag(&self, from: u64, to: u64) -> Refusal {
        let unknown = (from..=to).find(|tag| !self.unsettled.contains_key(tag)).unwrap_or(to);
        Refusal::new(ReplyCode::PreconditionFailed, format!("unknown delivery tag {unknown}"))
            .about(Entity::Channel, "")
            .field("ranges", "tags that were delivered and are not settled", format!("{from} to {to}"))
            .hint("tags are counted by consumer, for Get by channel, and each is settled once")
    }
}

impl<F: FrontEnd> Session<F> {
    /// Asks for one message: [`Word::Got`] follows, or [`Word::Refused`] with 404 for a queue that does not exist, 405 for one
    /// of another connection.
    pub fn get(&mut self, channel: u32, queue: &str, no_ack: bool, request: u64) {
        if let Err(refusal) = self.ask_for_one(channel, queue, no_ack, request) {
            self.said.push_back(Word::Refused { channel, request, refusal: Box::new(refusal) });
        }
    }

    fn ask_for_one(&mut self, channel: u32, queue: &str, no_ack: bool, request: u64) -> Result<(), Refusal> {
        let queue = self.broker.queue_to_read(&self.who, queue)?;
        let shard = self.broker.shard(&queue)?.clone();
        if queue.is_watched() {
            self.broker.shared.presence.note_use(queue.id);
        }
        self.gets.entry(channel).or_default().ask(Source { shard: queue.shard, queue: queue.id }, no_ack);
        let key = self.key_of_gets(channel, no_ack);
        let (party, outlet) = (Arc::clone(&self.party), Arc::clone(&self.outlet));
        shard.send(Command::Get { queue: queue.id, key, party, outlet });
        self.waiting = Some(Waiting::Got { channel, request });
        Ok(())
    }

    /// A queue has answered to a request for one message.
    pub(super) fn got(
        &mut self,
        key: ConsumerKey,
        message: Result<Option<Delivery>, Box<Refusal>>,
        ready: u64,
    ) -> Option<Word<F>> {
        let awaited = |waiting: &mut Waiting<F>| matches!(waiting, Waiting::Got { channel, .. } if *channel == key.channel);
        let Some(Waiting::Got { channel, request }) = self.waiting.take_if(awaited) else { return None };
        Some(match message {
            Err(refusal) => Word::Refused { channel, request, refusal },
            Ok(delivery) => {
                let message = delivery.map(|delivery| Fetched { tag: self.fetched(&delivery), delivery });
                Word::Got { channel, request, message, ready }
            }
        })
    }

    fn fetched(&mut self, delivery: &Delivery) -> u64 {
        let ConsumerKey { channel, taking, .. } = delivery.consumer;
        if taking == Taking::OneByOneNoAck {
            return 0;
        }
        let gets = self.gets.entry(channel).or_default();
        gets.take(delivery.queue, delivery.first_tag).unwrap_or(0)
    }

    /// What a channel got and has not settled goes back.
    pub(super) fn close_gets(&mut self, channel: u32) {
        for (source, no_ack) in self.gets.remove(&channel).unwrap_or_default().asked {
            if let Some(shard) = self.broker.shared.shard(source.shard) {
                let key = self.key_of_gets(channel, no_ack);
                shard.send(Command::Detach { queue: source.queue, key });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::shard::Outcome;

    const ORDERS: Source = Source { shard: ShardId(0), queue: QueueId(7) };
    const INVOICES: Source = Source { shard: ShardId(1), queue: QueueId(8) };

    fn three() -> Gets {
        let mut gets = Gets::default();
        gets.ask(ORDERS, false);
        gets.ask(INVOICES, false);
        assert_eq!(gets.take(ORDERS.queue, DeliveryTag(1)), Some(1));
        assert_eq!(gets.take(INVOICES.queue, DeliveryTag(1)), Some(2));
        assert_eq!(gets.take(ORDERS.queue, DeliveryTag(2)), Some(3));
        gets
    }

    fn settle(gets: &mut Gets, first: u64, last: u64) -> (Vec<(Source, u64)>, bool) {
        let settled =
            gets.settle(&[Settlement { range: TagRange { first, last }, outcome: Outcome::Accepted }]);
        let runs = settled.by_queue.iter();
        let tags = runs.flat_map(|(source, settled)| settled.iter().map(|one| (*source, one.range.first)));
        (tags.collect(), settled.refusal.is_some())
    }

    #[test]
    fn a_range_reaches_the_queues_it_came_from() {
        assert_eq!(settle(&mut three(), 0, 0), (vec![(ORDERS, 1), (ORDERS, 2), (INVOICES, 1)], false));
        assert_eq!(settle(&mut three(), 0, 2), (vec![(ORDERS, 1), (INVOICES, 1)], false));
        assert_eq!(settle(&mut three(), 2, 0), (vec![(INVOICES, 1)], false));
        assert_eq!(settle(&mut three(), 2, 3), (vec![(ORDERS, 2), (INVOICES, 1)], false));
    }

    #[test]
    fn unknown_tags_are_refused_and_the_others_settled() {
        let mut gets = three();
        assert_eq!(settle(&mut gets, 2, 0), (vec![(INVOICES, 1)], false));
        assert_eq!(settle(&mut gets, 2, 0), (vec![], true));
        assert_eq!(settle(&mut gets, 1, 9), (vec![(ORDERS, 1), (ORDERS, 2)], true));
        assert_eq!(settle(&mut gets, 0, 0), (vec![], false));
        assert_eq!(settle(&mut gets, u64::MAX, 0), (vec![], true));
        assert_eq!(settle(&mut gets, 1, u64::MAX), (vec![], true));
    }

    fn extend(gets: &Gets, ranges: &[(u64, u64)]) -> (Vec<(Source, u64)>, bool) {
        let ranges: Vec<TagRange> =
            ranges.iter().map(|(first, last)| TagRange { first: *first, last: *last }).collect();
        let extended = gets.extend(&ranges);
        let runs = extended.by_queue.iter();
        let tags = runs.flat_map(|(source, ranges)| ranges.iter().map(|one| (*source, one.first)));
        (tags.collect(), extended.refusal.is_some())
    }

    #[test]
    fn what_is_extended_stays() {
        let mut gets = three();
        let all = vec![(ORDERS, 1), (ORDERS, 2), (INVOICES, 1)];
        assert_eq!(extend(&gets, &[(0, 0)]), (all.clone(), false));
        assert_eq!(extend(&gets, &[(1, 3), (0, 2), (2, 0)]), (all.clone(), false));
        assert_eq!(extend(&gets, &[(3, 1)]), (vec![], true));
        assert_eq!(extend(&gets, &[(0, 4)]), (all, true));
        assert_eq!(settle(&mut gets, 1, 0), (vec![(ORDERS, 1)], false));
        assert_eq!(extend(&gets, &[(0, 2)]), (vec![(INVOICES, 1)], false));
        assert_eq!(extend(&gets, &[(1, 2)]), (vec![(INVOICES, 1)], true));
        assert_eq!(extend(&gets, &[(u64::MAX, 0)]), (vec![], true));
        assert_eq!(extend(&Gets::default(), &[(0, 0)]), (vec![], false));
    }

    #[test]
    fn what_a_queue_has_back_is_settled_no_more() {
        let mut gets = three();
        assert_eq!(gets.lose(INVOICES.queue, &[Tags { first: 2, last: 9 }]), None);
        assert_eq!(gets.lose(ORDERS.queue, &[Tags { first: 2, last: 9 }]), Some(3));
        assert_eq!(settle(&mut gets, 3, 0), (vec![], true));
        assert_eq!(settle(&mut gets, 0, 0), (vec![(ORDERS, 1), (INVOICES, 1)], false));
    }

    #[test]
    fn a_range_that_ends_before_it_begins_settles_nothing() {
        assert_eq!(settle(&mut three(), 3, 1), (vec![], true));
        assert_eq!(settle(&mut Gets::default(), 0, 0), (vec![], false));
    }

    #[test]
    fn what_was_never_asked_for_gets_no_tag() {
        assert_eq!(three().take(QueueId(9), DeliveryTag(1)), None);
    }
}
