//! What may wait in a queue with limits, what must not, and what must.
//!
//! A message is dropped for newer ones, and which are newer the broker decides: those that were sent later, and those of
//! others that were on their way at the time. So a message is owed as long as these are fewer than the queue has room for.

use std::collections::BTreeMap;

use super::books::{Books, Finding, MessageId, QueueNumber, Way};
use super::retained::Seen;
use super::world::Shown;
use crate::message::Expiration;
use crate::model::{FieldTable, FieldValue, MAX_LENGTH, MESSAGE_TTL};

/// Milliseconds by which somebody may hear of a message after it has become too old: it is long under way to whoever hears of it.
const LATE_MS: u64 = 12_000;
/// A time is known to this part of its age.
const AGE_PART: u64 = 1_000;
/// Messages that expire by themselves do so after this time, in milliseconds, at the earliest, and before so much more.
const SOONEST_MS: u64 = 4_000;
const EXPIRATIONS_MS: u64 = 40_000;

/// After how many milliseconds a message expires by itself, which follows from its number; `None`: it says nothing of that.
fn expiration_of(id: MessageId) -> Option<u64> {
    (id % 11 == 3).then_some(SOONEST_MS + id * 613 % EXPIRATIONS_MS)
}

/// Expirations of messages of a frame.
pub(super) fn expirations_of(ids: &[MessageId]) -> Vec<Expiration> {
    let said = ids.iter().zip(0..).filter_map(|(id, index)| Some((index, expiration_of(*id)?)));
    said.map(|(index, after_millis)| Expiration { index, after_millis }).collect()
}

/// Messages that may wait somewhere and will expire.
type Expiring = Vec<(MessageId, QueueNumber)>;

/// Limits of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    messages: Option<u64>,
    ttl_ms: Option<u64>,
}

impl Limits {
    /// Those of the queues of this name.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "hen" => Self { messages: Some(12), ttl_ms: None },
            "ibis" => Self { messages: None, ttl_ms: Some(20_000) },
            _ => Self::default(),
        }
    }

    /// Puts them among the arguments of a declaration.
    pub(super) fn put_into(self, arguments: &mut FieldTable) {
        let said = [(MAX_LENGTH, self.messages), (MESSAGE_TTL, self.ttl_ms)];
        let said = said.into_iter().filter_map(|(name, bound)| Some((name, bound?)));
        arguments.0.extend(said.map(|(name, bound)| (name.to_owned(), FieldValue::Integer(bound as i64))));
    }
}

impl Books {
    /// Messages are on their way to a queue: others may have to make room.
    pub(super) fn make_room(&mut self, queue: QueueNumber) {
        let Some(most) = self.queues[queue].limits.messages else { return };
        let held = &self.queues[queue].held;
        let is_on_its_way = |id: MessageId| self.came_ms(id, queue).is_none();
        let mut newer =
            held.iter().filter(|id| is_on_its_way(**id)).count() as u64 + self.may_have_come(queue);
        let mut dropped = Vec::new();
        // Of those that are on their way only the later ones have been counted when an earlier one is looked at.
        for id in held.iter().rev() {
            if newer.saturating_sub(u64::from(is_on_its_way(*id))) >= most {
                dropped.push(*id);
            }
            newer += u64::from(!is_on_its_way(*id));
        }
        dropped.into_iter().for_each(|id| self.leaving(id, queue, Way::Died));
    }

    /// Messages that waited before they were routed, and may be in a queue in which nobody has seen them.
    fn may_have_come(&self, queue: QueueNumber) -> u64 {
        let emptied_ms = self.queues[queue].emptied_ms;
        let may_be_here = |id: &MessageId| {
            let came_ms = self.messages[*id as usize].came_ms;
            self.place(*id, queue).is_none() && came_ms.is_none_or(|came_ms| came_ms >= emptied_ms)
        };
        let loose = (0..self.messages.len() as MessageId).filter(|id| self.is_loose(*id));
        loose.filter(may_be_here).count() as u64
    }

