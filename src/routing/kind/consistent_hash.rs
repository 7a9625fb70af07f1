//! Exchanges of type `x-consistent-hash`: the hash of the routing key, of a header or of a property says which destination
//! gets a message; a binding's key is its weight.
//!
//! Rendezvous hashing: for each message each destination draws a lot that depends on its name and on what is hashed, and
//! the best one gets it. So a destination that is added takes from the others what it is to have, and nothing moves between those;
//! one that is removed gives what it had to the others. Neither the order in which bindings were made nor the machine
//! counts. A lot costs a few multiplications, and each destination draws one: routes by key are remembered by publishers.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::hash::{hash_pair, hash_text, hash_value};
use crate::model::{
    Entity, FieldTable, FieldValue, HASH_HEADER, HASH_PROPERTY, NAME_BYTES_MAX, Refusal, ReplyCode,
};
use crate::routing::outcome::{HashedProperties, MessageHeaders, Routed};
use crate::routing::sorted::SortedMap;
use crate::routing::target::Target;
use crate::routing::values::{self, ShownText};
use crate::routing::{Binding, Destination};

/// Largest weight of a binding.
const WEIGHT_MAX: u32 = 1_000_000;

/// Refuses a binding whose key is no weight: 406.
pub(in crate::routing) fn check_weight(binding: &Binding) -> Result<(), Refusal> {
    let text = match binding.key.parse::<i128>() {
        Ok(weight) if (1..=i128::from(WEIGHT_MAX)).contains(&weight) => return Ok(()),
        Ok(weight) if weight < 1 => "The binding key must be greater than 0".to_owned(),
        Ok(_) => format!("The binding key must be {WEIGHT_MAX} at most"),
        Err(_) => format!("The binding key must be an integer: '{}'", ShownText(&binding.key)),
    };
    Err(Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Binding, &*binding.key)
        .field("routing_key", format!("a weight from 1 to {WEIGHT_MAX}"), ShownText(&binding.key).to_string())
        .hint("to an x-consistent-hash exchange the key of a binding is its weight: twice the weight, twice the messages"))
}

/// The weight of a binding that was checked when it was made.
fn weight(binding: &Binding) -> u64 {
    binding.key.parse::<u32>().map_or(1, |weight| u64::from(weight.clamp(1, WEIGHT_MAX)))
}

/// What is hashed of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::routing) enum Hashed {
    #[default]
    RoutingKey,
    Header(Box<str>),
    Property(Property),
}

/// A property of messages that can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::routing) enum Property {
    MessageId,
    CorrelationId,
    Timestamp,
}

const PROPERTIES: [(&str, Property); 3] = [
    ("message_id", Property::MessageId),
    ("correlation_id", Property::CorrelationId),
    ("timestamp", Property::Timestamp),
];

/// Why the arguments of an exchange do not say what is hashed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::routing) struct HashedFault {
    pub(in crate::routing) field: &'static str,
    pub(in crate::routing) text: String,
    pub(in crate::routing) expected: String,
    pub(in crate::routing) got: String,
}

impl Hashed {
    pub(in crate::routing) fn of(arguments: &FieldTable) -> Result<Self, HashedFault> {
        match (arguments.value(HASH_HEADER), arguments.value(HASH_PROPERTY)) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(FieldValue::Text(name)), None) if name.len() <= NAME_BYTES_MAX => {
                Ok(Self::Header(Box::from(name.as_str())))
            }
            (Some(value), None) => Err(HashedFault {
                field: HASH_HEADER,
                text: format!("invalid value for '{HASH_HEADER}'"),
                expected: format!("the name of a header, {NAME_BYTES_MAX} bytes at most"),
                got: match value {
                    FieldValue::Text(name) => format!("{} bytes", name.len()),
                    value => values::type_name(value).to_owned(),
                },
            }),
            (None, Some(value)) => Self::of_property(value),
            (Some(_), Some(_)) => Err(HashedFault {
                field: HASH_PROPERTY,
                text: format!("{HASH_HEADER} and {HASH_PROPERTY} are mutually exclusive"),
                expected: "absent".to_owned(),
                got: "present".to_owned(),
            }),
        }
    }

    fn of_property(value: &FieldValue) -> Result<Self, HashedFault> {
        let text = match value {
            FieldValue::Text(text) => text.as_str(),
            _ => "",
        };
        let known = PROPERTIES.iter().find(|(name, _)| *name == text);
        known.map(|(_, property)| Self::Property(*property)).ok_or_else(|| {
            let got = match value {
                FieldValue::Text(text) => ShownText(text).to_string(),
                value => values::type_name(value).to_owned(),
            };
            HashedFault {
                field: HASH_PROPERTY,
                text: format!("Unsupported property: {got}"),
                expected: "message_id, correlation_id or timestamp".to_owned(),
                got,
            }
        })
    }
}

