//! Which schemas the messages that are published to an exchange have to fit, by their keys.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{
    Entity, FieldTable, FieldValue, NAME_BYTES_MAX, Refusal, ReplyCode, SCHEMAS, VhostName, schema_fields,
};
use crate::schema::{Misfit, Schema, SchemaFault, SchemaKind};

use super::Keys;
use super::allowed::ListFault;
use super::check::named;
use super::kind;
use super::outcome::Routed;
use super::trie::{KeyWords, PatternTrie};
use super::values::{self, ShownText};

/// Most schemas of an exchange.
const SCHEMAS_MAX: usize = 16;

/// Names under which a body is published as it is. Some clients write the character set of a text here.
const PLAIN_ENCODINGS: [&str; 5] = ["", "identity", "utf-8", "utf8", "binary"];

/// The schemas of an exchange, compiled, and how many messages did not fit.
#[derive(Debug)]
pub struct Schemas {
    /// In the order in which they were given: of those whose patterns match a key, the first holds.
    rules: Vec<Arc<SchemaRule>>,
    /// Places in `rules`.
    trie: PatternTrie<usize>,
}

/// A schema of an exchange.
#[derive(Debug)]
pub struct SchemaRule {
    pattern: String,
    kind: SchemaKind,
    /// A schema that was taken once, by another version of the broker, and does not compile: nothing fits it.
    schema: Result<Schema, SchemaFault>,
    refused: Arc<AtomicU64>,
}

/// A message as its schema looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// Its body.
    pub body: &'a [u8],
    /// Its content encoding; empty if it has none.
    pub content_encoding: &'a str,
}

/// A message that does not fit its schema.
#[derive(Debug, Clone)]
pub struct Unfit {
    refusal: Refusal,
    refused: Arc<AtomicU64>,
}

/// An entry of the argument, not compiled.
#[derive(Debug, PartialEq, Eq)]
struct Source<'a> {
    pattern: &'a str,
    kind: SchemaKind,
    schema: &'a [u8],
    message: &'a str,
}

impl Schemas {
    /// The schemas in an exchange's arguments; `None` if there are none, and every body may be published.
    pub(super) fn of(arguments: &FieldTable) -> Result<Option<Self>, ListFault> {
        let Some(sources) = sources(arguments)? else { return Ok(None) };
        let mut rules = Vec::with_capacity(sources.len());
        let mut trie = PatternTrie::default();
        for (place, source) in sources.into_iter().enumerate() {
            let Source { pattern, kind, schema, message } = source;
            trie.update(pattern, |value: &mut Option<usize>| {
                value.get_or_insert(place);
            });
            let schema = Schema::compile(kind, schema, message);
            let refused = Arc::default();
            rules.push(Arc::new(SchemaRule { pattern: pattern.to_owned(), kind, schema, refused }));
        }
        Ok(Some(Self { rules, trie }))
    }

    /// What stands for schemas that cannot be read any more: nothing fits them.
    pub(super) fn unreadable(fault: ListFault) -> Self {
        let ListFault { text, expected, got } = fault;
        let schema = Err(SchemaFault { text, place: String::new(), expected, got });
        let rule =
            SchemaRule { pattern: "#".to_owned(), kind: SchemaKind::Json, schema, refused: Arc::default() };
        let mut trie = PatternTrie::default();
        trie.update("#", |value| *value = Some(0));
        Self { rules: vec![Arc::new(rule)], trie }
    }

    /// The first that did not compile.
    pub(super) fn fault(&self) -> Option<ListFault> {
        let (rule, fault) = self.rules.iter().find_map(|rule| Some((rule, rule.schema.as_ref().err()?)))?;
        Some(ListFault {
            text: format!("has a schema for '{}' ({}) that {fault}", ShownText(&rule.pattern), rule.kind),
            expected: fault.expected.clone(),
            got: fault.got.clone(),
        })
    }

