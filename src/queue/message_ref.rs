//! A message as a queue holds it: 8 bytes.

use super::fault::QueueFault;
use crate::model::BodySequence;

/// Highest body sequence a reference can name: 48 bits, or 89 years at 100,000 messages a second.
pub const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;

const SEQUENCE_BITS: u32 = 48;
const SIZE_MASK: u64 = 0x7fff;
const DEAD: u64 = 1 << 63;
/// Sizes below this are exact, larger ones are kept in steps of the same number of bytes.
pub(super) const EXACT_BELOW: u32 = 1 << 14;

/// Body sequence (48 bits), size class (15 bits) and a mark for messages that have left (1 bit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MessageRef(u64);

impl MessageRef {
    /// A reference, and how much longer the message is than [`size_bytes`](Self::size_bytes) says.
    pub(super) fn with_remainder(sequence: BodySequence, size_bytes: u32) -> (Self, u16) {
        let remainder = if size_bytes < EXACT_BELOW { 0 } else { size_bytes % EXACT_BELOW };
        (Self::new(sequence, size_bytes), remainder as u16)
    }

    /// `size_bytes` is less than 256 MiB, which is more than a batch may have.
    pub(super) fn new(sequence: BodySequence, size_bytes: u32) -> Self {
        assert!(sequence.0 <= SEQUENCE_MAX, "a shard never takes more than 2^48 bodies");
        let class = if size_bytes < EXACT_BELOW {
            size_bytes
        } else {
            EXACT_BELOW | (size_bytes >> 14).min(EXACT_BELOW - 1)
        };
        Self(sequence.0 | u64::from(class) << SEQUENCE_BITS)
    }

    /// What [`class`](Self::class) said of a live reference with this sequence.
    pub(super) fn of_class(sequence: u64, class: u64) -> Result<Self, QueueFault> {
        if sequence > SEQUENCE_MAX || class > SIZE_MASK {
            return Err(QueueFault::NoSuchMessage { sequence, class });
        }
        Ok(Self(sequence | class << SEQUENCE_BITS))
    }

    /// The size class.
    pub(super) fn class(self) -> u64 {
        self.0 >> SEQUENCE_BITS & SIZE_MASK
    }

    /// Whether it is the message right behind a live one, of the same size class.
    pub(super) fn follows(self, other: Self) -> bool {
        self.0 == other.0 + 1
    }

    pub(super) fn sequence(self) -> u64 {
        self.0 & SEQUENCE_MAX
    }

    /// Exact below 16 KiB, rounded down to 16 KiB above: what a consumer's window is charged. The same reference always
    /// gives the same number, so sums return to zero.
    pub(super) fn size_bytes(self) -> u64 {
        let class = self.class() as u32;
        if class < EXACT_BELOW { u64::from(class) } else { u64::from(class - EXACT_BELOW) << 14 }
    }

    pub(super) fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }

    pub(super) fn dead(self) -> Self {
        Self(self.0 | DEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_survives_packing() {
        let size = |bytes| MessageRef::new(BodySequence(SEQUENCE_MAX), bytes).size_bytes();
        assert_eq!([size(0), size(1), size(16_383)], [0, 1, 16_383]);
        assert_eq!([size(16_384), size(20_000), size(32_768)], [16_384, 16_384, 32_768]);
        assert_eq!(size(u32::MAX), 16_383 << 14);
    }

    #[test]
    fn a_size_is_what_the_reference_says_and_the_remainder() {
        for size in [0, 1, 16_383, 16_384, 16_385, 20_000, 32_767, 32_768, 40_001, (1 << 28) - 1] {
            let (message, remainder) = MessageRef::with_remainder(BodySequence(1), size);
            assert_eq!(message.size_bytes() + u64::from(remainder), u64::from(size));
        }
    }

    #[test]
    fn sequence_is_untouched_by_size_and_death() {
        let message = MessageRef::new(BodySequence(SEQUENCE_MAX - 5), u32::MAX);
        assert_eq!(message.sequence(), SEQUENCE_MAX - 5);
        assert_eq!(message.dead().sequence(), SEQUENCE_MAX - 5);
        assert!(message.dead().is_dead() && !message.is_dead());
    }
}
