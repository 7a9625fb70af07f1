//! When two field values are the same, and how they read in a sentence.
//!
//! Values are compared, never converted: an integer is no text and no floating point number. As in RabbitMQ, how a
//! value was stored does not matter: signed and unsigned integers are equal by number, text and bytes by their bytes.
//! The same order serves the matching of headers and the identity of bindings.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;

use crate::model::{FieldTable, FieldValue};

/// Longest text shown in a sentence, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// A total order over values; equal means the same to every matching.
pub(super) fn compare(left: &FieldValue, right: &FieldValue) -> Ordering {
    match (left, right) {
        (FieldValue::Boolean(left), FieldValue::Boolean(right)) => left.cmp(right),
        (FieldValue::Double(left), FieldValue::Double(right)) => {
            canonical(*left).total_cmp(&canonical(*right))
        }
        (FieldValue::TimestampSeconds(left), FieldValue::TimestampSeconds(right)) => left.cmp(right),
        (FieldValue::Table(left), FieldValue::Table(right)) => compare_tables(left, right),
        (FieldValue::List(left), FieldValue::List(right)) => {
            for (left, right) in left.iter().zip(right) {
                let order = compare(left, right);
                if order.is_ne() {
                    return order;
                }
            }
            left.len().cmp(&right.len())
        }
        (
            FieldValue::Decimal { scale, value },
            FieldValue::Decimal { scale: other_scale, value: other_value },
        ) => scale.cmp(other_scale).then(value.cmp(other_value)),
        _ => match (integer(left).zip(integer(right)), bytes(left).zip(bytes(right))) {
            (Some((left, right)), _) => left.cmp(&right),
            (_, Some((left, right))) => left.cmp(right),
            _ => rank(left).cmp(&rank(right)),
        },
    }
}

/// A total order over tables: by the names and values of their fields in turn.
pub(super) fn compare_tables(left: &FieldTable, right: &FieldTable) -> Ordering {
    for ((name, value), (other_name, other_value)) in left.iter().zip(right.iter()) {
        let order = name.cmp(other_name).then_with(|| compare(value, other_value));
        if order.is_ne() {
            return order;
        }
    }
    left.0.len().cmp(&right.0.len())
}

/// A number that is equal for equal tables. It may change from one version of the broker to the next.
pub(super) fn fingerprint(table: &FieldTable) -> u64 {
    let mut hasher = FixedState::with_seed(1).build_hasher();
    hash_table(table, &mut hasher);
    hasher.finish()
}

/// A number that is equal for equal fields; a field without a value stands for its presence.
pub(super) fn hash_field(name: &str, value: Option<&FieldValue>) -> u64 {
    let mut hasher = FixedState::with_seed(2).build_hasher();
    name.hash(&mut hasher);
    match value {
        Some(value) => hash_value(value, &mut hasher),
        None => u8::MAX.hash(&mut hasher),
    }
    hasher.finish()
}

fn hash_table(table: &FieldTable, hasher: &mut impl Hasher) {
    table.0.len().hash(hasher);
    for (name, value) in table.iter() {
        name.hash(hasher);
        hash_value(value, hasher);
    }
}

fn hash_value(value: &FieldValue, hasher: &mut impl Hasher) {
    rank(value).hash(hasher);
    match value {
        FieldValue::Void => {}
        FieldValue::Boolean(boolean) => boolean.hash(hasher),
        FieldValue::Integer(_) | FieldValue::Unsigned(_) => integer(value).hash(hasher),
        FieldValue::Double(double) => canonical(*double).to_bits().hash(hasher),
        FieldValue::Text(_) | FieldValue::Bytes(_) => bytes(value).hash(hasher),
        FieldValue::TimestampSeconds(seconds) => seconds.hash(hasher),
        FieldValue::Table(table) => hash_table(table, hasher),
        FieldValue::List(values) => {
            values.len().hash(hasher);
            values.iter().for_each(|value| hash_value(value, hasher));
        }
        FieldValue::Decimal { scale, value } => (scale, value).hash(hasher),
    }
}

/// Values of different rank are never equal.
fn rank(value: &FieldValue) -> u8 {
    match value {
        FieldValue::Void => 0,
        FieldValue::Boolean(_) => 1,
        FieldValue::Integer(_) | FieldValue::Unsigned(_) => 2,
        FieldValue::Double(_) => 3,
        FieldValue::Text(_) | FieldValue::Bytes(_) => 4,
        FieldValue::TimestampSeconds(_) => 5,
        FieldValue::Table(_) => 6,
        FieldValue::List(_) => 7,
        FieldValue::Decimal { .. } => 8,
    }
}

fn integer(value: &FieldValue) -> Option<i128> {
    match value {
        FieldValue::Integer(integer) => Some(i128::from(*integer)),
        FieldValue::Unsigned(integer) => Some(i128::from(*integer)),
        _ => None,
    }
}

fn bytes(value: &FieldValue) -> Option<&[u8]> {
    match value {
        FieldValue::Text(text) => Some(text.as_bytes()),
        FieldValue::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// One zero and one not-a-number, so that equal numbers are one value and a binding with any can be unbound.
pub(super) fn canonical(double: f64) -> f64 {
    if double.is_nan() {
        f64::NAN
    } else if double == 0.0 {
        0.0
    } else {
        double
    }
}

/// AMQP's name for a value's type, as RabbitMQ's messages use it.
pub(super) fn type_name(value: &FieldValue) -> &'static str {
    match value {
        FieldValue::Void => "void",
        FieldValue::Boolean(_) => "bool",
        FieldValue::Integer(_) | FieldValue::Unsigned(_) => "long",
        FieldValue::Double(_) => "double",
        FieldValue::Text(_) => "longstr",
        FieldValue::Bytes(_) => "binary",
        FieldValue::TimestampSeconds(_) => "timestamp",
        FieldValue::Table(_) => "table",
        FieldValue::List(_) => "array",
        FieldValue::Decimal { .. } => "decimal",
    }
}

/// A value as RabbitMQ's messages show it, beside its type.
pub(super) fn plain(value: &FieldValue) -> String {
    match value {
        FieldValue::Text(text) => ShownText(text).to_string(),
        FieldValue::Integer(integer) => integer.to_string(),
        FieldValue::Unsigned(integer) => integer.to_string(),
        FieldValue::Double(double) => format!("{double:?}"),
        other => Shown(other).to_string(),
    }
}

/// A value as it reads in a sentence: short, and clear about its type.
pub(super) struct Shown<'a>(pub(super) &'a FieldValue);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FieldValue::Void => f.write_str("void"),
            FieldValue::Boolean(boolean) => write!(f, "{boolean}"),
            FieldValue::Integer(integer) => write!(f, "the integer {integer}"),
            FieldValue::Unsigned(integer) => write!(f, "the integer {integer}"),
            FieldValue::Double(double) => write!(f, "the floating point number {double:?}"),
            FieldValue::Text(text) => write!(f, "`{}`", ShownText(text)),
            FieldValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => write!(f, "the bytes `{}`", ShownText(text)),
                Err(_) => write!(f, "{} bytes", bytes.len()),
            },
            FieldValue::TimestampSeconds(seconds) => write!(f, "the timestamp {seconds}"),
            FieldValue::Table(table) => write!(f, "a table of {} fields", table.0.len()),
            FieldValue::List(values) => write!(f, "a list of {} values", values.len()),
            FieldValue::Decimal { scale, value } => write!(f, "the decimal {value}e-{scale}"),
        }
    }
}

/// Text in a sentence, cut if it is long.
pub(super) struct ShownText<'a>(pub(super) &'a str);

impl fmt::Display for ShownText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}
