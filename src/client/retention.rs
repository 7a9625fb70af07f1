//! What a queue keeps of messages that consumers are done with.

use std::time::Duration;

use super::convert::millis;
use crate::model::{FieldTable, FieldValue, RETAIN_BYTES, RETAIN_MESSAGES, RETAIN_MILLIS};
use crate::wire::pb;

/// What a queue retains of messages that consumers accepted, or that went out without acknowledgements, so that they can be
/// [seen again](super::Replay). All bounds that are given hold at once; without any nothing is retained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// So long after they came; 1 ms or more.
    pub age: Option<Duration>,
    /// So many of them, the newest; 1 or more.
    pub messages: Option<u64>,
    /// So many bytes of them, the newest; 1 or more.
    pub bytes: Option<u64>,
}

impl Retention {
    /// Whether nothing is retained.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Puts it among the arguments of a queue. What is beyond an AMQP integer is no bound.
    pub(super) fn put_into(self, arguments: &mut FieldTable) {
        let bounds = [
            (RETAIN_MILLIS, self.age.map(millis)),
            (RETAIN_MESSAGES, self.messages),
            (RETAIN_BYTES, self.bytes),
        ];
        for (name, bound) in bounds {
            match bound {
                None => drop(arguments.0.remove(name)),
                Some(bound) => {
                    let bound = FieldValue::Integer(i64::try_from(bound).unwrap_or(i64::MAX));
                    arguments.0.insert(name.to_owned(), bound);
                }
            }
        }
    }

    pub(super) fn to_wire(self) -> pb::Retention {
        pb::Retention {
            age_ms: self.age.map_or(0, millis),
            messages: self.messages.unwrap_or(0),
            bytes: self.bytes.unwrap_or(0),
        }
    }

    pub(super) fn from_wire(retention: pb::Retention) -> Self {
        let bound = |bound: u64| (bound > 0).then_some(bound);
        Self {
            age: bound(retention.age_ms).map(Duration::from_millis),
            messages: bound(retention.messages),
            bytes: bound(retention.bytes),
        }
    }
}
