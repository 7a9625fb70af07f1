//! What a shard writes into its log.
//!
//! A batch's payload is first the messages of all its publishes, back to back, then its operations, then the length
//! of the operations in 4 bytes, little endian:
//!
//! ```text
//! ┌─────────────────────┬──────────────────────┬────────────────┐
//! │ messages (runs)     │ operations           │ their length   │
//! └─────────────────────┴──────────────────────┴────────────────┘
//! operation = kind (1 byte) and fields; a number is a protobuf varint, a text its length and its bytes
//!   1 publish   exchange, routing key, bytes of messages, segments n, n x (messages, queues q, q x queue)
//!   2 settle    of versions before reasons: queue, runs n, n x (gap to the end of the run before, count)
//!   3 requeue   of versions that recorded each return: the same
//!   4 mark      queue, sequence
//!   5 delete    queue
//!   6 kept      exchange, routing key, bytes of messages, runs n, n x (gap to the end of the run before, messages,
//!               queues q, q x queue)
//!   7 settle    reason (1 byte: 1 accepted, 2 rejected, 3 purged, 4 delivered without acknowledgements,
//!               5 moved, 6 expired, 7 beyond the bounds of the queue, 8 were dead letters and are stored elsewhere, 9 were dead
//!               letters on their way round in a circle, 10 came back too often), the rest as 2
//!   8 counts    queue, runs n, n x (gap to the end of the run before, messages, how often each of them came back)
//!   9 declare   queue, what it is (a number: 1 if it goes with its last consumer, and 2 if it retains what consumers are done
//!               with: then three numbers follow, milliseconds, messages and bytes, 0 for no bound; and 4 if there are bounds on
//!               what waits in it: then the same three follow, each one more than the bound, 0 for none; 8 if it has a place for
//!               dead letters; 16 if it has a single active consumer; 32 if what came back too often leaves: then, behind
//!               all others, a number follows, how often it may; 64 if it refuses what comes when it is full, and 128 if
//!               besides that is a dead letter; 256 if it knows priorities: then, behind all others, the highest one follows; 512 if what comes back
//!               is held back: then, behind all others, five numbers follow, for which returns (0 all, 1 given back, 2 the consumer
//!               went), the first delay in milliseconds, one more than the longest or 0, the multiplier or 0, the jitter)
//!  10 forget    queue, sequence: of messages below it nothing is retained any more
//!  11 dead      as 7: they are dead letters now
//!  12 expire    queues q, q x queue, messages n; unless that is 0: the earliest time, n x (gap to the sequence after the one
//!               before, milliseconds after that time): they go then, unless they went before
//!  13 delay     as 12: those of them that wait are held back until then
//! ```
//!
//! A publish takes its bytes from where the publish before it ended; its messages take the next body sequences. Where
//! segments were merged, kept stands instead of publish, for the messages that some queue still needed and for these
//! queues; the first gap counts from the first body sequence of the batch.

use bytes::{Buf, BufMut, BytesMut};
use prost::encoding::{decode_varint, encode_varint};

use crate::model::{BodySequence, Overflow, QueueId, RetryOn};
use crate::queue::{
    CountRun, Departure, Limits, QueueCommand, QueueOptions, Retention, Retry, SequenceRun, SequenceRuns,
};

use super::command::Origin;
use super::fault::{BatchFault, OperationFault};
use super::moments::{Moment, decode_moments, encode_moments};

const PUBLISH: u8 = 1;
const SETTLE: u8 = 2;
const REQUEUE: u8 = 3;
const MARK: u8 = 4;
const DELETE: u8 = 5;
const KEPT: u8 = 6;
const SETTLE_FOR: u8 = 7;
const COUNTS: u8 = 8;
const DECLARE: u8 = 9;
const FORGET: u8 = 10;
const DEAD_LETTER: u8 = 11;
const EXPIRE: u8 = 12;
const DELAY: u8 = 13;

const AUTO_DELETE: u64 = 1;
const RETAINS: u64 = 2;
const LIMITED: u64 = 4;
const HAS_DEAD_LETTERS: u64 = 8;
const SINGLE_ACTIVE: u64 = 16;
const DELIVERY_LIMITED: u64 = 32;
const REFUSES: u64 = 64;
const REFUSED_ARE_DEAD: u64 = 128;
const HAS_PRIORITIES: u64 = 256;
const RETRIES: u64 = 512;
const OPTIONS: u64 = AUTO_DELETE
    | RETAINS
    | LIMITED
    | HAS_DEAD_LETTERS
    | SINGLE_ACTIVE
    | DELIVERY_LIMITED
    | REFUSES
    | REFUSED_ARE_DEAD
    | HAS_PRIORITIES
    | RETRIES;

