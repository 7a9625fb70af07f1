//! Why a message goes where it goes.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use crate::model::{
    ExchangeName, FieldTable, NAME_BYTES_MAX, QueueName, RECENT_HISTORY_NO_STORE, Refusal, RoutingKey,
};

use super::history::is_not_kept;
use super::kind::{Choice, Considered, Verdict};
use super::outcome::HashedProperties;
use super::table::ExchangeEntry;
use super::values::ShownText;
use super::{
    Binding, Destination, ExchangeKind, History, Keys, Payload, RouteError, Routed, RoutingTable, SchemaRule,
};

/// Bindings that one explanation shows at most; matching ones come before others.
pub const EXPLAINED_BINDINGS_MAX: usize = 10_000;

/// The whole way of a message through the exchanges.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// In the order in which they are reached; the first is the one asked for.
    pub exchanges: Vec<ExplainedExchange>,
    /// The queues the message would reach, each once, in order of their names. Always complete.
    pub queues: Vec<QueueName>,
    /// Further bindings were considered but left out.
    pub bindings_omitted: u64,
}

/// How routing came to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachedBy {
    /// It is the one the message was published to.
    Publish,
    /// A binding of this exchange leads to it.
    Binding(ExchangeName),
    /// It is the alternate exchange of this one, which matched nothing.
    Alternate(ExchangeName),
}

/// What is known of a message whose way is explained, besides its key.
#[derive(Debug, Clone, Default)]
pub struct ExplainedMessage<'a> {
    /// Its headers.
    pub headers: Option<&'a FieldTable>,
    /// [Further keys](crate::model::further_keys) that it goes by.
    pub further_keys: &'a [String],
    /// Its properties, as far as exchanges look at them.
    pub properties: HashedProperties,
    /// What chance said when it was [routed](Routed::chance); `None`: whatever chance could choose is explained.
    pub chance: Option<u64>,
    /// Its body.
    pub body: ExplainedBody<'a>,
}

