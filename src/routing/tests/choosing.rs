//! Exchanges that give each message to one of their bindings.

use super::*;

const CHOOSING: [ExchangeKind; 3] =
    [ExchangeKind::ConsistentHash, ExchangeKind::ModulusHash, ExchangeKind::Random];

/// An exchange "x" with queues from 1 to this many; keys that are weights to those that weigh.
fn spread(kind: ExchangeKind, queues: u64) -> Scenario {
    (1..=queues).fold(Scenario::new().exchange("x", kind), |scenario, queue| {
        scenario.bound("x", "1", &format!("q{queue}"))
    })
}

impl Scenario {
    /// The one queue that a message reaches.
    #[track_caller]
    fn reached(&mut self, key: &str) -> u64 {
        let no_headers: Option<&FieldTable> = None;
        assert_eq!(self.table.route("x", key, &mut { no_headers }, &mut self.routed), Ok(()));
        let [queue] = self.routed.queues() else { panic!("not one queue: {:?}", self.routed) };
        queue.id.0
    }

    /// What is explained of the message that was routed last.
    fn explained(&self, key: &str) -> Explanation {
        let message = ExplainedMessage { chance: self.routed.chance(), ..ExplainedMessage::default() };
        self.table.explain("x", key, &message).unwrap()
    }
}

#[test]
fn each_message_reaches_one_queue_and_all_have_their_share() {
    for kind in CHOOSING {
        let mut scenario = spread(kind, 4);
        let mut counts = [0; 5];
        for number in 0..8_000 {
            counts[scenario.reached(&format!("key-{number}")) as usize] += 1;
        }
        assert!(counts[1..].iter().all(|count| (1_750..2_250).contains(count)), "{kind}: {counts:?}");
    }
}

#[test]
fn a_key_keeps_its_queue_unless_chance_decides() {
    for kind in CHOOSING {
        let mut scenario = spread(kind, 4);
        let reached: Vec<u64> = (0..100).map(|_| scenario.reached("one.key")).collect();
        let all_same = reached.iter().all(|queue| *queue == reached[0]);
        assert_eq!(all_same, kind != ExchangeKind::Random);
        assert_eq!(scenario.routed.is_keyed(), kind != ExchangeKind::Random);
        let mut again = spread(kind, 4);
        assert_eq!(again.reached("one.key"), reached[0], "the same after a restart");
        again.routed = Routed::with_chance(12_345);
        let others: Vec<u64> = (0..100).map(|_| again.reached("one.key")).collect();
        assert_eq!(others == reached, kind != ExchangeKind::Random);
    }
}

#[test]
fn without_bindings_the_alternate_exchange_is_used() {
    for kind in CHOOSING {
        let with_alternate = ExchangeDefinition { arguments: alternate("rest"), ..definition("x", kind) };
        let mut scenario = Scenario::new().defined(with_alternate).exchange("rest", ExchangeKind::Fanout);
        scenario = scenario.bound("rest", "", "q9");
        scenario.check("x", "k", &[9]);
        scenario = scenario.bound("x", "1", "q1");
        scenario.check("x", "k", &[1]);
        scenario.table.unbind(&binding("x", "1", "q1")).unwrap();
        scenario.check("x", "k", &[9]);
        scenario = scenario.bound("x", "1", "q1");
        scenario.table.remove_queue("q1").unwrap();
        scenario.check("x", "k", &[9]);
    }
}

#[test]
fn exchanges_are_chosen_as_queues_are() {
    for kind in CHOOSING {
        let mut scenario = Scenario::new()
            .exchange("x", kind)
            .exchange("left", ExchangeKind::Fanout)
            .exchange("right", ExchangeKind::Fanout)
            .bound("x", "1", "left")
            .bound("x", "1", "right")
            .bound("left", "", "q1")
            .bound("right", "", "q2");
        let mut counts = [0; 3];
        (0..1_000).for_each(|number| counts[scenario.reached(&number.to_string()) as usize] += 1);
        assert!(counts[1] > 350 && counts[2] > 350, "{kind}: {counts:?}");
        // With one of them gone, the other gets all.
        scenario.table.remove_exchange("left").unwrap();
        (0..50).for_each(|number| assert_eq!(scenario.reached(&number.to_string()), 2));
    }
}

#[test]
fn several_exchanges_on_one_way_choose_each_for_itself() {
    for kind in CHOOSING {
        let mut scenario = Scenario::new().exchange("x", ExchangeKind::Fanout);
        for exchange in ["one", "two"] {
            scenario = scenario.exchange(exchange, kind).bound("x", "", exchange);
        }
        for (exchange, queues) in [("one", 1..=2), ("two", 3..=4)] {
            for queue in queues {
                scenario = scenario.bound(exchange, "1", &format!("q{queue}"));
            }
        }
        let mut pairs = std::collections::BTreeSet::new();
        for number in 0..200 {
            let no_headers: Option<&FieldTable> = None;
            let key = number.to_string();
            scenario.table.route("x", &key, &mut { no_headers }, &mut scenario.routed).unwrap();
            let ids: Vec<u64> = scenario.routed.queues().iter().map(|queue| queue.id.0).collect();
            let names: Vec<String> =
                scenario.explained(&key).queues.iter().map(ToString::to_string).collect();
            assert_eq!(ids.iter().map(|id| format!("q{id}")).collect::<Vec<_>>(), names, "{kind}");
            pairs.insert(ids);
        }
        // The same hash modulo the same number is the same place in both; the others do not go by that alone.
        assert_eq!(pairs.len(), if kind == ExchangeKind::ModulusHash { 2 } else { 4 }, "{kind}: {pairs:?}");
    }
}