/// A decoded operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation<'a> {
    Publish { exchange: &'a str, routing_key: &'a str, bytes: usize, segments: Vec<(u64, Vec<QueueId>)> },
    Queue { queue: QueueId, command: QueueCommand },
    Declare { queue: QueueId, options: QueueOptions },
    Delete { queue: QueueId },
    Kept { exchange: &'a str, routing_key: &'a str, bytes: usize, runs: Vec<KeptRun> },
    Expire { queues: Vec<QueueId>, expires: Vec<Moment> },
    Delay { queues: Vec<QueueId>, until: Vec<Moment> },
}

/// Messages that follow each other and are needed by the same queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptRun {
    /// Sequence of the first one, less the first body sequence of the batch.
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) queues: Vec<QueueId>,
}

pub(super) fn encode_publish<'a>(
    origin: &Origin,
    bytes: usize,
    segments: impl ExactSizeIterator<Item = (u64, &'a [QueueId])>,
    out: &mut BytesMut,
) {
    encode_messages(PUBLISH, origin.exchange.as_str(), origin.routing_key.as_str(), bytes, out);
    encode_varint(segments.len() as u64, out);
    for (messages, queues) in segments {
        encode_varint(messages, out);
        encode_queues(queues, out);
    }
}

pub(super) fn encode_kept(
    exchange: &str,
    routing_key: &str,
    bytes: usize,
    runs: &[KeptRun],
    out: &mut BytesMut,
) {
    encode_messages(KEPT, exchange, routing_key, bytes, out);
    encode_varint(runs.len() as u64, out);
    let mut end = 0;
    for run in runs {
        encode_varint(run.first - end, out);
        encode_varint(run.count, out);
        encode_queues(&run.queues, out);
        end = run.first + run.count;
    }
}

fn encode_messages(kind: u8, exchange: &str, routing_key: &str, bytes: usize, out: &mut BytesMut) {
    out.put_u8(kind);
    for text in [exchange, routing_key] {
        encode_varint(text.len() as u64, out);
        out.put_slice(text.as_bytes());
    }
    encode_varint(bytes as u64, out);
}

fn encode_queues(queues: &[QueueId], out: &mut BytesMut) {
    encode_varint(queues.len() as u64, out);
    queues.iter().for_each(|queue| encode_varint(queue.0, out));
}

pub(super) fn encode_command(queue: QueueId, command: &QueueCommand, out: &mut BytesMut) {
    let (kind, runs) = match command {
        QueueCommand::Settle(departure, runs) | QueueCommand::DeadLetter(departure, runs) => {
            out.put_u8(if matches!(command, QueueCommand::Settle(..)) { SETTLE_FOR } else { DEAD_LETTER });
            out.put_u8(departure.code());
            return encode_runs(queue, runs, out);
        }
        QueueCommand::Requeue(runs) => (REQUEUE, runs),
        QueueCommand::Counts(counts) => {
            out.put_u8(COUNTS);
            return encode_counts(queue, counts, out);
        }
        QueueCommand::DeliveryMark(sequence) | QueueCommand::Forget(sequence) => {
            out.put_u8(if matches!(command, QueueCommand::Forget(_)) { FORGET } else { MARK });
            encode_varint(queue.0, out);
            encode_varint(*sequence, out);
            return;
        }
    };
    out.put_u8(kind);
    encode_runs(queue, runs, out);
}

fn encode_runs(queue: QueueId, runs: &SequenceRuns, out: &mut BytesMut) {
    encode_varint(queue.0, out);
    encode_varint(runs.runs().len() as u64, out);
    let mut end = 0u64;
    for run in runs.runs() {
        // Runs need not rise (a purge lists what came back first): the gap wraps around.
        encode_varint(run.first.0.wrapping_sub(end), out);
        encode_varint(run.count, out);
        end = run.first.0 + run.count;
    }
}