/// What is known of the body of a message whose way is explained.
#[derive(Debug, Clone, Copy, Default)]
pub enum ExplainedBody<'a> {
    /// Nothing: the message is explained as one that fits its schema.
    #[default]
    Absent,
    /// It is held against the schema.
    Given(Payload<'a>),
    /// It was held against the schema before: why it does not fit, if it does not.
    Checked(Option<&'a Refusal>),
}

/// One exchange on the way.
#[derive(Debug, Clone)]
pub struct ExplainedExchange {
    /// Its name.
    pub name: ExchangeName,
    /// Its kind.
    pub kind: ExchangeKind,
    /// What led here.
    pub reached_by: ReachedBy,
    /// Its bindings in order. For the default exchange the one that it has by definition, if the queue exists.
    pub bindings: Vec<ExplainedBinding>,
    /// Where it sends what nothing matches.
    pub alternate_exchange: Option<ExchangeName>,
    /// Whether the alternate exchange was used, or why not, in a sentence.
    pub alternate_note: String,
    /// Why the exchange does not take the message at all, in a sentence.
    pub refused: Option<String>,
    /// Which of its schemas the message has to fit, and whether it does, in a sentence.
    pub schema: Option<String>,
}

/// One binding that was considered.
#[derive(Debug, Clone)]
pub struct ExplainedBinding {
    /// The binding.
    pub binding: Arc<Binding>,
    /// Whether it lets the message through.
    pub matched: bool,
    /// Why, in a sentence that names the word or header that decided.
    pub reason: String,
}

impl RoutingTable {
    /// Tells the way of a message, without any effect. Looks at each binding by itself, so it costs time in
    /// proportion to the bindings of the exchanges on the way and does not belong on a hot path. Internal exchanges
    /// are explained as if another exchange had passed the message on.
    ///
    /// # Errors
    /// [`RouteError::NoSuchExchange`], [`RouteError::KeyTooLong`].
    pub fn explain(
        &self,
        exchange: &str,
        key: &str,
        message: &ExplainedMessage<'_>,
    ) -> Result<Explanation, RouteError> {
        let routing_key = RoutingKey::new(key).map_err(|_| RouteError::KeyTooLong)?;
        let keys = Keys { first: key, further: message.further_keys };
        if keys.all().any(|key| key.len() > NAME_BYTES_MAX) {
            return Err(RouteError::KeyTooLong);
        }
        let first = self.exchange(exchange).ok_or(RouteError::NoSuchExchange)?;
        if exchange.is_empty() {
            return Ok(self.explain_default(first, routing_key, keys));
        }
        let internal = first.definition().internal;
        let not_allowed = self.key_not_allowed(first, keys, &mut Routed::default());
        if let Some(not_allowed) = not_allowed.filter(|_| !internal) {
            return Ok(explain_refused(first, not_allowed.refusal()));
        }
        let (schema, unfit) = self.explain_schemas(first, keys, message.body);
        if let Some(unfit) = unfit {
            return Ok(explain_unfit(first, &unfit, schema));
        }
        let no_headers = FieldTable::default();
        let ExplainedMessage { headers, properties, chance, .. } = message;
        let headers = headers.unwrap_or(&no_headers);
        let mut journey = Journey::new(self, Considered { keys, headers, properties, chance: *chance });
        journey.travel(first);
        let mut explanation = journey.describe();
        if let Some(first) = explanation.exchanges.first_mut() {
            first.schema = schema;
        }
        Ok(explanation)
    }

    /// Of several schemas the first that the body does not fit; or else the first one.
    fn explain_schemas(
        &self,
        exchange: &ExchangeEntry,
        keys: Keys<'_>,
        body: ExplainedBody<'_>,
    ) -> (Option<String>, Option<Refusal>) {
        let Some(schemas) = exchange.schemas().filter(|_| !exchange.definition().internal) else {
            return (None, None);
        };
        let mut routed = Routed::default();
        routed.for_each_key(keys, |key, routed| {
            routed.with_words(key, |words, routed| routed.take_schema(schemas.for_key(key, words)));
        });
        if routed.schemas().is_empty() {
            return (Some("no schema is for this key: any body is taken".to_owned()), None);
        }
        let explained = |schema: &Arc<SchemaRule>| self.explain_schema(exchange, schema, keys.first, body);
        let is_decisive = |schema: &&Arc<SchemaRule>| match body {
            ExplainedBody::Checked(Some(unfit)) => unfit.text.contains(&schema.to_string()),
            _ => explained(schema).1.is_some(),
        };
        let decisive = routed.schemas().iter().find(is_decisive);
        explained(decisive.unwrap_or(&routed.schemas()[0]))
    }

    fn explain_schema(
        &self,
        exchange: &ExchangeEntry,
        schema: &SchemaRule,
        key: &str,
        body: ExplainedBody<'_>,
    ) -> (Option<String>, Option<Refusal>) {
        let unfit = match body {
            ExplainedBody::Absent => {
                return (Some(format!("has to fit {schema}; no body was given to try")), None);
            }
            ExplainedBody::Given(payload) => {
                let checked = schema.check(payload, key, &exchange.definition().name, self.vhost());
                checked.err().map(|unfit| unfit.refusal().clone())
            }
            ExplainedBody::Checked(unfit) => unfit.cloned(),
        };
        let fits = if unfit.is_some() { "does not fit" } else { "fits" };
        (Some(format!("{fits} {schema}")), unfit)
    }

    fn explain_default(&self, exchange: &ExchangeEntry, key: RoutingKey, keys: Keys<'_>) -> Explanation {
        let name = exchange.definition().name.clone();
        // A name too long is no queue's, and a routing key is no longer than a name may be.
        let named = |key: &str| QueueName::new(key).ok().filter(|queue| self.queue(queue).is_some());
        let queues: BTreeSet<QueueName> = keys.all().filter_map(named).collect();
        let bindings = queues.iter().map(|queue| ExplainedBinding {
            binding: Arc::new(Binding {
                source: name.clone(),
                destination: Destination::Queue(queue.clone()),
                key: RoutingKey::new(queue).unwrap_or_default(),
                arguments: FieldTable::default(),
            }),
            matched: true,
            reason: match queue.as_str() == key.as_str() {
                true => "the default exchange leads to the queue that the routing key names".to_owned(),
                false => "the default exchange leads to the queue that a further key of the message names"
                    .to_owned(),
            },
        });
        let alternate_note = match queues.is_empty() {
            false => AlternateNote::NotNeeded.to_string(),
            true => format!(
                "no queue has the name `{}`, and the default exchange has no alternate: the message reaches nothing",
                ShownText(&key)
            ),
        };
        let explained = ExplainedExchange {
            kind: exchange.definition().kind,
            reached_by: ReachedBy::Publish,
            bindings: bindings.collect(),
            alternate_exchange: None,
            alternate_note,
            refused: None,
            schema: None,
            name,
        };
        Explanation { exchanges: vec![explained], queues: queues.into_iter().collect(), bindings_omitted: 0 }
    }
}

fn keeps(history: &History, headers: &FieldTable) -> String {
    if is_not_kept(headers) {
        return format!("its header {RECENT_HISTORY_NO_STORE} keeps it out of the history");
    }
    match history.messages_max() {
        1 => "it is kept for what is bound here later, until the next one comes".to_owned(),
        most => format!("it is kept for what is bound here later, as one of the newest {most}"),
    }
}

/// Neither its bindings nor its alternate exchange are asked.
fn explain_refused(exchange: &ExchangeEntry, refusal: &Refusal) -> Explanation {
    let why = format!("key '{}' is not allowed, only {}; {}", refusal.got, refusal.expected, refusal.hint);
    refused(exchange, why, None)
}

fn explain_unfit(exchange: &ExchangeEntry, refusal: &Refusal, schema: Option<String>) -> Explanation {
    let Refusal { field, expected, got, .. } = refusal;
    let schema = schema.unwrap_or_default();
    refused(exchange, format!("{schema}: {field}: expected {expected}, got {got}"), Some(schema.clone()))
}

fn refused(exchange: &ExchangeEntry, why: String, schema: Option<String>) -> Explanation {
    let definition = exchange.definition();
    let explained = ExplainedExchange {
        name: definition.name.clone(),
        kind: definition.kind,
        reached_by: ReachedBy::Publish,
        bindings: Vec::new(),
        alternate_exchange: exchange.alternate_exchange().cloned(),
        alternate_note: "not used: the message is refused".to_owned(),
        refused: Some(why),
        schema,
    };
    Explanation { exchanges: vec![explained], queues: Vec::new(), bindings_omitted: 0 }
}

/// Follows a message, exchange by exchange, in the order of [`RoutingTable::route`].
struct Journey<'a> {
    table: &'a RoutingTable,
    message: Considered<'a>,
    visits: Vec<Visit<'a>>,
    /// Exchanges that were visited or will be.
    reached: BTreeSet<ExchangeName>,
    ahead: VecDeque<(&'a ExchangeEntry, ReachedBy)>,
    queues: BTreeSet<QueueName>,
}

struct Visit<'a> {
    exchange: &'a ExchangeEntry,
    reached_by: ReachedBy,
    choice: Choice<'a>,
    matched: usize,
    alternate: AlternateNote,
}

