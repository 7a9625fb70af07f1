//! Scenarios: exchanges, queues and bindings of one virtual host, told in their names.

#![allow(clippy::unwrap_used)]

mod choosing;
mod keeping;

use std::sync::Arc;

use super::*;
use crate::model::{
    ALLOWED_KEYS, ExchangeName, FieldTable, FieldValue, QueueId, QueueName, Refusal, ReplyCode, RoutingKey,
    ShardId, VhostName,
};

/// A table that is written and read in names. The queue `q7` has the id 7.
struct Scenario {
    table: RoutingTable,
    routed: Routed,
}

fn definition(name: &str, kind: ExchangeKind) -> ExchangeDefinition {
    ExchangeDefinition {
        name: ExchangeName::new(name).unwrap(),
        kind,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default(),
    }
}

fn alternate(name: &str) -> FieldTable {
    FieldTable::from([(ALTERNATE_EXCHANGE, FieldValue::from(name))])
}

/// `q…` is a queue, anything else an exchange.
fn binding(source: &str, key: &str, destination: &str) -> Binding {
    Binding {
        source: ExchangeName::new(source).unwrap(),
        destination: match destination.strip_prefix('q') {
            Some(_) => Destination::Queue(QueueName::new(destination).unwrap()),
            None => Destination::Exchange(ExchangeName::new(destination).unwrap()),
        },
        key: RoutingKey::new(key).unwrap(),
        arguments: FieldTable::default(),
    }
}

fn names(exchanges: &[ExchangeName]) -> Vec<&str> {
    exchanges.iter().map(|name| &**name).collect()
}

impl Scenario {
    fn new() -> Self {
        Self { table: RoutingTable::new(VhostName::new("/").unwrap()), routed: Routed::default() }
    }

    fn exchange(self, name: &str, kind: ExchangeKind) -> Self {
        self.defined(definition(name, kind))
    }

    fn defined(mut self, definition: ExchangeDefinition) -> Self {
        assert!(self.table.insert_exchange(definition));
        self
    }

    fn bound(mut self, source: &str, key: &str, destination: &str) -> Self {
        if let Some(id) = destination.strip_prefix('q') {
            self.queue(id.parse().unwrap(), 0);
        }
        assert_eq!(self.table.bind(binding(source, key, destination)), Bound::Added);
        self
    }

    fn queue(&mut self, id: u64, shard: u16) {
        let target = QueueTarget { id: QueueId(id), shard: ShardId(shard) };
        self.table.insert_queue(QueueName::new(&format!("q{id}")).unwrap(), target);
    }

    #[track_caller]
    fn check(&mut self, exchange: &str, key: &str, expected: &[u64]) {
        let no_headers: Option<&FieldTable> = None;
        let routed = self.table.route(exchange, key, &mut { no_headers }, &mut self.routed);
        assert_eq!(routed, Ok(()));
        let ids: Vec<u64> = self.routed.queues().iter().map(|queue| queue.id.0).collect();
        assert_eq!(ids, expected);
    }

    fn error(&mut self, exchange: &str, key: &str) -> RouteError {
        let no_headers: Option<&FieldTable> = None;
        self.table.route(exchange, key, &mut { no_headers }, &mut self.routed).unwrap_err()
    }
}

#[test]
fn the_default_exchange_leads_to_every_queue_by_its_name() {
    let mut scenario = Scenario::new();
    scenario.queue(1, 0);
    scenario.check("", "q1", &[1]);
    scenario.check("", "q2", &[]);
    scenario.check("", "", &[]);
    assert!(scenario.routed.is_keyed());
    assert_eq!(scenario.table.bind(binding("", "q1", "q1")), Bound::NoSource);
    assert_eq!(scenario.table.bind(binding("amq.fanout", "", "")), Bound::NoDestination);
    assert!(scenario.table.remove_exchange("").is_none());
    scenario.table.remove_queue("q1").unwrap();
    scenario.check("", "q1", &[]);
}