fn encode_counts(queue: QueueId, counts: &[CountRun], out: &mut BytesMut) {
    encode_varint(queue.0, out);
    encode_varint(counts.len() as u64, out);
    let mut end = 0u64;
    for CountRun { run, count } in counts {
        // As in `encode_runs`.
        encode_varint(run.first.0.wrapping_sub(end), out);
        encode_varint(run.count, out);
        encode_varint(u64::from(*count), out);
        end = run.first.0 + run.count;
    }
}

pub(super) fn encode_declare(queue: QueueId, options: QueueOptions, out: &mut BytesMut) {
    out.put_u8(DECLARE);
    encode_varint(queue.0, out);
    encode_options(options, out);
}

/// What a queue is that survives; others are never written.
pub(super) fn encode_options(options: QueueOptions, out: &mut impl BufMut) {
    let QueueOptions {
        logged: _,
        auto_delete,
        retention,
        limits,
        dead_letters,
        single_active,
        delivery_limit,
        max_priority,
        // Whoever has messages has them no longer than the process lives.
        lease_millis: _,
        retry,
    } = options;
    let is_limited = limits != Limits::default();
    let flags = [
        (auto_delete, AUTO_DELETE),
        (retention.is_some(), RETAINS),
        (is_limited, LIMITED),
        (dead_letters, HAS_DEAD_LETTERS),
        (single_active, SINGLE_ACTIVE),
        (delivery_limit.is_some(), DELIVERY_LIMITED),
        (limits.overflow != Overflow::DropHead, REFUSES),
        (limits.overflow == Overflow::RejectPublishDlx, REFUSED_ARE_DEAD),
        (max_priority.is_some(), HAS_PRIORITIES),
        (retry.is_some(), RETRIES),
    ];
    encode_varint(flags.into_iter().filter(|(is_so, _)| *is_so).map(|(_, flag)| flag).sum(), out);
    if let Some(Retention { age_millis, messages, bytes }) = retention {
        [age_millis, messages, bytes].into_iter().for_each(|bound| encode_varint(bound.unwrap_or(0), out));
    }
    if is_limited {
        let Limits { messages, bytes, ttl_millis, overflow: _ } = limits;
        let more = |bound: Option<u64>| bound.map_or(0, |bound| bound.saturating_add(1));
        [ttl_millis, messages, bytes].into_iter().for_each(|bound| encode_varint(more(bound), out));
    }
    if let Some(limit) = delivery_limit {
        encode_varint(limit.into(), out);
    }
    if let Some(highest) = max_priority {
        encode_varint(highest.into(), out);
    }
    if let Some(Retry { on, min_millis, max_millis, multiplier, jitter_percent }) = retry {
        let (max, multiplier) =
            (max_millis.map_or(0, |most| most.saturating_add(1)), multiplier.unwrap_or(0));
        let numbers = [code_of(on), min_millis, max, multiplier.into(), jitter_percent.into()];
        numbers.into_iter().for_each(|number| encode_varint(number, out));
    }
}

fn code_of(on: RetryOn) -> u64 {
    match on {
        RetryOn::All => 0,
        RetryOn::Failed => 1,
        RetryOn::Returned => 2,
    }
}

fn decode_retry(rest: &mut &[u8]) -> Result<Retry, OperationFault> {
    let on = match number(rest)? {
        0 => RetryOn::All,
        1 => RetryOn::Failed,
        2 => RetryOn::Returned,
        other => return Err(OperationFault::UnknownRetry(other)),
    };
    let (min_millis, max) = (number(rest)?, number(rest)?);
    let multiplier = u32::try_from(number(rest)?).unwrap_or(u32::MAX);
    let jitter_percent = u8::try_from(number(rest)?).unwrap_or(u8::MAX);
    Ok(Retry {
        on,
        min_millis,
        max_millis: max.checked_sub(1),
        multiplier: (multiplier > 0).then_some(multiplier),
        jitter_percent,
    })
}

