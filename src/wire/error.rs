//! What can be wrong with bytes from the other side.

use std::fmt;

use crate::message::{Broken, ItemFault};
use crate::model::{Entity, Refusal, ReplyCode};

/// Why bytes are not a frame that can be worked with. Decoding changes nothing, so nothing has happened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// The length prefix announces more than the connection's limit. The stream cannot be read on.
    TooLong {
        /// Announced length, in bytes after the prefix.
        length: usize,
        /// The limit it exceeds.
        max: usize,
    },
    /// A frame without a body: its length is 0, or it names a channel or request and asks for nothing.
    Empty,
    /// The bytes are not protobuf, or not a `Frame`.
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Where in the frame, in bytes after its length prefix.
        offset: usize,
    },
    /// A well-formed frame of a kind this version does not know. Answer it with a typed error and read on.
    UnknownFrame {
        /// Field number of the body in `Frame`.
        field: u32,
        /// The frame's channel.
        channel: u32,
        /// The frame's request id.
        request: u64,
    },
    /// A frame that only the other side may send, for instance a `Deliver` from a client. It was not decoded.
    WrongSide {
        /// Name of the frame's kind, as in `frame.proto`.
        kind: &'static str,
        /// The frame's channel.
        channel: u32,
        /// The frame's request id.
        request: u64,
    },
    /// One message of a `Publish` breaks a rule. None of the frame's messages was taken, and each can be refused
    /// by its sequence number; the connection can go on.
    BadItem {
        /// The frame's channel.
        channel: u32,
        /// `Publish.publisher`.
        publisher: u32,
        /// `Publish.first_sequence`; 0 if no confirms are wanted.
        first_sequence: u64,
        /// Number of messages in the frame.
        items: u32,
        /// Which of them is at fault, counted from 0.
        index: u32,
        /// What is wrong with it.
        why: ItemFault,
    },
}

impl WireError {
    /// Whether the connection cannot go on: the peer and we no longer agree on the protocol. If not, the frame is to
    /// be answered and the next one read.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::TooLong { .. } | Self::Empty | Self::Malformed { .. } | Self::WrongSide { .. } => true,
            Self::UnknownFrame { .. } | Self::BadItem { .. } => false,
        }
    }

    /// The error as the protocol's typed refusal.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TooLong { length, max } => Refusal::new(ReplyCode::FrameError, self.to_string())
                .about(Entity::Frame, "")
                .field("length", format!("at most {max}"), length.to_string())
                .hint("split the messages over several frames, or negotiate a larger frame_max"),
            Self::Empty | Self::Malformed { .. } => Refusal::new(ReplyCode::FrameError, self.to_string())
                .about(Entity::Frame, "")
                .hint("every frame is a 4-byte big-endian length and that many bytes of a protobuf Frame"),
            Self::UnknownFrame { field, .. } => Refusal::new(ReplyCode::NotImplemented, self.to_string())
                .about(Entity::Frame, field.to_string())
                .hint("look at the protocol version and capabilities in Connected before using newer frames"),
            Self::WrongSide { kind, .. } => Refusal::new(ReplyCode::CommandInvalid, self.to_string())
                .about(Entity::Frame, *kind)
                .hint("frame.proto says which frames a client sends"),
            Self::BadItem { why, .. } => why.refusal(),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, max } => {
                write!(f, "a frame of {length} bytes is longer than the {max} allowed here")
            }
            Self::Empty => f.write_str("the frame has no body"),
            Self::Malformed { what, offset } => {
                write!(f, "the frame is malformed at byte {offset}: {what}")
            }
            Self::UnknownFrame { field, .. } => {
                write!(f, "frames with body number {field} are not known to this version")
            }
            Self::WrongSide { kind, .. } => write!(f, "a {kind} frame must not come from this side"),
            Self::BadItem { items, index, why, .. } => {
                write!(f, "message {} of {items} in the frame: {why}", u64::from(*index) + 1)
            }
        }
    }
}

impl std::error::Error for WireError {}

impl From<Broken> for WireError {
    fn from(broken: Broken) -> Self {
        Self::Malformed { what: broken.what, offset: broken.offset }
    }
}
