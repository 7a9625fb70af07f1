//! Messages that are for later: nobody gets or sees them before, and everybody after.

use super::books::{Books, Finding, MessageId, QueueNumber};
use super::run::Run;
use crate::message::Delay;

/// The longest delay, in milliseconds.
const DELAY_MAX_MS: u64 = 3_000;
/// Rounds after which what is held back is taken never to be due.
const ROUNDS_MAX: usize = 5_000;
/// From one of them to the next.
const ROUND_MS: u64 = 1_000;

/// For how many milliseconds a message is delayed, which follows from its number; `None`: it is for now.
pub(super) fn delay_of(id: MessageId) -> Option<u64> {
    (id % 9 == 4).then_some(id * 379 % DELAY_MAX_MS)
}

/// Delays of messages of a frame.
pub(super) fn delays_of(ids: &[MessageId]) -> Vec<Delay> {
    let delays = ids.iter().zip(0..).filter_map(|(id, index)| Some((index, delay_of(*id)?)));
    delays.map(|(index, after)| Delay { index, after_millis: Some(after), at_millis: None }).collect()
}

impl Run {
    /// Waits until a queue holds nothing back, or went.
    pub(super) fn await_due(&mut self, queue: QueueNumber) -> Result<(), Finding> {
        let mut last = None;
        for _ in 0..ROUNDS_MAX {
            match self.listing(queue)? {
                Some(listing) if listing.counts.held_back > 0 => {
                    last = Some((listing.counts, listing.fault));
                    // Its clock may have gone back since it was told until when.
                    self.world.workers.advance(ROUND_MS);
                    self.world.round(&mut self.random);
                }
                Some(_) | None => return Ok(()),
            }
            self.listen()?;
        }
        let name = self.books.queues[queue].name;
        Err(format!(
            "queue '{name}' holds messages back for ever: {last:?} at {}",
            self.world.workers.now().0
        ))
    }
}

impl Books {
    /// A message is delivered, or shown as one that waits: its time has come.
    pub(super) fn check_due(&self, queue: QueueNumber, id: MessageId) -> Result<(), Finding> {
        let Some((message, delay)) = self.messages.get(id as usize).zip(delay_of(id)) else { return Ok(()) };
        match self.latest_ms < message.sent_ms + delay {
            true => Err(format!(
                "message {id} of queue '{}' was sent at {} for {delay} ms later, and is there at {}",
                self.queues[queue].name, message.sent_ms, self.latest_ms
            )),
            false => Ok(()),
        }
    }
}