/// Reads what [`encode_options`] wrote.
pub(super) fn decode_options(rest: &mut &[u8]) -> Result<QueueOptions, OperationFault> {
    let flags = number(rest)?;
    if flags & !OPTIONS != 0 {
        return Err(OperationFault::UnknownOptions(flags));
    }
    let bound = |rest: &mut &[u8]| number(rest).map(|bound| (bound > 0).then_some(bound));
    let retention = match flags & RETAINS {
        0 => None,
        _ => Some(Retention { age_millis: bound(rest)?, messages: bound(rest)?, bytes: bound(rest)? }),
    };
    let limit = |rest: &mut &[u8]| number(rest).map(|more| more.checked_sub(1));
    let overflow = match (flags & REFUSES, flags & REFUSED_ARE_DEAD) {
        (0, _) => Overflow::DropHead,
        (_, 0) => Overflow::RejectPublish,
        _ => Overflow::RejectPublishDlx,
    };
    let limits = match flags & LIMITED {
        0 => Limits::default(),
        _ => Limits { ttl_millis: limit(rest)?, messages: limit(rest)?, bytes: limit(rest)?, overflow },
    };
    let delivery_limit = match flags & DELIVERY_LIMITED {
        0 => None,
        _ => Some(u32::try_from(number(rest)?).unwrap_or(u32::MAX)),
    };
    let max_priority = match flags & HAS_PRIORITIES {
        0 => None,
        _ => Some(u8::try_from(number(rest)?).unwrap_or(u8::MAX)),
    };
    let retry = if flags & RETRIES == 0 { None } else { Some(decode_retry(rest)?) };
    let [auto_delete, dead_letters, single_active] =
        [AUTO_DELETE, HAS_DEAD_LETTERS, SINGLE_ACTIVE].map(|flag| flags & flag != 0);
    Ok(QueueOptions {
        logged: true,
        auto_delete,
        retention,
        limits,
        dead_letters,
        single_active,
        delivery_limit,
        max_priority,
        lease_millis: None,
        retry,
    })
}

pub(super) fn encode_delete(queue: QueueId, out: &mut BytesMut) {
    out.put_u8(DELETE);
    encode_varint(queue.0, out);
}

pub(super) fn encode_expire(queues: &[QueueId], expires: &[Moment], out: &mut BytesMut) {
    out.put_u8(EXPIRE);
    encode_queues(queues, out);
    encode_moments(expires, out);
}

pub(super) fn encode_delay(queues: &[QueueId], until: &[Moment], out: &mut BytesMut) {
    out.put_u8(DELAY);
    encode_queues(queues, out);
    encode_moments(until, out);
}

/// Splits a payload into messages and operations.
pub(super) fn split_payload(payload: &[u8]) -> Result<(&[u8], Operations<'_>), BatchFault> {
    let (rest, length) = payload.split_last_chunk::<4>().ok_or(BatchFault::TooShort)?;
    let length = u32::from_le_bytes(*length) as usize;
    let messages = rest.len().checked_sub(length).ok_or(BatchFault::TooShort)?;
    let (messages, operations) = rest.split_at(messages);
    Ok((messages, Operations::new(operations)))
}

/// The operations of a batch, one after the other.
#[derive(Debug)]
pub(super) struct Operations<'a> {
    all_bytes: usize,
    rest: &'a [u8],
}

impl<'a> Operations<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { all_bytes: bytes.len(), rest: bytes }
    }

    /// The next one; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Operation<'a>>, BatchFault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.all_bytes - self.rest.len();
        decode(&mut self.rest).map(Some).map_err(|fault| BatchFault::Operation { at, fault })
    }
}

