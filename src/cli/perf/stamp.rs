//! What is in a message: who sent it, as which of its messages, when.

/// Bytes of a stamp, which is the beginning of a body: a message cannot be smaller.
pub(super) const STAMP_BYTES: usize = 16;

/// Highest sequence that fits.
pub(super) const SEQUENCE_MAX: u64 = (1 << 40) - 1;

/// First byte of all stamps.
const MARK: u8 = 0xa7;

/// The beginning of a body: mark, stream (2 bytes), sequence (5), microseconds on the run's clock (8), big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// A producer's messages to one queue.
    pub(super) stream: u16,
    /// Counts from 1.
    pub(super) sequence: u64,
    /// When it was sent, or with a rate should have been.
    pub(super) sent_us: u64,
}

impl Stamp {
    /// Writes the stamp over the first bytes of a body.
    pub(super) fn write(self, body: &mut [u8]) {
        let place = (u64::from(MARK) << 56) | (u64::from(self.stream) << 40) | (self.sequence & SEQUENCE_MAX);
        body[..8].copy_from_slice(&place.to_be_bytes());
        body[8..STAMP_BYTES].copy_from_slice(&self.sent_us.to_be_bytes());
    }

    /// Reads the stamp of a body; `None` if it has none.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (place, rest) = body.split_first_chunk::<8>()?;
        let sent_us = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        if place[0] != MARK {
            return None;
        }
        let place = u64::from_be_bytes(*place);
        Some(Self { stream: (place >> 40) as u16, sequence: place & SEQUENCE_MAX, sent_us })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let mut body = [0x55; 20];
        for stamp in [
            Stamp { stream: 0, sequence: 1, sent_us: 0 },
            Stamp { stream: u16::MAX, sequence: SEQUENCE_MAX, sent_us: u64::MAX },
        ] {
            stamp.write(&mut body);
            assert_eq!(Stamp::read(&body), Some(stamp));
            assert_eq!(body[STAMP_BYTES..], [0x55; 4]);
        }
    }

    #[test]
    fn other_bodies_have_none() {
        assert_eq!(Stamp::read(b"hello"), None);
        assert_eq!(Stamp::read(&[0; 16]), None);
        assert_eq!(Stamp::read(&[MARK; 15]), None);
    }
}
