//! What a binding is, its identity and its place in listings.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::model::{ExchangeName, FieldTable, QueueName, RoutingKey};

use super::values;

/// What a binding leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(QueueName),
    /// Another exchange.
    Exchange(ExchangeName),
}

impl Destination {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) => name,
            Self::Exchange(name) => name,
        }
    }
}

/// A binding. Source, destination, key and arguments together are its identity; arguments are equal if they hold the
/// same values, however those are stored (an integer signed or unsigned, a text as text or bytes).
#[derive(Debug, Clone)]
pub struct Binding {
    /// Name of the exchange it belongs to.
    pub source: ExchangeName,
    /// Where it leads.
    pub destination: Destination,
    /// Its key; what it means depends on the source's kind.
    pub key: RoutingKey,
    /// For headers exchanges what to match; kept, and part of the identity, for all others.
    pub arguments: FieldTable,
}

impl Binding {
    /// Its place in the order of listings.
    pub fn position(&self) -> BindingPosition {
        BindingPosition {
            source: self.source.clone(),
            destination: self.destination.clone(),
            key: self.key.clone(),
            arguments: self.arguments_fingerprint(),
        }
    }

    /// A number that tells bindings apart which differ in their arguments only.
    fn arguments_fingerprint(&self) -> u64 {
        values::fingerprint(&self.arguments)
    }

    /// The order of listings, and of identity: source, queues before exchanges, destination, key, arguments.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        self.source
            .cmp(&other.source)
            .then_with(|| self.destination.cmp(&other.destination))
            .then_with(|| self.compare_below_destination(other))
    }

    /// The order among bindings that lead to one destination: source, key, arguments.
    pub(super) fn compare_by_destination(&self, other: &Self) -> Ordering {
        self.destination
            .cmp(&other.destination)
            .then_with(|| self.source.cmp(&other.source))
            .then_with(|| self.compare_below_destination(other))
    }

    fn compare_below_destination(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| {
            if self.arguments.is_empty() && other.arguments.is_empty() {
                return Ordering::Equal;
            }
            self.arguments_fingerprint()
                .cmp(&other.arguments_fingerprint())
                .then_with(|| values::compare_tables(&self.arguments, &other.arguments))
        })
    }
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other).is_eq()
    }
}

impl Eq for Binding {}

/// A place in the order of bindings (source, queues before exchanges, destination, key, arguments), for reading
/// them page by page.
///
/// Its text form serves as a page token: `q` or `e` for the kind of destination, then source, destination and key,
/// each as its length in bytes, a colon and itself, then 16 hexadecimal digits for the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingPosition {
    source: ExchangeName,
    destination: Destination,
    key: RoutingKey,
    arguments: u64,
}

impl BindingPosition {
    /// Where a binding stands relative to this place.
    pub(super) fn place(&self, binding: &Binding) -> Ordering {
        binding
            .source
            .cmp(&self.source)
            .then_with(|| binding.destination.cmp(&self.destination))
            .then_with(|| binding.key.cmp(&self.key))
            .then_with(|| binding.arguments_fingerprint().cmp(&self.arguments))
    }
}

impl fmt::Display for BindingPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.destination {
            Destination::Queue(_) => 'q',
            Destination::Exchange(_) => 'e',
        };
        write!(f, "{kind}")?;
        for name in [&*self.source, self.destination.name(), &*self.key] {
            write!(f, "{}:{name}", name.len())?;
        }
        write!(f, "{:016x}", self.arguments)
    }
}

impl FromStr for BindingPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let kind = text.chars().next().ok_or(InvalidPosition)?;
        let mut rest = &text[kind.len_utf8()..];
        let source = ExchangeName::new(read_name(&mut rest)?).map_err(|_| InvalidPosition)?;
        let destination = read_name(&mut rest)?;
        let destination = match kind {
            'q' => Destination::Queue(QueueName::new(destination).map_err(|_| InvalidPosition)?),
            'e' => Destination::Exchange(ExchangeName::new(destination).map_err(|_| InvalidPosition)?),
            _ => return Err(InvalidPosition),
        };
        let key = RoutingKey::new(read_name(&mut rest)?).map_err(|_| InvalidPosition)?;
        if rest.len() != 16 || !rest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidPosition);
        }
        let arguments = u64::from_str_radix(rest, 16).map_err(|_| InvalidPosition)?;
        Ok(Self { source, destination, key, arguments })
    }
}