/// Takes an operation off the front of some bytes, of which there are any.
fn decode<'a>(rest: &mut &'a [u8]) -> Result<Operation<'a>, OperationFault> {
    let operation = match rest.get_u8() {
        PUBLISH => {
            let exchange = text(rest)?;
            let routing_key = text(rest)?;
            let bytes = number(rest)? as usize;
            let mut segments = Vec::new();
            for _ in 0..number(rest)? {
                segments.push((number(rest)?, queues(rest)?));
            }
            Operation::Publish { exchange, routing_key, bytes, segments }
        }
        KEPT => {
            let (exchange, routing_key, bytes) = (text(rest)?, text(rest)?, number(rest)? as usize);
            let mut runs = Vec::new();
            let mut end = 0u64;
            for _ in 0..number(rest)? {
                let (gap, count, queues) = (number(rest)?, number(rest)?, queues(rest)?);
                let first = end.checked_add(gap);
                let bounds = first.and_then(|first| Some((first, first.checked_add(count)?)));
                let (first, run_end) = bounds.ok_or(OperationFault::RunOutOfRange)?;
                runs.push(KeptRun { first, count, queues });
                end = run_end;
            }
            Operation::Kept { exchange, routing_key, bytes, runs }
        }
        // Written by versions that did not tell reasons.
        SETTLE => Operation::Queue {
            queue: queue(rest)?,
            command: QueueCommand::Settle(Departure::Accepted, runs(rest)?),
        },
        kind @ (SETTLE_FOR | DEAD_LETTER) => {
            let code = rest.split_off_first().ok_or(OperationFault::ReasonMissing)?;
            let departure = Departure::of_code(*code).ok_or(OperationFault::UnknownReason(*code))?;
            let (queue, runs) = (queue(rest)?, runs(rest)?);
            let command = match kind {
                SETTLE_FOR => QueueCommand::Settle(departure, runs),
                _ => QueueCommand::DeadLetter(departure, runs),
            };
            Operation::Queue { queue, command }
        }
        REQUEUE => Operation::Queue { queue: queue(rest)?, command: QueueCommand::Requeue(runs(rest)?) },
        COUNTS => Operation::Queue { queue: queue(rest)?, command: QueueCommand::Counts(counts(rest)?) },
        MARK => Operation::Queue { queue: queue(rest)?, command: QueueCommand::DeliveryMark(number(rest)?) },
        FORGET => Operation::Queue { queue: queue(rest)?, command: QueueCommand::Forget(number(rest)?) },
        DECLARE => Operation::Declare { queue: queue(rest)?, options: decode_options(rest)? },
        DELETE => Operation::Delete { queue: queue(rest)? },
        EXPIRE => Operation::Expire { queues: queues(rest)?, expires: decode_moments(rest)? },
        DELAY => Operation::Delay { queues: queues(rest)?, until: decode_moments(rest)? },
        other => return Err(OperationFault::UnknownKind(other)),
    };
    Ok(operation)
}

pub(super) fn number(rest: &mut &[u8]) -> Result<u64, OperationFault> {
    decode_varint(rest).map_err(|_| OperationFault::Number)
}

fn queue(rest: &mut &[u8]) -> Result<QueueId, OperationFault> {
    number(rest).map(QueueId)
}

