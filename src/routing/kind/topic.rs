//! Topic exchanges: the binding key is a pattern of words.

use std::fmt;

use crate::model::{Entity, Refusal, ReplyCode};
use crate::routing::Routed;
use crate::routing::target::{Target, TargetSet};
use crate::routing::trie::PatternTrie;
use crate::routing::values::ShownText;

/// Most `#` in a binding key, as in RabbitMQ since 4.3.5.
const HASHES_MAX: usize = 2;

/// Targets by pattern.
#[derive(Debug, Clone, Default)]
pub(in crate::routing) struct Index(PatternTrie<TargetSet>);

impl Index {
    pub(super) fn insert(&mut self, pattern: &str, target: Target) {
        self.0.update(pattern, |targets| TargetSet::add(targets, target));
    }

    pub(super) fn remove(&mut self, pattern: &str, target: &Target) {
        self.0.update(pattern, |targets| TargetSet::remove(targets, target));
    }

    pub(super) fn route(&self, key: &str, out: &mut Routed) {
        out.with_words(key, |words, out| {
            self.0.for_each_match(key, words, |targets| targets.for_each(|target| out.take(target)));
        });
    }
}

/// Refuses a binding key with more than two `#`: 406.
pub(in crate::routing) fn check_key(pattern: &str) -> Result<(), Refusal> {
    let hashes = words(pattern).filter(|word| *word == "#").count();
    if hashes <= HASHES_MAX {
        return Ok(());
    }
    Err(Refusal::new(
        ReplyCode::PreconditionFailed,
        format!(
            "binding key '{pattern}' has {hashes} '#' words, a topic exchange takes {HASHES_MAX} at most"
        ),
    )
    .about(Entity::Binding, pattern)
    .field("routing_key", format!("{HASHES_MAX} '#' at most"), hashes.to_string())
    .hint("make several bindings, or match the words between by '*'"))
}

/// The words of a key or pattern: none in the empty one.
fn words(key: &str) -> impl DoubleEndedIterator<Item = &str> + Clone {
    key.split('.').filter(move |_| !key.is_empty())
}

/// What decided about a pattern and a key. Words are counted from 1.
#[derive(Debug)]
pub(in crate::routing) enum Verdict<'a> {
    Matched,
    /// The key has fewer words than the pattern needs.
    TooFew {
        words: usize,
        wanted: usize,
        more_allowed: bool,
    },
    /// The key goes on where the pattern has ended.
    TooMany {
        words: usize,
        wanted: usize,
    },
    /// Counted from the front, before any `#`.
    Word {
        number: usize,
        is: &'a str,
        wanted: &'a str,
    },
    /// Counted from the front, but matched from the end, behind the last `#`.
    WordBehindHash {
        number: usize,
        is: &'a str,
        wanted: &'a str,
    },
    /// Words between two `#` are nowhere in this part of the key.
    Nowhere {
        wanted: Vec<&'a str>,
        first: usize,
        last: usize,
    },
}

/// Whether a routing key matches a pattern, as in a binding of a topic exchange.
pub fn pattern_matches(pattern: &str, key: &str) -> bool {
    Verdict::new(pattern, key).matched()
}

impl<'a> Verdict<'a> {
    pub(super) fn new(pattern: &'a str, key: &'a str) -> Self {
        let wanted: Vec<&str> = words(pattern).collect();
        let is: Vec<&str> = words(key).collect();
        let parts: Vec<&[&str]> = wanted.split(|word| *word == "#").collect();
        let [first, between @ .., last] = &parts[..] else {
            return Self::without_hash(&wanted, &is);
        };
        let needed = wanted.iter().filter(|word| **word != "#").count();
        if let Some(number) = mismatch(first, &is) {
            return Self::Word { number: number + 1, is: is[number], wanted: first[number] };
        }
        if is.len() < needed {
            return Self::TooFew { words: is.len(), wanted: needed, more_allowed: true };
        }
        let tail = is.len() - last.len();
        if let Some(number) = mismatch(last, &is[tail..]) {
            return Self::WordBehindHash {
                number: tail + number + 1,
                is: is[tail + number],
                wanted: last[number],
            };
        }
        // Each part at the first place where it fits leaves the most room for those behind it.
        let mut from = first.len();
        for part in between {
            let fits =
                (from..=tail).find(|at| at + part.len() <= tail && mismatch(part, &is[*at..]).is_none());
            match fits {
                Some(at) => from = at + part.len(),
                None => return Self::Nowhere { wanted: part.to_vec(), first: from + 1, last: tail },
            }
        }
        Self::Matched
    }

