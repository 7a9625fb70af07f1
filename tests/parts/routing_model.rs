//! Routing against a model that is too simple to be wrong: lists, and the rules as they are written down.

use std::collections::{BTreeMap, BTreeSet};

use leveret::model::{
    ExchangeName, FieldTable, FieldValue, QueueId, QueueName, RoutingKey, ShardId, VhostName,
};
use leveret::routing::{
    ALTERNATE_EXCHANGE, Binding, Bound, Destination, ExchangeDefinition, ExchangeKind, ExplainedMessage,
    Keys, QueueTarget, Removed, RouteError, Routed, RoutingTable,
};
use proptest::prelude::*;

#[derive(Debug, Clone, Default)]
struct Model {
    exchanges: BTreeMap<String, ExchangeDefinition>,
    queues: BTreeMap<String, QueueTarget>,
    bindings: Vec<Binding>,
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        for (name, kind) in [
            ("", ExchangeKind::Direct),
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
            ("amq.topic", ExchangeKind::Topic),
        ] {
            let predeclared = ExchangeDefinition { durable: true, ..definition(name, kind) };
            model.exchanges.insert(name.to_owned(), predeclared);
        }
        model
    }

    fn has(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Queue(name) => self.queues.contains_key(&**name),
            Destination::Exchange(name) => !name.is_empty() && self.exchanges.contains_key(&**name),
        }
    }

    fn bind(&mut self, binding: &Binding) -> Bound {
        if binding.source.is_empty() || !self.exchanges.contains_key(&*binding.source) {
            return Bound::NoSource;
        }
        if !self.has(&binding.destination) {
            return Bound::NoDestination;
        }
        if self.bindings.contains(binding) {
            return Bound::AlreadyThere;
        }
        self.bindings.push(binding.clone());
        Bound::Added
    }

    /// Removes bindings; returns them, and the auto-delete exchanges that were a source and are none any more.
    fn unbind(&mut self, gone: impl Fn(&Binding) -> bool) -> (Vec<Binding>, Vec<String>) {
        let (removed, left): (Vec<_>, Vec<_>) = self.bindings.drain(..).partition(&gone);
        self.bindings = left;
        let sources: BTreeSet<_> = removed.iter().map(|binding| binding.source.to_string()).collect();
        let unused = sources.into_iter().filter(|source| {
            self.exchanges.get(source).is_some_and(|exchange| exchange.auto_delete)
                && !self.bindings.iter().any(|binding| *binding.source == **source)
        });
        (removed, unused.collect())
    }

    fn route(
        &self,
        exchange: &str,
        keys: &[&str],
        headers: Option<&FieldTable>,
    ) -> Result<BTreeSet<QueueTarget>, RouteError> {
        let definition = self.exchanges.get(exchange).ok_or(RouteError::NoSuchExchange)?;
        if definition.internal {
            return Err(RouteError::Internal);
        }
        let mut queues = BTreeSet::new();
        if exchange.is_empty() {
            queues.extend(keys.iter().filter_map(|key| self.queues.get(*key)));
        } else {
            let no_headers = FieldTable::default();
            self.visit(exchange, keys, headers.unwrap_or(&no_headers), &mut BTreeSet::new(), &mut queues);
        }
        Ok(queues)
    }

    fn visit(
        &self,
        exchange: &str,
        keys: &[&str],
        headers: &FieldTable,
        visited: &mut BTreeSet<String>,
        queues: &mut BTreeSet<QueueTarget>,
    ) {
        let Some(definition) = self.exchanges.get(exchange) else { return };
        if !visited.insert(exchange.to_owned()) {
            return;
        }
        let matching: Vec<_> = self
            .bindings
            .iter()
            .filter(|binding| *binding.source == *exchange)
            .filter(|binding| match definition.kind {
                ExchangeKind::Direct => keys.contains(&&*binding.key),
                ExchangeKind::Fanout | ExchangeKind::RecentHistory => true,
                ExchangeKind::Topic => {
                    keys.iter().any(|key| topic_matches(&words(&binding.key), &words(key)))
                }
                ExchangeKind::Headers => headers_match(&binding.arguments, headers),
                // Which one is chosen is what their own tests are about.
                ExchangeKind::ConsistentHash | ExchangeKind::ModulusHash | ExchangeKind::Random => false,
            })
            .collect();
        for binding in &matching {
            match &binding.destination {
                Destination::Queue(name) => queues.extend(self.queues.get(&**name)),
                Destination::Exchange(name) => self.visit(name, keys, headers, visited, queues),
            }
        }
        if matching.is_empty()
            && let Some(alternate) = definition.arguments.text(ALTERNATE_EXCHANGE)
        {
            self.visit(alternate, keys, headers, visited, queues);
        }
    }
}

