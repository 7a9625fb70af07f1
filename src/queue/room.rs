//! The room of a queue that refuses what comes when it is full.
//!
//! A message is refused if it would wait beyond the bounds. Consumers that have room take what waits first, whether the log has
//! the mark for that already or not: what they are about to have does not wait. As in RabbitMQ a message has to fit in by itself
//! also where a consumer takes it at once: with room for none, nothing comes in.

use super::consumer::Consumer;
use super::limits::Limits;
use super::queue::Queue;

/// The bound for which a queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// So many messages may wait.
    Messages(u64),
    /// So many bytes of them may.
    Bytes(u64),
}

/// What there is room for in a queue, as messages come one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    limits: Limits,
    /// Messages that wait and their bytes, without those that somebody is about to have.
    waiting: u64,
    waiting_bytes: u64,
    /// How many more somebody takes at once. While there are any, none waits.
    takers: u64,
}

impl Room {
    /// One more message comes, of so many bytes.
    ///
    /// # Errors
    /// The bound for which there is no room for it; then it does not come.
    pub fn take(&mut self, size_bytes: u64) -> Result<(), Full> {
        let Limits { messages, bytes, .. } = self.limits;
        if let Some(most) = messages.filter(|most| self.waiting >= *most) {
            return Err(Full::Messages(most));
        }
        let then = self.waiting_bytes.saturating_add(size_bytes);
        if let Some(most) = bytes.filter(|most| then > *most) {
            return Err(Full::Bytes(most));
        }
        match self.takers {
            0 => (self.waiting, self.waiting_bytes) = (self.waiting + 1, then),
            _ => self.takers -= 1,
        }
        Ok(())
    }
}

impl Queue {
    /// The room that is left, while `asked` messages more are about to be taken one by one; `None`: whatever comes is taken in.
    pub fn room(&mut self, asked: u64) -> Option<Room> {
        let limits = self.options.limits;
        if !limits.refuse_what_comes() {
            return None;
        }
        let takers = self.room_of_consumers().saturating_add(asked);
        let ready = self.ready();
        let (waiting, waiting_bytes) = match ready.saturating_sub(takers) {
            0 => (0, 0),
            waiting if limits.bytes.is_none() => (waiting, 0),
            waiting => (waiting, self.waiting_bytes_behind(takers)),
        };
        Some(Room { limits, waiting, waiting_bytes, takers: takers.saturating_sub(ready) })
    }

    /// Bytes of what waits behind the first so many.
    pub(super) fn waiting_bytes_behind(&mut self, takers: u64) -> u64 {
        let with_consumers: u64 = self.consumers.iter().map(Consumer::unsettled_bytes).sum();
        let about_to_go: u64 =
            self.lines.in_turn().take(takers as usize).map(|message| message.size_bytes()).sum();
        self.lines.live_bytes().saturating_sub(with_consumers + about_to_go + self.lines.held_bytes())
    }

    /// Messages came for which there was no room.
    pub fn count_refused(&mut self, messages: u64) {
        self.refused += messages;
    }

    /// How many messages consumers take as soon as there are any.
    pub(super) fn room_of_consumers(&self) -> u64 {
        match self.options.single_active {
            false => self.room_of_all(),
            true => self.served().map_or(0, |index| self.room_of(index)),
        }
    }
}
