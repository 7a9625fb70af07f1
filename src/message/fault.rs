//! What can be wrong with a message from the other side.

use std::fmt;

use crate::model::{Entity, NAME_BYTES_MAX, Refusal, ReplyCode};

/// What is wrong with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemFault {
    /// Its bytes are not what `message.proto` says.
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Where, in bytes from the start of the bytes that hold the item.
        offset: usize,
    },
    /// The item has no `message`.
    NoMessage,
    /// A text is longer than 255 bytes.
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A text is not UTF-8.
    NotUtf8 {
        /// Name of the field.
        field: &'static str,
    },
    /// A number is beyond its field's range.
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// What was there.
        value: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// Tables and lists are nested deeper than allowed.
    TooDeep {
        /// Deepest nesting allowed.
        max: usize,
    },
}

impl ItemFault {
    /// The fault as the protocol's typed refusal, for the messages of its frame.
    pub fn refusal(&self) -> Refusal {
        let refusal = Refusal::new(ReplyCode::SyntaxError, self.to_string()).about(Entity::Message, "");
        match *self {
            Self::Malformed { .. } => {
                refusal.hint("encode the message with code generated from message.proto")
            }
            Self::NoMessage => refusal.field("message", "present", "absent"),
            Self::TooLong { field, bytes } => {
                refusal.field(field, format!("at most {NAME_BYTES_MAX} bytes"), format!("{bytes} bytes"))
            }
            Self::NotUtf8 { field } => refusal.field(field, "UTF-8 text", "bytes that are not UTF-8"),
            Self::OutOfRange { field, value, max } => {
                refusal.field(field, format!("0 to {max}"), value.to_string())
            }
            Self::TooDeep { max } => {
                refusal.field("headers", format!("at most {max} levels"), "more levels than that")
            }
        }
    }
}

impl fmt::Display for ItemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { what, offset } => write!(f, "malformed at byte {offset}: {what}"),
            Self::NoMessage => f.write_str("the item has no message"),
            Self::TooLong { field, bytes } => {
                write!(f, "{field} may have {NAME_BYTES_MAX} bytes at most, this one has {bytes}")
            }
            Self::NotUtf8 { field } => write!(f, "{field} is not UTF-8 text"),
            Self::OutOfRange { field, value, max } => {
                write!(f, "{field} may be {max} at most, not {value}")
            }
            Self::TooDeep { max } => write!(f, "headers may nest {max} levels deep at most"),
        }
    }
}

impl std::error::Error for ItemFault {}
