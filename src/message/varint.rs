//! Writing varints and what surrounds a few bytes.

use bytes::{BufMut, BytesMut};

/// Bytes a varint takes: 1 to 10.
#[inline]
pub(crate) const fn varint_len(value: u64) -> usize {
    // One byte for each 7 bits begun; 9/64 stands in for 1/7.
    ((63 - (value | 1).leading_zeros() as usize) * 9 + 73) / 64
}

/// Appends a varint.
#[inline]
pub(crate) fn put_varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A few keys and lengths that are appended in one go, which costs one check for room instead of one a byte.
pub(crate) struct Scratch {
    bytes: [u8; Self::BYTES],
    len: usize,
}

impl Scratch {
    /// Room for a key and a length of an item, its message and one field.
    const BYTES: usize = 3 * (1 + 10);

    #[inline]
    pub(crate) fn new() -> Self {
        Self { bytes: [0; Self::BYTES], len: 0 }
    }

    /// Adds a key of one byte and a length; three of them at most.
    #[inline]
    pub(crate) fn put(&mut self, key: u8, length: usize) {
        self.push(key);
        let mut value = length;
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