fn words(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

/// Which beginnings of the key each beginning of the pattern matches, one after the other.
fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    let mut matched = vec![false; key.len() + 1];
    matched[0] = true;
    for wanted in pattern {
        let before = matched.clone();
        for end in 0..=key.len() {
            matched[end] = match *wanted {
                "#" => before[..=end].contains(&true),
                "*" => end > 0 && before[end - 1],
                word => end > 0 && before[end - 1] && key[end - 1] == word,
            };
        }
    }
    matched[key.len()]
}

fn headers_match(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let mode = arguments.text("x-match").unwrap_or("all");
    let answers: Vec<bool> = arguments
        .iter()
        .filter(|(name, _)| *name != "x-match" && (mode.ends_with("-with-x") || !name.starts_with("x-")))
        .map(|(name, wanted)| match headers.value(name) {
            None => false,
            Some(is) => *wanted == FieldValue::Void || is == wanted,
        })
        .collect();
    if mode.starts_with("all") { !answers.contains(&false) } else { answers.contains(&true) }
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

#[derive(Debug, Clone)]
enum Step {
    DeclareExchange(ExchangeDefinition),
    DeleteExchange(String),
    /// Also moves a queue that is there to another shard.
    DeclareQueue(String, u16),
    DeleteQueue(String),
    Bind(Binding),
    Unbind(Binding),
    /// One of those that are there.
    UnbindSome(prop::sample::Index),
    Publish,
}

/// Mostly exchanges that may be there.
fn exchange() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => (0..6).prop_map(|number| format!("e{number}")),
        1 => Just("amq.topic".to_owned()),
        1 => Just(String::new()),
    ]
}

fn queue() -> impl Strategy<Value = String> {
    (0..5).prop_map(|number| format!("q{number}"))
}

fn routing_key() -> impl Strategy<Value = String> {
    let word = prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just(""), 1 => Just("q1")];
    prop::collection::vec(word, 0..4).prop_map(|words| words.join("."))
}

/// Mostly none.
fn further_keys() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(routing_key(), 1..4)]
}

fn binding_key() -> impl Strategy<Value = String> {
    let word = prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just(""), 3 => Just("*"), 3 => Just("#")];
    prop::collection::vec(word, 0..4)
        .prop_map(|words| words.join("."))
        .prop_filter("two hashes at most", |key| words(key).iter().filter(|word| **word == "#").count() <= 2)
}

fn headers() -> impl Strategy<Value = FieldTable> {
    let name = prop::sample::select(vec!["h", "i", "x-h"]);
    let value = prop::sample::select(vec![FieldValue::from(1), FieldValue::from("1"), FieldValue::Void]);
    prop::collection::btree_map(name.prop_map(str::to_owned), value, 0..3).prop_map(FieldTable)
}

fn arguments() -> impl Strategy<Value = FieldTable> {
    let mode = vec![None, Some("all"), Some("any"), Some("all-with-x"), Some("any-with-x")];
    let arguments = (headers(), prop::sample::select(mode)).prop_map(|(mut table, mode)| {
        if let Some(mode) = mode {
            table.0.insert("x-match".to_owned(), FieldValue::from(mode));
        }
        table
    });
    prop_oneof![1 => Just(FieldTable::default()), 2 => arguments]
}

