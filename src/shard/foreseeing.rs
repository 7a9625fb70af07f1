//! What queues would do with a message that came now. Nothing changes.

use super::command::{Foreseen, WouldBe};
use super::delays::due_at;
use super::shard::Shard;
use crate::model::{QueueId, Refusal};
use crate::queue::Candidate;

impl Shard {
    /// What each of these queues would do with such a message, those left out that are not there.
    ///
    /// # Errors
    /// Why the shard takes no message.
    pub(super) fn foresee(
        &mut self,
        queues: &[QueueId],
        message: &WouldBe,
    ) -> Result<Vec<Foreseen>, Box<Refusal>> {
        if let Some(refusal) = self.takes_no(message.size_bytes as usize) {
            return Err(Box::new(refusal));
        }
        let held_until = due_at(&message.delay, self.now);
        let candidate = Candidate {
            size_bytes: message.size_bytes,
            priority: message.priority,
            expires_after_millis: message.expiration_ms,
            for_later: held_until.is_some(),
        };
        let of_each = queues.iter().filter_map(|queue| self.foresee_in(*queue, candidate));
        Ok(of_each.map(|foreseen| Foreseen { held_until, ..foreseen }).collect())
    }

    fn foresee_in(&mut self, id: QueueId, candidate: Candidate) -> Option<Foreseen> {
        let slot = self.queues.get_mut(&id)?;
        let hands_out = slot.attached.halted.is_none();
        let asked = slot.attached.gets.len() as u64;
        let outlook = slot.with_room_to_borrow(|queue| queue.outlook(candidate, asked, hands_out));
        let halted = self.queues.get(&id)?.attached.halted.as_ref();
        let fault = halted.map(|halt| self.why(halt).text.into());
        Some(Foreseen { queue: id, outlook, held_until: None, fault })
    }
}
