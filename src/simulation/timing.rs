//! When messages came: what a queue shows of it, and what it shows of those that came before or since some time.

use super::books::{Books, Finding, MessageId, QueueNumber};
use super::retained::Seen;
use super::run::Run;
use crate::broker::{Came, Which};
use crate::model::Timestamp;

/// A time is known to so many milliseconds.
const STEP_MS: u64 = 1_000;
/// Or, if that is more, to this part of its age.
const AGE_PART: u64 = 1_000;

/// A part of what a queue shows; the default is all of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    pub(super) newest: Option<u64>,
    pub(super) came: Came,
}

impl Part {
    pub(super) fn newest(count: u64) -> Self {
        Self { newest: Some(count), ..Self::default() }
    }

    fn since(time: Timestamp) -> Self {
        Self { came: Came { since: Some(time), ..Came::default() }, ..Self::default() }
    }

    fn before(time: Timestamp) -> Self {
        Self { came: Came { before: Some(time), ..Came::default() }, ..Self::default() }
    }
}

impl Run {
    /// Some time divides what a queue shows: what came before it, and what came since.
    pub(super) fn read_by_time(
        &mut self,
        queue: QueueNumber,
        which: Which,
        all: &[Seen],
        is_still: bool,
    ) -> Result<(), Finding> {
        if !self.random.one_in(3) {
            return Ok(());
        }
        let Some(some) = self.random.pick(all.iter()) else { return Ok(()) };
        let about =
            self.books.messages[some.id as usize].sent_ms + self.random.below(4 * STEP_MS as usize) as u64;
        let time = Timestamp(about.saturating_sub(2 * STEP_MS));
        let Some(before) = self.read_all(queue, which, Part::before(time))? else { return Ok(()) };
        let Some(since) = self.read_all(queue, which, Part::since(time))? else { return Ok(()) };
        let name = self.books.queues[queue].name;
        self.trace.note(format_args!("'{name}' {which:?} {}+{} at {}", before.len(), since.len(), time.0));
        self.books.note_time(self.world.workers.now().0);
        before.iter().try_for_each(|seen| self.books.check_before(queue, seen.id, time))?;
        since.iter().try_for_each(|seen| self.books.check_since(queue, seen.id, time))?;
        let parts: Vec<Seen> = before.into_iter().chain(since).collect();
        if is_still && parts != all && self.is_still(queue, which, all)? {
            return Err(format!(
                "queue '{name}' shows {parts:?} before and since {time:?}, and in all {all:?}"
            ));
        }
        self.counters.read_by_time += 1;
        Ok(())
    }
}

impl Books {
    /// A queue says when a message came: when it was sent or later, but for what it does not know exactly, and no later than
    /// somebody heard of it.
    pub(super) fn check_told(
        &self,
        queue: QueueNumber,
        id: MessageId,
        told: Option<Timestamp>,
    ) -> Result<(), Finding> {
        let name = self.queues[queue].name;
        let Some(message) = self.messages.get(id as usize) else { return Ok(()) };
        let Some(Timestamp(told)) = told else {
            return Err(format!("queue '{name}' does not know when message {id} came"));
        };
        let (sent_ms, came_ms) = (message.sent_ms, self.came_ms(id, queue));
        if told + self.doubt_of(id, told) < sent_ms || came_ms.is_some_and(|came| told > came) {
            return Err(format!(
                "queue '{name}' says that message {id} came at {told}; it was sent at {sent_ms} and heard of by {came_ms:?}"
            ));
        }
        Ok(())
    }

    fn check_before(&self, queue: QueueNumber, id: MessageId, time: Timestamp) -> Result<(), Finding> {
        let name = self.queues[queue].name;
        let sent_ms = self.messages[id as usize].sent_ms;
        // What it does not know exactly it takes to be older.
        match sent_ms >= time.0 + self.doubt_since_start(id) {
            true => Err(format!(
                "queue '{name}' shows message {id}, sent at {sent_ms}, as one from before {time:?}"
            )),
            false => Ok(()),
        }
    }

    fn check_since(&self, queue: QueueNumber, id: MessageId, time: Timestamp) -> Result<(), Finding> {
        let name = self.queues[queue].name;
        let Some(came_ms) = self.came_ms(id, queue) else { return Ok(()) };
        match came_ms + self.doubt(came_ms) < time.0 {
            true => {
                Err(format!("queue '{name}' shows message {id}, there by {came_ms}, as one since {time:?}"))
            }
            false => Ok(()),
        }
    }

    fn doubt_of(&self, id: MessageId, time_ms: u64) -> u64 {
        self.doubt(time_ms) + self.doubt_since_start(id)
    }

    /// After a start a message is as old as its batch, which takes messages for so long.
    pub(super) fn doubt_since_start(&self, id: MessageId) -> u64 {
        if id < self.life_from { STEP_MS } else { 0 }
    }

    /// By how much what is told of this time may be wrong.
    fn doubt(&self, time_ms: u64) -> u64 {
        // Shards were asked at some time since this was noted.
        STEP_MS + self.latest_ms.saturating_sub(time_ms) / AGE_PART
    }
}