/// What became of an alternate exchange.
enum AlternateNote {
    NotNeeded,
    NoneSet,
    Used,
    Missing(ExchangeName),
    ReachedAlready(ExchangeName),
}

impl fmt::Display for AlternateNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNeeded => f.write_str("not needed: a binding of this exchange matched"),
            Self::NoneSet => {
                f.write_str("no binding matched and no alternate exchange is set: the message ends here")
            }
            Self::Used => f.write_str("used: no binding of this exchange matched"),
            Self::Missing(name) => {
                write!(f, "not used: there is no exchange `{name}`, the message ends here")
            }
            Self::ReachedAlready(name) => {
                write!(f, "not used: the message reaches `{name}` anyway, and each exchange once only")
            }
        }
    }
}

impl<'a> Journey<'a> {
    fn new(table: &'a RoutingTable, message: Considered<'a>) -> Self {
        Self {
            table,
            message,
            visits: Vec::new(),
            reached: BTreeSet::new(),
            ahead: VecDeque::new(),
            queues: BTreeSet::new(),
        }
    }

    fn travel(&mut self, first: &'a ExchangeEntry) {
        self.go(first, ReachedBy::Publish);
        while let Some((exchange, reached_by)) = self.ahead.pop_front() {
            let definition = exchange.definition();
            let choice = Choice::new(definition, self.table.bindings_from(&definition.name), self.message);
            let matched = self.visit(exchange, &choice);
            let alternate = self.alternate(exchange, matched);
            self.visits.push(Visit { exchange, reached_by, choice, matched, alternate });
        }
    }

