//! Why what the log gave back, as it was written, is nothing that a shard writes.

use std::error::Error;
use std::fmt;

use crate::model::{BodySequence, NameTooLong, QueueId};
use crate::queue::{QueueFault, SEQUENCE_MAX, SequenceRun};

/// What is wrong with an operation, or with one of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperationFault {
    /// A number is cut off, or is longer than any.
    Number,
    /// A text is cut off.
    TextCutOff,
    /// A text is not UTF-8.
    NoText,
    /// It ends before it says why messages left.
    ReasonMissing,
    UnknownReason(u8),
    UnknownKind(u8),
    /// A queue has a property that is unknown here.
    UnknownOptions(u64),
    /// A queue holds back what comes back for returns that are unknown here.
    UnknownRetry(u64),
    /// A run of messages ends beyond all numbers.
    RunOutOfRange,
    /// A message expires beyond all times.
    TimeOutOfRange,
    /// A message is said to have come back more often than can be counted.
    CountTooHigh(u64),
}

impl fmt::Display for OperationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number => f.write_str("a number is cut off, or is no number"),
            Self::TextCutOff => f.write_str("a text is cut off"),
            Self::NoText => f.write_str("a text is not UTF-8"),
            Self::ReasonMissing => f.write_str("a settlement is cut off"),
            Self::UnknownReason(code) => write!(f, "messages left for reason {code}, which is unknown"),
            Self::UnknownKind(kind) => write!(f, "operation kind {kind} is unknown"),
            Self::UnknownOptions(flags) => write!(f, "a queue has the properties {flags}, which are unknown"),
            Self::UnknownRetry(code) => {
                write!(f, "a queue holds back what comes back for reason {code}, which is unknown")
            }
            Self::RunOutOfRange => f.write_str("a run of messages is out of range"),
            Self::TimeOutOfRange => f.write_str("a message expires beyond all times"),
            Self::CountTooHigh(count) => {
                write!(f, "a message came back {count} times, which is more than can be counted")
            }
        }
    }
}

impl Error for OperationFault {}

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchFault {
    /// It is shorter than the length of its operations, or than these.
    TooShort,
    Operation {
        /// How many bytes of operations are before it.
        at: usize,
        fault: OperationFault,
    },
    /// An exchange's name or a routing key.
    Name(NameTooLong),
    /// A publish says that it has more bytes of messages than there are.
    PublishCutOff,
    /// Bytes of a publish do not consist of messages.
    NoMessages,
    /// A publish holds another number of messages than it says.
    PublishMessages {
        holds: u64,
        says: u64,
    },
    /// The batch holds another number of messages than it says, or at least as many.
    BatchMessages {
        holds: u64,
        says: u64,
    },
    /// Its first message has a number that was given before, or that no message can have.
    FirstSequence(BodySequence),
    SentTwice {
        sequence: BodySequence,
        queue: QueueId,
    },
    /// It is about messages that come later.
    AheadOfItself {
        run: SequenceRun,
        next: u64,
    },
    /// It tells a time of a message that comes later.
    TimeAhead {
        sequence: u64,
        next: u64,
    },
    /// A run of what a merge kept is empty, or ends beyond all numbers.
    KeptRun,
    /// What only merged segments hold, which are not replayed.
    LeftFromMerge,
    /// It lacks a message that a queue needs.
    Lacks {
        sequence: u64,
        queue: QueueId,
    },
}

impl fmt::Display for BatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("it is shorter than its operations"),
            Self::Operation { at, fault } => write!(f, "at byte {at} of its operations, {fault}"),
            Self::Name(fault) => fault.fmt(f),
            Self::PublishCutOff => f.write_str("a publish has more bytes than its batch"),
            Self::NoMessages => f.write_str("a publish holds bytes that are no messages"),
            Self::PublishMessages { holds, says } => {
                write!(f, "a publish holds {holds} messages and says {says}")
            }
            Self::BatchMessages { holds, says } => write!(f, "it holds {holds} messages and says {says}"),
            Self::FirstSequence(first) => write!(
                f,
                "it numbers its messages from {first}, which cannot be: the number was given, or is beyond \
                 {SEQUENCE_MAX}"
            ),
            Self::SentTwice { sequence, queue } => {
                write!(f, "message {sequence} goes to queue {queue} twice")
            }
            Self::AheadOfItself { run: SequenceRun { first, count }, next } => {
                write!(f, "it settles {count} messages from {first} on, and {next} is the next one")
            }
            Self::TimeAhead { sequence, next } => {
                write!(f, "it tells a time of message {sequence}, and {next} is the next one")
            }
            Self::KeptRun => f.write_str("a run of messages that a merge kept is empty or out of range"),
            Self::LeftFromMerge => f.write_str("it is left over from a merge"),
            Self::Lacks { sequence, queue } => {
                write!(f, "it does not hold message {sequence}, which queue {queue} needs")
            }
        }
    }
}

impl Error for BatchFault {}

/// What is wrong with the state that a checkpoint holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateFault {
    Version {
        /// `None` if there is not even that.
        found: Option<u8>,
        known: u8,
    },
    /// A number is cut off, or is longer than any.
    Number,
    NextSequence(u64),
    /// A message that is there would come later.
    Ahead {
        sequence: u64,
        next: u64,
    },
    /// A place of messages ends beyond all numbers.
    PlaceOutOfRange,
    /// A time is beyond all times, or of a message that is to come.
    TimeOutOfRange,
    Options {
        queue: QueueId,
        fault: OperationFault,
    },
    Queue {
        queue: QueueId,
        fault: QueueFault,
    },
    /// A queue holds a message that no batch holds.
    Lost {
        queue: QueueId,
        sequence: u64,
    },
    /// A message expires that its queue does not hold.
    ExpiresElsewhere {
        queue: QueueId,
    },
    /// A message is held back that its queue does not hold.
    HeldElsewhere {
        queue: QueueId,
    },
    QueueTwice(QueueId),
    /// Bytes follow the last queue.
    Excess,
}

impl fmt::Display for StateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found: Some(found), known } => {
                write!(f, "its state has version {found}, and this program knows version {known}")
            }
            Self::Version { found: None, .. } => f.write_str("its state is empty"),
            Self::Number => f.write_str("a number of its state is cut off, or is no number"),
            Self::NextSequence(next) => {
                write!(f, "its next message would be number {next}, and {SEQUENCE_MAX} is the last one")
            }
            Self::Ahead { sequence, next } => {
                write!(f, "it holds message {sequence}, and {next} is the next one")
            }
            Self::PlaceOutOfRange => f.write_str("a place of messages is out of range"),
            Self::TimeOutOfRange => f.write_str("a time of messages is out of range"),
            Self::Options { queue, fault } => write!(f, "queue {queue}: {fault}"),
            Self::Queue { queue, fault } => write!(f, "queue {queue}: {fault}"),
            Self::Lost { queue, sequence } => {
                write!(f, "queue {queue} holds message {sequence}, and no batch does")
            }
            Self::ExpiresElsewhere { queue } => {
                write!(f, "queue {queue} does not hold a message that is to leave it when its time is over")
            }
            Self::HeldElsewhere { queue } => {
                write!(
                    f,
                    "queue {queue} does not hold a message that it is to hold back until its time comes"
                )
            }
            Self::QueueTwice(queue) => write!(f, "queue {queue} is there twice"),
            Self::Excess => f.write_str("there is something behind its state"),
        }
    }
}

impl Error for StateFault {}
