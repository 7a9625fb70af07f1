//! Patterns that names are held against: regular expressions of a bounded size.

use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// What a compiled pattern may take, in bytes: `\w{200}` is about as much.
const PROGRAM_BYTES_MAX: usize = 256 * 1024;

/// How deep groups may stand in groups.
const NESTING_MAX: u32 = 64;

/// A regular expression that is looked for anywhere in a name, as in RabbitMQ: `^` and `$` tie it to the ends. It has 1,024
/// bytes at most; the empty one matches nothing. Looking takes time proportional to the name: there are no back references and
/// no look-around.
#[derive(Clone)]
pub struct Pattern {
    source: Arc<str>,
    matcher: Matcher,
}

#[derive(Clone)]
enum Matcher {
    Everything,
    Nothing,
    Expression(Regex),
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternRefused {
    /// It has more than [`PATTERN_BYTES_MAX`].
    Length {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Compiled it would take too much memory.
    TooComplex,
    /// It is no regular expression that is known here; why, in the words of the parser.
    Syntax(String),
}

impl fmt::Display for PatternRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => {
                write!(f, "a pattern has {PATTERN_BYTES_MAX} bytes at most, this one has {bytes}")
            }
            Self::TooComplex => {
                write!(f, "the pattern is too complex: compiled it takes more than {PROGRAM_BYTES_MAX} bytes")
            }
            Self::Syntax(what) => write!(f, "the pattern is no regular expression: {what}"),
        }
    }
}

impl std::error::Error for PatternRefused {}

impl Pattern {
    /// Checks and compiles it.
    ///
    /// # Errors
    /// If it is too long, too complex or no regular expression.
    pub fn new(source: &str) -> Result<Self, PatternRefused> {
        if source.len() > PATTERN_BYTES_MAX {
            return Err(PatternRefused::Length { bytes: source.len() });
        }
        Self::compiled(source, source)
    }

    /// One that was written as `source`, and means `expression`.
    pub(super) fn compiled(source: &str, expression: &str) -> Result<Self, PatternRefused> {
        let matcher = match expression {
            ".*" => Matcher::Everything,
            "" => Matcher::Nothing,
            expression => Matcher::Expression(compile(expression)?),
        };
        Ok(Self { source: Arc::from(source), matcher })
    }

    /// The one that every name matches, `.*`.
    pub fn everything() -> Self {
        Self { source: Arc::from(".*"), matcher: Matcher::Everything }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it is found in a name.
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Nothing => false,
            Matcher::Expression(expression) => expression.is_match(name),
        }
    }

    /// Whether it is written so that every name matches.
    pub fn is_everything(&self) -> bool {
        matches!(self.matcher, Matcher::Everything)
    }
}

fn compile(expression: &str) -> Result<Regex, PatternRefused> {
    let compiled = RegexBuilder::new(expression)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(PROGRAM_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternRefused::TooComplex,
        // The parser shows the place in lines of its own; the last one says what is wrong.
        other => {
            let told = other.to_string();
            let last = told.lines().last().unwrap_or_default();
            PatternRefused::Syntax(last.strip_prefix("error: ").unwrap_or(last).to_owned())
        }
    })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", &*self.source)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_looked_for_anywhere_and_the_empty_one_is_nowhere() {
        let check = |pattern: &str, name: &str, matches: bool| {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), matches, "{pattern} {name}");
        };
        check(".*", "anything", true);
        check(".*", "", true);
        check("", "anything", false);
        check("", "", false);
        check("^$", "", true);
        check("^$", "a", false);
        check("shop", "the-shop-2", true);
        check("^shop", "the-shop-2", false);
        check("^shop-", "shop-2", true);
        check("^(orders|invoices)$", "invoices", true);
        check("^(orders|invoices)$", "invoices2", false);
        check(r"^\d+\.", "17.a", true);
        check("^ö$", "ö", true);
        check("a{2}", "baab", true);
    }

    #[test]
    fn what_is_no_pattern_is_refused_in_one_line() {
        let refused = |pattern: &str| Pattern::new(pattern).unwrap_err();
        assert_eq!(refused(&"a".repeat(1025)), PatternRefused::Length { bytes: 1025 });
        assert_eq!(refused(r"\w{1000}"), PatternRefused::TooComplex);
        for pattern in ["(", "a(?=b)", r"(a)\1", "[", "a{2,1}", &"(".repeat(500)] {
            match refused(pattern) {
                PatternRefused::Syntax(why) => {
                    assert!(!why.is_empty() && !why.contains('\n'), "{pattern}: {why}");
                }
                other => panic!("{pattern}: {other:?}"),
            }
        }
        let nested = format!("{}a{}", "(".repeat(65), ")".repeat(65));
        assert!(matches!(refused(&nested), PatternRefused::Syntax(_)));
    }

    #[test]
    fn patterns_are_what_they_are_written_as() {
        assert_eq!(Pattern::new(".*").unwrap(), Pattern::everything());
        assert_ne!(Pattern::new("^.*").unwrap(), Pattern::everything());
        assert!(!Pattern::new("^.*").unwrap().is_everything());
        assert_eq!(Pattern::new("^a").unwrap().to_string(), "^a");
    }
}
