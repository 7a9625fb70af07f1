//! Reading protobuf's building blocks out of a byte slice: varints, keys, lengths; skipping what is not known.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

use std::ops::Range;

use super::fault::ItemFault;

/// Deepest nesting of unknown groups that is skipped. Decoders commonly stop at 100 levels in all; our own messages
/// take up to 60 of them.
const GROUP_DEPTH_MAX: usize = 16;

/// Longest varint in bytes.
const VARINT_BYTES_MAX: usize = 10;

pub(crate) const VARINT: u32 = 0;
pub(crate) const FIXED64: u32 = 1;
pub(crate) const LENGTH: u32 = 2;
const GROUP_START: u32 = 3;
const GROUP_END: u32 = 4;
pub(crate) const FIXED32: u32 = 5;

/// The key of a field: its number and wire type.
pub(crate) const fn key(number: u32, wire_type: u32) -> u32 {
    number << 3 | wire_type
}

/// A place where bytes stop being protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) what: &'static str,
    pub(crate) offset: usize,
}

impl From<Broken> for ItemFault {
    fn from(broken: Broken) -> Self {
        Self::Malformed { what: broken.what, offset: broken.offset }
    }
}

/// A reading position in bytes. Offsets stay those of the whole slice, so that they can be used to slice the frame.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    /// Ends where the message being read ends.
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// A reader of one range of `bytes`; its positions are those in `bytes`.
    #[inline]
    pub(crate) fn within(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes: &bytes[..range.end], position: range.start }
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.position >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Where the message being read ends.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the next byte is `expected`.
    #[inline]
    pub(crate) fn is_at(&self, expected: u8) -> bool {
        self.bytes.get(self.position) == Some(&expected)
    }

    /// Goes to a position further on, as found by another reading of the same bytes.
    #[inline]
    pub(crate) fn advance_to(&mut self, position: usize) {
        debug_assert!((self.position..=self.bytes.len()).contains(&position));
        self.position = position;
    }

    /// Takes the next byte if it is `expected`.
    #[inline]
    pub(crate) fn take(&mut self, expected: u8) -> bool {
        let is_there = self.is_at(expected);
        self.position += usize::from(is_there);
        is_there
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Broken> {
        match self.bytes.get(self.position) {
            Some(&byte) if byte < 0x80 => {
                self.position += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0u64;
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        for (index, &byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte holds the one bit that is left of 64.
                if index == VARINT_BYTES_MAX - 1 && byte > 1 {
                    return Err(self.broken("a number of more than 64 bits"));
                }
                self.position += index + 1;
                return Ok(value);
            }
        }
        Err(self.broken("a number that does not end"))
    }

    /// The next field's key; its field number is never 0.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<u32, Broken> {
        let start = self.position;
        let key = self.varint()?;
        match u32::try_from(key) {
            Ok(key) if key >= 8 => Ok(key),
            _ => Err(Broken { what: "a field number out of range", offset: start }),
        }
    }

    /// The range of a length-delimited value, which is stepped over.
    #[inline]
    pub(crate) fn range(&mut self) -> Result<Range<usize>, Broken> {
        let length = self.varint()?;
        let left = self.bytes.len() - self.position;
        if length > left as u64 {
            return Err(self.broken("a length beyond the end"));
        }
        let start = self.position;
        self.position += length as usize;
        Ok(start..self.position)
    }

    /// Steps over the value of a field whose key was just read.
    pub(crate) fn skip(&mut self, key: u32) -> Result<(), Broken> {
        self.skip_nested(key, 0)
    }

    fn skip_nested(&mut self, key: u32, depth: usize) -> Result<(), Broken> {
        match key & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed(8),
            LENGTH => self.range().map(drop),
            FIXED32 => self.fixed(4),
            GROUP_START if depth < GROUP_DEPTH_MAX => loop {
                let inner = self.key()?;
                if inner & 7 == GROUP_END {
                    return if inner >> 3 == key >> 3 {
                        Ok(())
                    } else {
                        Err(self.broken("a group that ends with another's number"))
                    };
                }
                self.skip_nested(inner, depth + 1)?;
            },
            GROUP_START => Err(self.broken("groups nested too deep")),
            GROUP_END => Err(self.broken("the end of a group that did not begin")),
            _ => Err(self.broken("an unknown wire type")),
        }
    }

    fn fixed(&mut self, bytes: usize) -> Result<(), Broken> {
        if self.bytes.len() - self.position < bytes {
            return Err(self.broken("a number that does not end"));
        }
        self.position += bytes;
        Ok(())
    }

    /// The error that something is wrong at the present position.
    #[cold]
    pub(crate) fn broken(&self, what: &'static str) -> Broken {
        Broken { what, offset: self.position }
    }
}
