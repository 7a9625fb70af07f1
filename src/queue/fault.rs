//! Why bytes of a checkpoint are no queue.

use std::error::Error;
use std::fmt;

use prost::encoding::decode_varint;

/// What is wrong with the bytes of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFault {
    /// A number is cut off, or is longer than any.
    Number,
    /// Packed messages are cut off.
    CutOff,
    /// A column of packed messages is written in a way that is unknown here.
    UnknownColumn {
        /// The way.
        kind: u8,
    },
    /// There are too few or too many messages in one chunk.
    ChunkLength {
        /// How many there are said to be.
        messages: u64,
    },
    /// No message has such a number and size.
    NoSuchMessage {
        /// Its sequence.
        sequence: u64,
        /// Its size class.
        class: u64,
    },
    /// More is missing of the size of a message than a size class leaves open.
    Remainder {
        /// How many bytes.
        bytes: u64,
    },
    /// A chunk does not end with the message that it names as its last.
    OtherEnd {
        /// That message's sequence.
        last: u64,
    },
    /// Bytes follow the columns of a chunk.
    Excess,
    /// The sequence of a message is higher than any can be.
    SequenceTooHigh,
    /// Messages do not come in the order of their sequences.
    OutOfOrder,
    /// Messages are dead letters for a reason that is unknown here.
    UnknownReason(u8),
    /// A priority stands behind one that is not higher, or is none.
    Priority(u8),
    /// A message is said to have come back more often than can be counted.
    CountTooHigh {
        /// How often.
        count: u64,
    },
}

impl fmt::Display for QueueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number => f.write_str("a number of a queue is cut off, or is no number"),
            Self::CutOff => f.write_str("packed messages are cut off"),
            Self::UnknownColumn { kind } => {
                write!(f, "packed messages are of kind {kind}, which this version does not know")
            }
            Self::ChunkLength { messages } => write!(f, "{messages} messages are packed together"),
            Self::NoSuchMessage { sequence, class } => {
                write!(f, "there is no message {sequence} of size class {class}")
            }
            Self::Remainder { bytes } => {
                write!(f, "{bytes} bytes are more than a size class leaves open")
            }
            Self::OtherEnd { last } => write!(f, "packed messages do not end with {last}, as they say"),
            Self::Excess => f.write_str("there is something behind packed messages"),
            Self::SequenceTooHigh => f.write_str("the sequence of a message is too high"),
            Self::OutOfOrder => f.write_str("the messages of a queue are not in their order"),
            Self::UnknownReason(code) => {
                write!(f, "messages are dead letters for reason {code}, which is unknown")
            }
            Self::Priority(priority) => write!(f, "priority {priority} is not in its place"),
            Self::CountTooHigh { count } => {
                write!(f, "a message came back {count} times, which is more than can be counted")
            }
        }
    }
}

impl Error for QueueFault {}

/// Takes a number off the front.
pub(super) fn number(rest: &mut &[u8]) -> Result<u64, QueueFault> {
    decode_varint(rest).map_err(|_| QueueFault::Number)
}
