//! Order, room and what is told, step by step and against an ordered map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn filled(count: u64) -> Backlog {
    let mut backlog = Backlog::default();
    (0..count).for_each(|_| push(&mut backlog));
    backlog
}

fn push(backlog: &mut Backlog) {
    assert_eq!(backlog.extend(BodySequence(backlog.last_sequence + 1), std::iter::once(10)), 1);
}

fn remove(backlog: &mut Backlog, sequence: u64) -> bool {
    let mut removed = Vec::new();
    backlog.remove(sequence..sequence + 1, |_, _| (), |run| removed.push(run));
    assert!(removed.iter().all(|run| (run.first.0, run.count) == (sequence, 1)), "{removed:?}");
    removed.len() == 1
}

fn take(backlog: &mut Backlog) -> Option<u64> {
    let next = backlog.peek()?.sequence();
    assert_eq!(backlog.advance(1, u64::MAX, u64::MAX).0.len(), 1);
    Some(next)
}

#[test]
fn a_sequence_that_no_message_has_is_not_there() {
    let mut backlog = filled(1);
    assert!(remove(&mut backlog, 1));
    for sequence in 0..3 {
        assert_eq!(backlog.get(sequence), None, "{sequence}");
        assert!(!remove(&mut backlog, sequence), "{sequence}");
    }
}

#[test]
fn hands_out_in_order_across_chunks() {
    let mut backlog = filled(10_000);
    for sequence in 1..=10_000 {
        assert_eq!(take(&mut backlog), Some(sequence));
    }
    assert_eq!(take(&mut backlog), None);
    push(&mut backlog);
    assert_eq!(take(&mut backlog), Some(10_001));
}

#[test]
fn removal_in_any_order_frees_whole_chunks() {
    let mut backlog = filled(3 * CHUNK_MESSAGES as u64);
    for sequence in (2..=3 * CHUNK_MESSAGES as u64).rev() {
        assert!(remove(&mut backlog, sequence), "{sequence}");
        assert!(!remove(&mut backlog, sequence), "{sequence} twice");
    }
    assert_eq!((backlog.live(), backlog.live_bytes()), (1, 10));
    assert_eq!(take(&mut backlog), Some(1));
    assert!(!backlog.handed_out(2) || backlog.peek().is_none());
    assert!(remove(&mut backlog, 1));
    assert_eq!((backlog.live(), backlog.chunks.len()), (0, 1));
}

#[test]
fn one_message_that_stays_does_not_pin_those_after_it() {
    let chunks = 40;
    let mut backlog = filled(chunks * CHUNK_MESSAGES as u64);
    (0..100).for_each(|_| assert!(take(&mut backlog).is_some()));
    for sequence in 2..=chunks * CHUNK_MESSAGES as u64 {
        // One in a thousand stays.
        if sequence % 1000 != 0 {
            assert!(remove(&mut backlog, sequence));
        }
    }
    let room: usize = backlog.chunks.iter().map(|chunk| chunk.open().len()).sum();
    assert!(room <= 2 * CHUNK_MESSAGES + chunks as usize * SHRINK_MESSAGES_MIN, "{room}");
    assert_eq!(take(&mut backlog), Some(1000));
    for sequence in (2..=backlog.last_sequence / 1000).rev().map(|n| n * 1000) {
        assert!(remove(&mut backlog, sequence));
    }
    assert_eq!(backlog.chunks.len(), 2, "the first and the last");
    push(&mut backlog);
    assert_eq!(take(&mut backlog), Some(backlog.last_sequence));
    assert!(remove(&mut backlog, 1));
    assert_eq!(backlog.live_messages().count() as u64, backlog.live());
}

/// More chunks than are kept open.
const MANY: u64 = (OPEN_CHUNKS_MAX as u64 + 20) * CHUNK_MESSAGES as u64;

fn check_open(backlog: &Backlog) {
    let open = backlog.chunks.iter().filter(|chunk| matches!(chunk.messages, Messages::Open(_))).count();
    assert_eq!(open, backlog.open);
    assert!(open <= OPEN_CHUNKS_MAX + 4, "{open} chunks are open");
}

