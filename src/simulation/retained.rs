//! What a queue must retain of what consumers were done with, and what it may forget of that.
//!
//! The broker's bounds are kept by taking away what is oldest. So a message that is not there any more was beyond a bound
//! when it went: there were too many newer ones, or too many bytes of them, or it was too old.

use std::collections::BTreeSet;

use super::books::{Books, Finding, Left, MessageId, QueueNumber};
use crate::broker::Retention;
use crate::model::{FieldTable, FieldValue, RETAIN_BYTES, RETAIN_MESSAGES, RETAIN_MILLIS};

/// Milliseconds by which a message that is too old may be retained longer: a look for those comes each second, and a time is
/// known to the second.
const LATE_MS: u64 = 3_000;
/// A time is known to this part of its age, if that is more than a second.
const AGE_PART: u64 = 1_000;

/// What a queue retains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) age_ms: Option<u64>,
    messages: Option<u64>,
    bytes: Option<u64>,
}

impl Bounds {
    /// Those of the queues of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        let none = Self::default();
        match name {
            "bee" => Some(Self { messages: Some(40), ..none }),
            "cat" => Some(Self { bytes: Some(30_000), ..none }),
            "dog" => Some(Self { age_ms: Some(30_000), ..none }),
            "eel" => Some(Self { age_ms: Some(200_000), messages: Some(150), bytes: Some(150_000) }),
            _ => None,
        }
    }

    pub(super) const fn of_messages(most: u64) -> Self {
        Self { age_ms: None, messages: Some(most), bytes: None }
    }

    pub(super) const fn of_bytes(most: u64) -> Self {
        Self { age_ms: None, messages: None, bytes: Some(most) }
    }

    /// As a declaration says them.
    pub(super) fn arguments(self) -> FieldTable {
        let Self { age_ms, messages, bytes } = self;
        let said = [(RETAIN_MILLIS, age_ms), (RETAIN_MESSAGES, messages), (RETAIN_BYTES, bytes)];
        let said = said.into_iter().filter_map(|(name, bound)| Some((name, bound?)));
        FieldTable(said.map(|(name, bound)| (name.to_owned(), FieldValue::Integer(bound as i64))).collect())
    }
}

impl From<Retention> for Bounds {
    fn from(Retention { age_millis, messages, bytes }: Retention) -> Self {
        Self { age_ms: age_millis, messages, bytes }
    }
}

/// A message that was looked at in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: MessageId,
    pub(super) sequence: u64,
    pub(super) bytes: u64,
    pub(super) redelivered: bool,
}

/// All that a queue shows while nothing moves.
#[derive(Debug)]
pub(super) struct AtRest {
    pub(super) ready: Vec<Seen>,
    pub(super) delayed: Vec<Seen>,
    /// Messages that clients hold.
    pub(super) held: BTreeSet<MessageId>,
    pub(super) retained: Vec<Seen>,
}

/// What went out of what is retained, and why, in one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) beyond_bounds: u64,
    pub(super) too_old: u64,
}

impl Books {
    /// A queue shows that a message waits in it.
    pub(super) fn seen_waiting(&mut self, queue: QueueNumber, seen: Seen) -> Result<(), Finding> {
        self.came_from(seen.id, queue)?;
        self.seen_at(queue, seen)
    }

    /// A queue shows that a message waits in it, and nobody has heard anything since.
    pub(super) fn check_waiting(&self, queue: QueueNumber, seen: Seen) -> Result<(), Finding> {
        let (Seen { id, .. }, name) = (seen, self.queues[queue].name);
        match self.place(id, queue) {
            Some(place) if place.left == Left::Surely => {
                Err(format!("message {id} is shown in queue '{name}' after it had left that"))
            }
            Some(place) if place.was_heard && !seen.redelivered => {
                Err(format!("message {id} of queue '{name}' was delivered before and is not shown so"))
            }
            _ => Ok(()),
        }
    }

    /// A queue shows that it retains a message. `may_go_out`: somebody takes messages from it who need not say so.
    pub(super) fn seen_retained(
        &mut self,
        queue: QueueNumber,
        seen: Seen,
        may_go_out: bool,
    ) -> Result<(), Finding> {
        let Seen { id, .. } = seen;
        let name = self.queues[queue].name;
        let book = &self.queues[queue];
        if book.bounds.is_none() && book.earlier_bounds.iter().all(Option::is_none) {
            return Err(format!("queue '{name}' is to retain nothing, and retains message {id}"));
        }
        let place = self.came_from(id, queue)?;
        place.may_be_done |= may_go_out;
        if !place.may_be_done {
            return Err(format!("queue '{name}' retains message {id}, which no consumer was done with"));
        }
        if place.is_forgotten {
            return Err(format!("queue '{name}' retains message {id} again, which it had forgotten"));
        }
        self.queues[queue].done.insert(id);
        self.seen_at(queue, seen)
    }