    /// The schema for a key; `words` are its words.
    pub(super) fn for_key(&self, key: &str, words: &KeyWords) -> Option<&Arc<SchemaRule>> {
        let mut first = usize::MAX;
        self.trie.for_each_match(key, words, |place| first = first.min(*place));
        self.rules.get(first)
    }

    /// Holds a message against the schemas for its keys, and counts nothing. Without a schema for a key it fits.
    ///
    /// # Errors
    /// As for [`SchemaRule::check`].
    pub fn check(
        &self,
        payload: Payload<'_>,
        keys: Keys<'_>,
        exchange: &str,
        vhost: &VhostName,
    ) -> Result<(), Unfit> {
        let mut routed = Routed::default();
        routed.for_each_key(keys, |key, routed| {
            routed.with_words(key, |words, routed| routed.take_schema(self.for_key(key, words)));
        });
        routed.schemas().iter().try_for_each(|rule| rule.check(payload, keys.first, exchange, vhost))
    }

    /// Messages that did not fit since the exchange was declared or the broker was started.
    pub fn refused(&self) -> u64 {
        self.rules.iter().map(|rule| rule.refused()).sum()
    }

    /// The schemas, in the order in which they were given.
    pub fn rules(&self) -> impl Iterator<Item = &SchemaRule> {
        self.rules.iter().map(|rule| &**rule)
    }
}

impl SchemaRule {
    /// The keys that it is for.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// What it is written in.
    pub fn kind(&self) -> SchemaKind {
        self.kind
    }

    /// Messages under its keys that did not fit it since the exchange was declared or the broker was started.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether a message fits.
    ///
    /// # Errors
    /// What its publisher is told, 406: which field does not fit.
    pub fn check(
        &self,
        payload: Payload<'_>,
        key: &str,
        exchange: &str,
        vhost: &VhostName,
    ) -> Result<(), Unfit> {
        let Payload { body, content_encoding } = payload;
        let misfit = match &self.schema {
            Err(fault) => Misfit {
                field: "body".to_owned(),
                expected: format!("what nothing is: the exchange's schema {fault}"),
                got: format!("{} bytes", body.len()),
                rule: String::new(),
            },
            Ok(_) if !PLAIN_ENCODINGS.iter().any(|plain| plain.eq_ignore_ascii_case(content_encoding)) => {
                Misfit {
                    field: "content_encoding".to_owned(),
                    expected: "none, or identity: a body under a schema is looked into as it is published"
                        .to_owned(),
                    got: ShownText(content_encoding).to_string(),
                    rule: String::new(),
                }
            }
            Ok(schema) => match schema.check(body) {
                Ok(()) => return Ok(()),
                Err(misfit) => misfit,
            },
        };
        let text = format!(
            "a message with routing key '{}' does not fit {self} on {}",
            ShownText(key),
            named(exchange, vhost)
        );
        let hint = match &*misfit.rule {
            "" => "'leveret explain --body FILE' tries a body without publishing it".to_owned(),
            rule => format!(
                "the schema says so at {rule}; 'leveret explain --body FILE' tries a body without publishing it"
            ),
        };
        let refusal = Refusal::new(ReplyCode::PreconditionFailed, text)
            .about(Entity::Exchange, exchange)
            .field(misfit.field, misfit.expected, misfit.got)
            .hint(hint);
        Err(Unfit { refusal, refused: Arc::clone(&self.refused) })
    }
}

impl fmt::Display for SchemaRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the schema for '{}' ({})", ShownText(&self.pattern), self.kind)
    }
}

