//! Which routing keys may be published to an exchange, if it has a list of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{
    ALLOWED_KEYS, Entity, FieldTable, FieldValue, NAME_BYTES_MAX, Refusal, ReplyCode, VhostName, nearest,
};

use super::check::named;
use super::kind;
use super::trie::{KeyWords, PatternTrie};
use super::values::{self, ShownText};

/// Most patterns in a list: whoever is refused is told the nearest, and looking for it takes time for each of them.
const ALLOWED_PATTERNS_MAX: usize = 256;

/// Patterns that a refusal shows.
const SHOWN_PATTERNS_MAX: usize = 8;

/// The patterns of routing keys that an exchange takes, as in the bindings of a topic exchange, and how many messages
/// had another key.
#[derive(Debug)]
pub struct AllowedKeys {
    /// In order, each once.
    patterns: Vec<String>,
    trie: PatternTrie<()>,
    refused: AtomicU64,
}

/// A message that may not be published under its key.
#[derive(Debug)]
pub struct KeyNotAllowed {
    key: Box<str>,
    whose: KeyOf,
    refusal: Refusal,
    allowed: Arc<AllowedKeys>,
}

/// Where a key stands that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOf {
    Publication,
    /// It is a further one.
    Headers,
}

/// What is wrong with a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListFault {
    /// In words that follow "the list".
    pub(super) text: String,
    pub(super) expected: String,
    pub(super) got: String,
}

impl AllowedKeys {
    /// The list in an exchange's arguments; `None` if there is none, and every key may be published.
    pub(super) fn of(arguments: &FieldTable) -> Result<Option<Self>, ListFault> {
        let Some(value) = arguments.value(ALLOWED_KEYS) else { return Ok(None) };
        let FieldValue::List(values) = value else {
            let got = values::type_name(value).to_owned();
            return Err(ListFault::new("is one value", "a list of patterns, each a text", got));
        };
        if values.is_empty() {
            return Err(ListFault::new(
                "is empty, and would refuse every message",
                "one pattern at least",
                "none".to_owned(),
            ));
        }
        if values.len() > ALLOWED_PATTERNS_MAX {
            let expected = format!("{ALLOWED_PATTERNS_MAX} patterns at most");
            return Err(ListFault::new("is too long", expected, values.len().to_string()));
        }
        let mut patterns = values.iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
        patterns.sort_unstable();
        patterns.dedup();
        let mut trie = PatternTrie::default();
        patterns.iter().for_each(|pattern| trie.update(pattern, |value| *value = Some(())));
        Ok(Some(Self { patterns, trie, refused: AtomicU64::new(0) }))
    }

    /// Whether a key may be published; `words` are its words.
    pub(super) fn allows(&self, key: &str, words: &KeyWords) -> bool {
        let mut allowed = false;
        self.trie.for_each_match(key, words, |()| allowed = true);
        allowed
    }

    /// Messages refused for their keys since the exchange was declared or the broker was started.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What the publisher of a key that is not allowed is told.
    pub(super) fn refuse(
        self: &Arc<Self>,
        (whose, key): (KeyOf, &str),
        exchange: &str,
        vhost: &VhostName,
    ) -> KeyNotAllowed {
        let meant = self.meant(key);
        let shown = ShownText(key).to_string();
        let whence = match whose {
            KeyOf::Publication => "",
            KeyOf::Headers => " in the message's headers",
        };
        let text = format!("routing key '{shown}'{whence} is not allowed on {}", named(exchange, vhost));
        let refusal = Refusal::new(ReplyCode::PreconditionFailed, text)
            .about(Entity::Exchange, exchange)
            .field("routing_key", format!("a key that matches {self}"), shown);
        let refusal = match meant {
            Some(meant) => refusal.hint(meant.to_string()),
            None => {
                refusal.hint("publish under a key that the exchange takes, or declare it with another list")
            }
        };
        KeyNotAllowed { key: Box::from(key), whose, refusal, allowed: Arc::clone(self) }
    }

