//! A queue as a checkpoint holds it: what it would be after a crash.
//!
//! ```text
//! queue = delivery mark, messages, how often which of them came back; if it retains any, those that it does; if it has a place
//!         for dead letters, reasons n, n x (reason as in the log, messages); if it knows priorities, priorities n,
//!         n x (priority, the highest first, in a byte, messages): those above are without one
//! ```

use prost::encoding::encode_varint;

use super::fault::{QueueFault, number};
use super::kept::KeptMessages;
use super::lines::Lines;
use super::queue::{Queue, QueueOptions};

impl Queue {
    /// Writes what the queue holds. What its consumers have is theirs only as long as they live, so it is waiting there.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_varint(self.mark, out);
        self.lines.encode_plain(out);
        let mut counts: Vec<(u64, u32)> =
            self.delivery_counts.iter().map(|(sequence, count)| (*sequence, *count)).collect();
        counts.sort_unstable();
        encode_varint(counts.len() as u64, out);
        let mut before = 0;
        for (sequence, count) in counts {
            encode_varint(sequence - before, out);
            encode_varint(count.into(), out);
            before = sequence;
        }
        if self.options.retention.is_some() {
            self.retained.encode(out);
        }
        self.encode_dead_letters(out);
        if self.options.max_priority.is_some() {
            self.lines.encode_higher(out);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, and gives the sequence of each message to `check`: first those that it has,
    /// then those that it retains, then its dead letters by reason, then those that it has of higher priorities, each lowest first.
    ///
    /// # Errors
    /// Why this is no queue.
    pub fn decode(
        options: QueueOptions,
        rest: &mut &[u8],
        mut check: impl FnMut(u64),
    ) -> Result<Self, QueueFault> {
        let mut queue = Self::new(options);
        queue.mark = number(rest)?;
        queue.lines = Lines::decode_plain(rest, &mut check)?;
        let mut sequence = 0u64;
        for _ in 0..number(rest)? {
            let next = sequence.checked_add(number(rest)?);
            sequence = next.ok_or(QueueFault::SequenceTooHigh)?;
            let count = number(rest)?;
            let count = u32::try_from(count).map_err(|_| QueueFault::CountTooHigh { count })?;
            queue.delivery_counts.insert(sequence, count);
        }
        if options.retention.is_some() {
            queue.retained = KeptMessages::decode(rest, &mut check)?;
        }
        queue.decode_dead_letters(rest, &mut check)?;
        if options.max_priority.is_some() {
            queue.lines.decode_higher(rest, check)?;
        }
        Ok(queue)
    }
}