#[test]
fn a_queue_gets_one_copy_however_many_ways_lead_to_it() {
    let mut scenario = Scenario::new()
        .exchange("a", ExchangeKind::Topic)
        .exchange("b", ExchangeKind::Fanout)
        .bound("a", "#", "q1")
        .bound("a", "k", "q1")
        .bound("a", "*", "q1")
        .bound("a", "k", "b")
        .bound("b", "", "q1")
        .bound("b", "", "q2");
    scenario.check("a", "k", &[1, 2]);
    scenario.check("a", "other", &[1]);
}

#[test]
fn rings_of_exchanges_end() {
    let mut scenario = Scenario::new()
        .exchange("a", ExchangeKind::Fanout)
        .exchange("b", ExchangeKind::Fanout)
        .bound("a", "", "b")
        .bound("b", "", "a")
        .bound("a", "", "a")
        .bound("b", "", "q1");
    scenario.check("a", "", &[1]);
    scenario.check("b", "", &[1]);
}

#[test]
fn an_alternate_is_used_only_if_the_exchange_itself_matched_nothing() {
    let with_alternate =
        ExchangeDefinition { arguments: alternate("rest"), ..definition("orders", ExchangeKind::Direct) };
    let mut scenario = Scenario::new()
        .defined(with_alternate)
        .exchange("rest", ExchangeKind::Fanout)
        .exchange("sink", ExchangeKind::Direct)
        .bound("orders", "paid", "q1")
        .bound("orders", "dropped", "sink")
        .bound("rest", "", "q2");
    scenario.check("orders", "paid", &[1]);
    scenario.check("orders", "open", &[2]);
    // The exchange behind it drops the message, but this one matched.
    scenario.check("orders", "dropped", &[]);
}

#[test]
fn alternates_form_a_chain_that_ends() {
    let with = |name: &str, next: &str| ExchangeDefinition {
        arguments: alternate(next),
        ..definition(name, ExchangeKind::Direct)
    };
    let mut scenario = Scenario::new()
        .defined(with("a", "b"))
        .defined(with("b", "c"))
        .defined(with("c", "a"))
        .bound("c", "last", "q1");
    scenario.check("a", "last", &[1]);
    scenario.check("a", "nothing", &[]);
    scenario.table.remove_exchange("b").unwrap();
    scenario.check("a", "last", &[]);
    let mut scenario = Scenario::new().defined(with("a", "a"));
    scenario.check("a", "", &[]);
}

#[test]
fn the_default_exchange_is_nobodys_alternate() {
    let with = ExchangeDefinition { arguments: alternate(""), ..definition("a", ExchangeKind::Direct) };
    let mut scenario = Scenario::new().defined(with);
    scenario.queue(1, 0);
    scenario.check("a", "q1", &[]);
}

#[test]
fn an_internal_exchange_takes_messages_from_exchanges_only() {
    let internal = ExchangeDefinition { internal: true, ..definition("inside", ExchangeKind::Fanout) };
    let passing =
        ExchangeDefinition { arguments: alternate("inside"), ..definition("b", ExchangeKind::Direct) };
    let mut scenario = Scenario::new()
        .defined(internal)
        .defined(passing)
        .exchange("a", ExchangeKind::Fanout)
        .bound("a", "", "inside")
        .bound("inside", "", "q1");
    assert_eq!(scenario.error("inside", ""), RouteError::Internal);
    scenario.check("a", "", &[1]);
    scenario.check("b", "", &[1]);
}

#[test]
fn an_auto_delete_exchange_is_unused_when_its_last_binding_as_a_source_goes() {
    let auto_delete =
        |name| ExchangeDefinition { auto_delete: true, ..definition(name, ExchangeKind::Direct) };
    let mut scenario = Scenario::new()
        .defined(auto_delete("a"))
        .defined(auto_delete("b"))
        .defined(auto_delete("never-bound"))
        .bound("a", "1", "b")
        .bound("b", "1", "q1")
        .bound("b", "2", "q1")
        .bound("b", "3", "q2");
    // Being a destination does not count, nor does a binding that is still there.
    let removed = scenario.table.remove_queue("q1").unwrap();
    assert_eq!((removed.bindings.len(), names(&removed.unused_exchanges)), (2, vec![]));
    let removed = scenario.table.unbind(&binding("b", "3", "q2")).unwrap();
    assert_eq!((removed.bindings.len(), names(&removed.unused_exchanges)), (1, vec!["b"]));
    // Removing it leaves the next one unused.
    let removed = scenario.table.remove_exchange("b").unwrap();
    assert_eq!(names(&removed.unused_exchanges), ["a"]);
    let removed = scenario.table.remove_exchange("a").unwrap();
    assert_eq!((removed.bindings.len(), names(&removed.unused_exchanges)), (0, vec![]));
    assert!(scenario.table.exchange("never-bound").is_some());
}