    /// Its patterns in a sentence about another list: those that only this one has come first.
    pub(super) fn beside(&self, other: &Self) -> String {
        let (common, own): (Vec<&str>, Vec<&str>) = self
            .patterns
            .iter()
            .map(String::as_str)
            .partition(|pattern| other.patterns.iter().any(|known| known == pattern));
        shown(own.into_iter().chain(common))
    }

    /// The allowed key that differs least from one that is not.
    fn meant(&self, key: &str) -> Option<Meant<'_>> {
        let candidates: Vec<(String, &str)> =
            self.patterns.iter().map(|pattern| (completed(pattern, key), &**pattern)).collect();
        let near = nearest(key, candidates.iter().map(|(candidate, _)| &**candidate))?;
        let (key, pattern) = candidates.iter().find(|(candidate, _)| candidate == near)?;
        Some(Meant { key: key.clone(), pattern })
    }
}

/// Two lists are equal if they let the same patterns through, in whatever order they were given.
impl PartialEq for AllowedKeys {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl fmt::Display for AllowedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.patterns.iter().map(String::as_str)))
    }
}

impl KeyNotAllowed {
    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is the key of the publication, so that all messages with it are refused; else it stands in the headers of one.
    pub fn is_of_publication(&self) -> bool {
        self.whose == KeyOf::Publication
    }

    /// What its publisher is told: 406, with the nearest key that is allowed.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// Counts messages that were refused with it.
    pub fn count(&self, messages: u32) {
        self.allowed.refused.fetch_add(messages.into(), Ordering::Relaxed);
    }
}

impl PartialEq for KeyNotAllowed {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.refusal) == (&other.key, &other.refusal)
    }
}

impl Eq for KeyNotAllowed {}

impl ListFault {
    pub(super) fn new(text: impl Into<String>, expected: impl Into<String>, got: String) -> Self {
        Self { text: text.into(), expected: expected.into(), got }
    }
}

/// A key that would have been allowed, and by which pattern.
struct Meant<'a> {
    key: String,
    pattern: &'a str,
}

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "did you mean '{}'", ShownText(&self.key))?;
        if self.key != self.pattern {
            write!(f, ", which '{}' allows", ShownText(self.pattern))?;
        }
        f.write_str("?")
    }
}

/// Patterns in a sentence, not more than people read.
fn shown<'a>(patterns: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = patterns.map(|pattern| format!("'{}'", ShownText(pattern))).collect();
    match quoted.split_at_checked(SHOWN_PATTERNS_MAX) {
        Some((first, more)) if !more.is_empty() => {
            format!("{} or one of {} more patterns", first.join(" or "), more.len())
        }
        _ => quoted.join(" or "),
    }
}

fn pattern(value: &FieldValue) -> Result<String, ListFault> {
    let FieldValue::Text(pattern) = value else {
        let got = values::type_name(value).to_owned();
        return Err(ListFault::new("has an entry that is no text", "a list of patterns, each a text", got));
    };
    if pattern.len() > NAME_BYTES_MAX {
        let expected = format!("patterns of {NAME_BYTES_MAX} bytes at most");
        return Err(ListFault::new("has a pattern that is too long", expected, pattern.len().to_string()));
    }
    match kind::check_key(pattern) {
        Ok(()) => Ok(pattern.clone()),
        Err(refusal) => {
            let text = format!("has the pattern '{}' with too many '#'", ShownText(pattern));
            Err(ListFault::new(text, refusal.expected, refusal.got))
        }
    }
}