    fn without_hash(wanted: &[&'a str], is: &[&'a str]) -> Self {
        if let Some(number) = mismatch(wanted, is) {
            return Self::Word { number: number + 1, is: is[number], wanted: wanted[number] };
        }
        let (words, wanted) = (is.len(), wanted.len());
        match words.cmp(&wanted) {
            std::cmp::Ordering::Less => Self::TooFew { words, wanted, more_allowed: false },
            std::cmp::Ordering::Equal => Self::Matched,
            std::cmp::Ordering::Greater => Self::TooMany { words, wanted },
        }
    }

    pub(super) fn matched(&self) -> bool {
        matches!(self, Self::Matched)
    }
}

/// The first word that both have and that does not fit.
fn mismatch(wanted: &[&str], is: &[&str]) -> Option<usize> {
    wanted.iter().zip(is).position(|(wanted, is)| *wanted != "*" && wanted != is)
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched => f.write_str("the routing key fits the pattern"),
            Self::TooFew { words, wanted, more_allowed } => {
                let least = if *more_allowed { "at least " } else { "" };
                write!(f, "the routing key has {}, the binding wants {least}{wanted}", Count(*words))
            }
            Self::TooMany { words, wanted } => {
                write!(f, "the routing key has {}, the binding wants {wanted}", Count(*words))
            }
            Self::Word { number, is, wanted } => {
                write!(f, "word {number} is `{}`, the binding wants `{}`", ShownText(is), ShownText(wanted))
            }
            Self::WordBehindHash { number, is, wanted } => write!(
                f,
                "word {number} is `{}`, the binding wants `{}` there, counted from the end",
                ShownText(is),
                ShownText(wanted)
            ),
            Self::Nowhere { wanted, first, last } => {
                let wanted = wanted.join(".");
                if first > last {
                    return write!(f, "no word is left where the binding wants `{}`", ShownText(&wanted));
                }
                write!(f, "`{}` is nowhere in words {first} to {last}", ShownText(&wanted))
            }
        }
    }
}