#[test]
fn explanations_name_the_queue_that_gets_it_whatever_is_bound() {
    for kind in CHOOSING {
        let mut scenario = spread(kind, 6);
        // Weights, a second binding of one queue, one that goes and one whose queue goes.
        scenario = scenario.bound("x", "5", "q7").bound("x", "2", "q3");
        scenario.table.unbind(&binding("x", "1", "q2")).unwrap();
        scenario.table.remove_queue("q5").unwrap();
        scenario.queue(6, 3);
        for number in 0..500 {
            let key = format!("key.{number}");
            let reached = format!("q{}", scenario.reached(&key));
            let explanation = scenario.explained(&key);
            assert_eq!(
                explanation.queues.iter().map(|queue| &**queue).collect::<Vec<_>>(),
                [&reached],
                "{kind}"
            );
            let matched = explanation.exchanges[0].bindings.iter().filter(|binding| binding.matched);
            assert!(matched.clone().all(|explained| explained.binding.destination.name() == reached));
            assert!(matched.count() > 0);
        }
        for queue in [1, 3, 4, 6, 7] {
            scenario.table.remove_queue(&format!("q{queue}")).unwrap();
        }
        scenario.check("x", "k", &[]);
        assert!(scenario.table.exchange("x").unwrap().bindings_count() == 0);
    }
}

#[test]
fn reasons_name_what_was_chosen_and_why() {
    let reasons = |kind, key: &str, message: &ExplainedMessage<'_>| -> Vec<String> {
        let explanation = spread(kind, 2).table.explain("x", key, message).unwrap();
        explanation.exchanges[0].bindings.iter().map(|binding| binding.reason.clone()).collect()
    };
    let plain = ExplainedMessage::default();
    let chosen = spread(ExchangeKind::ConsistentHash, 2).reached("a");
    let mut expected = vec![format!("the hash of the routing key chooses queue `q{chosen}`"); 2];
    expected[chosen as usize - 1].push_str(", with weight 1 of 2");
    assert_eq!(reasons(ExchangeKind::ConsistentHash, "a", &plain), expected);

    let chosen = spread(ExchangeKind::ModulusHash, 2).reached("a");
    let other = 3 - chosen;
    let mut expected = vec![format!("the hash of the routing key chooses binding {chosen} of 2: this one")];
    expected.insert(
        usize::from(chosen == 1),
        format!("the hash of the routing key chooses binding {chosen} of 2, this is binding {other}"),
    );
    assert_eq!(reasons(ExchangeKind::ModulusHash, "a", &plain), expected);

    let any = "each message goes to one of 2 bindings, chosen by chance: it may be this one";
    assert_eq!(reasons(ExchangeKind::Random, "a", &plain), [any, any]);
    let drawn = ExplainedMessage { chance: Some(0), ..ExplainedMessage::default() };
    let told = reasons(ExchangeKind::Random, "a", &drawn);
    assert_eq!(told.iter().filter(|reason| reason.ends_with(" of 2: this one")).count(), 1, "{told:?}");
}

#[test]
fn whoever_asks_for_any_chance_gets_all_that_may_be_chosen() {
    let mut scenario = spread(ExchangeKind::Random, 3);
    scenario.routed = Routed::for_any_chance();
    scenario.check("x", "k", &[1, 2, 3]);
    assert_eq!(scenario.routed.chance(), None);
}

#[test]
fn headers_are_looked_at_only_if_they_are_hashed() {
    let mut routed = Routed::default();
    let mut never = LazyHeaders::new(|| panic!("no exchange here hashes a header"));
    for kind in CHOOSING {
        assert_eq!(spread(kind, 2).table.route("x", "k", &mut never, &mut routed), Ok(()));
    }
    let arguments = FieldTable::from([("hash-header", FieldValue::from("user"))]);
    let by_header = ExchangeDefinition { arguments, ..definition("x", ExchangeKind::ConsistentHash) };
    let scenario = Scenario::new().defined(by_header).bound("x", "1", "q1").bound("x", "1", "q2");
    let unreadable = || Box::new(Refusal::new(ReplyCode::SyntaxError, "the headers are no table"));
    let mut broken = LazyHeaders::new(|| Err(unreadable()));
    let error = scenario.table.route("x", "k", &mut broken, &mut routed);
    assert_eq!(error, Err(RouteError::Headers(unreadable())));
    let explanation = scenario.table.explain("x", "k", &ExplainedMessage::default()).unwrap();
    let reason = &explanation.exchanges[0].bindings[0].reason;
    assert!(
        reason
            .starts_with("the hash of the header `user`, which the message does not have, chooses queue `q"),
        "{reason}"
    );
}