/// What an exchange hashes, as it stands in a sentence of what is not equal.
impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoutingKey => f.write_str("the routing key"),
            Self::Header(name) => write!(f, "the header `{}`", ShownText(name)),
            Self::Property(property) => {
                let name =
                    PROPERTIES.iter().find(|(_, other)| other == property).map_or("", |(name, _)| name);
                write!(f, "the property `{name}`")
            }
        }
    }
}

impl Property {
    fn hash(self, properties: &HashedProperties) -> Option<u64> {
        match self {
            Self::MessageId => properties.message_id.as_deref().map(hash_text),
            Self::CorrelationId => properties.correlation_id.as_deref().map(hash_text),
            Self::Timestamp => properties.timestamp_ms.map(|timestamp| hash_text(&timestamp.to_string())),
        }
    }
}

#[derive(Debug, Clone)]
pub(in crate::routing) struct Index {
    hashed: Hashed,
    /// By destination: several bindings that lead to one have their weights together.
    destinations: SortedMap<Destination, Weighted>,
}

#[derive(Debug, Clone)]
struct Weighted {
    target: Target,
    name: u64,
    weight: u64,
}

impl Index {
    pub(super) fn new(arguments: &FieldTable) -> Self {
        // Arguments that make no sense are refused by check_declare.
        Self { hashed: Hashed::of(arguments).unwrap_or_default(), destinations: SortedMap::default() }
    }

    pub(super) fn insert(&mut self, binding: &Binding, target: Target) {
        let destination = &binding.destination;
        if let Some((_, weighted)) = self.destinations.find_mut(|stored| stored.cmp(destination)) {
            weighted.weight += weight(binding);
            weighted.target = target;
            return;
        }
        let weighted = Weighted { target, name: hash_of(destination), weight: weight(binding) };
        self.destinations.insert(destination.clone(), weighted);
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        let destination = &binding.destination;
        let Some((_, weighted)) = self.destinations.find_mut(|stored| stored.cmp(destination)) else {
            return;
        };
        weighted.weight = weighted.weight.saturating_sub(weight(binding));
        if weighted.weight == 0 {
            self.destinations.remove(|stored| stored.cmp(destination));
        }
    }

    pub(super) fn route(
        &self,
        key: &str,
        headers: &mut dyn MessageHeaders,
        out: &mut Routed,
    ) -> Result<(), Box<Refusal>> {
        if self.destinations.is_empty() {
            return Ok(());
        }
        let hash = match &self.hashed {
            Hashed::RoutingKey => hash_text(key),
            Hashed::Header(name) => {
                out.looked_beyond_the_key();
                hash_value(headers.headers()?.and_then(|headers| headers.value(name)))
            }
            Hashed::Property(property) => {
                out.looked_beyond_the_key();
                property.hash(&headers.properties()?).unwrap_or_else(|| hash_value(None))
            }
        };
        let mut best: Option<(f64, &Target)> = None;
        for (_, Weighted { target, name, weight }) in self.destinations.iter_from(|_| Ordering::Greater) {
            let lot = lot(hash, *name, *weight);
            if best.is_none_or(|(least, _)| lot < least) {
                best = Some((lot, target));
            }
        }
        if let Some((_, target)) = best {
            out.take(target);
        }
        Ok(())
    }
}

