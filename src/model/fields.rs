//! Typed values in headers and arguments.

use std::collections::BTreeMap;

/// Named, typed values: AMQP's field table, ordered by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldTable(pub BTreeMap<String, FieldValue>);

impl FieldTable {
    /// The value of a field.
    pub fn value(&self, name: &str) -> Option<&FieldValue> {
        self.0.get(name)
    }

    /// The value of a field if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(FieldValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The same fields without the one of this name.
    pub fn without(&self, name: &str) -> Self {
        let mut others = self.clone();
        others.0.remove(name);
        others
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All fields in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<const N: usize> From<[(&str, FieldValue); N]> for FieldTable {
    fn from(fields: [(&str, FieldValue); N]) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// One typed value. Equality is strict: an integer never equals a text or a double.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// AMQP's void: present, without a value.
    Void,
    /// True or false.
    Boolean(bool),
    /// Any of AMQP's integers, widened.
    Integer(i64),
    /// An unsigned integer beyond the signed range.
    Unsigned(u64),
    /// Any of AMQP's floating point numbers, widened.
    Double(f64),
    /// Text.
    Text(String),
    /// Bytes that need not be text.
    Bytes(Vec<u8>),
    /// Seconds since 1970-01-01T00:00:00Z.
    TimestampSeconds(i64),
    /// A nested table.
    Table(FieldTable),
    /// A nested list.
    List(Vec<FieldValue>),
    /// `value` times ten to the power of minus `scale`.
    Decimal {
        /// Digits after the point.
        scale: u32,
        /// All digits.
        value: i64,
    },
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for FieldValue {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<bool> for FieldValue {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}
