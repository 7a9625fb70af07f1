//! What a shard's log says, for people: operations with names in place of codes.

use bytes::Bytes;

use super::fault::BatchFault;
use super::moments::Moment;
use super::operation::{self, Operation};
use super::read_back::{messages_of, publish_end};
use crate::message::{item, message_ends};
use crate::model::{QueueId, Timestamp};
use crate::queue::{Departure, QueueCommand, QueueOptions, SequenceRuns};
use crate::storage::{OwnerFault, RecoveredBatch};

/// An operation as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoggedOperation {
    /// Messages came in.
    Publish {
        /// The exchange that they were published to.
        exchange: String,
        /// With this routing key.
        routing_key: String,
        /// The messages, by which queues they went to.
        runs: Vec<LoggedMessages>,
        /// A merge left these of more.
        is_rest: bool,
    },
    /// Messages left a queue.
    Settle {
        /// The queue.
        queue: QueueId,
        /// Why.
        reason: &'static str,
        /// First sequence and number of messages, for each run.
        runs: Vec<(u64, u64)>,
    },
    /// Messages became dead letters.
    DeadLetter {
        /// The queue.
        queue: QueueId,
        /// Why.
        reason: &'static str,
        /// As in a settlement.
        runs: Vec<(u64, u64)>,
    },
    /// Messages came back. Only old versions recorded it.
    Requeue {
        /// The queue.
        queue: QueueId,
        /// As in a settlement.
        runs: Vec<(u64, u64)>,
    },
    /// How often messages came back.
    Counts {
        /// The queue.
        queue: QueueId,
        /// First sequence, number of messages, and how often, for each run.
        runs: Vec<(u64, u64, u32)>,
    },
    /// Messages below this sequence may have been delivered.
    Mark {
        /// The queue.
        queue: QueueId,
        /// The sequence.
        sequence: u64,
    },
    /// Nothing is retained any more of messages below this sequence.
    Forget {
        /// The queue.
        queue: QueueId,
        /// The sequence.
        sequence: u64,
    },
    /// A queue is there.
    Declare {
        /// The queue.
        queue: QueueId,
        /// What it is.
        options: QueueOptions,
    },
    /// Messages go when their time is over, unless they went before.
    Expire {
        /// The queues that they are in.
        queues: Vec<QueueId>,
        /// Sequences and times.
        times: Vec<(u64, Timestamp)>,
    },
    /// Messages are held back until their times.
    Delay {
        /// The queues that they are in.
        queues: Vec<QueueId>,
        /// Sequences and times.
        times: Vec<(u64, Timestamp)>,
    },
    /// A queue went, with all that it held.
    Delete {
        /// The queue.
        queue: QueueId,
    },
}

/// Messages that follow each other and went to the same queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedMessages {
    /// Sequence of the first one.
    pub first: u64,
    /// Where they went.
    pub queues: Vec<QueueId>,
    /// Bytes of each as it is stored, and its body.
    pub messages: Vec<(u32, Bytes)>,
}

/// The operations of a batch.
///
/// # Errors
/// What is wrong with it.
pub fn logged_operations(batch: &RecoveredBatch) -> Result<Vec<LoggedOperation>, OwnerFault> {
    Ok(operations_of(batch)?)
}

fn pairs(moments: Vec<Moment>) -> Vec<(u64, Timestamp)> {
    moments.into_iter().map(|Moment { sequence, at }| (sequence, at)).collect()
}