#[test]
fn an_exchange_goes_with_its_bindings_on_both_sides() {
    let mut scenario = Scenario::new()
        .exchange("a", ExchangeKind::Fanout)
        .exchange("b", ExchangeKind::Fanout)
        .bound("a", "", "b")
        .bound("b", "", "b")
        .bound("b", "", "q1")
        .bound("a", "", "q2");
    let removed = scenario.table.remove_exchange("b").unwrap();
    assert_eq!(removed.bindings.len(), 3);
    assert!(scenario.table.bindings(None).map(|left| &**left).eq([&binding("a", "", "q2")]));
    scenario.check("a", "", &[2]);
    assert_eq!(scenario.error("b", ""), RouteError::NoSuchExchange);
    // One of the same name starts afresh.
    let mut scenario = scenario.exchange("b", ExchangeKind::Fanout);
    scenario.check("b", "", &[]);
}

#[test]
fn bindings_that_differ_in_arguments_are_two() {
    for kind in [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic] {
        let mut scenario = Scenario::new().exchange("a", kind).bound("a", "k", "q1");
        let with = Binding { arguments: alternate("any"), ..binding("a", "k", "q1") };
        assert_eq!(scenario.table.bind(with.clone()), Bound::Added);
        assert_eq!(scenario.table.bind(with.clone()), Bound::AlreadyThere);
        scenario.check("a", "k", &[1]);
        assert!(scenario.table.unbind(&binding("a", "k", "q1")).is_some());
        assert!(scenario.table.unbind(&binding("a", "k", "q1")).is_none());
        scenario.check("a", "k", &[1]);
        assert!(scenario.table.unbind(&with).is_some());
        scenario.check("a", "k", &[]);
    }
}

#[test]
fn bindings_follow_a_queue_that_moves() {
    for source in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers"] {
        let mut scenario = Scenario::new().bound(source, "k", "q1");
        scenario.queue(1, 5);
        scenario.check(source, "k", &[1]);
        assert_eq!(scenario.routed.queues()[0].shard, ShardId(5));
        scenario.table.unbind(&binding(source, "k", "q1")).unwrap();
        scenario.check(source, "k", &[]);
    }
}

#[test]
fn headers_are_decoded_once_and_only_for_a_headers_exchange() {
    let scenario = Scenario::new()
        .bound("amq.direct", "k", "q1")
        .bound("amq.headers", "", "amq.match")
        .bound("amq.match", "", "q2");
    let mut routed = Routed::default();

    let mut never = LazyHeaders::new(|| panic!("a direct exchange asks for no headers"));
    assert_eq!(scenario.table.route("amq.direct", "k", &mut never, &mut routed), Ok(()));
    assert!(routed.is_keyed());

    let mut times = 0;
    let mut once = LazyHeaders::new(|| {
        times += 1;
        Ok(None)
    });
    assert_eq!(scenario.table.route("amq.headers", "k", &mut once, &mut routed), Ok(()));
    assert!(!routed.is_keyed());
    assert_eq!((routed.queues().len(), times), (1, 1));

    let unreadable = || Box::new(Refusal::new(ReplyCode::SyntaxError, "the headers are no table"));
    let mut broken = LazyHeaders::new(|| Err(unreadable()));
    let error = scenario.table.route("amq.headers", "k", &mut broken, &mut routed);
    assert_eq!(error, Err(RouteError::Headers(unreadable())));
    // What was left over does not show in the next route.
    assert_eq!(scenario.table.route("amq.direct", "no", &mut never, &mut routed), Ok(()));
    assert!(routed.queues().is_empty() && routed.is_keyed());
}