impl Unfit {
    /// What its publisher is told.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// Counts the message as refused.
    pub fn count(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether two exchanges have the same schemas in the same order. Those that make no sense are the same as none but
/// themselves.
pub(super) fn same(one: &FieldTable, other: &FieldTable) -> bool {
    match (sources(one), sources(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The schemas of an exchange in a sentence about others.
pub(super) fn described(arguments: &FieldTable) -> String {
    match sources(arguments) {
        Ok(None) => "none".to_owned(),
        Ok(Some(sources)) => {
            let sources = sources.iter().map(|source| {
                let Source { pattern, kind, schema, .. } = source;
                format!("'{}' ({kind}, {} bytes)", ShownText(pattern), schema.len())
            });
            sources.collect::<Vec<_>>().join(", ")
        }
        Err(fault) => format!("what {}", fault.text),
    }
}

fn sources(arguments: &FieldTable) -> Result<Option<Vec<Source<'_>>>, ListFault> {
    let Some(value) = arguments.value(SCHEMAS) else { return Ok(None) };
    let FieldValue::List(values) = value else {
        let got = values::type_name(value).to_owned();
        return Err(ListFault::new("is one value", "a list of schemas, each a table", got));
    };
    if values.is_empty() || values.len() > SCHEMAS_MAX {
        let expected = format!("1 to {SCHEMAS_MAX} schemas");
        return Err(ListFault::new("is empty or too long", expected, values.len().to_string()));
    }
    values.iter().map(source).collect::<Result<_, _>>().map(Some)
}

fn source(value: &FieldValue) -> Result<Source<'_>, ListFault> {
    let FieldValue::Table(table) = value else {
        let got = values::type_name(value).to_owned();
        return Err(ListFault::new("has an entry that is no table", "a list of schemas, each a table", got));
    };
    let known = [schema_fields::PATTERN, schema_fields::KIND, schema_fields::SCHEMA, schema_fields::MESSAGE];
    if let Some((name, _)) = table.iter().find(|(name, _)| !known.contains(name)) {
        let text = format!("has an entry with the unknown field '{}'", ShownText(name));
        return Err(ListFault::new(text, known.join(", "), ShownText(name).to_string()));
    }
    let pattern = text(table, schema_fields::PATTERN)?;
    if pattern.len() > NAME_BYTES_MAX {
        let expected = format!("patterns of {NAME_BYTES_MAX} bytes at most");
        return Err(ListFault::new("has a pattern that is too long", expected, pattern.len().to_string()));
    }
    kind::check_key(pattern).map_err(|refusal| {
        let text = format!("has the pattern '{}' with too many '#'", ShownText(pattern));
        ListFault::new(text, refusal.expected, refusal.got)
    })?;
    let word = text(table, schema_fields::KIND)?;
    let Some(kind) = SchemaKind::parse(word) else {
        return Err(ListFault::new(
            "has a schema of unknown kind",
            "json or protobuf",
            ShownText(word).to_string(),
        ));
    };
    let schema = match table.value(schema_fields::SCHEMA) {
        Some(FieldValue::Text(text)) => text.as_bytes(),
        Some(FieldValue::Bytes(bytes)) => bytes,
        other => return Err(of_wrong_type(schema_fields::SCHEMA, "a text or bytes", other)),
    };
    let message = match (kind, table.value(schema_fields::MESSAGE)) {
        (SchemaKind::Json, None) => "",
        (SchemaKind::Json, Some(_)) => {
            let text = "names a message of a JSON Schema, which has none";
            return Err(ListFault::new(text, "absent", "present".to_owned()));
        }
        (SchemaKind::Protobuf, _) => text(table, schema_fields::MESSAGE)?,
    };
    Ok(Source { pattern, kind, schema, message })
}

fn text<'a>(table: &'a FieldTable, name: &str) -> Result<&'a str, ListFault> {
    match table.value(name) {
        Some(FieldValue::Text(text)) => Ok(text),
        other => Err(of_wrong_type(name, "a text", other)),
    }
}

fn of_wrong_type(name: &str, expected: &str, value: Option<&FieldValue>) -> ListFault {
    let got = value.map_or("none", values::type_name).to_owned();
    ListFault::new(format!("has an entry whose '{name}' is not {expected}"), expected, got)
}