/// A pattern whose wildcards stand for the words that a key has in their places. A `*` for which the key has no word
/// stays, and the first `#` stands for all that the pattern's other words leave.
fn completed(pattern: &str, key: &str) -> String {
    let words: Vec<&str> = key.split('.').filter(|_| !key.is_empty()).collect();
    let wanted: Vec<&str> = pattern.split('.').collect();
    let needed = wanted.iter().filter(|word| **word != "#").count();
    let mut spare = words.len().saturating_sub(needed);
    let mut at = 0;
    let mut out: Vec<&str> = Vec::new();
    for word in wanted {
        if word == "#" {
            out.extend(words.iter().skip(at).take(spare));
            at += std::mem::take(&mut spare);
            continue;
        }
        out.push(if word == "*" { words.get(at).copied().unwrap_or(word) } else { word });
        at += 1;
    }
    out.join(".")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> FieldTable {
        let patterns = patterns.iter().map(|pattern| FieldValue::from(*pattern)).collect();
        FieldTable::from([(ALLOWED_KEYS, FieldValue::List(patterns))])
    }

    fn allowed(patterns: &[&str]) -> Arc<AllowedKeys> {
        Arc::new(AllowedKeys::of(&list(patterns)).unwrap().unwrap())
    }

    #[track_caller]
    fn check_hint(patterns: &[&str], key: &str, hint: &str) {
        let refused =
            allowed(patterns).refuse((KeyOf::Publication, key), "events", &VhostName::new("/").unwrap());
        assert_eq!(refused.refusal().hint, hint, "{key}");
    }

    #[test]
    fn keys_are_allowed_as_a_topic_binding_matches_them() {
        let allowed = allowed(&["order.*", "chore.#", ""]);
        let allows = |key| {
            let mut words = KeyWords::default();
            words.cut(key);
            allowed.allows(key, &words)
        };
        for key in ["order.created", "order.", "chore", "chore.added", "chore.a.b", ""] {
            assert!(allows(key), "{key}");
        }
        for key in ["order", "order.a.b", "Order.created", "chores", "x"] {
            assert!(!allows(key), "{key}");
        }
    }

    #[test]
    fn a_refusal_tells_what_was_meant() {
        let patterns = ["order.*", "chore.#", "hub.log"];
        check_hint(&patterns, "ordr.created", "did you mean 'order.created', which 'order.*' allows?");
        check_hint(&patterns, "chroe.a.b", "did you mean 'chore.a.b', which 'chore.#' allows?");
        check_hint(&patterns, "Hub.Log", "did you mean 'hub.log'?");
        check_hint(&patterns, "order", "did you mean 'order.*'?");
        let nothing_near = "publish under a key that the exchange takes, or declare it with another list";
        check_hint(&patterns, "xylophone", nothing_near);
        check_hint(&patterns, "", nothing_near);
    }

    #[test]
    fn wildcards_stand_for_the_words_of_the_key() {
        for (pattern, key, expect) in [
            ("a.*", "x.y", "a.y"),
            ("a.*.c", "x", "a.*.c"),
            ("#", "", ""),
            ("#.z", "x.y", "x.z"),
            ("a.#.z", "b.c.d.y", "a.c.d.z"),
            ("#.m.#", "x.y", "x.m"),
            ("a.#", "", "a"),
        ] {
            assert_eq!(completed(pattern, key), expect, "{pattern} {key}");
        }
    }

    #[test]
    fn a_refusal_shows_some_of_many_patterns() {
        assert_eq!(allowed(&["b", "a", "b"]).to_string(), "'a' or 'b'");
        let many: Vec<String> = (10..30).map(|number| format!("k{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(allowed(&many).to_string().ends_with("'k17' or one of 12 more patterns"));
        let (less, all) = (allowed(&many[..19]), allowed(&many));
        assert!(all.beside(&less).starts_with("'k29' or 'k10'"), "what differs comes first");
        assert!(less.beside(&all).starts_with("'k10'"));
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        assert_eq!(AllowedKeys::of(&FieldTable::default()), Ok(None));
        let fault = |arguments: FieldTable| AllowedKeys::of(&arguments).unwrap_err().text;
        let of = |value| FieldTable::from([(ALLOWED_KEYS, value)]);
        assert_eq!(fault(of(FieldValue::from("order.*"))), "is one value");
        assert_eq!(fault(of(FieldValue::List(vec![FieldValue::Integer(5)]))), "has an entry that is no text");
        assert_eq!(fault(list(&[])), "is empty, and would refuse every message");
        assert_eq!(fault(list(&["a", "#.#.#"])), "has the pattern '#.#.#' with too many '#'");
        assert_eq!(fault(list(&[&"x".repeat(256)])), "has a pattern that is too long");
        assert_eq!(fault(list(&["a"; 257])), "is too long");
        assert!(AllowedKeys::of(&list(&["a"; 256])).is_ok());
        assert!(AllowedKeys::of(&list(&[&"x".repeat(255)])).is_ok());
    }
}