#[test]
fn a_message_that_cannot_be_routed_is_refused_in_familiar_words() {
    let internal = ExchangeDefinition { internal: true, ..definition("inside", ExchangeKind::Fanout) };
    let mut scenario = Scenario::new().defined(internal);
    let vhost = scenario.table.vhost().clone();
    let long = "k".repeat(256);
    for (exchange, key, code, text) in [
        ("absent", "", ReplyCode::NotFound, "no exchange 'absent' in vhost '/'"),
        ("inside", "", ReplyCode::AccessRefused, "cannot publish to internal exchange 'inside' in vhost '/'"),
        ("amq.topic", &long, ReplyCode::SyntaxError, "a routing key may have 255 bytes at most"),
        ("", &long, ReplyCode::SyntaxError, "a routing key may have 255 bytes at most"),
    ] {
        let refusal = scenario.error(exchange, key).refusal(exchange, &vhost);
        assert_eq!((refusal.code, &*refusal.text), (code, text));
    }
    scenario.check("amq.topic", &long[1..], &[]);
}

fn explain(scenario: &Scenario, exchange: &str, key: &str) -> Explanation {
    scenario.table.explain(exchange, key, &ExplainedMessage::default()).unwrap()
}

#[test]
fn an_explanation_tells_the_whole_way() {
    let with_alternate =
        ExchangeDefinition { arguments: alternate("rest"), ..definition("orders", ExchangeKind::Topic) };
    let scenario = Scenario::new()
        .defined(with_alternate)
        .exchange("archive", ExchangeKind::Direct)
        .exchange("rest", ExchangeKind::Fanout)
        .bound("orders", "eu.#", "archive")
        .bound("orders", "us.*", "q1")
        .bound("archive", "eu.7", "q2")
        .bound("rest", "", "q3");

    let explanation = explain(&scenario, "orders", "eu.7");
    assert_eq!(explanation.queues, [QueueName::new("q2").unwrap()]);
    let [orders, archive] = &explanation.exchanges[..] else { panic!("{explanation:?}") };
    assert_eq!(orders.reached_by, ReachedBy::Publish);
    let told: Vec<_> = orders.bindings.iter().map(|told| (told.matched, &*told.reason)).collect();
    assert_eq!(
        told,
        [(false, "word 1 is `eu`, the binding wants `us`"), (true, "the routing key fits the pattern")]
    );
    assert_eq!(orders.alternate_note, "not needed: a binding of this exchange matched");
    assert_eq!(archive.reached_by, ReachedBy::Binding(ExchangeName::new("orders").unwrap()));
    assert_eq!(archive.bindings[0].reason, "the routing key is the binding key");

    let explanation = explain(&scenario, "orders", "asia.7");
    assert_eq!(explanation.queues, [QueueName::new("q3").unwrap()]);
    let [orders, rest] = &explanation.exchanges[..] else { panic!("{explanation:?}") };
    assert_eq!(orders.alternate_exchange.as_deref(), Some("rest"));
    assert_eq!(orders.alternate_note, "used: no binding of this exchange matched");
    assert_eq!(rest.reached_by, ReachedBy::Alternate(ExchangeName::new("orders").unwrap()));
}

#[test]
fn an_explanation_says_why_a_message_ends() {
    let with = |name: &str, next: &str| ExchangeDefinition {
        arguments: alternate(next),
        ..definition(name, ExchangeKind::Direct)
    };
    let scenario =
        Scenario::new().defined(with("a", "b")).defined(with("b", "a")).defined(with("c", "nowhere"));
    let last_note = |exchange| explain(&scenario, exchange, "k").exchanges.pop().unwrap().alternate_note;
    assert_eq!(last_note("a"), "not used: the message reaches `a` anyway, and each exchange once only");
    assert_eq!(last_note("c"), "not used: there is no exchange `nowhere`, the message ends here");
    assert_eq!(
        last_note("amq.direct"),
        "no binding matched and no alternate exchange is set: the message ends here"
    );
    assert_eq!(
        last_note(""),
        "no queue has the name `k`, and the default exchange has no alternate: the message reaches nothing"
    );
    assert_eq!(
        scenario.table.explain("absent", "", &ExplainedMessage::default()).unwrap_err(),
        RouteError::NoSuchExchange
    );
    assert_eq!(
        scenario.table.explain("a", &"k".repeat(256), &ExplainedMessage::default()).unwrap_err(),
        RouteError::KeyTooLong
    );
}

