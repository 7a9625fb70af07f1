//! Batches that pass their checksums and that no shard wrote.

use bytes::{BufMut, Bytes, BytesMut};

use super::driver::run_of;
use crate::model::{BodySequence, ExchangeName, QueueId, RoutingKey, ShardId, Timestamp};
use crate::queue::{Departure, QueueCommand, SequenceRun, SequenceRuns};
use crate::shard::fault::{BatchFault, OperationFault};
use crate::shard::moments::Moment;
use crate::shard::operation::{encode_command, encode_expire, encode_publish};
use crate::shard::{Mailbox, Origin, Shard, ShardOptions};
use crate::storage::{LogIndex, RecoveredBatch};
use proptest::prelude::*;

const Q: QueueId = QueueId(1);

fn origin() -> Origin {
    Origin { exchange: ExchangeName::new("x").unwrap(), routing_key: RoutingKey::new("k").unwrap() }
}

fn batch(first_body: u64, bodies: u32, messages: &[u8], operations: &[u8]) -> RecoveredBatch {
    let mut payload = BytesMut::from(messages);
    payload.put_slice(operations);
    payload.put_u32_le(operations.len() as u32);
    let first_body = BodySequence(first_body);
    let recorded_at = Timestamp(0);
    RecoveredBatch { index: LogIndex(1), first_body, bodies, recorded_at, payload: payload.freeze() }
}

fn replay(batch: &RecoveredBatch) -> Result<(), BatchFault> {
    let mut shard = Shard::new(
        ShardOptions {
            id: ShardId(0),
            resident_bytes_max: 0,
            segment_bytes: 8192,
            checkpoint_bytes: 0,
            lease_millis: None,
        },
        Mailbox::default().into(),
    );
    shard.replay_batch(batch)
}

/// So many messages, and their queues.
type Part<'a> = (u64, &'a [QueueId]);

/// A publish of two messages that says so many bytes and segments.
fn publish(bytes: usize, segments: &[Part<'_>]) -> (Bytes, BytesMut) {
    let mut operations = BytesMut::new();
    encode_publish(&origin(), bytes, segments.iter().copied(), &mut operations);
    (run_of(&[1, 2], 0).bytes().clone(), operations)
}

#[test]
fn a_good_batch_is_taken() {
    let (messages, operations) = publish(20, &[(2, &[Q])]);
    assert_eq!(replay(&batch(1, 2, &messages, &operations)), Ok(()));
}

#[test]
fn numbers_that_cannot_be_are_errors() {
    let cases: [(u64, u32, usize, &[Part<'_>]); 9] = [
        (1, 2, usize::MAX, &[(2, &[Q])]),
        (1, 2, 21, &[(2, &[Q])]),
        (1, 2, 20, &[(u64::MAX, &[Q])]),
        (1, 2, 20, &[(1, &[Q]), (u64::MAX, &[Q])]),
        (1, 2, 20, &[(1, &[Q])]),
        (1, 2, 20, &[(2, &[Q, Q])]),
        (1, 3, 20, &[(2, &[Q])]),
        (0, 2, 20, &[(2, &[Q])]),
        (u64::MAX - 1, 2, 20, &[(2, &[Q])]),
    ];
    for (first_body, bodies, bytes, segments) in cases {
        let (messages, operations) = publish(bytes, segments);
        let result = replay(&batch(first_body, bodies, &messages, &operations));
        assert!(result.is_err(), "{first_body} {bodies} {bytes} {segments:?}");
    }
    let (messages, operations) = publish(20, &[(2, &[Q])]);
    assert!(replay(&batch((1 << 48) - 2, 1, &messages, &operations)).is_err(), "more messages than it says");
}

#[test]
fn settling_what_never_was_is_an_error_and_no_endless_loop() {
    let mut runs = SequenceRuns::default();
    runs.push_run(SequenceRun { first: BodySequence(1), count: u64::MAX - 1 });
    for command in [QueueCommand::Settle(Departure::Accepted, runs.clone()), QueueCommand::Requeue(runs)] {
        let mut operations = BytesMut::new();
        encode_command(Q, &command, &mut operations);
        assert!(replay(&batch(1, 0, &[], &operations)).is_err());
    }
}

#[test]
fn what_expires_was_there_before() {
    let expire = |sequences: &[u64]| {
        let (messages, mut operations) = publish(20, &[(2, &[Q])]);
        let expires =
            sequences.iter().map(|sequence| Moment { sequence: *sequence, at: Timestamp(u64::MAX) });
        encode_expire(&[Q, Q, QueueId(2)], &expires.collect::<Vec<_>>(), &mut operations);
        replay(&batch(1, 2, &messages, &operations))
    };
    assert_eq!(expire(&[0, 1, 2]), Ok(()), "twice, and in a queue that is not there: that is nothing");
    assert_eq!(expire(&[2, 3]), Err(BatchFault::TimeAhead { sequence: 3, next: 3 }));
    assert!(expire(&[u64::MAX - 1]).is_err());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let (messages, mut operations) = publish(20, &[(2, &[Q])]);
    let at = operations.len();
    operations.put_slice(&[99]);
    let fault = replay(&batch(1, 2, &messages, &operations)).unwrap_err();
    assert_eq!(fault, BatchFault::Operation { at, fault: OperationFault::UnknownKind(99) });
    let told = format!("at byte {at} of its operations, operation kind 99 is unknown");
    assert_eq!(fault.to_string(), told);
    let (messages, operations) = publish(20, &[(1, &[Q]), (u64::MAX, &[Q])]);
    let fault = replay(&batch(1, 2, &messages, &operations)).unwrap_err();
    assert_eq!(fault, BatchFault::PublishMessages { holds: 2, says: u64::MAX });
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(
        first_body: u64,
        bodies in 0u32..4,
        garbage in prop::collection::vec(any::<u8>(), 0..40),
        place in any::<prop::sample::Index>(),
    ) {
        let _ = replay(&batch(first_body, bodies, &[], &garbage));
        let (messages, mut operations) = publish(20, &[(2, &[Q])]);
        encode_command(Q, &QueueCommand::DeliveryMark(u64::MAX), &mut operations);
        encode_expire(&[Q], &[Moment { sequence: 2, at: Timestamp(1 << 40) }], &mut operations);
        let place = place.index(operations.len());
        let end = (place + garbage.len()).min(operations.len());
        operations[place..end].copy_from_slice(&garbage[..end - place]);
        let _ = replay(&batch(1, 2, &messages, &operations));
    }
}