/// Takes `<length>:<name>` off the front of a position's text.
fn read_name<'a>(text: &mut &'a str) -> Result<&'a str, InvalidPosition> {
    let (length, rest) = text.split_once(':').ok_or(InvalidPosition)?;
    let length: u8 = length.parse().map_err(|_| InvalidPosition)?;
    let (name, rest) = rest.split_at_checked(usize::from(length)).ok_or(InvalidPosition)?;
    *text = rest;
    Ok(name)
}

/// The text is not one that [`BindingPosition`] ever wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPosition;

impl fmt::Display for InvalidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the page token of a list of bindings")
    }
}

impl std::error::Error for InvalidPosition {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::model::FieldValue;

    use super::*;

    fn binding(destination: Destination, arguments: FieldTable) -> Binding {
        Binding {
            source: ExchangeName::new("logs:ä").unwrap(),
            destination,
            key: RoutingKey::new("3:q.#").unwrap(),
            arguments,
        }
    }

    #[test]
    fn a_position_survives_its_text_form() {
        let queue = Destination::Queue(QueueName::new("7:7").unwrap());
        let exchange = Destination::Exchange(ExchangeName::new("").unwrap());
        for binding in [
            binding(queue.clone(), FieldTable::default()),
            binding(exchange, FieldTable::default()),
            binding(queue, FieldTable::from([("a", FieldValue::from(1))])),
        ] {
            let position = binding.position();
            assert_eq!(position.to_string().parse(), Ok(position.clone()));
            assert_eq!(position.place(&binding), Ordering::Equal);
        }
    }

    #[test]
    fn anything_else_is_no_position() {
        let good = "q1:a1:b0:0123456789abcdef";
        assert!(good.parse::<BindingPosition>().is_ok());
        for text in [
            "",
            "q",
            "ä",
            "x1:a1:b0:0123456789abcdef",
            "q1:a1:b0:0123456789abcde",
            "q1:a1:b0:0123456789abcdeff",
            "q1:a1:b0:+123456789abcdef",
            "q2:ä1:b0:0123456789abcdef0",
            "q1:ä1:b0:0123456789abcdef",
            "q300:a1:b0:0123456789abcdef",
            "q-1:a1:b0:0123456789abcdef",
            "q9:a1:b0:0123456789abcdef",
        ] {
            assert_eq!(text.parse::<BindingPosition>(), Err(InvalidPosition), "{text}");
        }
    }

    #[test]
    fn how_an_argument_is_stored_is_not_part_of_the_identity() {
        let to = || Destination::Queue(QueueName::new("q").unwrap());
        let with = |value| binding(to(), FieldTable::from([("a", value)]));
        let same = [
            (FieldValue::Integer(5), FieldValue::Unsigned(5)),
            (FieldValue::from("a"), FieldValue::Bytes(b"a".to_vec())),
            (FieldValue::Double(0.0), FieldValue::Double(-0.0)),
            (FieldValue::Double(f64::NAN), FieldValue::Double(-f64::NAN)),
        ];
        for (left, right) in same {
            assert_eq!(with(left), with(right));
        }
        let different = [
            (FieldValue::Integer(5), FieldValue::Double(5.0)),
            (FieldValue::Integer(5), FieldValue::from("5")),
            (FieldValue::Integer(-1), FieldValue::Unsigned(u64::MAX)),
            (FieldValue::Integer(5), FieldValue::TimestampSeconds(5)),
            (FieldValue::Void, FieldValue::from("")),
            (FieldValue::from(true), FieldValue::Integer(1)),
        ];
        for (left, right) in different {
            assert_ne!(with(left), with(right));
        }
    }
}