    /// For how many milliseconds a message may wait: as long as it says itself and its queue allows.
    fn ttl_ms(&self, id: MessageId, queue: QueueNumber) -> Option<u64> {
        self.queues[queue].limits.ttl_ms.into_iter().chain(expiration_of(id)).min()
    }

    /// Whether a message may have expired.
    pub(super) fn may_have_expired(&self, id: MessageId, queue: QueueNumber) -> bool {
        let age_ms = self.latest_ms.saturating_sub(self.messages[id as usize].sent_ms);
        self.ttl_ms(id, queue).is_some_and(|ttl| age_ms + self.doubt_since_start(id) >= ttl)
    }

    /// Whether anything that a queue may hold may have expired by now.
    pub(super) fn some_may_have_expired(&self, queue: QueueNumber) -> bool {
        self.queues[queue].held.iter().any(|id| self.may_have_expired(*id, queue))
    }

    /// Messages that may wait now and will expire, by their queues.
    pub(super) fn expiring(&self) -> Expiring {
        let held = |queue: QueueNumber| self.queues[queue].held.iter().map(move |id| (*id, queue));
        let held = (0..self.queues.len()).flat_map(held);
        held.filter(|(id, queue)| self.ttl_ms(*id, *queue).is_some()).collect()
    }

    /// Whether a start has changed nothing, but that some messages have expired since.
    pub(super) fn is_as_before(&self, before: &Shown, expiring: &Expiring, after: &Shown) -> bool {
        let may_have_expired = |name: &str| {
            let of_name = expiring.iter().filter(|(_, queue)| self.queues[*queue].name == name);
            of_name.filter(|(id, queue)| self.may_have_expired(*id, *queue)).count() as u64
        };
        let is_content_same = |(name, before): (&String, &(u64, u64))| {
            let after = after.contents.get(name);
            after.is_some_and(|after| {
                let gone = before.0.checked_sub(after.0).unwrap_or(u64::MAX);
                after == before || gone > 0 && gone <= may_have_expired(name) && after.1 < before.1
            })
        };
        let rest = |shown: &Shown| Shown { contents: BTreeMap::new(), ..shown.clone() };
        before.contents.len() == after.contents.len()
            && before.contents.iter().all(is_content_same)
            && rest(before) == rest(after)
    }

    /// Whether messages of a queue expire only if they say so themselves.
    pub(super) fn lets_wait(&self, queue: QueueNumber) -> bool {
        self.queues[queue].limits.ttl_ms.is_none()
    }

    /// While nothing moves no more waits than may.
    pub(super) fn check_length(&self, queue: QueueNumber, ready: &[Seen]) -> Result<(), Finding> {
        let book = &self.queues[queue];
        match book.limits.messages.filter(|most| ready.len() as u64 > *most) {
            Some(most) => {
                Err(format!("in queue '{}' {} messages wait, and {most} may", book.name, ready.len()))
            }
            None => Ok(()),
        }
    }

    /// A message that waits has not been too old for long.
    pub(super) fn check_not_expired(&self, queue: QueueNumber, id: MessageId) -> Result<(), Finding> {
        self.check_age(queue, id, self.now_ms)
    }

    /// The same for one that is delivered. It was handed out before, and had to wait for a mark on the disk, which may take any
    /// time: so its age counts at the last moment at which nothing waited for a disk.
    pub(super) fn check_sent_in_time(&self, queue: QueueNumber, id: MessageId) -> Result<(), Finding> {
        self.check_age(queue, id, self.written_ms)
    }

    fn check_age(&self, queue: QueueNumber, id: MessageId, at_ms: u64) -> Result<(), Finding> {
        let (Some(ttl), Some(came_ms)) = (self.ttl_ms(id, queue), self.came_ms(id, queue)) else {
            return Ok(());
        };
        let age_ms = at_ms.saturating_sub(came_ms);
        match age_ms > ttl + LATE_MS + age_ms / AGE_PART {
            true => Err(format!(
                "message {id} was still in queue '{}' {age_ms} ms after it came, and may wait for {ttl} ms",
                self.queues[queue].name
            )),
            false => Ok(()),
        }
    }
}