    fn seen_at(&mut self, queue: QueueNumber, seen: Seen) -> Result<(), Finding> {
        let Seen { id, sequence, bytes, .. } = seen;
        let name = self.queues[queue].name;
        let sent = self.messages[id as usize].bytes;
        if bytes != sent {
            return Err(format!(
                "message {id} of queue '{name}' has {bytes} bytes, and was sent with {sent}"
            ));
        }
        match self.place_mut(id, queue).sequence.replace(sequence) {
            Some(before) if before != sequence => {
                Err(format!("message {id} of queue '{name}' was number {before}, and is {sequence}"))
            }
            _ => Ok(()),
        }
    }

    /// Everything is on disk and nothing moves: each message is in one place, and those are all that there must be.
    pub(super) fn at_rest(&mut self, queue: QueueNumber, rest: &AtRest) -> Result<Forgotten, Finding> {
        let name = self.queues[queue].name;
        self.in_order(queue, &rest.ready)?;
        self.in_order(queue, &rest.delayed)?;
        self.in_order(queue, &rest.retained)?;
        self.check_length(queue, &rest.ready)?;
        rest.ready.iter().try_for_each(|seen| self.check_not_expired(queue, seen.id))?;
        let waiting: BTreeSet<MessageId> = rest.ready.iter().map(|seen| seen.id).collect();
        let delayed: BTreeSet<MessageId> = rest.delayed.iter().map(|seen| seen.id).collect();
        if let Some(id) = waiting.intersection(&delayed).next() {
            return Err(format!("message {id} waits in queue '{name}', which holds it back"));
        }
        let ready = &waiting | &delayed;
        let retained: BTreeSet<MessageId> = rest.retained.iter().map(|seen| seen.id).collect();
        let twice = ready.intersection(&retained).chain(ready.intersection(&rest.held));
        if let Some(id) = twice.chain(retained.intersection(&rest.held)).next() {
            return Err(format!("message {id} is in two places of queue '{name}'"));
        }
        let is_there = |id: &MessageId| ready.contains(id) || rest.held.contains(id) || retained.contains(id);
        let lost = self.queues[queue].held.iter().find(|id| self.is_owed(**id, queue) && !is_there(id));
        if let Some(id) = lost {
            return Err(format!("message {id} was confirmed, and queue '{name}' does not show it"));
        }
        // With all that it may have been told to retain meanwhile.
        let mut told = std::mem::take(&mut self.queues[queue].earlier_bounds);
        told.push(self.queues[queue].bounds);
        let bytes: u64 = rest.retained.iter().map(|seen| seen.bytes).sum();
        let count = retained.len() as u64;
        if self.subscriptions_are_sure()
            && let Some(bounds) = self.queues[queue].bounds
            && (bounds.messages.is_some_and(|most| count > most)
                || bounds.bytes.is_some_and(|most| bytes > most))
        {
            return Err(format!("queue '{name}' retains {count} messages of {bytes} bytes: {bounds:?}"));
        }
        let done: Vec<MessageId> = self.queues[queue].done.iter().copied().collect();
        let mut forgotten = Forgotten::default();
        for id in done {
            let is_known = self.place(id, queue).is_none_or(|place| place.is_forgotten);
            if is_known || is_there(&id) {
                continue;
            }
            if self.is_to_be_retained(id, queue) {
                let is_old = told.iter().flatten().any(|bounds| self.is_older_than(id, *bounds));
                match is_old {
                    true => forgotten.too_old += 1,
                    false => self.check_forgotten(id, queue, &told, &rest.retained)?,
                }
                forgotten.beyond_bounds += u64::from(!is_old);
            }
            self.left(id, queue);
            self.place_mut(id, queue).is_forgotten = true;
        }
        if !self.subscriptions_are_sure() {
            self.queues[queue].earlier_bounds = told;
        }
        Ok(forgotten)
    }

    /// Whether a queue may forget a message for its age.
    pub(super) fn is_too_old(&self, id: MessageId, queue: QueueNumber) -> bool {
        self.queues[queue].bounds.is_some_and(|bounds| self.is_older_than(id, bounds))
    }

    fn is_older_than(&self, id: MessageId, bounds: Bounds) -> bool {
        let age_ms = self.latest_ms.saturating_sub(self.messages[id as usize].sent_ms);
        bounds.age_ms.is_some_and(|most| age_ms + self.doubt_since_start(id) >= most)
    }