/// "1 word", "2 words".
struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "word" } else { "words" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;
    use crate::routing::ExchangeKind;
    use crate::routing::kind::testing::consider;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let consider = |key| consider(ExchangeKind::Topic, pattern, FieldTable::default(), key, None);
        for key in matching {
            let (matched, reason) = consider(key);
            assert!(matched, "`{pattern}` should match `{key}`, but {reason}");
        }
        for key in others {
            let (matched, _) = consider(key);
            assert!(!matched, "`{pattern}` should not match `{key}`");
        }
    }

    #[test]
    fn literal_words() {
        check("", &[""], &["a", ".", ".."]);
        check("a", &["a"], &["", "A", "aa", "a.", ".a", "a.a"]);
        check("a.b", &["a.b"], &["a", "b", "a.b.c", "a..b", "ab"]);
        check("ä.ö", &["ä.ö"], &["a.o"]);
    }

    #[test]
    fn dots_make_empty_words() {
        check(".", &["."], &["", "..", "a."]);
        check("a..b", &["a..b"], &["a.b", "a.x.b", "a...b"]);
        check(".a", &[".a"], &["a", "a."]);
        check("a.", &["a."], &["a", ".a", "a.."]);
        check("a.*.b", &["a..b", "a.x.b"], &["a.b"]);
    }

    #[test]
    fn a_star_is_exactly_one_word() {
        check("*", &["a", "*", "#", "a-b"], &["", "a.b", "."]);
        check("*.*", &["a.b", "."], &["a", "", ".."]);
        check("*.b", &["a.b", ".b"], &["b", "a.a.b", "a.c"]);
        check("a.*", &["a.b", "a."], &["a", "a.b.c"]);
    }

    #[test]
    fn a_hash_is_any_number_of_words() {
        check("#", &["", "a", ".", "a.b.c", "#"], &[]);
        check("a.#", &["a", "a.", "a.b", "a.b.c"], &["", "b", "b.a", "ab"]);
        check("#.a", &["a", ".a", "b.a", "a.b.a"], &["", "a.b", "ba"]);
        check("a.#.b", &["a.b", "a.x.b", "a.b.b", "a..b"], &["a", "b", "a.b.c", "ab"]);
        check("#.a.#", &["a", "a.b", "b.a", "b.a.c", "a.a"], &["", "b", "b.c"]);
    }

    #[test]
    fn stars_and_hashes_together() {
        check("*.#", &["a", "a.b", "."], &[""]);
        check("#.*", &["a", "a.b", "."], &[""]);
        check("#.*.#", &["a", "a.b", "a.b.c"], &[""]);
        check("#.#", &["", "a", "a.b"], &[]);
        check("*.#.*", &["a.b", "a.x.b", "."], &["", "a"]);
        check("a.*.#.b", &["a.x.b", "a.x.y.b", "a.b.b"], &["a.b", "a.x"]);
        check("#.a.*.#", &["a.x", "b.a.x", "a.a", "a.x.y"], &["a", "x.a"]);
        check("*.b.#.c.*", &["a.b.c.d", "a.b.x.c.d"], &["a.b.c", "b.c.d", "a.b.d.c"]);
    }

    #[test]
    fn wildcards_are_whole_words_only() {
        check("a*", &["a*"], &["a", "ab", "a.b"]);
        check("*a.b", &["*a.b"], &["xa.b", "a.b"]);
        check("a.b#", &["a.b#"], &["a.b", "a.bc", "a.b.c"]);
        check("##", &["##"], &["", "a", "a.b"]);
        check("**", &["**"], &["a", "a.b"]);
        check("#*", &["#*"], &["a"]);
    }

    #[test]
    fn wildcards_in_a_key_are_words_like_any() {
        check("a.b", &[], &["a.*", "a.#", "#", "*.*"]);
        check("a.*", &["a.*", "a.#"], &["*.a"]);
        check("a.#", &["a.*", "a.#.b"], &["#"]);
    }

    #[track_caller]
    fn reason(pattern: &str, key: &str, expected: &str) {
        let (_, reason) = consider(ExchangeKind::Topic, pattern, FieldTable::default(), key, None);
        assert_eq!(reason, expected);
    }

    #[test]
    fn the_reason_names_the_word_that_decides() {
        reason("orders.us", "orders.us", "the routing key fits the pattern");
        reason("orders.us", "orders.eu", "word 2 is `eu`, the binding wants `us`");
        reason("orders.us.#", "orders.eu.7", "word 2 is `eu`, the binding wants `us`");
        reason("orders.*.paid", "orders.eu.open", "word 3 is `open`, the binding wants `paid`");
        reason("a.b", "a", "the routing key has 1 word, the binding wants 2");
        reason("a", "", "the routing key has 0 words, the binding wants 1");
        reason("", "a", "the routing key has 1 word, the binding wants 0");
        reason("*", "a.b", "the routing key has 2 words, the binding wants 1");
        reason("a.*.#", "a", "the routing key has 1 word, the binding wants at least 2");
        reason(
            "#.paid",
            "a.b.open",
            "word 3 is `open`, the binding wants `paid` there, counted from the end",
        );
        reason("a.#.x.#.b", "a.p.q.b", "`x` is nowhere in words 2 to 3");
        reason("#.x.y.#", "x.b.y", "`x.y` is nowhere in words 1 to 3");
    }

    #[test]
    fn two_hashes_are_the_most() {
        for pattern in ["", "#", "#.#", "a.#.b.#", "#.a#.##.#", "*.*.*.*"] {
            assert_eq!(check_key(pattern), Ok(()), "{pattern}");
        }
        for (pattern, hashes) in [("#.#.#", 3), ("#.a.#.b.#", 3), ("a.#.#.#.#", 4)] {
            let refusal = check_key(pattern).expect_err(pattern);
            assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
            assert_eq!((&*refusal.field, &*refusal.got), ("routing_key", &*hashes.to_string()));
        }
    }
}
