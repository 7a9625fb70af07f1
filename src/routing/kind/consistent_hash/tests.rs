#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::{ExchangeName, QueueId, QueueName, RoutingKey, ShardId};
use crate::routing::QueueTarget;

const KEYS: usize = 20_000;

fn binding(queue: u64, weight: u64) -> Binding {
    Binding {
        source: ExchangeName::new("source").unwrap(),
        destination: Destination::Queue(QueueName::new(&format!("queue-{queue}")).unwrap()),
        key: RoutingKey::new(&weight.to_string()).unwrap(),
        arguments: FieldTable::default(),
    }
}

fn target(queue: u64) -> Target {
    Target::Queue(QueueTarget { id: QueueId(queue), shard: ShardId(0) })
}

/// Queues with their weights.
fn index(queues: &[(u64, u64)]) -> Index {
    let mut index = Index::new(&FieldTable::default());
    for (queue, weight) in queues {
        index.insert(&binding(*queue, *weight), target(*queue));
    }
    index
}

fn chosen(index: &Index, key: &str) -> u64 {
    let mut routed = Routed::default();
    let no_headers: Option<&FieldTable> = None;
    index.route(key, &mut { no_headers }, &mut routed).unwrap();
    let [queue] = routed.queues() else { panic!("one queue and no other gets it: {routed:?}") };
    queue.id.0
}

/// The queue of each of many keys.
fn all(index: &Index) -> Vec<u64> {
    (0..KEYS).map(|number| chosen(index, &format!("order.{number}"))).collect()
}

/// How many keys a queue has.
fn share(chosen: &[u64], queue: u64) -> usize {
    chosen.iter().filter(|other| **other == queue).count()
}

/// Far more than chance does to a share of so many keys.
#[track_caller]
fn about(is: usize, expected: usize) {
    let bound = 6.0 * (expected as f64).sqrt();
    assert!((is as f64 - expected as f64).abs() < bound, "{is} keys, {expected} expected");
}

#[test]
fn keys_are_spread_evenly() {
    let queues: Vec<(u64, u64)> = (0..10).map(|queue| (queue, 1)).collect();
    let chosen = all(&index(&queues));
    (0..10).for_each(|queue| about(share(&chosen, queue), KEYS / 10));
}

#[test]
fn weights_say_how_many_keys_a_queue_has() {
    for scale in [1, 1_000] {
        let chosen = all(&index(&[(1, scale), (2, 2 * scale), (3, 7 * scale)]));
        about(share(&chosen, 1), KEYS / 10);
        about(share(&chosen, 2), KEYS / 5);
        about(share(&chosen, 3), KEYS * 7 / 10);
    }
}

#[test]
fn a_queue_that_is_added_takes_its_share_and_nothing_else_moves() {
    let mut queues: Vec<(u64, u64)> = (0..9).map(|queue| (queue, 1)).collect();
    let before = all(&index(&queues));
    queues.push((9, 1));
    let after = all(&index(&queues));
    let moved: Vec<u64> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(_, after)| *after)
        .collect();
    assert!(moved.iter().all(|queue| *queue == 9), "keys moved between queues that were there before");
    about(moved.len(), KEYS / 10);
}

#[test]
fn a_queue_that_is_removed_gives_its_keys_and_nothing_else_moves() {
    let mut index = index(&[(1, 1), (2, 3), (3, 1)]);
    let before = all(&index);
    index.remove(&binding(2, 3));
    let after = all(&index);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || *before == 2);
        assert_ne!(*after, 2);
    }
    index.insert(&binding(2, 3), target(2));
    assert_eq!(all(&index), before, "with the queue back, all is as it was");
}