#[test]
fn an_explanation_of_the_default_exchange_names_the_queue() {
    let mut scenario = Scenario::new();
    scenario.queue(1, 0);
    let explanation = explain(&scenario, "", "q1");
    assert_eq!(explanation.queues, [QueueName::new("q1").unwrap()]);
    let told = &explanation.exchanges[0].bindings[0];
    assert!(told.matched);
    assert_eq!(*told.binding, binding("", "q1", "q1"));
}

#[test]
fn a_long_explanation_keeps_what_matched_and_counts_the_rest() {
    let mut scenario = Scenario::new().bound("amq.topic", "#", "amq.direct");
    for number in 0..EXPLAINED_BINDINGS_MAX as u64 {
        scenario = scenario.bound("amq.topic", &format!("word.{number}"), &format!("q{number}"));
    }
    let scenario = scenario.bound("amq.direct", "word.9999", "q70000");
    let explanation = explain(&scenario, "amq.topic", "word.9999");
    assert_eq!(explanation.queues, ["q70000", "q9999"].map(|name| QueueName::new(name).unwrap()));
    let told: Vec<_> = explanation.exchanges.iter().flat_map(|exchange| &exchange.bindings).collect();
    assert_eq!((told.len(), explanation.bindings_omitted), (EXPLAINED_BINDINGS_MAX, 2));
    assert_eq!(told.iter().filter(|told| told.matched).count(), 3);
    assert!(told.windows(2).all(|pair| {
        pair[0].binding.source != pair[1].binding.source || pair[0].binding.compare(&pair[1].binding).is_lt()
    }));
}

#[test]
fn a_table_can_be_read_from_any_thread() {
    fn shareable<T: Send + Sync + 'static>(_: &T) {}
    let scenario = Scenario::new();
    shareable(&scenario.table);
}

fn only(patterns: &[&str]) -> FieldTable {
    let patterns = patterns.iter().map(|pattern| FieldValue::from(*pattern)).collect();
    FieldTable::from([(ALLOWED_KEYS, FieldValue::List(patterns))])
}

#[test]
fn only_the_exchange_published_to_is_asked_for_the_key() {
    let guarded =
        ExchangeDefinition { arguments: only(&["order.*"]), ..definition("events", ExchangeKind::Fanout) };
    let mut scenario = Scenario::new()
        .exchange("open", ExchangeKind::Fanout)
        .defined(guarded)
        .bound("open", "", "events")
        .bound("events", "", "q1");
    scenario.check("events", "order.created", &[1]);
    scenario.check("open", "whatever", &[1]);
    let refused = scenario.error("events", "ordr.created");
    let RouteError::KeyNotAllowed(not_allowed) = &refused else { panic!("{refused:?}") };
    not_allowed.count(3);
    // A table with other bindings counts on.
    let scenario = scenario.bound("events", "", "q2");
    assert_eq!(scenario.table.exchange("events").unwrap().allowed_keys().unwrap().refused(), 3);
    let refusal = refused.refusal("events", &VhostName::new("/").unwrap());
    assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, "routing_key"));
    assert_eq!(refusal.text, "routing key 'ordr.created' is not allowed on exchange 'events' in vhost '/'");
    assert_eq!((&*refusal.expected, &*refusal.got), ("a key that matches 'order.*'", "ordr.created"));
    assert_eq!(refusal.hint, "did you mean 'order.created', which 'order.*' allows?");
}