fn queues(rest: &mut &[u8]) -> Result<Vec<QueueId>, OperationFault> {
    let mut queues = Vec::new();
    for _ in 0..number(rest)? {
        queues.push(queue(rest)?);
    }
    Ok(queues)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, OperationFault> {
    let length = number(rest)? as usize;
    let (text, after) = rest.split_at_checked(length).ok_or(OperationFault::TextCutOff)?;
    *rest = after;
    std::str::from_utf8(text).map_err(|_| OperationFault::NoText)
}

fn runs(rest: &mut &[u8]) -> Result<SequenceRuns, OperationFault> {
    let mut runs = SequenceRuns::default();
    let mut end = 0u64;
    for _ in 0..number(rest)? {
        runs.push_run(run(rest, &mut end)?);
    }
    Ok(runs)
}

fn counts(rest: &mut &[u8]) -> Result<Vec<CountRun>, OperationFault> {
    let mut counts = Vec::new();
    let mut end = 0u64;
    for _ in 0..number(rest)? {
        let run = run(rest, &mut end)?;
        let count = number(rest)?;
        let count = u32::try_from(count).map_err(|_| OperationFault::CountTooHigh(count))?;
        counts.push(CountRun { run, count });
    }
    Ok(counts)
}

/// A run behind the one that ended at `end`.
fn run(rest: &mut &[u8], end: &mut u64) -> Result<SequenceRun, OperationFault> {
    let first = end.wrapping_add(number(rest)?);
    let count = number(rest)?;
    *end = first.checked_add(count).ok_or(OperationFault::RunOutOfRange)?;
    Ok(SequenceRun { first: BodySequence(first), count })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{ExchangeName, RoutingKey, Timestamp};

    fn runs_of(runs: &[(u64, u64)]) -> SequenceRuns {
        let mut all = SequenceRuns::default();
        runs.iter().for_each(|(first, count)| {
            all.push_run(SequenceRun { first: BodySequence(*first), count: *count })
        });
        all
    }

    #[test]
    fn operations_come_back_as_they_went() {
        let mut out = BytesMut::new();
        let origin = Origin {
            exchange: ExchangeName::new("logs").unwrap(),
            routing_key: RoutingKey::new("a.b").unwrap(),
        };
        let queues = [QueueId(7), QueueId(300)];
        encode_publish(&origin, 1234, [(3, &queues[..]), (1, &queues[..1])].into_iter(), &mut out);
        let settle = QueueCommand::Settle(Departure::Rejected, runs_of(&[(100, 5), (7, 1), (1 << 40, 2)]));
        encode_command(QueueId(7), &settle, &mut out);
        let dead = QueueCommand::DeadLetter(Departure::Expired, runs_of(&[(3, 4)]));
        encode_command(QueueId(7), &dead, &mut out);
        let counted = |first, count, times| CountRun {
            run: SequenceRun { first: BodySequence(first), count },
            count: times,
        };
        let counts =
            QueueCommand::Counts(vec![counted(90, 5, 1), counted(95, 1, u32::MAX), counted(3, 2, 7)]);
        encode_command(QueueId(7), &counts, &mut out);
        encode_command(QueueId(7), &QueueCommand::DeliveryMark(99), &mut out);
        encode_command(QueueId(7), &QueueCommand::Forget(100), &mut out);
        let retention = Some(Retention { age_millis: Some(60_000), messages: None, bytes: Some(1 << 40) });
        let overflow = Overflow::RejectPublishDlx;
        let limits = Limits { messages: Some(0), bytes: None, ttl_millis: Some(5_000), overflow };
        let options = QueueOptions {
            logged: true,
            auto_delete: true,
            retention,
            limits,
            dead_letters: true,
            single_active: true,
            delivery_limit: Some(0),
            max_priority: Some(255),
            lease_millis: None,
            retry: Some(Retry {
                on: RetryOn::Failed,
                min_millis: 500,
                max_millis: Some(0),
                multiplier: Some(2),
                jitter_percent: 20,
            }),
        };
        encode_declare(QueueId(8), options, &mut out);
        encode_delete(QueueId(300), &mut out);
        let expires = [(9, 1 << 40), (10, 1 << 39), (1 << 47, (1 << 40) + 1)];
        let expires = expires.map(|(sequence, at)| Moment { sequence, at: Timestamp(at) });
        encode_expire(&queues, &expires, &mut out);
        encode_delay(&queues, &expires, &mut out);

        let mut operations = Operations::new(&out);
        let publish = Operation::Publish {
            exchange: "logs",
            routing_key: "a.b",
            bytes: 1234,
            segments: vec![(3, queues.to_vec()), (1, vec![QueueId(7)])],
        };
        assert_eq!(operations.next().unwrap(), Some(publish));
        assert_eq!(operations.next().unwrap(), Some(Operation::Queue { queue: QueueId(7), command: settle }));
        assert_eq!(operations.next().unwrap(), Some(Operation::Queue { queue: QueueId(7), command: dead }));
        assert_eq!(operations.next().unwrap(), Some(Operation::Queue { queue: QueueId(7), command: counts }));
        let mark = QueueCommand::DeliveryMark(99);
        assert_eq!(operations.next().unwrap(), Some(Operation::Queue { queue: QueueId(7), command: mark }));
        let forget = QueueCommand::Forget(100);
        assert_eq!(operations.next().unwrap(), Some(Operation::Queue { queue: QueueId(7), command: forget }));
        let declare = Operation::Declare { queue: QueueId(8), options };
        assert_eq!(operations.next().unwrap(), Some(declare));
        assert_eq!(operations.next().unwrap(), Some(Operation::Delete { queue: QueueId(300) }));
        let expire = Operation::Expire { queues: queues.to_vec(), expires: expires.to_vec() };
        assert_eq!(operations.next().unwrap(), Some(expire));
        let delay = Operation::Delay { queues: queues.to_vec(), until: expires.to_vec() };
        assert_eq!(operations.next().unwrap(), Some(delay));
        assert_eq!(operations.next().unwrap(), None);
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        for bytes in [
            &[9u8][..],
            &[1, 200],
            &[2, 1, 5, 1],
            &[1, 1, 0xff, 0, 0, 0],
            &[3, 1, 1, 0xff, 0xff],
            &[9, 1, 4],
            &[9, 1, 2, 5],
            &[12, 1, 4],
            &[12, 1, 4, 1],
            &[12, 1, 4, 2, 9, 5, 0],
            &[12, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0],
            &[13, 1, 4, 1],
            &[9, 1, 0x80, 4, 3, 1, 1, 1, 1],
            &[9, 1, 0x80, 4, 1, 1, 1, 1],
            &[12, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 1],
        ] {
            assert!(Operations::new(bytes).next().is_err(), "{bytes:?}");
        }
        assert!(split_payload(&[1, 2]).is_err());
        assert!(split_payload(&[9, 0, 0, 0]).is_err());
    }
}