#[test]
fn the_order_of_bindings_does_not_count_and_several_of_one_queue_add_up() {
    let one = all(&index(&[(1, 2), (2, 5), (3, 1)]));
    assert_eq!(all(&index(&[(3, 1), (1, 2), (2, 5)])), one);
    let mut parts = index(&[(2, 2), (1, 2), (2, 3), (3, 1)]);
    assert_eq!(all(&parts), one);
    parts.remove(&binding(2, 2));
    assert_eq!(all(&parts), all(&index(&[(1, 2), (2, 3), (3, 1)])));
    parts.remove(&binding(2, 3));
    parts.remove(&binding(1, 2));
    parts.remove(&binding(3, 1));
    let mut routed = Routed::default();
    let no_headers: Option<&FieldTable> = None;
    parts.route("k", &mut { no_headers }, &mut routed).unwrap();
    assert!(!routed.has_matched());
}

/// Where keys go is a promise to all who keep them: a change of these queues is a change of every broker's routes.
#[test]
fn keys_keep_their_queues_in_every_version() {
    let index = index(&[(1, 1), (2, 2), (3, 3)]);
    let chosen: Vec<u64> = ["", "a", "b", "order.1", "order.2", "order.3", "ä"]
        .into_iter()
        .map(|key| chosen(&index, key))
        .collect();
    assert_eq!(chosen, [2, 3, 3, 1, 3, 3, 2]);
}

#[test]
fn a_logarithm_is_one() {
    for number in [0.5, 0.25, 0.75, 1e-16, 0.999_999_9, 0.333_333, 1.0, 1.0 / (1_u64 << 54) as f64] {
        let (own, real) = (logarithm(number), f64::ln(number));
        assert!((own - real).abs() <= 1e-14 * real.abs().max(1.0), "ln {number} = {own}, not {real}");
    }
}

#[test]
fn what_is_hashed_may_be_a_header_or_a_property() {
    struct Message(Option<FieldTable>, HashedProperties);
    impl MessageHeaders for Message {
        fn headers(&mut self) -> Result<Option<&FieldTable>, Box<Refusal>> {
            Ok(self.0.as_ref())
        }
        fn properties(&mut self) -> Result<HashedProperties, Box<Refusal>> {
            Ok(self.1.clone())
        }
    }
    let with = |name: &str, value: &str| {
        let mut index = Index::new(&FieldTable::from([(name, FieldValue::from(value))]));
        (0..4).for_each(|queue| index.insert(&binding(queue, 1), target(queue)));
        index
    };
    let plain = index(&[(0, 1), (1, 1), (2, 1), (3, 1)]);
    let chosen_for = |index: &Index, key: &str, message: &mut Message| {
        let mut routed = Routed::default();
        index.route(key, message, &mut routed).unwrap();
        assert!(!routed.is_keyed());
        routed.queues()[0].id.0
    };
    let by_header = with(HASH_HEADER, "user");
    let by_id = with(HASH_PROPERTY, "message_id");
    let by_correlation = with(HASH_PROPERTY, "correlation_id");
    let by_time = with(HASH_PROPERTY, "timestamp");
    for number in 0..50_u64 {
        // A text is hashed as a routing key is.
        let text = format!("user-{number}");
        let expected = chosen(&plain, &text);
        let headers = FieldTable::from([("user", FieldValue::from(&*text))]);
        let mut message = Message(Some(headers), HashedProperties::default());
        assert_eq!(chosen_for(&by_header, &number.to_string(), &mut message), expected);
        let properties = HashedProperties {
            message_id: Some(text.clone()),
            correlation_id: Some(text),
            timestamp_ms: Some(number),
        };
        let mut message = Message(None, properties);
        assert_eq!(chosen_for(&by_id, &number.to_string(), &mut message), expected);
        assert_eq!(chosen_for(&by_correlation, &number.to_string(), &mut message), expected);
        assert_eq!(chosen_for(&by_time, "k", &mut message), chosen(&plain, &number.to_string()));
    }
    // Those that do not have it stay together.
    let without = || Message(None, HashedProperties::default());
    for index in [&by_header, &by_id, &by_correlation, &by_time] {
        let first = chosen_for(index, "a", &mut without());
        assert_eq!(first, chosen_for(index, "b", &mut without()));
    }
}
