//! Writing varints.

use bytes::{BufMut, BytesMut};

/// Bytes a varint takes: 1 to 10.
#[inline]
pub(super) const fn varint_len(value: u64) -> usize {
    // One byte for each 7 bits begun; 9/64 stands in for 1/7.
    ((63 - (value | 1).leading_zeros() as usize) * 9 + 73) / 64
}

/// Appends a varint.
#[inline]
pub(super) fn put_varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