#[test]
fn what_is_refused_is_explained_and_goes_nowhere() {
    let arguments = FieldTable(only(&["a"]).0.into_iter().chain(alternate("rest").0).collect());
    let mut scenario = Scenario::new()
        .defined(ExchangeDefinition { arguments, ..definition("events", ExchangeKind::Fanout) })
        .exchange("rest", ExchangeKind::Fanout)
        .bound("rest", "", "q1");
    scenario.check("events", "a", &[1]);
    let refused = explain(&scenario, "events", "bcd");
    assert!(refused.queues.is_empty(), "the alternate exchange gets none of it");
    let why = "key 'bcd' is not allowed, only a key that matches 'a'; \
               publish under a key that the exchange takes, or declare it with another list";
    assert_eq!(refused.exchanges[0].refused.as_deref(), Some(why));
    assert_eq!(explain(&scenario, "events", "a").exchanges[0].refused, None);
}

#[test]
fn an_exchange_has_to_allow_each_key_of_a_message() {
    let guarded =
        ExchangeDefinition { arguments: only(&["order.*"]), ..definition("events", ExchangeKind::Fanout) };
    let mut scenario = Scenario::new().defined(guarded).bound("events", "", "q1");
    let further = ["order.paid".to_owned(), "ordr.lost".to_owned(), "x".to_owned()];
    let mut route = |first, further| {
        let keys = Keys { first, further };
        scenario.table.route("events", keys, &mut None, &mut scenario.routed)
    };
    assert_eq!(route("order.created", &further[..1]), Ok(()));
    let Err(RouteError::KeyNotAllowed(refused)) = route("order.created", &further) else { panic!() };
    assert!(!refused.is_of_publication(), "others with this routing key may come");
    let text =
        "routing key 'ordr.lost' in the message's headers is not allowed on exchange 'events' in vhost '/'";
    assert_eq!(refused.refusal().text, text);
    let Err(RouteError::KeyNotAllowed(refused)) = route("ordr.lost", &further) else { panic!() };
    assert!(refused.is_of_publication());
}

#[test]
fn an_explanation_names_the_key_that_matched() {
    let scenario = Scenario::new()
        .exchange("orders", ExchangeKind::Topic)
        .bound("orders", "eu.#", "q1")
        .bound("orders", "us.#", "q2")
        .bound("orders", "asia", "q3");
    let further_keys = ["us.7".to_owned(), "q4".to_owned()];
    let message = ExplainedMessage { further_keys: &further_keys, ..ExplainedMessage::default() };
    let explanation = scenario.table.explain("orders", "eu.7", &message).unwrap();
    assert_eq!(explanation.queues, [QueueName::new("q1").unwrap(), QueueName::new("q2").unwrap()]);
    let bindings = explanation.exchanges[0].bindings.iter();
    let reasons: Vec<&str> = bindings.map(|explained| &*explained.reason).collect();
    assert_eq!(
        reasons,
        [
            "the routing key fits the pattern",
            "with `us.7`, a further key of the message: the routing key fits the pattern",
            "none of 3 keys matches; of the first: word 1 is `eu`, the binding wants `asia`",
        ]
    );
    let further_keys = ["q3".to_owned(), "q1".to_owned(), "absent".to_owned()];
    let message = ExplainedMessage { further_keys: &further_keys, ..ExplainedMessage::default() };
    let explanation = scenario.table.explain("", "q1", &message).unwrap();
    assert_eq!(explanation.queues, [QueueName::new("q1").unwrap(), QueueName::new("q3").unwrap()]);
}

/// Queues are told apart while keys are gone through, so that what many keys lead to does not fill memory.
#[test]
fn many_keys_to_many_queues_are_each_queue_once() {
    let mut scenario = (1..=300)
        .fold(Scenario::new().exchange("x", ExchangeKind::Topic), |scenario, queue| {
            scenario.bound("x", "#", &format!("q{queue}"))
        });
    let further: Vec<String> = (0..1_000).map(|number| format!("key.{number}")).collect();
    let keys = Keys { first: "k", further: &further };
    assert_eq!(scenario.table.route("x", keys, &mut None, &mut scenario.routed), Ok(()));
    assert_eq!(scenario.routed.queues().len(), 300);
    assert!(scenario.routed.room_for_queues() < 10_000);
}