    /// Plans a visit; false if there is or was one already.
    fn go(&mut self, exchange: &'a ExchangeEntry, reached_by: ReachedBy) -> bool {
        let new = self.reached.insert(exchange.definition().name.clone());
        if new {
            self.ahead.push_back((exchange, reached_by));
        }
        new
    }

    /// Number of bindings that match.
    fn visit(&mut self, exchange: &'a ExchangeEntry, choice: &Choice<'a>) -> usize {
        let name = &exchange.definition().name;
        let mut matched = 0;
        for (place, binding) in self.table.bindings_from(name).enumerate() {
            if !self.verdict(exchange, choice, (place, binding)).matched() {
                continue;
            }
            matched += 1;
            match &binding.destination {
                Destination::Queue(queue) => {
                    self.queues.insert(queue.clone());
                }
                Destination::Exchange(next) => {
                    if let Some(next) = self.table.exchange(next) {
                        self.go(next, ReachedBy::Binding(name.clone()));
                    }
                }
            }
        }
        matched
    }

    fn alternate(&mut self, exchange: &ExchangeEntry, matched: usize) -> AlternateNote {
        if matched > 0 {
            return AlternateNote::NotNeeded;
        }
        let Some(alternate) = exchange.alternate_exchange() else { return AlternateNote::NoneSet };
        match self.table.exchange(alternate) {
            None => AlternateNote::Missing(alternate.clone()),
            Some(next) if self.go(next, ReachedBy::Alternate(exchange.definition().name.clone())) => {
                AlternateNote::Used
            }
            Some(_) => AlternateNote::ReachedAlready(alternate.clone()),
        }
    }

    fn verdict<'v>(
        &'v self,
        exchange: &ExchangeEntry,
        choice: &'v Choice<'v>,
        binding: (usize, &'v Binding),
    ) -> Verdict<'v> {
        Verdict::new(exchange.definition().kind, choice, binding, self.message)
    }

    /// Puts it into words. Bindings that matched go first where there is no room for all.
    fn describe(self) -> Explanation {
        let matched: usize = self.visits.iter().map(|visit| visit.matched).sum();
        let mut room_matched = matched.min(EXPLAINED_BINDINGS_MAX);
        let mut room_other = EXPLAINED_BINDINGS_MAX - room_matched;
        let mut explanation = Explanation::default();
        for visit in &self.visits {
            let definition = visit.exchange.definition();
            let mut bindings = Vec::new();
            for (place, binding) in self.table.bindings_from(&definition.name).enumerate() {
                let verdict = self.verdict(visit.exchange, &visit.choice, (place, binding));
                let matched = verdict.matched();
                let room = if matched { &mut room_matched } else { &mut room_other };
                if *room == 0 {
                    explanation.bindings_omitted += 1;
                    continue;
                }
                *room -= 1;
                bindings.push(ExplainedBinding {
                    binding: Arc::clone(binding),
                    matched,
                    reason: verdict.to_string(),
                });
            }
            explanation.exchanges.push(ExplainedExchange {
                name: definition.name.clone(),
                kind: definition.kind,
                reached_by: visit.reached_by.clone(),
                bindings,
                alternate_exchange: visit.exchange.alternate_exchange().cloned(),
                alternate_note: match visit.exchange.history() {
                    None => visit.alternate.to_string(),
                    Some(history) => format!("{}; {}", visit.alternate, keeps(history, self.message.headers)),
                },
                refused: None,
                schema: None,
            });
        }
        explanation.queues = self.queues.into_iter().collect();
        explanation
    }
}