#[test]
fn a_long_backlog_is_packed_and_comes_back_in_order() {
    let mut backlog = filled(MANY);
    check_open(&backlog);
    assert_eq!(backlog.waiting().count() as u64, MANY);
    for sequence in 1..=MANY {
        assert_eq!(take(&mut backlog), Some(sequence));
        if sequence % 3 != 0 {
            assert!(remove(&mut backlog, sequence));
        }
    }
    check_open(&backlog);
    assert_eq!((backlog.live(), backlog.live_bytes()), (MANY / 3, MANY / 3 * 10));
    assert!(backlog.handed_out(MANY / 3 * 3));
    assert!(backlog.live_messages().map(MessageRef::sequence).eq((1..=MANY / 3).map(|n| n * 3)));
    // In an order that has every chunk opened again and again.
    for start in 1..=40 {
        for sequence in (start..=MANY).step_by(CHUNK_MESSAGES).filter(|sequence| sequence % 3 == 0) {
            assert!(backlog.get(sequence).is_some());
            assert!(remove(&mut backlog, sequence));
            assert!(!remove(&mut backlog, sequence));
        }
        check_open(&backlog);
    }
    let rest: Vec<_> = backlog.live_messages().map(MessageRef::sequence).collect();
    rest.into_iter().for_each(|sequence| assert!(remove(&mut backlog, sequence)));
    assert_eq!((backlog.live(), backlog.live_bytes()), (0, 0));
}

#[test]
fn what_is_written_for_a_checkpoint_is_the_same_backlog() {
    let mut backlog = filled(MANY);
    (0..5000).for_each(|_| assert!(take(&mut backlog).is_some()));
    (1..=MANY).filter(|sequence| sequence % 5 == 1 || *sequence < 4200).for_each(|sequence| {
        assert!(remove(&mut backlog, sequence));
    });
    let mut bytes = Vec::new();
    backlog.encode(&mut bytes);
    let mut seen = Vec::new();
    let mut restored = Backlog::decode(&mut &bytes[..], |sequence| seen.push(sequence)).unwrap();
    assert!(backlog.live_messages().eq(restored.live_messages()));
    assert!(seen.into_iter().eq(restored.live_messages().map(MessageRef::sequence)));
    assert_eq!((restored.live(), restored.live_bytes()), (backlog.live(), backlog.live_bytes()));
    assert_eq!(restored.last_sequence(), MANY);
    assert_eq!(take(&mut restored), Some(4200), "nothing was handed out");
    push(&mut restored);
    assert_eq!(restored.live_messages().last().unwrap().sequence(), MANY + 1);
    check_open(&restored);
    for length in 0..bytes.len().min(100) {
        assert!(Backlog::decode(&mut &bytes[..length], |_| ()).is_err());
    }
}

#[test]
fn bytes_are_exact_whatever_becomes_of_the_chunks() {
    let size = |sequence: u64| match sequence % 5 {
        0 => 16_384 + (sequence % 40_000) as u32,
        // Chunks that have no large message from some point on.
        1 if sequence < MANY / 2 => 5_000_000 + sequence as u32,
        _ => (sequence % 16_384) as u32,
    };
    let mut backlog = Backlog::default();
    assert_eq!(backlog.extend(BodySequence(1), (1..=MANY).map(size)), MANY);
    let bytes = |backlog: &Backlog| -> u64 {
        backlog.live_messages().map(|message| u64::from(size(message.sequence()))).sum()
    };
    assert_eq!(backlog.live_bytes(), bytes(&backlog));
    for start in 1..=7 {
        for sequence in (start..=MANY).step_by(7).filter(|sequence| sequence % 11 != 0) {
            assert!(remove(&mut backlog, sequence));
        }
        assert_eq!(backlog.live_bytes(), bytes(&backlog));
        let mut written = Vec::new();
        backlog.encode(&mut written);
        let restored = Backlog::decode(&mut &written[..], |_| ()).unwrap();
        assert_eq!(restored.live_bytes(), backlog.live_bytes());
        // Goes on with what was restored every other time.
        if start % 2 == 0 {
            backlog = restored;
        }
    }
    let rest: Vec<_> = backlog.live_messages().map(MessageRef::sequence).collect();
    rest.into_iter().for_each(|sequence| assert!(remove(&mut backlog, sequence)));
    assert_eq!((backlog.live(), backlog.live_bytes()), (0, 0));
}