fn operations_of(batch: &RecoveredBatch) -> Result<Vec<LoggedOperation>, BatchFault> {
    let (messages, mut operations) = operation::split_payload(&batch.payload)?;
    let mut told = Vec::new();
    let (mut offset, mut sequence) = (0, batch.first_body.0);
    while let Some(operation) = operations.next()? {
        told.push(match operation {
            Operation::Publish { exchange, routing_key, bytes, segments } => {
                let end = publish_end(offset, bytes, messages)?;
                let first = sequence;
                let runs = segments.into_iter().map(|(count, queues)| {
                    let at = sequence;
                    sequence = sequence.saturating_add(count);
                    (at, count, queues)
                });
                let runs: Vec<_> = runs.collect();
                let runs = with_messages(&batch.payload.slice(offset..end), runs, sequence - first)?;
                offset = end;
                publish(exchange, routing_key, runs, false)
            }
            Operation::Kept { exchange, routing_key, bytes, runs } => {
                let end = publish_end(offset, bytes, messages)?;
                let all = messages_of(&runs);
                let runs = runs
                    .into_iter()
                    .map(|run| (batch.first_body.0.saturating_add(run.first), run.count, run.queues));
                let runs = with_messages(&batch.payload.slice(offset..end), runs.collect(), all)?;
                offset = end;
                publish(exchange, routing_key, runs, true)
            }
            Operation::Queue { queue, command } => of_command(queue, command),
            Operation::Declare { queue, options } => LoggedOperation::Declare { queue, options },
            Operation::Delete { queue } => LoggedOperation::Delete { queue },
            Operation::Expire { queues, expires } => {
                LoggedOperation::Expire { queues, times: pairs(expires) }
            }
            Operation::Delay { queues, until } => LoggedOperation::Delay { queues, times: pairs(until) },
        });
    }
    Ok(told)
}

fn publish(exchange: &str, routing_key: &str, runs: Vec<LoggedMessages>, is_rest: bool) -> LoggedOperation {
    LoggedOperation::Publish {
        exchange: exchange.to_owned(),
        routing_key: routing_key.to_owned(),
        runs,
        is_rest,
    }
}

fn with_messages(
    bytes: &Bytes,
    runs: Vec<(u64, u64, Vec<QueueId>)>,
    says: u64,
) -> Result<Vec<LoggedMessages>, BatchFault> {
    let ends = message_ends(bytes).ok_or(BatchFault::NoMessages)?;
    if ends.len() as u64 != says {
        return Err(BatchFault::PublishMessages { holds: ends.len() as u64, says });
    }
    let mut start = 0u32;
    let mut ends = ends.into_iter();
    let told = runs.into_iter().map(|(first, count, queues)| {
        let messages = ends.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX)).map(|end| {
            let from = std::mem::replace(&mut start, end) as usize;
            let body = item::scan(bytes, from).map(|parts| bytes.slice(parts.body)).unwrap_or_default();
            (end - from as u32, body)
        });
        LoggedMessages { first, queues, messages: messages.collect() }
    });
    Ok(told.collect())
}

fn of_command(queue: QueueId, command: QueueCommand) -> LoggedOperation {
    let plain = |runs: SequenceRuns| runs.runs().iter().map(|run| (run.first.0, run.count)).collect();
    match command {
        QueueCommand::Settle(departure, runs) => {
            LoggedOperation::Settle { queue, reason: reason(departure), runs: plain(runs) }
        }
        QueueCommand::DeadLetter(departure, runs) => {
            LoggedOperation::DeadLetter { queue, reason: reason(departure), runs: plain(runs) }
        }
        QueueCommand::Requeue(runs) => LoggedOperation::Requeue { queue, runs: plain(runs) },
        QueueCommand::Counts(counts) => LoggedOperation::Counts {
            queue,
            runs: counts.iter().map(|of| (of.run.first.0, of.run.count, of.count)).collect(),
        },
        QueueCommand::DeliveryMark(sequence) => LoggedOperation::Mark { queue, sequence },
        QueueCommand::Forget(sequence) => LoggedOperation::Forget { queue, sequence },
    }
}

fn reason(departure: Departure) -> &'static str {
    match departure {
        Departure::Accepted => "accepted",
        Departure::Rejected => "rejected",
        Departure::Purged => "purged",
        Departure::NoAck => "delivered without acknowledgements",
        Departure::Moved => "moved",
        Departure::Expired => "expired",
        Departure::MaxLength => "beyond the bounds of the queue",
        Departure::DeadLettered => "stored as dead letters elsewhere",
        Departure::Cycle => "dead letters on their way round in a circle",
        Departure::DeliveryLimit => "came back too often",
    }
}