fn binding() -> impl Strategy<Value = Binding> {
    let destination = prop_oneof![
        3 => queue().prop_map(|name| Destination::Queue(QueueName::new(&name).unwrap())),
        2 => exchange().prop_map(|name| Destination::Exchange(ExchangeName::new(&name).unwrap())),
    ];
    (exchange(), destination, binding_key(), arguments()).prop_map(|(source, destination, key, arguments)| {
        Binding {
            source: ExchangeName::new(&source).unwrap(),
            destination,
            key: RoutingKey::new(&key).unwrap(),
            arguments,
        }
    })
}

fn exchange_definition() -> impl Strategy<Value = ExchangeDefinition> {
    let kind = prop::sample::select(vec![
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::RecentHistory,
        ExchangeKind::Topic,
        ExchangeKind::Topic,
        ExchangeKind::Headers,
    ]);
    let alternate = prop::option::of(exchange());
    (exchange(), kind, any::<bool>(), prop::bool::weighted(0.1), alternate).prop_map(
        |(name, kind, auto_delete, internal, alternate)| {
            let mut definition = ExchangeDefinition { auto_delete, internal, ..definition(&name, kind) };
            // The empty name is no alternate.
            if let Some(alternate) = alternate.filter(|name| !name.is_empty()) {
                definition.arguments =
                    FieldTable::from([(ALTERNATE_EXCHANGE, FieldValue::from(&*alternate))]);
            }
            definition
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => exchange_definition().prop_map(Step::DeclareExchange),
        1 => exchange().prop_map(Step::DeleteExchange),
        5 => (queue(), 0..2u16).prop_map(|(name, shard)| Step::DeclareQueue(name, shard)),
        1 => queue().prop_map(Step::DeleteQueue),
        16 => binding().prop_map(Step::Bind),
        1 => binding().prop_map(Step::Unbind),
        4 => any::<prop::sample::Index>().prop_map(Step::UnbindSome),
        1 => Just(Step::Publish),
    ]
}

/// Table and model, changed together.
#[derive(Debug, Clone)]
struct Pair {
    table: RoutingTable,
    model: Model,
    queues_ever: u64,
}

impl Pair {
    fn new() -> Self {
        Self { table: RoutingTable::new(VhostName::new("/").unwrap()), model: Model::new(), queues_ever: 0 }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::DeclareExchange(definition) => {
                let new = !self.model.exchanges.contains_key(&*definition.name);
                assert_eq!(self.table.insert_exchange(definition.clone()), new);
                if new {
                    self.model.exchanges.insert(definition.name.to_string(), definition.clone());
                }
            }
            Step::DeleteExchange(name) => self.delete_exchange(name),
            Step::DeclareQueue(name, shard) => {
                self.queues_ever += 1;
                let target = QueueTarget { id: QueueId(self.queues_ever), shard: ShardId(*shard) };
                self.table.insert_queue(QueueName::new(name).unwrap(), target);
                self.model.queues.insert(name.clone(), target);
            }
            Step::DeleteQueue(name) => {
                let removed = self.table.remove_queue(name);
                assert_eq!(removed.is_some(), self.model.queues.remove(name).is_some());
                let Some(removed) = removed else { return };
                let queue = Destination::Queue(QueueName::new(name).unwrap());
                let expected = self.model.unbind(|binding| binding.destination == queue);
                self.check_removed(&removed, &expected);
            }
            Step::Bind(binding) => assert_eq!(self.table.bind(binding.clone()), self.model.bind(binding)),
            Step::Unbind(binding) => self.unbind(binding),
            Step::UnbindSome(index) => {
                if !self.model.bindings.is_empty() {
                    let binding = index.get(&self.model.bindings).clone();
                    self.unbind(&binding);
                }
            }
            Step::Publish => {}
        }
    }

    fn delete_exchange(&mut self, name: &str) {
        let removed = self.table.remove_exchange(name);
        if name.is_empty() {
            return assert!(removed.is_none());
        }
        assert_eq!(removed.is_some(), self.model.exchanges.remove(name).is_some());
        let Some(removed) = removed else { return };
        let exchange = Destination::Exchange(ExchangeName::new(name).unwrap());
        let expected =
            self.model.unbind(|binding| *binding.source == *name || binding.destination == exchange);
        self.check_removed(&removed, &expected);
    }

    fn unbind(&mut self, binding: &Binding) {
        let removed = self.table.unbind(binding);
        let expected = self.model.unbind(|other| other == binding);
        assert_eq!(removed.is_none(), expected.0.is_empty());
        self.check_removed(&removed.unwrap_or_default(), &expected);
    }

    /// Compares what a removal took, and removes the exchanges that it left unused, as a catalog does.
    fn check_removed(&mut self, removed: &Removed, (bindings, unused): &(Vec<Binding>, Vec<String>)) {
        assert_eq!(removed.bindings.len(), bindings.len());
        assert!(removed.bindings.iter().all(|binding| bindings.contains(binding)));
        assert!(removed.bindings.iter().map(|binding| &binding.source).is_sorted());
        let names: Vec<_> = removed.unused_exchanges.iter().map(ToString::to_string).collect();
        assert_eq!(names, *unused);
        for name in unused {
            self.delete_exchange(name);
        }
    }

    fn check_routes(&self, messages: &[(String, Vec<String>, Option<FieldTable>)]) {
        let mut routed = Routed::default();
        for exchange in self.model.exchanges.keys().map(String::as_str).chain(["absent"]) {
            for (key, further, headers) in messages {
                let all: Vec<&str> = [key].into_iter().chain(further).map(String::as_str).collect();
                let expected = self.model.route(exchange, &all, headers.as_ref());
                let keys = Keys { first: key, further };
                let found = self.table.route(exchange, keys, &mut headers.as_ref(), &mut routed);
                let found = found.map(|()| routed.queues().to_vec());
                let expected = expected.map(|queues| queues.into_iter().collect::<Vec<_>>());
                assert_eq!(found, expected, "exchange `{exchange}`, keys {all:?}, headers {headers:?}");
                self.check_keyed(exchange, keys, &routed);
                self.check_explanation(exchange, keys, headers.as_ref(), found);
            }
        }
    }

    /// A result that is said to depend on the key alone is the same for other headers.
    fn check_keyed(&self, exchange: &str, keys: Keys<'_>, routed: &Routed) {
        if !routed.is_keyed() {
            return;
        }
        assert!(keys.further.is_empty() || !self.model.exchanges.contains_key(exchange));
        let other = FieldTable::from([("h", FieldValue::from(1)), ("i", FieldValue::from("1"))]);
        let mut again = Routed::default();
        if self.table.route(exchange, keys.first, &mut Some(&other), &mut again).is_ok() {
            assert_eq!(again.queues(), routed.queues());
        }
    }

    fn check_explanation(
        &self,
        exchange: &str,
        Keys { first: key, further: further_keys }: Keys<'_>,
        headers: Option<&FieldTable>,
        routed: Result<Vec<QueueTarget>, RouteError>,
    ) {
        let message = ExplainedMessage { headers, further_keys, ..ExplainedMessage::default() };
        let explanation = match (self.table.explain(exchange, key, &message), routed) {
            (Ok(_), Err(RouteError::Internal)) => return,
            (Ok(explanation), Ok(routed)) => {
                let queues: BTreeSet<_> =
                    explanation.queues.iter().filter_map(|name| self.table.queue(name)).collect();
                assert_eq!(queues.into_iter().collect::<Vec<_>>(), routed);
                explanation
            }
            (explained, routed) => return assert_eq!(explained.map(|_| ()), routed.map(|_| ())),
        };
        assert_eq!(explanation.bindings_omitted, 0);
        let considered = explanation.exchanges.iter().flat_map(|exchange| &exchange.bindings);
        let reached: BTreeSet<_> = considered
            .filter(|explained| explained.matched)
            .filter_map(|explained| match &explained.binding.destination {
                Destination::Queue(name) => Some(name.clone()),
                Destination::Exchange(_) => None,
            })
            .collect();
        assert_eq!(reached.into_iter().collect::<Vec<_>>(), explanation.queues);
    }

    fn check_readers(&self) {
        let table = &self.table;
        let names = |after| -> Vec<_> {
            table.exchanges(after).map(|entry| entry.definition().name.to_string()).collect()
        };
        let all: Vec<_> = self.model.exchanges.keys().cloned().collect();
        assert_eq!(names(None), all);
        assert_eq!(names(Some("e2")), all.into_iter().filter(|name| **name > *"e2").collect::<Vec<_>>());
        assert_eq!(table.exchanges_count(), self.model.exchanges.len());
        assert_eq!(table.queues_count(), self.model.queues.len());
        assert_eq!(table.bindings_count(), self.model.bindings.len());

        let all: Vec<_> = table.bindings(None).collect();
        assert_eq!(all.len(), self.model.bindings.len());
        assert!(self.model.bindings.iter().all(|binding| table.has_binding(binding)));
        // A page after each binding is the rest of the list.
        for (index, binding) in all.iter().enumerate() {
            let after = binding.position().to_string().parse().unwrap();
            assert_eq!(table.bindings(Some(&after)).collect::<Vec<_>>(), all[index + 1..]);
        }
        for (name, definition) in &self.model.exchanges {
            let from: Vec<_> = table.bindings_from(name).collect();
            let expected: Vec<_> = all.iter().copied().filter(|binding| *binding.source == **name).collect();
            assert_eq!(from, expected);
            let entry = table.exchange(name).unwrap();
            assert_eq!((entry.bindings_count(), &**entry.definition()), (expected.len(), definition));
            self.check_bindings_to(&Destination::Exchange(definition.name.clone()), &all);
        }
        for (name, target) in &self.model.queues {
            assert_eq!(table.queue(name), Some(*target));
            self.check_bindings_to(&Destination::Queue(QueueName::new(name).unwrap()), &all);
        }
    }

    fn check_bindings_to(&self, destination: &Destination, all: &[&std::sync::Arc<Binding>]) {
        let found: Vec<_> = self.table.bindings_to(destination).collect();
        let expected: Vec<_> =
            all.iter().copied().filter(|binding| binding.destination == *destination).collect();
        assert_eq!(found, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_table_routes_as_the_model_does(
        steps in prop::collection::vec(step(), 1..120),
        messages in prop::collection::vec((routing_key(), further_keys(), prop::option::of(headers())), 1..8),
    ) {
        let mut pair = Pair::new();
        let mut published = Vec::new();
        for step in &steps {
            pair.apply(step);
            if matches!(step, Step::Publish) {
                published.push(pair.clone());
            }
        }
        published.push(pair);
        // Earlier clones have not changed.
        for pair in &published {
            pair.check_routes(&messages);
            pair.check_readers();
        }
    }

    #[test]
    fn topic_exchanges_match_as_the_model_does(
        keys in prop::collection::vec(binding_key(), 1..40),
        messages in prop::collection::vec((routing_key(), further_keys()), 1..20),
    ) {
        let mut pair = Pair::new();
        for (number, key) in keys.iter().enumerate() {
            bind_queue(&mut pair, number, "amq.topic", key, FieldTable::default());
        }
        pair.check_routes(&messages.into_iter().map(|(key, further)| (key, further, None)).collect::<Vec<_>>());
    }

    #[test]
    fn headers_exchanges_match_as_the_model_does(
        bindings in prop::collection::vec(arguments(), 1..40),
        messages in prop::collection::vec(prop::option::of(headers()), 1..20),
    ) {
        let mut pair = Pair::new();
        for (number, arguments) in bindings.into_iter().enumerate() {
            bind_queue(&mut pair, number, "amq.headers", "", arguments);
        }
        let messages = messages.into_iter().map(|headers| (String::new(), Vec::new(), headers));
        pair.check_routes(&messages.collect::<Vec<_>>());
    }
}

/// A queue of its own for each binding.
fn bind_queue(pair: &mut Pair, number: usize, source: &str, key: &str, arguments: FieldTable) {
    pair.apply(&Step::DeclareQueue(format!("q{number}"), 0));
    pair.apply(&Step::Bind(Binding {
        source: ExchangeName::new(source).unwrap(),
        destination: Destination::Queue(QueueName::new(&format!("q{number}")).unwrap()),
        key: RoutingKey::new(key).unwrap(),
        arguments,
    }));
}