/// Queues and exchanges may share a name.
fn hash_of(destination: &Destination) -> u64 {
    match destination {
        Destination::Queue(name) => hash_pair(1, hash_text(name)),
        Destination::Exchange(name) => hash_pair(2, hash_text(name)),
    }
}

/// The lot that a destination draws for a message: the least one wins. An exponential variable with the weight as its rate,
/// so that each destination wins in proportion to its weight.
fn lot(hashed: u64, destination: u64, weight: u64) -> f64 {
    // 53 bits, which a float holds exactly; the half keeps 0 out.
    let uniform = ((hash_pair(hashed, destination) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -logarithm(uniform) / weight as f64
}

/// The natural logarithm of a number above 0 by operations that IEEE 754 rounds the same way everywhere; the one of the
/// standard library may differ from machine to machine, and with it the winner of a lot.
fn logarithm(number: f64) -> f64 {
    const MANTISSA_BITS: u32 = 52;
    const ONE: u64 = 1023 << MANTISSA_BITS;
    let bits = number.to_bits();
    let exponent = (bits >> MANTISSA_BITS) as f64 - 1023.0;
    let mantissa = f64::from_bits(bits & ((1 << MANTISSA_BITS) - 1) | ONE);
    // ln m = 2 artanh((m - 1) / (m + 1)), with m from 1 to 2, and so a fraction of a third at most.
    let fraction = (mantissa - 1.0) / (mantissa + 1.0);
    let square = fraction * fraction;
    let mut sum = 0.0;
    for term in (0..16_u32).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    exponent * std::f64::consts::LN_2 + 2.0 * fraction * sum
}

/// The destination that an exchange chose for a message, found without its index.
#[derive(Debug)]
pub(in crate::routing) struct Choice<'a> {
    chosen: Option<&'a Destination>,
    weight: u64,
    weights: u64,
    /// What was hashed.
    by: String,
}

impl<'a> Choice<'a> {
    pub(super) fn new(
        arguments: &FieldTable,
        bindings: impl Iterator<Item = &'a Arc<Binding>>,
        key: &str,
        headers: &FieldTable,
        properties: &HashedProperties,
    ) -> Self {
        let hashed = Hashed::of(arguments).unwrap_or_default();
        let (hash, is_there) = match &hashed {
            Hashed::RoutingKey => (hash_text(key), true),
            Hashed::Header(name) => {
                let value = headers.value(name);
                (hash_value(value), value.is_some())
            }
            Hashed::Property(property) => {
                let hash = property.hash(properties);
                (hash.unwrap_or_else(|| hash_value(None)), hash.is_some())
            }
        };
        let mut weights: BTreeMap<&Destination, u64> = BTreeMap::new();
        for binding in bindings {
            *weights.entry(&binding.destination).or_default() += weight(binding);
        }
        let lot = |(destination, weight): (&&Destination, &u64)| lot(hash, hash_of(destination), *weight);
        let chosen = weights.iter().min_by(|one, other| lot(*one).total_cmp(&lot(*other)));
        Self {
            chosen: chosen.map(|(destination, _)| *destination),
            weight: chosen.map_or(0, |(_, weight)| *weight),
            weights: weights.values().sum(),
            by: if is_there {
                hashed.to_string()
            } else {
                format!("{hashed}, which the message does not have,")
            },
        }
    }
}

/// A binding, and the destination that was chosen.
#[derive(Debug)]
pub(in crate::routing) struct Verdict<'a> {
    pub(super) choice: &'a Choice<'a>,
    pub(super) destination: &'a Destination,
}

impl Verdict<'_> {
    pub(super) fn matched(&self) -> bool {
        self.choice.chosen == Some(self.destination)
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choice { chosen, weight, weights, by } = self.choice;
        let (kind, name) = match chosen {
            Some(Destination::Queue(name)) => ("queue", &**name),
            Some(Destination::Exchange(name)) => ("exchange", &**name),
            None => ("none", ""),
        };
        write!(f, "the hash of {by} chooses {kind} `{}`", ShownText(name))?;
        if self.matched() { write!(f, ", with weight {weight} of {weights}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
