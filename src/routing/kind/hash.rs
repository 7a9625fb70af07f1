//! Hashes by which messages are spread: the same on every machine, in every version and after every restart, since a
//! key's queue depends on them.
//!
//! FNV-1a over the bytes, then the finaliser of SplitMix64, which spreads into all bits what FNV leaves in some.

use crate::model::{FieldTable, FieldValue};
use crate::routing::values::canonical;

/// What a header counts as that a message does not have.
const ABSENT: u8 = 255;

/// The hash of a routing key or a name.
pub(in crate::routing) fn hash_text(text: &str) -> u64 {
    let mut fnv = Fnv::new();
    fnv.feed(text.as_bytes());
    mix(fnv.0)
}

/// The hash of a property: a text counts as a routing key does, and what matches the same has the same hash.
pub(super) fn hash_value(value: Option<&FieldValue>) -> u64 {
    let mut fnv = Fnv::new();
    match value {
        None => fnv.feed(&[ABSENT]),
        Some(FieldValue::Text(text)) => fnv.feed(text.as_bytes()),
        Some(FieldValue::Bytes(bytes)) => fnv.feed(bytes),
        Some(value) => fnv.feed_value(value),
    }
    mix(fnv.0)
}

/// The hash of two hashes; their order counts.
pub(super) fn hash_pair(first: u64, second: u64) -> u64 {
    mix(mix(first).wrapping_add(second))
}

/// A number below `end`, each as likely as the others if all hashes are; 0 if `end` is.
pub(super) fn below(hash: u64, end: usize) -> usize {
    ((u128::from(hash) * end as u128) >> 64) as usize
}

/// Another number for each number, without a pattern.
pub(in crate::routing) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn feed_number(&mut self, number: u64) {
        self.feed(&number.to_le_bytes());
    }

    fn feed_bytes(&mut self, bytes: &[u8]) {
        self.feed_number(bytes.len() as u64);
        self.feed(bytes);
    }

    /// The kind of a value first, so that values of different kinds differ.
    fn feed_value(&mut self, value: &FieldValue) {
        match value {
            FieldValue::Void => self.feed(&[0]),
            FieldValue::Boolean(boolean) => self.feed(&[1, u8::from(*boolean)]),
            FieldValue::Integer(integer) => self.feed_integer(i128::from(*integer)),
            FieldValue::Unsigned(integer) => self.feed_integer(i128::from(*integer)),
            FieldValue::Double(double) => {
                self.feed(&[3]);
                self.feed_number(canonical(*double).to_bits());
            }
            FieldValue::Text(text) => {
                self.feed(&[4]);
                self.feed_bytes(text.as_bytes());
            }
            FieldValue::Bytes(bytes) => {
                self.feed(&[4]);
                self.feed_bytes(bytes);
            }
            FieldValue::TimestampSeconds(seconds) => {
                self.feed(&[5]);
                self.feed(&seconds.to_le_bytes());
            }
            FieldValue::Table(table) => {
                self.feed(&[6]);
                self.feed_table(table);
            }
            FieldValue::List(values) => {
                self.feed(&[7]);
                self.feed_number(values.len() as u64);
                values.iter().for_each(|value| self.feed_value(value));
            }
            FieldValue::Decimal { scale, value } => {
                self.feed(&[8]);
                self.feed(&scale.to_le_bytes());
                self.feed(&value.to_le_bytes());
            }
        }
    }

    fn feed_integer(&mut self, integer: i128) {
        self.feed(&[2]);
        self.feed(&integer.to_le_bytes());
    }

    fn feed_table(&mut self, table: &FieldTable) {
        self.feed_number(table.0.len() as u64);
        for (name, value) in table.iter() {
            self.feed_bytes(name.as_bytes());
            self.feed_value(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_their_authors() {
        let fnv = |text: &str| {
            let mut fnv = Fnv::new();
            fnv.feed(text.as_bytes());
            fnv.0
        };
        assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv("foobar"), 0x8594_4171_f739_67e8);
        // The first number of SplitMix64 with the seed 0.
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn equal_values_have_one_hash_and_others_have_others() {
        let same = [
            (FieldValue::Integer(5), FieldValue::Unsigned(5)),
            (FieldValue::from("a"), FieldValue::Bytes(b"a".to_vec())),
            (FieldValue::Double(0.0), FieldValue::Double(-0.0)),
        ];
        for (left, right) in same {
            assert_eq!(hash_value(Some(&left)), hash_value(Some(&right)));
        }
        assert_eq!(hash_value(Some(&FieldValue::from("a"))), hash_text("a"));
        let different = [
            FieldValue::Void,
            FieldValue::from(true),
            FieldValue::Integer(5),
            FieldValue::Integer(-5),
            FieldValue::Double(5.0),
            FieldValue::from("5"),
            FieldValue::TimestampSeconds(5),
            FieldValue::Table(FieldTable::from([("a", FieldValue::from(1))])),
            FieldValue::Table(FieldTable::from([("b", FieldValue::from(1))])),
            FieldValue::List(vec![FieldValue::from("ab"), FieldValue::from("c")]),
            FieldValue::List(vec![FieldValue::from("a"), FieldValue::from("bc")]),
            FieldValue::Decimal { scale: 1, value: 5 },
        ];
        let mut hashes: Vec<u64> = different.iter().map(|value| hash_value(Some(value))).collect();
        hashes.push(hash_value(None));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), different.len() + 1);
    }

    #[test]
    fn a_number_below_an_end_is_below_it() {
        assert_eq!([below(0, 3), below(u64::MAX, 3), below(u64::MAX, 1), below(7, 0)], [0, 2, 0, 0]);
    }
}
