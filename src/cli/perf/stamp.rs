//! What the first 16 bytes of every message say: which run, which stream, which number in it, and when.
//!
//! ```text
//!  8 bytes, little endian    check 8 bits · stream 16 bits · sequence 40 bits
//!  8 bytes, little endian    run 16 bits · time 48 bits
//! ```
//!
//! The check tells messages of this tool from others. The time is in nanoseconds, cut to 48 bits: that is enough for
//! ages of up to 39 hours.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Bytes of a stamp: the smallest message.
pub(super) const STAMP_BYTES: usize = 16;

/// Most messages in a stream: what 40 bits can count.
pub(super) const SEQUENCE_MAX: u64 = (1 << 40) - 1;

const TIME_MASK: u64 = (1 << 48) - 1;

/// Ages beyond are taken for times to come: the clocks of two machines differ.
const AGE_NS_MAX: u64 = 1 << 47;

/// A message's identity and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) stream: StreamId,
    /// Counted from 1 within its stream; [`SEQUENCE_MAX`] at most.
    pub(super) sequence: u64,
    /// When it was sent or, in a paced run, due: nanoseconds, 48 bits.
    time: u64,
}

/// Messages of one run that one producer sends to the same queues, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct StreamId {
    /// Chosen at random for each run.
    pub(super) run: u16,
    pub(super) number: u16,
}

impl Stamp {
    pub(super) fn new(stream: StreamId, sequence: u64, at_ns: u64) -> Self {
        debug_assert!(sequence <= SEQUENCE_MAX);
        Self { stream, sequence, time: at_ns & TIME_MASK }
    }

    #[inline]
    pub(super) fn write(self, body: &mut [u8; STAMP_BYTES]) {
        let identity = u64::from(self.stream.number) << 40 | self.sequence;
        let moment = u64::from(self.stream.run) << 48 | self.time;
        let first = check(identity, moment) << 56 | identity;
        body[..8].copy_from_slice(&first.to_le_bytes());
        body[8..].copy_from_slice(&moment.to_le_bytes());
    }

    /// `None`: this tool did not write the message.
    #[inline]
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (first, rest) = body.split_first_chunk::<8>()?;
        let (moment, _) = rest.split_first_chunk::<8>()?;
        let (first, moment) = (u64::from_le_bytes(*first), u64::from_le_bytes(*moment));
        let identity = first & (u64::MAX >> 8);
        if first >> 56 != check(identity, moment) {
            return None;
        }
        let stream = StreamId { run: (moment >> 48) as u16, number: (identity >> 40) as u16 };
        Some(Self { stream, sequence: identity & SEQUENCE_MAX, time: moment & TIME_MASK })
    }

    /// Nanoseconds from its time to `now_ns`; `None` if it comes from the future.
    #[inline]
    pub(super) fn age_ns(self, now_ns: u64) -> Option<u64> {
        let age = now_ns.wrapping_sub(self.time) & TIME_MASK;
        (age < AGE_NS_MAX).then_some(age)
    }
}

#[inline]
fn check(identity: u64, moment: u64) -> u64 {
    (identity ^ moment.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56
}

/// Nanoseconds since 1970, by a clock that never steps: so that times can be compared within a process exactly, and
/// between processes as far as their clocks agree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    started_ns: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_ns: since_1970.as_nanos() as u64 }
    }

    #[inline]
    pub(super) fn now_ns(self) -> u64 {
        self.started_ns + self.started.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stamp_is_read_as_it_was_written(
            (run, number) in any::<(u16, u16)>(),
            sequence in 0..=SEQUENCE_MAX,
            at_ns in any::<u64>(),
            age in 0..AGE_NS_MAX,
            more in 0usize..40,
        ) {
            let stamp = Stamp::new(StreamId { run, number }, sequence, at_ns);
            let mut bytes = [0; STAMP_BYTES];
            stamp.write(&mut bytes);
            let mut body = bytes.to_vec();
            body.resize(STAMP_BYTES + more, b'x');
            prop_assert_eq!(Stamp::read(&body), Some(stamp));
            prop_assert_eq!(stamp.age_ns(at_ns.wrapping_add(age)), Some(age));
            prop_assert_eq!(Stamp::read(&bytes[..STAMP_BYTES - 1]), None);
        }
    }

    #[test]
    fn a_time_to_come_has_no_age() {
        let stamp = Stamp::new(StreamId { run: 1, number: 2 }, 3, 1_000_000);
        assert_eq!(stamp.age_ns(999_999), None);
        assert_eq!(stamp.age_ns(1_000_000), Some(0));
    }

    #[test]
    fn messages_of_others_are_told_apart() {
        assert_eq!(Stamp::read(b"any other message of 16 bytes or more"), None);
        assert_eq!(Stamp::read(b""), None);
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let clock = Clock::start();
        let first = clock.now_ns();
        assert!(clock.now_ns() >= first);
    }
}