    /// A message is not retained: something that the queue was told to retain left it no room.
    fn check_forgotten(
        &self,
        id: MessageId,
        queue: QueueNumber,
        told: &[Option<Bounds>],
        retained: &[Seen],
    ) -> Result<(), Finding> {
        if let [Some(bounds)] = told {
            self.check_beyond(id, queue, *bounds)?;
            return self.check_newest(id, queue, *bounds, retained);
        }
        let mut why = Ok(());
        for bounds in told {
            why = bounds.map_or(Ok(()), |bounds| self.check_beyond(id, queue, bounds));
            if why.is_ok() {
                break;
            }
        }
        why
    }

    /// Each client's messages come in the order in which it published them.
    fn in_order(&self, queue: QueueNumber, shown: &[Seen]) -> Result<(), Finding> {
        let name = self.queues[queue].name;
        if let Some(pair) = shown.windows(2).find(|pair| pair[0].sequence >= pair[1].sequence) {
            return Err(format!("queue '{name}' shows {:?} before {:?}", pair[0], pair[1]));
        }
        let ids: Vec<MessageId> = shown.iter().map(|seen| seen.id).collect();
        self.by_client(queue, &ids)
    }

    /// It was in the queue, and cannot have left that otherwise than by a consumer who was done with it.
    fn is_to_be_retained(&self, id: MessageId, queue: QueueNumber) -> bool {
        let message = &self.messages[id as usize];
        self.place(id, queue).is_some_and(|place| {
            let is_kept =
                message.on_disk || message.confirmed_in == Some(self.life) || place.left == Left::Surely;
            let expired = place.left != Left::Surely && self.may_have_expired(id, queue);
            is_kept && place.is_sure && !place.may_be_dropped && !expired
        })
    }

    /// A message is not retained: newer ones were too many, or too large, at some time.
    fn check_beyond(&self, id: MessageId, queue: QueueNumber, bounds: Bounds) -> Result<(), Finding> {
        let name = self.queues[queue].name;
        let (mut count, mut bytes) = (0, 0);
        for other in &self.queues[queue].done {
            if self.comes_after(*other, id, queue) != Some(false) {
                count += 1;
                bytes += self.messages[*other as usize].bytes;
            }
        }
        let too_many = bounds.messages.is_some_and(|most| count > most);
        if !too_many && bounds.bytes.is_none_or(|most| bytes <= most) {
            return Err(format!(
                "a consumer was done with message {id}, and queue '{name}' neither retains it nor had to forget it: from \
                 it on there were {count} messages of {bytes} bytes; it was sent at {}, and now it is {} (at most {})",
                self.messages[id as usize].sent_ms, self.now_ms, self.latest_ms
            ));
        }
        Ok(())
    }

    /// A message is not retained though nothing was told but this: those that are retained are newer.
    fn check_newest(
        &self,
        id: MessageId,
        queue: QueueNumber,
        bounds: Bounds,
        retained: &[Seen],
    ) -> Result<(), Finding> {
        let name = self.queues[queue].name;
        // With a bound on the number alone, the newest so many are there, whatever came in which order.
        if bounds.bytes.is_none() && bounds.age_ms.is_none() {
            let older = retained.iter().find(|seen| self.comes_after(id, seen.id, queue) == Some(true));
            if let Some(older) = older {
                return Err(format!(
                    "queue '{name}' forgot message {id} and retains {older:?}, which is older"
                ));
            }
            if bounds.messages != Some(retained.len() as u64) {
                return Err(format!("queue '{name}' forgot message {id} and has room for it"));
            }
        }
        Ok(())
    }

    /// Whether a message stands behind another one; `None`: nobody knows.
    fn comes_after(&self, id: MessageId, other: MessageId, queue: QueueNumber) -> Option<bool> {
        let sequence = |id| self.place(id, queue).and_then(|place| place.sequence);
        if let (Some(this), Some(that)) = (sequence(id), sequence(other)) {
            return Some(this >= that);
        }
        (self.client_of(id) == self.client_of(other)).then_some(id >= other)
    }

    /// Time has passed: nothing is retained that has been too old for long.
    pub(super) fn check_ages(&self, queue: QueueNumber, retained: &[Seen]) -> Result<(), Finding> {
        let Some(age_ms) = self.queues[queue].bounds.and_then(|bounds| bounds.age_ms) else { return Ok(()) };
        for Seen { id, .. } in retained {
            let Some(came_ms) = self.came_ms(*id, queue) else { continue };
            let age = self.now_ms.saturating_sub(came_ms);
            if age > age_ms + LATE_MS + age / AGE_PART {
                return Err(format!(
                    "queue '{}' still retains message {id}, which came {age} ms ago",
                    self.queues[queue].name
                ));
            }
        }
        Ok(())
    }
}