#[test]
fn cursor_skips_what_left_before_it_was_handed_out() {
    let mut backlog = filled(6);
    for sequence in [1, 2, 4] {
        assert!(remove(&mut backlog, sequence));
    }
    assert_eq!([take(&mut backlog), take(&mut backlog)], [Some(3), Some(5)]);
    assert_eq!(backlog.waiting().map(|message| message.sequence()).collect::<Vec<_>>(), [6]);
    assert!(backlog.handed_out(5) && !backlog.handed_out(6));
}

#[test]
fn chunk_freed_behind_the_cursor_keeps_order() {
    let mut backlog = filled(CHUNK_MESSAGES as u64 + 2);
    for sequence in 1..=CHUNK_MESSAGES as u64 {
        assert_eq!(take(&mut backlog), Some(sequence));
        assert!(remove(&mut backlog, sequence));
    }
    assert_eq!(take(&mut backlog), Some(CHUNK_MESSAGES as u64 + 1));
}

#[derive(Debug, Clone)]
enum Step {
    Extend { gap: u64, count: u64 },
    Advance { count: u64, bytes: u64 },
    Remove { first: u64, count: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..4u64, 1..9000u64).prop_map(|(gap, count)| Step::Extend { gap, count }),
        (1..6000u64, 1..100_000u64).prop_map(|(count, bytes)| Step::Advance { count, bytes }),
        (0..30_000u64, 1..9000u64).prop_map(|(first, count)| Step::Remove { first, count }),
        (0..30_000u64).prop_map(|first| Step::Remove { first, count: 1 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_an_ordered_map_with_a_cursor(steps in prop::collection::vec(step(), 1..20)) {
        let (mut backlog, mut model, mut cursor) = (Backlog::default(), BTreeMap::<u64, u64>::new(), 0);
        for step in steps {
            match step {
                Step::Extend { gap, count } => {
                    let first = backlog.last_sequence() + gap;
                    let sizes = (0..count).map(|number| 1 + (first + number) as u32 % 3);
                    prop_assert_eq!(backlog.extend(BodySequence(first), sizes), count);
                    model.extend((first..first + count).map(|sequence| (sequence, 1 + sequence % 3)));
                }
                Step::Advance { count, bytes } => {
                    let next = model.range(cursor..).next().map(|(sequence, _)| *sequence);
                    prop_assert_eq!(backlog.peek().map(MessageRef::sequence), next);
                    let Some(next) = next else { continue };
                    let (messages, got) = backlog.advance(count, u64::MAX, bytes);
                    let sequences: Vec<u64> = messages.iter().map(|message| message.sequence()).collect();
                    // As many as follow each other, fit, and are in one chunk.
                    cursor = next + sequences.len() as u64;
                    prop_assert!((1..=count).contains(&(sequences.len() as u64)));
                    prop_assert!(sequences.iter().copied().eq(next..cursor));
                    let expected: u64 = model.range(next..cursor).map(|(_, size)| size).sum();
                    prop_assert_eq!(got, expected);
                    prop_assert_eq!(model.range(next..cursor).count(), sequences.len());
                    let before_last: u64 = model.range(next..cursor - 1).map(|(_, size)| size).sum();
                    prop_assert!(sequences.len() == 1 || before_last < bytes);
                }
                Step::Remove { first, count } => {
                    let mut removed = Vec::new();
                    backlog.remove(first..first + count, |_, _| (), |run| removed.extend(run.sequences()));
                    let expected: Vec<u64> = model.range(first..first + count).map(|(sequence, _)| *sequence).collect();
                    prop_assert_eq!(removed, expected);
                    model.retain(|sequence, _| !(first..first + count).contains(sequence));
                }
            }
            prop_assert_eq!((backlog.live(), backlog.live_bytes()), (model.len() as u64, model.values().sum()));
            prop_assert!(backlog.live_messages().map(MessageRef::sequence).eq(model.keys().copied()));
        }
    }
}
