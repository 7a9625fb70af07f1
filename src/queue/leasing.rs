//! What consumers have had for too long, which somebody else knows who sees a clock: it comes back, and they get no more.

use super::consumer::ConsumerKey;
use super::departure::Return;
use super::queue::{Effects, Queue};
use super::sequence_runs::SequenceRuns;
use super::settling::{TagRange, UnknownTag};
use crate::model::{BodySequence, DeliveryTag};

/// Somebody who has messages and has not settled them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub key: ConsumerKey,
    /// Tag of the oldest delivery that is not settled.
    pub oldest: u64,
    /// Tag of the next delivery.
    pub next: u64,
    /// How many are not settled.
    pub count: u64,
}

/// Neighbouring delivery tags, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tags {
    /// The first.
    pub first: u64,
    /// The last; not before the first.
    pub last: u64,
}

impl Tags {
    /// The same tags in order, without overlap.
    pub fn joined(mut tags: Vec<Self>) -> Vec<Self> {
        tags.sort_unstable_by_key(|tags| tags.first);
        tags.dedup_by(|next, before| {
            let is_joined = next.first <= before.last.saturating_add(1);
            if is_joined {
                before.last = before.last.max(next.last);
            }
            is_joined
        });
        tags
    }
}

impl Queue {
    /// Who has a message for so many milliseconds without settling it loses it; `None`: as long as its shard says.
    pub fn set_lease(&mut self, lease_millis: Option<u64>) {
        self.options.lease_millis = lease_millis;
    }

    /// Whether anybody has messages.
    pub fn is_held(&self) -> bool {
        self.outstanding > 0
    }

    /// Who has messages.
    pub fn holders(&self) -> impl Iterator<Item = Holder> {
        self.consumers.iter().filter_map(|consumer| {
            let (key, next, count) = (consumer.key, consumer.next_tag(), consumer.unsettled_count());
            consumer.oldest_tag().map(|oldest| Holder { key, oldest, next, count })
        })
    }

    /// Whether somebody has any of these.
    pub fn holds_any(&self, key: ConsumerKey, tags: Tags) -> bool {
        let holder = self.consumers.iter().find(|consumer| consumer.key == key);
        holder.is_some_and(|holder| holder.look(tags.first, tags.last).holds_any)
    }

    /// Neighbouring tags that somebody has, as far as there are such in these ranges, in order, without overlap; and a tag of the
    /// ranges that is not held, if there is one. As in [`Queue::settle_tags`] that of ranges which begin at the oldest one has to
    /// be one that was never given out.
    pub fn held_among(&self, key: ConsumerKey, ranges: &[TagRange]) -> (Vec<Tags>, Result<(), UnknownTag>) {
        let holder = self.consumers.iter().find(|consumer| consumer.key == key);
        let next = holder.map_or(1, |holder| holder.next_tag());
        let (mut up_to, mut explicit, mut unknown) = (0, Vec::new(), None);
        for range in ranges {
            let (first, last) = range.ends(next);
            let is_beyond = last >= next && (range.first, range.last) != (0, 0);
            unknown = unknown.or(is_beyond.then_some(first.max(next)));
            match range.first {
                0 => up_to = last.min(next - 1).max(up_to),
                _ if last < first => unknown = unknown.or(Some(first)),
                _ if first < next => explicit.push(Tags { first, last: last.min(next - 1) }),
                _ => {}
            }
        }
        // Each is looked at once, however often it is named.
        let explicit = Tags::joined(explicit);
        let mut held: Vec<Tags> = Vec::new();
        for tags in &explicit {
            let look = holder.map(|holder| holder.look(tags.first, tags.last));
            unknown = unknown.or(look.map_or(Some(tags.first), |look| look.missing));
            held.extend(look.filter(|look| look.holds_any).map(|_| *tags));
        }
        if let Some(first) = holder.and_then(|holder| holder.oldest_tag()).filter(|first| *first <= up_to) {
            held.push(Tags { first, last: up_to });
        }
        (Tags::joined(held), unknown.map_or(Ok(()), |tag| Err(UnknownTag(DeliveryTag(tag)))))
    }

    /// These deliveries were with somebody for too long: they come back as if whoever has them had gone, and a consumer gets no more.
    /// What else it has it can still settle. Returns those of them that it had, in order.
    pub fn lapse(&mut self, key: ConsumerKey, tags: &[Tags], effects: &mut Effects) -> Vec<Tags> {
        let Some(index) = self.position(key) else { return Vec::new() };
        let consumer = &mut self.consumers[index];
        let (mut runs, mut lapsed) = (SequenceRuns::default(), Vec::<Tags>::new());
        for Tags { first, last } in tags {
            consumer.settle(*first, *last, |tag, message| {
                runs.push(BodySequence(message.sequence()));
                match lapsed.last_mut() {
                    Some(before) if before.last + 1 == tag => before.last = tag,
                    _ => lapsed.push(Tags { first: tag, last: tag }),
                }
            });
        }
        if lapsed.is_empty() {
            return lapsed;
        }
        consumer.cancelled |= key.is_consumer();
        if consumer.cancelled && consumer.unsettled_count() == 0 {
            self.remove_consumer(index);
        }
        self.choose_active();
        self.come_back(Return::ConsumerGone, runs, None, effects);
        lapsed
    }
}
