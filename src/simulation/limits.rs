//! What may wait in a queue with limits, what must not, and what must.
//!
//! A message is dropped for newer ones, and which are newer the broker decides: those that were sent later, and those of
//! others that were on their way at the time. So a message is owed as long as these are fewer than the queue has room for.

use super::books::{Books, Finding, MessageId, QueueNumber, Way};
use super::retained::Seen;
use crate::model::{FieldTable, FieldValue, MAX_LENGTH, MESSAGE_TTL};

/// Milliseconds by which somebody may hear of a message after it has become too old: it is long under way to whoever hears of it.
const LATE_MS: u64 = 12_000;
/// A time is known to this part of its age.
const AGE_PART: u64 = 1_000;

/// Limits of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    messages: Option<u64>,
    pub(super) ttl_ms: Option<u64>,
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

    /// Whether a message may have expired.
    pub(super) fn may_have_expired(&self, id: MessageId, queue: QueueNumber) -> bool {
        let age_ms = self.latest_ms.saturating_sub(self.messages[id as usize].sent_ms);
        self.queues[queue].limits.ttl_ms.is_some_and(|ttl| age_ms + self.doubt_since_start(id) >= ttl)
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

    /// A message that waits, or is delivered, has not been too old for long.
    pub(super) fn check_not_expired(&self, queue: QueueNumber, id: MessageId) -> Result<(), Finding> {
        let (Some(ttl), Some(came_ms)) = (self.queues[queue].limits.ttl_ms, self.came_ms(id, queue)) else {
            return Ok(());
        };
        let age_ms = self.now_ms.saturating_sub(came_ms);
        match age_ms > ttl + LATE_MS + age_ms / AGE_PART {
            true => Err(format!(
                "message {id} is still in queue '{}' {age_ms} ms after it came, and may wait for {ttl} ms",
                self.queues[queue].name
            )),
            false => Ok(()),
        }
    }
}
